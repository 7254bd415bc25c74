//! Whether a table is what its log says: every page of every file read, and compared with sizes, counts, statistics and vectors.

use std::sync::Arc;

use datafusion::common::ScalarValue;
use datafusion::common::stats::Precision;
use datafusion::functions_aggregate::min_max::{MaxAccumulator, MinAccumulator};
use datafusion::logical_expr::Accumulator;
use futures::TryStreamExt;

use lode_catalog::TableEntry;
use lode_core::{EXPOSE, ErrorKind, Place, Problem};
use lode_lake::{DeltaTable, Exposure, LiveFile, Snapshot, expose};

use crate::engine::{Engine, Inner};
use crate::problem;
use crate::tables::{FileStatistics, file_statistics};
use crate::write::OldFiles;

/// What was looked at, and what is wrong.
#[derive(Debug, Default)]
pub struct VerifyReport {
    pub files: u64,
    /// Living rows.
    pub rows: u64,
    pub bytes: u64,
    /// The table's metadata for Iceberg was lost or damaged, and was made again.
    pub is_rebuilt: bool,
    pub findings: Vec<Problem>,
}

impl Engine {
    /// Reads a whole table. Errors: what stops the look as a whole; what is wrong with the table is in the report.
    pub async fn verify(&self, table: &TableEntry) -> Result<VerifyReport, Problem> {
        let inner = &self.inner;
        let snapshot = inner.catalog.snapshot(table, None).await?;
        let mut report = VerifyReport::default();
        for live in snapshot.files.iter() {
            report.files += 1;
            report.bytes += live.file.size_bytes;
            match inner.verify_file(table, &snapshot, live).await {
                Ok((rows, findings)) => {
                    report.rows += rows;
                    report.findings.extend(findings);
                }
                Err(problem) => {
                    let place = Place::of(format!("{}/{}", table.location, live.file.path));
                    report
                        .findings
                        .push(problem.context(format!("file \"{}\" cannot be read", live.file.path)).at(place));
                }
            }
        }
        let formats = snapshot.definition.properties.get(EXPOSE);
        if formats.is_some_and(|formats| formats.split(',').any(|format| format == "iceberg")) {
            match expose(inner.catalog.store(), &table.location, Some(snapshot.version)).await {
                Ok(exposed) => report.is_rebuilt = exposed.outcome == Exposure::Rebuilt,
                Err(error) => report.findings.push(error.into()),
            }
        }
        Ok(report)
    }
}

impl Inner {
    async fn verify_file(
        &self,
        table: &TableEntry,
        snapshot: &Arc<Snapshot>,
        live: &LiveFile,
    ) -> Result<(u64, Vec<Problem>), Problem> {
        let delta = DeltaTable::new(self.catalog.store(), &table.location);
        let path = delta.data_path(live)?;
        let wrong =
            |what: String, fix: &str| Problem::new(ErrorKind::Corrupt, what).at(Place::of(path.to_string())).fix(fix);
        let mut findings = Vec::new();
        let lost = "restore the file from a backup, or the table to an older version: `lode table restore`";
        let Some(meta) = self.catalog.store().head(&path).await? else {
            return Ok((0, vec![wrong(format!("data file \"{}\" is missing", live.file.path), lost)]));
        };
        if meta.size != live.file.size_bytes {
            let what = format!("it has {} bytes, its log says {}", meta.size, live.file.size_bytes);
            findings.push(wrong(what, lost));
        }
        if delta.has_its_checksum(live).await? == Some(false) {
            findings.push(wrong(format!("data file \"{}\" is not what was written", live.file.path), lost));
        }
        let old = OldFiles::new(self, &table.location, Arc::clone(snapshot));
        let whole = live.whole();
        let schema = Arc::clone(snapshot.schema());
        let seen = self
            .cpu
            .run(async move {
                let mut rows = old.rows(&whole, None).await?;
                let mut seen = Seen::new(&schema);
                while let Some(batch) = rows.try_next().await.map_err(problem::running)? {
                    seen.take(&batch)?;
                }
                Ok::<_, Problem>(seen)
            })
            .await?;
        let said = file_statistics(&live.whole(), snapshot);
        let rows = seen.rows;
        findings.extend(seen.compare(&said).into_iter().map(|what| {
            wrong(what, "`lode table compact` writes a small file anew; else restore the file from a backup")
        }));
        let dead = delta.deleted_rows(live).await?.unwrap_or_default();
        if dead.max().is_some_and(|last| last >= rows) {
            findings.push(wrong(format!("its deletion vector names rows behind its {rows} rows"), lost));
        }
        Ok((rows - dead.len().min(rows), findings))
    }
}

/// What the rows of a file are in truth.
struct Seen {
    rows: u64,
    columns: Vec<SeenColumn>,
}

struct SeenColumn {
    name: String,
    nulls: u64,
    bounds: Option<(MinAccumulator, MaxAccumulator)>,
}

impl Seen {
    fn new(schema: &arrow::datatypes::Schema) -> Self {
        let columns = schema.fields().iter().map(|field| {
            let bounds = (!field.data_type().is_nested())
                .then(|| {
                    let lowest = MinAccumulator::try_new(field.data_type()).ok()?;
                    Some((lowest, MaxAccumulator::try_new(field.data_type()).ok()?))
                })
                .flatten();
            SeenColumn { name: field.name().clone(), nulls: 0, bounds }
        });
        Self { rows: 0, columns: columns.collect() }
    }

    fn take(&mut self, batch: &arrow::array::RecordBatch) -> Result<(), Problem> {
        self.rows += batch.num_rows() as u64;
        for (column, seen) in batch.columns().iter().zip(&mut self.columns) {
            seen.nulls += column.null_count() as u64;
            if let Some((lowest, highest)) = &mut seen.bounds {
                let values = std::slice::from_ref(column);
                lowest.update_batch(values).and_then(|()| highest.update_batch(values)).map_err(problem::running)?;
            }
        }
        Ok(())
    }

    /// What the statistics say that does not hold.
    fn compare(mut self, said: &FileStatistics) -> Vec<String> {
        let mut wrong = Vec::new();
        if let Some(rows) = said.rows.filter(|rows| *rows != self.rows) {
            wrong.push(format!("it has {} rows, its log says {rows}", self.rows));
        }
        for (seen, said) in self.columns.iter_mut().zip(&said.columns) {
            let name = &seen.name;
            if let Precision::Exact(nulls) = said.null_count
                && nulls as u64 != seen.nulls
            {
                wrong.push(format!("column \"{name}\" has {} NULLs, its log says {nulls}", seen.nulls));
            }
            let Some((lowest, highest)) = &mut seen.bounds else { continue };
            let is_below =
                |a: &ScalarValue, b: &ScalarValue| !a.is_null() && a.partial_cmp(b) == Some(std::cmp::Ordering::Less);
            if let (Some(said), Ok(seen)) = (said.min_value.get_value(), lowest.evaluate())
                && is_below(&seen, said)
            {
                wrong.push(format!("column \"{name}\" has {seen}, below the bound {said} of its log"));
            }
            if let (Some(said), Ok(seen)) = (said.max_value.get_value(), highest.evaluate())
                && is_below(said, &seen)
                && !seen.is_null()
            {
                wrong.push(format!("column \"{name}\" has {seen}, above the bound {said} of its log"));
            }
        }
        wrong
    }
}
