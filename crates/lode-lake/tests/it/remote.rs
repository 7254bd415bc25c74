//! Buckets: the whole way over HTTP to a double, and what is said when a bucket is not what it should be.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use lode_core::config::Environment;
use lode_core::{ErrorKind, Explain, SnapshotId};
use lode_lake::{Applied, DeltaTable, Fault, FaultPlan, LakeError, Operation, Put, Store, StoreOptions, StorePath};

use crate::build::*;
use crate::doubles::{self, Double, Request, azurite, moto, reply, s3_options, serve};

fn path(text: &str) -> StorePath {
    StorePath::parse(text).unwrap()
}

#[tokio::test]
async fn a_tour_of_s3() {
    let Some(moto) = moto() else { return };
    tour(&moto).await;
    // Files that were given up leave no parts; they go in the background.
    let begun = Instant::now();
    while moto.get("/lake?uploads").contains("<UploadId>") {
        assert!(begun.elapsed() < Duration::from_secs(20), "{}", moto.get("/lake?uploads"));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_tour_of_azure() {
    if let Some(azurite) = azurite() {
        tour(&azurite).await;
    }
}

async fn tour(double: &Double) {
    let store = double.open("some where/lake").await;
    let neighbour = double.open("some where").await;
    assert!(store.list(&path(""), None).await.unwrap().is_empty(), "the probe was left behind");
    assert_eq!(store.url().as_str(), double.location("some%20where/lake/"));

    let name = path("t/a b=%25/1.json");
    assert_eq!(store.put_if_absent(&name, Bytes::from_static(b"one")).await.unwrap(), Put::Created);
    assert_eq!(store.put_if_absent(&name, Bytes::from_static(b"two")).await.unwrap(), Put::Exists);
    assert_eq!(store.get(&name).await.unwrap(), "one");
    let head = store.head(&name).await.unwrap().unwrap();
    assert_eq!((head.size, &head.location), (3, &name));
    store.put(&name, Bytes::from_static(b"three")).await.unwrap();
    assert_eq!(store.get(&name).await.unwrap(), "three");

    for n in 0..3 {
        store.put(&path(&format!("t/log/{n:020}.json")), Bytes::from_static(b"x")).await.unwrap();
    }
    let behind = store.list(&path("t/log"), Some(&path(&format!("t/log/{:020}.json", 0)))).await.unwrap();
    let names: Vec<&str> = behind.iter().filter_map(|meta| meta.location.filename()).collect();
    assert_eq!(names, [format!("{:020}.json", 1), format!("{:020}.json", 2)]);
    assert_eq!(store.folders(&path("t")).await.unwrap(), ["a b=%25", "log"]);
    assert!(store.folders(&path("nowhere")).await.unwrap().is_empty());
    assert_eq!(neighbour.get(&path("lake/t/a b=%25/1.json")).await.unwrap(), "three");

    store.delete(&name).await.unwrap();
    store.delete(&name).await.unwrap();
    assert!(store.head(&name).await.unwrap().is_none());
    let error = store.get(&name).await.unwrap_err();
    assert!(error.to_string().ends_with("://lake/some where/lake/t/a b=%25/1.json\" does not exist"), "{error}");

    sinks(&store).await;
    whole_objects_are_replaced(&store).await;
    racers(&store).await;
}

async fn sinks(store: &Store) {
    // In uneven pieces, and not a multiple of a part.
    let bytes: Vec<u8> = (0..17_000_003_u32).map(|n| (n ^ (n >> 7)) as u8).collect();
    let (small, large) = (path("t/small.parquet"), path("t/large.parquet"));
    for (name, bytes) in [(&small, &bytes[..1000]), (&large, &bytes[..])] {
        let mut sink = store.create(name).unwrap();
        bytes.chunks(777_777).for_each(|piece| sink.write_all(piece).unwrap());
        assert!(store.head(name).await.unwrap().is_none(), "visible before it is finished");
        assert_eq!(sink.finish().unwrap(), bytes.len() as u64);
        assert!(store.get(name).await.unwrap() == *bytes, "{name}");
        let mut second = store.create(name).unwrap();
        second.write_all(&vec![1; bytes.len()]).unwrap();
        assert_eq!(second.finish().unwrap_err().kind(), ErrorKind::AlreadyExists);
        assert!(store.get(name).await.unwrap() == *bytes, "{name} was replaced");
    }
    let dropped = path("t/dropped.parquet");
    let mut sink = store.create(&dropped).unwrap();
    sink.write_all(&bytes).unwrap();
    drop(sink);
    assert!(store.head(&dropped).await.unwrap().is_none());
}

async fn whole_objects_are_replaced(store: &Store) {
    let name = path("t/meta.db");
    for fill in [1, 2] {
        let bytes = Bytes::from(vec![fill; 33 << 20]);
        store.put(&name, bytes.clone()).await.unwrap();
        assert!(store.get(&name).await.unwrap() == bytes);
    }
}

/// 16 writers, each with its own view of the log, as in 16 processes.
async fn racers(store: &Store) {
    let (table, definition) = table_of(store, &[0]).await;
    let racers: Vec<_> = (1..=16_i64)
        .map(|racer| {
            let (store, definition) = (store.clone().with_faults(FaultPlan::default()), definition.clone());
            lode_core::task::spawn("racer", async move {
                let mut won = Vec::new();
                for round in 0..2 {
                    let files = write(&store, &definition, &[rows(&[racer * 100 + round])]);
                    match commit(&store, &change(0, Operation::Append, files), &format!("r{racer}"), round).await {
                        Applied::Committed(version) => won.push(version),
                        other => panic!("{other:?}"),
                    }
                }
                won
            })
        })
        .collect();
    let mut won = Vec::new();
    for racer in racers {
        won.extend(racer.await.unwrap());
    }
    won.sort_unstable();
    assert_eq!(won, (1..=32).map(SnapshotId).collect::<Vec<_>>(), "one winner a version");
    let snapshot = table.snapshot(None).await.unwrap();
    let mut wanted: Vec<i64> = (1..=16).flat_map(|racer| (0..2).map(move |round| racer * 100 + round)).collect();
    wanted.insert(0, 0);
    assert_eq!(ids(store, &snapshot).await, wanted);
}

/// What a user sees of an error: what, and how to fix it.
fn said(error: &LakeError) -> (ErrorKind, String, String) {
    (error.kind(), error.to_string(), error.remedy().unwrap())
}

fn refused(result: Result<Store, LakeError>) -> (ErrorKind, String, String) {
    said(&result.unwrap_err())
}

#[tokio::test]
async fn a_store_that_ignores_the_condition_is_refused() {
    let Some(moto) = moto() else { return };
    let upstream = moto.endpoint.clone();
    let liar = serve(move |request| request.forward(&upstream, "if-none-match"));
    let opened = moto.try_open("s3://lake/liar", &[("endpoint", &liar)]).await;
    let (kind, what, fix) = refused(opened);
    assert_eq!(kind, ErrorKind::Unsupported);
    let found = "a put that must not replace anything replaced a file: it ignores If-None-Match";
    assert_eq!(what, format!("could not open store \"s3://lake/liar\": {found} (seen at {liar})"));
    assert!(fix.starts_with("take a store that keeps If-None-Match"), "{fix}");
    // The same bucket without the liar in between; and the liar is not trusted because of it.
    let honest = moto.open("liar").await;
    assert!(honest.list(&path(""), None).await.unwrap().is_empty());
    assert!(moto.try_open("s3://lake/liar", &[("endpoint", &liar)]).await.is_err());
}

#[tokio::test]
async fn rights_and_names_are_explained() {
    let Some(moto) = moto() else { return };
    let (kind, what, fix) = refused(moto.try_open("s3://no-such-bucket/x", &[]).await);
    assert_eq!(kind, ErrorKind::NotFound);
    let endpoint = &moto.endpoint;
    assert_eq!(
        what,
        format!("could not open store \"s3://no-such-bucket/x\": there is no bucket \"no-such-bucket\" at {endpoint}")
    );
    assert_eq!(fix, "make the bucket, or correct its name, the region or the endpoint");

    doubles::begin_to_check_rights(&moto);
    let (id, secret) = &moto.reader;
    let reader = [("access_key_id", id.as_str()), ("secret_access_key", secret.as_str())];
    let (kind, what, fix) = refused(moto.try_open("s3://lake/x", &reader).await);
    assert_eq!(kind, ErrorKind::Denied);
    assert_eq!(what, "could not open store \"s3://lake/x\": access to the bucket \"lake\" is denied");
    assert!(fix.contains("the right to read, write, list and delete"), "{fix}");

    let (kind, what, fix) = refused(moto.try_open("s3://lake/x", &[("access_key_id", "nobody")]).await);
    assert_eq!((kind, fix.as_str()), (ErrorKind::Denied, "renew or correct them"));
    assert_eq!(what, "could not open store \"s3://lake/x\": its credentials are refused (InvalidAccessKeyId)");
}

#[tokio::test]
async fn a_container_that_is_missing_is_explained() {
    let Some(azurite) = azurite() else { return };
    let (kind, what, _) = refused(azurite.try_open("az://nowhere/x", &[]).await);
    assert_eq!(kind, ErrorKind::NotFound);
    assert!(what.contains("there is no bucket \"nowhere\""), "{what}");
    let wrong = azurite.try_open("az://lake/x", &[("account_key", "c29tZXRoaW5nIGVsc2U=")]).await;
    let (kind, what, _) = refused(wrong);
    assert_eq!(kind, ErrorKind::Denied);
    assert!(what.contains("its credentials are refused"), "{what}");
}

/// A port that nobody listens on.
fn closed() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

#[tokio::test]
async fn an_endpoint_where_nobody_is_says_so() {
    let endpoint = closed();
    let begun = Instant::now();
    let (kind, what, fix) = refused(doubles::open("s3://lake/x", s3_options(&endpoint), &[]).await);
    assert_eq!(kind, ErrorKind::Unavailable);
    assert_eq!(what, format!("could not open store \"s3://lake/x\": nothing answers at {endpoint}"));
    assert!(fix.contains("correct the endpoint"), "{fix}");
    assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", begun.elapsed());
}

/// The clock of this test runs ahead while nothing happens; the one of the requests does not.
#[tokio::test(start_paused = true)]
async fn an_endpoint_that_never_answers_is_given_up() {
    fn is_send<T: Send>(value: T) -> T {
        value
    }
    let endpoint = serve(|_| {
        std::thread::park();
        Vec::new()
    });
    let (location, options, env) = ("s3://lake/x".parse().unwrap(), s3_options(&endpoint), Environment::default());
    let (real, told) = (Instant::now(), tokio::time::Instant::now());
    let (kind, what, _) = refused(is_send(Store::open(&location, &options, &env)).await);
    assert_eq!(kind, ErrorKind::Unavailable);
    assert_eq!(
        what,
        format!("could not open store \"s3://lake/x\": it did not answer within 30 seconds at {endpoint}")
    );
    assert!(told.elapsed() < Duration::from_secs(60), "{:?}", told.elapsed());
    assert!(real.elapsed() < Duration::from_secs(20), "{:?}", real.elapsed());
}

#[tokio::test]
async fn settings_that_cannot_work_ask_nobody() {
    let env = |pairs: &[(&str, &str)]| -> Environment {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    };
    let none: &[(&str, &str)] = &[];
    for (location, options, variables, what, fix) in [
        (
            "s3://lake",
            &[("endpoint", "http://localhost:1")][..],
            none,
            "the endpoint \"http://localhost:1\" is not encrypted",
            "write https://, or set `allow_http: true` if nobody can listen there",
        ),
        (
            "s3://lake",
            none,
            &[("AWS_ENDPOINT_URL", "http://localhost:1")][..],
            "the endpoint \"http://localhost:1\" is not encrypted",
            "write https://, or set `allow_http: true` if nobody can listen there",
        ),
        (
            "gs://lake",
            &[("endpoint", "localhost:1")][..],
            none,
            "the endpoint \"localhost:1\" is no URL",
            "write it as https://host or https://host:port",
        ),
        (
            "s3://lake",
            none,
            &[("AWS_ACCESS_KEY_ID", "x")][..],
            "one half of the access key is missing",
            "correct the options of the store, or its environment variables",
        ),
        (
            "az://lake",
            none,
            none,
            "the storage account is missing",
            "set the option `account` or AZURE_STORAGE_ACCOUNT_NAME, or write abfss://container@account.dfs.core.windows.net/prefix",
        ),
        (
            "oci://lake@space",
            none,
            &[("AWS_REGION", "eu-west-1")][..],
            "the region is missing",
            "set the option `region`, or OCI_REGION",
        ),
        (
            "gs://lake",
            &[("region", "x")][..],
            none,
            "Google Cloud storage has no option \"region\"",
            "take \"region\" out; its options are endpoint, allow_http, anonymous, service_account, service_account_key",
        ),
    ] {
        let options = options.iter().fold(StoreOptions::default(), |all, (key, value)| all.with(key, *value).unwrap());
        let error = Store::open(&location.parse().unwrap(), &options, &env(variables)).await.unwrap_err();
        assert_eq!(
            said(&error),
            (ErrorKind::Config, format!("could not open store \"{location}\": {what}"), fix.to_owned())
        );
        assert_eq!(error.places()[0].to_string(), location);
    }
}

#[tokio::test]
async fn missing_credentials_are_named_soon() {
    let endpoint = closed();
    let begun = Instant::now();
    // In place of the address that answers on rented machines.
    let env: Environment = [("AWS_METADATA_ENDPOINT".to_owned(), endpoint)].into_iter().collect();
    let error = Store::open(&"s3://lake/x".parse().unwrap(), &StoreOptions::default(), &env).await.unwrap_err();
    let (kind, what, fix) = said(&error);
    assert_eq!(
        (kind, what.as_str()),
        (ErrorKind::Denied, "could not open store \"s3://lake/x\": no credentials were found")
    );
    assert!(fix.starts_with("set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"), "{fix}");
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
}

/// A bucket of a few answers, enough for the probe, in the form that S3 and Google Cloud share; `odd` answers first.
fn tiny_bucket(odd: impl Fn(&Request) -> Option<Vec<u8>> + Send + Sync + 'static) -> String {
    let files: parking_lot::Mutex<std::collections::BTreeMap<String, Vec<u8>>> = Default::default();
    const WRITTEN: &str =
        "HTTP/1.1 200 OK\r\nETag: \"1\"\r\nx-goog-generation: 1\r\nLast-Modified: Wed, 21 Oct 2015 07:28:00 GMT";
    serve(move |request| {
        if let Some(reply) = odd(request) {
            return reply;
        }
        let target = decoded(request.target());
        let mut files = files.lock();
        let head = request.head.to_ascii_lowercase();
        let is_create = head.contains("\r\nif-none-match: *") || head.contains("\r\nx-goog-if-generation-match: 0");
        if request.is("PUT") {
            if is_create && files.contains_key(&target) {
                return reply("412 Precondition Failed", "<Error><Code>PreconditionFailed</Code></Error>");
            }
            files.insert(target, request.body.clone());
            return format!("{WRITTEN}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").into_bytes();
        }
        if request.is("POST") {
            return reply("200 OK", "<DeleteResult></DeleteResult>");
        }
        if request.is("DELETE") {
            files.remove(&target);
            return reply("204 No Content", "");
        }
        if target.contains("list-type=2") {
            let keys = files.keys().map(|key| {
                let key = key.trim_start_matches("/lake/");
                format!("<Contents><Key>{key}</Key><LastModified>2020-01-01T00:00:00Z</LastModified><Size>1</Size></Contents>")
            });
            return reply("200 OK", &format!("<ListBucketResult>{}</ListBucketResult>", keys.collect::<String>()));
        }
        match files.get(&target) {
            Some(body) => {
                let head = format!("{WRITTEN}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
                [head.as_bytes(), body].concat()
            }
            None => reply("404 Not Found", "<Error><Code>NoSuchKey</Code></Error>"),
        }
    })
}

/// `%2F` and its like, as they stand in a request.
fn decoded(target: &str) -> String {
    let mut pieces = target.split('%');
    let mut text = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        text.push(u8::from_str_radix(&piece[..2], 16).unwrap() as char);
        text.push_str(&piece[2..]);
    }
    text
}

/// Google Cloud and OCI against no server of theirs: that their requests are what their documentation asks for.
#[tokio::test]
async fn google_cloud_is_asked_with_a_generation() {
    let endpoint = tiny_bucket(|_| None);
    let options = [("endpoint", endpoint.as_str()), ("allow_http", "true"), ("anonymous", "true")];
    let store = doubles::open("gs://lake/x", StoreOptions::default(), &options).await.unwrap();
    let name = path("t/1.json");
    assert_eq!(store.put_if_absent(&name, Bytes::from_static(b"one")).await.unwrap(), Put::Created);
    assert_eq!(store.put_if_absent(&name, Bytes::from_static(b"two")).await.unwrap(), Put::Exists);
    assert_eq!(store.get(&name).await.unwrap(), "one");
    store.delete(&name).await.unwrap();
    assert!(store.head(&name).await.unwrap().is_none());
}

#[tokio::test]
async fn a_google_cloud_that_ignores_the_generation_is_refused() {
    let upstream = tiny_bucket(|_| None);
    let liar = serve(move |request| request.forward(&upstream, "x-goog-if-generation-match"));
    let options = [("endpoint", liar.as_str()), ("allow_http", "true"), ("anonymous", "true")];
    let (kind, what, _) = refused(doubles::open("gs://lake/x", StoreOptions::default(), &options).await);
    assert_eq!(kind, ErrorKind::Unsupported);
    assert!(what.contains("a put that must not replace anything replaced a file"), "{what}");
}

#[tokio::test]
async fn oci_is_asked_in_its_s3_form() {
    let wrong = Arc::new(parking_lot::Mutex::new(Vec::new()));
    let seen = Arc::clone(&wrong);
    let endpoint = tiny_bucket(move |request| {
        let head = request.head.to_ascii_lowercase();
        let is_signed = head.contains("authorization: aws4-hmac-sha256 credential=key/")
            && head.contains("/eu-frankfurt-1/s3/aws4_request");
        // Neither is taken there.
        let is_trailed = head.contains("aws-chunked") || head.contains("x-amz-trailer") || head.contains("crc32");
        if !is_signed || is_trailed || !request.target().starts_with("/lake") {
            seen.lock().push(request.head.clone());
        }
        None
    });
    let options = [
        ("endpoint", endpoint.as_str()),
        ("allow_http", "true"),
        ("region", "eu-frankfurt-1"),
        ("access_key_id", "key"),
        ("secret_access_key", "secret"),
    ];
    let store = doubles::open("oci://lake@space/x", StoreOptions::default(), &options).await.unwrap();
    assert_eq!(store.put_if_absent(&path("t"), Bytes::from_static(b"one")).await.unwrap(), Put::Created);
    assert_eq!(wrong.lock().as_slice(), [] as [String; 0]);
}

/// The first `times` puts whose head holds `part` are answered so.
fn first_puts(part: &'static str, times: u32, answer: Vec<u8>) -> impl Fn(&Request) -> Option<Vec<u8>> + Send + Sync {
    let left = AtomicU32::new(times);
    move |request| {
        let is_hit = request.is("PUT")
            && request.head.contains(part)
            && left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok();
        is_hit.then(|| answer.clone())
    }
}

#[tokio::test]
async fn a_conflict_of_two_creates_is_sent_again() {
    let conflict = reply("409 Conflict", "<Error><Code>ConditionalRequestConflict</Code></Error>");
    let endpoint = tiny_bucket(first_puts("/t/1.json", 3, conflict));
    let store = doubles::open("s3://lake/x", s3_options(&endpoint), &[]).await.unwrap();
    let name = path("t/1.json");
    assert_eq!(store.put_if_absent(&name, Bytes::from_static(b"one")).await.unwrap(), Put::Created);
    assert_eq!(store.get(&name).await.unwrap(), "one");
    assert_eq!(store.put_if_absent(&name, Bytes::from_static(b"two")).await.unwrap(), Put::Exists);
}

#[tokio::test]
async fn a_busy_store_is_asked_again() {
    let endpoint = tiny_bucket(first_puts("/t/", 2, reply("503 Slow Down", "<Error><Code>SlowDown</Code></Error>")));
    let store = doubles::open("s3://lake/x", s3_options(&endpoint), &[]).await.unwrap();
    assert_eq!(store.put_if_absent(&path("t/1"), Bytes::from_static(b"one")).await.unwrap(), Put::Created);
}

#[tokio::test]
async fn odd_answers_to_the_probe_are_explained() {
    let not_known = reply("501 Not Implemented", "<Error><Code>NotImplemented</Code></Error>");
    let elsewhere = b"HTTP/1.1 301 Moved Permanently\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".to_vec();
    let expired = reply("400 Bad Request", "<Error><Code>ExpiredToken</Code></Error>");
    for (answer, kind, what) in [
        (not_known, ErrorKind::Unsupported, "it does not know a put that must not replace anything (If-None-Match: *)"),
        (elsewhere, ErrorKind::Config, "the bucket \"lake\" lies in another region than"),
        (expired, ErrorKind::Denied, "its credentials are refused (ExpiredToken)"),
    ] {
        let endpoint = tiny_bucket(first_puts("probe-", u32::MAX, answer));
        let (found, said, _) = refused(doubles::open("s3://lake/x", s3_options(&endpoint), &[]).await);
        assert_eq!(found, kind, "{said}");
        assert!(said.contains(what), "{said}");
    }
    let hides = tiny_bucket(|request| {
        request.head.contains("list-type=2").then(|| reply("200 OK", "<ListBucketResult></ListBucketResult>"))
    });
    let (kind, said, _) = refused(doubles::open("s3://lake/x", s3_options(&hides), &[]).await);
    assert_eq!(kind, ErrorKind::Unsupported);
    assert!(said.contains("a file that was just written is not listed"), "{said}");
}

#[tokio::test]
async fn a_store_is_probed_once_a_process() {
    let probes = Arc::new(AtomicU32::new(0));
    let seen = Arc::clone(&probes);
    let endpoint = tiny_bucket(move |request| {
        seen.fetch_add(u32::from(request.is("PUT") && request.head.contains("probe-")), Ordering::SeqCst);
        None
    });
    for _ in 0..3 {
        doubles::open("s3://lake/x", s3_options(&endpoint), &[]).await.unwrap();
    }
    assert_eq!(probes.load(Ordering::SeqCst), 2);
    doubles::open("s3://lake/y", s3_options(&endpoint), &[]).await.unwrap();
    assert_eq!(probes.load(Ordering::SeqCst), 4);
}

/// The store wrote, the answer got lost, and the library asked again: what it met then is its own.
#[tokio::test]
async fn a_repeated_put_finds_its_own_commit() {
    let Some(moto) = moto() else { return };
    let upstream = moto.endpoint.clone();
    let lost = AtomicU32::new(0);
    let proxy = serve(move |request| {
        let answer = request.forward(&upstream, "");
        let is_commit = request.is("PUT") && request.head.contains("_delta_log/");
        match is_commit && lost.fetch_add(1, Ordering::SeqCst).is_multiple_of(2) {
            true => reply("500 Internal Server Error", "<Error><Code>InternalError</Code></Error>"),
            false => answer,
        }
    });
    let store = moto.try_open("s3://lake/lossy", &[("endpoint", &proxy)]).await.unwrap();
    let (table, definition) = table_of(&store, &[0]).await;
    for n in 1..=3 {
        let done = append(&store, &definition, 0, &[n], &format!("a{n}")).await;
        assert_eq!(done, Applied::Committed(SnapshotId(n)));
    }
    assert_eq!(ids(&store, &table.snapshot(None).await.unwrap()).await, [0, 1, 2, 3]);
}

/// The fault layer stands above a bucket, too.
#[tokio::test]
async fn a_bucket_that_answers_oddly_loses_no_row_and_doubles_none() {
    let store = Store::memory_bucket();
    let (_, definition) = table_of(&store, &[0]).await;
    let plan = FaultPlan::new(1);
    let odd = store.clone().with_faults(plan.clone());
    let faults = [Fault::LostReplyWritten, Fault::LostReplyUnwritten, Fault::Repeat, Fault::Conflict, Fault::Busy];
    for (n, fault) in (1..).zip(faults) {
        plan.once(format!("{n:020}.json"), fault);
        let done = match append_again(&odd, &definition, n).await {
            // A refusal before anything happened: the owner of the change asks again.
            Err(error) => {
                assert_eq!((error.kind(), fault), (ErrorKind::Unavailable, Fault::Busy), "{error}");
                append_again(&odd, &definition, n).await.unwrap()
            }
            Ok(done) => done,
        };
        assert_eq!(done, Applied::Committed(SnapshotId(n)), "{fault:?}");
    }
    let snapshot = DeltaTable::new(&store, LOCATION).snapshot(None).await.unwrap();
    assert_eq!(ids(&store, &snapshot).await, [0, 1, 2, 3, 4, 5]);
}

async fn append_again(store: &Store, definition: &lode_lake::TableDefinition, n: i64) -> Result<Applied, LakeError> {
    let files = write(store, definition, &[rows(&[n])]);
    try_commit(store, &change(0, Operation::Append, files), &format!("a{n}"), 1).await
}
