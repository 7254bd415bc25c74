//! The catalog through its door: opening, epochs under disturbances, rebuild.

mod epochs;
mod kill;
mod open;
mod random;
mod rebuild;
mod traces;
mod world;
