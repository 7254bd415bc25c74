//! Tables and views as one statement sees them: every name is resolved once, before planning, and all tables are
//! seen at the same moment.

mod by_id;
pub(crate) mod changes;
mod lake_table;
pub(crate) mod positions;
mod reader;
pub(crate) mod resolve;
mod stats;
pub(crate) mod view_schema;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::catalog::{CatalogProvider, CatalogProviderList, SchemaProvider, TableProvider};
use datafusion::error::Result;
use parking_lot::RwLock;

use lode_core::{Input, TableName};

pub(crate) use lake_table::LakeTable;
pub(crate) use stats::{FileStatistics, file_statistics};

use crate::session::DATABASE;

/// The relations that one statement was resolved to.
#[derive(Debug, Clone, Default)]
pub(crate) struct Pins {
    relations: Arc<RwLock<HashMap<TableName, Arc<dyn TableProvider>>>>,
    inputs: Arc<RwLock<BTreeMap<TableName, Input>>>,
    /// Answers of table functions, by function name and argument text.
    calls: Arc<RwLock<HashMap<String, Arc<dyn TableProvider>>>>,
}

impl Pins {
    pub(crate) fn insert(&self, name: TableName, provider: Arc<dyn TableProvider>) {
        self.relations.write().insert(name, provider);
    }

    pub(crate) fn insert_call(&self, key: String, provider: Arc<dyn TableProvider>) {
        self.calls.write().insert(key, provider);
    }

    pub(crate) fn call(&self, key: &str) -> Option<Arc<dyn TableProvider>> {
        self.calls.read().get(key).cloned()
    }

    /// Notes that the statement reads a table at a snapshot.
    pub(crate) fn note_input(&self, input: Input) {
        self.inputs.write().insert(input.table.clone(), input);
    }

    /// Sorted by name.
    pub(crate) fn inputs(&self) -> Vec<Input> {
        self.inputs.read().values().cloned().collect()
    }

    pub(crate) fn contains(&self, name: &TableName) -> bool {
        self.relations.read().contains_key(name)
    }

    /// As the planner wants it.
    pub(crate) fn names(&self) -> Arc<dyn CatalogProviderList> {
        Arc::new(Names(self.clone()))
    }
}

#[derive(Debug)]
struct Names(Pins);

impl CatalogProviderList for Names {
    fn register_catalog(&self, _: String, _: Arc<dyn CatalogProvider>) -> Option<Arc<dyn CatalogProvider>> {
        None
    }

    fn catalog_names(&self) -> Vec<String> {
        vec![DATABASE.to_owned()]
    }

    fn catalog(&self, name: &str) -> Option<Arc<dyn CatalogProvider>> {
        (name == DATABASE).then(|| Arc::new(Database(self.0.clone())) as Arc<dyn CatalogProvider>)
    }
}

#[derive(Debug)]
struct Database(Pins);

impl CatalogProvider for Database {
    fn schema_names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.0.relations.read().keys().map(|name| name.schema.clone()).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    fn schema(&self, name: &str) -> Option<Arc<dyn SchemaProvider>> {
        Some(Arc::new(Namespace { schema: name.to_owned(), pins: self.0.clone() }))
    }
}

#[derive(Debug)]
struct Namespace {
    schema: String,
    pins: Pins,
}

#[async_trait]
impl SchemaProvider for Namespace {
    fn table_names(&self) -> Vec<String> {
        let relations = self.pins.relations.read();
        relations.keys().filter(|name| name.schema == self.schema).map(|name| name.name.clone()).collect()
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        Ok(self.pins.relations.read().get(&TableName::new(&self.schema, name)).cloned())
    }

    fn table_exist(&self, name: &str) -> bool {
        self.pins.contains(&TableName::new(&self.schema, name))
    }
}

#[cfg(test)]
mod tests;
