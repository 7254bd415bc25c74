use bytes::Bytes;
use lode_core::{Explain, SnapshotId};
use lode_lake::{DeltaTable, FaultPlan, LakeError, Store, StorePath};

use crate::build::*;

fn log(name: &str) -> StorePath {
    StorePath::from(format!("{LOCATION}/_delta_log/{name}"))
}

/// The same bytes, with nothing of them in memory.
fn reopened(store: &Store) -> Store {
    store.clone().with_faults(FaultPlan::default())
}

async fn table_with_checkpoint(store: &Store, commits: i64) {
    let (_, definition) = table_of(store, &[0]).await;
    for n in 1..=commits {
        append(store, &definition, 0, &[n], &format!("a{n}")).await;
    }
}

#[tokio::test]
async fn a_torn_commit_is_named() {
    let (_kept, stores) = stores_and_buckets().await;
    for store in stores {
        let (_, definition) = table_of(&store, &[1]).await;
        append(&store, &definition, 0, &[2], "a").await;
        let name = log("00000000000000000001.json");
        let half = store.get(&name).await.unwrap();
        store.put(&name, half.slice(..half.len() / 2)).await.unwrap();
        let store = reopened(&store);
        let error = DeltaTable::new(&store, LOCATION).snapshot(None).await.unwrap_err();
        assert!(matches!(&error, LakeError::Corrupt { path, .. } if path.ends_with("1.json")), "{error}");
        assert!(error.remedy().unwrap().contains("backup"));
        // What was before it can still be read.
        let before = DeltaTable::new(&store, LOCATION).snapshot(Some(SnapshotId(0))).await.unwrap();
        assert_eq!(ids(&store, &before).await, [1]);
    }
}

#[tokio::test]
async fn a_missing_version_is_named() {
    let (_kept, stores) = stores_and_buckets().await;
    for store in stores {
        table_with_checkpoint(&store, 3).await;
        store.delete(&log("00000000000000000002.json")).await.unwrap();
        let error = DeltaTable::new(&reopened(&store), LOCATION).snapshot(None).await.unwrap_err();
        assert!(error.to_string().contains("version 2 is missing, but version 3 is there"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn checkpoints_are_written_used_and_not_trusted_blindly() {
    let (_kept, stores) = stores_and_buckets().await;
    for store in stores {
        table_with_checkpoint(&store, 100).await;
        let checkpoint = log("00000000000000000100.checkpoint.parquet");
        let pointer = log("_last_checkpoint");
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
        while store.head(&pointer).await.unwrap().is_none() {
            assert!(std::time::Instant::now() < deadline, "no checkpoint");
            tokio::task::yield_now().await;
        }
        assert!(store.head(&checkpoint).await.unwrap().is_some());
        let definition = DeltaTable::new(&store, LOCATION).snapshot(None).await.unwrap().definition.clone();
        append(&store, &definition, 100, &[101], "late").await;
        let wanted: Vec<i64> = (0..=101).collect();
        let fresh = DeltaTable::new(&reopened(&store), LOCATION).snapshot(None).await.unwrap();
        assert_eq!(ids(&store, &fresh).await, wanted);
        assert_eq!(fresh.definition, definition);
        assert_eq!(fresh.txns["a50"], 1, "transactions come from the checkpoint");
        assert!(fresh.files[5].file.stats.as_ref().unwrap().num_records == 1);

        // Older commits may be cleaned up: the checkpoint carries them.
        let first = log("00000000000000000000.json");
        let kept = store.get(&first).await.unwrap();
        store.delete(&first).await.unwrap();
        let fresh = DeltaTable::new(&reopened(&store), LOCATION).snapshot(None).await.unwrap();
        assert_eq!(ids(&store, &fresh).await, wanted);
        store.put(&first, kept).await.unwrap();

        // A pointer to nowhere, a pointer that is no JSON, a checkpoint that is no Parquet.
        for text in [&b"{\"version\":400,\"size\":1}"[..], b"\0\0\0"] {
            store.put(&pointer, Bytes::from_static(text)).await.unwrap();
            let fresh = DeltaTable::new(&reopened(&store), LOCATION).snapshot(None).await.unwrap();
            assert_eq!(fresh.files.len(), 102);
        }
        store.put(&pointer, Bytes::from_static(b"{\"version\":100,\"size\":1}")).await.unwrap();
        store.put(&checkpoint, Bytes::from_static(b"PAR1 not really")).await.unwrap();
        let fresh = DeltaTable::new(&reopened(&store), LOCATION).snapshot(None).await.unwrap();
        assert_eq!(ids(&store, &fresh).await, wanted);
    }
}
