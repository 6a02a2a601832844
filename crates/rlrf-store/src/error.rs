//! Why the run on disk could not be opened, read or written.

use std::io;
use std::path::{Path, PathBuf};

use rlrf_method::StoreError;

use crate::configuration::Difference;

/// What went wrong, where, and what to do about it.
///
/// The text of the cause is part of each message, because [`StoreError`] carries nothing but the message.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file or folder could not be read or written.
    #[error("cannot {action} {}: {cause}; {}", path.display(), advice(cause))]
    File {
        /// What was attempted.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The operating system's answer.
        cause: io::Error,
    },
    /// Another process works in the run.
    #[error(
        "another rlrf{} is working in {}: wait until it has finished or stop it, or choose another --out",
        process.map(|id| format!(" (process {id})")).unwrap_or_default(), folder.display()
    )]
    Locked {
        /// The run's folder.
        folder: PathBuf,
        /// Id of the process, where it can be read.
        process: Option<u32>,
    },
    /// The folder holds no run.
    #[error("{} holds no run ({missing} is missing): check the path", folder.display())]
    NoRun {
        /// The folder.
        folder: PathBuf,
        /// The file that a run would have.
        missing: &'static str,
    },
    /// The rows are there, but not the configuration that they were made with.
    #[error(
        "{} has rows (run.db) but not the configuration that they were made with (run.toml): restore run.toml, \
         or choose another --out",
        folder.display()
    )]
    ConfigurationMissing {
        /// The run's folder.
        folder: PathBuf,
    },
    /// A configuration is not TOML.
    #[error("{origin} is not valid TOML: {cause}; restore it, or choose another --out")]
    ConfigurationInvalid {
        /// Where the text came from.
        origin: String,
        /// The parser's answer, with the line.
        cause: Box<toml::de::Error>,
    },
    /// The run was made with another configuration.
    #[error(
        "the run in {} was made with another configuration:\n{}\nuse the original values to continue it, or \
         choose another --out for the new ones",
        folder.display(), differences.iter().map(|difference| format!("  {difference}")).collect::<Vec<_>>().join("\n")
    )]
    ConfigurationChanged {
        /// The run's folder.
        folder: PathBuf,
        /// The keys whose values differ, in alphabetical order.
        differences: Vec<Difference>,
    },
    /// `run.toml` agrees with the present configuration, but it is not what the rows were made with.
    #[error(
        "{} is not the configuration that the run began with (its digest is {given}, the run's is {recorded}): it was \
         edited, or written by another version of rlrf; restore it, or choose another --out", path.display()
    )]
    ConfigurationDigest {
        /// The path of `run.toml`.
        path: PathBuf,
        /// The digest that the run began with.
        recorded: String,
        /// The digest of the present configuration.
        given: String,
    },
    /// The tables are laid out as another version of rlrf does.
    #[error(
        "{} has schema version {found}, but this rlrf reads and writes version {expected}: use the version of rlrf \
         that made the run, or choose another --out", path.display()
    )]
    SchemaVersion {
        /// The database.
        path: PathBuf,
        /// Its version.
        found: i64,
        /// The version that is understood.
        expected: i64,
    },
    /// A database without rlrf's tables.
    #[error("{} is not the database of an rlrf run: choose another --out", path.display())]
    Foreign {
        /// The database.
        path: PathBuf,
    },
    /// The database cannot be understood.
    #[error(
        "{} is damaged or not a database ({cause}): restore it from a copy, or choose another --out and begin again",
        path.display()
    )]
    Corrupt {
        /// The database.
        path: PathBuf,
        /// What is wrong with it.
        cause: String,
    },
    /// The disk, or the space granted on it, is used up.
    #[error(
        "no space left for {}: free some and run the same command again; everything committed before is kept",
        path.display()
    )]
    DiskFull {
        /// The database.
        path: PathBuf,
    },
    /// The database cannot be opened or written.
    #[error(
        "cannot open or write {} ({cause}): check that the file and its folder are writable, or choose another --out",
        path.display()
    )]
    NotWritable {
        /// The database.
        path: PathBuf,
        /// SQLite's answer.
        cause: String,
    },
    /// Another program kept the database locked for longer than the store waits.
    #[error("another program keeps {} locked: close it and run the same command again", path.display())]
    Busy {
        /// The database.
        path: PathBuf,
    },
    /// The file system cannot hold a database in write-ahead mode.
    #[error(
        "the file system of {} does not support SQLite's write-ahead log (network file systems rarely do): choose an \
         --out on a local disk", path.display()
    )]
    NoWriteAheadLog {
        /// The database.
        path: PathBuf,
    },
    /// Any other answer of SQLite.
    #[error("{}: SQLite says: {cause}", path.display())]
    Database {
        /// The database.
        path: PathBuf,
        /// SQLite's answer.
        cause: rusqlite::Error,
    },
}

impl Error {
    /// Gives SQLite's answer about the database at `path` its meaning for the run.
    pub(crate) fn from_sqlite(path: &Path, cause: rusqlite::Error) -> Self {
        use rusqlite::ErrorCode;
        let path = path.to_path_buf();
        match cause.sqlite_error_code() {
            Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => {
                Self::Corrupt { path, cause: cause.to_string() }
            }
            Some(ErrorCode::DiskFull) => Self::DiskFull { path },
            Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => {
                Self::NotWritable { path, cause: cause.to_string() }
            }
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Self::Busy { path },
            _ => Self::Database { path, cause },
        }
    }
}

impl From<Error> for StoreError {
    fn from(error: Error) -> Self {
        Self(error.to_string())
    }
}

fn advice(cause: &io::Error) -> &'static str {
    match cause.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "free some space and run the same command again"
        }
        io::ErrorKind::NotADirectory | io::ErrorKind::AlreadyExists => {
            "a file stands where a folder is needed: choose another path"
        }
        io::ErrorKind::Unsupported => "this file system cannot do it: choose a path on a local disk",
        _ => "check the path and its permissions, or choose another",
    }
}
