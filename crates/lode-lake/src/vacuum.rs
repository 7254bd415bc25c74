//! Deletes files that no version within the retention needs. Source: research/epoch.md §1.8; Delta, "Remove unused files".

use std::collections::{BTreeSet, HashSet};
use std::time::Duration;

use chrono::{DateTime, Utc};
use futures::{StreamExt, stream};

use lode_core::SnapshotId;

use crate::delta::{VACUUM_END, VACUUM_START};
use crate::{DeltaTable, LakeError, Store, StorePath};

/// Deletes on their way at once.
const AT_ONCE: usize = 16;

/// What may go.
#[derive(Debug, Clone)]
pub struct VacuumOptions {
    /// Files of versions that were current within this time stay, as do younger files that nobody names yet.
    pub retention: Duration,
    /// Only say what would go.
    pub dry_run: bool,
    /// At most so many files in one call.
    pub files_max: usize,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VacuumReport {
    /// Below the table.
    pub files: Vec<String>,
    pub bytes: u64,
    /// More could go than one call takes.
    pub has_more: bool,
}

/// Deletes data files, vectors and key runs of one table. Nothing outside of its folder is touched, no log, no Iceberg
/// metadata, and no hidden folder of other tools. `is_written` tells by a path below the table whether an unfinished write
/// of this process made it.
/// Errors: those of reading the log; `Store`.
pub async fn vacuum(
    store: &Store,
    location: &str,
    options: &VacuumOptions,
    is_written: &(dyn Fn(&str) -> bool + Send + Sync),
    guard: &(dyn Fn() -> Result<(), LakeError> + Send + Sync),
) -> Result<VacuumReport, LakeError> {
    let table = DeltaTable::new(store, location);
    let location = location.trim_matches('/');
    let now = Utc::now();
    let retention = chrono::TimeDelta::from_std(options.retention).unwrap_or(chrono::TimeDelta::MAX);
    let cutoff = now.checked_sub_signed(retention).unwrap_or(DateTime::UNIX_EPOCH);
    let listed = store.list(&StorePath::from(location), None).await?;
    let needed = Needed::read(&table, cutoff).await?;
    let mut going = Vec::new();
    let mut report = VacuumReport::default();
    for meta in listed {
        let Some(path) = below(location, &meta.location) else { continue };
        if needed.has(&path, &meta.location) || meta.last_modified >= cutoff.min(now) || is_written(&path) {
            continue;
        }
        if going.len() >= options.files_max {
            report.has_more = true;
            break;
        }
        report.bytes += meta.size;
        report.files.push(path);
        going.push(meta.location);
    }
    if options.dry_run || going.is_empty() {
        return Ok(report);
    }
    // Whoever is about to commit one of these files meets this commit first, and writes it again; whoever was faster is seen
    // in the log behind it.
    table.mark(VACUUM_START, guard).await?;
    let needed = Needed::read(&table, cutoff).await?;
    let is_needed = |path: &StorePath| below(location, path).is_none_or(|short| needed.has(&short, path));
    going.retain(|path| !is_needed(path));
    let deletes = stream::iter(going).map(|path| async move { store.delete(&path).await });
    let ended: Vec<Result<(), LakeError>> = deletes.buffer_unordered(AT_ONCE).collect().await;
    ended.into_iter().collect::<Result<(), LakeError>>()?;
    table.mark(VACUUM_END, guard).await?;
    Ok(report)
}

/// What has to stay.
struct Needed {
    files: HashSet<StorePath>,
    runs: BTreeSet<String>,
}

impl Needed {
    async fn read(table: &DeltaTable, cutoff: DateTime<Utc>) -> Result<Self, LakeError> {
        let files = table.needed_since(cutoff).await?;
        let snapshot = table.snapshot(None).await?;
        Ok(Self { files, runs: table.needed_runs(&snapshot).await? })
    }

    fn has(&self, below: &str, path: &StorePath) -> bool {
        match kind(below) {
            Some(Kind::Data) => self.files.contains(path),
            Some(Kind::Run) => self.runs.contains(below.rsplit('/').next().unwrap_or_default()),
            None => true,
        }
    }
}

enum Kind {
    /// A data file or a file of vectors.
    Data,
    /// A key run or a manifest of them.
    Run,
}

/// What a file of the table is; `None` for what is not ours to delete.
fn kind(path: &str) -> Option<Kind> {
    let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
    let is_hidden = |part: &str| part.starts_with(['_', '.']) && !part.contains('=');
    match folder {
        "_dv" => (name.ends_with(".bin") || name.ends_with(".puffin")).then_some(Kind::Data),
        "_lode/idx" => Some(Kind::Run),
        "" => vector_or_data(name),
        // Partitions, and folders with the prefix of a vector's path.
        _ if folder == "metadata" || folder.split('/').any(is_hidden) => None,
        _ => vector_or_data(name),
    }
}

fn vector_or_data(name: &str) -> Option<Kind> {
    let is_ours = name.ends_with(".parquet") || (name.starts_with("deletion_vector_") && name.ends_with(".bin"));
    (is_ours && !name.starts_with(['_', '.'])).then_some(Kind::Data)
}

fn below(location: &str, path: &StorePath) -> Option<String> {
    Some(path.as_ref().strip_prefix(location)?.trim_start_matches('/').to_owned())
}

impl DeltaTable {
    /// Data files and vectors of all versions that were current at a time or later.
    async fn needed_since(&self, cutoff: DateTime<Utc>) -> Result<HashSet<StorePath>, LakeError> {
        let from = match self.version_at(cutoff).await {
            Ok(version) => version,
            // The log begins later: all of it is needed.
            Err(LakeError::NoSnapshot { newest, .. }) => self.oldest().await?.unwrap_or(newest),
            Err(error) => return Err(error),
        };
        self.paths_since(from).await
    }

    /// The oldest version that can still be read.
    async fn oldest(&self) -> Result<Option<SnapshotId>, LakeError> {
        let commits = self.history(usize::MAX).await?;
        for commit in commits.iter().rev() {
            if self.snapshot(Some(commit.version)).await.is_ok() {
                return Ok(Some(commit.version));
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_ours_may_go() {
        for ours in [
            "a.parquet",
            "region=eu/a.parquet",
            "_day=1/a.parquet",
            "_dv/x.bin",
            "_dv/x.puffin",
            "_lode/idx/a.kix",
            "ab/deletion_vector_1.bin",
        ] {
            assert!(kind(ours).is_some(), "{ours}");
        }
        for other in [
            "_delta_log/0.json",
            "metadata/v1.metadata.json",
            "metadata/m.parquet",
            ".hoodie/a.parquet",
            "_other/a.parquet",
            "README.md",
            "_lode/x.parquet",
            "_a.parquet",
        ] {
            assert!(kind(other).is_none(), "{other}");
        }
    }
}
