//! A lake with one feed: records 0, 1, 2, … cut into epochs that fill three tables together.
//!
//! `bronze.events` and its quarantine are appended to, `silver.progress` is overwritten with the number of records so far.
//! Record ids stay below `FOREIGN`; rows of other writers lie above.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use arrow::array::{AsArray, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Int64Type, Schema};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use tempfile::TempDir;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use lode_catalog::{
    Catalog, CatalogError, Counts, Draft, FileRow, FileState, OpenOptions, Pipeline, PipelineKind, Published,
    RelationEntry, SealContent, TableEntry,
};
use lode_core::{AttemptId, ErrorKind, Problem, SnapshotId, SystemClock, TableName, task};
use lode_lake::{
    DataFile, FaultPlan, Operation, Store, StorePath, TableChange, TableDefinition, TableWriter, Txn, WriterOptions,
    apply,
};

pub(crate) const FOREIGN: i64 = 1_000;

pub(crate) struct World {
    pub(crate) store: Store,
    pub(crate) faults: FaultPlan,
    data: PathBuf,
    _folder: Option<TempDir>,
}

/// Which records the contract refuses: it may change between two epochs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Contract {
    Strict,
    Loose,
}

pub(crate) fn bronze() -> TableName {
    TableName::new("bronze", "events")
}

pub(crate) fn silver() -> TableName {
    TableName::new("silver", "progress")
}

pub(crate) fn options() -> OpenOptions {
    OpenOptions { adopt: false, clock: Arc::new(SystemClock) }
}

fn schema() -> Schema {
    Schema::new(vec![Field::new("id", DataType::Int64, true)])
}

fn batch(ids: &[i64]) -> RecordBatch {
    RecordBatch::try_new(Arc::new(schema()), vec![Arc::new(Int64Array::from(ids.to_vec()))]).unwrap()
}

impl World {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let faults = FaultPlan::new(1);
        let store = Store::memory().with_faults(faults.clone());
        Self { store, faults, data: folder.path().to_owned(), _folder: Some(folder) }
    }

    /// Data folder and lake on disk, so that another process can open them.
    pub(crate) fn at(path: &Path) -> Self {
        let faults = FaultPlan::new(1);
        let store = Store::local(&path.join("lake")).unwrap().with_faults(faults.clone());
        Self { store, faults, data: path.to_owned(), _folder: None }
    }

    pub(crate) fn data(&self) -> &Path {
        &self.data
    }

    pub(crate) fn db_path(&self) -> PathBuf {
        self.data.join("meta.db")
    }

    pub(crate) async fn try_open(&self) -> Result<Arc<Catalog>, CatalogError> {
        Catalog::open(self.store.clone(), &self.data, options()).await
    }

    pub(crate) async fn open(&self) -> Arc<Catalog> {
        self.try_open().await.unwrap()
    }

    /// Deletes the metadata DB, as a lost disk would.
    pub(crate) fn lose_db(&self) {
        for suffix in ["", "-wal", "-shm"] {
            let _ = std::fs::remove_file(format!("{}{suffix}", self.db_path().display()));
        }
    }

    pub(crate) async fn rebuild(&self) -> lode_catalog::RebuildReport {
        lode_catalog::rebuild(&self.store, &self.data, &options()).await.unwrap()
    }

    /// One commit of another writer that adds a row to bronze; false if there is no such table yet.
    pub(crate) async fn foreign_row(&self, catalog: &Catalog, number: i64) -> bool {
        let Some(RelationEntry::Table(table)) = catalog.relation(&bronze()).await.unwrap() else { return false };
        let definition = catalog.snapshot(&table, None).await.unwrap().definition.clone();
        let mut change = TableChange {
            table: bronze(),
            location: table.location.clone(),
            base: table.published,
            operation: Operation::Append,
            definition: None,
            add: Vec::new(),
            remove: Vec::new(),
            dead: Vec::new(),
            label: "WRITE".into(),
        };
        change.add = write_files(&self.store, &table.location, &definition, AttemptId::random(), &[FOREIGN + number]);
        let txn = Txn { app_id: format!("foreign-{number}"), version: 1 };
        apply(&self.store, &change, &txn, &|| Ok(())).await.unwrap();
        true
    }
}

fn write_files(
    store: &Store,
    location: &str,
    definition: &TableDefinition,
    attempt: AttemptId,
    ids: &[i64],
) -> Vec<DataFile> {
    let mut writer = TableWriter::new(store, location, definition, attempt, WriterOptions::default());
    writer.write(&batch(ids)).unwrap();
    writer.finish().unwrap()
}

/// A change of `name`, which is made if it is not there.
pub(crate) async fn change(
    draft: &Draft,
    catalog: &Catalog,
    name: &TableName,
    operation: Operation,
    ids: &[i64],
) -> Result<TableChange, CatalogError> {
    let (location, base, known) = match catalog.relation(name).await? {
        Some(RelationEntry::Table(table)) => {
            let snapshot = catalog.snapshot(&table, None).await?;
            (table.location, snapshot.version, Some(snapshot.definition.clone()))
        }
        _ => (catalog.new_location(name).await?, SnapshotId::NONE, None),
    };
    let made = match known {
        Some(_) => None,
        None => Some(TableDefinition::create(name.clone(), &schema(), Vec::new())?),
    };
    let definition = known.as_ref().or(made.as_ref()).unwrap();
    let mut writer =
        TableWriter::new(catalog.store(), &location, definition, draft.attempt(), WriterOptions::default());
    if !ids.is_empty() {
        writer.write(&batch(ids))?;
    }
    Ok(TableChange {
        table: name.clone(),
        location,
        base,
        operation,
        definition: made,
        add: writer.finish()?,
        remove: Vec::new(),
        dead: Vec::new(),
        label: "WRITE".into(),
    })
}

pub(crate) async fn feed(catalog: &Arc<Catalog>) -> Pipeline {
    catalog.pipeline(PipelineKind::Ingest, "feed", None).await.unwrap()
}

/// End of the range of a seal, 0 before the first.
pub(crate) fn end_of(position: &serde_json::Value) -> i64 {
    position.get("to").and_then(serde_json::Value::as_i64).unwrap_or(0)
}

/// What the next epoch will do with up to `take` records.
pub(crate) async fn draft_content(
    catalog: &Catalog,
    draft: &Draft,
    take: i64,
    contract: Contract,
) -> Result<SealContent, CatalogError> {
    let from = draft.previous().map_or(0, |seal| end_of(&seal.content.position));
    let to = from + take;
    let (bad, good): (Vec<i64>, Vec<i64>) = (from..to).partition(|id| contract == Contract::Strict && id % 3 == 1);
    let mut tables = vec![change(draft, catalog, &bronze(), Operation::Append, &good).await?];
    if !bad.is_empty() {
        tables.push(change(draft, catalog, &bronze().quarantine(), Operation::Append, &bad).await?);
    }
    tables.push(change(draft, catalog, &silver(), Operation::Overwrite, &[to]).await?);
    let file = FileRow {
        path: format!("part-{from}"),
        hash: format!("{from}-{to}"),
        size_bytes: 8 * take as u64,
        modified_ms: from,
        state: FileState::Landed,
        rows: good.len() as u64,
        rows_quarantined: bad.len() as u64,
        note: None,
        dialect: None,
    };
    Ok(SealContent {
        position: serde_json::json!({ "to": to }),
        fingerprints: [("contract".to_owned(), format!("{contract:?}"))].into(),
        tables,
        files: vec![file],
        counts: Counts {
            rows_in: take as u64,
            rows_landed: good.len() as u64,
            rows_quarantined: bad.len() as u64,
            ..Counts::default()
        },
        ..SealContent::default()
    })
}

/// One epoch of the feed.
pub(crate) async fn step(catalog: &Arc<Catalog>, take: i64, contract: Contract) -> Result<Published, CatalogError> {
    let pipeline = catalog.pipeline(PipelineKind::Ingest, "feed", None).await?;
    let draft = catalog.begin(&pipeline).await?;
    let content = draft_content(catalog, &draft, take, contract).await?;
    draft.commit(content).await
}

/// `step` in a task of its own, as another process would run it.
pub(crate) fn spawn_step(
    catalog: &Arc<Catalog>,
    take: i64,
    contract: Contract,
) -> JoinHandle<Result<Published, CatalogError>> {
    let catalog = Arc::clone(catalog);
    task::spawn("step", async move { step(&catalog, take, contract).await })
}

/// A place where a handle waits.
#[derive(Default)]
pub(crate) struct Gate {
    pub(crate) reached: Notify,
    pub(crate) open: Notify,
}

impl Gate {
    /// Waits until `work` stands at the gate. Panics with what it gave if it ends first, or does neither for a minute.
    pub(crate) async fn reached_by<T: std::fmt::Debug>(&self, work: &mut JoinHandle<T>) {
        tokio::select! {
            () = self.reached.notified() => {}
            end = work => panic!("ended before the gate: {end:?}"),
            () = tokio::time::sleep(Duration::from_secs(60)) => panic!("stands still before the gate"),
        }
    }
}

/// What `work` gives, within a minute.
pub(crate) async fn end_of_work<T>(work: JoinHandle<T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), work).await.expect("the work stands still").unwrap()
}

/// The handle waits at the `visit`-th visit (from 1) of an arrow until the gate is opened.
pub(crate) fn pause_at(catalog: &Catalog, arrow: &'static str, visit: usize) -> Arc<Gate> {
    let gate = Arc::new(Gate::default());
    let (held, visits) = (Arc::clone(&gate), AtomicUsize::new(0));
    catalog.set_arrow_hook(Arc::new(move |name| {
        let here = name == arrow && visits.fetch_add(1, Ordering::SeqCst) + 1 == visit;
        let gate = Arc::clone(&held);
        Box::pin(async move {
            if here {
                gate.reached.notify_one();
                gate.open.notified().await;
            }
            Ok(())
        })
    }));
    gate
}

/// The arrow fails at its `visit`-th visit.
pub(crate) fn fail_at(catalog: &Catalog, arrow: &'static str, visit: usize) {
    let visits = AtomicUsize::new(0);
    catalog.set_arrow_hook(Arc::new(move |name| {
        let here = name == arrow && visits.fetch_add(1, Ordering::SeqCst) + 1 == visit;
        Box::pin(async move {
            if here { Err(Problem::new(ErrorKind::Unavailable, format!("{name} fails"))) } else { Ok(()) }
        })
    }));
}

/// Values of column `id` of a table at its published version, sorted.
pub(crate) async fn ids(catalog: &Catalog, table: &TableEntry) -> Vec<i64> {
    let snapshot = catalog.snapshot(table, None).await.unwrap();
    let mut ids = Vec::new();
    for live in snapshot.files.iter() {
        let path = StorePath::parse(format!("{}/{}", table.location, live.file.path)).unwrap();
        let bytes = catalog.store().get(&path).await.unwrap();
        for batch in ParquetRecordBatchReaderBuilder::try_new(bytes).unwrap().build().unwrap() {
            ids.extend(batch.unwrap().column(0).as_primitive::<Int64Type>().values());
        }
    }
    ids.sort_unstable();
    ids
}

/// What a reader of all three tables sees.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct View {
    pub(crate) good: Vec<i64>,
    pub(crate) bad: Vec<i64>,
    pub(crate) foreign: Vec<i64>,
    /// The one row of silver: records so far.
    pub(crate) progress: i64,
    pub(crate) versions: Vec<(TableName, SnapshotId)>,
}

pub(crate) async fn look(catalog: &Arc<Catalog>) -> View {
    let mut view = View::default();
    let mut found = catalog.relations_at(&[bronze(), bronze().quarantine(), silver()]).await.unwrap();
    found.sort_by(|a, b| a.name().cmp(b.name()));
    for relation in found {
        let RelationEntry::Table(table) = relation else { panic!("a view") };
        let ids = ids(catalog, &table).await;
        view.versions.push((table.name.clone(), table.published));
        if table.name == bronze() {
            (view.good, view.foreign) = ids.into_iter().partition(|id| *id < FOREIGN);
        } else if table.name == silver() {
            assert_eq!(ids.len(), 1, "silver holds one row");
            view.progress = ids[0];
        } else {
            view.bad = ids;
        }
    }
    view
}

/// Looks, and checks what must hold at any moment: each record before the published position is in bronze or quarantine,
/// once; all three tables stand at one epoch; ledger and sums agree with the rows.
pub(crate) async fn check(catalog: &Arc<Catalog>) -> View {
    let view = look(catalog).await;
    let mut all = [view.good.clone(), view.bad.clone()].concat();
    all.sort_unstable();
    assert_eq!(all, (0..view.progress).collect::<Vec<_>>(), "records of the published epochs, each once");
    for status in catalog.pipelines().await.unwrap() {
        if status.pipeline.name == "feed" {
            assert_eq!(end_of(&status.position), view.progress, "position is that of the tables");
            assert_eq!(status.counts.rows_landed, view.good.len() as u64);
            assert_eq!(status.counts.rows_quarantined, view.bad.len() as u64);
            let files = catalog.files(&status.pipeline).await.unwrap();
            assert_eq!(files.iter().map(|file| file.rows).sum::<u64>(), view.good.len() as u64, "ledger");
        }
    }
    view
}
