//! Sealed -> Applied: one Delta commit for each changed table, in the order of their locations.

use std::time::Duration;

use lode_core::{ErrorKind, Explain, PipelineId};
use lode_lake::{Applied as Outcome, LakeError, TableChange, Txn, apply};

use super::Seal;
use super::seal::Sealed;
use crate::{Catalog, CatalogError};

/// An epoch whose commits all stand in the logs of its tables.
pub(crate) struct Applied {
    pub(crate) seal: Seal,
}

/// Pauses before the store is asked again.
const PAUSES: [Duration; 2] = [Duration::from_millis(20), Duration::from_millis(200)];

/// The application id of a pipeline's commits.
pub(crate) fn app_id(pipeline: PipelineId) -> String {
    pipeline.to_string()
}

impl Sealed {
    /// Errors: `Lake` with kind `Blocked` and the like when a table refuses for good; `Fenced`; `Lake` (`Store`).
    pub(super) async fn apply(self, catalog: &Catalog) -> Result<Applied, CatalogError> {
        let seal = self.seal;
        let txn = Txn { app_id: app_id(seal.pipeline), version: seal.epoch.0 };
        let mut changes: Vec<&TableChange> = seal.content.tables.iter().collect();
        changes.sort_by(|a, b| a.location.cmp(&b.location));
        for change in changes {
            let outcome = apply_one(catalog, change, &txn).await?;
            let (Outcome::Committed(version) | Outcome::AlreadyThere(version)) = outcome;
            tracing::debug!(table = %change.table, version = version.0, epoch = seal.epoch.0, "epoch applied to table");
        }
        Ok(Applied { seal })
    }
}

async fn apply_one(catalog: &Catalog, change: &TableChange, txn: &Txn) -> Result<Outcome, CatalogError> {
    let mut pauses = PAUSES.iter();
    loop {
        catalog.check_fence().await?;
        let guard = || if catalog.is_fenced() { Err(LakeError::Fenced) } else { Ok(()) };
        catalog.arrow("epoch.apply.before").await?;
        let outcome = apply(catalog.store(), change, txn, &guard).await;
        match outcome {
            Ok(outcome) => {
                catalog.arrow("epoch.apply.after").await?;
                return Ok(outcome);
            }
            Err(error @ LakeError::Store { .. }) if error.kind() == ErrorKind::Unavailable => match pauses.next() {
                Some(pause) => tokio::time::sleep(*pause).await,
                None => return Err(error.into()),
            },
            Err(LakeError::Fenced) => return Err(CatalogError::Fenced),
            Err(error) => return Err(error.into()),
        }
    }
}
