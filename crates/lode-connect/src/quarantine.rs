//! What was rejected: counted, shown, and tried again under the configuration as it is now.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch, StringViewArray};
use arrow::compute::{cast, filter_record_batch};
use arrow::datatypes::{Int64Type, TimestampMicrosecondType};
use chrono::{DateTime, Utc};
use futures::StreamExt;
use futures::stream::BoxStream;
use parquet::arrow::ParquetRecordBatchStreamBuilder;
use serde::Serialize;

use lode_catalog::{Catalog, RelationEntry, quarantine_schema};
use lode_core::{ErrorKind, Place, Problem, TableName};
use lode_lake::{DeltaTable, Snapshot, Store};

mod file_reader;
mod replay;

pub use replay::{ReplayReport, replay};

/// Names that `list` tells apart in one table; the rest is summed up.
const GROUPS_MAX: usize = 10_000;

/// Which rejected rows are meant. Each given part must be equal.
#[derive(Debug, Clone, Default)]
pub struct QuarantineFilter {
    /// `decode | contract | expectation | late | error`
    pub rule: Option<String>,
    /// Expectation or column.
    pub name: Option<String>,
    /// As `_file` has it: relative to the source's folder.
    pub file: Option<String>,
}

/// How many rows of a table one rule rejected under one name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct QuarantineCount {
    /// The table that the rows were meant for.
    pub table: String,
    pub rule: String,
    /// Expectation or column.
    pub name: Option<String>,
    pub rows: u64,
    /// The reason of one of them; reasons hold values and places, so nearly each is another.
    pub example: String,
}

/// One rejected row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct QuarantinedRow {
    pub id: String,
    pub rule: String,
    pub name: Option<String>,
    pub reason: String,
    pub source: String,
    pub file: Option<String>,
    pub line: Option<i64>,
    pub offset: Option<i64>,
    /// The record as text; one that is not UTF-8, or that begins with `\x` itself, as `\x` and its bytes in hex.
    pub raw: String,
    pub epoch: i64,
    pub quarantined_at: DateTime<Utc>,
}

/// Counts by table, rule and name, the largest first; of all tables, or of one (named with or without
/// `__quarantine`).
/// Errors: `NotFound` if that table has no quarantine.
pub async fn list(catalog: &Arc<Catalog>, table: Option<&TableName>) -> Result<Vec<QuarantineCount>, Problem> {
    let tables = match table {
        Some(table) => vec![open(catalog, table).await?],
        None => all(catalog).await?,
    };
    let mut counts = Vec::new();
    for table in tables {
        let mut groups: HashMap<Group, Rejections> = HashMap::new();
        let columns = ["_rule", "_name", "_reason"];
        for file in table.files() {
            let mut batches = read(catalog.store(), &table, file, &columns).await?;
            while let Some(batch) = batches.next().await {
                count(&RejectedColumns::new(&batch?)?, &mut groups);
            }
        }
        let name = table.base.to_string();
        counts.extend(groups.into_iter().map(|((rule, part), Rejections { rows, example })| QuarantineCount {
            table: name.clone(),
            rule,
            name: part,
            rows,
            example,
        }));
    }
    counts.sort_by(|a, b| (&a.table, b.rows, &a.rule, &a.name).cmp(&(&b.table, a.rows, &b.rule, &b.name)));
    Ok(counts)
}

/// Rejected rows of one table, oldest file first, at most `limit`.
/// Errors: `NotFound` if that table has no quarantine.
pub async fn show(
    catalog: &Arc<Catalog>,
    table: &TableName,
    filter: &QuarantineFilter,
    limit: usize,
) -> Result<Vec<QuarantinedRow>, Problem> {
    let table = open(catalog, table).await?;
    let mut rows = Vec::new();
    for file in table.files() {
        let mut batches = read(catalog.store(), &table, file, &[]).await?;
        while let Some(batch) = batches.next().await {
            let batch = batch?;
            let columns = RejectedColumns::new(&batch)?;
            for row in (0..batch.num_rows()).filter(|row| columns.matches(*row, filter)) {
                if rows.len() == limit {
                    return Ok(rows);
                }
                rows.push(columns.row(row));
            }
        }
    }
    Ok(rows)
}

/// Rule and name.
type Group = (String, Option<String>);

/// Rows of one group.
#[derive(Default)]
struct Rejections {
    rows: u64,
    example: String,
}

fn count(columns: &RejectedColumns, groups: &mut HashMap<Group, Rejections>) {
    for row in 0..columns.rows {
        let rule = columns.text("_rule", row).unwrap_or_default().to_owned();
        let group = (rule, columns.text("_name", row).map(str::to_owned));
        let group = match groups.len() < GROUPS_MAX || groups.contains_key(&group) {
            true => group,
            false => (group.0, Some("(other names)".to_owned())),
        };
        let rejections = groups.entry(group).or_default();
        if rejections.rows == 0 {
            columns.text("_reason", row).unwrap_or_default().clone_into(&mut rejections.example);
        }
        rejections.rows += 1;
    }
}

/// A quarantine table as published.
struct QuarantineTable {
    /// The table that the rows were meant for.
    base: TableName,
    location: String,
    snapshot: Arc<Snapshot>,
}

impl QuarantineTable {
    fn files(&self) -> impl Iterator<Item = &lode_lake::LiveFile> {
        self.snapshot.files.iter()
    }
}

/// The table that a quarantine belongs to; `name` may be either.
pub(crate) fn base_of(name: &TableName) -> TableName {
    let base = name.name.strip_suffix("__quarantine").unwrap_or(&name.name);
    TableName::new(name.schema.clone(), base)
}

async fn open(catalog: &Arc<Catalog>, name: &TableName) -> Result<QuarantineTable, Problem> {
    let base = base_of(name);
    match catalog.relation(&base.quarantine()).await? {
        Some(RelationEntry::Table(entry)) => {
            let snapshot = catalog.snapshot(&entry, None).await?;
            Ok(QuarantineTable { base, location: entry.location, snapshot })
        }
        _ => Err(Problem::new(ErrorKind::NotFound, format!("table \"{base}\" has no quarantine"))
            .at(Place::of(base.quarantine().to_string()))
            .fix("list the tables that have one with `lode quarantine list`")),
    }
}

async fn all(catalog: &Arc<Catalog>) -> Result<Vec<QuarantineTable>, Problem> {
    let mut tables = Vec::new();
    for relation in catalog.relations().await? {
        let RelationEntry::Table(entry) = relation else { continue };
        if entry.name.is_quarantine() {
            let snapshot = catalog.snapshot(&entry, None).await?;
            tables.push(QuarantineTable { base: base_of(&entry.name), location: entry.location, snapshot });
        }
    }
    Ok(tables)
}

/// Rows of one file in the types of `quarantine_schema`; all columns, or those of `columns`.
/// Errors: `Unsupported` if rows of it were deleted in place (no writer of ours does that).
async fn read(
    store: &Store,
    table: &QuarantineTable,
    file: &lode_lake::LiveFile,
    columns: &[&str],
) -> Result<BoxStream<'static, Result<RecordBatch, Problem>>, Problem> {
    if file.has_deletes {
        return Err(Problem::new(
            ErrorKind::Unsupported,
            format!("another tool deleted rows of \"{}\" in place", table.base.quarantine()),
        )
        .fix("compact the table with that tool first"));
    }
    let path = DeltaTable::new(store, &table.location).data_path(file)?;
    let damaged = {
        let shown = path.to_string();
        move |error: parquet::errors::ParquetError| {
            Problem::new(ErrorKind::Corrupt, format!("could not read \"{shown}\""))
                .cause(error)
                .at(Place::of(shown.clone()))
                .fix("restore the file from a backup")
        }
    };
    let reader = file_reader::FileReader::new(store, path, file.file.size_bytes);
    let builder = ParquetRecordBatchStreamBuilder::new(reader).await.map_err(&damaged)?;
    let mask = match columns {
        [] => parquet::arrow::ProjectionMask::all(),
        names => parquet::arrow::ProjectionMask::columns(builder.parquet_schema(), names.iter().copied()),
    };
    let batches = builder.with_projection(mask).with_batch_size(1_024).build().map_err(&damaged)?;
    Ok(batches.map(move |batch| batch.map_err(&damaged).and_then(|batch| canonical(&batch))).boxed())
}

/// Columns in the types of `quarantine_schema`, whatever the file has them in.
fn canonical(batch: &RecordBatch) -> Result<RecordBatch, Problem> {
    let schema = quarantine_schema();
    let fail = |error| Problem::new(ErrorKind::Corrupt, "a quarantine file has other columns").cause(error);
    let mut columns: Vec<(String, ArrayRef, bool)> = Vec::with_capacity(batch.num_columns());
    for (field, column) in batch.schema_ref().fields().iter().zip(batch.columns()) {
        let Some((_, wanted)) = schema.column_with_name(field.name()) else { continue };
        columns.push((field.name().clone(), cast(column, wanted.data_type()).map_err(fail)?, wanted.is_nullable()));
    }
    RecordBatch::try_from_iter_with_nullable(columns).map_err(fail)
}

/// Columns of a quarantine batch by name; those that were not read are absent.
struct RejectedColumns {
    texts: HashMap<String, StringViewArray>,
    numbers: HashMap<String, Int64Array>,
    raw: Option<arrow::array::BinaryViewArray>,
    at: Option<arrow::array::TimestampMicrosecondArray>,
    rows: usize,
}

impl RejectedColumns {
    fn new(batch: &RecordBatch) -> Result<Self, Problem> {
        let mut columns =
            Self { texts: HashMap::new(), numbers: HashMap::new(), raw: None, at: None, rows: batch.num_rows() };
        for (field, column) in batch.schema_ref().fields().iter().zip(batch.columns()) {
            if let Some(texts) = column.as_string_view_opt() {
                columns.texts.insert(field.name().clone(), texts.clone());
            } else if let Some(numbers) = column.as_primitive_opt::<Int64Type>() {
                columns.numbers.insert(field.name().clone(), numbers.clone());
            } else if let Some(raw) = column.as_binary_view_opt() {
                columns.raw = Some(raw.clone());
            } else if let Some(at) = column.as_primitive_opt::<TimestampMicrosecondType>() {
                columns.at = Some(at.clone());
            } else {
                return Err(Problem::internal(format!(
                    "column \"{}\" of a quarantine has no known type",
                    field.name()
                )));
            }
        }
        Ok(columns)
    }

    fn text(&self, name: &str, row: usize) -> Option<&str> {
        self.texts.get(name).filter(|texts| texts.is_valid(row)).map(|texts| texts.value(row))
    }

    fn number(&self, name: &str, row: usize) -> Option<i64> {
        self.numbers.get(name).filter(|numbers| numbers.is_valid(row)).map(|numbers| numbers.value(row))
    }

    fn raw(&self, row: usize) -> &[u8] {
        self.raw.as_ref().filter(|raw| raw.is_valid(row)).map_or(&[], |raw| raw.value(row))
    }

    fn matches(&self, row: usize, filter: &QuarantineFilter) -> bool {
        let parts = [("_rule", &filter.rule), ("_name", &filter.name), ("_file", &filter.file)];
        parts.iter().all(|(name, wanted)| wanted.as_deref().is_none_or(|wanted| self.text(name, row) == Some(wanted)))
    }

    fn row(&self, row: usize) -> QuarantinedRow {
        let text = |name: &str| self.text(name, row).map(str::to_owned);
        let at = self.at.as_ref().filter(|at| at.is_valid(row)).map(|at| at.value(row)).unwrap_or_default();
        QuarantinedRow {
            id: text("_id").unwrap_or_default(),
            rule: text("_rule").unwrap_or_default(),
            name: text("_name"),
            reason: text("_reason").unwrap_or_default(),
            source: text("_source").unwrap_or_default(),
            file: text("_file"),
            line: self.number("_line", row),
            offset: self.number("_offset", row),
            raw: shown_bytes(self.raw(row)),
            epoch: self.number("_epoch", row).unwrap_or_default(),
            quarantined_at: DateTime::from_timestamp_micros(at).unwrap_or_default(),
        }
    }
}

/// Bytes so that they can be had back: as they are if they are text, else in PostgreSQL's hex form (`\x4d6f`).
fn shown_bytes(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.starts_with("\\x") => text.to_owned(),
        _ => bytes.iter().fold(String::from("\\x"), |mut shown, byte| {
            for digit in [byte >> 4, byte & 15] {
                shown.extend(char::from_digit(digit.into(), 16));
            }
            shown
        }),
    }
}

/// The rows of `batch` whose bit is false.
fn without(batch: &RecordBatch, taken: &[bool]) -> Result<RecordBatch, Problem> {
    let kept = BooleanArray::from_iter(taken.iter().map(|taken| Some(!taken)));
    filter_record_batch(batch, &kept).map_err(|error| Problem::internal("rows could not be filtered").cause(error))
}
