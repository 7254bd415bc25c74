//! What, where, how to fix: the one form in which errors reach a user.

use std::error::Error;
use std::fmt;

use serde::{Deserialize, Serialize};

/// What sort of failure it is. One table maps it to every protocol's code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorKind {
    /// Wrong command line.
    Usage,
    /// Wrong project or configuration file.
    Config,
    /// SQL or Jinja that does not parse.
    Syntax,
    /// Unknown column or function.
    Undefined,
    /// Unknown table, file or object.
    NotFound,
    AlreadyExists,
    TypeMismatch,
    /// A value that its type or a constraint refuses.
    Data,
    /// A test, expectation or contract that did not hold.
    Contract,
    /// Someone else changed it first.
    Conflict,
    Denied,
    /// An outside system, or a lock, that may answer later.
    Unavailable,
    /// No space left.
    Full,
    /// Stored bytes that are not what they must be.
    Corrupt,
    Unsupported,
    /// A pipeline that waits for a decision.
    Blocked,
    Interrupted,
    /// A bug in Lode.
    Internal,
}

impl ErrorKind {
    /// Process exit code, HTTP status, SQLSTATE, gRPC code.
    pub const fn codes(self) -> (u8, u16, &'static str, u8) {
        match self {
            Self::Usage => (2, 400, "22023", 3),
            Self::Config => (2, 400, "F0000", 3),
            Self::Syntax => (1, 400, "42601", 3),
            Self::Undefined => (1, 400, "42703", 3),
            Self::NotFound => (1, 404, "42P01", 5),
            Self::AlreadyExists => (1, 409, "42P07", 6),
            Self::TypeMismatch => (1, 400, "42804", 3),
            Self::Data => (1, 422, "22000", 9),
            Self::Contract => (1, 422, "23514", 9),
            Self::Conflict => (1, 409, "40001", 10),
            Self::Denied => (3, 403, "42501", 7),
            Self::Unavailable => (3, 503, "57P03", 14),
            Self::Full => (3, 507, "53100", 8),
            Self::Corrupt => (1, 500, "XX001", 15),
            Self::Unsupported => (1, 501, "0A000", 12),
            Self::Blocked => (1, 409, "55000", 9),
            Self::Interrupted => (130, 499, "57014", 1),
            Self::Internal => (70, 500, "XX000", 13),
        }
    }

    pub const fn exit_code(self) -> u8 {
        self.codes().0
    }

    pub const fn sqlstate(self) -> &'static str {
        self.codes().2
    }
}

/// Where in the user's input a problem lies. Lines and columns count from 1.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// File, table, or `<sql>` for a statement from the command line.
    pub origin: String,
    pub line: Option<u64>,
    pub column: Option<u64>,
    /// The source line itself, shown with a caret under `column`.
    pub source_line: Option<String>,
}

impl Place {
    pub fn of(origin: impl Into<String>) -> Self {
        Self { origin: origin.into(), line: None, column: None, source_line: None }
    }

    pub fn line(mut self, line: u64) -> Self {
        self.line = Some(line);
        self
    }

    pub fn column(mut self, column: u64) -> Self {
        self.column = Some(column);
        self
    }

    /// Place of a byte offset in `text`, with its source line.
    pub fn at_offset(origin: impl Into<String>, text: &str, offset: usize) -> Self {
        let mut offset = offset.min(text.len());
        while !text.is_char_boundary(offset) {
            offset -= 1;
        }
        let before = text.get(..offset).unwrap_or_default();
        let line = before.matches('\n').count() as u64 + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() as u64 + 1;
        Self::at(origin, text, line, column)
    }

    /// Place of a line and column in `text`, with its source line.
    pub fn at(origin: impl Into<String>, text: &str, line: u64, column: u64) -> Self {
        let source_line = text.lines().nth(line.saturating_sub(1) as usize).map(str::to_owned);
        Self { origin: origin.into(), line: Some(line), column: Some(column), source_line }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.origin)?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
            if let Some(column) = self.column {
                write!(f, ":{column}")?;
            }
        }
        Ok(())
    }
}

/// What every crate's error enum tells about itself, so that it can become a `Problem`.
pub trait Explain: Error + Send + Sync + 'static {
    fn kind(&self) -> ErrorKind;

    fn places(&self) -> Vec<Place> {
        Vec::new()
    }

    fn remedy(&self) -> Option<String> {
        None
    }
}

/// An error as it crosses crates and reaches a user: kind, what, where, how to fix.
#[derive(Debug)]
pub struct Problem {
    inner: Box<Inner>,
}

#[derive(Debug)]
struct Inner {
    kind: ErrorKind,
    what: String,
    causes: Vec<String>,
    places: Vec<Place>,
    fix: Option<String>,
}

impl Problem {
    pub fn new(kind: ErrorKind, what: impl Into<String>) -> Self {
        Self { inner: Box::new(Inner { kind, what: what.into(), causes: Vec::new(), places: Vec::new(), fix: None }) }
    }

    /// A broken promise of our own code.
    pub fn internal(what: impl Into<String>) -> Self {
        Self::new(ErrorKind::Internal, what).fix("this is a bug in Lode: please report it with the log")
    }

    /// The same with another name for a file that it speaks of: a copy stands for its original.
    pub fn renaming(mut self, from: &str, to: &str) -> Self {
        let inner = &mut *self.inner;
        let files = inner.places.iter_mut().map(|place| &mut place.origin);
        for text in [&mut inner.what].into_iter().chain(&mut inner.causes).chain(&mut inner.fix).chain(files) {
            if text.contains(from) {
                *text = text.replace(from, to);
            }
        }
        self
    }

    pub fn at(mut self, place: Place) -> Self {
        self.inner.places.push(place);
        self
    }

    pub fn fix(mut self, fix: impl Into<String>) -> Self {
        self.inner.fix = Some(fix.into());
        self
    }

    pub fn cause(mut self, cause: impl fmt::Display) -> Self {
        self.inner.causes.push(cause.to_string());
        self
    }

    /// Puts what was attempted in front; the old headline becomes the first cause.
    pub fn context(mut self, what: impl Into<String>) -> Self {
        let old = std::mem::replace(&mut self.inner.what, what.into());
        self.inner.causes.insert(0, old);
        self
    }

    pub fn kind(&self) -> ErrorKind {
        self.inner.kind
    }

    pub fn what(&self) -> &str {
        &self.inner.what
    }

    pub fn causes(&self) -> &[String] {
        &self.inner.causes
    }

    pub fn places(&self) -> &[Place] {
        &self.inner.places
    }

    pub fn remedy(&self) -> Option<&str> {
        self.inner.fix.as_deref()
    }

    /// The form of an error on a terminal; ends without a newline.
    pub fn render(&self) -> String {
        self.render_as("error")
    }

    /// The same, called by another word: `warning`.
    pub fn render_as(&self, word: &str) -> String {
        let Inner { what, causes, places, fix, .. } = &*self.inner;
        let mut text = format!("{word}: {what}");
        for cause in causes {
            text.push_str(": ");
            text.push_str(cause);
        }
        for (at, place) in places.iter().enumerate() {
            text.push_str(if at == 0 { "\n  where: " } else { "\n         " });
            text.push_str(&place.to_string());
            if let (Some(line), Some(source)) = (place.line, &place.source_line) {
                let gutter = line.to_string();
                let pad = " ".repeat(gutter.len());
                text.push_str(&format!("\n   {gutter} | {source}"));
                if let Some(column) = place.column {
                    let indent: String = source
                        .chars()
                        .take(column.saturating_sub(1) as usize)
                        .map(|c| if c == '\t' { '\t' } else { ' ' })
                        .collect();
                    text.push_str(&format!("\n   {pad} | {indent}^"));
                }
            }
        }
        if let Some(fix) = fix {
            text.push_str("\n  fix:   ");
            text.push_str(fix);
        }
        text
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.inner.what)?;
        for cause in &self.inner.causes {
            write!(f, ": {cause}")?;
        }
        Ok(())
    }
}

impl Error for Problem {}

impl<E: Explain> From<E> for Problem {
    fn from(error: E) -> Self {
        let mut causes = Vec::new();
        let mut source = error.source();
        while let Some(cause) = source {
            let text = cause.to_string();
            // Some libraries repeat their source in their own message.
            if !causes.last().is_some_and(|last: &String| last.ends_with(&text)) {
                causes.push(text);
            }
            source = cause.source();
        }
        Self {
            inner: Box::new(Inner {
                kind: error.kind(),
                what: error.to_string(),
                causes,
                places: error.places(),
                fix: error.remedy(),
            }),
        }
    }
}

/// The candidate nearest to a mistyped word, if one is near enough to suggest.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    candidates
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(&word.to_lowercase(), &candidate.to_lowercase()), candidate))
        .filter(|(distance, candidate)| *distance <= 1 + candidate.chars().count().max(word.chars().count()) / 4)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_shows_what_where_and_fix() {
        let problem = Problem::new(ErrorKind::Undefined, "column \"spead\" does not exist")
            .at(Place::at_offset("<sql>", "select spead\nfrom t", 7))
            .fix("did you mean \"speed\"?");
        let wanted = "error: column \"spead\" does not exist\n  where: <sql>:1:8\n   1 | select spead\n     |        ^\n  fix:   did you mean \"speed\"?";
        assert_eq!(problem.render(), wanted);
    }

    #[test]
    fn nearest_suggests_only_what_is_near() {
        assert_eq!(nearest("broker", ["topic", "brokers"]), Some("brokers"));
        assert_eq!(nearest("xyz", ["topic", "brokers"]), None);
    }
}
