//! A projection, however its weights are stored.

use std::cell::Cell;

use rlrf_kernels::matmul::{
    InputGradient, Operands, PackedLinear, Weights, backward_inputs, linear, linear_add,
    linear_backward_input, linear_backward_weight, project,
};
use rlrf_kernels::rows::RowsRef;

use super::rows::resized;
use crate::lora::LoraPlace;
use crate::parameters::LinearPlace;

/// `y = x W^T (+ b)`.
pub(crate) trait Linear {
    /// The weights, and the operands of products with them.
    fn weights(&self) -> (Operands, Weights<'_>);
    /// Number of inputs.
    fn inputs(&self) -> usize;
    /// What is added to the product with the weights.
    fn adapter(&self) -> Option<LowRank<'_>> {
        None
    }
    /// Of `rows` rows.
    fn forward<'x>(&self, x: impl Into<RowsRef<'x>>, y: &mut [f32], rows: usize) {
        forward([self], x, [y], rows);
    }
}

/// Several projections of the same `rows` rows.
pub(crate) fn forward<'x, L: Linear + ?Sized, const N: usize>(
    linears: [&L; N],
    x: impl Into<RowsRef<'x>>,
    ys: [&mut [f32]; N],
    rows: usize,
) {
    let (operands, inputs) = (linears[0].weights().0, linears[0].inputs());
    const { assert!(N <= TOGETHER) };
    let mut between = BETWEEN.take();
    let mut projections = Vec::with_capacity(2 * N);
    for ((linear, y), down) in linears.into_iter().zip(ys).zip(&mut between) {
        projections.push((linear.weights().1, y));
        if let Some(adapter) = linear.adapter() {
            projections.push((adapter.down(), resized(down, rows * adapter.rank)));
        }
    }
    project(operands, x, rows, inputs, &mut projections);
    let mut projections = projections.into_iter();
    for linear in linears {
        let (Some((_, y)), Some(adapter)) = (projections.next(), linear.adapter()) else { continue };
        let Some((_, down)) = projections.next() else { continue };
        adapter.scale(down);
        // Of a small rank, as is usual, operands would be split, and padded, for little.
        linear_add(operands.unsplit(), down, adapter.b(), y, rows, adapter.rank, adapter.outputs());
    }
    BETWEEN.set(between);
}

/// Adds `transposed: [rank, outputs]` to `d_b: [outputs, rank]`.
fn add_transposed(transposed: &[f32], d_b: &mut [f32], outputs: usize) {
    let rank = d_b.len() / outputs;
    for (output, d_b) in d_b.chunks_exact_mut(rank).enumerate() {
        for (sum, value) in d_b.iter_mut().zip(transposed[output..].iter().step_by(outputs)) {
            *sum += value;
        }
    }
}

thread_local! {
    /// What adapters compute between their two matrices; kept from call to call.
    static BETWEEN: Cell<[Vec<f32>; TOGETHER]> = const { Cell::new([const { Vec::new() }; TOGETHER]) };
}

/// Projections that share an input at most: those of queries, keys and values.
const TOGETHER: usize = 3;

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

impl<'a> LowRank<'a> {
    fn a(self) -> &'a [f32] {
        &self.parameters[self.place.a.clone()]
    }

    fn b(self) -> &'a [f32] {
        &self.parameters[self.place.b.clone()]
    }

    /// The first matrix as a projection.
    fn down(self) -> Weights<'a> {
        Weights::Plain { w: self.a(), bias: None, out: self.rank }
    }

    fn outputs(self) -> usize {
        self.b().len() / self.rank
    }

    fn scale(self, values: &mut [f32]) {
        values.iter_mut().for_each(|value| *value *= self.scale);
    }
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

impl Linear for FlatLinear<'_> {
    fn weights(&self) -> (Operands, Weights<'_>) {
        let (w, bias) = self.place.of(self.parameters);
        (self.operands, Weights::Plain { w, bias, out: self.place.outputs })
    }

    fn inputs(&self) -> usize {
        self.place.inputs
    }

    fn adapter(&self) -> Option<LowRank<'_>> {
        self.adapter
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

    /// From the gradient `dy` of the output: overwrites `dx` with that of the input, or adds into it, and `d_down` with that of what
    /// an adapter computes between its two matrices.
    pub(crate) fn backward_input<'y>(
        &self,
        dy: impl Into<RowsRef<'y>>,
        dx: &mut [f32],
        accumulate: bool,
        d_down: &mut Vec<f32>,
        rows: usize,
    ) {
        let (inputs, outputs, operands) = (self.place.inputs, self.place.outputs, self.operands);
        let (w, _) = self.place.of(self.parameters);
        let input = InputGradient { w, dx: &mut *dx, inp: inputs, accumulate };
        let Some(adapter) = self.adapter else {
            return backward_inputs(operands, dy, rows, outputs, &mut [input]);
        };
        let rank = adapter.rank;
        let d_down = resized(d_down, rows * rank);
        let of_adapter = InputGradient { w: adapter.b(), dx: &mut *d_down, inp: rank, accumulate: false };
        backward_inputs(operands, dy, rows, outputs, &mut [input, of_adapter]);
        adapter.scale(d_down);
        linear_backward_input(operands.unsplit(), &*d_down, adapter.a(), dx, rows, inputs, rank, true);
    }

    /// From the gradient `dy` of the output, the input `x` and the `d_down` of [`Self::backward_input`]: adds the gradients of
    /// what is trained into the flat `gradients`.
    pub(crate) fn backward_weights<'a>(
        &self,
        dy: impl Into<RowsRef<'a>>,
        x: impl Into<RowsRef<'a>>,
        d_down: &[f32],
        gradients: &mut [f32],
        rows: usize,
    ) {
        let (inputs, outputs, operands) = (self.place.inputs, self.place.outputs, self.operands);
        let (dy, x) = (dy.into(), x.into());
        if !self.frozen {
            let (d_weight, d_bias) = self.place.of_mut(gradients);
            linear_backward_weight(operands, dy, x, d_weight, d_bias, rows, inputs, outputs);
        }
        let Some(adapter) = self.adapter else { return };
        // Narrow as they are, these would be split for little.
        let (rank, operands) = (adapter.rank, operands.unsplit());
        let mut between = BETWEEN.take();
        let down = resized(&mut between[0], rows * rank);
        linear(operands, x, adapter.a(), None, down, rows, inputs, rank);
        adapter.scale(down);
        let d_b = &mut gradients[adapter.place.b.clone()];
        // Transposed: as the left operand, the narrow one of both is put in order sooner.
        let [down, transposed, ..] = &mut between;
        let transposed = resized(transposed, rank * outputs);
        transposed.fill(0.0);
        linear_backward_weight(operands, &down[..rows * rank], dy, transposed, None, rows, outputs, rank);
        add_transposed(transposed, d_b, outputs);
        let d_a = &mut gradients[adapter.place.a.clone()];
        linear_backward_weight(operands, &d_down[..rows * rank], x, d_a, None, rows, inputs, rank);
        BETWEEN.set(between);
    }
}
