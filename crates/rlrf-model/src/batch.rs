//! Packed tokens: many sequences, or trees of sequences that share a prompt, in one run of rows without padding.

use std::ops::Range;
use rlrf_kernels::attention::Span;

/// Tokens with their positions and the spans that say who attends to whom.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Batch {
    /// Token ids, `[rows]`.
    pub tokens: Vec<u32>,
    /// Position of each row in its own sequence, `[rows]`.
    pub positions: Vec<u32>,
    /// Cover all rows, in order.
    pub spans: Vec<Span>,
}

impl Batch {
    /// Appends a sequence of its own; returns its rows.
    pub fn push_sequence(&mut self, tokens: &[u32]) -> Range<usize> { todo!() }
    /// Appends a continuation of the rows `prefix` (a sequence pushed before): positions go on where the prefix ends.
    pub fn push_branch(&mut self, prefix: Range<usize>, tokens: &[u32]) -> Range<usize> { todo!() }
    /// Number of rows.
    pub fn len(&self) -> usize { self.tokens.len() }
    /// Whether there is no row.
    pub fn is_empty(&self) -> bool { self.tokens.is_empty() }
}
