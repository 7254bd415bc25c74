//! One JSON object into one row of columns, in a single pass.
//!
//! Keys are tried in the order of the columns first, as most writers keep one order. A key that comes twice: the last one
//! wins. A value that does not fit its column is kept under its dotted path in `_rescued`, or marks the record as refused.

use super::super::column::{Column, List, Reading, Struct, Unfit};
use super::super::rescue::Rescue;
use super::super::undeclared::Undeclared;
use super::JsonError;
use super::read::{self, Cursor};

/// Names from the top column down to a value.
struct Path<'a> {
    parent: Option<&'a Path<'a>>,
    name: &'a str,
}

impl Path<'_> {
    fn text(&self) -> String {
        match self.parent {
            None => self.name.to_owned(),
            Some(parent) => format!("{}.{}", parent.text(), self.name),
        }
    }
}

/// The first value of a record that does not fit its declared column.
#[derive(Debug)]
pub(in super::super) struct Refusal {
    pub(in super::super) name: String,
    pub(in super::super) why: Unfit,
    /// Place of the value.
    pub(in super::super) start: usize,
    pub(in super::super) end: usize,
}

/// Writes records into columns.
pub(in super::super) struct RecordWriter<'a> {
    pub(in super::super) reading: &'a Reading,
    /// `None`: declared columns; unknown keys are passed over, misfits refuse the record.
    pub(in super::super) rescue: Option<&'a mut Rescue>,
    pub(in super::super) row: usize,
    pub(in super::super) refusal: Option<Refusal>,
    /// Takes the names of top fields that no declared column takes.
    pub(in super::super) undeclared: Option<&'a mut Undeclared>,
    /// Why the record is refused if it has fields, but not one that is declared.
    pub(in super::super) strangers: Option<String>,
    /// The text is the block that the finished arrays will point into.
    pub(in super::super) is_block: bool,
    pub(in super::super) scratch: Vec<u8>,
}

/// What became of a value.
enum Written {
    Fine,
    /// Not appended.
    Unfit(Unfit),
}

impl RecordWriter<'_> {
    /// Reads the object at the cursor into a new row of `top`. On an error `top` must be truncated by the caller.
    pub(in super::super) fn record(&mut self, cursor: &mut Cursor<'_>, top: &mut Struct) -> Result<(), JsonError> {
        if cursor.peek() != Some(b'{') {
            // Tell broken JSON from JSON that is no record.
            cursor.skip_value(0)?;
            return Err(JsonError { what: "the record is no JSON object", at: 1 });
        }
        self.object(cursor, top, None, 0)
    }

    /// The reason for an object of which no field is declared; the cursor stands on its `{`.
    #[cold]
    fn strangers_of(&mut self, mut cursor: Cursor<'_>) -> Result<(), JsonError> {
        let mut found = Undeclared::default();
        cursor.members(0, |cursor, key| {
            let raw = cursor.slice(key.start, key.end);
            if key.has_escapes && read::unescape(raw, &mut self.scratch).is_some() {
                found.see(&self.scratch);
            } else {
                found.see(raw);
            }
            cursor.skip_value(1)
        })?;
        if !found.is_empty() {
            self.strangers = Some(format!("no declared column among its fields: {}", found.shown()));
        }
        Ok(())
    }

    fn object(
        &mut self,
        cursor: &mut Cursor<'_>,
        target: &mut Struct,
        path: Option<&Path<'_>>,
        depth: usize,
    ) -> Result<(), JsonError> {
        let Struct { fields, index, len, children, .. } = target;
        let row = *len;
        let begin = cursor.at;
        let mut predicted = 0;
        cursor.members(depth, |cursor, key| {
            let raw = cursor.slice(key.start, key.end);
            let known = match fields.get(predicted) {
                Some(field) if !key.has_escapes && field.name().as_bytes() == raw => Some(predicted),
                _ if !key.has_escapes => index.get(raw).copied(),
                _ => {
                    read::unescape(raw, &mut self.scratch)
                        .ok_or_else(|| cursor.error("half a surrogate pair in a key"))?;
                    index.get(self.scratch.as_slice()).copied()
                }
            };
            let Some((at, child, field)) = known.and_then(|at| Some((at, children.get_mut(at)?, fields.get(at)?)))
            else {
                return self.unknown(cursor, raw, key.has_escapes, path, depth);
            };
            predicted = at + 1;
            if child.len() > row {
                child.truncate(row);
            }
            let here = Path { parent: path, name: field.name() };
            let start = cursor.at;
            match self.value(cursor, child, &here, depth + 1)? {
                Written::Fine => {}
                Written::Unfit(why) => {
                    child.truncate(row);
                    child.push_null();
                    self.unfit(cursor, why, &here, start);
                }
            }
            Ok(())
        })?;
        for child in children.iter_mut() {
            if child.len() == row {
                child.push_null();
            }
        }
        *len += 1;
        // Nothing was predicted: no field was known. As a row it would be NULL all over.
        if predicted == 0 && path.is_none() && self.reading.is_declared && !fields.is_empty() {
            return self.strangers_of(Cursor::new(cursor.text, begin));
        }
        Ok(())
    }

    fn unknown(
        &mut self,
        cursor: &mut Cursor<'_>,
        key: &[u8],
        has_escapes: bool,
        path: Option<&Path<'_>>,
        depth: usize,
    ) -> Result<(), JsonError> {
        let start = cursor.at;
        cursor.skip_value(depth + 1)?;
        if let Some(rescue) = &mut self.rescue {
            let value = cursor.slice(start, cursor.at);
            // A NULL nobody asked for is nothing to rescue.
            if value != b"null" {
                let name =
                    if has_escapes { String::from_utf8_lossy(&self.scratch) } else { String::from_utf8_lossy(key) };
                let name = path.map_or(name.to_string(), |path| format!("{}.{name}", path.text()));
                rescue.push_json(self.row, &name, value);
            }
        } else if !self.reading.is_declared && cursor.slice(start, cursor.at) != b"null" {
            // Inside a list: the list goes to `_rescued` as a whole.
            let name = path.map(Path::text).unwrap_or_default();
            self.refusal.get_or_insert(Refusal { name, why: Unfit::Type, start, end: cursor.at });
        } else if path.is_none()
            && let Some(undeclared) = &mut self.undeclared
        {
            undeclared.see(if has_escapes { &self.scratch } else { key });
        }
        Ok(())
    }

    fn unfit(&mut self, cursor: &Cursor<'_>, why: Unfit, path: &Path<'_>, start: usize) {
        match &mut self.rescue {
            Some(rescue) if why == Unfit::Type => {
                rescue.push_json(self.row, &path.text(), cursor.slice(start, cursor.at));
            }
            _ => {
                self.refusal.get_or_insert_with(|| Refusal { name: path.text(), why, start, end: cursor.at });
            }
        }
    }

    /// Reads one value to its end, whether it fits or not.
    fn value(
        &mut self,
        cursor: &mut Cursor<'_>,
        column: &mut Column,
        path: &Path<'_>,
        depth: usize,
    ) -> Result<Written, JsonError> {
        let start = cursor.at;
        let first = cursor.peek();
        match (&mut *column, first) {
            (_, Some(b'n')) => {
                cursor.word(b"null")?;
                column.push_null();
                Ok(Written::Fine)
            }
            (Column::Struct(inner), Some(b'{')) => {
                self.object(cursor, inner, Some(path), depth)?;
                Ok(Written::Fine)
            }
            (Column::List(list), Some(b'[')) => self.list(cursor, list, path, depth),
            (Column::Json(text), Some(_)) => {
                cursor.skip_value(depth)?;
                let pushed = if self.is_block {
                    text.push_at(cursor.text, start, cursor.at)
                } else {
                    text.push(cursor.slice(start, cursor.at))
                };
                Ok(written(pushed))
            }
            (_, Some(b'"')) => self.string(cursor, column),
            (_, Some(b'-' | b'0'..=b'9')) => {
                let (start, end) = cursor.number()?;
                Ok(written(self.number(cursor, column, start, end)))
            }
            (Column::Boolean(booleans), Some(b't')) => {
                cursor.word(b"true")?;
                booleans.push(true);
                Ok(Written::Fine)
            }
            (Column::Boolean(booleans), Some(b'f')) => {
                cursor.word(b"false")?;
                booleans.push(false);
                Ok(Written::Fine)
            }
            (Column::Text(text), Some(b't' | b'f')) if self.reading.is_declared => {
                cursor.skip_value(depth)?;
                Ok(written(text.push(cursor.slice(start, cursor.at))))
            }
            _ => {
                cursor.skip_value(depth)?;
                Ok(Written::Unfit(Unfit::Type))
            }
        }
    }

    fn string(&mut self, cursor: &mut Cursor<'_>, column: &mut Column) -> Result<Written, JsonError> {
        let token = cursor.string()?;
        if token.has_escapes {
            read::unescape(cursor.slice(token.start, token.end), &mut self.scratch)
                .ok_or_else(|| cursor.error("half a surrogate pair in a string"))?;
            return Ok(written(self.text(column, None)));
        }
        if let (Column::Text(text), true) = (&mut *column, self.is_block) {
            return Ok(written(text.push_at(cursor.text, token.start, token.end)));
        }
        Ok(written(self.text(column, Some(cursor.slice(token.start, token.end)))))
    }

    /// A string value for a column of any type; `None` stands for the scratch.
    fn text(&self, column: &mut Column, value: Option<&[u8]>) -> Result<(), Unfit> {
        let value = value.unwrap_or(&self.scratch);
        match column {
            Column::Text(text) => text.push(value),
            // In an inferred source a string is no number: it goes to `_rescued` as it is.
            Column::Int16(_)
            | Column::Int32(_)
            | Column::Int64(_)
            | Column::Float32(_)
            | Column::Float64(_)
            | Column::Boolean(_)
            | Column::Decimal(..)
                if !self.reading.is_declared =>
            {
                Err(Unfit::Type)
            }
            other => other.push_text(super::super::values::trim(value), self.reading),
        }
    }

    fn number(&mut self, cursor: &Cursor<'_>, column: &mut Column, start: usize, end: usize) -> Result<(), Unfit> {
        let text = cursor.slice(start, end);
        match column {
            Column::Float64(_) | Column::Float32(_) | Column::Decimal(..) => column.push_text(text, self.reading),
            Column::Int64(values) => match self.reading.integer(text) {
                Ok(value) => {
                    values.push(value);
                    Ok(())
                }
                Err(_) => {
                    values.push(whole(text)?);
                    Ok(())
                }
            },
            Column::Int32(values) => {
                values.push(i32::try_from(whole(text)?).map_err(|_| Unfit::Type)?);
                Ok(())
            }
            Column::Int16(values) => {
                values.push(i16::try_from(whole(text)?).map_err(|_| Unfit::Type)?);
                Ok(())
            }
            Column::Text(target) if self.reading.is_declared => {
                if self.is_block {
                    target.push_at(cursor.text, start, end)
                } else {
                    target.push(text)
                }
            }
            Column::Timestamp(_) | Column::TimestampTz(_) | Column::Date(_) if !self.reading.patterns.is_empty() => {
                column.push_text(text, self.reading)
            }
            _ => Err(Unfit::Type),
        }
    }

    fn list(
        &mut self,
        cursor: &mut Cursor<'_>,
        list: &mut List,
        path: &Path<'_>,
        depth: usize,
    ) -> Result<Written, JsonError> {
        let mut unfit = None;
        let child = &mut list.child;
        let before = child.len();
        // Inside a list there is no place for a path: a misfit or an unknown member makes the whole list unfit.
        let rescue = self.rescue.take();
        let refusal = self.refusal.take();
        let walked = cursor.elements(depth, |cursor| {
            let (at, len) = (cursor.at, child.len());
            match self.value(cursor, child, path, depth + 1)? {
                Written::Fine => {
                    if let Some(inner) = self.refusal.take() {
                        unfit.get_or_insert(inner.why);
                    }
                }
                Written::Unfit(why) => {
                    child.truncate(len);
                    child.push_null();
                    unfit.get_or_insert(why);
                }
            }
            debug_assert!(cursor.at > at);
            Ok(())
        });
        self.rescue = rescue;
        self.refusal = refusal;
        walked?;
        match (unfit, i32::try_from(child.len())) {
            (None, Ok(end)) => {
                list.offsets.push(end);
                Ok(Written::Fine)
            }
            (why, _) => {
                child.truncate(before);
                Ok(Written::Unfit(why.unwrap_or(Unfit::Type)))
            }
        }
    }
}

/// A whole number as JSON may write it: `12`, `12.0`, `1.2e1`.
fn whole(text: &[u8]) -> Result<i64, Unfit> {
    use super::super::values::number;
    number::integer(text)
        .or_else(|| number::decimal(text, 19, 0, b'.').and_then(|value| i64::try_from(value).ok()))
        .ok_or(Unfit::Type)
}

fn written(pushed: Result<(), Unfit>) -> Written {
    match pushed {
        Ok(()) => Written::Fine,
        Err(why) => Written::Unfit(why),
    }
}

/// Appends the JSON value `text` to a nested column of a CSV file. Nothing is appended on an error.
pub(in super::super) fn push_value(column: &mut Column, text: &[u8], reading: &Reading) -> Result<(), Unfit> {
    let before = column.len();
    let mut writer = RecordWriter {
        reading,
        rescue: None,
        row: 0,
        refusal: None,
        undeclared: None,
        strangers: None,
        is_block: false,
        scratch: Vec::new(),
    };
    let mut cursor = Cursor::new(text, 0);
    cursor.blanks();
    let done = match writer.value(&mut cursor, column, &Path { parent: None, name: "" }, 0) {
        Ok(Written::Fine) if cursor.end().is_ok() => writer.refusal.map_or(Ok(()), |refusal| Err(refusal.why)),
        Ok(Written::Unfit(why)) => Err(why),
        _ => Err(Unfit::Type),
    };
    if done.is_err() {
        column.truncate(before);
    }
    done
}
