//! SQL text to statements, one dialect for all doors.

use datafusion::sql::parser::{DFParserBuilder, Statement};
use datafusion::sql::sqlparser::ast::ExprWithAlias;
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;

use lode_core::Problem;

use crate::{dialect, problem};

/// Nested expressions and subqueries beyond this are refused rather than risk the stack.
const RECURSION_LIMIT: usize = 128;

/// Parses statements separated by `;`. Errors: `Syntax` with the place in `sql`.
pub(crate) fn statements(sql: &str, origin: &str) -> Result<Vec<Statement>, Problem> {
    DFParserBuilder::new(sql)
        .with_dialect(&PostgreSqlDialect {})
        .with_recursion_limit(RECURSION_LIMIT)
        .build()
        .and_then(|mut parser| parser.parse_statements())
        .map_err(|error| problem::explain(error, sql, origin))
        .and_then(|statements| {
            let mut statements = Vec::from(statements);
            statements.iter_mut().try_for_each(dialect::rewrite)?;
            Ok(statements)
        })
}

/// Parses one expression. Errors: `Syntax` with the place in `sql`.
pub(crate) fn expression(sql: &str, origin: &str) -> Result<ExprWithAlias, Problem> {
    let mut expr = DFParserBuilder::new(sql)
        .with_dialect(&PostgreSqlDialect {})
        .with_recursion_limit(RECURSION_LIMIT)
        .build()
        .and_then(|mut parser| parser.parse_into_expr())
        .map_err(|error| problem::explain(error, sql, origin))?;
    dialect::rewrite_expr(&mut expr.expr)?;
    Ok(expr)
}
