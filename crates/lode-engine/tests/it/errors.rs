//! Errors as a user reads them: what, where, how to fix.

use crate::fixture::Fixture;

#[tokio::test]
async fn the_commonest_mistakes_have_sentences_places_and_fixes() {
    let fixture = Fixture::new().await;
    fixture.must("create table trips as select 'a' as vin, 1.5::float8 as speed_kmh, 3 as km").await;
    for (sql, wanted) in [
        (
            "select spead_kmh\nfrom trips",
            "error: column \"spead_kmh\" does not exist\n  where: <sql>:1:8\n   1 | select spead_kmh\n     |        ^\n  fix:   did you mean \"speed_kmh\"?",
        ),
        (
            "select *\nfrom tripz",
            "error: table \"public.tripz\" does not exist\n  where: <sql>:2:6\n   2 | from tripz\n     |      ^\n  fix:   did you mean \"public.trips\"?",
        ),
        (
            "select uper(vin) from trips",
            "error: function uper() does not exist\n  where: <sql>:1:8\n   1 | select uper(vin) from trips\n     |        ^\n  fix:   did you mean upper()?",
        ),
        (
            "select vin from trips where",
            "error: syntax error: the statement ends where an expression is expected\n  where: <sql>:1:28\n   1 | select vin from trips where\n     |                            ^\n  fix:   correct the statement at the mark; the dialect is PostgreSQL's",
        ),
        (
            "select vin, count(*) from trips",
            "error: \"trips.vin\" is neither grouped nor aggregated\n  where: <sql>:1:8\n   1 | select vin, count(*) from trips\n     |        ^\n  fix:   add it to `group by`, or aggregate it: `max(trips.vin)`",
        ),
        (
            "select a.km from trips a join trips b on vin = b.vin",
            "error: column \"vin\" is in more than one table\n  where: <sql>:1:42\n   1 | select a.km from trips a join trips b on vin = b.vin\n     |                                          ^\n  fix:   write the table before it, as in \"t.vin\"",
        ),
        ("select km / 0 from trips", "error: division by zero\n  fix:   guard the divisor: `a / nullif(b, 0)`"),
        (
            "select vin::int from trips",
            "error: \"a\" is no integer\n  fix:   clean the value first, or use `try_cast(x as integer)`, which gives NULL instead",
        ),
        (
            "truncate trips",
            "error: `truncate trips` is not supported\n  where: <sql>:1:1\n   1 | truncate trips\n     | ^\n  fix:   these work: select, explain, show tables | schemas | columns, describe, create table | view, drop, insert, update, delete, merge",
        ),
    ] {
        assert_eq!(fixture.error(sql).await, wanted, "{sql}");
    }
}

#[tokio::test]
async fn no_word_of_the_planner_reaches_the_user() {
    let fixture = Fixture::new().await;
    fixture.must("create table t as select 1 as id, 'x' as name, true as flag, date '2026-01-01' as day").await;
    for sql in [
        "select id + flag from t",
        "select name + 1 from t",
        "select day * 2 from t",
        "select id from t where name",
        "select id from t union select id, name from t",
        "select sum(name) from t",
        "select abs(name) from t",
        "select t.nope from t",
        "select x.id from t",
        "select id from t group by name",
        "select id from t where sum(id) > 1",
        "select id from t order by nope",
        "select id from t limit 'a'",
        "select * from t where id = (select id, name from t)",
        "select cast(id as strange) from t",
        "selec 1",
        "select 1 from",
        "select 'abc",
        "insert into t values (1)",
        "insert into t (nope) values (1)",
        "create table t (id bigint)",
        "create table u (id wrong_type)",
        "select id, id from (select id, id from t) as x",
    ] {
        let error = fixture.error(sql).await;
        for word in
            ["DataFusion", "Arrow", "Schema error", "Error during planning", "Utf8", "Int64", "LogicalPlan", "UDF"]
        {
            assert!(!error.contains(word), "{sql} says {word}:\n{error}");
        }
        assert!(error.contains("fix:"), "{sql} has no fix:\n{error}");
        println!("{sql}\n{error}\n");
    }
}
