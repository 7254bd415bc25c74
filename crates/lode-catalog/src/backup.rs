//! Copies of the metadata DB in the lake, made while the process runs.

use std::time::Duration;

use lode_core::Explain;
use tokio_util::sync::CancellationToken;

use crate::Catalog;

/// Copies the metadata DB to `<lake>/_lode/meta/` every `every` until `stop`, when anything was written since the copy before.
/// A copy that fails is told as a warning and tried again at its next time: it is no reason to stop working.
pub async fn keep_copies(catalog: &Catalog, every: Duration, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(every) => {}
        }
        copy_meta(catalog).await;
    }
}

/// One copy, if anything was written since the one before; a failure is a warning.
pub async fn copy_meta(catalog: &Catalog) {
    match catalog.backup_meta_if_changed().await {
        Ok(None) => {}
        Ok(Some(path)) => tracing::debug!(%path, "metadata DB copied"),
        Err(error) => {
            let fix = error.remedy().unwrap_or_default();
            tracing::warn!(%error, %fix, "the metadata DB was not copied into the lake");
        }
    }
}
