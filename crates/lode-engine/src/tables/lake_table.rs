//! One committed state of a table as scans of Parquet files.

use std::sync::Arc;

use arrow::datatypes::{FieldRef, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{DFSchema, ScalarValue, Statistics};
use datafusion::config::TableParquetOptions;
use datafusion::datasource::TableType;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::parquet::CachedParquetFileReaderFactory;
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfigBuilder, ParquetSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::datasource::table_schema::TableSchema;
use datafusion::error::Result;
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown};
use datafusion::physical_optimizer::pruning::PruningPredicateBuilder;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::empty::EmptyExec;
use object_store::path::Path;

use lode_lake::{LiveFile, Snapshot};

use super::stats::{self, FileColumns};
use crate::session::lake_url;

/// A table at one snapshot.
#[derive(Debug)]
pub(crate) struct LakeTable {
    location: String,
    snapshot: Arc<Snapshot>,
    /// In the order of the table's definition.
    schema: SchemaRef,
    /// Columns read from files, then partition columns, whose values stand in the log.
    layout: TableSchema,
    /// For each column of `schema` its place in `layout`.
    places: Vec<usize>,
}

impl LakeTable {
    pub(crate) fn new(location: &str, snapshot: Arc<Snapshot>) -> Result<Self> {
        let schema = Arc::clone(snapshot.schema());
        let is_partition = |field: &FieldRef| snapshot.definition.partition_by.contains(field.name());
        let (partitions, stored): (Vec<FieldRef>, Vec<FieldRef>) =
            schema.fields().iter().cloned().partition(is_partition);
        let layout = TableSchema::builder(Arc::new(Schema::new(stored))).with_table_partition_cols(partitions).build();
        let places: Result<Vec<usize>> =
            schema.fields().iter().map(|field| Ok(layout.table_schema().index_of(field.name())?)).collect();
        Ok(Self { location: location.to_owned(), schema, layout, places: places?, snapshot })
    }

    /// Files that may hold rows for which `filters` hold.
    fn live_files(&self, state: &dyn Session, filters: &[Expr]) -> Result<Vec<LiveFile>> {
        let files = self.snapshot.files.as_slice();
        let Some(filter) = conjunction(filters.iter().cloned()) else { return Ok(files.to_vec()) };
        let schema = DFSchema::try_from(Arc::clone(&self.schema))?;
        let predicate = state.create_physical_expr(filter, &schema)?;
        // A filter that cannot prune (a subquery, a volatile function) keeps every file.
        let builder = PruningPredicateBuilder::new().with_file_schema(Arc::clone(&self.schema));
        let Some(pruning) = builder.build(predicate) else {
            return Ok(files.to_vec());
        };
        let keep = pruning.prune(&FileColumns { files, schema: &self.schema })?;
        Ok(files.iter().zip(keep).filter(|(_, keep)| *keep).map(|(file, _)| file.clone()).collect())
    }

    fn partitioned_file(&self, live: &LiveFile) -> Result<PartitionedFile> {
        let path = Path::from(format!("{}/{}", self.location, live.file.path));
        let mut file = PartitionedFile::new(String::new(), live.file.size_bytes);
        file.object_meta.location = path;
        file.object_meta.last_modified =
            chrono::DateTime::from_timestamp_millis(live.file.modified_ms).unwrap_or_default();
        let values: Result<Vec<ScalarValue>> = self
            .layout
            .table_partition_cols()
            .iter()
            .map(|field| {
                let text = live.file.partition_values.get(field.name()).and_then(Option::as_deref);
                stats::partition_value(text, field.data_type()).ok_or_else(|| {
                    datafusion::error::DataFusionError::Execution(format!(
                        "file \"{}\" has a partition value \"{}\" that is no {}",
                        live.file.path,
                        text.unwrap_or_default(),
                        lode_core::sql_type::name(field.data_type())
                    ))
                })
            })
            .collect();
        let statistics = stats::of_file(live, self.layout.file_schema().fields());
        Ok(file.with_partition_values(values?).with_statistics(Arc::new(statistics)))
    }
}

#[async_trait]
impl TableProvider for LakeTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }

    fn statistics(&self) -> Option<Statistics> {
        let rows = self.snapshot.files.iter().map(|live| live.file.stats.as_ref().map(|stats| stats.num_records)).sum();
        let rows: Option<u64> = rows;
        let mut statistics = Statistics::new_unknown(&self.schema);
        if let Some(rows) = rows.and_then(|rows| usize::try_from(rows).ok()) {
            statistics.num_rows = datafusion::common::stats::Precision::Inexact(rows);
        }
        Some(statistics)
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let indices: Vec<usize> = match projection {
            Some(projection) => projection.iter().filter_map(|at| self.places.get(*at).copied()).collect(),
            None => self.places.clone(),
        };
        let live = self.live_files(state, filters)?;
        if live.is_empty() {
            let schema = match projection {
                Some(projection) => Arc::new(self.schema.project(projection)?),
                None => self.schema(),
            };
            return Ok(Arc::new(EmptyExec::new(schema)));
        }
        let files: Result<Vec<PartitionedFile>> = live.iter().map(|live| self.partitioned_file(live)).collect();
        let partitions = state.config_options().execution.target_partitions;
        let groups = FileGroup::new(files?).split_files(partitions);
        let options = TableParquetOptions {
            global: state.config_options().execution.parquet.clone(),
            ..TableParquetOptions::default()
        };
        let objects = state.runtime_env().object_store(lake_url())?;
        let cache = state.runtime_env().cache_manager.get_file_metadata_cache();
        let source = ParquetSource::new(self.layout.clone())
            .with_table_parquet_options(options)
            .with_parquet_file_reader_factory(Arc::new(CachedParquetFileReaderFactory::new(objects, cache)));
        let config = FileScanConfigBuilder::new(lake_url(), Arc::new(source))
            .with_file_groups(groups)
            // A filter above may drop rows, so only an unfiltered scan may stop early.
            .with_limit(limit.filter(|_| filters.is_empty()))
            .with_projection_indices(Some(indices))?
            .build();
        Ok(DataSourceExec::from_data_source(config))
    }
}
