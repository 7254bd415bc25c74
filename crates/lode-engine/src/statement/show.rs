//! SHOW and DESCRIBE.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, RecordBatch, StringViewArray};
use arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion::sql::sqlparser::ast::{ObjectName, ShowStatementOptions};
use futures::{StreamExt, stream};

use lode_catalog::RelationEntry;
use lode_core::{ErrorKind, Problem, SqlSession, sql_type};

use super::{StatementResult, names};
use crate::engine::{Inner, entry_name};
use crate::problem;
use crate::tables::view_schema;

pub(super) async fn tables(
    inner: &Inner,
    options: &ShowStatementOptions,
    _session: &SqlSession,
) -> Result<StatementResult, Problem> {
    let schema = options.show_in.as_ref().and_then(|part| part.parent_name.as_ref());
    let schema = schema.and_then(|name| name.0.first()).and_then(|part| part.as_ident()).map(names::folded);
    let entries: Vec<RelationEntry> = inner.catalog.relations().await?;
    let entries = entries.iter().filter(|entry| schema.as_ref().is_none_or(|name| name == &entry_name(entry).schema));
    let mut columns: [Vec<&str>; 3] = Default::default();
    for entry in entries {
        let name = entry_name(entry);
        columns[0].push(&name.schema);
        columns[1].push(&name.name);
        columns[2].push(if matches!(entry, RelationEntry::Table(_)) { "table" } else { "view" });
    }
    let [schemas, names, kinds] = columns;
    rows(vec![("schema", text(schemas)), ("name", text(names)), ("kind", text(kinds))])
}

pub(super) async fn schemas(inner: &Inner) -> Result<StatementResult, Problem> {
    let entries = inner.catalog.relations().await?;
    let mut schemas: Vec<&str> = entries.iter().map(|entry| entry_name(entry).schema.as_str()).collect();
    schemas.push(lode_core::TableName::DEFAULT_SCHEMA);
    schemas.sort_unstable();
    schemas.dedup();
    rows(vec![("schema", text(schemas))])
}

pub(super) async fn columns(
    inner: &Inner,
    options: &ShowStatementOptions,
    session: &SqlSession,
) -> Result<StatementResult, Problem> {
    match options.show_in.as_ref().and_then(|part| part.parent_name.as_ref()) {
        Some(name) => describe(inner, name, session).await,
        None => Err(Problem::new(ErrorKind::Syntax, "`show columns` needs a table")
            .fix("write `show columns from schema.table`")),
    }
}

pub(super) async fn describe(
    inner: &Inner,
    name: &ObjectName,
    session: &SqlSession,
) -> Result<StatementResult, Problem> {
    let name = names::relation(name, session)?;
    let schema: SchemaRef = match inner.catalog.relation(&name).await? {
        Some(RelationEntry::Table(table)) => Arc::clone(inner.catalog.snapshot(&table, None).await?.schema()),
        Some(RelationEntry::View(view)) => view_schema::decode(&view)?,
        None => return Err(inner.no_relation(&name).await),
    };
    let fields = schema.fields();
    let types: Vec<String> = fields.iter().map(|field| sql_type::name_of(field)).collect();
    let nullable: BooleanArray = fields.iter().map(|field| Some(field.is_nullable())).collect();
    rows(vec![
        ("column", text(fields.iter().map(|field| field.name().as_str()).collect())),
        ("type", text(types.iter().map(String::as_str).collect())),
        ("nullable", Arc::new(nullable)),
    ])
}

fn text(values: Vec<&str>) -> ArrayRef {
    Arc::new(StringViewArray::from(values))
}

fn rows(columns: Vec<(&str, ArrayRef)>) -> Result<StatementResult, Problem> {
    let fields = columns.iter().map(|(name, column)| Field::new(*name, column.data_type().clone(), true));
    let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    let batch = RecordBatch::try_new(Arc::clone(&schema), columns.into_iter().map(|(_, column)| column).collect())
        .map_err(|error| problem::arrow(&error))?;
    Ok(StatementResult::Rows { schema, rows: stream::iter([Ok(batch)]).boxed() })
}
