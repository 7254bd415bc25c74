//! Which metadata DB owns a lake, the descriptors of its pipelines, and copies of the DB.

use std::path::Path;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use lode_core::{ErrorKind, Fence, PipelineId, Problem, task};
use lode_lake::{LakeError, Put, Store, StorePath};

use crate::db::{self, MetaDb};
use crate::layout::{self, PipelineFile};
use crate::lock::kind_of;
use crate::{Catalog, CatalogError, OpenOptions, Pipeline, rebuild};

/// Copies of the metadata DB that stay.
const BACKUPS_MAX: usize = 3;

/// `<lake>/_lode/owner.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Owner {
    pub(crate) db: String,
    /// Where that DB was, for people and for the rebuild after its loss.
    pub(crate) data_dir: String,
    /// Id of that data folder: two machines may have folders of one name, and share a bucket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) installation: Option<String>,
}

impl Owner {
    /// The DB `db` in this data folder.
    pub(crate) async fn here(db: String, data_dir: &Path) -> Result<Self, CatalogError> {
        Ok(Self { db, data_dir: absolute(data_dir), installation: Some(installation(data_dir).await?) })
    }
}

/// `<data>/installation`: made once, not a part of the DB, so that it outlives a loss of it.
async fn installation(data_dir: &Path) -> Result<String, CatalogError> {
    let path = data_dir.join("installation");
    let file = path.clone();
    let read = move || match std::fs::read_to_string(&file) {
        Ok(id) if !id.trim().is_empty() => Ok(id.trim().to_owned()),
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        // Missing, or cut off while it was written.
        _ => {
            let id = new_id();
            std::fs::write(&file, &id)?;
            std::fs::File::open(&file)?.sync_all()?;
            Ok(id)
        }
    };
    task::blocking("read the id of the data folder", read).await?.map_err(|error| folder_error("read", &path, error))
}

/// Opens the DB that owns the lake; makes both if the lake is new.
pub(crate) async fn open_db(store: &Store, data_dir: &Path, options: &OpenOptions) -> Result<MetaDb, CatalogError> {
    make_folder(data_dir).await?;
    let path = data_dir.join(db::FILE_NAME);
    let owner = read_owner(store).await?;
    let mut opened = match exists(&path).await? {
        true => Some(MetaDb::open(&path).await?),
        false => None,
    };
    // An empty file counts as a DB that is missing.
    if let Some(db) = &opened
        && db.schema_version().await? == 0
        && owner.is_some()
    {
        db.close().await;
        opened = None;
    }
    if opened.is_none()
        && let Some(owner) = &owner
    {
        replace_lost(store, data_dir, &path, owner, options).await?;
        let db = MetaDb::open(&path).await?;
        db.migrate("", Fence(0)).await?;
        return Ok(db);
    }
    let db = match opened {
        Some(db) => db,
        None => MetaDb::open(&path).await?,
    };
    db.migrate(&new_id(), Fence(0)).await?;
    claim(store, &db, data_dir, options.adopt).await?;
    Ok(db)
}

/// The lake has an owner, and there is no DB here.
async fn replace_lost(
    store: &Store,
    data_dir: &Path,
    path: &Path,
    owner: &Owner,
    options: &OpenOptions,
) -> Result<(), CatalogError> {
    if !options.adopt {
        if has_seals(store).await? {
            return Err(CatalogError::Lost { path: path.display().to_string() });
        }
        if !is_ours(store, data_dir, owner).await? {
            return Err(owned(store, owner));
        }
    }
    rebuild::build(store, data_dir).await?;
    Ok(())
}

/// Writes this DB's name into a lake without owner. Errors: `Owned`, `Replaced`.
async fn claim(store: &Store, db: &MetaDb, data_dir: &Path, adopt: bool) -> Result<(), CatalogError> {
    let mine = Owner::here(db.db_id().await?, data_dir).await?;
    for _ in 0..2 {
        match read_owner(store).await? {
            Some(owner) if owner.db == mine.db => return Ok(()),
            Some(owner) if !adopt && is_ours(store, data_dir, &owner).await? => {
                return Err(CatalogError::Replaced { path: db.path().display().to_string() });
            }
            Some(owner) if !adopt => return Err(owned(store, &owner)),
            Some(_) => return write_owner(store, &mine).await,
            None => {
                if store.put_if_absent(&layout::owner(), json(&mine)?).await? == Put::Created {
                    return Ok(());
                }
            }
        }
    }
    Err(Problem::new(ErrorKind::Conflict, "another process is taking this lake right now")
        .fix("run the command again")
        .into())
}

fn owned(store: &Store, owner: &Owner) -> CatalogError {
    CatalogError::Owned { lake: store.url().to_string(), owner: format!("{} in \"{}\"", owner.db, owner.data_dir) }
}

/// Whether a DB made in `data_dir` may take the place of the owner's without being told to.
pub(crate) async fn is_ours(store: &Store, data_dir: &Path, owner: &Owner) -> Result<bool, CatalogError> {
    let here = absolute(data_dir);
    let folder = store.url().to_file_path().ok();
    // A lake inside the data folder has no other owner, wherever that folder was moved to.
    if folder.as_ref().is_some_and(|lake| absolute_path(lake).starts_with(Path::new(&here))) {
        return Ok(true);
    }
    // A path means one folder on one machine only.
    let is_here = match folder {
        Some(_) => owner.data_dir == here,
        None => owner.installation.as_ref() == Some(&installation(data_dir).await?),
    };
    Ok(is_here)
}

pub(crate) async fn read_owner(store: &Store) -> Result<Option<Owner>, CatalogError> {
    let path = layout::owner();
    match store.get(&path).await {
        Ok(bytes) => serde_json::from_slice(&bytes)
            .map(Some)
            .map_err(|error| LakeError::Corrupt { path: path.to_string(), reason: error.to_string() }.into()),
        Err(LakeError::NotFound { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

pub(crate) async fn write_owner(store: &Store, owner: &Owner) -> Result<(), CatalogError> {
    Ok(store.put(&layout::owner(), json(owner)?).await?)
}

pub(crate) async fn has_seals(store: &Store) -> Result<bool, CatalogError> {
    let files = store.list(&layout::pipelines(), None).await?;
    Ok(files.iter().any(|meta| matches!(layout::read_pipeline_file(&meta.location), Some((_, PipelineFile::Seal(_))))))
}

pub(crate) fn new_id() -> String {
    uuid::Uuid::new_v4().to_string()
}

fn json(value: &impl Serialize) -> Result<Bytes, CatalogError> {
    let text = serde_json::to_vec(value).map_err(|error| Problem::internal("JSON did not encode").cause(error))?;
    Ok(text.into())
}

fn absolute_path(path: &Path) -> std::path::PathBuf {
    path.canonicalize().or_else(|_| std::path::absolute(path)).unwrap_or_else(|_| path.to_owned())
}

pub(crate) fn absolute(path: &Path) -> String {
    absolute_path(path).display().to_string()
}

pub(crate) fn folder_error(action: &'static str, path: &Path, source: std::io::Error) -> CatalogError {
    CatalogError::Folder { action, path: path.display().to_string(), kind: kind_of(&source), source }
}

async fn make_folder(path: &Path) -> Result<(), CatalogError> {
    let folder = path.to_owned();
    task::blocking("make the data folder", move || std::fs::create_dir_all(&folder))
        .await?
        .map_err(|error| folder_error("make", path, error))
}

async fn exists(path: &Path) -> Result<bool, CatalogError> {
    let file = path.to_owned();
    task::blocking("look for the metadata DB", move || file.try_exists())
        .await?
        .map_err(|error| folder_error("read", path, error))
}

impl Catalog {
    pub(crate) async fn write_descriptor(&self, pipeline: &Pipeline) -> Result<(), CatalogError> {
        // The id is fresh, so an existing file is our own, after a lost reply.
        self.store().put_if_absent(&layout::descriptor(pipeline.id), json(pipeline)?).await?;
        Ok(())
    }

    pub(crate) async fn write_new_name(&self, pipeline: &Pipeline) -> Result<(), CatalogError> {
        for number in 1..=9_999 {
            let path = layout::renamed(pipeline.id, number);
            if self.store().put_if_absent(&path, json(pipeline)?).await? == Put::Created {
                return Ok(());
            }
        }
        Err(Problem::internal("a pipeline was renamed too often").into())
    }

    pub(crate) async fn read_descriptor(&self, id: PipelineId) -> Result<Pipeline, CatalogError> {
        read_descriptor(self.store(), id).await
    }
}

/// The pipeline under its newest name.
pub(crate) async fn read_descriptor(store: &Store, id: PipelineId) -> Result<Pipeline, CatalogError> {
    let mut path = layout::descriptor(id);
    let files = store.list(&layout::pipeline(id), None).await?;
    let renames = files.iter().filter_map(|meta| match layout::read_pipeline_file(&meta.location) {
        Some((_, PipelineFile::Renamed(number))) => Some(number),
        _ => None,
    });
    if let Some(newest) = renames.max() {
        path = layout::renamed(id, newest);
    }
    let bytes = store.get(&path).await?;
    serde_json::from_slice(&bytes)
        .map_err(|error| LakeError::Corrupt { path: path.to_string(), reason: error.to_string() }.into())
}

/// Copies the DB into the lake and deletes older copies.
pub(crate) async fn backup(
    store: &Store,
    db: &MetaDb,
    data_dir: &Path,
    now: DateTime<Utc>,
) -> Result<StorePath, CatalogError> {
    let copy = data_dir.join("tmp").join(format!("meta-{}.db", uuid::Uuid::new_v4()));
    make_folder(&data_dir.join("tmp")).await?;
    let read = async {
        db.copy_to(&copy).await?;
        let file = copy.clone();
        task::blocking("read the copy of the metadata DB", move || std::fs::read(file))
            .await?
            .map_err(|error| folder_error("read", &copy, error))
    };
    let bytes = read.await;
    let file = copy.clone();
    // A copy that stays in the temporary folder does no harm.
    let _ = task::blocking("delete the copy of the metadata DB", move || std::fs::remove_file(file)).await?;
    let target = layout::backups().join(format!("meta-{}.db", now.format("%Y%m%dT%H%M%S%6fZ")));
    store.put(&target, bytes?.into()).await?;
    let copies = store.list(&layout::backups(), None).await?;
    for old in copies.iter().rev().skip(BACKUPS_MAX) {
        store.delete(&old.location).await?;
    }
    Ok(target)
}
