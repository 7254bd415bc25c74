//! `lode quarantine`: rows that were refused.

use lode_connect::quarantine::{self, QuarantineFilter};
use lode_core::{ErrorKind, Problem, nearest};

use super::table::{name_of, unknown};
use crate::app::App;
use crate::args::QuarantineCommand;
use crate::output::Output;
use crate::progress::{count, plural};
use crate::render::{Format, Sheet, Type};

pub(crate) async fn run(command: &QuarantineCommand, app: &App, out: &mut Output) -> Result<u8, Problem> {
    match command {
        QuarantineCommand::List { format } => list(format.format, app, out).await?,
        QuarantineCommand::Show { table, rule, name, file, limit, format } => {
            let filter = filter(rule.as_deref(), name.as_deref(), file.as_deref())?;
            show(table, &filter, *limit, format.format, app, out).await?;
        }
        QuarantineCommand::Replay { table, rule, name, file } => {
            let filter = filter(rule.as_deref(), name.as_deref(), file.as_deref())?;
            replay(table, &filter, app, out).await?;
        }
    }
    Ok(0)
}

const RULES: [&str; 5] = ["decode", "contract", "expectation", "late", "error"];

fn filter(rule: Option<&str>, name: Option<&str>, file: Option<&str>) -> Result<QuarantineFilter, Problem> {
    if let Some(rule) = rule.filter(|rule| !RULES.contains(rule)) {
        let problem = Problem::new(ErrorKind::Usage, format!("\"{rule}\" is not a rule"));
        return Err(match nearest(rule, RULES) {
            Some(near) => problem.fix(format!("did you mean \"{near}\"?")),
            None => problem.fix(format!("rules: {}", RULES.join(", "))),
        });
    }
    let owned = |text: Option<&str>| text.map(str::to_owned);
    Ok(QuarantineFilter { rule: owned(rule), name: owned(name), file: owned(file) })
}

async fn list(format: Format, app: &App, out: &Output) -> Result<(), Problem> {
    let counts = quarantine::list(app.catalog().await?, None).await?;
    if counts.is_empty() && format == Format::Table {
        return out.line("no row is in quarantine");
    }
    let mut sheet = Sheet::new(&[
        ("table", Type::Text),
        ("rule", Type::Text),
        ("name", Type::Text),
        ("rows", Type::Int),
        ("example", Type::Text),
    ]);
    for count in counts {
        sheet.push([count.table.into(), count.rule.into(), count.name.into(), count.rows.into(), count.example.into()]);
    }
    sheet.print(format, out)
}

async fn show(
    table: &str,
    filter: &QuarantineFilter,
    limit: usize,
    format: Format,
    app: &App,
    out: &Output,
) -> Result<(), Problem> {
    let name = name_of(table, app)?;
    let catalog = app.catalog().await?;
    if !name.is_quarantine() && catalog.relation(&name).await?.is_none() {
        return Err(unknown(catalog, &name).await);
    }
    let rows = quarantine::show(catalog, &name, filter, limit).await?;
    let mut sheet = Sheet::new(&[
        ("_id", Type::Text),
        ("_rule", Type::Text),
        ("_name", Type::Text),
        ("_reason", Type::Text),
        ("_source", Type::Text),
        ("_file", Type::Text),
        ("_line", Type::Int),
        ("_offset", Type::Int),
        ("_raw", Type::Text),
        ("_epoch", Type::Int),
        ("_quarantined_at", Type::Time),
    ]);
    for row in rows {
        sheet.push([
            row.id.into(),
            row.rule.into(),
            row.name.into(),
            row.reason.into(),
            row.source.into(),
            row.file.into(),
            row.line.into(),
            row.offset.into(),
            row.raw.into(),
            row.epoch.into(),
            row.quarantined_at.into(),
        ]);
    }
    sheet.print(format, out)
}

async fn replay(table: &str, filter: &QuarantineFilter, app: &App, out: &Output) -> Result<(), Problem> {
    let context = super::ingest::context(app).await?;
    let report = quarantine::replay(&context, &name_of(table, app)?, filter).await?;
    out.say(format!(
        "{}: {} tried, now in the table: {}, still in quarantine: {}",
        report.table,
        plural(report.rows_tried, "row"),
        count(report.rows_replayed),
        count(report.rows_left)
    ));
    Ok(())
}
