//! Packing: right operands rearranged in the order in which the micro-kernel reads them.

use super::View;
use crate::simd::InstructionSet;

/// Columns of a panel.
pub(crate) const WIDTH: usize = 32;

/// One cache line; packed buffers are made of these so that no vector load straddles two.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
struct Line([f32; 16]);

/// A right operand `B[k, n]` packed into panels of [`WIDTH`] columns: `[panel][k][WIDTH]`, padded.
#[derive(Debug, Clone, Default)]
pub(crate) struct Panels {
    lines: Vec<Line>,
    depth: usize,
    columns: usize,
}

impl Panels {
    /// Packs `columns x depth` elements of `source`, keeping the buffer of earlier calls.
    pub(crate) fn pack(&mut self, source: View<'_>, columns: usize, depth: usize) {
        let panels = columns.div_ceil(WIDTH);
        let lines = panels * depth * (WIDTH / 16);
        if self.lines.len() < lines {
            self.lines.resize(lines, Line([0.0; 16]));
        }
        self.depth = depth;
        self.columns = columns;
        assert!(source.holds(columns, depth));
        for panel in 0..panels {
            let first = panel * WIDTH;
            for half in 0..WIDTH / 16 {
                let start = first + half * 16;
                let valid = columns.saturating_sub(start).min(16);
                // SAFETY: the panel lies in the buffer, and `source` holds the `valid` columns from `start`.
                unsafe {
                    let to = self.lines.as_mut_ptr().add((panel * depth) * (WIDTH / 16) + half);
                    pack_group(source.offset(start.min(columns), 0), valid, depth, to.cast(), WIDTH);
                }
            }
        }
    }

    /// Number of columns with the padding of the last panel.
    pub(crate) fn padded_columns(&self) -> usize {
        self.columns.next_multiple_of(WIDTH)
    }

    /// Number of columns.
    pub(crate) fn columns(&self) -> usize {
        self.columns
    }

    /// Length of the inner dimension.
    pub(crate) fn depth(&self) -> usize {
        self.depth
    }

    /// Copies one column: row `column` of the packed weights.
    pub(crate) fn read_column(&self, column: usize, to: &mut [f32]) {
        assert!(column < self.columns && to.len() == self.depth);
        let (panel, place) = (column / WIDTH, column % WIDTH);
        let lines = self.lines[panel * self.depth * (WIDTH / 16)..].chunks_exact(WIDTH / 16);
        for (element, step) in to.iter_mut().zip(lines) {
            *element = step[place / 16].0[place % 16];
        }
    }

    /// Element (`step`, first column) of a panel.
    pub(super) fn panel(&self, panel: usize, step: usize) -> *const f32 {
        let line = (panel * self.depth + step) * (WIDTH / 16);
        self.lines[line..].as_ptr().cast()
    }
}

/// Packs up to 16 rows of `source` (its outer dimension), padded to 16: step `k` to `to[k * stride..][..16]`.
///
/// # Safety
/// `source` holds `rows x depth` elements; `to` is valid for `depth` steps.
unsafe fn pack_group(source: View<'_>, rows: usize, depth: usize, to: *mut f32, stride: usize) {
    // SAFETY: the caller vouches for both sides; `detect` for the instruction set.
    unsafe {
        if source.inner == 1 && rows > 1 {
            match InstructionSet::detect() {
                #[cfg(target_arch = "x86_64")]
                InstructionSet::Avx512 | InstructionSet::Avx2 => {
                    transpose_avx2(source, rows, depth, to, stride);
                }
                InstructionSet::Portable => copy_elements(source, rows, depth, to, stride),
            }
        } else if source.outer == 1 {
            // Whole groups even where fewer rows are asked for: what is beyond them is never used.
            let whole = source.whole_groups(depth);
            for k in 0..whole {
                let from = source.data.add(k * source.inner).cast::<[f32; 16]>();
                to.add(k * stride).cast::<[f32; 16]>().write(from.read());
            }
            copy_elements(source.offset(0, whole), rows, depth - whole, to.add(whole * stride), stride);
        } else {
            copy_elements(source, rows, depth, to, stride);
        }
    }
}

/// # Safety
/// As [`pack_group`].
unsafe fn copy_elements(source: View<'_>, rows: usize, depth: usize, to: *mut f32, stride: usize) {
    for k in 0..depth {
        let mut group = [0f32; 16];
        for (i, element) in group[..rows].iter_mut().enumerate() {
            // SAFETY: the caller vouches for `rows x depth` elements.
            *element = unsafe { *source.data.add(i * source.outer + k * source.inner) };
        }
        // SAFETY: the caller vouches for `depth` steps.
        unsafe { to.add(k * stride).cast::<[f32; 16]>().write(group) };
    }
}

/// Packs rows whose elements are adjacent, in blocks of 8 x 8.
///
/// # Safety
/// As [`pack_group`], with `source.inner == 1` and AVX2 at hand.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
unsafe fn transpose_avx2(source: View<'_>, rows: usize, depth: usize, to: *mut f32, stride: usize) {
    use std::arch::x86_64::*;
    let whole = depth / 8 * 8;
    for first in [0, 8] {
        let valid = rows.saturating_sub(first).min(8);
        for k in (0..whole).step_by(8) {
            // SAFETY: rows below `valid` hold the 8 elements from `k`; steps `k..k + 8` of `to` are valid.
            unsafe {
                let mut r = [_mm256_setzero_ps(); 8];
                for (i, r) in r.iter_mut().enumerate().take(valid) {
                    *r = _mm256_loadu_ps(source.data.add((first + i) * source.outer + k));
                }
                let pairs: [__m256; 8] = [
                    _mm256_unpacklo_ps(r[0], r[1]),
                    _mm256_unpackhi_ps(r[0], r[1]),
                    _mm256_unpacklo_ps(r[2], r[3]),
                    _mm256_unpackhi_ps(r[2], r[3]),
                    _mm256_unpacklo_ps(r[4], r[5]),
                    _mm256_unpackhi_ps(r[4], r[5]),
                    _mm256_unpacklo_ps(r[6], r[7]),
                    _mm256_unpackhi_ps(r[6], r[7]),
                ];
                let fours: [__m256; 8] = [
                    _mm256_shuffle_ps::<0x44>(pairs[0], pairs[2]),
                    _mm256_shuffle_ps::<0xEE>(pairs[0], pairs[2]),
                    _mm256_shuffle_ps::<0x44>(pairs[1], pairs[3]),
                    _mm256_shuffle_ps::<0xEE>(pairs[1], pairs[3]),
                    _mm256_shuffle_ps::<0x44>(pairs[4], pairs[6]),
                    _mm256_shuffle_ps::<0xEE>(pairs[4], pairs[6]),
                    _mm256_shuffle_ps::<0x44>(pairs[5], pairs[7]),
                    _mm256_shuffle_ps::<0xEE>(pairs[5], pairs[7]),
                ];
                let to = to.add(k * stride + first);
                for i in 0..4 {
                    _mm256_storeu_ps(
                        to.add(i * stride),
                        _mm256_permute2f128_ps::<0x20>(fours[i], fours[i + 4]),
                    );
                    _mm256_storeu_ps(
                        to.add((i + 4) * stride),
                        _mm256_permute2f128_ps::<0x31>(fours[i], fours[i + 4]),
                    );
                }
            }
        }
    }
    // SAFETY: the rest of the same elements and steps.
    unsafe {
        copy_elements(source.offset(0, whole), rows, depth - whole, to.add(whole * stride), stride);
    }
}
