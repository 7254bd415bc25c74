//! `right join … using (x)` and `full join … using (x)`: a bare `x` is the value of the side that has a row, where the planner
//! takes the left one. Source: PostgreSQL 15, 7.2.1.1 and SELECT, "JOIN USING".

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    Expr, Ident, Join, JoinConstraint, JoinOperator, Query, Select, SelectItem, SetExpr, TableFactor, VisitMut,
    VisitorMut,
};

use lode_core::{ErrorKind, Problem};

/// Rewrites bare key columns of such joins in one query.
/// Errors: `Unsupported` where more than two tables are joined so, or `*` would have to show the key.
pub(super) fn rewrite(query: &mut Query) -> Result<(), Problem> {
    let Some(key) = key_of(query.body.as_ref())? else { return Ok(()) };
    if let SetExpr::Select(select) = query.body.as_mut() {
        keep_names(select, &key);
    }
    match query.visit(&mut key.replacing()) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(problem) => Err(problem),
    }
}

/// The key of the query's outer join, and the tables that it joins.
struct Key {
    columns: Vec<Ident>,
    left: Ident,
    right: Ident,
    is_full: bool,
}

fn key_of(body: &SetExpr) -> Result<Option<Key>, Problem> {
    let SetExpr::Select(select) = body else { return Ok(None) };
    let outer = |join: &Join| match &join.join_operator {
        JoinOperator::Right(constraint) | JoinOperator::RightOuter(constraint) => Some((constraint.clone(), false)),
        JoinOperator::FullOuter(constraint) => Some((constraint.clone(), true)),
        _ => None,
    };
    for from in &select.from {
        for (at, join) in from.joins.iter().enumerate() {
            let Some((constraint, is_full)) = outer(join) else { continue };
            let columns = match constraint {
                JoinConstraint::Using(columns) => columns,
                JoinConstraint::Natural => return Err(refused("a natural right or full join")),
                JoinConstraint::On(_) | JoinConstraint::None => continue,
            };
            let (left, right) = (name_of(&from.relation), name_of(&join.relation));
            let columns: Option<Vec<Ident>> =
                columns.iter().map(|name| name.0.last().and_then(|part| part.as_ident()).cloned()).collect();
            let (Some(left), Some(right), Some(columns)) = (left, right, columns) else {
                return Err(refused("a right or full join with `using` of tables without names"));
            };
            if at > 0 || from.joins.len() > 1 || select.from.len() > 1 {
                return Err(refused("a right or full join with `using` among several joins"));
            }
            let has_star = select.projection.iter().any(|item| matches!(item, SelectItem::Wildcard(_)));
            if has_star {
                return Err(refused("`select *` from a right or full join with `using`"));
            }
            return Ok(Some(Key { columns, left, right, is_full }));
        }
    }
    Ok(None)
}

fn refused(what: &str) -> Problem {
    Problem::new(ErrorKind::Unsupported, format!("{what} is not supported"))
        .fix("write the condition out, `on a.x = b.x`, and select `coalesce(a.x, b.x) as x`")
}

fn name_of(table: &TableFactor) -> Option<Ident> {
    match table {
        TableFactor::Table { alias: Some(alias), .. } | TableFactor::Derived { alias: Some(alias), .. } => {
            Some(alias.name.clone())
        }
        TableFactor::Table { name, .. } => name.0.last().and_then(|part| part.as_ident()).cloned(),
        _ => None,
    }
}

/// A bare key column that is selected keeps its name.
fn keep_names(select: &mut Select, key: &Key) {
    for item in &mut select.projection {
        if let SelectItem::UnnamedExpr(Expr::Identifier(name)) = item
            && key.has(name)
        {
            let alias = name.clone();
            *item = SelectItem::ExprWithAlias { expr: Expr::Identifier(name.clone()), alias };
        }
    }
}

impl Key {
    fn has(&self, name: &Ident) -> bool {
        self.columns.iter().any(|column| same(column, name))
    }

    fn replacing(self) -> Replace {
        Replace { key: self, depth: 0 }
    }
}

fn same(one: &Ident, other: &Ident) -> bool {
    let folded = |name: &Ident| if name.quote_style.is_some() { name.value.clone() } else { name.value.to_lowercase() };
    folded(one) == folded(other)
}

struct Replace {
    key: Key,
    /// Queries entered: a bare name in a subquery may be its own.
    depth: usize,
}

impl VisitorMut for Replace {
    type Break = Problem;

    fn pre_visit_query(&mut self, _: &mut Query) -> ControlFlow<Problem> {
        self.depth += 1;
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _: &mut Query) -> ControlFlow<Problem> {
        self.depth -= 1;
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Problem> {
        let Expr::Identifier(name) = expr else { return ControlFlow::Continue(()) };
        if self.depth == 1 && self.key.has(name) {
            let of = |table: &Ident| Expr::CompoundIdentifier(vec![table.clone(), name.clone()]);
            let right = of(&self.key.right);
            *expr = if self.key.is_full { super::call("coalesce", vec![of(&self.key.left), right]) } else { right };
        }
        ControlFlow::Continue(())
    }
}
