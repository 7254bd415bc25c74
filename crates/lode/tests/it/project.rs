//! From files to a gold row, and what is told about it.

use super::support::Folder;

#[test]
fn the_template_gives_a_gold_row() {
    let folder = Folder::template();
    folder.lode(&["ingest"]).done();
    folder.lode(&["build"]).done();
    let rows = folder.lode(&["sql", "-c", "select * from gold.revenue_by_day order by day", "--format", "csv"]).done();
    insta::assert_snapshot!(rows, @r"
    day,orders,revenue
    2026-01-05,2,24.90
    2026-01-06,2,55.25
    ");
}

#[test]
fn the_status_accounts_for_every_row() {
    let folder = Folder::template();
    folder.lode(&["ingest"]).done();
    let status: serde_json::Value = serde_json::from_str(&folder.lode(&["status", "--format", "json"]).done()).unwrap();
    let source = &status["sources"][0];
    assert_eq!(
        (&source["rows_in"], &source["rows_landed"], &source["rows_quarantined"]),
        (&5.into(), &4.into(), &1.into())
    );
    assert_eq!(source["is_whole"], true);
    let text = folder.lode(&["status"]).done();
    assert!(text.contains("orders │ bronze.orders"), "{text}");
    assert!(text.contains('✓'), "{text}");
    folder.lode(&["doctor"]).done();
}

#[test]
fn the_quarantine_shows_the_record_as_received() {
    let folder = Folder::template();
    folder.lode(&["ingest"]).done();
    let list = folder.lode(&["quarantine", "list", "--format", "csv"]).done();
    assert!(list.contains("bronze.orders,expectation,amount_is_positive"), "{list}");
    let rows = folder.lode(&["quarantine", "show", "bronze.orders", "--format", "json"]).done();
    let rows: serde_json::Value = serde_json::from_str(&rows).unwrap();
    assert_eq!(rows[0]["_raw"], "3,Linus,2026-01-05T17:05:00Z,-3.00");
    assert_eq!(rows[0]["_line"], 4);
}

#[test]
fn progress_in_a_pipe_is_plain_lines() {
    let folder = Folder::template();
    folder.lode(&["ingest"]).done();
    let ended = folder.lode(&["build"]);
    assert!(ended.err.contains("1 of 3 START sql table model gold.revenue_by_day ."), "{}", ended.err);
    assert!(ended.err.contains("Done. PASS=3 WARN=0 ERROR=0 SKIP=0 NO-OP=0 TOTAL=3"), "{}", ended.err);
    assert!(!ended.err.contains('\x1b'), "{}", ended.err);
    assert_eq!(ended.out, "");
}
