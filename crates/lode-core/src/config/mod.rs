//! Reading configuration: YAML into `#[serde(deny_unknown_fields)]` structs, with place and remedy for each mistake.

mod environment;
mod units;

use std::path::Path;

use serde::de::DeserializeOwned;
pub use serde_saphyr::{Location, Spanned};

pub use environment::Environment;
pub use units::{ByteSize, Secret, Span, expand_env};

use crate::{ErrorKind, Place, Problem, nearest};

/// Reads a YAML file. Errors: `NotFound`, `Denied`, `Config` with line and column.
pub fn read<T: DeserializeOwned>(path: &Path, shown_as: &str) -> Result<T, Problem> {
    parse(&read_text(path, shown_as)?, shown_as)
}

/// Reads a text file of at most 16 MiB.
pub fn read_text(path: &Path, shown_as: &str) -> Result<String, Problem> {
    const LIMIT_BYTES: u64 = 16 << 20;
    let fail = |error: std::io::Error| {
        let (kind, fix) = match error.kind() {
            std::io::ErrorKind::NotFound => (ErrorKind::NotFound, "check the path"),
            std::io::ErrorKind::PermissionDenied => (ErrorKind::Denied, "give this user the right to read it"),
            std::io::ErrorKind::InvalidData => (ErrorKind::Config, "save the file as UTF-8"),
            _ => (ErrorKind::Unavailable, "check that the file can be read"),
        };
        Problem::new(kind, format!("could not read \"{shown_as}\"")).cause(error).at(Place::of(shown_as)).fix(fix)
    };
    let size_bytes = std::fs::metadata(path).map_err(fail)?.len();
    if size_bytes > LIMIT_BYTES {
        return Err(Problem::new(
            ErrorKind::Config,
            format!("\"{shown_as}\" is {size_bytes} bytes, above the 16 MiB limit"),
        )
        .at(Place::of(shown_as))
        .fix("split the file"));
    }
    std::fs::read_to_string(path).map_err(fail)
}

/// Parses YAML text. An empty text reads as an empty map.
pub fn parse<T: DeserializeOwned>(text: &str, shown_as: &str) -> Result<T, Problem> {
    let is_blank = text.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#'));
    let source = if is_blank { "{}" } else { text };
    let options = serde_saphyr::options! { with_snippet: false };
    serde_saphyr::from_str_with_options(source, options).map_err(|error| explain(&error, text, shown_as))
}

/// The place of a spanned value, with its source line when `text` is given.
pub fn place<T>(spanned: &Spanned<T>, text: &str, shown_as: &str) -> Place {
    Place::at(shown_as, text, spanned.referenced.line(), spanned.referenced.column())
}

fn explain(error: &serde_saphyr::Error, text: &str, shown_as: &str) -> Problem {
    use serde_saphyr::Error;
    let place = error
        .location()
        .map_or_else(|| Place::of(shown_as), |location| Place::at(shown_as, text, location.line(), location.column()));
    match error {
        Error::SerdeUnknownField { field, expected, .. } => {
            let fix = match nearest(field, expected.iter().copied()) {
                Some(near) => format!("did you mean \"{near}\"?"),
                None => format!("known keys here: {}", expected.join(", ")),
            };
            Problem::new(ErrorKind::Config, format!("unknown key \"{field}\"")).at(place).fix(fix)
        }
        Error::SerdeMissingField { field, .. } => {
            Problem::new(ErrorKind::Config, format!("key \"{field}\" is missing"))
                .at(place)
                .fix(format!("add `{field}:`"))
        }
        other => {
            let message = other.to_string();
            // The location stands in `where` already.
            let message = message.split(" at line ").next().unwrap_or(&message).trim_end_matches([':', ' ']).to_owned();
            if message.starts_with("cannot deserialize null into string") {
                return nothing_for_text(place);
            }
            Problem::new(ErrorKind::Config, message).at(place).fix("correct the value; see `docs/reference/config.md`")
        }
    }
}

/// `{v: numeric(5,2)}` has the keys `v` and `2)` and nothing behind the second.
fn nothing_for_text(place: Place) -> Problem {
    let before = |line: &str| line.chars().take(place.column.unwrap_or(1) as usize).collect::<String>();
    let is_cut = place.source_line.as_deref().is_some_and(|line| {
        let before = before(line);
        let head = before.rsplit_once(',').map_or("", |(head, _)| head);
        let open = head.rsplit_once('(').filter(|(_, digits)| digits.trim().parse::<u8>().is_ok());
        open.is_some_and(|(name, _)| ["numeric", "decimal"].iter().any(|wanted| name.to_lowercase().ends_with(wanted)))
    });
    let fix = match is_cut {
        true => "a comma within `{…}` ends a value: put the type in quotes, as in `{v: \"numeric(5,2)\"}`",
        false => "write a value, or \"\" for an empty text",
    };
    Problem::new(ErrorKind::Config, "a value is missing").at(place).fix(fix)
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Source {
        #[expect(dead_code)]
        brokers: Option<String>,
    }

    #[test]
    fn an_unknown_key_shows_place_and_remedy() {
        let problem = parse::<Source>("# c\nbroker: x\n", "lode.yml").unwrap_err();
        assert_eq!(problem.what(), "unknown key \"broker\"");
        assert_eq!(problem.remedy(), Some("did you mean \"brokers\"?"));
        assert_eq!(problem.places()[0].to_string(), "lode.yml:2:1");
    }

    #[test]
    fn an_empty_file_is_an_empty_map() {
        assert!(parse::<Source>("# nothing\n", "lode.yml").is_ok());
    }
}
