//! One JSON object a line, for programs that follow a run.

use lode_jobs::{NodeInfo, RunEvent};
use serde_json::{Value, json};

use crate::output::Output;

pub(super) struct JsonLines {
    out: Output,
}

impl JsonLines {
    pub(super) fn new(out: &Output) -> Self {
        Self { out: out.clone() }
    }

    pub(super) fn on_event(&self, event: &RunEvent) {
        self.out.must_say(object(event));
    }
}

fn object(event: &RunEvent) -> Value {
    let node_of = |node: &NodeInfo| serde_json::to_value(node).unwrap_or_default();
    match event {
        RunEvent::RunStarted { run_id, command, nodes, threads, at, found } => {
            let found: serde_json::Map<String, Value> = found.iter().map(|(k, n)| (k.clone(), json!(n))).collect();
            json!({"event": "run_started", "at": at, "run_id": run_id, "command": command, "nodes": nodes, "threads": threads, "found": found})
        }
        RunEvent::NodeStarted { node, at } => json!({"event": "node_started", "at": at, "node": node_of(node)}),
        RunEvent::NodeProgress { node, rows, rows_total, bytes, message } => {
            json!({"event": "node_progress", "node": node_of(node), "rows": rows, "rows_total": rows_total, "bytes": bytes, "message": message})
        }
        RunEvent::NodeFinished { node, outcome, at } => json!({
            "event": "node_finished",
            "at": at,
            "node": node_of(node),
            "status": outcome.status.as_str(),
            "seconds": outcome.elapsed.as_secs_f64(),
            "rows": outcome.rows,
            "rows_quarantined": outcome.rows_quarantined,
            "rows_dropped": outcome.rows_dropped,
            "failures": outcome.failures,
            "rules": outcome.rules,
            "is_reused": outcome.is_reused,
            "message": outcome.message,
            "error": outcome.problem.as_ref().map(|problem| problem.render()),
        }),
        RunEvent::Notice { level, message, place } => {
            json!({"event": "notice", "level": level, "message": message, "place": place})
        }
        RunEvent::RunFinished { run_id, command, totals, elapsed, at, is_cut_short } => json!({
            "event": "run_finished",
            "at": at,
            "run_id": run_id,
            "command": command,
            "totals": totals,
            "seconds": elapsed.as_secs_f64(),
            "is_cut_short": is_cut_short,
        }),
    }
}
