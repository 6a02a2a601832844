//! The loops around the micro-kernel, in the order of Goto and van de Geijn (2008), on one thread.

use std::cell::Cell;

use super::microkernel::{Microkernel, Tile};
use super::panels::{Panels, WIDTH};
use super::split::{SEGMENT, SEGMENT_STEPS};
use super::{Operands, View};
use crate::bf16::widen_words;
use crate::int8::BLOCK_STEPS;
#[cfg(target_arch = "x86_64")]
use crate::matmul::amx;
use crate::simd::{LANES, Line, has_tiles, prefetch_many, second_level_cache};

/// Steps of the inner dimension per pass.
pub(super) const DEPTH: usize = 768;

/// Elements of a strip of rows that are multiplied with all columns of a pass: what tiles read of `A` then stays in the first-level cache,
/// so that `A` needs no packing, even where two threads share it. (Rows that lie side by side are fetched from the second-level one.)
const STRIP: usize = 6 * 768;

/// Cuts the steps of an inner dimension into nearly equal passes of at most [`DEPTH`], of whole blocks.
pub(super) fn pass_depth(steps: usize) -> usize {
    nearly_equal(steps, DEPTH)
}

/// Into parts of at most `most`.
fn nearly_equal(steps: usize, most: usize) -> usize {
    steps.div_ceil(steps.div_ceil(most).max(1)).max(1).next_multiple_of(BLOCK_STEPS)
}

/// Whether products of these operands run in AMX tiles.
fn in_tiles(operands: Operands) -> bool {
    matches!(operands, Operands::Bf16 | Operands::F32InTiles) && has_tiles()
}

/// How much of an inner dimension of `k`, and how many columns of `B`, are packed at once.
pub(super) fn packed_at_once(operands: Operands, k: usize) -> (usize, usize) {
    let steps = operands.steps(k);
    let (depth, steps) = match operands {
        Operands::F32InTiles => (SEGMENT, steps.clamp(1, SEGMENT_STEPS)),
        Operands::Bf16 => {
            let steps = nearly_equal(steps, if in_tiles(operands) { 2 * DEPTH } else { DEPTH });
            (2 * steps, steps)
        }
        _ => (pass_depth(steps), pass_depth(steps)),
    };
    #[cfg(target_arch = "x86_64")]
    if in_tiles(operands) {
        return (depth, amx::PACKED / steps / WIDTH * WIDTH);
    }
    (depth, pass_columns(Microkernel::detect(operands), steps))
}

/// Columns of a pass of `depth` steps, of whole tiles: `B` takes half of the second-level cache, of a core with one thread.
fn pass_columns(kernel: &Microkernel, depth: usize) -> usize {
    let unit = kernel.column_unit();
    let elements = second_level_cache() / 2 / size_of::<f32>();
    (elements / depth / unit).max(1) * unit
}

/// Columns that the tiles of most rows take at once, in whole panels.
pub(super) fn column_unit(operands: Operands) -> usize {
    #[cfg(target_arch = "x86_64")]
    if in_tiles(operands) {
        return WIDTH;
    }
    Microkernel::detect(operands).column_unit()
}

/// Where a product goes: the first element, and the distance between rows.
#[derive(Clone, Copy)]
pub(crate) struct Output {
    pub(crate) data: *mut f32,
    pub(crate) row: usize,
}

// SAFETY: tasks write disjoint elements of one output; each use says which.
unsafe impl Send for Output {}
// SAFETY: as above.
unsafe impl Sync for Output {}

impl Output {
    /// The output from (`row`, `column`) on.
    ///
    /// # Safety
    /// The element exists.
    pub(crate) unsafe fn offset(self, row: usize, column: usize) -> Self {
        // SAFETY: the caller vouches for the element.
        Self { data: unsafe { self.data.add(row * self.row + column) }, row: self.row }
    }
}

/// Part of a packed right operand.
#[derive(Clone, Copy)]
pub(crate) struct Block<'a> {
    pub(crate) panels: &'a Panels,
    /// First column; a multiple of [`WIDTH`].
    pub(crate) first_column: usize,
    pub(crate) columns: usize,
    pub(crate) first_step: usize,
    /// Steps of the inner dimension, as [`Panels`] hold them.
    pub(crate) depth: usize,
}

/// `C[rows, columns] (+)= A B` with the calling thread alone; `a` holds words as the panels do. Every output element is one chain of fused
/// multiply-adds in ascending `k`, from its old value if `accumulate`, else from zero.
///
/// # Safety
/// `a` holds `rows x block.depth` elements; `c` is valid for `rows x block.columns`, and no other thread
/// touches these.
pub(crate) unsafe fn multiply(a: View<'_>, rows: usize, block: Block<'_>, c: Output, accumulate: bool) {
    #[cfg(target_arch = "x86_64")]
    if rows > 0 && block.depth > 0 && in_tiles(block.panels.operands()) {
        // SAFETY: passed on; left operands and panels are padded.
        return unsafe { amx::multiply(a, rows, block, c, accumulate) };
    }
    // Of products in tiles only those without rows or depth are left: there is nothing to multiply.
    let kernel = Microkernel::detect(block.panels.operands().unsplit());
    // SAFETY: passed on.
    unsafe { multiply_with(kernel, a, rows, block.steps(), c, accumulate) }
}

/// Whether tiles may read `columns` of `b` where they lie: f32 in whole panels and whole lines of the cache, which must not all have the same
/// few places in it.
pub(super) fn read_in_place(operands: Operands, b: View<'_>, columns: usize) -> bool {
    let whole = columns.is_multiple_of(WIDTH) && b.inner.is_multiple_of(LANES);
    let lines = whole && b.data.cast::<Line>().is_aligned();
    operands == Operands::F32 && b.outer == 1 && lines && !b.crowded()
}

/// [`multiply`] of `columns x depth` elements of `b` where they lie.
///
/// # Safety
/// As [`multiply`]; [`read_in_place`] holds for `b`.
pub(super) unsafe fn multiply_in_place(
    a: View<'_>,
    rows: usize,
    b: View<'_>,
    shape: [usize; 2],
    c: Output,
    accumulate: bool,
) {
    let kernel = Microkernel::detect(Operands::F32);
    // SAFETY: passed on.
    unsafe { multiply_with(kernel, a, rows, Steps::in_place(b, shape), c, accumulate) }
}

/// Where tiles read a right operand: step after step, with columns side by side.
#[derive(Clone, Copy)]
pub(super) struct Steps {
    operands: Operands,
    data: *const f32,
    /// Words from one step to the next.
    step: usize,
    /// Words from one panel of [`WIDTH`] columns to the next.
    panel: usize,
    columns: usize,
    depth: usize,
}

impl Steps {
    /// Of `b`, for which [`read_in_place`] holds.
    pub(super) fn in_place(b: View<'_>, [columns, depth]: [usize; 2]) -> Self {
        assert!(b.holds(columns, depth));
        debug_assert!(read_in_place(Operands::F32, b, columns));
        Self { operands: Operands::F32, data: b.data, step: b.inner, panel: WIDTH, columns, depth }
    }
}

impl Block<'_> {
    /// Where it lies.
    pub(super) fn steps(&self) -> Steps {
        let Block { panels, first_column, columns, first_step, depth } = *self;
        debug_assert!(
            first_column.is_multiple_of(WIDTH) && first_column + columns <= panels.padded_columns()
        );
        debug_assert!(first_step + depth <= panels.steps());
        let data = panels.panel(first_column / WIDTH, first_step);
        Steps {
            operands: panels.operands(),
            data,
            step: WIDTH,
            panel: panels.stride() * WIDTH,
            columns,
            depth,
        }
    }
}

/// [`multiply`] with chosen tiles.
///
/// # Safety
/// The processor has the instruction set of `kernel`; what `b` was made from is still borrowed; `a` holds `rows x b.depth` elements; `c` is
/// valid for `rows x b.columns`, and no other thread touches these.
pub(super) unsafe fn multiply_with(
    kernel: &Microkernel,
    a: View<'_>,
    rows: usize,
    b: Steps,
    c: Output,
    accumulate: bool,
) {
    debug_assert!(a.inner == 1 || b.operands == Operands::F32);
    if rows == 0 || b.columns == 0 {
        return;
    }
    if b.depth == 0 {
        if !accumulate {
            for row in 0..rows {
                // SAFETY: the caller vouches for the output.
                unsafe { c.data.add(row * c.row).write_bytes(0, b.columns) };
            }
        }
        return;
    }
    let pass_depth = pass_depth(b.depth);
    let pass_columns = pass_columns(kernel, pass_depth);
    let elements = if kernel.widened { 2 } else { 1 };
    let mut widened = if kernel.widened { WIDENED.take() } else { Vec::new() };
    let strips = rows.div_ceil(kernel.rows.len());
    let height = rows.div_ceil(strips);
    for column in (0..b.columns).step_by(pass_columns) {
        for step in (0..b.depth).step_by(pass_depth) {
            let (columns, depth) = (pass_columns.min(b.columns - column), pass_depth.min(b.depth - step));
            let strip_depth = nearly_equal(depth, STRIP / (height * elements));
            for strip in 0..strips {
                // Strips of nearly equal height: 13 rows are 7 and 6, not 12 and 1.
                let (first, end) = (strip * rows / strips, (strip + 1) * rows / strips);
                for at in (step..step + depth).step_by(strip_depth) {
                    // SAFETY: the strip's rows lie in `a` and `c`, the steps in `a` and in `b`.
                    unsafe {
                        let part = Steps {
                            data: b.data.add(column / WIDTH * b.panel + at * b.step),
                            columns,
                            depth: strip_depth.min(step + depth - at),
                            ..b
                        };
                        let (a, c) = (a.offset(first, b.operands.left_word(at)), c.offset(first, column));
                        let rows = end - first;
                        let a = if kernel.widened { widen(a, [rows, part.depth], &mut widened) } else { a };
                        multiply_strip(kernel, a, rows, &part, c, accumulate || at > 0);
                    }
                }
            }
        }
    }
    if kernel.widened {
        WIDENED.set(widened);
    }
}

thread_local! {
    /// A strip of rows in f32; kept, because most products are small.
    static WIDENED: Cell<Vec<f32>> = const { Cell::new(Vec::new()) };
}

/// Rows of words of two bf16 as rows of f32.
fn widen<'w>(a: View<'_>, [rows, depth]: [usize; 2], to: &'w mut Vec<f32>) -> View<'w> {
    let width = 2 * depth;
    if to.len() < rows * width {
        to.resize(rows * width, 0.0);
    }
    for (row, to) in to.chunks_exact_mut(width).take(rows).enumerate() {
        widen_words(a.row(row, depth), to);
    }
    View::new(to, width, 1)
}

/// # Safety
/// As [`multiply_with`], for at most `kernel.rows.len()` rows.
unsafe fn multiply_strip(
    kernel: &Microkernel,
    a: View<'_>,
    rows: usize,
    b: &Steps,
    c: Output,
    accumulate: bool,
) {
    let tiles = kernel.rows[rows - 1];
    let width = kernel.group_width;
    let groups = b.columns.div_ceil(width);
    let mut group = 0;
    while group < groups {
        let column = group * width;
        let rest = b.columns - column;
        let (count, span, function) = if group + tiles.groups <= groups {
            (tiles.groups, tiles.groups * width, tiles.wide)
        } else if rest > width / 2 {
            (1, width, tiles.narrow)
        } else {
            (1, width / 2, tiles.half)
        };
        let valid = rest.min(span);
        // SAFETY: the columns from `column` lie in `c`.
        let corner = unsafe { c.offset(0, column) };
        let mut tile = Tile {
            depth: b.depth,
            a: a.data,
            a_row: a.outer,
            a_step: a.inner,
            b: b.data,
            b_panel: b.panel,
            b_step: b.step,
            group,
            c: corner.data,
            c_row: c.row,
            accumulate,
        };
        if accumulate {
            // The next strip's sums, which its tiles would wait for.
            for row in rows..2 * rows {
                prefetch_many(corner.data.wrapping_add(row * c.row), span / LANES);
            }
        }
        // SAFETY: the tile's operands hold its columns, padded where they are packed; a tile that sticks out of `c` works on a copy.
        unsafe {
            if valid == span {
                function(&tile);
            } else {
                let mut copy = [0f32; EDGE];
                tile.c = copy.as_mut_ptr();
                tile.c_row = span;
                for row in 0..rows {
                    let (inside, outside) = (tile.c.add(row * tile.c_row), corner.data.add(row * c.row));
                    std::ptr::copy_nonoverlapping(outside, inside, valid);
                }
                function(&tile);
                for row in 0..rows {
                    let (inside, outside) = (tile.c.add(row * tile.c_row), corner.data.add(row * c.row));
                    std::ptr::copy_nonoverlapping(inside, outside, valid);
                }
            }
        }
        group += count;
    }
}

/// Elements of the largest tile.
const EDGE: usize = 12 * WIDTH;
