//! The schema of a view as text: `{"default_schema": "public", "columns": [{"name", "type", "nullable"}]}`.

use std::sync::Arc;

use arrow::datatypes::{Field, Schema, SchemaRef};
use serde::{Deserialize, Serialize};

use lode_catalog::ViewEntry;
use lode_core::{Problem, TableName, sql_type};

#[derive(Serialize, Deserialize)]
struct ViewSchema {
    /// Where the view's own unqualified names are looked up.
    default_schema: String,
    columns: Vec<ViewColumn>,
}

#[derive(Serialize, Deserialize)]
struct ViewColumn {
    name: String,
    #[serde(rename = "type")]
    sql_type: String,
}

pub(crate) fn encode(schema: &Schema, default_schema: &str) -> String {
    let columns = schema.fields().iter();
    let columns = columns.map(|f| ViewColumn { name: f.name().clone(), sql_type: sql_type::name_of(f) }).collect();
    let view = ViewSchema { default_schema: default_schema.to_owned(), columns };
    serde_json::to_string(&view).unwrap_or_default()
}

pub(crate) fn decode(view: &ViewEntry) -> Result<SchemaRef, Problem> {
    let known: ViewSchema = serde_json::from_str(&view.schema_json)
        .map_err(|error| Problem::internal(format!("the schema of view \"{}\" is damaged", view.name)).cause(error))?;
    let fields: Result<Vec<Field>, Problem> =
        known.columns.iter().map(|column| sql_type::field(&column.name, &column.sql_type)).collect();
    Ok(Arc::new(Schema::new(fields?)))
}

pub(crate) fn default_schema(view: &ViewEntry) -> String {
    serde_json::from_str::<ViewSchema>(&view.schema_json)
        .map_or_else(|_| TableName::DEFAULT_SCHEMA.to_owned(), |known| known.default_schema)
}
