use lode_core::SnapshotId;
use lode_lake::{Exposed, Exposure, FaultPlan, LakeError, Operation, Store, StorePath, expose};
use serde_json::json;

use super::{check, check_at, exposed, files, hint, in_metadata, metadata, summary};
use crate::build::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_table_is_followed_through_append_and_overwrite() {
    let (_folder, stores) = stores();
    for store in stores {
        let (_, definition) = table_of(&store, &[1, 2, 3]).await;
        let first = exposed(&store).await;
        assert_eq!((first.version, first.snapshot_id, first.outcome), (SnapshotId(0), 1, Exposure::Rebuilt));
        check(&store, &first, &[rows(&[1, 2, 3])], &["id > 2", "name = 'n1'"]);

        append(&store, &definition, 0, &[4, 5], "a").await;
        let second = exposed(&store).await;
        assert_eq!((second.snapshot_id, second.outcome, second.table_uuid), (2, Exposure::Added, first.table_uuid));
        assert_eq!(hint(&store).await, "2");
        check(&store, &second, &[rows(&[1, 2, 3, 4, 5])], &["id > 3", "id < 2", "name is null"]);
        check_at(&store, &second, "1", &[rows(&[1, 2, 3])], &[]);
        let read = metadata(&store, &second).await;
        assert_eq!(summary(&read)["operation"], "append");
        assert_eq!(summary(&read)["lode.delta-version"], "1");
        assert_eq!(summary(&read)["lode.txn.create"], "1");
        assert_eq!(summary(&read)["lode.txn.a"], "1");
        assert_eq!(summary(&read)["total-records"], "5");
        assert_eq!(read["snapshots"][1]["parent-snapshot-id"], 1);
        assert_eq!(read["snapshots"][0]["summary"].get("lode.txn.create"), None, "it stands at the newest snapshot");

        let files = write(&store, &definition, &[rows(&[9])]);
        commit(&store, &change(1, Operation::Overwrite, files), "b", 1).await;
        let third = exposed(&store).await;
        check(&store, &third, &[rows(&[9])], &["id = 9", "id = 1"]);
        check_at(&store, &third, "2", &[rows(&[1, 2, 3, 4, 5])], &[]);
        let read = metadata(&store, &third).await;
        assert_eq!(summary(&read)["operation"], "overwrite");
        assert_eq!(summary(&read)["deleted-data-files"], "2");
        assert_eq!(summary(&read)["deleted-records"], "5");
        assert_eq!(summary(&read)["total-data-files"], "1");
    }
}

#[tokio::test]
async fn a_version_that_is_there_writes_nothing() {
    let (_folder, stores) = stores();
    for store in stores {
        let (_, definition) = table_of(&store, &[1]).await;
        append(&store, &definition, 0, &[2], "a").await;
        let first = exposed(&store).await;
        let before = files(&store).await;
        for version in [None, Some(SnapshotId(1)), Some(SnapshotId(0))] {
            let again = expose(&store, LOCATION, version).await.unwrap();
            let wanted = Exposed { outcome: Exposure::AlreadyThere, ..first.clone() };
            assert_eq!(again, wanted, "Iceberg does not go back");
        }
        assert_eq!(files(&store).await, before);
        let error = expose(&store, LOCATION, Some(SnapshotId(7))).await.unwrap_err();
        assert!(matches!(error, LakeError::NoSnapshot { .. }), "{error}");
        let error = expose(&store, "bronze/nothing", None).await.unwrap_err();
        assert!(matches!(error, LakeError::NotFound { .. }), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_versions_become_one_snapshot() {
    let (_folder, stores) = stores();
    for store in stores {
        let (_, definition) = table_of(&store, &[0]).await;
        exposed(&store).await;
        for n in 1..=5 {
            append(&store, &definition, 0, &[n], &format!("a{n}")).await;
        }
        // Also from a log that nobody has in memory.
        let store = store.with_faults(FaultPlan::default());
        let newest = exposed(&store).await;
        assert_eq!((newest.snapshot_id, newest.outcome), (6, Exposure::Added));
        let read = metadata(&store, &newest).await;
        assert_eq!(read["snapshots"].as_array().unwrap().len(), 2);
        assert_eq!(summary(&read)["added-data-files"], "5");
        check(&store, &newest, &[rows(&[0, 1, 2, 3, 4, 5])], &["id >= 3"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn metadata_stays_small_over_a_thousand_commits() {
    let (_folder, stores) = stores();
    for store in stores {
        let (_, definition) = table_of(&store, &[0]).await;
        exposed(&store).await;
        let file = write(&store, &definition, &[rows(&[1])]).remove(0);
        let bytes = store.get(&StorePath::parse(format!("{LOCATION}/{}", file.path)).unwrap()).await.unwrap();
        // What a failed attempt leaves goes in time.
        let orphan = in_metadata("lode-m-2-00000000000000000000000000000000-0.avro");
        store.put(&orphan, "".into()).await.unwrap();
        let mut written = 0;
        let commits = if store.url().scheme() == "file" { 200 } else { 1000 };
        for n in 1..=commits {
            // The same rows under another name: writing them is not what is measured.
            let mut copy = file.clone();
            copy.path = format!("copy-{n}.parquet");
            store.put(&StorePath::from(format!("{LOCATION}/{}", copy.path)), bytes.clone()).await.unwrap();
            commit(&store, &change(n - 1, Operation::Append, vec![copy]), "stream", n).await;
            let before = files(&store).await;
            exposed(&store).await;
            let after = files(&store).await;
            written = after.iter().filter(|file| !before.contains(file)).map(|(_, size)| size).sum();
            assert!(written < 400_000, "{written} bytes at commit {n}");
        }
        let newest = exposed(&store).await;
        let read = metadata(&store, &newest).await;
        assert_eq!(read["snapshots"].as_array().unwrap().len(), 100);
        assert_eq!(summary(&read)["total-data-files"], (commits + 1).to_string());
        let left = files(&store).await;
        let count = |start: &str| left.iter().filter(|(name, _)| name.starts_with(start)).count();
        assert!(count("v") <= 108, "{} metadata files", count("v"));
        assert!((100..108).contains(&count("lode-snap-")), "{} manifest lists", count("lode-snap-"));
        assert!(count("lode-m-") < 108 + 3 * 20, "{} manifests", count("lode-m-"));
        assert!(store.head(&orphan).await.unwrap().is_none());
        for entry in read["metadata-log"].as_array().unwrap() {
            let name = entry["metadata-file"].as_str().unwrap().rsplit('/').next().unwrap();
            assert!(left.iter().any(|(file, _)| file == name), "{name} is gone");
        }
        assert!(written < 100_000, "{written} bytes at the last commit");
        if store.url().scheme() == "file" {
            let all = std::iter::once(0).chain(std::iter::repeat_n(1, commits as usize)).collect::<Vec<_>>();
            check(&store, &newest, &[rows(&all)], &["id = 0"]);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn full_manifests_are_kept_and_only_touched_ones_are_written_again() {
    let store = Store::memory();
    let definition = events();
    let file = write(&store, &definition, &[rows(&[1])]).remove(0);
    let files_of = |from: usize, count: usize| -> Vec<lode_lake::DataFile> {
        let copy = |n| lode_lake::DataFile { path: format!("copy-{n}.parquet"), ..file.clone() };
        (from..from + count).map(copy).collect()
    };
    commit(&store, &creation(&definition, files_of(0, 5000)), "create", 1).await;
    exposed(&store).await;
    let manifests = |files: Vec<(String, u64)>| -> Vec<String> {
        files.into_iter().map(|(name, _)| name).filter(|name| name.starts_with("lode-m-")).collect()
    };
    let first = manifests(files(&store).await);
    assert_eq!(first.len(), 3, "2,000, 2,000 and 1,000 files");
    let mut rewrite = change(0, Operation::Rewrite, files_of(9000, 1));
    rewrite.remove = vec!["copy-10.parquet".into(), "copy-11.parquet".into()];
    commit(&store, &rewrite, "a", 1).await;
    let second = exposed(&store).await;
    let new = manifests(files(&store).await).into_iter().filter(|name| !first.contains(name)).count();
    assert_eq!(new, 2, "the one that had the files, with the new file in front or behind");
    let read = metadata(&store, &second).await;
    assert_eq!(summary(&read)["total-data-files"], "4999");
    assert_eq!(summary(&read)["total-records"], "4999");
    assert_eq!(summary(&read)["deleted-data-files"], "2");
    let before = manifests(files(&store).await);
    commit(&store, &change(1, Operation::Append, files_of(9001, 1)), "b", 1).await;
    exposed(&store).await;
    let new = manifests(files(&store).await).into_iter().filter(|name| !before.contains(name)).count();
    assert_eq!(new, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_may_be_empty() {
    let (_folder, stores) = stores();
    for store in stores {
        let definition = events();
        commit(&store, &creation(&definition, Vec::new()), "create", 1).await;
        check(&store, &exposed(&store).await, &[rows(&[])], &["id = 1"]);
        append(&store, &definition, 0, &[1, 2], "a").await;
        check(&store, &exposed(&store).await, &[rows(&[1, 2])], &["id = 1"]);
        commit(&store, &change(1, Operation::Overwrite, Vec::new()), "b", 1).await;
        let third = exposed(&store).await;
        check(&store, &third, &[rows(&[])], &["id = 1"]);
        assert_eq!(summary(&metadata(&store, &third).await)["operation"], "delete");
        foreign(&store, 3, &[json!({"commitInfo": {"operation": "SET TBLPROPERTIES"}})]).await;
        let fourth = exposed(&store).await;
        assert_eq!(fourth.snapshot_id, 4);
        check(&store, &fourth, &[rows(&[])], &[]);
        append(&store, &definition, 3, &[3], "c").await;
        check(&store, &exposed(&store).await, &[rows(&[3])], &["id = 3"]);
    }
}
