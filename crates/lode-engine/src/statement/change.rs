//! DELETE and UPDATE: the rows that they touch as a query, each with its place in the table.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use arrow::datatypes::{Field, Fields};
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{
    Assignment, AssignmentTarget, Delete, Expr, FromTable, Ident, Query, Select, SelectItem, SetExpr, Statement as Sql,
    TableFactor, TableWithJoins, Update, UpdateTableFromKind, VisitMut, VisitorMut,
};
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::parser::Parser;

use lode_catalog::{PipelineKind, RelationEntry};
use lode_core::{ErrorKind, Problem, SqlSession, TableName, nearest, sql_type};
use lode_lake::Snapshot;

use super::{StatementResult, names};
use crate::engine::Inner;
use crate::parse;
use crate::tables::positions::{FILE, POSITION};
use crate::write::{Author, NewRows, Repeats, RowChange};

/// Stands for the assigned value while its cast is parsed.
pub(super) const VALUE: &str = "_lode_value";

impl Inner {
    pub(super) async fn delete(
        self: &Arc<Self>,
        delete: Delete,
        sql: &str,
        session: &SqlSession,
    ) -> Result<StatementResult, Problem> {
        let refuse = |what: &str| Err(refused("delete", what));
        if delete.returning.is_some() {
            return refuse("returning");
        }
        if !delete.tables.is_empty() || delete.limit.is_some() || !delete.order_by.is_empty() {
            return refuse("with `limit`, `order by` or several tables");
        }
        let (FromTable::WithFromKeyword(tables) | FromTable::WithoutKeyword(tables)) = delete.from;
        let touched = self.touched(tables, session).await?;
        let from = [touched.table.clone()].into_iter().chain(delete.using.into_iter().flatten());
        let query = touched.query(from.collect(), Vec::new(), delete.selection)?;
        let change = RowChange { target: touched.name, query, new: NewRows::None, repeats: Repeats::Count };
        let author = Author { kind: PipelineKind::Statement, label: "DELETE" };
        let rows = self.change_rows(author, change, sql, session).await?;
        Ok(StatementResult::Done { tag: format!("DELETE {rows}"), rows: Some(rows) })
    }

    pub(super) async fn update(
        self: &Arc<Self>,
        update: Update,
        sql: &str,
        session: &SqlSession,
    ) -> Result<StatementResult, Problem> {
        let refuse = |what: &str| Err(refused("update", what));
        if update.returning.is_some() {
            return refuse("returning");
        }
        if update.limit.is_some() || !update.order_by.is_empty() || update.or.is_some() {
            return refuse("with `limit`, `order by` or `or`");
        }
        let touched = self.touched(vec![update.table], session).await?;
        let mut assigned = touched.assignments(update.assignments)?;
        let columns: Result<Vec<SelectItem>, Problem> = touched
            .fields()
            .iter()
            .map(|field| Ok(named(touched.updated(field, &mut assigned)?, field.name())))
            .collect();
        let others = match update.from {
            Some(UpdateTableFromKind::AfterSet(tables) | UpdateTableFromKind::BeforeSet(tables)) => tables,
            None => Vec::new(),
        };
        let repeats = if others.is_empty() { Repeats::Count } else { Repeats::Refuse };
        let from = [touched.table.clone()].into_iter().chain(others);
        let query = touched.query(from.collect(), columns?, update.selection)?;
        let change = RowChange { target: touched.name, query, new: NewRows::All, repeats };
        let author = Author { kind: PipelineKind::Statement, label: "UPDATE" };
        let rows = self.change_rows(author, change, sql, session).await?;
        Ok(StatementResult::Done { tag: format!("UPDATE {rows}"), rows: Some(rows) })
    }

    /// The table of a statement that changes rows.
    pub(super) async fn touched(
        &self,
        mut tables: Vec<TableWithJoins>,
        session: &SqlSession,
    ) -> Result<Touched, Problem> {
        let (Some(table), true) = (tables.pop(), tables.is_empty()) else {
            return Err(refused("change", "of several tables"));
        };
        let TableFactor::Table { name, alias, args: None, .. } = &table.relation else {
            return Err(refused("change", "of what is no table"));
        };
        if !table.joins.is_empty() {
            return Err(refused("change", "of a join"));
        }
        let target = names::relation(name, session)?;
        let alias = match alias {
            Some(alias) => alias.name.clone(),
            None => Ident::with_quote('"', &target.name),
        };
        match self.catalog.relation(&target).await? {
            Some(RelationEntry::Table(entry)) => {
                let snapshot = self.catalog.snapshot(&entry, None).await?;
                Ok(Touched { name: target, alias, table, snapshot })
            }
            Some(RelationEntry::View(_)) => {
                Err(Problem::new(ErrorKind::Unsupported, format!("\"{target}\" is a view")).fix("change its table"))
            }
            None => Err(self.no_relation(&target).await),
        }
    }
}

pub(super) fn refused(verb: &str, what: &str) -> Problem {
    Problem::new(ErrorKind::Unsupported, format!("`{verb} … {what}` is not supported"))
        .fix("name one table, and find the rows by `where`, in which a subquery may read others")
}

pub(super) struct Touched {
    pub(super) name: TableName,
    pub(super) alias: Ident,
    pub(super) table: TableWithJoins,
    snapshot: Arc<Snapshot>,
}

pub(super) fn named(expr: Expr, name: &str) -> SelectItem {
    SelectItem::ExprWithAlias { expr, alias: Ident::with_quote('"', name) }
}

impl Touched {
    pub(super) fn fields(&self) -> &Fields {
        self.snapshot.schema().fields()
    }

    pub(super) fn column(&self, name: &str) -> Expr {
        Expr::CompoundIdentifier(vec![self.alias.clone(), Ident::with_quote('"', name)])
    }

    /// The value of a column behind an UPDATE.
    pub(super) fn updated(&self, field: &Field, assigned: &mut BTreeMap<String, Expr>) -> Result<Expr, Problem> {
        match assigned.remove(field.name()) {
            Some(value) => as_assigned(value, &sql_type::name_of(field)),
            None => Ok(self.column(field.name())),
        }
    }

    /// Errors: `Undefined` with the nearest name.
    pub(super) fn known(&self, column: &str) -> Result<(), Problem> {
        if self.snapshot.schema().field_with_name(column).is_ok() {
            return Ok(());
        }
        let fields = self.fields().iter().map(|field| field.name().as_str());
        let problem = Problem::new(ErrorKind::Undefined, format!("\"{}\" has no column \"{column}\"", self.name));
        Err(match nearest(column, fields) {
            Some(near) => problem.fix(format!("did you mean \"{near}\"?")),
            None => problem.fix(format!("`describe {}` lists its columns", self.name)),
        })
    }

    /// Assigned values by column. Errors: `Undefined`, `Unsupported`.
    pub(super) fn assignments(&self, assignments: Vec<Assignment>) -> Result<BTreeMap<String, Expr>, Problem> {
        let mut values = BTreeMap::new();
        for Assignment { target, value } in assignments {
            let column = match &target {
                AssignmentTarget::ColumnName(name) => name.0.last().and_then(|part| part.as_ident()).map(names::folded),
                AssignmentTarget::Tuple(_) => None,
            };
            let Some(column) = column else { return Err(refused("update", "set (a, b) = …")) };
            self.known(&column)?;
            if values.insert(column.clone(), or_default(value)?).is_some() {
                return Err(Problem::new(ErrorKind::Syntax, format!("column \"{column}\" is set twice"))
                    .fix("take one of the two out"));
            }
        }
        Ok(values)
    }

    /// `select file, position, columns… from tables where selection`.
    pub(super) fn query(
        &self,
        from: Vec<TableWithJoins>,
        columns: Vec<SelectItem>,
        selection: Option<Expr>,
    ) -> Result<Statement, Problem> {
        let mut query = skeleton("select 1 from x")?;
        let select = select_of(&mut query)?;
        let place = [FILE, POSITION].map(|name| SelectItem::UnnamedExpr(self.column(name)));
        select.projection = place.into_iter().chain(columns).collect();
        select.from = from;
        select.selection = selection;
        Ok(Statement::Statement(Box::new(Sql::Query(query))))
    }
}

/// A query of ours, whose parts are exchanged for those of a statement.
pub(super) fn skeleton(sql: &str) -> Result<Box<Query>, Problem> {
    let parsed = Parser::parse_sql(&PostgreSqlDialect {}, sql);
    match parsed.ok().and_then(|mut statements| statements.pop()) {
        Some(Sql::Query(query)) => Ok(query),
        _ => Err(Problem::internal("a query could not be made")),
    }
}

pub(super) fn select_of(query: &mut Query) -> Result<&mut Select, Problem> {
    match query.body.as_mut() {
        SetExpr::Select(select) => Ok(select),
        _ => Err(Problem::internal("a query could not be made")),
    }
}

/// A value of an assignment; the word `default` is NULL, as columns have no other.
pub(super) fn or_default(value: Expr) -> Result<Expr, Problem> {
    let is_default = matches!(&value, Expr::Identifier(word) if word.quote_style.is_none() && word.value.eq_ignore_ascii_case("default"));
    if is_default { Ok(parse::expression("null", "<sql>")?.expr) } else { Ok(value) }
}

/// Puts an expression where `VALUE` stands.
pub(super) struct Put(pub(super) Option<Expr>);

impl VisitorMut for Put {
    type Break = ();

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if matches!(expr, Expr::Identifier(word) if word.value == VALUE)
            && let Some(value) = self.0.take()
        {
            *expr = value;
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    }
}

/// A value cast to the type of its column. Text is not cut: too long a text is an error of the column.
pub(super) fn as_assigned(value: Expr, sql_type: &str) -> Result<Expr, Problem> {
    // The planner casts lists and composites by itself.
    if sql_type.ends_with("[]") || sql_type.starts_with("struct<") || sql_type.starts_with("map") {
        return Ok(value);
    }
    let is_text = ["text", "varchar", "char", "bpchar"].iter().any(|name| sql_type.starts_with(name));
    let wanted = if is_text { "text" } else { sql_type };
    let mut cast = parse::expression(&format!("cast({VALUE} as {wanted})"), "<sql>")?.expr;
    let _ = cast.visit(&mut Put(Some(value)));
    Ok(cast)
}
