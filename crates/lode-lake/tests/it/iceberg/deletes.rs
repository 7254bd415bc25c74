use std::sync::Arc;

use arrow::array::*;
use lode_lake::{Exposure, Operation, Store, StorePath};
use serde_json::{Value, json};

use super::{check, check_at, exposed, files, metadata, summary};
use crate::build::*;

/// Rows 3, 4, 7, 11, 18 and 29, as delta-kernel-rs has them in its tests.
fn vector() -> Value {
    json!({
        "storageType": "i",
        "pathOrInlineDv": "^Bg9^0rr910000000000iXQKl0rr91000f55c8Xg0@@D72lkbi5=-{L",
        "sizeInBytes": 44,
        "cardinality": 6,
    })
}

/// Deletes the rows of `vector` from the file that commit `from` added, as a foreign writer does.
async fn delete_rows(store: &Store, from: i64, version: i64) {
    let add = log_line(store, from, "add").await.unwrap();
    let (mut with, remove) = (add.clone(), json!({"path": add["path"], "dataChange": true, "deletionTimestamp": 1}));
    with["deletionVector"] = vector();
    let protocol = json!({"minReaderVersion": 3, "minWriterVersion": 7, "readerFeatures": ["deletionVectors"], "writerFeatures": ["deletionVectors"]});
    foreign(store, version, &[json!({"protocol": protocol}), json!({"remove": remove}), json!({"add": with})]).await;
}

fn without_dead(ids: std::ops::Range<i64>) -> Vec<i64> {
    let start = ids.start;
    ids.filter(|id| ![3, 4, 7, 11, 18, 29].contains(&(id - start))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_rows_become_position_deletes() {
    let (_folder, stores) = stores();
    for store in stores {
        let all: Vec<i64> = (0..30).collect();
        let (_, definition) = table_of(&store, &all).await;
        let more: Vec<i64> = (100..130).collect();
        append(&store, &definition, 0, &more, "a").await;
        exposed(&store).await;
        delete_rows(&store, 0, 2).await;
        let second = exposed(&store).await;
        assert_eq!(second.outcome, Exposure::Added);
        let live = [rows(&without_dead(0..30)), rows(&more)];
        check(&store, &second, &live, &["id = 3", "id < 12", "id >= 100", "name = 'n29'"]);
        let read = metadata(&store, &second).await;
        assert_eq!(summary(&read)["operation"], "overwrite");
        assert_eq!(summary(&read)["total-delete-files"], "1");
        assert_eq!(summary(&read)["total-position-deletes"], "6");
        let delete_files = |files: Vec<(String, u64)>| -> Vec<String> {
            files.into_iter().map(|(name, _)| name).filter(|name| name.starts_with("lode-del-")).collect()
        };
        assert_eq!(delete_files(files(&store).await).len(), 1);

        // Another file loses rows: the first delete file stays as it is.
        delete_rows(&store, 1, 3).await;
        let third = exposed(&store).await;
        let deletes = delete_files(files(&store).await);
        assert_eq!(deletes.len(), 2);
        let live = [rows(&without_dead(0..30)), rows(&without_dead(100..130))];
        check(&store, &third, &live, &["id = 3", "id = 103", "id > 10"]);
        check_at(&store, &third, "2", &[rows(&all), rows(&more)], &[]);

        // An append touches none of it.
        append(&store, &definition, 3, &[200], "b").await;
        let fourth = exposed(&store).await;
        assert_eq!(delete_files(files(&store).await), deletes);
        let live = [rows(&without_dead(0..30)), rows(&without_dead(100..130)), rows(&[200])];
        check(&store, &fourth, &live, &["id > 99"]);

        // The first file gets its rows back, the second one goes.
        let bare = log_line(&store, 0, "add").await.unwrap();
        let remove = |path: &Value| json!({"remove": {"path": path, "dataChange": true, "deletionTimestamp": 1, "deletionVector": vector()}});
        let gone = log_line(&store, 1, "add").await.unwrap();
        foreign(&store, 5, &[remove(&bare["path"]), remove(&gone["path"]), json!({"add": bare})]).await;
        let fifth = exposed(&store).await;
        check(&store, &fifth, &[rows(&all), rows(&[200])], &["id = 3", "id = 100"]);
        check_at(&store, &fifth, "5", &live, &[]);
        let read = metadata(&store, &fifth).await;
        assert_eq!(summary(&read)["total-delete-files"], "0");
        assert_eq!(summary(&read)["removed-delete-files"], "2");
    }
}

/// A deletion vector in a file of its own, as its descriptor in the log. Source: Delta protocol, "Deletion Vectors".
async fn vector_file(store: &Store, name: &str, dead: &[u64]) -> Value {
    let mut block = 1_681_511_377_u32.to_le_bytes().to_vec();
    dead.iter().copied().collect::<roaring::RoaringTreemap>().serialize_into(&mut block).unwrap();
    let mut crc = flate2::Crc::new();
    crc.update(&block);
    let size = block.len() as u32;
    let file = [&[1][..], &size.to_be_bytes(), &block, &crc.sum().to_be_bytes()].concat();
    let path = format!("{LOCATION}/_dv/{name}.bin");
    store.put(&StorePath::from(path.as_str()), file.into()).await.unwrap();
    json!({
        "storageType": "p", "pathOrInlineDv": store.url().join(&path).unwrap().to_string(), "offset": 1,
        "sizeInBytes": size, "cardinality": dead.len(),
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vector_that_changes_replaces_its_delete_file() {
    let (_folder, stores) = stores();
    for store in stores {
        let all: Vec<i64> = (0..100).collect();
        table_of(&store, &all).await;
        exposed(&store).await;
        let add = log_line(&store, 0, "add").await.unwrap();
        let protocol = json!({"minReaderVersion": 3, "minWriterVersion": 7, "readerFeatures": ["deletionVectors"], "writerFeatures": ["deletionVectors"]});
        let mut before: Option<Value> = None;
        let steps: [&[u64]; 4] = [&[1], &[1, 2, 5, 99], &[], &[2]];
        for (version, dead) in (1..).zip(steps) {
            let mut remove = json!({"path": add["path"], "dataChange": true, "deletionTimestamp": 1});
            if let Some(before) = before.take() {
                remove["deletionVector"] = before;
            }
            let mut with = add.clone();
            with["deletionVector"] = vector_file(&store, &format!("v{version}"), dead).await;
            before = Some(with["deletionVector"].clone());
            let lines = [json!({"protocol": protocol}), json!({"remove": remove}), json!({"add": with})];
            foreign(&store, version, &lines).await;
            let newest = exposed(&store).await;
            assert_eq!(newest.outcome, Exposure::Added);
            let live: Vec<i64> = all.iter().copied().filter(|id| !dead.contains(&(*id as u64))).collect();
            check(&store, &newest, &[rows(&live)], &["id < 6", "id = 99"]);
            let read = metadata(&store, &newest).await;
            assert_eq!(summary(&read)["total-position-deletes"], dead.len().to_string());
            assert_eq!(summary(&read)["total-delete-files"], if dead.is_empty() { "0" } else { "1" });
        }
        let newest = exposed(&store).await;
        let live: Vec<i64> = all.iter().copied().filter(|id| ![1, 2, 5, 99].contains(id)).collect();
        check_at(&store, &newest, "3", &[rows(&live)], &[]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_rows_of_partitions_stay_in_their_partition() {
    let (_folder, stores) = stores();
    for store in stores {
        let definition = definition(&[("id", "bigint"), ("region", "text"), ("day", "date")], &["region", "day"]);
        let of = |ids: Vec<i64>, region: Option<&str>| {
            let count = ids.len();
            batch(vec![
                ("id", Arc::new(Int64Array::from(ids))),
                ("region", Arc::new(StringViewArray::from(vec![region; count]))),
                ("day", Arc::new(Date32Array::from(vec![region.map(|_| 7); count]))),
            ])
        };
        let all = |from: i64| (from..from + 30).collect::<Vec<i64>>();
        commit(&store, &creation(&definition, write(&store, &definition, &[of(all(0), Some("a"))])), "create", 1).await;
        let files = write(&store, &definition, &[of(all(100), None)]);
        commit(&store, &change(0, Operation::Append, files), "a", 1).await;
        let files = write(&store, &definition, &[of(all(200), Some("a"))]);
        commit(&store, &change(1, Operation::Append, files), "b", 1).await;
        delete_rows(&store, 0, 3).await;
        delete_rows(&store, 1, 4).await;
        let newest = exposed(&store).await;
        let live = [of(without_dead(0..30), Some("a")), of(without_dead(100..130), None), of(all(200), Some("a"))];
        let conditions = ["region = 'a'", "region is null", "id = 103", "id = 203", "day > '1970-01-07'"];
        check(&store, &newest, &live, &conditions);
        // Once more on top of what is there.
        delete_rows(&store, 2, 5).await;
        let newest = exposed(&store).await;
        assert_eq!(newest.outcome, Exposure::Added);
        let live = [
            of(without_dead(0..30), Some("a")),
            of(without_dead(100..130), None),
            of(without_dead(200..230), Some("a")),
        ];
        check(&store, &newest, &live, &conditions);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn delete_files_go_with_the_last_snapshot_that_needs_them() {
    let (_folder, stores) = stores();
    for store in stores {
        let all: Vec<i64> = (0..30).collect();
        let (_, definition) = table_of(&store, &all).await;
        delete_rows(&store, 0, 1).await;
        exposed(&store).await;
        commit(&store, &change(1, Operation::Overwrite, write(&store, &definition, &[rows(&[0])])), "a", 1).await;
        for n in 2..=104 {
            exposed(&store).await;
            let deletes = files(&store).await.iter().filter(|(name, _)| name.starts_with("lode-del-")).count();
            // Snapshot 101 is the last one to keep snapshot 2, and files are deleted at every eighth one.
            assert_eq!(deletes, usize::from(n < 103), "at version {n}");
            append(&store, &definition, n, &[n], &format!("a{n}")).await;
        }
    }
}
