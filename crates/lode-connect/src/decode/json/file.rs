//! Files of JSON records: one a line, or one after the other.

use std::collections::HashSet;

use arrow::datatypes::SchemaRef;
use lode_core::Problem;
use parking_lot::Mutex;

use super::super::assemble::{self, Pending, Rows};
use super::super::blocks::{Block, Boundary, line_ends};
use super::super::column::{Reading, Struct};
use super::super::encoding::Encoding;
use super::super::rescue::Rescue;
use super::super::run::BlockDecoder;
use super::super::{Decoded, Undeclared, values};
use super::JsonError;
use super::read::Cursor;
use super::record::RecordWriter;

/// How records follow one another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Layout {
    /// A record is a line.
    Lines,
    /// Records are values with blanks or commas between them, maybe in one array.
    Values,
}

impl Boundary for Layout {
    fn last(&self, text: &[u8]) -> Option<usize> {
        match self {
            Self::Lines => memchr::memrchr(b'\n', text).map(|at| at + 1),
            Self::Values => {
                let mut last = None;
                let mut at = 0;
                while let Next::Value { start, end } = next_value(text, at) {
                    at = end;
                    // The end of an array stays with what follows it, so that the last block tells whether it was there.
                    if text.get(start..end) != Some(b"]") {
                        last = Some(end);
                    }
                }
                last
            }
        }
    }

    fn runaway(&self, text: &[u8], is_end: bool) -> Option<(usize, String)> {
        match self {
            Self::Lines if is_end => None,
            Self::Lines => Some((text.len(), String::new())),
            Self::Values => match next_value(text, 0) {
                // A number or word needs no end of its own.
                Next::Open { is_inside: false, .. } if is_end => None,
                Next::Open { start, .. } => {
                    Some((text.len(), format!("a value begins at byte {} and does not end", start + 1)))
                }
                _ => None,
            },
        }
    }

    fn resumes_at_line(&self) -> bool {
        *self == Self::Lines
    }
}

enum Next {
    Value {
        start: usize,
        end: usize,
    },
    /// The text ends before the value does.
    Open {
        start: usize,
        /// Of brackets or quotes.
        is_inside: bool,
    },
    /// Only separators are left.
    Nothing,
}

/// The next value at or behind `from`, by its brackets and quotes alone; parsing tells later whether it is one.
fn next_value(text: &[u8], from: usize) -> Next {
    let is_separator = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | b',');
    let Some(skipped) = text.get(from..).and_then(|rest| rest.iter().position(|byte| !is_separator(byte))) else {
        return Next::Nothing;
    };
    let start = from + skipped;
    let mut at = start;
    let mut depth = 0_usize;
    while let Some(byte) = text.get(at) {
        match byte {
            b'{' | b'[' => depth += 1,
            // The end of the array right behind a number or word.
            b']' if depth == 0 && at > start => return Next::Value { start, end: at },
            b'}' | b']' => {
                depth = depth.saturating_sub(1);
                // The end of the array, taken for that of an object in it which has none.
                let is_stolen = *byte == b']' && text.get(start) == Some(&b'{');
                if depth == 0 && is_stolen && text.get(at + 1..).unwrap_or_default().iter().all(is_separator) {
                    return Next::Open { start, is_inside: true };
                }
                if depth == 0 {
                    return Next::Value { start, end: at + 1 };
                }
            }
            b'"' => match string_end(text, at + 1) {
                Some(end) => {
                    at = end;
                    if depth == 0 {
                        return Next::Value { start, end: at + 1 };
                    }
                }
                None => return Next::Open { start, is_inside: true },
            },
            byte if depth == 0 && is_separator(byte) => return Next::Value { start, end: at },
            _ => {}
        }
        at += 1;
    }
    Next::Open { start, is_inside: depth > 0 }
}

/// Place of the next whole value at or behind `from`, if there is one.
pub(in super::super) fn value_at(text: &[u8], from: usize) -> Option<(usize, usize)> {
    match next_value(text, from) {
        Next::Value { start, end } => Some((start, end)),
        Next::Open { .. } | Next::Nothing => None,
    }
}

fn string_end(text: &[u8], from: usize) -> Option<usize> {
    let mut at = from;
    loop {
        at += memchr::memchr2(b'"', b'\\', text.get(at..)?)?;
        if text.get(at) == Some(&b'"') {
            return Some(at);
        }
        at += 2;
    }
}

/// One file of JSON records.
pub(in super::super) struct JsonFile {
    pub(in super::super) schema: SchemaRef,
    pub(in super::super) output: SchemaRef,
    pub(in super::super) layout: Layout,
    /// The records stand in one array, whose `]` ends them.
    pub(in super::super) is_array: bool,
    pub(in super::super) encoding: Encoding,
    pub(in super::super) reading: Reading,
    pub(in super::super) is_inferred: bool,
    pub(in super::super) keep_raw: bool,
    /// With declared columns: what the records have besides.
    pub(in super::super) undeclared: Mutex<Undeclared>,
}

impl JsonFile {
    /// Reads the records of `text` from byte `from` on.
    fn read(&self, text: &[u8], from: usize, line: u64, is_last: bool) -> Result<(Rows, Vec<Pending>), Problem> {
        let mut top = Struct::of(self.schema.fields())?;
        let mut rescue = self.is_inferred.then(Rescue::default);
        let (mut lines, mut pending) = (Vec::new(), Vec::new());
        let mut places = self.keep_raw.then(Vec::new);
        let is_utf8 = simdutf8::basic::from_utf8(text).is_ok();
        let (mut at, mut line, mut counted) = (from, line, from);
        let mut scratch = Vec::new();
        let mut undeclared = Undeclared::default();
        let mut has_ended = !(self.is_array && is_last && !text.is_empty());
        while let Some((start, end, next)) = self.next(text, at, is_last) {
            if !has_ended && text.get(start..end) == Some(b"]") {
                has_ended = true;
                at = next;
                continue;
            }
            if self.layout == Layout::Values {
                line += line_ends(text.get(counted..start).unwrap_or_default());
                counted = start;
            }
            if self.layout == Layout::Lines && values::trim(text.get(start..end).unwrap_or_default()).is_empty() {
                line += 1;
                at = next;
                continue;
            }
            let row = lines.len();
            let (mark, undeclared_mark) = (rescue.as_ref().map(Rescue::mark), undeclared.mark());
            let mut writer = RecordWriter {
                reading: &self.reading,
                rescue: rescue.as_mut(),
                row,
                refusal: None,
                undeclared: Some(&mut undeclared),
                strangers: None,
                is_block: true,
                scratch: std::mem::take(&mut scratch),
            };
            let done = read_one(text, start, end, is_utf8, &mut writer, &mut top);
            let (refusal, strangers) = (writer.refusal.take(), writer.strangers.take());
            scratch = writer.scratch;
            match (done, refusal) {
                (Ok(()), None) if strangers.is_none() => {
                    lines.push(line as i64);
                    if let Some(places) = &mut places {
                        places.push((start as u32, end as u32));
                    }
                }
                (done, refusal) => {
                    top.truncate(row);
                    if let (Some(rescue), Some(mark)) = (&mut rescue, mark) {
                        rescue.rewind(mark);
                    }
                    undeclared.rewind(undeclared_mark);
                    pending.push(match strangers {
                        Some(reason) if done.is_ok() => {
                            Pending { rule: "contract", name: None, reason, line, start, end }
                        }
                        _ => self.reject(done.err(), refusal, text, (start, end), line),
                    });
                }
            }
            if self.layout == Layout::Lines {
                line += 1;
            }
            at = next;
        }
        if !has_ended {
            line += line_ends(text.get(counted..).unwrap_or_default());
            pending.push(no_end(line, text.len()));
        }
        self.undeclared.lock().add(&undeclared);
        Ok((Rows { columns: top.children, rescue, lines, rejected: HashSet::new(), places }, pending))
    }

    /// The next record: its place, and where to look for the one behind it. Blank lines come as empty places.
    fn next(&self, text: &[u8], at: usize, is_last: bool) -> Option<(usize, usize, usize)> {
        match self.layout {
            Layout::Lines => {
                let rest = text.get(at..).filter(|rest| !rest.is_empty())?;
                let len = memchr::memchr(b'\n', rest).unwrap_or(rest.len());
                Some((at, at + len, at + len + 1))
            }
            Layout::Values => match next_value(text, at) {
                Next::Value { start, end } => Some((start, end, end)),
                Next::Open { start, .. } if is_last => Some((start, text.len(), text.len())),
                Next::Open { .. } | Next::Nothing => None,
            },
        }
    }

    fn reject(
        &self,
        error: Option<JsonError>,
        refusal: Option<super::record::Refusal>,
        text: &[u8],
        (start, end): (usize, usize),
        line: u64,
    ) -> Pending {
        let (rule, name, reason) = match (error, refusal) {
            (None, Some(refusal)) => {
                let value = text.get(refusal.start..refusal.end).unwrap_or_default();
                let value = value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\"")).unwrap_or(value);
                let field = self.schema.field_with_name(refusal.name.split('.').next().unwrap_or_default());
                let reason = match (field, refusal.name.contains('.')) {
                    (Ok(field), false) => assemble::misfit_reason(refusal.why, value, field, self.reading.zone),
                    _ => format!("\"{}\" does not fit its declared type", assemble::clipped(value)),
                };
                ("contract", Some(refusal.name), reason)
            }
            (error, _) => ("decode", None, error.map_or_else(String::new, |error| error.to_string())),
        };
        Pending { rule, name, reason, line, start, end }
    }
}

fn no_end(line: u64, at: usize) -> Pending {
    let reason = "the array has no end: the file may be cut".to_owned();
    Pending { rule: "decode", name: None, reason, line, start: at, end: at }
}

fn read_one(
    text: &[u8],
    start: usize,
    end: usize,
    is_utf8: bool,
    writer: &mut RecordWriter<'_>,
    top: &mut Struct,
) -> Result<(), JsonError> {
    let record = text.get(start..end).unwrap_or_default();
    if !is_utf8 && let Err(error) = simdutf8::compat::from_utf8(record) {
        return Err(JsonError { what: "bytes that are not UTF-8", at: error.valid_up_to() + 1 });
    }
    // Cut behind the record, not before it: views point into the block.
    let mut cursor = Cursor::new(text.get(..end).unwrap_or_default(), start);
    cursor.blanks();
    let relative = |error: JsonError| JsonError { at: error.at.saturating_sub(start).max(1), ..error };
    writer.record(&mut cursor, top).map_err(relative)?;
    cursor.end().map_err(relative)
}

impl BlockDecoder for JsonFile {
    fn decode(&self, mut block: Block) -> Result<Decoded, Problem> {
        let bytes = block.text.len() as u64;
        let origin = assemble::Origin { offset: block.offset, encoding: self.encoding };
        if let Some(why) = block.spoilt.take() {
            let (rows, _) = self.read(&[], 0, block.line, true)?;
            let rejects = assemble::spoilt(&block, &why, self.encoding);
            return Ok(assemble::decoded(rows.finish(&self.output, Vec::new(), origin)?, rejects, bytes));
        }
        let line = block.line + line_ends(block.text.get(..block.from).unwrap_or_default());
        let (rows, pending) = self.read(&block.text, block.from, line, block.is_last)?;
        let rejects = assemble::rejects(pending, &block.text, block.offset, self.encoding);
        Ok(assemble::decoded(rows.finish(&self.output, block.text, origin)?, rejects, bytes))
    }
}
