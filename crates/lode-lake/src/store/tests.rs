use std::io::Write;

use lode_core::{ErrorKind, Explain};

use super::*;

fn path(text: &str) -> StorePath {
    StorePath::parse(text).unwrap()
}

fn stores() -> (tempfile::TempDir, Vec<Store>) {
    let folder = tempfile::tempdir().unwrap();
    let stores = vec![Store::local(folder.path()).unwrap(), Store::memory(), Store::memory_bucket()];
    (folder, stores)
}

/// Those whose power can fail.
fn own_disks() -> (tempfile::TempDir, Vec<Store>) {
    let (folder, mut stores) = stores();
    stores.retain(|store| !matches!(store.backend, Backend::Remote { .. }));
    (folder, stores)
}

#[tokio::test]
async fn a_name_is_given_once() {
    let (_folder, stores) = stores();
    for store in stores {
        let name = path("a/b/c.json");
        assert_eq!(store.put_if_absent(&name, Bytes::from_static(b"one")).await.unwrap(), Put::Created);
        assert_eq!(store.put_if_absent(&name, Bytes::from_static(b"two")).await.unwrap(), Put::Exists);
        assert_eq!(store.get(&name).await.unwrap(), "one");
        store.put(&name, Bytes::from_static(b"three")).await.unwrap();
        assert_eq!(store.get(&name).await.unwrap(), "three");
        store.delete(&name).await.unwrap();
        store.delete(&name).await.unwrap();
        assert!(store.head(&name).await.unwrap().is_none());
        assert!(matches!(store.get(&name).await, Err(LakeError::NotFound { .. })));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_who_race_for_a_name_one_wins() {
    let (_folder, stores) = stores();
    for store in stores {
        let mut racers = Vec::new();
        for racer in 0..16 {
            let store = store.clone();
            racers.push(lode_core::task::spawn("racer", async move {
                store.put_if_absent(&path("t/1.json"), Bytes::from(format!("{racer}"))).await.unwrap()
            }));
        }
        let mut winners = 0;
        for racer in racers {
            winners += usize::from(racer.await.unwrap() == Put::Created);
        }
        assert_eq!(winners, 1);
    }
}

#[tokio::test]
async fn a_sink_is_invisible_until_it_is_finished() {
    let (_folder, stores) = stores();
    for store in stores {
        let name = path("t/part=1/x.parquet");
        let mut sink = store.create(&name).unwrap();
        sink.write_all(b"rows").unwrap();
        assert!(store.head(&name).await.unwrap().is_none());
        assert!(store.list(&path(""), None).await.unwrap().is_empty());
        drop(sink);
        let mut sink = store.create(&name).unwrap();
        sink.write_all(b"rows!").unwrap();
        assert_eq!(sink.finish().unwrap(), 5);
        assert_eq!(store.head(&name).await.unwrap().unwrap().size, 5);
        let second = store.create(&name).and_then(FileSink::finish);
        assert_eq!(second.unwrap_err().kind(), ErrorKind::AlreadyExists);
    }
}

#[tokio::test]
async fn a_dropped_sink_leaves_nothing_on_disk() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::local(folder.path()).unwrap();
    let mut sink = store.create(&path("t/x.parquet")).unwrap();
    sink.write_all(b"rows").unwrap();
    drop(sink);
    let left: Vec<_> = std::fs::read_dir(folder.path().join("_tmp")).unwrap().collect();
    assert!(left.is_empty());
}

#[tokio::test]
async fn lists_are_sorted_and_start_behind_a_name() {
    let (_folder, stores) = stores();
    for store in stores {
        for name in ["t/_delta_log/02.json", "t/_delta_log/00.json", "t/_delta_log/01.json", "u/x", "t/sp ace=%25/y"] {
            store.put(&path(name), Bytes::from_static(b"x")).await.unwrap();
        }
        let names =
            |found: Vec<ObjectMeta>| found.into_iter().map(|meta| meta.location.to_string()).collect::<Vec<_>>();
        let behind = store.list(&path("t/_delta_log"), Some(&path("t/_delta_log/00.json"))).await.unwrap();
        assert_eq!(names(behind), ["t/_delta_log/01.json", "t/_delta_log/02.json"]);
        let all = store.list(&path("t"), None).await.unwrap();
        assert_eq!(names(all).last().unwrap(), "t/sp ace=%25/y");
        assert_eq!(store.folders(&path("")).await.unwrap(), ["t", "u"]);
        assert!(store.folders(&path("nowhere")).await.unwrap().is_empty());
        assert!(store.list(&path("nowhere"), None).await.unwrap().is_empty());
    }
}

#[tokio::test]
async fn an_upload_in_parts_is_whole() {
    let (_folder, stores) = stores();
    for store in stores {
        let name = path("t/big");
        let mut upload = store.objects().put_multipart(&name).await.unwrap();
        let (first, second) = (upload.put_part("hello ".into()), upload.put_part("world".into()));
        second.await.unwrap();
        first.await.unwrap();
        upload.complete().await.unwrap();
        assert_eq!(store.get(&name).await.unwrap(), "hello world");
    }
}

#[tokio::test]
async fn lost_replies_are_unclear_and_scripted() {
    let (_folder, stores) = stores();
    for store in stores {
        let plan = FaultPlan::new(1);
        let store = store.with_faults(plan.clone());
        plan.once("1.json", Fault::LostReplyWritten);
        plan.once("2.json", Fault::LostReplyUnwritten);
        plan.once("3.json", Fault::Repeat);
        for (name, there) in [("t/1.json", true), ("t/2.json", false)] {
            let put = store.put_if_absent(&path(name), Bytes::from_static(b"x")).await;
            assert_eq!(put.unwrap_err().kind(), ErrorKind::Unavailable);
            assert_eq!(store.head(&path(name)).await.unwrap().is_some(), there);
        }
        assert_eq!(store.put_if_absent(&path("t/3.json"), Bytes::from_static(b"x")).await.unwrap(), Put::Exists);
    }
}

#[tokio::test]
async fn a_cut_read_is_an_error_not_half_an_answer() {
    let (_folder, stores) = stores();
    for store in stores {
        let plan = FaultPlan::new(1);
        let store = store.with_faults(plan.clone());
        store.put(&path("x"), Bytes::from_static(b"0123456789")).await.unwrap();
        plan.once("x", Fault::Truncate);
        assert_eq!(store.get(&path("x")).await.unwrap_err().kind(), ErrorKind::Unavailable);
        assert_eq!(store.get(&path("x")).await.unwrap().len(), 10);
    }
}

#[tokio::test]
async fn full_and_denied_disks_are_named() {
    let (_folder, stores) = stores();
    for store in stores {
        let store = store.with_faults(FaultPlan::parse("full_after:1KiB, denied:locked").unwrap());
        let put = store.put(&path("locked/x"), Bytes::from_static(b"x")).await;
        assert_eq!(put.unwrap_err().kind(), ErrorKind::Denied);
        assert_eq!(store.create(&path("locked/y")).unwrap_err().kind(), ErrorKind::Denied);
        store.put(&path("x"), Bytes::from(vec![0; 1000])).await.unwrap();
        let put = store.put_if_absent(&path("y"), Bytes::from(vec![0; 1000])).await;
        assert_eq!(put.unwrap_err().kind(), ErrorKind::Full);
        let error = store.create(&path("z")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Full);
        assert!(error.remedy().unwrap().contains("free some space"));
    }
}

fn bucket() -> (Store, FaultPlan) {
    let plan = FaultPlan::new(1);
    (Store::memory_bucket().with_faults(plan.clone()), plan)
}

async fn probed(store: &Store) -> Result<(), LakeError> {
    probe::probe(store, &"s3://memory/lake".parse().unwrap(), "https://here").await
}

#[tokio::test]
async fn the_probe_sees_through_lost_and_repeated_requests() {
    let (store, plan) = bucket();
    for fault in [Fault::Repeat, Fault::Conflict, Fault::Slow] {
        plan.once("probe-", fault);
        probed(&store).await.unwrap();
    }
    assert!(store.list(&path(""), None).await.unwrap().is_empty());
}

#[tokio::test]
async fn the_probe_refuses_a_store_that_lies() {
    let (store, plan) = bucket();
    // The first create meets no file, so it is the same with and without the condition.
    plan.once("probe-", Fault::IgnoreCondition);
    plan.once("probe-", Fault::IgnoreCondition);
    let error = probed(&store).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("it ignores If-None-Match (seen at https://here)"), "{error}");
    assert!(store.list(&path(""), None).await.unwrap().is_empty());
    probed(&store).await.unwrap();
}

#[tokio::test]
async fn a_probe_that_meets_a_busy_store_may_be_tried_again() {
    let (store, plan) = bucket();
    plan.once("probe-", Fault::Busy);
    let error = probed(&store).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert_eq!(
        error.to_string(),
        "could not open store \"s3://memory/lake\": it answered with an error at https://here"
    );
    probed(&store).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_conflict_that_does_not_end_is_unclear_and_not_somebody_elses_file() {
    let store = Store::memory_bucket().with_faults(FaultPlan::new(1).chance(Fault::Conflict, 1.0));
    let begun = Instant::now();
    let error = store.put_if_absent(&path("t/1"), Bytes::from_static(b"x")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!((CONFLICTS_END..CONFLICTS_END * 2).contains(&begun.elapsed()), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_file_whose_last_reply_was_lost_is_found() {
    for (size, fault) in [(1000, Fault::LostReplyWritten), (1000, Fault::Repeat), (12 << 20, Fault::LostReplyWritten)] {
        let (store, plan) = bucket();
        let mut sink = store.create(&path("t/x.parquet")).unwrap();
        sink.write_all(&vec![7; size]).unwrap();
        plan.once("x.parquet", fault);
        assert_eq!(sink.finish().unwrap(), size as u64);
        assert!(store.get(&path("t/x.parquet")).await.unwrap() == vec![7; size]);
    }
    for size in [1000, 12 << 20] {
        let (store, plan) = bucket();
        let mut sink = store.create(&path("t/x.parquet")).unwrap();
        sink.write_all(&vec![7; size]).unwrap();
        plan.once("x.parquet", Fault::LostReplyUnwritten);
        assert_eq!(sink.finish().unwrap_err().kind(), ErrorKind::Unavailable);
        assert!(store.head(&path("t/x.parquet")).await.unwrap().is_none());
    }
}

#[tokio::test]
async fn a_part_that_fails_fails_the_file() {
    let (store, plan) = bucket();
    let mut sink = store.create(&path("t/x.parquet")).unwrap();
    sink.write_all(&vec![7; upload::PART_BYTES]).unwrap();
    plan.once("x.parquet", Fault::Busy);
    let written = sink.write_all(&vec![7; 3 * upload::PART_BYTES]);
    let failed = written.is_err() || sink.finish().is_err();
    assert!(failed);
    assert!(store.head(&path("t/x.parquet")).await.unwrap().is_none());
}

#[tokio::test]
async fn a_full_bucket_is_met_while_a_large_file_is_written() {
    let store = Store::memory_bucket().with_faults(FaultPlan::new(1).full_after(8 << 20));
    let mut sink = store.create(&path("t/x.parquet")).unwrap();
    let error = match sink.write_all(&vec![7; 12 << 20]) {
        Ok(()) => sink.finish().unwrap_err(),
        // As the writer of a table reads it.
        Err(error) => io_error("write", &"x", error),
    };
    assert_eq!(error.kind(), ErrorKind::Full);
}

#[tokio::test]
async fn a_large_object_comes_in_pieces_of_one_content() {
    let store = Store::memory_bucket();
    let bytes = Bytes::from((0..AT_ONCE_BYTES as u32 + 5).map(|n| (n ^ (n >> 9)) as u8).collect::<Vec<_>>());
    store.put(&path("x"), bytes.clone()).await.unwrap();
    assert!(store.get(&path("x")).await.unwrap() == bytes);
    let tag = store.head(&path("x")).await.unwrap().unwrap().e_tag;
    store.put(&path("x"), bytes.clone()).await.unwrap();
    let mixed = store.get_in_pieces(&path("x"), bytes.len() as u64, &tag).await;
    assert!(matches!(mixed, Err(object_store::Error::Precondition { .. })), "{mixed:?}");
}

#[tokio::test]
async fn errors_of_a_bucket_name_the_bucket_and_show_no_secret() {
    let store = Store::memory_bucket().with_faults(FaultPlan::new(1).denied("locked"));
    let error = store.put(&path("locked/a b"), Bytes::from_static(b"x")).await.unwrap_err();
    assert_eq!(error.to_string(), "could not write \"s3://memory/lake/locked/a b\"");
    let fix = error.remedy().unwrap();
    assert_eq!(fix, "give these credentials the right to read, write, list and delete there");
    assert_eq!(format!("{store:?}"), "Store { url: \"s3://memory/lake/\", .. }");
}

#[tokio::test]
async fn a_folder_is_opened_by_its_location() {
    let folder = tempfile::tempdir().unwrap();
    let location = StoreLocation::from(folder.path());
    let env = Environment::default();
    let store = Store::open(&location, &StoreOptions::default(), &env).await.unwrap();
    assert_eq!(store.url().to_file_path().unwrap(), folder.path().canonicalize().unwrap());
    let options = StoreOptions::default().with("region", "x").unwrap();
    assert_eq!(Store::open(&location, &options, &env).await.unwrap_err().kind(), ErrorKind::Config);
}

#[tokio::test]
async fn a_crash_keeps_what_was_synced() {
    let (_folder, stores) = stores();
    for store in stores {
        let store = store.with_faults(FaultPlan::new(3));
        for n in 0..20 {
            store.put_if_absent(&path(&format!("t/{n}")), Bytes::from(vec![1; 9000])).await.unwrap();
        }
        assert!(store.crash().await.unwrap().is_empty());
        assert_eq!(store.list(&path("t"), None).await.unwrap().len(), 20);
    }
}

#[tokio::test]
async fn a_crash_under_a_lying_disk_takes_and_tears() {
    let (_folder, stores) = own_disks();
    for store in stores {
        store.put(&path("before"), Bytes::from(vec![1; 9000])).await.unwrap();
        let store = store.with_faults(FaultPlan::new(3).lose_syncs());
        for n in 0..20 {
            store.put_if_absent(&path(&format!("t/{n}")), Bytes::from(vec![1; 9000])).await.unwrap();
        }
        let mut sink = store.create(&path("t/sink")).unwrap();
        sink.write_all(&[1; 9000]).unwrap();
        sink.finish().unwrap();
        let touched = store.crash().await.unwrap();
        assert!(touched.len() > 5, "{touched:?}");
        let mut whole = 0;
        for meta in store.list(&path("t"), None).await.unwrap() {
            whole += usize::from(store.get(&meta.location).await.unwrap() == vec![1; 9000]);
        }
        assert_eq!(whole + touched.len(), 21);
        assert_eq!(store.get(&path("before")).await.unwrap(), vec![1; 9000]);
    }
}

#[tokio::test]
async fn the_journal_tells_a_parent_what_was_synced() {
    let folder = tempfile::tempdir().unwrap();
    let journal = folder.path().join("journal");
    let plan = FaultPlan::parse(&format!("unsynced_journal:{}", journal.display())).unwrap();
    let store = Store::local(&folder.path().join("lake")).unwrap().with_faults(plan);
    store.put_if_absent(&path("t/1"), Bytes::from_static(b"x")).await.unwrap();
    let lines = std::fs::read_to_string(&journal).unwrap();
    let file = folder.path().canonicalize().unwrap().join("lake/t/1");
    assert_eq!(lines, format!("named {0}\nsynced {0}\n", file.display()));
}

#[test]
fn a_wrong_fault_entry_is_named() {
    let error = FaultPlan::parse("seed:1,explode:0.5").unwrap_err();
    assert_eq!(error.to_string(), "could not understand LODE_FAULT entry \"explode:0.5\"");
    assert!(FaultPlan::parse("error:2").is_err());
    assert!(FaultPlan::parse("full_after:64MB").is_err());
}

#[tokio::test]
async fn the_same_seed_meets_the_same_faults() {
    let mut runs = Vec::new();
    for _ in 0..2 {
        let store = Store::memory().with_faults(FaultPlan::parse("seed:7,error:0.3,lost_reply_written:0.3").unwrap());
        let mut outcome = Vec::new();
        for n in 0..50 {
            outcome.push(store.put_if_absent(&path(&n.to_string()), Bytes::from_static(b"x")).await.is_ok());
        }
        assert!(outcome.contains(&false) && outcome.contains(&true));
        runs.push(outcome);
    }
    assert_eq!(runs[0], runs[1]);
}
