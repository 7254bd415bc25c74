//! Text in other encodings than UTF-8, without ever replacing a byte.
//!
//! Blocks are always UTF-8. What is no text in the file's encoding becomes bytes that are no UTF-8 either (a lone surrogate
//! of UTF-16 in its three byte form; else `FF` and two hex digits a byte), so its record is rejected, and `original` gives
//! the bytes of the file back.

use encoding_rs::{DecoderResult, Encoding as Label, UTF_8, UTF_16BE, UTF_16LE};

/// How the bytes of a file spell text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Encoding {
    Utf8,
    Utf16 { is_big: bool },
    Other(&'static Label),
}

impl Encoding {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Utf8 => "UTF-8",
            Self::Utf16 { is_big: false } => UTF_16LE.name(),
            Self::Utf16 { is_big: true } => UTF_16BE.name(),
            Self::Other(label) => label.name(),
        }
    }

    /// By a label of the WHATWG list, plus Python's `utf-16`.
    pub(super) fn of_label(label: &str) -> Option<Self> {
        let label = match label.to_ascii_lowercase().as_str() {
            "utf_16" | "utf16" => "utf-16".to_owned(),
            "cp1250" | "cp1251" | "cp1252" | "cp1253" => label.replacen("cp", "windows-", 1),
            other => other.replace('_', "-"),
        };
        let found =
            Label::for_label(label.as_bytes()).or_else(|| Label::for_label(label.replace('-', "").as_bytes()))?;
        Some(if found == UTF_8 {
            Self::Utf8
        } else if found == UTF_16LE || found == UTF_16BE {
            Self::Utf16 { is_big: found == UTF_16BE }
        } else {
            Self::Other(found)
        })
    }

    /// The encoding of a file by its first bytes, and the length of its byte order mark. `declared` gives way only to a
    /// byte order mark.
    pub(super) fn detect(sample: &[u8], is_whole: bool, declared: Option<Self>) -> (Self, usize) {
        if sample.starts_with(b"\xEF\xBB\xBF") {
            return (Self::Utf8, 3);
        }
        if sample.starts_with(b"\xFF\xFE") && declared.is_none_or(|it| matches!(it, Self::Utf16 { .. })) {
            return (Self::Utf16 { is_big: false }, 2);
        }
        if sample.starts_with(b"\xFE\xFF") && declared.is_none_or(|it| matches!(it, Self::Utf16 { .. })) {
            return (Self::Utf16 { is_big: true }, 2);
        }
        if let Some(declared) = declared {
            return (declared, 0);
        }
        if let Some(is_big) = bare_utf16(sample) {
            return (Self::Utf16 { is_big }, 0);
        }
        (legacy(sample, is_whole).map_or(Self::Utf8, Self::Other), 0)
    }

    /// Bytes in the file of `text`, a piece of a block.
    pub(super) fn original(self, text: &[u8]) -> Vec<u8> {
        match self {
            Self::Utf8 => text.to_vec(),
            Self::Utf16 { is_big } => {
                let mut out = Vec::with_capacity(text.len() * 2);
                for_units(text, |unit| {
                    out.extend_from_slice(&if is_big { unit.to_be_bytes() } else { unit.to_le_bytes() })
                });
                out
            }
            Self::Other(label) => {
                let mut out = Vec::with_capacity(text.len());
                let mut rest = text;
                while !rest.is_empty() {
                    let end = memchr::memchr(0xFF, rest).unwrap_or(rest.len());
                    let (good, marked) = rest.split_at(end);
                    out.extend_from_slice(&label.encode(&String::from_utf8_lossy(good)).0);
                    let digit = |at: usize| marked.get(at).and_then(|byte| (*byte as char).to_digit(16));
                    if let (Some(high), Some(low)) = (digit(1), digit(2)) {
                        out.push((high * 16 + low) as u8);
                    }
                    rest = marked.get(3..).unwrap_or_default();
                }
                out
            }
        }
    }

    /// Length of `original(text)`.
    pub(super) fn original_len(self, text: &[u8]) -> u64 {
        match self {
            Self::Utf8 => text.len() as u64,
            Self::Utf16 { .. } => {
                let mut units = 0;
                for_units(text, |_| units += 2);
                units
            }
            Self::Other(_) => self.original(text).len() as u64,
        }
    }
}

/// UTF-16 units of UTF-8 in which a lone surrogate stands in three bytes.
fn for_units(text: &[u8], mut each: impl FnMut(u16)) {
    let mut at = 0;
    while let Some(first) = text.get(at) {
        let tail = |offset: usize| u32::from(text.get(at + offset).copied().unwrap_or_default() & 0x3F);
        let (code, len) = match first {
            0..=0x7F => (u32::from(*first), 1),
            0x80..=0xDF => ((u32::from(*first) & 0x1F) << 6 | tail(1), 2),
            0xE0..=0xEF => ((u32::from(*first) & 0x0F) << 12 | tail(1) << 6 | tail(2), 3),
            _ => ((u32::from(*first) & 0x07) << 18 | tail(1) << 12 | tail(2) << 6 | tail(3), 4),
        };
        at += len;
        if code < 0x1_0000 {
            each(code as u16);
        } else {
            let above = code - 0x1_0000;
            each(0xD800 | (above >> 10) as u16 & 0x3FF);
            each(0xDC00 | (above & 0x3FF) as u16);
        }
    }
}

/// UTF-16 without a mark: nearly every second byte of a western text is zero.
fn bare_utf16(sample: &[u8]) -> Option<bool> {
    let pairs = sample.len() / 2;
    if pairs < 8 {
        return None;
    }
    let zeros = |from: usize| sample.iter().skip(from).step_by(2).filter(|byte| **byte == 0).count();
    let (even, odd) = (zeros(0), zeros(1));
    if odd * 10 > pairs * 7 && even * 10 < pairs {
        Some(false)
    } else if even * 10 > pairs * 7 && odd * 10 < pairs {
        Some(true)
    } else {
        None
    }
}

/// The legacy encoding of a text that is no UTF-8 as a whole: it has no valid UTF-8 sequences to speak of, and wrong bytes
/// in more than one line of twenty. A file with a few spoilt lines stays UTF-8, and those lines are rejected.
fn legacy(sample: &[u8], is_whole: bool) -> Option<&'static Label> {
    let (mut valid, mut invalid, mut invalid_lines, mut lines) = (0_usize, 0_usize, 0_usize, 0_usize);
    for line in sample.split(|byte| matches!(byte, b'\n' | b'\r')) {
        if line.is_empty() {
            continue;
        }
        lines += 1;
        let before = invalid;
        for chunk in line.utf8_chunks() {
            valid += chunk.valid().chars().filter(|c| !c.is_ascii()).count();
            invalid += usize::from(!chunk.invalid().is_empty());
        }
        invalid_lines += usize::from(invalid > before);
    }
    // The sample may end inside a sequence.
    if !is_whole && invalid == 1 {
        return None;
    }
    if invalid == 0 || valid * 8 > invalid || invalid_lines * 20 <= lines {
        return None;
    }
    let mut detector = chardetng::EncodingDetector::new(chardetng::Iso2022JpDetection::Deny);
    detector.feed(sample, is_whole);
    let label = detector.guess(None, chardetng::Utf8Detection::Deny);
    (label != UTF_8).then_some(label)
}

/// Turns a stream of bytes into blocks of UTF-8.
pub(super) struct Transcoder {
    encoding: Encoding,
    /// UTF-16: an odd byte, and a high surrogate that waits for its low one.
    odd: Option<u8>,
    high: Option<u16>,
    decoder: Option<encoding_rs::Decoder>,
    /// The last bytes given to `decoder`, since a malformed sequence may have begun in an earlier call.
    tail: Vec<u8>,
}

impl Transcoder {
    pub(super) fn new(encoding: Encoding) -> Self {
        let decoder = match encoding {
            Encoding::Other(label) => Some(label.new_decoder_without_bom_handling()),
            _ => None,
        };
        Self { encoding, odd: None, high: None, decoder, tail: Vec::new() }
    }

    /// Appends the text of `input` to `out`.
    pub(super) fn push(&mut self, input: &[u8], is_last: bool, out: &mut Vec<u8>) {
        match self.encoding {
            Encoding::Utf8 => out.extend_from_slice(input),
            Encoding::Utf16 { is_big } => self.push_utf16(input, is_last, is_big, out),
            Encoding::Other(_) => self.push_other(input, is_last, out),
        }
    }

    fn push_utf16(&mut self, input: &[u8], is_last: bool, is_big: bool, out: &mut Vec<u8>) {
        let mut bytes = input.iter().copied();
        while let Some(first) = self.odd.take().or_else(|| bytes.next()) {
            let Some(second) = bytes.next() else {
                self.odd = Some(first);
                break;
            };
            let unit = if is_big { u16::from_be_bytes([first, second]) } else { u16::from_le_bytes([first, second]) };
            match (self.high.take(), unit) {
                (Some(high), 0xDC00..=0xDFFF) => {
                    let code = 0x1_0000 + ((u32::from(high) & 0x3FF) << 10 | (u32::from(unit) & 0x3FF));
                    push_code(code, out);
                }
                (high, _) => {
                    if let Some(high) = high {
                        push_code(u32::from(high), out);
                    }
                    if (0xD800..=0xDBFF).contains(&unit) {
                        self.high = Some(unit)
                    } else {
                        push_code(u32::from(unit), out)
                    }
                }
            }
        }
        if is_last {
            if let Some(high) = self.high.take() {
                push_code(u32::from(high), out);
            }
            if self.odd.take().is_some() {
                // Half a unit: no text in any reading.
                out.push(0xFF);
            }
        }
    }

    fn push_other(&mut self, input: &[u8], is_last: bool, out: &mut Vec<u8>) {
        let Some(decoder) = self.decoder.as_mut() else { return };
        let mut rest = input;
        let mut buffer = [0_u8; 8192];
        loop {
            let (result, read, written) = decoder.decode_to_utf8_without_replacement(rest, &mut buffer, is_last);
            out.extend_from_slice(buffer.get(..written).unwrap_or_default());
            self.tail.extend_from_slice(rest.get(..read).unwrap_or_default());
            rest = rest.get(read..).unwrap_or_default();
            match result {
                DecoderResult::InputEmpty => break,
                DecoderResult::OutputFull => {}
                DecoderResult::Malformed(len, after) => {
                    let end = self.tail.len().saturating_sub(usize::from(after));
                    let start = end.saturating_sub(usize::from(len));
                    for byte in self.tail.get(start..end).unwrap_or_default() {
                        out.push(0xFF);
                        out.extend_from_slice(format!("{byte:02x}").as_bytes());
                    }
                }
            }
            let excess = self.tail.len().saturating_sub(8);
            self.tail.drain(..excess);
        }
        let excess = self.tail.len().saturating_sub(8);
        self.tail.drain(..excess);
    }
}

/// UTF-8 of a code point; a surrogate in three bytes, which is no UTF-8.
fn push_code(code: u32, out: &mut Vec<u8>) {
    match char::from_u32(code) {
        Some(c) => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        None => out.extend_from_slice(&[
            0xE0 | (code >> 12) as u8,
            0x80 | (code >> 6 & 0x3F) as u8,
            0x80 | (code & 0x3F) as u8,
        ]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn there_and_back(encoding: Encoding, bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        let mut transcoder = Transcoder::new(encoding);
        let (first, second) = bytes.split_at(bytes.len() / 2);
        transcoder.push(first, false, &mut out);
        transcoder.push(second, true, &mut out);
        assert_eq!(encoding.original(&out), bytes);
        assert_eq!(encoding.original_len(&out), bytes.len() as u64);
        out
    }

    #[test]
    fn a_lone_surrogate_is_no_text_and_comes_back() {
        let units = [0x0041_u16, 0xD83D, 0xDE00, 0xD800, 0x0042, 0xDC00];
        let bytes: Vec<u8> = units.iter().flat_map(|unit| unit.to_le_bytes()).collect();
        let text = there_and_back(Encoding::Utf16 { is_big: false }, &bytes);
        assert!(std::str::from_utf8(&text).is_err());
        assert!(text.starts_with("A😀".as_bytes()));
    }

    #[test]
    fn malformed_shift_jis_comes_back() {
        let encoding = Encoding::of_label("shift_jis").unwrap();
        let text = there_and_back(encoding, b"\x93\xFA\x96\x7B,\xFD,x");
        assert!(std::str::from_utf8(&text).is_err());
        assert!(text.starts_with("日本,".as_bytes()));
    }

    #[test]
    fn a_few_bad_lines_do_not_make_a_legacy_file() {
        let mut few = b"1,plain\n".repeat(117);
        few.extend_from_slice(&b"2,Sal\xE9\n".repeat(3));
        assert_eq!(Encoding::detect(&few, true, None).0, Encoding::Utf8);
        let many = b"1,plain\n2,Sal\xE9 caf\xE9\n".repeat(20);
        assert_eq!(Encoding::detect(&many, true, None).0.name(), "windows-1252");
    }
}
