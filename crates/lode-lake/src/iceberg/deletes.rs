//! Deletion vectors as position delete files. Source: Iceberg spec, "Position Delete Files".

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use parquet::arrow::{ArrowWriter, PARQUET_FIELD_ID_META_KEY};
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use roaring::RoaringTreemap;

use super::manifest::{DELETE_PATH_ID, DELETE_POSITION_ID};
use super::metrics::Metrics;

const ROWS_AT_ONCE: usize = 64 << 10;

/// The bytes of a file that says that `rows` of the data file `path` are dead, in ascending order.
pub(crate) fn encode(path: &str, rows: &RoaringTreemap) -> Result<Vec<u8>, ParquetError> {
    let field = |name: &str, data_type: DataType, id: i32| {
        let id = (PARQUET_FIELD_ID_META_KEY.to_owned(), id.to_string());
        Field::new(name, data_type, false).with_metadata(HashMap::from([id]))
    };
    let schema = Arc::new(Schema::new(vec![
        field("file_path", DataType::Utf8, DELETE_PATH_ID),
        field("pos", DataType::Int64, DELETE_POSITION_ID),
    ]));
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(1)?))
        .set_statistics_truncate_length(None)
        .build();
    let mut writer = ArrowWriter::try_new(Vec::new(), Arc::clone(&schema), Some(properties))?;
    let mut rows = rows.iter();
    loop {
        let positions: Vec<i64> =
            rows.by_ref().take(ROWS_AT_ONCE).map(|row| i64::try_from(row).unwrap_or(i64::MAX)).collect();
        if positions.is_empty() {
            break;
        }
        let paths: ArrayRef = Arc::new(StringArray::from_iter_values(std::iter::repeat_n(path, positions.len())));
        writer
            .write(&RecordBatch::try_new(Arc::clone(&schema), vec![paths, Arc::new(Int64Array::from(positions))])?)?;
    }
    writer.into_inner()
}

/// Bounds of a delete file: equal ones of the path say that it is about one data file, without which polars refuses it.
pub(crate) fn metrics(path: &str, rows: i64) -> Metrics {
    let bound = vec![(DELETE_PATH_ID, path.as_bytes().to_vec())];
    let count = |count| vec![(DELETE_POSITION_ID, count), (DELETE_PATH_ID, count)];
    Metrics { value_counts: count(rows), null_counts: count(0), lower: bound.clone(), upper: bound }
}
