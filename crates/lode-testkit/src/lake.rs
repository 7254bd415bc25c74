//! A lake in a temporary folder, with tables of given rows.

use std::path::Path;
use std::sync::Arc;

use arrow::array::RecordBatch;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use tempfile::TempDir;

use lode_catalog::{Catalog, Counts, OpenOptions, PipelineKind, Published, RelationEntry, SealContent, TableEntry};
use lode_core::{Problem, SnapshotId, SystemClock, TableName};
use lode_lake::{Operation, Store, StorePath, TableChange, TableDefinition, TableWriter, WriterOptions};

/// Data folder and lake, deleted when it is dropped.
pub struct TempLake {
    folder: TempDir,
    catalog: Arc<Catalog>,
}

impl TempLake {
    pub async fn new() -> Result<Self, Problem> {
        let folder = tempfile::tempdir().map_err(|error| Problem::internal("no temporary folder").cause(error))?;
        let catalog = open(folder.path()).await?;
        Ok(Self { folder, catalog })
    }

    /// The data folder; the lake lies in `lake/` below it.
    pub fn data_dir(&self) -> &Path {
        self.folder.path()
    }

    pub fn catalog(&self) -> &Arc<Catalog> {
        &self.catalog
    }

    /// Opens the lake again, as the next process would.
    pub async fn reopen(&mut self) -> Result<(), Problem> {
        self.catalog = open(self.folder.path()).await?;
        Ok(())
    }

    /// Adds rows to a table, which is made from the schema of `rows` if it is not there. One epoch.
    pub async fn append(&self, table: &str, rows: &RecordBatch) -> Result<Published, Problem> {
        self.write(table, rows, Operation::Append).await
    }

    /// Puts rows in the place of those of a table. One epoch.
    pub async fn replace(&self, table: &str, rows: &RecordBatch) -> Result<Published, Problem> {
        self.write(table, rows, Operation::Overwrite).await
    }

    async fn write(&self, table: &str, rows: &RecordBatch, operation: Operation) -> Result<Published, Problem> {
        let name: TableName = table.parse()?;
        let pipeline = self.catalog.pipeline(PipelineKind::Statement, table, None).await?;
        let draft = self.catalog.begin(&pipeline).await?;
        let (location, base, known) = match self.catalog.relation(&name).await? {
            Some(RelationEntry::Table(entry)) => {
                let snapshot = self.catalog.snapshot(&entry, None).await?;
                (entry.location, snapshot.version, Some(snapshot.definition.clone()))
            }
            _ => (self.catalog.new_location(&name).await?, SnapshotId::NONE, None),
        };
        let is_new = known.is_none();
        let definition = match known {
            Some(definition) => definition,
            None => TableDefinition::create(name.clone(), &rows.schema(), Vec::new())?,
        };
        let options = WriterOptions::default();
        let mut writer = TableWriter::new(self.catalog.store(), &location, &definition, draft.attempt(), options);
        writer.write(rows)?;
        let change = TableChange {
            table: name,
            location,
            base,
            operation,
            definition: is_new.then_some(definition),
            add: writer.finish()?,
            remove: Vec::new(),
            dead: Vec::new(),
            label: "WRITE".into(),
        };
        let count = rows.num_rows() as u64;
        let counts = Counts { rows_in: count, rows_landed: count, ..Counts::default() };
        Ok(draft.commit(SealContent { tables: vec![change], counts, ..SealContent::default() }).await?)
    }

    /// The published entry of a table. Errors: `NotFound`.
    pub async fn table(&self, table: &str) -> Result<TableEntry, Problem> {
        match self.catalog.relation(&table.parse()?).await? {
            Some(RelationEntry::Table(entry)) => Ok(entry),
            _ => Err(Problem::new(lode_core::ErrorKind::NotFound, format!("there is no table \"{table}\""))),
        }
    }

    /// All rows of a table at its published version, read from its files without an engine; tables with deletion vectors
    /// are refused.
    pub async fn rows(&self, table: &str) -> Result<Vec<RecordBatch>, Problem> {
        let entry = self.table(table).await?;
        let snapshot = self.catalog.snapshot(&entry, None).await?;
        let broken = |error: &dyn std::fmt::Display| Problem::internal("a file does not read").cause(error);
        let mut batches = Vec::new();
        for live in snapshot.files.iter() {
            if live.has_deletes {
                return Err(Problem::internal(format!("\"{table}\" has deletion vectors: read it with the engine")));
            }
            let path = StorePath::parse(format!("{}/{}", entry.location, live.file.path)).map_err(|e| broken(&e))?;
            let bytes = self.catalog.store().get(&path).await?;
            let reader =
                ParquetRecordBatchReaderBuilder::try_new(bytes).and_then(ParquetRecordBatchReaderBuilder::build);
            for batch in reader.map_err(|e| broken(&e))? {
                batches.push(batch.map_err(|e| broken(&e))?);
            }
        }
        Ok(batches)
    }
}

async fn open(folder: &Path) -> Result<Arc<Catalog>, Problem> {
    let store = Store::local(&folder.join("lake"))?;
    let options = OpenOptions { adopt: false, clock: Arc::new(SystemClock) };
    Ok(Catalog::open(store, folder, options).await?)
}

#[cfg(test)]
mod tests {
    use arrow::array::{AsArray, Int64Array};
    use arrow::datatypes::{DataType, Field, Int64Type, Schema};

    use super::*;

    fn ids(ids: &[i64]) -> RecordBatch {
        let schema = Schema::new(vec![Field::new("id", DataType::Int64, true)]);
        RecordBatch::try_new(Arc::new(schema), vec![Arc::new(Int64Array::from(ids.to_vec()))]).unwrap()
    }

    async fn read(lake: &TempLake) -> Vec<i64> {
        let batches = lake.rows("bronze.x").await.unwrap();
        let mut ids: Vec<i64> =
            batches.iter().flat_map(|batch| batch.column(0).as_primitive::<Int64Type>().values().to_vec()).collect();
        ids.sort_unstable();
        ids
    }

    #[tokio::test]
    async fn rows_come_back_after_a_restart() {
        let mut lake = TempLake::new().await.unwrap();
        lake.append("bronze.x", &ids(&[1, 2])).await.unwrap();
        lake.append("bronze.x", &ids(&[3])).await.unwrap();
        lake.reopen().await.unwrap();
        assert_eq!(read(&lake).await, [1, 2, 3]);
        lake.replace("bronze.x", &ids(&[4])).await.unwrap();
        assert_eq!(read(&lake).await, [4]);
        assert!(lake.rows("bronze.y").await.is_err());
    }
}
