//! What lies between two states of a table, file by file.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::{LakeError, LiveFile, Snapshot};

/// Each data file by its absolute path.
#[derive(Debug, Default)]
pub(crate) struct Diff {
    pub(crate) added: Vec<String>,
    pub(crate) removed: Vec<String>,
    /// Files of the new state that have other dead rows than before, if any before.
    pub(crate) vectors_new: Vec<String>,
    /// Files of the old state whose dead rows are no longer those.
    pub(crate) vectors_old: Vec<String>,
    /// All files above; one that is in both states, as the new one has it.
    pub(crate) files: HashMap<String, LiveFile>,
}

impl Diff {
    /// Without an old state, all files are new. `locate` tells where a file lies.
    /// Errors: those of `locate`.
    pub(crate) fn between(
        before: Option<&Snapshot>,
        now: &Snapshot,
        locate: impl Fn(&LiveFile) -> Result<String, LakeError>,
    ) -> Result<Self, LakeError> {
        let before = before.map_or(&[][..], |before| before.files.as_slice());
        let now = now.files.as_slice();
        // Files stand in order of arrival, so that an append shares all of its beginning with the state before.
        let is_same = |(a, b): &(&LiveFile, &LiveFile)| Arc::ptr_eq(&a.file, &b.file) && vector(a) == vector(b);
        let shared = before.iter().zip(now).take_while(is_same).count();
        let (before, now) = (before.get(shared..).unwrap_or_default(), now.get(shared..).unwrap_or_default());
        let mut old: HashMap<&str, &LiveFile> = before.iter().map(|file| (file.file.path.as_str(), file)).collect();
        let mut diff = Self::default();
        for file in now {
            let known = old.remove(file.file.path.as_str());
            let has_other_vector = known.and_then(vector) != vector(file);
            if known.is_some() && !has_other_vector {
                continue;
            }
            let path = locate(file)?;
            if known.is_none() {
                diff.added.push(path.clone());
            }
            if has_other_vector {
                diff.vectors_old.extend(known.and_then(vector).map(|_| path.clone()));
                diff.vectors_new.extend(vector(file).map(|_| path.clone()));
            }
            diff.files.insert(path, file.clone());
        }
        for file in before.iter().filter(|file| old.contains_key(file.file.path.as_str())) {
            let path = locate(file)?;
            diff.vectors_old.extend(vector(file).map(|_| path.clone()));
            diff.removed.push(path.clone());
            diff.files.insert(path, file.clone());
        }
        Ok(diff)
    }
}

/// Adds the files of `now` that lie at `paths` to `known`. Returns one path at which none lies, if there is one.
pub(crate) fn find(
    now: &Snapshot,
    url: &str,
    paths: Vec<String>,
    known: &mut HashMap<String, LiveFile>,
    locate: impl Fn(&LiveFile) -> Result<String, LakeError>,
) -> Result<Option<String>, LakeError> {
    // Nearly all files stand in the log by their path below the table, which needs no making of paths.
    let below = |path: &String| path.strip_prefix(url)?.strip_prefix('/').map(str::to_owned);
    let (mut relative, mut other) = (HashMap::new(), HashSet::new());
    for path in paths {
        match below(&path) {
            Some(name) => _ = relative.insert(name, path),
            None => _ = other.insert(path),
        }
    }
    for file in now.files.iter() {
        if let Some(path) = relative.remove(file.file.path.as_str()) {
            known.insert(path, file.clone());
        }
    }
    other.extend(relative.into_values());
    if other.is_empty() {
        return Ok(None);
    }
    for file in now.files.iter() {
        let path = locate(file)?;
        if other.remove(&path) {
            known.insert(path, file.clone());
        }
    }
    Ok(other.into_iter().next())
}

/// What tells one set of dead rows from another; `None` when all rows live, as they do with a vector that is empty.
fn vector(file: &LiveFile) -> Option<String> {
    file.vector.as_ref().filter(|vector| vector.cardinality > 0).map(|vector| vector.unique_id())
}
