//! (path, content) decides; size and time only save hashing.

use lode_catalog::FileState;

use crate::world::{World, orders};

async fn state(world: &World, path: &str) -> (FileState, Option<String>) {
    let context = world.open().await;
    let pipeline = context.catalog.pipelines().await.unwrap().remove(0).pipeline;
    let row = context.catalog.files(&pipeline).await.unwrap().into_iter().find(|row| row.path == path).unwrap();
    (row.state, row.note)
}

async fn origins(world: &World) -> Vec<String> {
    world.rows("bronze.orders", &["id", "_file"]).await
}

fn touch(world: &World, path: &str) {
    let later = std::time::SystemTime::now() + std::time::Duration::from_secs(60);
    std::fs::File::options().append(true).open(world.path(path)).unwrap().set_modified(later).unwrap();
}

#[tokio::test]
async fn a_touched_file_is_known_by_its_content() {
    let world = World::new(orders(""));
    world.put("a.csv", "id\n1\n");
    world.land().await;
    touch(&world, "a.csv");
    let report = world.land().await;
    assert_eq!((report.files_landed, report.files_skipped, report.epochs), (0, 1, 1));
    // The ledger has the new time: nothing to hash any more.
    assert_eq!(world.land().await.epochs, 0);
    assert_eq!(origins(&world).await, ["1|a.csv"]);
}

#[tokio::test]
async fn a_renamed_file_does_not_land_again_and_a_copy_does() {
    let world = World::new(orders(""));
    world.put("a.csv", "id\n1\n");
    world.land().await;
    world.rename("a.csv", "b.csv");
    let report = world.land().await;
    assert_eq!((report.files_renamed, report.files_landed, report.rows_in), (1, 0, 0));
    assert_eq!(state(&world, "b.csv").await, (FileState::Renamed, Some("renamed from a.csv".into())));
    assert_eq!(origins(&world).await, ["1|a.csv"]);
    // The old name was given away once: the same content under a third name is a copy.
    world.put("c.csv", "id\n1\n");
    let report = world.land().await;
    assert_eq!((report.files_renamed, report.files_landed), (0, 1));
    assert_eq!(origins(&world).await, ["1|a.csv", "1|c.csv"]);
    // Renamed twice.
    world.rename("b.csv", "d.csv");
    assert_eq!(world.land().await.files_renamed, 1);
    assert_eq!(origins(&world).await.len(), 2);
}

#[tokio::test]
async fn two_copies_at_once_both_land_and_one_of_two_takes_over_a_name() {
    let world = World::new(orders(""));
    world.put("a.csv", "id\n1\n");
    world.put("b.csv", "id\n1\n");
    assert_eq!(world.land().await.files_landed, 2);
    std::fs::remove_file(world.path("a.csv")).unwrap();
    world.put("c.csv", "id\n1\n");
    world.put("d.csv", "id\n1\n");
    let report = world.land().await;
    assert_eq!((report.files_renamed, report.files_landed), (1, 1));
    assert_eq!(origins(&world).await.len(), 3);
}

#[tokio::test]
async fn a_deleted_file_keeps_its_rows_and_is_known_when_it_comes_back() {
    let world = World::new(orders(""));
    world.put("a.csv", "id\n1\n");
    world.land().await;
    std::fs::remove_file(world.path("a.csv")).unwrap();
    assert_eq!(world.land().await.epochs, 0);
    world.put("a.csv", "id\n1\n");
    touch(&world, "a.csv");
    assert_eq!(world.land().await.files_landed, 0);
    assert_eq!(origins(&world).await, ["1|a.csv"]);
}

#[tokio::test]
async fn changed_content_follows_on_change() {
    for (policy, landed, problems, rows) in [
        ("", 0, 1, vec!["1|a.csv"]),
        ("    on_change: fail\n", 0, 1, vec!["1|a.csv"]),
        ("    on_change: ignore\n", 0, 0, vec!["1|a.csv"]),
        ("    on_change: land\n", 1, 0, vec!["1|a.csv", "1|a.csv", "2|a.csv"]),
    ] {
        let world = World::new(orders(policy));
        world.put("a.csv", "id\n1\n");
        world.land().await;
        world.put("a.csv", "id\n1\n2\n");
        let report = world.land().await;
        assert_eq!((report.files_landed, report.problems.len()), (landed, problems), "{policy}");
        assert_eq!(origins(&world).await, rows, "{policy}");
        if problems == 1 {
            let shown = report.problems[0].render();
            assert!(
                shown.contains("file \"a.csv\" changed after it landed") && shown.contains("on_change: land"),
                "{shown}"
            );
            // It is said again until somebody decides.
            assert_eq!(world.land().await.problems.len(), 1);
        } else {
            assert_eq!(world.land().await.epochs, 0, "{policy}");
        }
    }
}

#[tokio::test]
async fn a_rotated_log_lands_each_line_once() {
    let world = World::new(orders("    on_change: land\n"));
    world.put("log.csv", "id\n1\n");
    world.land().await;
    world.rename("log.csv", "log.1.csv");
    world.put("log.csv", "id\n2\n3\n");
    let report = world.land().await;
    assert_eq!((report.files_renamed, report.files_landed), (1, 1));
    world.rename("log.1.csv", "log.2.csv");
    world.rename("log.csv", "log.1.csv");
    world.put("log.csv", "id\n4\n5\n6\n");
    let report = world.land().await;
    assert_eq!((report.files_renamed, report.files_landed), (2, 1));
    assert_eq!(origins(&world).await.iter().map(|row| row[..1].to_owned()).collect::<String>(), "123456");
}

#[tokio::test]
async fn a_file_that_was_broken_for_a_while_does_not_land_twice() {
    let world = World::new(orders("    on_change: land\n"));
    world.put("a.csv", "id\n1\n");
    world.land().await;
    // Cut while it is copied anew.
    world.put("a.csv", b"\x1f\x8b\x08\x00");
    let report = world.land().await;
    assert_eq!((report.files_poison, report.files_landed), (1, 0));
    assert_eq!(state(&world, "a.csv").await.0, FileState::Landed);
    assert_eq!(world.land().await.epochs, 0);
    world.put("a.csv", "id\n1\n");
    touch(&world, "a.csv");
    let report = world.land().await;
    assert_eq!((report.files_skipped, report.files_landed), (1, 0));
    assert_eq!(origins(&world).await, ["1|a.csv"]);
    assert_eq!(state(&world, "a.csv").await, (FileState::Landed, None));
}
