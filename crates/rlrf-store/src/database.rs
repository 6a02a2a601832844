//! Opening `run.db`: schema, version, durability.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rlrf_method::Table;
use rusqlite::{Connection, OpenFlags, TransactionBehavior};
use serde_json::Value;

use crate::configuration::CONFIGURATION_FILE;
use crate::error::Error;

/// Name of the database's file.
pub(crate) const DATABASE_FILE: &str = "run.db";

/// Grows with every change of the tables; kept in `PRAGMA user_version`.
const SCHEMA_VERSION: i64 = 2;

/// How long to wait for a reader that holds the database, such as a notebook or a backup.
const BUSY_TIMEOUT: Duration = Duration::from_secs(30);

/// Every statement of the store stays prepared.
const STATEMENTS: usize = 64;

/// An open `run.db` of this schema version.
#[derive(Debug)]
pub(crate) struct Database {
    /// The connection; its errors are to pass through [`Database::failed`].
    pub(crate) connection: Connection,
    path: PathBuf,
}

impl Database {
    /// Opens the database at `path` for writing; a new one begins with the digest of the run's configuration.
    pub(crate) fn create_or_open(path: PathBuf, configuration_digest: &str) -> Result<Self, Error> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
            | OpenFlags::SQLITE_OPEN_CREATE
            | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut database = Self::connect(path, flags)?;
        // Looks before it writes: a database of something else must stay as it was.
        let empty = database.is_empty()?;
        if !empty {
            database.check_version()?;
        }
        database.make_durable()?;
        if empty {
            database.create_tables(configuration_digest).map_err(|cause| database.failed(cause))?;
        }
        Ok(database)
    }

    /// Opens the database at `path` for reading; all reads see the run as it was at this moment.
    pub(crate) fn open_read_only(path: PathBuf) -> Result<Self, Error> {
        let database =
            Self::connect(path, OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
        database.connection.execute_batch("BEGIN").map_err(|cause| database.failed(cause))?;
        database.check_version()?;
        Ok(database)
    }

    /// Gives SQLite's answer its meaning for this run.
    pub(crate) fn failed(&self, cause: rusqlite::Error) -> Error {
        Error::from_sqlite(&self.path, cause)
    }

    /// Reads the JSON of `what`, such as "row KEY of pairs".
    pub(crate) fn parse_body(&self, text: &str, what: impl FnOnce() -> String) -> Result<Value, Error> {
        serde_json::from_str(text).map_err(|cause| Error::Corrupt {
            path: self.path.clone(),
            cause: format!("{} is not JSON: {cause}", what()),
        })
    }

    fn connect(path: PathBuf, flags: OpenFlags) -> Result<Self, Error> {
        let connection =
            Connection::open_with_flags(&path, flags).map_err(|cause| Error::from_sqlite(&path, cause))?;
        connection.busy_timeout(BUSY_TIMEOUT).map_err(|cause| Error::from_sqlite(&path, cause))?;
        connection.set_prepared_statement_cache_capacity(STATEMENTS);
        Ok(Self { connection, path })
    }

    /// Whether the database was never written; also after a crash between its creation and its first commit.
    fn is_empty(&self) -> Result<bool, Error> {
        let objects: u64 = self
            .connection
            .query_row("SELECT count(*) FROM sqlite_master", [], |row| row.get(0))
            .map_err(|cause| self.failed(cause))?;
        Ok(objects == 0 && self.version()? == 0)
    }

    fn version(&self) -> Result<i64, Error> {
        self.connection
            .query_row("PRAGMA user_version", [], |row| row.get(0))
            .map_err(|cause| self.failed(cause))
    }

    fn check_version(&self) -> Result<(), Error> {
        match self.version()? {
            SCHEMA_VERSION => Ok(()),
            0 => Err(Error::Foreign { path: self.path.clone() }),
            found => Err(Error::SchemaVersion { path: self.path.clone(), found, expected: SCHEMA_VERSION }),
        }
    }

    /// Write-ahead log, flushed at every commit.
    ///
    /// In WAL mode a killed process loses nothing committed under any setting, as the pages are with the operating
    /// system. `synchronous = FULL` adds the loss of power, where `NORMAL` might drop the last commits. It costs one
    /// flush per commit, milliseconds; what a commit holds took seconds to generate, or was paid for.
    fn make_durable(&self) -> Result<(), Error> {
        let mode: String = self
            .connection
            .query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))
            .map_err(|cause| self.failed(cause))?;
        if mode != "wal" {
            return Err(Error::NoWriteAheadLog { path: self.path.clone() });
        }
        self.connection.execute_batch("PRAGMA synchronous = FULL").map_err(|cause| self.failed(cause))
    }

    /// All tables, the version and the configuration's digest, or nothing.
    fn create_tables(&mut self, configuration_digest: &str) -> rusqlite::Result<()> {
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        for table in Table::ALL {
            transaction.execute_batch(&row_table(table.name()))?;
        }
        transaction.execute_batch(
            "CREATE TABLE artifacts (name TEXT PRIMARY KEY, digest TEXT NOT NULL, body TEXT NOT NULL) STRICT;
             CREATE TABLE events (
                 id INTEGER PRIMARY KEY,
                 time TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')),
                 kind TEXT NOT NULL,
                 body TEXT NOT NULL
             ) STRICT;",
        )?;
        transaction.execute(
            "INSERT INTO artifacts (name, digest, body) VALUES (?1, ?2, 'null')",
            [CONFIGURATION_FILE, configuration_digest],
        )?;
        transaction.pragma_update(None, "user_version", SCHEMA_VERSION)?;
        transaction.commit()
    }
}

/// Rows of kilobytes, so the table keeps its rowid: in a WITHOUT ROWID tree they would crowd the inner pages. The
/// body comes last, so that reading `computed` does not walk through it.
fn row_table(name: &str) -> String {
    format!(
        "CREATE TABLE {name} (
             key TEXT NOT NULL PRIMARY KEY,
             iteration INTEGER NOT NULL,
             instruction TEXT NOT NULL,
             position INTEGER NOT NULL,
             computed INTEGER NOT NULL DEFAULT 1,
             body TEXT NOT NULL
         ) STRICT;
         CREATE INDEX {name}_by_place ON {name} (iteration, instruction, position);
         CREATE INDEX {name}_computed_twice ON {name} (computed) WHERE computed > 1;"
    )
}

/// The database's path in the run's folder.
pub(crate) fn path_in(folder: &Path) -> PathBuf {
    folder.join(DATABASE_FILE)
}
