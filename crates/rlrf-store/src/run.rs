//! A run: its folder, its configuration, its database.

use std::path::{Path, PathBuf};

use crate::borrow::Borrowed;
use crate::configuration;
use crate::database::{self, DATABASE_FILE, Database};
use crate::error::Error;
use crate::file::create_folder;
use crate::lock::RunLock;

/// A run on disk.
///
/// Keeps the rows ([`rlrf_method::RowStore`]), the finished artifacts and the events. One process at a time may hold
/// a run for writing; any number may read it meanwhile.
#[derive(Debug)]
pub struct RunStore {
    // Closed before the lock is released: fields are dropped in this order.
    pub(crate) database: Database,
    folder: PathBuf,
    pub(crate) borrowed: Borrowed,
    _lock: Option<RunLock>,
}

impl RunStore {
    /// Creates the run in `folder`, or opens it to continue it.
    ///
    /// `configuration` is the resolved configuration as TOML and `configuration_digest` its digest. A run goes on
    /// only with the configuration that it began with: the same values in `run.toml` (comments and layout may
    /// differ) and the same digest.
    ///
    /// # Errors
    /// Another process works in the run; the configuration differs (the message lists the keys); the folder cannot
    /// be written; the database is damaged, of another schema version, or not one of rlrf's. An existing run is then
    /// as it was.
    pub fn create_or_open(
        folder: impl AsRef<Path>,
        configuration: &str,
        configuration_digest: &str,
    ) -> Result<Self, Error> {
        let folder = folder.as_ref().to_path_buf();
        create_folder(&folder)?;
        let lock = RunLock::acquire(&folder)?;
        let database_path = database::path_in(&folder);
        match configuration::read(&folder)? {
            Some(recorded) => configuration::compare(&folder, &recorded, configuration)?,
            None if database_path.exists() => return Err(Error::ConfigurationMissing { folder }),
            None => configuration::write(&folder, configuration)?,
        }
        let database = Database::create_or_open(database_path, configuration_digest)?;
        let run = Self { database, folder, borrowed: Borrowed::default(), _lock: Some(lock) };
        run.check_configuration_digest(configuration_digest)?;
        Ok(run)
    }

    /// Opens the run in `folder` for reading, also while another process works in it.
    ///
    /// Everything is read as of this moment; open again to see later commits. Keep it open briefly, because the
    /// writer's log grows meanwhile. The folder must be writable even so: SQLite coordinates readers and writers
    /// through a file beside the database.
    ///
    /// # Errors
    /// The folder holds no run or cannot be written; its database is damaged or of another schema version.
    pub fn open_read_only(folder: impl AsRef<Path>) -> Result<Self, Error> {
        let folder = folder.as_ref().to_path_buf();
        if configuration::read(&folder)?.is_none() {
            return Err(Error::NoRun { folder, missing: configuration::CONFIGURATION_FILE });
        }
        let path = database::path_in(&folder);
        if !path.exists() {
            return Err(Error::NoRun { folder, missing: DATABASE_FILE });
        }
        let database = Database::open_read_only(path)?;
        Ok(Self { database, folder, borrowed: Borrowed::default(), _lock: None })
    }

    /// Catches an edited `run.toml`: it would agree with the edited values, but the rows were not made with them.
    fn check_configuration_digest(&self, given: &str) -> Result<(), Error> {
        match self.artifact(configuration::CONFIGURATION_FILE)? {
            Some(recorded) if recorded.digest != given => Err(Error::ConfigurationDigest {
                path: self.folder.join(configuration::CONFIGURATION_FILE),
                recorded: recorded.digest,
                given: given.to_owned(),
            }),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use rlrf_method::{Row, RowStore, Table};

    use super::*;

    #[test]
    fn a_full_disk_fails_the_commit_and_keeps_the_rest() {
        let folder = tempfile::tempdir().unwrap();
        let mut run = RunStore::create_or_open(folder.path(), "seed = 1\n", "digest").unwrap();
        let row = |position: u32, length: usize| Row {
            key: position.to_string(),
            iteration: 1,
            instruction: "i".into(),
            position,
            body: "x".repeat(length).into(),
        };
        run.commit(&[(Table::Pairs, row(0, 10))]).unwrap();
        let limit = |run: &RunStore, pages: i64| {
            run.database.connection.pragma_update(None, "max_page_count", pages).unwrap();
        };
        let pages: i64 =
            run.database.connection.query_row("PRAGMA page_count", [], |row| row.get(0)).unwrap();
        limit(&run, pages + 10);

        let message = run
            .commit(&[(Table::Pairs, row(1, 10)), (Table::Pairs, row(2, 1 << 20))])
            .unwrap_err()
            .to_string();
        assert!(message.contains("no space left for") && message.contains("run.db"), "{message}");
        assert_eq!(run.count(Table::Pairs, 1).unwrap(), 1, "nothing of the failed commit stays");
        run.commit(&[(Table::Pairs, row(1, 10))]).unwrap();
        limit(&run, 1 << 20);
        run.commit(&[(Table::Pairs, row(2, 1 << 20))]).unwrap();
        assert_eq!(run.count(Table::Pairs, 1).unwrap(), 3);
    }
}
