//! A test: its SQL counts failures, its config says what they mean.

use std::time::Duration;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type};
use futures::TryStreamExt;
use tokio_util::sync::CancellationToken;

use lode_core::Problem;
use lode_jobs::{NodeOutcome, NodeStatus};

use super::materialize::prepare;
use super::run::{Done, Shared};
use crate::graph::Node;

pub(crate) async fn run(shared: &Shared, node: &Node, stop: &CancellationToken) -> Result<Done, Problem> {
    let compiled = shared.compiler.compile(&node.unique_id, false).await?;
    shared.keep_compiled(node, &compiled.sql).await?;
    let work = async {
        let prepared = prepare(shared, node, &compiled).await?;
        let batches: Vec<RecordBatch> = shared.compiler.warehouse.run(&prepared).await?.try_collect().await?;
        Ok::<_, Problem>(batches)
    };
    let batches = tokio::select! {
        batches = work => batches.map_err(|problem| compiled.relocate(problem, node, &shared.compiled_path(node)))?,
        () = stop.cancelled() => {
            let outcome = NodeOutcome::skipped(shared.clock.now(), "the run was stopped");
            return Ok(Done { outcome, compiled: Some(compiled.sql) });
        }
    };
    let answer = answer(&batches).ok_or_else(|| {
        Problem::new(lode_core::ErrorKind::Data, format!("{} did not answer with one row of failures", node.subject()))
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
    Ok(Done { outcome, compiled: Some(compiled.sql) })
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
