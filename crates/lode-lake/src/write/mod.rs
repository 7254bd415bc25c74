//! Batches into Parquet files: one open file a partition, row groups flushed by bytes, files rolled over by bytes.

mod encoding;
mod partition;
mod stats;

use std::collections::{BTreeMap, HashMap};
use std::io::{self, Write};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute::take;
use arrow::datatypes::{FieldRef, SchemaRef};
use chrono::Utc;
use lode_core::AttemptId;
use lode_core::sql_type::SQL_TYPE_MARK;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::errors::ParquetError;
use uuid::Uuid;

use self::stats::Leaf;
use crate::delta::schema::{stored_field, stored_schema};
use crate::keys::{KeyEncoder, RunBuilder};
use crate::store::{io_cause, io_error};
use crate::{DataFile, FileSink, LakeError, Store, StorePath, TableDefinition, WriterOptions, convert};

/// Rows encoded between two looks at memory and file size.
const ROWS_AT_ONCE: usize = 32 << 10;
/// Partitions written at a time; the longest unused one is closed first.
const OPEN_MAX: usize = 64;
/// Tag of a data file: CRC-32 of its bytes, in hex. Pages have no checksums of their own.
pub(crate) const CHECKSUM: &str = "lode.crc32";

pub(crate) struct Writer {
    store: Store,
    location: String,
    table: String,
    definition: TableDefinition,
    columns: Vec<Column>,
    stored: SchemaRef,
    leaves: Vec<Leaf>,
    /// Places of the partition columns.
    partition: Vec<usize>,
    options: WriterOptions,
    /// `<attempt>-<random>`: this writer's own names.
    name: String,
    instant: String,
    opened: usize,
    open: HashMap<Vec<u8>, Open>,
    done: Vec<DataFile>,
    rows: u64,
    clock: u64,
    /// In a table with a key: the keys of what is written, and the places of the key's columns.
    keys: Option<(RunBuilder, Vec<usize>)>,
}

struct Column {
    field: FieldRef,
    /// Of `varchar(n)` and `char(n)`.
    chars_max: Option<usize>,
}

/// A file being written.
struct Open {
    order: usize,
    writer: ArrowWriter<Slot>,
    /// Relative to the table.
    path: String,
    partition_values: BTreeMap<String, Option<String>>,
    has_nan: Vec<bool>,
    used: u64,
    in_progress: usize,
    rows: u64,
    /// Number among the files of the key index.
    number: u32,
}

/// The sink, until it is taken out to be finished, and the checksum of what went through.
struct Slot(Option<FileSink>, crc32fast::Hasher);

impl Write for Slot {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.0.as_mut().ok_or(io::ErrorKind::BrokenPipe)?.write(bytes)?;
        self.1.update(bytes.get(..written).unwrap_or_default());
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Writer {
    pub(crate) fn new(
        store: &Store,
        location: &str,
        definition: &TableDefinition,
        attempt: AttemptId,
        options: WriterOptions,
    ) -> Self {
        let stored = stored_schema(&definition.schema);
        let columns = definition.schema.fields().iter().map(|field| Column {
            field: Arc::clone(field),
            chars_max: chars_max(field.metadata().get(SQL_TYPE_MARK)),
        });
        let partition =
            definition.partition_by.iter().filter_map(|name| definition.schema.index_of(name).ok()).collect();
        let keys = KeyEncoder::of_table(definition).and_then(|encoder| {
            let places = encoder.places(&stored)?;
            Some((RunBuilder::new(store, location.trim_matches('/'), encoder), places))
        });
        Self {
            store: store.clone(),
            location: location.trim_matches('/').to_owned(),
            table: definition.name.to_string(),
            columns: columns.collect(),
            leaves: stats::leaves(stored.fields()),
            stored,
            partition,
            options,
            name: format!("{attempt}-{:08x}", Uuid::new_v4().as_fields().0),
            instant: Utc::now().format("%Y%m%d%H%M%S%3f").to_string(),
            opened: 0,
            open: HashMap::new(),
            done: Vec::new(),
            rows: 0,
            clock: 0,
            keys,
            definition: definition.clone(),
        }
    }

    pub(crate) fn rows(&self) -> u64 {
        self.rows
    }

    pub(crate) fn write(&mut self, batch: &RecordBatch) -> Result<(), LakeError> {
        if batch.num_rows() == 0 {
            return Ok(());
        }
        let columns = self.align(batch)?;
        if self.partition.is_empty() {
            self.write_to(&[], &columns, 0, batch.num_rows())?;
        } else {
            self.write_partitions(&columns)?;
        }
        self.rows += batch.num_rows() as u64;
        Ok(())
    }

    /// The columns of the table, in order and stored form.
    fn align(&self, batch: &RecordBatch) -> Result<Vec<ArrayRef>, LakeError> {
        let mut aligned = Vec::with_capacity(self.columns.len());
        let mut found = 0;
        for column in &self.columns {
            let field = &column.field;
            let array = match batch.column_by_name(field.name()) {
                Some(array) => {
                    found += 1;
                    convert::to_stored(array, field).map_err(|reason| LakeError::Schema {
                        message: format!("column \"{}\" of table \"{}\": {reason}", field.name(), self.table),
                        fix: format!("cast it to {}", lode_core::sql_type::name_of(field)),
                    })?
                }
                None => arrow::array::new_null_array(stored_field(field).data_type(), batch.num_rows()),
            };
            self.check(column, &array)?;
            aligned.push(array);
        }
        if found != batch.num_columns() {
            let schema = batch.schema();
            let is_unknown = |field: &&FieldRef| self.stored_place(field.name()).is_none();
            let name = schema.fields().iter().find(is_unknown).map(|field| field.name().clone()).unwrap_or_default();
            return Err(LakeError::Schema {
                message: format!("column \"{name}\" is not in table \"{}\", or it is there twice", self.table),
                fix: "leave it out, or add it to the table first".into(),
            });
        }
        Ok(aligned)
    }

    fn stored_place(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|column| column.field.name() == name)
    }

    fn check(&self, column: &Column, array: &ArrayRef) -> Result<(), LakeError> {
        let breaks = |row: usize, rule: String| {
            Err(LakeError::Constraint { table: self.definition.name.clone(), row: self.rows + row as u64, rule })
        };
        let name = column.field.name();
        if !column.field.is_nullable() && array.null_count() > 0 {
            let row = (0..array.len()).find(|row| array.is_null(*row)).unwrap_or(0);
            return breaks(row, format!("NOT NULL of column \"{name}\""));
        }
        if let (Some(most), Some(texts)) = (column.chars_max, array.as_string_view_opt()) {
            // A text of few bytes has few characters; only long ones are counted.
            let is_long = |row: &usize| {
                texts.is_valid(*row) && texts.views().get(*row).is_some_and(|view| *view as u32 as usize > most)
            };
            let too_long = |row: &usize| is_long(row) && texts.value(*row).chars().count() > most;
            if let Some(row) = (0..texts.len()).find(too_long) {
                return breaks(row, format!("at most {most} characters in column \"{name}\""));
            }
        }
        Ok(())
    }

    fn write_partitions(&mut self, columns: &[ArrayRef]) -> Result<(), LakeError> {
        let keys: Vec<ArrayRef> = self.partition.iter().filter_map(|at| columns.get(*at).cloned()).collect();
        let encode =
            |error: arrow::error::ArrowError| LakeError::Encode { table: String::new(), source: Box::new(error) };
        for group in partition::group(&keys).map_err(encode)? {
            match &group.rows {
                None => {
                    let rows = columns.first().map_or(0, |column| column.len());
                    self.write_to(&group.key, columns, group.first_row, rows)?;
                }
                Some(rows) => {
                    let taken: Result<Vec<ArrayRef>, _> =
                        columns.iter().map(|column| take(column, rows, None)).collect();
                    self.write_to(&group.key, &taken.map_err(encode)?, 0, rows.len())?;
                }
            }
        }
        Ok(())
    }

    /// Writes rows of one partition; `sample` is a row that has its values.
    fn write_to(&mut self, key: &[u8], columns: &[ArrayRef], sample: usize, rows: usize) -> Result<(), LakeError> {
        let whole = RecordBatch::try_new(Arc::clone(&self.stored), columns.to_vec())
            .map_err(|error| LakeError::Encode { table: self.table.clone(), source: Box::new(error) })?;
        let mut start = 0;
        while start < rows {
            let count = ROWS_AT_ONCE.min(rows - start);
            let part = whole.slice(start, count);
            start += count;
            self.clock += 1;
            if !self.open.contains_key(key) {
                let opened = self.open(columns, sample)?;
                self.open.insert(key.to_vec(), opened);
            }
            let Some(open) = self.open.get_mut(key) else { continue };
            open.used = self.clock;
            if let Some((builder, places)) = &mut self.keys {
                let columns: Vec<ArrayRef> = places.iter().filter_map(|at| part.columns().get(*at).cloned()).collect();
                let keys = builder.encoder().encode_stored(&columns).map_err(|reason| LakeError::Schema {
                    message: format!("a key of table \"{}\": {reason}", self.table),
                    fix: "correct the value".into(),
                })?;
                builder.add(open.number, open.rows, &keys)?;
            }
            open.rows += part.num_rows() as u64;
            stats::mark_nans(part.columns(), &mut open.has_nan);
            open.writer.write(&part).map_err(|error| parquet_error(&self.table, &open.path, error))?;
            open.in_progress = open.writer.in_progress_size();
            if (open.writer.bytes_written() + open.in_progress) as u64 >= self.options.target_file_bytes
                && let Some(full) = self.open.remove(key)
            {
                self.close(full)?;
            }
            self.bound_memory()?;
        }
        Ok(())
    }

    /// Flushes the largest row groups while all open ones together are too large.
    fn bound_memory(&mut self) -> Result<(), LakeError> {
        while self.open.values().map(|open| open.in_progress).sum::<usize>() >= self.options.row_group_bytes {
            let Some(largest) = self.open.values_mut().max_by_key(|open| open.in_progress) else { break };
            largest.writer.flush().map_err(|error| parquet_error(&self.table, &largest.path, error))?;
            largest.in_progress = 0;
        }
        Ok(())
    }

    fn open(&mut self, columns: &[ArrayRef], sample: usize) -> Result<Open, LakeError> {
        if self.open.len() >= OPEN_MAX
            && let Some(key) = self.open.iter().min_by_key(|(_, open)| open.used).map(|(key, _)| key.clone())
            && let Some(unused) = self.open.remove(&key)
        {
            self.close(unused)?;
        }
        let mut partition_values = BTreeMap::new();
        let mut folder = String::new();
        for at in &self.partition {
            let (Some(array), Some(column)) = (columns.get(*at), self.columns.get(*at)) else { continue };
            let name = column.field.name();
            let value = partition::value(array, sample).map_err(|reason| LakeError::Schema {
                message: format!("column \"{name}\" of table \"{}\": {reason}", self.table),
                fix: format!("replace empty texts, for example by nullif({name}, '')"),
            })?;
            folder.push_str(&partition::folder(name, value.as_deref()));
            folder.push('/');
            partition_values.insert(name.clone(), value);
        }
        let path = format!("{folder}{}-{}_0-0-0_{}.parquet", self.name, self.opened, self.instant);
        let order = self.opened;
        self.opened += 1;
        let full = StorePath::parse(format!("{}/{path}", self.location))
            .map_err(|error| io_error("create", &StorePath::default(), io::Error::other(error)))?;
        let sink = Slot(Some(self.store.create(&full)?), crc32fast::Hasher::new());
        let properties = encoding::properties(&self.options, self.stored.fields(), columns);
        // The Arrow schema in the file would bring our in-memory types to foreign readers.
        let options = ArrowWriterOptions::new().with_properties(properties).with_skip_arrow_metadata(true);
        let writer = ArrowWriter::try_new_with_options(sink, Arc::clone(&self.stored), options)
            .map_err(|error| parquet_error(&self.table, &path, error))?;
        let has_nan = vec![false; self.leaves.len()];
        let number = self.keys.as_mut().map_or(0, |(builder, _)| builder.file(&path));
        let used = self.clock;
        Ok(Open { order, writer, path, partition_values, has_nan, used, in_progress: 0, rows: 0, number })
    }

    fn close(&mut self, mut open: Open) -> Result<(), LakeError> {
        let metadata = open.writer.finish().map_err(|error| parquet_error(&self.table, &open.path, error))?;
        let stats = stats::collect(&metadata, &self.leaves, &open.has_nan);
        let checksum = format!("{:08x}", open.writer.inner().1.clone().finalize());
        let size_bytes = match open.writer.inner_mut().0.take() {
            Some(sink) => sink.finish()?,
            None => 0,
        };
        self.done.push(DataFile {
            path: open.path,
            size_bytes,
            partition_values: open.partition_values,
            modified_ms: Utc::now().timestamp_millis(),
            stats: Some(stats),
            tags: BTreeMap::from([(CHECKSUM.to_owned(), checksum)]),
        });
        Ok(())
    }

    pub(crate) fn finish(mut self) -> Result<Vec<DataFile>, LakeError> {
        let mut open: Vec<Open> = std::mem::take(&mut self.open).into_values().collect();
        open.sort_unstable_by_key(|open| open.order);
        for file in open {
            self.close(file)?;
        }
        if let Some((builder, _)) = self.keys.take() {
            builder.finish(&mut self.done)?;
        }
        Ok(self.done)
    }
}

fn chars_max(mark: Option<&String>) -> Option<usize> {
    let (base, rest) = mark?.split_once('(')?;
    ["varchar", "character varying", "char", "character", "bpchar"].contains(&base.trim()).then_some(())?;
    rest.strip_suffix(')')?.trim().parse().ok()
}

fn parquet_error(table: &str, path: &str, error: ParquetError) -> LakeError {
    // The kind is kept, so that a full disk is called a full disk.
    match io_cause(&error) {
        Some(cause) => io_error("write", &StorePath::from(path), io::Error::new(cause.kind(), cause.to_string())),
        None => LakeError::Encode { table: table.to_owned(), source: Box::new(error) },
    }
}
