//! Matrix products with sums in f32, of operands in f32, in bf16, or with weights of 8 bits.
//!
//! Each output element is one chain of fused multiply-adds over `k` in ascending order (bf16: in pairs, the second of
//! each first), whatever the tile it falls in: a row's result is bit-identical for any number of rows, columns or
//! threads, and on any instruction set (in bf16 but for subnormal numbers, which some processors take for zero).
//!
//! On processors with AMX, products of bf16 add in an order of their own, as independent of rows, columns and threads: of each 32 `k`,
//! the products of even and of odd `k` in a chain each, from zero; then both, added, to the sum. Products of f32 are sums of whole
//! numbers there (but small ones, see [`Operands::unsplit`]), exact whatever their order, of each segment of 768 `k`.

#[cfg(target_arch = "x86_64")]
mod amx;
mod left;
mod microkernel;
mod panels;
mod product;
mod split;
mod strip;
#[cfg(test)]
mod tests;
mod view;

use std::cell::{Cell, RefCell};
use std::ops::Range;

use rayon::prelude::*;

use crate::int8::{BLOCK, BLOCK_STEPS, BLOCK_WORDS, left_blocks};
use crate::rows::RowsRef;
pub use crate::simd::has_tiles;
use crate::simd::{LANES, add};
pub(crate) use left::{left_operand, left_stride, left_words, split_in_place};
pub(crate) use panels::{Panels, WIDTH};
pub(crate) use product::{Block, Output, multiply};
use product::{multiply_in_place, read_in_place};
pub(crate) use strip::{Columns, Strips};
pub(crate) use view::View;

/// Multiply-adds below which a second thread costs more than it gives.
const PARALLEL: usize = 1 << 20;

/// Multiply-adds that a task should hold at least.
const TASK: usize = 1 << 19;

/// How the operands of a product are held. Sums are f32 always.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Operands {
    /// As they are.
    #[default]
    F32,
    /// In AMX tiles, and only where [`has_tiles`]: as whole numbers of 24 bits, with a scale for each 768 of a row or column.
    /// About as exact as a chain of f32 by the norms of both operands (numbers far smaller than their segment's largest keep
    /// fewer bits), and faster, with bits of its own. Packed weights take three quarters of the memory.
    F32InTiles,
    /// Both rounded to bf16.
    Bf16,
    /// Both in 8 bits: weights with one scale per output, the left operand with one per row and block of 64. For packed
    /// weights only.
    Int8,
}

impl Operands {
    /// What computes products of f32 fastest here.
    pub fn f32() -> Self {
        if has_tiles() { Self::F32InTiles } else { Self::F32 }
    }

    /// The same for products so small, or so narrow, that splitting their operands would take longer.
    pub fn unsplit(self) -> Self {
        if self == Self::F32InTiles { Self::F32 } else { self }
    }

    /// Steps of an inner dimension of `depth`.
    pub(crate) fn steps(self, depth: usize) -> usize {
        match self {
            Self::F32 => depth,
            Self::F32InTiles => split::steps(depth),
            Self::Bf16 => depth.div_ceil(2),
            Self::Int8 => depth.div_ceil(BLOCK) * BLOCK_STEPS,
        }
    }

    /// [`Self::steps`] and the padding of zeros that the products want behind them.
    pub(crate) fn padded_steps(self, depth: usize) -> usize {
        match self {
            Self::Bf16 if has_tiles() => self.steps(depth).next_multiple_of(LANES),
            _ => self.steps(depth),
        }
    }

    /// Place of a step's word in a row of the left operand.
    fn left_word(self, step: usize) -> usize {
        if self == Self::Int8 { step / BLOCK_STEPS * BLOCK_WORDS } else { step }
    }
}

/// `y[t, o] = sum_i x[t, i] w[o, i] (+ bias[o])`; weights in the Hugging Face layout `[out, in]`.
///
/// # Panics
/// If a length is wrong, or the operands are for packed weights only, or for tiles where there are none; the same holds for the functions below.
pub fn linear<'x>(
    operands: Operands,
    x: impl Into<RowsRef<'x>>,
    w: &[f32],
    bias: Option<&[f32]>,
    y: &mut [f32],
    rows: usize,
    inp: usize,
    out: usize,
) {
    project(operands, x, rows, inp, &mut [(Weights::Plain { w, bias, out }, y)]);
}

/// Weights of one projection.
#[derive(Clone, Copy)]
pub enum Weights<'a> {
    /// In the Hugging Face layout.
    Plain {
        /// `[out, in]`.
        w: &'a [f32],
        /// `[out]`.
        bias: Option<&'a [f32]>,
        /// Number of outputs.
        out: usize,
    },
    /// Packed before, with their own operands.
    Packed(&'a PackedLinear),
}

/// Several projections of the same `x: [rows, inp]` at once, each as [`linear`] or [`PackedLinear::forward`] computes it: the
/// left operand is rounded once, and threads meet once.
///
/// # Panics
/// If a length is wrong, or packed weights or rounded rows are of other operands.
pub fn project<'x>(
    operands: Operands,
    x: impl Into<RowsRef<'x>>,
    rows: usize,
    inp: usize,
    projections: &mut [(Weights<'_>, &mut [f32])],
) {
    let x = x.into();
    assert!(x.is(rows, inp));
    let jobs: Vec<Job<'_>> = projections
        .iter_mut()
        .map(|(weights, y)| {
            let (right, n, bias) = match *weights {
                Weights::Plain { w, bias, out } => {
                    assert_eq!(w.len(), inp * out);
                    (Right::Plain(View::new(w, inp, 1)), out, bias)
                }
                Weights::Packed(packed) => {
                    assert!(packed.panels.operands() == operands && packed.panels.depth() == inp);
                    (Right::Packed(&packed.panels), packed.panels.columns(), packed.bias.as_deref())
                }
            };
            assert!(bias.is_none_or(|bias| bias.len() == n));
            Job { bias, ..Job::new(right, y, rows, n) }
        })
        .collect();
    products(operands, Left::by_row(x, inp), &jobs, rows, inp);
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
    product(operands, Left::F32(View::new(x, inp, 1)), right, y, [rows, out, inp], true);
}

/// `dx[t, i] (+)= sum_o dy[t, o] w[o, i]`; adds into `dx` if `accumulate`.
pub fn linear_backward_input<'y>(
    operands: Operands,
    dy: impl Into<RowsRef<'y>>,
    w: &[f32],
    dx: &mut [f32],
    rows: usize,
    inp: usize,
    out: usize,
    accumulate: bool,
) {
    backward_inputs(operands, dy, rows, out, &mut [InputGradient { w, dx, inp, accumulate }]);
}

/// The gradient of one projection's input.
pub struct InputGradient<'a> {
    /// `[out, inp]`.
    pub w: &'a [f32],
    /// `[rows, inp]`: overwritten, or added into.
    pub dx: &'a mut [f32],
    /// Number of inputs.
    pub inp: usize,
    /// Whether to add into `dx`.
    pub accumulate: bool,
}

/// Several [`linear_backward_input`] of the same `dy: [rows, out]` at once, as [`project`] is several projections.
pub fn backward_inputs<'y>(
    operands: Operands,
    dy: impl Into<RowsRef<'y>>,
    rows: usize,
    out: usize,
    gradients: &mut [InputGradient<'_>],
) {
    let dy = dy.into();
    assert!(dy.is(rows, out));
    let jobs: Vec<Job<'_>> = gradients
        .iter_mut()
        .map(|InputGradient { w, dx, inp, accumulate }| {
            assert_eq!(w.len(), *inp * out);
            let right = Right::Plain(View::new(w, 1, *inp));
            Job { accumulate: *accumulate, ..Job::new(right, dx, rows, *inp) }
        })
        .collect();
    products(operands, Left::by_row(dy, out), &jobs, rows, out);
}

/// `dw[o, i] += sum_t dy[t, o] x[t, i]`, and `db[o] += sum_t dy[t, o]` (rounded or not, as `dy` is) where `db` is given.
pub fn linear_backward_weight<'a>(
    operands: Operands,
    dy: impl Into<RowsRef<'a>>,
    x: impl Into<RowsRef<'a>>,
    dw: &mut [f32],
    db: Option<&mut [f32]>,
    rows: usize,
    inp: usize,
    out: usize,
) {
    let (dy, x) = (dy.into(), x.into());
    assert!(dy.is(rows, out) && x.is(rows, inp) && dw.len() == out * inp);
    let right = match x.f32() {
        Some(x) => Right::Plain(View::new(x, 1, inp)),
        None => Right::Rounded(x.by_column()),
    };
    product(operands, Left::by_column(dy, out), right, dw, [out, inp, rows], true);
    if let Some(db) = db {
        assert_eq!(db.len(), out);
        dy.add_columns(db);
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
        panels.pack(operands, View::new(w, inp, 1), out, inp);
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
        project(self.operands(), x, rows, self.panels.depth(), &mut [(Weights::Packed(self), y)]);
    }

    /// How the weights are held.
    pub fn operands(&self) -> Operands {
        self.panels.operands()
    }

    /// Number of inputs.
    pub fn inputs(&self) -> usize {
        self.panels.depth()
    }
}

/// A left operand `A`: (row, `k`).
#[derive(Clone, Copy)]
enum Left<'a> {
    F32(View<'a>),
    /// Words already.
    Words(View<'a>),
    /// In bf16, the rows of each `k` side by side.
    Rounded(View<'a, u16>),
}

impl<'a> Left<'a> {
    /// `rows` as they are.
    fn by_row(rows: RowsRef<'a>, width: usize) -> Self {
        rows.f32().map_or_else(|| Self::Words(rows.words()), |values| Self::F32(View::new(values, width, 1)))
    }

    /// `rows` transposed.
    fn by_column(rows: RowsRef<'a>, width: usize) -> Self {
        let rounded = || Self::Rounded(rows.by_column());
        rows.f32().map_or_else(rounded, |values| Self::F32(View::new(values, 1, width)))
    }
}

/// A right operand `B`: as it lies in memory, `(column, k)`, or packed before.
#[derive(Clone, Copy)]
enum Right<'a> {
    Plain(View<'a>),
    /// In bf16, the columns of each `k` side by side.
    Rounded(View<'a, u16>),
    Packed(&'a Panels),
}

/// One of the products of a left operand: `C[m, n] (+)= A B (+ bias)`.
struct Job<'a> {
    right: Right<'a>,
    c: Output,
    n: usize,
    accumulate: bool,
    bias: Option<&'a [f32]>,
}

impl<'a> Job<'a> {
    fn new(right: Right<'a>, c: &mut [f32], m: usize, n: usize) -> Self {
        assert_eq!(c.len(), m * n);
        Self { right, c: Output { data: c.as_mut_ptr(), row: n }, n, accumulate: false, bias: None }
    }
}

/// One product, in parallel where that pays.
fn product(
    operands: Operands,
    a: Left<'_>,
    right: Right<'_>,
    c: &mut [f32],
    [m, n, k]: [usize; 3],
    accumulate: bool,
) {
    products(operands, a, &[Job { accumulate, ..Job::new(right, c, m, n) }], m, k);
}

/// Products of the left operand `a: [m, k]`.
fn products(operands: Operands, a: Left<'_>, jobs: &[Job<'_>], m: usize, k: usize) {
    // Taken, not borrowed: while this thread waits for others, it may be lent to another product.
    let mut words = LEFT.take();
    let a = match (operands, a) {
        (Operands::Bf16, Left::Words(a)) => a,
        (Operands::F32 | Operands::F32InTiles | Operands::Bf16, Left::F32(a)) => {
            left_operand(operands, a, [m, k], &mut words, true)
        }
        (Operands::Bf16, Left::Rounded(a)) => left_words(a, [m, k], &mut words, true),
        (Operands::Int8, Left::F32(a)) => {
            let row = left_blocks(a, m, k, &mut words);
            View::new(&words[..m * row], row, 1)
        }
        (Operands::F32 | Operands::F32InTiles | Operands::Int8, _) => {
            panic!("rows that are rounded to bf16 are for products of bf16")
        }
    };
    products_of_words(operands, a, jobs, m, k);
    LEFT.set(words);
}

/// [`products`] of a left operand that holds words already.
fn products_of_words(operands: Operands, a: View<'_>, jobs: &[Job<'_>], m: usize, k: usize) {
    let columns: usize = jobs.iter().map(|job| job.n).sum();
    // Reading B, or packing it, costs as much as a few rows.
    let parallel = rayon::current_num_threads() > 1 && (m + 4) * columns * k >= PARALLEL;
    let tasks: Vec<(usize, Range<usize>, Range<usize>)> = jobs
        .iter()
        .enumerate()
        .flat_map(|(index, job)| cut(operands, index, [m, job.n, k], parallel))
        .collect();
    let run = |(index, rows, columns): (usize, Range<usize>, Range<usize>)| {
        let Job { right, c, accumulate, bias, .. } = jobs[index];
        // SAFETY: tasks cover disjoint rectangles of the outputs, each of which has `m` rows.
        unsafe { product_part(operands, a, right, rows, columns, k, c, accumulate, bias) }
    };
    match parallel {
        true => tasks.into_par_iter().with_max_len(1).for_each(run),
        false => tasks.into_iter().for_each(run),
    }
}

/// The rectangles of job `index` that tasks compute, cut at whole tiles.
fn cut(
    operands: Operands,
    index: usize,
    [m, n, k]: [usize; 3],
    parallel: bool,
) -> impl Iterator<Item = (usize, Range<usize>, Range<usize>)> {
    let unit = product::column_unit(operands);
    let (row_tasks, column_tasks) = if parallel { grid(operands, [m, n, k], unit) } else { (1, 1) };
    let units = n.div_ceil(unit);
    let column_at = move |task: usize| (units * task / column_tasks * unit).min(n);
    (0..row_tasks * column_tasks).map(move |task| {
        let (row, column) = (task / column_tasks, task % column_tasks);
        let rows = m * row / row_tasks..m * (row + 1) / row_tasks;
        (index, rows, column_at(column)..column_at(column + 1))
    })
}

/// Into how many row and column ranges a product is cut for the threads at hand.
fn grid(operands: Operands, [m, n, k]: [usize; 3], unit: usize) -> (usize, usize) {
    let threads = rayon::current_num_threads();
    let work = (m + 4) * n * k;
    // Some tasks per thread, so that a thread that is held up leaves its share to the others.
    let per_thread = if operands == Operands::F32InTiles { 4 } else { 2 };
    let tasks = (work / TASK).clamp(2, threads * per_thread).next_multiple_of(threads);
    // Columns first: tasks that share columns would pack the same part of B again, where it is packed.
    let columns = tasks.min((n / 96).max(1));
    // But not into unequal parts of few units.
    let units = n.div_ceil(unit);
    let unequal = !units.is_multiple_of(columns) && units < 4 * columns;
    let columns = if unequal && m >= 2 * 48 { columns.div_ceil(2) } else { columns };
    // Splitting `B` again costs more than what threads that are held up leave to others.
    let enough = operands == Operands::F32InTiles && columns >= threads;
    let rows = if enough { 1 } else { (tasks / columns).min(m.div_ceil(48)).max(1) };
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
            Right::Plain(_) | Right::Rounded(_) if operands == Operands::Int8 => {
                unreachable!("8-bit weights have their scales over the whole depth, and are packed before")
            }
            Right::Plain(b) if read_in_place(operands, b, columns.len()) => {
                let (b, c) = (b.offset(columns.start, 0), c.offset(0, columns.start));
                multiply_in_place(a, rows.len(), b, [columns.len(), k], c, accumulate);
            }
            Right::Plain(_) | Right::Rounded(_) => PANELS.with_borrow_mut(|panels| {
                let (pass_depth, pass_columns) = product::packed_at_once(operands, k);
                for first_column in columns.clone().step_by(pass_columns) {
                    let count = (columns.end - first_column).min(pass_columns);
                    for first in (0..k.max(1)).step_by(pass_depth) {
                        let elements = (k - first).min(pass_depth);
                        match right {
                            Right::Plain(b) => {
                                panels.pack(operands, b.offset(first_column, first), count, elements);
                            }
                            Right::Rounded(b) => {
                                assert_eq!(operands, Operands::Bf16);
                                panels.pack_rounded(b.offset(first_column, first), count, elements);
                            }
                            Right::Packed(_) => unreachable!(),
                        }
                        let depth = panels.steps();
                        let block = Block { panels, first_column: 0, columns: count, first_step: 0, depth };
                        let (a, c) = (a.offset(0, operands.steps(first)), c.offset(0, first_column));
                        multiply(a, rows.len(), block, c, accumulate || first > 0);
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
    fn scale(x: &mut [f32], factors: &[f32]) {
        for (x, factor) in x.iter_mut().zip(factors) {
            *x *= factor;
        }
    }
}
