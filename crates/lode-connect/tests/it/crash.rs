//! Stopped at each arrow of the epoch, and over a store that loses replies: nothing is lost, nothing doubled.

use lode_catalog::FAIL_POINTS;
use lode_connect::quarantine::{QuarantineFilter, replay};
use lode_lake::{Fault, FaultPlan};

use crate::world::{World, dies_at, land, orders};

const DECLARED: &str = "    columns: {id: bigint, amount: bigint}\n";

fn dirty_world() -> World {
    let world = World::new(orders(DECLARED));
    for file in 0..5 {
        world.put(&format!("{file}.csv"), format!("id,amount\n{file}1,1\nbad{file},2\n{file}2,3\n"));
    }
    world
}

async fn check(world: &World, files: usize, what: &str) {
    let mut wanted: Vec<String> =
        (0..files).flat_map(|file| [format!("{file}1|{file}.csv"), format!("{file}2|{file}.csv")]).collect();
    // `01` is 1.
    wanted.iter_mut().for_each(|row| *row = row.trim_start_matches('0').to_owned());
    wanted.sort();
    assert_eq!(world.rows("bronze.orders", &["id", "_file"]).await, wanted, "{what}");
    let rejects: Vec<String> = (0..files).map(|file| format!("{file}.csv|bad{file},2")).collect();
    assert_eq!(world.rows("bronze.orders__quarantine", &["_file", "_raw"]).await, rejects, "{what}");
    world.check_sums().await;
}

#[tokio::test]
async fn a_kill_at_any_arrow_loses_and_doubles_nothing() {
    // These two are passed before a hook can be set, this one by the process alone (`LODE_FAIL_POINT`).
    let elsewhere = ["epoch.start.before", "epoch.start.after", "epoch.collect.after"];
    for arrow in FAIL_POINTS {
        for visit in 1..=2 {
            let world = dirty_world();
            let context = world.open().await;
            dies_at(&context, arrow, visit);
            let was_killed = land(&context).await.is_err();
            assert!(was_killed || visit > 1 || elsewhere.contains(arrow), "{arrow} was not passed");
            drop(context);
            // A new process, and one more file meanwhile.
            world.put("5.csv", "id,amount\n51,1\nbad5,2\n52,3\n");
            let report = world.land().await;
            assert!(report.problems.is_empty());
            check(&world, 6, &format!("{arrow}@{visit}")).await;
        }
    }
}

#[tokio::test]
async fn a_lost_reply_to_the_seal_or_a_commit_is_settled_in_the_same_run() {
    for fault in [Fault::LostReplyWritten, Fault::LostReplyUnwritten, Fault::Repeat] {
        for path in ["_lode/pipelines", "orders/_delta_log", "orders__quarantine/_delta_log"] {
            let mut world = dirty_world();
            let context = world.open().await;
            drop(context);
            let plan = FaultPlan::new(1);
            world.faults = Some(plan.clone());
            let context = world.open().await;
            plan.once(path, fault);
            // It may give up with an error, but not with half of an epoch.
            let first = land(&context).await;
            drop(context);
            world.faults = None;
            world.land().await;
            check(&world, 5, &format!("{fault:?} at {path}: {:?}", first.map(|report| report.rows_landed))).await;
        }
    }
}

#[tokio::test]
async fn a_store_that_fails_at_random_ends_right_once_it_is_well_again() {
    for seed in 0..8 {
        let mut world = dirty_world();
        let plan = FaultPlan::new(seed)
            .chance(Fault::LostReplyWritten, 0.2)
            .chance(Fault::LostReplyUnwritten, 0.2)
            .chance(Fault::Error, 0.1);
        world.faults = Some(plan);
        for _ in 0..4 {
            if let Ok(context) = world.try_open().await {
                let _ = land(&context).await;
            }
        }
        world.faults = None;
        world.land().await;
        check(&world, 5, &format!("seed {seed}")).await;
    }
}

#[tokio::test]
async fn a_kill_during_a_replay_moves_each_row_once_or_not_yet() {
    for arrow in FAIL_POINTS {
        let world = replayable().await;
        let context = world.open().await;
        dies_at(&context, arrow, 1);
        let table = "bronze.orders".parse().unwrap();
        let _ = replay(&context, &table, &QuarantineFilter::default()).await;
        drop(context);
        replay(&world.open().await, &table, &QuarantineFilter::default()).await.unwrap();
        assert_eq!(world.rows("bronze.orders", &["id", "_line"]).await, ["1|2", "2|3", "3|4"], "{arrow}");
        assert!(world.rows("bronze.orders__quarantine", &["_id"]).await.is_empty(), "{arrow}");
        world.check_sums().await;
    }
}

/// Two of three rows are in quarantine under the old contract, and pass under the new one.
async fn replayable() -> World {
    let contract = |limit: u32| {
        orders(&format!(
            "{DECLARED}    contract:\n      expectations:\n        - {{name: big, expect: amount > {limit}}}\n"
        ))
    };
    let world = World::new(contract(5));
    world.put("a.csv", "id,amount\n1,10\n2,3\n3,4\n");
    world.land().await;
    assert_eq!(world.rows("bronze.orders__quarantine", &["_line"]).await, ["3", "4"]);
    World { yaml: contract(0), ..world }
}
