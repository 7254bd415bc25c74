//! Generic tests: from an entry in YAML to a node, and from its arguments to values.

use std::sync::Arc;
use std::sync::LazyLock;

use minijinja::value::Value;
use regex::Regex;
use serde_json::{Map, Value as Json};

use lode_core::Place;

use super::names::{test_hash, test_names};
use super::node::{Kind, Materialized, Node, TestFacts};
use crate::config::node_config::NodeConfig;
use crate::config::schema_file::TestEntry;
use crate::config::yaml::Origin;
use crate::error::ProjectError;
use crate::jinja::{Engine, EngineBuilder, Scope, from_json, own};

/// What a test is written at.
pub(crate) struct Target<'a> {
    pub(crate) unique_id: &'a str,
    pub(crate) is_source: bool,
    /// `orders`; `shop_orders` for a source.
    pub(crate) name: String,
    /// `ref('orders')` or `source('shop', 'orders')`.
    pub(crate) relation: String,
}

/// Makes the node of a generic test and registers its template.
pub(crate) fn generic_test(
    builder: &mut EngineBuilder,
    project: &str,
    origin: &Origin,
    target: &Target<'_>,
    column: Option<&str>,
    entry: &TestEntry,
) -> Result<Node, ProjectError> {
    let (namespace, generic) = match entry.name.split_once('.') {
        Some((namespace, name)) => (Some(namespace.to_owned()), name.to_owned()),
        None => (None, entry.name.clone()),
    };
    let mut arguments = entry.arguments.clone();
    if let Some(column) = column {
        arguments.entry("column_name").or_insert_with(|| Json::from(column));
    }
    arguments.insert("model".to_owned(), Json::from(format!("{{{{ get_where_subquery({}) }}}}", target.relation)));
    let mut prefix = if target.is_source { format!("source_{generic}") } else { generic.clone() };
    if let Some(namespace) = &namespace {
        prefix = format!("{namespace}_{prefix}");
    }
    let (short, full) = test_names(&prefix, &target.name, &arguments);
    let (name, alias) = match &entry.custom_name {
        Some(custom) => (custom.clone(), custom.clone()),
        None => (full, short),
    };
    let hash = test_hash(&name, &generic, namespace.as_deref(), &arguments);
    let unique_id = format!("test.{project}.{name}.{hash}");
    let call = match &namespace {
        Some(namespace) => format!("{namespace}.test_{generic}"),
        None => format!("test_{generic}"),
    };
    let text = format!("{{{{ {call}(**_dbt_generic_test_kwargs) }}}}");
    let text_origin = Origin::new(origin.path.clone(), text.clone());
    builder.add_text(&unique_id, &text_origin)?;
    let folders = origin.path.split('/').collect::<Vec<_>>();
    let inner = folders.get(1..folders.len().saturating_sub(1)).unwrap_or_default();
    let fqn = [project].into_iter().chain(inner.iter().copied()).chain([name.as_str()]).map(str::to_owned).collect();
    let mut config = NodeConfig::default();
    config.values.insert("alias".into(), Json::from(alias));
    Ok(Node {
        template: unique_id.clone(),
        unique_id,
        name,
        kind: Kind::Test,
        materialized: Materialized::Test,
        package: project.to_owned(),
        path: origin.path.to_string(),
        fqn,
        origin: text_origin,
        own_macros: Vec::new(),
        config,
        relation: None,
        refs: Vec::new(),
        sources: Vec::new(),
        depends_on: Vec::new(),
        macros: Vec::new(),
        columns: Vec::new(),
        description: entry.description.clone(),
        expectations: Vec::new(),
        expectation_places: Vec::new(),
        test: Some(TestFacts {
            generic: Some(generic),
            namespace,
            arguments,
            column: column.map(str::to_owned),
            attached: Some(target.unique_id.to_owned()),
        }),
        place: entry.place.clone(),
        patch_path: None,
        source: None,
    })
}

/// Values of a generic test's arguments, as `_dbt_generic_test_kwargs`.
/// Source: dbt-core, `add_rendered_test_kwargs`: a text that is one call of `ref`, `source`, `var`, `env_var` or `doc` is
/// evaluated; other texts are rendered; `column_name` stays as written.
pub(crate) fn test_kwargs(
    engine: &Engine,
    scope: &Arc<Scope>,
    arguments: &Map<String, Json>,
    place: &Place,
) -> Result<Value, ProjectError> {
    let mut entries = Vec::new();
    for (key, value) in arguments {
        let value = if key == "column_name" { from_json(value) } else { argument(engine, scope, value, place)? };
        entries.push((Value::from(key.as_str()), value));
    }
    Ok(own::dict(entries))
}

static CALL: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r"^\s*(env_var|ref|var|source|doc)\s*\(.+\)\s*$").ok());

fn argument(engine: &Engine, scope: &Arc<Scope>, value: &Json, place: &Place) -> Result<Value, ProjectError> {
    match value {
        Json::String(text) if CALL.as_ref().is_some_and(|call| call.is_match(text)) => {
            engine.evaluate(text, scope, place)
        }
        Json::String(text) => match crate::jinja::engine::whole_expression(text) {
            Some(expression) => engine.evaluate(expression, scope, place),
            None => Ok(Value::from(engine.render_text(text, scope, place)?)),
        },
        Json::Array(items) => {
            let items: Result<Vec<Value>, ProjectError> =
                items.iter().map(|item| argument(engine, scope, item, place)).collect();
            Ok(own::list(items?))
        }
        Json::Object(entries) => {
            let mut out = Vec::new();
            for (key, item) in entries {
                out.push((Value::from(key.as_str()), argument(engine, scope, item, place)?));
            }
            Ok(own::dict(out))
        }
        other => Ok(from_json(other)),
    }
}
