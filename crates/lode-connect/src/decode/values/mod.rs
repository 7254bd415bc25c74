//! Text to values: the kernels of the hot loops. None of them allocates, none of them guesses.

pub(super) mod number;
pub(super) mod time;

/// Spellings of NULL in columns that are not text. In text columns only the empty, unquoted field is NULL.
pub(super) const NULL_SPELLINGS: [&str; 16] = [
    "NULL", "null", "Null", "NA", "N/A", "n/a", "na", "#N/A", "-", "--", "None", "none", "NaN", "nan", "(null)", "\\N",
];
/// Also NULL, but too short or odd for the list above to be read by eye.
pub(super) const NULL_SIGNS: [&str; 2] = ["?", "."];

/// Whether `text`, already trimmed, spells NULL by the default list.
pub(super) fn is_null_spelling(text: &[u8]) -> bool {
    text.len() <= 6
        && (NULL_SPELLINGS.iter().any(|null| null.as_bytes() == text)
            || NULL_SIGNS.iter().any(|null| null.as_bytes() == text))
}

/// `text` without blanks and tabs at its ends.
pub(super) fn trim(text: &[u8]) -> &[u8] {
    let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\r' | b'\n');
    let start = text.iter().position(|byte| !is_blank(byte)).unwrap_or(text.len());
    let end = text.iter().rposition(|byte| !is_blank(byte)).map_or(start, |at| at + 1);
    text.get(start..end).unwrap_or_default()
}

/// `text` without blanks at its start.
pub(super) fn trim_start(text: &[u8]) -> &[u8] {
    let start = text.iter().position(|byte| !matches!(byte, b' ' | b'\t' | b'\r' | b'\n')).unwrap_or(text.len());
    text.get(start..).unwrap_or_default()
}

/// `true`/`false` in any case.
pub(super) fn strict_boolean(text: &[u8]) -> Option<bool> {
    if text.eq_ignore_ascii_case(b"true") {
        Some(true)
    } else if text.eq_ignore_ascii_case(b"false") {
        Some(false)
    } else {
        None
    }
}

/// PostgreSQL's spellings of a boolean.
pub(super) fn boolean(text: &[u8]) -> Option<bool> {
    strict_boolean(text).or_else(|| {
        let is = |words: [&str; 4]| words.iter().any(|word| text.eq_ignore_ascii_case(word.as_bytes()));
        if is(["t", "yes", "y", "on"]) || text == b"1" {
            Some(true)
        } else if is(["f", "no", "n", "off"]) || text == b"0" {
            Some(false)
        } else {
            None
        }
    })
}

/// PostgreSQL's hex form of `bytea`: `\x` and an even number of hex digits.
pub(super) fn hex_bytes(text: &[u8]) -> Option<Vec<u8>> {
    let digits = text.strip_prefix(b"\\x")?;
    if digits.len() % 2 != 0 {
        return None;
    }
    let digit = |byte: u8| (byte as char).to_digit(16).map(|value| value as u8);
    digits.chunks_exact(2).map(|pair| Some(digit(*pair.first()?)? << 4 | digit(*pair.get(1)?)?)).collect()
}
