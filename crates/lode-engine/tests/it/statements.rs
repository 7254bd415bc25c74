//! Statements of `lode sql`.

use lode_core::Warehouse as _;

use crate::fixture::Fixture;

#[tokio::test]
async fn a_table_is_made_filled_read_and_dropped() {
    let fixture = Fixture::new().await;
    let made = fixture.must("create table cars (vin text not null, km bigint, price numeric(10,2))").await;
    assert_eq!(made, ["CREATE TABLE"]);
    assert_eq!(fixture.must("select * from cars").await, [] as [&str; 0]);
    let inserted = fixture.must("insert into cars values ('a', 10, 1.5), ('b', null, 2)").await;
    assert_eq!(inserted, ["INSERT 0 2"]);
    fixture.must("insert into cars (km, vin) select km + 1, vin || 'x' from cars").await;
    let rows = fixture.must("select vin, km, price from public.cars order by vin").await;
    assert_eq!(rows, ["a|10|1.50", "ax|11|NULL", "b|NULL|2.00", "bx|NULL|NULL"]);
    assert_eq!(fixture.must("select count(*), sum(km) from lode.public.cars").await, ["4|21"]);
    assert_eq!(fixture.must("drop table cars").await, ["DROP TABLE"]);
    assert!(fixture.error("select * from cars").await.starts_with("error: table \"public.cars\" does not exist"));
    assert_eq!(fixture.must("drop table if exists cars").await, ["DROP TABLE"]);
    // The files of the dropped table still lie there.
    fixture.must("create table cars as select 7 as km").await;
    assert_eq!(fixture.must("select * from cars").await, ["7"]);
}

#[tokio::test]
async fn filters_and_partitions_of_many_files_give_the_same_rows() {
    let fixture = Fixture::new().await;
    fixture.must("create table t (id bigint, day date, name text, ok boolean, at timestamp, x double precision)").await;
    for file in 0..4 {
        let from = file * 100;
        fixture
            .must(&format!(
                "insert into t select v, date '2026-01-01' + (v / 100)::int, 'n' || v, v % 2 = 0,
                        timestamp '2026-01-01 00:00:00' + interval '1 second' * v, v / 2.0::float8
                 from generate_series({from}, {}) as s(v)",
                from + 99
            ))
            .await;
    }
    for (filter, wanted) in [
        ("id = 250", "1"),
        ("id between 199 and 201", "3"),
        ("day = date '2026-01-03'", "100"),
        ("day > date '2026-01-03' and ok", "50"),
        ("name = 'n399'", "1"),
        ("name like 'n39%'", "11"),
        ("at >= timestamp '2026-01-01 00:05:00'", "100"),
        ("x < 1.0", "2"),
        ("id is null", "0"),
        ("id in (1, 150, 1000)", "2"),
        ("id > (select avg(id) from t)", "200"),
    ] {
        let rows = fixture.must(&format!("select count(*) from t where {filter}")).await;
        assert_eq!(rows, [wanted], "{filter}");
    }
    assert_eq!(fixture.must("select min(id), max(id), min(day), max(name) from t").await, ["0|399|2026-01-01|n99"]);
}

#[tokio::test]
async fn constraints_hold_on_every_insert() {
    let fixture = Fixture::new().await;
    fixture.must("create table t (id bigint not null, km bigint check (km >= 0), check (km < id * 100))").await;
    let error = fixture.error("insert into t values (1, 5), (2, -3), (3, 1000)").await;
    assert!(error.contains("nothing was written"), "{error}");
    assert!(error.contains("km < id * 100 does not hold: id = 3, km = 1000"), "{error}");
    assert!(error.contains("km >= 0 does not hold: km = -3"), "{error}");
    let error = fixture.error("insert into t (km) values (5)").await;
    assert!(error.contains("id"), "{error}");
    fixture.must("create table short (code varchar(3)); insert into short values ('abc')").await;
    let error = fixture.error("insert into short values ('abcd')").await;
    assert!(error.contains("break check \"code varchar(3)\""), "{error}");
    fixture.must("insert into t values (1, null)").await;
    assert_eq!(fixture.must("select count(*) from t").await, ["1"]);
}

#[tokio::test]
async fn views_are_planned_from_their_text_and_may_stand_on_views() {
    let fixture = Fixture::new().await;
    fixture.must("create table t as select v as id from generate_series(1, 10) as s(v)").await;
    fixture
        .must("create view big as select id from t where id > 5; create view bigger as select * from big where id > 8")
        .await;
    assert_eq!(fixture.must("select id from bigger order by 1").await, ["9", "10"]);
    let error = fixture.error("create or replace view big as select * from bigger").await;
    assert!(error.starts_with("error: view \"public.big\" would stand on itself"), "{error}");
    let error = fixture.error("drop table t").await;
    assert!(error.contains("stands on \"public.t\""), "{error}");
    assert!(fixture.error("create view big as select 1").await.contains("already there"));
    fixture.must("create or replace view big as select id from t where id > 9").await;
    assert_eq!(fixture.must("select id from bigger").await, ["10"]);
    fixture.must("drop view big cascade").await;
    assert_eq!(fixture.must("show tables").await, ["public|t|table"]);
}

#[tokio::test]
async fn show_and_describe_tell_what_there_is() {
    let fixture = Fixture::new().await;
    fixture.must("create table gold.trips (vin varchar(17) not null, km numeric(8,1), at timestamptz, raw json)").await;
    fixture.must("create view gold.v as select vin, count(*) as n from gold.trips group by vin").await;
    assert_eq!(fixture.must("show schemas").await, ["gold", "public"]);
    assert_eq!(fixture.must("show tables").await, ["gold|trips|table", "gold|v|view"]);
    let wanted = ["vin|varchar(17)|f", "km|numeric(8,1)|t", "at|timestamptz|t", "raw|json|t"];
    assert_eq!(fixture.must("show columns from gold.trips").await, wanted);
    assert_eq!(fixture.must("describe gold.v").await[1], "n|bigint|t");
    let explained = fixture.must("explain select vin from gold.trips where km > 3").await;
    assert!(explained.join("\n").contains("TableScan"), "{explained:?}");
}

#[tokio::test]
async fn the_past_of_a_table_can_be_asked() {
    let fixture = Fixture::new().await;
    fixture.must("create table t (id bigint); insert into t values (1); insert into t values (2), (3)").await;
    assert_eq!(fixture.must("select count(*) from table_at('t', 1)").await, ["1"]);
    assert_eq!(fixture.must("select count(*) from table_at('public.t', 2) as past where id > 1").await, ["2"]);
    let history = fixture.must("select version, operation, rows_added from table_history('t') order by version").await;
    assert_eq!(history.len(), 3, "{history:?}");
    assert!(history[2].starts_with("2|"), "{history:?}");
    assert_eq!(fixture.must("select sum(rows) from table_files('t')").await, ["3"]);
    let error = fixture.error("select * from table_at('t', '2020-01-01')").await;
    assert!(error.starts_with("error: table \"public.t\" has no version as old as 2020-01-01"), "{error}");
    let error = fixture.error("select * from table_at('t', 99)").await;
    assert!(error.starts_with("error: table \"public.t\" has no version 99"), "{error}");
}

#[tokio::test]
async fn a_script_stops_at_its_first_error_and_keeps_what_ran() {
    let fixture = Fixture::new().await;
    let error =
        fixture.error("create table a as select 1 as x; select nope from a; create table b as select 2 as y").await;
    assert!(error.contains("column \"nope\" does not exist"), "{error}");
    assert_eq!(fixture.must("show tables").await, ["public|a|table"]);
}

#[tokio::test]
async fn lengths_and_digits_of_types_are_kept_or_refused() {
    let fixture = Fixture::new().await;
    fixture.must("create view v as select 'abcdef'::varchar(3) as a, 'abc'::char(2) as b").await;
    assert_eq!(fixture.must("select * from v").await, ["abc|ab"]);
    let error = fixture.error("create table t (at timestamp(3))").await;
    assert!(error.contains("`timestamp(3)` is not supported"), "{error}");
    fixture.must("create table t (at timestamp(6))").await;
}

#[tokio::test]
async fn a_view_over_a_table_function_reads_where_it_was_defined() {
    let mut fixture = Fixture::new().await;
    fixture.must("create table t as select 1 as id; insert into t values (2)").await;
    fixture.must("create view first as select id from table_at('t', 0)").await;
    fixture.must("create view steps as select h.version from table_history('t') as h join first on true").await;
    assert_eq!(fixture.must("select * from first").await, ["1"]);
    fixture.session.default_schema = "other".into();
    fixture.must("create table other.t as select 5 as id").await;
    let both = "select a.id, b.id from public.first a, table_at('t', 0) b";
    assert_eq!(fixture.must(both).await, ["1|5"]);
    assert_eq!(fixture.must("select version from public.steps order by 1").await, ["0", "1"]);
    let prepared = fixture.engine.prepare("select * from public.first", &fixture.session).await.unwrap();
    assert!(prepared.is_volatile);
}

#[tokio::test]
async fn what_is_rewritten_before_planning_can_stand_in_a_view() {
    let fixture = Fixture::new().await;
    fixture.must("create table a (id bigint, v text)").await;
    fixture.must("create table b (id bigint, w text)").await;
    fixture.must("insert into a values (1, 'x'), (2, 'y')").await;
    fixture.must("insert into b values (2, 'p'), (3, 'q')").await;
    fixture.must("create view most as select id from b where id >= all (select id from b)").await;
    assert_eq!(fixture.must("select * from most").await, ["3"]);
    fixture.must("create view both as select id, v, w from a full join b using (id)").await;
    assert_eq!(fixture.must("select * from both order by id").await, ["1|x|NULL", "2|y|p", "3|NULL|q"]);
    for refused in [
        "select * from a full join b using (id)",
        "select id from a natural full join b",
        "select id from (a full join b using (id))",
        "select v from a full join b using (id) where exists (select 1 from a as c where c.id = id)",
    ] {
        let error = fixture.error(refused).await;
        assert!(error.contains(" is not supported\n  fix:   write the condition out"), "{refused}: {error}");
    }
}
