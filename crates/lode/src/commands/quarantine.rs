//! `lode quarantine`: rows that were refused.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use futures::{StreamExt, TryStreamExt};
use lode_catalog::RelationEntry;
use lode_core::{ErrorKind, Problem, TableName};

use super::table::{name_of, unknown};
use crate::app::App;
use crate::args::QuarantineCommand;
use crate::output::Output;
use crate::render::{self, Format};

pub(crate) async fn run(command: &QuarantineCommand, app: &App, out: &mut Output) -> Result<u8, Problem> {
    match command {
        QuarantineCommand::List { format } => list(format.format, app, out).await?,
        QuarantineCommand::Show { table, rule, limit, format } => {
            show(table, rule.as_deref(), *limit, format.format, app, out).await?;
        }
        QuarantineCommand::Replay { table, rule, dry_run } => {
            replay(table, rule.as_deref(), *dry_run, app, out).await?
        }
    }
    Ok(0)
}

const RULES: [&str; 5] = ["decode", "contract", "expectation", "late", "error"];

async fn list(format: Format, app: &App, out: &Output) -> Result<(), Problem> {
    let tables = quarantines(app).await?;
    if tables.is_empty() && format == Format::Table {
        return out.line("no row is in quarantine");
    }
    let parts: Vec<String> = tables
        .iter()
        .map(|table| {
            let shown = table.name.trim_end_matches("__quarantine");
            format!(
                "select {} as \"table\", _rule as rule, _name as name, _reason as reason, count(*) as rows, \
                 min(_quarantined_at) as first_at, max(_quarantined_at) as last_at from {} group by _rule, _name, _reason",
                literal(&format!("{}.{shown}", table.schema)),
                quoted(table)
            )
        })
        .collect();
    let sql = if parts.is_empty() {
        "select '' as \"table\", '' as rule, '' as name, '' as reason, 0 as rows where false".to_owned()
    } else {
        format!("select * from ({}) as q order by \"table\", rows desc, rule, name, reason", parts.join(" union all "))
    };
    let (schema, rows) = query(&sql, app).await?;
    render::print(&schema, rows, format, out).await?;
    Ok(())
}

async fn show(
    table: &str,
    rule: Option<&str>,
    limit: usize,
    format: Format,
    app: &App,
    out: &Output,
) -> Result<(), Problem> {
    let quarantine = quarantine_of(table, app).await?;
    let filter = filter(rule)?;
    let sql = format!(
        "select * from {}{filter} order by _quarantined_at, _file, _line, _id limit {limit}",
        quoted(&quarantine)
    );
    let (schema, rows) = query(&sql, app).await?;
    let shown = readable_schema(&schema);
    let rows = rows.map(|batch| batch.and_then(|batch| readable(&batch))).boxed();
    render::print(&shown, rows, format, out).await?;
    Ok(())
}

fn filter(rule: Option<&str>) -> Result<String, Problem> {
    match rule {
        None => Ok(String::new()),
        Some(rule) if RULES.contains(&rule) => Ok(format!(" where _rule = {}", literal(rule))),
        Some(rule) => {
            let problem = Problem::new(ErrorKind::Usage, format!("\"{rule}\" is not a rule"));
            Err(match lode_core::nearest(rule, RULES) {
                Some(near) => problem.fix(format!("did you mean \"{near}\"?")),
                None => problem.fix(format!("rules: {}", RULES.join(", "))),
            })
        }
    }
}

async fn query(sql: &str, app: &App) -> Result<(SchemaRef, lode_core::BatchStream), Problem> {
    let session = app.session().await?;
    let warehouse = app.warehouse().await?;
    let prepared = warehouse.prepare(sql, &session).await?;
    let rows = warehouse.run(&prepared).await?;
    Ok((prepared.schema, rows))
}

/// Names of all quarantine tables.
async fn quarantines(app: &App) -> Result<Vec<TableName>, Problem> {
    let relations = app.catalog().await?.relations().await?;
    let names = relations.into_iter().filter_map(|relation| match relation {
        RelationEntry::Table(table) if table.name.is_quarantine() => Some(table.name),
        _ => None,
    });
    Ok(names.collect())
}

/// The quarantine of a table; the name of the quarantine itself will do too.
async fn quarantine_of(text: &str, app: &App) -> Result<TableName, Problem> {
    let name = name_of(text, app)?;
    let quarantine = if name.is_quarantine() { name.clone() } else { name.quarantine() };
    let catalog = app.catalog().await?;
    if catalog.relation(&quarantine).await?.is_some() {
        return Ok(quarantine);
    }
    if catalog.relation(&name).await?.is_some() {
        return Err(Problem::new(ErrorKind::NotFound, format!("table \"{name}\" has no rows in quarantine"))
            .fix("`lode quarantine list` names the tables that have"));
    }
    Err(unknown(catalog, &name).await)
}

/// The raw bytes as text, where they are text.
fn readable(batch: &RecordBatch) -> Result<RecordBatch, Problem> {
    let schema = batch.schema();
    let columns = schema.fields().iter().zip(batch.columns()).map(|(field, array)| {
        if field.name() != "_raw" {
            return Ok(Arc::clone(array));
        }
        let binary = arrow::compute::cast(array, &DataType::BinaryView)
            .map_err(|error| Problem::internal("raw bytes are not bytes").cause(error))?;
        let texts: StringArray = binary
            .as_binary_view()
            .iter()
            .map(|bytes| {
                bytes.map(|bytes| match std::str::from_utf8(bytes) {
                    Ok(text) => text.trim_end_matches(['\r', '\n']).to_owned(),
                    Err(_) => bytes.iter().fold("\\x".to_owned(), |text, byte| format!("{text}{byte:02x}")),
                })
            })
            .collect();
        Ok(Arc::new(texts) as ArrayRef)
    });
    RecordBatch::try_new(readable_schema(&schema), columns.collect::<Result<_, Problem>>()?)
        .map_err(|error| Problem::internal("rows of a quarantine do not form a table").cause(error))
}

fn readable_schema(schema: &SchemaRef) -> SchemaRef {
    let fields = schema.fields().iter().map(|field| {
        if field.name() == "_raw" { Arc::new(Field::new("_raw", DataType::Utf8, true)) } else { Arc::clone(field) }
    });
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

async fn replay(table: &str, rule: Option<&str>, dry_run: bool, app: &App, out: &Output) -> Result<(), Problem> {
    let _ = (table, rule, dry_run, app, out, filter(rule)?);
    let _: Option<Vec<RecordBatch>> = futures::stream::empty::<Result<RecordBatch, Problem>>().try_collect().await.ok();
    Err(Problem::internal("replay"))
}

fn quoted(table: &TableName) -> String {
    let part = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
    format!("{}.{}", part(&table.schema), part(&table.name))
}

fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}
