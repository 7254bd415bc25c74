//! Feature tests of sources, formats and ingest: records decoded, files landed, read back.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "tests may")]

mod changes;
mod contract;
mod crash;
mod decode_corpus;
mod decode_csv;
mod decode_hostile;
mod decode_json;
mod decode_parquet;
mod decode_support;
mod dirt;
mod identity;
mod replay;
mod scale;
mod schema;
mod slice;
mod watch;
mod world;
