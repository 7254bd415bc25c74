//! What a run tells while it goes on.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::Serialize;

use lode_core::{Problem, RuleCount};

/// Hears every event of a run, in order, from several threads. Must return at once: it is called between nodes.
pub trait Observer: Send + Sync {
    fn on_event(&self, event: &RunEvent);
}

/// Hears and forgets.
#[derive(Debug, Default, Clone, Copy)]
pub struct Silent;

impl Observer for Silent {
    fn on_event(&self, _event: &RunEvent) {}
}

/// One step of a run. Every event of a node carries the whole `NodeInfo`, so that an observer needs no memory.
#[derive(Debug, Clone)]
pub enum RunEvent {
    RunStarted {
        run_id: String,
        /// `build`, `test`, `ingest`, …
        command: String,
        /// Nodes that will start or be skipped.
        nodes: usize,
        threads: usize,
        at: DateTime<Utc>,
        /// How many of each resource type the whole project holds: dbt's "Found 4 models, 3 seeds …".
        found: Vec<(String, usize)>,
    },
    NodeStarted {
        node: Arc<NodeInfo>,
        at: DateTime<Utc>,
    },
    /// At most a few a second for each node.
    NodeProgress {
        node: Arc<NodeInfo>,
        /// Rows so far.
        rows: u64,
        /// Rows at the end, if known.
        rows_total: Option<u64>,
        bytes: u64,
        message: Option<String>,
    },
    /// Also for a node that was skipped, without a start before it.
    NodeFinished {
        node: Arc<NodeInfo>,
        outcome: Arc<NodeOutcome>,
        at: DateTime<Utc>,
    },
    /// Something a person should read: a key that is ignored, a `log(…, info=true)` of a macro.
    Notice {
        level: NoticeLevel,
        message: String,
        /// File, line and column, where known.
        place: Option<String>,
    },
    RunFinished {
        run_id: String,
        command: String,
        totals: RunTotals,
        elapsed: Duration,
        at: DateTime<Utc>,
        /// Interrupted by the user or by `--fail-fast`.
        is_cut_short: bool,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum NoticeLevel {
    Debug,
    Info,
    Warn,
}

/// What is run, in words that fit a line of a log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NodeInfo {
    /// `model.shop.orders`; `ingest.telemetry` for a source of `lode ingest`.
    pub unique_id: String,
    pub name: String,
    /// `model | seed | test | snapshot | source | ingest | operation`.
    pub resource_type: String,
    /// `table | view | incremental | seed | test | …`.
    pub materialized: String,
    /// `schema.table` that it makes, or that it tests.
    pub relation: Option<String>,
    /// File relative to the project, for errors.
    pub path: Option<String>,
    /// From 1 in start order; 0 before it started.
    pub index: usize,
    pub total: usize,
}

impl NodeInfo {
    /// dbt's words for the middle of a log line: `sql table model gold.trips`, `seed file raw.orders`,
    /// `test not_null_trips_vin`.
    pub fn description(&self) -> String {
        let relation = self.relation.as_deref().unwrap_or(&self.name);
        match self.resource_type.as_str() {
            "model" => format!("sql {} model {relation}", self.materialized),
            "seed" => format!("seed file {relation}"),
            "test" | "unit_test" => format!("test {}", self.name),
            other => format!("{other} {relation}"),
        }
    }
}

/// dbt's words for how a node ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub enum NodeStatus {
    #[serde(rename = "success")]
    Success,
    #[serde(rename = "error")]
    Error,
    #[serde(rename = "skipped")]
    Skipped,
    #[serde(rename = "no-op")]
    NoOp,
    #[serde(rename = "partial success")]
    PartialSuccess,
    #[serde(rename = "pass")]
    Pass,
    #[serde(rename = "warn")]
    Warn,
    #[serde(rename = "fail")]
    Fail,
}

impl NodeStatus {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Error => "error",
            Self::Skipped => "skipped",
            Self::NoOp => "no-op",
            Self::PartialSuccess => "partial success",
            Self::Pass => "pass",
            Self::Warn => "warn",
            Self::Fail => "fail",
        }
    }

    /// Ends a run with exit code 1 and blocks what depends on it.
    pub const fn is_failure(self) -> bool {
        matches!(self, Self::Error | Self::Fail | Self::PartialSuccess)
    }
}

/// How a node ended.
#[derive(Debug, Clone)]
pub struct NodeOutcome {
    pub status: NodeStatus,
    pub started_at: Option<DateTime<Utc>>,
    pub finished_at: DateTime<Utc>,
    pub elapsed: Duration,
    /// Rows that reached the table; `None` for a view, a test and what did not run.
    pub rows: Option<u64>,
    pub rows_quarantined: u64,
    pub rows_dropped: u64,
    /// Violations by expectation.
    pub rules: Vec<RuleCount>,
    /// What a test counted.
    pub failures: Option<u64>,
    /// One line: `REUSED`, `INSERT 0 10`, "Got 1 result, configured to fail if != 0", or the error.
    pub message: String,
    pub problem: Option<Arc<Problem>>,
    /// `main` or `worker-3`.
    pub thread: String,
    /// Unchanged since the last run, so nothing was written.
    pub is_reused: bool,
}

impl NodeOutcome {
    pub fn new(status: NodeStatus, finished_at: DateTime<Utc>, elapsed: Duration) -> Self {
        Self {
            status,
            started_at: None,
            finished_at,
            elapsed,
            rows: None,
            rows_quarantined: 0,
            rows_dropped: 0,
            rules: Vec::new(),
            failures: None,
            message: String::new(),
            problem: None,
            thread: "main".to_owned(),
            is_reused: false,
        }
    }

    pub fn skipped(finished_at: DateTime<Utc>, message: impl Into<String>) -> Self {
        let mut outcome = Self::new(NodeStatus::Skipped, finished_at, Duration::ZERO);
        outcome.message = message.into();
        outcome
    }

    pub fn failed(finished_at: DateTime<Utc>, elapsed: Duration, problem: Problem) -> Self {
        let mut outcome = Self::new(NodeStatus::Error, finished_at, elapsed);
        outcome.message = problem.to_string();
        outcome.problem = Some(Arc::new(problem));
        outcome
    }
}

/// dbt's last line: `PASS=5 WARN=0 ERROR=1 SKIP=2 NO-OP=0 TOTAL=8`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct RunTotals {
    /// Successes and passed tests.
    pub pass: usize,
    pub warn: usize,
    /// Errors and failed tests.
    pub error: usize,
    pub skip: usize,
    pub no_op: usize,
    /// Of `pass`: nodes that were unchanged.
    pub reused: usize,
}

impl RunTotals {
    pub fn add(&mut self, outcome: &NodeOutcome) {
        let count = match outcome.status {
            NodeStatus::Success | NodeStatus::Pass => &mut self.pass,
            NodeStatus::Warn => &mut self.warn,
            NodeStatus::Error | NodeStatus::Fail | NodeStatus::PartialSuccess => &mut self.error,
            NodeStatus::Skipped => &mut self.skip,
            NodeStatus::NoOp => &mut self.no_op,
        };
        *count += 1;
        self.reused += usize::from(outcome.is_reused);
    }

    pub fn total(&self) -> usize {
        self.pass + self.warn + self.error + self.skip + self.no_op
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_description_reads_as_in_dbt() {
        let mut node = NodeInfo {
            unique_id: "model.ev.trips".into(),
            name: "trips".into(),
            resource_type: "model".into(),
            materialized: "table".into(),
            relation: Some("gold.trips".into()),
            path: None,
            index: 1,
            total: 2,
        };
        assert_eq!(node.description(), "sql table model gold.trips");
        node.resource_type = "test".into();
        assert_eq!(node.description(), "test trips");
    }

    #[test]
    fn totals_count_by_status() {
        let mut totals = RunTotals::default();
        for status in [NodeStatus::Success, NodeStatus::Pass, NodeStatus::Warn, NodeStatus::Fail, NodeStatus::Skipped] {
            totals.add(&NodeOutcome::new(status, DateTime::UNIX_EPOCH, Duration::ZERO));
        }
        assert_eq!((totals.pass, totals.warn, totals.error, totals.skip), (2, 1, 1, 1));
        assert_eq!(totals.total(), 5);
    }
}
