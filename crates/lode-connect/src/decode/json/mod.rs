//! JSON: a strict parser (RFC 8259) that writes straight into columns.

pub(super) mod file;
pub(super) mod read;
pub(super) mod record;
pub(super) mod shape;

pub(super) use record::push_value;

/// Why a text is no JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{what} at byte {at}")]
pub struct JsonError {
    pub what: &'static str,
    /// From 1, within the record.
    pub at: usize,
}

/// Containers may be nested so deep.
pub(super) const DEPTH_MAX: usize = 128;

/// Checks that `text` is exactly one JSON value in UTF-8, with blanks around it.
/// Source: RFC 8259; at most 128 levels deep.
pub fn validate(text: &[u8]) -> Result<(), JsonError> {
    if let Err(error) = simdutf8::compat::from_utf8(text) {
        return Err(JsonError { what: "bytes that are not UTF-8", at: error.valid_up_to() + 1 });
    }
    let mut cursor = read::Cursor::new(text, 0);
    cursor.blanks();
    cursor.skip_value(0)?;
    cursor.end()
}
