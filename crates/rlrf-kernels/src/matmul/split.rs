//! f32 as the sum of three bf16, for products in tiles.
//!
//! A number is split into the nearest bf16, the one nearest to what is left, and the one nearest to what is left then: 2^-27 of it
//! at most gets lost. Of the nine products of two numbers so split, the three smallest are left out, 2^-26 of the whole at most:
//! less than what rounding to f32 leaves (Henry, Tang and Heinecke, 2019).

use super::View;
use crate::simd::{LANES, has_bf16_tiles};

/// The bf16 of an element: the nearest one, and two of what is left.
pub(super) const PLANES: usize = 3;

/// Elements of the inner dimension whose planes lie side by side: of each plane, a line of words.
pub(super) const GROUP: usize = 2 * LANES;

/// # Panics
/// Where there are no tiles.
pub(super) fn assert_tiles() {
    assert!(has_bf16_tiles(), "f32 is split for AMX tiles, which this processor does not have");
}

/// Where the lines of a group go, in words.
#[derive(Clone, Copy)]
pub(super) struct Lines {
    /// Whether a line holds a row; else it holds the word of one step of each row.
    pub(super) of_rows: bool,
    /// From one line to the next.
    pub(super) stride: usize,
    /// From one plane to the next.
    pub(super) plane: usize,
}

/// Writes up to 16 rows of up to [`GROUP`] elements as words of bf16 in lines of 16, padded with zeros: as many rows as there are, or all 16 steps.
///
/// # Safety
/// `source` holds the elements; `to` is valid for the lines of each plane; [`has_bf16_tiles`](crate::simd::has_bf16_tiles) said so.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512bf16")]
pub(super) unsafe fn split(source: View<'_>, rows: usize, depth: usize, to: *mut f32, lines: Lines) {
    use std::arch::x86_64::*;
    use std::mem::{MaybeUninit, transmute};

    use crate::bf16::avx512::transpose;

    let by_column = source.by_column();
    debug_assert!(rows <= LANES && (1..=GROUP).contains(&depth));
    debug_assert!((by_column || source.inner == 1) && source.holds(rows, depth));
    // Lines of the source: rows, or pairs of neighbouring columns.
    let valid = if by_column { depth.div_ceil(2) } else { rows };
    let needed = if lines.of_rows { rows } else { LANES };
    let transposed = by_column == lines.of_rows;
    let mut square = MaybeUninit::<[[__m512i; LANES]; PLANES]>::uninit();
    let (read, read_to, stride, plane) = match transposed {
        true => (LANES, square.as_mut_ptr().cast::<f32>(), LANES, LANES * LANES),
        false => (needed, to, lines.stride, lines.plane),
    };
    let mask = u32::MAX >> (GROUP - depth);
    for line in 0..read {
        // SAFETY: masked elements are not read.
        let load = |mask: u16, from: *const f32| unsafe { _mm512_maskz_loadu_ps(mask, from) };
        let (mut first, mut second) = match by_column {
            _ if line >= valid => (_mm512_setzero_ps(), _mm512_setzero_ps()),
            true => {
                let mask = ((1u32 << rows) - 1) as u16;
                let column = source.data.wrapping_add(2 * line * source.inner);
                let second = if 2 * line + 1 < depth { mask } else { 0 };
                (load(mask, column), load(second, column.wrapping_add(source.inner)))
            }
            false => {
                let row = source.data.wrapping_add(line * source.outer);
                (load(mask as u16, row), load((mask >> LANES) as u16, row.wrapping_add(LANES)))
            }
        };
        let to = read_to.wrapping_add(line * stride);
        for index in 0..PLANES {
            // SAFETY: the cast changes the type of the same bits.
            let round = |x| unsafe { transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(x)) };
            let upper = |halves| _mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(halves));
            let (halves, second_halves) = (round(first), round(second));
            let words = match by_column {
                true => _mm512_or_si512(_mm512_cvtepu16_epi32(halves), upper(second_halves)),
                false => _mm512_inserti64x4::<1>(_mm512_castsi256_si512(halves), second_halves),
            };
            // SAFETY: the line is one of the square's, or the caller vouches for it.
            unsafe { _mm512_storeu_si512(to.wrapping_add(index * plane).cast(), words) };
            first = _mm512_sub_ps(first, _mm512_castsi512_ps(upper(halves)));
            second = _mm512_sub_ps(second, _mm512_castsi512_ps(upper(second_halves)));
        }
    }
    if transposed {
        // SAFETY: all lines were written.
        let square = unsafe { square.assume_init_ref() };
        for (plane, words) in square.iter().enumerate() {
            let to = to.wrapping_add(plane * lines.plane);
            for (line, words) in transpose(*words).iter().enumerate().take(needed) {
                // SAFETY: the caller vouches for the lines.
                unsafe { _mm512_storeu_si512(to.wrapping_add(line * lines.stride).cast(), *words) };
            }
        }
    }
}

/// Elsewhere there are no tiles.
///
/// # Safety
/// It may not be called.
#[cfg(not(target_arch = "x86_64"))]
pub(super) unsafe fn split(_: View<'_>, _: usize, _: usize, _: *mut f32, _: Lines) {
    unreachable!("f32 is split for tiles only")
}
