//! dbt's selection words: `name`, `+name+2`, `@name`, `tag:x,config.materialized:table`, `path:models/gold`.

use std::collections::BTreeSet;

use globset::{Glob, GlobMatcher};

use lode_core::nearest;

use super::node::{Graph, Kind, Node};
use crate::error::ProjectError;

/// The nodes that `select` without `exclude` means, by unique id; also the words that matched nothing.
/// An empty `select` means all. Tests come along with any selected parent.
pub(crate) fn select(
    graph: &Graph,
    select: &[String],
    exclude: &[String],
) -> Result<(BTreeSet<String>, Vec<String>), ProjectError> {
    let mut unmatched = Vec::new();
    let mut chosen = if select.iter().all(|word| word.trim().is_empty()) {
        graph.nodes.keys().cloned().collect()
    } else {
        union(graph, select, &mut unmatched)?
    };
    if !exclude.is_empty() {
        let excluded = union(graph, exclude, &mut Vec::new())?;
        chosen.retain(|id| !excluded.contains(id));
    }
    Ok((chosen, unmatched))
}

fn union(graph: &Graph, words: &[String], unmatched: &mut Vec<String>) -> Result<BTreeSet<String>, ProjectError> {
    let mut found = BTreeSet::new();
    for word in words.iter().flat_map(|words| words.split_whitespace()) {
        let mut parts = word.split(',').filter(|part| !part.is_empty());
        let first = parts.next().ok_or_else(|| fault(word, "it is empty"))?;
        let mut ids = with_tests(graph, one(graph, first)?);
        for part in parts {
            let more = with_tests(graph, one(graph, part)?);
            ids.retain(|id| more.contains(id));
        }
        if ids.is_empty() {
            unmatched.push(word.to_owned());
        }
        found.extend(ids);
    }
    Ok(found)
}

/// Adds every test that has a parent in the set.
fn with_tests(graph: &Graph, mut ids: BTreeSet<String>) -> BTreeSet<String> {
    let tests = graph.nodes.values().filter(|node| node.kind == Kind::Test);
    let added: Vec<String> = tests
        .filter(|test| test.depends_on.iter().any(|parent| ids.contains(parent)))
        .map(|test| test.unique_id.clone())
        .collect();
    ids.extend(added);
    ids
}

fn fault(text: &str, reason: &str) -> ProjectError {
    ProjectError::Selector {
        text: text.to_owned(),
        reason: reason.to_owned(),
        fix: "write a name, `tag:x`, `path:models/gold`, `source:shop`, `config.materialized:table`, with `+` before or after"
            .to_owned(),
    }
}

/// One word without commas.
fn one(graph: &Graph, word: &str) -> Result<BTreeSet<String>, ProjectError> {
    let (at, rest) = word.strip_prefix('@').map_or((false, word), |rest| (true, rest));
    let (parents, rest) = leading(rest);
    let (children, rest) = trailing(rest);
    if at && children.is_some() {
        return Err(fault(word, "`@` and a trailing `+` do not go together"));
    }
    if rest.is_empty() {
        return Err(fault(word, "it names nothing"));
    }
    let matched: Vec<&Node> = matching(graph, rest)?;
    let mut found: BTreeSet<String> = matched.iter().map(|node| node.unique_id.clone()).collect();
    for node in matched {
        if at {
            let down = graph.descendants(&node.unique_id, None);
            for id in down.iter().copied().chain([node.unique_id.as_str()]) {
                found.insert(id.to_owned());
                found.extend(graph.ancestors(id, None).into_iter().map(str::to_owned));
            }
        }
        if let Some(depth) = parents {
            found.extend(graph.ancestors(&node.unique_id, depth).into_iter().map(str::to_owned));
        }
        if let Some(depth) = children {
            found.extend(graph.descendants(&node.unique_id, depth).into_iter().map(str::to_owned));
        }
    }
    Ok(found)
}

type Depth = Option<Option<usize>>;

/// `2+rest`, `+rest`.
fn leading(word: &str) -> (Depth, &str) {
    match word.split_once('+') {
        Some(("", rest)) => (Some(None), rest),
        Some((number, rest)) if number.chars().all(|c| c.is_ascii_digit()) => (Some(number.parse().ok()), rest),
        _ => (None, word),
    }
}

/// `rest+2`, `rest+`.
fn trailing(word: &str) -> (Depth, &str) {
    match word.rsplit_once('+') {
        Some((rest, "")) => (Some(None), rest),
        Some((rest, number)) if number.chars().all(|c| c.is_ascii_digit()) => (Some(number.parse().ok()), rest),
        _ => (None, word),
    }
}

const METHODS: &[&str] =
    &["fqn", "name", "tag", "path", "file", "config", "source", "resource_type", "package", "test_type", "test_name"];

fn matching<'a>(graph: &'a Graph, word: &str) -> Result<Vec<&'a Node>, ProjectError> {
    let (method, value) = match word.split_once(':') {
        Some((method, value)) => (method, value),
        None if word.contains('/') => ("path", word),
        None if [".sql", ".csv", ".yml", ".yaml"].iter().any(|end| word.ends_with(end)) => ("file", word),
        None => ("fqn", word),
    };
    let (method, argument) = method.split_once('.').map_or((method, None), |(method, rest)| (method, Some(rest)));
    let nodes = graph.nodes.values();
    let glob = pattern(value)?;
    let found: Vec<&Node> = match method {
        "fqn" | "name" => nodes.filter(|node| node.kind != Kind::Source && is_named(node, value)).collect(),
        "tag" => nodes.filter(|node| tags(node).iter().any(|tag| glob.is_match(tag))).collect(),
        "path" => nodes.filter(|node| is_below(&node.path, value, &glob)).collect(),
        "file" => nodes.filter(|node| is_file(&node.path, &glob)).collect(),
        "config" => {
            let key = argument.ok_or_else(|| fault(word, "write `config.<key>:<value>`"))?;
            nodes.filter(|node| config_matches(node, key, &glob)).collect()
        }
        "source" => nodes.filter(|node| is_source(node, value)).collect(),
        "resource_type" => nodes.filter(|node| node.kind.as_str() == value).collect(),
        "package" => nodes.filter(|node| glob.is_match(&node.package) || (value == "this")).collect(),
        "test_type" => nodes
            .filter(|node| match (&node.test, value) {
                (Some(test), "generic") => test.generic.is_some(),
                (Some(test), "singular") => test.generic.is_none(),
                (Some(_), "data") => true,
                _ => false,
            })
            .collect(),
        "test_name" => {
            let is_it = |node: &&Node| {
                node.test.as_ref().and_then(|test| test.generic.as_ref()).is_some_and(|name| glob.is_match(name))
            };
            nodes.filter(is_it).collect()
        }
        unknown => {
            let near = nearest(unknown, METHODS.iter().copied()).map(|near| format!("did you mean \"{near}:\"?"));
            return Err(ProjectError::Selector {
                text: word.to_owned(),
                reason: format!("\"{unknown}\" is not a selection method"),
                fix: near.unwrap_or_else(|| format!("use one of: {}", METHODS.join(", "))),
            });
        }
    };
    Ok(found)
}

fn pattern(text: &str) -> Result<GlobMatcher, ProjectError> {
    let glob = Glob::new(text).map_err(|error| fault(text, &error.to_string()))?;
    Ok(glob.compile_matcher())
}

/// Source: dbt-core, `is_selected_node`: the name itself, or a prefix of the fqn with or without the package.
fn is_named(node: &Node, value: &str) -> bool {
    let is_glob = value.contains(['*', '?', '[']);
    if node.name == value || (is_glob && matches(value, &node.name)) {
        return true;
    }
    let wanted: Vec<&str> = value.split('.').collect();
    let fqn: Vec<&str> = node.fqn.iter().flat_map(|part| part.split('.')).collect();
    [fqn.as_slice(), fqn.get(1..).unwrap_or_default()]
        .into_iter()
        .any(|fqn| wanted.len() <= fqn.len() && wanted.iter().zip(fqn).all(|(wanted, part)| matches(wanted, part)))
}

fn matches(pattern: &str, text: &str) -> bool {
    Glob::new(pattern).is_ok_and(|glob| glob.compile_matcher().is_match(text))
}

fn tags(node: &Node) -> Vec<String> {
    node.config.tags()
}

fn is_below(path: &str, value: &str, glob: &GlobMatcher) -> bool {
    let folder = value.trim_end_matches('/').trim_start_matches("./");
    path == folder || path.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/')) || glob.is_match(path)
}

fn is_file(path: &str, glob: &GlobMatcher) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    glob.is_match(name) || glob.is_match(name.rsplit_once('.').map_or(name, |(stem, _)| stem))
}

fn config_matches(node: &Node, key: &str, glob: &GlobMatcher) -> bool {
    if key == "materialized" {
        return glob.is_match(node.materialized.as_str());
    }
    let mut value = node.config.values.get(key);
    if value.is_none() {
        // `config.meta.owner`
        let mut parts = key.split('.');
        value = parts.next().and_then(|first| node.config.values.get(first));
        for part in parts {
            value = value.and_then(|value| value.get(part));
        }
    }
    match value {
        Some(serde_json::Value::String(text)) => glob.is_match(text),
        Some(serde_json::Value::Array(items)) => {
            items.iter().any(|item| item.as_str().is_some_and(|text| glob.is_match(text)))
        }
        Some(other) => glob.is_match(other.to_string()),
        None => false,
    }
}

fn is_source(node: &Node, value: &str) -> bool {
    let Some((source, _)) = &node.source else { return false };
    match value.rsplit_once('.') {
        Some((wanted, table)) => {
            matches(wanted.rsplit('.').next().unwrap_or(wanted), source) && matches(table, &node.name)
        }
        None => matches(value, source),
    }
}
