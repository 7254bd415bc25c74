//! From the columns and pending rejects of one block to `Decoded`.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::cast::AsArray;
use arrow::array::{ArrayRef, BinaryViewBuilder, BooleanArray, Int64Array, RecordBatch, RecordBatchOptions};
use arrow::buffer::Buffer;
use arrow::compute::{filter, filter_record_batch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use lode_core::{Problem, sql_type};

use super::column::{Column, Unfit};
use super::encoding::Encoding;
use super::rescue::Rescue;
use super::{Decoded, LINE, RESCUED, RawRows, Reject};

/// Payload columns, `_rescued` if inferred, `_line`.
pub(super) fn output_schema(payload: &Schema, is_inferred: bool) -> SchemaRef {
    let mut fields: Vec<_> = payload.fields().iter().cloned().collect();
    if is_inferred {
        let mark = [(sql_type::SQL_TYPE_MARK.to_owned(), "json".to_owned())].into();
        fields.push(Arc::new(Field::new(RESCUED, DataType::Utf8View, true).with_metadata(mark)));
    }
    fields.push(Arc::new(Field::new(LINE, DataType::Int64, false)));
    Arc::new(Schema::new(fields))
}

/// A reject whose bytes are still in the block.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) rule: &'static str,
    pub(super) name: Option<String>,
    pub(super) reason: String,
    /// Physical line in the file.
    pub(super) line: u64,
    /// Place in the block, with or without the line end.
    pub(super) start: usize,
    pub(super) end: usize,
}

/// Rejects with their bytes as in the file.
pub(super) fn rejects(mut pending: Vec<Pending>, text: &[u8], offset: u64, encoding: Encoding) -> Vec<Reject> {
    pending.sort_by_key(|reject| reject.start);
    let (mut at, mut offset) = (0, offset);
    pending
        .into_iter()
        .map(|reject| {
            offset += encoding.original_len(text.get(at..reject.start).unwrap_or_default());
            at = reject.start;
            let raw = without_line_end(text.get(reject.start..reject.end).unwrap_or_default());
            Reject {
                rule: reject.rule,
                name: reject.name,
                reason: reject.reason,
                line: reject.line,
                offset,
                raw: encoding.original(raw),
            }
        })
        .collect()
}

fn without_line_end(text: &[u8]) -> &[u8] {
    let text = text.strip_suffix(b"\n").unwrap_or(text);
    text.strip_suffix(b"\r").unwrap_or(text)
}

/// Rows of a block.
pub(super) struct Rows {
    pub(super) columns: Vec<Column>,
    pub(super) rescue: Option<Rescue>,
    /// Physical line of each row.
    pub(super) lines: Vec<i64>,
    /// Rows that became rejects.
    pub(super) rejected: HashSet<u32>,
    /// Place of each row's record in the block, if the raw records are asked for.
    pub(super) places: Option<Vec<(u32, u32)>>,
}

/// What the raw bytes of a block's records are told from.
#[derive(Debug, Clone, Copy)]
pub(super) struct Origin {
    /// Offset in the decompressed file of the block.
    pub(super) offset: u64,
    pub(super) encoding: Encoding,
}

impl Rows {
    pub(super) fn reserve(&mut self, rows: usize) {
        self.columns.iter_mut().for_each(|column| column.reserve(rows));
        self.lines.reserve_exact(rows);
        if let Some(places) = &mut self.places {
            places.reserve_exact(rows);
        }
    }

    /// Rows and, if asked for, the records behind them. `text` is the block.
    pub(super) fn finish(
        self,
        schema: &SchemaRef,
        text: Vec<u8>,
        origin: Origin,
    ) -> Result<(RecordBatch, Option<RawRows>), Problem> {
        let rows = self.lines.len();
        let block = Buffer::from_vec(text);
        let raw = self.places.map(|places| raw_rows(&places, &block, origin)).transpose()?;
        let mut arrays: Vec<ArrayRef> =
            self.columns.into_iter().map(|column| column.finish(&block)).collect::<Result<_, _>>()?;
        arrays.extend(self.rescue.map(|rescue| rescue.finish(rows)));
        arrays.push(Arc::new(Int64Array::new(self.lines.into(), None)));
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let batch = RecordBatch::try_new_with_options(schema.clone(), arrays, &options).map_err(not_whole)?;
        if self.rejected.is_empty() {
            return Ok((batch, raw));
        }
        let mut keep = vec![true; rows];
        for row in self.rejected {
            if let Some(keep) = keep.get_mut(row as usize) {
                *keep = false;
            }
        }
        filter_rows(&batch, raw, &keep)
    }
}

fn not_whole(error: arrow::error::ArrowError) -> Problem {
    Problem::internal("a decoded block is not whole").cause(error)
}

/// The rows that are kept.
pub(super) fn filter_rows(
    batch: &RecordBatch,
    raw: Option<RawRows>,
    keep: &[bool],
) -> Result<(RecordBatch, Option<RawRows>), Problem> {
    let mask = BooleanArray::from(keep.to_vec());
    let raw = match raw {
        None => None,
        Some(raw) => Some(RawRows {
            bytes: filter(&raw.bytes, &mask).map_err(not_whole)?.as_binary_view().clone(),
            offsets: raw.offsets.iter().zip(keep).filter(|(_, keep)| **keep).map(|(offset, _)| *offset).collect(),
        }),
    };
    Ok((filter_record_batch(batch, &mask).map_err(not_whole)?, raw))
}

fn raw_rows(places: &[(u32, u32)], block: &Buffer, origin: Origin) -> Result<RawRows, Problem> {
    let mut bytes = BinaryViewBuilder::with_capacity(places.len());
    let mut offsets = Vec::with_capacity(places.len());
    let shared = (origin.encoding == Encoding::Utf8).then(|| bytes.append_block(block.clone()));
    let (mut at, mut offset) = (0, origin.offset);
    for (start, end) in places {
        let (start, end) = (*start as usize, *end as usize);
        let record = without_line_end(block.get(start..end).unwrap_or_default());
        offset += origin.encoding.original_len(block.get(at..start).unwrap_or_default());
        at = start;
        offsets.push(offset);
        match shared {
            Some(shared) => bytes.try_append_view(shared, start as u32, record.len() as u32).map_err(not_whole)?,
            None => bytes.append_value(origin.encoding.original(record)),
        }
    }
    Ok(RawRows { bytes: bytes.finish(), offsets })
}

/// Why a value is refused, in words.
pub(super) fn misfit_reason(why: Unfit, value: &[u8], field: &Field, zone: Option<chrono_tz::Tz>) -> String {
    let shown = clipped(value);
    match (why, zone) {
        (Unfit::Gap, Some(zone)) => format!("\"{shown}\" does not exist in {zone}: the clock was set forward over it"),
        _ => format!("\"{shown}\" is no {}", sql_type::name_of(field)),
    }
}

/// At most 80 characters of a value, for a message.
pub(super) fn clipped(value: &[u8]) -> String {
    let text = String::from_utf8_lossy(value.get(..value.len().min(400)).unwrap_or_default());
    let mut shown: String = text.chars().take(80).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.chars().nth(80).is_some() || value.len() > 400 {
        shown.push('…');
    }
    shown
}

/// A block that is one record which cannot be read.
pub(super) fn spoilt(block: &super::blocks::Block, why: &str, encoding: Encoding) -> Vec<Reject> {
    let end = block.text.len().min(block.from + super::blocks::RAW_BYTES_MAX);
    let why = if end < block.text.len() { format!("{why}; the first MiB is kept") } else { why.to_owned() };
    let pending = Pending {
        rule: "decode",
        name: None,
        reason: why,
        line: block.line + super::blocks::line_ends(block.text.get(..block.from).unwrap_or_default()),
        start: block.from,
        end,
    };
    rejects(vec![pending], &block.text, block.offset, encoding)
}

/// `Decoded` of a block.
pub(super) fn decoded((batch, raw): (RecordBatch, Option<RawRows>), rejects: Vec<Reject>, bytes: u64) -> Decoded {
    Decoded { batch, rejects, bytes, raw, entry: None }
}
