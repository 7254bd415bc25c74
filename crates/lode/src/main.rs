//! The command line of Lode: reads it, opens what a command needs, and turns every outcome into an exit code.

mod app;
mod args;
mod commands;
mod config;
mod control;
mod demo;
mod hold;
mod output;
mod progress;
mod prove;
mod render;

use std::process::ExitCode;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use clap::Parser;
use lode_core::{ErrorKind, Problem};
use tokio_util::sync::CancellationToken;

use crate::app::App;
use crate::args::{Cli, Command};
use crate::config::{Settings, Surroundings};
use crate::output::{Output, Terminal};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// When the process began.
static STARTED: OnceLock<Instant> = OnceLock::new();

pub(crate) fn started() -> Instant {
    *STARTED.get_or_init(Instant::now)
}

fn main() -> ExitCode {
    started();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version go to stdout and are no errors. A closed pipe is none either.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { ErrorKind::Usage.exit_code() } else { 0 });
        }
    };
    let terminal = Terminal::of_process(cli.global.no_color);
    let out = Output::of_process(terminal, cli.global.quiet);
    hook_panics();
    start_log(&cli, terminal);
    let result = run(&cli, &out);
    ExitCode::from(commands::report(result, &out))
}

fn run(cli: &Cli, out: &Output) -> Result<u8, Problem> {
    let around = Surroundings::of_process(cli.global.project_dir.clone())?;
    for name in Settings::unknown_variables(&around) {
        out.say(format!("warning: environment variable {name} is not known and has no effect"));
    }
    match &cli.command {
        Command::Init(args) => return commands::init::run(args, &around, out),
        Command::Config(command) => return commands::config::run(command, &Settings::load(&around)?, out),
        _ => {}
    }
    let settings = Settings::load(&around)?;
    let interrupt = CancellationToken::new();
    let mut app = App::new(around, settings, cli.global.clone(), interrupt.clone());
    if commands::wants_piped_text(&cli.command) {
        app.piped_in = control::client::read_piped(8 << 20)?;
    }
    let lock = if commands::needs_house(&cli.command) {
        match hold::forward_or_lock(cli, &app, out)? {
            hold::Held::Forwarded(code) => return Ok(code),
            hold::Held::Lock(lock) => Some(lock),
        }
    } else {
        None
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(lode_core::task::cpu_count())
        .enable_all()
        .thread_name("lode")
        .build()
        .map_err(|error| Problem::internal("the runtime could not start").cause(error))?;
    let app = match lock {
        Some(lock) => app.with_lock(lock),
        None => app,
    };
    let result = runtime.block_on(async {
        let signals = lode_core::task::spawn("signals", hear_signals(interrupt));
        let result = commands::run_to_end(&cli.command, &app, &mut out.clone()).await;
        signals.abort();
        result
    });
    drop(app);
    for (name, visits) in lode_core::fail::visited() {
        out.must_say(format!("fail point {name} {visits}"));
    }
    IS_ENDING.store(true, Ordering::SeqCst);
    // A sealed epoch that still runs is rolled forward by the next command; do not keep the user waiting for long.
    runtime.shutdown_timeout(std::time::Duration::from_secs(2));
    result
}

/// The first signal asks the command to end, the second ends the process.
async fn hear_signals(interrupt: CancellationToken) {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut interrupts), Ok(mut terminations)) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        return;
    };
    for is_first in [true, false] {
        tokio::select! {
            _ = interrupts.recv() => {}
            _ = terminations.recv() => {}
        }
        if is_first {
            interrupt.cancel();
        }
    }
    progress::restore_terminal();
    std::process::exit(i32::from(ErrorKind::Interrupted.exit_code()));
}

/// `lode up` runs commands for others.
pub(crate) static IS_SERVING: AtomicBool = AtomicBool::new(false);

/// The command is done; what still runs in the background is cut off, as by a kill, which is safe at any point.
static IS_ENDING: AtomicBool = AtomicBool::new(false);

/// A panic is a bug of ours: it says so shortly and ends with 70, with the terminal as it was.
fn hook_panics() {
    std::panic::set_hook(Box::new(|info| {
        use std::io::Write;
        // Work in the background is cut off when the command is done, and some libraries take that for a fault of theirs.
        if IS_ENDING.load(Ordering::SeqCst) && std::thread::current().name() != Some("main") {
            return;
        }
        progress::restore_terminal();
        let message = info.payload().downcast_ref::<&str>().map(|text| (*text).to_owned());
        let message = message.or_else(|| info.payload().downcast_ref::<String>().cloned()).unwrap_or_default();
        let place = info.location().map(|at| format!("{}:{}", at.file(), at.line())).unwrap_or_default();
        let text = format!(
            "error: a bug in Lode: {message}\n  where: {place}\n  fix:   please report this text; with RUST_BACKTRACE=1 it tells more\n"
        );
        let mut err = std::io::stderr().lock();
        let _ = err.write_all(text.as_bytes());
        if std::env::var_os("RUST_BACKTRACE").is_some() {
            let _ = writeln!(err, "{}", std::backtrace::Backtrace::force_capture());
        }
        drop(err);
        // One statement of one client must not end `lode up`: its task or thread unwinds, and what it had not sealed is gone.
        if !IS_SERVING.load(Ordering::Relaxed) {
            std::process::exit(i32::from(ErrorKind::Internal.exit_code()));
        }
    }));
}

fn start_log(cli: &Cli, terminal: Terminal) {
    use tracing_subscriber::EnvFilter;
    let wanted = std::env::var("LODE_LOG").ok().filter(|text| !text.is_empty());
    // A command tells by itself what a person should know; `lode up` has nobody to tell but its log.
    let default = if matches!(cli.command, Command::Up(_)) { "warn,lode_connect=info,lode_jobs=info" } else { "error" };
    let filter = EnvFilter::try_new(wanted.as_deref().unwrap_or(default)).unwrap_or_else(|_| EnvFilter::new(default));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(terminal.err_is_terminal && terminal.has_color && cli.global.log_format == args::LogFormat::Text);
    builder.init();
}
