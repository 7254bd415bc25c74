//! One array of objects, or one object a line. Keys stand in column order.

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use lode_core::Problem;

use super::value::{Cells, push_json_string};
use crate::output::Output;

#[derive(Clone, Copy, PartialEq)]
pub(super) enum Layout {
    Array,
    Lines,
}

pub(super) struct Json<'a> {
    out: &'a Output,
    layout: Layout,
    /// `"name":` of each column.
    keys: Vec<String>,
    rows: u64,
    text: String,
}

impl<'a> Json<'a> {
    pub(super) fn new(schema: &SchemaRef, out: &'a Output, layout: Layout) -> Self {
        let keys = schema.fields().iter().map(|field| {
            let mut key = String::new();
            push_json_string(&mut key, field.name());
            key.push(':');
            key
        });
        Self { out, layout, keys: keys.collect(), rows: 0, text: String::new() }
    }

    pub(super) fn push(&mut self, batch: &RecordBatch) -> Result<(), Problem> {
        let cells = Cells::new(batch)?;
        for row in 0..cells.rows() {
            if self.layout == Layout::Array {
                self.text.push_str(if self.rows == 0 { "[\n" } else { ",\n" });
            }
            self.text.push('{');
            for (at, (key, cell)) in self.keys.iter().zip(cells.columns()).enumerate() {
                if at > 0 {
                    self.text.push(',');
                }
                self.text.push_str(key);
                cell.json(row, &mut self.text);
            }
            self.text.push('}');
            if self.layout == Layout::Lines {
                self.text.push('\n');
            }
            self.rows += 1;
            if self.text.len() > 32 << 10 {
                self.out.data(self.text.as_bytes())?;
                self.text.clear();
            }
        }
        self.out.data(self.text.as_bytes())?;
        self.text.clear();
        Ok(())
    }

    pub(super) fn finish(self) -> Result<u64, Problem> {
        if self.layout == Layout::Array {
            self.out.data(if self.rows == 0 { b"[]\n" } else { b"\n]\n" })?;
        }
        self.out.flush()?;
        Ok(self.rows)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Int64Array, StringArray};
    use arrow::datatypes::{DataType, Field, Schema};

    use super::super::{Format, print_all};
    use super::*;
    use crate::output::tests::{PLAIN, to_sinks};

    fn text(format: Format, batches: usize) -> String {
        let schema =
            Arc::new(Schema::new(vec![Field::new("a", DataType::Utf8, true), Field::new("n", DataType::Int64, true)]));
        let batch = RecordBatch::try_new(
            schema.clone(),
            vec![
                Arc::new(StringArray::from(vec![Some("x\"y"), None])),
                Arc::new(Int64Array::from(vec![Some(1), None])),
            ],
        )
        .unwrap();
        let (output, out, _) = to_sinks(PLAIN);
        print_all(&schema, &vec![batch; batches], format, &output).unwrap();
        out.text()
    }

    #[test]
    fn an_array_spans_batches() {
        let text = text(Format::Json, 2);
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value.as_array().unwrap().len(), 4);
        assert!(text.starts_with("[\n{\"a\":\"x\\\"y\",\"n\":1},\n{\"a\":null,\"n\":null},\n"), "{text}");
    }

    #[test]
    fn no_rows_are_an_empty_array() {
        assert_eq!(text(Format::Json, 0), "[]\n");
    }

    #[test]
    fn lines_hold_one_object_each() {
        assert_eq!(text(Format::Ndjson, 1), "{\"a\":\"x\\\"y\",\"n\":1}\n{\"a\":null,\"n\":null}\n");
    }
}
