//! `right join … using (x)` and `full join … using (x)`: a bare `x` is the value of the side that has a row, where the planner
//! takes the left one. Source: PostgreSQL 15, 7.2.1.1 and SELECT, "JOIN USING".

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    Expr, Ident, Join, JoinConstraint, JoinOperator, OrderBy, OrderByKind, Query, Select, SelectItem, SetExpr,
    TableFactor, VisitMut, VisitorMut,
};

use lode_core::{ErrorKind, Problem};

/// Rewrites bare key columns of such a join in one SELECT.
/// Errors: `Unsupported` where more than two tables are joined so, `*` would have to show the key, or a subquery has a bare
/// name of the key, which may be its own or this one.
pub(super) fn rewrite(select: &mut Select) -> Result<(), Problem> {
    let Some(key) = key_of(select)? else { return Ok(()) };
    keep_names(select, &key);
    let mut replace = Replace { key, depth: 0 };
    // Not FROM: what stands there has names of its own.
    let mut parts = select.projection.visit(&mut replace);
    for part in [&mut select.selection, &mut select.having, &mut select.qualify] {
        if parts.is_continue() {
            parts = part.visit(&mut replace);
        }
    }
    if parts.is_continue() {
        parts = select.group_by.visit(&mut replace);
    }
    super::done(parts)
}

/// ORDER BY of a query: a bare name is an output column if there is one, else as in the SELECT.
pub(super) fn rewrite_order(query: &mut Query) -> Result<(), Problem> {
    let SetExpr::Select(select) = query.body.as_ref() else { return Ok(()) };
    let Some(OrderBy { kind: OrderByKind::Expressions(items), .. }) = &mut query.order_by else { return Ok(()) };
    let Some(key) = key_of(select)? else { return Ok(()) };
    let is_output = |name: &Ident| {
        select.projection.iter().any(|item| match item {
            SelectItem::ExprWithAlias { alias, .. } => same(alias, name),
            SelectItem::UnnamedExpr(Expr::Identifier(column)) => same(column, name),
            SelectItem::UnnamedExpr(Expr::CompoundIdentifier(parts)) => {
                parts.last().is_some_and(|last| same(last, name))
            }
            _ => false,
        })
    };
    let mut replace = Replace { key, depth: 0 };
    for item in items {
        if matches!(&item.expr, Expr::Identifier(name) if is_output(name)) {
            continue;
        }
        super::done(item.expr.visit(&mut replace))?;
    }
    Ok(())
}

/// Refuses such a join in parentheses, whose key nothing outside could name.
pub(super) fn check(table: &TableFactor) -> Result<(), Problem> {
    let TableFactor::NestedJoin { table_with_joins, .. } = table else { return Ok(()) };
    for join in &table_with_joins.joins {
        if let Some((JoinConstraint::Using(_) | JoinConstraint::Natural, _)) = outer(join) {
            return Err(refused("a right or full join with `using` in parentheses"));
        }
    }
    Ok(())
}

fn outer(join: &Join) -> Option<(&JoinConstraint, bool)> {
    match &join.join_operator {
        JoinOperator::Right(constraint) | JoinOperator::RightOuter(constraint) => Some((constraint, false)),
        JoinOperator::FullOuter(constraint) => Some((constraint, true)),
        _ => None,
    }
}

/// The key of the query's outer join, and the tables that it joins.
struct Key {
    columns: Vec<Ident>,
    left: Ident,
    right: Ident,
    is_full: bool,
}

fn key_of(select: &Select) -> Result<Option<Key>, Problem> {
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
}

fn same(one: &Ident, other: &Ident) -> bool {
    let folded = |name: &Ident| if name.quote_style.is_some() { name.value.clone() } else { name.value.to_lowercase() };
    folded(one) == folded(other)
}

struct Replace {
    key: Key,
    /// Subqueries entered.
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
        if self.depth > 0 && self.key.has(name) {
            return ControlFlow::Break(refused(
                "a bare name of the key of a right or full join with `using` in a subquery",
            ));
        }
        if self.key.has(name) {
            let of = |table: &Ident| Expr::CompoundIdentifier(vec![table.clone(), name.clone()]);
            let right = of(&self.key.right);
            *expr = if self.key.is_full { super::call("coalesce", vec![of(&self.key.left), right]) } else { right };
        }
        ControlFlow::Continue(())
    }
}
