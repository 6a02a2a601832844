//! f32 as three bytes, for products in tiles.
//!
//! Of each row of the left operand, and each column of the right one, a segment of the inner dimension has one scale, by which its
//! numbers become whole ones of 24 bits: three digits of base 256. Tiles add products of digits exactly. Of the nine products of two
//! numbers the three smallest are left out (Ootomo, Ozaki and Yokota, 2024). What gets lost of a number is about 2^-22 of the segment's largest at most, whatever its own
//! size: sums are about as exact as chains of fused multiply-adds, measured by the norms of both operands, and the less so the fewer large numbers a segment has.
//! Segments of numbers below some 1e-36 count as zeros. Where the largest numbers of two segments have a product below 2e-34, sums lose bits, and above 5e42 they
//! are infinite or no numbers.

use super::View;
use crate::simd::{LANES, has_tiles};

/// Digits of an element.
const PLANES: usize = 3;

/// Elements of the inner dimension whose planes lie side by side: of each plane, a line of words of four.
const GROUP: usize = 4 * LANES;

/// Words of a group, or steps.
pub(super) const GROUP_STEPS: usize = PLANES * LANES;

/// Elements that share a scale. So few that sums of the products of digits are exact, and so are those of the largest digits as f32.
pub(super) const SEGMENT: usize = 768;

/// Words of a whole segment: its groups, and a line for the scale.
pub(super) const SEGMENT_STEPS: usize = SEGMENT / GROUP * GROUP_STEPS + LANES;

/// Words of so many elements.
pub(super) fn steps(depth: usize) -> usize {
    depth.div_ceil(GROUP) * GROUP_STEPS + depth.div_ceil(SEGMENT) * LANES
}

/// Rows whose scales are computed before any of their elements is split: where columns lie side by side, they are read in the order of memory then, and once more
/// from the second-level cache.
const ROWS: usize = 256;

/// # Panics
/// Where there are no tiles.
pub(super) fn assert_tiles() {
    assert!(has_tiles(), "f32 is split for AMX tiles, which this processor does not have");
}

/// Where the lines of a segment go, in words.
#[derive(Clone, Copy)]
pub(super) struct Lines {
    /// Whether a line holds a row, and its scale the first word of the last line; else a line holds the word of one step of each row, the last one their scales.
    pub(super) of_rows: bool,
    /// From one line to the next.
    pub(super) stride: usize,
}

impl Lines {
    /// Words from the first line to that of a step.
    fn at(self, step: usize) -> usize {
        if self.of_rows { step } else { step * self.stride }
    }
}

/// Writes `rows` rows of `depth` elements, 16 in lines of 16 words from `to(0)` on, the next from `to(1)`, and so on, padded with zeros: as many rows as there are, or all
/// 16 words of each step.
///
/// # Safety
/// `source` holds the elements, rows or columns side by side; the lines of [`steps`] are valid for each 16 rows; [`has_tiles`] said so.
pub(super) unsafe fn split(
    source: View<'_>,
    rows: usize,
    depth: usize,
    lines: Lines,
    to: impl Fn(usize) -> *mut f32,
) {
    for first in (0..rows).step_by(ROWS) {
        for (segment, k) in (0..depth).step_by(SEGMENT).enumerate() {
            let source = source.offset(first, k);
            let shape = [(rows - first).min(ROWS), (depth - k).min(SEGMENT)];
            let step = segment * SEGMENT_STEPS;
            let to = |strip: usize| to(first / LANES + strip).wrapping_add(lines.at(step));
            // SAFETY: passed on.
            #[cfg(target_arch = "x86_64")]
            unsafe {
                x86::split_segment(source, shape, lines, to);
            }
            #[cfg(not(target_arch = "x86_64"))]
            unreachable!("f32 is split for tiles only: {shape:?}, {}, {:?}", source.by_column(), to(0));
        }
    }
}

/// Reads the elements of one row or column back from its words.
pub(super) fn read(to: &mut [f32], word: impl Fn(usize) -> f32) {
    for (segment, to) in to.chunks_mut(SEGMENT).enumerate() {
        let first = segment * SEGMENT_STEPS;
        let scale = word(first + to.len().div_ceil(GROUP) * GROUP_STEPS);
        for (k, element) in to.iter_mut().enumerate() {
            let number = (0..PLANES).fold(0, |number, plane| {
                let word = word(first + k / GROUP * GROUP_STEPS + plane * LANES + k % GROUP / 4);
                256 * number + i32::from(word.to_bits().to_le_bytes()[k % 4].cast_signed())
            });
            *element = number as f32 / 65_536.0 * scale;
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;
    use std::mem::MaybeUninit;

    use super::*;
    use crate::bf16::avx512::transpose;

    /// An element of largest size has this as its first digit, and the others' part of one.
    const LARGEST: f32 = 127.498;

    /// Smaller segments count as zero: their scale would have lost bits.
    const SMALLEST: f32 = 128.0 * f32::MIN_POSITIVE;

    /// Of each row, what makes its elements whole numbers, and what undoes it.
    struct Scales {
        factors: [f32; LANES],
        scales: [f32; LANES],
    }

    /// # Safety
    /// As [`split`], for one segment of at most [`ROWS`] rows.
    #[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512vbmi")]
    pub(super) unsafe fn split_segment(
        source: View<'_>,
        [rows, depth]: [usize; 2],
        lines: Lines,
        to: impl Fn(usize) -> *mut f32,
    ) {
        debug_assert!(rows <= ROWS && (1..=SEGMENT).contains(&depth));
        debug_assert!((source.by_column() || source.inner == 1) && source.holds(rows, depth));
        let mut of_columns = [_mm512_setzero_si512(); ROWS / LANES];
        if source.by_column() {
            // SAFETY: the caller vouches for the elements.
            unsafe { largest_of_columns(source, rows, depth, &mut of_columns) };
        }
        for (strip, first) in (0..rows).step_by(LANES).enumerate() {
            let (source, rows, to) = (source.offset(first, 0), (rows - first).min(LANES), to(strip));
            // SAFETY: the caller vouches for the elements and for the lines.
            unsafe {
                let largest = match source.by_column() {
                    true => of_columns[strip],
                    false => largest_of_rows(source, rows, depth),
                };
                let scales = scales_of(largest);
                for (group, k) in (0..depth).step_by(GROUP).enumerate() {
                    let step = group * GROUP_STEPS;
                    let to = to.wrapping_add(lines.at(step));
                    split_group(source.offset(0, k), rows, (depth - k).min(GROUP), &scales, to, lines);
                }
                let step = depth.div_ceil(GROUP) * GROUP_STEPS;
                if lines.of_rows {
                    for (row, scale) in scales.scales.iter().enumerate().take(rows) {
                        to.add(row * lines.stride + step).write(*scale);
                    }
                } else {
                    to.add(step * lines.stride).cast::<[f32; LANES]>().write(scales.scales);
                }
            }
        }
    }

    /// The bits of an element's size: numbers are ordered as these are, and behind them what is none.
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn size(x: __m512) -> __m512i {
        _mm512_and_si512(_mm512_castps_si512(x), _mm512_set1_epi32(i32::MAX))
    }

    /// The largest [`size`] in each of `rows` rows whose columns lie side by side.
    ///
    /// # Safety
    /// `source` holds the elements.
    #[target_feature(enable = "avx512f")]
    unsafe fn largest_of_columns(source: View<'_>, rows: usize, depth: usize, largest: &mut [__m512i]) {
        const AT_ONCE: usize = 4;
        for first in (0..depth).step_by(AT_ONCE) {
            for (strip, largest) in largest.iter_mut().enumerate().take(rows.div_ceil(LANES)) {
                let mask = lanes(rows - strip * LANES);
                for k in first..depth.min(first + AT_ONCE) {
                    let at = source.data.wrapping_add(strip * LANES + k * source.inner);
                    // SAFETY: masked elements are not read.
                    *largest = _mm512_max_epu32(*largest, size(unsafe { _mm512_maskz_loadu_ps(mask, at) }));
                }
            }
        }
    }

    /// The largest [`size`] in each of up to 16 rows whose elements lie side by side.
    ///
    /// # Safety
    /// `source` holds the elements.
    #[target_feature(enable = "avx512f")]
    unsafe fn largest_of_rows(source: View<'_>, rows: usize, depth: usize) -> __m512i {
        let mut of_rows = [0; LANES];
        for (row, of_row) in of_rows.iter_mut().enumerate().take(rows) {
            let row = source.data.wrapping_add(row * source.outer);
            let mut largest = [_mm512_setzero_si512(); 4];
            for k in (0..depth).step_by(LANES) {
                // SAFETY: the row has these elements; others are not read.
                let elements = unsafe { _mm512_maskz_loadu_ps(lanes(depth - k), row.wrapping_add(k)) };
                let largest = &mut largest[k / LANES % 4];
                *largest = _mm512_max_epu32(*largest, size(elements));
            }
            let [a, b, c, d] = largest;
            *of_row =
                _mm512_reduce_max_epu32(_mm512_max_epu32(_mm512_max_epu32(a, b), _mm512_max_epu32(c, d)));
        }
        // SAFETY: 16 numbers are there.
        unsafe { _mm512_loadu_si512(of_rows.as_ptr().cast()) }
    }

    /// The first `count` lanes, or all.
    fn lanes(count: usize) -> __mmask16 {
        ((1u32 << count.min(LANES)) - 1) as u16
    }

    /// What is not finite must not become a number.
    #[target_feature(enable = "avx512f")]
    fn scales_of(largest: __m512i) -> Scales {
        let sizes = _mm512_castsi512_ps(largest);
        let finite =
            _mm512_cmplt_epu32_mask(largest, _mm512_set1_epi32(f32::INFINITY.to_bits().cast_signed()));
        let usable = finite & _mm512_cmp_ps_mask::<_CMP_GE_OQ>(sizes, _mm512_set1_ps(SMALLEST));
        let most = _mm512_set1_ps(LARGEST);
        let factors = _mm512_maskz_div_ps(usable, most, sizes);
        let scales = _mm512_maskz_div_ps(usable, sizes, most);
        let scales = _mm512_mask_blend_ps(finite, _mm512_set1_ps(f32::NAN), scales);
        let mut both = Scales { factors: [0.0; LANES], scales: [0.0; LANES] };
        // SAFETY: both are 16 numbers.
        unsafe {
            _mm512_storeu_ps(both.factors.as_mut_ptr(), factors);
            _mm512_storeu_ps(both.scales.as_mut_ptr(), scales);
        }
        both
    }

    /// The digits of 16 elements, the smallest one first; the fourth byte of each is zero.
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn digits(elements: __m512, factors: __m512) -> __m512i {
        let numbers = _mm512_mul_ps(_mm512_mul_ps(elements, factors), _mm512_set1_ps(65_536.0));
        // Of what is half of the base and more, the next digit holds one more: with as much added they are bytes without a sign.
        let offset = _mm512_set1_epi32(0x80_80_80);
        _mm512_xor_si512(_mm512_add_epi32(_mm512_cvtps_epi32(numbers), offset), offset)
    }

    /// Indices into the bytes of two registers of 16 elements each: one byte of every element in turn, then another one.
    const fn of_row(bytes: [u8; 2]) -> [u8; 64] {
        let mut indices = [0; 64];
        let mut i = 0;
        while i < 64 {
            indices[i] = bytes[i / 32] + 4 * (i as u8 % 32 % 16) + if i % 32 < 16 { 0 } else { 64 };
            i += 1;
        }
        indices
    }

    /// The same: these bytes of the two elements in the first lane, then of those in the second lane, and so on.
    const fn of_columns(bytes: [u8; 4]) -> [u8; 64] {
        let mut indices = [0; 64];
        let mut i = 0;
        while i < 64 {
            indices[i] = bytes[i % 4] + 4 * (i as u8 / 4);
            i += 1;
        }
        indices
    }

    /// Elements of a row: the last digits of all, then the second ones; the first ones twice.
    const ROW_LOW: [u8; 64] = of_row([0, 1]);
    const ROW_HIGH: [u8; 64] = of_row([2, 2]);
    /// Columns of two neighbouring steps: both last digits, both second ones; both first ones twice.
    const COLUMNS_LOW: [u8; 64] = of_columns([0, 64, 1, 65]);
    const COLUMNS_HIGH: [u8; 64] = of_columns([2, 66, 2, 66]);

    /// Of 64 elements of a row, or of 16 rows in four steps, the words of each plane.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
    fn planes([a, b, c, d]: [__m512i; 4], by_column: bool) -> [__m512i; PLANES] {
        let (low, high) = if by_column { (&COLUMNS_LOW, &COLUMNS_HIGH) } else { (&ROW_LOW, &ROW_HIGH) };
        // SAFETY: 64 bytes are there.
        let load = |indices: &[u8; 64]| unsafe { _mm512_loadu_si512(indices.as_ptr().cast()) };
        let (low, high) = (load(low), load(high));
        let pick = |a, indices, b| _mm512_permutex2var_epi8(a, indices, b);
        let (low, next_low) = (pick(a, low, b), pick(c, low, d));
        let (high, next_high) = (pick(a, high, b), pick(c, high, d));
        if by_column {
            const UPPER: __mmask32 = 0xAAAA_AAAA;
            [
                _mm512_mask_blend_epi16(UPPER, high, next_high),
                _mm512_mask_blend_epi16(UPPER, _mm512_srli_epi32::<16>(low), next_low),
                _mm512_mask_blend_epi16(UPPER, low, _mm512_slli_epi32::<16>(next_low)),
            ]
        } else {
            [
                _mm512_shuffle_i64x2::<0x44>(high, next_high),
                _mm512_shuffle_i64x2::<0xEE>(low, next_low),
                _mm512_shuffle_i64x2::<0x44>(low, next_low),
            ]
        }
    }

    /// # Safety
    /// As [`split`], for one group.
    #[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512vbmi")]
    unsafe fn split_group(
        source: View<'_>,
        rows: usize,
        depth: usize,
        scales: &Scales,
        to: *mut f32,
        lines: Lines,
    ) {
        let by_column = source.by_column();
        // Lines of the source: rows, or four neighbouring columns.
        let valid = if by_column { depth.div_ceil(4) } else { rows };
        let (needed, plane) = match lines.of_rows {
            true => (rows, LANES),
            false => (LANES, LANES * lines.stride),
        };
        let transposed = by_column == lines.of_rows;
        let mut square = MaybeUninit::<[[__m512i; LANES]; PLANES]>::uninit();
        let (read, read_to, stride, read_plane) = match transposed {
            true => (LANES, square.as_mut_ptr().cast::<f32>(), LANES, LANES * LANES),
            false => (needed, to, lines.stride, plane),
        };
        // SAFETY: 16 numbers are there.
        let of_column = unsafe { _mm512_loadu_ps(scales.factors.as_ptr()) };
        for line in 0..read {
            let words = if line >= valid {
                [_mm512_setzero_si512(); PLANES]
            } else if by_column {
                let part = std::array::from_fn(|i| {
                    let k = 4 * line + i;
                    let mask = if k < depth { lanes(rows) } else { 0 };
                    // SAFETY: masked elements are not read.
                    digits(
                        unsafe { _mm512_maskz_loadu_ps(mask, source.data.wrapping_add(k * source.inner)) },
                        of_column,
                    )
                });
                planes(part, true)
            } else {
                let row = source.data.wrapping_add(line * source.outer);
                let factor = _mm512_set1_ps(scales.factors[line]);
                let part = std::array::from_fn(|i| {
                    let mask = lanes(depth.saturating_sub(i * LANES));
                    // SAFETY: masked elements are not read.
                    digits(unsafe { _mm512_maskz_loadu_ps(mask, row.wrapping_add(i * LANES)) }, factor)
                });
                planes(part, false)
            };
            let to = read_to.wrapping_add(line * stride);
            for (index, words) in words.into_iter().enumerate() {
                // SAFETY: the line is one of the square's, or the caller vouches for it.
                unsafe { _mm512_storeu_si512(to.wrapping_add(index * read_plane).cast(), words) };
            }
        }
        if transposed {
            // SAFETY: all lines were written.
            let square = unsafe { square.assume_init_ref() };
            for (index, words) in square.iter().enumerate() {
                let to = to.wrapping_add(index * plane);
                for (line, words) in transpose(*words).iter().enumerate().take(needed) {
                    // SAFETY: the caller vouches for the lines.
                    unsafe { _mm512_storeu_si512(to.wrapping_add(line * lines.stride).cast(), *words) };
                }
            }
        }
    }
}
