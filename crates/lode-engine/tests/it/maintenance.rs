//! Compaction, vacuum, restore and verify: the rows stay what they were.

use std::time::Duration;

use lode_catalog::{RelationEntry, TableEntry};
use lode_core::{KEY, SnapshotId, Warehouse as _, WriteMode, WriteSpec};

use crate::fixture::Fixture;

async fn table(fixture: &Fixture, name: &str) -> TableEntry {
    match fixture.catalog.relation(&name.parse().unwrap()).await.unwrap() {
        Some(RelationEntry::Table(table)) => table,
        _ => panic!("no table {name}"),
    }
}

async fn files(fixture: &Fixture, name: &str) -> usize {
    fixture.must(&format!("select path from table_files('{name}')")).await.len()
}

fn parquet_files(fixture: &Fixture, folder: &str) -> usize {
    let entries = std::fs::read_dir(fixture.in_lake(folder)).unwrap();
    entries.filter(|entry| entry.as_ref().unwrap().path().extension().is_some_and(|end| end == "parquet")).count()
}

async fn verify(fixture: &Fixture, name: &str) -> Vec<String> {
    let report = fixture.engine.verify(&table(fixture, name).await).await.unwrap();
    report.findings.iter().map(lode_core::Problem::render).collect()
}

#[tokio::test]
async fn compacted_files_hold_the_same_rows() {
    let fixture = Fixture::with_vectors_from(0).await;
    fixture.must("create table t (id bigint, u uuid, at timestamptz, tm time, l text[], f real, n numeric(9,2))").await;
    for from in (0..500).step_by(100) {
        fixture
            .must(&format!(
                "insert into t select v, case when v % 2 = 0 then 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'::uuid end,
                 timestamptz '2026-01-01 10:00+02', time '10:11', array['x', null], case when v % 3 = 0 then 'NaN' else v end::real, v / 3.0
                 from generate_series({from}, {}) as s(v)",
                from + 99
            ))
            .await;
    }
    fixture.must("delete from t where id % 7 = 3").await;
    let rows = || fixture.must("select id, u::text, at, tm::text, l::text, f, n from t order by id");
    let before = rows().await;
    assert_eq!(files(&fixture, "t").await, 5);
    let report = fixture.engine.compact(&table(&fixture, "public.t").await).await.unwrap();
    assert_eq!((report.files_before, report.files_after, report.rows), (5, 1, before.len() as u64), "{report:?}");
    assert_eq!(files(&fixture, "t").await, 1);
    assert_eq!(rows().await, before);
    assert_eq!(fixture.must("select count(*) from table_changes('t', 7)").await, ["0"]);
    assert_eq!(verify(&fixture, "public.t").await, Vec::<String>::new());
    // Once is enough, and writing goes on above it.
    let report = fixture.engine.compact(&table(&fixture, "public.t").await).await.unwrap();
    assert_eq!(report.files_before, 0);
    fixture.must("update t set n = 0 where id = 1").await;
    assert_eq!(fixture.must("select n from t where id = 1").await, ["0.00"]);
}

/// Rows that die between the reading and the commit of a compaction die in the new file.
#[tokio::test]
async fn what_dies_while_files_are_compacted_stays_dead() {
    let fixture = Fixture::with_vectors_from(0).await;
    fixture.must("create table t (id bigint)").await;
    for from in [0, 100, 200] {
        fixture.must(&format!("insert into t select v from generate_series({from}, {}) as s(v)", from + 99)).await;
    }
    fixture.must("delete from t where id in (5, 6, 150)").await;
    let entry = table(&fixture, "public.t").await;
    let base = fixture.catalog.snapshot(&entry, None).await.unwrap();
    let delta = lode_lake::DeltaTable::new(fixture.catalog.store(), &entry.location);
    // What a compaction would have written of the three files.
    let mut definition = base.definition.clone();
    definition.properties.clear();
    let mut writer = lode_lake::TableWriter::new(
        fixture.catalog.store(),
        &entry.location,
        &definition,
        lode_core::AttemptId::random(),
        lode_lake::WriterOptions::default(),
    );
    let ids = (0..300).filter(|id| ![5, 6, 150].contains(id));
    let ids: arrow::array::ArrayRef = std::sync::Arc::new(arrow::array::Int64Array::from_iter_values(ids));
    writer.write(&arrow::array::RecordBatch::try_from_iter_with_nullable([("id", ids, true)]).unwrap()).unwrap();
    let outputs = writer.finish().unwrap();
    let mut inputs = base.files.as_ref().clone();
    inputs.sort_by_key(|live| live.file.stats.as_ref().unwrap().min_values["id"].as_i64());
    let compaction = lode_lake::Compaction { inputs, base, outputs };
    fixture.must("delete from t where id in (4, 7, 99, 100, 151, 299)").await;
    fixture.must("insert into t values (1000)").await;
    assert!(delta.commit_compaction(&compaction, &|| Ok(())).await.unwrap().is_some());
    let gone = [4, 5, 6, 7, 99, 100, 150, 151, 299];
    let mut wanted: Vec<String> = (0..300).filter(|id| !gone.contains(id)).map(|id| id.to_string()).collect();
    wanted.push("1000".into());
    assert_eq!(fixture.must("select id from t order by id").await, wanted);
    assert_eq!(files(&fixture, "t").await, 2);
    assert_eq!(verify(&fixture, "public.t").await, Vec::<String>::new());
    // Its inputs are gone now: a second try gives up.
    assert!(delta.commit_compaction(&compaction, &|| Ok(())).await.unwrap().is_none());
    assert_eq!(fixture.must("select count(*) from t").await, ["292"]);
}

#[tokio::test]
async fn a_table_with_a_key_is_merged_into_after_a_compaction() {
    let fixture = Fixture::with_vectors_from(0).await;
    let build = async |from: u32, to: u32, state: u32, mode: WriteMode| {
        let mut spec = WriteSpec::new("silver.k".parse().unwrap(), mode);
        spec.properties.push((KEY.to_owned(), r#"["id"]"#.to_owned()));
        let sql = format!("select v as id, {state} as state from generate_series({from}, {to}) as s(v)");
        let prepared = fixture.engine.prepare(&sql, &fixture.session).await.unwrap();
        fixture.engine.write(&prepared, &spec).await.unwrap();
    };
    let merge = || WriteMode::Merge { keys: vec!["id".into()], keeps_all: false };
    build(0, 999, 0, WriteMode::Replace).await;
    for state in 1..12 {
        build(state * 50, state * 50 + 79, state, merge()).await;
    }
    let before = fixture.must("select id, state from silver.k order by id").await;
    fixture.engine.compact(&table(&fixture, "silver.k").await).await.unwrap();
    assert_eq!(fixture.must("select id, state from silver.k order by id").await, before);
    build(900, 1_099, 77, merge()).await;
    let found = fixture.must("select count(*), count(distinct id), sum((state = 77)::int) from silver.k").await;
    assert_eq!(found, ["1100|1100|200"]);
}

#[tokio::test]
async fn a_vacuum_takes_what_no_kept_version_needs() {
    let fixture = Fixture::with_vectors_from(u64::MAX).await;
    fixture.must("create table t (id bigint); insert into t values (1), (2); update t set id = 3 where id = 2").await;
    fixture.must("insert into t values (4)").await;
    fixture.engine.compact(&table(&fixture, "public.t").await).await.unwrap();
    let all = parquet_files(&fixture, "public/t");
    assert_eq!(all, 5);
    std::fs::write(fixture.in_lake("public/t/notes.txt"), "of others").unwrap();
    std::fs::create_dir(fixture.in_lake("public/t/_other")).unwrap();
    std::fs::write(fixture.in_lake("public/t/_other/a.parquet"), "of others").unwrap();
    let entry = table(&fixture, "public.t").await;
    // Within the retention all versions are kept.
    let report = fixture.engine.vacuum(&entry, None, false).await.unwrap();
    assert_eq!((report.files.len(), parquet_files(&fixture, "public/t")), (0, all));
    assert_eq!(fixture.must("select count(*) from table_at('t', 1)").await, ["2"]);
    let report = fixture.engine.vacuum(&entry, Some(Duration::ZERO), true).await.unwrap();
    assert_eq!((report.files.len(), parquet_files(&fixture, "public/t")), (4, all));
    let report = fixture.engine.vacuum(&entry, Some(Duration::ZERO), false).await.unwrap();
    assert_eq!((report.files.len(), parquet_files(&fixture, "public/t")), (4, 1));
    assert!(fixture.in_lake("public/t/notes.txt").exists() && fixture.in_lake("public/t/_other/a.parquet").exists());
    assert_eq!(fixture.must("select id from t order by id").await, ["1", "3", "4"]);
    assert_eq!(verify(&fixture, "public.t").await, Vec::<String>::new());
    let history = fixture.must("select operation from table_history('t') order by version desc limit 2").await;
    assert_eq!(history, ["VACUUM END", "VACUUM START"]);
    // A version whose files are gone cannot come back.
    let error = fixture.engine.restore(&table(&fixture, "public.t").await, SnapshotId(1)).await.unwrap_err();
    assert!(error.render().contains(".parquet"), "{}", error.render());
    fixture.must("insert into t values (5)").await;
    assert_eq!(fixture.must("select count(*) from t").await, ["4"]);
}

#[tokio::test]
async fn a_restored_table_has_its_old_rows_and_goes_on() {
    let fixture = Fixture::with_vectors_from(0).await;
    fixture.must("create table t (id bigint, name text)").await;
    fixture.must("insert into t select v, 'n' || v from generate_series(1, 200) as s(v)").await;
    fixture.must("delete from t where id > 190").await;
    let before = fixture.must("select * from t order by id").await;
    fixture
        .must("delete from t where id < 100; update t set name = 'x' where id = 150; insert into t values (999, 'y')")
        .await;
    fixture.engine.compact(&table(&fixture, "public.t").await).await.unwrap();
    let version = fixture.engine.restore(&table(&fixture, "public.t").await, SnapshotId(2)).await.unwrap();
    assert_eq!(version, SnapshotId(7));
    assert_eq!(fixture.must("select * from t order by id").await, before);
    assert_eq!(verify(&fixture, "public.t").await, Vec::<String>::new());
    fixture.must("update t set name = 'z' where id = 1; insert into t values (0, 'a')").await;
    assert_eq!(fixture.must("select count(*), min(name), max(name) from t").await, ["191|a|z"]);
    assert!(fixture.engine.restore(&table(&fixture, "public.t").await, SnapshotId(99)).await.is_err());
}

#[tokio::test]
async fn verify_finds_what_was_damaged() {
    let fixture = Fixture::with_vectors_from(0).await;
    fixture.must("create table t (id bigint, name text)").await;
    fixture.must("insert into t select v, 'n' || v from generate_series(1, 5000) as s(v)").await;
    fixture.must("delete from t where id = 7").await;
    let path = fixture.must("select path from table_files('t')").await.remove(0);
    let path = fixture.in_lake(&format!("public/t/{path}"));
    let whole = std::fs::read(&path).unwrap();
    let mut changed = whole.clone();
    changed[200] ^= 0xFF;
    std::fs::write(&path, &changed).unwrap();
    let findings = verify(&fixture, "public.t").await;
    assert!(findings.iter().any(|finding| finding.contains("is not what was written")), "{findings:?}");
    std::fs::write(&path, &whole[..whole.len() - 10]).unwrap();
    assert!(!verify(&fixture, "public.t").await.is_empty());
    std::fs::remove_file(&path).unwrap();
    let findings = verify(&fixture, "public.t").await;
    assert!(findings.len() == 1 && findings[0].contains("is missing"), "{findings:?}");
    std::fs::write(&path, &whole).unwrap();
    // A bound that does not hold, and a wrong count.
    let commit = fixture.in_lake("public/t/_delta_log/00000000000000000002.json");
    let text = std::fs::read_to_string(&commit).unwrap();
    let wrong = text.replace(r#"\"maxValues\":{\"id\":5000"#, r#"\"maxValues\":{\"id\":4000"#);
    assert_ne!(wrong, text);
    std::fs::write(&commit, wrong).unwrap();
    let again = Fixture::reopen(fixture).await;
    let findings = verify(&again, "public.t").await;
    assert!(findings.len() == 1 && findings[0].contains("above the bound"), "{findings:?}");
}
