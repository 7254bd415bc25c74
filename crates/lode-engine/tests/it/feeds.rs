//! The change feed: rows that came, went and changed, commit by commit, whether files were marked or written anew.

use lode_core::{KEY, Warehouse as _, WriteMode, WriteSpec};

use crate::fixture::Fixture;

async fn fixtures() -> [Fixture; 2] {
    [Fixture::with_vectors_from(0).await, Fixture::with_vectors_from(u64::MAX).await]
}

async fn feed(fixture: &Fixture, table: &str, from: u32) -> Vec<String> {
    fixture
        .must(&format!(
            "select _commit_version, _change_type, id, name from table_changes('{table}', {from})
             order by 1, id, 2, name"
        ))
        .await
}

#[tokio::test]
async fn each_commit_gives_the_rows_that_it_changed() {
    for fixture in fixtures().await {
        fixture.must("create table t (id bigint, name text, n numeric(5,1))").await;
        fixture.must("insert into t select v, 'n' || v, v + 0 from generate_series(1, 500) as s(v)").await;
        fixture.must("delete from t where id in (7, 9)").await;
        fixture.must("update t set name = 'x' where id = 8").await;
        // The same row again, and one more of it: nothing, and one.
        fixture.must("update t set name = name where id < 100").await;
        fixture.must("insert into t values (1, 'n1', 1), (1, 'n1', 1)").await;
        fixture.must("delete from t where id = 1").await;
        let wanted = [
            "2|delete|7|n7",
            "2|delete|9|n9",
            "3|delete|8|n8",
            "3|insert|8|x",
            "5|insert|1|n1",
            "5|insert|1|n1",
            "6|delete|1|n1",
            "6|delete|1|n1",
            "6|delete|1|n1",
        ];
        assert_eq!(feed(&fixture, "t", 2).await, wanted);
        assert_eq!(fixture.must("select count(*) from table_changes('t', 0)").await, ["509"]);
        assert_eq!(fixture.must("select count(*), min(n) from table_changes('t', 1, 1)").await, ["500|1.0"]);
        assert_eq!(fixture.must("select count(*) from table_changes('t', 4, 4)").await, ["0"]);
        let by_time = "select count(*) from table_changes('t', '2020-01-01')";
        assert_eq!(fixture.must(by_time).await, ["509"]);
        assert!(fixture.error("select * from table_changes('t', 99)").await.contains("no version 99"));
        assert!(fixture.error("select * from table_changes('t')").await.contains("table_changes('schema.table'"));
        // Sums of the changes are the table.
        let sum = "select sum(case _change_type when 'insert' then n else -n end) from table_changes('t', 0)";
        assert_eq!(fixture.must(sum).await, fixture.must("select sum(n) from t").await);
    }
}

#[tokio::test]
async fn in_a_table_with_a_key_changed_rows_are_updates() {
    for fixture in fixtures().await {
        let build = async |sql: &str, mode: WriteMode| {
            let mut spec = WriteSpec::new("gold.m".parse().unwrap(), mode);
            spec.properties.push((KEY.to_owned(), r#"["id"]"#.to_owned()));
            let prepared = fixture.engine.prepare(sql, &fixture.session).await.unwrap();
            fixture.engine.write(&prepared, &spec).await.unwrap();
        };
        let merge = || WriteMode::Merge { keys: vec!["id".into()], keeps_all: false };
        build("select v as id, 'a' as name from generate_series(1, 300) as s(v)", WriteMode::Replace).await;
        build("select * from (values (2, 'b'), (3, 'a'), (900, 'c')) as s(id, name)", merge()).await;
        fixture.must("delete from gold.m where id = 5").await;
        fixture.must("insert into gold.m values (null, 'd')").await;
        fixture.must("update gold.m set name = 'e' where id is null").await;
        let wanted = [
            "1|update_postimage|2|b",
            "1|update_preimage|2|a",
            "1|insert|900|c",
            "2|delete|5|a",
            "3|insert|NULL|d",
            "4|delete|NULL|d",
            "4|insert|NULL|e",
        ];
        assert_eq!(feed(&fixture, "gold.m", 1).await, wanted);
    }
}

#[tokio::test]
async fn values_of_every_type_are_compared() {
    for fixture in fixtures().await {
        fixture.must("create table t (id int, u uuid, at timestamptz, tm time, i interval, j json, b bytea, l text[], f real)").await;
        let row = |id: u32| {
            format!(
                "({id}, 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a1{id}', '2026-01-01 10:00:00+02', '10:11', '1 day', '[{id}]', '\\x01', array['x', null], 'NaN')"
            )
        };
        fixture.must(&format!("insert into t values {}, {}, {}", row(1), row(2), row(3))).await;
        fixture.must("update t set l = array['y'] where id = 2").await;
        let rows = fixture.must("select _change_type, id, l[1], f from table_changes('t', 2) order by 1").await;
        assert_eq!(rows, ["delete|2|x|NaN", "insert|2|y|NaN"]);
    }
}
