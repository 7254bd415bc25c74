//! The metadata DB made again.

use lode_catalog::{Catalog, CatalogChange, PipelineKind, RelationEntry, SealContent};
use lode_core::Epoch;
use lode_lake::Operation;

use crate::world::*;

/// All that a rebuild must bring back.
async fn dump(catalog: &std::sync::Arc<Catalog>) -> String {
    let mut text = String::new();
    for relation in catalog.relations().await.unwrap() {
        let name = relation.name().clone();
        text.push_str(&format!("{:?}\n", catalog.relation(&name).await.unwrap()));
    }
    for status in catalog.pipelines().await.unwrap() {
        text.push_str(&format!("{status:?}\n{:?}\n", catalog.files(&status.pipeline).await.unwrap()));
    }
    text
}

/// A lake with several pipelines, a view, a table that was dropped and one that was made again.
async fn busy(world: &World) -> std::sync::Arc<Catalog> {
    let catalog = world.open().await;
    for contract in [Contract::Strict, Contract::Loose, Contract::Strict] {
        step(&catalog, 3, contract).await.unwrap();
    }
    for (name, round) in [("gold.a", 1), ("gold.b", 1), ("gold.a", 2)] {
        let model = catalog.pipeline(PipelineKind::Model, name, None).await.unwrap();
        let draft = catalog.begin(&model).await.unwrap();
        let name = name.parse().unwrap();
        let tables = vec![change(&draft, &catalog, &name, Operation::Overwrite, &[round]).await.unwrap()];
        draft.commit(SealContent { tables, ..SealContent::default() }).await.unwrap();
    }
    let statement = catalog.pipeline(PipelineKind::Statement, "s", None).await.unwrap();
    let view =
        CatalogChange::PutView { name: "gold.v".parse().unwrap(), sql: "select 1".into(), schema_json: "{}".into() };
    for changes in [vec![view], vec![CatalogChange::Drop { name: "gold.b".parse().unwrap() }]] {
        let draft = catalog.begin(&statement).await.unwrap();
        draft.commit(SealContent { catalog: changes, ..SealContent::default() }).await.unwrap();
    }
    catalog
}

#[tokio::test]
async fn a_rebuilt_db_equals_the_one_it_replaces() {
    let world = World::new();
    let catalog = busy(&world).await;
    assert!(world.foreign_row(&catalog, 1).await);
    let (before, seen) = (dump(&catalog).await, check(&catalog).await);
    catalog.close().await;
    let report = world.rebuild().await;
    assert_eq!((report.tables, report.views, report.rolled_forward), (4, 1, 0));
    assert_eq!((report.pipelines, report.files), (4, 3));
    let catalog = world.open().await;
    assert_eq!(dump(&catalog).await, before);
    assert_eq!(check(&catalog).await, seen);
    // The old one stays beside.
    let kept = std::fs::read_dir(world.data())
        .unwrap()
        .filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().starts_with("meta.db.2"));
    assert!(kept.count() >= 1);
    step(&catalog, 2, Contract::Strict).await.unwrap();
    assert_eq!(check(&catalog).await.progress, 11);
}

#[tokio::test]
async fn a_rebuild_rolls_a_part_of_an_epoch_forward() {
    for visit in 1..=3 {
        let world = World::new();
        let catalog = world.open().await;
        step(&catalog, 3, Contract::Strict).await.unwrap();
        fail_at(&catalog, "epoch.apply.after", visit);
        step(&catalog, 3, Contract::Strict).await.unwrap_err();
        // A row of another writer lies above the part.
        assert!(world.foreign_row(&catalog, 1).await);
        assert_eq!(check(&catalog).await.progress, 3);
        catalog.close().await;
        world.lose_db();
        // All three tables hold the epoch: it counts as published; else it is finished.
        assert_eq!(world.rebuild().await.rolled_forward, u64::from(visit < 3));
        let catalog = world.open().await;
        let view = check(&catalog).await;
        assert_eq!((view.progress, view.foreign), (6, vec![FOREIGN + 1]));
        let draft = catalog.begin(&feed(&catalog).await).await.unwrap();
        assert_eq!(draft.epoch(), Epoch(3));
    }
}

#[tokio::test]
async fn a_rebuild_of_the_first_epoch_in_part() {
    let world = World::new();
    let catalog = world.open().await;
    fail_at(&catalog, "epoch.apply.after", 1);
    step(&catalog, 3, Contract::Strict).await.unwrap_err();
    catalog.close().await;
    world.lose_db();
    let report = world.rebuild().await;
    assert_eq!((report.rolled_forward, report.tables), (1, 3));
    assert_eq!(check(&world.open().await).await.progress, 3);
}

#[tokio::test]
async fn a_table_that_no_seal_names_comes_back_under_its_folder() {
    let world = World::new();
    let maker = world.open().await;
    step(&maker, 3, Contract::Loose).await.unwrap();
    let copy = World::new();
    for meta in world.store.list(&"bronze".into(), None).await.unwrap() {
        copy.store.put(&meta.location, world.store.get(&meta.location).await.unwrap()).await.unwrap();
    }
    assert_eq!(copy.rebuild().await.tables, 1);
    let catalog = copy.open().await;
    let Some(RelationEntry::Table(table)) = catalog.relation(&bronze()).await.unwrap() else { panic!("no table") };
    assert_eq!(ids(&catalog, &table).await, [0, 1, 2]);
}

#[tokio::test]
async fn a_missing_seal_stops_the_rebuild_and_the_old_db_stays() {
    let world = World::new();
    let catalog = busy(&world).await;
    let feed = feed(&catalog).await;
    let before = dump(&catalog).await;
    catalog.close().await;
    let seal = format!("_lode/pipelines/{}/{:020}.json", feed.id, 2);
    let bytes = world.store.get(&seal.as_str().into()).await.unwrap();
    world.store.delete(&seal.as_str().into()).await.unwrap();
    let error = lode_catalog::rebuild(&world.store, world.data(), &options()).await.unwrap_err();
    assert!(error.to_string().contains("is missing"), "{error}");
    assert_eq!(dump(&world.open().await).await, before);
    world.store.put(&seal.as_str().into(), bytes).await.unwrap();
    world.rebuild().await;
    assert_eq!(dump(&world.open().await).await, before);
}
