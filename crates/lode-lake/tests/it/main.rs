//! Tables through the crate's door, on a local folder and in memory.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on must stop")]

mod build;

mod commit;
mod damage;
mod evolve;
mod faults;
mod iceberg;
mod log;
mod stats;
mod vectors;
mod write;
