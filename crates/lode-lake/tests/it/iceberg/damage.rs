use lode_core::{ErrorKind, Explain, SnapshotId};
use lode_lake::{Exposure, FaultPlan, Store, StorePath, expose};

use super::{check, exposed, files, hint, in_metadata, metadata, summary};
use crate::build::*;

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_lost_or_damaged_is_made_again() {
    let (_folder, stores) = stores();
    for store in stores {
        let (_, definition) = table_of(&store, &[1]).await;
        append(&store, &definition, 0, &[2], "a").await;
        let mut last = exposed(&store).await;
        let mut version = 1;
        type Damage = fn(&str) -> bool;
        let kinds: [(&str, Damage); 3] = [
            ("metadata file", |name| name.ends_with(".metadata.json")),
            ("manifest list", |name| name.starts_with("lode-snap-")),
            ("manifest", |name| name.starts_with("lode-m-")),
        ];
        for (kind, is_hit) in kinds {
            for cut in [None, Some(0), Some(3), Some(100)] {
                for is_behind in [false, true] {
                    for (name, _) in files(&store).await.iter().filter(|(name, _)| is_hit(name)) {
                        let path = in_metadata(name);
                        match cut {
                            None => store.delete(&path).await.unwrap(),
                            Some(cut) => {
                                let bytes = store.get(&path).await.unwrap();
                                store.put(&path, bytes.slice(..cut)).await.unwrap();
                            }
                        }
                    }
                    if is_behind {
                        version += 1;
                        append(&store, &definition, 0, &[version + 1], &format!("b{version}")).await;
                    }
                    let again = exposed(&store).await;
                    let shown = format!("{kind} cut at {cut:?}");
                    assert_eq!((again.outcome, again.version), (Exposure::Rebuilt, SnapshotId(version)), "{shown}");
                    assert_ne!(again.table_uuid, last.table_uuid, "{shown}");
                    let newest = metadata(&store, &again).await;
                    assert_eq!(summary(&newest)["total-records"], (version + 1).to_string(), "{shown}");
                    assert_eq!(files(&store).await.len(), 4, "old files are deleted: {shown}");
                    last = again;
                }
            }
        }
        let ids: Vec<i64> = (1..=version + 1).collect();
        check(&store, &last, &[rows(&ids)], &["id > 3"]);

        store.delete(&in_metadata("version-hint.text")).await.unwrap();
        assert_eq!(exposed(&store).await.outcome, Exposure::AlreadyThere);
        assert_eq!(hint(&store).await, last.snapshot_id.to_string());
        store.put(&in_metadata("version-hint.text"), "77".into()).await.unwrap();
        exposed(&store).await;
        assert_eq!(hint(&store).await, last.snapshot_id.to_string());
        for (name, _) in files(&store).await {
            store.delete(&in_metadata(&name)).await.unwrap();
        }
        assert_eq!(exposed(&store).await.outcome, Exposure::Rebuilt);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn metadata_of_another_table_in_the_folder_is_replaced() {
    let (_folder, stores) = stores();
    for store in stores {
        let (_, definition) = table_of(&store, &[1]).await;
        for n in 0..3 {
            append(&store, &definition, n, &[n], &format!("a{n}")).await;
        }
        let first = exposed(&store).await;
        for meta in store.list(&StorePath::from(format!("{LOCATION}/_delta_log")), None).await.unwrap() {
            store.delete(&meta.location).await.unwrap();
        }
        let store = store.with_faults(FaultPlan::default());
        table_of(&store, &[50]).await;
        let second = exposed(&store).await;
        assert_eq!((second.snapshot_id, second.outcome), (1, Exposure::Rebuilt));
        assert_ne!(second.table_uuid, first.table_uuid);
        assert!(
            store.head(&first.metadata).await.unwrap().is_none(),
            "readers that take the highest number see the old one"
        );
        check(&store, &second, &[rows(&[50])], &[]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_log_is_not_shown_with_what_came_after() {
    let (_folder, stores) = stores();
    for store in stores {
        let (_, definition) = table_of(&store, &[1]).await;
        append(&store, &definition, 0, &[2], "a").await;
        exposed(&store).await;
        store.delete(&StorePath::from(format!("{LOCATION}/_delta_log/00000000000000000001.json"))).await.unwrap();
        let store = store.with_faults(FaultPlan::default());
        let back = exposed(&store).await;
        assert_eq!((back.snapshot_id, back.outcome), (1, Exposure::Rebuilt));
        append(&store, &definition, 0, &[3, 4], "b").await;
        let newest = exposed(&store).await;
        check(&store, &newest, &[rows(&[1, 3, 4])], &[]);
        assert_eq!(summary(&metadata(&store, &newest).await)["total-records"], "3");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn under_random_faults_the_newest_version_is_shown_in_the_end() {
    for seed in 1..=20 {
        let (_folder, stores) = stores();
        for clean in stores {
            let (_, definition) = table_of(&clean, &[0]).await;
            let plan = format!(
                "seed:{seed},lost_reply_written:0.1,lost_reply_unwritten:0.1,error:0.05,repeat:0.1,truncate:0.05"
            );
            let store = clean.clone().with_faults(FaultPlan::parse(&plan).unwrap());
            let mut last = None;
            for n in 1..=5 {
                append(&clean, &definition, 0, &[n], &format!("a{n}")).await;
                let mut tries = 0;
                last = loop {
                    match expose(&store, LOCATION, None).await {
                        Ok(exposed) => break Some(exposed),
                        Err(error) => assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}"),
                    }
                    tries += 1;
                    assert!(tries < 200, "seed {seed}");
                };
                assert_eq!(last.as_ref().unwrap().version, SnapshotId(n));
            }
            let newest = exposed(&clean).await;
            assert_eq!(newest.outcome, Exposure::AlreadyThere, "seed {seed}");
            assert_eq!(Some(newest.table_uuid), last.map(|last| last.table_uuid), "no fault is taken for damage");
            assert_eq!(hint(&clean).await, "6");
            assert_eq!(summary(&metadata(&clean, &newest).await)["total-records"], "6");
            if seed <= 2 {
                check(&clean, &newest, &[rows(&[0, 1, 2, 3, 4, 5])], &[]);
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_at_one_time_do_no_damage() {
    let (_folder, stores) = stores();
    for store in stores {
        let (_, definition) = table_of(&store, &[0]).await;
        for n in 1..=10 {
            append(&store, &definition, 0, &[n], &format!("a{n}")).await;
            let all = (0..4).map(|_| expose(&store, LOCATION, None));
            for exposed in futures::future::join_all(all).await {
                assert_eq!(exposed.unwrap().version, SnapshotId(n));
            }
        }
        let newest = exposed(&store).await;
        assert_eq!(newest.outcome, Exposure::AlreadyThere);
        assert_eq!(metadata(&store, &newest).await["snapshots"].as_array().unwrap().len(), 10);
        check(&store, &newest, &[rows(&(0..=10).collect::<Vec<_>>())], &[]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lake_may_lie_in_a_folder_with_an_odd_name() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["a b ü%20 (c)", "a#b?c=d"] {
        let store = Store::local(&folder.path().join(name)).unwrap();
        let (_, definition) = table_of(&store, &[1]).await;
        exposed(&store).await;
        append(&store, &definition, 0, &[2], "a").await;
        let newest = exposed(&store).await;
        assert!(newest.metadata_location.contains(name), "{}", newest.metadata_location);
        check(&store, &newest, &[rows(&[1, 2])], &["id = 2"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_exposed_survives_a_power_cut() {
    let (_folder, stores) = stores();
    for store in stores {
        let store = store.with_faults(FaultPlan::new(5));
        let (_, definition) = table_of(&store, &[0]).await;
        for n in 1..=3 {
            append(&store, &definition, 0, &[n], &format!("a{n}")).await;
            exposed(&store).await;
        }
        assert!(store.crash().await.unwrap().is_empty(), "everything that counts was synced");
        let reopened = store.with_faults(FaultPlan::default());
        assert_eq!(exposed(&reopened).await.outcome, Exposure::AlreadyThere);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_lying_disk_lost_is_made_again() {
    let mut rebuilt = 0;
    for seed in 1..=10 {
        let (_folder, stores) = stores();
        for clean in stores {
            let (_, definition) = table_of(&clean, &[0]).await;
            append(&clean, &definition, 0, &[1], "a").await;
            let store = clean.with_faults(FaultPlan::new(seed).lose_syncs());
            exposed(&store).await;
            store.crash().await.unwrap();
            let reopened = store.with_faults(FaultPlan::default());
            let newest = exposed(&reopened).await;
            rebuilt += usize::from(newest.outcome == Exposure::Rebuilt);
            assert_eq!(summary(&metadata(&reopened, &newest).await)["total-records"], "2");
            assert_eq!(hint(&reopened).await, "2");
        }
    }
    assert!(rebuilt > 0);
}
