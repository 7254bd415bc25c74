//! Parquet: types upward, misfits, nesting, broken files.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, Date32Array, Float64Array, Int64Array, ListArray, RecordBatch, StringArray, StructArray,
    TimestampNanosecondArray, UInt32Array, UInt64Array,
};
use arrow::datatypes::{DataType, Field, Int64Type};
use lode_connect::decode::{Format, decode_record, infer};
use parquet::arrow::ArrowWriter;
use parquet::file::properties::WriterProperties;

use crate::decode_support::{Files, declared, poison, read, read_with, texts, types};

fn write(path: &Path, columns: Vec<(&str, ArrayRef)>, group_rows: usize) {
    let batch =
        RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, array)| (name, array, true))).unwrap();
    let properties = WriterProperties::builder().set_max_row_group_row_count(Some(group_rows)).build();
    let mut writer = ArrowWriter::try_new(File::create(path).unwrap(), batch.schema(), Some(properties)).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
}

#[test]
fn foreign_types_go_up_and_nothing_is_lost() {
    let files = Files::new();
    let path = files.put("a.parquet", "");
    let inner = StructArray::from(vec![(
        Arc::new(Field::new("n", DataType::UInt32, true)),
        Arc::new(UInt32Array::from(vec![1, u32::MAX])) as ArrayRef,
    )]);
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("u", Arc::new(UInt32Array::from(vec![0, u32::MAX]))),
        ("w", Arc::new(UInt64Array::from(vec![u64::MAX, 1]))),
        ("t", Arc::new(TimestampNanosecondArray::from(vec![1_000, 1_001]))),
        ("d", Arc::new(Date32Array::from(vec![Some(1), None]))),
        ("f", Arc::new(Float64Array::from(vec![-0.0, 1.5]))),
        ("s", Arc::new(StringArray::from(vec![Some("a text of some length"), None]))),
        ("l", Arc::new(ListArray::from_iter_primitive::<Int64Type, _, _>([Some(vec![Some(1), None]), None]))),
        ("r", Arc::new(inner)),
    ];
    write(&path, columns, 1);
    let plan = infer(std::slice::from_ref(&path), &Format::Auto, None, None).unwrap();
    let got = read(&path, &plan).unwrap();
    let wanted = [
        "u bigint",
        "w numeric(20,0)",
        "t timestamp",
        "d date",
        "f double precision",
        "s text",
        "l bigint[]",
        "r struct<n: bigint>",
    ];
    assert_eq!(types(&plan.schema), wanted);
    assert_eq!(got.plain("w"), ["18446744073709551615", "1"]);
    assert_eq!(got.plain("f"), ["0.0", "1.5"]);
    assert_eq!(got.plain("r"), ["{n: 1}", "{n: 4294967295}"]);
    assert_eq!(got.plain("t"), ["1970-01-01T00:00:00.000001", "NULL"]);
    assert_eq!(got.plain("_rescued"), ["NULL", "{\"t\":\"1970-01-01T00:00:00.000001001\"}"]);
    assert_eq!(got.plain("_line"), ["1", "2"]);
}

#[test]
fn declared_columns_reject_rows_that_would_change() {
    let files = Files::new();
    let path = files.put("a.parquet", "");
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("a", Arc::new(Int64Array::from(vec![1, 40_000, 3]))),
        ("b", Arc::new(StringArray::from(vec!["1.50", "2", "x"]))),
        ("extra", Arc::new(Int64Array::from(vec![1, 2, 3]))),
    ];
    write(&path, columns, 100);
    let columns = declared(&[("a", "smallint"), ("b", "numeric(5,2)"), ("missing", "text")]);
    let mut plan = infer(&[], &Format::Parquet, Some(&columns), None).unwrap();
    plan.keep_raw = true;
    let got = read(&path, &plan).unwrap();
    assert_eq!(got.rows(), [[Some("1".to_owned()), Some("1.50".to_owned()), None]]);
    assert_eq!(got.raw, [(1, b"{\"a\":1,\"b\":\"1.50\",\"extra\":1}".to_vec(), 0)]);
    let rejects: Vec<_> = got.rejects.iter().map(|r| (r.rule, r.name.clone().unwrap(), r.line)).collect();
    assert_eq!(rejects, [("contract", "a".to_owned(), 2), ("contract", "b".to_owned(), 3)]);
    assert_eq!(got.rejects[0].raw, b"{\"a\":40000,\"b\":\"2\",\"extra\":2}");
    // A raw row can be read again.
    let row = decode_record(b"{\"a\":40,\"b\":\"2\",\"extra\":2}", &plan, None).unwrap();
    assert_eq!(texts(row.column(1)), [Some("2.00".to_owned())]);
}

#[test]
fn broken_files_are_poison() {
    let files = Files::new();
    let path = files.put("a.parquet", "");
    write(&path, vec![("a", Arc::new(Int64Array::from(vec![1])) as ArrayRef)], 10);
    let plan = infer(std::slice::from_ref(&path), &Format::Parquet, None, None).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    assert!(poison(read(&files.put("cut.parquet", &bytes[..bytes.len() - 10]), &plan)).contains("cut or damaged"));
    assert!(poison(read(&files.put("text.parquet", "id,name\n1,2\n"), &plan)).contains("cut or damaged"));
    assert!(poison(read(&files.put("empty.parquet", ""), &plan)).contains("cut or damaged"));
}

fn record(members: Vec<(&str, Vec<Option<i64>>)>) -> ArrayRef {
    let members = members.into_iter().map(|(name, values)| {
        (Arc::new(Field::new(name, DataType::Int64, true)), Arc::new(Int64Array::from(values)) as ArrayRef)
    });
    Arc::new(StructArray::from(members.collect::<Vec<_>>()))
}

#[test]
fn nested_members_that_no_field_takes_are_rescued() {
    let files = Files::new();
    let (first, second) = (files.put("a.parquet", ""), files.put("b.parquet", ""));
    write(&first, vec![("r", record(vec![("n", vec![Some(1)])]))], 10);
    write(&second, vec![("r", record(vec![("N", vec![Some(1), Some(2)]), ("m", vec![None, Some(3)])]))], 10);
    let plan = infer(&[first], &Format::Auto, None, None).unwrap();
    let got = read(&second, &plan).unwrap();
    assert_eq!(got.plain("r"), ["{n: 1}", "NULL"]);
    assert_eq!(got.plain("_rescued"), ["NULL", "{\"r\":\"{N: 2, m: 3}\"}"]);
}

#[test]
fn bytes_that_are_no_text_do_not_vanish() {
    let files = Files::new();
    let path = files.put("a.parquet", "");
    let bytes = BinaryArray::from_opt_vec(vec![Some("café".as_bytes()), Some(b"caf\xE9"), None]);
    write(&path, vec![("b", Arc::new(bytes) as ArrayRef)], 10);
    let plan = infer(&[], &Format::Parquet, Some(&declared(&[("b", "text")])), None).unwrap();
    let got = read(&path, &plan).unwrap();
    assert_eq!(got.plain("b"), ["café", "NULL"]);
    let rejects: Vec<_> = got.rejects.iter().map(|reject| (reject.name.as_deref(), reject.line)).collect();
    assert_eq!(rejects, [(Some("b"), 2)]);
}

#[test]
fn a_file_without_a_declared_column_is_refused_and_one_without_a_row_says_nothing_of_types() {
    let files = Files::new();
    let numbers = |numbers: Vec<i64>| Arc::new(Int64Array::from(numbers)) as ArrayRef;
    let (other, both, none) = (files.put("a.parquet", ""), files.put("b.parquet", ""), files.put("c.parquet", ""));
    write(&other, vec![("identifier", numbers(vec![1]))], 1);
    write(&both, vec![("id", numbers(vec![1])), ("more", numbers(vec![2]))], 1);
    write(&none, vec![("id", numbers(Vec::new()))], 1);
    let plan = infer(&[], &Format::Auto, Some(&declared(&[("id", "bigint")])), None).unwrap();
    let shown = poison(read(&other, &plan));
    assert!(shown.contains("names no declared column; it has: identifier"), "{shown}");
    assert_eq!(read(&both, &plan).unwrap().outcome.undeclared.names, ["more"]);
    assert!(infer(&[none], &Format::Auto, None, None).is_err());
}

/// Threads that share a file's position would read each other's bytes: a value then comes out wrong, or the file as damaged.
#[test]
fn several_threads_read_one_file_right() {
    let files = Files::new();
    let path = files.put("a.parquet", "");
    let rows = 200_000_i64;
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("id", Arc::new(Int64Array::from_iter_values(0..rows))),
        ("name", Arc::new(StringArray::from_iter_values((0..rows).map(|id| format!("name {id}"))))),
        ("twice", Arc::new(Int64Array::from_iter_values((0..rows).map(|id| id * 2)))),
    ];
    write(&path, columns, 1_000);
    let plan = infer(std::slice::from_ref(&path), &Format::Parquet, None, None).unwrap();
    for _ in 0..5 {
        let read = read_with(&path, &plan, 8).unwrap();
        let [ids, twice] = ["id", "twice"].map(|name| {
            let column = read.batch.column_by_name(name).unwrap();
            column.as_any().downcast_ref::<Int64Array>().unwrap().values().to_vec()
        });
        assert_eq!(ids, (0..rows).collect::<Vec<_>>());
        assert_eq!(twice, (0..rows).map(|id| id * 2).collect::<Vec<_>>());
        let names = read.plain("name");
        assert!((0..rows).all(|id| names[id as usize] == format!("name {id}")));
    }
}
