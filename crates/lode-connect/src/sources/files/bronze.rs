//! The tables that a source lands in: found or made, with the schema that the first landing froze.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use arrow::datatypes::{Field, Schema, SchemaRef};

use lode_catalog::{Catalog, Pipeline, RelationEntry, quarantine_schema};
use lode_core::{EXPOSE, ErrorKind, Place, Problem, SnapshotId, TableName, sql_type, task};
use lode_lake::{DataFile, DeltaTable, Evolution, Operation, SchemaPolicy, TableChange, TableDefinition};

use super::rows::bronze_schema;
use crate::config::{Ingest, is_reserved};
use crate::decode::{self, DecodePlan};

/// Property of a bronze table: `true` if its columns were inferred, so that misfits go to `_rescued`.
const INFERRED: &str = "lode.ingest.inferred";
/// Property of a bronze table: name of its ingest when it was made.
const SOURCE: &str = "lode.ingest.source";
/// `infer` looks at so many files at once.
const SAMPLE_FILES: usize = 16;

/// One table that an epoch may add to.
#[derive(Debug, Clone)]
pub(crate) struct TableTarget {
    pub(crate) name: TableName,
    pub(crate) location: String,
    pub(crate) base: SnapshotId,
    pub(crate) definition: TableDefinition,
    /// The commit has to write the definition: the table is new, or its columns changed.
    has_new_definition: bool,
}

/// Where an epoch of a source lands, and how its files become rows.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    /// Its columns may be NULL all: NOT NULL is checked on the rows, where a breach costs one row.
    pub(crate) plan: DecodePlan,
    pub(crate) not_null: Vec<String>,
    pub(crate) bronze: TableTarget,
    pub(crate) quarantine: TableTarget,
    /// With `on_schema_change: fail`: the columns that a file may have.
    pub(crate) allowed_columns: Option<Arc<Vec<String>>>,
}

impl TableTarget {
    /// The change that adds `files`. Also without files it is one if the definition is new.
    pub(crate) fn append(&self, files: Vec<DataFile>) -> TableChange {
        self.change(Operation::Append, files, Vec::new(), "WRITE")
    }

    pub(crate) fn change(
        &self,
        operation: Operation,
        add: Vec<DataFile>,
        remove: Vec<String>,
        label: &str,
    ) -> TableChange {
        TableChange {
            table: self.name.clone(),
            location: self.location.clone(),
            base: self.base,
            operation,
            definition: self.has_new_definition.then(|| self.definition.clone()),
            add,
            remove,
            dead: Vec::new(),
            label: label.to_owned(),
        }
    }

    pub(crate) fn is_changed_by(&self, files: &[DataFile]) -> bool {
        self.has_new_definition || !files.is_empty()
    }
}

/// Finds or defines the tables of a source. `samples` are files that are about to land: the first ones decide the columns.
/// Errors: `Conflict` if another pipeline writes the table, `TypeMismatch` if declared columns do not fit it, `Data` if no
/// sample has a column, `NotFound` if it does not exist and there are no samples.
pub(crate) async fn target(
    catalog: &Arc<Catalog>,
    pipeline: &Pipeline,
    ingest: &Ingest,
    samples: Vec<PathBuf>,
) -> Result<Target, Problem> {
    let found = existing(catalog, pipeline, &ingest.table).await?;
    let quarantine = match existing(catalog, pipeline, &ingest.table.quarantine()).await? {
        Some(table) => table,
        None => fresh(catalog, ingest.table.quarantine(), &quarantine_schema(), BTreeMap::new()).await?,
    };
    let (mut plan, mut bronze) = match found {
        Some(table) => continued(ingest, table, samples).await?,
        None => first_landing(catalog, ingest, samples).await?,
    };
    show_as(ingest, &mut bronze);
    let not_null = not_null(&plan.schema);
    plan.keep_raw = !ingest.expectations.is_empty() || !not_null.is_empty();
    plan.schema = nullable(&plan.schema);
    plan.columns = plan.columns.as_ref().map(|_| Arc::clone(&plan.schema));
    let allowed_columns = (ingest.on_schema_change == SchemaPolicy::Fail)
        .then(|| Arc::new(plan.schema.fields().iter().map(|field| field.name().to_lowercase()).collect()));
    Ok(Target { plan, not_null, bronze, quarantine, allowed_columns })
}

/// Puts the formats that the table is to be shown in among its properties.
fn show_as(ingest: &Ingest, table: &mut TableTarget) {
    let Some(formats) = &ingest.expose else { return };
    let formats = formats.join(",");
    let known = table.definition.properties.get(EXPOSE);
    if known != Some(&formats) && !(known.is_none() && formats == "delta") {
        table.definition.properties.insert(EXPOSE.to_owned(), formats);
        table.has_new_definition = true;
    }
}

fn not_null(schema: &Schema) -> Vec<String> {
    schema.fields().iter().filter(|field| !field.is_nullable()).map(|field| field.name().clone()).collect()
}

fn nullable(schema: &Schema) -> SchemaRef {
    let fields = schema.fields().iter().map(|field| field.as_ref().clone().with_nullable(true));
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

/// The table as published. Errors: `Conflict` if it is not this pipeline's to write, `Blocked` if it has constraints.
pub(crate) async fn existing(
    catalog: &Arc<Catalog>,
    pipeline: &Pipeline,
    name: &TableName,
) -> Result<Option<TableTarget>, Problem> {
    let conflict = |what: String| {
        Problem::new(ErrorKind::Conflict, what)
            .at(Place::of(name.to_string()))
            .fix("choose another `table:` for the ingest, or drop this one")
    };
    let entry = match catalog.relation(name).await? {
        None => return Ok(None),
        Some(RelationEntry::View(_)) => return Err(conflict(format!("\"{name}\" is a view"))),
        Some(RelationEntry::Table(entry)) => entry,
    };
    if entry.pipeline != Some(pipeline.id) {
        return Err(conflict(format!(
            "table \"{name}\" is written by something else than ingest \"{}\"",
            pipeline.name
        )));
    }
    let snapshot = catalog.snapshot(&entry, None).await?;
    snapshot.check_writable(name)?;
    if let Some(check) = snapshot.definition.constraints.first() {
        let what = format!("table \"{name}\" has the constraint \"{}\", which an ingest cannot check", check.name);
        return Err(Problem::new(ErrorKind::Blocked, what)
            .at(Place::of(format!("CHECK ({})", check.expression)))
            .fix("drop the constraint, and put it under `contract: {expectations: …}` of the ingest"));
    }
    Ok(Some(TableTarget {
        name: name.clone(),
        location: entry.location,
        base: snapshot.version,
        definition: snapshot.definition.clone(),
        has_new_definition: false,
    }))
}

/// A table that the epoch will make, in a folder that no table was ever in.
async fn fresh(
    catalog: &Arc<Catalog>,
    name: TableName,
    schema: &Schema,
    properties: BTreeMap<String, String>,
) -> Result<TableTarget, Problem> {
    let mut definition = TableDefinition::create(name.clone(), schema, Vec::new())?;
    definition.properties.extend(properties);
    let mut location = format!("{}/{}", name.schema, name.name);
    // A dropped table's folder stays until vacuum; its log must not be continued.
    for number in 2.. {
        if DeltaTable::new(catalog.store(), &location).newest().await?.is_none() {
            break;
        }
        location = format!("{}/{}-{number}", name.schema, name.name);
    }
    Ok(TableTarget { name, location, base: SnapshotId::NONE, definition, has_new_definition: true })
}

async fn first_landing(
    catalog: &Arc<Catalog>,
    ingest: &Ingest,
    samples: Vec<PathBuf>,
) -> Result<(DecodePlan, TableTarget), Problem> {
    let plan = match &ingest.columns {
        Some(columns) => declared_plan(ingest, Arc::clone(columns)),
        None => {
            if samples.is_empty() {
                return Err(Problem::new(
                    ErrorKind::NotFound,
                    format!("table \"{}\" does not exist yet", ingest.table),
                ));
            }
            infer(ingest, samples).await?
        }
    };
    if let Some(field) = plan.schema.fields().iter().find(|field| is_reserved(field.name())) {
        return Err(Problem::new(
            ErrorKind::Unsupported,
            format!("the files have a column \"{}\", a name that Lode adds itself", field.name()),
        )
        .at(Place::of(format!("ingest \"{}\"", ingest.name)))
        .fix("rename the column in the files"));
    }
    let properties = [(INFERRED, plan.is_inferred.to_string()), (SOURCE, ingest.name.clone())];
    let properties = properties.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
    let schema = bronze_schema(&plan.output_schema(), &not_null(&plan.schema));
    let table = fresh(catalog, ingest.table.clone(), &schema, properties).await?;
    Ok((plan, table))
}

/// The plan for a table that exists: its own columns, plus what the declaration or `append_new_columns` adds.
async fn continued(
    ingest: &Ingest,
    mut table: TableTarget,
    samples: Vec<PathBuf>,
) -> Result<(DecodePlan, TableTarget), Problem> {
    let was_inferred = table.definition.properties.get(INFERRED).is_some_and(|value| value == "true");
    let frozen = payload(&table.definition.schema);
    let mut plan = match &ingest.columns {
        Some(columns) => declared_plan(ingest, Arc::clone(columns)),
        None if was_inferred => DecodePlan {
            format: ingest.format.clone(),
            columns: None,
            schema: Arc::new(frozen.clone()),
            timezone: ingest.timezone,
            is_inferred: true,
            keep_raw: false,
        },
        None => declared_plan(ingest, Arc::new(frozen.clone())),
    };
    if ingest.on_schema_change == SchemaPolicy::AppendNewColumns && !samples.is_empty() {
        let added = new_columns(ingest, samples, &plan.schema).await?;
        if !added.is_empty() {
            plan = extended(&plan, added);
        }
    }
    // Our own words of the change: what is there already, as declared, and what is new. Nothing is ever dropped.
    let declared = |name: &str| plan.schema.fields().iter().find(|field| field.name() == name);
    let there = table.definition.schema.fields().iter();
    let there = there.map(|field| declared(field.name()).map_or(field, |field| field));
    let new = plan.schema.fields().iter().filter(|field| frozen.column_with_name(field.name()).is_none());
    let incoming: Vec<_> = there.chain(new).cloned().collect();
    match table.definition.evolve(&Schema::new(incoming), SchemaPolicy::SyncAllColumns)? {
        Evolution::Same => {}
        Evolution::InPlace(definition) => {
            table.definition = definition;
            table.has_new_definition = true;
        }
        Evolution::Rewrite(_) => return Err(misfit(ingest, &frozen, &plan.schema)),
    }
    if let Some(definition) = loosened(&table.definition, &plan.schema) {
        table.definition = definition;
        table.has_new_definition = true;
    }
    Ok((plan, table))
}

/// The definition without NOT NULL on columns that may be NULL by now: what is there holds all the same.
fn loosened(definition: &TableDefinition, declared: &Schema) -> Option<TableDefinition> {
    let mut is_changed = false;
    let fields = definition.schema.fields().iter().map(|field| {
        let is_loose = declared.column_with_name(field.name()).is_some_and(|(_, column)| column.is_nullable());
        is_changed |= is_loose && !field.is_nullable();
        Arc::new(field.as_ref().clone().with_nullable(is_loose || field.is_nullable()))
    });
    let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    is_changed.then(|| TableDefinition { schema, ..definition.clone() })
}

fn declared_plan(ingest: &Ingest, columns: SchemaRef) -> DecodePlan {
    DecodePlan {
        format: ingest.format.clone(),
        columns: Some(Arc::clone(&columns)),
        schema: columns,
        timezone: ingest.timezone,
        is_inferred: false,
        keep_raw: false,
    }
}

fn extended(plan: &DecodePlan, added: Vec<Arc<Field>>) -> DecodePlan {
    let schema: SchemaRef =
        Arc::new(Schema::new(plan.schema.fields().iter().cloned().chain(added).collect::<Vec<_>>()));
    let columns = plan.columns.as_ref().map(|_| Arc::clone(&schema));
    DecodePlan { schema, columns, ..plan.clone() }
}

/// The columns that came from the files, with the marks that give SQL types back and without the table's field ids.
fn payload(schema: &Schema) -> Schema {
    let fields = schema.fields().iter().filter(|field| !is_reserved(field.name())).map(|field| {
        let mark = field.metadata().get(sql_type::SQL_TYPE_MARK).cloned();
        let metadata = mark.map(|mark| (sql_type::SQL_TYPE_MARK.to_owned(), mark)).into_iter().collect();
        Arc::new(field.as_ref().clone().with_metadata(metadata))
    });
    Schema::new(fields.collect::<Vec<_>>())
}

async fn infer(ingest: &Ingest, samples: Vec<PathBuf>) -> Result<DecodePlan, Problem> {
    let (format, timezone) = (ingest.format.clone(), ingest.timezone);
    task::cpu("infer", move || {
        // The first files decide; if none of them has a column, the next ones do.
        let mut answer = decode::infer(&[], &format, None, timezone);
        for samples in samples.chunks(SAMPLE_FILES) {
            answer = decode::infer(samples, &format, None, timezone);
            if answer.is_ok() {
                break;
            }
        }
        answer
    })
    .await?
}

/// Columns that the files have and `known` has not, with inferred types.
async fn new_columns(ingest: &Ingest, samples: Vec<PathBuf>, known: &SchemaRef) -> Result<Vec<Arc<Field>>, Problem> {
    let (format, timezone, known) = (ingest.format.clone(), ingest.timezone, Arc::clone(known));
    task::cpu("infer", move || {
        let mut names: Vec<String> = known.fields().iter().map(|field| field.name().to_lowercase()).collect();
        let mut added = Vec::new();
        for samples in samples.chunks(SAMPLE_FILES) {
            // Files that cannot be read are dealt with when they are decoded.
            let Ok(plan) = decode::infer(samples, &format, None, timezone) else { continue };
            for field in plan.schema.fields() {
                let name = field.name().to_lowercase();
                if !is_reserved(&name) && !names.contains(&name) {
                    names.push(name);
                    added.push(Arc::clone(field));
                }
            }
        }
        added
    })
    .await
}

fn misfit(ingest: &Ingest, table: &Schema, declared: &Schema) -> Problem {
    let differs = declared.fields().iter().find_map(|field| {
        let (_, there) = table.column_with_name(field.name())?;
        (there.data_type() != field.data_type()).then(|| (field, sql_type::name_of(there), sql_type::name_of(field)))
    });
    let what = match differs {
        Some((field, from, to)) => {
            format!("column \"{}\" of table \"{}\" changed from {from} to {to}", field.name(), ingest.table)
        }
        None => format!("the declared columns do not fit table \"{}\"", ingest.table),
    };
    Problem::new(ErrorKind::TypeMismatch, what)
        .at(Place::of(format!("`columns` of ingest \"{}\"", ingest.name)))
        .fix("keep the old type and cast in a model, or land in another table")
}
