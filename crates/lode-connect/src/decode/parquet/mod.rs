//! Parquet: row groups over the workers, values into the plan's columns without loss.

mod chunks;
mod land;

use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use arrow::array::cast::AsArray;
use arrow::array::{ArrayRef, Int64Array, RecordBatch, RecordBatchOptions, new_null_array};
use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef, TimeUnit};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use lode_core::Problem;
use parking_lot::Mutex;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder};
use parquet::basic::Type as Physical;

use self::chunks::Chunks;
use super::rescue::{Rescue, write_string};
use super::run::Tally;
use super::{DecodePlan, Decoded, DecodedSink, FileError, RawRows, Reject, assemble, input, open_text};

/// Values of a batch, as stored.
const BATCH_BYTES: i64 = 4 << 20;

/// Columns of a Parquet file in types that tables have, and its number of rows.
pub(super) fn payload_schema(file: File, shown_as: &str) -> Result<(SchemaRef, i64), FileError> {
    let file = chunks(file, shown_as)?;
    let metadata = guarded(shown_as, || load(&file, shown_as))?;
    let fields: Vec<Field> = metadata.schema().fields().iter().map(|field| land::landed_field(field)).collect();
    Ok((Arc::new(Schema::new(fields)), metadata.metadata().file_metadata().num_rows()))
}

fn chunks(file: File, shown_as: &str) -> Result<Chunks, FileError> {
    Chunks::new(file).map_err(|error| input::io_error(shown_as, error))
}

/// Runs `work`; a panic of the Parquet reader over a hostile file is a broken file.
fn guarded<T>(shown_as: &str, work: impl FnOnce() -> Result<T, FileError>) -> Result<T, FileError> {
    catch_unwind(AssertUnwindSafe(work))
        .unwrap_or_else(|_| Err(input::broken(shown_as, "Parquet", "the reader gave up on its contents")))
}

fn load(file: &Chunks, shown_as: &str) -> Result<ArrowReaderMetadata, FileError> {
    let broken = |error: parquet::errors::ParquetError| {
        let text = error.to_string();
        if text.contains("ncrypt") {
            input::poison(shown_as, format!("Parquet file \"{shown_as}\" is encrypted"), "deliver it decrypted")
        } else {
            input::broken(shown_as, "Parquet", text)
        }
    };
    let metadata = ArrowReaderMetadata::load(file, ArrowReaderOptions::new()).map_err(broken)?;
    // INT96 counts nanoseconds in more than 64 bits; microseconds hold all years.
    let mut fields: Vec<_> = metadata.schema().fields().iter().cloned().collect();
    let mut has_int96 = false;
    for column in metadata.parquet_schema().columns() {
        let [name] = column.path().parts() else { continue };
        if column.physical_type() == Physical::INT96
            && let Some(field) = fields.iter_mut().find(|field| field.name() == name)
        {
            *field = Arc::new(field.as_ref().clone().with_data_type(DataType::Timestamp(TimeUnit::Microsecond, None)));
            has_int96 = true;
        }
    }
    if !has_int96 {
        return Ok(metadata);
    }
    let schema = Arc::new(Schema::new(fields));
    ArrowReaderMetadata::try_new(metadata.metadata().clone(), ArrowReaderOptions::new().with_schema(schema))
        .map_err(broken)
}

/// Decodes a whole file.
pub(super) fn decode(
    file: File,
    shown_as: &str,
    plan: &DecodePlan,
    sinks: &mut [Box<dyn DecodedSink + '_>],
    tally: &Tally,
    notes: &mut Vec<String>,
) -> Result<(), FileError> {
    let file = chunks(file, shown_as)?;
    let metadata = guarded(shown_as, || load(&file, shown_as))?;
    let groups = metadata.metadata().row_groups();
    notes.push(format!("parquet, {} row groups", groups.len()));
    let mut first_rows = Vec::with_capacity(groups.len());
    let mut rows = 0_i64;
    for group in groups {
        first_rows.push(rows);
        rows = rows.saturating_add(group.num_rows().max(0));
    }
    let landing = Landing::new(plan, metadata.schema(), notes);
    if !plan.is_inferred && !landing.extras.is_empty() {
        let names =
            || landing.extras.iter().filter_map(|at| Some(metadata.schema().fields().get(*at)?.name().as_str()));
        if landing.columns.iter().all(Option::is_none) {
            return Err(open_text::no_declared_column(plan, names(), shown_as, "schema"));
        }
        let mut undeclared = tally.undeclared.lock();
        names().for_each(|name| undeclared.see(name.as_bytes()));
    }
    let (next, has_failed) = (AtomicUsize::new(0), AtomicBool::new(false));
    let failure: Mutex<Option<FileError>> = Mutex::new(None);
    let work = |sink: &mut (dyn DecodedSink + '_)| {
        while !has_failed.load(Ordering::Relaxed) {
            let group = next.fetch_add(1, Ordering::Relaxed);
            let Some(first_row) = first_rows.get(group) else { break };
            let done = guarded(shown_as, || {
                decode_group(&file, shown_as, &metadata, group, *first_row, &landing, tally, sink)
            });
            if let Err(error) = done {
                has_failed.store(true, Ordering::Relaxed);
                failure.lock().get_or_insert(error);
            }
        }
    };
    match sinks {
        [] => return Err(FileError::Sink(Problem::internal("a file was decoded without a sink"))),
        [sink] => work(sink.as_mut()),
        sinks if first_rows.len() < 2 => {
            if let Some(sink) = sinks.first_mut() {
                work(sink.as_mut());
            }
        }
        sinks => std::thread::scope(|scope| {
            for sink in sinks.iter_mut() {
                let work = &work;
                scope.spawn(move || work(sink.as_mut()));
            }
        }),
    }
    failure.into_inner().map_or(Ok(()), Err)
}

#[expect(clippy::too_many_arguments, reason = "one call, all of it state of the file")]
fn decode_group(
    file: &Chunks,
    shown_as: &str,
    metadata: &ArrowReaderMetadata,
    group: usize,
    first_row: i64,
    landing: &Landing<'_>,
    tally: &Tally,
    sink: &mut (dyn DecodedSink + '_),
) -> Result<(), FileError> {
    let broken = |error: String| input::broken(shown_as, "Parquet", error);
    let about = metadata.metadata().row_group(group);
    let row_bytes = about.total_byte_size() / about.num_rows().max(1) + 1;
    let batch_rows = (BATCH_BYTES / row_bytes.max(1)).clamp(64, 65_536) as usize;
    let reader = ParquetRecordBatchReaderBuilder::new_with_metadata(file.clone(), metadata.clone())
        .with_row_groups(vec![group])
        .with_batch_size(batch_rows)
        .build()
        .map_err(|error| broken(error.to_string()))?;
    let mut row = first_row;
    for batch in reader {
        let batch = batch.map_err(|error| broken(error.to_string()))?;
        let decoded = landing.land(&batch, row).map_err(FileError::Sink)?;
        row += batch.num_rows() as i64;
        tally.give(decoded, None, sink).map_err(FileError::Sink)?;
    }
    Ok(())
}

/// How the columns of a file meet those of the plan.
struct Landing<'a> {
    plan: &'a DecodePlan,
    output: SchemaRef,
    columns: Vec<Option<usize>>,
    extras: Vec<usize>,
    reading: super::column::Reading,
}

impl<'a> Landing<'a> {
    fn new(plan: &'a DecodePlan, file: &SchemaRef, notes: &mut Vec<String>) -> Self {
        let names: Vec<&str> = file.fields().iter().map(|field| field.name().as_str()).collect();
        let find = |wanted: &str| {
            let exact = names.iter().position(|name| *name == wanted);
            exact.or_else(|| names.iter().position(|name| name.eq_ignore_ascii_case(wanted)))
        };
        let columns: Vec<Option<usize>> = plan.schema.fields().iter().map(|field| find(field.name())).collect();
        let extras: Vec<usize> = (0..names.len()).filter(|at| !columns.contains(&Some(*at))).collect();
        let missing: Vec<&str> = plan
            .schema
            .fields()
            .iter()
            .zip(&columns)
            .filter(|(_, at)| at.is_none())
            .map(|(field, _)| field.name().as_str())
            .collect();
        if !missing.is_empty() {
            notes.push(format!("missing columns, read as NULL: {}", missing.join(", ")));
        }
        if !extras.is_empty() {
            let extra: Vec<&str> = extras.iter().filter_map(|at| names.get(*at).copied()).collect();
            let fate = if plan.is_inferred { "kept in _rescued" } else { "not declared, left out" };
            notes.push(format!("new columns, {fate}: {}", extra.join(", ")));
        }
        Self { output: plan.output_schema(), columns, extras, reading: open_text::reading(plan, b'.'), plan }
    }

    fn land(&self, batch: &RecordBatch, first_row: i64) -> Result<Decoded, Problem> {
        let broken =
            |error: arrow::error::ArrowError| Problem::internal("a Parquet batch could not be converted").cause(error);
        let rows = batch.num_rows();
        let mut arrays: Vec<ArrayRef> = Vec::with_capacity(self.output.fields().len());
        let mut rescue = self.plan.is_inferred.then(Rescue::default);
        let mut keep = vec![true; rows];
        let mut rejects = Vec::new();
        for (field, at) in self.plan.schema.fields().iter().zip(&self.columns) {
            let Some(source) = at.map(|at| batch.column(at)) else {
                arrays.push(new_null_array(field.data_type(), rows));
                continue;
            };
            let landed = land::land(source, field, &self.reading).map_err(broken)?;
            for row in landed.misfits {
                let value = shown(source, row);
                match &mut rescue {
                    Some(rescue) => rescue.push_text(row, field.name(), value.as_bytes()),
                    None if keep.get(row) == Some(&true) => {
                        if let Some(keep) = keep.get_mut(row) {
                            *keep = false;
                        }
                        rejects.push(Reject {
                            rule: "contract",
                            name: Some(field.name().clone()),
                            reason: assemble::misfit_reason(super::column::Unfit::Type, value.as_bytes(), field, None),
                            line: (first_row + row as i64 + 1) as u64,
                            offset: (first_row + row as i64) as u64,
                            raw: row_as_json(batch, row),
                        });
                    }
                    None => {}
                }
            }
            arrays.push(landed.array);
        }
        if let Some(rescue) = &mut rescue {
            for at in &self.extras {
                let source = batch.column(*at);
                let name = batch.schema_ref().field(*at).name().clone();
                for row in (0..rows).filter(|row| !source.is_null(*row)) {
                    rescue.push_text(row, &name, shown(source, row).as_bytes());
                }
            }
        }
        arrays.extend(rescue.map(|rescue| rescue.finish(rows)));
        arrays.push(Arc::new(Int64Array::from_iter_values((0..rows as i64).map(|row| first_row + row + 1))));
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let landed = RecordBatch::try_new_with_options(self.output.clone(), arrays, &options).map_err(broken)?;
        let raw = self.plan.keep_raw.then(|| RawRows {
            bytes: (0..rows).map(|row| Some(row_as_json(batch, row))).collect(),
            offsets: (0..rows).map(|row| (first_row + row as i64) as u64).collect(),
        });
        let bytes = batch.get_array_memory_size() as u64;
        let whole = if rejects.is_empty() { (landed, raw) } else { assemble::filter_rows(&landed, raw, &keep)? };
        Ok(assemble::decoded(whole, rejects, bytes))
    }
}

/// A value as text.
fn shown(array: &ArrayRef, row: usize) -> String {
    ArrayFormatter::try_new(array.as_ref(), &FormatOptions::default())
        .ok()
        .and_then(|formatter| formatter.value(row).try_to_string().ok())
        .unwrap_or_default()
}

/// A row as JSON: the form in which a Parquet row is kept as a record.
fn row_as_json(batch: &RecordBatch, row: usize) -> Vec<u8> {
    let mut out = Vec::new();
    write_members(&mut out, batch.schema_ref().fields(), batch.columns(), row);
    out
}

fn write_members(out: &mut Vec<u8>, fields: &Fields, columns: &[ArrayRef], row: usize) {
    out.push(b'{');
    for (at, (field, array)) in fields.iter().zip(columns).enumerate() {
        if at > 0 {
            out.push(b',');
        }
        write_string(out, field.name().as_bytes());
        out.push(b':');
        write_value(out, array, row);
    }
    out.push(b'}');
}

fn write_value(out: &mut Vec<u8>, array: &ArrayRef, row: usize) {
    if array.is_null(row) {
        return out.extend_from_slice(b"null");
    }
    match array.data_type() {
        DataType::Struct(fields) => write_members(out, fields, array.as_struct().columns(), row),
        DataType::List(_) => {
            let values = array.as_list::<i32>().value(row);
            out.push(b'[');
            for at in 0..values.len() {
                if at > 0 {
                    out.push(b',');
                }
                write_value(out, &values, at);
            }
            out.push(b']');
        }
        DataType::Boolean => out.extend_from_slice(shown(array, row).as_bytes()),
        data_type if data_type.is_numeric() => {
            let text = shown(array, row);
            // Not a number and infinity have no JSON form but a string.
            if text.parse::<f64>().is_ok_and(f64::is_finite) {
                out.extend_from_slice(text.as_bytes());
            } else {
                write_string(out, text.as_bytes());
            }
        }
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => {
            write_string(out, format!("\\x{}", shown(array, row)).as_bytes());
        }
        _ => write_string(out, shown(array, row).as_bytes()),
    }
}
