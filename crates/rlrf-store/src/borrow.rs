//! Rows taken over from other runs: the same work is never done twice, in whichever run it was done.
//!
//! A row whose key is the digest of everything that decides it is as good in one run as in another. It is copied when it is
//! first asked for, so that a run's database holds all that the run used, and nothing else.

use std::cell::RefCell;

use rlrf_method::{Row, Table};
use rusqlite::OptionalExtension;

use crate::error::Error;
use crate::row::{insert_rows, read_row};
use crate::run::RunStore;

/// Tables whose keys are digests of everything that decides the row. Not among them: figures and places of one run.
const LENT: [Table; 4] = [Table::Generations, Table::Feedback, Table::Rewards, Table::RefLogprobs];

/// Borrowed rows are written in transactions of this many.
const BATCH: usize = 1024;

/// The runs that rows may be taken from, and the rows taken that are not written yet.
#[derive(Debug, Default)]
pub(crate) struct Borrowed {
    lenders: Vec<RunStore>,
    pending: RefCell<Vec<(Table, Row)>>,
}

impl RunStore {
    /// From now on, rows that this run does not hold are looked for in `lenders`, in their order.
    pub fn borrow_from(&mut self, lenders: Vec<Self>) {
        self.borrowed.lenders = lenders;
    }

    /// The row's text in a lender; it is remembered to be kept here, too.
    pub(crate) fn borrow_row(&self, table: Table, key: &str) -> Result<Option<String>, Error> {
        if !LENT.contains(&table) {
            return Ok(None);
        }
        for lender in &self.borrowed.lenders {
            let read = || {
                lender
                    .database
                    .connection
                    .prepare_cached(&format!(
                        "SELECT key, iteration, instruction, position, body FROM {} WHERE key = ?1",
                        table.name()
                    ))?
                    .query_row([key], read_row)
                    .optional()
            };
            let Some((row, body)) = read().map_err(|cause| lender.database.failed(cause))? else { continue };
            let parsed = lender.database.parse_body(&body, || format!("row {key} of {}", table.name()))?;
            self.borrowed.pending.borrow_mut().push((table, Row { body: parsed, ..row }));
            if self.borrowed.pending.borrow().len() >= BATCH {
                self.keep_borrowed()?;
            }
            return Ok(Some(body));
        }
        Ok(None)
    }

    /// Writes what was borrowed. A row that is lost before, in a crash, is borrowed again.
    pub(crate) fn keep_borrowed(&self) -> Result<(), Error> {
        let pending = self.borrowed.pending.take();
        if pending.is_empty() {
            return Ok(());
        }
        let write = || {
            let transaction = self.database.connection.unchecked_transaction()?;
            insert_rows(&transaction, &pending, "DO NOTHING")?;
            transaction.commit()
        };
        write().map_err(|cause| self.database.failed(cause))
    }
}

impl Drop for RunStore {
    fn drop(&mut self) {
        // Nothing is lost if it fails: the rows are in the lender, and are asked for again.
        let _ = self.keep_borrowed();
    }
}
