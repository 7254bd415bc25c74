//! What can be wrong with a project.

use lode_core::{ErrorKind, Explain, Place};

#[derive(Debug, thiserror::Error)]
pub enum ProjectError {
    #[error("\"{file}\" is not valid YAML: {message}")]
    Yaml { file: String, message: String, place: Place },
    #[error("{subject} must be {wanted}, found {found}")]
    Shape { subject: String, wanted: &'static str, found: String, place: Place },
    #[error("key \"{key}\" is missing in {subject}")]
    MissingKey { key: &'static str, subject: String, place: Place },
    #[error("could not read \"{path}\"")]
    Read {
        path: String,
        #[source]
        source: std::io::Error,
    },
    #[error("no dbt_project.yml in \"{dir}\"")]
    NoProject { dir: String },
    #[error("\"{name}\" is not a name: {reason}")]
    BadName { name: String, reason: &'static str, place: Place },
    #[error("two {what} are named \"{name}\"")]
    Duplicate { what: &'static str, name: String, places: Vec<Place> },
    #[error("{message}")]
    Jinja { message: String, kind: ErrorKind, places: Vec<Place>, fix: Option<String> },
    #[error("{subject} depends on {target}, which was not found")]
    UnknownNode { subject: String, target: String, place: Place, fix: String },
    #[error("{subject} depends on {target}, which is disabled")]
    DisabledNode { subject: String, target: String, place: Place },
    #[error("models depend on each other: {}", .path.join(" -> "))]
    Cycle { path: Vec<String>, places: Vec<Place> },
    #[error("{what} is not supported here yet")]
    Unsupported { what: String, instead: String, place: Place },
    #[error("config \"{key}\" of {subject} is {found}")]
    BadConfig { key: String, subject: String, found: String, fix: String, place: Place },
    #[error("selector \"{text}\" cannot be read: {reason}")]
    Selector { text: String, reason: String, fix: String },
    #[error("seed \"{seed}\": {reason}")]
    Seed { seed: String, reason: String, place: Place, fix: String },
}

impl Explain for ProjectError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Yaml { .. }
            | Self::Shape { .. }
            | Self::MissingKey { .. }
            | Self::BadName { .. }
            | Self::Duplicate { .. }
            | Self::Cycle { .. }
            | Self::DisabledNode { .. }
            | Self::UnknownNode { .. }
            | Self::BadConfig { .. }
            | Self::NoProject { .. } => ErrorKind::Config,
            Self::Read { source, .. } => match source.kind() {
                std::io::ErrorKind::NotFound => ErrorKind::NotFound,
                std::io::ErrorKind::PermissionDenied => ErrorKind::Denied,
                std::io::ErrorKind::InvalidData => ErrorKind::Config,
                std::io::ErrorKind::StorageFull => ErrorKind::Full,
                _ => ErrorKind::Unavailable,
            },
            Self::Jinja { kind, .. } => *kind,
            Self::Unsupported { .. } => ErrorKind::Unsupported,
            Self::Selector { .. } => ErrorKind::Usage,
            Self::Seed { .. } => ErrorKind::Data,
        }
    }

    fn places(&self) -> Vec<Place> {
        match self {
            Self::Yaml { place, .. }
            | Self::Shape { place, .. }
            | Self::MissingKey { place, .. }
            | Self::BadName { place, .. }
            | Self::UnknownNode { place, .. }
            | Self::DisabledNode { place, .. }
            | Self::Unsupported { place, .. }
            | Self::BadConfig { place, .. }
            | Self::Seed { place, .. } => vec![place.clone()],
            Self::Duplicate { places, .. } | Self::Jinja { places, .. } | Self::Cycle { places, .. } => places.clone(),
            Self::Read { path, .. } => vec![Place::of(path)],
            Self::NoProject { dir } => vec![Place::of(dir)],
            Self::Selector { .. } => Vec::new(),
        }
    }

    fn remedy(&self) -> Option<String> {
        Some(match self {
            Self::Yaml { .. } => "correct the indentation or quote the value".into(),
            Self::Shape { wanted, .. } => format!("write {wanted}"),
            Self::MissingKey { key, .. } => format!("add `{key}:`"),
            Self::Read { .. } => "check that the file exists, is UTF-8 and can be read".into(),
            Self::NoProject { .. } => "run `lode init DIR`, or name the folder with `--project-dir DIR`".into(),
            Self::BadName { .. } => "use letters, digits and `_`, not starting with a digit".into(),
            Self::Duplicate { .. } => "rename one of them".into(),
            Self::Jinja { fix, .. } => return fix.clone(),
            Self::UnknownNode { fix, .. } => fix.clone(),
            Self::DisabledNode { .. } => "enable it (`enabled: true`), or do not refer to it".into(),
            Self::Cycle { .. } => "break the circle: let one of them read its source, or split it".into(),
            Self::Unsupported { instead, .. } => instead.clone(),
            Self::BadConfig { fix, .. } | Self::Selector { fix, .. } | Self::Seed { fix, .. } => fix.clone(),
        })
    }
}
