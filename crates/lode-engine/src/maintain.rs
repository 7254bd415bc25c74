//! Looking after tables: fewer files, older versions back, files deleted that nobody needs.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::TryStreamExt;
use tokio_util::sync::CancellationToken;

use lode_catalog::{Attempt, RelationEntry, TableEntry};
use lode_core::{EXPOSE, KEY, Problem, SnapshotId, fail};
use lode_lake::{
    Compaction, DataFile, DeltaTable, KeyEncoder, LakeError, LiveFile, Snapshot, TableWriter, VacuumOptions,
    VacuumReport, WriterOptions, merge_runs,
};

use crate::engine::{Engine, Inner};
use crate::problem;
use crate::write::{OldFiles, conform};

/// Size that files are brought to; those below a quarter of it are small.
const TARGET_BYTES: u64 = 256 << 20;
/// Share of dead rows, one in so many, above which a file is written anew.
const DEAD_SHARE: u64 = 10;
const DEAD_ROWS: &str = "dead rows";
/// Small files from which on they are compacted unasked.
const DUE_FILES: usize = 8;
/// Files up to this size go together, whatever their number.
const ALWAYS_SMALL_BYTES: u64 = 1 << 20;
const CARE_EVERY: Duration = Duration::from_secs(60);
const VACUUM_FIRST: Duration = Duration::from_secs(3600);
const VACUUM_EVERY: Duration = Duration::from_secs(24 * 3600);
/// Retention of a vacuum unless the table says otherwise, as Delta has it.
pub const RETENTION: Duration = Duration::from_secs(7 * 24 * 3600);
const RETENTION_PROPERTY: &str = "delta.deletedFileRetentionDuration";

/// What a compaction did with one table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CompactionReport {
    pub files_before: u64,
    pub files_after: u64,
    /// Rows that were written anew.
    pub rows: u64,
    pub bytes_before: u64,
    pub bytes_after: u64,
    /// Groups of files that were given up, as the table changed meanwhile.
    pub given_up: u64,
    /// Entries of key runs that were merged.
    pub index_entries: u64,
}

/// Files that become one.
struct Bin {
    files: Vec<LiveFile>,
    why: &'static str,
}

impl Engine {
    /// Writes small files, and files with many dead rows, anew as fewer ones. Writers do not wait for it: rows that die
    /// meanwhile die in the new files too.
    /// Errors: those of reading the files; `Store`.
    pub async fn compact(&self, table: &TableEntry) -> Result<CompactionReport, Problem> {
        self.compact_in(table, bins).await
    }

    async fn compact_in(
        &self,
        table: &TableEntry,
        choose: fn(&Snapshot) -> Vec<Bin>,
    ) -> Result<CompactionReport, Problem> {
        let inner = &self.inner;
        let snapshot = inner.catalog.snapshot(table, None).await?;
        let mut report = CompactionReport::default();
        let bins = choose(&snapshot);
        if bins.is_empty() && !snapshot.definition.properties.contains_key(KEY) {
            return Ok(report);
        }
        snapshot.check_writable(&table.name)?;
        for bin in bins {
            inner.compact_bin(table, &snapshot, bin, &mut report).await?;
        }
        if let Some(encoder) = KeyEncoder::of_table(&snapshot.definition) {
            let newest = DeltaTable::new(inner.catalog.store(), &table.location).snapshot(None).await?;
            let merged = merge_runs(inner.catalog.store(), &table.location, &newest, &encoder, u64::MAX).await?;
            report.index_entries = merged.entries;
        }
        if report.files_before > 0 {
            inner.show(table).await;
        }
        Ok(report)
    }

    /// Looks after all tables until `stop`: each minute one group of files of a table that has many small ones or dead rows,
    /// each day a vacuum. What fails is logged and tried again.
    pub async fn look_after(&self, stop: CancellationToken) {
        let begun = Instant::now();
        let mut vacuums = 0;
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(CARE_EVERY) => {}
            }
            let is_vacuum_due = begun.elapsed() >= VACUUM_FIRST + VACUUM_EVERY * vacuums;
            vacuums += u32::from(is_vacuum_due);
            let tables = match self.inner.catalog.relations().await {
                Ok(relations) => relations,
                Err(error) => {
                    tracing::warn!(%error, "tables were not looked after");
                    continue;
                }
            };
            for relation in tables {
                if stop.is_cancelled() {
                    return;
                }
                let RelationEntry::Table(table) = relation else { continue };
                self.look_after_one(&table, is_vacuum_due).await;
            }
        }
    }

    async fn look_after_one(&self, table: &TableEntry, vacuum: bool) {
        // A table that Lode cannot write is its writer's to look after.
        let is_ours = match self.inner.catalog.snapshot(table, None).await {
            Ok(snapshot) => snapshot.check_writable(&table.name).is_ok(),
            Err(_) => false,
        };
        if !is_ours {
            return;
        }
        if let Err(error) = self.compact_in(table, due_bin).await {
            tracing::warn!(table = %table.name, %error, "files were not compacted");
        }
        if vacuum {
            match self.vacuum(table, None, false).await {
                Ok(done) if done.files.is_empty() => {}
                Ok(done) => {
                    tracing::info!(table = %table.name, files = done.files.len(), bytes = done.bytes, "vacuumed")
                }
                Err(error) => tracing::warn!(table = %table.name, %error, "files were not vacuumed"),
            }
        }
    }

    /// Makes the rows of an older version the newest ones.
    /// Errors: `NotFound` when a file of that version is gone.
    pub async fn restore(&self, table: &TableEntry, to: SnapshotId) -> Result<SnapshotId, Problem> {
        let inner = &self.inner;
        inner.catalog.snapshot(table, None).await?.check_writable(&table.name)?;
        let _turn = inner.catalog.table_turn(table).await?;
        let version = DeltaTable::new(inner.catalog.store(), &table.location).restore(to, &|| Ok(())).await?;
        inner.show(table).await;
        Ok(version)
    }

    /// Deletes files that no version within the retention needs. `retention` goes over the table's own.
    /// Errors: `Config` for a retention of the table that does not read; `Store`.
    pub async fn vacuum(
        &self,
        table: &TableEntry,
        retention: Option<Duration>,
        dry_run: bool,
    ) -> Result<VacuumReport, Problem> {
        let catalog = &self.inner.catalog;
        let snapshot = catalog.snapshot(table, None).await?;
        let retention = match retention {
            Some(retention) => retention,
            None => retention_of(&snapshot)?,
        };
        let options = VacuumOptions { retention, dry_run, files_max: 100_000 };
        let _turn = catalog.table_turn(table).await?;
        let is_written = |path: &str| catalog.is_being_written(path);
        Ok(lode_lake::vacuum(catalog.store(), &table.location, &options, &is_written, &|| Ok(())).await?)
    }
}

impl Inner {
    async fn compact_bin(
        &self,
        table: &TableEntry,
        snapshot: &Arc<Snapshot>,
        bin: Bin,
        report: &mut CompactionReport,
    ) -> Result<(), Problem> {
        let store = self.catalog.store().clone();
        let attempt = self.catalog.attempt();
        let outputs = self.write_bin(table, snapshot, &bin, &attempt).await?;
        fail::point("maintain.compact.written")?;
        let rows: u64 = outputs.iter().filter_map(|file| file.stats.as_ref()).map(|stats| stats.num_records).sum();
        let size = |files: &[DataFile]| files.iter().map(|file| file.size_bytes).sum::<u64>();
        let (before, after) = (bin.files.len() as u64, outputs.len() as u64);
        let bytes_before = bin.files.iter().map(|live| live.file.size_bytes).sum::<u64>();
        let bytes_after = size(&outputs);
        let compaction = Compaction { base: Arc::clone(snapshot), inputs: bin.files, outputs };
        let _turn = self.catalog.table_turn(table).await?;
        let committed = DeltaTable::new(&store, &table.location).commit_compaction(&compaction, &|| Ok(())).await?;
        match committed {
            Some(version) => {
                tracing::info!(
                    table = %table.name, version = version.0, files_before = before, files_after = after, rows,
                    why = bin.why, "files compacted"
                );
                report.files_before += before;
                report.files_after += after;
                report.rows += rows;
                report.bytes_before += bytes_before;
                report.bytes_after += bytes_after;
            }
            None => {
                tracing::info!(table = %table.name, files = before, "compaction given up: the files changed meanwhile");
                report.given_up += 1;
            }
        }
        Ok(())
    }

    /// The living rows of the bin, file after file.
    async fn write_bin(
        &self,
        table: &TableEntry,
        snapshot: &Arc<Snapshot>,
        bin: &Bin,
        attempt: &Attempt,
    ) -> Result<Vec<DataFile>, Problem> {
        let old = OldFiles::new(self, &table.location, Arc::clone(snapshot));
        let (store, location, files) = (self.catalog.store().clone(), table.location.clone(), bin.files.clone());
        let (definition, id) = (snapshot.definition.clone(), attempt.id);
        self.cpu
            .run(async move {
                let options = WriterOptions { target_file_bytes: TARGET_BYTES, ..WriterOptions::default() };
                let mut writer = TableWriter::new(&store, &location, &definition, id, options);
                for file in &files {
                    let mut rows = old.rows(file, None).await?;
                    while let Some(batch) = rows.try_next().await.map_err(problem::running)? {
                        let batch = conform(&batch, &definition.schema)?;
                        if batch.num_rows() > 0 {
                            writer.write(&batch)?;
                        }
                    }
                }
                Ok(writer.finish()?)
            })
            .await
    }

    /// Shows the newest version to readers of other formats. What fails is made up for by the next one.
    async fn show(&self, table: &TableEntry) {
        let (store, location) = (self.catalog.store(), &table.location);
        let shown = async {
            let newest = DeltaTable::new(store, location).snapshot(None).await?;
            let formats = newest.definition.properties.get(EXPOSE);
            if formats.is_some_and(|formats| formats.split(',').any(|format| format == "iceberg")) {
                lode_lake::expose(store, location, Some(newest.version)).await?;
            }
            Ok::<_, LakeError>(())
        };
        if let Err(error) = shown.await {
            tracing::warn!(table = %table.name, %error, "the table is not shown as Iceberg yet");
        }
    }
}

/// Small files and files with many dead rows, by partition, in groups of about the target's size.
fn bins(snapshot: &Snapshot) -> Vec<Bin> {
    let mut by_partition: BTreeMap<&BTreeMap<String, Option<String>>, Vec<&LiveFile>> = BTreeMap::new();
    for live in snapshot.files.iter() {
        // Positions cannot be counted without it.
        if live.file.stats.is_some() && (is_small(live) || is_mostly_dead(live)) {
            by_partition.entry(&live.file.partition_values).or_default().push(live);
        }
    }
    let mut bins = Vec::new();
    for files in by_partition.into_values() {
        let mut open: Vec<LiveFile> = Vec::new();
        let mut size = 0;
        for live in files {
            if size + live.file.size_bytes > TARGET_BYTES && !open.is_empty() {
                bins.push(std::mem::take(&mut open));
                size = 0;
            }
            size += live.file.size_bytes;
            open.push(live.clone());
        }
        bins.push(open);
    }
    // One small file alone is as good as it gets.
    let pays = |files: &Vec<LiveFile>| files.len() > 1 || files.iter().any(is_mostly_dead);
    let why = |files: &[LiveFile]| if files.iter().any(is_mostly_dead) { DEAD_ROWS } else { "small files" };
    bins.into_iter().filter(pays).map(|files| Bin { why: why(&files), files }).collect()
}

/// The one group that is worth its cost without being asked for: files with dead rows, or eight and more small ones, none of
/// them larger than those below it together. So a row is written anew a few times, not each minute.
fn due_bin(snapshot: &Snapshot) -> Vec<Bin> {
    let mut bins = bins(snapshot);
    for bin in &mut bins {
        if bin.why != DEAD_ROWS {
            let limit = due_limit(bin.files.iter().map(|live| live.file.size_bytes).collect());
            bin.files.retain(|live| live.file.size_bytes <= limit);
        }
    }
    bins.retain(|bin| bin.why == DEAD_ROWS || bin.files.len() >= DUE_FILES);
    bins.truncate(1);
    bins
}

/// The size up to which files go together: none is larger than those below it together.
fn due_limit(mut sizes: Vec<u64>) -> u64 {
    sizes.sort_unstable();
    let (mut below, mut limit) = (ALWAYS_SMALL_BYTES, 0);
    for size in sizes {
        if size > below {
            break;
        }
        below += size;
        limit = size;
    }
    limit
}

fn is_small(live: &LiveFile) -> bool {
    live.file.size_bytes < TARGET_BYTES / 4
}

fn is_mostly_dead(live: &LiveFile) -> bool {
    let total = live.file.stats.as_ref().map_or(0, |stats| stats.num_records);
    let living = live.live_row_count().unwrap_or(total);
    total.saturating_sub(living).saturating_mul(DEAD_SHARE) > total
}

/// `interval 1 week` and the like, as Delta writes it.
fn retention_of(snapshot: &Snapshot) -> Result<Duration, Problem> {
    let Some(text) = snapshot.definition.properties.get(RETENTION_PROPERTY) else { return Ok(RETENTION) };
    let words: Vec<&str> = text.split_whitespace().filter(|word| !word.eq_ignore_ascii_case("interval")).collect();
    let unit = |word: &str| match word.trim_end_matches('s').to_lowercase().as_str() {
        "week" => Some(7 * 24 * 3600),
        "day" => Some(24 * 3600),
        "hour" => Some(3600),
        "minute" => Some(60),
        "second" => Some(1),
        _ => None,
    };
    let seconds = match words.as_slice() {
        [number, word] => {
            number.parse::<u64>().ok().zip(unit(word)).and_then(|(number, unit)| number.checked_mul(unit))
        }
        _ => None,
    };
    seconds.map(Duration::from_secs).ok_or_else(|| {
        Problem::new(
            lode_core::ErrorKind::Config,
            format!("property {RETENTION_PROPERTY} of \"{}\" is \"{text}\"", snapshot.definition.name),
        )
        .fix("write it as `interval 7 days`, or give `--retain`")
    })
}
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_file_stays_until_the_small_ones_are_as_large_together() {
        let due = |sizes: &[u64]| due_limit(sizes.iter().map(|mib| mib << 20).collect()) >> 20;
        assert_eq!(due(&[1; 8]), 1);
        assert_eq!(due(&[40, 1, 1, 1, 1, 1, 1, 1, 1]), 1);
        assert_eq!(due(&[8, 1, 1, 1, 1, 1, 1, 1, 1]), 8);
        assert_eq!(due(&[60, 50]), 0);
    }
}
