//! The same decoder for generation: weights packed once, attention supplied by the caller's cache.

use crate::Decoder;

/// A decoder whose weights are packed for generation.
#[derive(Debug)]
pub struct InferenceDecoder { /* config, packed layers, rope */ }

/// Buffers of [`InferenceDecoder::hidden`], reused from call to call.
#[derive(Debug, Default)]
pub struct Scratch {}

impl InferenceDecoder {
    /// Packs the weights of `decoder`.
    pub fn new(decoder: &Decoder) -> Self { todo!() }
    /// The configuration.
    pub fn config(&self) -> &crate::ModelConfig { todo!() }
    /// Runs `tokens` (any mix of sequences) through all layers. For every layer, calls
    /// `attend(layer, q, k, v, out)` with `q, out: [rows, heads, dim]`, `k, v: [rows, kv heads, dim]` (q and k
    /// already rotated): the caller stores k and v in its cache and fills `out`. Returns the final normed hidden
    /// states `[rows, hidden_size]`. A row's result does not depend on the other rows of the call.
    pub fn hidden<'s>(&self, tokens: &[u32], positions: &[u32], scratch: &'s mut Scratch, attend: &mut dyn FnMut(usize, &[f32], &[f32], &[f32], &mut [f32])) -> &'s [f32] { todo!() }
    /// Logits `[rows, vocab]` of hidden rows.
    pub fn logits(&self, hidden: &[f32], rows: usize, logits: &mut Vec<f32>) { todo!() }
}
