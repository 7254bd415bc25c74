//! Real processes that are killed at each arrow.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Output};

use lode_catalog::FAIL_POINTS;

use crate::world::*;

const FOLDER: &str = "LODE_TEST_FOLDER";

/// The child of the tests below; alone it is a test too.
#[tokio::test]
async fn three_epochs_on_disk() {
    let own = tempfile::tempdir().unwrap();
    let folder = std::env::var_os(FOLDER).map_or_else(|| own.path().to_owned(), Into::into);
    let world = World::at(&folder);
    let catalog = world.open().await;
    while check(&catalog).await.progress < 9 {
        step(&catalog, 3, Contract::Strict).await.unwrap();
    }
    let view = check(&catalog).await;
    assert_eq!((view.good, view.bad), (vec![0, 2, 3, 5, 6, 8], vec![1, 4, 7]));
    for (name, count) in lode_core::fail::visited() {
        println!("visited {name} {count}");
    }
}

fn run(folder: &Path, fail_point: &str) -> Output {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "kill::three_epochs_on_disk", "--nocapture"])
        .env(FOLDER, folder)
        .env("LODE_FAIL_POINT", fail_point)
        .output()
        .unwrap()
}

#[test]
fn every_fail_point_is_visited() {
    let folder = tempfile::tempdir().unwrap();
    let output = run(folder.path(), "list");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let visited: BTreeSet<&str> =
        text.lines().filter_map(|line| line.split("visited ").nth(1)?.split(' ').next()).collect();
    let visited: BTreeSet<&str> = visited.into_iter().filter(|name| name.starts_with("epoch.")).collect();
    assert_eq!(visited, FAIL_POINTS.iter().copied().collect());
}

#[test]
fn killed_at_each_fail_point_nothing_is_lost_or_doubled() {
    use std::os::unix::process::ExitStatusExt;
    for point in FAIL_POINTS {
        for visit in [1, 2] {
            let folder = tempfile::tempdir().unwrap();
            let killed = run(folder.path(), &format!("{point}=kill@{visit}"));
            if !(point.starts_with("epoch.start") && visit == 2) {
                assert_eq!(killed.status.signal(), Some(9), "{point} was not reached");
            }
            // The child checks its tables at the start, goes on, and checks the end.
            let again = run(folder.path(), "");
            assert!(again.status.success(), "after {point}: {}", String::from_utf8_lossy(&again.stdout));
        }
    }
}
