//! The change feed of a table: what each commit did to its rows, computed from files and positions when it is asked for.

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::catalog::TableProvider;
use datafusion::common::{Column, ScalarValue};
use datafusion::datasource::{ViewTable, provider_as_source};
use datafusion::error::Result as PlanResult;
use datafusion::functions_aggregate::expr_fn::sum;
use datafusion::functions_aggregate::min_max::max_udaf;
use datafusion::functions_nested::expr_fn::gen_series;
use datafusion::logical_expr::expr::WindowFunction;
use datafusion::logical_expr::{Expr, ExprFunctionExt, LogicalPlan, LogicalPlanBuilder, lit, when};

use lode_catalog::{Catalog, TableEntry};
use lode_core::{ErrorKind, Problem, SnapshotId};
use lode_lake::{CommitChanges, DeltaTable, LakeError, LiveFile, Snapshot};

use super::LakeTable;
use crate::problem;

/// Columns behind those of the table, named as in Delta's change data feed.
const CHANGE: &str = "_change_type";
const VERSION: &str = "_commit_version";
const TIME: &str = "_commit_timestamp";
/// 1 for a row that came, -1 for one that went; then the sum of equal rows, and a column of so many repeats.
const SIGN: &str = "__lode_sign";
const REPEAT: &str = "__lode_repeat";
/// Commits in one feed: each is a part of the plan.
const COMMITS_MAX: usize = 500;

/// The changes from one version to another, both included. A row that was only written anew, with its file, is no change;
/// where the table has a key, a row that went and one that came with the same key are an update.
/// Errors: `NotFound` for versions that the log no longer holds; `Usage` for too many commits.
pub(crate) async fn feed(
    catalog: &Arc<Catalog>,
    entry: &TableEntry,
    from: SnapshotId,
    to: SnapshotId,
) -> Result<Arc<dyn TableProvider>, Problem> {
    let table = DeltaTable::new(catalog.store(), &entry.location);
    let commits = match table.row_changes(from, to).await {
        Ok(commits) => commits,
        Err(error @ (LakeError::NotFound { .. } | LakeError::Cleaned { .. })) => {
            let what = format!("the log of \"{}\" no longer holds the changes from version {from}", entry.name);
            return Err(Problem::new(ErrorKind::NotFound, what)
                .cause(error)
                .fix("begin later: `table_history` lists the versions that are there"));
        }
        Err(error) => return Err(error.into()),
    };
    if commits.len() > COMMITS_MAX {
        let what = format!("{} commits are more than one feed takes ({COMMITS_MAX})", commits.len());
        return Err(Problem::new(ErrorKind::Usage, what).fix("ask for fewer versions at a time"));
    }
    let snapshot = catalog.snapshot(entry, Some(to)).await?;
    let feed = Feed { catalog, entry, key: key_of(&snapshot), snapshot };
    let plan = feed.plan(&commits).map_err(problem::running)?;
    Ok(Arc::new(ViewTable::new(plan, None)))
}

/// Columns of the table's key; none when it has none.
fn key_of(snapshot: &Snapshot) -> Vec<String> {
    let columns = snapshot.definition.properties.get(lode_core::KEY);
    let columns: Vec<String> = columns.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
    let are_there = columns.iter().all(|name| snapshot.schema().field_with_name(name).is_ok());
    if are_there { columns } else { Vec::new() }
}

struct Feed<'a> {
    catalog: &'a Arc<Catalog>,
    entry: &'a TableEntry,
    snapshot: Arc<Snapshot>,
    key: Vec<String>,
}

impl Feed<'_> {
    fn plan(&self, commits: &[CommitChanges]) -> PlanResult<LogicalPlan> {
        let mut parts = commits.iter().map(|commit| self.commit(commit));
        let first = match parts.next() {
            Some(first) => first?,
            None => return self.nothing(),
        };
        parts.try_fold(first, |all, part| all.union(part?.build()?))?.build()
    }

    fn nothing(&self) -> PlanResult<LogicalPlan> {
        let none = CommitChanges {
            version: SnapshotId(0),
            committed_at: chrono::DateTime::UNIX_EPOCH,
            came: Vec::new(),
            gone: Vec::new(),
        };
        self.commit(&none)?.filter(lit(false))?.build()
    }

    fn columns(&self) -> Vec<Expr> {
        self.snapshot.schema().fields().iter().map(|field| Expr::Column(Column::from_name(field.name()))).collect()
    }

    /// Rows of some files, with a sign.
    fn rows(&self, files: &[LiveFile], sign: i64) -> PlanResult<LogicalPlanBuilder> {
        let mut snapshot = self.snapshot.as_ref().clone();
        snapshot.files = Arc::new(files.to_vec());
        let table = LakeTable::new(self.catalog.store(), &self.entry.location, Arc::new(snapshot))?;
        let source = provider_as_source(Arc::new(table));
        let rows = LogicalPlanBuilder::scan("changed", source, None)?;
        let columns = self.columns().into_iter().chain([lit(sign).alias(SIGN)]);
        rows.project(columns.collect::<Vec<_>>())
    }

    fn commit(&self, commit: &CommitChanges) -> PlanResult<LogicalPlanBuilder> {
        let mut rows = self.rows(&commit.came, 1)?.union(self.rows(&commit.gone, -1)?.build()?)?;
        let has_maps =
            self.snapshot.schema().fields().iter().any(|field| matches!(field.data_type(), DataType::Map(..)));
        // Only a file that was written anew brings back what it takes. Maps cannot be grouped.
        if !commit.came.is_empty() && !commit.gone.is_empty() && !has_maps {
            rows = self.without_equal_ones(rows)?;
        }
        let sign = Expr::Column(Column::from_name(SIGN));
        let is_insert = sign.gt(lit(0_i64));
        let mut change = when(is_insert.clone(), lit("insert")).otherwise(lit("delete"))?;
        if !self.key.is_empty() && !commit.came.is_empty() && !commit.gone.is_empty() {
            let key: Vec<Expr> = self.key.iter().map(|name| Expr::Column(Column::from_name(name))).collect();
            let has_key = key.iter().cloned().map(Expr::is_not_null).reduce(Expr::and).unwrap_or_else(|| lit(true));
            let has = |side: Expr| -> PlanResult<Expr> {
                let flag = when(side, lit(1_i64)).otherwise(lit(0_i64))?;
                Expr::from(WindowFunction::new(max_udaf(), vec![flag])).partition_by(key.clone()).build()
            };
            let (came, went) =
                (has(is_insert.clone())?.alias("__lode_came"), has(is_insert.clone().is_false())?.alias("__lode_went"));
            rows = rows.window([came, went])?;
            let column = |name: &str| Expr::Column(Column::from_name(name)).eq(lit(1_i64));
            let is_update = has_key.and(column("__lode_came")).and(column("__lode_went"));
            let update = when(is_insert, lit("update_postimage")).otherwise(lit("update_preimage"))?;
            change = when(is_update, update).otherwise(change)?;
        }
        let time = ScalarValue::TimestampMicrosecond(Some(commit.committed_at.timestamp_micros()), Some("UTC".into()));
        let columns = self.columns().into_iter().chain([
            datafusion::logical_expr::cast(change, DataType::Utf8View).alias(CHANGE),
            lit(commit.version.0).alias(VERSION),
            lit(time).alias(TIME),
        ]);
        rows.project(columns.collect::<Vec<_>>())
    }

    /// Equal rows that went and came cancel each other, one for one.
    fn without_equal_ones(&self, rows: LogicalPlanBuilder) -> PlanResult<LogicalPlanBuilder> {
        let sign = Expr::Column(Column::from_name(SIGN));
        let summed = rows.aggregate(self.columns(), [sum(sign.clone()).alias(SIGN)])?;
        let changed = summed.filter(sign.clone().not_eq(lit(0_i64)))?;
        let count =
            when(sign.clone().gt(lit(0_i64)), sign.clone()).otherwise(Expr::Negative(Box::new(sign.clone())))?;
        let repeats = gen_series(lit(1_i64), count, lit(1_i64)).alias(REPEAT);
        let columns = self.columns().into_iter().chain([sign.clone(), repeats]);
        let repeated = changed.project(columns.collect::<Vec<_>>())?.unnest_column(REPEAT)?;
        repeated.project(self.columns().into_iter().chain([sign]).collect::<Vec<_>>())
    }
}
