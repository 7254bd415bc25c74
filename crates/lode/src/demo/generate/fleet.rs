//! Car models, cars with their number plates of the world (VIN), and what changed about them. All made up.

use std::fmt::Write as _;

use super::places::CITIES;
use super::random::{Purpose, Random};
use super::text::{DAY_S, date, instant, scaled};

pub(crate) struct Spec {
    pub(crate) id: &'static str,
    make: &'static str,
    model: &'static str,
    year: i64,
    chemistry: &'static str,
    pub(crate) net_kwh: f64,
    pub(crate) ac_kw: f64,
    pub(crate) dc_kw: f64,
    pub(crate) is_800_volt: bool,
    pub(crate) top_speed_kmh: f64,
    pub(crate) mass_kg: f64,
    /// Drag coefficient times front area, in m².
    pub(crate) drag_m2: f64,
    range_wltp_km: Option<i64>,
}

const fn spec(
    id: &'static str,
    names: (&'static str, &'static str),
    year: i64,
    chemistry: &'static str,
    battery: (f64, f64, f64, bool),
    body: (f64, f64, f64),
    range_wltp_km: Option<i64>,
) -> Spec {
    let (net_kwh, ac_kw, dc_kw, is_800_volt) = battery;
    let (top_speed_kmh, mass_kg, drag_m2) = body;
    let (make, model) = names;
    Spec {
        id,
        make,
        model,
        year,
        chemistry,
        net_kwh,
        ac_kw,
        dc_kw,
        is_800_volt,
        top_speed_kmh,
        mass_kg,
        drag_m2,
        range_wltp_km,
    }
}

pub(crate) const SPECS: [Spec; 12] = [
    spec(
        "kestrel:mini:2021",
        ("Kestrel", "Mini"),
        2021,
        "lfp",
        (26.8, 7.4, 30.0, false),
        (130.0, 1_090.0, 0.62),
        Some(190),
    ),
    spec(
        "kestrel:mini:2024",
        ("Kestrel", "Mini"),
        2024,
        "lfp",
        (33.4, 11.0, 50.0, false),
        (135.0, 1_140.0, 0.61),
        Some(245),
    ),
    spec(
        "kestrel:city:2022",
        ("Kestrel", "City"),
        2022,
        "nmc",
        (42.0, 11.0, 75.0, false),
        (150.0, 1_420.0, 0.65),
        Some(310),
    ),
    spec(
        "halden:compact:2020",
        ("Halden", "Compact"),
        2020,
        "nmc",
        (45.5, 7.4, 50.0, false),
        (150.0, 1_580.0, 0.66),
        Some(305),
    ),
    spec(
        "halden:compact:2023",
        ("Halden", "Compact"),
        2023,
        "nmc",
        (58.0, 11.0, 120.0, false),
        (160.0, 1_730.0, 0.67),
        Some(430),
    ),
    spec(
        "halden:estate:2024",
        ("Halden", "Estate"),
        2024,
        "nmc",
        (77.0, 11.0, 170.0, false),
        (180.0, 2_050.0, 0.70),
        None,
    ),
    spec(
        "norra:saloon:2022",
        ("Norra", "Saloon"),
        2022,
        "nca",
        (75.0, 11.0, 200.0, false),
        (200.0, 1_840.0, 0.53),
        Some(560),
    ),
    spec(
        "norra:saloon:2025",
        ("Norra", "Saloon"),
        2025,
        "lfp",
        (60.0, 11.0, 175.0, false),
        (200.0, 1_760.0, 0.52),
        None,
    ),
    spec(
        "norra:crossover:2023",
        ("Norra", "Crossover"),
        2023,
        "nmc",
        (84.0, 11.0, 240.0, true),
        (185.0, 2_120.0, 0.72),
        Some(515),
    ),
    spec("tasman:van:2021", ("Tasman", "Van"), 2021, "nmc", (50.0, 7.4, 100.0, false), (130.0, 1_970.0, 0.98), None),
    spec(
        "tasman:van:2024",
        ("Tasman", "Van"),
        2024,
        "lfp",
        (75.0, 22.0, 150.0, false),
        (130.0, 2_260.0, 1.00),
        Some(330),
    ),
    spec(
        "aster:grand:2025",
        ("Aster", "Grand"),
        2025,
        "nmc",
        (94.0, 22.0, 270.0, true),
        (210.0, 2_280.0, 0.60),
        Some(690),
    ),
];

pub(crate) fn specs_csv() -> String {
    let mut out = String::from(
        "spec_id,make,model,year,chemistry,battery_kwh_net,ac_kw,dc_kw,voltage_class,top_speed_kmh,curb_weight_kg,range_wltp_km\n",
    );
    for spec in &SPECS {
        let _ = writeln!(
            out,
            "{},{},{},{},{},{},{},{},{},{},{},{}",
            spec.id,
            spec.make,
            spec.model,
            spec.year,
            spec.chemistry,
            scaled((spec.net_kwh * 10.0).round() as i64, 1),
            scaled((spec.ac_kw * 10.0).round() as i64, 1),
            scaled((spec.dc_kw * 10.0).round() as i64, 1),
            if spec.is_800_volt { "800v" } else { "400v" },
            spec.top_speed_kmh as i64,
            spec.mass_kg as i64,
            spec.range_wltp_km.map(|km| km.to_string()).unwrap_or_default(),
        );
    }
    out
}

/// Firmware from 2.0 on sends `soc: {pct, kwh}` and `hvac_kw` instead of `soc_pct`.
pub(crate) const FIRMWARES: [&str; 4] = ["1.8.2", "1.9.0", "2.0.1", "2.1.0"];
const NEWEST: usize = 3;

pub(crate) fn sends_soc_as_object(firmware: usize) -> bool {
    firmware >= 2
}

pub(crate) struct Car {
    pub(crate) vin: String,
    /// What the car sends; differs from `vin` in one car of the fleet.
    pub(crate) sent_vin: String,
    pub(crate) spec: &'static Spec,
    pub(crate) city: usize,
    owner: String,
    registered_day: i64,
    firmware: usize,
    upgraded_s: Option<i64>,
    /// Usable share of the battery when it was new.
    pub(crate) health: f64,
    pub(crate) odometer_km: f64,
}

impl Car {
    pub(crate) fn firmware_at(&self, unix_s: i64) -> usize {
        if self.upgraded_s.is_some_and(|at| unix_s >= at) { NEWEST } else { self.firmware }
    }

    pub(crate) fn usable_kwh(&self) -> f64 {
        self.spec.net_kwh * self.health
    }
}

/// A change of one fact about a car, as the fleet's owner wrote it down.
pub(crate) struct Change {
    at_s: i64,
    vin: String,
    field: &'static str,
    new_value: String,
}

pub(crate) fn cars(seed: u64, count: u32, first_day: i64, days: u32) -> (Vec<Car>, Vec<Change>) {
    let (mut cars, mut changes) = (Vec::new(), Vec::new());
    let end_s = (first_day + i64::from(days)) * DAY_S;
    for number in 0..count {
        let mut random = Random::new(seed, Purpose::Fleet, u64::from(number));
        let spec_at = random.below(SPECS.len());
        let spec = &SPECS[spec_at];
        // The first cars go round the cities, so that small fleets have several climates too.
        let city = if number < 6 { number as usize } else { random.below(CITIES.len()) };
        let oldest_day = (spec.year - 1970) * 365 + (spec.year - 1970) / 4;
        let registered_day = random.whole(oldest_day, (oldest_day + 365).min(first_day - 60));
        let age_years = (first_day - registered_day) as f64 / 365.25;
        let odometer_km = age_years * random.log_normal(13_000.0, 0.45);
        let worn = 0.013 * age_years + 0.055 * odometer_km / 100_000.0;
        let health = (1.0 - worn + random.normal(0.0, 0.008)).clamp(0.70, 1.0);
        let vin = vin(spec_at, spec.year, number + 1);
        let firmware = random.weighted(&[35, 25, 40]);
        let upgrades = random.chance(0.2) || number == 1;
        let upgraded_s = upgrades.then(|| random.whole(first_day * DAY_S + 20_000, end_s - 20_000));
        if let Some(at_s) = upgraded_s {
            let new_value = FIRMWARES[NEWEST].to_owned();
            changes.push(Change { at_s, vin: vin.clone(), field: "firmware", new_value });
        }
        if random.chance(0.12) || number == 0 {
            let at_s = random.whole(first_day * DAY_S, end_s - 1);
            let new_value = owner(&mut random, count);
            changes.push(Change { at_s, vin: vin.clone(), field: "owner_id", new_value });
        }
        let owner = owner(&mut random, count);
        let sent_vin = vin.clone();
        cars.push(Car { vin, sent_vin, spec, city, owner, registered_day, firmware, upgraded_s, health, odometer_km });
    }
    if count > 2
        && let Some(car) = cars.last_mut()
    {
        car.sent_vin = with_wrong_check_digit(&car.vin);
    }
    changes.sort_by(|a, b| (a.at_s, &a.vin, a.field).cmp(&(b.at_s, &b.vin, b.field)));
    (cars, changes)
}

fn owner(random: &mut Random, car_count: u32) -> String {
    format!("C{:05}", random.whole(1, i64::from(car_count / 3 + 2)))
}

pub(crate) fn fleet_csv(cars: &[Car]) -> String {
    let mut out = String::from("vin,spec_id,owner_id,home_city,firmware,registered_on\n");
    for car in cars {
        let Car { vin, spec, owner, .. } = car;
        let (city, firmware) = (CITIES[car.city].name, FIRMWARES[car.firmware]);
        let _ = writeln!(out, "{vin},{},{owner},{city},{firmware},{}", spec.id, date(car.registered_day));
    }
    out
}

pub(crate) fn changes_csv(changes: &[Change]) -> String {
    let mut out = String::from("changed_at,vin,field,new_value\n");
    for change in changes {
        let _ = writeln!(out, "{},{},{},{}", instant(change.at_s), change.vin, change.field, change.new_value);
    }
    out
}

/// 17 characters with a valid check digit at place 9. `ZZ9` is nobody's maker code.
fn vin(spec_at: usize, year: i64, serial: u32) -> String {
    // Model years 2020 to 2029.
    const YEARS: &[u8] = b"LMNPRSTVWX";
    let year = YEARS.get((year - 2020).clamp(0, 9) as usize).copied().unwrap_or(b'X');
    let open = format!("ZZ9LKE{spec_at:02}0{}R{serial:06}", char::from(year));
    let mut vin = open.into_bytes();
    vin[8] = check_digit(&vin);
    String::from_utf8_lossy(&vin).into_owned()
}

fn with_wrong_check_digit(vin: &str) -> String {
    let wrong = if vin.as_bytes().get(8) == Some(&b'4') { '5' } else { '4' };
    vin.char_indices().map(|(at, c)| if at == 8 { wrong } else { c }).collect()
}

/// Source: 49 CFR 565.15 (c).
fn check_digit(vin: &[u8]) -> u8 {
    const WEIGHTS: [u32; 17] = [8, 7, 6, 5, 4, 3, 2, 10, 0, 9, 8, 7, 6, 5, 4, 3, 2];
    const VALUES: &[u8] = b"0123456789.ABCDEFGH..JKLMN.P.R..STUVWXYZ";
    let sum: u32 = vin
        .iter()
        .zip(WEIGHTS)
        .map(|(c, weight)| weight * (VALUES.iter().position(|known| known == c).unwrap_or(0) as u32 % 10))
        .sum();
    match sum % 11 {
        10 => b'X',
        digit => b'0' + digit as u8,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn check_digits_follow_the_rule() {
        // The two examples that every description of the rule gives.
        for vin in ["1M8GDM9AXKP042788", "11111111111111111"] {
            assert_eq!(check_digit(vin.as_bytes()), vin.as_bytes()[8]);
        }
    }

    #[test]
    fn one_car_sends_a_wrong_check_digit_and_the_fleet_list_is_right() {
        let (cars, _) = cars(1, 40, 20_514, 7);
        let wrong: Vec<_> = cars.iter().filter(|car| car.sent_vin != car.vin).collect();
        assert_eq!(wrong.len(), 1);
        assert!(cars.iter().all(|car| check_digit(car.vin.as_bytes()) == car.vin.as_bytes()[8]));
        assert_ne!(check_digit(wrong[0].sent_vin.as_bytes()), wrong[0].sent_vin.as_bytes()[8]);
    }
}
