//! What can go wrong with a table.

use lode_core::{ErrorKind, Explain, Place, SnapshotId, TableName};

#[derive(Debug, thiserror::Error)]
pub enum LakeError {
    #[error("\"{path}\" does not exist")]
    NotFound { path: String },
    #[error("could not {action} \"{path}\"")]
    Store {
        action: &'static str,
        path: String,
        kind: ErrorKind,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// What was found, in which store, and what to do.
    #[error("could not open store \"{store}\": {reason}")]
    Open {
        store: String,
        kind: ErrorKind,
        reason: String,
        fix: String,
        #[source]
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
    #[error("{reason}")]
    StoreOption { reason: String, fix: String },
    #[error("\"{path}\" is damaged: {reason}")]
    Corrupt { path: String, reason: String },
    #[error("table \"{table}\" has no snapshot {wanted}; the newest is {newest}")]
    NoSnapshot { table: String, wanted: SnapshotId, newest: SnapshotId },
    /// A clean-up of the log took the commits that lead there.
    #[error("snapshot {wanted} of table \"{table}\" was cleaned out of its log; the oldest left is {oldest}")]
    Cleaned { table: String, wanted: SnapshotId, oldest: SnapshotId },
    #[error("table \"{table}\" refuses the change: {reason}")]
    Refused { table: TableName, reason: String },
    #[error("{message}")]
    Schema { message: String, fix: String },
    #[error("table \"{table}\" needs {feature}, which Lode does not support")]
    Unsupported { table: String, feature: String },
    #[error("row {row} of table \"{table}\" breaks {rule}")]
    Constraint { table: TableName, row: u64, rule: String },
    /// The guard of `apply` said stop.
    #[error("another process has taken over this lake")]
    Fenced,
    #[error("could not encode rows of table \"{table}\"")]
    Encode {
        table: String,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl Explain for LakeError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::NotFound { .. } | Self::NoSnapshot { .. } | Self::Cleaned { .. } => ErrorKind::NotFound,
            Self::Store { kind, .. } | Self::Open { kind, .. } => *kind,
            Self::StoreOption { .. } => ErrorKind::Config,
            Self::Corrupt { .. } => ErrorKind::Corrupt,
            Self::Refused { .. } => ErrorKind::Blocked,
            Self::Schema { .. } => ErrorKind::TypeMismatch,
            Self::Unsupported { .. } => ErrorKind::Unsupported,
            Self::Constraint { .. } => ErrorKind::Contract,
            Self::Fenced => ErrorKind::Conflict,
            Self::Encode { .. } => ErrorKind::Internal,
        }
    }

    fn places(&self) -> Vec<Place> {
        match self {
            Self::NotFound { path } | Self::Store { path, .. } | Self::Corrupt { path, .. } => vec![Place::of(path)],
            Self::Open { store, .. } => vec![Place::of(store)],
            _ => Vec::new(),
        }
    }

    fn remedy(&self) -> Option<String> {
        Some(match self {
            Self::NotFound { .. } => "check the name, or restore the file from a backup".into(),
            Self::Store { kind: ErrorKind::Full, .. } => {
                "free some space on that disk, then run the command again: nothing was lost".into()
            }
            Self::Store { kind: ErrorKind::Denied, path, .. } if path.contains("://") => {
                "give these credentials the right to read, write, list and delete there".into()
            }
            Self::Store { kind: ErrorKind::Denied, .. } => {
                "give this user the right to read and write that folder".into()
            }
            Self::Store { .. } => "check that the storage can be reached, then run the command again".into(),
            Self::Corrupt { .. } => "restore the file from a backup, or drop the table and land it again".into(),
            Self::NoSnapshot { .. } => "list the snapshots with `lode table history`".into(),
            Self::Cleaned { .. } => {
                "read a snapshot that is left; a table that stays there waits for an epoch of `lode pipeline list` to be finished"
                    .into()
            }
            Self::Refused { .. } => {
                "undo the foreign change, or rebuild the table, then run `lode pipeline resume`".into()
            }
            Self::Schema { fix, .. } | Self::Open { fix, .. } | Self::StoreOption { fix, .. } => fix.clone(),
            Self::Unsupported { .. } => "turn the feature off in the writer that made the table".into(),
            Self::Constraint { .. } => "correct the rows, or add an expectation that quarantines them".into(),
            Self::Fenced => "run the command again: it will go through the process that holds the lake".into(),
            Self::Encode { .. } => return None,
        })
    }
}
