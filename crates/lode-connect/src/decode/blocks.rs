//! A stream of text, cut into blocks of whole records.

use std::io::Read;

use super::encoding::{Encoding, Transcoder};
use super::{FileError, input};

/// Text of a block, if records are not longer.
pub(super) const BLOCK_BYTES: usize = 1 << 20;
/// A longer record is rejected.
pub(super) const RECORD_BYTES_MAX: usize = 64 << 20;
/// Records that run away because a quote is not closed cost a look at the rest of the text each.
const RUNAWAYS_MAX: u32 = 100;
/// So much of a record that is too long goes to its reject.
pub(super) const RAW_BYTES_MAX: usize = 1 << 20;

/// Whole records, in UTF-8 as far as the file is text.
#[derive(Debug)]
pub(super) struct Block {
    pub(super) text: Vec<u8>,
    /// Where the first record starts in `text`.
    pub(super) from: usize,
    /// Physical line of `text[0]`, from 1.
    pub(super) line: u64,
    /// Offset in the decompressed file of `text[0]`.
    pub(super) offset: u64,
    pub(super) is_last: bool,
    /// The block is one record that cannot be read, for this reason.
    pub(super) spoilt: Option<String>,
}

/// Where a text may be cut.
pub(super) trait Boundary {
    /// End of the last whole record in `text`, which starts at a record.
    fn last(&self, text: &[u8]) -> Option<usize>;
    /// How much of `text` to reject, and why, when no record ends in it although it is `RECORD_BYTES_MAX` long or the file
    /// ends with it. `None`: it is a record, without its line end.
    fn runaway(&self, text: &[u8], is_end: bool) -> Option<(usize, String)>;
    /// Whether reading can go on at the next line behind a record that was too long.
    fn resumes_at_line(&self) -> bool;
}

pub(super) struct BlockReader<'a> {
    reader: &'a mut dyn Read,
    transcoder: Option<Transcoder>,
    encoding: Encoding,
    /// Text that is read, and not yet part of a block.
    rest: Vec<u8>,
    is_end: bool,
    line: u64,
    offset: u64,
    fail: &'a dyn Fn(std::io::Error) -> FileError,
    shown_as: &'a str,
    runaways: u32,
    /// The rest of a record that was too long is passed over up to its line end.
    is_skipping: bool,
}

impl<'a> BlockReader<'a> {
    /// Reads the first block's worth of bytes and finds out the encoding.
    pub(super) fn open(
        reader: &'a mut dyn Read,
        shown_as: &'a str,
        declared: Option<Encoding>,
        fail: &'a dyn Fn(std::io::Error) -> FileError,
    ) -> Result<Self, FileError> {
        let mut raw = Vec::with_capacity(BLOCK_BYTES);
        let read = Read::take(&mut *reader, BLOCK_BYTES as u64).read_to_end(&mut raw).map_err(fail)?;
        let is_end = read < BLOCK_BYTES;
        let sample = raw.get(..raw.len().min(SAMPLE_BYTES)).unwrap_or_default();
        let (encoding, mark_len) = Encoding::detect(sample, sample.len() == raw.len() && is_end, declared);
        raw.drain(..mark_len);
        let mut transcoder = (encoding != Encoding::Utf8).then(|| Transcoder::new(encoding));
        let rest = match &mut transcoder {
            None => raw,
            Some(transcoder) => {
                let mut text = Vec::with_capacity(raw.len() * 3 / 2);
                transcoder.push(&raw, is_end, &mut text);
                text
            }
        };
        Ok(Self {
            reader,
            transcoder,
            encoding,
            rest,
            is_end,
            line: 1,
            offset: mark_len as u64,
            fail,
            shown_as,
            runaways: 0,
            is_skipping: false,
        })
    }

    pub(super) fn encoding(&self) -> Encoding {
        self.encoding
    }

    /// Text at the start of the file, before any block is taken.
    pub(super) fn sample(&self) -> &[u8] {
        self.rest.get(..self.rest.len().min(SAMPLE_BYTES)).unwrap_or_default()
    }

    /// Up to `bytes` of the text that is read, before any block is taken.
    pub(super) fn head(&self, bytes: usize) -> &[u8] {
        self.rest.get(..self.rest.len().min(bytes)).unwrap_or_default()
    }

    /// Whether the reader has met the end of the file.
    pub(super) fn is_all_read(&self) -> bool {
        self.is_end
    }

    /// Whether `sample` is the whole file.
    pub(super) fn is_whole(&self) -> bool {
        self.is_end && self.rest.len() <= SAMPLE_BYTES
    }

    fn fill(&mut self, bytes: usize) -> Result<(), FileError> {
        let read = match &mut self.transcoder {
            None => {
                self.rest.reserve(bytes);
                Read::take(&mut *self.reader, bytes as u64).read_to_end(&mut self.rest).map_err(self.fail)?
            }
            Some(transcoder) => {
                let mut raw = Vec::with_capacity(bytes);
                let read = Read::take(&mut *self.reader, bytes as u64).read_to_end(&mut raw).map_err(self.fail)?;
                self.rest.reserve(raw.len() * 3 / 2);
                transcoder.push(&raw, read < bytes, &mut self.rest);
                read
            }
        };
        self.is_end = read < bytes;
        Ok(())
    }

    /// The next block; `None` at the end of the file. Skips the first `skip` bytes of the first block.
    pub(super) fn next(&mut self, boundary: &dyn Boundary, skip: usize) -> Result<Option<Block>, FileError> {
        loop {
            let wanted = BLOCK_BYTES.saturating_sub(self.rest.len());
            if wanted > 0 && !self.is_end {
                self.fill(wanted)?;
            }
            if self.is_skipping && !self.skip_line(boundary.resumes_at_line()) {
                continue;
            }
            if self.rest.is_empty() {
                return Ok(None);
            }
            let block = self.cut(boundary, skip)?;
            if block.spoilt.is_some() && !boundary.resumes_at_line() {
                return Err(no_end(self.shown_as, &block));
            }
            self.runaways += u32::from(block.spoilt.is_some() && !self.is_skipping);
            if self.runaways > RUNAWAYS_MAX {
                return Err(input::poison(
                    self.shown_as,
                    format!("quotes of \"{}\" do not match: {RUNAWAYS_MAX} are never closed", self.shown_as),
                    "set `quoting: false` or `quote:` under `format: {csv: …}`",
                ));
            }
            return Ok(Some(block));
        }
    }

    fn cut(&mut self, boundary: &dyn Boundary, skip: usize) -> Result<Block, FileError> {
        loop {
            let body = self.rest.get(skip..).unwrap_or_default();
            // After a long record the rest may be many blocks long.
            if body.len() > BLOCK_BYTES
                && let Some(end) = boundary.last(body.get(..BLOCK_BYTES).unwrap_or_default())
            {
                return Ok(self.take(skip + end, skip, None));
            }
            if self.is_end {
                // The end of the file ends the last record, unless something is still open.
                let tail = boundary.last(body).unwrap_or(0);
                let runaway =
                    body.get(tail..).filter(|tail| !tail.is_empty()).and_then(|tail| boundary.runaway(tail, true));
                return Ok(match runaway {
                    None => self.take(self.rest.len(), skip, None),
                    Some(_) if tail > 0 => self.take(skip + tail, skip, None),
                    Some((len, why)) => self.take(skip + len, skip, Some(why)),
                });
            }
            if let Some(end) = boundary.last(body) {
                return Ok(self.take(skip + end, skip, None));
            }
            if body.len() >= RECORD_BYTES_MAX {
                let (len, why) = boundary.runaway(body, false).unwrap_or((body.len(), String::new()));
                self.is_skipping = len == body.len();
                let why = if self.is_skipping {
                    format!("the record is longer than {} MiB", RECORD_BYTES_MAX >> 20)
                } else {
                    why
                };
                return Ok(self.take(skip + len, skip, Some(why)));
            }
            self.fill(self.rest.len())?;
        }
    }

    /// Drops text up to the next line end. Returns whether it was found.
    fn skip_line(&mut self, resumes: bool) -> bool {
        let end = if resumes { memchr::memchr(b'\n', &self.rest).map(|at| at + 1) } else { None };
        let len = end.unwrap_or(self.rest.len());
        self.offset += self.encoding.original_len(self.rest.get(..len).unwrap_or_default());
        self.line += line_ends(self.rest.get(..len).unwrap_or_default());
        self.rest.drain(..len);
        self.is_skipping = end.is_none() && !self.is_end;
        !self.is_skipping
    }

    /// Takes `len` bytes off the rest. The block gets the buffer, the rest is copied: it is the shorter one.
    fn take(&mut self, len: usize, from: usize, spoilt: Option<String>) -> Block {
        let after = self.rest.get(len..).unwrap_or_default();
        let mut rest = Vec::with_capacity(if self.is_end { after.len() } else { BLOCK_BYTES.max(after.len()) });
        rest.extend_from_slice(after);
        let mut text = std::mem::replace(&mut self.rest, rest);
        text.truncate(len);
        let block = Block {
            from,
            line: self.line,
            offset: self.offset,
            is_last: self.is_end && self.rest.is_empty(),
            spoilt,
            text: Vec::new(),
        };
        self.line += line_ends(&text);
        self.offset += self.encoding.original_len(&text);
        Block { text, ..block }
    }
}

/// All that follows would go into one reject.
fn no_end(shown_as: &str, block: &Block) -> FileError {
    let body = block.text.get(block.from..).unwrap_or_default();
    let blanks = body.iter().take_while(|byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | b',')).count();
    let before = block.text.get(..block.from + blanks).unwrap_or_default();
    let line = block.line + line_ends(before);
    input::poison(
        shown_as,
        format!("the record at line {line} of \"{shown_as}\" has no end: no record behind it can be found"),
        "close its brackets and quotes, or deliver one record a line",
    )
}

/// The dialect is found out from so much text.
pub(super) const SAMPLE_BYTES: usize = 256 << 10;

/// Ends of lines: LF, CRLF, lone CR.
pub(super) fn line_ends(text: &[u8]) -> u64 {
    let feeds = memchr::memchr_iter(b'\n', text).count() as u64;
    let lone = memchr::memchr_iter(b'\r', text).filter(|at| text.get(at + 1) != Some(&b'\n')).count() as u64;
    feeds + lone
}
