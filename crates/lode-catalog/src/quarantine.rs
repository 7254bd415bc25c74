//! The one form of rejected rows, whoever rejects them.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryViewBuilder, Int64Array, Int64Builder, RecordBatch, StringViewBuilder, TimestampMicrosecondArray,
};
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
pub struct QuarantineRows {
    epoch: Epoch,
    now: DateTime<Utc>,
    ids: StringViewBuilder,
    rules: StringViewBuilder,
    names: StringViewBuilder,
    reasons: StringViewBuilder,
    sources: StringViewBuilder,
    files: StringViewBuilder,
    lines: Int64Builder,
    offsets: Int64Builder,
    raws: BinaryViewBuilder,
    rows: usize,
}

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
        Self {
            epoch,
            now,
            ids: StringViewBuilder::new(),
            rules: StringViewBuilder::new(),
            names: StringViewBuilder::new(),
            reasons: StringViewBuilder::new(),
            sources: StringViewBuilder::new(),
            files: StringViewBuilder::new(),
            lines: Int64Builder::new(),
            offsets: Int64Builder::new(),
            raws: BinaryViewBuilder::new(),
            rows: 0,
        }
    }

    pub fn push(&mut self, row: &RejectedRow<'_>) {
        let number = |value: Option<u64>| value.map(|value| i64::try_from(value).unwrap_or(i64::MAX));
        self.ids.append_value(row.id());
        self.rules.append_value(row.rule);
        self.names.append_option(row.name);
        self.reasons.append_value(row.reason);
        self.sources.append_value(row.source);
        self.files.append_option(row.file);
        self.lines.append_option(number(row.line));
        self.offsets.append_option(number(row.offset));
        self.raws.append_value(row.raw);
        self.rows += 1;
    }

    pub fn len(&self) -> usize {
        self.rows
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The rows so far, and begins anew.
    pub fn take(&mut self) -> RecordBatch {
        let rows = std::mem::take(&mut self.rows);
        let at = TimestampMicrosecondArray::from(vec![self.now.timestamp_micros(); rows]).with_timezone("UTC");
        let columns: Vec<ArrayRef> = vec![
            Arc::new(self.ids.finish()),
            Arc::new(self.rules.finish()),
            Arc::new(self.names.finish()),
            Arc::new(self.reasons.finish()),
            Arc::new(self.sources.finish()),
            Arc::new(self.files.finish()),
            Arc::new(self.lines.finish()),
            Arc::new(self.offsets.finish()),
            Arc::new(self.raws.finish()),
            Arc::new(Int64Array::from(vec![self.epoch.0; rows])),
            Arc::new(at),
        ];
        let batch = RecordBatch::try_new(quarantine_schema(), columns);
        #[expect(clippy::expect_used, reason = "an invariant: every push appends one value to each builder")]
        batch.expect("the columns of the quarantine do not fit its schema")
    }
}

impl RejectedRow<'_> {
    /// 32 hex digits of BLAKE3 over source, file, line, offset and raw bytes, each with its length in front. Not over rule
    /// or reason, so that a stricter contract does not quarantine the same record twice.
    fn id(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        let mut part = |bytes: &[u8]| {
            hasher.update(&(bytes.len() as u64).to_le_bytes());
            hasher.update(bytes);
        };
        part(self.source.as_bytes());
        part(self.file.unwrap_or_default().as_bytes());
        for number in [self.line, self.offset] {
            part(number.map(u64::to_le_bytes).as_ref().map_or(&[], |bytes| bytes.as_slice()));
        }
        part(self.raw);
        let mut id = hasher.finalize().to_hex().to_string();
        id.truncate(32);
        id
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::AsArray;

    use super::*;

    fn row(line: u64, rule: &str) -> RejectedRow<'_> {
        RejectedRow {
            rule,
            name: Some("speed"),
            reason: "not a number",
            source: "telemetry",
            file: Some("a.csv"),
            line: Some(line),
            offset: None,
            raw: b"x,\xff",
        }
    }

    #[test]
    fn rows_keep_their_bytes_and_a_stable_id() {
        let mut rows = QuarantineRows::new(Epoch(7), DateTime::UNIX_EPOCH);
        rows.push(&row(8, "decode"));
        rows.push(&row(9, "decode"));
        assert_eq!(rows.len(), 2);
        let batch = rows.take();
        assert!(rows.is_empty());
        assert_eq!(batch.num_rows(), 2);
        let ids = batch.column(0).as_string_view();
        assert_ne!(ids.value(0), ids.value(1));
        assert_eq!(ids.value(0), row(8, "contract").id());
        assert_eq!(batch.column_by_name("_raw").unwrap().as_binary_view().value(0), b"x,\xff");
        assert!(batch.column_by_name("_offset").unwrap().is_null(0));
    }
}
