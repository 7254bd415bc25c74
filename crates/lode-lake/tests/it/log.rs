use chrono::{DateTime, Duration, Utc};
use lode_core::SnapshotId;
use lode_lake::{DeltaTable, FaultPlan, LakeError, Operation};

use crate::build::*;

#[tokio::test]
async fn every_version_can_be_read_from_memory_and_from_the_log() {
    let (_kept, stores) = stores_and_buckets().await;
    for store in stores {
        let (table, definition) = table_of(&store, &[0]).await;
        append(&store, &definition, 0, &[1], "a").await;
        let files = write(&store, &definition, &[rows(&[7])]);
        commit(&store, &change(1, Operation::Overwrite, files), "b", 3).await;
        let wanted: [&[i64]; 3] = [&[0], &[0, 1], &[7]];
        let cold = store.clone().with_faults(FaultPlan::default());
        table.snapshot(None).await.unwrap();
        for table in [table, DeltaTable::new(&cold, LOCATION)] {
            for (version, wanted) in wanted.iter().enumerate() {
                let snapshot = table.snapshot(Some(SnapshotId(version as i64))).await.unwrap();
                assert_eq!(snapshot.version, SnapshotId(version as i64));
                assert_eq!(&ids(&store, &snapshot).await, wanted);
                assert_eq!(snapshot.txns.contains_key("b"), version == 2);
            }
            let error = table.snapshot(Some(SnapshotId(3))).await.unwrap_err();
            assert!(matches!(error, LakeError::NoSnapshot { newest: SnapshotId(2), .. }), "{error}");
        }
    }
}

#[tokio::test]
async fn a_snapshot_in_memory_equals_the_one_in_the_log() {
    let (_kept, stores) = stores_and_buckets().await;
    for store in stores {
        let (table, definition) = table_of(&store, &[0]).await;
        for n in 1..10 {
            let files = write(&store, &definition, &[rows(&[n])]);
            let operation = if n % 4 == 0 { Operation::Overwrite } else { Operation::Append };
            commit(&store, &change(0, operation, files), "a", n).await;
            let warm = table.snapshot(None).await.unwrap();
            let cold = store.clone().with_faults(FaultPlan::default());
            let cold = DeltaTable::new(&cold, LOCATION).snapshot(None).await.unwrap();
            let paths = |snapshot: &lode_lake::Snapshot| {
                snapshot.files.iter().map(|file| file.file.path.clone()).collect::<Vec<_>>()
            };
            assert_eq!(paths(&warm), paths(&cold));
            assert_eq!((&warm.txns, warm.committed_at), (&cold.txns, cold.committed_at));
        }
    }
}

#[tokio::test]
async fn a_time_finds_its_version() {
    let (_kept, stores) = stores_and_buckets().await;
    for store in stores {
        let (table, _) = table_of(&store, &[0]).await;
        let start = Utc::now() + Duration::days(1);
        for n in 1..=9_i64 {
            let at = (start + Duration::seconds(n)).timestamp_millis();
            foreign(&store, n, &[serde_json::json!({"commitInfo": {"timestamp": at, "operation": "NOTHING"}})]).await;
        }
        let at = |seconds: i64| start + Duration::seconds(seconds) + Duration::milliseconds(500);
        assert_eq!(table.version_at(at(0)).await.unwrap(), SnapshotId(0));
        assert_eq!(table.version_at(at(5)).await.unwrap(), SnapshotId(5));
        assert_eq!(table.version_at(at(100)).await.unwrap(), SnapshotId(9));
        assert!(matches!(table.version_at(DateTime::UNIX_EPOCH).await, Err(LakeError::NoSnapshot { .. })));
    }
}

#[tokio::test]
async fn the_history_tells_what_happened() {
    let (_kept, stores) = stores_and_buckets().await;
    for store in stores {
        let (table, definition) = table_of(&store, &[0]).await;
        append(&store, &definition, 0, &[1, 2], "a").await;
        let history = table.history(1).await.unwrap();
        assert_eq!(history.len(), 1);
        assert_eq!((history[0].version, history[0].rows_added), (SnapshotId(1), Some(2)));
        assert!(history[0].engine.starts_with("Lode/"));
        assert_eq!(history[0].properties["mode"], "Append");
        assert_eq!(table.history(9).await.unwrap()[1].operation, "CREATE TABLE");
        let after = table.commits_after(SnapshotId(0)).await.unwrap();
        assert_eq!((after.len(), &after[0].txns), (1, &vec![txn("a", 1)]));
        assert!(table.commits_after(SnapshotId(1)).await.unwrap().is_empty());
    }
}

#[tokio::test]
async fn a_table_made_anew_in_the_same_folder_is_seen() {
    let (_kept, stores) = stores_and_buckets().await;
    for store in stores {
        let (table, _) = table_of(&store, &[1]).await;
        assert_eq!(ids(&store, &table.snapshot(None).await.unwrap()).await, [1]);
        for meta in store.list(&LOCATION.into(), None).await.unwrap() {
            store.delete(&meta.location).await.unwrap();
        }
        assert!(matches!(table.snapshot(None).await, Err(LakeError::NotFound { .. })));
        table_of(&store, &[2]).await;
        assert_eq!(ids(&store, &table.snapshot(None).await.unwrap()).await, [2]);
    }
}
