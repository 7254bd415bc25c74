//! Project folders, a warehouse in memory, and an observer that writes down what it hears.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use async_trait::async_trait;
use chrono::{DateTime, TimeZone, Utc};
use futures::{StreamExt, TryStreamExt, stream};
use lode_catalog::RunRow;
use lode_core::{
    BatchStream, Epoch, ErrorKind, Expectation, FixedClock, Input, Place, Prepared, Problem, Relation, RelationKind,
    RowPass, SnapshotId, SqlSession, TableId, TableName, ViewText, Warehouse, WriteMode, WriteSpec, Written,
};
use lode_jobs::{NodeStatus, Observer, RunEvent};
use lode_project::{Command, Notes, Overrides, Project, RunOptions, RunResults, Runner, Selection};
use parking_lot::Mutex;
use regex::Regex;
use tempfile::TempDir;

pub(crate) fn now() -> DateTime<Utc> {
    Utc.with_ymd_and_hms(2026, 1, 2, 3, 4, 5).unwrap()
}

/// A folder with these files; `dbt_project.yml` is added when it is not among them.
pub(crate) fn folder(files: &[(&str, &str)]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let has_project = files.iter().any(|(path, _)| *path == "dbt_project.yml");
    if !has_project {
        put(dir.path(), "dbt_project.yml", "name: shop\n");
    }
    for (path, text) in files {
        put(dir.path(), path, text);
    }
    dir
}

pub(crate) fn put(dir: &Path, path: &str, text: &str) {
    let path = dir.join(path);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

pub(crate) fn load(dir: &TempDir) -> Project {
    Project::load(dir.path(), &Overrides::new(now())).unwrap_or_else(|problem| panic!("{}", problem.render()))
}

pub(crate) fn load_error(files: &[(&str, &str)]) -> Problem {
    match Project::load(folder(files).path(), &Overrides::new(now())) {
        Ok(_) => panic!("the project was accepted"),
        Err(problem) => problem,
    }
}

/// Relations by name with their snapshot, and every statement in order.
#[derive(Default)]
pub(crate) struct FakeWarehouse {
    pub(crate) relations: Mutex<BTreeMap<String, (RelationKind, i64)>>,
    /// Ids of tables that were asked for.
    ids: Mutex<BTreeMap<String, TableId>>,
    /// `write gold.trips replace`, `view gold.v`, `seed raw.s`.
    pub(crate) writes: Mutex<Vec<String>>,
    pub(crate) specs: Mutex<Vec<WriteSpec>>,
    /// SQL of every write, by target.
    pub(crate) sql: Mutex<BTreeMap<String, String>>,
    /// Default schema of every view, by name.
    pub(crate) view_schemas: Mutex<BTreeMap<String, String>>,
    pub(crate) batches: Mutex<BTreeMap<String, RecordBatch>>,
    /// Failures of tests whose SQL holds the text.
    pub(crate) failures: Mutex<Vec<(String, i64)>>,
    /// Answers of other queries that hold the text.
    pub(crate) answers: Mutex<Vec<(String, RecordBatch)>>,
}

impl FakeWarehouse {
    pub(crate) fn with_tables(names: &[&str]) -> Arc<Self> {
        let fake = Self::default();
        fake.relations.lock().extend(names.iter().map(|name| ((*name).to_owned(), (RelationKind::Table, 1))));
        Arc::new(fake)
    }

    pub(crate) fn touch(&self, name: &str) -> SnapshotId {
        let mut relations = self.relations.lock();
        let entry = relations.entry(name.to_owned()).or_insert((RelationKind::Table, 0));
        entry.1 += 1;
        SnapshotId(entry.1)
    }

    /// Drops a table and makes it again: same name, same snapshot.
    pub(crate) fn make_again(&self, name: &str) {
        self.ids.lock().insert(name.to_owned(), TableId::random());
    }

    fn id(&self, name: &TableName) -> TableId {
        *self.ids.lock().entry(name.to_string()).or_insert_with(TableId::random)
    }

    fn written(&self, name: &TableName, kind: RelationKind, rows: u64) -> Written {
        let snapshot = self.touch(&name.to_string());
        self.relations.lock().insert(name.to_string(), (kind, snapshot.0));
        Written {
            epoch: Epoch(snapshot.0),
            table: (kind == RelationKind::Table).then(|| self.id(name)),
            snapshot,
            rows,
            rows_quarantined: 0,
            rows_dropped: 0,
            rules: Vec::new(),
        }
    }
}

pub(crate) fn one_column() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("id", DataType::Int64, true)]))
}

pub(crate) fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    RecordBatch::try_from_iter(columns).unwrap()
}

#[async_trait]
impl Warehouse for FakeWarehouse {
    async fn prepare(&self, sql: &str, session: &SqlSession) -> Result<Prepared, Problem> {
        for (word, kind) in [("no_such_column", ErrorKind::Undefined), ("type_clash", ErrorKind::TypeMismatch)] {
            if let Some(at) = sql.find(word) {
                return Err(Problem::new(kind, format!("column \"{word}\" is refused"))
                    .at(Place::at_offset(session.origin.clone(), sql, at))
                    .fix("did you mean \"id\"?"));
            }
        }
        let mut inputs: Vec<Input> = Vec::new();
        for found in Regex::new(r#""([^"]+)"\."([^"]+)""#).unwrap().captures_iter(sql) {
            let table = TableName::new(&found[1], &found[2]);
            let known = self.relations.lock().get(&table.to_string()).copied();
            let Some((_, snapshot)) = known else {
                return Err(Problem::new(ErrorKind::NotFound, format!("table \"{table}\" does not exist"))
                    .at(Place::at_offset(session.origin.clone(), sql, found.get(0).unwrap().start())));
            };
            let input = Input { id: self.id(&table), table, snapshot: SnapshotId(snapshot) };
            if !inputs.contains(&input) {
                inputs.push(input);
            }
        }
        let answers = self.answers.lock();
        let schema =
            answers.iter().find(|(text, _)| sql.contains(text)).map_or_else(one_column, |(_, batch)| batch.schema());
        Ok(Prepared {
            sql: sql.to_owned(),
            schema,
            inputs,
            fingerprint: sql.split_whitespace().collect::<Vec<_>>().join(" "),
            is_volatile: sql.contains("random()"),
            plan: Arc::new(session.clone()),
        })
    }

    async fn run(&self, prepared: &Prepared) -> Result<BatchStream, Problem> {
        let sql = &prepared.sql;
        let answer = self.answers.lock().iter().find(|(text, _)| sql.contains(text)).map(|(_, batch)| batch.clone());
        let answer = answer.unwrap_or_else(|| {
            let failures =
                self.failures.lock().iter().find(|(text, _)| sql.contains(text)).map_or(0, |(_, count)| *count);
            let holds = |name: &str| {
                let rule = sql.lines().find(|line| line.contains(name)).unwrap_or_default();
                failures > if rule.contains("> 10") { 10 } else { 0 }
            };
            batch(vec![
                ("failures", Arc::new(Int64Array::from(vec![failures]))),
                ("should_warn", Arc::new(BooleanArray::from(vec![holds("should_warn")]))),
                ("should_error", Arc::new(BooleanArray::from(vec![holds("should_error")]))),
            ])
        });
        Ok(stream::iter([Ok(answer)]).boxed())
    }

    async fn write(&self, prepared: &Prepared, spec: &WriteSpec) -> Result<Written, Problem> {
        let mode = match &spec.mode {
            WriteMode::Replace => "replace".to_owned(),
            WriteMode::Append => "append".to_owned(),
            WriteMode::Merge { keys, keeps_all: false } => format!("merge {}", keys.join(",")),
            WriteMode::Merge { keys, keeps_all: true } => format!("delete+insert {}", keys.join(",")),
            WriteMode::ReplacePartitions => format!("partitions {}", spec.partition_by.join(",")),
        };
        self.writes.lock().push(format!("write {} {mode}", spec.target));
        self.specs.lock().push(spec.clone());
        self.sql.lock().insert(spec.target.to_string(), prepared.sql.clone());
        Ok(self.written(&spec.target, RelationKind::Table, 3))
    }

    async fn write_batches(&self, schema: SchemaRef, rows: BatchStream, spec: &WriteSpec) -> Result<Written, Problem> {
        let batches: Vec<RecordBatch> = rows.try_collect().await?;
        let all = arrow::compute::concat_batches(&schema, &batches).unwrap();
        let rows = all.num_rows() as u64;
        self.writes.lock().push(format!("seed {}", spec.target));
        self.batches.lock().insert(spec.target.to_string(), all);
        Ok(self.written(&spec.target, RelationKind::Table, rows))
    }

    async fn define_view(&self, name: &TableName, prepared: &Prepared) -> Result<Written, Problem> {
        self.writes.lock().push(format!("view {name}"));
        self.sql.lock().insert(name.to_string(), prepared.sql.clone());
        let session = prepared.plan.downcast_ref::<SqlSession>().unwrap();
        self.view_schemas.lock().insert(name.to_string(), session.default_schema.clone());
        Ok(self.written(name, RelationKind::View, 0))
    }

    fn row_pass(&self, _: SchemaRef, _: &[Expectation]) -> Result<Arc<dyn RowPass>, Problem> {
        Err(Problem::internal("not part of this fake"))
    }

    async fn relation(&self, name: &TableName) -> Result<Option<Relation>, Problem> {
        let Some((kind, _)) = self.relations.lock().get(&name.to_string()).copied() else { return Ok(None) };
        let sql = self.sql.lock().get(&name.to_string()).cloned().unwrap_or_default();
        let default_schema = self.view_schemas.lock().get(&name.to_string()).cloned().unwrap_or_default();
        let view = (kind == RelationKind::View).then_some(ViewText { sql, default_schema });
        Ok(Some(Relation { name: name.clone(), kind, schema: one_column(), view }))
    }

    async fn relations(&self) -> Result<Vec<(TableName, RelationKind)>, Problem> {
        Ok(self.relations.lock().iter().map(|(name, (kind, _))| (name.parse().unwrap(), *kind)).collect())
    }
}

#[derive(Default)]
pub(crate) struct FakeNotes {
    notes: Mutex<BTreeMap<(String, String), String>>,
    pub(crate) runs: Mutex<Vec<RunRow>>,
}

#[async_trait]
impl Notes for FakeNotes {
    async fn get(&self, scope: &str, key: &str) -> Result<Option<String>, Problem> {
        Ok(self.notes.lock().get(&(scope.to_owned(), key.to_owned())).cloned())
    }

    async fn put(&self, scope: &str, key: &str, value: &str) -> Result<(), Problem> {
        self.notes.lock().insert((scope.to_owned(), key.to_owned()), value.to_owned());
        Ok(())
    }

    async fn record_run(&self, run: &RunRow) -> Result<(), Problem> {
        self.runs.lock().push(run.clone());
        Ok(())
    }
}

/// One line an event.
#[derive(Default)]
pub(crate) struct Heard(pub(crate) Mutex<Vec<String>>);

impl Observer for Heard {
    fn on_event(&self, event: &RunEvent) {
        let line = match event {
            RunEvent::RunStarted { command, nodes, .. } => format!("{command} of {nodes}"),
            RunEvent::NodeStarted { node, .. } => {
                format!("{} of {} START {}", node.index, node.total, node.description())
            }
            RunEvent::NodeFinished { node, outcome, .. } => {
                format!("{} of {} {} {}", node.index, node.total, outcome.status.as_str(), node.description())
            }
            RunEvent::Notice { message, .. } => format!("notice {message}"),
            RunEvent::RunFinished { totals, .. } => {
                format!("pass {} error {} skip {}", totals.pass, totals.error, totals.skip)
            }
            RunEvent::NodeProgress { .. } => return,
        };
        self.0.lock().push(line);
    }
}

/// A project folder with what it runs against.
pub(crate) struct Bench {
    pub(crate) dir: TempDir,
    pub(crate) warehouse: Arc<FakeWarehouse>,
    pub(crate) notes: Arc<FakeNotes>,
    pub(crate) heard: Arc<Heard>,
    pub(crate) options: RunOptions,
    pub(crate) overrides: Overrides,
}

impl Bench {
    pub(crate) fn new(files: &[(&str, &str)]) -> Self {
        Self {
            dir: folder(files),
            warehouse: FakeWarehouse::with_tables(&["bronze.orders"]),
            notes: Arc::new(FakeNotes::default()),
            heard: Arc::new(Heard::default()),
            options: RunOptions { threads: 1, ..RunOptions::default() },
            overrides: Overrides::new(now()),
        }
    }

    pub(crate) fn runner(&self) -> (Arc<Project>, Runner) {
        let project =
            Project::load(self.dir.path(), &self.overrides).unwrap_or_else(|problem| panic!("{}", problem.render()));
        let project = Arc::new(project);
        let clock = Arc::new(FixedClock::new(now()));
        let runner =
            Runner::new(project.clone(), self.warehouse.clone(), self.notes.clone(), clock, self.heard.clone());
        (project, runner)
    }

    pub(crate) async fn run(&self, command: Command, select: &[&str]) -> RunResults {
        let (project, runner) = self.runner();
        let select = select.iter().map(|word| (*word).to_owned()).collect();
        let plan = project.plan(command, &Selection { select, ..Selection::default() }).unwrap();
        runner.run(&plan, command, &self.options).await.unwrap_or_else(|problem| panic!("{}", problem.render()))
    }

    pub(crate) fn take_writes(&self) -> Vec<String> {
        std::mem::take(&mut self.warehouse.writes.lock())
    }
}

/// `name status` of each node, in order of ends.
pub(crate) fn statuses(results: &RunResults) -> Vec<String> {
    results.nodes.iter().map(|result| format!("{} {}", result.node.name, result.outcome.status.as_str())).collect()
}

pub(crate) fn outcome<'a>(results: &'a RunResults, name: &str) -> &'a lode_jobs::NodeOutcome {
    let found = results.nodes.iter().find(|result| result.node.name == name);
    &found.unwrap_or_else(|| panic!("no node {name}")).outcome
}

pub(crate) fn assert_status(results: &RunResults, name: &str, status: NodeStatus) {
    let outcome = outcome(results, name);
    let problem = outcome.problem.as_ref().map(|problem| problem.render()).unwrap_or_default();
    assert_eq!(outcome.status, status, "{name}: {} {problem}", outcome.message);
}
