//! From a node to its SQL: the second render, with ephemeral models as CTEs.

use std::sync::Arc;

use futures::TryStreamExt;
use minijinja::value::Value;
use parking_lot::Mutex;
use tokio::runtime::Handle;

use lode_core::{ErrorKind, Place, Problem, Relation, SqlSession, TableName, Warehouse, task};

use crate::error::ProjectError;
use crate::graph::{Kind, Materialized, Node, test_kwargs};
use crate::jinja::engine::SourceMap;
use crate::jinja::{Execute, RefCall, RelationValue, Resolve, Scope, SourceCall, Table, on_big_stack};
use crate::project::Project;

/// A node's SQL, and the way back to its file.
#[derive(Debug, Clone)]
pub(crate) struct Compiled {
    /// Of a test: the rows that should not be there.
    pub(crate) sql: String,
    /// Of a test: counts the rows and says what the count means.
    pub(crate) verdict: Option<String>,
    map: SourceMap,
    /// CTEs put in: where, and how many bytes.
    inserted: (usize, usize),
}

#[derive(Clone)]
pub(crate) struct Compiler {
    pub(crate) project: Arc<Project>,
    pub(crate) warehouse: Arc<dyn Warehouse>,
}

impl Compiler {
    /// Renders the node on a thread of its own, where macros may wait for queries.
    pub(crate) async fn compile(&self, id: &str, is_incremental: bool) -> Result<Compiled, Problem> {
        let (compiler, id, handle) = (self.clone(), id.to_owned(), Handle::current());
        task::blocking("compile", move || {
            on_big_stack(|| {
                let node = compiler.project.graph.nodes.get(&id);
                let node = node.ok_or_else(|| Problem::internal(format!("node \"{id}\" is gone")))?;
                compiler.render(node, is_incremental, &handle)
            })?
        })
        .await?
    }

    /// Renders SQL that is no node, as `show --inline` gives it.
    pub(crate) async fn compile_inline(&self, sql: &str) -> Result<String, Problem> {
        let (compiler, sql, handle) = (self.clone(), sql.to_owned(), Handle::current());
        task::blocking("compile", move || {
            on_big_stack(|| {
                let resolver = Arc::new(compiler.resolver(None, &handle));
                let execute = Execute {
                    resolve: resolver.clone(),
                    config: crate::config::node_config::NodeConfig::default(),
                    is_incremental: false,
                };
                let project = &compiler.project;
                let scope =
                    Scope::execute(&project.engine, project.name(), crate::jinja::NodeFacts::default(), execute);
                let text = project.engine.render_text(&sql, &Arc::new(scope), &Place::of("<inline>"))?;
                let (text, _) = compiler.with_ctes(text, &resolver.take_ephemeral(), &handle)?;
                Ok::<_, Problem>(text)
            })?
        })
        .await?
    }

    fn resolver(&self, node: Option<&Node>, handle: &Handle) -> GraphResolver {
        GraphResolver {
            project: self.project.clone(),
            warehouse: self.warehouse.clone(),
            handle: handle.clone(),
            node: node.map(|node| node.unique_id.clone()),
            ephemeral: Mutex::new(Vec::new()),
        }
    }

    fn render(&self, node: &Node, is_incremental: bool, handle: &Handle) -> Result<Compiled, Problem> {
        let (text, map, ephemeral) = self.render_alone(node, is_incremental, handle)?;
        let verdict = match node.kind {
            Kind::Test => Some(self.with_ctes(self.verdict(node, &text, handle)?, &ephemeral, handle)?.0),
            _ => None,
        };
        let (sql, inserted) = self.with_ctes(text, &ephemeral, handle)?;
        // The text of a generic test is no file of the author.
        let is_generic = node.test.as_ref().is_some_and(|test| test.generic.is_some());
        let map = if is_generic { SourceMap::default() } else { map };
        Ok(Compiled { sql, verdict, map, inserted })
    }

    /// The statement around the rows of a test.
    fn verdict(&self, node: &Node, rows: &str, handle: &Handle) -> Result<String, Problem> {
        let engine = &self.project.engine;
        let resolve = Arc::new(self.resolver(Some(node), handle));
        let execute = Execute { resolve, config: node.config.clone(), is_incremental: false };
        let mut scope = Scope::execute(engine, &node.package, node.facts(), execute);
        scope.own_macros.clone_from(&node.own_macros);
        let config = |key: &str, default: &str| Value::from(node.config.text(key).unwrap_or(default));
        scope.extra.insert("main_sql".into(), Value::from(rows.trim().trim_end_matches(';')));
        scope.extra.insert("fail_calc".into(), config("fail_calc", "count(*)"));
        scope.extra.insert("warn_if".into(), config("warn_if", "!= 0"));
        scope.extra.insert("error_if".into(), config("error_if", "!= 0"));
        let limit = node.config.get("limit").map_or_else(|| Value::from(()), crate::jinja::from_json);
        scope.extra.insert("limit".into(), limit);
        let call = "{{ get_test_sql(main_sql, fail_calc, warn_if, error_if, limit) }}";
        Ok(engine.render_text(call, &Arc::new(scope), &node.place)?)
    }

    fn render_alone(
        &self,
        node: &Node,
        is_incremental: bool,
        handle: &Handle,
    ) -> Result<(String, SourceMap, Vec<String>), Problem> {
        let engine = &self.project.engine;
        let resolver = Arc::new(self.resolver(Some(node), handle));
        let scope = || {
            let execute = Execute { resolve: resolver.clone(), config: node.config.clone(), is_incremental };
            let mut scope = Scope::execute(engine, &node.package, node.facts(), execute);
            scope.own_macros.clone_from(&node.own_macros);
            scope
        };
        let mut main = scope();
        if let Some(test) = node.test.as_ref().filter(|test| test.generic.is_some()) {
            let kwargs = test_kwargs(engine, &Arc::new(scope()), &test.arguments, &node.place)?;
            main.extra.insert("_dbt_generic_test_kwargs".into(), kwargs);
        }
        let (text, map) = engine.render_mapped(&node.template, &Arc::new(main))?;
        Ok((text, map, resolver.take_ephemeral()))
    }

    /// Puts ephemeral models, and those that they read, in front as CTEs. Source: dbt-core, `_recursively_prepend_ctes`.
    fn with_ctes(
        &self,
        sql: String,
        ephemeral: &[String],
        handle: &Handle,
    ) -> Result<(String, (usize, usize)), Problem> {
        let mut ctes: Vec<(String, String)> = Vec::new();
        for id in ephemeral {
            self.collect_ctes(id, &mut ctes, handle)?;
        }
        if ctes.is_empty() {
            return Ok((sql, (0, 0)));
        }
        let list: Vec<String> = ctes
            .iter()
            .map(|(name, sql)| format!("__dbt__cte__{name} as (\n{}\n)", sql.trim().trim_end_matches(';')))
            .collect();
        let list = list.join(",\n");
        let (at, text) = match end_of_with(&sql) {
            Some(at) => (at, format!(" {list},\n")),
            None => (0, format!("with {list}\n")),
        };
        let (head, tail) = sql.split_at(at);
        Ok((format!("{head}{text}{tail}"), (at, text.len())))
    }

    fn collect_ctes(&self, id: &str, ctes: &mut Vec<(String, String)>, handle: &Handle) -> Result<(), Problem> {
        let Some(node) = self.project.graph.nodes.get(id) else { return Ok(()) };
        if ctes.iter().any(|(name, _)| *name == node.name) {
            return Ok(());
        }
        let (sql, _, inner) = self.render_alone(node, false, handle)?;
        for id in &inner {
            self.collect_ctes(id, ctes, handle)?;
        }
        ctes.push((node.name.clone(), sql));
        Ok(())
    }
}

/// Offset after a leading `with` or `with recursive`, past white space and comments.
fn end_of_with(sql: &str) -> Option<usize> {
    let start = skip_blank(sql, 0);
    let word = word_at(sql, start);
    if !word.eq_ignore_ascii_case("with") {
        return None;
    }
    let end = start + word.len();
    let next = skip_blank(sql, end);
    let word = word_at(sql, next);
    Some(if word.eq_ignore_ascii_case("recursive") { next + word.len() } else { end })
}

fn word_at(sql: &str, at: usize) -> &str {
    let rest = sql.get(at..).unwrap_or_default();
    let end = rest.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(rest.len());
    rest.get(..end).unwrap_or_default()
}

fn skip_blank(sql: &str, mut at: usize) -> usize {
    loop {
        let rest = sql.get(at..).unwrap_or_default();
        let trimmed = rest.trim_start();
        at += rest.len() - trimmed.len();
        if let Some(comment) = trimmed.strip_prefix("--") {
            at += 2 + comment.find('\n').map_or(comment.len(), |end| end + 1);
        } else if let Some(comment) = trimmed.strip_prefix("/*") {
            at += 2 + comment.find("*/").map_or(comment.len(), |end| end + 2);
        } else {
            return at;
        }
    }
}

impl Compiled {
    /// Points the places of an error in `sql` at the model's own file.
    pub(crate) fn relocate(&self, problem: Problem, node: &Node, compiled_path: &str) -> Problem {
        let mut new = Problem::new(problem.kind(), problem.what());
        for cause in problem.causes() {
            new = new.cause(cause);
        }
        let mut has_place = false;
        for place in problem.places() {
            let is_ours = place.origin == node.path;
            let mapped = if is_ours { self.original(place) } else { None };
            has_place = true;
            let of_rule = node.expectations.iter().zip(&node.expectation_places);
            for (_, declared) in of_rule.filter(|(rule, _)| place.origin == format!("expectation {}", rule.name)) {
                new = new.at(declared.clone());
            }
            match mapped {
                Some(offset) => new = new.at(Place::at_offset(node.path.clone(), &node.origin.text, offset)),
                None if is_ours => {
                    new = new.at(node.place.clone()).at(Place { origin: compiled_path.to_owned(), ..place.clone() });
                }
                None => new = new.at(place.clone()),
            }
        }
        if !has_place {
            new = new.at(node.place.clone());
        }
        match problem.remedy() {
            Some(fix) => new.fix(fix),
            None => new,
        }
    }

    fn original(&self, place: &Place) -> Option<usize> {
        let line =
            self.sql.split_inclusive('\n').take(place.line?.saturating_sub(1) as usize).map(str::len).sum::<usize>();
        let column = place.column.unwrap_or(1).saturating_sub(1) as usize;
        let rest = self.sql.get(line..)?;
        let offset = line + rest.char_indices().nth(column).map_or(0, |(at, _)| at);
        let (at, length) = self.inserted;
        let offset = match offset {
            before if before < at => before,
            after if after >= at + length => after - length,
            // Inside a CTE that another file wrote.
            _ => return None,
        };
        self.map.original(offset)
    }
}

struct GraphResolver {
    project: Arc<Project>,
    warehouse: Arc<dyn Warehouse>,
    handle: Handle,
    /// The node that asks; `None` for inline SQL, which may ask for anything.
    node: Option<String>,
    ephemeral: Mutex<Vec<String>>,
}

impl GraphResolver {
    fn take_ephemeral(&self) -> Vec<String> {
        std::mem::take(&mut self.ephemeral.lock())
    }

    fn check_known(&self, target: &Node, what: &str) -> Result<(), Problem> {
        let node = self.node.as_ref().and_then(|id| self.project.graph.nodes.get(id));
        match node {
            Some(node) if !node.depends_on.contains(&target.unique_id) => {
                let text = format!("{} reads {what}, which was not known when the project was parsed", node.subject());
                Err(Problem::new(ErrorKind::Config, text)
                    .fix(format!("put `-- depends_on: {{{{ {what} }}}}` at the top of the model")))
            }
            _ => Ok(()),
        }
    }
}

impl Resolve for GraphResolver {
    fn graph(&self) -> &serde_json::Value {
        self.project.graph_json()
    }

    fn reference(&self, call: &RefCall) -> Result<RelationValue, Problem> {
        let unknown = || ProjectError::UnknownNode {
            subject: self.node.clone().unwrap_or_else(|| "the inline SQL".into()),
            target: format!("model \"{}\"", call.name),
            place: Place::of("<inline>"),
            fix: "check the name with `lode ls`".into(),
        };
        let target = self.project.graph.find_ref(call).ok_or_else(unknown)?;
        self.check_known(target, &format!("ref('{}')", call.name))?;
        if target.materialized == Materialized::Ephemeral {
            self.ephemeral.lock().push(target.unique_id.clone());
            return Ok(RelationValue::cte(&target.name));
        }
        let relation = target.relation.as_ref().ok_or_else(|| Problem::internal("a model has no relation"))?;
        Ok(RelationValue { kind: Some(kind_of(target)), ..RelationValue::new(relation) })
    }

    fn source(&self, call: &SourceCall) -> Result<RelationValue, Problem> {
        let unknown = || ProjectError::UnknownNode {
            subject: self.node.clone().unwrap_or_else(|| "the inline SQL".into()),
            target: format!("source \"{}.{}\"", call.source, call.table),
            place: Place::of("<inline>"),
            fix: "declare it under `sources:`".into(),
        };
        let target = self.project.graph.find_source(call).ok_or_else(unknown)?;
        self.check_known(target, &format!("source('{}', '{}')", call.source, call.table))?;
        let relation = target.relation.as_ref().ok_or_else(|| Problem::internal("a source has no relation"))?;
        Ok(RelationValue { kind: Some("table"), ..RelationValue::new(relation) })
    }

    fn query(&self, sql: &str) -> Result<Table, Problem> {
        let session = self.project.session("<run_query>");
        let (warehouse, sql) = (self.warehouse.clone(), sql.to_owned());
        self.handle.block_on(async move {
            let prepared = warehouse.prepare(&sql, &session).await?;
            let names = prepared.schema.fields().iter().map(|field| field.name().clone()).collect();
            let mut stream = warehouse.run(&prepared).await?;
            let (mut batches, mut rows) = (Vec::new(), 0);
            while let Some(batch) = stream.try_next().await? {
                rows += batch.num_rows();
                if rows > Table::LIMIT_ROWS {
                    let text = format!("run_query answered more than {} rows", Table::LIMIT_ROWS);
                    return Err(Problem::new(ErrorKind::Full, text).fix("add a `limit`, or aggregate in SQL"));
                }
                batches.push(batch);
            }
            Table::new(names, &batches)
        })
    }

    fn relation(&self, name: &TableName) -> Result<Option<Relation>, Problem> {
        self.handle.block_on(self.warehouse.relation(name))
    }
}

fn kind_of(node: &Node) -> &'static str {
    if node.materialized == Materialized::View { "view" } else { "table" }
}

impl Project {
    /// The session in which a statement of this project is planned.
    pub(crate) fn session(&self, origin: &str) -> SqlSession {
        let settings = &self.engine.settings;
        let mut session = SqlSession::new(settings.now).origin(origin);
        session.default_schema.clone_from(&settings.schema);
        session
    }

    /// The graph for macros that ask: built once, and only if one does.
    fn graph_json(&self) -> &serde_json::Value {
        self.graph_json.get_or_init(|| self.build_graph_json())
    }

    fn build_graph_json(&self) -> serde_json::Value {
        let of = |sources: bool| {
            let nodes = self.graph.nodes.values().filter(|node| (node.kind == Kind::Source) == sources);
            nodes.map(|node| (node.unique_id.clone(), self.node_json(node))).collect::<serde_json::Map<_, _>>()
        };
        serde_json::json!({"nodes": of(false), "sources": of(true), "exposures": {}, "metrics": {}, "groups": {}})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leading_with_is_found_behind_comments() {
        assert_eq!(end_of_with("-- x\n /* with */ WITH a as (select 1) select 2"), Some(21));
        assert_eq!(end_of_with("with recursive a as (select 1) select 2"), Some(14));
        assert_eq!(end_of_with("select 1"), None);
        assert_eq!(end_of_with("within"), None);
    }
}
