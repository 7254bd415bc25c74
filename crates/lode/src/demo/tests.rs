use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::*;
use crate::args::{Global, LogFormat};
use crate::config::{Settings, Surroundings};
use crate::output::tests::{PLAIN, to_sinks};
use generate::Truth;

fn app(cwd: &Path) -> App {
    let around = Surroundings { cwd: cwd.to_path_buf(), ..Surroundings::default() };
    let global = Global {
        project_dir: None,
        quiet: false,
        no_color: true,
        log_format: LogFormat::Text,
        lock_timeout: Duration::from_secs(5),
    };
    App::new(around.clone(), Settings::load(&around).unwrap(), global, CancellationToken::new())
}

fn arguments() -> DemoArgs {
    DemoArgs { dir: PathBuf::from("fleet"), seed: 1, cars: Some(6), days: Some(2), keep: false, force: false }
}

/// Runs the demo; its data and words.
async fn demo(cwd: &Path, args: &DemoArgs) -> (String, String) {
    let (mut out, data, words) = to_sinks(PLAIN);
    let code =
        run(args, &app(cwd), &mut out).await.unwrap_or_else(|problem| panic!("{}\n{}", problem.render(), words.text()));
    assert_eq!(code, 0, "{}\n{}", data.text(), words.text());
    (data.text(), words.text())
}

async fn rows(project: &App, sql: &str) -> Vec<Vec<String>> {
    let mut rows = Vec::new();
    for batch in show::rows_of(project, sql).await.unwrap_or_else(|problem| panic!("{}", problem.render())) {
        for row in 0..batch.num_rows() {
            let texts = (0..batch.num_columns()).map(|column| show::cell(&batch, column, row).unwrap_or_default());
            rows.push(texts.collect());
        }
    }
    rows
}

async fn number(project: &App, sql: &str) -> u64 {
    rows(project, sql).await[0][0].parse().unwrap()
}

async fn by_key(project: &App, sql: &str) -> BTreeMap<String, f64> {
    rows(project, sql).await.into_iter().map(|row| (row[0].clone(), row[1].parse().unwrap())).collect()
}

fn truth(args: &DemoArgs) -> Truth {
    let folder = tempfile::tempdir().unwrap();
    generate::generate(folder.path(), &options(args)).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gold_is_what_the_fleet_did() {
    let folder = tempfile::tempdir().unwrap();
    let args = arguments();
    let (data, words) = demo(folder.path(), &args).await;
    let truth = truth(&args);
    let project = app(folder.path()).at(&folder.path().join("fleet")).unwrap();

    bronze_and_silver_hold_every_reading_once(&project, &truth).await;
    trips_are_those_that_were_driven(&project, &truth).await;
    charging_is_what_the_meters_counted(&project, &truth).await;
    batteries_are_as_worn_as_they_were_made(&project, &truth).await;

    assert!(data.contains(": holds"), "{data}");
    for shown in ["energy_per_km_by_temperature", "station_use", "battery_health", "fleet_summary", "kWh/100 km"] {
        assert!(data.contains(shown), "{shown} is missing:\n{data}");
    }
    assert!(words.contains("next:"), "{words}");
    drop(project);
    a_second_run_changes_nothing(folder.path(), &args, &truth).await;
}

async fn bronze_and_silver_hold_every_reading_once(project: &App, truth: &Truth) {
    let whole = truth.lines - truth.malformed;
    assert_eq!(number(project, "select count(*) from bronze.telemetry").await, whole);
    if truth.malformed > 0 {
        assert_eq!(number(project, "select count(*) from bronze.telemetry__quarantine").await, truth.malformed);
    }
    for (file, rows) in &truth.rows {
        let table = file.trim_end_matches(".csv");
        let rejected = if table == "charging_sessions" { truth.sessions_unreadable_rows } else { 0 };
        assert_eq!(number(project, &format!("select count(*) from bronze.{table}")).await, rows - rejected, "{file}");
    }
    assert_eq!(number(project, "select count(*) from silver.telemetry").await, truth.distinct_known);
    let unknown = truth.distinct - truth.distinct_known;
    assert!(unknown > 0);
    assert_eq!(
        number(project, "select count(*) from silver.telemetry__quarantine where _name = 'valid_vin'").await,
        unknown
    );
    let flags =
        "select count(*) filter (where not clock_ok), count(*) filter (where not position_ok) from silver.telemetry";
    let flags = &rows(project, flags).await[0];
    assert_eq!(flags[0], truth.distinct_bad_clock.to_string());
    assert_eq!(flags[1], truth.distinct_bad_position.to_string());
}

async fn trips_are_those_that_were_driven(project: &App, truth: &Truth) {
    let driven = by_key(project, "select vin, count(*) from gold.trips group by vin").await;
    let expected: BTreeMap<String, f64> =
        truth.trips_by_car.iter().filter(|(_, n)| **n > 0).map(|(vin, n)| (vin.clone(), *n as f64)).collect();
    assert_eq!(driven, expected);
    let km = by_key(project, "select vin, sum(km) from gold.trips group by vin").await;
    let kwh = by_key(project, "select vin, sum(kwh) from gold.trips group by vin").await;
    for (vin, km) in &km {
        // What lies between the last reading of a trip and its end is not seen.
        assert!((km / truth.km_by_car[vin] - 1.0).abs() < 0.01, "{vin}: {km} km of {}", truth.km_by_car[vin]);
        // A car that was never charged is taken for new.
        let worn = 1.0 - truth.health_by_car[vin];
        let kwh_off = (kwh[vin] / truth.kwh_by_car[vin] - 1.0).abs();
        assert!(kwh_off < 0.02 + 1.1 * worn, "{vin}: {} kWh of {}", kwh[vin], truth.kwh_by_car[vin]);
    }
    // Each trip has its owner and its weather.
    let incomplete = "select count(*) from gold.trips where owner_id is null or ambient_c is null or kwh is null";
    assert_eq!(number(project, incomplete).await, 0);
}

async fn charging_is_what_the_meters_counted(project: &App, truth: &Truth) {
    let sessions = truth.sessions - truth.sessions_unreadable;
    assert_eq!(number(project, "select count(*) from silver.charging_sessions").await, sessions);
    let with_energy = sessions - truth.sessions_without_energy;
    assert_eq!(number(project, "select count(*) from gold.charging where price is not null").await, with_energy);
    let by_station = by_key(project, "select station_id, kwh from gold.station_use").await;
    for (station, kwh) in by_station {
        let metered = truth.charged_ckwh_by_station.get(&station.parse().unwrap()).copied().unwrap_or(0);
        assert_eq!((kwh * 100.0).round() as i64, metered, "station {station}");
    }
}

async fn batteries_are_as_worn_as_they_were_made(project: &App, truth: &Truth) {
    let measured = by_key(project, "select vin, health_pct from gold.battery_health").await;
    assert!(!measured.is_empty());
    for (vin, health_pct) in measured {
        let made_pct = truth.health_by_car[&vin] * 100.0;
        assert!((health_pct - made_pct).abs() < 1.5, "{vin}: measured {health_pct} %, made {made_pct} %");
    }
}

async fn a_second_run_changes_nothing(cwd: &Path, args: &DemoArgs, truth: &Truth) {
    let (_, words) = demo(cwd, args).await;
    assert!(words.contains("going on with fleet"), "{words}");
    let project = app(cwd).at(&cwd.join("fleet")).unwrap();
    assert_eq!(number(&project, "select count(*) from bronze.telemetry").await, truth.lines - truth.malformed);
    assert_eq!(number(&project, "select count(*) from silver.telemetry").await, truth.distinct_known);
    let rejected = "select count(*) from silver.telemetry__quarantine where _name = 'valid_vin'";
    assert_eq!(number(&project, rejected).await, truth.distinct - truth.distinct_known);
}
