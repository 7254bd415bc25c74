//! From decoded rows to rows of the bronze table and of its quarantine: origin columns, contract, expectations.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, BooleanBufferBuilder, Int64Array, RecordBatch, StringViewArray,
    TimestampMicrosecondArray, UInt32Array,
};
use arrow::compute::{filter_record_batch, take};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use chrono::{DateTime, Utc};

use lode_catalog::{QuarantineRows, RejectedRow};
use lode_core::{Epoch, ErrorKind, OnViolation, Place, Problem, RowPass, RuleCount, Violation, sql_type};

use crate::config::{FILE, LANDED_AT, OnMalformed};
use crate::decode::{Decoded, LINE, RawRows, Reject};

/// Columns of a bronze table: what was decoded, then where it came from and when. `decoded` ends with `_line`.
pub(crate) fn bronze_schema(decoded: &Schema, not_null: &[String]) -> SchemaRef {
    let payload = decoded.fields().iter().filter(|field| field.name() != LINE);
    let payload = payload.map(|field| field.as_ref().clone().with_nullable(!not_null.contains(field.name())));
    let mut fields: Vec<Arc<Field>> = payload.map(Arc::new).collect();
    fields.push(Arc::new(Field::new(FILE, DataType::Utf8View, true)));
    fields.push(Arc::new(Field::new(LINE, DataType::Int64, true)));
    fields.push(Arc::new(Field::new(LANDED_AT, sql_type::timestamptz(), true)));
    Arc::new(Schema::new(fields))
}

/// What all rows of one epoch share.
pub(crate) struct RowRules {
    /// Name of the ingest.
    pub(crate) source: String,
    pub(crate) epoch: Epoch,
    pub(crate) landed_at: DateTime<Utc>,
    /// As `bronze_schema` gives it, with NOT NULL where columns are declared so.
    pub(crate) schema: SchemaRef,
    pub(crate) on_malformed: OnMalformed,
    pub(crate) row_pass: Option<Arc<dyn RowPass>>,
}

/// What became of some rows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct RowCounts {
    pub(crate) rows_in: u64,
    pub(crate) landed: u64,
    pub(crate) quarantined: u64,
    pub(crate) dropped: u64,
    pub(crate) rules: Vec<RuleCount>,
}

impl RowCounts {
    pub(crate) fn add(&mut self, other: &Self) {
        self.rows_in += other.rows_in;
        self.landed += other.landed;
        self.quarantined += other.quarantined;
        self.dropped += other.dropped;
        add_rules(&mut self.rules, &other.rules);
    }

    /// Errors: `Internal` if a row went in and did not come out, or came out twice.
    pub(crate) fn check(&self, what: &str) -> Result<(), Problem> {
        if self.rows_in == self.landed + self.quarantined + self.dropped {
            return Ok(());
        }
        Err(Problem::internal(format!(
            "rows of {what} do not add up: {} in, {} landed, {} quarantined, {} dropped",
            self.rows_in, self.landed, self.quarantined, self.dropped
        )))
    }
}

pub(crate) fn add_rules(sums: &mut Vec<RuleCount>, counts: &[RuleCount]) {
    for count in counts {
        match sums.iter_mut().find(|sum| sum.rule == count.rule) {
            Some(sum) => sum.violations += count.violations,
            None => sums.push(count.clone()),
        }
    }
}

/// Where a rejected row came from.
#[derive(Debug, Clone, Copy, Default)]
struct Origin<'a> {
    file: Option<&'a str>,
    line: Option<u64>,
    offset: Option<u64>,
    raw: &'a [u8],
}

impl RowRules {
    /// Sorts the rows of one block: those that land are returned, the rejected ones go to `rejected`.
    /// Errors: `Contract` or `Data` when a rule says that the whole file is to be refused.
    pub(crate) fn sort(
        &self,
        file: &str,
        decoded: Decoded,
        rejected: &mut QuarantineRows,
        counts: &mut RowCounts,
    ) -> Result<RecordBatch, Problem> {
        let Decoded { batch, rejects, raw, entry, .. } = decoded;
        let file = match entry {
            Some(entry) => format!("{file}/{entry}"),
            None => file.to_owned(),
        };
        counts.rows_in += (batch.num_rows() + rejects.len()) as u64;
        for reject in &rejects {
            self.malformed(&file, reject, rejected, counts)?;
        }
        let batch = self.add_origin(&batch, &file)?;
        let batch = self.pass(batch, &file, raw.as_ref(), rejected, counts)?.batch;
        counts.landed += batch.num_rows() as u64;
        Ok(batch)
    }

    /// Sorts rows that have their origin columns already. `raw` holds the record of each.
    pub(crate) fn pass(
        &self,
        batch: RecordBatch,
        file: &str,
        raw: Option<&RawRows>,
        rejected: &mut QuarantineRows,
        counts: &mut RowCounts,
    ) -> Result<Kept, Problem> {
        let kept = self.check_nulls(batch, file, raw, rejected, counts)?;
        match &self.row_pass {
            Some(pass) if kept.batch.num_rows() > 0 => {
                self.check_rules(pass.as_ref(), kept, file, raw, rejected, counts)
            }
            _ => Ok(kept),
        }
    }

    fn malformed(
        &self,
        file: &str,
        reject: &Reject,
        rejected: &mut QuarantineRows,
        counts: &mut RowCounts,
    ) -> Result<(), Problem> {
        match self.on_malformed {
            OnMalformed::Drop => counts.dropped += 1,
            OnMalformed::Fail => {
                let what = match &reject.name {
                    Some(column) => format!("column \"{column}\": {}", reject.reason),
                    None => reject.reason.clone(),
                };
                return Err(Problem::new(ErrorKind::Data, what)
                    .at(Place::of(file).line(reject.line))
                    .fix("correct the record, or set `on_malformed: quarantine`"));
            }
            OnMalformed::Quarantine => {
                let origin =
                    Origin { file: Some(file), line: Some(reject.line), offset: Some(reject.offset), raw: &reject.raw };
                self.reject(rejected, counts, origin, reject.rule, reject.name.as_deref(), &reject.reason);
            }
        }
        Ok(())
    }

    fn reject(
        &self,
        rejected: &mut QuarantineRows,
        counts: &mut RowCounts,
        origin: Origin<'_>,
        rule: &str,
        name: Option<&str>,
        reason: &str,
    ) {
        let Origin { file, line, offset, raw } = origin;
        rejected.push(&RejectedRow { rule, name, reason, source: &self.source, file, line, offset, raw });
        counts.quarantined += 1;
    }

    fn add_origin(&self, batch: &RecordBatch, file: &str) -> Result<RecordBatch, Problem> {
        let rows = batch.num_rows();
        let mut columns: Vec<ArrayRef> = Vec::with_capacity(self.schema.fields().len());
        let mut nullable = Vec::with_capacity(self.schema.fields().len());
        for field in self.schema.fields() {
            let column = match field.name().as_str() {
                FILE => {
                    let one = StringViewArray::from_iter_values([file]);
                    take(&one, &UInt32Array::from_value(0, rows), None)
                        .map_err(|error| Problem::internal("a file name could not be repeated").cause(error))?
                }
                LANDED_AT => {
                    let at = TimestampMicrosecondArray::from_value(self.landed_at.timestamp_micros(), rows);
                    Arc::new(at.with_timezone("UTC")) as ArrayRef
                }
                name => Arc::clone(
                    batch
                        .column_by_name(name)
                        .ok_or_else(|| Problem::internal(format!("the decoder left out column \"{name}\"")))?,
                ),
            };
            columns.push(column);
            nullable.push(Arc::new(field.as_ref().clone().with_nullable(true)));
        }
        // Nullable until NULLs were looked for.
        RecordBatch::try_new(Arc::new(Schema::new(nullable)), columns)
            .map_err(|error| Problem::internal("decoded rows do not fit their schema").cause(error))
    }

    /// NULL in a NOT NULL column breaks the contract.
    fn check_nulls(
        &self,
        batch: RecordBatch,
        file: &str,
        raw: Option<&RawRows>,
        rejected: &mut QuarantineRows,
        counts: &mut RowCounts,
    ) -> Result<Kept, Problem> {
        let rows = batch.num_rows();
        let mut broken: Vec<Option<&str>> = Vec::new();
        for (field, column) in self.schema.fields().iter().zip(batch.columns()) {
            if field.is_nullable() || column.null_count() == 0 {
                continue;
            }
            broken.resize(rows, None);
            for (row, slot) in broken.iter_mut().enumerate() {
                if column.is_null(row) && slot.is_none() {
                    *slot = Some(field.name());
                }
            }
        }
        if broken.iter().all(Option::is_none) {
            return Ok(Kept { batch, rows: None });
        }
        for (row, column) in broken.iter().enumerate() {
            let Some(column) = column else { continue };
            let origin = origin(&batch, row, row, file, raw);
            let reason = format!("column \"{column}\" is NULL");
            match self.on_malformed {
                OnMalformed::Drop => counts.dropped += 1,
                OnMalformed::Quarantine => self.reject(rejected, counts, origin, "contract", Some(column), &reason),
                OnMalformed::Fail => {
                    let place = Place { line: origin.line, ..Place::of(file) };
                    return Err(Problem::new(ErrorKind::Contract, reason)
                        .at(place)
                        .fix("correct the record, or set `on_malformed: quarantine`"));
                }
            }
        }
        let accept = BooleanArray::from_iter(broken.iter().map(|column| Some(column.is_none())));
        Kept { batch, rows: None }.filter(&accept)
    }

    fn check_rules(
        &self,
        pass: &dyn RowPass,
        kept: Kept,
        file: &str,
        raw: Option<&RawRows>,
        rejected: &mut QuarantineRows,
        counts: &mut RowCounts,
    ) -> Result<Kept, Problem> {
        let mut verdict = Verdict {
            accept: BooleanBufferBuilder::new(kept.batch.num_rows()),
            quarantined: Vec::new(),
            counts: Vec::new(),
            rows: 0,
        };
        verdict.check(pass, &kept.batch);
        for count in &verdict.counts {
            if count.on_violation == OnViolation::Fail && count.violations > 0 {
                return Err(Problem::new(
                    ErrorKind::Contract,
                    match count.violations {
                        1 => format!("1 row breaks the expectation \"{}\"", count.rule),
                        rows => format!("{rows} rows break the expectation \"{}\"", count.rule),
                    },
                )
                .at(Place::of(file))
                .fix("correct the file, or set `on_violation: quarantine`"));
            }
        }
        add_rules(&mut counts.rules, &verdict.counts);
        for (rule, violation) in &verdict.quarantined {
            let origin = origin(&kept.batch, violation.row, kept.row(violation.row), file, raw);
            self.reject(rejected, counts, origin, rule, Some(&violation.rule), &violation.reason);
        }
        let accept = BooleanArray::new(verdict.accept.finish(), None);
        let rows = kept.batch.num_rows();
        let refused = rows - accept.true_count();
        // Refused and not quarantined: an expectation that says `drop`.
        let dropped = refused.checked_sub(verdict.quarantined.len()).ok_or_else(|| {
            Problem::internal(format!(
                "{} rows were quarantined, but only {refused} refused",
                verdict.quarantined.len()
            ))
        })?;
        counts.dropped += dropped as u64;
        kept.filter(&accept)
    }
}

/// Rows that are left of a block, with their numbers in it.
pub(crate) struct Kept {
    pub(crate) batch: RecordBatch,
    rows: Option<Vec<usize>>,
}

impl Kept {
    /// Number in the block of a row of `batch`.
    pub(crate) fn row(&self, row: usize) -> usize {
        self.rows.as_ref().map_or(row, |rows| rows.get(row).copied().unwrap_or(row))
    }

    fn filter(self, accept: &BooleanArray) -> Result<Self, Problem> {
        if accept.true_count() == accept.len() {
            return Ok(self);
        }
        let rows = accept.values().set_indices().map(|row| self.row(row)).collect();
        let batch = filter_record_batch(&self.batch, accept)
            .map_err(|error| Problem::internal("rows could not be filtered").cause(error))?;
        Ok(Self { batch, rows: Some(rows) })
    }
}

/// `row` counts in `batch`, `raw_row` in the block that `raw` belongs to.
fn origin<'a>(
    batch: &'a RecordBatch,
    row: usize,
    raw_row: usize,
    file: &'a str,
    raw: Option<&'a RawRows>,
) -> Origin<'a> {
    let line = batch.column_by_name(LINE).and_then(|column| column.as_primitive_opt::<Int64Type>());
    let line = line.filter(|lines: &&Int64Array| lines.is_valid(row)).map(|lines| lines.value(row).unsigned_abs());
    // A replay brings the file of each row.
    let files = batch.column_by_name(FILE).and_then(|column| column.as_string_view_opt());
    let file = files.filter(|files| files.is_valid(row)).map_or(file, |files| files.value(row));
    let offset = raw.and_then(|raw| raw.offsets.get(raw_row).copied());
    let raw = raw.filter(|raw| raw_row < raw.bytes.len()).map_or(&[][..], |raw| raw.bytes.value(raw_row));
    Origin { file: Some(file), line, offset, raw }
}

/// Verdicts of a row pass over the parts of a batch.
struct Verdict {
    accept: BooleanBufferBuilder,
    /// Rule and violation, rows counted over all parts.
    quarantined: Vec<(&'static str, Violation)>,
    counts: Vec<RuleCount>,
    rows: usize,
}

impl Verdict {
    /// A predicate that cannot be computed for one row (a cast, a division by zero) must not cost the others: halves the
    /// batch until that row stands alone, and quarantines it.
    fn check(&mut self, pass: &dyn RowPass, batch: &RecordBatch) {
        let rows = batch.num_rows();
        match pass.check(batch) {
            Ok(verdict) => {
                for row in 0..rows {
                    self.accept.append(verdict.accept.is_valid(row) && verdict.accept.value(row));
                }
                let base = self.rows;
                let moved = verdict
                    .quarantined
                    .into_iter()
                    .map(|violation| Violation { row: violation.row + base, ..violation });
                self.quarantined.extend(moved.map(|violation| ("expectation", violation)));
                add_rules(&mut self.counts, &verdict.counts);
                self.rows += rows;
            }
            Err(problem) if rows <= 1 => {
                let violation = Violation { row: self.rows, rule: "error".to_owned(), reason: problem.to_string() };
                self.quarantined.push(("error", violation));
                self.accept.append(false);
                self.rows += rows;
            }
            Err(_) => {
                let half = rows / 2;
                self.check(pass, &batch.slice(0, half));
                self.check(pass, &batch.slice(half, rows - half));
            }
        }
    }
}

#[cfg(test)]
mod tests;
