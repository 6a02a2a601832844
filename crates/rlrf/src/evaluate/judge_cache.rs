//! Judges' replies that evaluations share: a judge is asked once about the same response to the same instruction,
//! whichever evaluation asks.
//!
//! Replies lie under the digest of judge, prompt (template, instruction, response) and sampling, so that whoever finds
//! one would have got the same.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Result;
use rlrf_method::digest::digest;
use rlrf_method::{Row, RowStore, StoreError, Table};
use rlrf_store::{Error, RunStore};
use serde_json::Value;

use crate::console::Console;
use crate::stages::refuse_foreign;

/// Where the cache is unless an option says otherwise.
pub(crate) const FOLDER: &str = "runs/eval/judge-cache";

/// What `run.toml` of a cache says.
const CONFIGURATION: &str = "command = \"judge cache\"\n";

/// The rows of one evaluation, with the shared replies behind them.
pub(super) struct JudgeCache<'a> {
    own: &'a mut RunStore,
    shared: Option<RunStore>,
    /// What was found in the shared replies, and is not in the evaluation's own yet.
    found: RefCell<BTreeMap<String, Value>>,
}

impl<'a> JudgeCache<'a> {
    /// Opens the cache in `folder`. Where another process holds it, this evaluation goes on without.
    pub(super) fn open(own: &'a mut RunStore, folder: &Path, console: &Console) -> Result<Self> {
        refuse_foreign(folder)?;
        let shared = match RunStore::create_or_open(folder, CONFIGURATION, &digest(&CONFIGURATION)) {
            Err(Error::Locked { .. }) => {
                console.say(&format!(
                    "{}: another process uses these judges' replies; this evaluation neither finds nor leaves any there",
                    folder.display()
                ));
                None
            }
            opened => Some(opened?),
        };
        Ok(Self { own, shared, found: RefCell::default() })
    }

    /// Makes the evaluation whole without the cache: what was found in it becomes the evaluation's own.
    pub(super) fn close(self) -> Result<()> {
        let rows: Vec<(Table, Row)> = (0u32..)
            .zip(self.found.into_inner())
            .map(|(position, (key, body))| {
                let instruction = "judge cache".to_string();
                (Table::Generations, Row { key, iteration: 0, instruction, position, body })
            })
            .collect();
        Ok(self.own.commit(&rows)?)
    }
}

impl RowStore for JudgeCache<'_> {
    fn get(&self, table: Table, key: &str) -> Result<Option<Value>, StoreError> {
        let own = self.own.get(table, key)?;
        let (None, Some(shared), Table::Generations) = (&own, &self.shared, table) else { return Ok(own) };
        let found = shared.get(table, key)?;
        if let Some(body) = &found {
            self.found.borrow_mut().insert(key.to_string(), body.clone());
        }
        Ok(found)
    }

    fn commit(&mut self, rows: &[(Table, Row)]) -> Result<(), StoreError> {
        self.own.commit(rows)?;
        match &mut self.shared {
            Some(shared) => {
                let replies: Vec<(Table, Row)> =
                    rows.iter().filter(|(table, _)| *table == Table::Generations).cloned().collect();
                shared.commit(&replies)
            }
            None => Ok(()),
        }
    }

    fn rows(&self, table: Table, iteration: u32) -> Result<Vec<Row>, StoreError> {
        self.own.rows(table, iteration)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(key: &str) -> (Table, Row) {
        let row =
            Row { key: key.into(), iteration: 0, instruction: "i".into(), position: 0, body: key.into() };
        (Table::Generations, row)
    }

    fn store(folder: &Path) -> RunStore {
        RunStore::create_or_open(folder, "a = 1\n", "digest").unwrap()
    }

    #[test]
    fn what_one_evaluation_leaves_another_finds_and_keeps() {
        let folder = tempfile::tempdir().unwrap();
        let (cache, console) = (folder.path().join("cache"), Console::new(true));
        let mut first = store(&folder.path().join("first"));
        let mut shared = JudgeCache::open(&mut first, &cache, &console).unwrap();
        shared.commit(&[row("a")]).unwrap();
        shared.close().unwrap();

        let mut second = store(&folder.path().join("second"));
        let shared = JudgeCache::open(&mut second, &cache, &console).unwrap();
        assert_eq!(shared.get(Table::Generations, "a").unwrap(), Some("a".into()));
        assert_eq!(shared.get(Table::Generations, "b").unwrap(), None);
        shared.close().unwrap();
        assert_eq!(second.get(Table::Generations, "a").unwrap(), Some("a".into()), "without the cache");
    }

    #[test]
    fn a_cache_in_use_is_done_without() {
        let folder = tempfile::tempdir().unwrap();
        let (cache, console) = (folder.path().join("cache"), Console::new(true));
        let (mut first, mut second) =
            (store(&folder.path().join("first")), store(&folder.path().join("second")));
        let mut holding = JudgeCache::open(&mut first, &cache, &console).unwrap();
        holding.commit(&[row("a")]).unwrap();
        let mut without = JudgeCache::open(&mut second, &cache, &console).unwrap();
        assert_eq!(without.get(Table::Generations, "a").unwrap(), None);
        without.commit(&[row("b")]).unwrap();
        assert_eq!(without.get(Table::Generations, "b").unwrap(), Some("b".into()));
    }
}
