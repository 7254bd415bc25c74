//! One committed state of a table as scans of Parquet files.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{DFSchema, ScalarValue, Statistics};
use datafusion::config::TableParquetOptions;
use datafusion::datasource::TableType;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::parquet::metadata::DFParquetMetadata;
use datafusion::datasource::physical_plan::parquet::{
    CachedParquetFileReaderFactory, ParquetFileReaderFactory, ParquetRowSelection,
};
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfigBuilder, ParquetSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::datasource::table_schema::TableSchema;
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    TableProviderFilterPushDown, Volatility,
};
use datafusion::parquet::arrow::PARQUET_FIELD_ID_META_KEY;
use datafusion::physical_expr::expressions::Column as PhysicalColumn;
use datafusion::physical_expr::{PhysicalExpr, ScalarFunctionExpr};
use datafusion::physical_optimizer::pruning::PruningPredicateBuilder;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::empty::EmptyExec;
use datafusion::physical_plan::projection::ProjectionExec;
use object_store::ObjectStoreExt;
use object_store::path::Path;

use lode_core::sql_type::SQL_TYPE_MARK;
use lode_lake::{DeltaTable, LiveFile, Snapshot, Store};

use super::by_id::ReadersById;
use super::reader::FileReaders;
use super::stats::{self, FileColumns};
use crate::session::lake_url;

/// A table at one snapshot.
#[derive(Debug)]
pub(crate) struct LakeTable {
    store: Store,
    location: String,
    snapshot: Arc<Snapshot>,
    /// As statements see it, in the order of the table's definition.
    schema: SchemaRef,
    /// Columns read from files, then partition columns, whose values stand in the log; by the names they have there.
    layout: TableSchema,
    /// For each column of `schema` its place in `layout`.
    places: Vec<usize>,
}

impl LakeTable {
    pub(crate) fn new(store: &Store, location: &str, snapshot: Arc<Snapshot>) -> Result<Self> {
        let definition = &snapshot.definition;
        // The names and types of the files, with the marks of the columns: plans compare schemas to the letter.
        let stored = definition.stored_schema();
        let marked = |(stored, field): (&FieldRef, &FieldRef)| {
            let data_type = without_ids(stored.data_type());
            Arc::new(
                Field::new(stored.name(), data_type, stored.is_nullable())
                    .with_metadata(shown(field).metadata().clone()),
            )
        };
        let all: Vec<FieldRef> = stored.fields().iter().zip(definition.schema.fields()).map(marked).collect();
        let is_partition: Vec<bool> =
            definition.schema.fields().iter().map(|field| definition.partition_by.contains(field.name())).collect();
        let pick = |wanted: bool| {
            let chosen = all.iter().zip(&is_partition).filter(|(_, is)| **is == wanted);
            chosen.map(|(field, _)| Arc::clone(field)).collect::<Vec<FieldRef>>()
        };
        let layout =
            TableSchema::builder(Arc::new(Schema::new(pick(false)))).with_table_partition_cols(pick(true)).build();
        let places: Result<Vec<usize>> =
            all.iter().map(|field| Ok(layout.table_schema().index_of(field.name())?)).collect();
        let schema = Arc::new(Schema::new(definition.schema.fields().iter().map(|f| shown(f)).collect::<Vec<_>>()));
        Ok(Self {
            store: store.clone(),
            location: location.to_owned(),
            schema,
            layout,
            places: places?,
            snapshot: Arc::clone(&snapshot),
        })
    }

    /// Files that may hold rows for which `filters` hold.
    pub(crate) fn live_files(&self, state: &dyn Session, filters: &[Expr]) -> Result<Vec<LiveFile>> {
        let files = self.snapshot.files.as_slice();
        let places = self.places_of_live_files(state, filters)?;
        Ok(places.into_iter().filter_map(|at| files.get(at).cloned()).collect())
    }

    /// As `live_files`, by place in the snapshot.
    pub(crate) fn places_of_live_files(&self, state: &dyn Session, filters: &[Expr]) -> Result<Vec<usize>> {
        let all = || (0..self.snapshot.files.len()).collect();
        let Some(filter) = conjunction(filters.iter().cloned()) else { return Ok(all()) };
        let schema = DFSchema::try_from(Arc::clone(&self.schema))?;
        let predicate = state.create_physical_expr(filter, &schema)?;
        // A filter that cannot prune (a subquery, a volatile function) keeps every file.
        let builder = PruningPredicateBuilder::new().with_file_schema(Arc::clone(&self.schema));
        let Some(pruning) = builder.build(predicate) else { return Ok(all()) };
        let keep = pruning.prune(&FileColumns(&self.snapshot))?;
        Ok(keep.iter().enumerate().filter(|(_, keep)| **keep).map(|(at, _)| at).collect())
    }

    async fn partitioned_file(&self, live: &LiveFile) -> Result<PartitionedFile> {
        let table = DeltaTable::new(&self.store, &self.location);
        let path = table.data_path(live).map_err(|error| DataFusionError::External(Box::new(error)))?;
        let mut file = PartitionedFile::new(String::new(), live.file.size_bytes);
        file.object_meta.location = path.clone();
        file.object_meta.last_modified =
            chrono::DateTime::from_timestamp_millis(live.file.modified_ms).unwrap_or_default();
        let values: Result<Vec<ScalarValue>> = self
            .layout
            .table_partition_cols()
            .iter()
            .map(|field| {
                let text = live.file.partition_values.get(field.name()).and_then(Option::as_deref);
                stats::partition_value(text, field.data_type()).ok_or_else(|| {
                    DataFusionError::Execution(format!(
                        "file \"{}\" has a partition value \"{}\" that is no {}",
                        live.file.path,
                        text.unwrap_or_default(),
                        lode_core::sql_type::name(field.data_type())
                    ))
                })
            })
            .collect();
        let statistics = stats::of_file(live, self.layout.file_schema().fields());
        let file = file.with_partition_values(values?).with_statistics(Arc::new(statistics));
        if !live.has_deletes {
            return Ok(file);
        }
        let rows = match live.file.stats.as_ref() {
            Some(stats) => stats.num_records,
            None => self.rows_in_footer(&path).await?,
        };
        let selection =
            table.live_rows(live, rows).await.map_err(|error| DataFusionError::External(Box::new(error)))?;
        Ok(match selection {
            Some(selection) => file.with_extension(ParquetRowSelection::new(selection)),
            None => file,
        })
    }

    /// With column mapping by id, the columns of a file are known by their field ids alone.
    fn readers(&self, readers: CachedParquetFileReaderFactory) -> Arc<dyn ParquetFileReaderFactory> {
        let definition = &self.snapshot.definition;
        let readers = FileReaders(readers);
        if definition.properties.get("delta.columnMapping.mode").is_some_and(|mode| mode == "id") {
            return Arc::new(ReadersById::new(readers, definition.stored_schema().fields()));
        }
        Arc::new(readers)
    }

    async fn rows_in_footer(&self, path: &Path) -> Result<u64> {
        let objects = self.store.objects();
        let meta = objects.head(path).await?;
        let metadata = DFParquetMetadata::new(&objects, &meta).fetch_metadata().await?;
        Ok(u64::try_from(metadata.file_metadata().num_rows()).unwrap_or_default())
    }

    /// Puts the table's names and types on columns as they stand in files; does nothing when they are the same.
    fn restore(
        &self,
        scan: Arc<dyn ExecutionPlan>,
        columns: &[usize],
        state: &dyn Session,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let stored = scan.schema();
        let mut is_same = true;
        let mut exprs = Vec::with_capacity(columns.len());
        for (at, column) in columns.iter().enumerate() {
            let (field, found) = (self.schema.field(*column), stored.field(at));
            let read: Arc<dyn PhysicalExpr> = Arc::new(PhysicalColumn::new(found.name(), at));
            let expr = if found.data_type() == field.data_type() {
                is_same &= found.name() == field.name();
                read
            } else {
                is_same = false;
                let function = Arc::new(ScalarUDF::new_from_impl(FromStored::new(field)));
                let options = Arc::new(state.config_options().clone());
                Arc::new(ScalarFunctionExpr::try_new(function, vec![read], &stored, options)?)
            };
            exprs.push((expr, field.name().clone()));
        }
        if is_same { Ok(scan) } else { Ok(Arc::new(ProjectionExec::try_new(exprs, scan)?)) }
    }
}

/// A column as statements see it.
fn shown(field: &Field) -> Field {
    let data_type = without_ids(field.data_type());
    let mark = field.metadata().get(SQL_TYPE_MARK).map(|mark| (SQL_TYPE_MARK.to_owned(), mark.clone()));
    Field::new(field.name(), data_type, field.is_nullable()).with_metadata(mark.into_iter().collect())
}

/// A type without the field ids of its parts. Values that a statement makes have none, and the planner leaves out a cast
/// between types that differ in nothing else, but does not take the one for the other.
fn without_ids(data_type: &DataType) -> DataType {
    let part = |field: &FieldRef| {
        let mut metadata = field.metadata().clone();
        metadata.remove(PARQUET_FIELD_ID_META_KEY);
        let field = field.as_ref().clone().with_data_type(without_ids(field.data_type()));
        Arc::new(field.with_metadata(metadata))
    };
    match data_type {
        DataType::List(element) => DataType::List(part(element)),
        DataType::Map(entries, is_sorted) => DataType::Map(part(entries), *is_sorted),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(part).collect()),
        other => other.clone(),
    }
}

/// Text of a file as the time or interval that it means.
#[derive(Debug, PartialEq, Eq, Hash)]
struct FromStored {
    field: FieldRef,
    signature: Signature,
}

impl FromStored {
    fn new(field: &Field) -> Self {
        Self { field: Arc::new(field.clone()), signature: Signature::any(1, Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for FromStored {
    fn name(&self) -> &str {
        "from_stored"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(self.field.data_type().clone())
    }

    fn return_field_from_args(&self, _: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        Ok(Arc::clone(&self.field))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [value] = args.args.as_slice() else {
            return Err(DataFusionError::Internal("from_stored takes one argument".to_owned()));
        };
        let array = value.clone().into_array(args.number_rows)?;
        let restored = lode_lake::from_stored(&array, &self.field).map_err(|reason| {
            DataFusionError::Execution(format!("column \"{}\" is damaged: {reason}", self.field.name()))
        })?;
        Ok(ColumnarValue::Array(restored))
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
        let columns: Vec<usize> = projection.cloned().unwrap_or_else(|| (0..self.places.len()).collect());
        let indices = columns.iter().filter_map(|at| self.places.get(*at).copied()).collect();
        let live = self.live_files(state, filters)?;
        if live.is_empty() {
            let schema = match projection {
                Some(projection) => Arc::new(self.schema.project(projection)?),
                None => self.schema(),
            };
            return Ok(Arc::new(EmptyExec::new(schema)));
        }
        let mut files = Vec::with_capacity(live.len());
        for live in &live {
            files.push(self.partitioned_file(live).await?);
        }
        let partitions = state.config_options().execution.target_partitions;
        let groups = FileGroup::new(files).split_files(partitions);
        let options = TableParquetOptions {
            global: state.config_options().execution.parquet.clone(),
            ..TableParquetOptions::default()
        };
        let objects = state.runtime_env().object_store(lake_url())?;
        let cache = state.runtime_env().cache_manager.get_file_metadata_cache();
        let source = ParquetSource::new(self.layout.clone())
            .with_table_parquet_options(options)
            .with_parquet_file_reader_factory(self.readers(CachedParquetFileReaderFactory::new(objects, cache)));
        let config = FileScanConfigBuilder::new(lake_url(), Arc::new(source))
            .with_file_groups(groups)
            // A filter above may drop rows, so only an unfiltered scan may stop early.
            .with_limit(limit.filter(|_| filters.is_empty()))
            .with_projection_indices(Some(indices))?
            .build();
        self.restore(DataSourceExec::from_data_source(config), &columns, state)
    }
}
