//! The catalog through its door: opening, epochs under disturbances, rebuild.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests")]

mod epochs;
mod kill;
mod open;
mod random;
mod rebuild;
mod traces;
mod world;
