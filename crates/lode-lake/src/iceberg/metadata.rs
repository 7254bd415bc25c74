//! The metadata file of a table, version 2. Source: Iceberg spec, "Table Metadata".

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uuid::Uuid;

use super::schema::{PARTITION_ID_FIRST, PartitionSpec, Schema, mapped_paths};

/// Snapshots that the metadata keeps; it repeats them all at every commit.
pub(crate) const SNAPSHOTS_KEPT: usize = 100;
pub(crate) const DELTA_VERSION: &str = "lode.delta-version";
pub(crate) const TXN_PREFIX: &str = "lode.txn.";
const TABLE_ID: &str = "lode.table-id";
const NAME_MAPPING: &str = "schema.name-mapping.default";

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct TableMetadata {
    format_version: i32,
    pub(crate) table_uuid: Uuid,
    /// Absolute.
    pub(crate) location: String,
    pub(crate) last_sequence_number: i64,
    last_updated_ms: i64,
    last_column_id: i32,
    pub(crate) current_schema_id: i32,
    pub(crate) schemas: Vec<Schema>,
    pub(crate) default_spec_id: i32,
    pub(crate) partition_specs: Vec<PartitionSpec>,
    last_partition_id: i32,
    default_sort_order_id: i32,
    sort_orders: Value,
    pub(crate) properties: BTreeMap<String, String>,
    pub(crate) current_snapshot_id: i64,
    refs: Value,
    pub(crate) snapshots: Vec<Snapshot>,
    snapshot_log: Vec<SnapshotLogEntry>,
    pub(crate) metadata_log: Vec<MetadataLogEntry>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Snapshot {
    pub(crate) snapshot_id: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) parent_snapshot_id: Option<i64>,
    pub(crate) sequence_number: i64,
    pub(crate) timestamp_ms: i64,
    /// Absolute.
    pub(crate) manifest_list: String,
    pub(crate) summary: BTreeMap<String, String>,
    pub(crate) schema_id: i32,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct SnapshotLogEntry {
    timestamp_ms: i64,
    snapshot_id: i64,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct MetadataLogEntry {
    timestamp_ms: i64,
    /// Absolute.
    pub(crate) metadata_file: String,
}

/// What the Delta log says of the state that is exposed.
pub(crate) struct State {
    pub(crate) location: String,
    pub(crate) table_id: String,
    pub(crate) schema: Schema,
    pub(crate) spec: PartitionSpec,
    pub(crate) name_mapping: Value,
    pub(crate) comment: Option<String>,
}

impl TableMetadata {
    /// Errors: what is wrong with the bytes.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, String> {
        let metadata: Self = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        if metadata.format_version != 2 {
            return Err(format!("format version {}", metadata.format_version));
        }
        Ok(metadata)
    }

    pub(crate) fn to_bytes(&self) -> serde_json::Result<Vec<u8>> {
        serde_json::to_vec(self)
    }

    /// Metadata that has no snapshot yet.
    pub(crate) fn new(state: State) -> Self {
        let mut metadata = Self {
            format_version: 2,
            table_uuid: Uuid::new_v4(),
            location: String::new(),
            last_sequence_number: 0,
            last_updated_ms: 0,
            last_column_id: 0,
            current_schema_id: 0,
            schemas: Vec::new(),
            default_spec_id: 0,
            partition_specs: Vec::new(),
            last_partition_id: PARTITION_ID_FIRST - 1,
            default_sort_order_id: 0,
            sort_orders: json!([{"order-id": 0, "fields": []}]),
            properties: BTreeMap::new(),
            current_snapshot_id: -1,
            refs: json!({}),
            snapshots: Vec::new(),
            snapshot_log: Vec::new(),
            metadata_log: Vec::new(),
        };
        metadata.take(state);
        metadata
    }

    /// Makes schema, partition spec and properties those of `state`; what was there already keeps its id.
    pub(crate) fn take(&mut self, state: State) {
        let State { location, table_id, mut schema, spec, name_mapping, comment } = state;
        self.location = location;
        let known = self.schemas.iter().find(|known| known.fields == schema.fields).map(|known| known.schema_id);
        self.current_schema_id = known.unwrap_or_else(|| {
            schema.schema_id = self.schemas.iter().map(|known| known.schema_id + 1).max().unwrap_or(0);
            let id = schema.schema_id;
            self.schemas.push(schema);
            id
        });
        let ids = mapped_paths(&name_mapping).into_keys().filter_map(|id| i32::try_from(id).ok());
        self.last_column_id = ids.fold(self.last_column_id, i32::max);
        self.take_spec(spec);
        self.properties = BTreeMap::from([
            (TABLE_ID.to_owned(), table_id),
            (NAME_MAPPING.to_owned(), name_mapping.to_string()),
            ("write.format.default".to_owned(), "parquet".to_owned()),
        ]);
        self.properties.extend(comment.map(|comment| ("comment".to_owned(), comment)));
    }

    fn take_spec(&mut self, mut spec: PartitionSpec) {
        // Equal but for the ids that the spec has not got yet.
        let is_same = |known: &&PartitionSpec| {
            known.fields.len() == spec.fields.len()
                && known.fields.iter().zip(&spec.fields).all(|(a, b)| (a.source_id, &a.name) == (b.source_id, &b.name))
        };
        if let Some(known) = self.partition_specs.iter().find(is_same) {
            self.default_spec_id = known.spec_id;
            return;
        }
        spec.spec_id = self.partition_specs.iter().map(|known| known.spec_id + 1).max().unwrap_or(0);
        let known: Vec<(i32, String, i32)> = self
            .partition_specs
            .iter()
            .flat_map(|spec| &spec.fields)
            .map(|field| (field.source_id, field.name.clone(), field.field_id))
            .collect();
        for field in &mut spec.fields {
            let same = known.iter().find(|(source_id, name, _)| (*source_id, name) == (field.source_id, &field.name));
            field.field_id = same.map_or(self.last_partition_id + 1, |(.., field_id)| *field_id);
            self.last_partition_id = self.last_partition_id.max(field.field_id);
        }
        self.default_spec_id = spec.spec_id;
        self.partition_specs.push(spec);
    }

    pub(crate) fn schema(&self) -> Option<&Schema> {
        self.schemas.iter().find(|schema| schema.schema_id == self.current_schema_id)
    }

    pub(crate) fn spec(&self) -> Option<&PartitionSpec> {
        self.partition_specs.iter().find(|spec| spec.spec_id == self.default_spec_id)
    }

    pub(crate) fn snapshot(&self) -> Option<&Snapshot> {
        self.snapshots.iter().find(|snapshot| snapshot.snapshot_id == self.current_snapshot_id)
    }

    /// The Delta version that the newest snapshot shows.
    pub(crate) fn delta_version(&self) -> Option<i64> {
        self.snapshot()?.summary.get(DELTA_VERSION)?.parse().ok()
    }

    pub(crate) fn table_id(&self) -> Option<&str> {
        self.properties.get(TABLE_ID).map(String::as_str)
    }

    /// Field id to the names in data files that lead to it.
    pub(crate) fn mapped_paths(&self) -> BTreeMap<i64, String> {
        let mapping = self.properties.get(NAME_MAPPING).and_then(|text| serde_json::from_str(text).ok());
        mapped_paths(&mapping.unwrap_or(Value::Null))
    }

    /// Makes `snapshot` the newest one and forgets the oldest ones. `metadata_file` is where this metadata stood before.
    pub(crate) fn push(&mut self, snapshot: Snapshot, metadata_file: Option<String>) {
        let timestamp_ms = self.last_updated_ms;
        self.metadata_log.extend(metadata_file.map(|metadata_file| MetadataLogEntry { timestamp_ms, metadata_file }));
        // A transaction stands at the newest snapshot, and at older ones where its version was another: a table that many
        // pipelines write to would repeat them all in each snapshot.
        for old in &mut self.snapshots {
            if Some(old.snapshot_id) == snapshot.parent_snapshot_id {
                old.summary
                    .retain(|key, value| !key.starts_with(TXN_PREFIX) || snapshot.summary.get(key) != Some(value));
            }
        }
        self.last_sequence_number = snapshot.sequence_number;
        self.last_updated_ms = self.last_updated_ms.max(snapshot.timestamp_ms);
        self.current_snapshot_id = snapshot.snapshot_id;
        self.refs = json!({"main": {"snapshot-id": snapshot.snapshot_id, "type": "branch"}});
        self.snapshot_log
            .push(SnapshotLogEntry { timestamp_ms: self.last_updated_ms, snapshot_id: snapshot.snapshot_id });
        self.snapshots.push(snapshot);
        self.snapshots.drain(..self.snapshots.len().saturating_sub(SNAPSHOTS_KEPT));
        self.snapshot_log.drain(..self.snapshot_log.len().saturating_sub(SNAPSHOTS_KEPT));
        // Those of the kept snapshots, but for the newest one, which is this.
        self.metadata_log.drain(..self.metadata_log.len().saturating_sub(SNAPSHOTS_KEPT - 1));
        let used: Vec<i32> = self.snapshots.iter().map(|snapshot| snapshot.schema_id).collect();
        // Those behind the current one stay too, so that no id is given twice.
        self.schemas.retain(|schema| schema.schema_id >= self.current_schema_id || used.contains(&schema.schema_id));
    }
}
