//! A project in a folder of its own, and the binary run in it.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Longest wait for anything; only a hang meets it.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

pub(crate) struct Folder {
    dir: tempfile::TempDir,
}

pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ended {
    /// The output of a command that must have worked.
    #[track_caller]
    pub(crate) fn done(self) -> String {
        assert_eq!(self.code, Some(0), "{}{}", self.out, self.err);
        self.out
    }
}

impl Folder {
    pub(crate) fn empty() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn with(files: &[(&str, &str)]) -> Self {
        let folder = Self::empty();
        for (path, content) in files {
            folder.write(path, content);
        }
        folder
    }

    /// What `lode init` makes.
    pub(crate) fn template() -> Self {
        let folder = Self::empty();
        folder.lode(&["init", "."]).done();
        folder
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.dir.path().canonicalize().unwrap()
    }

    pub(crate) fn write(&self, path: &str, content: impl AsRef<[u8]>) {
        let path = self.dir.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        command(&self.path(), args)
    }

    pub(crate) fn lode(&self, args: &[&str]) -> Ended {
        self.ended(self.command(args).output().unwrap())
    }

    pub(crate) fn lode_with(&self, env: &[(&str, &str)], args: &[&str]) -> Ended {
        self.ended(self.command(args).envs(env.iter().copied()).output().unwrap())
    }

    /// The texts with this folder shown as `<dir>`.
    pub(crate) fn ended(&self, output: std::process::Output) -> Ended {
        let dir = self.path().display().to_string();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).replace(&dir, "<dir>");
        Ended { code: output.status.code(), out: text(&output.stdout), err: text(&output.stderr) }
    }

    /// Starts `lode up` and waits until it is ready.
    pub(crate) fn up(&self) -> Up {
        self.up_with(&[], &[])
    }

    /// As `up`, with variables and more arguments.
    pub(crate) fn up_with(&self, env: &[(&str, &str)], args: &[&str]) -> Up {
        let log = self.path().join("up.log");
        let child = self
            .command(&[&["up"], args].concat())
            .envs(env.iter().copied())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(&log).unwrap())
            .spawn()
            .unwrap();
        let up = Up { child, log };
        up.wait_for("ready in");
        up
    }
}

fn command(dir: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lode"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("LODE_") {
            command.env_remove(name);
        }
    }
    command.args(args).current_dir(dir).env("NO_COLOR", "1").stdin(Stdio::null());
    command
}

/// A running `lode up`; killed when dropped.
pub(crate) struct Up {
    pub(crate) child: Child,
    log: PathBuf,
}

impl Up {
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    pub(crate) fn wait_for(&self, text: &str) {
        wait_until(|| self.log().contains(text), || format!("no {text:?} in:\n{}", self.log()));
    }

    /// Sends a signal and waits for the end.
    pub(crate) fn stop(&mut self, signal: &str) -> Option<i32> {
        send(&self.child, signal);
        wait_for_end(&mut self.child)
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn send(child: &Child, signal: &str) {
    let sent = Command::new("kill").arg(format!("-{signal}")).arg(child.id().to_string()).status().unwrap();
    assert!(sent.success());
}

pub(crate) fn wait_for_end(child: &mut Child) -> Option<i32> {
    let mut status = None;
    wait_until(
        || {
            status = child.try_wait().unwrap();
            status.is_some()
        },
        || "the process does not end".to_owned(),
    );
    status.unwrap().code()
}

/// Polls a state until it is reached.
pub(crate) fn wait_until(mut is_reached: impl FnMut() -> bool, otherwise: impl Fn() -> String) {
    let started = Instant::now();
    while !is_reached() {
        assert!(started.elapsed() < DEADLINE, "{}", otherwise());
        std::thread::sleep(Duration::from_millis(5));
    }
}
