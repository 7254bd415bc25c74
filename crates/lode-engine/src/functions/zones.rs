//! `timezone(zone, time)`, which is what `time at time zone zone` means.

use std::sync::Arc;

use arrow::array::{AsArray, TimestampMicrosecondArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, TimestampMicrosecondType};
use chrono::{DateTime, Duration, MappedLocalTime, NaiveDateTime, Offset, TimeZone};
use chrono_tz::Tz;
use datafusion::error::Result;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};

use lode_core::sql_type;

use super::kernel::{argument, by_row, data, over_arrays, strings};

pub(super) fn functions() -> [ScalarUDF; 1] {
    [super::function(AtZone { signature: Signature::any(2, Volatility::Immutable) })]
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct AtZone {
    signature: Signature,
}

impl ScalarUDFImpl for AtZone {
    fn name(&self) -> &str {
        "timezone"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        // A local time becomes an instant, an instant a local time. A date counts as an instant.
        Ok(match types.get(1) {
            Some(DataType::Timestamp(_, None)) => sql_type::timestamptz(),
            _ => sql_type::timestamp(),
        })
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let to_instant = matches!(args.return_field.data_type(), DataType::Timestamp(_, Some(_)));
        over_arrays(&args, |arrays| {
            let zones = strings(argument(arrays, 0)?)?;
            let times = cast(argument(arrays, 1)?, &sql_type::timestamp())?;
            let times = times.as_primitive::<TimestampMicrosecondType>();
            let mut last: Option<(String, Tz)> = None;
            let answer: TimestampMicrosecondArray = by_row(&[&zones, times], times.len(), |at| {
                let name = zones.value(at);
                let zone = match &last {
                    Some((known, zone)) if known == name => *zone,
                    _ => last.insert((name.to_owned(), zone(name)?)).1,
                };
                let time = DateTime::from_timestamp_micros(times.value(at))
                    .ok_or_else(|| data("a timestamp is out of range", "filter it out first"))?
                    .naive_utc();
                Ok(if to_instant { instant(zone, time) } else { local(zone, time) }.and_utc().timestamp_micros())
            })?;
            Ok(if to_instant { Arc::new(answer.with_timezone("UTC")) } else { Arc::new(answer) })
        })
    }
}

/// A zone by its name, in any case.
fn zone(name: &str) -> Result<Tz> {
    let trimmed = name.trim();
    let found = trimmed
        .parse()
        .ok()
        .or_else(|| chrono_tz::TZ_VARIANTS.iter().copied().find(|zone| zone.name().eq_ignore_ascii_case(trimmed)));
    found.ok_or_else(|| data(format!("there is no time zone \"{name}\""), "use a name such as Europe/Rome or UTC"))
}

fn local(zone: Tz, instant: NaiveDateTime) -> NaiveDateTime {
    zone.from_utc_datetime(&instant).naive_local()
}

/// Of an hour that comes twice PostgreSQL takes the later one; of an hour that is left out it keeps the clock running.
fn instant(zone: Tz, local: NaiveDateTime) -> NaiveDateTime {
    match zone.from_local_datetime(&local) {
        MappedLocalTime::Single(time) => time.naive_utc(),
        MappedLocalTime::Ambiguous(_, later) => later.naive_utc(),
        MappedLocalTime::None => {
            let before = local - Duration::hours(3);
            let offset = match zone.from_local_datetime(&before) {
                MappedLocalTime::Single(time) | MappedLocalTime::Ambiguous(_, time) => time.offset().fix(),
                MappedLocalTime::None => zone.offset_from_utc_datetime(&before).fix(),
            };
            local - Duration::seconds(i64::from(offset.local_minus_utc()))
        }
    }
}
