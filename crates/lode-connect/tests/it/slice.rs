//! From a CSV to bronze rows.

use lode_catalog::FileState;

use crate::world::{World, orders};

#[tokio::test]
async fn a_csv_becomes_bronze_rows_with_their_origin() {
    let world = World::new(orders(""));
    world.put("2026/a.csv", "id,name,amount\n1,ann,2.5\n2,bob,\n");
    world.put("2026/b.csv", "id,name,amount\n3,cy,7\n");
    let report = world.land().await;
    assert_eq!((report.files_landed, report.rows_in, report.rows_landed, report.epochs), (2, 3, 3, 1));
    assert!(report.problems.is_empty(), "{:?}", report.problems);
    assert_eq!(
        world.rows("bronze.orders", &["id", "name", "amount", "_rescued", "_file", "_line"]).await,
        ["1|ann|2.5|NULL|2026/a.csv|2", "2|bob|NULL|NULL|2026/a.csv|3", "3|cy|7.0|NULL|2026/b.csv|2"]
    );
    let context = world.open().await;
    let status = context.catalog.pipelines().await.unwrap().remove(0);
    assert_eq!(status.position, serde_json::json!({"files": 2}));
    let files = context.catalog.files(&status.pipeline).await.unwrap();
    assert!(files.iter().all(|file| file.state == FileState::Landed && file.hash.len() == 64));
    world.check_sums().await;
}

#[tokio::test]
async fn landing_again_finds_nothing_to_do() {
    let world = World::new(orders(""));
    world.put("a.csv", "id\n1\n");
    world.land().await;
    let again = world.land().await;
    assert_eq!((again.files_landed, again.files_skipped, again.rows_in, again.epochs), (0, 1, 0, 0));
    assert_eq!(world.status().await.published.0, 1);
}

#[tokio::test]
async fn an_ingest_that_does_not_exist_is_named_with_the_nearest() {
    let world = World::new(orders(""));
    let names = ["ordrs".to_owned()];
    let answer =
        lode_connect::land_once(&world.open().await, &names, Default::default(), &crate::world::silent()).await;
    let problem = answer.unwrap_err();
    assert_eq!(problem.remedy(), Some("did you mean \"orders\"?"));
}

#[tokio::test]
async fn one_source_that_fails_does_not_stop_the_next() {
    let world = World::new(format!(
        "{}  - {{name: more, files: {{path: in}}, table: bronze.more}}\n",
        orders("").replace("path: in", "path: no/such/folder")
    ));
    world.put("a.csv", "id\n1\n");
    let context = world.open().await;
    let mut reports =
        lode_connect::land_once(&context, &[], Default::default(), &crate::world::silent()).await.unwrap();
    assert_eq!(reports.remove(1).unwrap().rows_landed, 1);
    assert_eq!(reports.remove(0).unwrap_err().what(), "could not list the folder \"no/such/folder\"");
}

#[tokio::test]
async fn a_table_of_somebody_else_is_not_written_to() {
    let world = World::new(orders(""));
    world.put("a.csv", "id\n1\n");
    world.land().await;
    let other = World { yaml: world.yaml.replace("name: orders", "name: others"), ..world };
    let problem = crate::world::land(&other.open().await).await.unwrap_err();
    assert_eq!(problem.what(), "table \"bronze.orders\" is written by something else than ingest \"others\"");
    // The same pipeline under a new name goes on.
    let yaml = other.yaml.replace("name: others\n", "name: third\n    renamed_from: orders\n");
    let renamed = World { yaml, ..other };
    assert_eq!(renamed.land().await.files_skipped, 1);
}

#[tokio::test]
async fn an_empty_folder_and_empty_files_are_no_error() {
    let world = World::new(orders(""));
    assert_eq!(world.land().await.epochs, 0);
    world.put("empty.csv", "");
    let report = world.land().await;
    assert_eq!((report.files_landed, report.problems.len()), (1, 0));
    world.put("full.csv", "id\n1\n");
    let report = world.land().await;
    assert_eq!((report.files_landed, report.files_skipped, report.rows_landed), (1, 1, 1));
}
