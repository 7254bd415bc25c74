//! The rows of a table with the file and the position where each stands.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Int32Array, Int64Array, RecordBatch, RecordBatchOptions};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::datasource::TableType;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::TaskContext;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};
use datafusion::physical_plan::{ExecutionPlan, SendableRecordBatchStream, execute_stream};
use futures::{StreamExt, TryStreamExt, stream};
use roaring::RoaringTreemap;

use lode_lake::{DeltaTable, LiveFile, Snapshot, Store};

use super::LakeTable;

/// Place of the row's file in the snapshot, an `integer`.
pub(crate) const FILE: &str = "__lode_file";
/// Position of the row in its file from 0, dead rows counted, a `bigint`.
pub(crate) const POSITION: &str = "__lode_position";

/// A table at one snapshot, with two columns more.
#[derive(Debug)]
pub(crate) struct PositionedTable {
    store: Store,
    location: String,
    snapshot: Arc<Snapshot>,
    table: LakeTable,
    schema: SchemaRef,
}

impl PositionedTable {
    pub(crate) fn new(store: &Store, location: &str, snapshot: Arc<Snapshot>) -> Result<Self> {
        let table = LakeTable::new(store, location, Arc::clone(&snapshot))?;
        let extra = [Field::new(FILE, DataType::Int32, true), Field::new(POSITION, DataType::Int64, true)];
        let fields = table.schema().fields().iter().cloned().chain(extra.map(Arc::new)).collect::<Vec<_>>();
        let schema = Arc::new(Schema::new(fields));
        Ok(Self { store: store.clone(), location: location.to_owned(), snapshot, table, schema })
    }

    /// One file with all its rows, and what is dead of them.
    async fn piece(&self, place: usize, live: &LiveFile, columns: &[usize], state: &dyn Session) -> Result<Piece> {
        let mut snapshot = self.snapshot.as_ref().clone();
        snapshot.files = Arc::new(vec![live.whole()]);
        let table = LakeTable::new(&self.store, &self.location, Arc::new(snapshot))?;
        let scan = table.scan(state, Some(&columns.to_vec()), &[], None).await?;
        let dead = DeltaTable::new(&self.store, &self.location).deleted_rows(live).await;
        let dead = dead.map_err(|error| DataFusionError::External(Box::new(error)))?;
        Ok(Piece { place: i32::try_from(place).unwrap_or(i32::MAX), scan, dead })
    }
}

#[async_trait]
impl TableProvider for PositionedTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        _: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let wanted: Vec<usize> = projection.cloned().unwrap_or_else(|| (0..self.schema.fields().len()).collect());
        let own = self.schema.fields().len() - 2;
        let columns: Vec<usize> = wanted.iter().copied().filter(|at| *at < own).collect();
        let schema = Arc::new(self.schema.project(&wanted)?);
        let lanes = state.config_options().execution.target_partitions.max(1);
        // Of the columns of the files alone: what is asked of a place is not in them.
        let is_own =
            |filter: &&Expr| !filter.column_refs().iter().any(|column| [FILE, POSITION].contains(&column.name()));
        let filters: Vec<Expr> = filters.iter().filter(is_own).cloned().collect();
        let mut dealt: Vec<Vec<Piece>> = (0..lanes).map(|_| Vec::new()).collect();
        for (turn, place) in self.table.places_of_live_files(state, &filters)?.into_iter().enumerate() {
            let (Some(live), Some(lane)) = (self.snapshot.files.get(place), dealt.get_mut(turn % lanes)) else {
                continue;
            };
            lane.push(self.piece(place, live, &columns, state).await?);
        }
        let lanes = dealt.into_iter().map(|pieces| {
            let (schema, wanted) = (Arc::clone(&schema), wanted.clone());
            Arc::new(FilesInTurn { pieces: Arc::new(pieces), schema, wanted, own }) as Arc<dyn PartitionStream>
        });
        Ok(Arc::new(StreamingTableExec::try_new(Arc::clone(&schema), lanes.collect(), None, [], false, None)?))
    }
}

#[derive(Debug)]
struct Piece {
    place: i32,
    scan: Arc<dyn ExecutionPlan>,
    dead: Option<RoaringTreemap>,
}

/// Files of one lane, one after the other.
#[derive(Debug)]
struct FilesInTurn {
    pieces: Arc<Vec<Piece>>,
    schema: SchemaRef,
    /// Columns in the order asked for; from `own` on they are file and position.
    wanted: Vec<usize>,
    own: usize,
}

impl PartitionStream for FilesInTurn {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, context: Arc<TaskContext>) -> SendableRecordBatchStream {
        let (pieces, schema) = (Arc::clone(&self.pieces), Arc::clone(&self.schema));
        let (wanted, own) = (self.wanted.clone(), self.own);
        let rows = stream::iter(0..pieces.len()).map(move |at| {
            let (pieces, schema, wanted, context) =
                (Arc::clone(&pieces), Arc::clone(&schema), wanted.clone(), Arc::clone(&context));
            let scan = pieces.get(at).map(|piece| Arc::clone(&piece.scan));
            let rows = match scan.map(|scan| execute_stream(scan, context)) {
                Some(Ok(rows)) => rows,
                Some(Err(error)) => return stream::once(async { Err(error) }).boxed(),
                None => return stream::empty().boxed(),
            };
            let mut first = 0_i64;
            rows.map(move |batch| {
                let batch = batch?;
                let begin = first;
                first += batch.num_rows() as i64;
                match pieces.get(at) {
                    Some(piece) => positioned(&batch, begin, piece, &schema, &wanted, own),
                    None => Ok(batch),
                }
            })
            .boxed()
        });
        let rows = rows.map(Ok::<_, DataFusionError>).try_flatten();
        Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), rows))
    }
}

/// The living rows of a batch that begins at position `first` of its file, with the columns asked for.
fn positioned(
    batch: &RecordBatch,
    first: i64,
    piece: &Piece,
    schema: &SchemaRef,
    wanted: &[usize],
    own: usize,
) -> Result<RecordBatch> {
    let rows = batch.num_rows();
    let mut read = batch.columns().iter();
    let columns = wanted.iter().filter_map(|at| -> Option<ArrayRef> {
        match at.checked_sub(own) {
            None => read.next().cloned(),
            Some(0) => Some(Arc::new(Int32Array::from(vec![piece.place; rows]))),
            Some(_) => Some(Arc::new((first..first + rows as i64).collect::<Int64Array>())),
        }
    });
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    let batch = RecordBatch::try_new_with_options(Arc::clone(schema), columns.collect(), &options)?;
    let Some(dead) = &piece.dead else { return Ok(batch) };
    let lives: BooleanArray = (first..first + rows as i64).map(|at| Some(!dead.contains(at.unsigned_abs()))).collect();
    Ok(if lives.false_count() == 0 { batch } else { filter_record_batch(&batch, &lives)? })
}
