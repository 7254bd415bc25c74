//! Arrow batches as a table, CSV, JSON or newline-delimited JSON.

mod csv;
mod json;
mod sheet;
mod table;
mod value;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use futures::StreamExt;
use lode_core::{BatchStream, Problem};

use crate::output::Output;
pub(crate) use sheet::{Sheet, Type, Value};
pub(crate) use table::{cut, printable};

/// How data is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub(crate) enum Format {
    /// Aligned columns for people
    #[default]
    Table,
    /// RFC 4180, with a header line
    Csv,
    /// One array of objects
    Json,
    /// One object a line
    Ndjson,
}

/// Prints a stream of batches of one schema. CSV and JSON hold one batch at a time; a table measures its first rows.
/// Returns the number of rows printed.
pub(crate) async fn print(
    schema: &SchemaRef,
    mut rows: BatchStream,
    format: Format,
    out: &Output,
) -> Result<u64, Problem> {
    let mut printer = Printer::new(schema, format, out);
    while let Some(batch) = rows.next().await {
        printer.push(&batch?)?;
    }
    printer.finish()
}

/// Prints batches that are at hand.
pub(crate) fn print_all(
    schema: &SchemaRef,
    batches: &[RecordBatch],
    format: Format,
    out: &Output,
) -> Result<u64, Problem> {
    let mut printer = Printer::new(schema, format, out);
    for batch in batches {
        printer.push(batch)?;
    }
    printer.finish()
}

enum Printer<'a> {
    Table(table::Table<'a>),
    Csv(csv::Csv<'a>),
    Json(json::Json<'a>),
}

impl<'a> Printer<'a> {
    fn new(schema: &SchemaRef, format: Format, out: &'a Output) -> Self {
        match format {
            Format::Table => Self::Table(table::Table::new(schema, out)),
            Format::Csv => Self::Csv(csv::Csv::new(schema, out)),
            Format::Json => Self::Json(json::Json::new(schema, out, json::Layout::Array)),
            Format::Ndjson => Self::Json(json::Json::new(schema, out, json::Layout::Lines)),
        }
    }

    fn push(&mut self, batch: &RecordBatch) -> Result<(), Problem> {
        match self {
            Self::Table(table) => table.push(batch),
            Self::Csv(csv) => csv.push(batch),
            Self::Json(json) => json.push(batch),
        }
    }

    fn finish(self) -> Result<u64, Problem> {
        match self {
            Self::Table(table) => table.finish(),
            Self::Csv(csv) => csv.finish(),
            Self::Json(json) => json.finish(),
        }
    }
}
