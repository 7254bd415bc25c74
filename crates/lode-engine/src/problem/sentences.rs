//! Sentences for messages that arrive as text: planning, running, casting.

use std::sync::LazyLock;

use datafusion::common::Span;
use regex::Regex;

use lode_core::{ErrorKind, Problem, nearest};

use super::{Source, first_line, types_in_sql};

static FUNCTION_ARGUMENTS: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r"(?:argument types|No function matches) '(?<name>\w+)\((?<types>.*)\)'").ok());
static OPERATION: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(
        r"(?:comparison operation|boolean operation|regex operation|argument type for operation|string concat operation|arithmetic expression|arithmetic operation|temporal operation|decimal operation|bitwise operation) (?<left>.+?) (?<op>[-+*/%=<>!~|&^#]+|AND|OR|LIKE|ILIKE|NOT LIKE|IS DISTINCT FROM|IS NOT DISTINCT FROM) (?<right>.+?)(?: to valid types)?(?:: .*)?$",
    )
    .ok()
});
static CAST: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r"Cannot cast (?:string|value) '(?<value>(?s:.*))' to value of (?<type>.+) type").ok());

/// What the planner refuses, by its message.
pub(super) fn plan(text: &str, source: &Source<'_>, span: Option<Span>) -> Problem {
    let text = text.trim_start_matches("Error during planning: ");
    let place = |problem: Problem, word: Option<&str>| match source
        .at(span)
        .or_else(|| word.and_then(|word| source.at_word(word)))
    {
        Some(place) => problem.at(place),
        None => problem,
    };
    if let Some(name) = between(text, "table '", "' not found") {
        return place(unknown_table(name, source), Some(name.rsplit('.').next().unwrap_or(name)));
    }
    if let Some(name) = between(text, "Invalid function '", "'") {
        let problem = Problem::new(ErrorKind::Undefined, format!("function {name}() does not exist"));
        let problem = match nearest(name, source.functions.iter().map(String::as_str)) {
            Some(near) => problem.fix(format!("did you mean {near}()?")),
            None => problem.fix("`docs/reference/functions.md` lists the functions"),
        };
        return place(problem, Some(name));
    }
    if let Some(name) = between(text, "Table function '", "' not found") {
        let problem = Problem::new(ErrorKind::Undefined, format!("table function {name}() does not exist"))
            .fix("known ones: generate_series, table_at, table_history, table_files, unnest");
        return place(problem, Some(name));
    }
    if let Some(found) = FUNCTION_ARGUMENTS.as_ref().and_then(|pattern| pattern.captures(text)) {
        let (name, types) = (&found["name"], types_in_sql(&found["types"]));
        let problem = Problem::new(ErrorKind::TypeMismatch, format!("there is no {name}({types})"));
        return place(problem.fix("cast the arguments, e.g. `x::double precision` or `x::text`"), Some(name));
    }
    if let Some(found) = text.lines().next().and_then(|line| OPERATION.as_ref()?.captures(line)) {
        let (left, right) = (types_in_sql(&found["left"]), types_in_sql(&found["right"]));
        let (op, fix) = (&found["op"], cast_advice(&left, &right));
        return place(Problem::new(ErrorKind::TypeMismatch, format!("there is no {left} {op} {right}")).fix(fix), None);
    }
    place(plan_by_phrase(text), None)
}

fn plan_by_phrase(text: &str) -> Problem {
    let line = types_in_sql(first_line(text));
    if text.contains("must appear in the GROUP BY clause") || text.contains("must be in GROUP BY") {
        let column = text.split('"').nth(1).unwrap_or("a column");
        return Problem::new(ErrorKind::Undefined, format!("\"{column}\" is neither grouped nor aggregated"))
            .fix(format!("add it to `group by`, or aggregate it: `max({column})`"));
    }
    if text.contains("different number of") || text.contains("must have the same number of columns") {
        return Problem::new(ErrorKind::TypeMismatch, "both sides of `union` need the same number of columns")
            .fix("add the missing columns, e.g. `null as x`");
    }
    if text.contains("Incompatible inputs for Union") {
        return Problem::new(ErrorKind::TypeMismatch, "a column of the `union` has different types on its two sides")
            .cause(line)
            .fix("cast one side to the type of the other");
    }
    if text.contains("isn't a common type") || text.contains("Failed to coerce") || text.contains("compatible types") {
        return Problem::new(ErrorKind::TypeMismatch, "these types have none in common")
            .cause(line)
            .fix("cast one to the type of the other, e.g. `x::text`");
    }
    if text.contains("must be boolean type") || text.contains("non-boolean predicate") {
        return Problem::new(ErrorKind::TypeMismatch, "a condition must be true or false")
            .cause(line)
            .fix("compare the value with something, e.g. `x > 0`");
    }
    if text.contains("Aggregate") && text.contains("WHERE") {
        return Problem::new(ErrorKind::Syntax, "an aggregate cannot stand in `where`").fix("use `having`");
    }
    if text.contains("Projections require unique expression names") {
        return Problem::new(ErrorKind::AlreadyExists, "two columns of the result have the same name")
            .cause(between(text, "the expression \"", "\" at position").unwrap_or_default())
            .fix("name one of them with `as`");
    }
    if text.contains("Unsupported") || text.contains("not supported") || text.contains("not implemented") {
        return Problem::new(ErrorKind::Unsupported, format!("not supported: {line}"))
            .fix("write the statement in another way; `docs/reference/sql.md` lists what works");
    }
    Problem::new(ErrorKind::Syntax, "the statement cannot be planned")
        .cause(line)
        .fix("correct that part; `docs/reference/sql.md` shows the form of each statement")
}

fn unknown_table(name: &str, source: &Source<'_>) -> Problem {
    let short = name.strip_prefix("lode.").unwrap_or(name);
    let table = short.rsplit('.').next().unwrap_or(short);
    let problem = Problem::new(ErrorKind::NotFound, format!("table \"{short}\" does not exist"));
    let same_name = source.tables.iter().find(|known| known.rsplit('.').next() == Some(table));
    let near = same_name.map(String::as_str).or_else(|| nearest(short, source.tables.iter().map(String::as_str)));
    match near {
        Some(near) => problem.fix(format!("did you mean \"{near}\"?")),
        None => problem.fix("`show tables` lists what there is"),
    }
}

fn cast_advice(left: &str, right: &str) -> String {
    match (left == "text", right == "text") {
        (true, false) => format!("cast the text: `x::{right}`"),
        (false, true) => format!("cast the text: `x::{left}`"),
        _ => format!("cast one side to the type of the other, e.g. `x::{right}`"),
    }
}

/// What goes wrong while rows flow.
pub(super) fn execution(text: &str) -> Problem {
    let text = text.trim_start_matches("Execution error: ").trim_start_matches("Arrow error: ");
    let lower = text.to_lowercase();
    if lower.contains("divide by zero") || lower.contains("division by zero") {
        return super::division_by_zero();
    }
    if text.contains("Cannot cast") {
        return cast(text);
    }
    if lower.contains("overflow") {
        return Problem::new(ErrorKind::Data, "a number is out of the range of its type")
            .cause(types_in_sql(first_line(text)))
            .fix("cast to a wider type first, e.g. `x::numeric(38,0)` or `x::double precision`");
    }
    Problem::new(ErrorKind::Data, types_in_sql(first_line(text))).fix("correct the rows or the expression")
}

/// A value that does not become the wanted type.
pub(super) fn cast(text: &str) -> Problem {
    if let Some(found) = CAST.as_ref().and_then(|pattern| pattern.captures(text)) {
        let value: String = found["value"].chars().take(80).collect();
        let wanted = types_in_sql(&found["type"]);
        return Problem::new(ErrorKind::Data, format!("\"{value}\" is no {wanted}"))
            .fix(format!("clean the value first, or use `try_cast(x as {wanted})`, which gives NULL instead"));
    }
    if text.to_lowercase().contains("divide by zero") {
        return super::division_by_zero();
    }
    let what = types_in_sql(first_line(text));
    Problem::new(ErrorKind::Data, "a value does not fit its type").cause(what).fix("cast to a wider type, or clean it")
}

pub(super) fn between<'a>(text: &'a str, start: &str, end: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(start)?;
    rest.split_once(end).map(|(inner, _)| inner)
}
