//! Rows on their way into the store and back, for every stage that draws, judges or measures.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::error::{Error, Result};
use crate::row::{Row, RowStore, Table};

/// Rows are committed in transactions of this many: what a kill can cost at most.
const COMMIT_ROWS: usize = 64;

/// Gathers rows and commits them a transaction at a time.
pub struct Committer<'a> {
    store: &'a mut dyn RowStore,
    rows: Vec<(Table, Row)>,
}

impl<'a> Committer<'a> {
    /// Nothing is committed yet.
    pub fn new(store: &'a mut dyn RowStore) -> Self {
        Self { store, rows: Vec::new() }
    }

    /// Adds a row; commits when a transaction is full.
    ///
    /// # Errors
    /// The store failed.
    pub fn push(&mut self, table: Table, row: Row) -> Result<()> {
        self.rows.push((table, row));
        if self.rows.len() >= COMMIT_ROWS { self.flush() } else { Ok(()) }
    }

    /// Commits what is left; to be called also when the stage failed or was interrupted.
    ///
    /// # Errors
    /// The store failed.
    pub fn flush(&mut self) -> Result<()> {
        if !self.rows.is_empty() {
            self.store.commit(&self.rows)?;
            self.rows.clear();
        }
        Ok(())
    }
}

/// A committed body as what it was.
///
/// # Errors
/// The body is not what this program writes.
pub fn read_row<T: DeserializeOwned>(table: Table, key: &str, body: Value) -> Result<T> {
    serde_json::from_value(body).map_err(|e| Error::Row {
        table: table.name(),
        key: key.to_string(),
        message: e.to_string(),
    })
}

/// What is to be committed as a body.
///
/// # Errors
/// Never in practice: plain data always serialises.
pub fn write_row(table: Table, key: &str, value: &impl Serialize) -> Result<Value> {
    serde_json::to_value(value).map_err(|e| Error::Row {
        table: table.name(),
        key: key.to_string(),
        message: e.to_string(),
    })
}
