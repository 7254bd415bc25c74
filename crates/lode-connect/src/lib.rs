//! How data enters and leaves: sources, file formats, ingest.

pub mod decode;
