//! `lode prove torture`: this executable, run again and again as a child that is killed, robbed and lied to; after each
//! round every row that was given must be there once, every table readable, and nothing published may have gone back.

mod check;
mod child;
mod rounds;
mod world;

use std::time::Instant;

use lode_core::{ErrorKind, Problem};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tokio_util::sync::CancellationToken;

use crate::app::App;
use crate::args::TortureArgs;
use crate::output::Output;
use crate::progress::{count, plural, seconds};
use check::Checker;
use child::Children;
use rounds::{Kind, Round};
use world::World;

/// What broke, in one sentence; the folder of the run tells the rest.
#[derive(Debug)]
pub(crate) struct Broken(String);

enum End {
    Broken(Broken),
    Problem(Problem),
}

impl From<Problem> for End {
    fn from(problem: Problem) -> Self {
        Self::Problem(problem)
    }
}

impl From<Broken> for End {
    fn from(broken: Broken) -> Self {
        Self::Broken(broken)
    }
}

/// Blocks; it runs on the thread of the command and looks at the interrupt between two steps.
pub(crate) fn run(args: &TortureArgs, app: &App, out: &Output) -> Result<u8, Problem> {
    let seed = args.seed.unwrap_or_else(|| rand::rng().random_range(0..1_000_000));
    let dir = std::env::temp_dir().join(format!("lode-torture-{}", std::process::id()));
    std::fs::create_dir_all(&dir).map_err(|error| {
        Problem::new(ErrorKind::Unavailable, "the folder of the run cannot be made")
            .cause(error)
            .fix("set TMPDIR to a folder that can be written")
    })?;
    out.line(format!("seed {seed}, folder {}", dir.display()))?;
    let started = Instant::now();
    let mut torture = Torture {
        world: World::new(&dir, seed)?,
        children: Children::new(&dir, app.interrupt.clone())?,
        checker: Checker::default(),
        dice: ChaCha8Rng::seed_from_u64(seed ^ 0x5eed),
        interrupt: app.interrupt.clone(),
        rounds: 0,
    };
    match torture.all(args, out, started) {
        Ok(()) => {
            let facts = torture.checker.facts();
            out.line(format!(
                "whole after {} in {}: {} rows given in {} files, each there once; {} checks",
                plural(u64::from(torture.rounds), "round"),
                seconds(started.elapsed()),
                count(torture.world.rows_given()),
                count(torture.world.files_given()),
                count(facts)
            ))?;
            if !args.keep {
                let _ = std::fs::remove_dir_all(&dir);
            }
            Ok(0)
        }
        Err(End::Broken(Broken(what))) => {
            out.line(format!("{} round {}: {what}", out.out_paint().red("BROKEN"), torture.rounds + 1))?;
            out.line(format!("  where: {}", dir.display()))?;
            out.line(format!(
                "  again: lode prove torture --seed {seed} --rounds {}",
                args.rounds.unwrap_or_default()
            ))?;
            Ok(1)
        }
        Err(End::Problem(problem)) if problem.kind() == ErrorKind::Interrupted => {
            if !args.keep {
                let _ = std::fs::remove_dir_all(&dir);
            }
            Err(Problem::new(
                ErrorKind::Interrupted,
                format!(
                    "interrupted after {} in {}; nothing was found broken",
                    plural(u64::from(torture.rounds), "whole round"),
                    seconds(started.elapsed())
                ),
            ))
        }
        Err(End::Problem(problem)) => Err(problem),
    }
}

struct Torture {
    world: World,
    children: Children,
    checker: Checker,
    dice: ChaCha8Rng,
    interrupt: CancellationToken,
    /// Rounds that are over.
    rounds: u32,
}

impl Torture {
    fn all(&mut self, args: &TortureArgs, out: &Output, started: Instant) -> Result<(), End> {
        let points = self.first(out)?;
        let is_over = |started: &Instant| args.time.is_some_and(|time| started.elapsed() >= time);
        for kind in rounds::plan(&points, args.short, args.rounds, args.time.is_some()) {
            let mut done = 0;
            let kind_started = Instant::now();
            for number in 0..kind.rounds() {
                if is_over(&started) {
                    break;
                }
                self.round(&kind, number)?;
                done += 1;
            }
            if done > 0 {
                let paint = out.out_paint();
                let time = paint.dim(seconds(kind_started.elapsed()));
                let rounds = if done == 1 { "round" } else { "rounds" };
                out.line(format!("{} {:<48} {done:>4} {rounds:<6} {time}", paint.green("ok"), kind.name()))?;
                out.flush()?;
            }
        }
        // What is left of the time goes to random rounds of every kind.
        if args.time.is_some() {
            let kinds = rounds::random(&points);
            let mut done = 0;
            while !is_over(&started) {
                let at = self.dice.random_range(0..kinds.len());
                if let Some(kind) = kinds.get(at) {
                    self.round(kind, done)?;
                    done += 1;
                }
            }
            if done > 0 {
                out.line(format!(
                    "{} {:<48} {done:>4} rounds",
                    out.out_paint().green("ok"),
                    "any of these, until the time was over"
                ))?;
            }
        }
        Ok(())
    }

    /// A clean run that shows which fail points there are and how long the commands take.
    fn first(&mut self, out: &Output) -> Result<Vec<(String, u64)>, End> {
        self.world.give_files(&mut self.dice)?;
        let points = self.children.learn()?;
        self.checker.all(&self.world, &mut self.children)?;
        out.line(format!("clean run is whole; {} fail points are on its way", points.len()))?;
        out.flush()?;
        Ok(points)
    }

    fn round(&mut self, kind: &Kind, number: u32) -> Result<(), End> {
        if self.interrupt.is_cancelled() {
            return Err(Problem::new(ErrorKind::Interrupted, "interrupted").into());
        }
        self.world.give_files(&mut self.dice)?;
        let round = Round { kind, number };
        round.hurt(&mut self.world, &mut self.children, &mut self.dice)?;
        // What readers see right after the blow, before anything is landed again.
        self.checker.after_the_blow(&self.world, &mut self.children).map_err(|end| named(end, kind))?;
        round.heal(&mut self.world, &mut self.children)?;
        self.children.must_succeed(&["ingest"]).map_err(|end| named(end, kind))?;
        self.children.must_succeed(&["build"]).map_err(|end| named(end, kind))?;
        self.checker.all(&self.world, &mut self.children).map_err(|end| named(end, kind))?;
        self.rounds += 1;
        Ok(())
    }
}

fn named(end: End, kind: &Kind) -> End {
    match end {
        End::Broken(Broken(what)) => End::Broken(Broken(format!("after \"{}\": {what}", kind.name()))),
        other => other,
    }
}
