//! Feature tests of the engine, over a catalog and a lake of their own.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on must stop")]

mod changes;
mod checkpoints;
mod errors;
mod expressions;
mod feeds;
mod fixture;
mod foreign;
mod golden;
mod maintenance;
mod merges;
mod models;
mod statements;
mod types;
