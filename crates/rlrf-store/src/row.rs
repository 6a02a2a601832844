//! The rows of a run.

use rlrf_method::{Row, RowStore, StoreError, Table};
use rusqlite::{OptionalExtension, Transaction, TransactionBehavior};
use serde_json::Value;

use crate::error::Error;
use crate::run::RunStore;

impl RowStore for RunStore {
    fn get(&self, table: Table, key: &str) -> Result<Option<Value>, StoreError> {
        let read = || {
            self.database
                .connection
                .prepare_cached(&format!("SELECT body FROM {} WHERE key = ?1", table.name()))?
                .query_row([key], |row| row.get(0))
                .optional()
        };
        let found: Option<String> = read().map_err(|cause| self.database.failed(cause))?;
        let found = match found {
            None => self.borrow_row(table, key)?,
            found => found,
        };
        Ok(found.map(|body| self.parse_row_body(table, key, &body)).transpose()?)
    }

    /// A key that is already there keeps its first place and body: rows made later may depend on it.
    fn commit(&mut self, rows: &[(Table, Row)]) -> Result<(), StoreError> {
        self.keep_borrowed()?;
        Ok(self.insert(rows).map_err(|cause| self.database.failed(cause))?)
    }

    /// In the order of their places; rows of the same place in the order of their keys, so that the order never
    /// depends on when they were committed.
    fn rows(&self, table: Table, iteration: u32) -> Result<Vec<Row>, StoreError> {
        self.keep_borrowed()?;
        let read = || {
            self.database
                .connection
                .prepare_cached(&format!(
                    "SELECT key, iteration, instruction, position, body FROM {} WHERE iteration = ?1
                     ORDER BY instruction, position, key",
                    table.name()
                ))?
                .query_map([iteration], read_row)?
                .collect::<rusqlite::Result<Vec<_>>>()
        };
        let rows = read().map_err(|cause| self.database.failed(cause))?;
        rows.into_iter()
            .map(|(row, body)| Ok(Row { body: self.parse_row_body(table, &row.key, &body)?, ..row }))
            .collect()
    }
}

impl RunStore {
    /// Number of rows of one iteration.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn count(&self, table: Table, iteration: u32) -> Result<u64, Error> {
        self.database
            .connection
            .prepare_cached(&format!("SELECT count(*) FROM {} WHERE iteration = ?1", table.name()))
            .and_then(|mut statement| statement.query_row([iteration], |row| row.get(0)))
            .map_err(|cause| self.database.failed(cause))
    }

    /// How often a row was committed whose key was already there, over all tables: work done in vain.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn computed_twice(&self) -> Result<u64, Error> {
        let mut total = 0;
        for table in Table::ALL {
            let sum =
                format!("SELECT coalesce(sum(computed - 1), 0) FROM {} WHERE computed > 1", table.name());
            let wasted: u64 = self
                .database
                .connection
                .query_row(&sum, [], |row| row.get(0))
                .map_err(|cause| self.database.failed(cause))?;
            total += wasted;
        }
        Ok(total)
    }

    fn insert(&mut self, rows: &[(Table, Row)]) -> rusqlite::Result<()> {
        // Immediate: a transaction that begins as a reader could fail half way, when it first writes.
        let transaction =
            self.database.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        insert_rows(&transaction, rows, "DO UPDATE SET computed = computed + 1")?;
        transaction.commit()
    }

    fn parse_row_body(&self, table: Table, key: &str, body: &str) -> Result<Value, Error> {
        self.database.parse_body(body, || format!("row {key} of {}", table.name()))
    }
}

/// Inserts rows; `conflict` says what becomes of one whose key is there already.
pub(crate) fn insert_rows(
    transaction: &Transaction<'_>,
    rows: &[(Table, Row)],
    conflict: &str,
) -> rusqlite::Result<()> {
    for (table, row) in rows {
        transaction
            .prepare_cached(&format!(
                "INSERT INTO {} (key, iteration, instruction, position, body) VALUES (?1, ?2, ?3, ?4, ?5)
                 ON CONFLICT (key) {conflict}",
                table.name()
            ))?
            .execute((&row.key, row.iteration, &row.instruction, row.position, row.body.to_string()))?;
    }
    Ok(())
}

/// The row without its body, and the body's text.
pub(crate) fn read_row(found: &rusqlite::Row<'_>) -> rusqlite::Result<(Row, String)> {
    let row = Row {
        key: found.get(0)?,
        iteration: found.get(1)?,
        instruction: found.get(2)?,
        position: found.get(3)?,
        body: Value::Null,
    };
    Ok((row, found.get(4)?))
}
