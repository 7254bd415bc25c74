//! Casts as PostgreSQL makes them. Text of values: `2024-01-01 00:00:00`, `1e+20`, `1 day 02:00:00`.

use std::fmt::Write as _;
use std::sync::Arc;

use arrow::array::types::{IntervalMonthDayNano, IntervalMonthDayNanoType};
use arrow::array::{
    Array, ArrayRef, AsArray, IntervalMonthDayNanoArray, StringViewArray, Time64MicrosecondArray,
    TimestampMicrosecondArray,
};
use arrow::compute::cast;
use arrow::compute::kernels::cast_utils::string_to_datetime;
use arrow::datatypes::{
    DataType, Field, Float32Type, Float64Type, IntervalUnit, Time64MicrosecondType, TimeUnit, TimestampMicrosecondType,
};
use chrono::{DateTime, Datelike, Timelike, Utc};
use datafusion::common::DFSchema;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::config::ConfigOptions;
use datafusion::error::Result;
use datafusion::logical_expr::expr_rewriter::FunctionRewrite;
use datafusion::logical_expr::{
    BinaryExpr, ColumnarValue, Expr, ExprSchemable, Like, LogicalPlan, Operator, ScalarFunctionArgs, ScalarUDF,
    ScalarUDFImpl, Signature, Volatility, lit,
};
use datafusion::optimizer::AnalyzerRule;
use datafusion::optimizer::utils::NamePreserver;

use lode_core::sql_type;

use super::kernel::{argument, by_row, clipped, data, inputs, over_arrays, strings, unsupported};
use super::marked::{Work, has_json, is_bytes, is_text, json_mark, read_literals};

/// The functions that take the place of casts.
pub(super) fn functions() -> [ScalarUDF; 5] {
    let signature = || Signature::any(1, Volatility::Immutable);
    let read_time = |has_zone| super::function(ReadTime { has_zone, signature: signature() });
    let read_interval = super::function(ReadInterval { signature: signature() });
    let read_clock = super::function(ReadClock { signature: signature() });
    [super::function(ToText { signature: signature() }), read_time(false), read_time(true), read_interval, read_clock]
}

/// Types whose text the planner's own cast writes otherwise.
fn differs(data_type: &DataType) -> bool {
    matches!(
        data_type,
        DataType::Timestamp(..)
            | DataType::Float32
            | DataType::Float64
            | DataType::Interval(_)
            | DataType::Time32(_)
            | DataType::Time64(_)
    )
}

/// Rewrites casts, those that coercion added included.
#[derive(Debug)]
pub(super) struct Casts;

/// Who asked for a cast.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Asked {
    ByStatement,
    ByCoercion,
}

fn rewrite(expr: Expr, asked: Asked, schema: &DFSchema) -> Result<Transformed<Expr>> {
    match expr {
        Expr::Cast(ref cast) => {
            let Ok(from) = cast.expr.get_type(schema) else { return Ok(Transformed::no(expr)) };
            match cast_of(&cast.expr, &from, &cast.field, asked, schema)? {
                Some(value) => Ok(Transformed::yes(value)),
                None => Ok(Transformed::no(expr)),
            }
        }
        Expr::TryCast(ref cast) => {
            let is_text = cast.expr.get_type(schema).is_ok_and(|from| is_text(&from));
            let work = match (cast.field.data_type(), json_mark(&cast.field)) {
                (DataType::FixedSizeBinary(16), _) => Some(Work::TryUuid),
                (_, Some(_)) => Some(Work::TryJson),
                _ => None,
            };
            match work.filter(|_| is_text) {
                Some(work) => Ok(Transformed::yes(work.call(cast.expr.as_ref().clone()))),
                None => Ok(Transformed::no(expr)),
            }
        }
        Expr::SimilarTo(like) => similar_to(like).map(Transformed::yes),
        // The kernel compares keys of a map with the wanted one as they are: text of a file is a view, that of a statement not.
        Expr::ScalarFunction(mut call) if call.func.name() == "get_field" => {
            let [map, key, ..] = call.args.as_mut_slice() else {
                return Ok(Transformed::no(Expr::ScalarFunction(call)));
            };
            let key_type = match map.get_type(schema) {
                Ok(DataType::Map(entries, _)) => match entries.data_type() {
                    DataType::Struct(pair) => pair.first().map(|field| field.data_type().clone()),
                    _ => None,
                },
                _ => None,
            };
            match (key, key_type) {
                (Expr::Literal(value, _), Some(key_type)) if value.data_type() != key_type => {
                    *value = value.cast_to(&key_type)?;
                    Ok(Transformed::yes(Expr::ScalarFunction(call)))
                }
                _ => Ok(Transformed::no(Expr::ScalarFunction(call))),
            }
        }
        expr => read_literals(expr, schema),
    }
}

/// A text read as an interval.
pub(super) fn interval_of(text: Expr) -> Expr {
    let [.., read_interval, _] = functions();
    Arc::new(read_interval).call(vec![text])
}

/// The call that takes the place of a cast; `None` where the kernel's is right.
fn cast_of(expr: &Expr, from: &DataType, field: &Field, asked: Asked, schema: &DFSchema) -> Result<Option<Expr>> {
    let wanted = field.data_type();
    let call = |function: ScalarUDF| Arc::new(function).call(vec![expr.clone()]);
    let settled = |value: Expr, has: &DataType| {
        if wanted == has { Ok(Some(value)) } else { value.cast_to(wanted, schema).map(Some) }
    };
    let [to_text, read_local, read_zoned, read_interval, read_clock] = functions();
    if is_text(wanted) {
        if is_text(from) {
            let work = match json_mark(field) {
                Some("jsonb") => Work::ToJsonb,
                Some(_) => Work::ToJson,
                None if asked == Asked::ByStatement && has_json(expr, schema) => Work::JsonToText,
                None => return Ok(None),
            };
            return settled(work.call(expr.clone()), &DataType::Utf8View);
        }
        if is_bytes(from) && asked == Asked::ByCoercion {
            let fix = "write `x::text` for its digits, or `encode(x, 'escape')` for the text that it holds";
            return Err(unsupported("a bytea does not stand for text here", fix));
        }
        if from == &DataType::FixedSizeBinary(16) {
            return settled(Work::UuidToText.call(expr.clone()), &DataType::Utf8View);
        }
        if is_bytes(from) {
            return settled(Work::BytesToText.call(expr.clone()), &DataType::Utf8View);
        }
        return if differs(from) { settled(call(to_text), &DataType::Utf8View) } else { Ok(None) };
    }
    if is_text(from) {
        return match wanted {
            DataType::Timestamp(_, zone) => {
                // Read as UTC, so that the zone only names it.
                settled(call(if zone.is_some() { read_zoned } else { read_local }), &sql_type::timestamp())
            }
            DataType::Time32(_) | DataType::Time64(_) => {
                settled(call(read_clock), &DataType::Time64(TimeUnit::Microsecond))
            }
            DataType::Interval(_) => settled(call(read_interval), &DataType::Interval(IntervalUnit::MonthDayNano)),
            DataType::FixedSizeBinary(16) => Ok(Some(Work::ToUuid.call(expr.clone()))),
            DataType::Binary | DataType::LargeBinary | DataType::BinaryView => {
                settled(Work::ToBytes.call(expr.clone()), &DataType::BinaryView)
            }
            _ => Ok(None),
        };
    }
    let is_uuid = |data_type: &DataType| data_type == &DataType::FixedSizeBinary(16);
    let changes_kind = is_bytes(wanted) != is_bytes(from) || is_uuid(wanted) != is_uuid(from);
    if (is_bytes(wanted) || is_bytes(from)) && changes_kind && !from.is_null() {
        let from = sql_type::name(from);
        return Err(unsupported(
            format!("{from} cannot be cast to {}", sql_type::name(wanted)),
            "cast it to text first",
        ));
    }
    // PostgreSQL rounds to an integer, where the kernel cuts.
    let has_fraction = from.is_floating() || matches!(from, DataType::Decimal128(_, scale) if *scale > 0);
    if wanted.is_integer() && has_fraction && !is_rounded(expr) {
        return super::math::rounded(expr.clone()).cast_to(wanted, schema).map(Some);
    }
    Ok(None)
}

/// Whether a value is whole already. With digits as second argument (`round(x, 1)`) it need not be.
fn is_rounded(expr: &Expr) -> bool {
    matches!(expr, Expr::ScalarFunction(call) if call.args.len() == 1 && matches!(call.func.name(), "round" | "round_to_whole" | "floor" | "ceil" | "trunc"))
}

/// `x similar to p` as the regular expression that it stands for. Source: PostgreSQL 15, 9.7.2.
fn similar_to(like: Like) -> Result<Expr> {
    let Like { negated, expr, pattern, escape_char, .. } = like;
    let text = match pattern.as_ref() {
        Expr::Literal(value, _) => value.try_as_str().flatten().map(str::to_owned),
        _ => None,
    };
    let Some(text) = text else {
        return Err(unsupported("`similar to` needs a pattern in quotes", "use `~` with a regular expression"));
    };
    let escape = escape_char.unwrap_or('\\');
    let mut regex = String::from("^(?:");
    let mut chars = text.chars();
    while let Some(next) = chars.next() {
        match next {
            next if next == escape => {
                let literal = chars.next().map(String::from).unwrap_or_default();
                regex.push_str(&regex::escape(&literal));
            }
            '%' => regex.push_str(".*"),
            '_' => regex.push('.'),
            '.' | '^' | '$' | '\\' => regex.push_str(&regex::escape(&next.to_string())),
            other => regex.push(other),
        }
    }
    regex.push_str(")$");
    let op = if negated { Operator::RegexNotMatch } else { Operator::RegexMatch };
    Ok(Expr::BinaryExpr(BinaryExpr::new(expr, op, Box::new(lit(regex)))))
}

impl FunctionRewrite for Casts {
    fn name(&self) -> &str {
        "postgres_casts"
    }

    fn rewrite(&self, expr: Expr, schema: &DFSchema, _: &ConfigOptions) -> Result<Transformed<Expr>> {
        rewrite(expr, Asked::ByStatement, schema)
    }
}

impl AnalyzerRule for Casts {
    fn name(&self) -> &str {
        "postgres_casts"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        let rewritten = plan.transform_up_with_subqueries(|plan| {
            let schema = inputs(&plan)?;
            let names = NamePreserver::new(&plan);
            let changed = plan.map_expressions(|expr| {
                let name = names.save(&expr);
                let changed = expr.transform_up(|part| rewrite(part, Asked::ByCoercion, &schema))?;
                Ok(if changed.transformed { changed.update_data(|expr| name.restore(expr)) } else { changed })
            })?;
            if changed.transformed { changed.map_data(LogicalPlan::recompute_schema) } else { Ok(changed) }
        })?;
        Ok(rewritten.data)
    }
}

/// Text as a timestamp: what the kernel reads, and times without seconds. With a zone it is the moment in UTC; without,
/// the zone in the text must be right and is not heeded. Source: PostgreSQL 15, 8.5.1.3.
#[derive(Debug, PartialEq, Eq, Hash)]
struct ReadTime {
    has_zone: bool,
    signature: Signature,
}

impl ScalarUDFImpl for ReadTime {
    fn name(&self) -> &str {
        if self.has_zone { "read_time_with_zone" } else { "read_time" }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(sql_type::timestamp())
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        over_arrays(&args, |arrays| {
            let texts = strings(argument(arrays, 0)?)?;
            let times: TimestampMicrosecondArray = by_row(&[&texts], texts.len(), |at| {
                let text = texts.value(at).trim();
                let moment = read_time(text)?;
                let without_zone = || (!self.has_zone).then(|| cut_zone(text))?;
                without_zone().map_or(Ok(moment), |text| read_time(&text))
            })?;
            Ok(Arc::new(times))
        })
    }
}

/// The text without the zone at its end; `None` if it has none.
fn cut_zone(text: &str) -> Option<String> {
    let (day, time) = text.split_once([' ', 'T', 't'])?;
    let (clock, _) = time.split_at(time.find(['+', '-', 'Z', 'z', ' '])?);
    Some(format!("{day} {clock}"))
}

fn read_time(trimmed: &str) -> Result<i64> {
    let read = |text: &str| string_to_datetime(&Utc, text).ok().map(|time| time.timestamp_micros());
    // `10:00` and `10:00+02` lack the seconds that the reader wants.
    let with_seconds = || {
        let (day, time) = trimmed.split_once([' ', 'T'])?;
        let zone = time.find(['+', '-', 'Z', 'z', ' ']).unwrap_or(time.len());
        let (clock, zone) = time.split_at(zone);
        (clock.matches(':').count() == 1).then(|| format!("{day} {clock}:00{zone}"))
    };
    read(trimmed).or_else(|| read(&with_seconds()?)).ok_or_else(|| {
        data(
            format!("\"{}\" is no timestamp", clipped(trimmed)),
            "write it as 2026-01-03 10:00:00, or read it by a pattern: to_timestamp(x, 'DD.MM.YYYY HH24:MI')",
        )
    })
}

/// Text as a time of day. Source: PostgreSQL 15, 8.5.1.2, the forms with colons.
#[derive(Debug, PartialEq, Eq, Hash)]
struct ReadClock {
    signature: Signature,
}

impl ScalarUDFImpl for ReadClock {
    fn name(&self) -> &str {
        "_read_clock"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Time64(TimeUnit::Microsecond))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        over_arrays(&args, |arrays| {
            let texts = strings(argument(arrays, 0)?)?;
            let values: Time64MicrosecondArray = by_row(&[&texts], texts.len(), |at| {
                let text = texts.value(at).trim();
                read_clock(text)
                    .ok_or_else(|| data(format!("\"{}\" is not a time", clipped(text)), "write it as 10:11:12.5"))
            })?;
            Ok(Arc::new(values))
        })
    }
}

/// Microseconds of the day.
fn read_clock(text: &str) -> Option<i64> {
    let mut parts = text.split(':');
    let (hours, minutes, seconds) = (parts.next()?, parts.next()?, parts.next().unwrap_or("0"));
    let whole = |part: &str, most: i64| {
        let is_number = (1..=2).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit());
        part.parse::<i64>().ok().filter(|number| is_number && *number <= most)
    };
    let (second, fraction) = seconds.split_once('.').unwrap_or((seconds, ""));
    // Digits beyond microseconds would have to be rounded.
    if parts.next().is_some() || fraction.len() > 6 || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let micros: i64 = format!("{fraction:0<6}").parse().ok()?;
    let day = (whole(hours, 23)? * 60 + whole(minutes, 59)?) * 60 + whole(second, 59)?;
    Some(day * 1_000_000 + micros)
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct ReadInterval {
    signature: Signature,
}

impl ScalarUDFImpl for ReadInterval {
    fn name(&self) -> &str {
        "_read_interval"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Interval(IntervalUnit::MonthDayNano))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        over_arrays(&args, |arrays| {
            let texts = strings(argument(arrays, 0)?)?;
            let values: IntervalMonthDayNanoArray =
                by_row(&[&texts], texts.len(), |at| super::intervals::read(texts.value(at)))?;
            Ok(Arc::new(values))
        })
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct ToText {
    signature: Signature,
}

impl ScalarUDFImpl for ToText {
    fn name(&self) -> &str {
        "to_text"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8View)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        over_arrays(&args, |arrays| text_of(argument(arrays, 0)?))
    }
}

/// Values as text, as a cast writes them.
pub(crate) fn text_of(array: &ArrayRef) -> Result<ArrayRef> {
    let rows = array.len();
    let texts: StringViewArray = match array.data_type() {
        DataType::Timestamp(_, zone) => {
            let has_zone = zone.is_some();
            let micros = cast(array, &DataType::Timestamp(TimeUnit::Microsecond, zone.clone()))?;
            let micros = micros.as_primitive::<TimestampMicrosecondType>();
            by_row(&[micros], rows, |at| timestamp(micros.value(at), has_zone))?
        }
        DataType::Float64 => {
            let values = array.as_primitive::<Float64Type>();
            by_row(&[values], rows, |at| Ok(float(&format!("{:e}", values.value(at)), values.value(at), 15)))?
        }
        DataType::Float32 => {
            let values = array.as_primitive::<Float32Type>();
            by_row(&[values], rows, |at| {
                let value = values.value(at);
                Ok(float(&format!("{value:e}"), value.into(), 6))
            })?
        }
        DataType::Interval(_) => {
            let values = cast(array, &DataType::Interval(IntervalUnit::MonthDayNano))?;
            let values = values.as_primitive::<IntervalMonthDayNanoType>();
            by_row(&[values], rows, |at| Ok(interval(values.value(at))))?
        }
        DataType::Time32(_) | DataType::Time64(_) => {
            let values = cast(array, &DataType::Time64(TimeUnit::Microsecond))?;
            let values = values.as_primitive::<Time64MicrosecondType>();
            by_row(&[values], rows, |at| Ok(clock(values.value(at).unsigned_abs())))?
        }
        DataType::FixedSizeBinary(16) => super::marked::uuid_to_text(array)?,
        _ => return Ok(cast(array, &DataType::Utf8View)?),
    };
    Ok(Arc::new(texts))
}

/// `2024-01-01 10:00:00.5`, with `+00` for a time with zone.
fn timestamp(micros: i64, has_zone: bool) -> Result<String> {
    let time = DateTime::from_timestamp_micros(micros)
        .ok_or_else(|| data("a timestamp is out of range", "filter it out first"))?
        .naive_utc();
    let mut text = format!(
        "{:04}-{:02}-{:02} {:02}:{:02}:{:02}",
        time.year(),
        time.month(),
        time.day(),
        time.hour(),
        time.minute(),
        time.second()
    );
    let fraction = time.nanosecond() / 1_000;
    if fraction != 0 {
        let digits = format!("{fraction:06}");
        let _ = write!(text, ".{}", digits.trim_end_matches('0'));
    }
    if has_zone {
        text.push_str("+00");
    }
    Ok(text)
}

/// The shortest text that reads back as the same number, as PostgreSQL 12 and later write it: plain between 1e-4 and
/// 1e15 (1e6 for `real`), else with an exponent of at least two digits.
fn float(scientific: &str, value: f64, plain_digits: i32) -> String {
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "Infinity" } else { "-Infinity" }.to_owned();
    }
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..plain_digits).contains(&exponent) {
        return plain(mantissa, exponent);
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{mantissa}e{sign}{:02}", exponent.abs())
}

fn plain(mantissa: &str, exponent: i32) -> String {
    let (sign, mantissa) = mantissa.strip_prefix('-').map_or(("", mantissa), |rest| ("-", rest));
    let digits: String = mantissa.chars().filter(char::is_ascii_digit).collect();
    if exponent < 0 {
        return format!("{sign}0.{}{digits}", "0".repeat((-exponent - 1) as usize));
    }
    let point = exponent as usize + 1;
    if digits.len() <= point {
        return format!("{sign}{digits}{}", "0".repeat(point - digits.len()));
    }
    let (whole, fraction) = digits.split_at(point);
    format!("{sign}{whole}.{fraction}")
}

/// `1 year 2 mons 3 days 04:05:06`. Source: PostgreSQL, `IntervalStyle = postgres`.
fn interval(value: IntervalMonthDayNano) -> String {
    let mut parts = Vec::new();
    let mut was_negative = false;
    let mut part = |count: i32, unit: &str| {
        if count != 0 {
            let plural = if count == 1 { "" } else { "s" };
            let sign = if was_negative && count > 0 { "+" } else { "" };
            parts.push(format!("{sign}{count} {unit}{plural}"));
            was_negative = count < 0;
        }
    };
    part(value.months / 12, "year");
    part(value.months % 12, "mon");
    part(value.days, "day");
    let micros = value.nanoseconds / 1_000;
    if micros != 0 || parts.is_empty() {
        let sign = match (micros < 0, was_negative) {
            (true, _) => "-",
            (false, true) => "+",
            _ => "",
        };
        parts.push(format!("{sign}{}", clock(micros.unsigned_abs())));
    }
    parts.join(" ")
}

/// `10:11:12.5`
fn clock(micros: u64) -> String {
    let (seconds, fraction) = (micros / 1_000_000, micros % 1_000_000);
    let mut time = format!("{:02}:{:02}:{:02}", seconds / 3_600, seconds / 60 % 60, seconds % 60);
    if fraction != 0 {
        let digits = format!("{fraction:06}");
        let _ = write!(time, ".{}", digits.trim_end_matches('0'));
    }
    time
}
