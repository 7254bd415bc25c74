//! The kinds of rounds: what is done to a child, and to its files after its death.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use lode_core::{ErrorKind, Problem};
use rand::Rng;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;

use super::child::{Blow, Children};
use super::world::World;
use super::{Broken, End};

#[derive(Debug, Clone)]
pub(super) enum Kind {
    /// SIGKILL at a random moment.
    RandomKill { rounds: u32 },
    /// SIGKILL at a named place, at one of its visits.
    FailPoint { name: String, visits: u64, rounds: u32 },
    /// An error at a named place.
    FailPointError { name: String },
    /// The store below answers wrongly now and then.
    Fault { name: &'static str, entry: &'static str, rounds: u32 },
    /// The store answers wrongly, and the process is killed too.
    FaultAndKill { rounds: u32 },
    /// The power goes: what was not synced may vanish.
    PowerLoss { rounds: u32 },
    /// The contract is another one when the process comes back.
    ContractChange { rounds: u32 },
    /// The metadata DB is lost and made again.
    LostDb { rounds: u32 },
}

impl Kind {
    pub(super) fn name(&self) -> String {
        match self {
            Self::RandomKill { .. } => "kill -9 at a random moment".to_owned(),
            Self::FailPoint { name, .. } => format!("kill -9 at {name}"),
            Self::FailPointError { name } => format!("error at {name}"),
            Self::Fault { name, .. } => format!("store: {name}"),
            Self::FaultAndKill { .. } => "store: several faults, and kill -9".to_owned(),
            Self::PowerLoss { .. } => "power loss: unsynced files vanish".to_owned(),
            Self::ContractChange { .. } => "contract changed between crash and restart".to_owned(),
            Self::LostDb { .. } => "metadata DB lost, made again by doctor".to_owned(),
        }
    }

    pub(super) const fn rounds(&self) -> u32 {
        match self {
            Self::RandomKill { rounds }
            | Self::FailPoint { rounds, .. }
            | Self::Fault { rounds, .. }
            | Self::FaultAndKill { rounds }
            | Self::PowerLoss { rounds }
            | Self::ContractChange { rounds }
            | Self::LostDb { rounds } => *rounds,
            Self::FailPointError { .. } => 1,
        }
    }
}

const FAULTS: [(&str, &str); 8] = [
    ("reply lost, written", "lost_reply_written:0.15"),
    ("reply lost, not written", "lost_reply_unwritten:0.15"),
    ("request fails", "error:0.05"),
    ("request sent twice", "repeat:0.2"),
    ("read cut short", "truncate:0.03"),
    ("slow", "slow:0.1"),
    ("disk full", "full_after:24KiB"),
    ("folder denied", "denied:gold,denied:bronze"),
];

/// Rounds of a whole run: every fail point and every fault, then random ones.
pub(super) fn plan(points: &[(String, u64)], is_short: bool, rounds: Option<u32>, is_timed: bool) -> Vec<Kind> {
    let some = |full: u32, short: u32| if is_short { short } else { full };
    let mut kinds = Vec::new();
    for (name, visits) in points {
        let rounds = some(u32::try_from(*visits).unwrap_or(4).clamp(2, 4), 1);
        kinds.push(Kind::FailPoint { name: name.clone(), visits: *visits, rounds });
    }
    if !is_short {
        kinds.extend(points.iter().map(|(name, _)| Kind::FailPointError { name: name.clone() }));
    }
    kinds.extend(FAULTS.iter().map(|(name, entry)| Kind::Fault { name, entry, rounds: some(4, 1) }));
    kinds.push(Kind::FaultAndKill { rounds: some(10, 1) });
    kinds.push(Kind::PowerLoss { rounds: some(15, 2) });
    kinds.push(Kind::ContractChange { rounds: some(10, 2) });
    kinds.push(Kind::LostDb { rounds: some(5, 1) });
    let random = rounds.unwrap_or(if is_timed { some(20, 5) } else { some(100, 5) });
    kinds.push(Kind::RandomKill { rounds: random });
    kinds
}

/// The pool that random rounds are drawn from; killing at any moment is the likeliest.
pub(super) fn random(points: &[(String, u64)]) -> Vec<Kind> {
    let one = 1;
    let mut kinds = vec![Kind::RandomKill { rounds: one }; 20];
    kinds.extend(points.iter().map(|(name, visits)| Kind::FailPoint {
        name: name.clone(),
        visits: *visits,
        rounds: one,
    }));
    kinds.extend(FAULTS.iter().map(|(name, entry)| Kind::Fault { name, entry, rounds: one }));
    kinds.extend(vec![Kind::FaultAndKill { rounds: one }; 5]);
    kinds.extend(vec![Kind::PowerLoss { rounds: one }; 5]);
    kinds.extend(vec![Kind::ContractChange { rounds: one }; 5]);
    kinds.push(Kind::LostDb { rounds: one });
    kinds
}

pub(super) struct Round<'a> {
    pub(super) kind: &'a Kind,
    pub(super) number: u32,
}

impl Round<'_> {
    /// The blow: at `ingest`, at `build`, or at the second after a whole first.
    pub(super) fn hurt(&self, world: &mut World, children: &mut Children, dice: &mut ChaCha8Rng) -> Result<(), End> {
        let is_ingest = dice.random_bool(0.6);
        match self.kind {
            Kind::FailPoint { name, visits, .. } => {
                let visit = if self.number == 0 { 1 } else { dice.random_range(1..=*visits) };
                let blow =
                    |_: bool| Blow { env: vec![("LODE_FAIL_POINT", format!("{name}@{visit}"))], kill_after: None };
                self.both(blow, children)
            }
            Kind::FailPointError { name } => {
                let blow = |_: bool| Blow { env: vec![("LODE_FAIL_POINT", format!("{name}=error"))], kill_after: None };
                self.both(blow, children)
            }
            Kind::Fault { entry, .. } => {
                let seed: u32 = dice.random();
                let blow =
                    |_: bool| Blow { env: vec![("LODE_FAULT", format!("seed:{seed},{entry}"))], kill_after: None };
                self.both(blow, children)
            }
            Kind::FaultAndKill { .. } => {
                let seed: u32 = dice.random();
                let faults = "lost_reply_written:0.05,lost_reply_unwritten:0.05,error:0.02,repeat:0.05,slow:0.05";
                let mut blow = random_kill(is_ingest, children, dice);
                blow.env.push(("LODE_FAULT", format!("seed:{seed},{faults}")));
                one(is_ingest, &blow, children)
            }
            Kind::RandomKill { .. } => one(is_ingest, &random_kill(is_ingest, children, dice), children),
            Kind::PowerLoss { .. } => power_loss(is_ingest, world, children, dice),
            Kind::ContractChange { .. } => {
                let points = ["epoch.seal.before", "epoch.seal.after", "epoch.apply.before", "epoch.publish.before"];
                let point = points.choose(dice).copied().unwrap_or("epoch.seal.after");
                let blow = Blow { env: vec![("LODE_FAIL_POINT", point.to_owned())], kill_after: None };
                one(true, &blow, children)?;
                Ok(world.change_contract()?)
            }
            Kind::LostDb { .. } => {
                one(is_ingest, &random_kill(is_ingest, children, dice), children)?;
                for name in ["meta.db", "meta.db-wal", "meta.db-shm"] {
                    remove(&world.data_dir().join(name))?;
                }
                children.must_succeed(&["doctor", "--rebuild"])?;
                Ok(())
            }
        }
    }

    /// Undoes what a restart alone would not.
    pub(super) fn heal(&self, _world: &mut World, _children: &mut Children) -> Result<(), End> {
        Ok(())
    }

    /// The same blow at a landing, then at a build.
    fn both(&self, blow: impl Fn(bool) -> Blow, children: &mut Children) -> Result<(), End> {
        one(true, &blow(true), children)?;
        one(false, &blow(false), children)
    }
}

fn one(is_ingest: bool, blow: &Blow, children: &mut Children) -> Result<(), End> {
    let command = if is_ingest { "ingest" } else { "build" };
    let ended = children.run(&[command], blow)?;
    // 70 is a bug of ours whatever the world does; any other end is allowed under a blow.
    if ended.code == Some(i32::from(ErrorKind::Internal.exit_code())) {
        return Err(Broken(format!("`lode {command}` under {:?} ended as a bug:\n{}", blow.env, ended.err)).into());
    }
    Ok(())
}

fn random_kill(is_ingest: bool, children: &Children, dice: &mut ChaCha8Rng) -> Blow {
    let takes = if is_ingest { children.ingest_takes } else { children.build_takes };
    let micros = u64::try_from(takes.as_micros()).unwrap_or(1_000_000).max(1_000);
    Blow { env: Vec::new(), kill_after: Some(Duration::from_micros(dice.random_range(0..micros * 6 / 5))) }
}

fn power_loss(is_ingest: bool, world: &World, children: &mut Children, dice: &mut ChaCha8Rng) -> Result<(), End> {
    let journal = world.data_dir().with_file_name("unsynced.log");
    remove(&journal)?;
    let mut blow = random_kill(is_ingest, children, dice);
    blow.env.push(("LODE_FAULT", format!("unsynced_journal:{}", journal.display())));
    one(is_ingest, &blow, children)?;
    for path in vanishing(&journal)? {
        if dice.random_bool(0.5) {
            remove(&path)?;
        }
    }
    Ok(())
}

/// Files that were named and not synced since. Source: the table in `lode-lake/src/store/fault.rs`.
fn vanishing(journal: &Path) -> Result<BTreeSet<PathBuf>, Problem> {
    let text = match std::fs::read_to_string(journal) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => {
            return Err(Problem::new(ErrorKind::Unavailable, "the journal of writes cannot be read").cause(error));
        }
    };
    let mut at_risk = BTreeSet::new();
    for line in text.lines() {
        match line.split_once(' ') {
            Some(("named", path)) => {
                at_risk.insert(PathBuf::from(path));
            }
            Some(("synced", path)) => {
                at_risk.remove(Path::new(path));
            }
            _ => {}
        }
    }
    Ok(at_risk)
}

fn remove(path: &Path) -> Result<(), Problem> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Problem::new(ErrorKind::Unavailable, format!("\"{}\" cannot be removed", path.display())).cause(error))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_synced_after_its_name_stays() {
        let dir = tempfile::tempdir().unwrap();
        let journal = dir.path().join("j");
        std::fs::write(&journal, "named /a\nnamed /b\nsynced /a\nnamed /c d\n").unwrap();
        let at_risk: Vec<_> = vanishing(&journal).unwrap().into_iter().collect();
        assert_eq!(at_risk, [PathBuf::from("/b"), PathBuf::from("/c d")]);
    }

    #[test]
    fn a_whole_run_visits_every_fail_point_and_every_fault() {
        let points = vec![("a".to_owned(), 3), ("b".to_owned(), 1)];
        let names: Vec<String> = plan(&points, true, None, false).iter().map(Kind::name).collect();
        assert!(names.contains(&"kill -9 at a".to_owned()) && names.contains(&"kill -9 at b".to_owned()));
        assert_eq!(names.iter().filter(|name| name.starts_with("store: ")).count(), FAULTS.len() + 1);
    }
}
