//! The decoder: explicit forward and backward, no tape.

use crate::{Batch, Layout, ModelConfig, Result};

/// A decoder with its parameters in f32.
#[derive(Debug, Clone)]
pub struct Decoder { /* config, layout, parameters: Vec<f32>, rope: RopeTable */ }

/// What the forward keeps for the backward; its buffers are reused from call to call.
#[derive(Debug, Default)]
pub struct Activations { /* per layer buffers, scratch */ }
impl Activations {
    /// Final hidden states after the last norm, `[rows, hidden_size]`.
    pub fn hidden(&self) -> &[f32] { todo!() }
}

impl Decoder {
    /// Random parameters: normal with `config.initializer_range` for matrices, ones for norms, zeros for biases.
    pub fn random(config: ModelConfig, seed: u64) -> Result<Self> { todo!() }
    /// From a flat vector in the order of `Layout::new(&config)`.
    pub fn from_parameters(config: ModelConfig, parameters: Vec<f32>) -> Result<Self> { todo!() }
    /// The configuration.
    pub fn config(&self) -> &ModelConfig { todo!() }
    /// The layout of the flat vector.
    pub fn layout(&self) -> &Layout { todo!() }
    /// The flat vector.
    pub fn parameters(&self) -> &[f32] { todo!() }
    /// The flat vector, to be updated by an optimizer.
    pub fn parameters_mut(&mut self) -> &mut [f32] { todo!() }
    /// Runs all layers and the final norm over `batch`. Errors: token out of range, position beyond the context.
    pub fn forward(&self, batch: &Batch, activations: &mut Activations) -> Result<()> { todo!() }
    /// Full logits of the given rows, `[rows.len(), vocab]` (tests and evaluation; training uses `logprobs`).
    pub fn logits(&self, activations: &Activations, rows: &[usize]) -> Vec<f32> { todo!() }
    /// Log-probability of `targets[i]` predicted from row `rows[i]`; the row *before* the target token.
    pub fn logprobs(&self, activations: &mut Activations, rows: &[usize], targets: &[u32]) -> Vec<f32> { todo!() }
    /// After [`Decoder::logprobs`] with the same rows and targets: adds the gradient of
    /// `sum_i d_logprobs[i] * logprob_i` with respect to every parameter into `gradients` (flat, same layout).
    pub fn backward(&self, batch: &Batch, activations: &mut Activations, rows: &[usize], targets: &[u32], d_logprobs: &[f32], gradients: &mut [f32]) { todo!() }
}
