//! This executable as a child process: run to its end, or killed on the way.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use lode_core::{ErrorKind, Problem};
use tokio_util::sync::CancellationToken;

use super::{Broken, End};

/// A child that takes longer hangs, and that is a fault too.
const DEADLINE: Duration = Duration::from_secs(120);

pub(super) struct Children {
    executable: PathBuf,
    project: PathBuf,
    log: PathBuf,
    interrupt: CancellationToken,
    /// How long each command takes when nothing disturbs it.
    pub(super) ingest_takes: Duration,
    pub(super) build_takes: Duration,
}

pub(super) struct Ended {
    /// `None` when it was killed.
    pub(super) code: Option<i32>,
    pub(super) out: String,
    pub(super) err: String,
    pub(super) took: Duration,
}

/// What is done to a child.
#[derive(Debug, Clone, Default)]
pub(super) struct Blow {
    pub(super) env: Vec<(&'static str, String)>,
    /// SIGKILL after this time.
    pub(super) kill_after: Option<Duration>,
}

impl Children {
    pub(super) fn new(dir: &Path, interrupt: CancellationToken) -> Result<Self, Problem> {
        let executable = std::env::current_exe()
            .map_err(|error| Problem::new(ErrorKind::Unavailable, "this executable cannot be found").cause(error))?;
        Ok(Self {
            executable,
            project: dir.join("project"),
            log: dir.join("children.log"),
            interrupt,
            ingest_takes: Duration::from_millis(100),
            build_takes: Duration::from_millis(100),
        })
    }

    /// Runs one clean ingest and build; returns the fail points that they visit, with the number of visits.
    pub(super) fn learn(&mut self) -> Result<Vec<(String, u64)>, End> {
        let list = Blow { env: vec![("LODE_FAIL_POINT", "list".to_owned())], kill_after: None };
        let mut points = std::collections::BTreeMap::<String, u64>::new();
        for command in ["ingest", "build"] {
            let ended = self.run(&[command], &list)?;
            if ended.code != Some(0) {
                return Err(Broken(format!("a clean `lode {command}` failed:\n{}", ended.err)).into());
            }
            match command {
                "ingest" => self.ingest_takes = ended.took,
                _ => self.build_takes = ended.took,
            }
            for line in ended.err.lines() {
                if let Some((name, visits)) = line.strip_prefix("fail point ").and_then(|rest| rest.split_once(' ')) {
                    let visits = visits.parse().unwrap_or(1);
                    let most = points.entry(name.to_owned()).or_default();
                    *most = visits.max(*most);
                }
            }
        }
        for name in lode_catalog::FAIL_POINTS {
            points.entry((*name).to_owned()).or_insert(1);
        }
        Ok(points.into_iter().collect())
    }

    /// Runs a command without disturbance; it must end with 0. Errors: `Broken`, for a child that hangs too;
    /// `Interrupted`.
    pub(super) fn must_succeed(&mut self, args: &[&str]) -> Result<String, End> {
        let ended = self.run(args, &Blow::default()).map_err(unless_interrupted)?;
        match ended.code {
            Some(0) => Ok(ended.out),
            code => {
                let code = code.map_or("a signal".to_owned(), |code| format!("exit code {code}"));
                Err(Broken(format!("`lode {}` ended with {code}:\n{}", args.join(" "), ended.err.trim_end())).into())
            }
        }
    }

    /// Runs a command under a blow. Errors: `Interrupted`; `Internal` when the child hangs.
    pub(super) fn run(&mut self, args: &[&str], blow: &Blow) -> Result<Ended, Problem> {
        let fail = |error: std::io::Error| Problem::new(ErrorKind::Unavailable, "a child could not run").cause(error);
        let (out_path, err_path) = (self.log.with_extension("out"), self.log.with_extension("err"));
        let mut command = Command::new(&self.executable);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("LODE_") {
                command.env_remove(name);
            }
        }
        command
            .arg("--project-dir")
            .arg(&self.project)
            .args(args)
            .envs(blow.env.iter().map(|(name, value)| (*name, value.as_str())))
            .current_dir(&self.project)
            // Ctrl-C is for this process: a child that hears it too would end in a way that looks broken.
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(std::fs::File::create(&out_path).map_err(fail)?)
            .stderr(std::fs::File::create(&err_path).map_err(fail)?);
        let started = Instant::now();
        let mut child = command.spawn().map_err(fail)?;
        let status = loop {
            if let Some(status) = child.try_wait().map_err(fail)? {
                break status;
            }
            let is_due = blow.kill_after.is_some_and(|after| started.elapsed() >= after);
            if is_due || started.elapsed() > DEADLINE || self.interrupt.is_cancelled() {
                // SIGKILL, on this system.
                let _ = child.kill();
                let status = child.wait().map_err(fail)?;
                if self.interrupt.is_cancelled() {
                    return Err(Problem::new(ErrorKind::Interrupted, "interrupted"));
                }
                if !is_due {
                    return Err(Problem::internal(format!("`lode {}` hangs", args.join(" "))));
                }
                break status;
            }
            std::thread::sleep(Duration::from_millis(1));
        };
        let took = started.elapsed();
        let read =
            |path: &Path| std::fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).map_err(fail);
        let ended = Ended { code: status.code(), out: read(&out_path)?, err: read(&err_path)?, took };
        self.keep(args, blow, &ended);
        Ok(ended)
    }

    /// One entry a child in the log of the run, for whoever looks for the cause.
    fn keep(&self, args: &[&str], blow: &Blow, ended: &Ended) {
        use std::io::Write;
        let file = std::fs::OpenOptions::new().create(true).append(true).open(&self.log);
        if let Ok(mut file) = file {
            let _ = writeln!(
                file,
                "lode {} {blow:?} -> {:?} in {:?}\n{}",
                args.join(" "),
                ended.code,
                ended.took,
                ended.err
            );
        }
    }
}

/// A fault found, with the seed and the folder told, unless the user ended the run.
fn unless_interrupted(problem: Problem) -> End {
    if problem.kind() == ErrorKind::Interrupted {
        return problem.into();
    }
    Broken(problem.to_string()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_that_hangs_is_a_fault_and_an_interrupt_is_none() {
        let hangs = unless_interrupted(Problem::internal("`lode status` hangs"));
        assert!(matches!(hangs, End::Broken(Broken(what)) if what == "`lode status` hangs"));
        let ended = unless_interrupted(Problem::new(ErrorKind::Interrupted, "interrupted"));
        assert!(matches!(ended, End::Problem(problem) if problem.kind() == ErrorKind::Interrupted));
    }
}
