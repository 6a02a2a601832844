//! The decoder: explicit forward and backward, no tape.

mod activations;
mod layer;
mod linear;
mod rows;
mod score;

use std::ops::Range;
use std::sync::Arc;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rlrf_kernels::attention::{self, Heads};
use rlrf_kernels::logprobs;
use rlrf_kernels::matmul::{Operands, linear};
use rlrf_kernels::norm::{add_rms_norm, rms_norm_backward};
use rlrf_kernels::rope::RopeTable;
use rlrf_kernels::swiglu::Values;

pub use activations::Activations;
pub(crate) use activations::{ForwardScratch, LayerActivations};
use activations::{Kept, Selection};
use layer::LayerBackward;
pub(crate) use layer::{Block, LayerWeights};
use linear::FlatLinear;
use rows::{resized, scatter_add};

use crate::{Adapter, Batch, Error, Head, Layout, ModelConfig, ParameterEntry, Result};

/// A decoder with its parameters in f32.
#[derive(Debug, Clone)]
pub struct Decoder {
    config: ModelConfig,
    layout: Layout,
    parameters: Vec<f32>,
    adapter: Option<Adapter>,
    rope: Arc<RopeTable>,
}

impl ModelConfig {
    /// The shape of the attention heads.
    pub fn heads(&self) -> Heads {
        Heads {
            query: self.num_attention_heads,
            key_value: self.num_key_value_heads,
            dim: self.head_dim,
            window: self.sliding_window,
        }
    }
}

impl Decoder {
    /// Random parameters: normal with `config.initializer_range` for matrices, ones for norms, zeros for biases. The
    /// same seed gives the same parameters.
    ///
    /// # Errors
    /// None for a validated configuration.
    pub fn random(config: ModelConfig, seed: u64) -> Result<Self> {
        let layout = Layout::new(&config);
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut parameters = vec![0.0; layout.len()];
        for entry in layout.entries() {
            let values = &mut parameters[entry.range.clone()];
            if entry.decay {
                values.fill_with(|| config.initializer_range * standard_normal(&mut random));
            } else if !entry.name.ends_with(".bias") {
                values.fill(1.0);
            }
        }
        Self::from_parameters(config, parameters)
    }

    /// From a flat vector in the order of `Layout::new(&config)`.
    ///
    /// # Errors
    /// [`Error::ParameterCount`] if the vector has another length than the layout.
    pub fn from_parameters(config: ModelConfig, parameters: Vec<f32>) -> Result<Self> {
        let layout = Layout::new(&config);
        if parameters.len() != layout.len() {
            return Err(Error::ParameterCount { expected: layout.len(), found: parameters.len() });
        }
        let rope = Arc::new(RopeTable::new(
            &config.inverse_frequencies(),
            config.max_position_embeddings,
            config.attention_factor(),
        ));
        Ok(Self { config, layout, parameters, adapter: None, rope })
    }

    /// The configuration.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// The layout of the flat vector.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The flat vector.
    pub fn parameters(&self) -> &[f32] {
        &self.parameters
    }

    /// The flat vector, to be updated by an optimizer.
    pub fn parameters_mut(&mut self) -> &mut [f32] {
        &mut self.parameters
    }

    /// From now on only the adapters of `adapter` are trained, and they take part in every pass.
    ///
    /// # Panics
    /// If it was made for another layout.
    pub fn attach(&mut self, adapter: Adapter) {
        assert!(adapter.fits(&self.layout), "an adapter belongs to one layout");
        self.adapter = Some(adapter);
    }

    /// Adds the adapters to the weights and gives them back; none if there are none.
    pub fn merge(&mut self) -> Option<Adapter> {
        let adapter = self.adapter.take()?;
        adapter.merge_into(&self.layout, &mut self.parameters);
        Some(adapter)
    }

    /// Drops the adapters, and gives them back.
    pub fn detach(&mut self) -> Option<Adapter> {
        self.adapter.take()
    }

    /// The adapters, where there are any.
    pub fn adapter(&self) -> Option<&Adapter> {
        self.adapter.as_ref()
    }

    /// The tensors that are trained: those of the adapters, or all.
    pub fn trainable_entries(&self) -> &[ParameterEntry] {
        self.adapter.as_ref().map_or(self.layout.entries(), Adapter::entries)
    }

    /// The flat vector that is trained.
    pub fn trainable(&self) -> &[f32] {
        self.adapter.as_ref().map_or(&self.parameters, Adapter::parameters)
    }

    /// The flat vector that is trained, to be updated by an optimizer.
    pub fn trainable_mut(&mut self) -> &mut [f32] {
        match &mut self.adapter {
            Some(adapter) => adapter.parameters_mut(),
            None => &mut self.parameters,
        }
    }

    /// The rotary table, shared with what is packed from this decoder.
    pub(crate) fn rope(&self) -> Arc<RopeTable> {
        Arc::clone(&self.rope)
    }

    /// The token embeddings, `[vocab, hidden]`.
    pub(crate) fn embed_tokens(&self) -> &[f32] {
        &self.parameters[self.layout.embed_tokens.clone()]
    }

    /// The weight of the final norm, `[hidden]`.
    pub(crate) fn norm(&self) -> &[f32] {
        &self.parameters[self.layout.norm.clone()]
    }

    /// The language head, `[vocab, hidden]`: the embeddings themselves where they are tied.
    ///
    /// # Panics
    /// If the decoder is a reward model's.
    pub(crate) fn lm_head(&self) -> &[f32] {
        assert_eq!(self.config.head, Head::Language, "a reward model has no language head");
        &self.parameters[self.layout.head.clone()]
    }

    /// The weights of every layer, first to last, and the operands of products with them.
    pub(crate) fn layers(
        &self,
        operands: Operands,
    ) -> impl DoubleEndedIterator<Item = LayerWeights<'_, FlatLinear<'_>>> + ExactSizeIterator {
        self.layout.layers.iter().enumerate().map(move |(index, places)| {
            let adapter = self.adapter.as_ref().map(|adapter| (adapter, adapter.layer(index)));
            LayerWeights::new(places, &self.parameters, operands, adapter)
        })
    }

    fn block(&self) -> Block<'_> {
        Block { heads: self.config.heads(), rms_norm_eps: self.config.rms_norm_eps, rope: &self.rope }
    }

    /// Runs all layers and the final norm over `batch`.
    ///
    /// # Errors
    /// A token out of range, a position beyond the context, spans that do not cover the rows.
    pub fn forward(&self, batch: &Batch, activations: &mut Activations) -> Result<()> {
        self.run(batch, None, activations)
    }

    /// [`Decoder::forward`] where the final hidden states of `rows` alone are needed (they may repeat): the last layer leaves out what only
    /// the others would need. The results of these rows are to the bit the same, and in f32 all gradients, too; but in bf16, and in AMX
    /// tiles, sums over rows depend on which there are.
    ///
    /// # Errors
    /// As [`Decoder::forward`].
    ///
    /// # Panics
    /// If a row is not of the batch.
    pub fn forward_rows(&self, batch: &Batch, rows: &[usize], activations: &mut Activations) -> Result<()> {
        let mut needed = vec![false; batch.len()];
        rows.iter().for_each(|&row| needed[row] = true);
        let outputs: Vec<usize> = (0..batch.len()).filter(|&row| needed[row]).collect();
        self.run(batch, (outputs.len() < batch.len()).then_some(outputs), activations)
    }

    fn run(&self, batch: &Batch, outputs: Option<Vec<usize>>, activations: &mut Activations) -> Result<()> {
        batch.check(self.config.vocab_size, self.config.max_position_embeddings)?;
        let (rows, heads, dim) = (batch.len(), self.config.heads(), self.config.hidden_size);
        activations.resize(&self.config, rows, outputs);
        let operands = activations.computation().precision.operands();
        let Activations { layers, kept, logsumexp, outputs, residual, inv_rms, hidden, forward, .. } =
            activations;

        embed(self.embed_tokens(), &batch.tokens, dim, resized(&mut forward.delta, rows * dim));
        let shared = layers.len();
        layers[0].begin(&self.config, rows);
        for (index, (weights, logsumexp)) in self.layers(operands).zip(logsumexp).enumerate() {
            let (before, layer) = layers.split_at_mut(index % shared);
            let (entering, layer) = (before.last().map(|before| &before.middle[..]), &mut layer[0]);
            let outputs = self.outputs(index, outputs.as_deref());
            let attend = &mut attend(operands, batch, outputs, heads, logsumexp);
            weights.forward(self.block(), &batch.positions, outputs, entering, layer, forward, attend);
            if let Some(kept) = kept.get_mut(index) {
                kept.keep(layer);
            }
        }
        let (middle, delta) = (&layers[shared - 1].middle, resized(&mut forward.delta, residual.len()));
        add_rms_norm(middle, delta, self.norm(), self.config.rms_norm_eps, residual, hidden, inv_rms);
        Ok(())
    }

    /// The rows that layer `index` is computed for but for keys and values: those of the next one need all.
    fn outputs<'o>(&self, index: usize, outputs: Option<&'o [usize]>) -> Option<&'o [usize]> {
        outputs.filter(|_| index + 1 == self.layout.layers.len())
    }

    /// Full logits of the given rows, `[rows.len(), vocab]` (tests and evaluation; training uses `logprobs`).
    ///
    /// # Panics
    /// If a row is not of the batch of the last [`Decoder::forward`], or the decoder is a reward model's.
    pub fn logits(&self, activations: &Activations, rows: &[usize]) -> Vec<f32> {
        let (dim, vocab) = (self.config.hidden_size, self.config.vocab_size);
        let mut hidden = Vec::new();
        activations.gather_hidden(rows, dim, &mut hidden);
        let mut logits = vec![0.0; rows.len() * vocab];
        let operands = activations.computation().precision.operands();
        linear(operands, &hidden, self.lm_head(), None, &mut logits, rows.len(), dim, vocab);
        logits
    }

    /// Log-probability of `targets[i]` predicted from row `rows[i]`; the row *before* the target token. A row may
    /// occur many times (the last row of a prompt predicts the first token of each branch).
    ///
    /// # Panics
    /// If a row is not of the batch of the last [`Decoder::forward`], a target is not of the vocabulary, or there are
    /// not as many targets as rows.
    pub fn logprobs(&self, activations: &mut Activations, rows: &[usize], targets: &[u32]) -> Vec<f32> {
        assert_eq!(rows.len(), targets.len(), "one target per row");
        let (dim, vocab) = (self.config.hidden_size, self.config.vocab_size);
        let operands = activations.computation().precision.operands();
        let mut selection = std::mem::take(&mut activations.selection);
        activations.gather_hidden(rows, dim, &mut selection.hidden);
        selection.logsumexp.resize(rows.len(), 0.0);
        let mut logprobs = vec![0.0; rows.len()];
        let Selection { hidden, logsumexp, logits, logits_kept, .. } = &mut selection;
        *logits_kept = !activations.computation().recompute && logprobs::can_keep(rows.len(), vocab);
        let head = self.lm_head();
        if *logits_kept {
            logprobs::forward_keeping(
                operands,
                hidden,
                head,
                targets,
                dim,
                vocab,
                &mut logprobs,
                logsumexp,
                logits,
            );
        } else {
            logprobs::forward(operands, hidden, head, targets, dim, vocab, &mut logprobs, logsumexp);
        }
        activations.selection = selection;
        logprobs
    }

    /// After [`Decoder::logprobs`] with the same rows and targets: adds the gradient of
    /// `sum_i d_logprobs[i] * logprob_i` with respect to everything that is trained into `gradients` (flat, as
    /// [`Decoder::trainable`]).
    ///
    /// # Panics
    /// If batch, rows, targets and `d_logprobs` are not those of the forward, or `gradients` has another length than what is trained.
    pub fn backward(
        &self,
        batch: &Batch,
        activations: &mut Activations,
        rows: &[usize],
        targets: &[u32],
        d_logprobs: &[f32],
        gradients: &mut [f32],
    ) {
        let (dim, vocab) = (self.config.hidden_size, self.config.vocab_size);
        let mut selection = std::mem::take(&mut activations.selection);
        assert_eq!(selection.logsumexp.len(), rows.len(), "backward follows logprobs of the same rows");
        selection.d_hidden.resize(rows.len() * dim, 0.0);
        let Selection { hidden, logsumexp, logits, logits_kept, d_hidden } = &mut selection;
        let operands = activations.computation().precision.operands();
        let (head, d_head) = (self.lm_head(), self.part(&self.layout.head, gradients));
        // Rows without a gradient may be many: then to compute the others' logits again costs less.
        if std::mem::take(logits_kept) && !d_logprobs.contains(&0.0) {
            logprobs::backward_kept(
                operands, hidden, head, targets, logsumexp, d_logprobs, dim, vocab, logits, d_hidden, d_head,
            );
        } else {
            logprobs::backward(
                operands, hidden, head, targets, logsumexp, d_logprobs, dim, vocab, d_hidden, d_head,
            );
        }
        self.backward_hidden(batch, activations, rows, &selection.d_hidden, gradients);
        activations.selection = selection;
    }

    /// [`Decoder::logprobs`] and [`Decoder::backward`] in one, for `d_logprobs` that are known beforehand, as those of a mean over
    /// tokens are: to the bit the same (the head's gradient, in AMX tiles, up to rounding), but every logit is computed once.
    ///
    /// # Panics
    /// As both.
    pub fn logprobs_and_backward(
        &self,
        batch: &Batch,
        activations: &mut Activations,
        rows: &[usize],
        targets: &[u32],
        d_logprobs: &[f32],
        gradients: &mut [f32],
    ) -> Vec<f32> {
        let (dim, vocab) = (self.config.hidden_size, self.config.vocab_size);
        let mut selection = std::mem::take(&mut activations.selection);
        activations.gather_hidden(rows, dim, &mut selection.hidden);
        selection.d_hidden.resize(rows.len() * dim, 0.0);
        let mut logprobs = vec![0.0; rows.len()];
        logprobs::forward_backward(
            activations.computation().precision.operands(),
            &selection.hidden,
            self.lm_head(),
            targets,
            d_logprobs,
            dim,
            vocab,
            &mut logprobs,
            &mut selection.d_hidden,
            self.part(&self.layout.head, gradients),
        );
        self.backward_hidden(batch, activations, rows, &selection.d_hidden, gradients);
        activations.selection = selection;
        logprobs
    }

    /// The part of [`Decoder::backward`] below the language head, for other heads: from the gradient of the final
    /// hidden states of `rows`, `[rows.len(), hidden_size]` (rows may repeat; all others have none).
    ///
    /// # Panics
    /// If the batch is not that of the last [`Decoder::forward`], a length does not fit, or the activations are for forwards alone.
    pub fn backward_hidden(
        &self,
        batch: &Batch,
        activations: &mut Activations,
        rows: &[usize],
        d_hidden: &[f32],
        gradients: &mut [f32],
    ) {
        let (dim, heads) = (self.config.hidden_size, self.config.heads());
        activations.assert_kept();
        let passed = activations.layers.first().map_or(0, |layer| layer.input.len());
        assert_eq!(passed, batch.len() * dim, "backward follows forward of the same batch");
        assert_eq!(d_hidden.len(), rows.len() * dim, "one gradient per row");
        assert_eq!(gradients.len(), self.trainable().len(), "gradients are those of what is trained");
        let operands = activations.computation().precision.operands();
        let places: Vec<usize> = rows.iter().map(|&row| activations.output(row)).collect();
        let Activations { layers, kept, logsumexp, outputs, residual, inv_rms, forward, backward, .. } =
            activations;

        let d_normed = resized(&mut backward.d_normed, residual.len());
        d_normed.fill(0.0);
        scatter_add(d_hidden, places.into_iter(), dim, d_normed);
        let d_residual = resized(&mut backward.d_residual, residual.len());
        d_residual.fill(0.0);
        let d_norm = self.part(&self.layout.norm, gradients);
        rms_norm_backward(d_normed, residual, self.norm(), inv_rms, outputs.as_deref(), d_residual, d_norm);
        let shared = layers.len();
        let layers_backward = self.layers(operands).zip(&self.layout.layers).zip(logsumexp).enumerate().rev();
        for (index, ((weights, places), logsumexp)) in layers_backward {
            let layer = &mut layers[index % shared];
            let outputs = self.outputs(index, outputs.as_deref());
            if let Some(kept) = kept.get(index) {
                kept.restore(layer);
                if let Kept::Input(input) = kept {
                    // This is the whole residual stream: nothing is yet to be added to it.
                    forward.delta.fill(0.0);
                    let (block, input) = (self.block(), Some(&input[..]));
                    let attend = &mut attend(operands, batch, outputs, heads, logsumexp);
                    weights.forward(block, &batch.positions, outputs, input, layer, forward, attend);
                }
            }
            let kept = kept.get(index).and_then(Kept::gate_and_up);
            let gate_and_up = kept.unwrap_or([Values::F32(&layer.gate), Values::F32(&layer.up)]);
            let (block, kept) = (self.block(), &*layer);
            LayerBackward { weights, places, block, kept, gate_and_up, logsumexp, batch, outputs }
                .run(forward, backward, gradients);
        }
        if let Some(d_embeddings) = self.part(&self.layout.embed_tokens, gradients) {
            let tokens = batch.tokens.iter().map(|&token| token as usize);
            scatter_add(&backward.d_residual[..batch.len() * dim], tokens, dim, d_embeddings);
        }
    }

    /// The gradient of a tensor outside the layers; none where only adapters are trained.
    fn part<'g>(&self, range: &Range<usize>, gradients: &'g mut [f32]) -> Option<&'g mut [f32]> {
        self.adapter.is_none().then(|| &mut gradients[range.clone()])
    }
}

/// The attention of the rows `outputs` of a batch, or of all, to the batch, as a layer asks for it; writes `logsumexp`.
fn attend<'a>(
    operands: Operands,
    batch: &'a Batch,
    outputs: Option<&'a [usize]>,
    heads: Heads,
    logsumexp: &'a mut Vec<f32>,
) -> impl FnMut(&[f32], &[f32], &[f32], &mut [f32]) + 'a {
    logsumexp.resize(outputs.map_or(batch.len(), <[usize]>::len) * heads.query, 0.0);
    let Batch { positions, spans, .. } = batch;
    move |q, k, v, out| {
        attention::forward(operands, q, k, v, positions, spans, outputs, heads, out, logsumexp);
    }
}

/// Writes the embedding of each token into `out`, `[tokens, dim]`.
pub(crate) fn embed(embeddings: &[f32], tokens: &[u32], dim: usize, out: &mut [f32]) {
    for (out, &token) in out.chunks_exact_mut(dim).zip(tokens) {
        out.copy_from_slice(&embeddings[token as usize * dim..][..dim]);
    }
}

/// One draw from the standard normal distribution (Box and Muller, 1958).
fn standard_normal(random: &mut ChaCha8Rng) -> f32 {
    let radius = (-2.0 * (1.0 - random.random::<f64>()).ln()).sqrt();
    (radius * (std::f64::consts::TAU * random.random::<f64>()).cos()) as f32
}
