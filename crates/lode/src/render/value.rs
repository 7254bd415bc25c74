//! One cell as text: PostgreSQL's text form of each type, and its JSON form.

use std::fmt::Write as _;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BinaryViewArray, BooleanArray, FixedSizeBinaryArray, LargeBinaryArray,
    LargeStringArray, PrimitiveArray, RecordBatch, StringArray, StringViewArray,
};
use arrow::compute::cast;
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, Date32Type, Date64Type, Decimal128Type, Decimal256Type, DurationMicrosecondType,
    Field, Float16Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, IntervalMonthDayNanoType,
    IntervalUnit, TimeUnit, TimestampMicrosecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use chrono::{DateTime, Datelike, NaiveDate, NaiveDateTime, TimeDelta, Timelike};
use lode_core::sql_type::SQL_TYPE_MARK;
use lode_core::{ErrorKind, Problem};

/// The columns of one batch, each ready to give any of its cells.
pub(crate) struct Cells {
    columns: Vec<Cell>,
    rows: usize,
}

impl Cells {
    pub(crate) fn new(batch: &RecordBatch) -> Result<Self, Problem> {
        let schema = batch.schema();
        let columns = schema
            .fields()
            .iter()
            .zip(batch.columns())
            .map(|(field, array)| Cell::new(field, array))
            .collect::<Result<_, _>>()?;
        Ok(Self { columns, rows: batch.num_rows() })
    }

    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    pub(crate) fn columns(&self) -> &[Cell] {
        &self.columns
    }
}

/// One column's values.
pub(crate) struct Cell {
    nulls: Option<arrow::buffer::NullBuffer>,
    kind: Kind,
}

enum Kind {
    Null,
    Bool(BooleanArray),
    Int8(PrimitiveArray<Int8Type>),
    Int16(PrimitiveArray<Int16Type>),
    Int32(PrimitiveArray<Int32Type>),
    Int64(PrimitiveArray<Int64Type>),
    UInt8(PrimitiveArray<UInt8Type>),
    UInt16(PrimitiveArray<UInt16Type>),
    UInt32(PrimitiveArray<UInt32Type>),
    UInt64(PrimitiveArray<UInt64Type>),
    Float32(PrimitiveArray<Float32Type>),
    Float64(PrimitiveArray<Float64Type>),
    Decimal128(PrimitiveArray<Decimal128Type>, i8),
    Decimal256(PrimitiveArray<Decimal256Type>, i8),
    Text(StringArray),
    LargeText(LargeStringArray),
    TextView(StringViewArray),
    /// Text that holds JSON, written as it is inside JSON.
    Json(StringViewArray),
    Binary(BinaryArray),
    LargeBinary(LargeBinaryArray),
    BinaryView(BinaryViewArray),
    Uuid(FixedSizeBinaryArray),
    FixedBinary(FixedSizeBinaryArray),
    Date(PrimitiveArray<Date32Type>),
    /// Microseconds since midnight.
    Time(PrimitiveArray<Int64Type>),
    Timestamp(PrimitiveArray<TimestampMicrosecondType>, HasZone),
    Interval(PrimitiveArray<IntervalMonthDayNanoType>),
    Duration(PrimitiveArray<DurationMicrosecondType>),
    List(Vec<std::ops::Range<usize>>, Box<Cell>),
    Struct(Vec<(String, Cell)>),
    Map(Vec<std::ops::Range<usize>>, Box<Cell>, Box<Cell>),
    Dictionary(Vec<usize>, Box<Cell>),
}

#[derive(Clone, Copy, PartialEq)]
enum HasZone {
    Yes,
    No,
}

impl Cell {
    pub(crate) fn new(field: &Field, array: &ArrayRef) -> Result<Self, Problem> {
        let mark = field.metadata().get(SQL_TYPE_MARK).map(String::as_str);
        Ok(Self { nulls: array.logical_nulls(), kind: Kind::new(array, mark)? })
    }

    pub(crate) fn is_null(&self, row: usize) -> bool {
        matches!(self.kind, Kind::Null) || self.nulls.as_ref().is_some_and(|nulls| nulls.is_null(row))
    }

    /// Numbers stand to the right in a table.
    pub(crate) fn is_number(data_type: &DataType) -> bool {
        match data_type {
            DataType::Dictionary(_, value) => Self::is_number(value),
            other => other.is_numeric(),
        }
    }

    /// Appends the text form; nothing for NULL.
    pub(crate) fn text(&self, row: usize, out: &mut String) {
        if self.is_null(row) {
            return;
        }
        match &self.kind {
            Kind::Text(array) => out.push_str(array.value(row)),
            Kind::LargeText(array) => out.push_str(array.value(row)),
            Kind::TextView(array) | Kind::Json(array) => out.push_str(array.value(row)),
            Kind::Timestamp(array, zone) => push_timestamp(out, array.value(row), *zone, ' '),
            Kind::Dictionary(keys, values) => values.text(keys.get(row).copied().unwrap_or_default(), out),
            Kind::Float32(array) => push_float(out, f64::from(array.value(row)), &format!("{:e}", array.value(row)), 6),
            Kind::Float64(array) => push_float(out, array.value(row), &format!("{:e}", array.value(row)), 15),
            _ => self.plain(row, out),
        }
    }

    /// Appends the JSON form: `null`, a number, a string, an array or an object.
    pub(crate) fn json(&self, row: usize, out: &mut String) {
        if self.is_null(row) {
            out.push_str("null");
            return;
        }
        match &self.kind {
            Kind::Text(array) => push_json_string(out, array.value(row)),
            Kind::LargeText(array) => push_json_string(out, array.value(row)),
            Kind::TextView(array) => push_json_string(out, array.value(row)),
            Kind::Json(array) => {
                let text = array.value(row);
                let is_json = serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok();
                // A line break inside would break newline-delimited output.
                if is_json && !text.contains('\n') { out.push_str(text) } else { push_json_string(out, text) }
            }
            Kind::Bool(_) | Kind::Int8(_) | Kind::Int16(_) | Kind::Int32(_) | Kind::Int64(_) => self.plain(row, out),
            Kind::UInt8(_) | Kind::UInt16(_) | Kind::UInt32(_) | Kind::UInt64(_) => self.plain(row, out),
            Kind::Decimal128(..) | Kind::Decimal256(..) | Kind::List(..) | Kind::Struct(_) | Kind::Map(..) => {
                self.plain(row, out);
            }
            Kind::Float32(array) if array.value(row).is_finite() => self.text(row, out),
            Kind::Float64(array) if array.value(row).is_finite() => self.text(row, out),
            Kind::Timestamp(array, zone) => {
                out.push('"');
                push_timestamp(out, array.value(row), *zone, 'T');
                out.push('"');
            }
            Kind::Dictionary(keys, values) => values.json(keys.get(row).copied().unwrap_or_default(), out),
            _ => {
                let mut text = String::new();
                self.text(row, &mut text);
                push_json_string(out, &text);
            }
        }
    }

    /// Forms that are the same in text and JSON, apart from quotes.
    fn plain(&self, row: usize, out: &mut String) {
        // Writing to a `String` cannot fail.
        let _ = match &self.kind {
            Kind::Bool(array) => write!(out, "{}", array.value(row)),
            Kind::Int8(array) => write!(out, "{}", array.value(row)),
            Kind::Int16(array) => write!(out, "{}", array.value(row)),
            Kind::Int32(array) => write!(out, "{}", array.value(row)),
            Kind::Int64(array) => write!(out, "{}", array.value(row)),
            Kind::UInt8(array) => write!(out, "{}", array.value(row)),
            Kind::UInt16(array) => write!(out, "{}", array.value(row)),
            Kind::UInt32(array) => write!(out, "{}", array.value(row)),
            Kind::UInt64(array) => write!(out, "{}", array.value(row)),
            Kind::Decimal128(array, scale) => push_decimal(out, &array.value(row).to_string(), *scale),
            Kind::Decimal256(array, scale) => push_decimal(out, &array.value(row).to_string(), *scale),
            Kind::Binary(array) => push_hex(out, array.value(row)),
            Kind::LargeBinary(array) => push_hex(out, array.value(row)),
            Kind::BinaryView(array) => push_hex(out, array.value(row)),
            Kind::FixedBinary(array) => push_hex(out, array.value(row)),
            Kind::Uuid(array) => match uuid::Uuid::from_slice(array.value(row)) {
                Ok(id) => write!(out, "{id}"),
                Err(_) => push_hex(out, array.value(row)),
            },
            Kind::Date(array) => push_date(out, i64::from(array.value(row))),
            Kind::Time(array) => push_time(out, array.value(row)),
            Kind::Interval(array) => {
                let value = array.value(row);
                push_interval(out, value.months, value.days, value.nanoseconds / 1_000)
            }
            Kind::Duration(array) => push_interval(out, 0, 0, array.value(row)),
            Kind::List(ranges, values) => push_list(out, ranges.get(row), values),
            Kind::Struct(fields) => push_struct(out, fields, row),
            Kind::Map(ranges, keys, values) => push_map(out, ranges.get(row), keys, values),
            _ => Ok(()),
        };
    }
}

impl Kind {
    fn new(array: &ArrayRef, mark: Option<&str>) -> Result<Self, Problem> {
        fn primitive<T: ArrowPrimitiveType>(array: &ArrayRef) -> PrimitiveArray<T> {
            array.as_primitive::<T>().clone()
        }
        let as_type = |wanted: DataType| cast(array, &wanted).map_err(|error| unfit(array.data_type(), &error));
        Ok(match array.data_type() {
            DataType::Null => Self::Null,
            DataType::Boolean => Self::Bool(array.as_boolean().clone()),
            DataType::Int8 => Self::Int8(primitive(array)),
            DataType::Int16 => Self::Int16(primitive(array)),
            DataType::Int32 => Self::Int32(primitive(array)),
            DataType::Int64 => Self::Int64(primitive(array)),
            DataType::UInt8 => Self::UInt8(primitive(array)),
            DataType::UInt16 => Self::UInt16(primitive(array)),
            DataType::UInt32 => Self::UInt32(primitive(array)),
            DataType::UInt64 => Self::UInt64(primitive(array)),
            DataType::Float16 => Self::Float32(array.as_primitive::<Float16Type>().unary(f32::from)),
            DataType::Float32 => Self::Float32(primitive(array)),
            DataType::Float64 => Self::Float64(primitive(array)),
            DataType::Decimal128(_, scale) => Self::Decimal128(primitive(array), *scale),
            DataType::Decimal256(_, scale) => Self::Decimal256(primitive(array), *scale),
            DataType::Decimal32(_, scale) | DataType::Decimal64(_, scale) => {
                Self::Decimal128(primitive(&as_type(DataType::Decimal128(38, *scale))?), *scale)
            }
            DataType::Utf8View if matches!(mark, Some("json" | "jsonb")) => Self::Json(array.as_string_view().clone()),
            DataType::Utf8 => Self::Text(array.as_string().clone()),
            DataType::LargeUtf8 => Self::LargeText(array.as_string().clone()),
            DataType::Utf8View => Self::TextView(array.as_string_view().clone()),
            DataType::Binary => Self::Binary(array.as_binary().clone()),
            DataType::LargeBinary => Self::LargeBinary(array.as_binary().clone()),
            DataType::BinaryView => Self::BinaryView(array.as_binary_view().clone()),
            DataType::FixedSizeBinary(16) => Self::Uuid(array.as_fixed_size_binary().clone()),
            DataType::FixedSizeBinary(_) => Self::FixedBinary(array.as_fixed_size_binary().clone()),
            DataType::Date32 => Self::Date(primitive(array)),
            DataType::Date64 => {
                let days = |millis: i64| i32::try_from(millis.div_euclid(86_400_000)).unwrap_or(i32::MAX);
                Self::Date(array.as_primitive::<Date64Type>().unary(days))
            }
            DataType::Time32(_) | DataType::Time64(_) => {
                let micros = as_type(DataType::Time64(TimeUnit::Microsecond))?;
                Self::Time(micros.as_primitive::<arrow::datatypes::Time64MicrosecondType>().unary(|micros| micros))
            }
            DataType::Timestamp(_, zone) => {
                let micros = as_type(DataType::Timestamp(TimeUnit::Microsecond, zone.clone()))?;
                let has_zone = if zone.is_some() { HasZone::Yes } else { HasZone::No };
                Self::Timestamp(primitive(&micros), has_zone)
            }
            DataType::Interval(_) => {
                Self::Interval(primitive(&as_type(DataType::Interval(IntervalUnit::MonthDayNano))?))
            }
            DataType::Duration(_) => Self::Duration(primitive(&as_type(DataType::Duration(TimeUnit::Microsecond))?)),
            DataType::List(_) | DataType::LargeList(_) | DataType::ListView(_) | DataType::LargeListView(_) => {
                Self::list(array)?
            }
            DataType::FixedSizeList(field, size) => {
                let list = array.as_fixed_size_list();
                let size = usize::try_from(*size).unwrap_or_default();
                let ranges = (0..list.len()).map(|row| row * size..(row + 1) * size).collect();
                Self::List(ranges, Box::new(Cell::new(field, list.values())?))
            }
            DataType::Struct(fields) => {
                let columns = array.as_struct().columns();
                let cells = fields.iter().zip(columns).map(|(f, a)| Ok((f.name().clone(), Cell::new(f, a)?)));
                Self::Struct(cells.collect::<Result<_, Problem>>()?)
            }
            DataType::Map(..) => {
                let map = array.as_map();
                let (key, value) = map.entries_fields();
                let ranges =
                    map.value_offsets().windows(2).map(|pair| offsets(pair[0].into(), pair[1].into())).collect();
                Self::Map(ranges, Box::new(Cell::new(key, map.keys())?), Box::new(Cell::new(value, map.values())?))
            }
            DataType::Dictionary(..) => {
                let dictionary = array.as_any_dictionary();
                let values =
                    Cell { nulls: dictionary.values().logical_nulls(), kind: Kind::new(dictionary.values(), mark)? };
                // An empty dictionary has no key to normalise.
                let keys = if dictionary.values().is_empty() { Vec::new() } else { dictionary.normalized_keys() };
                Self::Dictionary(keys, Box::new(values))
            }
            other => {
                let text = cast(array, &DataType::Utf8View).map_err(|error| unfit(other, &error))?;
                Self::TextView(text.as_string_view().clone())
            }
        })
    }

    fn list(array: &ArrayRef) -> Result<Self, Problem> {
        let (ranges, field, values): (Vec<_>, _, _) = match array.data_type() {
            DataType::List(field) => {
                let list = array.as_list::<i32>();
                let ranges = list.value_offsets().windows(2).map(|pair| offsets(pair[0].into(), pair[1].into()));
                (ranges.collect(), field, list.values())
            }
            DataType::LargeList(field) => {
                let list = array.as_list::<i64>();
                (list.value_offsets().windows(2).map(|pair| offsets(pair[0], pair[1])).collect(), field, list.values())
            }
            DataType::ListView(field) => {
                let list = array.as_list_view::<i32>();
                let starts = list.value_offsets().iter().zip(list.value_sizes());
                let ranges = starts.map(|(start, size)| offsets((*start).into(), i64::from(*start) + i64::from(*size)));
                (ranges.collect(), field, list.values())
            }
            other => return Err(unfit(other, &"no text form")),
        };
        Ok(Self::List(ranges, Box::new(Cell::new(field, values)?)))
    }
}

fn offsets(start: i64, end: i64) -> std::ops::Range<usize> {
    usize::try_from(start).unwrap_or_default()..usize::try_from(end).unwrap_or_default()
}

fn unfit(data_type: &DataType, cause: &dyn std::fmt::Display) -> Problem {
    Problem::new(ErrorKind::Unsupported, format!("cannot show a value of type {data_type}"))
        .cause(cause)
        .fix("cast it to text")
}

fn push_list(out: &mut String, range: Option<&std::ops::Range<usize>>, values: &Cell) -> std::fmt::Result {
    out.push('[');
    for (at, row) in range.into_iter().flat_map(Clone::clone).enumerate() {
        if at > 0 {
            out.push(',');
        }
        values.json(row, out);
    }
    out.push(']');
    Ok(())
}

fn push_struct(out: &mut String, fields: &[(String, Cell)], row: usize) -> std::fmt::Result {
    out.push('{');
    for (at, (name, cell)) in fields.iter().enumerate() {
        if at > 0 {
            out.push(',');
        }
        push_json_string(out, name);
        out.push(':');
        cell.json(row, out);
    }
    out.push('}');
    Ok(())
}

fn push_map(out: &mut String, range: Option<&std::ops::Range<usize>>, keys: &Cell, values: &Cell) -> std::fmt::Result {
    out.push('{');
    for (at, row) in range.into_iter().flat_map(Clone::clone).enumerate() {
        if at > 0 {
            out.push(',');
        }
        let mut key = String::new();
        keys.text(row, &mut key);
        push_json_string(out, &key);
        out.push(':');
        values.json(row, out);
    }
    out.push('}');
    Ok(())
}

pub(crate) fn push_json_string(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c < ' ' || c == '\u{7f}' => {
                let _ = write!(out, "\\u{:04x}", c as u32);
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

/// Shortest digits that read back the same, in PostgreSQL's layout: with an exponent below 1e-4 and from `digits` on.
fn push_float(out: &mut String, value: f64, scientific: &str, digits: i32) {
    if value.is_nan() {
        return out.push_str("NaN");
    }
    if value.is_infinite() {
        return out.push_str(if value > 0.0 { "Infinity" } else { "-Infinity" });
    }
    // `scientific` is Rust's shortest form `d.ddde-x`.
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or_default();
    if value != 0.0 && !(-4..digits).contains(&exponent) {
        let sign = if exponent < 0 { '-' } else { '+' };
        let _ = write!(out, "{mantissa}e{sign}{:02}", exponent.abs());
        return;
    }
    let (sign, mantissa) = mantissa.strip_prefix('-').map_or(("", mantissa), |rest| ("-", rest));
    let figures = mantissa.replace('.', "");
    out.push_str(sign);
    if exponent < 0 {
        out.push_str("0.");
        out.extend(std::iter::repeat_n('0', usize::try_from(-exponent - 1).unwrap_or_default()));
        out.push_str(&figures);
        return;
    }
    let whole = usize::try_from(exponent).unwrap_or_default() + 1;
    match figures.split_at_checked(whole) {
        Some((whole, "")) => out.push_str(whole),
        Some((whole, fraction)) => {
            out.push_str(whole);
            out.push('.');
            out.push_str(fraction);
        }
        None => {
            out.push_str(&figures);
            out.extend(std::iter::repeat_n('0', whole - figures.len()));
        }
    }
}

fn push_decimal(out: &mut String, unscaled: &str, scale: i8) -> std::fmt::Result {
    let (sign, figures) = unscaled.strip_prefix('-').map_or(("", unscaled), |rest| ("-", rest));
    out.push_str(sign);
    if scale <= 0 {
        out.push_str(figures);
        if figures != "0" {
            out.extend(std::iter::repeat_n('0', usize::from(scale.unsigned_abs())));
        }
        return Ok(());
    }
    let scale = usize::from(scale.unsigned_abs());
    let padded = format!("{figures:0>width$}", width = scale + 1);
    let (whole, fraction) = padded.split_at(padded.len() - scale);
    write!(out, "{whole}.{fraction}")
}

fn push_hex(out: &mut String, bytes: &[u8]) -> std::fmt::Result {
    out.push_str("\\x");
    for byte in bytes {
        write!(out, "{byte:02x}")?;
    }
    Ok(())
}

/// Days since 1970-01-01.
fn push_date(out: &mut String, days: i64) -> std::fmt::Result {
    match TimeDelta::try_days(days).and_then(|days| NaiveDate::default().checked_add_signed(days)) {
        Some(date) => {
            let is_bc = push_year_month_day(out, date)?;
            if is_bc { out.write_str(" BC") } else { Ok(()) }
        }
        // Beyond the calendar of chrono; PostgreSQL knows no such date either.
        None => write!(out, "1970-01-01 + {days} days"),
    }
}

/// Year 0 is 1 BC.
fn push_year_month_day(out: &mut String, date: NaiveDate) -> Result<bool, std::fmt::Error> {
    let (year, is_bc) = if date.year() > 0 { (date.year(), false) } else { (1 - date.year(), true) };
    write!(out, "{year:04}-{:02}-{:02}", date.month(), date.day())?;
    Ok(is_bc)
}

fn push_time(out: &mut String, micros: i64) -> std::fmt::Result {
    let (seconds, fraction) = (micros.div_euclid(1_000_000), micros.rem_euclid(1_000_000));
    write!(out, "{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)?;
    push_fraction(out, fraction)
}

fn push_fraction(out: &mut String, micros: i64) -> std::fmt::Result {
    if micros == 0 {
        return Ok(());
    }
    let text = format!("{micros:06}");
    write!(out, ".{}", text.trim_end_matches('0'))
}

fn push_timestamp(out: &mut String, micros: i64, zone: HasZone, separator: char) {
    let Some(moment): Option<NaiveDateTime> = DateTime::from_timestamp_micros(micros).map(|at| at.naive_utc()) else {
        let _ = write!(out, "1970-01-01 + {micros} us");
        return;
    };
    let is_bc = push_year_month_day(out, moment.date()).unwrap_or_default();
    out.push(separator);
    let time = moment.time();
    let _ =
        push_time(out, i64::from(time.num_seconds_from_midnight()) * 1_000_000 + i64::from(time.nanosecond() / 1_000));
    if zone == HasZone::Yes {
        out.push_str(if separator == 'T' { "+00:00" } else { "+00" });
    }
    if is_bc {
        out.push_str(" BC");
    }
}

/// PostgreSQL's `intervalstyle = postgres`: `1 year 2 mons 3 days 04:05:06.7`.
fn push_interval(out: &mut String, months: i32, days: i32, micros: i64) -> std::fmt::Result {
    let mut parts = Vec::new();
    let plural = |count: i32| if count == 1 { "" } else { "s" };
    let mut sign_needed = false;
    for (count, unit) in [(months / 12, "year"), (months % 12, "mon"), (days, "day")] {
        if count != 0 {
            let plus = if sign_needed && count > 0 { "+" } else { "" };
            parts.push(format!("{plus}{count} {unit}{}", plural(count)));
            sign_needed = count < 0;
        }
    }
    if micros != 0 || parts.is_empty() {
        let mut time = String::new();
        if micros < 0 {
            time.push('-');
        } else if sign_needed {
            time.push('+');
        }
        push_time(&mut time, i64::try_from(micros.unsigned_abs()).unwrap_or(i64::MAX))?;
        parts.push(time);
    }
    out.push_str(&parts.join(" "));
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{
        Decimal128Array, DictionaryArray, Float32Array, Float64Array, Int64Array, IntervalMonthDayNanoArray, ListArray,
        StructArray, TimestampMicrosecondArray,
    };
    use arrow::datatypes::{Int32Type, IntervalMonthDayNano};

    use super::*;

    fn cell(array: ArrayRef) -> Cell {
        Cell::new(&Field::new("x", array.data_type().clone(), true), &array).unwrap()
    }

    fn texts(array: ArrayRef) -> Vec<String> {
        let rows = array.len();
        let cell = cell(array);
        (0..rows)
            .map(|row| {
                let mut out = String::new();
                cell.text(row, &mut out);
                out
            })
            .collect()
    }

    fn jsons(array: ArrayRef) -> Vec<String> {
        let rows = array.len();
        let cell = cell(array);
        (0..rows)
            .map(|row| {
                let mut out = String::new();
                cell.json(row, &mut out);
                out
            })
            .collect()
    }

    // The wanted texts are what PostgreSQL 15 prints.
    #[test]
    fn floats_print_as_in_postgres() {
        let values =
            vec![0.1, 1e14, 1e15, 123456789012345680.0, 0.0001, 0.00001, -2.5, 100.0, 0.0, f64::NAN, f64::INFINITY];
        let wanted = [
            "0.1",
            "100000000000000",
            "1e+15",
            "1.2345678901234568e+17",
            "0.0001",
            "1e-05",
            "-2.5",
            "100",
            "0",
            "NaN",
            "Infinity",
        ];
        assert_eq!(texts(Arc::new(Float64Array::from(values))), wanted);
        let values = vec![0.1_f32, 1234567.0, 123456.0, 1e20];
        assert_eq!(texts(Arc::new(Float32Array::from(values))), ["0.1", "1.234567e+06", "123456", "1e+20"]);
    }

    #[test]
    fn a_decimal_keeps_its_scale() {
        let array = Decimal128Array::from(vec![1230, -5, 0]).with_precision_and_scale(10, 2).unwrap();
        assert_eq!(texts(Arc::new(array)), ["12.30", "-0.05", "0.00"]);
    }

    #[test]
    fn a_timestamp_prints_as_in_postgres_and_iso_in_json() {
        let array =
            TimestampMicrosecondArray::from(vec![Some(1_704_067_200_000_000), Some(1_704_067_200_120_000), None]);
        let zoned: ArrayRef = Arc::new(array.clone().with_timezone("UTC"));
        assert_eq!(texts(Arc::clone(&zoned)), ["2024-01-01 00:00:00+00", "2024-01-01 00:00:00.12+00", ""]);
        assert_eq!(jsons(zoned), ["\"2024-01-01T00:00:00+00:00\"", "\"2024-01-01T00:00:00.12+00:00\"", "null"]);
        assert_eq!(texts(Arc::new(array))[0], "2024-01-01 00:00:00");
    }

    #[test]
    fn a_date_before_christ_says_so() {
        let days = NaiveDate::from_ymd_opt(-43, 3, 15).unwrap().signed_duration_since(NaiveDate::default()).num_days();
        let array = arrow::array::Date32Array::from(vec![i32::try_from(days).unwrap(), 0]);
        assert_eq!(texts(Arc::new(array)), ["0044-03-15 BC", "1970-01-01"]);
    }

    #[test]
    fn an_interval_prints_as_in_postgres() {
        let interval = |months, days, nanos| IntervalMonthDayNano::new(months, days, nanos);
        let values = vec![interval(14, 3, 14_706_700_000_000), interval(0, 0, 0), interval(-1, 0, 1_000_000_000)];
        let wanted = ["1 year 2 mons 3 days 04:05:06.7", "00:00:00", "-1 mons +00:00:01"];
        assert_eq!(texts(Arc::new(IntervalMonthDayNanoArray::from(values))), wanted);
    }

    #[test]
    fn bytes_print_as_hex() {
        assert_eq!(texts(Arc::new(BinaryViewArray::from(vec![&b"\x00\xff"[..]]))), ["\\x00ff"]);
    }

    #[test]
    fn nested_values_print_as_json() {
        let list = ListArray::from_iter_primitive::<Int32Type, _, _>(vec![Some(vec![Some(1), None]), Some(vec![])]);
        assert_eq!(texts(Arc::new(list)), ["[1,null]", "[]"]);
        let fields = vec![
            (Arc::new(Field::new("a", DataType::Int64, true)), Arc::new(Int64Array::from(vec![1])) as ArrayRef),
            (
                Arc::new(Field::new("b", DataType::Utf8, true)),
                Arc::new(StringArray::from(vec!["x\"y\u{1b}"])) as ArrayRef,
            ),
        ];
        assert_eq!(texts(Arc::new(StructArray::from(fields))), ["{\"a\":1,\"b\":\"x\\\"y\\u001b\"}"]);
    }

    #[test]
    fn a_dictionary_shows_its_values() {
        let array: DictionaryArray<Int32Type> = vec![Some("a"), None, Some("b")].into_iter().collect();
        assert_eq!(texts(Arc::new(array)), ["a", "", "b"]);
    }

    #[test]
    fn a_float_that_json_has_no_number_for_becomes_a_string() {
        assert_eq!(jsons(Arc::new(Float64Array::from(vec![f64::NAN, 1.5]))), ["\"NaN\"", "1.5"]);
    }
}
