//! Data files: writing Parquet with field ids and statistics.

use std::collections::BTreeMap;

use arrow::array::RecordBatch;
use serde::{Deserialize, Serialize};

use lode_core::AttemptId;

use crate::{LakeError, Store, TableDefinition};

/// One Parquet file of a table. Source: Delta protocol, "Add File".
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DataFile {
    /// Relative to the table folder, not URL-encoded.
    pub path: String,
    pub size_bytes: u64,
    /// Partition column to text value; `None` is NULL.
    #[serde(default)]
    pub partition_values: BTreeMap<String, Option<String>>,
    pub modified_ms: i64,
    pub stats: Option<FileStats>,
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
}

/// Statistics of one file, as Delta's `stats` JSON. Source: Delta protocol, "Per-file Statistics".
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FileStats {
    pub num_records: u64,
    #[serde(default)]
    pub min_values: serde_json::Map<String, serde_json::Value>,
    #[serde(default)]
    pub max_values: serde_json::Map<String, serde_json::Value>,
    #[serde(default)]
    pub null_count: serde_json::Map<String, serde_json::Value>,
}

#[derive(Debug, Clone)]
pub struct WriterOptions {
    /// A new file is begun above this size, as stored.
    pub target_file_bytes: u64,
    /// Encoded bytes of the open row group above which it is flushed.
    pub row_group_bytes: usize,
    /// Parquet codec: zstd level; `None` is snappy.
    pub zstd_level: Option<i32>,
}

impl Default for WriterOptions {
    fn default() -> Self {
        Self { target_file_bytes: 256 << 20, row_group_bytes: 48 << 20, zstd_level: Some(1) }
    }
}

/// Writes batches into data files. Blocking: call it from `task::cpu`. One writer a thread; the files of several writers
/// go into one `TableChange`. Files become visible only by a commit; those of a dropped writer are orphans for `vacuum`.
pub struct TableWriter {
    inner: crate::write::Writer,
}

impl TableWriter {
    pub fn new(
        store: &Store,
        location: &str,
        definition: &TableDefinition,
        attempt: AttemptId,
        options: WriterOptions,
    ) -> Self {
        Self { inner: crate::write::Writer::new(store, location, definition, attempt, options) }
    }

    /// Writes rows whose columns are those of the definition by name, in any order; missing nullable columns become NULL,
    /// and types are cast only where that loses nothing.
    /// Errors: `Constraint` for a NULL in a NOT NULL column (row counted from 0 over the writer's life), `Schema`, `Store`.
    pub fn write(&mut self, batch: &RecordBatch) -> Result<(), LakeError> {
        self.inner.write(batch)
    }

    /// Rows written so far.
    pub fn rows(&self) -> u64 {
        self.inner.rows()
    }

    /// Closes, syncs and returns the files in write order. No rows, no files.
    pub fn finish(self) -> Result<Vec<DataFile>, LakeError> {
        self.inner.finish()
    }
}
