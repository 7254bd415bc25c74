//! The actions of a Delta log as serde structs. Source: Delta protocol, "Actions".

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::deletion_vector::Descriptor;
use crate::{DataFile, FileStats, LakeError, StorePath, Txn};

/// One line of a commit or one row of a checkpoint. Actions that Lode has no use for are skipped.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Line {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) commit_info: Option<CommitInfo>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) protocol: Option<Protocol>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) meta_data: Option<MetaData>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) txn: Option<TxnAction>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) remove: Option<Remove>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) add: Option<Add>,
    #[serde(skip_serializing)]
    pub(crate) sidecar: Option<Sidecar>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CommitInfo {
    pub(crate) timestamp: Option<i64>,
    pub(crate) operation: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) operation_parameters: Option<BTreeMap<String, Value>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) operation_metrics: Option<BTreeMap<String, Value>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) read_version: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) is_blind_append: Option<bool>,
    pub(crate) engine_info: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) txn_id: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Protocol {
    pub(crate) min_reader_version: i32,
    pub(crate) min_writer_version: i32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reader_features: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) writer_features: Option<Vec<String>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct MetaData {
    pub(crate) id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) description: Option<String>,
    pub(crate) format: Format,
    pub(crate) schema_string: String,
    #[serde(default)]
    pub(crate) partition_columns: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) created_time: Option<i64>,
    #[serde(default)]
    pub(crate) configuration: BTreeMap<String, Option<String>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Format {
    pub(crate) provider: String,
    #[serde(default)]
    pub(crate) options: BTreeMap<String, Option<String>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct TxnAction {
    pub(crate) app_id: String,
    pub(crate) version: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) last_updated: Option<i64>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Add {
    /// URL-encoded, relative to the table or absolute.
    pub(crate) path: String,
    #[serde(default)]
    pub(crate) partition_values: BTreeMap<String, Option<String>>,
    pub(crate) size: u64,
    pub(crate) modification_time: i64,
    #[serde(default)]
    pub(crate) data_change: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) stats: Option<String>,
    /// In checkpoints of some writers instead of `stats`.
    #[serde(rename = "stats_parsed", skip_serializing)]
    pub(crate) stats_parsed: Option<Stats>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tags: Option<BTreeMap<String, Option<String>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) deletion_vector: Option<Descriptor>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Remove {
    pub(crate) path: String,
    pub(crate) deletion_timestamp: Option<i64>,
    #[serde(default)]
    pub(crate) data_change: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) extended_file_metadata: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) partition_values: Option<BTreeMap<String, Option<String>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) size: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) deletion_vector: Option<Descriptor>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Sidecar {
    pub(crate) path: String,
}

/// `add.stats`. Source: Delta protocol, "Per-file Statistics".
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Stats {
    num_records: Option<u64>,
    /// False where a deletion vector took rows that the bounds were made of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tight_bounds: Option<bool>,
    #[serde(default)]
    min_values: serde_json::Map<String, Value>,
    #[serde(default)]
    max_values: serde_json::Map<String, Value>,
    #[serde(default)]
    null_count: serde_json::Map<String, Value>,
}

/// What one commit says.
#[derive(Debug, Default)]
pub(crate) struct Commit {
    pub(crate) info: CommitInfo,
    pub(crate) protocol: Option<Protocol>,
    pub(crate) meta_data: Option<MetaData>,
    pub(crate) txns: Vec<Txn>,
    pub(crate) adds: Vec<Add>,
    pub(crate) removes: Vec<Remove>,
    pub(crate) sidecars: Vec<Sidecar>,
}

impl Commit {
    /// Reads lines of JSON. Errors: `Corrupt` with `path` and the line.
    pub(crate) fn parse(bytes: &[u8], path: &StorePath) -> Result<Self, LakeError> {
        let mut commit = Self::default();
        let mut is_empty = true;
        for (at, text) in bytes.split(|byte| *byte == b'\n').enumerate() {
            if text.trim_ascii().is_empty() {
                continue;
            }
            is_empty = false;
            let line: Line = serde_json::from_slice(text).map_err(|error| LakeError::Corrupt {
                path: path.to_string(),
                reason: format!("line {}: {error}", at + 1),
            })?;
            commit.take(line);
        }
        if is_empty {
            return Err(LakeError::Corrupt { path: path.to_string(), reason: "it is empty".into() });
        }
        Ok(commit)
    }

    pub(crate) fn take(&mut self, line: Line) {
        if let Some(info) = line.commit_info {
            self.info = info;
        }
        self.protocol = line.protocol.or(self.protocol.take());
        self.meta_data = line.meta_data.or(self.meta_data.take());
        self.txns.extend(line.txn.map(|txn| Txn { app_id: txn.app_id, version: txn.version }));
        self.adds.extend(line.add);
        self.removes.extend(line.remove);
        self.sidecars.extend(line.sidecar);
    }

    /// One JSON object a line, in the order that readers like: information first, files last.
    pub(crate) fn to_bytes(&self, now_ms: i64) -> Result<Vec<u8>, serde_json::Error> {
        let mut lines = vec![Line { commit_info: Some(self.info.clone()), ..Default::default() }];
        lines.extend(self.protocol.clone().map(|protocol| Line { protocol: Some(protocol), ..Default::default() }));
        lines.extend(self.meta_data.clone().map(|meta| Line { meta_data: Some(meta), ..Default::default() }));
        lines.extend(self.txns.iter().map(|txn| {
            let txn = TxnAction { app_id: txn.app_id.clone(), version: txn.version, last_updated: Some(now_ms) };
            Line { txn: Some(txn), ..Default::default() }
        }));
        lines.extend(self.removes.iter().map(|file| Line { remove: Some(file.clone()), ..Default::default() }));
        lines.extend(self.adds.iter().map(|file| Line { add: Some(file.clone()), ..Default::default() }));
        let mut bytes = Vec::new();
        for line in lines {
            serde_json::to_writer(&mut bytes, &line)?;
            bytes.push(b'\n');
        }
        Ok(bytes)
    }
}

impl Add {
    pub(crate) fn of(
        file: &DataFile,
        vector: Option<Descriptor>,
        data_change: bool,
    ) -> Result<Self, serde_json::Error> {
        let stats = file.stats.as_ref().map(|stats| {
            serde_json::to_string(&Stats {
                num_records: Some(stats.num_records),
                tight_bounds: vector.is_some().then_some(false),
                min_values: stats.min_values.clone(),
                max_values: stats.max_values.clone(),
                null_count: stats.null_count.clone(),
            })
        });
        let tags = file.tags.iter().map(|(key, value)| (key.clone(), Some(value.clone()))).collect();
        Ok(Self {
            path: encode_path(&file.path),
            partition_values: file.partition_values.clone(),
            size: file.size_bytes,
            modification_time: file.modified_ms,
            data_change,
            stats: stats.transpose()?,
            stats_parsed: None,
            tags: (!file.tags.is_empty()).then_some(tags),
            deletion_vector: vector,
        })
    }

    /// Errors: what is wrong with the path or the statistics.
    pub(crate) fn into_file(self) -> Result<(Arc<DataFile>, Option<Arc<Descriptor>>), String> {
        let stats = match (self.stats, self.stats_parsed) {
            (Some(text), _) => {
                Some(serde_json::from_str::<Stats>(&text).map_err(|error| format!("statistics: {error}"))?)
            }
            (None, parsed) => parsed,
        };
        let stats = stats.and_then(|stats| {
            Some(FileStats {
                num_records: stats.num_records?,
                min_values: stats.min_values,
                max_values: stats.max_values,
                null_count: stats.null_count,
            })
        });
        let file = DataFile {
            path: decode_path(&self.path)?,
            size_bytes: self.size,
            // Delta: an empty text is NULL, whatever the type.
            partition_values: self
                .partition_values
                .into_iter()
                .map(|(column, value)| (column, value.filter(|value| !value.is_empty())))
                .collect(),
            modified_ms: self.modification_time,
            stats,
            tags: self.tags.into_iter().flatten().filter_map(|(key, value)| Some((key, value?))).collect(),
        };
        Ok((Arc::new(file), self.deletion_vector.map(Arc::new)))
    }
}

/// URL-encodes what a URI path may not hold. Source: RFC 2396, as the Delta protocol asks.
pub(crate) fn encode_path(path: &str) -> String {
    let mut encoded = String::with_capacity(path.len());
    for byte in path.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' => encoded.push(byte as char),
            b'/' | b'-' | b'_' | b'.' | b'~' | b'=' | b'!' | b'$' | b'&' | b'(' | b')' | b'*' | b'+' | b',' | b';'
            | b'@' => encoded.push(byte as char),
            other => encoded.push_str(&format!("%{other:02X}")),
        }
    }
    encoded
}

pub(crate) fn decode_path(path: &str) -> Result<String, String> {
    let mut decoded = Vec::with_capacity(path.len());
    let mut bytes = path.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            decoded.push(byte);
            continue;
        }
        let digits = [bytes.next(), bytes.next()].map(|digit| digit.and_then(|digit| (digit as char).to_digit(16)));
        match digits {
            [Some(high), Some(low)] => decoded.push((high * 16 + low) as u8),
            _ => return Err(format!("path \"{path}\" is not URL-encoded")),
        }
    }
    String::from_utf8(decoded).map_err(|_| format!("path \"{path}\" is not UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_go_there_and_back() {
        for path in ["a.parquet", "region=a%20b/ü x.parquet", "p=1:2#3?/y"] {
            assert_eq!(decode_path(&encode_path(path)).unwrap(), path);
        }
        assert!(decode_path("a%2").is_err());
    }

    #[test]
    fn a_torn_commit_is_named() {
        let error = Commit::parse(b"{\"commitInfo\":{}}\n{\"add\":{\"pa", &StorePath::from("t/1.json")).unwrap_err();
        assert!(matches!(error, LakeError::Corrupt { reason, .. } if reason.starts_with("line 2")));
        assert!(Commit::parse(b"\0\0\0\0", &StorePath::from("x")).is_err());
    }
}
