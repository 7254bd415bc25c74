//! Which protocol a table needs and which ones Lode can read and write. Source: Delta protocol, "Table Features".

use super::action::{MetaData, Protocol};
use super::schema::has_timestamp_ntz;
use crate::TableDefinition;

/// Reader features that Lode reads. The widening of types is a cast at scan time.
const READS: &[&str] = &[
    "columnMapping",
    "deletionVectors",
    "timestampNtz",
    "typeWidening",
    "typeWidening-preview",
    "v2Checkpoint",
    "vacuumProtocolCheck",
];
/// Writer features that hold for our commits; those that bind only some tables are looked at in `refuses_write`.
const WRITES: &[&str] = &[
    "appendOnly",
    "changeDataFeed",
    "checkConstraints",
    "columnMapping",
    "deletionVectors",
    "domainMetadata",
    "generatedColumns",
    "identityColumns",
    "invariants",
    "timestampNtz",
    "v2Checkpoint",
    "vacuumProtocolCheck",
];

/// The property of a table whose rows may die by deletion vectors.
pub(crate) const VECTORS: &str = "delta.enableDeletionVectors";

/// The feature that keeps Lode from reading the table.
pub(crate) fn refuses_read(protocol: &Protocol) -> Option<String> {
    match protocol.min_reader_version {
        ..=2 => None,
        3 => protocol.reader_features.iter().flatten().find(|feature| !READS.contains(&feature.as_str())).cloned(),
        other => Some(format!("reader version {other}")),
    }
}

/// The feature that keeps Lode from writing to the table.
pub(crate) fn refuses_write(protocol: &Protocol, meta: &MetaData) -> Option<String> {
    if let Some(feature) = refuses_read(protocol) {
        return Some(feature);
    }
    if protocol.min_writer_version > 7 {
        return Some(format!("writer version {}", protocol.min_writer_version));
    }
    if let Some(feature) = protocol.writer_features.iter().flatten().find(|feature| !WRITES.contains(&feature.as_str()))
    {
        return Some(feature.clone());
    }
    let setting = |key: &str| meta.configuration.get(key).and_then(Option::as_deref);
    if setting("delta.columnMapping.mode").is_some_and(|mode| mode != "none") {
        return Some("writing with column mapping".into());
    }
    // Expressions of foreign writers, which only they can evaluate.
    ["delta.generationExpression", "delta.invariants", "delta.identity.start"]
        .into_iter()
        .find(|key| meta.schema_string.contains(key))
        .map(str::to_owned)
}

/// The least protocol that `definition` needs, no lower than `current`.
pub(crate) fn needed(definition: &TableDefinition, current: Option<&Protocol>) -> Protocol {
    let has_constraints = !definition.constraints.is_empty();
    let has_ntz = has_timestamp_ntz(definition.schema.fields());
    let has_vectors = definition.properties.get(VECTORS).is_some_and(|is_on| is_on == "true");
    let (mut reader, mut writer) = (1, if has_constraints { 3 } else { 2 });
    let mut reader_features: Vec<String> = Vec::new();
    let mut writer_features: Vec<String> = Vec::new();
    if let Some(current) = current {
        reader = reader.max(current.min_reader_version);
        writer = writer.max(current.min_writer_version);
        reader_features.extend(current.reader_features.iter().flatten().cloned());
        writer_features.extend(current.writer_features.iter().flatten().cloned());
    }
    if has_ntz || has_vectors || writer >= 7 {
        // Going to features, all that the version stood for must be named.
        let old = current.map_or(2, |protocol| protocol.min_writer_version);
        let implied = [
            (2, "appendOnly"),
            (2, "invariants"),
            (3, "checkConstraints"),
            (4, "changeDataFeed"),
            (4, "generatedColumns"),
            (5, "columnMapping"),
            (6, "identityColumns"),
        ];
        if old < 7 {
            let least = if has_constraints { old.max(3) } else { old };
            writer_features
                .extend(implied.iter().filter(|(from, _)| *from <= least).map(|(_, name)| (*name).to_owned()));
        } else if has_constraints {
            writer_features.push("checkConstraints".into());
        }
        let (old_reader, added) = (reader, [(has_ntz, "timestampNtz"), (has_vectors, "deletionVectors")]);
        for feature in added.into_iter().filter(|(is_needed, _)| *is_needed).map(|(_, feature)| feature) {
            if old_reader == 2 {
                reader_features.push("columnMapping".into());
            }
            (reader, writer) = (3, 7);
            reader_features.push(feature.into());
            writer_features.push(feature.into());
        }
    }
    for features in [&mut reader_features, &mut writer_features] {
        features.sort_unstable();
        features.dedup();
    }
    Protocol {
        min_reader_version: reader,
        min_writer_version: writer,
        reader_features: (reader >= 3).then_some(reader_features),
        writer_features: (writer >= 7).then_some(writer_features),
    }
}
