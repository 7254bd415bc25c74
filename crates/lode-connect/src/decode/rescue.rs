//! What an inferred schema could not take: `_rescued`, one JSON object a row.

use std::sync::Arc;

use arrow::array::{ArrayRef, StringViewBuilder};

/// Collects members of `_rescued` in any order of rows.
#[derive(Debug, Default)]
pub(super) struct Rescue {
    /// `"name":value` after one another.
    text: Vec<u8>,
    members: Vec<(u32, u32, u32)>,
}

impl Rescue {
    /// A member whose value is text.
    pub(super) fn push_text(&mut self, row: usize, name: &str, value: &[u8]) {
        let start = self.begin(name);
        write_string(&mut self.text, value);
        self.end(row, start);
    }

    /// A member whose value is JSON already.
    pub(super) fn push_json(&mut self, row: usize, name: &str, value: &[u8]) {
        let start = self.begin(name);
        self.text.extend_from_slice(value);
        self.end(row, start);
    }

    fn begin(&mut self, name: &str) -> usize {
        let start = self.text.len();
        write_string(&mut self.text, name.as_bytes());
        self.text.push(b':');
        start
    }

    fn end(&mut self, row: usize, start: usize) {
        self.members.push((row as u32, start as u32, self.text.len() as u32));
    }

    /// A mark to go back to.
    pub(super) fn mark(&self) -> (usize, usize) {
        (self.text.len(), self.members.len())
    }

    pub(super) fn rewind(&mut self, (text, members): (usize, usize)) {
        self.text.truncate(text);
        self.members.truncate(members);
    }

    /// The column for `rows` rows.
    pub(super) fn finish(mut self, rows: usize) -> ArrayRef {
        self.members.sort_by_key(|(row, ..)| *row);
        let mut builder = StringViewBuilder::with_capacity(rows);
        let mut members = self.members.iter().peekable();
        let mut object = Vec::new();
        for row in 0..rows {
            object.clear();
            while let Some((_, start, end)) = members.next_if(|(at, ..)| *at as usize == row) {
                object.push(if object.is_empty() { b'{' } else { b',' });
                object.extend_from_slice(self.text.get(*start as usize..*end as usize).unwrap_or_default());
            }
            if object.is_empty() {
                builder.append_null();
            } else {
                object.push(b'}');
                builder.append_value(String::from_utf8_lossy(&object));
            }
        }
        Arc::new(builder.finish())
    }
}

/// Appends a JSON string. `value` is UTF-8.
pub(super) fn write_string(out: &mut Vec<u8>, value: &[u8]) {
    out.push(b'"');
    for byte in value {
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            0..=0x1F => out.extend_from_slice(format!("\\u{byte:04x}").as_bytes()),
            _ => out.push(*byte),
        }
    }
    out.push(b'"');
}
