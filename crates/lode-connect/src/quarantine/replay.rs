//! Rejected records decoded again: those that pass now move to their table, in one epoch of the ingest's own pipeline.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringViewArray, TimestampMicrosecondArray};
use arrow::compute::concat_batches;
use arrow::datatypes::Schema;
use futures::StreamExt;
use serde::Serialize;

use lode_catalog::{Catalog, CatalogError, Counts, Draft, Pipeline, PipelineKind, QuarantineRows, SealContent};
use lode_core::{ErrorKind, OnViolation, Place, Problem, TableName, fail, task};
use lode_lake::{LiveFile, Operation, TableWriter, WriterOptions};

use super::{QuarantineFilter, QuarantineTable, RejectedColumns, base_of, read, without};
use crate::config::{FILE, Ingest, LANDED_AT, OnMalformed};
use crate::decode::{self, DecodePlan, Dialect, Dialects, LINE};
use crate::ingest::IngestContext;
use crate::sources::files::bronze::{self, TableTarget, Target};
use crate::sources::files::land::{fingerprints, rules};
use crate::sources::files::rows::{RowCounts, RowRules};

/// A seal may be lost to another process, or a table may change meanwhile; more often than this in a row, something is wrong.
const SEAL_TRIES: u32 = 5;

/// What a replay did.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct ReplayReport {
    pub table: String,
    /// Rows that matched the filter.
    pub rows_tried: u64,
    /// Rows that are in the table now, and no longer in the quarantine.
    pub rows_replayed: u64,
    /// Rows that failed again, or that are dropped by the contract of today: they stay as they were.
    pub rows_left: u64,
}

/// Tries the rejected rows of `table` that match `filter` again, under today's columns, format and contract. Rows that
/// pass are appended with their old `_file` and `_line`, and leave the quarantine in the same epoch. Doing it again finds
/// nothing to do.
/// Errors: `NotFound` if no ingest of the project lands in that table.
pub async fn replay(
    context: &IngestContext,
    table: &TableName,
    filter: &QuarantineFilter,
) -> Result<ReplayReport, Problem> {
    let base = base_of(table);
    let Some(ingest) = context.ingests.iter().find(|ingest| ingest.table == base) else {
        return Err(Problem::new(ErrorKind::NotFound, format!("no ingest of this project lands in \"{base}\""))
            .at(Place::of(base.to_string()))
            .fix("rows that a model rejected come back when the model is run again"));
    };
    let catalog = &context.catalog;
    let pipeline = catalog.pipeline(PipelineKind::Ingest, &ingest.name, ingest.renamed_from.as_deref()).await?;
    let mut tries = 0;
    loop {
        let draft = catalog.begin(&pipeline).await?;
        match replay_epoch(context, ingest, &pipeline, draft, filter).await {
            Err(CatalogError::SealLost { .. } | CatalogError::Conflict { .. }) if tries < SEAL_TRIES => tries += 1,
            other => return Ok(other?),
        }
    }
}

async fn replay_epoch(
    context: &IngestContext,
    ingest: &Ingest,
    pipeline: &Pipeline,
    draft: Draft,
    filter: &QuarantineFilter,
) -> Result<ReplayReport, CatalogError> {
    let catalog = &context.catalog;
    let mut report = ReplayReport { table: ingest.table.to_string(), ..ReplayReport::default() };
    if bronze::existing(catalog, pipeline, &ingest.table.quarantine()).await?.is_none() {
        return Ok(report);
    }
    let target = bronze::target(catalog, pipeline, ingest, Vec::new()).await?;
    let today = for_replay(ingest);
    let rules = rules(catalog, context.warehouse.as_ref(), &today, &target, draft.epoch())?;
    let dialects = dialects(catalog, pipeline).await?;
    let table = super::open(catalog, &ingest.table).await?;
    let mut work = Replay {
        landed: None,
        kept: None,
        job: Arc::new(ReplayJob { filter: filter.clone(), plan: target.plan.clone(), rules, dialects }),
        target,
        removed: Vec::new(),
    };
    for file in table.files() {
        work.file(catalog, &draft, &table, file, &mut report).await?;
    }
    report.rows_left = report.rows_tried - report.rows_replayed;
    if report.rows_replayed == 0 {
        return Ok(report);
    }
    let content = work.content(ingest, &draft, &report).await?;
    fail::point("replay.collected")?;
    draft.commit(content).await?;
    Ok(report)
}

/// Today's rules, but no row stops the replay: what fails again stays where it is.
fn for_replay(ingest: &Ingest) -> Ingest {
    let mut today = ingest.clone();
    today.on_malformed = OnMalformed::Quarantine;
    for expectation in &mut today.expectations {
        if expectation.on_violation == OnViolation::Fail {
            expectation.on_violation = OnViolation::Quarantine;
        }
    }
    today
}

/// How the text of each file with rejects is written, from the ledger.
async fn dialects(catalog: &Arc<Catalog>, pipeline: &Pipeline) -> Result<HashMap<String, Dialects>, Problem> {
    let rows = catalog.files(pipeline).await?;
    let read = |json: String| {
        serde_json::from_str(&json)
            .map_err(|error| Problem::internal("a dialect of the ledger cannot be read").cause(error))
    };
    rows.into_iter().filter_map(|row| row.dialect.map(|json| Ok((row.path, read(json)?)))).collect()
}

/// What does not change during a replay.
struct ReplayJob {
    filter: QuarantineFilter,
    plan: DecodePlan,
    rules: RowRules,
    dialects: HashMap<String, Dialects>,
}

/// The files that the epoch will have written and taken out.
struct Replay {
    landed: Option<TableWriter>,
    kept: Option<TableWriter>,
    job: Arc<ReplayJob>,
    target: Target,
    removed: Vec<String>,
}

impl Replay {
    /// Decodes the matching rows of one quarantine file; if some pass, the file is written anew without them.
    async fn file(
        &mut self,
        catalog: &Arc<Catalog>,
        draft: &Draft,
        table: &QuarantineTable,
        file: &LiveFile,
        report: &mut ReplayReport,
    ) -> Result<(), Problem> {
        let mut taken: Vec<bool> = Vec::new();
        let mut batches = read(catalog.store(), table, file, &[]).await?;
        while let Some(batch) = batches.next().await {
            let (job, batch) = (Arc::clone(&self.job), batch?);
            let passed = task::cpu("replay", move || job.batch(&batch)).await??;
            report.rows_tried += passed.tried;
            taken.extend(passed.taken);
            if passed.rows.num_rows() > 0 {
                self.landed = Some(write(self.landed.take(), catalog, draft, &self.target.bronze, passed.rows).await?);
            }
        }
        let replayed = taken.iter().filter(|taken| **taken).count();
        if replayed == 0 {
            return Ok(());
        }
        report.rows_replayed += replayed as u64;
        self.removed.push(file.file.path.clone());
        // Read once more: which rows stay was not known before the end.
        let mut batches = read(catalog.store(), table, file, &[]).await?;
        let mut taken = taken.as_slice();
        while let Some(batch) = batches.next().await {
            let batch = batch?;
            let Some((these, rest)) = taken.split_at_checked(batch.num_rows()) else {
                return Err(Problem::internal("a quarantine file grew while it was read"));
            };
            taken = rest;
            let kept = without(&batch, these)?;
            if kept.num_rows() > 0 {
                self.kept = Some(write(self.kept.take(), catalog, draft, &self.target.quarantine, kept).await?);
            }
        }
        Ok(())
    }

    async fn content(self, ingest: &Ingest, draft: &Draft, report: &ReplayReport) -> Result<SealContent, Problem> {
        let Self { landed, kept, target, removed, .. } = self;
        let finish = |writer: Option<TableWriter>| {
            task::cpu("replay", move || writer.map(TableWriter::finish).transpose().map(Option::unwrap_or_default))
        };
        let (landed, kept) = (finish(landed).await??, finish(kept).await??);
        let rows: u64 = landed.iter().filter_map(|file| file.stats.as_ref()).map(|stats| stats.num_records).sum();
        if rows != report.rows_replayed {
            return Err(Problem::internal(format!(
                "{} rows leave the quarantine, but {rows} were written to the table",
                report.rows_replayed
            )));
        }
        let quarantine = target.quarantine.change(Operation::Rewrite, kept, removed, "REPLAY");
        Ok(SealContent {
            position: draft.previous().map(|seal| seal.content.position.clone()).unwrap_or_default(),
            fingerprints: fingerprints(ingest),
            tables: vec![target.bronze.append(landed), quarantine],
            counts: Counts { rows_replayed: report.rows_replayed, ..Counts::default() },
            ..SealContent::default()
        })
    }
}

async fn write(
    writer: Option<TableWriter>,
    catalog: &Arc<Catalog>,
    draft: &Draft,
    table: &TableTarget,
    rows: RecordBatch,
) -> Result<TableWriter, Problem> {
    let mut writer = writer.unwrap_or_else(|| {
        let options = WriterOptions { row_group_bytes: 16 << 20, ..WriterOptions::default() };
        TableWriter::new(catalog.store(), &table.location, &table.definition, draft.attempt(), options)
    });
    task::cpu("replay", move || writer.write(&rows).map(|()| writer)).await?.map_err(Problem::from)
}

/// What became of one batch of rejected rows.
struct Passed {
    tried: u64,
    /// One a row of the batch: it passed.
    taken: Vec<bool>,
    rows: RecordBatch,
}

impl ReplayJob {
    fn batch(&self, batch: &RecordBatch) -> Result<Passed, Problem> {
        let columns = RejectedColumns::new(batch)?;
        let mut taken = vec![false; batch.num_rows()];
        let mut decoded: Vec<(usize, RecordBatch)> = Vec::new();
        let mut tried = 0;
        for row in (0..batch.num_rows()).filter(|row| columns.matches(*row, &self.filter)) {
            tried += 1;
            let dialect = columns.text("_file", row).and_then(|file| self.dialect(file));
            if let Ok(record) = decode::decode_record(columns.raw(row), &self.plan, dialect)
                && record.num_rows() == 1
            {
                decoded.push((row, record));
            }
        }
        let rows = self.with_origin(&columns, &decoded)?;
        // What fails again stays as it is: these rejects are not written.
        let mut forgotten = QuarantineRows::new(self.rules.epoch, self.rules.landed_at);
        let kept = self.rules.pass(rows, "", None, &mut forgotten, &mut RowCounts::default())?;
        for row in 0..kept.batch.num_rows() {
            if let Some(slot) = decoded.get(kept.row(row)).and_then(|(row, _)| taken.get_mut(*row)) {
                *slot = true;
            }
        }
        Ok(Passed { tried, taken, rows: kept.batch })
    }

    /// The dialect of a file, or of an entry of an archive.
    fn dialect(&self, file: &str) -> Option<&Dialect> {
        let mut path = file;
        loop {
            if let Some(dialects) = self.dialects.get(path) {
                return dialects.get(file.get(path.len() + 1..).unwrap_or_default());
            }
            path = path.rsplit_once('/')?.0;
        }
    }

    /// Decoded records under each other, with the place that each came from.
    fn with_origin(&self, columns: &RejectedColumns, decoded: &[(usize, RecordBatch)]) -> Result<RecordBatch, Problem> {
        let fail = |error| Problem::internal("replayed rows do not fit their schema").cause(error);
        let rows =
            concat_batches(&self.plan.output_schema(), decoded.iter().map(|(_, record)| record)).map_err(fail)?;
        let mut fields = Vec::new();
        let mut arrays: Vec<ArrayRef> = Vec::new();
        for field in self.rules.schema.fields() {
            let array: ArrayRef = match field.name().as_str() {
                FILE => {
                    Arc::new(StringViewArray::from_iter(decoded.iter().map(|(row, _)| columns.text("_file", *row))))
                }
                LINE => Arc::new(Int64Array::from_iter(decoded.iter().map(|(row, _)| columns.number("_line", *row)))),
                LANDED_AT => {
                    let at = self.rules.landed_at.timestamp_micros();
                    Arc::new(TimestampMicrosecondArray::from_value(at, decoded.len()).with_timezone("UTC"))
                }
                name => Arc::clone(
                    rows.column_by_name(name)
                        .ok_or_else(|| Problem::internal(format!("the decoder left out column \"{name}\"")))?,
                ),
            };
            fields.push(Arc::new(field.as_ref().clone().with_nullable(true)));
            arrays.push(array);
        }
        RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays).map_err(fail)
    }
}
