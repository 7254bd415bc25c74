//! Artifacts that other tools read: `manifest.json`, `run_results.json`, `target/compiled`.

use std::fs;
use std::path::{Path, PathBuf};

use chrono::SecondsFormat;
use serde_json::{Map, Value as Json, json};

use lode_core::{ErrorKind, Place, Problem};

use super::{NodeResult, RunResults};
use crate::graph::{Kind, Node};
use crate::jinja::scope::DBT_VERSION;
use crate::project::Project;

pub(crate) struct Artifacts<'a> {
    pub(crate) project: &'a Project,
    pub(crate) folder: PathBuf,
}

impl Artifacts<'_> {
    /// `target/compiled/<project>/<path>`; generic tests lie below their YAML file.
    pub(crate) fn compiled_path(&self, node: &Node) -> PathBuf {
        let folder = self.folder.join("compiled").join(self.project.name());
        match node.test.as_ref().and_then(|test| test.generic.as_ref()) {
            Some(_) => {
                let file = node.config.text("alias").unwrap_or(&node.name);
                folder.join(&node.path).join(format!("{file}.sql"))
            }
            None => folder.join(&node.path),
        }
    }

    pub(crate) fn write_compiled(&self, node: &Node, sql: &str) -> Result<(), Problem> {
        write(&self.compiled_path(node), sql)
    }

    pub(crate) fn write_manifest(&self) -> Result<(), Problem> {
        write(&self.folder.join("manifest.json"), &self.project.manifest().to_string())
    }

    pub(crate) fn write_run_results(&self, results: &RunResults) -> Result<(), Problem> {
        let settings = &self.project.engine.settings;
        let entries: Vec<Json> = results.nodes.iter().map(result_json).collect();
        let document = json!({
            "metadata": metadata(self.project, "https://schemas.getdbt.com/dbt/run-results/v6.json"),
            "results": entries,
            "elapsed_time": results.elapsed.as_secs_f64(),
            "args": {
                "which": results.command.as_str(),
                "target": settings.target,
                "threads": settings.threads,
                "full_refresh": settings.full_refresh,
                "vars": settings.command_vars,
            },
        });
        write(&self.folder.join("run_results.json"), &document.to_string())
    }
}

fn write(path: &Path, text: &str) -> Result<(), Problem> {
    let made = path.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| fs::write(path, text));
    made.map_err(|error| {
        let kind = match error.kind() {
            std::io::ErrorKind::PermissionDenied => ErrorKind::Denied,
            std::io::ErrorKind::StorageFull => ErrorKind::Full,
            _ => ErrorKind::Unavailable,
        };
        Problem::new(kind, "could not write an artifact")
            .cause(error)
            .at(Place::of(path.display().to_string()))
            .fix("free space or allow writing there, or set `--target-path`")
    })
}

fn metadata(project: &Project, schema: &str) -> Json {
    let settings = &project.engine.settings;
    json!({
        "dbt_schema_version": schema,
        "dbt_version": DBT_VERSION,
        "generated_at": settings.now.to_rfc3339_opts(SecondsFormat::Micros, true),
        "invocation_id": settings.invocation_id,
        "invocation_started_at": settings.now.to_rfc3339_opts(SecondsFormat::Micros, true),
        "env": {},
    })
}

fn result_json(result: &NodeResult) -> Json {
    let outcome = &result.outcome;
    let started = outcome.started_at.unwrap_or(outcome.finished_at);
    let stamp = |at: chrono::DateTime<chrono::Utc>| at.to_rfc3339_opts(SecondsFormat::Micros, true);
    json!({
        "status": outcome.status.as_str(),
        "timing": if outcome.started_at.is_some() {
            json!([
                {"name": "compile", "started_at": stamp(started), "completed_at": stamp(started)},
                {"name": "execute", "started_at": stamp(started), "completed_at": stamp(outcome.finished_at)},
            ])
        } else {
            json!([])
        },
        "thread_id": outcome.thread,
        "execution_time": outcome.elapsed.as_secs_f64(),
        "adapter_response": {
            "_message": outcome.message,
            "rows_affected": outcome.rows,
            "rows_quarantined": outcome.rows_quarantined,
            "rows_dropped": outcome.rows_dropped,
            "expectations": outcome.rules,
        },
        "message": outcome.message,
        "failures": outcome.failures,
        "unique_id": result.node.unique_id,
        "compiled": result.compiled.is_some(),
        "compiled_code": result.compiled,
        "relation_name": result.node.relation,
        "batch_results": null,
    })
}

impl Project {
    /// The manifest: valid in dbt's v12 form, every key that readers ask for present.
    pub(crate) fn manifest(&self) -> Json {
        let of = |sources: bool| {
            let nodes = self.graph.nodes.values().filter(|node| (node.kind == Kind::Source) == sources);
            nodes.map(|node| (node.unique_id.clone(), self.node_json(node))).collect::<Map<_, _>>()
        };
        let macros = self.engine.all_macros().map(|made| {
            let value = json!({
                "name": made.name,
                "resource_type": "macro",
                "package_name": made.package,
                "path": made.path,
                "original_file_path": made.path,
                "unique_id": made.unique_id(),
                "macro_sql": made.text,
                "depends_on": {"macros": []},
                "description": "",
                "meta": {},
                "docs": {"show": true, "node_color": null},
                "patch_path": null,
                "arguments": [],
                "created_at": self.engine.settings.now.timestamp() as f64,
                "supported_languages": null,
            });
            (made.unique_id(), value)
        });
        let parents: Map<String, Json> =
            self.graph.nodes.values().map(|node| (node.unique_id.clone(), json!(node.depends_on))).collect();
        let children: Map<String, Json> =
            self.graph.nodes.keys().map(|id| (id.clone(), json!(self.graph.children_of(id)))).collect();
        let docs = self.engine.docs.iter().map(|(name, text)| {
            let id = format!("doc.{}.{name}", self.name());
            let value = json!({
                "name": name, "resource_type": "doc", "package_name": self.name(), "path": "", "original_file_path": "",
                "unique_id": id, "block_contents": text,
            });
            (id, value)
        });
        let mut head = metadata(self, "https://schemas.getdbt.com/dbt/manifest/v12.json");
        if let Json::Object(head) = &mut head {
            head.insert("project_name".into(), json!(self.name()));
            head.insert("project_id".into(), json!(crate::md5::hex(self.name().as_bytes())));
            head.insert("adapter_type".into(), json!("postgres"));
            head.insert("send_anonymous_usage_stats".into(), json!(false));
            head.insert("user_id".into(), Json::Null);
            head.insert(
                "quoting".into(),
                json!({"database": true, "schema": true, "identifier": true, "column": null}),
            );
        }
        json!({
            "metadata": head,
            "nodes": of(false),
            "sources": of(true),
            "macros": macros.collect::<Map<_, _>>(),
            "docs": docs.collect::<Map<_, _>>(),
            "exposures": {},
            "metrics": {},
            "groups": {},
            "selectors": {},
            "disabled": self.graph.disabled.iter().map(|(_, _, id)| (id.clone(), json!([]))).collect::<Map<_, _>>(),
            "parent_map": parents,
            "child_map": children,
            "group_map": {},
            "saved_queries": {},
            "semantic_models": {},
            "unit_tests": {},
            "functions": {},
        })
    }

    pub(crate) fn node_json(&self, node: &Node) -> Json {
        let relation_name = node.relation.as_ref().map(|name| crate::jinja::RelationValue::new(name).sql());
        let mut config = node.config.values.clone();
        config.entry("enabled").or_insert(Json::Bool(true));
        config.entry("tags").or_insert_with(|| json!([]));
        config.entry("meta").or_insert_with(|| json!({}));
        if node.kind != Kind::Source {
            config.insert("materialized".into(), json!(node.materialized.as_str()));
        }
        let mut value = json!({
            "database": "lode",
            "schema": node.relation.as_ref().map_or(&self.engine.settings.schema, |name| &name.schema),
            "name": node.name,
            "resource_type": node.kind.as_str(),
            "package_name": node.package,
            "path": node.path.split_once('/').map_or(node.path.as_str(), |(_, rest)| rest),
            "original_file_path": node.path,
            "unique_id": node.unique_id,
            "fqn": node.fqn,
            "alias": node.relation.as_ref().map_or_else(
                || node.config.text("alias").unwrap_or(&node.name),
                |name| name.name.as_str(),
            ),
            "checksum": {"name": "blake3", "checksum": blake3::hash(node.origin.text.as_bytes()).to_hex().to_string()},
            "config": config,
            "tags": node.config.tags(),
            "description": node.description,
            "columns": crate::graph::columns_json(&node.columns),
            "meta": node.config.get("meta").cloned().unwrap_or_else(|| json!({})),
            "group": node.config.get("group"),
            "docs": {"show": true, "node_color": null},
            "patch_path": node.patch_path.as_ref().map(|path| format!("{}://{path}", node.package)),
            "build_path": null,
            "unrendered_config": {},
            "created_at": self.engine.settings.now.timestamp() as f64,
            "relation_name": relation_name,
            "raw_code": node.origin.text.as_ref(),
            "language": "sql",
            "refs": node.refs.iter().map(|call| json!({"name": call.name, "package": call.package, "version": null})).collect::<Vec<_>>(),
            "sources": node.sources.iter().map(|call| json!([call.source, call.table])).collect::<Vec<_>>(),
            "metrics": [],
            "functions": [],
            "depends_on": {"macros": node.macros, "nodes": node.depends_on},
            "compiled_path": null,
            "contract": {"enforced": false, "alias_types": true, "checksum": null},
        });
        if let Json::Object(map) = &mut value {
            if let Some((source, description)) = &node.source {
                map.insert("source_name".into(), json!(source));
                map.insert("source_description".into(), json!(description));
                map.insert("identifier".into(), json!(node.relation.as_ref().map(|name| &name.name)));
                map.insert("loader".into(), json!("lode"));
                map.insert("freshness".into(), Json::Null);
                map.insert("loaded_at_field".into(), Json::Null);
                map.insert("source_meta".into(), json!({}));
                map.insert("quoting".into(), json!({}));
                map.insert("external".into(), Json::Null);
            }
            if let Some(test) = &node.test {
                map.insert("column_name".into(), json!(test.column));
                map.insert("file_key_name".into(), json!(test.attached.as_deref().map(file_key)));
                map.insert("attached_node".into(), json!(test.attached));
                if let Some(name) = &test.generic {
                    map.insert(
                        "test_metadata".into(),
                        json!({"name": name, "kwargs": test.arguments, "namespace": test.namespace}),
                    );
                }
            }
        }
        value
    }
}

/// `model.shop.orders` is `models.orders` in dbt's file keys.
fn file_key(id: &str) -> String {
    let kind = id.split('.').next().unwrap_or_default();
    let name = id.rsplit('.').next().unwrap_or_default();
    format!("{kind}s.{name}")
}
