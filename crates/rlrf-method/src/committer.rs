//! Rows on their way into the store and back.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::error::{Error, Result};
use crate::row::{Row, RowStore, Table};

/// Rows are committed in transactions of this many: what a kill can cost at most.
const COMMIT_ROWS: usize = 64;

/// Gathers rows and commits them a transaction at a time.
pub(crate) struct Committer<'a> {
    store: &'a mut dyn RowStore,
    rows: Vec<(Table, Row)>,
}

impl<'a> Committer<'a> {
    pub(crate) fn new(store: &'a mut dyn RowStore) -> Self {
        Self { store, rows: Vec::new() }
    }

    pub(crate) fn push(&mut self, table: Table, row: Row) -> Result<()> {
        self.rows.push((table, row));
        if self.rows.len() >= COMMIT_ROWS { self.flush() } else { Ok(()) }
    }

    pub(crate) fn flush(&mut self) -> Result<()> {
        if !self.rows.is_empty() {
            self.store.commit(&self.rows)?;
            self.rows.clear();
        }
        Ok(())
    }
}

/// A committed body as what it was.
pub(crate) fn read_row<T: DeserializeOwned>(table: Table, key: &str, body: Value) -> Result<T> {
    serde_json::from_value(body).map_err(|e| Error::Row {
        table: table.name(),
        key: key.to_string(),
        message: e.to_string(),
    })
}

/// What is to be committed as a body.
pub(crate) fn write_row(table: Table, key: &str, value: &impl Serialize) -> Result<Value> {
    serde_json::to_value(value).map_err(|e| Error::Row {
        table: table.name(),
        key: key.to_string(),
        message: e.to_string(),
    })
}
