//! What the parser reads but the planner answers otherwise than PostgreSQL, rewritten before planning.

mod joins;

use std::ops::ControlFlow;

use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{
    CharacterLength, DataType, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentList, FunctionArguments,
    Ident, ObjectName, Query, Select, SelectItem, SetExpr, Statement as Ast, TableFactor, Value, VisitMut, VisitorMut,
};
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::parser::Parser;

use lode_core::Problem;

use crate::functions::intervals::without_clock;

/// Rewrites every expression of a statement. Errors: `Unsupported` for what would be answered wrongly.
pub(crate) fn rewrite(statement: &mut Statement) -> Result<(), Problem> {
    match statement {
        Statement::Statement(inner) => done(inner.as_mut().visit(&mut Rewrite)),
        Statement::Explain(explain) => rewrite(&mut explain.statement),
        _ => Ok(()),
    }
}

/// Rewrites one expression.
pub(crate) fn rewrite_expr(expr: &mut Expr) -> Result<(), Problem> {
    done(expr.visit(&mut Rewrite))
}

fn done(flow: ControlFlow<Problem>) -> Result<(), Problem> {
    match flow {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(problem) => Err(problem),
    }
}

fn flow(result: Result<(), Problem>) -> ControlFlow<Problem> {
    match result {
        Ok(()) => ControlFlow::Continue(()),
        Err(problem) => ControlFlow::Break(problem),
    }
}

struct Rewrite;

impl VisitorMut for Rewrite {
    type Break = Problem;

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<Problem> {
        flow(joins::rewrite_order(query))
    }

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<Problem> {
        select.projection.iter_mut().for_each(name_cast);
        flow(joins::rewrite(select))
    }

    fn pre_visit_table_factor(&mut self, table: &mut TableFactor) -> ControlFlow<Problem> {
        flow(joins::check(table))
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Problem> {
        match expr {
            // The planner takes a column of the subquery for one of the query around it when their tables have one name.
            Expr::AnyOp { right, .. } | Expr::AllOp { right, .. } => {
                if let Expr::Subquery(query) = right.as_mut() {
                    rename_rows(query);
                }
            }
            Expr::Interval(interval) => {
                if let Expr::Value(value) = interval.value.as_mut()
                    && let Value::SingleQuotedString(text) = &mut value.value
                    && let Some(plain) = without_clock(text)
                {
                    *text = plain;
                }
            }
            // `t at time zone z` is `timezone(z, t)`, whose type depends on the type of `t`.
            Expr::AtTimeZone { timestamp, time_zone } => {
                *expr = call("timezone", vec![time_zone.as_ref().clone(), timestamp.as_ref().clone()]);
            }
            // A cast to `varchar(n)` cuts, and blanks at the end of a `char(n)` do not count. The cast that stays has no
            // length: text that was rewritten and parsed again is the same.
            Expr::Cast { expr: inner, data_type, .. } => {
                // A numeric literal has 76 digits at most; as text the number is read as the float that it becomes.
                if let (Expr::Value(value), true) = (inner.as_mut(), is_double(data_type))
                    && let Value::Number(number, _) = &value.value
                {
                    value.value = Value::SingleQuotedString(number.to_string());
                }
                if let Some((length, is_padded)) = length_of(data_type) {
                    *data_type = DataType::Varchar(None);
                    let length = Expr::Value(Value::Number(length.to_string(), false).into());
                    let cut = call("left", vec![expr.clone(), length]);
                    *expr = if is_padded { call("rtrim", vec![cut]) } else { cut };
                }
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

/// Names a column that is cast and has no name of its own as the column. Source: PostgreSQL 15, `FigureColname`.
fn name_cast(item: &mut SelectItem) {
    let SelectItem::UnnamedExpr(expr) = item else { return };
    let mut inner = &*expr;
    while let Expr::Cast { expr, .. } | Expr::Nested(expr) = inner {
        inner = expr;
    }
    let alias = match inner {
        Expr::Identifier(name) => Some(name),
        Expr::CompoundIdentifier(names) => names.last(),
        _ => None,
    };
    if let (Expr::Cast { .. }, Some(alias)) = (&*expr, alias.cloned()) {
        *item = SelectItem::ExprWithAlias { expr: expr.clone(), alias };
    }
}

/// Name of the rows that a value is compared with.
const COMPARED: &str = "_compared";

/// Puts `select * from (…) as _compared` around a query.
fn rename_rows(query: &mut Query) {
    let is_named = |table: &TableFactor| matches!(table, TableFactor::Derived { alias: Some(alias), .. } if alias.name.value == COMPARED);
    // A view is kept as the text that was made of it, and read again.
    if matches!(query.body.as_ref(), SetExpr::Select(select) if select.from.iter().any(|from| is_named(&from.relation)))
    {
        return;
    }
    let parsed = Parser::parse_sql(&PostgreSqlDialect {}, &format!("select * from (select 1) as {COMPARED}"));
    let Some(Ast::Query(mut around)) = parsed.ok().and_then(|mut statements| statements.pop()) else { return };
    if let SetExpr::Select(select) = around.body.as_mut()
        && let Some(TableFactor::Derived { subquery, .. }) = select.from.first_mut().map(|from| &mut from.relation)
    {
        std::mem::swap(subquery.as_mut(), query);
        *query = *around;
    }
}

fn is_double(data_type: &DataType) -> bool {
    matches!(data_type, DataType::DoublePrecision | DataType::Float8 | DataType::Double(_))
}

/// Characters that a text type holds, and whether PostgreSQL pads it.
fn length_of(data_type: &DataType) -> Option<(u64, bool)> {
    let (length, is_padded) = match data_type {
        DataType::Varchar(length) | DataType::CharacterVarying(length) => (length.as_ref()?, false),
        DataType::Char(Some(length)) | DataType::Character(Some(length)) => (length, true),
        // Bare `char` is `char(1)`.
        DataType::Char(None) | DataType::Character(None) => return Some((1, true)),
        _ => return None,
    };
    match length {
        CharacterLength::IntegerLength { length, .. } => Some((*length, is_padded)),
        CharacterLength::Max => None,
    }
}

fn call(name: &str, arguments: Vec<Expr>) -> Expr {
    let args = arguments.into_iter().map(|expr| FunctionArg::Unnamed(FunctionArgExpr::Expr(expr))).collect();
    Expr::Function(Function {
        name: ObjectName::from(vec![Ident::new(name)]),
        uses_odbc_syntax: false,
        parameters: FunctionArguments::None,
        args: FunctionArguments::List(FunctionArgumentList { duplicate_treatment: None, args, clauses: Vec::new() }),
        filter: None,
        null_treatment: None,
        over: None,
        within_group: Vec::new(),
    })
}
