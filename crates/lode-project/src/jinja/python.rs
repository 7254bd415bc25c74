//! Values as Python prints them, and the Python methods, filters and tests that dbt projects use.

use indexmap::IndexMap;
use minijinja::value::{Kwargs, Rest, Value, ValueKind, from_args};
use minijinja::{Environment, Error, ErrorKind, State};

use super::own;

/// `str(value)`.
pub(crate) fn text(value: &Value) -> String {
    match value.kind() {
        ValueKind::None => "None".into(),
        ValueKind::Undefined => String::new(),
        ValueKind::Bool => if value.is_true() { "True" } else { "False" }.into(),
        ValueKind::Number => number(value),
        ValueKind::Seq if is_printed_here(value) => repr(value),
        ValueKind::Map if is_printed_here(value) => repr(value),
        _ => value.to_string(),
    }
}

fn is_printed_here(value: &Value) -> bool {
    value.is_tuple()
        || value.downcast_object_ref::<Vec<Value>>().is_some()
        || value.downcast_object_ref::<IndexMap<Value, Value>>().is_some()
        || value.is_kwargs()
}

fn number(value: &Value) -> String {
    if value.is_integer() {
        return value.to_string();
    }
    match f64::try_from(value.clone()) {
        Ok(number) => float(number),
        Err(_) => value.to_string(),
    }
}

/// Python's `repr` of a float: 17 digits at most, exponents below 1e-4 and from 1e16.
fn float(number: f64) -> String {
    if number.is_nan() {
        return "nan".into();
    }
    if number.is_infinite() {
        return if number > 0.0 { "inf".into() } else { "-inf".into() };
    }
    let size = number.abs();
    if size != 0.0 && !(1e-4..1e16).contains(&size) {
        let text = format!("{number:e}");
        let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let (sign, digits) = exponent.strip_prefix('-').map_or(("+", exponent), |digits| ("-", digits));
        return format!("{mantissa}e{sign}{digits:0>2}");
    }
    let text = number.to_string();
    if text.contains('.') { text } else { format!("{text}.0") }
}

/// `repr(value)`: as `str`, but texts quoted.
pub(crate) fn repr(value: &Value) -> String {
    match value.kind() {
        ValueKind::String => quote(value.as_str().unwrap_or_default()),
        ValueKind::Seq => {
            let items: Vec<Value> = value.try_iter().map(Iterator::collect).unwrap_or_default();
            if value.is_tuple() {
                let inside: Vec<String> = items.iter().map(repr).collect();
                let comma = if inside.len() == 1 { "," } else { "" };
                format!("({}{comma})", inside.join(", "))
            } else {
                repr_list(&items)
            }
        }
        ValueKind::Map => match own::entries_of(value) {
            Ok(entries) => repr_dict(entries),
            Err(_) => value.to_string(),
        },
        _ => text(value),
    }
}

pub(crate) fn repr_list(items: &[Value]) -> String {
    format!("[{}]", items.iter().map(repr).collect::<Vec<_>>().join(", "))
}

pub(crate) fn repr_dict(entries: impl IntoIterator<Item = (Value, Value)>) -> String {
    let inside: Vec<String> =
        entries.into_iter().map(|(key, value)| format!("{}: {}", repr(&key), repr(&value))).collect();
    format!("{{{}}}", inside.join(", "))
}

/// Single quotes, unless the text holds them and no double ones.
pub(crate) fn quote(text: &str) -> String {
    let mark = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    let mut out = String::from(mark);
    for c in text.chars() {
        match c {
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\\' => out.push_str("\\\\"),
            c if c == mark => {
                out.push('\\');
                out.push(c);
            }
            c => out.push(c),
        }
    }
    out.push(mark);
    out
}

/// Python methods that neither minijinja nor its contrib crate has; all others go there.
pub(crate) fn unknown_method(
    state: &mut State<'_, '_>,
    value: &Value,
    method: &str,
    args: &[Value],
) -> Result<Value, Error> {
    if let Some(text) = value.as_str()
        && let Some(answer) = string_method(text, method, args)?
    {
        return Ok(answer);
    }
    if value.kind() == ValueKind::Seq {
        let items = || value.try_iter().map(Iterator::collect::<Vec<Value>>);
        match method {
            "index" => {
                let (item,): (Value,) = from_args(args)?;
                let at = items()?.iter().position(|known| *known == item);
                return at
                    .map(Value::from)
                    .ok_or_else(|| Error::new(ErrorKind::InvalidOperation, "index: not in list"));
            }
            "count" => {
                let (item,): (Value,) = from_args(args)?;
                return Ok(Value::from(items()?.iter().filter(|known| **known == item).count()));
            }
            "copy" => return Ok(own::list(items()?)),
            _ => {}
        }
    }
    if value.kind() == ValueKind::Map && matches!(method, "update" | "pop" | "copy" | "setdefault") {
        let copy = own::dict(own::entries_of(value)?);
        return copy.call_method(state, method, args);
    }
    minijinja_contrib::pycompat::unknown_method_callback(state, value, method, args)
}

fn string_method(text: &str, method: &str, args: &[Value]) -> Result<Option<Value>, Error> {
    let chars_before = |bytes: usize| text.get(..bytes).unwrap_or_default().chars().count();
    Ok(Some(match method {
        "index" | "rindex" => {
            let (part,): (String,) = from_args(args)?;
            let found = if method == "index" { text.find(&part) } else { text.rfind(&part) };
            let at = found.ok_or_else(|| Error::new(ErrorKind::InvalidOperation, "substring not found"))?;
            Value::from(chars_before(at))
        }
        "partition" | "rpartition" => {
            let (mark,): (String,) = from_args(args)?;
            let split = if method == "partition" { text.split_once(&mark) } else { text.rsplit_once(&mark) };
            let parts = match (split, method) {
                (Some((left, right)), _) => [left, &mark, right],
                (None, "partition") => [text, "", ""],
                (None, _) => ["", "", text],
            };
            own::tuple(parts.map(Value::from).to_vec())
        }
        "rsplit" => {
            let (mark, most): (Option<String>, Option<usize>) = from_args(args)?;
            let mut parts: Vec<&str> = match (&mark, most) {
                (Some(mark), Some(most)) => text.rsplitn(most + 1, mark.as_str()).collect(),
                (Some(mark), None) => text.rsplit(mark.as_str()).collect(),
                (None, _) => text.split_whitespace().rev().collect(),
            };
            parts.reverse();
            own::list(parts.into_iter().map(Value::from).collect())
        }
        "zfill" => {
            let (width,): (usize,) = from_args(args)?;
            let (sign, digits) = text.strip_prefix('-').map_or(("", text), |digits| ("-", digits));
            let zeros = width.saturating_sub(text.chars().count());
            Value::from(format!("{sign}{}{digits}", "0".repeat(zeros)))
        }
        "ljust" | "rjust" | "center" => {
            let (width, fill): (usize, Option<String>) = from_args(args)?;
            let missing = width.saturating_sub(text.chars().count());
            let fill = fill.unwrap_or_else(|| " ".to_owned());
            let left = match method {
                "ljust" => 0,
                "rjust" => missing,
                // Python puts the odd space left when the width is odd.
                _ => missing / 2 + (missing & width & 1),
            };
            Value::from(format!("{}{text}{}", fill.repeat(left), fill.repeat(missing - left)))
        }
        "swapcase" => {
            let swap = |c: char| {
                if c.is_uppercase() { c.to_lowercase().collect::<String>() } else { c.to_uppercase().collect() }
            };
            Value::from(text.chars().map(swap).collect::<String>())
        }
        "casefold" => Value::from(text.to_lowercase()),
        "removeprefix" => {
            let (part,): (String,) = from_args(args)?;
            Value::from(text.strip_prefix(part.as_str()).unwrap_or(text))
        }
        "removesuffix" => {
            let (part,): (String,) = from_args(args)?;
            Value::from(text.strip_suffix(part.as_str()).unwrap_or(text))
        }
        "isidentifier" => {
            let is_start = text.starts_with(|c: char| c.is_alphabetic() || c == '_');
            Value::from(is_start && text.chars().all(|c| c.is_alphanumeric() || c == '_'))
        }
        _ => return Ok(None),
    }))
}

/// Functions, filters and tests that differ from Jinja2 in Python.
pub(crate) fn register(env: &mut Environment<'static>) {
    env.add_function("own", own::own);
    env.add_function("dict", |args: Rest<Value>| -> Result<Value, Error> {
        let mut entries: IndexMap<Value, Value> = IndexMap::new();
        for argument in args.iter() {
            entries.extend(own::entries_of(argument)?);
        }
        Ok(own::dict(entries))
    });
    env.add_filter("pyformat", |state: &mut State<'_, '_>, format: Value, argument: Value| -> Result<Value, Error> {
        let mut args = vec![format];
        if argument.is_tuple() {
            args.extend(argument.try_iter()?);
        } else {
            args.push(argument);
        }
        state.apply_filter("format", &args)
    });
    env.add_filter("string", |value: Value| text(&value));
    env.add_filter("int", int);
    env.add_filter("as_bool", |value: Value| value);
    env.add_filter("as_native", |value: Value| value);
    env.add_filter("as_number", |value: Value| value);
    env.add_filter("as_text", |value: Value| text(&value));
    env.add_filter("list", |value: Value| -> Result<Value, Error> {
        Ok(own::list(match value.as_str() {
            Some(text) => text.chars().map(|c| Value::from(c.to_string())).collect(),
            None => value.try_iter()?.collect(),
        }))
    });
    env.add_filter("default", default);
    env.add_filter("d", default);
    env.add_filter("wordcount", |text: String| text.split_whitespace().count());
    env.add_test("defined", |value: &Value| !is_blank(value));
    env.add_test("undefined", |value: &Value| is_blank(value));
    env.add_test("callable", |value: &Value| {
        value.downcast_object_ref::<super::scope::MacroProxy>().is_some()
            || value.downcast_object_ref::<super::scope::Builtin>().is_some()
    });
    env.add_test("sequence", |value: &Value| {
        matches!(value.kind(), ValueKind::Seq | ValueKind::Map | ValueKind::String)
    });
}

fn is_blank(value: &Value) -> bool {
    value.is_undefined() || value.downcast_object_ref::<super::scope::Blank>().is_some()
}

fn int(value: Value, default: Option<Value>, kwargs: Kwargs) -> Result<Value, Error> {
    let default: Option<Value> = default.map_or_else(|| kwargs.get("default"), |value| Ok(Some(value)))?;
    let parsed = match value.as_str() {
        Some(text) => {
            let text = text.trim().replace('_', "");
            text.parse::<i64>().ok().or_else(|| text.parse::<f64>().ok().map(|number| number as i64))
        }
        None if value.kind() == ValueKind::Bool => Some(i64::from(value.is_true())),
        None => value.as_i64().or_else(|| f64::try_from(value).ok().map(|number| number as i64)),
    };
    Ok(parsed.map(Value::from).or(default).unwrap_or_else(|| Value::from(0)))
}

fn default(value: Value, other: Option<Value>, boolean: Option<bool>, kwargs: Kwargs) -> Result<Value, Error> {
    let other = other.map_or_else(|| kwargs.get::<Option<Value>>("default_value"), |value| Ok(Some(value)))?;
    let boolean = boolean.map_or_else(|| kwargs.get::<Option<bool>>("boolean"), |value| Ok(Some(value)))?;
    let is_missing = is_blank(&value) || (boolean == Some(true) && !value.is_true());
    Ok(if is_missing { other.unwrap_or_else(|| Value::from("")) } else { value })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_print_as_in_python() {
        for (number, wanted) in
            [(1e20, "1e+20"), (1e-7, "1e-07"), (1.5, "1.5"), (3.0, "3.0"), (0.1, "0.1"), (1e15, "1000000000000000.0")]
        {
            assert_eq!(float(number), wanted);
        }
    }
}
