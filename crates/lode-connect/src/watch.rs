//! Watching sources, as `lode up` does: a task each, over a list that may change meanwhile.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::watch::Receiver;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use lode_catalog::Catalog;
use lode_core::{Problem, task};
use lode_jobs::Backoff;

use crate::config::Ingest;
use crate::ingest::{IngestContext, LandReport, source};
use crate::sources::files::collect::Progress;
use crate::sources::files::land::{FileSourceRun, Pass};

/// Scope of the catalog notes that tell how watched sources are; the key is the ingest's name.
pub const STATE_SCOPE: &str = "ingest";

/// How a watched source is, as JSON in a note of the catalog.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SourceState {
    pub is_failing: bool,
    /// What stops the source, or what is wrong with single files.
    pub error: Option<String>,
    pub since: DateTime<Utc>,
}

/// Watches the sources of `context` until `shutdown`. An epoch that is under way is finished first.
/// A source that fails is tried again with growing waits, and says so in its note.
pub async fn watch(context: &IngestContext, shutdown: CancellationToken) {
    let (_keep, list) = tokio::sync::watch::channel(context.ingests.clone());
    watch_list(context, list, shutdown).await;
}

/// As `watch`, over a list that changes: a source whose settings are others than before goes on with the new ones after
/// the epoch that is under way; the others do not notice. The sources of `context` itself are not looked at.
pub async fn watch_list(context: &IngestContext, mut list: Receiver<Vec<Ingest>>, shutdown: CancellationToken) {
    let mut sources = Sources { context, shutdown: shutdown.clone(), running: Vec::new(), ending: Vec::new() };
    loop {
        let wanted = list.borrow_and_update().clone();
        sources.take_over(wanted);
        tokio::select! {
            () = shutdown.cancelled() => break,
            changed = list.changed() => if changed.is_err() {
                // Nobody can change it any more.
                shutdown.cancelled().await;
                break;
            },
        }
    }
    for source in sources.running.into_iter().chain(sources.ending) {
        if let Err(error) = source.task.await {
            tracing::error!(%error, "a source's task stopped");
        }
    }
}

struct Sources<'a> {
    context: &'a IngestContext,
    shutdown: CancellationToken,
    running: Vec<Running>,
    /// Told to stop, and perhaps not at their end yet.
    ending: Vec<Running>,
}

struct Running {
    ingest: Arc<Ingest>,
    stop: CancellationToken,
    /// Cancelled when the task is over, however it ended.
    ended: CancellationToken,
    state: Arc<Mutex<Option<SourceState>>>,
    task: JoinHandle<()>,
}

impl Sources<'_> {
    fn take_over(&mut self, wanted: Vec<Ingest>) {
        self.ending.retain(|source| !source.ended.is_cancelled());
        let (kept, stopped): (Vec<_>, Vec<_>) =
            self.running.drain(..).partition(|source| wanted.iter().any(|ingest| *ingest == *source.ingest));
        self.running = kept;
        for source in &stopped {
            source.stop.cancel();
        }
        self.ending.extend(stopped);
        for ingest in wanted {
            if !self.running.iter().any(|source| *source.ingest == ingest) {
                let source = self.start(ingest);
                self.running.push(source);
            }
        }
    }

    /// Two tasks must not work on one pipeline or one table: the new one waits for the end of the old one.
    fn start(&self, ingest: Ingest) -> Running {
        let ingest = Arc::new(ingest);
        let stop = self.shutdown.child_token();
        let ended = CancellationToken::new();
        let is_before = |old: &&Running| {
            old.ingest.name == ingest.name
                || old.ingest.table == ingest.table
                || ingest.renamed_from.as_ref() == Some(&old.ingest.name)
        };
        let before: Vec<CancellationToken> =
            self.ending.iter().filter(is_before).map(|old| old.ended.clone()).collect();
        let same = self.ending.iter().rev().find(|old| old.ingest.name == ingest.name);
        let state = same.map(|old| Arc::clone(&old.state)).unwrap_or_default();
        let run = source(self.context, &ingest, stop.clone());
        let watcher = Watcher {
            catalog: Arc::clone(&self.context.catalog),
            ingest: Arc::clone(&ingest),
            state: Arc::clone(&state),
            backoff: Backoff::new(Duration::from_millis(500), Duration::from_secs(60)),
        };
        let work = {
            let (stop, guard) = (stop.clone(), ended.clone().drop_guard());
            async move {
                for old in before {
                    old.cancelled().await;
                }
                watcher.watch(run, stop).await;
                drop(guard);
            }
        };
        Running { ingest, stop, ended, state, task: task::spawn("ingest", work) }
    }
}

/// One watched source.
struct Watcher {
    catalog: Arc<Catalog>,
    ingest: Arc<Ingest>,
    /// As the note says; kept when the settings change.
    state: Arc<Mutex<Option<SourceState>>>,
    backoff: Backoff,
}

impl Watcher {
    async fn watch(mut self, mut run: FileSourceRun, stop: CancellationToken) {
        let progress = Arc::new(Progress::default());
        while !stop.is_cancelled() {
            // Not dropped by a stop: the pass ends after the epoch that is under way.
            let wait = match run.pass(Pass::Watch, &progress).await {
                Ok(report) => {
                    self.backoff.reset();
                    self.landed(&report).await;
                    let pace = self.ingest.commit_interval.filter(|_| report.epochs > 0).unwrap_or_default();
                    self.ingest.poll_interval.max(pace)
                }
                Err(problem) => {
                    let wait = self.backoff.next_wait();
                    self.failed(&problem, wait).await;
                    wait
                }
            };
            tokio::select! {
                () = stop.cancelled() => break,
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    async fn landed(&mut self, report: &LandReport) {
        for problem in &report.problems {
            warn!(ingest = %self.ingest.name, error = %problem, "a file did not land");
        }
        // A refused file is passed over until it changes: what was said about it stays until something lands.
        let has_news = report.epochs > 0 || !report.problems.is_empty();
        let was_failing = self.state.lock().as_ref().is_none_or(|state| state.is_failing);
        if has_news || was_failing {
            self.put(false, report.problems.first().map(ToString::to_string)).await;
        }
    }

    async fn failed(&mut self, problem: &Problem, wait: Duration) {
        let error = problem.to_string();
        if self.state.lock().as_ref().is_none_or(|state| state.error.as_deref() != Some(error.as_str())) {
            warn!(ingest = %self.ingest.name, %error, wait_ms = wait.as_millis() as u64, "source failed, trying again");
        }
        self.put(true, Some(error)).await;
    }

    async fn put(&mut self, is_failing: bool, error: Option<String>) {
        let before = self.state.lock().clone();
        let is_same = before.as_ref().is_some_and(|state| (state.is_failing, &state.error) == (is_failing, &error));
        if is_same {
            return;
        }
        if before.is_some_and(|state| state.is_failing) && !is_failing {
            info!(ingest = %self.ingest.name, "source works again");
        }
        let state = SourceState { is_failing, error, since: self.catalog.now() };
        // A projection for `lode status`: if the DB does not take it now, the next change will be tried again.
        if let Ok(text) = serde_json::to_string(&state)
            && self.catalog.put_note(STATE_SCOPE, &self.ingest.name, &text).await.is_ok()
        {
            *self.state.lock() = Some(state);
        }
    }
}
