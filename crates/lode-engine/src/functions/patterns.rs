//! Template patterns of `to_char`, `to_date` and `to_timestamp`. Source: PostgreSQL 15, 9.8 "Data Type Formatting".

use chrono::{Datelike, NaiveDate, NaiveDateTime, NaiveTime, Timelike, Weekday};
use datafusion::error::Result;

use super::kernel::{data, unsupported};

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

/// Keywords, longest first where one begins another.
const KEYWORDS: [&str; 46] = [
    "MONTH", "A.M.", "P.M.", "SSSSS", "SSSS", "IYYY", "Y,YYY", "YYYY", "IDDD", "HH24", "HH12", "IYY", "YYY", "DAY",
    "DDD", "MON", "TZH", "TZM", "FF1", "FF2", "FF3", "FF4", "FF5", "FF6", "AM", "PM", "CC", "DD", "DY", "HH", "ID",
    "IW", "IY", "MI", "MM", "MS", "OF", "SS", "TZ", "US", "WW", "YY", "D", "I", "J", "Q",
];
const SINGLE: [&str; 2] = ["W", "Y"];

#[derive(Debug, Clone, PartialEq)]
enum Piece {
    Literal(String),
    Field { keyword: &'static str, case: Case, is_filled: bool, ordinal: Option<Case> },
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Case {
    Upper,
    Capital,
    Lower,
}

/// A parsed template.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Pattern {
    pieces: Vec<Piece>,
    text: String,
}

fn starts_with_ignoring_case(text: &str, word: &str) -> bool {
    text.get(..word.len()).is_some_and(|head| head.eq_ignore_ascii_case(word))
}

impl Pattern {
    pub(super) fn parse(text: &str) -> Self {
        let mut pieces: Vec<Piece> = Vec::new();
        let mut rest = text;
        let mut is_filled = true;
        while let Some(first) = rest.chars().next() {
            if first == '"' {
                let inner = rest.get(1..).unwrap_or_default();
                let end = inner.find('"').unwrap_or(inner.len());
                pieces.push(Piece::Literal(inner.get(..end).unwrap_or_default().to_owned()));
                rest = inner.get(end + 1..).unwrap_or_default();
                continue;
            }
            if starts_with_ignoring_case(rest, "FM") {
                is_filled = false;
                rest = rest.get(2..).unwrap_or_default();
                continue;
            }
            let keyword =
                KEYWORDS.iter().chain(SINGLE.iter()).find(|keyword| starts_with_ignoring_case(rest, keyword)).copied();
            let Some(keyword) = keyword else {
                pieces.push(Piece::Literal(first.to_string()));
                rest = rest.get(first.len_utf8()..).unwrap_or_default();
                continue;
            };
            let (written, after) = rest.split_at(keyword.len());
            let ordinal = match after.get(..2) {
                Some("TH") => Some(Case::Upper),
                Some("th") => Some(Case::Lower),
                _ => None,
            };
            pieces.push(Piece::Field { keyword, case: case_of(written), is_filled, ordinal });
            is_filled = true;
            rest = if ordinal.is_some() { after.get(2..).unwrap_or_default() } else { after };
        }
        Self { pieces, text: text.to_owned() }
    }

    /// `time` in this template; `has_zone` allows the zone fields, which answer UTC.
    pub(super) fn format(&self, time: NaiveDateTime, has_zone: bool) -> Result<String> {
        let mut text = String::new();
        for piece in &self.pieces {
            match piece {
                Piece::Literal(literal) => text.push_str(literal),
                Piece::Field { keyword, case, is_filled, ordinal } => {
                    let field = field_text(keyword, *case, *is_filled, time, has_zone)?;
                    text.push_str(&field);
                    if let Some(case) = ordinal {
                        text.push_str(ordinal_of(&field, *case));
                    }
                }
            }
        }
        Ok(text)
    }

    /// Reads a time. Separators in text and template need not be the same, as in PostgreSQL.
    pub(super) fn read(&self, text: &str) -> Result<NaiveDateTime> {
        let mut reader = Reader { rest: text, found: Found::default(), pattern: self, whole: text };
        for (at, piece) in self.pieces.iter().enumerate() {
            match piece {
                Piece::Literal(literal) => reader.skip(literal),
                Piece::Field { keyword, .. } => {
                    let next_is_field = matches!(self.pieces.get(at + 1), Some(Piece::Field { .. }));
                    reader.field(keyword, next_is_field)?;
                }
            }
        }
        reader.finish()
    }
}

fn case_of(written: &str) -> Case {
    let mut letters = written.chars().filter(|c| c.is_alphabetic());
    match (letters.next(), letters.next()) {
        (Some(first), _) if first.is_lowercase() => Case::Lower,
        (_, Some(second)) if second.is_lowercase() => Case::Capital,
        _ => Case::Upper,
    }
}

fn cased(text: &str, case: Case) -> String {
    match case {
        Case::Upper => text.to_uppercase(),
        Case::Capital => text.to_owned(),
        Case::Lower => text.to_lowercase(),
    }
}

fn ordinal_of(number: &str, case: Case) -> &'static str {
    let digits = number.trim();
    let is_teen = digits.len() > 1 && digits.as_bytes().get(digits.len() - 2) == Some(&b'1');
    let word = match digits.as_bytes().last() {
        Some(b'1') if !is_teen => ["ST", "st"],
        Some(b'2') if !is_teen => ["ND", "nd"],
        Some(b'3') if !is_teen => ["RD", "rd"],
        _ => ["TH", "th"],
    };
    let [upper, lower] = word;
    if case == Case::Upper { upper } else { lower }
}

fn field_text(keyword: &str, case: Case, is_filled: bool, time: NaiveDateTime, has_zone: bool) -> Result<String> {
    let number = |value: i64, width: usize| {
        if is_filled { format!("{value:0width$}") } else { value.to_string() }
    };
    let year = i64::from(time.year());
    let iso = time.date().iso_week();
    let hour12 = match time.hour() % 12 {
        0 => 12,
        hour => hour,
    };
    let padded = |name: &str| {
        let name = cased(name, case);
        if is_filled { format!("{name:<9}") } else { name }
    };
    let month = MONTHS.get(time.month0() as usize).copied().unwrap_or_default();
    let day = DAYS.get(time.weekday().num_days_from_sunday() as usize).copied().unwrap_or_default();
    let micros = i64::from(time.nanosecond() / 1_000);
    let only_with_zone = |text: &str| if has_zone { text.to_owned() } else { String::new() };
    Ok(match keyword {
        "YYYY" => number(year, 4),
        "Y,YYY" => format!("{},{:03}", year / 1000, year % 1000),
        "YYY" => number(year % 1000, 3),
        "YY" => number(year % 100, 2),
        "Y" => number(year % 10, 1),
        "IYYY" => number(i64::from(iso.year()), 4),
        "IYY" => number(i64::from(iso.year()) % 1000, 3),
        "IY" => number(i64::from(iso.year()) % 100, 2),
        "I" => number(i64::from(iso.year()) % 10, 1),
        "CC" => number((year + 99) / 100, 2),
        "Q" => i64::from(time.month0() / 3 + 1).to_string(),
        "MM" => number(i64::from(time.month()), 2),
        "MON" => cased(month.get(..3).unwrap_or(month), case),
        "MONTH" => padded(month),
        "DD" => number(i64::from(time.day()), 2),
        "DDD" => number(i64::from(time.ordinal()), 3),
        "IDDD" => number(i64::from(iso.week0()) * 7 + i64::from(time.weekday().number_from_monday()), 3),
        "D" => i64::from(time.weekday().number_from_sunday()).to_string(),
        "ID" => i64::from(time.weekday().number_from_monday()).to_string(),
        "DY" => cased(day.get(..3).unwrap_or(day), case),
        "DAY" => padded(day),
        "W" => i64::from((time.day() - 1) / 7 + 1).to_string(),
        "WW" => number(i64::from((time.ordinal() - 1) / 7 + 1), 2),
        "IW" => number(i64::from(iso.week()), 2),
        "J" => (i64::from(time.date().num_days_from_ce()) + 1_721_425).to_string(),
        "HH24" => number(i64::from(time.hour()), 2),
        "HH" | "HH12" => number(i64::from(hour12), 2),
        "MI" => number(i64::from(time.minute()), 2),
        "SS" => number(i64::from(time.second()), 2),
        "MS" | "FF3" => format!("{:03}", micros / 1_000),
        "US" | "FF6" => format!("{micros:06}"),
        "FF1" => (micros / 100_000).to_string(),
        "FF2" => format!("{:02}", micros / 10_000),
        "FF4" => format!("{:04}", micros / 100),
        "FF5" => format!("{:05}", micros / 10),
        "SSSS" | "SSSSS" => i64::from(time.num_seconds_from_midnight()).to_string(),
        "AM" | "PM" => cased(if time.hour() < 12 { "AM" } else { "PM" }, case),
        "A.M." | "P.M." => cased(if time.hour() < 12 { "A.M." } else { "P.M." }, case),
        "TZ" => cased(&only_with_zone("UTC"), case),
        "TZH" | "OF" => only_with_zone("+00"),
        "TZM" => only_with_zone("00"),
        other => return Err(unsupported(format!("pattern {other} is not supported"), "use another pattern")),
    })
}

#[derive(Default)]
struct Found {
    year: Option<i32>,
    month: Option<u32>,
    day: Option<u32>,
    day_of_year: Option<u32>,
    hour: Option<u32>,
    is_afternoon: Option<bool>,
    is_twelve_hours: bool,
    minute: u32,
    second: u32,
    micros: u32,
    second_of_day: Option<u32>,
}

struct Reader<'a> {
    rest: &'a str,
    found: Found,
    pattern: &'a Pattern,
    whole: &'a str,
}

impl Reader<'_> {
    fn wrong(&self, wanted: &str) -> datafusion::error::DataFusionError {
        data(
            format!("\"{}\" does not fit the pattern \"{}\": {wanted}", self.whole, self.pattern.text),
            "correct the pattern, or clean the text first",
        )
    }

    fn skip(&mut self, literal: &str) {
        for wanted in literal.chars() {
            if wanted.is_whitespace() {
                self.rest = self.rest.trim_start();
                continue;
            }
            // A separator stands for any separator; a letter for any one character.
            if let Some(first) = self.rest.chars().next()
                && (first == wanted || !first.is_alphanumeric() || wanted.is_alphabetic())
            {
                self.rest = self.rest.get(first.len_utf8()..).unwrap_or_default();
            }
        }
    }

    fn number(&mut self, most_digits: usize) -> Result<u32> {
        self.rest = self.rest.trim_start();
        let digits = self.rest.bytes().take(most_digits).take_while(u8::is_ascii_digit).count();
        let (number, rest) = self.rest.split_at(digits);
        let number = number.parse().map_err(|_| self.wrong("a number is missing"))?;
        self.rest = rest;
        Ok(number)
    }

    /// Place of the word that the rest begins with.
    fn word(&mut self, words: &[&str], letters: Option<usize>) -> Result<usize> {
        self.rest = self.rest.trim_start();
        for (at, word) in words.iter().enumerate() {
            let word = letters.and_then(|count| word.get(..count)).unwrap_or(word);
            if starts_with_ignoring_case(self.rest, word) {
                self.rest = self.rest.get(word.len()..).unwrap_or_default();
                return Ok(at);
            }
        }
        Err(self.wrong("a name is missing"))
    }

    fn field(&mut self, keyword: &str, next_is_field: bool) -> Result<()> {
        // Without a separator behind it a year has as many digits as its pattern.
        let year_digits = |digits: usize| if next_is_field { digits } else { digits.max(4) };
        match keyword {
            "YYYY" => self.found.year = Some(self.number(year_digits(4))? as i32),
            "YYY" | "YY" | "Y" => {
                let short = self.number(year_digits(keyword.len()))? as i32;
                // The year nearest to 2020. Source: PostgreSQL, to_date of short years.
                self.found.year = Some(match short {
                    0..=69 => 2000 + short,
                    70..=99 => 1900 + short,
                    100..=519 => 2000 + short,
                    520..=999 => 1000 + short,
                    full => full,
                });
            }
            "MM" => self.found.month = Some(self.number(2)?),
            "MON" => self.found.month = Some(self.word(&MONTHS, Some(3))? as u32 + 1),
            "MONTH" => self.found.month = Some(self.word(&MONTHS, None)? as u32 + 1),
            "DD" => self.found.day = Some(self.number(2)?),
            "DDD" => self.found.day_of_year = Some(self.number(3)?),
            "DAY" => drop(self.word(&DAYS, None)?),
            "DY" => drop(self.word(&DAYS, Some(3))?),
            "HH24" => self.found.hour = Some(self.number(2)?),
            "HH" | "HH12" => {
                self.found.is_twelve_hours = true;
                self.found.hour = Some(self.number(2)?);
            }
            "MI" => self.found.minute = self.number(2)?,
            "SS" => self.found.second = self.number(2)?,
            "SSSS" | "SSSSS" => self.found.second_of_day = Some(self.number(5)?),
            "MS" | "FF1" | "FF2" | "FF3" => self.found.micros = self.fraction(3)? * 1_000,
            "US" | "FF4" | "FF5" | "FF6" => self.found.micros = self.fraction(6)?,
            "AM" | "PM" => self.found.is_afternoon = Some(self.word(&["AM", "PM"], None)? == 1),
            "A.M." | "P.M." => self.found.is_afternoon = Some(self.word(&["A.M.", "P.M."], None)? == 1),
            other => {
                return Err(unsupported(
                    format!("pattern {other} is not supported for reading"),
                    "cast the text instead, or take it apart with `split_part`",
                ));
            }
        }
        Ok(())
    }

    /// Digits behind the point: `.5` is half a second.
    fn fraction(&mut self, width: usize) -> Result<u32> {
        let before = self.rest.len();
        let number = self.number(width)?;
        let digits = before - self.rest.len();
        Ok(number * 10_u32.pow(width.saturating_sub(digits) as u32))
    }

    fn finish(self) -> Result<NaiveDateTime> {
        let found = &self.found;
        // PostgreSQL answers 0001-01-01 BC for nothing at all.
        let year = found.year.ok_or_else(|| self.wrong("it gives no year"))?;
        let date = match found.day_of_year {
            Some(day) => NaiveDate::from_yo_opt(year, day),
            None => NaiveDate::from_ymd_opt(year, found.month.unwrap_or(1), found.day.unwrap_or(1)),
        };
        let date = date.ok_or_else(|| self.wrong("there is no such day"))?;
        let mut hour = found.hour.unwrap_or(0);
        if found.is_twelve_hours {
            if !(1..=12).contains(&hour) {
                return Err(self.wrong("an hour of twelve is 1 to 12"));
            }
            hour %= 12;
        }
        if found.is_afternoon == Some(true) && hour < 12 {
            hour += 12;
        }
        let time = match found.second_of_day {
            Some(seconds) => NaiveTime::from_num_seconds_from_midnight_opt(seconds, found.micros * 1_000),
            None => NaiveTime::from_hms_micro_opt(hour, found.minute, found.second, found.micros),
        };
        Ok(date.and_time(time.ok_or_else(|| self.wrong("there is no such time"))?))
    }
}

/// The first day of the ISO week of a date.
pub(super) fn monday_of(date: NaiveDate) -> NaiveDate {
    let back = date.weekday().days_since(Weekday::Mon);
    date - chrono::Days::new(u64::from(back))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time() -> NaiveDateTime {
        NaiveDate::from_ymd_opt(2024, 3, 5).unwrap().and_hms_micro_opt(14, 7, 9, 123_400).unwrap()
    }

    #[test]
    fn templates_of_to_char() {
        for (pattern, wanted) in [
            ("YYYY-MM-DD HH24:MI:SS.US", "2024-03-05 14:07:09.123400"),
            ("FMMonth FMDDth, YYYY", "March 5th, 2024"),
            ("Day|DY|mon", "Tuesday  |TUE|mar"),
            ("\"week\" IW \"of\" IYYY, Q", "week 10 of 2024, 1"),
            ("HH12:MI am", "02:07 pm"),
            ("yyyymmdd", "20240305"),
        ] {
            assert_eq!(Pattern::parse(pattern).format(time(), false).unwrap(), wanted, "{pattern}");
        }
    }

    #[test]
    fn texts_are_read_by_template() {
        for (pattern, text, wanted) in [
            ("YYYY-MM-DD", "2024-03-05", "2024-03-05 00:00:00"),
            ("DD.MM.YYYY HH24:MI", "05.03.2024 14:07", "2024-03-05 14:07:00"),
            ("YYYYMMDD", "20240305", "2024-03-05 00:00:00"),
            ("DD Mon YY", "5 Mar 24", "2024-03-05 00:00:00"),
            ("HH12:MI PM, MM/DD/YYYY", "02:07 PM, 3/5/2024", "2024-03-05 14:07:00"),
        ] {
            assert_eq!(Pattern::parse(pattern).read(text).unwrap().to_string(), wanted, "{pattern}");
        }
        assert!(Pattern::parse("YYYY-MM-DD").read("2024-02-30").is_err());
    }
}
