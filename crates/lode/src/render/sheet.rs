//! A small table that a command makes itself: rows of values under named columns.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use arrow::datatypes::{DataType, Field, Schema};
use chrono::{DateTime, Utc};
use lode_core::{Problem, sql_type};

use super::{Format, print_all};
use crate::output::Output;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Type {
    Text,
    Int,
    Float,
    Bool,
    Time,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    Null,
    Text(String),
    Int(i64),
    Float(f64),
    Bool(bool),
    Time(DateTime<Utc>),
}

pub(crate) struct Sheet {
    columns: Vec<(&'static str, Type)>,
    rows: Vec<Vec<Value>>,
}

impl Sheet {
    pub(crate) fn new(columns: &[(&'static str, Type)]) -> Self {
        Self { columns: columns.to_vec(), rows: Vec::new() }
    }

    /// One value a column.
    pub(crate) fn push<const N: usize>(&mut self, row: [Value; N]) {
        assert_eq!(N, self.columns.len(), "a row of a sheet has one value a column");
        self.rows.push(row.into());
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    pub(crate) fn print(&self, format: Format, out: &Output) -> Result<(), Problem> {
        let fields = self.columns.iter().map(|(name, kind)| {
            let data_type = match kind {
                Type::Text => DataType::Utf8,
                Type::Int => DataType::Int64,
                Type::Float => DataType::Float64,
                Type::Bool => DataType::Boolean,
                Type::Time => sql_type::timestamptz(),
            };
            Field::new(*name, data_type, true)
        });
        let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        let arrays = self.columns.iter().enumerate().map(|(at, (_, kind))| self.array(at, *kind));
        let batch = RecordBatch::try_new(Arc::clone(&schema), arrays.collect())
            .map_err(|error| Problem::internal("rows do not form a table").cause(error))?;
        print_all(&schema, &[batch], format, out)?;
        Ok(())
    }

    fn array(&self, at: usize, kind: Type) -> ArrayRef {
        let values = || self.rows.iter().map(|row| row.get(at).unwrap_or(&Value::Null));
        match kind {
            Type::Text => {
                Arc::new(values().map(|v| if let Value::Text(v) = v { Some(v) } else { None }).collect::<StringArray>())
            }
            Type::Int => {
                Arc::new(values().map(|v| if let Value::Int(v) = v { Some(*v) } else { None }).collect::<Int64Array>())
            }
            Type::Float => Arc::new(
                values().map(|v| if let Value::Float(v) = v { Some(*v) } else { None }).collect::<Float64Array>(),
            ),
            Type::Bool => Arc::new(
                values().map(|v| if let Value::Bool(v) = v { Some(*v) } else { None }).collect::<BooleanArray>(),
            ),
            Type::Time => {
                let micros = values().map(|v| if let Value::Time(v) = v { Some(v.timestamp_micros()) } else { None });
                Arc::new(micros.collect::<TimestampMicrosecondArray>().with_timezone("UTC"))
            }
        }
    }
}

macro_rules! value_from {
    ($($from:ty => $value:ident: $map:expr),* $(,)?) => {$(
        impl From<$from> for Value {
            fn from(value: $from) -> Self {
                Self::$value($map(value))
            }
        }
    )*};
}

value_from! {
    String => Text: |v| v,
    &str => Text: |v: &str| v.to_owned(),
    i64 => Int: |v| v,
    u64 => Int: |v: u64| i64::try_from(v).unwrap_or(i64::MAX),
    usize => Int: |v: usize| i64::try_from(v).unwrap_or(i64::MAX),
    f64 => Float: |v| v,
    bool => Bool: |v| v,
    DateTime<Utc> => Time: |v| v,
}

impl<T: Into<Self>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}
