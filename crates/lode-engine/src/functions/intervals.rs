//! Differences of timestamps as intervals, and intervals compared by their length.

use std::sync::Arc;

use arrow::array::types::{IntervalMonthDayNano, IntervalMonthDayNanoType};
use arrow::array::{AsArray, Decimal128Array, IntervalMonthDayNanoArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, IntervalUnit, TimestampMicrosecondType};
use arrow::error::ArrowError;
use datafusion::common::DFSchema;
use datafusion::error::Result;
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawBinaryExpr};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ExprSchemable, Operator, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
    binary_expr,
};
use datafusion::sql::sqlparser::ast::BinaryOperator;

use lode_core::{sql_type, values};

use super::kernel::{argument, by_row, clipped, data, over_arrays};

const MICROS_A_DAY: i64 = 86_400_000_000;

/// The text of an interval with a clock as the planner's own reader takes it; `None` without a clock.
pub(crate) fn without_clock(text: &str) -> Option<String> {
    let IntervalMonthDayNano { months, days, nanoseconds } = values::interval(text).filter(|_| text.contains(':'))?;
    let (seconds, micros) = (nanoseconds / 1_000_000_000, nanoseconds.unsigned_abs() / 1_000 % 1_000_000);
    let sign = if nanoseconds < 0 && seconds == 0 { "-" } else { "" };
    Some(format!("{months} mons {days} days {sign}{seconds}.{micros:06} secs"))
}

/// A text as an interval.
pub(super) fn read(text: &str) -> Result<IntervalMonthDayNano> {
    values::interval(text).ok_or_else(|| {
        data(format!("\"{}\" is not an interval", clipped(text)), "write it as '1 day 02:00:00' or '3 hours'")
    })
}

/// The length of an interval, as which it is compared.
pub(super) fn length_of(interval: Expr) -> Expr {
    let [_, length] = functions();
    Arc::new(length).call(vec![interval])
}

pub(super) fn functions() -> [ScalarUDF; 2] {
    let of = |is_length: bool| {
        let signature = Signature::any(if is_length { 1 } else { 2 }, Volatility::Immutable);
        super::function(Interval { is_length, signature })
    };
    [of(false), of(true)]
}

#[derive(Debug)]
pub(super) struct Operators;

impl ExprPlanner for Operators {
    fn plan_binary_op(&self, expr: RawBinaryExpr, schema: &DFSchema) -> Result<PlannerResult<RawBinaryExpr>> {
        let (Ok(left), Ok(right)) = (expr.left.get_type(schema), expr.right.get_type(schema)) else {
            return Ok(PlannerResult::Original(expr));
        };
        let is_time = |data_type: &DataType| matches!(data_type, DataType::Timestamp(..) | DataType::Date32);
        let is_date = |data_type: &DataType| data_type == &DataType::Date32;
        let is_interval = |data_type: &DataType| matches!(data_type, DataType::Interval(_));
        let [difference, length] = functions();
        if expr.op == BinaryOperator::Minus && is_time(&left) && is_time(&right) && !(is_date(&left) && is_date(&right))
        {
            return Ok(PlannerResult::Planned(Arc::new(difference).call(vec![expr.left, expr.right])));
        }
        if is_interval(&left)
            && is_interval(&right)
            && let Some(op) = comparison(&expr.op)
        {
            let length = Arc::new(length);
            let (left, right) = (length.call(vec![expr.left]), length.call(vec![expr.right]));
            return Ok(PlannerResult::Planned(binary_expr(left, op, right)));
        }
        Ok(PlannerResult::Original(expr))
    }
}

fn comparison(op: &BinaryOperator) -> Option<Operator> {
    Some(match op {
        BinaryOperator::Eq => Operator::Eq,
        BinaryOperator::NotEq => Operator::NotEq,
        BinaryOperator::Lt => Operator::Lt,
        BinaryOperator::LtEq => Operator::LtEq,
        BinaryOperator::Gt => Operator::Gt,
        BinaryOperator::GtEq => Operator::GtEq,
        _ => return None,
    })
}

/// `time_difference(a, b)` in days and time, and `interval_length(i)` in microseconds, a month counting 30 days.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Interval {
    is_length: bool,
    signature: Signature,
}

impl ScalarUDFImpl for Interval {
    fn name(&self) -> &str {
        if self.is_length { "interval_length" } else { "time_difference" }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn schema_name(&self, args: &[Expr]) -> Result<String> {
        let shown: Vec<String> = args.iter().map(|arg| arg.schema_name().to_string()).collect();
        Ok(shown.join(" - "))
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(if self.is_length { DataType::Decimal128(38, 0) } else { DataType::Interval(IntervalUnit::MonthDayNano) })
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        over_arrays(&args, |arrays| {
            if self.is_length {
                let values = cast(argument(arrays, 0)?, &DataType::Interval(IntervalUnit::MonthDayNano))?;
                let values = values.as_primitive::<IntervalMonthDayNanoType>();
                let lengths: Decimal128Array = by_row(&[values], values.len(), |at| Ok(length(values.value(at))))?;
                return Ok(Arc::new(lengths.with_precision_and_scale(38, 0)?));
            }
            let first = cast(argument(arrays, 0)?, &sql_type::timestamp())?;
            let second = cast(argument(arrays, 1)?, &sql_type::timestamp())?;
            let (first, second) =
                (first.as_primitive::<TimestampMicrosecondType>(), second.as_primitive::<TimestampMicrosecondType>());
            let answer: IntervalMonthDayNanoArray = by_row(&[first, second], first.len(), |at| {
                let overflow = || ArrowError::ArithmeticOverflow("timestamp difference".to_owned());
                let micros = first.value(at).checked_sub(second.value(at)).ok_or_else(overflow)?;
                let days = i32::try_from(micros / MICROS_A_DAY).map_err(|_| overflow())?;
                Ok(IntervalMonthDayNano::new(0, days, micros % MICROS_A_DAY * 1_000))
            })?;
            Ok(Arc::new(answer))
        })
    }
}

fn length(value: IntervalMonthDayNano) -> i128 {
    let days = i128::from(value.months) * 30 + i128::from(value.days);
    days * i128::from(MICROS_A_DAY) + i128::from(value.nanoseconds / 1_000)
}
