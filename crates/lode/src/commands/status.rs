//! `lode status`: sources with the sums that must hold, pipelines, tables, last runs.

use std::collections::BTreeMap;

use lode_catalog::{
    Catalog, FileRow, FileState, PipelineKind, PipelineState, PipelineStatus, RelationEntry, RunRow, TableEntry,
};
use lode_connect::SourceState;
use lode_core::{ErrorKind, Problem, TableName};
use serde::Serialize;

use super::pipeline::{kind_word, state_word};
use crate::app::{App, House};
use crate::args::StatusArgs;
use crate::output::Output;
use crate::progress::count;
use crate::render::{Format, Sheet, Type};

#[derive(Debug, Serialize)]
struct Status {
    sources: Vec<SourceStatus>,
    pipelines: Vec<PipelineStatus>,
    tables: Vec<TableStatus>,
    runs: Vec<RunRow>,
}

/// One ingest. `is_whole`: rows in = landed + quarantined + dropped, and the tables hold them.
#[derive(Debug, Serialize)]
struct SourceStatus {
    name: String,
    table: Option<String>,
    files_landed: u64,
    files_renamed: u64,
    files_ignored: u64,
    files_poison: u64,
    rows_in: u64,
    rows_landed: u64,
    rows_quarantined: u64,
    rows_dropped: u64,
    /// Rows that later moved from the quarantine into the table.
    rows_replayed: u64,
    /// Rows that the table and its quarantine hold now.
    rows_in_table: Option<u64>,
    rows_in_quarantine: Option<u64>,
    is_whole: bool,
    /// What does not fit.
    findings: Vec<String>,
    /// Files that cannot be read, with the reason.
    poison: Vec<(String, String)>,
    state: &'static str,
    error: Option<String>,
    /// What the watch of `lode up` says about it.
    watch: Option<SourceState>,
}

#[derive(Debug, Clone, Serialize)]
pub(super) struct TableStatus {
    pub(super) name: TableName,
    kind: &'static str,
    /// `None` for a view, and where a file has no statistics.
    pub(super) rows: Option<u64>,
    bytes: Option<u64>,
    files: Option<u64>,
    version: Option<i64>,
    #[serde(skip)]
    pub(super) entry: Option<TableEntry>,
}

pub(crate) async fn run(args: &StatusArgs, app: &App, out: &mut Output) -> Result<u8, Problem> {
    let format = args.format.format;
    if !matches!(format, Format::Table | Format::Json) {
        return Err(Problem::new(ErrorKind::Usage, "a status is several tables, so it has no such form")
            .fix("use --format json, or table"));
    }
    let status = collect(app.house().await?).await?;
    let is_whole = status.sources.iter().all(|source| source.is_whole);
    if format == Format::Json {
        let text = serde_json::to_string_pretty(&status)
            .map_err(|error| Problem::internal("the status has no JSON form").cause(error))?;
        out.line(text)?;
    } else {
        print(&status, out)?;
    }
    Ok(u8::from(!is_whole))
}

async fn collect(house: &House) -> Result<Status, Problem> {
    let catalog = &house.catalog;
    let pipelines = catalog.pipelines().await?;
    let tables = tables(catalog).await?;
    let mut sources = Vec::new();
    for status in pipelines.iter().filter(|status| status.pipeline.kind == PipelineKind::Ingest) {
        let files = catalog.files(&status.pipeline).await?;
        let mut source = source(status, &files, &tables);
        let note = catalog.get_note(lode_connect::STATE_SCOPE, &source.name).await?;
        source.watch = note.and_then(|text| serde_json::from_str(&text).ok());
        sources.push(source);
    }
    let mut runs = catalog.runs(5).await?;
    for run in runs.iter_mut().filter(|run| run.finished_at.is_none() && run.started_at < house.opened_at) {
        run.status = "died".to_owned();
    }
    Ok(Status { sources, pipelines, tables, runs })
}

fn source(status: &PipelineStatus, files: &[FileRow], tables: &[TableStatus]) -> SourceStatus {
    let of_state = |state| files.iter().filter(|file| file.state == state).count() as u64;
    let own = |is_quarantine: bool| {
        tables.iter().find(|table| {
            let pipeline = table.entry.as_ref().and_then(|entry| entry.pipeline);
            pipeline == Some(status.pipeline.id) && table.name.is_quarantine() == is_quarantine
        })
    };
    let (table, quarantine) = (own(false), own(true));
    let counts = &status.counts;
    let rows_in_table = table.map_or(Some(0), |table| table.rows);
    let rows_in_quarantine = quarantine.map_or(Some(0), |table| table.rows);
    let mut findings = Vec::new();
    let sum = counts.rows_landed + counts.rows_quarantined + counts.rows_dropped;
    if counts.rows_in != sum {
        findings.push(format!("{} rows came in, {} are accounted for", count(counts.rows_in), count(sum)));
    }
    let wanted = counts.rows_landed + counts.rows_replayed;
    if rows_in_table.is_some_and(|rows| rows < wanted) {
        findings.push(format!(
            "the table should hold {} rows and holds {}",
            count(wanted),
            count(rows_in_table.unwrap_or(0))
        ));
    }
    let wanted = counts.rows_quarantined.saturating_sub(counts.rows_replayed);
    if rows_in_quarantine.is_some_and(|rows| rows != wanted) {
        let held = count(rows_in_quarantine.unwrap_or(0));
        findings.push(format!("the quarantine should hold {} rows and holds {held}", count(wanted)));
    }
    SourceStatus {
        name: status.pipeline.name.clone(),
        table: table.map(|table| table.name.to_string()),
        files_landed: of_state(FileState::Landed),
        files_renamed: of_state(FileState::Renamed),
        files_ignored: of_state(FileState::Ignored),
        files_poison: of_state(FileState::Poison),
        rows_in: counts.rows_in,
        rows_landed: counts.rows_landed,
        rows_quarantined: counts.rows_quarantined,
        rows_dropped: counts.rows_dropped,
        rows_replayed: counts.rows_replayed,
        rows_in_table,
        rows_in_quarantine,
        is_whole: findings.is_empty(),
        findings,
        poison: files
            .iter()
            .filter(|file| file.state == FileState::Poison)
            .map(|file| (file.path.clone(), file.note.clone().unwrap_or_default()))
            .collect(),
        state: state_word(status.state),
        error: status.error.clone(),
        watch: None,
    }
}

/// All relations; rows and bytes come from the statistics of the published files.
pub(super) async fn tables(catalog: &Catalog) -> Result<Vec<TableStatus>, Problem> {
    let mut tables = Vec::new();
    for relation in catalog.relations().await? {
        tables.push(match relation {
            RelationEntry::View(view) => TableStatus {
                name: view.name,
                kind: "view",
                rows: None,
                bytes: None,
                files: None,
                version: None,
                entry: None,
            },
            RelationEntry::Table(entry) => {
                let snapshot = catalog.snapshot(&entry, None).await?;
                let rows = snapshot
                    .files
                    .iter()
                    .map(|live| live.file.stats.as_ref().filter(|_| !live.has_deletes).map(|stats| stats.num_records));
                TableStatus {
                    name: entry.name.clone(),
                    kind: "table",
                    rows: rows.sum(),
                    bytes: Some(snapshot.files.iter().map(|live| live.file.size_bytes).sum()),
                    files: Some(snapshot.files.len() as u64),
                    version: Some(snapshot.version.0),
                    entry: Some(entry),
                }
            }
        });
    }
    Ok(tables)
}

fn print(status: &Status, out: &Output) -> Result<(), Problem> {
    let paint = out.out_paint();
    if status.sources.is_empty() && status.tables.is_empty() {
        out.line("nothing has landed yet: run `lode ingest`, then `lode build`")?;
        return Ok(());
    }
    if !status.sources.is_empty() {
        out.line(paint.bold("Sources: rows in = landed + quarantined + dropped"))?;
        print_sources(status, out)?;
    }
    let blocked: Vec<_> = status.pipelines.iter().filter(|status| status.state == PipelineState::Blocked).collect();
    for status in &blocked {
        let reason = status.error.as_deref().unwrap_or("no reason is known");
        out.line(paint.red(format!("pipeline \"{}\" is blocked: {reason}", status.pipeline.name)))?;
        out.line(format!("  fix:   remove the cause, then run `lode pipeline resume {}`", status.pipeline.name))?;
    }
    out.line("")?;
    out.line(paint.bold("Tables"))?;
    let writers: BTreeMap<_, _> =
        status.pipelines.iter().map(|status| (status.pipeline.id, &status.pipeline)).collect();
    let mut sheet = Sheet::new(&[
        ("table", Type::Text),
        ("kind", Type::Text),
        ("rows", Type::Int),
        ("files", Type::Int),
        ("bytes", Type::Int),
        ("version", Type::Int),
        ("written_by", Type::Text),
    ]);
    for table in &status.tables {
        let writer = table.entry.as_ref().and_then(|entry| writers.get(&entry.pipeline?));
        sheet.push([
            table.name.to_string().into(),
            table.kind.into(),
            table.rows.into(),
            table.files.into(),
            table.bytes.into(),
            table.version.into(),
            writer.map(|pipeline| format!("{} {}", kind_word(pipeline.kind), pipeline.name)).into(),
        ]);
    }
    sheet.print(Format::Table, out)?;
    if !status.runs.is_empty() {
        out.line("")?;
        out.line(paint.bold("Last runs"))?;
        let mut sheet = Sheet::new(&[
            ("started_at", Type::Time),
            ("command", Type::Text),
            ("status", Type::Text),
            ("seconds", Type::Float),
        ]);
        for run in &status.runs {
            let seconds = run.finished_at.map(|end| (end - run.started_at).num_milliseconds() as f64 / 1e3);
            sheet.push([
                run.started_at.into(),
                run.command.as_str().into(),
                run.status.as_str().into(),
                seconds.into(),
            ]);
        }
        sheet.print(Format::Table, out)?;
    }
    Ok(())
}

fn print_sources(status: &Status, out: &Output) -> Result<(), Problem> {
    // First, so that no window is too narrow for it.
    let mut sheet = Sheet::new(&[
        ("sum", Type::Text),
        ("source", Type::Text),
        ("table", Type::Text),
        ("files", Type::Int),
        ("rows_in", Type::Int),
        ("landed", Type::Int),
        ("quarantined", Type::Int),
        ("dropped", Type::Int),
        ("replayed", Type::Int),
    ]);
    for source in &status.sources {
        sheet.push([
            if source.is_whole { "✓" } else { "✗" }.into(),
            source.name.as_str().into(),
            source.table.clone().into(),
            source.files_landed.into(),
            source.rows_in.into(),
            source.rows_landed.into(),
            source.rows_quarantined.into(),
            source.rows_dropped.into(),
            source.rows_replayed.into(),
        ]);
    }
    sheet.print(Format::Table, out)?;
    let paint = out.out_paint();
    for source in &status.sources {
        for finding in &source.findings {
            out.line(paint.red(format!("✗ {}: {finding}", source.name)))?;
        }
        if let Some(error) = source.watch.as_ref().and_then(|watch| watch.error.as_ref()) {
            out.line(paint.yellow(format!("! {}: {error}", source.name)))?;
        }
        for (path, reason) in &source.poison {
            out.line(paint.yellow(format!("! {}: \"{path}\" cannot be read: {reason}", source.name)))?;
        }
    }
    Ok(())
}
