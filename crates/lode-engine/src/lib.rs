//! How one SQL statement is answered: planning over pinned snapshots, execution, expectations, writes.
//!
//! `Engine` implements `lode_core::Warehouse` over a catalog; nothing of the planner's crate crosses this door.

mod cpu;
mod dialect;
mod engine;
mod expect;
mod functions;
mod maintain;
mod parse;
mod plan;
mod problem;
mod session;
mod statement;
mod tables;
mod verify;
mod write;

pub use engine::Engine;
pub use maintain::{CompactionReport, RETENTION};
pub use session::EngineOptions;
pub use statement::{Script, StatementResult};
pub use verify::VerifyReport;
