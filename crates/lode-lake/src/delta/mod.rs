//! The Delta log: reading any, writing ours. Source: Delta transaction log protocol.

pub(crate) mod action;
mod cache;
mod changes;
mod checkpoint;
mod commit;
mod deletion_vector;
mod evolve;
mod log;
mod maintain;
mod protocol;
mod pruning;
pub(crate) mod schema;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use chrono::{DateTime, Utc};
use parquet::arrow::arrow_reader::RowSelection;
use roaring::RoaringTreemap;

use lode_core::{SnapshotId, TableName};

use self::action::Commit;
use self::log::{Listing, LogState, read_commit};
use crate::{DataFile, LakeError, Store, StorePath, TableDefinition, Txn};

pub(crate) use cache::TableCache;
pub use changes::CommitChanges;
pub(crate) use commit::apply;
pub(crate) use deletion_vector::positions;
pub(crate) use evolve::{create_definition, evolve};
pub(crate) use log::off_runtime;
pub use maintain::Compaction;
pub(crate) use maintain::{VACUUM_END, VACUUM_START};
pub use pruning::ColumnStats;
pub(crate) use pruning::{text_of, typed};
pub(crate) use schema::schema_json;

/// A table folder.
#[derive(Debug, Clone)]
pub struct DeltaTable {
    store: Store,
    location: String,
}

/// One committed state of a table.
#[derive(Debug, Clone)]
pub struct Snapshot {
    pub version: SnapshotId,
    pub committed_at: DateTime<Utc>,
    pub definition: TableDefinition,
    /// Live files, oldest first, each with its deletion vector if it has one.
    pub files: Arc<Vec<LiveFile>>,
    /// Newest version of each application transaction.
    pub txns: HashMap<String, i64>,
    read_only: Option<String>,
}

/// A file of a snapshot, as a scan needs it. Cheap to clone.
#[derive(Debug, Clone)]
pub struct LiveFile {
    pub file: Arc<DataFile>,
    pub has_deletes: bool,
    pub(crate) vector: Option<Arc<deletion_vector::Descriptor>>,
    /// Of all rows, only these.
    pub(crate) only: Option<Arc<RoaringTreemap>>,
    /// The path as the log has it, where we would write it otherwise.
    pub(crate) raw_path: Option<Arc<str>>,
}

/// One commit, for `history`.
#[derive(Debug, Clone, PartialEq)]
pub struct CommitSummary {
    pub version: SnapshotId,
    pub committed_at: DateTime<Utc>,
    pub operation: String,
    pub engine: String,
    pub rows_added: Option<u64>,
    pub files_added: u64,
    pub files_removed: u64,
    pub properties: BTreeMap<String, String>,
}

/// What a reader of positions needs of one commit.
#[derive(Debug, Clone, PartialEq)]
pub struct LogCommit {
    pub version: SnapshotId,
    pub txns: Vec<Txn>,
}

impl DeltaTable {
    /// `location` is the table's folder, relative to the store.
    pub fn new(store: &Store, location: &str) -> Self {
        Self { store: store.clone(), location: location.trim_matches('/').to_owned() }
    }

    /// Relative to the store.
    pub(crate) fn location(&self) -> &str {
        &self.location
    }

    /// The newest version in the log; `None` when there is no table.
    /// Errors: as `snapshot`.
    pub async fn newest(&self) -> Result<Option<SnapshotId>, LakeError> {
        let table = self.store.tables.table(&self.location);
        let mut state = table.lock().await;
        if state.is_none() {
            let hint = checkpoint::hint(&self.store, &self.location).await?.unwrap_or(0);
            let mut newest = Listing::read(&self.store, &self.location, hint).await?.newest();
            if newest.is_none() && hint > 0 {
                // The pointer points behind the end.
                newest = Listing::read(&self.store, &self.location, 0).await?.newest();
            }
            return Ok(newest.map(SnapshotId));
        }
        cache::refresh(&self.store, &self.location, &mut state, None).await?;
        Ok(state.as_ref().map(|state| SnapshotId(state.version)))
    }

    /// The state at a version, or the newest one. A version that is in memory costs no look at the store.
    /// Errors: `NotFound`, `NoSnapshot`, `Unsupported`, `Corrupt`.
    pub async fn snapshot(&self, at: Option<SnapshotId>) -> Result<Arc<Snapshot>, LakeError> {
        let at = at.map(|at| at.0);
        let missing = || LakeError::NotFound { path: log::log_folder(&self.location).to_string() };
        let table = self.store.tables.table(&self.location);
        let mut state = table.lock().await;
        if state.as_ref().is_none_or(|state| at.is_none_or(|at| at > state.version)) {
            cache::refresh(&self.store, &self.location, &mut state, at).await?;
        }
        let known = state.as_mut().ok_or_else(missing)?;
        match at {
            Some(at) if at > known.version => Err(LakeError::NoSnapshot {
                table: self.location.clone(),
                wanted: SnapshotId(at),
                newest: SnapshotId(known.version),
            }),
            Some(at) if at < known.version => {
                if let Some(snapshot) = known.snapshot_back(at) {
                    return Ok(snapshot);
                }
                drop(state);
                let mut old = LogState::load(&self.store, &self.location, Some(at)).await?.ok_or_else(missing)?;
                Ok(old.snapshot())
            }
            _ => Ok(known.snapshot()),
        }
    }

    /// The version that was current at a time. Errors: `NotFound`, `NoSnapshot` when the log begins later.
    pub async fn version_at(&self, at: DateTime<Utc>) -> Result<SnapshotId, LakeError> {
        let listing = Listing::read(&self.store, &self.location, 0).await?;
        let versions: Vec<i64> = listing.commits.keys().copied().collect();
        let (Some(oldest), Some(newest)) = (versions.first(), versions.last()) else {
            return Err(LakeError::NotFound { path: log::log_folder(&self.location).to_string() });
        };
        // Commit times grow along the log, so a few commits are read, not all.
        let (mut low, mut high) = (0, versions.len());
        while low < high {
            let middle = low + (high - low) / 2;
            let version = versions.get(middle).copied().unwrap_or_default();
            if self.summary(&listing, version).await?.committed_at <= at {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        match low.checked_sub(1).and_then(|last| versions.get(last)) {
            Some(version) => Ok(SnapshotId(*version)),
            None => Err(LakeError::NoSnapshot {
                table: self.location.clone(),
                wanted: SnapshotId(*oldest - 1),
                newest: SnapshotId(*newest),
            }),
        }
    }

    /// Commits after `version`, oldest first; an empty answer costs two looks at the store.
    /// Commits that a clean-up of the log took are one with the oldest checkpoint that is left: it stands for all
    /// transactions up to it.
    pub async fn commits_after(&self, version: SnapshotId) -> Result<Vec<LogCommit>, LakeError> {
        let mut commits = Vec::new();
        let mut next = version.0 + 1;
        while let Some((commit, _)) = read_commit(&self.store, &self.location, next).await? {
            commits.push(LogCommit { version: SnapshotId(next), txns: commit.txns });
            next += 1;
        }
        if commits.is_empty()
            && let Some(state) = self.behind_cleaned(version).await?
        {
            next = state.version + 1;
            let txns = state.txns.into_iter().map(|(app_id, version)| Txn { app_id, version }).collect();
            commits.push(LogCommit { version: SnapshotId(state.version), txns });
            while let Some((commit, _)) = read_commit(&self.store, &self.location, next).await? {
                commits.push(LogCommit { version: SnapshotId(next), txns: commit.txns });
                next += 1;
            }
        }
        Ok(commits)
    }

    /// The oldest state that can be read above `version`, if the commits in between were cleaned out of the log.
    async fn behind_cleaned(&self, version: SnapshotId) -> Result<Option<LogState>, LakeError> {
        // Logs are cleaned from their beginning: what is there is the end.
        if version.0 >= 0 && self.store.head(&log::commit_path(&self.location, version.0)).await?.is_some() {
            return Ok(None);
        }
        let listing = Listing::read(&self.store, &self.location, 0).await?;
        for oldest in listing.checkpoints.range(version.0 + 1..).map(|(version, _)| *version) {
            match LogState::load(&self.store, &self.location, Some(oldest)).await {
                // A checkpoint that is not whole.
                Err(LakeError::Cleaned { .. } | LakeError::Corrupt { .. }) => {}
                other => return other,
            }
        }
        Ok(None)
    }

    /// Where a data file lies below the store's root.
    /// Errors: `Unsupported` for a file outside of the store.
    pub fn data_path(&self, file: &LiveFile) -> Result<StorePath, LakeError> {
        let path = file.file.path.as_str();
        let is_scheme = |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
        let is_url = path.split_once(':').is_some_and(|(scheme, rest)| is_scheme(scheme) && rest.starts_with('/'));
        if path.starts_with('/') || is_url {
            return self.store.below(path).ok_or_else(|| LakeError::Unsupported {
                table: self.location.clone(),
                feature: format!("the data file \"{path}\" outside of the lake"),
            });
        }
        StorePath::parse(format!("{}/{path}", self.location)).map_err(|error| LakeError::Corrupt {
            path: format!("{}/{path}", self.location),
            reason: error.to_string(),
        })
    }

    /// Newest commits first, as far back as the log still holds them.
    pub async fn history(&self, limit: usize) -> Result<Vec<CommitSummary>, LakeError> {
        let listing = Listing::read(&self.store, &self.location, 0).await?;
        let mut summaries = Vec::new();
        for version in listing.commits.keys().rev().take(limit) {
            summaries.push(self.summary(&listing, *version).await?);
        }
        Ok(summaries)
    }

    async fn summary(&self, listing: &Listing, version: i64) -> Result<CommitSummary, LakeError> {
        let path = log::commit_path(&self.location, version);
        let (commit, _) = read_commit(&self.store, &self.location, version)
            .await?
            .ok_or_else(|| LakeError::NotFound { path: path.to_string() })?;
        let modified = listing.commits.get(&version).map(|meta| meta.last_modified).unwrap_or_default();
        Ok(summary(version, commit, modified))
    }

    /// The dead rows of a file, by position from 0; `None` when all its rows live.
    /// Errors: `Corrupt`, `NotFound`, `Store`, `Unsupported`.
    pub async fn deleted_rows(&self, file: &LiveFile) -> Result<Option<RoaringTreemap>, LakeError> {
        match &file.vector {
            Some(vector) => vector.read(&self.store, &self.location).await.map(Some),
            None => Ok(None),
        }
    }

    /// The live rows of a file of `total_rows` rows, for a Parquet scan; `None` when all live.
    /// Errors: as `deleted_rows`.
    pub async fn live_rows(&self, file: &LiveFile, total_rows: u64) -> Result<Option<RowSelection>, LakeError> {
        if let Some(only) = &file.only {
            let mut dead = RoaringTreemap::new();
            dead.insert_range(0..total_rows);
            dead -= only.as_ref();
            return Ok(Some(deletion_vector::live_rows(&dead, total_rows)));
        }
        Ok(self.deleted_rows(file).await?.map(|dead| deletion_vector::live_rows(&dead, total_rows)))
    }
}

fn summary(version: i64, commit: Commit, modified: DateTime<Utc>) -> CommitSummary {
    let info = commit.info;
    let text = |value: &serde_json::Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let properties = [&info.operation_parameters, &info.operation_metrics]
        .into_iter()
        .flatten()
        .flatten()
        .map(|(key, value)| (key.clone(), text(value)))
        .collect();
    let files_added = commit.adds.len() as u64;
    let rows: Option<Vec<u64>> = commit
        .adds
        .into_iter()
        .map(|add| add.into_file().ok().and_then(|(file, _)| file.stats.as_ref().map(|stats| stats.num_records)))
        .collect();
    CommitSummary {
        version: SnapshotId(version),
        committed_at: info.timestamp.and_then(DateTime::from_timestamp_millis).unwrap_or(modified),
        operation: info.operation.unwrap_or_else(|| "unknown".into()),
        engine: info.engine_info.unwrap_or_else(|| "unknown".into()),
        rows_added: rows.map(|rows| rows.iter().sum()),
        files_added,
        files_removed: commit.removes.len() as u64,
        properties,
    }
}

impl Snapshot {
    pub fn schema(&self) -> &SchemaRef {
        &self.definition.schema
    }

    /// Errors: `Unsupported` with the feature that keeps Lode from writing to the table.
    pub fn check_writable(&self, table: &TableName) -> Result<(), LakeError> {
        match &self.read_only {
            Some(feature) => Err(LakeError::Unsupported { table: table.to_string(), feature: feature.clone() }),
            None => Ok(()),
        }
    }
}

impl LiveFile {
    /// The file with all its rows, dead ones too: positions in it are those of its vector.
    pub fn whole(&self) -> Self {
        Self { has_deletes: false, vector: None, only: None, ..self.clone() }
    }

    /// Rows that live; `None` when the file has no statistics.
    pub fn live_row_count(&self) -> Option<u64> {
        let total = self.file.stats.as_ref()?.num_records;
        if let Some(only) = &self.only {
            return Some(only.len());
        }
        Some(total.saturating_sub(self.vector.as_ref().map_or(0, |vector| vector.cardinality)))
    }
}
