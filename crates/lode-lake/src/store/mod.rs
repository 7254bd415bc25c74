//! The only way to bytes: put-if-absent, durable before it returns, with a fault layer for tests.

mod fault;
mod local;
mod sink;

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use futures::TryStreamExt;
use lode_core::ErrorKind;
use object_store::memory::InMemory;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions};
use url::Url;

use self::fault::FaultObjects;
use self::local::LocalObjects;
use crate::LakeError;
use crate::delta::TableCache;

/// A path below the store's root, `/`-separated.
pub type StorePath = object_store::path::Path;

pub use fault::{Fault, FaultPlan};
pub use object_store::ObjectMeta;
pub use sink::FileSink;

/// Outcome of a put-if-absent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Put {
    Created,
    Exists,
}

/// A cheap handle on one bucket or folder.
#[derive(Debug, Clone)]
pub struct Store {
    objects: Arc<dyn ObjectStore>,
    backend: Backend,
    faults: Option<FaultPlan>,
    url: Url,
    /// States of the tables below, shared by all clones.
    pub(crate) tables: Arc<TableCache>,
}

#[derive(Debug, Clone)]
enum Backend {
    Local(LocalObjects),
    Memory(Arc<InMemory>),
}

impl Store {
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
        Ok(match FaultPlan::from_env()? {
            Some(plan) => store.with_faults(plan),
            None => store,
        })
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

    /// This store with faults injected below it.
    pub fn with_faults(mut self, plan: FaultPlan) -> Self {
        let below: Arc<dyn ObjectStore> = match &mut self.backend {
            Backend::Local(local) => {
                local.disk.faults = Some(plan.clone());
                Arc::new(local.clone())
            }
            Backend::Memory(memory) => Arc::clone(memory) as _,
        };
        let notes_puts = matches!(self.backend, Backend::Memory(_));
        self.objects = Arc::new(FaultObjects { below, plan: plan.clone(), notes_puts });
        self.faults = Some(plan);
        self.tables = Arc::default();
        self
    }

    /// Power loss: takes or tears every write that was not synced. Returns what it touched. Without a fault plan nothing
    /// was recorded and nothing happens.
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
        };
        plan.crash(below.as_ref()).await.map_err(|error| object_error("crash", &StorePath::default(), error))
    }

    /// For DataFusion, parquet and the kernel: reads go through the same fault layer.
    pub fn objects(&self) -> Arc<dyn ObjectStore> {
        Arc::clone(&self.objects)
    }

    /// Root with a trailing slash: `file:///data/lake/`.
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// The path below the root that an absolute URL or path, not URL-encoded, means; `None` for one outside.
    pub(crate) fn below(&self, absolute: &str) -> Option<StorePath> {
        let root = crate::delta::action::decode_path(self.url.path()).ok()?;
        // `file:/x` and `file:///x` are the same.
        let path = match absolute.split_once(':') {
            Some((scheme, rest)) if scheme == self.url.scheme() => rest.strip_prefix("//").unwrap_or(rest),
            _ => absolute,
        };
        StorePath::parse(path.strip_prefix(root.as_str())?).ok()
    }

    /// Creates `path`, synced with its folder before it returns. `Exists` says nothing about whose bytes are there.
    /// Errors: `Store` with kind `Unavailable` when it is unclear whether the put happened.
    pub async fn put_if_absent(&self, path: &StorePath, bytes: Bytes) -> Result<Put, LakeError> {
        let options = PutOptions { mode: PutMode::Create, ..Default::default() };
        match self.objects.put_opts(path, bytes.into(), options).await {
            Ok(_) => Ok(Put::Created),
            Err(object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }) => {
                Ok(Put::Exists)
            }
            Err(error) => Err(object_error("create", path, error)),
        }
    }

    /// Replaces `path` atomically. Only for pointers and projections that can be made again.
    pub async fn put(&self, path: &StorePath, bytes: Bytes) -> Result<(), LakeError> {
        self.objects.put(path, bytes.into()).await.map_err(|error| object_error("write", path, error))?;
        Ok(())
    }

    /// Errors: `NotFound`.
    pub async fn get(&self, path: &StorePath) -> Result<Bytes, LakeError> {
        self.get_tagged(path).await.map(|(bytes, _)| bytes)
    }

    /// With the tag that tells this content of the name from another.
    pub(crate) async fn get_tagged(&self, path: &StorePath) -> Result<(Bytes, Option<String>), LakeError> {
        let got = self.objects.get(path).await.map_err(|error| object_error("read", path, error))?;
        let expected = got.range.end - got.range.start;
        let tag = got.meta.e_tag.clone();
        let bytes = got.bytes().await.map_err(|error| object_error("read", path, error))?;
        if bytes.len() as u64 != expected {
            let cut = io::Error::other(format!("got {} of {expected} bytes", bytes.len()));
            return Err(io_error("read", path, cut));
        }
        Ok((bytes, tag))
    }

    /// `None` when there is nothing under that name.
    pub async fn head(&self, path: &StorePath) -> Result<Option<ObjectMeta>, LakeError> {
        match self.objects.head(path).await {
            Ok(meta) => Ok(Some(meta)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(object_error("read", path, error)),
        }
    }

    /// Everything below `prefix`, sorted by path; with `after`, only what sorts behind it.
    pub async fn list(&self, prefix: &StorePath, after: Option<&StorePath>) -> Result<Vec<ObjectMeta>, LakeError> {
        let listed = match after {
            Some(after) => self.objects.list_with_offset(Some(prefix), after),
            None => self.objects.list(Some(prefix)),
        };
        let mut found: Vec<ObjectMeta> =
            listed.try_collect().await.map_err(|error| object_error("list", prefix, error))?;
        found.sort_unstable_by(|a, b| a.location.cmp(&b.location));
        Ok(found)
    }

    /// Names of the folders directly below `prefix`, sorted.
    pub async fn folders(&self, prefix: &StorePath) -> Result<Vec<String>, LakeError> {
        let listed = match self.objects.list_with_delimiter(Some(prefix)).await {
            Err(object_store::Error::NotFound { .. }) => return Ok(Vec::new()),
            other => other.map_err(|error| object_error("list", prefix, error))?,
        };
        let mut names: Vec<String> =
            listed.common_prefixes.iter().filter_map(|folder| folder.filename().map(str::to_owned)).collect();
        names.sort_unstable();
        Ok(names)
    }

    /// Deletes; a missing file is no error.
    pub async fn delete(&self, path: &StorePath) -> Result<(), LakeError> {
        match self.objects.delete(path).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(object_error("delete", path, error)),
        }
    }

    /// Opens a new file for writing (blocking). Errors: `Store` with kind `AlreadyExists`.
    pub fn create(&self, path: &StorePath) -> Result<FileSink, LakeError> {
        match &self.backend {
            Backend::Local(local) => FileSink::local(&local.disk, path, self.faults.clone()),
            Backend::Memory(memory) => FileSink::memory(memory, path, self.faults.clone()),
        }
    }
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

pub(crate) fn io_error(action: &'static str, path: &StorePath, source: io::Error) -> LakeError {
    if source.kind() == io::ErrorKind::NotFound {
        return LakeError::NotFound { path: path.to_string() };
    }
    LakeError::Store { action, path: path.to_string(), kind: kind_of(&source), source: Box::new(source) }
}

pub(crate) fn object_error(action: &'static str, path: &StorePath, source: object_store::Error) -> LakeError {
    use object_store::Error;
    let kind = match &source {
        Error::NotFound { .. } => return LakeError::NotFound { path: path.to_string() },
        Error::AlreadyExists { .. } => ErrorKind::AlreadyExists,
        Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => ErrorKind::Denied,
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
