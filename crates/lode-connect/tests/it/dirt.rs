//! Files and records that are not as they should be.

use lode_catalog::FileState;
use lode_connect::{LandOptions, land_once};

use crate::world::{World, land, orders, silent};

const DECLARED: &str = "    columns: {id: bigint not null, amount: bigint}\n";

#[tokio::test]
async fn rejects_keep_file_line_offset_reason_and_bytes() {
    let world = World::new(orders(DECLARED));
    world.put("a.csv", "id,amount\n1,10\nx,20\n,30\n4,40\n");
    let report = world.land().await;
    assert_eq!((report.rows_in, report.rows_landed, report.rows_quarantined), (4, 2, 2));
    let columns = ["_rule", "_name", "_source", "_file", "_line", "_offset", "_raw", "_epoch"];
    assert_eq!(
        world.rows("bronze.orders__quarantine", &columns).await,
        ["contract|id|orders|a.csv|3|15|x,20|1", "contract|id|orders|a.csv|4|20|,30|1"]
    );
    world.check_sums().await;
}

#[tokio::test]
async fn a_cut_archive_is_poison_and_the_others_land() {
    let world = World::new(orders(""));
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    let text: String = (0..20_000).map(|number| format!("{number}\n")).collect();
    std::io::Write::write_all(&mut encoder, format!("id\n{text}").as_bytes()).unwrap();
    let whole = encoder.finish().unwrap();
    world.put("a.csv.gz", &whole[..whole.len() / 2]);
    world.put("b.csv", "id\n1\n");
    let report = world.land().await;
    assert_eq!((report.files_landed, report.files_poison, report.rows_landed), (1, 1, 1));
    assert_eq!(report.problems.len(), 1);
    // Known, and not read again.
    let report = world.land().await;
    assert_eq!((report.files_poison, report.problems.len(), report.epochs), (1, 0, 0));
    // On request it is tried again.
    let options = LandOptions { retry_poison: true };
    let report = land_once(&world.open().await, &[], options, &silent()).await.unwrap().remove(0).unwrap();
    assert_eq!((report.files_poison, report.problems.len()), (1, 1));
    // Mended, it lands.
    world.put("a.csv.gz", &whole);
    let report = world.land().await;
    assert_eq!((report.files_landed, report.files_poison, report.rows_landed), (1, 0, 20_000));
    world.check_sums().await;
}

#[tokio::test]
async fn a_file_with_too_many_rejects_lands_nothing() {
    let world = World::new(orders(&format!("{DECLARED}    max_reject_share: 0.3\n")));
    world.put("bad.csv", "id,amount\n1,1\nx,1\ny,1\n");
    world.put("good.csv", "id,amount\n1,1\n2,1\n3,1\nx,1\n");
    let report = world.land().await;
    assert_eq!((report.files_landed, report.files_poison, report.rows_landed, report.rows_quarantined), (1, 1, 3, 1));
    assert!(report.problems[0].what().contains("2 of 3 records of file \"bad.csv\" are rejected"));
    assert!(report.problems[0].render().contains("land again with `--retry-poison`"));
    assert_eq!(world.rows("bronze.orders", &["_file"]).await, ["good.csv"; 3]);
    assert_eq!(world.rows("bronze.orders__quarantine", &["_file"]).await, ["good.csv"]);
}

#[tokio::test]
async fn on_malformed_fail_refuses_the_file_and_drop_counts_the_rows() {
    let world = World::new(orders(&format!("{DECLARED}    on_malformed: fail\n")));
    world.put("a.csv", "id,amount\n1,1\nx,1\n");
    world.put("b.csv", "id,amount\n2,1\n");
    let report = world.land().await;
    assert_eq!((report.files_landed, report.rows_landed, report.problems.len()), (1, 1, 1));
    assert!(report.problems[0].render().contains("a.csv:3"), "{}", report.problems[0].render());
    let dropping = World { yaml: orders(&format!("{DECLARED}    on_malformed: drop\n")), ..world };
    let report = dropping.land().await;
    assert_eq!((report.rows_landed, report.rows_dropped, report.rows_quarantined), (1, 1, 0));
    dropping.check_sums().await;
}

#[tokio::test]
async fn a_file_that_cannot_be_read_is_named_and_the_others_land() {
    use std::os::unix::fs::PermissionsExt;
    let world = World::new(orders(""));
    world.put("a.csv", "id\n1\n");
    world.put("secret.csv", "id\n2\n");
    std::fs::set_permissions(world.path("secret.csv"), std::fs::Permissions::from_mode(0o0)).unwrap();
    // Root reads everything: a link that leads nowhere is refused by the system all the same.
    std::os::unix::fs::symlink("nowhere", world.path("gone.csv")).unwrap();
    let may_read_all = std::fs::read(world.path("secret.csv")).is_ok();
    let report = world.land().await;
    assert_eq!(report.rows_landed, if may_read_all { 2 } else { 1 });
    assert_eq!(report.problems.len(), if may_read_all { 1 } else { 2 });
    let shown: String = report.problems.iter().map(|problem| problem.render()).collect();
    assert!(shown.contains("gone.csv") && (may_read_all || shown.contains("secret.csv")), "{shown}");
    assert_eq!(world.status().await.position, serde_json::json!({"files": report.rows_landed}));
}

#[tokio::test]
async fn files_without_columns_are_poison_until_one_has_some() {
    let world = World::new(orders("    format: parquet\n"));
    world.put("a.parquet", "this is no parquet file at all");
    let report = world.land().await;
    assert_eq!((report.files_poison, report.files_landed, report.problems.len()), (1, 0, 1));
    let context = world.open().await;
    let pipeline = context.catalog.pipelines().await.unwrap().remove(0).pipeline;
    assert_eq!(context.catalog.files(&pipeline).await.unwrap()[0].state, FileState::Poison);
    assert!(land(&context).await.unwrap().problems.is_empty());
}

#[tokio::test]
async fn a_header_without_a_declared_column_refuses_the_file() {
    let world = World::new(orders("    columns: {id: bigint, v: text}\n"));
    world.put("a.csv", "identifier,value\n1,x\n2,y\n");
    world.put("b.csv", "id,value,more\n1,x,y\n");
    world.put("c.csv", "id,v\n1,x\n");
    let report = world.land().await;
    assert_eq!((report.files_landed, report.files_poison, report.rows_landed), (2, 1, 2));
    let shown = report.problems[0].render();
    assert!(shown.contains("a.csv\" names no declared column; it has: identifier, value"), "{shown}");
    assert!(shown.contains("declared under `columns:` are: id, v;") && shown.contains("where:"), "{shown}");
    // What a known header has besides is left out, and told.
    assert_eq!((report.files_undeclared, report.undeclared.shown().as_str()), (1, "value, more"));
    world.check_sums().await;
}

#[tokio::test]
async fn unreadable_files_of_a_source_without_a_table_are_called_what_they_are() {
    let world = World::new(orders(""));
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut encoder, b"id,name\n1,anna\n2,bob\n").unwrap();
    let whole = encoder.finish().unwrap();
    world.put("a.csv.gz", &whole[..whole.len() - 9]);
    let report = world.land().await;
    assert_eq!((report.files_landed, report.files_poison, report.files_passed_over), (0, 1, 0));
    assert!(
        report.problems[0].what().contains("gzip file") && report.problems[0].what().ends_with("is cut or damaged")
    );
    let report = world.land().await;
    assert_eq!((report.files_poison, report.files_passed_over, report.problems.len()), (1, 1, 0));
}
