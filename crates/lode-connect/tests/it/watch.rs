//! A watched folder, as in `lode up`.

use std::future::Future;
use std::time::Duration;

use lode_connect::{IngestContext, STATE_SCOPE, SourceState, watch, watch_list};
use tokio_util::sync::CancellationToken;

use crate::world::{World, orders, rows};

async fn wait_until<F: Future<Output = bool>>(what: &str, mut is_true: impl FnMut() -> F) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
    while !is_true().await {
        assert!(tokio::time::Instant::now() < deadline, "waited for: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn files_land_as_they_come_and_a_shutdown_ends_the_watch() {
    let world = World::new(orders("    poll_interval: 50ms\n"));
    world.put("a.csv", "id\n1\n");
    let context = world.open().await;
    let shutdown = CancellationToken::new();
    let watching = {
        let (context, shutdown) = (context.clone(), shutdown.clone());
        lode_core::task::spawn("watch", async move { watch(&context, shutdown).await })
    };
    wait_until("the first file", || async { rows(&context, &world, "bronze.orders", &["id"]).await == ["1"] }).await;
    world.put("b.csv", "id\n2\n");
    wait_until("the second file", || async { rows(&context, &world, "bronze.orders", &["id"]).await == ["1", "2"] })
        .await;
    shutdown.cancel();
    watching.await.unwrap();
    assert_eq!(world.land().await.files_skipped, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_fails_says_so_and_goes_on_when_it_can() {
    let world = World::new(orders("    poll_interval: 50ms\n").replace("path: in", "path: later"));
    let context = world.open().await;
    let state = || async {
        let note = context.catalog.get_note(STATE_SCOPE, "orders").await.unwrap()?;
        serde_json::from_str::<SourceState>(&note).ok()
    };
    let shutdown = CancellationToken::new();
    let watching = {
        let (context, shutdown) = (context.clone(), shutdown.clone());
        lode_core::task::spawn("watch", async move { watch(&context, shutdown).await })
    };
    wait_until("the failure", || async { state().await.is_some_and(|state| state.is_failing) }).await;
    assert!(state().await.unwrap().error.unwrap().contains("could not list the folder \"later\""));
    std::fs::create_dir(world.dir.path().join("later")).unwrap();
    std::fs::write(world.dir.path().join("later/a.csv"), "id\n1\n").unwrap();
    wait_until("the recovery", || async { state().await.is_some_and(|state| !state.is_failing) }).await;
    wait_until("the rows", || async { rows(&context, &world, "bronze.orders", &["id"]).await == ["1"] }).await;
    shutdown.cancel();
    watching.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shutdown_waits_for_one_epoch_and_not_for_the_backlog() {
    let world = World::new(orders("    poll_interval: 50ms\n    columns: {id: bigint}\n"));
    for file in 0..1_500 {
        world.put(&format!("{file:04}.csv"), format!("id\n{file}\n"));
    }
    let context = world.open().await;
    let shutdown = CancellationToken::new();
    let stop = shutdown.clone();
    crate::world::at_arrow(&context, "epoch.seal.before", 1, move || {
        stop.cancel();
        Ok(())
    });
    watch(&context, shutdown).await;
    assert_eq!(rows(&context, &world, "bronze.orders", &["id"]).await.len(), 1_000);
    drop(context);
    assert_eq!(world.land().await.rows_landed, 500);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_list_holds_from_the_next_pass_on() {
    let of = |pattern: &str| {
        let yaml = orders("    poll_interval: 50ms\n    columns: {id: bigint}\n");
        yaml.replace("{path: in}", &format!("{{path: in, pattern: \"{pattern}\"}}"))
    };
    let mut world = World::new(of("*.csv"));
    world.put("a.csv", "id\n1\n");
    let context = world.open().await;
    let (change, list) = tokio::sync::watch::channel(context.ingests.clone());
    let shutdown = CancellationToken::new();
    let watching = {
        let (context, shutdown) = (context.clone(), shutdown.clone());
        lode_core::task::spawn("watch", async move { watch_list(&context, list, shutdown).await })
    };
    async fn ids(context: &IngestContext, world: &World, table: &str) -> Vec<String> {
        rows(context, world, table, &["id"]).await
    }
    wait_until("the first file", || async { ids(&context, &world, "bronze.orders").await == ["1"] }).await;

    // A source more, over the folder of the first.
    let more = of("*.csv").replace("ingest:\n", "").replace("name: orders", "name: more").replace(".orders", ".more");
    world.yaml = format!("{}{more}", of("*.csv"));
    change.send_replace(world.context(context.catalog.clone()).ingests);
    wait_until("the new source", || async { ids(&context, &world, "bronze.more").await == ["1"] }).await;

    // The first one's pattern changes: it goes on with its own ledger, and nothing lands twice. The other one is gone.
    world.yaml = of("*.txt");
    change.send_replace(world.context(context.catalog.clone()).ingests);
    world.put("b.txt", "id\n2\n");
    wait_until("the other pattern", || async { ids(&context, &world, "bronze.orders").await == ["1", "2"] }).await;
    world.put("c.csv", "id\n3\n");
    world.put("d.txt", "id\n4\n");
    wait_until("a later file", || async { ids(&context, &world, "bronze.orders").await == ["1", "2", "4"] }).await;
    assert_eq!(ids(&context, &world, "bronze.more").await, ["1"]);
    shutdown.cancel();
    watching.await.unwrap();
}
