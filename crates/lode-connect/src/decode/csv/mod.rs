//! CSV: the dialect of each file is found out, its columns are matched to the plan by name.

pub(super) mod dialect;
pub(super) mod sniff;
pub(super) mod split;

use std::collections::HashSet;
use std::sync::Arc;

use arrow::datatypes::{DataType, SchemaRef};
use lode_core::Problem;

use super::assemble::{self, Pending, Rows};
use super::blocks::{Block, Boundary};
use super::column::{Cells, Column, Reading, Unfit};
use super::encoding::Encoding;
use super::rescue::Rescue;
use super::run::BlockDecoder;
use super::{DecodePlan, Decoded, Dialect, open_text};
use split::{Field, Grammar, Record, Splitter};

/// Room that is made for rows of a block before they are seen.
const ROOM_ROWS_MAX: usize = 128 << 10;
/// Records that are split and converted at a time: their text and offsets stay in the cache.
const STRIDE: usize = 2048;

impl Boundary for Grammar {
    fn last(&self, text: &[u8]) -> Option<usize> {
        split::last_boundary(text, self)
    }

    fn runaway(&self, text: &[u8], is_end: bool) -> Option<(usize, String)> {
        // At the end of the file the last record needs no line end, but it must not be inside quotes.
        // Two line ends, as a last escape may take the first.
        if is_end {
            let closed = [text, b"\n\n"].concat();
            if split::last_boundary(&closed, self) == Some(closed.len()) {
                return None;
            }
        }
        // A stray quote must not swallow the file: only its line is given up.
        match memchr::memchr2(b'\n', b'\r', text) {
            Some(at) => {
                let len =
                    if text.get(at) == Some(&b'\r') && text.get(at + 1) == Some(&b'\n') { at + 2 } else { at + 1 };
                Some((len, "a quote is opened and never closed".into()))
            }
            None => Some((text.len(), "a quote is opened and never closed".into())),
        }
    }

    fn resumes_at_line(&self) -> bool {
        true
    }
}

/// One CSV file, ready to be decoded block by block.
pub(super) struct CsvFile {
    schema: SchemaRef,
    output: SchemaRef,
    grammar: Grammar,
    encoding: Encoding,
    /// The header line as it stands in the file, and unique names made from it.
    header: Vec<String>,
    names: Vec<String>,
    has_header: bool,
    /// The file's column for each column of the plan.
    columns: Vec<Option<usize>>,
    /// Columns of the file that the plan does not know.
    extras: Vec<usize>,
    reading: Reading,
    is_inferred: bool,
    keep_raw: bool,
    /// Not text: columns that can tell a summary line from data.
    typed: usize,
}

impl CsvFile {
    pub(super) fn new(plan: &DecodePlan, dialect: &Dialect, encoding: Encoding) -> Self {
        let (schema, is_inferred) = (&plan.schema, plan.is_inferred);
        let matched = dialect::match_columns(schema, &dialect.header, dialect.has_header);
        let typed = |(field, at): (&Arc<arrow::datatypes::Field>, &Option<usize>)| {
            at.is_some() && *field.data_type() != DataType::Utf8View
        };
        Self {
            output: assemble::output_schema(schema, is_inferred),
            grammar: dialect.grammar(),
            encoding,
            header: dialect.header.clone(),
            names: dialect::column_names(&dialect.header),
            has_header: dialect.has_header,
            typed: schema.fields().iter().zip(&matched.columns).filter(|pair| typed(*pair)).count(),
            columns: matched.columns,
            extras: matched.extras,
            reading: open_text::reading(plan, dialect.decimal),
            is_inferred,
            keep_raw: plan.keep_raw,
            schema: schema.clone(),
        }
    }

    pub(super) fn grammar(&self) -> &Grammar {
        &self.grammar
    }

    /// Moves records that cannot be rows from `records` to `pending`, and their fields away.
    fn sort_out(&self, work: &mut Work<'_>, is_utf8: bool, pending: &mut Vec<Pending>) {
        let width = self.header.len();
        let first_name = self.header.first().map(String::as_bytes).unwrap_or_default();
        let is_bad = |record: &Record| {
            if record.fields as usize != width || record.is_run_together {
                return true;
            }
            if !is_utf8 && !work.is_utf8(record) {
                return true;
            }
            self.has_header && work.cell(record, 0) == first_name && self.is_header(work, record)
        };
        let Some(first_bad) = work.records.iter().position(is_bad) else { return };
        let (mut records, mut fields) = (Vec::with_capacity(work.records.len()), Vec::with_capacity(work.fields.len()));
        for (at, record) in work.records.iter().enumerate() {
            if at < first_bad || !is_bad(record) {
                let from = record.first as usize;
                records.push(Record { first: fields.len() as u32, ..*record });
                fields.extend_from_slice(work.fields.get(from..from + width).unwrap_or_default());
                continue;
            }
            let reason = if !is_utf8 && !work.is_utf8(record) {
                format!(
                    "the record is not {} text; set `encoding` under `format: {{csv: …}}` if the file has another encoding",
                    self.encoding.name()
                )
            } else if record.is_run_together {
                "a quote opens a field of several lines, and text follows its closing quote: the record may be several"
                    .to_owned()
            } else if record.fields as usize != width {
                format!("{} fields found, {width} expected", record.fields)
            } else {
                "the header line again".to_owned()
            };
            pending.push(Pending {
                rule: "decode",
                name: None,
                reason,
                line: work.line + u64::from(record.line),
                start: record.start as usize,
                end: record.end as usize,
            });
        }
        work.records = records;
        work.fields = fields;
    }

    fn is_header(&self, work: &Work<'_>, record: &Record) -> bool {
        self.header.iter().enumerate().all(|(at, name)| work.cell(record, at) == name.as_bytes())
    }

    fn convert(&self, work: &Work<'_>, rows: &mut Rows, pending: &mut Vec<Pending>) {
        let row_base = rows.lines.len();
        let mut scratch = Vec::new();
        rows.lines.extend(work.records.iter().map(|record| (work.line + u64::from(record.line)) as i64));
        if let Some(places) = &mut rows.places {
            places.extend(work.records.iter().map(|record| (record.start, record.end)));
        }
        for ((column, field), at) in rows.columns.iter_mut().zip(self.schema.fields()).zip(&self.columns) {
            let Some(at) = *at else {
                (0..work.records.len()).for_each(|_| column.push_null());
                continue;
            };
            let mut cells = FileColumn::new(work, self.header.len(), at, &self.grammar, &mut scratch);
            let mut unfit: Vec<(usize, Unfit)> = Vec::new();
            column.push_cells(&mut cells, &self.reading, &mut |row, why| unfit.push((row, why)));
            for (row, why) in unfit {
                let value = cells.text(row);
                match &mut rows.rescue {
                    Some(rescue) if why == Unfit::Type => rescue.push_text(row_base + row, field.name(), value),
                    _ => {
                        let Some(record) = work.records.get(row) else { continue };
                        // The first column that does not fit names the reject.
                        if rows.rejected.insert((row_base + row) as u32) {
                            pending.push(Pending {
                                rule: "contract",
                                name: Some(field.name().clone()),
                                reason: assemble::misfit_reason(why, value, field, self.reading.zone),
                                line: work.line + u64::from(record.line),
                                start: record.start as usize,
                                end: record.end as usize,
                            });
                        }
                    }
                }
            }
        }
        if let Some(rescue) = &mut rows.rescue {
            for at in &self.extras {
                let name = self.names.get(*at).map(String::as_str).unwrap_or_default();
                let mut cells = FileColumn::new(work, self.header.len(), *at, &self.grammar, &mut scratch);
                for row in 0..work.records.len() {
                    let is_null = matches!(cells.place(row), (Some((start, end)), false) if start == end);
                    if !is_null {
                        rescue.push_text(row_base + row, name, cells.text(row));
                    }
                }
            }
        }
    }

    /// Whether the last record of the file is a summary: it has values in columns that are not text, and none of them fits.
    fn is_footer(&self, work: &Work<'_>, rows: &Rows) -> bool {
        let (Some(record), Some(row)) = (work.records.last(), rows.lines.len().checked_sub(1)) else { return false };
        if self.typed < 2 || !self.is_inferred {
            return false;
        }
        let mut misfits = 0;
        for ((column, field), at) in rows.columns.iter().zip(self.schema.fields()).zip(&self.columns) {
            let Some(at) = at.filter(|_| *field.data_type() != DataType::Utf8View) else { continue };
            if !self.reading.is_null(super::values::trim(work.cell(record, at))) {
                if !column.is_null(row) {
                    return false;
                }
                misfits += 1;
            }
        }
        misfits > 0
    }
}

impl BlockDecoder for CsvFile {
    fn decode(&self, block: Block) -> Result<Decoded, Problem> {
        let mut rows = Rows {
            columns: self.schema.fields().iter().map(|field| Column::of(field)).collect::<Result<_, _>>()?,
            rescue: self.is_inferred.then(Rescue::default),
            lines: Vec::new(),
            rejected: HashSet::new(),
            places: self.keep_raw.then(Vec::new),
        };
        let bytes = block.text.len() as u64;
        let origin = assemble::Origin { offset: block.offset, encoding: self.encoding };
        if let Some(why) = &block.spoilt {
            let rejects = assemble::spoilt(&block, why, self.encoding);
            return Ok(assemble::decoded(rows.finish(&self.output, Vec::new(), origin)?, rejects, bytes));
        }
        let text = block.text.as_slice();
        let is_utf8 = simdutf8::basic::from_utf8(text).is_ok();
        let line = block.line + super::blocks::line_ends(text.get(..block.from).unwrap_or_default());
        let mut pending = Vec::new();
        let mut work = Work { text, line, records: Vec::with_capacity(STRIDE), fields: Vec::new() };
        let mut splitter = Splitter::new(text, block.from, self.grammar);
        while !splitter.is_done() {
            work.records.clear();
            work.fields.clear();
            splitter.next(STRIDE, &mut work.records, &mut work.fields);
            if rows.lines.is_empty() {
                rows.reserve(rows_of(
                    text.len(),
                    self.header.len(),
                    splitter.position() - block.from,
                    work.records.len(),
                ));
            }
            let has_footer_place = block.is_last && splitter.is_done();
            self.sort_out(&mut work, is_utf8, &mut pending);
            self.convert(&work, &mut rows, &mut pending);
            if has_footer_place
                && self.is_footer(&work, &rows)
                && let Some(record) = work.records.last()
                // A value in it may have rejected it already.
                && rows.rejected.insert(rows.lines.len() as u32 - 1)
            {
                pending.push(Pending {
                    rule: "decode",
                    name: None,
                    reason: "the last line is a summary: none of its values fits its column".into(),
                    line: line + u64::from(record.line),
                    start: record.start as usize,
                    end: record.end as usize,
                });
            }
        }
        let rejects = assemble::rejects(pending, text, block.offset, self.encoding);
        Ok(assemble::decoded(rows.finish(&self.output, block.text, origin)?, rejects, bytes))
    }
}

/// Rows to make room for when `records` took `bytes` of a block: a little more than the rest will have, as a rule.
/// Never more rows than fit: each has a delimiter or line end for each of its `columns`, so the room of many columns is
/// bounded by the block too, however short and ragged its first records are.
fn rows_of(block: usize, columns: usize, bytes: usize, records: usize) -> usize {
    let expected = block.saturating_mul(records) / bytes.max(1) * 17 / 16;
    // The last record of a file may go without its line end.
    expected.min(block / columns.max(1) + 1).min(ROOM_ROWS_MAX)
}

/// Some records of a block.
struct Work<'a> {
    text: &'a [u8],
    /// Physical line of the block's first record.
    line: u64,
    records: Vec<Record>,
    /// Fields of all records, in order.
    fields: Vec<Field>,
}

impl Work<'_> {
    fn is_utf8(&self, record: &Record) -> bool {
        let text = self.text.get(record.start as usize..record.end as usize).unwrap_or_default();
        simdutf8::basic::from_utf8(text).is_ok()
    }

    /// A cell as written, without its quotes.
    fn cell(&self, record: &Record, at: usize) -> &[u8] {
        let (start, end) = self.fields.get(record.first as usize + at).copied().unwrap_or_default().range();
        self.text.get(start..end).unwrap_or_default()
    }
}

/// One column of some records that all have `width` fields.
struct FileColumn<'a> {
    text: &'a [u8],
    fields: &'a [Field],
    width: usize,
    at: usize,
    rows: usize,
    grammar: &'a Grammar,
    scratch: &'a mut Vec<u8>,
}

impl<'a> FileColumn<'a> {
    fn new(work: &'a Work<'_>, width: usize, at: usize, grammar: &'a Grammar, scratch: &'a mut Vec<u8>) -> Self {
        Self { text: work.text, fields: &work.fields, width, at, rows: work.records.len(), grammar, scratch }
    }

    #[inline]
    fn field(&self, row: usize) -> Field {
        self.fields.get(row * self.width + self.at).copied().unwrap_or_default()
    }
}

impl Cells for FileColumn<'_> {
    fn len(&self) -> usize {
        self.rows
    }

    #[inline]
    fn text(&mut self, row: usize) -> &[u8] {
        let field = self.field(row);
        let (start, end) = field.range();
        let raw = self.text.get(start..end).unwrap_or_default();
        if !field.is_raw() {
            return raw;
        }
        split::resolve(raw, field.is_quoted(), self.grammar, self.scratch);
        self.scratch
    }

    #[inline]
    fn place(&self, row: usize) -> (Option<(usize, usize)>, bool) {
        let field = self.field(row);
        (if field.is_raw() { None } else { Some(field.range()) }, field.is_quoted())
    }

    #[inline]
    fn block(&self) -> &[u8] {
        self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_bounded_by_the_block() {
        // 1,000 records in 20,000 bytes, of a block of 1 MB: 50,000 and a little more.
        assert_eq!(rows_of(1_000_000, 5, 20_000, 1_000), 53_125);
        assert_eq!(rows_of(1_000_000, 5, 0, 0), 0);
        // Ragged first records of 2 bytes promise 500,000 rows, but one of 5,000 columns has 5,000 bytes at least.
        assert_eq!(rows_of(1_000_000, 5_000, 4_096, 2_048), 201);
        assert_eq!(rows_of(10_000_000, 0, 4_096, 2_048), ROOM_ROWS_MAX);
    }
}
