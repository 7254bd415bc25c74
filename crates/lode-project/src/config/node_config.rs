//! The config of a node: a map of dbt's keys, and how layers of it combine.

use serde_json::{Map, Value as Json};

/// A config as written, later layers over earlier ones. Keys have underscores.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct NodeConfig {
    pub(crate) values: Map<String, Json>,
}

/// Lists that grow from layer to layer.
const APPEND: &[&str] = &["tags", "pre_hook", "post_hook", "packages"];
/// Maps whose entries combine.
const MERGE: &[&str] = &["meta", "docs", "persist_docs", "quoting", "column_types", "grants"];

impl NodeConfig {
    /// Puts a layer over this one: some keys append or merge, all others replace.
    pub(crate) fn apply(&mut self, layer: &Map<String, Json>) {
        for (key, value) in layer {
            let key = normal(key);
            if APPEND.contains(&key.as_str()) {
                let mut list = as_list(self.values.get(&key));
                for item in as_list(Some(value)) {
                    if key != "tags" || !list.contains(&item) {
                        list.push(item);
                    }
                }
                self.values.insert(key, Json::Array(list));
            } else if let (true, Json::Object(new)) = (MERGE.contains(&key.as_str()), value) {
                let old = self.values.entry(key).or_insert_with(|| Json::Object(Map::new()));
                match old {
                    Json::Object(old) => merge(old, new),
                    other => *other = value.clone(),
                }
            } else {
                self.values.insert(key, value.clone());
            }
        }
    }

    pub(crate) fn get(&self, key: &str) -> Option<&Json> {
        self.values.get(key).filter(|value| !value.is_null())
    }

    pub(crate) fn text(&self, key: &str) -> Option<&str> {
        self.get(key)?.as_str()
    }

    /// A text, or a list of texts.
    pub(crate) fn texts(&self, key: &str) -> Vec<String> {
        as_list(self.get(key)).iter().filter_map(|item| item.as_str().map(str::to_owned)).collect()
    }

    pub(crate) fn flag(&self, key: &str) -> Option<bool> {
        match self.get(key)? {
            Json::Bool(value) => Some(*value),
            Json::String(text) => match text.to_lowercase().as_str() {
                "true" | "yes" | "on" => Some(true),
                "false" | "no" | "off" => Some(false),
                _ => None,
            },
            _ => None,
        }
    }

    pub(crate) fn is_enabled(&self) -> bool {
        self.flag("enabled").unwrap_or(true)
    }

    pub(crate) fn tags(&self) -> Vec<String> {
        self.texts("tags")
    }
}

/// `pre-hook` is `pre_hook`; a `+` in front is only a mark.
pub(crate) fn normal(key: &str) -> String {
    let key = key.strip_prefix('+').unwrap_or(key).trim();
    match key {
        "pre-hook" => "pre_hook".to_owned(),
        "post-hook" => "post_hook".to_owned(),
        other => other.to_owned(),
    }
}

fn as_list(value: Option<&Json>) -> Vec<Json> {
    match value {
        None | Some(Json::Null) => Vec::new(),
        Some(Json::Array(items)) => items.clone(),
        Some(other) => vec![other.clone()],
    }
}

/// Entry by entry; a key `+role` appends to the list of `role` (grants).
fn merge(old: &mut Map<String, Json>, new: &Map<String, Json>) {
    for (key, value) in new {
        match key.strip_prefix('+') {
            Some(plain) => {
                let mut list = as_list(old.get(plain));
                list.extend(as_list(Some(value)));
                old.insert(plain.to_owned(), Json::Array(list));
            }
            None => {
                old.insert(key.clone(), value.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn layers(layers: &[Json]) -> Json {
        let mut config = NodeConfig::default();
        for layer in layers {
            config.apply(layer.as_object().unwrap());
        }
        Json::Object(config.values)
    }

    #[test]
    fn tags_and_hooks_append_meta_merges_the_rest_replaces() {
        let all = layers(&[
            json!({"tags": "a", "meta": {"x": 1, "y": 1}, "materialized": "view", "pre-hook": "one"}),
            json!({"tags": ["b", "a"], "meta": {"y": 2}, "materialized": "table", "pre_hook": ["two"]}),
        ]);
        assert_eq!(
            all,
            json!({"tags": ["a", "b"], "meta": {"x": 1, "y": 2}, "materialized": "table", "pre_hook": ["one", "two"]})
        );
    }

    #[test]
    fn grants_append_with_a_plus() {
        let all = layers(&[json!({"grants": {"select": ["a"]}}), json!({"grants": {"+select": ["b"]}})]);
        assert_eq!(all, json!({"grants": {"select": ["a", "b"]}}));
    }
}
