//! One Iceberg snapshot out of one state of the Delta log.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, TryStreamExt, stream};
use object_store::{ObjectStore, ObjectStoreExt};
use parquet::arrow::async_reader::MetadataFetch;
use parquet::errors::ParquetError;
use parquet::file::metadata::ParquetMetaDataReader;

use super::diff::{Diff, find};
use super::folder::{Folder, Names, Previous, absolute, metadata_name};
use super::manifest::{Content, Entry, Row, Status, encode};
use super::manifest_list::{Count, FieldSummary, Manifest, encode_list};
use super::metadata::{DELTA_VERSION, State, TXN_PREFIX, TableMetadata};
use super::schema::{Change, Leaf, PartitionSpec, Schema, compare, leaves, name_mapping, primitive_name};
use super::{Exposed, Exposure, deletes, exposed, metadata, metrics, schema, tree};
use crate::delta::off_runtime;
use crate::store::object_error;
use crate::{DeltaTable, LakeError, LiveFile, Put, Snapshot, Store, StorePath, TableDefinition};

/// Footers read and delete files written at a time.
const FILES_AT_ONCE: usize = 8;
/// Versions after which old metadata files are deleted.
const CLEANED_EVERY: i64 = 8;
const DATA_BYTES: &str = "lode.data-bytes";
const DATA_FILES: &str = "total-data-files";

impl Previous {
    /// Whether the newest snapshot shows `state`, as far as numbers tell.
    pub(crate) fn shows(&self, state: &Snapshot) -> bool {
        let summary = self.metadata.snapshot().map(|snapshot| &snapshot.summary);
        let number = |key: &str| summary?.get(key)?.parse::<u64>().ok();
        number(DATA_FILES) == Some(state.files.len() as u64) && number(DATA_BYTES) == Some(data_bytes(state))
    }
}

fn data_bytes(state: &Snapshot) -> u64 {
    state.files.iter().map(|file| file.file.size_bytes).fold(0, u64::saturating_add)
}

/// What a snapshot is made with.
pub(crate) struct Derivation<'a> {
    pub(crate) store: &'a Store,
    pub(crate) table: &'a DeltaTable,
    pub(crate) folder: &'a Folder,
    pub(crate) wanted: &'a Arc<Snapshot>,
}

/// How files of this table are written into manifests.
struct Form {
    definition: TableDefinition,
    leaves: Vec<Leaf>,
    schema: Schema,
    spec: PartitionSpec,
    /// Iceberg types of the partition columns.
    types: Vec<String>,
}

impl Derivation<'_> {
    /// Adds a snapshot behind `previous`, whose state is `before`; without `previous`, makes the metadata anew.
    pub(crate) async fn run(
        &self,
        previous: Option<Previous>,
        before: Option<Arc<Snapshot>>,
    ) -> Result<Exposed, LakeError> {
        let state = self.state()?;
        let change = previous.as_ref().map_or(Change::Broken, |previous| change(&previous.metadata, &state));
        let (previous, mut metadata) = match previous {
            Some(previous) if change != Change::Broken => {
                let mut metadata = previous.metadata.clone();
                metadata.take(state);
                (Some(previous), metadata)
            }
            _ => (None, TableMetadata::new(state)),
        };
        let is_same_spec = previous.as_ref().is_some_and(|p| p.metadata.default_spec_id == metadata.default_spec_id);
        // Without the state before, or with partitions of another kind, no manifest can be built upon.
        let before = before.filter(|_| is_same_spec);
        let old = if before.is_some() { previous.as_ref().map(|p| p.manifests.clone()) } else { None };
        let mut diff = {
            let (before, now, locate) = (before.clone(), Arc::clone(self.wanted), self.locate());
            off_runtime("iceberg diff", move || Diff::between(before.as_deref(), &now, locate)).await?
        };
        let form = Arc::new(self.form(&metadata)?);
        let names = Names::new(self.wanted.version.0 + 1);
        let manifests = self.manifests(&form, &names, old.unwrap_or_default(), &mut diff, change).await?;
        let snapshot = self.snapshot(&metadata, &names, &manifests, &diff, previous.as_ref()).await?;
        let file = previous.as_ref().map(|previous| self.folder.absolute(&previous.name));
        metadata.push(snapshot, file);
        self.publish(metadata, previous.map(|previous| previous.delta_version + 1)).await
    }

    fn state(&self) -> Result<State, LakeError> {
        let definition = &self.wanted.definition;
        Ok(State {
            location: self.folder.url.clone(),
            table_id: definition.id.to_string(),
            schema: schema::schema_of(definition)?,
            spec: schema::spec_of(definition)?,
            name_mapping: name_mapping(definition.schema.fields()),
            comment: definition.comment.clone(),
        })
    }

    fn form(&self, metadata: &TableMetadata) -> Result<Form, LakeError> {
        let definition = self.wanted.definition.clone();
        let missing = |what: &str| LakeError::Corrupt { path: self.folder.url.clone(), reason: format!("no {what}") };
        let type_of = |name: &String| {
            let field = definition.schema.field_with_name(name).map_err(|error| error.to_string());
            field.and_then(|field| primitive_name(field.data_type()))
        };
        let types: Result<Vec<String>, String> = definition.partition_by.iter().map(type_of).collect();
        Ok(Form {
            leaves: leaves(definition.schema.fields()),
            schema: metadata.schema().cloned().ok_or_else(|| missing("schema"))?,
            spec: metadata.spec().cloned().ok_or_else(|| missing("partition spec"))?,
            types: types.map_err(|reason| missing(&reason))?,
            definition,
        })
    }

    /// Tells where a data file lies, absolutely.
    fn locate(&self) -> impl Fn(&LiveFile) -> Result<String, LakeError> + Send + 'static {
        let (store, table) = (self.store.clone(), self.table.clone());
        move |file| absolute(&store, table.data_path(file)?.as_ref())
    }

    /// The manifests of the snapshot, old and new.
    async fn manifests(
        &self,
        form: &Arc<Form>,
        names: &Names,
        old: Vec<Manifest>,
        diff: &mut Diff,
        change: Change,
    ) -> Result<Vec<Manifest>, LakeError> {
        let snapshot_id = self.wanted.version.0 + 1;
        let reload = change == Change::Widened;
        let (data, deletes) = old.into_iter().partition(|manifest| manifest.content == Content::Data);
        let mut made = Vec::new();
        for (content, old) in [(Content::Data, data), (Content::Deletes, deletes)] {
            let (added, removed) = match content {
                Content::Data => (self.data_entries(snapshot_id, diff).await?, &diff.removed),
                Content::Deletes => (self.delete_entries(snapshot_id, names, diff).await?, &diff.vectors_old),
            };
            let removed: HashSet<String> = removed.iter().cloned().collect();
            let plan = tree::plan(self.folder, snapshot_id, old, removed, added, reload).await?;
            diff.files = self.learn(std::mem::take(&mut diff.files), &plan.entries).await?;
            made.extend(plan.kept);
            let mut entries = plan.entries;
            let mut at = 0;
            while !entries.is_empty() {
                let rest = entries.split_off(entries.len().min(tree::FILES_MAX));
                let (some, name) = (std::mem::replace(&mut entries, rest), names.manifest(content, at));
                made.push(self.write(form, content, &name, some, &diff.files).await?);
                at += 1;
            }
        }
        Ok(made)
    }

    async fn data_entries(&self, snapshot_id: i64, diff: &mut Diff) -> Result<Vec<Entry>, LakeError> {
        let is_uncounted = |path: &&String| diff.files.get(*path).is_some_and(|file| file.file.stats.is_none());
        let counts = diff.added.iter().filter(is_uncounted).map(|path| self.count_rows(path, &diff.files).boxed());
        // Made before they are streamed: a lazy chain of them is not known to be `Send` for all lifetimes.
        let counts: Vec<_> = counts.collect();
        let counts: HashMap<String, i64> = stream::iter(counts).buffered(FILES_AT_ONCE).try_collect().await?;
        let (files, added) = (std::mem::take(&mut diff.files), diff.added.clone());
        let made = off_runtime("iceberg entries", move || {
            let entry = |path: String| {
                let file = files.get(&path)?;
                let rows = match (&file.file.stats, counts.get(&path)) {
                    (Some(stats), _) => number(&path, stats.num_records),
                    (None, counted) => Ok(*counted?),
                };
                let size_bytes = number(&path, file.file.size_bytes);
                Some(rows.and_then(|rows| Ok(Entry::added(snapshot_id, path, rows, size_bytes?, None))))
            };
            let entries: Vec<Entry> = added.into_iter().filter_map(entry).collect::<Result<_, LakeError>>()?;
            Ok((files, entries))
        });
        let (files, entries) = made.await?;
        diff.files = files;
        Ok(entries)
    }

    /// Of a file without statistics, from its footer.
    async fn count_rows(&self, at: &str, files: &HashMap<String, LiveFile>) -> Result<(String, i64), LakeError> {
        let missing = || LakeError::NotFound { path: at.to_owned() };
        let file = files.get(at).ok_or_else(missing)?;
        let path = self.table.data_path(file)?;
        let footer = Footer { objects: self.store.objects(), path: path.clone() };
        match ParquetMetaDataReader::new().load_and_finish(footer, file.file.size_bytes).await {
            Ok(metadata) => Ok((at.to_owned(), metadata.file_metadata().num_rows())),
            // The store's own error, so that a lost connection is not taken for damage.
            Err(ParquetError::External(source)) => match source.downcast::<object_store::Error>() {
                Ok(source) => Err(object_error("read", &path, *source)),
                Err(source) => Err(LakeError::Corrupt { path: path.to_string(), reason: source.to_string() }),
            },
            Err(error) => Err(LakeError::Corrupt { path: path.to_string(), reason: error.to_string() }),
        }
    }

    /// Writes a delete file for each data file that has other dead rows.
    async fn delete_entries(&self, snapshot_id: i64, names: &Names, diff: &Diff) -> Result<Vec<Entry>, LakeError> {
        let files = diff.vectors_new.iter().filter_map(|path| Some((path, diff.files.get(path)?))).enumerate();
        let entries =
            files.map(|(at, (path, file))| self.delete_entry(snapshot_id, names.deletes(at), path, file).boxed());
        let entries: Vec<_> = entries.collect();
        let entries: Vec<Option<Entry>> = stream::iter(entries).buffered(FILES_AT_ONCE).try_collect().await?;
        Ok(entries.into_iter().flatten().collect())
    }

    /// `None` for a file without dead rows.
    async fn delete_entry(
        &self,
        snapshot_id: i64,
        name: String,
        path: &str,
        file: &LiveFile,
    ) -> Result<Option<Entry>, LakeError> {
        let Some(dead) = self.table.deleted_rows(file).await? else { return Ok(None) };
        let (rows, about) = (number(path, dead.len())?, path.to_owned());
        let bytes = off_runtime("iceberg deletes", move || {
            let bytes = deletes::encode(&about, &dead);
            bytes.map_err(|error| LakeError::Encode { table: about, source: Box::new(error) })
        });
        let bytes = bytes.await?;
        let size_bytes = bytes.len() as i64;
        self.folder.create(&name, bytes).await?;
        let (path, about) = (self.folder.absolute(&name), Some(path.to_owned()));
        Ok(Some(Entry::added(snapshot_id, path, rows, size_bytes, about)))
    }

    /// Adds the files of entries that came from old manifests. Errors: `Corrupt` for one that the table does not have.
    async fn learn(
        &self,
        mut known: HashMap<String, LiveFile>,
        entries: &[Entry],
    ) -> Result<HashMap<String, LiveFile>, LakeError> {
        let unknown = entries.iter().map(Entry::key).filter(|key| !known.contains_key(*key));
        let unknown: Vec<String> = unknown.map(str::to_owned).collect();
        if unknown.is_empty() {
            return Ok(known);
        }
        let (now, url, locate) = (Arc::clone(self.wanted), self.folder.url.clone(), self.locate());
        off_runtime("iceberg files", move || match find(&now, &url, unknown, &mut known, locate)? {
            None => Ok(known),
            Some(path) => {
                let reason = format!("a manifest has \"{path}\", which the table has not");
                Err(LakeError::Corrupt { path: url, reason })
            }
        })
        .await
    }

    async fn write(
        &self,
        form: &Arc<Form>,
        content: Content,
        name: &str,
        entries: Vec<Entry>,
        known: &HashMap<String, LiveFile>,
    ) -> Result<Manifest, LakeError> {
        let files: Vec<LiveFile> = entries.iter().filter_map(|entry| known.get(entry.key()).cloned()).collect();
        assert!(files.len() == entries.len(), "an entry of manifest {name} without its file");
        let snapshot_id = self.wanted.version.0 + 1;
        let mut manifest = Manifest {
            path: self.folder.absolute(name),
            size_bytes: 0,
            spec_id: form.spec.spec_id,
            content,
            sequence: snapshot_id,
            sequence_min: entries
                .iter()
                .filter(|entry| entry.status != Status::Deleted)
                .map(|entry| entry.sequence)
                .min()
                .unwrap_or(snapshot_id),
            snapshot_id,
            added: Count::default(),
            existing: Count::default(),
            deleted: Count::default(),
            partitions: Vec::new(),
        };
        for entry in &entries {
            let count = match entry.status {
                Status::Added => &mut manifest.added,
                Status::Existing => &mut manifest.existing,
                Status::Deleted => &mut manifest.deleted,
            };
            count.files += 1;
            count.rows = count.rows.saturating_add(entry.rows);
        }
        let form = Arc::clone(form);
        let made = off_runtime("iceberg manifest", move || form.encode(content, entries, &files)).await?;
        let (bytes, partitions) = made;
        (manifest.size_bytes, manifest.partitions) = (bytes.len() as i64, partitions);
        self.folder.create(name, bytes).await?;
        Ok(manifest)
    }

    /// Writes the manifest list.
    async fn snapshot(
        &self,
        metadata: &TableMetadata,
        names: &Names,
        manifests: &[Manifest],
        diff: &Diff,
        previous: Option<&Previous>,
    ) -> Result<metadata::Snapshot, LakeError> {
        let snapshot_id = self.wanted.version.0 + 1;
        let parent = previous.map(|previous| previous.metadata.current_snapshot_id);
        let list = encode_list(snapshot_id, parent, snapshot_id, manifests)
            .map_err(|error| LakeError::Encode { table: self.folder.url.clone(), source: Box::new(error) })?;
        self.folder.create(&names.list(), list).await?;
        Ok(metadata::Snapshot {
            snapshot_id,
            parent_snapshot_id: parent,
            sequence_number: snapshot_id,
            timestamp_ms: self.wanted.committed_at.timestamp_millis(),
            manifest_list: self.folder.absolute(&names.list()),
            summary: self.summary(manifests, diff),
            schema_id: metadata.current_schema_id,
        })
    }

    fn summary(&self, manifests: &[Manifest], diff: &Diff) -> BTreeMap<String, String> {
        let has_deletes = !diff.vectors_new.is_empty();
        let operation = match (diff.added.is_empty(), diff.removed.is_empty()) {
            (_, true) if !has_deletes && diff.vectors_old.is_empty() => "append",
            (true, false) if !has_deletes => "delete",
            _ => "overwrite",
        };
        let of = |content: Content| manifests.iter().filter(move |manifest| manifest.content == content);
        let total = |content: Content, count: fn(&Manifest) -> i64| of(content).map(count).fold(0, i64::saturating_add);
        let is_new = |manifest: &&Manifest| manifest.snapshot_id == self.wanted.version.0 + 1;
        let new_rows = |content: Content, count: fn(&Manifest) -> i64| {
            of(content).filter(is_new).map(count).fold(0, i64::saturating_add)
        };
        let changes = [
            ("added-data-files", diff.added.len() as i64),
            ("deleted-data-files", diff.removed.len() as i64),
            ("added-delete-files", diff.vectors_new.len() as i64),
            ("removed-delete-files", diff.vectors_old.len() as i64),
            ("added-records", new_rows(Content::Data, |manifest| manifest.added.rows)),
            ("deleted-records", new_rows(Content::Data, |manifest| manifest.deleted.rows)),
            ("added-position-deletes", new_rows(Content::Deletes, |manifest| manifest.added.rows)),
            ("removed-position-deletes", new_rows(Content::Deletes, |manifest| manifest.deleted.rows)),
        ];
        let totals = [
            (DATA_FILES, total(Content::Data, Manifest::live_files)),
            ("total-records", total(Content::Data, Manifest::live_rows)),
            ("total-delete-files", total(Content::Deletes, Manifest::live_files)),
            ("total-position-deletes", total(Content::Deletes, Manifest::live_rows)),
            ("total-equality-deletes", 0),
            (DELTA_VERSION, self.wanted.version.0),
        ];
        // The metadata repeats all of this for each snapshot.
        let changes = changes.into_iter().filter(|(_, number)| *number != 0);
        let mut summary: BTreeMap<String, String> =
            changes.chain(totals).map(|(key, number)| (key.to_owned(), number.to_string())).collect();
        summary.insert("operation".into(), operation.into());
        summary.insert(DATA_BYTES.into(), data_bytes(self.wanted).to_string());
        let txns = self.wanted.txns.iter();
        summary.extend(txns.map(|(app_id, version)| (format!("{TXN_PREFIX}{app_id}"), version.to_string())));
        summary
    }

    /// What another process, or a lost reply of ours, has put since we looked.
    async fn theirs(&self) -> Result<Option<Previous>, LakeError> {
        let now = Folder::list(self.store, self.table.location()).await?;
        match now.previous(&self.wanted.definition.id.to_string()).await {
            Ok(theirs) => {
                Ok(theirs.filter(|theirs| theirs.delta_version > self.wanted.version.0 || theirs.shows(self.wanted)))
            }
            Err(LakeError::Corrupt { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Puts the metadata file, which is the moment that readers see the snapshot, and cleans up behind it.
    async fn publish(&self, metadata: TableMetadata, previous: Option<i64>) -> Result<Exposed, LakeError> {
        let number = self.wanted.version.0 + 1;
        let name = metadata_name(number);
        let encode = |error| LakeError::Encode { table: self.folder.url.clone(), source: Box::new(error) };
        let bytes = Bytes::from(metadata.to_bytes().map_err(encode)?);
        let path = self.folder.path(&name)?;
        if self.store.put_if_absent(&path, bytes.clone()).await? == Put::Exists {
            // What was there when we looked is damaged, or we would not be here.
            let theirs = if self.folder.has(&name) { None } else { self.theirs().await? };
            match theirs.filter(|theirs| !is_same(&theirs.metadata, &metadata)) {
                Some(theirs) => return exposed(self.folder, &theirs.metadata, Exposure::AlreadyThere),
                None => self.store.put(&path, bytes).await?,
            }
        }
        self.folder.put_hint(number).await?;
        let cleaned = match (previous, metadata.snapshots.first()) {
            (None, _) => self.folder.delete_old(&name).await,
            (Some(previous), Some(oldest)) if previous / CLEANED_EVERY != number / CLEANED_EVERY => {
                self.folder.clean(oldest).await
            }
            _ => Ok(()),
        };
        if let Err(error) = cleaned {
            // The table is exposed; what is left over takes room and does no harm.
            tracing::warn!(table = self.table.location(), %error, "old Iceberg metadata could not be deleted");
        }
        exposed(self.folder, &metadata, if previous.is_some() { Exposure::Added } else { Exposure::Rebuilt })
    }
}

/// A count of the Delta log as Iceberg has it. Errors: `Corrupt` for one above all that there can be.
fn number(path: &str, count: u64) -> Result<i64, LakeError> {
    let wrong = |_| LakeError::Corrupt { path: path.to_owned(), reason: format!("the log counts {count} of it") };
    i64::try_from(count).map_err(wrong)
}

/// Reads the end of a data file.
struct Footer {
    objects: Arc<dyn ObjectStore>,
    path: StorePath,
}

impl MetadataFetch for Footer {
    fn fetch(&mut self, range: Range<u64>) -> BoxFuture<'_, parquet::errors::Result<Bytes>> {
        let read = async move {
            self.objects.get_range(&self.path, range).await.map_err(|error| ParquetError::External(Box::new(error)))
        };
        read.boxed()
    }
}

impl Form {
    /// A manifest, and what it holds of each partition column.
    fn encode(
        &self,
        content: Content,
        entries: Vec<Entry>,
        files: &[LiveFile],
    ) -> Result<(Vec<u8>, Vec<FieldSummary>), LakeError> {
        let files: Vec<&LiveFile> = files.iter().collect();
        let partitions = metrics::partitions(&self.definition, &files)?;
        let metrics = match content {
            Content::Data => metrics::metrics(&self.leaves, &files),
            Content::Deletes => entries.iter().map(|entry| deletes::metrics(entry.key(), entry.rows)).collect(),
        };
        let rows = entries.into_iter().zip(partitions).zip(metrics);
        let rows: Vec<Row> = rows.map(|((entry, partition), metrics)| Row { entry, partition, metrics }).collect();
        let bytes = encode(content, &self.schema, &self.spec, &self.types, &rows)
            .map_err(|feature| LakeError::Unsupported { table: self.definition.name.to_string(), feature })?;
        let of = |at: usize| FieldSummary::of(rows.iter().map(|row| row.partition.get(at).and_then(Option::as_ref)));
        Ok((bytes, (0..self.spec.fields.len()).map(of).collect()))
    }
}

/// Whether both name the manifest list of one attempt.
fn is_same(theirs: &TableMetadata, ours: &TableMetadata) -> bool {
    theirs.snapshot().map(|snapshot| &snapshot.manifest_list) == ours.snapshot().map(|snapshot| &snapshot.manifest_list)
}

/// What the new state of a table means for metadata that shows an older one.
fn change(metadata: &TableMetadata, state: &State) -> Change {
    let before = metadata.mapped_paths();
    let now = schema::mapped_paths(&state.name_mapping);
    // Ids of tables that keep none are counted anew, and may then mean another column.
    let is_moved = |(id, path): (&i64, &String)| before.get(id).is_some_and(|before| before != path);
    match metadata.schema() {
        Some(schema) if !now.iter().any(is_moved) => compare(schema, &state.schema),
        _ => Change::Broken,
    }
}
