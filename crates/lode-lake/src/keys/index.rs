//! The index of one snapshot: which runs speak for which of its files, and where wanted keys stand.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::ops::Range;

use futures::{StreamExt, stream};
use roaring::RoaringTreemap;
use serde::{Deserialize, Serialize};

use super::encode::KeyEncoder;
use super::run::{Entry, Run};
use super::{TAG, folder};
use crate::{LakeError, Snapshot, Store, StorePath};

/// Blocks that are read at once: 1.5 MiB.
const BLOCKS_AT_ONCE: usize = 64;
/// Blocks that are read though nothing is wanted of them, where one read of all is cheaper than two.
const GAP_BLOCKS: usize = 2;
/// Reads on their way.
const READS_AHEAD: usize = 4;
const OPENED_AT_ONCE: usize = 8;

/// Runs that were merged from others, or made for files that had none. A projection: lost, it costs time.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Manifest {
    pub(super) runs: BTreeSet<String>,
    /// Runs that tags of live files still name, and whose entries are in `runs`.
    pub(super) replaced: BTreeSet<String>,
}

/// Runs that speak for the files of one snapshot.
#[derive(Debug)]
pub struct KeyIndex {
    pub(super) store: Store,
    pub(super) location: String,
    pub(super) manifest: Manifest,
    /// Number of the newest manifest; 0 without one.
    pub(super) number: u64,
    pub(super) runs: BTreeMap<String, Run>,
    /// Path to place in the snapshot, of the files that the runs cover whole.
    pub(super) covered: HashMap<String, usize>,
    /// Places of the files that they do not.
    pub uncovered: Vec<usize>,
}

/// Where wanted keys stand.
#[derive(Debug, Default)]
pub struct Found {
    /// Positions by place of the file in the snapshot, those of dead rows too.
    pub rows: BTreeMap<usize, RoaringTreemap>,
    /// Places of files that have to be looked through: no run speaks for them.
    pub uncovered: Vec<usize>,
}

impl Found {
    /// The answers of two parts as one.
    pub fn and(mut self, other: Self) -> Self {
        for (place, rows) in other.rows {
            *self.rows.entry(place).or_default() |= rows;
        }
        self.uncovered.extend(other.uncovered);
        self.uncovered.sort_unstable();
        self.uncovered.dedup();
        self
    }
}

impl KeyIndex {
    /// Opens the runs of a snapshot. Runs that are missing or damaged are left out.
    /// Errors: `Store`.
    pub async fn open(
        store: &Store,
        location: &str,
        snapshot: &Snapshot,
        encoder: &KeyEncoder,
    ) -> Result<Self, LakeError> {
        let location = location.trim_matches('/').to_owned();
        let (number, manifest) = newest_manifest(store, &location).await?;
        let mut names: BTreeSet<String> = manifest.runs.clone();
        for live in snapshot.files.iter() {
            names.extend(tagged(&live.file.tags).filter(|name| !manifest.replaced.contains(*name)).map(str::to_owned));
        }
        let opened = stream::iter(names).map(|name| {
            let path = StorePath::from(format!("{}/{name}", folder(&location)));
            async move { (name, Run::open(store, path).await) }
        });
        let opened: Vec<_> = opened.buffer_unordered(OPENED_AT_ONCE).collect().await;
        let mut runs = BTreeMap::new();
        for (name, run) in opened {
            match run {
                Ok(run) if run.about.signature == encoder.signature() => {
                    runs.insert(name, run);
                }
                Ok(_) | Err(LakeError::NotFound { .. }) => {}
                Err(LakeError::Corrupt { path, reason }) => {
                    tracing::warn!(path, reason, "a run of the key index is damaged: its files are looked through");
                }
                Err(error) => return Err(error),
            }
        }
        let mut index = Self {
            store: store.clone(),
            location,
            manifest,
            number,
            runs,
            covered: HashMap::new(),
            uncovered: Vec::new(),
        };
        index.cover(snapshot);
        Ok(index)
    }

    /// A file is covered when the runs hold as many of its rows as it has.
    fn cover(&mut self, snapshot: &Snapshot) {
        let mut held: HashMap<&str, u64> = HashMap::new();
        for run in self.runs.values() {
            for file in &run.about.files {
                *held.entry(file.path.as_str()).or_default() += file.entries + file.without;
            }
        }
        for (place, live) in snapshot.files.iter().enumerate() {
            let rows = live.file.stats.as_ref().map(|stats| stats.num_records);
            match rows.is_some() && held.get(live.file.path.as_str()).copied() == rows {
                true => {
                    self.covered.insert(live.file.path.clone(), place);
                }
                false => self.uncovered.push(place),
            }
        }
    }

    /// Runs that speak for a live file.
    pub fn run_count(&self) -> usize {
        self.runs.len()
    }

    /// Finds keys, which come sorted and without repeats, in one of `parts` parts of the index; several threads take one each,
    /// and all of them together are the answer (`Found::and`). Reads only blocks that may hold one of the keys.
    /// Errors: `Store`.
    pub async fn find(&self, keys: &[u128], part: usize, parts: usize) -> Result<Found, LakeError> {
        let mut found = Found { uncovered: self.uncovered.clone(), ..Found::default() };
        let mut lost: HashSet<usize> = HashSet::new();
        for run in self.dealt(part, parts) {
            let places: Vec<Option<usize>> =
                run.about.files.iter().map(|file| self.covered.get(&file.path).copied()).collect();
            if places.iter().all(Option::is_none) {
                continue;
            }
            match self.find_in(run, &places, keys, &mut found.rows).await {
                Ok(()) => {}
                // Merged away since it was opened, or damaged inside: its files are looked through.
                Err(LakeError::NotFound { .. }) => lost.extend(places.into_iter().flatten()),
                Err(LakeError::Corrupt { path, reason }) => {
                    tracing::warn!(path, reason, "a run of the key index is damaged: its files are looked through");
                    lost.extend(places.into_iter().flatten());
                }
                Err(error) => return Err(error),
            }
        }
        // What another run says of them does no harm: all their rows are looked through.
        found.uncovered.extend(lost);
        found.uncovered.sort_unstable();
        found.uncovered.dedup();
        Ok(found)
    }

    /// The runs of a part: large ones are dealt out first, so that no part gets all of them.
    fn dealt(&self, part: usize, parts: usize) -> Vec<&Run> {
        let mut runs: Vec<&Run> = self.runs.values().collect();
        runs.sort_by_key(|run| std::cmp::Reverse(run.about.entries));
        runs.into_iter().skip(part).step_by(parts.max(1)).collect()
    }

    async fn find_in(
        &self,
        run: &Run,
        places: &[Option<usize>],
        keys: &[u128],
        rows: &mut BTreeMap<usize, RoaringTreemap>,
    ) -> Result<(), LakeError> {
        let reads = stream::iter(wanted_blocks(run, keys)).map(|blocks| {
            let first = run.first_key(blocks.start);
            async move { run.entries(&self.store, blocks).await.map(|entries| (first, entries)) }
        });
        let mut reads = std::pin::pin!(reads.buffered(READS_AHEAD));
        while let Some(read) = reads.next().await {
            let (first, entries) = read?;
            let start = first.map_or(0, |first| keys.partition_point(|key| *key < first));
            matching(&entries, keys.get(start..).unwrap_or_default(), |entry| {
                if let Some(Some(place)) = places.get(entry.file as usize) {
                    rows.entry(*place).or_default().insert(u64::from(entry.position));
                }
            });
        }
        Ok(())
    }
}

/// Both sorted.
fn matching(entries: &[Entry], keys: &[u128], mut take: impl FnMut(&Entry)) {
    let mut keys = keys.iter().peekable();
    for entry in entries {
        while keys.next_if(|key| **key < entry.key).is_some() {}
        match keys.peek() {
            Some(key) if **key == entry.key => take(entry),
            Some(_) => {}
            None => break,
        }
    }
}

/// Ranges of blocks that may hold one of the keys, in order, none of them too long to be read at once.
fn wanted_blocks(run: &Run, keys: &[u128]) -> Vec<Range<usize>> {
    let blocks = run.blocks();
    let mut ranges: Vec<Range<usize>> = Vec::new();
    let mut block = 0;
    for key in keys {
        // The last block that begins below the key: equal keys may begin in it. Keys grow, so the search goes on from here.
        while block + 1 < blocks && run.first_key(block + 1).is_some_and(|first| first < *key) {
            block += 1;
        }
        let mut end = block;
        while end < blocks && run.first_key(end).is_some_and(|first| first <= *key) {
            end += 1;
        }
        if end == block {
            continue;
        }
        match ranges.last_mut() {
            Some(last) if block <= last.end + GAP_BLOCKS && end - last.start <= BLOCKS_AT_ONCE => {
                last.end = last.end.max(end);
            }
            Some(last) if end <= last.end => {}
            Some(last) => {
                let start = block.max(last.end);
                ranges.push(start..end);
            }
            None => ranges.push(block..end),
        }
    }
    ranges
}

/// Runs that a file's tag names.
pub(super) fn tagged(tags: &BTreeMap<String, String>) -> impl Iterator<Item = &str> {
    tags.get(TAG).into_iter().flat_map(|names| names.split(',')).filter(|name| is_run(name))
}

/// Names come from logs: none leads out of the folder.
fn is_run(name: &str) -> bool {
    name.ends_with(".kix") && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-.".contains(&byte))
}

pub(super) fn manifest_path(location: &str, number: u64) -> StorePath {
    StorePath::from(format!("{}/manifest-{number:020}.json", folder(location)))
}

/// Number of a manifest, by its name.
pub(super) fn manifest_number(path: &StorePath) -> Option<u64> {
    path.filename()?.strip_prefix("manifest-")?.strip_suffix(".json")?.parse().ok()
}

async fn newest_manifest(store: &Store, location: &str) -> Result<(u64, Manifest), LakeError> {
    let listed = store.list(&StorePath::from(folder(location)), None).await?;
    let Some(newest) = listed.iter().filter_map(|meta| manifest_number(&meta.location)).max() else {
        return Ok((0, Manifest::default()));
    };
    let manifest = match store.get(&manifest_path(location, newest)).await {
        Ok(bytes) => serde_json::from_slice(&bytes).unwrap_or_else(|error| {
            tracing::warn!(location, %error, "the manifest of the key index is damaged: its files are looked through");
            Manifest::default()
        }),
        Err(LakeError::NotFound { .. }) => Manifest::default(),
        Err(error) => return Err(error),
    };
    Ok((newest, manifest))
}

impl Snapshot {
    /// Names of all runs that tags of its files name.
    pub(super) fn tagged_runs(&self) -> BTreeSet<String> {
        self.files.iter().flat_map(|live| tagged(&live.file.tags).map(str::to_owned).collect::<Vec<_>>()).collect()
    }
}

/// Names of the files of the index that a snapshot needs. A run that is not among them costs nobody a row.
/// Errors: `Store`.
pub(crate) async fn needed(store: &Store, location: &str, snapshot: &Snapshot) -> Result<BTreeSet<String>, LakeError> {
    let location = location.trim_matches('/');
    let (number, manifest) = newest_manifest(store, location).await?;
    let mut needed = snapshot.tagged_runs();
    needed.retain(|name| !manifest.replaced.contains(name));
    needed.extend(manifest.runs);
    needed.extend(manifest_path(location, number).filename().map(str::to_owned));
    Ok(needed)
}
