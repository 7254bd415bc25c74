//! INSERT.

use std::sync::Arc;

use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{Insert, TableObject};

use lode_catalog::{PipelineKind, RelationEntry};
use lode_core::{ErrorKind, Problem, SqlSession, WriteMode, WriteSpec};

use super::{StatementResult, names};
use crate::engine::Inner;
use crate::tables::resolve;
use crate::write::{Author, Rows};

impl Inner {
    pub(super) async fn insert(
        self: &Arc<Self>,
        insert: &Insert,
        statement: &Statement,
        sql: &str,
        session: &SqlSession,
    ) -> Result<StatementResult, Problem> {
        let refuse = |what: &str| {
            Err(Problem::new(ErrorKind::Unsupported, format!("`insert … {what}` is not supported"))
                .fix("insert rows from `values` or a `select`; a model with `unique_key` replaces rows by key"))
        };
        if insert.on.is_some() {
            return refuse("on conflict");
        }
        if insert.returning.is_some() {
            return refuse("returning");
        }
        let TableObject::TableName(name) = &insert.table else { return refuse("into a function") };
        let Some(source) = &insert.source else { return refuse("default values") };
        let target = names::relation(name, session)?;
        match self.catalog.relation(&target).await? {
            Some(RelationEntry::Table(_)) => {}
            Some(RelationEntry::View(_)) => {
                return Err(Problem::new(ErrorKind::Unsupported, format!("\"{target}\" is a view"))
                    .fix("insert into its table"));
            }
            None => return Err(self.no_relation(&target).await),
        }
        let mut prepared = self.plan_insert(statement.clone(), sql, session, &target).await?;
        // Planned again from its own text, without its neighbours, should the epoch be lost to another process.
        prepared.sql = statement.to_string();
        let query = datafusion::sql::sqlparser::ast::Statement::Query(source.clone());
        let read = resolve::names_in(&Statement::Statement(Box::new(query)), &session.default_schema)?;
        if !read.contains(&target) {
            prepared.inputs.retain(|input| input.table != target);
        }
        let spec = WriteSpec::new(target, WriteMode::Append);
        let author = Author { kind: PipelineKind::Statement, label: "INSERT" };
        let written = self.write_as(author, Rows::Plan(prepared), &spec).await?;
        Ok(StatementResult::Done { tag: format!("INSERT 0 {}", written.rows), rows: Some(written.rows) })
    }
}
