//! Left operands as products read them: rows of words side by side.

use rayon::prelude::*;

use super::split::{Lines, assert_tiles, split};
use super::{Operands, View};
#[cfg(target_arch = "x86_64")]
use crate::bf16::avx512;
use crate::bf16::{Element, pair};
use crate::simd::LANES;
#[cfg(target_arch = "x86_64")]
use crate::simd::{InstructionSet, has_bf16_products};

/// Words per parallel task.
const CHUNK: usize = 32 * 1024;

/// Words from one row of a left operand in bf16 to the next.
pub(crate) fn left_stride(depth: usize) -> usize {
    apart(Operands::Bf16.padded_steps(depth))
}

/// Lines a power of two apart would share few places of the cache.
fn apart(words: usize) -> usize {
    if words > 0 && words.is_multiple_of(16 * LANES) { words + LANES } else { words }
}

/// The left operand `A[rows, depth]` for products in f32 or bf16, in `words` if it has to be rounded or transposed; with the calling thread alone
/// unless `parallel`.
///
/// # Panics
/// Of 8-bit operands, which only packed weights have.
pub(crate) fn left_operand<'w>(
    operands: Operands,
    a: View<'w>,
    shape: [usize; 2],
    words: &'w mut Vec<f32>,
    parallel: bool,
) -> View<'w> {
    match operands {
        Operands::Bf16 => left_words(a, shape, words, parallel),
        Operands::F32InTiles => split_words(a, shape, words, parallel),
        Operands::F32 => left_rows(a, shape, words, parallel),
        Operands::Int8 => panic!("products in 8 bits are of packed weights"),
    }
}

/// [`left_operand`] in bf16, of f32 or of what is rounded already.
pub(crate) fn left_words<'w, T: Element>(
    a: View<'_, T>,
    [rows, depth]: [usize; 2],
    words: &'w mut Vec<f32>,
    parallel: bool,
) -> View<'w> {
    fill(words, [rows, left_stride(depth)], parallel, |first, words, stride| {
        if a.by_column() {
            let rows = words.len() / stride;
            return transpose_pairs(a.offset(first, 0), rows, depth, words, stride);
        }
        for (row, words) in (first..).zip(words.chunks_exact_mut(stride)) {
            let (words, padding) = words.split_at_mut(depth.div_ceil(2));
            T::pair_row(a.row(row, depth), words);
            padding.fill(0.0);
        }
    })
}

/// [`left_operand`] as three bytes each.
fn split_words<'w>(
    a: View<'_>,
    [rows, depth]: [usize; 2],
    words: &'w mut Vec<f32>,
    parallel: bool,
) -> View<'w> {
    assert_tiles();
    assert!(a.holds(rows, depth) && (a.inner == 1 || a.by_column()));
    fill(words, [rows, apart(Operands::F32InTiles.steps(depth))], parallel, |first, words, stride| {
        let (rows, data) = (words.len() / stride, words.as_mut_ptr());
        let to = |strip: usize| data.wrapping_add(strip * LANES * stride);
        // SAFETY: the view holds the elements, `words` the rows, the processor was asked.
        unsafe { split(a.offset(first, 0), rows, depth, Lines { of_rows: true, stride }, to) };
    })
}

/// Turns rows of `depth` elements, `stride` apart, into three bytes each where they are.
///
/// # Panics
/// If these take more words than there are from one row to the next, as may be where `stride` is not a multiple of 64.
pub(crate) fn split_in_place(rows: &mut [f32], stride: usize, depth: usize, words: &mut Vec<f32>) {
    let steps = Operands::F32InTiles.steps(depth);
    for rows in rows.chunks_mut(LANES * stride) {
        let split = split_words(View::new(rows, stride, 1), [rows.len() / stride, depth], words, false);
        for (row, to) in rows.chunks_exact_mut(stride).enumerate() {
            to[..steps].copy_from_slice(split.row(row, steps));
        }
    }
}

/// The left operand `A[rows, depth]` in f32: as it is, or in `words` if its columns lie side by side, but would drive each other out of the caches.
fn left_rows<'w>(
    a: View<'w>,
    [rows, depth]: [usize; 2],
    words: &'w mut Vec<f32>,
    parallel: bool,
) -> View<'w> {
    assert!(a.holds(rows, depth));
    if !(a.by_column() && a.crowded()) {
        return a;
    }
    fill(words, [rows, apart(depth)], parallel, |first, words, stride| {
        transpose(a.offset(first, 0), words.len() / stride, depth, words, stride);
    })
}

/// Has `write` write `rows` rows of `stride` words, some at once, from a row on.
fn fill(
    words: &mut Vec<f32>,
    [rows, stride]: [usize; 2],
    parallel: bool,
    write: impl Fn(usize, &mut [f32], usize) + Sync,
) -> View<'_> {
    let len = rows * stride;
    if words.len() < len {
        words.resize(len, 0.0);
    }
    let words = &mut words[..len];
    if len > 0 {
        let tasks = (len / CHUNK).clamp(1, 2 * rayon::current_num_threads());
        let rows = rows.div_ceil(tasks).next_multiple_of(LANES);
        let write = |(chunk, words): (usize, &mut [f32])| write(chunk * rows, words, stride);
        match parallel {
            true => words.par_chunks_mut(rows * stride).enumerate().for_each(write),
            false => words.chunks_mut(rows * stride).enumerate().for_each(write),
        }
    }
    View::new(words, stride, 1)
}

/// Writes `rows` rows of a view whose columns lie side by side, `stride` words apart.
fn transpose(a: View<'_>, rows: usize, depth: usize, words: &mut [f32], stride: usize) {
    for first in (0..rows).step_by(LANES) {
        let count = (rows - first).min(LANES);
        let (a, words) = (a.offset(first, 0), &mut words[first * stride..(first + count) * stride]);
        #[cfg(target_arch = "x86_64")]
        if InstructionSet::detect() == InstructionSet::Avx512 {
            // SAFETY: the processor was asked; the view holds the rows, `words` as many lines.
            unsafe { avx512::transpose_elements(a, count, depth, words.as_mut_ptr(), stride) };
            continue;
        }
        for k in 0..depth {
            for (row, element) in a.column(k, count).iter().enumerate() {
                words[row * stride + k] = *element;
            }
        }
    }
}

/// [`transpose`] as words of bf16, padded with zeros.
fn transpose_pairs<T: Element>(a: View<'_, T>, rows: usize, depth: usize, words: &mut [f32], stride: usize) {
    for first in (0..rows).step_by(LANES) {
        let count = (rows - first).min(LANES);
        let (a, words) = (a.offset(first, 0), &mut words[first * stride..(first + count) * stride]);
        #[cfg(target_arch = "x86_64")]
        if has_bf16_products() {
            // SAFETY: the processor was asked; the view holds the rows, `words` as many lines.
            unsafe { avx512::transpose_columns(a, count, depth, words.as_mut_ptr(), stride) };
            continue;
        }
        for step in 0..stride {
            for row in 0..count {
                let element = |k: usize| a.column(k, count)[row];
                words[row * stride + step] = match depth.saturating_sub(2 * step) {
                    0 => 0.0,
                    1 => pair(element(2 * step), T::ZERO),
                    _ => pair(element(2 * step), element(2 * step + 1)),
                };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bf16::narrow;
    use crate::simd::has_tiles;

    #[test]
    fn rows_split_where_they_are_hold_the_words_of_left_operands() {
        if !has_tiles() {
            return;
        }
        for (rows, depth, stride) in
            [(1, 1, 64), (19, 64, 64), (40, 100, 128), (16, 384, 384), (3, 1000, 1024)]
        {
            let mut held: Vec<f32> = (0..rows * stride).map(|i| (i as f32).sin()).collect();
            let (mut words, mut scratch) = (Vec::new(), Vec::new());
            let expected = split_words(View::new(&held, stride, 1), [rows, depth], &mut words, false);
            let steps = Operands::F32InTiles.steps(depth);
            let bits = |words: &[f32]| words.iter().map(|word| word.to_bits()).collect::<Vec<_>>();
            let expected: Vec<_> = (0..rows).map(|row| bits(expected.row(row, steps))).collect();
            split_in_place(&mut held, stride, depth, &mut scratch);
            for (row, expected) in expected.iter().enumerate() {
                assert_eq!(bits(&held[row * stride..][..steps]), *expected, "row {row} of {rows} x {depth}");
            }
        }
    }

    #[test]
    fn columns_side_by_side_become_the_same_rows() {
        for (rows, depth) in [(1, 1), (1, 40), (3, 17), (16, 32), (33, 100), (70, 1), (100, 515), (1024, 19)]
        {
            let by_row: Vec<f32> = (0..rows * depth).map(|i| (i as f32).sin()).collect();
            let by_column: Vec<f32> =
                (0..rows * depth).map(|i| by_row[i % rows * depth + i / rows]).collect();
            let mut halves = vec![0; rows * depth];
            narrow(&by_column, &mut halves);
            let columns = View::new(&by_column, 1, rows);
            for operands in [Operands::F32, Operands::Bf16] {
                let (mut words, mut transposed) = (vec![f32::NAN; 9], vec![f32::NAN; 200_000]);
                let expected =
                    left_operand(operands, View::new(&by_row, depth, 1), [rows, depth], &mut words, false);
                let rounded = |words| left_words(View::new(&halves, 1, rows), [rows, depth], words, true);
                let steps = operands.padded_steps(depth);
                let check = |of_columns: View<'_>| {
                    for row in 0..rows {
                        let bits = |view: &View<'_>| -> Vec<u32> {
                            let mut words = vec![0.0; steps];
                            view.offset(row, 0).read_row(&mut words);
                            words.iter().map(|word| word.to_bits()).collect()
                        };
                        assert_eq!(bits(&of_columns), bits(&expected), "{operands:?} {rows}x{depth}");
                    }
                };
                check(left_operand(operands, columns, [rows, depth], &mut transposed, true));
                if operands == Operands::Bf16 {
                    check(rounded(&mut transposed));
                }
            }
        }
    }
}
