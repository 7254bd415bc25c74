//! `lode table`: history, files and schema of one table, and naming one that came from outside.

use lode_catalog::{Catalog, RelationEntry, TableEntry};
use lode_core::{ErrorKind, Problem, TableName, nearest, sql_type};
use lode_lake::DeltaTable;

use crate::app::App;
use crate::args::TableCommand;
use crate::output::Output;
use crate::render::{Sheet, Type};

pub(crate) async fn run(command: &TableCommand, app: &App, out: &mut Output) -> Result<u8, Problem> {
    match command {
        TableCommand::History { table, limit, format } => {
            history(table, *limit, app).await?.print(format.format, out)?
        }
        TableCommand::Files { table, format } => files(table, app).await?.print(format.format, out)?,
        TableCommand::Schema { table, format } => schema(table, app).await?.print(format.format, out)?,
        TableCommand::Register { table, location } => register(table, location.as_deref(), app, out).await?,
    }
    Ok(0)
}

async fn register(name: &str, location: Option<&str>, app: &App, out: &mut Output) -> Result<(), Problem> {
    let name = name_of(name, app)?;
    let location = location.map_or_else(|| format!("{}/{}", name.schema, name.name), str::to_owned);
    let table = app.catalog().await?.register(&name, &location).await?;
    out.say(format_args!("registered {name} at snapshot {}", table.published));
    Ok(())
}

async fn history(name: &str, limit: usize, app: &App) -> Result<Sheet, Problem> {
    let catalog = app.catalog().await?;
    let table = find_table(catalog, &name_of(name, app)?).await?;
    let mut sheet = Sheet::new(&[
        ("version", Type::Int),
        ("committed_at", Type::Time),
        ("operation", Type::Text),
        ("rows_added", Type::Int),
        ("files_added", Type::Int),
        ("files_removed", Type::Int),
        ("engine", Type::Text),
        ("is_published", Type::Bool),
    ]);
    for commit in DeltaTable::new(catalog.store(), &table.location).history(limit).await? {
        sheet.push([
            commit.version.0.into(),
            commit.committed_at.into(),
            commit.operation.into(),
            commit.rows_added.into(),
            commit.files_added.into(),
            commit.files_removed.into(),
            commit.engine.into(),
            (commit.version <= table.published).into(),
        ]);
    }
    Ok(sheet)
}

async fn files(name: &str, app: &App) -> Result<Sheet, Problem> {
    let catalog = app.catalog().await?;
    let table = find_table(catalog, &name_of(name, app)?).await?;
    let snapshot = catalog.snapshot(&table, None).await?;
    let mut sheet = Sheet::new(&[
        ("path", Type::Text),
        ("rows", Type::Int),
        ("size_bytes", Type::Int),
        ("partition", Type::Text),
        ("has_deletes", Type::Bool),
        ("modified_at", Type::Time),
    ]);
    for live in snapshot.files.iter() {
        let file = &live.file;
        let partition: Vec<String> = file
            .partition_values
            .iter()
            .map(|(column, value)| format!("{column}={}", value.as_deref().unwrap_or("NULL")))
            .collect();
        sheet.push([
            file.path.as_str().into(),
            file.stats.as_ref().map(|stats| stats.num_records).into(),
            file.size_bytes.into(),
            Some(partition.join("/")).filter(|text| !text.is_empty()).into(),
            live.has_deletes.into(),
            chrono::DateTime::from_timestamp_millis(file.modified_ms).into(),
        ]);
    }
    Ok(sheet)
}

async fn schema(name: &str, app: &App) -> Result<Sheet, Problem> {
    let name = name_of(name, app)?;
    let relation = app.warehouse().await?.relation(&name).await?;
    let Some(relation) = relation else { return Err(unknown(app.catalog().await?, &name).await) };
    let mut sheet = Sheet::new(&[("column", Type::Text), ("type", Type::Text), ("is_nullable", Type::Bool)]);
    for field in relation.schema.fields() {
        sheet.push([field.name().as_str().into(), sql_type::name_of(field).into(), field.is_nullable().into()]);
    }
    Ok(sheet)
}

/// A bare name lies in the default schema of the session.
pub(super) fn name_of(text: &str, app: &App) -> Result<TableName, Problem> {
    let mut name: TableName = text.parse()?;
    if !text.contains('.') {
        name.schema.clone_from(&app.settings.default_schema);
    }
    Ok(name)
}

/// Errors: `NotFound` with the nearest name, `Unsupported` for a view.
pub(super) async fn find_table(catalog: &Catalog, name: &TableName) -> Result<TableEntry, Problem> {
    match catalog.relation(name).await? {
        Some(RelationEntry::Table(table)) => Ok(table),
        Some(RelationEntry::View(_)) => {
            Err(Problem::new(ErrorKind::Unsupported, format!("\"{name}\" is a view: it has no files"))
                .fix(format!("ask for its columns: lode table schema {name}")))
        }
        None => Err(unknown(catalog, name).await),
    }
}

pub(super) async fn unknown(catalog: &Catalog, name: &TableName) -> Problem {
    let problem = Problem::new(ErrorKind::NotFound, format!("table \"{name}\" does not exist"));
    let relations = match catalog.relations().await {
        Ok(relations) => relations,
        Err(error) => return error.into(),
    };
    let names: Vec<String> = relations.iter().map(|relation| relation_name(relation).to_string()).collect();
    match nearest(&name.to_string(), names.iter().map(String::as_str)) {
        Some(near) => problem.fix(format!("did you mean \"{near}\"?")),
        None if names.is_empty() => problem.fix("there are no tables yet: run `lode ingest` or `lode build`"),
        None => problem.fix("`lode status` lists the tables"),
    }
}

pub(super) fn relation_name(relation: &RelationEntry) -> &TableName {
    match relation {
        RelationEntry::Table(table) => &table.name,
        RelationEntry::View(view) => &view.name,
    }
}
