//! Dates and times by PostgreSQL's names, units and templates.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Date32Array, Int64Array, StringViewArray, TimestampMicrosecondArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, FieldRef, Float64Type, TimestampMicrosecondType};
use chrono::{DateTime, Datelike, NaiveDate, NaiveDateTime, Timelike};
use datafusion::common::ScalarValue;
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult};
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

use lode_core::sql_type;

use super::kernel::{argument, by_row, data, over_arrays, strings, unsupported};
use super::patterns::{Pattern, monday_of};

pub(super) fn functions(date_trunc: Arc<ScalarUDF>, date_part: Arc<ScalarUDF>) -> Vec<ScalarUDF> {
    let any = |count| Signature::any(count, Volatility::Immutable);
    vec![
        super::function(ByUnit::new(date_trunc, false)),
        super::function(ByUnit::new(date_part, true)),
        super::function(ToChar { signature: any(2) }),
        super::function(Read { is_date: true, signature: Signature::variadic_any(Volatility::Immutable) }),
        super::function(Read { is_date: false, signature: Signature::variadic_any(Volatility::Immutable) }),
        super::function(Now {
            signature: Signature::nullary(Volatility::Stable),
            aliases: vec!["current_timestamp".to_owned(), "transaction_timestamp".to_owned()],
        }),
        super::function(DateDiff { signature: any(3), aliases: vec!["date_diff".to_owned()] }),
    ]
}

/// `extract(unit from x)` through our own `date_part`.
#[derive(Debug)]
pub(super) struct Extract(pub(super) Arc<ScalarUDF>);

impl ExprPlanner for Extract {
    fn plan_extract(&self, args: Vec<Expr>) -> Result<PlannerResult<Vec<Expr>>> {
        Ok(PlannerResult::Planned(self.0.call(args)))
    }
}

/// `date_trunc` and `date_part` with units in any case and number.
#[derive(Debug, PartialEq, Eq, Hash)]
struct ByUnit {
    inner: Arc<ScalarUDF>,
    is_part: bool,
    aliases: Vec<String>,
}

impl ByUnit {
    fn new(inner: Arc<ScalarUDF>, is_part: bool) -> Self {
        Self { aliases: inner.aliases().to_vec(), inner, is_part }
    }

    /// Seconds have a fraction, which the inner function cuts.
    fn is_second(&self, value: &ScalarValue) -> bool {
        let unit = value.try_as_str().flatten().map(|unit| singular(unit, true));
        self.is_part && unit.as_deref() == Some("second")
    }

    fn seconds(&self, mut args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        if let Some(first) = args.args.first_mut() {
            *first = ColumnarValue::Scalar(ScalarValue::Utf8(Some("microsecond".to_owned())));
        }
        args.return_field = Arc::new(arrow::datatypes::Field::new(self.name(), DataType::Int32, true));
        let micros = self.inner.invoke_with_args(args)?.cast_to(&DataType::Float64, None)?;
        let to_seconds = |array: &ArrayRef| -> ArrayRef {
            Arc::new(array.as_primitive::<Float64Type>().unary::<_, Float64Type>(|micros| micros / 1e6))
        };
        Ok(match micros {
            ColumnarValue::Array(array) => ColumnarValue::Array(to_seconds(&array)),
            ColumnarValue::Scalar(value) => {
                ColumnarValue::Scalar(ScalarValue::try_from_array(&to_seconds(&value.to_array()?), 0)?)
            }
        })
    }

    fn unit(&self, value: &ScalarValue) -> Option<ScalarValue> {
        let text = value.try_as_str().flatten()?;
        Some(ScalarValue::Utf8(Some(singular(text, self.is_part))))
    }
}

/// `Months` -> `month`.
fn singular(unit: &str, is_part: bool) -> String {
    let unit = unit.trim().to_lowercase();
    match unit.as_str() {
        "dayofyear" | "day_of_year" if is_part => "doy".to_owned(),
        "dayofweek" | "day_of_week" if is_part => "dow".to_owned(),
        "century" | "centuries" => "century".to_owned(),
        "millennia" | "millennium" => "millennium".to_owned(),
        "years" | "quarters" | "months" | "weeks" | "days" | "hours" | "minutes" | "seconds" | "milliseconds"
        | "microseconds" | "decades" => {
            let keeps_s = matches!(unit.as_str(), "milliseconds" | "microseconds");
            if keeps_s { unit } else { unit.trim_end_matches('s').to_owned() }
        }
        _ => unit,
    }
}

impl ScalarUDFImpl for ByUnit {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn aliases(&self) -> &[String] {
        &self.aliases
    }

    fn signature(&self) -> &Signature {
        self.inner.signature()
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        self.inner.return_type(types)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        let has_fraction = args.scalar_arguments.first().copied().flatten().is_some_and(|value| self.is_second(value));
        if has_fraction {
            return Ok(Arc::new(arrow::datatypes::Field::new(self.name(), DataType::Float64, true)));
        }
        let unit = args.scalar_arguments.first().copied().flatten().and_then(|value| self.unit(value));
        let mut scalars = args.scalar_arguments.to_vec();
        if let (Some(first), Some(unit)) = (scalars.first_mut(), &unit) {
            *first = Some(unit);
        }
        self.inner.return_field_from_args(ReturnFieldArgs { scalar_arguments: &scalars, ..args })
    }

    fn invoke_with_args(&self, mut args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        if let Some(ColumnarValue::Scalar(value)) = args.args.first()
            && self.is_second(value)
        {
            return self.seconds(args);
        }
        if let Some(ColumnarValue::Scalar(value)) = args.args.first()
            && let Some(unit) = self.unit(value)
            && let Some(first) = args.args.first_mut()
        {
            *first = ColumnarValue::Scalar(unit);
        }
        self.inner.invoke_with_args(args)
    }
}

/// `to_char(time, template)`.
#[derive(Debug, PartialEq, Eq, Hash)]
struct ToChar {
    signature: Signature,
}

impl ScalarUDFImpl for ToChar {
    fn name(&self) -> &str {
        "to_char"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        match types.first() {
            Some(DataType::Timestamp(..) | DataType::Date32 | DataType::Null) => Ok(DataType::Utf8View),
            Some(other) => Err(unsupported(
                format!("to_char of {} is not supported", sql_type::name(other)),
                "cast it: `x::text`, or round first: `round(x, 2)::text`",
            )),
            None => Err(DataFusionError::Internal("to_char without arguments".into())),
        }
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        over_arrays(&args, |arrays| {
            let (times, templates) = (argument(arrays, 0)?, strings(argument(arrays, 1)?)?);
            // A date is a time with zone here, as PostgreSQL takes it.
            let has_zone = !matches!(times.data_type(), DataType::Timestamp(_, None));
            let times = micros(times)?;
            let mut last: Option<(String, Pattern)> = None;
            let texts: StringViewArray = by_row(&[&times, &templates], times.len(), |at| {
                let pattern = cached(&mut last, templates.value(at));
                pattern.format(moment(times.value(at))?, has_zone)
            })?;
            Ok(Arc::new(texts))
        })
    }
}

fn cached<'a>(last: &'a mut Option<(String, Pattern)>, template: &str) -> &'a Pattern {
    if last.as_ref().is_none_or(|(text, _)| text != template) {
        *last = None;
    }
    let (_, pattern) = last.get_or_insert_with(|| (template.to_owned(), Pattern::parse(template)));
    pattern
}

fn micros(array: &ArrayRef) -> Result<TimestampMicrosecondArray> {
    let micros = cast(array, &sql_type::timestamp())?;
    Ok(micros.as_primitive::<TimestampMicrosecondType>().clone())
}

fn moment(micros: i64) -> Result<NaiveDateTime> {
    let time = DateTime::from_timestamp_micros(micros);
    Ok(time.ok_or_else(|| data("a timestamp is out of range", "filter it out first"))?.naive_utc())
}

/// `to_date(text, template)`, `to_timestamp(text, template)`, `to_timestamp(seconds)`; with text alone, a cast.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Read {
    is_date: bool,
    signature: Signature,
}

impl ScalarUDFImpl for Read {
    fn name(&self) -> &str {
        if self.is_date { "to_date" } else { "to_timestamp" }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        if !(1..=2).contains(&types.len()) {
            return Err(DataFusionError::Plan(format!("'{}' takes one or two arguments", self.name())));
        }
        Ok(if self.is_date { DataType::Date32 } else { sql_type::timestamptz() })
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let wanted = args.return_field.data_type().clone();
        over_arrays(&args, |arrays| {
            let first = argument(arrays, 0)?;
            if arrays.len() == 1 {
                return one_argument(first, &wanted);
            }
            let (texts, templates) = (strings(first)?, strings(argument(arrays, 1)?)?);
            let mut last: Option<(String, Pattern)> = None;
            let mut read = |at: usize| cached(&mut last, templates.value(at)).read(texts.value(at));
            let rows = texts.len();
            if self.is_date {
                let days: Date32Array = by_row(&[&texts, &templates], rows, |at| Ok(days_of(read(at)?.date())))?;
                return Ok(Arc::new(days));
            }
            let times: TimestampMicrosecondArray =
                by_row(&[&texts, &templates], rows, |at| Ok(read(at)?.and_utc().timestamp_micros()))?;
            Ok(Arc::new(times.with_timezone("UTC")))
        })
    }
}

fn days_of(date: NaiveDate) -> i32 {
    date.num_days_from_ce() - 719_163
}

fn one_argument(array: &ArrayRef, wanted: &DataType) -> Result<ArrayRef> {
    if !array.data_type().is_numeric() {
        return Ok(cast(array, wanted)?);
    }
    // Seconds since 1970, with a fraction.
    let seconds = cast(array, &DataType::Float64)?;
    let seconds = seconds.as_primitive::<Float64Type>();
    let times: TimestampMicrosecondArray = by_row(&[seconds], seconds.len(), |at| {
        let micros = (seconds.value(at) * 1e6).round();
        if micros.abs() > 9e18 || micros.is_nan() {
            return Err(data("a timestamp is out of range", "pass seconds since 1970, not milliseconds"));
        }
        Ok(micros as i64)
    })?;
    Ok(cast(&(Arc::new(times.with_timezone("UTC")) as ArrayRef), wanted)?)
}

/// `datediff('unit', from, to)`: how many borders of the unit lie between.
#[derive(Debug, PartialEq, Eq, Hash)]
struct DateDiff {
    signature: Signature,
    aliases: Vec<String>,
}

impl ScalarUDFImpl for DateDiff {
    fn name(&self) -> &str {
        "datediff"
    }

    fn aliases(&self) -> &[String] {
        &self.aliases
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Int64)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        over_arrays(&args, |arrays| {
            let units = strings(argument(arrays, 0)?)?;
            let (from, to) = (micros(argument(arrays, 1)?)?, micros(argument(arrays, 2)?)?);
            let answer: Int64Array = by_row(&[&units, &from, &to], units.len(), |at| {
                let unit = singular(units.value(at), false);
                Ok(border(&unit, moment(to.value(at))?)? - border(&unit, moment(from.value(at))?)?)
            })?;
            Ok(Arc::new(answer))
        })
    }
}

/// Number of the unit that a time lies in.
fn border(unit: &str, time: NaiveDateTime) -> Result<i64> {
    let days = i64::from(days_of(time.date()));
    let months = i64::from(time.year()) * 12 + i64::from(time.month0());
    let seconds = days * 86_400 + i64::from(time.num_seconds_from_midnight());
    let micros = i64::from(time.nanosecond() / 1_000);
    Ok(match unit {
        "year" => i64::from(time.year()),
        "quarter" => months.div_euclid(3),
        "month" => months,
        "week" => i64::from(days_of(monday_of(time.date()))).div_euclid(7),
        "day" => days,
        "hour" => seconds.div_euclid(3_600),
        "minute" => seconds.div_euclid(60),
        "second" => seconds,
        "millisecond" | "milliseconds" => seconds * 1_000 + micros / 1_000,
        "microsecond" | "microseconds" => seconds * 1_000_000 + micros,
        other => {
            return Err(unsupported(
                format!("datediff does not know the unit \"{other}\""),
                "use year, quarter, month, week, day, hour, minute, second, millisecond or microsecond",
            ));
        }
    })
}

/// The time of the statement, in microseconds.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Now {
    signature: Signature,
    aliases: Vec<String>,
}

impl ScalarUDFImpl for Now {
    fn name(&self) -> &str {
        "now"
    }

    fn aliases(&self) -> &[String] {
        &self.aliases
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(sql_type::timestamptz())
    }

    fn simplify(&self, args: Vec<Expr>, context: &SimplifyContext) -> Result<ExprSimplifyResult> {
        let Some(now) = context.query_execution_start_time() else { return Ok(ExprSimplifyResult::Original(args)) };
        let value = ScalarValue::TimestampMicrosecond(Some(now.timestamp_micros()), Some("UTC".into()));
        Ok(ExprSimplifyResult::Simplified(Expr::Literal(value, None)))
    }

    fn invoke_with_args(&self, _: ScalarFunctionArgs) -> Result<ColumnarValue> {
        Err(DataFusionError::Internal("now() is answered while planning".to_owned()))
    }
}
