//! Applied -> Published: readers see the epoch, and the source may be told.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use futures::future::BoxFuture;
use lode_core::{EXPOSE, Epoch, PipelineId, SnapshotId, TableName};
use lode_lake::{DeltaTable, LakeError, LogCommit, Txn};

use super::apply::{Applied, app_id};
use super::seal::{Sealed, may_heal};
use super::{Published, Seal, claim_keys};
use crate::{Catalog, CatalogError, Pipeline, RelationEntry};

/// The version of a table that readers may see: the last one before the first commit of an epoch that is not published.
/// `from` is a version that readers may see for sure. Commits of others than our pipelines count as published.
pub(crate) fn cut(commits: &[LogCommit], from: SnapshotId, published: &HashMap<PipelineId, Epoch>) -> SnapshotId {
    let shown = commits.iter().take_while(|commit| commit.txns.iter().all(|txn| hidden(txn, published).is_none()));
    shown.last().map_or(from, |commit| commit.version)
}

/// The pipeline whose unpublished epoch a transaction belongs to.
fn hidden(txn: &Txn, published: &HashMap<PipelineId, Epoch>) -> Option<PipelineId> {
    let id: PipelineId = txn.app_id.parse().ok()?;
    (txn.version > published.get(&id)?.0).then_some(id)
}

/// Pipelines with an unpublished epoch in front of the commit of `seal`.
fn in_front(commits: &[LogCommit], seal: &Seal, published: &HashMap<PipelineId, Epoch>) -> BTreeSet<PipelineId> {
    let app = app_id(seal.pipeline);
    let own = commits
        .iter()
        .position(|commit| commit.txns.iter().any(|txn| txn.app_id == app && txn.version == seal.epoch.0));
    // With it: the entry that stands for commits that were cleaned away holds the transactions of others, too.
    let before = commits.iter().take(own.map_or(0, |at| at + 1));
    before.flat_map(|commit| &commit.txns).filter_map(|txn| hidden(txn, published)).collect()
}

impl Catalog {
    /// Takes a sealed epoch to its end. Errors: `Blocked`, `Unfinished`, `Fenced`.
    pub(crate) async fn finish(&self, pipeline: &Pipeline, sealed: Sealed) -> Result<Published, CatalogError> {
        let (id, epoch, keys) = (pipeline.id, sealed.seal.epoch, claim_keys(&sealed.seal.content));
        match self.apply_and_publish(sealed).await {
            Ok(published) => {
                self.claims.mark_finished(id);
                Ok(published)
            }
            Err(CatalogError::Fenced) => Err(CatalogError::Fenced),
            Err(error) if may_heal(&error) => {
                self.claims.mark_unfinished(id, keys);
                Err(CatalogError::Unfinished { pipeline: pipeline.name.clone(), epoch, source: error.into() })
            }
            Err(error) => {
                self.claims.mark_unfinished(id, keys);
                let reason = error.to_string();
                tracing::warn!(pipeline = %pipeline.name, epoch = epoch.0, reason, "pipeline blocked");
                self.db().block(id, Epoch(epoch.0 - 1), self.fence(), &reason).await?;
                Err(CatalogError::Blocked { pipeline: pipeline.name.clone(), epoch, reason })
            }
        }
    }

    async fn apply_and_publish(&self, sealed: Sealed) -> Result<Published, CatalogError> {
        let applied = sealed.apply(self).await?;
        applied.publish(self).await
    }

    /// What readers see now of the tables that an epoch changes, by location; `NONE` for those that it makes.
    async fn readable(&self, seal: &Seal) -> Result<BTreeMap<String, SnapshotId>, CatalogError> {
        let names: Vec<TableName> = seal.content.tables.iter().map(|change| change.table.clone()).collect();
        let mut versions: BTreeMap<_, _> =
            seal.content.tables.iter().map(|change| (change.location.clone(), change.base)).collect();
        for relation in self.db().relations_named(&names).await? {
            if let RelationEntry::Table(table) = relation
                && let Some(version) = versions.get_mut(&table.location)
            {
                *version = table.published;
            }
        }
        Ok(versions)
    }

    /// The epoch, with all epochs of other pipelines that have to be published with it, and the versions that readers may
    /// then see, by location.
    ///
    /// Another pipeline's commit may stand in front of ours in one table and behind it in the next (a process that was
    /// overtaken left its epoch half done): published alone, our tables would be seen at two epochs.
    async fn together(&self, seal: Seal) -> Result<(Vec<Seal>, BTreeMap<String, SnapshotId>), CatalogError> {
        let mut group = vec![seal];
        loop {
            let mut epochs = self.db().published_epochs().await?;
            for seal in &group {
                let known = epochs.entry(seal.pipeline).or_insert(Epoch::ZERO);
                *known = (*known).max(seal.epoch);
            }
            let (mut versions, mut missing) = (BTreeMap::new(), BTreeSet::new());
            for seal in &group {
                for (location, from) in self.readable(seal).await? {
                    let commits = DeltaTable::new(self.store(), &location).commits_after(from).await?;
                    missing.extend(in_front(&commits, seal, &epochs));
                    versions.insert(location, cut(&commits, from, &epochs));
                }
            }
            if missing.is_empty() {
                return Ok((group, versions));
            }
            for id in missing {
                let next = epochs.get(&id).copied().unwrap_or(Epoch::ZERO).next();
                let seal = self.needed_seal(id, next).await?;
                group.push(Sealed { seal }.apply(self).await?.seal);
            }
        }
    }

    /// Picks up foreign and maintenance commits of the given tables.
    /// Costs two looks at the store a table when there is nothing new. Returns whether a version was raised.
    pub(crate) async fn refresh(&self, relations: &[RelationEntry]) -> Result<bool, CatalogError> {
        let mut raised = Vec::new();
        let mut published = None;
        for relation in relations {
            let RelationEntry::Table(table) = relation else { continue };
            let commits = DeltaTable::new(self.store(), &table.location).commits_after(table.published).await?;
            if commits.is_empty() {
                continue;
            }
            let epochs = match &published {
                Some(epochs) => epochs,
                // After the logs: an epoch that was published meanwhile must not count as hidden for longer than it is.
                None => published.insert(self.db().published_epochs().await?),
            };
            let version = cut(&commits, table.published, epochs);
            if version > table.published {
                raised.push((table.location.clone(), version));
            }
        }
        if raised.is_empty() {
            return Ok(false);
        }
        self.db().raise_published(&raised).await?;
        Ok(true)
    }
}

impl Applied {
    /// Moves all tables of the epoch, its ledger rows, sums and position in one DB transaction; then reads back from the DB
    /// what the source may be told.
    async fn publish(self, catalog: &Catalog) -> Result<Published, CatalogError> {
        catalog.check_fence().await?;
        let (group, versions) = catalog.together(self.seal.clone()).await?;
        catalog.arrow("epoch.publish.before").await?;
        if catalog.db().publish(&group, catalog.fence(), &versions).await? {
            tracing::debug!(pipeline = %self.seal.pipeline, epoch = self.seal.epoch.0, "epoch published");
        } else {
            catalog.check_fence().await?;
        }
        catalog.arrow("epoch.publish.after").await?;
        for seal in &group {
            catalog.expose(seal, &versions).await;
        }
        catalog.acknowledge(&self.seal).await
    }
}

impl Catalog {
    /// Shows the tables of a published epoch in the other formats that they ask for. What fails is told and made up for by
    /// the next epoch: the Delta log is the truth.
    async fn expose(&self, seal: &Seal, versions: &BTreeMap<String, SnapshotId>) {
        for change in &seal.content.tables {
            let Some(version) = versions.get(&change.location).copied() else { continue };
            if version == SnapshotId::NONE {
                continue;
            }
            if let Err(error) = self.expose_one(&change.location, version).await {
                tracing::warn!(table = %change.table, version = version.0, %error, "the table is not shown as Iceberg");
            }
        }
    }

    fn expose_one<'a>(&'a self, location: &'a str, version: SnapshotId) -> BoxFuture<'a, Result<(), LakeError>> {
        Box::pin(async move {
            let snapshot = DeltaTable::new(self.store(), location).snapshot(Some(version)).await?;
            let formats = snapshot.definition.properties.get(EXPOSE);
            if formats.is_some_and(|formats| formats.split(',').any(|format| format.trim() == "iceberg")) {
                let _turn = self.exposing.lock().await;
                lode_lake::expose(self.store(), location, Some(version)).await?;
            }
            Ok(())
        })
    }

    /// What the source may be told stands in the DB, not in memory: a process that was overtaken holds old positions.
    async fn acknowledge(&self, seal: &Seal) -> Result<Published, CatalogError> {
        self.arrow("epoch.ack.before").await?;
        let (_, position) = self.db().position(seal.pipeline).await?;
        let names: Vec<TableName> = seal.content.tables.iter().map(|change| change.table.clone()).collect();
        let tables = self.db().relations_named(&names).await?.into_iter().filter_map(|relation| match relation {
            RelationEntry::Table(table) => Some((table.name, table.published)),
            RelationEntry::View(_) => None,
        });
        let published =
            Published { epoch: seal.epoch, tables: tables.collect(), counts: seal.content.counts, position };
        self.arrow("epoch.ack.after").await?;
        Ok(published)
    }
}
