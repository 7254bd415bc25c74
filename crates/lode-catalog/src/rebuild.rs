//! The metadata DB made again from seals and Delta logs. Source: research/epoch.md §1.7.
//!
//! The seals are the ledger: they are replayed from the first one on. Whoever deletes old seals has to fold them into a
//! snapshot of the ledger first.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use serde::Serialize;

use lode_core::{Epoch, Fence, PipelineId, SnapshotId, TableName, task};
use lode_lake::{DeltaTable, LakeError, Store, StorePath};

use crate::db::{self, MetaDb};
use crate::epoch::{Seal, app_id, cut, read_seal};
use crate::layout::{self, PipelineFile};
use crate::owner::{self, Owner};
use crate::{Catalog, CatalogChange, CatalogError, OpenOptions, RelationEntry};

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct RebuildReport {
    pub tables: u64,
    pub views: u64,
    pub pipelines: u64,
    pub files: u64,
    /// Epochs that were sealed but not applied in full, now rolled forward.
    pub rolled_forward: u64,
}

/// Makes a new metadata DB for the lake; an old one is kept beside it as `meta.db.<time>`. Runs and notes are lost.
/// Errors: `Owned` when the lake belongs to the DB of another data folder; `BadSeal` when a seal is missing.
pub async fn rebuild(store: &Store, data_dir: &Path, options: &OpenOptions) -> Result<RebuildReport, CatalogError> {
    if let Some(owner) = owner::read_owner(store).await?
        && !options.adopt
        && !owner::is_ours(store, data_dir, &owner).await?
    {
        return Err(CatalogError::Owned { lake: store.url().to_string(), owner: owner.db });
    }
    build(store, data_dir).await?;
    let again = OpenOptions { adopt: false, clock: options.clock.clone() };
    let catalog = Catalog::open(store.clone(), data_dir, again).await?;
    let relations = catalog.relations().await?;
    let tables = relations.iter().filter(|relation| matches!(relation, RelationEntry::Table(_))).count() as u64;
    let report = RebuildReport {
        tables,
        views: relations.len() as u64 - tables,
        pipelines: catalog.pipelines().await?.len() as u64,
        files: catalog.db().file_count().await?,
        rolled_forward: catalog.rolled_forward(),
    };
    catalog.close().await;
    Ok(report)
}

/// A pipeline of the lake, its seals read one after another.
struct Replay {
    id: PipelineId,
    /// The epoch that counts as published.
    published: Epoch,
    next: Option<Seal>,
}

/// Makes the DB in a file beside, then moves it into place: a crash leaves the old one, or none, never a half one.
pub(crate) async fn build(store: &Store, data_dir: &Path) -> Result<(), CatalogError> {
    let target = data_dir.join(db::FILE_NAME);
    let fresh = data_dir.join(format!("{}.new", db::FILE_NAME));
    remove_db(&fresh).await?;
    let id = owner::new_id();
    let newest = newest_seals(store).await?;
    let mut fence = Fence(0);
    let mut replays = Vec::new();
    for (pipeline, newest) in &newest {
        let (replay, sealed) = start_replay(store, *pipeline, *newest).await?;
        fence = fence.max(sealed);
        replays.push(replay);
    }
    let db = MetaDb::open(&fresh).await?;
    db.migrate(&id, fence).await?;
    add_pipelines(store, &db, &newest).await?;
    let published: HashMap<PipelineId, Epoch> = replays.iter().map(|replay| (replay.id, replay.published)).collect();
    let replayed = replay_seals(store, &db, replays).await?;
    add_unknown_tables(store, &db, &replayed).await?;
    set_versions(store, &db, &replayed, &published).await?;
    db.fold().await?;
    db.close().await;
    keep_old(&target).await?;
    rename(&fresh, &target).await?;
    // Its log, which is empty now, keeps the old name.
    remove_db(&fresh).await?;
    owner::write_owner(store, &Owner::here(id, data_dir).await?).await
}

/// Every pipeline with a descriptor or a seal, and its newest seal (0: none).
async fn newest_seals(store: &Store) -> Result<BTreeMap<PipelineId, Epoch>, CatalogError> {
    let mut newest = BTreeMap::new();
    for meta in store.list(&layout::pipelines(), None).await? {
        if let Some((id, file)) = layout::read_pipeline_file(&meta.location) {
            let epoch = newest.entry(id).or_insert(Epoch::ZERO);
            if let PipelineFile::Seal(found) = file {
                *epoch = (*epoch).max(found);
            }
        }
    }
    Ok(newest)
}

/// Published is the newest seal if all tables that it changed hold it, else the one before. Also gives its fence.
async fn start_replay(store: &Store, id: PipelineId, newest: Epoch) -> Result<(Replay, Fence), CatalogError> {
    if newest == Epoch::ZERO {
        return Ok((Replay { id, published: newest, next: None }, Fence(0)));
    }
    let seal = needed_seal(store, id, newest).await?;
    let mut whole = true;
    for change in &seal.content.tables {
        let table = DeltaTable::new(store, &change.location);
        let held = match table.newest().await? {
            Some(_) => table.snapshot(None).await?.txns.get(&app_id(id)).copied().unwrap_or(0),
            None => 0,
        };
        whole &= held >= newest.0;
    }
    let published = if whole { newest } else { Epoch(newest.0 - 1) };
    let next = match published {
        Epoch::ZERO => None,
        _ => Some(needed_seal(store, id, Epoch(1)).await?),
    };
    Ok((Replay { id, published, next }, seal.fence))
}

async fn needed_seal(store: &Store, id: PipelineId, epoch: Epoch) -> Result<Seal, CatalogError> {
    read_seal(store, id, epoch).await.map_err(|error| match error {
        CatalogError::Lake(LakeError::NotFound { .. }) => {
            CatalogError::BadSeal { path: layout::seal(id, epoch).to_string(), reason: "is missing".into() }
        }
        other => other,
    })
}

/// Of two pipelines of one name, a crash between descriptor and DB made one; it has no seals.
async fn add_pipelines(store: &Store, db: &MetaDb, newest: &BTreeMap<PipelineId, Epoch>) -> Result<(), CatalogError> {
    let mut ids: Vec<_> = newest.iter().collect();
    ids.sort_by_key(|(id, epoch)| (std::cmp::Reverse(**epoch), **id));
    let mut pipelines = Vec::with_capacity(ids.len());
    for (id, _) in ids {
        pipelines.push(owner::read_descriptor(store, *id).await?);
    }
    db.add_pipelines(&pipelines).await
}

/// What the replay saw of tables.
#[derive(Default)]
struct Replayed {
    /// By location: a version that readers see for sure.
    seen: BTreeMap<String, SnapshotId>,
    dropped: BTreeSet<TableName>,
}

/// Writes all published epochs: those of a pipeline by number, those of several by the time of their seals.
async fn replay_seals(store: &Store, db: &MetaDb, mut replays: Vec<Replay>) -> Result<Replayed, CatalogError> {
    let mut replayed = Replayed::default();
    let mut tx = db.write().await?;
    loop {
        let heads = replays.iter_mut().filter(|replay| replay.next.is_some());
        let Some(replay) = heads.min_by_key(|replay| replay.next.as_ref().map(|seal| (seal.sealed_at, seal.fence)))
        else {
            break;
        };
        let Some(seal) = replay.next.take() else { break };
        if seal.epoch < replay.published {
            replay.next = Some(needed_seal(store, replay.id, seal.epoch.next()).await?);
        }
        for change in &seal.content.tables {
            let seen = replayed.seen.entry(change.location.clone()).or_insert(change.base);
            *seen = (*seen).max(change.base);
            replayed.dropped.remove(&change.table);
        }
        for change in &seal.content.catalog {
            match change {
                CatalogChange::Drop { name } => {
                    replayed.dropped.insert(name.clone());
                }
                CatalogChange::PutTable { name, location, version, .. } => {
                    replayed.seen.insert(location.clone(), *version);
                    replayed.dropped.remove(name);
                }
                CatalogChange::PutView { .. } => {}
            }
        }
        db.write_epoch(&mut tx, &seal, &BTreeMap::new()).await?;
    }
    tx.commit().await?;
    Ok(replayed)
}

/// Tables in `<lake>/<schema>/<table>` that no seal names come back as tables of others, under the name of their folder.
async fn add_unknown_tables(store: &Store, db: &MetaDb, replayed: &Replayed) -> Result<(), CatalogError> {
    for schema in store.folders(&StorePath::default()).await? {
        if schema.starts_with(['_', '.']) {
            continue;
        }
        for folder in store.folders(&StorePath::from(schema.as_str())).await? {
            let location = format!("{schema}/{folder}");
            let Ok(name) = location.replace('/', ".").parse::<TableName>() else { continue };
            if replayed.seen.contains_key(&location) || replayed.dropped.contains(&name) {
                continue;
            }
            let table = DeltaTable::new(store, &location);
            if db.relation(&name).await?.is_some() || table.newest().await?.is_none() {
                continue;
            }
            match table.snapshot(None).await {
                Ok(snapshot) if !is_ours(db, &snapshot.txns).await? => {
                    db.add_table(&name, snapshot.definition.id, &location, snapshot.version).await?;
                }
                Ok(_) => {}
                Err(error) => tracing::warn!(location = %location, error = %error, "a table cannot be read"),
            }
        }
    }
    Ok(())
}

/// A table that one of our pipelines wrote, and no published seal names, belongs to an epoch that is not published.
async fn is_ours(db: &MetaDb, txns: &HashMap<String, i64>) -> Result<bool, CatalogError> {
    let known = db.published_epochs().await?;
    Ok(txns.keys().any(|app| app.parse().is_ok_and(|id: PipelineId| known.contains_key(&id))))
}

/// Published versions by the rule that holds at all times.
async fn set_versions(
    store: &Store,
    db: &MetaDb,
    replayed: &Replayed,
    published: &HashMap<PipelineId, Epoch>,
) -> Result<(), CatalogError> {
    let mut versions = Vec::new();
    for relation in db.relations().await? {
        let RelationEntry::Table(table) = relation else { continue };
        let from = replayed.seen.get(&table.location).copied().unwrap_or(table.published);
        match DeltaTable::new(store, &table.location).commits_after(from).await {
            Ok(commits) => versions.push((table.location, cut(&commits, from, published))),
            // One damaged table must not keep the others away.
            Err(error) => tracing::warn!(table = %table.name, error = %error, "a table cannot be read"),
        }
    }
    db.raise_published(&versions).await
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

async fn rename(from: &Path, to: &Path) -> Result<(), CatalogError> {
    let (source, target) = (from.to_owned(), to.to_owned());
    // The new name has to be on disk before the lake names the new DB as its owner.
    let work = move || {
        std::fs::rename(source, &target)?;
        target.parent().map_or(Ok(()), |folder| std::fs::File::open(folder)?.sync_all())
    };
    task::blocking("move the metadata DB", work).await?.map_err(|error| owner::folder_error("move", from, error))
}

async fn remove_db(path: &Path) -> Result<(), CatalogError> {
    let files = ["", "-wal", "-shm"].map(|suffix| with_suffix(path, suffix));
    task::blocking("delete a half metadata DB", move || {
        files.iter().try_for_each(|file| match std::fs::remove_file(file) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        })
    })
    .await?
    .map_err(|error| owner::folder_error("delete", path, error))
}

/// Moves the old DB, its write-ahead log too, to `meta.db.<time>`.
async fn keep_old(path: &Path) -> Result<(), CatalogError> {
    let kept = with_suffix(path, &format!(".{}", chrono::Utc::now().format("%Y%m%dT%H%M%S%6fZ")));
    let pairs = ["-wal", "-shm", ""].map(|suffix| (with_suffix(path, suffix), with_suffix(&kept, suffix)));
    task::blocking("keep the old metadata DB", move || {
        pairs.iter().try_for_each(|(from, to)| match std::fs::rename(from, to) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        })
    })
    .await?
    .map_err(|error| owner::folder_error("move", path, error))
}
