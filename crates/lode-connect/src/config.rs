//! The `ingest:` list of `lode.yml`: read, checked as a whole, and made ready for use.
//!
//! `IngestConfig` is what the file says, with places; `resolve_ingests` turns the list into `Ingest`s or says what is wrong.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::{Schema, SchemaRef};
use chrono_tz::Tz;
use globset::{GlobBuilder, GlobMatcher};
use indexmap::IndexMap;
use serde::Deserialize;
use serde::de::IgnoredAny;

use lode_core::config::{self, Environment, Span, Spanned};
use lode_core::{ErrorKind, Expectation, Place, Problem, TABLE_FORMATS, TableName, nearest, sql_type};
use lode_lake::{SchemaPolicy, StoreLocation, StoreOptions};

use crate::decode::{self, Format};

/// Columns that landing adds to every row: where it came from and when.
pub(crate) const FILE: &str = "_file";
pub(crate) const LANDED_AT: &str = "_landed_at";
/// How often a watched source is listed; in a bucket each listing costs money.
const POLL_FOLDER: Duration = Duration::from_secs(1);
const POLL_BUCKET: Duration = Duration::from_secs(10);

/// One entry of `ingest:`, as written. The keys are a closed list.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IngestConfig {
    pub name: Spanned<String>,
    pub renamed_from: Option<Spanned<String>>,
    pub files: Option<Spanned<FilesConfig>>,
    pub kafka: Option<Spanned<IgnoredAny>>,
    pub mqtt: Option<Spanned<IgnoredAny>>,
    pub http: Option<Spanned<IgnoredAny>>,
    pub postgres: Option<Spanned<IgnoredAny>>,
    pub mysql: Option<Spanned<IgnoredAny>>,
    pub airbyte: Option<Spanned<IgnoredAny>>,
    pub fivetran: Option<Spanned<IgnoredAny>>,
    pub nifi: Option<Spanned<IgnoredAny>>,
    pub pubsub: Option<Spanned<IgnoredAny>>,
    #[serde(default)]
    pub format: Format,
    pub table: Spanned<String>,
    pub columns: Option<Spanned<IndexMap<String, Spanned<String>>>>,
    pub contract: Option<ContractConfig>,
    pub start: Option<Spanned<IgnoredAny>>,
    pub commit_interval: Option<Spanned<String>>,
    pub poll_interval: Option<Spanned<String>>,
    pub event_time: Option<Spanned<IgnoredAny>>,
    pub watermark: Option<Spanned<IgnoredAny>>,
    pub late: Option<Spanned<IgnoredAny>>,
    pub timezone: Option<Spanned<String>>,
    pub on_malformed: Option<Spanned<String>>,
    pub on_schema_change: Option<Spanned<String>>,
    pub on_change: Option<Spanned<String>>,
    pub max_reject_share: Option<Spanned<f64>>,
    pub expose: Option<Spanned<Vec<String>>>,
}

/// `files: {path, pattern}`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FilesConfig {
    /// A folder (or one file), relative to the project folder, or a prefix of a bucket: `s3://bucket/prefix`.
    pub path: String,
    /// A glob over paths below the folder; without `/` it is matched against the file name, at any depth.
    pub pattern: Option<Spanned<String>>,
    /// Of the bucket.
    pub options: Option<Spanned<StoreOptions>>,
}

/// `contract: {expectations: [...]}`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ContractConfig {
    #[serde(default)]
    pub expectations: Vec<Expectation>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnMalformed {
    Quarantine,
    Drop,
    Fail,
}

/// What to do with a known path whose content is new.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnChange {
    /// Its rows land beside those of the old content.
    Land,
    /// It is reported and left alone until somebody decides.
    Fail,
    /// It is noted in the ledger and left alone.
    Ignore,
}

/// A checked entry of `ingest:` whose source is files.
#[derive(Debug, Clone, PartialEq)]
pub struct Ingest {
    pub name: String,
    pub renamed_from: Option<String>,
    pub files: FileSource,
    pub format: Format,
    pub table: TableName,
    /// Declared columns with their nullability; `None`: inferred.
    pub columns: Option<SchemaRef>,
    pub expectations: Vec<Expectation>,
    /// `None`: as soon as there is something.
    pub commit_interval: Option<Duration>,
    pub poll_interval: Duration,
    pub timezone: Option<Tz>,
    pub on_malformed: OnMalformed,
    pub on_schema_change: SchemaPolicy,
    pub on_change: OnChange,
    /// Share of rejected records (0 to 1) above which a file is refused as a whole.
    pub max_reject_share: Option<f64>,
    /// Formats that the tables are shown in: `delta` and perhaps `iceberg`; `None` as they were.
    pub expose: Option<Vec<String>>,
}

/// Where the files of a source are, and which of them belong to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileSource {
    /// As written; relative to the project folder unless absolute.
    pub path: String,
    pub pattern: Option<Pattern>,
    /// For a path in a bucket.
    pub bucket: Option<Bucket>,
}

/// A prefix of a bucket that files are taken from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bucket {
    pub(crate) location: StoreLocation,
    pub(crate) options: StoreOptions,
    /// May hold its credentials.
    pub(crate) env: Environment,
}

/// A glob over `/`-separated relative paths.
#[derive(Debug, Clone)]
pub struct Pattern {
    glob: String,
    matcher: GlobMatcher,
    is_name_only: bool,
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.glob == other.glob
    }
}

impl Eq for Pattern {}

impl Pattern {
    /// Errors: `Config` for a glob that does not parse.
    pub fn new(glob: &str) -> Result<Self, Problem> {
        let built = GlobBuilder::new(glob).literal_separator(true).empty_alternates(true).build();
        let matcher = built.map_err(|error| {
            Problem::new(ErrorKind::Config, format!("\"{glob}\" is not a file pattern"))
                .cause(error.kind())
                .fix("write a glob such as `*.csv` (any depth), `2026/*.csv` or `**/*.{csv,csv.gz}`")
        })?;
        Ok(Self { glob: glob.to_owned(), matcher: matcher.compile_matcher(), is_name_only: !glob.contains('/') })
    }

    pub(crate) fn glob(&self) -> &str {
        &self.glob
    }

    pub fn matches(&self, relative: &str) -> bool {
        let text = if self.is_name_only { relative.rsplit('/').next().unwrap_or(relative) } else { relative };
        self.matcher.is_match(text)
    }
}

impl FileSource {
    pub fn root(&self, project_dir: &Path) -> PathBuf {
        project_dir.join(&self.path)
    }
}

/// Checks the whole list. `text` and `shown_as` are the file that it was read from; `env` answers `${env:NAME}`.
/// Errors: `Config` with the place, `Unsupported` for a source or key that this version does not have.
pub fn resolve_ingests(
    list: &[IngestConfig],
    text: &str,
    shown_as: &str,
    env: &Environment,
) -> Result<Vec<Ingest>, Problem> {
    let file = ConfigFile { text, shown_as, env };
    let mut names = HashMap::new();
    let mut tables = HashMap::new();
    let mut ingests = Vec::with_capacity(list.len());
    for entry in list {
        let ingest = file.resolve(entry)?;
        if names.insert(ingest.name.clone(), ()).is_some() {
            return Err(Problem::new(ErrorKind::Config, format!("two ingests are named \"{}\"", ingest.name))
                .at(file.place(&entry.name))
                .fix("give each ingest its own name"));
        }
        if let Some(other) = tables.insert(ingest.table.clone(), ingest.name.clone()) {
            return Err(Problem::new(
                ErrorKind::Config,
                format!("ingests \"{other}\" and \"{}\" write to the same table \"{}\"", ingest.name, ingest.table),
            )
            .at(file.place(&entry.table))
            .fix("land each in its own table and unite them in a model"));
        }
        ingests.push(ingest);
    }
    Ok(ingests)
}

struct ConfigFile<'a> {
    text: &'a str,
    shown_as: &'a str,
    env: &'a Environment,
}

impl ConfigFile<'_> {
    fn place<T>(&self, spanned: &Spanned<T>) -> Place {
        config::place(spanned, self.text, self.shown_as)
    }

    fn resolve(&self, entry: &IngestConfig) -> Result<Ingest, Problem> {
        let name = &entry.name.value;
        let is_plain = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.');
        if name.is_empty() || name.len() > 100 || !name.chars().all(is_plain) {
            return Err(Problem::new(ErrorKind::Config, format!("\"{name}\" is not a name of an ingest"))
                .at(self.place(&entry.name))
                .fix("use up to 100 letters, digits, `_`, `-` and `.`"));
        }
        let files = self.source(entry)?;
        self.refuse_unsupported_keys(entry)?;
        let table: TableName =
            entry.table.value.parse().map_err(|problem: Problem| problem.at(self.place(&entry.table)))?;
        if table.is_quarantine() {
            return Err(Problem::new(ErrorKind::Config, format!("\"{table}\" is the name of a quarantine table"))
                .at(self.place(&entry.table))
                .fix("choose a name that does not end in `__quarantine`"));
        }
        Ok(Ingest {
            name: name.clone(),
            renamed_from: entry.renamed_from.as_ref().map(|old| old.value.clone()),
            format: entry.format.clone(),
            table,
            columns: entry.columns.as_ref().map(|columns| self.columns(columns)).transpose()?,
            expectations: self.expectations(entry)?,
            commit_interval: self.commit_interval(entry)?,
            poll_interval: self.poll_interval(entry, files.bucket.is_some())?,
            timezone: entry.timezone.as_ref().map(|zone| self.timezone(zone)).transpose()?,
            on_malformed: self.choice(
                &entry.on_malformed,
                "on_malformed",
                OnMalformed::Quarantine,
                &[("quarantine", OnMalformed::Quarantine), ("drop", OnMalformed::Drop), ("fail", OnMalformed::Fail)],
            )?,
            on_schema_change: self.on_schema_change(entry)?,
            on_change: self.choice(
                &entry.on_change,
                "on_change",
                OnChange::Fail,
                &[("land", OnChange::Land), ("fail", OnChange::Fail), ("ignore", OnChange::Ignore)],
            )?,
            max_reject_share: self.max_reject_share(entry)?,
            expose: self.expose(entry)?,
            files,
        })
    }

    /// The one source of an entry; only files are read in this version.
    fn source(&self, entry: &IngestConfig) -> Result<FileSource, Problem> {
        let name = &entry.name.value;
        let others = [
            ("kafka", &entry.kafka),
            ("mqtt", &entry.mqtt),
            ("http", &entry.http),
            ("postgres", &entry.postgres),
            ("mysql", &entry.mysql),
            ("airbyte", &entry.airbyte),
            ("fivetran", &entry.fivetran),
            ("nifi", &entry.nifi),
            ("pubsub", &entry.pubsub),
        ];
        let given: Vec<_> =
            others.iter().filter_map(|(kind, value)| value.as_ref().map(|value| (*kind, value))).collect();
        match (&entry.files, given.as_slice()) {
            (Some(files), []) => self.file_source(files),
            (Some(_), [(kind, value), ..]) | (None, [_, (kind, value), ..]) => {
                Err(Problem::new(ErrorKind::Config, format!("ingest \"{name}\" has more than one source"))
                    .at(self.place(value))
                    .fix(format!("keep one of them, and give `{kind}` an ingest of its own")))
            }
            (None, [(kind, value)]) => Err(Problem::new(
                ErrorKind::Unsupported,
                format!("source \"{kind}\" of ingest \"{name}\" is not in this version"),
            )
            .at(self.place(value))
            .fix("this version lands `files: {path, pattern}`; take the ingest out, or use a newer Lode")),
            (None, []) => Err(Problem::new(ErrorKind::Config, format!("ingest \"{name}\" has no source"))
                .at(self.place(&entry.name))
                .fix("add `files: {path: …, pattern: \"*.csv\"}`")),
        }
    }

    fn file_source(&self, files: &Spanned<FilesConfig>) -> Result<FileSource, Problem> {
        if files.value.path.trim().is_empty() {
            return Err(Problem::new(ErrorKind::Config, "the path of `files` is empty")
                .at(self.place(files))
                .fix("write a folder relative to the project, such as `path: landing/orders`"));
        }
        let path = config::expand_env(&files.value.path, self.env).map_err(|problem| problem.at(self.place(files)))?;
        let pattern = match &files.value.pattern {
            Some(glob) => Some(Pattern::new(&glob.value).map_err(|problem| problem.at(self.place(glob)))?),
            None => None,
        };
        let bucket = self.bucket(files, &path)?;
        Ok(FileSource { path, pattern, bucket })
    }

    fn bucket(&self, files: &Spanned<FilesConfig>, path: &str) -> Result<Option<Bucket>, Problem> {
        let at = |error| Problem::from(error).at(self.place(files));
        let location: StoreLocation = path.parse().map_err(at)?;
        let options = match &files.value.options {
            Some(options) => {
                let place = self.place(options);
                options.value.expanded(self.env).map_err(|problem| problem.at(place))?
            }
            None => StoreOptions::default(),
        };
        options.check(&location).map_err(at)?;
        if location.local().is_some() {
            return Ok(None);
        }
        Ok(Some(Bucket { location, options, env: self.env.clone() }))
    }

    /// Keys of sources that are not files: naming them is better than passing them over in silence.
    fn refuse_unsupported_keys(&self, entry: &IngestConfig) -> Result<(), Problem> {
        let keys = [
            ("start", &entry.start),
            ("event_time", &entry.event_time),
            ("watermark", &entry.watermark),
            ("late", &entry.late),
        ];
        for (key, value) in keys {
            if let Some(value) = value {
                return Err(Problem::new(
                    ErrorKind::Unsupported,
                    format!("key \"{key}\" has no meaning for a source of files"),
                )
                .at(self.place(value))
                .fix(format!("take `{key}:` out")));
            }
        }
        Ok(())
    }

    /// The formats of `expose`. Errors: `Unsupported` for another one.
    fn expose(&self, entry: &IngestConfig) -> Result<Option<Vec<String>>, Problem> {
        let Some(expose) = &entry.expose else { return Ok(None) };
        if let Some(format) = expose.value.iter().find(|format| !TABLE_FORMATS.contains(&format.as_str())) {
            return Err(Problem::new(
                ErrorKind::Unsupported,
                format!("table format \"{format}\" is not in this version"),
            )
            .at(self.place(expose))
            .fix("write `expose: [delta, iceberg]`, or take the key out"));
        }
        Ok(Some(expose.value.clone()))
    }

    fn columns(&self, columns: &Spanned<IndexMap<String, Spanned<String>>>) -> Result<SchemaRef, Problem> {
        if columns.value.is_empty() {
            return Err(Problem::new(ErrorKind::Config, "`columns` is empty")
                .at(self.place(columns))
                .fix("name the columns with their SQL types, or take the key out: they are inferred then"));
        }
        let mut seen = HashMap::new();
        let mut fields = Vec::with_capacity(columns.value.len());
        for (name, sql) in &columns.value {
            if is_reserved(name) {
                return Err(Problem::new(ErrorKind::Config, format!("column \"{name}\" is added by Lode itself"))
                    .at(self.place(sql))
                    .fix("take it out, or rename it in a model"));
            }
            if let Some(other) = seen.insert(name.to_lowercase(), name) {
                return Err(Problem::new(
                    ErrorKind::Config,
                    format!("columns \"{other}\" and \"{name}\" differ by case alone"),
                )
                .at(self.place(sql))
                .fix("rename one of them"));
            }
            let (sql_name, is_nullable) = split_not_null(&sql.value);
            let field = sql_type::field(name, sql_name).map_err(|problem| problem.at(self.place(sql)))?;
            fields.push(field.with_nullable(is_nullable));
        }
        Ok(Arc::new(Schema::new(fields)))
    }

    fn expectations(&self, entry: &IngestConfig) -> Result<Vec<Expectation>, Problem> {
        let list = entry.contract.as_ref().map(|contract| contract.expectations.clone()).unwrap_or_default();
        let mut names = HashMap::new();
        for expectation in &list {
            if expectation.name.is_empty() || names.insert(expectation.name.clone(), ()).is_some() {
                return Err(Problem::new(
                    ErrorKind::Config,
                    format!("ingest \"{}\" has two expectations named \"{}\"", entry.name.value, expectation.name),
                )
                .at(self.place(&entry.name))
                .fix("give each expectation its own name: reports and the quarantine go by it"));
            }
        }
        Ok(list)
    }

    fn commit_interval(&self, entry: &IngestConfig) -> Result<Option<Duration>, Problem> {
        match &entry.commit_interval {
            Some(text) if text.value != "auto" => self.duration(text).map(Some),
            _ => Ok(None),
        }
    }

    fn poll_interval(&self, entry: &IngestConfig, is_bucket: bool) -> Result<Duration, Problem> {
        let Some(text) = &entry.poll_interval else { return Ok(if is_bucket { POLL_BUCKET } else { POLL_FOLDER }) };
        let interval = self.duration(text)?;
        if interval < Duration::from_millis(50) {
            return Err(Problem::new(ErrorKind::Config, "`poll_interval` is below 50ms")
                .at(self.place(text))
                .fix("write 50ms or more: each poll lists the folder"));
        }
        Ok(interval)
    }

    fn duration(&self, text: &Spanned<String>) -> Result<Duration, Problem> {
        let span: Span = text.value.parse().map_err(|problem: Problem| problem.at(self.place(text)))?;
        Ok(span.0)
    }

    fn timezone(&self, zone: &Spanned<String>) -> Result<Tz, Problem> {
        zone.value.parse().map_err(|_| {
            let known = chrono_tz::TZ_VARIANTS.iter().map(|zone| zone.name());
            let fix = match nearest(&zone.value, known) {
                Some(near) => format!("did you mean \"{near}\"?"),
                None => "use a name of the IANA list, such as `Europe/Berlin` or `UTC`".to_owned(),
            };
            Problem::new(ErrorKind::Config, format!("unknown time zone \"{}\"", zone.value))
                .at(self.place(zone))
                .fix(fix)
        })
    }

    fn on_schema_change(&self, entry: &IngestConfig) -> Result<SchemaPolicy, Problem> {
        let policy = self.choice(
            &entry.on_schema_change,
            "on_schema_change",
            SchemaPolicy::Ignore,
            &[
                ("ignore", SchemaPolicy::Ignore),
                ("fail", SchemaPolicy::Fail),
                ("append_new_columns", SchemaPolicy::AppendNewColumns),
                ("sync_all_columns", SchemaPolicy::SyncAllColumns),
            ],
        )?;
        match (&entry.on_schema_change, policy) {
            (Some(value), SchemaPolicy::SyncAllColumns) => Err(Problem::new(
                ErrorKind::Unsupported,
                "`on_schema_change: sync_all_columns` would drop columns of landed files",
            )
            .at(self.place(value))
            .fix("use `append_new_columns`; drop columns in a model")),
            _ => Ok(policy),
        }
    }

    fn max_reject_share(&self, entry: &IngestConfig) -> Result<Option<f64>, Problem> {
        match &entry.max_reject_share {
            Some(share) if !(0.0..=1.0).contains(&share.value) => {
                Err(Problem::new(ErrorKind::Config, format!("`max_reject_share` is {}, not a share", share.value))
                    .at(self.place(share))
                    .fix("write a number from 0 to 1, such as 0.05 for 5 %"))
            }
            share => Ok(share.as_ref().map(|share| share.value)),
        }
    }

    fn choice<T: Copy>(
        &self,
        value: &Option<Spanned<String>>,
        key: &str,
        default: T,
        choices: &[(&str, T)],
    ) -> Result<T, Problem> {
        let Some(value) = value else { return Ok(default) };
        if let Some((_, choice)) = choices.iter().find(|(name, _)| *name == value.value) {
            return Ok(*choice);
        }
        let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
        let fix = match nearest(&value.value, names.iter().copied()) {
            Some(near) => format!("did you mean \"{near}\"?"),
            None => format!("write one of: {}", names.join(", ")),
        };
        Err(Problem::new(ErrorKind::Config, format!("\"{}\" is no choice of `{key}`", value.value))
            .at(self.place(value))
            .fix(fix))
    }
}

/// Names that landing adds to a table.
pub(crate) fn is_reserved(column: &str) -> bool {
    [FILE, LANDED_AT, decode::LINE, decode::RESCUED].iter().any(|reserved| reserved.eq_ignore_ascii_case(column))
}

/// `text not null` -> (`text`, false).
fn split_not_null(sql: &str) -> (&str, bool) {
    let trimmed = sql.trim_end();
    let lower = trimmed.to_ascii_lowercase();
    let Some(head) = lower.strip_suffix("null") else { return (sql, true) };
    let Some(head) = head.trim_end().strip_suffix("not") else { return (sql, true) };
    if !head.ends_with(char::is_whitespace) {
        return (sql, true);
    }
    (trimmed.get(..head.len()).unwrap_or(sql).trim_end(), false)
}

#[cfg(test)]
mod tests;
