//! What `lode up` does by itself: takes over changes of lode.yml, and keeps copies of the metadata DB.

use super::support::{Folder, wait_until};

fn count(folder: &Folder, table: &str) -> String {
    folder.lode(&["sql", "-q", "-c", &format!("select count(*) as n from {table}"), "--format", "csv"]).out
}

fn order(id: u32, amount: &str) -> String {
    format!("order_id,customer,ordered_at,amount\n{id},Ada,2026-01-07T08:00:00Z,{amount}\n")
}

#[test]
fn a_changed_config_is_taken_over_and_a_broken_one_is_told_once() {
    let folder = Folder::template();
    let mut up = folder.up();
    let bronze = |n: u32| {
        let wanted = format!("n\n{n}\n");
        wait_until(|| count(&folder, "bronze.orders") == wanted, || format!("{}{}", wanted, up.log()));
    };
    bronze(4);

    // Another contract: what it refuses goes to quarantine, without a restart.
    let config = std::fs::read_to_string(folder.path().join("lode.yml")).unwrap();
    folder.write("lode.yml", config.replace("amount > 0", "amount > 100"));
    up.wait_for("lode.yml changed: watching orders");
    folder.write("landing/orders/cheap.csv", order(6, "5.00"));
    folder.write("landing/orders/dear.csv", order(7, "500.00"));
    bronze(5);
    wait_until(|| count(&folder, "bronze.orders__quarantine") == "n\n2\n", || up.log());

    // A broken file: the whole error, once; the contract before stays in force.
    folder.write("lode.yml", config.replace("table:", "tabel:"));
    up.wait_for("did you mean \"table\"?");
    folder.write("landing/orders/cheap_again.csv", order(8, "6.00"));
    folder.write("landing/orders/dear_again.csv", order(9, "600.00"));
    let total = || folder.lode_with(&[], &["--project-dir", ".", "status"]);
    assert_eq!(total().code, Some(2), "a command of its own reads the broken file");
    // Nor can it be used to look: a second project of the same lake can.
    let beside = Folder::empty();
    let data_dir = folder.path().join(".lode").display().to_string();
    let is_there = |table: &str, wanted: &str| {
        let sql = format!("select count(*) as n from {table}");
        let ask = ["sql", "-q", "-c", &sql, "--format", "csv"];
        wait_until(|| beside.lode_with(&[("LODE_DATA_DIR", &data_dir)], &ask).out == wanted, || up.log());
    };
    is_there("bronze.orders", "n\n6\n");
    is_there("bronze.orders__quarantine", "n\n3\n");
    wait_until(|| up.log().matches("tabel").count() >= 1, || up.log());

    // Back in order, with a new source.
    let more = "  - name: notes\n    files: {path: landing/notes}\n    table: bronze.notes\n";
    folder.write("landing/notes/a.ndjson", "{\"note\": \"x\"}\n");
    folder.write("lode.yml", format!("{}{more}", config.replace("amount > 0", "amount > 100")));
    up.wait_for("lode.yml is in order again: watching 2 sources: orders, notes");
    wait_until(|| count(&folder, "bronze.notes") == "n\n1\n", || up.log());
    assert_eq!(up.log().matches("error: unknown key \"tabel\"").count(), 1, "{}", up.log());
    assert_eq!(up.stop("INT"), Some(0), "{}", up.log());
}

#[test]
fn with_no_watch_the_sources_stay_as_they_are() {
    let folder = Folder::template();
    let up = folder.up_with(&[], &["--no-watch"]);
    let config = std::fs::read_to_string(folder.path().join("lode.yml")).unwrap();
    folder.write("lode.yml", config.replace("amount > 0", "amount > 100"));
    wait_until(|| count(&folder, "bronze.orders") == "n\n4\n", || up.log());
    // Two more looks of a watch would have been over by the time that a third file has landed.
    for id in 10..13_u32 {
        folder.write(&format!("landing/orders/{id}.csv"), order(id, "5.00"));
        let wanted = format!("n\n{}\n", id - 5);
        wait_until(|| count(&folder, "bronze.orders") == wanted, || up.log());
    }
    assert!(!up.log().contains("lode.yml changed"), "{}", up.log());
}

#[test]
fn models_are_read_anew_by_each_command() {
    let folder = Folder::template();
    folder.lode(&["ingest"]).done();
    let _up = folder.up();
    let ask = |sql: &str| folder.lode(&["sql", "-q", "-c", sql, "--format", "csv"]).done();
    folder.lode(&["build"]).done();
    folder.write("models/gold/revenue_by_day.sql", "select date '2026-01-01' as day, 7 as orders, 1.0 as revenue");
    folder.write("models/gold/extra.sql", "select 8 as n");
    folder.lode(&["build"]).done();
    assert_eq!(ask("select orders from gold.revenue_by_day"), "orders\n7\n");
    assert_eq!(ask("select n from gold.extra"), "n\n8\n");
}

#[test]
fn a_clean_end_leaves_a_copy_of_the_metadata_db_if_something_changed() {
    let folder = Folder::empty();
    let copies = || match std::fs::read_dir(folder.path().join(".lode/lake/_lode/meta")) {
        Ok(entries) => entries.count(),
        Err(_) => 0,
    };
    let mut up = folder.up();
    assert_eq!(up.stop("TERM"), Some(0), "{}", up.log());
    assert_eq!(copies(), 0);
    for round in 1..=5 {
        let mut up = folder.up();
        folder.lode(&["sql", "-c", &format!("create table public.t{round} as select 1 as a")]).done();
        assert_eq!(up.stop("TERM"), Some(0), "{}", up.log());
        assert_eq!(copies(), round.min(3));
    }
    // A copy that cannot be made is a warning, and no failure.
    let meta = folder.path().join(".lode/lake/_lode/meta");
    std::fs::remove_dir_all(&meta).unwrap();
    std::fs::write(&meta, "in the way").unwrap();
    let mut up = folder.up();
    folder.lode(&["sql", "-c", "create table public.last as select 1 as a"]).done();
    assert_eq!(up.stop("TERM"), Some(0), "{}", up.log());
    assert!(up.log().contains("the metadata DB was not copied into the lake"), "{}", up.log());
}
