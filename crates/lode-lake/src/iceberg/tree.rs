//! The manifests of the next snapshot: those of the one before as they are, as far as possible.
//!
//! Manifests are merged by size, eight to one, so that a commit writes little, whatever the size of the table, and there
//! are few small manifests.

use std::collections::{BTreeMap, HashSet};

use futures::{FutureExt, StreamExt, TryStreamExt, stream};

use super::folder::Folder;
use super::manifest::{Entry, Status};
use super::manifest_list::Manifest;
use crate::LakeError;

/// Files of a full manifest.
pub(crate) const FILES_MAX: usize = 2_000;
/// Manifests of about one size that are merged.
const FAN_IN: usize = 8;
const READS_AT_ONCE: usize = 8;

/// What the next snapshot's manifest list is made of.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) kept: Vec<Manifest>,
    /// Entries for new manifests.
    pub(crate) entries: Vec<Entry>,
}

/// Plans manifests of one kind. `removed` are keys of files that go; with `reload`, no manifest is kept as it is.
/// Errors: `Corrupt` when a manifest cannot be read or a removed file is in none of them; `Store`.
pub(crate) async fn plan(
    folder: &Folder,
    snapshot_id: i64,
    previous: Vec<Manifest>,
    removed: HashSet<String>,
    added: Vec<Entry>,
    reload: bool,
) -> Result<Plan, LakeError> {
    let live = previous.into_iter().filter(|manifest| manifest.live_files() > 0).collect();
    let mut plan = Plan { kept: live, entries: Vec::new() };
    if reload {
        let all = std::mem::take(&mut plan.kept);
        plan.entries = load(folder, &all).await?;
    }
    plan.remove(folder, snapshot_id, removed).await?;
    plan.entries.extend(added);
    while let Some(tier) = plan.full_tier() {
        let (merged, kept) = plan.kept.into_iter().partition(|manifest| tier_of(manifest) == Some(tier));
        plan.kept = kept;
        plan.entries.extend(load(folder, &merged).await?);
    }
    Ok(plan)
}

impl Plan {
    async fn remove(
        &mut self,
        folder: &Folder,
        snapshot_id: i64,
        mut removed: HashSet<String>,
    ) -> Result<(), LakeError> {
        let mut take = |entries: &mut Vec<Entry>| {
            let mut is_hit = false;
            for entry in entries {
                if removed.remove(entry.key()) {
                    entry.status = Status::Deleted;
                    entry.snapshot_id = snapshot_id;
                    is_hit = true;
                }
            }
            (is_hit, removed.is_empty())
        };
        let (_, mut is_done) = take(&mut self.entries);
        let mut untouched = Vec::new();
        // Newest first: small files are removed sooner than large ones.
        let mut left = std::mem::take(&mut self.kept);
        while !is_done && !left.is_empty() {
            let some = left.split_off(left.len().saturating_sub(READS_AT_ONCE));
            let read = stream::iter(some.iter().map(|manifest| folder.entries(manifest).boxed()).collect::<Vec<_>>());
            let read: Vec<Vec<Entry>> = read.buffered(READS_AT_ONCE).try_collect().await?;
            for (manifest, entries) in some.into_iter().zip(read).rev() {
                let mut entries = as_existing(entries);
                let (is_hit, all_found) = take(&mut entries);
                is_done = all_found;
                if is_hit {
                    self.entries.extend(entries);
                } else {
                    untouched.push(manifest);
                }
            }
        }
        untouched.reverse();
        left.extend(untouched);
        self.kept = left;
        match removed.into_iter().next() {
            None => Ok(()),
            Some(path) => {
                Err(LakeError::Corrupt { path: folder.url.clone(), reason: format!("no manifest has \"{path}\"") })
            }
        }
    }

    fn full_tier(&self) -> Option<u32> {
        let mut counts: BTreeMap<u32, usize> = BTreeMap::new();
        for tier in self.kept.iter().filter_map(tier_of) {
            *counts.entry(tier).or_default() += 1;
        }
        counts.into_iter().find(|(_, count)| *count >= FAN_IN).map(|(tier, _)| tier)
    }
}

/// Manifests of up to 7, 63, 511 and 1,999 files; full ones are merged no more.
fn tier_of(manifest: &Manifest) -> Option<u32> {
    let files = usize::try_from(manifest.live_files()).unwrap_or(0);
    (files < FILES_MAX).then(|| files.max(1).ilog(FAN_IN))
}

/// The live files of manifests, as files of a later snapshot.
async fn load(folder: &Folder, manifests: &[Manifest]) -> Result<Vec<Entry>, LakeError> {
    let read: Vec<_> = manifests.iter().map(|manifest| folder.entries(manifest).boxed()).collect();
    let read: Vec<Vec<Entry>> = stream::iter(read).buffered(READS_AT_ONCE).try_collect().await?;
    Ok(read.into_iter().flat_map(as_existing).collect())
}

fn as_existing(entries: Vec<Entry>) -> Vec<Entry> {
    let live = entries.into_iter().filter(|entry| entry.status != Status::Deleted);
    live.map(|entry| Entry { status: Status::Existing, ..entry }).collect()
}
