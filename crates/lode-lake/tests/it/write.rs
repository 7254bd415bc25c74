use std::sync::Arc;

use arrow::array::*;
use arrow::datatypes::DataType;
use lode_core::{AttemptId, ErrorKind, Explain};
use lode_lake::{LakeError, Store, StorePath, TableWriter, WriterOptions};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use crate::build::*;

#[tokio::test]
async fn files_carry_field_ids_and_plain_types() {
    let store = Store::memory();
    let definition = definition(&[("id", "bigint"), ("name", "text"), ("tags", "text[]"), ("at", "timestamp")], &[]);
    let mut tags = ListBuilder::new(StringViewBuilder::new());
    tags.append_value([Some("x")]);
    let row = batch(vec![
        ("name", Arc::new(StringArray::from(vec!["a"]))),
        ("id", Arc::new(Int32Array::from(vec![1]))),
        ("tags", Arc::new(tags.finish())),
        ("at", Arc::new(TimestampMillisecondArray::from(vec![1]))),
    ]);
    let files = write(&store, &definition, &[row]);
    let bytes = store.get(&StorePath::from(format!("{LOCATION}/{}", files[0].path))).await.unwrap();
    assert_eq!(files[0].size_bytes, bytes.len() as u64);
    let builder = ParquetRecordBatchReaderBuilder::try_new(bytes).unwrap();
    let ids: Vec<i32> =
        builder.parquet_schema().root_schema().get_fields().iter().map(|f| f.get_basic_info().id()).collect();
    assert_eq!(ids, [1, 2, 3, 5]);
    assert_eq!(builder.parquet_schema().column(2).path().string(), "tags.list.element");
    assert_eq!(builder.schema().field(1).data_type(), &DataType::Utf8);
    assert!(builder.metadata().file_metadata().key_value_metadata().is_none());
    let name: Vec<&str> = files[0].path.trim_end_matches(".parquet").split('_').collect();
    assert!(name.len() == 3 && name[1] == "0-0-0" && name[2].len() == 17, "{}", files[0].path);
}

#[tokio::test]
async fn files_roll_over_and_row_groups_stay_small() {
    let (_kept, stores) = stores_and_buckets().await;
    for store in stores {
        let definition = events();
        let options = WriterOptions { target_file_bytes: 1 << 20, row_group_bytes: 256 << 10, zstd_level: Some(1) };
        let mut writer = TableWriter::new(&store, LOCATION, &definition, AttemptId::random(), options);
        // Numbers that do not compress.
        let mut seed = 1_u64;
        for _ in 0..20 {
            let random: Vec<i64> = (0..20_000)
                .map(|_| {
                    seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    seed as i64
                })
                .collect();
            writer.write(&rows(&random)).unwrap();
        }
        assert_eq!(writer.rows(), 400_000);
        let files = writer.finish().unwrap();
        assert!(files.len() > 5, "{}", files.len());
        assert_eq!(files.iter().map(|file| file.stats.as_ref().unwrap().num_records).sum::<u64>(), 400_000);
        for file in &files {
            assert!(file.size_bytes < 2 << 20, "{}", file.size_bytes);
            let bytes = store.get(&StorePath::from(format!("{LOCATION}/{}", file.path))).await.unwrap();
            let builder = ParquetRecordBatchReaderBuilder::try_new(bytes).unwrap();
            for group in builder.metadata().row_groups() {
                assert!(group.compressed_size() < 2 << 20);
            }
        }
    }
}

#[tokio::test]
async fn many_partitions_are_written_with_few_open_files() {
    let (_kept, stores) = stores_and_buckets().await;
    for store in stores {
        let definition = definition(&[("id", "bigint"), ("name", "text")], &["id"]);
        let all: Vec<i64> = (0..200).chain(0..200).collect();
        let files = write(&store, &definition, &[rows(&all)]);
        assert_eq!(files.len(), 200);
        assert!(files.iter().all(|file| file.stats.as_ref().unwrap().num_records == 2));
        assert_eq!(store.list(&StorePath::from(LOCATION), None).await.unwrap().len(), 200);
        let odd = definition_with_text_partition();
        let row = batch(vec![
            ("id", Arc::new(Int64Array::from(vec![1, 2]))),
            ("name", Arc::new(StringViewArray::from(vec![Some("a/b %=é"), None]))),
        ]);
        let files = write(&store, &odd, &[row]);
        assert!(files[0].path.starts_with("name=a%2Fb %25%3Dé/"), "{}", files[0].path);
        assert_eq!(files[1].partition_values["name"], None);
        commit(&store, &creation(&odd, files), "create", 1).await;
        let snapshot = lode_lake::DeltaTable::new(&store, LOCATION).snapshot(None).await.unwrap();
        assert_eq!(ids(&store, &snapshot).await, [1, 2]);
        let values = snapshot.partition_values("name").unwrap();
        assert_eq!(values.as_string_view().iter().collect::<Vec<_>>(), [Some("a/b %=é"), None]);
    }
}

fn definition_with_text_partition() -> lode_lake::TableDefinition {
    definition(&[("id", "bigint"), ("name", "text")], &["name"])
}

#[test]
fn nothing_written_is_no_file() {
    assert!(write(&Store::memory(), &events(), &[]).is_empty());
    assert!(write(&Store::memory(), &events(), &[rows(&[])]).is_empty());
}

#[test]
fn rows_that_break_the_table_are_named() {
    let store = Store::memory();
    let mut fields: Vec<_> = schema(&[("id", "bigint"), ("name", "varchar(3)")]).fields().iter().cloned().collect();
    fields[0] = Arc::new(fields[0].as_ref().clone().with_nullable(false));
    let name = lode_core::TableName::new("bronze", "events");
    let definition =
        lode_lake::TableDefinition::create(name, &arrow::datatypes::Schema::new(fields), Vec::new()).unwrap();
    let row = |id: Option<i64>, name: &str| {
        batch(vec![
            ("id", Arc::new(Int64Array::from(vec![Some(1), id])) as ArrayRef),
            ("name", Arc::new(StringViewArray::from(vec!["äöü", name])) as ArrayRef),
        ])
    };
    let error = try_write(&store, &definition, &[row(Some(2), "abc"), row(None, "abc")]).unwrap_err();
    assert_eq!(error.to_string(), "row 3 of table \"bronze.events\" breaks NOT NULL of column \"id\"");
    assert_eq!(error.kind(), ErrorKind::Contract);
    let error = try_write(&store, &definition, &[row(Some(2), "abcd")]).unwrap_err();
    assert_eq!(error.to_string(), "row 1 of table \"bronze.events\" breaks at most 3 characters in column \"name\"");

    let wrong = batch(vec![("id", Arc::new(StringViewArray::from(vec!["x"])) as ArrayRef)]);
    let error = try_write(&store, &definition, &[wrong]).unwrap_err();
    assert!(matches!(&error, LakeError::Schema { fix, .. } if fix == "cast it to bigint"), "{error}");
    let extra = batch(vec![
        ("id", Arc::new(Int64Array::from(vec![1])) as ArrayRef),
        ("more", Arc::new(Int64Array::from(vec![1])) as ArrayRef),
    ]);
    let error = try_write(&store, &definition, &[extra]).unwrap_err();
    assert!(error.to_string().contains("column \"more\" is not in table"), "{error}");
}
