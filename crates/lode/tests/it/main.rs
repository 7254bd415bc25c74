//! The binary as its users meet it.

#![expect(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

mod demo;
mod errors;
mod help;
mod process;
mod project;
mod sql;
mod support;
