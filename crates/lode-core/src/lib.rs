//! The nouns of Lode: ids, error kinds, configuration, clock, tasks, fail points and the traits that
//! keep the other crates apart. No I/O of its own beyond reading a configuration file.

mod clock;
pub mod config;
mod error;
pub mod fail;
mod ids;
mod row_pass;
pub mod sql_type;
pub mod task;
pub mod values;
mod warehouse;

pub use clock::{Clock, FixedClock, SystemClock};
pub use error::{ErrorKind, Explain, Place, Problem, nearest};
pub use ids::{AttemptId, Epoch, Fence, PipelineId, SnapshotId, TableId, TableName};
pub use row_pass::{Expectation, OnViolation, RowPass, RowVerdict, RuleCount, Violation};
pub use warehouse::{
    BatchStream, EXPOSE, Input, KEY, Prepared, Relation, RelationKind, SqlSession, TABLE_FORMATS, ViewText, Warehouse,
    WriteMode, WriteSpec, Written,
};
