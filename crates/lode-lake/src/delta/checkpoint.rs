//! Checkpoints: the whole state of a log at one version. Reading any form; ours are written through the kernel.
//! Source: Delta protocol, "Checkpoints".

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use delta_kernel::Snapshot;
use delta_kernel_default_engine::DefaultEngineBuilder;
use delta_kernel_default_engine::executor::tokio::TokioMultiThreadExecutor;
use lode_core::task;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde::Deserialize;
use url::Url;

use super::action::{Commit, Line};
use super::log::{at, log_folder, off_runtime};
use crate::{LakeError, Store, StorePath};

/// Commits between two checkpoints of ours.
pub(crate) const EVERY: i64 = 100;
/// Rows of a checkpoint turned into actions at a time.
const ROWS_AT_ONCE: usize = 8192;

#[derive(Deserialize)]
struct Pointer {
    version: i64,
}

/// The version that `_last_checkpoint` names; `None` when there is none or it is damaged.
pub(crate) async fn hint(store: &Store, location: &str) -> Result<Option<i64>, LakeError> {
    match store.get(&at(&format!("{location}/_delta_log/_last_checkpoint"))).await {
        Ok(bytes) => Ok(serde_json::from_slice::<Pointer>(&bytes).ok().map(|pointer| pointer.version)),
        Err(LakeError::NotFound { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Reads one whole checkpoint out of the files of its version. `None` when none is whole.
/// Errors: `Corrupt`, `Store`.
pub(crate) async fn read(store: &Store, location: &str, files: &[StorePath]) -> Result<Option<Commit>, LakeError> {
    let Some(parts) = whole(files) else { return Ok(None) };
    let mut commit = Commit::default();
    for path in parts {
        commit = read_part(store, path, commit).await?;
    }
    for sidecar in std::mem::take(&mut commit.sidecars) {
        let name = super::action::decode_path(&sidecar.path).unwrap_or(sidecar.path);
        // They lie in one folder, whether the path says so or not.
        let name = name.rsplit('/').next().unwrap_or(&name);
        let path = at(&format!("{}/_sidecars/{name}", log_folder(location)));
        commit = read_part(store, path, commit).await?;
    }
    Ok(Some(commit))
}

/// The files of one whole checkpoint: a single file, or all parts of a set.
fn whole(files: &[StorePath]) -> Option<Vec<StorePath>> {
    let mut sets: BTreeMap<usize, Vec<StorePath>> = BTreeMap::new();
    for path in files {
        let name: Vec<&str> = path.filename()?.split('.').collect();
        match name.as_slice() {
            [_, "checkpoint", _, of, "parquet"] => sets.entry(of.parse().ok()?).or_default().push(path.clone()),
            // One file, or the head of a v2 checkpoint.
            [_, "checkpoint", "parquet"] | [_, "checkpoint", _, "parquet" | "json"] => return Some(vec![path.clone()]),
            _ => {}
        }
    }
    sets.into_iter().find(|(of, parts)| parts.len() == *of).map(|(_, parts)| parts)
}

async fn read_part(store: &Store, path: StorePath, commit: Commit) -> Result<Commit, LakeError> {
    let bytes = store.get(&path).await?;
    off_runtime("delta checkpoint", move || {
        if path.as_ref().ends_with(".json") {
            let mut head = Commit::parse(&bytes, &path)?;
            head.adds.extend(commit.adds);
            return Ok(head);
        }
        parse(bytes, commit).map_err(|reason| LakeError::Corrupt { path: path.to_string(), reason })
    })
    .await
}

/// Turns the rows into lines of JSON, as a commit has them: one reader of actions for both forms.
fn parse(bytes: Bytes, mut commit: Commit) -> Result<Commit, String> {
    let builder = ParquetRecordBatchReaderBuilder::try_new(bytes).map_err(|error| error.to_string())?;
    let columns = builder.parquet_schema();
    let has_text_stats = columns.columns().iter().any(|column| column.path().string() == "add.stats");
    let wanted = columns.columns().iter().enumerate().filter(|(_, column)| {
        let path = column.path().parts();
        let is_known =
            path.first().is_some_and(|root| ["add", "metaData", "protocol", "txn", "sidecar"].contains(&root.as_str()));
        let is_copy = match path.get(1).map(String::as_str) {
            Some("partitionValues_parsed") => true,
            Some("stats_parsed") => has_text_stats,
            _ => false,
        };
        is_known && !is_copy
    });
    let mask = ProjectionMask::leaves(columns, wanted.map(|(at, _)| at).collect::<Vec<_>>());
    let reader =
        builder.with_projection(mask).with_batch_size(ROWS_AT_ONCE).build().map_err(|error| error.to_string())?;
    for batch in reader {
        let batch = batch.map_err(|error| error.to_string())?;
        let mut writer = arrow::json::LineDelimitedWriter::new(Vec::new());
        writer.write(&batch).and_then(|()| writer.finish()).map_err(|error| error.to_string())?;
        for text in writer.into_inner().split(|byte| *byte == b'\n').filter(|text| !text.is_empty()) {
            let line: Line = serde_json::from_slice(text).map_err(|error| error.to_string())?;
            commit.take(line);
        }
    }
    Ok(commit)
}

/// Writes the checkpoint of `version` in the background. A failure is only a warning: the commits are the truth.
pub(crate) fn write_soon(store: &Store, location: &str, version: i64) {
    let (store, location) = (store.clone(), location.to_owned());
    let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
    // Not joined: it holds nothing, and a process that ends in between leaves at most an unnamed file.
    drop(task::spawn("delta checkpoint", async move {
        if let Err(error) = write(&store, &location, version, runtime).await {
            tracing::warn!(table = location, version, %error, "checkpoint was not written");
        }
    }));
}

pub(crate) async fn write(
    store: &Store,
    location: &str,
    version: i64,
    runtime: tokio::runtime::Handle,
) -> Result<(), String> {
    let objects = store.objects();
    let url = table_url(location)?;
    task::blocking("delta checkpoint", move || {
        let executor = Arc::new(TokioMultiThreadExecutor::new(runtime));
        let engine = DefaultEngineBuilder::new(objects).with_task_executor(executor).build();
        let snapshot = Snapshot::builder_for(url.as_str())
            .at_version(version as u64)
            .build(&engine)
            .map_err(|error| error.to_string())?;
        snapshot.checkpoint(&engine, None).map_err(|error| error.to_string())?;
        Ok(())
    })
    .await
    .map_err(|problem| problem.to_string())?
}

/// The kernel finds a table below the root of the store that it is given, whatever the scheme.
pub(crate) fn table_url(location: &str) -> Result<Url, String> {
    let mut url = Url::parse("memory:///").map_err(|error| error.to_string())?;
    url.path_segments_mut().map_err(|()| "no path")?.pop_if_empty().extend(location.split('/')).push("");
    Ok(url)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use arrow::datatypes::Schema;
    use lode_core::{AttemptId, SnapshotId, TableName, sql_type};

    use super::*;
    use crate::{DeltaTable, Operation, TableChange, TableDefinition, TableWriter, Txn, WriterOptions, apply};

    /// The kernel is the oracle of our own replay, with and without its checkpoint.
    #[tokio::test(flavor = "multi_thread")]
    async fn the_kernel_sees_what_we_see() {
        let folder = tempfile::tempdir().unwrap();
        for store in [Store::local(folder.path()).unwrap(), Store::memory()] {
            let location = "bronze/späße x";
            let schema = Schema::new(vec![sql_type::field("id", "bigint").unwrap()]);
            let definition = TableDefinition::create(TableName::new("bronze", "t"), &schema, Vec::new()).unwrap();
            for version in 0..4_i64 {
                let mut writer =
                    TableWriter::new(&store, location, &definition, AttemptId::random(), WriterOptions::default());
                let ids: arrow::array::ArrayRef = Arc::new(arrow::array::Int64Array::from(vec![version]));
                writer.write(&arrow::array::RecordBatch::try_from_iter([("id", ids)]).unwrap()).unwrap();
                let change = TableChange {
                    table: definition.name.clone(),
                    location: location.into(),
                    base: SnapshotId(version - 1),
                    operation: if version == 2 { Operation::Overwrite } else { Operation::Append },
                    definition: (version == 0).then(|| definition.clone()),
                    add: writer.finish().unwrap(),
                    remove: Vec::new(),
                    dead: Vec::new(),
                    label: "WRITE".into(),
                };
                apply(&store, &change, &Txn { app_id: "a".into(), version }, &|| Ok(())).await.unwrap();
            }
            let ours = DeltaTable::new(&store, location).snapshot(None).await.unwrap();
            assert_eq!(kernel_files(&store, location).await, paths(&ours));
            write(&store, location, 3, tokio::runtime::Handle::current()).await.unwrap();
            assert_eq!(hint(&store, location).await.unwrap(), Some(3));
            assert_eq!(kernel_files(&store, location).await, paths(&ours));
            let cold = store.clone().with_faults(Default::default());
            let cold = DeltaTable::new(&cold, location).snapshot(None).await.unwrap();
            assert_eq!(paths(&cold), paths(&ours));
            assert_eq!((&cold.definition, &cold.txns), (&ours.definition, &ours.txns));
            let stats = |snapshot: &crate::Snapshot| {
                snapshot
                    .files
                    .iter()
                    .map(|live| (live.file.path.clone(), live.file.stats.clone()))
                    .collect::<BTreeMap<_, _>>()
            };
            assert_eq!(stats(&cold), stats(&ours));
        }
    }

    fn paths(snapshot: &crate::Snapshot) -> Vec<String> {
        let mut paths: Vec<String> = snapshot.files.iter().map(|live| live.file.path.clone()).collect();
        paths.sort_unstable();
        paths
    }

    async fn kernel_files(store: &Store, location: &str) -> Vec<String> {
        let (objects, url) = (store.objects(), table_url(location).unwrap());
        let runtime = tokio::runtime::Handle::current();
        let scanned = task::blocking("kernel", move || {
            let executor = Arc::new(TokioMultiThreadExecutor::new(runtime));
            let engine = DefaultEngineBuilder::new(objects).with_task_executor(executor).build();
            let snapshot = Snapshot::builder_for(url.as_str()).build(&engine).unwrap();
            let scan = snapshot.scan_builder().build().unwrap();
            let mut paths = Vec::new();
            for metadata in scan.scan_metadata(&engine).unwrap() {
                paths = metadata
                    .unwrap()
                    .visit_scan_files(paths, |paths: &mut Vec<String>, file| paths.push(file.path))
                    .unwrap();
            }
            paths.sort_unstable();
            paths
        });
        scanned.await.unwrap()
    }

    /// NULL partition values come back from a checkpoint, so that their partition can be replaced.
    #[tokio::test(flavor = "multi_thread")]
    async fn null_partitions_survive_a_checkpoint() {
        let store = Store::memory();
        let schema = Schema::new(vec![sql_type::field("id", "bigint").unwrap(), sql_type::field("p", "text").unwrap()]);
        let definition = TableDefinition::create(TableName::new("bronze", "t"), &schema, vec!["p".into()]).unwrap();
        let write_rows = |ids: Vec<i64>| {
            let options = WriterOptions::default();
            let mut writer = TableWriter::new(&store, "bronze/t", &definition, AttemptId::random(), options);
            let names: arrow::array::ArrayRef =
                Arc::new(arrow::array::StringViewArray::from_iter(ids.iter().map(|id| (*id > 1).then_some("x"))));
            let ids: arrow::array::ArrayRef = Arc::new(arrow::array::Int64Array::from(ids));
            writer.write(&arrow::array::RecordBatch::try_from_iter([("id", ids), ("p", names)]).unwrap()).unwrap();
            writer.finish().unwrap()
        };
        let change = |base: i64, operation, add| TableChange {
            table: definition.name.clone(),
            location: "bronze/t".into(),
            base: SnapshotId(base),
            operation,
            definition: (base < 0).then(|| definition.clone()),
            add,
            remove: Vec::new(),
            dead: Vec::new(),
            label: "WRITE".into(),
        };
        let first = change(-1, Operation::Append, write_rows(vec![1, 2]));
        apply(&store, &first, &Txn { app_id: "a".into(), version: 0 }, &|| Ok(())).await.unwrap();
        write(&store, "bronze/t", 0, tokio::runtime::Handle::current()).await.unwrap();
        let cold = store.clone().with_faults(Default::default());
        let replaced = change(0, Operation::ReplacePartitions, write_rows(vec![0]));
        apply(&cold, &replaced, &Txn { app_id: "a".into(), version: 1 }, &|| Ok(())).await.unwrap();
        let snapshot = DeltaTable::new(&cold, "bronze/t").snapshot(None).await.unwrap();
        let mut values: Vec<_> =
            snapshot.files.iter().map(|live| live.file.partition_values.values().next().cloned().unwrap()).collect();
        values.sort_unstable();
        assert_eq!(values, [None, Some("x".to_owned())]);
    }
}
