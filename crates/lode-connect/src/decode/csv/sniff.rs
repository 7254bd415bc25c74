//! The dialect of one CSV file, from its first 256 KiB.
//!
//! Each combination of delimiter, quote, escape and comment splits the sample; the best one gives the most records the same
//! number of fields (more than one) and leaves the fewest quotes in odd places. Names that the plan knows outweigh all
//! guessing about the header.

use arrow::datatypes::SchemaRef;
use lode_core::{ErrorKind, Problem};

use super::super::blocks::line_ends;
use super::super::encoding::Encoding;
use super::super::values::{self, number, time};
use super::super::{CsvOptions, Dialect};
use super::dialect::column_names;
use super::split::{self, Grammar, Splitter};

const RECORDS_MAX: usize = 1000;
const DELIMITERS: [u8; 4] = *b",;\t|";
/// A preamble is not longer.
const PREAMBLE_RECORDS_MAX: usize = 20;

/// The records of a sample under one grammar.
pub(in super::super) struct Sampled {
    pub(in super::super) rows: Vec<Vec<Cell>>,
    /// Line of each record, from 0.
    lines: Vec<u32>,
    /// Quoted fields that go on behind their closing quote.
    odd_quotes: usize,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct Cell {
    pub(in super::super) text: Vec<u8>,
    pub(in super::super) is_quoted: bool,
}

/// Splits a sample. A record that the end of the sample cuts is left out, unless it is the end of the file.
pub(in super::super) fn split_sample(text: &[u8], grammar: &Grammar, is_whole: bool, records_max: usize) -> Sampled {
    let text = if is_whole {
        text
    } else {
        // Without any boundary the sample is one long record; half of it tells as much as all.
        text.get(..split::last_boundary(text, grammar).unwrap_or(text.len())).unwrap_or(text)
    };
    let (mut records, mut fields) = (Vec::new(), Vec::new());
    let mut splitter = Splitter::new(text, 0, *grammar);
    splitter.next(records_max, &mut records, &mut fields);
    let mut sampled = Sampled { rows: Vec::with_capacity(records.len()), lines: Vec::new(), odd_quotes: 0 };
    let mut scratch = Vec::new();
    for record in &records {
        let from = record.first as usize;
        let mut cells = Vec::with_capacity(record.fields as usize);
        for field in fields.get(from..from + record.fields as usize).unwrap_or_default() {
            let (start, end) = field.range();
            let mut value = text.get(start..end).unwrap_or_default();
            if field.is_raw() {
                let closes = value.len() > 1 && value.last().copied() == grammar.quote;
                let is_doubled = closes && grammar.quote.is_some_and(|quote| ends_inside(value, quote, grammar.escape));
                sampled.odd_quotes += usize::from(field.is_quoted() && (!closes || is_doubled));
                split::resolve(value, field.is_quoted(), grammar, &mut scratch);
                value = &scratch;
            }
            cells.push(Cell { text: value.to_vec(), is_quoted: field.is_quoted() });
        }
        sampled.rows.push(cells);
        sampled.lines.push(record.line);
    }
    sampled
}

/// Whether the first closing quote of a raw field is not its last byte.
fn ends_inside(raw: &[u8], quote: u8, escape: Option<u8>) -> bool {
    let mut at = 1;
    while let Some(byte) = raw.get(at) {
        if Some(*byte) == escape && escape != Some(quote) {
            at += 2;
        } else if *byte == quote {
            if raw.get(at + 1) != Some(&quote) {
                return at + 1 != raw.len();
            }
            at += 2;
        } else {
            at += 1;
        }
    }
    true
}

/// The number of fields that most records have, and how many have it.
fn mode(rows: &[Vec<Cell>]) -> (usize, usize) {
    let mut counts = std::collections::BTreeMap::<usize, usize>::new();
    for row in rows {
        *counts.entry(row.len()).or_default() += 1;
    }
    counts.into_iter().max_by_key(|(fields, rows)| (*rows, *fields)).unwrap_or((0, 0))
}

fn byte(option: Option<char>, name: &str) -> Result<Option<u8>, Problem> {
    match option {
        None => Ok(None),
        Some(c) if c.is_ascii() && !matches!(c, '\n' | '\r' | '\0') => Ok(Some(c as u8)),
        Some(c) => Err(Problem::new(ErrorKind::Config, format!("`{name}` is {c:?}, which is not one ASCII character"))
            .fix("use one ASCII character")),
    }
}

/// Checks options before any file is read.
pub(in super::super) fn check(options: &CsvOptions) -> Result<(), Problem> {
    for (option, name) in [
        (options.delimiter, "delimiter"),
        (options.quote, "quote"),
        (options.escape, "escape"),
        (options.comment, "comment"),
        (options.decimal, "decimal"),
    ] {
        byte(option, name)?;
    }
    if !matches!(options.decimal, None | Some('.' | ',')) {
        return Err(Problem::new(ErrorKind::Config, "`decimal` is neither \".\" nor \",\"").fix("use \".\" or \",\""));
    }
    if options.delimiter.is_some() && options.delimiter == options.quote {
        return Err(Problem::new(ErrorKind::Config, "`delimiter` and `quote` are the same character").fix("change one"));
    }
    if let Some(label) = options.encoding.as_deref().filter(|label| Encoding::of_label(label).is_none()) {
        return Err(Problem::new(ErrorKind::Config, format!("unknown encoding \"{label}\""))
            .fix("use a name such as utf-8, windows-1252, utf-16le, shift_jis"));
    }
    if let Some(pattern) = options.date_formats.iter().find(|pattern| time::Pattern::of(pattern).is_none()) {
        return Err(Problem::new(ErrorKind::Config, format!("date format \"{pattern}\" is no strftime pattern"))
            .fix("use a pattern such as \"%d/%m/%Y %H:%M:%S\", or epoch_s, epoch_ms, epoch_us"));
    }
    Ok(())
}

/// The dialect of a file from its first text, and how many bytes of the text to skip before the first record.
pub(in super::super) fn sniff(
    text: &[u8],
    is_whole: bool,
    options: &CsvOptions,
    known: Option<&SchemaRef>,
    encoding: Encoding,
) -> Result<(Dialect, usize), Problem> {
    let body_at = skip_lines(text, options.skip_rows.unwrap_or(0));
    let body = text.get(body_at..).unwrap_or_default();
    let (grammar, sampled) = best_grammar(body, is_whole, options, known)?;
    let (width, _) = mode(sampled.rows.get(1..).filter(|rows| !rows.is_empty()).unwrap_or(&sampled.rows));
    let mut header_at = if options.skip_rows.is_some() { 0 } else { preamble(&sampled.rows, width, known) };
    let from = |at: usize| sampled.rows.get(at..).unwrap_or_default();
    let has_header = options.header.unwrap_or_else(|| looks_like_header(from(header_at), known));
    if !has_header {
        // Without a header nothing tells a preamble from records: its lines are kept, or rejected where all can see it.
        header_at = 0;
    }
    let rows = from(header_at);
    let first = rows.first().map(Vec::as_slice).unwrap_or_default();
    let mut cells: Vec<String> = if has_header {
        first.iter().map(|cell| String::from_utf8_lossy(&cell.text).into_owned()).collect()
    } else {
        let known_names = known.map(|schema| schema.fields().iter().map(|field| field.name().clone()).collect());
        let mut names: Vec<String> = known_names.unwrap_or_default();
        let count = width.max(1);
        names.truncate(count);
        (names.len()..count).for_each(|at| names.push(format!("column_{}", at + 1)));
        names
    };
    if first.is_empty() && rows.is_empty() {
        cells.clear();
    }
    let records = rows.len().saturating_sub(1);
    let fits = rows.iter().skip(1).filter(|row| row.len() == cells.len()).count();
    if has_header && records > 0 && fits == 0 && width > 0 {
        // No record has as many fields as the header: the records are right about the width.
        cells.resize(width, String::new());
    }
    let header_line = sampled.lines.get(header_at).copied().unwrap_or_default();
    let header_start = skip_lines(body, header_line);
    let first_record = if has_header && !rows.is_empty() {
        let mut splitter = Splitter::new(body, header_start, grammar);
        let (mut records, mut fields) = (Vec::new(), Vec::new());
        splitter.next(1, &mut records, &mut fields);
        records.first().map_or(header_start, |record| record.end as usize)
    } else {
        header_start
    };
    let decimal = match options.decimal {
        Some(decimal) => decimal as u8,
        None if grammar.delimiter == b';' && has_decimal_commas(rows) => b',',
        None => b'.',
    };
    let dialect = Dialect {
        delimiter: grammar.delimiter,
        quote: grammar.quote,
        escape: grammar.escape,
        comment: grammar.comment,
        skip_rows: options.skip_rows.unwrap_or(header_line),
        has_header,
        decimal,
        encoding: encoding.name().to_owned(),
        // What `match_columns` and rejects see are names that are unique.
        header: if has_header { cells } else { column_names(&cells) },
    };
    Ok((dialect, body_at + first_record))
}

/// Place behind `lines` line ends.
fn skip_lines(text: &[u8], lines: u32) -> usize {
    let mut at = 0;
    for _ in 0..lines {
        let rest = text.get(at..).unwrap_or_default();
        let Some(end) = memchr::memchr2(b'\n', b'\r', rest) else { return text.len() };
        let is_pair = rest.get(end) == Some(&b'\r') && rest.get(end + 1) == Some(&b'\n');
        at += end + if is_pair { 2 } else { 1 };
    }
    debug_assert_eq!(line_ends(text.get(..at).unwrap_or_default()), u64::from(lines));
    at
}

fn best_grammar(
    text: &[u8],
    is_whole: bool,
    options: &CsvOptions,
    known: Option<&SchemaRef>,
) -> Result<(Grammar, Sampled), Problem> {
    let delimiters = byte(options.delimiter, "delimiter")?.map_or(DELIMITERS.to_vec(), |delimiter| vec![delimiter]);
    let quotes = match (options.quoting, byte(options.quote, "quote")?) {
        (Some(false), _) => vec![None],
        (_, Some(quote)) => vec![Some(quote)],
        (_, None) => vec![Some(b'"'), Some(b'\'')],
    };
    let has_backslash_quote =
        memchr::memmem::find(text, b"\\\"").is_some() || memchr::memmem::find(text, b"\\'").is_some();
    let escapes = match byte(options.escape, "escape")? {
        Some(escape) => vec![Some(escape)],
        None if has_backslash_quote => vec![None, Some(b'\\')],
        None => vec![None],
    };
    let has_hash = text.first() == Some(&b'#')
        || memchr::memmem::find(text, b"\n#").is_some()
        || memchr::memmem::find(text, b"\r#").is_some();
    let comments = match byte(options.comment, "comment")? {
        Some(comment) => vec![Some(comment)],
        None if has_hash => vec![None, Some(b'#')],
        None => vec![None],
    };
    let mut best: Option<(i64, Grammar, Sampled)> = None;
    for delimiter in delimiters {
        for quote in &quotes {
            for escape in &escapes {
                for comment in &comments {
                    let escape = escape.filter(|escape| Some(*escape) != *quote);
                    let grammar = Grammar { delimiter, quote: *quote, escape, comment: *comment };
                    let sampled = split_sample(text, &grammar, is_whole, RECORDS_MAX);
                    let is_usual = *quote != Some(b'\'') || options.quote.is_some();
                    if !is_usual && !sampled.rows.iter().flatten().any(|cell| cell.is_quoted) {
                        // Apostrophes that quote nothing are no quotes.
                        continue;
                    }
                    let score = score(&sampled, &grammar, known);
                    // Earlier candidates are the usual ones: a later one must be better.
                    if best.as_ref().is_none_or(|(least, ..)| score > *least) {
                        best = Some((score, grammar, sampled));
                    }
                }
            }
        }
    }
    best.map(|(_, grammar, sampled)| (grammar, sampled)).ok_or_else(|| Problem::internal("no CSV dialect was tried"))
}

fn score(sampled: &Sampled, grammar: &Grammar, known: Option<&SchemaRef>) -> i64 {
    let rows = sampled.rows.len().max(1) as i64;
    let (width, equal) = mode(&sampled.rows);
    if width < 2 {
        // One column: nothing speaks for this delimiter, and little against it.
        let first = sampled.rows.first().and_then(|row| row.first());
        let is_known = first.is_some_and(|cell| known_names(std::slice::from_ref(cell), known) == 1);
        return i64::from(is_known) * 100 - sampled.odd_quotes as i64;
    }
    let mut score = 10_000 * equal as i64 / rows;
    score -= 10_000 * sampled.odd_quotes as i64 / rows;
    // A stray quote character of the wrong kind makes long fields.
    let line_breaks =
        sampled.rows.iter().flatten().filter(|cell| memchr::memchr_iter(b'\n', &cell.text).count() > 20).count();
    score -= 3_000 * line_breaks as i64;
    let first_matches =
        sampled.rows.iter().take(PREAMBLE_RECORDS_MAX).map(|row| known_names(row, known)).max().unwrap_or(0);
    score += 500 * first_matches as i64;
    score += if sampled.rows.first().is_some_and(|row| row.len() == width) { 300 } else { 0 };
    // More columns explain more, but only a little.
    score += 10 * width.min(20) as i64;
    // Quotes that are found at work speak for their kind.
    let quoted = sampled.rows.iter().flatten().filter(|cell| cell.is_quoted).count() as i64;
    score += (50 * quoted / rows).min(100) + i64::from(quoted > 0);
    if grammar.comment.is_some() {
        // Comments are believed only if their lines do not look like records.
        score -= 50;
    }
    score
}

fn known_names(row: &[Cell], known: Option<&SchemaRef>) -> usize {
    let Some(schema) = known else { return 0 };
    row.iter()
        .filter(|cell| {
            let name = String::from_utf8_lossy(values::trim(&cell.text)).to_lowercase();
            schema.fields().iter().any(|field| field.name().to_lowercase() == name)
        })
        .count()
}

/// Records before the header: fewer fields than the table has.
fn preamble(rows: &[Vec<Cell>], width: usize, known: Option<&SchemaRef>) -> usize {
    let head = rows.get(..rows.len().min(PREAMBLE_RECORDS_MAX)).unwrap_or_default();
    let by_name = head
        .iter()
        .map(|row| known_names(row, known))
        .enumerate()
        .max_by_key(|(at, names)| (*names, std::cmp::Reverse(*at)));
    if let Some((at, names)) = by_name
        && names * 2 > width
    {
        return at;
    }
    if width < 2 {
        return 0;
    }
    // A spreadsheet pads its title with empty cells to the full width.
    let filled = |row: &[Cell]| row.iter().filter(|cell| !values::trim(&cell.text).is_empty()).count();
    head.iter().position(|row| row.len() > width / 2 && row.len() > 1 && (width < 3 || filled(row) > 1)).unwrap_or(0)
}

fn looks_like_header(rows: &[Vec<Cell>], known: Option<&SchemaRef>) -> bool {
    let Some((first, rest)) = rows.split_first() else { return true };
    let names = known_names(first, known);
    if names > 0 && names * 2 >= first.len() {
        return true;
    }
    let is_typed = |cell: &Cell| {
        let text = values::trim(&cell.text);
        number::double(text, b'.').is_some()
            || number::double(text, b',').is_some()
            || time::stamp(text).is_some()
            || values::strict_boolean(text).is_some()
    };
    if !first.iter().any(is_typed) {
        // All text, and so is the rest: a header, unless it names something twice or leaves most unnamed.
        let empty = first.iter().filter(|cell| cell.text.is_empty()).count();
        if empty * 2 > first.len() {
            return false;
        }
        return true;
    }
    // Numbers in the first line: a header only if most columns of numbers below carry a text here.
    let (mut header_like, mut data_like) = (0, 0);
    for (at, cell) in first.iter().enumerate() {
        let below: Vec<&Cell> =
            rest.iter().filter_map(|row| row.get(at)).filter(|cell| !cell.text.is_empty()).collect();
        let typed = below.iter().filter(|cell| is_typed(cell)).count();
        if below.is_empty() || typed * 10 < below.len() * 9 {
            continue;
        }
        if is_typed(cell) {
            data_like += 1
        } else if !cell.text.is_empty() {
            header_like += 1
        }
    }
    header_like > data_like
}

/// Numbers with a comma outnumber those with a point.
fn has_decimal_commas(rows: &[Vec<Cell>]) -> bool {
    let (mut commas, mut points) = (0, 0);
    for cell in rows.iter().flatten().filter(|cell| !cell.is_quoted) {
        let text = values::trim(&cell.text);
        let has = |sign: u8| text.contains(&sign) && number::double(text, sign).is_some();
        commas += usize::from(has(b','));
        points += usize::from(has(b'.'));
    }
    commas > points
}
