//! One thread of a write: rows through the row pass into files, rejects into files of the quarantine.

use std::sync::Arc;

use arrow::array::{RecordBatch, UInt64Array};
use arrow::compute::{filter_record_batch, take_record_batch};
use arrow::datatypes::SchemaRef;
use arrow::json::writer::{LineDelimited, WriterBuilder};
use chrono::{DateTime, Utc};

use lode_catalog::{QuarantineRows, RejectedRow};
use lode_core::{AttemptId, Epoch, ErrorKind, Place, Problem, RuleCount, TableName, Violation};
use lode_lake::{DataFile, DeadRows, Store, TableDefinition, TableWriter, WriterOptions};

use super::conform::conform;
use super::old::Moved;
use super::target::QuarantineTarget;
use crate::expect::Pass;
use crate::problem;

/// Rows shown when a rule stops a write.
const FAILED_SHOWN: usize = 5;
/// Rejected rows held before they are written.
const REJECTS_HELD: usize = 8_192;

/// What all lanes of one write share.
pub(crate) struct Shared {
    pub(crate) store: Store,
    pub(crate) attempt: AttemptId,
    pub(crate) epoch: Epoch,
    pub(crate) now: DateTime<Utc>,
    pub(crate) table: TableName,
    pub(crate) location: String,
    pub(crate) definition: TableDefinition,
    pub(crate) quarantine: QuarantineTarget,
    pub(crate) expectations: Pass,
    pub(crate) constraints: Pass,
    pub(crate) incoming: SchemaRef,
}

impl Shared {
    pub(crate) fn writer(&self) -> TableWriter {
        TableWriter::new(&self.store, &self.location, &self.definition, self.attempt, WriterOptions::default())
    }
}

/// One lane. Blocking; runs on the engine's pool.
pub(crate) struct Lane {
    shared: Arc<Shared>,
    writer: Option<TableWriter>,
    rejects: QuarantineRows,
    reject_writer: Option<TableWriter>,
    end: LaneEnd,
}

/// What a lane, or all of them, did.
#[derive(Default)]
pub(crate) struct LaneEnd {
    pub(crate) files: Vec<DataFile>,
    pub(crate) removed: Vec<String>,
    pub(crate) dead: Vec<DeadRows>,
    pub(crate) quarantine_files: Vec<DataFile>,
    pub(crate) rows: u64,
    pub(crate) rows_quarantined: u64,
    pub(crate) rows_dropped: u64,
    pub(crate) rules: Vec<RuleCount>,
}

impl LaneEnd {
    /// Takes what became of old files.
    pub(crate) fn take(&mut self, moved: Moved) {
        self.files.extend(moved.files);
        self.removed.extend(moved.removed);
        self.dead.extend(moved.dead);
    }

    pub(crate) fn sum(shared: &Shared, ends: impl IntoIterator<Item = Self>) -> Self {
        let mut sum = Self { rules: shared.expectations.zero(), ..Self::default() };
        for end in ends {
            sum.files.extend(end.files);
            sum.quarantine_files.extend(end.quarantine_files);
            sum.rows += end.rows;
            sum.rows_quarantined += end.rows_quarantined;
            sum.rows_dropped += end.rows_dropped;
            add_counts(&mut sum.rules, &end.rules);
        }
        sum
    }
}

fn add_counts(sum: &mut [RuleCount], more: &[RuleCount]) {
    for (sum, more) in sum.iter_mut().zip(more) {
        sum.violations += more.violations;
    }
}

impl Lane {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        let rejects = QuarantineRows::new(shared.epoch, shared.now);
        let end = LaneEnd { rules: shared.expectations.zero(), ..LaneEnd::default() };
        Self { shared, writer: None, rejects, reject_writer: None, end }
    }

    /// Checks rows and writes those that pass.
    pub(crate) fn write(&mut self, batch: &RecordBatch) -> Result<(), Problem> {
        let accepted = self.accept(batch)?;
        self.put(&accepted)
    }

    /// Checks rows of a result and returns those that pass, as rows of the table.
    /// Errors: `Contract` when a rule of kind `fail` or a CHECK is broken.
    pub(crate) fn accept(&mut self, batch: &RecordBatch) -> Result<RecordBatch, Problem> {
        let mut rows = conform(batch, &self.shared.incoming)?;
        if !self.shared.expectations.is_empty() {
            let verdict = self.shared.expectations.verdict(&rows, FAILED_SHOWN)?;
            if let Some(first) = verdict.failed.first() {
                return Err(refused(&self.shared.table, "expectation", first, &verdict.failed));
            }
            self.reject(&rows, &verdict.rows.quarantined)?;
            add_counts(&mut self.end.rules, &verdict.rows.counts);
            let (before, quarantined) = (rows.num_rows() as u64, verdict.rows.quarantined.len() as u64);
            rows = filter_record_batch(&rows, &verdict.rows.accept).map_err(|error| problem::arrow(&error))?;
            self.end.rows_quarantined += quarantined;
            self.end.rows_dropped += before - quarantined - rows.num_rows() as u64;
        }
        let rows = conform(&rows, &self.shared.definition.schema)?;
        if !self.shared.constraints.is_empty() {
            let verdict = self.shared.constraints.verdict(&rows, FAILED_SHOWN)?;
            if let Some(first) = verdict.failed.first() {
                return Err(refused(&self.shared.table, "check", first, &verdict.failed));
            }
        }
        Ok(rows)
    }

    /// Writes rows of the table that were accepted.
    pub(crate) fn put(&mut self, rows: &RecordBatch) -> Result<(), Problem> {
        if rows.num_rows() == 0 {
            return Ok(());
        }
        let shared = &self.shared;
        let writer = self.writer.get_or_insert_with(|| shared.writer());
        writer.write(rows)?;
        self.end.rows += rows.num_rows() as u64;
        Ok(())
    }

    fn reject(&mut self, rows: &RecordBatch, violations: &[Violation]) -> Result<(), Problem> {
        if violations.is_empty() {
            return Ok(());
        }
        let raw = as_json_lines(rows, violations)?;
        let source = self.shared.table.to_string();
        for (violation, raw) in violations.iter().zip(raw) {
            self.rejects.push(&RejectedRow {
                rule: "expectation",
                name: Some(&violation.rule),
                reason: &violation.reason,
                source: &source,
                file: None,
                line: None,
                offset: None,
                raw: &raw,
            });
        }
        if self.rejects.len() >= REJECTS_HELD {
            self.put_rejects()?;
        }
        Ok(())
    }

    fn put_rejects(&mut self) -> Result<(), Problem> {
        if self.rejects.is_empty() {
            return Ok(());
        }
        let shared = &self.shared;
        let quarantine = &shared.quarantine;
        let writer = self.reject_writer.get_or_insert_with(|| {
            let options = WriterOptions::default();
            TableWriter::new(&shared.store, &quarantine.location, &quarantine.definition, shared.attempt, options)
        });
        writer.write(&self.rejects.take())?;
        Ok(())
    }

    /// Closes the files.
    pub(crate) fn finish(mut self) -> Result<LaneEnd, Problem> {
        self.put_rejects()?;
        if let Some(writer) = self.writer {
            self.end.files = writer.finish()?;
        }
        if let Some(writer) = self.reject_writer {
            self.end.quarantine_files = writer.finish()?;
        }
        Ok(self.end)
    }
}

fn refused(table: &TableName, what: &str, first: &Violation, failed: &[Violation]) -> Problem {
    let problem = Problem::new(
        ErrorKind::Contract,
        format!("rows for \"{table}\" break {what} \"{}\"; nothing was written", first.rule),
    );
    let reasons: Vec<&str> = failed.iter().map(|violation| violation.reason.as_str()).collect();
    let problem = problem.cause(reasons.join("; "));
    match what {
        "expectation" => problem
            .at(Place::of(format!("expectation {}", first.rule)))
            .fix("correct the rows, or set `on_violation: quarantine` to keep them apart"),
        _ => problem.fix("correct the rows, or make the table without the check"),
    }
}

/// The rows of the violations, one JSON object each.
fn as_json_lines(rows: &RecordBatch, violations: &[Violation]) -> Result<Vec<Vec<u8>>, Problem> {
    let wanted: UInt64Array = violations.iter().map(|violation| violation.row as u64).collect();
    let rows = take_record_batch(rows, &wanted).map_err(|error| problem::arrow(&error))?;
    let mut writer = WriterBuilder::new().with_explicit_nulls(true).build::<_, LineDelimited>(Vec::new());
    writer.write(&rows).and_then(|()| writer.finish()).map_err(|error| problem::arrow(&error))?;
    let lines: Vec<Vec<u8>> =
        writer.into_inner().split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).map(<[u8]>::to_vec).collect();
    assert_eq!(lines.len(), violations.len(), "one JSON line a rejected row");
    Ok(lines)
}
