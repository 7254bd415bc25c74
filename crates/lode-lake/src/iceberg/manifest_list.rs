//! Manifest lists: the manifests of a snapshot. Source: Iceberg spec, "Manifest Lists".

use serde_json::{Value, json};
use uuid::Uuid;

use super::avro::{Container, Decoder, Encoder, Opened};
use super::manifest::{Content, optional, required};
use super::metrics::Datum;

/// A manifest, as a manifest list has it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Manifest {
    /// Absolute.
    pub(crate) path: String,
    pub(crate) size_bytes: i64,
    pub(crate) spec_id: i32,
    pub(crate) content: Content,
    pub(crate) sequence: i64,
    pub(crate) sequence_min: i64,
    pub(crate) snapshot_id: i64,
    pub(crate) added: Count,
    pub(crate) existing: Count,
    pub(crate) deleted: Count,
    /// One for each partition column, by which readers pass over whole manifests.
    pub(crate) partitions: Vec<FieldSummary>,
}

/// The values of a partition column in a manifest.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct FieldSummary {
    pub(crate) contains_null: bool,
    pub(crate) contains_nan: bool,
    pub(crate) lower: Option<Vec<u8>>,
    pub(crate) upper: Option<Vec<u8>>,
}

impl FieldSummary {
    pub(crate) fn of<'a>(values: impl Iterator<Item = Option<&'a Datum>>) -> Self {
        let mut summary = Self::default();
        let (mut lower, mut upper): (Option<&Datum>, Option<&Datum>) = (None, None);
        for value in values {
            match value {
                None => summary.contains_null = true,
                Some(value) if value.is_nan() => summary.contains_nan = true,
                Some(value) => {
                    lower = lower.filter(|lower| *lower <= value).or(Some(value));
                    upper = upper.filter(|upper| *upper >= value).or(Some(value));
                }
            }
        }
        summary.lower = lower.map(Datum::to_bytes);
        summary.upper = upper.map(Datum::to_bytes);
        summary
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Count {
    pub(crate) files: i64,
    pub(crate) rows: i64,
}

impl Manifest {
    pub(crate) fn live_files(&self) -> i64 {
        self.added.files.saturating_add(self.existing.files)
    }

    pub(crate) fn live_rows(&self) -> i64 {
        self.added.rows.saturating_add(self.existing.rows)
    }
}

fn list_schema() -> Value {
    let names = [
        ("added_files_count", "int", 504),
        ("existing_files_count", "int", 505),
        ("deleted_files_count", "int", 506),
        ("added_rows_count", "long", 512),
        ("existing_rows_count", "long", 513),
        ("deleted_rows_count", "long", 514),
    ];
    let mut fields = vec![
        required("manifest_path", json!("string"), 500),
        required("manifest_length", json!("long"), 501),
        required("partition_spec_id", json!("int"), 502),
        required("content", json!("int"), 517),
        required("sequence_number", json!("long"), 515),
        required("min_sequence_number", json!("long"), 516),
        required("added_snapshot_id", json!("long"), 503),
    ];
    fields.extend(names.iter().map(|(name, avro, id)| required(name, json!(avro), *id)));
    let summary = json!({"type": "record", "name": "r508", "fields": [
        required("contains_null", json!("boolean"), 509),
        optional("contains_nan", json!("boolean"), 518),
        optional("lower_bound", json!("bytes"), 510),
        optional("upper_bound", json!("bytes"), 511),
    ]});
    fields.push(optional("partitions", json!({"type": "array", "items": summary, "element-id": 508}), 507));
    json!({"type": "record", "name": "manifest_file", "fields": fields})
}

/// Encodes the manifest list of a snapshot.
pub(crate) fn encode_list(
    snapshot_id: i64,
    parent: Option<i64>,
    sequence: i64,
    manifests: &[Manifest],
) -> std::io::Result<Vec<u8>> {
    let metadata = [
        ("snapshot-id", snapshot_id.to_string()),
        ("parent-snapshot-id", parent.map_or_else(|| "null".to_owned(), |parent| parent.to_string())),
        ("sequence-number", sequence.to_string()),
        ("format-version", "2".to_owned()),
    ];
    let sync = *Uuid::new_v4().as_bytes();
    let mut container = Container::new(&list_schema().to_string(), &metadata, sync);
    for manifest in manifests {
        container.row(|encoder| {
            encoder.text(&manifest.path);
            encoder.long(manifest.size_bytes);
            encoder.long(i64::from(manifest.spec_id));
            encoder.long(i64::from(manifest.content == Content::Deletes));
            for number in [manifest.sequence, manifest.sequence_min, manifest.snapshot_id] {
                encoder.long(number);
            }
            let counts = [manifest.added, manifest.existing, manifest.deleted];
            counts.iter().for_each(|count| encoder.long(count.files));
            counts.iter().for_each(|count| encoder.long(count.rows));
            encoder.is_some(true);
            encoder.begin_array(manifest.partitions.len());
            manifest.partitions.iter().for_each(|summary| encode_summary(summary, encoder));
            encoder.end_array();
        })?;
    }
    container.finish()
}

fn encode_summary(summary: &FieldSummary, encoder: &mut Encoder) {
    encoder.bool(summary.contains_null);
    encoder.is_some(true);
    encoder.bool(summary.contains_nan);
    for bound in [&summary.lower, &summary.upper] {
        encoder.is_some(bound.is_some());
        if let Some(bound) = bound {
            encoder.bytes(bound);
        }
    }
}

fn decode_summary(decoder: &mut Decoder<'_>) -> Result<FieldSummary, String> {
    let contains_null = decoder.bool()?;
    let contains_nan = decoder.is_some()? && decoder.bool()?;
    let lower = if decoder.is_some()? { Some(decoder.bytes()?.to_vec()) } else { None };
    let upper = if decoder.is_some()? { Some(decoder.bytes()?.to_vec()) } else { None };
    Ok(FieldSummary { contains_null, contains_nan, lower, upper })
}

/// Decodes a manifest list in our own form. Errors: what is wrong with it.
pub(crate) fn decode_list(bytes: &[u8]) -> Result<Vec<Manifest>, String> {
    let opened = Opened::new(bytes)?;
    let schema: Value =
        serde_json::from_str(opened.get("avro.schema").ok_or("no schema")?).map_err(|e| e.to_string())?;
    if schema != list_schema() {
        return Err("another writer made it".into());
    }
    opened.rows(|decoder| {
        let path = decoder.text()?.to_owned();
        let size_bytes = decoder.long()?;
        let spec_id = i32::try_from(decoder.long()?).map_err(|_| "a partition spec out of range")?;
        let content = if decoder.long()? == 0 { Content::Data } else { Content::Deletes };
        let (sequence, sequence_min, snapshot_id) = (decoder.long()?, decoder.long()?, decoder.long()?);
        let mut counts = [0_i64; 6];
        for count in &mut counts {
            *count = decoder.long()?;
        }
        let [added, existing, deleted, added_rows, existing_rows, deleted_rows] = counts;
        let count = |files, rows| Count { files, rows };
        let mut partitions = Vec::new();
        if decoder.is_some()? {
            decoder.array(|decoder| {
                partitions.push(decode_summary(decoder)?);
                Ok(())
            })?;
        }
        Ok(Manifest {
            path,
            size_bytes,
            spec_id,
            content,
            sequence,
            sequence_min,
            snapshot_id,
            added: count(added, added_rows),
            existing: count(existing, existing_rows),
            deleted: count(deleted, deleted_rows),
            partitions,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_comes_back() {
        let texts = ["b", "a", "c"].map(|text| Datum::Text(text.into()));
        let floats = [Datum::Double(1.0), Datum::Double(f64::NAN)];
        let manifest = Manifest {
            path: "file:///t/m.avro".into(),
            size_bytes: 7,
            spec_id: 1,
            content: Content::Deletes,
            sequence: 9,
            sequence_min: 3,
            snapshot_id: 9,
            added: Count { files: 1, rows: 2 },
            existing: Count { files: 3, rows: 4 },
            deleted: Count { files: 5, rows: 6 },
            partitions: vec![
                FieldSummary::of(texts.iter().map(Some).chain([None])),
                FieldSummary::of(floats.iter().map(Some)),
                FieldSummary::of([None].into_iter()),
            ],
        };
        let [text, float, null] = manifest.partitions.as_slice() else { panic!() };
        assert_eq!((text.lower.as_deref(), text.upper.as_deref()), (Some(&b"a"[..]), Some(&b"c"[..])));
        assert_eq!((text.contains_null, text.contains_nan), (true, false));
        assert_eq!((float.contains_nan, &float.lower), (true, &float.upper));
        assert_eq!((null.contains_null, &null.lower), (true, &None));
        let bytes = encode_list(9, None, 9, std::slice::from_ref(&manifest)).unwrap();
        assert_eq!(decode_list(&bytes).unwrap(), [manifest]);
        assert!(crate::iceberg::manifest::decode(&bytes).is_err(), "a list is no manifest");
    }
}
