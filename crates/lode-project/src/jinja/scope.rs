//! What a template sees: its node's facts, the macros, and dbt's functions.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use minijinja::value::{Enumerator, Kwargs, Object, ObjectRepr, Value, from_args};
use minijinja::{Error, ErrorKind as JinjaKind, State};
use parking_lot::Mutex;
use serde_json::{Map, Value as Json};

use lode_core::config::Environment;
use lode_core::{ErrorKind, Problem, Relation, TableName};

use super::datetime::PyDateTime;
use super::engine::{Engine, MacroDef, Spoken, to_json};
use super::fault::{carry, return_error, returned};
use super::objects::{Adapter, ConfigObject, DATABASE, Exceptions, RelationValue, from_json, modules};
use super::own;
use super::table::Table;
use crate::config::node_config::NodeConfig;

/// A node as `model` shows it.
#[derive(Debug, Clone, Default)]
pub(crate) struct NodeFacts {
    pub(crate) unique_id: String,
    pub(crate) name: String,
    pub(crate) package: String,
    pub(crate) resource_type: String,
    pub(crate) path: String,
    pub(crate) fqn: Vec<String>,
    /// Schema and alias, once they are known.
    pub(crate) relation: Option<TableName>,
    pub(crate) config: Map<String, Json>,
    pub(crate) columns: Json,
    pub(crate) description: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RefCall {
    pub(crate) package: Option<String>,
    pub(crate) name: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SourceCall {
    pub(crate) source: String,
    pub(crate) table: String,
}

/// What a parse render learned.
#[derive(Debug, Default)]
pub(crate) struct Recorded {
    pub(crate) refs: Vec<RefCall>,
    pub(crate) sources: Vec<SourceCall>,
    pub(crate) configs: Vec<Map<String, Json>>,
    pub(crate) macros: Vec<String>,
}

/// Answers of the graph and the warehouse while a node is compiled. Called on a thread that may wait.
pub(crate) trait Resolve: Send + Sync {
    fn reference(&self, call: &RefCall) -> Result<RelationValue, Problem>;
    fn source(&self, call: &SourceCall) -> Result<RelationValue, Problem>;
    fn query(&self, sql: &str) -> Result<Table, Problem>;
    fn relation(&self, name: &TableName) -> Result<Option<Relation>, Problem>;
    /// All nodes, as `graph` shows them.
    fn graph(&self) -> &Json;
}

pub(crate) struct Execute {
    pub(crate) resolve: Arc<dyn Resolve>,
    pub(crate) config: NodeConfig,
    pub(crate) is_incremental: bool,
}

/// The two renders of dbt.
pub(crate) enum Work {
    Parse(Mutex<Recorded>),
    Execute(Execute),
}

/// The root of every lookup in one render.
pub(crate) struct Scope {
    pub(crate) engine: Arc<Engine>,
    pub(crate) package: String,
    /// Macros that the file itself defines.
    pub(crate) own_macros: Vec<Arc<MacroDef>>,
    pub(crate) facts: NodeFacts,
    pub(crate) work: Work,
    pub(crate) extra: BTreeMap<String, Value>,
    /// Results of `statement`, by name.
    results: Mutex<BTreeMap<String, Value>>,
}

impl fmt::Debug for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<context of {}>", self.facts.unique_id)
    }
}

/// Names that `builtin` answers.
const FUNCTIONS: &[&str] = &[
    "ref",
    "source",
    "env_var",
    "is_incremental",
    "return",
    "log",
    "print",
    "run_query",
    "statement",
    "load_result",
    "store_result",
    "tojson",
    "fromjson",
    "toyaml",
    "fromyaml",
    "set",
    "set_strict",
    "zip",
    "zip_strict",
    "local_md5",
    "doc",
    "diff_of_two_dicts",
    "noop_statement",
    "should_full_refresh",
];

impl Scope {
    pub(crate) fn parse(engine: &Arc<Engine>, package: &str, facts: NodeFacts) -> Self {
        Self {
            engine: engine.clone(),
            package: package.to_owned(),
            own_macros: Vec::new(),
            facts,
            work: Work::Parse(Mutex::new(Recorded::default())),
            extra: BTreeMap::new(),
            results: Mutex::new(BTreeMap::new()),
        }
    }

    pub(crate) fn execute(engine: &Arc<Engine>, package: &str, facts: NodeFacts, execute: Execute) -> Self {
        Self { work: Work::Execute(execute), ..Self::parse(engine, package, facts) }
    }

    pub(crate) fn is_parse(&self) -> bool {
        matches!(self.work, Work::Parse(_))
    }

    /// What the render learned; empty for a compile render.
    pub(crate) fn take_recorded(&self) -> Recorded {
        match &self.work {
            Work::Parse(recorded) => std::mem::take(&mut recorded.lock()),
            Work::Execute(_) => Recorded::default(),
        }
    }

    pub(crate) fn speak(&self, message: String, is_warning: bool) {
        self.engine.spoken.lock().push(Spoken { message, is_warning });
    }

    /// A variable: command line, then the project under the package's name, then the project.
    pub(crate) fn variable(&self, name: &str) -> Option<Json> {
        let settings = &self.engine.settings;
        let of_package = settings.project_vars.get(&self.package).and_then(|vars| vars.get(name));
        settings.command_vars.get(name).or(of_package).or_else(|| settings.project_vars.get(name)).cloned()
    }

    fn find(self: &Arc<Self>, name: &str) -> Option<Value> {
        if let Some(value) = self.extra.get(name) {
            return Some(value.clone());
        }
        if let Some(own) = self.own_macros.iter().find(|own| own.name == name) {
            return Some(MacroProxy::value(own, self));
        }
        if let Some(found) = self.engine.find_macro(&self.package, name) {
            return Some(MacroProxy::value(found, self));
        }
        if let Some(value) = self.builtin(name) {
            return Some(value);
        }
        if self.engine.package_macros(name).is_some() {
            return Some(Value::from_object(PackageMacros { package: name.to_owned(), scope: self.clone() }));
        }
        (self.is_parse() && !self.engine.is_function(name) && name != "caller").then(|| Value::from_object(Blank))
    }

    fn builtin(self: &Arc<Self>, name: &str) -> Option<Value> {
        let settings = &self.engine.settings;
        if let Some(name) = FUNCTIONS.iter().find(|known| **known == name) {
            return Some(Value::from_object(Builtin { name, scope: self.clone() }));
        }
        Some(match name {
            "execute" => Value::from(!self.is_parse()),
            "config" => Value::from_object(ConfigObject { scope: self.clone() }),
            "var" => Value::from_object(Variables { scope: self.clone() }),
            "adapter" => Value::from_object(Adapter { scope: self.clone() }),
            "exceptions" => Value::from_object(Exceptions { scope: self.clone() }),
            "this" => match &self.facts.relation {
                Some(name) => Value::from_object(RelationValue::new(name)),
                None if self.is_parse() => Value::from_object(Blank),
                None => return None,
            },
            "target" => Value::from_pairs([
                ("name", Value::from(settings.target.as_str())),
                ("target_name", Value::from(settings.target.as_str())),
                ("schema", Value::from(settings.schema.as_str())),
                // Packages choose their SQL by this word; see `target.engine` for the honest one.
                ("type", Value::from("postgres")),
                ("engine", Value::from("lode")),
                ("database", Value::from(DATABASE)),
                ("dbname", Value::from(DATABASE)),
                ("profile_name", Value::from(settings.project.as_str())),
                ("user", Value::from("lode")),
                ("threads", Value::from(settings.threads)),
            ]),
            "schema" => Value::from(self.facts.relation.as_ref().map_or(settings.schema.as_str(), |name| &name.schema)),
            "database" => Value::from(DATABASE),
            "model" | "node" => self.model(),
            "graph" => match &self.work {
                // A copy: what a macro does to it must not reach other nodes.
                Work::Execute(execute) => from_json(execute.resolve.graph()),
                Work::Parse(_) => Value::from_object(Blank),
            },
            "project_name" => Value::from(settings.project.as_str()),
            "invocation_id" => Value::from(settings.invocation_id.as_str()),
            "run_started_at" => PyDateTime::utc(settings.now),
            "dbt_version" => Value::from(DBT_VERSION),
            "modules" => modules(self),
            "flags" => Value::from_pairs([
                ("FULL_REFRESH", Value::from(settings.full_refresh)),
                ("WHICH", Value::from("build")),
                ("STORE_FAILURES", Value::from(false)),
            ]),
            "thread_id" => Value::from("main"),
            "context" | "builtins" => Value::from_dyn_object(self.clone()),
            "selected_resources" => own::list(Vec::new()),
            "invocation_args_dict" | "dbt_metadata_envs" => own::dict([]),
            _ => return None,
        })
    }

    fn model(&self) -> Value {
        let facts = &self.facts;
        from_json(&serde_json::json!({
            "unique_id": facts.unique_id,
            "name": facts.name,
            "package_name": facts.package,
            "resource_type": facts.resource_type,
            "original_file_path": facts.path,
            "path": facts.path,
            "fqn": facts.fqn,
            "alias": facts.relation.as_ref().map_or(&facts.name, |name| &name.name),
            "schema": facts.relation.as_ref().map(|name| &name.schema),
            "database": DATABASE,
            "config": facts.config,
            "tags": facts.config.get("tags").cloned().unwrap_or_else(|| Json::Array(Vec::new())),
            "meta": facts.config.get("meta").cloned().unwrap_or_else(|| Json::Object(Map::new())),
            "columns": facts.columns,
            "description": facts.description,
        }))
    }
}

/// The dbt whose behaviour this is; packages check it.
pub(crate) const DBT_VERSION: &str = "1.11.0";

impl Object for Scope {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.find(key.as_str()?)
    }

    fn get_value_by_str(self: &Arc<Self>, key: &str) -> Option<Value> {
        self.find(key)
    }

    fn call_method(self: &Arc<Self>, state: &mut State<'_, '_>, method: &str, args: &[Value]) -> Result<Value, Error> {
        // `builtins.ref(…)`: the function, also where a macro of that name hides it.
        match self.builtin(method) {
            Some(function) => function.call(state, args),
            None => match (method, args) {
                ("get", [key, rest @ ..]) => {
                    let found = key.as_str().and_then(|name| self.find(name));
                    Ok(found.or_else(|| rest.first().cloned()).unwrap_or_else(|| Value::from(())))
                }
                _ => Err(Error::from(JinjaKind::UnknownMethod)),
            },
        }
    }
}

/// Answers every question with nothing: what an unknown name is while a project is parsed.
#[derive(Debug)]
pub(crate) struct Blank;

impl Object for Blank {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn get_value(self: &Arc<Self>, _: &Value) -> Option<Value> {
        Some(Value::from_object(Self))
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Empty
    }

    fn is_true(self: &Arc<Self>) -> bool {
        false
    }

    fn call(self: &Arc<Self>, _: &mut State<'_, '_>, _: &[Value]) -> Result<Value, Error> {
        Ok(Value::from_object(Self))
    }

    fn call_method(self: &Arc<Self>, _: &mut State<'_, '_>, _: &str, _: &[Value]) -> Result<Value, Error> {
        Ok(Value::from_object(Self))
    }

    fn render(self: &Arc<Self>, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        Ok(())
    }
}

/// `dbt_utils.…`: the macros of one package.
#[derive(Debug)]
struct PackageMacros {
    package: String,
    scope: Arc<Scope>,
}

impl Object for PackageMacros {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        let found = self.scope.engine.package_macros(&self.package)?.get(key.as_str()?)?;
        Some(MacroProxy::value(found, &self.scope))
    }
}

/// A macro, ready to be called from any template.
#[derive(Debug)]
pub(crate) struct MacroProxy {
    made: Arc<MacroDef>,
    scope: Arc<Scope>,
}

thread_local! {
    static DEPTH: Cell<usize> = const { Cell::new(0) };
}
const DEPTH_MAX: usize = 200;

impl MacroProxy {
    pub(crate) fn value(made: &Arc<MacroDef>, scope: &Arc<Scope>) -> Value {
        Value::from_object(Self { made: made.clone(), scope: scope.clone() })
    }
}

impl Object for MacroProxy {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        matches!(key.as_str()?, "name" | "__name__").then(|| Value::from(self.made.name.as_str()))
    }

    fn call(self: &Arc<Self>, state: &mut State<'_, '_>, args: &[Value]) -> Result<Value, Error> {
        let depth = DEPTH.get();
        if depth >= DEPTH_MAX {
            let text = format!("macro \"{}\" calls itself more than {DEPTH_MAX} deep", self.made.name);
            return Err(Error::new(JinjaKind::InvalidOperation, text));
        }
        if let Work::Parse(recorded) = &self.scope.work {
            recorded.lock().macros.push(self.made.unique_id());
        }
        let locals = bind(&self.made, state, args)?;
        let frame = Value::from_object(Frame { scope: self.scope.clone(), locals });
        DEPTH.set(depth + 1);
        let rendered = state.env().get_template(&self.made.template).and_then(|template| template.render(frame));
        DEPTH.set(depth);
        match rendered {
            Ok(text) => Ok(Value::from(text)),
            Err(error) => match returned(&error) {
                Some(value) => Ok(value),
                None => Err(Error::new(JinjaKind::InvalidOperation, format!("in macro \"{}\"", self.made.name))
                    .with_source(error)),
            },
        }
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<macro {}>", self.made.name)
    }
}

/// Arguments by name, with `varargs`, `kwargs` and `caller`.
fn bind(made: &MacroDef, state: &mut State<'_, '_>, args: &[Value]) -> Result<BTreeMap<String, Value>, Error> {
    let (positional, named) = match args.split_last() {
        Some((last, rest)) if last.is_kwargs() => (rest, own::entries_of(last)?),
        _ => (args, Vec::new()),
    };
    let mut locals = BTreeMap::new();
    let mut varargs = Vec::new();
    for (at, value) in positional.iter().enumerate() {
        match made.parameters.get(at) {
            Some(name) => {
                locals.insert(name.clone(), value.clone());
            }
            None => varargs.push(value.clone()),
        }
    }
    let mut kwargs = Vec::new();
    for (key, value) in named {
        let name = key.as_str().unwrap_or_default();
        if name == "caller" {
            // The block belongs to the caller's template and cannot be called from another one, so it is rendered now.
            let text = value.call(state, &[])?;
            locals.insert("caller".to_owned(), Value::from_object(Constant(text)));
        } else if made.parameters.iter().any(|parameter| parameter == name) {
            if locals.insert(name.to_owned(), value).is_some() {
                let text = format!("macro \"{}\" got \"{name}\" twice", made.name);
                return Err(Error::new(JinjaKind::TooManyArguments, text));
            }
        } else {
            kwargs.push((key, value));
        }
    }
    for parameter in &made.parameters {
        if !locals.contains_key(parameter) {
            locals.insert(format!("__missing_{parameter}"), Value::from(true));
            locals.insert(parameter.clone(), Value::UNDEFINED);
        } else {
            locals.insert(format!("__missing_{parameter}"), Value::from(false));
        }
    }
    locals.insert("varargs".to_owned(), own::list(varargs));
    locals.insert("kwargs".to_owned(), own::dict(kwargs));
    Ok(locals)
}

/// The variables of one macro call, over the scope.
#[derive(Debug)]
struct Frame {
    scope: Arc<Scope>,
    locals: BTreeMap<String, Value>,
}

impl Object for Frame {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.get_value_by_str(key.as_str()?)
    }

    fn get_value_by_str(self: &Arc<Self>, key: &str) -> Option<Value> {
        match self.locals.get(key) {
            Some(value) if value.is_undefined() => None,
            Some(value) => Some(value.clone()),
            None => self.scope.find(key),
        }
    }
}

/// A callable that always answers the same.
#[derive(Debug)]
struct Constant(Value);

impl Object for Constant {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn call(self: &Arc<Self>, _: &mut State<'_, '_>, _: &[Value]) -> Result<Value, Error> {
        Ok(self.0.clone())
    }
}

/// `var`.
#[derive(Debug)]
struct Variables {
    scope: Arc<Scope>,
}

impl Object for Variables {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn call(self: &Arc<Self>, _: &mut State<'_, '_>, args: &[Value]) -> Result<Value, Error> {
        let (name, default, kwargs): (String, Option<Value>, Kwargs) = from_args(args)?;
        let default = default.map_or_else(|| kwargs.get("default"), |value| Ok(Some(value)))?;
        match (self.scope.variable(&name), default) {
            (Some(value), _) => Ok(from_json(&value)),
            (None, Some(default)) => Ok(default),
            (None, None) => {
                Err(carry(Problem::new(ErrorKind::Undefined, format!("variable \"{name}\" is not set")).fix(format!(
                    "set it under `vars:` in dbt_project.yml, with `--vars '{name}: …'`, or give a default"
                ))))
            }
        }
    }

    fn call_method(self: &Arc<Self>, _: &mut State<'_, '_>, method: &str, args: &[Value]) -> Result<Value, Error> {
        match method {
            "has_var" => {
                let (name,): (String,) = from_args(args)?;
                Ok(Value::from(self.scope.variable(&name).is_some()))
            }
            _ => Err(Error::from(JinjaKind::UnknownMethod)),
        }
    }
}

/// A function of dbt's context.
#[derive(Debug)]
pub(crate) struct Builtin {
    name: &'static str,
    scope: Arc<Scope>,
}

impl Object for Builtin {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn call(self: &Arc<Self>, state: &mut State<'_, '_>, args: &[Value]) -> Result<Value, Error> {
        let scope = &self.scope;
        match self.name {
            "ref" => reference(scope, args),
            "source" => {
                let (source, table): (String, String) = from_args(args)?;
                let call = SourceCall { source, table };
                relation(
                    scope,
                    |recorded| recorded.sources.push(call.clone()),
                    &call.table,
                    |resolve| resolve.source(&call),
                )
            }
            "env_var" => env_var(&scope.engine.settings.env, args),
            "is_incremental" => Ok(Value::from(match &scope.work {
                Work::Execute(execute) => execute.is_incremental,
                Work::Parse(_) => false,
            })),
            "should_full_refresh" => Ok(Value::from(scope.engine.settings.full_refresh)),
            "return" => Err(return_error(args.first().cloned().unwrap_or_else(|| Value::from(())))),
            "log" | "print" => {
                let (message, info, kwargs): (Value, Option<bool>, Kwargs) = from_args(args)?;
                let info = info.map_or_else(|| kwargs.get("info"), |value| Ok(Some(value)))?;
                if self.name == "print" || info == Some(true) {
                    if !scope.is_parse() {
                        scope.speak(super::python::text(&message), false);
                    }
                } else {
                    tracing::debug!(node = %scope.facts.unique_id, message = %message, "log of a macro");
                }
                Ok(Value::from(""))
            }
            "run_query" => {
                let (sql,): (String,) = from_args(args)?;
                query(scope, &sql)
            }
            "statement" | "noop_statement" => self.statement(state, args),
            "load_result" => {
                let (name,): (String,) = from_args(args)?;
                Ok(scope.results.lock().get(&name).cloned().unwrap_or_else(|| Value::from(())))
            }
            "store_result" => Ok(Value::from("")),
            "doc" => {
                let name = args.last().map(super::python::text).unwrap_or_default();
                let found = scope.engine.docs.get(&name).cloned();
                let missing = || {
                    Problem::new(ErrorKind::NotFound, format!("docs block \"{name}\" does not exist"))
                        .fix("write `{% docs name %}…{% enddocs %}` in a .md file of a model path")
                };
                found.map(Value::from).ok_or_else(|| carry(missing()))
            }
            name => convert(name, args),
        }
    }
}

impl Builtin {
    /// `{% call statement('name', fetch_result=True) %}select …{% endcall %}`.
    fn statement(&self, state: &mut State<'_, '_>, args: &[Value]) -> Result<Value, Error> {
        let (name, kwargs): (Option<String>, Kwargs) = from_args(args)?;
        let name = name.map_or_else(|| kwargs.get::<Option<String>>("name"), |name| Ok(Some(name)))?;
        let caller: Option<Value> = kwargs.get("caller")?;
        let sql = match caller {
            Some(caller) => caller.call(state, &[])?.to_string(),
            None => String::new(),
        };
        if self.name == "noop_statement" || self.scope.is_parse() || sql.trim().is_empty() {
            return Ok(Value::from(""));
        }
        let table = query(&self.scope, &sql)?;
        let data = table.get_attr("rows")?;
        let result = own::dict([
            (Value::from("table"), table),
            (Value::from("data"), data),
            (Value::from("response"), Value::from("OK")),
        ]);
        self.scope.results.lock().insert(name.unwrap_or_default(), result);
        Ok(Value::from(""))
    }
}

fn reference(scope: &Arc<Scope>, args: &[Value]) -> Result<Value, Error> {
    let (first, second, kwargs): (String, Option<String>, Kwargs) = from_args(args)?;
    for key in ["v", "version"] {
        if let Some(version) = kwargs.get::<Option<Value>>(key)? {
            return Err(carry(
                Problem::new(
                    ErrorKind::Unsupported,
                    format!("versions of models (`v={version}`) are not supported here yet"),
                )
                .fix("give each version its own model name"),
            ));
        }
    }
    let (package, name) = second.map_or((None, first.clone()), |name| (Some(first), name));
    let call = RefCall { package, name };
    relation(scope, |recorded| recorded.refs.push(call.clone()), &call.name, |resolve| resolve.reference(&call))
}

fn relation(
    scope: &Arc<Scope>,
    record: impl FnOnce(&mut Recorded),
    name: &str,
    resolve: impl FnOnce(&dyn Resolve) -> Result<RelationValue, Problem>,
) -> Result<Value, Error> {
    let relation = match &scope.work {
        Work::Parse(recorded) => {
            record(&mut recorded.lock());
            RelationValue::new(&TableName::new(scope.engine.settings.schema.clone(), name))
        }
        Work::Execute(execute) => resolve(&*execute.resolve).map_err(carry)?,
    };
    Ok(Value::from_object(relation))
}

fn query(scope: &Arc<Scope>, sql: &str) -> Result<Value, Error> {
    match &scope.work {
        Work::Parse(_) => Ok(Value::from(())),
        Work::Execute(execute) => Ok(Value::from_object(execute.resolve.query(sql).map_err(carry)?)),
    }
}

fn env_var(env: &Environment, args: &[Value]) -> Result<Value, Error> {
    let (name, default): (String, Option<Value>) = from_args(args)?;
    if name.starts_with("DBT_ENV_SECRET") {
        return Err(carry(
            Problem::new(ErrorKind::Config, format!("the secret \"{name}\" cannot be read here"))
                .fix("read secrets in lode.yml, as `${env:NAME}`"),
        ));
    }
    match (env.get(&name), default) {
        (Some(value), _) => Ok(Value::from(value)),
        (None, Some(default)) => Ok(default),
        (None, None) => Err(carry(
            Problem::new(ErrorKind::Config, format!("environment variable \"{name}\" is not set"))
                .fix(format!("set it, or write `env_var('{name}', 'default')`")),
        )),
    }
}

/// Functions of values alone.
fn convert(name: &str, args: &[Value]) -> Result<Value, Error> {
    let none = || Value::from(());
    match name {
        "tojson" => {
            let (value, default, kwargs): (Value, Option<Value>, Kwargs) = from_args(args)?;
            let _: Option<bool> = kwargs.get("sort_keys")?;
            let text = python_json(&to_json(&value));
            Ok(if text.is_empty() { default.unwrap_or_else(none) } else { Value::from(text) })
        }
        "fromjson" => {
            let (text, default): (String, Option<Value>) = from_args(args)?;
            Ok(serde_json::from_str::<Json>(&text)
                .map_or_else(|_| default.unwrap_or_else(none), |json| from_json(&json)))
        }
        "fromyaml" => {
            let (text, default): (String, Option<Value>) = from_args(args)?;
            let origin = crate::config::yaml::Origin::new("<fromyaml>", text);
            let parsed = crate::config::yaml::parse(&origin);
            Ok(parsed.map_or_else(|_| default.unwrap_or_else(none), |yaml| from_json(&yaml.to_json())))
        }
        // JSON is YAML.
        "toyaml" => {
            let (value,): (Value,) = from_args(args)?;
            Ok(Value::from(python_json(&to_json(&value))))
        }
        "set" | "set_strict" => {
            let (values,): (Value,) = from_args(args)?;
            let mut unique: Vec<Value> = Vec::new();
            for value in values.try_iter()? {
                if !unique.contains(&value) {
                    unique.push(value);
                }
            }
            Ok(own::list(unique))
        }
        "zip" | "zip_strict" => {
            let lists: Result<Vec<Vec<Value>>, Error> =
                args.iter().map(|list| Ok(list.try_iter()?.collect())).collect();
            let lists = lists?;
            let length = lists.iter().map(Vec::len).min().unwrap_or(0);
            let rows =
                (0..length).map(|at| own::tuple(lists.iter().filter_map(|list| list.get(at).cloned()).collect()));
            Ok(own::list(rows.collect()))
        }
        "local_md5" => {
            let (text,): (String,) = from_args(args)?;
            Ok(Value::from(crate::md5::hex(text.as_bytes())))
        }
        "diff_of_two_dicts" => {
            let (left, right): (Value, Value) = from_args(args)?;
            let mut out = Vec::new();
            for (key, values) in own::entries_of(&left)? {
                let known: Vec<Value> = match right.get_item(&key) {
                    Ok(items) if !items.is_undefined() => items.try_iter()?.collect(),
                    _ => Vec::new(),
                };
                let missing: Vec<Value> = values.try_iter()?.filter(|value| !known.contains(value)).collect();
                if !missing.is_empty() {
                    out.push((key, own::list(missing)));
                }
            }
            Ok(own::dict(out))
        }
        other => Err(Error::new(JinjaKind::UnknownFunction, format!("{other} is unknown"))),
    }
}

/// JSON with Python's spaces: `{"a": 1, "b": [1, 2]}`.
fn python_json(value: &Json) -> String {
    match value {
        Json::Array(items) => format!("[{}]", items.iter().map(python_json).collect::<Vec<_>>().join(", ")),
        Json::Object(entries) => {
            let inside =
                entries.iter().map(|(key, item)| format!("{}: {}", Json::from(key.as_str()), python_json(item)));
            format!("{{{}}}", inside.collect::<Vec<_>>().join(", "))
        }
        other => other.to_string(),
    }
}
