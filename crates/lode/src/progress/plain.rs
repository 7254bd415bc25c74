//! dbt's log lines, for pipes and files.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use lode_core::Problem;
use lode_jobs::{NodeInfo, NodeOutcome, NodeStatus, NoticeLevel, RunEvent};
use parking_lot::Mutex;
use unicode_width::UnicodeWidthStr;

use super::words;
use crate::output::Output;

pub(super) struct Plain {
    out: Output,
    /// Told again at the end, where a person looks.
    failures: Mutex<Vec<(Arc<NodeInfo>, Arc<NodeOutcome>)>>,
}

/// Dots fill a line up to this column, as in dbt.
const DOTS_TO: usize = 80;

impl Plain {
    pub(super) fn new(out: &Output) -> Self {
        Self { out: out.clone(), failures: Mutex::default() }
    }

    pub(super) fn on_event(&self, event: &RunEvent) {
        match event {
            RunEvent::RunStarted { nodes, threads, at, found, .. } => {
                if !found.is_empty() {
                    let parts = found.iter().map(|(kind, number)| words::plural(*number as u64, kind));
                    self.line(*at, format!("Found {}", parts.collect::<Vec<_>>().join(", ")));
                }
                if *nodes > 0 {
                    self.line(*at, format!("Concurrency: {}", words::plural(*threads as u64, "thread")));
                }
            }
            RunEvent::NodeStarted { node, at } => {
                let text = format!("{} of {} START {}", node.index, node.total, node.description());
                self.line(*at, dotted(&text, "RUN"));
            }
            RunEvent::NodeFinished { node, outcome, at } => {
                let text =
                    format!("{} of {} {} {}", node.index, node.total, words::ending(node, outcome), node.description());
                self.line(*at, dotted(&text, &words::bracket(outcome)));
                self.keep(node, outcome);
            }
            RunEvent::Notice { level, message, place } if *level >= NoticeLevel::Info => {
                let mark = if *level == NoticeLevel::Warn { "[WARNING] " } else { "" };
                let place = place.as_ref().map(|place| format!(" ({place})")).unwrap_or_default();
                self.line(Utc::now(), format!("{mark}{message}{place}"));
            }
            RunEvent::RunFinished { totals, elapsed, at, is_cut_short, .. } => {
                self.line(*at, format!("Finished in {}", words::seconds(*elapsed)));
                self.tell_failures();
                if *is_cut_short {
                    self.line(*at, "The run was cut short");
                }
                self.line(*at, words::totals(totals));
            }
            _ => {}
        }
    }

    /// With `--quiet`: only what went wrong.
    pub(super) fn only_failures(&self, event: &RunEvent) {
        match event {
            RunEvent::NodeFinished { node, outcome, .. } => self.keep(node, outcome),
            RunEvent::RunFinished { .. } => self.tell_failures(),
            _ => {}
        }
    }

    fn keep(&self, node: &Arc<NodeInfo>, outcome: &Arc<NodeOutcome>) {
        if outcome.status.is_failure() || outcome.status == NodeStatus::Warn {
            self.failures.lock().push((Arc::clone(node), Arc::clone(outcome)));
        }
    }

    fn tell_failures(&self) {
        for (node, outcome) in self.failures.lock().drain(..) {
            tell_failure(&self.out, &node, &outcome);
        }
    }

    fn line(&self, at: DateTime<Utc>, text: impl std::fmt::Display) {
        self.out.say(format!("{}  {text}", at.format("%H:%M:%S")));
    }
}

/// A failure or warning with its what, where and fix.
pub(super) fn tell_failure(out: &Output, node: &NodeInfo, outcome: &NodeOutcome) {
    let is_warning = outcome.status == NodeStatus::Warn;
    let tell = |problem: &Problem| {
        if is_warning { out.say(problem.render_as("warning")) } else { out.problem(problem) }
    };
    match &outcome.problem {
        // The node is named once: by the problem itself, or in front of it.
        Some(problem) if problem.render().contains(&node.name) => tell(problem),
        Some(problem) => {
            out.must_say(format!("in {}:", node.description()));
            tell(problem);
        }
        // `lode ingest` shows the problems of its sources itself, each with its place.
        None if node.resource_type == "ingest" => {}
        None => {
            let (message, rows) = (&outcome.message, words::rows(outcome));
            let message = if rows.is_empty() { message } else { &rows };
            let mut problem =
                Problem::new(lode_core::ErrorKind::Contract, format!("{}: {message}", node.description()));
            if let Some(path) = &node.path {
                problem = problem.at(lode_core::Place::of(path));
            }
            tell(&problem);
        }
    }
}

fn dotted(text: &str, bracket: &str) -> String {
    let width = text.width();
    let dots = DOTS_TO.saturating_sub(width + 1).max(3);
    format!("{text} {} [{bracket}]", ".".repeat(dots))
}
