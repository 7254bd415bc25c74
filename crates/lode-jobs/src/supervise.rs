//! Keeps a named task alive until it is told to stop.

use std::future::Future;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use lode_core::{ErrorKind, Problem, task};

use crate::Backoff;

/// A failure after which the task is started again.
#[derive(Debug)]
pub struct Restart<'a> {
    pub name: &'static str,
    pub problem: &'a Problem,
    /// Failures in a row, from 1.
    pub failures: u32,
    pub wait: Duration,
}

/// Runs `work` until it returns `Ok`, or `stop` is cancelled, starting it again after a failure.
///
/// Each start gets a child of `stop`, and is waited for when `stop` comes: the work itself decides where it may end.
/// A start that lasted longer than the backoff's cap resets the waits. A panic counts as a failure.
/// Errors: at once, what no new try can mend (`Usage`, `Config`, `Unsupported`, `Denied` stay broken until a person acts).
pub async fn supervise<W, F>(
    name: &'static str,
    mut backoff: Backoff,
    stop: CancellationToken,
    mut on_restart: impl FnMut(Restart<'_>) + Send,
    mut work: W,
) -> Result<(), Problem>
where
    W: FnMut(CancellationToken) -> F + Send,
    F: Future<Output = Result<(), Problem>> + Send + 'static,
{
    while !stop.is_cancelled() {
        let started = Instant::now();
        let problem = match task::spawn(name, work(stop.child_token())).await {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(problem)) => problem,
            Err(error) => Problem::internal(format!("task \"{name}\" stopped")).cause(error),
        };
        if stop.is_cancelled() {
            debug!(task = name, error = %problem, "task failed while it was stopped");
            break;
        }
        if !is_worth_a_retry(problem.kind()) {
            return Err(problem);
        }
        if started.elapsed() > backoff.cap {
            backoff.reset();
        }
        let wait = backoff.next_wait();
        warn!(task = name, error = %problem, failures = backoff.failures(), wait_ms = wait.as_millis() as u64, "task failed, starting again");
        on_restart(Restart { name, problem: &problem, failures: backoff.failures(), wait });
        tokio::select! {
            () = stop.cancelled() => break,
            () = tokio::time::sleep(wait) => {}
        }
    }
    Ok(())
}

fn is_worth_a_retry(kind: ErrorKind) -> bool {
    !matches!(kind, ErrorKind::Usage | ErrorKind::Config | ErrorKind::Unsupported | ErrorKind::Denied)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    fn quick() -> Backoff {
        Backoff::new(Duration::from_millis(1), Duration::from_millis(10))
    }

    fn unavailable() -> Problem {
        Problem::new(ErrorKind::Unavailable, "gone")
    }

    #[tokio::test]
    async fn a_failing_task_is_started_again_with_growing_waits() {
        let starts = Arc::new(AtomicU32::new(0));
        let mut waits = Vec::new();
        let counted = starts.clone();
        supervise(
            "test",
            quick(),
            CancellationToken::new(),
            |restart| waits.push(restart.wait),
            move |_| {
                let start = counted.fetch_add(1, Ordering::SeqCst);
                async move { if start < 3 { Err(unavailable()) } else { Ok(()) } }
            },
        )
        .await
        .unwrap();
        assert_eq!(starts.load(Ordering::SeqCst), 4);
        assert_eq!(waits.len(), 3);
        assert!(waits[2] >= Duration::from_millis(2));
    }

    #[tokio::test]
    async fn what_cannot_mend_itself_ends_the_task() {
        let problem = supervise(
            "test",
            quick(),
            CancellationToken::new(),
            |_| {},
            |_| async { Err(Problem::new(ErrorKind::Config, "bad")) },
        )
        .await
        .unwrap_err();
        assert_eq!(problem.what(), "bad");
    }

    #[tokio::test]
    async fn a_panic_counts_as_a_failure_and_stop_ends_the_wait() {
        let stop = CancellationToken::new();
        let stopper = stop.clone();
        let mut failures = 0;
        supervise(
            "test",
            quick(),
            stop,
            |restart| {
                failures = restart.failures;
                if failures == 2 {
                    stopper.cancel();
                }
            },
            |_| async { panic!("boom") },
        )
        .await
        .unwrap();
        assert_eq!(failures, 2);
    }
}
