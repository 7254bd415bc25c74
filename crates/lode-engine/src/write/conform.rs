//! Rows of a result as rows of a table: names, order and types.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions, new_null_array};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Field, FieldRef, IntervalUnit, Schema, SchemaRef, TimeUnit};

use lode_core::sql_type::SQL_TYPE_MARK;
use lode_core::{ErrorKind, Problem, sql_type};

use crate::problem;

/// A result's schema in types that a table can have: what the planner computes with, narrowed to the type table.
pub(crate) fn storable(schema: &Schema) -> SchemaRef {
    let fields = schema.fields().iter().map(|field| {
        let mark = field.metadata().get(SQL_TYPE_MARK).map(|mark| (SQL_TYPE_MARK.to_owned(), mark.clone()));
        Field::new(field.name(), storable_type(field.data_type()), true).with_metadata(mark.into_iter().collect())
    });
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

fn storable_type(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Int8 | DataType::UInt8 => DataType::Int16,
        DataType::UInt16 => DataType::Int32,
        // `count` and `row_number` are bigint in PostgreSQL.
        DataType::UInt32 | DataType::UInt64 => DataType::Int64,
        DataType::Float16 => DataType::Float32,
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Null => DataType::Utf8View,
        DataType::Binary | DataType::LargeBinary => DataType::BinaryView,
        DataType::FixedSizeBinary(bytes) if *bytes != 16 => DataType::BinaryView,
        DataType::Date64 => DataType::Date32,
        DataType::Time32(_) | DataType::Time64(_) => DataType::Time64(TimeUnit::Microsecond),
        DataType::Timestamp(_, zone) => {
            DataType::Timestamp(TimeUnit::Microsecond, zone.as_ref().map(|_| Arc::from("UTC")))
        }
        DataType::Interval(_) | DataType::Duration(_) => DataType::Interval(IntervalUnit::MonthDayNano),
        DataType::Decimal32(precision, scale) | DataType::Decimal64(precision, scale) => {
            DataType::Decimal128(*precision, *scale)
        }
        DataType::Decimal256(precision, scale) => DataType::Decimal128((*precision).min(38), (*scale).min(38)),
        DataType::Dictionary(_, value) => storable_type(value),
        DataType::List(element)
        | DataType::LargeList(element)
        | DataType::ListView(element)
        | DataType::FixedSizeList(element, _) => DataType::List(storable_element(element)),
        DataType::Struct(fields) => DataType::Struct(
            fields
                .iter()
                .map(|field| {
                    Field::new(field.name(), storable_type(field.data_type()), true)
                        .with_metadata(field.metadata().clone())
                })
                .collect(),
        ),
        other => other.clone(),
    }
}

fn storable_element(element: &FieldRef) -> FieldRef {
    Arc::new(Field::new("element", storable_type(element.data_type()), true).with_metadata(element.metadata().clone()))
}

/// Whether PostgreSQL would take `from` for a column of type `to` without being asked: same family, range checked.
pub(crate) fn is_assignable(from: &DataType, to: &DataType) -> bool {
    let is_number = |data_type: &DataType| data_type.is_numeric();
    let is_text = |data_type: &DataType| {
        matches!(data_type, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Null)
    };
    let is_time = |data_type: &DataType| matches!(data_type, DataType::Date32 | DataType::Timestamp(..));
    let has_fraction = from.is_floating() || matches!(from, DataType::Decimal128(_, scale) if *scale > 0);
    let is_uuid = matches!(to, DataType::FixedSizeBinary(16));
    from == to
        || matches!(from, DataType::Null)
        // A fraction would be cut without a word.
        || (is_number(from) && is_number(to) && !(has_fraction && to.is_integer()))
        || (is_text(from) && (is_text(to) || is_uuid))
        || (is_time(from) && is_time(to))
        || (from.is_nested() && to.is_nested())
        || (is_text(to) && (from.is_integer() || matches!(from, DataType::Boolean | DataType::Date32)))
}

/// The columns of `schema` by name, cast where needed; missing ones are NULL, others are left out.
/// Errors: `Data` for a value that the wanted type cannot hold.
pub(crate) fn conform(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, Problem> {
    let columns: Result<Vec<ArrayRef>, Problem> = schema
        .fields()
        .iter()
        .map(|field| match batch.column_by_name(field.name()) {
            None => Ok(new_null_array(field.data_type(), batch.num_rows())),
            Some(column) if column.data_type() == field.data_type() => Ok(Arc::clone(column)),
            Some(column) => cast(column, field),
        })
        .collect();
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    // NULL in a NOT NULL column is told by the writer, with its row.
    let lenient: Vec<Field> = schema.fields().iter().map(|field| field.as_ref().clone().with_nullable(true)).collect();
    RecordBatch::try_new_with_options(Arc::new(Schema::new(lenient)), columns?, &options)
        .map_err(|error| problem::arrow(&error))
}

fn cast(column: &ArrayRef, field: &Field) -> Result<ArrayRef, Problem> {
    if matches!(field.data_type(), DataType::FixedSizeBinary(16)) {
        return lode_lake::from_stored(column, field).map_err(|reason| {
            Problem::new(ErrorKind::Data, format!("column \"{}\": {reason}", field.name()))
                .fix("clean the text first, or make the column text")
        });
    }
    let strict = CastOptions { safe: false, ..CastOptions::default() };
    cast_with_options(column, field.data_type(), &strict).map_err(|error| {
        let from = sql_type::name(column.data_type());
        Problem::new(
            ErrorKind::Data,
            format!("column \"{}\" is {} and cannot take this {from}", field.name(), sql_type::name_of(field)),
        )
        .cause(problem::arrow(&error))
        .fix(format!("cast or clean it in the query: `{}::{}`", field.name(), sql_type::name_of(field)))
    })
}
