//! Types of seed columns as agate finds them: number, date, two forms of date and time, boolean, text, in this order.
//! Source: dbt-core 1.11, `agate_helper.build_type_tester`; the cases below were read off it.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Date32Array, Decimal128Array, Float64Array, Int32Array, Int64Array, StringArray,
    StringViewArray, TimestampMicrosecondArray,
};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::DataType;
use chrono::{NaiveDate, NaiveDateTime, NaiveTime, TimeDelta};

/// The column with agate's values: `$1.50` is the number 1.50.
pub(crate) fn infer(cells: &[Option<&str>]) -> ArrayRef {
    numbers(cells)
        .or_else(|| dates(cells))
        .or_else(|| times(cells, plain_time))
        .or_else(|| times(cells, iso_time))
        .or_else(|| booleans(cells))
        .unwrap_or_else(|| Arc::new(StringViewArray::from_iter(cells.iter().copied())))
}

/// Null is nothing, white space or `null` in any case.
pub(crate) fn is_null(cell: &str) -> bool {
    let cell = cell.trim();
    cell.is_empty() || cell.eq_ignore_ascii_case("null")
}

/// The column cast from its text to `data_type`. Errors: the row (from 0) and what was wrong with it.
pub(crate) fn declared(cells: &[Option<&str>], data_type: &DataType) -> Result<ArrayRef, (usize, String)> {
    let text = StringArray::from_iter(cells.iter().copied());
    let options = CastOptions { safe: false, ..CastOptions::default() };
    if let Ok(array) = cast_with_options(&text, data_type, &options) {
        return Ok(array);
    }
    // Which one it was is asked for only after a failure.
    for (row, cell) in cells.iter().enumerate() {
        if let Err(error) = cast_with_options(&StringArray::from(vec![*cell]), data_type, &options) {
            return Err((row, error.to_string()));
        }
    }
    Err((0, "it does not fit".to_owned()))
}

/// All cells parsed, nulls kept; `None` if one does not parse.
fn all<T>(cells: &[Option<&str>], parse: impl Fn(&str) -> Option<T>) -> Option<Vec<Option<T>>> {
    cells.iter().map(|cell| cell.map_or(Some(None), |cell| parse(cell).map(Some))).collect()
}

struct Number {
    /// Digits without point, sign applied.
    digits: Option<i128>,
    /// Digits after the point.
    scale: i32,
    value: f64,
}

fn numbers(cells: &[Option<&str>]) -> Option<ArrayRef> {
    let parsed = all(cells, number)?;
    let numbers = || parsed.iter().map(Option::as_ref);
    let is_whole = numbers().flatten().all(|number| number.scale <= 0 && number.value.is_finite());
    if !is_whole {
        return Some(Arc::new(Float64Array::from_iter(numbers().map(|number| number.map(|number| number.value)))));
    }
    let whole = |number: &Number| number.digits?.checked_mul(10_i128.checked_pow(number.scale.unsigned_abs())?);
    let values: Option<Vec<Option<i128>>> =
        numbers().map(|number| number.map_or(Some(None), |number| whole(number).map(Some))).collect();
    let Some(values) = values else {
        return Some(Arc::new(Float64Array::from_iter(numbers().map(|number| number.map(|number| number.value)))));
    };
    let fits = |low: i128, high: i128| values.iter().flatten().all(|value| (low..=high).contains(value));
    Some(if fits(i32::MIN.into(), i32::MAX.into()) {
        Arc::new(Int32Array::from_iter(values.iter().map(|value| value.map(|value| value as i32))))
    } else if fits(i64::MIN.into(), i64::MAX.into()) {
        Arc::new(Int64Array::from_iter(values.iter().map(|value| value.map(|value| value as i64))))
    } else {
        let limit = 10_i128.pow(38) - 1;
        if !fits(-limit, limit) {
            return Some(Arc::new(Float64Array::from_iter(numbers().map(|number| number.map(|number| number.value)))));
        }
        Arc::new(Decimal128Array::from_iter(values).with_precision_and_scale(38, 0).ok()?)
    })
}

const CURRENCIES: &[char] =
    &['؋', '$', 'ƒ', '៛', '¥', '₡', '₱', '£', '€', '¢', '﷼', '₪', '₩', '₭', '₮', '₦', '฿', '₤', '₫'];

/// agate's `Number.cast`, then Python's `Decimal`.
fn number(cell: &str) -> Option<Number> {
    let text = cell.trim().trim_matches('%');
    let (negative, text) = text.strip_prefix('-').map_or((false, text), |text| (true, text));
    let text = text.trim_matches(|c| CURRENCIES.contains(&c)).replace(',', "");
    let text: String = text.trim().chars().filter(|c| *c != '_').collect();
    let (inner_negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(&text)),
    };
    let negative = negative != inner_negative;
    let sign = if negative { -1.0 } else { 1.0 };
    let special = |value: f64| Some(Number { digits: None, scale: 0, value: value * sign });
    match digits.to_lowercase().as_str() {
        "inf" | "infinity" => return special(f64::INFINITY),
        "nan" | "snan" => return special(f64::NAN),
        _ => {}
    }
    let (mantissa, exponent) = match digits.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
        None => (digits, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let all_digits = |part: &str| part.chars().all(|c| c.is_ascii_digit());
    if (whole.is_empty() && fraction.is_empty()) || !all_digits(whole) || !all_digits(fraction) {
        return None;
    }
    let value: f64 = format!("{whole}.{fraction}e{exponent}")
        .parse()
        .ok()
        .or_else(|| format!("0{whole}.{fraction}0e{exponent}").parse().ok())?;
    let unsigned: Option<i128> = format!("0{whole}{fraction}").parse().ok();
    Some(Number {
        digits: unsigned.map(|digits| if negative { -digits } else { digits }),
        scale: fraction.len() as i32 - exponent,
        value: value * sign,
    })
}

fn dates(cells: &[Option<&str>]) -> Option<ArrayRef> {
    let parsed = all(cells, |cell| date(cell.trim()))?;
    let epoch = NaiveDate::default();
    let days = parsed.into_iter().map(|date| date.map(|date| date.signed_duration_since(epoch).num_days() as i32));
    Some(Arc::new(Date32Array::from_iter(days)))
}

/// `%Y-%m-%d` as `strptime` reads it: four digits, then one or two and one or two.
fn date(text: &str) -> Option<NaiveDate> {
    let mut parts = text.split('-');
    let (year, month, day) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() || year.len() != 4 {
        return None;
    }
    NaiveDate::from_ymd_opt(short(year, 4)? as i32, short(month, 2)?, short(day, 2)?)
}

fn short(text: &str, most: usize) -> Option<u32> {
    let fits = (1..=most).contains(&text.len()) && text.chars().all(|c| c.is_ascii_digit());
    if fits { text.parse().ok() } else { None }
}

fn times(cells: &[Option<&str>], parse: impl Fn(&str) -> Option<NaiveDateTime>) -> Option<ArrayRef> {
    let parsed = all(cells, |cell| parse(cell.trim()))?;
    let micros = parsed.into_iter().map(|time| time.map(|time| time.and_utc().timestamp_micros()));
    Some(Arc::new(TimestampMicrosecondArray::from_iter(micros)))
}

fn plain_time(text: &str) -> Option<NaiveDateTime> {
    let (day, clock) = text.split_once(' ')?;
    let mut parts = clock.split(':');
    let (hour, minute, second) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() {
        return None;
    }
    date(day)?.and_hms_opt(short(hour, 2)?, short(minute, 2)?, short(second, 2)?)
}

/// ISO 8601 with `T`, in UTC where a zone is given.
fn iso_time(text: &str) -> Option<NaiveDateTime> {
    let (day, clock) = text.split_once('T')?;
    let day = match day.len() {
        10 => NaiveDate::parse_from_str(day, "%Y-%m-%d").ok()?,
        8 => NaiveDate::parse_from_str(day, "%Y%m%d").ok()?,
        _ => return None,
    };
    let (clock, zone) = match clock.find(['Z', '+', '-']) {
        Some(at) => clock.split_at(at),
        None => (clock, ""),
    };
    let digits = clock.replace(':', "");
    let (seconds, fraction) = digits.split_once(['.', ',']).unwrap_or((&digits, ""));
    if !seconds.chars().all(|c| c.is_ascii_digit()) || !matches!(seconds.len(), 2 | 4 | 6) {
        return None;
    }
    let part = |at: usize| seconds.get(at..at + 2).map_or(Some(0), |part| part.parse::<u32>().ok());
    let micros: u32 = if fraction.is_empty() { 0 } else { format!("{fraction:0<6}").get(..6)?.parse().ok()? };
    let time = NaiveTime::from_hms_micro_opt(part(0)?, part(2)?, part(4)?, micros)?;
    day.and_time(time).checked_sub_signed(TimeDelta::try_minutes(zone_minutes(zone)?)?)
}

fn zone_minutes(zone: &str) -> Option<i64> {
    if zone.is_empty() || zone == "Z" {
        return Some(0);
    }
    let sign = if zone.starts_with('-') { -1 } else { 1 };
    let digits: String = zone.chars().filter(char::is_ascii_digit).collect();
    let minutes = match digits.len() {
        2 => digits.parse::<i64>().ok()? * 60,
        4 => digits.get(..2)?.parse::<i64>().ok()? * 60 + digits.get(2..)?.parse::<i64>().ok()?,
        _ => return None,
    };
    Some(sign * minutes)
}

fn booleans(cells: &[Option<&str>]) -> Option<ArrayRef> {
    let parsed = all(cells, |cell| match cell.trim().to_lowercase().as_str() {
        "true" => Some(true),
        "false" => Some(false),
        _ => None,
    })?;
    Some(Arc::new(BooleanArray::from_iter(parsed)))
}

#[cfg(test)]
mod tests {
    use arrow::util::display::array_value_to_string;

    use super::*;

    /// (cells, type, first value): read off dbt-core 1.11.
    const CASES: &[(&[&str], &str, &str)] = &[
        (&["1", "2"], "Int32", "1"),
        (&["01234"], "Int32", "1234"),
        (&["$1.50"], "Float64", "1.5"),
        (&["5%"], "Int32", "5"),
        (&["1,000"], "Int32", "1000"),
        (&["inf"], "Float64", "inf"),
        (&["nan"], "Float64", "NaN"),
        (&["yes", "no"], "Utf8View", "yes"),
        (&["t", "f"], "Utf8View", "t"),
        (&["true", "FALSE"], "Boolean", "true"),
        (&["n/a", "1"], "Utf8View", "n/a"),
        (&["12:30"], "Utf8View", "12:30"),
        (&["2024-01-01"], "Date32", "2024-01-01"),
        (&["2024-1-5"], "Date32", "2024-01-05"),
        (&["2024-02-30"], "Utf8View", "2024-02-30"),
        (&["2024-01-01 10:00:00"], "Timestamp(µs)", "2024-01-01T10:00:00"),
        (&["2024-01-01T10:00:00"], "Timestamp(µs)", "2024-01-01T10:00:00"),
        (&["2024-01-01T10:00:00Z"], "Timestamp(µs)", "2024-01-01T10:00:00"),
        (&["2024-01-01T10:00:00.5"], "Timestamp(µs)", "2024-01-01T10:00:00.500"),
        (&["2024-01-01T10:00+02:00"], "Timestamp(µs)", "2024-01-01T08:00:00"),
        (&["2024-01-01T10"], "Timestamp(µs)", "2024-01-01T10:00:00"),
        (&["2024-01-01 10:00:00.5"], "Utf8View", "2024-01-01 10:00:00.5"),
        (&["2024-01-01 10:00:00+02"], "Utf8View", "2024-01-01 10:00:00+02"),
        (&["2024-01-01", "2024-01-01 10:00:00"], "Utf8View", "2024-01-01"),
        (&["", "null"], "Int32", ""),
        (&["5", "NULL"], "Int32", "5"),
        (&["1.0", "2"], "Float64", "1.0"),
        (&["1e5"], "Int32", "100000"),
        (&["- 5"], "Int32", "-5"),
        (&["+5"], "Int32", "5"),
        (&["--5"], "Int32", "5"),
        (&["$-5"], "Int32", "-5"),
        (&["-$5"], "Int32", "-5"),
        (&["5-"], "Utf8View", "5-"),
        (&["1_000"], "Int32", "1000"),
        (&["(5)"], "Utf8View", "(5)"),
        (&["0x1F"], "Utf8View", "0x1F"),
        (&[".", "1"], "Utf8View", "."),
        (&["9999999999"], "Int64", "9999999999"),
        (&["99999999999999999999"], "Decimal128(38, 0)", "99999999999999999999"),
        (&["true", "1"], "Utf8View", "true"),
        (&[" a "], "Utf8View", " a "),
    ];

    #[test]
    fn columns_have_the_types_and_values_of_dbt() {
        for (cells, data_type, first) in CASES {
            let cells: Vec<Option<&str>> = cells.iter().map(|cell| (!is_null(cell)).then_some(*cell)).collect();
            let array = infer(&cells);
            assert_eq!(array.data_type().to_string(), *data_type, "{cells:?}");
            assert_eq!(array_value_to_string(&array, 0).unwrap(), *first, "{cells:?}");
        }
    }

    #[test]
    fn a_declared_type_names_the_row_that_does_not_fit() {
        let fault = declared(&[Some("1"), Some("x")], &DataType::Int32).unwrap_err();
        assert_eq!(fault.0, 1);
        assert_eq!(declared(&[Some("01234")], &DataType::Utf8View).unwrap().data_type(), &DataType::Utf8View);
    }
}
