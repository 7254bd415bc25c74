//! From the names in a statement to pinned providers: catalog first, then planning of views.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Write as _;
use std::ops::ControlFlow;
use std::sync::Arc;

use arrow::datatypes::{DataType, FieldRef, Schema};
use datafusion::catalog::TableProvider;
use datafusion::catalog::view::ViewTable;
use datafusion::common::TableReference;
use datafusion::datasource::empty::EmptyTable;
use datafusion::execution::session_state::SessionState;
use datafusion::sql::parser::Statement;
use datafusion::sql::resolve::resolve_table_references;
use datafusion::sql::sqlparser::ast::{
    Expr, FunctionArg, FunctionArgExpr, TableFactor, UnaryOperator, Value, Visit, Visitor,
};
use futures::future::BoxFuture;

use lode_catalog::{Catalog, RelationEntry, TableEntry, ViewEntry};
use lode_core::{ErrorKind, Input, Place, Problem, SqlSession, TableName};
use lode_lake::{Snapshot, Store};

use super::positions::PositionedTable;
use super::{LakeTable, Pins, view_schema};
use crate::session::{DATABASE, Sessions};
use crate::{parse, problem, statement};

/// Views may stand on views this deep.
const VIEW_DEPTH: usize = 64;
/// A set of tables that keeps changing while it is read is read this often.
const READS: usize = 16;

/// Everything that the names of one statement stand for, read from the catalog at one moment.
#[derive(Default)]
pub(crate) struct Resolved {
    tables: HashMap<TableName, (TableEntry, Arc<Snapshot>)>,
    views: HashMap<TableName, (ViewEntry, Statement)>,
    calls: Vec<(String, Arc<dyn TableProvider>)>,
    /// The table whose rows show where they stand.
    positioned: Option<TableName>,
    /// The table that the statement inserts into, and its columns that are given text.
    inserted: Option<(TableName, Vec<InsertedColumn>)>,
}

/// A column of an INSERT, by name or by its place.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum InsertedColumn {
    Named(String),
    At(usize),
    Any,
}

/// Stands for the target of an INSERT, so that its columns take text that becomes a uuid when it is written: the planner
/// knows no cast for that. The same table may be read by its own name.
pub(crate) const INSERTED: &str = "__lode_inserted";

/// Looks up every relation that `statement` needs, views' own ones included.
pub(crate) async fn resolve(
    catalog: &Arc<Catalog>,
    statement: &Statement,
    session: &SqlSession,
) -> Result<Resolved, Problem> {
    let roots = names_in(statement, &session.default_schema)?;
    let mut resolved = Resolved::default();
    for _ in 0..READS {
        let entries = closure(catalog, &roots).await?;
        // Versions only grow: two equal reads of all of them had a common moment between.
        let is_stable = entries.len() <= 1 || still_the_same(catalog, &entries).await?;
        if !is_stable {
            continue;
        }
        for (name, entry) in entries {
            match entry {
                RelationEntry::Table(entry) => {
                    let snapshot = catalog.snapshot(&entry, None).await?;
                    resolved.tables.insert(name, (entry, snapshot));
                }
                RelationEntry::View(entry) => {
                    let statement = view_statement(&entry)?;
                    resolved.views.insert(name, (entry, statement));
                }
            }
        }
        resolved.look_up_calls(catalog, statement, session).await?;
        return Ok(resolved);
    }
    Err(Problem::new(ErrorKind::Conflict, "the tables of the statement kept changing while they were read")
        .fix("run the statement again"))
}

/// The relations of `roots` and of the views among them.
pub(crate) async fn closure(
    catalog: &Arc<Catalog>,
    roots: &BTreeSet<TableName>,
) -> Result<BTreeMap<TableName, RelationEntry>, Problem> {
    let mut entries = BTreeMap::new();
    let mut open: Vec<TableName> = roots.iter().cloned().collect();
    while let Some(name) = open.pop() {
        if entries.contains_key(&name) {
            continue;
        }
        // A name that is no relation may be a CTE or a table function; the planner says so if it is neither.
        let Some(entry) = catalog.relation(&name).await? else { continue };
        if let RelationEntry::View(view) = &entry {
            let inner = view_statement(view)?;
            open.extend(names_in(&inner, &view_schema::default_schema(view))?);
        }
        entries.insert(name, entry);
    }
    Ok(entries)
}

async fn still_the_same(catalog: &Arc<Catalog>, entries: &BTreeMap<TableName, RelationEntry>) -> Result<bool, Problem> {
    for (name, entry) in entries {
        if catalog.relation(name).await?.as_ref() != Some(entry) {
            return Ok(false);
        }
    }
    Ok(true)
}

fn view_statement(view: &ViewEntry) -> Result<Statement, Problem> {
    let origin = format!("view {}", view.name);
    let mut statements = parse::statements(&view.sql, &origin)?;
    match (statements.pop(), statements.is_empty()) {
        (Some(statement), true) => Ok(statement),
        _ => Err(Problem::new(ErrorKind::Corrupt, format!("view \"{}\" is not one statement", view.name))
            .fix("define the view again")),
    }
}

/// Names of relations in a statement, without CTEs.
pub(crate) fn names_in(statement: &Statement, default_schema: &str) -> Result<BTreeSet<TableName>, Problem> {
    let (references, _) = resolve_table_references(statement, true).map_err(problem::running)?;
    Ok(references.into_iter().filter_map(|reference| name_of(&reference, default_schema)).collect())
}

/// A reference as a relation of this lake; `None` for another database.
pub(crate) fn name_of(reference: &TableReference, default_schema: &str) -> Option<TableName> {
    if reference.catalog().is_some_and(|catalog| catalog != DATABASE) {
        return None;
    }
    Some(TableName::new(reference.schema().unwrap_or(default_schema), reference.table()))
}

impl Resolved {
    /// Answers the table functions of the statement and of the views below it, each where its bare names are looked up.
    async fn look_up_calls(
        &mut self,
        catalog: &Arc<Catalog>,
        statement: &Statement,
        session: &SqlSession,
    ) -> Result<(), Problem> {
        let mut calls = calls_in(statement, &session.default_schema);
        for (view, statement) in self.views.values() {
            calls.extend(calls_in(statement, &view_schema::default_schema(view)));
        }
        let keyed: BTreeMap<String, Call> = calls.into_iter().map(|call| (call.key(), call)).collect();
        for (key, call) in keyed {
            let session = SqlSession { default_schema: call.default_schema.clone(), ..session.clone() };
            let provider = statement::table_function(catalog, &call.name, &call.arguments, &session).await?;
            self.calls.push((key, provider));
        }
        Ok(())
    }

    /// The statement and the views below it without comments and spacing, each with the schema of its bare names.
    pub(crate) fn text(&self, statement: &Statement, default_schema: &str) -> String {
        let views: BTreeMap<&TableName, &(ViewEntry, Statement)> = self.views.iter().collect();
        let mut text = format!("{default_schema}: {statement}");
        for (name, (view, statement)) in views {
            let _ = write!(text, "\n{name} in {}: {statement}", view_schema::default_schema(view));
        }
        text
    }

    /// Gives the rows of a table the columns that tell where they stand.
    pub(crate) fn show_places_of(&mut self, table: &TableName) {
        self.positioned = Some(table.clone());
    }

    /// Whether a column of `table` is a uuid.
    pub(crate) fn has_uuids(&self, table: &TableName) -> bool {
        let is_uuid = |field: &FieldRef| field.data_type() == &DataType::FixedSizeBinary(16);
        self.tables.get(table).is_some_and(|(_, snapshot)| snapshot.schema().fields().iter().any(is_uuid))
    }

    /// Gives the planner a target of the columns of `table`; a uuid takes text where it is among `texts`.
    pub(crate) fn insert_into(&mut self, table: &TableName, texts: Vec<InsertedColumn>) {
        self.inserted = Some((table.clone(), texts));
    }

    pub(crate) fn has_calls(&self) -> bool {
        !self.calls.is_empty()
    }

    /// Makes providers of everything; views are planned here, inner ones first.
    pub(crate) async fn pin(self, store: &Store, sessions: &Sessions, session: &SqlSession) -> Result<Pins, Problem> {
        let pins = Pins::default();
        for (name, (entry, snapshot)) in &self.tables {
            pins.note_input(Input { table: name.clone(), id: snapshot.definition.id, snapshot: snapshot.version });
            let snapshot = Arc::clone(snapshot);
            let table: Arc<dyn TableProvider> = if self.positioned.as_ref() == Some(name) {
                Arc::new(PositionedTable::new(store, &entry.location, snapshot).map_err(problem::running)?)
            } else {
                Arc::new(LakeTable::new(store, &entry.location, snapshot).map_err(problem::running)?)
            };
            if let Some((_, texts)) = self.inserted.as_ref().filter(|(inserted, _)| inserted == name) {
                let schema = table.schema();
                let fields = schema.fields().iter().enumerate().map(|(at, field)| {
                    let is_text = texts.contains(&InsertedColumn::Any)
                        || texts.contains(&InsertedColumn::At(at))
                        || texts.contains(&InsertedColumn::Named(field.name().clone()));
                    if is_text { taken(field) } else { Arc::clone(field) }
                });
                let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
                pins.insert(TableName::new(&name.schema, INSERTED), Arc::new(EmptyTable::new(schema)));
            }
            pins.insert(name.clone(), table);
        }
        for (key, provider) in &self.calls {
            pins.insert_call(key.clone(), Arc::clone(provider));
        }
        for name in self.views.keys() {
            self.pin_view(name, &pins, sessions, session, &mut Vec::new()).await?;
        }
        Ok(pins)
    }

    fn pin_view<'a>(
        &'a self,
        name: &'a TableName,
        pins: &'a Pins,
        sessions: &'a Sessions,
        session: &'a SqlSession,
        above: &'a mut Vec<TableName>,
    ) -> BoxFuture<'a, Result<(), Problem>> {
        Box::pin(async move {
            let Some((view, statement)) = self.views.get(name) else { return Ok(()) };
            if pins.contains(name) {
                return Ok(());
            }
            if above.contains(name) || above.len() >= VIEW_DEPTH {
                let path: Vec<String> = above.iter().chain([name]).map(ToString::to_string).collect();
                return Err(Problem::new(ErrorKind::Undefined, format!("view \"{name}\" stands on itself"))
                    .cause(path.join(" -> "))
                    .at(Place::of(format!("view {name}")))
                    .fix("define one of these views again without the others"));
            }
            above.push(name.clone());
            let schema = view_schema::default_schema(view);
            for inner in names_in(statement, &schema)? {
                self.pin_view(&inner, pins, sessions, session, above).await?;
            }
            above.pop();
            let inner_session = SqlSession { default_schema: schema, ..session.clone() };
            let state = sessions.state(&inner_session, pins);
            let plan = plan_view(&state, view, statement).await?;
            pins.insert(name.clone(), Arc::new(ViewTable::new(plan, Some(view.sql.clone()))));
            Ok(())
        })
    }
}

/// A column that is given text.
fn taken(field: &FieldRef) -> FieldRef {
    match field.data_type() {
        DataType::FixedSizeBinary(16) => Arc::new(field.as_ref().clone().with_data_type(DataType::Utf8View)),
        _ => Arc::clone(field),
    }
}

async fn plan_view(
    state: &SessionState,
    view: &ViewEntry,
    statement: &Statement,
) -> Result<datafusion::logical_expr::LogicalPlan, Problem> {
    let origin = format!("view {}", view.name);
    state.statement_to_plan(statement.clone()).await.map_err(|error| {
        problem::explain(error, &view.sql, &origin).context(format!("view \"{}\" no longer works", view.name))
    })
}

/// A call of a table function of ours, with literal arguments.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Call {
    pub(crate) name: String,
    pub(crate) arguments: Vec<String>,
    /// Where a bare table name among the arguments is looked up.
    pub(crate) default_schema: String,
}

impl Call {
    pub(crate) fn key(&self) -> String {
        format!("{}({}) in {}", self.name, self.arguments.join(","), self.default_schema)
    }
}

/// Calls of table functions of ours in a statement.
fn calls_in(statement: &Statement, default_schema: &str) -> Vec<Call> {
    struct Calls<'a> {
        default_schema: &'a str,
        found: Vec<Call>,
    }
    impl Visitor for Calls<'_> {
        type Break = ();

        fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<()> {
            if let TableFactor::Table { name, args: Some(arguments), .. } = factor {
                let name = name.to_string().to_lowercase();
                if statement::TABLE_FUNCTIONS.contains(&name.as_str()) {
                    let arguments: Option<Vec<String>> = arguments.args.iter().map(literal).collect();
                    if let Some(arguments) = arguments {
                        let default_schema = self.default_schema.to_owned();
                        self.found.push(Call { name, arguments, default_schema });
                    }
                }
            }
            ControlFlow::Continue(())
        }
    }
    let mut calls = Calls { default_schema, found: Vec::new() };
    let mut statement = statement;
    while let Statement::Explain(explain) = statement {
        statement = &explain.statement;
    }
    if let Statement::Statement(inner) = statement {
        let _ = inner.visit(&mut calls);
    }
    calls.found
}

fn literal(argument: &FunctionArg) -> Option<String> {
    let FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) = argument else { return None };
    literal_text(expr)
}

fn literal_text(expr: &Expr) -> Option<String> {
    match expr {
        Expr::Value(value) => match &value.value {
            Value::SingleQuotedString(text) => Some(text.clone()),
            Value::Number(number, _) => Some(number.to_string()),
            _ => None,
        },
        Expr::UnaryOp { op: UnaryOperator::Minus, expr } => Some(format!("-{}", literal_text(expr)?)),
        Expr::Cast { expr, .. } => literal_text(expr),
        Expr::TypedString(typed) => literal_text(&Expr::Value(typed.value.clone())),
        _ => None,
    }
}
