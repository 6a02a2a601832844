//! bf16 as words: rounding, and pairs of neighbouring elements in 32 bits as the matrix products take them.

use rayon::prelude::*;

#[cfg(target_arch = "x86_64")]
use crate::matmul::View;
#[cfg(target_arch = "x86_64")]
use crate::simd::has_bf16_products;

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
pub(crate) fn pair<T: Element>(first: T, second: T) -> f32 {
    f32::from_bits(first.round() >> 16 | second.round() & 0xFFFF_0000)
}

/// The two neighbours of a word.
#[inline(always)]
pub(crate) fn unpair(word: f32) -> [f32; 2] {
    [f32::from_bits(word.to_bits() << 16), f32::from_bits(word.to_bits() & 0xFFFF_0000)]
}

/// What words are made of: f32, which is rounded, or the bits of bf16.
pub(crate) trait Element: Copy + Send + Sync {
    const ZERO: Self;
    /// The bits as bf16 in the upper half; what the lower half holds is of no meaning.
    fn round(self) -> u32;
    /// The words of one row of neighbours; an odd last element is paired with zero.
    fn pair_row(row: &[Self], words: &mut [f32]);
    /// 16 neighbours, of which those are read that the mask has a bit for; the others are zero.
    ///
    /// # Safety
    /// The elements exist, and [`has_bf16_products`] said so.
    #[cfg(target_arch = "x86_64")]
    unsafe fn halves(from: *const Self, mask: u16) -> std::arch::x86_64::__m256i;
}

impl Element for f32 {
    const ZERO: Self = 0.0;

    #[inline(always)]
    fn round(self) -> u32 {
        round(self)
    }

    fn pair_row(row: &[Self], words: &mut [f32]) {
        pair_row(row, words);
    }

    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    unsafe fn halves(from: *const Self, mask: u16) -> std::arch::x86_64::__m256i {
        use std::arch::x86_64::*;
        // SAFETY: the caller vouches for the elements and for the processor; the cast changes the type of the same bits.
        unsafe {
            let elements = _mm512_maskz_loadu_ps(mask, from);
            std::mem::transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(elements))
        }
    }
}

impl Element for u16 {
    const ZERO: Self = 0;

    #[inline(always)]
    fn round(self) -> u32 {
        u32::from(self) << 16
    }

    fn pair_row(row: &[Self], words: &mut [f32]) {
        for (neighbours, word) in row.chunks(2).zip(words) {
            *word = pair(neighbours[0], neighbours.get(1).copied().unwrap_or(0));
        }
    }

    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    unsafe fn halves(from: *const Self, mask: u16) -> std::arch::x86_64::__m256i {
        // SAFETY: passed on.
        unsafe { std::arch::x86_64::_mm256_maskz_loadu_epi16(mask, from.cast()) }
    }
}

simd! {
    fn narrow_in_code(x: &[f32], y: &mut [u16]) {
        for (x, y) in x.iter().zip(y) {
            *y = (round(*x) >> 16) as u16;
        }
    }
}

/// [`round`]s each element; the processor itself does where it can, and takes subnormal numbers for zero.
fn narrow_chunk(x: &[f32], y: &mut [u16]) {
    #[cfg(target_arch = "x86_64")]
    if has_bf16_products() {
        // SAFETY: the processor was asked.
        return unsafe { avx512::narrow(x, y) };
    }
    narrow_in_code(x, y);
}

simd! {
    pub(crate) fn widen_chunk(x: &[u16], y: &mut [f32]) {
        for (x, y) in x.iter().zip(y) {
            *y = f32::from_bits(u32::from(*x) << 16);
        }
    }
}

/// The words of one row of neighbours; an odd last element is paired with zero.
pub(crate) fn pair_row(x: &[f32], words: &mut [f32]) {
    let (pairs, rest) = x.as_chunks::<2>();
    let (whole, last) = words.split_at_mut(pairs.len());
    // SAFETY: a word is two halves of any bits, the first in memory being the lower one.
    let halves = unsafe { std::slice::from_raw_parts_mut(whole.as_mut_ptr().cast(), 2 * whole.len()) };
    narrow_chunk(pairs.as_flattened(), halves);
    if let ([rest], [last, ..]) = (rest, last) {
        *last = pair(*rest, 0.0);
    }
}

/// The neighbours of words, in their order.
pub(crate) fn widen_words(words: &[f32], y: &mut [f32]) {
    // SAFETY: a word is two halves of any bits, the first in memory being the lower one.
    let halves = unsafe { std::slice::from_raw_parts(words.as_ptr().cast(), 2 * words.len()) };
    widen_chunk(halves, y);
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

/// Rounding by the processor, where [`has_bf16_products`] says that it can.
#[cfg(target_arch = "x86_64")]
pub(crate) mod avx512 {
    use std::arch::x86_64::*;

    use super::{Element, View, round};

    /// The 8 words of 16 neighbours.
    ///
    /// # Safety
    /// The elements exist.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bf16")]
    pub(crate) unsafe fn words(from: *const f32) -> __m256i {
        // SAFETY: the caller vouches for the elements; the cast changes the type of the same bits.
        unsafe { std::mem::transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(_mm512_loadu_ps(from))) }
    }

    /// The words of 1 to 32 neighbours, and zeros.
    ///
    /// # Safety
    /// The `count` elements exist.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bf16")]
    pub(crate) unsafe fn row_words(from: *const f32, count: usize) -> __m512i {
        let mask = u32::MAX >> (32 - count);
        // SAFETY: masked elements are not read.
        let (first, second) = unsafe {
            (
                _mm512_maskz_loadu_ps(mask as u16, from),
                _mm512_maskz_loadu_ps((mask >> 16) as u16, from.wrapping_add(16)),
            )
        };
        // SAFETY: the cast changes the type of the same bits.
        unsafe { std::mem::transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(second, first)) }
    }

    /// The words of 16 elements each of two rows.
    ///
    /// # Safety
    /// The elements exist.
    #[inline]
    #[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512bf16")]
    pub(crate) unsafe fn words_of_rows<T: Element>(first: *const T, second: *const T) -> __m512i {
        // SAFETY: the caller vouches for the elements.
        let (first, second) = unsafe { (T::halves(first, u16::MAX), T::halves(second, u16::MAX)) };
        _mm512_or_si512(_mm512_cvtepu16_epi32(first), _mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(second)))
    }

    /// Transposes a square of words.
    #[inline]
    #[target_feature(enable = "avx512f")]
    pub(crate) fn transpose(rows: [__m512i; 16]) -> [__m512i; 16] {
        // In each quarter: element e of rows 2p and 2p + 1, then of four rows.
        let mut pairs = [_mm512_setzero_si512(); 16];
        for p in 0..8 {
            pairs[2 * p] = _mm512_unpacklo_epi32(rows[2 * p], rows[2 * p + 1]);
            pairs[2 * p + 1] = _mm512_unpackhi_epi32(rows[2 * p], rows[2 * p + 1]);
        }
        let mut fours = [_mm512_setzero_si512(); 16];
        for q in 0..4 {
            for half in 0..2 {
                let (upper, lower) = (pairs[4 * q + half], pairs[4 * q + 2 + half]);
                fours[4 * q + 2 * half] = _mm512_unpacklo_epi64(upper, lower);
                fours[4 * q + 2 * half + 1] = _mm512_unpackhi_epi64(upper, lower);
            }
        }
        // `fours[4 q + e]` holds, in its quarter c, element 4 c + e of rows 4 q to 4 q + 3.
        let mut columns = [_mm512_setzero_si512(); 16];
        for e in 0..4 {
            let [first, second, third, fourth] = std::array::from_fn(|q| fours[4 * q + e]);
            let even = _mm512_shuffle_i32x4::<0x88>(first, second);
            let odd = _mm512_shuffle_i32x4::<0xDD>(first, second);
            let even_below = _mm512_shuffle_i32x4::<0x88>(third, fourth);
            let odd_below = _mm512_shuffle_i32x4::<0xDD>(third, fourth);
            columns[e] = _mm512_shuffle_i32x4::<0x88>(even, even_below);
            columns[8 + e] = _mm512_shuffle_i32x4::<0xDD>(even, even_below);
            columns[4 + e] = _mm512_shuffle_i32x4::<0x88>(odd, odd_below);
            columns[12 + e] = _mm512_shuffle_i32x4::<0xDD>(odd, odd_below);
        }
        columns
    }

    /// The words of up to 16 rows whose columns lie side by side, row by row, padded with zeros.
    ///
    /// # Safety
    /// `a` holds `rows x depth` elements, `to` `rows` lines of `stride` words.
    #[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512bf16")]
    pub(crate) unsafe fn transpose_columns<T: Element>(
        a: View<'_, T>,
        rows: usize,
        depth: usize,
        to: *mut f32,
        stride: usize,
    ) {
        let mask = u16::MAX >> (16 - rows);
        for step in (0..depth.div_ceil(2)).step_by(16) {
            let mut words = [_mm512_setzero_si512(); 16];
            for (k, words) in (2 * step..depth).step_by(2).zip(&mut words) {
                // SAFETY: the caller vouches for the elements.
                *words = unsafe {
                    let column = |k: usize| T::halves(a.column(k, rows).as_ptr(), mask);
                    let (first, second) =
                        (column(k), if k + 1 < depth { column(k + 1) } else { _mm256_setzero_si256() });
                    _mm512_or_si512(
                        _mm512_cvtepu16_epi32(first),
                        _mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(second)),
                    )
                };
            }
            // SAFETY: the caller vouches for the lines.
            unsafe { store_rows(transpose(words), rows, (stride - step).min(16), to.add(step), stride) };
        }
    }

    /// Up to 16 rows whose columns lie side by side, row by row.
    ///
    /// # Safety
    /// `a` holds `rows x depth` elements, `to` `rows` lines of `stride >= depth` elements.
    #[target_feature(enable = "avx512f")]
    pub(crate) unsafe fn transpose_elements(
        a: View<'_>,
        rows: usize,
        depth: usize,
        to: *mut f32,
        stride: usize,
    ) {
        let mask = u16::MAX >> (16 - rows);
        for first in (0..depth).step_by(16) {
            let mut columns = [_mm512_setzero_si512(); 16];
            for (k, column) in (first..depth).zip(&mut columns) {
                // SAFETY: masked elements are not read.
                *column = unsafe { _mm512_maskz_loadu_epi32(mask, a.column(k, rows).as_ptr().cast()) };
            }
            // SAFETY: the caller vouches for the lines.
            unsafe { store_rows(transpose(columns), rows, (depth - first).min(16), to.add(first), stride) };
        }
    }

    /// Writes the first `count` words each of some rows, `stride` apart.
    ///
    /// # Safety
    /// `to` is valid for these words.
    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn store_rows(words: [__m512i; 16], rows: usize, count: usize, to: *mut f32, stride: usize) {
        let mask = u16::MAX >> (16 - count);
        for (row, words) in words.into_iter().enumerate().take(rows) {
            // SAFETY: masked words are not written.
            unsafe { _mm512_mask_storeu_epi32(to.add(row * stride).cast(), mask, words) };
        }
    }

    #[target_feature(enable = "avx512f,avx512bf16")]
    pub(super) fn narrow(x: &[f32], y: &mut [u16]) {
        let (x, x_rest) = x.as_chunks::<16>();
        let (y, y_rest) = y.as_chunks_mut::<16>();
        for (x, y) in x.iter().zip(y) {
            // SAFETY: both are 16 elements.
            unsafe { _mm256_storeu_si256(y.as_mut_ptr().cast(), words(x.as_ptr())) };
        }
        for (x, y) in x_rest.iter().zip(y_rest) {
            *y = (round(*x) >> 16) as u16;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every kind of number but subnormal ones: all exponents and the bits that decide the rounding, infinities, NaN.
    fn numbers() -> Vec<f32> {
        let mut numbers = vec![0.0, -0.0, f32::INFINITY, f32::NEG_INFINITY, f32::NAN, -f32::NAN, f32::MAX];
        for exponent in 1..=255u32 {
            for fraction in [0, 1, 0x7FFF, 0x8000, 0x8001, 0x0001_8000, 0x0001_8001, 0x007F_7FFF, 0x007F_8000]
            {
                numbers.push(f32::from_bits(exponent << 23 | fraction));
                numbers.push(f32::from_bits(1 << 31 | exponent << 23 | fraction));
            }
        }
        numbers
    }

    #[test]
    fn the_processor_rounds_as_the_code_does() {
        let numbers = numbers();
        let mut narrowed = vec![0; numbers.len()];
        narrow(&numbers, &mut narrowed);
        for (&number, &narrowed) in numbers.iter().zip(&narrowed) {
            assert_eq!(narrowed, (round(number) >> 16) as u16, "{number:e} {:08x}", number.to_bits());
        }
    }

    #[test]
    fn words_hold_two_neighbours() {
        let numbers = numbers();
        for len in [0, 1, 2, 15, 16, 17, 31, 33, 100, numbers.len() - 1] {
            let row = &numbers[..len];
            let bits = |words: &[f32]| words.iter().map(|word| word.to_bits()).collect::<Vec<_>>();
            let mut words = vec![0.0; len.div_ceil(2)];
            pair_row(row, &mut words);
            let expected: Vec<f32> =
                row.chunks(2).map(|x| pair(x[0], x.get(1).copied().unwrap_or(0.0))).collect();
            assert_eq!(bits(&words), bits(&expected));
        }
    }
}
