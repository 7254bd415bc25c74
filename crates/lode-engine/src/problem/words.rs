//! Small helpers of the error sentences: places of words, SQL names of types, copies.

use std::sync::LazyLock;

use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer};
use regex::{Captures, Regex};

use lode_core::{Place, Problem};

/// A second problem with the content of the first.
pub(crate) fn copy(problem: &Problem) -> Problem {
    let mut other = Problem::new(problem.kind(), problem.what());
    for cause in problem.causes() {
        other = other.cause(cause);
    }
    for place in problem.places() {
        other = other.at(place.clone());
    }
    match problem.remedy() {
        Some(fix) => other.fix(fix),
        None => other,
    }
}

/// Where an identifier first stands in `sql`, outside of strings and comments.
pub(crate) fn place_of_word(sql: &str, origin: &str, word: &str) -> Option<Place> {
    let tokens = Tokenizer::new(&PostgreSqlDialect {}, sql).tokenize_with_location().ok()?;
    let token = tokens.iter().find(|token| match &token.token {
        Token::Word(found) if found.quote_style.is_some() => found.value == word,
        Token::Word(found) => found.value.eq_ignore_ascii_case(word),
        _ => false,
    })?;
    Some(Place::at(origin, sql, token.span.start.line, token.span.start.column))
}

static ARROW_TYPES: LazyLock<Option<Regex>> = LazyLock::new(|| {
    let names = r"\b(Utf8View|LargeUtf8|Utf8|U?Int(?:8|16|32|64)|Float(?:16|32|64)|Boolean|Date32|Date64|Null|BinaryView|LargeBinary|Binary|Time(?:32|64)\((?:[^()]*)\)|Decimal(?:32|64|128|256)\((\d+), (-?\d+)\)|Timestamp\(([^()]*(?:\([^()]*\))?)\)|Interval\([^()]*\)|Duration\([^()]*\)|FixedSizeBinary\(\d+\))";
    Regex::new(names).ok()
});

/// The text with Arrow's type names replaced by PostgreSQL's.
pub(crate) fn types_in_sql(text: &str) -> String {
    let Some(pattern) = ARROW_TYPES.as_ref() else { return text.to_owned() };
    pattern
        .replace_all(text, |found: &Captures<'_>| {
            let name = found.get(1).map_or("", |whole| whole.as_str());
            match name {
                "Utf8View" | "LargeUtf8" | "Utf8" => "text".to_owned(),
                "Int8" | "Int16" | "UInt8" => "smallint".to_owned(),
                "Int32" | "UInt16" => "integer".to_owned(),
                "Int64" | "UInt32" | "UInt64" => "bigint".to_owned(),
                "Float16" | "Float32" => "real".to_owned(),
                "Float64" => "double precision".to_owned(),
                "Boolean" => "boolean".to_owned(),
                "Date32" | "Date64" => "date".to_owned(),
                "Null" => "null".to_owned(),
                "BinaryView" | "LargeBinary" | "Binary" => "bytea".to_owned(),
                _ if name.starts_with("Time(") || name.starts_with("Time32") || name.starts_with("Time64") => {
                    "time".to_owned()
                }
                _ if name.starts_with("Decimal") => {
                    let part = |at: usize| found.get(at).map_or("", |number| number.as_str());
                    format!("numeric({},{})", part(2), part(3))
                }
                _ if name.starts_with("Timestamp") && (name.contains("None") || !name.contains(',')) => {
                    "timestamp".to_owned()
                }
                _ if name.starts_with("Timestamp") => "timestamptz".to_owned(),
                "FixedSizeBinary(16)" => "uuid".to_owned(),
                _ if name.starts_with("FixedSizeBinary") => "bytea".to_owned(),
                _ => "interval".to_owned(),
            }
        })
        .into_owned()
}
