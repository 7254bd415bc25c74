//! `lode demo`: a fleet's files to gold numbers in one command, offline.
//!
//! Makes the project and its files, lands them, builds bronze to silver to gold with the same functions as `lode ingest` and
//! `lode build`, and shows what came of it.

mod folder;
mod generate;
mod show;
mod template;

use std::time::Instant;

use lode_core::{ErrorKind, Problem, task};

use crate::app::App;
use crate::args::{BuildArgs, DemoArgs, IngestArgs, Selection};
use crate::commands;
use crate::output::Output;
use folder::{Edits, Made};
use generate::Options;

/// Exit code 0, or that of the first step that failed.
pub(crate) async fn run(args: &DemoArgs, app: &App, out: &mut Output) -> Result<u8, Problem> {
    let started = Instant::now();
    let options = options(args);
    let folder = app.around.cwd.join(&args.dir);
    let edits = match (args.keep, args.force) {
        (_, true) => Edits::Overwrite,
        (true, false) => Edits::Keep,
        (false, false) => Edits::Refuse,
    };
    let made = {
        let (folder, options) = (folder.clone(), options.clone());
        task::blocking("demo", move || folder::prepare(&folder, &options, edits)).await??
    };
    say_made(&made, &options, args, started, out);

    let project = app.at(&folder)?;
    let step = Instant::now();
    heading(out, "landing the files in bronze");
    let code = commands::ingest::run(&IngestArgs::default(), &project, out).await?;
    if code != 0 {
        return Ok(code);
    }
    let landed = step.elapsed();

    let step = Instant::now();
    heading(out, "building silver and gold");
    let build = BuildArgs { selection: Selection::default(), full_refresh: false, threads: None, fail_fast: false };
    let code = commands::build::run(&build, &project, out).await?;
    if code != 0 {
        return Ok(code);
    }
    let built = step.elapsed();

    let is_whole = show::all(&project, out).await?;
    out.say(format!(
        "\ndone in {:.1} s: landing {:.1} s, building {:.1} s",
        started.elapsed().as_secs_f64(),
        landed.as_secs_f64(),
        built.as_secs_f64()
    ));
    show::next_steps(&args.dir, out);
    Ok(if is_whole { 0 } else { ErrorKind::Contract.exit_code() })
}

fn options(args: &DemoArgs) -> Options {
    let default = Options::default();
    Options {
        cars: args.cars.unwrap_or(default.cars),
        days: args.days.unwrap_or(default.days),
        seed: args.seed,
        ..default
    }
}

fn heading(out: &Output, text: &str) {
    out.say(format!("\n{}", out.err_paint().bold(text)));
}

fn say_made(made: &Made, options: &Options, args: &DemoArgs, started: Instant, out: &Output) {
    let dir = args.dir.display();
    let (files, megabytes) = (made.landing_files, made.landing_bytes as f64 / 1e6);
    match &made.truth {
        Some(truth) => out.say(format!(
            "made {dir}: {} cars on {} days, {files} files, {megabytes:.0} MB, {} messages ({:.1} s)",
            options.cars,
            options.days,
            show::grouped(truth.lines),
            started.elapsed().as_secs_f64()
        )),
        None if made.is_known => out.say(format!("going on with {dir}: {files} files, {megabytes:.0} MB")),
        None => out.say(format!("found {files} files, {megabytes:.0} MB in {dir}/landing")),
    }
}

#[cfg(test)]
mod tests;
