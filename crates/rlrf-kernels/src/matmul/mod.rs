//! Matrix products with sums in f32, of operands in f32, in bf16, or with weights of 8 bits.
//!
//! Each output element is one chain of fused multiply-adds over `k` in ascending order (bf16: in pairs, the second of
//! each first), whatever the tile it falls in: a row's result is bit-identical for any number of rows, columns or
//! threads, and on any instruction set.

mod microkernel;
mod panels;
mod product;
#[cfg(test)]
mod tests;

use std::cell::{Cell, RefCell};
use std::marker::PhantomData;
use std::ops::Range;

use rayon::prelude::*;

use crate::bf16::left_words;
pub(crate) use panels::{Panels, WIDTH};
pub(crate) use product::{Block, Output, multiply};

/// Multiply-adds below which a second thread costs more than it gives.
const PARALLEL: usize = 1 << 20;

/// Multiply-adds that a task should hold at least.
const TASK: usize = 1 << 19;

/// Bias gradients per parallel task.
const BIAS: usize = 256;

/// How the operands of a product are held. Sums are f32 always.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Operands {
    /// As they are.
    #[default]
    F32,
    /// Both rounded to bf16.
    Bf16,
    /// Weights in 8 bits with one scale per output; the left operand as it is. For packed weights only.
    Int8,
}

impl Operands {
    /// Steps of an inner dimension of `depth`.
    pub(crate) fn steps(self, depth: usize) -> usize {
        if self == Self::Bf16 { depth.div_ceil(2) } else { depth }
    }

    /// Inner dimension of one step.
    fn per_step(self) -> usize {
        if self == Self::Bf16 { 2 } else { 1 }
    }

    /// Bytes of one column's packed weight of one step.
    pub(crate) fn weight_bytes(self) -> usize {
        if self == Self::Int8 { 1 } else { 4 }
    }
}

/// A read-only matrix: element `(i, k)` lies at `i * outer + k * inner`.
#[derive(Clone, Copy)]
pub(crate) struct View<'a> {
    data: *const f32,
    end: *const f32,
    outer: usize,
    inner: usize,
    lifetime: PhantomData<&'a [f32]>,
}

// SAFETY: a view only reads what its lifetime borrows.
unsafe impl Send for View<'_> {}
// SAFETY: as above.
unsafe impl Sync for View<'_> {}

impl<'a> View<'a> {
    /// Element `(i, k)` is `data[i * outer + k * inner]`.
    pub(crate) fn new(data: &'a [f32], outer: usize, inner: usize) -> Self {
        let range = data.as_ptr_range();
        Self { data: range.start, end: range.end, outer, inner, lifetime: PhantomData }
    }

    /// Elements from the first one to the end of the slice.
    fn len(&self) -> usize {
        // SAFETY: both pointers stem from one slice, and `data` is not behind `end`.
        unsafe { self.end.offset_from(self.data) as usize }
    }

    /// Whether `rows x depth` elements exist.
    fn holds(&self, rows: usize, depth: usize) -> bool {
        rows == 0 || depth == 0 || (rows - 1) * self.outer + (depth - 1) * self.inner < self.len()
    }

    /// The number of `k`, at most `depth`, for which 16 elements follow `(0, k)` in memory.
    fn whole_groups(&self, depth: usize) -> usize {
        match self.len().checked_sub(16) {
            Some(last) => (last / self.inner.max(1) + 1).min(depth),
            None => 0,
        }
    }

    /// Whether the elements of a column lie side by side, and those of a row do not.
    pub(crate) fn by_column(&self) -> bool {
        self.outer == 1 && self.inner != 1
    }

    /// Row `i` of a view whose rows lie side by side.
    pub(crate) fn row(&self, i: usize, depth: usize) -> &'a [f32] {
        assert!(self.inner == 1 && (depth == 0 || self.holds(i + 1, depth)));
        // SAFETY: the elements exist.
        unsafe { std::slice::from_raw_parts(self.data.add(i * self.outer), depth) }
    }

    /// Column `k` of a view whose columns lie side by side.
    pub(crate) fn column(&self, k: usize, rows: usize) -> &'a [f32] {
        assert!(self.outer == 1 && (rows == 0 || self.holds(rows, k + 1)));
        // SAFETY: the elements exist.
        unsafe { std::slice::from_raw_parts(self.data.add(k * self.inner), rows) }
    }

    /// Copies the first row.
    fn read_row(&self, to: &mut [f32]) {
        assert!(self.holds(1, to.len()));
        for (k, element) in to.iter_mut().enumerate() {
            // SAFETY: the elements exist.
            *element = unsafe { *self.data.add(k * self.inner) };
        }
    }

    /// The view from element `(i, k)` on.
    pub(crate) fn offset(self, i: usize, k: usize) -> Self {
        // Clamped, so that an empty rest beyond the last element is no stray pointer.
        let start = (i * self.outer + k * self.inner).min(self.len());
        // SAFETY: `start` is at most the length of the slice.
        Self { data: unsafe { self.data.add(start) }, ..self }
    }
}

/// `y[t, o] = sum_i x[t, i] w[o, i] (+ bias[o])`; weights in the Hugging Face layout `[out, in]`.
///
/// # Panics
/// If a length is wrong, or the operands are for packed weights only; the same holds for the functions below.
pub fn linear(
    operands: Operands,
    x: &[f32],
    w: &[f32],
    bias: Option<&[f32]>,
    y: &mut [f32],
    rows: usize,
    inp: usize,
    out: usize,
) {
    assert!(x.len() == rows * inp && w.len() == inp * out && y.len() == rows * out);
    let right = Right::Plain(View::new(w, inp, 1));
    product(operands, View::new(x, inp, 1), right, y, [rows, out, inp], false, bias);
}

/// `y[t, o] += sum_i x[t, i] w[o, i]`.
pub fn linear_add(
    operands: Operands,
    x: &[f32],
    w: &[f32],
    y: &mut [f32],
    rows: usize,
    inp: usize,
    out: usize,
) {
    assert!(x.len() == rows * inp && w.len() == inp * out && y.len() == rows * out);
    let right = Right::Plain(View::new(w, inp, 1));
    product(operands, View::new(x, inp, 1), right, y, [rows, out, inp], true, None);
}

/// `dx[t, i] (+)= sum_o dy[t, o] w[o, i]`; adds into `dx` if `accumulate`.
pub fn linear_backward_input(
    operands: Operands,
    dy: &[f32],
    w: &[f32],
    dx: &mut [f32],
    rows: usize,
    inp: usize,
    out: usize,
    accumulate: bool,
) {
    assert!(dy.len() == rows * out && w.len() == inp * out && dx.len() == rows * inp);
    let right = Right::Plain(View::new(w, 1, inp));
    product(operands, View::new(dy, out, 1), right, dx, [rows, inp, out], accumulate, None);
}

/// `dw[o, i] += sum_t dy[t, o] x[t, i]`, and `db[o] += sum_t dy[t, o]` where `db` is given.
pub fn linear_backward_weight(
    operands: Operands,
    dy: &[f32],
    x: &[f32],
    dw: &mut [f32],
    db: Option<&mut [f32]>,
    rows: usize,
    inp: usize,
    out: usize,
) {
    assert!(dy.len() == rows * out && x.len() == rows * inp && dw.len() == out * inp);
    let right = Right::Plain(View::new(x, 1, inp));
    product(operands, View::new(dy, 1, out), right, dw, [out, inp, rows], true, None);
    if let Some(db) = db {
        assert_eq!(db.len(), out);
        db.par_chunks_mut(BIAS).enumerate().for_each(|(chunk, db)| {
            for dy in dy.chunks_exact(out) {
                add(db, &dy[chunk * BIAS..][..db.len()]);
            }
        });
    }
}

/// Weights packed once in the layout that the micro-kernel reads, for generation.
#[derive(Debug, Clone)]
pub struct PackedLinear {
    panels: Panels,
    bias: Option<Vec<f32>>,
}

impl PackedLinear {
    /// Packs `w[out, in]`.
    pub fn new(operands: Operands, w: &[f32], bias: Option<&[f32]>, inp: usize, out: usize) -> Self {
        assert!(w.len() == inp * out && bias.is_none_or(|bias| bias.len() == out));
        let mut panels = Panels::default();
        panels.pack_as(operands, View::new(w, inp, 1), out, inp);
        Self { panels, bias: bias.map(<[f32]>::to_vec) }
    }

    /// Bytes of the packed weights.
    pub fn bytes(&self) -> usize {
        self.panels.bytes()
    }

    /// Copies row `row` of `w` into `to`, `[in]`, as far as the format kept it: a head that is also the embedding need
    /// not be kept twice.
    ///
    /// # Panics
    /// If there is no such row, or `to` has another length.
    pub fn read_row(&self, row: usize, to: &mut [f32]) {
        self.panels.read_column(row, to);
    }

    /// `y[t, o]`, bit-identical to [`linear`] with the same operands.
    pub fn forward(&self, x: &[f32], y: &mut [f32], rows: usize) {
        let (inp, out) = (self.panels.depth(), self.panels.columns());
        assert!(x.len() == rows * inp && y.len() == rows * out);
        let right = Right::Packed(&self.panels);
        product(
            self.panels.operands(),
            View::new(x, inp, 1),
            right,
            y,
            [rows, out, inp],
            false,
            self.bias.as_deref(),
        );
    }
}

/// A right operand `B`: as it lies in memory, `(column, k)`, or packed before.
#[derive(Clone, Copy)]
enum Right<'a> {
    Plain(View<'a>),
    Packed(&'a Panels),
}

/// `C[m, n] (+)= A B (+ bias)`, in parallel where that pays.
fn product(
    operands: Operands,
    a: View<'_>,
    right: Right<'_>,
    c: &mut [f32],
    [m, n, k]: [usize; 3],
    accumulate: bool,
    bias: Option<&[f32]>,
) {
    if operands != Operands::Bf16 {
        return product_of_words(operands, a, right, c, [m, n, k], accumulate, bias);
    }
    // Taken, not borrowed: while this thread waits for others, it may be lent to another product.
    let mut words = LEFT.take();
    let place = left_words(a, m, k, &mut words, true);
    product_of_words(operands, place.view(&words), right, c, [m, n, k], accumulate, bias);
    LEFT.set(words);
}

/// [`product`] of a left operand that holds words already.
fn product_of_words(
    operands: Operands,
    a: View<'_>,
    right: Right<'_>,
    c: &mut [f32],
    [m, n, k]: [usize; 3],
    accumulate: bool,
    bias: Option<&[f32]>,
) {
    assert!(bias.is_none_or(|bias| bias.len() == n));
    let c = Output { data: c.as_mut_ptr(), row: n };
    let (row_tasks, column_tasks) = grid(m, n, k);
    let columns_of = |task: usize| {
        let panels = n.div_ceil(WIDTH);
        let at = |task: usize| (panels * task / column_tasks * WIDTH).min(n);
        at(task)..at(task + 1)
    };
    let run = |task: usize| {
        let (row, column) = (task / column_tasks, task % column_tasks);
        let rows = m * row / row_tasks..m * (row + 1) / row_tasks;
        // SAFETY: tasks cover disjoint rectangles of `c`, which has `m` rows of `n`.
        unsafe { product_part(operands, a, right, rows, columns_of(column), k, c, accumulate, bias) }
    };
    match row_tasks * column_tasks {
        1 => run(0),
        tasks => (0..tasks).into_par_iter().with_max_len(1).for_each(run),
    }
}

/// Into how many row and column ranges a product is cut for the threads at hand.
fn grid(m: usize, n: usize, k: usize) -> (usize, usize) {
    let threads = rayon::current_num_threads();
    // Reading B, or packing it, costs as much as a few rows.
    let work = (m + 4) * n * k;
    if threads == 1 || work < PARALLEL {
        return (1, 1);
    }
    // A few tasks per thread, so that a thread that is held up leaves its share to the others.
    let tasks = (work / TASK).clamp(2, threads * 4).next_multiple_of(threads);
    // Columns first: tasks that share columns would pack the same part of B again.
    let columns = tasks.min((n / 128).max(1));
    let rows = (tasks / columns).min(m.div_ceil(48)).max(1);
    (rows, columns)
}

thread_local! {
    /// The packed part of `B`; kept, because fresh pages cost more than packing.
    static PANELS: RefCell<Panels> = RefCell::default();
    /// The left operand as words; kept for the same reason.
    static LEFT: Cell<Vec<f32>> = const { Cell::new(Vec::new()) };
}

/// One task: `rows x columns` of the output.
///
/// # Safety
/// `c` is valid for these elements, which no other thread touches; the operands hold them.
#[allow(clippy::too_many_arguments)]
unsafe fn product_part(
    operands: Operands,
    a: View<'_>,
    right: Right<'_>,
    rows: Range<usize>,
    columns: Range<usize>,
    k: usize,
    c: Output,
    accumulate: bool,
    bias: Option<&[f32]>,
) {
    let a = a.offset(rows.start, 0);
    // SAFETY: the caller vouches for the operands and for the rectangle of `c`.
    unsafe {
        let c = c.offset(rows.start, 0);
        match right {
            Right::Packed(panels) => {
                let block = Block {
                    panels,
                    first_column: columns.start,
                    columns: columns.len(),
                    first_step: 0,
                    depth: panels.steps(),
                };
                multiply(a, rows.len(), block, c.offset(0, columns.start), accumulate);
                if let Some(scales) = panels.scales().get(columns.clone()) {
                    for row in 0..rows.len() {
                        let y = c.offset(row, columns.start).data;
                        scale(std::slice::from_raw_parts_mut(y, scales.len()), scales);
                    }
                }
            }
            Right::Plain(_) if operands == Operands::Int8 => {
                unreachable!("8-bit weights have their scales over the whole depth, and are packed before")
            }
            Right::Plain(b) => PANELS.with_borrow_mut(|panels| {
                for first_column in columns.clone().step_by(product::COLUMNS) {
                    let count = (columns.end - first_column).min(product::COLUMNS);
                    let (steps, per_step) = (operands.steps(k), operands.per_step());
                    let pass_depth = product::pass_depth(steps);
                    for first_step in (0..steps.max(1)).step_by(pass_depth) {
                        let depth = (steps - first_step).min(pass_depth);
                        let first = first_step * per_step;
                        let elements = (depth * per_step).min(k - first);
                        panels.pack_as(operands, b.offset(first_column, first), count, elements);
                        let block = Block { panels, first_column: 0, columns: count, first_step: 0, depth };
                        let (a, c) = (a.offset(0, first_step), c.offset(0, first_column));
                        multiply(a, rows.len(), block, c, accumulate || first_step > 0);
                    }
                }
            }),
        }
        if let Some(bias) = bias {
            let bias = &bias[columns.clone()];
            for row in 0..rows.len() {
                let y = c.offset(row, columns.start).data;
                add(std::slice::from_raw_parts_mut(y, bias.len()), bias);
            }
        }
    }
}

simd! {
    fn add(x: &mut [f32], delta: &[f32]) {
        for (x, delta) in x.iter_mut().zip(delta) {
            *x += delta;
        }
    }
}

simd! {
    fn scale(x: &mut [f32], factors: &[f32]) {
        for (x, factor) in x.iter_mut().zip(factors) {
            *x *= factor;
        }
    }
}
