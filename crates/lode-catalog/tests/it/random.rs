//! Random schedules of disturbances on the real protocol. After each step: nothing lost, nothing doubled, all tables at one
//! epoch, nothing published goes back.

use std::sync::Arc;

use lode_catalog::{Catalog, CatalogError, FAIL_POINTS, Published};
use lode_core::{Epoch, SnapshotId};
use lode_lake::Fault;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use tokio::task::JoinHandle;

use crate::world::*;

const RECORDS: i64 = 14;

#[derive(Debug, Clone)]
enum Step {
    Commit(i64),
    /// The process dies at the n-th visit of an arrow; the next one starts.
    Crash(usize, usize, i64),
    /// The process falls asleep there, and the next one takes over.
    Sleep(usize, usize, i64),
    Wake,
    LostSeal(bool),
    LostTable(bool),
    Foreign,
    LoseDb,
    Contract,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    // The first two are arrows of the start, which no handle exists for yet.
    let arrow = || (2..FAIL_POINTS.len(), 1..4_usize, 1..4_i64);
    let step = prop_oneof![
        4 => (1..4_i64).prop_map(Step::Commit),
        3 => arrow().prop_map(|(arrow, visit, take)| Step::Crash(arrow, visit, take)),
        3 => arrow().prop_map(|(arrow, visit, take)| Step::Sleep(arrow, visit, take)),
        2 => Just(Step::Wake),
        1 => any::<bool>().prop_map(Step::LostSeal),
        1 => any::<bool>().prop_map(Step::LostTable),
        2 => Just(Step::Foreign),
        1 => Just(Step::LoseDb),
        1 => Just(Step::Contract),
    ];
    proptest::collection::vec(step, 1..12)
}

struct Sleeper {
    gate: Arc<Gate>,
    work: JoinHandle<Result<Published, CatalogError>>,
}

struct Run {
    world: World,
    catalog: Arc<Catalog>,
    sleepers: Vec<Sleeper>,
    contract: Contract,
    foreign: i64,
    seen: View,
    published: Epoch,
}

impl Run {
    async fn start() -> Self {
        let world = World::new();
        let catalog = world.open().await;
        feed(&catalog).await;
        Self {
            world,
            catalog,
            sleepers: Vec::new(),
            contract: Contract::Strict,
            foreign: 0,
            seen: View::default(),
            published: Epoch::ZERO,
        }
    }

    async fn play(&mut self, step: &Step) {
        match step {
            Step::Commit(take) => self.commit(*take).await,
            Step::Crash(arrow, visit, take) => {
                if let Some(sleeper) = self.stop_at(*arrow, *visit, *take).await {
                    self.look_in_between(*take).await;
                    sleeper.work.abort();
                }
                self.catalog = self.world.open().await;
            }
            Step::Sleep(arrow, visit, take) => {
                if let Some(sleeper) = self.stop_at(*arrow, *visit, *take).await {
                    self.sleepers.push(sleeper);
                    self.look_in_between(*take).await;
                    self.catalog = self.world.open().await;
                }
            }
            Step::Wake => {
                if !self.sleepers.is_empty() {
                    let sleeper = self.sleepers.remove(0);
                    sleeper.gate.open.notify_one();
                    // Whatever it says: what it may do is checked below.
                    let _ = end_of_work(sleeper.work).await;
                }
            }
            Step::LostSeal(written) => self.lose_reply("_lode/pipelines/", *written),
            Step::LostTable(written) => self.lose_reply("_delta_log/", *written),
            Step::Foreign => {
                self.foreign += i64::from(self.world.foreign_row(&self.catalog, self.foreign).await);
            }
            Step::LoseDb => {
                self.world.lose_db();
                self.world.rebuild().await;
                self.catalog = self.world.open().await;
            }
            Step::Contract => {
                self.contract = if self.contract == Contract::Strict { Contract::Loose } else { Contract::Strict };
            }
        }
        self.check().await;
    }

    /// Readers look while the epoch stands still, sometimes with a foreign row above its part.
    async fn look_in_between(&mut self, take: i64) {
        if take == 2 {
            self.foreign += i64::from(self.world.foreign_row(&self.catalog, self.foreign).await);
        }
        self.check().await;
    }

    fn lose_reply(&self, path: &str, written: bool) {
        let fault = if written { Fault::LostReplyWritten } else { Fault::LostReplyUnwritten };
        self.world.faults.once(path, fault);
    }

    async fn commit(&mut self, take: i64) {
        match step(&self.catalog, take, self.contract).await {
            Ok(_) | Err(CatalogError::SealLost { .. } | CatalogError::Unfinished { .. }) => {}
            Err(CatalogError::Conflict { .. } | CatalogError::Fenced | CatalogError::Lake(_)) => {}
            Err(error) => panic!("{error}"),
        }
    }

    /// Runs a step until it stands still at an arrow; `None` if it ended first.
    async fn stop_at(&self, arrow: usize, visit: usize, take: i64) -> Option<Sleeper> {
        let gate = pause_at(&self.catalog, FAIL_POINTS[arrow], visit);
        let mut work = spawn_step(&self.catalog, take, self.contract);
        tokio::select! {
            () = gate.reached.notified() => Some(Sleeper { gate, work }),
            _ = &mut work => {
                // So that it does not stop a later step.
                let _ = pause_at(&self.catalog, "none", 1);
                None
            }
        }
    }

    async fn check(&mut self) {
        let view = check(&self.catalog).await;
        assert!(view.progress >= self.seen.progress, "published went back");
        for (name, version) in &self.seen.versions {
            let now = view.versions.iter().find(|(other, _)| other == name);
            assert!(now.is_some_and(|(_, now)| now >= version), "version of {name} went back");
        }
        assert!(self.seen.foreign.iter().all(|id| view.foreign.contains(id)), "a foreign row went away");
        let status = self.catalog.pipelines().await.unwrap().pop().unwrap();
        assert!(status.published >= self.published);
        self.published = status.published;
        self.seen = view;
    }

    /// Without further trouble all records arrive, and nothing stays hidden.
    async fn end(mut self) {
        while !self.sleepers.is_empty() {
            self.play(&Step::Wake).await;
        }
        self.catalog = self.world.open().await;
        // A reply may still be lost, if no put came by so far.
        for _ in 0..40 {
            let left = RECORDS.max(self.seen.progress) - check(&self.catalog).await.progress;
            if left == 0 {
                break;
            }
            self.commit(left.min(3)).await;
        }
        let view = check(&self.catalog).await;
        assert!(view.progress >= RECORDS);
        assert_eq!(view.foreign, (0..self.foreign).map(|number| FOREIGN + number).collect::<Vec<_>>());
        for (name, version) in &view.versions {
            let location = format!("{}/{}", name.schema, name.name);
            let newest = lode_lake::DeltaTable::new(&self.world.store, &location).newest().await.unwrap();
            assert_eq!(newest.unwrap_or(SnapshotId::NONE), *version, "{name} has a hidden version");
        }
        self.world.lose_db();
        self.world.rebuild().await;
        assert_eq!(check(&self.world.open().await).await, view, "a rebuild shows the same");
    }
}

fn play(steps: &[Step]) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let mut run = Run::start().await;
        for step in steps {
            run.play(step).await;
        }
        run.end().await;
    });
    // Processes that died at an arrow still stand there.
    runtime.shutdown_background();
}

#[test]
fn random_schedules_keep_every_promise() {
    let cases = std::env::var("LODE_TEST_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(40);
    let config = Config { cases, max_shrink_iters: 300, failure_persistence: None, ..Config::default() };
    let result = TestRunner::new(config).run(&steps(), |steps| {
        play(&steps);
        Ok(())
    });
    if let Err(error) = result {
        panic!("{error}");
    }
}
