//! The first landing freezes the columns; what comes later fits in, is rescued, or is asked about.

use crate::world::{World, land, orders};

#[tokio::test]
async fn inferred_columns_never_change_type() {
    let world = World::new(orders(""));
    world.put("a.csv", "id,amount\n1,10\n");
    world.land().await;
    world.put("b.csv", "id,amount,extra\n2,many,x\n");
    let report = world.land().await;
    assert_eq!((report.rows_landed, report.rows_quarantined), (1, 0));
    let rows = world.rows("bronze.orders", &["id", "amount", "_rescued"]).await;
    assert_eq!(rows[0], "1|10|NULL");
    assert!(rows[1].starts_with("2|NULL|{") && rows[1].contains("many"), "{rows:?}");
}

#[tokio::test]
async fn new_columns_are_appended_on_request() {
    let world = World::new(orders("    on_schema_change: append_new_columns\n"));
    world.put("a.csv", "id\n1\n");
    world.land().await;
    world.put("b.csv", "id,extra\n2,7\n");
    world.put("c.csv", "id,other\n3,x\n");
    let report = world.land().await;
    assert_eq!(report.rows_landed, 2);
    assert_eq!(world.rows("bronze.orders", &["id", "extra", "other"]).await, ["1|NULL|NULL", "2|7|NULL", "3|NULL|x"]);
}

#[tokio::test]
async fn new_columns_are_refused_on_request() {
    let world = World::new(orders("    on_schema_change: fail\n"));
    world.put("a.csv", "id\n1\n");
    world.land().await;
    world.put("b.csv", "id,extra\n2,7\n");
    world.put("c.csv", "id\n3\n");
    let report = world.land().await;
    assert_eq!((report.rows_landed, report.problems.len()), (1, 1));
    assert_eq!(report.problems[0].what(), "file \"b.csv\" has a new column \"extra\"");
}

#[tokio::test]
async fn declared_columns_may_grow_and_widen_but_not_turn() {
    let world = World::new(orders("    columns: {id: integer}\n"));
    world.put("a.csv", "id\n1\n");
    world.land().await;
    let world = World { yaml: orders("    columns: {id: bigint, note: text not null}\n"), ..world };
    world.put("b.csv", "id,note\n5000000000,x\n6,\n");
    let report = world.land().await;
    assert_eq!((report.rows_landed, report.rows_quarantined), (1, 1));
    assert_eq!(world.rows("bronze.orders", &["id", "note"]).await, ["1|NULL", "5000000000|x"]);
    let world = World { yaml: orders("    columns: {id: text}\n"), ..world };
    world.put("c.csv", "id\nabc\n");
    let problem = land(&world.open().await).await.unwrap_err();
    assert_eq!(problem.what(), "column \"id\" of table \"bronze.orders\" changed from bigint to text");
}

#[tokio::test]
async fn a_column_with_a_name_of_ours_is_refused() {
    let world = World::new(orders(""));
    world.put("a.csv", "id,_file\n1,x\n");
    let problem = land(&world.open().await).await.unwrap_err();
    assert!(problem.what().contains("have a column \"_file\""), "{problem}");
}

#[tokio::test]
async fn a_table_with_a_constraint_is_not_landed_in() {
    let world = World::new(orders(""));
    world.put("a.csv", "id\n1\n");
    world.land().await;
    // As another writer adds it.
    let log = world.dir.path().join("data/lake/bronze/orders/_delta_log");
    let first = std::fs::read_to_string(log.join(format!("{:020}.json", 0))).unwrap();
    let meta = first.lines().find(|line| line.contains("\"metaData\"")).unwrap();
    let mut meta: serde_json::Value = serde_json::from_str(meta).unwrap();
    meta["metaData"]["configuration"]["delta.constraints.positive"] = "id > 0".into();
    std::fs::write(log.join(format!("{:020}.json", 1)), meta.to_string()).unwrap();
    world.put("b.csv", "id\n-1\n");
    let problem = land(&world.open().await).await.unwrap_err();
    assert_eq!(problem.kind(), lode_core::ErrorKind::Blocked);
    assert!(problem.what().contains("the constraint \"positive\""), "{}", problem.what());
    assert_eq!(world.rows("bronze.orders", &["id"]).await, ["1"]);
}

#[tokio::test]
async fn a_file_without_a_record_freezes_no_type() {
    let world = World::new(orders(""));
    world.put("a.csv", "id,amount\n");
    world.put("b.json", "[]");
    let report = world.land().await;
    assert_eq!((report.files_landed, report.files_poison, report.problems.len(), report.epochs), (2, 0, 0, 1));
    let context = world.open().await;
    assert!(context.catalog.relation(&"bronze.orders".parse().unwrap()).await.unwrap().is_none());
    drop(context);
    // The same header in front of rows, and beside one that has none.
    world.put("c.csv", "id,amount\n1,2.5\n");
    world.put("d.csv", "id,amount,more\n");
    let report = world.land().await;
    assert_eq!((report.files_landed, report.rows_landed), (2, 1));
    let batches = crate::world::batches(&world.open().await, &world, "bronze.orders").await;
    let schema = batches[0].schema();
    let types: Vec<_> =
        ["id", "amount"].map(|name| schema.field_with_name(name).unwrap().data_type().to_string()).into();
    assert_eq!(types, ["Int64", "Float64"]);
    assert!(schema.field_with_name("more").is_err());
    assert_eq!(world.land().await.epochs, 0);
}
