//! Finished files and folders of a run.

use rusqlite::OptionalExtension;
use serde_json::Value;

use crate::error::Error;
use crate::run::RunStore;

/// A finished file or folder, such as `models/M1`.
#[derive(Debug, Clone, PartialEq)]
pub struct Artifact {
    /// Digest of its content.
    pub digest: String,
    /// What else is to be known about it.
    pub body: Value,
}

impl RunStore {
    /// The artifact `name`, if it was recorded.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn artifact(&self, name: &str) -> Result<Option<Artifact>, Error> {
        let read = || {
            self.database
                .connection
                .prepare_cached("SELECT digest, body FROM artifacts WHERE name = ?1")?
                .query_row([name], |row| Ok((row.get(0)?, row.get(1)?)))
                .optional()
        };
        let found: Option<(String, String)> = read().map_err(|cause| self.database.failed(cause))?;
        let Some((digest, body)) = found else { return Ok(None) };
        let body = self.database.parse_body(&body, || format!("artifact {name}"))?;
        Ok(Some(Artifact { digest, body }))
    }

    /// Records that the artifact `name`, a path in the run's folder, is complete on disk; replaces an older record.
    ///
    /// Call it after the artifact was synced and renamed to its place: whoever finds the record relies on the files.
    ///
    /// # Errors
    /// The database cannot be written.
    pub fn record_artifact(&self, name: &str, digest: &str, body: &Value) -> Result<(), Error> {
        let write = || {
            self.database
                .connection
                .prepare_cached(
                    "INSERT INTO artifacts (name, digest, body) VALUES (?1, ?2, ?3)
                     ON CONFLICT (name) DO UPDATE SET digest = excluded.digest, body = excluded.body",
                )?
                .execute((name, digest, body.to_string()))
        };
        write().map(drop).map_err(|cause| self.database.failed(cause))
    }
}
