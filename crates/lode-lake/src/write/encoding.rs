//! How the columns of a file are encoded: a look at its first rows tells where a dictionary is in vain.

use std::collections::HashSet;
use std::hash::RandomState;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, Date32Type, Decimal128Type, Field, Fields, Float32Type, Float64Type, Int16Type,
    Int32Type, Int64Type, TimestampMicrosecondType,
};
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::{WriterProperties, WriterPropertiesBuilder};
use parquet::schema::types::ColumnPath;

use crate::WriterOptions;

/// Rows looked at, spread over the first batch: neighbours are alike in sorted data.
const SAMPLE_ROWS: usize = 1024;
/// Of so many distinct values in the sample, a column has too many for a dictionary page.
const DISTINCT_MIN: usize = SAMPLE_ROWS * 31 / 32;
/// A page is built in one buffer; small ones stay in the cache.
const PAGE_BYTES: usize = 256 << 10;

/// The encoder gives up a dictionary only when it has outgrown its page, after hashing some hundred thousand values of each
/// row group. Columns whose values hardly repeat get none. No delta encodings: too many readers cannot read them.
pub(super) fn properties(options: &WriterOptions, fields: &Fields, first: &[ArrayRef]) -> WriterProperties {
    let codec = match options.zstd_level.map(ZstdLevel::try_new) {
        Some(Ok(level)) => Compression::ZSTD(level),
        Some(Err(_)) => Compression::ZSTD(ZstdLevel::default()),
        None => Compression::SNAPPY,
    };
    let mut builder = WriterProperties::builder()
        .set_compression(codec)
        .set_data_page_size_limit(PAGE_BYTES)
        .set_created_by(concat!("Lode ", env!("CARGO_PKG_VERSION")).into());
    for (field, array) in fields.iter().zip(first) {
        builder = look(builder, &mut Vec::new(), field, array);
    }
    builder.build()
}

fn look(
    builder: WriterPropertiesBuilder,
    path: &mut Vec<String>,
    field: &Field,
    array: &ArrayRef,
) -> WriterPropertiesBuilder {
    path.push(field.name().clone());
    let builder = match array.data_type() {
        DataType::Struct(fields) => fields
            .iter()
            .zip(array.as_struct().columns())
            .fold(builder, |builder, (field, column)| look(builder, path, field, column)),
        _ if array.len() >= 2 * SAMPLE_ROWS && distinct(array).is_some_and(|distinct| distinct >= DISTINCT_MIN) => {
            builder.set_column_dictionary_enabled(ColumnPath::new(path.clone()), false)
        }
        _ => builder,
    };
    path.pop();
    builder
}

/// Distinct values of the sample; NULL is one. `None` for types that are not looked at.
fn distinct(array: &ArrayRef) -> Option<usize> {
    Some(match array.data_type() {
        DataType::Int16 => of_primitive::<Int16Type>(array),
        DataType::Int32 => of_primitive::<Int32Type>(array),
        DataType::Int64 => of_primitive::<Int64Type>(array),
        DataType::Float32 => of_primitive::<Float32Type>(array),
        DataType::Float64 => of_primitive::<Float64Type>(array),
        DataType::Date32 => of_primitive::<Date32Type>(array),
        DataType::Decimal128(_, _) => of_primitive::<Decimal128Type>(array),
        DataType::Timestamp(_, _) => array
            .as_primitive_opt::<TimestampMicrosecondType>()
            .map(|_| of_primitive::<TimestampMicrosecondType>(array))?,
        DataType::Utf8View => count(array, |row| array.as_string_view().value(row)),
        DataType::BinaryView => count(array, |row| array.as_binary_view().value(row)),
        _ => return None,
    })
}

fn of_primitive<T: ArrowPrimitiveType>(array: &ArrayRef) -> usize
where
    T::Native: Bits,
{
    let values = array.as_primitive::<T>();
    count(array, |row| values.value(row).bits())
}

fn count<V: std::hash::Hash + Eq>(array: &ArrayRef, value: impl Fn(usize) -> V) -> usize {
    let mut seen = HashSet::with_capacity_and_hasher(SAMPLE_ROWS, RandomState::new());
    let step = (array.len() / SAMPLE_ROWS).max(1);
    for at in 0..SAMPLE_ROWS.min(array.len() / step) {
        // Each step begins one row later, or a pattern of that length would hide.
        let row = at * step + at % step;
        seen.insert(array.is_valid(row).then(|| value(row)));
    }
    seen.len()
}

/// A value as bits: floats have no equality of their own.
trait Bits {
    fn bits(self) -> i128;
}

macro_rules! bits {
    ($($native:ty => $convert:expr),*) => {
        $(impl Bits for $native {
            fn bits(self) -> i128 {
                $convert(self)
            }
        })*
    };
}

bits!(i16 => i128::from, i32 => i128::from, i64 => i128::from, i128 => i128::from,
    f32 => |value: f32| i128::from(value.to_bits()), f64 => |value: f64| i128::from(value.to_bits()));

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Float64Array, Int64Array, StringViewArray, StructArray};

    use super::*;

    #[test]
    fn only_columns_of_many_values_lose_their_dictionary() {
        let rows = 8192_i64;
        let unique: ArrayRef = Arc::new(Int64Array::from_iter_values(0..rows));
        let few: ArrayRef =
            Arc::new(StringViewArray::from_iter_values((0..rows).map(|row| format!("kind {}", row % 7))));
        let prices: ArrayRef = Arc::new(Float64Array::from_iter_values((0..rows).map(|row| row as f64 * 1.7)));
        let nulls: ArrayRef = Arc::new(Int64Array::from_iter((0..rows).map(|row| (row % 2 == 0).then_some(row))));
        let inner =
            Fields::from(vec![Field::new("id", DataType::Int64, true), Field::new("kind", DataType::Utf8View, true)]);
        let nested: ArrayRef = Arc::new(StructArray::new(inner, vec![Arc::clone(&unique), Arc::clone(&few)], None));
        let columns = [("unique", unique), ("few", few), ("prices", prices), ("nulls", nulls), ("nested", nested)];
        let fields: Fields =
            columns.iter().map(|(name, array)| Field::new(*name, array.data_type().clone(), true)).collect();
        let arrays: Vec<ArrayRef> = columns.into_iter().map(|(_, array)| array).collect();
        let properties = properties(&WriterOptions::default(), &fields, &arrays);
        let has = |path: &[&str]| {
            properties.dictionary_enabled(&ColumnPath::new(path.iter().map(|part| (*part).to_owned()).collect()))
        };
        assert!(!has(&["unique"]));
        assert!(has(&["few"]));
        assert!(!has(&["prices"]));
        assert!(has(&["nulls"]));
        assert!(!has(&["nested", "id"]));
        assert!(has(&["nested", "kind"]));
        let few_rows: Vec<ArrayRef> = arrays.iter().map(|array| array.slice(0, 100)).collect();
        assert!(
            super::properties(&WriterOptions::default(), &fields, &few_rows)
                .dictionary_enabled(&ColumnPath::from("unique"))
        );
    }
}
