//! Files on their way into a bucket: small ones in one put, larger ones in parts, in bounded memory.

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::sync::mpsc;
use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use lode_core::{ErrorKind, Explain};
use object_store::{MultipartUpload, ObjectStore, PutPayload};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use super::{Put, Store, StorePath, object_error, remote};
use crate::LakeError;

/// Smallest part that S3 takes; as it takes 10,000, a file ends at 48 GiB. An open file holds at most one part besides
/// those on their way.
pub(super) const PART_BYTES: usize = 5 << 20;
/// Parts on their way, of all files together: at most 40 MiB.
const PARTS_MAX: usize = 8;

static PARTS: LazyLock<Arc<Semaphore>> = LazyLock::new(|| Arc::new(Semaphore::new(PARTS_MAX)));

/// Runs on the I/O runtime; blocks this thread until it is done, whatever runtime it belongs to.
fn wait<T: Send + 'static>(future: impl Future<Output = T> + Send + 'static) -> Result<T, LakeError> {
    let (done, wait) = mpsc::sync_channel(1);
    remote::io_runtime()?.spawn(async move {
        let _ = done.send(future.await);
    });
    wait.recv().map_err(|stopped| LakeError::Store {
        action: "finish",
        path: "a request".into(),
        kind: ErrorKind::Internal,
        source: Box::new(stopped),
    })
}

/// A file that has no name yet. Dropped before `finish`, its parts are thrown away, as far as the store can be reached.
pub(super) struct Upload {
    store: Store,
    path: StorePath,
    buffer: Vec<u8>,
    size_bytes: u64,
    parts: Option<Box<dyn MultipartUpload>>,
    on_their_way: VecDeque<JoinHandle<object_store::Result<()>>>,
}

impl std::fmt::Debug for Upload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Upload").field("path", &self.path).field("size_bytes", &self.size_bytes).finish_non_exhaustive()
    }
}

impl Upload {
    pub(super) fn new(store: &Store, path: &StorePath) -> Self {
        Self {
            store: store.clone(),
            path: path.clone(),
            buffer: Vec::new(),
            size_bytes: 0,
            parts: None,
            on_their_way: VecDeque::new(),
        }
    }

    /// Takes some of `bytes`; waits while too many parts are on their way.
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(PART_BYTES - self.buffer.len());
        if self.parts.is_some() || self.buffer.len() + taken > PART_BYTES / 2 {
            // Doubled instead, it would hold 8 MiB.
            self.buffer.reserve_exact(PART_BYTES - self.buffer.len());
        }
        self.buffer.extend_from_slice(bytes.get(..taken).unwrap_or_default());
        self.size_bytes += taken as u64;
        if self.buffer.len() == PART_BYTES {
            self.send().map_err(|error| io::Error::new(io_kind(error.kind()), error))?;
        }
        Ok(taken)
    }

    fn error(&self, error: object_store::Error) -> LakeError {
        object_error("write", &self.store.shown(&self.path), error)
    }

    fn send(&mut self) -> Result<(), LakeError> {
        let payload = PutPayload::from(std::mem::take(&mut self.buffer));
        let parts = match &mut self.parts {
            Some(parts) => parts,
            none => {
                let (objects, path) = (self.store.objects(), self.path.clone());
                let begun = wait(async move { objects.put_multipart_opts(&path, Default::default()).await })?;
                let begun = begun.map_err(|error| object_error("write", &self.store.shown(&self.path), error))?;
                none.insert(begun)
            }
        };
        let part = parts.put_part(payload);
        let permit = wait(Arc::clone(&PARTS).acquire_owned())?;
        self.on_their_way.push_back(remote::io_runtime()?.spawn(async move {
            let _permit = permit;
            part.await
        }));
        // A failure is met early, not after the last byte.
        while self.on_their_way.front().is_some_and(JoinHandle::is_finished) {
            self.arrived()?;
        }
        Ok(())
    }

    /// Waits for the oldest part.
    fn arrived(&mut self) -> Result<(), LakeError> {
        let Some(part) = self.on_their_way.pop_front() else { return Ok(()) };
        match wait(part)? {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(self.error(error)),
            Err(stopped) => Err(self.error(object_store::Error::JoinError { source: stopped })),
        }
    }

    /// Gives the file its name, if that is free. Errors: `Store` with kind `AlreadyExists` when another file has it.
    pub(super) fn finish(mut self) -> Result<u64, LakeError> {
        if self.parts.is_none() {
            let (store, path) = (self.store.clone(), self.path.clone());
            let bytes = Bytes::from(std::mem::take(&mut self.buffer));
            wait(async move { put_new(&store, &path, bytes).await })??;
            return Ok(self.size_bytes);
        }
        if !self.buffer.is_empty() {
            self.send()?;
        }
        while !self.on_their_way.is_empty() {
            self.arrived()?;
        }
        let Some(mut parts) = self.parts.take() else { return Ok(self.size_bytes) };
        let (store, path, size_bytes) = (self.store.clone(), self.path.clone(), self.size_bytes);
        wait(async move {
            let done = complete(&store, &path, size_bytes, parts.as_mut()).await;
            if done.is_err() {
                // Parts without a file cost money until a rule of the bucket removes them.
                let _ = parts.abort().await;
            }
            done
        })??;
        Ok(size_bytes)
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        let (Some(mut parts), Ok(runtime)) = (self.parts.take(), remote::io_runtime()) else { return };
        let on_their_way = std::mem::take(&mut self.on_their_way);
        // Not joined: nobody waits for a file that was given up.
        drop(runtime.spawn(async move {
            for part in on_their_way {
                let _ = part.await;
            }
            let _ = parts.abort().await;
        }));
    }
}

/// The writer of a file reads the kind of a failure back out of the I/O error.
fn io_kind(kind: ErrorKind) -> io::ErrorKind {
    match kind {
        ErrorKind::Full => io::ErrorKind::StorageFull,
        ErrorKind::Denied => io::ErrorKind::PermissionDenied,
        _ => io::ErrorKind::Other,
    }
}

/// One put of a name that one writer has: what stands there with the same bytes is its own, after a lost answer.
async fn put_new(store: &Store, path: &StorePath, bytes: Bytes) -> Result<(), LakeError> {
    let put = match store.put_if_absent(path, bytes.clone()).await {
        Ok(Put::Created) => return Ok(()),
        other => other,
    };
    match (store.get(path).await, put) {
        (Ok(there), _) if there == bytes => Ok(()),
        (_, Err(error)) => Err(error),
        (_, Ok(_)) => Err(taken(store, path)),
    }
}

fn taken(store: &Store, path: &StorePath) -> LakeError {
    super::io_error("create", &store.shown(path), io::ErrorKind::AlreadyExists.into())
}

/// The condition of a put is not to be had here, but nobody else writes under this name: looking first is enough.
async fn complete(
    store: &Store,
    path: &StorePath,
    size_bytes: u64,
    parts: &mut dyn MultipartUpload,
) -> Result<(), LakeError> {
    if store.head(path).await?.is_some() {
        return Err(taken(store, path));
    }
    let Err(error) = parts.complete().await else { return Ok(()) };
    // The answer may have got lost: then the file is there, and whole.
    match store.head(path).await {
        Ok(Some(there)) if there.size == size_bytes => Ok(()),
        _ => Err(object_error("finish", &store.shown(path), error)),
    }
}

/// Replaces a file whose size is beyond one request.
pub(super) async fn replace(objects: &dyn ObjectStore, path: &StorePath, bytes: Bytes) -> object_store::Result<()> {
    let mut parts = objects.put_multipart_opts(path, Default::default()).await?;
    let mut rest = bytes;
    let sent = async {
        while !rest.is_empty() {
            let part = rest.split_to(PART_BYTES.min(rest.len()));
            parts.put_part(part.into()).await?;
        }
        parts.complete().await
    };
    match sent.await {
        Ok(_) => Ok(()),
        Err(error) => {
            let _ = parts.abort().await;
            Err(error)
        }
    }
}
