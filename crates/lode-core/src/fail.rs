//! Named fail points: places where a test may stop or break the process.
//!
//! Set `LODE_FAIL_POINT=<name>[=kill|error|pause][@N]`: at the N-th visit (default 1) of that name the process kills
//! itself with SIGKILL (default), or the visit returns an error, or sleeps 3 s. Unset, a visit is one atomic load.

use std::collections::HashMap;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use crate::{ErrorKind, Problem};

struct Plan {
    name: String,
    action: Action,
    at_visit: u64,
    visits: AtomicU64,
}

#[derive(Clone, Copy, PartialEq)]
enum Action {
    Kill,
    Error,
    Pause,
}

static PLAN: OnceLock<Option<Plan>> = OnceLock::new();
/// `LODE_FAIL_POINT=list` records every name that was visited, for `visited`.
static VISITED: Mutex<Option<HashMap<&'static str, u64>>> = Mutex::new(None);

fn plan() -> &'static Option<Plan> {
    PLAN.get_or_init(|| {
        let text = std::env::var("LODE_FAIL_POINT").ok().filter(|text| !text.is_empty())?;
        if text == "list" {
            *VISITED.lock() = Some(HashMap::new());
        }
        let (text, at_visit) = match text.rsplit_once('@') {
            Some((head, count)) => (head.to_owned(), count.parse().unwrap_or(1)),
            None => (text, 1),
        };
        let (name, action) = match text.split_once('=') {
            Some((name, "error")) => (name.to_owned(), Action::Error),
            Some((name, "pause")) => (name.to_owned(), Action::Pause),
            Some((name, _)) => (name.to_owned(), Action::Kill),
            None => (text, Action::Kill),
        };
        Some(Plan { name, action, at_visit, visits: AtomicU64::new(0) })
    })
}

/// Visits the fail point `name`. Errors only when a plan asks for it.
#[inline]
pub fn point(name: &'static str) -> Result<(), Problem> {
    match plan() {
        None => Ok(()),
        Some(plan) => visit(plan, name),
    }
}

#[cold]
fn visit(plan: &Plan, name: &'static str) -> Result<(), Problem> {
    if let Some(visited) = VISITED.lock().as_mut() {
        *visited.entry(name).or_default() += 1;
    }
    if plan.name != name || plan.visits.fetch_add(1, Ordering::SeqCst) + 1 != plan.at_visit {
        return Ok(());
    }
    match plan.action {
        Action::Kill => kill_self(),
        Action::Pause => std::thread::sleep(Duration::from_secs(3)),
        Action::Error => {
            return Err(Problem::new(ErrorKind::Unavailable, format!("fail point \"{name}\" was set to fail")));
        }
    }
    Ok(())
}

fn kill_self() {
    // SIGKILL to ourselves, as no destructor and no buffer may run.
    if let Some(pid) = rustix::process::Pid::from_raw(std::process::id() as i32) {
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
    }
    std::process::abort();
}

/// Names visited so far with their counts, when `LODE_FAIL_POINT=list`.
pub fn visited() -> Vec<(&'static str, u64)> {
    let mut names: Vec<_> = VISITED.lock().iter().flatten().map(|(name, count)| (*name, *count)).collect();
    names.sort_unstable();
    names
}
