//! Rows to the stored form of a table and back: casts that lose nothing, and the types that stand in files as text.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, FixedSizeBinaryArray, FixedSizeBinaryBuilder, ListArray, MapArray, StringViewBuilder,
    StructArray,
};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Field, Fields, TimeUnit, TimestampNanosecondType};
use uuid::Uuid;

use crate::delta::schema::{canonical, stored_type};

const STRICT: CastOptions<'static> =
    CastOptions { safe: false, format_options: arrow::util::display::FormatOptions::new() };

/// Whether every value of `from` has its place in `to`. Both canonical.
pub(crate) fn fits_type(from: &DataType, to: &DataType) -> bool {
    use DataType::{Decimal128, Float32, Float64, Int8, Int16, Int32, Int64, List, Map, Struct, Time64, Utf8View};
    match (from, to) {
        (Int8, Int16 | Int32 | Int64 | Float32 | Float64) => true,
        (Int16, Int32 | Int64 | Float32 | Float64) | (Int32, Int64 | Float64) | (Float32, Float64) => true,
        (Int8 | Int16 | Int32 | Int64, Decimal128(precision, scale)) => {
            let digits = match from {
                Int8 => 3,
                Int16 => 5,
                Int32 => 10,
                _ => 19,
            };
            i16::from(*precision) - i16::from(*scale) >= digits
        }
        (Decimal128(p1, s1), Decimal128(p2, s2)) => {
            s2 >= s1 && i16::from(*p2) - i16::from(*s2) >= i16::from(*p1) - i16::from(*s1)
        }
        // A foreign table may hold bytes; our rows are at least two bytes wide and are checked value by value.
        (Time64(_) | DataType::Interval(_) | DataType::FixedSizeBinary(16), Utf8View) => true,
        (List(from), List(to)) => fits_type(from.data_type(), to.data_type()),
        (Struct(from), Struct(to)) => {
            from.len() == to.len()
                && from.iter().all(|field| {
                    to.iter()
                        .any(|other| other.name() == field.name() && fits_type(field.data_type(), other.data_type()))
                })
        }
        (Map(from, _), Map(to, _)) => match (from.data_type(), to.data_type()) {
            (Struct(from), Struct(to)) => {
                from.iter().zip(to).all(|(from, to)| fits_type(from.data_type(), to.data_type()))
            }
            _ => false,
        },
        (from, to) => from == to,
    }
}

/// `array` in the stored type of `field`. Errors: why it does not fit.
pub(crate) fn to_stored(array: &ArrayRef, field: &Field) -> Result<ArrayRef, String> {
    let target = field.data_type();
    let stored = stored_type(target);
    if array.data_type() == &stored && !target.is_nested() {
        // The hot way: nothing to do. Text that is to be a uuid or a time was checked by whoever marked it.
        return Ok(Arc::clone(array));
    }
    if array.data_type() == &DataType::Null {
        return Ok(arrow::array::new_null_array(&stored, array.len()));
    }
    let source = canonical(&Field::new(field.name(), array.data_type().clone(), true))
        .map_err(|sql| format!("type {sql} is not known"))?;
    if !fits_type(source.data_type(), target) {
        let from = lode_core::sql_type::name_of(&source);
        return Err(format!("{from} does not fit {}", lode_core::sql_type::name_of(field)));
    }
    match &stored {
        DataType::Struct(fields) => struct_to_stored(array, target, fields),
        DataType::List(_) => list_to_stored(array, target),
        DataType::Map(_, _) => map_to_stored(array, target),
        DataType::Utf8View => text_to_stored(array),
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            refuse_nanoseconds(array)?;
            strict(array, &stored)
        }
        _ => strict(array, &stored),
    }
}

fn strict(array: &ArrayRef, to: &DataType) -> Result<ArrayRef, String> {
    cast_with_options(array, to, &STRICT).map_err(|error| error.to_string())
}

fn refuse_nanoseconds(array: &ArrayRef) -> Result<(), String> {
    if let Some(nanoseconds) = array.as_primitive_opt::<TimestampNanosecondType>()
        && nanoseconds.iter().flatten().any(|value| value % 1000 != 0)
    {
        return Err("a timestamp is finer than microseconds".into());
    }
    Ok(())
}

/// Text, and what stands in files as text: time, interval, uuid.
fn text_to_stored(array: &ArrayRef) -> Result<ArrayRef, String> {
    match array.data_type() {
        DataType::FixedSizeBinary(16) => {
            let ids = array.as_fixed_size_binary();
            let mut texts = StringViewBuilder::with_capacity(ids.len());
            let mut buffer = Uuid::encode_buffer();
            for id in ids {
                match id.map(Uuid::from_slice) {
                    Some(Ok(id)) => texts.append_value(id.hyphenated().encode_lower(&mut buffer)),
                    _ => texts.append_null(),
                }
            }
            Ok(Arc::new(texts.finish()))
        }
        DataType::Time32(_) | DataType::Time64(_) => {
            let micros = strict(array, &DataType::Time64(TimeUnit::Microsecond))?;
            strict(&strict(&micros, &DataType::Utf8)?, &DataType::Utf8View)
        }
        DataType::Interval(_) | DataType::Duration(_) => {
            let interval = strict(array, &DataType::Interval(arrow::datatypes::IntervalUnit::MonthDayNano))?;
            strict(&strict(&interval, &DataType::Utf8)?, &DataType::Utf8View)
        }
        _ => strict(array, &DataType::Utf8View),
    }
}

fn struct_to_stored(array: &ArrayRef, target: &DataType, stored: &Fields) -> Result<ArrayRef, String> {
    let (Some(rows), DataType::Struct(fields)) = (array.as_struct_opt(), target) else {
        return Err("a composite value was expected".into());
    };
    let columns: Result<Vec<ArrayRef>, String> = fields
        .iter()
        .map(|field| {
            let column = rows.column_by_name(field.name()).ok_or_else(|| format!("\"{}\" is missing", field.name()))?;
            to_stored(column, field)
        })
        .collect();
    StructArray::try_new(stored.clone(), columns?, rows.nulls().cloned())
        .map(|rows| Arc::new(rows) as ArrayRef)
        .map_err(|error| error.to_string())
}

fn list_to_stored(array: &ArrayRef, target: &DataType) -> Result<ArrayRef, String> {
    let DataType::List(element) = target else { return Err("a list was expected".into()) };
    let lists = match array.data_type() {
        DataType::List(_) => Arc::clone(array),
        DataType::LargeList(inner)
        | DataType::FixedSizeList(inner, _)
        | DataType::ListView(inner)
        | DataType::LargeListView(inner) => strict(array, &DataType::List(Arc::clone(inner)))?,
        _ => return Err("a list was expected".into()),
    };
    let lists = lists.as_list::<i32>();
    let values = to_stored(lists.values(), element)?;
    let element = Arc::new(crate::delta::schema::stored_field(element));
    ListArray::try_new(element, lists.offsets().clone(), values, lists.nulls().cloned())
        .map(|lists| Arc::new(lists) as ArrayRef)
        .map_err(|error| error.to_string())
}

fn map_to_stored(array: &ArrayRef, target: &DataType) -> Result<ArrayRef, String> {
    let (Some(maps), DataType::Map(entries, sorted)) = (array.as_map_opt(), target) else {
        return Err("a map was expected".into());
    };
    let DataType::Struct(pair) = entries.data_type() else { return Err("a map was expected".into()) };
    let stored: Fields = pair.iter().map(|field| crate::delta::schema::stored_field(field)).collect();
    let columns: Result<Vec<ArrayRef>, String> =
        maps.entries().columns().iter().zip(pair).map(|(column, field)| to_stored(column, field)).collect();
    let rows = StructArray::try_new(stored.clone(), columns?, None).map_err(|error| error.to_string())?;
    let entries = Arc::new(entries.as_ref().clone().with_data_type(DataType::Struct(stored)));
    MapArray::try_new(entries, maps.offsets().clone(), rows, maps.nulls().cloned(), *sorted)
        .map(|maps| Arc::new(maps) as ArrayRef)
        .map_err(|error| error.to_string())
}

/// A column as it was read from a data file, in the type of the table's field: text becomes time, interval or uuid
/// again, and narrower numbers of old files become wide.
/// Errors: why a value does not fit.
pub fn from_stored(array: &ArrayRef, field: &Field) -> Result<ArrayRef, String> {
    match field.data_type() {
        target if array.data_type() == target => Ok(Arc::clone(array)),
        DataType::FixedSizeBinary(16) => {
            let texts = strict(array, &DataType::Utf8View)?;
            let mut ids = FixedSizeBinaryBuilder::with_capacity(texts.len(), 16);
            for text in texts.as_string_view() {
                match text {
                    Some(text) => {
                        let id = lode_core::values::uuid(text.as_bytes());
                        let id = id.ok_or_else(|| format!("\"{text}\" is not a uuid"))?;
                        ids.append_value(id).map_err(|error| error.to_string())?;
                    }
                    None => ids.append_null(),
                }
            }
            Ok(Arc::new(FixedSizeBinaryArray::from(ids.finish().into_data())))
        }
        DataType::Struct(fields) => {
            let rows = array.as_struct_opt().ok_or("a composite value was expected")?;
            let columns: Result<Vec<ArrayRef>, String> = fields
                .iter()
                .map(|field| match rows.column_by_name(crate::delta::schema::stored_field(field).name()) {
                    Some(column) => from_stored(column, field),
                    None => Ok(arrow::array::new_null_array(field.data_type(), rows.len())),
                })
                .collect();
            StructArray::try_new(fields.clone(), columns?, rows.nulls().cloned())
                .map(|rows| Arc::new(rows) as ArrayRef)
                .map_err(|error| error.to_string())
        }
        DataType::List(element) => {
            let lists = array.as_list_opt::<i32>().ok_or("a list was expected")?;
            let values = from_stored(lists.values(), element)?;
            ListArray::try_new(Arc::clone(element), lists.offsets().clone(), values, lists.nulls().cloned())
                .map(|lists| Arc::new(lists) as ArrayRef)
                .map_err(|error| error.to_string())
        }
        DataType::Map(entries, sorted) => {
            let maps = array.as_map_opt().ok_or("a map was expected")?;
            let DataType::Struct(pair) = entries.data_type() else { return Err("a map was expected".into()) };
            let columns: Result<Vec<ArrayRef>, String> =
                maps.entries().columns().iter().zip(pair).map(|(column, field)| from_stored(column, field)).collect();
            let rows = StructArray::try_new(pair.clone(), columns?, None).map_err(|error| error.to_string())?;
            MapArray::try_new(Arc::clone(entries), maps.offsets().clone(), rows, maps.nulls().cloned(), *sorted)
                .map(|maps| Arc::new(maps) as ArrayRef)
                .map_err(|error| error.to_string())
        }
        target => strict(array, target),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Int64Array, TimestampNanosecondArray, UInt64Array};
    use lode_core::sql_type;

    fn there_and_back(sql: &str, text: &[Option<&str>]) {
        let field = sql_type::field("x", sql).unwrap();
        let texts: ArrayRef = Arc::new(arrow::array::StringViewArray::from(text.to_vec()));
        let values = from_stored(&texts, &field).unwrap();
        assert_eq!(values.data_type(), field.data_type());
        let stored = to_stored(&values, &field).unwrap();
        assert_eq!(stored.data_type(), &DataType::Utf8View);
        assert_eq!(&from_stored(&stored, &field).unwrap(), &values, "{sql}");
    }

    #[test]
    fn types_that_stand_as_text_come_back() {
        there_and_back("uuid", &[Some("d2c639aa-8816-431a-aaf6-d3fe2512ff61"), None]);
        there_and_back("time", &[Some("23:59:59.999999"), Some("00:00:00"), None]);
        there_and_back("interval", &[Some("1 year 2 mons 3 days 4 hours 5 mins 6.5 secs"), Some("-1 days"), None]);
    }

    #[test]
    fn only_casts_that_lose_nothing_are_made() {
        let field = |sql| sql_type::field("x", sql).unwrap();
        let longs: ArrayRef = Arc::new(Int64Array::from(vec![1]));
        assert_eq!(to_stored(&longs, &field("integer")).unwrap_err(), "bigint does not fit integer");
        assert!(to_stored(&longs, &field("numeric(20,1)")).is_ok());
        let large: ArrayRef = Arc::new(UInt64Array::from(vec![u64::MAX]));
        assert!(to_stored(&large, &field("bigint")).is_err());
        let fine: ArrayRef = Arc::new(TimestampNanosecondArray::from(vec![1_000, 1_001]));
        assert_eq!(to_stored(&fine, &field("timestamp")).unwrap_err(), "a timestamp is finer than microseconds");
        assert!(to_stored(&fine.slice(0, 1), &field("timestamp")).is_ok());
    }
}
