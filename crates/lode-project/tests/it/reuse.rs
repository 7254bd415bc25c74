//! What is unchanged is left alone; what changed, or may have, is made again.

use lode_project::Command;

use crate::support::{Bench, outcome, put};

const SOURCES: &str = "sources: [{name: bronze, tables: [{name: orders}]}]\n";
const TABLE: &str = "{{ config(materialized='table') }} select * from {{ source('bronze', 'orders') }}";

async fn second_run(files: &[(&str, &str)], between: impl FnOnce(&Bench)) -> (Vec<String>, String) {
    let bench = Bench::new(files);
    bench.run(Command::Build, &[]).await;
    bench.take_writes();
    between(&bench);
    let results = bench.run(Command::Build, &[]).await;
    assert_eq!(results.exit_code(), 0);
    let message = results.nodes[0].outcome.message.clone();
    (bench.take_writes(), message)
}

#[tokio::test]
async fn an_unchanged_node_is_reused() {
    let (writes, message) = second_run(&[("models/s.yml", SOURCES), ("models/m.sql", TABLE)], |_| {}).await;
    assert_eq!((writes, message.as_str()), (vec![], "REUSED"));
    let (writes, _) = second_run(&[("models/v.sql", "select 1"), ("seeds/s.csv", "a\n1\n")], |_| {}).await;
    assert_eq!(writes, Vec::<String>::new());
}

#[tokio::test]
async fn a_new_input_snapshot_builds_again() {
    let files = [("models/s.yml", SOURCES), ("models/m.sql", TABLE)];
    let (writes, _) = second_run(&files, |bench| {
        bench.warehouse.touch("bronze.orders");
    })
    .await;
    assert_eq!(writes, ["write public.m replace"]);
}

#[tokio::test]
async fn a_table_that_someone_else_wrote_is_built_again() {
    let files = [("models/s.yml", SOURCES), ("models/m.sql", TABLE)];
    let (writes, _) = second_run(&files, |bench| {
        bench.warehouse.touch("public.m");
    })
    .await;
    assert_eq!(writes, ["write public.m replace"]);
    let (writes, _) = second_run(&files, |bench| {
        bench.warehouse.relations.lock().remove("public.m");
    })
    .await;
    assert_eq!(writes, ["write public.m replace"]);
}

#[tokio::test]
async fn a_table_that_was_dropped_and_made_again_is_another_table() {
    let files = [("models/s.yml", SOURCES), ("models/m.sql", TABLE)];
    for name in ["bronze.orders", "public.m"] {
        let (writes, _) = second_run(&files, |bench| bench.warehouse.make_again(name)).await;
        assert_eq!(writes, ["write public.m replace"], "{name}");
    }
}

#[tokio::test]
async fn a_view_that_became_a_table_elsewhere_is_made_again() {
    let (writes, _) = second_run(&[("models/v.sql", "select 1")], |bench| {
        bench.warehouse.relations.lock().insert("public.v".into(), (lode_core::RelationKind::Table, 9));
    })
    .await;
    assert_eq!(writes, ["view public.v"]);
}

#[tokio::test]
async fn changed_sql_config_and_seeds_build_again() {
    let files = [("models/s.yml", SOURCES), ("models/m.sql", TABLE)];
    let (writes, _) = second_run(&files, |bench| {
        put(bench.dir.path(), "models/m.sql", &TABLE.replace('*', "id"));
    })
    .await;
    assert_eq!(writes, ["write public.m replace"]);
    let (writes, _) = second_run(&files, |bench| {
        put(
            bench.dir.path(),
            "models/m.sql",
            &TABLE.replace("'table'", "'table', expectations=[{'name': 'r', 'expect': 'true'}]"),
        );
    })
    .await;
    assert_eq!(writes, ["write public.m replace"]);
    let (writes, _) =
        second_run(&[("seeds/s.csv", "a\n1\n")], |bench| put(bench.dir.path(), "seeds/s.csv", "a\n2\n")).await;
    assert_eq!(writes, ["seed public.s"]);
}

#[tokio::test]
async fn a_view_that_was_replaced_elsewhere_is_made_again() {
    let files = [("models/v.sql", "select 1")];
    let (writes, _) = second_run(&files, |bench| {
        bench.warehouse.sql.lock().insert("public.v".into(), "select 2".into());
    })
    .await;
    assert_eq!(writes, ["view public.v"]);
    let (writes, _) = second_run(&files, |bench| {
        bench.warehouse.view_schemas.lock().insert("public.v".into(), "other".into());
    })
    .await;
    assert_eq!(writes, ["view public.v"]);
}

#[tokio::test]
async fn what_may_answer_differently_is_never_reused() {
    let volatile = "{{ config(materialized='table') }} select random()";
    let (writes, _) = second_run(&[("models/m.sql", volatile)], |_| {}).await;
    assert_eq!(writes, ["write public.m replace"]);
    let append = "{{ config(materialized='incremental') }} select 1";
    let bench = Bench::new(&[("models/m.sql", append)]);
    for _ in 0..3 {
        bench.run(Command::Build, &[]).await;
    }
    assert_eq!(bench.take_writes(), ["write public.m replace", "write public.m append", "write public.m append"]);
}

#[tokio::test]
async fn a_merge_is_reused_only_when_it_does_not_read_itself() {
    let head =
        "{{ config(materialized='incremental', unique_key='id') }} select * from {{ source('bronze', 'orders') }}";
    let bench = Bench::new(&[("models/s.yml", SOURCES), ("models/m.sql", head)]);
    for _ in 0..3 {
        bench.run(Command::Build, &[]).await;
    }
    assert_eq!(bench.take_writes(), ["write public.m replace", "write public.m delete+insert id"]);
    let own =
        format!("{head} {{% if is_incremental() %}} where ts > (select max(ts) from {{{{ this }}}}) {{% endif %}}");
    let bench = Bench::new(&[("models/s.yml", SOURCES), ("models/m.sql", &own)]);
    for _ in 0..3 {
        bench.run(Command::Build, &[]).await;
    }
    assert_eq!(
        bench.take_writes(),
        ["write public.m replace", "write public.m delete+insert id", "write public.m delete+insert id"]
    );
}

#[tokio::test]
async fn reuse_can_be_turned_off() {
    let mut bench = Bench::new(&[("models/s.yml", SOURCES), ("models/m.sql", TABLE)]);
    bench.options.reuse = false;
    bench.run(Command::Build, &[]).await;
    let results = bench.run(Command::Build, &[]).await;
    assert!(!outcome(&results, "m").is_reused);
    assert_eq!(bench.take_writes().len(), 2);
}
