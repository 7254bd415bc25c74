//! A fleet of electric cars that never was, with the dirt of real ones. One seed gives the same bytes on every machine.

mod drive;
mod fleet;
mod places;
mod random;
mod sessions;
mod telemetry;
mod text;

use std::collections::BTreeMap;
use std::path::Path;

use lode_core::{ErrorKind, Place, Problem};

use drive::{Life, Reading, Trip, World};
use fleet::Car;
use random::{Purpose, Random};

/// What to make.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Options {
    pub(crate) cars: u32,
    pub(crate) days: u32,
    pub(crate) seed: u64,
    /// Seconds between readings while driving; six times that while charging.
    pub(crate) interval_s: i64,
    /// Counted from 1970-01-01.
    pub(crate) first_day: i64,
    pub(crate) dirt: Dirt,
}

impl Default for Options {
    fn default() -> Self {
        // Monday, 2 March 2026.
        Self { cars: 200, days: 7, seed: 1, interval_s: 10, first_day: 20_514, dirt: Dirt::default() }
    }
}

/// Shares of readings or messages that go wrong. The first two were measured on a real car; the others are chosen.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Dirt {
    pub(crate) bad_clock_share: f64,
    pub(crate) bad_position_share: f64,
    pub(crate) duplicate_share: f64,
    pub(crate) late_share: f64,
    /// Messages that start a radio hole.
    pub(crate) hole_share: f64,
    pub(crate) lost_share: f64,
    pub(crate) malformed_share: f64,
}

impl Default for Dirt {
    fn default() -> Self {
        Self {
            bad_clock_share: 0.003_1,
            bad_position_share: 0.000_13,
            duplicate_share: 0.006,
            late_share: 0.012,
            hole_share: 0.000_4,
            lost_share: 0.003,
            malformed_share: 0.000_5,
        }
    }
}

/// What a right pipeline must find. Counted while the files are made, without any SQL.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Truth {
    pub(crate) readings: u64,
    pub(crate) lost: u64,
    pub(crate) duplicates: u64,
    pub(crate) radio_holes: u64,
    /// Lines of all telemetry files, and those of them that were cut.
    pub(crate) lines: u64,
    pub(crate) malformed: u64,
    /// Readings, before losses.
    pub(crate) bad_clock: u64,
    pub(crate) bad_position: u64,
    /// Lines of the car whose VIN has a wrong check digit.
    pub(crate) unknown_vin_lines: u64,
    /// Whole lines that repeat a (vin, seq), and whole lines with a seq below one that came before.
    pub(crate) repeated: u64,
    pub(crate) out_of_order: u64,
    /// Distinct (vin, seq) in whole lines: of all cars, and of those with a known VIN.
    pub(crate) distinct: u64,
    pub(crate) distinct_known: u64,
    /// Of `distinct_known`.
    pub(crate) distinct_bad_clock: u64,
    pub(crate) distinct_bad_position: u64,
    pub(crate) trips_by_car: BTreeMap<String, u64>,
    pub(crate) km_by_car: BTreeMap<String, f64>,
    pub(crate) kwh_by_car: BTreeMap<String, f64>,
    pub(crate) health_by_car: BTreeMap<String, f64>,
    /// Sessions and rows of the operator's export.
    pub(crate) sessions: u64,
    pub(crate) session_rows: u64,
    pub(crate) sessions_without_energy: u64,
    pub(crate) sessions_unreadable: u64,
    pub(crate) sessions_unreadable_rows: u64,
    /// Units of 10 Wh, without the unreadable sessions.
    pub(crate) charged_ckwh: i64,
    pub(crate) charged_ckwh_by_station: BTreeMap<u32, i64>,
    /// Rows of the small files, by name of the file.
    pub(crate) rows: BTreeMap<&'static str, u64>,
}

/// Which readings of one car have arrived whole.
#[derive(Debug, Clone)]
struct Seen {
    newest: u32,
    sequences: Vec<bool>,
}

impl Truth {
    /// A whole line of that reading was written.
    fn note(&mut self, reading: &Reading, car: &Car, seen: &mut Seen) {
        self.out_of_order += u64::from(reading.sequence < seen.newest);
        seen.newest = seen.newest.max(reading.sequence);
        if std::mem::replace(&mut seen.sequences[reading.sequence as usize], true) {
            self.repeated += 1;
            return;
        }
        self.distinct += 1;
        if car.sent_vin == car.vin {
            self.distinct_known += 1;
            self.distinct_bad_clock += u64::from(reading.bad_clock > 0);
            self.distinct_bad_position += u64::from(reading.bad_position);
        }
    }
}

/// Writes the files of a fleet into `landing`, which may exist; files of the same names are replaced.
/// Errors: `Usage` for a fleet of nobody, `Denied`, `Full` or `Unavailable` when a file cannot be written.
pub(crate) fn generate(landing: &Path, options: &Options) -> Result<Truth, Problem> {
    let Options { cars: car_count, days, seed, interval_s, first_day, dirt } = options;
    if *car_count == 0 || *days == 0 || *interval_s < 1 {
        return Err(Problem::new(
            ErrorKind::Usage,
            "a fleet needs at least one car, one day and one second between readings",
        )
        .fix("raise `--cars` and `--days` to 1 or more"));
    }
    let stations = places::stations(*seed, *first_day);
    let weather = places::Weather::new(*seed, *first_day, *days);
    let (cars, changes) = fleet::cars(*seed, *car_count, *first_day, *days);
    let world =
        World { stations: &stations, weather: &weather, first_day: *first_day, days: *days, interval_s: *interval_s };
    let lives = live_all(&world, *seed, &cars);

    let mut truth = Truth::default();
    let (mut readings, mut charges, mut deliveries) = (Vec::new(), Vec::new(), Vec::new());
    for (at, life) in lives.into_iter().enumerate() {
        let mut random = Random::new(*seed, Purpose::Delivery, at as u64);
        let mut of_car = life.readings;
        telemetry::spoil(&mut of_car, &mut random, dirt, &mut truth);
        deliveries.extend(telemetry::deliver(&of_car, &mut random, dirt, &mut truth));
        truth.readings += of_car.len() as u64;
        note_trips(&mut truth, &cars[at], &life.trips);
        readings.push(of_car);
        charges.extend(life.charges);
    }

    let folder = landing.join("telemetry");
    let fail = |path: &Path, error: std::io::Error| write_problem(path, &error);
    std::fs::create_dir_all(&folder).map_err(|error| fail(&folder, error))?;
    telemetry::write(&folder, &cars, &readings, deliveries, *seed, dirt, &mut truth)
        .map_err(|error| fail(&folder, error))?;
    let sessions = sessions::csv(&cars, &charges, *seed, &mut truth);
    let small = [
        ("charging_sessions.csv", sessions),
        ("fleet.csv", fleet::fleet_csv(&cars)),
        ("fleet_changes.csv", fleet::changes_csv(&changes)),
        ("stations.csv", places::stations_csv(&stations)),
        ("tariffs.csv", places::tariffs_csv(*first_day, *days)),
        ("vehicle_specs.csv", fleet::specs_csv()),
        ("weather.csv", weather.csv()),
    ];
    for (name, text) in small {
        truth.rows.insert(name, text.lines().count() as u64 - 1);
        let path = landing.join(name);
        std::fs::write(&path, text).map_err(|error| fail(&path, error))?;
    }
    Ok(truth)
}

/// All cars, in their order, on the cores of the machine. No car looks at another, so the split changes nothing.
fn live_all(world: &World<'_>, seed: u64, cars: &[Car]) -> Vec<Life> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(8);
    let share = cars.len().div_ceil(threads).max(1);
    std::thread::scope(|scope| {
        let parts: Vec<_> = cars
            .chunks(share)
            .enumerate()
            .map(|(part, cars)| {
                scope.spawn(move || {
                    let number = |at: usize| (part * share + at) as u32;
                    cars.iter()
                        .enumerate()
                        .map(|(at, car)| drive::live(world, seed, number(at), car))
                        .collect::<Vec<_>>()
                })
            })
            .collect();
        parts
            .into_iter()
            .flat_map(|part| part.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    })
}

fn note_trips(truth: &mut Truth, car: &Car, trips: &[Trip]) {
    truth.health_by_car.insert(car.vin.clone(), car.health);
    if car.sent_vin != car.vin {
        return;
    }
    truth.trips_by_car.insert(car.vin.clone(), trips.len() as u64);
    truth.km_by_car.insert(car.vin.clone(), trips.iter().map(|trip| trip.km).sum());
    truth.kwh_by_car.insert(car.vin.clone(), trips.iter().map(|trip| trip.kwh).sum());
}

fn write_problem(path: &Path, error: &std::io::Error) -> Problem {
    let (kind, fix) = match error.kind() {
        std::io::ErrorKind::PermissionDenied => (ErrorKind::Denied, "give this user the right to write there"),
        std::io::ErrorKind::StorageFull => (ErrorKind::Full, "make room, or ask for fewer `--cars` or `--days`"),
        _ => (ErrorKind::Unavailable, "check that the folder can be written"),
    };
    let shown = path.display().to_string();
    Problem::new(kind, format!("could not write \"{shown}\"")).cause(error).at(Place::of(shown)).fix(fix)
}

#[cfg(test)]
mod tests;
