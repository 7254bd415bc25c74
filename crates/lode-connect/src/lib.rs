//! How data enters: sources, file formats, landing in bronze, and the quarantine of what could not land.
//!
//! `resolve_ingests` reads the `ingest:` list of `lode.yml`; `land_once` and `watch` land its sources, each batch of files
//! as one epoch of the source's pipeline; `quarantine` lists, shows and replays what was rejected.

mod config;
pub mod decode;
mod ingest;
pub mod quarantine;
mod sources;
mod watch;

pub use config::{
    ContractConfig, FileSource, FilesConfig, Ingest, IngestConfig, OnChange, OnMalformed, Pattern, resolve_ingests,
};
pub use ingest::{IngestContext, LandOptions, LandReport, land_once};
pub use watch::{STATE_SCOPE, SourceState, watch, watch_list};
