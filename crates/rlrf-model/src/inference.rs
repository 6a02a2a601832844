//! The same decoder for generation: weights packed once, attention supplied by the caller's cache.

use std::sync::Arc;

use rlrf_kernels::matmul::{Operands, PackedLinear};
use rlrf_kernels::norm::add_rms_norm;
use rlrf_kernels::rope::RopeTable;

use crate::decoder::{Block, ForwardScratch, LayerActivations, LayerWeights, embed};
use crate::{Decoder, ModelConfig, WeightFormat};

/// A decoder whose weights are packed for generation. It can be shared between threads, each with its own
/// [`Scratch`].
#[derive(Debug)]
pub struct InferenceDecoder {
    config: ModelConfig,
    rope: Arc<RopeTable>,
    /// None where the embeddings are those of the head.
    embed_tokens: Option<Vec<f32>>,
    layers: Vec<LayerWeights<'static, PackedLinear>>,
    norm: Vec<f32>,
    lm_head: PackedLinear,
}

/// Buffers of [`InferenceDecoder::hidden`], reused from call to call.
#[derive(Debug, Default)]
pub struct Scratch {
    /// Nothing is kept, so one set serves every layer.
    layer: LayerActivations,
    forward: ForwardScratch,
    hidden: Vec<f32>,
    inv_rms: Vec<f32>,
}

/// `attend(layer, queries, q, k, v, out)`: see [`InferenceDecoder::hidden`].
pub type Attend<'a> = dyn FnMut(usize, Option<&[usize]>, &[f32], &[f32], &[f32], &mut [f32]) + 'a;

impl InferenceDecoder {
    /// Packs the weights of `decoder` in a format.
    ///
    /// # Panics
    /// If the decoder is a reward model's, which generates nothing.
    pub fn new(decoder: &Decoder, format: WeightFormat) -> Self {
        let operands = format.operands();
        let config = decoder.config().clone();
        let lm_head =
            PackedLinear::new(operands, decoder.lm_head(), None, config.hidden_size, config.vocab_size);
        Self {
            rope: decoder.rope(),
            embed_tokens: (!config.tie_word_embeddings).then(|| decoder.embed_tokens().to_vec()),
            layers: decoder.layers(operands).map(|layer| layer.pack()).collect(),
            norm: decoder.norm().to_vec(),
            lm_head,
            config,
        }
    }

    /// The configuration.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// Runs `tokens` (any mix of sequences) through all layers. For every layer, calls
    /// `attend(layer, queries, q, k, v, out)` with `q, out: [queries, heads, dim]` of the rows `queries`, or of all where none are given,
    /// and `k, v: [rows, kv heads, dim]` (q and k already rotated): the caller stores k and v in its cache and fills `out` (from the last `window` keys only
    /// where [`ModelConfig::heads`] has a window). Returns the final normed hidden
    /// states `[outputs, hidden_size]` of the rows `outputs`, which ascend. A row's result does not depend on the other rows of
    /// the call.
    ///
    /// # Panics
    /// If a token is not of the vocabulary, a position is beyond the context, there are not as many positions as
    /// tokens, or no such row as one of `outputs`.
    pub fn hidden<'s>(
        &self,
        tokens: &[u32],
        positions: &[u32],
        outputs: &[usize],
        scratch: &'s mut Scratch,
        attend: &mut Attend<'_>,
    ) -> &'s [f32] {
        assert_eq!(tokens.len(), positions.len(), "one position per token");
        let (rows, eps) = (tokens.len(), self.config.rms_norm_eps);
        let Scratch { layer: kept, forward, hidden, inv_rms } = scratch;
        kept.resize(&self.config, rows);
        kept.begin(&self.config, rows);
        forward.delta.resize(rows * self.config.hidden_size, 0.0);
        hidden.resize(outputs.len() * self.config.hidden_size, 0.0);
        inv_rms.resize(outputs.len(), 0.0);

        let block = Block { heads: self.config.heads(), rms_norm_eps: eps, rope: &self.rope };
        self.embed(tokens, &mut forward.delta);
        for (index, layer) in self.layers.iter().enumerate() {
            let some = index + 1 == self.layers.len() && outputs.len() < rows;
            let outputs = some.then_some(outputs);
            let attend =
                &mut |q: &[f32], k: &[f32], v: &[f32], out: &mut [f32]| attend(index, outputs, q, k, v, out);
            layer.forward(block, positions, outputs, None, kept, forward, attend);
        }
        let LayerActivations { middle, input, .. } = kept;
        let sum = &mut input[..hidden.len()];
        add_rms_norm(middle, &forward.delta[..sum.len()], &self.norm, eps, sum, &mut *hidden, inv_rms);
        hidden
    }

    /// Bytes of the packed weights that every row of a call meets.
    pub fn weight_bytes(&self) -> usize {
        self.layers.iter().map(LayerWeights::bytes).sum::<usize>() + self.lm_head.bytes()
    }

    /// How the caller holds keys and values best: in f32 beside weights in f32, in bf16 beside others.
    pub fn cache_operands(&self) -> Operands {
        match self.lm_head.operands() {
            Operands::F32 | Operands::F32InTiles => Operands::F32,
            Operands::Bf16 | Operands::Int8 => Operands::Bf16,
        }
    }

    fn embed(&self, tokens: &[u32], out: &mut [f32]) {
        let dim = self.config.hidden_size;
        match &self.embed_tokens {
            Some(embeddings) => embed(embeddings, tokens, dim, out),
            None => {
                for (out, &token) in out.chunks_exact_mut(dim).zip(tokens) {
                    self.lm_head.read_row(token as usize, out);
                }
            }
        }
    }

    /// Logits `[rows, vocab]` of hidden rows.
    pub fn logits(&self, hidden: &[f32], rows: usize, logits: &mut Vec<f32>) {
        logits.resize(rows * self.config.vocab_size, 0.0);
        self.lm_head.forward(hidden, logits, rows);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn can_be_shared_between_threads() {
        fn shared<T: Send + Sync>() {}
        shared::<InferenceDecoder>();
    }
}
