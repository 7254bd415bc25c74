//! Every type of a table: written by literals, read, compared, copied, and refused where a value is none of it.

use lode_core::{Warehouse as _, WriteMode, WriteSpec};

use crate::fixture::Fixture;

/// Columns with a value, and how it reads as text.
const VALUES: &[(&str, &str, &str)] = &[
    ("smallint", "-7", "-7"),
    ("bigint", "9223372036854775807", "9223372036854775807"),
    ("real", "1.5", "1.5"),
    ("double precision", "'1e20'", "1e+20"),
    ("numeric(6,2)", "12.345", "12.35"),
    ("text", "'ä'", "ä"),
    ("varchar(3)", "'abc'", "abc"),
    ("char(4)", "'ab'", "ab"),
    ("bytea", "'\\x00Ff'", "\\x00ff"),
    ("boolean", "true", "true"),
    ("date", "'2026-02-28'", "2026-02-28"),
    ("timestamp", "'2026-02-28 10:00:00.123456'", "2026-02-28 10:00:00.123456"),
    ("timestamptz", "'2026-02-28 10:00:00+02'", "2026-02-28 08:00:00+00"),
    ("time", "'10:11:12.5'", "10:11:12.5"),
    ("interval", "'1 day 02:00:00'", "1 day 02:00:00"),
    ("uuid", "'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"),
    ("json", "'{\"a\": [1, null]}'", "{\"a\": [1, null]}"),
];

#[tokio::test]
async fn a_value_of_each_type_comes_back_as_what_it_was() {
    for (sql_type, literal, text) in VALUES {
        let fixture = Fixture::new().await;
        fixture.must(&format!("create table t (id int, x {sql_type})")).await;
        fixture.must(&format!("insert into t values (1, {literal}), (2, null)")).await;
        fixture.must("create table copy as select * from t").await;
        fixture.must("insert into copy select * from t where id = 2; insert into copy (x, id) select x, 3 from t where id < 0").await;
        fixture.must(&format!("insert into copy (x, id) select {literal}, 4; delete from copy where id = 4")).await;
        fixture.must("delete from copy where id = 2; insert into copy select * from t where id = 2").await;
        let spec = WriteSpec::new("gold.copy".parse().unwrap(), WriteMode::Append);
        let prepared = fixture.engine.prepare("select * from t", &fixture.session).await.unwrap();
        fixture.engine.write(&prepared, &spec).await.unwrap();
        for table in ["t", "copy", "gold.copy"] {
            let described = fixture.must(&format!("describe {table}")).await;
            assert_eq!(described[1], format!("x|{sql_type}|t"), "{table}");
            let rows = fixture.must(&format!("select cast(x as text) from {table} order by id")).await;
            assert_eq!(rows, [*text, "NULL"], "{table} {sql_type}");
            for filter in ["x = {}", "x in ({})", "x <= {}", "not x <> {}"] {
                // Json has no order, and the numeric literal is rounded as it is written.
                let literal = if *sql_type == "numeric(6,2)" { "12.35" } else { literal };
                if *sql_type != "json" && !(*sql_type == "interval" && filter.contains(" in ")) {
                    let filter = filter.replace("{}", literal);
                    let rows = fixture.must(&format!("select id from {table} where {filter}")).await;
                    assert_eq!(rows, ["1"], "{table} {sql_type} {filter}");
                }
            }
            let rows = fixture.must(&format!("select count(distinct x), count(x), count(*) from {table}")).await;
            assert_eq!(rows, ["1|1|2"], "{table} {sql_type}");
        }
        // A key of this type finds its row.
        if *sql_type != "json" {
            let merge = WriteSpec::new(
                "gold.copy".parse().unwrap(),
                WriteMode::Merge { keys: vec!["x".into()], keeps_all: false },
            );
            let prepared =
                fixture.engine.prepare("select 9 as id, x from t where id = 1", &fixture.session).await.unwrap();
            fixture.engine.write(&prepared, &merge).await.unwrap();
            assert_eq!(fixture.must("select id from gold.copy order by id").await, ["2", "9"], "{sql_type}");
        }
    }
}

#[tokio::test]
async fn lists_and_maps_are_written_and_read() {
    let fixture = Fixture::new().await;
    fixture.must("create table t (id int, a int[], b text[])").await;
    fixture.must("insert into t values (1, array[1, 2], array['x', null]), (2, array[]::int[], null)").await;
    fixture.must("insert into t select id + 2, a, b from t union all select 9, array[7], array['y']").await;
    let rows = fixture.must("select id, a[1], b[1], cardinality(a) from t order by id").await;
    assert_eq!(rows, ["1|1|x|2", "2|NULL|NULL|0", "3|1|x|2", "4|NULL|NULL|0", "9|7|y|1"]);
    fixture.must("create table m as select 1 as id, map(['a', 'b'], [1, 2]) as m").await;
    assert_eq!(fixture.must("select m['a'], m['b'], m['c'] from m").await, ["1|2|NULL"]);
}

#[tokio::test]
async fn what_is_no_value_of_a_type_is_refused() {
    let fixture = Fixture::new().await;
    fixture.must("create table t (u uuid, j json, b bytea, v varchar(2), x time)").await;
    for (column, cast, literal, wanted) in [
        ("u", "uuid", "'abc'", "\"abc\" is not a uuid"),
        ("j", "json", "'{a'", "json"),
        ("b", "bytea", "'\\x1'", "is no bytea"),
        ("v", "numeric(2,1)", "'abc'", "varchar(2)"),
        ("x", "time", "'25:00'", "25:00"),
    ] {
        let error = fixture.error(&format!("insert into t ({column}) values ({literal})")).await;
        assert!(error.contains(wanted) && error.contains("fix:"), "{column}: {error}");
        let error = fixture.error(&format!("select {literal}::{cast}")).await;
        assert!(error.contains("fix:"), "{column}: {error}");
    }
    let error = fixture.error("select * from t where u = 'abc'").await;
    assert!(error.contains("is not a uuid") || error.contains("uuid"), "{error}");
    assert_eq!(fixture.must("select count(*) from t").await, ["0"]);
    let made = fixture
        .must("create table ids as select 'A0EEBC999C0B4EF8BB6D6BB9BD380A11'::uuid as id, '[1]'::json as j")
        .await;
    assert_eq!(made.len(), 1);
    assert_eq!(fixture.must("describe ids").await, ["id|uuid|t", "j|json|t"]);
}

#[tokio::test]
async fn distinct_pairs_are_counted_in_little_memory() {
    let fixture = Fixture::with_memory(Some(64 << 20)).await;
    let sql = "select count(*), count(distinct (a, b)), count(distinct (b, null)) \
               from (select v as a, v % 10 as b from generate_series(1, 200000) as s(v)) as t";
    assert_eq!(fixture.must(sql).await, ["200000|200000|10"]);
}

#[tokio::test]
async fn uuids_are_compared_as_uuids_or_not_at_all() {
    let fixture = Fixture::new().await;
    fixture.must("create table u (id uuid, n int); create table t (id text, m int)").await;
    let (one, two) = ("A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11", "b0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11");
    fixture.must(&format!("insert into u values ('{one}', 1), ('{two}', 2), (null, 3)")).await;
    fixture.must(&format!("insert into t values ('{one}', 10), ('{two}', 20)")).await;
    for (filter, wanted) in [
        ("id = 'UP'", "1"),
        ("'UP' = id", "1"),
        ("id between 'UP' and 'UP'", "1"),
        ("id not between 'UP' and 'UP'", "2"),
        ("id in ('UP', 'a0eebc999c0b4ef8bb6d6bb9bd380a11')", "1"),
        ("id not in ('UP')", "2"),
        ("not id <> 'UP'", "1"),
        ("case id when 'UP' then true else false end", "1"),
        ("coalesce(id, 'UP') = 'UP'", "1,3"),
        ("nullif(id, 'UP') is null", "1,3"),
        ("(case when n = 1 then id end) = 'UP'", "1"),
        ("id::text = 'UP'", ""),
        ("id::text = lower('UP')", "1"),
        ("id::text not in ('UP')", "1,2"),
        ("id is distinct from 'UP'", "2,3"),
        ("id in (select id from u where n = 1)", "1"),
        ("id = (select id from u where n = 1)", "1"),
        ("id > 'UP'", "2"),
        ("'UP' in (id)", "1"),
    ] {
        let filter = filter.replace("UP", one);
        let rows = fixture.must(&format!("select n from u where {filter} order by n")).await;
        assert_eq!(rows.join(","), wanted, "{filter}");
    }
    let rows = fixture.must("select u.n, t.m from u join t on u.id::text = t.id order by 1").await;
    assert_eq!(rows, ["2|20"]);
    // Text and uuid have no common type: nothing is compared by its spelling.
    for sql in [
        "select 1 from u join t on u.id = t.id",
        "select 1 from u join t using (id)",
        "select 1 from u where id in (select id from t)",
        "select 1 from u where id = any(array['UP'])",
        "select id from u union select id from t",
        "select coalesce(u.id, t.id) from u, t",
        "select 1 from u where id = n::text",
        "select u.id::bytea from u",
        "select 5::bytea",
        "select length('abc'::bytea)",
        "select '{}'::json = '{}'::json",
    ] {
        let sql = sql.replace("UP", one);
        let error = fixture.error(&sql).await;
        assert!(!error.contains("bug") && error.contains("fix:"), "{sql}: {error}");
    }
    let error = fixture.error("select 1 from u join t on u.id = t.id").await;
    assert!(error.contains("no uuid = text"), "{error}");
    // Names of columns outlive their casts.
    let named =
        "create table named as select id::uuid, n::bigint, n::text as nt, '{}'::json as j, id::text as s from u";
    fixture.must(named).await;
    assert_eq!(fixture.must("describe named").await, ["id|uuid|t", "n|bigint|t", "nt|text|t", "j|json|t", "s|text|t"]);
    assert_eq!(fixture.must("select try_cast('x' as uuid) is null, try_cast('{' as json) is null").await, ["t|t"]);
    fixture.must(&format!("create table checked (k uuid check (k <> '{one}'))")).await;
    let error = fixture.error(&format!("insert into checked values (lower('{one}'))")).await;
    assert!(error.contains("does not hold"), "{error}");
    fixture.must(&format!("insert into checked values ('{two}')")).await;
}

#[tokio::test]
async fn json_is_compared_as_the_text_that_it_is_cast_to() {
    let fixture = Fixture::new().await;
    fixture.must("create table t (j json, b jsonb); insert into t values ('{\"a\": 1}', '[1]')").await;
    assert_eq!(fixture.must("select count(*) from t where j::text = '{\"a\": 1}' and b::text in ('[1]')").await, ["1"]);
    fixture.must("create table copy as select j, b, j::text as s, '[2]'::jsonb as c, b::json as d from t").await;
    let described = fixture.must("describe copy").await;
    assert_eq!(described, ["j|json|t", "b|jsonb|t", "s|text|t", "c|jsonb|t", "d|json|t"]);
    let error = fixture.error("select 1 from t where j = '{}'").await;
    assert!(error.contains("compare their text"), "{error}");
}

#[tokio::test]
async fn times_and_intervals_are_read_as_postgres_does_or_refused() {
    let fixture = Fixture::new().await;
    for (sql, wanted) in [
        ("'1'::interval::text", "00:00:01"),
        ("'-2.5'::interval::text", "-00:00:02.5"),
        ("interval '5'::text", "00:00:05"),
        ("interval '-00:00:00.5'::text", "-00:00:00.5"),
        ("interval '1 mon -30:00:00.25'::text", "1 mon -30:00:00.25"),
        ("'1 day 3'::interval::text", "1 day 00:00:03"),
        ("interval '24:00' between '1 day' and '1 day'", "t"),
        ("interval '24:00' in ('1 day')", "t"),
        ("' 10:00 '::time::text", "10:00:00"),
        ("'1:2:3'::time::text", "01:02:03"),
        ("'23:59:59.999999'::time::text", "23:59:59.999999"),
    ] {
        assert_eq!(fixture.must(&format!("select {sql}")).await, [wanted], "{sql}");
    }
    for sql in [
        "'101112'::time",
        "'5'::time",
        "'10:60'::time",
        "'10:00'::time(0)",
        "interval '10:70:00'",
        "'25:00:61'::interval",
    ] {
        let error = fixture.error(&format!("select {sql}")).await;
        assert!(error.contains("fix:"), "{sql}: {error}");
    }
}
