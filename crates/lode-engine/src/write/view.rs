//! A view as one epoch of its model.

use lode_catalog::{CatalogChange, PipelineKind, RelationEntry, SealContent};
use lode_core::{ErrorKind, Place, Prepared, Problem, SnapshotId, TableName, Written};

use super::Attempt;
use crate::engine::{Inner, single};
use crate::plan::Planned;
use crate::tables::{resolve, view_schema};
use crate::write::storable;

impl Inner {
    pub(crate) async fn define_view(&self, name: &TableName, prepared: &Prepared) -> Result<Written, Problem> {
        self.define_view_as(PipelineKind::Model, name, prepared).await
    }

    /// Creates the view, or puts it in the place of the table or view of that name.
    pub(crate) async fn define_view_as(
        &self,
        kind: PipelineKind,
        name: &TableName,
        prepared: &Prepared,
    ) -> Result<Written, Problem> {
        let planned = Planned::of(prepared)?;
        let session = &planned.session;
        let statement = single(&prepared.sql, &session.origin)?;
        let roots = resolve::names_in(&statement, &session.default_schema)?;
        if resolve::closure(&self.catalog, &roots).await?.contains_key(name) {
            return Err(Problem::new(ErrorKind::Undefined, format!("view \"{name}\" would stand on itself"))
                .at(Place::of(&session.origin))
                .fix("select from other tables, or give the view another name"));
        }
        let pipeline = self.catalog.pipeline(kind, &name.to_string(), None).await?;
        let mut is_second_try = false;
        loop {
            match self.put_view(&pipeline, name, prepared, &session.default_schema).await {
                Err(Attempt::SealLost(_)) if !is_second_try => is_second_try = true,
                other => return other.map_err(Attempt::into_problem),
            }
        }
    }

    async fn put_view(
        &self,
        pipeline: &lode_catalog::Pipeline,
        name: &TableName,
        prepared: &Prepared,
        default_schema: &str,
    ) -> Result<Written, Attempt> {
        let draft = self.catalog.begin(pipeline).await?;
        let mut catalog = Vec::new();
        if let Some(RelationEntry::Table(_)) = self.catalog.relation(name).await? {
            catalog.push(CatalogChange::Drop { name: name.clone() });
        }
        catalog.push(CatalogChange::PutView {
            name: name.clone(),
            sql: prepared.sql.clone(),
            schema_json: view_schema::encode(&storable(&prepared.schema), default_schema),
        });
        let inputs = prepared.inputs.iter().map(|input| (input.table.to_string(), input.snapshot)).collect();
        let fingerprints = [("plan".to_owned(), prepared.fingerprint.clone())].into();
        let content = SealContent { catalog, inputs, fingerprints, ..SealContent::default() };
        let published = draft.commit(content).await?;
        Ok(Written {
            epoch: published.epoch,
            table: None,
            snapshot: SnapshotId::NONE,
            rows: 0,
            rows_quarantined: 0,
            rows_dropped: 0,
            rules: Vec::new(),
        })
    }
}
