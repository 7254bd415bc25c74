//! Statements of a person or a client: queries, and the DDL and DML that work.

use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::Statement as Sql;

use lode_core::{ErrorKind, Place, Problem, SqlSession};

mod tables;

pub(crate) use tables::{TABLE_FUNCTIONS, register_table_functions, table_function};

/// Errors: `Unsupported` unless the statement yields rows and changes nothing.
pub(crate) fn require_query(statement: &Statement, sql: &str, session: &SqlSession) -> Result<(), Problem> {
    if matches!(statement, Statement::Statement(inner) if matches!(inner.as_ref(), Sql::Query(_))) {
        return Ok(());
    }
    Err(Problem::new(ErrorKind::Unsupported, "only a `select` can stand here")
        .at(Place::at(&session.origin, sql, 1, 1))
        .fix("write a `select`, `with … select` or `values`"))
}
