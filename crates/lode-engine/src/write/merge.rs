//! Rows by key: new rows take the place of old ones, and only files that hold a touched key change.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch};
use arrow::row::{RowConverter, SortField};
use datafusion::common::{HashSet, ScalarValue};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryPool, MemoryReservation};
use datafusion::functions_aggregate::min_max::{MaxAccumulator, MinAccumulator};
use datafusion::logical_expr::Accumulator;
use futures::TryStreamExt;
use tokio::sync::mpsc;

use lode_core::{ErrorKind, Problem, nearest};
use lode_lake::{KeyEncoder, TableDefinition};

use super::Rows;
use super::lane::{Lane, LaneEnd, Shared};
use super::old::Old;
use super::target::Target;
use crate::cpu::Running;
use crate::engine::Inner;
use crate::functions::casts::text_of;
use crate::problem;

/// Bytes that a key takes beyond its own: its place in a hash table that may just have doubled, and its allocation.
const KEY_OVERHEAD_BYTES: usize = 96;
/// Bytes of a key that is a number: in a hash table that may just have doubled, and in the sorted list.
const NUMBER_BYTES: usize = 64;
/// Rows that one thread writes alone: a small merge makes one file.
const ALONE_ROWS: usize = 100_000;
/// Batches on their way to a thread that writes; a full channel makes the reader wait.
const BATCHES_AHEAD: usize = 4;
/// Characters of a key's value in an error.
const KEY_CHARS: usize = 80;

/// The keys of the incoming rows. A key with a NULL in it equals no other, as in SQL.
pub(crate) struct Keys {
    pub(super) columns: Vec<String>,
    known: Known,
    /// Lowest and highest value of the first key column.
    reach: Option<(MinAccumulator, MaxAccumulator)>,
    /// Whether several rows may have one key.
    keeps_all: bool,
    /// The part of the statements' memory that `known` takes.
    memory: MemoryReservation,
}

enum Known {
    /// By the numbers that the key index knows them by.
    Numbers { encoder: KeyEncoder, set: HashSet<u128> },
    /// Keys of types that make no number.
    Rows { converter: RowConverter, set: HashSet<Box<[u8]>> },
}

impl Keys {
    fn new(
        columns: &[String],
        keeps_all: bool,
        definition: &TableDefinition,
        pool: &Arc<dyn MemoryPool>,
    ) -> Result<Self, Problem> {
        let schema = &definition.schema;
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
        let fields = fields?;
        let known = match KeyEncoder::new(definition, columns) {
            Some(encoder) => Known::Numbers { encoder, set: HashSet::new() },
            None => {
                let converter = RowConverter::new(fields).map_err(|error| problem::arrow(&error))?;
                Known::Rows { converter, set: HashSet::new() }
            }
        };
        let reach = columns.first().and_then(|name| schema.field_with_name(name).ok()).and_then(|field| {
            let lowest = MinAccumulator::try_new(field.data_type()).ok()?;
            Some((lowest, MaxAccumulator::try_new(field.data_type()).ok()?))
        });
        let memory = MemoryConsumer::new("merge keys").register(pool);
        Ok(Self { columns: columns.to_vec(), known, reach, keeps_all, memory })
    }

    fn columns_of(&self, batch: &RecordBatch) -> Result<Vec<ArrayRef>, Problem> {
        let column = |name: &String| {
            batch.column_by_name(name).cloned().ok_or_else(|| Problem::internal(format!("key \"{name}\" went missing")))
        };
        self.columns.iter().map(column).collect()
    }

    fn is_empty(&self) -> bool {
        match &self.known {
            Known::Numbers { set, .. } => set.is_empty(),
            Known::Rows { set, .. } => set.is_empty(),
        }
    }

    /// For the key index: the encoder, and all keys in order. `None` for keys that it cannot hold.
    pub(super) fn numbers(&self) -> Option<(&KeyEncoder, Vec<u128>)> {
        let Known::Numbers { encoder, set } = &self.known else { return None };
        let mut numbers: Vec<u128> = set.iter().copied().collect();
        numbers.sort_unstable();
        Some((encoder, numbers))
    }

    /// Takes note of rows. Errors: `Full` when the keys exceed the memory of statements; `Data` for a second row of a key
    /// where there may be one.
    fn note(&mut self, batch: &RecordBatch) -> Result<(), Problem> {
        let columns = self.columns_of(batch)?;
        if let (Some((lowest, highest)), Some(first)) = (&mut self.reach, columns.first()) {
            let first = std::slice::from_ref(first);
            lowest.update_batch(first).and_then(|()| highest.update_batch(first)).map_err(problem::running)?;
        }
        let mut second = None;
        // Asked for before it is taken; what known keys did not need goes back.
        let (most, taken) = match &mut self.known {
            Known::Numbers { encoder, set } => {
                let keys = encoder.encode(batch).map_err(no_key)?;
                let most = keys.keys.len() * NUMBER_BYTES;
                self.memory.try_grow(most).map_err(problem::running)?;
                let before = set.len();
                for (at, key) in keys.present() {
                    if !set.insert(key) && !self.keeps_all {
                        second = Some(at);
                        break;
                    }
                }
                (most, (set.len() - before) * NUMBER_BYTES)
            }
            Known::Rows { converter, set } => {
                let rows = converter.convert_columns(&columns).map_err(|error| problem::arrow(&error))?;
                let bytes_of = |row: &[u8]| row.len() + KEY_OVERHEAD_BYTES;
                let most = rows.iter().map(|row| bytes_of(row.as_ref())).sum();
                self.memory.try_grow(most).map_err(problem::running)?;
                let mut taken = 0;
                for (at, row) in rows.iter().enumerate().filter(|(at, _)| !has_null(&columns, *at)) {
                    if set.insert(Box::from(row.as_ref())) {
                        taken += bytes_of(row.as_ref());
                    } else if !self.keeps_all {
                        second = Some(at);
                        break;
                    }
                }
                (most, taken)
            }
        };
        self.memory.shrink(most - taken);
        second.map_or(Ok(()), |at| Err(self.second_row(&columns, at)))
    }

    /// Which of the two rows would win depends on chance: refused, as by PostgreSQL (21000).
    fn second_row(&self, columns: &[ArrayRef], at: usize) -> Problem {
        let value = |column: &ArrayRef| {
            let texts = text_of(&column.slice(at, 1)).unwrap_or_else(|_| column.slice(0, 0));
            let text = texts.as_string_view_opt().and_then(|texts| texts.iter().next().flatten()).unwrap_or_default();
            text.chars().take(KEY_CHARS).collect::<String>()
        };
        let parts = self.columns.iter().zip(columns).map(|(name, column)| format!("{name} = {}", value(column)));
        let (key, list) = (parts.collect::<Vec<_>>().join(", "), self.columns.join(", "));
        Problem::new(
            ErrorKind::Data,
            format!("two rows of this run have the key {key}, and a merge takes one; nothing was written"),
        )
        .fix(format!(
            "number them, `row_number() over (partition by {list} order by …) as n`, and keep `n = 1`; or keep all: \
                 `incremental_strategy: delete+insert`"
        ))
    }

    /// Lowest and highest value of the first key column; `None` without keys.
    pub(super) fn reach(&mut self) -> Result<Option<(ScalarValue, ScalarValue)>, Problem> {
        let Some((lowest, highest)) = &mut self.reach else { return Ok(None) };
        let lowest = lowest.evaluate().map_err(problem::running)?;
        let highest = highest.evaluate().map_err(problem::running)?;
        Ok((!lowest.is_null() && !highest.is_null()).then_some((lowest, highest)))
    }

    /// Which old rows have a key that no new row has.
    pub(super) fn untouched(&self, batch: &RecordBatch) -> Result<BooleanArray, Problem> {
        match &self.known {
            Known::Numbers { encoder, set } => {
                let keys = encoder.encode(batch).map_err(no_key)?;
                let mut stays = vec![true; keys.keys.len()];
                for (at, key) in keys.present() {
                    if let Some(stays) = stays.get_mut(at) {
                        *stays = !set.contains(&key);
                    }
                }
                Ok(BooleanArray::from(stays))
            }
            Known::Rows { converter, set } => {
                let columns = self.columns_of(batch)?;
                let rows = converter.convert_columns(&columns).map_err(|error| problem::arrow(&error))?;
                let stays =
                    |(at, row): (usize, arrow::row::Row<'_>)| has_null(&columns, at) || !set.contains(row.as_ref());
                Ok(rows.iter().enumerate().map(|pair| Some(stays(pair))).collect())
            }
        }
    }
}

fn no_key(reason: String) -> Problem {
    Problem::new(ErrorKind::Data, format!("a key cannot be compared: {reason}")).fix("correct the value")
}

fn has_null(columns: &[ArrayRef], at: usize) -> bool {
    columns.iter().any(|column| column.is_null(at))
}

/// Another thread that writes rows which were accepted.
struct Hand {
    batches: mpsc::Sender<RecordBatch>,
    work: Running<Result<LaneEnd, Problem>>,
}

impl Hand {
    fn new(inner: &Inner, shared: &Arc<Shared>) -> Self {
        let (batches, mut received) = mpsc::channel::<RecordBatch>(BATCHES_AHEAD);
        let mut lane = Lane::new(Arc::clone(shared));
        let work = inner.cpu.spawn(async move {
            while let Some(batch) = received.recv().await {
                lane.put(&batch)?;
            }
            lane.finish()
        });
        Self { batches, work }
    }
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
        let mut keys = Keys::new(columns, keeps_all, &shared.definition, pool)?;
        if columns.is_empty() {
            return Err(Problem::new(ErrorKind::Config, "a merge needs a key").fix("set `unique_key`"));
        }
        let mut stream = self.one_stream(rows).await?;
        let (inner, lane_shared) = (Arc::clone(self), Arc::clone(shared));
        let (keys, ends) = self
            .cpu
            .run(async move {
                let mut lane = Lane::new(Arc::clone(&lane_shared));
                let mut hands: Vec<Hand> = Vec::new();
                let (mut rows, mut turn) = (0, 0);
                while let Some(batch) = stream.try_next().await? {
                    let batch = lane.accept(&batch)?;
                    keys.note(&batch)?;
                    rows += batch.num_rows();
                    if rows > ALONE_ROWS && hands.is_empty() {
                        hands = (1..inner.options.partitions).map(|_| Hand::new(&inner, &lane_shared)).collect();
                    }
                    turn = (turn + 1) % (hands.len() + 1);
                    let Some(hand) = turn.checked_sub(1).and_then(|at| hands.get(at)) else {
                        lane.put(&batch)?;
                        continue;
                    };
                    // One that went away has an error to tell.
                    if hand.batches.send(batch).await.is_err() {
                        break;
                    }
                }
                let mut ends = vec![lane.finish()?];
                for Hand { batches, work } in hands {
                    drop(batches);
                    ends.push(work.join().await??);
                }
                Ok((keys, ends))
            })
            .await?;
        let mut end = LaneEnd::sum(shared, ends);
        if target.rewrite {
            end.take(self.rewrite_all(target, shared, Some(Arc::new(keys))).await?);
        } else if let Some(table) = Old::of(self, target).filter(|_| !keys.is_empty()) {
            let dead = self.rows_with_keys(&table, shared, keys).await?;
            end.take(self.retire(&table, shared, dead).await?);
        }
        Ok(end)
    }
}
