//! Matrix products in f32.
//!
//! Each output element is one chain of fused multiply-adds over `k` in ascending order, whatever the tile
//! it falls in: a row's result is bit-identical for any number of rows, columns or threads, and on any
//! instruction set.

mod microkernel;
mod panels;
mod product;
#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::marker::PhantomData;
use std::ops::Range;

use rayon::prelude::*;

pub(crate) use panels::{Panels, WIDTH};
pub(crate) use product::{Block, Output, multiply};

/// Multiply-adds below which a second thread costs more than it gives.
const PARALLEL: usize = 1 << 20;

/// Multiply-adds that a task should hold at least.
const TASK: usize = 1 << 19;

/// Bias gradients per parallel task.
const BIAS: usize = 256;

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

    /// The view from element `(i, k)` on.
    fn offset(self, i: usize, k: usize) -> Self {
        // Clamped, so that an empty rest beyond the last element is no stray pointer.
        let start = (i * self.outer + k * self.inner).min(self.len());
        // SAFETY: `start` is at most the length of the slice.
        Self { data: unsafe { self.data.add(start) }, ..self }
    }
}

/// `y[t, o] = sum_i x[t, i] w[o, i] (+ bias[o])`; weights in the Hugging Face layout `[out, in]`.
pub fn linear(
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
    product(View::new(x, inp, 1), right, y, [rows, out, inp], false, bias);
}

/// `dx[t, i] (+)= sum_o dy[t, o] w[o, i]`; adds into `dx` if `accumulate`.
pub fn linear_backward_input(
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
    product(View::new(dy, out, 1), right, dx, [rows, inp, out], accumulate, None);
}

/// `dw[o, i] += sum_t dy[t, o] x[t, i]`, and `db[o] += sum_t dy[t, o]` where `db` is given.
pub fn linear_backward_weight(
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
    product(View::new(dy, 1, out), right, dw, [out, inp, rows], true, None);
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
    pub fn new(w: &[f32], bias: Option<&[f32]>, inp: usize, out: usize) -> Self {
        assert!(w.len() == inp * out && bias.is_none_or(|bias| bias.len() == out));
        let mut panels = Panels::default();
        panels.pack(View::new(w, inp, 1), out, inp);
        Self { panels, bias: bias.map(<[f32]>::to_vec) }
    }

    /// Copies row `row` of `w` into `to`, `[in]`: a head that is also the embedding need not be kept twice.
    ///
    /// # Panics
    /// If there is no such row, or `to` has another length.
    pub fn read_row(&self, row: usize, to: &mut [f32]) {
        self.panels.read_column(row, to);
    }

    /// `y[t, o]`, bit-identical to [`linear`] on the same weights.
    pub fn forward(&self, x: &[f32], y: &mut [f32], rows: usize) {
        let (inp, out) = (self.panels.depth(), self.panels.columns());
        assert!(x.len() == rows * inp && y.len() == rows * out);
        let right = Right::Packed(&self.panels);
        product(View::new(x, inp, 1), right, y, [rows, out, inp], false, self.bias.as_deref());
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
        unsafe { product_part(a, right, rows, columns_of(column), k, c, accumulate, bias) }
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
}

/// One task: `rows x columns` of the output.
///
/// # Safety
/// `c` is valid for these elements, which no other thread touches; the operands hold them.
#[allow(clippy::too_many_arguments)]
unsafe fn product_part(
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
                    depth: k,
                };
                multiply(a, rows.len(), block, c.offset(0, columns.start), accumulate);
            }
            Right::Plain(b) => PANELS.with_borrow_mut(|panels| {
                for first_column in columns.clone().step_by(product::COLUMNS) {
                    let count = (columns.end - first_column).min(product::COLUMNS);
                    let pass_depth = product::pass_depth(k);
                    for first_step in (0..k.max(1)).step_by(pass_depth) {
                        let depth = (k - first_step).min(pass_depth);
                        panels.pack(b.offset(first_column, first_step), count, depth);
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
