//! bf16 as words: rounding, and pairs of neighbouring elements in 32 bits as the matrix products take them.

use rayon::prelude::*;

use crate::matmul::{Operands, View};

/// Elements per parallel task.
const CHUNK: usize = 32 * 1024;

/// The bits of `x` rounded to the nearest bf16 (ties to even) in the upper half; what the lower half holds is of no
/// meaning. NaN stays NaN.
#[inline(always)]
pub(crate) fn round(x: f32) -> u32 {
    let bits = x.to_bits();
    let rounded = bits.wrapping_add(0x7FFF + (bits >> 16 & 1));
    if x.is_nan() { bits | 0x0040_0000 } else { rounded }
}

/// The word of two neighbours: the first in the lower half.
#[inline(always)]
pub(crate) fn pair(first: f32, second: f32) -> f32 {
    f32::from_bits(round(first) >> 16 | round(second) & 0xFFFF_0000)
}

/// The two neighbours of a word.
#[inline(always)]
pub(crate) fn unpair(word: f32) -> [f32; 2] {
    [f32::from_bits(word.to_bits() << 16), f32::from_bits(word.to_bits() & 0xFFFF_0000)]
}

simd! {
    fn narrow_chunk(x: &[f32], y: &mut [u16]) {
        for (x, y) in x.iter().zip(y) {
            *y = (round(*x) >> 16) as u16;
        }
    }
}

simd! {
    fn widen_chunk(x: &[u16], y: &mut [f32]) {
        for (x, y) in x.iter().zip(y) {
            *y = f32::from_bits(u32::from(*x) << 16);
        }
    }
}

simd! {
    /// The words of one row of neighbours; an odd last element is paired with zero.
    fn pair_row(x: &[f32], words: &mut [f32]) {
        let (pairs, rest) = x.as_chunks::<2>();
        for ([first, second], word) in pairs.iter().zip(words.iter_mut()) {
            *word = pair(*first, *second);
        }
        if let ([last], Some(word)) = (rest, words.last_mut()) {
            *word = pair(*last, 0.0);
        }
    }
}

simd! {
    /// The words of two rows: each element with the one below it.
    fn pair_rows(first: &[f32], second: &[f32], words: &mut [f32]) {
        for ((first, second), word) in first.iter().zip(second).zip(words) {
            *word = pair(*first, *second);
        }
    }
}

simd! {
    /// The words of a last row that has none below it.
    fn pair_last_row(row: &[f32], words: &mut [f32]) {
        for (first, word) in row.iter().zip(words) {
            *word = pair(*first, 0.0);
        }
    }
}

/// Rounds `x` to bf16.
///
/// # Panics
/// If the lengths differ.
pub fn narrow(x: &[f32], y: &mut [u16]) {
    assert_eq!(x.len(), y.len());
    x.par_chunks(CHUNK).zip(y.par_chunks_mut(CHUNK)).for_each(|(x, y)| narrow_chunk(x, y));
}

/// bf16 as f32.
///
/// # Panics
/// If the lengths differ.
pub fn widen(x: &[u16], y: &mut [f32]) {
    assert_eq!(x.len(), y.len());
    x.par_chunks(CHUNK).zip(y.par_chunks_mut(CHUNK)).for_each(|(x, y)| widen_chunk(x, y));
}

/// Turns a row into its words, which take the first half of it; `buffer` is of any content.
pub(crate) fn pair_in_place(row: &mut [f32], buffer: &mut Vec<f32>) {
    buffer.resize(row.len().div_ceil(2), 0.0);
    pair_row(row, buffer);
    row[..buffer.len()].copy_from_slice(buffer);
}

/// Where a left operand lies as words: element (`row`, `step`) at `row * outer + step * inner`.
#[derive(Clone, Copy)]
pub(crate) struct Place {
    outer: usize,
    inner: usize,
    len: usize,
}

impl Place {
    /// The operand, in the words that it was written to.
    pub(crate) fn view(self, words: &[f32]) -> View<'_> {
        View::new(&words[..self.len], self.outer, self.inner)
    }
}

/// Writes the left operand `A[rows, depth]` as words, in the order in which it lies in memory; with the calling thread
/// alone unless `parallel`.
pub(crate) fn left_words(
    a: View<'_>,
    rows: usize,
    depth: usize,
    words: &mut Vec<f32>,
    parallel: bool,
) -> Place {
    let steps = depth.div_ceil(2);
    let len = rows * steps;
    if words.len() < len {
        words.resize(len, 0.0);
    }
    let words = &mut words[..len];
    let by_column = a.by_column();
    let line = if by_column { rows } else { steps };
    let place =
        if by_column { Place { outer: 1, inner: rows, len } } else { Place { outer: steps, inner: 1, len } };
    if len == 0 {
        return place;
    }
    let lines = (CHUNK / line).max(1);
    let fill = |(chunk, words): (usize, &mut [f32])| {
        for (index, words) in (chunk * lines..).zip(words.chunks_exact_mut(line)) {
            match by_column {
                false => pair_row(a.row(index, depth), words),
                true if 2 * index + 1 < depth => {
                    pair_rows(a.column(2 * index, rows), a.column(2 * index + 1, rows), words);
                }
                true => pair_last_row(a.column(2 * index, rows), words),
            }
        }
    };
    match parallel {
        true => words.par_chunks_mut(lines * line).enumerate().for_each(fill),
        false => words.chunks_mut(lines * line).enumerate().for_each(fill),
    }
    place
}

/// `a` as the products take it, in `words` if need be; with the calling thread alone unless
/// `parallel`.
pub(crate) fn left<'w>(
    operands: Operands,
    a: View<'w>,
    [rows, depth]: [usize; 2],
    words: &'w mut Vec<f32>,
    parallel: bool,
) -> View<'w> {
    match operands {
        Operands::Bf16 => left_words(a, rows, depth, words, parallel).view(words),
        _ => a,
    }
}
