//! Numbers and instants as text, from integers, so that no float is ever printed.

/// Seconds of a day.
pub(crate) const DAY_S: i64 = 86_400;

/// `value` is in units of 10^-`places`: (1234, 2) is `12.34`, (1200, 2) is `12.0`.
pub(crate) fn push_scaled(out: &mut Vec<u8>, value: i64, places: usize) {
    if value < 0 {
        out.push(b'-');
    }
    let mut digits = [b'0'; 24];
    let mut rest = value.unsigned_abs();
    let mut start = digits.len();
    let mut count = 0;
    while rest > 0 || count <= places {
        start -= 1;
        digits[start] = b'0' + (rest % 10) as u8;
        rest /= 10;
        count += 1;
    }
    let point = digits.len() - places;
    out.extend_from_slice(&digits[start..point]);
    if places == 0 {
        return;
    }
    out.push(b'.');
    let mut end = digits.len();
    while end > point + 1 && digits[end - 1] == b'0' {
        end -= 1;
    }
    out.extend_from_slice(&digits[point..end]);
}

pub(crate) fn push_whole(out: &mut Vec<u8>, value: i64) {
    push_scaled(out, value, 0);
}

pub(crate) fn scaled(value: i64, places: usize) -> String {
    let mut out = Vec::with_capacity(16);
    push_scaled(&mut out, value, places);
    String::from_utf8_lossy(&out).into_owned()
}

/// Year, month, day of a day counted from 1970-01-01. Source: H. Hinnant, "chrono-compatible date algorithms".
pub(crate) fn civil(day: i64) -> (i64, i64, i64) {
    let z = day + 719_468;
    let era = z.div_euclid(146_097);
    let doe = z.rem_euclid(146_097);
    let yoe = (doe - doe / 1_460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    (yoe + era * 400 + i64::from(month <= 2), month, doy - (153 * mp + 2) / 5 + 1)
}

fn push_two(out: &mut Vec<u8>, value: i64) {
    out.push(b'0' + (value / 10 % 10) as u8);
    out.push(b'0' + (value % 10) as u8);
}

/// `2026-03-02`
pub(crate) fn push_date(out: &mut Vec<u8>, day: i64) {
    let (year, month, day) = civil(day);
    push_two(out, year / 100);
    push_two(out, year % 100);
    out.push(b'-');
    push_two(out, month);
    out.push(b'-');
    push_two(out, day);
}

/// `05:11:39`
pub(crate) fn push_time(out: &mut Vec<u8>, second_of_day: i64) {
    push_two(out, second_of_day / 3_600);
    out.push(b':');
    push_two(out, second_of_day / 60 % 60);
    out.push(b':');
    push_two(out, second_of_day % 60);
}

/// `2026-03-02T05:11:39.796Z`
pub(crate) fn push_instant_ms(out: &mut Vec<u8>, unix_ms: i64) {
    let unix_s = unix_ms.div_euclid(1_000);
    let ms = unix_ms.rem_euclid(1_000);
    push_date(out, unix_s.div_euclid(DAY_S));
    out.push(b'T');
    push_time(out, unix_s.rem_euclid(DAY_S));
    out.push(b'.');
    out.push(b'0' + (ms / 100) as u8);
    push_two(out, ms % 100);
    out.push(b'Z');
}

pub(crate) fn date(day: i64) -> String {
    let mut out = Vec::with_capacity(10);
    push_date(&mut out, day);
    String::from_utf8_lossy(&out).into_owned()
}

/// `2026-03-02T05:11:39Z`
pub(crate) fn instant(unix_s: i64) -> String {
    format!("{}Z", wall_clock(unix_s, 'T'))
}

/// `2026-03-02 05:11:39` with the given character between date and time.
pub(crate) fn wall_clock(unix_s: i64, between: char) -> String {
    let mut out = Vec::with_capacity(20);
    push_time(&mut out, unix_s.rem_euclid(DAY_S));
    format!("{}{between}{}", date(unix_s.div_euclid(DAY_S)), String::from_utf8_lossy(&out))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scaled_numbers_read_as_they_should() {
        for (value, places, text) in [
            (1234, 2, "12.34"),
            (1200, 2, "12.0"),
            (-5, 1, "-0.5"),
            (0, 2, "0.0"),
            (7, 0, "7"),
            (-33_984_984, 6, "-33.984984"),
        ] {
            assert_eq!(scaled(value, places), text);
        }
    }

    #[test]
    fn instants_agree_with_chrono() {
        for unix_s in [0, 951_782_399, 951_782_400, 1_772_409_600, 1_800_000_001] {
            let expected =
                chrono::DateTime::from_timestamp(unix_s, 0).unwrap().format("%Y-%m-%dT%H:%M:%SZ").to_string();
            assert_eq!(instant(unix_s), expected);
        }
        let mut out = Vec::new();
        push_instant_ms(&mut out, 1_772_409_600_096);
        assert_eq!(String::from_utf8(out).unwrap(), "2026-03-02T00:00:00.096Z");
    }
}
