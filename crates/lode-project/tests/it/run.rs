//! Runs: what is written, in which order, and how it ends.

use lode_jobs::NodeStatus;
use lode_project::{Command, Selection};

use crate::support::{Bench, assert_status, outcome, statuses};

const SOURCES: &str = "sources: [{name: bronze, tables: [{name: orders}]}]\n";

#[tokio::test]
async fn a_build_goes_in_graph_order_and_tells_it() {
    let bench = Bench::new(&[
        ("models/s.yml", SOURCES),
        (
            "models/b.sql",
            "{{ config(materialized='table') }} select * from {{ ref('a') }} join {{ ref('codes') }} using (id)",
        ),
        ("models/a.sql", "select * from {{ source('bronze', 'orders') }}"),
        ("seeds/codes.csv", "id,name\n1,x\n"),
    ]);
    let results = bench.run(Command::Build, &[]).await;
    assert_eq!(results.exit_code(), 0, "{:?}", statuses(&results));
    let writes = bench.take_writes();
    assert_eq!(writes[2], "write public.b replace");
    assert!(
        writes.contains(&"view public.a".to_owned()) && writes.contains(&"seed public.codes".to_owned()),
        "{writes:?}"
    );
    let sql = bench.warehouse.sql.lock()["public.b"].clone();
    assert_eq!(sql.trim(), "select * from \"public\".\"a\" join \"public\".\"codes\" using (id)");
    let heard = bench.heard.0.lock().clone();
    assert_eq!(heard[0], "build of 3");
    assert!(heard.contains(&"3 of 3 START sql table model public.b".to_owned()), "{heard:?}");
    assert!(heard.contains(&"3 of 3 success sql table model public.b".to_owned()), "{heard:?}");
    assert_eq!(heard.last().unwrap(), "pass 3 error 0 skip 0");
    let runs = bench.notes.runs.lock();
    assert_eq!((runs[0].status.as_str(), runs[1].status.as_str()), ("running", "success"));
    assert_eq!(outcome(&results, "b").message, "SELECT 3");
    assert_eq!(outcome(&results, "b").rows, Some(3));
}

#[tokio::test]
async fn a_failed_test_skips_what_hangs_below_its_model() {
    let schema = "models:\n  - name: a\n    columns: [{name: id, data_tests: [unique, not_null]}]\n";
    let bench = Bench::new(&[
        ("models/s.yml", schema),
        ("models/a.sql", "{{ config(materialized='table') }} select 1 as id"),
        ("models/b.sql", "select * from {{ ref('a') }}"),
        ("models/c.sql", "select * from {{ ref('b') }}"),
        ("models/other.sql", "select 1"),
    ]);
    bench.warehouse.failures.lock().push(("n_records".into(), 1));
    let results = bench.run(Command::Build, &[]).await;
    assert_eq!(results.exit_code(), 1);
    assert_status(&results, "unique_a_id", NodeStatus::Fail);
    assert_eq!(outcome(&results, "unique_a_id").message, "Got 1 result, configured to fail if != 0");
    assert_eq!(outcome(&results, "unique_a_id").failures, Some(1));
    assert_status(&results, "not_null_a_id", NodeStatus::Pass);
    assert_status(&results, "b", NodeStatus::Skipped);
    assert_status(&results, "c", NodeStatus::Skipped);
    assert_status(&results, "other", NodeStatus::Success);
    assert_eq!((results.totals.pass, results.totals.error, results.totals.skip), (3, 1, 2));
}

#[tokio::test]
async fn a_warning_skips_nothing_and_counts_only_when_asked() {
    let bench = Bench::new(&[
        ("models/a.sql", "{{ config(materialized='table') }} select 1 as id"),
        ("models/b.sql", "select * from {{ ref('a') }}"),
        ("tests/t.sql", "{{ config(severity='warn') }} select 'bad' from {{ ref('a') }}"),
        ("tests/u.sql", "{{ config(error_if='> 10', warn_if='> 10') }} select 'bad' from {{ ref('a') }}"),
    ]);
    bench.warehouse.failures.lock().push(("'bad'".into(), 3));
    let mut results = bench.run(Command::Build, &[]).await;
    assert_status(&results, "t", NodeStatus::Warn);
    assert_eq!(outcome(&results, "t").message, "Got 3 results, configured to warn if != 0");
    assert_status(&results, "u", NodeStatus::Pass);
    assert_status(&results, "b", NodeStatus::Success);
    assert_eq!(results.exit_code(), 0);
    let strict = lode_project::RunOptions { warn_error: true, ..bench.options.clone() };
    let (project, runner) = bench.runner();
    let plan = project.plan(Command::Test, &Selection::default()).unwrap();
    results = runner.run(&plan, Command::Test, &strict).await.unwrap();
    assert_eq!(results.exit_code(), 1);
}

#[tokio::test]
async fn a_failed_model_skips_its_tests() {
    let bench = Bench::new(&[
        ("models/s.yml", "models: [{name: a, columns: [{name: id, data_tests: [unique]}]}]"),
        ("models/a.sql", "select no_such_column"),
    ]);
    let results = bench.run(Command::Build, &[]).await;
    assert_eq!(statuses(&results), ["a error", "unique_a_id skipped"]);
    assert_eq!(outcome(&results, "unique_a_id").message, "model.shop.a did not succeed");
}

#[tokio::test]
async fn an_incremental_model_is_made_whole_first_then_merged() {
    let model =
        "{{ config(materialized='incremental', unique_key=['id', 'day'], on_schema_change='append_new_columns') }}
select * from {{ source('bronze', 'orders') }}
{% if is_incremental() %}where ts > (select max(ts) from {{ this }}){% endif %}";
    let mut bench = Bench::new(&[("models/s.yml", SOURCES), ("models/m.sql", model)]);
    bench.run(Command::Run, &[]).await;
    assert_eq!(bench.take_writes(), ["write public.m replace"]);
    assert!(!bench.warehouse.sql.lock()["public.m"].contains("max(ts)"));
    let results = bench.run(Command::Run, &[]).await;
    assert_eq!(outcome(&results, "m").message, "MERGE 3");
    assert_eq!(bench.take_writes(), ["write public.m delete+insert id,day"]);
    assert!(bench.warehouse.sql.lock()["public.m"].contains("select max(ts) from \"public\".\"m\""));
    assert_eq!(bench.warehouse.specs.lock()[1].on_schema_change, "append_new_columns");
    bench.overrides.full_refresh = true;
    bench.run(Command::Run, &[]).await;
    assert_eq!(bench.take_writes(), ["write public.m replace"]);
}

#[tokio::test]
async fn a_key_keeps_all_new_rows_unless_the_strategy_is_merge() {
    for (strategy, wanted) in [
        ("", "delete+insert"),
        (", incremental_strategy='default'", "delete+insert"),
        (", incremental_strategy='delete+insert'", "delete+insert"),
        (", incremental_strategy='merge'", "merge"),
    ] {
        let model = format!("{{{{ config(materialized='incremental', unique_key='id'{strategy}) }}}} select random()");
        let bench = Bench::new(&[("models/m.sql", &model)]);
        bench.run(Command::Run, &[]).await;
        bench.take_writes();
        bench.run(Command::Run, &[]).await;
        assert_eq!(bench.take_writes(), [format!("write public.m {wanted} id")], "{strategy}");
    }
}

#[tokio::test]
async fn append_and_insert_overwrite() {
    let bench = Bench::new(&[
        ("models/a.sql", "{{ config(materialized='incremental') }} select 1"),
        (
            "models/p.sql",
            "{{ config(materialized='incremental', incremental_strategy='insert_overwrite', partition_by='day') }} select 1",
        ),
    ]);
    bench.run(Command::Run, &[]).await;
    bench.take_writes();
    bench.run(Command::Run, &["a"]).await;
    assert_eq!(bench.take_writes(), ["write public.a append"]);
    put_new_sql(&bench);
    bench.run(Command::Run, &["p"]).await;
    assert_eq!(bench.take_writes(), ["write public.p partitions day"]);
}

fn put_new_sql(bench: &Bench) {
    crate::support::put(
        bench.dir.path(),
        "models/p.sql",
        "{{ config(materialized='incremental', incremental_strategy='insert_overwrite', partition_by='day') }} select 2",
    );
}

#[tokio::test]
async fn ephemeral_models_become_ctes() {
    let bench = Bench::new(&[
        ("models/s.yml", SOURCES),
        ("models/e1.sql", "{{ config(materialized='ephemeral') }}select * from {{ source('bronze', 'orders') }}"),
        ("models/e2.sql", "{{ config(materialized='ephemeral') }}select * from {{ ref('e1') }}"),
        ("models/m.sql", "with x as (select 1)\nselect * from {{ ref('e2') }}, x"),
        ("models/n.sql", "select * from {{ ref('m') }}"),
    ]);
    let results = bench.run(Command::Run, &[]).await;
    assert_eq!(statuses(&results), ["m success", "n success"]);
    let sql = bench.warehouse.sql.lock()["public.m"].clone();
    assert_eq!(
        sql,
        "with __dbt__cte__e1 as (\nselect * from \"bronze\".\"orders\"\n),\n__dbt__cte__e2 as (\nselect * from __dbt__cte__e1\n),\n x as (select 1)\nselect * from __dbt__cte__e2, x"
    );
}

#[tokio::test]
async fn expectations_reach_the_write() {
    let schema = "models:\n  - name: a\n    config:\n      materialized: table\n      meta: {lode: {expectations: [{name: pos, expect: x > 0, on_violation: drop}]}}\n";
    let bench = Bench::new(&[("models/s.yml", schema), ("models/a.sql", "select 1 as x")]);
    bench.run(Command::Run, &[]).await;
    let specs = bench.warehouse.specs.lock();
    assert_eq!(specs[0].expectations[0].name, "pos");
    assert_eq!(specs[0].expectations[0].on_violation, lode_core::OnViolation::Drop);
    assert_eq!(specs[0].properties, [("lode.model".to_owned(), "model.shop.a".to_owned())]);
}

#[tokio::test]
async fn a_tests_where_goes_around_its_model() {
    let schema = "models:\n  - name: a\n    columns:\n      - name: id\n        data_tests: [{not_null: {config: {where: \"id > 0\"}}}]\n";
    let bench = Bench::new(&[("models/s.yml", schema), ("models/a.sql", "select 1 as id")]);
    let results = bench.run(Command::Compile, &["test_type:generic"]).await;
    let sql = results.nodes[0].compiled.clone().unwrap();
    let flat = sql.split_whitespace().collect::<Vec<_>>().join(" ");
    assert_eq!(flat, "select id from (select * from \"public\".\"a\" where id > 0) dbt_subquery where id is null");
}

#[tokio::test]
async fn hooks_are_refused_rather_than_left_out() {
    let bench = Bench::new(&[("models/a.sql", "{{ config(post_hook='grant all') }} select 1")]);
    let results = bench.run(Command::Run, &[]).await;
    assert_status(&results, "a", NodeStatus::Error);
    assert!(outcome(&results, "a").message.contains("post_hook"));
}

#[tokio::test]
async fn artifacts_are_written_and_nothing_selected_is_no_failure() {
    let bench = Bench::new(&[("models/x/a.sql", "select 1 as id")]);
    bench.run(Command::Run, &[]).await;
    let target = bench.dir.path().join("target");
    assert_eq!(std::fs::read_to_string(target.join("compiled/shop/models/x/a.sql")).unwrap(), "select 1 as id");
    let results: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(target.join("run_results.json")).unwrap()).unwrap();
    assert_eq!(results["metadata"]["dbt_schema_version"], "https://schemas.getdbt.com/dbt/run-results/v6.json");
    assert_eq!(results["results"][0]["status"], "success");
    assert_eq!(results["results"][0]["unique_id"], "model.shop.a");
    let none = bench.run(Command::Run, &["nothing_here"]).await;
    assert_eq!((none.exit_code(), none.nodes.len()), (0, 0));
}

#[tokio::test]
async fn fail_fast_and_stop_skip_the_rest() {
    let mut bench = Bench::new(&[("models/a.sql", "select no_such_column"), ("models/b.sql", "select 1")]);
    bench.options.fail_fast = true;
    let results = bench.run(Command::Run, &[]).await;
    assert_eq!(statuses(&results), ["a error", "b skipped"]);
    bench.options.stop.cancel();
    let results = bench.run(Command::Run, &[]).await;
    assert_eq!(results.exit_code(), 130);
    assert_eq!(bench.take_writes(), Vec::<String>::new());
}

#[tokio::test]
async fn show_limits_and_writes_nothing() {
    use futures::TryStreamExt;
    let bench = Bench::new(&[("models/a.sql", "select 1 as id;\n")]);
    let (project, runner) = bench.runner();
    let plan = project.plan(Command::Show, &Selection { select: vec!["a".into()], ..Selection::default() }).unwrap();
    let shown = runner.show(&plan, None, Some(5)).await.unwrap();
    assert_eq!(shown.sql, "select 1 as id;");
    assert_eq!(shown.rows.try_collect::<Vec<_>>().await.unwrap().len(), 1);
    let inline = runner.show(&plan, Some("select {{ 1 + 1 }}"), None).await.unwrap();
    assert_eq!(inline.sql, "select 2");
    assert!(bench.take_writes().is_empty());
}
