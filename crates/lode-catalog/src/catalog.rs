//! The catalog of one lake, as one process sees it.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use chrono::{DateTime, TimeDelta, Utc};
use futures::future::BoxFuture;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use lode_core::{AttemptId, Clock, Epoch, Fence, PipelineId, Problem, SnapshotId, TableId, TableName, fail};
use lode_lake::{DeltaTable, Snapshot, Store, StorePath};

use crate::db::MetaDb;
use crate::epoch::Claims;
use crate::snapshots::SnapshotCache;
use crate::{CatalogChange, CatalogError, Counts, SealContent, owner};

pub struct OpenOptions {
    /// Take over a lake that another metadata DB owns.
    pub adopt: bool,
    pub clock: Arc<dyn Clock>,
}

/// Called at each arrow of the epoch protocol with its name; see `FAIL_POINTS`.
pub type ArrowHook = Arc<dyn Fn(&'static str) -> BoxFuture<'static, Result<(), Problem>> + Send + Sync>;

/// Handle on catalog and lake; share it as `Arc<Catalog>`.
pub struct Catalog {
    store: Store,
    db: MetaDb,
    /// Writings that are under way.
    pub(crate) attempts: Arc<Mutex<HashSet<AttemptId>>>,
    data_dir: PathBuf,
    clock: Arc<dyn Clock>,
    fence: Fence,
    /// A newer fence was seen in the DB.
    fenced: AtomicBool,
    pub(crate) claims: Claims,
    /// One draft a pipeline at a time.
    turns: Mutex<HashMap<PipelineId, Arc<tokio::sync::Mutex<()>>>>,
    /// Pipelines are made one at a time, so that one name gets one id.
    making: tokio::sync::Mutex<()>,
    /// Tables are shown in other formats one at a time.
    pub(crate) exposing: tokio::sync::Mutex<()>,
    snapshots: SnapshotCache,
    last_seal: Mutex<DateTime<Utc>>,
    rolled_forward: AtomicU64,
    /// Commits of the metadata DB that its newest copy holds.
    copied: AtomicU64,
    hook: Mutex<Option<ArrowHook>>,
}

impl std::fmt::Debug for Catalog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Catalog").field("db", &self.db.path()).field("fence", &self.fence).finish_non_exhaustive()
    }
}

#[derive(Debug, Clone, PartialEq)]
pub enum RelationEntry {
    Table(TableEntry),
    View(ViewEntry),
}

impl RelationEntry {
    pub fn name(&self) -> &TableName {
        match self {
            Self::Table(table) => &table.name,
            Self::View(view) => &view.name,
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct TableEntry {
    pub id: TableId,
    pub name: TableName,
    /// Folder relative to the lake.
    pub location: String,
    /// The pipeline that writes it; `None` for a table that came from outside.
    pub pipeline: Option<PipelineId>,
    pub published: SnapshotId,
}

#[derive(Debug, Clone, PartialEq)]
pub struct ViewEntry {
    pub name: TableName,
    pub sql: String,
    /// Arrow schema as JSON, as it was when the view was defined.
    pub schema_json: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PipelineKind {
    Ingest,
    Model,
    Statement,
}

/// A pipeline, known by its id; the name may change.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Pipeline {
    pub id: PipelineId,
    pub kind: PipelineKind,
    pub name: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PipelineState {
    Running,
    /// A table refused an epoch for good; `lode pipeline resume` goes on.
    Blocked,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PipelineStatus {
    pub pipeline: Pipeline,
    pub state: PipelineState,
    pub error: Option<String>,
    pub published: Epoch,
    pub published_at: Option<DateTime<Utc>>,
    pub position: serde_json::Value,
    /// Sums over all published epochs.
    pub counts: Counts,
}

/// A file of the ledger.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FileRow {
    /// As the source sees it: relative to the source's folder.
    pub path: String,
    /// BLAKE3 of the content, hex.
    pub hash: String,
    pub size_bytes: u64,
    pub modified_ms: i64,
    pub state: FileState,
    pub rows: u64,
    pub rows_quarantined: u64,
    /// Why it was not landed, or what it was renamed from.
    pub note: Option<String>,
    /// How its text records are written (JSON of the decoder), kept for files with rejects so that these can be read again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dialect: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FileState {
    Landed,
    /// Known content under a new name whose old name is gone.
    Renamed,
    /// Changed content that `on_change: ignore` leaves alone.
    Ignored,
    /// Cannot be read as a whole (cut archive, broken footer); reported, tried again when it changes or on request.
    Poison,
}

/// One run of a command, for `lode status` and the run history.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunRow {
    pub id: String,
    pub command: String,
    pub started_at: DateTime<Utc>,
    pub finished_at: Option<DateTime<Utc>>,
    /// `running | success | error`.
    pub status: String,
    /// One JSON object a node: name, kind, status, seconds, rows, message.
    pub nodes: serde_json::Value,
}

impl Catalog {
    /// Opens or makes the metadata DB in `data_dir`, checks the lake's owner, takes a new fence and rolls every
    /// unfinished epoch forward.
    /// Errors: `Owned` when the DB of another data folder owns the lake, `Replaced` when one of this folder did, `Newer` when a newer Lode wrote the DB, `Damaged` when the DB cannot
    /// The data folder of this process.
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// be read, `Lost` when it is gone and the lake has epochs (fix of these and of `Replaced`: `lode doctor --rebuild`).
    pub async fn open(store: Store, data_dir: &Path, options: OpenOptions) -> Result<Arc<Self>, CatalogError> {
        let db = owner::open_db(&store, data_dir, &options).await?;
        fail::point("epoch.start.before")?;
        let fence = db.next_fence().await?;
        fail::point("epoch.start.after")?;
        let catalog = Arc::new(Self {
            store,
            db,
            attempts: Arc::default(),
            data_dir: data_dir.to_owned(),
            clock: options.clock,
            fence,
            fenced: AtomicBool::new(false),
            claims: Claims::default(),
            turns: Mutex::default(),
            making: tokio::sync::Mutex::default(),
            exposing: tokio::sync::Mutex::default(),
            snapshots: SnapshotCache::default(),
            last_seal: Mutex::new(DateTime::UNIX_EPOCH),
            rolled_forward: AtomicU64::new(0),
            copied: AtomicU64::new(0),
            hook: Mutex::default(),
        });
        let opened = catalog.db.commits();
        catalog.sweep().await?;
        // To have been opened is no change that is worth a copy; an epoch that was rolled forward is.
        catalog.copied.store(opened, Ordering::Relaxed);
        Ok(catalog)
    }

    pub fn store(&self) -> &Store {
        &self.store
    }

    pub fn fence(&self) -> Fence {
        self.fence
    }

    pub fn now(&self) -> DateTime<Utc> {
        self.clock.now()
    }

    /// Epochs of an earlier process, or of a failed try, that this one has finished.
    pub fn rolled_forward(&self) -> u64 {
        self.rolled_forward.load(Ordering::Relaxed)
    }

    /// The relation of that name, a table at its published version (foreign commits above it are picked up first).
    pub async fn relation(&self, name: &TableName) -> Result<Option<RelationEntry>, CatalogError> {
        Ok(self.relations_at(std::slice::from_ref(name)).await?.pop())
    }

    /// Those of `names` that exist, in any order, all tables at one moment: no epoch is seen in a part of them only.
    pub async fn relations_at(&self, names: &[TableName]) -> Result<Vec<RelationEntry>, CatalogError> {
        let mut found = self.db.relations_named(names).await?;
        if self.refresh(&found).await? {
            // An epoch may have been published between the look at one log and the next.
            found = self.db.relations_named(names).await?;
        }
        Ok(found)
    }

    /// All relations, by name, tables as they were last published; foreign commits since then are not looked for.
    pub async fn relations(&self) -> Result<Vec<RelationEntry>, CatalogError> {
        self.db.relations().await
    }

    /// State of a table: the published one, or `at`. Kept in a cache by (location, version).
    pub async fn snapshot(&self, table: &TableEntry, at: Option<SnapshotId>) -> Result<Arc<Snapshot>, CatalogError> {
        let version = at.unwrap_or(table.published);
        if let Some(snapshot) = self.snapshots.get(&table.location, version) {
            return Ok(snapshot);
        }
        let snapshot = DeltaTable::new(&self.store, &table.location).snapshot(Some(version)).await?;
        self.snapshots.put(&table.location, &snapshot);
        Ok(snapshot)
    }

    /// A folder for a new table: `schema/name`, with a suffix when a table lies there already (a dropped one, say).
    pub async fn new_location(&self, name: &TableName) -> Result<String, CatalogError> {
        let plain = format!("{}/{}", name.schema, name.name);
        if DeltaTable::new(&self.store, &plain).newest().await?.is_none() {
            return Ok(plain);
        }
        let suffix = uuid::Uuid::new_v4().simple().to_string();
        Ok(format!("{plain}-{}", suffix.get(..12).unwrap_or_default()))
    }

    /// Registers a Delta table that another tool wrote in the lake folder at `location`.
    /// Errors: `Relation` when there is no table or the name is taken.
    pub async fn register(self: &Arc<Self>, name: &TableName, location: &str) -> Result<TableEntry, CatalogError> {
        let refuse =
            |reason: String, fix: &str| CatalogError::Relation { name: name.to_string(), reason, fix: fix.into() };
        match self.relation(name).await? {
            Some(RelationEntry::Table(table)) if table.location == location => return Ok(table),
            Some(_) => return Err(refuse("exists already".into(), "choose another name, or drop that one first")),
            None => {}
        }
        let table = DeltaTable::new(&self.store, location);
        if table.newest().await?.is_none() {
            let reason = format!("cannot be registered: there is no Delta table in the lake folder \"{location}\"");
            return Err(refuse(reason, "give the folder that holds `_delta_log`, relative to the lake"));
        }
        let snapshot = table.snapshot(None).await?;
        let content = SealContent {
            catalog: vec![CatalogChange::PutTable {
                name: name.clone(),
                id: snapshot.definition.id,
                location: location.to_owned(),
                version: snapshot.version,
            }],
            ..SealContent::default()
        };
        let pipeline = self.pipeline(PipelineKind::Statement, "lode.register", None).await?;
        self.begin(&pipeline).await?.commit(content).await?;
        match self.relation(name).await? {
            Some(RelationEntry::Table(table)) => Ok(table),
            _ => Err(refuse("was dropped at once".into(), "register it again")),
        }
    }

    /// The pipeline of that kind and name; made, with its descriptor in the lake, if it is new. With `renamed_from`, the
    /// pipeline of the old name goes on under the new one.
    pub async fn pipeline(
        &self,
        kind: PipelineKind,
        name: &str,
        renamed_from: Option<&str>,
    ) -> Result<Pipeline, CatalogError> {
        if let Some(found) = self.db.find_pipeline(kind, name).await? {
            return Ok(found.pipeline);
        }
        let _making = self.making.lock().await;
        if let Some(found) = self.db.find_pipeline(kind, name).await? {
            return Ok(found.pipeline);
        }
        if let Some(old) = renamed_from
            && let Some(found) = self.db.find_pipeline(kind, old).await?
        {
            return self.rename(found.pipeline, name).await;
        }
        // The lake first: a descriptor that no DB knows is harmless, a pipeline that no rebuild finds is not.
        let pipeline = Pipeline { id: PipelineId::random(), kind, name: name.to_owned() };
        self.write_descriptor(&pipeline).await?;
        self.db.add_pipelines(std::slice::from_ref(&pipeline)).await?;
        let found = self.db.find_pipeline(kind, name).await?;
        Ok(found.ok_or_else(|| Problem::internal(format!("pipeline \"{name}\" was not added")))?.pipeline)
    }

    pub async fn pipelines(&self) -> Result<Vec<PipelineStatus>, CatalogError> {
        self.db.pipeline_statuses().await
    }

    /// All ledger rows of an ingest pipeline: for each path its newest row.
    pub async fn files(&self, pipeline: &Pipeline) -> Result<Vec<FileRow>, CatalogError> {
        self.db.files(pipeline.id).await
    }

    pub async fn record_run(&self, run: &RunRow) -> Result<(), CatalogError> {
        self.db.record_run(run).await
    }

    /// Newest first.
    pub async fn runs(&self, limit: usize) -> Result<Vec<RunRow>, CatalogError> {
        self.db.runs(limit).await
    }

    /// Small values that other crates keep (parse cache keys, reuse keys); a projection, lost with the DB.
    pub async fn get_note(&self, scope: &str, key: &str) -> Result<Option<String>, CatalogError> {
        self.db.note(scope, key).await
    }

    pub async fn put_note(&self, scope: &str, key: &str, value: &str) -> Result<(), CatalogError> {
        self.db.put_note(scope, key, value).await
    }

    /// Copies the metadata DB to `<lake>/_lode/meta/`; the newest three copies stay. See `keep_copies`.
    pub async fn backup_meta(&self) -> Result<StorePath, CatalogError> {
        // Looked at first: what is written meanwhile may be missing in the copy.
        let commits = self.db.commits();
        let path = owner::backup(&self.store, &self.db, &self.data_dir, self.now()).await?;
        self.copied.store(commits, Ordering::Relaxed);
        Ok(path)
    }

    /// As `backup_meta`, if this handle has written anything since its last copy, or since it was opened.
    pub async fn backup_meta_if_changed(&self) -> Result<Option<StorePath>, CatalogError> {
        if self.db.commits() == self.copied.load(Ordering::Relaxed) {
            return Ok(None);
        }
        self.backup_meta().await.map(Some)
    }

    /// Closes the metadata DB; later calls fail. Not needed before the process ends: every commit is durable.
    pub async fn close(&self) {
        self.db.close().await;
    }

    /// For tests: lets `hook` pause or fail this handle at the arrows of the protocol.
    #[doc(hidden)]
    pub fn set_arrow_hook(&self, hook: ArrowHook) {
        *self.hook.lock() = Some(hook);
    }
}

impl Catalog {
    pub(crate) fn db(&self) -> &MetaDb {
        &self.db
    }

    /// Visits a fail point, and the hook of this handle.
    pub(crate) async fn arrow(&self, name: &'static str) -> Result<(), Problem> {
        fail::point(name)?;
        let hook = self.hook.lock().clone();
        match hook {
            Some(hook) => hook(name).await,
            None => Ok(()),
        }
    }

    /// Errors: `Fenced` when another process has taken over. Check-then-act: it saves work, no invariant leans on it.
    pub(crate) async fn check_fence(&self) -> Result<(), CatalogError> {
        if !self.is_fenced() && self.db.fence().await? == self.fence {
            return Ok(());
        }
        self.fenced.store(true, Ordering::Relaxed);
        Err(CatalogError::Fenced)
    }

    pub(crate) fn is_fenced(&self) -> bool {
        self.fenced.load(Ordering::Relaxed)
    }

    /// Now, but later than every seal of this process: a rebuild replays seals of several pipelines in this order.
    pub(crate) fn seal_time(&self) -> DateTime<Utc> {
        let mut last = self.last_seal.lock();
        let now = DateTime::from_timestamp_micros(self.now().timestamp_micros()).unwrap_or_default();
        *last = now.max(*last + TimeDelta::microseconds(1));
        *last
    }

    pub(crate) fn count_rolled_forward(&self) {
        self.rolled_forward.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn turn(&self, id: PipelineId) -> Arc<tokio::sync::Mutex<()>> {
        Arc::clone(self.turns.lock().entry(id).or_default())
    }

    async fn rename(&self, mut pipeline: Pipeline, name: &str) -> Result<Pipeline, CatalogError> {
        pipeline.name = name.to_owned();
        self.write_new_name(&pipeline).await?;
        self.db.rename_pipeline(pipeline.id, name).await?;
        tracing::info!(pipeline = %pipeline.name, id = %pipeline.id, "pipeline renamed");
        Ok(pipeline)
    }
}
