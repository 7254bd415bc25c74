//! One car's days: trips with physics behind the numbers, and charging. Distributions: the measured ones of two real cars
//! (standing 11 to 15 % of a trip, median speed 34 to 41 km/h, 13.6 kWh/100 km in summer and 19.4 in winter for a small car,
//! position renewed every 12.6 s, 0.14 V of sag per A); no recorded trip is copied.

use super::fleet::Car;
use super::places::{CITIES, LATITUDE_M, Station, Weather};
use super::random::{Purpose, Random};
use super::text::DAY_S;

/// What a car measures at one instant, in the whole units in which it is sent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reading {
    pub(crate) car: u32,
    pub(crate) sequence: u32,
    pub(crate) at_s: i64,
    pub(crate) speed_dkmh: i32,
    pub(crate) soc_cpct: i32,
    pub(crate) charge_ckwh: i32,
    pub(crate) battery_dc: i32,
    pub(crate) volts_d: i32,
    pub(crate) amps_d: i32,
    pub(crate) latitude_u: i32,
    pub(crate) longitude_u: i32,
    pub(crate) odometer_ckm: i64,
    pub(crate) ambient_dc: i32,
    pub(crate) hvac_ckw: i32,
    pub(crate) charging: Charging,
    /// 0 while driving.
    pub(crate) station: u32,
    pub(crate) faults: [u8; 2],
    pub(crate) fault_count: u8,
    /// Index into `telemetry::BAD_DATES` + 1; 0 is a right clock.
    pub(crate) bad_clock: u8,
    pub(crate) bad_position: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Charging {
    None,
    Ac,
    Dc,
}

/// A trip as it was driven, before anything was lost on the way.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Trip {
    pub(crate) car: u32,
    pub(crate) start_s: i64,
    pub(crate) end_s: i64,
    pub(crate) km: f64,
    pub(crate) kwh: f64,
    pub(crate) ambient_c: f64,
}

/// A charging as the meter of the station saw it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Charge {
    pub(crate) car: u32,
    pub(crate) station: u32,
    pub(crate) start_s: i64,
    pub(crate) end_s: i64,
    /// In units of 10 Wh, so that sums are exact.
    pub(crate) metered_ckwh: i64,
}

#[derive(Default)]
pub(crate) struct Life {
    pub(crate) readings: Vec<Reading>,
    pub(crate) trips: Vec<Trip>,
    pub(crate) charges: Vec<Charge>,
}

pub(crate) struct World<'a> {
    pub(crate) stations: &'a [Station],
    pub(crate) weather: &'a Weather,
    pub(crate) first_day: i64,
    pub(crate) days: u32,
    pub(crate) interval_s: i64,
}

/// Departures by hour of the local day, from 5 to 17. Source: start hours of real charging sessions.
const DEPARTURES: [u32; 13] = [53, 158, 295, 504, 475, 291, 139, 192, 404, 437, 233, 119, 56];
const DEPARTURE_OFFSET_H: i64 = 6;

struct Driver<'a> {
    world: &'a World<'a>,
    number: u32,
    car: &'a Car,
    random: Random,
    life: Life,
    sequence: u32,
    odometer_km: f64,
    charge_kwh: f64,
    battery_c: f64,
    x_m: f64,
    y_m: f64,
    sent_x_m: f64,
    sent_y_m: f64,
    next_fix_s: i64,
    heading: (f64, f64),
    sensor_offset_c: f64,
    faults: ([u8; 2], u8),
}

/// Lives through all days of the world.
pub(crate) fn live(world: &World<'_>, seed: u64, number: u32, car: &Car) -> Life {
    let mut random = Random::new(seed, Purpose::Car, u64::from(number));
    let charge_kwh = car.usable_kwh() * random.between(0.35, 0.95);
    let (x_m, y_m) = (random.normal(0.0, 3_000.0), random.normal(0.0, 3_000.0));
    let sensor_offset_c = random.normal(0.0, 0.5);
    let mut driver = Driver {
        world,
        number,
        car,
        random,
        life: Life::default(),
        sequence: 0,
        odometer_km: car.odometer_km,
        charge_kwh,
        battery_c: world.weather.celsius(car.city, world.first_day * DAY_S) + 4.0,
        x_m,
        y_m,
        sent_x_m: x_m,
        sent_y_m: y_m,
        next_fix_s: 0,
        heading: (1.0, 0.0),
        sensor_offset_c,
        faults: ([0; 2], 0),
    };
    driver.all_days();
    driver.life
}

impl Driver<'_> {
    fn all_days(&mut self) {
        let horizon_s = (self.world.first_day + i64::from(self.world.days)) * DAY_S;
        let mut free_s = self.world.first_day * DAY_S;
        for day in 0..i64::from(self.world.days) {
            let midnight_s = (self.world.first_day + day) * DAY_S - CITIES[self.car.city].utc_offset_h * 3_600;
            let trip_count = self.random.weighted(&[8, 30, 42, 20]);
            let mut departures: Vec<i64> = (0..trip_count)
                .map(|_| {
                    let hour = self.random.weighted(&DEPARTURES) as i64 + DEPARTURE_OFFSET_H;
                    midnight_s + hour * 3_600 + self.random.whole(0, 3_599)
                })
                .collect();
            departures.sort_unstable();
            for departure_s in departures {
                // A pause that is longer than any hole in the middle of a trip.
                let start_s = departure_s.max(free_s + self.random.whole(900, 1_800));
                if start_s + 4 * 3_600 > horizon_s {
                    continue;
                }
                free_s = self.trip(start_s);
                let soc = self.soc();
                if soc < 35.0 || self.random.chance(if soc < 60.0 { 0.5 } else { 0.12 }) {
                    let plugged_s = free_s + self.random.whole(60, 240);
                    free_s = self.charge(plugged_s, horizon_s);
                }
            }
        }
    }

    fn soc(&self) -> f64 {
        self.charge_kwh / self.car.usable_kwh() * 100.0
    }

    /// Drives until the way is done; answers the end.
    fn trip(&mut self, start_s: i64) -> i64 {
        let kind = self.random.weighted(&[50, 33, 17]);
        let median_km = [9.0, 19.0, 38.0][kind];
        let reach_km = (self.charge_kwh - 0.12 * self.car.usable_kwh()).max(0.0) / 0.38;
        let way_km = self.random.log_normal(median_km, 0.5).clamp(2.0, 95.0).min(reach_km.max(1.2));
        let mut speed = Speed::new(kind, self.random.between(0.9, 1.25), self.car.spec.top_speed_kmh);
        let ambient_c = self.world.weather.celsius(self.car.city, start_s);
        let hvac_kw = hvac_kw(ambient_c) * self.random.between(0.8, 1.2);
        self.battery_c = (self.battery_c + 2.0 * ambient_c) / 3.0 + 1.0;
        let fault_count = if self.random.chance(0.06) { 1 + self.random.below(2) as u8 } else { 0 };
        let fault = [self.random.below(12) as u8, self.random.below(12) as u8];
        let (before_km, before_kwh) = (self.odometer_km, self.charge_kwh);
        let mut power_kw = hvac_kw + 0.3;
        let mut at_s = start_s;
        while at_s - start_s < 3 * 3_600 {
            if (at_s - start_s) % self.world.interval_s == 0 {
                let is_late = self.odometer_km - before_km > way_km * 0.4;
                self.faults = (fault, if is_late { fault_count } else { 0 });
                self.read(at_s, speed.now_kmh, power_kw, hvac_kw, Charging::None, 0);
            }
            let done_km = self.odometer_km - before_km;
            if done_km >= way_km && speed.now_kmh < 3.0 {
                break;
            }
            let before_ms = speed.now_kmh / 3.6;
            speed.step(&mut self.random, done_km, way_km - done_km);
            power_kw = battery_kw(self.car, before_ms, speed.now_kmh / 3.6, ambient_c) + hvac_kw + 0.3;
            self.charge_kwh = (self.charge_kwh - power_kw / 3_600.0).max(0.05);
            self.advance(at_s, speed.now_kmh / 3.6);
            self.battery_c += 1.7 / 1_800.0;
            at_s += 1;
        }
        self.faults.1 = 0;
        let (km, kwh) = (self.odometer_km - before_km, before_kwh - self.charge_kwh);
        self.life.trips.push(Trip { car: self.number, start_s, end_s: at_s, km, kwh, ambient_c });
        at_s
    }

    /// Moves by one second; the position that is sent is renewed every 12 s or so.
    fn advance(&mut self, at_s: i64, metres: f64) {
        let distance_m = (self.x_m * self.x_m + self.y_m * self.y_m).sqrt();
        // Back to town, the more so the farther out.
        let pull = (distance_m / 12_000.0).min(1.0) * 0.05 / distance_m.max(1.0);
        let (mut dx, mut dy) = self.heading;
        dx += self.random.between(-0.12, 0.12) - self.x_m * pull;
        dy += self.random.between(-0.12, 0.12) - self.y_m * pull;
        let length = (dx * dx + dy * dy).sqrt().max(1e-9);
        self.heading = (dx / length, dy / length);
        self.x_m += self.heading.0 * metres;
        self.y_m += self.heading.1 * metres;
        self.odometer_km += metres / 1_000.0;
        if at_s >= self.next_fix_s {
            (self.sent_x_m, self.sent_y_m) = (self.x_m, self.y_m);
            self.next_fix_s = at_s + self.random.whole(8, 18);
        }
    }

    /// Charges at a station of the town; answers when the car is free again. Nothing happens if it would end after
    /// `horizon_s`.
    fn charge(&mut self, start_s: i64, horizon_s: i64) -> i64 {
        let car = self.car;
        let wants_dc = self.random.chance(0.3);
        let choices: Vec<&Station> =
            self.world.stations.iter().filter(|s| s.city == car.city && s.is_dc == wants_dc).collect();
        let station = *self.random.pick(&choices);
        let target_kwh = car.usable_kwh() * if wants_dc { 0.80 } else { self.random.between(0.80, 0.98) };
        let limit_kw = station.power_kw.min(if wants_dc { car.spec.dc_kw } else { car.spec.ac_kw });
        // Below 0 °C fast charging is slow.
        let cold = if wants_dc { (0.75 + self.battery_c / 60.0).clamp(0.45, 1.0) } else { 1.0 };
        let power_kw = limit_kw * cold * self.random.between(0.90, 0.98);
        let hours = (target_kwh - self.charge_kwh) / (power_kw * 0.7);
        if hours <= 0.03 || start_s + (hours * 3_600.0) as i64 + 6 * 3_600 > horizon_s {
            return start_s;
        }
        let city = &CITIES[car.city];
        self.x_m = (station.longitude - city.longitude) * city.longitude_m + self.random.normal(0.0, 4.0);
        self.y_m = (station.latitude - city.latitude) * LATITUDE_M + self.random.normal(0.0, 4.0);
        (self.sent_x_m, self.sent_y_m) = (self.x_m, self.y_m);
        let kind = if wants_dc { Charging::Dc } else { Charging::Ac };
        let step_s = 6 * self.world.interval_s;
        let before_kwh = self.charge_kwh;
        let mut at_s = start_s;
        while self.charge_kwh < target_kwh {
            let soc = self.soc();
            let taper = if soc > 80.0 { 1.0 - (soc - 80.0) / 30.0 } else { 1.0 };
            self.read(at_s, 0.0, -power_kw * taper, 0.0, kind, station.id);
            self.charge_kwh += power_kw * taper * step_s as f64 / 3_600.0;
            self.battery_c += if wants_dc { 0.25 } else { 0.01 };
            at_s += step_s;
        }
        self.read(at_s, 0.0, 0.0, 0.0, kind, station.id);
        let loss = if wants_dc { 0.94 } else { 0.90 };
        let metered_ckwh = ((self.charge_kwh - before_kwh) / loss * 100.0).round() as i64;
        // Cars stay plugged in after they are full.
        let end_s = at_s + self.random.log_normal(if wants_dc { 240.0 } else { 2_400.0 }, 0.8).min(20_000.0) as i64;
        self.life.charges.push(Charge { car: self.number, station: station.id, start_s, end_s, metered_ckwh });
        end_s
    }

    /// `power_kw` leaves the battery; below 0 it enters.
    fn read(&mut self, at_s: i64, kmh: f64, power_kw: f64, hvac_kw: f64, charging: Charging, station: u32) {
        let soc = self.soc();
        let packs = if self.car.spec.is_800_volt { 2.0 } else { 1.0 };
        let rest_v = (332.0 + 0.93 * soc - 0.0028 * soc * soc) * packs;
        let rough_a = -power_kw * 1_000.0 / rest_v;
        let volts = rest_v + 0.14 * rough_a.clamp(-400.0, 400.0);
        let amps = -power_kw * 1_000.0 / volts;
        let city = &CITIES[self.car.city];
        let ambient_c = self.world.weather.celsius(self.car.city, at_s) + self.sensor_offset_c;
        let micro = |degrees: f64| (degrees * 1e6).round() as i32;
        // One reading in some thousands is off by several points.
        let spike = if self.random.chance(0.000_05) { 6.0 } else { 0.0 };
        self.life.readings.push(Reading {
            car: self.number,
            sequence: self.sequence,
            at_s,
            speed_dkmh: (kmh * 10.0).round() as i32,
            soc_cpct: ((soc + spike).min(100.0) * 100.0).round() as i32,
            charge_ckwh: (self.charge_kwh * 100.0).round() as i32,
            battery_dc: (self.battery_c * 10.0).round() as i32,
            volts_d: (volts * 10.0).round() as i32,
            amps_d: (amps * 10.0).round() as i32,
            latitude_u: micro(city.latitude + self.sent_y_m / LATITUDE_M),
            longitude_u: micro(city.longitude + self.sent_x_m / city.longitude_m),
            odometer_ckm: (self.odometer_km * 100.0).round() as i64,
            ambient_dc: (ambient_c * 2.0).round() as i32 * 5,
            hvac_ckw: (hvac_kw * 100.0).round() as i32,
            charging,
            station,
            faults: self.faults.0,
            fault_count: self.faults.1,
            bad_clock: 0,
            bad_position: false,
        });
        self.sequence += 1;
    }
}

/// Speed second by second: stretches with a wanted speed, and stops between them.
struct Speed {
    kind: usize,
    style: f64,
    top_kmh: f64,
    now_kmh: f64,
    wanted_kmh: f64,
    left_s: i64,
}

impl Speed {
    fn new(kind: usize, style: f64, top_kmh: f64) -> Self {
        Self { kind, style, top_kmh, now_kmh: 0.0, wanted_kmh: 0.0, left_s: 0 }
    }

    fn step(&mut self, random: &mut Random, done_km: f64, left_km: f64) {
        self.left_s -= 1;
        if left_km <= 0.0 {
            self.wanted_kmh = 0.0;
        } else if self.left_s <= 0 {
            self.next_stretch(random, done_km, left_km);
        }
        let gap = self.wanted_kmh - self.now_kmh;
        let change = gap.clamp(-6.5 * self.style, 5.0 * self.style);
        let noise = if self.wanted_kmh > 0.0 { random.between(-1.4, 1.4) } else { 0.0 };
        self.now_kmh = (self.now_kmh + change + noise).clamp(0.0, self.top_kmh);
    }

    fn next_stretch(&mut self, random: &mut Random, done_km: f64, left_km: f64) {
        const WANTED: [&[f64]; 3] =
            [&[18.0, 28.0, 35.0, 48.0, 50.0], &[30.0, 48.0, 60.0, 70.0, 80.0], &[82.0, 95.0, 105.0, 118.0, 126.0]];
        let near_home = done_km < 1.5 || left_km < 1.5;
        let kind = if near_home { 0 } else { self.kind };
        let stop_share = [0.42, 0.24, 0.03][kind];
        if self.now_kmh > 5.0 && random.chance(stop_share) {
            self.wanted_kmh = 0.0;
            self.left_s = (self.now_kmh / 6.5) as i64 + random.log_normal(14.0, 0.8).min(120.0) as i64;
        } else {
            self.wanted_kmh = *random.pick(WANTED[kind]) * self.style;
            self.left_s = random.whole(15, 60);
        }
    }
}

/// Heating or cooling: about 2 kW at 0 °C, little from 16 to 24 °C.
fn hvac_kw(ambient_c: f64) -> f64 {
    let heating = (17.0 - ambient_c).max(0.0) * 0.12;
    let cooling = (ambient_c - 23.0).max(0.0) * 0.13;
    (0.15 + heating + cooling).min(4.5)
}

/// Power out of the battery for one second between two speeds in m/s; below 0 when it recuperates.
fn battery_kw(car: &Car, before_ms: f64, after_ms: f64, ambient_c: f64) -> f64 {
    let cold = (20.0 - ambient_c).max(0.0);
    let speed_ms = (before_ms + after_ms) / 2.0;
    let mass_kg = car.spec.mass_kg + 110.0;
    let rolling_n = mass_kg * 9.81 * (0.0085 + 0.000_08 * cold) * if speed_ms > 0.1 { 1.0 } else { 0.0 };
    let air_n = 0.6 * (1.0 + 0.0035 * cold) * car.spec.drag_m2 * speed_ms * speed_ms;
    let inertia_n = mass_kg * 1.04 * (after_ms - before_ms);
    let wheel_kw = (rolling_n + air_n + inertia_n) * speed_ms / 1_000.0;
    if wheel_kw >= 0.0 {
        wheel_kw / 0.88 * (1.0 + 0.003 * cold)
    } else {
        // A cold battery takes less back.
        (wheel_kw * (0.68 - 0.008 * cold)).max(-60.0)
    }
}
