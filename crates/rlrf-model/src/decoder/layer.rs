//! One decoder block, written once: training and generation differ only in how weights are stored and in who
//! attends.

use std::borrow::Cow;
use std::ops::Range;

use rlrf_kernels::attention::{self, Heads};
use rlrf_kernels::matmul::{Operands, PackedLinear};
use rlrf_kernels::norm::{add_rms_norm, rms_norm, rms_norm_backward};
use rlrf_kernels::rope::RopeTable;
use rlrf_kernels::swiglu::{Values, swiglu, swiglu_backward};

use super::activations::{BackwardScratch, ForwardScratch, LayerActivations};
use super::linear::{self, FlatLinear, Linear, LowRank};
use super::rows::{gather, resized, spread};
use crate::lora::LoraLayer;
use crate::parameters::LayerPlaces;
use crate::{Adapter, Batch};

/// The weights of one layer; `L` is how its projections are stored.
#[derive(Debug)]
pub(crate) struct LayerWeights<'a, L> {
    pub(super) input_layernorm: Cow<'a, [f32]>,
    pub(super) q_proj: L,
    pub(super) k_proj: L,
    pub(super) v_proj: L,
    pub(super) o_proj: L,
    pub(super) q_norm: Option<Cow<'a, [f32]>>,
    pub(super) k_norm: Option<Cow<'a, [f32]>>,
    pub(super) post_attention_layernorm: Cow<'a, [f32]>,
    pub(super) gate_proj: L,
    pub(super) up_proj: L,
    pub(super) down_proj: L,
}

/// What all layers of a model share.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Block<'a> {
    pub(crate) heads: Heads,
    pub(crate) rms_norm_eps: f32,
    pub(crate) rope: &'a RopeTable,
}

/// `attend(q, k, v, out)`, `q, out: [queries, heads, dim]`, `k, v: [rows, kv heads, dim]`.
pub(crate) type Attend<'a> = dyn FnMut(&[f32], &[f32], &[f32], &mut [f32]) + 'a;

impl<L: Linear> LayerWeights<'_, L> {
    /// One block. The residual stream enters as `entering + scratch.delta` (`kept.middle + scratch.delta` where the buffers served
    /// the layer before, too) and leaves as `kept.middle + scratch.delta`: each sum is left to the norm that reads it next. `kept`
    /// fits `positions.len()` rows; queries, and what lies behind the attention, are computed for the rows `outputs` alone, in their order,
    /// where they are given. `attend` gets rotated queries and keys.
    pub(crate) fn forward(
        &self,
        block: Block<'_>,
        positions: &[u32],
        outputs: Option<&[usize]>,
        entering: Option<&[f32]>,
        kept: &mut LayerActivations,
        scratch: &mut ForwardScratch,
        attend: &mut Attend<'_>,
    ) {
        self.attention(block, positions, outputs, entering, kept, scratch, attend);
        self.feed_forward(block, outputs, kept, scratch);
    }

    /// Up to what the heads attended to.
    fn attention(
        &self,
        block: Block<'_>,
        positions: &[u32],
        outputs: Option<&[usize]>,
        entering: Option<&[f32]>,
        kept: &mut LayerActivations,
        scratch: &mut ForwardScratch,
        attend: &mut Attend<'_>,
    ) {
        let (rows, eps, heads) = (positions.len(), block.rms_norm_eps, block.heads);
        let queries = outputs.map_or(rows, <[usize]>::len);
        let len = kept.input.len();
        let (delta, norm) = (resized(&mut scratch.delta, len), &self.input_layernorm);
        let operands = self.q_proj.weights().0;

        let (entering, normed) =
            (entering.unwrap_or(&kept.middle), scratch.normed.fit(operands, rows, norm.len()));
        add_rms_norm(entering, delta, norm, eps, &mut kept.input, normed, &mut kept.input_inv_rms);
        // Before their norms, where there are any.
        for buffer in [&mut kept.q, &mut kept.attended] {
            buffer.resize(queries * heads.query * heads.dim, 0.0);
        }
        if self.q_norm.is_some() {
            kept.q_projected.resize(kept.q.len(), 0.0);
            kept.q_inv_rms.resize(queries * heads.query, 0.0);
        }
        let q = if self.q_norm.is_some() { &mut kept.q_projected } else { &mut kept.q };
        let k = if self.k_norm.is_some() { &mut kept.k_projected } else { &mut kept.k };
        let positions_of_queries = match outputs {
            None => {
                let projections = [&self.q_proj, &self.k_proj, &self.v_proj];
                linear::forward(projections, scratch.normed.read(), [q, k, &mut kept.v], rows);
                positions
            }
            Some(outputs) => {
                linear::forward([&self.k_proj, &self.v_proj], scratch.normed.read(), [k, &mut kept.v], rows);
                scratch.select(operands, &kept.input, outputs, norm, eps);
                self.q_proj.forward(scratch.normed.read(), q, queries);
                scratch.selected_positions.clear();
                scratch.selected_positions.extend(outputs.iter().map(|&row| positions[row]));
                &scratch.selected_positions
            }
        };
        if let Some(weight) = &self.q_norm {
            rms_norm(&kept.q_projected, weight, eps, &mut kept.q, &mut kept.q_inv_rms);
        }
        if let Some(weight) = &self.k_norm {
            rms_norm(&kept.k_projected, weight, eps, &mut kept.k, &mut kept.k_inv_rms);
        }
        block.rope.rotate(&mut kept.q, positions_of_queries, heads.query);
        block.rope.rotate(&mut kept.k, positions, heads.key_value);
        attend(&kept.q, &kept.k, &kept.v, &mut kept.attended);
    }

    fn feed_forward(
        &self,
        block: Block<'_>,
        outputs: Option<&[usize]>,
        kept: &mut LayerActivations,
        scratch: &mut ForwardScratch,
    ) {
        let (dim, eps) = (self.input_layernorm.len(), block.rms_norm_eps);
        let ForwardScratch { delta, normed, activated, selected_input, .. } = scratch;
        let input = if outputs.is_some() { &*selected_input } else { &kept.input };
        let (len, rows) = (input.len(), input.len() / dim);
        let delta = resized(delta, len);
        kept.middle.resize(len, 0.0);
        kept.middle_inv_rms.resize(rows, 0.0);
        for buffer in [&mut kept.gate, &mut kept.up] {
            buffer.resize(rows * self.down_proj.inputs(), 0.0);
        }
        let operands = self.o_proj.weights().0;
        self.o_proj.forward(&kept.attended, delta, rows);
        let (norm, to) = (&self.post_attention_layernorm, normed.fit(operands, rows, dim));
        add_rms_norm(input, delta, norm, eps, &mut kept.middle, to, &mut kept.middle_inv_rms);
        let (projections, to) = ([&self.gate_proj, &self.up_proj], [&mut kept.gate[..], &mut kept.up]);
        linear::forward(projections, normed.read(), to, rows);
        swiglu(&kept.gate, &kept.up, activated.fit(operands, rows, self.down_proj.inputs()));
        self.down_proj.forward(activated.read(), delta, rows);
    }
}

impl ForwardScratch {
    /// Picks the rows `outputs` of the residual stream `input`, and puts their norm before the products.
    fn select(&mut self, operands: Operands, input: &[f32], outputs: &[usize], norm: &[f32], eps: f32) {
        let rows = outputs.len();
        gather(input, outputs.iter().copied(), norm.len(), &mut self.selected_input);
        let normed = self.normed.fit(operands, rows, norm.len());
        rms_norm(&self.selected_input, norm, eps, normed, resized(&mut self.selected_inv_rms, rows));
    }
}

impl LayerWeights<'_, PackedLinear> {
    /// Bytes of the projections.
    pub(crate) fn bytes(&self) -> usize {
        let Self { q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj, .. } = self;
        [q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj].map(PackedLinear::bytes).iter().sum()
    }
}

impl<'a> LayerWeights<'a, FlatLinear<'a>> {
    /// The layer whose tensors lie at `places` of the flat `parameters`; with the adapters at these places of theirs,
    /// all else is frozen.
    pub(super) fn new(
        places: &'a LayerPlaces,
        parameters: &'a [f32],
        operands: Operands,
        adapter: Option<(&'a Adapter, &'a LoraLayer)>,
    ) -> Self {
        let vector = |range: &std::ops::Range<usize>| Cow::Borrowed(&parameters[range.clone()]);
        let projection = |name: &str, place| FlatLinear {
            place,
            parameters,
            operands,
            frozen: adapter.is_some(),
            adapter: adapter.and_then(|(adapter, layer)| {
                Some(LowRank {
                    place: layer.place(name)?,
                    parameters: adapter.parameters(),
                    rank: adapter.config().rank,
                    scale: adapter.config().scale(),
                })
            }),
        };
        Self {
            input_layernorm: vector(&places.input_layernorm),
            q_proj: projection("q_proj", &places.q_proj),
            k_proj: projection("k_proj", &places.k_proj),
            v_proj: projection("v_proj", &places.v_proj),
            o_proj: projection("o_proj", &places.o_proj),
            q_norm: places.q_norm.as_ref().map(vector),
            k_norm: places.k_norm.as_ref().map(vector),
            post_attention_layernorm: vector(&places.post_attention_layernorm),
            gate_proj: projection("gate_proj", &places.gate_proj),
            up_proj: projection("up_proj", &places.up_proj),
            down_proj: projection("down_proj", &places.down_proj),
        }
    }

    /// A copy packed for generation.
    pub(crate) fn pack(&self) -> LayerWeights<'static, PackedLinear> {
        let own = |vector: &Cow<'_, [f32]>| Cow::Owned(vector.to_vec());
        LayerWeights {
            input_layernorm: own(&self.input_layernorm),
            q_proj: self.q_proj.pack(),
            k_proj: self.k_proj.pack(),
            v_proj: self.v_proj.pack(),
            o_proj: self.o_proj.pack(),
            q_norm: self.q_norm.as_ref().map(own),
            k_norm: self.k_norm.as_ref().map(own),
            post_attention_layernorm: own(&self.post_attention_layernorm),
            gate_proj: self.gate_proj.pack(),
            up_proj: self.up_proj.pack(),
            down_proj: self.down_proj.pack(),
        }
    }
}

/// The backward of one layer.
pub(super) struct LayerBackward<'a> {
    pub(super) weights: LayerWeights<'a, FlatLinear<'a>>,
    pub(super) places: &'a LayerPlaces,
    pub(super) block: Block<'a>,
    pub(super) kept: &'a LayerActivations,
    /// Of `kept`, or as bf16 kept them.
    pub(super) gate_and_up: [Values<'a>; 2],
    pub(super) logsumexp: &'a [f32],
    pub(super) batch: &'a Batch,
    /// The rows that the layer's output was computed for, ascending; all where there are none given.
    pub(super) outputs: Option<&'a [usize]>,
}

impl LayerBackward<'_> {
    /// Turns `scratch.d_residual` from the gradient of the layer's output, of the rows `outputs` where they are given, into that of
    /// its input, of all rows, and adds the gradients of the layer's parameters into the flat `gradients`.
    pub(super) fn run(
        &self,
        forward: &mut ForwardScratch,
        scratch: &mut BackwardScratch,
        gradients: &mut [f32],
    ) {
        self.feed_forward(forward, scratch, gradients);
        self.attention(forward, scratch, gradients);
    }

    /// The gradient of a norm's weight; none where only adapters are trained.
    fn vector<'g>(&self, range: &Range<usize>, gradients: &'g mut [f32]) -> Option<&'g mut [f32]> {
        (!self.weights.down_proj.frozen).then(|| &mut gradients[range.clone()])
    }

    /// Down to what the heads attended to.
    fn feed_forward(
        &self,
        forward: &mut ForwardScratch,
        scratch: &mut BackwardScratch,
        gradients: &mut [f32],
    ) {
        let (weights, kept) = (&self.weights, self.kept);
        let (dim, operands) = (weights.input_layernorm.len(), weights.o_proj.operands);
        let (len, wide, rows) = (kept.middle.len(), weights.down_proj.place.inputs, kept.middle.len() / dim);
        let ForwardScratch { normed, activated, .. } = forward;
        let BackwardScratch { d_residual, d_normed, d_attended, d_activated, d_gate, d_up, d_down, .. } =
            scratch;
        let (d_output, d_normed) = (resized(d_residual, len), resized(d_normed, len));
        let d_activated = resized(d_activated, rows * wide);
        let inv_rms = resized(&mut scratch.inv_rms, rows);

        weights.down_proj.backward_input(&*d_output, d_activated, false, d_down, rows);
        // Here and below, cheap elementwise results are recomputed rather than kept for every layer.
        let [gate, up] = self.gate_and_up;
        let [to, to_gate, to_up] =
            [&mut *activated, &mut *d_gate, &mut *d_up].map(|rounded| rounded.fit(operands, rows, wide));
        swiglu_backward(d_activated, gate, up, to, to_gate, to_up);
        weights.down_proj.backward_weights(&*d_output, activated.read(), d_down, gradients, rows);

        let norm = &weights.post_attention_layernorm;
        let to = normed.fit(operands, rows, dim);
        rms_norm(&kept.middle, norm, self.block.rms_norm_eps, to, inv_rms);
        for (projection, dy, accumulate) in
            [(&weights.gate_proj, d_gate, false), (&weights.up_proj, d_up, true)]
        {
            projection.backward_input(dy.read(), d_normed, accumulate, d_down, rows);
            projection.backward_weights(dy.read(), normed.read(), d_down, gradients, rows);
        }
        let d_norm = self.vector(&self.places.post_attention_layernorm, gradients);
        rms_norm_backward(d_normed, &kept.middle, norm, &kept.middle_inv_rms, self.outputs, d_output, d_norm);

        let d_attended = resized(d_attended, kept.attended.len());
        weights.o_proj.backward_input(&*d_output, d_attended, false, d_down, rows);
        weights.o_proj.backward_weights(&*d_output, &kept.attended, d_down, gradients, rows);
        if let Some(outputs) = self.outputs {
            let all = self.batch.len();
            spread(resized(d_residual, all * dim), outputs, all, dim);
        }
    }

    fn attention(&self, forward: &mut ForwardScratch, scratch: &mut BackwardScratch, gradients: &mut [f32]) {
        let (weights, kept, rows) = (&self.weights, self.kept, self.batch.len());
        let (heads, positions) = (self.block.heads, &self.batch.positions);
        let len = kept.input.len();
        let BackwardScratch { d_residual, d_normed, d_attended, d_q, d_k, d_v, d_down, inv_rms, .. } =
            scratch;
        let (d_residual, d_normed) = (resized(d_residual, len), resized(d_normed, len));
        let (d_attended, d_q) = (resized(d_attended, kept.q.len()), resized(d_q, kept.q.len()));
        let (d_k, d_v) = (resized(d_k, kept.k.len()), resized(d_v, kept.k.len()));
        let inv_rms = resized(inv_rms, rows);

        attention::backward(
            self.weights.o_proj.operands,
            &kept.q,
            &kept.k,
            &kept.v,
            &kept.attended,
            self.logsumexp,
            d_attended,
            positions,
            &self.batch.spans,
            self.outputs,
            heads,
            d_q,
            d_k,
            d_v,
        );
        let positions_of_queries: Cow<'_, [u32]> = match self.outputs {
            None => positions.into(),
            Some(outputs) => outputs.iter().map(|&row| positions[row]).collect(),
        };
        self.block.rope.rotate_back(d_q, &positions_of_queries, heads.query);
        self.block.rope.rotate_back(d_k, positions, heads.key_value);
        let heads_of = |row: &usize| row * heads.query..(row + 1) * heads.query;
        let normed = self.outputs.filter(|_| weights.q_norm.is_some());
        let places = normed.map(|outputs| outputs.iter().flat_map(heads_of).collect::<Vec<_>>());
        let d_q = head_norm_backward(
            d_q,
            weights.q_norm.as_deref(),
            [&kept.q_projected, &kept.q_inv_rms],
            places.as_deref(),
            &mut scratch.d_q_projected,
            self.places.q_norm.as_ref().and_then(|range| self.vector(range, gradients)),
        );
        let d_k = head_norm_backward(
            d_k,
            weights.k_norm.as_deref(),
            [&kept.k_projected, &kept.k_inv_rms],
            None,
            &mut scratch.d_k_projected,
            self.places.k_norm.as_ref().and_then(|range| self.vector(range, gradients)),
        );

        let (norm, eps, operands) =
            (&weights.input_layernorm, self.block.rms_norm_eps, weights.o_proj.operands);
        let dim = norm.len();
        if let Some(outputs) = self.outputs {
            forward.select(operands, &kept.input, outputs, norm, eps);
            let queries = outputs.len();
            let (d_normed_of_queries, normed) = (&mut d_normed[..queries * dim], forward.normed.read());
            weights.q_proj.backward_input(d_q, d_normed_of_queries, false, d_down, queries);
            weights.q_proj.backward_weights(d_q, normed, d_down, gradients, queries);
            spread(d_normed, outputs, rows, dim);
        }
        rms_norm(&kept.input, norm, eps, forward.normed.fit(operands, rows, dim), inv_rms);
        let normed = forward.normed.read();
        let of_all = [(&weights.q_proj, d_q), (&weights.k_proj, d_k), (&weights.v_proj, &*d_v)];
        let done = usize::from(self.outputs.is_some());
        for (index, (projection, dy)) in of_all.into_iter().enumerate().skip(done) {
            projection.backward_input(dy, d_normed, index > 0, d_down, rows);
            projection.backward_weights(dy, normed, d_down, gradients, rows);
        }
        let d_norm = self.vector(&self.places.input_layernorm, gradients);
        rms_norm_backward(d_normed, &kept.input, norm, &kept.input_inv_rms, None, d_residual, d_norm);
    }
}

/// The gradient of queries or keys as projected, from that of the normalised ones, at these places among all heads of all rows.
fn head_norm_backward<'a>(
    dy: &'a [f32],
    norm: Option<&[f32]>,
    [projected, inv_rms]: [&[f32]; 2],
    places: Option<&[usize]>,
    d_projected: &'a mut Vec<f32>,
    d_norm: Option<&mut [f32]>,
) -> &'a [f32] {
    match norm {
        Some(weight) => {
            d_projected.clear();
            d_projected.resize(dy.len(), 0.0);
            rms_norm_backward(dy, projected, weight, inv_rms, places, d_projected, d_norm);
            d_projected
        }
        None => dy,
    }
}
