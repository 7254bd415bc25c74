//! A run on disk: entries sorted by key in blocks, then what it covers and where each block begins.
//!
//! ```text
//! "LODEKIX1"
//! blocks of 1,024 entries: key u128 BE, file u32 LE, position u32 LE
//! fences: for each block its first key u128 BE and its CRC-32 u32 LE
//! about: JSON (`About`)
//! fences_bytes u64 LE, about_bytes u32 LE, CRC-32 of fences and about u32 LE, "LODEKIX1"
//! ```

use std::ops::Range;

use bytes::Bytes;
use object_store::ObjectStoreExt;
use serde::{Deserialize, Serialize};

use crate::store::object_error;
use crate::{LakeError, Store, StorePath};

const MAGIC: &[u8; 8] = b"LODEKIX1";
pub(super) const ENTRY_BYTES: usize = 24;
pub(super) const BLOCK_ENTRIES: usize = 1_024;
const BLOCK_BYTES: usize = ENTRY_BYTES * BLOCK_ENTRIES;
const FENCE_BYTES: usize = 20;
const TAIL_BYTES: u64 = 24;
/// What a footer may take: fences of 10 billion rows, and paths of a million files.
const FOOTER_MAX_BYTES: u64 = 512 << 20;

/// One row: where a key stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Entry {
    pub(super) key: u128,
    pub(super) file: u32,
    pub(super) position: u32,
}

/// What a run holds.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct About {
    /// Of the encoder: other keys do not compare.
    pub(super) signature: String,
    pub(super) entries: u64,
    pub(super) files: Vec<Covered>,
}

/// A file that a run covers, alone or with others.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Covered {
    /// As `DataFile::path`.
    pub(super) path: String,
    /// Entries of this file, and its rows without a key: with those of its other runs, all rows that it has.
    pub(super) entries: u64,
    pub(super) without: u64,
}

/// Puts sorted entries behind each other.
pub(super) struct Encoder {
    about: About,
    block: Vec<u8>,
    fences: Vec<u8>,
    last: Option<u128>,
}

impl Encoder {
    pub(super) fn new(signature: &str, files: Vec<Covered>) -> Self {
        let about = About { signature: signature.to_owned(), entries: 0, files };
        Self { about, block: Vec::with_capacity(BLOCK_BYTES), fences: Vec::new(), last: None }
    }

    pub(super) fn begin() -> &'static [u8] {
        MAGIC
    }

    /// Takes the next entry; gives a block that is full.
    pub(super) fn push(&mut self, entry: Entry) -> Option<Vec<u8>> {
        debug_assert!(self.last.is_none_or(|last| last <= entry.key), "entries come sorted");
        self.last = Some(entry.key);
        if self.block.is_empty() {
            self.fences.extend_from_slice(&entry.key.to_be_bytes());
        }
        self.block.extend_from_slice(&entry.key.to_be_bytes());
        self.block.extend_from_slice(&entry.file.to_le_bytes());
        self.block.extend_from_slice(&entry.position.to_le_bytes());
        self.about.entries += 1;
        (self.block.len() == BLOCK_BYTES).then(|| self.take_block())
    }

    fn take_block(&mut self) -> Vec<u8> {
        self.fences.extend_from_slice(&crc32fast::hash(&self.block).to_le_bytes());
        std::mem::replace(&mut self.block, Vec::with_capacity(BLOCK_BYTES))
    }

    /// The end of the file.
    pub(super) fn finish(mut self) -> Vec<u8> {
        let mut end = if self.block.is_empty() { Vec::new() } else { self.take_block() };
        let about = serde_json::to_vec(&self.about).unwrap_or_default();
        let mut crc = crc32fast::Hasher::new();
        crc.update(&self.fences);
        crc.update(&about);
        end.extend_from_slice(&self.fences);
        end.extend_from_slice(&about);
        end.extend_from_slice(&(self.fences.len() as u64).to_le_bytes());
        end.extend_from_slice(&(about.len() as u32).to_le_bytes());
        end.extend_from_slice(&crc.finalize().to_le_bytes());
        end.extend_from_slice(MAGIC);
        end
    }
}

/// A run that was opened: its footer, which is whole.
#[derive(Debug)]
pub(super) struct Run {
    path: StorePath,
    pub(super) about: About,
    /// First key and CRC of each block.
    fences: Vec<(u128, u32)>,
}

impl Run {
    /// Errors: `NotFound`, `Store`; `Corrupt` for what is no whole run.
    pub(super) async fn open(store: &Store, path: StorePath) -> Result<Self, LakeError> {
        let corrupt = |reason: &str| LakeError::Corrupt { path: path.to_string(), reason: reason.to_owned() };
        let meta = store.head(&path).await?.ok_or_else(|| LakeError::NotFound { path: path.to_string() })?;
        if meta.size < TAIL_BYTES + MAGIC.len() as u64 {
            return Err(corrupt("it is too short"));
        }
        let tail = read(store, &path, meta.size - TAIL_BYTES..meta.size).await?;
        let number = |from: usize, to: usize| -> u64 {
            tail.get(from..to).into_iter().flatten().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
        };
        if tail.get(16..) != Some(MAGIC.as_slice()) {
            return Err(corrupt("its end is missing"));
        }
        let (fences, about, crc) = (number(0, 8), number(8, 12), number(12, 16));
        let footer = fences.saturating_add(about);
        let before = meta.size - TAIL_BYTES;
        if footer > FOOTER_MAX_BYTES || footer > before || !fences.is_multiple_of(FENCE_BYTES as u64) {
            return Err(corrupt("its footer has no possible size"));
        }
        let footer = read(store, &path, before - footer..before).await?;
        if u64::from(crc32fast::hash(&footer)) != crc {
            return Err(corrupt("the checksum of its footer does not fit"));
        }
        let (fences, about) = footer.split_at_checked(fences as usize).ok_or_else(|| corrupt("its footer is cut"))?;
        let about: About = serde_json::from_slice(about).map_err(|error| corrupt(&error.to_string()))?;
        let fences: Vec<(u128, u32)> = fences
            .chunks_exact(FENCE_BYTES)
            .filter_map(|fence| {
                let (key, crc) = fence.split_at_checked(16)?;
                Some((u128::from_be_bytes(key.try_into().ok()?), u32::from_le_bytes(crc.try_into().ok()?)))
            })
            .collect();
        let blocks = about.entries.div_ceil(BLOCK_ENTRIES as u64);
        let entries_bytes = about.entries.saturating_mul(ENTRY_BYTES as u64);
        let has_all = entries_bytes == (before - footer.len() as u64).saturating_sub(MAGIC.len() as u64);
        if fences.len() as u64 != blocks || !has_all || !fences.is_sorted_by_key(|(key, _)| *key) {
            return Err(corrupt("its blocks do not fit its footer"));
        }
        Ok(Self { path, about, fences })
    }

    pub(super) fn blocks(&self) -> usize {
        self.fences.len()
    }

    pub(super) fn first_key(&self, block: usize) -> Option<u128> {
        self.fences.get(block).map(|(key, _)| *key)
    }

    /// Entries of blocks that follow each other. Errors: `Corrupt`, `NotFound`, `Store`.
    pub(super) async fn entries(&self, store: &Store, blocks: Range<usize>) -> Result<Vec<Entry>, LakeError> {
        let end = (blocks.end * BLOCK_ENTRIES).min(self.about.entries as usize);
        let at = |entry: usize| (MAGIC.len() + entry * ENTRY_BYTES) as u64;
        let bytes = read(store, &self.path, at(blocks.start * BLOCK_ENTRIES)..at(end)).await?;
        let mut entries = Vec::with_capacity(bytes.len() / ENTRY_BYTES);
        for (block, bytes) in blocks.zip(bytes.chunks(BLOCK_BYTES)) {
            let crc = self.fences.get(block).map(|(_, crc)| *crc);
            if crc != Some(crc32fast::hash(bytes)) {
                let reason = format!("the checksum of block {block} does not fit");
                return Err(LakeError::Corrupt { path: self.path.to_string(), reason });
            }
            entries.extend(bytes.chunks_exact(ENTRY_BYTES).filter_map(entry));
        }
        Ok(entries)
    }
}

fn entry(bytes: &[u8]) -> Option<Entry> {
    let (key, rest) = bytes.split_at_checked(16)?;
    let (file, position) = rest.split_at_checked(4)?;
    Some(Entry {
        key: u128::from_be_bytes(key.try_into().ok()?),
        file: u32::from_le_bytes(file.try_into().ok()?),
        position: u32::from_le_bytes(position.try_into().ok()?),
    })
}

async fn read(store: &Store, path: &StorePath, range: Range<u64>) -> Result<Bytes, LakeError> {
    let wanted = range.end.saturating_sub(range.start);
    if wanted == 0 {
        return Ok(Bytes::new());
    }
    let bytes = store.objects().get_range(path, range).await.map_err(|error| object_error("read", path, error))?;
    if bytes.len() as u64 != wanted {
        let reason = format!("{} of {wanted} bytes were read", bytes.len());
        return Err(LakeError::Corrupt { path: path.to_string(), reason });
    }
    Ok(bytes)
}
