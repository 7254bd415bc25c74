//! One atomic step of a pipeline: Draft -> Sealed -> Applied -> Published. Source: research/epoch.md.
//!
//! | Arrow | File | After a crash there |
//! |---|---|---|
//! | begin: roll an unfinished epoch forward, read the newest seal | `recover.rs` | done again |
//! | seal: the commit point | `seal.rs` | before: forgotten; after: rolled forward |
//! | apply: one Delta commit a table | `apply.rs` | rolled forward; `txn` keeps it from happening twice |
//! | publish: one DB transaction | `publish.rs` | rolled forward; `published = epoch - 1` keeps it single |
//!
//! No invariant leans on the fence: it stops a process early. What protects is names that are written once and the one
//! conditional transaction of publish.

mod apply;
mod claims;
mod publish;
mod recover;
mod seal;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use chrono::{DateTime, Utc};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::OwnedMutexGuard;

use lode_core::{AttemptId, Epoch, Fence, PipelineId, Problem, SnapshotId, TableId, TableName, fail, task};
use lode_lake::{Operation, TableChange};

use crate::{Catalog, CatalogError, FileRow, Pipeline};

pub(crate) use apply::app_id;
pub use claims::TableTurn;
pub(crate) use claims::{Claims, claim_keys};
pub(crate) use publish::cut;
pub(crate) use seal::read_seal;

/// Every place where a test may stop the process: before and after each arrow of the protocol.
pub const FAIL_POINTS: &[&str] = &[
    "epoch.start.before",
    "epoch.start.after",
    "epoch.list.before",
    "epoch.list.after",
    "epoch.collect.before",
    "epoch.collect.after",
    "epoch.seal.before",
    "epoch.seal.after",
    "epoch.apply.before",
    "epoch.apply.after",
    "epoch.publish.before",
    "epoch.publish.after",
    "epoch.ack.before",
    "epoch.ack.after",
];

/// What an epoch will do: everything that its seal needs to be rolled forward by any later process.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct SealContent {
    /// Position of the source after the epoch, in the source's own words; `from` is that of the seal before.
    pub position: serde_json::Value,
    /// Fingerprints of what made the rows: `plan`, `contract`, `decoder`.
    pub fingerprints: BTreeMap<String, String>,
    /// Tables read, with the snapshot that was read (foreign commits consumed).
    pub inputs: BTreeMap<String, SnapshotId>,
    /// One change a table at most. An `Append` of no files with no new definition is left out of the seal.
    pub tables: Vec<TableChange>,
    /// Changes of the catalog alone: views and drops. They happen before those of `tables`.
    pub catalog: Vec<CatalogChange>,
    /// File-ledger rows that become true with this epoch.
    pub files: Vec<FileRow>,
    pub counts: Counts,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CatalogChange {
    PutView {
        name: TableName,
        sql: String,
        schema_json: String,
    },
    /// Names a table that another tool wrote; see `Catalog::register`.
    PutTable {
        name: TableName,
        id: TableId,
        location: String,
        version: SnapshotId,
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
    /// Of the seal itself; a newer one is refused.
    pub format: u32,
    pub pipeline: PipelineId,
    pub epoch: Epoch,
    pub fence: Fence,
    pub attempt: AttemptId,
    pub sealed_at: DateTime<Utc>,
    pub lode_version: String,
    pub content: SealContent,
}

impl Seal {
    pub(crate) const FORMAT: u32 = 1;
}

/// A writing that is under way in this process: its files are not for a vacuum.
pub struct Attempt {
    pub id: AttemptId,
    running: Arc<Mutex<HashSet<AttemptId>>>,
}

impl Drop for Attempt {
    fn drop(&mut self) {
        self.running.lock().remove(&self.id);
    }
}

impl Catalog {
    /// Begins a writing whose files are named by its id.
    pub fn attempt(&self) -> Attempt {
        let (id, running) = (AttemptId::random(), Arc::clone(&self.attempts));
        running.lock().insert(id);
        Attempt { id, running }
    }

    /// Whether a writing that is under way in this process made a file, by its name.
    pub fn is_being_written(&self, path: &str) -> bool {
        let name = path.rsplit('/').next().unwrap_or_default();
        self.attempts.lock().iter().any(|id| name.starts_with(&id.to_string()))
    }
}

/// The next epoch of a pipeline, not sealed yet. Dropping it forgets everything.
pub struct Draft {
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) pipeline: Pipeline,
    pub(crate) epoch: Epoch,
    pub(crate) attempt: Attempt,
    pub(crate) previous: Option<Seal>,
    pub(crate) _turn: OwnedMutexGuard<()>,
}

impl std::fmt::Debug for Draft {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Draft").field("pipeline", &self.pipeline.name).field("epoch", &self.epoch).finish()
    }
}

/// An epoch that readers see.
#[derive(Debug, Clone, PartialEq)]
pub struct Published {
    pub epoch: Epoch,
    /// The changed tables at their published versions.
    pub tables: Vec<(TableName, SnapshotId)>,
    pub counts: Counts,
    /// What the source may be told, read from the metadata DB after the epoch was published.
    pub position: serde_json::Value,
}

impl Draft {
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    pub fn pipeline(&self) -> &Pipeline {
        &self.pipeline
    }

    /// Names the files that this draft writes.
    pub fn attempt(&self) -> AttemptId {
        self.attempt.id
    }

    /// The newest seal: the only truth of where the source stands.
    pub fn previous(&self) -> Option<&Seal> {
        self.previous.as_ref()
    }

    /// Seals, applies and publishes. Runs to its end once it has sealed, even if the caller goes away.
    /// Errors: `Conflict` when a table changed since it was read, `SealLost` when another seal took this number or it is
    /// unclear: begin again. `Blocked` when a table refuses, `Unfinished` when the store or DB does not answer: the epoch
    /// is sealed, and a later `begin` or start finishes it.
    pub async fn commit(self, content: SealContent) -> Result<Published, CatalogError> {
        let work = task::spawn("commit", self.commit_here(content));
        work.await.map_err(|error| Problem::internal("a commit stopped").cause(error))?
    }

    async fn commit_here(self, mut content: SealContent) -> Result<Published, CatalogError> {
        fail::point("epoch.collect.after")?;
        content.tables.retain(|change| {
            change.operation != Operation::Append || !change.add.is_empty() || change.definition.is_some()
        });
        check_shape(&content)?;
        let catalog = Arc::clone(&self.catalog);
        let _claimed = catalog.claim(self.pipeline.id, &content).await?;
        self.check_bases(&content).await?;
        let pipeline = self.pipeline.clone();
        let sealed = self.seal(content).await?;
        catalog.finish(&pipeline, sealed).await
    }
}

/// Refuses what no seal may hold. Errors: `Fail` with kind `Internal`, as only our own code makes contents.
fn check_shape(content: &SealContent) -> Result<(), Problem> {
    let mut seen = BTreeSet::new();
    for change in &content.tables {
        if !seen.insert(change.location.as_str()) {
            // Both would carry the same transaction id, and the second would count as done.
            return Err(Problem::internal(format!("two changes of table \"{}\" in one epoch", change.table)));
        }
        if change.base == SnapshotId::NONE && change.definition.is_none() {
            return Err(Problem::internal(format!("table \"{}\" is created without a definition", change.table)));
        }
    }
    let counts = &content.counts;
    let known = counts.rows_landed + counts.rows_quarantined + counts.rows_dropped;
    if counts.rows_in != known {
        return Err(Problem::internal(format!("{} rows came in, but {known} are accounted for", counts.rows_in)));
    }
    Ok(())
}
