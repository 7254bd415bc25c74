//! How data enters and leaves: sources, file formats, ingest.

mod config;
pub mod decode;

pub use config::{
    ContractConfig, FileSource, FilesConfig, Ingest, IngestConfig, OnChange, OnMalformed, Pattern, resolve_ingests,
};
