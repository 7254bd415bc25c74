//! The binary as its users meet it.

mod errors;
mod help;
mod process;
mod project;
mod sql;
mod support;
