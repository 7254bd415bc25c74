//! The state of a table at a version, replayed from its log: newest checkpoint, then each commit behind it.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ops::RangeInclusive;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use lode_core::{SnapshotId, TableId, TableName, task};
use uuid::Uuid;

use super::action::{Add, Commit, MetaData, Protocol, encode_path};
use super::{LiveFile, Snapshot, checkpoint, protocol, schema};
use crate::{Constraint, LakeError, ObjectMeta, Store, StorePath, TableDefinition};

/// Commits that can be undone in memory, for readers that are a little behind.
const STEPS_KEPT: usize = 64;
/// Larger commits are parsed off the runtime.
const PARSED_INLINE_BYTES: usize = 64 << 10;
const CONSTRAINT: &str = "delta.constraints.";

/// A path below a table; names are taken as they are, not encoded again.
pub(crate) fn at(text: &str) -> StorePath {
    StorePath::parse(text).unwrap_or_else(|_| StorePath::from(text))
}

pub(crate) fn log_folder(location: &str) -> StorePath {
    at(&format!("{location}/_delta_log"))
}

pub(crate) fn commit_path(location: &str, version: i64) -> StorePath {
    at(&format!("{location}/_delta_log/{version:020}.json"))
}

/// Schema, properties and protocol, shared by all versions that did not change them.
#[derive(Debug)]
pub(crate) struct Meta {
    pub(crate) raw: MetaData,
    pub(crate) protocol: Protocol,
    pub(crate) definition: TableDefinition,
    /// Version that set it.
    pub(crate) since: i64,
}

#[derive(Debug)]
pub(crate) struct LogState {
    pub(crate) location: String,
    pub(crate) version: i64,
    pub(crate) committed_at: DateTime<Utc>,
    pub(crate) meta: Arc<Meta>,
    /// By order of arrival.
    pub(crate) files: BTreeMap<u64, LiveFile>,
    by_key: HashMap<String, u64>,
    pub(crate) txns: HashMap<String, i64>,
    next: u64,
    steps: VecDeque<Step>,
    /// What identifies the newest commit file, to find out when a table was made anew in the same folder.
    pub(crate) head: Option<String>,
    snapshot: Option<Arc<Snapshot>>,
}

/// How to go back from one version to the one before.
#[derive(Debug)]
struct Step {
    committed_before: DateTime<Utc>,
    meta_before: Arc<Meta>,
    added: Vec<u64>,
    removed: Vec<(u64, LiveFile)>,
    txns_before: Vec<(String, Option<i64>)>,
}

/// The log knows a file by its path and its deletion vector.
fn key(path: &str, vector: Option<&super::deletion_vector::Descriptor>) -> String {
    match vector {
        Some(vector) => format!("{path}\0{}", vector.unique_id()),
        None => path.to_owned(),
    }
}

/// What a listing of the log holds.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    pub(crate) commits: BTreeMap<i64, ObjectMeta>,
    /// Version to the files of each checkpoint of it, whole or not.
    pub(crate) checkpoints: BTreeMap<i64, Vec<StorePath>>,
}

impl Listing {
    pub(crate) async fn read(store: &Store, location: &str, from: i64) -> Result<Self, LakeError> {
        let after = (from > 0).then(|| at(&format!("{location}/_delta_log/{from:020}")));
        let mut listing = Self::default();
        for meta in store.list(&log_folder(location), after.as_ref()).await? {
            let Some(name) = meta.location.filename() else { continue };
            let Some((Ok(version), rest)) = name.split_once('.').map(|(digits, rest)| (digits.parse::<i64>(), rest))
            else {
                continue;
            };
            if rest == "json" {
                listing.commits.insert(version, meta);
            } else if rest.starts_with("checkpoint.") {
                listing.checkpoints.entry(version).or_default().push(meta.location);
            }
        }
        Ok(listing)
    }

    pub(crate) fn newest(&self) -> Option<i64> {
        self.commits.keys().chain(self.checkpoints.keys()).max().copied()
    }
}

/// Reads one commit. `None` when it is not there.
pub(crate) async fn read_commit(
    store: &Store,
    location: &str,
    version: i64,
) -> Result<Option<(Commit, Option<String>)>, LakeError> {
    let path = commit_path(location, version);
    let bytes = match store.get_tagged(&path).await {
        Err(LakeError::NotFound { .. }) => return Ok(None),
        other => other?,
    };
    let (bytes, tag) = bytes;
    let commit = if bytes.len() <= PARSED_INLINE_BYTES {
        Commit::parse(&bytes, &path)?
    } else {
        off_runtime("delta commit", move || Commit::parse(&bytes, &path)).await?
    };
    Ok(Some((commit, tag)))
}

pub(crate) async fn off_runtime<T: Send + 'static>(
    name: &'static str,
    work: impl FnOnce() -> Result<T, LakeError> + Send + 'static,
) -> Result<T, LakeError> {
    match task::cpu(name, work).await {
        Ok(result) => result,
        Err(problem) => Err(LakeError::Store {
            action: "finish",
            path: name.to_owned(),
            kind: problem.kind(),
            source: Box::new(problem),
        }),
    }
}

impl LogState {
    /// Replays the log up to `at`, or to its end. `None` when there is no table.
    /// Errors: `NoSnapshot`, `Corrupt`, `Unsupported`, `Store`.
    pub(crate) async fn load(store: &Store, location: &str, at: Option<i64>) -> Result<Option<Self>, LakeError> {
        let mut hint = checkpoint::hint(store, location).await?.filter(|hint| at.is_none_or(|at| *hint <= at));
        let mut listing = Listing::read(store, location, hint.unwrap_or(0)).await?;
        if hint.is_some_and(|hint| !listing.checkpoints.contains_key(&hint)) {
            // The pointer names nothing: look for ourselves.
            listing = Listing::read(store, location, 0).await?;
            hint = None;
        }
        let Some(newest) = listing.newest() else { return Ok(None) };
        let target = at.unwrap_or(newest);
        if target > newest || target < 0 {
            let (wanted, newest) = (SnapshotId(target), SnapshotId(newest));
            return Err(LakeError::NoSnapshot { table: location.to_owned(), wanted, newest });
        }
        let mut state = Self::from_checkpoint(store, location, &listing, 0..=target).await?;
        if let (None, Some(hint)) = (&state, hint) {
            // The pointer's checkpoint is not whole: what lies in front of it is needed after all.
            listing = Listing::read(store, location, 0).await?;
            state = Self::from_checkpoint(store, location, &listing, 0..=hint - 1).await?;
        }
        let first = state.as_ref().map_or(0, |state| state.version + 1);
        if state.is_none()
            && !listing.commits.contains_key(&0)
            && let Some((oldest, _)) = listing.checkpoints.range(target + 1..).next()
        {
            let (wanted, oldest) = (SnapshotId(target), SnapshotId(*oldest));
            return Err(LakeError::Cleaned { table: location.to_owned(), wanted, oldest });
        }
        for version in first..=target {
            let missing = || LakeError::Corrupt {
                path: log_folder(location).to_string(),
                reason: format!("version {version} is missing, but version {newest} is there"),
            };
            let meta = listing.commits.get(&version).ok_or_else(missing)?;
            let (commit, tag) = read_commit(store, location, version).await?.ok_or_else(missing)?;
            match &mut state {
                Some(state) => state.advance(commit, tag, meta.last_modified)?,
                None => {
                    let mut begun = Self::begin(location, version, commit, Some(meta.last_modified))?;
                    begun.head = tag;
                    state = Some(begun);
                }
            }
        }
        Ok(state)
    }

    /// The state of the newest checkpoint in `versions` that can be read; `None` when there is none.
    async fn from_checkpoint(
        store: &Store,
        location: &str,
        listing: &Listing,
        versions: RangeInclusive<i64>,
    ) -> Result<Option<Self>, LakeError> {
        if versions.is_empty() {
            return Ok(None);
        }
        for (version, files) in listing.checkpoints.range(versions).rev() {
            match checkpoint::read(store, location, files).await {
                Ok(Some(commit)) => {
                    let at = listing.commits.get(version).map(|meta| meta.last_modified);
                    return Self::begin(location, *version, commit, at).map(Some);
                }
                Ok(None) => {}
                Err(error @ LakeError::Store { .. }) => return Err(error),
                Err(error) => {
                    tracing::warn!(table = location, version, %error, "checkpoint is unusable, reading commits instead");
                }
            }
        }
        Ok(None)
    }

    /// The state that the actions of a checkpoint, or of the first commit, make.
    pub(crate) fn begin(
        location: &str,
        version: i64,
        mut commit: Commit,
        modified: Option<DateTime<Utc>>,
    ) -> Result<Self, LakeError> {
        let (Some(raw), Some(protocol)) = (commit.meta_data.take(), commit.protocol.take()) else {
            return Err(LakeError::Corrupt {
                path: commit_path(location, version).to_string(),
                reason: "the table has no metadata or no protocol".into(),
            });
        };
        let meta = Arc::new(Meta::new(location, raw, protocol, version)?);
        let mut state = Self {
            location: location.to_owned(),
            version: version - 1,
            committed_at: DateTime::UNIX_EPOCH,
            meta,
            files: BTreeMap::new(),
            by_key: HashMap::new(),
            txns: HashMap::new(),
            next: 0,
            steps: VecDeque::new(),
            head: None,
            snapshot: None,
        };
        state.advance(commit, None, modified.unwrap_or(DateTime::UNIX_EPOCH))?;
        state.steps.clear();
        Ok(state)
    }

    /// Applies the next commit, whole or not at all.
    pub(crate) fn advance(
        &mut self,
        commit: Commit,
        tag: Option<String>,
        modified: DateTime<Utc>,
    ) -> Result<(), LakeError> {
        let version = self.version + 1;
        let corrupt =
            |reason: String| LakeError::Corrupt { path: commit_path(&self.location, version).to_string(), reason };
        let meta = match (commit.meta_data, commit.protocol) {
            (None, None) => Arc::clone(&self.meta),
            (raw, protocol) => {
                let raw = raw.unwrap_or_else(|| self.meta.raw.clone());
                let protocol = protocol.unwrap_or_else(|| self.meta.protocol.clone());
                Arc::new(Meta::new(&self.location, raw, protocol, version)?)
            }
        };
        let by = meta.partition_names();
        let whole = |mut add: Add| {
            // Checkpoint writers leave out what is NULL.
            if add.partition_values.len() < by.len() {
                for column in &by {
                    add.partition_values.entry(column.clone()).or_insert(None);
                }
            }
            let raw_path = add.path.clone();
            let (file, vector) = add.into_file()?;
            let raw_path = (encode_path(&file.path) != raw_path).then(|| raw_path.into());
            Ok(LiveFile { file, has_deletes: vector.is_some(), vector, only: None, raw_path })
        };
        let adds: Result<Vec<LiveFile>, String> = commit.adds.into_iter().map(whole).collect();
        let adds = adds.map_err(corrupt)?;
        let removes: Result<Vec<String>, _> = commit
            .removes
            .iter()
            .map(|file| super::action::decode_path(&file.path).map(|path| key(&path, file.deletion_vector.as_ref())))
            .collect();
        let removes = removes.map_err(corrupt)?;
        // Nothing below fails.
        let mut step = Step {
            committed_before: self.committed_at,
            meta_before: std::mem::replace(&mut self.meta, meta),
            added: Vec::with_capacity(adds.len()),
            removed: Vec::new(),
            txns_before: Vec::new(),
        };
        for key in removes {
            self.take_out(&key, &mut step);
        }
        for live in adds {
            let key = key(&live.file.path, live.vector.as_deref());
            // An add of a file that is there replaces what was said of it.
            self.take_out(&key, &mut step);
            self.by_key.insert(key, self.next);
            self.files.insert(self.next, live);
            step.added.push(self.next);
            self.next += 1;
        }
        for txn in commit.txns {
            let before = self.txns.insert(txn.app_id.clone(), txn.version);
            step.txns_before.push((txn.app_id, before));
        }
        self.version = version;
        let stamp = commit.info.timestamp.and_then(DateTime::from_timestamp_millis).unwrap_or(modified);
        // Clocks of several writers differ: time never runs backwards along the log.
        self.committed_at = stamp.max(self.committed_at);
        self.head = tag;
        self.snapshot = None;
        self.steps.push_back(step);
        if self.steps.len() > STEPS_KEPT {
            self.steps.pop_front();
        }
        Ok(())
    }

    fn take_out(&mut self, key: &str, step: &mut Step) {
        if let Some(at) = self.by_key.remove(key)
            && let Some(file) = self.files.remove(&at)
        {
            step.removed.push((at, file));
        }
    }

    /// The files that the newest commit added and took out.
    pub(crate) fn newest_step(&self) -> (Vec<LiveFile>, Vec<LiveFile>) {
        let Some(step) = self.steps.back() else { return (Vec::new(), Vec::new()) };
        let added = step.added.iter().filter_map(|at| self.files.get(at).cloned()).collect();
        (added, step.removed.iter().map(|(_, file)| file.clone()).collect())
    }

    /// The snapshot of this state.
    pub(crate) fn snapshot(&mut self) -> Arc<Snapshot> {
        if let Some(snapshot) = &self.snapshot {
            return Arc::clone(snapshot);
        }
        let snapshot = Arc::new(Snapshot {
            version: SnapshotId(self.version),
            committed_at: self.committed_at,
            definition: self.meta.definition.clone(),
            files: Arc::new(self.files.values().cloned().collect()),
            txns: self.txns.clone(),
            read_only: protocol::refuses_write(&self.meta.protocol, &self.meta.raw),
        });
        self.snapshot = Some(Arc::clone(&snapshot));
        snapshot
    }

    /// The snapshot at an earlier version, if the way back is still in memory.
    pub(crate) fn snapshot_back(&self, at: i64) -> Option<Arc<Snapshot>> {
        let back = usize::try_from(self.version - at).ok()?;
        if back > self.steps.len() {
            return None;
        }
        let mut files = self.files.clone();
        let (mut txns, mut meta, mut committed_at) = (self.txns.clone(), &self.meta, self.committed_at);
        for step in self.steps.iter().rev().take(back) {
            for added in &step.added {
                files.remove(added);
            }
            files.extend(step.removed.iter().cloned());
            for (app_id, before) in step.txns_before.iter().rev() {
                match before {
                    Some(before) => txns.insert(app_id.clone(), *before),
                    None => txns.remove(app_id),
                };
            }
            meta = &step.meta_before;
            committed_at = step.committed_before;
        }
        Some(Arc::new(Snapshot {
            version: SnapshotId(at),
            committed_at,
            definition: meta.definition.clone(),
            files: Arc::new(files.into_values().collect()),
            txns,
            read_only: protocol::refuses_write(&meta.protocol, &meta.raw),
        }))
    }
}

impl Meta {
    /// The partition columns as files name them.
    fn partition_names(&self) -> Vec<String> {
        let physical = |name: &String| match self.definition.schema.field_with_name(name) {
            Ok(field) => schema::stored_field(field).name().clone(),
            Err(_) => name.clone(),
        };
        self.definition.partition_by.iter().map(physical).collect()
    }

    /// Errors: `Unsupported` for a feature or type that Lode does not know, `Corrupt`.
    fn new(location: &str, raw: MetaData, protocol: Protocol, since: i64) -> Result<Self, LakeError> {
        let unsupported = |feature: String| LakeError::Unsupported { table: location.to_owned(), feature };
        if let Some(feature) = protocol::refuses_read(&protocol) {
            return Err(unsupported(format!("the Delta feature {feature}")));
        }
        if raw.format.provider != "parquet" {
            return Err(unsupported(format!("data files in {}", raw.format.provider)));
        }
        let properties: BTreeMap<String, String> =
            raw.configuration.iter().filter_map(|(key, value)| Some((key.clone(), value.clone()?))).collect();
        let mut schema = schema::from_delta(&raw.schema_string).map_err(unsupported)?;
        if properties.get("delta.columnMapping.mode").is_none_or(|mode| mode == "none") {
            schema = schema::without_mapping(&schema);
        }
        let constraints = properties
            .iter()
            .filter_map(|(key, expression)| {
                let name = key.strip_prefix(CONSTRAINT)?.to_owned();
                Some(Constraint { name, expression: expression.clone() })
            })
            .collect();
        let definition = TableDefinition {
            id: table_id(&raw.id),
            name: raw.name.as_deref().and_then(|name| name.parse().ok()).unwrap_or_else(|| table_name(location)),
            schema,
            partition_by: raw.partition_columns.clone(),
            properties: properties.into_iter().filter(|(key, _)| !key.starts_with(CONSTRAINT)).collect(),
            constraints,
            comment: raw.description.clone(),
        };
        Ok(Self { raw, protocol, definition, since })
    }
}

/// The metadata action of a definition. Errors: the type that Delta does not have.
pub(crate) fn meta_data(definition: &TableDefinition, created_ms: Option<i64>) -> Result<MetaData, String> {
    let mut configuration: BTreeMap<String, Option<String>> =
        definition.properties.iter().map(|(key, value)| (key.clone(), Some(value.clone()))).collect();
    for constraint in &definition.constraints {
        configuration.insert(format!("{CONSTRAINT}{}", constraint.name), Some(constraint.expression.clone()));
    }
    Ok(MetaData {
        id: definition.id.to_string(),
        name: Some(definition.name.to_string()),
        description: definition.comment.clone(),
        format: super::action::Format { provider: "parquet".into(), options: BTreeMap::new() },
        schema_string: schema::to_delta(&definition.schema)?,
        partition_columns: definition.partition_by.clone(),
        created_time: created_ms,
        configuration,
    })
}

/// Foreign writers may use ids that are no uuids; the same text gives the same id.
fn table_id(text: &str) -> TableId {
    text.parse().unwrap_or_else(|_| {
        let mut bytes = [0_u8; 16];
        for (at, byte) in text.bytes().enumerate() {
            let slot = &mut bytes[at % 16];
            *slot = slot.rotate_left(3) ^ byte;
        }
        TableId(Uuid::from_bytes(bytes))
    })
}

/// The last two folders of a location.
fn table_name(location: &str) -> TableName {
    let mut parts = location.rsplit('/');
    let name = parts.next().unwrap_or_default();
    TableName::new(parts.next().filter(|part| !part.is_empty()).unwrap_or(TableName::DEFAULT_SCHEMA), name)
}
