use std::io::Write;
use std::process::Stdio;

use super::support::Folder;

const STATEMENT: &str = "select * from (values (1, 'a,b', 1.50::numeric(10,2), timestamp '2024-01-02 03:04:05'), (null, 'é', null, null)) \
                         as t(n, name, price, at) order by n";

#[test]
fn one_statement_in_each_format() {
    let folder = Folder::empty();
    let shown = |format: &str| folder.lode(&["sql", "-c", STATEMENT, "--format", format]).done();
    insta::assert_snapshot!(shown("table"), @r"
        n │ name │ price │ at
    ──────┼──────┼───────┼─────────────────────
        1 │ a,b  │  1.50 │ 2024-01-02 03:04:05
     NULL │ é    │  NULL │ NULL
    (2 rows)
    ");
    insta::assert_snapshot!(shown("csv"), @r#"
    n,name,price,at
    1,"a,b",1.50,2024-01-02 03:04:05
    ,é,,
    "#);
    insta::assert_snapshot!(shown("json"), @r#"
    [
    {"n":1,"name":"a,b","price":1.50,"at":"2024-01-02T03:04:05"},
    {"n":null,"name":"é","price":null,"at":null}
    ]
    "#);
    assert_eq!(shown("ndjson").lines().count(), 2);
}

#[test]
fn a_statement_comes_from_a_file_or_a_pipe() {
    let folder = Folder::with(&[("q.sql", "select 7 as x")]);
    assert_eq!(folder.lode(&["sql", "-f", "q.sql", "--format", "csv"]).done(), "x\n7\n");
    let mut child =
        folder.command(&["sql", "--format", "csv"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"select 8 as x").unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(folder.ended(output).done(), "x\n8\n");
}

#[test]
fn no_statement_is_wrong_use() {
    let ended = Folder::empty().lode(&["sql"]);
    assert_eq!(ended.code, Some(2));
    insta::assert_snapshot!(ended.err, @r#"
    error: there is no statement
      where: lode sql
      fix:   give one: lode sql -c "select 1", lode sql -f FILE, or pipe it in
    "#);
}

#[test]
fn an_error_has_a_caret_a_place_and_a_fix() {
    let ended = Folder::empty().lode(&["sql", "-c", "select 1\nfrom nowhere.at_all"]);
    assert_eq!(ended.code, Some(1));
    insta::assert_snapshot!(ended.err, @r#"
    error: table "nowhere.at_all" does not exist
      where: <sql>:2:6
       2 | from nowhere.at_all
         |      ^
      fix:   `show tables` lists what there is
    "#);
    assert_eq!(ended.out, "");
}

#[test]
fn the_default_schema_comes_from_the_environment() {
    let folder = Folder::empty();
    let ended = folder.lode_with(&[("LODE_SCHEMA", "gold")], &["sql", "-c", "select 1 from t"]);
    assert!(ended.err.contains("t\" does not exist"), "{}", ended.err);
    let ended = folder.lode_with(&[("LODE_SCHEMA", "../x")], &["sql", "-c", "select 1"]);
    assert_eq!(ended.code, Some(2));
    insta::assert_snapshot!(ended.err, @r#"
    error: "../x" is not a schema name
      where: LODE_SCHEMA
      fix:   use letters, digits and `_`, not starting with `_`
    "#);
}

#[test]
fn the_table_of_an_ingest_is_not_dropped() {
    let config = "ingest:\n  - name: a\n    files: {path: landing}\n    format: csv\n    table: bronze.a\n";
    let folder = Folder::with(&[("lode.yml", config), ("landing/a.csv", "id,v\n1,x\n")]);
    folder.lode(&["ingest"]).done();
    let refused = folder.lode(&["sql", "-c", "drop table bronze.a"]);
    assert_eq!(refused.code, Some(1), "{}", refused.err);
    assert!(
        refused.err.starts_with("error: \"bronze.a\" belongs to the ingest \"a\", which knows its files as landed\n  fix:   to land the files anew,"),
        "{}",
        refused.err
    );
    assert_eq!(folder.lode(&["sql", "-c", "select id from bronze.a", "--format", "csv"]).done(), "id\n1\n");
    folder.lode(&["sql", "-c", "create table b as select 1 as x; drop table b"]).done();
    // As the fix says, when its ingest is gone.
    folder.lode(&["sql", "-c", "drop table bronze.a cascade"]).done();
    assert_ne!(folder.lode(&["sql", "-c", "select id from bronze.a"]).code, Some(0));
}
