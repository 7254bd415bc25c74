//! Leaves alone what is already as it would become: same plan, same config, same input snapshots, untouched output.

use serde::{Deserialize, Serialize};

use lode_core::{Input, OnViolation, Prepared, Problem, RuleCount, TableId, TableName, Written};

use super::run::Shared;
use crate::graph::{Materialized, Node, Strategy};
use crate::jinja::RelationValue;

/// Everything that a node's table is made from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Key {
    /// Plan, config that matters, and the version of this code.
    hash: String,
    /// `schema.table`, id and snapshot, sorted; empty for a view, which reads its inputs later.
    inputs: Vec<(String, TableId, i64)>,
    /// The rows follow from the inputs alone, so that writing them again would change nothing.
    is_repeatable: bool,
}

#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    key: Key,
    /// The table that was written, and its snapshot then; no table for a view.
    output: (Option<TableId>, i64),
    /// What was warned of: it still is.
    #[serde(default)]
    rules: Vec<RuleCount>,
}

impl Key {
    pub(crate) fn of(node: &Node, prepared: &Prepared, target: &TableName, is_incremental: bool) -> Self {
        let reads_itself = prepared.inputs.iter().any(|input| input.table == *target);
        // Appending again adds the rows again; a merge that reads its own table starts from another state.
        let is_repeatable = match &node.materialized {
            Materialized::Incremental(Strategy::Append) => false,
            Materialized::Incremental(_) => !reads_itself,
            _ => true,
        };
        let is_view = node.materialized == Materialized::View;
        let mut inputs: Vec<(String, TableId, i64)> = Vec::new();
        if !is_view {
            inputs.extend(prepared.inputs.iter().map(|input| (input.table.to_string(), input.id, input.snapshot.0)));
            inputs.sort();
            inputs.dedup();
        }
        let config = serde_json::json!([
            env!("CARGO_PKG_VERSION"),
            node.materialized.as_str(),
            node.config.texts("unique_key"),
            node.config.texts("partition_by"),
            node.config.text("incremental_strategy"),
            node.config.text("on_schema_change"),
            node.config.texts("expose"),
            node.expectations,
            is_incremental,
            target.to_string(),
        ]);
        let mut hash = blake3::Hasher::new();
        hash.update(prepared.fingerprint.as_bytes());
        hash.update(config.to_string().as_bytes());
        Self { hash: hash.finalize().to_hex().to_string(), inputs, is_repeatable }
    }

    /// For a seed: the file's content and its config.
    pub(crate) fn of_content(hash: String) -> Self {
        Self { hash, inputs: Vec::new(), is_repeatable: true }
    }
}

fn scope(shared: &Shared) -> String {
    format!("reuse:{}", shared.project.name())
}

/// The rules' counts of the node's last write, if it had this key and its table was not changed since.
pub(crate) async fn current(
    shared: &Shared,
    node: &Node,
    target: &TableName,
    key: &Key,
) -> Result<Option<Vec<RuleCount>>, Problem> {
    if !key.is_repeatable {
        return Ok(None);
    }
    let Some(text) = shared.notes.get(&scope(shared), &node.unique_id).await? else { return Ok(None) };
    let Ok(kept) = serde_json::from_str::<Kept>(&text) else { return Ok(None) };
    if kept.key != *key {
        return Ok(None);
    }
    if node.materialized == Materialized::View {
        // Its definition was compared by the caller.
        return Ok(Some(kept.rules));
    }
    let sql = format!("select * from {}", RelationValue::new(target).sql());
    let prepared = shared.compiler.warehouse.prepare(&sql, &shared.project.session("<reuse>")).await?;
    let is_untouched = |input: &Input| input.table == *target && (Some(input.id), input.snapshot.0) == kept.output;
    Ok(prepared.inputs.iter().any(is_untouched).then_some(kept.rules))
}

pub(crate) async fn keep(shared: &Shared, node: &Node, key: &Key, output: &Written) -> Result<(), Problem> {
    let warned = output.rules.iter().filter(|rule| rule.on_violation == OnViolation::Warn && rule.violations > 0);
    let rules = warned.cloned().collect();
    let kept = Kept { key: key.clone(), output: (output.table, output.snapshot.0), rules };
    let text = serde_json::to_string(&kept).map_err(|error| Problem::internal("could not keep a key").cause(error))?;
    shared.notes.put(&scope(shared), &node.unique_id, &text).await
}

pub(crate) async fn forget(shared: &Shared, node: &Node) -> Result<(), Problem> {
    shared.notes.put(&scope(shared), &node.unique_id, "").await
}
