//! Integers, decimals and floats.

/// Value of eight ASCII digits, or `None`. The usual SWAR steps: pairs, fours, eight.
#[inline]
fn eight_digits(bytes: [u8; 8]) -> Option<u64> {
    let word = u64::from_le_bytes(bytes);
    let low = word.wrapping_sub(0x3030_3030_3030_3030);
    let high = word.wrapping_add(0x4646_4646_4646_4646);
    if (low | high) & 0x8080_8080_8080_8080 != 0 {
        return None;
    }
    let pairs = low.wrapping_mul(10).wrapping_add(low >> 8);
    let fours = (pairs & 0x0000_00FF_0000_00FF).wrapping_mul(0x000F_4240_0000_0064);
    let eight = ((pairs >> 16) & 0x0000_00FF_0000_00FF).wrapping_mul(0x0000_2710_0000_0001);
    Some(fours.wrapping_add(eight) >> 32)
}

/// Value of 1 to 19 digits. May exceed `i64`, never `u64`.
#[inline]
fn digits_u64(mut text: &[u8]) -> Option<u64> {
    if text.is_empty() || text.len() > 19 {
        return None;
    }
    let mut value = 0_u64;
    while let Some((head, rest)) = text.split_first_chunk::<8>() {
        value = value.wrapping_mul(100_000_000).wrapping_add(eight_digits(*head)?);
        text = rest;
    }
    for byte in text {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        value = value.wrapping_mul(10).wrapping_add(u64::from(digit));
    }
    Some(value)
}

#[inline]
fn sign(text: &[u8]) -> (bool, &[u8]) {
    match text.split_first() {
        Some((b'-', rest)) => (true, rest),
        Some((b'+', rest)) => (false, rest),
        _ => (false, text),
    }
}

/// A whole number with an optional sign; leading zeros are allowed. `None` for anything else and outside `i64`.
#[inline]
pub(in super::super) fn integer(text: &[u8]) -> Option<i64> {
    let (is_negative, mut digits) = sign(text);
    if digits.len() > 19 {
        let zeros = digits.iter().take_while(|byte| **byte == b'0').count();
        digits = digits.get(zeros..)?;
    }
    let value = digits_u64(digits)?;
    if is_negative {
        if value <= 1 << 63 { Some((value as i64).wrapping_neg()) } else { None }
    } else {
        i64::try_from(value).ok()
    }
}

/// Whether a zero stands before further digits (`007`), as in codes and not in numbers.
#[inline]
pub(in super::super) fn has_leading_zero(text: &[u8]) -> bool {
    let (_, digits) = sign(text);
    matches!(digits, [b'0', next, ..] if next.is_ascii_digit())
}

/// Parts of a plain decimal number: digits before and after the point, no exponent.
#[inline]
fn parts(text: &[u8], point: u8) -> Option<(bool, &[u8], &[u8])> {
    let (is_negative, digits) = sign(text);
    // Numbers are short: a plain loop beats a call.
    match digits.iter().position(|byte| *byte == point) {
        None => Some((is_negative, digits, &[])),
        Some(at) => Some((is_negative, digits.get(..at)?, digits.get(at + 1..)?)),
    }
}

const POWERS: [u64; 20] = {
    let mut powers = [1_u64; 20];
    let mut at = 1;
    while at < 20 {
        powers[at] = powers[at - 1] * 10;
        at += 1;
    }
    powers
};

const FLOAT_POWERS: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20,
    1e21, 1e22,
];

/// `numeric(precision, scale)`, exactly: `None` if digits would be lost or the value is too large.
#[inline]
pub(in super::super) fn decimal(text: &[u8], precision: u8, scale: u8, point: u8) -> Option<i128> {
    let (is_negative, whole, mut fraction) = parts(text, point)?;
    let scale_len = usize::from(scale);
    if whole.len() + scale_len <= 18
        && fraction.len() <= scale_len
        && !(whole.is_empty() && fraction.is_empty())
        && let Some(high) = (if whole.is_empty() { Some(0) } else { digits_u64(whole) })
        && let Some(low) = (if fraction.is_empty() { Some(0) } else { digits_u64(fraction) })
    {
        let value = high * POWERS.get(scale_len)? + low * POWERS.get(scale_len - fraction.len())?;
        if precision < 18 && value >= *POWERS.get(usize::from(precision))? {
            return None;
        }
        let value = i128::from(value);
        return Some(if is_negative { -value } else { value });
    }
    if text.iter().any(|byte| matches!(byte, b'e' | b'E')) {
        return decimal_with_exponent(text, precision, scale, point);
    }
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    while fraction.len() > scale_len {
        let (last, rest) = fraction.split_last()?;
        if *last != b'0' {
            return None;
        }
        fraction = rest;
    }
    let mut value = 0_i128;
    let zeros = std::iter::repeat_n(&b'0', scale_len - fraction.len());
    for byte in whole.iter().chain(fraction).chain(zeros) {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        value = value.checked_mul(10)?.checked_add(i128::from(digit))?;
    }
    fits(value, precision, is_negative)
}

fn fits(value: i128, precision: u8, is_negative: bool) -> Option<i128> {
    let limit = 10_i128.checked_pow(u32::from(precision))?;
    if value >= limit { None } else { Some(if is_negative { -value } else { value }) }
}

/// `1.5e3` and the like. The exponent is bounded before anything is multiplied.
fn decimal_with_exponent(text: &[u8], precision: u8, scale: u8, point: u8) -> Option<i128> {
    let at = text.iter().position(|byte| matches!(byte, b'e' | b'E'))?;
    let exponent = integer(text.get(at + 1..)?)?;
    let (is_negative, whole, fraction) = parts(text.get(..at)?, point)?;
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let mut value = 0_i128;
    for byte in whole.iter().chain(fraction) {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        value = value.checked_mul(10)?.checked_add(i128::from(digit))?;
    }
    let mut shift = exponent.checked_add(i64::from(scale))?.checked_sub(i64::try_from(fraction.len()).ok()?)?;
    if value == 0 {
        return Some(0);
    }
    if !(-60..=60).contains(&shift) {
        return None;
    }
    while shift > 0 {
        value = value.checked_mul(10)?;
        shift -= 1;
    }
    while shift < 0 {
        if value % 10 != 0 {
            return None;
        }
        value /= 10;
        shift += 1;
    }
    fits(value, precision, is_negative)
}

/// The double nearest to a decimal number, correctly rounded; `NaN` and `Infinity` as PostgreSQL spells them. `None` if
/// it is no number, overflows, or vanishes to zero. -0.0 becomes 0.0, every NaN the same one.
#[inline]
pub(in super::super) fn double(text: &[u8], point: u8) -> Option<f64> {
    // Clinger's fast path: mantissa below 2^53 and a power of ten that a double holds exactly.
    if text.len() <= 20
        && let Some((is_negative, whole, fraction)) = parts(text, point)
        && whole.len() + fraction.len() <= 18
        && !whole.is_empty()
        && let Some(high) = digits_u64(whole)
        && let Some(low) = (if fraction.is_empty() { Some(0) } else { digits_u64(fraction) })
    {
        let mantissa = high * POWERS.get(fraction.len())? + low;
        if mantissa <= 1 << 53 {
            let value = mantissa as f64 / FLOAT_POWERS.get(fraction.len())?;
            return Some(if is_negative && mantissa != 0 { -value } else { value });
        }
    }
    slow_double(text, point)
}

#[cold]
fn slow_double(text: &[u8], point: u8) -> Option<f64> {
    let mut buffer = [0_u8; 64];
    let mut text = text;
    if point != b'.' {
        if text.contains(&b'.') {
            return None;
        }
        let target = buffer.get_mut(..text.len())?;
        target.copy_from_slice(text);
        target.iter_mut().filter(|byte| **byte == point).for_each(|byte| *byte = b'.');
        text = buffer.get(..text.len())?;
    }
    let value: f64 = fast_float2::parse(text).ok()?;
    let (_, rest) = sign(text);
    let has_digits = rest.first().is_some_and(|byte| byte.is_ascii_digit() || *byte == b'.');
    if value.is_nan() {
        return Some(f64::NAN);
    }
    if value.is_infinite() && has_digits {
        return None;
    }
    if value == 0.0 {
        let mantissa = rest.split(|byte| matches!(byte, b'e' | b'E')).next().unwrap_or_default();
        return if mantissa.iter().any(|byte| (b'1'..=b'9').contains(byte)) { None } else { Some(0.0) };
    }
    Some(value)
}

/// The float nearest to a decimal number; as `double` in all else.
pub(in super::super) fn float(text: &[u8], point: u8) -> Option<f32> {
    let value = double(text, point)?;
    // Rounding twice could differ in the last bit.
    let narrow = if point == b'.' { fast_float2::parse::<f32, _>(text).ok()? } else { value as f32 };
    if narrow.is_nan() {
        return Some(f32::NAN);
    }
    if (narrow.is_infinite() && value.is_finite()) || (narrow == 0.0 && value != 0.0) {
        return None;
    }
    Some(if narrow == 0.0 { 0.0 } else { narrow })
}

/// Whether a whole number, given as text, is beyond what a double holds exactly.
pub(in super::super) fn is_wide_integer(text: &[u8]) -> bool {
    let (_, digits) = sign(text);
    digits.len() > 15
        && digits.iter().all(u8::is_ascii_digit)
        && integer(text).is_none_or(|value| value.unsigned_abs() > 1 << 53)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_exact_at_their_ends() {
        assert_eq!(integer(b"-9223372036854775808"), Some(i64::MIN));
        assert_eq!(integer(b"9223372036854775807"), Some(i64::MAX));
        assert_eq!(integer(b"9223372036854775808"), None);
        assert_eq!(integer(b"0000000000000000000000012"), Some(12));
        assert_eq!(integer(b"+12345678"), Some(12_345_678));
        for text in ["", "-", "+", "1.0", "1e3", "12a45678", "1234567/", "1234567:", "--1", "99999999999999999999"] {
            assert_eq!(integer(text.as_bytes()), None, "{text}");
        }
        for value in (0..2_000_000_u64).step_by(997).chain([99_999_999, 100_000_000, 123_456_789_012_345_678]) {
            assert_eq!(integer(value.to_string().as_bytes()), Some(value as i64));
        }
    }

    #[test]
    fn decimals_lose_nothing() {
        assert_eq!(decimal(b"12.34", 10, 2, b'.'), Some(1234));
        assert_eq!(decimal(b"-12.3", 10, 2, b'.'), Some(-1230));
        assert_eq!(decimal(b".5", 10, 2, b'.'), Some(50));
        assert_eq!(decimal(b"5.", 10, 2, b'.'), Some(500));
        assert_eq!(decimal(b"12.3400", 10, 2, b'.'), Some(1234));
        assert_eq!(decimal(b"12.345", 10, 2, b'.'), None);
        assert_eq!(decimal(b"123.00", 4, 2, b'.'), None);
        assert_eq!(decimal(b"12,5", 10, 2, b','), Some(1250));
        assert_eq!(decimal(b"1.5e3", 10, 2, b'.'), Some(150_000));
        assert_eq!(decimal(b"1500e-3", 10, 2, b'.'), Some(150));
        assert_eq!(decimal(b"1e999999999999", 10, 2, b'.'), None);
        let nines = "9".repeat(38);
        assert_eq!(decimal(nines.as_bytes(), 38, 0, b'.'), Some(10_i128.pow(38) - 1));
        assert_eq!(decimal(format!("{nines}9").as_bytes(), 38, 0, b'.'), None);
        for text in ["", ".", "-", "-.", "1.2.3", "0x1", "1 2", "NaN"] {
            assert_eq!(decimal(text.as_bytes(), 10, 2, b'.'), None, "{text}");
        }
    }

    #[test]
    fn doubles_are_rounded_as_the_standard_library_does() {
        for text in [
            "0.1",
            "33.996326",
            "123456789.123456789",
            "1e23",
            "1.7976931348623157e308",
            "5e-324",
            "9007199254740993",
            "-6.742335",
            "0.30000000000000004",
        ] {
            assert_eq!(double(text.as_bytes(), b'.'), Some(text.parse::<f64>().unwrap()), "{text}");
        }
        assert!(double(b"-0.0", b'.').unwrap().is_sign_positive());
        assert_eq!(double(b"1e400", b'.'), None);
        assert_eq!(double(b"1e-400", b'.'), None);
        assert_eq!(double(b"83,74", b','), Some(83.74));
        assert_eq!(double(b"1.234,5", b','), None);
        for text in ["", "-", "abc", "1.2.3", "1e", "0x10", "1_000"] {
            assert_eq!(double(text.as_bytes(), b'.'), None, "{text}");
        }
    }
}
