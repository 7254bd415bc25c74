//! DELETE, UPDATE and merges: by deletion vectors or by writing files anew, the rows are the same.

use lode_core::{Warehouse as _, WriteMode, WriteSpec};

use crate::fixture::Fixture;

/// Files of any size get vectors, or none does.
async fn fixtures() -> [Fixture; 2] {
    [Fixture::with_vectors_from(0).await, Fixture::with_vectors_from(u64::MAX).await]
}

async fn numbers(fixture: &Fixture) {
    fixture.must("create table t (id bigint, name varchar(5), amount numeric(8,2), day date)").await;
    for from in [0, 100, 200] {
        fixture
            .must(&format!(
                "insert into t select v, 'n' || v, v / 4.0, date '2026-01-01' + (v % 7)::int
                 from generate_series({from}, {}) as s(v)",
                from + 99
            ))
            .await;
    }
}

#[tokio::test]
async fn deleted_rows_are_gone_and_the_rest_is_as_it_was() {
    for fixture in fixtures().await {
        numbers(&fixture).await;
        assert_eq!(fixture.must("delete from t where id % 50 = 7").await, ["DELETE 6"]);
        assert_eq!(fixture.must("select count(*), sum(id), min(id) from t").await, ["294|44058|0"]);
        assert_eq!(
            fixture.must("select id from t where id between 105 and 109 order by id").await,
            ["105", "106", "108", "109"]
        );
        // Again: those rows are not there. Twice in one file: the first ones stay dead.
        assert_eq!(fixture.must("delete from t where id % 50 = 7").await, ["DELETE 0"]);
        assert_eq!(fixture.must("delete from t as x where x.id = 3 or x.name = 'n8'").await, ["DELETE 2"]);
        let rows = fixture.must("select count(*), count(distinct id), max(id) from t where id < 10").await;
        assert_eq!(rows, ["7|7|9"]);
        // What was deleted can be seen in the past.
        assert_eq!(fixture.must("select count(*) from table_at('t', 3)").await, ["300"]);
        // A whole file, by a subquery over the same table.
        let whole = "delete from public.t where id in (select id from t where id >= 200)";
        assert_eq!(fixture.must(whole).await, ["DELETE 98"]);
        assert_eq!(fixture.must("select count(*), max(id) from t").await, ["194|199"]);
        assert_eq!(fixture.must("delete from t where name is null").await, ["DELETE 0"]);
        assert_eq!(fixture.must("delete from t").await, ["DELETE 194"]);
        assert_eq!(fixture.must("select count(*) from t").await, ["0"]);
        fixture.must("insert into t (id) values (1)").await;
        assert_eq!(fixture.must("select id, name from t").await, ["1|NULL"]);
    }
}

#[tokio::test]
async fn updated_rows_have_their_new_values_once() {
    for fixture in fixtures().await {
        numbers(&fixture).await;
        let sql = "update t set amount = amount * 2 + 1, name = upper(name) where id between 98 and 101";
        assert_eq!(fixture.must(sql).await, ["UPDATE 4"]);
        let rows = fixture.must("select id, name, amount, day from t where id between 97 and 102 order by id").await;
        let wanted = [
            "97|n97|24.25|2026-01-07",
            "98|N98|50.00|2026-01-01",
            "99|N99|50.50|2026-01-02",
            "100|N100|51.00|2026-01-03",
            "101|N101|51.50|2026-01-04",
            "102|n102|25.50|2026-01-05",
        ];
        assert_eq!(rows, wanted);
        assert_eq!(fixture.must("select count(*), count(distinct id) from t").await, ["300|300"]);
        // Values are cast to their columns as in an INSERT; the old ones are read.
        let sql = "update t as x set day = '2027-05-06', id = x.id + 1000, amount = null where x.id = 5";
        assert_eq!(fixture.must(sql).await, ["UPDATE 1"]);
        assert_eq!(fixture.must("select * from t where id = 1005").await, ["1005|n5|NULL|2027-05-06"]);
        let sql = "update t set amount = (select max(amount) from t), name = default where id = 6";
        fixture.must(sql).await;
        assert_eq!(fixture.must("select name, amount from t where id = 6").await, ["NULL|74.75"]);
        assert_eq!(fixture.must("update t set name = 'x' where id = -1").await, ["UPDATE 0"]);
    }
}

#[tokio::test]
async fn what_a_column_cannot_hold_changes_nothing() {
    for fixture in fixtures().await {
        numbers(&fixture).await;
        for (sql, wanted) in [
            ("update t set name = 'too long' where id < 10", "varchar(5)"),
            ("update t set amount = 'x' where id = 1", "x"),
            ("update t set nmae = 'x'", "did you mean \"name\"?"),
            ("update t set id = 1, id = 2", "set twice"),
            ("update nothing set id = 1", "does not exist"),
            ("delete from t where idd = 1", "idd"),
            ("delete from t returning id", "not supported"),
        ] {
            let error = fixture.error(sql).await;
            assert!(error.contains(wanted) && error.contains("fix:"), "{sql}: {error}");
        }
        assert_eq!(fixture.must("select count(*), sum(id), count(name) from t").await, ["300|44850|300"]);
        fixture
            .must("create table k (id bigint not null, km bigint check (km >= 0)); insert into k values (1, 5)")
            .await;
        assert!(fixture.error("update k set km = km - 9").await.contains("km >= 0"));
        assert!(fixture.error("update k set id = null").await.contains("id"));
        fixture.must("create view v as select * from t").await;
        assert!(fixture.error("delete from v").await.contains("is a view"));
    }
}

#[tokio::test]
async fn values_of_every_type_outlive_an_update_of_another_column() {
    for fixture in fixtures().await {
        fixture
            .must(
                "create table t (id int, u uuid, at timestamptz, tm time, i interval, j json, b bytea, l text[], f real)",
            )
            .await;
        fixture
            .must(
                "insert into t values (1, 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', '2026-01-01 10:00:00+02', '10:11', '1 day',
                 '{\"a\":1}', '\\x01', array['x', null], 'NaN')",
            )
            .await;
        let before = fixture.must("select u, at, tm::text, i::text, j, b::text, l::text, f from t").await;
        fixture.must("update t set id = id + 1").await;
        assert_eq!(fixture.must("select u, at, tm::text, i::text, j, b::text, l::text, f from t").await, before);
        fixture.must("update t set u = 'B0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11', j = '[]', l = array['y'] where u = 'a0eebc999c0b4ef8bb6d6bb9bd380a11'").await;
        let rows = fixture.must("select id, u::text, j, l[1] from t").await;
        assert_eq!(rows, ["2|b0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11|[]|y"]);
        assert_eq!(fixture.must("describe t").await[1], "u|uuid|t");
    }
}

#[tokio::test]
async fn a_merge_over_vectors_finds_the_living_rows() {
    for fixture in fixtures().await {
        let spec = |mode| WriteSpec::new("gold.m".parse().unwrap(), mode);
        let build = async |sql: &str, mode: WriteMode| {
            let prepared = fixture.engine.prepare(sql, &fixture.session).await.unwrap();
            fixture.engine.write(&prepared, &spec(mode)).await.unwrap()
        };
        let rows = |from: u32, to: u32, state: &str| {
            format!("select v as id, '{state}' as state from generate_series({from}, {to}) as s(v)")
        };
        let merge = || WriteMode::Merge { keys: vec!["id".into()], keeps_all: false };
        build(&rows(0, 999, "old"), WriteMode::Append).await;
        fixture.must("delete from gold.m where id in (5, 6)").await;
        build(&rows(6, 20, "new"), merge()).await;
        build(&rows(15, 25, "newest"), merge()).await;
        let found = fixture.must("select state, count(*), min(id), max(id) from gold.m group by 1 order by 1").await;
        assert_eq!(found, ["new|9|6|14", "newest|11|15|25", "old|979|0|999"]);
        // Most of the table: it is written anew.
        build(&rows(0, 900, "last"), merge()).await;
        let found = fixture.must("select state, count(*) from gold.m group by 1 order by 1").await;
        assert_eq!(found, ["last|901", "old|99"]);
        assert_eq!(fixture.must("select count(*), count(distinct id) from gold.m").await, ["1000|1000"]);
    }
}
