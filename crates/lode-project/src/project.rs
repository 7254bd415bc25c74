//! The project as its users see it: loaded once, then asked for plans.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use chrono::{DateTime, Utc};
use serde::Serialize;

use lode_core::Problem;
use lode_core::config::Environment;

use crate::config::project_file::{self, ProjectFile};
use crate::error::ProjectError;
use crate::files;
use crate::graph::{self, Graph, Kind, Materialized, Node};
use crate::jinja::{Engine, Settings, on_big_stack};
use crate::runner::Command;

/// What the command line and the environment say over the project's files.
#[derive(Debug, Clone)]
pub struct Overrides {
    /// `--vars`: JSON or YAML of a map.
    pub vars: serde_json::Map<String, serde_json::Value>,
    /// Schema of models without their own; `LODE_SCHEMA`, else `public`.
    pub schema: String,
    /// Answers `env_var`.
    pub env: Environment,
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
            env: Environment::default(),
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
    pub(crate) file: ProjectFile,
    pub(crate) graph: Graph,
    pub(crate) engine: Arc<Engine>,
    pub(crate) graph_json: OnceLock<serde_json::Value>,
    notices: Vec<Notice>,
}

impl Project {
    /// Reads and parses all files of the project in `dir`: blocking work, so call it inside `task::blocking`.
    /// Errors: `Config` without `dbt_project.yml`; `Config`, `Syntax`, `Undefined`, `Unsupported` with file, line and fix.
    pub fn load(dir: &Path, overrides: &Overrides) -> Result<Self, Problem> {
        let path = dir.join("dbt_project.yml");
        if !path.is_file() {
            return Err(ProjectError::NoProject { dir: dir.display().to_string() }.into());
        }
        let file = project_file::read(files::read(dir, &path)?)?;
        let settings = Settings {
            project: file.name.clone(),
            schema: overrides.schema.clone(),
            env: overrides.env.clone(),
            target: overrides.target.clone(),
            threads: overrides.threads,
            full_refresh: overrides.full_refresh,
            now: overrides.now,
            invocation_id: overrides.invocation_id.clone(),
            command_vars: overrides.vars.clone(),
            project_vars: file.vars.clone(),
            dispatch: file.dispatch.clone(),
        };
        let loaded = on_big_stack(|| graph::load(dir, &file, settings))??;
        Ok(Self {
            dir: dir.to_owned(),
            file,
            graph: loaded.graph,
            engine: loaded.engine,
            graph_json: OnceLock::new(),
            notices: loaded.notices,
        })
    }

    pub fn name(&self) -> &str {
        &self.file.name
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// What is read and has no effect; show it once.
    pub fn notices(&self) -> &[Notice] {
        &self.notices
    }

    /// How many nodes of each type there are: `model`, `seed`, `source`, `test`.
    pub fn counts(&self) -> Vec<(String, usize)> {
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for node in self.graph.nodes.values() {
            *counts.entry(node.kind.as_str()).or_default() += 1;
        }
        counts.into_iter().map(|(kind, count)| (kind.to_owned(), count)).collect()
    }

    /// The nodes that `command` runs under `selection`, in an order in which they may run.
    /// Errors: `Usage` for a selector that does not parse.
    pub fn plan(&self, command: Command, selection: &Selection) -> Result<Plan, Problem> {
        let (chosen, unmatched) = graph::select(&self.graph, &selection.select, &selection.exclude)?;
        let types = &selection.resource_types;
        let fits = |node: &Node| {
            let of_command = match command {
                Command::Build => node.kind != Kind::Source,
                Command::Run => node.kind == Kind::Model,
                Command::Test => node.kind == Kind::Test,
                Command::Seed => node.kind == Kind::Seed,
                Command::Compile => matches!(node.kind, Kind::Model | Kind::Test),
                // A named model is meant, not its tests.
                Command::Show => node.kind != Kind::Test || selection.select.contains(&node.name),
                Command::Ls => true,
            };
            let runs = node.materialized != Materialized::Ephemeral
                || !matches!(command, Command::Build | Command::Run | Command::Test | Command::Seed);
            of_command && runs && (types.is_empty() || types.iter().any(|kind| kind == node.kind.as_str()))
        };
        let order = self.in_order();
        let nodes = order.into_iter().filter(|node| chosen.contains(&node.unique_id) && fits(node));
        Ok(Plan { nodes: nodes.map(|node| node.unique_id.clone()).collect(), unmatched })
    }

    /// Parents before children; the graph has no cycle.
    fn in_order(&self) -> Vec<&Node> {
        let nodes: Vec<&Node> = self.graph.nodes.values().collect();
        let mut open: Vec<usize> = nodes.iter().map(|node| node.depends_on.len()).collect();
        let mut order: Vec<usize> = (0..nodes.len()).filter(|&at| open.get(at) == Some(&0)).collect();
        let mut next = 0;
        while let Some(node) = order.get(next).and_then(|&at| nodes.get(at)) {
            for child in self.graph.children_of(&node.unique_id) {
                let Some(at) = self.graph.nodes.get_index_of(child) else { continue };
                if let Some(left) = open.get_mut(at) {
                    *left -= 1;
                    if *left == 0 {
                        order.push(at);
                    }
                }
            }
            next += 1;
        }
        order.into_iter().filter_map(|at| nodes.get(at).copied()).collect()
    }

    /// What `lode ls` prints of a plan.
    pub fn list(&self, plan: &Plan) -> Vec<Listed> {
        plan.nodes
            .iter()
            .filter_map(|id| self.graph.nodes.get(id))
            .map(|node| Listed {
                unique_id: node.unique_id.clone(),
                name: node.name.clone(),
                resource_type: node.kind.as_str().to_owned(),
                path: node.path.clone(),
                fqn: match node.kind {
                    Kind::Source => format!("source:{}", node.fqn.join(".")),
                    _ => node.fqn.join("."),
                },
                materialized: node.materialized.as_str().to_owned(),
                relation: node.relation.as_ref().map(ToString::to_string),
                tags: node.config.tags(),
                depends_on: node.depends_on.clone(),
            })
            .collect()
    }
}
