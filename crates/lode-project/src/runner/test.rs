//! A test: its SQL counts failures, its config says what they mean.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type};
use arrow::error::ArrowError;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use futures::TryStreamExt;
use tokio_util::sync::CancellationToken;

use lode_core::{ErrorKind, Problem};
use lode_jobs::{NodeOutcome, NodeStatus};

use super::materialize::prepare;
use super::run::{Done, Shared};
use crate::graph::Node;

/// Rows that a failed test shows, and columns of each.
const ROWS_SHOWN: u64 = 3;
const COLUMNS_SHOWN: usize = 8;
/// Characters of a value that is shown.
const VALUE_CHARS: usize = 80;

pub(crate) async fn run(shared: &Shared, node: &Node, stop: &CancellationToken) -> Result<Done, Problem> {
    let compiled = shared.compiler.compile(&node.unique_id, false).await?;
    shared.keep_compiled(node, &compiled.sql).await?;
    let Some(verdict) = compiled.verdict.as_deref() else {
        return Err(Problem::internal(format!("{} has no verdict", node.subject())));
    };
    let batches = tokio::select! {
        batches = answer_to(shared, node, verdict) => batches,
        () = stop.cancelled() => {
            let outcome = NodeOutcome::skipped(shared.clock.now(), "the run was stopped");
            return Ok(Done { outcome, compiled: Some(compiled.sql) });
        }
    };
    let batches = match batches {
        Ok(batches) => batches,
        Err(problem) => {
            // Told of the author's own statement, if that is what is wrong.
            prepare(shared, node, &compiled).await?;
            let told = without_places(&problem).at(node.place.clone());
            return Err(told.context("`fail_calc`, `warn_if` or `error_if` cannot be computed"));
        }
    };
    let answer = answer(&batches).ok_or_else(|| {
        Problem::new(ErrorKind::Data, format!("{} did not answer with one row of failures", node.subject()))
            .at(node.place.clone())
            .fix("`fail_calc` must give a number, `warn_if` and `error_if` a comparison such as `> 10`")
    })?;
    let mut outcome = NodeOutcome::new(NodeStatus::Pass, shared.clock.now(), Duration::ZERO);
    outcome.failures = Some(answer.failures.unsigned_abs());
    let severity = node.config.text("severity").unwrap_or("error").to_lowercase();
    let plural = if answer.failures == 1 { "result" } else { "results" };
    if severity == "error" && answer.should_error {
        outcome.status = NodeStatus::Fail;
        let rule = node.config.text("error_if").unwrap_or("!= 0");
        outcome.message = format!("Got {} {plural}, configured to fail if {rule}", answer.failures);
    } else if answer.should_warn {
        outcome.status = NodeStatus::Warn;
        let rule = node.config.text("warn_if").unwrap_or("!= 0");
        outcome.message = format!("Got {} {plural}, configured to warn if {rule}", answer.failures);
    }
    if outcome.status != NodeStatus::Pass {
        let mut problem = Problem::new(ErrorKind::Contract, format!("test {}: {}", node.name, outcome.message))
            .at(node.place.clone())
            .fix(format!("`{}` is the query of these rows", shared.compiled_path(node)));
        // The verdict stands, whether or not its rows can be shown.
        let limit = node.config.get("limit").and_then(serde_json::Value::as_u64).unwrap_or(ROWS_SHOWN);
        let rows = tokio::select! {
            rows = first_rows(shared, node, &compiled.sql, limit.min(ROWS_SHOWN)) => rows.unwrap_or_default(),
            () = stop.cancelled() => Vec::new(),
        };
        if !rows.is_empty() {
            problem = problem.cause(format!("such as {}", rows.join("; ")));
        }
        outcome.problem = Some(Arc::new(problem));
    }
    Ok(Done { outcome, compiled: Some(compiled.sql) })
}

async fn answer_to(shared: &Shared, node: &Node, sql: &str) -> Result<Vec<RecordBatch>, Problem> {
    let warehouse = &shared.compiler.warehouse;
    let prepared = warehouse.prepare(sql, &shared.project.session(&node.path)).await?;
    warehouse.run(&prepared).await?.try_collect().await
}

fn without_places(problem: &Problem) -> Problem {
    let plain = Problem::new(problem.kind(), problem.what());
    let plain = problem.causes().iter().fold(plain, Problem::cause);
    match problem.remedy() {
        Some(fix) => plain.fix(fix),
        None => plain,
    }
}

/// Some rows of a test's query, as `(a = 1, b = NULL)`.
async fn first_rows(shared: &Shared, node: &Node, sql: &str, limit: u64) -> Result<Vec<String>, Problem> {
    let sql = format!("select * from (\n{}\n) as failing limit {limit}", sql.trim().trim_end_matches(';'));
    let batches = answer_to(shared, node, &sql).await?;
    let mut rows = Vec::new();
    for batch in &batches {
        let options = FormatOptions::default().with_null("NULL");
        let columns: Result<Vec<_>, _> = (batch.schema().fields().iter().zip(batch.columns()))
            .take(COLUMNS_SHOWN)
            .map(|(field, array)| Ok((field.name().clone(), ArrayFormatter::try_new(array.as_ref(), &options)?)))
            .collect();
        let columns: Vec<(String, ArrayFormatter<'_>)> =
            columns.map_err(|error: ArrowError| Problem::internal("could not show a value").cause(error))?;
        for row in 0..batch.num_rows() {
            let value = |(name, formatter): &(String, ArrayFormatter<'_>)| {
                let value = formatter.value(row).to_string();
                let clipped = value.chars().take(VALUE_CHARS).map(|c| if c.is_control() { ' ' } else { c });
                format!("{name} = {}", clipped.collect::<String>())
            };
            rows.push(format!("({})", columns.iter().map(value).collect::<Vec<_>>().join(", ")));
        }
    }
    Ok(rows)
}

struct Answer {
    failures: i64,
    should_warn: bool,
    should_error: bool,
}

fn answer(batches: &[RecordBatch]) -> Option<Answer> {
    let batch = batches.iter().find(|batch| batch.num_rows() > 0)?;
    let number = |name: &str| {
        let column = cast(batch.column_by_name(name)?, &DataType::Int64).ok()?;
        let column = column.as_primitive_opt::<Int64Type>()?;
        // An empty sum is NULL: nothing failed.
        Some(if column.is_null(0) { 0 } else { column.value(0) })
    };
    let flag = |name: &str| {
        let column = cast(batch.column_by_name(name)?, &DataType::Boolean).ok()?;
        let column = column.as_boolean_opt()?;
        Some(!column.is_null(0) && column.value(0))
    };
    Some(Answer {
        failures: number("failures")?,
        should_warn: flag("should_warn")?,
        should_error: flag("should_error")?,
    })
}
