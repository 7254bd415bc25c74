//! One atomic step of a pipeline: Draft -> Sealed -> Applied -> Published. Source: research/epoch.md.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use lode_core::{AttemptId, Epoch, Fence, PipelineId, SnapshotId, TableName};
use lode_lake::TableChange;

use crate::{CatalogError, FileRow};

/// What an epoch will do: everything that its seal needs to be rolled forward by any later process.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct SealContent {
    /// Position of the source after the epoch, in the source's own words; `from` is that of the seal before.
    pub position: serde_json::Value,
    /// Fingerprints of what made the rows: `plan`, `contract`, `decoder`.
    pub fingerprints: BTreeMap<String, String>,
    /// Tables read, with the snapshot that was read (foreign commits consumed).
    pub inputs: BTreeMap<String, SnapshotId>,
    pub tables: Vec<TableChange>,
    /// Changes of the catalog alone: views and drops.
    pub catalog: Vec<CatalogChange>,
    /// File-ledger rows that become true with this epoch.
    pub files: Vec<FileRow>,
    pub counts: Counts,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum CatalogChange {
    PutView {
        name: TableName,
        sql: String,
        schema_json: String,
    },
    /// Forgets a table or view; files of a table stay until vacuum.
    Drop {
        name: TableName,
    },
}

/// Rows of one epoch: `rows_in` = `rows_landed` + `rows_quarantined` + `rows_dropped`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    pub rows_in: u64,
    pub rows_landed: u64,
    pub rows_quarantined: u64,
    pub rows_dropped: u64,
    /// Rows that a replay moved from the quarantine into the table: in neither sum again.
    pub rows_replayed: u64,
}

/// The commit point of an epoch: `<lake>/_lode/pipelines/<pipeline id>/<epoch>.json`, put if absent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Seal {
    pub pipeline: PipelineId,
    pub epoch: Epoch,
    pub fence: Fence,
    pub attempt: AttemptId,
    pub sealed_at: DateTime<Utc>,
    pub lode_version: String,
    #[serde(flatten)]
    pub content: SealContent,
}

/// The next epoch of a pipeline, not sealed yet. Dropping it forgets everything.
pub struct Draft {
    pub(crate) epoch: Epoch,
    pub(crate) attempt: AttemptId,
    pub(crate) previous: Option<Seal>,
}

impl Draft {
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Names the files that this draft writes.
    pub fn attempt(&self) -> AttemptId {
        self.attempt
    }

    /// The newest seal: the only truth of where the source stands.
    pub fn previous(&self) -> Option<&Seal> {
        self.previous.as_ref()
    }

    /// Seals, applies and publishes. Runs to its end once it has sealed, even if the caller goes away.
    /// Errors: `SealLost` when another seal took this number or it is unclear: begin again; `Blocked` when a table refuses.
    pub async fn commit(self, content: SealContent) -> Result<Published, CatalogError> {
        let _ = content;
        unimplemented!()
    }
}

/// An epoch that readers see.
#[derive(Debug, Clone, PartialEq)]
pub struct Published {
    pub epoch: Epoch,
    pub tables: Vec<(TableName, SnapshotId)>,
    pub counts: Counts,
}
