//! From a folder to a graph: read files, parse each node once, resolve names.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;

use serde_json::{Map, Value as Json};

use lode_core::{Place, nearest};

use super::node::{Graph, Kind, Materialized, Node, TestFacts};
use super::resolve::{check_cycles, check_relations, resolve};
use super::settle::settle;
use super::tests_of::{Target, generic_test};
use crate::config::node_config::NodeConfig;
use crate::config::project_file::{ProjectFile, notice};
use crate::config::schema_file::{self, Patch, PatchKind, Properties, SourceTable, TestEntry};
use crate::config::yaml::Origin;
use crate::error::ProjectError;
use crate::files::{self, FileList};
use crate::jinja::block::BlockKind;
use crate::jinja::{Engine, EngineBuilder, Settings};
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
pub(super) struct Raw {
    pub(super) node: Node,
    pub(super) properties: Properties,
    pub(super) properties_origin: Origin,
    pub(super) place: Place,
    /// Of a generic test: its `config` in YAML.
    pub(super) test_config: Option<Map<String, Json>>,
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
            expectation_places: Vec::new(),
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
            expectation_places: Vec::new(),
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
