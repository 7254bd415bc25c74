//! What the parser reads but the planner answers otherwise than PostgreSQL, rewritten before planning.

use std::ops::ControlFlow;

use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{
    CharacterLength, DataType, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentList, FunctionArguments,
    Ident, ObjectName, Value, VisitMut, VisitorMut,
};

/// Rewrites every expression of a statement.
pub(crate) fn rewrite(statement: &mut Statement) {
    match statement {
        Statement::Statement(inner) => {
            let _ = inner.as_mut().visit(&mut Rewrite);
        }
        Statement::Explain(explain) => rewrite(&mut explain.statement),
        _ => {}
    }
}

/// Rewrites one expression.
pub(crate) fn rewrite_expr(expr: &mut Expr) {
    let _ = expr.visit(&mut Rewrite);
}

struct Rewrite;

impl VisitorMut for Rewrite {
    type Break = ();

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        match expr {
            // `t at time zone z` is `timezone(z, t)`, whose type depends on the type of `t`.
            Expr::AtTimeZone { timestamp, time_zone } => {
                *expr = call("timezone", vec![time_zone.as_ref().clone(), timestamp.as_ref().clone()]);
            }
            // A cast to `varchar(n)` cuts.
            Expr::Cast { data_type, .. } => {
                if let Some(length) = length_of(data_type) {
                    let inner = expr.clone();
                    let length = Expr::Value(Value::Number(length.to_string(), false).into());
                    *expr = call("left", vec![inner, length]);
                }
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

fn length_of(data_type: &DataType) -> Option<u64> {
    let length = match data_type {
        DataType::Varchar(length) | DataType::CharacterVarying(length) => length.as_ref()?,
        _ => return None,
    };
    match length {
        CharacterLength::IntegerLength { length, .. } => Some(*length),
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
