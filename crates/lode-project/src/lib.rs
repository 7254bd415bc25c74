//! What the SQL project means: its files, Jinja, the graph of models, and the runner that makes tables of it.
//!
//! [`Project::load`] reads and parses a dbt-shaped folder, [`Project::plan`] selects from its graph, and [`Runner`] runs a
//! plan through a `lode_core::Warehouse`. SQL is never understood here: it is rendered, then prepared by the warehouse.

mod config;
mod error;
mod files;
mod graph;
mod jinja;
mod md5;
mod project;
mod runner;

pub use error::ProjectError;
pub use project::{Listed, Notice, Overrides, Plan, Project, Selection};
pub use runner::{Command, NodeResult, Notes, RunOptions, RunResults, Runner, Shown};
