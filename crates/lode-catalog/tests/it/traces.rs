//! The shortest traces to a violation that a model of the protocol found for each rule left out, played on the real thing.
//! Two handles are two processes: the older one sleeps at an arrow while the younger one takes over.
//!
//! Left out until vectors are written and files are vacuumed: the traces of `reprobe`, `vacdraft` and `vacmark`.

use lode_catalog::{CatalogError, PipelineKind};
use lode_core::{Epoch, SnapshotId};
use lode_lake::{Fault, StorePath};

use crate::world::*;

fn seal_path(pipeline: &lode_catalog::Pipeline, epoch: i64) -> StorePath {
    StorePath::parse(format!("_lode/pipelines/{}/{epoch:020}.json", pipeline.id)).unwrap()
}

async fn set_fence(world: &World, fence: i64) {
    let pool = sqlx::SqlitePool::connect(&format!("sqlite:{}", world.db_path().display())).await.unwrap();
    sqlx::query("UPDATE lake SET fence = $1").bind(fence).execute(&pool).await.unwrap();
    pool.close().await;
}

/// Seal written, reply lost: the writer must find it and go on with it, not take the next number.
#[tokio::test]
async fn trace_readback_reply_of_a_written_seal_is_lost() {
    let world = World::new();
    let catalog = world.open().await;
    feed(&catalog).await;
    world.faults.once("00001.json", Fault::LostReplyWritten);
    assert_eq!(step(&catalog, 2, Contract::Strict).await.unwrap().epoch, Epoch(1));
    assert_eq!(step(&catalog, 2, Contract::Strict).await.unwrap().epoch, Epoch(2));
    assert_eq!(check(&catalog).await.progress, 4);
}

/// The same put sent twice by the client below: the second answer says "exists", and the seal there is ours.
#[tokio::test]
async fn trace_readback_put_of_a_seal_is_repeated() {
    let world = World::new();
    let catalog = world.open().await;
    feed(&catalog).await;
    world.faults.once("00001.json", Fault::Repeat);
    assert_eq!(step(&catalog, 2, Contract::Strict).await.unwrap().epoch, Epoch(1));
    assert_eq!(check(&catalog).await.progress, 2);
}

#[tokio::test]
async fn trace_readback_seal_was_not_written() {
    let world = World::new();
    let catalog = world.open().await;
    feed(&catalog).await;
    world.faults.once("00001.json", Fault::LostReplyUnwritten);
    let error = step(&catalog, 2, Contract::Strict).await.unwrap_err();
    assert!(matches!(error, CatalogError::SealLost { epoch: Epoch(1), .. }), "{error}");
    assert_eq!(step(&catalog, 2, Contract::Strict).await.unwrap().epoch, Epoch(1));
    assert_eq!(check(&catalog).await.progress, 2);
}

/// A draft follows the seal before its number: one that lost the race for a number is over.
#[tokio::test]
async fn trace_chain_a_draft_that_lost_its_number_is_dropped() {
    let world = World::new();
    let old = world.open().await;
    feed(&old).await;
    let gate = pause_at(&old, "epoch.seal.before", 1);
    let mut asleep = spawn_step(&old, 3, Contract::Strict);
    gate.reached_by(&mut asleep).await;
    let new = world.open().await;
    step(&new, 2, Contract::Strict).await.unwrap();
    gate.open.notify_one();
    let error = end_of_work(asleep).await.unwrap_err();
    assert!(matches!(error, CatalogError::SealLost { epoch: Epoch(1), .. }), "{error}");
    step(&new, 2, Contract::Strict).await.unwrap();
    assert_eq!(check(&new).await.progress, 4);
}

/// An old copy of the DB: positions come from the newest seal all the same.
#[tokio::test]
async fn trace_chain_positions_come_from_the_newest_seal() {
    let world = World::new();
    let catalog = world.open().await;
    step(&catalog, 1, Contract::Strict).await.unwrap();
    let copy = catalog.backup_meta().await.unwrap();
    step(&catalog, 2, Contract::Strict).await.unwrap();
    step(&catalog, 2, Contract::Strict).await.unwrap();
    catalog.close().await;
    world.lose_db();
    std::fs::write(world.db_path(), world.store.get(&copy).await.unwrap()).unwrap();
    let catalog = world.open().await;
    assert_eq!(catalog.rolled_forward(), 2);
    assert_eq!(step(&catalog, 1, Contract::Strict).await.unwrap().epoch, Epoch(4));
    assert_eq!(check(&catalog).await.progress, 6);
}

/// Bronze commit written, reply lost: the next try reads the transaction and leaves it.
#[tokio::test]
async fn trace_txn_reply_of_a_table_commit_is_lost() {
    let world = World::new();
    let catalog = world.open().await;
    step(&catalog, 1, Contract::Strict).await.unwrap();
    for fault in [Fault::LostReplyWritten, Fault::LostReplyUnwritten, Fault::Repeat] {
        world.faults.once("bronze/events/_delta_log", fault);
        step(&catalog, 2, Contract::Strict).await.unwrap();
        check(&catalog).await;
    }
    assert_eq!(check(&catalog).await.progress, 7);
}

/// As above, and the process dies before it can look again.
#[tokio::test]
async fn trace_txn_the_next_process_finds_the_commit() {
    let world = World::new();
    let catalog = world.open().await;
    fail_at(&catalog, "epoch.apply.after", 1);
    step(&catalog, 2, Contract::Strict).await.unwrap_err();
    assert_eq!(look(&catalog).await, View::default());
    let catalog = world.open().await;
    assert_eq!(check(&catalog).await.progress, 2);
}

/// P1 has checked the fence for its publication, sleeps; P2 publishes 1 and 2; P1 wakes.
#[tokio::test]
async fn trace_pubcond_a_late_publication_changes_nothing() {
    let world = World::new();
    let old = world.open().await;
    let gate = pause_at(&old, "epoch.publish.before", 1);
    let mut asleep = spawn_step(&old, 2, Contract::Strict);
    gate.reached_by(&mut asleep).await;
    let new = world.open().await;
    assert_eq!(new.rolled_forward(), 1);
    step(&new, 2, Contract::Strict).await.unwrap();
    let before = check(&new).await;
    // Even with a fence that fits, as after the loss of the DB.
    set_fence(&world, old.fence().0).await;
    gate.open.notify_one();
    let published = end_of_work(asleep).await.unwrap();
    // What the source may be told is what the DB says.
    assert_eq!((published.epoch, end_of(&published.position)), (Epoch(1), 4));
    assert_eq!(check(&new).await, before);
}

/// Bronze of an epoch is committed, silver is not, and a foreign row lands above: readers see neither.
#[tokio::test]
async fn trace_pubcut_half_an_epoch_is_never_seen() {
    let world = World::new();
    let catalog = world.open().await;
    step(&catalog, 2, Contract::Strict).await.unwrap();
    let before = check(&catalog).await;
    fail_at(&catalog, "epoch.apply.after", 1);
    step(&catalog, 2, Contract::Strict).await.unwrap_err();
    assert_eq!(check(&catalog).await, before);
    assert!(world.foreign_row(&catalog, 1).await);
    assert_eq!(check(&catalog).await, before);
    let catalog = world.open().await;
    let view = check(&catalog).await;
    assert_eq!((view.progress, view.foreign), (4, vec![FOREIGN + 1]));
}

/// A publication that read the logs before a foreign commit was picked up must not take that commit back.
#[tokio::test]
async fn trace_greatest_a_published_version_only_rises() {
    let world = World::new();
    let catalog = world.open().await;
    step(&catalog, 1, Contract::Loose).await.unwrap();
    let gate = pause_at(&catalog, "epoch.publish.before", 1);
    let mut asleep = spawn_step(&catalog, 1, Contract::Loose);
    gate.reached_by(&mut asleep).await;
    // The younger process finishes the epoch and picks up a foreign row; then the older one publishes what it read.
    let new = world.open().await;
    assert!(world.foreign_row(&new, 1).await);
    let before = check(&new).await;
    assert_eq!(before.foreign, [FOREIGN + 1]);
    set_fence(&world, catalog.fence().0).await;
    gate.open.notify_one();
    end_of_work(asleep).await.unwrap();
    assert_eq!(check(&new).await, before);
}

/// An epoch without quarantine rows counts as whole when the tables that it changed hold it.
#[tokio::test]
async fn trace_changed_rebuild_asks_only_changed_tables() {
    let world = World::new();
    let catalog = world.open().await;
    step(&catalog, 2, Contract::Strict).await.unwrap();
    step(&catalog, 2, Contract::Loose).await.unwrap();
    let before = check(&catalog).await;
    catalog.close().await;
    world.lose_db();
    assert_eq!(world.rebuild().await.rolled_forward, 0);
    assert_eq!(check(&world.open().await).await, before);
}

/// A process drafted 0..4 as epoch 1 and slept; another sealed three epochs, and the first seal is gone. Its put
/// succeeds, all tables say "done", and still it may tell the source only what the DB says.
#[tokio::test]
async fn trace_ackdb_the_source_is_told_what_the_db_says() {
    let world = World::new();
    let old = world.open().await;
    let pipeline = feed(&old).await;
    let gate = pause_at(&old, "epoch.seal.before", 1);
    let mut asleep = spawn_step(&old, 4, Contract::Loose);
    gate.reached_by(&mut asleep).await;
    let new = world.open().await;
    for _ in 0..3 {
        step(&new, 1, Contract::Loose).await.unwrap();
    }
    let before = check(&new).await;
    world.store.delete(&seal_path(&pipeline, 1)).await.unwrap();
    set_fence(&world, old.fence().0).await;
    gate.open.notify_one();
    let published = end_of_work(asleep).await.unwrap();
    assert_eq!(end_of(&published.position), 3);
    assert_eq!(check(&new).await, before);
}

/// Foreign rows are picked up by readers at once; a seal names up to which of them its models have read.
#[tokio::test]
async fn trace_foreign_seals_name_the_versions_read() {
    let world = World::new();
    let catalog = world.open().await;
    step(&catalog, 2, Contract::Loose).await.unwrap();
    assert!(world.foreign_row(&catalog, 5).await);
    let view = check(&catalog).await;
    assert_eq!(view.foreign, [FOREIGN + 5]);
    let model = catalog.pipeline(PipelineKind::Model, "m", None).await.unwrap();
    let draft = catalog.begin(&model).await.unwrap();
    let inputs = [("bronze.events".to_owned(), view.versions[0].1)].into();
    draft.commit(lode_catalog::SealContent { inputs, ..Default::default() }).await.unwrap();
    let catalog = world.open().await;
    let draft = catalog.begin(&model).await.unwrap();
    assert_eq!(draft.previous().unwrap().content.inputs["bronze.events"], SnapshotId(1));
}

/// Without its newest seal a pipeline must not start at nothing.
#[tokio::test]
async fn trace_lastseals_a_missing_newest_seal_is_an_error() {
    let world = World::new();
    let catalog = world.open().await;
    step(&catalog, 2, Contract::Loose).await.unwrap();
    let pipeline = feed(&catalog).await;
    world.store.delete(&seal_path(&pipeline, 1)).await.unwrap();
    let error = catalog.begin(&pipeline).await.unwrap_err();
    assert!(matches!(error, CatalogError::BadSeal { .. }), "{error}");
    let catalog = world.open().await;
    assert!(matches!(catalog.begin(&pipeline).await, Err(CatalogError::BadSeal { .. })));
}

/// Two processes on one epoch: the sleeper wakes between a table's commits and finds all of them done.
#[tokio::test]
async fn a_sleeper_at_a_table_commit_finds_it_done() {
    let world = World::new();
    let old = world.open().await;
    let gate = pause_at(&old, "epoch.apply.before", 2);
    let mut asleep = spawn_step(&old, 3, Contract::Strict);
    gate.reached_by(&mut asleep).await;
    let new = world.open().await;
    step(&new, 3, Contract::Loose).await.unwrap();
    let before = check(&new).await;
    gate.open.notify_one();
    assert!(matches!(end_of_work(asleep).await, Err(CatalogError::Fenced)));
    assert_eq!(check(&new).await, before);
}

/// A process that was overtaken left half an epoch which the next one has not seen. An epoch of another pipeline on the same
/// table takes it along: else one of its tables would stay behind.
#[tokio::test]
async fn an_epoch_takes_along_what_stands_in_front_of_it() {
    let world = World::new();
    let old = world.open().await;
    step(&old, 2, Contract::Loose).await.unwrap();
    let new = world.open().await;
    set_fence(&world, old.fence().0).await;
    fail_at(&old, "epoch.apply.before", 2);
    step(&old, 2, Contract::Loose).await.unwrap_err();
    set_fence(&world, new.fence().0).await;
    let before = check(&new).await;
    assert_eq!(before.progress, 2);
    let statement = new.pipeline(PipelineKind::Statement, "s", None).await.unwrap();
    let draft = new.begin(&statement).await.unwrap();
    let name = "gold.rows".parse().unwrap();
    let tables = vec![
        change(&draft, &new, &bronze(), lode_lake::Operation::Append, &[FOREIGN]).await.unwrap(),
        change(&draft, &new, &name, lode_lake::Operation::Append, &[1]).await.unwrap(),
    ];
    draft.commit(lode_catalog::SealContent { tables, ..Default::default() }).await.unwrap();
    let view = check(&new).await;
    assert_eq!((view.progress, view.foreign), (4, vec![FOREIGN]));
    assert!(new.relation(&name).await.unwrap().is_some());
}

async fn published(catalog: &lode_catalog::Catalog) -> (String, SnapshotId) {
    match catalog.relation(&bronze()).await.unwrap() {
        Some(lode_catalog::RelationEntry::Table(table)) => (table.location, table.published),
        other => panic!("{other:?}"),
    }
}

/// Another tool puts a checkpoint at the end of a log and cleans away all commits up to it: also that of half an epoch,
/// which stays unseen until it is finished.
#[tokio::test]
async fn a_cleaned_log_shows_no_half_epoch() {
    let world = World::new();
    let old = world.open().await;
    step(&old, 2, Contract::Loose).await.unwrap();
    let new = world.open().await;
    set_fence(&world, old.fence().0).await;
    fail_at(&old, "epoch.apply.before", 2);
    step(&old, 2, Contract::Loose).await.unwrap_err();
    set_fence(&world, new.fence().0).await;
    let (location, before) = published(&new).await;
    let mut lines = Vec::new();
    for version in before.0..=before.0 + 1 {
        let path = StorePath::parse(format!("{location}/_delta_log/{version:020}.json")).unwrap();
        lines.extend(world.store.get(&path).await.unwrap());
        world.store.delete(&path).await.unwrap();
    }
    let name = format!("{:020}.checkpoint.3a0d65cd-4056-49b8-937b-95f9e3ee90e5.json", before.0 + 1);
    let path = StorePath::parse(format!("{location}/_delta_log/{name}")).unwrap();
    world.store.put(&path, lines.into()).await.unwrap();
    assert_eq!(published(&new).await, (location.clone(), before));
    // The next process finishes it.
    let next = world.open().await;
    let view = check(&next).await;
    assert_eq!((view.progress, view.good.len()), (4, 4));
    assert_eq!(published(&next).await, (location, SnapshotId(before.0 + 1)));
    step(&next, 2, Contract::Loose).await.unwrap();
    assert_eq!(check(&next).await.progress, 6);
}
