//! What JSON values of one place have in common: the type of an inferred column.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields};
use indexmap::IndexMap;
use lode_core::sql_type;

use super::super::infer::Scalars;
use super::read::{Cursor, unescape};
use super::{DEPTH_MAX, JsonError};

/// An object with more keys is a map, not a struct.
const KEYS_MAX: usize = 1000;
/// A struct or list is not nested deeper; what lies below becomes JSON text.
const STRUCT_DEPTH_MAX: usize = 16;

/// The values seen at one place.
#[derive(Debug, Default)]
pub(in super::super) struct Shape {
    pub(in super::super) scalars: Scalars,
    has_booleans: bool,
    has_numbers: bool,
    has_strings: bool,
    members: Option<IndexMap<String, Shape>>,
    elements: Option<Box<Shape>>,
    is_map: bool,
}

impl Shape {
    /// Takes in the value at the cursor.
    pub(in super::super) fn read(&mut self, cursor: &mut Cursor<'_>, depth: usize) -> Result<(), JsonError> {
        cursor.blanks();
        let start = cursor.at;
        match cursor.peek() {
            Some(b'{') => {
                let mut members = self.members.take().unwrap_or_default();
                let mut is_map = self.is_map || depth >= STRUCT_DEPTH_MAX;
                let walked = cursor.members(depth.min(DEPTH_MAX), |cursor, key| {
                    let raw = cursor.slice(key.start, key.end);
                    let mut name = Vec::new();
                    unescape(raw, &mut name).ok_or_else(|| cursor.error("half a surrogate pair in a key"))?;
                    let name = String::from_utf8_lossy(&name).into_owned();
                    if members.len() >= KEYS_MAX && !members.contains_key(&name) {
                        is_map = true;
                    }
                    if is_map {
                        return cursor.skip_value(depth + 1);
                    }
                    members.entry(name).or_default().read(cursor, depth + 1)
                });
                self.members = Some(members);
                self.is_map = is_map;
                walked
            }
            Some(b'[') if depth >= STRUCT_DEPTH_MAX => {
                // Elements of no type: JSON text.
                self.elements.get_or_insert_default();
                cursor.skip_value(depth)
            }
            Some(b'[') => {
                let mut elements = self.elements.take().unwrap_or_default();
                let walked = cursor.elements(depth, |cursor| elements.read(cursor, depth + 1));
                self.elements = Some(elements);
                walked
            }
            Some(b'"') => {
                let token = cursor.string()?;
                let mut text = Vec::new();
                unescape(cursor.slice(token.start, token.end), &mut text)
                    .ok_or_else(|| cursor.error("half a surrogate pair in a string"))?;
                self.has_strings = true;
                self.scalars.see(&text, b'.');
                Ok(())
            }
            Some(b't' | b'f') => {
                self.has_booleans = true;
                cursor.skip_value(depth)
            }
            Some(b'n') => cursor.word(b"null"),
            _ => {
                cursor.skip_value(depth)?;
                self.has_numbers = true;
                self.scalars.see_number(cursor.slice(start, cursor.at));
                Ok(())
            }
        }
    }

    /// The members of the top object as columns.
    pub(in super::super) fn fields(&self, has_zone: bool) -> Vec<Field> {
        let mut taken: std::collections::HashSet<String> =
            [super::super::RESCUED.to_owned(), super::super::LINE.to_owned()].into();
        let members = self.members.iter().flatten();
        // Two keys that differ in case alone cannot both be columns: the later one is rescued.
        members
            .filter(|(name, _)| !name.is_empty() && taken.insert(name.to_lowercase()))
            .map(|(name, shape)| shape.field(name, has_zone))
            .collect()
    }

    fn field(&self, name: &str, has_zone: bool) -> Field {
        let json = || {
            Field::new(name, DataType::Utf8View, true)
                .with_metadata([(sql_type::SQL_TYPE_MARK.to_owned(), "json".to_owned())].into())
        };
        let kinds =
            [self.has_booleans, self.has_numbers, self.has_strings, self.members.is_some(), self.elements.is_some()];
        match kinds {
            [false, false, false, false, false] => Field::new(name, DataType::Utf8View, true),
            [true, false, false, false, false] => Field::new(name, DataType::Boolean, true),
            [false, true, false, false, false] => Field::new(name, self.scalars.number_type(), true),
            [false, false, true, false, false] => Field::new(name, self.scalars.string_type(has_zone), true),
            [false, false, false, true, false] => {
                let members: Fields = self.fields(has_zone).into_iter().map(Arc::new).collect();
                if self.is_map || members.is_empty() {
                    json()
                } else {
                    Field::new(name, DataType::Struct(members), true)
                }
            }
            [false, false, false, false, true] => match &self.elements {
                Some(elements) if !elements.is_empty() => {
                    let element = elements.field("element", has_zone);
                    Field::new(name, DataType::List(Arc::new(element)), true)
                }
                _ => json(),
            },
            _ => json(),
        }
    }

    /// Nothing but NULLs was seen.
    fn is_empty(&self) -> bool {
        !(self.has_booleans
            || self.has_numbers
            || self.has_strings
            || self.members.is_some()
            || self.elements.is_some())
    }

    pub(in super::super) fn has_columns(&self) -> bool {
        self.members.as_ref().is_some_and(|members| !members.is_empty())
    }
}
