//! A Parquet file that several threads read at once.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use parquet::errors::{ParquetError, Result};
use parquet::file::reader::{ChunkReader, Length};

/// Reads by position. The clones of a `File` share one position, which threads would move under each other's feet.
#[derive(Clone)]
pub(super) struct Chunks {
    file: Arc<File>,
    size_bytes: u64,
}

/// Bytes from one place on.
pub(super) struct From {
    chunks: Chunks,
    at: u64,
}

impl Chunks {
    pub(super) fn new(file: File) -> io::Result<Self> {
        let size_bytes = file.metadata()?.len();
        Ok(Self { file: Arc::new(file), size_bytes })
    }
}

impl Length for Chunks {
    fn len(&self) -> u64 {
        self.size_bytes
    }
}

impl Read for From {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.chunks.file.read_at(buffer, self.at)?;
        self.at += read as u64;
        Ok(read)
    }
}

impl ChunkReader for Chunks {
    type T = BufReader<From>;

    fn get_read(&self, start: u64) -> Result<Self::T> {
        Ok(BufReader::new(From { chunks: self.clone(), at: start }))
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes> {
        // A damaged footer may ask for more than there is.
        let end = start.checked_add(length as u64).filter(|end| *end <= self.size_bytes);
        if end.is_none() {
            return Err(ParquetError::EOF(format!("{length} bytes from {start} on are more than the file has")));
        }
        let mut bytes = BytesMut::zeroed(length);
        self.file.read_exact_at(&mut bytes, start)?;
        Ok(bytes.freeze())
    }
}
