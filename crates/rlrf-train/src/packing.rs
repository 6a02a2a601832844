//! Prompts and their completions in packed microbatches: no padding, no cross-talk.

use std::ops::Range;

use rlrf_model::{Activations, Batch, Decoder, ModelConfig};

use crate::{Error, Result};

/// A prompt and one or more completions of it. The prompt passes through the model once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResponseTree<'a> {
    /// Token ids of the prompt; not empty.
    pub prompt: &'a [u32],
    /// Token ids of each completion, end of turn included; none empty.
    pub completions: Vec<&'a [u32]>,
}

impl<'a> ResponseTree<'a> {
    /// The tree, or, where it is over the budget, trees of fewer completions each, in order.
    pub fn split(&self, budget: usize) -> Vec<ResponseTree<'a>> {
        self.split_by(|completion| completion.len() - 1, budget)
    }

    /// The same where a completion takes `rows` in a batch.
    pub(crate) fn split_by(&self, rows: impl Fn(&[u32]) -> usize, budget: usize) -> Vec<ResponseTree<'a>> {
        let room = budget.saturating_sub(self.prompt.len());
        pack(self.completions.iter().map(|completion| rows(completion)), room)
            .into_iter()
            .map(|run| ResponseTree { prompt: self.prompt, completions: self.completions[run].to_vec() })
            .collect()
    }

    /// Rows that the tree takes in a batch. The last token of a completion predicts nothing and takes none.
    pub fn rows(&self) -> usize {
        self.prompt.len() + self.completions.iter().map(|completion| completion.len() - 1).sum::<usize>()
    }

    /// Refuses what cannot be trained on: an empty prompt or completion, more tokens than the context holds.
    pub fn validate(&self, config: &ModelConfig, index: usize) -> Result<()> {
        let refuse = |reason: String| Err(Error::Example { index, reason });
        if self.prompt.is_empty() {
            return refuse("the prompt is empty: there is nothing to predict the first token from".into());
        }
        for (number, completion) in self.completions.iter().enumerate() {
            if completion.is_empty() {
                return refuse(format!(
                    "completion {number} is empty: it needs at least the end-of-turn token"
                ));
            }
            let length = self.prompt.len() + completion.len();
            if length > config.max_position_embeddings {
                return refuse(format!(
                    "completion {number} and its prompt are {length} tokens long, but the model's context is {}: \
                     leave the example out or shorten it",
                    config.max_position_embeddings
                ));
            }
        }
        Ok(())
    }
}

/// Trees that pass through the model together.
#[derive(Debug, Default)]
pub struct Microbatch {
    batch: Batch,
    rows: Vec<usize>,
    targets: Vec<u32>,
    completions: Vec<Range<usize>>,
}

impl Microbatch {
    /// Packs all completions of `trees`, in order.
    pub fn new<'t, 'a: 't>(trees: impl IntoIterator<Item = &'t ResponseTree<'a>>) -> Self {
        let mut microbatch = Self::default();
        for tree in trees {
            microbatch.push(tree);
        }
        microbatch
    }

    fn push(&mut self, tree: &ResponseTree<'_>) {
        if let [completion] = tree.completions[..] {
            let rows = self.batch.push_sequence(&[tree.prompt, &completion[..completion.len() - 1]].concat());
            let last_of_prompt = rows.start + tree.prompt.len() - 1;
            self.predict(last_of_prompt, last_of_prompt + 1, completion);
            return;
        }
        let prompt = self.batch.push_sequence(tree.prompt);
        for completion in &tree.completions {
            let rows_before = self.batch.len();
            if completion.len() > 1 {
                self.batch.push_branch(prompt.clone(), &completion[..completion.len() - 1]);
            }
            self.predict(prompt.end - 1, rows_before, completion);
        }
    }

    /// The first token is predicted from the prompt's last row, the others from the rows of the completion.
    fn predict(&mut self, last_of_prompt: usize, first_row: usize, completion: &[u32]) {
        let start = self.targets.len();
        self.rows.push(last_of_prompt);
        self.rows.extend(first_row..first_row + completion.len() - 1);
        self.targets.extend_from_slice(completion);
        self.completions.push(start..self.targets.len());
    }

    /// Rows of the batch.
    pub fn tokens(&self) -> usize {
        self.batch.len()
    }

    /// Lengths of the completions, in the order of the trees.
    pub fn completion_lengths(&self) -> impl Iterator<Item = usize> {
        self.completions.iter().map(ExactSizeIterator::len)
    }

    /// Forward pass: the log-probability of each token of the completions, one completion after the other.
    pub fn token_logprobs(&self, decoder: &Decoder, activations: &mut Activations) -> Result<Vec<f32>> {
        decoder.forward_rows(&self.batch, &self.rows, activations)?;
        Ok(decoder.logprobs(activations, &self.rows, &self.targets))
    }

    /// Forward pass: the log-probability of each completion, summed over its tokens.
    pub fn completion_logprobs(&self, decoder: &Decoder, activations: &mut Activations) -> Result<Vec<f64>> {
        let logprobs = self.token_logprobs(decoder, activations)?;
        Ok(self.sums(&logprobs))
    }

    fn sums(&self, logprobs: &[f32]) -> Vec<f64> {
        let sum = |tokens: &[f32]| tokens.iter().map(|&value| f64::from(value)).sum();
        self.by_completion(logprobs).map(sum).collect()
    }

    /// What belongs to the tokens of each completion in a list over all of them.
    pub fn by_completion<'s>(&'s self, tokens: &'s [f32]) -> impl Iterator<Item = &'s [f32]> {
        self.completions.iter().map(|range| &tokens[range.clone()])
    }

    /// Backward pass after [`Microbatch::completion_logprobs`]: adds the gradient of the sum over completions of
    /// `d_completions[i]` times the log-probability of completion `i` into `gradients`.
    pub fn backward(
        &self,
        decoder: &Decoder,
        activations: &mut Activations,
        d_completions: &[f64],
        gradients: &mut [f32],
    ) {
        self.backward_tokens(decoder, activations, &self.spread(d_completions), gradients);
    }

    /// [`Microbatch::completion_logprobs`] and [`Microbatch::backward`] in one, for `d_completions` that are known beforehand: to
    /// the bit the same, and faster.
    pub fn logprobs_and_backward(
        &self,
        decoder: &Decoder,
        activations: &mut Activations,
        d_completions: &[f64],
        gradients: &mut [f32],
    ) -> Result<Vec<f64>> {
        decoder.forward_rows(&self.batch, &self.rows, activations)?;
        let d_logprobs = self.spread(d_completions);
        let Self { batch, rows, targets, .. } = self;
        let logprobs =
            decoder.logprobs_and_backward(batch, activations, rows, targets, &d_logprobs, gradients);
        Ok(self.sums(&logprobs))
    }

    /// What each completion has, for each of its tokens.
    fn spread(&self, completions: &[f64]) -> Vec<f32> {
        let mut tokens = vec![0.0; self.targets.len()];
        for (range, &value) in self.completions.iter().zip(completions) {
            tokens[range.clone()].fill(value as f32);
        }
        tokens
    }

    /// Backward pass after [`Microbatch::token_logprobs`]: adds the gradient of the sum over tokens of `d_logprobs[i]` times the
    /// log-probability of token `i` into `gradients`.
    pub fn backward_tokens(
        &self,
        decoder: &Decoder,
        activations: &mut Activations,
        d_logprobs: &[f32],
        gradients: &mut [f32],
    ) {
        decoder.backward(&self.batch, activations, &self.rows, &self.targets, d_logprobs, gradients);
    }
}

/// Cuts a list of trees of these `rows` into runs of at most `budget` rows; a larger tree is a run of its own.
pub fn pack(rows: impl IntoIterator<Item = usize>, budget: usize) -> Vec<Range<usize>> {
    let mut runs: Vec<Range<usize>> = Vec::new();
    let mut filled = 0;
    for (index, rows) in rows.into_iter().enumerate() {
        match runs.last_mut() {
            Some(run) if filled + rows <= budget => {
                run.end = index + 1;
                filled += rows;
            }
            _ => {
                runs.push(index..index + 1);
                filled = rows;
            }
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_cover_everything_within_the_budget() {
        assert_eq!(pack([3, 4, 3, 20, 1, 1], 10), [0..3, 3..4, 4..6]);
        assert_eq!(pack([5, 5, 1], 10), [0..2, 2..3]);
        assert!(pack([], 10).is_empty());
    }

    #[test]
    fn completions_are_predicted_from_the_row_before_each_token() {
        let tree = ResponseTree { prompt: &[1, 2], completions: vec![&[3, 4], &[5], &[6, 7, 8]] };
        let microbatch =
            Microbatch::new(&[tree.clone(), ResponseTree { prompt: &[9], completions: vec![&[1, 2]] }]);
        assert_eq!(microbatch.batch.tokens, [1, 2, 3, 6, 7, 9, 1]);
        assert_eq!(microbatch.rows, [1, 2, 1, 1, 3, 4, 5, 6]);
        assert_eq!(microbatch.targets, [3, 4, 5, 6, 7, 8, 1, 2]);
        assert_eq!(tree.rows(), 5);
        assert_eq!(microbatch.completion_lengths().collect::<Vec<_>>(), [2, 1, 3, 2]);
    }
}
