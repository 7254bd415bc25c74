//! File statistics of a snapshot as the planner wants them: for pruning files and for estimates.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, UInt64Array};
use arrow::datatypes::{DataType, FieldRef, SchemaRef, TimeUnit};
use datafusion::common::pruning::PruningStatistics;
use datafusion::common::stats::Precision;
use datafusion::common::{Column, ColumnStatistics, ScalarValue, Statistics};
use serde_json::Value;

use lode_lake::{FileStats, LiveFile};

/// Statistics of `files` for the columns of `schema`, one container a file.
pub(crate) struct FileColumns<'a> {
    pub(crate) files: &'a [LiveFile],
    pub(crate) schema: &'a SchemaRef,
}

impl FileColumns<'_> {
    fn bounds(&self, column: &Column, side: Side) -> Option<ArrayRef> {
        let field = self.schema.field_with_name(column.name()).ok()?;
        let null = ScalarValue::try_from(field.data_type()).ok()?;
        let bounds = self.files.iter().map(|live| {
            let partition = live.file.partition_values.get(column.name());
            let bound = match partition {
                Some(value) => partition_value(value.as_deref(), field.data_type()),
                None => live.file.stats.as_ref().and_then(|stats| bound(stats, field.name(), field.data_type(), side)),
            };
            bound.unwrap_or_else(|| null.clone())
        });
        ScalarValue::iter_to_array(bounds).ok()
    }
}

impl PruningStatistics for FileColumns<'_> {
    fn min_values(&self, column: &Column) -> Option<ArrayRef> {
        self.bounds(column, Side::Min)
    }

    fn max_values(&self, column: &Column) -> Option<ArrayRef> {
        self.bounds(column, Side::Max)
    }

    fn num_containers(&self) -> usize {
        self.files.len()
    }

    fn null_counts(&self, column: &Column) -> Option<ArrayRef> {
        let counts = self.files.iter().map(|live| match live.file.partition_values.get(column.name()) {
            Some(value) => {
                let rows = live.file.stats.as_ref().map(|stats| stats.num_records);
                if value.is_some() { Some(0) } else { rows }
            }
            None => live.file.stats.as_ref().and_then(|stats| null_count(stats, column.name())),
        });
        Some(Arc::new(counts.collect::<UInt64Array>()))
    }

    fn row_counts(&self) -> Option<ArrayRef> {
        let counts = self.files.iter().map(|live| live.file.stats.as_ref().map(|stats| stats.num_records));
        Some(Arc::new(counts.collect::<UInt64Array>()))
    }

    fn contained(&self, _: &Column, _: &HashSet<ScalarValue>) -> Option<BooleanArray> {
        None
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Side {
    Min,
    Max,
}

/// Statistics of one file for `fields`, exact where the format keeps them exact.
pub(crate) fn of_file(live: &LiveFile, fields: &[FieldRef]) -> Statistics {
    let Some(stats) = &live.file.stats else {
        return Statistics {
            num_rows: Precision::Absent,
            total_byte_size: Precision::Absent,
            column_statistics: vec![ColumnStatistics::new_unknown(); fields.len()],
        };
    };
    let rows = usize::try_from(stats.num_records).unwrap_or(usize::MAX);
    let num_rows = if live.has_deletes { Precision::Inexact(rows) } else { Precision::Exact(rows) };
    let column_statistics = fields
        .iter()
        .map(|field| {
            let precise = |value: Option<ScalarValue>| match value {
                None => Precision::Absent,
                Some(value) if live.has_deletes || !is_exact(field.data_type()) => Precision::Inexact(value),
                Some(value) => Precision::Exact(value),
            };
            let mut column = ColumnStatistics::new_unknown();
            column.min_value = precise(bound(stats, field.name(), field.data_type(), Side::Min));
            column.max_value = precise(bound(stats, field.name(), field.data_type(), Side::Max));
            if let Some(nulls) = null_count(stats, field.name()).and_then(|nulls| usize::try_from(nulls).ok()) {
                column.null_count = if live.has_deletes { Precision::Inexact(nulls) } else { Precision::Exact(nulls) };
            }
            column
        })
        .collect();
    Statistics { num_rows, total_byte_size: Precision::Absent, column_statistics }
}

/// Text is cut, times may be cut to milliseconds and NaN is outside of float bounds: those bound, but are no values.
/// Source: Delta protocol, "Per-file Statistics".
fn is_exact(data_type: &DataType) -> bool {
    data_type.is_integer() || matches!(data_type, DataType::Boolean | DataType::Date32 | DataType::Decimal128(..))
}

fn null_count(stats: &FileStats, column: &str) -> Option<u64> {
    stats.null_count.get(column)?.as_u64()
}

fn bound(stats: &FileStats, column: &str, data_type: &DataType, side: Side) -> Option<ScalarValue> {
    let values = if side == Side::Min { &stats.min_values } else { &stats.max_values };
    let value = parse(values.get(column)?, data_type)?;
    Some(match (side, value) {
        // A maximum that was cut to milliseconds lies below values of the same millisecond.
        (Side::Max, ScalarValue::TimestampMicrosecond(Some(micros), zone)) if micros % 1_000 == 0 => {
            ScalarValue::TimestampMicrosecond(Some(micros.saturating_add(999)), zone)
        }
        (_, value) => value,
    })
}

/// A JSON bound as a value of the column's type; `None` where it cannot be used.
fn parse(value: &Value, data_type: &DataType) -> Option<ScalarValue> {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        Value::Bool(flag) => flag.to_string(),
        _ => return None,
    };
    let usable = data_type.is_integer()
        || matches!(
            data_type,
            DataType::Boolean
                | DataType::Date32
                | DataType::Float32
                | DataType::Float64
                | DataType::Decimal128(..)
                | DataType::Utf8View
                | DataType::Utf8
                | DataType::Timestamp(TimeUnit::Microsecond, _)
        );
    if !usable {
        return None;
    }
    ScalarValue::try_from_string(text, data_type).ok().filter(|value| !value.is_null())
}

/// A partition value as the column's type. `Some(NULL)` for a null partition, `None` if the text does not parse.
pub(crate) fn partition_value(text: Option<&str>, data_type: &DataType) -> Option<ScalarValue> {
    match text {
        None => ScalarValue::try_from(data_type).ok(),
        Some(text) => ScalarValue::try_from_string(text.to_owned(), data_type).ok(),
    }
}
