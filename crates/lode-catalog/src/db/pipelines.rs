//! Pipelines: name, published epoch, position, sums, block.

use std::collections::HashMap;

use chrono::DateTime;
use sqlx::sqlite::SqliteRow;

use lode_core::{Epoch, Fence, PipelineId};

use super::MetaDb;
use crate::{CatalogError, Counts, Pipeline, PipelineKind, PipelineState, PipelineStatus};

fn kind_text(kind: PipelineKind) -> &'static str {
    match kind {
        PipelineKind::Ingest => "ingest",
        PipelineKind::Model => "model",
        PipelineKind::Statement => "statement",
    }
}

fn kind_of(text: &str) -> Option<PipelineKind> {
    [PipelineKind::Ingest, PipelineKind::Model, PipelineKind::Statement]
        .into_iter()
        .find(|kind| kind_text(*kind) == text)
}

/// A pipeline with what recovery needs of it.
#[derive(Debug, Clone)]
pub(crate) struct PipelineRecord {
    pub(crate) pipeline: Pipeline,
    pub(crate) published: Epoch,
    /// The reason of a block.
    pub(crate) error: Option<String>,
}

impl MetaDb {
    pub(crate) async fn find_pipeline(
        &self,
        kind: PipelineKind,
        name: &str,
    ) -> Result<Option<PipelineRecord>, CatalogError> {
        sqlx::query("SELECT id, kind, name, published, error FROM pipelines WHERE kind = $1 AND name = $2")
            .bind(kind_text(kind))
            .bind(name)
            .fetch_optional(&self.pool)
            .await
            .map_err(|error| self.failed("read", error))?
            .map(|row| self.record(&row))
            .transpose()
    }

    pub(crate) async fn pipeline_record(&self, id: PipelineId) -> Result<Option<PipelineRecord>, CatalogError> {
        sqlx::query("SELECT id, kind, name, published, error FROM pipelines WHERE id = $1")
            .bind(id.to_string())
            .fetch_optional(&self.pool)
            .await
            .map_err(|error| self.failed("read", error))?
            .map(|row| self.record(&row))
            .transpose()
    }

    pub(crate) async fn pipeline_records(&self) -> Result<Vec<PipelineRecord>, CatalogError> {
        sqlx::query("SELECT id, kind, name, published, error FROM pipelines ORDER BY kind, name")
            .fetch_all(&self.pool)
            .await
            .map_err(|error| self.failed("read", error))?
            .iter()
            .map(|row| self.record(row))
            .collect()
    }

    /// Published epoch of every pipeline.
    pub(crate) async fn published_epochs(&self) -> Result<HashMap<PipelineId, Epoch>, CatalogError> {
        Ok(self.pipeline_records().await?.into_iter().map(|record| (record.pipeline.id, record.published)).collect())
    }

    fn record(&self, row: &SqliteRow) -> Result<PipelineRecord, CatalogError> {
        Ok(PipelineRecord {
            pipeline: self.pipeline(row)?,
            published: Epoch(self.get(row, 3)?),
            error: self.get(row, 4)?,
        })
    }

    fn pipeline(&self, row: &SqliteRow) -> Result<Pipeline, CatalogError> {
        let id: String = self.get(row, 0)?;
        let kind: String = self.get(row, 1)?;
        Ok(Pipeline {
            id: id.parse().map_err(|error| self.damaged(error))?,
            kind: kind_of(&kind).ok_or_else(|| self.damaged(format!("unknown kind of pipeline \"{kind}\"")))?,
            name: self.get(row, 2)?,
        })
    }

    pub(crate) async fn pipeline_statuses(&self) -> Result<Vec<PipelineStatus>, CatalogError> {
        let rows = sqlx::query(
            "SELECT id, kind, name, published, error, published_at, source_position, rows_in, rows_landed, \
             rows_quarantined, rows_dropped, rows_replayed FROM pipelines ORDER BY kind, name",
        )
        .fetch_all(&self.pool)
        .await
        .map_err(|error| self.failed("read", error))?;
        rows.iter().map(|row| self.status(row)).collect()
    }

    fn status(&self, row: &SqliteRow) -> Result<PipelineStatus, CatalogError> {
        let count = |at: usize| -> Result<u64, CatalogError> {
            u64::try_from(self.get::<i64>(row, at)?).map_err(|error| self.damaged(error))
        };
        let error: Option<String> = self.get(row, 4)?;
        let position: String = self.get(row, 6)?;
        Ok(PipelineStatus {
            pipeline: self.pipeline(row)?,
            state: if error.is_some() { PipelineState::Blocked } else { PipelineState::Running },
            error,
            published: Epoch(self.get(row, 3)?),
            published_at: self.get::<Option<i64>>(row, 5)?.and_then(DateTime::from_timestamp_micros),
            position: serde_json::from_str(&position).map_err(|error| self.damaged(error))?,
            counts: Counts {
                rows_in: count(7)?,
                rows_landed: count(8)?,
                rows_quarantined: count(9)?,
                rows_dropped: count(10)?,
                rows_replayed: count(11)?,
            },
        })
    }

    /// The published epoch and position of a pipeline: what a source may be told.
    pub(crate) async fn position(&self, id: PipelineId) -> Result<(Epoch, serde_json::Value), CatalogError> {
        let row = sqlx::query("SELECT published, source_position FROM pipelines WHERE id = $1")
            .bind(id.to_string())
            .fetch_optional(&self.pool)
            .await
            .map_err(|error| self.failed("read", error))?
            .ok_or_else(|| self.damaged(format!("pipeline {id} is missing")))?;
        let text: String = self.get(&row, 1)?;
        Ok((Epoch(self.get(&row, 0)?), serde_json::from_str(&text).map_err(|error| self.damaged(error))?))
    }

    /// Adds pipelines before their first epoch; one of the same kind and name, or id, stays.
    pub(crate) async fn add_pipelines(&self, pipelines: &[Pipeline]) -> Result<(), CatalogError> {
        let mut tx = self.write().await?;
        for pipeline in pipelines {
            sqlx::query(
                "INSERT INTO pipelines (id, kind, name, published, source_position, rows_in, rows_landed, \
                 rows_quarantined, rows_dropped, rows_replayed) VALUES ($1, $2, $3, 0, 'null', 0, 0, 0, 0, 0) \
                 ON CONFLICT DO NOTHING",
            )
            .bind(pipeline.id.to_string())
            .bind(kind_text(pipeline.kind))
            .bind(&pipeline.name)
            .execute(tx.connection())
            .await
            .map_err(|error| self.failed("write to", error))?;
        }
        tx.commit().await
    }

    pub(crate) async fn rename_pipeline(&self, id: PipelineId, name: &str) -> Result<(), CatalogError> {
        let mut tx = self.write().await?;
        sqlx::query("UPDATE pipelines SET name = $1 WHERE id = $2")
            .bind(name)
            .bind(id.to_string())
            .execute(tx.connection())
            .await
            .map_err(|error| self.failed("write to", error))?;
        tx.commit().await
    }

    /// Marks the pipeline as blocked at the epoch after `published`; no effect when it has moved on meanwhile.
    pub(crate) async fn block(
        &self,
        id: PipelineId,
        published: Epoch,
        fence: Fence,
        reason: &str,
    ) -> Result<(), CatalogError> {
        let mut tx = self.write().await?;
        sqlx::query(
            "UPDATE pipelines SET error = $1 WHERE id = $2 AND published = $3 \
             AND EXISTS (SELECT 1 FROM lake WHERE fence = $4)",
        )
        .bind(reason)
        .bind(id.to_string())
        .bind(published.0)
        .bind(fence.0)
        .execute(tx.connection())
        .await
        .map_err(|error| self.failed("write to", error))?;
        tx.commit().await
    }

    pub(crate) async fn unblock(&self, id: PipelineId) -> Result<(), CatalogError> {
        let mut tx = self.write().await?;
        sqlx::query("UPDATE pipelines SET error = NULL WHERE id = $1")
            .bind(id.to_string())
            .execute(tx.connection())
            .await
            .map_err(|error| self.failed("write to", error))?;
        tx.commit().await
    }
}
