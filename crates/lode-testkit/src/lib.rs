//! What tests of the crates above the catalog share: a lake that goes away, rows in tables, golden files.
//!
//! Only ever a dev-dependency. Core, lake and catalog test without it: they would be compiled twice.

mod golden;
mod lake;

pub use golden::golden;
pub use lake::TempLake;
