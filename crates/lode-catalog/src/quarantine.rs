//! The one form of rejected rows, whoever rejects them.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use chrono::{DateTime, Utc};

use lode_core::{Epoch, sql_type};

/// Columns of every `<table>__quarantine`.
pub fn quarantine_schema() -> SchemaRef {
    let text = |name: &str| Field::new(name, DataType::Utf8View, true);
    Arc::new(Schema::new(vec![
        // Stable over replays and re-runs: BLAKE3 of source, origin and raw bytes, 32 hex digits.
        Field::new("_id", DataType::Utf8View, false),
        // `decode | contract | expectation | late | error`
        Field::new("_rule", DataType::Utf8View, false),
        // Name of the expectation, or of the column.
        text("_name"),
        text("_reason"),
        // Ingest or model that rejected the row.
        text("_source"),
        text("_file"),
        Field::new("_line", DataType::Int64, true),
        Field::new("_offset", DataType::Int64, true),
        // The record as received; rows of a model as JSON.
        Field::new("_raw", DataType::BinaryView, true),
        Field::new("_epoch", DataType::Int64, false),
        Field::new("_quarantined_at", sql_type::timestamptz(), false),
    ]))
}

/// Builds batches of `quarantine_schema`.
pub struct QuarantineRows {}

/// One rejected row.
pub struct RejectedRow<'a> {
    pub rule: &'a str,
    pub name: Option<&'a str>,
    pub reason: &'a str,
    pub source: &'a str,
    pub file: Option<&'a str>,
    pub line: Option<u64>,
    pub offset: Option<u64>,
    pub raw: &'a [u8],
}

impl QuarantineRows {
    pub fn new(epoch: Epoch, now: DateTime<Utc>) -> Self {
        let _ = (epoch, now);
        unimplemented!()
    }

    pub fn push(&mut self, row: &RejectedRow<'_>) {
        let _ = row;
        unimplemented!()
    }

    pub fn len(&self) -> usize {
        unimplemented!()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn take(&mut self) -> RecordBatch {
        unimplemented!()
    }
}
