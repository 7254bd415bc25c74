//! Opening: owner, versions, damage, locks; what stands in the DB.

use std::sync::Arc;
use std::time::Duration;

use chrono::DateTime;
use lode_catalog::{
    Catalog, CatalogChange, CatalogError, DataLock, OpenOptions, PipelineKind, RelationEntry, RunRow, SealContent,
    keep_copies,
};
use lode_core::{ErrorKind, Explain, FixedClock, TableName, task};
use lode_lake::{Fault, Store};
use tokio_util::sync::CancellationToken;

use crate::world::{World, options};

async fn put_view(catalog: &Arc<Catalog>, name: &str) {
    let pipeline = catalog.pipeline(PipelineKind::Model, name, None).await.unwrap();
    let draft = catalog.begin(&pipeline).await.unwrap();
    let view = CatalogChange::PutView {
        name: name.parse().unwrap(),
        sql: "select 1".into(),
        schema_json: "{\"fields\":[]}".into(),
    };
    draft.commit(SealContent { catalog: vec![view], ..SealContent::default() }).await.unwrap();
}

#[tokio::test]
async fn a_fence_grows_with_each_start() {
    let world = World::new();
    let first = world.open().await;
    let second = world.open().await;
    assert_eq!(second.fence(), first.fence().next());
    let pipeline = first.pipeline(PipelineKind::Model, "m", None).await.unwrap();
    assert!(matches!(first.begin(&pipeline).await.unwrap_err(), CatalogError::Fenced));
}

#[tokio::test]
async fn another_db_needs_adopt() {
    let world = World::new();
    let first = world.open().await;
    put_view(&first, "public.v").await;
    let elsewhere = tempfile::tempdir().unwrap();
    let error = Catalog::open(world.store.clone(), elsewhere.path(), options()).await.unwrap_err();
    // It has epochs, and this data folder never had a DB: whether it was lost or lies elsewhere, nothing starts anew.
    assert!(matches!(error, CatalogError::Lost { .. }), "{error}");
    let other = Store::memory();
    drop(Catalog::open(other, elsewhere.path(), options()).await.unwrap());
    let error = Catalog::open(world.store.clone(), elsewhere.path(), options()).await.unwrap_err();
    assert!(matches!(error, CatalogError::Owned { .. }), "{error}");
    assert!(error.remedy().unwrap().contains("--adopt"));
    let empty = tempfile::tempdir().unwrap();
    let adopt = OpenOptions { adopt: true, ..options() };
    let taken = Catalog::open(world.store.clone(), empty.path(), adopt).await.unwrap();
    let names: Vec<_> = taken.relations().await.unwrap().iter().map(|relation| relation.name().to_string()).collect();
    assert_eq!(names, ["public.v"]);
    assert!(matches!(world.try_open().await.unwrap_err(), CatalogError::Owned { .. }));
}

/// Two machines may have a data folder of one name, and one bucket.
#[tokio::test]
async fn a_data_folder_of_the_same_name_does_not_own_the_lake_of_a_bucket() {
    let (store, folder) = (Store::memory_bucket(), tempfile::tempdir().unwrap());
    let lose = |names: &[&str]| {
        for name in names {
            let _ = std::fs::remove_file(folder.path().join(name));
        }
    };
    let db = ["meta.db", "meta.db-wal", "meta.db-shm"];
    Catalog::open(store.clone(), folder.path(), options()).await.unwrap().close().await;
    // Only the DB is lost: the folder is still the same one.
    lose(&db);
    Catalog::open(store.clone(), folder.path(), options()).await.unwrap().close().await;
    lose(&db);
    lose(&["installation"]);
    let error = Catalog::open(store, folder.path(), options()).await.unwrap_err();
    assert!(matches!(error, CatalogError::Owned { .. }), "{error}");
}

#[tokio::test]
async fn rebuild_respects_the_owner() {
    let world = World::new();
    put_view(&world.open().await, "public.v").await;
    let elsewhere = tempfile::tempdir().unwrap();
    let error = lode_catalog::rebuild(&world.store, elsewhere.path(), &options()).await.unwrap_err();
    assert!(matches!(error, CatalogError::Owned { .. }), "{error}");
}

#[tokio::test]
async fn a_lost_db_names_the_rebuild() {
    let world = World::new();
    let catalog = world.open().await;
    put_view(&catalog, "public.v").await;
    catalog.close().await;
    drop(catalog);
    world.lose_db();
    let error = world.try_open().await.unwrap_err();
    assert!(matches!(error, CatalogError::Lost { .. }), "{error}");
    assert!(error.remedy().unwrap().contains("lode doctor --rebuild"));
    // An empty file is as good as none.
    std::fs::write(world.db_path(), b"").unwrap();
    assert!(matches!(world.try_open().await.unwrap_err(), CatalogError::Lost { .. }));
}

#[tokio::test]
async fn a_lost_db_of_a_lake_without_epochs_is_made_again() {
    let world = World::new();
    world.open().await.close().await;
    world.lose_db();
    assert!(world.open().await.relations().await.unwrap().is_empty());
    assert!(world.open().await.relations().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_newer_db_is_refused() {
    let world = World::new();
    let catalog = world.open().await;
    catalog.close().await;
    let pool = sqlx::SqlitePool::connect(&format!("sqlite:{}", world.db_path().display())).await.unwrap();
    sqlx::query("INSERT INTO lode_schema (version) VALUES (999)").execute(&pool).await.unwrap();
    pool.close().await;
    let error = world.try_open().await.unwrap_err();
    assert!(matches!(error, CatalogError::Newer { found: 999, .. }), "{error}");
    assert_eq!(error.kind(), ErrorKind::Config);
}

#[tokio::test]
async fn a_damaged_db_is_named() {
    let world = World::new();
    let catalog = world.open().await;
    put_view(&catalog, "public.v").await;
    catalog.close().await;
    std::fs::write(world.db_path(), vec![0x5a; 20_000]).unwrap();
    let error = world.try_open().await.unwrap_err();
    assert!(matches!(error, CatalogError::Damaged { .. }), "{error}");
    assert!(error.remedy().unwrap().contains("lode doctor --rebuild"));
    world.rebuild().await;
    assert_eq!(world.open().await.relations().await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_data_folder_has_one_holder() {
    let folder = tempfile::tempdir().unwrap();
    let held = DataLock::acquire(folder.path()).unwrap();
    match DataLock::acquire(folder.path()).unwrap_err() {
        CatalogError::Locked { pid, .. } => assert_eq!(pid, std::process::id()),
        other => panic!("{other}"),
    }
    drop(held);
    DataLock::acquire(folder.path()).unwrap();
}

#[tokio::test]
async fn runs_and_notes_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Arc::new(FixedClock::new(DateTime::from_timestamp_micros(1_700_000_000_000_001).unwrap()));
    let options = OpenOptions { adopt: false, clock: Arc::clone(&clock) as _ };
    let catalog = Catalog::open(Store::memory(), folder.path(), options).await.unwrap();
    let mut run = RunRow {
        id: "r1".into(),
        command: "build".into(),
        started_at: catalog.now(),
        finished_at: None,
        status: "running".into(),
        nodes: serde_json::json!([]),
    };
    catalog.record_run(&run).await.unwrap();
    run.finished_at = Some(catalog.now());
    run.status = "success".into();
    run.nodes = serde_json::json!([{ "name": "m", "rows": 12_345_678_901_234_u64 }]);
    catalog.record_run(&run).await.unwrap();
    let later = RunRow { id: "r2".into(), started_at: run.started_at + chrono::TimeDelta::seconds(1), ..run.clone() };
    catalog.record_run(&later).await.unwrap();
    assert_eq!(catalog.runs(10).await.unwrap(), [later, run]);
    assert_eq!(catalog.get_note("parse", "a").await.unwrap(), None);
    catalog.put_note("parse", "a", "1").await.unwrap();
    catalog.put_note("parse", "a", "2").await.unwrap();
    assert_eq!(catalog.get_note("parse", "a").await.unwrap().as_deref(), Some("2"));
}

#[tokio::test]
async fn a_pipeline_keeps_its_id_through_a_new_name() {
    let world = World::new();
    let catalog = world.open().await;
    let old = catalog.pipeline(PipelineKind::Ingest, "a", None).await.unwrap();
    assert_eq!(catalog.pipeline(PipelineKind::Ingest, "a", None).await.unwrap(), old);
    assert_ne!(catalog.pipeline(PipelineKind::Model, "a", None).await.unwrap().id, old.id);
    let new = catalog.pipeline(PipelineKind::Ingest, "b", Some("a")).await.unwrap();
    assert_eq!((new.id, new.name.as_str()), (old.id, "b"));
    assert_ne!(catalog.pipeline(PipelineKind::Ingest, "a", None).await.unwrap().id, old.id);
    catalog.close().await;
    world.lose_db();
    world.rebuild().await;
    let again = world.open().await;
    assert_eq!(again.pipeline(PipelineKind::Ingest, "b", None).await.unwrap().id, old.id);
}

#[tokio::test]
async fn views_are_put_replaced_and_dropped() {
    let world = World::new();
    let catalog = world.open().await;
    put_view(&catalog, "gold.v").await;
    let name: TableName = "gold.v".parse().unwrap();
    assert!(
        matches!(catalog.relation(&name).await.unwrap(), Some(RelationEntry::View(view)) if view.sql == "select 1")
    );
    let pipeline = catalog.pipeline(PipelineKind::Statement, "drop", None).await.unwrap();
    let drop_view = CatalogChange::Drop { name: name.clone() };
    let draft = catalog.begin(&pipeline).await.unwrap();
    draft.commit(SealContent { catalog: vec![drop_view], ..SealContent::default() }).await.unwrap();
    assert!(catalog.relation(&name).await.unwrap().is_none());
    catalog.close().await;
    world.lose_db();
    assert_eq!(world.rebuild().await.views, 0);
}

#[tokio::test]
async fn copies_of_the_db_go_to_the_lake_and_open() {
    let world = World::new();
    let catalog = world.open().await;
    put_view(&catalog, "public.v").await;
    let mut newest = catalog.backup_meta().await.unwrap();
    for _ in 0..4 {
        newest = catalog.backup_meta().await.unwrap();
    }
    let copies = world.store.list(&"_lode/meta".into(), None).await.unwrap();
    assert_eq!(copies.len(), 3);
    assert_eq!(copies.last().unwrap().location, newest);
    put_view(&catalog, "public.w").await;
    catalog.close().await;
    world.lose_db();
    // An old copy knows less than the lake: what is missing is rolled forward.
    std::fs::write(world.db_path(), world.store.get(&newest).await.unwrap()).unwrap();
    assert_eq!(world.open().await.relations().await.unwrap().len(), 2);
}

#[tokio::test]
async fn a_rebuild_that_was_cut_off_before_the_owner_is_done_again() {
    let world = World::new();
    let catalog = world.open().await;
    put_view(&catalog, "public.v").await;
    catalog.close().await;
    // The DB has its place already, and the lake still names the one before.
    let path = "_lode/owner.json".into();
    let mut owner: serde_json::Value = serde_json::from_slice(&world.store.get(&path).await.unwrap()).unwrap();
    owner["db"] = "the-one-before".into();
    world.store.put(&path, owner.to_string().into()).await.unwrap();
    let error = world.try_open().await.unwrap_err();
    assert!(matches!(error, CatalogError::Replaced { .. }), "{error}");
    assert!(error.remedy().unwrap().contains("lode doctor --rebuild"));
    world.rebuild().await;
    assert_eq!(world.open().await.relations().await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_seal_that_is_missing_between_others_is_not_written_anew() {
    let world = World::new();
    let catalog = world.open().await;
    let pipeline = catalog.pipeline(PipelineKind::Model, "public.v", None).await.unwrap();
    let old = catalog.backup_meta().await.unwrap();
    for _ in 0..3 {
        put_view(&catalog, "public.v").await;
    }
    catalog.close().await;
    let path = format!("_lode/pipelines/{}/{:020}.json", pipeline.id, 1).as_str().into();
    let seal = world.store.get(&path).await.unwrap();
    world.store.delete(&path).await.unwrap();
    world.lose_db();
    std::fs::write(world.db_path(), world.store.get(&old).await.unwrap()).unwrap();
    let catalog = world.open().await;
    let error = catalog.begin(&pipeline).await.unwrap_err();
    assert!(matches!(&error, CatalogError::Blocked { reason, .. } if reason.contains("is missing")), "{error}");
    assert!(matches!(catalog.resume(&pipeline).await.unwrap_err(), CatalogError::BadSeal { .. }));
    world.store.put(&path, seal).await.unwrap();
    catalog.resume(&pipeline).await.unwrap();
    assert_eq!(catalog.begin(&pipeline).await.unwrap().epoch().0, 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn copies_are_kept_while_something_changes_and_a_failure_stops_nothing() {
    let place = tempfile::tempdir().unwrap();
    let world = World::at(place.path());
    let catalog = world.open().await;
    let stop = CancellationToken::new();
    let copying = {
        let (catalog, stop) = (catalog.clone(), stop.clone());
        task::spawn("copies", async move { keep_copies(&catalog, Duration::from_millis(5), stop).await })
    };
    let folder = world.store.url().to_file_path().unwrap().join("_lode/meta");
    let copies = || -> std::collections::BTreeSet<_> {
        std::fs::read_dir(&folder).into_iter().flatten().map(|entry| entry.unwrap().file_name()).collect()
    };
    for name in ["public.a", "public.b", "public.c", "public.d"] {
        let before = copies();
        // The first try fails.
        world.faults.once("_lode/meta", Fault::Error);
        put_view(&catalog, name).await;
        let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
        while copies().is_subset(&before) {
            assert!(tokio::time::Instant::now() < deadline, "no copy after {name}");
            tokio::task::yield_now().await;
        }
    }
    let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
    while copies().len() != 3 || catalog.backup_meta_if_changed().await.unwrap().is_some() {
        assert!(tokio::time::Instant::now() < deadline, "{:?}", copies());
    }
    // Nothing changed: nothing to copy.
    assert!(catalog.backup_meta_if_changed().await.unwrap().is_none());
    stop.cancel();
    copying.await.unwrap();
}
