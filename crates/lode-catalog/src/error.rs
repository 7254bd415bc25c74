//! What can go wrong in the catalog.

use lode_core::{Epoch, ErrorKind, Explain, Place, Problem, TableName};
use lode_lake::LakeError;

#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    #[error(transparent)]
    Lake(#[from] LakeError),
    #[error("could not {action} the metadata DB")]
    Db {
        action: &'static str,
        kind: ErrorKind,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error("could not {action} \"{path}\"")]
    Folder {
        action: &'static str,
        path: String,
        kind: ErrorKind,
        #[source]
        source: std::io::Error,
    },
    #[error("the metadata DB \"{path}\" cannot be read: {reason}")]
    Damaged { path: String, reason: String },
    /// The lake has epochs, and the DB that knew them is gone.
    #[error("the metadata DB \"{path}\" is missing, but the lake holds tables that it knew")]
    Lost { path: String },
    /// A seal that must be there is missing or does not read.
    #[error("the seal \"{path}\" {reason}")]
    BadSeal { path: String, reason: String },
    #[error("the metadata DB has schema version {found}, newer than the {known} of this Lode")]
    Newer { found: i64, known: i64 },
    #[error("the lake \"{lake}\" belongs to the metadata DB {owner}")]
    Owned { lake: String, owner: String },
    /// The lake names this data folder, but another DB in it: a rebuild was cut off, or the file was exchanged.
    #[error("the metadata DB \"{path}\" is not the one that the lake belongs to")]
    Replaced { path: String },
    #[error("another process has taken over this lake")]
    Fenced,
    #[error("epoch {epoch} of pipeline \"{pipeline}\" was sealed by someone else")]
    SealLost { pipeline: String, epoch: Epoch },
    /// Sealed, so it will happen; a later command finishes it.
    #[error("epoch {epoch} of pipeline \"{pipeline}\" is sealed but could not be finished yet")]
    Unfinished {
        pipeline: String,
        epoch: Epoch,
        #[source]
        source: Box<CatalogError>,
    },
    /// Nothing was sealed.
    #[error("table \"{table}\" {reason}")]
    Conflict { table: TableName, reason: String },
    #[error("pipeline \"{pipeline}\" is blocked at epoch {epoch}: {reason}")]
    Blocked { pipeline: String, epoch: Epoch, reason: String },
    #[error("relation \"{name}\" {reason}")]
    Relation { name: String, reason: String, fix: String },
    #[error("the data folder \"{path}\" is in use by process {pid}")]
    Locked { path: String, pid: u32 },
    #[error("{0}")]
    Fail(Problem),
}

impl Explain for CatalogError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Lake(error) => error.kind(),
            Self::Db { kind, .. } | Self::Folder { kind, .. } => *kind,
            Self::Damaged { .. } | Self::Lost { .. } | Self::BadSeal { .. } => ErrorKind::Corrupt,
            Self::Newer { .. } | Self::Owned { .. } | Self::Replaced { .. } => ErrorKind::Config,
            Self::Fenced | Self::SealLost { .. } | Self::Conflict { .. } => ErrorKind::Conflict,
            Self::Unfinished { source, .. } => source.kind(),
            Self::Blocked { .. } => ErrorKind::Blocked,
            Self::Relation { .. } => ErrorKind::NotFound,
            Self::Locked { .. } => ErrorKind::Unavailable,
            Self::Fail(problem) => problem.kind(),
        }
    }

    fn places(&self) -> Vec<Place> {
        match self {
            Self::Lake(error) => error.places(),
            Self::Damaged { path, .. }
            | Self::Lost { path }
            | Self::Replaced { path }
            | Self::BadSeal { path, .. }
            | Self::Folder { path, .. }
            | Self::Locked { path, .. } => vec![Place::of(path)],
            Self::Unfinished { source, .. } => source.places(),
            Self::Owned { lake, .. } => vec![Place::of(format!("{lake}/_lode/owner.json"))],
            Self::Fail(problem) => problem.places().to_vec(),
            _ => Vec::new(),
        }
    }

    fn remedy(&self) -> Option<String> {
        Some(match self {
            Self::Lake(error) => return error.remedy(),
            Self::Db { .. } => "check that the data folder can be written, then run the command again".into(),
            Self::Folder { .. } => {
                "check that the data folder can be read and written, then run the command again".into()
            }
            Self::BadSeal { .. } => "restore that file from a backup of the lake".into(),
            Self::Damaged { .. } | Self::Lost { .. } | Self::Replaced { .. } => {
                "run `lode doctor --rebuild`: tables, positions and ledger come back from the lake".into()
            }
            Self::Newer { .. } => "use the Lode that wrote it, or a newer one".into(),
            Self::Owned { .. } => "use that metadata DB, or take the lake over with `--adopt`".into(),
            Self::Fenced => "run the command again: it will go through the process that holds the lake".into(),
            Self::SealLost { .. } | Self::Conflict { .. } => "run the command again".into(),
            Self::Unfinished { .. } => "run the command again: what was sealed is finished first, exactly once".into(),
            Self::Blocked { .. } => "remove the cause, then run `lode pipeline resume`".into(),
            Self::Relation { fix, .. } => fix.clone(),
            Self::Locked { .. } => "wait for it to end, or stop it".into(),
            Self::Fail(problem) => return problem.remedy().map(str::to_owned),
        })
    }
}

impl From<Problem> for CatalogError {
    fn from(problem: Problem) -> Self {
        Self::Fail(problem)
    }
}
