//! The binary as its users meet it.

mod demo;
mod errors;
mod help;
mod process;
mod project;
mod sql;
mod support;
