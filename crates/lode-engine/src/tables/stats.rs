//! File statistics of a snapshot as the planner wants them: for pruning files and for estimates.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, UInt64Array};
use arrow::datatypes::{DataType, FieldRef, TimeUnit};
use datafusion::common::pruning::PruningStatistics;
use datafusion::common::stats::Precision;
use datafusion::common::{Column, ColumnStatistics, ScalarValue, Statistics};
use serde_json::Value;

use lode_lake::{FileStats, LiveFile, Snapshot};

/// Statistics of a snapshot for pruning, one container a file.
pub(crate) struct FileColumns<'a>(pub(crate) &'a Snapshot);

impl FileColumns<'_> {
    fn is_partition(&self, column: &Column) -> bool {
        self.0.definition.partition_by.iter().any(|name| name == column.name())
    }
}

impl PruningStatistics for FileColumns<'_> {
    fn min_values(&self, column: &Column) -> Option<ArrayRef> {
        if self.is_partition(column) {
            return self.0.partition_values(column.name());
        }
        self.0.column_stats(column.name()).map(|stats| stats.min)
    }

    fn max_values(&self, column: &Column) -> Option<ArrayRef> {
        if self.is_partition(column) {
            return self.0.partition_values(column.name());
        }
        self.0.column_stats(column.name()).map(|stats| stats.max)
    }

    fn num_containers(&self) -> usize {
        self.0.files.len()
    }

    fn null_counts(&self, column: &Column) -> Option<ArrayRef> {
        if self.is_partition(column) {
            let values = self.0.partition_values(column.name())?;
            let rows = self.0.column_stats(column.name())?.row_count;
            let nulls = (0..values.len()).map(|at| match (values.is_null(at), rows.is_valid(at)) {
                (false, _) => Some(0),
                (true, true) => Some(rows.value(at)),
                (true, false) => None,
            });
            return Some(Arc::new(nulls.collect::<UInt64Array>()));
        }
        Some(Arc::new(self.0.column_stats(column.name())?.null_count))
    }

    fn row_counts(&self) -> Option<ArrayRef> {
        let counts = self.0.files.iter().map(|live| live.file.stats.as_ref().map(|stats| stats.num_records));
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

/// What the log says of a file, column by column of the table.
pub(crate) struct FileStatistics {
    pub(crate) rows: Option<u64>,
    pub(crate) columns: Vec<ColumnStatistics>,
}

pub(crate) fn file_statistics(live: &LiveFile, snapshot: &Snapshot) -> FileStatistics {
    let stored = snapshot.definition.stored_schema();
    let mut columns = of_file(live, stored.fields()).column_statistics;
    // A partition column stands in the log, not in the file's statistics.
    for (column, field) in columns.iter_mut().zip(snapshot.schema().fields()) {
        if snapshot.definition.partition_by.contains(field.name()) {
            *column = ColumnStatistics::new_unknown();
        }
    }
    FileStatistics { rows: live.file.stats.as_ref().map(|stats| stats.num_records), columns }
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
