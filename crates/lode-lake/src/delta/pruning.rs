//! Statistics of a column over the files of a snapshot, as arrays, for pruning files before they are opened.

use std::str::FromStr;
use std::sync::Arc;

use arrow::array::{ArrayRef, StringArray, UInt64Array};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::DataType;
use serde_json::Value;

use super::Snapshot;

/// One entry per file, in the order of `Snapshot::files`; NULL where the file tells nothing.
#[derive(Debug, Clone)]
pub struct ColumnStats {
    /// In the column's type. A bound, not always a value: long texts are cut, the maximum rounded up. No maxima of floats.
    pub min: ArrayRef,
    pub max: ArrayRef,
    pub null_count: UInt64Array,
    pub row_count: UInt64Array,
}

impl Snapshot {
    /// Statistics of the top-level column `name`; `None` for an unknown column.
    pub fn column_stats(&self, name: &str) -> Option<ColumnStats> {
        let field = self.definition.schema.field_with_name(name).ok()?;
        let physical = super::schema::stored_field(field).name().clone();
        let all = || self.files.iter().map(|file| file.file.stats.as_ref());
        let bound = |max: bool| {
            let values = all().map(|stats| {
                let stats = stats?;
                let value = if max { stats.max_values.get(&physical) } else { stats.min_values.get(&physical) }?;
                text_of(value)
            });
            typed(values.collect(), field.data_type(), max)
        };
        let count = |value: Option<&Value>| value.and_then(Value::as_u64);
        Some(ColumnStats {
            min: bound(false),
            max: bound(true),
            null_count: all().map(|stats| count(stats?.null_count.get(&physical))).collect(),
            row_count: all().map(|stats| Some(stats?.num_records)).collect(),
        })
    }

    /// The values of a partition column, in the column's type, per file; `None` for an unknown column.
    pub fn partition_values(&self, name: &str) -> Option<ArrayRef> {
        let field = self.definition.schema.field_with_name(name).ok()?;
        let physical = super::schema::stored_field(field).name().clone();
        let values = self.files.iter().map(|file| file.file.partition_values.get(&physical).cloned().flatten());
        Some(typed(values.collect(), field.data_type(), false))
    }
}

pub(crate) fn text_of(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(_) | Value::Bool(_) => Some(value.to_string()),
        _ => None,
    }
}

/// Parses each text; what does not parse tells nothing.
pub(crate) fn typed(values: Vec<Option<String>>, data_type: &DataType, is_max: bool) -> ArrayRef {
    let lenient = CastOptions { safe: true, ..Default::default() };
    let values: Vec<Option<String>> = match data_type {
        // Some writers cut timestamps to milliseconds: the maximum may lie up to one above.
        DataType::Timestamp(_, _) if is_max => values.into_iter().map(|value| value.map(end_of_millisecond)).collect(),
        // Doubles are written as such, but an integer column may carry `1.0`.
        DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64 => {
            values.into_iter().map(|value| value.filter(|text| i64::from_str(text).is_ok())).collect()
        }
        // Other writers leave NaN out of the bounds (Delta protocol, "Per-file Statistics"), and NaN is the largest in SQL.
        DataType::Float32 | DataType::Float64 if is_max => vec![None; values.len()],
        // Text in files: its order is not theirs, and other writers spell them otherwise.
        DataType::Time64(_) | DataType::Interval(_) | DataType::FixedSizeBinary(_) => vec![None; values.len()],
        _ => values,
    };
    let count = values.len();
    let texts: ArrayRef = Arc::new(StringArray::from(values));
    cast_with_options(&texts, data_type, &lenient).unwrap_or_else(|_| arrow::array::new_null_array(data_type, count))
}

/// `…:05.123Z` becomes `…:05.123999Z`; finer fractions stay.
fn end_of_millisecond(text: String) -> String {
    let Some((head, rest)) = text.rsplit_once('.') else { return text };
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    match (rest.get(..digits), rest.get(digits..)) {
        (Some(fraction), Some(zone)) if fraction.len() <= 3 => format!("{head}.{fraction:0<3}999{zone}"),
        _ => text,
    }
}
