//! Blocking writers of one new file.

use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use object_store::memory::InMemory;
use object_store::{ObjectStore, PutMode, PutOptions};

use super::fault::{FaultPlan, Sync};
use super::local::{Disk, Name, Unnamed};
use super::upload::Upload;
use super::{Store, StorePath, io_error, object_error};
use crate::LakeError;

/// A blocking writer of one new file: invisible until `finish` made it durable; dropped before, it leaves
/// nothing. In a bucket it holds at most 5 MiB, besides the parts on their way.
#[derive(Debug)]
pub struct FileSink {
    path: StorePath,
    size_bytes: u64,
    faults: Option<FaultPlan>,
    target: Target,
}

#[derive(Debug)]
enum Target {
    Local { disk: Disk, path: PathBuf, unnamed: Unnamed },
    Memory { objects: Arc<InMemory>, buffer: Vec<u8> },
    Remote(Upload),
}

impl FileSink {
    pub(super) fn local(disk: &Disk, path: &StorePath, faults: Option<FaultPlan>) -> Result<Self, LakeError> {
        let target = disk.path(path);
        Self::check(path, faults.as_ref())?;
        if target.exists() {
            return Err(io_error("create", path, io::ErrorKind::AlreadyExists.into()));
        }
        let unnamed = disk.unnamed().map_err(|error| io_error("create", path, error))?;
        let target = Target::Local { disk: disk.clone(), path: target, unnamed };
        Ok(Self { path: path.clone(), size_bytes: 0, faults, target })
    }

    pub(super) fn memory(
        objects: &Arc<InMemory>,
        path: &StorePath,
        faults: Option<FaultPlan>,
    ) -> Result<Self, LakeError> {
        Self::check(path, faults.as_ref())?;
        let target = Target::Memory { objects: Arc::clone(objects), buffer: Vec::new() };
        Ok(Self { path: path.clone(), size_bytes: 0, faults, target })
    }

    pub(super) fn remote(store: &Store, path: &StorePath, faults: Option<FaultPlan>) -> Result<Self, LakeError> {
        Self::check(path, faults.as_ref())?;
        // From here on its requests meet the faults.
        Ok(Self { path: path.clone(), size_bytes: 0, faults: None, target: Target::Remote(Upload::new(store, path)) })
    }

    fn check(path: &StorePath, faults: Option<&FaultPlan>) -> Result<(), LakeError> {
        let fault =
            faults.and_then(|plan| plan.sink_fault(path.as_ref()).or_else(|| plan.refuse_write(path.as_ref(), 0)));
        fault.map_or(Ok(()), |error| Err(io_error("create", path, error)))
    }

    /// Path of the file to be.
    pub fn path(&self) -> &StorePath {
        &self.path
    }

    /// Bytes written so far.
    pub fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// Gives the file its name, durably. Returns the size in bytes.
    /// Errors: `Store` with kind `AlreadyExists` when another file took the name, `Full`, `Denied`, `Unavailable`.
    pub fn finish(self) -> Result<u64, LakeError> {
        let Self { path, size_bytes, faults, target } = self;
        if let Some(error) = faults.as_ref().and_then(|plan| plan.sink_fault(path.as_ref())) {
            return Err(io_error("finish", &path, error));
        }
        match target {
            Target::Local { disk, path: file, unnamed } => {
                disk.publish(unnamed, &file, Name::New).map_err(|error| io_error("finish", &path, error))?;
            }
            Target::Memory { objects, buffer } => {
                let options = PutOptions { mode: PutMode::Create, ..Default::default() };
                // Memory never waits, so this future is ready at once, on any thread.
                futures::executor::block_on(objects.put_opts(&path, Bytes::from(buffer).into(), options))
                    .map_err(|error| object_error("finish", &path, error))?;
                if let Some(plan) = faults {
                    plan.note(Sync::Synced, std::path::Path::new(path.as_ref()), path.as_ref());
                }
            }
            Target::Remote(upload) => {
                upload.finish()?;
            }
        }
        Ok(size_bytes)
    }
}

impl Write for FileSink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Some(error) =
            self.faults.as_ref().and_then(|plan| plan.refuse_write(self.path.as_ref(), bytes.len() as u64))
        {
            return Err(error);
        }
        let written = match &mut self.target {
            Target::Local { unnamed, .. } => unnamed.file.write(bytes)?,
            Target::Memory { buffer, .. } => buffer.write(bytes)?,
            Target::Remote(upload) => upload.write(bytes)?,
        };
        self.size_bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
