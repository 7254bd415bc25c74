//! The table that a write goes to: its definition before and after, and where its rejects go.

use std::sync::Arc;

use arrow::datatypes::{Field, Schema, SchemaRef};

use lode_catalog::{Draft, RelationEntry, quarantine_schema};
use lode_core::{ErrorKind, KEY, Problem, SnapshotId, TableName, WriteMode, WriteSpec, sql_type};
use lode_lake::{DeltaTable, Evolution, SchemaPolicy, Snapshot, TableDefinition};

use super::conform::{is_assignable, storable};
use crate::engine::Inner;

/// A target, opened for one epoch.
pub(crate) struct Target {
    pub(crate) location: String,
    pub(crate) base: SnapshotId,
    /// The definition that the files are written in.
    pub(crate) definition: TableDefinition,
    /// The definition after the commit, if the commit changes it.
    pub(crate) changed: Option<TableDefinition>,
    /// The old rows must be written anew, as the change of definition cannot be made in place.
    pub(crate) rewrite: bool,
    pub(crate) replaces_view: bool,
    pub(crate) old: Option<Arc<Snapshot>>,
    /// Rows as they arrive, in types that can be stored.
    pub(crate) incoming: SchemaRef,
    pub(crate) quarantine: QuarantineTarget,
}

#[derive(Clone)]
pub(crate) struct QuarantineTarget {
    pub(crate) location: String,
    pub(crate) base: SnapshotId,
    pub(crate) definition: TableDefinition,
    pub(crate) has_rows: bool,
}

impl Target {
    pub(crate) async fn open(
        inner: &Inner,
        draft: &Draft,
        spec: &WriteSpec,
        incoming: &SchemaRef,
    ) -> Result<Self, Problem> {
        let incoming = storable(incoming);
        let quarantine = QuarantineTarget::open(inner, draft, &spec.target).await?;
        match inner.catalog.relation(&spec.target).await? {
            Some(RelationEntry::Table(entry)) => {
                let snapshot = inner.catalog.snapshot(&entry, None).await?;
                Self::existing(entry.location, snapshot, spec, &incoming, quarantine)
            }
            other => {
                let replaces_view = other.is_some();
                if replaces_view && spec.mode != WriteMode::Replace {
                    return Err(Problem::new(ErrorKind::Unsupported, format!("\"{}\" is a view", spec.target))
                        .fix("drop the view, or build the model with `--full-refresh`"));
                }
                let mut definition =
                    TableDefinition::create(spec.target.clone(), &incoming, spec.partition_by.clone())?;
                describe(&mut definition, spec);
                Ok(Self {
                    location: free_location(inner, draft, &spec.target).await?,
                    base: SnapshotId::NONE,
                    changed: Some(definition.clone()),
                    definition,
                    rewrite: false,
                    replaces_view,
                    old: None,
                    incoming,
                    quarantine,
                })
            }
        }
    }

    fn existing(
        location: String,
        snapshot: Arc<Snapshot>,
        spec: &WriteSpec,
        incoming: &SchemaRef,
        quarantine: QuarantineTarget,
    ) -> Result<Self, Problem> {
        snapshot.check_writable(&spec.target)?;
        let table = &snapshot.definition;
        let replaces = spec.mode == WriteMode::Replace;
        let policy = policy(spec)?;
        // A strict policy compares the types as they are; the others assign into the table's columns.
        let is_strict = replaces || matches!(policy, SchemaPolicy::Fail | SchemaPolicy::SyncAllColumns);
        let wanted = if is_strict { Arc::clone(incoming) } else { assigned(table, incoming)? };
        let wanted = with_nullability_of(table, &wanted);
        let policy = if replaces { SchemaPolicy::SyncAllColumns } else { policy };
        let (mut definition, mut is_changed, rewrite) = match table.evolve(&wanted, policy)? {
            Evolution::Same => (table.clone(), false, false),
            Evolution::InPlace(definition) => (definition, true, false),
            Evolution::Rewrite(definition) => (definition, true, !replaces),
        };
        if rewrite && spec.mode == WriteMode::ReplacePartitions {
            return Err(Problem::new(
                ErrorKind::Unsupported,
                format!("the columns of \"{}\" changed, and only some of its partitions are replaced", spec.target),
            )
            .fix("build the model with `--full-refresh`"));
        }
        if replaces && definition.partition_by != spec.partition_by {
            definition.partition_by.clone_from(&spec.partition_by);
            is_changed = true;
        }
        let before = (definition.properties.clone(), definition.comment.clone());
        describe(&mut definition, spec);
        is_changed |= before != (definition.properties.clone(), definition.comment.clone());
        Ok(Self {
            location,
            base: snapshot.version,
            changed: is_changed.then(|| definition.clone()),
            definition,
            rewrite,
            replaces_view: false,
            old: Some(snapshot),
            incoming: Arc::clone(incoming),
            quarantine,
        })
    }
}

impl QuarantineTarget {
    async fn open(inner: &Inner, draft: &Draft, table: &TableName) -> Result<Self, Problem> {
        let name = table.quarantine();
        if let Some(RelationEntry::Table(entry)) = inner.catalog.relation(&name).await? {
            let snapshot = inner.catalog.snapshot(&entry, None).await?;
            return Ok(Self {
                location: entry.location,
                base: snapshot.version,
                definition: snapshot.definition.clone(),
                has_rows: !snapshot.files.is_empty(),
            });
        }
        let definition = TableDefinition::create(name.clone(), &quarantine_schema(), Vec::new())?;
        let location = free_location(inner, draft, &name).await?;
        Ok(Self { location, base: SnapshotId::NONE, definition, has_rows: false })
    }
}

/// `<schema>/<table>`; with a suffix when a dropped table's files still lie there.
pub(crate) async fn free_location(inner: &Inner, draft: &Draft, name: &TableName) -> Result<String, Problem> {
    let plain = format!("{}/{}", name.schema, name.name);
    if DeltaTable::new(inner.catalog.store(), &plain).newest().await?.is_none() {
        return Ok(plain);
    }
    Ok(format!("{plain}-{}", &draft.attempt().0.simple().to_string()[..8]))
}

fn describe(definition: &mut TableDefinition, spec: &WriteSpec) {
    definition.properties.extend(spec.properties.iter().cloned());
    let is_column = |name: &String| definition.schema.field_with_name(name).is_ok();
    let key: Option<Vec<String>> = definition.properties.get(KEY).and_then(|key| serde_json::from_str(key).ok());
    let has_key = key.is_some_and(|key| !key.is_empty() && key.iter().all(is_column));
    // A table that is made anew has the key that it is given; others keep theirs.
    let is_given = spec.properties.iter().any(|(name, _)| name == KEY);
    if !has_key || (spec.mode == WriteMode::Replace && !is_given) {
        definition.properties.remove(KEY);
    }
    if spec.comment.is_some() {
        definition.comment.clone_from(&spec.comment);
    }
}

fn policy(spec: &WriteSpec) -> Result<SchemaPolicy, Problem> {
    match spec.on_schema_change.as_str() {
        "ignore" => Ok(SchemaPolicy::Ignore),
        "fail" => Ok(SchemaPolicy::Fail),
        "append_new_columns" => Ok(SchemaPolicy::AppendNewColumns),
        "sync_all_columns" => Ok(SchemaPolicy::SyncAllColumns),
        other => Err(Problem::new(ErrorKind::Config, format!("unknown on_schema_change \"{other}\""))
            .fix("use ignore, fail, append_new_columns or sync_all_columns")),
    }
}

/// Incoming columns that the table has, in the table's types. Errors: `TypeMismatch` naming both.
fn assigned(table: &TableDefinition, incoming: &SchemaRef) -> Result<SchemaRef, Problem> {
    let fields: Result<Vec<Field>, Problem> = incoming
        .fields()
        .iter()
        .map(|field| {
            let Ok(known) = table.schema.field_with_name(field.name()) else { return Ok(field.as_ref().clone()) };
            if !is_assignable(field.data_type(), known.data_type()) {
                let (from, to) = (sql_type::name_of(field), sql_type::name_of(known));
                return Err(Problem::new(
                    ErrorKind::TypeMismatch,
                    format!("column \"{}\" of \"{}\" is {to}, the rows have {from}", field.name(), table.name),
                )
                .fix(format!("cast it in the query: `{}::{to}`", field.name())));
            }
            Ok(Field::new(field.name(), known.data_type().clone(), true).with_metadata(known.metadata().clone()))
        })
        .collect();
    Ok(Arc::new(Schema::new(fields?)))
}

/// A result promises no NOT NULL, so it takes the table's word for known columns.
fn with_nullability_of(table: &TableDefinition, incoming: &SchemaRef) -> SchemaRef {
    let fields = incoming.fields().iter().map(|field| {
        let known = table.schema.field_with_name(field.name());
        field.as_ref().clone().with_nullable(known.map_or(true, Field::is_nullable))
    });
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}
