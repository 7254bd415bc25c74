//! `table_at`, `table_changes`, `table_history`, `table_files`: table functions that look into the past and inside of a table.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Int64Array, RecordBatch, StringViewArray, TimestampMicrosecondArray};
use arrow::datatypes::{Field, Schema};
use chrono::{DateTime, NaiveDateTime, Utc};
use datafusion::catalog::{TableFunctionArgs, TableFunctionImpl, TableProvider};
use datafusion::common::ScalarValue;
use datafusion::datasource::MemTable;
use datafusion::error::{DataFusionError, Result as PlanResult};
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::Expr;

use lode_catalog::{Catalog, RelationEntry, TableEntry};
use lode_core::{ErrorKind, Problem, SnapshotId, SqlSession, TableName};
use lode_lake::{DeltaTable, LakeError};

use crate::problem;
use crate::tables::resolve::Call;
use crate::tables::{LakeTable, Pins};

pub(crate) const TABLE_FUNCTIONS: [&str; 4] = ["table_at", "table_changes", "table_history", "table_files"];
const HISTORY_LIMIT: usize = 10_000;

/// Makes the answers that were looked up before planning callable by name.
pub(crate) fn register_table_functions(state: &mut SessionState, pins: &Pins, default_schema: &str) {
    for name in TABLE_FUNCTIONS {
        let default_schema = default_schema.to_owned();
        state.register_udtf(name, Arc::new(Pinned { name, default_schema, pins: pins.clone() }));
    }
}

#[derive(Debug)]
struct Pinned {
    name: &'static str,
    default_schema: String,
    pins: Pins,
}

impl TableFunctionImpl for Pinned {
    fn call_with_args(&self, arguments: TableFunctionArgs<'_, '_>) -> PlanResult<Arc<dyn TableProvider>> {
        let texts: Option<Vec<String>> = arguments.exprs().iter().map(literal).collect();
        let (name, default_schema) = (self.name.to_owned(), self.default_schema.clone());
        let call = texts.map(|arguments| Call { name, arguments, default_schema });
        call.and_then(|call| self.pins.call(&call.key())).ok_or_else(|| {
            let problem = Problem::new(ErrorKind::Syntax, format!("{}() takes literals only", self.name))
                .fix(format!("write {}", usage(self.name)));
            DataFusionError::External(Box::new(problem))
        })
    }
}

fn literal(expr: &Expr) -> Option<String> {
    match expr {
        Expr::Literal(ScalarValue::Utf8(text) | ScalarValue::Utf8View(text) | ScalarValue::LargeUtf8(text), _) => {
            text.clone()
        }
        Expr::Literal(value, _) => Some(value.to_string()),
        Expr::Cast(cast) => literal(&cast.expr),
        Expr::Negative(inner) => Some(format!("-{}", literal(inner)?)),
        _ => None,
    }
}

fn usage(name: &str) -> &'static str {
    match name {
        "table_at" => "table_at('schema.table', 12) or table_at('schema.table', '2026-01-03 10:00:00')",
        "table_changes" => "table_changes('schema.table', 12), table_changes('schema.table', 12, 15) or with times",
        "table_history" => "table_history('schema.table')",
        _ => "table_files('schema.table')",
    }
}

/// The answer of a call, looked up before planning.
pub(crate) async fn table_function(
    catalog: &Arc<Catalog>,
    name: &str,
    arguments: &[String],
    session: &SqlSession,
) -> Result<Arc<dyn TableProvider>, Problem> {
    let wrong_use = || Problem::new(ErrorKind::Syntax, format!("wrong arguments of {name}()")).fix(usage(name));
    match (name, arguments) {
        ("table_at", [table, at]) => {
            let entry = table_entry(catalog, table, session).await?;
            let version = version(catalog, &entry, at).await?;
            let snapshot = catalog.snapshot(&entry, Some(version)).await?;
            Ok(Arc::new(LakeTable::new(catalog.store(), &entry.location, snapshot).map_err(problem::running)?))
        }
        ("table_changes", [table, from, to @ ..]) if to.len() <= 1 => {
            let entry = table_entry(catalog, table, session).await?;
            let from = first_version(catalog, &entry, from).await?;
            let to = match to.first() {
                Some(to) => version(catalog, &entry, to).await?,
                None => entry.published,
            };
            crate::tables::changes::feed(catalog, &entry, from, to).await
        }
        ("table_history", [table]) => history(catalog, &table_entry(catalog, table, session).await?).await,
        ("table_files", [table]) => files(catalog, &table_entry(catalog, table, session).await?).await,
        _ => Err(wrong_use()),
    }
}

async fn table_entry(catalog: &Arc<Catalog>, text: &str, session: &SqlSession) -> Result<TableEntry, Problem> {
    let name: TableName =
        if text.contains('.') { text.parse()? } else { TableName::new(&session.default_schema, text) };
    match catalog.relation(&name).await? {
        Some(RelationEntry::Table(entry)) => Ok(entry),
        Some(RelationEntry::View(_)) => Err(Problem::new(ErrorKind::Unsupported, format!("\"{name}\" is a view"))
            .fix("a view has no versions; ask its tables")),
        None => Err(Problem::new(ErrorKind::NotFound, format!("table \"{name}\" does not exist"))
            .fix("`show tables` lists what there is")),
    }
}

async fn version(catalog: &Arc<Catalog>, entry: &TableEntry, at: &str) -> Result<SnapshotId, Problem> {
    if let Ok(number) = at.trim().parse::<i64>() {
        if number > entry.published.0 || number < 0 {
            let newest = entry.published;
            return Err(Problem::new(ErrorKind::NotFound, format!("table \"{}\" has no version {number}", entry.name))
                .fix(format!("versions 0 to {newest} exist; `table_history` lists them")));
        }
        return Ok(SnapshotId(number));
    }
    let time = moment(at).ok_or_else(|| {
        Problem::new(ErrorKind::Data, format!("\"{at}\" is neither a version nor a time")).fix(usage("table_at"))
    })?;
    match DeltaTable::new(catalog.store(), &entry.location).version_at(time).await {
        Ok(found) => Ok(found.min(entry.published)),
        Err(LakeError::NoSnapshot { .. }) => {
            Err(Problem::new(ErrorKind::NotFound, format!("table \"{}\" has no version as old as {at}", entry.name))
                .fix("`table_history` lists its versions and their times"))
        }
        Err(error) => Err(error.into()),
    }
}

/// The first version of a feed: one, or the first one after a time.
async fn first_version(catalog: &Arc<Catalog>, entry: &TableEntry, at: &str) -> Result<SnapshotId, Problem> {
    let Some(time) = moment(at).filter(|_| at.trim().parse::<i64>().is_err()) else {
        return version(catalog, entry, at).await;
    };
    match DeltaTable::new(catalog.store(), &entry.location).version_at(time).await {
        Ok(before) => Ok(before.next()),
        Err(LakeError::NoSnapshot { .. }) => Ok(SnapshotId(0)),
        Err(error) => Err(error.into()),
    }
}

fn moment(text: &str) -> Option<DateTime<Utc>> {
    let text = text.trim();
    if let Ok(time) = DateTime::parse_from_rfc3339(text) {
        return Some(time.to_utc());
    }
    let with_zone = DateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S%.f%#z").ok().map(|time| time.to_utc());
    let formats = ["%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M"];
    let plain = formats.iter().find_map(|format| NaiveDateTime::parse_from_str(text, format).ok());
    let day = || chrono::NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?.and_hms_opt(0, 0, 0);
    with_zone.or_else(|| plain.or_else(day).map(|time| time.and_utc()))
}

async fn history(catalog: &Arc<Catalog>, entry: &TableEntry) -> Result<Arc<dyn TableProvider>, Problem> {
    let commits = DeltaTable::new(catalog.store(), &entry.location).history(HISTORY_LIMIT).await?;
    let commits: Vec<_> = commits.into_iter().filter(|commit| commit.version <= entry.published).collect();
    let numbers = |values: Vec<Option<i64>>| Arc::new(Int64Array::from(values)) as ArrayRef;
    let committed: TimestampMicrosecondArray =
        commits.iter().map(|commit| Some(commit.committed_at.timestamp_micros())).collect();
    let texts = |values: Vec<&str>| Arc::new(StringViewArray::from(values)) as ArrayRef;
    memory(vec![
        ("version", numbers(commits.iter().map(|commit| Some(commit.version.0)).collect())),
        ("committed_at", Arc::new(committed.with_timezone("UTC"))),
        ("operation", texts(commits.iter().map(|commit| commit.operation.as_str()).collect())),
        ("engine", texts(commits.iter().map(|commit| commit.engine.as_str()).collect())),
        ("rows_added", numbers(commits.iter().map(|commit| commit.rows_added.map(|rows| rows as i64)).collect())),
        ("files_added", numbers(commits.iter().map(|commit| Some(commit.files_added as i64)).collect())),
        ("files_removed", numbers(commits.iter().map(|commit| Some(commit.files_removed as i64)).collect())),
    ])
}

async fn files(catalog: &Arc<Catalog>, entry: &TableEntry) -> Result<Arc<dyn TableProvider>, Problem> {
    let snapshot = catalog.snapshot(entry, None).await?;
    let live = snapshot.files.as_slice();
    let paths: StringViewArray = live.iter().map(|live| Some(live.file.path.as_str())).collect();
    let sizes: Int64Array = live.iter().map(|live| Some(live.file.size_bytes as i64)).collect();
    let rows: Int64Array =
        live.iter().map(|live| live.file.stats.as_ref().map(|stats| stats.num_records as i64)).collect();
    let partitions: StringViewArray = live
        .iter()
        .map(|live| {
            let values = &live.file.partition_values;
            (!values.is_empty()).then(|| serde_json::to_string(values).unwrap_or_default())
        })
        .collect();
    let deletes: BooleanArray = live.iter().map(|live| Some(live.has_deletes)).collect();
    let modified: TimestampMicrosecondArray =
        live.iter().map(|live| Some(live.file.modified_ms.saturating_mul(1_000))).collect();
    memory(vec![
        ("path", Arc::new(paths)),
        ("size_bytes", Arc::new(sizes)),
        ("rows", Arc::new(rows)),
        ("partition", Arc::new(partitions)),
        ("has_deletes", Arc::new(deletes)),
        ("modified_at", Arc::new(modified.with_timezone("UTC"))),
    ])
}

fn memory(columns: Vec<(&str, ArrayRef)>) -> Result<Arc<dyn TableProvider>, Problem> {
    let fields = columns.iter().map(|(name, column)| Field::new(*name, column.data_type().clone(), true));
    let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    let batch = RecordBatch::try_new(Arc::clone(&schema), columns.into_iter().map(|(_, column)| column).collect())
        .map_err(|error| problem::arrow(&error))?;
    Ok(Arc::new(MemTable::try_new(schema, vec![vec![batch]]).map_err(problem::running)?))
}
