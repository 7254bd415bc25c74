//! Files made on the spot, and a sink that keeps everything.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute::concat_batches;
use arrow::datatypes::{Int64Type, Schema, SchemaRef};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use lode_connect::decode::{
    DecodePlan, Decoded, DecodedSink, FileError, FileOutcome, Format, LINE, RESCUED, Reject, decode_file, infer,
};
use lode_core::{Problem, sql_type};

#[derive(Default)]
pub(crate) struct Kept {
    pub(crate) batches: Vec<RecordBatch>,
    pub(crate) rejects: Vec<Reject>,
    pub(crate) raw: Vec<(i64, Vec<u8>, u64)>,
}

struct Keeper(Arc<Mutex<Kept>>);

impl DecodedSink for Keeper {
    fn accept(&mut self, decoded: Decoded) -> Result<(), Problem> {
        let mut kept = self.0.lock().unwrap();
        if let Some(raw) = &decoded.raw {
            assert_eq!(raw.bytes.len(), decoded.batch.num_rows());
            let lines = decoded.batch.column_by_name(LINE).unwrap().as_primitive::<Int64Type>();
            for row in 0..raw.bytes.len() {
                kept.raw.push((lines.value(row), raw.bytes.value(row).to_vec(), raw.offsets[row]));
            }
        }
        kept.batches.push(decoded.batch);
        kept.rejects.extend(decoded.rejects);
        Ok(())
    }
}

/// Everything that one file gave, rows in the order of their lines.
pub(crate) struct Read {
    pub(crate) batch: RecordBatch,
    pub(crate) rejects: Vec<Reject>,
    pub(crate) outcome: FileOutcome,
    pub(crate) raw: Vec<(i64, Vec<u8>, u64)>,
}

impl Read {
    /// A column as text, NULL as `None`.
    pub(crate) fn text(&self, name: &str) -> Vec<Option<String>> {
        texts(self.batch.column_by_name(name).unwrap_or_else(|| panic!("no column {name}")))
    }

    pub(crate) fn plain(&self, name: &str) -> Vec<String> {
        self.text(name).into_iter().map(|value| value.unwrap_or_else(|| "NULL".into())).collect()
    }

    /// Payload columns as text, row by row.
    pub(crate) fn rows(&self) -> Vec<Vec<Option<String>>> {
        let payload = self.batch.schema().fields().iter().filter(|f| f.name() != LINE && f.name() != RESCUED).count();
        let columns: Vec<_> = self.batch.columns().iter().take(payload).map(texts).collect();
        (0..self.batch.num_rows()).map(|row| columns.iter().map(|column| column[row].clone()).collect()).collect()
    }
}

pub(crate) fn texts(array: &ArrayRef) -> Vec<Option<String>> {
    let options = FormatOptions::default();
    let formatter = ArrayFormatter::try_new(array.as_ref(), &options).unwrap();
    (0..array.len()).map(|row| (!array.is_null(row)).then(|| formatter.value(row).to_string())).collect()
}

pub(crate) fn read(path: &Path, plan: &DecodePlan) -> Result<Read, FileError> {
    read_with(path, plan, 2)
}

pub(crate) fn read_with(path: &Path, plan: &DecodePlan, workers: usize) -> Result<Read, FileError> {
    let kept = Arc::new(Mutex::new(Kept::default()));
    let mut sinks: Vec<Box<dyn DecodedSink>> =
        (0..workers).map(|_| Box::new(Keeper(kept.clone())) as Box<dyn DecodedSink>).collect();
    let outcome = decode_file(path, plan, &mut sinks)?;
    drop(sinks);
    let mut kept = std::mem::take(&mut *kept.lock().unwrap());
    // Blocks come in any order; entries of an archive in theirs.
    kept.batches.sort_by_key(|batch| match batch.num_rows() {
        0 => 0,
        _ => batch.column_by_name(LINE).unwrap().as_primitive::<Int64Type>().value(0),
    });
    let batch = concat_batches(&plan.output_schema(), &kept.batches).unwrap();
    assert_eq!(outcome.rows, batch.num_rows() as u64);
    assert_eq!(outcome.rejects, kept.rejects.len() as u64);
    kept.rejects.sort_by_key(|reject| reject.line);
    kept.raw.sort();
    Ok(Read { batch, rejects: kept.rejects, outcome, raw: kept.raw })
}

/// A folder of its own for each test.
pub(crate) struct Files(tempfile::TempDir);

impl Files {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn put(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }
}

pub(crate) fn declared(columns: &[(&str, &str)]) -> SchemaRef {
    Arc::new(Schema::new(columns.iter().map(|(name, sql)| sql_type::field(name, sql).unwrap()).collect::<Vec<_>>()))
}

/// Inferred from the bytes themselves.
pub(crate) fn read_text(name: &str, bytes: impl AsRef<[u8]>, format: Format) -> Read {
    let files = Files::new();
    let path = files.put(name, bytes);
    let plan = infer(std::slice::from_ref(&path), &format, None, None).unwrap();
    read(&path, &plan).unwrap()
}

/// With declared columns.
pub(crate) fn read_as(bytes: impl AsRef<[u8]>, format: Format, columns: &[(&str, &str)]) -> Read {
    let files = Files::new();
    let path = files.put("x", bytes);
    let plan = infer(std::slice::from_ref(&path), &format, Some(&declared(columns)), None).unwrap();
    read(&path, &plan).unwrap()
}

/// SQL types of the columns of a plan, as `name type`.
pub(crate) fn types(schema: &Schema) -> Vec<String> {
    schema.fields().iter().map(|field| format!("{} {}", field.name(), sql_type::name_of(field))).collect()
}

pub(crate) fn poison(result: Result<Read, FileError>) -> String {
    match result {
        Err(FileError::Poison(problem)) => problem.render(),
        Err(other) => panic!("not poison: {other:?}"),
        Ok(read) => panic!("{} rows were read", read.outcome.rows),
    }
}
