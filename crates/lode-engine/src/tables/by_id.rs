//! Files whose columns are known by field id: their schema is read with the names that the table has for the ids.
//! Source: Delta protocol, "Column Mapping", mode `id`.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use arrow::datatypes::{DataType, Fields};
use bytes::Bytes;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::parquet::ParquetFileReaderFactory;
use datafusion::error::Result;
use datafusion::physical_plan::metrics::ExecutionPlanMetricsSet;
use futures::FutureExt;
use futures::future::BoxFuture;
use parquet::arrow::PARQUET_FIELD_ID_META_KEY;
use parquet::arrow::arrow_reader::ArrowReaderOptions;
use parquet::arrow::async_reader::AsyncFileReader;
use parquet::errors::Result as ParquetResult;
use parquet::file::metadata::{FileMetaData, ParquetMetaData, RowGroupMetaData};
use parquet::schema::types::{SchemaDescriptor, Type};

type Names = HashMap<i32, String>;

#[derive(Debug)]
pub(crate) struct ReadersById<R> {
    below: R,
    names: Arc<Names>,
}

impl<R> ReadersById<R> {
    /// `fields` as the table stores them, with their ids.
    pub(crate) fn new(below: R, fields: &Fields) -> Self {
        let mut names = Names::new();
        collect(fields, &mut names);
        Self { below, names: Arc::new(names) }
    }
}

fn collect(fields: &Fields, names: &mut Names) {
    for field in fields {
        if let Some(id) = field.metadata().get(PARQUET_FIELD_ID_META_KEY).and_then(|id| id.parse().ok()) {
            names.insert(id, field.name().clone());
        }
        match field.data_type() {
            DataType::Struct(inner) => collect(inner, names),
            DataType::List(inner) | DataType::Map(inner, _) => collect(&vec![Arc::clone(inner)].into(), names),
            _ => {}
        }
    }
}

impl<R: ParquetFileReaderFactory> ParquetFileReaderFactory for ReadersById<R> {
    fn create_reader(
        &self,
        partition_index: usize,
        file: PartitionedFile,
        metadata_size_hint: Option<usize>,
        metrics: &ExecutionPlanMetricsSet,
    ) -> Result<Box<dyn AsyncFileReader + Send>> {
        let below = self.below.create_reader(partition_index, file, metadata_size_hint, metrics)?;
        Ok(Box::new(ReaderById { below, names: Arc::clone(&self.names) }))
    }
}

struct ReaderById {
    below: Box<dyn AsyncFileReader + Send>,
    names: Arc<Names>,
}

impl AsyncFileReader for ReaderById {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, ParquetResult<Bytes>> {
        self.below.get_bytes(range)
    }

    fn get_byte_ranges(&mut self, ranges: Vec<Range<u64>>) -> BoxFuture<'_, ParquetResult<Vec<Bytes>>> {
        self.below.get_byte_ranges(ranges)
    }

    fn get_metadata<'a>(
        &'a mut self,
        options: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, ParquetResult<Arc<ParquetMetaData>>> {
        async move { Ok(Arc::new(renamed(&*self.below.get_metadata(options).await?, &self.names)?)) }.boxed()
    }
}

/// The same footer, with the names of the table.
fn renamed(metadata: &ParquetMetaData, names: &Names) -> ParquetResult<ParquetMetaData> {
    let file = metadata.file_metadata();
    let root = renamed_type(file.schema_descr().root_schema(), names, true)?;
    let schema = Arc::new(SchemaDescriptor::new(Arc::new(root)));
    // Without the Arrow schema that a writer may have put there: it holds the old names.
    let file = FileMetaData::new(
        file.version(),
        file.num_rows(),
        file.created_by().map(str::to_owned),
        None,
        Arc::clone(&schema),
        file.column_orders().cloned(),
    );
    let groups: ParquetResult<Vec<RowGroupMetaData>> = metadata
        .row_groups()
        .iter()
        .map(|group| {
            let mut builder = RowGroupMetaData::builder(Arc::clone(&schema))
                .set_num_rows(group.num_rows())
                .set_total_byte_size(group.total_byte_size())
                .set_sorting_columns(group.sorting_columns().cloned())
                .set_column_metadata(group.columns().to_vec());
            if let Some(ordinal) = group.ordinal() {
                builder = builder.set_ordinal(ordinal);
            }
            if let Some(offset) = group.file_offset() {
                builder = builder.set_file_offset(offset);
            }
            builder.build()
        })
        .collect();
    Ok(ParquetMetaData::new(file, groups?)
        .into_builder()
        .set_column_index(metadata.column_index().cloned())
        .set_offset_index(metadata.offset_index().cloned())
        .build())
}

/// A column with an id that the table does not know gets a name that no column of the table has; one without an id keeps
/// its name, as the levels of lists and maps do.
fn renamed_type(from: &Type, names: &Names, is_root: bool) -> ParquetResult<Type> {
    let info = from.get_basic_info();
    let id = info.has_id().then(|| info.id());
    let name = match id {
        Some(id) if !is_root => names.get(&id).cloned().unwrap_or_else(|| format!("\u{0}{id}")),
        _ => from.name().to_owned(),
    };
    if from.is_primitive() {
        return Type::primitive_type_builder(&name, from.get_physical_type())
            .with_repetition(info.repetition())
            .with_converted_type(info.converted_type())
            .with_logical_type(info.logical_type_ref().cloned())
            .with_length(if let Type::PrimitiveType { type_length, .. } = from { *type_length } else { -1 })
            .with_precision(if let Type::PrimitiveType { precision, .. } = from { *precision } else { -1 })
            .with_scale(if let Type::PrimitiveType { scale, .. } = from { *scale } else { -1 })
            .with_id(id)
            .build();
    }
    let fields: ParquetResult<Vec<_>> =
        from.get_fields().iter().map(|field| renamed_type(field, names, false).map(Arc::new)).collect();
    let mut builder = Type::group_type_builder(&name)
        .with_converted_type(info.converted_type())
        .with_logical_type(info.logical_type_ref().cloned())
        .with_fields(fields?)
        .with_id(id);
    if info.has_repetition() {
        builder = builder.with_repetition(info.repetition());
    }
    builder.build()
}
