//! Rows by key: new rows take the place of old ones, and only files that hold a touched key are written anew.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{Field, Schema, SchemaRef};
use arrow::row::{RowConverter, Rows as KeyRows, SortField};
use datafusion::catalog::TableProvider;
use datafusion::common::{Column, ScalarValue};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryPool, MemoryReservation};
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::{Expr, lit};
use datafusion::physical_plan::{SendableRecordBatchStream, execute_stream};
use futures::{TryStreamExt, future};

use lode_core::{ErrorKind, Problem, SqlSession, nearest};
use lode_lake::{DataFile, LiveFile, Store};

use super::Rows;
use super::conform::conform;
use super::lane::{Lane, LaneEnd, Shared};
use super::target::Target;
use crate::engine::Inner;
use crate::problem;
use crate::tables::{LakeTable, Pins};

/// Bytes that a key takes beyond its own: its place in a hash table that may just have doubled, and its allocation.
const KEY_OVERHEAD_BYTES: usize = 96;

/// The keys of the incoming rows. A key with a NULL in it equals no other, as in SQL.
pub(crate) struct Keys {
    columns: Vec<String>,
    converter: RowConverter,
    known: HashSet<Box<[u8]>>,
    /// Whether several rows may have one key.
    keeps_all: bool,
    /// The part of the statements' memory that `known` takes.
    memory: MemoryReservation,
}

/// Old files that were written anew.
#[derive(Default)]
pub(crate) struct Moved {
    pub(crate) files: Vec<DataFile>,
    pub(crate) removed: Vec<String>,
}

impl Keys {
    fn new(
        columns: &[String],
        keeps_all: bool,
        schema: &SchemaRef,
        pool: &Arc<dyn MemoryPool>,
    ) -> Result<Self, Problem> {
        let fields: Result<Vec<SortField>, Problem> = columns
            .iter()
            .map(|name| {
                let field = schema.field_with_name(name).map_err(|_| {
                    let names = schema.fields().iter().map(|field| field.name().as_str());
                    let problem =
                        Problem::new(ErrorKind::Undefined, format!("the key column \"{name}\" is not in the rows"));
                    match nearest(name, names) {
                        Some(near) => problem.fix(format!("did you mean \"{near}\"?")),
                        None => problem.fix("select it in the model, or change `unique_key`"),
                    }
                })?;
                Ok(SortField::new(field.data_type().clone()))
            })
            .collect();
        let converter = RowConverter::new(fields?).map_err(|error| problem::arrow(&error))?;
        let memory = MemoryConsumer::new("merge keys").register(pool);
        Ok(Self { columns: columns.to_vec(), converter, known: HashSet::new(), keeps_all, memory })
    }

    fn columns_of(&self, batch: &RecordBatch) -> Result<Vec<ArrayRef>, Problem> {
        let column = |name: &String| {
            batch.column_by_name(name).cloned().ok_or_else(|| Problem::internal(format!("key \"{name}\" went missing")))
        };
        self.columns.iter().map(column).collect()
    }

    fn rows_of(&self, columns: &[ArrayRef]) -> Result<KeyRows, Problem> {
        self.converter.convert_columns(columns).map_err(|error| problem::arrow(&error))
    }

    /// Takes note of rows. Errors: `Full` when the keys exceed the memory of statements; `Data` for a second row of a key
    /// where there may be one.
    fn note(&mut self, batch: &RecordBatch) -> Result<(), Problem> {
        let columns = self.columns_of(batch)?;
        let rows = self.rows_of(&columns)?;
        let bytes_of = |row: &[u8]| row.len() + KEY_OVERHEAD_BYTES;
        // Asked for before it is taken; what known keys did not need goes back.
        let most = rows.iter().map(|row| bytes_of(row.as_ref())).sum();
        self.memory.try_grow(most).map_err(problem::running)?;
        let mut taken = 0;
        for (at, row) in rows.iter().enumerate() {
            if has_null(&columns, at) {
                continue;
            }
            if self.known.insert(Box::from(row.as_ref())) {
                taken += bytes_of(row.as_ref());
            } else if !self.keeps_all {
                return Err(self.second_row(&columns, at));
            }
        }
        self.memory.shrink(most - taken);
        Ok(())
    }

    /// Which of the two rows would win depends on chance: refused, as by PostgreSQL (21000).
    fn second_row(&self, columns: &[ArrayRef], at: usize) -> Problem {
        let value = |column: &ArrayRef| {
            let shown = ScalarValue::try_from_array(column, at).map(|value| value.to_string()).unwrap_or_default();
            shown.chars().take(80).collect::<String>()
        };
        let parts = self.columns.iter().zip(columns).map(|(name, column)| format!("{name} = {}", value(column)));
        let (key, list) = (parts.collect::<Vec<_>>().join(", "), self.columns.join(", "));
        Problem::new(ErrorKind::Data, format!("two rows of this run have the key {key}, and a merge takes one; nothing was written"))
            .fix(format!(
                "keep one: `row_number() over (partition by {list} order by …) = 1`; or keep all: `incremental_strategy: delete+insert`"
            ))
    }

    /// Lowest and highest value of the first key column; `None` without keys.
    fn reach(&self) -> Result<Option<(ScalarValue, ScalarValue)>, Problem> {
        // Bytes of keys compare as the keys do, first column first.
        let (Some(lowest), Some(highest)) = (self.known.iter().min(), self.known.iter().max()) else {
            return Ok(None);
        };
        let parser = self.converter.parser();
        let ends = [parser.parse(lowest), parser.parse(highest)];
        let columns = self.converter.convert_rows(ends).map_err(|error| problem::arrow(&error))?;
        let Some(first) = columns.first() else { return Ok(None) };
        let end = |at| ScalarValue::try_from_array(first, at).map_err(problem::running);
        Ok(Some((end(0)?, end(1)?)))
    }

    /// Which old rows have a key that no new row has.
    fn untouched(&self, batch: &RecordBatch) -> Result<BooleanArray, Problem> {
        let columns = self.columns_of(batch)?;
        let rows = self.rows_of(&columns)?;
        let stays =
            |(at, row): (usize, arrow::row::Row<'_>)| has_null(&columns, at) || !self.known.contains(row.as_ref());
        Ok(rows.iter().enumerate().map(|pair| Some(stays(pair))).collect())
    }
}

fn has_null(columns: &[ArrayRef], at: usize) -> bool {
    columns.iter().any(|column| column.is_null(at))
}

impl Inner {
    /// Merges rows into the target. The keys of the incoming rows are held in memory; the rows are not.
    /// Errors: `Data` for two rows of one key, unless `keeps_all`.
    pub(super) async fn merge(
        self: &Arc<Self>,
        rows: Rows,
        shared: &Arc<Shared>,
        target: &Target,
        columns: &[String],
        keeps_all: bool,
    ) -> Result<LaneEnd, Problem> {
        let pool = &self.sessions.base().runtime_env().memory_pool;
        let mut keys = Keys::new(columns, keeps_all, &shared.definition.schema, pool)?;
        if columns.is_empty() {
            return Err(Problem::new(ErrorKind::Config, "a merge needs a key").fix("set `unique_key`"));
        }
        let mut stream = self.one_stream(rows).await?;
        let lane_shared = Arc::clone(shared);
        let (keys, end) = self
            .cpu
            .run(async move {
                let mut lane = Lane::new(lane_shared);
                while let Some(batch) = stream.try_next().await? {
                    let batch = lane.accept(&batch)?;
                    keys.note(&batch)?;
                    lane.put(&batch)?;
                }
                Ok((keys, lane.finish()?))
            })
            .await?;
        let mut end = LaneEnd::sum(shared, [end]);
        let moved = self.survivors(target, shared, Some(Arc::new(keys))).await?;
        end.files.extend(moved.files);
        end.removed = moved.removed;
        Ok(end)
    }

    /// Writes the old rows anew that stay: of all files when the definition changes, else of those with a touched key.
    pub(super) async fn survivors(
        &self,
        target: &Target,
        shared: &Arc<Shared>,
        keys: Option<Arc<Keys>>,
    ) -> Result<Moved, Problem> {
        let Some(old) = &target.old else { return Ok(Moved::default()) };
        if keys.as_ref().is_some_and(|keys| keys.known.is_empty()) && !target.rewrite {
            return Ok(Moved::default());
        }
        let table = Arc::new(Old {
            store: self.catalog.store().clone(),
            location: target.location.clone(),
            snapshot: Arc::clone(old),
        });
        let state = self.sessions.state(&SqlSession::new(self.catalog.now()), &Pins::default());
        let files = match &keys {
            Some(keys) if !target.rewrite => {
                let (table, keys, state) = (Arc::clone(&table), Arc::clone(keys), state.clone());
                self.cpu.run(async move { table.files_in_reach(&state, &keys) }).await?
            }
            _ => old.files.as_ref().clone(),
        };
        let mut work = Vec::new();
        for chunk in split(files, self.options.partitions) {
            let (shared, keys, must_rewrite) = (Arc::clone(shared), keys.clone(), target.rewrite);
            let (table, state) = (Arc::clone(&table), state.clone());
            work.push(self.cpu.spawn(async move {
                let mut writer = None;
                let mut removed = Vec::new();
                for file in chunk {
                    if !must_rewrite {
                        let Some(keys) = &keys else { continue };
                        if !table.holds_a_key(&state, &file, keys, &shared.definition.schema).await? {
                            continue;
                        }
                    }
                    let mut rows = table.rows(&state, &file, None).await?;
                    while let Some(batch) = rows.try_next().await.map_err(problem::running)? {
                        let batch = conform(&batch, &shared.definition.schema)?;
                        let batch = match &keys {
                            None => batch,
                            Some(keys) => {
                                let stays = keys.untouched(&batch)?;
                                filter_record_batch(&batch, &stays).map_err(|error| problem::arrow(&error))?
                            }
                        };
                        if batch.num_rows() > 0 {
                            writer.get_or_insert_with(|| shared.writer()).write(&batch)?;
                        }
                    }
                    removed.push(file.file.path.clone());
                }
                let files = writer.map_or_else(|| Ok(Vec::new()), lode_lake::TableWriter::finish)?;
                Ok::<_, Problem>(Moved { files, removed })
            }));
        }
        let parts = future::try_join_all(work.into_iter().map(|part| async move { part.join().await? })).await?;
        Ok(parts.into_iter().fold(Moved::default(), |mut sum, part| {
            sum.files.extend(part.files);
            sum.removed.extend(part.removed);
            sum
        }))
    }
}

/// Files dealt out over `lanes`, large ones first so that no lane gets all of them.
fn split(mut files: Vec<LiveFile>, lanes: usize) -> Vec<Vec<LiveFile>> {
    files.sort_by_key(|live| std::cmp::Reverse(live.file.size_bytes));
    let mut dealt = vec![Vec::new(); lanes.max(1).min(files.len())];
    let lanes = dealt.len();
    for (at, file) in files.into_iter().enumerate() {
        if let Some(lane) = dealt.get_mut(at % lanes.max(1)) {
            lane.push(file);
        }
    }
    dealt
}

/// The table before the merge, read file by file.
struct Old {
    store: Store,
    location: String,
    snapshot: Arc<lode_lake::Snapshot>,
}

impl Old {
    async fn rows(
        &self,
        state: &SessionState,
        file: &LiveFile,
        projection: Option<&Vec<usize>>,
    ) -> Result<SendableRecordBatchStream, Problem> {
        let mut snapshot = self.snapshot.as_ref().clone();
        snapshot.files = Arc::new(vec![file.clone()]);
        let table = LakeTable::new(&self.store, &self.location, Arc::new(snapshot)).map_err(problem::running)?;
        let plan = table.scan(state, projection, &[], None).await.map_err(problem::running)?;
        execute_stream(plan, state.task_ctx()).map_err(problem::running)
    }

    /// Files whose statistics do not rule out that they hold a touched key.
    fn files_in_reach(&self, state: &SessionState, keys: &Keys) -> Result<Vec<LiveFile>, Problem> {
        let all = || self.snapshot.files.as_ref().clone();
        let (Some(column), Some((lowest, highest))) = (keys.columns.first(), keys.reach()?) else { return Ok(all()) };
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
        table.live_files(state, &within).map_err(problem::running)
    }

    /// Reads the key columns of a file until a touched key is met.
    async fn holds_a_key(
        &self,
        state: &SessionState,
        file: &LiveFile,
        keys: &Keys,
        schema: &SchemaRef,
    ) -> Result<bool, Problem> {
        let places: Vec<usize> =
            keys.columns.iter().filter_map(|name| self.snapshot.schema().index_of(name).ok()).collect();
        let key_fields = keys.columns.iter().filter_map(|name| schema.field_with_name(name).ok().cloned());
        let key_schema: SchemaRef = Arc::new(Schema::new(key_fields.collect::<Vec<Field>>()));
        let mut rows = self.rows(state, file, Some(&places)).await?;
        while let Some(batch) = rows.try_next().await.map_err(problem::running)? {
            let batch = conform(&batch, &key_schema)?;
            if keys.untouched(&batch)?.false_count() > 0 {
                return Ok(true);
            }
        }
        Ok(false)
    }
}
