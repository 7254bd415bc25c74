//! Objects of the Jinja context: relations, `adapter`, `config`, `exceptions`, `modules`.

use std::fmt;
use std::sync::Arc;

use minijinja::value::{DynObject, Kwargs, Object, ObjectRepr, Value, from_args};
use minijinja::{Error, ErrorKind as JinjaKind, State};
use serde_json::{Map, Value as Json};

use lode_core::{ErrorKind, Problem, TableName, sql_type};

use super::datetime::DateTimeModule;
use super::engine::{DISPATCH_CHAIN, to_json};
use super::fault::carry;
use super::own;
use super::scope::{MacroProxy, Scope, Work};

pub(crate) const DATABASE: &str = "lode";

/// A table, view or CTE as SQL names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RelationValue {
    pub(crate) schema: String,
    pub(crate) identifier: String,
    /// `table`, `view` or `cte`; `None` before it is known.
    pub(crate) kind: Option<&'static str>,
    pub(crate) shows_database: bool,
    pub(crate) shows_schema: bool,
    pub(crate) shows_identifier: bool,
}

impl RelationValue {
    pub(crate) fn new(name: &TableName) -> Self {
        Self {
            schema: name.schema.clone(),
            identifier: name.name.clone(),
            kind: None,
            // One database: its name in front would add nothing.
            shows_database: false,
            shows_schema: true,
            shows_identifier: true,
        }
    }

    /// The CTE that stands for an ephemeral model.
    pub(crate) fn cte(name: &str) -> Self {
        let mut relation = Self::new(&TableName::new("", format!("__dbt__cte__{name}")));
        relation.kind = Some("cte");
        relation
    }

    pub(crate) fn table_name(&self) -> TableName {
        TableName::new(self.schema.clone(), self.identifier.clone())
    }

    pub(crate) fn sql(&self) -> String {
        if self.kind == Some("cte") {
            return self.identifier.clone();
        }
        let parts = [
            (self.shows_database, DATABASE),
            (self.shows_schema, self.schema.as_str()),
            (self.shows_identifier, self.identifier.as_str()),
        ];
        let quoted = parts.into_iter().filter(|(shows, part)| *shows && !part.is_empty()).map(|(_, part)| quote(part));
        quoted.collect::<Vec<_>>().join(".")
    }
}

pub(crate) fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

impl Object for RelationValue {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        Some(match key.as_str()? {
            "database" => Value::from(DATABASE),
            "schema" => Value::from(self.schema.as_str()),
            "identifier" | "name" | "table" => Value::from(self.identifier.as_str()),
            "type" => self.kind.map_or_else(|| Value::from(()), Value::from),
            "is_table" => Value::from(self.kind == Some("table")),
            "is_view" => Value::from(self.kind == Some("view")),
            "is_cte" => Value::from(self.kind == Some("cte")),
            "is_materialized_view" => Value::from(false),
            _ => return None,
        })
    }

    fn is_true(self: &Arc<Self>) -> bool {
        true
    }

    fn call_method(self: &Arc<Self>, _: &mut State<'_, '_>, method: &str, args: &[Value]) -> Result<Value, Error> {
        let mut new = (**self).clone();
        match method {
            "render" => return Ok(Value::from(self.sql())),
            "include" => {
                let (kwargs,): (Kwargs,) = from_args(args)?;
                for (key, shows) in [
                    ("database", &mut new.shows_database),
                    ("schema", &mut new.shows_schema),
                    ("identifier", &mut new.shows_identifier),
                ] {
                    if let Some(value) = kwargs.get::<Option<bool>>(key)? {
                        *shows = value;
                    }
                }
                kwargs.assert_all_used()?;
            }
            "without_identifier" => new.shows_identifier = false,
            // Names are always quoted: a name without quotes would be folded to lower case.
            "quote" => {}
            "incorporate" => {
                let (kwargs,): (Kwargs,) = from_args(args)?;
                if let Some(path) = kwargs.get::<Option<Value>>("path")? {
                    for (key, part) in [("schema", &mut new.schema), ("identifier", &mut new.identifier)] {
                        if let Some(text) = path.get_attr(key)?.as_str() {
                            text.clone_into(part);
                        }
                    }
                }
                if let Some(kind) = kwargs.get::<Option<String>>("type")? {
                    new.kind = ["table", "view", "cte"].into_iter().find(|known| *known == kind);
                }
            }
            "replace_path" => {
                let (kwargs,): (Kwargs,) = from_args(args)?;
                for (key, part) in [("schema", &mut new.schema), ("identifier", &mut new.identifier)] {
                    if let Some(text) = kwargs.get::<Option<String>>(key)? {
                        *part = text;
                    }
                }
            }
            "quoted" => {
                let (name,): (String,) = from_args(args)?;
                return Ok(Value::from(quote(&name)));
            }
            _ => return Err(Error::from(JinjaKind::UnknownMethod)),
        }
        Ok(Value::from_object(new))
    }

    fn custom_cmp(self: &Arc<Self>, other: &DynObject) -> Option<std::cmp::Ordering> {
        let other = other.downcast_ref::<Self>()?;
        Some((&self.schema, &self.identifier).cmp(&(&other.schema, &other.identifier)))
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.sql())
    }
}

/// A column of a relation, as `adapter.get_columns_in_relation` gives it.
#[derive(Debug)]
struct ColumnValue {
    name: String,
    data_type: String,
}

impl Object for ColumnValue {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        Some(match key.as_str()? {
            "name" | "column" => Value::from(self.name.as_str()),
            "quoted" => Value::from(quote(&self.name)),
            "dtype" | "data_type" => Value::from(self.data_type.as_str()),
            _ => return None,
        })
    }

    fn call_method(self: &Arc<Self>, _: &mut State<'_, '_>, method: &str, _: &[Value]) -> Result<Value, Error> {
        let is = |names: &[&str]| Value::from(names.iter().any(|name| self.data_type.starts_with(name)));
        Ok(match method {
            "is_string" => is(&["text", "varchar", "char"]),
            "is_integer" => is(&["smallint", "integer", "bigint"]),
            "is_float" => is(&["real", "double"]),
            "is_numeric" => is(&["numeric"]),
            "is_number" => is(&["smallint", "integer", "bigint", "real", "double", "numeric"]),
            "string_type" => Value::from("text"),
            _ => return Err(Error::from(JinjaKind::UnknownMethod)),
        })
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<Column {} ({})>", self.name, self.data_type)
    }
}

/// `adapter`.
#[derive(Debug)]
pub(crate) struct Adapter {
    pub(crate) scope: Arc<Scope>,
}

impl Object for Adapter {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn call_method(self: &Arc<Self>, _: &mut State<'_, '_>, method: &str, args: &[Value]) -> Result<Value, Error> {
        match method {
            "dispatch" => {
                let (name, namespace, kwargs): (String, Option<String>, Kwargs) = from_args(args)?;
                let namespace = namespace.map_or_else(|| kwargs.get("macro_namespace"), |value| Ok(Some(value)))?;
                self.dispatch(&name, namespace.as_deref())
            }
            "quote" => {
                let (name,): (String,) = from_args(args)?;
                Ok(Value::from(quote(&name)))
            }
            "type" => Ok(Value::from("lode")),
            "get_relation" => {
                let (kwargs,): (Kwargs,) = match args {
                    [only] if only.is_kwargs() => from_args(args)?,
                    _ => {
                        let (_, schema, identifier): (Value, String, String) = from_args(args)?;
                        return self.relation(&TableName::new(schema, identifier));
                    }
                };
                let (schema, identifier): (String, String) = (kwargs.get("schema")?, kwargs.get("identifier")?);
                self.relation(&TableName::new(schema, identifier))
            }
            "load_relation" => {
                let (relation,): (Value,) = from_args(args)?;
                self.relation(&table_of(&relation)?)
            }
            "get_columns_in_relation" => {
                let (relation,): (Value,) = from_args(args)?;
                self.columns(&table_of(&relation)?)
            }
            "check_schema_exists" | "create_schema" | "commit" | "cache_added" => Ok(Value::from(true)),
            _ if self.scope.is_parse() => Ok(Value::from(())),
            _ => Err(carry(
                Problem::new(ErrorKind::Unsupported, format!("`adapter.{method}` is not supported here yet"))
                    .fix("write it as a model, or ask for the relation with `adapter.get_relation`"),
            )),
        }
    }
}

fn table_of(value: &Value) -> Result<TableName, Error> {
    match value.downcast_object_ref::<RelationValue>() {
        Some(relation) => Ok(relation.table_name()),
        None => Err(Error::new(JinjaKind::InvalidOperation, "a relation was expected, as `ref` and `source` give it")),
    }
}

impl Adapter {
    fn dispatch(&self, name: &str, namespace: Option<&str>) -> Result<Value, Error> {
        let engine = &self.scope.engine;
        if name.contains('.') {
            let fix = "write `adapter.dispatch('name', 'package')`";
            return Err(carry(Problem::new(ErrorKind::Syntax, format!("\"{name}\" is not a macro's name")).fix(fix)));
        }
        let packages = engine.dispatch_order(namespace);
        for package in &packages {
            for prefix in DISPATCH_CHAIN {
                let found = engine.package_macros(package).and_then(|macros| macros.get(&format!("{prefix}{name}")));
                if let Some(found) = found {
                    return Ok(MacroProxy::value(found, &self.scope));
                }
            }
        }
        if self.scope.is_parse() {
            return Ok(Value::from_object(super::scope::Blank));
        }
        let searched: Vec<String> = packages
            .iter()
            .flat_map(|package| DISPATCH_CHAIN.iter().map(move |prefix| format!("{package}.{prefix}{name}")))
            .collect();
        Err(carry(
            Problem::new(ErrorKind::Undefined, format!("dispatch found no macro \"{name}\""))
                .fix(format!("define one of: {}", searched.join(", "))),
        ))
    }

    fn relation(&self, name: &TableName) -> Result<Value, Error> {
        let Work::Execute(execute) = &self.scope.work else { return Ok(Value::from(())) };
        let found = execute.resolve.relation(name).map_err(carry)?;
        Ok(found.map_or_else(
            || Value::from(()),
            |found| {
                let mut relation = RelationValue::new(&found.name);
                relation.kind = Some(match found.kind {
                    lode_core::RelationKind::Table => "table",
                    lode_core::RelationKind::View => "view",
                });
                Value::from_object(relation)
            },
        ))
    }

    fn columns(&self, name: &TableName) -> Result<Value, Error> {
        let Work::Execute(execute) = &self.scope.work else { return Ok(own::list(Vec::new())) };
        let found = execute.resolve.relation(name).map_err(carry)?;
        let fields = found.iter().flat_map(|relation| relation.schema.fields().iter());
        let columns = fields.map(|field| {
            Value::from_object(ColumnValue { name: field.name().clone(), data_type: sql_type::name_of(field) })
        });
        Ok(own::list(columns.collect()))
    }
}

/// `config`: called in the model's head, asked anywhere.
#[derive(Debug)]
pub(crate) struct ConfigObject {
    pub(crate) scope: Arc<Scope>,
}

impl Object for ConfigObject {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn call(self: &Arc<Self>, _: &mut State<'_, '_>, args: &[Value]) -> Result<Value, Error> {
        if let Work::Parse(recorded) = &self.scope.work {
            let mut layer = Map::new();
            for argument in args {
                let Json::Object(entries) = to_json(argument) else {
                    let text = "config() takes keys: `config(materialized='table')`";
                    return Err(Error::new(JinjaKind::InvalidOperation, text));
                };
                layer.extend(entries);
            }
            recorded.lock().configs.push(layer);
        }
        Ok(Value::from(""))
    }

    fn call_method(self: &Arc<Self>, _: &mut State<'_, '_>, method: &str, args: &[Value]) -> Result<Value, Error> {
        let empty = || Value::from("");
        match method {
            "get" | "require" | "meta_get" | "meta_require" => {
                let (key, default, kwargs): (String, Option<Value>, Kwargs) = from_args(args)?;
                let default = default.map_or_else(|| kwargs.get("default"), |value| Ok(Some(value)))?;
                let Work::Execute(execute) = &self.scope.work else { return Ok(default.unwrap_or_else(empty)) };
                let values = &execute.config.values;
                let found = if method.starts_with("meta") {
                    values.get("meta").and_then(|meta| meta.get(&key))
                } else {
                    values.get(&super::super::config::node_config::normal(&key))
                };
                match found.filter(|value| !value.is_null()) {
                    Some(value) => Ok(from_json(value)),
                    None if method.ends_with("require") => Err(carry(
                        Problem::new(ErrorKind::Config, format!("config \"{key}\" is required"))
                            .fix(format!("add `{key}` to the model's config")),
                    )),
                    None => Ok(default.unwrap_or_else(|| Value::from(()))),
                }
            }
            "set" => Ok(empty()),
            "persist_relation_docs" | "persist_column_docs" => Ok(Value::from(false)),
            _ => Err(Error::from(JinjaKind::UnknownMethod)),
        }
    }
}

/// `exceptions`.
#[derive(Debug)]
pub(crate) struct Exceptions {
    pub(crate) scope: Arc<Scope>,
}

impl Object for Exceptions {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn call_method(self: &Arc<Self>, _: &mut State<'_, '_>, method: &str, args: &[Value]) -> Result<Value, Error> {
        let message = args.first().map(super::python::text).unwrap_or_default();
        match method {
            "warn" => {
                self.scope.speak(message, true);
                Ok(Value::from(""))
            }
            _ if method.starts_with("raise_") || method.ends_with("_error") => {
                let kind = if method == "raise_not_implemented" { ErrorKind::Unsupported } else { ErrorKind::Config };
                Err(carry(Problem::new(kind, message).fix("the project's own macro stopped here: see its message")))
            }
            _ => Err(Error::from(JinjaKind::UnknownMethod)),
        }
    }
}

/// `modules`: the parts of Python's library that projects use.
pub(crate) fn modules(scope: &Scope) -> Value {
    Value::from_pairs([
        ("datetime", Value::from_object(DateTimeModule { now: scope.engine.settings.now })),
        ("re", Value::from_object(RegexModule)),
    ])
}

#[derive(Debug)]
struct RegexModule;

#[derive(Debug)]
struct RegexMatch(Vec<Option<String>>);

impl Object for RegexModule {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        matches!(key.as_str()?, "IGNORECASE" | "I").then(|| Value::from(2))
    }

    fn call_method(self: &Arc<Self>, _: &mut State<'_, '_>, method: &str, args: &[Value]) -> Result<Value, Error> {
        let compile = |pattern: &str, flags: Option<i64>| {
            let built =
                regex::RegexBuilder::new(pattern).case_insensitive(flags == Some(2)).size_limit(1 << 22).build();
            built.map_err(|error| Error::new(JinjaKind::InvalidOperation, format!("pattern \"{pattern}\": {error}")))
        };
        let groups = |found: regex::Captures<'_>| {
            let texts = found.iter().map(|group| group.map(|group| group.as_str().to_owned()));
            Value::from_object(RegexMatch(texts.collect()))
        };
        match method {
            "match" | "search" | "fullmatch" => {
                let (pattern, text, flags): (String, String, Option<i64>) = from_args(args)?;
                let pattern = match method {
                    "match" => format!("^(?:{pattern})"),
                    "fullmatch" => format!("^(?:{pattern})$"),
                    _ => pattern,
                };
                Ok(compile(&pattern, flags)?.captures(&text).map_or_else(|| Value::from(()), groups))
            }
            "sub" => {
                let (pattern, with, text): (String, String, String) = from_args(args)?;
                let with = compile(r"\\(\d+)", None)?.replace_all(&with.replace('$', "$$"), "$${$1}").into_owned();
                Ok(Value::from(compile(&pattern, None)?.replace_all(&text, with.as_str()).into_owned()))
            }
            "findall" => {
                let (pattern, text, flags): (String, String, Option<i64>) = from_args(args)?;
                let regex = compile(&pattern, flags)?;
                let found = regex.captures_iter(&text).map(|found| {
                    let group = found.get(usize::from(found.len() > 1));
                    Value::from(group.map_or("", |group| group.as_str()))
                });
                Ok(own::list(found.collect()))
            }
            _ => Err(Error::from(JinjaKind::UnknownMethod)),
        }
    }
}

impl Object for RegexMatch {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn call_method(self: &Arc<Self>, _: &mut State<'_, '_>, method: &str, args: &[Value]) -> Result<Value, Error> {
        let value = |text: &Option<String>| text.as_deref().map_or_else(|| Value::from(()), Value::from);
        match method {
            "group" => {
                let (at,): (Option<usize>,) = from_args(args)?;
                let group = self.0.get(at.unwrap_or(0));
                group.map(value).ok_or_else(|| Error::new(JinjaKind::InvalidOperation, "no such group"))
            }
            "groups" => Ok(Value::from(self.0.iter().skip(1).map(value).collect::<Vec<_>>())),
            _ => Err(Error::from(JinjaKind::UnknownMethod)),
        }
    }
}

/// JSON to a value that macros may change.
pub(crate) fn from_json(value: &Json) -> Value {
    match value {
        Json::Null => Value::from(()),
        Json::Bool(value) => Value::from(*value),
        Json::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(number), _) => Value::from(number),
            (None, Some(number)) => Value::from(number),
            (None, None) => Value::from(number.to_string()),
        },
        Json::String(text) => Value::from(text.as_str()),
        Json::Array(items) => own::list(items.iter().map(from_json).collect()),
        Json::Object(entries) => {
            own::dict(entries.iter().map(|(key, value)| (Value::from(key.as_str()), from_json(value))))
        }
    }
}
