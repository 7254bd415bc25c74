//! From a folder to a graph: read files, parse each node once, resolve names.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;

use serde_json::{Map, Value as Json};

use lode_core::{Expectation, Place, TableName, nearest};
use lode_jobs::{Dag, DagNode};

use super::node::{Graph, Kind, Materialized, Node, Strategy, TestFacts};
use super::tests_of::{Target, generic_test, test_kwargs};
use crate::config::node_config::NodeConfig;
use crate::config::project_file::{ProjectFile, notice, tree_layers};
use crate::config::schema_file::{self, Patch, PatchKind, Properties, SourceTable, TestEntry};
use crate::config::yaml::{Kind as YamlKind, Origin, Yaml};
use crate::error::ProjectError;
use crate::files::{self, FileList};
use crate::jinja::block::BlockKind;
use crate::jinja::{Engine, EngineBuilder, NodeFacts, Scope, Settings};
use crate::project::Notice;

pub(crate) struct Loaded {
    pub(crate) graph: Graph,
    pub(crate) engine: Arc<Engine>,
    pub(crate) notices: Vec<Notice>,
}

/// Reads and parses everything under `dir`.
pub(crate) fn load(dir: &Path, file: &ProjectFile, settings: Settings) -> Result<Loaded, ProjectError> {
    let mut builder = EngineBuilder::new(settings)?;
    let mut notices = file.notices.clone();
    let found = files::list(dir, file)?;
    for (package, origin) in &found.macros {
        builder.add_macro_file(package, origin)?;
    }
    for origin in &found.docs {
        builder.add_macro_file(&file.name, origin)?;
    }
    notices.extend(found.notices.iter().cloned());
    let mut schemas = Vec::new();
    for origin in &found.schemas {
        let schema = schema_file::read(origin)?;
        notices.extend(schema.notices.iter().cloned());
        schemas.push(schema);
    }
    let mut parts = Parts { file, builder, nodes: Vec::new(), tests: Vec::new(), patches: BTreeMap::new(), notices };
    for schema in &schemas {
        parts.take_patches(&schema.patches)?;
    }
    parts.make_nodes(&found)?;
    for source in schemas.iter().flat_map(|schema| &schema.sources) {
        parts.make_source(source)?;
    }
    parts.make_tests()?;
    parts.finish()
}

/// A node before its config is settled.
struct Raw {
    node: Node,
    properties: Properties,
    properties_origin: Origin,
    place: Place,
    /// Of a generic test: its `config` in YAML.
    test_config: Option<Map<String, Json>>,
}

struct Parts<'a> {
    file: &'a ProjectFile,
    builder: EngineBuilder,
    nodes: Vec<Raw>,
    tests: Vec<Raw>,
    /// By kind and name.
    patches: BTreeMap<(u8, String), Patch>,
    notices: Vec<Notice>,
}

impl Parts<'_> {
    fn take_patches(&mut self, patches: &[Patch]) -> Result<(), ProjectError> {
        for patch in patches {
            let old = self.patches.insert((patch.kind as u8, patch.name.clone()), patch.clone());
            if let Some(old) = old {
                return Err(ProjectError::Duplicate {
                    what: "YAML entries",
                    name: patch.name.clone(),
                    places: vec![old.place, patch.place.clone()],
                });
            }
        }
        Ok(())
    }

    fn make_nodes(&mut self, found: &FileList) -> Result<(), ProjectError> {
        let mut seen: HashMap<String, Place> = HashMap::new();
        let groups = [(Kind::Model, &found.models), (Kind::Seed, &found.seeds), (Kind::Test, &found.tests)];
        for (kind, origins) in groups {
            for origin in origins {
                let raw = self.make_node(kind, origin)?;
                let place = Place::of(origin.path.to_string());
                let what = if kind == Kind::Test { "tests" } else { "models or seeds" };
                let old = seen.insert(format!("{what}:{}", raw.node.name), place.clone());
                if let Some(old) = old {
                    return Err(ProjectError::Duplicate { what, name: raw.node.name, places: vec![old, place] });
                }
                if kind == Kind::Test { self.tests.push(raw) } else { self.nodes.push(raw) }
            }
        }
        let left: Vec<Patch> = std::mem::take(&mut self.patches).into_values().collect();
        let names: Vec<&str> = self.nodes.iter().map(|raw| raw.node.name.as_str()).collect();
        for patch in left.iter().filter(|patch| patch.kind != PatchKind::Macro) {
            let near = nearest(&patch.name, names.iter().copied());
            let hint = near.map(|near| format!("; did you mean \"{near}\"?")).unwrap_or_default();
            let message = format!("\"{}\" is described here but there is no such file{hint}", patch.name);
            self.notices.push(notice(message, &patch.place));
        }
        Ok(())
    }

    fn make_node(&mut self, kind: Kind, origin: &Origin) -> Result<Raw, ProjectError> {
        let project = &self.file.name;
        let parts: Vec<&str> = origin.path.split('/').collect();
        let name = parts.last().map_or("", |file| file.rsplit_once('.').map_or(*file, |(stem, _)| stem)).to_owned();
        let (template, own_macros) = match kind {
            Kind::Model | Kind::Test => self.builder.add_node_file(project, origin)?,
            Kind::Seed | Kind::Source => (String::new(), Vec::new()),
        };
        let patch_kind = match kind {
            Kind::Model | Kind::Source => PatchKind::Model,
            Kind::Seed => PatchKind::Seed,
            Kind::Test => PatchKind::Test,
        };
        let patch = self.patches.remove(&(patch_kind as u8, name.clone()));
        let inner = parts.get(1..parts.len().saturating_sub(1)).unwrap_or_default();
        let fqn = [project.as_str()].into_iter().chain(inner.iter().copied()).chain([name.as_str()]);
        let test = (kind == Kind::Test).then(|| TestFacts {
            generic: None,
            namespace: None,
            arguments: Map::new(),
            column: None,
            attached: None,
        });
        let node = Node {
            unique_id: format!("{}.{project}.{name}", kind.as_str()),
            kind,
            materialized: match kind {
                Kind::Seed => Materialized::Seed,
                Kind::Test => Materialized::Test,
                Kind::Model | Kind::Source => Materialized::View,
            },
            package: project.clone(),
            path: origin.path.to_string(),
            fqn: fqn.map(str::to_owned).collect(),
            origin: origin.clone(),
            template,
            own_macros,
            config: NodeConfig::default(),
            relation: None,
            refs: Vec::new(),
            sources: Vec::new(),
            depends_on: Vec::new(),
            macros: Vec::new(),
            columns: patch.as_ref().map(|patch| patch.properties.columns.clone()).unwrap_or_default(),
            description: patch.as_ref().map(|patch| patch.properties.description.clone()).unwrap_or_default(),
            expectations: Vec::new(),
            test,
            place: Place::of(origin.path.to_string()),
            patch_path: patch.as_ref().map(|patch| patch.origin.path.to_string()),
            source: None,
            name,
        };
        Ok(Raw {
            place: patch.as_ref().map_or_else(|| node.place.clone(), |patch| patch.place.clone()),
            properties_origin: patch.as_ref().map_or_else(|| origin.clone(), |patch| patch.origin.clone()),
            properties: patch.map(|patch| patch.properties).unwrap_or_default(),
            node,
            test_config: None,
        })
    }

    fn make_source(&mut self, source: &SourceTable) -> Result<(), ProjectError> {
        let project = &self.file.name;
        let unique_id = format!("source.{project}.{}.{}", source.source, source.table);
        if let Some(old) = self.nodes.iter().find(|raw| raw.node.unique_id == unique_id) {
            return Err(ProjectError::Duplicate {
                what: "sources",
                name: format!("{}.{}", source.source, source.table),
                places: vec![old.place.clone(), source.place.clone()],
            });
        }
        let parts: Vec<&str> = source.origin.path.split('/').collect();
        let inner = parts.get(1..parts.len().saturating_sub(1)).unwrap_or_default();
        let fqn =
            [project.as_str()].into_iter().chain(inner.iter().copied()).chain([source.source.as_str(), &source.table]);
        let mut config = NodeConfig::default();
        config.values.insert("schema".into(), Json::from(source.schema.clone()));
        config.values.insert("alias".into(), Json::from(source.identifier.clone()));
        if let Some(database) = &source.database {
            config.values.insert("database".into(), Json::from(database.clone()));
        }
        let node = Node {
            unique_id,
            name: source.table.clone(),
            kind: Kind::Source,
            materialized: Materialized::Source,
            package: project.clone(),
            path: source.origin.path.to_string(),
            fqn: fqn.map(str::to_owned).collect(),
            origin: source.origin.clone(),
            template: String::new(),
            own_macros: Vec::new(),
            config,
            relation: None,
            refs: Vec::new(),
            sources: Vec::new(),
            depends_on: Vec::new(),
            macros: Vec::new(),
            columns: source.properties.columns.clone(),
            description: source.properties.description.clone(),
            expectations: Vec::new(),
            test: None,
            place: source.place.clone(),
            patch_path: None,
            source: Some((source.source.clone(), source.source_description.clone())),
        };
        self.nodes.push(Raw {
            node,
            properties: source.properties.clone(),
            properties_origin: source.origin.clone(),
            place: source.place.clone(),
            test_config: None,
        });
        Ok(())
    }

    fn make_tests(&mut self) -> Result<(), ProjectError> {
        for raw in &self.nodes {
            let node = &raw.node;
            let (name, relation) = match &node.source {
                Some((source, _)) => {
                    (format!("{source}_{}", node.name), format!("source('{source}', '{}')", node.name))
                }
                None => (node.name.clone(), format!("ref('{}')", node.name)),
            };
            let target = Target { unique_id: &node.unique_id, is_source: node.source.is_some(), name, relation };
            let of_columns = raw
                .properties
                .columns
                .iter()
                .flat_map(|column| column.tests.iter().map(move |test| (Some(column.name.as_str()), test)));
            let of_node = raw.properties.tests.iter().map(|test| (None, test));
            let entries: Vec<(Option<&str>, &TestEntry)> = of_columns.chain(of_node).collect();
            for (column, entry) in entries {
                let origin = &raw.properties_origin;
                let test = generic_test(&mut self.builder, &self.file.name, origin, &target, column, entry)?;
                if let Some(old) = self.tests.iter().find(|old| old.node.unique_id == test.unique_id) {
                    return Err(ProjectError::Duplicate {
                        what: "tests",
                        name: test.name,
                        places: vec![old.place.clone(), entry.place.clone()],
                    });
                }
                self.tests.push(Raw {
                    place: entry.place.clone(),
                    node: test,
                    properties: Properties::default(),
                    properties_origin: origin.clone(),
                    test_config: Some(entry.config.clone()),
                });
            }
        }
        Ok(())
    }

    /// Parses every node, settles configs and names, resolves edges.
    fn finish(self) -> Result<Loaded, ProjectError> {
        let Self { file, builder, nodes, tests, mut notices, .. } = self;
        let engine = builder.finish();
        refuse_blocks(&engine)?;
        let mut graph = Graph::default();
        for mut raw in nodes.into_iter().chain(tests) {
            settle(&engine, file, &mut raw)?;
            let node = raw.node;
            if !node.config.is_enabled() {
                graph.disabled.push((node.kind, node.name.clone(), node.unique_id.clone()));
                continue;
            }
            graph.nodes.insert(node.unique_id.clone(), node);
        }
        resolve(&mut graph, &mut notices)?;
        check_relations(&graph)?;
        check_cycles(&graph)?;
        graph.link();
        Ok(Loaded { graph, engine, notices })
    }
}

fn refuse_blocks(engine: &Engine) -> Result<(), ProjectError> {
    match engine.refused.iter().find(|(kind, ..)| *kind == BlockKind::Snapshot) {
        Some((_, name, place)) => Err(ProjectError::Unsupported {
            what: format!("snapshot \"{name}\""),
            instead: "keep history with an `incremental` model for now".into(),
            place: place.clone(),
        }),
        None => Ok(()),
    }
}

/// Parse render, config layers, materialization, expectations, names.
fn settle(engine: &Arc<Engine>, file: &ProjectFile, raw: &mut Raw) -> Result<(), ProjectError> {
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
            node.expectations = expectations(&yaml, node, &raw.properties_origin)?;
        }
        // The model's own head comes last, so it wins.
        (_, Some(config)) => node.expectations = parse_expectations(&config, node, &node.place)?,
        (_, None) => {}
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
        None | Some("default") => Ok(Strategy::Merge(keys)),
        Some("append") => Ok(Strategy::Append),
        Some("merge") if keys.is_empty() => {
            Err(bad("unique_key", "missing".into(), "name the key column: `unique_key: id`"))
        }
        Some("merge") => Ok(Strategy::Merge(keys)),
        Some("insert_overwrite") if node.config.texts("partition_by").is_empty() => {
            Err(bad("partition_by", "missing".into(), "name the partition column: `partition_by: day`"))
        }
        Some("insert_overwrite") => Ok(Strategy::InsertOverwrite),
        Some(word @ ("delete+insert" | "microbatch")) => Err(ProjectError::Unsupported {
            what: format!("incremental_strategy \"{word}\""),
            instead: "use `merge` with a `unique_key`, or `insert_overwrite` with `partition_by`".into(),
            place: config_place(node, "incremental_strategy"),
        }),
        Some(word) => {
            Err(bad("incremental_strategy", format!("\"{word}\""), "write append, merge or insert_overwrite"))
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

fn expectations(declared: &Yaml, node: &Node, origin: &Origin) -> Result<Vec<Expectation>, ProjectError> {
    let mut found = Vec::new();
    for item in declared.want_list("`expectations`", origin)? {
        if !matches!(item.kind, YamlKind::Map(_)) {
            return Err(item.wrong("an expectation", "a map with `name` and `expect`", origin));
        }
        found.extend(parse_expectations(&Json::Array(vec![item.to_json()]), node, &item.place(origin))?);
    }
    Ok(found)
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

/// Turns `ref` and `source` calls into edges.
fn resolve(graph: &mut Graph, notices: &mut Vec<Notice>) -> Result<(), ProjectError> {
    let mut edges: Vec<(String, Result<Vec<String>, ProjectError>)> = Vec::new();
    for node in graph.nodes.values() {
        edges.push((node.unique_id.clone(), edges_of(graph, node)));
    }
    for (id, found) in edges {
        match found {
            Ok(parents) => {
                if let Some(node) = graph.nodes.get_mut(&id) {
                    node.depends_on = parents;
                }
            }
            Err(ProjectError::DisabledNode { target, place, .. })
                if graph.nodes.get(&id).is_some_and(|node| node.kind == Kind::Test) =>
            {
                if let Some(node) = graph.nodes.shift_remove(&id) {
                    notices.push(notice(format!("test \"{}\" is off, as {target} is disabled", node.name), &place));
                    graph.disabled.push((node.kind, node.name, node.unique_id));
                }
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn edges_of(graph: &Graph, node: &Node) -> Result<Vec<String>, ProjectError> {
    let mut parents: Vec<String> = Vec::new();
    let mut add = |id: &str| {
        if !parents.iter().any(|known| known == id) {
            parents.push(id.to_owned());
        }
    };
    for call in &node.refs {
        let target = format!("model \"{}\"", call.name);
        let place = call_place(node, "ref", &call.name);
        match graph.find_ref(call) {
            Some(found) => add(&found.unique_id),
            None if is_disabled(graph, &call.name) => {
                return Err(ProjectError::DisabledNode { subject: node.subject(), target, place });
            }
            None => {
                let names = graph.nodes.values().filter(|node| matches!(node.kind, Kind::Model | Kind::Seed));
                let fix = match nearest(&call.name, names.map(|node| node.name.as_str())) {
                    Some(near) => format!("did you mean \"{near}\"?"),
                    None => format!("add `{}.sql` to a model path, or correct the name", call.name),
                };
                return Err(ProjectError::UnknownNode { subject: node.subject(), target, place, fix });
            }
        }
    }
    for call in &node.sources {
        let name = format!("{}.{}", call.source, call.table);
        let target = format!("source \"{name}\"");
        let place = call_place(node, "source", &call.table);
        match graph.find_source(call) {
            Some(found) => add(&found.unique_id),
            None => {
                let known = graph
                    .nodes
                    .values()
                    .filter_map(|node| node.source.as_ref().map(|(source, _)| format!("{source}.{}", node.name)));
                let known: Vec<String> = known.collect();
                let fix = match nearest(&name, known.iter().map(String::as_str)) {
                    Some(near) => format!("did you mean \"{near}\"?"),
                    None => format!(
                        "declare it under `sources:` with `name: {}` and `tables: [{{name: {}}}]`",
                        call.source, call.table
                    ),
                };
                return Err(ProjectError::UnknownNode { subject: node.subject(), target, place, fix });
            }
        }
    }
    Ok(parents)
}

fn is_disabled(graph: &Graph, name: &str) -> bool {
    graph.disabled.iter().any(|(kind, known, _)| *kind != Kind::Test && known == name)
}

/// Where a call stands in the node's file: the first `function` whose line also holds the name in quotes.
pub(crate) fn call_place(node: &Node, function: &str, name: &str) -> Place {
    if node.test.as_ref().is_some_and(|test| test.generic.is_some()) {
        return node.place.clone();
    }
    let text = &node.origin.text;
    for quoted in [format!("'{name}'"), format!("\"{name}\"")] {
        let mut from = 0;
        while let Some(found) = text.get(from..).and_then(|rest| rest.find(&quoted)).map(|at| from + at) {
            let before = text.get(..found).unwrap_or_default();
            if let Some(call) = before.rfind(function)
                && before.get(call..).is_some_and(|between| !between.contains(')'))
            {
                return Place::at_offset(node.path.clone(), text, found);
            }
            from = found + quoted.len();
        }
    }
    node.place.clone()
}

fn check_relations(graph: &Graph) -> Result<(), ProjectError> {
    let mut seen: HashMap<&TableName, &Node> = HashMap::new();
    for node in graph.nodes.values().filter(|node| matches!(node.kind, Kind::Model | Kind::Seed)) {
        let Some(relation) = &node.relation else { continue };
        if let Some(old) = seen.insert(relation, node) {
            return Err(ProjectError::Duplicate {
                what: "nodes would write one table: they",
                name: relation.to_string(),
                places: vec![old.place.clone(), node.place.clone()],
            });
        }
    }
    Ok(())
}

fn check_cycles(graph: &Graph) -> Result<(), ProjectError> {
    let dag_nodes = graph.nodes.values().map(|node| DagNode {
        name: node.unique_id.clone(),
        weight: 1.0,
        after: node.depends_on.iter().filter_map(|parent| graph.nodes.get_index_of(parent)).collect(),
    });
    let Err(cycle) = Dag::new(dag_nodes.collect()) else { return Ok(()) };
    let node = |id: &String| graph.nodes.get(id);
    let path = cycle.path.iter().map(|id| node(id).map_or_else(|| id.clone(), |node| node.name.clone())).collect();
    let places = cycle.path.windows(2).filter_map(|pair| {
        let (from, to) = (node(pair.first()?)?, node(pair.last()?)?);
        Some(call_place(from, "ref", &to.name))
    });
    Err(ProjectError::Cycle { path, places: places.collect() })
}
