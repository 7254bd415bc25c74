//! A SELECT as an optimised plan over pinned snapshots, and its rows.

use std::any::Any;
use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::{Expr, LogicalPlan, Volatility};
use datafusion::physical_plan::{ExecutionPlan, SendableRecordBatchStream, execute_stream};
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{Ident, Insert, ObjectName, Statement as Sql, TableObject};
use futures::{StreamExt, stream};
use tokio::sync::mpsc;

use lode_core::sql_type::SQL_TYPE_MARK;
use lode_core::{BatchStream, Prepared, Problem, SqlSession, TableName};

use crate::engine::Inner;
use crate::functions::marked::is_text;
use crate::problem::{self, Source};
use crate::tables::resolve::{self, InsertedColumn, Resolved};

/// Batches between the pool's thread and the reader; a full channel makes the statement wait.
const BATCHES_AHEAD: usize = 2;

/// What `Prepared::plan` holds.
pub(crate) struct Planned {
    pub(crate) state: SessionState,
    pub(crate) logical: LogicalPlan,
    pub(crate) session: SqlSession,
}

impl Planned {
    pub(crate) fn of(prepared: &Prepared) -> Result<Arc<Self>, Problem> {
        let plan: Arc<dyn Any + Send + Sync> = Arc::clone(&prepared.plan);
        plan.downcast().map_err(|_| Problem::internal("the statement was prepared by another engine"))
    }

    /// Makes a fresh physical plan: streams of a plan can be run once.
    pub(crate) async fn physical(&self, sql: &str) -> Result<Arc<dyn ExecutionPlan>, Problem> {
        let planner = self.state.query_planner();
        planner
            .create_physical_plan(&self.logical, &self.state)
            .await
            .map_err(|error| problem::explain(error, sql, &self.session.origin))
    }
}

impl Inner {
    /// Plans a statement that yields rows.
    pub(crate) async fn plan(
        self: &Arc<Self>,
        statement: Statement,
        sql: &str,
        session: &SqlSession,
    ) -> Result<Prepared, Problem> {
        let resolved = resolve::resolve(&self.catalog, &statement, session).await?;
        self.plan_resolved(resolved, statement, sql, session).await
    }

    /// As `plan`, where the rows of `table` show the places at which they stand.
    pub(crate) async fn plan_positioned(
        self: &Arc<Self>,
        statement: Statement,
        sql: &str,
        session: &SqlSession,
        table: &TableName,
    ) -> Result<Prepared, Problem> {
        let mut resolved = resolve::resolve(&self.catalog, &statement, session).await?;
        resolved.show_places_of(table);
        self.plan_resolved(resolved, statement, sql, session).await
    }

    /// As `plan`, for an INSERT into `table`: its rows in the table's columns.
    pub(crate) async fn plan_insert(
        self: &Arc<Self>,
        mut statement: Statement,
        sql: &str,
        session: &SqlSession,
        table: &TableName,
    ) -> Result<Prepared, Problem> {
        let mut resolved = resolve::resolve(&self.catalog, &statement, session).await?;
        let texts = match resolved.has_uuids(table) {
            true => self.text_columns(&statement, sql, session).await,
            false => Vec::new(),
        };
        resolved.insert_into(table, texts);
        if let Statement::Statement(inner) = &mut statement
            && let Sql::Insert(insert) = inner.as_mut()
        {
            let name = [table.schema.as_str(), resolve::INSERTED].map(|part| Ident::with_quote('"', part));
            insert.table = TableObject::TableName(ObjectName::from(name.to_vec()));
        }
        self.plan_resolved(resolved, statement, sql, session).await
    }

    /// Places of the columns of an INSERT's rows that are text.
    async fn text_columns(
        self: &Arc<Self>,
        statement: &Statement,
        sql: &str,
        session: &SqlSession,
    ) -> Vec<InsertedColumn> {
        let Statement::Statement(inner) = statement else { return Vec::new() };
        let Sql::Insert(Insert { source: Some(source), columns, .. }) = inner.as_ref() else { return Vec::new() };
        let query = Statement::Statement(Box::new(Sql::Query(source.clone())));
        // Rows that only the target's types settle, as in `values ('1e20'), (2)`, cannot be planned alone: they are literals.
        let Ok(rows) = self.plan(query, sql, session).await else { return vec![InsertedColumn::Any] };
        let texts =
            rows.schema.fields().iter().enumerate().filter(|(_, field)| is_text(field.data_type())).map(|(at, _)| at);
        let column = |at: usize| match columns.get(at).and_then(|name| name.0.last()).and_then(|part| part.as_ident()) {
            Some(name) => InsertedColumn::Named(crate::statement::folded(name)),
            None => InsertedColumn::At(at),
        };
        texts.map(column).collect()
    }

    async fn plan_resolved(
        self: &Arc<Self>,
        resolved: Resolved,
        statement: Statement,
        sql: &str,
        session: &SqlSession,
    ) -> Result<Prepared, Problem> {
        let text = resolved.text(&statement, &session.default_schema);
        // A look into the history of a table is no snapshot among the inputs: nothing tells when it changes.
        let looks_inside = resolved.has_calls();
        let inner = Arc::clone(self);
        let (sql_text, session_copy) = (sql.to_owned(), session.clone());
        let planned = self.cpu.run(async move {
            let pins = resolved.pin(inner.catalog.store(), &inner.sessions, &session_copy).await?;
            let state = inner.sessions.state(&session_copy, &pins);
            // An INSERT is planned as its rows: cast to the table's columns, in their order.
            let logical = state.statement_to_plan(statement).await.map(|plan| match plan {
                LogicalPlan::Dml(insert) => insert.input.as_ref().clone(),
                plan => plan,
            });
            let optimised = logical.and_then(|plan| {
                let is_volatile = looks_inside || is_volatile(&plan)?;
                Ok((state.optimize(&plan)?, is_volatile))
            });
            Ok((pins, state, optimised, sql_text, session_copy))
        });
        let (pins, state, optimised, sql, session) = planned.await?;
        let (logical, is_volatile) = match optimised {
            Ok(plan) => plan,
            Err(error) => return Err(self.explain(error, &sql, &session).await),
        };
        let schema = plain_schema(logical.schema().as_arrow());
        let inputs = pins.inputs();
        let fingerprint = fingerprint(&text, &logical, &schema);
        let plan = Arc::new(Planned { state, logical, session });
        Ok(Prepared { sql, schema, inputs, fingerprint, is_volatile, plan })
    }

    /// A planning error with the names that could have been meant.
    pub(crate) async fn explain(
        &self,
        error: datafusion::error::DataFusionError,
        sql: &str,
        session: &SqlSession,
    ) -> Problem {
        let relations = self.catalog.relations().await.unwrap_or_default();
        let tables: Vec<String> = relations.iter().map(|entry| crate::engine::entry_name(entry).to_string()).collect();
        let base = self.sessions.base();
        let mut functions: Vec<String> = base.scalar_functions().keys().cloned().collect();
        functions.extend(base.aggregate_functions().keys().cloned());
        functions.extend(base.window_functions().keys().cloned());
        // Those with an underscore stand for casts and the like.
        functions.retain(|name| !name.starts_with('_'));
        functions.sort_unstable();
        problem::explain_in(error, &Source { sql, origin: &session.origin, tables: &tables, functions: &functions })
    }

    /// The rows of a prepared statement, pumped from the pool. Dropping the stream stops the statement.
    pub(crate) async fn run(&self, prepared: &Prepared) -> Result<BatchStream, Problem> {
        let planned = Planned::of(prepared)?;
        let sql = prepared.sql.clone();
        let stream = self.cpu.run(async move {
            let physical = planned.physical(&sql).await?;
            let stream = execute_stream(physical, planned.state.task_ctx());
            stream
                .map(|stream| (stream, planned.session.origin.clone(), sql.clone()))
                .map_err(|error| problem::explain(error, &sql, &planned.session.origin))
        });
        let (stream, origin, sql) = stream.await?;
        let schema = Arc::clone(&prepared.schema);
        Ok(self.pump(stream, schema, sql, origin))
    }

    fn pump(&self, mut rows: SendableRecordBatchStream, schema: SchemaRef, sql: String, origin: String) -> BatchStream {
        let (sender, receiver) = mpsc::channel(BATCHES_AHEAD);
        let work = self.cpu.spawn(async move {
            while let Some(batch) = rows.next().await {
                let batch = batch.map_err(|error| problem::explain(error, &sql, &origin)).and_then(|batch| {
                    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
                    RecordBatch::try_new_with_options(Arc::clone(&schema), batch.columns().to_vec(), &options)
                        .map_err(|error| problem::arrow(&error))
                });
                let is_last = batch.is_err();
                if sender.send(batch).await.is_err() || is_last {
                    return;
                }
            }
        });
        let stream = stream::unfold((receiver, Some(work)), |(mut receiver, mut work)| async move {
            match receiver.recv().await {
                Some(batch) => Some((batch, (receiver, work))),
                // The sender went away: the rows ended, or the work panicked.
                None => match work.take()?.join().await {
                    Ok(()) => None,
                    Err(problem) => Some((Err(problem), (receiver, None))),
                },
            }
        });
        stream.boxed()
    }
}

/// The result's columns by their own names, all nullable: a result promises no more than its rows.
fn plain_schema(schema: &Schema) -> SchemaRef {
    let fields = schema.fields().iter().map(|field| {
        let mark = field.metadata().get(SQL_TYPE_MARK).map(|mark| (SQL_TYPE_MARK.to_owned(), mark.clone()));
        Field::new(field.name(), field.data_type().clone(), true).with_metadata(mark.into_iter().collect())
    });
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

/// BLAKE3 of the statement and its views, the optimised plan and its schema; snapshots stand in none of them. The plan's
/// own text leaves out what is long (rows of VALUES, arguments of table functions), the statement's does not.
fn fingerprint(statement: &str, plan: &LogicalPlan, schema: &Schema) -> String {
    let text = format!("lode-plan-2\n{statement}\n{}\n{schema:?}", plan.display_indent());
    blake3::hash(text.as_bytes()).to_hex().to_string()
}

/// Whether the plan calls a function that may answer differently next time.
fn is_volatile(plan: &LogicalPlan) -> datafusion::error::Result<bool> {
    let mut found = false;
    plan.apply_with_subqueries(|node| {
        node.apply_expressions(|expr| {
            expr.apply(|part| {
                let is_steady = match part {
                    Expr::ScalarFunction(call) => call.func.signature().volatility == Volatility::Immutable,
                    Expr::AggregateFunction(call) => call.func.signature().volatility == Volatility::Immutable,
                    _ => true,
                };
                found |= !is_steady;
                Ok(if found { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
            })
        })
    })?;
    Ok(found)
}
