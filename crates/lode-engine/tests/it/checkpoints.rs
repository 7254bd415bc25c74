//! Checkpoints of other tools in every form, in front of a log that was cleaned up to them.

use std::fs::{self, File};
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields, Schema};
use arrow::json::ReaderBuilder;
use parquet::arrow::ArrowWriter;
use serde_json::{Value, json};

use crate::fixture::Fixture;
use crate::foreign::{add, id_fields, longs, meta, protocol, put_file, put_log, register};

const ID: &str = "3a0d65cd-4056-49b8-937b-95f9e3ee90e5";

/// The columns of a checkpoint that the actions here use.
fn columns() -> Schema {
    let field = |name: &str, data_type: DataType| Field::new(name, data_type, true);
    let text = |name: &str| field(name, DataType::Utf8);
    let long = |name: &str| field(name, DataType::Int64);
    let group = |name: &str, fields: Vec<Field>| field(name, DataType::Struct(fields.into()));
    let map = |name: &str| {
        let pair: Fields = vec![Field::new("key", DataType::Utf8, false), text("value")].into();
        field(name, DataType::Map(Arc::new(Field::new("key_value", DataType::Struct(pair), false)), false))
    };
    let texts = |name: &str| field(name, DataType::List(Arc::new(text("element"))));
    let add = vec![
        text("path"),
        map("partitionValues"),
        long("size"),
        long("modificationTime"),
        field("dataChange", DataType::Boolean),
        text("stats"),
    ];
    let head = vec![
        text("id"),
        group("format", vec![text("provider"), map("options")]),
        text("schemaString"),
        texts("partitionColumns"),
        map("configuration"),
    ];
    let version = |name: &str| field(name, DataType::Int32);
    let protocol = vec![
        version("minReaderVersion"),
        version("minWriterVersion"),
        texts("readerFeatures"),
        texts("writerFeatures"),
    ];
    Schema::new(vec![
        group("add", add),
        group("metaData", head),
        group("protocol", protocol),
        group("sidecar", vec![text("path"), long("sizeInBytes"), long("modificationTime")]),
        group("checkpointMetadata", vec![long("version")]),
    ])
}

fn put_parquet(fixture: &Fixture, name: &str, lines: &[Value]) {
    let mut decoder = ReaderBuilder::new(Arc::new(columns())).build_decoder().unwrap();
    let text: Vec<String> = lines.iter().map(Value::to_string).collect();
    decoder.decode(text.join("\n").as_bytes()).unwrap();
    let rows = decoder.flush().unwrap().unwrap();
    let path = fixture.in_lake(&format!("raw/t/_delta_log/{name}"));
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let mut writer = ArrowWriter::try_new(File::create(path).unwrap(), rows.schema(), None).unwrap();
    writer.write(&rows).unwrap();
    writer.close().unwrap();
}

/// A lake with the files `0.parquet` to `4.parquet` of one row each, and the actions that add them.
async fn lake() -> (Fixture, [Value; 2], Vec<Value>) {
    let fixture = Fixture::new().await;
    let files = (0..5).map(|n| {
        put_file(&fixture, &format!("raw/t/{n}.parquet"), vec![(Field::new("id", DataType::Int64, true), longs([n]))]);
        add(&fixture, &format!("raw/t/{n}.parquet"), &format!("{n}.parquet"), &json!({}))
    });
    let files = files.collect();
    (fixture, [protocol("v2Checkpoint"), meta(&id_fields(), &[], &json!({}))], files)
}

#[derive(Debug, Clone, Copy)]
enum Form {
    Single,
    Parts,
    JsonWhole,
    JsonSidecars,
    ParquetSidecars,
    /// As `ParquetSidecars`, by the name of the old form.
    ClassicSidecars,
}

/// The checkpoint of version 4, which holds the files 0, 1 and 2.
fn put_checkpoint(fixture: &Fixture, form: Form, head: &[Value; 2], files: &[Value]) {
    let name = "00000000000000000004.checkpoint";
    let [protocol, meta] = head.clone();
    let sidecar = |path: &str| json!({"sidecar": {"path": path, "sizeInBytes": 1, "modificationTime": 1}});
    let put_sidecars = || {
        put_parquet(fixture, "_sidecars/first one.parquet", &files[..1]);
        put_parquet(fixture, "_sidecars/second.parquet", &files[1..3]);
        let second = format!("{}raw/t/_delta_log/_sidecars/second.parquet", fixture.catalog.store().url());
        let version = json!({"checkpointMetadata": {"version": 4}});
        [version, sidecar("first%20one.parquet"), sidecar(&second), protocol.clone(), meta.clone()]
    };
    match form {
        Form::Single => {
            let lines = [&[protocol, meta], &files[..3]].concat();
            put_parquet(fixture, &format!("{name}.parquet"), &lines);
        }
        Form::Parts => {
            put_parquet(fixture, &format!("{name}.0000000001.0000000003.parquet"), &files[..1]);
            put_parquet(fixture, &format!("{name}.0000000002.0000000003.parquet"), &[meta, files[1].clone()]);
            put_parquet(fixture, &format!("{name}.0000000003.0000000003.parquet"), &[files[2].clone(), protocol]);
        }
        Form::JsonWhole => {
            let lines = [&[json!({"checkpointMetadata": {"version": 4}}), protocol, meta], &files[..3]].concat();
            put_log(fixture, &format!("{name}.{ID}.json"), &lines);
        }
        Form::JsonSidecars => put_log(fixture, &format!("{name}.{ID}.json"), &put_sidecars()),
        Form::ParquetSidecars => put_parquet(fixture, &format!("{name}.{ID}.parquet"), &put_sidecars()),
        Form::ClassicSidecars => put_parquet(fixture, &format!("{name}.parquet"), &put_sidecars()),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_form_of_a_checkpoint_is_read_whatever_the_pointer_says() {
    let forms =
        [Form::Single, Form::Parts, Form::JsonWhole, Form::JsonSidecars, Form::ParquetSidecars, Form::ClassicSidecars];
    let pointers =
        [None, Some(r#"{"version":4,"size":5}"#), Some("{\"vers"), Some(r#"{"version":3}"#), Some(r#"{"version":90}"#)];
    for form in forms {
        for pointer in pointers {
            let (fixture, head, files) = lake().await;
            put_checkpoint(&fixture, form, &head, &files);
            put_log(&fixture, "00000000000000000005.json", &files[3..4]);
            if let Some(pointer) = pointer {
                fs::write(fixture.in_lake("raw/t/_delta_log/_last_checkpoint"), pointer).unwrap();
            }
            register(&fixture).await;
            let rows = fixture.must("select id from raw.t order by id").await;
            assert_eq!(rows, ["0", "1", "2", "3"], "{form:?} {pointer:?}");
            assert_eq!(fixture.must("select count(*) from table_at('raw.t', 4)").await, ["3"], "{form:?} {pointer:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_with_a_missing_part_is_passed_over() {
    let torn: [(&str, Option<&str>); 3] = [
        ("00000000000000000006.checkpoint.0000000001.0000000002.parquet", None),
        ("00000000000000000006.checkpoint.parquet", Some("PAR1 and then nothing")),
        ("00000000000000000006.checkpoint.3a0d65cd-4056-49b8-937b-95f9e3ee90e5.json", Some("{\"add\":{\"pa")),
    ];
    for (name, damage) in torn {
        for pointer in [false, true] {
            let (fixture, head, files) = lake().await;
            put_checkpoint(&fixture, Form::Single, &head, &files);
            put_log(&fixture, "00000000000000000005.json", &files[3..4]);
            put_log(&fixture, "00000000000000000006.json", &files[4..]);
            match damage {
                None => put_parquet(&fixture, name, &[head.as_slice(), &files[..2]].concat()),
                Some(text) => fs::write(fixture.in_lake(&format!("raw/t/_delta_log/{name}")), text).unwrap(),
            }
            if pointer {
                fs::write(fixture.in_lake("raw/t/_delta_log/_last_checkpoint"), r#"{"version":6}"#).unwrap();
            }
            register(&fixture).await;
            let rows = fixture.must("select id from raw.t order by id").await;
            assert_eq!(rows, ["0", "1", "2", "3", "4"], "{name} {pointer}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_sidecar_is_an_error_and_no_shorter_table() {
    let (fixture, head, files) = lake().await;
    put_checkpoint(&fixture, Form::JsonSidecars, &head, &files);
    register(&fixture).await;
    assert_eq!(fixture.must("select count(*) from raw.t").await, ["3"]);
    let (fixture, head, files) = lake().await;
    put_checkpoint(&fixture, Form::JsonSidecars, &head, &files);
    fs::remove_file(fixture.in_lake("raw/t/_delta_log/_sidecars/second.parquet")).unwrap();
    let error = fixture.catalog.register(&"raw.t".parse().unwrap(), "raw/t").await.unwrap_err();
    assert!(error.to_string().contains("_delta_log"), "{error}");
}
