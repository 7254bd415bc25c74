//! Feature tests of the engine, over a catalog and a lake of their own.

mod errors;
mod expressions;
mod fixture;
mod golden;
mod models;
mod statements;
