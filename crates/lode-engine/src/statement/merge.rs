//! MERGE: a join of source and table that gives, for each row that an action meets, its place and its new form.
//! Source: PostgreSQL 15, "MERGE"; `not matched by source` as in 17.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use datafusion::sql::sqlparser::ast::helpers::attached_token::AttachedToken;
use datafusion::sql::sqlparser::ast::{
    CaseWhen, Expr, Ident, Merge, MergeAction, MergeClause, MergeClauseKind, MergeInsertExpr, MergeInsertKind,
    TableAlias, TableFactor, TableWithJoins, VisitMut, VisitorMut,
};

use lode_catalog::PipelineKind;
use lode_core::{ErrorKind, Problem, SqlSession, sql_type};

use super::change::{Put, Touched, VALUE, as_assigned, named, or_default, refused, select_of, skeleton};
use super::{StatementResult, names};
use crate::engine::Inner;
use crate::parse;
use crate::tables::positions::FILE;
use crate::write::{Author, NewRows, Repeats, RowChange};

/// Column of a source that is there in each of its rows.
const THERE: &str = "__lode_there";
/// The column that says whether a row has a new form.
const WRITES: &str = "__lode_writes";

/// One `when`: which rows it takes, and what becomes of them.
struct Branch {
    takes: Expr,
    action: Action,
}

enum Action {
    Update(BTreeMap<String, Expr>),
    Insert(BTreeMap<String, Expr>),
    Delete,
}

impl Inner {
    pub(super) async fn merge_into(
        self: &Arc<Self>,
        merge: Merge,
        sql: &str,
        session: &SqlSession,
    ) -> Result<StatementResult, Problem> {
        if merge.output.is_some() {
            return Err(refused("merge", "output"));
        }
        let target = TableWithJoins { relation: merge.table, joins: Vec::new() };
        let touched = self.touched(vec![target], session).await?;
        let has = |kind| merge.clauses.iter().any(|clause| clause.clause_kind == kind);
        let keeps_old = has(MergeClauseKind::NotMatchedBySource);
        let keeps_new = has(MergeClauseKind::NotMatched) || has(MergeClauseKind::NotMatchedByTarget);
        let source = Source::new(merge.source, keeps_old)?;
        let branches: Result<Vec<Branch>, Problem> =
            merge.clauses.into_iter().map(|clause| touched.branch(clause, &source, keeps_old)).collect();
        let branches = branches?;
        let join = match (keeps_new, keeps_old) {
            (false, false) => "inner",
            (true, false) => "left",
            (false, true) => "right",
            (true, true) => "full",
        };
        let from = joined(source.table, touched.table.relation.clone(), *merge.on, join)?;
        let writes = case(branches.iter().map(|branch| (branch.takes.clone(), literal(branch.writes()))))?;
        let mut columns = vec![named(writes.clone(), WRITES)];
        let mut actions: Vec<(Expr, Action)> =
            branches.into_iter().map(|branch| (branch.takes, branch.action)).collect();
        for field in touched.fields() {
            let name = sql_type::name_of(field);
            let values = actions.iter_mut().map(|(takes, action)| {
                let value = match action {
                    Action::Update(assigned) => touched.updated(field, assigned)?,
                    Action::Insert(values) => match values.remove(field.name()) {
                        Some(value) => as_assigned(value, &name)?,
                        None => as_assigned(parse::expression("null", "<sql>")?.expr, &name)?,
                    },
                    // Not written: any value of the right type.
                    Action::Delete => touched.column(field.name()),
                };
                Ok((takes.clone(), value))
            });
            let values: Result<Vec<(Expr, Expr)>, Problem> = values.collect();
            columns.push(named(case(values?)?, field.name()));
        }
        let acts = Expr::IsNotNull(Box::new(writes));
        let query = touched.query(vec![from], columns, Some(acts))?;
        let change = RowChange { target: touched.name, query, new: NewRows::Marked, repeats: Repeats::Refuse };
        let author = Author { kind: PipelineKind::Statement, label: "MERGE" };
        let rows = self.change_rows(author, change, sql, session).await?;
        Ok(StatementResult::Done { tag: format!("MERGE {rows}"), rows: Some(rows) })
    }
}

impl Branch {
    fn writes(&self) -> bool {
        !matches!(self.action, Action::Delete)
    }
}

/// The source of a merge.
struct Source {
    table: TableFactor,
    /// What its columns may be called by; `None` for a subquery without a name.
    alias: Option<Ident>,
}

impl Source {
    /// With `marked`, the source has one column more, by which a joined row tells that it has a part of the source.
    fn new(table: TableFactor, marked: bool) -> Result<Self, Problem> {
        let alias = match &table {
            TableFactor::Table { alias: Some(alias), .. }
            | TableFactor::Derived { alias: Some(alias), .. }
            | TableFactor::TableFunction { alias: Some(alias), .. } => Some(alias.name.clone()),
            TableFactor::Table { name, .. } => name.0.last().and_then(|part| part.as_ident()).cloned(),
            _ => None,
        };
        if !marked {
            return Ok(Self { table, alias });
        }
        let Some(name) = alias else {
            return Err(
                Problem::new(ErrorKind::Syntax, "the source of a merge has no name").fix("write `using (…) as s`")
            );
        };
        let mut subquery = skeleton(&format!("select *, true as {THERE} from x"))?;
        select_of(&mut subquery)?.from = vec![TableWithJoins { relation: table, joins: Vec::new() }];
        let alias = TableAlias { explicit: true, name: name.clone(), columns: Vec::new(), at: None };
        let table = TableFactor::Derived { lateral: false, subquery, alias: Some(alias), sample: None };
        Ok(Self { table, alias: Some(name) })
    }

    fn is_there(&self) -> Result<Expr, Problem> {
        let alias = self.alias.clone().ok_or_else(|| Problem::internal("a merge has no source"))?;
        let there = Expr::CompoundIdentifier(vec![alias, Ident::with_quote('"', THERE)]);
        Ok(Expr::IsNotNull(Box::new(there)))
    }
}

impl Touched {
    fn branch(&self, clause: MergeClause, source: &Source, marked: bool) -> Result<Branch, Problem> {
        let is_old = Expr::IsNotNull(Box::new(self.column(FILE)));
        let is_new = Expr::IsNull(Box::new(self.column(FILE)));
        let (takes, visible) = match clause.clause_kind {
            MergeClauseKind::Matched if marked => (both(is_old, source.is_there()?)?, None),
            MergeClauseKind::Matched => (is_old, None),
            MergeClauseKind::NotMatched | MergeClauseKind::NotMatchedByTarget => (is_new, source.alias.as_ref()),
            MergeClauseKind::NotMatchedBySource => {
                let Expr::IsNotNull(there) = source.is_there()? else {
                    return Err(Problem::internal("a merge has no source"));
                };
                (Expr::IsNull(there), Some(&self.alias))
            }
        };
        let is_insert = matches!(&clause.action, MergeAction::Insert(_));
        let is_for_new =
            matches!(clause.clause_kind, MergeClauseKind::NotMatched | MergeClauseKind::NotMatchedByTarget);
        if is_insert != is_for_new {
            return Err(Problem::new(ErrorKind::Syntax, format!("`{clause}` has no meaning"))
                .fix("rows that match are updated or deleted, rows that do not are inserted"));
        }
        let takes = match clause.predicate {
            Some(predicate) => both(takes, of(visible, predicate))?,
            None => takes,
        };
        let action = match clause.action {
            MergeAction::Insert(insert) => Action::Insert(self.inserted(insert, visible)?),
            MergeAction::Update(update) => {
                if update.update_predicate.is_some() || update.delete_predicate.is_some() {
                    return Err(refused("merge", "update … where"));
                }
                let assigned = self.assignments(update.assignments)?;
                Action::Update(assigned.into_iter().map(|(name, value)| (name, of(visible, value))).collect())
            }
            MergeAction::Delete { .. } => Action::Delete,
        };
        Ok(Branch { takes, action })
    }

    /// Values of an INSERT by column.
    fn inserted(&self, insert: MergeInsertExpr, visible: Option<&Ident>) -> Result<BTreeMap<String, Expr>, Problem> {
        if insert.insert_predicate.is_some() {
            return Err(refused("merge", "insert … where"));
        }
        let MergeInsertKind::Values(values) = insert.kind else { return Err(refused("merge", "insert row")) };
        let mut rows = values.rows.into_iter();
        let (Some(row), None) = (rows.next(), rows.next()) else {
            return Err(Problem::new(ErrorKind::Syntax, "a merge inserts one row for each row of its source")
                .fix("write one `values (…)`"));
        };
        let named: Option<Vec<String>> = insert
            .columns
            .iter()
            .map(|name| name.0.last().and_then(|part| part.as_ident()).map(names::folded))
            .collect();
        let columns = match named {
            Some(named) if !named.is_empty() => named,
            _ => self.fields().iter().map(|field| field.name().clone()).collect(),
        };
        let count = row.content.len();
        if count > columns.len() || (!insert.columns.is_empty() && count < columns.len()) {
            return Err(Problem::new(
                ErrorKind::Syntax,
                format!("an insert of the merge has {count} values for {} columns", columns.len()),
            )
            .fix("give each column one value"));
        }
        let mut inserted = BTreeMap::new();
        for (column, value) in columns.into_iter().zip(row.content) {
            self.known(&column)?;
            if inserted.insert(column.clone(), of(visible, or_default(value)?)).is_some() {
                return Err(Problem::new(ErrorKind::Syntax, format!("column \"{column}\" is set twice"))
                    .fix("take one of the two out"));
            }
        }
        Ok(inserted)
    }
}

/// An expression in which only one side is visible: a bare name is one of its columns, though the other has it too.
fn of(side: Option<&Ident>, mut expr: Expr) -> Expr {
    struct HasQuery;
    impl VisitorMut for HasQuery {
        type Break = ();

        fn pre_visit_query(&mut self, _: &mut datafusion::sql::sqlparser::ast::Query) -> ControlFlow<()> {
            ControlFlow::Break(())
        }
    }
    struct Qualify<'a>(&'a Ident);
    impl VisitorMut for Qualify<'_> {
        type Break = ();

        fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
            if let Expr::Identifier(name) = expr {
                *expr = Expr::CompoundIdentifier(vec![self.0.clone(), name.clone()]);
            }
            ControlFlow::Continue(())
        }
    }
    // A query has names of its own.
    if let Some(side) = side
        && expr.visit(&mut HasQuery).is_continue()
    {
        let _ = expr.visit(&mut Qualify(side));
    }
    expr
}

fn both(left: Expr, right: Expr) -> Result<Expr, Problem> {
    let mut both = parse::expression(&format!("{VALUE} and ({VALUE})"), "<sql>")?.expr;
    let _ = both.visit(&mut Put(Some(left)));
    let _ = both.visit(&mut Put(Some(right)));
    Ok(both)
}

fn literal(value: bool) -> Expr {
    Expr::value(datafusion::sql::sqlparser::ast::Value::Boolean(value))
}

/// `case when … then … end`, in which the first that holds decides.
fn case(whens: impl IntoIterator<Item = (Expr, Expr)>) -> Result<Expr, Problem> {
    let conditions: Vec<CaseWhen> =
        whens.into_iter().map(|(condition, result)| CaseWhen { condition, result }).collect();
    if conditions.is_empty() {
        return Err(Problem::new(ErrorKind::Syntax, "the merge has no `when`")
            .fix("write `when matched then …` or `when not matched then …`"));
    }
    let token = AttachedToken::empty;
    Ok(Expr::Case { case_token: token(), end_token: token(), operand: None, conditions, else_result: None })
}

fn joined(source: TableFactor, target: TableFactor, on: Expr, join: &str) -> Result<TableWithJoins, Problem> {
    let mut query = skeleton(&format!("select 1 from s {join} join t on {VALUE}"))?;
    let from = select_of(&mut query)?.from.pop();
    let Some(mut from) = from else { return Err(Problem::internal("a join could not be made")) };
    from.relation = source;
    let Some(other) = from.joins.first_mut() else { return Err(Problem::internal("a join could not be made")) };
    other.relation = target;
    let _ = other.join_operator.visit(&mut Put(Some(on)));
    Ok(from)
}
