//! The gated activation of Llama-class feed-forward layers: `silu(gate) * up` (Shazeer, 2020).

use rayon::prelude::*;

use crate::bf16::widen_chunk;
use crate::rows::{Chunk, RowsMut, with_scratch};
use crate::simd;

/// Elements per parallel task, about.
const CHUNK: usize = 16 * 1024;

/// Elements as they were computed, or as bf16 kept them.
#[derive(Debug, Clone, Copy)]
pub enum Values<'a> {
    /// As computed.
    F32(&'a [f32]),
    /// Kept in bf16.
    Bf16(&'a [u16]),
}

impl<'a> Values<'a> {
    fn len(self) -> usize {
        match self {
            Self::F32(values) => values.len(),
            Self::Bf16(values) => values.len(),
        }
    }

    /// Elements `first..first + len`, widened into `scratch` where they have to be.
    fn read<'s>(self, first: usize, scratch: &'s mut [f32]) -> &'s [f32]
    where
        'a: 's,
    {
        match self {
            Self::F32(values) => &values[first..first + scratch.len()],
            Self::Bf16(values) => {
                widen_chunk(&values[first..first + scratch.len()], scratch);
                scratch
            }
        }
    }
}

/// Elements that are taken for a row where nothing is rounded.
const WIDTH: usize = 1024;

/// Rows per task, and elements of each.
fn shape(y: &RowsMut<'_>) -> (usize, usize) {
    let width = y.rounded_width().unwrap_or(WIDTH).max(1);
    ((CHUNK / width).max(1), width)
}

/// `y = silu(gate) * up`.
pub fn swiglu<'y>(gate: &[f32], up: &[f32], y: impl Into<RowsMut<'y>>) {
    let y = y.into();
    let (rows, width) = shape(&y);
    assert!(gate.len() == up.len() && y.holds(gate.len()));
    y.chunks(rows, width).zip(gate.par_chunks(rows * width)).zip(up.par_chunks(rows * width)).for_each(
        |((mut y, gate), up)| {
            if let Some(y) = y.f32() {
                return forward_chunk(gate, up, y);
            }
            with_scratch(width, |activated| {
                let rows = gate.chunks_exact(width).zip(up.chunks_exact(width)).enumerate();
                for (row, (gate, up)) in rows {
                    forward_chunk(gate, up, activated);
                    y.round(row, activated);
                }
            });
        },
    );
}

/// Writes [`swiglu`] again to `y`, and the gradients of both operands to `dgate` and `dup`, all three rounded or none.
pub fn swiglu_backward<'y>(
    dy: &[f32],
    gate: Values<'_>,
    up: Values<'_>,
    y: impl Into<RowsMut<'y>>,
    dgate: impl Into<RowsMut<'y>>,
    dup: impl Into<RowsMut<'y>>,
) {
    let outputs = [y.into(), dgate.into(), dup.into()];
    let (rows, width) = shape(&outputs[0]);
    assert!(dy.len() == gate.len() && dy.len() == up.len());
    assert!(outputs.iter().all(|output| output.holds(dy.len()) && shape(output) == (rows, width)));
    let [y, dgate, dup] = outputs.map(|output| output.chunks(rows, width));
    y.zip(dgate).zip(dup).zip(dy.par_chunks(rows * width)).enumerate().for_each(
        |(chunk, (((mut y, mut dgate), mut dup), dy))| {
            let first = chunk * rows * width;
            with_scratch(5 * width, |scratch| {
                let [gate_scratch, up_scratch, of_y, of_gate, of_up] = split(scratch, width);
                for (row, dy) in dy.chunks(width).enumerate() {
                    let (first, len) = (first + row * width, dy.len());
                    let gate = gate.read(first, &mut gate_scratch[..len]);
                    let up = up.read(first, &mut up_scratch[..len]);
                    let outputs = [&mut y, &mut dgate, &mut dup].map(Chunk::f32);
                    if let [Some(y), Some(dgate), Some(dup)] = outputs {
                        let [y, dgate, dup] = [y, dgate, dup].map(|output| &mut output[row * width..][..len]);
                        backward_chunk(dy, gate, up, y, dgate, dup);
                    } else {
                        backward_chunk(dy, gate, up, of_y, of_gate, of_up);
                        y.round(row, of_y);
                        dgate.round(row, of_gate);
                        dup.round(row, of_up);
                    }
                }
            });
        },
    );
}

/// Cuts `scratch` into parts of `width`.
fn split<const N: usize>(scratch: &mut [f32], width: usize) -> [&mut [f32]; N] {
    let mut parts = scratch.chunks_exact_mut(width);
    std::array::from_fn(|_| parts.next().unwrap_or_default())
}

simd! {
    fn forward_chunk(gate: &[f32], up: &[f32], y: &mut [f32]) {
        for ((y, gate), up) in y.iter_mut().zip(gate).zip(up) {
            *y = gate / (1.0 + simd::exp(-gate)) * up;
        }
    }
}

simd! {
    fn backward_chunk(dy: &[f32], gate: &[f32], up: &[f32], y: &mut [f32], dgate: &mut [f32], dup: &mut [f32]) {
        let outputs = y.iter_mut().zip(dgate).zip(dup);
        for ((((y, dgate), dup), (dy, gate)), up) in outputs.zip(dy.iter().zip(gate)).zip(up) {
            let divisor = 1.0 + simd::exp(-gate);
            *y = gate / divisor * up;
            let sigmoid = 1.0 / divisor;
            let silu = gate * sigmoid;
            *dup = dy * silu;
            *dgate = dy * up * silu.mul_add(1.0 - sigmoid, sigmoid);
        }
    }
}
