//! Query results as macros see them: agate's `Table`, read only.

use std::fmt;
use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use minijinja::value::{Enumerator, Object, ObjectRepr, Value};
use minijinja::{Error, ErrorKind, State};

use lode_core::Problem;

/// Rows and columns of one result.
#[derive(Debug, Default)]
pub(crate) struct Table {
    names: Arc<Vec<String>>,
    rows: Vec<Vec<Value>>,
}

impl Table {
    /// Rows above `LIMIT_ROWS` would not fit a template.
    pub(crate) const LIMIT_ROWS: usize = 1_000_000;

    pub(crate) fn new(names: Vec<String>, batches: &[RecordBatch]) -> Result<Self, Problem> {
        let mut rows = Vec::new();
        for batch in batches {
            for at in 0..batch.num_rows() {
                let cells: Result<Vec<Value>, Problem> =
                    batch.columns().iter().map(|column| cell(column, at)).collect();
                rows.push(cells?);
            }
        }
        Ok(Self { names: Arc::new(names), rows })
    }

    fn row(&self, at: usize) -> Option<Value> {
        let cells = self.rows.get(at)?.clone();
        Some(Value::from_object(Row { names: self.names.clone(), cells }))
    }

    fn row_list(&self) -> Vec<Value> {
        (0..self.rows.len()).filter_map(|at| self.row(at)).collect()
    }

    fn columns(&self) -> Value {
        let columns = self.names.iter().enumerate().map(|(at, name)| {
            let cells = self.rows.iter().filter_map(|row| row.get(at).cloned()).collect();
            Value::from_object(Column { name: name.clone(), cells })
        });
        Value::from_object(Columns { names: self.names.clone(), columns: columns.collect() })
    }
}

/// A cell as the Python value that a driver would give.
pub(crate) fn cell(array: &dyn Array, at: usize) -> Result<Value, Problem> {
    if array.is_null(at) {
        return Ok(Value::from(()));
    }
    Ok(match array.data_type() {
        DataType::Boolean => Value::from(array.as_boolean().value(at)),
        DataType::Int8 => Value::from(array.as_primitive::<Int8Type>().value(at)),
        DataType::Int16 => Value::from(array.as_primitive::<Int16Type>().value(at)),
        DataType::Int32 => Value::from(array.as_primitive::<Int32Type>().value(at)),
        DataType::Int64 => Value::from(array.as_primitive::<Int64Type>().value(at)),
        DataType::Float32 => Value::from(array.as_primitive::<Float32Type>().value(at)),
        DataType::Float64 => Value::from(array.as_primitive::<Float64Type>().value(at)),
        DataType::Decimal128(_, 0) => Value::from(array.as_primitive::<Decimal128Type>().value(at)),
        DataType::Utf8 => Value::from(array.as_string::<i32>().value(at)),
        DataType::LargeUtf8 => Value::from(array.as_string::<i64>().value(at)),
        DataType::Utf8View => Value::from(array.as_string_view().value(at)),
        _ => {
            let options = FormatOptions::default();
            let shown = ArrayFormatter::try_new(array, &options).map(|formatter| formatter.value(at).to_string());
            Value::from(shown.map_err(|error| Problem::internal("could not show a value").cause(error))?)
        }
    })
}

impl Object for Table {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Seq
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        if let Some(at) = key.as_usize() {
            return self.row(at);
        }
        match key.as_str()? {
            "rows" => Some(Value::from(self.row_list())),
            "columns" => Some(self.columns()),
            "column_names" => Some(Value::from_iter(self.names.iter().map(String::as_str))),
            _ => None,
        }
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Values(self.row_list())
    }

    fn call_method(self: &Arc<Self>, _: &mut State<'_, '_>, method: &str, _: &[Value]) -> Result<Value, Error> {
        match method {
            "print_table" | "print_csv" => Ok(Value::from(())),
            _ => Err(Error::from(ErrorKind::UnknownMethod)),
        }
    }
}

/// One row; by position or by name, iterates over its values.
#[derive(Debug)]
pub(crate) struct Row {
    names: Arc<Vec<String>>,
    cells: Vec<Value>,
}

impl Row {
    fn find(&self, key: &Value) -> Option<Value> {
        let at = match key.as_str() {
            Some(name) => self.names.iter().position(|known| known.eq_ignore_ascii_case(name))?,
            None => position(key, self.cells.len())?,
        };
        self.cells.get(at).cloned()
    }
}

fn position(key: &Value, length: usize) -> Option<usize> {
    let at = key.as_i64()?;
    usize::try_from(if at < 0 { at + length as i64 } else { at }).ok()
}

impl Object for Row {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Seq
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.find(key)
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Values(self.cells.clone())
    }

    fn call_method(self: &Arc<Self>, _: &mut State<'_, '_>, method: &str, args: &[Value]) -> Result<Value, Error> {
        match (method, args) {
            ("values", []) => Ok(super::own::tuple(self.cells.clone())),
            ("keys", []) => Ok(Value::from_iter(self.names.iter().map(String::as_str))),
            ("items" | "dict", []) => {
                let pairs = self.names.iter().zip(&self.cells);
                Ok(if method == "items" {
                    Value::from_iter(
                        pairs.map(|(name, cell)| super::own::tuple(vec![Value::from(name.as_str()), cell.clone()])),
                    )
                } else {
                    super::own::dict(pairs.map(|(name, cell)| (Value::from(name.as_str()), cell.clone())))
                })
            }
            ("get", [key, rest @ ..]) => {
                Ok(self.find(key).or_else(|| rest.first().cloned()).unwrap_or_else(|| Value::from(())))
            }
            _ => Err(Error::from(ErrorKind::UnknownMethod)),
        }
    }
}

/// The columns of a table, by position or by name.
#[derive(Debug)]
pub(crate) struct Columns {
    names: Arc<Vec<String>>,
    columns: Vec<Value>,
}

impl Object for Columns {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Seq
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        let at = match key.as_str() {
            Some(name) => self.names.iter().position(|known| known.eq_ignore_ascii_case(name))?,
            None => position(key, self.columns.len())?,
        };
        self.columns.get(at).cloned()
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Values(self.columns.clone())
    }
}

#[derive(Debug)]
pub(crate) struct Column {
    name: String,
    cells: Vec<Value>,
}

impl Object for Column {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Seq
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        match key.as_str() {
            Some("name") => Some(Value::from(self.name.as_str())),
            Some(_) => None,
            None => self.cells.get(position(key, self.cells.len())?).cloned(),
        }
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Values(self.cells.clone())
    }

    fn call_method(self: &Arc<Self>, _: &mut State<'_, '_>, method: &str, _: &[Value]) -> Result<Value, Error> {
        match method {
            "values" => Ok(super::own::tuple(self.cells.clone())),
            "values_distinct" => {
                let mut seen: Vec<Value> = Vec::new();
                for cell in &self.cells {
                    if !seen.contains(cell) {
                        seen.push(cell.clone());
                    }
                }
                Ok(super::own::tuple(seen))
            }
            _ => Err(Error::from(ErrorKind::UnknownMethod)),
        }
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<agate.Column: {}>", self.name)
    }
}
