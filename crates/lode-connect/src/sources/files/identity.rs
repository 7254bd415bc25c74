//! Which file is which: path and BLAKE3 of the content against the ledger. Size and time only save hashing.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use lode_catalog::{FileRow, FileState};
use lode_core::Problem;
use parking_lot::Mutex;

use super::bucket::BucketFolder;
use super::discover::{Found, file_problem, look_again};

/// Notes in the ledger that identity itself reads again.
const RENAMED_FROM: &str = "renamed from ";
const RENAMED_TO: &str = "renamed to ";
/// The row is of the content that landed; what stands at its path now did not.
const REFUSED: &str = "its new content is refused: ";
const IGNORED: &str = "its content changed after it landed (`on_change: ignore`)";

/// Old paths that were looked at in an epoch, by content: each is looked at once, and was found in place or gave its rows
/// to a new path. So many equal files cost one look each.
#[derive(Debug, Default)]
pub(crate) struct Claims(Mutex<HashMap<String, usize>>);

impl Claims {
    /// Number of the next old path of this content that nobody looked at.
    fn next(&self, hash: &str) -> usize {
        let mut looked_at = self.0.lock();
        match looked_at.get_mut(hash) {
            Some(next) => {
                *next += 1;
                *next - 1
            }
            None => {
                looked_at.insert(hash.to_owned(), 1);
                0
            }
        }
    }
}

/// The ledger of one source as of one epoch.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ledger {
    rows: HashMap<String, FileRow>,
    /// Paths whose content is in the table, by hash.
    landed_by_hash: HashMap<String, Vec<String>>,
    /// Sizes of landed content that is not at its path any more: a new file of such a size may be a rename.
    moved_sizes: HashSet<u64>,
}

/// What size and time alone tell about a listed file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FirstLook {
    /// As in the ledger: nothing to do.
    Known,
    /// As in the ledger, where it is marked as unreadable.
    KnownPoison,
    /// Cannot be any content that landed before: the hash may be taken while decoding.
    Fresh,
    /// May be known content: hash it before decoding.
    HashFirst,
}

/// What path and hash tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Identity {
    /// Lands.
    New,
    /// The same content at the same path; only size or time in the ledger are old.
    Same,
    /// The content of `from`, which is not there any more.
    RenamedFrom(String),
    /// A landed path with other content.
    Changed,
}

impl Ledger {
    pub(crate) fn new(rows: Vec<FileRow>) -> Self {
        let mut ledger = Self::default();
        for row in rows {
            ledger.put(row);
        }
        ledger
    }

    pub(crate) fn put(&mut self, row: FileRow) {
        let before = self.rows.insert(row.path.clone(), row.clone());
        if holds_rows(&row) {
            let paths = self.landed_by_hash.entry(row.hash).or_default();
            // A path that comes back to old content is listed for it already.
            if before.is_none() || !paths.contains(&row.path) {
                paths.push(row.path);
            }
        }
    }

    /// Takes in what is in the folder now.
    pub(crate) fn compare(&mut self, listing: &[Found]) {
        let there: HashMap<&str, &Found> = listing.iter().map(|found| (found.path.as_str(), found)).collect();
        let has_moved = |row: &&FileRow| match there.get(row.path.as_str()) {
            Some(found) => {
                has_other_content(row) || (found.size_bytes, found.modified_ms) != (row.size_bytes, row.modified_ms)
            }
            None => true,
        };
        self.moved_sizes =
            self.rows.values().filter(|row| holds_rows(row)).filter(has_moved).map(|row| row.size_bytes).collect();
    }

    pub(crate) fn row(&self, path: &str) -> Option<&FileRow> {
        self.rows.get(path)
    }

    pub(crate) fn first_look(&self, found: &Found, retry_poison: bool) -> FirstLook {
        match self.rows.get(&found.path) {
            None if self.moved_sizes.contains(&found.size_bytes) => FirstLook::HashFirst,
            None => FirstLook::Fresh,
            Some(row) => {
                let is_as_noted = (row.size_bytes, row.modified_ms) == (found.size_bytes, found.modified_ms);
                match (row.state, is_as_noted) {
                    (FileState::Poison, _) if retry_poison => FirstLook::Fresh,
                    (FileState::Poison, true) => FirstLook::KnownPoison,
                    (_, true) if has_note(row, REFUSED) && retry_poison => FirstLook::HashFirst,
                    (_, true) if has_note(row, REFUSED) => FirstLook::KnownPoison,
                    (_, true) => FirstLook::Known,
                    (_, false) => FirstLook::HashFirst,
                }
            }
        }
    }

    /// Decides by path and hash. Whether an old path below `root` is gone is asked there and then.
    pub(crate) fn identify(&self, found: &Found, hash: &str, root: &Root, claims: &Claims) -> Identity {
        let row = self.rows.get(&found.path);
        if row.is_some_and(|row| row.hash == hash) {
            return Identity::Same;
        }
        let old_paths = self.landed_by_hash.get(hash).map(Vec::as_slice).unwrap_or_default();
        if !old_paths.is_empty() {
            while let Some(old) = old_paths.get(claims.next(hash)) {
                if *old != found.path && self.has_moved(old, hash, root) {
                    return Identity::RenamedFrom(old.clone());
                }
            }
        }
        match row {
            Some(row) if row.state != FileState::Poison => Identity::Changed,
            _ => Identity::New,
        }
    }

    /// The content that landed from `old` is not there any more: the path is gone, or holds something else (a rotated log).
    fn has_moved(&self, old: &str, hash: &str, root: &Root) -> bool {
        let Some(row) = self.rows.get(old).filter(|row| row.hash == hash && holds_rows(row)) else { return false };
        match root.look(old) {
            Look::Gone => true,
            Look::Unclear => false,
            Look::There(now) if now == (row.size_bytes, row.modified_ms) => has_other_content(row),
            Look::There((size_bytes, _)) if size_bytes != row.size_bytes && !has_other_content(row) => true,
            Look::There(_) => root.hash(old).is_ok_and(|now| now != hash),
        }
    }
}

/// Rows of this content are in the table under this path.
fn holds_rows(row: &FileRow) -> bool {
    matches!(row.state, FileState::Landed | FileState::Renamed) && !has_note(row, RENAMED_TO)
}

/// Size and time of the row are those of content that did not land.
pub(crate) fn has_other_content(row: &FileRow) -> bool {
    holds_rows(row) && (has_note(row, REFUSED) || has_note(row, IGNORED))
}

fn has_note(row: &FileRow, prefix: &str) -> bool {
    row.note.as_deref().is_some_and(|note| note.starts_with(prefix))
}

/// The ledger row of content that does not land: `refusal` says why, without one it is ignored. What landed from that path
/// before is not forgotten, or it would land once more when it comes back.
pub(crate) fn passed_over(before: Option<&FileRow>, found: &Found, hash: String, refusal: Option<String>) -> FileRow {
    let (size_bytes, modified_ms) = (found.size_bytes, found.modified_ms);
    match before.filter(|row| holds_rows(row)) {
        Some(row) => {
            let note = refusal.map_or_else(|| IGNORED.to_owned(), |why| format!("{REFUSED}{why}"));
            FileRow { size_bytes, modified_ms, note: Some(note), ..row.clone() }
        }
        None => FileRow {
            path: found.path.clone(),
            hash,
            size_bytes,
            modified_ms,
            state: if refusal.is_some() { FileState::Poison } else { FileState::Ignored },
            rows: 0,
            rows_quarantined: 0,
            note: Some(refusal.unwrap_or_else(|| IGNORED.to_owned())),
            dialect: before.and_then(|row| row.dialect.clone()),
        },
    }
}

/// The ledger row of content that is at its path as before.
pub(crate) fn found_again(row: &FileRow, found: &Found) -> FileRow {
    let note = row.note.clone().filter(|_| !has_other_content(row));
    FileRow { size_bytes: found.size_bytes, modified_ms: found.modified_ms, note, ..row.clone() }
}

/// The two ledger rows of a rename: the new path takes over, the old one is never a candidate again.
pub(crate) fn renamed(old: &FileRow, found: &Found, hash: &str) -> [FileRow; 2] {
    let new = FileRow {
        path: found.path.clone(),
        hash: hash.to_owned(),
        size_bytes: found.size_bytes,
        modified_ms: found.modified_ms,
        state: FileState::Renamed,
        rows: old.rows,
        rows_quarantined: old.rows_quarantined,
        note: Some(format!("{RENAMED_FROM}{}", old.path)),
        dialect: old.dialect.clone(),
    };
    // What stands at the old path now is looked at anew.
    let (size_bytes, modified_ms) = if has_other_content(old) { (0, 0) } else { (old.size_bytes, old.modified_ms) };
    let gone = FileRow {
        size_bytes,
        modified_ms,
        state: FileState::Renamed,
        rows: 0,
        rows_quarantined: 0,
        note: Some(format!("{RENAMED_TO}{}", found.path)),
        ..old.clone()
    };
    [gone, new]
}

/// Where the paths of a source lead.
#[derive(Debug, Clone)]
pub(crate) enum Root {
    Folder(PathBuf),
    Bucket(Arc<BucketFolder>),
}

/// What stands at a path now.
pub(crate) enum Look {
    Gone,
    /// Size and modification time.
    There((u64, i64)),
    Unclear,
}

impl Root {
    /// Blocking.
    fn look(&self, path: &str) -> Look {
        match self {
            Self::Folder(root) => {
                let absolute = absolute(root, path);
                let is_gone = || {
                    let link = std::fs::symlink_metadata(&absolute);
                    link.is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound)
                };
                match look_again(&absolute) {
                    Some(there) => Look::There(there),
                    None if is_gone() => Look::Gone,
                    None => Look::Unclear,
                }
            }
            Self::Bucket(bucket) => bucket.look(path),
        }
    }

    /// Blocking.
    fn hash(&self, path: &str) -> Result<String, Problem> {
        match self {
            Self::Folder(root) => {
                hash_file(&absolute(root, path)).map(|(hash, _)| hash).map_err(|error| file_problem(path, &error))
            }
            Self::Bucket(bucket) => bucket.hash(path),
        }
    }
}

/// Path of a file of the source. A source that is one file has that file as its root.
fn absolute(root: &Path, path: &str) -> PathBuf {
    if root.is_file() && root.file_name().is_some_and(|name| name == path) { root.to_owned() } else { root.join(path) }
}

/// BLAKE3 of the content as hex, and its length in bytes (blocking, streamed).
pub(crate) fn hash_file(path: &Path) -> std::io::Result<(String, u64)> {
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(std::fs::File::open(path)?)?;
    Ok((hasher.finalize().to_hex().to_string(), hasher.count()))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Folder(tempfile::TempDir);

    impl Folder {
        fn put(&self, path: &str, text: &str) -> Found {
            let absolute = self.0.path().join(path);
            std::fs::write(&absolute, text).unwrap();
            let (size_bytes, modified_ms) = look_again(&absolute).unwrap();
            Found { path: path.into(), absolute, size_bytes, modified_ms, object: None }
        }

        fn root(&self) -> Root {
            Root::Folder(self.0.path().to_owned())
        }

        fn identify(&self, ledger: &Ledger, found: &Found) -> Identity {
            let (hash, _) = hash_file(&found.absolute).unwrap();
            ledger.identify(found, &hash, &self.root(), &Claims::default())
        }
    }

    fn row(found: &Found, state: FileState) -> FileRow {
        FileRow {
            path: found.path.clone(),
            hash: hash_file(&found.absolute).unwrap().0,
            size_bytes: found.size_bytes,
            modified_ms: found.modified_ms,
            state,
            rows: 1,
            rows_quarantined: 0,
            note: None,
            dialect: None,
        }
    }

    #[test]
    fn path_and_hash_decide() {
        let folder = Folder(tempfile::tempdir().unwrap());
        let a = folder.put("a.csv", "one");
        let mut ledger = Ledger::new(vec![row(&a, FileState::Landed)]);
        assert_eq!(ledger.first_look(&a, false), FirstLook::Known);
        assert_eq!(folder.identify(&ledger, &a), Identity::Same);

        // A copy beside the old one lands.
        let copy = folder.put("b.csv", "one");
        ledger.compare(&[a.clone(), copy.clone()]);
        assert_eq!(ledger.first_look(&copy, false), FirstLook::Fresh);
        assert_eq!(folder.identify(&ledger, &copy), Identity::New);

        // The same content when the old path is gone is a rename, and only one path can be it.
        std::fs::remove_file(&a.absolute).unwrap();
        ledger.compare(std::slice::from_ref(&copy));
        assert_eq!(ledger.first_look(&copy, false), FirstLook::HashFirst);
        assert_eq!(folder.identify(&ledger, &copy), Identity::RenamedFrom("a.csv".into()));
        let old = ledger.row("a.csv").unwrap().clone();
        for row in renamed(&old, &copy, &old.hash) {
            ledger.put(row);
        }
        let second = folder.put("c.csv", "one");
        assert_eq!(folder.identify(&ledger, &second), Identity::New);

        // New content at a landed path.
        let changed = folder.put("b.csv", "two!");
        assert_eq!(ledger.first_look(&changed, false), FirstLook::HashFirst);
        assert_eq!(folder.identify(&ledger, &changed), Identity::Changed);
    }

    #[test]
    fn a_claim_is_made_once_in_an_epoch() {
        let folder = Folder(tempfile::tempdir().unwrap());
        let a = folder.put("a", "one");
        let ledger = Ledger::new(vec![row(&a, FileState::Landed)]);
        std::fs::remove_file(&a.absolute).unwrap();
        let (b, c) = (folder.put("b", "one"), folder.put("c", "one"));
        let hash = hash_file(&b.absolute).unwrap().0;
        let claims = Claims::default();
        assert_eq!(ledger.identify(&b, &hash, &folder.root(), &claims), Identity::RenamedFrom("a".into()));
        assert_eq!(ledger.identify(&c, &hash, &folder.root(), &claims), Identity::New);
    }

    #[test]
    fn an_old_path_is_looked_at_once_in_an_epoch() {
        let folder = Folder(tempfile::tempdir().unwrap());
        let a = folder.put("a", "one");
        let ledger = Ledger::new(vec![row(&a, FileState::Landed)]);
        let (b, c) = (folder.put("b", "one"), folder.put("c", "one"));
        let hash = hash_file(&b.absolute).unwrap().0;
        let claims = Claims::default();
        assert_eq!(ledger.identify(&b, &hash, &folder.root(), &claims), Identity::New);
        std::fs::remove_file(&a.absolute).unwrap();
        assert_eq!(ledger.identify(&c, &hash, &folder.root(), &claims), Identity::New);
        assert_eq!(ledger.identify(&c, &hash, &folder.root(), &Claims::default()), Identity::RenamedFrom("a".into()));
    }

    #[test]
    fn a_rotated_log_is_a_rename_although_its_old_path_exists() {
        let folder = Folder(tempfile::tempdir().unwrap());
        let log = folder.put("app.log", "first");
        let ledger = Ledger::new(vec![row(&log, FileState::Landed)]);
        let rotated = folder.put("app.log.1", "first");
        folder.put("app.log", "second day");
        assert_eq!(folder.identify(&ledger, &rotated), Identity::RenamedFrom("app.log".into()));
    }

    #[test]
    fn poison_is_tried_again_only_when_it_changed_or_on_request() {
        let folder = Folder(tempfile::tempdir().unwrap());
        let bad = folder.put("bad.gz", "cut");
        let ledger = Ledger::new(vec![row(&bad, FileState::Poison)]);
        assert_eq!(ledger.first_look(&bad, false), FirstLook::KnownPoison);
        assert_eq!(ledger.first_look(&bad, true), FirstLook::Fresh);
        let mended = folder.put("bad.gz", "whole now");
        assert_eq!(ledger.first_look(&mended, false), FirstLook::HashFirst);
        assert_eq!(folder.identify(&ledger, &mended), Identity::New);
    }

    #[test]
    fn content_that_did_not_land_does_not_hide_what_did() {
        let folder = Folder(tempfile::tempdir().unwrap());
        let a = folder.put("a.csv", "one");
        let landed = row(&a, FileState::Landed);
        for refusal in [Some("cut".to_owned()), None] {
            let bad = folder.put("a.csv", "other");
            let kept = passed_over(Some(&landed), &bad, "new".into(), refusal.clone());
            assert_eq!((kept.state, &kept.hash, kept.rows), (FileState::Landed, &landed.hash, 1));
            let mut ledger = Ledger::new(vec![landed.clone(), kept.clone()]);
            let look = if refusal.is_some() { FirstLook::KnownPoison } else { FirstLook::Known };
            assert_eq!(ledger.first_look(&bad, false), look);
            // The old content under another name is a rename.
            let copy = folder.put("b.csv", "one");
            ledger.compare(&[bad, copy.clone()]);
            assert_eq!(folder.identify(&ledger, &copy), Identity::RenamedFrom("a.csv".into()));
            // What stands at the old path is not forgotten over it.
            let [gone, _] = renamed(&kept, &copy, &landed.hash);
            let bad = folder.put("a.csv", "other");
            assert_eq!(Ledger::new(vec![gone]).first_look(&bad, false), FirstLook::HashFirst);
            // And the same file when it is back.
            std::fs::remove_file(folder.0.path().join("b.csv")).unwrap();
            let back = folder.put("a.csv", "one");
            assert_eq!(folder.identify(&ledger, &back), Identity::Same);
            assert_eq!(found_again(&kept, &back).note, None);
        }
        let fresh = passed_over(None, &a, "new".into(), Some("cut".into()));
        assert_eq!((fresh.state, fresh.hash.as_str()), (FileState::Poison, "new"));
    }
}
