//! One file a command. Each takes its arguments, the `App` and an `Output`, and returns an exit code.

pub(crate) mod build;
pub(crate) mod config;
mod doctor;
pub(crate) mod ingest;
pub(crate) mod init;
mod pipeline;
mod quarantine;
mod sql;
mod status;
mod table;
mod up;

use std::time::Duration;

use lode_core::{ErrorKind, Problem};

use crate::app::App;
use crate::args::Command;
use crate::output::Output;

/// The command works on the lake, so it needs the data folder's lock, or `lode up` that has it.
pub(crate) fn needs_house(command: &Command) -> bool {
    !matches!(command, Command::Init(_) | Command::Demo(_) | Command::Config(_) | Command::Prove(_))
}

/// The command takes its statement from the input when no argument gives it.
pub(crate) fn wants_piped_text(command: &Command) -> bool {
    matches!(command, Command::Sql(args) if args.command.is_none() && args.file.is_none())
}

/// Runs a command until it is done or interrupted; then it is dropped, and a sealed epoch still runs to its end.
pub(crate) async fn run_to_end(command: &Command, app: &App, out: &mut Output) -> Result<u8, Problem> {
    if let Command::Up(_) = command {
        // It ends by itself when it is asked to.
        return run(command, app, out).await;
    }
    let interrupt = app.interrupt.clone();
    let patience = if ends_by_itself(command) { GRACE } else { Duration::ZERO };
    let out_of_patience = async {
        interrupt.cancelled().await;
        tokio::time::sleep(patience).await;
    };
    tokio::select! {
        biased;
        () = out_of_patience => Err(Problem::new(ErrorKind::Interrupted, "interrupted")),
        result = run(command, app, out) => result,
    }
}

/// How long an interrupted run may take to say what it did and what it skipped.
const GRACE: Duration = Duration::from_secs(5);

/// The command hears the interrupt itself and writes down what it did.
fn ends_by_itself(command: &Command) -> bool {
    matches!(
        command,
        Command::Ingest(_)
            | Command::Build(_)
            | Command::Run(_)
            | Command::Test(_)
            | Command::Seed(_)
            | Command::Compile(_)
    )
}

async fn run(command: &Command, app: &App, out: &mut Output) -> Result<u8, Problem> {
    match command {
        Command::Sql(args) => sql::run(args, app, out).await,
        Command::Demo(args) => crate::demo::run(args, app, out).await,
        Command::Up(args) => up::run(args, app, out).await,
        Command::Ingest(args) => ingest::run(args, app, out).await,
        Command::Build(args) => build::run(args, app, out).await,
        Command::Run(args) => build::run_models(args, app, out).await,
        Command::Test(args) => build::test(args, app, out).await,
        Command::Seed(args) => build::seed(args, app, out).await,
        Command::Compile(args) => build::compile(args, app, out).await,
        Command::Ls(args) => build::ls(args, app, out).await,
        Command::Show(args) => build::show(args, app, out).await,
        Command::Table(command) => table::run(command, app, out).await,
        Command::Pipeline(command) => pipeline::run(command, app, out).await,
        Command::Quarantine(command) => quarantine::run(command, app, out).await,
        Command::Status(args) => status::run(args, app, out).await,
        Command::Doctor(args) => doctor::run(args, app, out).await,
        Command::Prove(command) => crate::prove::run(command, app, out),
        // They are done before anything is opened.
        Command::Init(args) => init::run(args, &app.around, out),
        Command::Config(command) => config::run(command, &app.settings, out),
    }
}

/// Shows how a command ended, and gives its exit code. A reader that went away is no failure.
pub(crate) fn report(result: Result<u8, Problem>, out: &Output) -> u8 {
    let result = result.and_then(|code| out.flush().map(|()| code));
    match result {
        Ok(code) => code,
        Err(_) if out.is_closed() => 0,
        Err(problem) if problem.kind() == ErrorKind::Interrupted => {
            let _ = out.flush();
            out.say(problem.what());
            problem.kind().exit_code()
        }
        Err(problem) => {
            let _ = out.flush();
            out.problem(&problem);
            problem.kind().exit_code()
        }
    }
}
