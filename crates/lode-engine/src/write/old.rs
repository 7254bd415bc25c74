//! The rows that were there before a write: found by key, taken out, written anew.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion::catalog::TableProvider;
use datafusion::common::{Column, ScalarValue};
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::{Expr, lit};
use datafusion::physical_plan::{SendableRecordBatchStream, execute_stream};
use futures::{TryStreamExt, future};
use roaring::RoaringTreemap;

use lode_core::{Problem, SqlSession};
use lode_lake::{DataFile, DeadRows, DeltaTable, Found, KeyIndex, LiveFile, Snapshot, Store};

use super::conform::conform;
use super::lane::Shared;
use super::merge::Keys;
use super::target::Target;
use crate::engine::Inner;
use crate::problem;
use crate::tables::{LakeTable, Pins};

/// A file that loses more than one in so many of its living rows is written anew; one that loses fewer gets a vector.
/// A vector costs each later reader a look at it, the rest of the file costs this writer once.
const REWRITTEN_SHARE: u64 = 4;

/// Dead rows by place of their file in the snapshot.
pub(crate) type Dead = BTreeMap<usize, RoaringTreemap>;

/// Old files that were written anew, or go without, and rows that die in those that stay.
#[derive(Default)]
pub(crate) struct Moved {
    pub(crate) files: Vec<DataFile>,
    pub(crate) removed: Vec<String>,
    pub(crate) dead: Vec<DeadRows>,
}

impl Moved {
    fn sum(parts: impl IntoIterator<Item = Self>) -> Self {
        parts.into_iter().fold(Self::default(), |mut sum, part| {
            sum.files.extend(part.files);
            sum.removed.extend(part.removed);
            sum.dead.extend(part.dead);
            sum
        })
    }
}

impl Inner {
    /// Writes all old rows anew, in the table's new definition, but those with a key of the new rows.
    pub(super) async fn rewrite_all(
        &self,
        target: &Target,
        shared: &Arc<Shared>,
        keys: Option<Arc<Keys>>,
    ) -> Result<Moved, Problem> {
        let Some(table) = Old::of(self, target) else { return Ok(Moved::default()) };
        let work = split(0..table.snapshot.files.len(), &table, self.options.partitions).into_iter().map(|chunk| {
            let (shared, keys, table) = (Arc::clone(shared), keys.clone(), Arc::clone(&table));
            self.cpu.spawn(async move {
                let mut moved = Moved::default();
                let mut writer = None;
                for file in chunk.iter().filter_map(|at| table.snapshot.files.get(*at)) {
                    let mut rows = table.rows(file, None).await?;
                    while let Some(batch) = rows.try_next().await.map_err(problem::running)? {
                        let batch = conform(&batch, &shared.definition.schema)?;
                        let stays = keys.as_ref().map(|keys| keys.untouched(&batch)).transpose()?;
                        let batch = kept(batch, stays.as_ref())?;
                        if batch.num_rows() > 0 {
                            writer.get_or_insert_with(|| shared.writer()).write(&batch)?;
                        }
                    }
                    moved.removed.push(file.file.path.clone());
                }
                moved.files = writer.map_or_else(|| Ok(Vec::new()), lode_lake::TableWriter::finish)?;
                Ok::<_, Problem>(moved)
            })
        });
        let work: Vec<_> = work.collect();
        let parts = future::try_join_all(work.into_iter().map(|part| async move { part.join().await? })).await?;
        Ok(Moved::sum(parts))
    }

    /// The old rows that have a key of the new ones: by the key index, and in files that it does not cover by looking, if
    /// their statistics reach the keys.
    pub(super) async fn rows_with_keys(
        &self,
        table: &Arc<Old>,
        shared: &Arc<Shared>,
        mut keys: Keys,
    ) -> Result<Dead, Problem> {
        let reach = keys.reach()?;
        let keys = Arc::new(keys);
        let indexed = self.indexed(table, &keys).await?;
        let (mut dead, uncovered) = indexed.map_or((Dead::new(), None), |found| (found.rows, Some(found.uncovered)));
        let mut files = match &uncovered {
            Some(uncovered) if uncovered.is_empty() => Vec::new(),
            _ => {
                let (table, columns) = (Arc::clone(table), keys.columns.clone());
                self.cpu.run(async move { table.files_in_reach(&columns, reach) }).await?
            }
        };
        if let Some(uncovered) = uncovered {
            files.retain(|at| uncovered.binary_search(at).is_ok());
        }
        let work = split(files, table, self.options.partitions).into_iter().map(|chunk| {
            let (table, keys, schema) = (Arc::clone(table), Arc::clone(&keys), Arc::clone(&shared.definition.schema));
            self.cpu.spawn(async move {
                let mut dead = Vec::new();
                for at in chunk {
                    let Some(file) = table.snapshot.files.get(at) else { continue };
                    let rows = table.positions_of(file, &keys, &schema).await?;
                    if !rows.is_empty() {
                        dead.push((at, rows));
                    }
                }
                Ok::<_, Problem>(dead)
            })
        });
        let work: Vec<_> = work.collect();
        let parts = future::try_join_all(work.into_iter().map(|part| async move { part.join().await? })).await?;
        dead.extend(parts.into_iter().flatten());
        Ok(dead)
    }

    /// What the key index knows of the keys; `None` for keys that it cannot hold.
    async fn indexed(&self, table: &Arc<Old>, keys: &Arc<Keys>) -> Result<Option<Found>, Problem> {
        let opened = {
            let (table, keys) = (Arc::clone(table), Arc::clone(keys));
            self.cpu.run(async move {
                let Some((encoder, numbers)) = keys.numbers() else { return Ok(None) };
                let index = KeyIndex::open(&table.store, &table.location, &table.snapshot, encoder).await?;
                Ok::<_, Problem>(Some(Arc::new((index, numbers))))
            })
        };
        let Some(opened) = opened.await? else { return Ok(None) };
        let parts = self.options.partitions.max(1);
        let looks = (0..parts).map(|part| {
            let opened = Arc::clone(&opened);
            self.cpu.spawn(async move {
                let (index, numbers) = opened.as_ref();
                Ok::<_, Problem>(index.find(numbers, part, parts).await?)
            })
        });
        let looks: Vec<_> = looks.collect();
        let found = future::try_join_all(looks.into_iter().map(|look| async move { look.join().await? })).await?;
        Ok(found.into_iter().reduce(Found::and))
    }

    /// Takes rows out of the table: by a vector, by writing the rest of their file anew, or with the whole file.
    pub(super) async fn retire(&self, table: &Arc<Old>, shared: &Arc<Shared>, dead: Dead) -> Result<Moved, Problem> {
        let dead = Arc::new(dead);
        let small_bytes = self.options.rewritten_below_bytes;
        let work = split(dead.keys().copied(), table, self.options.partitions).into_iter().map(|chunk| {
            let (table, shared, dead) = (Arc::clone(table), Arc::clone(shared), Arc::clone(&dead));
            self.cpu.spawn(async move {
                let mut moved = Moved::default();
                let mut writer = None;
                for at in chunk {
                    let (Some(file), Some(rows)) = (table.snapshot.files.get(at), dead.get(&at)) else { continue };
                    let before = table.deleted(file).await?;
                    let new = rows - &before;
                    if new.is_empty() {
                        continue;
                    }
                    // A vector needs the number of rows beside it (Delta protocol, "Per-file Statistics").
                    let living = file.live_row_count();
                    let keeps_most = living.is_some_and(|living| new.len().saturating_mul(REWRITTEN_SHARE) <= living);
                    let path = file.file.path.clone();
                    if living.is_some_and(|living| new.len() >= living) {
                        moved.removed.push(path);
                    } else if file.file.size_bytes < small_bytes || !keeps_most {
                        let gone = before | rows;
                        let mut stream = table.rows(&file.whole(), None).await?;
                        let mut first = 0;
                        while let Some(batch) = stream.try_next().await.map_err(problem::running)? {
                            let batch = conform(&batch, &shared.definition.schema)?;
                            let rows = batch.num_rows() as u64;
                            let stays: BooleanArray =
                                (first..first + rows).map(|at| Some(!gone.contains(at))).collect();
                            first += rows;
                            let batch = kept(batch, Some(&stays))?;
                            if batch.num_rows() > 0 {
                                writer.get_or_insert_with(|| shared.writer()).write(&batch)?;
                            }
                        }
                        moved.removed.push(path);
                    } else {
                        moved.dead.push(DeadRows { path, rows: new });
                    }
                }
                moved.files = writer.map_or_else(|| Ok(Vec::new()), lode_lake::TableWriter::finish)?;
                Ok::<_, Problem>(moved)
            })
        });
        let work: Vec<_> = work.collect();
        let parts = future::try_join_all(work.into_iter().map(|part| async move { part.join().await? })).await?;
        Ok(Moved::sum(parts))
    }
}

fn kept(batch: RecordBatch, stays: Option<&BooleanArray>) -> Result<RecordBatch, Problem> {
    match stays {
        Some(stays) => filter_record_batch(&batch, stays).map_err(|error| problem::arrow(&error)),
        None => Ok(batch),
    }
}

/// Files dealt out over `lanes`, large ones first so that no lane gets all of them.
fn split(files: impl IntoIterator<Item = usize>, table: &Old, lanes: usize) -> Vec<Vec<usize>> {
    let mut files: Vec<usize> = files.into_iter().collect();
    files.sort_by_key(|at| std::cmp::Reverse(table.snapshot.files.get(*at).map(|live| live.file.size_bytes)));
    let mut dealt = vec![Vec::new(); lanes.max(1).min(files.len())];
    let lanes = dealt.len();
    for (turn, file) in files.into_iter().enumerate() {
        if let Some(lane) = dealt.get_mut(turn % lanes.max(1)) {
            lane.push(file);
        }
    }
    dealt
}

/// The table before the write, read file by file.
pub(crate) struct Old {
    store: Store,
    location: String,
    state: SessionState,
    pub(crate) snapshot: Arc<Snapshot>,
}

impl Old {
    /// `None` for a new table.
    pub(super) fn of(inner: &Inner, target: &Target) -> Option<Arc<Self>> {
        Some(Arc::new(Self::new(inner, &target.location, Arc::clone(target.old.as_ref()?))))
    }

    /// A table at one snapshot.
    pub(crate) fn new(inner: &Inner, location: &str, snapshot: Arc<Snapshot>) -> Self {
        Self {
            store: inner.catalog.store().clone(),
            location: location.to_owned(),
            state: inner.sessions.state(&SqlSession::new(inner.catalog.now()), &Pins::default()),
            snapshot,
        }
    }

    /// Living rows of one file in the order of the file.
    pub(crate) async fn rows(
        &self,
        file: &LiveFile,
        projection: Option<&Vec<usize>>,
    ) -> Result<SendableRecordBatchStream, Problem> {
        let mut snapshot = self.snapshot.as_ref().clone();
        snapshot.files = Arc::new(vec![file.clone()]);
        let table = LakeTable::new(&self.store, &self.location, Arc::new(snapshot)).map_err(problem::running)?;
        let plan = table.scan(&self.state, projection, &[], None).await.map_err(problem::running)?;
        execute_stream(plan, self.state.task_ctx()).map_err(problem::running)
    }

    /// Rows of a file that are dead already.
    async fn deleted(&self, file: &LiveFile) -> Result<RoaringTreemap, Problem> {
        let table = DeltaTable::new(&self.store, &self.location);
        Ok(table.deleted_rows(file).await?.unwrap_or_default())
    }

    /// Files whose statistics do not rule out that they hold a touched key.
    fn files_in_reach(
        &self,
        columns: &[String],
        reach: Option<(ScalarValue, ScalarValue)>,
    ) -> Result<Vec<usize>, Problem> {
        let all = || (0..self.snapshot.files.len()).collect::<Vec<usize>>();
        let (Some(column), Some((lowest, highest))) = (columns.first(), reach) else { return Ok(all()) };
        let table =
            LakeTable::new(&self.store, &self.location, Arc::clone(&self.snapshot)).map_err(problem::running)?;
        let schema = table.schema();
        let Ok(field) = schema.field_with_name(column) else { return Ok(all()) };
        // NaN lies outside of the bounds of floats; a column of another type has bounds of another type.
        if field.data_type() != &lowest.data_type() || field.data_type().is_floating() {
            return Ok(all());
        }
        let column = Expr::Column(Column::from_name(column));
        let within = [column.clone().gt_eq(lit(lowest)), column.lt_eq(lit(highest))];
        table.places_of_live_files(&self.state, &within).map_err(problem::running)
    }

    /// Positions of the rows of a file that have a key of the new rows, dead ones too.
    async fn positions_of(&self, file: &LiveFile, keys: &Keys, schema: &SchemaRef) -> Result<RoaringTreemap, Problem> {
        let places: Vec<usize> =
            keys.columns.iter().filter_map(|name| self.snapshot.schema().index_of(name).ok()).collect();
        let key_fields = keys.columns.iter().filter_map(|name| schema.field_with_name(name).ok().cloned());
        let key_schema: SchemaRef = Arc::new(Schema::new(key_fields.collect::<Vec<Field>>()));
        let mut rows = self.rows(&file.whole(), Some(&places)).await?;
        let (mut found, mut first) = (RoaringTreemap::new(), 0);
        while let Some(batch) = rows.try_next().await.map_err(problem::running)? {
            let stays = keys.untouched(&conform(&batch, &key_schema)?)?;
            found.extend(
                stays.iter().enumerate().filter(|(_, stays)| *stays == Some(false)).map(|(at, _)| first + at as u64),
            );
            first += batch.num_rows() as u64;
        }
        Ok(found)
    }
}
