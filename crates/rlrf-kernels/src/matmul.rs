//! Matrix products in f32.
//!
//! Each output element is one chain of fused multiply-adds over `k` in ascending order, whatever the tile
//! it falls in: a row's result is bit-identical for any number of rows, columns or threads.

use rayon::prelude::*;

use crate::simd;

/// `y[t, o] = sum_i x[t, i] w[o, i] (+ bias[o])`; weights in the Hugging Face layout `[out, in]`.
pub fn linear(
    x: &[f32],
    w: &[f32],
    bias: Option<&[f32]>,
    y: &mut [f32],
    rows: usize,
    inp: usize,
    out: usize,
) {
    PackedLinear::new(w, bias, inp, out).forward(x, y, rows);
}
/// `dx[t, i] (+)= sum_o dy[t, o] w[o, i]`; adds into `dx` if `accumulate`.
pub fn linear_backward_input(
    dy: &[f32],
    w: &[f32],
    dx: &mut [f32],
    rows: usize,
    inp: usize,
    out: usize,
    accumulate: bool,
) {
    assert!(dy.len() == rows * out && w.len() == inp * out && dx.len() == rows * inp);
    dx.par_chunks_mut(inp).zip(dy.par_chunks(out)).for_each(|(dx, dy)| {
        if !accumulate {
            dx.fill(0.0);
        }
        row_times_matrix(dy, w, dx);
    });
}
/// `dw[o, i] += sum_t dy[t, o] x[t, i]`, and `db[o] += sum_t dy[t, o]` where `db` is given.
pub fn linear_backward_weight(
    dy: &[f32],
    x: &[f32],
    dw: &mut [f32],
    db: Option<&mut [f32]>,
    rows: usize,
    inp: usize,
    out: usize,
) {
    assert!(dy.len() == rows * out && x.len() == rows * inp && dw.len() == out * inp);
    dw.par_chunks_mut(inp).enumerate().for_each(|(o, dw)| {
        let column: Vec<f32> = dy.iter().skip(o).step_by(out).copied().collect();
        row_times_matrix(&column, x, dw);
    });
    if let Some(db) = db {
        for dy in dy.chunks_exact(out) {
            for (db, dy) in db.iter_mut().zip(dy) {
                *db += dy;
            }
        }
    }
}
/// Weights packed once in the layout that the micro-kernel reads, for generation.
#[derive(Debug, Clone)]
pub struct PackedLinear {
    transposed: Vec<f32>,
    bias: Option<Vec<f32>>,
    inp: usize,
    out: usize,
}
impl PackedLinear {
    /// Packs `w[out, in]`.
    pub fn new(w: &[f32], bias: Option<&[f32]>, inp: usize, out: usize) -> Self {
        assert_eq!(w.len(), inp * out);
        let mut transposed = vec![0.0; inp * out];
        for o in 0..out {
            for i in 0..inp {
                transposed[i * out + o] = w[o * inp + i];
            }
        }
        Self { transposed, bias: bias.map(<[f32]>::to_vec), inp, out }
    }
    /// `y[t, o]`, bit-identical to [`linear`] on the same weights.
    pub fn forward(&self, x: &[f32], y: &mut [f32], rows: usize) {
        assert!(x.len() == rows * self.inp && y.len() == rows * self.out);
        y.par_chunks_mut(self.out).zip(x.par_chunks(self.inp)).for_each(|(y, x)| {
            y.fill(0.0);
            row_times_matrix(x, &self.transposed, y);
            if let Some(bias) = &self.bias {
                for (y, bias) in y.iter_mut().zip(bias) {
                    *y += bias;
                }
            }
        });
    }
}

simd! {
    fn row_times_matrix(a: &[f32], b: &[f32], c: &mut [f32]) {
        for (a, b) in a.iter().zip(b.chunks_exact(c.len())) {
            simd::add_scaled(c, *a, b);
        }
    }
}
