use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use arrow::array::*;
use arrow::datatypes::{DataType, Field, Fields};
use lode_core::{ErrorKind, Explain, SnapshotId, TableName};
use lode_lake::{
    Evolution, Exposed, Exposure, FaultPlan, LakeError, Operation, SchemaPolicy, Store, StorePath, TableDefinition,
    expose,
};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use serde_json::{Value, json};

use crate::build::*;

async fn exposed(store: &Store) -> Exposed {
    expose(store, LOCATION, None).await.unwrap()
}

async fn metadata(store: &Store, exposed: &Exposed) -> Value {
    serde_json::from_slice(&store.get(&exposed.metadata).await.unwrap()).unwrap()
}

async fn hint(store: &Store) -> String {
    let bytes = store.get(&in_metadata("version-hint.text")).await.unwrap();
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn in_metadata(name: &str) -> StorePath {
    StorePath::from(format!("{LOCATION}/metadata/{name}"))
}

/// Names and sizes of the files in `metadata`.
async fn files(store: &Store) -> Vec<(String, u64)> {
    let listed = store.list(&StorePath::from(format!("{LOCATION}/metadata")), None).await.unwrap();
    listed.iter().map(|meta| (meta.location.filename().unwrap().to_owned(), meta.size)).collect()
}

fn summary(metadata: &Value) -> &Value {
    &metadata["snapshots"].as_array().unwrap().last().unwrap()["summary"]
}

#[expect(clippy::print_stderr, reason = "whoever runs the test must know what it left out")]
fn say_skipped() {
    eprintln!("skipped: reading with pyiceberg, DuckDB and polars, as LODE_ICEBERG_PYTHON names no Python");
}

/// Has every reader of `LODE_ICEBERG_PYTHON` compare the table with `expected`; without it, says so.
fn check(store: &Store, exposed: &Exposed, expected: &[RecordBatch], conditions: &[&str]) {
    check_at(store, exposed, "-", expected, conditions);
}

fn check_at(store: &Store, exposed: &Exposed, at: &str, expected: &[RecordBatch], conditions: &[&str]) {
    if let Err(shown) = compare(store, exposed, at, expected, conditions) {
        panic!("{shown}");
    }
}

/// `Err` with what readers see otherwise.
fn compare(
    store: &Store,
    exposed: &Exposed,
    at: &str,
    expected: &[RecordBatch],
    conditions: &[&str],
) -> Result<(), String> {
    if store.url().scheme() != "file" {
        return Ok(());
    }
    let Some(python) = std::env::var_os("LODE_ICEBERG_PYTHON") else {
        say_skipped();
        return Ok(());
    };
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("expected.parquet");
    let mut writer = ArrowWriter::try_new(std::fs::File::create(&file).unwrap(), expected[0].schema(), None).unwrap();
    expected.iter().for_each(|batch| writer.write(batch).unwrap());
    writer.close().unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/iceberg_readers.py");
    let table = exposed.metadata_location.rsplit_once("/metadata/").unwrap().0;
    let output = Command::new(python)
        .args([script.as_os_str(), exposed.metadata_location.as_ref(), table.as_ref(), file.as_os_str(), at.as_ref()])
        .args(conditions)
        .output()
        .unwrap();
    let shown = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    if output.status.success() { Ok(()) } else { Err(shown.join("\n")) }
}

/// The checks of this file can fail.
#[tokio::test(flavor = "multi_thread")]
async fn readers_that_see_other_rows_are_found_out() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::local(folder.path()).unwrap();
    table_of(&store, &[1, 2]).await;
    let exposed = exposed(&store).await;
    compare(&store, &exposed, "-", &[rows(&[1, 2])], &["id = 1"]).unwrap();
    if std::env::var_os("LODE_ICEBERG_PYTHON").is_some() {
        for wrong in [rows(&[1]), rows(&[1, 2, 2]), rows(&[1, 3])] {
            let shown = compare(&store, &exposed, "-", &[wrong], &[]).unwrap_err();
            for reader in ["pyiceberg: ", "duckdb, metadata file: ", "duckdb, folder: ", "polars: "] {
                assert!(shown.contains(reader), "{shown}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_is_followed_through_append_and_overwrite() {
    let (_folder, stores) = stores();
    for store in stores {
        let (_, definition) = table_of(&store, &[1, 2, 3]).await;
        let first = exposed(&store).await;
        assert_eq!((first.version, first.snapshot_id, first.outcome), (SnapshotId(0), 1, Exposure::Rebuilt));
        check(&store, &first, &[rows(&[1, 2, 3])], &["id > 2", "name = 'n1'"]);

        append(&store, &definition, 0, &[4, 5], "a").await;
        let second = exposed(&store).await;
        assert_eq!((second.snapshot_id, second.outcome, second.table_uuid), (2, Exposure::Added, first.table_uuid));
        assert_eq!(hint(&store).await, "2");
        check(&store, &second, &[rows(&[1, 2, 3, 4, 5])], &["id > 3", "id < 2", "name is null"]);
        check_at(&store, &second, "1", &[rows(&[1, 2, 3])], &[]);
        let read = metadata(&store, &second).await;
        assert_eq!(summary(&read)["operation"], "append");
        assert_eq!(summary(&read)["lode.delta-version"], "1");
        assert_eq!(summary(&read)["lode.txn.create"], "1");
        assert_eq!(summary(&read)["lode.txn.a"], "1");
        assert_eq!(summary(&read)["total-records"], "5");
        assert_eq!(read["snapshots"][1]["parent-snapshot-id"], 1);
        assert_eq!(read["snapshots"][0]["summary"].get("lode.txn.create"), None, "it stands at the newest snapshot");

        let files = write(&store, &definition, &[rows(&[9])]);
        commit(&store, &change(1, Operation::Overwrite, files), "b", 1).await;
        let third = exposed(&store).await;
        check(&store, &third, &[rows(&[9])], &["id = 9", "id = 1"]);
        check_at(&store, &third, "2", &[rows(&[1, 2, 3, 4, 5])], &[]);
        let read = metadata(&store, &third).await;
        assert_eq!(summary(&read)["operation"], "overwrite");
        assert_eq!(summary(&read)["deleted-data-files"], "2");
        assert_eq!(summary(&read)["deleted-records"], "5");
        assert_eq!(summary(&read)["total-data-files"], "1");
    }
}

#[tokio::test]
async fn a_version_that_is_there_writes_nothing() {
    let (_folder, stores) = stores();
    for store in stores {
        let (_, definition) = table_of(&store, &[1]).await;
        append(&store, &definition, 0, &[2], "a").await;
        let first = exposed(&store).await;
        let before = files(&store).await;
        for version in [None, Some(SnapshotId(1)), Some(SnapshotId(0))] {
            let again = expose(&store, LOCATION, version).await.unwrap();
            let wanted = Exposed { outcome: Exposure::AlreadyThere, ..first.clone() };
            assert_eq!(again, wanted, "Iceberg does not go back");
        }
        assert_eq!(files(&store).await, before);
        let error = expose(&store, LOCATION, Some(SnapshotId(7))).await.unwrap_err();
        assert!(matches!(error, LakeError::NoSnapshot { .. }), "{error}");
        let error = expose(&store, "bronze/nothing", None).await.unwrap_err();
        assert!(matches!(error, LakeError::NotFound { .. }), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_versions_become_one_snapshot() {
    let (_folder, stores) = stores();
    for store in stores {
        let (_, definition) = table_of(&store, &[0]).await;
        exposed(&store).await;
        for n in 1..=5 {
            append(&store, &definition, 0, &[n], &format!("a{n}")).await;
        }
        // Also from a log that nobody has in memory.
        let store = store.with_faults(FaultPlan::default());
        let newest = exposed(&store).await;
        assert_eq!((newest.snapshot_id, newest.outcome), (6, Exposure::Added));
        let read = metadata(&store, &newest).await;
        assert_eq!(read["snapshots"].as_array().unwrap().len(), 2);
        assert_eq!(summary(&read)["added-data-files"], "5");
        check(&store, &newest, &[rows(&[0, 1, 2, 3, 4, 5])], &["id >= 3"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn metadata_stays_small_over_a_thousand_commits() {
    let (_folder, stores) = stores();
    for store in stores {
        let (_, definition) = table_of(&store, &[0]).await;
        exposed(&store).await;
        let file = write(&store, &definition, &[rows(&[1])]).remove(0);
        let bytes = store.get(&StorePath::parse(format!("{LOCATION}/{}", file.path)).unwrap()).await.unwrap();
        // What a failed attempt leaves goes in time.
        let orphan = in_metadata("lode-m-2-00000000000000000000000000000000-0.avro");
        store.put(&orphan, "".into()).await.unwrap();
        let mut written = 0;
        let commits = if store.url().scheme() == "file" { 200 } else { 1000 };
        for n in 1..=commits {
            // The same rows under another name: writing them is not what is measured.
            let mut copy = file.clone();
            copy.path = format!("copy-{n}.parquet");
            store.put(&StorePath::from(format!("{LOCATION}/{}", copy.path)), bytes.clone()).await.unwrap();
            commit(&store, &change(n - 1, Operation::Append, vec![copy]), "stream", n).await;
            let before = files(&store).await;
            exposed(&store).await;
            let after = files(&store).await;
            written = after.iter().filter(|file| !before.contains(file)).map(|(_, size)| size).sum();
            assert!(written < 400_000, "{written} bytes at commit {n}");
        }
        let newest = exposed(&store).await;
        let read = metadata(&store, &newest).await;
        assert_eq!(read["snapshots"].as_array().unwrap().len(), 100);
        assert_eq!(summary(&read)["total-data-files"], (commits + 1).to_string());
        let left = files(&store).await;
        let count = |start: &str| left.iter().filter(|(name, _)| name.starts_with(start)).count();
        assert!(count("v") <= 108, "{} metadata files", count("v"));
        assert!((100..108).contains(&count("lode-snap-")), "{} manifest lists", count("lode-snap-"));
        assert!(count("lode-m-") < 108 + 3 * 20, "{} manifests", count("lode-m-"));
        assert!(store.head(&orphan).await.unwrap().is_none());
        for entry in read["metadata-log"].as_array().unwrap() {
            let name = entry["metadata-file"].as_str().unwrap().rsplit('/').next().unwrap();
            assert!(left.iter().any(|(file, _)| file == name), "{name} is gone");
        }
        assert!(written < 100_000, "{written} bytes at the last commit");
        if store.url().scheme() == "file" {
            let all = std::iter::once(0).chain(std::iter::repeat_n(1, commits as usize)).collect::<Vec<_>>();
            check(&store, &newest, &[rows(&all)], &["id = 0"]);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn columns_are_added_and_widened() {
    let (_folder, stores) = stores();
    for store in stores {
        let before = definition(&[("id", "integer"), ("f", "real")], &[]);
        let old = batch(vec![
            ("id", Arc::new(Int32Array::from(vec![1, 2]))),
            ("f", Arc::new(Float32Array::from(vec![0.5, 1.5]))),
        ]);
        commit(&store, &creation(&before, write(&store, &before, &[old])), "create", 1).await;
        exposed(&store).await;
        let new = batch(vec![
            ("id", Arc::new(Int64Array::from(vec![1_i64 << 40]))),
            ("f", Arc::new(Float64Array::from(vec![2.5]))),
            ("speed", Arc::new(StringViewArray::from(vec!["fast"]))),
        ]);
        let Evolution::InPlace(after) = before.evolve(&new.schema(), SchemaPolicy::SyncAllColumns).unwrap() else {
            panic!("not in place")
        };
        let mut append = change(0, Operation::Append, write(&store, &after, std::slice::from_ref(&new)));
        append.definition = Some(after.clone());
        commit(&store, &append, "a", 1).await;
        let newest = exposed(&store).await;
        assert_eq!(newest.outcome, Exposure::Added);
        let widened = batch(vec![
            ("id", Arc::new(Int64Array::from(vec![1, 2]))),
            ("f", Arc::new(Float64Array::from(vec![0.5, 1.5]))),
            ("speed", Arc::new(StringViewArray::from(vec![None::<&str>, None]))),
        ]);
        let conditions =
            ["id = 2", "id > 5", "id > 1099511627775", "f < 1.0", "f > 1.0", "speed is null", "speed = 'fast'"];
        check(&store, &newest, &[widened, new], &conditions);
        let read = metadata(&store, &newest).await;
        assert_eq!(read["current-schema-id"], 1);
        assert_eq!(read["schemas"][0]["fields"][0]["type"], "int");
        assert_eq!(read["schemas"][1]["fields"][0], json!({"id": 1, "name": "id", "required": false, "type": "long"}));
        assert_eq!(read["schemas"][1]["fields"][2]["id"], 3);
        assert_eq!((&read["snapshots"][0]["schema-id"], &read["snapshots"][1]["schema-id"]), (&json!(0), &json!(1)));
        assert_eq!(read["last-column-id"], 3);
        let mapping: Value =
            serde_json::from_str(read["properties"]["schema.name-mapping.default"].as_str().unwrap()).unwrap();
        assert_eq!(mapping[2], json!({"field-id": 3, "names": ["speed"]}));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_column_is_widened() {
    let (_folder, stores) = stores();
    for store in stores {
        let before = definition(&[("id", "integer"), ("n", "integer"), ("name", "text")], &["id"]);
        let of = |id: ArrayRef, names: Vec<&str>| {
            let n = Int32Array::from((0..names.len() as i32).collect::<Vec<_>>());
            batch(vec![("id", id), ("n", Arc::new(n)), ("name", Arc::new(StringViewArray::from(names)))])
        };
        let old = of(Arc::new(Int32Array::from(vec![1, 2])), vec!["a", "b"]);
        commit(&store, &creation(&before, write(&store, &before, &[old])), "create", 1).await;
        exposed(&store).await;
        let new = of(Arc::new(Int64Array::from(vec![1_i64 << 40])), vec!["c"]);
        // As another writer may do it.
        let mut fields: Vec<Field> = before.schema.fields().iter().map(|field| field.as_ref().clone()).collect();
        fields[0] = fields[0].clone().with_data_type(DataType::Int64);
        let after = TableDefinition { schema: Arc::new(arrow::datatypes::Schema::new(fields)), ..before };
        let mut append = change(0, Operation::Append, write(&store, &after, std::slice::from_ref(&new)));
        append.definition = Some(after.clone());
        commit(&store, &append, "a", 1).await;
        let newest = exposed(&store).await;
        assert_eq!(newest.outcome, Exposure::Added);
        let widened = of(Arc::new(Int64Array::from(vec![1, 2])), vec!["a", "b"]);
        check(&store, &newest, &[widened, new], &["id = 2", "id > 5", "id < 2"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_type_is_read_back() {
    let (_folder, stores) = stores();
    for store in stores {
        let columns = [
            ("id", "bigint"),
            ("small", "smallint"),
            ("num", "integer"),
            ("r", "real"),
            ("d", "double precision"),
            ("dec", "numeric(12,2)"),
            ("big", "numeric(38,9)"),
            ("s", "text"),
            ("v", "varchar(50)"),
            ("b", "bytea"),
            ("yes", "boolean"),
            ("day", "date"),
            ("at", "timestamp"),
            ("atz", "timestamptz"),
            ("t", "time"),
            ("u", "uuid"),
            ("j", "json"),
            ("l", "integer[]"),
            ("p", "struct<x: integer, y: text>"),
        ];
        let definition = definition(&columns, &[]);
        let decimal = |values: Vec<Option<i128>>, precision, scale| {
            Arc::new(Decimal128Array::from(values).with_precision_and_scale(precision, scale).unwrap()) as ArrayRef
        };
        let texts = |values: [Option<&str>; 3]| Arc::new(StringViewArray::from(values.to_vec())) as ArrayRef;
        let mut list = ListBuilder::new(Int32Builder::new());
        list.append_value([Some(1), None]);
        list.append_null();
        list.append_value([]);
        let parts: ArrayRef = Arc::new(StructArray::new(
            Fields::from(vec![Field::new("x", DataType::Int32, true), Field::new("y", DataType::Utf8View, true)]),
            vec![Arc::new(Int32Array::from(vec![Some(7), None, Some(-7)])), texts([Some("a"), None, Some("b")])],
            Some(vec![true, false, true].into()),
        ));
        let long = "é".repeat(45);
        let rows: Vec<(&str, ArrayRef)> = vec![
            ("id", Arc::new(Int64Array::from(vec![Some(i64::MIN), None, Some(i64::MAX)]))),
            ("small", Arc::new(Int16Array::from(vec![Some(i16::MIN), None, Some(i16::MAX)]))),
            ("num", Arc::new(Int32Array::from(vec![Some(i32::MIN), None, Some(i32::MAX)]))),
            ("r", Arc::new(Float32Array::from(vec![Some(-1.5), None, Some(f32::INFINITY)]))),
            ("d", Arc::new(Float64Array::from(vec![Some(f64::NAN), None, Some(0.0)]))),
            ("dec", decimal(vec![Some(-123_456), None, Some(99)], 12, 2)),
            ("big", decimal(vec![Some(-1), None, Some(10_i128.pow(37))], 38, 9)),
            ("s", texts([Some(""), None, Some(long.as_str())])),
            ("v", texts([Some("a\nb"), None, Some("ü")])),
            ("b", Arc::new(BinaryViewArray::from(vec![Some(&b"\0\xff"[..]), None, Some(&b""[..])]))),
            ("yes", Arc::new(BooleanArray::from(vec![Some(true), None, Some(false)]))),
            ("day", Arc::new(Date32Array::from(vec![Some(-719_162), None, Some(20_000)]))),
            ("at", Arc::new(TimestampMicrosecondArray::from(vec![Some(-1), None, Some(1_700_000_000_123_456)]))),
            (
                "atz",
                Arc::new(
                    TimestampMicrosecondArray::from(vec![Some(-1), None, Some(1_700_000_000_123_456)])
                        .with_timezone("UTC"),
                ),
            ),
            ("t", texts([Some("12:34:56.789000"), None, Some("00:00:00")])),
            (
                "u",
                texts([
                    Some("d2c639aa-8816-431a-aaf6-d3fe2512ff61"),
                    None,
                    Some("00000000-0000-0000-0000-000000000000"),
                ]),
            ),
            ("j", texts([Some("{\"a\": 1}"), None, Some("[]")])),
            ("l", Arc::new(list.finish())),
            ("p", parts),
        ];
        let rows = batch(rows);
        let files = write(&store, &definition, std::slice::from_ref(&rows));
        commit(&store, &creation(&definition, files), "create", 1).await;
        let newest = exposed(&store).await;
        let conditions = [
            "id = -9223372036854775808",
            "num > 0",
            "r > 0",
            "d < 1",
            "\"dec\" < 0",
            "dec > 0.98",
            "big > 1000",
            "s > 'éé'",
            "day < '1970-01-01'",
            "yes = true",
            "t > '05:00:00'",
            "id is null",
        ];
        check(&store, &newest, &[rows], &conditions);
        let read = metadata(&store, &newest).await;
        let types: Vec<&Value> =
            read["schemas"][0]["fields"].as_array().unwrap().iter().map(|field| &field["type"]).collect();
        assert_eq!(types[13..17], ["timestamptz", "string", "string", "string"]);
        assert_eq!(types[18]["fields"][1], json!({"id": 22, "name": "y", "required": false, "type": "string"}));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_have_typed_values() {
    let (_folder, stores) = stores();
    for store in stores {
        let columns = [
            ("id", "bigint"),
            ("region name", "text"),
            ("day", "date"),
            ("n", "integer"),
            ("dec", "numeric(12,2)"),
            ("yes", "boolean"),
            ("at", "timestamp"),
            ("u", "uuid"),
        ];
        let by = ["region name", "day", "n", "dec", "yes", "at", "u"];
        let definition = definition(&columns, &by);
        let odd = ["a/b=c d", "ü%41 'x'", "#?&+", "..", "{[*]}"];
        let rows_of = |from: i64, names: &[&str]| {
            let count = names.len() + 1;
            let names: Vec<Option<&str>> = names.iter().map(|name| Some(*name)).chain([None]).collect();
            let numbers: Vec<Option<i32>> = (0..count as i32).map(|n| (n > 0).then_some(-n)).collect();
            let decimals: Vec<Option<i128>> = (0..count as i128).map(|n| (n > 0).then_some(n * -1_234)).collect();
            let id = Some("d2c639aa-8816-431a-aaf6-d3fe2512ff61");
            batch(vec![
                ("id", Arc::new(Int64Array::from_iter_values(from..from + count as i64))),
                ("region name", Arc::new(StringViewArray::from(names))),
                ("day", Arc::new(Date32Array::from(numbers.clone()))),
                ("n", Arc::new(Int32Array::from(numbers.clone()))),
                ("dec", Arc::new(Decimal128Array::from(decimals).with_precision_and_scale(12, 2).unwrap())),
                (
                    "yes",
                    Arc::new(BooleanArray::from(numbers.iter().map(|n| n.map(|n| n % 2 == 0)).collect::<Vec<_>>())),
                ),
                (
                    "at",
                    Arc::new(TimestampMicrosecondArray::from(
                        numbers.iter().map(|n| n.map(|n| i64::from(n) * 1_000_001)).collect::<Vec<_>>(),
                    )),
                ),
                ("u", Arc::new(StringViewArray::from(vec![id; count]))),
            ])
        };
        let first = rows_of(0, &odd);
        commit(&store, &creation(&definition, write(&store, &definition, std::slice::from_ref(&first))), "create", 1)
            .await;
        let newest = exposed(&store).await;
        let read = metadata(&store, &newest).await;
        let field = json!({"source-id": 2, "field-id": 1000, "name": "region name", "transform": "identity"});
        assert_eq!(read["partition-specs"][0]["fields"][0], field);
        assert_eq!(read["last-partition-id"], 1006);
        let conditions = ["day < '1969-12-30'", "n = -2", "n is null", "dec < -20", "yes = true", "id < 3"];
        check(&store, &newest, std::slice::from_ref(&first), &conditions);

        // The partitions of "a/b=c d" and NULL are replaced.
        let second = rows_of(100, &odd[..1]).slice(0, 1);
        let files = write(&store, &definition, std::slice::from_ref(&second));
        commit(&store, &change(0, Operation::ReplacePartitions, files), "a", 1).await;
        let newest = exposed(&store).await;
        check(&store, &newest, &[first.slice(1, odd.len()), second], &["n is null", "id >= 100"]);
        assert_eq!(summary(&metadata(&store, &newest).await)["deleted-data-files"], "1");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_may_be_empty() {
    let (_folder, stores) = stores();
    for store in stores {
        let definition = events();
        commit(&store, &creation(&definition, Vec::new()), "create", 1).await;
        check(&store, &exposed(&store).await, &[rows(&[])], &["id = 1"]);
        append(&store, &definition, 0, &[1, 2], "a").await;
        check(&store, &exposed(&store).await, &[rows(&[1, 2])], &["id = 1"]);
        commit(&store, &change(1, Operation::Overwrite, Vec::new()), "b", 1).await;
        let third = exposed(&store).await;
        check(&store, &third, &[rows(&[])], &["id = 1"]);
        assert_eq!(summary(&metadata(&store, &third).await)["operation"], "delete");
        foreign(&store, 3, &[json!({"commitInfo": {"operation": "SET TBLPROPERTIES"}})]).await;
        let fourth = exposed(&store).await;
        assert_eq!(fourth.snapshot_id, 4);
        check(&store, &fourth, &[rows(&[])], &[]);
        append(&store, &definition, 3, &[3], "c").await;
        check(&store, &exposed(&store).await, &[rows(&[3])], &["id = 3"]);
    }
}

/// Rows 3, 4, 7, 11, 18 and 29, as delta-kernel-rs has them in its tests.
fn vector() -> Value {
    json!({
        "storageType": "i",
        "pathOrInlineDv": "^Bg9^0rr910000000000iXQKl0rr91000f55c8Xg0@@D72lkbi5=-{L",
        "sizeInBytes": 44,
        "cardinality": 6,
    })
}

/// Deletes the rows of `vector` from the file that commit `from` added, as a foreign writer does.
async fn delete_rows(store: &Store, from: i64, version: i64) {
    let add = log_line(store, from, "add").await.unwrap();
    let (mut with, remove) = (add.clone(), json!({"path": add["path"], "dataChange": true, "deletionTimestamp": 1}));
    with["deletionVector"] = vector();
    let protocol = json!({"minReaderVersion": 3, "minWriterVersion": 7, "readerFeatures": ["deletionVectors"], "writerFeatures": ["deletionVectors"]});
    foreign(store, version, &[json!({"protocol": protocol}), json!({"remove": remove}), json!({"add": with})]).await;
}

fn without_dead(ids: std::ops::Range<i64>) -> Vec<i64> {
    let start = ids.start;
    ids.filter(|id| ![3, 4, 7, 11, 18, 29].contains(&(id - start))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_rows_become_position_deletes() {
    let (_folder, stores) = stores();
    for store in stores {
        let all: Vec<i64> = (0..30).collect();
        let (_, definition) = table_of(&store, &all).await;
        let more: Vec<i64> = (100..130).collect();
        append(&store, &definition, 0, &more, "a").await;
        exposed(&store).await;
        delete_rows(&store, 0, 2).await;
        let second = exposed(&store).await;
        assert_eq!(second.outcome, Exposure::Added);
        let live = [rows(&without_dead(0..30)), rows(&more)];
        check(&store, &second, &live, &["id = 3", "id < 12", "id >= 100", "name = 'n29'"]);
        let read = metadata(&store, &second).await;
        assert_eq!(summary(&read)["operation"], "overwrite");
        assert_eq!(summary(&read)["total-delete-files"], "1");
        assert_eq!(summary(&read)["total-position-deletes"], "6");
        let delete_files = |files: Vec<(String, u64)>| -> Vec<String> {
            files.into_iter().map(|(name, _)| name).filter(|name| name.starts_with("lode-del-")).collect()
        };
        assert_eq!(delete_files(files(&store).await).len(), 1);

        // Another file loses rows: the first delete file stays as it is.
        delete_rows(&store, 1, 3).await;
        let third = exposed(&store).await;
        let deletes = delete_files(files(&store).await);
        assert_eq!(deletes.len(), 2);
        let live = [rows(&without_dead(0..30)), rows(&without_dead(100..130))];
        check(&store, &third, &live, &["id = 3", "id = 103", "id > 10"]);
        check_at(&store, &third, "2", &[rows(&all), rows(&more)], &[]);

        // An append touches none of it.
        append(&store, &definition, 3, &[200], "b").await;
        let fourth = exposed(&store).await;
        assert_eq!(delete_files(files(&store).await), deletes);
        let live = [rows(&without_dead(0..30)), rows(&without_dead(100..130)), rows(&[200])];
        check(&store, &fourth, &live, &["id > 99"]);

        // The first file gets its rows back, the second one goes.
        let bare = log_line(&store, 0, "add").await.unwrap();
        let remove = |path: &Value| json!({"remove": {"path": path, "dataChange": true, "deletionTimestamp": 1, "deletionVector": vector()}});
        let gone = log_line(&store, 1, "add").await.unwrap();
        foreign(&store, 5, &[remove(&bare["path"]), remove(&gone["path"]), json!({"add": bare})]).await;
        let fifth = exposed(&store).await;
        check(&store, &fifth, &[rows(&all), rows(&[200])], &["id = 3", "id = 100"]);
        check_at(&store, &fifth, "5", &live, &[]);
        let read = metadata(&store, &fifth).await;
        assert_eq!(summary(&read)["total-delete-files"], "0");
        assert_eq!(summary(&read)["removed-delete-files"], "2");
    }
}

/// A deletion vector in a file of its own, as its descriptor in the log. Source: Delta protocol, "Deletion Vectors".
async fn vector_file(store: &Store, name: &str, dead: &[u64]) -> Value {
    let mut block = 1_681_511_377_u32.to_le_bytes().to_vec();
    dead.iter().copied().collect::<roaring::RoaringTreemap>().serialize_into(&mut block).unwrap();
    let mut crc = flate2::Crc::new();
    crc.update(&block);
    let size = block.len() as u32;
    let file = [&[1][..], &size.to_be_bytes(), &block, &crc.sum().to_be_bytes()].concat();
    let path = format!("{LOCATION}/_dv/{name}.bin");
    store.put(&StorePath::from(path.as_str()), file.into()).await.unwrap();
    json!({
        "storageType": "p", "pathOrInlineDv": store.url().join(&path).unwrap().to_string(), "offset": 1,
        "sizeInBytes": size, "cardinality": dead.len(),
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vector_that_changes_replaces_its_delete_file() {
    let (_folder, stores) = stores();
    for store in stores {
        let all: Vec<i64> = (0..100).collect();
        table_of(&store, &all).await;
        exposed(&store).await;
        let add = log_line(&store, 0, "add").await.unwrap();
        let protocol = json!({"minReaderVersion": 3, "minWriterVersion": 7, "readerFeatures": ["deletionVectors"], "writerFeatures": ["deletionVectors"]});
        let mut before: Option<Value> = None;
        let steps: [&[u64]; 4] = [&[1], &[1, 2, 5, 99], &[], &[2]];
        for (version, dead) in (1..).zip(steps) {
            let mut remove = json!({"path": add["path"], "dataChange": true, "deletionTimestamp": 1});
            if let Some(before) = before.take() {
                remove["deletionVector"] = before;
            }
            let mut with = add.clone();
            with["deletionVector"] = vector_file(&store, &format!("v{version}"), dead).await;
            before = Some(with["deletionVector"].clone());
            let lines = [json!({"protocol": protocol}), json!({"remove": remove}), json!({"add": with})];
            foreign(&store, version, &lines).await;
            let newest = exposed(&store).await;
            assert_eq!(newest.outcome, Exposure::Added);
            let live: Vec<i64> = all.iter().copied().filter(|id| !dead.contains(&(*id as u64))).collect();
            check(&store, &newest, &[rows(&live)], &["id < 6", "id = 99"]);
            let read = metadata(&store, &newest).await;
            assert_eq!(summary(&read)["total-position-deletes"], dead.len().to_string());
            assert_eq!(summary(&read)["total-delete-files"], if dead.is_empty() { "0" } else { "1" });
        }
        let newest = exposed(&store).await;
        let live: Vec<i64> = all.iter().copied().filter(|id| ![1, 2, 5, 99].contains(id)).collect();
        check_at(&store, &newest, "3", &[rows(&live)], &[]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_rows_of_partitions_stay_in_their_partition() {
    let (_folder, stores) = stores();
    for store in stores {
        let definition = definition(&[("id", "bigint"), ("region", "text"), ("day", "date")], &["region", "day"]);
        let of = |ids: Vec<i64>, region: Option<&str>| {
            let count = ids.len();
            batch(vec![
                ("id", Arc::new(Int64Array::from(ids))),
                ("region", Arc::new(StringViewArray::from(vec![region; count]))),
                ("day", Arc::new(Date32Array::from(vec![region.map(|_| 7); count]))),
            ])
        };
        let all = |from: i64| (from..from + 30).collect::<Vec<i64>>();
        commit(&store, &creation(&definition, write(&store, &definition, &[of(all(0), Some("a"))])), "create", 1).await;
        let files = write(&store, &definition, &[of(all(100), None)]);
        commit(&store, &change(0, Operation::Append, files), "a", 1).await;
        let files = write(&store, &definition, &[of(all(200), Some("a"))]);
        commit(&store, &change(1, Operation::Append, files), "b", 1).await;
        delete_rows(&store, 0, 3).await;
        delete_rows(&store, 1, 4).await;
        let newest = exposed(&store).await;
        let live = [of(without_dead(0..30), Some("a")), of(without_dead(100..130), None), of(all(200), Some("a"))];
        let conditions = ["region = 'a'", "region is null", "id = 103", "id = 203", "day > '1970-01-07'"];
        check(&store, &newest, &live, &conditions);
        // Once more on top of what is there.
        delete_rows(&store, 2, 5).await;
        let newest = exposed(&store).await;
        assert_eq!(newest.outcome, Exposure::Added);
        let live = [
            of(without_dead(0..30), Some("a")),
            of(without_dead(100..130), None),
            of(without_dead(200..230), Some("a")),
        ];
        check(&store, &newest, &live, &conditions);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn delete_files_go_with_the_last_snapshot_that_needs_them() {
    let (_folder, stores) = stores();
    for store in stores {
        let all: Vec<i64> = (0..30).collect();
        let (_, definition) = table_of(&store, &all).await;
        delete_rows(&store, 0, 1).await;
        exposed(&store).await;
        commit(&store, &change(1, Operation::Overwrite, write(&store, &definition, &[rows(&[0])])), "a", 1).await;
        for n in 2..=104 {
            exposed(&store).await;
            let deletes = files(&store).await.iter().filter(|(name, _)| name.starts_with("lode-del-")).count();
            // Snapshot 101 is the last one to keep snapshot 2, and files are deleted at every eighth one.
            assert_eq!(deletes, usize::from(n < 103), "at version {n}");
            append(&store, &definition, n, &[n], &format!("a{n}")).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn foreign_files_without_ids_and_statistics_are_read() {
    let (_folder, stores) = stores();
    for store in stores {
        let (_, definition) = table_of(&store, &[1, 2]).await;
        // Columns in another order, no field ids, no statistics.
        let columns = rows(&[7, 8, 9]);
        let swapped = columns.project(&[1, 0]).unwrap();
        let mut bytes = Vec::new();
        let options = ArrowWriterOptions::new().with_skip_arrow_metadata(true);
        let mut writer = ArrowWriter::try_new_with_options(&mut bytes, swapped.schema(), options).unwrap();
        writer.write(&swapped).unwrap();
        writer.close().unwrap();
        let size = bytes.len();
        store.put(&StorePath::from(format!("{LOCATION}/foreign file.parquet")), bytes.into()).await.unwrap();
        let add = json!({"path": "foreign%20file.parquet", "partitionValues": {}, "size": size, "modificationTime": 1, "dataChange": true});
        foreign(&store, 1, &[json!({"add": add.clone()})]).await;
        let newest = exposed(&store).await;
        assert_eq!(summary(&metadata(&store, &newest).await)["total-records"], "5");
        check(&store, &newest, &[rows(&[1, 2]), columns], &["id = 8", "name = 'n9'"]);
        append(&store, &definition, 1, &[3], "a").await;
        let newest = exposed(&store).await;
        check(&store, &newest, &[rows(&[1, 2, 3, 7, 8, 9])], &["id > 2"]);

        // A file that cannot be read is no reason to give up the history.
        let mut lost = add.clone();
        lost["path"] = json!("lost.parquet");
        foreign(&store, 3, &[json!({"add": lost})]).await;
        let error = expose(&store, LOCATION, None).await.unwrap_err();
        assert!(matches!(&error, LakeError::NotFound { path } if path.ends_with("lost.parquet")), "{error}");
        let bytes = store.get(&StorePath::from(format!("{LOCATION}/foreign file.parquet"))).await.unwrap();
        store.put(&StorePath::from(format!("{LOCATION}/lost.parquet")), bytes).await.unwrap();
        let last = exposed(&store).await;
        assert_eq!((last.outcome, last.table_uuid), (Exposure::Added, newest.table_uuid));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn columns_of_foreign_tables_that_change_places_break_no_history() {
    let (_folder, stores) = stores();
    for store in stores {
        let schema = |names: &[&str]| {
            let fields: Vec<Value> = names
                .iter()
                .map(|name| json!({"name": name, "type": if *name == "id" { "long" } else { "string" }, "nullable": true, "metadata": {}}))
                .collect();
            json!({"metaData": {
                "id": "6b1d7a7e-0a4e-4a5c-9d0f-0a5a3a3f3b11", "format": {"provider": "parquet", "options": {}},
                "schemaString": json!({"type": "struct", "fields": fields}).to_string(),
                "partitionColumns": [], "configuration": {},
            }})
        };
        let add = |file: &lode_lake::DataFile| json!({"add": {"path": file.path, "partitionValues": {}, "size": file.size_bytes, "modificationTime": 1, "dataChange": true}});
        let file = write(&store, &events(), &[rows(&[1])]).remove(0);
        let protocol = json!({"protocol": {"minReaderVersion": 1, "minWriterVersion": 2}});
        foreign(&store, 0, &[protocol, schema(&["id", "name"]), add(&file)]).await;
        let first = exposed(&store).await;
        // Ids that the log does not keep are counted anew: 1 is another column now.
        foreign(&store, 1, &[schema(&["extra", "id", "name"])]).await;
        let second = exposed(&store).await;
        assert_eq!(second.outcome, Exposure::Rebuilt);
        assert_ne!(second.table_uuid, first.table_uuid);
        let read = metadata(&store, &second).await;
        assert_eq!(read["snapshots"].as_array().unwrap().len(), 1);
        assert_eq!(read["schemas"].as_array().unwrap().len(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_lost_or_damaged_is_made_again() {
    let (_folder, stores) = stores();
    for store in stores {
        let (_, definition) = table_of(&store, &[1]).await;
        append(&store, &definition, 0, &[2], "a").await;
        let mut last = exposed(&store).await;
        let mut version = 1;
        type Damage = fn(&str) -> bool;
        let kinds: [(&str, Damage); 3] = [
            ("metadata file", |name| name.ends_with(".metadata.json")),
            ("manifest list", |name| name.starts_with("lode-snap-")),
            ("manifest", |name| name.starts_with("lode-m-")),
        ];
        for (kind, is_hit) in kinds {
            for cut in [None, Some(0), Some(3), Some(100)] {
                for is_behind in [false, true] {
                    for (name, _) in files(&store).await.iter().filter(|(name, _)| is_hit(name)) {
                        let path = in_metadata(name);
                        match cut {
                            None => store.delete(&path).await.unwrap(),
                            Some(cut) => {
                                let bytes = store.get(&path).await.unwrap();
                                store.put(&path, bytes.slice(..cut)).await.unwrap();
                            }
                        }
                    }
                    if is_behind {
                        version += 1;
                        append(&store, &definition, 0, &[version + 1], &format!("b{version}")).await;
                    }
                    let again = exposed(&store).await;
                    let shown = format!("{kind} cut at {cut:?}");
                    assert_eq!((again.outcome, again.version), (Exposure::Rebuilt, SnapshotId(version)), "{shown}");
                    assert_ne!(again.table_uuid, last.table_uuid, "{shown}");
                    let newest = metadata(&store, &again).await;
                    assert_eq!(summary(&newest)["total-records"], (version + 1).to_string(), "{shown}");
                    assert_eq!(files(&store).await.len(), 4, "old files are deleted: {shown}");
                    last = again;
                }
            }
        }
        let ids: Vec<i64> = (1..=version + 1).collect();
        check(&store, &last, &[rows(&ids)], &["id > 3"]);

        store.delete(&in_metadata("version-hint.text")).await.unwrap();
        assert_eq!(exposed(&store).await.outcome, Exposure::AlreadyThere);
        assert_eq!(hint(&store).await, last.snapshot_id.to_string());
        store.put(&in_metadata("version-hint.text"), "77".into()).await.unwrap();
        exposed(&store).await;
        assert_eq!(hint(&store).await, last.snapshot_id.to_string());
        for (name, _) in files(&store).await {
            store.delete(&in_metadata(&name)).await.unwrap();
        }
        assert_eq!(exposed(&store).await.outcome, Exposure::Rebuilt);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn metadata_of_another_table_in_the_folder_is_replaced() {
    let (_folder, stores) = stores();
    for store in stores {
        let (_, definition) = table_of(&store, &[1]).await;
        for n in 0..3 {
            append(&store, &definition, n, &[n], &format!("a{n}")).await;
        }
        let first = exposed(&store).await;
        for meta in store.list(&StorePath::from(format!("{LOCATION}/_delta_log")), None).await.unwrap() {
            store.delete(&meta.location).await.unwrap();
        }
        let store = store.with_faults(FaultPlan::default());
        table_of(&store, &[50]).await;
        let second = exposed(&store).await;
        assert_eq!((second.snapshot_id, second.outcome), (1, Exposure::Rebuilt));
        assert_ne!(second.table_uuid, first.table_uuid);
        assert!(
            store.head(&first.metadata).await.unwrap().is_none(),
            "readers that take the highest number see the old one"
        );
        check(&store, &second, &[rows(&[50])], &[]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_log_is_not_shown_with_what_came_after() {
    let (_folder, stores) = stores();
    for store in stores {
        let (_, definition) = table_of(&store, &[1]).await;
        append(&store, &definition, 0, &[2], "a").await;
        exposed(&store).await;
        store.delete(&StorePath::from(format!("{LOCATION}/_delta_log/00000000000000000001.json"))).await.unwrap();
        let store = store.with_faults(FaultPlan::default());
        let back = exposed(&store).await;
        assert_eq!((back.snapshot_id, back.outcome), (1, Exposure::Rebuilt));
        append(&store, &definition, 0, &[3, 4], "b").await;
        let newest = exposed(&store).await;
        check(&store, &newest, &[rows(&[1, 3, 4])], &[]);
        assert_eq!(summary(&metadata(&store, &newest).await)["total-records"], "3");
    }
}

#[tokio::test]
async fn a_change_of_type_that_iceberg_lacks_is_refused() {
    let store = Store::memory();
    table_of(&store, &[1]).await;
    let line = log_line(&store, 0, "metaData").await.unwrap();
    let mut schema: Value = serde_json::from_str(line["schemaString"].as_str().unwrap()).unwrap();
    schema["fields"][0]["metadata"]["delta.typeChanges"] = json!([{"fromType": "integer", "toType": "double"}]);
    schema["fields"][0]["type"] = json!("double");
    let mut changed = line.clone();
    changed["schemaString"] = schema.to_string().into();
    let protocol = json!({"minReaderVersion": 3, "minWriterVersion": 7, "readerFeatures": ["typeWidening"], "writerFeatures": ["typeWidening"]});
    foreign(&store, 1, &[json!({"protocol": protocol}), json!({"metaData": changed})]).await;
    let error = expose(&store, LOCATION, None).await.unwrap_err();
    let wanted =
        "Iceberg cannot show column \"id\" of table \"bronze.events\", which was widened from integer to double";
    assert_eq!(error.to_string(), wanted);
}

#[tokio::test(flavor = "multi_thread")]
async fn full_manifests_are_kept_and_only_touched_ones_are_written_again() {
    let store = Store::memory();
    let definition = events();
    let file = write(&store, &definition, &[rows(&[1])]).remove(0);
    let files_of = |from: usize, count: usize| -> Vec<lode_lake::DataFile> {
        let copy = |n| lode_lake::DataFile { path: format!("copy-{n}.parquet"), ..file.clone() };
        (from..from + count).map(copy).collect()
    };
    commit(&store, &creation(&definition, files_of(0, 5000)), "create", 1).await;
    exposed(&store).await;
    let manifests = |files: Vec<(String, u64)>| -> Vec<String> {
        files.into_iter().map(|(name, _)| name).filter(|name| name.starts_with("lode-m-")).collect()
    };
    let first = manifests(files(&store).await);
    assert_eq!(first.len(), 3, "2,000, 2,000 and 1,000 files");
    let mut rewrite = change(0, Operation::Rewrite, files_of(9000, 1));
    rewrite.remove = vec!["copy-10.parquet".into(), "copy-11.parquet".into()];
    commit(&store, &rewrite, "a", 1).await;
    let second = exposed(&store).await;
    let new = manifests(files(&store).await).into_iter().filter(|name| !first.contains(name)).count();
    assert_eq!(new, 2, "the one that had the files, with the new file in front or behind");
    let read = metadata(&store, &second).await;
    assert_eq!(summary(&read)["total-data-files"], "4999");
    assert_eq!(summary(&read)["total-records"], "4999");
    assert_eq!(summary(&read)["deleted-data-files"], "2");
    let before = manifests(files(&store).await);
    commit(&store, &change(1, Operation::Append, files_of(9001, 1)), "b", 1).await;
    exposed(&store).await;
    let new = manifests(files(&store).await).into_iter().filter(|name| !before.contains(name)).count();
    assert_eq!(new, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn under_random_faults_the_newest_version_is_shown_in_the_end() {
    for seed in 1..=20 {
        let (_folder, stores) = stores();
        for clean in stores {
            let (_, definition) = table_of(&clean, &[0]).await;
            let plan = format!(
                "seed:{seed},lost_reply_written:0.1,lost_reply_unwritten:0.1,error:0.05,repeat:0.1,truncate:0.05"
            );
            let store = clean.clone().with_faults(FaultPlan::parse(&plan).unwrap());
            let mut last = None;
            for n in 1..=5 {
                append(&clean, &definition, 0, &[n], &format!("a{n}")).await;
                let mut tries = 0;
                last = loop {
                    match expose(&store, LOCATION, None).await {
                        Ok(exposed) => break Some(exposed),
                        Err(error) => assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}"),
                    }
                    tries += 1;
                    assert!(tries < 200, "seed {seed}");
                };
                assert_eq!(last.as_ref().unwrap().version, SnapshotId(n));
            }
            let newest = exposed(&clean).await;
            assert_eq!(newest.outcome, Exposure::AlreadyThere, "seed {seed}");
            assert_eq!(Some(newest.table_uuid), last.map(|last| last.table_uuid), "no fault is taken for damage");
            assert_eq!(hint(&clean).await, "6");
            assert_eq!(summary(&metadata(&clean, &newest).await)["total-records"], "6");
            if seed <= 2 {
                check(&clean, &newest, &[rows(&[0, 1, 2, 3, 4, 5])], &[]);
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_at_one_time_do_no_damage() {
    let (_folder, stores) = stores();
    for store in stores {
        let (_, definition) = table_of(&store, &[0]).await;
        for n in 1..=10 {
            append(&store, &definition, 0, &[n], &format!("a{n}")).await;
            let all = (0..4).map(|_| expose(&store, LOCATION, None));
            for exposed in futures::future::join_all(all).await {
                assert_eq!(exposed.unwrap().version, SnapshotId(n));
            }
        }
        let newest = exposed(&store).await;
        assert_eq!(newest.outcome, Exposure::AlreadyThere);
        assert_eq!(metadata(&store, &newest).await["snapshots"].as_array().unwrap().len(), 10);
        check(&store, &newest, &[rows(&(0..=10).collect::<Vec<_>>())], &[]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lake_may_lie_in_a_folder_with_an_odd_name() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["a b ü%20 (c)", "a#b?c=d"] {
        let store = Store::local(&folder.path().join(name)).unwrap();
        let (_, definition) = table_of(&store, &[1]).await;
        exposed(&store).await;
        append(&store, &definition, 0, &[2], "a").await;
        let newest = exposed(&store).await;
        assert!(newest.metadata_location.contains(name), "{}", newest.metadata_location);
        check(&store, &newest, &[rows(&[1, 2])], &["id = 2"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn renamed_columns_of_foreign_tables_are_found_in_their_files() {
    let (_folder, stores) = stores();
    for store in stores {
        let meta = |names: [&str; 2]| {
            let field = |name: &str, data_type: &str, id: i32| {
                let metadata =
                    json!({"delta.columnMapping.id": id, "delta.columnMapping.physicalName": format!("col-{id}")});
                json!({"name": name, "type": data_type, "nullable": true, "metadata": metadata})
            };
            let fields = [field(names[0], "long", 1), field(names[1], "string", 2)];
            json!({"metaData": {
                "id": "6b1d7a7e-0a4e-4a5c-9d0f-0a5a3a3f3b11", "format": {"provider": "parquet", "options": {}},
                "schemaString": json!({"type": "struct", "fields": fields}).to_string(), "partitionColumns": [names[1]],
                "configuration": {"delta.columnMapping.mode": "name", "delta.columnMapping.maxColumnId": "2"},
            }})
        };
        let ids = batch(vec![("col-1", Arc::new(Int64Array::from(vec![1, 2])))]);
        let mut bytes = Vec::new();
        let options = ArrowWriterOptions::new().with_skip_arrow_metadata(true);
        let mut writer = ArrowWriter::try_new_with_options(&mut bytes, ids.schema(), options).unwrap();
        writer.write(&ids).unwrap();
        writer.close().unwrap();
        let stats =
            json!({"numRecords": 2, "minValues": {"col-1": 1}, "maxValues": {"col-1": 2}, "nullCount": {"col-1": 0}});
        let add = json!({"add": {
            "path": "f.parquet", "partitionValues": {"col-2": "x"}, "size": bytes.len(), "modificationTime": 1,
            "dataChange": true, "stats": stats.to_string(),
        }});
        store.put(&StorePath::from(format!("{LOCATION}/f.parquet")), bytes.into()).await.unwrap();
        let protocol = json!({"protocol": {"minReaderVersion": 2, "minWriterVersion": 5}});
        foreign(&store, 0, &[protocol, meta(["id", "name"]), add]).await;
        let expected = |names: [&str; 2]| {
            let texts = Arc::new(StringViewArray::from(vec!["x", "x"]));
            batch(vec![(names[0], Arc::new(Int64Array::from(vec![1, 2]))), (names[1], texts)])
        };
        check(&store, &exposed(&store).await, &[expected(["id", "name"])], &["id = 2", "name = 'x'"]);
        foreign(&store, 1, &[meta(["number", "kind"])]).await;
        let second = exposed(&store).await;
        assert_eq!(second.outcome, Exposure::Added);
        check(&store, &second, &[expected(["number", "kind"])], &["number > 1", "kind = 'y'"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nested_and_required_columns_are_read_back() {
    let (_folder, stores) = stores();
    for store in stores {
        let pair = Fields::from(vec![
            Field::new("key", DataType::Utf8View, false),
            Field::new("value", DataType::Int64, true),
        ]);
        let map = DataType::Map(Arc::new(Field::new("key_value", DataType::Struct(pair.clone()), false)), false);
        let inner = DataType::Struct(Fields::from(vec![
            Field::new("tags", DataType::List(Arc::new(Field::new("element", DataType::Utf8View, true))), true),
            Field::new("n", DataType::Int64, false),
        ]));
        let deep = DataType::List(Arc::new(Field::new("element", inner.clone(), true)));
        let schema = arrow::datatypes::Schema::new(vec![
            Field::new("id", DataType::Int64, false),
            Field::new("m", map.clone(), true),
            Field::new("deep", deep.clone(), true),
        ]);
        let definition = TableDefinition::create(TableName::new("bronze", "events"), &schema, Vec::new()).unwrap();
        let text = [
            r#"{"id": 1, "m": {"a": 1, "b": null}, "deep": [{"tags": ["x", null], "n": 1}, null]}"#,
            // No NULL in place of the list: pyiceberg 0.12.0 makes an empty list of structs of it.
            r#"{"id": 2, "m": null, "deep": [{"tags": null, "n": 2}]}"#,
            r#"{"id": 3, "m": {}, "deep": []}"#,
        ];
        let mut decoder = arrow::json::ReaderBuilder::new(Arc::new(schema)).build_decoder().unwrap();
        decoder.decode(text.join("\n").as_bytes()).unwrap();
        let rows = decoder.flush().unwrap().unwrap();
        commit(&store, &creation(&definition, write(&store, &definition, std::slice::from_ref(&rows))), "create", 1)
            .await;
        let newest = exposed(&store).await;
        check(&store, &newest, &[rows], &["id > 1", "id >= 1"]);
        let read = metadata(&store, &newest).await;
        let fields = read["schemas"][0]["fields"].as_array().unwrap();
        assert_eq!(fields[0]["required"], true);
        assert_eq!(fields[1]["type"]["key-id"], 3);
        assert_eq!(fields[2]["type"]["element"]["fields"][0]["type"]["element-id"], 8);
        assert_eq!(read["last-column-id"], 9);
    }
}
