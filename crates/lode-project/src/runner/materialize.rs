//! A model becomes a view or a table, in one epoch.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use lode_core::{
    EXPOSE, KEY, OnViolation, Prepared, Problem, Relation, RelationKind, RuleCount, TABLE_FORMATS, TableName, ViewText,
    WriteMode, WriteSpec, Written,
};
use lode_jobs::{NodeOutcome, NodeStatus};

use super::compile::Compiled;
use super::reuse::{self, Key};
use super::run::{Done, Shared};
use crate::error::ProjectError;
use crate::graph::{Materialized, Node, Strategy};

pub(crate) async fn run(shared: &Shared, node: &Node, stop: &CancellationToken) -> Result<Done, Problem> {
    refuse_hooks(node)?;
    let target = node.relation.as_ref().ok_or_else(|| Problem::internal("a model has no relation"))?;
    let existing = shared.compiler.warehouse.relation(target).await?;
    let full_refresh = node.config.flag("full_refresh").unwrap_or(shared.project.engine.settings.full_refresh);
    let is_incremental = matches!(node.materialized, Materialized::Incremental(_))
        && existing.as_ref().is_some_and(|relation| relation.kind == RelationKind::Table)
        && !full_refresh;
    let compiled = shared.compiler.compile(&node.unique_id, is_incremental).await?;
    shared.keep_compiled(node, &compiled.sql).await?;
    let prepared = prepare(shared, node, &compiled).await?;
    if stop.is_cancelled() {
        let outcome = NodeOutcome::skipped(shared.clock.now(), "the run was stopped");
        return Ok(Done { outcome, compiled: Some(compiled.sql) });
    }
    let key = Key::of(node, &prepared, target, is_incremental);
    // A volatile query may answer differently although nothing changed.
    let may_reuse = shared.reuse && !prepared.is_volatile && !full_refresh;
    let is_there = existing.is_some_and(|relation| is_as_wanted(shared, node, &prepared, &relation));
    if may_reuse
        && is_there
        && let Some(rules) = reuse::current(shared, node, target, &key).await?
    {
        let outcome = reused(shared, rules);
        return Ok(Done { outcome, compiled: Some(compiled.sql) });
    }
    let (written, verb) = write(shared, node, target, &prepared, is_incremental)
        .await
        .map_err(|problem| compiled.relocate(problem, node, &shared.compiled_path(node)))?;
    if prepared.is_volatile {
        reuse::forget(shared, node).await?;
    } else {
        reuse::keep(shared, node, &key, &written).await?;
    }
    let mut outcome = NodeOutcome::new(status_of(&written.rules), shared.clock.now(), Duration::ZERO);
    if node.materialized == Materialized::View {
        outcome.message = verb.to_owned();
    } else {
        outcome.message = format!("{verb} {}", written.rows);
        outcome.rows = Some(written.rows);
    }
    outcome.rows_quarantined = written.rows_quarantined;
    outcome.rows_dropped = written.rows_dropped;
    outcome.rules = written.rules;
    Ok(Done { outcome, compiled: Some(compiled.sql) })
}

/// How a node ended that is as it would become; what was warned of in its rows still holds.
pub(crate) fn reused(shared: &Shared, rules: Vec<RuleCount>) -> NodeOutcome {
    let mut outcome = NodeOutcome::new(status_of(&rules), shared.clock.now(), Duration::ZERO);
    outcome.message = "REUSED".to_owned();
    outcome.is_reused = true;
    outcome.rules = rules;
    outcome
}

pub(crate) fn status_of(rules: &[RuleCount]) -> NodeStatus {
    let is_warned = rules.iter().any(|rule| rule.on_violation == OnViolation::Warn && rule.violations > 0);
    if is_warned { NodeStatus::Warn } else { NodeStatus::Success }
}

/// Whether a table stands where the node wants one; for a view, whether it is this very view: any other writer may have
/// put another in its place, and a view has no snapshots to tell.
fn is_as_wanted(shared: &Shared, node: &Node, prepared: &Prepared, found: &Relation) -> bool {
    if node.materialized != Materialized::View {
        return found.kind == RelationKind::Table;
    }
    let default_schema = shared.project.session(&node.path).default_schema;
    found.view.as_ref() == Some(&ViewText { sql: prepared.sql.clone(), default_schema })
}

/// Hooks would have to change tables in ways that a SELECT cannot; leaving them out in silence would give wrong tables.
fn refuse_hooks(node: &Node) -> Result<(), ProjectError> {
    for key in ["pre_hook", "post_hook"] {
        let has_hook = node.config.get(key).is_some_and(|hooks| hooks.as_array().is_none_or(|list| !list.is_empty()));
        if has_hook {
            return Err(ProjectError::Unsupported {
                what: format!("`{key}` of {}", node.subject()),
                instead: "move the statement into a model, or remove the hook".into(),
                place: node.place.clone(),
            });
        }
    }
    Ok(())
}

pub(crate) async fn prepare(shared: &Shared, node: &Node, compiled: &Compiled) -> Result<Prepared, Problem> {
    let session = shared.project.session(&node.path);
    let prepared = shared.compiler.warehouse.prepare(&compiled.sql, &session).await;
    prepared.map_err(|problem| compiled.relocate(problem, node, &shared.compiled_path(node)))
}

async fn write(
    shared: &Shared,
    node: &Node,
    target: &TableName,
    prepared: &Prepared,
    is_incremental: bool,
) -> Result<(Written, &'static str), Problem> {
    let warehouse = &shared.compiler.warehouse;
    if node.materialized == Materialized::View {
        return Ok((warehouse.define_view(target, prepared).await?, "CREATE VIEW"));
    }
    let (mode, verb) = match &node.materialized {
        Materialized::Incremental(strategy) if is_incremental => match strategy {
            Strategy::Append => (WriteMode::Append, "INSERT 0"),
            Strategy::Merge { keys, keeps_all } => {
                (WriteMode::Merge { keys: keys.clone(), keeps_all: *keeps_all }, "MERGE")
            }
            Strategy::InsertOverwrite => (WriteMode::ReplacePartitions, "INSERT OVERWRITE"),
        },
        _ => (WriteMode::Replace, "SELECT"),
    };
    let mut spec = WriteSpec::new(target.clone(), mode);
    spec.partition_by = node.config.texts("partition_by");
    spec.expectations.clone_from(&node.expectations);
    if let Some(word) = node.config.text("on_schema_change") {
        word.clone_into(&mut spec.on_schema_change);
    }
    let persists =
        node.config.get("persist_docs").and_then(|docs| docs.get("relation")).and_then(serde_json::Value::as_bool);
    spec.comment = (persists == Some(true) && !node.description.is_empty()).then(|| node.description.clone());
    spec.properties = vec![("lode.model".to_owned(), node.unique_id.clone())];
    if let Materialized::Incremental(Strategy::Merge { keys, .. }) = &node.materialized {
        spec.properties.push((KEY.to_owned(), serde_json::json!(keys).to_string()));
    }
    let formats = node.config.texts("expose");
    if let Some(format) = formats.iter().find(|format| !TABLE_FORMATS.contains(&format.as_str())) {
        return Err(ProjectError::BadConfig {
            key: "expose".into(),
            subject: node.subject(),
            found: format!("\"{format}\""),
            fix: "write `expose: [delta, iceberg]`".into(),
            place: node.place.clone(),
        }
        .into());
    }
    if !formats.is_empty() {
        spec.properties.push((EXPOSE.to_owned(), formats.join(",")));
    }
    Ok((warehouse.write(prepared, &spec).await?, verb))
}
