//! The project as its users see it: loaded once, then asked for plans.

use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};
use serde::Serialize;

use lode_core::Problem;

use crate::runner::Command;

/// What the command line and the environment say over the project's files.
#[derive(Debug, Clone)]
pub struct Overrides {
    /// `--vars`: JSON or YAML of a map.
    pub vars: serde_json::Map<String, serde_json::Value>,
    /// Schema of models without their own; `LODE_SCHEMA`, else `public`.
    pub schema: String,
    /// `--target`, a free name that macros may ask for.
    pub target: String,
    /// `--threads`.
    pub threads: usize,
    /// `--full-refresh`; read by `is_incremental()`.
    pub full_refresh: bool,
    /// Start of the invocation, `run_started_at`.
    pub now: DateTime<Utc>,
    pub invocation_id: String,
}

impl Overrides {
    pub fn new(now: DateTime<Utc>) -> Self {
        Self {
            vars: serde_json::Map::new(),
            schema: lode_core::TableName::DEFAULT_SCHEMA.to_owned(),
            target: "dev".to_owned(),
            threads: lode_core::task::cpu_count(),
            full_refresh: false,
            now,
            invocation_id: uuid::Uuid::new_v4().to_string(),
        }
    }
}

/// Something in the files that is read, kept and without effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    pub message: String,
    /// `file:line:column`.
    pub place: Option<String>,
}

/// What to run of a project: dbt's selection words.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    /// `--select`, each word as written: names, globs, `+n`, `@`, `tag:`, `path:`, …; empty selects all.
    pub select: Vec<String>,
    pub exclude: Vec<String>,
    /// `--resource-type`; empty means those of the command.
    pub resource_types: Vec<String>,
}

/// One line of `lode ls`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Listed {
    pub unique_id: String,
    pub name: String,
    pub resource_type: String,
    /// File relative to the project.
    pub path: String,
    /// Dotted, as a selector takes it.
    pub fqn: String,
    pub materialized: String,
    pub relation: Option<String>,
    pub tags: Vec<String>,
    pub depends_on: Vec<String>,
}

/// Selected nodes, by unique id, in an order in which they may run.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    pub(crate) nodes: Vec<String>,
    /// Selection words that matched nothing.
    pub unmatched: Vec<String>,
}

impl Plan {
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }
}

/// A parsed project. Cheap to share behind `Arc`; nothing in it changes after `load`.
pub struct Project {
    dir: PathBuf,
    name: String,
    notices: Vec<Notice>,
}

impl Project {
    /// Reads and parses all files of the project in `dir`: blocking work, so call it inside `task::blocking`.
    /// Errors: `NotFound` without `dbt_project.yml`; `Config`, `Syntax`, `Undefined`, `Unsupported` with file, line and fix.
    pub fn load(dir: &Path, overrides: &Overrides) -> Result<Self, Problem> {
        let _ = overrides;
        Ok(Self { dir: dir.to_owned(), name: String::new(), notices: Vec::new() })
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    pub fn notices(&self) -> &[Notice] {
        &self.notices
    }

    /// The nodes that `command` runs under `selection`.
    /// Errors: `Usage` for a selector that does not parse.
    pub fn plan(&self, command: Command, selection: &Selection) -> Result<Plan, Problem> {
        let _ = (command, selection);
        Ok(Plan::default())
    }

    /// What `lode ls` prints of a plan.
    pub fn list(&self, plan: &Plan) -> Vec<Listed> {
        let _ = plan;
        Vec::new()
    }
}
