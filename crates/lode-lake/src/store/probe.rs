//! Whether a store keeps its word: a name is given once, and what was written is read and listed.
//!
//! Some S3 look-alikes ignore `If-None-Match`; there, two writers would silently replace each other's commits.

use std::collections::HashSet;
use std::sync::LazyLock;
use std::time::Duration;

use bytes::Bytes;
use lode_core::ErrorKind;
use parking_lot::Mutex;
use uuid::Uuid;

use super::remote::explain;
use super::{Put, Store, StoreLocation, StorePath};
use crate::LakeError;

/// For all requests of a probe; a store that is slower is of no use.
const PROBE_MAX: Duration = Duration::from_secs(30);
const DELETE_MAX: Duration = Duration::from_secs(10);

/// Stores that kept their word in this process, by endpoint and location.
static TRUSTED: LazyLock<Mutex<HashSet<String>>> = LazyLock::new(Mutex::default);

/// Asks the store once a process. Errors: `Open`.
pub(super) async fn check(store: &Store, location: &StoreLocation, endpoint: &str) -> Result<(), LakeError> {
    let key = format!("{endpoint} {location}");
    if TRUSTED.lock().contains(&key) {
        return Ok(());
    }
    probe(store, location, endpoint).await?;
    TRUSTED.lock().insert(key);
    Ok(())
}

pub(super) async fn probe(store: &Store, location: &StoreLocation, endpoint: &str) -> Result<(), LakeError> {
    let folder = StorePath::from("_lode");
    let path = folder.clone().join(format!("probe-{}", Uuid::new_v4()));
    let verdict = tokio::time::timeout(PROBE_MAX, ask(store, &folder, &path)).await;
    // A probe that stays does no harm.
    let deleted = tokio::time::timeout(DELETE_MAX, store.delete(&path)).await;
    match verdict {
        Ok(Ok(())) => {}
        Ok(Err(Found::Error(error))) => return Err(explain(location, endpoint, error)),
        Err(late) => {
            return Err(LakeError::Open {
                store: location.to_string(),
                kind: ErrorKind::Unavailable,
                reason: format!("it did not answer within {} seconds at {endpoint}", PROBE_MAX.as_secs()),
                fix: "correct the endpoint or the region, or see whether this machine can reach it".into(),
                source: Some(Box::new(late)),
            });
        }
        Ok(Err(Found::Lie(found))) => {
            return Err(LakeError::Open {
                store: location.to_string(),
                kind: ErrorKind::Unsupported,
                reason: format!("{found} (seen at {endpoint})"),
                fix:
                    "take a store that keeps If-None-Match, or a newer version of this one: commits would be lost here"
                        .into(),
                source: None,
            });
        }
    }
    if let Ok(Err(error)) = deleted {
        tracing::warn!(store = %location, %error, "nothing can be deleted here, so old files will stay");
    }
    Ok(())
}

enum Found {
    /// Not what a store may answer.
    Lie(&'static str),
    Error(LakeError),
}

impl From<LakeError> for Found {
    fn from(error: LakeError) -> Self {
        Self::Error(error)
    }
}

async fn ask(store: &Store, folder: &StorePath, path: &StorePath) -> Result<(), Found> {
    let (first, second) = (Bytes::from_static(b"first"), Bytes::from_static(b"second"));
    // It may be there already: the first try arrived and its answer did not.
    if store.put_if_absent(path, first.clone()).await? == Put::Exists && store.get(path).await? != first {
        return Err(Found::Lie("a name that nobody wrote is taken"));
    }
    if store.put_if_absent(path, second).await? == Put::Created {
        return Err(Found::Lie("a put that must not replace anything replaced a file: it ignores If-None-Match"));
    }
    match store.get(path).await {
        Ok(bytes) if bytes == first => {}
        Ok(_) => return Err(Found::Lie("a put was refused, and replaced the file all the same")),
        Err(LakeError::NotFound { .. }) => return Err(Found::Lie("a file that was just written cannot be read")),
        Err(error) => return Err(error.into()),
    }
    // The newest seal and the newest commit are found by listing.
    if !store.files(folder).await?.contains(path) {
        return Err(Found::Lie("a file that was just written is not listed"));
    }
    Ok(())
}
