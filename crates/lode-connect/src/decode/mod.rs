//! Bytes of files to Arrow: decompress, decode, split, convert, and say what could not be read.
//!
//! Three promises: rows in = rows decoded + rejects, always; nothing is coerced in silence; memory is bounded at any file
//! size. In a source whose columns are inferred, a value that does not fit its column goes to `_rescued` and the column
//! is NULL; in a source with declared columns the record is rejected.

mod assemble;
mod blocks;
mod column;
mod csv;
mod encoding;
mod infer;
mod input;
mod json;
mod open_text;
mod options;
mod parquet;
mod replay;
mod rescue;
mod run;
mod undeclared;
mod values;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{BinaryViewArray, RecordBatch};
use arrow::datatypes::SchemaRef;
use chrono_tz::Tz;
use serde::{Deserialize, Serialize};

use lode_core::Problem;

use input::Opened;
use run::{Counts, Tally};

pub use json::{JsonError, validate as validate_json};
pub use options::{CsvOptions, Format};
pub use undeclared::Undeclared;

/// Column that holds what an inferred schema could not take, as JSON text (SQL type `json`).
pub const RESCUED: &str = "_rescued";
/// Column that holds the physical line on which the record starts, from 1; for Parquet the row number, from 1.
pub const LINE: &str = "_line";

/// How the files of one source become rows. Made once (`infer`), then frozen.
#[derive(Debug, Clone)]
pub struct DecodePlan {
    pub format: Format,
    /// Declared columns, if there are any; then a value that does not fit rejects its record.
    pub columns: Option<SchemaRef>,
    /// Payload columns, without `_rescued` and `_line`.
    pub schema: SchemaRef,
    /// Zone of times that carry none.
    pub timezone: Option<Tz>,
    pub is_inferred: bool,
    /// Ask for `Decoded::raw`: a contract may still reject rows that were decoded.
    pub keep_raw: bool,
}

/// Rows of one block of a file.
#[derive(Debug)]
pub struct Decoded {
    /// Columns of `DecodePlan::schema`, then `_rescued` (only if the plan is inferred), then `_line`. May have no rows.
    pub batch: RecordBatch,
    pub rejects: Vec<Reject>,
    /// Bytes of decompressed text that these rows and rejects came from.
    pub bytes: u64,
    /// With `DecodePlan::keep_raw`: the records behind the rows of `batch`.
    pub raw: Option<RawRows>,
    /// Name of the entry if the file is a zip archive; its path is `archive/entry`.
    pub entry: Option<Arc<str>>,
}

/// The records behind the rows of one batch, in the same order. Those of binary formats are JSON objects, one a row.
#[derive(Debug, Clone)]
pub struct RawRows {
    pub bytes: BinaryViewArray,
    /// Byte offset of each record in the decompressed file; row number from 0 for binary formats.
    pub offsets: Vec<u64>,
}

/// A record that could not become a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reject {
    /// `decode` (the record cannot be read) or `contract` (it can, but does not fit the declared columns).
    pub rule: &'static str,
    /// Column.
    pub name: Option<String>,
    pub reason: String,
    /// Physical line on which the record starts, from 1.
    pub line: u64,
    /// Byte offset of the record in the decompressed file.
    pub offset: u64,
    /// All bytes of the record as in the decompressed file.
    pub raw: Vec<u8>,
}

/// Takes what one worker decodes. Blocks of a file come in no given order over all workers; `_line` orders rows.
pub trait DecodedSink: Send {
    fn accept(&mut self, decoded: Decoded) -> Result<(), Problem>;
}

/// What one file gave.
#[derive(Debug, Clone)]
pub struct FileOutcome {
    pub rows: u64,
    pub rejects: u64,
    /// Of the raw bytes of the file.
    pub hash: blake3::Hash,
    pub size_bytes: u64,
    /// What was found out or is worth knowing: dialect, encoding, missing and new columns.
    pub notes: Vec<String>,
    /// How text records of this file are written; `decode_record` needs it. For a zip, of its last entry.
    pub dialect: Option<Dialect>,
    /// For a zip, of each entry; `None` for one that is not CSV.
    pub entries: BTreeMap<Arc<str>, Option<Dialect>>,
    /// Fields that no declared column takes.
    pub undeclared: Undeclared,
    /// Rows with something in `_rescued`.
    pub rescued: u64,
}

/// How the records of one file are written, as its ledger row keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum Dialects {
    One(Dialect),
    /// Each dialect once, and the place of its own by entry.
    Archive {
        dialects: Vec<Dialect>,
        entries: BTreeMap<String, Option<usize>>,
    },
}

impl Dialects {
    /// `None` if nothing of the file is CSV.
    pub(crate) fn of(outcome: &FileOutcome) -> Option<Self> {
        if outcome.entries.is_empty() {
            return outcome.dialect.clone().map(Self::One);
        }
        let mut dialects: Vec<Dialect> = Vec::new();
        let mut entries = BTreeMap::new();
        for (entry, dialect) in &outcome.entries {
            let place = dialect.as_ref().map(|dialect| {
                dialects.iter().position(|known| known == dialect).unwrap_or_else(|| {
                    dialects.push(dialect.clone());
                    dialects.len() - 1
                })
            });
            entries.insert(entry.to_string(), place);
        }
        (!dialects.is_empty()).then_some(Self::Archive { dialects, entries })
    }

    /// The dialect of an entry; of the file itself for `""`.
    pub(crate) fn get(&self, entry: &str) -> Option<&Dialect> {
        match self {
            // Rows of older versions name one dialect for a whole archive.
            Self::One(dialect) => Some(dialect),
            Self::Archive { dialects, entries } => dialects.get((*entries.get(entry)?)?),
        }
    }
}

/// How the text of one file is written. Kept beside the file's ledger row, so that a record can be read again alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dialect {
    pub delimiter: u8,
    pub quote: Option<u8>,
    pub escape: Option<u8>,
    pub comment: Option<u8>,
    /// Lines before the header.
    pub skip_rows: u32,
    pub has_header: bool,
    pub decimal: u8,
    /// WHATWG name.
    pub encoding: String,
    /// Column names in the order of the file.
    pub header: Vec<String>,
}

#[derive(Debug)]
pub enum FileError {
    /// The file cannot be read as a whole: cut archive, broken footer, wrong magic. Rows that went to the sinks must not
    /// be kept.
    Poison(Problem),
    /// A sink refused.
    Sink(Problem),
    /// The operating system refused; may pass.
    Io(Problem),
}

impl DecodePlan {
    /// Schema of every `Decoded::batch`: the payload, `_rescued` if the plan is inferred, `_line`.
    pub fn output_schema(&self) -> SchemaRef {
        assemble::output_schema(&self.schema, self.is_inferred)
    }
}

/// Finds the columns of a source from the first MiB of each file in `samples`, or takes the declared `columns`.
/// Files that cannot be read, or that have no record, are passed over.
/// Errors: `Config` for impossible options, `Data` if no sample has a column.
pub fn infer(
    samples: &[PathBuf],
    format: &Format,
    columns: Option<&SchemaRef>,
    timezone: Option<Tz>,
) -> Result<DecodePlan, Problem> {
    infer::infer(samples, format, columns, timezone)
}

/// Whether a file has any record, readable or not; a header is none.
pub fn has_records(path: &Path, format: &Format) -> Result<bool, FileError> {
    infer::has_records(path, format)
}

/// Decodes one file. Blocks the caller; uses one thread a sink, and the caller's for reading. Memory: about 8 MiB of text a
/// worker, plus what the sinks keep (a batch holds on to its block of 4 MiB of text).
/// After an error the sinks may have taken rows of the file; they must not be kept.
pub fn decode_file(
    path: &Path,
    plan: &DecodePlan,
    sinks: &mut [Box<dyn DecodedSink + '_>],
) -> Result<FileOutcome, FileError> {
    let shown_as = path.display().to_string();
    let tally = Tally::default();
    let mut notes = Vec::new();
    let mut dialect = None;
    let mut entries = BTreeMap::new();
    let identity = match input::open(path, plan.format == Format::Parquet)? {
        Opened::Parquet(mut file) => {
            let identity = input::identify(&mut file, &shown_as)?;
            parquet::decode(file, &shown_as, plan, sinks, &tally, &mut notes)?;
            identity
        }
        Opened::Zip(mut file) => {
            let identity = input::identify(&mut file, &shown_as)?;
            input::zip_entries(&mut file, &shown_as, |shown, reader| {
                let fail = |error| input::broken(shown, "zip", error);
                let entry: Arc<str> = shown.strip_prefix(&format!("{shown_as}/")).unwrap_or(shown).into();
                dialect = open_text::decode(reader, shown, Some(&entry), plan, &fail, sinks, &tally, &mut notes)?;
                entries.insert(entry, dialect.clone());
                Ok(())
            })?;
            identity
        }
        Opened::Text(mut source) => {
            if let Some(compression) = source.compression() {
                notes.push(compression.to_owned());
            }
            let failing = source.failing();
            let fail = |error| failing.explain(error);
            dialect = open_text::decode(source.reader(), &shown_as, None, plan, &fail, sinks, &tally, &mut notes)?;
            source.finish()
        }
    };
    let counts = tally.read();
    if counts.rescued > 0 {
        let rows = if counts.rescued == 1 { "row has" } else { "rows have" };
        notes.push(format!("{} {rows} values in _rescued", counts.rescued));
    }
    let Counts { rows, rejects, rescued, .. } = counts;
    let (hash, size_bytes) = (identity.hash, identity.size_bytes);
    let undeclared = tally.undeclared.into_inner();
    Ok(FileOutcome { rows, rejects, hash, size_bytes, notes, dialect, entries, undeclared, rescued })
}

/// Decodes one record again, for replay from the quarantine. `dialect` as in `FileOutcome`; without one the dialect is
/// guessed from the plan, with the plan's column order. `_line` is 1.
pub fn decode_record(raw: &[u8], plan: &DecodePlan, dialect: Option<&Dialect>) -> Result<RecordBatch, Reject> {
    replay::decode_record(raw, plan, dialect)
}
