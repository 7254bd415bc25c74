//! One run: the graph of the plan, its events, its artifacts.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use lode_core::{Problem, task};
use lode_jobs::{
    Dag, DagNode, Limits, NodeEnd, NodeInfo, NodeOutcome, NodeStatus, NoticeLevel, Observer, Recorder, RunEvent,
    RunTotals, SkipReason, Verdict, execute,
};

use super::compile::Compiler;
use super::results::Artifacts;
use super::{Command, NodeResult, Notes, RunOptions, RunResults, Runner, materialize, seed, test};
use crate::graph::{Graph, Kind, Materialized, Node};
use crate::project::{Plan, Project};

/// What the nodes of one run share.
pub(crate) struct Shared {
    pub(crate) project: Arc<Project>,
    pub(crate) compiler: Compiler,
    pub(crate) notes: Arc<dyn Notes>,
    pub(crate) clock: Arc<dyn lode_core::Clock>,
    pub(crate) observer: Arc<dyn Observer>,
    pub(crate) command: Command,
    pub(crate) reuse: bool,
    pub(crate) folder: PathBuf,
    started: AtomicUsize,
    total: usize,
    /// Numbers of idle workers.
    workers: Mutex<BTreeSet<usize>>,
}

/// How a node ended, and its SQL.
pub(crate) struct Done {
    pub(crate) outcome: NodeOutcome,
    pub(crate) compiled: Option<String>,
}

type Ended = (Arc<NodeInfo>, Arc<NodeOutcome>, Option<String>);

pub(crate) async fn run(
    runner: &Runner,
    plan: &Plan,
    command: Command,
    options: &RunOptions,
) -> Result<RunResults, Problem> {
    let project = &runner.project;
    let clock = Instant::now();
    let run_id = project.engine.settings.invocation_id.clone();
    let recorder = Arc::new(Recorder::new(runner.observer.clone()));
    let folder = options.target_path.clone().unwrap_or_else(|| project.dir().join(&project.file.target_path));
    let ids: Vec<&str> = plan
        .nodes
        .iter()
        .filter_map(|id| project.graph.nodes.get(id))
        .filter(|node| command == Command::Compile || node.materialized != Materialized::Ephemeral)
        .map(|node| node.unique_id.as_str())
        .collect();
    let seconds = seconds_of_last_run(&*runner.notes, project).await;
    let dag = build_dag(&project.graph, &ids, command, &seconds)?;
    let threads = options.threads.max(1);
    let shared = Arc::new(Shared {
        project: project.clone(),
        compiler: Compiler { project: project.clone(), warehouse: runner.warehouse.clone() },
        notes: runner.notes.clone(),
        clock: runner.clock.clone(),
        observer: recorder.clone(),
        command,
        reuse: options.reuse && command != Command::Compile,
        folder: folder.clone(),
        started: AtomicUsize::new(0),
        total: ids.len(),
        workers: Mutex::new((1..=threads).collect()),
    });
    recorder.on_event(&RunEvent::RunStarted {
        run_id: run_id.clone(),
        command: command.as_str().to_owned(),
        nodes: ids.len(),
        threads,
        at: runner.clock.now(),
        found: project.counts(),
    });
    if let Some(row) = recorder.row() {
        runner.notes.record_run(&row).await?;
    }
    let limits = Limits { threads, fail_fast: options.fail_fast, stop: options.stop.clone() };
    let mut results = Vec::new();
    let mut totals = RunTotals::default();
    execute(
        &dag,
        &limits,
        |at, token| run_node(shared.clone(), ids[at].to_owned(), token),
        |at, end| {
            let (node, outcome, compiled) = ended(&shared, &ids, at, end);
            totals.add(&outcome);
            shared.say_notices();
            let at = outcome.finished_at;
            recorder.on_event(&RunEvent::NodeFinished { node: node.clone(), outcome: outcome.clone(), at });
            results.push(NodeResult { node, outcome, compiled });
        },
    )
    .await;
    let is_interrupted = options.stop.is_cancelled();
    let results = RunResults {
        run_id: run_id.clone(),
        command,
        nodes: results,
        totals,
        elapsed: clock.elapsed(),
        is_interrupted,
        warn_error: options.warn_error,
    };
    keep_seconds(&*runner.notes, project, seconds, &results).await?;
    recorder.on_event(&RunEvent::RunFinished {
        run_id,
        command: command.as_str().to_owned(),
        totals,
        elapsed: results.elapsed,
        at: runner.clock.now(),
        is_cut_short: is_interrupted || (options.fail_fast && totals.error > 0),
    });
    if let Some(row) = recorder.row() {
        runner.notes.record_run(&row).await?;
    }
    write_artifacts(project.clone(), folder, results.clone()).await?;
    Ok(results)
}

async fn write_artifacts(project: Arc<Project>, folder: PathBuf, results: RunResults) -> Result<(), Problem> {
    task::blocking("artifacts", move || {
        let artifacts = Artifacts { project: &project, folder };
        artifacts.write_manifest()?;
        artifacts.write_run_results(&results)
    })
    .await?
}

/// Seconds that each node took when it last ran, for the critical path.
async fn seconds_of_last_run(notes: &dyn Notes, project: &Project) -> HashMap<String, f64> {
    // A guess that is lost costs only order.
    let text = notes.get("node_seconds", project.name()).await.ok().flatten();
    text.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default()
}

async fn keep_seconds(
    notes: &dyn Notes,
    project: &Project,
    mut seconds: HashMap<String, f64>,
    results: &RunResults,
) -> Result<(), Problem> {
    for result in &results.nodes {
        if !result.outcome.is_reused && result.outcome.status != NodeStatus::Skipped {
            seconds.insert(result.node.unique_id.clone(), result.outcome.elapsed.as_secs_f64());
        }
    }
    let sorted: BTreeMap<String, f64> = seconds.into_iter().collect();
    notes.put("node_seconds", project.name(), &serde_json::json!(sorted).to_string()).await
}

/// Edges between the chosen nodes: over nodes that were not chosen, and in a build over the tests of what is upstream.
fn build_dag(graph: &Graph, ids: &[&str], command: Command, seconds: &HashMap<String, f64>) -> Result<Dag, Problem> {
    let index: HashMap<&str, usize> = ids.iter().enumerate().map(|(at, id)| (*id, at)).collect();
    let mut after: Vec<BTreeSet<usize>> = ids.iter().map(|id| chosen_parents(graph, id, &index)).collect();
    if command == Command::Build {
        let tests: Vec<(usize, &Node)> = ids
            .iter()
            .enumerate()
            .filter_map(|(at, id)| Some((at, graph.nodes.get(*id)?)))
            .filter(|(_, node)| node.kind == Kind::Test)
            .collect();
        for (at, id) in ids.iter().enumerate() {
            if graph.nodes.get(*id).is_none_or(|node| node.kind == Kind::Test) {
                continue;
            }
            let upstream = graph.ancestors(id, None);
            let hanging = tests.iter().filter(|(_, test)| {
                !test.depends_on.is_empty() && test.depends_on.iter().all(|parent| upstream.contains(parent.as_str()))
            });
            after[at].extend(hanging.map(|(test, _)| *test));
        }
    }
    let nodes = ids.iter().zip(after).map(|(id, after)| DagNode {
        name: (*id).to_owned(),
        weight: seconds.get(*id).copied().unwrap_or(1.0),
        after: after.into_iter().collect(),
    });
    Dag::new(nodes.collect()).map_err(|cycle| Problem::internal(cycle.to_string()))
}

/// The nearest chosen nodes upstream.
fn chosen_parents(graph: &Graph, id: &str, index: &HashMap<&str, usize>) -> BTreeSet<usize> {
    let mut found = BTreeSet::new();
    let mut seen = BTreeSet::new();
    let mut open: Vec<&str> = graph.parents_of(id).iter().map(String::as_str).collect();
    while let Some(parent) = open.pop() {
        if !seen.insert(parent) {
            continue;
        }
        match index.get(parent) {
            Some(at) => {
                found.insert(*at);
            }
            None => open.extend(graph.parents_of(parent).iter().map(String::as_str)),
        }
    }
    found
}

impl Shared {
    pub(crate) fn info(&self, node: &Node, index: usize) -> NodeInfo {
        NodeInfo {
            unique_id: node.unique_id.clone(),
            name: node.name.clone(),
            resource_type: node.kind.as_str().to_owned(),
            materialized: node.materialized.as_str().to_owned(),
            relation: node.relation.as_ref().map(ToString::to_string),
            path: Some(node.path.clone()),
            index,
            total: self.total,
        }
    }

    /// Passes on what macros said.
    fn say_notices(&self) {
        let spoken = std::mem::take(&mut *self.project.engine.spoken.lock());
        for message in spoken {
            let level = if message.is_warning { NoticeLevel::Warn } else { NoticeLevel::Info };
            self.observer.on_event(&RunEvent::Notice { level, message: message.message, place: None });
        }
    }

    fn next_index(&self) -> usize {
        self.started.fetch_add(1, Ordering::SeqCst) + 1
    }
}

/// Runs one node from start to end; cancelling the token keeps it from writing, but never stops a write.
async fn run_node(shared: Arc<Shared>, id: String, token: CancellationToken) -> (Ended, Verdict) {
    let Some(node) = shared.project.graph.nodes.get(&id) else {
        let problem = Problem::internal(format!("node \"{id}\" is gone"));
        let info = NodeInfo {
            unique_id: id.clone(),
            name: id,
            resource_type: "model".into(),
            materialized: String::new(),
            relation: None,
            path: None,
            index: 0,
            total: shared.total,
        };
        let outcome = NodeOutcome::failed(shared.clock.now(), Duration::ZERO, problem);
        return ((Arc::new(info), Arc::new(outcome), None), Verdict::Block);
    };
    let info = Arc::new(shared.info(node, shared.next_index()));
    let worker = shared.workers.lock().pop_first().unwrap_or(0);
    let (started_at, clock) = (shared.clock.now(), Instant::now());
    shared.observer.on_event(&RunEvent::NodeStarted { node: info.clone(), at: started_at });
    let done = match (shared.command, node.kind) {
        (Command::Compile, Kind::Model | Kind::Test) => compile_only(&shared, node).await,
        (Command::Compile, _) => Ok(success(&shared)),
        (_, Kind::Seed) => seed::run(&shared, node).await,
        (_, Kind::Test) => test::run(&shared, node, &token).await,
        (_, Kind::Model) => materialize::run(&shared, node, &token).await,
        (_, Kind::Source) => Ok(success(&shared)),
    };
    shared.workers.lock().insert(worker);
    let elapsed = clock.elapsed();
    let Done { mut outcome, compiled } = done.unwrap_or_else(|problem| Done {
        outcome: NodeOutcome::failed(shared.clock.now(), elapsed, problem),
        compiled: None,
    });
    outcome.started_at = Some(started_at);
    outcome.finished_at = shared.clock.now();
    outcome.elapsed = elapsed;
    outcome.thread = format!("Thread-{worker}");
    let blocks = outcome.status.is_failure() || outcome.status == NodeStatus::Skipped;
    let verdict = if blocks { Verdict::Block } else { Verdict::Proceed };
    ((info, Arc::new(outcome), compiled), verdict)
}

pub(crate) fn success(shared: &Shared) -> Done {
    let outcome = NodeOutcome::new(NodeStatus::Success, shared.clock.now(), Duration::ZERO);
    Done { outcome, compiled: None }
}

async fn compile_only(shared: &Shared, node: &Node) -> Result<Done, Problem> {
    let compiled = shared.compiler.compile(&node.unique_id, false).await?;
    shared.keep_compiled(node, &compiled.sql).await?;
    Ok(Done { compiled: Some(compiled.sql), ..success(shared) })
}

impl Shared {
    /// Writes the node's SQL below `target/compiled`.
    pub(crate) async fn keep_compiled(self: &Shared, node: &Node, sql: &str) -> Result<(), Problem> {
        let (project, folder, id, sql) =
            (self.project.clone(), self.folder.clone(), node.unique_id.clone(), sql.to_owned());
        task::blocking("compiled", move || match project.graph.nodes.get(&id) {
            Some(node) => Artifacts { project: &project, folder }.write_compiled(node, &sql),
            None => Ok(()),
        })
        .await?
    }

    pub(crate) fn compiled_path(&self, node: &Node) -> String {
        let artifacts = Artifacts { project: &self.project, folder: self.folder.clone() };
        artifacts.compiled_path(node).display().to_string()
    }
}

/// Info and outcome of a node that ran, panicked or was skipped.
fn ended(shared: &Shared, ids: &[&str], at: usize, end: &NodeEnd<Ended>) -> Ended {
    let node = shared.project.graph.nodes.get(ids[at]);
    let info = |node: Option<&Node>| {
        Arc::new(match node {
            Some(node) => shared.info(node, shared.next_index()),
            None => NodeInfo {
                unique_id: ids[at].to_owned(),
                name: ids[at].to_owned(),
                resource_type: "model".into(),
                materialized: String::new(),
                relation: None,
                path: None,
                index: 0,
                total: shared.total,
            },
        })
    };
    match end {
        NodeEnd::Ran(done, _) => done.clone(),
        NodeEnd::Panicked(problem) => {
            let problem = Problem::internal(problem.to_string());
            (info(node), Arc::new(NodeOutcome::failed(shared.clock.now(), Duration::ZERO, problem)), None)
        }
        NodeEnd::Skipped(reason) => {
            let message = match reason {
                SkipReason::Upstream(because) => format!("{} did not succeed", ids[*because]),
                SkipReason::FailFast => "an earlier node failed (--fail-fast)".to_owned(),
                SkipReason::Stopped => "the run was stopped".to_owned(),
            };
            (info(node), Arc::new(NodeOutcome::skipped(shared.clock.now(), message)), None)
        }
    }
}
