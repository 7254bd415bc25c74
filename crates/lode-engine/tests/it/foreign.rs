//! Tables that other tools wrote, by hand here: what they may hold and we never write.

use std::collections::HashMap;
use std::fs::{self, File};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, Int64Array, ListArray, RecordBatch, StructArray};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field, Schema};
use parquet::arrow::{ArrowWriter, PARQUET_FIELD_ID_META_KEY};
use parquet::file::properties::WriterProperties;
use serde_json::{Value, json};

use crate::fixture::Fixture;

pub(crate) fn with_id(field: Field, id: i32) -> Field {
    field.with_metadata(HashMap::from([(PARQUET_FIELD_ID_META_KEY.to_owned(), id.to_string())]))
}

pub(crate) fn put_file(fixture: &Fixture, path: &str, columns: Vec<(Field, ArrayRef)>) {
    let (fields, arrays): (Vec<_>, Vec<_>) = columns.into_iter().unzip();
    let rows = RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays).unwrap();
    let path = fixture.in_lake(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let properties = WriterProperties::builder().set_max_row_group_row_count(Some(4)).build();
    let mut writer = ArrowWriter::try_new(File::create(path).unwrap(), rows.schema(), Some(properties)).unwrap();
    writer.write(&rows).unwrap();
    writer.close().unwrap();
}

pub(crate) fn put_log(fixture: &Fixture, name: &str, lines: &[Value]) {
    let text: Vec<String> = lines.iter().map(Value::to_string).collect();
    let path = fixture.in_lake(&format!("raw/t/_delta_log/{name}"));
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text.join("\n")).unwrap();
}

pub(crate) fn protocol(feature: &str) -> Value {
    json!({"protocol": {"minReaderVersion": 3, "minWriterVersion": 7, "readerFeatures": [feature], "writerFeatures": [feature]}})
}

pub(crate) fn meta(fields: &Value, partition_by: &[&str], configuration: &Value) -> Value {
    let schema = json!({"type": "struct", "fields": fields}).to_string();
    json!({"metaData": {"id": "6b0b6a4e-0b0f-4d4d-9f4e-0d7c7d9f1a11", "format": {"provider": "parquet", "options": {}},
        "schemaString": schema, "partitionColumns": partition_by, "configuration": configuration}})
}

pub(crate) fn add(fixture: &Fixture, file: &str, path: &str, partition: &Value) -> Value {
    let size = fs::metadata(fixture.in_lake(file)).unwrap().len();
    json!({"add": {"path": path, "partitionValues": partition, "size": size, "modificationTime": 1, "dataChange": true}})
}

pub(crate) async fn register(fixture: &Fixture) {
    fixture.catalog.register(&"raw.t".parse().unwrap(), "raw/t").await.unwrap();
}

pub(crate) fn longs(values: impl IntoIterator<Item = i64>) -> ArrayRef {
    Arc::new(Int64Array::from_iter_values(values))
}

pub(crate) fn id_fields() -> Value {
    json!([{"name": "id", "type": "long", "nullable": true, "metadata": {}}])
}

/// `id bigint, items struct<n: bigint>[], "by day" text` with other names in files; `names` are those of the Parquet file.
async fn mapped(mode: &str, names: [&str; 3]) -> Fixture {
    let fixture = Fixture::new().await;
    let mapping =
        |id: i32, physical: &str| json!({"delta.columnMapping.id": id, "delta.columnMapping.physicalName": physical});
    let inner = json!({"type": "struct", "fields": [{"name": "n", "type": "long", "nullable": true, "metadata": mapping(3, "col-n")}]});
    let fields = json!([
        {"name": "id", "type": "long", "nullable": true, "metadata": mapping(1, "col-id")},
        {"name": "items", "nullable": true, "metadata": mapping(2, "col-items"),
         "type": {"type": "array", "elementType": inner, "containsNull": true}},
        {"name": "day", "type": "string", "nullable": true, "metadata": mapping(4, "col-day")},
    ]);
    let [id, items, n] = names;
    let number = with_id(Field::new(n, DataType::Int64, true), 3);
    let pairs = StructArray::try_new(vec![number].into(), vec![longs([10, 11, 12])], None).unwrap();
    let element = Arc::new(Field::new("element", pairs.data_type().clone(), true));
    let lists = ListArray::try_new(element, OffsetBuffer::from_lengths([2, 1]), Arc::new(pairs), None).unwrap();
    let items = with_id(Field::new(items, lists.data_type().clone(), true), 2);
    let columns =
        vec![(with_id(Field::new(id, DataType::Int64, true), 1), longs([1, 2])), (items, Arc::new(lists) as ArrayRef)];
    put_file(&fixture, "raw/t/a.parquet", columns);
    let mut file = add(&fixture, "raw/t/a.parquet", "a.parquet", &json!({"col-day": "mon"}));
    file["add"]["stats"] =
        json!({"numRecords": 2, "minValues": {"col-id": 1}, "maxValues": {"col-id": 2}, "nullCount": {"col-id": 0}})
            .to_string()
            .into();
    let settings = json!({"delta.columnMapping.mode": mode, "delta.columnMapping.maxColumnId": "4"});
    put_log(
        &fixture,
        "00000000000000000000.json",
        &[protocol("columnMapping"), meta(&fields, &["day"], &settings), file],
    );
    register(&fixture).await;
    fixture
}

#[tokio::test(flavor = "multi_thread")]
async fn mapped_columns_are_read_by_name_and_by_id() {
    // By id, the names in the file mean nothing: two of them are even swapped.
    for (mode, names) in [("name", ["col-id", "col-items", "col-n"]), ("id", ["col-items", "col-id", "other"])] {
        let fixture = mapped(mode, names).await;
        let all = fixture.must("select id, items[1]['n'], day from raw.t order by id").await;
        assert_eq!(all, ["1|10|mon", "2|12|mon"], "{mode}");
        assert_eq!(
            fixture.must("select items[2]['n'] from raw.t where id = 1 and day = 'mon'").await,
            ["11"],
            "{mode}"
        );
        assert_eq!(fixture.must("select count(*) from raw.t where id > 2 or day <> 'mon'").await, ["0"], "{mode}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_to_a_table_with_mapped_columns_is_refused_before_its_seal() {
    let fixture = mapped("name", ["col-id", "col-items", "col-n"]).await;
    // The second one shows that the first has left nothing behind.
    for _ in 0..2 {
        let error = fixture.error("insert into raw.t (id) values (3)").await;
        assert!(error.contains("needs writing with column mapping, which Lode does not support"), "{error}");
    }
    assert!(fixture.catalog.pipelines().await.unwrap().iter().all(|pipeline| pipeline.error.is_none()));
    assert_eq!(fixture.must("select count(*) from raw.t").await, ["2"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_rows_stay_dead_in_every_row_group() {
    let fixture = Fixture::new().await;
    put_file(&fixture, "raw/t/a.parquet", vec![(Field::new("id", DataType::Int64, true), longs(0..30))]);
    let mut file = add(&fixture, "raw/t/a.parquet", "a.parquet", &json!({}));
    // Rows 3, 4, 7, 11, 18 and 29. Source: delta-kernel-rs, its tests of inline vectors.
    file["add"]["deletionVector"] = json!({"storageType": "i", "sizeInBytes": 44, "cardinality": 6,
        "pathOrInlineDv": "^Bg9^0rr910000000000iXQKl0rr91000f55c8Xg0@@D72lkbi5=-{L"});
    put_log(
        &fixture,
        "00000000000000000000.json",
        &[protocol("deletionVectors"), meta(&id_fields(), &[], &json!({})), file],
    );
    register(&fixture).await;
    let live: Vec<String> = (0..30).filter(|id| ![3, 4, 7, 11, 18, 29].contains(id)).map(|id| id.to_string()).collect();
    assert_eq!(fixture.must("select id from raw.t order by id").await, live);
    assert_eq!(fixture.must("select id from raw.t where id between 10 and 12 order by id").await, ["10", "12"]);
    assert_eq!(fixture.must("select count(*), max(id) from raw.t").await, ["24|28"]);
}

/// The block of a vector file. Source: Delta protocol, "Deletion Vector Format"; Roaring format, without run containers.
fn vector(rows: &[u16]) -> Vec<u8> {
    let mut bytes = 1_681_511_377_u32.to_le_bytes().to_vec();
    bytes.extend(1_u64.to_le_bytes());
    for number in [0, 12_346, 1, u32::from(rows.len() as u16 - 1) << 16, 16] {
        bytes.extend(u32::to_le_bytes(number));
    }
    bytes.extend(rows.iter().flat_map(|row| row.to_le_bytes()));
    bytes
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0xEDB8_8320 & (crc & 1).wrapping_neg()))
    })
}

/// A vector file with one block behind another; returns where each begins and how long it is.
fn put_vectors(fixture: &Fixture, path: &str, vectors: &[&[u16]]) -> Vec<(usize, usize)> {
    let (mut file, mut blocks) = (vec![1], Vec::new());
    for rows in vectors {
        let block = vector(rows);
        blocks.push((file.len(), block.len()));
        file.extend((block.len() as u32).to_be_bytes());
        file.extend(&block);
        file.extend(crc32(&block).to_be_bytes());
    }
    let path = fixture.in_lake(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, file).unwrap();
    blocks
}

#[tokio::test(flavor = "multi_thread")]
async fn vectors_in_files_of_the_table_and_elsewhere_kill_their_rows() {
    let fixture = Fixture::new().await;
    for (name, from) in [("a", 0), ("b", 100), ("c", 200)] {
        put_file(
            &fixture,
            &format!("raw/t/{name}.parquet"),
            vec![(Field::new("id", DataType::Int64, true), longs(from..from + 12))],
        );
    }
    // Row groups hold 4 rows: one of `b` is dead as a whole.
    let dead: [&[u16]; 3] = [&[0, 5, 11], &[3, 4, 5, 6, 7, 8], &[1]];
    // Source: Delta protocol, example of a relative vector.
    let own = put_vectors(&fixture, "raw/t/ab/deletion_vector_d2c639aa-8816-431a-aaf6-d3fe2512ff61.bin", &dead[..2]);
    let other = put_vectors(&fixture, "raw/other/dead rows.bin", &dead[2..]);
    let url = fixture.catalog.store().url().join("raw/other/dead%20rows.bin").unwrap();
    let relative = "ab^-aqEH.-t@S}K{vb[*k^";
    let places = [("a", "u", relative, own[0]), ("b", "u", relative, own[1]), ("c", "p", url.as_str(), other[0])];
    let mut lines = vec![protocol("deletionVectors"), meta(&id_fields(), &[], &json!({}))];
    for ((name, storage, path, (offset, size)), rows) in places.into_iter().zip(dead) {
        let mut file = add(&fixture, &format!("raw/t/{name}.parquet"), &format!("{name}.parquet"), &json!({}));
        file["add"]["deletionVector"] = json!({"storageType": storage, "pathOrInlineDv": path, "offset": offset,
            "sizeInBytes": size, "cardinality": rows.len()});
        lines.push(file);
    }
    put_log(&fixture, "00000000000000000000.json", &lines);
    register(&fixture).await;
    let live: Vec<i64> =
        [1, 2, 3, 4, 6, 7, 8, 9, 10].into_iter().chain([100, 101, 102, 109, 110, 111, 200]).chain(202..212).collect();
    let texts: Vec<String> = live.iter().map(ToString::to_string).collect();
    assert_eq!(fixture.must("select id from raw.t order by id").await, texts);
    assert_eq!(fixture.must("select count(*), min(id), max(id) from raw.t").await, ["26|1|211"]);
    assert_eq!(fixture.must("select id from raw.t where id between 103 and 109").await, ["109"]);
    // A vector that is gone is an error, never live rows.
    fs::remove_file(fixture.in_lake("raw/other/dead rows.bin")).unwrap();
    let error = fixture.error("select * from raw.t").await;
    assert!(error.contains("raw/other/dead rows.bin"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_a_mapping_left_behind_mean_nothing() {
    let fixture = Fixture::new().await;
    let left = json!({"delta.columnMapping.id": 1, "delta.columnMapping.physicalName": "col-id"});
    let inner =
        json!({"type": "struct", "fields": [{"name": "n", "type": "long", "nullable": true, "metadata": left}]});
    let fields = json!([
        {"name": "id", "type": "long", "nullable": true, "metadata": left},
        {"name": "s", "type": inner, "nullable": true, "metadata": {}},
    ]);
    let pairs = StructArray::from(vec![(Arc::new(Field::new("n", DataType::Int64, true)), longs([10, 20]))]);
    let columns = vec![
        (Field::new("id", DataType::Int64, true), longs([1, 2])),
        (Field::new("s", pairs.data_type().clone(), true), Arc::new(pairs) as ArrayRef),
    ];
    put_file(&fixture, "raw/t/a.parquet", columns);
    let head = json!({"protocol": {"minReaderVersion": 1, "minWriterVersion": 2}});
    let file = add(&fixture, "raw/t/a.parquet", "a.parquet", &json!({}));
    let settings = json!({"delta.columnMapping.mode": "none"});
    put_log(&fixture, "00000000000000000000.json", &[head, meta(&fields, &[], &settings), file]);
    register(&fixture).await;
    assert_eq!(fixture.must("select id, s.n from raw.t order by id").await, ["1|10", "2|20"]);
    fixture.must("insert into raw.t (id) values (3)").await;
    assert_eq!(fixture.must("select id, s.n from raw.t where id > 1 order by id").await, ["2|20", "3|NULL"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_lode_does_not_know_is_refused_by_name() {
    let unknown = [
        (
            json!({"minReaderVersion": 3, "minWriterVersion": 7, "readerFeatures": ["timestampNtz", "fluxRows"],
            "writerFeatures": ["timestampNtz", "fluxRows"]}),
            "needs the Delta feature fluxRows, which Lode does not support",
        ),
        (json!({"minReaderVersion": 4, "minWriterVersion": 7}), "needs the Delta feature reader version 4, which"),
    ];
    for (protocol, wanted) in unknown {
        let fixture = Fixture::new().await;
        put_file(&fixture, "raw/t/a.parquet", vec![(Field::new("id", DataType::Int64, true), longs([1]))]);
        let known = json!({"protocol": {"minReaderVersion": 1, "minWriterVersion": 2}});
        let file = add(&fixture, "raw/t/a.parquet", "a.parquet", &json!({}));
        put_log(&fixture, "00000000000000000000.json", &[known, meta(&id_fields(), &[], &json!({})), file]);
        register(&fixture).await;
        assert_eq!(fixture.must("select id from raw.t").await, ["1"]);
        put_log(&fixture, "00000000000000000001.json", &[json!({"protocol": protocol})]);
        let error = fixture.error("select id from raw.t").await;
        assert!(error.contains(wanted), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_writer_feature_that_lode_does_not_know_keeps_from_writing_only() {
    let fixture = Fixture::new().await;
    put_file(&fixture, "raw/t/a.parquet", vec![(Field::new("id", DataType::Int64, true), longs([1]))]);
    let head = json!({"protocol": {"minReaderVersion": 1, "minWriterVersion": 7, "writerFeatures": ["rowTracking"]}});
    let file = add(&fixture, "raw/t/a.parquet", "a.parquet", &json!({}));
    put_log(&fixture, "00000000000000000000.json", &[head, meta(&id_fields(), &[], &json!({})), file]);
    register(&fixture).await;
    let error = fixture.error("insert into raw.t values (2)").await;
    assert!(error.contains("table \"raw.t\" needs rowTracking, which Lode does not support"), "{error}");
    assert_eq!(fixture.must("select id from raw.t").await, ["1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn encoded_absolute_and_foreign_paths_lead_to_their_files_or_are_refused() {
    let fixture = Fixture::new().await;
    let fields = json!([
        {"name": "id", "type": "long", "nullable": true, "metadata": {}},
        {"name": "p", "type": "string", "nullable": true, "metadata": {}},
    ]);
    let id = || Field::new("id", DataType::Int64, true);
    // Hive escapes the value in the folder's name; the log encodes that name once more.
    put_file(&fixture, "raw/t/p=a%2Fb c/a.parquet", vec![(id(), longs([1]))]);
    put_file(&fixture, "raw/elsewhere/b c.parquet", vec![(id(), longs([2]))]);
    put_file(&fixture, "raw/t/c.parquet", vec![(id(), longs([3]))]);
    let encoded = add(&fixture, "raw/t/p=a%2Fb c/a.parquet", "p=a%252Fb%20c/a.parquet", &json!({"p": "a/b c"}));
    let url = fixture.catalog.store().url().join("raw/elsewhere/b%20c.parquet").unwrap();
    let absolute = add(&fixture, "raw/elsewhere/b c.parquet", url.as_str(), &json!({"p": null}));
    let empty = add(&fixture, "raw/t/c.parquet", "c.parquet", &json!({"p": ""}));
    let lines = [
        json!({"protocol": {"minReaderVersion": 1, "minWriterVersion": 2}}),
        meta(&fields, &["p"], &json!({})),
        encoded,
        absolute,
        empty,
    ];
    put_log(&fixture, "00000000000000000000.json", &lines);
    register(&fixture).await;
    assert_eq!(fixture.must("select id, p from raw.t order by id").await, ["1|a/b c", "2|NULL", "3|NULL"]);
    assert_eq!(fixture.must("select id from raw.t where p = 'a/b c'").await, ["1"]);
    let outside = add(&fixture, "raw/t/c.parquet", "file:///nowhere/c.parquet", &json!({"p": "x"}));
    put_log(&fixture, "00000000000000000001.json", &[outside]);
    let error = fixture.error("select * from raw.t").await;
    assert!(error.contains("the data file \"file:///nowhere/c.parquet\" outside of the lake"), "{error}");
}

/// The log went on and was cleaned up to its checkpoint, while we knew an older version.
#[tokio::test(flavor = "multi_thread")]
async fn a_table_whose_log_was_cleaned_moves_to_its_checkpoint() {
    let fixture = Fixture::new().await;
    let id = || Field::new("id", DataType::Int64, true);
    for n in 0..3 {
        put_file(&fixture, &format!("raw/t/{n}.parquet"), vec![(id(), longs([n]))]);
    }
    let file = |n: i64| add(&fixture, &format!("raw/t/{n}.parquet"), &format!("{n}.parquet"), &json!({}));
    let head = [protocol("v2Checkpoint"), meta(&id_fields(), &[], &json!({}))];
    put_log(&fixture, "00000000000000000000.json", &[head[0].clone(), head[1].clone(), file(0)]);
    register(&fixture).await;
    assert_eq!(fixture.must("select id from raw.t order by id").await, ["0"]);
    put_log(
        &fixture,
        "00000000000000000009.checkpoint.3a0d65cd-4056-49b8-937b-95f9e3ee90e5.json",
        &[json!({"checkpointMetadata": {"version": 9}}), head[0].clone(), head[1].clone(), file(0), file(1)],
    );
    put_log(&fixture, "00000000000000000010.json", &[file(2)]);
    fs::remove_file(fixture.in_lake("raw/t/_delta_log/00000000000000000000.json")).unwrap();
    assert_eq!(fixture.must("select id from raw.t order by id").await, ["0", "1", "2"]);
    // Compacted logs are a copy of commits that are there.
    put_log(&fixture, "00000000000000000010.00000000000000000011.compacted.json", &[file(0)]);
    assert_eq!(fixture.must("select count(*) from raw.t").await, ["3"]);
    // Where the commits are needed, the error says which snapshot is left.
    let table = lode_lake::DeltaTable::new(fixture.catalog.store(), "raw/t");
    let error = table.snapshot(Some(lode_core::SnapshotId(3))).await.unwrap_err();
    assert_eq!(error.to_string(), "snapshot 3 of table \"raw/t\" was cleaned out of its log; the oldest left is 9");
}
