//! What a training run minimises.

use rlrf_model::Decoder;

use crate::{Lanes, Result, StepLoss};

/// A loss over a fixed list of examples.
pub trait Objective {
    /// Number of examples.
    fn len(&self) -> usize;
    /// Whether there is no example.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Feeds everything that the loss depends on, the examples included, into the digest that ties a checkpoint to its run.
    fn digest(&self, hasher: &mut blake3::Hasher);
    /// Adds the gradient of the mean loss of one step, over the examples `indices`, into `gradients` (flat, as
    /// what the decoder trains). How many tokens pass through the model at once, which `lanes` know, changes nothing but
    /// rounding. Errors: the model's.
    fn loss_and_gradients(
        &self,
        decoder: &Decoder,
        indices: &[usize],
        lanes: &mut Lanes,
        gradients: &mut [f32],
    ) -> Result<StepLoss>;
}
