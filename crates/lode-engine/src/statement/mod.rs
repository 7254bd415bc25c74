//! Statements of a person or a client: queries, and the DDL and DML that work.

mod change;
mod ddl;
mod dml;
mod merge;
mod names;
mod show;
mod tables;

use std::collections::VecDeque;

use arrow::datatypes::SchemaRef;
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::Statement as Sql;

use lode_core::{BatchStream, ErrorKind, Place, Problem, SqlSession};

use crate::engine::Engine;
use crate::parse;

pub(crate) use names::folded;
pub(crate) use tables::{TABLE_FUNCTIONS, register_table_functions, table_function};

/// What one statement gave.
pub enum StatementResult {
    Rows {
        schema: SchemaRef,
        rows: BatchStream,
    },
    /// A statement without rows: PostgreSQL's command tag, and the rows that it wrote.
    Done {
        tag: String,
        rows: Option<u64>,
    },
}

/// Statements separated by `;`, run one after the other. What ran before an error stays.
pub struct Script {
    engine: Engine,
    sql: String,
    session: SqlSession,
    left: VecDeque<Statement>,
}

impl Script {
    /// Runs the next statement; `None` at the end. Read its rows before asking for the next.
    pub async fn next(&mut self) -> Option<Result<StatementResult, Problem>> {
        let statement = self.left.pop_front()?;
        let result = self.engine.execute(statement, &self.sql, &self.session).await;
        if result.is_err() {
            self.left.clear();
        }
        Some(result)
    }

    /// Statements not run yet.
    pub fn left(&self) -> usize {
        self.left.len()
    }
}

impl Engine {
    /// Parses a text of statements. Errors: `Syntax` with the place, before anything ran.
    pub fn script(&self, sql: &str, session: &SqlSession) -> Result<Script, Problem> {
        let left = parse::statements(sql, &session.origin)?.into();
        Ok(Script { engine: self.clone(), sql: sql.to_owned(), session: session.clone(), left })
    }

    /// Runs all statements of a text and returns what the last one gave.
    /// Errors: `Syntax`, `Unsupported` (SQLSTATE 0A000), and those of the statement.
    pub async fn statement(&self, sql: &str, session: &SqlSession) -> Result<StatementResult, Problem> {
        let mut script = self.script(sql, session)?;
        let mut last = None;
        while let Some(result) = script.next().await {
            last = Some(result?);
        }
        last.ok_or_else(|| {
            Problem::new(ErrorKind::Syntax, "there is no statement")
                .at(Place::of(&session.origin))
                .fix("write one, e.g. `select 1`")
        })
    }

    async fn execute(&self, statement: Statement, sql: &str, session: &SqlSession) -> Result<StatementResult, Problem> {
        let inner = match &statement {
            Statement::Explain(explain) => {
                require_query(&explain.statement, sql, session)?;
                return self.query(statement, sql, session).await;
            }
            Statement::Statement(inner) => inner.as_ref().clone(),
            _ => return Err(unsupported(&statement.to_string(), sql, session)),
        };
        match inner {
            Sql::Query(_) => self.query(statement, sql, session).await,
            Sql::ShowTables { show_options, .. } => show::tables(&self.inner, &show_options, session).await,
            Sql::ShowSchemas { .. } => show::schemas(&self.inner).await,
            Sql::ShowColumns { show_options, .. } => show::columns(&self.inner, &show_options, session).await,
            Sql::ExplainTable { table_name, .. } => show::describe(&self.inner, &table_name, session).await,
            Sql::CreateTable(create) => self.inner.create_table(create, sql, session).await,
            Sql::CreateView(create) => self.inner.create_view(create, sql, session).await,
            // A schema is there with its first table.
            Sql::CreateSchema { .. } => Ok(done("CREATE SCHEMA")),
            Sql::Drop { .. } => self.inner.drop_relations(inner, sql, session).await,
            Sql::Delete(delete) => self.inner.delete(delete, sql, session).await,
            Sql::Update(update) => self.inner.update(update, sql, session).await,
            Sql::Merge(merge) => self.inner.merge_into(merge, sql, session).await,
            Sql::Insert(ref insert) => self.inner.insert(insert, &statement, sql, session).await,
            other => Err(unsupported(&other.to_string(), sql, session)),
        }
    }

    async fn query(&self, statement: Statement, sql: &str, session: &SqlSession) -> Result<StatementResult, Problem> {
        let prepared = self.inner.plan(statement, sql, session).await?;
        let rows = self.inner.run(&prepared).await?;
        Ok(StatementResult::Rows { schema: prepared.schema, rows })
    }
}

fn done(tag: &str) -> StatementResult {
    StatementResult::Done { tag: tag.to_owned(), rows: None }
}

fn unsupported(statement: &str, sql: &str, session: &SqlSession) -> Problem {
    let words: Vec<&str> = statement.split_whitespace().take(2).collect();
    let first = words.first().copied().unwrap_or_default();
    let place = crate::problem::place_of_word(sql, &session.origin, first);
    let problem =
        Problem::new(ErrorKind::Unsupported, format!("`{}` is not supported", words.join(" ").to_lowercase())).fix(
            "these work: select, explain, show tables | schemas | columns, describe, create table | view, drop, insert, update, delete, merge",
        );
    match place {
        Some(place) => problem.at(place),
        None => problem,
    }
}

/// Errors: `Unsupported` unless the statement yields rows and changes nothing.
pub(crate) fn require_query(statement: &Statement, sql: &str, session: &SqlSession) -> Result<(), Problem> {
    if matches!(statement, Statement::Statement(inner) if matches!(inner.as_ref(), Sql::Query(_))) {
        return Ok(());
    }
    Err(Problem::new(ErrorKind::Unsupported, "only a `select` can stand here")
        .at(Place::at(&session.origin, sql, 1, 1))
        .fix("write a `select`, `with … select` or `values`"))
}
