//! The tables of the metadata DB, as a list of migrations. Portable: TEXT and BIGINT, no function of one database alone.

/// Schema versions from 1 on; the position in the list is the version. Never edit one that was released.
pub(super) const MIGRATIONS: &[&str] = &[V1];

/// Times are microseconds since 1970 in UTC. `lake` has one row.
const V1: &str = "
CREATE TABLE lake (
    one BIGINT NOT NULL PRIMARY KEY CHECK (one = 1),
    db_id TEXT NOT NULL,
    fence BIGINT NOT NULL
);
CREATE TABLE pipelines (
    id TEXT NOT NULL PRIMARY KEY,
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    error TEXT,
    published BIGINT NOT NULL,
    published_at BIGINT,
    source_position TEXT NOT NULL,
    rows_in BIGINT NOT NULL,
    rows_landed BIGINT NOT NULL,
    rows_quarantined BIGINT NOT NULL,
    rows_dropped BIGINT NOT NULL,
    rows_replayed BIGINT NOT NULL,
    UNIQUE (kind, name)
);
CREATE TABLE relations (
    name TEXT NOT NULL PRIMARY KEY,
    kind TEXT NOT NULL,
    table_id TEXT,
    location TEXT,
    pipeline TEXT,
    published BIGINT NOT NULL,
    view_sql TEXT,
    schema_json TEXT
);
CREATE INDEX relations_by_location ON relations (location);
CREATE TABLE files (
    pipeline TEXT NOT NULL,
    path TEXT NOT NULL,
    hash TEXT NOT NULL,
    size_bytes BIGINT NOT NULL,
    modified_ms BIGINT NOT NULL,
    state TEXT NOT NULL,
    row_count BIGINT NOT NULL,
    rows_quarantined BIGINT NOT NULL,
    note TEXT,
    dialect TEXT,
    PRIMARY KEY (pipeline, path)
);
CREATE TABLE runs (
    id TEXT NOT NULL PRIMARY KEY,
    command TEXT NOT NULL,
    started_at BIGINT NOT NULL,
    finished_at BIGINT,
    status TEXT NOT NULL,
    nodes TEXT NOT NULL
);
CREATE INDEX runs_by_start ON runs (started_at);
CREATE TABLE notes (
    scope TEXT NOT NULL,
    name TEXT NOT NULL,
    content TEXT NOT NULL,
    PRIMARY KEY (scope, name)
);
";
