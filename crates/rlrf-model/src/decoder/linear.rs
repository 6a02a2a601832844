//! A projection, however its weights are stored.

use rlrf_kernels::matmul::{Operands, PackedLinear, linear, linear_backward_input, linear_backward_weight};

use crate::parameters::LinearPlace;

/// `y = x W^T (+ b)` for `rows` rows.
pub(crate) trait Linear {
    fn forward(&self, x: &[f32], y: &mut [f32], rows: usize);
}

impl Linear for PackedLinear {
    fn forward(&self, x: &[f32], y: &mut [f32], rows: usize) {
        PackedLinear::forward(self, x, y, rows);
    }
}

/// A projection in a flat vector of parameters.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FlatLinear<'a> {
    pub(crate) place: &'a LinearPlace,
    pub(crate) parameters: &'a [f32],
    /// Of every product with it.
    pub(crate) operands: Operands,
}

impl Linear for FlatLinear<'_> {
    fn forward(&self, x: &[f32], y: &mut [f32], rows: usize) {
        let (weight, bias) = self.place.of(self.parameters);
        linear(self.operands, x, weight, bias, y, rows, self.place.inputs, self.place.outputs);
    }
}

impl FlatLinear<'_> {
    /// The same projection, packed for generation.
    pub(crate) fn pack(&self) -> PackedLinear {
        let (weight, bias) = self.place.of(self.parameters);
        PackedLinear::new(self.operands, weight, bias, self.place.inputs, self.place.outputs)
    }

    /// Overwrites `dx`, or adds into it.
    pub(crate) fn backward_input(&self, dy: &[f32], dx: &mut [f32], rows: usize, accumulate: bool) {
        let (weight, _) = self.place.of(self.parameters);
        let (inputs, outputs) = (self.place.inputs, self.place.outputs);
        linear_backward_input(self.operands, dy, weight, dx, rows, inputs, outputs, accumulate);
    }

    /// Adds the gradient of weight and bias into the flat `gradients`.
    pub(crate) fn backward_weight(&self, dy: &[f32], x: &[f32], gradients: &mut [f32], rows: usize) {
        let (d_weight, d_bias) = self.place.of_mut(gradients);
        let (inputs, outputs) = (self.place.inputs, self.place.outputs);
        linear_backward_weight(self.operands, dy, x, d_weight, d_bias, rows, inputs, outputs);
    }
}
