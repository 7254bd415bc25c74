//! All templates and macros of a project in one minijinja environment.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Value, ValueKind};
use minijinja::{AutoEscape, Environment, OutputSpanKind, UndefinedBehavior};
use parking_lot::Mutex;
use serde_json::{Map, Value as Json};

use lode_core::{ErrorKind, Place, Problem};

use super::block::{Block, BlockKind, blocks};
use super::fault;
use super::lex::{LexFault, Rewritten, SegmentKind, rewrite, segments};
use super::python;
use super::scope::Scope;
use crate::config::yaml::Origin;
use crate::error::ProjectError;

/// Namespace of the macros that ship with Lode.
pub(crate) const INTERNAL: &str = "dbt";
/// Prefixes that `adapter.dispatch` tries, in order.
pub(crate) const DISPATCH_CHAIN: &[&str] = &["lode__", "postgres__", "default__"];

/// What all renders of an invocation share.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) project: String,
    pub(crate) schema: String,
    pub(crate) env: lode_core::config::Environment,
    pub(crate) target: String,
    pub(crate) threads: usize,
    pub(crate) full_refresh: bool,
    pub(crate) now: DateTime<Utc>,
    pub(crate) invocation_id: String,
    pub(crate) command_vars: Map<String, Json>,
    /// `vars:` of dbt_project.yml: global ones, and maps under package names.
    pub(crate) project_vars: Map<String, Json>,
    pub(crate) dispatch: Vec<(String, Vec<String>)>,
}

/// One macro; its body is a template of its own, and its parameters are that template's variables.
#[derive(Debug)]
pub(crate) struct MacroDef {
    pub(crate) package: String,
    pub(crate) name: String,
    pub(crate) parameters: Vec<String>,
    pub(crate) template: String,
    pub(crate) path: String,
    pub(crate) text: String,
    pub(crate) place: Place,
}

impl MacroDef {
    pub(crate) fn unique_id(&self) -> String {
        format!("macro.{}.{}", self.package, self.name)
    }
}

/// Where a template came from, for errors.
#[derive(Debug)]
pub(crate) struct TemplateSource {
    pub(crate) origin: Origin,
    pub(crate) rewritten: Rewritten,
}

/// A message of `log(…, info=true)`, `print` or `exceptions.warn`.
#[derive(Debug, Clone)]
pub(crate) struct Spoken {
    pub(crate) message: String,
    pub(crate) is_warning: bool,
}

/// For each stretch of rendered text, where it stands in the file.
#[derive(Debug, Clone, Default)]
pub(crate) struct SourceMap {
    pieces: Vec<Piece>,
}

#[derive(Debug, Clone)]
struct Piece {
    output: Range<usize>,
    original: usize,
    /// Text of the file itself, not the value of an expression.
    is_verbatim: bool,
}

impl SourceMap {
    /// Offset in the file of an offset in the rendered text; for the output of an expression, that of the expression.
    pub(crate) fn original(&self, offset: usize) -> Option<usize> {
        let piece = self.pieces.iter().find(|piece| piece.output.contains(&offset)).or(self.pieces.last())?;
        let inside = if piece.is_verbatim { offset.saturating_sub(piece.output.start) } else { 0 };
        Some(piece.original + inside)
    }
}

pub(crate) struct Engine {
    env: Environment<'static>,
    /// By package, then by name.
    macros: BTreeMap<String, BTreeMap<String, Arc<MacroDef>>>,
    templates: HashMap<String, TemplateSource>,
    pub(crate) docs: BTreeMap<String, String>,
    /// Blocks that dbt knows and Lode does not run, by (kind, name).
    pub(crate) refused: Vec<(BlockKind, String, Place)>,
    pub(crate) settings: Settings,
    pub(crate) spoken: Mutex<Vec<Spoken>>,
}

/// Collects templates, then freezes into an [`Engine`].
pub(crate) struct EngineBuilder {
    engine: Engine,
}

impl EngineBuilder {
    pub(crate) fn new(settings: Settings) -> Result<Self, ProjectError> {
        let mut env = Environment::new();
        env.set_syntax(syntax());
        env.set_auto_escape_callback(|_| AutoEscape::None);
        env.set_undefined_behavior(UndefinedBehavior::Lenient);
        env.set_unknown_method_callback(python::unknown_method);
        env.set_formatter(|out, _, value| {
            if !value.is_undefined() {
                out.write_str(&python::text(value))?;
            }
            Ok(())
        });
        python::register(&mut env);
        let mut builder = Self {
            engine: Engine {
                env,
                macros: BTreeMap::new(),
                templates: HashMap::new(),
                docs: BTreeMap::new(),
                refused: Vec::new(),
                settings,
                spoken: Mutex::new(Vec::new()),
            },
        };
        for (path, text) in INTERNAL_MACROS {
            builder.add_macro_file(INTERNAL, &Origin::new(*path, *text))?;
        }
        Ok(builder)
    }

    /// Registers every block of a macro file; text between blocks is ignored, as in dbt.
    pub(crate) fn add_macro_file(&mut self, package: &str, origin: &Origin) -> Result<(), ProjectError> {
        for block in blocks(&origin.text).map_err(|fault| lex_error(fault, origin))? {
            if let Some(made) = self.add_block(package, origin, &block, "")? {
                let named = self.engine.macros.entry(package.to_owned()).or_default();
                if let Some(old) = named.get(&made.name) {
                    return Err(ProjectError::Duplicate {
                        what: "macros",
                        name: made.name.clone(),
                        places: vec![old.place.clone(), made.place.clone()],
                    });
                }
                named.insert(made.name.clone(), Arc::new(made));
            }
        }
        Ok(())
    }

    /// Registers the text of a node without its blocks. Returns the template's name and the macros of its own.
    pub(crate) fn add_node_file(
        &mut self,
        package: &str,
        origin: &Origin,
    ) -> Result<(String, Vec<Arc<MacroDef>>), ProjectError> {
        let found = blocks(&origin.text).map_err(|fault| lex_error(fault, origin))?;
        let mut own = Vec::new();
        for block in &found {
            if let Some(made) = self.add_block(package, origin, block, &origin.path)? {
                own.push(Arc::new(made));
            }
        }
        let holes: Vec<_> = found.into_iter().map(|block| block.range).collect();
        // As Jinja2 does, one newline at the end goes.
        let end = origin
            .text
            .strip_suffix('\n')
            .map_or(origin.text.len(), |text| text.strip_suffix('\r').unwrap_or(text).len());
        let holes: Vec<_> = holes.into_iter().filter(|hole| hole.end <= end).collect();
        let rewritten = rewrite(&origin.text, 0..end, &holes, "").map_err(|fault| lex_error(fault, origin))?;
        let name = origin.path.to_string();
        self.add_template(name.clone(), origin, rewritten)?;
        Ok((name, own))
    }

    fn add_block(
        &mut self,
        package: &str,
        origin: &Origin,
        block: &Block,
        file: &str,
    ) -> Result<Option<MacroDef>, ProjectError> {
        let place = Place::at_offset(origin.path.to_string(), &origin.text, block.range.start);
        let name = match block.kind {
            BlockKind::Macro => block.name.clone(),
            BlockKind::Test => format!("test_{}", block.name),
            BlockKind::Docs => {
                let text = origin.text.get(block.body.clone()).unwrap_or_default();
                self.engine.docs.insert(block.name.clone(), text.trim().to_owned());
                return Ok(None);
            }
            BlockKind::Snapshot | BlockKind::Materialization => {
                self.engine.refused.push((block.kind, block.name.clone(), place));
                return Ok(None);
            }
        };
        let mut body = block.body.clone();
        if block.trims_end {
            let text = origin.text.get(body.clone()).unwrap_or_default();
            body.end = body.start + text.trim_end().len();
        }
        let mut prologue = String::new();
        for parameter in &block.parameters {
            if let Some(default) = &parameter.default {
                let name = &parameter.name;
                let default = default.replace('\n', " ");
                prologue.push_str(&format!("{{% if __missing_{name} %}}{{% set {name} = ({default}) %}}{{% endif %}}"));
            }
        }
        if block.trims_start {
            prologue.push_str("{% if true -%}");
        }
        let prologue = rewrite(&prologue, 0..prologue.len(), &[], "").map_err(|fault| lex_error(fault, origin))?.text;
        let mut rewritten =
            rewrite(&origin.text, body.clone(), &[], &prologue).map_err(|fault| lex_error(fault, origin))?;
        if block.trims_start {
            rewritten.text.push_str("{% endif %}");
        }
        let template = format!("macro:{package}.{file}:{name}");
        self.add_template(template.clone(), origin, rewritten)?;
        Ok(Some(MacroDef {
            package: package.to_owned(),
            name,
            parameters: block.parameters.iter().map(|parameter| parameter.name.clone()).collect(),
            template,
            path: origin.path.to_string(),
            text: origin.text.get(block.range.clone()).unwrap_or_default().to_owned(),
            place,
        }))
    }

    /// Registers text that is not a file of its own (a generic test, an inline query).
    pub(crate) fn add_text(&mut self, name: &str, origin: &Origin) -> Result<(), ProjectError> {
        let rewritten =
            rewrite(&origin.text, 0..origin.text.len(), &[], "").map_err(|fault| lex_error(fault, origin))?;
        self.add_template(name.to_owned(), origin, rewritten)
    }

    fn add_template(&mut self, name: String, origin: &Origin, rewritten: Rewritten) -> Result<(), ProjectError> {
        let added = self.engine.env.add_template_owned(name.clone(), rewritten.text.clone());
        self.engine.templates.insert(name, TemplateSource { origin: origin.clone(), rewritten });
        added.map_err(|error| fault::explain(&error, &self.engine, origin))
    }

    pub(crate) fn finish(self) -> Arc<Engine> {
        Arc::new(self.engine)
    }
}

pub(crate) fn lex_error(fault: LexFault, origin: &Origin) -> ProjectError {
    ProjectError::Jinja {
        message: fault.message,
        kind: ErrorKind::Syntax,
        places: vec![Place::at_offset(origin.path.to_string(), &origin.text, fault.offset)],
        fix: Some("close it".into()),
    }
}

impl Engine {
    pub(crate) fn package_macros(&self, package: &str) -> Option<&BTreeMap<String, Arc<MacroDef>>> {
        self.macros.get(package)
    }

    pub(crate) fn all_macros(&self) -> impl Iterator<Item = &Arc<MacroDef>> {
        self.macros.values().flat_map(BTreeMap::values)
    }

    /// A macro as `package` sees a bare name: its own, the root project's, the built-in ones.
    pub(crate) fn find_macro(&self, package: &str, name: &str) -> Option<&Arc<MacroDef>> {
        [package, &self.settings.project, INTERNAL].into_iter().find_map(|package| self.macros.get(package)?.get(name))
    }

    pub(crate) fn template(&self, name: &str) -> Option<&TemplateSource> {
        self.templates.get(name)
    }

    pub(crate) fn is_function(&self, name: &str) -> bool {
        self.env.globals().any(|(known, _)| known == name)
    }

    /// The packages that `dispatch` searches, in order.
    pub(crate) fn dispatch_order(&self, namespace: Option<&str>) -> Vec<String> {
        let root = &self.settings.project;
        if let Some(namespace) = namespace {
            if let Some((_, order)) = self.settings.dispatch.iter().find(|(known, _)| known == namespace) {
                return order.clone();
            }
            return vec![root.clone(), namespace.to_owned()];
        }
        let others = self.macros.keys().filter(|package| *package != root && *package != INTERNAL);
        [root.clone()].into_iter().chain(others.cloned()).chain([INTERNAL.to_owned()]).collect()
    }

    /// Renders a registered template.
    pub(crate) fn render(&self, template: &str, scope: &Arc<Scope>) -> Result<String, ProjectError> {
        let origin = self.template(template).map(|source| source.origin.clone());
        let origin = origin.unwrap_or_else(|| Origin::new(template, ""));
        let rendered =
            self.env.get_template(template).and_then(|found| found.render(Value::from_dyn_object(scope.clone())));
        rendered.map_err(|error| fault::explain(&error, self, &origin))
    }

    /// Renders a registered template, and says where each byte came from.
    pub(crate) fn render_mapped(
        &self,
        template: &str,
        scope: &Arc<Scope>,
    ) -> Result<(String, SourceMap), ProjectError> {
        let source = self.template(template);
        let origin = source.map_or_else(|| Origin::new(template, ""), |source| source.origin.clone());
        let rendered = self
            .env
            .get_template(template)
            .and_then(|found| found.render_with_spans(Value::from_dyn_object(scope.clone())));
        let (text, spans) = rendered.map_err(|error| fault::explain(&error, self, &origin))?;
        let pieces = spans.iter().map(|span| Piece {
            output: span.output_range(),
            original: source.map_or(0, |source| source.rewritten.original(span.source_range().start)),
            is_verbatim: span.kind() == OutputSpanKind::Raw,
        });
        Ok((text, SourceMap { pieces: pieces.collect() }))
    }

    /// Renders a text of a YAML file or of the command line.
    pub(crate) fn render_text(&self, text: &str, scope: &Arc<Scope>, place: &Place) -> Result<String, ProjectError> {
        if !has_tags(text) {
            return Ok(text.to_owned());
        }
        let origin = Origin::new(place.origin.clone(), text);
        let rewritten =
            rewrite(text, 0..text.len(), &[], "").map_err(|fault| at_place(lex_error(fault, &origin), place))?;
        let rendered = self.env.render_named_str("<text>", &rewritten.text, Value::from_dyn_object(scope.clone()));
        rendered.map_err(|error| at_place(fault::explain(&error, self, &origin), place))
    }

    /// Evaluates one expression.
    pub(crate) fn evaluate(&self, expression: &str, scope: &Arc<Scope>, place: &Place) -> Result<Value, ProjectError> {
        let origin = Origin::new(place.origin.clone(), expression);
        // Rewritten as the tag it came from, since literals need `own` here too.
        let tag = format!("{{{{{expression}}}}}");
        let rewritten =
            rewrite(&tag, 0..tag.len(), &[], "").map_err(|fault| at_place(lex_error(fault, &origin), place))?;
        let inner =
            rewritten.text.strip_prefix("{{").and_then(|text| text.strip_suffix("}}")).unwrap_or_default().to_owned();
        let value = self
            .env
            .compile_expression_owned(inner)
            .and_then(|compiled| compiled.eval(Value::from_dyn_object(scope.clone())));
        value.map_err(|error| at_place(fault::explain(&error, self, &origin), place))
    }

    /// A YAML value with its texts rendered; a text that is one whole `{{ expression }}` keeps the expression's type.
    pub(crate) fn render_json(&self, value: &Json, scope: &Arc<Scope>, place: &Place) -> Result<Json, ProjectError> {
        Ok(match value {
            Json::String(text) => match whole_expression(text) {
                Some(expression) => to_json(&self.evaluate(expression, scope, place)?),
                None => Json::String(self.render_text(text, scope, place)?),
            },
            Json::Array(items) => {
                Json::Array(items.iter().map(|item| self.render_json(item, scope, place)).collect::<Result<_, _>>()?)
            }
            Json::Object(entries) => {
                let mut out = Map::new();
                for (key, item) in entries {
                    out.insert(key.clone(), self.render_json(item, scope, place)?);
                }
                Json::Object(out)
            }
            other => other.clone(),
        })
    }
}

fn has_tags(text: &str) -> bool {
    text.contains("{{") || text.contains("{%") || text.contains("{#")
}

/// The inside of a text that is one `{{ … }}` and nothing else.
pub(crate) fn whole_expression(text: &str) -> Option<&str> {
    let text = text.trim();
    match segments(text).ok()?.as_slice() {
        [only] if only.kind == SegmentKind::Expression => text.get(only.inner.clone()),
        _ => None,
    }
}

/// A value as JSON; what JSON has no form for becomes its text.
pub(crate) fn to_json(value: &Value) -> Json {
    match value.kind() {
        ValueKind::Undefined | ValueKind::None => Json::Null,
        ValueKind::Plain => Json::String(value.to_string()),
        _ => serde_json::to_value(value).unwrap_or(Json::Null),
    }
}

/// Errors in a YAML value point at the value's place in its file.
fn at_place(error: ProjectError, place: &Place) -> ProjectError {
    match error {
        ProjectError::Jinja { message, kind, fix, .. } => {
            ProjectError::Jinja { message, kind, fix, places: vec![place.clone()] }
        }
        other => other,
    }
}

/// Jinja2's syntax, where the newline at the end of a macro's body stays.
fn syntax() -> SyntaxConfig {
    let mut builder = SyntaxConfig::builder();
    builder.keep_trailing_newline(true);
    // The delimiters are the usual ones, so that building cannot fail.
    builder.build().unwrap_or_default()
}

/// Runs `work` on a thread with room for deep macro calls.
/// Errors: `Internal` if it panicked.
pub(crate) fn on_big_stack<T: Send>(work: impl FnOnce() -> T + Send) -> Result<T, Problem> {
    const STACK_BYTES: usize = 64 << 20;
    std::thread::scope(|threads| {
        let thread = std::thread::Builder::new().name("jinja".into()).stack_size(STACK_BYTES);
        let handle = thread.spawn_scoped(threads, work);
        let handle = handle.map_err(|error| {
            Problem::new(ErrorKind::Unavailable, "could not start a thread for Jinja")
                .cause(error)
                .fix("free some memory")
        })?;
        handle.join().map_err(|_| Problem::internal("rendering stopped"))
    })
}

const INTERNAL_MACROS: &[(&str, &str)] = &[
    ("macros/naming.sql", include_str!("../macros/naming.sql")),
    ("macros/tests.sql", include_str!("../macros/tests.sql")),
    ("macros/types.sql", include_str!("../macros/types.sql")),
    ("macros/functions.sql", include_str!("../macros/functions.sql")),
];
