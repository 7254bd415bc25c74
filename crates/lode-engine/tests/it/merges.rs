//! MERGE, UPDATE … FROM and DELETE … USING. Results are those of PostgreSQL 15.

use std::collections::BTreeMap;

use lode_core::{KEY, Warehouse as _, WriteMode, WriteSpec};

use crate::fixture::Fixture;

async fn tables(fixture: &Fixture) {
    fixture
        .must(
            "create table t (id bigint, name varchar(10), amount numeric(8,2), day date);
             insert into t values (1,'one',1,'2026-01-01'), (2,'two',2,'2026-01-02'), (3,'three',3,null), (4,null,4,null);
             create table s (id bigint, name text, amount double precision, op text);
             insert into s values (2,'TWO',20.125,'u'), (3,'x',null,'d'), (5,'five',5,'i'), (null,'null',9,'i'), (6,'six',6,'n')",
        )
        .await;
}

async fn all(fixture: &Fixture) -> Vec<String> {
    fixture.must("select * from t order by id, name").await
}

const MERGED: [&str; 5] =
    ["1|one|1.00|2026-01-01", "2|TWO|22.13|2026-01-02", "4|NULL|4.00|NULL", "5|five|5.00|NULL", "NULL|null|9.00|NULL"];

async fn fixtures() -> [Fixture; 2] {
    [Fixture::with_vectors_from(0).await, Fixture::with_vectors_from(u64::MAX).await]
}

#[tokio::test]
async fn the_first_when_that_holds_decides() {
    for fixture in fixtures().await {
        tables(&fixture).await;
        let merge = "merge into t using s on t.id = s.id
             when matched and s.op = 'd' then delete
             when matched then update set name = s.name, amount = t.amount + s.amount
             when not matched and op <> 'n' then insert (id, name, amount) values (id, name, amount)";
        assert_eq!(fixture.must(merge).await, ["MERGE 4"]);
        assert_eq!(all(&fixture).await, MERGED);
        let merge = "merge into t as a using (select id, count(*) as n from s group by id) as b on a.id = b.id
             when matched then update set amount = n";
        assert_eq!(fixture.must(merge).await, ["MERGE 2"]);
        assert_eq!(fixture.must("select id, amount from t where id in (2, 5) order by id").await, ["2|1.00", "5|1.00"]);
        let merge = "merge into t using s on t.id = s.id and s.op = 'i' when not matched then insert values (s.id + 100, 'new')";
        assert_eq!(fixture.must(merge).await, ["MERGE 4"]);
        let rows = fixture.must("select id, name from t where name = 'new' order by id").await;
        assert_eq!(rows, ["102|new", "103|new", "106|new", "NULL|new"]);
        let merge = "merge into t using (values (1, 'a'), (1, 'b')) as v(id, name) on t.id = v.id
             when matched and v.name = 'b' then update set name = v.name";
        assert_eq!(fixture.must(merge).await, ["MERGE 1"]);
        assert_eq!(fixture.must("select * from t where id = 1").await, ["1|b|1.00|2026-01-01"]);
        let merge = "merge into t using s on false when not matched then insert (id) values (default)";
        assert_eq!(fixture.must(merge).await, ["MERGE 5"]);
        assert_eq!(fixture.must("select count(*), count(id) from t").await, ["14|7"]);
    }
}

#[tokio::test]
async fn rows_that_the_source_does_not_have_can_go() {
    for fixture in fixtures().await {
        tables(&fixture).await;
        let merge = "merge into t using s on t.id = s.id
             when matched then update set name = s.name
             when not matched then insert (id, name) values (id, name)
             when not matched by source and id = 1 then delete
             when not matched by source then update set name = 'left'";
        assert_eq!(fixture.must(merge).await, ["MERGE 7"]);
        let rows = fixture.must("select id, name, amount from t order by id, name").await;
        assert_eq!(rows, ["2|TWO|2.00", "3|x|3.00", "4|left|4.00", "5|five|NULL", "6|six|NULL", "NULL|null|NULL"]);
        let merge = "merge into t using (select * from s where false) as e on t.id = e.id
             when not matched by source and t.amount is null then delete";
        assert_eq!(fixture.must(merge).await, ["MERGE 3"]);
        assert_eq!(fixture.must("select count(*) from t").await, ["3"]);
    }
}

#[tokio::test]
async fn an_update_and_a_delete_find_their_rows_by_other_tables() {
    for fixture in fixtures().await {
        tables(&fixture).await;
        let update = "update t set name = s.name, amount = s.amount from s where s.id = t.id";
        assert_eq!(fixture.must(update).await, ["UPDATE 2"]);
        let wanted = ["1|one|1.00|2026-01-01", "2|TWO|20.13|2026-01-02", "3|x|NULL|NULL", "4|NULL|4.00|NULL"];
        assert_eq!(all(&fixture).await, wanted);
        let update =
            "update t as x set name = y.name || '!' from s y join (select 2 as k) z on z.k = y.id where x.id = y.id";
        assert_eq!(fixture.must(update).await, ["UPDATE 1"]);
        assert_eq!(fixture.must("select name from t where id = 2").await, ["TWO!"]);
        assert_eq!(fixture.must("delete from t using s where t.id = s.id and s.op = 'u'").await, ["DELETE 1"]);
        assert_eq!(
            fixture.must("delete from t as a using t as b where a.id = b.id - 1 and b.id = 4").await,
            ["DELETE 1"]
        );
        assert_eq!(fixture.must("select id from t order by id").await, ["1", "4"]);
        // A row that is found twice goes once.
        assert_eq!(fixture.must("delete from t using s where t.id = 1").await, ["DELETE 1"]);
    }
}

#[tokio::test]
async fn what_cannot_be_merged_changes_nothing() {
    let fixture = Fixture::new().await;
    tables(&fixture).await;
    for (sql, wanted) in [
        ("merge into t using (values (1), (1)) as v(id) on t.id = v.id when matched then delete", "more than one row"),
        ("update t set name = 'x' from s where t.id = 1", "more than one row"),
        ("merge into t using s on t.id = s.id when not matched then insert (id, nope) values (1, 2)", "nope"),
        ("merge into t using s on t.id = s.id when not matched then insert (id, name) values (1)", "values"),
        ("merge into t using s on t.id = s.id when matched then update set nmae = 'x'", "did you mean \"name\"?"),
        (
            "merge into t using s on t.id = s.id when matched then update set name = 'much too long a name'",
            "varchar(10)",
        ),
        ("merge into s2 using s on true when matched then delete", "does not exist"),
        ("merge into t using s on t.id = s.id when matched then update set id = id", "in more than one table"),
        ("update t set id = s.id from s where id = 1", "in more than one table"),
    ] {
        let error = fixture.error(sql).await;
        assert!(error.contains(wanted) && error.contains("fix:"), "{sql}: {error}");
    }
    assert_eq!(fixture.must("select count(*), sum(id), sum(amount) from t").await, ["4|10|10.00"]);
}

#[tokio::test]
async fn a_merge_takes_values_of_every_type() {
    for fixture in fixtures().await {
        let columns = "id int, u uuid, at timestamptz, tm time, i interval, j json, b bytea, l text[], f real";
        fixture.must(&format!("create table t ({columns}); create table s ({columns})")).await;
        let row = |id: u32| {
            format!(
                "({id}, 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a1{id}', '2026-01-01 10:00:00+02', '10:11', '1 day', '[{id}]', '\\x01',
                 array['x', null], 'NaN')"
            )
        };
        fixture.must(&format!("insert into t values {}; insert into s values {}, {}", row(1), row(1), row(2))).await;
        let merge = "merge into t using s on t.u = s.u when matched then update set l = array['y'], j = '{}'
             when not matched then insert values (s.id, s.u, s.at, s.tm, s.i, s.j, s.b, s.l, s.f)";
        assert_eq!(fixture.must(merge).await, ["MERGE 2"]);
        let rows =
            fixture.must("select id, u::text, tm::text, i::text, j, b::text, l::text, f from t order by id").await;
        assert_eq!(
            rows,
            [
                "1|a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11|10:11:00|1 day|{}|\\x01|[y]|NaN",
                "2|a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a12|10:11:00|1 day|[2]|\\x01|[x, ]|NaN",
            ]
        );
    }
}

/// Rows of a keyed table after many merges, whether its keys are found by the index or by looking.
#[tokio::test]
async fn many_merges_into_a_table_with_a_key_give_the_newest_rows() {
    for (fixture, is_text) in fixtures().await.into_iter().zip([false, true]) {
        let key = if is_text { "'k' || v" } else { "v" };
        let build = async |from: u64, step: u64, count: u64, state: u64, mode: WriteMode| {
            let mut spec = WriteSpec::new("silver.k".parse().unwrap(), mode);
            spec.properties.push((KEY.to_owned(), r#"["id"]"#.to_owned()));
            let sql = format!(
                "select {key} as id, {state}::bigint as state from generate_series({from}, {}, {step}) as s(v)",
                from + (count - 1) * step
            );
            let prepared = fixture.engine.prepare(&sql, &fixture.session).await.unwrap();
            fixture.engine.write(&prepared, &spec).await.unwrap();
        };
        let merge = || WriteMode::Merge { keys: vec!["id".into()], keeps_all: false };
        let mut model: BTreeMap<u64, u64> = (0..500).map(|key| (key, 0)).collect();
        build(0, 1, 500, 0, WriteMode::Replace).await;
        for round in 1..30_u64 {
            let (from, step) = (round * 37 % 400, 1 + round % 5);
            build(from, step, 40, round, merge()).await;
            model.extend((0..40).map(|at| (from + at * step, round)));
            if round % 9 == 0 {
                let gone = round * 7;
                let gone_key = if is_text { format!("'k{gone}'") } else { gone.to_string() };
                fixture.must(&format!("delete from silver.k where id = {gone_key}")).await;
                model.remove(&gone);
            }
            // Lost, the index costs time and no row.
            if round == 20 {
                std::fs::remove_dir_all(fixture.in_lake("silver/k/_lode/idx")).unwrap();
            }
        }
        let id = if is_text { "substr(id, 2)::bigint" } else { "id" };
        let rows = fixture.must(&format!("select {id} as n, state from silver.k order by 1")).await;
        assert_eq!(rows, model.iter().map(|(key, state)| format!("{key}|{state}")).collect::<Vec<_>>());
        let runs = std::fs::read_dir(fixture.in_lake("silver/k/_lode/idx")).unwrap();
        let runs = runs.filter(|run| run.as_ref().unwrap().file_name().to_string_lossy().ends_with(".kix")).count();
        // Where files are written anew, runs of old files wait for a vacuum.
        assert!((1..if is_text { 40 } else { 20 }).contains(&runs), "{runs} runs");
    }
}

/// A merge that several threads write.
#[tokio::test]
async fn a_large_merge_writes_each_row_once() {
    let fixture = Fixture::with_vectors_from(0).await;
    let build = async |from: u64, to: u64, state: u64, mode: WriteMode| {
        let mut spec = WriteSpec::new("silver.k".parse().unwrap(), mode);
        spec.properties.push((KEY.to_owned(), r#"["id"]"#.to_owned()));
        let sql = format!("select v as id, {state}::bigint as state from generate_series({from}, {to}) as s(v)");
        let prepared = fixture.engine.prepare(&sql, &fixture.session).await.unwrap();
        fixture.engine.write(&prepared, &spec).await
    };
    let merge = || WriteMode::Merge { keys: vec!["id".into()], keeps_all: false };
    build(0, 299_999, 0, WriteMode::Replace).await.unwrap();
    build(100_000, 399_999, 1, merge()).await.unwrap();
    let found = fixture.must("select count(*), count(distinct id), sum(state) from silver.k").await;
    assert_eq!(found, ["400000|400000|300000"]);
    assert!(fixture.must("select path from table_files('silver.k')").await.len() > 2);
    build(399_000, 400_999, 2, merge()).await.unwrap();
    let found = fixture.must("select count(*), count(distinct id), max(state) from silver.k").await;
    assert_eq!(found, ["401000|401000|2"]);
}
