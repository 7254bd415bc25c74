//! `lode ingest`: land what is there now, once, and account for each row.

use std::sync::Arc;
use std::time::Instant;

use lode_connect::{IngestContext, LandOptions, LandReport, land_once};
use lode_core::{ErrorKind, Problem};
use lode_jobs::{Observer, Recorder, RunEvent, RunTotals};
use tokio_util::sync::CancellationToken;

use crate::app::App;
use crate::args::IngestArgs;
use crate::output::Output;
use crate::progress::{Progress, plural};
use crate::render::{Sheet, Type};

pub(crate) async fn run(args: &IngestArgs, app: &App, out: &mut Output) -> Result<u8, Problem> {
    let context = context(app).await?;
    if context.ingests.is_empty() {
        out.say("nothing to land: this project has no `ingest:` in lode.yml");
        return Ok(0);
    }
    let progress = Progress::start(out, app.global.log_format);
    let recorder = Arc::new(Recorder::new(Arc::clone(&progress) as Arc<dyn Observer>));
    let result = land(args, &context, &recorder, &app.interrupt).await;
    progress.finish();
    let reports = result?;
    let mut sheet = sheet();
    for report in reports.iter().flatten() {
        add(&mut sheet, report);
    }
    sheet.print(args.format.format, out)?;
    reports.iter().flatten().for_each(|report| tell_notes(report, out));
    Ok(tell_problems(&reports, out))
}

/// What landing needs of this process.
pub(super) async fn context(app: &App) -> Result<IngestContext, Problem> {
    let house = app.house().await?;
    Ok(IngestContext {
        catalog: Arc::clone(&house.catalog),
        warehouse: Some(Arc::clone(&house.warehouse)),
        project_dir: app.settings.project_dir.clone(),
        ingests: app.settings.ingests.clone(),
    })
}

async fn land(
    args: &IngestArgs,
    context: &IngestContext,
    recorder: &Arc<Recorder>,
    interrupt: &CancellationToken,
) -> Result<Vec<Result<LandReport, Problem>>, Problem> {
    let (run_id, command) = (uuid::Uuid::new_v4().to_string(), "ingest".to_owned());
    let started = Instant::now();
    let nodes = if args.names.is_empty() { context.ingests.len() } else { args.names.len() };
    recorder.on_event(&RunEvent::RunStarted {
        run_id: run_id.clone(),
        command: command.clone(),
        nodes,
        threads: 1,
        at: context.catalog.now(),
        found: Vec::new(),
    });
    recorder.save(&context.catalog).await?;
    let options = LandOptions { retry_poison: args.retry_poison };
    let observer = Arc::clone(recorder) as Arc<dyn Observer>;
    // A sealed epoch runs to its end in a task of its own; the history still learns that the run was cut short.
    let reports = tokio::select! {
        reports = land_once(context, &args.names, options, &observer) => reports,
        () = interrupt.cancelled() => Err(Problem::new(ErrorKind::Interrupted, "interrupted")),
    };
    let totals = totals(reports.as_deref().unwrap_or_default());
    recorder.on_event(&RunEvent::RunFinished {
        run_id,
        command,
        totals,
        elapsed: started.elapsed(),
        at: context.catalog.now(),
        is_cut_short: reports.is_err(),
    });
    recorder.save(&context.catalog).await?;
    reports
}

fn totals(reports: &[Result<LandReport, Problem>]) -> RunTotals {
    let mut totals = RunTotals::default();
    for report in reports {
        match report {
            Ok(report) if report.problems.is_empty() && report.warned().next().is_some() => totals.warn += 1,
            Ok(report) if report.problems.is_empty() => {
                totals.pass += 1;
                totals.reused += usize::from(report.epochs == 0 && report.files_passed_over == 0);
            }
            _ => totals.error += 1,
        }
    }
    totals
}

fn sheet() -> Sheet {
    Sheet::new(&[
        ("source", Type::Text),
        ("table", Type::Text),
        ("files", Type::Int),
        ("rows_in", Type::Int),
        ("landed", Type::Int),
        ("quarantined", Type::Int),
        ("dropped", Type::Int),
        ("seconds", Type::Float),
    ])
}

fn add(sheet: &mut Sheet, report: &LandReport) {
    sheet.push([
        report.name.as_str().into(),
        report.table.as_str().into(),
        report.files_landed.into(),
        report.rows_in.into(),
        report.rows_landed.into(),
        report.rows_quarantined.into(),
        report.rows_dropped.into(),
        ((report.seconds * 1e3).round() / 1e3).into(),
    ]);
}

/// What landed, but not as one may think; and what was passed over.
fn tell_notes(report: &LandReport, out: &Output) {
    let name = &report.name;
    for rule in report.warned() {
        out.say(format!("{name}: {} warned: {}", plural(rule.violations, "row"), rule.rule));
    }
    if report.rows_rescued > 0 {
        out.say(format!("{name}: {} with values in _rescued", plural(report.rows_rescued, "row")));
    }
    if !report.undeclared.is_empty() {
        out.say(format!(
            "{name}: {} with fields that are not declared, left out: {}",
            plural(report.files_undeclared, "file"),
            report.undeclared.shown()
        ));
    }
    if report.files_passed_over > 0 {
        out.say(format!(
            "{name}: {} passed over (unreadable; land again with --retry-poison)",
            plural(report.files_passed_over, "file")
        ));
    }
}

/// Shows every problem; the exit code is that of a source that failed as a whole, else 1 for single files.
fn tell_problems(reports: &[Result<LandReport, Problem>], out: &Output) -> u8 {
    let mut code = 0;
    for report in reports {
        match report {
            Err(problem) => {
                out.problem(problem);
                code = code.max(problem.kind().exit_code());
            }
            Ok(report) => {
                for problem in &report.problems {
                    out.problem(problem);
                    code = code.max(ErrorKind::Data.exit_code());
                }
            }
        }
    }
    code
}
