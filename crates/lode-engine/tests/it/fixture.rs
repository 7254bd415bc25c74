//! An engine over an empty lake in a folder that goes away.

use std::sync::Arc;

use arrow::array::{Array, RecordBatch};
use arrow::datatypes::{DataType, SchemaRef};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use chrono::{DateTime, Utc};
use futures::TryStreamExt;

use lode_catalog::{Catalog, OpenOptions};
use lode_core::{FixedClock, Problem, SqlSession};
use lode_engine::{Engine, EngineOptions, StatementResult};
use lode_lake::Store;

pub(crate) struct Fixture {
    pub(crate) engine: Engine,
    pub(crate) session: SqlSession,
    pub(crate) catalog: Arc<Catalog>,
    folder: tempfile::TempDir,
}

pub(crate) fn noon() -> DateTime<Utc> {
    DateTime::parse_from_rfc3339("2026-01-03T12:00:00Z").unwrap().to_utc()
}

impl Fixture {
    pub(crate) async fn new() -> Self {
        Self::with_memory(None).await
    }

    /// As `new`, where statements may hold so many bytes.
    pub(crate) async fn with_memory(memory_bytes: Option<usize>) -> Self {
        Self::with(|options| options.memory_bytes = memory_bytes).await
    }

    /// As `new`, where files of at least so many bytes get deletion vectors.
    pub(crate) async fn with_vectors_from(bytes: u64) -> Self {
        Self::with(|options| options.rewritten_below_bytes = bytes).await
    }

    async fn with(set: impl FnOnce(&mut EngineOptions)) -> Self {
        Self::in_folder(tempfile::tempdir().unwrap(), set).await
    }

    async fn in_folder(folder: tempfile::TempDir, set: impl FnOnce(&mut EngineOptions)) -> Self {
        let store = Store::local(&folder.path().join("lake")).unwrap();
        let options = OpenOptions { adopt: false, clock: Arc::new(FixedClock::new(noon())) };
        let catalog = Catalog::open(store, folder.path(), options).await.unwrap();
        let mut options = EngineOptions { partitions: 2, ..EngineOptions::new(folder.path()) };
        set(&mut options);
        let engine = Engine::new(Arc::clone(&catalog), options).unwrap();
        Self { engine, session: SqlSession::new(noon()), catalog, folder }
    }

    /// The same folder in a new process.
    pub(crate) async fn reopen(before: Self) -> Self {
        before.catalog.close().await;
        let Self { folder, .. } = before;
        Self::in_folder(folder, |_| {}).await
    }

    /// A path inside of the lake.
    pub(crate) fn in_lake(&self, path: &str) -> std::path::PathBuf {
        self.folder.path().join("lake").join(path)
    }

    /// Runs statements and returns the rows of the last one as text, cells separated by `|`, or its tag.
    pub(crate) async fn sql(&self, sql: &str) -> Result<Vec<String>, Problem> {
        match self.engine.statement(sql, &self.session).await? {
            StatementResult::Done { tag, .. } => Ok(vec![tag]),
            StatementResult::Rows { schema, rows } => {
                let batches: Vec<RecordBatch> = rows.try_collect().await?;
                Ok(lines(&schema, &batches))
            }
        }
    }

    /// As `sql`, which must work.
    pub(crate) async fn must(&self, sql: &str) -> Vec<String> {
        match self.sql(sql).await {
            Ok(rows) => rows,
            Err(problem) => panic!("{sql}\n{}", problem.render()),
        }
    }

    /// The error of `sql`, as a user sees it.
    pub(crate) async fn error(&self, sql: &str) -> String {
        match self.sql(sql).await {
            Ok(rows) => panic!("{sql} gave {rows:?}"),
            Err(problem) => problem.render(),
        }
    }
}

pub(crate) fn lines(schema: &SchemaRef, batches: &[RecordBatch]) -> Vec<String> {
    let mut lines = Vec::new();
    for batch in batches {
        assert_eq!(batch.schema().fields().len(), schema.fields().len());
        for row in 0..batch.num_rows() {
            let cells: Vec<String> = batch.columns().iter().map(|column| cell(column.as_ref(), row)).collect();
            lines.push(cells.join("|"));
        }
    }
    lines
}

fn cell(column: &dyn Array, row: usize) -> String {
    if column.is_null(row) {
        return "NULL".to_owned();
    }
    let zoned = matches!(column.data_type(), DataType::Timestamp(_, Some(_)));
    let options = FormatOptions::default()
        .with_timestamp_format(Some("%Y-%m-%d %H:%M:%S%.f"))
        .with_timestamp_tz_format(Some("%Y-%m-%d %H:%M:%S%.f"));
    let text = ArrayFormatter::try_new(column, &options).unwrap().value(row).to_string();
    match column.data_type() {
        DataType::Boolean => text[..1].to_owned(),
        _ if zoned => format!("{text}+00"),
        _ => text,
    }
}

/// Two texts of a value: equal, or numbers that agree to 15 digits.
pub(crate) fn is_same(ours: &str, theirs: &str) -> bool {
    if ours == theirs {
        return true;
    }
    match (ours.parse::<f64>(), theirs.parse::<f64>()) {
        (Ok(a), Ok(b)) => (a - b).abs() <= 1e-15 * a.abs().max(b.abs()),
        _ => false,
    }
}
