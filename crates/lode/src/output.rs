//! Where a command's words and data go: its own terminal, or the client of a control socket.

use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};

use lode_core::{ErrorKind, Problem};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

/// What the caller's terminal can do. Sent along when a command runs in another process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Terminal {
    pub(crate) out_is_terminal: bool,
    pub(crate) err_is_terminal: bool,
    /// Columns and lines.
    pub(crate) width: u16,
    pub(crate) height: u16,
    pub(crate) has_color: bool,
}

impl Terminal {
    /// The terminal of this process. `NO_COLOR` and `TERM=dumb` are obeyed.
    pub(crate) fn of_process(no_color: bool) -> Self {
        let out_is_terminal = io::stdout().is_terminal();
        let err_is_terminal = io::stderr().is_terminal();
        let (width, height) =
            if out_is_terminal || err_is_terminal { crossterm::terminal::size().unwrap_or((80, 24)) } else { (80, 24) };
        let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let is_dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        let has_color = !no_color && !set("NO_COLOR") && !is_dumb;
        Self { out_is_terminal, err_is_terminal, width: width.max(20), height: height.max(4), has_color }
    }
}

/// The two streams of one command. Data goes to `out`, words go to `err`. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Output {
    shared: Arc<Shared>,
}

struct Shared {
    out: Mutex<Box<dyn Write + Send>>,
    err: Mutex<Box<dyn Write + Send>>,
    terminal: Terminal,
    width: AtomicU16,
    height: AtomicU16,
    is_quiet: bool,
    /// The size of this process' own terminal may be asked again.
    is_local: bool,
    is_closed: AtomicBool,
}

impl Output {
    /// Writes to the streams of this process.
    pub(crate) fn of_process(terminal: Terminal, is_quiet: bool) -> Self {
        let out = io::BufWriter::with_capacity(64 << 10, io::stdout());
        Self::build(Box::new(out), Box::new(io::stderr()), terminal, is_quiet, true)
    }

    pub(crate) fn new(
        out: Box<dyn Write + Send>,
        err: Box<dyn Write + Send>,
        terminal: Terminal,
        is_quiet: bool,
    ) -> Self {
        Self::build(out, err, terminal, is_quiet, false)
    }

    fn build(
        out: Box<dyn Write + Send>,
        err: Box<dyn Write + Send>,
        terminal: Terminal,
        is_quiet: bool,
        is_local: bool,
    ) -> Self {
        let shared = Shared {
            out: Mutex::new(out),
            err: Mutex::new(err),
            terminal,
            width: AtomicU16::new(terminal.width),
            height: AtomicU16::new(terminal.height),
            is_quiet,
            is_local,
            is_closed: AtomicBool::new(false),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Writes data. Errors: `Interrupted` when the reader has gone; the command then ends and exits 0.
    pub(crate) fn data(&self, bytes: &[u8]) -> Result<(), Problem> {
        self.shared.out.lock().write_all(bytes).map_err(|error| self.lost(&error))
    }

    /// One line of data.
    pub(crate) fn line(&self, text: impl fmt::Display) -> Result<(), Problem> {
        self.data(format!("{text}\n").as_bytes())
    }

    pub(crate) fn flush(&self) -> Result<(), Problem> {
        self.shared.out.lock().flush().map_err(|error| self.lost(&error))
    }

    /// One line of words on the error stream; nothing with `--quiet`.
    pub(crate) fn say(&self, text: impl fmt::Display) {
        if !self.shared.is_quiet {
            self.must_say(text);
        }
    }

    /// One line of words that `--quiet` does not hide: errors.
    pub(crate) fn must_say(&self, text: impl fmt::Display) {
        self.raw_err(format!("{text}\n").as_bytes());
    }

    /// Bytes for the error stream as they are. A lost reader of words stops nothing.
    pub(crate) fn raw_err(&self, bytes: &[u8]) {
        // Data written before must stand above the words.
        if self.shared.terminal.out_is_terminal {
            let _ = self.shared.out.lock().flush();
        }
        let mut err = self.shared.err.lock();
        let _ = err.write_all(bytes).and_then(|()| err.flush());
    }

    pub(crate) fn is_quiet(&self) -> bool {
        self.shared.is_quiet
    }

    /// The reader of the data went away (`lode sql … | head`).
    pub(crate) fn is_closed(&self) -> bool {
        self.shared.is_closed.load(Ordering::Relaxed)
    }

    pub(crate) fn terminal(&self) -> Terminal {
        let mut terminal = self.shared.terminal;
        (terminal.width, terminal.height) = self.size();
        terminal
    }

    /// Columns and lines, as they are now.
    pub(crate) fn size(&self) -> (u16, u16) {
        let is_terminal = self.shared.terminal.out_is_terminal || self.shared.terminal.err_is_terminal;
        if self.shared.is_local
            && is_terminal
            && let Ok((width, height)) = crossterm::terminal::size()
        {
            self.resize(width, height);
        }
        (self.shared.width.load(Ordering::Relaxed), self.shared.height.load(Ordering::Relaxed))
    }

    pub(crate) fn resize(&self, width: u16, height: u16) {
        self.shared.width.store(width.max(20), Ordering::Relaxed);
        self.shared.height.store(height.max(4), Ordering::Relaxed);
    }

    /// Paint for data.
    pub(crate) fn out_paint(&self) -> Paint {
        Paint(self.shared.terminal.out_is_terminal && self.shared.terminal.has_color)
    }

    /// Paint for words.
    pub(crate) fn err_paint(&self) -> Paint {
        Paint(self.shared.terminal.err_is_terminal && self.shared.terminal.has_color)
    }

    /// Shows a problem in its one form, in colour on a terminal.
    pub(crate) fn problem(&self, problem: &Problem) {
        self.must_say(paint_problem(&problem.render(), self.err_paint()));
    }

    fn lost(&self, error: &io::Error) -> Problem {
        if error.kind() == io::ErrorKind::BrokenPipe {
            self.shared.is_closed.store(true, Ordering::Relaxed);
            return Problem::new(ErrorKind::Interrupted, "the reader of the output has gone");
        }
        let kind = if error.kind() == io::ErrorKind::StorageFull { ErrorKind::Full } else { ErrorKind::Unavailable };
        Problem::new(kind, "could not write the output").cause(error).fix("check where the output goes")
    }
}

/// Colours, or none.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Paint(pub(crate) bool);

impl Paint {
    fn wrap(self, code: &str, text: impl fmt::Display) -> String {
        if self.0 { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_string() }
    }

    pub(crate) fn bold(self, text: impl fmt::Display) -> String {
        self.wrap("1", text)
    }

    pub(crate) fn dim(self, text: impl fmt::Display) -> String {
        self.wrap("2", text)
    }

    pub(crate) fn red(self, text: impl fmt::Display) -> String {
        self.wrap("31", text)
    }

    pub(crate) fn green(self, text: impl fmt::Display) -> String {
        self.wrap("32", text)
    }

    pub(crate) fn yellow(self, text: impl fmt::Display) -> String {
        self.wrap("33", text)
    }

    pub(crate) fn cyan(self, text: impl fmt::Display) -> String {
        self.wrap("36", text)
    }
}

fn paint_problem(text: &str, paint: Paint) -> String {
    if !paint.0 {
        return text.to_owned();
    }
    let lines = text.lines().map(|line| {
        if let Some(rest) = line.strip_prefix("error: ") {
            format!("{}{}", paint.wrap("1;31", "error: "), paint.bold(rest))
        } else if let Some(rest) = line.strip_prefix("  where: ") {
            format!("  {} {rest}", paint.cyan("where:"))
        } else if let Some(rest) = line.strip_prefix("  fix:   ") {
            format!("  {}   {rest}", paint.green("fix:"))
        } else if let Some((gutter, rest)) = line.split_once(" | ").filter(|_| line.starts_with("   ")) {
            let rest = if rest.trim() == "^" { paint.red(rest) } else { rest.to_owned() };
            format!("{} {rest}", paint.dim(format!("{gutter} |")))
        } else {
            line.to_owned()
        }
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Collects what is written.
    #[derive(Clone, Default)]
    pub(crate) struct Sink(Arc<Mutex<Vec<u8>>>);

    impl Sink {
        pub(crate) fn text(&self) -> String {
            String::from_utf8(self.0.lock().clone()).unwrap()
        }
    }

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    pub(crate) const PLAIN: Terminal =
        Terminal { out_is_terminal: false, err_is_terminal: false, width: 80, height: 24, has_color: false };

    /// An output into two sinks: data, words.
    pub(crate) fn to_sinks(terminal: Terminal) -> (Output, Sink, Sink) {
        let (out, err) = (Sink::default(), Sink::default());
        (Output::new(Box::new(out.clone()), Box::new(err.clone()), terminal, false), out, err)
    }

    #[test]
    fn a_problem_has_no_escape_codes_without_a_terminal() {
        let problem = Problem::new(ErrorKind::Config, "bad").fix("good");
        assert_eq!(paint_problem(&problem.render(), Paint(false)), "error: bad\n  fix:   good");
        assert!(paint_problem(&problem.render(), Paint(true)).contains("\x1b[32mfix:\x1b[0m   good"));
    }

    #[test]
    fn a_lost_reader_closes_the_output() {
        struct Gone;
        impl Write for Gone {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let output = Output::new(Box::new(Gone), Box::new(Gone), PLAIN, false);
        assert_eq!(output.data(b"x").unwrap_err().kind(), ErrorKind::Interrupted);
        assert!(output.is_closed());
    }
}
