//! `examples/twizy`: the recording of a real car becomes its clean form.
//!
//! The recording is not part of the repository: `$LODE_SHARED`, or `../shared` beside it, holds `data/ev`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Float64Type, Int64Type};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::{Map, Value};

use super::support::Folder;

/// The clean form's columns, as the project's silver table has them. The zone of the clock is UTC by convention.
const SILVER: &str = r#"select vehicle_id, trip, to_char(measured_at, 'YYYY-MM-DD"T"HH24:MI:SS"Z"') as ts, soc_pct, speed_kmh, mode,
    lat, lon, alt_m, gps_speed_kmh, ambient_c, humidity_pct, sky, wind_ms, traffic, speed_limit_kmh, date_ok, gps_ok, odometer_km
    from silver.readings"#;

/// (trip, time) to the row.
type Rows = BTreeMap<(String, String), Map<String, Value>>;

fn corpus(file: &str) -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let roots = [
        std::env::var_os("LODE_SHARED").map(PathBuf::from),
        Some(root.join("../../../shared")),
        Some(root.join("../../../../shared")),
    ];
    let root = roots.into_iter().flatten().find(|root| root.exists()).unwrap_or_default();
    let path = root.join("data/ev").join(file);
    if path.exists() {
        Some(path)
    } else {
        println!("skipped: {} is not there", path.display());
        None
    }
}

fn project() -> Folder {
    let folder = Folder::empty();
    copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/twizy"), &folder.path());
    folder
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let to = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &to);
        } else {
            std::fs::copy(&path, &to).unwrap();
        }
    }
}

fn keyed(rows: impl Iterator<Item = Map<String, Value>>) -> Rows {
    let mut keyed = Rows::new();
    for row in rows {
        let key = (row["trip"].as_str().unwrap().to_owned(), row["ts"].as_str().unwrap().to_owned());
        assert!(keyed.insert(key.clone(), row).is_none(), "{key:?} is there twice");
    }
    keyed
}

/// Rows of a Parquet file, read without Lode.
fn expected(path: &Path) -> Rows {
    let file = std::fs::File::open(path).unwrap();
    let batches: Vec<RecordBatch> =
        ParquetRecordBatchReaderBuilder::try_new(file).unwrap().build().unwrap().map(Result::unwrap).collect();
    keyed(batches.iter().flat_map(|batch| (0..batch.num_rows()).map(|at| row(batch, at))))
}

fn row(batch: &RecordBatch, at: usize) -> Map<String, Value> {
    let value = |column: &dyn Array| match column.data_type() {
        _ if column.is_null(at) => Value::Null,
        DataType::Utf8 => column.as_string::<i32>().value(at).into(),
        DataType::LargeUtf8 => column.as_string::<i64>().value(at).into(),
        DataType::Utf8View => column.as_string_view().value(at).into(),
        DataType::Float64 => column.as_primitive::<Float64Type>().value(at).into(),
        DataType::Int64 => column.as_primitive::<Int64Type>().value(at).into(),
        DataType::Boolean => column.as_boolean().value(at).into(),
        other => unreachable!("no column of the clean form is {other}"),
    };
    batch
        .schema()
        .fields()
        .iter()
        .zip(batch.columns())
        .map(|(field, column)| (field.name().clone(), value(column)))
        .collect()
}

/// `144` and `144.0` are one number.
fn is_same(a: &Value, b: &Value) -> bool {
    a == b || a.as_f64().is_some_and(|number| b.as_f64() == Some(number))
}

fn silver(folder: &Folder) -> Rows {
    let text = folder.lode(&["sql", "--format", "ndjson", "-c", SILVER]).done();
    keyed(text.lines().map(|line| serde_json::from_str(line).unwrap()))
}

/// No difference is excused: the project's arithmetic is that of the clean form, to the last digit of the odometer.
#[test]
fn the_recording_becomes_its_clean_form_row_by_row() {
    let (Some(raw), Some(clean)) = (corpus("twizy_raw.csv.gz"), corpus("twizy_clean.parquet")) else { return };
    let folder = project();
    std::fs::create_dir(folder.path().join("landing")).unwrap();
    std::fs::copy(raw, folder.path().join("landing/twizy_raw.csv.gz")).unwrap();
    folder.lode(&["ingest"]).done();
    folder.lode(&["build"]).done();

    let (got, wanted) = (silver(&folder), expected(&clean));
    assert_eq!((got.len(), wanted.len()), (41_060, 41_060));
    let mut differences = Vec::new();
    for (key, wanted) in &wanted {
        let Some(got) = got.get(key) else {
            differences.push(format!("{key:?} is missing"));
            continue;
        };
        assert_eq!(got.len(), wanted.len(), "{got:?}");
        for (column, wanted) in wanted {
            if !is_same(&got[column], wanted) {
                differences.push(format!("{key:?} {column}: {} for {wanted}", got[column]));
            }
        }
    }
    let shown = differences.iter().take(20).cloned().collect::<Vec<_>>().join("\n");
    assert_eq!(differences.len(), 0, "{shown}");
    let repaired = |column: &str| got.values().filter(|row| row[column] == false).count();
    assert_eq!((repaired("date_ok"), repaired("gps_ok")), (80, 7));
    assert_eq!(folder.lode(&["quarantine", "list"]).done(), "no row is in quarantine\n");
}

#[test]
fn each_kind_of_dirt_is_repaired_or_refused() {
    let folder = project();
    let header = "trip,route,Date,Time,Soc,Speed,Mode,LAT,LON,ALT,GpsSpeed,Temperature,Humidity,Weather,WindSpeedAv,Traffic,SpeedLimit";
    let line = |date: &str, time: &str, soc: &str, speed: &str, lat: &str, lon: &str| {
        format!("T1,T1,{date},{time},{soc},{speed},D,{lat},{lon},140.0,0.0,20.0,60.0,Clouds,2.5,1,40.0")
    };
    let lines = [
        header.to_owned(),
        line("90/02/2032", "11:13:45", "80.5", "36.0", "33.98", "-6.72"),
        line("7/1/2021", "11:13:46", "80.5", "36.0", "33.98", "-6.72"),
        line("07/01/2021", "11:13:47", "80.4", "18.0", "0.0", "-6.72"),
        line("03/00/2000", "11:13:48", "80.4", "18.0", "33.98", "1555.6333"),
        line("07/01/2021", "11:13:49", "180.4", "18.0", "33.98", "-6.72"),
        line("07/01/2021", "no time", "80.4", "18.0", "33.98", "-6.72"),
        // Months are not all of one length.
        line("02/30/2021", "11:13:50", "80.4", "18.0", "33.98", "-6.72"),
        line("4/31/2021", "11:13:51", "80.4", "18.0", "33.98", "-6.72"),
        line("02/29/2021", "11:13:52", "80.4", "18.0", "33.98", "-6.72"),
        line("02/29/2020", "11:13:45", "80.4", "18.0", "33.98", "-6.72").replace("T1", "T2"),
    ];
    folder.write("landing/twizy_raw.csv", lines.join("\n"));
    folder.lode(&["ingest"]).done();
    folder.lode(&["build"]).done();
    let rows = folder
        .lode(&[
            "sql",
            "--format",
            "csv",
            "-c",
            "select measured_at, date_ok, gps_ok, lat, alt_m, odometer_km from silver.readings order by measured_at",
        ])
        .done();
    insta::assert_snapshot!(rows, @r"
    measured_at,date_ok,gps_ok,lat,alt_m,odometer_km
    2020-02-29 11:13:45+00,true,true,33.98,140,0.005
    2021-07-01 11:13:45+00,false,true,33.98,140,0.01
    2021-07-01 11:13:46+00,true,true,33.98,140,0.02
    2021-07-01 11:13:47+00,true,false,,,0.025
    2021-07-01 11:13:48+00,false,false,,,0.03
    2021-07-01 11:13:50+00,false,true,33.98,140,0.035
    2021-07-01 11:13:51+00,false,true,33.98,140,0.04
    2021-07-01 11:13:52+00,false,true,33.98,140,0.045
    ");
    let refused = folder
        .lode(&[
            "sql",
            "--format",
            "csv",
            "-c",
            "select _line, _rule, _name from bronze.readings__quarantine order by 1",
        ])
        .done();
    insta::assert_snapshot!(refused, @r"
    _line,_rule,_name
    6,expectation,state_of_charge
    7,contract,Time
    ");
}
