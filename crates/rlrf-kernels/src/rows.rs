//! Matrices that products read row by row: in f32, or in bf16 where the products would round them to it.

use std::cell::Cell;

use rayon::prelude::*;

use crate::bf16::{pair_row, unpair};
use crate::matmul::{Operands, View, left_stride};
use crate::simd::add;

/// A buffer for what one operation leaves to the products behind it: in f32, or in bf16 where these are of bf16, so that none of
/// them has to round it again. It grows to the largest use and is kept from call to call.
#[derive(Debug, Default)]
pub struct Rows {
    buffer: Vec<f32>,
    len: usize,
    words: Option<Words>,
}

/// How rows lie that are rounded to bf16: in words of two neighbours, as products read their left operand, padded with zeros.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Words {
    /// Elements of a row.
    width: usize,
    /// Words from one row to the next.
    stride: usize,
}

impl Rows {
    /// Makes room for `rows x width` elements, to be written for products with these operands.
    pub fn fit(&mut self, operands: Operands, rows: usize, width: usize) -> RowsMut<'_> {
        self.words = (operands == Operands::Bf16).then(|| Words { width, stride: left_stride(width) });
        self.len = rows * self.words.map_or(width, |words| words.stride);
        self.buffer.resize(self.buffer.len().max(self.len), 0.0);
        RowsMut { values: &mut self.buffer[..self.len], words: self.words }
    }

    /// What was written last.
    pub fn read(&self) -> RowsRef<'_> {
        RowsRef { values: &self.buffer[..self.len], words: self.words }
    }
}

/// Rows to read: `[rows, width]` of f32, or of a [`Rows`].
#[derive(Debug, Clone, Copy)]
pub struct RowsRef<'a> {
    values: &'a [f32],
    words: Option<Words>,
}

impl<'a, V: AsRef<[f32]> + ?Sized> From<&'a V> for RowsRef<'a> {
    fn from(values: &'a V) -> Self {
        Self { values: values.as_ref(), words: None }
    }
}

impl<'a> RowsRef<'a> {
    /// Whether these are `rows x width` elements.
    pub(crate) fn is(self, rows: usize, width: usize) -> bool {
        match self.words {
            None => self.values.len() == rows * width,
            Some(words) => words.width == width && self.values.len() == rows * words.stride,
        }
    }

    /// The elements, where they are in f32.
    pub(crate) fn f32(self) -> Option<&'a [f32]> {
        self.words.is_none().then_some(self.values)
    }

    /// The words of products that have these rows on their left.
    ///
    /// # Panics
    /// If the elements are not rounded; that holds for [`Self::by_column`], too.
    pub(crate) fn words(self) -> View<'a> {
        let Some(Words { stride, .. }) = self.words else { unreachable!("rows in f32 have no words") };
        View::new(self.values, stride, 1)
    }

    /// Rounded elements: (`i`, `k`) of the view is that of column `i` and row `k`.
    pub(crate) fn by_column(self) -> View<'a, u16> {
        let Some(Words { stride, .. }) = self.words else { unreachable!("rows in f32 have no halves") };
        // SAFETY: a word is two elements of any bits, that of the smaller column first in memory.
        let halves =
            unsafe { std::slice::from_raw_parts(self.values.as_ptr().cast(), 2 * self.values.len()) };
        View::new(halves, 1, 2 * stride)
    }
}

/// Columns per parallel task of a sum over rows.
const COLUMNS: usize = 256;

impl RowsRef<'_> {
    /// Adds each row, in order, to `sums`.
    pub(crate) fn add_columns(self, sums: &mut [f32]) {
        let width = sums.len();
        let stride = self.words.map_or(width, |words| words.stride);
        sums.par_chunks_mut(COLUMNS).enumerate().for_each(|(chunk, sums)| {
            let first = chunk * COLUMNS;
            for row in self.values.chunks_exact(stride) {
                match self.words {
                    None => add(sums, &row[first..][..sums.len()]),
                    Some(_) => add_words(sums, &row[first / 2..][..sums.len().div_ceil(2)]),
                }
            }
        });
    }
}

simd! {
    fn add_words(sums: &mut [f32], words: &[f32]) {
        for (sums, word) in sums.chunks_mut(2).zip(words) {
            for (sum, value) in sums.iter_mut().zip(unpair(*word)) {
                *sum += value;
            }
        }
    }
}

/// Rows to write: `[rows, width]` of f32, or of a [`Rows`].
#[derive(Debug)]
pub struct RowsMut<'a> {
    values: &'a mut [f32],
    words: Option<Words>,
}

impl<'a, V: AsMut<[f32]> + ?Sized> From<&'a mut V> for RowsMut<'a> {
    fn from(values: &'a mut V) -> Self {
        Self { values: values.as_mut(), words: None }
    }
}

impl<'a> RowsMut<'a> {
    /// Whether there is room for `rows x width` elements.
    pub(crate) fn is(&self, rows: usize, width: usize) -> bool {
        RowsRef { values: self.values, words: self.words }.is(rows, width)
    }

    /// Whether there is room for `len` elements in whole rows.
    pub(crate) fn holds(&self, len: usize) -> bool {
        self.rounded_width().map_or(self.is(1, len), |width| {
            self.is(len / width.max(1), width) && len.is_multiple_of(width.max(1))
        })
    }

    /// The width of rows that are rounded.
    pub(crate) fn rounded_width(&self) -> Option<usize> {
        self.words.map(|words| words.width)
    }

    /// `rows` rows of `width` elements at a time, for tasks to write.
    pub(crate) fn chunks(self, rows: usize, width: usize) -> impl IndexedParallelIterator<Item = Chunk<'a>> {
        let words = self.words;
        let stride = words.map_or(width, |words| words.stride);
        let chunk = move |values| Chunk { values, words };
        self.values.par_chunks_mut((rows * stride).max(1)).map(chunk)
    }
}

/// Neighbouring rows that one task writes.
pub(crate) struct Chunk<'a> {
    values: &'a mut [f32],
    words: Option<Words>,
}

impl<'a> Chunk<'a> {
    /// All elements, where they are not to be rounded.
    pub(crate) fn f32(&mut self) -> Option<&mut [f32]> {
        self.words.is_none().then_some(&mut *self.values)
    }

    /// Rounds a row into its place.
    pub(crate) fn round(&mut self, row: usize, values: &[f32]) {
        let Some(Words { width, stride }) = self.words else { unreachable!("rows in f32 are not rounded") };
        assert_eq!(values.len(), width);
        let (words, padding) = self.values[row * stride..][..stride].split_at_mut(width.div_ceil(2));
        pair_row(values, words);
        padding.fill(0.0);
    }
}

thread_local! {
    static SCRATCH: Cell<Vec<f32>> = const { Cell::new(Vec::new()) };
}

/// `len` values of any content for results that are rounded next.
pub(crate) fn with_scratch<R>(len: usize, work: impl FnOnce(&mut [f32]) -> R) -> R {
    let mut scratch = SCRATCH.take();
    scratch.resize(scratch.len().max(len), 0.0);
    let result = work(&mut scratch[..len]);
    SCRATCH.set(scratch);
    result
}
