//! Settles one node: its parse render, its config from all layers, what it becomes and where.

use std::sync::Arc;

use serde_json::{Map, Value as Json};

use lode_core::{Expectation, Place, TableName, nearest};

use super::load::Raw;
use super::node::{Kind, Materialized, Node, Strategy};
use super::tests_of::test_kwargs;
use crate::config::project_file::{ProjectFile, tree_layers};
use crate::config::yaml::{Kind as YamlKind, Origin, Yaml};
use crate::error::ProjectError;
use crate::jinja::{Engine, NodeFacts, Scope};

/// Parse render, config layers, materialization, expectations, names.
pub(super) fn settle(engine: &Arc<Engine>, file: &ProjectFile, raw: &mut Raw) -> Result<(), ProjectError> {
    let node = &mut raw.node;
    let yaml_scope = Arc::new(Scope::parse(engine, &node.package, NodeFacts::default()));
    let section = match node.kind {
        Kind::Model => "models",
        Kind::Seed => "seeds",
        Kind::Source => "sources",
        Kind::Test => "data_tests",
    };
    if let Some((_, tree)) = file.trees.iter().find(|(name, _)| *name == section) {
        for layer in tree_layers(tree, &node.fqn) {
            let layer = layer.into_iter().map(|(key, value)| (key.to_owned(), value.clone())).collect::<Vec<_>>();
            node.config.apply(&render_layer(engine, &yaml_scope, &layer, &file.origin)?);
        }
    }
    node.config.apply(&render_layer(engine, &yaml_scope, &raw.properties.config, &raw.properties_origin)?);
    if let Some(config) = &raw.test_config {
        // `where` renders late, with the test.
        let mut layer = config.clone();
        let late = layer.remove("where");
        let rendered = engine.render_json(&Json::Object(layer), &yaml_scope, &raw.place)?;
        let mut layer = rendered.as_object().cloned().unwrap_or_default();
        layer.extend(late.map(|late| ("where".to_owned(), late)));
        node.config.apply(&layer);
    }
    if !node.template.is_empty() {
        parse_render(engine, node)?;
    }
    if !node.config.is_enabled() {
        return Ok(());
    }
    match node.kind {
        Kind::Model => node.materialized = materialized(node)?,
        Kind::Seed | Kind::Source | Kind::Test => {}
    }
    let in_yaml = raw.properties.expectations.clone();
    let in_config = node.config.get("expectations").cloned();
    match (in_yaml, in_config) {
        // The same list, seen twice: YAML knows its places.
        (Some(yaml), config) if config.is_none() || config == Some(yaml.to_json()) => {
            expectations(&yaml, node, &raw.properties_origin)?;
        }
        // The model's own head comes last, so it wins.
        (_, Some(config)) => {
            node.expectations = parse_expectations(&config, node, &node.place)?;
            node.expectation_places = vec![node.place.clone(); node.expectations.len()];
        }
        (_, None) => {}
    }
    for (at, rule) in node.expectations.iter().enumerate() {
        if node.expectations.iter().take(at).any(|other| other.name == rule.name) {
            return Err(ProjectError::BadConfig {
                key: "expectations".into(),
                subject: node.subject(),
                found: format!("two of them are named \"{}\"", rule.name),
                fix: "give each a name of its own".into(),
                place: node.expectation_places.get(at).unwrap_or(&node.place).clone(),
            });
        }
    }
    if !node.expectations.is_empty() && matches!(node.materialized, Materialized::View | Materialized::Ephemeral) {
        return Err(ProjectError::BadConfig {
            key: "expectations".into(),
            subject: node.subject(),
            found: format!("set on a {}", node.materialized.as_str()),
            fix: "set `materialized: table` or `incremental`: rows are checked when they are written".into(),
            place: raw.place.clone(),
        });
    }
    name_relation(engine, node)
}

fn render_layer(
    engine: &Engine,
    scope: &Arc<Scope>,
    layer: &[(String, Yaml)],
    origin: &Origin,
) -> Result<Map<String, Json>, ProjectError> {
    let mut out = Map::new();
    for (key, value) in layer {
        // Hooks render late, with the node.
        let is_late = matches!(key.as_str(), "pre-hook" | "post-hook" | "pre_hook" | "post_hook" | "expectations");
        let json = value.to_json();
        let json = if is_late { json } else { engine.render_json(&json, scope, &value.place(origin))? };
        out.insert(key.clone(), json);
    }
    Ok(out)
}

fn parse_render(engine: &Arc<Engine>, node: &mut Node) -> Result<(), ProjectError> {
    let mut scope = Scope::parse(engine, &node.package, node.facts());
    scope.own_macros.clone_from(&node.own_macros);
    if let Some(test) = node.test.as_ref().filter(|test| test.generic.is_some()) {
        let arguments = Arc::new(Scope::parse(engine, &node.package, node.facts()));
        let kwargs = test_kwargs(engine, &arguments, &test.arguments, &node.place)?;
        let recorded = arguments.take_recorded();
        (node.refs, node.sources, node.macros) = (recorded.refs, recorded.sources, recorded.macros);
        scope.extra.insert("_dbt_generic_test_kwargs".into(), kwargs);
        let name = test.generic.clone().unwrap_or_default();
        let is_known = match &test.namespace {
            Some(namespace) => {
                engine.package_macros(namespace).is_some_and(|macros| macros.contains_key(&format!("test_{name}")))
            }
            None => engine.find_macro(&node.package, &format!("test_{name}")).is_some(),
        };
        if !is_known {
            let known = engine.all_macros().filter_map(|made| made.name.strip_prefix("test_"));
            let near = nearest(&name, known).map(|near| format!("did you mean \"{near}\"?"));
            return Err(ProjectError::Jinja {
                message: format!("test \"{name}\" does not exist"),
                kind: lode_core::ErrorKind::Undefined,
                places: vec![node.place.clone()],
                fix: Some(
                    near.unwrap_or_else(|| "define it with `{% test … %}` in `macros/` or `tests/generic/`".into()),
                ),
            });
        }
    }
    let scope = Arc::new(scope);
    engine.render(&node.template, &scope)?;
    let recorded = scope.take_recorded();
    for layer in &recorded.configs {
        node.config.apply(layer);
    }
    for call in recorded.refs {
        if !node.refs.contains(&call) {
            node.refs.push(call);
        }
    }
    for call in recorded.sources {
        if !node.sources.contains(&call) {
            node.sources.push(call);
        }
    }
    node.macros.extend(recorded.macros);
    node.macros.sort();
    node.macros.dedup();
    Ok(())
}

fn materialized(node: &Node) -> Result<Materialized, ProjectError> {
    let word = node.config.text("materialized").unwrap_or("view");
    let refuse = |what: String, instead: &str| {
        Err(ProjectError::Unsupported { what, instead: instead.into(), place: config_place(node, "materialized") })
    };
    Ok(match word {
        "view" => Materialized::View,
        "table" => Materialized::Table,
        "ephemeral" => Materialized::Ephemeral,
        "incremental" => Materialized::Incremental(strategy(node)?),
        "snapshot" | "scd1" | "scd2" => {
            return refuse(
                format!("materialized \"{word}\""),
                "use `incremental` with a `unique_key` for the newest state",
            );
        }
        "streaming" | "streaming_table" | "materialized_view" => {
            return refuse(
                format!("materialized \"{word}\""),
                "use `table`, or `incremental`, and build it on a schedule",
            );
        }
        other => {
            let known = ["view", "table", "incremental", "ephemeral"];
            let fix = match nearest(other, known) {
                Some(near) => format!("did you mean \"{near}\"?"),
                None => "use view, table, incremental or ephemeral".into(),
            };
            return refuse(format!("materialized \"{other}\""), &fix);
        }
    })
}

fn strategy(node: &Node) -> Result<Strategy, ProjectError> {
    let keys = node.config.texts("unique_key");
    let bad = |key: &str, found: String, fix: &str| ProjectError::BadConfig {
        key: key.into(),
        subject: node.subject(),
        found,
        fix: fix.into(),
        place: config_place(node, key),
    };
    let change = node.config.text("on_schema_change").unwrap_or("ignore");
    if !["ignore", "fail", "append_new_columns", "sync_all_columns"].contains(&change) {
        let fix = "write ignore, fail, append_new_columns or sync_all_columns";
        return Err(bad("on_schema_change", format!("\"{change}\""), fix));
    }
    match node.config.text("incremental_strategy") {
        None | Some("default") if keys.is_empty() => Ok(Strategy::Append),
        // dbt-postgres: without a strategy, a key means `delete+insert`.
        None | Some("default") => Ok(Strategy::Merge { keys, keeps_all: true }),
        Some("append") => Ok(Strategy::Append),
        Some("merge" | "delete+insert") if keys.is_empty() => {
            Err(bad("unique_key", "missing".into(), "name the key column: `unique_key: id`"))
        }
        Some(word @ ("merge" | "delete+insert")) => Ok(Strategy::Merge { keys, keeps_all: word == "delete+insert" }),
        Some("insert_overwrite") if node.config.texts("partition_by").is_empty() => {
            Err(bad("partition_by", "missing".into(), "name the partition column: `partition_by: day`"))
        }
        Some("insert_overwrite") => Ok(Strategy::InsertOverwrite),
        Some(word @ "microbatch") => Err(ProjectError::Unsupported {
            what: format!("incremental_strategy \"{word}\""),
            instead: "use `delete+insert` with a `unique_key`, or `insert_overwrite` with `partition_by`".into(),
            place: config_place(node, "incremental_strategy"),
        }),
        Some(word) => {
            let fix = "write append, merge, delete+insert or insert_overwrite";
            Err(bad("incremental_strategy", format!("\"{word}\""), fix))
        }
    }
}

/// Where a config stands in the model's own file, else the node's place.
fn config_place(node: &Node, key: &str) -> Place {
    match node.origin.text.find(key) {
        Some(offset) => Place::at_offset(node.path.clone(), &node.origin.text, offset),
        None => node.place.clone(),
    }
}

fn expectations(declared: &Yaml, node: &mut Node, origin: &Origin) -> Result<(), ProjectError> {
    for item in declared.want_list("`expectations`", origin)? {
        if !matches!(item.kind, YamlKind::Map(_)) {
            return Err(item.wrong("an expectation", "a map with `name` and `expect`", origin));
        }
        let place = item.place(origin);
        node.expectations.extend(parse_expectations(&Json::Array(vec![item.to_json()]), node, &place)?);
        node.expectation_places.push(place);
    }
    Ok(())
}

fn parse_expectations(declared: &Json, node: &Node, place: &Place) -> Result<Vec<Expectation>, ProjectError> {
    serde_json::from_value(declared.clone()).map_err(|error| ProjectError::BadConfig {
        key: "expectations".into(),
        subject: node.subject(),
        found: format!("not readable: {error}"),
        fix: "write `{name: …, expect: <boolean SQL>, on_violation: warn | drop | quarantine | fail}`".into(),
        place: place.clone(),
    })
}

/// Asks the project's `generate_…_name` macros.
fn name_relation(engine: &Arc<Engine>, node: &mut Node) -> Result<(), ProjectError> {
    if node.kind == Kind::Source {
        let schema = node.config.text("schema").unwrap_or(&node.name).to_owned();
        let name = node.config.text("alias").unwrap_or(&node.name).to_owned();
        node.relation = Some(TableName::new(schema, name));
        return Ok(());
    }
    if node.kind == Kind::Test || node.materialized == Materialized::Ephemeral {
        return Ok(());
    }
    let scope = Arc::new(Scope::parse(engine, &node.package, node.facts()));
    let ask = |name: &str, config: &str| -> Result<String, ProjectError> {
        let argument = match node.config.text(config) {
            Some(text) => serde_json::Value::from(text).to_string(),
            None => "none".into(),
        };
        let value = engine.evaluate(&format!("{name}({argument}, node)"), &scope, &node.place)?;
        Ok(crate::jinja::python::text(&value).trim().to_owned())
    };
    let schema = ask("generate_schema_name", "schema")?;
    let alias = ask("generate_alias_name", "alias")?;
    let name: Result<TableName, _> = format!("{schema}.{alias}").parse();
    node.relation = Some(name.map_err(|_| ProjectError::BadName {
        name: format!("{schema}.{alias}"),
        reason: "schema and alias become folder names",
        place: node.place.clone(),
    })?);
    Ok(())
}
