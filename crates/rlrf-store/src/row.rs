//! The rows of a run.

use std::io::Write;

use rlrf_method::{Row, RowStore, StoreError, Table};
use rusqlite::{OptionalExtension, TransactionBehavior, params_from_iter};
use serde::Serialize;
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
        Ok(found.map(|body| self.parse_row_body(table, key, &body)).transpose()?)
    }

    /// A key that is already there keeps its first place and body: rows made later may depend on it.
    fn commit(&mut self, rows: &[(Table, Row)]) -> Result<(), StoreError> {
        Ok(self.insert(rows).map_err(|cause| self.database.failed(cause))?)
    }

    fn rows(&self, table: Table, iteration: u32) -> Result<Vec<Row>, StoreError> {
        let mut rows = Vec::new();
        self.for_each_row(table, Some(iteration), |row| {
            rows.push(row);
            Ok(())
        })?;
        Ok(rows)
    }
}

impl RunStore {
    /// Indices of the keys that `table` does not hold, ascending.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn missing(&self, table: Table, keys: &[String]) -> Result<Vec<usize>, Error> {
        let read = || {
            let mut statement = self
                .database
                .connection
                .prepare_cached(&format!("SELECT 1 FROM {} WHERE key = ?1", table.name()))?;
            let mut missing = Vec::new();
            for (index, key) in keys.iter().enumerate() {
                if !statement.exists([key])? {
                    missing.push(index);
                }
            }
            Ok(missing)
        };
        read().map_err(|cause| self.database.failed(cause))
    }

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

    /// Writes the rows of one iteration, or of all, as one JSON object per line with the fields `key`, `iteration`,
    /// `instruction`, `position` and `body`, ordered by iteration, instruction and position. Returns their number.
    ///
    /// # Errors
    /// The database cannot be read or `writer` fails; the lines before that have been written.
    pub fn export_jsonl(
        &self,
        table: Table,
        iteration: Option<u32>,
        writer: &mut dyn Write,
    ) -> Result<u64, Error> {
        let failed = |cause| Error::Export { table: table.name(), cause };
        let mut lines = 0;
        self.for_each_row(table, iteration, |row| {
            serde_json::to_writer(&mut *writer, &Line::from(&row)).map_err(|cause| failed(cause.into()))?;
            writer.write_all(b"\n").map_err(failed)?;
            lines += 1;
            Ok(())
        })?;
        writer.flush().map_err(failed)?;
        Ok(lines)
    }

    fn insert(&mut self, rows: &[(Table, Row)]) -> rusqlite::Result<()> {
        // Immediate: a transaction that begins as a reader could fail half way, when it first writes.
        let transaction =
            self.database.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        for (table, row) in rows {
            transaction
                .prepare_cached(&format!(
                    "INSERT INTO {} (key, iteration, instruction, position, body) VALUES (?1, ?2, ?3, ?4, ?5)
                     ON CONFLICT (key) DO UPDATE SET computed = computed + 1",
                    table.name()
                ))?
                .execute((&row.key, row.iteration, &row.instruction, row.position, row.body.to_string()))?;
        }
        transaction.commit()
    }

    /// Streams rows in the order of their places; rows of the same place in the order of their keys, so that the
    /// order never depends on when they were committed.
    fn for_each_row(
        &self,
        table: Table,
        iteration: Option<u32>,
        mut visit: impl FnMut(Row) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let failed = |cause| self.database.failed(cause);
        let filter = if iteration.is_some() { "WHERE iteration = ?1" } else { "" };
        let mut statement = self
            .database
            .connection
            .prepare_cached(&format!(
                "SELECT key, iteration, instruction, position, body FROM {} {filter}
                 ORDER BY iteration, instruction, position, key",
                table.name()
            ))
            .map_err(failed)?;
        let mut rows = statement.query(params_from_iter(iteration)).map_err(failed)?;
        while let Some(found) = rows.next().map_err(failed)? {
            let (row, body) = read_row(found).map_err(failed)?;
            let body = self.parse_row_body(table, &row.key, &body)?;
            visit(Row { body, ..row })?;
        }
        Ok(())
    }

    fn parse_row_body(&self, table: Table, key: &str, body: &str) -> Result<Value, Error> {
        self.database.parse_body(body, || format!("row {key} of {}", table.name()))
    }
}

/// The row without its body, and the body's text.
fn read_row(found: &rusqlite::Row<'_>) -> rusqlite::Result<(Row, String)> {
    let row = Row {
        key: found.get(0)?,
        iteration: found.get(1)?,
        instruction: found.get(2)?,
        position: found.get(3)?,
        body: Value::Null,
    };
    Ok((row, found.get(4)?))
}

/// A row as other tools read it.
#[derive(Serialize)]
struct Line<'a> {
    key: &'a str,
    iteration: u32,
    instruction: &'a str,
    position: u32,
    body: &'a Value,
}

impl<'a> From<&'a Row> for Line<'a> {
    fn from(row: &'a Row) -> Self {
        let Row { key, iteration, instruction, position, body } = row;
        Self { key, iteration: *iteration, instruction, position: *position, body }
    }
}
