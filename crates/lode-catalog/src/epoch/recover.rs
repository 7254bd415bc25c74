//! Unfinished epochs are rolled forward: at the start, and before a pipeline drafts its next.

use std::collections::HashMap;
use std::sync::Arc;

use lode_core::{Epoch, PipelineId};
use lode_lake::LakeError;

use super::seal::Sealed;
use super::{Draft, Seal, claim_keys};
use crate::db::PipelineRecord;
use crate::layout::{self, PipelineFile};
use crate::{Catalog, CatalogError, Pipeline};

impl Catalog {
    /// Rolls the pipeline's sealed epochs forward, one after another, and gives the newest seal.
    /// Errors: `Blocked`, `Unfinished`, `Fenced`, `BadSeal`.
    pub(crate) async fn recover(&self, id: PipelineId) -> Result<Option<Seal>, CatalogError> {
        loop {
            self.check_fence().await?;
            let record = self.record(id).await?;
            let (published, next) = (record.published, record.published.next());
            if let Some(reason) = record.error {
                return Err(CatalogError::Blocked { pipeline: record.pipeline.name, epoch: next, reason });
            }
            self.arrow("epoch.list.before").await?;
            let sealed = self.store().head(&layout::seal(id, next)).await?;
            self.arrow("epoch.list.after").await?;
            match sealed {
                Some(_) => self.roll_forward(&record.pipeline, self.needed_seal(id, next).await?).await?,
                None => {
                    // Whoever finished it, nobody has to wait for it any more.
                    self.claims.mark_finished(id);
                    if published == Epoch::ZERO {
                        return Ok(None);
                    }
                    return Ok(Some(self.needed_seal(id, published).await?));
                }
            }
        }
    }

    async fn record(&self, id: PipelineId) -> Result<PipelineRecord, CatalogError> {
        self.db().pipeline_record(id).await?.ok_or_else(|| CatalogError::Relation {
            name: id.to_string(),
            reason: "is not a pipeline of this lake".into(),
            fix: "list the pipelines with `lode pipeline list`".into(),
        })
    }

    /// No seal may stand above a number that is missing, or the missing one would be written anew.
    /// Errors: `BadSeal`; the pipeline is blocked then.
    async fn check_no_gap(&self, id: PipelineId) -> Result<(), CatalogError> {
        let published = self.record(id).await?.published;
        let Some(newest) = self.newest_seal(id, published).await? else { return Ok(()) };
        let error = CatalogError::BadSeal {
            path: layout::seal(id, published.next()).to_string(),
            reason: format!("is missing, and epoch {newest} is there"),
        };
        self.db().block(id, published, self.fence(), &error.to_string()).await?;
        Err(error)
    }

    /// The newest seal above `published`.
    async fn newest_seal(&self, id: PipelineId, published: Epoch) -> Result<Option<Epoch>, CatalogError> {
        let listed = self.store().list(&layout::pipeline(id), Some(&layout::seal(id, published))).await?;
        let epochs = listed.iter().filter_map(|meta| match layout::read_pipeline_file(&meta.location) {
            Some((_, PipelineFile::Seal(epoch))) if epoch > published => Some(epoch),
            _ => None,
        });
        Ok(epochs.max())
    }

    /// A seal that must be there: the newest published one is never deleted, and no number is left out.
    pub(super) async fn needed_seal(&self, id: PipelineId, epoch: Epoch) -> Result<Seal, CatalogError> {
        self.read_seal(id, epoch).await.map_err(|error| match error {
            CatalogError::Lake(LakeError::NotFound { .. }) => {
                CatalogError::BadSeal { path: layout::seal(id, epoch).to_string(), reason: "is missing".into() }
            }
            other => other,
        })
    }

    async fn roll_forward(&self, pipeline: &Pipeline, seal: Seal) -> Result<(), CatalogError> {
        let epoch = seal.epoch;
        let _claimed = self.claims.take(&claim_keys(&seal.content)).await;
        self.finish(pipeline, Sealed { seal }).await?;
        self.count_rolled_forward();
        tracing::info!(pipeline = %pipeline.name, epoch = epoch.0, "epoch rolled forward");
        Ok(())
    }

    /// Looks for unfinished epochs of all pipelines by one listing, and rolls them forward. A pipeline that cannot be
    /// finished now is logged and left: the others, and all readers, go on.
    /// Errors: those of the listing and of the metadata DB; `Fenced`.
    pub(crate) async fn sweep(&self) -> Result<(), CatalogError> {
        self.arrow("epoch.list.before").await?;
        let mut newest: HashMap<PipelineId, Epoch> = HashMap::new();
        for meta in self.store().list(&layout::pipelines(), None).await? {
            if let Some((id, file)) = layout::read_pipeline_file(&meta.location) {
                let epoch = newest.entry(id).or_insert(Epoch::ZERO);
                if let PipelineFile::Seal(found) = file {
                    *epoch = (*epoch).max(found);
                }
            }
        }
        self.arrow("epoch.list.after").await?;
        for record in self.db().pipeline_records().await? {
            let Some(newest) = newest.remove(&record.pipeline.id) else { continue };
            if newest > record.published {
                self.recover_or_note(&record).await?;
            }
        }
        // An old copy of the DB knows fewer pipelines than the lake.
        for (id, newest) in newest {
            if newest > Epoch::ZERO {
                let pipeline = self.read_descriptor(id).await?;
                self.db().add_pipelines(std::slice::from_ref(&pipeline)).await?;
                self.recover_or_note(&PipelineRecord { pipeline, published: Epoch::ZERO, error: None }).await?;
            }
        }
        Ok(())
    }

    async fn recover_or_note(&self, record: &PipelineRecord) -> Result<(), CatalogError> {
        let id = record.pipeline.id;
        let recovered = match self.recover(id).await {
            Ok(_) => self.check_no_gap(id).await,
            Err(error) => Err(error),
        };
        match recovered {
            Ok(()) => Ok(()),
            Err(CatalogError::Fenced) => Err(CatalogError::Fenced),
            Err(error) => {
                tracing::warn!(pipeline = %record.pipeline.name, error = %error, "an epoch could not be finished");
                // So that no other pipeline publishes a table which holds a part of this epoch.
                let published = self.record(id).await?.published;
                if let Ok(seal) = self.read_seal(id, published.next()).await {
                    self.claims.mark_unfinished(id, claim_keys(&seal.content));
                }
                Ok(())
            }
        }
    }

    /// Starts the next epoch of a pipeline. An unfinished one is rolled forward first; one draft a pipeline at a time in a
    /// process, others wait.
    pub async fn begin(self: &Arc<Self>, pipeline: &Pipeline) -> Result<Draft, CatalogError> {
        let turn = self.turn(pipeline.id).lock_owned().await;
        let previous = self.recover(pipeline.id).await?;
        self.arrow("epoch.collect.before").await?;
        Ok(Draft {
            catalog: Arc::clone(self),
            pipeline: self.record(pipeline.id).await?.pipeline,
            epoch: previous.as_ref().map_or(Epoch::ZERO, |seal| seal.epoch).next(),
            attempt: self.attempt(),
            previous,
            _turn: turn,
        })
    }

    /// Clears a block after the cause was removed, and rolls the sealed epoch forward.
    pub async fn resume(&self, pipeline: &Pipeline) -> Result<(), CatalogError> {
        self.db().unblock(pipeline.id).await?;
        self.recover(pipeline.id).await?;
        self.check_no_gap(pipeline.id).await
    }
}
