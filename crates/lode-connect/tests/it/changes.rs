//! Files that change under our eyes: after they were listed, before or while they are read.

use std::io::Write;

use crate::world::{World, at_arrow, land, orders};

#[tokio::test]
async fn a_file_that_grows_while_it_is_read_waits_for_the_next_pass() {
    let world = World::new(orders(""));
    world.put("a.csv", "id\n1\n");
    world.put("b.csv", "id\n2\n");
    let context = world.open().await;
    let path = world.path("a.csv");
    // Listed, ledger read, not yet decoded.
    at_arrow(&context, "epoch.collect.before", 2, move || {
        std::fs::File::options().append(true).open(&path).unwrap().write_all(b"3\n").unwrap();
        Ok(())
    });
    let report = land(&context).await.unwrap();
    assert_eq!((report.files_landed, report.rows_landed, report.problems.len()), (1, 1, 0));
    let report = land(&context).await.unwrap();
    assert_eq!((report.files_landed, report.rows_landed), (1, 2));
    assert_eq!(world.rows("bronze.orders", &["id", "_file"]).await, ["1|a.csv", "2|b.csv", "3|a.csv"]);
    world.check_sums().await;
}

#[tokio::test]
async fn a_file_that_disappears_before_it_is_read_is_no_error() {
    let world = World::new(orders(""));
    world.put("a.csv", "id\n1\n");
    world.put("b.csv", "id\n2\n");
    let context = world.open().await;
    let path = world.path("a.csv");
    at_arrow(&context, "epoch.collect.before", 2, move || {
        std::fs::remove_file(&path).unwrap();
        Ok(())
    });
    let report = land(&context).await.unwrap();
    assert_eq!((report.files_landed, report.rows_landed, report.problems.len()), (1, 1, 0));
    assert_eq!(world.rows("bronze.orders", &["id"]).await, ["2"]);
}
