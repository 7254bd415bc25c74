//! Text of values as PostgreSQL reads it, for all that takes values: statements, landed files, tables of others.

use arrow::compute::kernels::cast_utils::parse_interval_month_day_nano;
use arrow::datatypes::IntervalMonthDayNano;
use uuid::Uuid;

const NANOS_A_SECOND: i64 = 1_000_000_000;

/// A uuid: 32 digits in hex, with braces around them or not, and a hyphen behind any four of them or none.
/// Source: PostgreSQL 15, 8.12.
pub fn uuid(text: &[u8]) -> Option<[u8; 16]> {
    // As nearly all are written.
    if matches!(text.len(), 32 | 36)
        && let Ok(id) = Uuid::try_parse_ascii(text)
    {
        return Some(id.into_bytes());
    }
    let inner = text.strip_prefix(b"{").and_then(|rest| rest.strip_suffix(b"}")).unwrap_or(text);
    let mut digits = Vec::with_capacity(32);
    let mut was_hyphen = true;
    for byte in inner {
        if *byte != b'-' {
            digits.push(*byte);
        } else if was_hyphen || !digits.len().is_multiple_of(4) {
            return None;
        }
        was_hyphen = *byte == b'-';
    }
    if was_hyphen || digits.len() != 32 {
        return None;
    }
    Uuid::try_parse_ascii(&digits).ok().map(Uuid::into_bytes)
}

/// An interval: `1 day -02:00:00.5`, `3 hours`, `2 weeks 5`. A bare number at its end is seconds; hours may exceed a day.
/// Source: PostgreSQL 15, 8.5.4, the forms with units and with a clock.
pub fn interval(text: &str) -> Option<IntervalMonthDayNano> {
    let text = text.trim();
    let (units, last) = text.rsplit_once(char::is_whitespace).unwrap_or(("", text));
    let nanos = if last.contains(':') {
        clock(last)?
    } else if last.parse::<f64>().is_ok() {
        // The parser below takes a bare number for months.
        parse_interval_month_day_nano(&format!("{last} secs")).ok()?.nanoseconds
    } else {
        return parse_interval_month_day_nano(text).ok();
    };
    let before = match units.trim() {
        "" => IntervalMonthDayNano::ZERO,
        units => parse_interval_month_day_nano(units).ok()?,
    };
    Some(IntervalMonthDayNano { nanoseconds: before.nanoseconds.checked_add(nanos)?, ..before })
}

/// `[+-]H:MM[:SS[.fraction]]` in nanoseconds; digits beyond microseconds would have to be rounded.
fn clock(text: &str) -> Option<i64> {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    let mut parts = digits.split(':');
    let (hours, minutes, seconds) = (parts.next()?, parts.next()?, parts.next().unwrap_or("0"));
    let (seconds, fraction) = seconds.split_once('.').unwrap_or((seconds, ""));
    let whole = |part: &str, below: i64| {
        let is_number = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        part.parse::<i64>().ok().filter(|number| is_number && *number < below)
    };
    if parts.next().is_some() || fraction.len() > 6 || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let fraction: i64 = format!("{fraction:0<9}").parse().ok()?;
    let minutes = whole(hours, i64::MAX)?.checked_mul(60)?.checked_add(whole(minutes, 60)?)?;
    let seconds = minutes.checked_mul(60)?.checked_add(whole(seconds, 60)?)?;
    seconds.checked_mul(NANOS_A_SECOND)?.checked_add(fraction).map(|nanos| sign * nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uuid_has_one_value_however_it_is_written() {
        let wanted = Uuid::parse_str("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11").unwrap().into_bytes();
        for spelling in [
            "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11",
            "{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11}",
            "a0eebc999c0b4ef8bb6d6bb9bd380a11",
            "{a0eebc999c0b4ef8-bb6d6bb9bd380a11}",
            "a0ee-bc99-9c0b-4ef8-bb6d-6bb9-bd38-0a11",
        ] {
            assert_eq!(uuid(spelling.as_bytes()), Some(wanted), "{spelling}");
        }
        for wrong in [
            "a0eebc99",
            "",
            "{}",
            "a0e-ebc999c0b4ef8bb6d6bb9bd380a11",
            "a0eebc999c0b4ef8bb6d6bb9bd380a11-",
            "-a0eebc999c0b4ef8bb6d6bb9bd380a11",
            "a0ee--bc999c0b4ef8bb6d6bb9bd380a11",
            "g0eebc999c0b4ef8bb6d6bb9bd380a11",
            "urn:uuid:a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
        ] {
            assert_eq!(uuid(wrong.as_bytes()), None, "{wrong}");
        }
    }

    #[test]
    fn intervals_have_units_a_clock_or_seconds() {
        let of = IntervalMonthDayNano::new;
        for (text, wanted) in [
            ("1 year 2 mons 3 days 04:05:06.7", of(14, 3, 14_706_700_000_000)),
            ("-1 days +02:03:00", of(0, -1, 7_380_000_000_000)),
            (" 30:00 ", of(0, 0, 108_000_000_000_000)),
            ("-00:00:01.5", of(0, 0, -1_500_000_000)),
            ("1 day 3", of(0, 1, 3_000_000_000)),
            ("-2.5", of(0, 0, -2_500_000_000)),
            ("3 hours", of(0, 0, 10_800_000_000_000)),
        ] {
            assert_eq!(interval(text), Some(wanted), "{text}");
        }
        for wrong in ["", "x", "10:70", "10:00:61", "1:2:3:4", "00:00:00.1234567", ":5", "1 dya", "9999999999999999:00"]
        {
            assert_eq!(interval(wrong), None, "{wrong}");
        }
    }
}
