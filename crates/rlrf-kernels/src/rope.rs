//! Rotary position embedding (Su et al., 2021) in the half-rotated layout of Hugging Face.

use rayon::prelude::*;

use crate::parallel;

/// Rows per parallel task.
const ROWS: usize = 64;

/// Cosines and sines of every position, `[positions, dim/2]` each.
#[derive(Debug, Clone)]
pub struct RopeTable {
    cos: Vec<f32>,
    sin: Vec<f32>,
    half: usize,
    positions: usize,
}

impl RopeTable {
    /// From the inverse frequencies (`dim/2` of them, scaling already applied), the number of positions, and
    /// the attention factor that multiplies both cos and sin (1 unless the scaling says otherwise).
    pub fn new(inverse_frequencies: &[f32], positions: usize, attention_factor: f32) -> Self {
        let half = inverse_frequencies.len();
        let mut cos = Vec::with_capacity(positions * half);
        let mut sin = Vec::with_capacity(positions * half);
        for position in 0..positions {
            for &frequency in inverse_frequencies {
                // The angle is rounded to f32, as the reference implementation does.
                let (s, c) = f64::from(position as f32 * frequency).sin_cos();
                cos.push(c as f32 * attention_factor);
                sin.push(s as f32 * attention_factor);
            }
        }
        Self { cos, sin, half, positions }
    }

    /// Number of positions.
    pub fn positions(&self) -> usize {
        self.positions
    }

    /// Rotates `x: [T, heads, dim]` in place, row `t` by `positions[t]`.
    ///
    /// # Panics
    /// If a position is not below [`RopeTable::positions`].
    pub fn rotate(&self, x: &mut [f32], positions: &[u32], heads: usize) {
        self.apply(x, positions, heads, 1.0);
    }

    /// The inverse rotation: the backward of [`RopeTable::rotate`].
    ///
    /// # Panics
    /// If a position is not below [`RopeTable::positions`].
    pub fn rotate_back(&self, dx: &mut [f32], positions: &[u32], heads: usize) {
        self.apply(dx, positions, heads, -1.0);
    }

    fn apply(&self, x: &mut [f32], positions: &[u32], heads: usize, sign: f32) {
        let width = heads * self.half * 2;
        assert_eq!(x.len(), positions.len() * width);
        if width == 0 {
            return;
        }
        let rows = x.par_chunks_mut(ROWS * width).zip(positions.par_chunks(ROWS));
        rows.with_min_len(parallel::chunks(ROWS * width)).for_each(|(x, positions)| {
            for (row, &position) in x.chunks_exact_mut(width).zip(positions) {
                let start = position as usize * self.half;
                let cos = &self.cos[start..start + self.half];
                let sin = &self.sin[start..start + self.half];
                rotate_row(row, cos, sin, sign);
            }
        });
    }
}

simd! {
    /// Rotates all heads of one row.
    fn rotate_row(row: &mut [f32], cos: &[f32], sin: &[f32], sign: f32) {
        let half = cos.len();
        for head in row.chunks_exact_mut(2 * half) {
            let (low, high) = head.split_at_mut(half);
            for (((low, high), cos), sin) in low.iter_mut().zip(high).zip(cos).zip(sin) {
                let (a, b, sin) = (*low, *high, sin * sign);
                *low = b.mul_add(-sin, a * cos);
                *high = a.mul_add(sin, b * cos);
            }
        }
    }
}
