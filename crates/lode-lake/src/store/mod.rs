//! The only way to bytes: put-if-absent, durable before it returns, with a fault layer for tests.

mod fault;
mod local;
mod location;
mod options;
mod probe;
mod remote;
mod sink;
mod upload;

use std::fmt::Display;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use lode_core::config::Environment;
use lode_core::{ErrorKind, task};
use object_store::memory::InMemory;
use object_store::prefix::PrefixStore;
use object_store::{GetOptions, ListResult, ObjectStore, ObjectStoreExt, PutMode, PutOptions};
use tokio::io::AsyncWriteExt;
use tokio::time::Instant;
use url::Url;
use uuid::Uuid;

use self::fault::FaultObjects;
use self::local::LocalObjects;
use crate::LakeError;
use crate::delta::TableCache;

/// A path below the store's root, `/`-separated.
pub type StorePath = object_store::path::Path;

pub use fault::{Fault, FaultPlan};
pub use location::StoreLocation;
pub use object_store::ObjectMeta;
pub use options::StoreOptions;
pub use sink::FileSink;

/// Creates that meet another one under way are sent again for this long.
const CONFLICTS_END: Duration = Duration::from_secs(20);
/// Objects that are read whole: logs, seals, copies of the metadata DB.
const WHOLE_MAX_BYTES: u64 = 4 << 30;
/// Larger ones move to and from a bucket in pieces, each with a deadline of its own.
const AT_ONCE_BYTES: u64 = 32 << 20;
/// A download comes in pieces of this size, so many of them ahead of the disk.
const DOWNLOAD_BYTES: u64 = 8 << 20;
const DOWNLOAD_AHEAD: usize = 2;

/// Outcome of a put-if-absent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Put {
    Created,
    Exists,
}

/// A cheap handle on one bucket or folder.
#[derive(Clone)]
pub struct Store {
    objects: Arc<dyn ObjectStore>,
    backend: Backend,
    faults: Option<FaultPlan>,
    url: Url,
    /// States of the tables below, shared by all clones.
    pub(crate) tables: Arc<TableCache>,
}

impl std::fmt::Debug for Store {
    /// Not what is below: a client holds credentials.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("url", &self.url.as_str()).finish_non_exhaustive()
    }
}

#[derive(Clone)]
enum Backend {
    Local(LocalObjects),
    Memory(Arc<InMemory>),
    /// A bucket: what it acknowledged is durable.
    Remote {
        objects: Arc<dyn ObjectStore>,
        location: Arc<StoreLocation>,
    },
}

impl Store {
    /// A folder or a bucket. A bucket must exist; `options` go over the variables of `env` (`AWS_*`, `AZURE_*`, `GOOGLE_*`,
    /// `OCI_REGION`). Before a process uses a bucket for the first time, it checks with a small file below `_lode/` that
    /// names are given once. Takes the faults of `LODE_FAULT`, if that is set.
    /// Errors: `Open` (what was found, which store, what to do); `Store`.
    pub async fn open(location: &StoreLocation, options: &StoreOptions, env: &Environment) -> Result<Self, LakeError> {
        if let Some(folder) = location.local() {
            options.check(location)?;
            let (folder, shown) = (folder.to_owned(), location.to_string());
            let opened = task::blocking("open the lake", move || Self::local(&folder)).await;
            return opened.unwrap_or_else(|problem| {
                let kind = problem.kind();
                Err(LakeError::Store { action: "open", path: shown, kind, source: Box::new(problem) })
            });
        }
        let connected = remote::connect(location, options, env).await?;
        let store = Self::remote(connected.objects, location)?;
        probe::check(&store, location, &connected.endpoint).await?;
        store.with_env_faults()
    }

    /// As `open`, for what is only read: nothing is written there to try it out.
    /// Errors: as `open`.
    pub async fn open_to_read(
        location: &StoreLocation,
        options: &StoreOptions,
        env: &Environment,
    ) -> Result<Self, LakeError> {
        if location.local().is_some() {
            return Self::open(location, options, env).await;
        }
        Self::remote(remote::connect(location, options, env).await?.objects, location)
    }

    fn remote(objects: Arc<dyn ObjectStore>, location: &StoreLocation) -> Result<Self, LakeError> {
        let url = location.url().ok_or_else(|| LakeError::Open {
            store: location.to_string(),
            kind: ErrorKind::Config,
            reason: "the location does not fit a URL".into(),
            fix: "use plain letters in it".into(),
            source: None,
        })?;
        let backend = Backend::Remote { objects: Arc::clone(&objects), location: Arc::new(location.clone()) };
        Ok(Self { objects, backend, faults: None, url, tables: Arc::default() })
    }

    fn with_env_faults(self) -> Result<Self, LakeError> {
        Ok(match FaultPlan::from_env()? {
            Some(plan) => self.with_faults(plan),
            None => self,
        })
    }

    /// A local folder; made if it is missing. Takes the faults of `LODE_FAULT`, if that is set.
    /// Errors: `Store`.
    pub fn local(root: &std::path::Path) -> Result<Self, LakeError> {
        let shown = StorePath::from(root.to_string_lossy().as_ref());
        let objects = LocalObjects::open(root).map_err(|error| io_error("open", &shown, error))?;
        let url = Url::from_directory_path(objects.root())
            .map_err(|()| io_error("open", &shown, io::Error::other("the path does not fit a URL")))?;
        let store = Self {
            objects: Arc::new(objects.clone()),
            backend: Backend::Local(objects),
            faults: None,
            url,
            tables: Arc::default(),
        };
        store.with_env_faults()
    }

    /// Lives in memory; for tests.
    pub fn memory() -> Self {
        let objects = Arc::new(InMemory::new());
        #[expect(clippy::expect_used, reason = "a constant")]
        let url = Url::parse("memory:///").expect("a valid URL");
        Self {
            objects: Arc::clone(&objects) as _,
            backend: Backend::Memory(objects),
            faults: None,
            url,
            tables: Arc::default(),
        }
    }

    /// Lives in memory, and is written the way a bucket is; for tests.
    pub fn memory_bucket() -> Self {
        #[expect(clippy::expect_used, reason = "a constant")]
        let location: StoreLocation = "s3://memory/lake".parse().expect("a valid location");
        let objects = PrefixStore::new(InMemory::new(), location.prefix.clone());
        #[expect(clippy::expect_used, reason = "as above")]
        Self::remote(Arc::new(objects), &location).expect("a location that fits a URL")
    }

    /// This store with faults injected below it.
    pub fn with_faults(mut self, plan: FaultPlan) -> Self {
        let below: Arc<dyn ObjectStore> = match &mut self.backend {
            Backend::Local(local) => {
                local.disk.faults = Some(plan.clone());
                Arc::new(local.clone())
            }
            Backend::Memory(memory) => Arc::clone(memory) as _,
            Backend::Remote { objects, .. } => Arc::clone(objects),
        };
        let notes_puts = matches!(self.backend, Backend::Memory(_));
        self.objects = Arc::new(FaultObjects { below, plan: plan.clone(), notes_puts });
        self.faults = Some(plan);
        self.tables = Arc::default();
        self
    }

    /// Power loss: takes or tears every write that was not synced. Returns what it touched. Without a fault plan nothing
    /// was recorded and nothing happens; a bucket loses nothing by our power.
    /// Errors: `Store`.
    pub async fn crash(&self) -> Result<Vec<String>, LakeError> {
        let Some(plan) = &self.faults else { return Ok(Vec::new()) };
        let below: Arc<dyn ObjectStore> = match &self.backend {
            // Without its recorder: what the crash itself does is durable.
            Backend::Local(local) => {
                let mut local = local.clone();
                local.disk.faults = None;
                Arc::new(local)
            }
            Backend::Memory(memory) => Arc::clone(memory) as _,
            Backend::Remote { .. } => return Ok(Vec::new()),
        };
        plan.crash(below.as_ref()).await.map_err(|error| object_error("crash", &StorePath::default(), error))
    }

    /// For DataFusion, parquet and the kernel: reads go through the same fault layer.
    pub fn objects(&self) -> Arc<dyn ObjectStore> {
        Arc::clone(&self.objects)
    }

    /// A path as messages name it: in a bucket, with the bucket.
    pub(crate) fn shown(&self, path: &StorePath) -> String {
        match &self.backend {
            Backend::Remote { location, .. } => format!("{location}/{path}"),
            _ => path.to_string(),
        }
    }

    /// Root with a trailing slash: `file:///data/lake/`.
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// The path below the root that an absolute URL or path, not URL-encoded, means; `None` for one outside.
    pub(crate) fn below(&self, absolute: &str) -> Option<StorePath> {
        if let Backend::Remote { location, .. } = &self.backend {
            return location.below(absolute);
        }
        let root = crate::delta::action::decode_path(self.url.path()).ok()?;
        // `file:/x` and `file:///x` are the same.
        let path = match absolute.split_once(':') {
            Some((scheme, rest)) if scheme == self.url.scheme() => rest.strip_prefix("//").unwrap_or(rest),
            _ => absolute,
        };
        StorePath::parse(path.strip_prefix(root.as_str())?).ok()
    }

    /// Creates `path`, durable before it returns. `Exists` says nothing about whose bytes are there: a bucket's client
    /// repeats a put whose answer was lost, and then meets its own file.
    /// Errors: `Store` with kind `Unavailable` when it is unclear whether the put happened.
    pub async fn put_if_absent(&self, path: &StorePath, bytes: Bytes) -> Result<Put, LakeError> {
        let begun = Instant::now();
        let mut round = 0;
        loop {
            let options = PutOptions { mode: PutMode::Create, ..Default::default() };
            let error = match self.objects.put_opts(path, bytes.clone().into(), options).await {
                Ok(_) => return Ok(Put::Created),
                Err(error) => error,
            };
            let is_conflict = remote::is_conflict(&error);
            if is_conflict && begun.elapsed() < CONFLICTS_END {
                pause(round).await;
                round += 1;
                continue;
            }
            return match error {
                // Whether the other one got the name is not known.
                error if is_conflict => Err(LakeError::Store {
                    action: "create",
                    path: self.shown(path),
                    kind: ErrorKind::Unavailable,
                    source: Box::new(error),
                }),
                object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. } => Ok(Put::Exists),
                error => Err(object_error("create", &self.shown(path), error)),
            };
        }
    }

    /// Replaces `path` atomically. Only for pointers and projections that can be made again.
    pub async fn put(&self, path: &StorePath, bytes: Bytes) -> Result<(), LakeError> {
        let put = match self.backend {
            Backend::Remote { .. } if bytes.len() as u64 > AT_ONCE_BYTES => {
                upload::replace(self.objects.as_ref(), path, bytes).await
            }
            _ => self.objects.put(path, bytes.into()).await.map(|_| ()),
        };
        put.map_err(|error| object_error("write", &self.shown(path), error))
    }

    /// The whole object, of at most 4 GiB. Errors: `NotFound`.
    pub async fn get(&self, path: &StorePath) -> Result<Bytes, LakeError> {
        self.get_tagged(path).await.map(|(bytes, _)| bytes)
    }

    /// With the tag that tells this content of the name from another.
    pub(crate) async fn get_tagged(&self, path: &StorePath) -> Result<(Bytes, Option<String>), LakeError> {
        let failed = |error| object_error("read", &self.shown(path), error);
        let got = self.objects.get(path).await.map_err(failed)?;
        let expected = got.range.end - got.range.start;
        if expected > WHOLE_MAX_BYTES {
            let large = io::Error::other(format!("{expected} bytes are too many to be read at once"));
            return Err(io_error("read", &self.shown(path), large));
        }
        let tag = got.meta.e_tag.clone();
        let bytes = match self.backend {
            Backend::Remote { .. } if expected > AT_ONCE_BYTES => self.get_in_pieces(path, expected, &tag).await,
            _ => got.bytes().await,
        };
        let bytes = bytes.map_err(failed)?;
        if bytes.len() as u64 != expected {
            let cut = io::Error::other(format!("got {} of {expected} bytes", bytes.len()));
            return Err(io_error("read", &self.shown(path), cut));
        }
        Ok((bytes, tag))
    }

    /// Copies an object of any size to a local file, which is made or replaced; gives what was read, which may be newer
    /// than a listing. Not synced: it is a copy.
    /// Errors: `NotFound`; `Store`, also when the object was exchanged meanwhile.
    pub async fn download(&self, path: &StorePath, to: &std::path::Path) -> Result<ObjectMeta, LakeError> {
        let failed = |error| object_error("read", &self.shown(path), error);
        let local = |error| io_error("write", &to.display(), error);
        let meta = self.head(path).await?.ok_or_else(|| LakeError::NotFound { path: self.shown(path) })?;
        let size = meta.size;
        let tag = meta.e_tag.clone();
        let starts = (0..size).step_by(DOWNLOAD_BYTES as usize);
        let pieces = futures::stream::iter(starts).map(move |start| {
            let range = start..size.min(start + DOWNLOAD_BYTES);
            let if_match = tag.clone();
            async move {
                let options = GetOptions { range: Some(range.clone().into()), if_match, ..Default::default() };
                let bytes =
                    self.objects.get_opts(path, options).await.map_err(failed)?.bytes().await.map_err(failed)?;
                let (got, wanted) = (bytes.len() as u64, range.end - range.start);
                if got != wanted {
                    let cut = io::Error::other(format!("got {got} of {wanted} bytes"));
                    return Err(io_error("read", &self.shown(path), cut));
                }
                Ok(bytes)
            }
        });
        let mut pieces = pieces.buffered(DOWNLOAD_AHEAD);
        let mut file = tokio::fs::File::create(to).await.map_err(local)?;
        while let Some(bytes) = pieces.try_next().await? {
            file.write_all(&bytes).await.map_err(local)?;
        }
        file.flush().await.map_err(local)?;
        Ok(meta)
    }

    /// All pieces are of the one object that has this tag.
    async fn get_in_pieces(
        &self,
        path: &StorePath,
        size_bytes: u64,
        tag: &Option<String>,
    ) -> object_store::Result<Bytes> {
        let mut whole = Vec::with_capacity(usize::try_from(size_bytes).unwrap_or_default());
        let mut start = 0;
        while start < size_bytes {
            let end = size_bytes.min(start + AT_ONCE_BYTES);
            let options = GetOptions { range: Some((start..end).into()), if_match: tag.clone(), ..Default::default() };
            whole.extend_from_slice(&self.objects.get_opts(path, options).await?.bytes().await?);
            start = end;
        }
        Ok(whole.into())
    }

    /// `None` when there is nothing under that name.
    pub async fn head(&self, path: &StorePath) -> Result<Option<ObjectMeta>, LakeError> {
        match self.objects.head(path).await {
            // A store with a prefix gives the whole path.
            Ok(meta) => Ok(Some(ObjectMeta { location: path.clone(), ..meta })),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(object_error("read", &self.shown(path), error)),
        }
    }

    /// Everything below `prefix`, sorted by path; with `after`, only what sorts behind it.
    pub async fn list(&self, prefix: &StorePath, after: Option<&StorePath>) -> Result<Vec<ObjectMeta>, LakeError> {
        let listed = match after {
            Some(after) => self.objects.list_with_offset(Some(prefix), after),
            None => self.objects.list(Some(prefix)),
        };
        let mut found: Vec<ObjectMeta> =
            listed.try_collect().await.map_err(|error| object_error("list", &self.shown(prefix), error))?;
        found.sort_unstable_by(|a, b| a.location.cmp(&b.location));
        Ok(found)
    }

    /// Names of the folders directly below `prefix`, sorted.
    pub async fn folders(&self, prefix: &StorePath) -> Result<Vec<String>, LakeError> {
        let listed = self.list_one_level(prefix).await?;
        let mut names: Vec<String> =
            listed.common_prefixes.iter().filter_map(|folder| folder.filename().map(str::to_owned)).collect();
        names.sort_unstable();
        Ok(names)
    }

    /// The files directly below `prefix`.
    async fn files(&self, prefix: &StorePath) -> Result<Vec<StorePath>, LakeError> {
        let listed = self.list_one_level(prefix).await?;
        Ok(listed.objects.into_iter().map(|meta| meta.location).collect())
    }

    async fn list_one_level(&self, prefix: &StorePath) -> Result<ListResult, LakeError> {
        match self.objects.list_with_delimiter(Some(prefix)).await {
            // A folder that is not there is empty; a bucket that is not there is an error.
            Err(object_store::Error::NotFound { .. }) if !matches!(self.backend, Backend::Remote { .. }) => {
                Ok(ListResult { common_prefixes: Vec::new(), objects: Vec::new() })
            }
            other => other.map_err(|error| object_error("list", &self.shown(prefix), error)),
        }
    }

    /// Deletes; a missing file is no error.
    pub async fn delete(&self, path: &StorePath) -> Result<(), LakeError> {
        match self.objects.delete(path).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(object_error("delete", &self.shown(path), error)),
        }
    }

    /// Opens a new file for writing (blocking). In a bucket its name must be this writer's alone, as those of data files
    /// are. Errors: `Store` with kind `AlreadyExists`.
    pub fn create(&self, path: &StorePath) -> Result<FileSink, LakeError> {
        match &self.backend {
            Backend::Local(local) => FileSink::local(&local.disk, path, self.faults.clone()),
            Backend::Memory(memory) => FileSink::memory(memory, path, self.faults.clone()),
            Backend::Remote { .. } => FileSink::remote(self, path, self.faults.clone()),
        }
    }
}

/// Up to 50 ms, doubled each round up to 2 s, and another time for each writer.
async fn pause(round: u32) {
    let most = Duration::from_millis(50 << round.min(6)).min(Duration::from_secs(2));
    let jitter = u32::from(Uuid::new_v4().as_bytes()[0]);
    tokio::time::sleep(most * jitter / 256).await;
}

/// What an I/O error means for the user.
fn kind_of(error: &io::Error) -> ErrorKind {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ErrorKind::Full,
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => ErrorKind::Denied,
        io::ErrorKind::AlreadyExists => ErrorKind::AlreadyExists,
        _ => ErrorKind::Unavailable,
    }
}

pub(crate) fn io_error(action: &'static str, path: &impl Display, source: io::Error) -> LakeError {
    if source.kind() == io::ErrorKind::NotFound {
        return LakeError::NotFound { path: path.to_string() };
    }
    LakeError::Store { action, path: path.to_string(), kind: kind_of(&source), source: Box::new(source) }
}

pub(crate) fn object_error(action: &'static str, path: &impl Display, source: object_store::Error) -> LakeError {
    use object_store::Error;
    let kind = match &source {
        Error::NotFound { .. } => return LakeError::NotFound { path: path.to_string() },
        Error::AlreadyExists { .. } => ErrorKind::AlreadyExists,
        Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => ErrorKind::Denied,
        error if remote::is_expired(error) => ErrorKind::Denied,
        Error::NotSupported { .. } | Error::NotImplemented { .. } => ErrorKind::Unsupported,
        _ => io_cause(&source).map_or(ErrorKind::Unavailable, kind_of),
    };
    LakeError::Store { action, path: path.to_string(), kind, source: Box::new(source) }
}

pub(crate) fn io_cause<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a io::Error> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(found) = error.downcast_ref::<io::Error>() {
            return Some(found);
        }
        cause = error.source();
    }
    None
}

#[cfg(test)]
mod tests;
