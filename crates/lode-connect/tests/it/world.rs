//! A project folder with a lake, landed in and read back without the engine.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex};

use arrow::array::{Array, AsArray, BooleanArray, RecordBatch};
use arrow::datatypes::{Int64Type, SchemaRef};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use async_trait::async_trait;
use futures::FutureExt;
use lode_catalog::{Catalog, OpenOptions, PipelineStatus, RelationEntry};
use lode_connect::{IngestConfig, IngestContext, LandOptions, LandReport, land_once, resolve_ingests};
use lode_core::config::Environment;
use lode_core::{
    BatchStream, ErrorKind, Expectation, OnViolation, Prepared, Problem, Relation, RelationKind, RowPass, RowVerdict,
    RuleCount, SqlSession, SystemClock, TableName, Violation, Warehouse, WriteSpec, Written,
};
use lode_jobs::{Observer, Silent};
use lode_lake::{FaultPlan, Store};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use tokio::sync::Semaphore;

pub(crate) struct World {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) yaml: String,
    pub(crate) faults: Option<FaultPlan>,
    pub(crate) gate: Option<Arc<Gate>>,
}

/// Stops every check of an expectation until it is opened.
pub(crate) struct Gate {
    /// One permit for each check that has arrived.
    arrived: Semaphore,
    is_open: Mutex<bool>,
    opened: Condvar,
}

impl Gate {
    pub(crate) fn closed() -> Arc<Self> {
        Arc::new(Self { arrived: Semaphore::new(0), is_open: Mutex::new(false), opened: Condvar::new() })
    }

    pub(crate) async fn wait_for(&self, checks: usize) {
        self.arrived.acquire_many(checks as u32).await.unwrap().forget();
    }

    pub(crate) fn open(&self) {
        *self.is_open.lock().unwrap() = true;
        self.opened.notify_all();
    }

    fn pass(&self) {
        self.arrived.add_permits(1);
        drop(self.opened.wait_while(self.is_open.lock().unwrap(), |is_open| !*is_open).unwrap());
    }
}

/// The usual ingest, with more keys below it (each line indented by four blanks).
pub(crate) fn orders(more: &str) -> String {
    format!("ingest:\n  - name: orders\n    files: {{path: in}}\n    table: bronze.orders\n{more}")
}

impl World {
    pub(crate) fn new(yaml: impl Into<String>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("in")).unwrap();
        Self { dir, yaml: yaml.into(), faults: None, gate: None }
    }

    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.dir.path().join("in").join(path)
    }

    pub(crate) fn put(&self, path: &str, bytes: impl AsRef<[u8]>) {
        let path = self.path(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }

    pub(crate) fn rename(&self, from: &str, to: &str) {
        std::fs::rename(self.path(from), self.path(to)).unwrap();
    }

    /// As a process that has just started.
    pub(crate) async fn open(&self) -> IngestContext {
        self.try_open().await.unwrap()
    }

    pub(crate) async fn try_open(&self) -> Result<IngestContext, Problem> {
        let mut store = Store::local(&self.dir.path().join("data/lake"))?;
        if let Some(faults) = &self.faults {
            store = store.with_faults(faults.clone());
        }
        let options = OpenOptions { adopt: false, clock: Arc::new(SystemClock) };
        let catalog = Catalog::open(store, &self.dir.path().join("data"), options).await?;
        Ok(self.context(catalog))
    }

    pub(crate) fn context(&self, catalog: Arc<Catalog>) -> IngestContext {
        #[derive(serde::Deserialize)]
        struct Config {
            ingest: Vec<IngestConfig>,
        }
        let config: Config = lode_core::config::parse(&self.yaml, "lode.yml").unwrap();
        let ingests = resolve_ingests(&config.ingest, &self.yaml, "lode.yml", &Environment::default()).unwrap();
        let project_dir = self.dir.path().to_owned();
        IngestContext { catalog, warehouse: Some(Arc::new(Rules(self.gate.clone()))), project_dir, ingests }
    }

    /// Lands in a fresh process.
    pub(crate) async fn land(&self) -> LandReport {
        land(&self.open().await).await.unwrap()
    }

    /// Rows of a table as text, sorted; `columns` in that order.
    pub(crate) async fn rows(&self, table: &str, columns: &[&str]) -> Vec<String> {
        rows(&self.open().await, self, table, columns).await
    }

    pub(crate) async fn status(&self) -> PipelineStatus {
        self.open().await.catalog.pipelines().await.unwrap().remove(0)
    }

    /// Rows in = bronze + quarantine + dropped, by the counts and by the tables themselves.
    pub(crate) async fn check_sums(&self) {
        let counts = self.status().await.counts;
        assert_eq!(counts.rows_in, counts.rows_landed + counts.rows_quarantined + counts.rows_dropped);
        let bronze = self.rows("bronze.orders", &["_line"]).await.len() as u64;
        let quarantine = self.rows("bronze.orders__quarantine", &["_id"]).await.len() as u64;
        assert_eq!(bronze, counts.rows_landed + counts.rows_replayed);
        assert_eq!(quarantine, counts.rows_quarantined - counts.rows_replayed);
    }
}

pub(crate) fn silent() -> Arc<dyn Observer> {
    Arc::new(Silent)
}

pub(crate) async fn land(context: &IngestContext) -> Result<LandReport, Problem> {
    land_once(context, &[], LandOptions::default(), &silent()).await?.remove(0)
}

pub(crate) async fn data_files(context: &IngestContext, table: &str) -> usize {
    let Some(RelationEntry::Table(entry)) = context.catalog.relation(&table.parse().unwrap()).await.unwrap() else {
        return 0;
    };
    context.catalog.snapshot(&entry, None).await.unwrap().files.len()
}

pub(crate) async fn batches(context: &IngestContext, world: &World, table: &str) -> Vec<RecordBatch> {
    let name: TableName = table.parse().unwrap();
    let Some(RelationEntry::Table(entry)) = context.catalog.relation(&name).await.unwrap() else { return Vec::new() };
    let snapshot = context.catalog.snapshot(&entry, None).await.unwrap();
    let folder = world.dir.path().join("data/lake").join(&entry.location);
    let mut batches = Vec::new();
    for file in snapshot.files.iter() {
        assert!(!file.has_deletes);
        let file = File::open(folder.join(&file.file.path)).unwrap();
        let reader = ParquetRecordBatchReaderBuilder::try_new(file).unwrap().build().unwrap();
        batches.extend(reader.map(Result::unwrap));
    }
    batches
}

pub(crate) async fn rows(context: &IngestContext, world: &World, table: &str, columns: &[&str]) -> Vec<String> {
    let options = FormatOptions::default().with_null("NULL");
    let mut rows = Vec::new();
    for batch in batches(context, world, table).await {
        let columns: Vec<_> = columns.iter().map(|name| batch.column_by_name(name)).collect();
        let formatters: Vec<_> = columns
            .iter()
            .map(|column| column.map(|column| ArrayFormatter::try_new(column, &options).unwrap()))
            .collect();
        for row in 0..batch.num_rows() {
            let cells: Vec<String> = formatters
                .iter()
                .zip(&columns)
                .map(|(formatter, column)| match (formatter, column) {
                    (Some(_), Some(column)) if column.as_binary_opt::<i32>().is_some() => {
                        String::from_utf8_lossy(column.as_binary::<i32>().value(row)).into_owned()
                    }
                    (Some(formatter), _) => formatter.value(row).to_string(),
                    // A file that was written before the column was added.
                    (None, _) => "NULL".to_owned(),
                })
                .collect();
            rows.push(cells.join("|"));
        }
    }
    rows.sort();
    rows
}

/// Compiles `column > number`, and nothing else.
struct Rules(Option<Arc<Gate>>);

struct Above {
    expectation: Expectation,
    column: String,
    number: i64,
}

struct AllAbove {
    rules: Vec<Above>,
    gate: Option<Arc<Gate>>,
}

impl RowPass for AllAbove {
    fn check(&self, batch: &RecordBatch) -> Result<RowVerdict, Problem> {
        if let Some(gate) = &self.gate {
            gate.pass();
        }
        let mut accept = vec![true; batch.num_rows()];
        let mut reasons: BTreeMap<usize, Violation> = BTreeMap::new();
        let mut counts = Vec::new();
        for rule in &self.rules {
            let numbers = batch.column_by_name(&rule.column).unwrap().as_primitive::<Int64Type>().clone();
            let refused: Vec<usize> =
                (0..numbers.len()).filter(|row| numbers.is_valid(*row) && numbers.value(*row) <= rule.number).collect();
            let on_violation = rule.expectation.on_violation;
            counts.push(RuleCount {
                rule: rule.expectation.name.clone(),
                on_violation,
                violations: refused.len() as u64,
            });
            for row in refused {
                accept[row] &= on_violation == OnViolation::Warn;
                if on_violation == OnViolation::Quarantine {
                    let (rule, reason) = (rule.expectation.name.clone(), rule.expectation.expect.clone());
                    reasons.entry(row).or_insert(Violation { row, rule, reason });
                }
            }
        }
        Ok(RowVerdict { accept: BooleanArray::from(accept), quarantined: reasons.into_values().collect(), counts })
    }
}

#[async_trait]
impl Warehouse for Rules {
    async fn prepare(&self, _: &str, _: &SqlSession) -> Result<Prepared, Problem> {
        Err(Problem::new(ErrorKind::Unsupported, "no SQL here"))
    }

    async fn run(&self, _: &Prepared) -> Result<BatchStream, Problem> {
        Err(Problem::new(ErrorKind::Unsupported, "no SQL here"))
    }

    async fn write(&self, _: &Prepared, _: &WriteSpec) -> Result<Written, Problem> {
        Err(Problem::new(ErrorKind::Unsupported, "no SQL here"))
    }

    async fn write_batches(&self, _: SchemaRef, _: BatchStream, _: &WriteSpec) -> Result<Written, Problem> {
        Err(Problem::new(ErrorKind::Unsupported, "no SQL here"))
    }

    async fn define_view(&self, _: &TableName, _: &Prepared) -> Result<Written, Problem> {
        Err(Problem::new(ErrorKind::Unsupported, "no SQL here"))
    }

    fn row_pass(&self, schema: SchemaRef, expectations: &[Expectation]) -> Result<Arc<dyn RowPass>, Problem> {
        let rules = expectations.iter().map(|expectation| {
            let (column, number) = expectation.expect.split_once(" > ").unwrap();
            schema.field_with_name(column).map_err(|error| Problem::new(ErrorKind::Undefined, error.to_string()))?;
            Ok(Above { expectation: expectation.clone(), column: column.to_owned(), number: number.parse().unwrap() })
        });
        Ok(Arc::new(AllAbove { rules: rules.collect::<Result<_, Problem>>()?, gate: self.0.clone() }))
    }

    async fn relation(&self, _: &TableName) -> Result<Option<Relation>, Problem> {
        Ok(None)
    }

    async fn relations(&self) -> Result<Vec<(TableName, RelationKind)>, Problem> {
        Ok(Vec::new())
    }
}

/// Does `work` once, at the `visit`-th time (from 1) that an epoch passes the arrow `name`.
pub(crate) fn at_arrow(
    context: &IngestContext,
    name: &'static str,
    visit: u32,
    work: impl Fn() -> Result<(), Problem> + Send + Sync + 'static,
) {
    let visits = std::sync::atomic::AtomicU32::new(0);
    context.catalog.set_arrow_hook(Arc::new(move |arrow| {
        let is_it = arrow == name && visits.fetch_add(1, std::sync::atomic::Ordering::SeqCst) + 1 == visit;
        let answer = if is_it { work() } else { Ok(()) };
        async move { answer }.boxed()
    }));
}

/// From the `visit`-th time at the arrow `name` on, nothing of this process gets past an arrow: as good as killed there.
pub(crate) fn dies_at(context: &IngestContext, name: &'static str, visit: u32) {
    let visits = std::sync::atomic::AtomicU32::new(0);
    let is_dead = std::sync::atomic::AtomicBool::new(false);
    context.catalog.set_arrow_hook(Arc::new(move |arrow| {
        if arrow == name && visits.fetch_add(1, std::sync::atomic::Ordering::SeqCst) + 1 == visit {
            is_dead.store(true, std::sync::atomic::Ordering::SeqCst);
        }
        let answer = match is_dead.load(std::sync::atomic::Ordering::SeqCst) {
            true => Err(Problem::new(ErrorKind::Unavailable, "killed here")),
            false => Ok(()),
        };
        async move { answer }.boxed()
    }));
}
