//! Draft -> Sealed: the commit point.

use bytes::Bytes;

use lode_core::{Epoch, ErrorKind, Explain, PipelineId, Problem, SnapshotId};
use lode_lake::{DeltaTable, LakeError, Operation, Put, TableChange};

use super::{Draft, Seal, SealContent};
use crate::{Catalog, CatalogError, RelationEntry, layout};

/// An epoch that will happen.
pub(crate) struct Sealed {
    pub(crate) seal: Seal,
}

impl Draft {
    /// Checks what can be checked before the commit point, so that an epoch is seldom refused after it.
    /// Errors: `Conflict` when a table moved under the draft, `Relation` when a new table's folder is taken.
    pub(super) async fn check_bases(&self, content: &SealContent) -> Result<(), CatalogError> {
        for change in &content.tables {
            let table = DeltaTable::new(self.catalog.store(), &change.location);
            if change.base == SnapshotId::NONE {
                if table.newest().await?.is_some() {
                    return Err(CatalogError::Relation {
                        name: change.table.to_string(),
                        reason: format!("cannot be created: there is a table in the folder \"{}\"", change.location),
                        fix: "choose another name, or register the table that is there".into(),
                    });
                }
            } else {
                self.check_base(&table, change).await?;
            }
        }
        Ok(())
    }

    async fn check_base(&self, table: &DeltaTable, change: &TableChange) -> Result<(), CatalogError> {
        let conflict = |reason: &str| CatalogError::Conflict { table: change.table.clone(), reason: reason.to_owned() };
        match self.catalog.db().relation(&change.table).await? {
            Some(RelationEntry::Table(entry)) if entry.location == change.location => {}
            _ => return Err(conflict("was dropped or replaced while it was written")),
        }
        let base = table.snapshot(Some(change.base)).await?;
        base.check_writable(&change.table)?;
        // After the seal it would block the pipeline.
        if change.operation != Operation::Append && base.definition.is_append_only() {
            let feature = "taking rows out of an append-only table".to_owned();
            return Err(LakeError::Unsupported { table: change.table.to_string(), feature }.into());
        }
        if table.commits_after(change.base).await?.is_empty() {
            return Ok(());
        }
        if change.operation == Operation::Rewrite {
            return Err(conflict("changed while it was rewritten"));
        }
        let now = table.snapshot(None).await?;
        if base.definition != now.definition {
            return Err(conflict("got another definition while it was written"));
        }
        // A feature that Lode cannot write may have come since.
        now.check_writable(&change.table)?;
        Ok(())
    }

    /// Puts the seal. Errors: `SealLost`; `Fenced`; `Lake` when the store refused for good and nothing was sealed.
    pub(super) async fn seal(&self, content: SealContent) -> Result<Sealed, CatalogError> {
        let catalog = &self.catalog;
        let seal = Seal {
            format: Seal::FORMAT,
            pipeline: self.pipeline.id,
            epoch: self.epoch,
            fence: catalog.fence(),
            attempt: self.attempt.id,
            sealed_at: catalog.seal_time(),
            lode_version: env!("CARGO_PKG_VERSION").to_owned(),
            content,
        };
        let bytes =
            serde_json::to_vec(&seal).map_err(|error| Problem::internal("a seal did not encode").cause(error))?;
        catalog.check_fence().await?;
        let refused = match put(catalog, &seal, Bytes::from(bytes)).await {
            Ok(Put::Created) => return Ok(Sealed { seal }),
            Ok(Put::Exists) => None,
            Err(error) => Some(error),
        };
        self.read_back(seal, refused).await
    }

    /// Never the next number with this draft: its ranges follow the seal before this number, and no other.
    async fn read_back(&self, seal: Seal, refused: Option<CatalogError>) -> Result<Sealed, CatalogError> {
        match self.catalog.read_seal(seal.pipeline, seal.epoch).await {
            Ok(found) if found.attempt == seal.attempt => return Ok(Sealed { seal: found }),
            Ok(_) => {}
            Err(error) => tracing::debug!(error = %error, "the seal cannot be read back"),
        }
        match refused {
            // A full disk says so itself; where it is unclear, the put may yet arrive, and the draft is over in any case.
            Some(error) if error.kind() != ErrorKind::Unavailable => Err(error),
            _ => Err(CatalogError::SealLost { pipeline: self.pipeline.name.clone(), epoch: self.epoch }),
        }
    }
}

/// Any error, one of a fail point too, counts as a lost reply.
async fn put(catalog: &Catalog, seal: &Seal, bytes: Bytes) -> Result<Put, CatalogError> {
    catalog.arrow("epoch.seal.before").await?;
    let put = catalog.store().put_if_absent(&layout::seal(seal.pipeline, seal.epoch), bytes).await?;
    catalog.arrow("epoch.seal.after").await?;
    Ok(put)
}

impl Catalog {
    /// Errors: `Lake` (`NotFound`), `BadSeal`.
    pub(crate) async fn read_seal(&self, pipeline: PipelineId, epoch: Epoch) -> Result<Seal, CatalogError> {
        read_seal(self.store(), pipeline, epoch).await
    }
}

/// The seal as it stands in the lake.
pub(crate) async fn read_seal(
    store: &lode_lake::Store,
    pipeline: PipelineId,
    epoch: Epoch,
) -> Result<Seal, CatalogError> {
    let path = layout::seal(pipeline, epoch);
    let bytes = store.get(&path).await?;
    let bad = |reason: String| CatalogError::BadSeal { path: path.to_string(), reason };
    #[derive(serde::Deserialize)]
    struct Head {
        format: u32,
    }
    let head: Head = serde_json::from_slice(&bytes).map_err(|error| bad(format!("does not read: {error}")))?;
    if head.format > Seal::FORMAT {
        return Err(bad(format!("has format {}, newer than the {} of this Lode", head.format, Seal::FORMAT)));
    }
    let seal: Seal = serde_json::from_slice(&bytes).map_err(|error| bad(format!("does not read: {error}")))?;
    if (seal.pipeline, seal.epoch) != (pipeline, epoch) {
        return Err(bad(format!("holds epoch {} of pipeline {}", seal.epoch, seal.pipeline)));
    }
    Ok(seal)
}

/// Whether an error after the seal is one that time or a free disk heals; all others block the pipeline.
pub(super) fn may_heal(error: &CatalogError) -> bool {
    match error {
        CatalogError::Lake(LakeError::Store { .. } | LakeError::Fenced | LakeError::Encode { .. }) => true,
        CatalogError::Lake(_) => false,
        other => other.kind() != ErrorKind::Blocked,
    }
}
