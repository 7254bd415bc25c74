//! Many files, and files larger than what is held back.

use std::sync::Arc;
use std::time::{Duration, Instant};

use lode_lake::{DeltaTable, StorePath};

use crate::world::{Gate, World, land, orders};

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_small_files_land_in_bounded_time() {
    let world = World::new(orders("    columns: {id: bigint, name: text, amount: double precision}\n"));
    for file in 0..10_000_u64 {
        let mut text = String::from("id,name,amount\n");
        for row in 0..8 {
            text.push_str(&format!("{},{row}{:x<480},{row}.25\n", file * 1_000 + row, ""));
        }
        world.put(&format!("{:02}/{file}.csv", file % 100), text);
    }
    let started = Instant::now();
    let report = world.land().await;
    assert!(report.problems.is_empty(), "{:?}", report.problems.first());
    assert_eq!((report.files_landed, report.rows_landed, report.epochs), (10_000, 80_000, 10));
    // Files of one worker share its data files.
    let data_files = crate::world::data_files(&world.open().await, "bronze.orders").await;
    assert!(data_files <= 10 * lode_core::task::cpu_count(), "{data_files} data files");
    // Unoptimised code on a busy machine; the optimised build needs a few seconds.
    assert!(started.elapsed() < Duration::from_secs(120), "{:?}", started.elapsed());
    assert_eq!(world.land().await.files_skipped, 10_000);
    assert_eq!(world.status().await.counts.rows_landed, 80_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_larger_than_what_is_held_back_lands_whole_or_not_at_all() {
    let world = World::new(orders("    columns: {id: bigint, text: text}\n"));
    let mut text = String::from("id,text\n");
    for row in 0..200_000 {
        text.push_str(&format!("{row},some words that make the line about seventy bytes long, row {row}\n"));
    }
    world.put("big.csv", &text);
    assert!(text.len() > 8 << 20);
    let report = world.land().await;
    assert_eq!((report.rows_in, report.rows_landed), (200_000, 200_000));
    let ids = world.rows("bronze.orders", &["id"]).await;
    assert_eq!(ids.len(), 200_000);
    assert!(ids.windows(2).all(|pair| pair[0] != pair[1]));

    // Half of the rows are broken, but one file of them is over the limit: nothing of it may be seen.
    let limited = World { yaml: world.yaml.replace("    columns", "    max_reject_share: 0.1\n    columns"), ..world };
    let broken: String = (0..200_000)
        .map(|row| {
            if row % 2 == 0 {
                format!("x{row},a word and some more words in this line\n")
            } else {
                format!("{row},b word and some more words\n")
            }
        })
        .collect();
    limited.put("broken.csv", format!("id,text\n{broken}"));
    let report = limited.land().await;
    assert_eq!((report.files_poison, report.rows_landed, report.rows_quarantined), (1, 0, 0));
    assert_eq!(limited.rows("bronze.orders", &["_file"]).await.len(), 200_000);
}

/// What a query needs of the CPU pool (here: a long log to be parsed) does not wait for the end of an epoch.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_is_opened_while_all_workers_land() {
    let rule = "    columns: {id: bigint}\n    contract: {expectations: [{name: r, expect: id > 0}]}\n";
    let gate = Gate::closed();
    let world = World { gate: Some(Arc::clone(&gate)), ..World::new(orders(rule)) };
    let workers = lode_core::task::cpu_count();
    for file in 0..workers {
        world.put(&format!("{file}.csv"), "id\n1\n");
    }
    let context = world.open().await;
    let store = context.catalog.store().clone();
    let schema =
        r#"{\"type\":\"struct\",\"fields\":[{\"name\":\"id\",\"type\":\"long\",\"nullable\":true,\"metadata\":{}}]}"#;
    let log = format!(
        "{}\n{}\n{{\"metaData\":{{\"id\":\"x\",\"format\":{{\"provider\":\"parquet\"}},\"schemaString\":\"{schema}\"}}}}\n",
        format_args!(r#"{{"commitInfo":{{"operation":"{0:x<65000}{0:x<65000}"}}}}"#, ""),
        r#"{"protocol":{"minReaderVersion":1,"minWriterVersion":2}}"#,
    );
    store.put(&StorePath::from("other/_delta_log/00000000000000000000.json"), log.into()).await.unwrap();

    let landing = lode_core::task::spawn("landing", async move { land(&context).await });
    gate.wait_for(workers).await;
    let table = DeltaTable::new(&store, "other");
    let opened = tokio::time::timeout(Duration::from_secs(60), table.snapshot(None)).await;
    assert!(!landing.is_finished());
    gate.open();
    assert_eq!(landing.await.unwrap().unwrap().rows_landed, workers as u64);
    assert_eq!(opened.expect("the table waits for the landing").unwrap().schema().fields().len(), 1);
}
