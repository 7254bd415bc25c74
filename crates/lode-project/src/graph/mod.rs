//! Nodes and edges of a project, and how words select from them.

mod load;
mod names;
mod node;
mod resolve;
mod select;
mod settle;
mod tests_of;

pub(crate) use load::load;
pub(crate) use node::{Graph, Kind, Materialized, Node, Strategy, columns_json};
pub(crate) use select::select;
pub(crate) use tests_of::test_kwargs;
