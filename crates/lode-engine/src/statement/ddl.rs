//! CREATE and DROP of tables and views.

use std::sync::Arc;

use arrow::datatypes::{Field, Schema};
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{
    ColumnDef, ColumnOption, CreateTable, CreateView, Expr, ObjectType, Query, Statement as Sql, TableConstraint,
};

use lode_catalog::{CatalogChange, PipelineKind, RelationEntry, SealContent};
use lode_core::{
    ErrorKind, Place, Prepared, Problem, SnapshotId, SqlSession, TableName, WriteMode, WriteSpec, nearest, sql_type,
};
use lode_lake::{Constraint, Operation, TableChange, TableDefinition};

use super::{StatementResult, done, names};
use crate::engine::{Inner, entry_name};
use crate::expect::Pass;
use crate::functions::types;
use crate::parse;
use crate::tables::resolve;
use crate::write::{Attempt, Author, Rows, free_location};

impl Inner {
    pub(super) async fn create_table(
        self: &Arc<Self>,
        create: CreateTable,
        sql: &str,
        session: &SqlSession,
    ) -> Result<StatementResult, Problem> {
        let name = names::relation(&create.name, session)?;
        if create.temporary || create.external || create.like.is_some() || create.partition_by.is_some() {
            return Err(Problem::new(ErrorKind::Unsupported, "this form of `create table` is not supported")
                .fix("write `create table t (column type, …)` or `create table t as select …`"));
        }
        if let Some(entry) = self.catalog.relation(&name).await? {
            if create.if_not_exists {
                return Ok(done("CREATE TABLE"));
            }
            if !create.or_replace || create.query.is_none() {
                return Err(already_there(&entry));
            }
        }
        if let Some(query) = create.query {
            if !create.columns.is_empty() {
                return Err(Problem::new(
                    ErrorKind::Unsupported,
                    "`create table … as` takes its columns from the query",
                )
                .fix("name and cast the columns in the `select`"));
            }
            let prepared = self.plan_query(*query, sql, session).await?;
            let author = Author { kind: PipelineKind::Statement, label: "CREATE TABLE AS SELECT" };
            let spec = WriteSpec::new(name, WriteMode::Replace);
            let written = self.write_as(author, Rows::Plan(prepared), &spec).await?;
            return Ok(StatementResult::Done { tag: format!("SELECT {}", written.rows), rows: Some(written.rows) });
        }
        let definition = define(&name, &create.columns, &create.constraints)?;
        Pass::constraints(&self.sessions, &definition)?;
        self.put_table(&name, definition).await?;
        Ok(done("CREATE TABLE"))
    }

    async fn put_table(&self, name: &TableName, definition: TableDefinition) -> Result<(), Problem> {
        let pipeline = self.catalog.pipeline(PipelineKind::Statement, &name.to_string(), None).await?;
        let draft = self.catalog.begin(&pipeline).await?;
        let change = TableChange {
            table: name.clone(),
            location: free_location(self, &draft, name).await?,
            base: SnapshotId::NONE,
            operation: Operation::Append,
            definition: Some(definition),
            add: Vec::new(),
            remove: Vec::new(),
            dead: Vec::new(),
            label: "CREATE TABLE".to_owned(),
        };
        let content = SealContent { tables: vec![change], ..SealContent::default() };
        draft.commit(content).await.map_err(|error| Attempt::from(error).into_problem())?;
        Ok(())
    }

    pub(super) async fn create_view(
        self: &Arc<Self>,
        create: CreateView,
        sql: &str,
        session: &SqlSession,
    ) -> Result<StatementResult, Problem> {
        let name = names::relation(&create.name, session)?;
        if create.materialized || create.temporary || !create.columns.is_empty() {
            return Err(Problem::new(ErrorKind::Unsupported, "this form of `create view` is not supported")
                .fix("write `create view v as select …` and name the columns in the `select`"));
        }
        match self.catalog.relation(&name).await? {
            Some(_) if create.if_not_exists => return Ok(done("CREATE VIEW")),
            Some(RelationEntry::View(_)) if create.or_replace => {}
            Some(entry) => return Err(already_there(&entry)),
            None => {}
        }
        let prepared = self.plan_query(*create.query, sql, session).await?;
        self.define_view_as(PipelineKind::Statement, &name, &prepared).await?;
        Ok(done("CREATE VIEW"))
    }

    /// Plans a query inside of another statement; its own text is kept for planning it again.
    async fn plan_query(self: &Arc<Self>, query: Query, sql: &str, session: &SqlSession) -> Result<Prepared, Problem> {
        let statement = Sql::Query(Box::new(query));
        let text = statement.to_string();
        let again = parse::statements(&text, &session.origin)?;
        let is_same = matches!(again.as_slice(), [Statement::Statement(parsed)] if **parsed == statement);
        if !is_same {
            return Err(Problem::new(ErrorKind::Unsupported, "this query cannot be kept as text").fix("simplify it"));
        }
        let mut prepared = self.plan(Statement::Statement(Box::new(statement)), sql, session).await?;
        prepared.sql = text;
        Ok(prepared)
    }

    pub(super) async fn drop_relations(
        &self,
        drop: Sql,
        sql: &str,
        session: &SqlSession,
    ) -> Result<StatementResult, Problem> {
        let Sql::Drop { object_type, if_exists, names: objects, cascade, .. } = drop else {
            return Err(Problem::internal("not a drop"));
        };
        let (tag, is_table) = match object_type {
            ObjectType::Table => ("DROP TABLE", true),
            ObjectType::View => ("DROP VIEW", false),
            other => return Err(super::unsupported(&format!("drop {other}"), sql, session)),
        };
        for object in &objects {
            let name = names::relation(object, session)?;
            match self.catalog.relation(&name).await? {
                None if if_exists => {}
                None => return Err(self.no_relation(&name).await),
                Some(RelationEntry::Table(_)) if !is_table => {
                    return Err(Problem::new(ErrorKind::TypeMismatch, format!("\"{name}\" is not a view"))
                        .fix(format!("write `drop table {name}`")));
                }
                Some(RelationEntry::View(_)) if is_table => {
                    return Err(Problem::new(ErrorKind::TypeMismatch, format!("\"{name}\" is not a table"))
                        .fix(format!("write `drop view {name}`")));
                }
                Some(entry) => {
                    if !cascade {
                        self.check_no_ingest(&entry).await?;
                    }
                    self.drop_one(&name, cascade).await?;
                }
            }
        }
        Ok(done(tag))
    }

    /// Errors: `Conflict` for the table of an ingest: its ledger would still hold the files as landed.
    async fn check_no_ingest(&self, entry: &RelationEntry) -> Result<(), Problem> {
        let RelationEntry::Table(table) = entry else { return Ok(()) };
        let pipelines = self.catalog.pipelines().await?;
        let ingest = pipelines
            .iter()
            .map(|status| &status.pipeline)
            .find(|pipeline| pipeline.kind == PipelineKind::Ingest && Some(pipeline.id) == table.pipeline);
        let Some(ingest) = ingest else { return Ok(()) };
        Err(Problem::new(
            ErrorKind::Conflict,
            format!("\"{}\" belongs to the ingest \"{}\", which knows its files as landed", table.name, ingest.name),
        )
        .fix(format!(
            "to land the files anew, give the ingest another `name` and `table` in lode.yml; if it is gone from there, \
             `drop table {} cascade`",
            table.name
        )))
    }

    async fn drop_one(&self, name: &TableName, cascade: bool) -> Result<(), Problem> {
        let mut dropped = vec![name.clone()];
        for entry in self.catalog.relations().await? {
            let RelationEntry::View(view) = &entry else { continue };
            if &view.name == name {
                continue;
            }
            let roots = [view.name.clone()].into();
            if !resolve::closure(&self.catalog, &roots).await?.contains_key(name) {
                continue;
            }
            if !cascade {
                return Err(Problem::new(ErrorKind::Conflict, format!("view \"{}\" stands on \"{name}\"", view.name))
                    .fix("drop the view first, or add `cascade`"));
            }
            dropped.push(view.name.clone());
        }
        let pipeline = self.catalog.pipeline(PipelineKind::Statement, &name.to_string(), None).await?;
        let draft = self.catalog.begin(&pipeline).await?;
        let catalog = dropped.into_iter().map(|name| CatalogChange::Drop { name }).collect();
        let content = SealContent { catalog, ..SealContent::default() };
        draft.commit(content).await.map_err(|error| Attempt::from(error).into_problem())?;
        Ok(())
    }

    /// The error for a relation that is not there, with the nearest one that is.
    pub(crate) async fn no_relation(&self, name: &TableName) -> Problem {
        let entries = self.catalog.relations().await.unwrap_or_default();
        let names: Vec<String> = entries.iter().map(|entry| entry_name(entry).to_string()).collect();
        let problem = Problem::new(ErrorKind::NotFound, format!("table \"{name}\" does not exist"));
        match nearest(&name.to_string(), names.iter().map(String::as_str)) {
            Some(near) => problem.fix(format!("did you mean \"{near}\"?")),
            None => problem.fix("`show tables` lists what there is"),
        }
    }
}

fn already_there(entry: &RelationEntry) -> Problem {
    let (kind, name) = match entry {
        RelationEntry::Table(table) => ("table", &table.name),
        RelationEntry::View(view) => ("view", &view.name),
    };
    Problem::new(ErrorKind::AlreadyExists, format!("{kind} \"{name}\" is already there"))
        .fix(format!("drop it first: `drop {kind} {name}`"))
}

fn define(
    name: &TableName,
    columns: &[ColumnDef],
    constraints: &[TableConstraint],
) -> Result<TableDefinition, Problem> {
    if columns.is_empty() {
        return Err(Problem::new(ErrorKind::Syntax, "a table needs columns")
            .fix("write `create table t (id bigint not null, name text)`"));
    }
    let mut checks = Vec::new();
    let mut fields = Vec::new();
    for column in columns {
        fields.push(field(name, column, &mut checks)?);
    }
    for constraint in constraints {
        match constraint {
            TableConstraint::Check(check) => {
                let given = check.name.as_ref().map(names::folded);
                checks.push(constraint_of(name, given, None, &check.expr, checks.len()));
            }
            other => return Err(not_enforced(&other.to_string())),
        }
    }
    let mut definition = TableDefinition::create(name.clone(), &Schema::new(fields), Vec::new())?;
    definition.constraints = checks;
    Ok(definition)
}

fn field(table: &TableName, column: &ColumnDef, checks: &mut Vec<Constraint>) -> Result<Field, Problem> {
    let name = names::folded(&column.name);
    let place = |problem: Problem| problem.at(Place::of(format!("column {name} of {table}")));
    if let Some(refused) = types::refused(&column.data_type) {
        return Err(place(refused));
    }
    let mut field = sql_type::field(&name, &column.data_type.to_string()).map_err(place)?;
    for option in &column.options {
        match &option.option {
            ColumnOption::Null => {}
            ColumnOption::NotNull => field = field.with_nullable(false),
            ColumnOption::Check(check) => {
                let given = option.name.as_ref().or(check.name.as_ref()).map(names::folded);
                checks.push(constraint_of(table, given, Some(&name), &check.expr, checks.len()));
            }
            other => return Err(place(not_enforced(&other.to_string()))),
        }
    }
    Ok(field)
}

/// Named as PostgreSQL names them: `<table>_<column>_check`.
fn constraint_of(
    table: &TableName,
    given: Option<String>,
    column: Option<&str>,
    expression: &Expr,
    before: usize,
) -> Constraint {
    let name = given.unwrap_or_else(|| match column {
        Some(column) => format!("{}_{column}_check", table.name),
        None => format!("{}_check{before}", table.name),
    });
    Constraint { name, expression: expression.to_string() }
}

fn not_enforced(what: &str) -> Problem {
    let what: String = what.chars().take(60).collect();
    Problem::new(ErrorKind::Unsupported, format!("`{}` is not supported", what.to_lowercase()))
        .fix("NOT NULL and CHECK are enforced; test uniqueness with a `unique` test of the model")
}
