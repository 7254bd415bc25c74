//! Foreign Arrow types to those of a table, upward only: a value that would change is a misfit.

use std::sync::Arc;

use arrow::array::cast::AsArray;
use arrow::array::types::{Float32Type, Float64Type, TimestampMicrosecondType};
use arrow::array::{
    Array, ArrayRef, Float32Array, Float64Array, ListArray, MapArray, StructArray, TimestampMicrosecondArray,
    new_null_array,
};
use arrow::buffer::{Buffer, NullBuffer};
use arrow::compute::kernels::cmp::not_distinct;
use arrow::compute::{CastOptions, cast_with_options, nullif};
use arrow::datatypes::{DataType, Field, IntervalUnit, TimeUnit};
use arrow::error::ArrowError;
use lode_core::sql_type::{self, SQL_TYPE_MARK};

use super::super::column::{Column, Reading};
use super::super::values::time::{Instant, Stamp};

/// A column in its table type; `misfits` are NULL in it.
pub(super) struct Landed {
    pub(super) array: ArrayRef,
    pub(super) misfits: Vec<usize>,
}

/// The column that a Parquet column becomes when nobody declares one.
pub(super) fn landed_field(field: &Field) -> Field {
    let marked = |data_type, mark: &str| {
        Field::new(field.name(), data_type, true).with_metadata([(SQL_TYPE_MARK.to_owned(), mark.to_owned())].into())
    };
    let is_uuid = field.metadata().get("ARROW:extension:name").is_some_and(|name| name == "arrow.uuid");
    let data_type = match field.data_type() {
        DataType::Int8 | DataType::UInt8 => DataType::Int16,
        DataType::UInt16 => DataType::Int32,
        DataType::UInt32 => DataType::Int64,
        DataType::UInt64 => DataType::Decimal128(20, 0),
        DataType::Float16 => DataType::Float32,
        DataType::Decimal32(precision, scale)
        | DataType::Decimal64(precision, scale)
        | DataType::Decimal128(precision, scale)
            if *scale >= 0 =>
        {
            DataType::Decimal128((*precision).max(*scale as u8), *scale)
        }
        DataType::Decimal256(_, scale) if (0..=38).contains(scale) => DataType::Decimal128(38, *scale),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Null => DataType::Utf8View,
        DataType::FixedSizeBinary(16) if is_uuid => return marked(DataType::FixedSizeBinary(16), "uuid"),
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => {
            DataType::BinaryView
        }
        DataType::Date32 | DataType::Date64 => DataType::Date32,
        DataType::Timestamp(_, None) => sql_type::timestamp(),
        DataType::Timestamp(_, Some(_)) => sql_type::timestamptz(),
        DataType::Time32(_) | DataType::Time64(_) => return marked(DataType::Time64(TimeUnit::Microsecond), "time"),
        DataType::Interval(_) | DataType::Duration(_) => {
            return marked(DataType::Interval(IntervalUnit::MonthDayNano), "interval");
        }
        DataType::List(element)
        | DataType::LargeList(element)
        | DataType::ListView(element)
        | DataType::LargeListView(element)
        | DataType::FixedSizeList(element, _)
        | DataType::Map(element, _) => DataType::List(Arc::new(landed_field(element).with_name("element"))),
        DataType::Struct(fields) => {
            DataType::Struct(fields.iter().map(|field| Arc::new(landed_field(field))).collect())
        }
        DataType::Dictionary(_, value) => return landed_field(&Field::new(field.name(), value.as_ref().clone(), true)),
        DataType::Boolean
        | DataType::Int16
        | DataType::Int32
        | DataType::Int64
        | DataType::Float32
        | DataType::Float64 => field.data_type().clone(),
        _ => DataType::Utf8View,
    };
    Field::new(field.name(), data_type, true)
}

/// Brings an array into the type of `target`.
pub(super) fn land(source: &ArrayRef, target: &Field, reading: &Reading) -> Result<Landed, ArrowError> {
    use DataType as T;
    let (from, to) = (source.data_type(), target.data_type());
    let whole = |array| Landed { array, misfits: Vec::new() };
    match (from, to) {
        (T::Struct(_), T::Struct(_)) => land_struct(source.as_struct(), target, reading),
        (T::Map(..), T::List(_)) => {
            let map: &MapArray = source.as_map();
            let entries: ArrayRef = Arc::new(map.entries().clone());
            land_list(map.offsets(), &entries, map.nulls(), target, reading)
        }
        (T::List(_), T::List(_)) => {
            let list: &ListArray = source.as_list();
            land_list(list.offsets(), list.values(), list.nulls(), target, reading)
        }
        (
            T::LargeList(element) | T::FixedSizeList(element, _) | T::ListView(element) | T::LargeListView(element),
            T::List(_),
        ) => {
            let plain = cast_with_options(source, &T::List(element.clone()), &checked())?;
            land(&plain, target, reading)
        }
        (T::Dictionary(_, value), _) => land(&cast_with_options(source, value, &checked())?, target, reading),
        (T::Null, _) => Ok(whole(new_null_array(to, source.len()))),
        (T::Timestamp(_, None), T::Timestamp(TimeUnit::Microsecond, Some(_))) if reading.zone.is_some() => {
            let local = land_leaf(source, &T::Timestamp(TimeUnit::Microsecond, None))?;
            Ok(land_local(local, reading))
        }
        (T::Utf8 | T::LargeUtf8 | T::Utf8View, T::Utf8View) if mark(target).is_none() => {
            Ok(whole(cast_with_options(source, to, &checked())?))
        }
        (T::Utf8 | T::LargeUtf8 | T::Utf8View, _) => land_text(source, target, reading),
        _ if from == to || is_of_one_family(from, to) => Ok(canonical(land_leaf(source, to)?)),
        // Anything may become text; nothing else changes its family.
        (_, T::Utf8View) if mark(target).is_none() && !from.is_nested() => {
            let landed = cast_with_options(source, to, &CastOptions { safe: true, ..CastOptions::default() });
            let Ok(array) = landed else { return Ok(none_fits(source, to)) };
            // Bytes that are no text become NULL in the cast.
            let misfits = (0..source.len()).filter(|row| array.is_null(*row) && !source.is_null(*row)).collect();
            Ok(Landed { array, misfits })
        }
        _ => Ok(none_fits(source, to)),
    }
}

fn mark(field: &Field) -> Option<&String> {
    field.metadata().get(SQL_TYPE_MARK)
}

fn checked() -> CastOptions<'static> {
    CastOptions { safe: false, ..CastOptions::default() }
}

fn none_fits(source: &ArrayRef, to: &DataType) -> Landed {
    let misfits = (0..source.len()).filter(|row| !source.is_null(*row)).collect();
    Landed { array: new_null_array(to, source.len()), misfits }
}

fn is_of_one_family(from: &DataType, to: &DataType) -> bool {
    use DataType as T;
    let family = |data_type: &DataType| match data_type {
        data_type if data_type.is_numeric() => 1,
        T::Date32 | T::Date64 | T::Timestamp(..) => 2,
        T::Time32(_) | T::Time64(_) => 3,
        T::Interval(_) | T::Duration(_) => 4,
        T::Binary | T::LargeBinary | T::BinaryView | T::FixedSizeBinary(_) => 5,
        T::Boolean => 6,
        _ => 0,
    };
    family(from) != 0 && family(from) == family(to)
}

/// Casts there and back; what does not come back as it was does not fit.
fn land_leaf(source: &ArrayRef, to: &DataType) -> Result<Landed, ArrowError> {
    if source.data_type() == to {
        return Ok(Landed { array: source.clone(), misfits: Vec::new() });
    }
    let options = CastOptions { safe: true, ..CastOptions::default() };
    let Ok(array) = cast_with_options(source, to, &options) else { return Ok(none_fits(source, to)) };
    let Ok(back) = cast_with_options(&array, source.data_type(), &options) else {
        // No way back: only what became NULL is known to have been lost.
        let misfits = (0..source.len()).filter(|row| array.is_null(*row) && !source.is_null(*row)).collect();
        return Ok(Landed { array, misfits });
    };
    // An interval has no order, so no comparison; its casts only widen.
    let Ok(same) = not_distinct(&back, source) else { return Ok(Landed { array, misfits: Vec::new() }) };
    if same.true_count() == same.len() {
        return Ok(Landed { array, misfits: Vec::new() });
    }
    let lost = arrow::compute::not(&same)?;
    let misfits = lost.values().set_indices().collect();
    Ok(Landed { array: nullif(&array, &lost)?, misfits })
}

/// One NaN, no -0.0.
fn canonical(landed: Landed) -> Landed {
    let array: ArrayRef = match landed.array.data_type() {
        DataType::Float64 => {
            let floats: Float64Array =
                landed.array.as_primitive::<Float64Type>().unary(|v| if v.is_nan() { f64::NAN } else { v + 0.0 });
            Arc::new(floats)
        }
        DataType::Float32 => {
            let floats: Float32Array =
                landed.array.as_primitive::<Float32Type>().unary(|v| if v.is_nan() { f32::NAN } else { v + 0.0 });
            Arc::new(floats)
        }
        _ => landed.array,
    };
    Landed { array, ..landed }
}

fn land_local(local: Landed, reading: &Reading) -> Landed {
    let mut misfits = local.misfits;
    let micros = local.array.as_primitive::<TimestampMicrosecondType>();
    let instants: Vec<Option<i64>> = micros
        .iter()
        .enumerate()
        .map(|(row, micros)| {
            let stamp = Stamp { local_micros: micros?, offset_secs: None, has_time: true };
            match stamp.instant(reading.zone) {
                Instant::At(at) => Some(at),
                Instant::Gap => {
                    misfits.push(row);
                    None
                }
            }
        })
        .collect();
    Landed { array: Arc::new(TimestampMicrosecondArray::from(instants).with_timezone("UTC")), misfits }
}

/// Text into a column of another type, by the kernels of text files.
fn land_text(source: &ArrayRef, target: &Field, reading: &Reading) -> Result<Landed, ArrowError> {
    let text = cast_with_options(source, &DataType::Utf8View, &checked())?;
    let text = text.as_string_view();
    let foreign = |problem: lode_core::Problem| ArrowError::CastError(problem.to_string());
    let mut column = Column::of(target).map_err(foreign)?;
    let mut misfits = Vec::new();
    for (row, value) in text.iter().enumerate() {
        match value {
            None => column.push_null(),
            Some(value) => {
                if column.push_text(value.as_bytes(), reading).is_err() {
                    column.push_null();
                    misfits.push(row);
                }
            }
        }
    }
    let array = column.finish(&Buffer::from_vec(Vec::<u8>::new())).map_err(foreign)?;
    Ok(Landed { array, misfits })
}

fn land_struct(source: &StructArray, target: &Field, reading: &Reading) -> Result<Landed, ArrowError> {
    let DataType::Struct(fields) = target.data_type() else {
        return Err(ArrowError::CastError("a struct was expected".into()));
    };
    let mut misfits = std::collections::BTreeSet::new();
    let mut children = Vec::with_capacity(fields.len());
    let members = source.fields();
    let find = |wanted: &str| {
        let exact = members.iter().position(|member| member.name() == wanted);
        exact.or_else(|| members.iter().position(|member| member.name().eq_ignore_ascii_case(wanted)))
    };
    let taken: Vec<Option<usize>> = fields.iter().map(|field| find(field.name())).collect();
    if !reading.is_declared {
        // A member that no field takes would be lost: the value is kept as a whole elsewhere.
        let left = source.columns().iter().enumerate().filter(|(at, _)| !taken.contains(&Some(*at)));
        for (_, child) in left {
            misfits.extend((0..source.len()).filter(|row| !source.is_null(*row) && !child.is_null(*row)));
        }
    }
    for (field, at) in fields.iter().zip(taken) {
        match at.and_then(|at| source.columns().get(at)) {
            None => children.push(new_null_array(field.data_type(), source.len())),
            Some(child) => {
                let landed = land(child, field, reading)?;
                misfits.extend(landed.misfits.into_iter().filter(|row| !source.is_null(*row)));
                children.push(landed.array);
            }
        }
    }
    let nulls = without(source.nulls(), source.len(), &misfits);
    let array = StructArray::try_new_with_length(fields.clone(), children, nulls, source.len())?;
    Ok(Landed { array: Arc::new(array), misfits: misfits.into_iter().collect() })
}

fn land_list(
    offsets: &arrow::buffer::OffsetBuffer<i32>,
    values: &ArrayRef,
    nulls: Option<&NullBuffer>,
    target: &Field,
    reading: &Reading,
) -> Result<Landed, ArrowError> {
    let DataType::List(element) = target.data_type() else {
        return Err(ArrowError::CastError("a list was expected".into()));
    };
    let landed = land(values, element, reading)?;
    let rows = offsets.len() - 1;
    // A list with a misfit in it is a misfit as a whole.
    let misfits: std::collections::BTreeSet<usize> = landed
        .misfits
        .iter()
        .map(|at| offsets.partition_point(|offset| *offset as usize <= *at).saturating_sub(1))
        .filter(|row| *row < rows && nulls.is_none_or(|nulls| nulls.is_valid(*row)))
        .collect();
    let array = ListArray::try_new(element.clone(), offsets.clone(), landed.array, without(nulls, rows, &misfits))?;
    Ok(Landed { array: Arc::new(array), misfits: misfits.into_iter().collect() })
}

fn without(nulls: Option<&NullBuffer>, len: usize, misfits: &std::collections::BTreeSet<usize>) -> Option<NullBuffer> {
    if misfits.is_empty() {
        return nulls.cloned();
    }
    let valid: Vec<bool> =
        (0..len).map(|row| nulls.is_none_or(|nulls| nulls.is_valid(row)) && !misfits.contains(&row)).collect();
    Some(NullBuffer::from(valid))
}
