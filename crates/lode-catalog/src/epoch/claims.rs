//! Within a process, epochs that change the same table or name go from seal to publish one after another.
//!
//! Without this, two pipelines could each hold up the other's published version: a table is shown up to the first commit of
//! an epoch that is not published. It is comfort within one process; between processes the order of names protects.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::OwnedMutexGuard;

use lode_core::PipelineId;

use super::SealContent;
use crate::{Catalog, CatalogChange, CatalogError, TableEntry};

#[derive(Default)]
pub(crate) struct Claims {
    /// By table location or relation name; as many as the lake has tables.
    turns: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
    /// What sealed but unfinished epochs change.
    unfinished: Mutex<HashMap<PipelineId, BTreeSet<String>>>,
}

/// Held from before the seal until the epoch is published or given up.
pub(crate) struct Claimed {
    _turns: Vec<OwnedMutexGuard<()>>,
}

/// Locations and names that an epoch changes.
pub(crate) fn claim_keys(content: &SealContent) -> BTreeSet<String> {
    let tables = content.tables.iter().flat_map(|change| [change.location.clone(), format!("name:{}", change.table)]);
    let names = content.catalog.iter().map(|change| match change {
        CatalogChange::PutView { name, .. } | CatalogChange::PutTable { name, .. } | CatalogChange::Drop { name } => {
            format!("name:{name}")
        }
    });
    tables.chain(names).collect()
}

impl Claims {
    /// Waits for all of `keys`, in their order, so that two waiters cannot hold each other up.
    pub(crate) async fn take(&self, keys: &BTreeSet<String>) -> Claimed {
        let mut turns = Vec::with_capacity(keys.len());
        for key in keys {
            let turn = Arc::clone(self.turns.lock().entry(key.clone()).or_default());
            turns.push(turn.lock_owned().await);
        }
        Claimed { _turns: turns }
    }

    pub(crate) fn mark_unfinished(&self, pipeline: PipelineId, keys: BTreeSet<String>) {
        self.unfinished.lock().insert(pipeline, keys);
    }

    pub(crate) fn mark_finished(&self, pipeline: PipelineId) {
        self.unfinished.lock().remove(&pipeline);
    }

    fn unfinished_on(&self, keys: &BTreeSet<String>) -> Option<PipelineId> {
        let unfinished = self.unfinished.lock();
        unfinished.iter().find(|(_, held)| !held.is_disjoint(keys)).map(|(pipeline, _)| *pipeline)
    }

    /// Another pipeline whose unfinished epoch changes one of `keys`.
    fn held_up_by(&self, pipeline: PipelineId, keys: &BTreeSet<String>) -> Option<PipelineId> {
        let unfinished = self.unfinished.lock();
        unfinished.iter().find(|(other, held)| **other != pipeline && !held.is_disjoint(keys)).map(|(other, _)| *other)
    }
}

/// No epoch of this process goes from seal to publish on a table while this is held.
pub struct TableTurn {
    _claimed: Claimed,
}

impl Catalog {
    /// Waits for a turn on a table, for a commit that no epoch makes.
    /// Errors: those of a pipeline with an unfinished epoch on the table.
    pub async fn table_turn(&self, table: &TableEntry) -> Result<TableTurn, CatalogError> {
        let keys: BTreeSet<String> = [table.location.clone(), format!("name:{}", table.name)].into();
        loop {
            let claimed = self.claims.take(&keys).await;
            let Some(other) = self.claims.unfinished_on(&keys) else { return Ok(TableTurn { _claimed: claimed }) };
            drop(claimed);
            self.recover(other).await?;
        }
    }

    /// Waits until no other epoch of this process changes the same tables or names, finishing one that was left.
    /// Errors: those of the other pipeline, `Blocked` first of all.
    pub(crate) async fn claim(&self, pipeline: PipelineId, content: &SealContent) -> Result<Claimed, CatalogError> {
        let keys = claim_keys(content);
        loop {
            let claimed = self.claims.take(&keys).await;
            let Some(other) = self.claims.held_up_by(pipeline, &keys) else { return Ok(claimed) };
            drop(claimed);
            self.recover(other).await?;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use lode_core::SystemClock;
    use lode_lake::Store;

    use super::*;
    use crate::{OpenOptions, PipelineKind};

    #[tokio::test]
    async fn an_epoch_that_is_finished_elsewhere_holds_nobody_up() {
        let folder = tempfile::tempdir().unwrap();
        let options = OpenOptions { adopt: false, clock: Arc::new(SystemClock) };
        let catalog = Catalog::open(Store::memory(), folder.path(), options).await.unwrap();
        let one = catalog.pipeline(PipelineKind::Model, "one", None).await.unwrap();
        let two = catalog.pipeline(PipelineKind::Model, "two", None).await.unwrap();
        let drop = CatalogChange::Drop { name: "gold.v".parse().unwrap() };
        let content = SealContent { catalog: vec![drop], ..SealContent::default() };
        // Left as unfinished in this process, but there is nothing to finish.
        catalog.claims.mark_unfinished(one.id, claim_keys(&content));
        let claimed = tokio::time::timeout(Duration::from_secs(20), catalog.claim(two.id, &content)).await;
        assert!(claimed.expect("the claim goes round in circles").is_ok());
    }
}
