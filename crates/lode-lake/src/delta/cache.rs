//! States of tables kept in memory, each brought up to date by reading only the commits behind it.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use super::log::{Listing, LogState, commit_path, read_commit};
use crate::{LakeError, Store};

/// Tables kept; the longest unused one goes first.
const TABLES_KEPT: usize = 256;

/// The state of one table, or `None` before it was first read.
pub(crate) type Shared = Arc<tokio::sync::Mutex<Option<LogState>>>;

/// By location; belongs to one `Store` and its clones.
#[derive(Debug, Default)]
pub(crate) struct TableCache {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    tables: HashMap<String, (u64, Shared)>,
    clock: u64,
}

impl TableCache {
    pub(crate) fn table(&self, location: &str) -> Shared {
        let mut inner = self.inner.lock();
        inner.clock += 1;
        let now = inner.clock;
        if let Some((used, table)) = inner.tables.get_mut(location) {
            *used = now;
            return Arc::clone(table);
        }
        if inner.tables.len() >= TABLES_KEPT
            && let Some(oldest) = inner.tables.iter().min_by_key(|(_, (used, _))| *used).map(|(name, _)| name.clone())
        {
            inner.tables.remove(&oldest);
        }
        let table = Shared::default();
        inner.tables.insert(location.to_owned(), (now, Arc::clone(&table)));
        table
    }
}

/// Brings the state up to `until`, or to the end of the log. Leaves `None` when there is no table.
/// A version behind the end is `NoSnapshot`.
/// Cancel-safe: each commit is taken whole. Errors: as `LogState::load`; the state is then as it was or newer.
pub(crate) async fn refresh(
    store: &Store,
    location: &str,
    state: &mut Option<LogState>,
    until: Option<i64>,
) -> Result<(), LakeError> {
    if let Some(known) = state {
        while until.is_none_or(|until| known.version < until) {
            let Some((commit, tag)) = read_commit(store, location, known.version + 1).await? else { break };
            known.advance(commit, tag, chrono::Utc::now())?;
        }
        if until.is_some_and(|until| known.version == until) || is_still_there(store, known).await? {
            return Ok(());
        }
        *state = None;
    }
    *state = LogState::load(store, location, until).await?;
    if let Some(loaded) = state
        && loaded.head.is_none()
    {
        let newest = store.head(&commit_path(location, loaded.version)).await?;
        loaded.head = newest.and_then(|meta| meta.e_tag);
    }
    Ok(())
}

/// Whether the newest commit that we know is the one in the store: not so when the table was made anew.
async fn is_still_there(store: &Store, known: &LogState) -> Result<bool, LakeError> {
    let Some(head) = &known.head else {
        // It came from a checkpoint whose commit is gone: a log that goes on goes on behind a newer one.
        let listing = Listing::read(store, &known.location, known.version).await?;
        return Ok(listing.newest().is_some_and(|newest| newest <= known.version));
    };
    let found = store.head(&commit_path(&known.location, known.version)).await?;
    Ok(found.is_some_and(|meta| meta.e_tag.as_ref() == Some(head)))
}
