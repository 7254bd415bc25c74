//! Keeps a run for the catalog while it passes its events on.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use parking_lot::Mutex;
use serde_json::{Value, json};

use lode_catalog::{Catalog, CatalogError, RunRow};

use crate::{NodeInfo, NodeOutcome, Observer, RunEvent};

/// An observer between a run and another observer, that remembers how each node ended.
pub struct Recorder {
    next: Arc<dyn Observer>,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    run_id: String,
    command: String,
    started_at: Option<DateTime<Utc>>,
    finished_at: Option<DateTime<Utc>>,
    has_failed: bool,
    nodes: Vec<Value>,
}

impl Recorder {
    pub fn new(next: Arc<dyn Observer>) -> Self {
        Self { next, seen: Mutex::new(Seen::default()) }
    }

    /// The run so far; `None` before it started.
    pub fn row(&self) -> Option<RunRow> {
        let seen = self.seen.lock();
        let status = match (seen.finished_at, seen.has_failed) {
            (None, _) => "running",
            (Some(_), true) => "error",
            (Some(_), false) => "success",
        };
        Some(RunRow {
            id: seen.run_id.clone(),
            command: seen.command.clone(),
            started_at: seen.started_at?,
            finished_at: seen.finished_at,
            status: status.to_owned(),
            nodes: Value::Array(seen.nodes.clone()),
        })
    }

    /// Writes the run to the catalog; call it after the start, so that a crash leaves a trace, and at the end.
    pub async fn save(&self, catalog: &Catalog) -> Result<(), CatalogError> {
        match self.row() {
            Some(row) => catalog.record_run(&row).await,
            None => Ok(()),
        }
    }
}

impl Observer for Recorder {
    fn on_event(&self, event: &RunEvent) {
        {
            let mut seen = self.seen.lock();
            match event {
                RunEvent::RunStarted { run_id, command, at, .. } => {
                    *seen = Seen {
                        run_id: run_id.clone(),
                        command: command.clone(),
                        started_at: Some(*at),
                        ..Seen::default()
                    };
                }
                RunEvent::NodeFinished { node, outcome, .. } => {
                    seen.has_failed |= outcome.status.is_failure();
                    seen.nodes.push(node_json(node, outcome));
                }
                RunEvent::RunFinished { at, is_cut_short, .. } => {
                    seen.finished_at = Some(*at);
                    seen.has_failed |= *is_cut_short;
                }
                RunEvent::NodeStarted { .. } | RunEvent::NodeProgress { .. } | RunEvent::Notice { .. } => {}
            }
        }
        self.next.on_event(event);
    }
}

fn node_json(node: &NodeInfo, outcome: &NodeOutcome) -> Value {
    json!({
        "id": node.unique_id,
        "name": node.name,
        "kind": node.resource_type,
        "materialized": node.materialized,
        "relation": node.relation,
        "status": outcome.status.as_str(),
        "seconds": outcome.elapsed.as_secs_f64(),
        "rows": outcome.rows,
        "rows_quarantined": outcome.rows_quarantined,
        "rows_dropped": outcome.rows_dropped,
        "failures": outcome.failures,
        "message": outcome.message,
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{NodeStatus, RunTotals, Silent};

    #[test]
    fn a_run_with_a_failed_node_is_kept_as_error() {
        let recorder = Recorder::new(Arc::new(Silent));
        assert_eq!(recorder.row(), None);
        let at = DateTime::UNIX_EPOCH;
        recorder.on_event(&RunEvent::RunStarted {
            run_id: "r1".into(),
            command: "build".into(),
            nodes: 1,
            threads: 1,
            at,
            found: Vec::new(),
        });
        assert_eq!(recorder.row().unwrap().status, "running");
        let node = NodeInfo {
            unique_id: "model.p.a".into(),
            name: "a".into(),
            resource_type: "model".into(),
            materialized: "table".into(),
            relation: None,
            path: None,
            index: 1,
            total: 1,
        };
        let outcome = NodeOutcome::new(NodeStatus::Error, at, Duration::from_secs(2));
        recorder.on_event(&RunEvent::NodeFinished { node: Arc::new(node), outcome: Arc::new(outcome), at });
        recorder.on_event(&RunEvent::RunFinished {
            run_id: "r1".into(),
            command: "build".into(),
            totals: RunTotals::default(),
            elapsed: Duration::ZERO,
            at,
            is_cut_short: false,
        });
        let row = recorder.row().unwrap();
        assert_eq!(row.status, "error");
        assert_eq!(row.nodes[0]["seconds"], 2.0);
    }
}
