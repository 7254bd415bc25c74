//! What one commit will do to one table, and doing it exactly once.

use roaring::RoaringTreemap;
use serde::{Deserialize, Serialize};

use lode_core::{SnapshotId, TableName};

use crate::{DataFile, LakeError, Store, TableDefinition};

/// The planned change of one table: written into the seal of an epoch, applied after it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TableChange {
    pub table: TableName,
    /// Folder of the table, relative to the lake.
    pub location: String,
    /// The snapshot that the change was planned on; `NONE` creates the table.
    pub base: SnapshotId,
    pub operation: Operation,
    /// The definition after the commit, when the commit changes it (create, add column, widen, properties).
    pub definition: Option<TableDefinition>,
    pub add: Vec<DataFile>,
    /// Paths of the files that a `Rewrite` takes out; other operations find theirs when they are applied.
    pub remove: Vec<String>,
    /// Rows that a `Rewrite` takes out of files that stay. Written as deletion vectors when the change is applied.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dead: Vec<DeadRows>,
    /// Operation name in the commit's history: `WRITE`, `MERGE`, `CREATE TABLE`, ….
    pub label: String,
}

/// How a change meets commits that came between `base` and now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Operation {
    /// Adds files; rebases over anything but a change of schema.
    Append,
    /// The table becomes the added files: whatever is there at the commit goes.
    Overwrite,
    /// As `Overwrite`, in the partitions that the added files touch.
    ReplacePartitions,
    /// Takes out `remove` and `dead` and adds `add`; refused when one of those files is gone, lost rows, or rows came in
    /// between.
    Rewrite,
}

/// Rows of one file that die.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeadRows {
    /// As `DataFile::path`.
    pub path: String,
    /// Positions in the file, from 0; those that are dead already do no harm.
    #[serde(with = "crate::delta::positions")]
    pub rows: RoaringTreemap,
}

/// The application transaction that makes a commit idempotent. Source: Delta protocol, "Transaction Identifiers".
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Txn {
    pub app_id: String,
    pub version: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Applied {
    Committed(SnapshotId),
    /// The log held this transaction already, at or before this snapshot.
    AlreadyThere(SnapshotId),
}

/// Commits `change` with `txn`, once: reads the log up to its end each time round, builds the commit on it and puts it
/// if absent. `guard` is asked before every put and may stop the work (a lost fence).
/// Errors: `Refused` when the change can never be applied (a foreign schema change, a missing input of a rewrite);
/// `Unavailable` when the store does not answer: call again.
/// Source: research/epoch.md §1.4.
pub async fn apply(
    store: &Store,
    change: &TableChange,
    txn: &Txn,
    guard: &(dyn Fn() -> Result<(), LakeError> + Send + Sync),
) -> Result<Applied, LakeError> {
    crate::delta::apply(store, change, txn, guard).await
}
