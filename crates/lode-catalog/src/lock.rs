//! One process holds a data folder at a time.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;

use lode_core::ErrorKind;

use crate::CatalogError;

/// Held while this process may write; let go by the kernel if the process dies.
#[derive(Debug)]
pub struct DataLock {
    _file: File,
}

impl DataLock {
    /// Takes `<data>/run/lock` without waiting. Errors: `Locked` with the holder's process id.
    pub fn acquire(data_dir: &Path) -> Result<Self, CatalogError> {
        let run = data_dir.join("run");
        let path = run.join("lock");
        let failed = |source: std::io::Error| CatalogError::Folder {
            action: "lock",
            path: path.display().to_string(),
            kind: kind_of(&source),
            source,
        };
        std::fs::create_dir_all(&run).map_err(failed)?;
        let mut file =
            File::options().read(true).write(true).create(true).truncate(false).open(&path).map_err(failed)?;
        match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let mut text = String::new();
                file.read_to_string(&mut text).map_err(failed)?;
                // The holder may not have written its id yet: 0 stands for "not known".
                let pid = text.trim().parse().unwrap_or(0);
                return Err(CatalogError::Locked { path: data_dir.display().to_string(), pid });
            }
            Err(errno) => return Err(failed(errno.into())),
        }
        file.set_len(0).map_err(failed)?;
        file.seek(SeekFrom::Start(0)).map_err(failed)?;
        writeln!(file, "{}", std::process::id()).map_err(failed)?;
        Ok(Self { _file: file })
    }
}

/// Kind of a failed file operation in the data folder.
pub(crate) fn kind_of(error: &std::io::Error) -> ErrorKind {
    match error.kind() {
        std::io::ErrorKind::PermissionDenied | std::io::ErrorKind::ReadOnlyFilesystem => ErrorKind::Denied,
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => ErrorKind::Full,
        std::io::ErrorKind::NotFound => ErrorKind::NotFound,
        _ => ErrorKind::Unavailable,
    }
}
