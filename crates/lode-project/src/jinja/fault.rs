//! From minijinja's errors to ours: which file, which line, what to do.

use std::error::Error as _;
use std::fmt;

use minijinja::value::Value;
use minijinja::{Error, ErrorKind as JinjaKind};
use parking_lot::Mutex;

use lode_core::{ErrorKind, Place, Problem, nearest};

use super::engine::Engine;
use crate::config::yaml::Origin;
use crate::error::ProjectError;

/// The value of `return(…)` on its way to the macro's caller.
pub(crate) struct Return(Mutex<Option<Value>>);

impl fmt::Debug for Return {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Return")
    }
}

impl fmt::Display for Return {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("return() outside of a macro")
    }
}

impl std::error::Error for Return {}

pub(crate) fn return_error(value: Value) -> Error {
    Error::new(JinjaKind::InvalidOperation, "return() was called outside of a macro")
        .with_source(Return(Mutex::new(Some(value))))
}

/// The value, if the error is a `return`.
pub(crate) fn returned(error: &Error) -> Option<Value> {
    let mut source = error.source();
    while let Some(cause) = source {
        if let Some(found) = cause.downcast_ref::<Return>() {
            return found.0.lock().take();
        }
        source = cause.source();
    }
    None
}

/// An error of ours inside a template.
pub(crate) fn carry(problem: impl Into<Problem>) -> Error {
    let problem = problem.into();
    Error::new(JinjaKind::InvalidOperation, problem.to_string()).with_source(problem)
}

/// Our error for what minijinja reports, with the places from the innermost outwards.
pub(crate) fn explain(error: &Error, engine: &Engine, origin: &Origin) -> ProjectError {
    let mut chain: Vec<&Error> = vec![error];
    let mut carried: Option<&Problem> = None;
    let mut source = error.source();
    while let Some(cause) = source {
        if let Some(inner) = cause.downcast_ref::<Error>() {
            chain.push(inner);
        }
        carried = carried.or_else(|| cause.downcast_ref::<Problem>());
        source = cause.source();
    }
    let mut places: Vec<Place> = Vec::new();
    for inner in chain.iter().rev() {
        if let Some(place) = place(inner, engine, origin)
            && places.last() != Some(&place)
        {
            places.push(place);
        }
    }
    let root = chain.last().copied().unwrap_or(error);
    if let Some(problem) = carried {
        places.extend(problem.places().iter().cloned());
        return ProjectError::Jinja {
            message: problem.to_string(),
            kind: problem.kind(),
            places,
            fix: problem.remedy().map(str::to_owned),
        };
    }
    let (kind, message, fix) = describe(root, engine);
    ProjectError::Jinja { message, kind, places, fix }
}

fn place(error: &Error, engine: &Engine, origin: &Origin) -> Option<Place> {
    let name = error.name()?;
    let source = engine.template(name);
    let (shown, text) = match source {
        Some(source) => (source.origin.path.to_string(), source.origin.text.clone()),
        None => (origin.path.to_string(), origin.text.clone()),
    };
    match (error.range(), source) {
        (Some(range), Some(source)) => Some(Place::at_offset(shown, &text, source.rewritten.original(range.start))),
        (Some(range), None) => Some(Place::at_offset(shown, &text, range.start)),
        _ => {
            let line = error.line()? as u64;
            let mut place = Place::at(shown, &text, line, 1);
            place.column = None;
            Some(place)
        }
    }
}

fn describe(error: &Error, engine: &Engine) -> (ErrorKind, String, Option<String>) {
    let detail = error.detail().unwrap_or_default().to_owned();
    let message = if detail.is_empty() { error.kind().to_string() } else { detail.clone() };
    match error.kind() {
        JinjaKind::SyntaxError | JinjaKind::BadEscape => {
            (ErrorKind::Syntax, format!("Jinja: {message}"), Some("correct the template".into()))
        }
        JinjaKind::UnknownFunction => {
            let name = detail.split(' ').next().unwrap_or_default().trim_matches('`').to_owned();
            let names = engine.all_macros().map(|known| known.name.as_str());
            let fix = match nearest(&name, names) {
                Some(near) => format!("did you mean \"{near}\"?"),
                None => "define the macro in `macros/`, or install its package".into(),
            };
            (ErrorKind::Undefined, format!("macro \"{name}\" does not exist"), Some(fix))
        }
        JinjaKind::UnknownFilter | JinjaKind::UnknownTest | JinjaKind::UnknownMethod => {
            (ErrorKind::Undefined, format!("Jinja: {message}"), Some("check its name".into()))
        }
        JinjaKind::UndefinedError => {
            (ErrorKind::Undefined, format!("Jinja: {message}"), Some("check the name, or give it a default".into()))
        }
        JinjaKind::TooManyArguments | JinjaKind::MissingArgument => (
            ErrorKind::Syntax,
            format!("Jinja: {}: {message}", error.kind()),
            Some("check the arguments of the call".into()),
        ),
        _ => (ErrorKind::Data, format!("Jinja: {message}"), None),
    }
}
