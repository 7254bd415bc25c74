//! Delta tables as Iceberg tables: metadata that is derived from the Delta log, over the same data files.
//!
//! The Delta log is the truth. Whatever is wrong in the `metadata` folder is made again from it.
//! Source: Iceberg table specification, version 2.

mod avro;
mod deletes;
mod derive;
mod diff;
mod folder;
mod manifest;
mod manifest_list;
mod metadata;
mod metrics;
mod schema;
mod tree;

use std::sync::Arc;

use lode_core::SnapshotId;
use uuid::Uuid;

use self::derive::Derivation;
use self::folder::{Folder, Previous, metadata_name};
use crate::{DeltaTable, LakeError, Snapshot, Store, StorePath};

/// A table as Iceberg readers find it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exposed {
    /// The version of the Delta log that is shown.
    pub version: SnapshotId,
    /// Of the Iceberg snapshot: `version` + 1, as Iceberg counts from 1.
    pub snapshot_id: i64,
    /// Another one after metadata was lost and made again.
    pub table_uuid: Uuid,
    /// The metadata file, relative to the store.
    pub metadata: StorePath,
    /// The metadata file as Iceberg catalogs name it: absolute and not URL-encoded.
    pub metadata_location: String,
    pub outcome: Exposure,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exposure {
    /// Iceberg showed this version, or a newer one, before.
    AlreadyThere,
    /// A snapshot was added.
    Added,
    /// There was no metadata, or none that could be built upon: the table has one snapshot.
    Rebuilt,
}

/// Makes the table in the folder `location` readable as Iceberg, version 2, at `version` or its newest one: one snapshot,
/// however many versions lie in between. A version that is exposed costs a few looks at the store.
///
/// Lost or damaged metadata is made again, with a new table uuid. The metadata keeps the 100 newest snapshots; files that
/// only older ones need are deleted, data files never. One call at a time for a table; a second one does no damage, but
/// may leave files behind that nothing needs.
///
/// Errors: as `DeltaTable::snapshot`; `Schema` and `Unsupported` for what Iceberg cannot express, `Corrupt` for a partition
/// value, a deletion vector or a data file without statistics, `Store`.
/// Source: Iceberg spec, "Table Metadata", "Snapshots", "File System Tables".
pub async fn expose(store: &Store, location: &str, version: Option<SnapshotId>) -> Result<Exposed, LakeError> {
    let location = location.trim_matches('/');
    let table = DeltaTable::new(store, location);
    let wanted = table.snapshot(version).await?;
    let folder = Folder::list(store, location).await?;
    let previous = match folder.previous(&wanted.definition.id.to_string()).await {
        Ok(previous) => previous,
        Err(error @ LakeError::Corrupt { .. }) => {
            warn_damaged(location, &error);
            None
        }
        Err(error) => return Err(error),
    };
    if let Some(previous) = &previous
        && previous.delta_version >= wanted.version.0
        && is_still_true(&table, previous, &wanted).await?
    {
        if folder.hint().await? != Some(previous.delta_version + 1) {
            folder.put_hint(previous.delta_version + 1).await?;
        }
        return exposed(&folder, &previous.metadata, Exposure::AlreadyThere);
    }
    let previous = previous.filter(|previous| previous.delta_version < wanted.version.0);
    let before = match &previous {
        Some(previous) => state_before(&table, previous).await?,
        None => None,
    };
    let has_previous = previous.is_some();
    let derivation = Derivation { store, table: &table, folder: &folder, wanted: &wanted };
    match Box::pin(derivation.run(previous, before)).await {
        // A damaged vector or data file is not made better by other metadata.
        Err(error) if has_previous && folder.is_damaged(&error) => {
            warn_damaged(location, &error);
            Box::pin(derivation.run(None, None)).await
        }
        other => other,
    }
}

fn warn_damaged(location: &str, error: &LakeError) {
    tracing::warn!(table = location, %error, "Iceberg metadata cannot be built upon, making it again");
}

fn exposed(folder: &Folder, metadata: &metadata::TableMetadata, outcome: Exposure) -> Result<Exposed, LakeError> {
    let name = metadata_name(metadata.current_snapshot_id);
    Ok(Exposed {
        version: SnapshotId(metadata.current_snapshot_id - 1),
        snapshot_id: metadata.current_snapshot_id,
        table_uuid: metadata.table_uuid,
        metadata: folder.path(&name)?,
        metadata_location: folder.absolute(&name),
        outcome,
    })
}

/// Whether metadata that shows `wanted` or a newer version still goes with the log, which may have been restored.
async fn is_still_true(table: &DeltaTable, previous: &Previous, wanted: &Snapshot) -> Result<bool, LakeError> {
    if previous.delta_version == wanted.version.0 {
        return Ok(previous.shows(wanted));
    }
    match table.snapshot(Some(SnapshotId(previous.delta_version))).await {
        Ok(newer) => Ok(previous.shows(&newer)),
        Err(LakeError::NoSnapshot { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

/// The state that the metadata shows. `None` when the log has lost it, or has another one at this version.
async fn state_before(table: &DeltaTable, previous: &Previous) -> Result<Option<Arc<Snapshot>>, LakeError> {
    match table.snapshot(Some(SnapshotId(previous.delta_version))).await {
        Ok(before) => Ok(Some(before).filter(|before| previous.shows(before))),
        Err(LakeError::NoSnapshot { .. } | LakeError::Cleaned { .. } | LakeError::Corrupt { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}
