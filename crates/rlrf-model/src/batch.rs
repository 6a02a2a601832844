//! Packed tokens: many sequences, or trees of sequences that share a prompt, in one run of rows without padding.

use std::ops::Range;

use rlrf_kernels::attention::Span;

use crate::{Error, Result};

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
    /// Appends a sequence of its own; returns its rows. An empty sequence adds nothing.
    pub fn push_sequence(&mut self, tokens: &[u32]) -> Range<usize> {
        let start = self.len();
        self.push(start..start, 0, tokens)
    }

    /// Appends a continuation of the rows `prefix` (a sequence pushed before): positions go on where the prefix ends.
    ///
    /// # Panics
    /// If `prefix` is not the whole or the beginning of one sequence pushed with [`Batch::push_sequence`].
    pub fn push_branch(&mut self, prefix: Range<usize>, tokens: &[u32]) -> Range<usize> {
        assert!(
            self.roots_contain(&prefix),
            "a branch needs the whole or the beginning of a sequence pushed before it, got rows {prefix:?} of {}",
            self.len()
        );
        let first_position = self.positions[prefix.end - 1] + 1;
        self.push(prefix, first_position, tokens)
    }

    fn push(&mut self, prefix: Range<usize>, first_position: u32, tokens: &[u32]) -> Range<usize> {
        let rows = self.len()..self.len() + tokens.len();
        if !tokens.is_empty() {
            self.tokens.extend_from_slice(tokens);
            self.positions.extend((first_position..).take(tokens.len()));
            self.spans.push(Span { rows: rows.clone(), prefix });
        }
        rows
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }

    /// Empties the batch and keeps its memory.
    pub fn clear(&mut self) {
        self.tokens.clear();
        self.positions.clear();
        self.spans.clear();
    }

    /// That a model of this vocabulary and context length can run the batch.
    pub(crate) fn check(&self, vocab_size: usize, max_position_embeddings: usize) -> Result<()> {
        let covered = self.spans.iter().try_fold(0, |start, span| {
            (span.rows.start == start && span.rows.end > start && self.prefix_is_valid(span))
                .then_some(span.rows.end)
        });
        if covered != Some(self.len()) || self.positions.len() != self.len() {
            return Err(Error::Batch { rows: self.len() });
        }
        if let Some(&token) = self.tokens.iter().find(|&&token| token as usize >= vocab_size) {
            return Err(Error::TokenOutOfRange { token, vocab_size });
        }
        match self.positions.iter().max() {
            Some(&position) if position as usize >= max_position_embeddings => {
                Err(Error::PositionOutOfRange { position, max_position_embeddings })
            }
            _ => Ok(()),
        }
    }

    fn prefix_is_valid(&self, span: &Span) -> bool {
        span.prefix.is_empty() || span.prefix.end <= span.rows.start && self.roots_contain(&span.prefix)
    }

    fn roots_contain(&self, prefix: &Range<usize>) -> bool {
        !prefix.is_empty()
            && self.spans.binary_search_by_key(&prefix.start, |span| span.rows.start).is_ok_and(|index| {
                self.spans[index].prefix.is_empty() && prefix.end <= self.spans[index].rows.end
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn branches_go_on_where_their_prefix_ends() {
        let mut batch = Batch::default();
        batch.push_sequence(&[9]);
        let prompt = batch.push_sequence(&[1, 2, 3]);
        assert_eq!(batch.push_branch(prompt.clone(), &[4, 5]), 4..6);
        assert_eq!(batch.push_branch(prompt.clone(), &[6]), 6..7);
        assert_eq!(batch.push_branch(1..3, &[7]), 7..8);
        assert_eq!(batch.tokens, [9, 1, 2, 3, 4, 5, 6, 7]);
        assert_eq!(batch.positions, [0, 0, 1, 2, 3, 4, 3, 2]);
        assert_eq!(batch.spans[2].prefix, prompt);
        assert!(batch.check(10, 5).is_ok());
        batch.clear();
        assert!(batch.is_empty() && batch.check(10, 5).is_ok());
    }

    #[test]
    fn an_empty_sequence_adds_no_span() {
        let mut batch = Batch::default();
        assert_eq!(batch.push_sequence(&[]), 0..0);
        let prompt = batch.push_sequence(&[1]);
        assert_eq!(batch.push_branch(prompt, &[]), 1..1);
        assert_eq!(batch.spans.len(), 1);
    }

    #[test]
    #[should_panic(expected = "a branch needs")]
    fn a_branch_of_a_branch_is_refused() {
        let mut batch = Batch::default();
        let prompt = batch.push_sequence(&[1]);
        let branch = batch.push_branch(prompt, &[2]);
        batch.push_branch(branch, &[3]);
    }

    #[test]
    fn what_no_model_can_run_is_an_error() {
        let mut batch = Batch::default();
        batch.push_sequence(&[1, 2, 3]);
        assert!(matches!(batch.check(3, 8), Err(Error::TokenOutOfRange { token: 3, vocab_size: 3 })));
        assert!(matches!(
            batch.check(4, 2),
            Err(Error::PositionOutOfRange { position: 2, max_position_embeddings: 2 })
        ));
        let mut uncovered = batch.clone();
        uncovered.spans[0].rows.end = 2;
        assert!(matches!(uncovered.check(4, 8), Err(Error::Batch { rows: 3 })));
        let mut own_prefix = batch.clone();
        own_prefix.spans[0].prefix = 0..1;
        assert!(matches!(own_prefix.check(4, 8), Err(Error::Batch { rows: 3 })));
        batch.positions.pop();
        assert!(matches!(batch.check(4, 8), Err(Error::Batch { rows: 3 })));
    }
}
