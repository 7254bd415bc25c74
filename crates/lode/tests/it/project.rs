//! From files to a gold row, and what is told about it.

use super::support::Folder;

#[test]
fn the_template_gives_a_gold_row() {
    let folder = Folder::template();
    folder.lode(&["ingest"]).done();
    folder.lode(&["build"]).done();
    let rows = folder.lode(&["sql", "-c", "select * from gold.revenue_by_day order by day", "--format", "csv"]).done();
    insta::assert_snapshot!(rows, @r"
    day,orders,revenue
    2026-01-05,2,24.90
    2026-01-06,2,55.25
    ");
}

#[test]
fn the_status_accounts_for_every_row() {
    let folder = Folder::template();
    folder.lode(&["ingest"]).done();
    let status: serde_json::Value = serde_json::from_str(&folder.lode(&["status", "--format", "json"]).done()).unwrap();
    let source = &status["sources"][0];
    assert_eq!(
        (&source["rows_in"], &source["rows_landed"], &source["rows_quarantined"]),
        (&5.into(), &4.into(), &1.into())
    );
    assert_eq!(source["is_whole"], true);
    let text = folder.lode(&["status"]).done();
    assert!(text.contains("orders │ bronze.orders"), "{text}");
    assert!(text.contains('✓'), "{text}");
    folder.lode(&["doctor"]).done();
}

#[test]
fn the_quarantine_shows_the_record_as_received() {
    let folder = Folder::template();
    folder.lode(&["ingest"]).done();
    let list = folder.lode(&["quarantine", "list", "--format", "csv"]).done();
    assert!(list.contains("bronze.orders,expectation,amount_is_positive"), "{list}");
    let rows = folder.lode(&["quarantine", "show", "bronze.orders", "--format", "json"]).done();
    let rows: serde_json::Value = serde_json::from_str(&rows).unwrap();
    assert_eq!(rows[0]["_raw"], "3,Linus,2026-01-05T17:05:00Z,-3.00");
    assert_eq!(rows[0]["_line"], 4);
}

#[test]
fn progress_in_a_pipe_is_plain_lines() {
    let folder = Folder::template();
    folder.lode(&["ingest"]).done();
    let ended = folder.lode(&["build"]);
    assert!(ended.err.contains("1 of 3 START sql table model gold.revenue_by_day ."), "{}", ended.err);
    assert!(ended.err.contains("Done. PASS=3 WARN=0 ERROR=0 SKIP=0 NO-OP=0 TOTAL=3"), "{}", ended.err);
    assert!(!ended.err.contains('\x1b'), "{}", ended.err);
    assert_eq!(ended.out, "");
}

#[test]
fn a_torture_in_short_form_finds_everything_whole() {
    let folder = Folder::empty();
    let ended = folder.lode(&["prove", "torture", "--short", "--rounds", "1", "--seed", "5", "--time", "10s"]);
    assert!(ended.out.contains("clean run is whole"), "{}{}", ended.out, ended.err);
    assert!(ended.out.contains("whole after"), "{}{}", ended.out, ended.err);
    assert_eq!(ended.code, Some(0));
}

#[test]
fn a_file_that_cannot_be_read_fails_the_landing_and_no_other_file() {
    let folder = Folder::template();
    folder.write("landing/orders/cut.csv", [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 1, 2, 3]);
    let ended = folder.lode(&["ingest"]);
    assert_eq!(ended.code, Some(1), "{}{}", ended.out, ended.err);
    assert!(ended.err.contains("cut.csv") && ended.err.contains("fix:"), "{}", ended.err);
    let rows = folder.lode(&["sql", "-c", "select count(*) as n from bronze.orders", "--format", "csv"]).done();
    assert_eq!(rows, "n\n4\n");
    // Known by now: no failure, but not hidden either.
    let ended = folder.lode(&["ingest"]);
    assert_eq!(ended.code, Some(0), "{}{}", ended.out, ended.err);
    let told = "orders: 1 file passed over (unreadable; land again with --retry-poison)";
    assert!(ended.err.contains(told) && !ended.err.contains("REUSED"), "{}", ended.err);
}

#[test]
fn rows_that_land_with_a_warning_are_told() {
    let folder = Folder::template();
    let config = std::fs::read_to_string(folder.path().join("lode.yml")).unwrap();
    folder.write("lode.yml", config.replace("on_violation: quarantine", "on_violation: warn"));
    let ended = folder.lode(&["ingest"]);
    assert_eq!(ended.code, Some(0), "{}{}", ended.out, ended.err);
    assert!(ended.err.contains("orders: 1 row warned: amount_is_positive"), "{}", ended.err);
    assert!(ended.err.contains("PASS=0 WARN=1 ERROR=0"), "{}", ended.err);
}

#[test]
fn a_lost_metadata_db_comes_back_from_the_lake() {
    let folder = Folder::template();
    folder.lode(&["ingest"]).done();
    folder.lode(&["build"]).done();
    for name in ["meta.db", "meta.db-wal", "meta.db-shm"] {
        let _ = std::fs::remove_file(folder.path().join(".lode").join(name));
    }
    folder.lode(&["doctor", "--rebuild"]).done();
    folder.lode(&["status"]).done();
    let rows =
        folder.lode(&["sql", "-c", "select sum(orders) as n from gold.revenue_by_day", "--format", "csv"]).done();
    assert_eq!(rows, "n\n4\n");
    // Nothing lands twice.
    folder.lode(&["ingest"]).done();
    let rows = folder.lode(&["sql", "-c", "select count(*) as n from bronze.orders", "--format", "csv"]).done();
    assert_eq!(rows, "n\n4\n");
}

#[test]
fn lode_up_lands_a_file_that_arrives() {
    let folder = Folder::template();
    let mut up = folder.up();
    let count = || folder.lode(&["sql", "-q", "-c", "select count(*) as n from bronze.orders", "--format", "csv"]).out;
    super::support::wait_until(|| count() == "n\n4\n", || format!("{}{}", count(), up.log()));
    folder.write("landing/orders/more.csv", "order_id,customer,ordered_at,amount\n6,Ada,2026-01-07T08:00:00Z,1.00\n");
    super::support::wait_until(|| count() == "n\n5\n", || format!("{}{}", count(), up.log()));
    folder.lode(&["build"]).done();
    assert_eq!(up.stop("INT"), Some(0), "{}", up.log());
}

#[test]
fn replayed_rows_are_in_the_table_once() {
    let folder = Folder::template();
    folder.lode(&["ingest"]).done();
    let config = std::fs::read_to_string(folder.path().join("lode.yml")).unwrap();
    folder.write("lode.yml", config.replace("amount > 0", "amount > -100"));
    for _ in 0..2 {
        folder.lode(&["quarantine", "replay", "bronze.orders"]).done();
        let rows = folder.lode(&["sql", "-c", "select count(*) as n from bronze.orders", "--format", "csv"]).done();
        assert_eq!(rows, "n\n5\n");
        folder.lode(&["status"]).done();
    }
    assert_eq!(folder.lode(&["quarantine", "list"]).done(), "no row is in quarantine\n");
}

/// A model with rules and tests, some of which fail.
fn checked(rules: &str, tests: &str) -> Folder {
    let schema = format!(
        "models:\n  - name: m\n    expectations: [{rules}]\n    columns:\n      - name: id\n        data_tests: [{tests}]\n"
    );
    Folder::with(&[
        ("dbt_project.yml", "name: p\n"),
        ("models/s.yml", &schema),
        (
            "models/m.sql",
            "{{ config(materialized='table') }} select v % 3 as id, v as n from generate_series(1, 6) as s(v)",
        ),
        ("tests/none_is_five.sql", "select n, 'x' as why from {{ ref('m') }} where n = 5"),
    ])
}

#[test]
fn a_failed_test_shows_its_place_and_rows_and_the_query_of_them() {
    let ended = checked("", "unique, {accepted_values: {values: [0, 1], config: {severity: warn}}}").lode(&["build"]);
    assert_eq!(ended.code, Some(1), "{}{}", ended.out, ended.err);
    for part in [
        "error: test unique_m_id: Got 3 results, configured to fail if != 0: such as (unique_field = ",
        "n_records = 2)",
        "  where: models/s.yml:6:22",
        "target/compiled/p/models/s.yml/unique_m_id.sql` is the query of these rows",
        "error: test none_is_five: Got 1 result, configured to fail if != 0: such as (n = 5, why = x)",
        "  where: tests/none_is_five.sql\n",
        "warning: test accepted_values_m_id__0__1: Got 1 result, configured to warn if != 0",
        "PASS=1 WARN=1 ERROR=2",
    ] {
        assert!(ended.err.contains(part), "no {part:?} in\n{}", ended.err);
    }
}

#[test]
fn mistakes_in_tests_and_rules_name_the_lines_of_their_author() {
    let folder = checked("", "{not_null: {config: {where: 'nope > 1'}}}");
    let ended = folder.lode(&["build", "--select", "m"]);
    let wanted = "error: column \"nope\" does not exist\n  where: models/s.yml:6:22\n";
    assert!(ended.err.contains(wanted) && !ended.err.contains("test_not_null("), "{}", ended.err);
    folder.write("tests/none_is_five.sql", "{{ config(error_if='> banana') }} select 1 from {{ ref('m') }}");
    let ended = folder.lode(&["test", "--select", "none_is_five"]);
    assert!(ended.err.contains("`fail_calc`, `warn_if` or `error_if` cannot be computed"), "{}", ended.err);
    for (rules, wanted) in [
        ("{name: r, expect: nope > 0}", "  where: models/s.yml:3:20\n"),
        ("{name: r, expect: n < 6, on_violation: fail}", "  where: models/s.yml:3:20\n"),
        ("{name: r, expect: n > 0}, {name: r, expect: n > 1}", "two of them are named \"r\""),
    ] {
        let ended = checked(rules, "").lode(&["build"]);
        assert_ne!(ended.code, Some(0));
        assert!(ended.err.contains(wanted), "{rules}: {}", ended.err);
    }
}

#[test]
fn what_was_warned_of_is_told_again_when_nothing_changed() {
    let folder = checked("{name: small, expect: n < 6, on_violation: warn}", "");
    for word in ["WARN 6 rows, 1 row warned: small", "WARN 1 row warned: small in"] {
        let ended = folder.lode(&["run", "--select", "m"]);
        assert_eq!(ended.code, Some(0), "{}{}", ended.out, ended.err);
        assert!(ended.err.contains(word) && ended.err.contains("PASS=0 WARN=1"), "no {word:?} in\n{}", ended.err);
        assert!(ended.err.contains("1 row warned: small\n  where: models/m.sql"), "{}", ended.err);
    }
}
