//! Faults under a store: lost and repeated replies, full and denied disks, slow and cut reads, and power loss.
//!
//! A plan comes from code or from `LODE_FAULT`, which `Store::local` and `Store::open` read, so that a release binary can be driven by
//! `lode prove torture`. Comma-separated entries, probabilities from 0 to 1 per request:
//!
//! | Entry | Effect |
//! |---|---|
//! | `seed:7` | seed of the dice; the same requests in the same order meet the same faults |
//! | `lost_reply_written:0.05` | a put happens, its caller gets an error |
//! | `lost_reply_unwritten:0.05` | a put does not happen, its caller gets the same error |
//! | `error:0.05` | any request fails before it does anything |
//! | `repeat:0.05` | a put is sent twice, as a retrying client does: the caller sees the second answer |
//! | `truncate:0.05` | a read of a whole object gives only its first half |
//! | `slow:0.05` | a request waits 20 ms first |
//! | `conflict:0.05` | a put is answered with 409, as by S3 while another one is under way, and does not happen |
//! | `busy:0.05` | any request is answered with 503 in the end, and does nothing |
//! | `ignore_condition:0.05` | a put that must not replace anything replaces it: the store lies |
//! | `full_after:64MiB` | after that many written bytes every write fails as a full disk does |
//! | `denied:<prefix>` | writes below that prefix are refused (may stand several times) |
//! | `lose_syncs` | the disk lies: nothing counts as synced |
//! | `unsynced_journal:<file>` | appends a line per write: `named P` (P may vanish with the power), `synced P` (P must |
//! | | stay whole), `unsynced P` (under `lose_syncs`: P may vanish or be torn); P is absolute. Absent files of `named` |
//! | | and torn ones of `unsynced` are for the parent process to make, after it killed this one |

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use lode_core::ErrorKind;
use object_store::path::Path as StorePath;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions, Result, UploadPart,
};
use parking_lot::Mutex;

use crate::LakeError;

/// Size of the pieces that a power cut tears.
const BLOCK: usize = 4096;

/// What goes wrong with one put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The put happens, the caller gets an error.
    LostReplyWritten,
    /// The put does not happen, the caller gets an error.
    LostReplyUnwritten,
    /// An error before anything happens, for any request.
    Error,
    /// The put is sent twice; the caller gets the second answer.
    Repeat,
    /// A read gives half of the object.
    Truncate,
    /// The request waits 20 ms first.
    Slow,
    /// A put is answered with 409 and does not happen.
    Conflict,
    /// Any request is answered with 503 and does nothing.
    Busy,
    /// A put that must not replace anything does.
    IgnoreCondition,
}

const FAULTS: [(&str, Fault); 9] = [
    ("lost_reply_written", Fault::LostReplyWritten),
    ("lost_reply_unwritten", Fault::LostReplyUnwritten),
    ("error", Fault::Error),
    ("repeat", Fault::Repeat),
    ("truncate", Fault::Truncate),
    ("slow", Fault::Slow),
    ("conflict", Fault::Conflict),
    ("busy", Fault::Busy),
    ("ignore_condition", Fault::IgnoreCondition),
];

/// How durable a file is, as told by the disk below.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sync {
    Named,
    Synced,
}

/// Faults that the layer under a store injects. Clones share dice, counters and records.
#[derive(Debug, Default, Clone)]
pub struct FaultPlan {
    state: Arc<State>,
}

#[derive(Debug, Default)]
struct State {
    setup: Mutex<Setup>,
    dice: AtomicU64,
    written_bytes: AtomicU64,
}

#[derive(Debug, Default)]
struct Setup {
    chances: Vec<(Fault, f64)>,
    /// One fault for the next request whose path holds the text, in order.
    script: Vec<(String, Fault)>,
    full_after: Option<u64>,
    denied: Vec<String>,
    loses_syncs: bool,
    journal: Option<File>,
    /// Location to whether a power cut may tear it (else it may only vanish).
    at_risk: BTreeMap<String, bool>,
}

impl FaultPlan {
    pub fn new(seed: u64) -> Self {
        let plan = Self::default();
        plan.state.dice.store(seed, Ordering::SeqCst);
        plan
    }

    /// Reads the form of `LODE_FAULT`. Errors: `Store` with kind `Config`.
    pub fn parse(text: &str) -> std::result::Result<Self, LakeError> {
        let plan = Self::default();
        for entry in text.split(',').map(str::trim).filter(|entry| !entry.is_empty()) {
            let (name, value) = entry.split_once(':').unwrap_or((entry, ""));
            plan.entry(name, value).map_err(|reason| LakeError::Store {
                action: "understand LODE_FAULT entry",
                path: entry.to_owned(),
                kind: ErrorKind::Config,
                source: reason.into(),
            })?;
        }
        Ok(plan)
    }

    /// The plan of the environment variable, if there is one. Errors: as `parse`.
    pub(crate) fn from_env() -> std::result::Result<Option<Self>, LakeError> {
        match std::env::var("LODE_FAULT") {
            Ok(text) if !text.trim().is_empty() => Self::parse(&text).map(Some),
            _ => Ok(None),
        }
    }

    fn entry(&self, name: &str, value: &str) -> std::result::Result<(), String> {
        if let Some((_, fault)) = FAULTS.iter().find(|(known, _)| *known == name) {
            let chance: f64 = value.parse().map_err(|_| format!("\"{value}\" is not a number"))?;
            if !(0.0..=1.0).contains(&chance) {
                return Err("a chance lies between 0 and 1".into());
            }
            self.state.setup.lock().chances.push((*fault, chance));
            return Ok(());
        }
        let mut setup = self.state.setup.lock();
        match name {
            "seed" => {
                let seed = value.parse().map_err(|_| format!("\"{value}\" is not a number"))?;
                self.state.dice.store(seed, Ordering::SeqCst);
            }
            "full_after" => setup.full_after = Some(parse_size(value)?),
            "denied" => setup.denied.push(value.trim_matches('/').to_owned()),
            "lose_syncs" => setup.loses_syncs = true,
            "unsynced_journal" => setup.journal = Some(open_journal(Path::new(value)).map_err(|e| e.to_string())?),
            _ => return Err("unknown entry".into()),
        }
        Ok(())
    }

    /// `fault` happens to each fitting request with this chance (0 to 1).
    pub fn chance(self, fault: Fault, chance: f64) -> Self {
        self.state.setup.lock().chances.push((fault, chance));
        self
    }

    /// `fault` happens once, to the next fitting request whose path holds `path_part`. Works on a plan in use, too.
    pub fn once(&self, path_part: impl Into<String>, fault: Fault) {
        self.state.setup.lock().script.push((path_part.into(), fault));
    }

    /// Every write fails as on a full disk once this many bytes were written.
    pub fn full_after(self, bytes: u64) -> Self {
        self.state.setup.lock().full_after = Some(bytes);
        self
    }

    /// The disk has space again.
    pub fn free_space(&self) {
        self.state.setup.lock().full_after = None;
    }

    /// Writes below `prefix` are refused.
    pub fn denied(self, prefix: impl Into<String>) -> Self {
        self.state.setup.lock().denied.push(prefix.into());
        self
    }

    /// The disk lies about syncs: `Store::crash` may take or tear everything that is written from now on.
    pub fn lose_syncs(self) -> Self {
        self.state.setup.lock().loses_syncs = true;
        self
    }

    fn roll(&self) -> f64 {
        // SplitMix64: small, and each request draws its own number whatever the thread.
        let mut z =
            self.state.dice.fetch_add(0x9E37_79B9_7F4A_7C15, Ordering::SeqCst).wrapping_add(0x9E37_79B9_7F4A_7C15);
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn draw(&self, path: &str, fits: &[Fault]) -> Option<Fault> {
        let chances = {
            let mut setup = self.state.setup.lock();
            if let Some(at) = setup.script.iter().position(|(part, fault)| path.contains(part) && fits.contains(fault))
            {
                return Some(setup.script.remove(at).1);
            }
            setup.chances.clone()
        };
        chances
            .into_iter()
            .find(|(fault, chance)| fits.contains(fault) && self.roll() < *chance)
            .map(|(fault, _)| fault)
    }

    /// The error of a write of `bytes` to `path`, if the disk is full or the path denied.
    pub(crate) fn refuse_write(&self, path: &str, bytes: u64) -> Option<io::Error> {
        let setup = self.state.setup.lock();
        if setup.denied.iter().any(|prefix| path.starts_with(prefix.as_str())) {
            return Some(io::ErrorKind::PermissionDenied.into());
        }
        let written = self.state.written_bytes.fetch_add(bytes, Ordering::SeqCst) + bytes;
        setup.full_after.is_some_and(|limit| written > limit).then(|| io::ErrorKind::StorageFull.into())
    }

    /// The error that a `FileSink` meets when it is opened or finished.
    pub(crate) fn sink_fault(&self, path: &str) -> Option<io::Error> {
        match self.draw(path, &[Fault::Error, Fault::Busy, Fault::Slow])? {
            Fault::Slow => {
                std::thread::sleep(Duration::from_millis(20));
                None
            }
            _ => Some(io::Error::other("fault: error before the request")),
        }
    }

    pub(crate) fn note(&self, event: Sync, target: &Path, location: &str) {
        let mut setup = self.state.setup.lock();
        let word = match (event, setup.loses_syncs) {
            (_, true) => {
                setup.at_risk.insert(location.to_owned(), true);
                "unsynced"
            }
            (Sync::Named, false) => {
                setup.at_risk.insert(location.to_owned(), false);
                "named"
            }
            (Sync::Synced, false) => {
                setup.at_risk.remove(location);
                "synced"
            }
        };
        if let Some(journal) = &mut setup.journal {
            // One write call a line: appends of several processes do not mix.
            let _ = journal.write_all(format!("{word} {}\n", target.display()).as_bytes());
        }
    }

    /// Takes or tears each write that the disk never promised to keep. Returns the locations touched.
    pub(crate) async fn crash(&self, below: &dyn ObjectStore) -> Result<Vec<String>> {
        let at_risk = std::mem::take(&mut self.state.setup.lock().at_risk);
        let mut touched = Vec::new();
        for (location, may_tear) in at_risk {
            let path = StorePath::parse(&location)?;
            let dice = self.roll();
            if may_tear && dice < 0.5 {
                let Ok(got) = below.get_opts(&path, GetOptions::default()).await else { continue };
                let torn = tear(&got.bytes().await?, || self.roll());
                below.put_opts(&path, torn.into(), PutOptions::default()).await?;
                touched.push(location);
            } else if dice < 0.75 {
                let gone: Vec<_> = below.delete_stream(stream::iter([Ok(path)]).boxed()).collect().await;
                if gone.iter().all(Result::is_ok) {
                    touched.push(location);
                }
            }
        }
        Ok(touched)
    }
}

/// Some 4 KiB blocks become zeros, and the end may be missing.
fn tear(whole: &[u8], mut roll: impl FnMut() -> f64) -> Bytes {
    let mut torn = whole.to_vec();
    for block in torn.chunks_mut(BLOCK) {
        if roll() < 0.5 {
            block.fill(0);
        }
    }
    if roll() < 0.5 || torn == whole {
        torn.truncate((whole.len() as f64 * roll()) as usize);
    }
    torn.into()
}

fn parse_size(text: &str) -> std::result::Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| c.is_alphabetic());
    let number: u64 = digits.trim().parse().map_err(|_| format!("\"{text}\" is not a size"))?;
    let unit = match text.get(digits.len()..).unwrap_or_default().trim() {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        other => return Err(format!("unknown unit \"{other}\"")),
    };
    number.checked_mul(unit).ok_or_else(|| "too large".to_owned())
}

fn open_journal(path: &Path) -> io::Result<File> {
    let path: PathBuf = path.to_owned();
    OpenOptions::new().create(true).append(true).open(path)
}

/// The store that injects the faults of a plan between its caller and the store below.
#[derive(Debug)]
pub(crate) struct FaultObjects {
    pub(crate) below: Arc<dyn ObjectStore>,
    pub(crate) plan: FaultPlan,
    /// The store below does not tell of syncs itself (memory): each put counts as named and synced at once.
    pub(crate) notes_puts: bool,
}

impl fmt::Display for FaultObjects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Faults({})", self.below)
    }
}

fn lost(path: &StorePath) -> Error {
    Error::Generic { store: "Faults", source: format!("fault: no reply for {path}").into() }
}

async fn before(plan: &FaultPlan, path: &StorePath) -> Result<()> {
    match plan.draw(path.as_ref(), &[Fault::Error, Fault::Busy, Fault::Slow]) {
        Some(Fault::Error) => Err(Error::Generic { store: "Faults", source: "fault: error before the request".into() }),
        Some(Fault::Busy) => Err(Error::Generic { store: "Faults", source: "fault: 503 Service Unavailable".into() }),
        Some(_) => {
            tokio::time::sleep(Duration::from_millis(20)).await;
            Ok(())
        }
        None => Ok(()),
    }
}

fn refuse(plan: &FaultPlan, path: &StorePath, bytes: u64) -> Result<()> {
    match plan.refuse_write(path.as_ref(), bytes) {
        Some(error) => Err(super::local::object_error(error, path)),
        None => Ok(()),
    }
}

impl FaultObjects {
    async fn before(&self, path: &StorePath) -> Result<()> {
        before(&self.plan, path).await
    }

    fn refuse(&self, path: &StorePath, bytes: u64) -> Result<()> {
        refuse(&self.plan, path, bytes)
    }

    async fn put_below(&self, path: &StorePath, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        let answer = self.below.put_opts(path, payload, opts).await;
        if self.notes_puts && answer.is_ok() {
            self.plan.note(Sync::Synced, Path::new(path.as_ref()), path.as_ref());
        }
        answer
    }
}

#[async_trait]
impl ObjectStore for FaultObjects {
    async fn put_opts(&self, location: &StorePath, payload: PutPayload, mut opts: PutOptions) -> Result<PutResult> {
        self.before(location).await?;
        self.refuse(location, payload.content_length() as u64)?;
        let is_create = opts.mode == PutMode::Create;
        let all = [
            Fault::LostReplyWritten,
            Fault::LostReplyUnwritten,
            Fault::Repeat,
            Fault::Conflict,
            Fault::IgnoreCondition,
        ];
        // The last two are answers to a condition.
        let puts = if is_create { all.as_slice() } else { all.split_at(3).0 };
        match self.plan.draw(location.as_ref(), puts) {
            Some(Fault::LostReplyUnwritten) => Err(lost(location)),
            Some(Fault::LostReplyWritten) => {
                // Its own answer is what got lost, be it good or bad.
                let _ = self.put_below(location, payload, opts).await;
                Err(lost(location))
            }
            Some(Fault::Repeat) => {
                let _ = self.put_below(location, payload.clone(), opts.clone()).await;
                self.put_below(location, payload, opts).await
            }
            Some(Fault::Conflict) => Err(Error::AlreadyExists {
                path: location.to_string(),
                source: "fault: 409 Conflict: ConditionalRequestConflict".into(),
            }),
            Some(Fault::IgnoreCondition) => {
                opts.mode = PutMode::Overwrite;
                self.put_below(location, payload, opts).await
            }
            _ => self.put_below(location, payload, opts).await,
        }
    }

    async fn put_multipart_opts(
        &self,
        location: &StorePath,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.before(location).await?;
        self.refuse(location, 0)?;
        let below = self.below.put_multipart_opts(location, opts).await?;
        Ok(Box::new(FaultUpload { below, plan: self.plan.clone(), location: location.clone() }))
    }

    async fn get_opts(&self, location: &StorePath, options: GetOptions) -> Result<GetResult> {
        self.before(location).await?;
        let is_whole = options.range.is_none() && !options.head;
        let mut got = self.below.get_opts(location, options).await?;
        if is_whole && self.plan.draw(location.as_ref(), &[Fault::Truncate]).is_some() {
            let (meta, range, attributes) = (got.meta.clone(), got.range.clone(), got.attributes.clone());
            let bytes = got.bytes().await?;
            let half = bytes.slice(..bytes.len() / 2);
            let payload = GetResultPayload::Stream(stream::iter([Ok(half)]).boxed());
            got = GetResult { payload, meta, range, attributes };
        }
        Ok(got)
    }

    async fn get_ranges(&self, location: &StorePath, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.before(location).await?;
        self.below.get_ranges(location, ranges).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<StorePath>>) -> BoxStream<'static, Result<StorePath>> {
        self.below.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&StorePath>) -> BoxStream<'static, Result<ObjectMeta>> {
        match self.plan.draw(prefix.map_or("", |prefix| prefix.as_ref()), &[Fault::Error, Fault::Busy]) {
            Some(_) => stream::iter([Err(lost(&prefix.cloned().unwrap_or_default()))]).boxed(),
            None => self.below.list(prefix),
        }
    }

    fn list_with_offset(
        &self,
        prefix: Option<&StorePath>,
        offset: &StorePath,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        match self.plan.draw(prefix.map_or("", |prefix| prefix.as_ref()), &[Fault::Error, Fault::Busy]) {
            Some(_) => stream::iter([Err(lost(&prefix.cloned().unwrap_or_default()))]).boxed(),
            None => self.below.list_with_offset(prefix, offset),
        }
    }

    async fn list_with_delimiter(&self, prefix: Option<&StorePath>) -> Result<ListResult> {
        self.before(&prefix.cloned().unwrap_or_default()).await?;
        self.below.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &StorePath, to: &StorePath, options: CopyOptions) -> Result<()> {
        self.before(to).await?;
        self.refuse(to, 0)?;
        self.below.copy_opts(from, to, options).await
    }

    async fn rename_opts(&self, from: &StorePath, to: &StorePath, options: RenameOptions) -> Result<()> {
        self.before(to).await?;
        self.refuse(to, 0)?;
        self.below.rename_opts(from, to, options).await
    }
}

/// An upload in parts: a part may fail, and the answer to the last request may get lost.
#[derive(Debug)]
struct FaultUpload {
    below: Box<dyn MultipartUpload>,
    plan: FaultPlan,
    location: StorePath,
}

#[async_trait]
impl MultipartUpload for FaultUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let (plan, location, size_bytes) = (self.plan.clone(), self.location.clone(), data.content_length() as u64);
        let part = self.below.put_part(data);
        Box::pin(async move {
            before(&plan, &location).await?;
            refuse(&plan, &location, size_bytes)?;
            part.await
        })
    }

    async fn complete(&mut self) -> Result<PutResult> {
        before(&self.plan, &self.location).await?;
        match self.plan.draw(self.location.as_ref(), &[Fault::LostReplyWritten, Fault::LostReplyUnwritten]) {
            Some(Fault::LostReplyUnwritten) => Err(lost(&self.location)),
            Some(_) => {
                let _ = self.below.complete().await;
                Err(lost(&self.location))
            }
            None => self.below.complete().await,
        }
    }

    async fn abort(&mut self) -> Result<()> {
        self.below.abort().await
    }
}
