//! Avro object container files, as far as manifests need them. Source: Avro 1.11 specification, "Object Container Files".
//!
//! The schemas of manifests are fixed, so that rows are encoded and decoded field by field; a general Avro library would
//! bring a tree of values and some twenty crates for it.

use std::io::{Read, Write};

use flate2::Compression;
use flate2::read::DeflateDecoder;
use flate2::write::DeflateEncoder;

const MAGIC: &[u8] = b"Obj\x01";
const SYNC_BYTES: usize = 16;
/// Encoded rows above which a block is closed.
const BLOCK_BYTES: usize = 256 << 10;
/// Inflated bytes above which a file is refused; 2,000 data files with bounds of 100 columns have some 20 MB.
const INFLATED_BYTES_MAX: u64 = 512 << 20;

/// The encoded fields of rows.
#[derive(Debug, Default)]
pub(crate) struct Encoder {
    bytes: Vec<u8>,
}

impl Encoder {
    pub(crate) fn long(&mut self, value: i64) {
        let mut rest = ((value << 1) ^ (value >> 63)) as u64;
        while rest >= 0x80 {
            self.bytes.push((rest as u8 & 0x7F) | 0x80);
            rest >>= 7;
        }
        self.bytes.push(rest as u8);
    }

    pub(crate) fn bool(&mut self, value: bool) {
        self.bytes.push(u8::from(value));
    }

    pub(crate) fn bytes(&mut self, value: &[u8]) {
        self.long(value.len() as i64);
        self.raw(value);
    }

    pub(crate) fn text(&mut self, value: &str) {
        self.bytes(value.as_bytes());
    }

    /// Bytes without their length: fixed values and floats.
    pub(crate) fn raw(&mut self, value: &[u8]) {
        self.bytes.extend_from_slice(value);
    }

    /// The branch of a `["null", …]` union; the value follows when there is one.
    pub(crate) fn is_some(&mut self, is_some: bool) {
        self.long(i64::from(is_some));
    }

    /// The head of an array of `count` items in one block. After the items comes `end_array`.
    pub(crate) fn begin_array(&mut self, count: usize) {
        if count > 0 {
            self.long(count as i64);
        }
    }

    pub(crate) fn end_array(&mut self) {
        self.long(0);
    }
}

/// Collects rows into a container file.
pub(crate) struct Container {
    file: Encoder,
    sync: [u8; SYNC_BYTES],
    block: Encoder,
    rows: i64,
}

impl Container {
    /// `sync` marks the ends of blocks: any bytes that are random.
    pub(crate) fn new(schema: &str, metadata: &[(&str, String)], sync: [u8; SYNC_BYTES]) -> Self {
        let mut file = Encoder::default();
        file.raw(MAGIC);
        file.begin_array(metadata.len() + 2);
        for (key, value) in [("avro.schema", schema), ("avro.codec", "deflate")] {
            file.text(key);
            file.text(value);
        }
        for (key, value) in metadata {
            file.text(key);
            file.text(value);
        }
        file.end_array();
        file.raw(&sync);
        Self { file, sync, block: Encoder::default(), rows: 0 }
    }

    /// Appends one row, which `encode` writes field by field.
    pub(crate) fn row(&mut self, encode: impl FnOnce(&mut Encoder)) -> std::io::Result<()> {
        encode(&mut self.block);
        self.rows += 1;
        if self.block.bytes.len() >= BLOCK_BYTES { self.close_block() } else { Ok(()) }
    }

    fn close_block(&mut self) -> std::io::Result<()> {
        if self.rows > 0 {
            let mut deflate = DeflateEncoder::new(Vec::new(), Compression::fast());
            deflate.write_all(&self.block.bytes)?;
            self.file.long(self.rows);
            self.file.bytes(&deflate.finish()?);
            self.file.raw(&self.sync);
            self.block.bytes.clear();
            self.rows = 0;
        }
        Ok(())
    }

    pub(crate) fn finish(mut self) -> std::io::Result<Vec<u8>> {
        self.close_block()?;
        Ok(self.file.bytes)
    }
}

/// Reads encoded fields. Every error is what is wrong with the bytes.
pub(crate) struct Decoder<'a> {
    bytes: &'a [u8],
}

impl<'a> Decoder<'a> {
    pub(crate) fn long(&mut self) -> Result<i64, String> {
        let mut value = 0_u64;
        for shift in (0..70).step_by(7) {
            let (byte, rest) = self.bytes.split_first().ok_or("the bytes end inside a number")?;
            self.bytes = rest;
            value |= u64::from(byte & 0x7F).checked_shl(shift).unwrap_or(0);
            if byte & 0x80 == 0 {
                return Ok((value >> 1) as i64 ^ -((value & 1) as i64));
            }
        }
        Err("a number is too long".into())
    }

    pub(crate) fn raw(&mut self, count: usize) -> Result<&'a [u8], String> {
        let (value, rest) = self.bytes.split_at_checked(count).ok_or("the bytes end inside a value")?;
        self.bytes = rest;
        Ok(value)
    }

    pub(crate) fn bytes(&mut self) -> Result<&'a [u8], String> {
        let count = usize::try_from(self.long()?).map_err(|_| "a length is negative")?;
        self.raw(count)
    }

    pub(crate) fn text(&mut self) -> Result<&'a str, String> {
        std::str::from_utf8(self.bytes()?).map_err(|_| "a text is not UTF-8".to_owned())
    }

    pub(crate) fn bool(&mut self) -> Result<bool, String> {
        match self.raw(1)? {
            [0] => Ok(false),
            [1] => Ok(true),
            _ => Err("a boolean is neither 0 nor 1".into()),
        }
    }

    /// The branch of a `["null", …]` union.
    pub(crate) fn is_some(&mut self) -> Result<bool, String> {
        match self.long()? {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(format!("branch {other} of a union of two")),
        }
    }

    /// Calls `item` for each item of an array or map.
    pub(crate) fn array(&mut self, mut item: impl FnMut(&mut Self) -> Result<(), String>) -> Result<(), String> {
        loop {
            let count = match self.long()? {
                0 => return Ok(()),
                count if count > 0 => count as u64,
                // A negative count is followed by the size of the block.
                count => {
                    self.long()?;
                    count.unsigned_abs()
                }
            };
            for _ in 0..count {
                if self.bytes.is_empty() {
                    return Err("the bytes end inside an array".into());
                }
                item(self)?;
            }
        }
    }
}

/// A container file that was opened: what its header says, and its blocks.
pub(crate) struct Opened<'a> {
    metadata: Vec<(&'a str, &'a [u8])>,
    sync: &'a [u8],
    rest: &'a [u8],
}

impl<'a> Opened<'a> {
    /// Errors: what is wrong with the header.
    pub(crate) fn new(file: &'a [u8]) -> Result<Self, String> {
        let mut decoder = Decoder { bytes: file.strip_prefix(MAGIC).ok_or("it is no Avro file")? };
        let mut metadata = Vec::new();
        decoder.array(|decoder| {
            metadata.push((decoder.text()?, decoder.bytes()?));
            Ok(())
        })?;
        let sync = decoder.raw(SYNC_BYTES)?;
        let opened = Self { metadata, sync, rest: decoder.bytes };
        match opened.get("avro.codec") {
            Some("deflate") => Ok(opened),
            other => Err(format!("codec {}", other.unwrap_or("null"))),
        }
    }

    pub(crate) fn get(&self, key: &str) -> Option<&'a str> {
        let (_, value) = self.metadata.iter().find(|(name, _)| *name == key)?;
        std::str::from_utf8(value).ok()
    }

    /// Decodes all rows with `row`. Errors: what is wrong, also when a block holds more or less than its rows.
    pub(crate) fn rows<T>(&self, row: impl Fn(&mut Decoder<'_>) -> Result<T, String>) -> Result<Vec<T>, String> {
        let mut rows = Vec::new();
        let mut blocks = Decoder { bytes: self.rest };
        let mut left = INFLATED_BYTES_MAX;
        while !blocks.bytes.is_empty() {
            let count = blocks.long()?;
            let packed = blocks.bytes()?;
            if blocks.raw(SYNC_BYTES)? != self.sync {
                return Err("a block does not end with the mark of the file".into());
            }
            let mut bytes = Vec::new();
            DeflateDecoder::new(packed).take(left + 1).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
            left = left.checked_sub(bytes.len() as u64).ok_or("its blocks are too large")?;
            let mut block = Decoder { bytes: &bytes };
            for _ in 0..count {
                rows.push(row(&mut block)?);
            }
            if !block.bytes.is_empty() {
                return Err("a block holds more than its rows".into());
            }
        }
        Ok(rows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(rows: i64) -> Vec<u8> {
        let mut container = Container::new("\"long\"", &[("k", "v".into())], [7; SYNC_BYTES]);
        for row in 0..rows {
            container.row(|encoder| encoder.long(row - 5)).unwrap();
        }
        container.finish().unwrap()
    }

    #[test]
    fn rows_come_back() {
        for rows in [0, 1, 300_000] {
            let file = file(rows);
            let opened = Opened::new(&file).unwrap();
            assert_eq!(opened.get("k"), Some("v"));
            assert_eq!(opened.rows(|row| row.long()).unwrap(), (-5..rows - 5).collect::<Vec<_>>());
        }
    }

    #[test]
    fn numbers_are_zigzag() {
        for value in [0, -1, 1, 63, 64, -64, -65, i64::MAX, i64::MIN] {
            let mut encoder = Encoder::default();
            encoder.long(value);
            assert_eq!(Decoder { bytes: &encoder.bytes }.long(), Ok(value));
        }
    }

    #[test]
    fn every_cut_of_a_file_is_an_error() {
        let file = file(100);
        let read = |bytes: &[u8]| Opened::new(bytes).and_then(|opened| opened.rows(|row| row.long()));
        let header = file.len() - (file.len() - file.windows(SYNC_BYTES).position(|at| at == [7; 16]).unwrap() - 16);
        for cut in (0..file.len()).filter(|cut| *cut != header) {
            assert!(read(&file[..cut]).is_err(), "cut at {cut}");
        }
        let huge = [MAGIC, &[0xFF; 12]].concat();
        assert!(Opened::new(&huge).is_err());
    }
}
