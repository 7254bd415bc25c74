//! The only way to bytes: put-if-absent, durable before it returns, with a fault layer for tests.

use std::sync::Arc;

use bytes::Bytes;
use object_store::ObjectStore;
use url::Url;

use crate::LakeError;

/// A path below the store's root, `/`-separated.
pub type StorePath = object_store::path::Path;

pub use object_store::ObjectMeta;

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
    url: Url,
}

/// Faults that the layer under a store injects; see `store/fault.rs`.
#[derive(Debug, Default, Clone)]
pub struct FaultPlan {}

/// A blocking writer of one new file; nothing is visible under the name's promise before `finish` synced it.
pub struct FileSink {}

impl Store {
    /// A local folder; made if it is missing.
    pub fn local(root: &std::path::Path) -> Result<Self, LakeError> {
        let _ = root;
        unimplemented!()
    }

    /// Lives in memory; for tests.
    pub fn memory() -> Self {
        unimplemented!()
    }

    /// This store with faults injected below it.
    pub fn with_faults(self, plan: FaultPlan) -> Self {
        let _ = plan;
        self
    }

    /// For DataFusion, parquet and the kernel: reads go through the same fault layer.
    pub fn objects(&self) -> Arc<dyn ObjectStore> {
        Arc::clone(&self.objects)
    }

    /// Root with a trailing slash: `file:///data/lake/`.
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// Creates `path`, synced with its folder before it returns. `Exists` says nothing about whose bytes are there.
    /// Errors: `Store` with kind `Unavailable` when it is unclear whether the put happened.
    pub async fn put_if_absent(&self, path: &StorePath, bytes: Bytes) -> Result<Put, LakeError> {
        let _ = (path, bytes);
        unimplemented!()
    }

    /// Replaces `path` atomically. Only for pointers and projections that can be made again.
    pub async fn put(&self, path: &StorePath, bytes: Bytes) -> Result<(), LakeError> {
        let _ = (path, bytes);
        unimplemented!()
    }

    /// Errors: `NotFound`.
    pub async fn get(&self, path: &StorePath) -> Result<Bytes, LakeError> {
        let _ = path;
        unimplemented!()
    }

    pub async fn head(&self, path: &StorePath) -> Result<Option<ObjectMeta>, LakeError> {
        let _ = path;
        unimplemented!()
    }

    /// Everything below `prefix`, sorted by path; with `after`, only what sorts behind it.
    pub async fn list(&self, prefix: &StorePath, after: Option<&StorePath>) -> Result<Vec<ObjectMeta>, LakeError> {
        let _ = (prefix, after);
        unimplemented!()
    }

    /// Names of the folders directly below `prefix`, sorted.
    pub async fn folders(&self, prefix: &StorePath) -> Result<Vec<String>, LakeError> {
        let _ = prefix;
        unimplemented!()
    }

    /// Deletes; a missing file is no error.
    pub async fn delete(&self, path: &StorePath) -> Result<(), LakeError> {
        let _ = path;
        unimplemented!()
    }

    /// Opens a new file for writing (blocking). Errors: `Store` with kind `AlreadyExists`.
    pub fn create(&self, path: &StorePath) -> Result<FileSink, LakeError> {
        let _ = path;
        unimplemented!()
    }
}
