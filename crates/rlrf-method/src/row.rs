//! The rows of a run, and the seam to whatever keeps them.

use std::cell::RefCell;

use serde_json::Value;

/// The tables of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Table {
    /// One row per instruction.
    Instructions,
    /// Sampled and refined candidates, and benchmark responses.
    Generations,
    /// One row per candidate and aspect.
    Feedback,
    /// One row per instruction and distinct response: what the reward model says.
    Rewards,
    /// One row per candidate: its score.
    Scores,
    /// Preference pairs.
    Pairs,
    /// Log-probabilities of candidates under the reference model `M_t`.
    RefLogprobs,
    /// Training and evaluation figures.
    Metrics,
}

impl Table {
    /// Every table.
    pub const ALL: [Self; 8] = [
        Self::Instructions,
        Self::Generations,
        Self::Feedback,
        Self::Rewards,
        Self::Scores,
        Self::Pairs,
        Self::RefLogprobs,
        Self::Metrics,
    ];

    /// The table's name in the database.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Instructions => "instructions",
            Self::Generations => "generations",
            Self::Feedback => "feedback",
            Self::Rewards => "rewards",
            Self::Scores => "scores",
            Self::Pairs => "pairs",
            Self::RefLogprobs => "ref_logprobs",
            Self::Metrics => "metrics",
        }
    }
}

/// One committed row: what was computed, under the digest of everything that it depends on.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// Digest of the inputs: the row's identity.
    pub key: String,
    /// Iteration of the loop that made it.
    pub iteration: u32,
    /// Id of the instruction that it belongs to; empty for rows about the whole run.
    pub instruction: String,
    /// Place among the rows of this table, iteration and instruction (sample index, aspect index, step...).
    pub position: u32,
    /// The content.
    pub body: Value,
}

/// Why a store could not do what was asked.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct StoreError(pub String);

/// Keeps rows; the loop computes only the keys that it does not hold.
pub trait RowStore {
    /// The body under `key`, if it was committed.
    fn get(&self, table: Table, key: &str) -> Result<Option<Value>, StoreError>;
    /// Commits all rows or none. Committing a key again counts as wasted work (the row's `computed` grows).
    fn commit(&mut self, rows: &[(Table, Row)]) -> Result<(), StoreError>;
    /// Rows of one iteration, ordered by instruction id and position.
    fn rows(&self, table: Table, iteration: u32) -> Result<Vec<Row>, StoreError>;
}

/// A store that several write to by turns: the loop, and the judges that keep what they were told.
#[derive(Clone, Copy)]
pub struct SharedStore<'a>(&'a RefCell<&'a mut dyn RowStore>);

impl<'a> SharedStore<'a> {
    /// Shares what `store` holds.
    #[must_use]
    pub fn new(store: &'a RefCell<&'a mut dyn RowStore>) -> Self {
        Self(store)
    }
}

impl RowStore for SharedStore<'_> {
    fn get(&self, table: Table, key: &str) -> Result<Option<Value>, StoreError> {
        self.0.borrow().get(table, key)
    }

    fn commit(&mut self, rows: &[(Table, Row)]) -> Result<(), StoreError> {
        self.0.borrow_mut().commit(rows)
    }

    fn rows(&self, table: Table, iteration: u32) -> Result<Vec<Row>, StoreError> {
        self.0.borrow().rows(table, iteration)
    }
}
