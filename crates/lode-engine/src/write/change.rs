//! DELETE and UPDATE as one epoch: the touched rows die where they stand, their new forms are added.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{Int32Type, Int64Type};
use datafusion::sql::parser::Statement;
use futures::{TryStreamExt, future};

use lode_catalog::{CatalogError, Pipeline, RelationEntry, SealContent};
use lode_core::{Prepared, Problem, SnapshotId, SqlSession, TableName, WriteMode, WriteSpec, fail};

use super::lane::{Lane, LaneEnd};
use super::old::{Dead, Old};
use super::target::Target;
use super::{Attempt, Author, Rows, changes};
use crate::engine::Inner;

/// Tries of a statement whose table is changed by others while it runs.
const TRIES: usize = 8;
/// Columns of the query in front of the new row: file and position.
const PLACE_COLUMNS: usize = 2;

/// What a statement does to rows.
pub(crate) struct RowChange {
    pub(crate) target: TableName,
    /// Gives file and position of each touched row, and with `writes_rows` its new form.
    pub(crate) query: Statement,
    pub(crate) writes_rows: bool,
}

impl Inner {
    /// Runs a change and returns the number of rows that it touched. Nothing is committed when there are none.
    pub(crate) async fn change_rows(
        self: &Arc<Self>,
        author: Author,
        change: RowChange,
        sql: &str,
        session: &SqlSession,
    ) -> Result<u64, Problem> {
        let pipeline = self.catalog.pipeline(author.kind, &change.target.to_string(), None).await?;
        let mut tries = 0;
        loop {
            let prepared = self.plan_positioned(change.query.clone(), sql, session, &change.target).await?;
            match self.change_once(&pipeline, author, &change, prepared).await {
                // The rows are looked for again in what is there now.
                Err(Attempt::SealLost(_)) if tries + 1 < TRIES => tries += 1,
                other => return other.map_err(Attempt::into_problem),
            }
        }
    }

    async fn change_once(
        self: &Arc<Self>,
        pipeline: &Pipeline,
        author: Author,
        change: &RowChange,
        prepared: Prepared,
    ) -> Result<u64, Attempt> {
        let draft = self.catalog.begin(pipeline).await?;
        let spec = WriteSpec::new(change.target.clone(), WriteMode::Append);
        let snapshot = prepared.inputs.iter().find(|input| input.table == change.target).map(|input| input.snapshot);
        let Some(RelationEntry::Table(entry)) = self.catalog.relation(&change.target).await? else {
            return Err(self.no_relation(&change.target).await.into());
        };
        let now = self.catalog.snapshot(&entry, None).await?;
        let target = Target::open(self, &draft, &spec, now.schema()).await?;
        if Some(target.base) != snapshot || target.base == SnapshotId::NONE {
            let reason = "was changed while the statement looked for its rows".to_owned();
            return Err(CatalogError::Conflict { table: change.target.clone(), reason }.into());
        }
        let shared = Arc::new(self.shared(&draft, &target, &spec)?);
        let rows = Rows::Plan(prepared);
        let (mut inputs, fingerprints) = (rows.inputs(), rows.fingerprints());
        inputs.remove(&change.target.to_string());
        let writes_rows = change.writes_rows;
        let lanes = self.partitions(rows).await?.into_iter().map(|mut stream| {
            let shared = Arc::clone(&shared);
            self.cpu.spawn(async move {
                let mut lane = Lane::new(shared);
                let mut dead = Dead::new();
                while let Some(batch) = stream.try_next().await? {
                    note(&batch, &mut dead)?;
                    if writes_rows {
                        let columns: Vec<usize> = (PLACE_COLUMNS..batch.num_columns()).collect();
                        let new = batch.project(&columns).map_err(|error| crate::problem::arrow(&error))?;
                        lane.write(&new)?;
                    }
                }
                Ok::<_, Problem>((dead, lane.finish()?))
            })
        });
        let lanes: Vec<_> = lanes.collect();
        let ends = future::try_join_all(lanes.into_iter().map(|lane| async move { lane.join().await? })).await?;
        let mut dead: Dead = BTreeMap::new();
        let mut files = Vec::with_capacity(ends.len());
        for (part, end) in ends {
            for (file, rows) in part {
                *dead.entry(file).or_default() |= rows;
            }
            files.push(end);
        }
        let touched = dead.values().map(roaring::RoaringTreemap::len).sum();
        let (Some(table), true) = (Old::of(self, &target), touched > 0) else { return Ok(0) };
        let mut end = LaneEnd::sum(&shared, files);
        end.take(self.retire(&table, &shared, dead).await?);
        fail::point("engine.write.files_written")?;
        let (counts, rules) = (end.counts(), end.rules.clone());
        let tables = changes(&target, &shared, &spec, author, end);
        let content = SealContent { fingerprints, inputs, tables, counts, ..SealContent::default() };
        self.publish(draft, content, &spec, rules).await?;
        Ok(touched)
    }
}

/// Takes note of where the rows of a batch stand.
fn note(batch: &RecordBatch, dead: &mut Dead) -> Result<(), Problem> {
    let missing = || Problem::internal("a touched row has no place");
    let (Some(files), Some(positions)) = (batch.columns().first(), batch.columns().get(1)) else {
        return Err(missing());
    };
    let files = files.as_primitive_opt::<Int32Type>().ok_or_else(missing)?;
    let positions = positions.as_primitive_opt::<Int64Type>().ok_or_else(missing)?;
    if files.null_count() + positions.null_count() > 0 {
        return Err(missing());
    }
    for (file, position) in files.values().iter().zip(positions.values()) {
        dead.entry(file.unsigned_abs() as usize).or_default().insert(position.unsigned_abs());
    }
    Ok(())
}
