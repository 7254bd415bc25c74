//! The columns of a source, from the first MiB of some of its files.
//!
//! | Seen | Column |
//! |---|---|
//! | only `true`, `false` (any case; JSON literals) | boolean |
//! | whole numbers within 64 bits, no leading zeros | bigint |
//! | whole numbers, some beyond 64 bits, at most 38 digits | numeric(38,0) |
//! | numbers, some with fraction or exponent | double precision |
//! | ISO dates | date |
//! | ISO timestamps without offset (dates may be among them) | timestamp; timestamptz if the source has a `timezone` |
//! | ISO timestamps, all with an offset or `Z` | timestamptz |
//! | all else; nothing at all; leading zeros; whole numbers beyond 2^53 among fractions | text |
//!
//! Numbers with a fraction become doubles, not numerics: their scale in a sample says nothing about the next file, and a
//! value that does not fit would leave its column. Money is declared: `columns: {price: numeric(12,2)}`.
//! NULL spellings (`NA`, `-`, …) speak for no type, but stay text in text columns.

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use chrono_tz::Tz;
use lode_core::{ErrorKind, Place, Problem, sql_type};

use super::blocks::BlockReader;
use super::csv::{dialect, sniff};
use super::json::file::Layout;
use super::json::read::Cursor;
use super::json::shape::Shape;
use super::values::{self, number, time};
use super::{CsvOptions, DecodePlan, FileError, Format, input, open_text};

/// So many files are looked at.
const FILES_MAX: usize = 16;
/// So much text of each file.
pub(super) const TEXT_BYTES: usize = 1 << 20;

/// Which types all scalar values of one place could have.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scalars {
    values: u64,
    is_boolean: bool,
    is_integer: bool,
    is_wide_integer: bool,
    is_double: bool,
    is_date: bool,
    is_timestamp: bool,
    is_timestamptz: bool,
}

impl Default for Scalars {
    fn default() -> Self {
        Self {
            values: 0,
            is_boolean: true,
            is_integer: true,
            is_wide_integer: true,
            is_double: true,
            is_date: true,
            is_timestamp: true,
            is_timestamptz: true,
        }
    }
}

impl Scalars {
    /// Takes in a text that is not NULL.
    pub(super) fn see(&mut self, text: &[u8], point: u8) {
        self.values += 1;
        self.is_boolean &= values::strict_boolean(text).is_some();
        self.number(text, point);
        let stamp = time::stamp(text);
        self.is_date &= stamp.is_some_and(|stamp| !stamp.has_time);
        self.is_timestamp &= stamp.is_some_and(|stamp| stamp.offset_secs.is_none());
        self.is_timestamptz &= stamp.is_some_and(|stamp| stamp.offset_secs.is_some());
    }

    /// Takes in a JSON number.
    pub(super) fn see_number(&mut self, text: &[u8]) {
        self.values += 1;
        self.number(text, b'.');
    }

    fn number(&mut self, text: &[u8], point: u8) {
        if !(self.is_integer || self.is_wide_integer || self.is_double) {
            return;
        }
        let digits = text.strip_prefix(b"-").or_else(|| text.strip_prefix(b"+")).unwrap_or(text);
        let has_leading_zero =
            digits.len() > 1 && digits.first() == Some(&b'0') && digits.get(1).is_some_and(u8::is_ascii_digit);
        let is_whole = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
        self.is_integer &= !has_leading_zero && number::integer(text).is_some();
        self.is_wide_integer &= !has_leading_zero && is_whole && digits.len() <= 38;
        self.is_double &= !has_leading_zero
            && digits.first().is_some_and(|byte| byte.is_ascii_digit() || *byte == point)
            && number::double(text, point).is_some()
            && !number::is_wide_integer(text);
    }

    /// The type of a column of JSON numbers.
    pub(super) fn number_type(&self) -> DataType {
        if self.is_integer {
            DataType::Int64
        } else if self.is_wide_integer {
            DataType::Decimal128(38, 0)
        } else if self.is_double {
            DataType::Float64
        } else {
            DataType::Utf8View
        }
    }

    /// The type of a column of JSON strings: strings of digits stay text.
    pub(super) fn string_type(&self, has_zone: bool) -> DataType {
        if self.values == 0 {
            DataType::Utf8View
        } else if self.is_date {
            DataType::Date32
        } else if self.is_timestamptz || (self.is_timestamp && has_zone) {
            sql_type::timestamptz()
        } else if self.is_timestamp {
            sql_type::timestamp()
        } else {
            DataType::Utf8View
        }
    }

    /// The type of a column of CSV text.
    pub(super) fn text_type(&self, has_zone: bool) -> DataType {
        if self.values == 0 {
            DataType::Utf8View
        } else if self.is_boolean {
            DataType::Boolean
        } else if self.is_integer || self.is_wide_integer || self.is_double {
            self.number_type()
        } else {
            self.string_type(has_zone)
        }
    }
}

/// Columns by name over several files.
#[derive(Default)]
struct Found {
    csv: indexmap::IndexMap<String, Scalars>,
    json: Shape,
    parquet: Option<SchemaRef>,
    /// Some file has more than a header. Also where that cannot be told.
    has_records: bool,
}

/// Whether a file has any record, readable or not. Looks at its first MiB.
pub(super) fn has_records(path: &std::path::Path, format: &Format) -> Result<bool, FileError> {
    let mut found = Found::default();
    sample_file(path, format, &mut found)?;
    Ok(found.has_records)
}

pub(super) fn infer(
    samples: &[PathBuf],
    format: &Format,
    columns: Option<&SchemaRef>,
    timezone: Option<Tz>,
) -> Result<DecodePlan, Problem> {
    if let Format::Csv(options) = format {
        sniff::check(options)?;
    }
    if let Some(columns) = columns {
        for field in columns.fields() {
            super::column::Column::of(field)?;
        }
        return Ok(DecodePlan {
            format: format.clone(),
            columns: Some(columns.clone()),
            schema: columns.clone(),
            timezone,
            is_inferred: false,
            keep_raw: false,
        });
    }
    let mut found = Found::default();
    let mut failure = None;
    for path in samples.iter().take(FILES_MAX) {
        match sample_file(path, format, &mut found) {
            Ok(()) => {}
            Err(FileError::Poison(problem) | FileError::Io(problem) | FileError::Sink(problem)) => {
                failure.get_or_insert(problem);
            }
        }
    }
    let has_zone = timezone.is_some();
    let fields: Vec<Field> = if let Some(schema) = &found.parquet {
        schema.fields().iter().map(|field| field.as_ref().clone()).collect()
    } else if found.json.has_columns() {
        found.json.fields(has_zone)
    } else {
        found.csv.iter().map(|(name, scalars)| Field::new(name, scalars.text_type(has_zone), true)).collect()
    };
    if fields.is_empty() {
        return Err(failure.unwrap_or_else(|| {
            let problem = Problem::new(ErrorKind::Data, "no column was found in the files of the source");
            let problem =
                samples.iter().take(3).fold(problem, |problem, path| problem.at(Place::of(path.display().to_string())));
            problem.fix("declare `columns:`, or deliver a file that has some")
        }));
    }
    Ok(DecodePlan {
        format: format.clone(),
        columns: None,
        schema: Arc::new(Schema::new(fields)),
        timezone,
        is_inferred: true,
        keep_raw: false,
    })
}

fn sample_file(path: &std::path::Path, format: &Format, found: &mut Found) -> Result<(), FileError> {
    let shown_as = path.display().to_string();
    match input::open(path, *format == Format::Parquet)? {
        input::Opened::Parquet(file) => sample_parquet(file, &shown_as, found),
        input::Opened::Zip(mut file) => input::zip_entries(&mut file, &shown_as, |entry, reader| {
            let fail = |error| input::broken(entry, "zip", error);
            let mut blocks = BlockReader::open(reader, entry, open_text::declared_encoding(format), &fail)?;
            sample_text(&mut blocks, format, found);
            Ok(())
        }),
        input::Opened::Text(mut source) => {
            let failing = source.failing();
            let fail = |error| failing.explain(error);
            let encoding = open_text::declared_encoding(format);
            let mut blocks = BlockReader::open(source.reader(), &shown_as, encoding, &fail)?;
            sample_text(&mut blocks, format, found);
            Ok(())
        }
    }
}

fn sample_parquet(file: File, shown_as: &str, found: &mut Found) -> Result<(), FileError> {
    let (schema, rows) = super::parquet::payload_schema(file, shown_as)?;
    // Without a row its types are as good as guessed.
    if rows == 0 {
        return Ok(());
    }
    found.has_records = true;
    found.parquet = Some(match found.parquet.take() {
        None => schema,
        Some(before) => {
            // Columns of later files come behind; a type stays what the first file said.
            let mut fields: Vec<_> = before.fields().iter().cloned().collect();
            let new = schema.fields().iter().filter(|field| before.field_with_name(field.name()).is_err());
            fields.extend(new.cloned());
            Arc::new(Schema::new(fields))
        }
    });
    Ok(())
}

fn sample_text(blocks: &mut BlockReader<'_>, format: &Format, found: &mut Found) {
    let is_whole = blocks.is_all_read();
    let text = blocks.head(TEXT_BYTES);
    let is_whole = is_whole && text.len() == blocks.head(usize::MAX).len();
    if text.is_empty() {
        return;
    }
    match open_text::kind(format, text) {
        open_text::Kind::Json { layout, from, is_array } => {
            let rest = values::trim(text.get(from..).unwrap_or_default());
            found.has_records |= !is_whole || rest != if is_array { b"]".as_slice() } else { b"" };
            sample_json(text, from, layout, &mut found.json);
        }
        open_text::Kind::Csv(options) => sample_csv(text, is_whole, &options, blocks, found),
    }
}

fn sample_json(text: &[u8], from: usize, layout: Layout, shape: &mut Shape) {
    let mut at = from;
    let mut see = |start: usize, end: usize| {
        let record = text.get(start..end).unwrap_or_default();
        // A record that does not parse would leave half of itself in the shape.
        if values::trim_start(record).first() == Some(&b'{') && super::json::validate(record).is_ok() {
            let _ = shape.read(&mut Cursor::new(record, 0), 0);
        }
    };
    match layout {
        Layout::Lines => {
            for end in memchr::memchr_iter(b'\n', text).chain([text.len()]) {
                see(at.min(end), end);
                at = end + 1;
            }
        }
        Layout::Values => {
            while let Some((start, end)) = super::json::file::value_at(text, at) {
                see(start, end);
                at = end;
            }
        }
    }
}

fn sample_csv(text: &[u8], is_whole: bool, options: &CsvOptions, blocks: &BlockReader<'_>, found: &mut Found) {
    let head = blocks.sample();
    let Ok((dialect, first)) = sniff::sniff(head, blocks.is_whole(), options, None, blocks.encoding()) else {
        found.has_records = true;
        return;
    };
    let names = dialect::column_names(&dialect.header);
    let body = text.get(first..).unwrap_or_default();
    let sampled = sniff::split_sample(body, &dialect.grammar(), is_whole, usize::MAX >> 1);
    let is_header = |row: &[sniff::Cell]| {
        dialect.has_header
            && row.len() == names.len()
            && row.iter().zip(&dialect.header).all(|(cell, name)| cell.text == name.as_bytes())
    };
    // A header alone says nothing of types.
    if is_whole && sampled.rows.iter().all(|row| is_header(row)) {
        return;
    }
    found.has_records = true;
    for name in &names {
        found.csv.entry(name.clone()).or_default();
    }
    let is_null = |text: &[u8]| match &options.null_values {
        _ if text.is_empty() => true,
        None => values::is_null_spelling(text),
        Some(spellings) => spellings.iter().any(|spelling| spelling.as_bytes() == text),
    };
    let count = sampled.rows.len();
    for (row_at, row) in sampled.rows.iter().enumerate().filter(|(_, row)| row.len() == names.len()) {
        // The last line of a file may be a summary, and must not make its columns text.
        let is_footer =
            is_whole && row_at + 1 == count && count > 3 && footer_like(row, &names, found, dialect.decimal, &is_null);
        if is_header(row)
            || is_footer
            || std::str::from_utf8(&row.iter().flat_map(|cell| cell.text.clone()).collect::<Vec<u8>>()).is_err()
        {
            continue;
        }
        for (cell, name) in row.iter().zip(&names) {
            let trimmed = values::trim(&cell.text);
            if let Some(scalars) = found.csv.get_mut(name).filter(|_| !is_null(trimmed)) {
                scalars.see(trimmed, dialect.decimal);
            }
        }
    }
}

/// Whether no value of the row fits a typed column, although it has such values.
fn footer_like(
    row: &[sniff::Cell],
    names: &[String],
    found: &Found,
    point: u8,
    is_null: &dyn Fn(&[u8]) -> bool,
) -> bool {
    let (mut fits, mut misfits) = (0, 0);
    for (cell, name) in row.iter().zip(names) {
        let trimmed = values::trim(&cell.text);
        let Some(before) = found.csv.get(name).filter(|_| !is_null(trimmed)) else { continue };
        let was = before.text_type(false);
        if was == DataType::Utf8View {
            continue;
        }
        let mut after = *before;
        after.see(trimmed, point);
        if after.text_type(false) == DataType::Utf8View { misfits += 1 } else { fits += 1 }
    }
    misfits > 0 && fits == 0
}
