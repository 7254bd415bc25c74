//! Tables and views: one namespace, one DB table.

use sqlx::sqlite::SqliteRow;
use sqlx::{QueryBuilder, Sqlite};

use lode_core::{SnapshotId, TableId, TableName};

use super::MetaDb;
use super::publish::put_table;
use crate::{CatalogError, RelationEntry, TableEntry, ViewEntry};

const COLUMNS: &str =
    "SELECT name, kind, table_id, location, pipeline, published, view_sql, schema_json FROM relations";
/// SQLite takes 32,766 parameters in a statement.
const NAMES_MAX: usize = 10_000;

impl MetaDb {
    pub(crate) async fn relation(&self, name: &TableName) -> Result<Option<RelationEntry>, CatalogError> {
        Ok(self.relations_named(std::slice::from_ref(name)).await?.pop())
    }

    /// Those of `names` that exist, read at one moment.
    pub(crate) async fn relations_named(&self, names: &[TableName]) -> Result<Vec<RelationEntry>, CatalogError> {
        if names.is_empty() {
            return Ok(Vec::new());
        }
        if names.len() > NAMES_MAX {
            let mut all = self.relations().await?;
            all.retain(|relation| names.contains(relation.name()));
            return Ok(all);
        }
        let mut query = QueryBuilder::<Sqlite>::new(COLUMNS);
        query.push(" WHERE name IN (");
        let mut list = query.separated(", ");
        for name in names {
            list.push_bind(name.to_string());
        }
        query.push(")");
        let rows = query.build().fetch_all(&self.pool).await.map_err(|error| self.failed("read", error))?;
        rows.iter().map(|row| self.entry(row)).collect()
    }

    pub(crate) async fn relations(&self) -> Result<Vec<RelationEntry>, CatalogError> {
        let mut query = QueryBuilder::<Sqlite>::new(COLUMNS);
        query.push(" ORDER BY name");
        let rows = query.build().fetch_all(&self.pool).await.map_err(|error| self.failed("read", error))?;
        rows.iter().map(|row| self.entry(row)).collect()
    }

    fn entry(&self, row: &SqliteRow) -> Result<RelationEntry, CatalogError> {
        let name: String = self.get(row, 0)?;
        let name: TableName = name.parse().map_err(|error| self.damaged(error))?;
        let missing = |what: &str| self.damaged(format!("relation \"{name}\" has no {what}"));
        let kind: String = self.get(row, 1)?;
        if kind == "view" {
            let sql = self.get::<Option<String>>(row, 6)?.ok_or_else(|| missing("SQL"))?;
            let schema_json = self.get::<Option<String>>(row, 7)?.ok_or_else(|| missing("schema"))?;
            return Ok(RelationEntry::View(ViewEntry { name, sql, schema_json }));
        }
        let id = self.get::<Option<String>>(row, 2)?.ok_or_else(|| missing("table id"))?;
        let pipeline = self.get::<Option<String>>(row, 4)?;
        Ok(RelationEntry::Table(TableEntry {
            id: id.parse().map_err(|error| self.damaged(error))?,
            location: self.get::<Option<String>>(row, 3)?.ok_or_else(|| missing("location"))?,
            pipeline: pipeline.map(|id| id.parse()).transpose().map_err(|error| self.damaged(error))?,
            published: SnapshotId(self.get(row, 5)?),
            name,
        }))
    }

    /// Adds a table of others.
    pub(crate) async fn add_table(
        &self,
        name: &TableName,
        id: TableId,
        location: &str,
        version: SnapshotId,
    ) -> Result<(), CatalogError> {
        let mut tx = self.write().await?;
        put_table(tx.connection(), name, &id.to_string(), location, None, version)
            .await
            .map_err(|error| self.failed("write to", error))?;
        tx.commit().await
    }

    /// Moves the published version of the tables at these locations, only upward.
    pub(crate) async fn raise_published(&self, versions: &[(String, SnapshotId)]) -> Result<(), CatalogError> {
        let mut tx = self.write().await?;
        for (location, version) in versions {
            sqlx::query("UPDATE relations SET published = $1 WHERE location = $2 AND published < $1")
                .bind(version.0)
                .bind(location)
                .execute(tx.connection())
                .await
                .map_err(|error| self.failed("write to", error))?;
        }
        tx.commit().await
    }
}
