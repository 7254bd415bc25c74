//! The metadata DB over sqlx: SQLite now, the same SQL on PostgreSQL later.
//!
//! Everything that only SQLite has (pragmas, `BEGIN IMMEDIATE`, `VACUUM INTO`) stands in this file.

mod ledger;
mod pipelines;
mod publish;
mod relations;
mod schema;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use sqlx::pool::PoolOptions;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{AssertSqlSafe, Row, Sqlite, SqliteConnection, SqlitePool};
use tokio::sync::{Mutex, MutexGuard};

use lode_core::{ErrorKind, Fence};

use crate::CatalogError;
use schema::MIGRATIONS;

pub(crate) use pipelines::PipelineRecord;

/// Name of the DB file in the data folder.
pub(crate) const FILE_NAME: &str = "meta.db";

pub(crate) struct MetaDb {
    pool: SqlitePool,
    path: PathBuf,
    /// SQLite has one writer: those of this process queue here, not in its busy loop.
    writer: Mutex<()>,
    /// Transactions of this handle that were committed.
    commits: AtomicU64,
}

/// A write transaction; rolled back when it is dropped without `commit`.
pub(crate) struct WriteTx<'a> {
    transaction: sqlx::Transaction<'static, Sqlite>,
    db: &'a MetaDb,
    _turn: MutexGuard<'a, ()>,
}

impl WriteTx<'_> {
    pub(crate) fn connection(&mut self) -> &mut SqliteConnection {
        &mut self.transaction
    }

    pub(crate) async fn commit(self) -> Result<(), CatalogError> {
        self.transaction.commit().await.map_err(|error| self.db.failed("write to", error))?;
        self.db.commits.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

impl MetaDb {
    /// Opens the file, making an empty one if it is missing; `migrate` comes next.
    /// Errors: `Damaged`, `Newer`, `Db`.
    pub(crate) async fn open(path: &Path) -> Result<Self, CatalogError> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(Duration::from_secs(10));
        let pool = PoolOptions::<Sqlite>::new()
            .max_connections(4)
            .min_connections(0)
            .test_before_acquire(false)
            .idle_timeout(None)
            .max_lifetime(None)
            .connect_with(options)
            .await
            .map_err(|error| failed(path, "open", error))?;
        let db = Self { pool, path: path.to_owned(), writer: Mutex::new(()), commits: AtomicU64::new(0) };
        let found = db.schema_version().await?;
        let known = MIGRATIONS.len() as i64;
        if found > known {
            return Err(CatalogError::Newer { found, known });
        }
        Ok(db)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// 0 when the DB is empty.
    pub(crate) async fn schema_version(&self) -> Result<i64, CatalogError> {
        // A table that is missing is no error of its own in sqlx, so ask SQLite's own list. PostgreSQL: information_schema.
        let known = sqlx::query("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'lode_schema'")
            .fetch_optional(&self.pool)
            .await
            .map_err(|error| self.failed("read", error))?;
        if known.is_none() {
            return Ok(0);
        }
        let row = sqlx::query("SELECT MAX(version) FROM lode_schema")
            .fetch_one(&self.pool)
            .await
            .map_err(|error| self.failed("read", error))?;
        Ok(row.try_get::<Option<i64>, _>(0).map_err(|error| self.failed("read", error))?.unwrap_or(0))
    }

    /// Brings the schema up to this Lode's version, in one transaction; a new DB gets `db_id` and `fence`.
    pub(crate) async fn migrate(&self, db_id: &str, fence: Fence) -> Result<(), CatalogError> {
        let found = self.schema_version().await?;
        if found == MIGRATIONS.len() as i64 {
            return Ok(());
        }
        let mut tx = self.write().await?;
        let failed = |error| self.failed("make the tables of", error);
        if found == 0 {
            sqlx::query("CREATE TABLE lode_schema (version BIGINT NOT NULL)")
                .execute(tx.connection())
                .await
                .map_err(failed)?;
        }
        for (at, migration) in MIGRATIONS.iter().enumerate() {
            let version = at as i64 + 1;
            if version > found {
                sqlx::raw_sql(*migration).execute(tx.connection()).await.map_err(failed)?;
                sqlx::query("INSERT INTO lode_schema (version) VALUES ($1)")
                    .bind(version)
                    .execute(tx.connection())
                    .await
                    .map_err(failed)?;
            }
        }
        if found == 0 {
            sqlx::query("INSERT INTO lake (one, db_id, fence) VALUES (1, $1, $2)")
                .bind(db_id)
                .bind(fence.0)
                .execute(tx.connection())
                .await
                .map_err(failed)?;
        }
        tx.commit().await
    }

    /// Grows with each committed transaction of this handle.
    pub(crate) fn commits(&self) -> u64 {
        self.commits.load(Ordering::Relaxed)
    }

    pub(crate) async fn write(&self) -> Result<WriteTx<'_>, CatalogError> {
        let turn = self.writer.lock().await;
        // Takes the write lock at once: a transaction that reads first and then writes would fail as "busy".
        let transaction =
            self.pool.begin_with("BEGIN IMMEDIATE").await.map_err(|error| self.failed("write to", error))?;
        Ok(WriteTx { transaction, db: self, _turn: turn })
    }

    pub(crate) async fn db_id(&self) -> Result<String, CatalogError> {
        let row = sqlx::query("SELECT db_id FROM lake")
            .fetch_one(&self.pool)
            .await
            .map_err(|error| self.failed("read", error))?;
        self.get(&row, 0)
    }

    /// A number above those of all processes before.
    pub(crate) async fn next_fence(&self) -> Result<Fence, CatalogError> {
        let mut tx = self.write().await?;
        let failed = |error| self.failed("write to", error);
        sqlx::query("UPDATE lake SET fence = fence + 1").execute(tx.connection()).await.map_err(failed)?;
        let row = sqlx::query("SELECT fence FROM lake").fetch_one(tx.connection()).await.map_err(failed)?;
        let fence = Fence(self.get(&row, 0)?);
        tx.commit().await?;
        Ok(fence)
    }

    pub(crate) async fn fence(&self) -> Result<Fence, CatalogError> {
        let row = sqlx::query("SELECT fence FROM lake")
            .fetch_one(&self.pool)
            .await
            .map_err(|error| self.failed("read", error))?;
        Ok(Fence(self.get(&row, 0)?))
    }

    /// Writes a consistent copy, which must not exist yet, while others go on.
    pub(crate) async fn copy_to(&self, target: &Path) -> Result<(), CatalogError> {
        let statement = format!("VACUUM INTO '{}'", target.display().to_string().replace('\'', "''"));
        sqlx::query(AssertSqlSafe(statement)).execute(&self.pool).await.map_err(|error| self.failed("copy", error))?;
        Ok(())
    }

    /// Moves everything that the write-ahead log holds into the file, so that the file alone is the whole DB.
    /// Errors: `Db` with kind `Unavailable` while another connection reads an older state.
    pub(crate) async fn fold(&self) -> Result<(), CatalogError> {
        // Not left to the last connection's end: two that end at once each take the other for the last.
        let row = sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)")
            .fetch_one(&self.pool)
            .await
            .map_err(|error| self.failed("fold the log of", error))?;
        match self.get::<i64>(&row, 0)? {
            0 => Ok(()),
            _ => Err(CatalogError::Db {
                action: "fold the log of",
                kind: ErrorKind::Unavailable,
                source: "another connection is reading".into(),
            }),
        }
    }

    /// Closes all connections.
    pub(crate) async fn close(&self) {
        self.pool.close().await;
    }

    fn failed(&self, action: &'static str, error: sqlx::Error) -> CatalogError {
        failed(&self.path, action, error)
    }

    fn get<'r, T>(&self, row: &'r sqlx::sqlite::SqliteRow, at: usize) -> Result<T, CatalogError>
    where
        T: sqlx::Decode<'r, Sqlite> + sqlx::Type<Sqlite>,
    {
        row.try_get(at).map_err(|error| self.failed("read", error))
    }

    /// A stored text that does not parse: the DB was changed by another hand.
    fn damaged(&self, what: impl std::fmt::Display) -> CatalogError {
        CatalogError::Damaged { path: self.path.display().to_string(), reason: what.to_string() }
    }
}

fn failed(path: &Path, action: &'static str, error: sqlx::Error) -> CatalogError {
    let code = match &error {
        sqlx::Error::Database(inner) => inner.code().and_then(|code| code.parse::<i64>().ok()).map(|code| code & 0xff),
        _ => None,
    };
    // Source: https://www.sqlite.org/rescode.html, primary codes.
    let kind = match code {
        Some(11 | 26) => {
            return CatalogError::Damaged { path: path.display().to_string(), reason: error.to_string() };
        }
        Some(13) => ErrorKind::Full,
        Some(3 | 8 | 23) => ErrorKind::Denied,
        Some(5 | 6 | 10 | 14) => ErrorKind::Unavailable,
        None if matches!(error, sqlx::Error::PoolTimedOut | sqlx::Error::Io(_)) => ErrorKind::Unavailable,
        _ => ErrorKind::Internal,
    };
    CatalogError::Db { action, kind, source: error.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_folded_db_is_whole_in_its_one_file() {
        let dir = tempfile::tempdir().unwrap();
        let db = MetaDb::open(&dir.path().join("a.db")).await.unwrap();
        db.migrate("id", Fence(7)).await.unwrap();
        // Another connection is open, so that closing one would fold nothing.
        let other = db.pool.acquire().await.unwrap();
        db.fold().await.unwrap();
        std::fs::copy(dir.path().join("a.db"), dir.path().join("b.db")).unwrap();
        drop(other);
        let alone = MetaDb::open(&dir.path().join("b.db")).await.unwrap();
        assert_eq!(alone.fence().await.unwrap(), Fence(7));
    }
}
