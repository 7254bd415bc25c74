//! CSV text to records and fields.
//!
//! The grammar, for reader and splitter alike, so that blocks may be cut before they are split:
//! - A quote opens a quoted field only as the first byte of a field; anywhere else it is text (`6" pipe`).
//! - In a quoted field a doubled quote is a quote; a single one ends the quoting, and what follows up to the delimiter is
//!   appended as it stands. Behind a field of several lines it says that the quote meant to close something else: the
//!   record is marked, as it may hold several.
//! - The escape character, if there is one, makes the next byte text, in quotes and out of them.
//! - LF, CRLF and a lone CR end a record outside quotes; blank lines are no records.
//! - A record that starts with the comment character reaches to the end of its line, whatever stands in it.

use wide::u8x16;

/// What the bytes of a CSV text mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) struct Grammar {
    pub(in super::super) delimiter: u8,
    pub(in super::super) quote: Option<u8>,
    pub(in super::super) escape: Option<u8>,
    pub(in super::super) comment: Option<u8>,
}

/// End of the last whole record in `text`, which starts at a record. `None` if no record ends in it.
/// A CR as the last byte decides nothing, as an LF may follow.
pub(in super::super) fn last_boundary(text: &[u8], grammar: &Grammar) -> Option<usize> {
    let Some(quote) = grammar.quote else { return last_line_end(text, 0, text.len(), grammar) };
    let mut last = None;
    // Start of the stretch outside quotes that is being looked at.
    let mut outside = 0;
    let mut at = 0;
    // A quote right behind an escaped delimiter opens nothing.
    let mut escaped = usize::MAX;
    let next = |from: usize| {
        let rest = text.get(from..)?;
        let found = match grammar.escape {
            Some(escape) if escape != quote => memchr::memchr2(quote, escape, rest),
            _ => memchr::memchr(quote, rest),
        };
        found.map(|found| from + found)
    };
    while let Some(found) = next(at) {
        if text.get(found) != Some(&quote) {
            at = found + 2;
            escaped = at;
            continue;
        }
        let before = found.checked_sub(1).and_then(|before| text.get(before));
        let opens = match before {
            None => true,
            Some(before) => *before == grammar.delimiter || matches!(before, b'\n' | b'\r'),
        };
        if !opens || found == escaped || is_in_comment(text, outside, found, grammar) {
            at = found + 1;
            continue;
        }
        if let Some(end) = last_line_end(text, outside, found, grammar) {
            last = Some(end);
        }
        match closing_quote(text, found + 1, quote, grammar.escape) {
            Some(close) => {
                at = close + 1;
                outside = at;
            }
            None => return last,
        }
    }
    last_line_end(text, outside, text.len(), grammar).or(last)
}

/// Place of the quote that closes a field whose content starts at `from`.
fn closing_quote(text: &[u8], from: usize, quote: u8, escape: Option<u8>) -> Option<usize> {
    let mut at = from;
    loop {
        let rest = text.get(at..)?;
        let found = at
            + match escape {
                Some(escape) if escape != quote => memchr::memchr2(quote, escape, rest)?,
                _ => memchr::memchr(quote, rest)?,
            };
        if text.get(found) != Some(&quote) || text.get(found + 1) == Some(&quote) {
            at = found + 2;
        } else {
            return Some(found);
        }
    }
}

fn is_in_comment(text: &[u8], outside: usize, at: usize, grammar: &Grammar) -> bool {
    let Some(comment) = grammar.comment else { return false };
    let stretch = text.get(outside..at).unwrap_or_default();
    match memchr::memrchr2(b'\n', b'\r', stretch) {
        Some(end) => stretch.get(end + 1) == Some(&comment),
        None => outside == 0 && text.first() == Some(&comment),
    }
}

/// End of the last line that ends between `from` and `to`, which holds no quoted text.
fn last_line_end(text: &[u8], from: usize, to: usize, grammar: &Grammar) -> Option<usize> {
    let mut end = to;
    loop {
        let at = from + memchr::memrchr2(b'\n', b'\r', text.get(from..end)?)?;
        let is_escaped = grammar.escape.is_some_and(|escape| {
            Some(escape) != grammar.quote && ends_with_odd(text.get(..at).unwrap_or_default(), escape)
        });
        let is_open_cr = text.get(at) == Some(&b'\r') && at + 1 == text.len();
        let is_half = text.get(at) == Some(&b'\r') && text.get(at + 1) == Some(&b'\n');
        if is_escaped || is_open_cr || is_half {
            end = at;
        } else {
            return Some(at + 1);
        }
    }
}

fn ends_with_odd(text: &[u8], escape: u8) -> bool {
    text.iter().rev().take_while(|byte| **byte == escape).count() % 2 == 1
}

/// A field of a block. `QUOTED`: the range is what stood between the quotes. `RAW`: the range is the field as written, and
/// must be resolved with `resolve`.
#[derive(Debug, Clone, Copy, Default)]
pub(in super::super) struct Field {
    start: u32,
    end: u32,
}

const QUOTED: u32 = 1 << 31;
const RAW: u32 = 1 << 30;
const PLACE: u32 = RAW - 1;

impl Field {
    #[inline]
    pub(in super::super) fn range(self) -> (usize, usize) {
        ((self.start & PLACE) as usize, self.end as usize)
    }

    #[inline]
    pub(in super::super) fn is_quoted(self) -> bool {
        self.start & QUOTED != 0
    }

    #[inline]
    pub(in super::super) fn is_raw(self) -> bool {
        self.start & RAW != 0
    }
}

/// One record of a block.
#[derive(Debug, Clone, Copy)]
pub(in super::super) struct Record {
    pub(in super::super) start: u32,
    /// Behind the line end.
    pub(in super::super) end: u32,
    /// Line on which it starts, counted from 0 within the block.
    pub(in super::super) line: u32,
    /// Place of its first field in the list of fields.
    pub(in super::super) first: u32,
    pub(in super::super) fields: u32,
    /// Text stands behind the closing quote of a field of several lines.
    pub(in super::super) is_run_together: bool,
}

/// Splits a block, some records at a time.
pub(in super::super) struct Splitter<'a> {
    text: &'a [u8],
    grammar: Grammar,
    at: usize,
    line: u32,
}

/// Places of the bytes that may mean something, 64 bytes at a time.
struct Marks<'a> {
    text: &'a [u8],
    base: usize,
    bits: u64,
    needles: [u8x16; 5],
    plain: [u8; 5],
}

impl<'a> Marks<'a> {
    fn new(text: &'a [u8], from: usize, grammar: &Grammar) -> Self {
        let quote = grammar.quote.unwrap_or(grammar.delimiter);
        let escape = grammar.escape.unwrap_or(grammar.delimiter);
        let plain = [grammar.delimiter, b'\n', b'\r', quote, escape];
        let mut marks = Self { text, base: from, bits: 0, needles: plain.map(|byte| u8x16::from([byte; 16])), plain };
        marks.bits = marks.load();
        marks
    }

    #[inline]
    fn load(&self) -> u64 {
        let rest = self.text.get(self.base..).unwrap_or_default();
        match rest.first_chunk::<64>() {
            Some(chunk) => {
                let mut bits = 0_u64;
                let (quarters, _) = chunk.as_chunks::<16>();
                for (at, quarter) in quarters.iter().enumerate() {
                    let bytes = u8x16::from(*quarter);
                    let mut hit = bytes.simd_eq(self.needles[0]) | bytes.simd_eq(self.needles[1]);
                    hit = hit | bytes.simd_eq(self.needles[2]) | bytes.simd_eq(self.needles[3]);
                    if self.plain[4] != self.plain[0] {
                        hit |= bytes.simd_eq(self.needles[4]);
                    }
                    bits |= u64::from(hit.to_bitmask()) << (16 * at);
                }
                bits
            }
            None => rest
                .iter()
                .enumerate()
                .filter(|(_, byte)| self.plain.contains(byte))
                .fold(0, |bits, (at, _)| bits | 1 << at),
        }
    }

    #[inline]
    fn next(&mut self) -> Option<usize> {
        while self.bits == 0 {
            self.base += 64;
            if self.base >= self.text.len() {
                return None;
            }
            self.bits = self.load();
        }
        let at = self.base + self.bits.trailing_zeros() as usize;
        self.bits &= self.bits - 1;
        Some(at)
    }
}

impl<'a> Splitter<'a> {
    /// `text` starts at a record and ends at a record's end (or at the end of the file), from byte `from` on.
    pub(in super::super) fn new(text: &'a [u8], from: usize, grammar: Grammar) -> Self {
        Self { text, grammar, at: from, line: 0 }
    }

    pub(in super::super) fn is_done(&self) -> bool {
        self.at >= self.text.len()
    }

    /// Bytes of the text that are split.
    pub(in super::super) fn position(&self) -> usize {
        self.at
    }

    /// Appends the next records, `records_max` at most.
    pub(in super::super) fn next(&mut self, records_max: usize, records: &mut Vec<Record>, fields: &mut Vec<Field>) {
        let text = self.text;
        let Grammar { delimiter, quote, escape, comment } = self.grammar;
        let mut marks = Marks::new(text, self.at, &self.grammar);
        let blank = Record { start: 0, end: 0, line: 0, first: 0, fields: 0, is_run_together: false };
        let mut record = Record { start: self.at as u32, line: self.line, first: fields.len() as u32, ..blank };
        let mut start = self.at;
        // Bytes before this have had their meaning.
        let mut skip = self.at;
        // Where the open or just closed quoted field began, and where its closing quote stood.
        let (mut is_open, mut closed, mut is_raw) = (false, None::<usize>, false);
        let mut is_comment = comment.is_some() && text.get(start).copied() == comment;
        // Nothing but text was met in the field so far.
        let mut is_plain = !is_comment;
        let full = records.len() + records_max;
        while records.len() < full {
            let Some(at) = marks.next() else {
                if start < text.len() || fields.len() > record.first as usize || is_open {
                    let is_quoted = is_open || closed.is_some();
                    record.is_run_together |=
                        push_field(fields, text, start, text.len(), is_quoted, closed, is_raw || is_open);
                    record.end = text.len() as u32;
                    finish_record(&mut record, records, fields, text, is_comment);
                }
                self.at = text.len();
                return;
            };
            let Some(&byte) = text.get(at) else { break };
            // Most marks by far: the end of a plain field.
            if byte == delimiter && is_plain && at >= skip {
                fields.push(Field { start: start as u32, end: at as u32 });
                start = at + 1;
                continue;
            }
            let is_line_end = byte == b'\n' || (byte == b'\r' && text.get(at + 1) != Some(&b'\n'));
            self.line += u32::from(is_line_end);
            if at < skip {
                continue;
            }
            if is_comment && !is_line_end {
                continue;
            }
            if is_open {
                if Some(byte) == quote {
                    if text.get(at + 1).copied() == quote {
                        skip = at + 2;
                        is_raw = true;
                    } else {
                        is_open = false;
                        closed = Some(at);
                    }
                } else if Some(byte) == escape {
                    skip = at + 2;
                    is_raw = true;
                }
                continue;
            }
            if byte == delimiter {
                record.is_run_together |= push_field(fields, text, start, at, closed.is_some(), closed, is_raw);
                start = at + 1;
                closed = None;
                is_raw = false;
                is_plain = true;
            } else if is_line_end {
                let end = if byte == b'\n' && at > start && text.get(at - 1) == Some(&b'\r') { at - 1 } else { at };
                record.is_run_together |= push_field(fields, text, start, end, closed.is_some(), closed, is_raw);
                record.end = at as u32 + 1;
                finish_record(&mut record, records, fields, text, is_comment);
                start = at + 1;
                closed = None;
                is_raw = false;
                record = Record { start: start as u32, line: self.line, first: fields.len() as u32, ..blank };
                is_comment = comment.is_some() && text.get(start).copied() == comment;
                is_plain = !is_comment;
            } else if Some(byte) == quote {
                if at == start {
                    is_open = true;
                    is_plain = false;
                }
            } else if Some(byte) == escape {
                skip = at + 2;
                is_raw = true;
                is_plain = false;
            }
        }
        self.at = start;
    }
}

/// Returns whether text stands behind the closing quote of a field of several lines.
#[inline]
fn push_field(
    fields: &mut Vec<Field>,
    text: &[u8],
    start: usize,
    end: usize,
    is_quoted: bool,
    closed: Option<usize>,
    is_raw: bool,
) -> bool {
    if !is_quoted {
        fields.push(Field { start: start as u32 | if is_raw { RAW } else { 0 }, end: end as u32 });
        return false;
    }
    // A lone CR before LF was cut off already; blanks behind the closing quote are part of the raw form.
    match closed {
        Some(at) if at + 1 == end && !is_raw => {
            fields.push(Field { start: (start as u32 + 1) | QUOTED, end: at as u32 });
            false
        }
        _ => {
            fields.push(Field { start: start as u32 | QUOTED | RAW, end: end.min(text.len()) as u32 });
            closed.is_some_and(|at| {
                let behind = text.get(at + 1..end).unwrap_or_default();
                let quoted = text.get(start..at).unwrap_or_default();
                !behind.trim_ascii().is_empty() && memchr::memchr2(b'\n', b'\r', quoted).is_some()
            })
        }
    }
}

/// Ends the record. Blank lines and comments are none: their fields are dropped.
#[inline]
fn finish_record(
    record: &mut Record,
    records: &mut Vec<Record>,
    fields: &mut Vec<Field>,
    text: &[u8],
    is_comment: bool,
) {
    record.fields = (fields.len() as u32).saturating_sub(record.first);
    let is_blank =
        record.fields == 1 && fields.last().is_some_and(|field| !field.is_quoted() && is_blank_line(text, *field));
    if is_comment || is_blank {
        fields.truncate(record.first as usize);
    } else {
        records.push(*record);
    }
}

fn is_blank_line(text: &[u8], field: Field) -> bool {
    let (start, end) = field.range();
    start == end
        || text
            .get(start..end)
            .is_some_and(|line| line.len() < 64 && line.iter().all(|byte| matches!(byte, b' ' | b'\t' | b'\r')))
}

/// The value of a raw field: quotes and escapes resolved.
pub(in super::super) fn resolve(raw: &[u8], is_quoted: bool, grammar: &Grammar, out: &mut Vec<u8>) {
    out.clear();
    let (quote, escape) = (grammar.quote, grammar.escape);
    let mut is_open = is_quoted && raw.first().copied() == quote;
    let mut at = usize::from(is_open);
    while let Some(&byte) = raw.get(at) {
        if Some(byte) == escape && escape != quote && at + 1 < raw.len() {
            out.extend(raw.get(at + 1));
            at += 2;
        } else if is_open && Some(byte) == quote {
            if raw.get(at + 1).copied() == quote {
                out.push(byte);
                at += 2;
            } else {
                is_open = false;
                at += 1;
            }
        } else {
            out.push(byte);
            at += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Grammar = Grammar { delimiter: b',', quote: Some(b'"'), escape: None, comment: None };

    fn split(text: &str, grammar: Grammar) -> Vec<(u32, Vec<String>)> {
        let (mut records, mut fields) = (Vec::new(), Vec::new());
        let mut splitter = Splitter::new(text.as_bytes(), 0, grammar);
        while !splitter.is_done() {
            splitter.next(2, &mut records, &mut fields);
        }
        let mut scratch = Vec::new();
        let mut value = |field: &Field| {
            let (start, end) = field.range();
            let bytes = &text.as_bytes()[start..end];
            if field.is_raw() {
                resolve(bytes, field.is_quoted(), &grammar, &mut scratch);
                String::from_utf8(scratch.clone()).unwrap()
            } else {
                String::from_utf8(bytes.to_vec()).unwrap()
            }
        };
        records
            .iter()
            .map(|record| {
                let first = record.first as usize;
                (record.line, fields[first..first + record.fields as usize].iter().map(&mut value).collect())
            })
            .collect()
    }

    fn rows(text: &str, grammar: Grammar) -> Vec<Vec<String>> {
        split(text, grammar).into_iter().map(|(_, fields)| fields).collect()
    }

    #[test]
    fn quotes_line_ends_and_blank_lines() {
        let text = "a,\"b\"\"c\",d\r\n\r\n\"x\ny\",,z\rp,\"q\"r,6\" pipe\n\n\n  \ne,f,\"\"";
        let wanted = [["a", "b\"c", "d"], ["x\ny", "", "z"], ["p", "qr", "6\" pipe"], ["e", "f", ""]];
        assert_eq!(rows(text, PLAIN), wanted);
        assert_eq!(split(text, PLAIN).iter().map(|(line, _)| *line).collect::<Vec<_>>(), [0, 2, 4, 8]);
    }

    #[test]
    fn escapes_and_comments() {
        let escaped = Grammar { escape: Some(b'\\'), ..PLAIN };
        assert_eq!(rows("a\\,b,\"c\\\"d\"\nx\\\ny,z\n", escaped), [["a,b", "c\"d"], ["x\ny", "z"]]);
        let comment = Grammar { comment: Some(b'#'), ..PLAIN };
        assert_eq!(rows("# a,\"b\n1,2\n#\n3,#4\n", comment), [["1", "2"], ["3", "#4"]]);
    }

    #[test]
    fn text_behind_a_quoted_field_of_several_lines_marks_its_record() {
        let text = "1,\"x, y\n2,z\n3,\"w\"\n4,\"a\nb\" \n5,\"q\"r\n";
        let (mut records, mut fields) = (Vec::new(), Vec::new());
        Splitter::new(text.as_bytes(), 0, PLAIN).next(9, &mut records, &mut fields);
        let marked: Vec<bool> = records.iter().map(|record| record.is_run_together).collect();
        assert_eq!(marked, [true, false, false]);
    }

    #[test]
    fn long_fields_cross_the_chunks_of_64() {
        let long = "y".repeat(200);
        let text = format!("{long},\"{long}\"\"\n{long}\",1\n2,3,4\n");
        assert_eq!(
            rows(&text, PLAIN),
            [[long.clone(), format!("{long}\"\n{long}"), "1".into()], ["2".into(), "3".into(), "4".into()]]
        );
    }

    /// Wherever a text is cut, the boundary lies at the end of a record of the whole text.
    #[test]
    fn boundaries_are_ends_of_records() {
        let grammars = [
            PLAIN,
            Grammar { escape: Some(b'\\'), ..PLAIN },
            Grammar { comment: Some(b'#'), ..PLAIN },
            Grammar { quote: None, ..PLAIN },
        ];
        let mut seed = 7_u64;
        for grammar in grammars {
            for _ in 0..400 {
                let text: Vec<u8> = (0..60)
                    .map(|_| {
                        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                        b"ab,,\"\"\n\r\\#"[(seed >> 33) as usize % 10]
                    })
                    .collect();
                let (mut records, mut fields) = (Vec::new(), Vec::new());
                let mut splitter = Splitter::new(&text, 0, grammar);
                while !splitter.is_done() {
                    splitter.next(1, &mut records, &mut fields);
                }
                let mut ends: Vec<usize> = records.iter().map(|record| record.end as usize).collect();
                ends.extend(records.iter().map(|record| record.start as usize));
                for cut in 1..text.len() {
                    if let Some(end) = last_boundary(&text[..cut], &grammar) {
                        let near = ends.contains(&end)
                            || records
                                .iter()
                                .all(|record| !(record.start as usize + 1..record.end as usize).contains(&end));
                        assert!(near, "{:?} cut {cut} end {end}", String::from_utf8_lossy(&text));
                    }
                }
            }
        }
    }
}
