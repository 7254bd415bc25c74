//! Statistics of a file out of what the Parquet encoder has collected anyway.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{DataType, Field, Fields, Float32Type, Float64Type, TimeUnit};
use chrono::{DateTime, NaiveDate};
use parquet::data_type::{AsBytes, ByteArray};
use parquet::file::metadata::ParquetMetaData;
use parquet::file::statistics::Statistics;
use serde_json::{Map, Number, Value};

use crate::FileStats;

/// Leaf columns with statistics, as Delta's default has it: wide tables would bloat the log.
const COLUMNS_MAX: usize = 32;
/// Longest text kept, in characters.
const TEXT_MAX: usize = 32;

/// One leaf column of the file, in file order. Leaves below lists and maps have no statistics.
pub(crate) struct Leaf {
    /// Names from the top-level column down; empty below a list or map.
    path: Vec<String>,
    data_type: DataType,
}

/// The leaves of a stored schema.
pub(crate) fn leaves(fields: &Fields) -> Vec<Leaf> {
    let mut found = Vec::new();
    for field in fields {
        visit(field, Some(Vec::new()), &mut found);
    }
    found
}

fn visit(field: &Field, path: Option<Vec<String>>, found: &mut Vec<Leaf>) {
    let path = path.map(|mut path| {
        path.push(field.name().clone());
        path
    });
    match field.data_type() {
        DataType::Struct(fields) => fields.iter().for_each(|field| visit(field, path.clone(), found)),
        DataType::List(inner) | DataType::Map(inner, _) => visit(inner, None, found),
        data_type => found.push(Leaf { path: path.unwrap_or_default(), data_type: data_type.clone() }),
    }
}

/// Sets the flag of each float leaf that holds a NaN: the encoder leaves NaN out of its maximum, so that it is none.
pub(crate) fn mark_nans(columns: &[ArrayRef], flags: &mut [bool]) {
    let mut at = 0;
    for column in columns {
        mark(column, &mut at, flags);
    }
}

fn mark(array: &ArrayRef, at: &mut usize, flags: &mut [bool]) {
    match array.data_type() {
        DataType::Struct(_) => array.as_struct().columns().iter().for_each(|column| mark(column, at, flags)),
        DataType::List(_) => mark(array.as_list::<i32>().values(), at, flags),
        DataType::Map(_, _) => array.as_map().entries().columns().iter().for_each(|column| mark(column, at, flags)),
        data_type => {
            let has_nan = match data_type {
                DataType::Float32 => array.as_primitive::<Float32Type>().values().iter().any(|value| value.is_nan()),
                DataType::Float64 => array.as_primitive::<Float64Type>().values().iter().any(|value| value.is_nan()),
                _ => false,
            };
            if let Some(flag) = flags.get_mut(*at) {
                *flag |= has_nan;
            }
            *at += 1;
        }
    }
}

/// A bound in a form that can be compared across row groups.
#[derive(Debug, Clone, PartialEq, PartialOrd)]
enum Bound {
    Integer(i128),
    Float(f64),
    /// Bytes of UTF-8, whole or cut.
    Text(Vec<u8>, bool),
}

/// Collects the statistics of a written file. `has_nan` stands beside `leaves`.
pub(crate) fn collect(metadata: &ParquetMetaData, leaves: &[Leaf], has_nan: &[bool]) -> FileStats {
    let mut stats = FileStats {
        num_records: metadata.file_metadata().num_rows().max(0) as u64,
        min_values: Map::new(),
        max_values: Map::new(),
        null_count: Map::new(),
    };
    for (at, leaf) in leaves.iter().enumerate().filter(|(_, leaf)| !leaf.path.is_empty()).take(COLUMNS_MAX) {
        let mut nulls = Some(0);
        let (mut min, mut max): (Option<Bound>, Option<Bound>) = (None, None);
        let mut has_bounds = true;
        for group in metadata.row_groups() {
            let Some(found) = group.columns().get(at).and_then(|column| column.statistics()) else {
                (nulls, has_bounds) = (None, false);
                break;
            };
            nulls = nulls.zip(found.null_count_opt()).map(|(sum, more)| sum + more);
            let is_all_null = found.null_count_opt() == Some(group.num_rows() as u64);
            match (bound(found, false), bound(found, true)) {
                (Some(low), Some(high)) => {
                    min = Some(min.take().filter(|min| *min <= low).unwrap_or(low));
                    max = Some(max.take().filter(|max| *max >= high).unwrap_or(high));
                }
                _ if is_all_null => {}
                // A row group that tells nothing, so the file tells nothing.
                _ => has_bounds = false,
            }
        }
        if let Some(nulls) = nulls {
            insert(&mut stats.null_count, &leaf.path, nulls.into());
        }
        if !has_bounds {
            continue;
        }
        if let Some(value) = min.and_then(|min| json(min, &leaf.data_type, false)) {
            insert(&mut stats.min_values, &leaf.path, value);
        }
        // NaN is the largest float, as in PostgreSQL.
        let is_open = has_nan.get(at).copied().unwrap_or(false);
        if let Some(value) = max.filter(|_| !is_open).and_then(|max| json(max, &leaf.data_type, true)) {
            insert(&mut stats.max_values, &leaf.path, value);
        }
    }
    stats
}

fn insert(into: &mut Map<String, Value>, path: &[String], value: Value) {
    match path {
        [] => {}
        [name] => {
            into.insert(name.clone(), value);
        }
        [name, rest @ ..] => {
            let inner = into.entry(name.clone()).or_insert_with(|| Value::Object(Map::new()));
            if let Value::Object(inner) = inner {
                insert(inner, rest, value);
            }
        }
    }
}

fn bound(stats: &Statistics, is_max: bool) -> Option<Bound> {
    let is_exact = if is_max { stats.max_is_exact() } else { stats.min_is_exact() };
    let bytes = |value: &ByteArray| Bound::Text(value.data().to_vec(), is_exact);
    match stats {
        Statistics::Int32(values) => {
            pick(values.min_opt(), values.max_opt(), is_max).map(|v| Bound::Integer((*v).into()))
        }
        Statistics::Int64(values) => {
            pick(values.min_opt(), values.max_opt(), is_max).map(|v| Bound::Integer((*v).into()))
        }
        Statistics::Float(values) => {
            pick(values.min_opt(), values.max_opt(), is_max).map(|v| Bound::Float((*v).into()))
        }
        Statistics::Double(values) => pick(values.min_opt(), values.max_opt(), is_max).map(|v| Bound::Float(*v)),
        Statistics::ByteArray(values) => pick(values.min_opt(), values.max_opt(), is_max).map(bytes),
        Statistics::FixedLenByteArray(values) => {
            let value = pick(values.min_opt(), values.max_opt(), is_max)?;
            // Decimals: big-endian two's complement.
            let bytes = value.as_bytes();
            let sign = if bytes.first().is_some_and(|byte| byte & 0x80 != 0) { -1_i128 } else { 0 };
            Some(Bound::Integer(bytes.iter().fold(sign, |number, byte| (number << 8) | i128::from(*byte))))
        }
        Statistics::Boolean(_) | Statistics::Int96(_) => None,
    }
}

fn pick<'a, T>(min: Option<&'a T>, max: Option<&'a T>, is_max: bool) -> Option<&'a T> {
    if is_max { max } else { min }
}

fn json(bound: Bound, data_type: &DataType, is_max: bool) -> Option<Value> {
    match (bound, data_type) {
        (Bound::Integer(value), DataType::Date32) => {
            let date = NaiveDate::from_num_days_from_ce_opt(i32::try_from(value).ok()?.checked_add(719_163)?)?;
            Some(date.format("%Y-%m-%d").to_string().into())
        }
        (Bound::Integer(value), DataType::Timestamp(TimeUnit::Microsecond, zone)) => {
            let at = DateTime::from_timestamp_micros(i64::try_from(value).ok()?)?;
            let form = if zone.is_some() { "%Y-%m-%dT%H:%M:%S%.6fZ" } else { "%Y-%m-%dT%H:%M:%S%.6f" };
            Some(at.format(form).to_string().into())
        }
        (Bound::Integer(value), DataType::Decimal128(_, scale)) => {
            let text = decimal(value, usize::try_from(*scale).ok()?);
            text.parse::<Number>().ok().map(Value::Number)
        }
        (Bound::Integer(value), _) => Some(i64::try_from(value).ok()?.into()),
        // Infinities are no JSON; then the file tells nothing.
        (Bound::Float(value), _) => Number::from_f64(value).map(Value::Number),
        (Bound::Text(bytes, is_exact), DataType::Utf8View) => {
            // A cut may end inside a character.
            let text = match std::str::from_utf8(&bytes) {
                Ok(text) => text,
                Err(error) => std::str::from_utf8(bytes.get(..error.valid_up_to())?).ok()?,
            };
            let kept: String = text.chars().take(TEXT_MAX).collect();
            if !is_max || (is_exact && kept.len() == bytes.len()) {
                return Some(kept.into());
            }
            // The encoder has rounded up already what it cut; what we cut, we round up.
            if kept.len() == text.len() { Some(kept.into()) } else { round_up(&kept).map(Value::String) }
        }
        _ => None,
    }
}

/// The shortest text above all that begin with `text`. `None` when there is none.
fn round_up(text: &str) -> Option<String> {
    let mut chars: Vec<char> = text.chars().collect();
    while let Some(last) = chars.pop() {
        // The code point behind, over the surrogates.
        let next = if last == '\u{D7FF}' { Some('\u{E000}') } else { char::from_u32(last as u32 + 1) };
        if let Some(next) = next {
            chars.push(next);
            return Some(chars.into_iter().collect());
        }
    }
    None
}

fn decimal(value: i128, scale: usize) -> String {
    let digits = format!("{:0>width$}", value.unsigned_abs(), width = scale + 1);
    let (whole, fraction) = digits.split_at(digits.len() - scale);
    let sign = if value < 0 { "-" } else { "" };
    if scale == 0 { format!("{sign}{whole}") } else { format!("{sign}{whole}.{fraction}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_keep_their_scale_and_sign() {
        assert_eq!(decimal(-5, 2), "-0.05");
        assert_eq!(decimal(12345, 2), "123.45");
        assert_eq!(decimal(i128::MIN, 0), i128::MIN.to_string());
        let bound = Bound::Integer(-99_999_999_999_999_999_999_999_999_999_999_999_999);
        let value = json(bound, &DataType::Decimal128(38, 9), false).unwrap();
        assert_eq!(value.to_string(), "-99999999999999999999999999999.999999999");
    }

    #[test]
    fn a_cut_maximum_is_rounded_up() {
        let text = |text: String, is_max| json(Bound::Text(text.into_bytes(), true), &DataType::Utf8View, is_max);
        assert_eq!(text("a".repeat(40), false).unwrap(), "a".repeat(32));
        assert_eq!(text("a".repeat(40), true).unwrap(), format!("{}b", "a".repeat(31)));
        assert_eq!(text("\u{10FFFF}".repeat(40), true), None);
        assert_eq!(text("b".repeat(32), true).unwrap(), "b".repeat(32));
        assert_eq!(round_up("a\u{D7FF}").unwrap(), "a\u{E000}");
    }
}
