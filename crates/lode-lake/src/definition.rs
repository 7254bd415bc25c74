//! The definition of a table: schema with field ids, partition columns, properties, constraints, and how it may change.

use std::collections::BTreeMap;

use arrow::datatypes::SchemaRef;
use serde::{Deserialize, Serialize};

use lode_core::{TableId, TableName};

use crate::LakeError;

/// What a table is, apart from its rows. Serialised with the Delta schema string, so it survives in a seal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TableDefinition {
    pub id: TableId,
    pub name: TableName,
    /// In the types of the type table of design.md §4; every field, nested ones too, carries `PARQUET:field_id`.
    #[serde(with = "crate::delta::schema_json")]
    pub schema: SchemaRef,
    pub partition_by: Vec<String>,
    /// Delta `configuration`: `delta.*` and `lode.*` keys.
    pub properties: BTreeMap<String, String>,
    pub constraints: Vec<Constraint>,
    pub comment: Option<String>,
}

/// A CHECK constraint; NOT NULL is the field's nullability.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Constraint {
    pub name: String,
    pub expression: String,
}

/// What to do when incoming rows have other columns than the table. dbt's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SchemaPolicy {
    #[default]
    Ignore,
    Fail,
    AppendNewColumns,
    SyncAllColumns,
}

/// How incoming rows meet a table.
#[derive(Debug, Clone, PartialEq)]
pub enum Evolution {
    /// The definition stays.
    Same,
    /// In place: columns were added at the end or widened.
    InPlace(TableDefinition),
    /// Needs a rewrite of the whole table (drop, narrower type, other type).
    Rewrite(TableDefinition),
}

impl TableDefinition {
    /// Whether rows may be added only. Source: Delta protocol, "Append-only Tables".
    pub fn is_append_only(&self) -> bool {
        self.properties.get("delta.appendOnly").is_some_and(|value| value == "true")
    }

    /// The schema of the table's data files: the columns in the same order, by the names and types they have there.
    pub fn stored_schema(&self) -> SchemaRef {
        crate::delta::schema::stored_schema(&self.schema)
    }

    /// A new table: canonical types, fresh field ids from 1, a random id.
    /// Errors: `Unsupported` for a type outside the type table, `Schema` for duplicate or empty names or unknown
    /// partition columns.
    pub fn create(
        name: TableName,
        schema: &arrow::datatypes::Schema,
        partition_by: Vec<String>,
    ) -> Result<Self, LakeError> {
        crate::delta::create_definition(name, schema, partition_by)
    }

    /// How rows of `incoming` can be written to this table under `policy`.
    /// Errors: `Schema` naming the column, both types and the remedy.
    pub fn evolve(&self, incoming: &arrow::datatypes::Schema, policy: SchemaPolicy) -> Result<Evolution, LakeError> {
        crate::delta::evolve(self, incoming, policy)
    }
}
