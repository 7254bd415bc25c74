//! Tokens of JSON.

use wide::u8x16;

use super::{DEPTH_MAX, JsonError};

/// A place in a text.
#[derive(Debug, Clone)]
pub(in super::super) struct Cursor<'a> {
    pub(in super::super) text: &'a [u8],
    pub(in super::super) at: usize,
}

/// A string token: the range between its quotes.
#[derive(Debug, Clone, Copy)]
pub(in super::super) struct Token {
    pub(in super::super) start: usize,
    pub(in super::super) end: usize,
    pub(in super::super) has_escapes: bool,
}

impl<'a> Cursor<'a> {
    pub(in super::super) fn new(text: &'a [u8], at: usize) -> Self {
        Self { text, at }
    }

    #[cold]
    pub(in super::super) fn error(&self, what: &'static str) -> JsonError {
        JsonError { what, at: self.at + 1 }
    }

    #[inline]
    pub(in super::super) fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    #[inline]
    pub(in super::super) fn blanks(&mut self) {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.peek() {
            self.at += 1;
        }
    }

    pub(in super::super) fn slice(&self, start: usize, end: usize) -> &'a [u8] {
        self.text.get(start..end).unwrap_or_default()
    }

    /// Nothing but blanks may follow.
    pub(in super::super) fn end(&mut self) -> Result<(), JsonError> {
        self.blanks();
        if self.at < self.text.len() { Err(self.error("text behind the end of the value")) } else { Ok(()) }
    }

    /// Takes `byte`, blanks before it aside.
    #[inline]
    pub(in super::super) fn expect(&mut self, byte: u8, what: &'static str) -> Result<(), JsonError> {
        if self.peek() != Some(byte) {
            self.blanks();
            if self.peek() != Some(byte) {
                return Err(self.error(what));
            }
        }
        self.at += 1;
        Ok(())
    }

    pub(in super::super) fn word(&mut self, word: &'static [u8]) -> Result<(), JsonError> {
        if self.text.get(self.at..self.at + word.len()) != Some(word) {
            return Err(self.error("no JSON value"));
        }
        self.at += word.len();
        Ok(())
    }

    /// A string; the cursor stands on its opening quote.
    #[inline]
    pub(in super::super) fn string(&mut self) -> Result<Token, JsonError> {
        if self.peek() != Some(b'"') {
            return Err(self.error("a string was expected"));
        }
        self.at += 1;
        let start = self.at;
        let mut has_escapes = false;
        loop {
            self.at += plain_len(self.text.get(self.at..).unwrap_or_default());
            match self.peek() {
                Some(b'"') => {
                    let end = self.at;
                    self.at += 1;
                    return Ok(Token { start, end, has_escapes });
                }
                Some(b'\\') => {
                    has_escapes = true;
                    self.escape()?;
                }
                Some(_) => return Err(self.error("a control character in a string")),
                None => return Err(self.error("a string without end")),
            }
        }
    }

    fn escape(&mut self) -> Result<(), JsonError> {
        match self.text.get(self.at + 1) {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => self.at += 2,
            Some(b'u') => {
                let digits = self.text.get(self.at + 2..self.at + 6);
                if !digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit)) {
                    return Err(self.error("an unknown escape in a string"));
                }
                self.at += 6;
            }
            _ => return Err(self.error("an unknown escape in a string")),
        }
        Ok(())
    }

    /// A number; its range.
    #[inline]
    pub(in super::super) fn number(&mut self) -> Result<(usize, usize), JsonError> {
        let start = self.at;
        self.at += usize::from(self.peek() == Some(b'-'));
        match self.peek() {
            Some(b'0') => self.at += 1,
            Some(b'1'..=b'9') => self.digits(),
            _ => return Err(self.error("no JSON value")),
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            if !self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
                return Err(self.error("a digit was expected"));
            }
            self.digits();
        }
        if let Some(b'e' | b'E') = self.peek() {
            self.at += 1;
            self.at += usize::from(matches!(self.peek(), Some(b'+' | b'-')));
            if !self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
                return Err(self.error("a digit was expected"));
            }
            self.digits();
        }
        Ok((start, self.at))
    }

    #[inline]
    fn digits(&mut self) {
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
    }

    /// Passes over one value of any kind, blanks before it aside, and checks it. `depth`: containers around it.
    pub(in super::super) fn skip_value(&mut self, depth: usize) -> Result<(), JsonError> {
        self.blanks();
        match self.peek() {
            Some(b'"') => self.string().map(|_| ()),
            Some(b'-' | b'0'..=b'9') => self.number().map(|_| ()),
            Some(b't') => self.word(b"true"),
            Some(b'f') => self.word(b"false"),
            Some(b'n') => self.word(b"null"),
            Some(b'{') => self.members(depth, |cursor, _| cursor.skip_value(depth + 1)),
            Some(b'[') => self.elements(depth, |cursor| cursor.skip_value(depth + 1)),
            Some(_) => Err(self.error("no JSON value")),
            None => Err(self.error("a value was expected, but the text ends")),
        }
    }

    /// Walks an object; the cursor stands on `{`, and for each member on its value (blanks may come before it).
    pub(in super::super) fn members(
        &mut self,
        depth: usize,
        mut each: impl FnMut(&mut Self, Token) -> Result<(), JsonError>,
    ) -> Result<(), JsonError> {
        if depth >= DEPTH_MAX {
            return Err(self.error("containers nested too deep"));
        }
        self.at += 1;
        self.blanks();
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(());
        }
        loop {
            self.blanks();
            let key = self.string()?;
            self.expect(b':', "\":\" was expected")?;
            self.blanks();
            each(self, key)?;
            self.blanks();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b'}') => {
                    self.at += 1;
                    return Ok(());
                }
                _ => return Err(self.error("\",\" or \"}\" was expected")),
            }
        }
    }

    /// Walks an array; the cursor stands on `[`, and for each element on it.
    pub(in super::super) fn elements(
        &mut self,
        depth: usize,
        mut each: impl FnMut(&mut Self) -> Result<(), JsonError>,
    ) -> Result<(), JsonError> {
        if depth >= DEPTH_MAX {
            return Err(self.error("containers nested too deep"));
        }
        self.at += 1;
        self.blanks();
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(());
        }
        loop {
            self.blanks();
            each(self)?;
            self.blanks();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b']') => {
                    self.at += 1;
                    return Ok(());
                }
                _ => return Err(self.error("\",\" or \"]\" was expected")),
            }
        }
    }
}

/// Bytes up to the first quote, backslash or control character.
#[inline]
fn plain_len(text: &[u8]) -> usize {
    let mut len = 0;
    let mut rest = text;
    while let Some(chunk) = rest.first_chunk::<16>() {
        let bytes = u8x16::from(*chunk);
        let is_low = bytes.max(u8x16::from([0x1F; 16])).simd_eq(u8x16::from([0x1F; 16]));
        let hits = bytes.simd_eq(u8x16::from([b'"'; 16])) | bytes.simd_eq(u8x16::from([b'\\'; 16])) | is_low;
        let bits = hits.to_bitmask();
        if bits != 0 {
            return len + bits.trailing_zeros() as usize;
        }
        len += 16;
        rest = rest.get(16..).unwrap_or_default();
    }
    len + rest.iter().position(|byte| *byte < 0x20 || matches!(byte, b'"' | b'\\')).unwrap_or(rest.len())
}

/// The text of a string token with escapes. `None` if it holds half a surrogate pair, which no text can.
pub(in super::super) fn unescape(raw: &[u8], out: &mut Vec<u8>) -> Option<()> {
    out.clear();
    let mut at = 0;
    while let Some(byte) = raw.get(at) {
        if *byte != b'\\' {
            out.push(*byte);
            at += 1;
            continue;
        }
        let plain = match raw.get(at + 1)? {
            b'u' => {
                let unit = unit(raw, at + 2)?;
                at += 6;
                let code = match unit {
                    0xD800..=0xDBFF => {
                        if raw.get(at..at + 2)? != b"\\u" {
                            return None;
                        }
                        let low = self::unit(raw, at + 2)?;
                        at += 6;
                        if !(0xDC00..=0xDFFF).contains(&low) {
                            return None;
                        }
                        0x1_0000 + ((unit & 0x3FF) << 10 | (low & 0x3FF))
                    }
                    other => other,
                };
                out.extend_from_slice(char::from_u32(code)?.encode_utf8(&mut [0; 4]).as_bytes());
                continue;
            }
            b'b' => 8,
            b'f' => 12,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            other => *other,
        };
        out.push(plain);
        at += 2;
    }
    Some(())
}

fn unit(raw: &[u8], at: usize) -> Option<u32> {
    raw.get(at..at + 4)?.iter().try_fold(0, |unit, byte| Some(unit << 4 | (*byte as char).to_digit(16)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_unescaped_exactly() {
        let mut out = Vec::new();
        unescape(br#"a\"\\\/\b\f\n\r\t\u00e9\ud83d\ude00z"#, &mut out).unwrap();
        assert_eq!(out, "a\"\\/\u{8}\u{c}\n\r\té😀z".as_bytes());
        assert_eq!(unescape(br"\ud83d", &mut out), None);
        assert_eq!(unescape(br"\ude00\ud83d", &mut out), None);
    }

    #[test]
    fn depth_is_bounded() {
        let nested = |levels: usize| [b"[".repeat(levels), b"]".repeat(levels)].concat();
        assert_eq!(super::super::validate(&nested(128)), Ok(()));
        assert!(super::super::validate(&nested(129)).is_err());
        assert!(super::super::validate(&b"[".repeat(1_000_000)).is_err());
    }
}
