//! Tables through the crate's door, on a local folder, in memory and in buckets.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on must stop")]
#![allow(clippy::print_stderr, reason = "a test that has no double to talk to says so")]

mod build;
mod doubles;

mod commit;
mod damage;
mod evolve;
mod faults;
mod iceberg;
mod keys;
mod log;
mod remote;
mod stats;
mod vectors;
mod write;
