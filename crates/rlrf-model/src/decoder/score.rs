//! The score head of a reward model: one number from the final hidden state of a row.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::standard_normal;
use crate::{Activations, Batch, Decoder, Head, Layout, Result};

impl Decoder {
    /// The same layers under a fresh score head: normal with `initializer_range`, the same for the same seed. `padding` is
    /// the token that the configuration names as `pad_token_id`. Adapters that are not merged are left behind.
    ///
    /// # Errors
    /// None for a validated configuration.
    pub fn with_score_head(&self, padding: u32, seed: u64) -> Result<Self> {
        let mut config = self.config.clone().with_head(Head::Score);
        config.set_original("pad_token_id", padding.into());
        let layout = Layout::new(&config);
        let mut parameters = self.parameters[..layout.head.start].to_vec();
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        parameters.resize_with(layout.len(), || config.initializer_range * standard_normal(&mut random));
        Self::from_parameters(config, parameters)
    }

    /// The score head, `[hidden]`.
    fn score_head(&self) -> &[f32] {
        assert_eq!(self.config.head, Head::Score, "a language model has no score head");
        &self.parameters[self.layout.head.clone()]
    }

    /// The score of each of the given rows, `[rows.len()]`, summed in f64: it depends on its row alone.
    ///
    /// # Panics
    /// If a row is not of the batch of the last [`Decoder::forward`], or the decoder is a language model's.
    pub fn scores(&self, activations: &Activations, rows: &[usize]) -> Vec<f64> {
        let head = self.score_head();
        let score = |&row: &usize| {
            let hidden = &activations.hidden[activations.output(row) * head.len()..][..head.len()];
            hidden.iter().zip(head).map(|(value, weight)| f64::from(*value) * f64::from(*weight)).sum()
        };
        rows.iter().map(score).collect()
    }

    /// After [`Decoder::forward`] of the same batch: adds the gradient of `sum_i d_scores[i] * score_i` over `rows` with
    /// respect to everything that is trained into `gradients` (flat, as [`Decoder::trainable`]).
    ///
    /// # Panics
    /// If the batch is not that of the forward, a length does not fit, or the decoder is a language model's.
    pub fn backward_scores(
        &self,
        batch: &Batch,
        activations: &mut Activations,
        rows: &[usize],
        d_scores: &[f64],
        gradients: &mut [f32],
    ) {
        assert_eq!(rows.len(), d_scores.len(), "one gradient per row");
        let head = self.score_head();
        let mut selection = std::mem::take(&mut activations.selection);
        activations.gather_hidden(rows, head.len(), &mut selection.hidden);
        selection.d_hidden.clear();
        for &d_score in d_scores {
            selection.d_hidden.extend(head.iter().map(|weight| d_score as f32 * weight));
        }
        if let Some(d_head) = self.part(&self.layout.head, gradients) {
            for (hidden, &d_score) in selection.hidden.chunks_exact(head.len()).zip(d_scores) {
                d_head.iter_mut().zip(hidden).for_each(|(sum, value)| *sum += d_score as f32 * value);
            }
        }
        self.backward_hidden(batch, activations, rows, &selection.d_hidden, gradients);
        activations.selection = selection;
    }
}
