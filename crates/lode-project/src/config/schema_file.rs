//! Schema YAML: descriptions, configs, tests, columns, sources.

use serde_json::{Map, Value as Json};

use lode_core::{Place, nearest};

use super::project_file::notice;
use super::yaml::{Kind, Origin, Yaml, parse};
use crate::error::ProjectError;
use crate::project::Notice;

/// What one YAML file says, in order.
#[derive(Debug, Default)]
pub(crate) struct SchemaFile {
    pub(crate) patches: Vec<Patch>,
    pub(crate) sources: Vec<SourceTable>,
    pub(crate) notices: Vec<Notice>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PatchKind {
    Model,
    Seed,
    /// Of a singular test.
    Test,
    Macro,
}

/// Properties of a node that a file of its own defines.
#[derive(Debug, Clone)]
pub(crate) struct Patch {
    pub(crate) kind: PatchKind,
    pub(crate) name: String,
    pub(crate) origin: Origin,
    pub(crate) place: Place,
    pub(crate) properties: Properties,
}

/// What models, seeds and source tables share.
#[derive(Debug, Clone, Default)]
pub(crate) struct Properties {
    pub(crate) description: String,
    /// `config:` with what stands beside it in older files (`meta`, `tags`, `docs`).
    pub(crate) config: Vec<(String, Yaml)>,
    pub(crate) columns: Vec<Column>,
    pub(crate) tests: Vec<TestEntry>,
    pub(crate) expectations: Option<Yaml>,
}

#[derive(Debug, Clone)]
pub(crate) struct Column {
    pub(crate) name: String,
    pub(crate) description: String,
    pub(crate) data_type: Option<String>,
    pub(crate) meta: Json,
    pub(crate) tags: Vec<String>,
    pub(crate) quote: bool,
    pub(crate) tests: Vec<TestEntry>,
}

/// A generic test as written: a name, its arguments, its config.
#[derive(Debug, Clone)]
pub(crate) struct TestEntry {
    /// `unique`, `pkg.equal_rowcount`.
    pub(crate) name: String,
    pub(crate) arguments: Map<String, Json>,
    pub(crate) config: Map<String, Json>,
    pub(crate) custom_name: Option<String>,
    pub(crate) description: String,
    pub(crate) place: Place,
}

#[derive(Debug, Clone)]
pub(crate) struct SourceTable {
    pub(crate) source: String,
    pub(crate) table: String,
    pub(crate) identifier: String,
    pub(crate) schema: String,
    pub(crate) database: Option<String>,
    pub(crate) source_description: String,
    pub(crate) origin: Origin,
    pub(crate) place: Place,
    pub(crate) properties: Properties,
}

/// Config keys that a generic test takes beside its arguments.
const TEST_CONFIG: &[&str] = &[
    "severity",
    "tags",
    "enabled",
    "where",
    "limit",
    "warn_if",
    "error_if",
    "fail_calc",
    "store_failures",
    "store_failures_as",
    "meta",
    "database",
    "schema",
    "alias",
];
const SECTIONS: &[&str] = &[
    "version",
    "models",
    "seeds",
    "sources",
    "snapshots",
    "macros",
    "exposures",
    "metrics",
    "semantic_models",
    "saved_queries",
    "groups",
    "unit_tests",
    "analyses",
    "data_tests",
    "tests",
    "functions",
    "anchors",
    "semantic-models",
    "saved-queries",
];
const MODEL_KEYS: &[&str] = &[
    "name",
    "description",
    "docs",
    "config",
    "columns",
    "data_tests",
    "tests",
    "meta",
    "tags",
    "access",
    "group",
    "latest_version",
    "versions",
    "constraints",
    "deprecation_date",
    "expectations",
    "time_spine",
    "primary_key",
    "original_file_path",
    "quote_columns",
    "arguments",
    "latest_version_pointer",
];

/// Parses a schema file.
pub(crate) fn read(origin: &Origin) -> Result<SchemaFile, ProjectError> {
    let yaml = parse(origin)?;
    let mut file = SchemaFile::default();
    for (key, value) in yaml.want_map("a schema file", origin)? {
        match key.text.as_str() {
            "models" => patches(value, PatchKind::Model, origin, &mut file)?,
            "seeds" => patches(value, PatchKind::Seed, origin, &mut file)?,
            "data_tests" | "tests" => patches(value, PatchKind::Test, origin, &mut file)?,
            "macros" => patches(value, PatchKind::Macro, origin, &mut file)?,
            "sources" => {
                for source in value.want_list("`sources`", origin)? {
                    read_source(source, origin, &mut file)?;
                }
            }
            "unit_tests" | "snapshots" if !value.want_list(&key.text, origin)?.is_empty() => {
                let message = format!("`{}` in YAML are read but do not run yet", key.text);
                file.notices.push(notice(message, &origin.place(key.line, key.column)));
            }
            known if SECTIONS.contains(&known) => {}
            unknown => {
                let near = nearest(unknown, SECTIONS.iter().copied());
                let hint = near.map(|near| format!("; did you mean \"{near}\"?")).unwrap_or_default();
                let message = format!("unknown key \"{unknown}\" has no effect{hint}");
                file.notices.push(notice(message, &origin.place(key.line, key.column)));
            }
        }
    }
    Ok(file)
}

fn patches(value: &Yaml, kind: PatchKind, origin: &Origin, file: &mut SchemaFile) -> Result<(), ProjectError> {
    for entry in value.want_list("a section of nodes", origin)? {
        let name = name_of(entry, "an entry", origin)?;
        if let Some(versions) = entry.get("versions") {
            return Err(ProjectError::Unsupported {
                what: format!("`versions` of model \"{name}\""),
                instead: "give each version its own model name".into(),
                place: versions.place(origin),
            });
        }
        let properties = properties(entry, &name, origin, &mut file.notices)?;
        file.patches.push(Patch { kind, name, origin: origin.clone(), place: entry.place(origin), properties });
    }
    Ok(())
}

fn name_of(entry: &Yaml, subject: &str, origin: &Origin) -> Result<String, ProjectError> {
    entry.want_map(subject, origin)?;
    let missing = || ProjectError::MissingKey { key: "name", subject: subject.to_owned(), place: entry.place(origin) };
    Ok(entry.get("name").ok_or_else(missing)?.want_str("`name`", origin)?.to_owned())
}

fn properties(
    entry: &Yaml,
    name: &str,
    origin: &Origin,
    notices: &mut Vec<Notice>,
) -> Result<Properties, ProjectError> {
    let mut config: Vec<(String, Yaml)> = Vec::new();
    for key in ["meta", "tags", "docs", "group", "access"] {
        if let Some(value) = entry.get(key) {
            config.push((key.to_owned(), value.clone()));
        }
    }
    if let Some(block) = entry.get("config") {
        for (key, value) in block.want_map("`config`", origin)? {
            config.push((key.text.clone(), value.clone()));
        }
    }
    for (key, _) in entry.entries() {
        let is_known = MODEL_KEYS.contains(&key.text.as_str()) || SOURCE_TABLE_KEYS.contains(&key.text.as_str());
        if !is_known {
            let message =
                format!("unknown key \"{}\" of \"{name}\" has no effect; configs stand under `config:`", key.text);
            notices.push(notice(message, &origin.place(key.line, key.column)));
        }
    }
    let from_config = |key: &str| config.iter().find(|(name, _)| name == key).map(|(_, value)| value.clone());
    let expectations = entry.get("expectations").cloned().or_else(|| from_config("expectations")).or_else(|| {
        from_config("meta").and_then(|meta| meta.get("lode").and_then(|lode| lode.get("expectations")).cloned())
    });
    let mut columns = Vec::new();
    for column in entry.get("columns").map_or(Ok(&[] as &[Yaml]), |value| value.want_list("`columns`", origin))? {
        columns.push(read_column(column, origin)?);
    }
    Ok(Properties {
        description: entry.get("description").and_then(Yaml::as_str).unwrap_or_default().to_owned(),
        config,
        columns,
        tests: test_entries(entry, origin)?,
        expectations,
    })
}

fn read_column(column: &Yaml, origin: &Origin) -> Result<Column, ProjectError> {
    let name = name_of(column, "a column", origin)?;
    let from_config = |key: &str| column.get(key).or_else(|| column.get("config").and_then(|config| config.get(key)));
    let tags = match from_config("tags").map(|tags| &tags.kind) {
        Some(Kind::Text(tag)) => vec![tag.clone()],
        Some(Kind::List(tags)) => tags.iter().filter_map(Yaml::as_str).map(str::to_owned).collect(),
        _ => Vec::new(),
    };
    Ok(Column {
        description: column.get("description").and_then(Yaml::as_str).unwrap_or_default().to_owned(),
        data_type: column.get("data_type").and_then(Yaml::as_str).map(str::to_owned),
        meta: from_config("meta").map_or_else(|| Json::Object(Map::new()), Yaml::to_json),
        quote: column.get("quote").is_some_and(|quote| quote.kind == Kind::Bool(true)),
        tests: test_entries(column, origin)?,
        tags,
        name,
    })
}

fn test_entries(entry: &Yaml, origin: &Origin) -> Result<Vec<TestEntry>, ProjectError> {
    let mut tests = Vec::new();
    for key in ["tests", "data_tests"] {
        for test in entry.get(key).map_or(Ok(&[] as &[Yaml]), |value| value.want_list("`data_tests`", origin))? {
            tests.push(test_entry(test, origin)?);
        }
    }
    Ok(tests)
}

/// `unique`; `unique: {config: …}`; `{name: x, test_name: unique, …}`.
fn test_entry(test: &Yaml, origin: &Origin) -> Result<TestEntry, ProjectError> {
    let place = test.place(origin);
    let empty = |name: &str| TestEntry {
        name: name.to_owned(),
        arguments: Map::new(),
        config: Map::new(),
        custom_name: None,
        description: String::new(),
        place: place.clone(),
    };
    if let Some(name) = test.as_str() {
        return Ok(empty(name));
    }
    let entries = match &test.kind {
        Kind::Map(entries) if !entries.is_empty() => entries,
        _ => return Err(test.wrong("a test", "a name, or a map of one name to its arguments", origin)),
    };
    let (mut found, body): (TestEntry, Vec<(&str, &Yaml)>) = match test.get("test_name") {
        Some(name) => {
            let body = entries
                .iter()
                .filter(|(key, _)| key.text != "test_name")
                .map(|(key, value)| (key.text.as_str(), value));
            (empty(name.want_str("`test_name`", origin)?), body.collect())
        }
        None => match entries.as_slice() {
            [(key, value)] => {
                let inner = value.want_map("the arguments of a test", origin)?;
                (empty(&key.text), inner.iter().map(|(key, value)| (key.text.as_str(), value)).collect())
            }
            _ => return Err(test.wrong("a test", "a map of one name to its arguments (indent the arguments)", origin)),
        },
    };
    for (key, value) in body {
        match key {
            "name" => found.custom_name = Some(value.want_str("the name of a test", origin)?.to_owned()),
            "description" => value.as_str().unwrap_or_default().clone_into(&mut found.description),
            "config" => {
                for (key, value) in value.want_map("`config` of a test", origin)? {
                    found.config.insert(key.text.clone(), value.to_json());
                }
            }
            "arguments" => {
                for (key, value) in value.want_map("`arguments` of a test", origin)? {
                    found.arguments.insert(key.text.clone(), value.to_json());
                }
            }
            key if TEST_CONFIG.contains(&key) => {
                found.config.insert(key.to_owned(), value.to_json());
            }
            key => {
                found.arguments.insert(key.to_owned(), value.to_json());
            }
        }
    }
    Ok(found)
}

const SOURCE_TABLE_KEYS: &[&str] = &[
    "identifier",
    "loaded_at_field",
    "loaded_at_query",
    "freshness",
    "quoting",
    "external",
    "loader",
    "database",
    "schema",
    "tables",
    "overrides",
    "source_meta",
];

fn read_source(source: &Yaml, origin: &Origin, file: &mut SchemaFile) -> Result<(), ProjectError> {
    let name = name_of(source, "a source", origin)?;
    let text = |key: &str| source.get(key).and_then(Yaml::as_str).map(str::to_owned);
    let shared = properties(source, &name, origin, &mut file.notices)?;
    for table in source.get("tables").map_or(Ok(&[] as &[Yaml]), |value| value.want_list("`tables`", origin))? {
        let table_name = name_of(table, "a source table", origin)?;
        let mut own = properties(table, &table_name, origin, &mut file.notices)?;
        own.config = shared.config.iter().cloned().chain(own.config).collect();
        file.sources.push(SourceTable {
            source: name.clone(),
            identifier: table.get("identifier").and_then(Yaml::as_str).unwrap_or(&table_name).to_owned(),
            table: table_name,
            schema: text("schema").unwrap_or_else(|| name.clone()),
            database: text("database"),
            source_description: shared.description.clone(),
            origin: origin.clone(),
            place: table.place(origin),
            properties: own,
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schema(text: &str) -> SchemaFile {
        read(&Origin::new("models/schema.yml", text)).unwrap_or_else(|error| panic!("{error}"))
    }

    #[test]
    fn every_spelling_of_a_test_is_read() {
        let file = schema(
            "models:\n  - name: a\n    columns:\n      - name: id\n        tests:\n          - unique\n          - not_null: {severity: warn}\n          \
             - accepted_values:\n              arguments: {values: [1, 2]}\n              config: {where: 'x'}\n          - {name: mine, test_name: unique}\n",
        );
        let tests = &file.patches[0].properties.columns[0].tests;
        let names: Vec<&str> = tests.iter().map(|test| test.name.as_str()).collect();
        assert_eq!(names, ["unique", "not_null", "accepted_values", "unique"]);
        assert_eq!(tests[1].config["severity"], "warn");
        assert_eq!(tests[2].arguments["values"], serde_json::json!([1, 2]));
        assert_eq!(tests[2].config["where"], "x");
        assert_eq!(tests[3].custom_name.as_deref(), Some("mine"));
    }

    #[test]
    fn expectations_are_found_in_three_places() {
        for text in [
            "models:\n  - name: a\n    expectations: [{name: r, expect: x > 0}]\n",
            "models:\n  - name: a\n    config: {expectations: [{name: r, expect: x > 0}]}\n",
            "models:\n  - name: a\n    config: {meta: {lode: {expectations: [{name: r, expect: x > 0}]}}}\n",
        ] {
            assert!(schema(text).patches[0].properties.expectations.is_some(), "{text}");
        }
    }

    #[test]
    fn a_source_without_tables_key_is_empty_and_schema_defaults_to_its_name() {
        let file = schema(
            "sources:\n  - name: bronze\n    tables:\n      - name: telemetry\n        identifier: t1\n  - name: none\n",
        );
        assert_eq!(file.sources.len(), 1);
        assert_eq!((file.sources[0].schema.as_str(), file.sources[0].identifier.as_str()), ("bronze", "t1"));
    }

    #[test]
    fn a_map_where_a_list_belongs_names_its_place() {
        let error = read(&Origin::new("s.yml", "models:\n  name: a\n")).unwrap_err();
        let ProjectError::Shape { place, .. } = error else { panic!("{error}") };
        assert_eq!(place.to_string(), "s.yml:2:3");
    }
}
