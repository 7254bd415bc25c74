//! Files of a bucket: listed there, copied to this machine for one epoch, and landed from the copies.
//!
//! A copy costs the disk once what it saves the network: a file is read more than once (columns, identity, rows).

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, UNIX_EPOCH};

use futures::{StreamExt, stream};
use lode_core::{ErrorKind, Place, Problem, task};
use lode_lake::{LakeError, ObjectMeta, Store, StoreLocation, StorePath};
use tokio::runtime::Handle;
use uuid::Uuid;

use super::collect::Job;
use super::discover::{Found, Listing, Object, is_passed_over};
use super::identity::{Look, hash_file};
use crate::config::{Bucket, FileSource};

/// Files that are copied at once.
const COPIES_AT_ONCE: usize = 4;

/// A prefix of a bucket, opened.
#[derive(Debug)]
pub(crate) struct BucketFolder {
    store: Store,
    location: StoreLocation,
    bucket: Bucket,
    /// The location is one file: the folder around it, and its name.
    single: OnceLock<(Store, String)>,
    /// Folder of the copies, ours alone.
    copies: PathBuf,
    handle: Handle,
}

/// The files of an epoch, on this machine.
#[derive(Debug, Default)]
pub(crate) struct Fetched {
    pub(crate) jobs: VecDeque<Job>,
    /// Gone, or not as they were listed: the next pass looks at them.
    pub(crate) changed: u64,
    pub(crate) failed: Vec<(Found, Problem)>,
    pub(crate) copies: Option<Copies>,
}

/// Copies of one epoch, deleted when this is dropped.
#[derive(Debug)]
pub(crate) struct Copies(PathBuf);

impl Drop for Copies {
    fn drop(&mut self) {
        // What stays is deleted when the source is opened again.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

enum Copied {
    Done(Job),
    Changed,
    Failed(Found, Problem),
}

impl BucketFolder {
    /// Opens it, and deletes what a process that died left in `copies`.
    /// Errors: those of `Store::open_to_read`; `Full`, `Denied` for the folder of copies.
    pub(crate) async fn open(bucket: &Bucket, copies: PathBuf) -> Result<Self, Problem> {
        let location = bucket.location.clone();
        let store = Store::open_to_read(&location, &bucket.options, &bucket.env).await?;
        let folder = copies.clone();
        task::blocking("make the folder of copies", move || {
            match std::fs::remove_dir_all(&folder) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            std::fs::create_dir_all(&folder)
        })
        .await?
        .map_err(|error| copies_problem(&copies, &error))?;
        let single = OnceLock::new();
        Ok(Self { store, location, bucket: bucket.clone(), single, copies, handle: Handle::current() })
    }

    /// Lists the files of a source, as `discover::list` does for a folder. A prefix below which nothing lies has no files.
    /// Errors: those of the store.
    pub(crate) async fn list(&self, source: &FileSource) -> Result<Listing, Problem> {
        let listed = self.store.list(&StorePath::default(), None).await;
        let listed = listed.map_err(|error| self.listing_problem(error, source))?;
        let mut listing = Listing::default();
        for meta in listed {
            let is_ours = !meta.location.parts().any(|part| is_passed_over(source, part.as_ref()));
            let path = meta.location.to_string();
            // Tools make empty objects that stand for folders.
            let is_folder = path.is_empty() || meta.location.as_ref().ends_with('/');
            if is_ours && !is_folder && source.pattern.as_ref().is_none_or(|pattern| pattern.matches(&path)) {
                listing.files.push(self.found(path, &meta));
            }
        }
        if listing.files.is_empty()
            && let Some((folder, name)) = self.location.split_last()
        {
            let around = Store::open_to_read(&folder, &self.bucket.options, &self.bucket.env).await?;
            if let Some(meta) = around.head(&StorePath::from(name.as_str())).await? {
                self.single.get_or_init(|| (around, name.clone()));
                listing.files.push(self.found(name, &meta));
            }
        }
        listing.files.sort_unstable_by(|a, b| a.path.cmp(&b.path));
        Ok(listing)
    }

    /// Where a path of the listing lies.
    fn object(&self, path: &str) -> Result<(&Store, StorePath), Problem> {
        let store = match self.single.get() {
            Some((around, name)) if name == path => around,
            _ => &self.store,
        };
        let path = StorePath::parse(path).map_err(|error| Problem::new(ErrorKind::Data, error.to_string()))?;
        Ok((store, path))
    }

    fn found(&self, path: String, meta: &ObjectMeta) -> Found {
        let url = match self.single.get() {
            Some((_, name)) if *name == path => self.location.to_string(),
            _ => format!("{}/{path}", self.location),
        };
        Found {
            path,
            // It has none before it is fetched.
            absolute: PathBuf::new(),
            size_bytes: meta.size,
            modified_ms: meta.last_modified.timestamp_millis(),
            object: Some(Object { url, tag: meta.e_tag.clone() }),
        }
    }

    fn listing_problem(&self, error: LakeError, source: &FileSource) -> Problem {
        Problem::from(error).context(format!("could not list \"{}\"", source.path))
    }

    /// Copies the files of an epoch to this machine.
    /// Errors: `Full`, `Denied` for the folder of copies. What is wrong with one object is in `Fetched::failed`.
    pub(crate) async fn fetch(&self, jobs: VecDeque<Job>) -> Result<Fetched, Problem> {
        let folder = self.copies.join(Uuid::new_v4().to_string());
        let made = tokio::fs::create_dir(&folder).await;
        made.map_err(|error| copies_problem(&folder, &error))?;
        let mut fetched = Fetched { copies: Some(Copies(folder.clone())), ..Fetched::default() };
        let copies = stream::iter(jobs.into_iter().enumerate())
            .map(|(number, job)| self.copy(job, folder.join(number.to_string())))
            .buffered(COPIES_AT_ONCE);
        let mut copies = std::pin::pin!(copies);
        while let Some(copied) = copies.next().await {
            match copied? {
                Copied::Done(job) => fetched.jobs.push_back(job),
                Copied::Changed => fetched.changed += 1,
                Copied::Failed(found, problem) => fetched.failed.push((found, problem)),
            }
        }
        Ok(fetched)
    }

    async fn copy(&self, mut job: Job, to: PathBuf) -> Result<Copied, Problem> {
        let found = &mut job.found;
        let (store, path) = self.object(&found.path)?;
        let meta = match store.download(&path, &to).await {
            Ok(meta) => meta,
            Err(LakeError::NotFound { .. }) => return Ok(Copied::Changed),
            Err(error) => {
                let problem = Problem::from(error);
                // A full disk stops them all.
                return match problem.kind() {
                    ErrorKind::Full => Err(problem),
                    _ => Ok(Copied::Failed(found.clone(), problem)),
                };
            }
        };
        let tag = found.object.as_ref().and_then(|object| object.tag.as_ref());
        let is_same = match (tag, &meta.e_tag) {
            (Some(listed), Some(read)) => bare(listed) == bare(read),
            _ => meta.last_modified.timestamp() == found.modified_ms.div_euclid(1_000),
        };
        if meta.size != found.size_bytes || !is_same {
            return Ok(Copied::Changed);
        }
        // The copy is as old as the original: whoever looks at it again finds what was listed.
        let (file, modified_ms) = (to.clone(), found.modified_ms);
        let dated = move || std::fs::File::options().write(true).open(file)?.set_modified(time(modified_ms));
        task::blocking("date a copy", dated).await?.map_err(|error| copies_problem(&to, &error))?;
        found.absolute = to;
        Ok(Copied::Done(job))
    }

    /// What stands at a path now (blocking, not on a thread of the runtime).
    pub(super) fn look(&self, path: &str) -> Look {
        let Ok((store, path)) = self.object(path) else { return Look::Unclear };
        match self.handle.block_on(store.head(&path)) {
            Ok(Some(meta)) => Look::There((meta.size, meta.last_modified.timestamp_millis())),
            Ok(None) => Look::Gone,
            Err(_) => Look::Unclear,
        }
    }

    /// BLAKE3 of what stands at a path now, as hex (blocking, not on a thread of the runtime).
    pub(super) fn hash(&self, path: &str) -> Result<String, Problem> {
        let copy = self.copies.join(Uuid::new_v4().to_string());
        let (store, path) = self.object(path)?;
        let hash = self.handle.block_on(store.download(&path, &copy)).map_err(Problem::from);
        let hash = hash.and_then(|_| hash_file(&copy).map_err(|error| copies_problem(&copy, &error)));
        let _ = std::fs::remove_file(&copy);
        hash.map(|(hash, _)| hash)
    }
}

/// Listings and answers write one tag in several ways.
fn bare(tag: &str) -> &str {
    tag.trim_start_matches("W/").trim_matches('"')
}

fn time(ms: i64) -> std::time::SystemTime {
    let span = Duration::from_millis(ms.unsigned_abs());
    if ms < 0 { UNIX_EPOCH - span } else { UNIX_EPOCH + span }
}

fn copies_problem(path: &Path, error: &std::io::Error) -> Problem {
    let (kind, fix) = match error.kind() {
        std::io::ErrorKind::StorageFull => (ErrorKind::Full, "free some space on that disk"),
        std::io::ErrorKind::PermissionDenied => (ErrorKind::Denied, "give this user the right to write there"),
        _ => (ErrorKind::Unavailable, "check the disk of the data folder"),
    };
    let what = "the copy of a file of a bucket cannot be kept";
    Problem::new(kind, what).cause(error).at(Place::of(path.display().to_string())).fix(fix)
}
