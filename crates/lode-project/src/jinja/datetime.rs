//! `run_started_at` and `modules.datetime`: points in time with Python's methods.

use std::fmt;
use std::sync::Arc;

use chrono::{DateTime, Datelike, NaiveDate, NaiveDateTime, Timelike, Utc};
use minijinja::value::{Kwargs, Object, ObjectRepr, Value, from_args};
use minijinja::{Error, ErrorKind, State};

/// A `datetime`, aware of UTC or naive.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct PyDateTime {
    pub(crate) time: NaiveDateTime,
    pub(crate) is_utc: bool,
    pub(crate) is_date: bool,
}

impl PyDateTime {
    pub(crate) fn utc(time: DateTime<Utc>) -> Value {
        Value::from_object(Self { time: time.naive_utc(), is_utc: true, is_date: false })
    }

    fn naive(time: NaiveDateTime) -> Value {
        Value::from_object(Self { time, is_utc: false, is_date: false })
    }

    fn iso(&self, separator: char) -> String {
        if self.is_date {
            return self.time.format("%Y-%m-%d").to_string();
        }
        let micros = self.time.nanosecond() / 1000;
        let fraction = if micros == 0 { String::new() } else { format!(".{micros:06}") };
        let zone = if self.is_utc { "+00:00" } else { "" };
        format!("{}{separator}{}{fraction}{zone}", self.time.format("%Y-%m-%d"), self.time.format("%H:%M:%S"))
    }
}

impl Object for PyDateTime {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        Some(match key.as_str()? {
            "year" => Value::from(self.time.year()),
            "month" => Value::from(self.time.month()),
            "day" => Value::from(self.time.day()),
            "hour" => Value::from(self.time.hour()),
            "minute" => Value::from(self.time.minute()),
            "second" => Value::from(self.time.second()),
            "microsecond" => Value::from(self.time.nanosecond() / 1000),
            _ => return None,
        })
    }

    fn call_method(self: &Arc<Self>, _: &mut State<'_, '_>, method: &str, args: &[Value]) -> Result<Value, Error> {
        Ok(match method {
            "strftime" => {
                let (format,): (String,) = from_args(args)?;
                // Python's `%f` is microseconds; chrono's is nanoseconds.
                Value::from(checked_format(&self.time, &format.replace("%f", "%6f"))?)
            }
            "isoformat" => Value::from(self.iso('T')),
            "date" => Value::from_object(Self {
                time: self.time.date().and_time(chrono::NaiveTime::MIN),
                is_utc: false,
                is_date: true,
            }),
            "timestamp" => Value::from(self.time.and_utc().timestamp_micros() as f64 / 1e6),
            "weekday" => Value::from(self.time.weekday().num_days_from_monday()),
            "isoweekday" => Value::from(self.time.weekday().number_from_monday()),
            "astimezone" | "replace" => {
                let is_plain = method == "astimezone" || args.is_empty();
                if !is_plain {
                    return replace(self, args);
                }
                Value::from_object(Self { is_utc: true, ..(**self).clone() })
            }
            _ => return Err(Error::from(ErrorKind::UnknownMethod)),
        })
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.iso(' '))
    }
}

/// All parts at once: the 31st becomes the 1st of a shorter month without standing on its 31st in between.
fn replace(time: &PyDateTime, args: &[Value]) -> Result<Value, Error> {
    let (kwargs,): (Kwargs,) = from_args(args)?;
    let old = time.time;
    let part = |key: &str, old: u32| Ok::<u32, Error>(kwargs.get::<Option<u32>>(key)?.unwrap_or(old));
    let year = kwargs.get::<Option<i32>>("year")?.unwrap_or(old.year());
    let date = NaiveDate::from_ymd_opt(year, part("month", old.month())?, part("day", old.day())?);
    let (hour, minute) = (part("hour", old.hour())?, part("minute", old.minute())?);
    let (second, micros) = (part("second", old.second())?, part("microsecond", old.nanosecond() / 1000)?);
    let new = date.and_then(|date| date.and_hms_micro_opt(hour, minute, second, micros));
    let out = || Error::new(ErrorKind::InvalidOperation, "replace: value is out of range");
    Ok(Value::from_object(PyDateTime { time: new.ok_or_else(out)?, ..time.clone() }))
}

fn checked_format(time: &NaiveDateTime, format: &str) -> Result<String, Error> {
    use std::fmt::Write;
    let mut out = String::new();
    write!(out, "{}", time.format(format))
        .map_err(|_| Error::new(ErrorKind::InvalidOperation, format!("strftime: \"{format}\" is not a format")))?;
    Ok(out)
}

/// `modules.datetime`: its classes by name.
#[derive(Debug)]
pub(crate) struct DateTimeModule {
    pub(crate) now: DateTime<Utc>,
}

#[derive(Debug)]
struct Class {
    name: &'static str,
    now: DateTime<Utc>,
}

impl Object for DateTimeModule {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        let name = match key.as_str()? {
            "datetime" => "datetime",
            "date" => "date",
            _ => return None,
        };
        Some(Value::from_object(Class { name, now: self.now }))
    }
}

impl Object for Class {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn call(self: &Arc<Self>, _: &mut State<'_, '_>, args: &[Value]) -> Result<Value, Error> {
        let (date, clock) = args.split_at_checked(3).unwrap_or((args, &[]));
        let (year, month, day): (i32, u32, u32) = from_args(date)?;
        let (hour, minute, second): (Option<u32>, Option<u32>, Option<u32>) = from_args(clock)?;
        let time = NaiveDate::from_ymd_opt(year, month, day)
            .and_then(|date| date.and_hms_opt(hour.unwrap_or(0), minute.unwrap_or(0), second.unwrap_or(0)));
        let time = time.ok_or_else(|| Error::new(ErrorKind::InvalidOperation, "datetime: value is out of range"))?;
        Ok(Value::from_object(PyDateTime { time, is_utc: false, is_date: self.name == "date" }))
    }

    fn call_method(self: &Arc<Self>, _: &mut State<'_, '_>, method: &str, args: &[Value]) -> Result<Value, Error> {
        match method {
            "utcnow" => Ok(PyDateTime::naive(self.now.naive_utc())),
            "now" if args.is_empty() => Ok(PyDateTime::naive(self.now.naive_utc())),
            "now" => Ok(PyDateTime::utc(self.now)),
            "today" => Ok(Value::from_object(PyDateTime {
                time: self.now.naive_utc().date().and_time(chrono::NaiveTime::MIN),
                is_utc: false,
                is_date: self.name == "date",
            })),
            "strptime" => {
                let (text, format): (String, String) = from_args(args)?;
                let format = format.replace("%f", "%6f");
                let parsed = NaiveDateTime::parse_from_str(&text, &format).ok().or_else(|| {
                    NaiveDate::parse_from_str(&text, &format).ok().map(|date| date.and_time(chrono::NaiveTime::MIN))
                });
                let fail =
                    || Error::new(ErrorKind::InvalidOperation, format!("strptime: \"{text}\" is not \"{format}\""));
                Ok(PyDateTime::naive(parsed.ok_or_else(fail)?))
            }
            "fromisoformat" => {
                let (text,): (String,) = from_args(args)?;
                let parsed = text
                    .parse::<NaiveDateTime>()
                    .ok()
                    .or_else(|| text.parse::<NaiveDate>().ok().map(|date| date.and_time(chrono::NaiveTime::MIN)));
                let fail = || Error::new(ErrorKind::InvalidOperation, format!("fromisoformat: \"{text}\" is no time"));
                Ok(PyDateTime::naive(parsed.ok_or_else(fail)?))
            }
            _ => Err(Error::from(ErrorKind::UnknownMethod)),
        }
    }
}
