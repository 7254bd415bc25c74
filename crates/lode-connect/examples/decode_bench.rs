//! Decoding speed of this machine: `cargo run --release -p lode-connect --example decode_bench [MB]`.
//!
//! Makes a CSV like TPC-H `lineitem` and an NDJSON of nested car telemetry, decodes each with one worker and with all
//! cores, throws the rows away, and prints MB/s of text by wall clock and by processor time.
#![expect(clippy::print_stderr, reason = "a bench reports to its terminal")]

use std::fmt::Write;
use std::path::Path;
use std::time::Instant;

use lode_connect::decode::{Decoded, DecodedSink, Format, decode_file, infer};
use lode_core::Problem;

/// Counts rows and drops them.
struct Counter(u64);

impl DecodedSink for Counter {
    fn accept(&mut self, decoded: Decoded) -> Result<(), Problem> {
        self.0 += decoded.batch.num_rows() as u64;
        Ok(())
    }
}

/// A small generator of numbers, the same on every run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

fn lineitem(bytes: usize) -> String {
    let mut numbers = Numbers(1);
    let words = ["carefully", "quickly", "final", "deposits", "requests", "sleep", "furiously", "accounts"];
    let mut text = String::with_capacity(bytes + 256);
    text.push_str("l_orderkey,l_partkey,l_suppkey,l_linenumber,l_quantity,l_extendedprice,l_discount,l_tax,l_returnflag,l_linestatus,l_shipdate,l_commitdate,l_receiptdate,l_shipinstruct,l_shipmode,l_comment\n");
    let mut order = 1;
    while text.len() < bytes {
        order += numbers.below(2);
        let _ = writeln!(
            text,
            "{order},{},{},{},{},{}.{:02},0.{:02},0.{:02},{},{},199{}-{:02}-{:02},199{}-{:02}-{:02},199{}-{:02}-{:02},DELIVER IN PERSON,TRUCK,{} {} {}",
            numbers.below(2_000_000),
            numbers.below(100_000),
            numbers.below(7) + 1,
            numbers.below(50) + 1,
            numbers.below(90_000) + 900,
            numbers.below(100),
            numbers.below(11),
            numbers.below(9),
            ["N", "R", "A"][numbers.below(3) as usize],
            ["O", "F"][numbers.below(2) as usize],
            numbers.below(9),
            numbers.below(12) + 1,
            numbers.below(28) + 1,
            numbers.below(9),
            numbers.below(12) + 1,
            numbers.below(28) + 1,
            numbers.below(9),
            numbers.below(12) + 1,
            numbers.below(28) + 1,
            words[numbers.below(8) as usize],
            words[numbers.below(8) as usize],
            words[numbers.below(8) as usize],
        );
    }
    text
}

fn telemetry(bytes: usize) -> String {
    let mut numbers = Numbers(2);
    let mut text = String::with_capacity(bytes + 512);
    let mut seq = 0;
    while text.len() < bytes {
        seq += 1;
        let _ = writeln!(
            text,
            "{{\"vin\":\"WVWZZZ1KZ{:08}\",\"seq\":{seq},\"ts\":\"2025-06-02T{:02}:{:02}:{:02}.{:03}Z\",\"speed_kmh\":{}.{},\"soc\":{{\"pct\":{}.{},\"kwh\":{}.{:02}}},\"battery_v\":{}.{},\"lat\":33.{:06},\"lon\":-6.{:06},\"odometer_km\":{}.{},\"charging\":\"{}\",\"station_id\":{},\"fw\":\"2.{}.1\",\"dtc\":[{}]}}",
            numbers.below(60_000),
            numbers.below(24),
            numbers.below(60),
            numbers.below(60),
            numbers.below(1000),
            numbers.below(150),
            numbers.below(10),
            numbers.below(100),
            numbers.below(10),
            numbers.below(80),
            numbers.below(100),
            numbers.below(90) + 300,
            numbers.below(10),
            numbers.below(1_000_000),
            numbers.below(1_000_000),
            numbers.below(200_000),
            numbers.below(10),
            ["none", "ac", "dc"][numbers.below(3) as usize],
            if numbers.below(8) == 0 { "\"S-0042\"" } else { "null" },
            numbers.below(9),
            if numbers.below(16) == 0 { "\"P0A80\",\"P0171\"" } else { "" },
        );
    }
    text
}

/// Seconds of processor time that this process has used, and its greatest resident size in MB.
fn used() -> (f64, u64) {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<f64>().ok()).unwrap_or_default();
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .and_then(|line| line.trim().trim_end_matches(" kB").trim().parse::<u64>().ok());
    ((ticks(11) + ticks(12)) / 100.0, peak.unwrap_or_default() / 1024)
}

fn measure(name: &str, path: &Path, workers: usize) -> Result<(), Box<dyn std::error::Error>> {
    let plan = infer(&[path.to_path_buf()], &Format::Auto, None, None)?;
    let megabytes = std::fs::metadata(path)?.len() as f64 / 1e6;
    let mut best: Option<(f64, f64, u64)> = None;
    for _ in 0..4 {
        let mut sinks: Vec<Box<dyn DecodedSink>> =
            (0..workers).map(|_| Box::new(Counter(0)) as Box<dyn DecodedSink>).collect();
        let (before, start) = (used().0, Instant::now());
        let outcome = decode_file(path, &plan, &mut sinks).map_err(|error| format!("{error:?}"))?;
        let (wall, cpu) = (start.elapsed().as_secs_f64(), used().0 - before);
        if best.is_none_or(|(least, ..)| wall < least) {
            best = Some((wall, cpu, outcome.rows));
        }
    }
    let (wall, cpu, rows) = best.unwrap_or_default();
    eprintln!(
        "{name}, {workers} workers: {rows} rows, {:.0} MB/s wall, {:.0} MB per processor second, peak {} MB",
        megabytes / wall,
        megabytes / cpu,
        used().1
    );
    Ok(())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let megabytes: usize = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(400);
    let folder = std::env::temp_dir().join(format!("lode-decode-bench-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let (csv, ndjson) = (folder.join("lineitem.csv"), folder.join("telemetry.ndjson"));
    // Pieces, so that the text is never in memory as a whole.
    for (path, make) in [(&csv, lineitem as fn(usize) -> String), (&ndjson, telemetry)] {
        let piece = make(20_000_000);
        let body = if path == &csv { piece.split_once('\n').map_or("", |(_, body)| body) } else { piece.as_str() };
        let mut file = std::io::BufWriter::new(std::fs::File::create(path)?);
        std::io::Write::write_all(&mut file, piece.as_bytes())?;
        for _ in 1..megabytes.div_ceil(20) {
            std::io::Write::write_all(&mut file, body.as_bytes())?;
        }
    }
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    for workers in [1, cores] {
        measure("lineitem csv", &csv, workers)?;
        measure("telemetry ndjson", &ndjson, workers)?;
    }
    std::fs::remove_dir_all(&folder)?;
    Ok(())
}
