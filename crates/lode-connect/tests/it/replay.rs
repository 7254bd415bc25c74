//! `lode quarantine list | show | replay`.

use lode_connect::quarantine::{QuarantineFilter, ReplayReport, list, replay, show};
use lode_core::TableName;

use crate::world::{World, orders};

fn table() -> TableName {
    "bronze.orders".parse().unwrap()
}

fn with(columns: &str, limit: u32) -> String {
    orders(&format!(
        "    columns: {columns}\n    contract:\n      expectations:\n        - {{name: big, expect: amount > {limit}}}\n"
    ))
}

const STRICT: &str = "{id: bigint, amount: bigint, note: text not null}";
const LOOSE: &str = "{id: bigint, amount: bigint, note: text}";

fn world() -> World {
    let world = World::new(with(STRICT, 5));
    world.put("a.csv", "id,amount,note\n1,10,a\n2,3,b\n3,20,\nx,30,d\n");
    // Another order of columns, another delimiter.
    world.put("b.csv", "note;amount;id\ne;4;5\nf;50;6\n");
    world
}

fn report(tried: u64, replayed: u64) -> ReplayReport {
    ReplayReport {
        table: "bronze.orders".into(),
        rows_tried: tried,
        rows_replayed: replayed,
        rows_left: tried - replayed,
    }
}

#[tokio::test]
async fn rejects_are_counted_and_shown() {
    let world = world();
    world.land().await;
    let context = world.open().await;
    let counts = list(&context.catalog, None).await.unwrap();
    let counted: Vec<_> = counts.iter().map(|count| (count.rule.as_str(), count.name.as_deref(), count.rows)).collect();
    assert_eq!(counted.iter().map(|(_, _, rows)| rows).sum::<u64>(), 4);
    assert!(
        counted.contains(&("expectation", Some("big"), 2)) && counted.contains(&("contract", Some("note"), 1)),
        "{counted:?}"
    );
    let filter =
        QuarantineFilter { rule: Some("expectation".into()), file: Some("b.csv".into()), ..Default::default() };
    let rows = show(&context.catalog, &table().quarantine(), &filter, 10).await.unwrap();
    assert_eq!((rows.len(), rows[0].raw.as_str(), rows[0].line), (1, "e;4;5", Some(2)));
    assert_eq!(show(&context.catalog, &table(), &QuarantineFilter::default(), 3).await.unwrap().len(), 3);
    let missing = show(&context.catalog, &"bronze.no".parse().unwrap(), &filter, 1).await.unwrap_err();
    assert_eq!(missing.what(), "table \"bronze.no\" has no quarantine");
}

#[tokio::test]
async fn what_passes_now_moves_once_with_its_place_and_the_rest_stays() {
    let world = world();
    world.land().await;
    let world = World { yaml: with(LOOSE, 0), ..world };
    let all = QuarantineFilter::default();
    assert_eq!(replay(&world.open().await, &table(), &all).await.unwrap(), report(4, 3));
    assert_eq!(
        world.rows("bronze.orders", &["id", "amount", "note", "_file", "_line"]).await,
        ["1|10|a|a.csv|2", "2|3|b|a.csv|3", "3|20|NULL|a.csv|4", "5|4|e|b.csv|2", "6|50|f|b.csv|3"]
    );
    assert_eq!(world.rows("bronze.orders__quarantine", &["_raw", "_line"]).await, ["x,30,d|5"]);
    world.check_sums().await;
    // Again: nothing left that passes, and no epoch.
    let epoch = world.status().await.published;
    assert_eq!(replay(&world.open().await, &table(), &all).await.unwrap(), report(1, 0));
    assert_eq!(world.status().await.published, epoch);
    // Landing again does not bring them a second time.
    assert_eq!(world.land().await.files_landed, 0);
}

#[tokio::test]
async fn a_filter_leaves_the_other_rows_alone() {
    let world = world();
    world.land().await;
    let world = World { yaml: with(LOOSE, 0), ..world };
    let filter =
        QuarantineFilter { rule: Some("expectation".into()), name: Some("big".into()), file: Some("b.csv".into()) };
    assert_eq!(replay(&world.open().await, &table(), &filter).await.unwrap(), report(1, 1));
    assert_eq!(world.rows("bronze.orders__quarantine", &["_line"]).await.len(), 3);
    world.check_sums().await;
}

#[tokio::test]
async fn a_replay_without_a_quarantine_or_an_ingest_says_so() {
    let world = World::new(orders(""));
    world.put("a.csv", "id\n1\n");
    world.land().await;
    let context = world.open().await;
    assert_eq!(replay(&context, &table(), &QuarantineFilter::default()).await.unwrap(), report(0, 0));
    let problem = replay(&context, &"gold.x".parse().unwrap(), &QuarantineFilter::default()).await.unwrap_err();
    assert_eq!(problem.what(), "no ingest of this project lands in \"gold.x\"");
}

#[tokio::test]
async fn records_of_an_archive_are_read_as_their_own_entry_is() {
    let world = World::new(with(STRICT, 5));
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for (name, text) in [("a.csv", "id,amount,note\n1,10,a\n2,3,b\n"), ("sub/b.csv", "note;amount;id\ne;4;5\nf;50;6\n")]
    {
        zip.start_file(name, zip::write::SimpleFileOptions::default()).unwrap();
        std::io::Write::write_all(&mut zip, text.as_bytes()).unwrap();
    }
    world.put("x.zip", zip.finish().unwrap().into_inner());
    world.land().await;
    let world = World { yaml: with(LOOSE, 0), ..world };
    assert_eq!(replay(&world.open().await, &table(), &QuarantineFilter::default()).await.unwrap(), report(2, 2));
    assert_eq!(
        world.rows("bronze.orders", &["id", "amount", "note", "_file"]).await,
        ["1|10|a|x.zip/a.csv", "2|3|b|x.zip/a.csv", "5|4|e|x.zip/sub/b.csv", "6|50|f|x.zip/sub/b.csv"]
    );
}

#[tokio::test]
async fn rejects_are_grouped_by_rule_and_name_with_one_example() {
    let world = World::new(orders("    columns: {id: bigint, amount: bigint}\n"));
    let rows: String = (0..50).map(|number| format!("x{number},1\n")).collect();
    world.put("a.csv", format!("id,amount\n{rows}1,2,3\n"));
    world.put("b.csv", "id,amount\n1,2\ny,1\n");
    world.land().await;
    let counts = list(&world.open().await.catalog, None).await.unwrap();
    let counted: Vec<_> = counts.iter().map(|count| (count.rule.as_str(), count.name.as_deref(), count.rows)).collect();
    assert_eq!(counted, [("contract", Some("id"), 51), ("decode", None, 1)]);
    assert!(counts[0].example.contains("\"x0\"") || counts[0].example.contains("\"y\""), "{}", counts[0].example);
    assert_eq!(counts[1].example, "3 fields found, 2 expected");
}

#[tokio::test]
async fn bytes_that_are_no_text_can_be_had_back() {
    let world = World::new(orders("    columns: {id: bigint, name: text}\n    format: {csv: {encoding: utf-8}}\n"));
    world.put("a.csv", b"id,name\n1,ok\n2,M\xFCller\nx,\\x\n\\x41,z\n");
    world.land().await;
    let rows = show(&world.open().await.catalog, &table(), &QuarantineFilter::default(), 10).await.unwrap();
    let mut raw: Vec<_> = rows.iter().map(|row| row.raw.as_str()).collect();
    raw.sort_unstable();
    // Text that looks like the hex form is written in it as well.
    assert_eq!(raw, ["\\x322c4dfc6c6c6572", "\\x5c7834312c7a", "x,\\x"]);
}
