//! What is in the folder now: a sorted walk, and the rule by which a watched file counts as written to its end.

use std::collections::HashMap;
use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use lode_core::{ErrorKind, Place, Problem};

use crate::config::FileSource;

/// A modification time this long ago means that nobody writes the file any more.
const SETTLED_AFTER_MS: i64 = 2_000;
/// Polls without a change after which a younger file counts as complete.
const SETTLED_AFTER_POLLS: u32 = 2;

/// A file of the source, as the listing saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    /// Relative to the source's folder, `/`-separated.
    pub(crate) path: String,
    pub(crate) absolute: PathBuf,
    pub(crate) size_bytes: u64,
    pub(crate) modified_ms: i64,
    /// The object of a bucket that `absolute` is a copy of, once it was fetched.
    pub(crate) object: Option<Object>,
}

/// An object of a bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Object {
    pub(crate) url: String,
    pub(crate) tag: Option<String>,
}

impl Found {
    /// As errors name it.
    pub(crate) fn place(&self) -> Place {
        Place::of(self.object.as_ref().map_or_else(|| self.absolute.display().to_string(), |object| object.url.clone()))
    }

    /// The problem of a copy as one of its original.
    pub(crate) fn explain(&self, problem: Problem) -> Problem {
        match &self.object {
            Some(object) => problem.renaming(&self.absolute.display().to_string(), &object.url),
            None => problem,
        }
    }
}

/// One look at the folder.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    /// Sorted by path.
    pub(crate) files: Vec<Found>,
    /// Files and folders that could not be looked at; the others are listed all the same.
    pub(crate) problems: Vec<Problem>,
}

/// Endings of files that somebody still writes; they are read only where the pattern ends in the same.
const UNFINISHED: [&str; 5] = [".tmp", ".part", ".crdownload", ".swp", "~"];

/// Lists the files of a source (blocking). Names that begin with `.` or `_` or have an ending of `UNFINISHED` are not ours
/// to read.
/// Errors: `NotFound`, `Denied` if the folder itself cannot be read.
pub(crate) fn list(source: &FileSource, project_dir: &Path) -> Result<Listing, Problem> {
    let root = source.root(project_dir);
    let metadata = std::fs::metadata(&root).map_err(|error| folder_problem(source, &error))?;
    let mut listing = Listing::default();
    if metadata.is_file() {
        let name = root.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        listing.files.push(found(name, root, &metadata));
        return Ok(listing);
    }
    let mut walk = Walk { source, listing, open_folders: vec![(metadata.dev(), metadata.ino())] };
    walk.folder(&root, "").map_err(|error| folder_problem(source, &error))?;
    let mut listing = walk.listing;
    listing.files.sort_unstable_by(|a, b| a.path.cmp(&b.path));
    Ok(listing)
}

/// Size and modification time now; `None` when the path holds no file any more.
pub(crate) fn look_again(absolute: &Path) -> Option<(u64, i64)> {
    let metadata = std::fs::metadata(absolute).ok()?;
    metadata.is_file().then(|| (metadata.len(), modified_ms(&metadata)))
}

/// Whether a file or folder of this name is not ours to read.
pub(crate) fn is_passed_over(source: &FileSource, name: &str) -> bool {
    let is_named = |ending| source.pattern.as_ref().is_some_and(|pattern| pattern.glob().ends_with(ending));
    name.starts_with(['.', '_']) || UNFINISHED.iter().any(|ending| name.ends_with(ending) && !is_named(*ending))
}

struct Walk<'a> {
    source: &'a FileSource,
    listing: Listing,
    /// Device and inode of the folders on the way down: a link back to one of them is a loop.
    open_folders: Vec<(u64, u64)>,
}

impl Walk<'_> {
    fn folder(&mut self, folder: &Path, prefix: &str) -> io::Result<()> {
        for entry in std::fs::read_dir(folder)? {
            let entry = entry?;
            let name = entry.file_name();
            let Some(name) = name.to_str() else {
                let shown = entry.path().to_string_lossy().into_owned();
                self.listing.problems.push(
                    Problem::new(ErrorKind::Data, "the name of a file is not UTF-8")
                        .at(Place::of(shown))
                        .fix("rename it: its name could not be kept in the ledger"),
                );
                continue;
            };
            if is_passed_over(self.source, name) {
                continue;
            }
            self.entry(&entry.path(), format!("{prefix}{name}"));
        }
        Ok(())
    }

    fn entry(&mut self, absolute: &Path, path: String) {
        let metadata = match std::fs::metadata(absolute) {
            Ok(metadata) => metadata,
            // It went away between the listing and the look, unless it is a link to nowhere.
            Err(error) if error.kind() == io::ErrorKind::NotFound && std::fs::symlink_metadata(absolute).is_err() => {
                return;
            }
            Err(error) => return self.listing.problems.push(file_problem(&path, &error)),
        };
        if metadata.is_dir() {
            let identity = (metadata.dev(), metadata.ino());
            if self.open_folders.contains(&identity) {
                return;
            }
            self.open_folders.push(identity);
            if let Err(error) = self.folder(absolute, &format!("{path}/")) {
                self.listing.problems.push(file_problem(&path, &error));
            }
            self.open_folders.pop();
        } else if metadata.is_file() && self.source.pattern.as_ref().is_none_or(|pattern| pattern.matches(&path)) {
            self.listing.files.push(found(path, absolute.to_owned(), &metadata));
        }
    }
}

fn found(path: String, absolute: PathBuf, metadata: &Metadata) -> Found {
    Found { path, absolute, size_bytes: metadata.len(), modified_ms: modified_ms(metadata), object: None }
}

fn modified_ms(metadata: &Metadata) -> i64 {
    metadata.mtime().saturating_mul(1_000).saturating_add(metadata.mtime_nsec() / 1_000_000)
}

fn folder_problem(source: &FileSource, error: &io::Error) -> Problem {
    file_problem(&source.path, error).context(format!("could not list the folder \"{}\"", source.path))
}

/// An operating system's refusal for one file, in the form of all errors.
pub(crate) fn file_problem(path: &str, error: &io::Error) -> Problem {
    let (kind, fix) = match error.kind() {
        io::ErrorKind::NotFound => (ErrorKind::NotFound, "check the path; a link must point to a file that exists"),
        io::ErrorKind::PermissionDenied => (ErrorKind::Denied, "give this user the right to read it"),
        _ => (ErrorKind::Unavailable, "check the disk; the file is tried again by the next run"),
    };
    Problem::new(kind, format!("could not read \"{path}\"")).cause(error).at(Place::of(path)).fix(fix)
}

/// Remembers what earlier polls saw, so that a file which is still being written is left alone.
#[derive(Debug, Default)]
pub(crate) struct Settling {
    seen: HashMap<String, (u64, i64, u32)>,
}

impl Settling {
    /// Keeps the files that count as complete: old enough, or unchanged for two polls.
    pub(crate) fn settled(&mut self, files: Vec<Found>, now_ms: i64) -> Vec<Found> {
        let mut seen = HashMap::with_capacity(files.len());
        let mut settled = Vec::with_capacity(files.len());
        for file in files {
            let is_old = now_ms.saturating_sub(file.modified_ms) >= SETTLED_AFTER_MS;
            let polls = match self.seen.get(&file.path) {
                Some((size, modified, polls)) if (*size, *modified) == (file.size_bytes, file.modified_ms) => polls + 1,
                _ => 0,
            };
            if is_old || polls >= SETTLED_AFTER_POLLS {
                settled.push(file);
            } else {
                seen.insert(file.path, (file.size_bytes, file.modified_ms, polls));
            }
        }
        self.seen = seen;
        settled
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Pattern;

    fn source(path: &str, pattern: Option<&str>) -> FileSource {
        FileSource { path: path.into(), pattern: pattern.map(|glob| Pattern::new(glob).unwrap()), bucket: None }
    }

    fn paths(listing: &Listing) -> Vec<&str> {
        listing.files.iter().map(|file| file.path.as_str()).collect()
    }

    #[test]
    fn the_walk_is_sorted_and_skips_what_is_not_ours() {
        let dir = tempfile::tempdir().unwrap();
        for path in
            ["in/b/2.csv", "in/a.csv", "in/.hidden.csv", "in/_part.csv", "in/c.csv.tmp", "in/_old/x.csv", "in/n.txt"]
        {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "x").unwrap();
        }
        let listing = list(&source("in", Some("*.csv")), dir.path()).unwrap();
        assert_eq!(paths(&listing), ["a.csv", "b/2.csv"]);
        let one = list(&source("in/a.csv", None), dir.path()).unwrap();
        assert_eq!(paths(&one), ["a.csv"]);
    }

    #[test]
    fn a_file_under_a_name_for_unfinished_ones_is_left_unless_the_pattern_names_it() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("in")).unwrap();
        for name in ["a.csv", "b.csv.part", "c.csv.crdownload", "d.csv~", "e.csv.swp", "f.csv.tmp"] {
            std::fs::write(dir.path().join("in").join(name), "x").unwrap();
        }
        for (pattern, wanted) in
            [(None, "a.csv"), (Some("*"), "a.csv"), (Some("*.part"), "b.csv.part"), (Some("*~"), "d.csv~")]
        {
            assert_eq!(paths(&list(&source("in", pattern), dir.path()).unwrap()), [wanted], "{pattern:?}");
        }
    }

    #[test]
    fn link_loops_end_and_links_to_nowhere_are_reported() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("in");
        std::fs::create_dir_all(root.join("sub")).unwrap();
        std::fs::write(root.join("sub/a.csv"), "x").unwrap();
        std::os::unix::fs::symlink(&root, root.join("sub/loop")).unwrap();
        std::os::unix::fs::symlink("nowhere", root.join("gone.csv")).unwrap();
        let listing = list(&source("in", None), dir.path()).unwrap();
        assert_eq!(paths(&listing), ["sub/a.csv"]);
        assert!(listing.problems[0].render().contains("could not read \"gone.csv\""));
    }

    #[test]
    fn a_missing_folder_is_an_error_with_its_name() {
        let problem = list(&source("no/such", None), Path::new("/tmp")).unwrap_err();
        assert_eq!(problem.kind(), ErrorKind::NotFound);
        assert_eq!(problem.what(), "could not list the folder \"no/such\"");
    }

    #[test]
    fn a_file_settles_after_two_polls_without_change_or_two_seconds() {
        let file = |size_bytes, modified_ms| Found {
            path: "a".into(),
            absolute: "a".into(),
            size_bytes,
            modified_ms,
            object: None,
        };
        let mut settling = Settling::default();
        assert!(settling.settled(vec![file(1, 1_000)], 1_100).is_empty());
        assert!(settling.settled(vec![file(2, 1_200)], 1_300).is_empty());
        assert!(settling.settled(vec![file(2, 1_200)], 1_400).is_empty());
        assert_eq!(settling.settled(vec![file(2, 1_200)], 1_500).len(), 1);
        assert_eq!(Settling::default().settled(vec![file(1, 1_000)], 3_000).len(), 1);
    }
}
