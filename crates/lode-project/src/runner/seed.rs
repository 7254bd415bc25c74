//! A seed file becomes a table.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::{Field, Schema};
use futures::StreamExt;
use futures::stream;

use lode_core::{Place, Problem, RelationKind, WriteMode, WriteSpec, sql_type, task};
use lode_jobs::NodeOutcome;

use super::csv::{Row, rows};
use super::materialize::{reused, status_of};
use super::reuse::{self, Key};
use super::run::{Done, Shared};
use super::seed_types::{declared, infer, is_null};
use crate::error::ProjectError;
use crate::graph::Node;

/// Seeds are for small tables; larger files land by `ingest`.
const LIMIT_BYTES: u64 = 256 << 20;

pub(crate) async fn run(shared: &Shared, node: &Node) -> Result<Done, Problem> {
    let target = node.relation.as_ref().ok_or_else(|| Problem::internal("a seed has no relation"))?;
    let path = shared.project.dir().join(&node.path);
    let shown = node.path.clone();
    let bytes = task::blocking("seed", move || {
        let fail = |source| ProjectError::Read { path: shown.clone(), source };
        let size_bytes = std::fs::metadata(&path).map_err(fail)?.len();
        if size_bytes > LIMIT_BYTES {
            return Err(ProjectError::Seed {
                seed: shown.clone(),
                reason: format!("the file has {size_bytes} bytes, above the limit of 256 MiB"),
                place: Place::of(shown.clone()),
                fix: "land it with `ingest:` in lode.yml".into(),
            });
        }
        std::fs::read(&path).map_err(fail)
    })
    .await??;
    let config = serde_json::json!([
        env!("CARGO_PKG_VERSION"),
        target.to_string(),
        node.config.get("column_types"),
        node.config.get("delimiter"),
        node.expectations,
    ]);
    let mut hash = blake3::Hasher::new();
    hash.update(&bytes);
    hash.update(config.to_string().as_bytes());
    let key = Key::of_content(hash.finalize().to_hex().to_string());
    let existing = shared.compiler.warehouse.relation(target).await?.map(|relation| relation.kind);
    let may_reuse =
        shared.reuse && !shared.project.engine.settings.full_refresh && existing == Some(RelationKind::Table);
    if may_reuse && let Some(rules) = reuse::current(shared, node, target, &key).await? {
        return Ok(Done { outcome: reused(shared, rules), compiled: None });
    }
    let batch = parse(node, bytes).await?;
    let mut spec = WriteSpec::new(target.clone(), WriteMode::Replace);
    spec.expectations.clone_from(&node.expectations);
    spec.properties = vec![("lode.model".to_owned(), node.unique_id.clone())];
    let schema = batch.schema();
    let written = shared.compiler.warehouse.write_batches(schema, stream::iter([Ok(batch)]).boxed(), &spec).await?;
    reuse::keep(shared, node, &key, &written).await?;
    let mut outcome = NodeOutcome::new(status_of(&written.rules), shared.clock.now(), Duration::ZERO);
    outcome.message = format!("INSERT {}", written.rows);
    outcome.rows = Some(written.rows);
    outcome.rows_quarantined = written.rows_quarantined;
    outcome.rows_dropped = written.rows_dropped;
    outcome.rules = written.rules;
    Ok(Done { outcome, compiled: None })
}

async fn parse(node: &Node, bytes: Vec<u8>) -> Result<RecordBatch, Problem> {
    let delimiter = node.config.text("delimiter").and_then(|text| text.chars().next()).unwrap_or(',');
    let types = node.config.get("column_types").and_then(|types| types.as_object()).cloned().unwrap_or_default();
    let seed = Seed { name: node.name.clone(), path: node.path.clone(), place: node.place.clone() };
    task::cpu("seed", move || seed.read(&bytes, delimiter, &types)).await?
}

struct Seed {
    name: String,
    path: String,
    /// Of the node, for mistakes in its config.
    place: Place,
}

impl Seed {
    fn fault(&self, reason: String, line: u64, fix: &str) -> ProjectError {
        let place = Place::of(self.path.clone()).line(line);
        ProjectError::Seed { seed: self.name.clone(), reason, place, fix: fix.to_owned() }
    }

    fn read(
        &self,
        bytes: &[u8],
        delimiter: char,
        types: &serde_json::Map<String, serde_json::Value>,
    ) -> Result<RecordBatch, Problem> {
        let text = std::str::from_utf8(bytes).map_err(|error| {
            let line =
                bytes.get(..error.valid_up_to()).unwrap_or_default().iter().filter(|b| **b == b'\n').count() as u64 + 1;
            self.fault("it is not UTF-8".into(), line, "save the file as UTF-8")
        })?;
        let mut rows = rows(text.strip_prefix('\u{feff}').unwrap_or(text), delimiter).into_iter();
        let header = rows.next().ok_or_else(|| self.fault("the file is empty".into(), 1, "write a header line"))?;
        let names = column_names(&header.fields);
        let rows: Vec<Row> = rows.collect();
        for row in &rows {
            if row.fields.len() > names.len() {
                let reason =
                    format!("a row has {} values, but the header has {} columns", row.fields.len(), names.len());
                return Err(self.fault(reason, row.line, "quote values that hold the delimiter").into());
            }
        }
        let mut fields = Vec::new();
        let mut arrays = Vec::new();
        for (at, name) in names.iter().enumerate() {
            let cells: Vec<Option<&str>> =
                rows.iter().map(|row| row.fields.get(at).map(String::as_str).filter(|cell| !is_null(cell))).collect();
            let wanted = types.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
            let (field, array) = match wanted.and_then(|(_, sql)| sql.as_str()) {
                Some(sql) => {
                    let field = sql_type::field(name, sql).map_err(|problem| {
                        problem.context(format!("`column_types` of seed \"{}\"", self.name)).at(self.place.clone())
                    })?;
                    let array = declared(&cells, field.data_type()).map_err(|(row, reason)| {
                        let line = rows.get(row).map_or(1, |row| row.line);
                        let text = cells.get(row).copied().flatten().unwrap_or_default();
                        let reason = format!("\"{text}\" in column \"{name}\" is not {sql}: {reason}");
                        self.fault(reason, line, "correct the value, or another type in `column_types`")
                    })?;
                    (field, array)
                }
                None => {
                    let array = infer(&cells);
                    (Field::new(name, array.data_type().clone(), true), array)
                }
            };
            fields.push(field);
            arrays.push(array);
        }
        RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays)
            .map_err(|error| Problem::internal("could not build a seed's rows").cause(error))
    }
}

/// As agate names them: a column without a name gets a letter, the second `a` becomes `a_2`.
fn column_names(header: &[String]) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for (at, name) in header.iter().enumerate() {
        let name = if name.is_empty() { letters(at) } else { name.clone() };
        let mut unique = name.clone();
        let mut count = 2;
        while names.contains(&unique) {
            unique = format!("{name}_{count}");
            count += 1;
        }
        names.push(unique);
    }
    names
}

/// a, b, … z, aa, bb, …
fn letters(at: usize) -> String {
    let letter = char::from(b'a' + (at % 26) as u8);
    letter.to_string().repeat(at / 26 + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_named_as_agate_does() {
        let header = ["a", "a", "", "B"].map(str::to_owned);
        assert_eq!(column_names(&header), ["a", "a_2", "c", "B"]);
    }
}
