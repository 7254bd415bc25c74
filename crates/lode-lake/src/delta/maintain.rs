//! Commits that look after a table: compacted files, an older version again, marks of a vacuum. None needs a seal: its Delta
//! commit is the commit point.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use chrono::Utc;
use futures::TryStreamExt;
use futures::future::BoxFuture;
use object_store::ObjectStoreExt;
use roaring::RoaringTreemap;
use serde_json::Value;

use lode_core::SnapshotId;

use super::action::{Add, Commit, CommitInfo};
use super::commit::{ENGINE, Planner, encode, put, remove};
use super::log::{LogState, meta_data, read_commit};
use super::{DeltaTable, LiveFile, Snapshot, deletion_vector, protocol};
use crate::{Applied, DataFile, LakeError, StorePath};

/// Operation of a commit before which a vacuum deletes nothing.
pub(crate) const VACUUM_START: &str = "VACUUM START";
pub(crate) const VACUUM_END: &str = "VACUUM END";

type Guard<'a> = &'a (dyn Fn() -> Result<(), LakeError> + Send + Sync);

/// Files that take the place of others: the living rows of `inputs`, one input behind the other, in the order of `outputs`.
#[derive(Debug)]
pub struct Compaction {
    /// The snapshot at which the inputs were read.
    pub base: Arc<Snapshot>,
    pub inputs: Vec<LiveFile>,
    /// Each with statistics.
    pub outputs: Vec<DataFile>,
}

impl DeltaTable {
    /// Commits a compaction, without a change of data. Rows that died in an input since it was read die in the output too, so
    /// writers do not wait for it. `None` when an input is gone, has rows back, or a vacuum began meanwhile: the outputs are
    /// orphans then.
    /// Errors: `Refused`, `Unsupported`, `Store`.
    /// Source: research/epoch.md §1.9.
    pub async fn commit_compaction(
        &self,
        compaction: &Compaction,
        guard: Guard<'_>,
    ) -> Result<Option<SnapshotId>, LakeError> {
        let planner = CompactionPlanner { table: self, compaction };
        Ok(put(&self.store, &self.location, None, &planner, guard).await?.map(version))
    }

    /// Makes the rows, columns and properties of an older version the newest ones.
    /// Errors: `NotFound` naming a data file that is gone; those of `snapshot`; `Store`.
    /// Source: Delta, "Restore a table to an earlier state".
    pub async fn restore(&self, to: SnapshotId, guard: Guard<'_>) -> Result<SnapshotId, LakeError> {
        let state = LogState::load(&self.store, &self.location, Some(to.0)).await?;
        let Some(wanted) = state else {
            return Err(LakeError::NotFound { path: self.location.clone() });
        };
        for live in wanted.files.values() {
            let path = self.data_path(live)?;
            if self.store.head(&path).await?.is_none() {
                return Err(LakeError::NotFound { path: path.to_string() });
            }
            // A vector that is gone is an error of its own.
            self.deleted_rows(live).await?;
        }
        let planner = RestorePlanner { table: self, wanted };
        let applied = put(&self.store, &self.location, None, &planner, guard).await?;
        applied.map(version).ok_or_else(|| LakeError::NotFound { path: self.location.clone() })
    }

    /// Puts a commit that says something and changes nothing.
    pub(crate) async fn mark(&self, operation: &'static str, guard: Guard<'_>) -> Result<SnapshotId, LakeError> {
        let applied = put(&self.store, &self.location, None, &Mark(operation), guard).await?;
        applied.map(version).ok_or_else(|| LakeError::NotFound { path: self.location.clone() })
    }
}

fn version(applied: Applied) -> SnapshotId {
    match applied {
        Applied::Committed(version) | Applied::AlreadyThere(version) => version,
    }
}

fn info(operation: &str, state: &LogState, metrics: &[(&str, u64)]) -> CommitInfo {
    let text = |(key, value): &(&str, u64)| ((*key).to_owned(), Value::String(value.to_string()));
    CommitInfo {
        timestamp: Some(Utc::now().timestamp_millis()),
        operation: Some(operation.to_owned()),
        operation_metrics: Some(metrics.iter().map(text).collect()),
        read_version: Some(state.version),
        is_blind_append: Some(false),
        engine_info: Some(ENGINE.to_owned()),
        ..CommitInfo::default()
    }
}

struct Mark(&'static str);

impl Planner for Mark {
    fn plan<'a>(&'a self, state: Option<&'a LogState>) -> BoxFuture<'a, Result<Option<Commit>, LakeError>> {
        Box::pin(async move { Ok(state.map(|state| Commit { info: info(self.0, state, &[]), ..Commit::default() })) })
    }
}

struct CompactionPlanner<'a> {
    table: &'a DeltaTable,
    compaction: &'a Compaction,
}

impl Planner for CompactionPlanner<'_> {
    fn plan<'a>(&'a self, state: Option<&'a LogState>) -> BoxFuture<'a, Result<Option<Commit>, LakeError>> {
        Box::pin(async move {
            let Some(state) = state else { return Ok(None) };
            if let Some(feature) = protocol::refuses_write(&state.meta.protocol, &state.meta.raw) {
                let table = self.table.location.clone();
                return Err(LakeError::Unsupported { table, feature });
            }
            // The definition decides how files are written; a vacuum may have taken the outputs.
            if state.meta.definition != self.compaction.base.definition || self.was_vacuumed(state).await? {
                return Ok(None);
            }
            self.on(state).await
        })
    }
}

impl CompactionPlanner<'_> {
    async fn was_vacuumed(&self, state: &LogState) -> Result<bool, LakeError> {
        for version in self.compaction.base.version.0 + 1..=state.version {
            let commit = read_commit(&self.table.store, &self.table.location, version).await?;
            if commit.is_none_or(|(commit, _)| commit.info.operation.as_deref() == Some(VACUUM_START)) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    async fn on(&self, state: &LogState) -> Result<Option<Commit>, LakeError> {
        let now: HashMap<&str, &LiveFile> = state.files.values().map(|live| (live.file.path.as_str(), live)).collect();
        let mut ends: Vec<u64> = Vec::with_capacity(self.compaction.outputs.len());
        for output in &self.compaction.outputs {
            let rows = output.stats.as_ref().map_or(0, |stats| stats.num_records);
            ends.push(ends.last().copied().unwrap_or(0) + rows);
        }
        let mut dead: BTreeMap<usize, RoaringTreemap> = BTreeMap::new();
        let mut removes = Vec::new();
        let mut first = 0;
        let now_ms = Utc::now().timestamp_millis();
        for input in &self.compaction.inputs {
            let Some(live) = now.get(input.file.path.as_str()) else { return Ok(None) };
            let rows = input.file.stats.as_ref().map(|stats| stats.num_records);
            let before = self.table.deleted_rows(input).await?.unwrap_or_default();
            let after = match live.vector == input.vector {
                true => before.clone(),
                false => self.table.deleted_rows(live).await?.unwrap_or_default(),
            };
            if !before.is_subset(&after) {
                return Ok(None);
            }
            for position in &after - &before {
                // Living rows in front of it, of those that were read.
                let at = first + position - before.rank(position);
                let output = ends.partition_point(|end| *end <= at);
                let begin = output.checked_sub(1).and_then(|last| ends.get(last)).copied().unwrap_or(0);
                dead.entry(output).or_default().insert(at - begin);
            }
            let Some(rows) = rows else { return Ok(None) };
            first += rows - before.len();
            removes.push(remove(live, false, now_ms));
        }
        // Less or more was written than was read: nothing of it is believed.
        if ends.last().copied().unwrap_or(0) != first {
            return Ok(None);
        }
        let (places, vectors): (Vec<usize>, Vec<RoaringTreemap>) = dead.into_iter().unzip();
        let written = deletion_vector::write(&self.table.store, &self.table.location, &vectors).await?;
        let mut marked: HashMap<usize, _> = places.into_iter().zip(written).collect();
        let mut adds = Vec::with_capacity(self.compaction.outputs.len());
        for (place, output) in self.compaction.outputs.iter().enumerate() {
            let add = Add::of(output, marked.remove(&place), false);
            adds.push(add.map_err(|error| encode(&self.table.location, error))?);
        }
        let metrics = [("numAddedFiles", adds.len() as u64), ("numRemovedFiles", removes.len() as u64)];
        Ok(Some(Commit { info: info("OPTIMIZE", state, &metrics), adds, removes, ..Commit::default() }))
    }
}

struct RestorePlanner<'a> {
    table: &'a DeltaTable,
    wanted: LogState,
}

impl Planner for RestorePlanner<'_> {
    fn plan<'a>(&'a self, state: Option<&'a LogState>) -> BoxFuture<'a, Result<Option<Commit>, LakeError>> {
        Box::pin(async move {
            let Some(state) = state else { return Ok(None) };
            let now_ms = Utc::now().timestamp_millis();
            let key =
                |live: &LiveFile| (live.file.path.clone(), live.vector.as_deref().map(|vector| vector.unique_id()));
            let now: HashMap<_, &LiveFile> = state.files.values().map(|live| (key(live), live)).collect();
            let wanted: HashMap<_, &LiveFile> = self.wanted.files.values().map(|live| (key(live), live)).collect();
            let mut commit = Commit::default();
            for (_, live) in now.iter().filter(|(key, _)| !wanted.contains_key(*key)) {
                commit.removes.push(remove(live, true, now_ms));
            }
            for (_, live) in wanted.iter().filter(|(key, _)| !now.contains_key(*key)) {
                let vector = live.vector.as_deref().cloned();
                let add = Add::of(&live.file, vector, true).map_err(|error| encode(&self.table.location, error))?;
                let path = live.raw_path.as_ref().map_or(add.path.clone(), ToString::to_string);
                commit.adds.push(Add { path, ..add });
            }
            // Features that the table has by now stay: other writers count on them.
            let mut definition = self.wanted.meta.definition.clone();
            for key in [protocol::VECTORS] {
                if let Some(value) = state.meta.definition.properties.get(key) {
                    definition.properties.insert(key.to_owned(), value.clone());
                }
            }
            let meta = meta_data(&definition, state.meta.raw.created_time).map_err(|sql| LakeError::Unsupported {
                table: self.table.location.clone(),
                feature: format!("type {sql}"),
            })?;
            commit.meta_data = (meta != state.meta.raw).then_some(meta);
            let metrics =
                [("numRestoredFiles", commit.adds.len() as u64), ("numRemovedFiles", commit.removes.len() as u64)];
            commit.info = info("RESTORE", state, &metrics);
            let version = Value::String(self.wanted.version.to_string());
            commit.info.operation_parameters = Some([("version".to_owned(), version)].into());
            Ok(Some(commit))
        })
    }
}

impl DeltaTable {
    /// All data files and vectors that are live at `from` or at a later version. What lies outside of the store is left out.
    pub(crate) async fn paths_since(&self, from: SnapshotId) -> Result<HashSet<StorePath>, LakeError> {
        let state = LogState::load(&self.store, &self.location, Some(from.0)).await?;
        let Some(mut state) = state else { return Err(LakeError::NotFound { path: self.location.clone() }) };
        let mut paths = HashSet::new();
        let take = |paths: &mut HashSet<StorePath>, live: &LiveFile| {
            paths.extend(self.data_path(live).ok());
            paths.extend(live.vector.as_deref().and_then(|vector| vector.file(&self.store, &self.location)));
        };
        state.files.values().for_each(|live| take(&mut paths, live));
        while let Some((commit, _)) = read_commit(&self.store, &self.location, state.version + 1).await? {
            state.advance(commit, None, Utc::now())?;
            state.newest_step().0.iter().for_each(|live| take(&mut paths, live));
        }
        Ok(paths)
    }
}

impl DeltaTable {
    /// Names of the files of the key index that a snapshot needs. Errors: `Store`.
    pub(crate) async fn needed_runs(&self, snapshot: &Snapshot) -> Result<BTreeSet<String>, LakeError> {
        crate::keys::needed(&self.store, &self.location, snapshot).await
    }
}

impl DeltaTable {
    /// Whether a data file has the bytes that were written; `None` for one of a writer that keeps no checksum.
    /// Errors: `NotFound`, `Store`.
    pub async fn has_its_checksum(&self, live: &LiveFile) -> Result<Option<bool>, LakeError> {
        let Some(wanted) = live.file.tags.get(crate::write::CHECKSUM) else { return Ok(None) };
        let path = self.data_path(live)?;
        let failed = |error| crate::store::object_error("read", &path, error);
        let mut bytes = self.store.objects().get(&path).await.map_err(failed)?.into_stream();
        let mut checksum = crc32fast::Hasher::new();
        while let Some(bytes) = bytes.try_next().await.map_err(failed)? {
            checksum.update(&bytes);
        }
        Ok(Some(format!("{:08x}", checksum.finalize()) == *wanted))
    }
}
