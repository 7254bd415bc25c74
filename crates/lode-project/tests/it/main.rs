//! Feature tests of the project: small folders in, statements at a fake warehouse and results out.

mod errors;
mod golden;
mod jinja;
mod reuse;
mod run;
mod seeds;
mod select;
mod support;
