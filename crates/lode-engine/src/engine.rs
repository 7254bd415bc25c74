//! The engine: one catalog, one pool of threads, statements in any number at a time.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;

use lode_catalog::{Catalog, RelationEntry};
use lode_core::{
    BatchStream, ErrorKind, Expectation, Place, Prepared, Problem, Relation, RelationKind, RowPass, SqlSession,
    TableName, ViewText, Warehouse, WriteSpec, Written,
};

use crate::cpu::CpuPool;
use crate::session::{EngineOptions, Sessions};
use crate::tables::view_schema;
use crate::write::Rows;
use crate::{expect, parse, problem};

/// Answers SQL over the tables of one catalog. Cheap to clone.
#[derive(Clone)]
pub struct Engine {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) sessions: Sessions,
    pub(crate) cpu: CpuPool,
    pub(crate) options: EngineOptions,
}

impl Engine {
    pub fn new(catalog: Arc<Catalog>, options: EngineOptions) -> Result<Self, Problem> {
        let sessions = Sessions::new(&options, catalog.store().objects()).map_err(problem::running)?;
        let cpu = CpuPool::new(options.partitions)?;
        Ok(Self { inner: Arc::new(Inner { catalog, sessions, cpu, options }) })
    }
}

pub(crate) fn entry_name(entry: &RelationEntry) -> &TableName {
    match entry {
        RelationEntry::Table(table) => &table.name,
        RelationEntry::View(view) => &view.name,
    }
}

/// The one statement of `sql`. Errors: `Syntax` when there is none or more than one.
pub(crate) fn single(sql: &str, origin: &str) -> Result<datafusion::sql::parser::Statement, Problem> {
    let mut statements = parse::statements(sql, origin)?;
    match (statements.pop(), statements.len()) {
        (Some(statement), 0) => Ok(statement),
        (None, _) => {
            Err(Problem::new(ErrorKind::Syntax, "there is no statement").at(Place::of(origin)).fix("write a `select`"))
        }
        (Some(_), more) => {
            Err(Problem::new(ErrorKind::Syntax, format!("{} statements where one is expected", more + 1))
                .at(Place::of(origin))
                .fix("keep one `select`"))
        }
    }
}

#[async_trait]
impl Warehouse for Engine {
    async fn prepare(&self, sql: &str, session: &SqlSession) -> Result<Prepared, Problem> {
        let statement = single(sql, &session.origin)?;
        crate::statement::require_query(&statement, sql, session)?;
        self.inner.plan(statement, sql, session).await
    }

    async fn run(&self, prepared: &Prepared) -> Result<BatchStream, Problem> {
        self.inner.run(prepared).await
    }

    async fn write(&self, prepared: &Prepared, spec: &WriteSpec) -> Result<Written, Problem> {
        self.inner.write(Rows::Plan(prepared.clone()), spec).await
    }

    async fn write_batches(&self, schema: SchemaRef, rows: BatchStream, spec: &WriteSpec) -> Result<Written, Problem> {
        self.inner.write(Rows::Batches { schema, rows }, spec).await
    }

    async fn define_view(&self, name: &TableName, prepared: &Prepared) -> Result<Written, Problem> {
        self.inner.define_view(name, prepared).await
    }

    fn row_pass(&self, schema: SchemaRef, expectations: &[Expectation]) -> Result<Arc<dyn RowPass>, Problem> {
        Ok(Arc::new(expect::Pass::compile(&self.inner.sessions, schema, expectations)?))
    }

    async fn relation(&self, name: &TableName) -> Result<Option<Relation>, Problem> {
        let Some(entry) = self.inner.catalog.relation(name).await? else { return Ok(None) };
        let (kind, schema, view) = match &entry {
            RelationEntry::Table(table) => {
                let snapshot = self.inner.catalog.snapshot(table, None).await?;
                (RelationKind::Table, Arc::clone(snapshot.schema()), None)
            }
            RelationEntry::View(view) => {
                let text = ViewText { sql: view.sql.clone(), default_schema: view_schema::default_schema(view) };
                (RelationKind::View, view_schema::decode(view)?, Some(text))
            }
        };
        Ok(Some(Relation { name: name.clone(), kind, schema, view }))
    }

    async fn relations(&self) -> Result<Vec<(TableName, RelationKind)>, Problem> {
        let entries = self.inner.catalog.relations().await?;
        let kind = |entry: &RelationEntry| match entry {
            RelationEntry::Table(_) => RelationKind::Table,
            RelationEntry::View(_) => RelationKind::View,
        };
        Ok(entries.iter().map(|entry| (entry_name(entry).clone(), kind(entry))).collect())
    }
}
