//! Cities, their weather, charging stations and tariffs. Cities are real places; all else is made up.

use std::fmt::Write as _;

use super::random::{Purpose, Random};
use super::text::{DAY_S, date, instant, scaled};

pub(crate) struct City {
    pub(crate) name: &'static str,
    pub(crate) latitude: f64,
    pub(crate) longitude: f64,
    /// Length of a degree of longitude there, in metres.
    pub(crate) longitude_m: f64,
    pub(crate) utc_offset_h: i64,
    /// Early March: mean of a day, and half of the difference between night and afternoon, in °C.
    pub(crate) mean_c: f64,
    pub(crate) swing_c: f64,
}

/// Length of a degree of latitude, in metres.
pub(crate) const LATITUDE_M: f64 = 111_320.0;

pub(crate) const CITIES: [City; 6] = [
    City {
        name: "Tromsø",
        latitude: 69.6492,
        longitude: 18.9553,
        longitude_m: 38_720.0,
        utc_offset_h: 1,
        mean_c: -5.0,
        swing_c: 3.0,
    },
    City {
        name: "Oslo",
        latitude: 59.9139,
        longitude: 10.7522,
        longitude_m: 55_800.0,
        utc_offset_h: 1,
        mean_c: 0.5,
        swing_c: 4.0,
    },
    City {
        name: "Berlin",
        latitude: 52.5200,
        longitude: 13.4050,
        longitude_m: 67_740.0,
        utc_offset_h: 1,
        mean_c: 6.0,
        swing_c: 4.5,
    },
    City {
        name: "Lisbon",
        latitude: 38.7223,
        longitude: -9.1393,
        longitude_m: 86_850.0,
        utc_offset_h: 0,
        mean_c: 13.5,
        swing_c: 4.5,
    },
    City {
        name: "Rabat",
        latitude: 34.0209,
        longitude: -6.8416,
        longitude_m: 92_270.0,
        utc_offset_h: 1,
        mean_c: 17.0,
        swing_c: 5.5,
    },
    City {
        name: "Dubai",
        latitude: 25.2048,
        longitude: 55.2708,
        longitude_m: 100_720.0,
        utc_offset_h: 4,
        mean_c: 24.5,
        swing_c: 6.0,
    },
];

pub(crate) struct Station {
    pub(crate) id: u32,
    pub(crate) city: usize,
    pub(crate) latitude: f64,
    pub(crate) longitude: f64,
    pub(crate) is_dc: bool,
    pub(crate) power_kw: f64,
    connector: &'static str,
    tariff: &'static str,
    opened_day: i64,
}

/// Five stations a city: three for alternating current, two fast ones.
pub(crate) fn stations(seed: u64, first_day: i64) -> Vec<Station> {
    const KINDS: [(f64, &str, &str); 5] = [
        (7.4, "type2", "T1"),
        (11.0, "type2", "T2"),
        (22.0, "type2", "T2"),
        (50.0, "ccs2", "T3"),
        (150.0, "ccs2", "T3"),
    ];
    let mut stations = Vec::new();
    for (city_at, city) in CITIES.iter().enumerate() {
        for (kind_at, (power_kw, connector, tariff)) in KINDS.iter().enumerate() {
            let mut random = Random::new(seed, Purpose::Station, stations.len() as u64);
            stations.push(Station {
                id: 1_000 + (city_at as u32) * 100 + kind_at as u32 + 1,
                city: city_at,
                latitude: city.latitude + random.between(-5_000.0, 5_000.0) / LATITUDE_M,
                longitude: city.longitude + random.between(-5_000.0, 5_000.0) / city.longitude_m,
                is_dc: *connector == "ccs2",
                power_kw: *power_kw,
                connector,
                tariff,
                opened_day: first_day - random.whole(200, 3_000),
            });
        }
    }
    stations
}

pub(crate) fn stations_csv(stations: &[Station]) -> String {
    let mut out = String::from("station_id,city,lat,lon,connector,power_kw,tariff_id,opened_on\n");
    for station in stations {
        let _ = writeln!(
            out,
            "{},{},{},{},{},{},{},{}",
            station.id,
            CITIES[station.city].name,
            scaled((station.latitude * 1e6).round() as i64, 6),
            scaled((station.longitude * 1e6).round() as i64, 6),
            station.connector,
            scaled((station.power_kw * 10.0).round() as i64, 1),
            station.tariff,
            date(station.opened_day),
        );
    }
    out
}

/// Prices with the days and hours (UTC) in which they hold; `valid_to` is the last day, empty when still open.
/// One price changes in the middle of the period, so that only a join as of the charging gives the right sum.
pub(crate) fn tariffs_csv(first_day: i64, days: u32) -> String {
    let change = first_day + i64::from(days) / 2;
    let (open, before, after) = (date(first_day - 430), date(change - 1), date(change));
    format!(
        "tariff_id,name,valid_from,valid_to,from_hour,to_hour,price_per_kwh,currency\n\
         T1,Workplace,{open},,0,24,0.1200,EUR\n\
         T2,City day,{open},{before},7,22,0.3400,EUR\n\
         T2,City day,{after},,7,22,0.3900,EUR\n\
         T2,City night,{open},,0,7,0.2400,EUR\n\
         T2,City night,{open},,22,24,0.2400,EUR\n\
         T3,Fast,{open},{before},0,24,0.5900,EUR\n\
         T3,Fast,{after},,0,24,0.5500,EUR\n"
    )
}

/// Air temperature by city and hour, in tenths of a °C; from one day before the first day to two after the last.
pub(crate) struct Weather {
    start_s: i64,
    hours: Vec<Vec<i64>>,
    humidity_pct: Vec<Vec<i64>>,
    wind_dms: Vec<Vec<i64>>,
}

impl Weather {
    pub(crate) fn new(seed: u64, first_day: i64, days: u32) -> Self {
        let start_s = (first_day - 1) * DAY_S;
        let hour_count = (i64::from(days) + 3) * 24;
        let (mut hours, mut humidity_pct, mut wind_dms) = (Vec::new(), Vec::new(), Vec::new());
        for (at, city) in CITIES.iter().enumerate() {
            let mut random = Random::new(seed, Purpose::Weather, at as u64);
            let (mut front, mut temperatures, mut humidities, mut winds) = (0.0, vec![], vec![], vec![]);
            for hour in 0..hour_count {
                // Fronts come and go within days.
                front = front * 0.97 + random.normal(0.0, 0.55);
                let local = (hour + city.utc_offset_h).rem_euclid(24);
                let celsius = city.mean_c + front + city.swing_c * daily_wave(local);
                temperatures.push((celsius * 10.0).round() as i64);
                humidities.push((65.0 - 3.0 * front + random.between(-8.0, 8.0)).clamp(15.0, 100.0) as i64);
                winds.push((random.log_normal(32.0, 0.5)).min(280.0) as i64);
            }
            hours.push(temperatures);
            humidity_pct.push(humidities);
            wind_dms.push(winds);
        }
        Self { start_s, hours, humidity_pct, wind_dms }
    }

    pub(crate) fn celsius(&self, city: usize, unix_s: i64) -> f64 {
        let hours = &self.hours[city];
        let at = ((unix_s - self.start_s) / 3_600).clamp(0, hours.len() as i64 - 1) as usize;
        hours[at] as f64 / 10.0
    }

    /// One observation an hour and city: `ts_from` belongs to it, `ts_to` does not.
    pub(crate) fn csv(&self) -> String {
        let mut out = String::from("city,ts_from,ts_to,ambient_c,humidity_pct,wind_ms\n");
        for (at, city) in CITIES.iter().enumerate() {
            for (hour, celsius) in self.hours[at].iter().enumerate() {
                let from_s = self.start_s + hour as i64 * 3_600;
                let _ = writeln!(
                    out,
                    "{},{},{},{},{},{}",
                    city.name,
                    instant(from_s),
                    instant(from_s + 3_600),
                    scaled(*celsius, 1),
                    self.humidity_pct[at][hour],
                    scaled(self.wind_dms[at][hour], 1),
                );
            }
        }
        out
    }
}

/// -1 at 4 in the morning, 1 at 15 o'clock, straight between.
fn daily_wave(local_hour: i64) -> f64 {
    if (4..=15).contains(&local_hour) {
        (local_hour - 4) as f64 / 11.0 * 2.0 - 1.0
    } else {
        1.0 - (local_hour - 15).rem_euclid(24) as f64 / 13.0 * 2.0
    }
}
