//! The charging operator's export, with its faults: years written 0026, a car that stayed plugged in for 55 hours,
//! sessions without energy, sessions exported twice, and counts with their unit behind them.

use std::fmt::Write as _;

use super::Truth;
use super::drive::Charge;
use super::fleet::Car;
use super::random::{Purpose, Random};
use super::text::{scaled, wall_clock};

struct Row {
    id: u32,
    vin: String,
    station: u32,
    start_s: i64,
    end_s: i64,
    kwh: String,
    platform: &'static str,
}

/// Rows in order of their start; ids count up in that order.
pub(super) fn csv(cars: &[Car], charges: &[Charge], seed: u64, truth: &mut Truth) -> String {
    let mut random = Random::new(seed, Purpose::Sessions, 0);
    let mut charges = charges.to_vec();
    charges.sort_by_key(|charge| (charge.start_s, charge.car));
    let middle = charges.len() / 2;
    let mut rows: Vec<Row> = Vec::new();
    for (at, charge) in charges.iter().enumerate() {
        // Whoever pays with a card leaves no car behind.
        let vin = if random.chance(0.05) { String::new() } else { cars[charge.car as usize].vin.clone() };
        let is_forgotten = at == middle;
        let end_s = if is_forgotten { charge.start_s + 55 * 3_600 + 1_234 } else { charge.end_s };
        let platform = *random.pick(&["android", "ios", "web", "plug"]);
        let mut row = Row {
            id: 0,
            vin,
            station: charge.station,
            start_s: charge.start_s,
            end_s,
            kwh: scaled(charge.metered_ckwh, 2),
            platform,
        };
        truth.sessions += 1;
        if charges.len() > 4 && at % 211 == 2 {
            row.kwh.push_str(" kWh");
            truth.sessions_unreadable += 1;
        } else {
            truth.charged_ckwh += charge.metered_ckwh;
            *truth.charged_ckwh_by_station.entry(charge.station).or_default() += charge.metered_ckwh;
        }
        rows.push(row);
        if random.chance(0.02) || at == 1 {
            // A failed start: the plug was in, nothing flowed.
            let start_s = charge.start_s - random.whole(120, 600);
            rows.push(Row {
                id: 0,
                vin: cars[charge.car as usize].vin.clone(),
                station: charge.station,
                start_s,
                end_s: start_s + random.whole(15, 90),
                kwh: "0".to_owned(),
                platform,
            });
            truth.sessions += 1;
            truth.sessions_without_energy += 1;
        }
    }
    rows.sort_by_key(|row| row.start_s);
    let mut out = String::from("session_id,vin,station_id,started,ended,kwh,platform\n");
    for (at, row) in rows.iter_mut().enumerate() {
        row.id = 700_000 + at as u32;
        push(&mut out, row);
        truth.session_rows += 1;
        if at % 97 == 5 {
            push(&mut out, row);
            truth.session_rows += 1;
            if row.kwh.ends_with("kWh") {
                truth.sessions_unreadable_rows += 1;
            }
        }
        if row.kwh.ends_with("kWh") {
            truth.sessions_unreadable_rows += 1;
        }
    }
    out
}

fn push(out: &mut String, row: &Row) {
    let Row { id, vin, station, start_s, end_s, kwh, platform } = row;
    let (started, ended) = (short_year(*start_s), short_year(*end_s));
    let _ = writeln!(out, "{id},{vin},{station},{started},{ended},{kwh},{platform}");
}

/// `0026-03-02 15:40:26`: two digits of the year, filled up to four.
fn short_year(unix_s: i64) -> String {
    let text = wall_clock(unix_s, ' ');
    format!("00{}", text.get(2..).unwrap_or_default())
}
