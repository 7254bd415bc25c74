//! The metadata DB made again from seals and Delta logs. Source: research/epoch.md §1.7.

use std::path::Path;

use serde::Serialize;

use lode_lake::Store;

use crate::{CatalogError, OpenOptions};

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct RebuildReport {
    pub tables: u64,
    pub views: u64,
    pub pipelines: u64,
    pub files: u64,
    /// Epochs that were sealed but not applied in full, now rolled forward.
    pub rolled_forward: u64,
}

/// Makes a new metadata DB for the lake; an old one is kept beside it as `meta.db.<time>`.
pub async fn rebuild(store: &Store, data_dir: &Path, options: &OpenOptions) -> Result<RebuildReport, CatalogError> {
    let _ = (store, data_dir, options);
    unimplemented!()
}
