use lode_core::SnapshotId;
use lode_lake::{Applied, DataFile, DeadRows, DeltaTable, LakeError, LiveFile, Operation, Store, TableChange};
use serde_json::json;

use crate::build::*;

/// Rows 3, 4, 7, 11, 18 and 29, as delta-kernel-rs has them in its tests.
fn vector() -> serde_json::Value {
    json!({
        "storageType": "i",
        "pathOrInlineDv": "^Bg9^0rr910000000000iXQKl0rr91000f55c8Xg0@@D72lkbi5=-{L",
        "sizeInBytes": 44,
        "cardinality": 6,
    })
}

async fn delete_rows(store: &lode_lake::Store, version: i64) {
    let add = log_line(store, 0, "add").await.unwrap();
    let (mut with, remove) = (add.clone(), json!({"path": add["path"], "dataChange": true, "deletionTimestamp": 1}));
    with["deletionVector"] = vector();
    let protocol = json!({"minReaderVersion": 3, "minWriterVersion": 7, "readerFeatures": ["deletionVectors"], "writerFeatures": ["deletionVectors"]});
    foreign(store, version, &[json!({"protocol": protocol}), json!({"remove": remove}), json!({"add": with})]).await;
}

#[tokio::test]
async fn dead_rows_are_not_read_and_stay_dead_when_the_file_goes() {
    let (_kept, stores) = stores_and_buckets().await;
    for store in stores {
        let all: Vec<i64> = (0..30).collect();
        let (table, definition) = table_of(&store, &all).await;
        delete_rows(&store, 1).await;
        let snapshot = table.snapshot(None).await.unwrap();
        assert!(snapshot.files[0].has_deletes);
        assert_eq!(snapshot.files[0].live_row_count(), Some(24));
        let live: Vec<i64> = all.iter().copied().filter(|id| ![3, 4, 7, 11, 18, 29].contains(id)).collect();
        assert_eq!(ids(&store, &snapshot).await, live);
        // The overwrite must name the vector, or the rows would come back.
        let files = write(&store, &definition, &[rows(&[100])]);
        commit(&store, &change(1, Operation::Overwrite, files), "a", 1).await;
        assert_eq!(log_line(&store, 2, "remove").await.unwrap()["deletionVector"], vector());
        assert_eq!(ids(&store, &table.snapshot(None).await.unwrap()).await, [100]);
        assert_eq!(ids(&store, &table.snapshot(Some(SnapshotId(1))).await.unwrap()).await, live);
    }
}

#[tokio::test]
async fn a_rewrite_of_a_file_that_lost_rows_meanwhile_is_refused() {
    let (_kept, stores) = stores_and_buckets().await;
    for store in stores {
        let all: Vec<i64> = (0..30).collect();
        let (table, definition) = table_of(&store, &all).await;
        let path = table.snapshot(None).await.unwrap().files[0].file.path.clone();
        delete_rows(&store, 1).await;
        let mut compact = change(0, Operation::Rewrite, write(&store, &definition, &[rows(&all)]));
        compact.remove = vec![path];
        let error = try_commit(&store, &compact, "a", 1).await.unwrap_err();
        assert!(matches!(error, LakeError::Refused { .. }), "{error}");
        assert_eq!(DeltaTable::new(&store, LOCATION).newest().await.unwrap(), Some(SnapshotId(1)));
    }
}

#[tokio::test]
async fn a_rewrite_of_a_file_with_dead_rows_goes_on_behind_other_commits() {
    let (_kept, stores) = stores_and_buckets().await;
    for store in stores {
        let all: Vec<i64> = (0..30).collect();
        let (table, definition) = table_of(&store, &all).await;
        delete_rows(&store, 1).await;
        let snapshot = table.snapshot(None).await.unwrap();
        let live = ids(&store, &snapshot).await;
        // A commit without rows comes in between.
        foreign(&store, 2, &[json!({"commitInfo": {"operation": "SET TBLPROPERTIES"}})]).await;
        let mut compact = change(1, Operation::Rewrite, write(&store, &definition, &[rows(&live)]));
        compact.remove = vec![snapshot.files[0].file.path.clone()];
        let wait = std::time::Duration::from_secs(20);
        tokio::time::timeout(wait, commit(&store, &compact, "a", 1)).await.expect("the commit waits for itself");
        let snapshot = table.snapshot(None).await.unwrap();
        assert_eq!(ids(&store, &snapshot).await, live);
        assert!(!snapshot.files[0].has_deletes);
    }
}

/// A rewrite that takes some rows out of files that stay.
fn deletion(base: i64, dead: &[(&str, &[u64])], add: Vec<DataFile>) -> TableChange {
    let mut change = change(base, Operation::Rewrite, add);
    change.dead = dead
        .iter()
        .map(|(path, rows)| DeadRows { path: (*path).to_owned(), rows: rows.iter().copied().collect() })
        .collect();
    change
}

#[tokio::test]
async fn dead_rows_are_marked_and_a_file_without_living_ones_goes() {
    let (folder, stores) = stores();
    for store in stores {
        let (table, definition) = table_of(&store, &[10, 11, 12, 13]).await;
        append(&store, &definition, 0, &[20, 21], "second").await;
        let before = table.snapshot(None).await.unwrap();
        let paths: Vec<String> = before.files.iter().map(|live| live.file.path.clone()).collect();
        let more = write(&store, &definition, &[rows(&[30])]);
        commit(&store, &deletion(1, &[(&paths[0], &[1, 3]), (&paths[1], &[0, 1])], more), "delete", 1).await;
        let after = table.snapshot(None).await.unwrap();
        assert_eq!(ids(&store, &after).await, [10, 12, 30]);
        assert_eq!(after.files.iter().map(LiveFile::live_row_count).sum::<Option<u64>>(), Some(3));
        // A second vector holds the rows of the first one.
        commit(&store, &deletion(2, &[(&paths[0], &[0])], Vec::new()), "delete", 2).await;
        let snapshot = table.snapshot(None).await.unwrap();
        assert_eq!(ids(&store, &snapshot).await, [12, 30]);
        assert!(snapshot.check_writable(&definition.name).is_ok());
        // The old versions are as they were; the rest of the file dies with its last row.
        assert_eq!(ids(&store, table.snapshot(Some(SnapshotId(1))).await.unwrap().as_ref()).await.len(), 6);
        commit(&store, &deletion(3, &[(&paths[0], &[2])], Vec::new()), "delete", 3).await;
        assert_eq!(ids(&store, table.snapshot(None).await.unwrap().as_ref()).await, [30]);
        // Applied again, as after a crash: nothing happens.
        let applied = commit(&store, &deletion(3, &[(&paths[0], &[2])], Vec::new()), "delete", 3).await;
        assert!(matches!(applied, Applied::AlreadyThere(_)), "{applied:?}");
    }
    // One that reads the log from its beginning sees the same.
    let fresh = Store::local(folder.path()).unwrap();
    let table = DeltaTable::new(&fresh, LOCATION);
    for (version, wanted) in [(2, vec![10, 12, 30]), (3, vec![12, 30]), (4, vec![30])] {
        assert_eq!(ids(&fresh, table.snapshot(Some(SnapshotId(version))).await.unwrap().as_ref()).await, wanted);
    }
}

#[tokio::test]
async fn rows_do_not_die_in_a_file_that_changed() {
    let store = Store::memory();
    let (table, definition) = table_of(&store, &[1, 2, 3]).await;
    let path = table.snapshot(None).await.unwrap().files[0].file.path.clone();
    let ours = deletion(0, &[(&path, &[0])], Vec::new());
    // Another one deletes first, or adds rows that ours did not see.
    commit(&store, &deletion(0, &[(&path, &[2])], Vec::new()), "first", 1).await;
    let error = try_commit(&store, &ours, "second", 1).await.unwrap_err().to_string();
    assert!(error.contains("version 1"), "{error}");
    append(&store, &definition, 1, &[4], "third").await;
    let error = try_commit(&store, &deletion(1, &[(&path, &[0])], Vec::new()), "fourth", 1).await.unwrap_err();
    assert!(matches!(error, LakeError::Refused { .. }), "{error}");
    assert_eq!(ids(&store, table.snapshot(None).await.unwrap().as_ref()).await, [1, 2, 4]);
}
