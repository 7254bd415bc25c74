//! The catalog of one lake, as one process sees it.

use std::path::Path;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use lode_core::{Clock, Epoch, Fence, PipelineId, SnapshotId, TableId, TableName};
use lode_lake::{Snapshot, Store};

use crate::{CatalogError, Counts, Draft};

pub struct OpenOptions {
    /// Take over a lake that another metadata DB owns.
    pub adopt: bool,
    pub clock: Arc<dyn Clock>,
}

/// Handle on catalog and lake; share it as `Arc<Catalog>`.
pub struct Catalog {
    store: Store,
}

#[derive(Debug, Clone, PartialEq)]
pub enum RelationEntry {
    Table(TableEntry),
    View(ViewEntry),
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
    /// Errors: `Owned` when another DB owns the lake, `Newer` when a newer Lode wrote the DB, `Damaged` when the DB cannot
    /// be read (fix: `lode doctor --rebuild`).
    pub async fn open(store: Store, data_dir: &Path, options: OpenOptions) -> Result<Arc<Self>, CatalogError> {
        let _ = (data_dir, options);
        Ok(Arc::new(Self { store }))
    }

    pub fn store(&self) -> &Store {
        &self.store
    }

    pub fn fence(&self) -> Fence {
        unimplemented!()
    }

    pub fn now(&self) -> DateTime<Utc> {
        unimplemented!()
    }

    /// The relation of that name, a table at its published version (foreign commits above it are picked up first).
    pub async fn relation(&self, name: &TableName) -> Result<Option<RelationEntry>, CatalogError> {
        let _ = name;
        unimplemented!()
    }

    /// All relations, by name.
    pub async fn relations(&self) -> Result<Vec<RelationEntry>, CatalogError> {
        unimplemented!()
    }

    /// State of a table: the published one, or `at`. Kept in a cache by (location, version).
    pub async fn snapshot(&self, table: &TableEntry, at: Option<SnapshotId>) -> Result<Arc<Snapshot>, CatalogError> {
        let _ = (table, at);
        unimplemented!()
    }

    /// Registers a Delta table that another tool wrote in the lake folder at `location`.
    pub async fn register(&self, name: &TableName, location: &str) -> Result<TableEntry, CatalogError> {
        let _ = (name, location);
        unimplemented!()
    }

    /// The pipeline of that kind and name; made, with its descriptor in the lake, if it is new. With `renamed_from`, the
    /// pipeline of the old name goes on under the new one.
    pub async fn pipeline(
        &self,
        kind: PipelineKind,
        name: &str,
        renamed_from: Option<&str>,
    ) -> Result<Pipeline, CatalogError> {
        let _ = (kind, name, renamed_from);
        unimplemented!()
    }

    pub async fn pipelines(&self) -> Result<Vec<PipelineStatus>, CatalogError> {
        unimplemented!()
    }

    /// Clears a block after the cause was removed, and rolls the sealed epoch forward.
    pub async fn resume(&self, pipeline: &Pipeline) -> Result<(), CatalogError> {
        let _ = pipeline;
        unimplemented!()
    }

    /// Starts the next epoch of a pipeline. An unfinished one is rolled forward first; one draft a pipeline at a time in a
    /// process, others wait.
    pub async fn begin(self: &Arc<Self>, pipeline: &Pipeline) -> Result<Draft, CatalogError> {
        let _ = pipeline;
        unimplemented!()
    }

    /// All ledger rows of an ingest pipeline: for each path its newest row.
    pub async fn files(&self, pipeline: &Pipeline) -> Result<Vec<FileRow>, CatalogError> {
        let _ = pipeline;
        unimplemented!()
    }

    pub async fn record_run(&self, run: &RunRow) -> Result<(), CatalogError> {
        let _ = run;
        unimplemented!()
    }

    /// Newest first.
    pub async fn runs(&self, limit: usize) -> Result<Vec<RunRow>, CatalogError> {
        let _ = limit;
        unimplemented!()
    }

    /// Small values that other crates keep (parse cache keys, reuse keys); a projection, lost with the DB.
    pub async fn get_note(&self, scope: &str, key: &str) -> Result<Option<String>, CatalogError> {
        let _ = (scope, key);
        unimplemented!()
    }

    pub async fn put_note(&self, scope: &str, key: &str, value: &str) -> Result<(), CatalogError> {
        let _ = (scope, key, value);
        unimplemented!()
    }
}
