//! Landing a source: epochs of files, each sealed with its rows, its rejects and its ledger rows at once.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use lode_catalog::{Catalog, CatalogError, Counts, Draft, FileRow, FileState, Pipeline, PipelineKind, SealContent};
use lode_core::{Epoch, ErrorKind, OnViolation, Problem, RowPass, RuleCount, Warehouse, fail, task};

use super::bronze::{self, Target};
use super::bucket::{self, BucketFolder};
use super::collect::{Collected, EpochWork, Job, Progress, collect};
use super::discover::{self, Found, Listing, Settling};
use super::identity::{Claims, FirstLook, Ledger, Root, has_other_content};
use super::rows::{RowRules, add_rules, bronze_schema};
use crate::config::{Ingest, OnMalformed};
use crate::decode::{self, FileError, Format, Undeclared};

/// An epoch takes so many files or bytes, whichever comes first; one file alone may be larger.
const EPOCH_FILES: usize = 1_000;
const EPOCH_BYTES: u64 = 1 << 30;
/// A seal may be lost to another process, or a table may change meanwhile; more often than this in a row, something is wrong.
const SEAL_TRIES: u32 = 5;

/// What landing one source did.
#[derive(Debug, Default)]
pub struct LandReport {
    pub name: String,
    pub table: String,
    pub files_landed: u64,
    /// Known, unchanged, ignored or still being written.
    pub files_skipped: u64,
    pub files_renamed: u64,
    /// Files in the folder that cannot be read, those of earlier runs included.
    pub files_poison: u64,
    /// Of these: known from earlier runs, and not tried again.
    pub files_passed_over: u64,
    /// Files with fields that no declared column takes.
    pub files_undeclared: u64,
    pub undeclared: Undeclared,
    pub rows_in: u64,
    pub rows_landed: u64,
    pub rows_quarantined: u64,
    pub rows_dropped: u64,
    /// Rows that landed with something in `_rescued`.
    pub rows_rescued: u64,
    /// Violations by expectation.
    pub rules: Vec<RuleCount>,
    pub epochs: u64,
    pub seconds: f64,
    /// Stored bytes of the files that landed.
    pub bytes: u64,
    /// What is wrong with single files; the others landed all the same.
    pub problems: Vec<Problem>,
}

impl LandReport {
    fn add(&mut self, collected: Collected) {
        self.files_landed += collected.files_landed;
        self.files_skipped += collected.files_skipped;
        self.files_renamed += collected.files_renamed;
        self.files_poison += collected.files_poison;
        self.rows_in += collected.counts.rows_in;
        self.rows_landed += collected.counts.landed;
        self.rows_quarantined += collected.counts.quarantined;
        self.rows_dropped += collected.counts.dropped;
        self.rows_rescued += collected.rows_rescued;
        self.files_undeclared += collected.files_undeclared;
        self.undeclared.add(&collected.undeclared);
        add_rules(&mut self.rules, &collected.counts.rules);
        self.bytes += collected.bytes;
        self.problems.extend(collected.problems);
    }

    /// Rows that landed although they break an expectation that only warns, by its name.
    pub fn warned(&self) -> impl Iterator<Item = &RuleCount> {
        self.rules.iter().filter(|rule| rule.on_violation == OnViolation::Warn && rule.violations > 0)
    }
}

/// Which files a pass takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pass {
    /// All that are there (`lode ingest`); with `retry_poison` also those that could not be read.
    Once { retry_poison: bool },
    /// Those that nobody writes any more (`lode up`).
    Watch,
}

/// One source of files over the life of a process: ledger and listing stay in memory between passes.
pub(crate) struct FileSourceRun {
    catalog: Arc<Catalog>,
    warehouse: Option<Arc<dyn Warehouse>>,
    ingest: Arc<Ingest>,
    project_dir: PathBuf,
    root: Option<Root>,
    pipeline: Option<Pipeline>,
    /// The ledger after the epoch that it stands beside.
    ledger: Option<(Epoch, Arc<Ledger>)>,
    settling: Settling,
    /// Files without a ledger row that a pass of this process refused, as they were then.
    refused: HashMap<String, Found>,
    /// A pass ends after the epoch that is under way.
    stop: CancellationToken,
}

/// What one pass has to do.
struct Todo {
    jobs: VecDeque<Job>,
    skipped: u64,
    poison: u64,
}

impl FileSourceRun {
    pub(crate) fn new(
        catalog: Arc<Catalog>,
        warehouse: Option<Arc<dyn Warehouse>>,
        ingest: Arc<Ingest>,
        project_dir: PathBuf,
        stop: CancellationToken,
    ) -> Self {
        Self {
            catalog,
            warehouse,
            ingest,
            project_dir,
            root: None,
            pipeline: None,
            ledger: None,
            settling: Settling::default(),
            refused: HashMap::new(),
            stop,
        }
    }

    /// Lands what is there, epoch after epoch. Begins again from the ledger when a seal is lost.
    /// Errors: what stops the source: the folder, the catalog, the store, a blocked pipeline.
    pub(crate) async fn pass(&mut self, pass: Pass, progress: &Arc<Progress>) -> Result<LandReport, Problem> {
        let started = Instant::now();
        let mut report = LandReport {
            name: self.ingest.name.clone(),
            table: self.ingest.table.to_string(),
            ..LandReport::default()
        };
        let listing = self.list(pass).await?;
        report.problems.extend(listing.problems);
        let files = Arc::new(listing.files);
        let mut done: HashSet<String> = HashSet::new();
        let mut todo = self.todo(&files, pass, &done).await?;
        (report.files_skipped, report.files_poison) = (todo.skipped, todo.poison);
        report.files_passed_over = todo.poison;
        let mut seals_lost = 0;
        while !todo.jobs.is_empty() && !self.stop.is_cancelled() {
            let draft = self.begin().await?;
            if self.ledger.as_ref().is_none_or(|(epoch, _)| epoch.next() != draft.epoch()) {
                // Somebody else moved the pipeline: its ledger decides anew.
                self.reload(draft.epoch()).await?;
                todo = self.todo(&files, pass, &done).await?;
                continue;
            }
            let jobs = cut(&mut todo.jobs);
            let paths: Vec<String> = jobs.iter().map(|job| job.found.path.clone()).collect();
            match self.epoch(draft, jobs, progress).await {
                Ok(collected) => {
                    seals_lost = 0;
                    report.epochs += u64::from(!collected.files.is_empty());
                    report.add(collected);
                    done.extend(paths);
                }
                Err(CatalogError::SealLost { .. } | CatalogError::Conflict { .. }) if seals_lost < SEAL_TRIES => {
                    seals_lost += 1;
                    warn!(ingest = %self.ingest.name, tries = seals_lost, "epoch not sealed, beginning again from the ledger");
                    self.ledger = None;
                    todo = self.todo(&files, pass, &done).await?;
                }
                Err(error) => {
                    self.ledger = None;
                    return Err(match error {
                        CatalogError::Fail(problem) => problem,
                        other => other.into(),
                    });
                }
            }
        }
        report.seconds = started.elapsed().as_secs_f64();
        Ok(report)
    }

    async fn list(&mut self, pass: Pass) -> Result<Listing, Problem> {
        let mut listing = match self.root().await? {
            Root::Folder(_) => {
                let (source, project_dir) = (self.ingest.files.clone(), self.project_dir.clone());
                task::blocking("list", move || discover::list(&source, &project_dir)).await??
            }
            Root::Bucket(bucket) => bucket.list(&self.ingest.files).await?,
        };
        if pass == Pass::Watch {
            // By the machine's clock, as the modification times are.
            let now_ms = chrono::Utc::now().timestamp_millis();
            listing.files = self.settling.settled(listing.files, now_ms);
        }
        Ok(listing)
    }

    async fn root(&mut self) -> Result<Root, Problem> {
        if let Some(root) = &self.root {
            return Ok(root.clone());
        }
        let root = match &self.ingest.files.bucket {
            None => Root::Folder(self.ingest.files.root(&self.project_dir)),
            Some(bucket) => {
                let copies = self.catalog.data_dir().join("tmp").join("landing").join(&self.ingest.name);
                Root::Bucket(Arc::new(BucketFolder::open(bucket, copies).await?))
            }
        };
        self.root = Some(root.clone());
        Ok(root)
    }

    async fn pipeline(&mut self) -> Result<Pipeline, Problem> {
        if let Some(pipeline) = &self.pipeline {
            return Ok(pipeline.clone());
        }
        let renamed_from = self.ingest.renamed_from.as_deref();
        let pipeline = self.catalog.pipeline(PipelineKind::Ingest, &self.ingest.name, renamed_from).await?;
        self.pipeline = Some(pipeline.clone());
        Ok(pipeline)
    }

    async fn begin(&mut self) -> Result<Draft, Problem> {
        let pipeline = self.pipeline().await?;
        Ok(self.catalog.begin(&pipeline).await?)
    }

    /// Reads the ledger while a draft of `next` is held: nobody else moves it then.
    async fn reload(&mut self, next: Epoch) -> Result<(), Problem> {
        let pipeline = self.pipeline().await?;
        let ledger = Ledger::new(self.catalog.files(&pipeline).await?);
        self.ledger = Some((Epoch(next.0 - 1), Arc::new(ledger)));
        Ok(())
    }

    /// Compares listing and ledger by size and time alone.
    async fn todo(&mut self, files: &Arc<Vec<Found>>, pass: Pass, done: &HashSet<String>) -> Result<Todo, Problem> {
        if self.ledger.is_none() {
            let draft = self.begin().await?;
            self.reload(draft.epoch()).await?;
        }
        let Some((_, ledger)) = &mut self.ledger else { return Err(Problem::internal("the ledger was not read")) };
        let ledger = Arc::make_mut(ledger);
        ledger.compare(files);
        let mut todo = Todo { jobs: VecDeque::new(), skipped: 0, poison: 0 };
        let retry_poison = pass == Pass::Once { retry_poison: true };
        for found in files.iter().filter(|found| !done.contains(&found.path)) {
            if pass == Pass::Watch && self.refused.get(&found.path) == Some(found) {
                continue;
            }
            match ledger.first_look(found, retry_poison) {
                FirstLook::Known => todo.skipped += 1,
                FirstLook::KnownPoison => todo.poison += 1,
                look => todo.jobs.push_back(Job { found: found.clone(), look }),
            }
        }
        Ok(todo)
    }

    /// One epoch: collect, seal, apply, publish.
    async fn epoch(
        &mut self,
        draft: Draft,
        jobs: VecDeque<Job>,
        progress: &Arc<Progress>,
    ) -> Result<Collected, CatalogError> {
        let epoch = draft.epoch();
        let fetched = match self.root().await? {
            Root::Folder(_) => bucket::Fetched { jobs, ..bucket::Fetched::default() },
            Root::Bucket(bucket) => bucket.fetch(jobs).await?,
        };
        let (mut collected, target) = match fetched.jobs.is_empty() {
            true => (Collected::default(), None),
            false => self.collect(&draft, fetched.jobs, progress).await?,
        };
        // The copies are of no use any more.
        drop(fetched.copies);
        collected.files_skipped += fetched.changed;
        for (found, problem) in fetched.failed {
            collected.problems.push(problem);
            collected.refused.push(found);
        }
        for found in &collected.refused {
            self.refused.insert(found.path.clone(), found.clone());
        }
        collected.counts.check(&format!("epoch {epoch} of ingest \"{}\"", self.ingest.name))?;
        collected.files = without_doubles(std::mem::take(&mut collected.files));
        if collected.files.is_empty() {
            return Ok(collected);
        }
        let content = self.content(&draft, &mut collected, target.as_ref())?;
        fail::point("ingest.collected")?;
        draft.commit(content).await?;
        info!(
            ingest = %self.ingest.name, epoch = epoch.0, files = collected.files.len(), rows = collected.counts.landed,
            rows_quarantined = collected.counts.quarantined, "files landed"
        );
        if let Some((at, ledger)) = &mut self.ledger {
            *at = epoch;
            let ledger = Arc::make_mut(ledger);
            collected.files.iter().cloned().for_each(|row| ledger.put(row));
        }
        Ok(collected)
    }

    async fn collect(
        &mut self,
        draft: &Draft,
        jobs: VecDeque<Job>,
        progress: &Arc<Progress>,
    ) -> Result<(Collected, Option<Target>), Problem> {
        let pipeline = self.pipeline().await?;
        let samples = jobs.iter().map(|job| job.found.absolute.clone()).collect();
        let explain = |problem| jobs.iter().fold(problem, |problem, job| job.found.explain(problem));
        let target = match bronze::target(&self.catalog, &pipeline, &self.ingest, samples).await.map_err(explain) {
            Ok(target) => target,
            // Not one file has a column: nothing to make a table of.
            Err(problem) if matches!(problem.kind(), ErrorKind::Data | ErrorKind::Corrupt) => {
                return Ok((without_columns(jobs, &self.ingest.format, &problem).await?, None));
            }
            Err(problem) => return Err(problem),
        };
        let root = self.root().await?;
        let Some((_, ledger)) = &self.ledger else { return Err(Problem::internal("the ledger was not read")) };
        let work = EpochWork {
            ingest: Arc::clone(&self.ingest),
            store: self.catalog.store().clone(),
            attempt: draft.attempt(),
            root,
            rules: rules(&self.catalog, self.warehouse.as_ref(), &self.ingest, &target, draft.epoch())?,
            target: target.clone(),
            ledger: Arc::clone(ledger),
            progress: Arc::clone(progress),
            claims: Claims::default(),
            jobs: Mutex::new(jobs),
            has_failed: AtomicBool::new(false),
        };
        Ok((collect(work).await?, Some(target)))
    }

    fn content(
        &self,
        draft: &Draft,
        collected: &mut Collected,
        target: Option<&Target>,
    ) -> Result<SealContent, Problem> {
        let mut tables = Vec::new();
        if let Some(target) = target.filter(|_| collected.files_landed > 0) {
            let (bronze, quarantine) =
                (std::mem::take(&mut collected.bronze), std::mem::take(&mut collected.quarantine));
            check_written("landed", &bronze, collected.counts.landed)?;
            check_written("quarantined", &quarantine, collected.counts.quarantined)?;
            if target.bronze.is_changed_by(&bronze) {
                tables.push(target.bronze.append(bronze));
            }
            if !quarantine.is_empty() {
                tables.push(target.quarantine.append(quarantine));
            }
        }
        let files_before = draft.previous().and_then(|seal| seal.content.position.get("files")?.as_u64()).unwrap_or(0);
        Ok(SealContent {
            position: serde_json::json!({ "files": files_before + collected.files.len() as u64 }),
            fingerprints: fingerprints(&self.ingest),
            tables,
            files: collected.files.clone(),
            counts: Counts {
                rows_in: collected.counts.rows_in,
                rows_landed: collected.counts.landed,
                rows_quarantined: collected.counts.quarantined,
                rows_dropped: collected.counts.dropped,
                rows_replayed: 0,
            },
            ..SealContent::default()
        })
    }
}

/// Rows of the data files against the rows that were counted.
fn check_written(what: &str, files: &[lode_lake::DataFile], rows: u64) -> Result<(), Problem> {
    let written: u64 = files.iter().filter_map(|file| file.stats.as_ref()).map(|stats| stats.num_records).sum();
    if written == rows {
        return Ok(());
    }
    Err(Problem::internal(format!("{rows} rows were {what}, but the data files hold {written}")))
}

/// The rules for the rows of one epoch, under the configuration as it is now.
/// Errors: those of an expectation that does not compile.
pub(crate) fn rules(
    catalog: &Arc<Catalog>,
    warehouse: Option<&Arc<dyn Warehouse>>,
    ingest: &Ingest,
    target: &Target,
    epoch: Epoch,
) -> Result<RowRules, Problem> {
    let schema = bronze_schema(&target.plan.output_schema(), &target.not_null);
    let row_pass: Option<Arc<dyn RowPass>> = match (ingest.expectations.as_slice(), warehouse) {
        ([], _) => None,
        (expectations, Some(warehouse)) => {
            Some(warehouse.row_pass(Arc::clone(&schema), expectations).map_err(|problem| {
                problem.context(format!("the contract of ingest \"{}\" cannot be used", ingest.name))
            })?)
        }
        (_, None) => {
            return Err(Problem::internal(format!("no SQL engine for the contract of ingest \"{}\"", ingest.name)));
        }
    };
    Ok(RowRules {
        source: ingest.name.clone(),
        epoch,
        landed_at: catalog.now(),
        schema,
        on_malformed: ingest.on_malformed,
        row_pass,
    })
}

/// What made the rows of an epoch, for the seal.
pub(crate) fn fingerprints(ingest: &Ingest) -> BTreeMap<String, String> {
    let hash = |text: String| blake3::hash(text.as_bytes()).to_hex().to_string();
    let malformed = match ingest.on_malformed {
        OnMalformed::Quarantine => "quarantine",
        OnMalformed::Drop => "drop",
        OnMalformed::Fail => "fail",
    };
    let contract = format!("{:?} {:?} {malformed}", ingest.columns, ingest.expectations);
    let decoder = format!("{} {:?} {:?}", env!("CARGO_PKG_VERSION"), ingest.format, ingest.timezone);
    [("contract", contract), ("decoder", decoder)].into_iter().map(|(key, text)| (key.to_owned(), hash(text))).collect()
}

/// The next epoch's files.
fn cut(jobs: &mut VecDeque<Job>) -> VecDeque<Job> {
    let mut taken = VecDeque::new();
    let mut bytes = 0_u64;
    while let Some(next) = jobs.front() {
        bytes = bytes.saturating_add(next.found.size_bytes);
        if taken.len() == EPOCH_FILES || (bytes > EPOCH_BYTES && !taken.is_empty()) {
            break;
        }
        taken.extend(jobs.pop_front());
    }
    taken
}

/// One row a path: a file that is there wins over the mark that another one took its content.
fn without_doubles(mut rows: Vec<FileRow>) -> Vec<FileRow> {
    rows.sort_by(|a, b| a.path.cmp(&b.path).then_with(|| is_gone_mark(b).cmp(&is_gone_mark(a))));
    let mut kept: Vec<FileRow> = Vec::with_capacity(rows.len());
    for row in rows {
        match kept.last_mut() {
            // What landed there moved on in this very epoch: its new content is looked at in the next.
            Some(last) if last.path == row.path && has_other_content(&row) => {}
            Some(last) if last.path == row.path => *last = row,
            _ => kept.push(row),
        }
    }
    kept
}

fn is_gone_mark(row: &FileRow) -> bool {
    row.state == FileState::Renamed
        && row.rows == 0
        && row.note.as_deref().is_some_and(|note| note.starts_with("renamed to "))
}

/// Files of a source whose columns are not known yet, none of which has any: those without a record count as landed, others
/// as unreadable.
async fn without_columns(jobs: VecDeque<Job>, format: &Format, problem: &Problem) -> Result<Collected, Problem> {
    let (reason, format) = (problem.to_string(), format.clone());
    let looked_at = task::blocking("hash", move || {
        let look = |job: Job| {
            let path = &job.found.absolute;
            (super::identity::hash_file(path), decode::has_records(path, &format), job.found)
        };
        jobs.into_iter().map(look).collect::<Vec<_>>()
    })
    .await?;
    let mut collected = Collected::default();
    for (hash, has_records, found) in looked_at {
        let hash = match hash {
            Ok((hash, _)) => hash,
            Err(error) => {
                collected.problems.push(discover::file_problem(&found.path, &error));
                collected.refused.push(found);
                continue;
            }
        };
        let problem = match has_records {
            Ok(false) => None,
            Ok(true) => Some(
                Problem::new(ErrorKind::Data, format!("file \"{}\" has no columns", found.path))
                    .cause(&reason)
                    .at(found.place())
                    .fix("check the `format:` of the ingest, or remove the file"),
            ),
            Err(FileError::Poison(problem)) => Some(found.explain(problem)),
            Err(FileError::Io(problem) | FileError::Sink(problem)) => {
                collected.problems.push(found.explain(problem));
                collected.refused.push(found);
                continue;
            }
        };
        let note = problem.as_ref().map(ToString::to_string);
        let state = if problem.is_some() { FileState::Poison } else { FileState::Landed };
        collected.files_landed += u64::from(problem.is_none());
        collected.files_poison += u64::from(problem.is_some());
        collected.problems.extend(problem);
        collected.files.push(FileRow {
            path: found.path,
            hash,
            size_bytes: found.size_bytes,
            modified_ms: found.modified_ms,
            state,
            rows: 0,
            rows_quarantined: 0,
            note,
            dialect: None,
        });
    }
    Ok(collected)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(path: &str, size_bytes: u64) -> Job {
        let found = Found { path: path.into(), absolute: path.into(), size_bytes, modified_ms: 0, object: None };
        Job { found, look: FirstLook::Fresh }
    }

    #[test]
    fn an_epoch_is_cut_by_files_and_by_bytes() {
        let mut many: VecDeque<Job> = (0..2_500).map(|number| job(&number.to_string(), 10)).collect();
        assert_eq!([cut(&mut many).len(), cut(&mut many).len(), cut(&mut many).len()], [1_000, 1_000, 500]);
        let mut big: VecDeque<Job> = [job("a", 7 << 30), job("b", 600 << 20), job("c", 600 << 20)].into();
        assert_eq!([cut(&mut big).len(), cut(&mut big).len(), cut(&mut big).len()], [1, 1, 1]);
        assert!(cut(&mut big).is_empty());
    }

    #[test]
    fn a_file_that_is_there_wins_over_the_mark_of_a_rename() {
        let row = |path: &str, state, note: Option<&str>, rows| FileRow {
            path: path.into(),
            hash: "h".into(),
            size_bytes: 1,
            modified_ms: 0,
            state,
            rows,
            rows_quarantined: 0,
            note: note.map(str::to_owned),
            dialect: None,
        };
        let mark = row("a", FileState::Renamed, Some("renamed to b"), 0);
        let real = row("a", FileState::Landed, None, 5);
        for rows in [vec![mark.clone(), real.clone()], vec![real.clone(), mark]] {
            assert_eq!(without_doubles(rows), vec![real.clone()]);
        }
    }
}
