//! Dates, times of day, timestamps.

use std::fmt::Write;

use chrono::{DateTime, LocalResult, NaiveDate, NaiveDateTime, NaiveTime, Offset, TimeZone, Timelike};
use chrono_tz::Tz;

const MICROS: i64 = 1_000_000;
const DAY_MICROS: i64 = 86_400 * MICROS;

/// A point in time as written: local microseconds since 1970, and the offset if one stood there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) struct Stamp {
    pub(in super::super) local_micros: i64,
    pub(in super::super) offset_secs: Option<i32>,
    pub(in super::super) has_time: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Instant {
    At(i64),
    /// The clock of that zone jumped over this local time.
    Gap,
}

#[inline]
fn two(text: &[u8], at: usize) -> Option<u32> {
    let high = text.get(at)?.wrapping_sub(b'0');
    let low = text.get(at + 1)?.wrapping_sub(b'0');
    if high > 9 || low > 9 { None } else { Some(u32::from(high) * 10 + u32::from(low)) }
}

/// Days since 1970-01-01 of a date of the proleptic Gregorian calendar (Howard Hinnant's `days_from_civil`).
#[inline]
fn days(year: u32, month: u32, day: u32) -> Option<i32> {
    const LENGTHS: [u32; 12] = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let is_leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let length = *LENGTHS.get(month.wrapping_sub(1) as usize)? + u32::from(is_leap && month == 2);
    if day == 0 || day > length || year == 0 {
        return None;
    }
    let shifted = year - u32::from(month <= 2);
    let (era, of_era) = (shifted / 400, shifted % 400);
    let month_index = if month <= 2 { month + 9 } else { month - 3 };
    let of_year = (153 * month_index + 2) / 5 + day - 1;
    let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year;
    i32::try_from(days).ok().map(|days| days - 719_468)
}

/// `YYYY-MM-DD` at the start of `text`.
#[inline]
fn date_prefix(text: &[u8]) -> Option<i32> {
    let (head, _) = text.split_first_chunk::<10>()?;
    if head[4] != b'-' || head[7] != b'-' {
        return None;
    }
    let year = two(head, 0)? * 100 + two(head, 2)?;
    days(year, two(head, 5)?, two(head, 8)?)
}

/// An ISO date.
#[inline]
pub(in super::super) fn date(text: &[u8]) -> Option<i32> {
    if text.len() == 10 { date_prefix(text) } else { None }
}

/// `HH:MM[:SS[.fraction]]`; microseconds and the bytes read. Digits beyond microseconds must be zeros.
#[inline]
fn clock_prefix(text: &[u8]) -> Option<(i64, usize)> {
    let (hour, minute) = (two(text, 0)?, two(text, 3)?);
    if hour > 23 || minute > 59 || text.get(2) != Some(&b':') {
        return None;
    }
    let minutes = i64::from(hour * 60 + minute);
    if text.get(5) != Some(&b':') {
        return Some((minutes * 60 * MICROS, 5));
    }
    let second = two(text, 6)?;
    if second > 59 {
        return None;
    }
    let mut micros = (minutes * 60 + i64::from(second)) * MICROS;
    let mut at = 8;
    if matches!(text.get(8), Some(b'.' | b',')) {
        let mut unit = 100_000;
        at = 9;
        while let Some(digit) = text.get(at).map(|byte| byte.wrapping_sub(b'0')).filter(|digit| *digit <= 9) {
            if unit == 0 && digit != 0 {
                return None;
            }
            micros += i64::from(digit) * unit;
            unit /= 10;
            at += 1;
        }
        if at == 9 {
            return None;
        }
    }
    Some((micros, at))
}

/// A time of day in microseconds.
pub(in super::super) fn time_of_day(text: &[u8]) -> Option<i64> {
    clock_prefix(text).filter(|(_, read)| *read == text.len()).map(|(micros, _)| micros)
}

/// ISO 8601 as programs write it: date, then optionally `T` or a blank and a time, then optionally `Z` or an offset.
#[inline]
pub(in super::super) fn stamp(text: &[u8]) -> Option<Stamp> {
    let day_micros = i64::from(date_prefix(text)?) * DAY_MICROS;
    if text.len() == 10 {
        return Some(Stamp { local_micros: day_micros, offset_secs: None, has_time: false });
    }
    if !matches!(text.get(10), Some(b'T' | b't' | b' ')) {
        return None;
    }
    let rest = text.get(11..)?;
    let (micros, read) = clock_prefix(rest)?;
    let offset_secs = match rest.get(read..)? {
        [] => None,
        [b'Z' | b'z'] => Some(0),
        zone => Some(offset(zone)?),
    };
    Some(Stamp { local_micros: day_micros + micros, offset_secs, has_time: true })
}

/// `+HH`, `+HHMM`, `+HH:MM`, with an optional blank before; ` UTC` and ` GMT`.
fn offset(text: &[u8]) -> Option<i32> {
    let text = match text.split_first() {
        Some((b' ', rest)) => rest,
        _ => text,
    };
    if matches!(text, b"UTC" | b"GMT" | b"Z") {
        return Some(0);
    }
    let (sign, digits) = match text.split_first()? {
        (b'+', rest) => (1, rest),
        (b'-', rest) => (-1, rest),
        _ => return None,
    };
    let minutes_at = match digits.len() {
        2 => None,
        4 => Some(2),
        5 if digits.get(2) == Some(&b':') => Some(3),
        _ => return None,
    };
    let hours = two(digits, 0)?;
    let minutes = match minutes_at {
        Some(at) => two(digits, at)?,
        None => 0,
    };
    if hours > 15 || minutes > 59 { None } else { Some(sign * (hours * 60 + minutes) as i32 * 60) }
}

impl Stamp {
    /// The instant, local times read in `zone` (UTC if there is none). An ambiguous local time is the earlier instant.
    #[inline]
    pub(in super::super) fn instant(self, zone: Option<Tz>) -> Instant {
        match (self.offset_secs, zone) {
            (Some(offset), _) => Instant::At(self.local_micros - i64::from(offset) * MICROS),
            (None, None) => Instant::At(self.local_micros),
            (None, Some(zone)) => local_instant(self.local_micros, zone),
        }
    }

    /// The local time for a column without zone. A value with another offset than UTC does not fit.
    pub(in super::super) fn local(self) -> Option<i64> {
        match self.offset_secs {
            None | Some(0) => Some(self.local_micros),
            Some(_) => None,
        }
    }
}

fn local_instant(local_micros: i64, zone: Tz) -> Instant {
    let Some(naive) = DateTime::from_timestamp_micros(local_micros).map(|at| at.naive_utc()) else {
        return Instant::Gap;
    };
    match zone.offset_from_local_datetime(&naive) {
        LocalResult::Single(offset) => Instant::At(local_micros - i64::from(offset.fix().local_minus_utc()) * MICROS),
        LocalResult::Ambiguous(first, second) => {
            let larger = first.fix().local_minus_utc().max(second.fix().local_minus_utc());
            Instant::At(local_micros - i64::from(larger) * MICROS)
        }
        LocalResult::None => Instant::Gap,
    }
}

/// A form of dates and timestamps that a source declares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) enum Pattern {
    /// Units of an epoch number in microseconds.
    Epoch(i64),
    Strftime(String),
}

impl Pattern {
    pub(in super::super) fn of(text: &str) -> Option<Self> {
        Some(match text {
            "epoch_s" => Self::Epoch(MICROS),
            "epoch_ms" => Self::Epoch(1_000),
            "epoch_us" => Self::Epoch(1),
            pattern => {
                use chrono::format::{Item, StrftimeItems};
                if StrftimeItems::new(pattern).any(|item| matches!(item, Item::Error)) {
                    return None;
                }
                Self::Strftime(pattern.to_owned())
            }
        })
    }

    pub(in super::super) fn stamp(&self, text: &[u8]) -> Option<Stamp> {
        let text = std::str::from_utf8(text).ok()?;
        match self {
            Self::Epoch(unit) => {
                let local_micros = super::number::integer(text.as_bytes())?.checked_mul(*unit)?;
                // Years 1 to 9999: an epoch in a wrong unit falls out of this range, or is caught by the eye.
                (-62_135_596_800 * MICROS..253_402_300_800 * MICROS).contains(&local_micros).then_some(Stamp {
                    local_micros,
                    offset_secs: Some(0),
                    has_time: true,
                })
            }
            Self::Strftime(pattern) => {
                if let Ok(at) = DateTime::parse_from_str(text, pattern) {
                    if !is_whole_micros(at.naive_local()) {
                        return None;
                    }
                    let local = at.naive_local().and_utc().timestamp_micros();
                    return Some(Stamp {
                        local_micros: local,
                        offset_secs: Some(at.offset().fix().local_minus_utc()),
                        has_time: true,
                    });
                }
                // Digits without separators can be cut in many ways; only the full widths count.
                let is_exact = |shown: &dyn std::fmt::Display| {
                    text.bytes().any(|byte| !byte.is_ascii_digit()) || {
                        let mut out = String::new();
                        write!(out, "{shown}").is_ok() && out == text
                    }
                };
                if let Ok(at) = NaiveDateTime::parse_from_str(text, pattern)
                    && is_exact(&at.format(pattern))
                {
                    if !is_whole_micros(at) {
                        return None;
                    }
                    return Some(Stamp {
                        local_micros: at.and_utc().timestamp_micros(),
                        offset_secs: None,
                        has_time: true,
                    });
                }
                let day = NaiveDate::parse_from_str(text, pattern).ok()?;
                if !is_exact(&day.format(pattern)) {
                    return None;
                }
                Some(Stamp {
                    local_micros: day.and_time(NaiveTime::MIN).and_utc().timestamp_micros(),
                    offset_secs: None,
                    has_time: false,
                })
            }
        }
    }
}

/// Finer fractions would be cut.
fn is_whole_micros(at: NaiveDateTime) -> bool {
    at.nanosecond().is_multiple_of(1_000)
}

impl Stamp {
    /// Days since 1970, if the value is a date, or midnight of one.
    pub(in super::super) fn day(self) -> Option<i32> {
        let local = self.local()?;
        if local.rem_euclid(DAY_MICROS) == 0 { i32::try_from(local.div_euclid(DAY_MICROS)).ok() } else { None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn micros(text: &str) -> i64 {
        DateTime::parse_from_rfc3339(text).unwrap().timestamp_micros()
    }

    #[test]
    fn stamps_agree_with_chrono() {
        for text in [
            "2021-03-29T11:22:04Z",
            "1969-12-31T23:59:59.999999Z",
            "2000-02-29T00:00:00+05:30",
            "0001-01-01T00:00:00Z",
            "9999-12-31T23:59:59.5-08:00",
        ] {
            assert_eq!(stamp(text.as_bytes()).unwrap().instant(None), Instant::At(micros(text)), "{text}");
        }
        assert_eq!(stamp(b"2021-03-29 11:22").unwrap().instant(None), Instant::At(micros("2021-03-29T11:22:00Z")));
        assert_eq!(
            stamp(b"2021-03-29 11:22:04+02").unwrap().instant(None),
            Instant::At(micros("2021-03-29T09:22:04Z"))
        );
        assert_eq!(date(b"1970-01-02"), Some(1));
        for text in [
            "2021-02-29",
            "2021-13-01",
            "2021-00-10",
            "2021-01-00",
            "0000-01-01",
            "90/02/2032",
            "2021-1-1",
            "2021-01-01T24:00:00",
            "2021-01-01T23:60",
            "2021-01-01T23:00:60",
            "2021-01-01T10:00:00.1234567",
            "2021-01-01T",
            "2021-01-01X10:00",
            "2021-01-01T10:00:00.",
        ] {
            assert_eq!(stamp(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn every_day_counts() {
        let mut day = NaiveDate::from_ymd_opt(1, 1, 1).unwrap();
        let epoch = NaiveDate::from_ymd_opt(1970, 1, 1).unwrap();
        while day < NaiveDate::from_ymd_opt(2500, 1, 1).unwrap() {
            assert_eq!(date(day.format("%Y-%m-%d").to_string().as_bytes()), Some((day - epoch).num_days() as i32));
            day = day + chrono::Days::new(13);
        }
    }

    #[test]
    fn local_times_take_the_earlier_instant_and_refuse_a_gap() {
        let zone: Option<Tz> = Some(chrono_tz::Europe::Berlin);
        let at = |text: &str| stamp(text.as_bytes()).unwrap().instant(zone);
        assert_eq!(at("2021-03-28 02:30:00"), Instant::Gap);
        assert_eq!(at("2021-10-31 02:30:00"), Instant::At(micros("2021-10-31T00:30:00Z")));
        assert_eq!(at("2021-07-01 12:00:00"), Instant::At(micros("2021-07-01T10:00:00Z")));
    }

    #[test]
    fn declared_patterns_read_further_forms() {
        let read =
            |pattern: &str, text: &str| Pattern::of(pattern).unwrap().stamp(text.as_bytes()).unwrap().instant(None);
        let wanted = Instant::At(micros("2021-03-29T11:38:57Z"));
        assert_eq!(read("%d/%m/%Y %H:%M:%S", "29/03/2021 11:38:57"), wanted);
        assert_eq!(read("%Y%m%d%H%M%S", "20210329113857"), wanted);
        assert_eq!(read("epoch_ms", "1617017937000"), wanted);
        assert_eq!(read("%d-%b-%Y %I:%M:%S %p", "29-Mar-2021 11:38:57 AM"), wanted);
        let fine = |pattern: &str, text: &str| Pattern::of(pattern).unwrap().stamp(text.as_bytes());
        assert!(fine("%d/%m/%Y %H:%M:%S%.f", "29/03/2021 11:38:57.123456").is_some());
        assert_eq!(fine("%d/%m/%Y %H:%M:%S%.f", "29/03/2021 11:38:57.1234567"), None);
        assert_eq!(fine("%d/%m/%Y %H:%M:%S%.f %z", "29/03/2021 11:38:57.1234567 +0200"), None);
    }
}
