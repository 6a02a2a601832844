//! 8-bit operands: weights with one scale per column, packed before; left operands with one scale per block of 64
//! elements, quantised anew for each product.

use rayon::prelude::*;

use crate::matmul::View;

/// Elements of a block of the left operand.
pub(crate) const BLOCK: usize = 64;

/// Steps of a block: of four elements each, one word.
pub(crate) const BLOCK_STEPS: usize = BLOCK / 4;

/// Words of a block: its steps, its scale, and what its sums start with.
pub(crate) const BLOCK_WORDS: usize = BLOCK_STEPS + 2;

/// Weights are stored unsigned, this much higher than they are.
pub(crate) const OFFSET: i32 = 128;

/// Elements per parallel task.
const CHUNK: usize = 32 * 1024;

simd! {
    /// One row of the left operand in blocks. A block's sums start with what undoes the weights' offset.
    fn quantise_row(x: &[f32], words: &mut [f32]) {
        for (x, words) in x.chunks(BLOCK).zip(words.chunks_exact_mut(BLOCK_WORDS)) {
            let mut padded = [0f32; BLOCK];
            padded[..x.len()].copy_from_slice(x);
            let (mut largest, mut finite) = (0f32, true);
            for value in padded {
                largest = largest.max(value.abs());
                finite &= value.is_finite();
            }
            let (scale, inverse) = scale_of(largest);
            let mut bytes = [0i32; BLOCK];
            for i in 0..BLOCK {
                bytes[i] = (padded[i] * inverse).round_ties_even() as i32;
            }
            let mut sum = 0;
            for byte in bytes {
                sum += byte;
            }
            for step in 0..BLOCK_STEPS {
                let word = |i: usize| (bytes[4 * step + i] as u8 as u32) << (8 * i);
                words[step] = f32::from_bits(word(0) | word(1) | word(2) | word(3));
            }
            // What is not finite must not become a number.
            words[BLOCK_STEPS] = if finite { scale } else { f32::NAN };
            words[BLOCK_STEPS + 1] = f32::from_bits((-OFFSET * sum).cast_unsigned());
        }
    }
}

/// Writes the left operand `A[rows, depth]`, whose rows lie side by side, in blocks; gives the words of a row.
pub(crate) fn left_blocks(a: View<'_>, rows: usize, depth: usize, words: &mut Vec<f32>) -> usize {
    let line = depth.div_ceil(BLOCK) * BLOCK_WORDS;
    if words.len() < rows * line {
        words.resize(rows * line, 0.0);
    }
    let lines = CHUNK.checked_div(line).unwrap_or(1).max(1);
    words[..rows * line].par_chunks_mut((lines * line).max(1)).enumerate().for_each(|(chunk, words)| {
        for (row, words) in (chunk * lines..).zip(words.chunks_exact_mut(line)) {
            quantise_row(a.row(row, depth), words);
        }
    });
    line
}

/// One column's weights as bytes with their offset, and the scale by which its sums are multiplied.
pub(crate) fn quantise_weights(weights: &[f32], mut write: impl FnMut(usize, u8)) -> f32 {
    let largest = weights.iter().fold(0f32, |largest, weight| largest.max(weight.abs()));
    let (scale, inverse) = scale_of(largest);
    for (k, weight) in weights.iter().enumerate() {
        write(k, ((weight * inverse).round_ties_even() as i32 + OFFSET) as u8);
    }
    if weights.iter().all(|weight| weight.is_finite()) { scale } else { f32::NAN }
}

/// What bytes are multiplied by, and values to become bytes. Numbers too small to be divided by count as zero.
#[inline(always)]
fn scale_of(largest: f32) -> (f32, f32) {
    if largest > 127.0 * f32::MIN_POSITIVE { (largest / 127.0, 127.0 / largest) } else { (0.0, 0.0) }
}
