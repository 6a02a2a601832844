//! Packing: right operands rearranged in the order in which the micro-kernel reads them.

use super::split::{Lines, assert_tiles, read, split};
use super::{Operands, View};
#[cfg(target_arch = "x86_64")]
use crate::bf16::avx512;
use crate::bf16::{Element, pair, unpair};
use crate::int8::{OFFSET, quantise_weights};
#[cfg(target_arch = "x86_64")]
use crate::simd::has_bf16_products;
use crate::simd::{InstructionSet, LANES, Line};

/// Columns of a panel.
pub(crate) const WIDTH: usize = 32;

/// Elements of the inner dimension that are packed for all columns, before the next ones, where columns lie side by side: as many
/// streams as a processor follows.
const COLUMN_DEPTH: usize = 32;

/// A right operand `B[k, n]` packed into panels of [`WIDTH`] columns: `[panel][step][WIDTH]`, padded. A step holds one
/// `k`, two in bf16, four in 8 bits; a third of four or scales in [f32 in tiles](super::split).
#[derive(Debug, Clone, Default)]
pub(crate) struct Panels {
    lines: Vec<Line>,
    operands: Operands,
    depth: usize,
    columns: usize,
    /// What the products of each column are multiplied by in the end; empty unless the operands are 8-bit.
    scales: Vec<f32>,
}

impl Panels {
    /// Packs `columns x depth` elements of `source`, keeping the buffer of earlier calls.
    pub(crate) fn pack(&mut self, operands: Operands, source: View<'_>, columns: usize, depth: usize) {
        assert!(source.holds(columns, depth));
        self.fit(operands, columns, depth);
        match operands {
            Operands::F32 => self.pack_groups(source, pack_group::<false>),
            Operands::F32InTiles => self.split(source),
            Operands::Bf16 => self.pack_groups(source, pack_group::<true>),
            Operands::Int8 => self.quantise(source),
        }
    }

    /// Packs elements that are in bf16 already, the columns of each step side by side.
    pub(crate) fn pack_rounded(&mut self, source: View<'_, u16>, columns: usize, depth: usize) {
        assert!(source.holds(columns, depth) && source.outer == 1);
        self.fit(Operands::Bf16, columns, depth);
        self.pack_groups(source, pack_lines);
    }

    /// Makes room, and fills the padding behind the steps of each panel with zeros.
    fn fit(&mut self, operands: Operands, columns: usize, depth: usize) {
        let panels = columns.div_ceil(WIDTH);
        let (steps, stride) = (operands.steps(depth), operands.padded_steps(depth));
        let lines = panels * stride * (WIDTH / 16);
        if self.lines.len() < lines {
            self.lines.resize(lines, Line([0.0; 16]));
        }
        self.operands = operands;
        self.depth = depth;
        self.columns = columns;
        self.scales.clear();
        for panel in 0..panels {
            let padding = panel * stride + steps..(panel + 1) * stride;
            self.lines[padding.start * (WIDTH / 16)..padding.end * (WIDTH / 16)].fill(Line([0.0; 16]));
        }
    }

    /// Has `pack` write every 16 columns.
    fn pack_groups<T: Element>(&mut self, source: View<'_, T>, pack: Pack<T>) {
        let (columns, depth, stride) = (self.columns, self.depth, self.stride());
        let panels = columns.div_ceil(WIDTH);
        // Where a step's columns lie side by side, some steps of all panels: memory is then read in its order.
        let at_once = if source.by_column() { COLUMN_DEPTH } else { depth.max(1) };
        for first in (0..depth).step_by(at_once) {
            let (step, count) = (self.operands.steps(first), at_once.min(depth - first));
            for (panel, half) in (0..panels).flat_map(|panel| (0..WIDTH / 16).map(move |half| (panel, half)))
            {
                let start = (panel * WIDTH + half * 16).min(columns);
                let valid = (columns - start).min(16);
                // SAFETY: the panel lies in the buffer, and `source` holds the `valid` columns from `start`.
                unsafe {
                    let line = (panel * stride + step) * (WIDTH / 16) + half;
                    let to = self.lines.as_mut_ptr().add(line).cast();
                    pack(source.offset(start, first), valid, count, to, WIDTH);
                }
            }
        }
    }

    /// f32 as three bytes each.
    fn split(&mut self, source: View<'_>) {
        assert_tiles();
        assert!(source.inner == 1 || source.by_column());
        let (stride, data) = (self.stride() * LANES, self.lines.as_mut_ptr().cast::<f32>());
        let to = |strip: usize| data.wrapping_add(strip * stride);
        let lines = Lines { of_rows: false, stride: LANES };
        // SAFETY: the buffer holds all strips; `source` was checked by the caller, and above; the processor was asked.
        unsafe { split(source, self.columns, self.depth, lines, to) };
    }

    /// 8-bit weights with one scale per column.
    fn quantise(&mut self, source: View<'_>) {
        let (columns, depth, steps) = (self.columns, self.depth, self.steps());
        let lines = &mut self.lines[..columns.div_ceil(WIDTH) * steps * (WIDTH / 16)];
        // SAFETY: every bit pattern is a byte, and lines have no padding.
        let bytes: &mut [u8] = unsafe { lines.align_to_mut().1 };
        bytes.fill(OFFSET as u8);
        let mut weights = vec![0f32; depth];
        for column in 0..columns {
            source.offset(column, 0).read_row(&mut weights);
            let panel = &mut bytes[column / WIDTH * steps * WIDTH * 4..];
            let scale = quantise_weights(&weights, |k, byte| {
                panel[(k / 4 * WIDTH + column % WIDTH) * 4 + k % 4] = byte;
            });
            self.scales.push(scale);
        }
    }

    /// What is packed, and how.
    pub(crate) fn operands(&self) -> Operands {
        self.operands
    }

    /// One factor per column, where the operands have any.
    pub(crate) fn scales(&self) -> &[f32] {
        &self.scales
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

    /// Steps of the inner dimension.
    pub(crate) fn steps(&self) -> usize {
        self.operands.steps(self.depth)
    }

    /// Steps from one panel to the next: those of the inner dimension, and padding of zeros.
    pub(crate) fn stride(&self) -> usize {
        self.operands.padded_steps(self.depth)
    }

    /// Bytes of the packed weights.
    pub(crate) fn bytes(&self) -> usize {
        self.lines.len() * size_of::<Line>() + self.scales.len() * size_of::<f32>()
    }

    /// Copies one column: row `column` of the packed weights, as far as their format kept it.
    pub(crate) fn read_column(&self, column: usize, to: &mut [f32]) {
        assert!(column < self.columns && to.len() == self.depth);
        let (panel, place) = (self.panel(column / WIDTH, 0), column % WIDTH);
        // SAFETY: the panel holds every step of its columns.
        unsafe {
            match self.operands {
                Operands::F32 => {
                    for (step, element) in to.iter_mut().enumerate() {
                        *element = *panel.add(step * WIDTH + place);
                    }
                }
                Operands::F32InTiles => {
                    read(to, |step| *self.strip(column / LANES, step).add(column % LANES));
                }
                Operands::Bf16 => {
                    for (step, elements) in to.chunks_mut(2).enumerate() {
                        elements.copy_from_slice(&unpair(*panel.add(step * WIDTH + place))[..elements.len()]);
                    }
                }
                Operands::Int8 => {
                    for (k, element) in to.iter_mut().enumerate() {
                        let word = (*panel.add(k / 4 * WIDTH + place)).to_bits();
                        let byte = i32::from(word.to_le_bytes()[k % 4]) - OFFSET;
                        *element = byte as f32 * self.scales[column];
                    }
                }
            }
        }
    }

    /// The first column's word of a panel at `step`.
    pub(super) fn panel(&self, panel: usize, step: usize) -> *const f32 {
        let line = (panel * self.stride() + step) * (WIDTH / 16);
        self.lines[line..].as_ptr().cast()
    }

    /// The first column's word at `step` in f32 in tiles, where 16 columns are a panel of their own: so close together, their lines share all places of the
    /// first-level cache.
    pub(super) fn strip(&self, strip: usize, step: usize) -> *const f32 {
        self.lines[strip * self.stride() + step..].as_ptr().cast()
    }
}

/// [`pack_group`] or [`pack_lines`].
type Pack<T> = unsafe fn(View<'_, T>, usize, usize, *mut f32, usize);

/// Packs up to 16 rows of `source` (its outer dimension), padded to 16: step `s` to `to[s * stride..][..16]`. In `PAIRS`
/// a step is a word of two bf16.
///
/// # Safety
/// `source` holds `rows x depth` elements; `to` is valid for every step.
unsafe fn pack_group<const PAIRS: bool>(
    source: View<'_>,
    rows: usize,
    depth: usize,
    to: *mut f32,
    stride: usize,
) {
    // SAFETY: the caller vouches for both sides; `detect` for the instruction set.
    unsafe {
        if source.inner == 1 && rows > 1 {
            match InstructionSet::detect() {
                #[cfg(target_arch = "x86_64")]
                _ if PAIRS && has_bf16_products() => transpose_bf16(source, rows, depth, to, stride),
                #[cfg(target_arch = "x86_64")]
                InstructionSet::Avx512 if !PAIRS => transpose_f32(source, rows, depth, to, stride),
                #[cfg(target_arch = "x86_64")]
                InstructionSet::Avx512 | InstructionSet::Avx2 => {
                    transpose_avx2::<PAIRS>(source, rows, depth, to, stride);
                }
                InstructionSet::Portable => copy_elements::<PAIRS>(source, rows, depth, to, stride),
            }
        } else if source.outer == 1 && PAIRS {
            pack_lines(source, rows, depth, to, stride);
        } else if source.outer == 1 {
            // Whole groups even where fewer rows are asked for: what is beyond them is never used.
            let whole = source.whole_groups(depth);
            copy_lines(source, whole, to, stride);
            let to = to.add(whole * stride);
            copy_elements::<PAIRS>(source.offset(0, whole), rows, depth - whole, to, stride);
        } else {
            copy_elements::<PAIRS>(source, rows, depth, to, stride);
        }
    }
}

simd! {
    /// The 16 elements of each `k`, `depth` of them.
    ///
    /// # Safety
    /// 16 elements follow each (0, k) of `source`; `to` is valid for every step.
    unsafe fn copy_lines(source: View<'_>, depth: usize, to: *mut f32, stride: usize) {
        for k in 0..depth {
            // SAFETY: the caller vouches for both sides.
            unsafe {
                let from = source.data.add(k * source.inner).cast::<[f32; 16]>();
                to.add(k * stride).cast::<[f32; 16]>().write(from.read());
            }
        }
    }
}

/// [`pack_group`] in pairs, of rows whose columns lie side by side.
///
/// # Safety
/// As [`pack_group`], with `source.outer == 1`.
unsafe fn pack_lines<T: Element>(
    source: View<'_, T>,
    rows: usize,
    depth: usize,
    to: *mut f32,
    stride: usize,
) {
    // Whole groups even where fewer rows are asked for: what is beyond them is never used.
    let whole = source.whole_groups(depth) & !1;
    // SAFETY: the caller vouches for both sides.
    unsafe {
        pair_lines(source, whole, to, stride);
        let to = to.add(whole / 2 * stride);
        copy_pairs(source.offset(0, whole), rows, depth - whole, to, stride);
    }
}

/// Words of the 16 elements of two neighbouring `k` each, `depth` of them (an even number).
///
/// # Safety
/// 16 elements follow each (0, k) of `source`; `to` is valid for every step.
unsafe fn pair_lines<T: Element>(source: View<'_, T>, depth: usize, to: *mut f32, stride: usize) {
    // SAFETY: passed on; the processor was asked.
    unsafe {
        #[cfg(target_arch = "x86_64")]
        if has_bf16_products() {
            return pair_lines_bf16(source, depth, to, stride);
        }
        pair_lines_in_code(source, depth, to, stride);
    }
}

/// [`pair_lines`] where the processor rounds to bf16 itself.
///
/// # Safety
/// As [`pair_lines`].
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512bf16")]
unsafe fn pair_lines_bf16<T: Element>(source: View<'_, T>, depth: usize, to: *mut f32, stride: usize) {
    for step in 0..depth / 2 {
        // SAFETY: the caller vouches for both sides.
        unsafe {
            let line = source.data.add(2 * step * source.inner);
            let words = avx512::words_of_rows(line, line.add(source.inner));
            std::arch::x86_64::_mm512_storeu_si512(to.add(step * stride).cast(), words);
        }
    }
}

simd! {
    /// # Safety
    /// As [`pair_lines`].
    unsafe fn pair_lines_in_code<T: Element>(source: View<'_, T>, depth: usize, to: *mut f32, stride: usize) {
        for step in 0..depth / 2 {
            // SAFETY: the caller vouches for both sides.
            unsafe {
                let first = source.data.add(2 * step * source.inner).cast::<[T; 16]>().read();
                let second = source.data.add((2 * step + 1) * source.inner).cast::<[T; 16]>().read();
                let mut words = [0f32; 16];
                for i in 0..16 {
                    words[i] = pair(first[i], second[i]);
                }
                to.add(step * stride).cast::<[f32; 16]>().write(words);
            }
        }
    }
}

/// # Safety
/// As [`pack_group`].
unsafe fn copy_elements<const PAIRS: bool>(
    source: View<'_>,
    rows: usize,
    depth: usize,
    to: *mut f32,
    stride: usize,
) {
    if PAIRS {
        // SAFETY: passed on.
        return unsafe { copy_pairs(source, rows, depth, to, stride) };
    }
    for k in 0..depth {
        let mut group = [0f32; 16];
        // SAFETY: the caller vouches for `rows x depth` elements and for every step.
        unsafe {
            for (i, element) in group[..rows].iter_mut().enumerate() {
                *element = source.get(i, k);
            }
            to.add(k * stride).cast::<[f32; 16]>().write(group);
        }
    }
}

/// [`copy_elements`] in pairs.
///
/// # Safety
/// As [`pack_group`].
unsafe fn copy_pairs<T: Element>(
    source: View<'_, T>,
    rows: usize,
    depth: usize,
    to: *mut f32,
    stride: usize,
) {
    for step in 0..depth.div_ceil(2) {
        let mut group = [0f32; 16];
        // SAFETY: the caller vouches for `rows x depth` elements and for every step.
        unsafe {
            for (i, word) in group[..rows].iter_mut().enumerate() {
                let second = if 2 * step + 1 < depth { source.get(i, 2 * step + 1) } else { T::ZERO };
                *word = pair(source.get(i, 2 * step), second);
            }
            to.add(step * stride).cast::<[f32; 16]>().write(group);
        }
    }
}

/// Eight neighbouring words of a row: 8 elements, or 16 rounded to bf16.
///
/// # Safety
/// The elements exist, and AVX2 is at hand.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
unsafe fn load_words<const PAIRS: bool>(from: *const f32) -> std::arch::x86_64::__m256 {
    use std::arch::x86_64::*;
    // SAFETY: the caller vouches for the elements.
    unsafe {
        if !PAIRS {
            return _mm256_loadu_ps(from);
        }
        let round = |x: __m256| {
            let bits = _mm256_castps_si256(x);
            let odd = _mm256_and_si256(_mm256_srli_epi32::<16>(bits), _mm256_set1_epi32(1));
            let rounded = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7FFF)));
            let quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x0040_0000));
            let nan = _mm256_castps_si256(_mm256_cmp_ps::<_CMP_UNORD_Q>(x, x));
            _mm256_castsi256_ps(_mm256_blendv_epi8(rounded, quiet, nan))
        };
        let (left, right) = (round(_mm256_loadu_ps(from)), round(_mm256_loadu_ps(from.add(8))));
        // Within each half of a register: the even elements of both, and the odd ones.
        let first = _mm256_castps_si256(_mm256_shuffle_ps::<0x88>(left, right));
        let second = _mm256_castps_si256(_mm256_shuffle_ps::<0xDD>(left, right));
        let upper = _mm256_set1_epi32(0xFFFF_0000_u32.cast_signed());
        let words = _mm256_or_si256(_mm256_srli_epi32::<16>(first), _mm256_and_si256(second, upper));
        _mm256_castsi256_ps(_mm256_permute4x64_epi64::<0xD8>(words))
    }
}

/// [`transpose`] with AVX2.
///
/// # Safety
/// As [`transpose`].
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
unsafe fn transpose_avx2<const PAIRS: bool>(
    source: View<'_>,
    rows: usize,
    depth: usize,
    to: *mut f32,
    stride: usize,
) {
    // SAFETY: passed on.
    unsafe { transpose::<PAIRS>(|from| load_words::<PAIRS>(from), source, rows, depth, to, stride) };
}

/// Packs rows whose elements are adjacent where the processor rounds to bf16 itself, in squares of 16 x 16 words.
///
/// # Safety
/// As [`pack_group`], with `source.inner == 1`.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bf16")]
unsafe fn transpose_bf16(source: View<'_>, rows: usize, depth: usize, to: *mut f32, stride: usize) {
    use std::arch::x86_64::*;
    for k in (0..depth).step_by(32) {
        let count = (depth - k).min(32);
        let mut words = [_mm512_setzero_si512(); 16];
        for (row, words) in words.iter_mut().enumerate().take(rows) {
            // SAFETY: the caller vouches for `count` elements.
            *words = unsafe { avx512::row_words(source.data.add(row * source.outer + k), count) };
        }
        for (step, words) in avx512::transpose(words).into_iter().enumerate().take(count.div_ceil(2)) {
            // SAFETY: the caller vouches for every step.
            unsafe { _mm512_storeu_si512(to.add((k / 2 + step) * stride).cast(), words) };
        }
    }
}

/// Packs rows whose elements are adjacent with AVX-512, in squares of 16 x 16; steps have zeros beyond the rows.
///
/// # Safety
/// As [`pack_group`], with `source.inner == 1`.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
unsafe fn transpose_f32(source: View<'_>, rows: usize, depth: usize, to: *mut f32, stride: usize) {
    use std::arch::x86_64::*;
    for k in (0..depth).step_by(16) {
        let count = (depth - k).min(16);
        let mask = u16::MAX >> (16 - count);
        let mut elements = [_mm512_setzero_si512(); 16];
        for (row, elements) in elements.iter_mut().enumerate().take(rows) {
            // SAFETY: the caller vouches for `count` elements; masked ones are not read.
            *elements =
                unsafe { _mm512_maskz_loadu_epi32(mask, source.data.add(row * source.outer + k).cast()) };
        }
        for (step, elements) in avx512::transpose(elements).into_iter().enumerate().take(count) {
            // SAFETY: the caller vouches for every step.
            unsafe { _mm512_storeu_si512(to.add((k + step) * stride).cast(), elements) };
        }
    }
}

/// Packs rows whose elements are adjacent, in blocks of 8 x 8 words, which `load` reads 8 at a time.
///
/// # Safety
/// As [`pack_group`], with `source.inner == 1`, and AVX2 in the function that this is inlined into.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
unsafe fn transpose<const PAIRS: bool>(
    load: impl Fn(*const f32) -> std::arch::x86_64::__m256,
    source: View<'_>,
    rows: usize,
    depth: usize,
    to: *mut f32,
    stride: usize,
) {
    use std::arch::x86_64::*;
    let per_step = if PAIRS { 2 } else { 1 };
    let whole = depth / per_step / 8 * 8;
    for first in [0, 8] {
        let valid = rows.saturating_sub(first).min(8);
        for step in (0..whole).step_by(8) {
            // SAFETY: rows below `valid` hold the elements of these 8 steps, which are valid in `to`.
            unsafe {
                let mut r = [_mm256_setzero_ps(); 8];
                for (i, r) in r.iter_mut().enumerate().take(valid) {
                    *r = load(source.data.add((first + i) * source.outer + step * per_step));
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
                let to = to.add(step * stride + first);
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
        let (source, depth) = (source.offset(0, whole * per_step), depth - whole * per_step);
        copy_elements::<PAIRS>(source, rows, depth, to.add(whole * stride), stride);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The packed words of `pack`, as bits.
    fn packed(pack: Pack<f32>, source: View<'_>, rows: usize, depth: usize) -> Vec<u32> {
        let mut words = vec![0f32; depth * 16];
        // SAFETY: the callers' sources hold `rows x depth` elements, or 16 of them where lines are read.
        unsafe { pack(source, rows, depth, words.as_mut_ptr(), 16) };
        words.iter().map(|word| word.to_bits()).collect()
    }

    #[test]
    fn every_instruction_set_packs_the_same_words() {
        let (rows, depth) = (16, 70);
        let mut state = 1u32;
        let mut random = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / 65_536.0 - 128.0
        };
        let elements: Vec<f32> = (0..rows * depth).map(|_| random()).collect();
        let (by_row, by_column) = (View::new(&elements, depth, 1), View::new(&elements, 1, rows));
        for rows in [16, 11] {
            let expected = packed(copy_elements::<true>, by_row, rows, depth);
            assert_eq!(packed(pack_group::<true>, by_row, rows, depth), expected);
            let elements = packed(copy_elements::<false>, by_row, rows, depth);
            assert_eq!(packed(pack_group::<false>, by_row, rows, depth), elements);
            #[cfg(target_arch = "x86_64")]
            if InstructionSet::detect() != InstructionSet::Portable {
                assert_eq!(packed(transpose_avx2::<false>, by_row, rows, depth), elements);
                assert_eq!(packed(transpose_avx2::<true>, by_row, rows, depth), expected);
            }
        }
        let expected = packed(copy_elements::<true>, by_column, rows, depth);
        assert_eq!(packed(pack_group::<true>, by_column, rows, depth), expected);
        let elements = packed(copy_elements::<false>, by_column, rows, depth);
        assert_eq!(packed(pack_group::<false>, by_column, rows, depth), elements);
        let in_code: Pack<f32> =
            |source, _, depth, to, stride| unsafe { pair_lines_in_code(source, depth, to, stride) };
        assert_eq!(packed(in_code, by_column, rows, depth), expected);
    }
}
