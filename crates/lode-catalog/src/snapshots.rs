//! A small cache of table states: a planned statement asks for the same one many times.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;

use lode_core::SnapshotId;
use lode_lake::Snapshot;

/// States kept; each holds the file list of its table.
const SNAPSHOTS_MAX: usize = 256;

/// By location and version, the most recently used last.
#[derive(Default)]
pub(crate) struct SnapshotCache {
    entries: Mutex<VecDeque<(String, Arc<Snapshot>)>>,
}

impl SnapshotCache {
    pub(crate) fn get(&self, location: &str, version: SnapshotId) -> Option<Arc<Snapshot>> {
        let mut entries = self.entries.lock();
        let at = entries.iter().position(|(held, snapshot)| held == location && snapshot.version == version)?;
        let entry = entries.remove(at)?;
        let snapshot = Arc::clone(&entry.1);
        entries.push_back(entry);
        Some(snapshot)
    }

    pub(crate) fn put(&self, location: &str, snapshot: &Arc<Snapshot>) {
        let mut entries = self.entries.lock();
        if entries.len() >= SNAPSHOTS_MAX {
            entries.pop_front();
        }
        entries.push_back((location.to_owned(), Arc::clone(snapshot)));
    }
}
