//! `sum` of integers that cannot wrap, `avg` of numerics with PostgreSQL's digits, `count(distinct (a, b))` within memory.

use std::sync::Arc;

use arrow::array::{Array, BinaryArray};
use arrow::datatypes::DataType;
use arrow::row::{RowConverter, SortField};
use datafusion::common::tree_node::Transformed;
use datafusion::common::{Column, DFSchema};
use datafusion::config::ConfigOptions;
use datafusion::error::Result;
use datafusion::logical_expr::expr::AggregateFunction;
use datafusion::logical_expr::expr_rewriter::FunctionRewrite;
use datafusion::logical_expr::{
    Aggregate, ColumnarValue, Expr, ExprSchemable, LogicalPlan, Projection, ScalarFunctionArgs, ScalarUDF,
    ScalarUDFImpl, Signature, Volatility,
};
use datafusion::optimizer::AnalyzerRule;

use super::kernel::{argument, over_arrays};

/// Digits behind the point of the argument of `avg`; the answer has four more.
const AVERAGE_SCALE: i8 = 12;

/// Averages of numerics: the argument gets more digits before types are settled.
#[derive(Debug)]
pub(super) struct Averages;

impl FunctionRewrite for Averages {
    fn name(&self) -> &str {
        "numeric_averages"
    }

    fn rewrite(&self, expr: Expr, schema: &DFSchema, _: &ConfigOptions) -> Result<Transformed<Expr>> {
        let Expr::AggregateFunction(mut call) = expr else { return Ok(Transformed::no(expr)) };
        if let ("count", true, [argument]) = (call.func.name(), call.params.distinct, call.params.args.as_mut_slice())
            && matches!(argument.get_type(schema), Ok(DataType::Struct(_)))
        {
            *argument = Arc::new(row_key()).call(vec![std::mem::take(argument)]);
            return Ok(Transformed::yes(Expr::AggregateFunction(call)));
        }
        let wider = match call.params.args.as_slice() {
            [argument] if call.func.name() == "avg" => match argument.get_type(schema) {
                Ok(DataType::Decimal128(precision, scale)) if scale < AVERAGE_SCALE => {
                    let integer = i16::from(precision) - i16::from(scale);
                    let fits = integer + i16::from(AVERAGE_SCALE) <= 34;
                    fits.then(|| DataType::Decimal128((integer + i16::from(AVERAGE_SCALE)) as u8, AVERAGE_SCALE))
                }
                _ => None,
            },
            _ => None,
        };
        let Some(wider) = wider else { return Ok(Transformed::no(Expr::AggregateFunction(call))) };
        call.params.args = call
            .params
            .args
            .into_iter()
            .map(|argument| argument.cast_to(&wider, schema))
            .collect::<Result<Vec<Expr>>>()?;
        Ok(Transformed::yes(Expr::AggregateFunction(call)))
    }
}

pub(super) fn row_key() -> ScalarUDF {
    super::function(RowKey { signature: Signature::any(1, Volatility::Immutable) })
}

/// A composite value as bytes that are equal when it is. The kernel that counts distinct values keeps each composite one
/// with all the rows that it came with.
#[derive(Debug, PartialEq, Eq, Hash)]
struct RowKey {
    signature: Signature,
}

impl ScalarUDFImpl for RowKey {
    fn name(&self) -> &str {
        "_row_key"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Binary)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        over_arrays(&args, |arrays| {
            let array = argument(arrays, 0)?;
            let converter = RowConverter::new(vec![SortField::new(array.data_type().clone())])?;
            let rows = converter.convert_columns(std::slice::from_ref(array))?;
            let keys = rows.iter().enumerate().map(|(at, row)| array.is_valid(at).then(|| row.as_ref().to_vec()));
            Ok(Arc::new(keys.collect::<BinaryArray>()))
        })
    }
}

/// Sums of bigint are made as numeric and cast back, which fails where the kernel would wrap.
#[derive(Debug)]
pub(super) struct Sums;

impl AnalyzerRule for Sums {
    fn name(&self) -> &str {
        "checked_sums"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        let rewritten = plan.transform_up_with_subqueries(|node| match node {
            LogicalPlan::Aggregate(aggregate) => rewrite(aggregate),
            node => Ok(Transformed::no(node)),
        })?;
        Ok(rewritten.data)
    }
}

fn rewrite(aggregate: Aggregate) -> Result<Transformed<LogicalPlan>> {
    let input = aggregate.input.schema();
    let is_sum: Vec<bool> =
        aggregate.aggr_expr.iter().map(|expr| integer_sum(expr).is_some_and(|arg| is_bigint(arg, input))).collect();
    if !is_sum.contains(&true) {
        return Ok(Transformed::no(LogicalPlan::Aggregate(aggregate)));
    }
    let before = Arc::clone(&aggregate.schema);
    let groups = before.fields().len() - aggregate.aggr_expr.len();
    let exprs: Result<Vec<Expr>> = aggregate
        .aggr_expr
        .into_iter()
        .zip(&is_sum)
        .enumerate()
        .map(|(at, (expr, is_sum))| {
            if !is_sum {
                return Ok(expr);
            }
            let name = before.field(groups + at).name().clone();
            Ok(as_numeric(expr, input)?.alias(name))
        })
        .collect();
    let aggregate = Aggregate::try_new(Arc::clone(&aggregate.input), aggregate.group_expr, exprs?)?;
    let columns: Result<Vec<Expr>> = before
        .iter()
        .enumerate()
        .map(|(at, (qualifier, field))| {
            let column = Expr::Column(Column::new(qualifier.cloned(), field.name()));
            let is_sum = at.checked_sub(groups).and_then(|at| is_sum.get(at)).copied().unwrap_or_default();
            if !is_sum {
                return Ok(column);
            }
            let back = column.cast_to(&DataType::Int64, &aggregate.schema)?;
            Ok(back.alias_qualified(qualifier.cloned(), field.name()))
        })
        .collect();
    let plan = Projection::try_new(columns?, Arc::new(LogicalPlan::Aggregate(aggregate)))?;
    Ok(Transformed::yes(LogicalPlan::Projection(plan)))
}

/// The argument of `sum(x)`, under an alias or not.
fn integer_sum(expr: &Expr) -> Option<&Expr> {
    match expr {
        Expr::Alias(alias) => integer_sum(&alias.expr),
        Expr::AggregateFunction(AggregateFunction { func, params }) if func.name() == "sum" => params.args.first(),
        _ => None,
    }
}

fn is_bigint(argument: &Expr, schema: &DFSchema) -> bool {
    argument.get_type(schema).is_ok_and(|data_type| data_type == DataType::Int64)
}

fn as_numeric(expr: Expr, schema: &DFSchema) -> Result<Expr> {
    match expr {
        Expr::Alias(alias) => as_numeric(*alias.expr, schema),
        Expr::AggregateFunction(mut call) => {
            let wide = DataType::Decimal128(38, 0);
            let args = call.params.args.into_iter();
            call.params.args = args.map(|argument| argument.cast_to(&wide, schema)).collect::<Result<Vec<Expr>>>()?;
            Ok(Expr::AggregateFunction(call))
        }
        other => Ok(other),
    }
}
