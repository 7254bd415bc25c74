//! The bytes of a file: hashed while they are read, decompressed by what they are, not by how the file is named.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::Arc;

use lode_core::{ErrorKind, Place, Problem};
use parking_lot::Mutex;

use super::FileError;

const READ_BYTES: usize = 256 << 10;

/// What was read of the raw file so far.
#[derive(Debug, Default)]
struct Seen {
    hasher: blake3::Hasher,
    size_bytes: u64,
    has_failed: bool,
}

/// Reads a file and hashes what it reads.
struct HashingReader {
    file: File,
    seen: Arc<Mutex<Seen>>,
}

impl Read for HashingReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut seen = self.seen.lock();
        match self.file.read(buffer) {
            Ok(read) => {
                seen.hasher.update(buffer.get(..read).unwrap_or_default());
                seen.size_bytes += read as u64;
                Ok(read)
            }
            Err(error) => {
                seen.has_failed |= error.kind() != io::ErrorKind::Interrupted;
                Err(error)
            }
        }
    }
}

/// Hash and length of a whole file.
#[derive(Debug, Clone, Copy)]
pub(super) struct Identity {
    pub(super) hash: blake3::Hash,
    pub(super) size_bytes: u64,
}

/// What a file turned out to be.
pub(super) enum Opened {
    Text(TextSource),
    Zip(File),
    Parquet(File),
}

/// A stream of decompressed bytes.
pub(super) struct TextSource {
    reader: Box<dyn Read + Send>,
    seen: Arc<Mutex<Seen>>,
    compression: Option<&'static str>,
    shown_as: String,
}

impl TextSource {
    pub(super) fn compression(&self) -> Option<&'static str> {
        self.compression
    }

    /// Hash of the raw file. All decoders read to the end of the file, to see further members.
    pub(super) fn finish(self) -> Identity {
        let seen = self.seen.lock();
        Identity { hash: seen.hasher.finalize(), size_bytes: seen.size_bytes }
    }

    pub(super) fn reader(&mut self) -> &mut dyn Read {
        &mut self.reader
    }

    /// Tells a broken archive from a disk that does not answer.
    pub(super) fn failing(&self) -> Failing {
        Failing { seen: self.seen.clone(), compression: self.compression, shown_as: self.shown_as.clone() }
    }
}

/// Explains read errors of a `TextSource`.
pub(super) struct Failing {
    seen: Arc<Mutex<Seen>>,
    compression: Option<&'static str>,
    shown_as: String,
}

impl Failing {
    pub(super) fn explain(&self, error: io::Error) -> FileError {
        match self.compression {
            Some(what) if !self.seen.lock().has_failed => broken(&self.shown_as, what, error),
            _ => io_error(&self.shown_as, error),
        }
    }
}

pub(super) fn io_error(shown_as: &str, error: io::Error) -> FileError {
    let kind = match error.kind() {
        io::ErrorKind::NotFound => ErrorKind::NotFound,
        io::ErrorKind::PermissionDenied => ErrorKind::Denied,
        _ => ErrorKind::Unavailable,
    };
    FileError::Io(
        Problem::new(kind, format!("could not read \"{shown_as}\""))
            .cause(error)
            .at(Place::of(shown_as))
            .fix("check that the file is there and can be read; the next run tries it again"),
    )
}

pub(super) fn broken(shown_as: &str, what: &str, error: impl std::fmt::Display) -> FileError {
    poison(shown_as, format!("{what} file \"{shown_as}\" is cut or damaged"), "deliver the file again, whole")
        .map(|p| p.cause(error))
}

pub(super) fn poison(shown_as: &str, what: impl Into<String>, fix: &str) -> FileError {
    FileError::Poison(Problem::new(ErrorKind::Corrupt, what).at(Place::of(shown_as)).fix(fix))
}

impl FileError {
    pub(super) fn map(self, change: impl FnOnce(Problem) -> Problem) -> Self {
        match self {
            Self::Poison(problem) => Self::Poison(change(problem)),
            Self::Sink(problem) => Self::Sink(change(problem)),
            Self::Io(problem) => Self::Io(change(problem)),
        }
    }
}

/// Formats that are known by their first bytes and not read, with what to do instead.
const REFUSED: [(&[u8], &str); 7] = [
    (b"\xFD7zXZ\0", "xz"),
    (b"\x04\x22\x4D\x18", "lz4"),
    (b"\xFF\x06\0\0sNaPpY", "framed snappy"),
    (b"Obj\x01", "Avro"),
    (b"ORC", "ORC"),
    (b"7z\xBC\xAF\x27\x1C", "7z"),
    (b"\xD0\xCF\x11\xE0\xA1\xB1\x1A\xE1", "Excel (xls)"),
];

/// Opens a file and finds out what it is.
pub(super) fn open(path: &Path, is_parquet: bool) -> Result<Opened, FileError> {
    let shown_as = path.display().to_string();
    let fail = |error| io_error(&shown_as, error);
    let mut file = File::open(path).map_err(fail)?;
    let mut head = Vec::new();
    (&mut file).take(16).read_to_end(&mut head).map_err(fail)?;
    file.seek(SeekFrom::Start(0)).map_err(fail)?;
    if head.starts_with(b"PAR1") || head.starts_with(b"PARE") || is_parquet {
        return Ok(Opened::Parquet(file));
    }
    if head.starts_with(b"PK\x03\x04") || head.starts_with(b"PK\x05\x06") {
        return Ok(Opened::Zip(file));
    }
    if let Some((_, name)) = REFUSED
        .iter()
        .find(|(magic, _)| head.starts_with(magic) && (magic.len() > 3 || head.get(3).is_none_or(|byte| *byte < 32)))
    {
        return Err(poison(
            &shown_as,
            format!("{name} files such as \"{shown_as}\" are not read"),
            "deliver gzip, zstd, bzip2 or zip; text or Parquet inside",
        ));
    }
    let seen = Arc::new(Mutex::new(Seen::default()));
    let raw = HashingReader { file, seen: seen.clone() };
    let (reader, compression) = decompressed(raw, &head).map_err(|error| broken(&shown_as, "zstd", error))?;
    Ok(Opened::Text(TextSource { reader, seen, compression, shown_as }))
}

fn decompressed(raw: HashingReader, head: &[u8]) -> io::Result<(Box<dyn Read + Send>, Option<&'static str>)> {
    let is_bzip2 = head.starts_with(b"BZh")
        && matches!(head.get(4..10), Some(b"\x31\x41\x59\x26\x53\x59" | b"\x17\x72\x45\x38\x50\x90"));
    let is_zstd = head.starts_with(b"\x28\xB5\x2F\xFD")
        || (head.get(1..4) == Some(b"\x2A\x4D\x18") && head.first().is_some_and(|byte| byte & 0xF0 == 0x50));
    Ok(if head.starts_with(b"\x1F\x8B") {
        let buffered = BufReader::with_capacity(READ_BYTES, raw);
        (Box::new(flate2::bufread::MultiGzDecoder::new(buffered)), Some("gzip"))
    } else if is_bzip2 {
        let buffered = BufReader::with_capacity(READ_BYTES, raw);
        (Box::new(bzip2::bufread::MultiBzDecoder::new(buffered)), Some("bzip2"))
    } else if is_zstd {
        let buffered = BufReader::with_capacity(READ_BYTES, raw);
        (Box::new(zstd::stream::read::Decoder::with_buffer(buffered)?), Some("zstd"))
    } else {
        (Box::new(raw), None)
    })
}

/// Hash and length of a file that is not read from front to back.
pub(super) fn identify(file: &mut File, shown_as: &str) -> Result<Identity, FileError> {
    let fail = |error| io_error(shown_as, error);
    file.seek(SeekFrom::Start(0)).map_err(fail)?;
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; READ_BYTES];
    let mut size_bytes = 0;
    loop {
        let read = match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(fail(error)),
        };
        hasher.update(buffer.get(..read).unwrap_or_default());
        size_bytes += read as u64;
    }
    file.seek(SeekFrom::Start(0)).map_err(fail)?;
    Ok(Identity { hash: hasher.finalize(), size_bytes })
}

/// Runs `each` over the files of a zip archive, with the shown path `x.zip/entry`.
pub(super) fn zip_entries(
    file: &mut File,
    shown_as: &str,
    mut each: impl FnMut(&str, &mut dyn Read) -> Result<(), FileError>,
) -> Result<(), FileError> {
    let mut archive = zip::ZipArchive::new(BufReader::new(file)).map_err(|error| broken(shown_as, "zip", error))?;
    for at in 0..archive.len() {
        let mut entry = archive.by_index(at).map_err(|error| broken(shown_as, "zip", error))?;
        let name = entry.name().map_err(|error| broken(shown_as, "zip", error))?.into_owned();
        if entry.is_dir() || name.starts_with("__MACOSX/") {
            continue;
        }
        each(&format!("{shown_as}/{name}"), &mut entry)?;
        // The checksum of an entry is held against it at its end only.
        io::copy(&mut entry, &mut io::sink()).map_err(|error| broken(shown_as, "zip", error))?;
    }
    Ok(())
}
