//! Feature tests of the project: small folders in, statements at a fake warehouse and results out.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests")]

mod errors;
mod golden;
mod jinja;
mod reuse;
mod run;
mod seeds;
mod select;
mod support;
