use std::sync::Arc;

use arrow::array::{AsArray, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Int64Type, Schema};
use bytes::Bytes;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::parquet::ParquetRowSelection;
use datafusion::datasource::physical_plan::{FileScanConfigBuilder, ParquetSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::datasource::table_schema::TableSchema;
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties, collect, execute_stream_partitioned};
use futures::TryStreamExt;
use object_store::memory::InMemory;
use object_store::{ObjectStore, ObjectStoreExt};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::{RowSelection, RowSelector};
use parquet::file::properties::WriterProperties;

use crate::session::{EngineOptions, Sessions, lake_url};

/// A deletion vector is a selection of rows counted over the whole file; a scan may cut the file into ranges of bytes.
#[tokio::test]
async fn a_row_selection_survives_byte_range_splits() {
    const ROWS: i64 = 10_000;
    let schema = Arc::new(Schema::new(vec![Field::new("id", DataType::Int64, false)]));
    let rows =
        RecordBatch::try_new(Arc::clone(&schema), vec![Arc::new(Int64Array::from_iter_values(0..ROWS))]).unwrap();
    let properties = WriterProperties::builder().set_max_row_group_row_count(Some(1_000)).build();
    let mut writer = ArrowWriter::try_new(Vec::new(), Arc::clone(&schema), Some(properties)).unwrap();
    writer.write(&rows).unwrap();
    let bytes = writer.into_inner().unwrap();
    let size = bytes.len() as u64;
    let objects: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    objects.put(&"t/a.parquet".into(), Bytes::from(bytes).into()).await.unwrap();

    let folder = tempfile::tempdir().unwrap();
    let sessions = Sessions::new(&EngineOptions::new(folder.path()), objects).unwrap();
    // Every seventh row is dead, and all from 4,990 to 5,010, over the edge of a row group.
    let is_dead = |row: i64| row % 7 == 0 || (4_990..5_010).contains(&row);
    let selectors: Vec<RowSelector> =
        (0..ROWS).map(|row| if is_dead(row) { RowSelector::skip(1) } else { RowSelector::select(1) }).collect();
    let selection = ParquetRowSelection::new(RowSelection::from(selectors));
    let file = PartitionedFile::new("t/a.parquet", size).with_extension(selection);
    let config = FileScanConfigBuilder::new(lake_url(), Arc::new(ParquetSource::new(TableSchema::from(schema))))
        .with_file(file)
        .build();
    let whole: Arc<dyn ExecutionPlan> = DataSourceExec::from_data_source(config);
    let mut options = sessions.base().config_options().as_ref().clone();
    options.optimizer.repartition_file_min_size = 0;
    let split = whole.repartitioned(4, &options).unwrap().expect("the file is cut");
    assert_eq!(split.output_partitioning().partition_count(), 4);

    let context = sessions.base().task_ctx();
    let wanted: Vec<i64> = (0..ROWS).filter(|row| !is_dead(*row)).collect();
    let mut found = Vec::new();
    for stream in execute_stream_partitioned(split, Arc::clone(&context)).unwrap() {
        let batches: Vec<RecordBatch> = stream.try_collect().await.unwrap();
        found.extend(batches.iter().flat_map(|batch| batch.column(0).as_primitive::<Int64Type>().values().to_vec()));
    }
    found.sort_unstable();
    assert_eq!(found, wanted);
    let rows: usize = collect(whole, context).await.unwrap().iter().map(RecordBatch::num_rows).sum();
    assert_eq!(rows, wanted.len());
}
