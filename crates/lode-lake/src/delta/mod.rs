//! The Delta log: reading any, writing ours. Source: Delta transaction log protocol.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use chrono::{DateTime, Utc};

use lode_core::{AttemptId, SnapshotId, TableName};

use crate::{
    Applied, DataFile, Evolution, LakeError, SchemaPolicy, Store, TableChange, TableDefinition, Txn, WriterOptions,
};

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
    /// Live files, each with its deletion vector if it has one.
    pub files: Arc<Vec<LiveFile>>,
    /// Newest version of each application transaction.
    pub txns: HashMap<String, i64>,
}

/// A file of a snapshot, as a scan needs it.
#[derive(Debug, Clone)]
pub struct LiveFile {
    pub file: DataFile,
    pub has_deletes: bool,
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
    pub fn new(store: &Store, location: &str) -> Self {
        Self { store: store.clone(), location: location.to_owned() }
    }

    /// The newest version in the log; `None` when there is no table.
    pub async fn newest(&self) -> Result<Option<SnapshotId>, LakeError> {
        let _ = (&self.store, &self.location);
        unimplemented!()
    }

    /// The state at a version, or the newest one. Errors: `NotFound`, `NoSnapshot`, `Unsupported`, `Corrupt`.
    pub async fn snapshot(&self, at: Option<SnapshotId>) -> Result<Arc<Snapshot>, LakeError> {
        let _ = at;
        unimplemented!()
    }

    /// The version that was current at a time. Errors: `NoSnapshot`.
    pub async fn version_at(&self, at: DateTime<Utc>) -> Result<SnapshotId, LakeError> {
        let _ = at;
        unimplemented!()
    }

    /// Commits after `version`, oldest first; an empty answer costs one look at the store.
    pub async fn commits_after(&self, version: SnapshotId) -> Result<Vec<LogCommit>, LakeError> {
        let _ = version;
        unimplemented!()
    }

    /// Newest commits first.
    pub async fn history(&self, limit: usize) -> Result<Vec<CommitSummary>, LakeError> {
        let _ = limit;
        unimplemented!()
    }
}

impl Snapshot {
    pub fn schema(&self) -> &SchemaRef {
        &self.definition.schema
    }
}

pub(crate) mod schema_json {
    use arrow::datatypes::SchemaRef;
    use serde::{Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(schema: &SchemaRef, serializer: S) -> Result<S::Ok, S::Error> {
        let _ = (schema, serializer);
        unimplemented!()
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SchemaRef, D::Error> {
        let _ = deserializer;
        unimplemented!()
    }
}

pub(crate) fn create_definition(
    name: TableName,
    schema: &Schema,
    partition_by: Vec<String>,
) -> Result<TableDefinition, LakeError> {
    let _ = (name, schema, partition_by);
    unimplemented!()
}

pub(crate) fn evolve(table: &TableDefinition, incoming: &Schema, policy: SchemaPolicy) -> Result<Evolution, LakeError> {
    let _ = (table, incoming, policy);
    unimplemented!()
}

pub(crate) async fn apply(
    store: &Store,
    change: &TableChange,
    txn: &Txn,
    guard: &(dyn Fn() -> Result<(), LakeError> + Send + Sync),
) -> Result<Applied, LakeError> {
    let _ = (store, change, txn, guard);
    unimplemented!()
}

pub(crate) struct Writer {}

impl Writer {
    pub(crate) fn new(
        store: &Store,
        location: &str,
        definition: &TableDefinition,
        attempt: AttemptId,
        options: WriterOptions,
    ) -> Self {
        let _ = (store, location, definition, attempt, options);
        unimplemented!()
    }

    pub(crate) fn write(&mut self, batch: &RecordBatch) -> Result<(), LakeError> {
        let _ = batch;
        unimplemented!()
    }

    pub(crate) fn rows(&self) -> u64 {
        unimplemented!()
    }

    pub(crate) fn finish(self) -> Result<Vec<DataFile>, LakeError> {
        unimplemented!()
    }
}
