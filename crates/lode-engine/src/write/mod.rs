//! Rows into a table, as one epoch: plan -> row pass -> files -> seal.

mod change;
mod conform;
mod lane;
mod merge;
mod old;
mod target;
mod view;

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::physical_plan::{execute_stream, execute_stream_partitioned};
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::Statement as Sql;
use futures::{StreamExt, TryStreamExt, future};

use lode_catalog::{CatalogChange, CatalogError, Counts, Draft, Pipeline, PipelineKind, SealContent};
use lode_core::{BatchStream, Prepared, Problem, SnapshotId, WriteMode, WriteSpec, Written, fail};
use lode_lake::{DeltaTable, KeyEncoder, Operation, TableChange, TableDefinition, merge_runs};

pub(crate) use change::{NewRows, Repeats, RowChange};
pub(crate) use conform::{conform, storable};
pub(crate) use old::Old as OldFiles;
pub(crate) use target::free_location;

use crate::engine::{Inner, single};
use crate::expect::Pass;
use crate::plan::Planned;
use crate::problem;
use lane::{Lane, LaneEnd, Shared};
use target::Target;

/// Entries of key runs that a write merges behind itself; larger ones wait for maintenance.
const TENDED_ENTRIES: u64 = 1 << 20;

/// Tries of a write whose table is changed by others while it runs.
const TRIES: usize = 8;

/// What is to be written.
pub(crate) enum Rows {
    Plan(Prepared),
    Batches { schema: SchemaRef, rows: BatchStream },
}

impl Rows {
    fn schema(&self) -> &SchemaRef {
        match self {
            Self::Plan(prepared) => &prepared.schema,
            Self::Batches { schema, .. } => schema,
        }
    }

    fn inputs(&self) -> BTreeMap<String, SnapshotId> {
        match self {
            Self::Plan(prepared) => {
                prepared.inputs.iter().map(|input| (input.table.to_string(), input.snapshot)).collect()
            }
            Self::Batches { .. } => BTreeMap::new(),
        }
    }

    fn fingerprints(&self) -> BTreeMap<String, String> {
        match self {
            Self::Plan(prepared) => BTreeMap::from([("plan".to_owned(), prepared.fingerprint.clone())]),
            Self::Batches { .. } => BTreeMap::new(),
        }
    }
}

/// Who writes and what the commit is called in the table's history.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Author {
    pub(crate) kind: PipelineKind,
    pub(crate) label: &'static str,
}

impl Inner {
    /// Writes rows as one epoch of the target's model.
    pub(crate) async fn write(self: &Arc<Self>, rows: Rows, spec: &WriteSpec) -> Result<Written, Problem> {
        let label = if matches!(spec.mode, WriteMode::Merge { .. }) { "MERGE" } else { "WRITE" };
        self.write_as(Author { kind: PipelineKind::Model, label }, rows, spec).await
    }

    pub(crate) async fn write_as(
        self: &Arc<Self>,
        author: Author,
        rows: Rows,
        spec: &WriteSpec,
    ) -> Result<Written, Problem> {
        let pipeline = self.catalog.pipeline(author.kind, &spec.target.to_string(), None).await?;
        let plan = if let Rows::Plan(prepared) = &rows { Some(prepared.clone()) } else { None };
        let (mut rows, mut tries) = (rows, 1);
        loop {
            match self.write_once(&pipeline, author, rows, spec).await {
                // Another process sealed this number, or the table was changed or compacted meanwhile: the rows are read
                // anew, as they may be others now.
                Err(Attempt::SealLost(error)) => match &plan {
                    Some(prepared) if tries < TRIES => {
                        tries += 1;
                        rows = Rows::Plan(self.plan_again(prepared, spec).await?);
                    }
                    _ => return Err(error.into()),
                },
                other => return other.map_err(Attempt::into_problem),
            }
        }
    }

    async fn plan_again(self: &Arc<Self>, prepared: &Prepared, spec: &WriteSpec) -> Result<Prepared, Problem> {
        let session = Planned::of(prepared)?.session.clone();
        let statement = single(&prepared.sql, &session.origin)?;
        let is_insert = matches!(&statement, Statement::Statement(inner) if matches!(inner.as_ref(), Sql::Insert(_)));
        match is_insert {
            true => self.plan_insert(statement, &prepared.sql, &session, &spec.target).await,
            false => self.plan(statement, &prepared.sql, &session).await,
        }
    }

    async fn write_once(
        self: &Arc<Self>,
        pipeline: &Pipeline,
        author: Author,
        rows: Rows,
        spec: &WriteSpec,
    ) -> Result<Written, Attempt> {
        let draft = self.catalog.begin(pipeline).await?;
        let target = Target::open(self, &draft, spec, rows.schema()).await?;
        let shared = Arc::new(self.shared(&draft, &target, spec)?);
        let (inputs, fingerprints) = (rows.inputs(), rows.fingerprints());
        let end = match &spec.mode {
            WriteMode::Merge { keys, keeps_all } => self.merge(rows, &shared, &target, keys, *keeps_all).await?,
            _ => self.append(rows, &shared, &target).await?,
        };
        fail::point("engine.write.files_written")?;
        let counts = end.counts();
        let rules = end.rules.clone();
        let reads_target = matches!(spec.mode, WriteMode::Merge { .. });
        let tables = changes(&target, &shared, spec, author, reads_target, end);
        let mut catalog = Vec::new();
        if target.replaces_view {
            catalog.push(CatalogChange::Drop { name: spec.target.clone() });
        }
        let content = SealContent { fingerprints, inputs, tables, catalog, counts, ..SealContent::default() };
        let written = self.publish(draft, content, spec, rules).await?;
        if reads_target {
            self.tend_runs(&target, &shared.definition, written.snapshot).await;
        }
        Ok(Written { table: Some(shared.definition.id), ..written })
    }

    /// Merges small runs of the key index, so that looks at it stay cheap. The rows are there already: what fails here is
    /// tried again behind the next write.
    async fn tend_runs(&self, target: &Target, definition: &TableDefinition, at: SnapshotId) {
        let Some(encoder) = KeyEncoder::of_table(definition) else { return };
        let (store, location) = (self.catalog.store().clone(), target.location.clone());
        let work = async move {
            let snapshot = DeltaTable::new(&store, &location).snapshot(Some(at)).await?;
            merge_runs(&store, &location, &snapshot, &encoder, TENDED_ENTRIES).await
        };
        if let Err(error) = self.cpu.run(async move { work.await.map_err(Problem::from) }).await {
            tracing::warn!(table = %definition.name, %error, "runs of the key index were not merged");
        }
    }

    async fn publish(
        &self,
        draft: Draft,
        content: SealContent,
        spec: &WriteSpec,
        rules: Vec<lode_core::RuleCount>,
    ) -> Result<Written, Attempt> {
        let published = draft.commit(content).await?;
        let snapshot = published.tables.iter().find(|(name, _)| name == &spec.target).map(|(_, snapshot)| *snapshot);
        Ok(Written {
            epoch: published.epoch,
            table: None,
            snapshot: snapshot.unwrap_or(SnapshotId::NONE),
            rows: published.counts.rows_landed,
            rows_quarantined: published.counts.rows_quarantined,
            rows_dropped: published.counts.rows_dropped,
            rules,
        })
    }

    fn shared(&self, draft: &Draft, target: &Target, spec: &WriteSpec) -> Result<Shared, Problem> {
        Ok(Shared {
            store: self.catalog.store().clone(),
            attempt: draft.attempt(),
            epoch: draft.epoch(),
            now: self.catalog.now(),
            table: spec.target.clone(),
            location: target.location.clone(),
            definition: target.definition.clone(),
            quarantine: target.quarantine.clone(),
            expectations: Pass::compile(&self.sessions, Arc::clone(&target.incoming), &spec.expectations)?,
            constraints: Pass::constraints(&self.sessions, &target.definition)?,
            incoming: Arc::clone(&target.incoming),
        })
    }

    /// Every partition of the plan into files of its own, in parallel. With `Target::rewrite` the old rows follow.
    async fn append(&self, rows: Rows, shared: &Arc<Shared>, target: &Target) -> Result<LaneEnd, Problem> {
        let streams = self.partitions(rows).await?;
        let lanes = streams.into_iter().map(|stream| {
            let shared = Arc::clone(shared);
            self.cpu.spawn(async move {
                let mut lane = Lane::new(shared);
                let mut stream = stream;
                while let Some(batch) = stream.try_next().await? {
                    lane.write(&batch)?;
                }
                lane.finish()
            })
        });
        let lanes: Vec<_> = lanes.collect();
        let ends = future::try_join_all(lanes.into_iter().map(|lane| async move { lane.join().await? })).await?;
        let mut end = LaneEnd::sum(shared, ends);
        if target.rewrite {
            end.take(self.rewrite_all(target, shared, None).await?);
        }
        Ok(end)
    }

    async fn partitions(&self, rows: Rows) -> Result<Vec<BatchStream>, Problem> {
        let prepared = match rows {
            Rows::Batches { rows, .. } => return Ok(vec![rows]),
            Rows::Plan(prepared) => prepared,
        };
        let planned = Planned::of(&prepared)?;
        self.cpu
            .run(async move {
                let physical = planned.physical(&prepared.sql).await?;
                let origin = planned.session.origin.clone();
                let streams = execute_stream_partitioned(physical, planned.state.task_ctx())
                    .map_err(|error| problem::explain(error, &prepared.sql, &origin))?;
                let explain = move |stream: datafusion::physical_plan::SendableRecordBatchStream| {
                    let (sql, origin) = (prepared.sql.clone(), origin.clone());
                    stream.map_err(move |error| problem::explain(error, &sql, &origin)).boxed()
                };
                Ok(streams.into_iter().map(explain).collect())
            })
            .await
    }

    /// All rows as one stream, for a merge.
    async fn one_stream(&self, rows: Rows) -> Result<BatchStream, Problem> {
        let prepared = match rows {
            Rows::Batches { rows, .. } => return Ok(rows),
            Rows::Plan(prepared) => prepared,
        };
        let planned = Planned::of(&prepared)?;
        self.cpu
            .run(async move {
                let physical = planned.physical(&prepared.sql).await?;
                let origin = planned.session.origin.clone();
                let stream = execute_stream(physical, planned.state.task_ctx())
                    .map_err(|error| problem::explain(error, &prepared.sql, &origin))?;
                Ok(stream.map_err(move |error| problem::explain(error, &prepared.sql, &origin)).boxed())
            })
            .await
    }
}

/// The changes of the epoch's tables: the target, and its quarantine if rows were rejected.
/// What was written after looking at the target holds for no other rows than those, also when none of them died.
fn changes(
    target: &Target,
    shared: &Shared,
    spec: &WriteSpec,
    author: Author,
    reads_target: bool,
    end: LaneEnd,
) -> Vec<TableChange> {
    let depends = target.base != SnapshotId::NONE && reads_target;
    let operation = match (&spec.mode, target.rewrite || depends || !end.removed.is_empty() || !end.dead.is_empty()) {
        (WriteMode::Replace, _) => Operation::Overwrite,
        (WriteMode::ReplacePartitions, _) => Operation::ReplacePartitions,
        (_, true) => Operation::Rewrite,
        (_, false) => Operation::Append,
    };
    let mut changes = vec![TableChange {
        table: spec.target.clone(),
        location: target.location.clone(),
        base: target.base,
        operation,
        definition: target.changed.clone(),
        add: end.files,
        remove: end.removed,
        dead: end.dead,
        label: author.label.to_owned(),
    }];
    let quarantine = &shared.quarantine;
    // A whole table is checked anew each time it is built: its quarantine holds what the newest build rejected.
    let is_replaced = spec.mode == WriteMode::Replace && quarantine.base != SnapshotId::NONE;
    if !end.quarantine_files.is_empty() || (is_replaced && quarantine.has_rows) {
        changes.push(TableChange {
            table: quarantine.definition.name.clone(),
            location: quarantine.location.clone(),
            base: quarantine.base,
            operation: if is_replaced { Operation::Overwrite } else { Operation::Append },
            definition: (quarantine.base == SnapshotId::NONE).then(|| quarantine.definition.clone()),
            add: end.quarantine_files,
            remove: Vec::new(),
            dead: Vec::new(),
            label: "WRITE".to_owned(),
        });
    }
    changes
}

/// Why one try at an epoch ended.
pub(crate) enum Attempt {
    /// Someone else sealed the epoch: nothing of ours happened.
    SealLost(CatalogError),
    Failed(Problem),
}

impl Attempt {
    pub(crate) fn into_problem(self) -> Problem {
        match self {
            Self::SealLost(error) => error.into(),
            Self::Failed(problem) => problem,
        }
    }
}

impl From<CatalogError> for Attempt {
    fn from(error: CatalogError) -> Self {
        match error {
            // Nothing was sealed in either case: the statement runs again on what is there now.
            CatalogError::SealLost { .. } | CatalogError::Conflict { .. } => Self::SealLost(error),
            other => Self::Failed(other.into()),
        }
    }
}

impl From<Problem> for Attempt {
    fn from(problem: Problem) -> Self {
        Self::Failed(problem)
    }
}

impl LaneEnd {
    pub(crate) fn counts(&self) -> Counts {
        Counts {
            rows_in: self.rows + self.rows_quarantined + self.rows_dropped,
            rows_landed: self.rows,
            rows_quarantined: self.rows_quarantined,
            rows_dropped: self.rows_dropped,
            rows_replayed: 0,
        }
    }
}
