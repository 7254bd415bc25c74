//! YAML 1.1 as PyYAML reads it, with the place of every value.
//!
//! `yes/no/on/off` are booleans, `012` is octal, `1e5` is text, `<<` merges, the last duplicate key wins.

use std::collections::HashMap;
use std::sync::Arc;

use granit_parser::{Event, Parser, ScalarStyle, Span};
use serde_json::Value as Json;

use lode_core::Place;

use crate::error::ProjectError;

/// A value and where it starts.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Yaml {
    pub(crate) kind: Kind,
    pub(crate) line: u32,
    pub(crate) column: u32,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Kind {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
    List(Vec<Yaml>),
    /// In order, keys unique.
    Map(Vec<(Key, Yaml)>),
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Key {
    pub(crate) text: String,
    pub(crate) line: u32,
    pub(crate) column: u32,
}

/// A file's name and text, for places.
#[derive(Debug, Clone)]
pub(crate) struct Origin {
    pub(crate) path: Arc<str>,
    pub(crate) text: Arc<str>,
}

impl Origin {
    pub(crate) fn new(path: impl Into<Arc<str>>, text: impl Into<Arc<str>>) -> Self {
        Self { path: path.into(), text: text.into() }
    }

    pub(crate) fn place(&self, line: u32, column: u32) -> Place {
        Place::at(self.path.to_string(), &self.text, line.into(), column.into())
    }
}

impl Yaml {
    pub(crate) fn get(&self, key: &str) -> Option<&Yaml> {
        self.entries().iter().rev().find(|(name, _)| name.text == key).map(|(_, value)| value)
    }

    pub(crate) fn entries(&self) -> &[(Key, Yaml)] {
        match &self.kind {
            Kind::Map(entries) => entries,
            _ => &[],
        }
    }

    pub(crate) fn as_str(&self) -> Option<&str> {
        match &self.kind {
            Kind::Text(text) => Some(text),
            _ => None,
        }
    }

    pub(crate) fn is_map(&self) -> bool {
        matches!(self.kind, Kind::Map(_))
    }

    pub(crate) fn noun(&self) -> String {
        match &self.kind {
            Kind::Null => "nothing".into(),
            Kind::Bool(value) => format!("the boolean {value}"),
            Kind::Int(value) => format!("the number {value}"),
            Kind::Float(value) => format!("the number {value}"),
            Kind::Text(text) => format!("the text \"{}\"", text.chars().take(40).collect::<String>()),
            Kind::List(_) => "a list".into(),
            Kind::Map(_) => "a map".into(),
        }
    }

    pub(crate) fn to_json(&self) -> Json {
        match &self.kind {
            Kind::Null => Json::Null,
            Kind::Bool(value) => Json::Bool(*value),
            Kind::Int(value) => Json::from(*value),
            Kind::Float(value) => serde_json::Number::from_f64(*value).map_or(Json::Null, Json::Number),
            Kind::Text(text) => Json::String(text.clone()),
            Kind::List(items) => Json::Array(items.iter().map(Self::to_json).collect()),
            Kind::Map(entries) => {
                Json::Object(entries.iter().map(|(key, value)| (key.text.clone(), value.to_json())).collect())
            }
        }
    }

    pub(crate) fn place(&self, origin: &Origin) -> Place {
        origin.place(self.line, self.column)
    }

    /// The entries of a map; nothing for an empty value.
    pub(crate) fn want_map(&self, subject: &str, origin: &Origin) -> Result<&[(Key, Yaml)], ProjectError> {
        match &self.kind {
            Kind::Map(entries) => Ok(entries),
            Kind::Null => Ok(&[]),
            _ => Err(self.wrong(subject, "a map", origin)),
        }
    }

    /// The items of a list; nothing for an empty value.
    pub(crate) fn want_list(&self, subject: &str, origin: &Origin) -> Result<&[Yaml], ProjectError> {
        match &self.kind {
            Kind::List(items) => Ok(items),
            Kind::Null => Ok(&[]),
            _ => Err(self.wrong(subject, "a list", origin)),
        }
    }

    pub(crate) fn want_str(&self, subject: &str, origin: &Origin) -> Result<&str, ProjectError> {
        self.as_str().ok_or_else(|| self.wrong(subject, "a text", origin))
    }

    pub(crate) fn wrong(&self, subject: &str, wanted: &'static str, origin: &Origin) -> ProjectError {
        ProjectError::Shape { subject: subject.to_owned(), wanted, found: self.noun(), place: self.place(origin) }
    }
}

/// Parses one document; an empty text reads as null.
pub(crate) fn parse(origin: &Origin) -> Result<Yaml, ProjectError> {
    let mut builder = Builder { anchors: HashMap::new(), budget: 1_000_000 };
    let fail = |message: String, line: usize, column: usize| ProjectError::Yaml {
        file: origin.path.to_string(),
        message,
        place: origin.place(line as u32, column as u32),
    };
    let mut events = Parser::new_from_str(&origin.text);
    let mut document = None;
    while let Some(next) = events.next() {
        let (event, span) =
            next.map_err(|error| fail(error.info(), error.marker().line(), error.marker().col() + 1))?;
        if document.is_none() && is_node(&event) {
            let node = builder
                .node(event, span, &mut events, 0)
                .map_err(|Fault { message, line, column }| fail(message, line, column))?;
            document = Some(node);
        } else if matches!(event, Event::DocumentStart(..)) && document.is_some() {
            return Err(fail("it holds more than one document".into(), span.start.line(), span.start.col() + 1));
        }
    }
    Ok(document.unwrap_or(Yaml { kind: Kind::Null, line: 1, column: 1 }))
}

fn is_node(event: &Event<'_>) -> bool {
    matches!(event, Event::Scalar(..) | Event::SequenceStart(..) | Event::MappingStart(..) | Event::Alias(_))
}

struct Fault {
    message: String,
    line: usize,
    column: usize,
}

struct Builder {
    anchors: HashMap<usize, Yaml>,
    /// Nodes that aliases may still copy, against files that explode.
    budget: usize,
}

type Events<'a> = Parser<'a, granit_parser::StrInput<'a>>;

impl Builder {
    fn node<'a>(&mut self, event: Event<'a>, span: Span, events: &mut Events<'a>, depth: usize) -> Result<Yaml, Fault> {
        let (line, column) = (span.start.line(), span.start.col() + 1);
        let fault = |message: &str| Fault { message: message.to_owned(), line, column };
        if depth > 100 {
            return Err(fault("it is nested more than 100 deep"));
        }
        let (kind, anchor) = match event {
            Event::Scalar(text, style, anchor, tag) => {
                let is_text = tag.as_ref().is_some_and(|tag| tag.suffix() == "str");
                let kind =
                    if style == ScalarStyle::Plain && !is_text { plain(&text) } else { Kind::Text(text.into_owned()) };
                (kind, anchor)
            }
            Event::Alias(id) => {
                let value = self.anchors.get(&id).ok_or_else(|| fault("the alias has no anchor"))?.clone();
                self.budget =
                    self.budget.checked_sub(size(&value)).ok_or_else(|| fault("its aliases copy too much"))?;
                return Ok(Yaml { line: line as u32, column: column as u32, ..value });
            }
            Event::SequenceStart(_, anchor, _) => {
                let mut items = Vec::new();
                while let Some((event, span)) = self.child(events)? {
                    items.push(self.node(event, span, events, depth + 1)?);
                }
                (Kind::List(items), anchor)
            }
            Event::MappingStart(_, anchor, _) => (Kind::Map(self.map(events, depth)?), anchor),
            _ => return Err(fault("a value was expected")),
        };
        let node = Yaml { kind, line: line as u32, column: column as u32 };
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }

    fn map<'a>(&mut self, events: &mut Events<'a>, depth: usize) -> Result<Vec<(Key, Yaml)>, Fault> {
        let mut entries: Vec<(Key, Yaml)> = Vec::new();
        let mut merged: Vec<(Key, Yaml)> = Vec::new();
        while let Some((event, span)) = self.child(events)? {
            let is_merge = matches!(&event, Event::Scalar(text, ScalarStyle::Plain, ..) if text == "<<");
            let place = (span.start.line(), span.start.col() + 1);
            // A boolean or a number as key keeps its spelling: `on:` and `1:` are looked up as written.
            let text = match &event {
                Event::Scalar(text, ..) => text.to_string(),
                _ => {
                    let message = "a key must be a single word".to_owned();
                    return Err(Fault { message, line: place.0, column: place.1 });
                }
            };
            let Some((event, span)) = self.child(events)? else { break };
            let value = self.node(event, span, events, depth + 1)?;
            if is_merge {
                match value.kind {
                    Kind::Map(inner) => merged.extend(inner),
                    Kind::List(maps) => {
                        merged.extend(maps.iter().rev().flat_map(|map| map.entries().iter().cloned()));
                    }
                    _ => {}
                }
                continue;
            }
            let key = Key { text, line: place.0 as u32, column: place.1 as u32 };
            put(&mut entries, key, value);
        }
        for (key, value) in merged.into_iter().rev() {
            if !entries.iter().any(|(known, _)| known.text == key.text) {
                entries.push((key, value));
            }
        }
        Ok(entries)
    }

    /// The next node's event; `None` at the end of the collection.
    fn child<'a>(&mut self, events: &mut Events<'a>) -> Result<Option<(Event<'a>, Span)>, Fault> {
        for next in events.by_ref() {
            let (event, span) = next.map_err(|error| Fault {
                message: error.info(),
                line: error.marker().line(),
                column: error.marker().col() + 1,
            })?;
            match event {
                Event::SequenceEnd | Event::MappingEnd => return Ok(None),
                event if is_node(&event) => return Ok(Some((event, span))),
                _ => {}
            }
        }
        Ok(None)
    }
}

fn put(entries: &mut Vec<(Key, Yaml)>, key: Key, value: Yaml) {
    match entries.iter_mut().find(|(known, _)| known.text == key.text) {
        Some(entry) => *entry = (key, value),
        None => entries.push((key, value)),
    }
}

fn size(value: &Yaml) -> usize {
    match &value.kind {
        Kind::List(items) => 1 + items.iter().map(size).sum::<usize>(),
        Kind::Map(entries) => 1 + entries.iter().map(|(_, value)| size(value)).sum::<usize>(),
        _ => 1,
    }
}

/// Type of an unquoted scalar. Source: YAML 1.1 types as in PyYAML's resolver.
fn plain(text: &str) -> Kind {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Kind::Null,
        "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => return Kind::Bool(true),
        "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => return Kind::Bool(false),
        _ => {}
    }
    int(text).map(Kind::Int).or_else(|| float(text).map(Kind::Float)).unwrap_or_else(|| Kind::Text(text.to_owned()))
}

fn int(text: &str) -> Option<i64> {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    if !digits.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let clean = digits.replace('_', "");
    let number = if let Some(hex) = clean.strip_prefix("0x") {
        i64::from_str_radix(hex, 16).ok()?
    } else if let Some(binary) = clean.strip_prefix("0b") {
        i64::from_str_radix(binary, 2).ok()?
    } else if clean.len() > 1 && clean.starts_with('0') && !clean.contains(':') {
        i64::from_str_radix(&clean, 8).ok()?
    } else if clean.contains(':') {
        sexagesimal(&clean)?
    } else {
        clean.parse().ok()?
    };
    Some(sign * number)
}

/// `190:20:30`: base 60, every part after the first below 60.
fn sexagesimal(text: &str) -> Option<i64> {
    if text.starts_with('0') {
        return None;
    }
    let mut total = 0_i64;
    for (at, part) in text.split(':').enumerate() {
        let value: i64 = part.parse().ok()?;
        if at > 0 && (part.len() > 2 || value > 59) {
            return None;
        }
        total = total.checked_mul(60)?.checked_add(value)?;
    }
    Some(total)
}

fn float(text: &str) -> Option<f64> {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let sign = if text.starts_with('-') { -1.0 } else { 1.0 };
    match unsigned {
        ".inf" | ".Inf" | ".INF" => return Some(sign * f64::INFINITY),
        ".nan" | ".NaN" | ".NAN" => return Some(f64::NAN),
        _ => {}
    }
    // YAML 1.1 wants a point, and a sign in the exponent.
    let (mantissa, exponent) = unsigned.split_once(['e', 'E']).map_or((unsigned, None), |(m, e)| (m, Some(e)));
    let (whole, fraction) = mantissa.split_once('.')?;
    let digits = |part: &str| part.chars().all(|c| c.is_ascii_digit() || c == '_');
    let has_digit =
        whole.starts_with(|c: char| c.is_ascii_digit()) || fraction.starts_with(|c: char| c.is_ascii_digit());
    let exponent_fits = exponent.is_none_or(|e| {
        e.strip_prefix(['-', '+']).is_some_and(|d| !d.is_empty() && d.chars().all(|c| c.is_ascii_digit()))
    });
    if !digits(whole) || !digits(fraction) || !has_digit || !exponent_fits {
        return None;
    }
    unsigned.replace('_', "").parse::<f64>().ok().map(|value| sign * value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Yaml {
        parse(&Origin::new("t.yml", text)).unwrap_or_else(|error| panic!("{error}"))
    }

    #[test]
    fn scalars_have_their_yaml_1_1_types() {
        let cases: &[(&str, Kind)] = &[
            ("yes", Kind::Bool(true)),
            ("Off", Kind::Bool(false)),
            ("y", Kind::Text("y".into())),
            ("012", Kind::Int(10)),
            ("0x1F", Kind::Int(31)),
            ("1_000", Kind::Int(1000)),
            ("1:30", Kind::Int(90)),
            ("08", Kind::Text("08".into())),
            ("1.5", Kind::Float(1.5)),
            ("1e5", Kind::Text("1e5".into())),
            ("1.0e+3", Kind::Float(1000.0)),
            ("~", Kind::Null),
            ("\"yes\"", Kind::Text("yes".into())),
            ("2024-01-01", Kind::Text("2024-01-01".into())),
            ("1.0.0", Kind::Text("1.0.0".into())),
        ];
        for (text, wanted) in cases {
            assert_eq!(read(&format!("k: {text}")).get("k").map(|value| &value.kind), Some(wanted), "{text}");
        }
    }

    #[test]
    fn merges_anchors_and_last_duplicates() {
        let yaml = read("base: &b {x: 1, y: 2}\nuse:\n  <<: *b\n  y: 3\nuse2: 1\nuse2: 2\n");
        assert_eq!(yaml.get("use").map(Yaml::to_json), Some(serde_json::json!({"y": 3, "x": 1})));
        assert_eq!(yaml.get("use2").map(Yaml::to_json), Some(serde_json::json!(2)));
    }

    #[test]
    fn places_count_from_one() {
        let yaml = read("a:\n  b: [1,\n      x]\n");
        let list = yaml.get("a").and_then(|a| a.get("b")).cloned();
        let Some(Kind::List(items)) = list.map(|list| list.kind) else { panic!("no list") };
        assert_eq!((items[1].line, items[1].column), (3, 7));
    }

    #[test]
    fn bad_yaml_names_its_line() {
        let error = parse(&Origin::new("t.yml", "a: b\n  c: d\n")).unwrap_err();
        let ProjectError::Yaml { place, .. } = error else { panic!("{error}") };
        assert_eq!(place.line, Some(2));
    }
}
