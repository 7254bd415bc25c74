//! `lode doctor`: what is wrong, where, and how to mend it. Each check stands alone, so that one fault does not hide another.

use lode_catalog::{Catalog, PipelineState};
use lode_core::Problem;

use super::status;
use crate::app::{App, House, prepare_data_dir};
use crate::args::DoctorArgs;
use crate::output::Output;
use crate::progress::{count, plural};
use crate::render::{Format, Sheet, Type};

struct Report {
    sheet: Sheet,
    findings: usize,
    format: Format,
    problems: Vec<Problem>,
}

impl Report {
    fn ok(&mut self, check: &str, detail: impl Into<String>) {
        self.push(check, "ok", detail.into(), None);
    }

    fn finding(&mut self, check: &str, problem: Problem) {
        self.findings += 1;
        let mut detail = problem.what().to_owned();
        for cause in problem.causes() {
            detail.push_str(": ");
            detail.push_str(cause);
        }
        self.push(check, "finding", detail, problem.remedy());
        self.problems.push(problem);
    }

    fn push(&mut self, check: &str, result: &str, detail: String, fix: Option<&str>) {
        if self.format == Format::Table {
            self.sheet.push([check.into(), result.into(), detail.into()]);
        } else {
            self.sheet.push([check.into(), result.into(), detail.into(), fix.into()]);
        }
    }

    fn check<T>(&mut self, check: &str, result: Result<T, Problem>, detail: impl FnOnce(&T) -> String) -> Option<T> {
        match result {
            Ok(value) => {
                let detail = detail(&value);
                self.ok(check, detail);
                Some(value)
            }
            Err(problem) => {
                self.finding(check, problem);
                None
            }
        }
    }

    fn close(self, out: &Output) -> Result<u8, Problem> {
        self.sheet.print(self.format, out)?;
        // People read what, where and fix below the table; programs find the fix in its column.
        for problem in self.problems.iter().filter(|_| self.format == Format::Table) {
            out.problem(problem);
        }
        Ok(u8::from(self.findings > 0))
    }
}

pub(crate) async fn run(args: &DoctorArgs, app: &App, out: &mut Output) -> Result<u8, Problem> {
    let format = args.format.format;
    let columns = [("check", Type::Text), ("result", Type::Text), ("detail", Type::Text), ("fix", Type::Text)];
    // The fix of a finding stands below the table for people.
    let shown = if format == Format::Table { columns.len() - 1 } else { columns.len() };
    let sheet = Sheet::new(columns.get(..shown).unwrap_or(&columns));
    let mut report = Report { sheet, findings: 0, format, problems: Vec::new() };
    let dir = app.settings.data_dir.display().to_string();
    report.check("data folder", writable(app), |()| format!("{dir} can be written"));
    report.check("lake", app.store().await.map(drop), |()| app.settings.lake.location.to_string());
    if args.rebuild {
        let rebuilt = rebuild(args, app).await;
        let rebuilt = report.check("rebuild", rebuilt, |done| {
            format!(
                "{}, {}, {}, {}; {} rolled forward",
                plural(done.tables, "table"),
                plural(done.views, "view"),
                plural(done.pipelines, "pipeline"),
                plural(done.files, "file"),
                plural(done.rolled_forward, "epoch")
            )
        });
        if rebuilt.is_none() {
            return report.close(out);
        }
    }
    let Some(house) = report.check("metadata DB and owner", app.open(args.adopt).await.cloned(), |_| "open".to_owned())
    else {
        return report.close(out);
    };
    pipelines(&house.catalog, &mut report).await;
    tables(&house, app, &mut report).await;
    report.close(out)
}

async fn rebuild(args: &DoctorArgs, app: &App) -> Result<lode_catalog::RebuildReport, Problem> {
    let options = lode_catalog::OpenOptions { adopt: args.adopt, clock: std::sync::Arc::new(lode_core::SystemClock) };
    Ok(lode_catalog::rebuild(&app.store().await?, &app.settings.data_dir, &options).await?)
}

/// Writes, syncs and removes a file.
fn writable(app: &App) -> Result<(), Problem> {
    prepare_data_dir(&app.settings)?;
    let path = app.settings.data_dir.join("run").join(format!("doctor-{}", std::process::id()));
    let result = std::fs::write(&path, b"x").and_then(|()| std::fs::File::open(&path)?.sync_all());
    let _ = std::fs::remove_file(&path);
    result.map_err(|error| {
        Problem::new(lode_core::ErrorKind::Denied, "the data folder cannot be written")
            .cause(error)
            .at(lode_core::Place::of(app.settings.data_dir.display().to_string()))
            .fix("give this user the right to write there, and check that the disk has space")
    })
}

async fn pipelines(catalog: &Catalog, report: &mut Report) {
    let pipelines = match catalog.pipelines().await {
        Ok(pipelines) => pipelines,
        Err(error) => return report.finding("pipelines", error.into()),
    };
    let mut is_well = true;
    for status in &pipelines {
        if status.state == PipelineState::Blocked {
            is_well = false;
            let name = &status.pipeline.name;
            let mut problem = Problem::new(lode_core::ErrorKind::Blocked, format!("pipeline \"{name}\" is blocked"))
                .fix(format!("remove the cause, then run `lode pipeline resume {name}`"));
            if let Some(error) = &status.error {
                problem = problem.cause(error);
            }
            report.finding("pipelines", problem);
        }
    }
    if is_well {
        report.ok("pipelines", format!("{} finished every epoch", count(pipelines.len() as u64)));
    }
}

/// Reads every row of every table once.
async fn tables(house: &House, app: &App, report: &mut Report) {
    let tables = match status::tables(&house.catalog).await {
        Ok(tables) => tables,
        Err(problem) => return report.finding("tables", problem),
    };
    let (mut is_well, mut rows) = (true, 0);
    for table in &tables {
        match read(house, app, table).await {
            Ok(number) => rows += number,
            Err(problem) => {
                is_well = false;
                report.finding("tables", problem.context(format!("table \"{}\" cannot be read", table.name)));
            }
        }
    }
    if is_well {
        report.ok("tables", format!("{} read, {}", count(tables.len() as u64), plural(rows, "row")));
    }
}

async fn read(house: &House, app: &App, table: &status::TableStatus) -> Result<u64, Problem> {
    use futures::TryStreamExt;
    let part = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
    let sql = format!("select * from {}.{}", part(&table.name.schema), part(&table.name.name));
    let prepared = house.warehouse.prepare(&sql, &app.session().await?).await?;
    let mut batches = house.warehouse.run(&prepared).await?;
    let mut rows = 0;
    while let Some(batch) = batches.try_next().await? {
        rows += batch.num_rows() as u64;
    }
    match table.rows {
        Some(wanted) if wanted != rows => Err(Problem::new(
            lode_core::ErrorKind::Corrupt,
            format!("it has {} rows, its log says {}", count(rows), count(wanted)),
        )
        .fix("restore the files from a backup, or rebuild the table")),
        _ => Ok(rows),
    }
}
