//! Files of a folder: found, told apart from what landed before, and landed in bronze.

pub(crate) mod bronze;
pub(crate) mod bucket;
pub(crate) mod collect;
pub(crate) mod discover;
pub(crate) mod identity;
pub(crate) mod land;
pub(crate) mod rows;
