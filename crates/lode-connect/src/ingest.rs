//! What landing needs, and landing once (`lode ingest`).

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use tokio_util::sync::CancellationToken;

use lode_catalog::Catalog;
use lode_core::{ErrorKind, Problem, Warehouse, nearest};
use lode_jobs::{NodeInfo, NodeOutcome, NodeStatus, Observer, RunEvent};

use crate::config::Ingest;
use crate::sources::files::collect::Progress;
use crate::sources::files::land::{FileSourceRun, Pass};

pub use crate::sources::files::land::LandReport;

/// An observer hears of a source that is under way at most this often.
const TELL_EVERY: Duration = Duration::from_millis(250);

/// What landing needs of the process.
#[derive(Clone)]
pub struct IngestContext {
    pub catalog: Arc<Catalog>,
    /// Compiles expectations; needed only by ingests that have some.
    pub warehouse: Option<Arc<dyn Warehouse>>,
    pub project_dir: PathBuf,
    pub ingests: Vec<Ingest>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LandOptions {
    /// Try files again that could not be read.
    pub retry_poison: bool,
}

/// Lands what is there now, source after source, and tells `observer`. Without `names`, all sources.
/// The report of a source that failed as a whole is its problem; the other sources land all the same.
/// Errors: `NotFound` for a name that no ingest has.
pub async fn land_once(
    context: &IngestContext,
    names: &[String],
    options: LandOptions,
    observer: &Arc<dyn Observer>,
) -> Result<Vec<Result<LandReport, Problem>>, Problem> {
    let chosen = choose(&context.ingests, names)?;
    let total = chosen.len();
    let mut reports = Vec::with_capacity(total);
    for (at, ingest) in chosen.into_iter().enumerate() {
        let node = Arc::new(node(ingest, at + 1, total));
        let started_at = context.catalog.now();
        observer.on_event(&RunEvent::NodeStarted { node: Arc::clone(&node), at: started_at });
        let started = Instant::now();
        let progress = Arc::new(Progress::default());
        *progress.tell.lock() = Some(teller(observer, &node));
        let mut run = source(context, ingest, CancellationToken::new());
        let report = run.pass(Pass::Once { retry_poison: options.retry_poison }, &progress).await;
        *progress.tell.lock() = None;
        let finished_at = context.catalog.now();
        let mut outcome = outcome(&report, finished_at, started.elapsed());
        outcome.started_at = Some(started_at);
        observer.on_event(&RunEvent::NodeFinished { node, outcome: Arc::new(outcome), at: finished_at });
        reports.push(report);
    }
    Ok(reports)
}

pub(crate) fn source(context: &IngestContext, ingest: &Ingest, stop: CancellationToken) -> FileSourceRun {
    FileSourceRun::new(
        Arc::clone(&context.catalog),
        context.warehouse.clone(),
        Arc::new(ingest.clone()),
        context.project_dir.clone(),
        stop,
    )
}

/// Errors: `NotFound` with the nearest name.
pub(crate) fn choose<'a>(ingests: &'a [Ingest], names: &[String]) -> Result<Vec<&'a Ingest>, Problem> {
    if names.is_empty() {
        return Ok(ingests.iter().collect());
    }
    names
        .iter()
        .map(|name| {
            ingests.iter().find(|ingest| ingest.name == *name).ok_or_else(|| {
                let known: Vec<&str> = ingests.iter().map(|ingest| ingest.name.as_str()).collect();
                let fix = match nearest(name, known.iter().copied()) {
                    Some(near) => format!("did you mean \"{near}\"?"),
                    None if known.is_empty() => "add it to `ingest:` in lode.yml".to_owned(),
                    None => format!("ingests of this project: {}", known.join(", ")),
                };
                Problem::new(ErrorKind::NotFound, format!("no ingest is named \"{name}\"")).fix(fix)
            })
        })
        .collect()
}

fn node(ingest: &Ingest, index: usize, total: usize) -> NodeInfo {
    NodeInfo {
        unique_id: format!("ingest.{}", ingest.name),
        name: ingest.name.clone(),
        resource_type: "ingest".to_owned(),
        materialized: "ingest".to_owned(),
        relation: Some(ingest.table.to_string()),
        path: Some(ingest.files.path.clone()),
        index,
        total,
    }
}

fn teller(observer: &Arc<dyn Observer>, node: &Arc<NodeInfo>) -> Box<dyn FnMut(u64, u64) + Send> {
    let (observer, node) = (Arc::clone(observer), Arc::clone(node));
    let mut told: Option<Instant> = None;
    Box::new(move |rows, bytes| {
        if told.is_some_and(|told| told.elapsed() < TELL_EVERY) {
            return;
        }
        told = Some(Instant::now());
        let node = Arc::clone(&node);
        observer.on_event(&RunEvent::NodeProgress { node, rows, rows_total: None, bytes, message: None });
    })
}

fn outcome(report: &Result<LandReport, Problem>, finished_at: DateTime<Utc>, elapsed: Duration) -> NodeOutcome {
    match report {
        Ok(report) => {
            let warned: Vec<_> = report.warned().map(|rule| format!("{}: {}", rule.violations, rule.rule)).collect();
            let status = match (report.problems.is_empty(), report.files_landed + report.files_renamed) {
                (true, _) if warned.is_empty() => NodeStatus::Success,
                (true, _) => NodeStatus::Warn,
                (false, 0) => NodeStatus::Error,
                (false, _) => NodeStatus::PartialSuccess,
            };
            let mut outcome = NodeOutcome::new(status, finished_at, elapsed);
            outcome.rows = Some(report.rows_landed);
            outcome.rows_quarantined = report.rows_quarantined;
            outcome.rows_dropped = report.rows_dropped;
            outcome.rules = report.rules.clone();
            outcome.is_reused = report.epochs == 0 && report.problems.is_empty() && report.files_passed_over == 0;
            outcome.message = match report.problems.first() {
                Some(first) if report.problems.len() > 1 => format!("{first} (and {} more)", report.problems.len() - 1),
                Some(first) => first.to_string(),
                None if !warned.is_empty() => format!("rows warned: {}", warned.join(", ")),
                None if report.files_landed == 1 => "1 file".to_owned(),
                None => format!("{} files", report.files_landed),
            };
            outcome
        }
        Err(problem) => {
            let mut outcome = NodeOutcome::new(NodeStatus::Error, finished_at, elapsed);
            outcome.message = problem.to_string();
            outcome
        }
    }
}
