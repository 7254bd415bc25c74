//! `lode demo` as a newcomer meets it, with a fleet that is small enough for a test.

use super::support::Folder;

const SMALL: [&str; 6] = ["demo", "fleet", "--cars", "6", "--days", "2"];

#[test]
fn one_command_gives_gold_and_a_second_one_changes_nothing() {
    let folder = Folder::empty();
    let first = folder.lode(&SMALL);
    assert!(first.err.contains("done in") && first.err.contains("next:"), "{}", first.err);
    let shown = first.done();
    for part in ["sum of the landing", ": holds", "gold.energy_per_km_by_temperature", "rejected rows by rule"] {
        assert!(shown.contains(part), "{part} is missing:\n{shown}");
    }

    let ask = |sql: &str| folder.lode(&["--project-dir", "fleet", "sql", "--format", "csv", "-c", sql]).done();
    let gold = "select vin, trip_no, started_at, km, kwh from gold.trips order by vin, trip_no";
    let trips = ask(gold);
    assert!(trips.lines().count() > 10, "{trips}");
    let counts =
        "select (select count(*) from bronze.telemetry) as bronze, (select count(*) from silver.telemetry) as silver";
    let before = ask(counts);

    let second = folder.lode(&SMALL);
    assert!(second.err.contains("going on with fleet"), "{}", second.err);
    second.done();
    assert_eq!(ask(gold), trips);
    assert_eq!(ask(counts), before);
}

#[test]
fn a_file_that_lands_twice_under_two_names_counts_once_in_silver() {
    let folder = Folder::empty();
    folder.lode(&SMALL).done();
    let lode = |args: &[&str]| folder.lode(&[&["--project-dir", "fleet"], args].concat()).done();
    let ask = |sql: &str| lode(&["sql", "--format", "csv", "-c", sql]);
    let silver =
        "select count(*) as n, sum(seq) as s, min(measured_at) as a, max(measured_at) as b from silver.telemetry";
    let (before, in_bronze) = (ask(silver), ask("select count(*) as n from bronze.telemetry"));
    let landing = folder.path().join("fleet/landing/telemetry");
    std::fs::copy(landing.join("2026-03-02-06.ndjson"), landing.join("again.ndjson")).unwrap();
    lode(&["ingest"]);
    assert_ne!(ask("select count(*) as n from bronze.telemetry"), in_bronze);
    lode(&["build"]);
    assert_eq!(ask(silver), before);
}

#[test]
fn edited_files_are_not_written_over() {
    let folder = Folder::empty();
    folder.lode(&SMALL).done();
    folder.write("fleet/models/gold/trips.sql", "select 1 as mine");
    let refused = folder.lode(&SMALL);
    assert_eq!(refused.code, Some(1));
    insta::assert_snapshot!(refused.err, @r"
    error: one file of the demo was edited since it was made
      where: <dir>/fleet/models/gold/trips.sql
      fix:   to use the edits, run `lode build` in that folder, or give `--keep`; `--force` puts the demo's own files back
    ");
    folder.lode(&[&SMALL[..], &["--force"]].concat()).done();
    let model = std::fs::read_to_string(folder.path().join("fleet/models/gold/trips.sql")).unwrap();
    assert!(model.contains("trip_gap_minutes"));
}
