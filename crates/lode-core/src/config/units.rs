//! Values with units and secrets: `"10s"`, `"64MiB"`, `${env:NAME}`.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Deserializer};

use super::Environment;
use crate::{ErrorKind, Problem};

/// A length of time: `250ms`, `10s`, `5m`, `2h`, `1d`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub Duration);

impl std::str::FromStr for Span {
    type Err = Problem;

    fn from_str(text: &str) -> Result<Self, Problem> {
        let (number, unit) = split_unit(text);
        let millis = match unit {
            "ms" => 1.0,
            "s" => 1e3,
            "m" | "min" => 60e3,
            "h" => 3600e3,
            "d" => 86400e3,
            _ => return Err(unit_problem(text, "a length of time", "250ms, 10s, 5m, 2h or 1d")),
        };
        let number: f64 = number.parse().map_err(|_| unit_problem(text, "a length of time", "10s"))?;
        let seconds = number * millis / 1e3;
        if !(0.0..=3.2e9).contains(&seconds) {
            return Err(unit_problem(text, "a length of time", "10s"));
        }
        Ok(Self(Duration::from_secs_f64(seconds)))
    }
}

/// An amount of bytes: `500B`, `64KiB`, `64MiB`, `2GiB`, or decimal `10MB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(pub u64);

impl std::str::FromStr for ByteSize {
    type Err = Problem;

    fn from_str(text: &str) -> Result<Self, Problem> {
        let (number, unit) = split_unit(text);
        let factor: u64 = match unit {
            "B" => 1,
            "KiB" => 1 << 10,
            "MiB" => 1 << 20,
            "GiB" => 1 << 30,
            "TiB" => 1 << 40,
            "kB" | "KB" => 1_000,
            "MB" => 1_000_000,
            "GB" => 1_000_000_000,
            "TB" => 1_000_000_000_000,
            _ => return Err(unit_problem(text, "an amount of bytes", "64MiB")),
        };
        let number: f64 = number.parse().map_err(|_| unit_problem(text, "an amount of bytes", "64MiB"))?;
        let bytes = number * factor as f64;
        if !(0.0..9e18).contains(&bytes) {
            return Err(unit_problem(text, "an amount of bytes", "64MiB"));
        }
        Ok(Self(bytes as u64))
    }
}

fn split_unit(text: &str) -> (&str, &str) {
    let text = text.trim();
    let at = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
    let (number, unit) = text.split_at(at);
    (number, unit.trim())
}

fn unit_problem(text: &str, what: &str, example: &str) -> Problem {
    Problem::new(ErrorKind::Config, format!("\"{text}\" is not {what}"))
        .fix(format!("write a number with its unit: {example}"))
}

macro_rules! deserialize_from_text {
    ($($name:ident),*) => {$(
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    )*};
}

deserialize_from_text!(Span, ByteSize);

/// A value that is never printed.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(***)")
    }
}

/// Replaces `${env:NAME}` and `${env:NAME:default}` by the variables in `env`; any other `$` stays.
/// Errors: `Config` when a variable without default is not set.
pub fn expand_env(text: &str, env: &Environment) -> Result<String, Problem> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find("${env:") {
        let (head, tail) = rest.split_at(start);
        out.push_str(head);
        let Some(end) = tail.find('}') else {
            return Err(Problem::new(ErrorKind::Config, "\"${env:\" is not closed").fix("write `${env:NAME}`"));
        };
        let inner = tail.get("${env:".len()..end).unwrap_or_default();
        let (name, default) = inner.split_once(':').map_or((inner, None), |(name, default)| (name, Some(default)));
        match (env.get(name), default) {
            (Some(value), _) => out.push_str(value),
            (None, Some(default)) => out.push_str(default),
            (None, None) => {
                return Err(Problem::new(ErrorKind::Config, format!("environment variable \"{name}\" is not set"))
                    .fix(format!("set it, or write `${{env:{name}:default}}`")));
            }
        }
        rest = tail.get(end + 1..).unwrap_or_default();
    }
    out.push_str(rest);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_read_and_bare_numbers_refused() {
        assert_eq!("1.5s".parse::<Span>().unwrap().0, Duration::from_millis(1500));
        assert_eq!("64MiB".parse::<ByteSize>().unwrap().0, 64 << 20);
        assert!("10".parse::<Span>().is_err());
        assert!("64".parse::<ByteSize>().is_err());
    }

    #[test]
    fn a_secret_is_never_printed() {
        assert_eq!(format!("{:?}", Secret::new("hunter2")), "Secret(***)");
    }

    #[test]
    fn only_env_braces_expand() {
        let env: Environment = [("ROOT".to_owned(), "/data".to_owned())].into_iter().collect();
        assert_eq!(expand_env("$ConnectionString ${env:NO_SUCH:x}", &env).unwrap(), "$ConnectionString x");
        assert_eq!(expand_env("${env:ROOT}/${env:ROOT:x}", &env).unwrap(), "/data//data");
        assert!(expand_env("${env:NO_SUCH}", &env).is_err());
    }
}
