//! What happened when: the only place in a run with times of day.

use serde_json::Value;

use crate::error::Error;
use crate::run::RunStore;

/// Something that happened: the run started, a stage finished, it was interrupted.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// When, in UTC: `2025-01-31T12:00:00.000Z`.
    pub time: String,
    /// What.
    pub kind: String,
    /// The particulars.
    pub body: Value,
}

impl RunStore {
    /// Records that something happened now.
    ///
    /// # Errors
    /// The database cannot be written.
    pub fn event(&self, kind: &str, body: &Value) -> Result<(), Error> {
        let write = || {
            self.database
                .connection
                .prepare_cached("INSERT INTO events (kind, body) VALUES (?1, ?2)")?
                .execute((kind, body.to_string()))
        };
        write().map(drop).map_err(|cause| self.database.failed(cause))
    }

    /// Every event, in the order in which they were recorded.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn events(&self) -> Result<Vec<Event>, Error> {
        let read = || {
            self.database
                .connection
                .prepare_cached("SELECT time, kind, body FROM events ORDER BY id")?
                .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
                .collect::<rusqlite::Result<Vec<(String, String, String)>>>()
        };
        let found = read().map_err(|cause| self.database.failed(cause))?;
        found
            .into_iter()
            .map(|(time, kind, body)| {
                let body = self.database.parse_body(&body, || format!("event {kind} of {time}"))?;
                Ok(Event { time, kind, body })
            })
            .collect()
    }
}
