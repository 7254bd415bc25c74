//! The live display: a line for each node that runs, redrawn ten times a second; what has finished scrolls above.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use lode_jobs::{NodeInfo, NodeOutcome, NodeStatus, NoticeLevel, RunEvent};
use parking_lot::{Condvar, Mutex};
use unicode_width::UnicodeWidthStr;

use super::{plain, words};
use crate::output::{Output, Paint};
use crate::render::{cut, printable};

const SPINNER: [char; 10] = ['⠋', '⠙', '⠹', '⠸', '⠼', '⠴', '⠦', '⠧', '⠇', '⠏'];
const REDRAW: Duration = Duration::from_millis(100);
const HIDE_CURSOR: &str = "\x1b[?25l";
const SHOW_CURSOR: &str = "\x1b[?25h";

/// A display of this process has hidden the cursor.
static IS_SHOWN: AtomicBool = AtomicBool::new(false);

/// Gives the terminal back as it was. For panics and the second ctrl-C; harmless at any other time.
pub(crate) fn restore_terminal() {
    if IS_SHOWN.swap(false, Ordering::SeqCst) {
        let _ = std::io::stderr().write_all(format!("\r\x1b[J{SHOW_CURSOR}").as_bytes());
    }
}

pub(super) struct Live {
    shared: Arc<Shared>,
    redraw: Mutex<Option<std::thread::JoinHandle<()>>>,
}

struct Shared {
    out: Output,
    paint: Paint,
    state: Mutex<State>,
    wake: Condvar,
}

struct State {
    started: Instant,
    running: Vec<Running>,
    done: usize,
    total: usize,
    frame: usize,
    /// Display widths of the lines that stand on the screen now.
    drawn: Vec<usize>,
    is_ended: bool,
}

struct Running {
    node: Arc<NodeInfo>,
    since: Instant,
    rows: u64,
    rows_total: Option<u64>,
    message: Option<String>,
}

impl Live {
    pub(super) fn start(out: &Output) -> Self {
        let state = State {
            started: Instant::now(),
            running: Vec::new(),
            done: 0,
            total: 0,
            frame: 0,
            drawn: Vec::new(),
            is_ended: false,
        };
        let shared = Arc::new(Shared {
            out: out.clone(),
            paint: out.err_paint(),
            state: Mutex::new(state),
            wake: Condvar::new(),
        });
        IS_SHOWN.store(true, Ordering::SeqCst);
        out.raw_err(HIDE_CURSOR.as_bytes());
        let redraw = {
            let shared = Arc::clone(&shared);
            std::thread::Builder::new().name("progress".into()).spawn(move || redraw(&shared)).ok()
        };
        Self { shared, redraw: Mutex::new(redraw) }
    }

    pub(super) fn on_event(&self, event: &RunEvent) {
        let mut state = self.shared.state.lock();
        match event {
            RunEvent::RunStarted { nodes, .. } => {
                state.total = *nodes;
                state.started = Instant::now();
            }
            RunEvent::NodeStarted { node, .. } => state.running.push(Running {
                node: Arc::clone(node),
                since: Instant::now(),
                rows: 0,
                rows_total: None,
                message: None,
            }),
            RunEvent::NodeProgress { node, rows, rows_total, message, .. } => {
                if let Some(running) = state.running.iter_mut().find(|running| running.node.unique_id == node.unique_id)
                {
                    running.rows = *rows;
                    running.rows_total = *rows_total;
                    running.message.clone_from(message);
                }
            }
            RunEvent::NodeFinished { node, outcome, .. } => {
                state.running.retain(|running| running.node.unique_id != node.unique_id);
                state.done += 1;
                let line = finished_line(node, outcome, self.shared.paint);
                self.shared.above(&mut state, || {
                    self.shared.out.raw_err(format!("{line}\n").as_bytes());
                    if outcome.status.is_failure() || outcome.status == NodeStatus::Warn {
                        plain::tell_failure(&self.shared.out, node, outcome);
                    }
                });
            }
            RunEvent::Notice { level, message, place } if *level >= NoticeLevel::Info => {
                let place = place.as_ref().map(|place| format!(" ({place})")).unwrap_or_default();
                let text = format!("{}{place}", printable(message));
                let text = if *level == NoticeLevel::Warn {
                    self.shared.paint.yellow(format!("warning: {text}"))
                } else {
                    text
                };
                self.shared.above(&mut state, || self.shared.out.raw_err(format!("{text}\n").as_bytes()));
            }
            RunEvent::RunFinished { totals, elapsed, is_cut_short, .. } => {
                let word = if *is_cut_short {
                    self.shared.paint.yellow("cut short")
                } else if totals.error > 0 {
                    self.shared.paint.red("failed")
                } else {
                    self.shared.paint.green("done")
                };
                let mut parts = vec![format!("{} passed", words::count(totals.pass as u64))];
                for (number, name) in [
                    (totals.warn, "warned"),
                    (totals.error, "failed"),
                    (totals.skip, "skipped"),
                    (totals.reused, "unchanged"),
                ] {
                    if number > 0 {
                        parts.push(format!("{} {name}", words::count(number as u64)));
                    }
                }
                let line = format!("{word} in {}: {}\n", words::seconds(*elapsed), parts.join(", "));
                state.running.clear();
                self.shared.above(&mut state, || self.shared.out.raw_err(line.as_bytes()));
            }
            _ => {}
        }
    }

    pub(super) fn finish(&self) {
        {
            let mut state = self.shared.state.lock();
            if std::mem::replace(&mut state.is_ended, true) {
                return;
            }
            self.shared.clear(&mut state);
            self.shared.out.raw_err(SHOW_CURSOR.as_bytes());
            IS_SHOWN.store(false, Ordering::SeqCst);
            self.shared.wake.notify_all();
        }
        if let Some(redraw) = self.redraw.lock().take() {
            let _ = redraw.join();
        }
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.finish();
    }
}

fn redraw(shared: &Shared) {
    let mut state = shared.state.lock();
    while !state.is_ended {
        shared.draw(&mut state);
        shared.wake.wait_for(&mut state, REDRAW);
    }
}

impl Shared {
    /// Writes lines that stay, above the display.
    fn above(&self, state: &mut State, write: impl FnOnce()) {
        self.clear(state);
        write();
    }

    /// Takes the display off the screen; the cursor stands where its first line was.
    fn clear(&self, state: &mut State) {
        if state.drawn.is_empty() {
            return;
        }
        self.out.raw_err(up(&state.drawn, usize::from(self.out.size().0)).as_bytes());
        state.drawn.clear();
    }

    fn draw(&self, state: &mut State) {
        let (width, height) = self.out.size();
        let width = usize::from(width);
        let mut frame = up(&state.drawn, width);
        let lines = lines(state, width, usize::from(height));
        state.drawn = lines.iter().map(|line| line.width()).collect();
        for (at, line) in lines.iter().enumerate() {
            if at > 0 {
                frame.push_str("\r\n");
            }
            // Only the last line, the sum, is dim.
            frame.push_str(&if at + 1 == lines.len() { self.paint.dim(line) } else { line.clone() });
        }
        state.frame += 1;
        self.out.raw_err(frame.as_bytes());
    }
}

/// Goes to the first of the drawn lines and clears from there. A line that the terminal has wrapped since counts for
/// the rows that it takes now.
fn up(drawn: &[usize], width: usize) -> String {
    if drawn.is_empty() {
        return String::new();
    }
    let rows: usize = drawn.iter().map(|line| line.div_ceil(width.max(1)).max(1)).sum();
    if rows > 1 { format!("\r\x1b[{}A\x1b[J", rows - 1) } else { "\r\x1b[J".to_owned() }
}

/// The lines of the display, without colour, each narrower than the terminal.
fn lines(state: &State, width: usize, height: usize) -> Vec<String> {
    let spinner = SPINNER.get(state.frame % SPINNER.len()).copied().unwrap_or(' ');
    let room = height.saturating_sub(2).max(1);
    let mut lines: Vec<String> = state
        .running
        .iter()
        .take(room)
        .map(|running| {
            let time = words::seconds(running.since.elapsed());
            let mut facts = Vec::new();
            match running.rows_total.filter(|total| *total > 0) {
                Some(total) => facts.push(format!("{}%", running.rows.min(total) * 100 / total)),
                None if running.rows > 0 => facts.push(words::plural(running.rows, "row")),
                None => {}
            }
            facts.extend(running.message.as_deref().map(printable));
            facts.push(time);
            let facts = facts.join("  ");
            let name = running.node.relation.as_deref().unwrap_or(&running.node.name);
            let name = cut(&printable(name), width.saturating_sub(facts.width() + 6).max(8));
            cut(&format!("{spinner} {name}  {facts}"), width.saturating_sub(1))
        })
        .collect();
    let mut sum = format!("{} of {} done, {}", state.done, state.total, words::seconds(state.started.elapsed()));
    if state.running.len() > room {
        sum.push_str(&format!(", {} more running", state.running.len() - room));
    }
    lines.push(cut(&sum, width.saturating_sub(1)));
    lines
}

fn finished_line(node: &NodeInfo, outcome: &NodeOutcome, paint: Paint) -> String {
    let mark = match outcome.status {
        NodeStatus::Success | NodeStatus::Pass => paint.green("✓"),
        NodeStatus::Error | NodeStatus::Fail | NodeStatus::PartialSuccess => paint.red("✗"),
        NodeStatus::Warn => paint.yellow("!"),
        NodeStatus::Skipped | NodeStatus::NoOp => paint.dim("-"),
    };
    let name = match node.resource_type.as_str() {
        "test" | "unit_test" => node.name.as_str(),
        _ => node.relation.as_deref().unwrap_or(&node.name),
    };
    let kind = match node.resource_type.as_str() {
        "model" => node.materialized.as_str(),
        other => other,
    };
    let mut facts = Vec::new();
    match outcome.status {
        NodeStatus::Skipped => {
            facts.push(if outcome.message.is_empty() { "skipped".to_owned() } else { printable(&outcome.message) })
        }
        _ if outcome.is_reused => facts.push("unchanged".to_owned()),
        _ => {
            facts.extend(Some(words::rows(outcome)).filter(|rows| !rows.is_empty()));
            facts.push(words::seconds(outcome.elapsed));
        }
    }
    format!("{mark} {}  {}", printable(name), paint.dim(format!("{kind}  {}", facts.join("  "))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn running(relation: &str, rows: u64) -> Running {
        let node = NodeInfo {
            unique_id: relation.into(),
            name: relation.into(),
            resource_type: "model".into(),
            materialized: "table".into(),
            relation: Some(relation.into()),
            path: None,
            index: 1,
            total: 9,
        };
        Running { node: Arc::new(node), since: Instant::now(), rows, rows_total: None, message: None }
    }

    fn state(count: usize) -> State {
        State {
            started: Instant::now(),
            running: (0..count).map(|at| running(&format!("gold.a_very_long_table_name_{at}"), 1_234_567)).collect(),
            done: 3,
            total: 9,
            frame: 0,
            drawn: Vec::new(),
            is_ended: false,
        }
    }

    #[test]
    fn no_line_is_as_wide_as_the_terminal() {
        for width in [20, 33, 80] {
            for line in lines(&state(4), width, 24) {
                assert!(line.width() < width, "{line:?} at {width}");
            }
        }
    }

    #[test]
    fn the_display_never_fills_the_screen() {
        let lines = lines(&state(50), 80, 10);
        assert!(lines.len() < 10);
        assert!(lines.last().unwrap().ends_with("42 more running"));
    }

    #[test]
    fn a_narrowed_terminal_is_cleared_for_its_wrapped_lines() {
        assert_eq!(up(&[70, 30], 100), "\r\x1b[1A\x1b[J");
        assert_eq!(up(&[70, 30], 40), "\r\x1b[2A\x1b[J");
        assert_eq!(up(&[], 40), "");
    }
}
