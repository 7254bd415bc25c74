//! Writes a small table of every type for other readers: `sample_table FOLDER`. `bench FOLDER ROWS` times the writer.

#![expect(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a tool for checks by hand")]

use std::sync::Arc;
use std::time::Instant;

use arrow::array::*;
use arrow::datatypes::Schema;
use lode_core::{AttemptId, SnapshotId, TableName, sql_type};
use lode_lake::{
    Evolution, Operation, SchemaPolicy, Store, TableChange, TableDefinition, TableWriter, Txn, WriterOptions, apply,
    from_stored,
};

const COLUMNS: [(&str, &str); 18] = [
    ("id", "integer"),
    ("small", "smallint"),
    ("large", "bigint"),
    ("f", "real"),
    ("d", "double precision"),
    ("n", "numeric(12,2)"),
    ("wide", "numeric(38,9)"),
    ("s", "text"),
    ("b", "bytea"),
    ("ok", "boolean"),
    ("day", "date"),
    ("at", "timestamptz"),
    ("u", "uuid"),
    ("t", "time"),
    ("j", "json"),
    ("tags", "text[]"),
    ("p", "struct<x: integer, y: text>"),
    ("region", "text"),
];

fn rows(schema: &Schema, from: i32) -> RecordBatch {
    let text = |text: &str, name: &str| {
        let array: ArrayRef = Arc::new(StringViewArray::from(vec![Some(text), None]));
        from_stored(&array, schema.field_with_name(name).unwrap()).unwrap()
    };
    let decimal = |values: [Option<i128>; 2], precision, scale| -> ArrayRef {
        Arc::new(Decimal128Array::from(values.to_vec()).with_precision_and_scale(precision, scale).unwrap())
    };
    let mut tags = ListBuilder::new(StringViewBuilder::new());
    tags.append_value([Some("a"), None]);
    tags.append_null();
    let parts = StructArray::try_from(vec![
        ("x", Arc::new(Int32Array::from(vec![Some(1), None])) as ArrayRef),
        ("y", Arc::new(StringViewArray::from(vec![Some("y"), None])) as ArrayRef),
    ]);
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("id", Arc::new(Int32Array::from(vec![from, from + 1]))),
        ("small", Arc::new(Int16Array::from(vec![Some(-3), None]))),
        ("large", Arc::new(Int64Array::from(vec![Some(i64::MAX), None]))),
        ("f", Arc::new(Float32Array::from(vec![Some(1.5), None]))),
        ("d", Arc::new(Float64Array::from(vec![Some(-2.5), None]))),
        ("n", decimal([Some(-12345), None], 12, 2)),
        ("wide", decimal([Some(10_i128.pow(37) + 1), None], 38, 9)),
        ("s", Arc::new(StringViewArray::from(vec![Some("Grüße"), None]))),
        ("b", Arc::new(BinaryViewArray::from(vec![Some(&b"\x00\xff"[..]), None]))),
        ("ok", Arc::new(BooleanArray::from(vec![Some(true), None]))),
        ("day", Arc::new(Date32Array::from(vec![Some(-1), None]))),
        ("at", Arc::new(TimestampMicrosecondArray::from(vec![Some(1_700_000_000_123_456), None]).with_timezone("UTC"))),
        ("u", text("d2c639aa-8816-431a-aaf6-d3fe2512ff61", "u")),
        ("t", text("12:34:56.789", "t")),
        ("j", text("{\"a\": 1}", "j")),
        ("tags", Arc::new(tags.finish())),
        ("p", Arc::new(parts.unwrap())),
        ("region", Arc::new(StringViewArray::from(vec![Some("a/b %=é"), None]))),
    ];
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, array)| (name, array, true))).unwrap()
}

async fn commit(
    store: &Store,
    location: &str,
    base: i64,
    definition: Option<&TableDefinition>,
    rows: Vec<RecordBatch>,
    of: &TableDefinition,
) {
    let mut writer = TableWriter::new(store, location, of, AttemptId::random(), WriterOptions::default());
    for rows in rows {
        writer.write(&rows).unwrap();
    }
    let change = TableChange {
        table: of.name.clone(),
        location: location.to_owned(),
        base: SnapshotId(base),
        operation: Operation::Append,
        definition: definition.cloned(),
        add: writer.finish().unwrap(),
        remove: Vec::new(),
        dead: Vec::new(),
        label: "WRITE".to_owned(),
    };
    apply(store, &change, &Txn { app_id: "sample".to_owned(), version: base + 1 }, &|| Ok(())).await.unwrap();
}

fn schema_of(columns: &[(&str, &str)]) -> Schema {
    Schema::new(columns.iter().map(|(name, sql)| sql_type::field(name, sql).unwrap()).collect::<Vec<_>>())
}

async fn samples(folder: &str) {
    let store = Store::local(std::path::Path::new(folder)).unwrap();
    let schema = schema_of(&COLUMNS);
    for (location, by) in [("plain", vec![]), ("parted", vec!["region".to_owned()])] {
        let first = TableDefinition::create(TableName::new("s", location), &schema, by).unwrap();
        commit(&store, location, -1, Some(&first), vec![rows(&schema, 1)], &first).await;
        // Widened and with one column more; the first file stays as it is.
        let mut columns = COLUMNS.to_vec();
        columns[0].1 = "bigint";
        columns[3].1 = "double precision";
        columns.push(("later", "timestamp"));
        let Evolution::InPlace(second) = first.evolve(&schema_of(&columns), SchemaPolicy::SyncAllColumns).unwrap()
        else {
            panic!("not in place")
        };
        let more = rows(&schema, 10);
        let mut arrays: Vec<(String, ArrayRef)> =
            more.schema().fields().iter().map(|f| f.name().clone()).zip(more.columns().iter().cloned()).collect();
        arrays.push(("later".into(), Arc::new(TimestampMicrosecondArray::from(vec![Some(1), None]))));
        let more =
            RecordBatch::try_from_iter_with_nullable(arrays.into_iter().map(|(name, array)| (name, array, true)));
        commit(&store, location, 0, Some(&second), vec![more.unwrap()], &second).await;
    }
}

fn bench(folder: &str, total: usize) {
    let store = Store::local(std::path::Path::new(folder)).unwrap();
    let columns = [
        ("id", "bigint"),
        ("vin", "text"),
        ("at", "timestamptz"),
        ("speed", "double precision"),
        ("state", "text"),
        ("amount", "numeric(12,2)"),
        ("note", "text"),
    ];
    let definition = TableDefinition::create(TableName::new("s", "bench"), &schema_of(&columns), Vec::new()).unwrap();
    const BATCH: usize = 8192;
    let batches: Vec<RecordBatch> = (0..64)
        .map(|n| {
            let at = |i: usize| (n * BATCH + i) as u64;
            let mix = |i: usize| at(i).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 20;
            let arrays: Vec<(&str, ArrayRef)> = vec![
                ("id", Arc::new(Int64Array::from_iter_values((0..BATCH).map(|i| at(i) as i64)))),
                (
                    "vin",
                    Arc::new(StringViewArray::from_iter_values(
                        (0..BATCH).map(|i| format!("VIN{:014}", mix(i) % 100_000)),
                    )),
                ),
                (
                    "at",
                    Arc::new(
                        TimestampMicrosecondArray::from_iter_values(
                            (0..BATCH).map(|i| 1_700_000_000_000_000 + at(i) as i64 * 1000),
                        )
                        .with_timezone("UTC"),
                    ),
                ),
                ("speed", Arc::new(Float64Array::from_iter_values((0..BATCH).map(|i| (mix(i) % 2000) as f64 / 10.0)))),
                (
                    "state",
                    Arc::new(StringViewArray::from_iter_values(
                        (0..BATCH).map(|i| ["driving", "charging", "parked"][(mix(i) % 3) as usize]),
                    )),
                ),
                (
                    "amount",
                    Arc::new(
                        Decimal128Array::from_iter_values((0..BATCH).map(|i| (mix(i) % 1_000_000) as i128))
                            .with_precision_and_scale(12, 2)
                            .unwrap(),
                    ),
                ),
                (
                    "note",
                    Arc::new(StringViewArray::from_iter_values(
                        (0..BATCH).map(|i| format!("note {} of {}", mix(i), at(i))),
                    )),
                ),
            ];
            RecordBatch::try_from_iter_with_nullable(arrays.into_iter().map(|(name, array)| (name, array, true)))
                .unwrap()
        })
        .collect();
    let started = Instant::now();
    let mut writer = TableWriter::new(&store, "bench", &definition, AttemptId::random(), WriterOptions::default());
    let mut written = 0;
    while written < total {
        let batch = &batches[written / BATCH % batches.len()];
        writer.write(batch).unwrap();
        written += BATCH;
    }
    let files = writer.finish().unwrap();
    let took = started.elapsed();
    let bytes: u64 = files.iter().map(|file| file.size_bytes).sum();
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find(|line| line.starts_with("VmHWM")).unwrap_or_default();
    println!(
        "{written} rows, {} files, {bytes} bytes in {took:?}: {:.2} M rows/s; {peak}",
        files.len(),
        written as f64 / took.as_secs_f64() / 1e6
    );
}

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["bench", folder, total] => bench(folder, total.parse().unwrap()),
        [folder] => samples(folder).await,
        _ => panic!("usage: sample_table FOLDER | bench FOLDER ROWS"),
    }
}
