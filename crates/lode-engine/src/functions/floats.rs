//! Floats beside numerics: PostgreSQL compares and computes both as double precision, the planner as numeric, which cannot
//! hold `1e20`, `1e-20` or NaN. Source: PostgreSQL 15, 10.5 (double precision is the preferred type of numbers).

use arrow::datatypes::DataType;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::config::ConfigOptions;
use datafusion::error::Result;
use datafusion::logical_expr::expr::{Between, Case, InList, ScalarFunction};
use datafusion::logical_expr::expr_rewriter::FunctionRewrite;
use datafusion::logical_expr::{BinaryExpr, Expr, ExprSchemable, Operator};

/// Functions whose arguments have one type.
const ALIKE: [&str; 10] = [
    "coalesce",
    "greatest",
    "least",
    "nullif",
    "nvl",
    "ifnull",
    "float_add",
    "float_subtract",
    "float_multiply",
    "float_divide",
];

/// Casts numerics to double where they meet a float, before types are settled.
#[derive(Debug)]
pub(super) struct Floats;

impl FunctionRewrite for Floats {
    fn name(&self) -> &str {
        "floats_beside_numerics"
    }

    fn rewrite(&self, expr: Expr, schema: &DFSchema, _: &ConfigOptions) -> Result<Transformed<Expr>> {
        match expr {
            Expr::BinaryExpr(BinaryExpr { mut left, op, mut right }) if op.is_numerical_operators() || compares(op) => {
                let changed = alike([left.as_mut(), right.as_mut()], schema)?;
                Ok(told(Expr::BinaryExpr(BinaryExpr { left, op, right }), changed))
            }
            Expr::Between(Between { mut expr, negated, mut low, mut high }) => {
                let changed = alike([expr.as_mut(), low.as_mut(), high.as_mut()], schema)?;
                Ok(told(Expr::Between(Between { expr, negated, low, high }), changed))
            }
            Expr::InList(InList { mut expr, mut list, negated }) => {
                let changed = alike(std::iter::once(expr.as_mut()).chain(&mut list), schema)?;
                Ok(told(Expr::InList(InList { expr, list, negated }), changed))
            }
            Expr::Case(case) => of_case(case, schema),
            Expr::ScalarFunction(ScalarFunction { func, mut args }) if ALIKE.contains(&func.name()) => {
                let changed = alike(&mut args, schema)?;
                Ok(told(Expr::ScalarFunction(ScalarFunction { func, args }), changed))
            }
            // The kernel divides by a power of ten, which is exact for short numbers only.
            Expr::Cast(cast) if cast.field.data_type() == &DataType::Float64 => match literal(&cast.expr) {
                Some(value) => Ok(Transformed::yes(value)),
                None => Ok(Transformed::no(Expr::Cast(cast))),
            },
            expr => Ok(Transformed::no(expr)),
        }
    }
}

fn compares(op: Operator) -> bool {
    use Operator::{Eq, Gt, GtEq, IsDistinctFrom, IsNotDistinctFrom, Lt, LtEq, NotEq};
    matches!(op, Eq | NotEq | Lt | LtEq | Gt | GtEq | IsDistinctFrom | IsNotDistinctFrom)
}

fn told(expr: Expr, changed: bool) -> Transformed<Expr> {
    if changed { Transformed::yes(expr) } else { Transformed::no(expr) }
}

fn of_case(mut case: Case, schema: &DFSchema) -> Result<Transformed<Expr>> {
    let results = case.when_then_expr.iter_mut().map(|(_, then)| then.as_mut()).chain(case.else_expr.as_deref_mut());
    let mut changed = alike(results, schema)?;
    if let Some(base) = &mut case.expr {
        let compared = case.when_then_expr.iter_mut().map(|(when, _)| when.as_mut());
        changed |= alike(std::iter::once(base.as_mut()).chain(compared), schema)?;
    }
    Ok(told(Expr::Case(case), changed))
}

/// Casts the numerics to double if a float is among them. Returns whether it did.
fn alike<'a>(exprs: impl IntoIterator<Item = &'a mut Expr>, schema: &DFSchema) -> Result<bool> {
    let mut exprs: Vec<&mut Expr> = exprs.into_iter().collect();
    let mut types = Vec::with_capacity(exprs.len());
    for expr in &exprs {
        // What has no type yet is left to the planner.
        types.push(expr.get_type(schema).unwrap_or(DataType::Null));
    }
    if !types.iter().any(DataType::is_floating) {
        return Ok(false);
    }
    let mut changed = false;
    for (expr, data_type) in exprs.iter_mut().zip(types) {
        if !matches!(data_type, DataType::Decimal128(..) | DataType::Decimal256(..)) {
            continue;
        }
        let numeric = std::mem::take(*expr);
        **expr = match literal(&numeric) {
            Some(value) => value,
            None => numeric.cast_to(&DataType::Float64, schema)?,
        };
        changed = true;
    }
    Ok(changed)
}

/// A numeric literal as the nearest double.
fn literal(expr: &Expr) -> Option<Expr> {
    let (text, metadata) = match expr {
        Expr::Negative(inner) => return negative(literal(inner)?),
        Expr::Literal(ScalarValue::Decimal128(Some(value), _, scale), metadata) => {
            (format!("{value}e{}", -i16::from(*scale)), metadata)
        }
        Expr::Literal(ScalarValue::Decimal256(Some(value), _, scale), metadata) => {
            (format!("{value}e{}", -i16::from(*scale)), metadata)
        }
        _ => return None,
    };
    Some(Expr::Literal(ScalarValue::Float64(Some(text.parse().ok()?)), metadata.clone()))
}

fn negative(expr: Expr) -> Option<Expr> {
    match expr {
        Expr::Literal(ScalarValue::Float64(Some(value)), metadata) => {
            Some(Expr::Literal(ScalarValue::Float64(Some(-value)), metadata))
        }
        _ => None,
    }
}
