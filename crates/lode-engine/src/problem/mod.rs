//! The planner's and executor's errors in our own sentences, with the place in the user's SQL and a remedy.

mod predicate;
mod sentences;
mod words;

use arrow::error::ArrowError;
use datafusion::common::{Diagnostic, SchemaError, Span};
use datafusion::error::DataFusionError;
use datafusion::sql::sqlparser::parser::ParserError;

use lode_core::{ErrorKind, Explain, Place, Problem, nearest};
use lode_lake::LakeError;

pub(crate) use words::{copy, place_of_word, types_in_sql};

/// What the user wrote, for places and suggestions.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Source<'a> {
    pub(crate) sql: &'a str,
    pub(crate) origin: &'a str,
    /// Names that may have been meant.
    pub(crate) tables: &'a [String],
    pub(crate) functions: &'a [String],
}

impl<'a> Source<'a> {
    pub(crate) fn new(sql: &'a str, origin: &'a str) -> Self {
        Self { sql, origin, tables: &[], functions: &[] }
    }

    pub(crate) fn at(&self, span: Option<Span>) -> Option<Place> {
        let start = span?.start;
        (start.line > 0).then(|| Place::at(self.origin, self.sql, start.line, start.column))
    }

    /// Place of an identifier that stands in the text, when the planner gave none.
    pub(crate) fn at_word(&self, word: &str) -> Option<Place> {
        place_of_word(self.sql, self.origin, word)
    }
}

/// An error without names to suggest.
pub(crate) fn explain(error: DataFusionError, sql: &str, origin: &str) -> Problem {
    explain_in(error, &Source::new(sql, origin))
}

/// An error of planning or running the statement in `source`.
pub(crate) fn explain_in(error: DataFusionError, source: &Source<'_>) -> Problem {
    let mut span = None;
    let problem = translate(&error, source, &mut span);
    if problem.places().is_empty() {
        if let Some(place) = source.at(span) {
            return problem.at(place);
        }
        if source.origin != "<sql>" {
            return problem.at(Place::of(source.origin));
        }
    }
    problem
}

/// An error while rows flow, far from any text.
pub(crate) fn running(error: DataFusionError) -> Problem {
    explain_in(error, &Source::new("", "<sql>"))
}

fn translate(error: &DataFusionError, source: &Source<'_>, span: &mut Option<Span>) -> Problem {
    match error {
        DataFusionError::Diagnostic(diagnostic, inner) => {
            let Diagnostic { span: found, .. } = diagnostic.as_ref();
            *span = span.or(*found);
            translate(inner, source, span)
        }
        DataFusionError::Context(_, inner) => translate(inner, source, span),
        DataFusionError::Shared(inner) => translate(inner, source, span),
        DataFusionError::Collection(errors) => match errors.first() {
            Some(first) => translate(first, source, span),
            None => Problem::internal("an empty list of errors"),
        },
        DataFusionError::SQL(error, _) => syntax(error, source),
        DataFusionError::SchemaError(error, _) => schema(error, source, *span),
        DataFusionError::Plan(text) => sentences::plan(text, source, *span),
        DataFusionError::NotImplemented(text) => {
            Problem::new(ErrorKind::Unsupported, format!("not supported: {}", types_in_sql(first_line(text))))
                .fix("write the statement in another way; `docs/reference/sql.md` lists what works")
        }
        DataFusionError::Execution(text) => sentences::execution(text),
        DataFusionError::ArrowError(error, _) => arrow(error),
        DataFusionError::ResourcesExhausted(text) => exhausted(text),
        DataFusionError::External(error) => external(error.as_ref(), source, span),
        DataFusionError::ObjectStore(error) => store(error),
        DataFusionError::ParquetError(error) => damaged(error),
        DataFusionError::IoError(error) => io(error),
        DataFusionError::Configuration(text) => Problem::new(ErrorKind::Config, first_line(text)),
        DataFusionError::ExecutionJoin(error) => Problem::internal("a part of the statement stopped").cause(error),
        DataFusionError::Internal(text) => Problem::internal("the statement could not be run").cause(first_line(text)),
        other => Problem::internal("the statement could not be run").cause(first_line(&other.to_string())),
    }
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default().trim_end_matches('.')
}

/// `Expected: an expression, found: FROM at Line: 1, Column: 8`, in the words of the parser crate.
fn syntax(error: &ParserError, source: &Source<'_>) -> Problem {
    let text = match error {
        ParserError::TokenizerError(text) | ParserError::ParserError(text) => text.as_str(),
        ParserError::RecursionLimitExceeded => {
            return Problem::new(ErrorKind::Unsupported, "the statement is nested too deep")
                .fix("move inner parts into `with` queries or views");
        }
    };
    let (message, place) = match text.rsplit_once(" at Line: ") {
        Some((message, place)) => (message, parse_place(place)),
        None => (text, None),
    };
    let what = match message.strip_prefix("Expected: ").and_then(|rest| rest.rsplit_once(", found: ")) {
        Some((wanted, "EOF")) => format!("syntax error: the statement ends where {wanted} is expected"),
        Some((wanted, found)) => format!("syntax error at \"{found}\": expected {wanted}"),
        None => format!("syntax error: {}", lower_first(message)),
    };
    let problem = Problem::new(ErrorKind::Syntax, what);
    let problem = match place {
        Some((line, column)) => problem.at(Place::at(source.origin, source.sql, line, column)),
        None if source.sql.is_empty() => problem,
        None => problem.at(Place::at_offset(source.origin, source.sql, source.sql.trim_end().len())),
    };
    problem.fix("correct the statement at the mark; the dialect is PostgreSQL's")
}

fn parse_place(text: &str) -> Option<(u64, u64)> {
    let (line, column) = text.split_once(", Column: ")?;
    Some((line.trim().parse().ok()?, column.trim().parse().ok()?))
}

fn lower_first(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_lowercase().chain(chars).collect())
}

fn schema(error: &SchemaError, source: &Source<'_>, span: Option<Span>) -> Problem {
    match error {
        SchemaError::FieldNotFound { field, valid_fields } => {
            let shown = match &field.relation {
                Some(relation) => format!("{}.{}", relation.table(), field.name),
                None => field.name.clone(),
            };
            let mut names: Vec<&str> = valid_fields.iter().map(|column| column.name.as_str()).collect();
            names.sort_unstable();
            names.dedup();
            let problem = Problem::new(ErrorKind::Undefined, format!("column \"{shown}\" does not exist"));
            let problem = match source.at(span).or_else(|| source.at_word(&field.name)) {
                Some(place) => problem.at(place),
                None => problem,
            };
            let other_table = valid_fields.iter().find(|column| column.name == field.name && field.relation.is_some());
            match (other_table.and_then(|column| column.relation.as_ref()), nearest(&field.name, names.iter().copied()))
            {
                (Some(relation), _) => problem.fix(format!("did you mean \"{}.{}\"?", relation.table(), field.name)),
                (None, Some(near)) if near == field.name => problem.fix("use the table's alias, not its name"),
                (None, Some(near)) if near.to_lowercase() == field.name.to_lowercase() => {
                    problem.fix(format!("write it in double quotes, with its capitals: \"{near}\""))
                }
                (None, Some(near)) => problem.fix(format!("did you mean \"{near}\"?")),
                (None, None) if names.is_empty() => problem.fix("add a `from`, or put text in single quotes"),
                (None, None) => problem.fix(format!("columns here: {}", list(&names))),
            }
        }
        SchemaError::AmbiguousReference { field } => {
            let problem =
                Problem::new(ErrorKind::Undefined, format!("column \"{}\" is in more than one table", field.name))
                    .fix(format!("write the table before it, as in \"t.{}\"", field.name));
            match source.at(span).or_else(|| source.at_word(&field.name)) {
                Some(place) => problem.at(place),
                None => problem,
            }
        }
        SchemaError::DuplicateQualifiedField { name, .. } | SchemaError::DuplicateUnqualifiedField { name } => {
            Problem::new(ErrorKind::AlreadyExists, format!("column \"{name}\" appears twice"))
                .fix("give one of them another name with `as`")
        }
    }
}

fn list(names: &[&str]) -> String {
    const SHOWN: usize = 20;
    let more = names.len().saturating_sub(SHOWN);
    let shown = names.iter().take(SHOWN).copied().collect::<Vec<_>>().join(", ");
    if more == 0 { shown } else { format!("{shown} and {more} more") }
}

pub(crate) fn arrow(error: &ArrowError) -> Problem {
    match error {
        ArrowError::DivideByZero => division_by_zero(),
        ArrowError::CastError(text) | ArrowError::ParseError(text) | ArrowError::InvalidArgumentError(text) => {
            sentences::cast(text)
        }
        ArrowError::ArithmeticOverflow(text) => {
            Problem::new(ErrorKind::Data, "a number is out of the range of its type")
                .cause(types_in_sql(first_line(text)))
                .fix("cast to a wider type first, e.g. `x::numeric(38,0)` or `x::double precision`")
        }
        ArrowError::ExternalError(error) => external(error.as_ref(), &Source::new("", "<sql>"), &mut None),
        ArrowError::IoError(_, error) => io(error),
        ArrowError::ParquetError(text) => damaged(text),
        ArrowError::MemoryError(text) => exhausted(text),
        other => sentences::execution(&other.to_string()),
    }
}

pub(crate) fn division_by_zero() -> Problem {
    Problem::new(ErrorKind::Data, "division by zero").fix("guard the divisor: `a / nullif(b, 0)`")
}

fn exhausted(text: &str) -> Problem {
    Problem::new(ErrorKind::Full, "the statement needs more memory than it may have")
        // Who holds the memory stands in further lines.
        .cause(first_line(text).split(" with top memory consumers").next().unwrap_or_default())
        // No setting raises it: `EngineOptions` takes half of what the machine has.
        .fix("read fewer rows and columns at once, or use a machine with more memory: half of it is for statements")
}

fn external(
    error: &(dyn std::error::Error + Send + Sync + 'static),
    source: &Source<'_>,
    span: &mut Option<Span>,
) -> Problem {
    if let Some(problem) = error.downcast_ref::<Problem>() {
        return copy(problem);
    }
    if let Some(error) = error.downcast_ref::<DataFusionError>() {
        return translate(error, source, span);
    }
    if let Some(error) = error.downcast_ref::<ArrowError>() {
        return arrow(error);
    }
    if let Some(error) = error.downcast_ref::<object_store::Error>() {
        return store(error);
    }
    if let Some(error) = error.downcast_ref::<std::io::Error>() {
        return io(error);
    }
    if let Some(error) = error.downcast_ref::<LakeError>() {
        let problem = Problem::new(error.kind(), error.to_string());
        let problem = error.places().into_iter().fold(problem, Problem::at);
        return match error.remedy() {
            Some(fix) => problem.fix(fix),
            None => problem,
        };
    }
    if error.downcast_ref::<parquet::errors::ParquetError>().is_some() {
        return damaged(error);
    }
    Problem::internal("the statement could not be run").cause(first_line(&error.to_string()))
}

/// What the Parquet reader says of a file, or of a filter that it computes.
fn damaged(error: impl std::fmt::Display) -> Problem {
    let text = error.to_string();
    predicate::explain(&text).unwrap_or_else(|| {
        let problem = Problem::new(ErrorKind::Corrupt, "a data file cannot be read as Parquet")
            .fix("check the disk, then restore the file from a backup or land it again");
        // The reader names the file where its end is damaged, and not where a page is.
        let file =
            text.split_whitespace().map(|word| word.trim_end_matches(':')).find(|word| word.ends_with(".parquet"));
        let problem = match file {
            Some(file) => problem.at(Place::of(file)),
            None => problem,
        };
        problem.cause(text)
    })
}

fn store(error: &object_store::Error) -> Problem {
    match error {
        object_store::Error::NotFound { path, .. } => {
            Problem::new(ErrorKind::Corrupt, format!("data file \"{path}\" is missing"))
                .at(Place::of(path))
                .fix("restore the file from a backup, or read an older version with `table_at`")
        }
        object_store::Error::PermissionDenied { path, .. } | object_store::Error::Unauthenticated { path, .. } => {
            Problem::new(ErrorKind::Denied, format!("no right to read \"{path}\""))
                .at(Place::of(path))
                .fix("give this user the right to read that folder")
        }
        other => Problem::new(ErrorKind::Unavailable, "could not read from the lake")
            .cause(other)
            .fix("check that the storage can be reached, then run the statement again"),
    }
}

fn io(error: &std::io::Error) -> Problem {
    let (kind, fix) = match error.kind() {
        std::io::ErrorKind::StorageFull => (ErrorKind::Full, "free some space on that disk, then run it again"),
        std::io::ErrorKind::PermissionDenied => (ErrorKind::Denied, "give this user the right to use that folder"),
        _ => (ErrorKind::Unavailable, "check the disk, then run the statement again"),
    };
    Problem::new(kind, "could not read or write a file").cause(error).fix(fix)
}

#[cfg(test)]
mod tests;
