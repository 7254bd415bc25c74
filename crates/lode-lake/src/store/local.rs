//! A local folder as an object store whose puts are durable: file synced, then named, then its folder synced.
//!
//! `object_store`'s own `LocalFileSystem` never syncs; it serves reads and deletes here, the writes are ours. Half-written
//! files live in `<root>/_tmp` under random names and are moved to their names whole.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::ops::Range;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt};
use lode_core::task;
use object_store::local::LocalFileSystem;
use object_store::path::Path as StorePath;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMode,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions, Result, UploadPart,
};
use uuid::Uuid;

use super::fault::{FaultPlan, Sync};

/// Folder of half-written files below the root; hidden from listings.
pub(crate) const TMP: &str = "_tmp";
/// Half-written files of dead processes are removed at open once they are this old.
const TMP_KEPT: Duration = Duration::from_secs(24 * 3600);

#[derive(Debug, Clone)]
pub(crate) struct LocalObjects {
    inner: Arc<LocalFileSystem>,
    pub(crate) disk: Disk,
}

/// Blocking durable writes below one root.
#[derive(Debug, Clone)]
pub(crate) struct Disk {
    root: Arc<Path>,
    /// Told what was created and what was synced, when a fault layer stands above.
    pub(crate) faults: Option<FaultPlan>,
}

/// A file that has no name yet. Dropped before `publish`, it goes away.
#[derive(Debug)]
pub(crate) struct Unnamed {
    pub(crate) file: File,
    tmp: PathBuf,
}

impl Drop for Unnamed {
    fn drop(&mut self) {
        // After a rename it is gone already, which is fine.
        let _ = fs::remove_file(&self.tmp);
    }
}

/// How a finished file takes its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Name {
    /// Fails with `AlreadyExists` when the name is taken.
    New,
    Replace,
}

impl Disk {
    pub(crate) fn path(&self, location: &StorePath) -> PathBuf {
        let mut path = self.root.to_path_buf();
        // A `StorePath` holds no `..` and no empty part.
        path.extend(location.parts().map(|part| part.as_ref().to_owned()));
        path
    }

    pub(crate) fn unnamed(&self) -> io::Result<Unnamed> {
        let folder = self.root.join(TMP);
        let tmp = folder.join(Uuid::new_v4().to_string());
        let open = || OpenOptions::new().write(true).create_new(true).open(&tmp);
        let file = match open() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                fs::create_dir_all(&folder)?;
                open()?
            }
            other => other?,
        };
        Ok(Unnamed { file, tmp })
    }

    /// Syncs the file, gives it its name and syncs the folder.
    pub(crate) fn publish(&self, unnamed: Unnamed, target: &Path, name: Name) -> io::Result<()> {
        unnamed.file.sync_all()?;
        let folder = target.parent().unwrap_or(&self.root);
        self.make_folder(folder)?;
        match name {
            Name::Replace => fs::rename(&unnamed.tmp, target)?,
            Name::New => {
                self.note(Sync::Named, target);
                let named = match fs::hard_link(&unnamed.tmp, target) {
                    Err(error) if links_refused(&error) => self.name_without_link(&unnamed, target),
                    other => other,
                };
                if named.is_err() {
                    // Whatever stands there is not ours to lose.
                    self.note(Sync::Synced, target);
                }
                named?;
            }
        }
        drop(unnamed);
        sync_folder(folder)?;
        self.note(Sync::Synced, target);
        Ok(())
    }

    /// For file systems without hard links (exFAT, some FUSE and SMB mounts): rename without replacing, else a copy that a
    /// power cut may tear, as such file systems offer nothing better.
    fn name_without_link(&self, unnamed: &Unnamed, target: &Path) -> io::Result<()> {
        #[cfg(any(target_os = "linux", target_os = "macos"))]
        {
            use rustix::fs::{CWD, RenameFlags, renameat_with};
            match renameat_with(CWD, &unnamed.tmp, CWD, target, RenameFlags::NOREPLACE) {
                Ok(()) => return Ok(()),
                Err(rustix::io::Errno::EXIST) => return Err(io::ErrorKind::AlreadyExists.into()),
                Err(_) => {}
            }
        }
        let mut from = File::open(&unnamed.tmp)?;
        let mut to = OpenOptions::new().write(true).create_new(true).open(target)?;
        let copied = io::copy(&mut from, &mut to).and_then(|_| to.sync_all());
        if copied.is_err() {
            // We made this name, so nobody else's bytes go.
            let _ = fs::remove_file(target);
        }
        copied
    }

    fn make_folder(&self, folder: &Path) -> io::Result<()> {
        if folder.is_dir() {
            return Ok(());
        }
        let parent = folder.parent().unwrap_or(&self.root);
        self.make_folder(parent)?;
        match fs::create_dir(folder) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
            _ => sync_folder(parent),
        }
    }

    fn note(&self, event: Sync, target: &Path) {
        if let Some(faults) = &self.faults {
            let below = target.strip_prefix(&self.root).unwrap_or(target);
            faults.note(event, target, &below.to_string_lossy());
        }
    }

    fn write_whole(&self, location: &StorePath, payload: &PutPayload, name: Name) -> io::Result<PutResult> {
        let target = self.path(location);
        if name == Name::New && target.exists() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let mut unnamed = self.unnamed()?;
        for chunk in payload.iter() {
            unnamed.file.write_all(chunk)?;
        }
        let e_tag = Some(e_tag(&unnamed.file.metadata()?));
        self.publish(unnamed, &target, name)?;
        Ok(PutResult { e_tag, version: None })
    }

    /// Files below `prefix` whose location sorts behind `after`; names are filtered before anything is asked of the disk.
    fn walk(&self, prefix: Option<&StorePath>, after: Option<&StorePath>) -> io::Result<Vec<ObjectMeta>> {
        let mut found = Vec::new();
        let mut folders = vec![(self.path(&prefix.cloned().unwrap_or_default()), prefix.cloned().unwrap_or_default())];
        while let Some((folder, location)) = folders.pop() {
            let entries = match fs::read_dir(&folder) {
                Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                    continue;
                }
                other => other?,
            };
            for entry in entries {
                let entry = entry?;
                let name = entry.file_name();
                let Some(name) = name.to_str() else { continue };
                if location.parts().next().is_none() && name == TMP {
                    continue;
                }
                // A name that would read back as another one cannot have been written by a store.
                let Ok(below) = StorePath::parse(join(&location, name)) else { continue };
                let kind = entry.file_type()?;
                let is_folder = kind.is_dir() || kind.is_symlink() && entry.path().is_dir();
                if is_folder {
                    folders.push((entry.path(), below));
                } else if after.is_none_or(|after| below > *after) {
                    match fs::metadata(entry.path()) {
                        Ok(metadata) => found.push(meta(below, &metadata)),
                        // Deleted meanwhile, or a dangling link.
                        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                        Err(error) => return Err(error),
                    }
                }
            }
        }
        // As buckets list; the kernel counts on it.
        found.sort_unstable_by(|a, b| a.location.cmp(&b.location));
        Ok(found)
    }
}

fn join(folder: &StorePath, name: &str) -> String {
    if folder.as_ref().is_empty() { name.to_owned() } else { format!("{folder}/{name}") }
}

fn links_refused(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let refusals = [Errno::PERM, Errno::OPNOTSUPP, Errno::NOSYS, Errno::XDEV, Errno::MLINK];
    error.raw_os_error().is_some_and(|code| refusals.iter().any(|errno| errno.raw_os_error() == code))
}

pub(crate) fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

fn e_tag(metadata: &fs::Metadata) -> String {
    // The same as `LocalFileSystem` gives, so that conditional reads hold.
    let micros = metadata
        .modified()
        .ok()
        .and_then(|at| at.duration_since(SystemTime::UNIX_EPOCH).ok())
        .unwrap_or_default()
        .as_micros();
    format!("{:x}-{micros:x}-{:x}", metadata.ino(), metadata.len())
}

fn meta(location: StorePath, metadata: &fs::Metadata) -> ObjectMeta {
    ObjectMeta {
        location,
        last_modified: metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH).into(),
        size: metadata.len(),
        e_tag: Some(e_tag(metadata)),
        version: None,
    }
}

impl LocalObjects {
    /// Opens `root`, making it if it is missing, and clears what dead processes left half-written long ago.
    pub(crate) fn open(root: &Path) -> io::Result<Self> {
        fs::create_dir_all(root)?;
        let root = fs::canonicalize(root)?;
        let inner = LocalFileSystem::new_with_prefix(&root).map_err(io::Error::other)?;
        let disk = Disk { root: root.into(), faults: None };
        for entry in fs::read_dir(disk.root.join(TMP)).into_iter().flatten().flatten() {
            let age =
                entry.metadata().and_then(|metadata| metadata.modified()).map(|at| at.elapsed().unwrap_or_default());
            if age.is_ok_and(|age| age > TMP_KEPT) {
                let _ = fs::remove_file(entry.path());
            }
        }
        Ok(Self { inner: Arc::new(inner), disk })
    }

    pub(crate) fn root(&self) -> &Path {
        &self.disk.root
    }
}

/// Runs file work off the runtime; without a runtime (a blocking caller) right here.
async fn off_runtime<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    if tokio::runtime::Handle::try_current().is_err() {
        return work();
    }
    task::blocking("local store", work).await.map_err(|problem| generic(problem.into_io()))?
}

trait IntoIo {
    fn into_io(self) -> io::Error;
}

impl IntoIo for lode_core::Problem {
    fn into_io(self) -> io::Error {
        io::Error::other(self.to_string())
    }
}

fn generic(source: io::Error) -> Error {
    Error::Generic { store: "LocalFolder", source: Box::new(source) }
}

pub(crate) fn object_error(source: io::Error, location: &StorePath) -> Error {
    let path = location.to_string();
    match source.kind() {
        io::ErrorKind::AlreadyExists => Error::AlreadyExists { path, source: Box::new(source) },
        io::ErrorKind::NotFound => Error::NotFound { path, source: Box::new(source) },
        io::ErrorKind::PermissionDenied => Error::PermissionDenied { path, source: Box::new(source) },
        _ => generic(source),
    }
}

impl std::fmt::Display for LocalObjects {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "LocalFolder({})", self.disk.root.display())
    }
}

#[async_trait]
impl ObjectStore for LocalObjects {
    async fn put_opts(&self, location: &StorePath, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        let name = match opts.mode {
            PutMode::Create => Name::New,
            PutMode::Overwrite => Name::Replace,
            PutMode::Update(_) => {
                return Err(Error::NotImplemented {
                    operation: "conditional update".into(),
                    implementer: "LocalFolder".into(),
                });
            }
        };
        let (disk, location) = (self.disk.clone(), location.clone());
        off_runtime(move || disk.write_whole(&location, &payload, name).map_err(|error| object_error(error, &location)))
            .await
    }

    async fn put_multipart_opts(
        &self,
        location: &StorePath,
        _opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        let (disk, location) = (self.disk.clone(), location.clone());
        off_runtime(move || {
            let unnamed = disk.unnamed().map_err(|error| object_error(error, &location))?;
            let upload = LocalUpload { disk, location, unnamed: Some(Arc::new(unnamed)), offset: 0 };
            Ok(Box::new(upload) as Box<dyn MultipartUpload>)
        })
        .await
    }

    async fn get_opts(&self, location: &StorePath, options: GetOptions) -> Result<GetResult> {
        self.inner.get_opts(location, options).await
    }

    async fn get_ranges(&self, location: &StorePath, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.inner.get_ranges(location, ranges).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<StorePath>>) -> BoxStream<'static, Result<StorePath>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&StorePath>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.list_from(prefix, None)
    }

    fn list_with_offset(
        &self,
        prefix: Option<&StorePath>,
        offset: &StorePath,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        self.list_from(prefix, Some(offset))
    }

    async fn list_with_delimiter(&self, prefix: Option<&StorePath>) -> Result<ListResult> {
        let mut listed = self.inner.list_with_delimiter(prefix).await?;
        listed.common_prefixes.retain(|prefix| prefix.as_ref() != TMP);
        Ok(listed)
    }

    async fn copy_opts(&self, from: &StorePath, to: &StorePath, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await?;
        self.sync_parent(to).await
    }

    async fn rename_opts(&self, from: &StorePath, to: &StorePath, options: RenameOptions) -> Result<()> {
        self.inner.rename_opts(from, to, options).await?;
        self.sync_parent(to).await
    }
}

impl LocalObjects {
    fn list_from(
        &self,
        prefix: Option<&StorePath>,
        after: Option<&StorePath>,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        let (disk, prefix, after) = (self.disk.clone(), prefix.cloned(), after.cloned());
        let listed = async move {
            let found = off_runtime(move || {
                disk.walk(prefix.as_ref(), after.as_ref())
                    .map_err(|error| object_error(error, &prefix.unwrap_or_default()))
            })
            .await;
            match found {
                Ok(found) => stream::iter(found).map(Ok).boxed(),
                Err(error) => stream::iter([Err(error)]).boxed(),
            }
        };
        stream::once(listed).flatten().boxed()
    }

    async fn sync_parent(&self, location: &StorePath) -> Result<()> {
        let (path, location) = (self.disk.path(location), location.clone());
        off_runtime(move || {
            sync_folder(path.parent().unwrap_or(Path::new("/"))).map_err(|error| object_error(error, &location))
        })
        .await
    }
}

#[derive(Debug)]
struct LocalUpload {
    disk: Disk,
    location: StorePath,
    unnamed: Option<Arc<Unnamed>>,
    offset: u64,
}

impl LocalUpload {
    fn closed(&self) -> Error {
        generic(io::Error::other(format!("upload of {} is closed", self.location)))
    }
}

#[async_trait]
impl MultipartUpload for LocalUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let mut offset = self.offset;
        self.offset += data.content_length() as u64;
        let (unnamed, location, closed) = (self.unnamed.clone(), self.location.clone(), self.closed());
        Box::pin(async move {
            let unnamed = unnamed.ok_or(closed)?;
            off_runtime(move || {
                for chunk in data.iter() {
                    unnamed.file.write_all_at(chunk, offset).map_err(|error| object_error(error, &location))?;
                    offset += chunk.len() as u64;
                }
                Ok(())
            })
            .await
        })
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let unnamed = self.unnamed.take().and_then(Arc::into_inner).ok_or_else(|| self.closed())?;
        let (disk, location) = (self.disk.clone(), self.location.clone());
        off_runtime(move || {
            let target = disk.path(&location);
            let e_tag = unnamed.file.metadata().ok().map(|metadata| e_tag(&metadata));
            disk.publish(unnamed, &target, Name::Replace).map_err(|error| object_error(error, &location))?;
            Ok(PutResult { e_tag, version: None })
        })
        .await
    }

    async fn abort(&mut self) -> Result<()> {
        self.unnamed = None;
        Ok(())
    }
}
