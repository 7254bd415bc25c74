//! Many small runs into one: fewer reads for each look, and entries of files that are gone left behind.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap, HashMap, HashSet};
use std::io::Write;

use bytes::Bytes;
use lode_core::task;
use uuid::Uuid;

use super::encode::KeyEncoder;
use super::folder;
use super::index::{KeyIndex, Manifest, manifest_number, manifest_path};
use super::run::{Covered, Encoder, Entry, Run};
use crate::store::io_error;
use crate::{FileSink, LakeError, Put, Snapshot, Store, StorePath};

/// Runs of about one size that become one.
const FAN_IN: usize = 8;
/// Blocks of each run that are in memory.
const BLOCKS_HELD: usize = 16;
/// Bytes that are handed to the disk at once.
const WRITTEN_BYTES: usize = 1 << 20;

/// What a merge did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MergedRuns {
    pub runs_before: usize,
    pub runs_after: usize,
    pub entries: u64,
}

/// Merges the runs of a table where there are eight and more of about one size, until there are not; runs that have more than
/// `entries_max` together are left. A crash leaves what was there, and at most a file that nobody names.
/// Errors: `Store`.
pub async fn merge_runs(
    store: &Store,
    location: &str,
    snapshot: &Snapshot,
    encoder: &KeyEncoder,
    entries_max: u64,
) -> Result<MergedRuns, LakeError> {
    let mut report: Option<MergedRuns> = None;
    loop {
        let index = KeyIndex::open(store, location, snapshot, encoder).await?;
        let before = index.run_count();
        let mut merged = report.unwrap_or(MergedRuns { runs_before: before, ..MergedRuns::default() });
        merged.runs_after = before;
        let Some(chosen) = chosen(&index, entries_max) else { return Ok(merged) };
        let Some(entries) = index.merge(&chosen, snapshot, encoder).await? else { return Ok(merged) };
        merged.entries += entries;
        report = Some(merged);
    }
}

/// The smallest tier of runs that has enough of them. A tier spans a factor of eight.
fn chosen(index: &KeyIndex, entries_max: u64) -> Option<BTreeSet<String>> {
    let mut tiers: HashMap<u32, BTreeSet<String>> = HashMap::new();
    for (name, run) in &index.runs {
        let tier = run.about.entries.max(1_024).ilog2() / 3;
        tiers.entry(tier).or_default().insert(name.clone());
    }
    let entries = |runs: &BTreeSet<String>| {
        runs.iter().filter_map(|name| index.runs.get(name)).map(|run| run.about.entries).sum::<u64>()
    };
    let tier = tiers.iter().filter(|(_, runs)| runs.len() >= FAN_IN && entries(runs) <= entries_max);
    let tier = tier.map(|(tier, _)| *tier).min()?;
    tiers.remove(&tier)
}

/// Entries of a run, a few blocks at a time.
struct Cursor<'a> {
    run: &'a Run,
    next_block: usize,
    held: std::vec::IntoIter<Entry>,
    /// New number of each file; `None` for one that is gone.
    numbers: Vec<Option<u32>>,
}

impl Cursor<'_> {
    /// The next entry of a live file.
    async fn next(&mut self, store: &Store) -> Result<Option<Entry>, LakeError> {
        loop {
            for entry in self.held.by_ref() {
                if let Some(Some(file)) = self.numbers.get(entry.file as usize) {
                    return Ok(Some(Entry { file: *file, ..entry }));
                }
            }
            if self.next_block >= self.run.blocks() {
                return Ok(None);
            }
            let end = (self.next_block + BLOCKS_HELD).min(self.run.blocks());
            self.held = self.run.entries(store, self.next_block..end).await?.into_iter();
            self.next_block = end;
        }
    }
}

impl KeyIndex {
    /// Writes one run for `chosen`. `None` when somebody else changed the runs meanwhile, or one of them is damaged.
    async fn merge(
        &self,
        chosen: &BTreeSet<String>,
        snapshot: &Snapshot,
        encoder: &KeyEncoder,
    ) -> Result<Option<u64>, LakeError> {
        let live: HashSet<&str> = snapshot.files.iter().map(|live| live.file.path.as_str()).collect();
        let mut files: Vec<Covered> = Vec::new();
        let mut numbers: HashMap<&str, u32> = HashMap::new();
        let mut cursors = Vec::with_capacity(chosen.len());
        for run in chosen.iter().filter_map(|name| self.runs.get(name)) {
            let mut renumbered = Vec::with_capacity(run.about.files.len());
            for file in &run.about.files {
                if !live.contains(file.path.as_str()) {
                    renumbered.push(None);
                    continue;
                }
                let number = *numbers.entry(file.path.as_str()).or_insert_with(|| {
                    files.push(Covered { path: file.path.clone(), entries: 0, without: 0 });
                    (files.len() - 1) as u32
                });
                if let Some(covered) = files.get_mut(number as usize) {
                    covered.entries += file.entries;
                    covered.without += file.without;
                }
                renumbered.push(Some(number));
            }
            cursors.push(Cursor { run, next_block: 0, held: Vec::new().into_iter(), numbers: renumbered });
        }
        let name = format!("{}.kix", Uuid::new_v4());
        let path = StorePath::from(format!("{}/{name}", folder(&self.location)));
        let entries = match self.write(&path, files, cursors, encoder).await {
            Ok(entries) => entries,
            Err(LakeError::NotFound { .. } | LakeError::Corrupt { .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        let tags = snapshot.tagged_runs();
        let mut manifest = Manifest::default();
        manifest.runs = self.manifest.runs.difference(chosen).cloned().collect();
        manifest.runs.insert(name);
        manifest.replaced = self.manifest.replaced.union(chosen).filter(|name| tags.contains(*name)).cloned().collect();
        if !self.publish(&manifest).await? {
            self.store.delete(&path).await?;
            return Ok(None);
        }
        // Who still has them open looks through their files instead.
        for name in chosen {
            self.store.delete(&StorePath::from(format!("{}/{name}", folder(&self.location)))).await?;
        }
        Ok(Some(entries))
    }

    async fn write(
        &self,
        path: &StorePath,
        files: Vec<Covered>,
        mut cursors: Vec<Cursor<'_>>,
        encoder: &KeyEncoder,
    ) -> Result<u64, LakeError> {
        let mut encoder = Encoder::new(encoder.signature(), files);
        let mut sink = Output::create(&self.store, path).await?;
        sink.held.extend_from_slice(Encoder::begin());
        let mut heap = BinaryHeap::with_capacity(cursors.len());
        for (at, cursor) in cursors.iter_mut().enumerate() {
            if let Some(entry) = cursor.next(&self.store).await? {
                heap.push(Reverse((entry, at)));
            }
        }
        let mut entries = 0;
        while let Some(Reverse((entry, at))) = heap.pop() {
            entries += 1;
            if let Some(block) = encoder.push(entry) {
                sink.write(&block).await?;
            }
            if let Some(cursor) = cursors.get_mut(at)
                && let Some(next) = cursor.next(&self.store).await?
            {
                heap.push(Reverse((next, at)));
            }
        }
        sink.write(&encoder.finish()).await?;
        sink.finish().await?;
        Ok(entries)
    }

    /// Puts the next manifest; `false` when somebody else did.
    async fn publish(&self, manifest: &Manifest) -> Result<bool, LakeError> {
        let text = serde_json::to_vec(manifest)
            .map_err(|error| LakeError::Encode { table: self.location.clone(), source: Box::new(error) })?;
        let path = manifest_path(&self.location, self.number + 1);
        if self.store.put_if_absent(&path, Bytes::from(text)).await? == Put::Exists {
            return Ok(false);
        }
        for old in self.store.list(&StorePath::from(folder(&self.location)), None).await? {
            // The one before stays for whoever is about to read it.
            if manifest_number(&old.location).is_some_and(|number| number < self.number) {
                self.store.delete(&old.location).await?;
            }
        }
        Ok(true)
    }
}

/// A blocking sink that is written to off the runtime.
struct Output {
    path: StorePath,
    sink: Option<FileSink>,
    held: Vec<u8>,
}

impl Output {
    async fn create(store: &Store, path: &StorePath) -> Result<Self, LakeError> {
        let (store, target) = (store.clone(), path.clone());
        let sink = blocking(path, move || store.create(&target)).await?;
        Ok(Self { path: path.clone(), sink: Some(sink), held: Vec::with_capacity(WRITTEN_BYTES) })
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<(), LakeError> {
        self.held.extend_from_slice(bytes);
        if self.held.len() >= WRITTEN_BYTES { self.flush().await } else { Ok(()) }
    }

    async fn flush(&mut self) -> Result<(), LakeError> {
        let Some(mut sink) = self.sink.take() else { return Ok(()) };
        let (held, path) = (std::mem::take(&mut self.held), self.path.clone());
        let (sink, held) = blocking(&self.path, move || {
            sink.write_all(&held).map_err(|error| io_error("write", &path, error))?;
            Ok((sink, held))
        })
        .await?;
        self.sink = Some(sink);
        self.held = held;
        self.held.clear();
        Ok(())
    }

    async fn finish(mut self) -> Result<(), LakeError> {
        self.flush().await?;
        let Some(sink) = self.sink.take() else { return Ok(()) };
        blocking(&self.path, move || sink.finish().map(drop)).await
    }
}

async fn blocking<T: Send + 'static>(
    path: &StorePath,
    work: impl FnOnce() -> Result<T, LakeError> + Send + 'static,
) -> Result<T, LakeError> {
    task::blocking("write a run of keys", work).await.unwrap_or_else(|problem| {
        let kind = problem.kind();
        Err(LakeError::Store { action: "write", path: path.to_string(), kind, source: Box::new(problem) })
    })
}
