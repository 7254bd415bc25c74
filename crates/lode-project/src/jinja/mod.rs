//! Jinja as dbt means it, on upstream minijinja: a lexer pass before it, macro proxies and changeable values around it.

pub(crate) mod block;
mod datetime;
pub(crate) mod engine;
mod fault;
pub(crate) mod lex;
mod objects;
pub(crate) mod own;
pub(crate) mod python;
pub(crate) mod scope;
pub(crate) mod table;

pub(crate) use engine::{Engine, EngineBuilder, Settings, on_big_stack};
pub(crate) use objects::{RelationValue, from_json};
pub(crate) use scope::{Execute, NodeFacts, RefCall, Resolve, Scope, SourceCall};
pub(crate) use table::Table;
