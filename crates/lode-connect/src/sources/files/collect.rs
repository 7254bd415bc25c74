//! The files of one epoch become data files: workers decode, sort rows and write; nothing is visible yet.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use arrow::array::RecordBatch;
use parking_lot::Mutex;

use lode_catalog::{FileRow, FileState, QuarantineRows};
use lode_core::{AttemptId, ErrorKind, Problem, task};
use lode_lake::{DataFile, Store, TableWriter, WriterOptions};

use super::bronze::{TableTarget, Target};
use super::discover::{Found, file_problem, look_again};
use super::identity::{Claims, FirstLook, Identity, Ledger, Root, found_again, hash_file, passed_over, renamed};
use super::rows::{RowCounts, RowRules};
use crate::config::{Ingest, OnChange};
use crate::decode::{self, Decoded, DecodedSink, Dialects, FileError, FileOutcome, Undeclared};

/// Rows of a file are held back up to this size: a file that turns out to be bad costs nothing then. A larger file writes
/// data files of its own, which are dropped with it.
const HELD_BYTES: usize = 4 << 20;
/// Rejected rows are written in batches of about this size.
const REJECTED_BYTES: u64 = 2 << 20;
/// Files from this size on are split over all workers.
const SPLIT_BYTES: u64 = 8 << 20;
/// Encoded bytes in the open row groups of all workers together.
const OPEN_ROW_GROUPS_BYTES: usize = 64 << 20;

/// One file to land.
#[derive(Debug, Clone)]
pub(crate) struct Job {
    pub(crate) found: Found,
    pub(crate) look: FirstLook,
}

/// What the workers of one epoch share.
pub(crate) struct EpochWork {
    pub(crate) ingest: Arc<Ingest>,
    pub(crate) store: Store,
    pub(crate) attempt: AttemptId,
    pub(crate) root: Root,
    pub(crate) target: Target,
    pub(crate) rules: RowRules,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) progress: Arc<Progress>,
    pub(crate) claims: Claims,
    pub(crate) jobs: Mutex<VecDeque<Job>>,
    /// One worker failed: the others stop at their next file.
    pub(crate) has_failed: AtomicBool,
}

/// Is told rows and bytes so far.
pub(crate) type Tell = Box<dyn FnMut(u64, u64) + Send>;

/// How far a source is, for observers; grows only.
#[derive(Default)]
pub(crate) struct Progress {
    pub(crate) rows: AtomicU64,
    pub(crate) bytes: AtomicU64,
    pub(crate) tell: Mutex<Option<Tell>>,
}

impl Progress {
    fn add(&self, rows: u64, bytes: u64) {
        let rows = self.rows.fetch_add(rows, Ordering::Relaxed) + rows;
        let bytes = self.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        // Whoever finds it busy lets the other one tell.
        if let Some(mut tell) = self.tell.try_lock()
            && let Some(tell) = tell.as_mut()
        {
            tell(rows, bytes);
        }
    }
}

/// What the workers made of the epoch's files.
#[derive(Debug, Default)]
pub(crate) struct Collected {
    pub(crate) bronze: Vec<DataFile>,
    pub(crate) quarantine: Vec<DataFile>,
    /// For the ledger.
    pub(crate) files: Vec<FileRow>,
    pub(crate) counts: RowCounts,
    pub(crate) files_landed: u64,
    pub(crate) files_renamed: u64,
    pub(crate) files_poison: u64,
    pub(crate) files_skipped: u64,
    pub(crate) files_undeclared: u64,
    pub(crate) undeclared: Undeclared,
    pub(crate) rows_rescued: u64,
    pub(crate) bytes: u64,
    pub(crate) problems: Vec<Problem>,
    /// Files that got no ledger row: to be looked at again only when they change, in this process.
    pub(crate) refused: Vec<Found>,
}

impl Collected {
    fn add(&mut self, other: Self) {
        self.bronze.extend(other.bronze);
        self.quarantine.extend(other.quarantine);
        self.files.extend(other.files);
        self.counts.add(&other.counts);
        self.files_landed += other.files_landed;
        self.files_renamed += other.files_renamed;
        self.files_poison += other.files_poison;
        self.files_skipped += other.files_skipped;
        self.files_undeclared += other.files_undeclared;
        self.undeclared.add(&other.undeclared);
        self.rows_rescued += other.rows_rescued;
        self.bytes += other.bytes;
        self.problems.extend(other.problems);
        self.refused.extend(other.refused);
    }
}

/// Decodes and writes all jobs of the epoch: big files one after the other, each split over all workers; then the small
/// ones, spread over the workers.
/// Errors: what stops the epoch as a whole (the store, our own invariants). What is wrong with one file is in `Collected`.
pub(crate) async fn collect(work: EpochWork) -> Result<Collected, Problem> {
    let workers = task::cpu_count().max(1);
    let work = Arc::new(work);
    let big: Vec<Job> = {
        let mut jobs = work.jobs.lock();
        let (big, small) = jobs.drain(..).partition(|job| job.found.size_bytes >= SPLIT_BYTES);
        *jobs = small;
        big.into_iter().collect::<VecDeque<Job>>().into()
    };
    let mut collected = Collected::default();
    for job in big {
        let shared = Arc::clone(&work);
        collected.add(task::cpu_long("land", move || Worker::new(&shared, workers).run_one(&job)).await??);
    }
    let handles: Vec<_> = (0..workers)
        .map(|_| {
            let shared = Arc::clone(&work);
            task::spawn("land", task::cpu_long("land", move || Worker::new(&shared, 1).run()))
        })
        .collect();
    let mut failure = None;
    for handle in handles {
        match handle
            .await
            .map_err(|error| Problem::internal("a landing worker stopped").cause(error))
            .and_then(|end| end)
        {
            Ok(Ok(part)) => collected.add(part),
            Ok(Err(problem)) | Err(problem) => failure = failure.or(Some(problem)),
        }
    }
    match failure {
        Some(problem) => Err(problem),
        None => Ok(collected),
    }
}

/// Writers of one worker, or of one big file on one worker; each is opened when its first row comes.
struct Writers<'a> {
    work: &'a EpochWork,
    bronze: Option<TableWriter>,
    quarantine: Option<TableWriter>,
}

impl<'a> Writers<'a> {
    fn new(work: &'a EpochWork) -> Self {
        Self { work, bronze: None, quarantine: None }
    }

    fn write(&mut self, held: &Held) -> Result<(), Problem> {
        let (slot, table) = match held.kind {
            HeldKind::Landed => (&mut self.bronze, &self.work.target.bronze),
            HeldKind::Rejected => (&mut self.quarantine, &self.work.target.quarantine),
        };
        slot.get_or_insert_with(|| open(self.work, table)).write(&held.batch)?;
        Ok(())
    }

    fn finish(self, collected: &mut Collected) -> Result<(), Problem> {
        if let Some(writer) = self.bronze {
            collected.bronze.extend(writer.finish()?);
        }
        if let Some(writer) = self.quarantine {
            collected.quarantine.extend(writer.finish()?);
        }
        Ok(())
    }
}

fn open(work: &EpochWork, table: &TableTarget) -> TableWriter {
    let row_group_bytes = (OPEN_ROW_GROUPS_BYTES / task::cpu_count().max(1)).clamp(8 << 20, 48 << 20);
    let options = WriterOptions { row_group_bytes, ..WriterOptions::default() };
    TableWriter::new(&work.store, &table.location, &table.definition, work.attempt, options)
}

struct Held {
    kind: HeldKind,
    batch: RecordBatch,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum HeldKind {
    Landed,
    Rejected,
}

/// What one worker makes of one file, until the file counts as good.
struct FileRows<'a> {
    work: &'a EpochWork,
    file: String,
    held: Vec<Held>,
    held_bytes: usize,
    rejected: QuarantineRows,
    rejected_bytes: u64,
    /// Once too much is held: the file's own writers.
    own: Option<Writers<'a>>,
    counts: RowCounts,
    /// The file is refused by a rule of the ingest, not by a failure of ours.
    refusal: Option<Problem>,
}

impl<'a> FileRows<'a> {
    fn new(work: &'a EpochWork, file: &str) -> Self {
        Self {
            work,
            file: file.to_owned(),
            held: Vec::new(),
            held_bytes: 0,
            rejected: QuarantineRows::new(work.rules.epoch, work.rules.landed_at),
            rejected_bytes: 0,
            own: None,
            counts: RowCounts::default(),
            refusal: None,
        }
    }

    fn take(&mut self, decoded: Decoded) -> Result<(), Problem> {
        let (bytes, rows_before) = (decoded.bytes, self.counts.rows_in);
        self.rejected_bytes += decoded.rejects.iter().map(|reject| reject.raw.len() as u64 + 64).sum::<u64>();
        let rejected_before = self.rejected.len();
        let batch = match self.work.rules.sort(&self.file, decoded, &mut self.rejected, &mut self.counts) {
            Ok(batch) => batch,
            Err(problem) if problem.kind() == ErrorKind::Internal => return Err(problem),
            Err(problem) => {
                self.refusal = Some(problem);
                return Err(Problem::new(ErrorKind::Data, "the file is refused"));
            }
        };
        // Rows that a rule rejected are about as large as their share of the block.
        let rejected = (self.rejected.len() - rejected_before) as u64;
        self.rejected_bytes += bytes * rejected / (self.counts.rows_in - rows_before).max(1);
        if batch.num_rows() > 0 {
            // By its text: a small batch lends from a block of fixed size that it shares with nobody.
            self.keep(HeldKind::Landed, batch, bytes as usize)?;
        }
        if self.rejected_bytes >= REJECTED_BYTES {
            self.keep_rejected()?;
        }
        self.work.progress.add(self.counts.rows_in - rows_before, bytes);
        Ok(())
    }

    fn keep_rejected(&mut self) -> Result<(), Problem> {
        self.rejected_bytes = 0;
        if self.rejected.is_empty() {
            return Ok(());
        }
        let batch = self.rejected.take();
        let bytes = batch.get_array_memory_size();
        self.keep(HeldKind::Rejected, batch, bytes)
    }

    fn keep(&mut self, kind: HeldKind, batch: RecordBatch, bytes: usize) -> Result<(), Problem> {
        let held = Held { kind, batch };
        if let Some(own) = &mut self.own {
            return own.write(&held);
        }
        self.held_bytes += bytes;
        self.held.push(held);
        if self.held_bytes <= HELD_BYTES {
            return Ok(());
        }
        let mut own = Writers::new(self.work);
        for held in self.held.drain(..) {
            own.write(&held)?;
        }
        self.own = Some(own);
        Ok(())
    }

    /// The file is good: its rows become part of the epoch.
    fn accept(mut self, shared: &mut Writers<'_>, collected: &mut Collected) -> Result<(), Problem> {
        self.keep_rejected()?;
        for held in self.held.drain(..) {
            shared.write(&held)?;
        }
        match self.own {
            Some(own) => own.finish(collected),
            None => Ok(()),
        }
    }
}

/// Lends a `FileRows` to the decoder.
struct Sink<'a, 'b>(&'b mut FileRows<'a>);

impl DecodedSink for Sink<'_, '_> {
    fn accept(&mut self, decoded: Decoded) -> Result<(), Problem> {
        self.0.take(decoded)
    }
}

/// What is to happen with a file after it was looked at.
enum End<'a> {
    Land {
        parts: Vec<FileRows<'a>>,
        outcome: Box<FileOutcome>,
        hash: String,
    },
    /// Known content: only the ledger changes.
    Note(Vec<FileRow>, Note),
    /// Cannot be read as a whole.
    Poison {
        hash: String,
        problem: Problem,
    },
    /// Not now, or not under these rules; no ledger row.
    Refuse(Problem),
    /// Went away or is still being written.
    NotNow,
}

enum Note {
    Skipped,
    Renamed,
}

/// One thread's part of an epoch.
struct Worker<'a> {
    work: &'a EpochWork,
    /// Sinks for the decoder: threads that share one file.
    threads: usize,
    writers: Writers<'a>,
    collected: Collected,
}

impl<'a> Worker<'a> {
    fn new(work: &'a EpochWork, threads: usize) -> Self {
        Self { work, threads, writers: Writers::new(work), collected: Collected::default() }
    }

    fn run_one(mut self, job: &Job) -> Result<Collected, Problem> {
        self.file(job)?;
        self.finish()
    }

    fn run(mut self) -> Result<Collected, Problem> {
        while !self.work.has_failed.load(Ordering::Relaxed) {
            let Some(job) = self.work.jobs.lock().pop_front() else { break };
            if let Err(problem) = self.file(&job) {
                self.work.has_failed.store(true, Ordering::Relaxed);
                return Err(problem);
            }
        }
        self.finish()
    }

    fn finish(mut self) -> Result<Collected, Problem> {
        self.writers.finish(&mut self.collected)?;
        Ok(self.collected)
    }

    fn file(&mut self, job: &Job) -> Result<(), Problem> {
        let end = self.look(job)?;
        let Job { found, .. } = job;
        match end {
            End::Land { parts, outcome, hash } => self.land(found, parts, &outcome, hash)?,
            End::Note(rows, note) => {
                self.collected.files.extend(rows);
                match note {
                    Note::Skipped => self.collected.files_skipped += 1,
                    Note::Renamed => self.collected.files_renamed += 1,
                }
            }
            End::Poison { hash, problem } => {
                let before = self.work.ledger.row(&found.path);
                self.collected.files.push(passed_over(before, found, hash, Some(problem.to_string())));
                self.collected.files_poison += 1;
                self.collected.problems.push(problem);
            }
            End::Refuse(problem) => {
                self.collected.problems.push(problem);
                self.collected.refused.push(found.clone());
            }
            End::NotNow => self.collected.files_skipped += 1,
        }
        Ok(())
    }

    fn land(
        &mut self,
        found: &Found,
        parts: Vec<FileRows<'a>>,
        outcome: &FileOutcome,
        hash: String,
    ) -> Result<(), Problem> {
        let mut counts = RowCounts::default();
        parts.iter().for_each(|part| counts.add(&part.counts));
        for part in parts {
            part.accept(&mut self.writers, &mut self.collected)?;
        }
        let dialect = match Dialects::of(outcome) {
            Some(dialects) if counts.quarantined > 0 => Some(
                serde_json::to_string(&dialects)
                    .map_err(|error| Problem::internal("a dialect has no JSON").cause(error))?,
            ),
            // Rejects of the old content may still wait for a replay.
            _ => self.work.ledger.row(&found.path).and_then(|row| row.dialect.clone()),
        };
        self.collected.files.push(FileRow {
            rows: counts.landed,
            rows_quarantined: counts.quarantined,
            dialect,
            ..ledger_row(found, hash, FileState::Landed)
        });
        self.collected.counts.add(&counts);
        self.collected.files_landed += 1;
        self.collected.files_undeclared += u64::from(!outcome.undeclared.is_empty());
        self.collected.undeclared.add(&outcome.undeclared);
        self.collected.rows_rescued += outcome.rescued;
        self.collected.bytes += outcome.size_bytes;
        Ok(())
    }

    fn look(&self, job: &Job) -> Result<End<'a>, Problem> {
        let found = &job.found;
        if job.look == FirstLook::HashFirst {
            let hash = match hash_file(&found.absolute) {
                Ok((hash, _)) => hash,
                Err(error) => return Ok(unreadable(found, &error)),
            };
            if let Some(end) = self.settle(found, &hash, job.look) {
                return Ok(end);
            }
        }
        if let Some(problem) = self.unwanted_columns(found) {
            return Ok(End::Refuse(problem));
        }
        let (parts, decoded) = self.decode(found);
        let outcome = match decoded {
            Ok(outcome) => outcome,
            Err(error) => return self.failed(found, parts, error),
        };
        if look_again(&found.absolute) != Some((found.size_bytes, found.modified_ms)) {
            return Ok(End::NotNow);
        }
        let mut counts = RowCounts::default();
        parts.iter().for_each(|part| counts.add(&part.counts));
        counts.check(&format!("file \"{}\"", found.path))?;
        if counts.rows_in != outcome.rows + outcome.rejects {
            return Err(Problem::internal(format!(
                "file \"{}\" has {} records, but {} were handed over",
                found.path,
                outcome.rows + outcome.rejects,
                counts.rows_in
            )));
        }
        let hash = outcome.hash.to_hex().to_string();
        if let Some(problem) = self.too_many_rejects(found, &counts) {
            return Ok(End::Poison { hash, problem });
        }
        if job.look == FirstLook::Fresh
            && let Some(end) = self.settle(found, &hash, job.look)
        {
            return Ok(end);
        }
        Ok(End::Land { parts, outcome: Box::new(outcome), hash })
    }

    fn decode(&self, found: &Found) -> (Vec<FileRows<'a>>, Result<FileOutcome, FileError>) {
        let mut parts: Vec<FileRows<'a>> = (0..self.threads).map(|_| FileRows::new(self.work, &found.path)).collect();
        let outcome = {
            let mut sinks: Vec<Box<dyn DecodedSink + '_>> =
                parts.iter_mut().map(|part| Box::new(Sink(part)) as Box<dyn DecodedSink + '_>).collect();
            decode::decode_file(&found.absolute, &self.work.target.plan, &mut sinks)
        };
        (parts, outcome)
    }

    fn failed(&self, found: &Found, parts: Vec<FileRows<'a>>, error: FileError) -> Result<End<'a>, Problem> {
        let has_changed = look_again(&found.absolute) != Some((found.size_bytes, found.modified_ms));
        Ok(match error {
            // Half a file is no bad file.
            FileError::Poison(_) | FileError::Io(_) if has_changed => End::NotNow,
            FileError::Poison(problem) => match hash_file(&found.absolute) {
                Ok((hash, _)) => End::Poison { hash, problem: found.explain(problem) },
                Err(error) => unreadable(found, &error),
            },
            FileError::Io(problem) => End::Refuse(found.explain(problem)),
            FileError::Sink(problem) => match parts.into_iter().find_map(|part| part.refusal) {
                Some(refusal) => {
                    End::Refuse(refusal.context(format!("file \"{}\" is refused, nothing of it landed", found.path)))
                }
                None => return Err(problem),
            },
        })
    }

    /// What identity says about the file, unless it says that it lands.
    fn settle(&self, found: &Found, hash: &str, look: FirstLook) -> Option<End<'a>> {
        let ledger = &self.work.ledger;
        let identity = ledger.identify(found, hash, &self.work.root, &self.work.claims);
        let row = ledger.row(&found.path);
        match identity {
            Identity::New => None,
            // Asked for once more.
            Identity::Same if look == FirstLook::Fresh => None,
            Identity::Same => {
                let row = row.map(|row| found_again(row, found));
                Some(End::Note(row.into_iter().collect(), Note::Skipped))
            }
            Identity::RenamedFrom(old) => {
                let old = ledger.row(&old)?;
                Some(End::Note(renamed(old, found, hash).into(), Note::Renamed))
            }
            Identity::Changed => match self.work.ingest.on_change {
                OnChange::Land => None,
                OnChange::Ignore => {
                    let row = passed_over(row, found, hash.to_owned(), None);
                    Some(End::Note(vec![row], Note::Skipped))
                }
                OnChange::Fail => Some(End::Refuse(
                    Problem::new(ErrorKind::Conflict, format!("file \"{}\" changed after it landed", found.path))
                        .at(found.place())
                        .fix(
                            "set `on_change: land` to add its rows beside the old ones, or `ignore` to leave it alone",
                        ),
                )),
            },
        }
    }

    fn too_many_rejects(&self, found: &Found, counts: &RowCounts) -> Option<Problem> {
        let limit = self.work.ingest.max_reject_share?;
        let rejected = counts.quarantined + counts.dropped;
        let share = rejected as f64 / (counts.rows_in.max(1)) as f64;
        (share > limit).then(|| {
            Problem::new(
                ErrorKind::Data,
                format!(
                    "{rejected} of {} records of file \"{}\" are rejected, nothing of it landed",
                    counts.rows_in, found.path
                ),
            )
            .at(found.place())
            .fix(format!(
                "correct the file, or raise `max_reject_share` above {limit}, then land again with `--retry-poison`"
            ))
        })
    }

    /// `on_schema_change: fail`: a column of the file that the table does not have.
    fn unwanted_columns(&self, found: &Found) -> Option<Problem> {
        let allowed = self.work.target.allowed_columns.as_ref()?;
        let plan = &self.work.target.plan;
        let own = decode::infer(std::slice::from_ref(&found.absolute), &plan.format, None, plan.timezone).ok()?;
        let column = own.schema.fields().iter().find(|field| !allowed.contains(&field.name().to_lowercase()))?;
        Some(
            Problem::new(
                ErrorKind::TypeMismatch,
                format!("file \"{}\" has a new column \"{}\"", found.path, column.name()),
            )
            .at(found.place())
            .fix("set `on_schema_change: append_new_columns` to add it to the table, or `ignore`"),
        )
    }
}

fn ledger_row(found: &Found, hash: String, state: FileState) -> FileRow {
    FileRow {
        path: found.path.clone(),
        hash,
        size_bytes: found.size_bytes,
        modified_ms: found.modified_ms,
        state,
        rows: 0,
        rows_quarantined: 0,
        note: None,
        dialect: None,
    }
}

fn unreadable(found: &Found, error: &std::io::Error) -> End<'static> {
    match error.kind() {
        std::io::ErrorKind::NotFound => End::NotNow,
        _ => End::Refuse(file_problem(&found.path, error)),
    }
}
