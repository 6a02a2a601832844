//! The buffers of forward and backward. They grow to the largest batch seen and are reused.

use rlrf_kernels::attention::Heads;
use rlrf_kernels::bf16::{narrow, widen};

use crate::{Computation, ModelConfig};

/// What the forward keeps for the backward, and how both are computed; its buffers are reused from call to call.
#[derive(Debug, Default)]
pub struct Activations {
    computation: Computation,
    /// Every layer's; or one that serves all, where less is kept of them.
    pub(super) layers: Vec<LayerActivations>,
    /// What is kept of each layer; empty where all is.
    pub(super) kept: Vec<Kept>,
    /// Log-sum-exp of the attention scores of each layer, `[rows, heads]`.
    pub(super) logsumexp: Vec<Vec<f32>>,
    /// The residual stream after the last layer, `[rows, hidden]`.
    pub(super) residual: Vec<f32>,
    pub(super) inv_rms: Vec<f32>,
    pub(super) hidden: Vec<f32>,
    pub(super) forward: ForwardScratch,
    pub(super) selection: Selection,
    pub(super) backward: BackwardScratch,
}

impl Activations {
    /// Empty, for passes that are computed so.
    pub fn new(computation: Computation) -> Self {
        Self { computation, ..Self::default() }
    }

    /// How passes with these activations are computed.
    pub fn computation(&self) -> Computation {
        self.computation
    }

    /// Final hidden states after the last norm, `[rows, hidden_size]`.
    pub fn hidden(&self) -> &[f32] {
        &self.hidden
    }

    /// Makes every buffer of the forward fit `rows` rows.
    pub(super) fn resize(&mut self, config: &ModelConfig, rows: usize) {
        let whole = self.computation == Computation::default();
        let layers = config.num_hidden_layers;
        self.layers.resize_with(if whole { layers } else { 1 }, LayerActivations::default);
        self.kept.resize_with(if whole { 0 } else { layers }, || Kept::new(self.computation));
        self.logsumexp.resize_with(layers, Vec::new);
        for layer in &mut self.layers {
            layer.resize(config, rows);
        }
        for logsumexp in &mut self.logsumexp {
            logsumexp.resize(rows * config.num_attention_heads, 0.0);
        }
        self.residual.resize(rows * config.hidden_size, 0.0);
        self.inv_rms.resize(rows, 0.0);
        self.hidden.resize(rows * config.hidden_size, 0.0);
        self.forward.resize(config, rows);
    }
}

/// What is kept of one layer between forward and backward, if not everything as it is.
#[derive(Debug)]
pub(super) enum Kept {
    /// Everything in bf16, the inverses of root mean squares as they are.
    Narrow { activations: Vec<Vec<u16>>, inverses: Vec<Vec<f32>> },
    /// The input alone.
    Input(Vec<f32>),
}

impl Kept {
    fn new(computation: Computation) -> Self {
        match computation.recompute {
            true => Self::Input(Vec::new()),
            false => Self::Narrow { activations: Vec::new(), inverses: Vec::new() },
        }
    }

    /// Keeps what the backward needs of the layer at work.
    pub(super) fn keep(&mut self, layer: &mut LayerActivations) {
        match self {
            Self::Narrow { activations, inverses } => {
                let (wide, kept_inverses) = layer.buffers();
                activations.resize_with(wide.len(), Vec::new);
                for (wide, kept) in wide.into_iter().zip(activations) {
                    kept.resize(wide.len(), 0);
                    narrow(wide, kept);
                }
                inverses.resize_with(kept_inverses.len(), Vec::new);
                for (inverse, kept) in kept_inverses.into_iter().zip(inverses) {
                    kept.clone_from(inverse);
                }
            }
            Self::Input(kept) => kept.clone_from(&layer.input),
        }
    }

    /// The opposite of [`Kept::keep`], as far as it goes.
    pub(super) fn restore(&self, layer: &mut LayerActivations) {
        match self {
            Self::Narrow { activations, inverses } => {
                let (wide, kept_inverses) = layer.buffers();
                for (wide, kept) in wide.into_iter().zip(activations) {
                    widen(kept, wide);
                }
                for (inverse, kept) in kept_inverses.into_iter().zip(inverses) {
                    inverse.clone_from(kept);
                }
            }
            Self::Input(kept) => layer.input.clone_from(kept),
        }
    }
}

/// The activations of one layer.
#[derive(Debug, Default)]
pub(crate) struct LayerActivations {
    /// The residual stream that enters the layer, `[rows, hidden]`.
    pub(crate) input: Vec<f32>,
    pub(super) input_inv_rms: Vec<f32>,
    /// Queries and keys as projected, kept only where they are normalised per head.
    pub(super) q_projected: Vec<f32>,
    pub(super) q_inv_rms: Vec<f32>,
    pub(super) k_projected: Vec<f32>,
    pub(super) k_inv_rms: Vec<f32>,
    /// Rotated queries `[rows, heads, dim]` and keys `[rows, kv heads, dim]`, and the values.
    pub(super) q: Vec<f32>,
    pub(super) k: Vec<f32>,
    pub(super) v: Vec<f32>,
    pub(super) attended: Vec<f32>,
    /// The residual stream between attention and feed-forward, `[rows, hidden]`.
    pub(crate) middle: Vec<f32>,
    pub(super) middle_inv_rms: Vec<f32>,
    pub(super) gate: Vec<f32>,
    pub(super) up: Vec<f32>,
}

impl LayerActivations {
    /// All activations, and all inverses of root mean squares.
    fn buffers(&mut self) -> ([&mut Vec<f32>; 10], [&mut Vec<f32>; 4]) {
        let Self { input, q_projected, k_projected, q, k, v, attended, middle, gate, up, .. } = self;
        (
            [input, q_projected, k_projected, q, k, v, attended, middle, gate, up],
            [&mut self.input_inv_rms, &mut self.middle_inv_rms, &mut self.q_inv_rms, &mut self.k_inv_rms],
        )
    }

    /// Makes every buffer fit `rows` rows.
    pub(crate) fn resize(&mut self, config: &ModelConfig, rows: usize) {
        let heads = config.heads();
        let (query, key_value) = (heads.query * heads.dim, heads.key_value * heads.dim);
        if config.qk_norm {
            self.q_projected.resize(rows * query, 0.0);
            self.q_inv_rms.resize(rows * heads.query, 0.0);
            self.k_projected.resize(rows * key_value, 0.0);
            self.k_inv_rms.resize(rows * heads.key_value, 0.0);
        }
        self.input.resize(rows * config.hidden_size, 0.0);
        self.input_inv_rms.resize(rows, 0.0);
        self.q.resize(rows * query, 0.0);
        self.k.resize(rows * key_value, 0.0);
        self.v.resize(rows * key_value, 0.0);
        self.attended.resize(rows * query, 0.0);
        self.middle.resize(rows * config.hidden_size, 0.0);
        self.middle_inv_rms.resize(rows, 0.0);
        self.gate.resize(rows * config.intermediate_size, 0.0);
        self.up.resize(rows * config.intermediate_size, 0.0);
    }
}

/// What a forward needs and nothing keeps.
#[derive(Debug, Default)]
pub(crate) struct ForwardScratch {
    /// What is yet to be added to the residual stream, `[rows, hidden]`.
    pub(crate) delta: Vec<f32>,
    pub(super) normed: Vec<f32>,
    pub(super) activated: Vec<f32>,
}

impl ForwardScratch {
    /// Makes every buffer fit `rows` rows.
    pub(crate) fn resize(&mut self, config: &ModelConfig, rows: usize) {
        self.delta.resize(rows * config.hidden_size, 0.0);
        self.normed.resize(rows * config.hidden_size, 0.0);
        self.activated.resize(rows * config.intermediate_size, 0.0);
    }
}

/// The rows that the language head was applied to.
#[derive(Debug, Default)]
pub(super) struct Selection {
    /// Their final hidden states, `[selected, hidden]`.
    pub(super) hidden: Vec<f32>,
    pub(super) logsumexp: Vec<f32>,
    pub(super) d_hidden: Vec<f32>,
}

/// What a backward needs; `d_` is the gradient of what carries the rest of the name.
#[derive(Debug, Default)]
pub(super) struct BackwardScratch {
    /// The gradient of the residual stream, carried from the last layer to the first, `[rows, hidden]`.
    pub(super) d_residual: Vec<f32>,
    pub(super) d_normed: Vec<f32>,
    pub(super) d_attended: Vec<f32>,
    pub(super) d_q: Vec<f32>,
    pub(super) d_k: Vec<f32>,
    pub(super) d_v: Vec<f32>,
    pub(super) d_q_projected: Vec<f32>,
    pub(super) d_k_projected: Vec<f32>,
    pub(super) d_activated: Vec<f32>,
    pub(super) d_gate: Vec<f32>,
    pub(super) d_up: Vec<f32>,
    /// Of a norm that is computed again; the kept ones are used.
    pub(super) inv_rms: Vec<f32>,
}

impl BackwardScratch {
    /// Makes every buffer fit `rows` rows.
    pub(super) fn resize(&mut self, config: &ModelConfig, rows: usize) {
        let Heads { query, key_value, dim, .. } = config.heads();
        self.inv_rms.resize(rows, 0.0);
        if config.qk_norm {
            self.d_q_projected.resize(rows * query * dim, 0.0);
            self.d_k_projected.resize(rows * key_value * dim, 0.0);
        }
        for buffer in [&mut self.d_residual, &mut self.d_normed] {
            buffer.resize(rows * config.hidden_size, 0.0);
        }
        for buffer in [&mut self.d_attended, &mut self.d_q] {
            buffer.resize(rows * query * dim, 0.0);
        }
        for buffer in [&mut self.d_k, &mut self.d_v] {
            buffer.resize(rows * key_value * dim, 0.0);
        }
        for buffer in [&mut self.d_activated, &mut self.d_gate, &mut self.d_up] {
            buffer.resize(rows * config.intermediate_size, 0.0);
        }
    }
}
