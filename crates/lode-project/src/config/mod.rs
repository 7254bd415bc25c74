//! Project and schema files, and how their configs combine.

pub(crate) mod node_config;
pub(crate) mod project_file;
pub(crate) mod schema_file;
pub(crate) mod yaml;
