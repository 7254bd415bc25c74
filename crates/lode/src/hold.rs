//! One process holds a data folder: a command runs inside `lode up` if one is there, else takes the lock, else waits.

use std::time::{Duration, Instant};

use lode_catalog::{CatalogError, DataLock};
use lode_core::{ErrorKind, Place, Problem};

use crate::app::{App, prepare_data_dir};
use crate::args::{Cli, Command};
use crate::control::client::{self, Forwarded};
use crate::output::Output;

pub(crate) enum Held {
    /// It ran in another process; its exit code.
    Forwarded(u8),
    Lock(DataLock),
}

/// Errors: `Unavailable` when the wait was longer than `--lock-timeout`, or for a second `lode up`.
pub(crate) fn forward_or_lock(cli: &Cli, app: &App, out: &Output) -> Result<Held, Problem> {
    let started = Instant::now();
    let socket = app.socket_path();
    let can_forward =
        !matches!(&cli.command, Command::Up(_)) && !matches!(&cli.command, Command::Doctor(args) if args.rebuild);
    let mut pause = Duration::from_millis(5);
    let mut told = None;
    loop {
        if can_forward && let Some(stream) = client::connect(&socket) {
            let argv: Vec<String> = std::env::args_os().skip(1).map(|arg| arg.to_string_lossy().into_owned()).collect();
            match client::forward(stream, &argv, &app.around, app.piped_in.clone(), out)? {
                Forwarded::Done(code) => return Ok(Held::Forwarded(code)),
                Forwarded::NotStarted => {}
            }
        }
        prepare_data_dir(&app.settings)?;
        let pid = match DataLock::acquire(&app.settings.data_dir) {
            Ok(lock) => return Ok(Held::Lock(lock)),
            Err(CatalogError::Locked { pid, .. }) => pid,
            Err(error) => return Err(error.into()),
        };
        let holder = describe(pid);
        if !can_forward && client::connect(&socket).is_some() {
            return Err(Problem::new(ErrorKind::Unavailable, format!("{holder} serves this data folder already"))
                .at(Place::of(app.settings.data_dir.display().to_string()))
                .fix("stop it first, or use it: other commands run through it by themselves"));
        }
        if started.elapsed() > app.global.lock_timeout {
            return Err(Problem::new(ErrorKind::Unavailable, format!("{holder} holds the data folder"))
                .at(Place::of(app.settings.data_dir.display().to_string()))
                .fix("wait for it to end, stop it, or give a longer `--lock-timeout`"));
        }
        // A holder that ends within a blink is not worth a word.
        if started.elapsed() > Duration::from_millis(200) && told != Some(pid) {
            out.say(format!("waiting for {holder}"));
            told = Some(pid);
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(100));
    }
}

/// `process 4711: lode ingest telemetry`, as far as the system tells.
pub(crate) fn describe(pid: u32) -> String {
    let raw = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let mut words: Vec<String> = raw
        .split(|byte| *byte == 0)
        .filter(|word| !word.is_empty())
        .map(|word| String::from_utf8_lossy(word).chars().filter(|c| !c.is_control()).collect())
        .collect();
    if let Some(program) = words.first_mut() {
        *program = program.rsplit('/').next().unwrap_or_default().to_owned();
    }
    let command: String = words.join(" ").chars().take(80).collect();
    if command.is_empty() { format!("process {pid}") } else { format!("process {pid}: {command}") }
}
