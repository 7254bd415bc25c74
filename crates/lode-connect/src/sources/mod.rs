//! Where data comes from: one folder a kind of source.

pub(crate) mod files;
