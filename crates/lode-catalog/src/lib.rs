//! What exists, and at which position: the metadata DB, and the epochs that move it.
//!
//! `Catalog` is opened once a process. `Catalog::begin` starts a `Draft` of a pipeline's next epoch, after rolling an
//! unfinished one forward; `Draft::commit` takes it through seal, apply and publish.

mod backup;
mod catalog;
mod db;
mod epoch;
mod error;
mod layout;
mod lock;
mod owner;
mod quarantine;
mod rebuild;
mod snapshots;

pub use backup::{copy_meta, keep_copies};
pub use catalog::{
    ArrowHook, Catalog, FileRow, FileState, OpenOptions, Pipeline, PipelineKind, PipelineState, PipelineStatus,
    RelationEntry, RunRow, TableEntry, ViewEntry,
};
pub use epoch::{Attempt, CatalogChange, Counts, Draft, FAIL_POINTS, Published, Seal, SealContent, TableTurn};
pub use error::CatalogError;
pub use lock::DataLock;
pub use quarantine::{QuarantineRows, RejectedRow, quarantine_schema};
pub use rebuild::{RebuildReport, rebuild};
