//! `dbt_project.yml`.

use serde_json::{Map, Value as Json};

use lode_core::{Place, nearest};

use super::yaml::{Kind, Origin, Yaml, parse};
use crate::error::ProjectError;
use crate::project::Notice;

#[derive(Debug)]
pub(crate) struct ProjectFile {
    pub(crate) name: String,
    pub(crate) origin: Origin,
    pub(crate) model_paths: Vec<String>,
    pub(crate) seed_paths: Vec<String>,
    pub(crate) test_paths: Vec<String>,
    pub(crate) macro_paths: Vec<String>,
    /// Read for files that are refused by name when they are used.
    pub(crate) snapshot_paths: Vec<String>,
    pub(crate) docs_paths: Vec<String>,
    pub(crate) target_path: String,
    pub(crate) vars: Map<String, Json>,
    /// Config trees by section: `models`, `seeds`, `sources`, `data_tests`, `snapshots`.
    pub(crate) trees: Vec<(&'static str, Yaml)>,
    /// `dispatch:` search orders by macro namespace.
    pub(crate) dispatch: Vec<(String, Vec<String>)>,
    pub(crate) notices: Vec<Notice>,
}

/// Keys that dbt 1.11 knows, hyphens as underscores.
const KNOWN: &[&str] = &[
    "name",
    "version",
    "config_version",
    "profile",
    "model_paths",
    "seed_paths",
    "test_paths",
    "macro_paths",
    "analysis_paths",
    "snapshot_paths",
    "docs_paths",
    "asset_paths",
    "function_paths",
    "target_path",
    "log_path",
    "packages_install_path",
    "clean_targets",
    "vars",
    "models",
    "seeds",
    "snapshots",
    "tests",
    "data_tests",
    "sources",
    "metrics",
    "semantic_models",
    "saved_queries",
    "exposures",
    "unit_tests",
    "functions",
    "on_run_start",
    "on_run_end",
    "dispatch",
    "flags",
    "query_comment",
    "require_dbt_version",
    "quoting",
    "restrict_access",
    "dbt_cloud",
    "packages",
    "static_analysis",
    "groups",
    "analyses",
    "source_paths",
    "data_paths",
];

/// Parses the text of a `dbt_project.yml`.
pub(crate) fn read(origin: Origin) -> Result<ProjectFile, ProjectError> {
    let yaml = parse(&origin)?;
    yaml.want_map("dbt_project.yml", &origin)?;
    let mut notices = Vec::new();
    for (key, _) in yaml.entries() {
        let plain = key.text.replace('-', "_");
        if !KNOWN.contains(&plain.as_str()) {
            let near = nearest(&plain, KNOWN.iter().copied());
            let hint = near.map(|near| format!("; did you mean \"{}\"?", near.replace('_', "-"))).unwrap_or_default();
            notices.push(notice(
                format!("unknown key \"{}\" in dbt_project.yml has no effect{hint}", key.text),
                &origin.place(key.line, key.column),
            ));
        }
    }
    let get = |key: &str| yaml.get(key).or_else(|| yaml.get(&key.replace('_', "-")));
    let name_yaml = get("name").ok_or_else(|| ProjectError::MissingKey {
        key: "name",
        subject: "dbt_project.yml".into(),
        place: Place::of(origin.path.to_string()),
    })?;
    let name = name_yaml.want_str("the project's name", &origin)?.to_owned();
    let is_word =
        name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') && !name.starts_with(|c: char| c.is_ascii_digit());
    if !is_word || name.is_empty() {
        return Err(ProjectError::BadName {
            name,
            reason: "a project's name is one word",
            place: name_yaml.place(&origin),
        });
    }
    if let Some(profile) = get("profile") {
        notices.push(notice("`profile` has no effect: Lode is its own warehouse".into(), &profile.place(&origin)));
    }
    let paths = |key: &str, old: &str, default: &str| -> Result<Vec<String>, ProjectError> {
        match get(key).or_else(|| get(old)) {
            None => Ok(vec![default.to_owned()]),
            Some(value) => texts(value, key, &origin),
        }
    };
    let hooks = |key: &str| get(key).map_or(Ok(Vec::new()), |value| texts(value, key, &origin));
    let (on_run_start, on_run_end) = (hooks("on_run_start")?, hooks("on_run_end")?);
    for (key, list) in [("on-run-start", &on_run_start), ("on-run-end", &on_run_end)] {
        if !list.is_empty() {
            notices.push(notice(format!("`{key}` is read but does not run yet"), &Place::of(origin.path.to_string())));
        }
    }
    let mut trees = Vec::new();
    for section in ["models", "seeds", "sources", "snapshots", "data_tests"] {
        let value = get(section).or_else(|| if section == "data_tests" { get("tests") } else { None });
        if let Some(value) = value {
            value.want_map(&format!("`{section}`"), &origin)?;
            trees.push((section, value.clone()));
        }
    }
    let vars = match get("vars") {
        None => Map::new(),
        Some(value) => {
            value.want_map("`vars`", &origin)?;
            value.to_json().as_object().cloned().unwrap_or_default()
        }
    };
    Ok(ProjectFile {
        model_paths: paths("model_paths", "source_paths", "models")?,
        seed_paths: paths("seed_paths", "data_paths", "seeds")?,
        test_paths: paths("test_paths", "test_paths", "tests")?,
        macro_paths: paths("macro_paths", "macro_paths", "macros")?,
        snapshot_paths: paths("snapshot_paths", "snapshot_paths", "snapshots")?,
        docs_paths: get("docs_paths").map_or(Ok(Vec::new()), |value| texts(value, "docs_paths", &origin))?,
        target_path: get("target_path").and_then(|value| value.as_str()).unwrap_or("target").to_owned(),
        dispatch: dispatch(get("dispatch"), &origin)?,
        name,
        vars,
        trees,
        notices,
        origin,
    })
}

fn dispatch(value: Option<&Yaml>, origin: &Origin) -> Result<Vec<(String, Vec<String>)>, ProjectError> {
    let mut found = Vec::new();
    for entry in value.map_or(Ok(&[] as &[Yaml]), |value| value.want_list("`dispatch`", origin))? {
        let namespace = entry.get("macro_namespace").and_then(Yaml::as_str);
        let order = entry.get("search_order");
        if let (Some(namespace), Some(order)) = (namespace, order) {
            found.push((namespace.to_owned(), texts(order, "search_order", origin)?));
        }
    }
    Ok(found)
}

fn texts(value: &Yaml, subject: &str, origin: &Origin) -> Result<Vec<String>, ProjectError> {
    match &value.kind {
        Kind::Text(text) => Ok(vec![text.clone()]),
        Kind::Null => Ok(Vec::new()),
        Kind::List(items) => items
            .iter()
            .map(|item| item.want_str(&format!("an item of `{subject}`"), origin).map(str::to_owned))
            .collect(),
        _ => Err(value.wrong(&format!("`{subject}`"), "a list of texts", origin)),
    }
}

pub(crate) fn notice(message: String, place: &Place) -> Notice {
    Notice { message, place: Some(place.to_string()) }
}

/// The layers that a section's tree holds for a node, general to specific. `fqn` starts with the package.
/// Source: dbt walks the tree along the fqn; a key with a map and without `+` is a folder, everything else a config.
pub(crate) fn tree_layers<'a>(tree: &'a Yaml, fqn: &[String]) -> Vec<Vec<(&'a str, &'a Yaml)>> {
    let mut layers = Vec::new();
    let mut level = Some(tree);
    let mut rest = fqn.iter();
    while let Some(here) = level {
        let configs = here.entries().iter().filter(|(key, value)| key.text.starts_with('+') || !value.is_map());
        layers.push(configs.map(|(key, value)| (key.text.trim_start_matches('+').trim(), value)).collect());
        level = rest.next().and_then(|part| here.get(part)).filter(|next| next.is_map());
    }
    layers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_spellings_are_read_and_unknown_keys_noticed() {
        let file =
            read(Origin::new("dbt_project.yml", "name: shop\nmodel_paths: [m]\nseed-paths: s\nmodles: {}\n")).unwrap();
        assert_eq!((file.model_paths, file.seed_paths), (vec!["m".to_owned()], vec!["s".to_owned()]));
        assert!(file.notices[0].message.contains("did you mean \"models\""), "{:?}", file.notices);
        assert_eq!(file.notices[0].place.as_deref(), Some("dbt_project.yml:4:1"));
    }

    #[test]
    fn a_project_needs_a_name_that_is_a_word() {
        let error = read(Origin::new("dbt_project.yml", "name: my-shop\n")).unwrap_err();
        assert!(matches!(error, ProjectError::BadName { .. }), "{error}");
        assert!(matches!(read(Origin::new("dbt_project.yml", "")).unwrap_err(), ProjectError::MissingKey { .. }));
    }

    #[test]
    fn the_tree_is_walked_along_the_fqn() {
        let origin = Origin::new("p", "+a: 1\nshop:\n  b: 2\n  gold:\n    +meta: {x: 1}\n    c: 3\n");
        let tree = parse(&origin).unwrap();
        let fqn = ["shop".to_owned(), "gold".to_owned(), "trips".to_owned()];
        let layers = tree_layers(&tree, &fqn);
        let keys: Vec<Vec<&str>> = layers.iter().map(|layer| layer.iter().map(|(key, _)| *key).collect()).collect();
        assert_eq!(keys, [vec!["a"], vec!["b"], vec!["meta", "c"]]);
    }
}
