//! Manifests: files of a snapshot. Source: Iceberg spec, "Manifests".
//!
//! Only manifests in our own form are read back, to be reused or merged. Any other one counts as damaged.

use serde_json::{Value, json};
use uuid::Uuid;

use super::avro::{Container, Decoder, Encoder, Opened};
use super::metrics::{Datum, Metrics};
use super::schema::{PartitionSpec, Schema};

/// Field ids of a position delete file. Source: Iceberg spec, "Reserved Field IDs".
pub(crate) const DELETE_PATH_ID: i32 = 2_147_483_546;
pub(crate) const DELETE_POSITION_ID: i32 = 2_147_483_545;

/// What the files of a manifest are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Content {
    Data,
    /// Positions of dead rows.
    Deletes,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    Existing,
    Added,
    Deleted,
}

/// One file of a manifest, as far as it is read back.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Entry {
    pub(crate) status: Status,
    /// That added it, or deleted it.
    pub(crate) snapshot_id: i64,
    pub(crate) sequence: i64,
    /// Absolute.
    pub(crate) path: String,
    pub(crate) rows: i64,
    pub(crate) size_bytes: i64,
    /// The data file that a delete file is about.
    pub(crate) referenced: Option<String>,
}

impl Entry {
    pub(crate) fn added(
        snapshot_id: i64,
        path: String,
        rows: i64,
        size_bytes: i64,
        referenced: Option<String>,
    ) -> Self {
        Self { status: Status::Added, snapshot_id, sequence: snapshot_id, path, rows, size_bytes, referenced }
    }

    /// By what the table's state knows the file: for deletes, the data file that they are about.
    pub(crate) fn key(&self) -> &str {
        self.referenced.as_deref().unwrap_or(&self.path)
    }
}

/// An entry with all that is written of it.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    pub(crate) entry: Entry,
    pub(crate) partition: Vec<Option<Datum>>,
    pub(crate) metrics: Metrics,
}

/// The Avro type of each partition column. `types` are names of Iceberg types.
pub(crate) fn partition_types(types: &[String]) -> Result<Vec<Value>, String> {
    let avro = |name: &String| {
        Ok(match name.as_str() {
            "boolean" | "int" | "long" | "float" | "double" | "string" => json!(name),
            "date" => json!({"type": "int", "logicalType": "date"}),
            "timestamp" => json!({"type": "long", "logicalType": "timestamp-micros", "adjust-to-utc": false}),
            "timestamptz" => json!({"type": "long", "logicalType": "timestamp-micros", "adjust-to-utc": true}),
            decimal => {
                let parts = decimal.strip_prefix("decimal(").and_then(|rest| rest.strip_suffix(')')?.split_once(", "));
                let parts = parts.and_then(|(p, s)| Some((p.parse::<u8>().ok()?, s.parse::<i8>().ok()?)));
                let (precision, scale) = parts.ok_or_else(|| format!("partition type {name}"))?;
                let size = super::metrics::decimal_bytes(precision);
                json!({
                    "type": "fixed", "name": format!("decimal_{precision}_{scale}"), "size": size,
                    "logicalType": "decimal", "precision": precision, "scale": scale,
                })
            }
        })
    };
    types.iter().map(avro).collect()
}

/// A name that Avro allows, as the Java library makes it.
fn avro_name(name: &str) -> String {
    let mut made = String::new();
    for (at, c) in name.chars().enumerate() {
        match c {
            '0'..='9' if at == 0 => made.extend(['_', c]),
            'a'..='z' | 'A'..='Z' | '0'..='9' | '_' => made.push(c),
            other => made.push_str(&format!("_x{:X}", other as u32)),
        }
    }
    made
}

pub(super) fn optional(name: &str, avro: Value, id: i32) -> Value {
    json!({"name": name, "type": ["null", avro], "default": null, "field-id": id})
}

pub(super) fn required(name: &str, avro: Value, id: i32) -> Value {
    json!({"name": name, "type": avro, "field-id": id})
}

/// A map by field id: Avro maps have text keys only, so an array of pairs.
fn id_map(name: &str, key_id: i32, value_id: i32, value: &str, id: i32) -> Value {
    let pair = json!({"type": "record", "name": format!("k{key_id}_v{value_id}"), "fields": [
        required("key", json!("int"), key_id), required("value", json!(value), value_id),
    ]});
    optional(name, json!({"type": "array", "logicalType": "map", "items": pair}), id)
}

fn entry_schema(partition: Vec<Value>) -> Value {
    let data_file = json!({"type": "record", "name": "r2", "fields": [
        required("content", json!("int"), 134),
        required("file_path", json!("string"), 100),
        required("file_format", json!("string"), 101),
        required("partition", json!({"type": "record", "name": "r102", "fields": partition}), 102),
        required("record_count", json!("long"), 103),
        required("file_size_in_bytes", json!("long"), 104),
        id_map("column_sizes", 117, 118, "long", 108),
        id_map("value_counts", 119, 120, "long", 109),
        id_map("null_value_counts", 121, 122, "long", 110),
        id_map("lower_bounds", 126, 127, "bytes", 125),
        id_map("upper_bounds", 129, 130, "bytes", 128),
        optional("referenced_data_file", json!("string"), 143),
    ]});
    json!({"type": "record", "name": "manifest_entry", "fields": [
        required("status", json!("int"), 0),
        optional("snapshot_id", json!("long"), 1),
        optional("sequence_number", json!("long"), 3),
        optional("file_sequence_number", json!("long"), 4),
        required("data_file", data_file, 2),
    ]})
}

/// Encodes a manifest. `types` are those of the partition columns.
/// Errors: what has no Avro form.
pub(crate) fn encode(
    content: Content,
    schema: &Schema,
    spec: &PartitionSpec,
    types: &[String],
    rows: &[Row],
) -> Result<Vec<u8>, String> {
    let partition = spec.fields.iter().zip(partition_types(types)?);
    let partition = partition.map(|(field, avro)| optional(&avro_name(&field.name), avro, field.field_id)).collect();
    let metadata = [
        ("schema", to_json(schema)?),
        ("schema-id", schema.schema_id.to_string()),
        ("partition-spec", to_json(&spec.fields)?),
        ("partition-spec-id", spec.spec_id.to_string()),
        ("format-version", "2".to_owned()),
        ("content", if content == Content::Data { "data" } else { "deletes" }.to_owned()),
    ];
    let sync = *Uuid::new_v4().as_bytes();
    let mut container = Container::new(&entry_schema(partition).to_string(), &metadata, sync);
    for row in rows {
        container.row(|encoder| encode_row(content, row, encoder)).map_err(|error| error.to_string())?;
    }
    container.finish().map_err(|error| error.to_string())
}

fn to_json(value: &impl serde::Serialize) -> Result<String, String> {
    serde_json::to_string(value).map_err(|error| error.to_string())
}

fn encode_row(content: Content, row: &Row, encoder: &mut Encoder) {
    let entry = &row.entry;
    encoder.long(match entry.status {
        Status::Existing => 0,
        Status::Added => 1,
        Status::Deleted => 2,
    });
    for number in [entry.snapshot_id, entry.sequence, entry.sequence] {
        encoder.is_some(true);
        encoder.long(number);
    }
    encoder.long(i64::from(content == Content::Deletes));
    encoder.text(&entry.path);
    encoder.text("PARQUET");
    for value in &row.partition {
        encoder.is_some(value.is_some());
        match value {
            Some(Datum::Bool(value)) => encoder.bool(*value),
            Some(Datum::Int(value)) => encoder.long(i64::from(*value)),
            Some(Datum::Long(value)) => encoder.long(*value),
            Some(Datum::Float(value)) => encoder.raw(&value.to_le_bytes()),
            Some(Datum::Double(value)) => encoder.raw(&value.to_le_bytes()),
            Some(Datum::Decimal(value, size)) => encoder.raw(value.to_be_bytes().get(16 - size..).unwrap_or_default()),
            Some(Datum::Text(value)) => encoder.text(value),
            None => {}
        }
    }
    encoder.long(entry.rows);
    encoder.long(entry.size_bytes);
    // Sizes of columns are not known, but a view of the metadata in pyiceberg 0.12.0 wants the map there.
    for counts in [&Vec::new(), &row.metrics.value_counts, &row.metrics.null_counts] {
        encode_map(counts, encoder, |encoder, count| encoder.long(*count));
    }
    for bounds in [&row.metrics.lower, &row.metrics.upper] {
        encode_map(bounds, encoder, |encoder, bound| encoder.bytes(bound));
    }
    encoder.is_some(entry.referenced.is_some());
    if let Some(referenced) = &entry.referenced {
        encoder.text(referenced);
    }
}

fn encode_map<T>(map: &[(i32, T)], encoder: &mut Encoder, value: impl Fn(&mut Encoder, &T)) {
    encoder.is_some(true);
    encoder.begin_array(map.len());
    for (id, of) in map {
        encoder.long(i64::from(*id));
        value(encoder, of);
    }
    encoder.end_array();
}

/// Decodes a manifest in our own form. Errors: what is wrong with it.
pub(crate) fn decode(bytes: &[u8]) -> Result<Vec<Entry>, String> {
    let opened = Opened::new(bytes)?;
    let schema: Value =
        serde_json::from_str(opened.get("avro.schema").ok_or("no schema")?).map_err(|e| e.to_string())?;
    let partition = schema.pointer("/fields/4/type/fields/3/type/fields").and_then(Value::as_array);
    let partition = partition.cloned().ok_or("no partition type")?;
    let types: Option<Vec<Value>> = partition.iter().map(|field| field.pointer("/type/1").cloned()).collect();
    let types = types.ok_or("no partition type")?;
    if schema != entry_schema(partition) {
        return Err("another writer made it".into());
    }
    opened.rows(|decoder| decode_row(&types, decoder))
}

fn decode_row(partition: &[Value], decoder: &mut Decoder<'_>) -> Result<Entry, String> {
    let status = match decoder.long()? {
        0 => Status::Existing,
        1 => Status::Added,
        2 => Status::Deleted,
        other => return Err(format!("status {other}")),
    };
    let mut numbers = [0_i64; 3];
    for number in &mut numbers {
        if !decoder.is_some()? {
            return Err("an entry without its snapshot".into());
        }
        *number = decoder.long()?;
    }
    let [snapshot_id, sequence, _] = numbers;
    decoder.long()?;
    let path = decoder.text()?.to_owned();
    decoder.text()?;
    for avro in partition {
        if decoder.is_some()? {
            skip(avro, decoder)?;
        }
    }
    let (rows, size_bytes) = (decoder.long()?, decoder.long()?);
    for _ in 0..3 {
        skip_map(decoder, |decoder| decoder.long().map(|_| ()))?;
    }
    for _ in 0..2 {
        skip_map(decoder, |decoder| decoder.bytes().map(|_| ()))?;
    }
    let referenced = if decoder.is_some()? { Some(decoder.text()?.to_owned()) } else { None };
    Ok(Entry { status, snapshot_id, sequence, path, rows, size_bytes, referenced })
}

fn skip(avro: &Value, decoder: &mut Decoder<'_>) -> Result<(), String> {
    let name = avro.as_str().or_else(|| avro.get("type")?.as_str()).unwrap_or_default();
    match name {
        "boolean" => decoder.raw(1).map(|_| ()),
        "int" | "long" => decoder.long().map(|_| ()),
        "float" => decoder.raw(4).map(|_| ()),
        "double" => decoder.raw(8).map(|_| ()),
        "string" => decoder.bytes().map(|_| ()),
        "fixed" => {
            let size = avro.get("size").and_then(Value::as_u64).and_then(|size| usize::try_from(size).ok());
            decoder.raw(size.ok_or("a fixed type without its size")?).map(|_| ())
        }
        other => Err(format!("type {other}")),
    }
}

fn skip_map(decoder: &mut Decoder<'_>, value: impl Fn(&mut Decoder<'_>) -> Result<(), String>) -> Result<(), String> {
    if !decoder.is_some()? {
        return Ok(());
    }
    decoder.array(|decoder| {
        decoder.long()?;
        value(decoder)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_made_fit_for_avro() {
        assert_eq!(avro_name("a b"), "a_x20b");
        assert_eq!(avro_name("1é_"), "_1_xE9_");
    }

    #[test]
    fn entries_come_back_behind_partitions_of_every_type() {
        let schema: Schema = serde_json::from_value(json!({"schema-id": 2, "type": "struct", "fields": []})).unwrap();
        let field =
            |n: i32| json!({"source-id": n, "field-id": 1000 + n, "name": format!("p {n}"), "transform": "identity"});
        let fields: Vec<Value> = (0..9).map(field).collect();
        let spec: PartitionSpec = serde_json::from_value(json!({"spec-id": 4, "fields": fields})).unwrap();
        let values = [
            Datum::Bool(true),
            Datum::Int(-1),
            Datum::Long(i64::MAX),
            Datum::Float(1.5),
            Datum::Double(-1.5),
            Datum::Decimal(-5, 6),
            Datum::Text("ü".into()),
            Datum::Int(0),
            Datum::Long(-1),
        ];
        let names = ["boolean", "int", "long", "float", "double", "decimal(12, 2)", "string", "date", "timestamptz"];
        let types: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let row = |status: Status, partition: Vec<Option<Datum>>| Row {
            entry: Entry {
                status,
                snapshot_id: 7,
                sequence: 3,
                path: "file:///t/f.parquet".into(),
                rows: 10,
                size_bytes: 20,
                referenced: (status == Status::Added).then(|| "file:///t/d.parquet".into()),
            },
            partition,
            metrics: Metrics {
                value_counts: vec![(1, 10), (2, 10)],
                null_counts: vec![(1, 0)],
                lower: vec![(1, vec![1, 2])],
                upper: Vec::new(),
            },
        };
        let rows = [
            row(Status::Added, values.iter().cloned().map(Some).collect()),
            row(Status::Existing, vec![None; values.len()]),
            row(Status::Deleted, values.iter().cloned().map(Some).collect()),
        ];
        let bytes = encode(Content::Deletes, &schema, &spec, &types, &rows).unwrap();
        let entries: Vec<Entry> = rows.iter().map(|row| row.entry.clone()).collect();
        assert_eq!(decode(&bytes).unwrap(), entries);
        let opened = Opened::new(&bytes).unwrap();
        assert_eq!((opened.get("content"), opened.get("partition-spec-id")), (Some("deletes"), Some("4")));
        for cut in 0..bytes.len() {
            assert!(decode(&bytes[..cut]).map_or(true, |entries| entries.is_empty()), "cut at {cut}");
        }
    }

    #[test]
    fn a_manifest_of_another_writer_is_refused() {
        let schema = entry_schema(Vec::new()).to_string().replace("record_count", "rows");
        let bytes = Container::new(&schema, &[], [1; 16]).finish().unwrap();
        assert_eq!(decode(&bytes).unwrap_err(), "another writer made it");
    }
}
