//! Small tables for the tests.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringViewArray};
use arrow::datatypes::{DataType, Schema};
use bytes::Bytes;
use lode_core::{AttemptId, SnapshotId, TableName, sql_type};
use lode_lake::{
    Applied, DataFile, DeltaTable, LakeError, LiveFile, Operation, Snapshot, Store, StorePath, TableChange,
    TableDefinition, TableWriter, Txn, WriterOptions, apply, from_stored,
};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use crate::doubles::{self, Double};

pub(crate) const LOCATION: &str = "bronze/events";

pub(crate) fn stores() -> (tempfile::TempDir, Vec<Store>) {
    let folder = tempfile::tempdir().unwrap();
    let stores = vec![Store::local(folder.path()).unwrap(), Store::memory(), Store::memory_bucket()];
    (folder, stores)
}

/// Those of `stores`, and buckets behind HTTP where doubles of them are to be had.
pub(crate) async fn stores_and_buckets() -> ((tempfile::TempDir, Vec<Double>), Vec<Store>) {
    let (folder, mut all) = stores();
    let doubles: Vec<Double> = [doubles::moto(), doubles::azurite()].into_iter().flatten().collect();
    for double in &doubles {
        all.push(double.open("lake").await);
    }
    ((folder, doubles), all)
}

pub(crate) fn schema(columns: &[(&str, &str)]) -> Schema {
    Schema::new(columns.iter().map(|(name, sql)| sql_type::field(name, sql).unwrap()).collect::<Vec<_>>())
}

pub(crate) fn definition(columns: &[(&str, &str)], partition_by: &[&str]) -> TableDefinition {
    let by = partition_by.iter().map(|name| (*name).to_owned()).collect();
    TableDefinition::create(TableName::new("bronze", "events"), &schema(columns), by).unwrap()
}

/// `id bigint, name text`.
pub(crate) fn events() -> TableDefinition {
    definition(&[("id", "bigint"), ("name", "text")], &[])
}

pub(crate) fn rows(ids: &[i64]) -> RecordBatch {
    let names: Vec<String> = ids.iter().map(|id| format!("n{id}")).collect();
    batch(vec![
        ("id", Arc::new(Int64Array::from(ids.to_vec()))),
        ("name", Arc::new(StringViewArray::from_iter_values(names))),
    ])
}

pub(crate) fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, array)| (name, array, true))).unwrap()
}

pub(crate) fn write(store: &Store, definition: &TableDefinition, batches: &[RecordBatch]) -> Vec<DataFile> {
    try_write(store, definition, batches).unwrap()
}

pub(crate) fn try_write(
    store: &Store,
    definition: &TableDefinition,
    batches: &[RecordBatch],
) -> Result<Vec<DataFile>, LakeError> {
    let mut writer = TableWriter::new(store, LOCATION, definition, AttemptId::random(), WriterOptions::default());
    for batch in batches {
        writer.write(batch)?;
    }
    writer.finish()
}

pub(crate) fn change(base: i64, operation: Operation, add: Vec<DataFile>) -> TableChange {
    TableChange {
        table: TableName::new("bronze", "events"),
        location: LOCATION.to_owned(),
        base: SnapshotId(base),
        operation,
        definition: None,
        add,
        remove: Vec::new(),
        dead: Vec::new(),
        label: "WRITE".to_owned(),
    }
}

pub(crate) fn creation(definition: &TableDefinition, add: Vec<DataFile>) -> TableChange {
    let mut change = change(-1, Operation::Append, add);
    change.definition = Some(definition.clone());
    change.label = "CREATE TABLE".to_owned();
    change
}

pub(crate) fn txn(app: &str, version: i64) -> Txn {
    Txn { app_id: app.to_owned(), version }
}

pub(crate) async fn commit(store: &Store, change: &TableChange, app: &str, version: i64) -> Applied {
    try_commit(store, change, app, version).await.unwrap()
}

pub(crate) async fn try_commit(
    store: &Store,
    change: &TableChange,
    app: &str,
    version: i64,
) -> Result<Applied, LakeError> {
    apply(store, change, &txn(app, version), &|| Ok(())).await
}

/// A table with `ids`, at version 0.
pub(crate) async fn table_of(store: &Store, ids: &[i64]) -> (DeltaTable, TableDefinition) {
    let definition = events();
    let files = write(store, &definition, &[rows(ids)]);
    commit(store, &creation(&definition, files), "create", 1).await;
    (DeltaTable::new(store, LOCATION), definition)
}

pub(crate) async fn append(store: &Store, definition: &TableDefinition, base: i64, ids: &[i64], app: &str) -> Applied {
    let files = write(store, definition, &[rows(ids)]);
    commit(store, &change(base, Operation::Append, files), app, 1).await
}

/// All live ids, sorted, read with the plain Parquet reader and the deletion vectors.
pub(crate) async fn ids(store: &Store, snapshot: &Snapshot) -> Vec<i64> {
    let mut found = Vec::new();
    for file in snapshot.files.iter() {
        for batch in read(store, file).await {
            let column =
                from_stored(batch.column_by_name("id").unwrap(), snapshot.schema().field_with_name("id").unwrap());
            let column = arrow::compute::cast(&column.unwrap(), &DataType::Int64).unwrap();
            found.extend(column.as_any().downcast_ref::<Int64Array>().unwrap().iter().map(Option::unwrap));
        }
    }
    found.sort_unstable();
    found
}

pub(crate) async fn read(store: &Store, file: &LiveFile) -> Vec<RecordBatch> {
    let path = StorePath::parse(format!("{LOCATION}/{}", file.file.path)).unwrap();
    let bytes = store.get(&path).await.unwrap();
    let mut builder = ParquetRecordBatchReaderBuilder::try_new(bytes).unwrap();
    let total = builder.metadata().file_metadata().num_rows() as u64;
    if let Some(live) = DeltaTable::new(store, LOCATION).live_rows(file, total).await.unwrap() {
        builder = builder.with_row_selection(live);
    }
    builder.build().unwrap().map(Result::unwrap).collect()
}

/// A commit as a foreign writer makes it.
pub(crate) async fn foreign(store: &Store, version: i64, lines: &[serde_json::Value]) {
    let text: Vec<String> = lines.iter().map(ToString::to_string).collect();
    let path = StorePath::from(format!("{LOCATION}/_delta_log/{version:020}.json"));
    let put = store.put_if_absent(&path, Bytes::from(text.join("\n"))).await.unwrap();
    assert_eq!(put, lode_lake::Put::Created);
}

pub(crate) async fn log_line(store: &Store, version: i64, action: &str) -> Option<serde_json::Value> {
    let path = StorePath::from(format!("{LOCATION}/_delta_log/{version:020}.json"));
    let bytes = store.get(&path).await.unwrap();
    let lines = bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let values = lines.map(|line| serde_json::from_slice::<serde_json::Value>(line).unwrap());
    values.into_iter().find_map(|value| value.get(action).cloned())
}
