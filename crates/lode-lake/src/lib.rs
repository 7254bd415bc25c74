//! How a table is read and written: open table formats on any store, one set of Parquet files.
//!
//! `Store` is the only way to bytes. `DeltaTable` opens a table folder, `Snapshot` is one committed state of it,
//! `TableWriter` makes data files, `TableChange` is what a commit will do, and `apply` does it exactly once. `expose` shows a
//! table to Iceberg readers.

mod change;
mod convert;
mod definition;
mod delta;
mod error;
mod file;
mod iceberg;
mod keys;
mod store;
mod vacuum;
mod write;

pub use change::{Applied, DeadRows, Operation, TableChange, Txn, apply};
pub use convert::from_stored;
pub use definition::{Constraint, Evolution, SchemaPolicy, TableDefinition};
pub use delta::{ColumnStats, CommitChanges, CommitSummary, Compaction, DeltaTable, LiveFile, LogCommit, Snapshot};
pub use error::LakeError;
pub use file::{DataFile, FileStats, TableWriter, WriterOptions};
pub use iceberg::{Exposed, Exposure, expose};
pub use keys::{Found, KeyEncoder, KeyIndex, KeySet, MergedRuns, merge_runs};
pub use store::{Fault, FaultPlan, FileSink, ObjectMeta, Put, Store, StoreLocation, StoreOptions, StorePath};
pub use vacuum::{VacuumOptions, VacuumReport, vacuum};
