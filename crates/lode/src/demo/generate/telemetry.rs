//! From readings to files: what the radio, the clocks and the gateways do to them on the way.

use std::io::Write;
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::drive::{Charging, Reading};
use super::fleet::{Car, FIRMWARES, sends_soc_as_object};
use super::random::{Purpose, Random};
use super::text::{DAY_S, date, push_date, push_instant_ms, push_scaled, push_time, push_whole};
use super::{Dirt, Seen, Truth};

/// Dates of a clock that has lost its mind; the time of day stays right. Two are not dates at all.
const BAD_DATES: [&str; 4] = ["2000-03-00", "2032-90-02", "2001-01-01", "2090-02-14"];

/// Codes of `seeds/fault_codes.csv`.
pub(super) const FAULTS: [&str; 12] =
    ["P0A80", "P0A7E", "P0A0D", "P0AA6", "P1E01", "P1E02", "P1F10", "B1342", "B13A1", "C0035", "C1101", "U0100"];

/// Spoils clocks in runs of 3 to 12 readings and positions in runs of 3 or 4, as measured.
pub(super) fn spoil(readings: &mut [Reading], random: &mut Random, dirt: &Dirt, truth: &mut Truth) {
    let (mut clock_left, mut date, mut position_left) = (0, 0, 0);
    for reading in readings {
        if clock_left == 0 && random.chance(dirt.bad_clock_share / 7.5) {
            (clock_left, date) = (random.whole(3, 12), 1 + random.below(BAD_DATES.len()) as u8);
        }
        if position_left == 0 && random.chance(dirt.bad_position_share / 3.5) {
            position_left = random.whole(3, 4);
        }
        if clock_left > 0 {
            clock_left -= 1;
            reading.bad_clock = date;
            truth.bad_clock += 1;
        }
        if position_left > 0 {
            position_left -= 1;
            reading.bad_position = true;
            truth.bad_position += 1;
        }
    }
}

/// One line to be: when it is received, of which reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Delivery {
    received_ms: i64,
    car: u32,
    reading: u32,
    copy: u8,
}

/// What becomes of one car's readings: lost, late, doubled, or held in a radio hole and then sent all at once.
pub(super) fn deliver(readings: &[Reading], random: &mut Random, dirt: &Dirt, truth: &mut Truth) -> Vec<Delivery> {
    let mut deliveries = Vec::with_capacity(readings.len() + readings.len() / 100);
    let mut hole_end_ms = i64::MIN;
    for (at, reading) in readings.iter().enumerate() {
        let sent_ms = reading.at_s * 1_000;
        if sent_ms > hole_end_ms && random.chance(dirt.hole_share) {
            hole_end_ms = sent_ms + (random.log_normal(30.0, 1.0).clamp(5.0, 600.0) * 1_000.0) as i64;
            truth.radio_holes += 1;
        }
        if random.chance(dirt.lost_share) {
            truth.lost += 1;
            continue;
        }
        let mut received_ms = sent_ms + random.log_normal(100.0, 0.7).min(3_000.0) as i64;
        if random.chance(dirt.late_share) {
            received_ms += random.whole(2_000, 25_000);
        }
        if sent_ms <= hole_end_ms {
            received_ms = received_ms.max(hole_end_ms + random.whole(20, 900));
        }
        let delivery = Delivery { received_ms, car: reading.car, reading: at as u32, copy: 0 };
        deliveries.push(delivery);
        if random.chance(dirt.duplicate_share) {
            truth.duplicates += 1;
            deliveries.push(Delivery { received_ms: received_ms + random.whole(150, 6_000), copy: 1, ..delivery });
        }
    }
    deliveries
}

/// Writes the deliveries of all cars in order of receipt: four files a day, the one from 12 to 18 o'clock gzipped.
pub(super) fn write(
    folder: &Path,
    cars: &[Car],
    readings: &[Vec<Reading>],
    mut deliveries: Vec<Delivery>,
    seed: u64,
    dirt: &Dirt,
    truth: &mut Truth,
) -> std::io::Result<()> {
    deliveries.sort_unstable();
    let mut random = Random::new(seed, Purpose::Delivery, u64::from(u32::MAX));
    let mut seen: Vec<Seen> =
        readings.iter().map(|of_car| Seen { newest: 0, sequences: vec![false; of_car.len()] }).collect();
    let mut line = Vec::with_capacity(512);
    for part in deliveries.chunk_by(|a, b| part_of(a.received_ms) == part_of(b.received_ms)) {
        let Some(first) = part.first() else { continue };
        let mut text = Vec::with_capacity(part.len() * 380);
        for delivery in part {
            let car = &cars[delivery.car as usize];
            let reading = &readings[delivery.car as usize][delivery.reading as usize];
            line.clear();
            push_line(&mut line, delivery.received_ms, car, reading);
            truth.lines += 1;
            if car.sent_vin != car.vin {
                truth.unknown_vin_lines += 1;
            }
            if random.chance(dirt.malformed_share) {
                truth.malformed += 1;
                line.truncate(random.whole(20, line.len() as i64 - 10) as usize);
            } else {
                truth.note(reading, car, &mut seen[delivery.car as usize]);
            }
            line.push(b'\n');
            text.extend_from_slice(&line);
        }
        write_part(folder, part_of(first.received_ms), &text)?;
    }
    Ok(())
}

/// Quarter of a day, counted from 1970.
fn part_of(received_ms: i64) -> i64 {
    received_ms.div_euclid(DAY_S * 250)
}

fn write_part(folder: &Path, part: i64, text: &[u8]) -> std::io::Result<()> {
    let name = format!("{}-{:02}.ndjson", date(part.div_euclid(4)), part.rem_euclid(4) * 6);
    if part.rem_euclid(4) == 2 {
        let mut encoder = GzEncoder::new(Vec::with_capacity(text.len() / 8), Compression::new(1));
        encoder.write_all(text)?;
        return std::fs::write(folder.join(format!("{name}.gz")), encoder.finish()?);
    }
    std::fs::write(folder.join(name), text)
}

fn push_line(out: &mut Vec<u8>, received_ms: i64, car: &Car, reading: &Reading) {
    let firmware = car.firmware_at(reading.at_s);
    out.extend_from_slice(b"{\"recv_ts\":\"");
    push_instant_ms(out, received_ms);
    out.extend_from_slice(b"\",\"vin\":\"");
    out.extend_from_slice(car.sent_vin.as_bytes());
    out.extend_from_slice(b"\",\"seq\":");
    push_whole(out, i64::from(reading.sequence));
    out.extend_from_slice(b",\"ts\":\"");
    match reading.bad_clock.checked_sub(1).and_then(|at| BAD_DATES.get(usize::from(at))) {
        Some(bad) => out.extend_from_slice(bad.as_bytes()),
        None => push_date(out, reading.at_s.div_euclid(DAY_S)),
    }
    out.push(b'T');
    push_time(out, reading.at_s.rem_euclid(DAY_S));
    out.extend_from_slice(b"Z\"");
    push_field(out, "speed_kmh", reading.speed_dkmh, 1);
    if !sends_soc_as_object(firmware) {
        push_field(out, "soc_pct", reading.soc_cpct, 2);
    }
    push_field(out, "battery_c", reading.battery_dc, 1);
    push_field(out, "battery_v", reading.volts_d, 1);
    push_field(out, "battery_a", reading.amps_d, 1);
    if reading.bad_position {
        out.extend_from_slice(b",\"lat\":0.0,\"lon\":1555.6333");
    } else {
        push_field(out, "lat", reading.latitude_u, 6);
        push_field(out, "lon", reading.longitude_u, 6);
    }
    out.extend_from_slice(b",\"odometer_km\":");
    push_scaled(out, reading.odometer_ckm, 2);
    out.extend_from_slice(match reading.charging {
        Charging::None => b",\"charging\":\"none\"".as_slice(),
        Charging::Ac => b",\"charging\":\"ac\"",
        Charging::Dc => b",\"charging\":\"dc\"",
    });
    if reading.station > 0 {
        out.extend_from_slice(b",\"station_id\":");
        push_whole(out, i64::from(reading.station));
    }
    push_field(out, "ambient_c", reading.ambient_dc, 1);
    out.extend_from_slice(b",\"fw\":\"");
    out.extend_from_slice(FIRMWARES[firmware].as_bytes());
    out.extend_from_slice(b"\",\"dtc\":[");
    for (at, fault) in reading.faults.iter().take(usize::from(reading.fault_count)).enumerate() {
        out.extend_from_slice(if at == 0 { b"\"" } else { b",\"" });
        out.extend_from_slice(FAULTS[usize::from(*fault)].as_bytes());
        out.push(b'"');
    }
    out.push(b']');
    if sends_soc_as_object(firmware) {
        out.extend_from_slice(b",\"soc\":{\"pct\":");
        push_scaled(out, i64::from(reading.soc_cpct), 2);
        push_field(out, "kwh", reading.charge_ckwh, 2);
        out.push(b'}');
        push_field(out, "hvac_kw", reading.hvac_ckw, 2);
    }
    out.push(b'}');
}

fn push_field(out: &mut Vec<u8>, name: &str, value: i32, places: usize) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
    push_scaled(out, i64::from(value), places);
}
