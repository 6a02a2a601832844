//! The buffers of forward and backward. They grow to the largest batch seen and are reused.

use rlrf_kernels::bf16::{narrow, widen};
use rlrf_kernels::rows::Rows;
use rlrf_kernels::swiglu::Values;

use super::rows::gather;
use crate::{Computation, ModelConfig, Precision};

/// What the forward keeps for the backward, and how both are computed; its buffers are reused from call to call.
#[derive(Debug, Default)]
pub struct Activations {
    computation: Computation,
    /// Whether no backward follows.
    forward_only: bool,
    /// Every layer's; or one that serves all, where less is kept of them.
    pub(super) layers: Vec<LayerActivations>,
    /// What is kept of each layer; empty where all is, or nothing.
    pub(super) kept: Vec<Kept>,
    /// Log-sum-exp of the attention scores of each layer, `[rows, heads]`; of the last, `[outputs, heads]`.
    pub(super) logsumexp: Vec<Vec<f32>>,
    /// The rows whose final hidden states were asked for, ascending; none named where all were.
    pub(super) outputs: Option<Vec<usize>>,
    /// The residual stream after the last layer, `[outputs, hidden]`.
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

    /// Empty, for forwards that no backward follows: nothing is kept for one.
    pub fn forward_only(precision: Precision) -> Self {
        let computation = Computation { precision, recompute: true };
        Self { computation, forward_only: true, ..Self::default() }
    }

    /// How passes with these activations are computed.
    pub fn computation(&self) -> Computation {
        self.computation
    }

    /// Final hidden states after the last norm, `[rows, hidden_size]`; after [`Decoder::forward_rows`](crate::Decoder::forward_rows)
    /// those of its rows, in ascending order.
    pub fn hidden(&self) -> &[f32] {
        &self.hidden
    }

    /// Where the final hidden state of a row of the batch lies among all.
    ///
    /// # Panics
    /// If the forward was not asked for it.
    pub(super) fn output(&self, row: usize) -> usize {
        match &self.outputs {
            None => row,
            Some(outputs) => match outputs.binary_search(&row) {
                Ok(output) => output,
                Err(_) => panic!("the forward was not asked for row {row}"),
            },
        }
    }

    /// # Panics
    /// If nothing was kept for a backward.
    pub(super) fn assert_kept(&self) {
        assert!(!self.forward_only, "these activations are for forwards alone");
    }

    /// The final hidden states of `rows` of the batch, `[rows.len(), dim]`.
    pub(super) fn gather_hidden(&self, rows: &[usize], dim: usize, to: &mut Vec<f32>) {
        gather(&self.hidden, rows.iter().map(|&row| self.output(row)), dim, to);
    }

    /// Makes what is kept fit a batch of `rows` rows, whose `outputs` are asked for.
    pub(super) fn resize(&mut self, config: &ModelConfig, rows: usize, outputs: Option<Vec<usize>>) {
        let whole = self.computation == Computation::default();
        let layers = config.num_hidden_layers;
        self.layers.resize_with(if whole { layers } else { 1 }, LayerActivations::default);
        let kept = if whole || self.forward_only { 0 } else { layers };
        self.kept.resize_with(kept, || Kept::new(self.computation));
        self.logsumexp.resize_with(layers, Vec::new);
        for layer in &mut self.layers {
            layer.resize(config, rows);
        }
        let count = outputs.as_ref().map_or(rows, Vec::len);
        self.residual.resize(count * config.hidden_size, 0.0);
        self.inv_rms.resize(count, 0.0);
        self.hidden.resize(count * config.hidden_size, 0.0);
        self.outputs = outputs;
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

    /// The opposite of [`Kept::keep`], where more than the input is kept; gate and up projections are left to [`Kept::gate_and_up`].
    pub(super) fn restore(&self, layer: &mut LayerActivations) {
        match self {
            Self::Narrow { activations, inverses } => {
                let (wide, kept_inverses) = layer.buffers();
                let ([activations @ .., _, _], [wide @ .., _, _]) = (&activations[..], wide) else { return };
                for (wide, kept) in wide.into_iter().zip(activations) {
                    wide.resize(kept.len(), 0.0);
                    widen(kept, wide);
                }
                for (inverse, kept) in kept_inverses.into_iter().zip(inverses) {
                    inverse.clone_from(kept);
                }
            }
            Self::Input(_) => {}
        }
    }

    /// The gate and up projections, where they are kept.
    pub(super) fn gate_and_up(&self) -> Option<[Values<'_>; 2]> {
        match self {
            Self::Narrow { activations, .. } => match &activations[..] {
                [.., gate, up] => Some([Values::Bf16(gate), Values::Bf16(up)]),
                _ => None,
            },
            Self::Input(_) => None,
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
    /// Rotated queries `[rows, heads, dim]` and keys `[rows, kv heads, dim]`, and the values. Queries, what they attended to, and all that
    /// follows are of the rows alone that are computed further.
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
    /// All activations, the gate and up projections last, and all inverses of root mean squares.
    fn buffers(&mut self) -> ([&mut Vec<f32>; 10], [&mut Vec<f32>; 4]) {
        let Self { input, q_projected, k_projected, q, k, v, attended, middle, gate, up, .. } = self;
        (
            [input, q_projected, k_projected, q, k, v, attended, middle, gate, up],
            [&mut self.input_inv_rms, &mut self.middle_inv_rms, &mut self.q_inv_rms, &mut self.k_inv_rms],
        )
    }

    /// Makes the buffers of all rows fit `rows`; those that may be of some alone follow.
    pub(crate) fn resize(&mut self, config: &ModelConfig, rows: usize) {
        let heads = config.heads();
        let key_value = heads.key_value * heads.dim;
        if config.qk_norm {
            self.k_projected.resize(rows * key_value, 0.0);
            self.k_inv_rms.resize(rows * heads.key_value, 0.0);
        }
        self.input.resize(rows * config.hidden_size, 0.0);
        self.input_inv_rms.resize(rows, 0.0);
        self.k.resize(rows * key_value, 0.0);
        self.v.resize(rows * key_value, 0.0);
    }

    /// Begins the residual stream, which enters the first layer, at zero.
    pub(crate) fn begin(&mut self, config: &ModelConfig, rows: usize) {
        self.middle.clear();
        self.middle.resize(rows * config.hidden_size, 0.0);
    }
}

/// What a forward needs and nothing keeps; like those of the backward, these buffers grow to the largest use.
#[derive(Debug, Default)]
pub(crate) struct ForwardScratch {
    /// What is yet to be added to the residual stream, `[rows, hidden]`.
    pub(crate) delta: Vec<f32>,
    /// What products read: the outputs of the norms and of the activation.
    pub(super) normed: Rows,
    pub(super) activated: Rows,
    /// Where not all rows are computed further: of those that are, the residual stream, the inverses of its root mean squares, and
    /// positions.
    pub(super) selected_input: Vec<f32>,
    pub(super) selected_inv_rms: Vec<f32>,
    pub(super) selected_positions: Vec<u32>,
}

/// The rows that the language head was applied to.
#[derive(Debug, Default)]
pub(super) struct Selection {
    /// Their final hidden states, `[selected, hidden]`.
    pub(super) hidden: Vec<f32>,
    pub(super) logsumexp: Vec<f32>,
    /// Their logits, where these are kept for the backward.
    pub(super) logits: Vec<f32>,
    pub(super) logits_kept: bool,
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
    pub(super) d_gate: Rows,
    pub(super) d_up: Rows,
    /// Between the two matrices of an adapter.
    pub(super) d_down: Vec<f32>,
    /// Of a norm that is computed again; the kept ones are used.
    pub(super) inv_rms: Vec<f32>,
}
