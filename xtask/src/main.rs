//! Developer commands: `cargo xtask check` runs everything that must pass before a commit, apart from the tests.

mod structure;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};

fn main() -> ExitCode {
    let command = std::env::args().nth(1).unwrap_or_default();
    let outcome = match command.as_str() {
        "check" => check(),
        "structure" => root().and_then(|root| structure::check(&root)),
        _ => {
            say("usage: cargo xtask check | structure");
            return ExitCode::from(2);
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn root() -> Result<PathBuf> {
    // Of this run, not of the build: another clone may have built this binary.
    let manifest = std::env::var("CARGO_MANIFEST_DIR").context("run it as `cargo xtask`")?;
    Ok(Path::new(&manifest).parent().context("xtask lies in the workspace")?.to_owned())
}

fn check() -> Result<()> {
    let root = root()?;
    run(&root, "cargo", &["fmt", "--all", "--check"])?;
    structure::check(&root)?;
    run(
        &root,
        "cargo",
        &["clippy", "--quiet", "--workspace", "--all-targets", "--profile", "ci", "--locked", "--", "-D", "warnings"],
    )?;
    say("check passed");
    Ok(())
}

fn run(root: &Path, program: &str, arguments: &[&str]) -> Result<()> {
    say(&format!("$ {program} {}", arguments.join(" ")));
    let mut command = Command::new(program);
    command.args(arguments).current_dir(root);
    // What cargo tells xtask about itself would reach build scripts that look at it (ring): each change between a build from
    // here and one from a shell would then compile everything above them again.
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") || text == "OUT_DIR" {
            command.env_remove(&name);
        }
    }
    let status = command.status().with_context(|| program.to_owned())?;
    if !status.success() {
        bail!("`{program} {}` failed", arguments.join(" "));
    }
    Ok(())
}

#[expect(clippy::print_stderr, reason = "a developer command speaks to a terminal")]
fn say(text: &str) {
    eprintln!("{text}");
}
