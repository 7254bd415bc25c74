//! Floats beside numerics: PostgreSQL compares and computes both as double precision, the planner as numeric, which cannot
//! hold `1e20`, `1e-20` or NaN. Source: PostgreSQL 15, 10.5 (double precision is the preferred type of numbers).

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::config::ConfigOptions;
use datafusion::error::Result;
use datafusion::logical_expr::expr::{Between, Case, InList, InSubquery, ScalarFunction, SetComparison};
use datafusion::logical_expr::{
    BinaryExpr, Expr, ExprSchemable, Join, LogicalPlan, LogicalPlanBuilder, Operator, Subquery,
};
use datafusion::optimizer::AnalyzerRule;
use datafusion::optimizer::utils::NamePreserver;

use super::kernel::inputs;

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

impl AnalyzerRule for Floats {
    fn name(&self) -> &str {
        "floats_beside_numerics"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        // Once a column has become a float, what stands above it may meet one too.
        let mut has_changed = false;
        let rewritten = plan.transform_up_with_subqueries(|plan| {
            let plan = if has_changed { plan.recompute_schema()? } else { plan };
            let schema = inputs(&plan)?;
            let names = NamePreserver::new(&plan);
            let changed = plan.map_expressions(|expr| {
                let name = names.save(&expr);
                let changed = expr.transform_up(|part| rewrite(part, &schema))?;
                Ok(if changed.transformed { changed.update_data(|expr| name.restore(expr)) } else { changed })
            })?;
            let changed = changed.transform_data(|plan| match plan {
                LogicalPlan::Join(join) => keys_of(join, &schema),
                plan => Ok(Transformed::no(plan)),
            })?;
            has_changed |= changed.transformed;
            if changed.transformed { changed.map_data(LogicalPlan::recompute_schema) } else { Ok(changed) }
        })?;
        Ok(rewritten.data)
    }
}

fn keys_of(mut join: Join, schema: &DFSchema) -> Result<Transformed<LogicalPlan>> {
    let mut changed = false;
    for (left, right) in &mut join.on {
        changed |= alike([left, right], schema)?;
    }
    Ok(if changed { Transformed::yes(LogicalPlan::Join(join)) } else { Transformed::no(LogicalPlan::Join(join)) })
}

fn rewrite(expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
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
        Expr::InSubquery(InSubquery { mut expr, mut subquery, negated }) => {
            let changed = with_rows_of(&mut expr, &mut subquery, schema)?;
            Ok(told(Expr::InSubquery(InSubquery { expr, subquery, negated }), changed))
        }
        Expr::SetComparison(SetComparison { mut expr, mut subquery, op, quantifier }) => {
            let changed = with_rows_of(&mut expr, &mut subquery, schema)?;
            Ok(told(Expr::SetComparison(SetComparison { expr, subquery, op, quantifier }), changed))
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

/// A value beside the rows of a subquery: whichever is numeric beside a float becomes one.
fn with_rows_of(expr: &mut Expr, subquery: &mut Subquery, schema: &DFSchema) -> Result<bool> {
    let Some(column) = subquery.subquery.schema().columns().first().cloned() else { return Ok(false) };
    let rows = Arc::clone(subquery.subquery.schema());
    let (Ok(value), Ok(row)) = (expr.get_type(schema), Expr::Column(column.clone()).get_type(&rows)) else {
        return Ok(false);
    };
    if is_numeric(&value) && row.is_floating() {
        to_double(expr, schema)?;
        return Ok(true);
    }
    if value.is_floating() && is_numeric(&row) {
        let cast = Expr::Column(column.clone()).cast_to(&DataType::Float64, &rows)?.alias(column.name());
        let plan = LogicalPlanBuilder::from(Arc::clone(&subquery.subquery)).project([cast])?.build()?;
        subquery.subquery = Arc::new(plan);
        return Ok(true);
    }
    Ok(false)
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
        if !is_numeric(&data_type) {
            continue;
        }
        to_double(expr, schema)?;
        changed = true;
    }
    Ok(changed)
}

fn is_numeric(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Decimal128(..) | DataType::Decimal256(..))
}

fn to_double(expr: &mut Expr, schema: &DFSchema) -> Result<()> {
    let numeric = std::mem::take(expr);
    *expr = match literal(&numeric) {
        Some(value) => value,
        None => numeric.cast_to(&DataType::Float64, schema)?,
    };
    Ok(())
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
