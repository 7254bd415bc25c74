//! Many files, and files larger than what is held back.

use std::time::{Duration, Instant};

use crate::world::{World, orders};

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
