//! The `format:` key of an ingest: a name, or a name with options.

use std::fmt;

use serde::de::{self, Deserialize, Deserializer, MapAccess, Visitor};
use serde::{Deserialize as DeriveDeserialize, Serialize};

/// How the bytes of a source are read.
#[derive(Debug, Clone, PartialEq, Serialize, Default)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    Csv(CsvOptions),
    /// One JSON object a line.
    Ndjson,
    /// One array of objects, or objects one after the other, over any number of lines.
    Json,
    Parquet,
    /// Told by content: Parquet and archives by magic, JSON by its first character, else CSV.
    #[default]
    Auto,
}

impl Format {
    const NAMES: [&'static str; 5] = ["csv", "ndjson", "json", "parquet", "auto"];

    pub fn name(&self) -> &'static str {
        match self {
            Self::Csv(_) => "csv",
            Self::Ndjson => "ndjson",
            Self::Json => "json",
            Self::Parquet => "parquet",
            Self::Auto => "auto",
        }
    }

    fn of_name(name: &str) -> Option<Self> {
        Some(match name {
            "csv" | "tsv" => Self::Csv(CsvOptions::default()),
            "ndjson" | "jsonl" => Self::Ndjson,
            "json" => Self::Json,
            "parquet" => Self::Parquet,
            "auto" => Self::Auto,
            _ => return None,
        })
    }
}

/// Options of CSV. What is not given is found out for each file.
#[derive(Debug, Clone, PartialEq, Eq, Default, DeriveDeserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct CsvOptions {
    pub delimiter: Option<char>,
    /// `null` in YAML means "find out"; an empty text is not possible here, see `quoting: false`.
    pub quote: Option<char>,
    /// `false`: quote characters are text like any other.
    pub quoting: Option<bool>,
    /// Character before a quote (or a delimiter) that makes it text. Doubled quotes always work.
    pub escape: Option<char>,
    /// Lines that start with this are skipped.
    pub comment: Option<char>,
    pub header: Option<bool>,
    /// Lines before the header, or before the first record.
    pub skip_rows: Option<u32>,
    /// Spellings of NULL in columns that are not text, in place of `NULL_SPELLINGS`. The empty field is always NULL.
    pub null_values: Option<Vec<String>>,
    /// `.` or `,`.
    pub decimal: Option<char>,
    /// A label of the WHATWG list, such as `windows-1252`, `utf-16le`, `shift_jis`.
    pub encoding: Option<String>,
    /// Further forms of declared dates and timestamps, as strftime patterns, or `epoch_s`, `epoch_ms`, `epoch_us`.
    pub date_formats: Vec<String>,
}

impl<'de> Deserialize<'de> for Format {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct FormatVisitor;
        impl<'de> Visitor<'de> for FormatVisitor {
            type Value = Format;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a format name, or a map such as `csv: {delimiter: \";\"}`")
            }

            fn visit_str<E: de::Error>(self, name: &str) -> Result<Format, E> {
                Format::of_name(name).ok_or_else(|| E::unknown_variant(name, &Format::NAMES))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Format, A::Error> {
                let Some(name) = map.next_key::<String>()? else {
                    return Err(de::Error::custom("the format has no name"));
                };
                let format = match name.as_str() {
                    "csv" => Format::Csv(map.next_value::<Option<CsvOptions>>()?.unwrap_or_default()),
                    other => {
                        let Some(format) = Format::of_name(other) else {
                            return Err(de::Error::unknown_variant(other, &Format::NAMES));
                        };
                        map.next_value::<Option<NoOptions>>()?;
                        format
                    }
                };
                match map.next_key::<String>()? {
                    None => Ok(format),
                    Some(second) => Err(de::Error::custom(format!("a source has one format, found also \"{second}\""))),
                }
            }
        }
        deserializer.deserialize_any(FormatVisitor)
    }
}

#[derive(DeriveDeserialize)]
#[serde(deny_unknown_fields)]
struct NoOptions {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_format_is_a_name_or_a_map() {
        let read = |text| lode_core::config::parse::<Format>(text, "lode.yml");
        assert_eq!(read("ndjson").unwrap(), Format::Ndjson);
        assert_eq!(read("csv").unwrap(), Format::Csv(CsvOptions::default()));
        let wanted = CsvOptions { delimiter: Some(';'), header: Some(false), ..CsvOptions::default() };
        assert_eq!(read("csv: {delimiter: \";\", header: false}").unwrap(), Format::Csv(wanted));
        assert!(read("csv: {delimeter: x}").unwrap_err().render().contains("did you mean \"delimiter\"?"));
        assert!(read("excel").is_err());
    }
}
