use lode_core::{ErrorKind, Explain, SnapshotId};
use lode_lake::{Applied, DeltaTable, Fault, FaultPlan, LakeError, Operation};

use crate::build::*;

#[tokio::test]
async fn a_lost_reply_is_found_again_and_a_lost_put_is_repeated() {
    let (_folder, stores) = stores();
    for store in stores {
        let (_, definition) = table_of(&store, &[1]).await;
        let plan = FaultPlan::new(1);
        let store = store.with_faults(plan.clone());
        plan.once("00001.json", Fault::LostReplyWritten);
        assert_eq!(append(&store, &definition, 0, &[2], "a").await, Applied::Committed(SnapshotId(1)));
        plan.once("00002.json", Fault::LostReplyUnwritten);
        assert_eq!(append(&store, &definition, 0, &[3], "b").await, Applied::Committed(SnapshotId(2)));
        plan.once("00003.json", Fault::Repeat);
        assert_eq!(append(&store, &definition, 0, &[4], "c").await, Applied::Committed(SnapshotId(3)));
        let snapshot = DeltaTable::new(&store, LOCATION).snapshot(None).await.unwrap();
        assert_eq!(ids(&store, &snapshot).await, [1, 2, 3, 4]);
    }
}

/// The reply to our commit is lost and so is the read that would have found it; by the next look others have gone on.
#[tokio::test]
async fn an_own_commit_is_found_behind_those_of_others() {
    let (_folder, stores) = stores();
    for store in stores {
        let (_, definition) = table_of(&store, &[1]).await;
        let plan = FaultPlan::new(1);
        let lossy = store.clone().with_faults(plan.clone());
        // The put is slow, its reply gets lost, the read that would find it fails; the next look is slow.
        for fault in [Fault::Slow, Fault::LostReplyWritten, Fault::Error, Fault::Slow] {
            plan.once("00001.json", fault);
        }
        let files = write(&store, &definition, &[rows(&[2])]);
        let ours = change(0, Operation::Append, files);
        let others = async {
            while DeltaTable::new(&store, LOCATION).newest().await.unwrap() != Some(SnapshotId(1)) {
                tokio::task::yield_now().await;
            }
            for n in 3..6 {
                append(&store, &definition, 0, &[n], &format!("other{n}")).await;
            }
        };
        let (done, ()) = tokio::join!(commit(&lossy, &ours, "a", 1), others);
        assert_eq!(done, Applied::Committed(SnapshotId(1)));
        let snapshot = DeltaTable::new(&store, LOCATION).snapshot(None).await.unwrap();
        assert_eq!(ids(&store, &snapshot).await, [1, 2, 3, 4, 5]);
    }
}

#[tokio::test]
async fn under_random_faults_each_transaction_lands_once() {
    for seed in 1..=20 {
        let (_folder, stores) = stores();
        for clean in stores {
            let (_, definition) = table_of(&clean, &[0]).await;
            let plan = format!(
                "seed:{seed},lost_reply_written:0.2,lost_reply_unwritten:0.2,error:0.05,repeat:0.1,truncate:0.05,conflict:0.05,busy:0.05"
            );
            let store = clean.clone().with_faults(FaultPlan::parse(&plan).unwrap());
            for n in 1..=6 {
                let files = write(&clean, &definition, &[rows(&[n])]);
                let change = change(0, Operation::Append, files);
                // As the owner of an epoch does: the same change until it is in.
                let mut tries = 0;
                while let Err(error) = try_commit(&store, &change, "a", n).await {
                    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
                    tries += 1;
                    assert!(tries < 100, "seed {seed}");
                }
            }
            let snapshot = DeltaTable::new(&clean, LOCATION).snapshot(None).await.unwrap();
            assert_eq!(ids(&clean, &snapshot).await, [0, 1, 2, 3, 4, 5, 6], "seed {seed}");
            assert_eq!(snapshot.version, SnapshotId(6), "seed {seed}");
        }
    }
}

#[tokio::test]
async fn a_full_disk_is_called_so_and_leaves_the_table_as_it_was() {
    let (_folder, stores) = stores();
    for store in stores {
        let (table, definition) = table_of(&store, &[1]).await;
        let plan = FaultPlan::new(1).full_after(100);
        let full = store.clone().with_faults(plan.clone());
        let error = try_write(&full, &definition, &[rows(&[2])]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Full, "{error}");
        assert_eq!(table.snapshot(None).await.unwrap().files.len(), 1);
        plan.free_space();
        append(&full, &definition, 0, &[2], "a").await;
        assert_eq!(ids(&store, &table.snapshot(None).await.unwrap()).await, [1, 2]);
    }
}

#[tokio::test]
async fn what_was_committed_survives_a_power_cut() {
    let (_folder, stores) = stores();
    for store in stores {
        let store = store.with_faults(FaultPlan::new(5));
        let (_, definition) = table_of(&store, &[0]).await;
        for n in 1..=5 {
            append(&store, &definition, 0, &[n], &format!("a{n}")).await;
        }
        assert!(store.crash().await.unwrap().is_empty(), "everything that counts was synced");
        let reopened = store.with_faults(FaultPlan::default());
        let snapshot = DeltaTable::new(&reopened, LOCATION).snapshot(None).await.unwrap();
        assert_eq!(ids(&reopened, &snapshot).await, [0, 1, 2, 3, 4, 5]);
    }
}

/// The check above can fail: on a disk that lies, the cut is seen, and never as wrong rows.
#[tokio::test]
async fn a_lying_disk_is_found_out() {
    let mut damaged = 0;
    for seed in 1..=10 {
        let (_folder, stores) = stores();
        for store in stores {
            let store = store.with_faults(FaultPlan::new(seed).lose_syncs());
            let (_, definition) = table_of(&store, &[0]).await;
            append(&store, &definition, 0, &[1], "a").await;
            let touched = store.crash().await.unwrap();
            let reopened = store.with_faults(FaultPlan::default());
            match DeltaTable::new(&reopened, LOCATION).snapshot(None).await {
                Err(LakeError::Corrupt { .. } | LakeError::NotFound { .. }) => damaged += 1,
                Err(error) => panic!("{error}"),
                // The log may have survived whole, or lost its end.
                Ok(snapshot) => assert!(snapshot.files.len() <= 2 && !touched.is_empty() || snapshot.files.len() == 2),
            }
        }
    }
    assert!(damaged > 0);
}
