//! Runs made where rows are written.

use std::collections::HashMap;
use std::io::Write;

use uuid::Uuid;

use super::encode::{KeyEncoder, KeySet};
use super::run::{Covered, Encoder, Entry};
use super::{TAG, folder};
use crate::store::io_error;
use crate::{DataFile, LakeError, Store, StorePath};

/// Entries held before they become a run of their own: 64 MiB.
const HELD_MAX: usize = (64 << 20) / size_of::<Entry>();

/// Collects the keys of the files of one writer (blocking), and writes them as runs.
pub(crate) struct RunBuilder {
    store: Store,
    location: String,
    encoder: KeyEncoder,
    held: Vec<Entry>,
    files: Vec<Covered>,
    /// Of each file, the runs that hold entries of it.
    runs: Vec<Vec<String>>,
}

impl RunBuilder {
    pub(crate) fn new(store: &Store, location: &str, encoder: KeyEncoder) -> Self {
        Self {
            store: store.clone(),
            location: location.to_owned(),
            encoder,
            held: Vec::new(),
            files: Vec::new(),
            runs: Vec::new(),
        }
    }

    pub(crate) fn encoder(&self) -> &KeyEncoder {
        &self.encoder
    }

    /// The number by which a new file goes here.
    pub(crate) fn file(&mut self, path: &str) -> u32 {
        self.files.push(Covered { path: path.to_owned(), entries: 0, without: 0 });
        self.runs.push(Vec::new());
        (self.files.len() - 1) as u32
    }

    /// Takes keys of rows that stand in a file from a position on. A file of 2^32 rows and more is not indexed.
    /// Errors: `Store`.
    pub(crate) fn add(&mut self, file: u32, first: u64, keys: &KeySet) -> Result<(), LakeError> {
        for (row, key) in keys.present() {
            if let Ok(position) = u32::try_from(first + row as u64) {
                self.held.push(Entry { key, file, position });
            }
        }
        if let Some(covered) = self.files.get_mut(file as usize) {
            covered.without += keys.without.len() as u64;
        }
        if self.held.len() >= HELD_MAX {
            self.flush()?;
        }
        Ok(())
    }

    /// Writes what is held as one run.
    fn flush(&mut self) -> Result<(), LakeError> {
        let mut held = std::mem::take(&mut self.held);
        held.sort_unstable();
        let mut covered: Vec<Covered> = self
            .files
            .iter()
            .map(|file| Covered { path: file.path.clone(), entries: 0, without: file.without })
            .collect();
        for entry in &held {
            if let Some(file) = covered.get_mut(entry.file as usize) {
                file.entries += 1;
            }
        }
        // Files of which this run holds nothing are left out; the others are numbered anew.
        let mut numbers = vec![u32::MAX; covered.len()];
        let mut kept = Vec::new();
        for (at, file) in covered.into_iter().enumerate() {
            if file.entries + file.without == 0 {
                continue;
            }
            if let Some(number) = numbers.get_mut(at) {
                *number = kept.len() as u32;
            }
            kept.push(file);
        }
        if kept.is_empty() {
            return Ok(());
        }
        let name = format!("{}.kix", Uuid::new_v4());
        let path = StorePath::from(format!("{}/{name}", folder(&self.location)));
        let failed = |error| io_error("write", &path, error);
        let mut sink = self.store.create(&path)?;
        let mut encoder = Encoder::new(self.encoder.signature(), kept);
        sink.write_all(Encoder::begin()).map_err(failed)?;
        for entry in held {
            let file = numbers.get(entry.file as usize).copied().unwrap_or(u32::MAX);
            if let Some(block) = encoder.push(Entry { file, ..entry }) {
                sink.write_all(&block).map_err(failed)?;
            }
        }
        sink.write_all(&encoder.finish()).map_err(failed)?;
        sink.finish()?;
        for (at, number) in numbers.iter().enumerate() {
            if *number != u32::MAX
                && let (Some(runs), Some(file)) = (self.runs.get_mut(at), self.files.get_mut(at))
            {
                runs.push(name.clone());
                // Said by this run.
                file.without = 0;
            }
        }
        Ok(())
    }

    /// Writes the rest, and tags the files with their runs. Errors: `Store`.
    pub(crate) fn finish(mut self, files: &mut [DataFile]) -> Result<(), LakeError> {
        self.flush()?;
        let names = self.files.iter().zip(&self.runs).filter(|(_, runs)| !runs.is_empty());
        let tags: HashMap<&str, String> = names.map(|(file, runs)| (file.path.as_str(), runs.join(","))).collect();
        for file in files {
            if let Some(tag) = tags.get(file.path.as_str()) {
                file.tags.insert(TAG.to_owned(), tag.clone());
            }
        }
        Ok(())
    }
}
