//! Feature tests of sources, formats and ingest.

mod decode_corpus;
mod decode_csv;
mod decode_json;
mod decode_parquet;
mod decode_support;
