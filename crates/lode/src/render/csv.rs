//! RFC 4180. NULL is an empty field, an empty text is `""`, so that both can be told apart (as PostgreSQL's `COPY … CSV`).

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use lode_core::Problem;

use super::value::Cells;
use crate::output::Output;

pub(super) struct Csv<'a> {
    out: &'a Output,
    schema: SchemaRef,
    has_header: bool,
    rows: u64,
    text: String,
    field: String,
}

impl<'a> Csv<'a> {
    pub(super) fn new(schema: &SchemaRef, out: &'a Output) -> Self {
        Self { out, schema: schema.clone(), has_header: false, rows: 0, text: String::new(), field: String::new() }
    }

    pub(super) fn push(&mut self, batch: &RecordBatch) -> Result<(), Problem> {
        self.header()?;
        let cells = Cells::new(batch)?;
        for row in 0..cells.rows() {
            for (at, cell) in cells.columns().iter().enumerate() {
                if at > 0 {
                    self.text.push(',');
                }
                if !cell.is_null(row) {
                    self.field.clear();
                    cell.text(row, &mut self.field);
                    push_field(&mut self.text, &self.field);
                }
            }
            self.text.push('\n');
            if self.text.len() > 32 << 10 {
                self.out.data(self.text.as_bytes())?;
                self.text.clear();
            }
        }
        self.rows += cells.rows() as u64;
        self.out.data(self.text.as_bytes())?;
        self.text.clear();
        Ok(())
    }

    fn header(&mut self) -> Result<(), Problem> {
        if std::mem::replace(&mut self.has_header, true) || self.schema.fields().is_empty() {
            return Ok(());
        }
        let mut line = String::new();
        for (at, field) in self.schema.fields().iter().enumerate() {
            if at > 0 {
                line.push(',');
            }
            push_field(&mut line, field.name());
        }
        line.push('\n');
        self.out.data(line.as_bytes())
    }

    pub(super) fn finish(mut self) -> Result<u64, Problem> {
        self.header()?;
        self.out.flush()?;
        Ok(self.rows)
    }
}

fn push_field(out: &mut String, text: &str) {
    let needs_quotes =
        text.is_empty() || text.contains(['"', ',', '\n', '\r']) || text.starts_with(' ') || text.ends_with(' ');
    if !needs_quotes {
        return out.push_str(text);
    }
    out.push('"');
    for c in text.chars() {
        if c == '"' {
            out.push('"');
        }
        out.push(c);
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Int64Array, StringArray};
    use arrow::datatypes::{DataType, Field, Schema};

    use super::super::{Format, print_all};
    use super::*;
    use crate::output::tests::{PLAIN, to_sinks};

    #[test]
    fn quotes_nulls_and_line_breaks_survive() {
        let schema = Arc::new(Schema::new(vec![
            Field::new("a,b", DataType::Utf8, true),
            Field::new("n", DataType::Int64, true),
        ]));
        let batch = RecordBatch::try_new(
            schema.clone(),
            vec![
                Arc::new(StringArray::from(vec![Some("x\"y"), Some(""), None, Some("l1\nl2")])),
                Arc::new(Int64Array::from(vec![Some(1), None, Some(3), Some(4)])),
            ],
        )
        .unwrap();
        let (output, out, _) = to_sinks(PLAIN);
        print_all(&schema, &[batch], Format::Csv, &output).unwrap();
        assert_eq!(out.text(), "\"a,b\",n\n\"x\"\"y\",1\n\"\",\n,3\n\"l1\nl2\",4\n");
    }

    #[test]
    fn no_rows_still_give_a_header() {
        let schema = Arc::new(Schema::new(vec![Field::new("a", DataType::Utf8, true)]));
        let (output, out, _) = to_sinks(PLAIN);
        print_all(&schema, &[], Format::Csv, &output).unwrap();
        assert_eq!(out.text(), "a\n");
    }
}
