//! The `metadata` folder of a table: what lies there, and what of it can be built upon.

use std::collections::{BTreeMap, HashSet};

use bytes::Bytes;
use url::Position;
use uuid::Uuid;

use super::manifest::{Content, Entry, Status, decode};
use super::manifest_list::{Manifest, decode_list};
use super::metadata::{Snapshot, TableMetadata};
use crate::delta::off_runtime;
use crate::{LakeError, Store, StorePath};

/// Larger files of metadata are refused; one of 2,000 data files with bounds of 100 columns has some 10 MB.
const FILE_BYTES_MAX: u64 = 256 << 20;
const DATA_MANIFEST: &str = "lode-m-";
const DELETE_MANIFEST: &str = "lode-d-";
const MANIFEST_LIST: &str = "lode-snap-";
const DELETE_FILE: &str = "lode-del-";
const HINT: &str = "version-hint.text";

/// The folder as it was listed.
#[derive(Debug)]
pub(crate) struct Folder {
    store: Store,
    /// Of the table, relative to the store.
    location: String,
    /// Of the table, absolute.
    pub(crate) url: String,
    /// File name to size.
    files: BTreeMap<String, u64>,
}

/// Metadata that can be built upon: every file of its newest snapshot is there.
#[derive(Debug)]
pub(crate) struct Previous {
    /// File name of the metadata.
    pub(crate) name: String,
    pub(crate) metadata: TableMetadata,
    pub(crate) manifests: Vec<Manifest>,
    pub(crate) delta_version: i64,
}

/// The number in `vN.metadata.json`.
fn number_of(name: &str) -> Option<i64> {
    name.strip_prefix('v')?.strip_suffix(".metadata.json")?.parse().ok()
}

/// The snapshot that a file was made for; `None` for a file of another writer.
fn snapshot_of(name: &str) -> Option<i64> {
    let kinds = [DATA_MANIFEST, DELETE_MANIFEST, MANIFEST_LIST, DELETE_FILE];
    let rest = kinds.iter().find_map(|kind| name.strip_prefix(kind));
    rest.and_then(|rest| rest.split_once('-')?.0.parse().ok()).or_else(|| number_of(name))
}

pub(crate) fn metadata_name(number: i64) -> String {
    format!("v{number}.metadata.json")
}

impl Folder {
    pub(crate) async fn list(store: &Store, location: &str) -> Result<Self, LakeError> {
        let mut folder = Self {
            store: store.clone(),
            location: location.to_owned(),
            url: absolute(store, location)?,
            files: BTreeMap::new(),
        };
        let prefix = folder.path("")?;
        for meta in store.list(&prefix, None).await? {
            // Not what lies in folders further below.
            let mut below = meta.location.prefix_match(&prefix).into_iter().flatten();
            if let (Some(name), None) = (below.next(), below.next()) {
                folder.files.insert(name.as_ref().to_owned(), meta.size);
            }
        }
        Ok(folder)
    }

    /// A file of the folder, relative to the store.
    pub(crate) fn path(&self, name: &str) -> Result<StorePath, LakeError> {
        path_of(&format!("{}/metadata/{name}", self.location))
    }

    /// A file of the folder, as metadata names it.
    pub(crate) fn absolute(&self, name: &str) -> String {
        format!("{}/metadata/{name}", self.url)
    }

    /// The name of a file of the folder; `None` for what lies elsewhere.
    fn name<'a>(&self, absolute: &'a str) -> Option<&'a str> {
        let name = absolute.strip_prefix(self.url.as_str())?.strip_prefix("/metadata/")?;
        (!name.contains('/')).then_some(name)
    }

    /// Whether an error tells of damage in this folder.
    pub(crate) fn is_damaged(&self, error: &LakeError) -> bool {
        matches!(error, LakeError::Corrupt { path, .. } if path.starts_with(&self.url))
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.files.contains_key(name)
    }

    /// The number of the newest metadata file.
    pub(crate) fn newest(&self) -> Option<i64> {
        self.files.keys().filter_map(|name| number_of(name)).max()
    }

    /// Creates a file of one attempt: what has its name already is the same file, put by a request that was repeated below.
    pub(crate) async fn create(&self, name: &str, bytes: Vec<u8>) -> Result<(), LakeError> {
        self.store.put_if_absent(&self.path(name)?, Bytes::from(bytes)).await?;
        Ok(())
    }

    /// The content of a file; `Corrupt` when it is missing or too large.
    async fn read(&self, absolute: &str) -> Result<Bytes, LakeError> {
        let damaged = |reason: &str| LakeError::Corrupt { path: absolute.to_owned(), reason: reason.to_owned() };
        let name = self.name(absolute).ok_or_else(|| damaged("it lies outside of the table"))?;
        match self.files.get(name) {
            None => return Err(damaged("it is missing")),
            Some(size) if *size > FILE_BYTES_MAX => return Err(damaged("it is too large")),
            Some(_) => {}
        }
        match self.store.get(&self.path(name)?).await {
            Err(LakeError::NotFound { .. }) => Err(damaged("it is missing")),
            other => other,
        }
    }

    /// The newest metadata, checked: it is of the table `table_id`, and its manifests are there. `None` when there is none.
    /// Errors: `Corrupt` with what cannot be built upon; `Store`.
    pub(crate) async fn previous(&self, table_id: &str) -> Result<Option<Previous>, LakeError> {
        let Some(newest) = self.newest() else { return Ok(None) };
        let name = metadata_name(newest);
        let path = self.absolute(&name);
        let corrupt = |reason: String| LakeError::Corrupt { path: path.clone(), reason };
        let bytes = self.read(&path).await?;
        let metadata = off_runtime("iceberg metadata", move || Ok(TableMetadata::parse(&bytes))).await?;
        let metadata = metadata.map_err(corrupt)?;
        if metadata.table_id() != Some(table_id) || metadata.location != self.url {
            return Err(corrupt("it is of another table".into()));
        }
        let snapshot = metadata.snapshot().ok_or_else(|| corrupt("its newest snapshot is missing".into()))?;
        let delta_version = metadata.delta_version().ok_or_else(|| corrupt("its Delta version is missing".into()))?;
        if newest != delta_version + 1 || snapshot.snapshot_id != newest {
            return Err(corrupt(format!("it shows Delta version {delta_version}")));
        }
        let manifests = self.manifests(&snapshot.manifest_list).await?;
        for manifest in &manifests {
            let size = self.name(&manifest.path).and_then(|name| self.files.get(name));
            if size.map(|size| *size as i64) != Some(manifest.size_bytes) {
                let reason = if size.is_none() { "it is missing" } else { "it has another size" };
                return Err(LakeError::Corrupt { path: manifest.path.clone(), reason: reason.into() });
            }
        }
        Ok(Some(Previous { name, metadata, manifests, delta_version }))
    }

    /// The manifests of a manifest list. Errors: `Corrupt`, `Store`.
    pub(crate) async fn manifests(&self, list: &str) -> Result<Vec<Manifest>, LakeError> {
        let bytes = self.read(list).await?;
        decode_list(&bytes).map_err(|reason| LakeError::Corrupt { path: list.to_owned(), reason })
    }

    /// The files of a manifest. Errors: `Corrupt`, `Store`.
    pub(crate) async fn entries(&self, manifest: &Manifest) -> Result<Vec<Entry>, LakeError> {
        let bytes = self.read(&manifest.path).await?;
        let path = manifest.path.clone();
        off_runtime("iceberg manifest", move || decode(&bytes).map_err(|reason| LakeError::Corrupt { path, reason }))
            .await
    }

    /// Deletes what was made for snapshots in front of `oldest`, the oldest one that is kept, and is not needed by it. So
    /// it goes with what failed attempts have left, too.
    /// Errors: `Corrupt` for the oldest snapshot, `Store`.
    pub(crate) async fn clean(&self, oldest: &Snapshot) -> Result<(), LakeError> {
        let is_old = |name: &&String| snapshot_of(name).is_some_and(|id| id < oldest.snapshot_id);
        let old: Vec<&str> = self.files.keys().filter(is_old).map(String::as_str).collect();
        if old.is_empty() {
            return Ok(());
        }
        // A file that has left the table does not come back under its name: what the oldest snapshot does not need, no
        // later one does.
        let manifests = self.manifests(&oldest.manifest_list).await?;
        let mut needed: HashSet<String> = manifests.iter().map(|manifest| manifest.path.clone()).collect();
        if old.iter().any(|name| name.starts_with(DELETE_FILE)) {
            for manifest in manifests.iter().filter(|manifest| manifest.content == Content::Deletes) {
                let live = self.entries(manifest).await?.into_iter().filter(|entry| entry.status != Status::Deleted);
                needed.extend(live.map(|entry| entry.path));
            }
        }
        self.delete(old.into_iter().filter(|name| !needed.contains(&self.absolute(name)))).await
    }

    /// Deletes all that was here when the folder was listed and that we may have made, but for `keep`.
    pub(crate) async fn delete_old(&self, keep: &str) -> Result<(), LakeError> {
        let is_ours = |name: &&String| snapshot_of(name).is_some();
        self.delete(self.files.keys().filter(is_ours).filter(|name| *name != keep).map(String::as_str)).await
    }

    async fn delete(&self, names: impl Iterator<Item = &str>) -> Result<(), LakeError> {
        for name in names {
            self.store.delete(&self.path(name)?).await?;
        }
        Ok(())
    }

    pub(crate) async fn hint(&self) -> Result<Option<i64>, LakeError> {
        if !self.has(HINT) {
            return Ok(None);
        }
        match self.store.get(&self.path(HINT)?).await {
            Ok(bytes) => Ok(std::str::from_utf8(&bytes).ok().and_then(|text| text.trim().parse().ok())),
            Err(LakeError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(crate) async fn put_hint(&self, number: i64) -> Result<(), LakeError> {
        self.store.put(&self.path(HINT)?, Bytes::from(number.to_string())).await
    }
}

/// Names of the files of one attempt.
pub(crate) struct Names {
    snapshot_id: i64,
    attempt: Uuid,
}

impl Names {
    pub(crate) fn new(snapshot_id: i64) -> Self {
        Self { snapshot_id, attempt: Uuid::new_v4() }
    }

    pub(crate) fn manifest(&self, content: Content, at: usize) -> String {
        let kind = if content == Content::Data { DATA_MANIFEST } else { DELETE_MANIFEST };
        format!("{kind}{}-{}-{at}.avro", self.snapshot_id, self.attempt.simple())
    }

    pub(crate) fn list(&self) -> String {
        format!("{MANIFEST_LIST}{}-{}.avro", self.snapshot_id, self.attempt.simple())
    }

    pub(crate) fn deletes(&self, at: usize) -> String {
        format!("{DELETE_FILE}{}-{}-{at}.parquet", self.snapshot_id, self.attempt.simple())
    }
}

pub(crate) fn path_of(text: &str) -> Result<StorePath, LakeError> {
    StorePath::parse(text).map_err(|error| LakeError::Corrupt { path: text.to_owned(), reason: error.to_string() })
}

/// A path below the store as metadata names it: not URL-encoded, as readers take locations as they are.
pub(crate) fn absolute(store: &Store, path: &str) -> Result<String, LakeError> {
    let url = store.url();
    let root = crate::delta::action::decode_path(url.path())
        .map_err(|reason| LakeError::Corrupt { path: url.to_string(), reason })?;
    // In a URL, pyiceberg takes what follows these for no part of the path; without a scheme all readers take it whole.
    if url.scheme() == "file" && [&root, path].iter().any(|part| part.contains(['#', '?'])) {
        return Ok(format!("{root}{path}"));
    }
    // With user and port, if there are any: an Azure container stands in front of its account.
    Ok(format!("{}{root}{path}", &url[..Position::BeforePath]))
}
