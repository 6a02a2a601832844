//! A projection, however its weights are stored.

use std::cell::Cell;

use rlrf_kernels::matmul::{
    Operands, PackedLinear, Weights, linear, linear_add, linear_backward_input, linear_backward_weight,
    project,
};

use crate::lora::LoraPlace;
use crate::parameters::LinearPlace;

/// `y = x W^T (+ b)`.
pub(crate) trait Linear {
    /// The weights, and the operands of products with them.
    fn weights(&self) -> (Operands, Weights<'_>);
    /// Number of inputs.
    fn inputs(&self) -> usize;
    /// Adds what is not in the weights.
    fn add_adapter(&self, _x: &[f32], _y: &mut [f32], _rows: usize) {}
    /// Of `rows` rows.
    fn forward(&self, x: &[f32], y: &mut [f32], rows: usize) {
        forward([self], x, [y], rows);
    }
}

/// Several projections of the same `rows` rows.
pub(crate) fn forward<L: Linear + ?Sized, const N: usize>(
    linears: [&L; N],
    x: &[f32],
    mut ys: [&mut [f32]; N],
    rows: usize,
) {
    let (operands, _) = linears[0].weights();
    let mut outputs = ys.iter_mut();
    let mut projections =
        linears.map(|linear| (linear.weights().1, outputs.next().map_or(&mut [][..], |y| &mut **y)));
    project(operands, x, rows, linears[0].inputs(), &mut projections);
    for (linear, y) in linears.into_iter().zip(ys) {
        linear.add_adapter(x, y, rows);
    }
}

impl Linear for PackedLinear {
    fn weights(&self) -> (Operands, Weights<'_>) {
        (self.operands(), Weights::Packed(self))
    }

    fn inputs(&self) -> usize {
        PackedLinear::inputs(self)
    }
}

/// The adapter of one projection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LowRank<'a> {
    pub(crate) place: &'a LoraPlace,
    /// The flat vector of all adapters.
    pub(crate) parameters: &'a [f32],
    pub(crate) rank: usize,
    pub(crate) scale: f32,
}

/// A projection in a flat vector of parameters.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FlatLinear<'a> {
    pub(crate) place: &'a LinearPlace,
    pub(crate) parameters: &'a [f32],
    /// Of every product with it.
    pub(crate) operands: Operands,
    /// Whether weight and bias have no gradient.
    pub(crate) frozen: bool,
    pub(crate) adapter: Option<LowRank<'a>>,
}

thread_local! {
    /// What adapters compute between their two matrices, forward and backward; kept from call to call.
    static BETWEEN: Cell<[Vec<f32>; 2]> = const { Cell::new([Vec::new(), Vec::new()]) };
}

impl Linear for FlatLinear<'_> {
    fn weights(&self) -> (Operands, Weights<'_>) {
        let (w, bias) = self.place.of(self.parameters);
        (self.operands, Weights::Plain { w, bias, out: self.place.outputs })
    }

    fn inputs(&self) -> usize {
        self.place.inputs
    }

    fn add_adapter(&self, x: &[f32], y: &mut [f32], rows: usize) {
        let Some(adapter) = self.adapter else { return };
        let [mut down, other] = BETWEEN.take();
        self.project_down(adapter, x, &mut down, rows);
        let b = &adapter.parameters[adapter.place.b.clone()];
        linear_add(self.operands, &down, b, y, rows, adapter.rank, self.place.outputs);
        BETWEEN.set([down, other]);
    }
}

impl FlatLinear<'_> {
    /// The same projection, packed for generation.
    ///
    /// # Panics
    /// If it has an adapter, which is to be merged before.
    pub(crate) fn pack(&self) -> PackedLinear {
        assert!(self.adapter.is_none(), "adapters are merged before packing");
        let (weight, bias) = self.place.of(self.parameters);
        PackedLinear::new(self.operands, weight, bias, self.place.inputs, self.place.outputs)
    }

    /// From the gradient `dy` of the output and the input `x`: adds the gradient of what is trained into the flat
    /// `gradients`, and overwrites `dx` with that of the input, or adds into it.
    pub(crate) fn backward(
        &self,
        dy: &[f32],
        x: &[f32],
        dx: &mut [f32],
        accumulate: bool,
        gradients: &mut [f32],
        rows: usize,
    ) {
        let (inputs, outputs) = (self.place.inputs, self.place.outputs);
        if !self.frozen {
            let (d_weight, d_bias) = self.place.of_mut(gradients);
            linear_backward_weight(self.operands, dy, x, d_weight, d_bias, rows, inputs, outputs);
        }
        let (weight, _) = self.place.of(self.parameters);
        linear_backward_input(self.operands, dy, weight, dx, rows, inputs, outputs, accumulate);
        if let Some(adapter) = self.adapter {
            let [mut down, mut d_down] = BETWEEN.take();
            self.project_down(adapter, x, &mut down, rows);
            self.backward_adapter(adapter, dy, x, &down, &mut d_down, dx, gradients, rows);
            BETWEEN.set([down, d_down]);
        }
    }

    /// `down[t, r] = scale sum_i x[t, i] a[r, i]`.
    fn project_down(&self, adapter: LowRank<'_>, x: &[f32], down: &mut Vec<f32>, rows: usize) {
        down.resize(rows * adapter.rank, 0.0);
        let a = &adapter.parameters[adapter.place.a.clone()];
        linear(self.operands, x, a, None, down, rows, self.place.inputs, adapter.rank);
        down.iter_mut().for_each(|value| *value *= adapter.scale);
    }

    fn backward_adapter(
        &self,
        adapter: LowRank<'_>,
        dy: &[f32],
        x: &[f32],
        down: &[f32],
        d_down: &mut Vec<f32>,
        dx: &mut [f32],
        gradients: &mut [f32],
        rows: usize,
    ) {
        let (inputs, outputs, rank) = (self.place.inputs, self.place.outputs, adapter.rank);
        let LowRank { place, parameters, scale, .. } = adapter;
        d_down.resize(rows * rank, 0.0);
        linear_backward_input(
            self.operands,
            dy,
            &parameters[place.b.clone()],
            d_down,
            rows,
            rank,
            outputs,
            false,
        );
        d_down.iter_mut().for_each(|value| *value *= scale);
        let d_b = &mut gradients[place.b.clone()];
        linear_backward_weight(self.operands, dy, down, d_b, None, rows, rank, outputs);
        let d_a = &mut gradients[place.a.clone()];
        linear_backward_weight(self.operands, d_down, x, d_a, None, rows, inputs, rank);
        linear_backward_input(
            self.operands,
            d_down,
            &parameters[place.a.clone()],
            dx,
            rows,
            inputs,
            rank,
            true,
        );
    }
}
