//! Epochs without and with trouble in one process.

use lode_catalog::{CatalogError, PipelineKind, PipelineState, RelationEntry, SealContent};
use lode_core::{Epoch, ErrorKind, Explain, SnapshotId};
use lode_lake::{Fault, Operation};

use crate::world::*;

#[tokio::test]
async fn an_epoch_moves_all_its_tables() {
    let world = World::new();
    let catalog = world.open().await;
    let published = step(&catalog, 4, Contract::Strict).await.unwrap();
    assert_eq!(published.epoch, Epoch(1));
    assert_eq!(end_of(&published.position), 4);
    assert_eq!(published.tables.len(), 3);
    step(&catalog, 2, Contract::Loose).await.unwrap();
    let view = check(&catalog).await;
    assert_eq!((view.good, view.bad), (vec![0, 2, 3, 4, 5], vec![1]));
    assert_eq!(view.progress, 6);
    let status = catalog.pipelines().await.unwrap().pop().unwrap();
    assert_eq!((status.published, status.state), (Epoch(2), PipelineState::Running));
    assert_eq!(status.counts.rows_in, 6);
}

#[tokio::test]
async fn a_dropped_draft_forgets_everything() {
    let world = World::new();
    let catalog = world.open().await;
    let pipeline = feed(&catalog).await;
    let draft = catalog.begin(&pipeline).await.unwrap();
    draft_content(&catalog, &draft, 3, Contract::Loose).await.unwrap();
    drop(draft);
    assert_eq!(step(&catalog, 3, Contract::Loose).await.unwrap().epoch, Epoch(1));
    assert_eq!(check(&catalog).await.progress, 3);
}

#[tokio::test]
async fn one_draft_a_pipeline_at_a_time() {
    let world = World::new();
    let catalog = world.open().await;
    let steps: Vec<_> = (0..5).map(|_| spawn_step(&catalog, 2, Contract::Strict)).collect();
    for step in steps {
        step.await.unwrap().unwrap();
    }
    assert_eq!(check(&catalog).await.progress, 10);
}

#[tokio::test]
async fn a_commit_goes_on_when_its_caller_is_gone() {
    let world = World::new();
    let catalog = world.open().await;
    let gate = pause_at(&catalog, "epoch.apply.before", 1);
    let mut caller = spawn_step(&catalog, 3, Contract::Loose);
    gate.reached_by(&mut caller).await;
    caller.abort();
    assert!(caller.await.unwrap_err().is_cancelled());
    gate.open.notify_one();
    // The next draft waits for the commit.
    step(&catalog, 1, Contract::Loose).await.unwrap();
    assert_eq!(check(&catalog).await.progress, 4);
    assert_eq!(catalog.rolled_forward(), 0);
}

#[tokio::test]
async fn what_was_sealed_ignores_a_new_contract() {
    let world = World::new();
    let catalog = world.open().await;
    step(&catalog, 1, Contract::Strict).await.unwrap();
    fail_at(&catalog, "epoch.apply.before", 2);
    let error = step(&catalog, 3, Contract::Strict).await.unwrap_err();
    assert!(matches!(error, CatalogError::Unfinished { epoch: Epoch(2), .. }), "{error}");
    assert_eq!(check(&catalog).await.progress, 1);
    drop(catalog);
    let restarted = world.open().await;
    assert_eq!(restarted.rolled_forward(), 1);
    let view = check(&restarted).await;
    assert_eq!((view.good, view.bad), (vec![0, 2, 3], vec![1]));
    // The new contract holds from here on.
    step(&restarted, 4, Contract::Loose).await.unwrap();
    let view = check(&restarted).await;
    assert_eq!((view.progress, view.bad), (8, vec![1]));
    let pipeline = feed(&restarted).await;
    let draft = restarted.begin(&pipeline).await.unwrap();
    assert_eq!(draft.previous().unwrap().content.fingerprints["contract"], "Loose");
}

#[tokio::test]
async fn a_full_disk_at_the_seal_says_so_and_seals_nothing() {
    let world = World::new();
    let catalog = world.open().await;
    step(&catalog, 1, Contract::Loose).await.unwrap();
    let pipeline = feed(&catalog).await;
    let draft = catalog.begin(&pipeline).await.unwrap();
    let content = draft_content(&catalog, &draft, 2, Contract::Loose).await.unwrap();
    let full = world.faults.clone().full_after(0);
    let error = draft.commit(content).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Full, "{error}");
    full.free_space();
    assert_eq!(step(&catalog, 2, Contract::Loose).await.unwrap().epoch, Epoch(2));
    assert_eq!(check(&catalog).await.progress, 3);
}

#[tokio::test]
async fn a_store_that_fails_after_the_seal_is_asked_again() {
    let world = World::new();
    let catalog = world.open().await;
    step(&catalog, 1, Contract::Loose).await.unwrap();
    world.faults.once("_delta_log", Fault::LostReplyUnwritten);
    step(&catalog, 1, Contract::Loose).await.unwrap();
    assert_eq!(check(&catalog).await.progress, 2);
}

#[tokio::test]
async fn a_table_that_refuses_blocks_its_pipeline_and_resume_goes_on() {
    let world = World::new();
    let catalog = world.open().await;
    let gate = pause_at(&catalog, "epoch.apply.before", 1);
    let mut work = spawn_step(&catalog, 2, Contract::Loose);
    gate.reached_by(&mut work).await;
    // Sealed; now another tool makes a table where the epoch makes its own.
    let other = World::new();
    let maker = other.open().await;
    step(&maker, 1, Contract::Loose).await.unwrap();
    let log = format!("{}/_delta_log", "silver/progress");
    for meta in other.store.list(&log.as_str().into(), None).await.unwrap() {
        let bytes = other.store.get(&meta.location).await.unwrap();
        world.store.put(&meta.location, bytes).await.unwrap();
    }
    gate.open.notify_one();
    let error = end_of_work(work).await.unwrap_err();
    assert!(matches!(error, CatalogError::Blocked { epoch: Epoch(1), .. }), "{error}");
    assert_eq!(error.kind(), ErrorKind::Blocked);
    // Nothing of it is to be seen, and nothing new begins: now, and after a restart.
    assert_eq!(look(&catalog).await, View::default());
    assert!(matches!(step(&catalog, 1, Contract::Loose).await, Err(CatalogError::Blocked { .. })));
    drop(catalog);
    let catalog = world.open().await;
    let status = catalog.pipelines().await.unwrap().pop().unwrap();
    assert_eq!((status.state, status.published), (PipelineState::Blocked, Epoch(0)));
    assert!(status.error.is_some());
    // Another pipeline that writes the same table is held up too, before it seals.
    let model = catalog.pipeline(PipelineKind::Model, "progress", None).await.unwrap();
    let draft = catalog.begin(&model).await.unwrap();
    let tables = vec![change(&draft, &catalog, &bronze(), Operation::Append, &[7]).await.unwrap()];
    let content = SealContent { tables, ..SealContent::default() };
    assert!(matches!(draft.commit(content).await, Err(CatalogError::Blocked { .. })));
    let pipeline = feed(&catalog).await;
    assert!(matches!(catalog.resume(&pipeline).await, Err(CatalogError::Blocked { .. })));
    for meta in world.store.list(&log.as_str().into(), None).await.unwrap() {
        world.store.delete(&meta.location).await.unwrap();
    }
    catalog.resume(&pipeline).await.unwrap();
    assert_eq!(check(&catalog).await.progress, 2);
    step(&catalog, 2, Contract::Loose).await.unwrap();
    assert_eq!(check(&catalog).await.progress, 4);
}

#[tokio::test]
async fn a_folder_that_is_taken_is_refused_before_the_seal() {
    let world = World::new();
    let catalog = world.open().await;
    step(&catalog, 1, Contract::Loose).await.unwrap();
    let model = catalog.pipeline(PipelineKind::Model, "m", None).await.unwrap();
    let draft = catalog.begin(&model).await.unwrap();
    let name = "gold.m".parse().unwrap();
    let mut wrong = change(&draft, &catalog, &name, Operation::Append, &[1]).await.unwrap();
    wrong.location = "bronze/events".into();
    let error = draft.commit(SealContent { tables: vec![wrong], ..SealContent::default() }).await.unwrap_err();
    assert!(matches!(error, CatalogError::Relation { .. }), "{error}");
    assert_eq!(catalog.begin(&model).await.unwrap().epoch(), Epoch(1));
}

#[tokio::test]
async fn a_table_dropped_meanwhile_is_a_conflict_before_the_seal() {
    let world = World::new();
    let catalog = world.open().await;
    step(&catalog, 1, Contract::Loose).await.unwrap();
    let pipeline = feed(&catalog).await;
    let draft = catalog.begin(&pipeline).await.unwrap();
    let content = draft_content(&catalog, &draft, 1, Contract::Loose).await.unwrap();
    let statement = catalog.pipeline(PipelineKind::Statement, "s", None).await.unwrap();
    let drop_table = lode_catalog::CatalogChange::Drop { name: silver() };
    let other = catalog.begin(&statement).await.unwrap();
    other.commit(SealContent { catalog: vec![drop_table], ..SealContent::default() }).await.unwrap();
    let error = draft.commit(content).await.unwrap_err();
    assert!(matches!(error, CatalogError::Conflict { .. }), "{error}");
    // Begun again, the table is made anew in another folder.
    step(&catalog, 1, Contract::Loose).await.unwrap();
    let Some(RelationEntry::Table(table)) = catalog.relation(&silver()).await.unwrap() else { panic!("no silver") };
    assert_ne!(table.location, "silver/progress");
    assert_eq!(check(&catalog).await.progress, 2);
}

#[tokio::test]
async fn a_writer_feature_that_came_meanwhile_is_refused_before_the_seal() {
    let world = World::new();
    let catalog = world.open().await;
    step(&catalog, 1, Contract::Loose).await.unwrap();
    let pipeline = feed(&catalog).await;
    let draft = catalog.begin(&pipeline).await.unwrap();
    let content = draft_content(&catalog, &draft, 1, Contract::Loose).await.unwrap();
    let Some(RelationEntry::Table(table)) = catalog.relation(&bronze()).await.unwrap() else { panic!("no bronze") };
    let path = format!("{}/_delta_log/{:020}.json", table.location, table.published.0 + 1);
    let protocol = r#"{"protocol":{"minReaderVersion":1,"minWriterVersion":7,"writerFeatures":["rowTracking"]}}"#;
    world.store.put(&path.as_str().into(), protocol.into()).await.unwrap();
    let error = draft.commit(content).await.unwrap_err();
    assert!(error.to_string().contains("rowTracking"), "{error}");
    assert_eq!(catalog.begin(&pipeline).await.unwrap().epoch(), Epoch(2), "nothing is sealed, nothing blocked");
}

#[tokio::test]
async fn sums_that_do_not_agree_are_not_sealed() {
    let world = World::new();
    let catalog = world.open().await;
    let pipeline = feed(&catalog).await;
    let draft = catalog.begin(&pipeline).await.unwrap();
    let mut content = draft_content(&catalog, &draft, 3, Contract::Loose).await.unwrap();
    content.counts.rows_landed -= 1;
    assert_eq!(draft.commit(content).await.unwrap_err().kind(), ErrorKind::Internal);
    assert_eq!(catalog.begin(&pipeline).await.unwrap().epoch(), Epoch(1));
}

#[tokio::test]
async fn two_changes_of_one_table_in_one_epoch_are_refused() {
    let world = World::new();
    let catalog = world.open().await;
    let pipeline = feed(&catalog).await;
    let draft = catalog.begin(&pipeline).await.unwrap();
    let one = change(&draft, &catalog, &bronze(), Operation::Append, &[1]).await.unwrap();
    let content = SealContent { tables: vec![one.clone(), one], ..SealContent::default() };
    assert_eq!(draft.commit(content).await.unwrap_err().kind(), ErrorKind::Internal);
}

#[tokio::test]
async fn pipelines_that_share_a_table_do_not_hide_each_other() {
    let world = World::new();
    let catalog = world.open().await;
    step(&catalog, 1, Contract::Loose).await.unwrap();
    let gate = pause_at(&catalog, "epoch.publish.before", 1);
    let mut first = spawn_step(&catalog, 2, Contract::Loose);
    gate.reached_by(&mut first).await;
    // A statement adds a row to the same table while that epoch is between its commits and its publication.
    let handle = std::sync::Arc::clone(&catalog);
    let second = lode_core::task::spawn("statement", async move {
        let statement = handle.pipeline(PipelineKind::Statement, "s", None).await.unwrap();
        let draft = handle.begin(&statement).await.unwrap();
        let tables = vec![change(&draft, &handle, &bronze(), Operation::Append, &[FOREIGN]).await.unwrap()];
        draft.commit(SealContent { tables, ..SealContent::default() }).await
    });
    gate.open.notify_one();
    end_of_work(first).await.unwrap();
    let published = end_of_work(second).await.unwrap();
    assert_eq!(published.tables, [(bronze(), SnapshotId(2))]);
    let view = check(&catalog).await;
    assert_eq!((view.progress, view.foreign), (3, vec![FOREIGN]));
}

#[tokio::test]
async fn a_table_of_another_tool_is_registered() {
    let world = World::new();
    let maker = world.open().await;
    step(&maker, 3, Contract::Loose).await.unwrap();
    let copy = World::new();
    for meta in world.store.list(&"bronze".into(), None).await.unwrap() {
        copy.store.put(&meta.location, world.store.get(&meta.location).await.unwrap()).await.unwrap();
    }
    let catalog = copy.open().await;
    let name = "bronze.theirs".parse().unwrap();
    assert!(catalog.register(&name, "bronze/nothing").await.is_err());
    let table = catalog.register(&name, "bronze/events").await.unwrap();
    assert_eq!(table.pipeline, None);
    assert_eq!(ids(&catalog, &table).await, [0, 1, 2]);
    catalog.close().await;
    copy.lose_db();
    assert_eq!(copy.rebuild().await.tables, 1);
    let catalog = copy.open().await;
    assert!(matches!(catalog.relation(&name).await.unwrap(), Some(RelationEntry::Table(again)) if again == table));
}
