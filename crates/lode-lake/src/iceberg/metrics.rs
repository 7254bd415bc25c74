//! Values out of the Delta log as Iceberg has them: partition values, and counts and bounds of columns.
//! Source: Iceberg spec, "Manifests" and Appendix D, "Binary single-value serialization".

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type,
    TimestampMicrosecondType,
};
use serde_json::Value;

use super::schema::Leaf;
use crate::delta::{text_of, typed};
use crate::{FileStats, LakeError, LiveFile, TableDefinition};

/// A maximum of this many characters may be a cut one, which is no exact bound.
const TEXT_EXACT_MAX: usize = 32;

/// A value of a primitive Iceberg type.
#[derive(Debug, Clone, PartialEq, PartialOrd)]
pub(crate) enum Datum {
    Bool(bool),
    Int(i32),
    Long(i64),
    Float(f32),
    Double(f64),
    /// Unscaled, with the bytes that Avro takes for its precision.
    Decimal(i128, usize),
    Text(String),
}

impl Datum {
    pub(crate) fn is_nan(&self) -> bool {
        match self {
            Self::Float(value) => value.is_nan(),
            Self::Double(value) => value.is_nan(),
            _ => false,
        }
    }

    /// As bounds are written.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        match self {
            Self::Bool(value) => vec![u8::from(*value)],
            Self::Int(value) => value.to_le_bytes().to_vec(),
            Self::Long(value) => value.to_le_bytes().to_vec(),
            Self::Float(value) => value.to_le_bytes().to_vec(),
            Self::Double(value) => value.to_le_bytes().to_vec(),
            Self::Decimal(value, _) => {
                // The fewest bytes that keep the sign.
                let bytes = value.to_be_bytes();
                let is_spare = |at: usize| {
                    let next = bytes.get(at + 1).copied().unwrap_or_default();
                    bytes.get(at) == Some(&if *value < 0 { 0xFF } else { 0 }) && (next & 0x80 != 0) == (*value < 0)
                };
                let first = (0..bytes.len() - 1).find(|at| !is_spare(*at)).unwrap_or(bytes.len() - 1);
                bytes.iter().skip(first).copied().collect()
            }
            Self::Text(value) => value.as_bytes().to_vec(),
        }
    }
}

/// Bytes of a decimal in Avro. Source: Iceberg spec, Appendix A, "minimum number of bytes required to store the precision".
pub(crate) fn decimal_bytes(precision: u8) -> usize {
    let largest = 10_i128.checked_pow(u32::from(precision)).unwrap_or(i128::MAX);
    (1..16).find(|bytes| largest <= 1_i128 << (8 * bytes - 1)).unwrap_or(16)
}

fn datum(array: &ArrayRef, row: usize) -> Option<Datum> {
    if array.is_null(row) {
        return None;
    }
    Some(match array.data_type() {
        DataType::Boolean => Datum::Bool(array.as_boolean().value(row)),
        DataType::Int8 => Datum::Int(array.as_primitive::<Int8Type>().value(row).into()),
        DataType::Int16 => Datum::Int(array.as_primitive::<Int16Type>().value(row).into()),
        DataType::Int32 => Datum::Int(array.as_primitive::<Int32Type>().value(row)),
        DataType::Date32 => Datum::Int(array.as_primitive::<Date32Type>().value(row)),
        DataType::Int64 => Datum::Long(array.as_primitive::<Int64Type>().value(row)),
        DataType::Timestamp(_, _) => Datum::Long(array.as_primitive::<TimestampMicrosecondType>().value(row)),
        DataType::Float32 => Datum::Float(array.as_primitive::<Float32Type>().value(row)),
        DataType::Float64 => Datum::Double(array.as_primitive::<Float64Type>().value(row)),
        DataType::Decimal128(precision, _) => {
            Datum::Decimal(array.as_primitive::<Decimal128Type>().value(row), decimal_bytes(*precision))
        }
        DataType::Utf8View => Datum::Text(array.as_string_view().value(row).to_owned()),
        _ => return None,
    })
}

/// Counts and bounds of the columns of one file, by field id in ascending order.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Metrics {
    pub(crate) value_counts: Vec<(i32, i64)>,
    pub(crate) null_counts: Vec<(i32, i64)>,
    pub(crate) lower: Vec<(i32, Vec<u8>)>,
    pub(crate) upper: Vec<(i32, Vec<u8>)>,
}

/// The metrics of each of `files`, column by column. What a file does not tell exactly is left out.
pub(crate) fn metrics(leaves: &[Leaf], files: &[&LiveFile]) -> Vec<Metrics> {
    let mut found = vec![Metrics::default(); files.len()];
    let stats: Vec<Option<&FileStats>> = files.iter().map(|file| file.file.stats.as_ref()).collect();
    for leaf in leaves {
        for (metrics, stats) in found.iter_mut().zip(&stats) {
            let Some(stats) = stats else { continue };
            let nulls = at(&stats.null_count, &leaf.path).and_then(Value::as_u64);
            let counts = (i64::try_from(stats.num_records), nulls.and_then(|nulls| i64::try_from(nulls).ok()));
            if let (Ok(rows), Some(nulls)) = counts
                && nulls <= rows
            {
                metrics.value_counts.push((leaf.id, rows));
                metrics.null_counts.push((leaf.id, nulls));
            }
        }
        let bounds = |is_max: bool| {
            let values = stats.iter().map(|stats| {
                let stats = (*stats)?;
                text_of(at(if is_max { &stats.max_values } else { &stats.min_values }, &leaf.path)?)
            });
            let mut values: Vec<Option<String>> = values.collect();
            if is_max && leaf.data_type == DataType::Utf8View {
                for value in &mut values {
                    value.take_if(|text| text.chars().count() >= TEXT_EXACT_MAX);
                }
            }
            typed(values, &leaf.data_type, is_max)
        };
        let (low, high) = (bounds(false), bounds(true));
        for (row, metrics) in found.iter_mut().enumerate() {
            metrics.lower.extend(datum(&low, row).and_then(lower_float).map(|low| (leaf.id, low.to_bytes())));
            metrics.upper.extend(datum(&high, row).map(|high| (leaf.id, high.to_bytes())));
        }
    }
    for metrics in &mut found {
        metrics.value_counts.sort_unstable();
        metrics.null_counts.sort_unstable();
        metrics.lower.sort_unstable();
        metrics.upper.sort_unstable();
    }
    found
}

/// Iceberg sorts -0 before 0, and a minimum of Delta does not tell them apart.
fn lower_float(value: Datum) -> Option<Datum> {
    match value {
        value if value.is_nan() => None,
        Datum::Float(0.0) => Some(Datum::Float(-0.0)),
        Datum::Double(0.0) => Some(Datum::Double(-0.0)),
        other => Some(other),
    }
}

fn at<'a>(stats: &'a serde_json::Map<String, Value>, path: &[String]) -> Option<&'a Value> {
    let (first, rest) = path.split_first()?;
    rest.iter().try_fold(stats.get(first)?, |value, name| value.get(name))
}

/// The partition values of each of `files`, in the order of the table's partition columns.
/// Errors: `Corrupt` for a value that is none of the column's type.
pub(crate) fn partitions(
    definition: &TableDefinition,
    files: &[&LiveFile],
) -> Result<Vec<Vec<Option<Datum>>>, LakeError> {
    let mut found = vec![Vec::with_capacity(definition.partition_by.len()); files.len()];
    for name in &definition.partition_by {
        let Ok(field) = definition.schema.field_with_name(name) else { continue };
        let stored = crate::delta::schema::stored_field(field);
        let texts = files.iter().map(|file| file.file.partition_values.get(stored.name()).cloned().flatten());
        let texts: Vec<Option<String>> = texts.collect();
        let values = typed(texts.clone(), stored.data_type(), false);
        for (row, (partition, text)) in found.iter_mut().zip(&texts).enumerate() {
            let value = datum(&values, row);
            if let (Some(text), None) = (text, &value) {
                return Err(LakeError::Corrupt {
                    path: files.get(row).map(|file| file.file.path.clone()).unwrap_or_default(),
                    reason: format!("partition value \"{text}\" of column \"{name}\" has the wrong type"),
                });
            }
            partition.push(value);
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_take_the_fewest_bytes() {
        // Source: Iceberg spec, Appendix D.
        let cases: [(i128, &[u8]); 7] = [
            (0, &[0]),
            (127, &[0x7F]),
            (128, &[0, 0x80]),
            (-128, &[0x80]),
            (-129, &[0xFF, 0x7F]),
            (-1, &[0xFF]),
            (1420, &[0x05, 0x8C]),
        ];
        for (value, bytes) in cases {
            assert_eq!(Datum::Decimal(value, 16).to_bytes(), bytes, "{value}");
        }
        assert_eq!(Datum::Decimal(i128::MIN, 16).to_bytes(), i128::MIN.to_be_bytes());
    }

    #[test]
    fn precisions_have_their_avro_size() {
        // Source: Parquet format, "DECIMAL": the largest precisions of 1, 4, 8 and 16 bytes.
        for (precision, bytes) in [(1, 1), (2, 1), (3, 2), (9, 4), (10, 5), (18, 8), (19, 9), (38, 16)] {
            assert_eq!(decimal_bytes(precision), bytes, "{precision}");
        }
    }
}
