//! Deletion vectors: rows of a file that are dead. Source: Delta protocol, "Deletion Vectors".

use bytes::Bytes;
use parquet::arrow::arrow_reader::{RowSelection, RowSelector};
use roaring::RoaringTreemap;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use lode_core::ErrorKind;

use crate::{LakeError, Store, StorePath};

/// First bytes of the portable 64-bit bitmap, little-endian.
const MAGIC: u32 = 1_681_511_377;
/// Version of the file of vectors, its first byte.
const FILE_VERSION: u8 = 1;
/// Folder of our vectors below a table. A name that begins so outlives another writer's full vacuum.
const FOLDER: &str = "_dv";
const Z85: &[u8; 85] = b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#";

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Descriptor {
    /// `u`: a file named by a uuid below the table, `i`: inline, `p`: an absolute path.
    pub(crate) storage_type: String,
    pub(crate) path_or_inline_dv: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) offset: Option<u64>,
    pub(crate) size_in_bytes: u64,
    pub(crate) cardinality: u64,
}

impl Descriptor {
    /// A vector in a file that `write` made. `offset` is the place of its block.
    fn stored(id: Uuid, offset: usize, size: usize, rows: &RoaringTreemap) -> Self {
        Self {
            storage_type: "u".into(),
            path_or_inline_dv: format!("{FOLDER}{}", to_z85(id.as_bytes())),
            offset: Some(offset as u64),
            size_in_bytes: size as u64,
            cardinality: rows.len(),
        }
    }

    /// With the path of its file, what the log knows a file by.
    pub(crate) fn unique_id(&self) -> String {
        match self.offset {
            Some(offset) => format!("{}{}@{offset}", self.storage_type, self.path_or_inline_dv),
            None => format!("{}{}", self.storage_type, self.path_or_inline_dv),
        }
    }

    /// Reads the positions (from 0) of the dead rows. `location` is the table's folder.
    /// Errors: `Corrupt`, `NotFound`, `Store`, `Unsupported` for a vector outside the store.
    pub(crate) async fn read(&self, store: &Store, location: &str) -> Result<RoaringTreemap, LakeError> {
        let (path, rows) = match self.storage_type.as_str() {
            "i" => {
                let path = StorePath::from(location);
                let bytes = z85(&self.path_or_inline_dv).ok_or_else(|| corrupt(&path, "inline vector is not Z85"))?;
                let bytes = bytes.get(..self.size_in_bytes as usize).ok_or_else(|| corrupt(&path, "short vector"))?;
                let rows = bitmap(bytes).map_err(|reason| corrupt(&path, reason))?;
                (path, rows)
            }
            _ => {
                let path = self.path(store, location)?;
                let bytes = store.get(&path).await?;
                let rows = self.block(&bytes).and_then(bitmap).map_err(|reason| corrupt(&path, reason))?;
                (path, rows)
            }
        };
        if rows.len() != self.cardinality {
            let reason = format!("deletion vector holds {} rows, the log says {}", rows.len(), self.cardinality);
            return Err(corrupt(&path, reason));
        }
        Ok(rows)
    }

    /// The file that holds it; `None` for one that stands in the log, or outside of the store.
    pub(crate) fn file(&self, store: &Store, location: &str) -> Option<StorePath> {
        (self.storage_type != "i").then(|| self.path(store, location).ok())?
    }

    fn path(&self, store: &Store, location: &str) -> Result<StorePath, LakeError> {
        let text = &self.path_or_inline_dv;
        let wrong = || corrupt(&StorePath::from(location), format!("deletion vector \"{text}\" has no valid name"));
        if self.storage_type == "u" {
            let split = text.len().checked_sub(20).filter(|at| text.is_char_boundary(*at)).ok_or_else(wrong)?;
            let (prefix, name) = text.split_at(split);
            let id = z85(name).and_then(|bytes| Uuid::from_slice(&bytes).ok()).ok_or_else(wrong)?;
            let folder = if prefix.is_empty() { location.to_owned() } else { format!("{location}/{prefix}") };
            return StorePath::parse(format!("{folder}/deletion_vector_{id}.bin")).map_err(|_| wrong());
        }
        // Absolute: only below the store's own root.
        match store.below(&super::action::decode_path(text).map_err(|_| wrong())?) {
            Some(below) if self.storage_type == "p" => Ok(below),
            _ => Err(LakeError::Unsupported {
                table: location.to_owned(),
                feature: format!("the deletion vector \"{text}\" outside the lake"),
            }),
        }
    }

    /// The bitmap in its file: length (big-endian), bitmap, CRC-32 (big-endian).
    fn block<'a>(&self, bytes: &'a Bytes) -> Result<&'a [u8], String> {
        let start = self.offset.unwrap_or(0) as usize;
        let part = |from: usize, len: usize| {
            from.checked_add(len).and_then(|end| bytes.get(from..end)).ok_or("the file ends before its vector")
        };
        let number = |from: usize| -> Result<u32, String> {
            Ok(part(from, 4)?.try_into().map(u32::from_be_bytes).map_err(|_| "short number")?)
        };
        let size = number(start)? as usize;
        if size as u64 != self.size_in_bytes {
            return Err(format!("vector of {size} bytes, the log says {}", self.size_in_bytes));
        }
        let block = part(start + 4, size)?;
        if number(start + 4 + size)? != crc32(block) {
            return Err("checksum of the vector does not fit".into());
        }
        Ok(block)
    }
}

/// Writes vectors into one new file below the table; returns one descriptor each, in order.
/// Errors: `Store`.
/// Source: Delta protocol, "Deletion Vector File Storage Format".
pub(crate) async fn write(
    store: &Store,
    location: &str,
    vectors: &[RoaringTreemap],
) -> Result<Vec<Descriptor>, LakeError> {
    if vectors.is_empty() {
        return Ok(Vec::new());
    }
    let id = Uuid::new_v4();
    let path = super::log::at(&format!("{location}/{FOLDER}/deletion_vector_{id}.bin"));
    let mut file = vec![FILE_VERSION];
    let mut descriptors = Vec::with_capacity(vectors.len());
    for rows in vectors {
        let mut block = MAGIC.to_le_bytes().to_vec();
        rows.serialize_into(&mut block).map_err(|error| LakeError::Store {
            action: "write",
            path: path.to_string(),
            kind: ErrorKind::Internal,
            source: Box::new(error),
        })?;
        descriptors.push(Descriptor::stored(id, file.len(), block.len(), rows));
        file.extend_from_slice(&(block.len() as u32).to_be_bytes());
        file.extend_from_slice(&block);
        file.extend_from_slice(&crc32(&block).to_be_bytes());
    }
    store.put(&path, file.into()).await?;
    Ok(descriptors)
}

/// Positions as text, for a seal: Z85 of the portable bitmap, filled up with zeros.
pub(crate) mod positions {
    use roaring::RoaringTreemap;
    use serde::de::Error as _;
    use serde::ser::Error as _;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(rows: &RoaringTreemap, serializer: S) -> Result<S::Ok, S::Error> {
        let mut bytes = Vec::with_capacity(rows.serialized_size() + 3);
        rows.serialize_into(&mut bytes).map_err(S::Error::custom)?;
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        serializer.serialize_str(&super::to_z85(&bytes))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<RoaringTreemap, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bytes = super::z85(&text).ok_or_else(|| D::Error::custom("positions are not Z85"))?;
        RoaringTreemap::deserialize_from(bytes.as_slice()).map_err(D::Error::custom)
    }
}

fn corrupt(path: &StorePath, reason: impl Into<String>) -> LakeError {
    LakeError::Corrupt { path: path.to_string(), reason: reason.into() }
}

fn bitmap(bytes: &[u8]) -> Result<RoaringTreemap, String> {
    match bytes.split_first_chunk::<4>() {
        Some((magic, rest)) if u32::from_le_bytes(*magic) == MAGIC => {
            RoaringTreemap::deserialize_from(rest).map_err(|error| error.to_string())
        }
        _ => Err("unknown form of deletion vector".into()),
    }
}

fn crc32(bytes: &[u8]) -> u32 {
    crc32fast::hash(bytes)
}

/// Source: ZeroMQ RFC 32. A rest of less than four bytes is left out: callers have none.
fn to_z85(bytes: &[u8]) -> String {
    let (words, _) = bytes.as_chunks::<4>();
    let mut text = String::with_capacity(words.len() * 5);
    for word in words {
        let value = u32::from_be_bytes(*word);
        for place in [85_u32.pow(4), 85_u32.pow(3), 85_u32.pow(2), 85, 1] {
            text.push(char::from(Z85[(value / place % 85) as usize]));
        }
    }
    text
}

/// Source: ZeroMQ RFC 32. `None` when the text is not Z85.
fn z85(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() / 5 * 4);
    for chunk in text.as_bytes().chunks(5) {
        let mut value = 0_u32;
        for symbol in chunk {
            let digit = Z85.iter().position(|known| known == symbol)? as u32;
            value = value.checked_mul(85)?.checked_add(digit)?;
        }
        (chunk.len() == 5).then_some(())?;
        bytes.extend_from_slice(&value.to_be_bytes());
    }
    Some(bytes)
}

/// The rows of a file of `total` rows that are alive, as a parquet scan takes them.
pub(crate) fn live_rows(dead: &RoaringTreemap, total: u64) -> RowSelection {
    let mut selectors: Vec<RowSelector> = Vec::new();
    let (mut at, mut dead_run) = (0_u64, 0_u64);
    for row in dead.iter().filter(|row| *row < total) {
        if row > at + dead_run {
            selectors.extend((dead_run > 0).then(|| RowSelector::skip(dead_run as usize)));
            selectors.push(RowSelector::select((row - at - dead_run) as usize));
            at = row;
            dead_run = 1;
        } else {
            dead_run += 1;
        }
    }
    selectors.extend((dead_run > 0).then(|| RowSelector::skip(dead_run as usize)));
    selectors.extend((total > at + dead_run).then(|| RowSelector::select((total - at - dead_run) as usize)));
    RowSelection::from(selectors)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn live_rows_skip_the_dead() {
        let dead: RoaringTreemap = [0, 1, 5, 9].into_iter().collect();
        let wanted = vec![
            RowSelector::skip(2),
            RowSelector::select(3),
            RowSelector::skip(1),
            RowSelector::select(3),
            RowSelector::skip(1),
        ];
        assert_eq!(live_rows(&dead, 10), RowSelection::from(wanted));
        assert_eq!(live_rows(&RoaringTreemap::new(), 3), RowSelection::from(vec![RowSelector::select(3)]));
        assert_eq!(live_rows(&(0..3).collect(), 3).row_count(), 0);
    }

    #[tokio::test]
    async fn an_inline_vector_of_another_writer_is_read() {
        // Source: delta-kernel-rs, `actions/deletion_vector.rs`, its test of inline vectors.
        let descriptor = Descriptor {
            storage_type: "i".into(),
            path_or_inline_dv: "^Bg9^0rr910000000000iXQKl0rr91000f55c8Xg0@@D72lkbi5=-{L".into(),
            offset: None,
            size_in_bytes: 44,
            cardinality: 6,
        };
        let rows = descriptor.read(&Store::memory(), "t").await.unwrap();
        assert_eq!(rows.iter().collect::<Vec<_>>(), [3, 4, 7, 11, 18, 29]);
    }

    #[tokio::test]
    async fn vectors_are_written_into_one_file_and_read_back() {
        let store = Store::memory();
        let vectors: [RoaringTreemap; 2] = [[0, 5].into_iter().collect(), (0..100_000).chain([1 << 40]).collect()];
        let descriptors = write(&store, "a/t", &vectors).await.unwrap();
        assert_eq!(descriptors.iter().map(|one| one.cardinality).collect::<Vec<_>>(), [2, 100_001]);
        for (descriptor, rows) in descriptors.iter().zip(&vectors) {
            assert_eq!(&descriptor.read(&store, "a/t").await.unwrap(), rows);
        }
        assert_eq!(to_z85(&z85("ab^-aqEH.-t@S}K{vb[*").unwrap()), "ab^-aqEH.-t@S}K{vb[*");
    }

    #[test]
    fn positions_stand_in_a_seal_as_text() {
        for rows in [RoaringTreemap::new(), [7].into_iter().collect(), (0..1_000).chain([1 << 35]).collect()] {
            let dead = crate::DeadRows { path: "f".into(), rows };
            let text = serde_json::to_string(&dead).unwrap();
            assert_eq!(serde_json::from_str::<crate::DeadRows>(&text).unwrap(), dead);
        }
        assert!(serde_json::from_str::<crate::DeadRows>("{\"path\":\"f\",\"rows\":\"~\"}").is_err());
    }

    #[tokio::test]
    async fn a_vector_file_is_read_and_its_damage_found() {
        let store = Store::memory();
        let mut block = MAGIC.to_le_bytes().to_vec();
        let rows: RoaringTreemap = [1, 7, 1 << 33].into_iter().collect();
        rows.serialize_into(&mut block).unwrap();
        let mut file = vec![1];
        file.extend_from_slice(&(block.len() as u32).to_be_bytes());
        file.extend_from_slice(&block);
        file.extend_from_slice(&crc32(&block).to_be_bytes());
        // Source: Delta protocol, example of a relative vector: uuid d2c639aa-8816-431a-aaf6-d3fe2512ff61.
        let path = StorePath::from("t/ab/deletion_vector_d2c639aa-8816-431a-aaf6-d3fe2512ff61.bin");
        store.put(&path, file.clone().into()).await.unwrap();
        let descriptor = Descriptor {
            storage_type: "u".into(),
            path_or_inline_dv: "ab^-aqEH.-t@S}K{vb[*k^".into(),
            offset: Some(1),
            size_in_bytes: block.len() as u64,
            cardinality: 3,
        };
        assert_eq!(descriptor.read(&store, "t").await.unwrap(), rows);
        file[20] ^= 1;
        store.put(&path, file.into()).await.unwrap();
        assert!(matches!(descriptor.read(&store, "t").await, Err(LakeError::Corrupt { .. })));
    }
}
