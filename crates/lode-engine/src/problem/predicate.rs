//! Errors of filters that a Parquet scan computes: the reader hands them on as text only, in the form of Rust's `Debug`.

use arrow::error::ArrowError;

use lode_core::{ErrorKind, Problem};

use super::{arrow, division_by_zero, sentences};

/// The error of a filter, from what the Parquet reader says; `None` if it speaks of something else.
pub(super) fn explain(message: &str) -> Option<Problem> {
    let (_, error) = message.split_once("Error evaluating filter predicate: ")?;
    if error.starts_with("ArrowError(DivideByZero") {
        return Some(division_by_zero());
    }
    if error.starts_with("External(Problem ") {
        let after = |key: &str| error.split_once(key).and_then(|(_, rest)| quoted(rest));
        let problem = Problem::new(ErrorKind::Data, after(" what: ")?);
        return Some(match after(" fix: Some(") {
            Some(fix) => problem.fix(fix),
            None => problem,
        });
    }
    let (_, rest) = error.split_once('"')?;
    let text = quoted(&format!("\"{rest}"))?;
    Some(if error.starts_with("ArrowError(ArithmeticOverflow(") {
        arrow(&ArrowError::ArithmeticOverflow(text))
    } else if error.starts_with("ArrowError(CastError(") || error.starts_with("ArrowError(ParseError(") {
        arrow(&ArrowError::CastError(text))
    } else {
        sentences::execution(&text)
    })
}

/// The text literal that `text` starts with.
fn quoted(text: &str) -> Option<String> {
    let mut chars = text.strip_prefix('"')?.chars();
    let mut found = String::new();
    loop {
        match chars.next()? {
            '"' => return Some(found),
            '\\' => match chars.next()? {
                'n' => found.push('\n'),
                't' => found.push('\t'),
                other => found.push(other),
            },
            other => found.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_of_a_filter_is_no_damaged_file() {
        let said = |error: &str| {
            explain(&format!("External: Compute error: Error evaluating filter predicate: {error}")).unwrap().render()
        };
        assert!(said("ArrowError(DivideByZero, Some(\"\"))").starts_with("error: division by zero\n"));
        let ours = "External(Problem { inner: Inner { kind: Data, what: \"\\\"x1\\\" is no timestamp\", causes: [], places: [], fix: Some(\"write it so\") } })";
        assert_eq!(said(ours), "error: \"x1\" is no timestamp\n  fix:   write it so");
        let overflow = "ArrowError(ArithmeticOverflow(\"Overflow happened on: 2 + 9\"), Some(\"\"))";
        assert!(said(overflow).starts_with("error: a number is out of the range of its type"));
        assert!(explain("EOF: file size of 3 is less than footer").is_none());
    }
}
