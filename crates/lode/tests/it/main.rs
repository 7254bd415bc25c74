//! The binary as its users meet it.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test stops at what it did not expect, and says what it skips"
)]

mod damage;
mod demo;
mod docs;
mod errors;
mod help;
mod process;
mod project;
mod sql;
mod support;
mod twizy;
mod up;
