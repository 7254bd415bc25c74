//! The one transaction that makes an epoch visible.

use std::collections::BTreeMap;

use sqlx::{QueryBuilder, Sqlite, SqliteConnection};

use lode_core::{Fence, PipelineId, SnapshotId, TableName};

use super::{MetaDb, WriteTx, ledger};
use crate::{CatalogChange, CatalogError, FileRow, Seal};

/// Rows of one INSERT: 10 columns each, and SQLite takes 32,766 parameters.
const ROWS_PER_INSERT: usize = 1_000;

impl MetaDb {
    /// Publishes sealed epochs together, each if it is its pipeline's next one and `fence` is still the newest. `versions`
    /// holds, by location, the version of each changed table that readers may see. An epoch that is published already is
    /// left out. Returns false, and changes nothing, if one cannot be published.
    pub(crate) async fn publish(
        &self,
        seals: &[Seal],
        fence: Fence,
        versions: &BTreeMap<String, SnapshotId>,
    ) -> Result<bool, CatalogError> {
        let failed = |error| self.failed("write to", error);
        let mut tx = self.write().await?;
        for seal in seals {
            let moved = sqlx::query(
                "UPDATE pipelines SET published = $1 WHERE id = $2 AND published = $3 \
                 AND EXISTS (SELECT 1 FROM lake WHERE fence = $4)",
            )
            .bind(seal.epoch.0)
            .bind(seal.pipeline.to_string())
            .bind(seal.epoch.0 - 1)
            .bind(fence.0)
            .execute(tx.connection())
            .await
            .map_err(failed)?;
            if moved.rows_affected() == 1 {
                self.write_epoch(&mut tx, seal, versions).await?;
                continue;
            }
            let done = sqlx::query("SELECT 1 FROM pipelines WHERE id = $1 AND published >= $2")
                .bind(seal.pipeline.to_string())
                .bind(seal.epoch.0)
                .fetch_optional(tx.connection())
                .await
                .map_err(failed)?;
            if done.is_none() {
                return Ok(false);
            }
        }
        tx.commit().await?;
        Ok(true)
    }

    /// All that an epoch changes in the DB: position, sums, views and drops, tables, ledger.
    pub(crate) async fn write_epoch(
        &self,
        tx: &mut WriteTx<'_>,
        seal: &Seal,
        versions: &BTreeMap<String, SnapshotId>,
    ) -> Result<(), CatalogError> {
        let failed = |error| self.failed("write to", error);
        let counts = &seal.content.counts;
        let count = |rows: u64| i64::try_from(rows).unwrap_or(i64::MAX);
        sqlx::query(
            "UPDATE pipelines SET published = $1, published_at = $2, source_position = $3, error = NULL, \
             rows_in = rows_in + $4, rows_landed = rows_landed + $5, rows_quarantined = rows_quarantined + $6, \
             rows_dropped = rows_dropped + $7, rows_replayed = rows_replayed + $8 WHERE id = $9",
        )
        .bind(seal.epoch.0)
        .bind(seal.sealed_at.timestamp_micros())
        .bind(seal.content.position.to_string())
        .bind(count(counts.rows_in))
        .bind(count(counts.rows_landed))
        .bind(count(counts.rows_quarantined))
        .bind(count(counts.rows_dropped))
        .bind(count(counts.rows_replayed))
        .bind(seal.pipeline.to_string())
        .execute(tx.connection())
        .await
        .map_err(failed)?;
        for change in &seal.content.catalog {
            change_catalog(tx.connection(), change).await.map_err(failed)?;
        }
        for change in &seal.content.tables {
            let version = versions.get(&change.location).copied().unwrap_or(change.base);
            match (&change.definition, change.base) {
                (Some(definition), SnapshotId::NONE) => {
                    put_table(
                        tx.connection(),
                        &change.table,
                        &definition.id.to_string(),
                        &change.location,
                        Some(seal.pipeline),
                        version,
                    )
                    .await
                }
                _ => raise(tx.connection(), &change.location, version).await,
            }
            .map_err(failed)?;
        }
        write_files(tx.connection(), seal.pipeline, &seal.content.files).await.map_err(failed)
    }
}

async fn change_catalog(connection: &mut SqliteConnection, change: &CatalogChange) -> Result<(), sqlx::Error> {
    match change {
        CatalogChange::PutView { name, sql, schema_json } => {
            sqlx::query(
                "INSERT INTO relations (name, kind, published, view_sql, schema_json) VALUES ($1, 'view', -1, $2, $3) \
                 ON CONFLICT (name) DO UPDATE SET kind = 'view', table_id = NULL, location = NULL, pipeline = NULL, \
                 published = -1, view_sql = excluded.view_sql, schema_json = excluded.schema_json",
            )
            .bind(name.to_string())
            .bind(sql)
            .bind(schema_json)
            .execute(connection)
            .await?;
        }
        CatalogChange::PutTable { name, id, location, version } => {
            put_table(connection, name, &id.to_string(), location, None, *version).await?;
        }
        CatalogChange::Drop { name } => {
            sqlx::query("DELETE FROM relations WHERE name = $1").bind(name.to_string()).execute(connection).await?;
        }
    }
    Ok(())
}

/// Registers a table, in place of whatever has the name. The version of a table that stays where it is only rises.
pub(super) async fn put_table(
    connection: &mut SqliteConnection,
    name: &TableName,
    id: &str,
    location: &str,
    pipeline: Option<PipelineId>,
    version: SnapshotId,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO relations (name, kind, table_id, location, pipeline, published) VALUES ($1, 'table', $2, $3, $4, $5) \
         ON CONFLICT (name) DO UPDATE SET kind = 'table', table_id = excluded.table_id, location = excluded.location, \
         pipeline = excluded.pipeline, view_sql = NULL, schema_json = NULL, \
         published = CASE WHEN relations.location = excluded.location AND relations.published > excluded.published \
         THEN relations.published ELSE excluded.published END",
    )
    .bind(name.to_string())
    .bind(id)
    .bind(location)
    .bind(pipeline.map(|id| id.to_string()))
    .bind(version.0)
    .execute(connection)
    .await?;
    Ok(())
}

async fn raise(connection: &mut SqliteConnection, location: &str, version: SnapshotId) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE relations SET published = $1 WHERE location = $2 AND published < $1")
        .bind(version.0)
        .bind(location)
        .execute(connection)
        .await?;
    Ok(())
}

async fn write_files(
    connection: &mut SqliteConnection,
    pipeline: PipelineId,
    files: &[FileRow],
) -> Result<(), sqlx::Error> {
    // One row a path, the last one: PostgreSQL refuses to touch a row twice in one INSERT.
    let newest: BTreeMap<&str, &FileRow> = files.iter().map(|file| (file.path.as_str(), file)).collect();
    let rows: Vec<&FileRow> = newest.into_values().collect();
    let number = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
    for rows in rows.chunks(ROWS_PER_INSERT) {
        let mut query = QueryBuilder::<Sqlite>::new(
            "INSERT INTO files (pipeline, path, hash, size_bytes, modified_ms, state, row_count, rows_quarantined, note, \
             dialect) ",
        );
        query.push_values(rows, |mut row, file| {
            row.push_bind(pipeline.to_string())
                .push_bind(file.path.as_str())
                .push_bind(file.hash.as_str())
                .push_bind(number(file.size_bytes))
                .push_bind(file.modified_ms)
                .push_bind(ledger::state_text(file.state))
                .push_bind(number(file.rows))
                .push_bind(number(file.rows_quarantined))
                .push_bind(file.note.as_deref())
                .push_bind(file.dialect.as_deref());
        });
        query.push(
            " ON CONFLICT (pipeline, path) DO UPDATE SET hash = excluded.hash, size_bytes = excluded.size_bytes, \
             modified_ms = excluded.modified_ms, state = excluded.state, row_count = excluded.row_count, \
             rows_quarantined = excluded.rows_quarantined, note = excluded.note, dialect = excluded.dialect",
        );
        query.build().persistent(false).execute(&mut *connection).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use lode_core::TableId;

    use super::*;
    use crate::RelationEntry;

    /// The rule `greatest`: a publication that read the logs earlier than another must not lower a version.
    #[tokio::test]
    async fn a_published_version_never_falls() {
        let folder = tempfile::tempdir().unwrap();
        let db = MetaDb::open(&folder.path().join("meta.db")).await.unwrap();
        db.migrate("x", Fence(0)).await.unwrap();
        let (name, id) = (TableName::new("s", "t"), TableId::random());
        let published = async || match db.relation(&name).await.unwrap() {
            Some(RelationEntry::Table(table)) => table.published.0,
            other => panic!("{other:?}"),
        };
        db.add_table(&name, id, "s/t", SnapshotId(5)).await.unwrap();
        let mut tx = db.write().await.unwrap();
        raise(tx.connection(), "s/t", SnapshotId(3)).await.unwrap();
        tx.commit().await.unwrap();
        db.add_table(&name, id, "s/t", SnapshotId(4)).await.unwrap();
        db.raise_published(&[("s/t".into(), SnapshotId(2))]).await.unwrap();
        assert_eq!(published().await, 5);
        db.raise_published(&[("s/t".into(), SnapshotId(6))]).await.unwrap();
        assert_eq!(published().await, 6);
        // Another table of that name begins anew.
        db.add_table(&name, TableId::random(), "s/t-2", SnapshotId(0)).await.unwrap();
        assert_eq!(published().await, 0);
    }
}
