//! Names become edges; what cannot be a graph is refused.

use std::collections::HashMap;

use lode_core::{Place, TableName, nearest};
use lode_jobs::{Dag, DagNode};

use super::node::{Graph, Kind, Node};
use crate::config::project_file::notice;
use crate::error::ProjectError;
use crate::project::Notice;

/// Turns `ref` and `source` calls into edges.
pub(super) fn resolve(graph: &mut Graph, notices: &mut Vec<Notice>) -> Result<(), ProjectError> {
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
fn call_place(node: &Node, function: &str, name: &str) -> Place {
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

pub(super) fn check_relations(graph: &Graph) -> Result<(), ProjectError> {
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

pub(super) fn check_cycles(graph: &Graph) -> Result<(), ProjectError> {
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
