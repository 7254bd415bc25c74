//! `lode table`: history, files and schema of one table, and naming one that came from outside.

use lode_catalog::{Catalog, RelationEntry, TableEntry};
use lode_core::{ErrorKind, Problem, SnapshotId, TableName, nearest, sql_type};
use lode_lake::DeltaTable;

use crate::app::App;
use crate::args::TableCommand;
use crate::output::Output;
use crate::progress::{count, plural};
use crate::render::{Sheet, Type};

pub(crate) async fn run(command: &TableCommand, app: &App, out: &mut Output) -> Result<u8, Problem> {
    match command {
        TableCommand::History { table, limit, format } => {
            history(table, *limit, app).await?.print(format.format, out)?
        }
        TableCommand::Files { table, format } => files(table, app).await?.print(format.format, out)?,
        TableCommand::Schema { table, format } => schema(table, app).await?.print(format.format, out)?,
        TableCommand::Compact { table } => compact(table.as_deref(), app, out).await?,
        TableCommand::Vacuum { table, retain, dry_run } => {
            vacuum(table.as_deref(), *retain, *dry_run, app, out).await?;
        }
        TableCommand::Restore { table, version } => restore(table, *version, app, out).await?,
        TableCommand::Verify { table } => return verify(table.as_deref(), app, out).await,
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

/// The named table, or all of them.
async fn chosen(name: Option<&str>, app: &App) -> Result<Vec<TableEntry>, Problem> {
    let catalog = app.catalog().await?;
    if let Some(name) = name {
        return Ok(vec![find_table(catalog, &name_of(name, app)?).await?]);
    }
    let tables = catalog.relations().await?.into_iter().filter_map(|relation| match relation {
        RelationEntry::Table(table) => Some(table),
        RelationEntry::View(_) => None,
    });
    Ok(tables.collect())
}

async fn compact(name: Option<&str>, app: &App, out: &Output) -> Result<(), Problem> {
    let mut is_idle = true;
    for table in chosen(name, app).await? {
        let done = app.house().await?.engine.compact(&table).await?;
        if done.files_before > 0 {
            is_idle = false;
            out.say(format_args!(
                "{}: {} became {}, {}",
                table.name,
                plural(done.files_before, "file"),
                count(done.files_after),
                plural(done.rows, "row")
            ));
        }
        if done.given_up > 0 {
            is_idle = false;
            out.say(format_args!("{}: changed meanwhile, run it again", table.name));
        }
    }
    if is_idle {
        out.say(format_args!("nothing to compact"));
    }
    Ok(())
}

async fn vacuum(
    name: Option<&str>,
    retain: Option<std::time::Duration>,
    dry_run: bool,
    app: &App,
    out: &Output,
) -> Result<(), Problem> {
    let (mut files, mut bytes) = (0, 0);
    for table in chosen(name, app).await? {
        let done = app.house().await?.engine.vacuum(&table, retain, dry_run).await?;
        files += done.files.len() as u64;
        bytes += done.bytes;
        if dry_run {
            for file in &done.files {
                out.say(format_args!("{}/{file}", table.location));
            }
        }
    }
    let verb = if dry_run { "would go" } else { "deleted" };
    out.say(format_args!("{} {verb}, {} bytes", plural(files, "file"), count(bytes)));
    Ok(())
}

async fn restore(name: &str, version: i64, app: &App, out: &Output) -> Result<(), Problem> {
    let table = find_table(app.catalog().await?, &name_of(name, app)?).await?;
    let at = app.house().await?.engine.restore(&table, SnapshotId(version)).await?;
    out.say(format_args!("{} has the rows of version {version} again, as version {at}", table.name));
    Ok(())
}

async fn verify(name: Option<&str>, app: &App, out: &Output) -> Result<u8, Problem> {
    let mut findings = 0;
    for table in chosen(name, app).await? {
        let report = app.house().await?.engine.verify(&table).await?;
        let state = match report.findings.len() {
            0 if report.is_rebuilt => "ok, metadata for Iceberg made again".to_owned(),
            0 => "ok".to_owned(),
            found => plural(found as u64, "finding"),
        };
        out.say(format_args!(
            "{}: {}, {}: {state}",
            table.name,
            plural(report.files, "file"),
            plural(report.rows, "row")
        ));
        findings += report.findings.len();
        for problem in &report.findings {
            out.problem(problem);
        }
    }
    Ok(u8::from(findings > 0))
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
