use super::*;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct LodeConfig {
    ingest: Vec<IngestConfig>,
}

fn read(text: &str) -> Result<Vec<Ingest>, Problem> {
    let config: LodeConfig = config::parse(text, "lode.yml")?;
    resolve_ingests(&config.ingest, text, "lode.yml", &config::Environment::default())
}

fn problem(text: &str) -> String {
    read(text).unwrap_err().render()
}

#[test]
fn every_key_of_a_file_ingest_is_read() {
    let text = r#"
ingest:
  - name: orders
    renamed_from: old_orders
    files: {path: landing/orders, pattern: "*.csv"}
    format: csv
    table: bronze.orders
    columns: {id: bigint not null, note: text, amount: "numeric(10,2)"}
    contract:
      expectations:
        - {name: positive, expect: amount > 0, on_violation: drop}
    commit_interval: 500ms
    poll_interval: 2s
    timezone: Europe/Berlin
    on_malformed: fail
    on_schema_change: append_new_columns
    on_change: land
    max_reject_share: 0.25
    expose: [delta]
"#;
    let ingests = read(text).unwrap();
    let ingest = &ingests[0];
    assert_eq!(ingest.table, TableName::new("bronze", "orders"));
    let columns = ingest.columns.as_ref().unwrap();
    assert!(!columns.field(0).is_nullable() && columns.field(1).is_nullable());
    assert_eq!(ingest.expectations[0].name, "positive");
    assert_eq!(ingest.commit_interval, Some(Duration::from_millis(500)));
    assert_eq!(ingest.poll_interval, Duration::from_secs(2));
    assert_eq!(ingest.timezone, Some(chrono_tz::Europe::Berlin));
    assert_eq!(
        (ingest.on_malformed, ingest.on_change, ingest.on_schema_change),
        (OnMalformed::Fail, OnChange::Land, SchemaPolicy::AppendNewColumns)
    );
    assert_eq!(ingest.max_reject_share, Some(0.25));
    assert_eq!(ingest.renamed_from.as_deref(), Some("old_orders"));
}

#[test]
fn a_source_of_a_later_version_is_refused_by_name() {
    let text = "ingest:\n  - name: t\n    kafka: {topic: ev}\n    table: bronze.t\n";
    let found = read(text).unwrap_err();
    assert_eq!(found.kind(), ErrorKind::Unsupported);
    assert_eq!(found.what(), "source \"kafka\" of ingest \"t\" is not in this version");
    assert_eq!(found.places()[0].line, Some(3));
}

#[test]
fn mistakes_show_what_where_and_fix() {
    let base = "ingest:\n  - name: t\n    files: {path: in}\n    table: bronze.t\n";
    let cases = [
        ("    on_chnage: land\n", "unknown key \"on_chnage\"", "lode.yml:5:5", "did you mean \"on_change\"?"),
        ("    on_change: lnad\n", "\"lnad\" is no choice of `on_change`", "lode.yml:5:16", "did you mean \"land\"?"),
        ("    timezone: Europe/Berlni\n", "unknown time zone", "lode.yml:5:15", "did you mean \"Europe/Berlin\"?"),
        ("    poll_interval: 10\n", "\"10\" is not a length of time", "lode.yml:5:20", "10s"),
        ("    max_reject_share: 5\n", "not a share", "lode.yml:5:23", "0.05"),
        ("    columns: {id: number}\n", "unknown type \"number\"", "lode.yml:5:19", "known types"),
        ("    columns: {v: numeric(5,2)}\n", "a value is missing", "lode.yml:5:30", "put the type in quotes"),
        ("    columns: {v: }\n", "a value is missing", "lode.yml:5:16", "write a value"),
        ("    columns: {_line: text}\n", "added by Lode", "lode.yml:5:22", "take it out"),
        ("    columns: {}\n", "`columns` is empty", "lode.yml:5:14", "inferred"),
        (
            "    watermark: {delay: 5s}\n",
            "has no meaning for a source of files",
            "lode.yml:5:16",
            "take `watermark:` out",
        ),
        ("    expose: [delta, hudi]\n", "\"hudi\" is not in this version", "lode.yml:5:13", "expose: [delta, iceberg]"),
        ("    mqtt: {topic: x}\n", "more than one source", "lode.yml:5:11", "keep one"),
        ("    on_schema_change: sync_all_columns\n", "would drop columns", "lode.yml:5:23", "append_new_columns"),
    ];
    for (line, what, place, fix) in cases {
        let shown = problem(&format!("{base}{line}"));
        assert!(shown.contains(what) && shown.contains(place) && shown.contains(fix), "{line}{shown}");
    }
}

#[test]
fn two_ingests_never_share_a_name_or_a_table() {
    let entry = |name: &str, table: &str| format!("  - {{name: {name}, files: {{path: in}}, table: {table}}}\n");
    let shown = problem(&format!("ingest:\n{}{}", entry("a", "bronze.x"), entry("b", "bronze.x")));
    assert!(shown.contains("write to the same table \"bronze.x\""), "{shown}");
    let shown = problem(&format!("ingest:\n{}{}", entry("a", "bronze.x"), entry("a", "bronze.y")));
    assert!(shown.contains("two ingests are named \"a\""), "{shown}");
}

#[test]
fn a_missing_source_or_table_is_named() {
    assert!(problem("ingest: [{name: a, table: b.c}]").contains("has no source"));
    assert!(problem("ingest: [{name: a, files: {path: x}}]").contains("key \"table\" is missing"));
    assert!(problem("ingest: [{name: a, files: {path: x}, table: a.b.c}]").contains("not a table name"));
}

#[test]
fn a_pattern_without_a_slash_goes_by_file_name() {
    let name = Pattern::new("*.{csv,csv.gz}").unwrap();
    assert!(name.matches("a.csv") && name.matches("2026/01/a.csv.gz") && !name.matches("a.json"));
    let path = Pattern::new("2026/*.csv").unwrap();
    assert!(path.matches("2026/a.csv") && !path.matches("a.csv") && !path.matches("2026/01/a.csv"));
    assert!(Pattern::new("a[").is_err());
}

#[test]
fn not_null_is_split_from_the_type() {
    assert_eq!(split_not_null("text NOT  NULL "), ("text", false));
    assert_eq!(split_not_null("text"), ("text", true));
    assert_eq!(split_not_null("numeric(10, 2) not null"), ("numeric(10, 2)", false));
    assert_eq!(split_not_null("notnull"), ("notnull", true));
}
