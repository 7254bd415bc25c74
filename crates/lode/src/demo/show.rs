//! What the demo shows at its end: the layers, the rejects, the sums and the gold answers.

use std::path::Path;

use arrow::array::{Array, RecordBatch};
use arrow::datatypes::DataType;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use futures::TryStreamExt;
use lode_catalog::PipelineKind;
use lode_core::{Problem, RelationKind, TableName};

use crate::app::App;
use crate::output::Output;
use crate::render::{self, Format, Sheet, Type, Value};

/// Shows everything; false when a sum does not hold.
pub(super) async fn all(app: &App, out: &Output) -> Result<bool, Problem> {
    layers(app, out).await?;
    rejects(app, out).await?;
    let is_whole = sums(app, out).await?;
    gold(app, out).await?;
    out.flush()?;
    Ok(is_whole)
}

pub(super) fn next_steps(dir: &Path, out: &Output) {
    let dir = dir.display();
    out.say(format!(
        "\nnext:\n  cd {dir}\n  lode sql -c \"select * from gold.trips order by km desc limit 5\"\n  \
         lode quarantine show bronze.telemetry --limit 3\n  lode status\n  \
         edit models/gold/trips.sql, then: lode build --select trips+"
    ));
}

pub(super) async fn rows_of(app: &App, sql: &str) -> Result<Vec<RecordBatch>, Problem> {
    let session = app.session().await?.origin("<demo>");
    let warehouse = app.warehouse().await?;
    let prepared = warehouse.prepare(sql, &session).await?;
    warehouse.run(&prepared).await?.try_collect().await
}

async fn print(app: &App, out: &Output, title: &str, sql: &str) -> Result<(), Problem> {
    out.line(format!("\n{}", out.out_paint().bold(title)))?;
    let session = app.session().await?.origin("<demo>");
    let warehouse = app.warehouse().await?;
    let prepared = warehouse.prepare(sql, &session).await?;
    let rows = warehouse.run(&prepared).await?;
    render::print(&prepared.schema, rows, Format::Table, out).await?;
    Ok(())
}

async fn count(app: &App, table: &TableName) -> Result<i64, Problem> {
    let sql = format!("select count(*) as n from \"{}\".\"{}\"", table.schema, table.name);
    let batches = rows_of(app, &sql).await?;
    let number = batches.first().and_then(|batch| cell(batch, 0, 0)).and_then(|text| text.parse().ok());
    number.ok_or_else(|| Problem::internal(format!("no count of \"{table}\"")))
}

async fn layers(app: &App, out: &Output) -> Result<(), Problem> {
    let relations = app.warehouse().await?.relations().await?;
    let names: Vec<&TableName> = relations.iter().map(|(name, _)| name).collect();
    let mut sheet =
        Sheet::new(&[("layer", Type::Text), ("table", Type::Text), ("rows", Type::Int), ("quarantined", Type::Int)]);
    for layer in ["bronze", "silver", "gold"] {
        for (name, kind) in relations.iter().filter(|(name, _)| name.schema == layer && !name.is_quarantine()) {
            let rejected = name.quarantine();
            let rejected =
                if names.contains(&&rejected) { Value::Int(count(app, &rejected).await?) } else { Value::Int(0) };
            let shown = if *kind == RelationKind::View { format!("{} (view)", name.name) } else { name.name.clone() };
            let rows = Value::Int(count(app, name).await?);
            sheet.push([Value::Text(layer.to_owned()), Value::Text(shown), rows, rejected]);
        }
    }
    out.line(format!("\n{}", out.out_paint().bold("layers")))?;
    sheet.print(Format::Table, out)
}

async fn rejects(app: &App, out: &Output) -> Result<(), Problem> {
    let relations = app.warehouse().await?.relations().await?;
    let mut sheet = Sheet::new(&[
        ("table", Type::Text),
        ("rule", Type::Text),
        ("rows", Type::Int),
        ("reason", Type::Text),
        ("example", Type::Text),
    ]);
    for (name, _) in relations.iter().filter(|(name, _)| name.is_quarantine()) {
        let sql = format!(
            "select _rule, _name, rows, _reason, _file, _line, _raw from (\
               select _rule, _name, _reason, _file, _line, _raw, \
                 count(*) over (partition by _rule, _name) as rows, \
                 row_number() over (partition by _rule, _name order by _file, _line, _id) as place \
               from \"{}\".\"{}\") as rejected \
             where place = 1 order by rows desc, _rule, _name",
            name.schema, name.name
        );
        let table = name.name.trim_end_matches("__quarantine");
        for batch in rows_of(app, &sql).await? {
            for row in 0..batch.num_rows() {
                let text = |column| cell(&batch, column, row);
                let rule = text(1).map_or_else(
                    || text(0).unwrap_or_default(),
                    |name| format!("{}: {name}", text(0).unwrap_or_default()),
                );
                let place = match (text(4), text(5)) {
                    (Some(file), Some(line)) => format!("{file}:{line}: "),
                    (Some(file), None) => format!("{file}: "),
                    _ => String::new(),
                };
                sheet.push([
                    Value::Text(format!("{}.{table}", name.schema)),
                    Value::Text(rule),
                    text(2).and_then(|n| n.parse().ok()).map_or(Value::Null, Value::Int),
                    Value::Text(text(3).unwrap_or_default()),
                    Value::Text(format!(
                        "{place}{}",
                        excerpt(&raw(&batch, 6, row), text(0).as_deref() == Some("decode"))
                    )),
                ]);
            }
        }
    }
    if sheet.is_empty() {
        return Ok(());
    }
    out.line(format!("\n{}", out.out_paint().bold("rejected rows by rule, one example each")))?;
    sheet.print(Format::Table, out)
}

/// Records of all files = rows in bronze + rows in quarantine. False when that does not hold.
async fn sums(app: &App, out: &Output) -> Result<bool, Problem> {
    let (mut read, mut landed, mut rejected, mut dropped) = (0, 0, 0, 0);
    for status in app.catalog().await?.pipelines().await? {
        if status.pipeline.kind == PipelineKind::Ingest {
            read += status.counts.rows_in;
            landed += status.counts.rows_landed;
            rejected += status.counts.rows_quarantined;
            dropped += status.counts.rows_dropped;
        }
    }
    let is_whole = read == landed + rejected + dropped;
    let paint = out.out_paint();
    let verdict = if is_whole { paint.green("holds") } else { paint.red("DOES NOT HOLD") };
    out.line(format!("\n{}", paint.bold("sum of the landing")))?;
    out.line(format!(
        "{} records in files = {} rows in bronze + {} in quarantine + {} dropped: {verdict}",
        grouped(read),
        grouped(landed),
        grouped(rejected),
        grouped(dropped)
    ))?;
    Ok(is_whole)
}

async fn gold(app: &App, out: &Output) -> Result<(), Problem> {
    for (title, sql) in [
        (
            "what the cold costs (gold.energy_per_km_by_temperature)",
            "select band as outside, trips, km, kwh_per_100km as \"kWh/100 km\" \
             from gold.energy_per_km_by_temperature order by from_c",
        ),
        (
            "trips by city (gold.fleet_summary)",
            "select city, cars, trips, km, kwh_per_100km as \"kWh/100 km\", charged_kwh as \"charged kWh\", \
             charged_eur as \"charged EUR\" from gold.fleet_summary order by trips desc, city",
        ),
        (
            "batteries by age (gold.battery_health)",
            "select cast(floor(age_years) as integer) as \"age, full years\", count(*) as cars, \
             cast(avg(odometer_km) as numeric(10, 0)) as \"odometer km\", \
             cast(avg(health_pct) as numeric(5, 1)) as \"health %\", min(health_pct) as \"worst %\" \
             from gold.battery_health group by floor(age_years) order by floor(age_years)",
        ),
        (
            "busiest stations (gold.station_use)",
            "select station_id as station, city, connector, power_kw as \"kW\", sessions, kwh as \"kWh\", \
             revenue_eur as \"EUR\", plugged_pct as \"plugged %\" \
             from gold.station_use order by station_use.kwh desc, station_id limit 5",
        ),
    ] {
        print(app, out, title, sql).await?;
    }
    Ok(())
}

/// A cell as text; `None` for NULL.
pub(super) fn cell(batch: &RecordBatch, column: usize, row: usize) -> Option<String> {
    let array = batch.columns().get(column)?;
    if row >= array.len() || array.is_null(row) {
        return None;
    }
    let formatter = ArrayFormatter::try_new(array.as_ref(), &FormatOptions::default()).ok()?;
    Some(formatter.value(row).to_string())
}

/// Bytes of a cell as one line of text.
fn raw(batch: &RecordBatch, column: usize, row: usize) -> String {
    let bytes = batch.columns().get(column).and_then(|array| {
        let bytes = arrow::compute::cast(array, &DataType::Binary).ok()?;
        let bytes = bytes.as_any().downcast_ref::<arrow::array::BinaryArray>()?;
        (row < bytes.len() && !bytes.is_null(row)).then(|| bytes.value(row).to_vec())
    });
    String::from_utf8_lossy(&bytes.unwrap_or_default()).chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// The beginning of a long record; of one that cannot be read the end, where a cut shows.
fn excerpt(text: &str, is_end_wanted: bool) -> String {
    const LENGTH: usize = 60;
    let count = text.chars().count();
    if count <= LENGTH {
        text.to_owned()
    } else if is_end_wanted {
        format!("…{}", text.chars().skip(count - LENGTH).collect::<String>())
    } else {
        format!("{}…", text.chars().take(LENGTH).collect::<String>())
    }
}

/// 1234567 as `1,234,567`.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_record_shows_the_end_that_tells() {
        let record = format!("{{\"vin\":\"{}", "Z".repeat(80));
        assert!(excerpt(&record, false).starts_with("{\"vin\":\"ZZ") && excerpt(&record, false).ends_with("Z…"));
        assert!(excerpt(&record, true).starts_with("…Z"));
        assert_eq!(excerpt("short ø", true), "short ø");
    }

    #[test]
    fn big_numbers_are_grouped() {
        assert_eq!([0, 999, 1_000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
    }
}
