//! Writes of models: modes, expectations, quarantine, changes of schema.

use std::sync::Arc;

use arrow::array::{Int64Array, RecordBatch, StringViewArray};
use arrow::datatypes::{DataType, Field, Schema};
use futures::{StreamExt, stream};

use lode_core::{ErrorKind, Expectation, OnViolation, Problem, TableName, Warehouse, WriteMode, WriteSpec, Written};

use crate::fixture::Fixture;

fn gold(name: &str) -> TableName {
    TableName::new("gold", name)
}

async fn build(fixture: &Fixture, sql: &str, spec: &WriteSpec) -> Result<Written, Problem> {
    let prepared = fixture.engine.prepare(sql, &fixture.session).await?;
    fixture.engine.write(&prepared, spec).await
}

fn rule(name: &str, expect: &str, on_violation: OnViolation) -> Expectation {
    Expectation { name: name.into(), expect: expect.into(), on_violation, null_is: false }
}

#[tokio::test]
async fn a_model_is_replaced_and_its_columns_follow_the_query() {
    let fixture = Fixture::new().await;
    let spec = WriteSpec::new(gold("m"), WriteMode::Replace);
    let first = build(&fixture, "select 1 as id, 'a' as name", &spec).await.unwrap();
    assert_eq!((first.rows, first.epoch.0), (1, 1));
    let second =
        build(&fixture, "select 1.5 as id, v as extra from generate_series(1, 3) as s(v)", &spec).await.unwrap();
    assert_eq!((second.rows, second.epoch.0), (3, 2));
    assert!(second.snapshot > first.snapshot);
    assert_eq!(fixture.must("select id, extra from gold.m order by extra").await, ["1.5|1", "1.5|2", "1.5|3"]);
    assert_eq!(fixture.must("select name from table_at('gold.m', 0)").await, ["a"]);
}

#[tokio::test]
async fn quarantined_rows_commit_with_the_table_and_go_when_it_is_clean() {
    let fixture = Fixture::new().await;
    let mut spec = WriteSpec::new(gold("m"), WriteMode::Replace);
    spec.expectations = vec![
        rule("positive", "km > 0", OnViolation::Quarantine),
        rule("known", "vin <> 'z'", OnViolation::Drop),
        rule("far", "km < 100", OnViolation::Warn),
    ];
    let sql = "select * from (values ('a', 5), ('b', -1), ('z', 7), ('c', 500), ('d', null)) as t(vin, km)";
    let written = build(&fixture, sql, &spec).await.unwrap();
    assert_eq!((written.rows, written.rows_quarantined, written.rows_dropped), (3, 1, 1));
    let counts: Vec<u64> = written.rules.iter().map(|rule| rule.violations).collect();
    assert_eq!(counts, [1, 1, 1]);
    let rejects =
        fixture.must("select _rule, _name, _reason, _source, encode(_raw, 'hex') from gold.m__quarantine").await;
    assert_eq!(rejects.len(), 1);
    assert!(
        rejects[0].starts_with(
            "expectation|positive|km > 0 does not hold: km = -1|gold.m|7b2276696e223a2262222c226b6d223a2d317d"
        ),
        "{rejects:?}"
    );
    let written = build(&fixture, "select 'a' as vin, 5 as km", &spec).await.unwrap();
    assert_eq!(written.rows_quarantined, 0);
    assert_eq!(fixture.must("select count(*) from gold.m__quarantine").await, ["0"]);
}

#[tokio::test]
async fn a_failed_expectation_leaves_everything_as_it_was() {
    let fixture = Fixture::new().await;
    let mut spec = WriteSpec::new(gold("m"), WriteMode::Replace);
    build(&fixture, "select 1 as id", &spec).await.unwrap();
    spec.expectations = vec![rule("small", "id < 3", OnViolation::Fail)];
    let problem = build(&fixture, "select v as id from generate_series(1, 20) as s(v)", &spec).await.unwrap_err();
    assert_eq!(problem.kind(), ErrorKind::Contract);
    assert_eq!(problem.to_string().matches("does not hold").count(), 5, "{}", problem.render());
    assert_eq!(fixture.must("select * from gold.m").await, ["1"]);
}

#[tokio::test]
async fn a_merge_takes_one_row_of_a_key_and_touches_only_its_files() {
    let fixture = Fixture::new().await;
    let append = WriteSpec::new(gold("m"), WriteMode::Append);
    for from in [0, 100, 200] {
        let sql = format!("select v as id, 'old' as state from generate_series({from}, {}) as s(v)", from + 99);
        build(&fixture, &sql, &append).await.unwrap();
    }
    let before = fixture.must("select path from table_files('gold.m') order by 1").await;
    let merge = WriteSpec::new(gold("m"), WriteMode::Merge { keys: vec!["id".into()], keeps_all: false });
    let rows = "(150, 'last'), (500, 'new'), (null, 'none'), (null, 'none')";
    let sql = |rows: &str| format!("select * from (values {rows}) as t(id, state)");
    let problem = build(&fixture, &sql(&format!("(150, 'first'), {rows}")), &merge).await.unwrap_err().render();
    assert!(
        problem.contains("two rows of this run have the key id = 150, and a merge takes one; nothing was written"),
        "{problem}"
    );
    assert!(problem.contains("row_number() over (partition by id order by …) as n"), "{problem}");
    assert_eq!(fixture.must("select state from gold.m where id = 150").await, ["old"]);
    let written = build(&fixture, &sql(rows), &merge).await.unwrap();
    assert_eq!((written.rows, written.rows_dropped), (4, 0));
    assert_eq!(fixture.must("select state from gold.m where id = 150").await, ["last"]);
    assert_eq!(fixture.must("select count(*), count(distinct id) from gold.m").await, ["303|301"]);
    let after = fixture.must("select path from table_files('gold.m') order by 1").await;
    let kept = before.iter().filter(|path| after.contains(path)).count();
    assert!(kept >= 2, "{before:?} {after:?}");
    // Again: nothing doubles but rows whose key is NULL.
    build(&fixture, "select 150 as id, 'again' as state", &merge).await.unwrap();
    assert_eq!(fixture.must("select count(*) from gold.m").await, ["303"]);
}

#[tokio::test]
async fn a_merge_that_keeps_all_replaces_every_old_row_of_a_key_by_every_new_one() {
    let fixture = Fixture::new().await;
    let rows = |values: &str| format!("select * from (values {values}) as t(id, state)");
    let append = WriteSpec::new(gold("m"), WriteMode::Append);
    build(&fixture, &rows("(1, 'old'), (1, 'older'), (2, 'stays')"), &append).await.unwrap();
    let merge = WriteSpec::new(gold("m"), WriteMode::Merge { keys: vec!["id".into()], keeps_all: true });
    for _ in 0..2 {
        let new = rows("(1, 'a'), (1, 'b'), (1, 'b'), (3, 'c')");
        let written = build(&fixture, &new, &merge).await.unwrap();
        assert_eq!((written.rows, written.rows_dropped), (4, 0));
        let found = fixture.must("select id, state from gold.m order by id, state").await;
        assert_eq!(found, ["1|a", "1|b", "1|b", "2|stays", "3|c"]);
    }
}

#[tokio::test]
async fn a_merge_opens_only_files_whose_statistics_reach_its_keys() {
    for (key, other) in [("v", "1"), ("'k' || v", "1"), ("timestamp '2026-01-01' + v * interval '1 hour'", "v")] {
        let fixture = Fixture::new().await;
        let append = WriteSpec::new(gold("m"), WriteMode::Append);
        let rows = |from: u16, to: u16, state: &str| {
            format!(
                "select {key} as id, {other} as part, '{state}' as state from generate_series({from}, {to}) as s(v)"
            )
        };
        build(&fixture, &rows(100, 199, "old"), &append).await.unwrap();
        let far = fixture.must("select path from table_files('gold.m')").await;
        build(&fixture, &rows(200, 299, "old"), &append).await.unwrap();
        // The far file is away: whoever opens it fails.
        let path = fixture.in_lake(&format!("gold/m/{}", far[0]));
        let kept = std::fs::read(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let mode = WriteMode::Merge { keys: vec!["id".into(), "part".into()], keeps_all: false };
        let merge = WriteSpec::new(gold("m"), mode);
        build(&fixture, &rows(250, 310, "new"), &merge).await.unwrap_or_else(|problem| panic!("{}", problem.render()));
        std::fs::write(&path, kept).unwrap();
        let found = fixture.must("select state, count(*) from gold.m group by 1 order by 1").await;
        assert_eq!(found, ["new|61", "old|150"], "{key}");
        // One that is reached by a single key is opened.
        build(&fixture, &rows(199, 200, "newest"), &merge).await.unwrap();
        let found = fixture.must("select state, count(*) from gold.m group by 1 order by 1").await;
        assert_eq!(found, ["new|61", "newest|2", "old|148"], "{key}");
    }
}

#[tokio::test]
async fn keys_of_a_merge_that_do_not_fit_into_memory_are_an_error() {
    let fixture = Fixture::with_memory(Some(1 << 20)).await;
    build(&fixture, "select 1::bigint as id", &WriteSpec::new(gold("m"), WriteMode::Append)).await.unwrap();
    let merge = WriteSpec::new(gold("m"), WriteMode::Merge { keys: vec!["id".into()], keeps_all: true });
    let keys = |count: i64, distinct: i64| {
        let schema = Arc::new(Schema::new(vec![Field::new("id", DataType::Int64, true)]));
        let ids: Int64Array = (0..count).map(|at| at % distinct).collect();
        let whole = RecordBatch::try_new(Arc::clone(&schema), vec![Arc::new(ids)]).unwrap();
        let batches: Vec<_> = (0..count as usize).step_by(1_000).map(|at| Ok(whole.slice(at, 1_000))).collect();
        (schema, stream::iter(batches).boxed())
    };
    let (schema, rows) = keys(20_000, 20_000);
    let problem = fixture.engine.write_batches(schema, rows, &merge).await.unwrap_err();
    assert_eq!(problem.kind(), ErrorKind::Full, "{}", problem.render());
    assert_eq!(fixture.must("select * from gold.m").await, ["1"]);
    // Few keys fit however many rows there are, and what a merge held is free again after it.
    for _ in 0..3 {
        let (schema, rows) = keys(20_000, 4_000);
        fixture.engine.write_batches(schema, rows, &merge).await.unwrap();
    }
    assert_eq!(fixture.must("select count(*) from gold.m").await, ["20000"]);
}

#[tokio::test]
async fn changed_columns_follow_the_policy() {
    let fixture = Fixture::new().await;
    let mut spec = WriteSpec::new(gold("m"), WriteMode::Append);
    build(&fixture, "select 1 as id, 'a' as name", &spec).await.unwrap();
    build(&fixture, "select 2 as id, 'b' as name, 9 as extra", &spec).await.unwrap();
    assert_eq!(fixture.must("select * from gold.m order by id").await, ["1|a", "2|b"]);
    spec.on_schema_change = "fail".into();
    assert!(build(&fixture, "select 3 as id, 'c' as name, 9 as extra", &spec).await.is_err());
    spec.on_schema_change = "append_new_columns".into();
    build(&fixture, "select 3 as id, 9 as extra", &spec).await.unwrap();
    assert_eq!(fixture.must("select * from gold.m order by id").await, ["1|a|NULL", "2|b|NULL", "3|NULL|9"]);
    spec.on_schema_change = "sync_all_columns".into();
    build(&fixture, "select 4 as id, 8 as extra", &spec).await.unwrap();
    assert_eq!(fixture.must("select * from gold.m order by id").await, ["1|NULL", "2|NULL", "3|9", "4|8"]);
    let problem = build(&fixture, "select 'x' as id, 8 as extra", &WriteSpec::new(gold("m"), WriteMode::Append)).await;
    let problem = problem.unwrap_err();
    assert_eq!(problem.kind(), ErrorKind::TypeMismatch);
    assert_eq!(problem.what(), "column \"id\" of \"gold.m\" is bigint, the rows have text");
}

#[tokio::test]
async fn partitions_are_replaced_one_by_one() {
    let fixture = Fixture::new().await;
    let mut spec = WriteSpec::new(gold("m"), WriteMode::ReplacePartitions);
    spec.partition_by = vec!["day".into()];
    let day = |day: u8, id: u8| format!("select {id} as id, date '2026-01-{day:02}' as day");
    build(&fixture, &format!("{} union all {}", day(1, 1), day(2, 2)), &spec).await.unwrap();
    build(&fixture, &format!("{} union all {}", day(2, 3), day(3, 4)), &spec).await.unwrap();
    let rows = fixture.must("select id, day from gold.m order by id").await;
    assert_eq!(rows, ["1|2026-01-01", "3|2026-01-02", "4|2026-01-03"]);
    assert_eq!(fixture.must("select id from gold.m where day = date '2026-01-02'").await, ["3"]);
}

#[tokio::test]
async fn partition_values_of_any_text_are_read_back() {
    let fixture = Fixture::new().await;
    let mut spec = WriteSpec::new(gold("m"), WriteMode::ReplacePartitions);
    spec.partition_by = vec!["a/b %".into()];
    let texts = ["a/b=c d", "100%", "a%2Fb", "grün 木", " blank ", ".", "..", "q'?#*:\"[]{}^~|", "tab\there", "b\\s"];
    let rows: Vec<String> =
        texts.iter().enumerate().map(|(id, text)| format!("({id}, '{}')", text.replace('\'', "''"))).collect();
    let sql = format!("select * from (values {}, (99, null)) as t(id, \"a/b %\")", rows.join(", "));
    // The second build finds each partition again.
    for _ in 0..2 {
        build(&fixture, &sql, &spec).await.unwrap();
        let mut wanted: Vec<String> = texts.iter().enumerate().map(|(id, text)| format!("{id}|{text}")).collect();
        wanted.push("99|NULL".into());
        assert_eq!(fixture.must("select id, \"a/b %\" from gold.m order by id").await, wanted);
    }
    for (id, text) in texts.iter().enumerate() {
        let sql = format!("select id from gold.m where \"a/b %\" = '{}'", text.replace('\'', "''"));
        assert_eq!(fixture.must(&sql).await, [id.to_string()], "{text}");
    }
}

/// Times stand in files as text, at any depth.
#[tokio::test]
async fn times_inside_of_lists_and_maps_are_read_back() {
    let fixture = Fixture::new().await;
    let spec = WriteSpec::new(gold("m"), WriteMode::Append);
    let sql = "select 1 as id, make_array(named_struct('at', time '10:00:00', 'n', 7)) as l,
               map(make_array('k'), make_array(named_struct('at', time '11:30:00'))) as m";
    for _ in 0..2 {
        build(&fixture, sql, &spec).await.unwrap();
    }
    let rows = fixture.must("select l[1]['at'], l[1]['n'], map_values(m)[1]['at'] from gold.m").await;
    assert_eq!(rows, ["10:00:00|7|11:30:00", "10:00:00|7|11:30:00"]);
}

#[tokio::test]
async fn a_table_becomes_a_view_and_a_table_again() {
    let fixture = Fixture::new().await;
    let spec = WriteSpec::new(gold("m"), WriteMode::Replace);
    build(&fixture, "select 1 as id", &spec).await.unwrap();
    let prepared = fixture.engine.prepare("select 2 as id", &fixture.session).await.unwrap();
    fixture.engine.define_view(&gold("m"), &prepared).await.unwrap();
    assert_eq!(fixture.must("select * from gold.m").await, ["2"]);
    let view = fixture.engine.relation(&gold("m")).await.unwrap().unwrap().view.unwrap();
    assert_eq!((view.sql.as_str(), view.default_schema.as_str()), ("select 2 as id", "public"));
    build(&fixture, "select 3 as id", &spec).await.unwrap();
    assert_eq!(fixture.must("select * from gold.m").await, ["3"]);
    assert_eq!(fixture.must("show tables").await, ["gold|m|table"]);
}

#[tokio::test]
async fn batches_from_outside_are_written_as_rows_of_a_query() {
    let fixture = Fixture::new().await;
    let schema = Arc::new(Schema::new(vec![
        Field::new("id", DataType::Int64, true),
        Field::new("name", DataType::Utf8View, true),
    ]));
    let batch = |ids: Vec<i64>| {
        let names: StringViewArray = ids.iter().map(|id| Some(format!("n{id}"))).collect();
        RecordBatch::try_new(Arc::clone(&schema), vec![Arc::new(Int64Array::from(ids)), Arc::new(names)]).unwrap()
    };
    let rows = stream::iter([Ok(batch(vec![1, 2])), Ok(batch(vec![3]))]).boxed();
    let spec = WriteSpec::new(TableName::new("public", "seed"), WriteMode::Replace);
    let written = fixture.engine.write_batches(Arc::clone(&schema), rows, &spec).await.unwrap();
    assert_eq!(written.rows, 3);
    assert_eq!(fixture.must("select name from seed order by id desc limit 1").await, ["n3"]);
}

#[tokio::test]
async fn a_prepared_statement_tells_its_inputs_and_a_steady_fingerprint() {
    let fixture = Fixture::new().await;
    fixture.must("create table t as select 1 as id; create view v as select id from t").await;
    let prepare = |sql: &'static str| {
        let (engine, session) = (fixture.engine.clone(), fixture.session.clone());
        async move { engine.prepare(sql, &session).await.unwrap() }
    };
    let first = prepare("select id from v where id > 0").await;
    assert_eq!(first.inputs.len(), 1);
    assert_eq!(first.inputs[0].table, TableName::new("public", "t"));
    assert!(!first.is_volatile);
    fixture.must("insert into t values (2)").await;
    let second = prepare("select   id from v where id>0 -- the same").await;
    assert_eq!(first.fingerprint, second.fingerprint);
    assert!(second.inputs[0].snapshot > first.inputs[0].snapshot);
    assert_ne!(prepare("select id from v where id > 1").await.fingerprint, first.fingerprint);
    assert!(prepare("select id, now() from t").await.is_volatile);
    // The prepared statement still sees its own snapshot.
    let rows: usize = fixture
        .engine
        .run(&first)
        .await
        .unwrap()
        .map(|batch| batch.unwrap().num_rows())
        .collect::<Vec<_>>()
        .await
        .iter()
        .sum();
    assert_eq!(rows, 1);
}

#[tokio::test]
async fn what_the_plan_does_not_show_still_changes_the_fingerprint() {
    let fixture = Fixture::new().await;
    let prepare = |sql: &str| {
        let (engine, session, sql) = (fixture.engine.clone(), fixture.session.clone(), sql.to_owned());
        async move { engine.prepare(&sql, &session).await.unwrap() }
    };
    let rows = |last: u8| format!("select * from (values (1), (2), (3), (4), (5), (6), ({last})) as t(id)");
    assert_ne!(prepare(&rows(7)).await.fingerprint, prepare(&rows(8)).await.fingerprint);
    let series = |last: u8| format!("select count(*) as n from generate_series(1, {last}) as s(v)");
    assert_ne!(prepare(&series(7)).await.fingerprint, prepare(&series(8)).await.fingerprint);
    fixture.must(&format!("create view v as {}", rows(7))).await;
    let before = prepare("select id from v").await.fingerprint;
    fixture.must(&format!("create or replace view v as {}", rows(8))).await;
    assert_ne!(prepare("select id from v").await.fingerprint, before);
    // A look inside of a table is among no inputs.
    fixture.must("create table t as select 1 as id").await;
    for call in ["table_at('t', 0)", "table_history('t')", "table_files('t')"] {
        assert!(prepare(&format!("select * from {call}")).await.is_volatile, "{call}");
    }
}

#[tokio::test]
async fn a_table_made_again_has_another_id_among_the_inputs() {
    let fixture = Fixture::new().await;
    let spec = WriteSpec::new(gold("m"), WriteMode::Replace);
    let mut seen = Vec::new();
    for _ in 0..2 {
        let written = build(&fixture, "select 1 as id", &spec).await.unwrap();
        let prepared = fixture.engine.prepare("select id from gold.m", &fixture.session).await.unwrap();
        assert_eq!((written.table, written.snapshot), (Some(prepared.inputs[0].id), prepared.inputs[0].snapshot));
        seen.push(prepared.inputs[0].clone());
        fixture.must("drop table gold.m").await;
    }
    assert_eq!(seen[0].snapshot, seen[1].snapshot);
    assert_ne!(seen[0].id, seen[1].id);
    // Written over, it stays the same table.
    let first = build(&fixture, "select 1 as id", &spec).await.unwrap();
    let second = build(&fixture, "select 'a' as name", &spec).await.unwrap();
    assert_eq!(first.table, second.table);
}
