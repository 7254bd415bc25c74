//! One node, and the graph of all.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use indexmap::IndexMap;
use serde_json::{Map, Value as Json, json};

use lode_core::{Expectation, Place, TableName};

use crate::config::node_config::NodeConfig;
use crate::config::schema_file::Column;
use crate::config::yaml::Origin;
use crate::jinja::engine::MacroDef;
use crate::jinja::{NodeFacts, RefCall, SourceCall};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Kind {
    Source,
    Seed,
    Model,
    Test,
}

impl Kind {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Source => "source",
            Self::Seed => "seed",
            Self::Model => "model",
            Self::Test => "test",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Materialized {
    View,
    Table,
    Incremental(Strategy),
    Ephemeral,
    Seed,
    Test,
    Source,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Strategy {
    Append,
    /// Rows of known keys replace the old ones. dbt's `merge` takes one row of a key, its default and `delete+insert` keep
    /// all new ones.
    Merge {
        keys: Vec<String>,
        keeps_all: bool,
    },
    /// Partitions that the rows touch become those rows.
    InsertOverwrite,
}

impl Materialized {
    pub(crate) const fn as_str(&self) -> &'static str {
        match self {
            Self::View => "view",
            Self::Table => "table",
            Self::Incremental(_) => "incremental",
            Self::Ephemeral => "ephemeral",
            Self::Seed => "seed",
            Self::Test => "test",
            Self::Source => "source",
        }
    }
}

/// What makes a test out of a node.
#[derive(Debug, Clone)]
pub(crate) struct TestFacts {
    /// `not_null`; `None` for a singular test.
    pub(crate) generic: Option<String>,
    pub(crate) namespace: Option<String>,
    /// Arguments as written, with `model` and `column_name`.
    pub(crate) arguments: Map<String, Json>,
    pub(crate) column: Option<String>,
    /// The node that it was written at.
    pub(crate) attached: Option<String>,
}

#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) unique_id: String,
    pub(crate) name: String,
    pub(crate) kind: Kind,
    pub(crate) materialized: Materialized,
    pub(crate) package: String,
    /// Relative to the project, with `/`.
    pub(crate) path: String,
    pub(crate) fqn: Vec<String>,
    pub(crate) origin: Origin,
    /// Template to render; empty for seeds and sources.
    pub(crate) template: String,
    pub(crate) own_macros: Vec<Arc<MacroDef>>,
    pub(crate) config: NodeConfig,
    /// Where it is made; `None` for tests and ephemeral models.
    pub(crate) relation: Option<TableName>,
    pub(crate) refs: Vec<RefCall>,
    pub(crate) sources: Vec<SourceCall>,
    pub(crate) depends_on: Vec<String>,
    pub(crate) macros: Vec<String>,
    pub(crate) columns: Vec<Column>,
    pub(crate) description: String,
    pub(crate) expectations: Vec<Expectation>,
    /// Where each is declared.
    pub(crate) expectation_places: Vec<Place>,
    pub(crate) test: Option<TestFacts>,
    /// Where it is defined.
    pub(crate) place: Place,
    /// The YAML file that describes it.
    pub(crate) patch_path: Option<String>,
    /// Of a source: its name, and what YAML says of it.
    pub(crate) source: Option<(String, String)>,
}

impl Node {
    pub(crate) fn subject(&self) -> String {
        format!("{} \"{}\"", self.kind.as_str(), self.name)
    }

    pub(crate) fn facts(&self) -> NodeFacts {
        NodeFacts {
            unique_id: self.unique_id.clone(),
            name: self.name.clone(),
            package: self.package.clone(),
            resource_type: self.kind.as_str().to_owned(),
            path: self.path.clone(),
            fqn: self.fqn.clone(),
            relation: self.relation.clone(),
            config: self.config.values.clone(),
            columns: columns_json(&self.columns),
            description: self.description.clone(),
        }
    }
}

pub(crate) fn columns_json(columns: &[Column]) -> Json {
    let entries = columns.iter().map(|column| {
        let value = json!({
            "name": column.name,
            "description": column.description,
            "meta": column.meta,
            "data_type": column.data_type,
            "constraints": [],
            "quote": column.quote,
            "tags": column.tags,
        });
        (column.name.clone(), value)
    });
    Json::Object(entries.collect())
}

/// All enabled nodes, by unique id in load order.
#[derive(Debug, Default)]
pub(crate) struct Graph {
    pub(crate) nodes: IndexMap<String, Node>,
    /// Names and unique ids of nodes that are turned off.
    pub(crate) disabled: Vec<(Kind, String, String)>,
    pub(crate) children: BTreeMap<String, Vec<String>>,
}

impl Graph {
    /// Fills `children` from `depends_on`.
    pub(crate) fn link(&mut self) {
        let mut children: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for node in self.nodes.values() {
            children.entry(node.unique_id.clone()).or_default();
            for parent in &node.depends_on {
                children.entry(parent.clone()).or_default().push(node.unique_id.clone());
            }
        }
        self.children = children;
    }

    pub(crate) fn parents_of(&self, id: &str) -> &[String] {
        self.nodes.get(id).map_or(&[], |node| &node.depends_on)
    }

    pub(crate) fn children_of(&self, id: &str) -> &[String] {
        self.children.get(id).map_or(&[], Vec::as_slice)
    }

    /// All nodes reached from `start` over `next`, at most `depth` steps away, without `start`.
    pub(crate) fn reach<'a>(
        &'a self,
        start: &'a str,
        depth: Option<usize>,
        next: impl Fn(&'a str) -> &'a [String],
    ) -> BTreeSet<&'a str> {
        let mut found = BTreeSet::new();
        let mut front = vec![start];
        let mut steps = 0;
        while !front.is_empty() && depth.is_none_or(|depth| steps < depth) {
            let mut ahead = Vec::new();
            for id in front {
                ahead.extend(next(id).iter().map(String::as_str).filter(|id| found.insert(*id)));
            }
            front = ahead;
            steps += 1;
        }
        found
    }

    pub(crate) fn ancestors<'a>(&'a self, id: &'a str, depth: Option<usize>) -> BTreeSet<&'a str> {
        self.reach(id, depth, |id| self.parents_of(id))
    }

    pub(crate) fn descendants<'a>(&'a self, id: &'a str, depth: Option<usize>) -> BTreeSet<&'a str> {
        self.reach(id, depth, |id| self.children_of(id))
    }

    /// The node that `ref` means: a model or seed of that name.
    pub(crate) fn find_ref(&self, call: &RefCall) -> Option<&Node> {
        self.nodes.values().find(|node| {
            matches!(node.kind, Kind::Model | Kind::Seed)
                && node.name == call.name
                && call.package.as_ref().is_none_or(|package| *package == node.package)
        })
    }

    pub(crate) fn find_source(&self, call: &SourceCall) -> Option<&Node> {
        self.nodes.values().find(|node| {
            node.source.as_ref().is_some_and(|(source, _)| *source == call.source) && node.name == call.table
        })
    }
}
