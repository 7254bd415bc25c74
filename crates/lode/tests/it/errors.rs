//! Wrong projects and wrong settings: what, where, and how to fix it.

use super::support::Folder;

#[test]
fn a_mistyped_key_of_the_config() {
    let folder = Folder::with(&[("lode.yml", "ingest:\n  - name: a\n    files: {path: x}\n    tabel: bronze.a\n")]);
    let ended = folder.lode(&["ingest"]);
    assert_eq!(ended.code, Some(2));
    insta::assert_snapshot!(ended.err, @r#"
    error: unknown key "tabel"
      where: lode.yml:4:5
       4 |     tabel: bronze.a
         |     ^
      fix:   did you mean "table"?
    "#);
}

#[test]
fn a_lake_whose_location_is_none_is_refused() {
    let folder = Folder::with(&[("lode.yml", "lake: {path: \"abfss://x@y/z\"}\n")]);
    let ended = folder.lode(&["sql", "-c", "select 1"]);
    insta::assert_snapshot!(ended.err, @r#"
    error: could not open store "abfss://x@y/z": the host is not that of a storage account
      where: abfss://x@y/z
             lode.yml:1:14
       1 | lake: {path: "abfss://x@y/z"}
         |              ^
      fix:   write abfss://container@account.dfs.core.windows.net/prefix
    "#);
    assert_eq!(ended.code, Some(2));
}

#[test]
fn a_project_folder_that_is_not_there() {
    let ended = Folder::empty().lode(&["status", "--project-dir", "nowhere"]);
    assert_eq!(ended.code, Some(2));
    insta::assert_snapshot!(ended.err, @r#"
    error: project folder "<dir>/nowhere" does not exist
      where: --project-dir
      fix:   give an existing folder, or make one with `lode init DIR`
    "#);
}

#[test]
fn models_without_a_project() {
    let ended = Folder::empty().lode(&["build"]);
    assert_eq!(ended.code, Some(2));
    insta::assert_snapshot!(ended.err, @r"
    error: no dbt_project.yml here or in a folder above
      where: <dir>
      fix:   go to a project, give one with `--project-dir`, or make one with `lode init DIR`
    ");
}

#[test]
fn a_data_folder_that_cannot_be_made() {
    let folder = Folder::with(&[("file", "")]);
    let ended = folder.lode_with(&[("LODE_DATA_DIR", "file/data")], &["status"]);
    assert_eq!(ended.code, Some(3));
    assert!(
        ended.err.starts_with("error: the data folder \"<dir>/file/data\" cannot be made: Not a directory"),
        "{}",
        ended.err
    );
    assert!(ended.err.contains("fix:   set LODE_DATA_DIR"), "{}", ended.err);
}

#[test]
fn an_unknown_variable_is_named() {
    let ended = Folder::empty().lode_with(&[("LODE_DATADIR", "x")], &["status"]);
    assert!(ended.err.contains("LODE_DATADIR is not known"), "{}", ended.err);
    assert_eq!(ended.code, Some(0));
}

#[test]
fn an_unknown_table_names_the_near_one() {
    let ended = Folder::empty().lode(&["table", "history", "gold.x"]);
    assert_eq!(ended.code, Some(1));
    insta::assert_snapshot!(ended.err, @r#"
    error: table "gold.x" does not exist
      fix:   there are no tables yet: run `lode ingest` or `lode build`
    "#);
}

#[test]
fn a_folder_that_is_taken_is_not_overwritten() {
    let folder = Folder::with(&[("shop/file", "mine")]);
    let ended = folder.lode(&["init", "shop"]);
    assert_eq!(ended.code, Some(1));
    assert!(ended.err.contains("\"shop\" is there already and not empty"), "{}", ended.err);
}
