//! What a text file holds, and the decoder for it.

use std::io::Read;
use std::sync::Arc;

use parking_lot::Mutex;

use super::assemble::output_schema;
use super::blocks::BlockReader;
use super::column::Reading;
use super::csv::{CsvFile, dialect, sniff};
use super::encoding::Encoding;
use super::json::file::{JsonFile, Layout, value_at};
use super::run::{self, Counts, Tally};
use super::values::{time::Pattern, trim_start};
use super::{CsvOptions, DecodePlan, DecodedSink, Dialect, FileError, Format, Undeclared, input, json};

/// What a text is.
pub(super) enum Kind {
    Csv(CsvOptions),
    /// `from`: where the first record starts. `is_array`: the records stand in one array.
    Json {
        layout: Layout,
        from: usize,
        is_array: bool,
    },
}

pub(super) fn declared_encoding(format: &Format) -> Option<Encoding> {
    match format {
        Format::Csv(options) => options.encoding.as_deref().and_then(Encoding::of_label),
        // RFC 8259 allows UTF-8 only; a byte order mark still tells UTF-16.
        Format::Ndjson | Format::Json => Some(Encoding::Utf8),
        Format::Parquet | Format::Auto => None,
    }
}

/// Tells by the declared format, else by content.
pub(super) fn kind(format: &Format, text: &[u8]) -> Kind {
    let blanks = text.len() - trim_start(text).len();
    let body = text.get(blanks..).unwrap_or_default();
    let values = |from| {
        let is_array = body.first() == Some(&b'[');
        Kind::Json { layout: Layout::Values, from: if is_array { blanks + 1 } else { from }, is_array }
    };
    match format {
        Format::Csv(options) => Kind::Csv(options.clone()),
        Format::Ndjson => Kind::Json { layout: Layout::Lines, from: 0, is_array: false },
        Format::Json => values(0),
        Format::Parquet | Format::Auto => {
            let second = trim_start(body.get(1..).unwrap_or_default()).first().copied();
            match (body.first(), second) {
                (Some(b'{'), Some(b'"' | b'}')) => {
                    let line = body.split(|byte| *byte == b'\n').next().unwrap_or_default();
                    // Whatever the first line holds beside its first value, a record a line is the rule.
                    match value_at(line, 0) {
                        Some((_, end)) if json::validate(line.get(..end).unwrap_or_default()).is_ok() => {
                            Kind::Json { layout: Layout::Lines, from: 0, is_array: false }
                        }
                        _ => values(0),
                    }
                }
                (Some(b'['), Some(b'{' | b']')) => values(0),
                _ => Kind::Csv(CsvOptions::default()),
            }
        }
    }
}

/// How values are read under a plan and a file's decimal sign.
pub(super) fn reading(plan: &DecodePlan, point: u8) -> Reading {
    let (patterns, null_values) = match &plan.format {
        Format::Csv(options) => (
            options.date_formats.iter().filter_map(|pattern| Pattern::of(pattern)).collect(),
            options.null_values.as_ref().map(|all| all.iter().map(|one| one.as_bytes().to_vec()).collect()),
        ),
        _ => (Vec::new(), None),
    };
    Reading { point, zone: plan.timezone, patterns, null_values, is_declared: !plan.is_inferred }
}

/// A decoder for JSON records in UTF-8.
pub(super) fn json_file(plan: &DecodePlan, layout: Layout, is_array: bool, encoding: Encoding) -> JsonFile {
    JsonFile {
        schema: plan.schema.clone(),
        output: output_schema(&plan.schema, plan.is_inferred),
        layout,
        is_array,
        encoding,
        reading: reading(plan, b'.'),
        is_inferred: plan.is_inferred,
        keep_raw: plan.keep_raw,
        undeclared: Mutex::default(),
    }
}

/// Decodes one stream of text. Returns the dialect if it is CSV.
#[expect(clippy::too_many_arguments, reason = "one call, all of it state of the file")]
pub(super) fn decode(
    reader: &mut dyn Read,
    shown_as: &str,
    entry: Option<&Arc<str>>,
    plan: &DecodePlan,
    fail: &dyn Fn(std::io::Error) -> FileError,
    sinks: &mut [Box<dyn DecodedSink + '_>],
    tally: &Tally,
    notes: &mut Vec<String>,
) -> Result<Option<Dialect>, FileError> {
    let mut blocks = BlockReader::open(reader, shown_as, declared_encoding(&plan.format), fail)?;
    if blocks.head(512).get(257..262) == Some(b"ustar") {
        return Err(input::poison(
            shown_as,
            format!("tar archives such as \"{shown_as}\" are not read"),
            "deliver the files themselves, or a zip archive",
        ));
    }
    if blocks.head(1).is_empty() {
        notes.push("the file is empty".into());
        return Ok(None);
    }
    match kind(&plan.format, blocks.head(super::infer::TEXT_BYTES)) {
        Kind::Json { layout, from, is_array } => {
            let file = json_file(plan, layout, is_array, blocks.encoding());
            notes.push(format!(
                "{}, {}",
                if layout == Layout::Lines { "ndjson" } else { "json" },
                blocks.encoding().name()
            ));
            let before = tally.read();
            run::run(&mut blocks, &layout, from, &file, entry, sinks, tally)?;
            tally.undeclared.lock().add(&file.undeclared.into_inner());
            let after = tally.read();
            // A text without one good record, under a name that promises many, is the wrong file.
            if layout == Layout::Values && after.rows == before.rows && has_only_unreadable(&before, &after) {
                return Err(input::poison(
                    shown_as,
                    format!("no JSON record could be read from \"{shown_as}\""),
                    "deliver an array of objects, or objects one after the other",
                ));
            }
            Ok(None)
        }
        Kind::Csv(options) => {
            let (dialect, skip) =
                sniff::sniff(blocks.sample(), blocks.is_whole(), &options, Some(&plan.schema), blocks.encoding())
                    .map_err(FileError::Poison)?;
            notes.push(dialect.describe());
            check_columns(plan, &dialect, shown_as)?;
            note_columns(plan, &dialect, notes, tally);
            let file = CsvFile::new(plan, &dialect, blocks.encoding());
            run::run(&mut blocks, file.grammar(), skip, &file, entry, sinks, tally)?;
            Ok(Some(dialect))
        }
    }
}

/// Rejects came, and not one of them was a record.
fn has_only_unreadable(before: &Counts, after: &Counts) -> bool {
    let rejects = after.rejects - before.rejects;
    rejects > 0 && after.unreadable - before.unreadable == rejects
}

/// Errors: `Poison` if columns are declared and the header names none of them: each row would be NULL all over.
fn check_columns(plan: &DecodePlan, dialect: &Dialect, shown_as: &str) -> Result<(), FileError> {
    let matched = dialect::match_columns(&plan.schema, &dialect.header, dialect.has_header);
    let is_blank = dialect.header.iter().all(|name| name.trim().is_empty());
    if plan.is_inferred || is_blank || matched.columns.iter().any(Option::is_some) {
        return Ok(());
    }
    Err(no_declared_column(plan, dialect.header.iter().map(String::as_str), shown_as, "header"))
}

/// The refusal of a file that has columns, but none that is declared.
pub(super) fn no_declared_column<'a>(
    plan: &DecodePlan,
    mut found: impl Iterator<Item = &'a str>,
    shown_as: &str,
    what: &str,
) -> FileError {
    let listed = |names: &mut dyn Iterator<Item = &str>| {
        let mut seen = Undeclared::default();
        names.for_each(|name| seen.see(name.trim().as_bytes()));
        seen.shown()
    };
    let declared = listed(&mut plan.schema.fields().iter().map(|field| field.name().as_str()));
    let text = format!("the {what} of \"{shown_as}\" names no declared column; it has: {}", listed(&mut found));
    let or_no_header = match what {
        "header" => ", or set `header: false` under `format: {csv: …}` if that line is data",
        _ => "",
    };
    let fix = format!(
        "declared under `columns:` are: {declared}; correct them or the file{or_no_header}, then land again with \
         `--retry-poison`"
    );
    input::poison(shown_as, text, &fix)
}

fn note_columns(plan: &DecodePlan, dialect: &Dialect, notes: &mut Vec<String>, tally: &Tally) {
    let matched = dialect::match_columns(&plan.schema, &dialect.header, dialect.has_header);
    let names = dialect::column_names(&dialect.header);
    let missing: Vec<&str> = plan
        .schema
        .fields()
        .iter()
        .zip(&matched.columns)
        .filter(|(_, at)| at.is_none_or(|at| at >= names.len()))
        .map(|(field, _)| field.name().as_str())
        .collect();
    if !missing.is_empty() {
        notes.push(format!("missing columns, read as NULL: {}", missing.join(", ")));
    }
    let extra: Vec<&str> = matched.extras.iter().filter_map(|at| names.get(*at)).map(String::as_str).collect();
    if !plan.is_inferred && !extra.is_empty() {
        let mut undeclared = tally.undeclared.lock();
        extra.iter().for_each(|name| undeclared.see(name.as_bytes()));
    }
    if !extra.is_empty() {
        let fate = if plan.is_inferred { "kept in _rescued" } else { "not declared, left out" };
        notes.push(format!("new columns, {fate}: {}", extra.join(", ")));
    }
}
