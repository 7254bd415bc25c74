//! Expectations of an ingest: rows that break them go to the quarantine with their bytes.

use crate::world::{World, dies_at, land, orders};

fn with(rule: &str, action: &str) -> String {
    let columns = "    columns: {id: bigint, amount: bigint}\n";
    orders(&format!(
        "{columns}    contract:\n      expectations:\n        - {{name: big, expect: {rule}, on_violation: {action}}}\n"
    ))
}

#[tokio::test]
async fn rows_that_break_an_expectation_are_quarantined_with_their_bytes() {
    let world = World::new(with("amount > 5", "quarantine"));
    world.put("a.csv", "id,amount\n1,10\n2,3\n3,\nx,9\n");
    let report = world.land().await;
    assert_eq!((report.rows_in, report.rows_landed, report.rows_quarantined), (4, 2, 2));
    assert_eq!((report.rules[0].rule.as_str(), report.rules[0].violations), ("big", 1));
    assert_eq!(
        world.rows("bronze.orders__quarantine", &["_rule", "_name", "_file", "_line", "_offset", "_raw"]).await,
        ["contract|id|a.csv|5|22|x,9", "expectation|big|a.csv|3|15|2,3"]
    );
    world.check_sums().await;
}

#[tokio::test]
async fn warn_lands_drop_leaves_out_and_fail_refuses_the_file() {
    for (action, landed, dropped, problems) in [("warn", 2, 0, 0), ("drop", 1, 1, 0), ("fail", 0, 0, 1)] {
        let world = World::new(with("amount > 5", action));
        world.put("a.csv", "id,amount\n1,10\n2,3\n");
        let report = world.land().await;
        assert_eq!(
            (report.rows_landed, report.rows_dropped, report.problems.len()),
            (landed, dropped, problems),
            "{action}"
        );
        let warned: Vec<_> = report.warned().map(|rule| (rule.rule.as_str(), rule.violations)).collect();
        assert_eq!(warned, if action == "warn" { vec![("big", 1)] } else { Vec::new() });
        if problems > 0 {
            assert!(report.problems[0].render().contains("1 row breaks the expectation \"big\""));
        } else {
            world.check_sums().await;
        }
    }
}

#[tokio::test]
async fn a_contract_that_changed_after_the_seal_changes_nothing_of_the_epoch() {
    for arrow in ["epoch.seal.after", "epoch.apply.before", "epoch.apply.after", "epoch.publish.before"] {
        let world = World::new(with("amount > 5", "quarantine"));
        world.put("a.csv", "id,amount\n1,10\n2,3\n");
        let context = world.open().await;
        dies_at(&context, arrow, 1);
        land(&context).await.unwrap_err();
        drop(context);
        let stricter = World { yaml: with("amount > 100", "quarantine"), ..world };
        let report = stricter.land().await;
        assert_eq!(report.files_landed, 0, "{arrow}");
        assert_eq!(stricter.rows("bronze.orders", &["id"]).await, ["1"], "{arrow}");
        assert_eq!(stricter.rows("bronze.orders__quarantine", &["_raw"]).await, ["2,3"], "{arrow}");
        stricter.check_sums().await;
    }
}

#[tokio::test]
async fn an_expectation_over_an_unknown_column_names_its_ingest() {
    let world = World::new(with("amuont > 5", "quarantine"));
    world.put("a.csv", "id,amount\n1,10\n");
    let problem = land(&world.open().await).await.unwrap_err();
    assert_eq!(problem.what(), "the contract of ingest \"orders\" cannot be used");
}
