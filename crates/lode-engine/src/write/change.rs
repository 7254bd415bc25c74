//! DELETE and UPDATE as one epoch: the touched rows die where they stand, their new forms are added.

use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{Int32Type, Int64Type};
use datafusion::sql::parser::Statement;
use futures::{TryStreamExt, future};

use lode_catalog::{CatalogError, Pipeline, RelationEntry, SealContent};
use lode_core::{ErrorKind, Prepared, Problem, SnapshotId, SqlSession, TableName, WriteMode, WriteSpec, fail};

use super::lane::{Lane, LaneEnd};
use super::old::{Dead, Old};
use super::target::Target;
use super::{Attempt, Author, Rows, changes};
use crate::engine::Inner;

/// Tries of a statement whose table is changed by others while it runs.
const TRIES: usize = 8;
/// Columns of the query in front of the new row: file and position, and the mark of `NewRows::Marked`.
const PLACE_COLUMNS: usize = 2;
const MARKED_COLUMNS: usize = 3;

/// What a statement does to rows.
pub(crate) struct RowChange {
    pub(crate) target: TableName,
    /// Gives file and position of each touched row, and what `new` says.
    pub(crate) query: Statement,
    pub(crate) new: NewRows,
    pub(crate) repeats: Repeats,
}

/// Which rows of the query are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NewRows {
    /// None: the touched ones only go.
    None,
    /// The columns behind the place are the new form of each.
    All,
    /// The third column says whether there is a new form; a row without a place is new in the table.
    Marked,
}

/// What it means that the query gives a row of the table twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Repeats {
    Count,
    /// Two new forms of one row: which one wins would be chance.
    Refuse,
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
        let new = change.new;
        let lanes = self.partitions(rows).await?.into_iter().map(|mut stream| {
            let shared = Arc::clone(&shared);
            self.cpu.spawn(async move {
                let mut lane = Lane::new(shared);
                let mut seen = Seen::default();
                while let Some(batch) = stream.try_next().await? {
                    seen.note(&batch, new == NewRows::Marked)?;
                    if let Some(rows) = new_rows(&batch, new)? {
                        lane.write(&rows)?;
                    }
                }
                Ok::<_, Problem>((seen, lane.finish()?))
            })
        });
        let lanes: Vec<_> = lanes.collect();
        let ends = future::try_join_all(lanes.into_iter().map(|lane| async move { lane.join().await? })).await?;
        let mut seen = Seen::default();
        let mut files = Vec::with_capacity(ends.len());
        for (part, end) in ends {
            seen.add(part);
            files.push(end);
        }
        let Seen { dead, places, inserted } = seen;
        let touched: u64 = dead.values().map(roaring::RoaringTreemap::len).sum();
        if change.repeats == Repeats::Refuse && places > touched {
            return Err(repeated(&change.target).into());
        }
        let (Some(table), true) = (Old::of(self, &target), touched + inserted > 0) else { return Ok(0) };
        let mut end = LaneEnd::sum(&shared, files);
        end.take(self.retire(&table, &shared, dead).await?);
        fail::point("engine.write.files_written")?;
        let (counts, rules) = (end.counts(), end.rules.clone());
        let tables = changes(&target, &shared, &spec, author, true, end);
        let content = SealContent { fingerprints, inputs, tables, counts, ..SealContent::default() };
        self.publish(draft, content, &spec, rules).await?;
        Ok(touched + inserted)
    }
}

/// The rows that a lane met.
#[derive(Default)]
struct Seen {
    dead: Dead,
    /// Rows with a place, each time that they came.
    places: u64,
    /// Rows without one.
    inserted: u64,
}

impl Seen {
    fn add(&mut self, other: Self) {
        for (file, rows) in other.dead {
            *self.dead.entry(file).or_default() |= rows;
        }
        self.places += other.places;
        self.inserted += other.inserted;
    }

    /// Takes note of where the rows of a batch stand.
    fn note(&mut self, batch: &RecordBatch, may_be_new: bool) -> Result<(), Problem> {
        let missing = || Problem::internal("a touched row has no place");
        let (Some(files), Some(positions)) = (batch.columns().first(), batch.columns().get(1)) else {
            return Err(missing());
        };
        let files = files.as_primitive_opt::<Int32Type>().ok_or_else(missing)?;
        let positions = positions.as_primitive_opt::<Int64Type>().ok_or_else(missing)?;
        for (file, position) in files.iter().zip(positions) {
            match (file, position) {
                (Some(file), Some(position)) => {
                    self.dead.entry(file.unsigned_abs() as usize).or_default().insert(position.unsigned_abs());
                    self.places += 1;
                }
                (None, None) if may_be_new => self.inserted += 1,
                _ => return Err(missing()),
            }
        }
        Ok(())
    }
}

/// The new forms in a batch of the query.
fn new_rows(batch: &RecordBatch, new: NewRows) -> Result<Option<RecordBatch>, Problem> {
    let front = match new {
        NewRows::None => return Ok(None),
        NewRows::All => PLACE_COLUMNS,
        NewRows::Marked => MARKED_COLUMNS,
    };
    let columns: Vec<usize> = (front..batch.num_columns()).collect();
    let rows = batch.project(&columns).map_err(|error| crate::problem::arrow(&error))?;
    if new == NewRows::All {
        return Ok(Some(rows));
    }
    let marks = batch.columns().get(PLACE_COLUMNS).and_then(|column| column.as_boolean_opt());
    let marks = marks.ok_or_else(|| Problem::internal("a merge does not say which rows are new"))?;
    filter_record_batch(&rows, marks).map(Some).map_err(|error| crate::problem::arrow(&error))
}

/// As PostgreSQL refuses it in a MERGE (21000).
fn repeated(table: &TableName) -> Problem {
    let what = format!("a row of \"{table}\" is matched by more than one row of the source; nothing was written");
    Problem::new(ErrorKind::Data, what)
        .fix("let the source give one row for each row of the table: group it, or number its rows and keep `n = 1`")
}
