//! Tables through the crate's door, on a local folder and in memory.

mod build;

mod commit;
mod damage;
mod evolve;
mod faults;
mod log;
mod stats;
mod vectors;
mod write;
