//! Matrix products in f32.
//!
//! Each output element is one chain of fused multiply-adds over `k` in ascending order, whatever the tile
//! it falls in: a row's result is bit-identical for any number of rows, columns or threads.

/// `y[t, o] = sum_i x[t, i] w[o, i] (+ bias[o])`; weights in the Hugging Face layout `[out, in]`.
pub fn linear(x: &[f32], w: &[f32], bias: Option<&[f32]>, y: &mut [f32], rows: usize, inp: usize, out: usize) {
    todo!()
}
/// `dx[t, i] (+)= sum_o dy[t, o] w[o, i]`; adds into `dx` if `accumulate`.
pub fn linear_backward_input(dy: &[f32], w: &[f32], dx: &mut [f32], rows: usize, inp: usize, out: usize, accumulate: bool) {
    todo!()
}
/// `dw[o, i] += sum_t dy[t, o] x[t, i]`, and `db[o] += sum_t dy[t, o]` where `db` is given.
pub fn linear_backward_weight(dy: &[f32], x: &[f32], dw: &mut [f32], db: Option<&mut [f32]>, rows: usize, inp: usize, out: usize) {
    todo!()
}
/// Weights packed once in the layout that the micro-kernel reads, for generation.
#[derive(Debug, Clone)]
pub struct PackedLinear { /* panels, inp, out, bias */ }
impl PackedLinear {
    /// Packs `w[out, in]`.
    pub fn new(w: &[f32], bias: Option<&[f32]>, inp: usize, out: usize) -> Self { todo!() }
    /// `y[t, o]`, bit-identical to [`linear`] on the same weights.
    pub fn forward(&self, x: &[f32], y: &mut [f32], rows: usize) { todo!() }
}
