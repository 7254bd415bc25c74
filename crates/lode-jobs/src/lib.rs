//! What runs when, and what happened: the graph executor, run events and their history, supervised tasks.
//!
//! A command builds a [`Dag`], gives it to [`execute`], and tells an [`Observer`] what happens in [`RunEvent`]s. A
//! [`Recorder`] between the two keeps the run for the catalog. What must stay alive runs under [`supervise`].

mod backoff;
mod dag;
mod event;
mod execute;
mod history;
mod supervise;

pub use backoff::Backoff;
pub use dag::{Cycle, Dag, DagNode};
pub use event::{NodeInfo, NodeOutcome, NodeStatus, NoticeLevel, Observer, RunEvent, RunTotals, Silent};
pub use execute::{Limits, NodeEnd, SkipReason, Verdict, execute};
pub use history::Recorder;
pub use supervise::{Restart, supervise};
