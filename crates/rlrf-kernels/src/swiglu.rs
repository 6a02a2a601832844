//! The gated activation of Llama-class feed-forward layers: `silu(gate) * up` (Shazeer, 2020).

use rayon::prelude::*;

use crate::simd;

/// Elements per parallel task.
const CHUNK: usize = 16 * 1024;

/// `y = silu(gate) * up`.
pub fn swiglu(gate: &[f32], up: &[f32], y: &mut [f32]) {
    assert!(gate.len() == up.len() && gate.len() == y.len());
    y.par_chunks_mut(CHUNK)
        .zip(gate.par_chunks(CHUNK))
        .zip(up.par_chunks(CHUNK))
        .for_each(|((y, gate), up)| forward_chunk(gate, up, y));
}

/// Overwrites `dgate` and `dup`.
pub fn swiglu_backward(dy: &[f32], gate: &[f32], up: &[f32], dgate: &mut [f32], dup: &mut [f32]) {
    assert!(dy.len() == gate.len() && dy.len() == up.len());
    assert!(dy.len() == dgate.len() && dy.len() == dup.len());
    dgate
        .par_chunks_mut(CHUNK)
        .zip(dup.par_chunks_mut(CHUNK))
        .zip(dy.par_chunks(CHUNK))
        .zip(gate.par_chunks(CHUNK))
        .zip(up.par_chunks(CHUNK))
        .for_each(|((((dgate, dup), dy), gate), up)| backward_chunk(dy, gate, up, dgate, dup));
}

simd! {
    fn forward_chunk(gate: &[f32], up: &[f32], y: &mut [f32]) {
        for ((y, gate), up) in y.iter_mut().zip(gate).zip(up) {
            *y = gate / (1.0 + simd::exp(-gate)) * up;
        }
    }
}

simd! {
    fn backward_chunk(dy: &[f32], gate: &[f32], up: &[f32], dgate: &mut [f32], dup: &mut [f32]) {
        for ((((dgate, dup), dy), gate), up) in dgate.iter_mut().zip(dup).zip(dy).zip(gate).zip(up) {
            let sigmoid = 1.0 / (1.0 + simd::exp(-gate));
            let silu = gate * sigmoid;
            *dup = dy * silu;
            *dgate = dy * up * silu.mul_add(1.0 - sigmoid, sigmoid);
        }
    }
}
