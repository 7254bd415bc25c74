//! Ids are types, so that two of them in one call cannot be swapped.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{ErrorKind, Problem};

/// A table or view by name: `schema.name`, both kept as written.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct TableName {
    pub schema: String,
    pub name: String,
}

impl TableName {
    pub const DEFAULT_SCHEMA: &'static str = "public";

    pub fn new(schema: impl Into<String>, name: impl Into<String>) -> Self {
        Self { schema: schema.into(), name: name.into() }
    }

    /// The table that keeps the rejected rows of this one: `<schema>.<table>__quarantine`.
    pub fn quarantine(&self) -> Self {
        Self { schema: self.schema.clone(), name: format!("{}__quarantine", self.name) }
    }

    pub fn is_quarantine(&self) -> bool {
        self.name.ends_with("__quarantine")
    }
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.schema, self.name)
    }
}

impl From<TableName> for String {
    fn from(name: TableName) -> Self {
        name.to_string()
    }
}

impl TryFrom<String> for TableName {
    type Error = Problem;

    fn try_from(text: String) -> Result<Self, Problem> {
        text.parse()
    }
}

impl FromStr for TableName {
    type Err = Problem;

    /// `name` (schema `public`), `schema.name`; parts may hold letters, digits, `_`, `-` and `$`, and become folder names.
    fn from_str(text: &str) -> Result<Self, Problem> {
        let (schema, name) = text.split_once('.').unwrap_or((Self::DEFAULT_SCHEMA, text));
        for part in [schema, name] {
            let fits = !part.is_empty()
                && part.len() <= 200
                && !part.starts_with(['-', '_'])
                && part.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '$'));
            if !fits {
                return Err(Problem::new(ErrorKind::Config, format!("\"{text}\" is not a table name"))
                    .fix("write `schema.table` with letters, digits and `_`, not starting with `_`"));
            }
        }
        Ok(Self::new(schema, name))
    }
}

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl $name {
            pub fn random() -> Self {
                Self(Uuid::new_v4())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = uuid::Error;

            fn from_str(text: &str) -> Result<Self, uuid::Error> {
                Uuid::parse_str(text).map(Self)
            }
        }
    };
}

uuid_id!(
    /// A table for life, whatever its name.
    TableId
);
uuid_id!(
    /// A pipeline for life: stored with its target table, not derived from the user's name.
    PipelineId
);
uuid_id!(
    /// One try at one epoch; part of every file name that the try writes.
    AttemptId
);

macro_rules! number_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub i64);

        impl $name {
            pub fn next(self) -> Self {
                Self(self.0 + 1)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number_id!(
    /// One committed state of a table: the Delta version. `NONE` (-1) stands before the first.
    SnapshotId
);
number_id!(
    /// One atomic step of a pipeline, counted from 1 without gaps; 0 stands before the first.
    Epoch
);
number_id!(
    /// Grows with each process that takes over a lake.
    Fence
);

impl SnapshotId {
    pub const NONE: Self = Self(-1);
}

impl Epoch {
    pub const ZERO: Self = Self(0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_name_lies_in_public() {
        assert_eq!("orders".parse::<TableName>().unwrap(), TableName::new("public", "orders"));
    }

    #[test]
    fn a_name_that_would_leave_its_folder_is_refused() {
        for bad in ["../etc.passwd", "a.b.c", "", "a.", "_lode.x", "a/b"] {
            assert!(bad.parse::<TableName>().is_err(), "{bad}");
        }
    }
}
