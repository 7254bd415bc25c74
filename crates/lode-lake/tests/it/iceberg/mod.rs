//! Tables as Iceberg readers see them. With `LODE_ICEBERG_PYTHON`, a Python that has the packages of `requirements.txt`,
//! they are read back with pyiceberg, DuckDB and polars, too.

mod damage;
mod deletes;
mod foreign;
mod history;
mod types;

use std::path::Path;
use std::process::Command;

use arrow::array::*;
use lode_lake::{Exposed, Store, StorePath, expose};
use parquet::arrow::ArrowWriter;
use serde_json::Value;

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
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/iceberg/readers.py");
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
