//! Parquet files as scans read them: without the bounds of floats.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::ParquetFileReaderFactory;
use datafusion::datasource::physical_plan::parquet::CachedParquetFileReaderFactory;
use datafusion::error::Result;
use datafusion::parquet::arrow::arrow_reader::ArrowReaderOptions;
use datafusion::parquet::arrow::async_reader::AsyncFileReader;
use datafusion::parquet::basic::Type;
use datafusion::parquet::file::metadata::{ParquetMetaData, RowGroupMetaData};
use datafusion::parquet::file::page_index::column_index::ColumnIndexMetaData;
use datafusion::physical_plan::metrics::ExecutionPlanMetricsSet;
use futures::FutureExt;
use futures::future::BoxFuture;

/// Writers leave NaN out of the bounds of a column chunk and of its pages; in SQL it is the largest float. A row group with
/// `max = 5` may so hold a row for which `x > 5`: bounds of floats are not used.
/// Source: Parquet format, `Statistics`, and PostgreSQL 15, 8.1.3.
#[derive(Debug)]
pub(super) struct FileReaders(pub(super) CachedParquetFileReaderFactory);

impl ParquetFileReaderFactory for FileReaders {
    fn create_reader(
        &self,
        partition_index: usize,
        file: PartitionedFile,
        metadata_size_hint: Option<usize>,
        metrics: &ExecutionPlanMetricsSet,
    ) -> Result<Box<dyn AsyncFileReader + Send>> {
        let inner = self.0.create_reader(partition_index, file, metadata_size_hint, metrics)?;
        Ok(Box::new(FileReader { inner }))
    }
}

struct FileReader {
    inner: Box<dyn AsyncFileReader + Send>,
}

type Answer<'a, T> = BoxFuture<'a, datafusion::parquet::errors::Result<T>>;

impl AsyncFileReader for FileReader {
    fn get_bytes(&mut self, range: Range<u64>) -> Answer<'_, Bytes> {
        self.inner.get_bytes(range)
    }

    fn get_byte_ranges(&mut self, ranges: Vec<Range<u64>>) -> Answer<'_, Vec<Bytes>> {
        self.inner.get_byte_ranges(ranges)
    }

    fn get_metadata<'a>(&'a mut self, options: Option<&'a ArrowReaderOptions>) -> Answer<'a, Arc<ParquetMetaData>> {
        async move { without_float_bounds(self.inner.get_metadata(options).await?) }.boxed()
    }
}

fn without_float_bounds(metadata: Arc<ParquetMetaData>) -> datafusion::parquet::errors::Result<Arc<ParquetMetaData>> {
    let columns = metadata.file_metadata().schema_descr().columns();
    let is_float: Vec<bool> =
        columns.iter().map(|column| matches!(column.physical_type(), Type::FLOAT | Type::DOUBLE)).collect();
    if !is_float.contains(&true) {
        return Ok(metadata);
    }
    let mut pages = metadata.column_index().cloned();
    for row_group in pages.iter_mut().flatten() {
        for (page, _) in row_group.iter_mut().zip(&is_float).filter(|(_, is_float)| **is_float) {
            *page = ColumnIndexMetaData::NONE;
        }
    }
    let row_groups = metadata.row_groups().iter().map(|row_group| strip(row_group, &is_float));
    let row_groups = row_groups.collect::<datafusion::parquet::errors::Result<Vec<_>>>()?;
    let builder = metadata.as_ref().clone().into_builder();
    Ok(Arc::new(builder.set_row_groups(row_groups).set_column_index(pages).build()))
}

fn strip(row_group: &RowGroupMetaData, is_float: &[bool]) -> datafusion::parquet::errors::Result<RowGroupMetaData> {
    let chunks = row_group.columns().iter().zip(is_float).map(|(chunk, is_float)| match is_float {
        true => {
            let builder = chunk.clone().into_builder().clear_statistics();
            // Page bounds are read later, from where this points to.
            builder.set_column_index_offset(None).set_column_index_length(None).build()
        }
        false => Ok(chunk.clone()),
    });
    let chunks = chunks.collect::<datafusion::parquet::errors::Result<Vec<_>>>()?;
    row_group.clone().into_builder().set_column_metadata(chunks).build()
}
