//! Runs a plan: each node rendered, prepared, written as one epoch.

mod compile;
mod csv;
mod materialize;
mod results;
mod reuse;
mod run;
mod seed;
mod seed_types;
mod test;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use lode_core::{BatchStream, Clock, ErrorKind, Problem, Warehouse};
use lode_jobs::{NodeInfo, NodeOutcome, Observer, RunTotals};

use crate::graph::Kind;
use crate::project::{Plan, Project};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    Build,
    Run,
    Test,
    Seed,
    /// Renders each node and writes `target/compiled`; asks nothing of tables that may not exist yet.
    Compile,
    Show,
    Ls,
}

impl Command {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Build => "build",
            Self::Run => "run",
            Self::Test => "test",
            Self::Seed => "seed",
            Self::Compile => "compile",
            Self::Show => "show",
            Self::Ls => "ls",
        }
    }
}

/// Small values kept between runs: the catalog, or a map in tests.
#[async_trait]
pub trait Notes: Send + Sync {
    async fn get(&self, scope: &str, key: &str) -> Result<Option<String>, Problem>;
    async fn put(&self, scope: &str, key: &str, value: &str) -> Result<(), Problem>;
    /// Keeps the run in the history.
    async fn record_run(&self, run: &lode_catalog::RunRow) -> Result<(), Problem>;
}

#[async_trait]
impl Notes for lode_catalog::Catalog {
    async fn get(&self, scope: &str, key: &str) -> Result<Option<String>, Problem> {
        Ok(self.get_note(scope, key).await?)
    }

    async fn put(&self, scope: &str, key: &str, value: &str) -> Result<(), Problem> {
        Ok(self.put_note(scope, key, value).await?)
    }

    async fn record_run(&self, run: &lode_catalog::RunRow) -> Result<(), Problem> {
        Ok(lode_catalog::Catalog::record_run(self, run).await?)
    }
}

#[derive(Debug, Clone)]
pub struct RunOptions {
    /// Nodes at a time.
    pub threads: usize,
    pub fail_fast: bool,
    /// Warnings end the run with exit code 1.
    pub warn_error: bool,
    /// Skip nodes whose plan, config and inputs are as in their last run.
    pub reuse: bool,
    /// Where artifacts go; `None`: `target/` in the project.
    pub target_path: Option<PathBuf>,
    /// Cancelled on the first Ctrl-C.
    pub stop: CancellationToken,
}

impl Default for RunOptions {
    fn default() -> Self {
        Self {
            threads: lode_core::task::cpu_count(),
            fail_fast: false,
            warn_error: false,
            reuse: true,
            target_path: None,
            stop: CancellationToken::new(),
        }
    }
}

#[derive(Debug, Clone)]
pub struct NodeResult {
    pub node: Arc<NodeInfo>,
    pub outcome: Arc<NodeOutcome>,
    /// Rendered SQL, if the node got that far.
    pub compiled: Option<String>,
}

#[derive(Debug, Clone)]
pub struct RunResults {
    pub run_id: String,
    pub command: Command,
    /// In order of ends.
    pub nodes: Vec<NodeResult>,
    pub totals: RunTotals,
    pub elapsed: Duration,
    /// Stopped by the user.
    pub is_interrupted: bool,
    pub(crate) warn_error: bool,
}

impl RunResults {
    /// 0 done, also with warnings and with nothing selected; 1 something failed; 130 interrupted.
    pub fn exit_code(&self) -> u8 {
        if self.is_interrupted {
            130
        } else {
            u8::from(self.totals.error > 0 || (self.warn_error && self.totals.warn > 0))
        }
    }
}

/// Rows for `lode show`.
pub struct Shown {
    /// The rendered SQL.
    pub sql: String,
    pub schema: SchemaRef,
    pub rows: BatchStream,
}

pub struct Runner {
    pub(crate) project: Arc<Project>,
    pub(crate) warehouse: Arc<dyn Warehouse>,
    pub(crate) notes: Arc<dyn Notes>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) observer: Arc<dyn Observer>,
}

impl Runner {
    /// `notes` is the `Arc<Catalog>`.
    pub fn new(
        project: Arc<Project>,
        warehouse: Arc<dyn Warehouse>,
        notes: Arc<dyn Notes>,
        clock: Arc<dyn Clock>,
        observer: Arc<dyn Observer>,
    ) -> Self {
        Self { project, warehouse, notes, clock, observer }
    }

    /// Runs every node of the plan as `command` asks, tells the observer, writes artifacts and the run history.
    /// Failures of nodes are results, not errors. Errors: what keeps the run from starting or its artifacts from being written.
    pub async fn run(&self, plan: &Plan, command: Command, options: &RunOptions) -> Result<RunResults, Problem> {
        run::run(self, plan, command, options).await
    }

    /// The first `limit` rows of a selected model, seed or test, or of `inline` SQL with Jinja, without writing anything.
    /// Errors: `Usage` when the plan does not hold exactly one node and there is no inline SQL; those of the SQL itself.
    pub async fn show(&self, plan: &Plan, inline: Option<&str>, limit: Option<u64>) -> Result<Shown, Problem> {
        let compiler = compile::Compiler { project: self.project.clone(), warehouse: self.warehouse.clone() };
        let (sql, compiled, node) = match (inline, plan.nodes.as_slice()) {
            (Some(text), _) => (compiler.compile_inline(text).await?, None, None),
            (None, [id]) => {
                let node = self.project.graph.nodes.get(id).ok_or_else(|| Problem::internal("the node is gone"))?;
                match (node.kind, &node.relation) {
                    (Kind::Seed | Kind::Source, Some(relation)) => {
                        (format!("select * from {}", crate::jinja::RelationValue::new(relation).sql()), None, None)
                    }
                    _ => {
                        let compiled = compiler.compile(id, false).await?;
                        (compiled.sql.clone(), Some(compiled), Some(node))
                    }
                }
            }
            (None, nodes) => {
                return Err(Problem::new(ErrorKind::Usage, format!("{} nodes are selected to show", nodes.len()))
                    .fix("select one: `lode show --select NAME`"));
            }
        };
        let origin = node.map_or("<inline>", |node| node.path.as_str());
        let body = sql.trim().trim_end_matches(';');
        let limited = match limit {
            Some(limit) => format!("select * from (\n{body}\n) _show limit {limit}"),
            None => body.to_owned(),
        };
        // Planned alone first, so that an error's place counts from the model's own first line.
        let session = self.project.session(origin);
        let relocate = |problem: Problem| match (&compiled, node) {
            (Some(compiled), Some(node)) => compiled.relocate(problem, node, &node.path),
            _ => problem,
        };
        self.warehouse.prepare(&sql, &session).await.map_err(relocate)?;
        let prepared = self.warehouse.prepare(&limited, &session).await?;
        let rows = self.warehouse.run(&prepared).await?;
        Ok(Shown { sql, schema: prepared.schema.clone(), rows })
    }
}
