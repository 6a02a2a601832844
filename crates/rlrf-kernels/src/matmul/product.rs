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
use crate::simd::has_tiles;

/// Steps of the inner dimension per pass.
pub(super) const DEPTH: usize = 768;

/// Elements of a strip of rows that are multiplied with all columns of a pass: what tiles read of `A` then stays in the first-level cache,
/// so that `A` needs no packing, even where two threads share it.
const STRIP: usize = 6 * 768;

/// Elements of `B` per pass, about: two threads' share of a second-level cache.
const PACKED: usize = 128 * 1024;

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

/// Columns of a pass of `depth` steps, of whole tiles.
fn pass_columns(kernel: &Microkernel, depth: usize) -> usize {
    let unit = kernel.column_unit();
    (PACKED / depth / unit).max(1) * unit
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
    unsafe { multiply_with(kernel, a, rows, block, c, accumulate) }
}

/// [`multiply`] with chosen tiles.
///
/// # Safety
/// As [`multiply`]; the processor has the instruction set of `kernel`.
pub(super) unsafe fn multiply_with(
    kernel: &Microkernel,
    a: View<'_>,
    rows: usize,
    block: Block<'_>,
    c: Output,
    accumulate: bool,
) {
    debug_assert!(a.inner == 1 && block.first_column.is_multiple_of(WIDTH));
    debug_assert!(block.first_column + block.columns <= block.panels.padded_columns());
    debug_assert!(block.first_step + block.depth <= block.panels.steps());
    if rows == 0 || block.columns == 0 {
        return;
    }
    if block.depth == 0 {
        if !accumulate {
            for row in 0..rows {
                // SAFETY: the caller vouches for the output.
                unsafe { c.data.add(row * c.row).write_bytes(0, block.columns) };
            }
        }
        return;
    }
    let pass_depth = pass_depth(block.depth);
    let pass_columns = pass_columns(kernel, pass_depth);
    let elements = if kernel.widened { 2 } else { 1 };
    let mut widened = if kernel.widened { WIDENED.take() } else { Vec::new() };
    let strips = rows.div_ceil(kernel.rows.len());
    let height = rows.div_ceil(strips);
    for column in (0..block.columns).step_by(pass_columns) {
        for step in (0..block.depth).step_by(pass_depth) {
            let pass = Pass {
                b: block.panels.panel((block.first_column + column) / WIDTH, block.first_step + step),
                b_panel: block.panels.stride(),
                columns: pass_columns.min(block.columns - column),
                depth: pass_depth.min(block.depth - step),
                accumulate: accumulate || step > 0,
            };
            let strip_depth = nearly_equal(pass.depth, STRIP / (height * elements));
            for strip in 0..strips {
                // Strips of nearly equal height: 13 rows are 7 and 6, not 12 and 1.
                let (first, end) = (strip * rows / strips, (strip + 1) * rows / strips);
                for at in (0..pass.depth).step_by(strip_depth) {
                    // SAFETY: the strip's rows lie in `a` and `c`, the steps in `a` and in the panels.
                    unsafe {
                        let part = Pass {
                            b: pass.b.add(at * WIDTH),
                            depth: strip_depth.min(pass.depth - at),
                            accumulate: pass.accumulate || at > 0,
                            ..pass
                        };
                        let left_step = block.panels.operands().left_word(step + at);
                        let (a, c) = (a.offset(first, left_step), c.offset(first, column));
                        let rows = end - first;
                        let a = if kernel.widened { widen(a, [rows, part.depth], &mut widened) } else { a };
                        multiply_strip(kernel, &part, a, rows, c);
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

/// The right operand of one pass over the inner dimension.
struct Pass {
    b: *const f32,
    b_panel: usize,
    columns: usize,
    depth: usize,
    accumulate: bool,
}

/// # Safety
/// As [`multiply_with`], for at most `kernel.rows.len()` rows.
unsafe fn multiply_strip(kernel: &Microkernel, pass: &Pass, a: View<'_>, rows: usize, c: Output) {
    let tiles = kernel.rows[rows - 1];
    let width = kernel.group_width;
    let groups = pass.columns.div_ceil(width);
    let mut group = 0;
    while group < groups {
        let column = group * width;
        let rest = pass.columns - column;
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
            depth: pass.depth,
            a: a.data,
            a_row: a.outer,
            b: pass.b,
            b_panel: pass.b_panel,
            group,
            c: corner.data,
            c_row: c.row,
            accumulate: pass.accumulate,
        };
        // SAFETY: the tile's operands are packed; a tile that sticks out of `c` works on a copy.
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
