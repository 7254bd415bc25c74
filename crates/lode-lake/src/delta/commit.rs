//! Our commits: built on the end of the log, put if absent, found again when the reply was lost.
//! Source: research/epoch.md §1.4; Delta protocol, "Writer Requirements".

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chrono::Utc;
use futures::future::BoxFuture;
use lode_core::{ErrorKind, Explain, SnapshotId, fail};
use roaring::RoaringTreemap;
use serde_json::Value;
use uuid::Uuid;

use super::action::{Add, Commit, CommitInfo, Remove, encode_path};
use super::deletion_vector::Descriptor;
use super::log::{LogState, Meta, commit_path, meta_data, read_commit};
use super::{LiveFile, cache, checkpoint, deletion_vector, protocol};
use crate::{Applied, LakeError, Operation, Put, Store, TableChange, TableDefinition, Txn};

/// Rounds against other writers before we ask to be called again.
const ROUNDS_MAX: u32 = 200;
/// Unclear answers of the store in a row before we ask to be called again.
const UNCLEAR_MAX: u32 = 3;
pub(super) const ENGINE: &str = concat!("Lode/", env!("CARGO_PKG_VERSION"));

pub(crate) async fn apply(
    store: &Store,
    change: &TableChange,
    txn: &Txn,
    guard: &(dyn Fn() -> Result<(), LakeError> + Send + Sync),
) -> Result<Applied, LakeError> {
    let planner = ChangePlanner { store, change };
    let location = change.location.trim_matches('/');
    match put(store, location, Some(txn), &planner, guard).await? {
        Some(applied) => Ok(applied),
        None => Err(refused(change, "there is nothing to do")),
    }
}

/// Makes the commit that belongs on a state of the log; asked again each time that another writer was faster.
pub(super) trait Planner: Sync {
    /// `None` gives up.
    fn plan<'a>(&'a self, state: Option<&'a LogState>) -> BoxFuture<'a, Result<Option<Commit>, LakeError>>;
}

struct ChangePlanner<'a> {
    store: &'a Store,
    change: &'a TableChange,
}

impl Planner for ChangePlanner<'_> {
    fn plan<'a>(&'a self, state: Option<&'a LogState>) -> BoxFuture<'a, Result<Option<Commit>, LakeError>> {
        Box::pin(async move { plan(self.store, self.change, state).await.map(Some) })
    }
}

/// Puts the commit of a planner at the end of the log, once. `None` when the planner gave up.
pub(super) async fn put(
    store: &Store,
    location: &str,
    txn: Option<&Txn>,
    planner: &dyn Planner,
    guard: &(dyn Fn() -> Result<(), LakeError> + Send + Sync),
) -> Result<Option<Applied>, LakeError> {
    let location = location.to_owned();
    let mut unclear = 0;
    // Ids of all commits that we tried: a reply may have been lost in any round.
    let mut tried = Tried::default();
    for round in 0..ROUNDS_MAX {
        let (version, commit, tag) = {
            let table = store.tables.table(&location);
            let mut state = table.lock().await;
            cache::refresh(store, &location, &mut state, None).await?;
            if let (Some(state), Some(txn)) = (state.as_ref(), txn)
                && state.txns.get(&txn.app_id).is_some_and(|there| *there >= txn.version)
            {
                return Ok(Some(already_there(store, &location, state.version, &tried).await));
            }
            let version = state.as_ref().map_or(0, |state| state.version + 1);
            let Some(mut commit) = planner.plan(state.as_ref()).await? else { return Ok(None) };
            let tag = Uuid::new_v4().to_string();
            commit.info.txn_id = Some(tag.clone());
            commit.txns.extend(txn.cloned());
            (version, commit, tag)
        };
        let bytes = commit.to_bytes(Utc::now().timestamp_millis()).map_err(|error| encode(&location, error))?;
        guard()?;
        point("lake.commit.before_put")?;
        tried.add(version, tag);
        let path = commit_path(&location, version);
        match store.put_if_absent(&path, Bytes::from(bytes)).await {
            Ok(Put::Created) => return committed(store, &location, version).map(Some),
            Ok(Put::Exists) => {
                unclear = 0;
                if is_ours(store, &location, version, &tried).await? {
                    return committed(store, &location, version).map(Some);
                }
                pause(round).await;
            }
            Err(error) => {
                // The put may have happened all the same: what stands there tells.
                if is_ours(store, &location, version, &tried).await.unwrap_or(false) {
                    return committed(store, &location, version).map(Some);
                }
                unclear += 1;
                if error.kind() != ErrorKind::Unavailable || unclear >= UNCLEAR_MAX {
                    return Err(error);
                }
                pause(round).await;
            }
        }
    }
    Err(LakeError::Store {
        action: "commit to",
        path: location,
        kind: ErrorKind::Unavailable,
        source: "other writers were faster each time".into(),
    })
}

fn committed(store: &Store, location: &str, version: i64) -> Result<Applied, LakeError> {
    point("lake.commit.after_put")?;
    if version > 0 && version % checkpoint::EVERY == 0 {
        checkpoint::write_soon(store, location, version);
    }
    Ok(Applied::Committed(SnapshotId(version)))
}

/// The commits that this call tried to put.
#[derive(Debug, Default)]
struct Tried {
    ids: HashSet<String>,
    /// Version of the first try: all others followed.
    first: Option<i64>,
}

impl Tried {
    fn add(&mut self, version: i64, id: String) {
        self.first.get_or_insert(version);
        self.ids.insert(id);
    }
}

/// The transaction is in the log. If one of our own tries put it there (its reply was lost), we say at which version,
/// however many commits of others stand behind it by now.
async fn already_there(store: &Store, location: &str, newest: i64, tried: &Tried) -> Applied {
    if let Some(first) = tried.first {
        for version in first..=newest {
            if is_ours(store, location, version, tried).await.unwrap_or(false) {
                return Applied::Committed(SnapshotId(version));
            }
        }
    }
    Applied::AlreadyThere(SnapshotId(newest))
}

fn point(name: &'static str) -> Result<(), LakeError> {
    fail::point(name).map_err(|problem| LakeError::Store {
        action: "pass",
        path: name.to_owned(),
        kind: problem.kind(),
        source: Box::new(problem),
    })
}

async fn is_ours(store: &Store, location: &str, version: i64, tried: &Tried) -> Result<bool, LakeError> {
    let there = read_commit(store, location, version).await?;
    Ok(there.and_then(|(commit, _)| commit.info.txn_id).is_some_and(|id| tried.ids.contains(&id)))
}

/// Up to 50 ms, more the more rounds were lost, and another time for each writer.
async fn pause(round: u32) {
    let jitter = u64::from(Uuid::new_v4().as_bytes()[0]);
    let most_us = 1_000 * u64::from(round.min(50));
    tokio::time::sleep(Duration::from_micros(most_us * jitter / 256)).await;
}

pub(super) fn encode(table: &str, error: impl std::error::Error + Send + Sync + 'static) -> LakeError {
    LakeError::Encode { table: table.to_owned(), source: Box::new(error) }
}

fn refused(change: &TableChange, reason: impl Into<String>) -> LakeError {
    LakeError::Refused { table: change.table.clone(), reason: reason.into() }
}

/// The commit that makes `change` happen on top of `state`.
/// Errors: `Refused` when it can never happen.
async fn plan(store: &Store, change: &TableChange, state: Option<&LogState>) -> Result<Commit, LakeError> {
    let Some(state) = state else { return create(change) };
    if change.base == SnapshotId::NONE {
        return Err(refused(change, "a table stands in its folder already"));
    }
    if change.base.0 > state.version {
        return Err(refused(change, format!("its log ends at {}, before snapshot {}", state.version, change.base)));
    }
    if let Some(feature) = protocol::refuses_write(&state.meta.protocol, &state.meta.raw) {
        return Err(refused(change, format!("it needs {feature}, which Lode cannot write")));
    }
    let mut commit = Commit::default();
    let removed = removed(store, change, state).await?;
    if !removed.is_empty() && state.meta.definition.is_append_only() {
        return Err(refused(change, "it is append-only"));
    }
    let marked = marked(store, change, &removed).await?;
    let mut definition = merged_definition(store, change, state).await?;
    let has_vectors = state.meta.definition.properties.get(protocol::VECTORS).is_some_and(|on| on == "true");
    if !marked.is_empty() && !has_vectors {
        let allowing = definition.get_or_insert_with(|| state.meta.definition.clone());
        allowing.properties.insert(protocol::VECTORS.to_owned(), "true".to_owned());
    }
    if let Some(definition) = &definition {
        let meta = meta_data(definition, state.meta.raw.created_time)
            .map_err(|sql| refused(change, format!("type {sql} has no Delta type")))?;
        let needed = protocol::needed(definition, Some(&state.meta.protocol));
        commit.protocol = (needed != state.meta.protocol).then_some(needed);
        commit.meta_data = (meta != state.meta.raw).then_some(meta);
    }
    let now_ms = Utc::now().timestamp_millis();
    // Compaction moves rows and changes none.
    let data_change = change.label != "OPTIMIZE";
    commit.removes = removed.iter().map(|file| remove(file, data_change, now_ms)).collect();
    commit.adds = adds(change, data_change)?;
    for (file, vector) in marked {
        let mut add =
            Add::of(&file.file, Some(vector), data_change).map_err(|error| encode(&change.location, error))?;
        if let Some(raw) = &file.raw_path {
            add.path = raw.to_string();
        }
        commit.adds.push(add);
    }
    commit.info = info(change, &commit, now_ms);
    commit.info.read_version = Some(state.version);
    Ok(commit)
}

fn create(change: &TableChange) -> Result<Commit, LakeError> {
    let Some(definition) = change.definition.as_ref().filter(|_| change.base == SnapshotId::NONE) else {
        return Err(refused(change, "its log is gone"));
    };
    let now_ms = Utc::now().timestamp_millis();
    let meta =
        meta_data(definition, Some(now_ms)).map_err(|sql| refused(change, format!("type {sql} has no Delta type")))?;
    let mut commit = Commit {
        protocol: Some(protocol::needed(definition, None)),
        meta_data: Some(meta),
        adds: adds(change, true)?,
        ..Default::default()
    };
    commit.info = info(change, &commit, now_ms);
    Ok(commit)
}

/// The definition to write, if the change brings one; refuses what others changed under it.
async fn merged_definition(
    store: &Store,
    change: &TableChange,
    state: &LogState,
) -> Result<Option<TableDefinition>, LakeError> {
    let current = &state.meta.definition;
    let mut wanted = change.definition.clone();
    if let Some(wanted) = &mut wanted {
        // A table keeps its id for life.
        wanted.id = current.id;
    }
    let is_replaced = change.operation == Operation::Overwrite && wanted.is_some();
    if state.meta.since <= change.base.0 || is_replaced {
        return Ok(wanted);
    }
    let base = meta_at(store, change, state).await?;
    let before = &base.definition;
    if before.schema != current.schema
        || before.partition_by != current.partition_by
        || before.constraints != current.constraints
    {
        return Err(refused(change, format!("its columns or constraints were changed after snapshot {}", change.base)));
    }
    // Only properties moved: keep theirs, and set ours.
    if let Some(wanted) = &mut wanted {
        let mut properties = current.properties.clone();
        for (key, value) in &wanted.properties {
            if before.properties.get(key) != Some(value) {
                properties.insert(key.clone(), value.clone());
            }
        }
        wanted.properties = properties;
    }
    Ok(wanted)
}

async fn meta_at(store: &Store, change: &TableChange, state: &LogState) -> Result<Arc<Meta>, LakeError> {
    let loaded = LogState::load(store, &state.location, Some(change.base.0)).await?;
    loaded.map(|state| state.meta).ok_or_else(|| refused(change, format!("snapshot {} is gone", change.base)))
}

/// Of the files that the change takes out, those that stay in part, each with the vector of all its dead rows.
async fn marked(
    store: &Store,
    change: &TableChange,
    removed: &[LiveFile],
) -> Result<Vec<(LiveFile, Descriptor)>, LakeError> {
    let by_path: HashMap<&str, &LiveFile> = removed.iter().map(|file| (file.file.path.as_str(), file)).collect();
    let (mut files, mut vectors) = (Vec::new(), Vec::new());
    for dead in &change.dead {
        let Some(file) = by_path.get(dead.path.as_str()) else { continue };
        let mut rows = match file.vector.as_deref() {
            Some(before) => before.read(store, change.location.trim_matches('/')).await?,
            None => RoaringTreemap::new(),
        };
        rows |= &dead.rows;
        // A file without a living row goes.
        if file.file.stats.as_ref().is_some_and(|stats| rows.len() >= stats.num_records) {
            continue;
        }
        files.push((*file).clone());
        vectors.push(rows);
    }
    let descriptors = deletion_vector::write(store, change.location.trim_matches('/'), &vectors).await?;
    Ok(files.into_iter().zip(descriptors).collect())
}

/// The live files that the change takes out, whole or in part.
async fn removed(store: &Store, change: &TableChange, state: &LogState) -> Result<Vec<LiveFile>, LakeError> {
    match change.operation {
        Operation::Append => Ok(Vec::new()),
        Operation::Overwrite => Ok(state.files.values().cloned().collect()),
        Operation::ReplacePartitions => {
            let touched: HashSet<&BTreeMap<String, Option<String>>> =
                change.add.iter().map(|file| &file.partition_values).collect();
            Ok(state.files.values().filter(|file| touched.contains(&file.file.partition_values)).cloned().collect())
        }
        Operation::Rewrite => rewritten(store, change, state).await,
    }
}

async fn rewritten(store: &Store, change: &TableChange, state: &LogState) -> Result<Vec<LiveFile>, LakeError> {
    for version in change.base.0 + 1..=state.version {
        let between = read_commit(store, &state.location, version).await?;
        let Some((between, _)) = between else {
            return Err(refused(change, format!("version {version} of its log is gone")));
        };
        // A commit that only moves rows brings none; whether it took our inputs shows below.
        if between.adds.iter().any(|add| add.data_change) {
            return Err(refused(change, format!("rows were written in version {version}, after they were read")));
        }
    }
    let in_part = change.dead.iter().map(|dead| dead.path.as_str());
    let wanted: HashSet<&str> = change.remove.iter().map(String::as_str).chain(in_part).collect();
    let files: Vec<LiveFile> =
        state.files.values().filter(|file| wanted.contains(file.file.path.as_str())).cloned().collect();
    if files.len() != wanted.len() {
        return Err(refused(change, "a file that was read is no longer part of it"));
    }
    // A vector that came in between would be lost with its file.
    if state.version > change.base.0 && files.iter().any(|file| file.has_deletes) {
        // Not by the table's snapshot: our caller holds its lock.
        let base = LogState::load(store, &state.location, Some(change.base.0)).await.ok().flatten();
        let base = base.ok_or_else(|| refused(change, format!("snapshot {} is gone", change.base)))?;
        let before: HashMap<&str, _> =
            base.files.values().map(|old| (old.file.path.as_str(), old.vector.as_deref())).collect();
        let same = |file: &LiveFile| before.get(file.file.path.as_str()) == Some(&file.vector.as_deref());
        if !files.iter().all(same) {
            return Err(refused(change, "rows were deleted in a file after it was read"));
        }
    }
    Ok(files)
}

fn adds(change: &TableChange, data_change: bool) -> Result<Vec<Add>, LakeError> {
    let add = |file| Add::of(file, None, data_change).map_err(|error| encode(&change.location, error));
    change.add.iter().map(add).collect()
}

pub(super) fn remove(file: &LiveFile, data_change: bool, now_ms: i64) -> Remove {
    Remove {
        // Other readers may match the text itself.
        path: file.raw_path.as_ref().map_or_else(|| encode_path(&file.file.path), ToString::to_string),
        deletion_timestamp: Some(now_ms),
        data_change,
        extended_file_metadata: Some(true),
        partition_values: Some(file.file.partition_values.clone()),
        size: Some(file.file.size_bytes),
        // The log knows the file by its vector too: without it the rows would come back.
        deletion_vector: file.vector.as_deref().cloned(),
    }
}

fn info(change: &TableChange, commit: &Commit, now_ms: i64) -> CommitInfo {
    let mode = match change.operation {
        Operation::Append => "Append",
        Operation::Overwrite => "Overwrite",
        Operation::ReplacePartitions => "ReplacePartitions",
        Operation::Rewrite => "Rewrite",
    };
    let rows: u64 = change.add.iter().filter_map(|file| file.stats.as_ref()).map(|stats| stats.num_records).sum();
    let bytes: u64 = change.add.iter().map(|file| file.size_bytes).sum();
    let metrics = [
        ("numFiles", commit.adds.len() as u64),
        ("numOutputRows", rows),
        ("numOutputBytes", bytes),
        ("numRemovedFiles", commit.removes.len() as u64),
    ];
    // Parameters and metrics are text in Delta's own history, too.
    let text = |(key, value): (&str, String)| (key.to_owned(), Value::String(value));
    CommitInfo {
        timestamp: Some(now_ms),
        operation: Some(change.label.clone()),
        operation_parameters: Some([text(("mode", mode.to_owned()))].into()),
        operation_metrics: Some(metrics.into_iter().map(|(key, value)| text((key, value.to_string()))).collect()),
        read_version: None,
        is_blind_append: Some(change.operation == Operation::Append),
        engine_info: Some(ENGINE.to_owned()),
        txn_id: None,
    }
}
