//! The commands that work on the project's graph: build, run, test, seed, compile, ls, show.

use std::sync::Arc;

use lode_core::{ErrorKind, Place, Problem, SystemClock, task};
use lode_jobs::{NoticeLevel, Observer, RunEvent};
use lode_project::{Command, Notes, Overrides, Plan, Project, RunOptions, Runner};

use crate::app::App;
use crate::args::{BuildArgs, CompileArgs, LsArgs, SeedArgs, Selection, ShowArgs, TestArgs};
use crate::output::Output;
use crate::progress::Progress;
use crate::render::{self, Format, Sheet, Type};

/// What the four commands that run a graph have in common.
struct Run<'a> {
    command: Command,
    selection: &'a Selection,
    full_refresh: bool,
    threads: Option<usize>,
    fail_fast: bool,
}

pub(crate) async fn run(args: &BuildArgs, app: &App, out: &mut Output) -> Result<u8, Problem> {
    graph(Command::Build, args, app, out).await
}

pub(crate) async fn run_models(args: &BuildArgs, app: &App, out: &mut Output) -> Result<u8, Problem> {
    graph(Command::Run, args, app, out).await
}

async fn graph(command: Command, args: &BuildArgs, app: &App, out: &Output) -> Result<u8, Problem> {
    let run = Run {
        command,
        selection: &args.selection,
        full_refresh: args.full_refresh,
        threads: args.threads,
        fail_fast: args.fail_fast,
    };
    execute(&run, app, out).await
}

pub(crate) async fn test(args: &TestArgs, app: &App, out: &mut Output) -> Result<u8, Problem> {
    let run = Run {
        command: Command::Test,
        selection: &args.selection,
        full_refresh: false,
        threads: args.threads,
        fail_fast: args.fail_fast,
    };
    execute(&run, app, out).await
}

pub(crate) async fn seed(args: &SeedArgs, app: &App, out: &mut Output) -> Result<u8, Problem> {
    let run = Run {
        command: Command::Seed,
        selection: &args.selection,
        full_refresh: args.full_refresh,
        threads: args.threads,
        fail_fast: false,
    };
    execute(&run, app, out).await
}

pub(crate) async fn compile(args: &CompileArgs, app: &App, out: &mut Output) -> Result<u8, Problem> {
    let run = Run {
        command: Command::Compile,
        selection: &args.selection,
        full_refresh: false,
        threads: None,
        fail_fast: false,
    };
    execute(&run, app, out).await
}

async fn execute(run: &Run<'_>, app: &App, out: &Output) -> Result<u8, Problem> {
    let overrides = overrides(run.selection, run.full_refresh, run.threads, app)?;
    let threads = overrides.threads;
    let project = load(app, overrides).await?;
    let plan = plan(&project, run.command, run.selection, out)?;
    let progress = Progress::start(out, app.global.log_format);
    for notice in project.notices() {
        let level = NoticeLevel::Warn;
        progress.on_event(&RunEvent::Notice { level, message: notice.message.clone(), place: notice.place.clone() });
    }
    let runner = runner(project, Arc::clone(&progress) as Arc<dyn Observer>, app).await?;
    let options =
        RunOptions { threads, fail_fast: run.fail_fast, stop: app.interrupt.child_token(), ..RunOptions::default() };
    let results = runner.run(&plan, run.command, &options).await;
    progress.finish();
    Ok(results?.exit_code())
}

pub(crate) async fn ls(args: &LsArgs, app: &App, out: &mut Output) -> Result<u8, Problem> {
    let project = load(app, overrides(&args.selection, false, None, app)?).await?;
    let plan = plan(&project, Command::Ls, &args.selection, out)?;
    let listed = project.list(&plan);
    match args.format.format {
        // One name a line, as dbt prints it, ready for a pipe.
        Format::Table => {
            for node in &listed {
                out.line(&node.fqn)?;
            }
        }
        Format::Json => {
            let text = serde_json::to_string_pretty(&listed)
                .map_err(|error| Problem::internal("the list has no JSON form").cause(error))?;
            out.line(text)?;
        }
        format => {
            let mut sheet = Sheet::new(&[
                ("unique_id", Type::Text),
                ("resource_type", Type::Text),
                ("materialized", Type::Text),
                ("relation", Type::Text),
                ("path", Type::Text),
            ]);
            for node in listed {
                sheet.push([
                    node.unique_id.into(),
                    node.resource_type.into(),
                    node.materialized.into(),
                    node.relation.into(),
                    node.path.into(),
                ]);
            }
            sheet.print(format, out)?;
        }
    }
    Ok(0)
}

pub(crate) async fn show(args: &ShowArgs, app: &App, out: &mut Output) -> Result<u8, Problem> {
    if args.inline.is_none() && args.selection.select.is_empty() {
        return Err(Problem::new(ErrorKind::Usage, "there is nothing to show")
            .at(Place::of("lode show"))
            .fix("give a model: lode show --select gold.trips, or SQL: lode show --inline \"select 1\""));
    }
    let project = load(app, overrides(&args.selection, false, None, app)?).await?;
    let plan = match args.inline {
        Some(_) => Plan::default(),
        None => plan(&project, Command::Show, &args.selection, out)?,
    };
    let runner = runner(project, Arc::new(lode_jobs::Silent), app).await?;
    let shown = runner.show(&plan, args.inline.as_deref(), Some(args.limit as u64)).await?;
    render::print(&shown.schema, shown.rows, args.format.format, out).await?;
    Ok(0)
}

fn overrides(
    selection: &Selection,
    full_refresh: bool,
    threads: Option<usize>,
    app: &App,
) -> Result<Overrides, Problem> {
    let mut overrides = Overrides::new(chrono::Utc::now());
    if let Some(text) = &selection.vars {
        overrides.vars = lode_core::config::parse(text, "--vars")?;
    }
    if let Some(target) = &selection.target {
        overrides.target.clone_from(target);
    }
    overrides.threads = match threads {
        Some(0) => {
            return Err(Problem::new(ErrorKind::Usage, "--threads is 0").fix("give 1 or more"));
        }
        Some(threads) => threads,
        None => task::cpu_count(),
    };
    overrides.schema.clone_from(&app.settings.default_schema);
    overrides.full_refresh = full_refresh;
    overrides.env.clone_from(&app.around.env);
    Ok(overrides)
}

async fn load(app: &App, overrides: Overrides) -> Result<Arc<Project>, Problem> {
    let dir = app.require_models()?.to_path_buf();
    let project = task::blocking("load project", move || Project::load(&dir, &overrides)).await??;
    Ok(Arc::new(project))
}

fn plan(project: &Project, command: Command, selection: &Selection, out: &Output) -> Result<Plan, Problem> {
    let words = |list: &[String]| list.iter().flat_map(|word| word.split_whitespace()).map(str::to_owned).collect();
    let selection = lode_project::Selection {
        select: words(&selection.select),
        exclude: words(&selection.exclude),
        resource_types: Vec::new(),
    };
    let plan = project.plan(command, &selection)?;
    for word in &plan.unmatched {
        out.say(format!("warning: the selection \"{word}\" names no node"));
    }
    if plan.is_empty() {
        out.say("nothing to do: the selection names no node");
    }
    Ok(plan)
}

async fn runner(project: Arc<Project>, observer: Arc<dyn Observer>, app: &App) -> Result<Runner, Problem> {
    let house = app.house().await?;
    let notes = Arc::clone(&house.catalog) as Arc<dyn Notes>;
    Ok(Runner::new(project, Arc::clone(&house.warehouse), notes, Arc::new(SystemClock), observer))
}
