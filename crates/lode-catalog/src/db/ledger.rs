//! File ledger, runs, notes.

use chrono::{DateTime, Utc};
use sqlx::sqlite::SqliteRow;

use lode_core::PipelineId;

use super::MetaDb;
use crate::{CatalogError, FileRow, FileState, RunRow};

/// Runs that are kept.
const RUNS_MAX: i64 = 1_000;

pub(super) fn state_text(state: FileState) -> &'static str {
    match state {
        FileState::Landed => "landed",
        FileState::Renamed => "renamed",
        FileState::Ignored => "ignored",
        FileState::Poison => "poison",
    }
}

fn state_of(text: &str) -> Option<FileState> {
    [FileState::Landed, FileState::Renamed, FileState::Ignored, FileState::Poison]
        .into_iter()
        .find(|state| state_text(*state) == text)
}

impl MetaDb {
    pub(crate) async fn files(&self, pipeline: PipelineId) -> Result<Vec<FileRow>, CatalogError> {
        let rows = sqlx::query(
            "SELECT path, hash, size_bytes, modified_ms, state, row_count, rows_quarantined, note, dialect FROM files \
             WHERE pipeline = $1 ORDER BY path",
        )
        .bind(pipeline.to_string())
        .fetch_all(&self.pool)
        .await
        .map_err(|error| self.failed("read", error))?;
        rows.iter().map(|row| self.file(row)).collect()
    }

    fn file(&self, row: &SqliteRow) -> Result<FileRow, CatalogError> {
        let count = |at: usize| -> Result<u64, CatalogError> {
            u64::try_from(self.get::<i64>(row, at)?).map_err(|error| self.damaged(error))
        };
        let state: String = self.get(row, 4)?;
        Ok(FileRow {
            path: self.get(row, 0)?,
            hash: self.get(row, 1)?,
            size_bytes: count(2)?,
            modified_ms: self.get(row, 3)?,
            state: state_of(&state).ok_or_else(|| self.damaged(format!("unknown state of file \"{state}\"")))?,
            rows: count(5)?,
            rows_quarantined: count(6)?,
            note: self.get(row, 7)?,
            dialect: self.get(row, 8)?,
        })
    }

    /// Number of ledger rows of all pipelines.
    pub(crate) async fn file_count(&self) -> Result<u64, CatalogError> {
        let row = sqlx::query("SELECT COUNT(*) FROM files")
            .fetch_one(&self.pool)
            .await
            .map_err(|error| self.failed("read", error))?;
        u64::try_from(self.get::<i64>(&row, 0)?).map_err(|error| self.damaged(error))
    }

    pub(crate) async fn record_run(&self, run: &RunRow) -> Result<(), CatalogError> {
        let failed = |error| self.failed("write to", error);
        let mut tx = self.write().await?;
        sqlx::query(
            "INSERT INTO runs (id, command, started_at, finished_at, status, nodes) VALUES ($1, $2, $3, $4, $5, $6) \
             ON CONFLICT (id) DO UPDATE SET finished_at = excluded.finished_at, status = excluded.status, \
             nodes = excluded.nodes",
        )
        .bind(&run.id)
        .bind(&run.command)
        .bind(run.started_at.timestamp_micros())
        .bind(run.finished_at.map(|at| at.timestamp_micros()))
        .bind(&run.status)
        .bind(run.nodes.to_string())
        .execute(tx.connection())
        .await
        .map_err(failed)?;
        sqlx::query("DELETE FROM runs WHERE id NOT IN (SELECT id FROM runs ORDER BY started_at DESC, id LIMIT $1)")
            .bind(RUNS_MAX)
            .execute(tx.connection())
            .await
            .map_err(failed)?;
        tx.commit().await
    }

    pub(crate) async fn runs(&self, limit: usize) -> Result<Vec<RunRow>, CatalogError> {
        let rows = sqlx::query(
            "SELECT id, command, started_at, finished_at, status, nodes FROM runs \
             ORDER BY started_at DESC, id LIMIT $1",
        )
        .bind(i64::try_from(limit).unwrap_or(i64::MAX))
        .fetch_all(&self.pool)
        .await
        .map_err(|error| self.failed("read", error))?;
        rows.iter().map(|row| self.run(row)).collect()
    }

    fn run(&self, row: &SqliteRow) -> Result<RunRow, CatalogError> {
        let time = |micros: i64| -> Result<DateTime<Utc>, CatalogError> {
            DateTime::from_timestamp_micros(micros).ok_or_else(|| self.damaged(format!("{micros} is not a time")))
        };
        let nodes: String = self.get(row, 5)?;
        Ok(RunRow {
            id: self.get(row, 0)?,
            command: self.get(row, 1)?,
            started_at: time(self.get(row, 2)?)?,
            finished_at: self.get::<Option<i64>>(row, 3)?.map(time).transpose()?,
            status: self.get(row, 4)?,
            nodes: serde_json::from_str(&nodes).map_err(|error| self.damaged(error))?,
        })
    }

    pub(crate) async fn note(&self, scope: &str, name: &str) -> Result<Option<String>, CatalogError> {
        sqlx::query("SELECT content FROM notes WHERE scope = $1 AND name = $2")
            .bind(scope)
            .bind(name)
            .fetch_optional(&self.pool)
            .await
            .map_err(|error| self.failed("read", error))?
            .map(|row| self.get(&row, 0))
            .transpose()
    }

    pub(crate) async fn put_note(&self, scope: &str, name: &str, content: &str) -> Result<(), CatalogError> {
        let mut tx = self.write().await?;
        sqlx::query(
            "INSERT INTO notes (scope, name, content) VALUES ($1, $2, $3) \
             ON CONFLICT (scope, name) DO UPDATE SET content = excluded.content",
        )
        .bind(scope)
        .bind(name)
        .bind(content)
        .execute(tx.connection())
        .await
        .map_err(|error| self.failed("write to", error))?;
        tx.commit().await
    }
}
