use lode_core::{Explain, SnapshotId};
use lode_lake::{Applied, DeltaTable, LakeError, Operation};

use crate::build::*;

#[tokio::test]
async fn a_table_is_made_appended_and_read() {
    let (_kept, stores) = stores_and_buckets().await;
    for store in stores {
        let table = DeltaTable::new(&store, LOCATION);
        assert_eq!(table.newest().await.unwrap(), None);
        assert!(matches!(table.snapshot(None).await, Err(LakeError::NotFound { .. })));
        let (table, definition) = table_of(&store, &[1, 2]).await;
        assert_eq!(append(&store, &definition, 0, &[3], "a").await, Applied::Committed(SnapshotId(1)));
        let snapshot = table.snapshot(None).await.unwrap();
        assert_eq!(snapshot.version, SnapshotId(1));
        assert_eq!(snapshot.definition, definition);
        assert_eq!(snapshot.txns["a"], 1);
        assert_eq!(ids(&store, &snapshot).await, [1, 2, 3]);
        assert_eq!(table.newest().await.unwrap(), Some(SnapshotId(1)));
    }
}

#[tokio::test]
async fn an_overwrite_takes_what_came_in_between() {
    let (_kept, stores) = stores_and_buckets().await;
    for store in stores {
        let (table, definition) = table_of(&store, &[1, 2]).await;
        append(&store, &definition, 0, &[3], "other").await;
        let files = write(&store, &definition, &[rows(&[9])]);
        commit(&store, &change(0, Operation::Overwrite, files), "a", 1).await;
        assert_eq!(ids(&store, &table.snapshot(None).await.unwrap()).await, [9]);
    }
}

#[tokio::test]
async fn only_touched_partitions_are_replaced() {
    let (_kept, stores) = stores_and_buckets().await;
    for store in stores {
        let definition = definition(&[("id", "bigint"), ("name", "text")], &["name"]);
        let files = write(&store, &definition, &[rows(&[1, 2, 2])]);
        assert_eq!(files.len(), 2);
        commit(&store, &creation(&definition, files), "create", 1).await;
        let files = write(&store, &definition, &[rows(&[2])]);
        commit(&store, &change(0, Operation::ReplacePartitions, files), "a", 1).await;
        let snapshot = DeltaTable::new(&store, LOCATION).snapshot(None).await.unwrap();
        assert_eq!(ids(&store, &snapshot).await, [1, 2]);
        let path = &snapshot.files[0].file.path;
        assert!(path.starts_with("name=n"), "{path}");
    }
}

#[tokio::test]
async fn a_rewrite_is_refused_when_rows_came_in_between() {
    let (_kept, stores) = stores_and_buckets().await;
    for store in stores {
        let (table, definition) = table_of(&store, &[1, 2]).await;
        let inputs: Vec<String> =
            table.snapshot(None).await.unwrap().files.iter().map(|file| file.file.path.clone()).collect();
        let mut rewrite = change(0, Operation::Rewrite, write(&store, &definition, &[rows(&[2])]));
        rewrite.remove = inputs.clone();
        append(&store, &definition, 0, &[3], "other").await;
        let error = try_commit(&store, &rewrite, "a", 1).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "table \"bronze.events\" refuses the change: rows were written in version 1, after they were read"
        );
        assert!(error.remedy().unwrap().contains("lode pipeline resume"));
        rewrite.base = SnapshotId(1);
        commit(&store, &rewrite, "a", 1).await;
        assert_eq!(ids(&store, &table.snapshot(None).await.unwrap()).await, [2, 3]);
        // The inputs are gone now.
        let error = try_commit(&store, &rewrite, "a", 2).await.unwrap_err();
        assert!(matches!(error, LakeError::Refused { .. }));
    }
}

#[tokio::test]
async fn a_transaction_is_applied_once() {
    let (_kept, stores) = stores_and_buckets().await;
    for store in stores {
        let (table, definition) = table_of(&store, &[1]).await;
        let files = write(&store, &definition, &[rows(&[2])]);
        let change = change(0, Operation::Append, files);
        assert_eq!(commit(&store, &change, "a", 5).await, Applied::Committed(SnapshotId(1)));
        for version in [5, 4] {
            assert_eq!(commit(&store, &change, "a", version).await, Applied::AlreadyThere(SnapshotId(1)));
        }
        assert_eq!(ids(&store, &table.snapshot(None).await.unwrap()).await, [1, 2]);
        assert_eq!(commit(&store, &change, "a", 6).await, Applied::Committed(SnapshotId(2)));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn racing_appenders_each_commit_once() {
    let (_kept, stores) = stores_and_buckets().await;
    for store in stores {
        let (table, definition) = table_of(&store, &[0]).await;
        let mut racers = Vec::new();
        for racer in 1..=8_i64 {
            // Its own state of the log each, as in 8 processes.
            let (store, definition) = (store.clone().with_faults(Default::default()), definition.clone());
            racers.push(lode_core::task::spawn("racer", async move {
                for round in 0..4 {
                    let files = write(&store, &definition, &[rows(&[racer * 100 + round])]);
                    let done = commit(&store, &change(0, Operation::Append, files), &format!("r{racer}"), round).await;
                    assert!(matches!(done, Applied::Committed(_)));
                }
            }));
        }
        for racer in racers {
            racer.await.unwrap();
        }
        let snapshot = table.snapshot(None).await.unwrap();
        assert_eq!(snapshot.version, SnapshotId(32));
        let mut wanted: Vec<i64> = (1..=8).flat_map(|racer| (0..4).map(move |round| racer * 100 + round)).collect();
        wanted.insert(0, 0);
        assert_eq!(ids(&store, &snapshot).await, wanted);
    }
}

#[tokio::test]
async fn a_guard_that_says_stop_stops_before_the_put() {
    let (_kept, stores) = stores_and_buckets().await;
    for store in stores {
        let (table, definition) = table_of(&store, &[1]).await;
        let change = change(0, Operation::Append, write(&store, &definition, &[rows(&[2])]));
        let stopped = lode_lake::apply(&store, &change, &txn("a", 1), &|| Err(LakeError::Fenced)).await;
        assert!(matches!(stopped, Err(LakeError::Fenced)));
        assert_eq!(table.newest().await.unwrap(), Some(SnapshotId(0)));
    }
}

#[tokio::test]
async fn a_foreign_schema_change_refuses_and_a_foreign_property_does_not() {
    let (_kept, stores) = stores_and_buckets().await;
    for store in stores {
        let (table, definition) = table_of(&store, &[1]).await;
        let mut meta = log_line(&store, 0, "metaData").await.unwrap();
        meta["configuration"]["owner"] = "ops".into();
        foreign(&store, 1, &[serde_json::json!({"metaData": meta})]).await;
        let mut with_property = change(0, Operation::Append, write(&store, &definition, &[rows(&[2])]));
        let mut ours = definition.clone();
        ours.properties.insert("lode.model".into(), "m".into());
        with_property.definition = Some(ours);
        commit(&store, &with_property, "a", 1).await;
        let snapshot = table.snapshot(None).await.unwrap();
        assert_eq!(snapshot.definition.properties["owner"], "ops");
        assert_eq!(snapshot.definition.properties["lode.model"], "m");

        let text = meta["schemaString"].as_str().unwrap().replace("\"long\"", "\"string\"");
        meta["schemaString"] = text.into();
        foreign(&store, 3, &[serde_json::json!({"metaData": meta})]).await;
        let append = change(2, Operation::Append, write(&store, &definition, &[rows(&[3])]));
        let error = try_commit(&store, &append, "a", 2).await.unwrap_err();
        assert!(matches!(error, LakeError::Refused { .. }), "{error}");
    }
}

#[tokio::test]
async fn a_table_is_not_made_twice() {
    let (_kept, stores) = stores_and_buckets().await;
    for store in stores {
        let (_, definition) = table_of(&store, &[1]).await;
        let error = try_commit(&store, &creation(&definition, Vec::new()), "b", 1).await.unwrap_err();
        assert!(error.to_string().contains("a table stands in its folder already"));
        // The same transaction again is no error: a seal is rolled forward as often as needed.
        let again = commit(&store, &creation(&definition, Vec::new()), "create", 1).await;
        assert_eq!(again, Applied::AlreadyThere(SnapshotId(0)));
    }
}

#[tokio::test]
async fn a_foreign_writer_feature_refuses_by_name() {
    let (_kept, stores) = stores_and_buckets().await;
    for store in stores {
        let (_, definition) = table_of(&store, &[1]).await;
        let protocol = serde_json::json!({"protocol": {"minReaderVersion": 1, "minWriterVersion": 7, "writerFeatures": ["rowTracking"]}});
        foreign(&store, 1, &[protocol]).await;
        let append = change(0, Operation::Append, write(&store, &definition, &[rows(&[2])]));
        let error = try_commit(&store, &append, "a", 1).await.unwrap_err();
        assert!(error.to_string().contains("rowTracking"), "{error}");
        let protocol = serde_json::json!({"protocol": {"minReaderVersion": 3, "minWriterVersion": 7, "readerFeatures": ["catalogManaged"], "writerFeatures": ["catalogManaged"]}});
        foreign(&store, 2, &[protocol]).await;
        let error = DeltaTable::new(&store, LOCATION).snapshot(None).await.unwrap_err();
        assert!(error.to_string().contains("catalogManaged"), "{error}");
    }
}

#[tokio::test]
async fn a_definition_survives_a_seal() {
    let definition = definition(&[("id", "uuid"), ("at", "timestamptz"), ("tags", "text[]")], &[]);
    let text = serde_json::to_string(&definition).unwrap();
    let back: lode_lake::TableDefinition = serde_json::from_str(&text).unwrap();
    assert_eq!(back, definition);
}

#[tokio::test]
async fn a_file_is_removed_under_the_path_that_its_writer_gave_it() {
    let (_kept, stores) = stores_and_buckets().await;
    for store in stores {
        let (table, definition) = table_of(&store, &[1]).await;
        let mut add = log_line(&store, 0, "add").await.unwrap();
        // `%2D` and `-` are one name; which one stands in the log is the writer's choice.
        let raw = "part%2D1+a%3D.parquet";
        add["path"] = raw.into();
        foreign(&store, 1, &[serde_json::json!({"add": add})]).await;
        let snapshot = table.snapshot(None).await.unwrap();
        assert_eq!(snapshot.files[1].file.path, "part-1+a=.parquet");
        let files = write(&store, &definition, &[rows(&[2])]);
        let mut rewrite = change(1, Operation::Rewrite, files);
        rewrite.remove = vec!["part-1+a=.parquet".into()];
        commit(&store, &rewrite, "a", 1).await;
        assert_eq!(log_line(&store, 2, "remove").await.unwrap()["path"], raw);
        assert_eq!(ids(&store, &table.snapshot(None).await.unwrap()).await, [1, 2]);
    }
}
