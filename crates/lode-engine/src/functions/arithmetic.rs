//! Operators that must answer as PostgreSQL does: integers that overflow and floats divided by zero are errors, numeric
//! division keeps 16 digits, and intervals can be multiplied.

use std::sync::Arc;

use arrow::array::types::{Decimal128Type, IntervalMonthDayNano, IntervalMonthDayNanoType};
use arrow::array::{Array, ArrayRef, AsArray, Decimal128Array, Float64Array, IntervalMonthDayNanoArray};
use arrow::compute::cast;
use arrow::compute::kernels::numeric;
use arrow::datatypes::{DataType, Float32Type, Float64Type, IntervalUnit, i256};
use arrow::error::ArrowError;
use datafusion::common::DFSchema;
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawBinaryExpr};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ExprSchemable, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use datafusion::sql::sqlparser::ast::BinaryOperator;

use lode_core::sql_type;

use super::kernel::{argument, by_row, over_arrays};

/// Scale that numeric division has at least, where the digits before the point leave room. PostgreSQL keeps 16
/// significant digits; a column needs one scale for all of its rows.
const DIVISION_SCALE: i32 = 16;
const MAX_DIGITS: i32 = 38;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Operation {
    Add,
    Subtract,
    Multiply,
    FloatAdd,
    FloatSubtract,
    FloatMultiply,
    FloatDivide,
    NumericDivide,
    IntervalMultiply,
    IntervalDivide,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Arithmetic {
    operation: Operation,
    signature: Signature,
}

const ALL: [Operation; 10] = [
    Operation::Add,
    Operation::Subtract,
    Operation::Multiply,
    Operation::FloatAdd,
    Operation::FloatSubtract,
    Operation::FloatMultiply,
    Operation::FloatDivide,
    Operation::NumericDivide,
    Operation::IntervalMultiply,
    Operation::IntervalDivide,
];

impl Operation {
    const fn name(self) -> &'static str {
        match self {
            Self::Add => "checked_add",
            Self::Subtract => "checked_subtract",
            Self::Multiply => "checked_multiply",
            Self::FloatAdd => "float_add",
            Self::FloatSubtract => "float_subtract",
            Self::FloatMultiply => "float_multiply",
            Self::FloatDivide => "float_divide",
            Self::NumericDivide => "numeric_divide",
            Self::IntervalMultiply => "interval_multiply",
            Self::IntervalDivide => "interval_divide",
        }
    }

    const fn sign(self) -> &'static str {
        match self {
            Self::Add | Self::FloatAdd => "+",
            Self::Subtract | Self::FloatSubtract => "-",
            Self::Multiply | Self::FloatMultiply | Self::IntervalMultiply => "*",
            Self::FloatDivide | Self::NumericDivide | Self::IntervalDivide => "/",
        }
    }
}

impl Arithmetic {
    fn new(operation: Operation) -> Self {
        Self { operation, signature: Signature::any(2, Volatility::Immutable) }
    }
}

pub(super) fn functions() -> Vec<ScalarUDF> {
    ALL.into_iter().map(|operation| super::function(Arithmetic::new(operation))).collect()
}

/// Puts the functions in the place of the operators while the statement is planned, when types are known.
#[derive(Debug)]
pub(super) struct Operators;

impl ExprPlanner for Operators {
    fn plan_binary_op(&self, expr: RawBinaryExpr, schema: &DFSchema) -> Result<PlannerResult<RawBinaryExpr>> {
        let (Ok(left), Ok(right)) = (expr.left.get_type(schema), expr.right.get_type(schema)) else {
            return Ok(PlannerResult::Original(expr));
        };
        if let Some(expr) = date_with_interval(&expr, &left, &right, schema)? {
            return Ok(PlannerResult::Original(expr));
        }
        let Some((operation, swap)) = choose(&expr.op, &left, &right) else {
            return Ok(PlannerResult::Original(expr));
        };
        let arguments = if swap { vec![expr.right, expr.left] } else { vec![expr.left, expr.right] };
        let function = Arc::new(ScalarUDF::new_from_impl(Arithmetic::new(operation)));
        Ok(PlannerResult::Planned(function.call(arguments)))
    }
}

/// A date and an interval give a timestamp, or the interval's hours were lost.
fn date_with_interval(
    expr: &RawBinaryExpr,
    left: &DataType,
    right: &DataType,
    schema: &DFSchema,
) -> Result<Option<RawBinaryExpr>> {
    let is_sum = matches!(expr.op, BinaryOperator::Plus | BinaryOperator::Minus);
    let is_date = |data_type: &DataType| data_type == &DataType::Date32;
    let is_interval = |data_type: &DataType| matches!(data_type, DataType::Interval(_));
    let as_time = |date: &Expr| date.clone().cast_to(&sql_type::timestamp(), schema);
    let RawBinaryExpr { op, left: first, right: second } = expr;
    Ok(if is_sum && is_date(left) && is_interval(right) {
        Some(RawBinaryExpr { op: op.clone(), left: as_time(first)?, right: second.clone() })
    } else if is_sum && is_interval(left) && is_date(right) {
        Some(RawBinaryExpr { op: op.clone(), left: first.clone(), right: as_time(second)? })
    } else {
        None
    })
}

fn choose(op: &BinaryOperator, left: &DataType, right: &DataType) -> Option<(Operation, bool)> {
    let integers = left.is_signed_integer() && right.is_signed_integer();
    let is_interval = |data_type: &DataType| matches!(data_type, DataType::Interval(_));
    let has_float = left.is_floating() || right.is_floating();
    let has_decimal = matches!(left, DataType::Decimal128(..)) || matches!(right, DataType::Decimal128(..));
    let numbers = left.is_numeric() && right.is_numeric();
    Some(match op {
        BinaryOperator::Plus if integers => (Operation::Add, false),
        BinaryOperator::Minus if integers => (Operation::Subtract, false),
        BinaryOperator::Multiply if integers => (Operation::Multiply, false),
        BinaryOperator::Multiply if is_interval(left) && right.is_numeric() => (Operation::IntervalMultiply, false),
        BinaryOperator::Multiply if left.is_numeric() && is_interval(right) => (Operation::IntervalMultiply, true),
        BinaryOperator::Divide if is_interval(left) && right.is_numeric() => (Operation::IntervalDivide, false),
        BinaryOperator::Plus if numbers && has_float => (Operation::FloatAdd, false),
        BinaryOperator::Minus if numbers && has_float => (Operation::FloatSubtract, false),
        BinaryOperator::Multiply if numbers && has_float => (Operation::FloatMultiply, false),
        BinaryOperator::Divide if numbers && has_float => (Operation::FloatDivide, false),
        BinaryOperator::Divide if numbers && has_decimal => (Operation::NumericDivide, false),
        _ => return None,
    })
}

impl ScalarUDFImpl for Arithmetic {
    fn name(&self) -> &str {
        self.operation.name()
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn display_name(&self, args: &[Expr]) -> Result<String> {
        let shown: Vec<String> = args.iter().map(ToString::to_string).collect();
        Ok(shown.join(&format!(" {} ", self.operation.sign())))
    }

    fn schema_name(&self, args: &[Expr]) -> Result<String> {
        let shown: Vec<String> = args.iter().map(|arg| arg.schema_name().to_string()).collect();
        Ok(shown.join(&format!(" {} ", self.operation.sign())))
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        let [left, right] = types else { return Err(DataFusionError::Internal("two operands".into())) };
        Ok(match self.operation {
            Operation::Add | Operation::Subtract | Operation::Multiply => wider(left, right),
            Operation::FloatAdd | Operation::FloatSubtract | Operation::FloatMultiply | Operation::FloatDivide => {
                let is_single = left == &DataType::Float32 && right == &DataType::Float32;
                if is_single { DataType::Float32 } else { DataType::Float64 }
            }
            Operation::NumericDivide => quotient(left, right),
            Operation::IntervalMultiply | Operation::IntervalDivide => DataType::Interval(IntervalUnit::MonthDayNano),
        })
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let wanted = args.return_field.data_type().clone();
        over_arrays(&args, |arrays| {
            let (left, right) = (argument(arrays, 0)?, argument(arrays, 1)?);
            match self.operation {
                Operation::Add => checked(left, right, &wanted, |l, r| numeric::add(l, r)),
                Operation::Subtract => checked(left, right, &wanted, |l, r| numeric::sub(l, r)),
                Operation::Multiply => checked(left, right, &wanted, |l, r| numeric::mul(l, r)),
                Operation::FloatAdd => float(left, right, &wanted, |l, r| numeric::add(l, r)),
                Operation::FloatSubtract => float(left, right, &wanted, |l, r| numeric::sub(l, r)),
                Operation::FloatMultiply => float(left, right, &wanted, |l, r| numeric::mul(l, r)),
                Operation::FloatDivide => float_divide(left, right, &wanted),
                Operation::NumericDivide => numeric_divide(left, right, &wanted),
                Operation::IntervalMultiply => interval_times(left, right, Ok),
                Operation::IntervalDivide => interval_times(left, right, |divisor| {
                    if divisor == 0.0 { Err(ArrowError::DivideByZero.into()) } else { Ok(1.0 / divisor) }
                }),
            }
        })
    }
}

fn wider(left: &DataType, right: &DataType) -> DataType {
    let bits = |data_type: &DataType| data_type.primitive_width().unwrap_or(8);
    // Literals are bigint; int8 does not exist in PostgreSQL.
    match bits(left).max(bits(right)) {
        0..=2 => DataType::Int16,
        3..=4 => DataType::Int32,
        _ => DataType::Int64,
    }
}

fn checked(
    left: &ArrayRef,
    right: &ArrayRef,
    wanted: &DataType,
    operation: impl FnOnce(&ArrayRef, &ArrayRef) -> std::result::Result<ArrayRef, ArrowError>,
) -> Result<ArrayRef> {
    Ok(operation(&cast(left, wanted)?, &cast(right, wanted)?)?)
}

fn float_divide(left: &ArrayRef, right: &ArrayRef, wanted: &DataType) -> Result<ArrayRef> {
    let (left, right) = (cast(left, wanted)?, cast(right, wanted)?);
    let meets_zero = |at: usize, is_zero: bool| is_zero && left.is_valid(at);
    let by_zero = if wanted == &DataType::Float32 {
        let divisors = right.as_primitive::<Float32Type>();
        divisors.iter().enumerate().any(|(at, divisor)| meets_zero(at, divisor == Some(0.0)))
    } else {
        let divisors = right.as_primitive::<Float64Type>();
        divisors.iter().enumerate().any(|(at, divisor)| meets_zero(at, divisor == Some(0.0)))
    };
    if by_zero {
        return Err(ArrowError::DivideByZero.into());
    }
    float(&left, &right, wanted, |l, r| numeric::div(l, r))
}

/// Computes in floats. Errors: out of range when finite numbers have no finite answer, where the kernel gives infinity.
fn float(
    left: &ArrayRef,
    right: &ArrayRef,
    wanted: &DataType,
    compute: impl Fn(&ArrayRef, &ArrayRef) -> Result<ArrayRef, ArrowError>,
) -> Result<ArrayRef> {
    let (left, right) = (cast(left, wanted)?, cast(right, wanted)?);
    let answer = compute(&left, &right)?;
    let infinite = |array: &ArrayRef, at: usize| match wanted {
        DataType::Float32 => array.as_primitive::<Float32Type>().value(at).is_infinite(),
        _ => array.as_primitive::<Float64Type>().value(at).is_infinite(),
    };
    let has_infinite = match wanted {
        DataType::Float32 => answer.as_primitive::<Float32Type>().values().iter().any(|value| value.is_infinite()),
        _ => answer.as_primitive::<Float64Type>().values().iter().any(|value| value.is_infinite()),
    };
    let overflows =
        |at: usize| answer.is_valid(at) && infinite(&answer, at) && !infinite(&left, at) && !infinite(&right, at);
    if has_infinite && (0..answer.len()).any(overflows) {
        return Err(ArrowError::ArithmeticOverflow("a float has no room for the answer".into()).into());
    }
    Ok(answer)
}

/// Digits before and after the point of a number's type.
fn digits(data_type: &DataType) -> (i32, i32) {
    match data_type {
        DataType::Decimal128(precision, scale) => (i32::from(*precision) - i32::from(*scale), i32::from(*scale)),
        DataType::Int8 | DataType::Int16 | DataType::UInt8 => (5, 0),
        DataType::Int32 | DataType::UInt16 => (10, 0),
        _ => (19, 0),
    }
}

/// Scale as PostgreSQL would show it at least, less where the integer part may need the room.
fn quotient(left: &DataType, right: &DataType) -> DataType {
    let ((left_integer, left_scale), (_, right_scale)) = (digits(left), digits(right));
    let least = left_scale.max(right_scale).min(MAX_DIGITS);
    let integer = (left_integer + right_scale).clamp(1, MAX_DIGITS);
    let scale = least.max(DIVISION_SCALE).min(MAX_DIGITS - integer).max(least.min(MAX_DIGITS - 1)).max(0);
    DataType::Decimal128(MAX_DIGITS as u8, scale as i8)
}

fn numeric_divide(left: &ArrayRef, right: &ArrayRef, wanted: &DataType) -> Result<ArrayRef> {
    let DataType::Decimal128(precision, scale) = wanted else {
        return Err(DataFusionError::Internal("numeric division gives numeric".into()));
    };
    let ((left_integer, left_scale), (right_integer, right_scale)) =
        (digits(left.data_type()), digits(right.data_type()));
    let as_decimal = |array: &ArrayRef, integer: i32, scale: i32| {
        cast(array, &DataType::Decimal128((integer + scale).clamp(1, MAX_DIGITS) as u8, scale as i8))
    };
    let left = as_decimal(left, left_integer, left_scale)?;
    let right = as_decimal(right, right_integer, right_scale)?;
    let (dividends, divisors) = (left.as_primitive::<Decimal128Type>(), right.as_primitive::<Decimal128Type>());
    // l / 10^ls / (r / 10^rs), shown with `scale` digits: l * 10^(scale + rs - ls) / r.
    let shift = i32::from(*scale) + right_scale - left_scale;
    let quotients: Decimal128Array =
        by_row(&[dividends, divisors], dividends.len(), |at| divide(dividends.value(at), divisors.value(at), shift))?;
    Ok(Arc::new(quotients.with_precision_and_scale(*precision, *scale)?))
}

/// `dividend * 10^shift / divisor`, half away from zero.
fn divide(dividend: i128, divisor: i128, shift: i32) -> Result<i128> {
    if divisor == 0 {
        return Err(ArrowError::DivideByZero.into());
    }
    let overflow = || DataFusionError::from(ArrowError::ArithmeticOverflow("numeric division".to_owned()));
    let power = i256::from_i128(10).checked_pow(shift.unsigned_abs()).ok_or_else(overflow)?;
    let (top, bottom) = if shift >= 0 {
        (i256::from_i128(dividend).checked_mul(power).ok_or_else(overflow)?, i256::from_i128(divisor))
    } else {
        (i256::from_i128(dividend), i256::from_i128(divisor).checked_mul(power).ok_or_else(overflow)?)
    };
    let whole = top.checked_div(bottom).ok_or_else(overflow)?;
    let rest = top.wrapping_sub(whole.wrapping_mul(bottom));
    let twice = rest.wrapping_abs().wrapping_mul(i256::from_i128(2));
    let away = if twice >= bottom.wrapping_abs() {
        if (dividend < 0) == (divisor < 0) { i256::ONE } else { i256::MINUS_ONE }
    } else {
        i256::ZERO
    };
    whole.wrapping_add(away).to_i128().ok_or_else(overflow)
}

/// As PostgreSQL's `interval_mul`: a part of a month becomes days of 30 a month, a part of a day becomes time.
fn interval_times(
    intervals: &ArrayRef,
    factors: &ArrayRef,
    factor_of: impl Fn(f64) -> Result<f64>,
) -> Result<ArrayRef> {
    const NANOS_A_DAY: f64 = 86_400e9;
    let intervals = cast(intervals, &DataType::Interval(IntervalUnit::MonthDayNano))?;
    let intervals = intervals.as_primitive::<IntervalMonthDayNanoType>();
    let factors = cast(factors, &DataType::Float64)?;
    let factors: &Float64Array = factors.as_primitive();
    let answer: IntervalMonthDayNanoArray = by_row(&[intervals, factors], intervals.len(), |at| {
        let (interval, factor) = (intervals.value(at), factor_of(factors.value(at))?);
        let months = f64::from(interval.months) * factor;
        let days = f64::from(interval.days) * factor;
        let month_days = (months.fract() * 30.0 * 1e6).round() / 1e6;
        let all_days = days.trunc() + month_days.trunc();
        let day_part = ((days.fract() + month_days.fract()) * 1e9).round() / 1e9;
        let nanos = (interval.nanoseconds as f64).mul_add(factor, day_part * NANOS_A_DAY);
        // PostgreSQL counts in microseconds.
        let nanos = (nanos / 1e3).round() * 1e3;
        if months.abs() > f64::from(i32::MAX) || all_days.abs() > f64::from(i32::MAX) || nanos.abs() > 9.2e18 {
            return Err(ArrowError::ArithmeticOverflow("interval".to_owned()).into());
        }
        Ok(IntervalMonthDayNano::new(months.trunc() as i32, all_days as i32, nanos as i64))
    })?;
    Ok(Arc::new(answer))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numeric_division_rounds_half_away_from_zero() {
        assert_eq!(divide(2, 3, 4).unwrap(), 6667);
        assert_eq!(divide(-2, 3, 4).unwrap(), -6667);
        assert_eq!(divide(1, -8, 2).unwrap(), -13);
        assert_eq!(divide(125, 10, -1).unwrap(), 1);
        assert!(divide(1, 0, 2).is_err());
    }

    #[test]
    fn a_quotient_keeps_room_for_its_integer_part() {
        assert_eq!(quotient(&DataType::Decimal128(2, 1), &DataType::Int64), DataType::Decimal128(38, 16));
        let wide = DataType::Decimal128(38, 9);
        assert_eq!(quotient(&wide, &wide), DataType::Decimal128(38, 9));
    }
}
