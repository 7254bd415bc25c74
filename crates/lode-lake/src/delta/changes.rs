//! What each commit did to the rows, by file and position: nothing is written for it when rows change.
//! Source: Delta protocol, "Reader Requirements for Change Data Feed".

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use chrono::{DateTime, Utc};
use roaring::RoaringTreemap;

use lode_core::SnapshotId;

use super::log::{LogState, commit_path, read_commit};
use super::{DeltaTable, LiveFile};
use crate::LakeError;

/// The rows that one commit brought and took away.
#[derive(Debug, Clone)]
pub struct CommitChanges {
    pub version: SnapshotId,
    pub committed_at: DateTime<Utc>,
    /// Rows that are there since, file by file.
    pub came: Vec<LiveFile>,
    /// Rows that are no longer there. A row that its file was written anew for is in both.
    pub gone: Vec<LiveFile>,
}

impl DeltaTable {
    /// The commits from `from` to `to`, both included, that changed rows, oldest first. Commits that only moved rows are
    /// left out.
    /// Errors: `NoSnapshot`; `Cleaned` when the log no longer holds them; `Corrupt`, `Unsupported`, `Store`.
    pub async fn row_changes(&self, from: SnapshotId, to: SnapshotId) -> Result<Vec<CommitChanges>, LakeError> {
        let missing = |version: i64| LakeError::NotFound { path: commit_path(&self.location, version).to_string() };
        let mut state = match from.0 {
            ..=0 => None,
            above => LogState::load(&self.store, &self.location, Some(above - 1)).await?,
        };
        let mut found = Vec::new();
        for version in from.0.max(0)..=to.0 {
            let (commit, _) =
                read_commit(&self.store, &self.location, version).await?.ok_or_else(|| missing(version))?;
            let moved: HashSet<String> = commit
                .adds
                .iter()
                .filter(|add| !add.data_change)
                .map(|add| add.path.clone())
                .chain(commit.removes.iter().filter(|remove| !remove.data_change).map(|remove| remove.path.clone()))
                .collect();
            let (added, removed) = match &mut state {
                Some(state) => {
                    state.advance(commit, None, Utc::now())?;
                    state.newest_step()
                }
                None => {
                    let begun = LogState::begin(&self.location, version, commit, None)?;
                    let added = begun.files.values().cloned().collect();
                    state = Some(begun);
                    (added, Vec::new())
                }
            };
            let is_moved = |file: &LiveFile| moved.contains(&super::action::encode_path(&file.file.path));
            let added = added.into_iter().filter(|file| !is_moved(file)).collect();
            let removed = removed.into_iter().filter(|file| !is_moved(file)).collect();
            let (came, gone) = self.difference(added, removed).await?;
            if !came.is_empty() || !gone.is_empty() {
                let committed_at = state.as_ref().map(|state| state.committed_at).unwrap_or_default();
                found.push(CommitChanges { version: SnapshotId(version), committed_at, came, gone });
            }
        }
        Ok(found)
    }

    /// A file that was added again with another vector changed in the rows in which the vectors differ.
    async fn difference(
        &self,
        added: Vec<LiveFile>,
        removed: Vec<LiveFile>,
    ) -> Result<(Vec<LiveFile>, Vec<LiveFile>), LakeError> {
        let mut before: BTreeMap<String, LiveFile> =
            removed.into_iter().map(|file| (file.file.path.clone(), file)).collect();
        let (mut came, mut gone) = (Vec::new(), Vec::new());
        for file in added {
            let Some(old) = before.remove(&file.file.path) else {
                came.push(file);
                continue;
            };
            let dead = self.deleted_rows(&file).await?.unwrap_or_default();
            let dead_before = self.deleted_rows(&old).await?.unwrap_or_default();
            gone.extend(old.only(&dead - &dead_before));
            came.extend(file.only(&dead_before - &dead));
        }
        gone.extend(before.into_values());
        Ok((came, gone))
    }
}

impl LiveFile {
    /// The file with these rows alone; `None` without any.
    fn only(&self, rows: RoaringTreemap) -> Option<Self> {
        let some = !rows.is_empty();
        some.then(|| Self { has_deletes: true, vector: None, only: Some(Arc::new(rows)), ..self.clone() })
    }
}
