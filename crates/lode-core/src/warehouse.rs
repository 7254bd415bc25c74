//! SQL asked for by those who must not know the engine: text in, Arrow out.

use std::any::Any;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use futures::stream::BoxStream;

use crate::{Epoch, Expectation, Problem, RowPass, RuleCount, SnapshotId, TableId, TableName};

/// Batches of one schema.
pub type BatchStream = BoxStream<'static, Result<RecordBatch, Problem>>;

/// What a statement is planned against.
#[derive(Debug, Clone)]
pub struct SqlSession {
    /// Where an unqualified name is looked up.
    pub default_schema: String,
    /// What `now()` answers.
    pub now: DateTime<Utc>,
    /// Name of the statement's file in error messages; `<sql>` for a command line.
    pub origin: String,
}

impl SqlSession {
    pub fn new(now: DateTime<Utc>) -> Self {
        Self { default_schema: TableName::DEFAULT_SCHEMA.to_owned(), now, origin: "<sql>".to_owned() }
    }

    pub fn origin(mut self, origin: impl Into<String>) -> Self {
        self.origin = origin.into();
        self
    }
}

/// A planned SELECT over pinned snapshots.
#[derive(Clone)]
pub struct Prepared {
    pub sql: String,
    pub schema: SchemaRef,
    /// Tables read, each at one snapshot; views are expanded to their tables.
    pub inputs: Vec<Input>,
    /// BLAKE3 of the normalised statement, its views and its plan, without the snapshots.
    pub fingerprint: String,
    /// Holds `now()`, `random()`, `table_history()` and their kin: the same inputs may give other rows.
    pub is_volatile: bool,
    /// The engine's own plan.
    pub plan: Arc<dyn Any + Send + Sync>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Input {
    pub table: TableName,
    /// A table that was dropped and made again has the name, and may have the snapshot, but never the id.
    pub id: TableId,
    pub snapshot: SnapshotId,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WriteMode {
    /// The whole table becomes the rows.
    Replace,
    Append,
    /// Rows with a known key replace all old rows of that key; others are added. A key with a NULL in it equals no other.
    Merge {
        keys: Vec<String>,
        /// Whether several new rows of one key are kept, as by dbt's `delete+insert`, or are an error, as in `MERGE`.
        keeps_all: bool,
    },
    /// Each partition that the rows touch becomes those rows.
    ReplacePartitions,
}

/// Property of a table: the formats that it is shown in, separated by commas. The Delta log is always there.
pub const EXPOSE: &str = "lode.expose";
/// Table property: the columns of the key by which rows are merged, as a JSON array. Such tables keep an index of it.
pub const KEY: &str = "lode.key";
/// Formats that a table can be shown in.
pub const TABLE_FORMATS: [&str; 2] = ["delta", "iceberg"];

/// How the rows of a statement become a table.
#[derive(Debug, Clone)]
pub struct WriteSpec {
    pub target: TableName,
    pub mode: WriteMode,
    pub partition_by: Vec<String>,
    pub expectations: Vec<Expectation>,
    /// `ignore | fail | append_new_columns | sync_all_columns`, dbt's words.
    pub on_schema_change: String,
    pub comment: Option<String>,
    /// Free marks kept in the table's properties, e.g. `lode.model`.
    pub properties: Vec<(String, String)>,
}

impl WriteSpec {
    pub fn new(target: TableName, mode: WriteMode) -> Self {
        Self {
            target,
            mode,
            partition_by: Vec::new(),
            expectations: Vec::new(),
            on_schema_change: "ignore".to_owned(),
            comment: None,
            properties: Vec::new(),
        }
    }
}

/// What a write did, after it was published.
#[derive(Debug, Clone, PartialEq)]
pub struct Written {
    pub epoch: Epoch,
    /// The table that was written; `None` for a view.
    pub table: Option<TableId>,
    pub snapshot: SnapshotId,
    /// Rows that reached the table.
    pub rows: u64,
    pub rows_quarantined: u64,
    pub rows_dropped: u64,
    pub rules: Vec<RuleCount>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Relation {
    pub name: TableName,
    pub kind: RelationKind,
    pub schema: SchemaRef,
    /// What a view was defined by; `None` for a table.
    pub view: Option<ViewText>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ViewText {
    pub sql: String,
    /// Where the view's own unqualified names are looked up.
    pub default_schema: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RelationKind {
    Table,
    View,
}

/// The SQL engine, as the other crates see it.
#[async_trait]
pub trait Warehouse: Send + Sync {
    /// Plans one SELECT. Errors carry the place in `sql`.
    async fn prepare(&self, sql: &str, session: &SqlSession) -> Result<Prepared, Problem>;

    /// Runs what was prepared. Dropping the stream cancels it.
    async fn run(&self, prepared: &Prepared) -> Result<BatchStream, Problem>;

    /// Writes the rows as one epoch of the target's pipeline and returns after it was published.
    async fn write(&self, prepared: &Prepared, spec: &WriteSpec) -> Result<Written, Problem>;

    /// Writes batches that did not come from SQL (seeds), as `write`.
    async fn write_batches(&self, schema: SchemaRef, rows: BatchStream, spec: &WriteSpec) -> Result<Written, Problem>;

    /// Creates or replaces a view, as one epoch of its pipeline.
    async fn define_view(&self, name: &TableName, prepared: &Prepared) -> Result<Written, Problem>;

    /// Compiles expectations for rows of `schema`.
    fn row_pass(&self, schema: SchemaRef, expectations: &[Expectation]) -> Result<Arc<dyn RowPass>, Problem>;

    /// The table or view of that name at its published snapshot.
    async fn relation(&self, name: &TableName) -> Result<Option<Relation>, Problem>;

    /// All relations, by name.
    async fn relations(&self) -> Result<Vec<(TableName, RelationKind)>, Problem>;
}
