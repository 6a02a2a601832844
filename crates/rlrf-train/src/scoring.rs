//! Scores of completions by a reward model: what its head says at the last token of each, the end of its turn.

use rlrf_model::{Activations, Batch, Decoder, Precision};

use crate::lanes::forward_each;
use crate::packing::ResponseTree;
use crate::{Error, Result};

/// Rows that a tree takes in a batch of scores: its last tokens are needed, too.
pub(crate) fn scored_rows(tree: &ResponseTree<'_>) -> usize {
    tree.prompt.len() + tree.completions.iter().map(|completion| completion.len()).sum::<usize>()
}

/// Trees whose completions are scored together.
#[derive(Debug, Default)]
pub(crate) struct ScoredBatch {
    batch: Batch,
    /// The last row of each completion, in the order of the trees.
    last_rows: Vec<usize>,
}

impl ScoredBatch {
    /// Packs all completions of `trees`, in order. A completion is always a branch of its prompt: its score is the same to
    /// the bit whether it has siblings or not.
    pub(crate) fn new<'t, 'a: 't>(trees: impl IntoIterator<Item = &'t ResponseTree<'a>>) -> Self {
        let mut scored = Self::default();
        for tree in trees {
            let prompt = scored.batch.push_sequence(tree.prompt);
            for completion in &tree.completions {
                let rows = scored.batch.push_branch(prompt.clone(), completion);
                scored.last_rows.push(rows.end - 1);
            }
        }
        scored
    }

    /// Forward pass: the score of each completion.
    pub(crate) fn scores(&self, decoder: &Decoder, activations: &mut Activations) -> Result<Vec<f64>> {
        decoder.forward_rows(&self.batch, &self.last_rows, activations)?;
        Ok(decoder.scores(activations, &self.last_rows))
    }

    /// Backward pass after [`ScoredBatch::scores`]: adds the gradient of the sum over completions of `d_scores[i]` times the
    /// score of completion `i` into `gradients`.
    pub(crate) fn backward(
        &self,
        decoder: &Decoder,
        activations: &mut Activations,
        d_scores: &[f64],
        gradients: &mut [f32],
    ) {
        decoder.backward_scores(&self.batch, activations, &self.last_rows, d_scores, gradients);
    }
}

/// For each tree, the score of each completion under the reward model `decoder`. A completion's score depends on it and
/// its prompt alone: neither on the other trees or completions nor on `tokens_per_microbatch`, up to four times of which pass through
/// the model at once.
///
/// Errors: [`Error::Example`] for a tree that is empty or longer than the model's context, or whose score is not finite;
/// the model's own.
pub fn completion_scores(
    decoder: &Decoder,
    trees: &[ResponseTree<'_>],
    tokens_per_microbatch: usize,
    precision: Precision,
) -> Result<Vec<Vec<f64>>> {
    for (index, tree) in trees.iter().enumerate() {
        tree.validate(decoder.config(), index)?;
    }
    let pieces: Vec<_> =
        trees.iter().flat_map(|tree| tree.split_by(<[u32]>::len, tokens_per_microbatch)).collect();
    let rows: Vec<usize> = pieces.iter().map(scored_rows).collect();
    let scores = forward_each(&rows, tokens_per_microbatch, precision, |run, activations| {
        ScoredBatch::new(&pieces[run]).scores(decoder, activations)
    })?;
    let mut scores = scores.into_iter();
    let grouped: Vec<Vec<f64>> =
        trees.iter().map(|tree| scores.by_ref().take(tree.completions.len()).collect()).collect();
    for (index, group) in grouped.iter().enumerate() {
        if let Some(value) = group.iter().find(|value| !value.is_finite()) {
            let reason = format!("its score under the reward model is {value}: the model is broken");
            return Err(Error::Example { index, reason });
        }
    }
    Ok(grouped)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_completion_is_scored_at_its_last_token() {
        let tree = ResponseTree { prompt: &[1, 2], completions: vec![&[3, 4], &[5], &[6, 7, 8]] };
        let scored = ScoredBatch::new([&tree, &ResponseTree { prompt: &[9], completions: vec![&[1, 2]] }]);
        assert_eq!(scored.batch.tokens, [1, 2, 3, 4, 5, 6, 7, 8, 9, 1, 2]);
        assert_eq!(scored.last_rows, [3, 4, 7, 10]);
        assert_eq!(scored_rows(&tree), 8);
        let cut = tree.split_by(<[u32]>::len, 5);
        assert_eq!(cut.iter().map(|piece| piece.completions.len()).collect::<Vec<_>>(), [2, 1]);
    }
}
