//! One process holds a data folder at a time.

use std::path::Path;

use crate::CatalogError;

/// Held while this process may write; let go by the kernel if the process dies.
#[derive(Debug)]
pub struct DataLock {}

impl DataLock {
    /// Takes `<data>/run/lock` without waiting. Errors: `Locked` with the holder's process id.
    pub fn acquire(data_dir: &Path) -> Result<Self, CatalogError> {
        let _ = data_dir;
        unimplemented!()
    }
}
