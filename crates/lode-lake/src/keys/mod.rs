//! Rows by key without reading the table: sorted runs of (key, file, position), made where files are written.
//!
//! A run is a hint, never the truth: an entry counts only while its file is live, and a file whose entries are not all there
//! counts as not indexed. So a run that is lost, damaged or late costs time, and no row. Entries of dead rows stay until
//! their file goes: the file may be restored with other rows alive.

mod build;
mod encode;
mod index;
mod merge;
mod run;

pub(crate) use build::RunBuilder;
pub use encode::{KeyEncoder, KeySet};
pub(crate) use index::needed;
pub use index::{Found, KeyIndex};
pub use merge::{MergedRuns, merge_runs};

/// Tag of a data file: the runs that hold its keys, by name, separated by commas.
pub(crate) const TAG: &str = "lode.kix";

/// Folder of the runs, below the table. Hidden names outlive a full vacuum of other writers.
pub(crate) fn folder(location: &str) -> String {
    format!("{location}/_lode/idx")
}
