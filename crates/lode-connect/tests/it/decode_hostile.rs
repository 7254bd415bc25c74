//! Spoilt bytes of every kind: an answer or an error, never a panic, never a row that is not accounted for.

use std::fs::File;
use std::io::Write;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use lode_connect::decode::{FileError, Format, infer};
use parquet::arrow::ArrowWriter;

use crate::decode_support::{Files, declared, read};

/// The same numbers on every run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % limit
    }

    /// Flips, drops, repeats or cuts some bytes.
    fn spoil(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut spoilt = bytes.to_vec();
        for _ in 0..1 + self.below(4) {
            if spoilt.is_empty() {
                break;
            }
            let at = self.below(spoilt.len());
            match self.below(4) {
                0 => spoilt[at] = b"\"',;\n\r\\{}[]#\0\xFF\xED09"[self.below(17)],
                1 => drop(spoilt.remove(at)),
                2 => spoilt.insert(at, spoilt[self.below(spoilt.len())]),
                _ => spoilt.truncate(at),
            }
        }
        spoilt
    }
}

fn try_all(whole: &[u8], rounds: usize, seed: u64) {
    let files = Files::new();
    let path = files.put("x", whole);
    let columns = declared(&[("id", "integer"), ("name", "text"), ("at", "timestamptz"), ("s", "struct<x: bigint>")]);
    let mut numbers = Numbers(seed);
    let mut answers = 0;
    for round in 0..rounds {
        std::fs::write(&path, numbers.spoil(whole)).unwrap();
        let plans = [
            infer(std::slice::from_ref(&path), &Format::Auto, None, None),
            infer(&[], &Format::Auto, Some(&columns), Some(chrono_tz::Europe::Berlin)),
        ];
        for mut plan in plans.into_iter().flatten() {
            plan.keep_raw = round % 2 == 0;
            match read(&path, &plan) {
                Ok(got) => {
                    answers += 1;
                    assert!(!plan.keep_raw || got.raw.len() as u64 == got.outcome.rows);
                }
                Err(FileError::Poison(problem)) => assert!(problem.remedy().is_some()),
                Err(other) => panic!("{other:?}"),
            }
        }
    }
    assert!(answers > 0 || rounds == 0);
}

#[test]
fn spoilt_csv() {
    let text = "id,name,at,s\n1,\"a \"\"b\"\"\",2024-01-01T00:00:00Z,{\"x\":1}\r\n2,'c',2024-03-31 02:30:00,\n3,é,,\"{\"\"x\"\": 5}\"\n";
    try_all(text.as_bytes(), 600, 1);
    let utf16: Vec<u8> = [0xFF, 0xFE].into_iter().chain(text.encode_utf16().flat_map(u16::to_le_bytes)).collect();
    try_all(&utf16, 300, 2);
}

#[test]
fn spoilt_json() {
    let text = "{\"id\":1,\"name\":\"a\\u00e9\\n\",\"at\":\"2024-01-01T00:00:00Z\",\"s\":{\"x\":1,\"y\":[1,2,{}]}}\n{\"id\":-2.5e3,\"name\":null,\"s\":{\"x\":[]}}\n";
    try_all(text.as_bytes(), 600, 3);
    try_all(format!("[{}]", text.trim_end().replace('\n', ",\n")).as_bytes(), 600, 4);
}

#[test]
fn spoilt_archives_and_parquet() {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gzip.write_all(&b"id,name\n1,abc\n2,def\n".repeat(50)).unwrap();
    try_all(&gzip.finish().unwrap(), 200, 5);
    try_all(&zstd::encode_all(&b"{\"id\":1}\n".repeat(500)[..], 3).unwrap(), 200, 6);
    let files = Files::new();
    let path = files.put("a.parquet", "");
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("id", Arc::new(Int64Array::from_iter_values(0..500))),
        ("name", Arc::new(StringArray::from_iter_values((0..500).map(|id| format!("name {id}"))))),
    ];
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let mut writer = ArrowWriter::try_new(File::create(&path).unwrap(), batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    try_all(&std::fs::read(&path).unwrap(), 150, 7);
}
