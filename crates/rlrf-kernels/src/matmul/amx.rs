//! Products of bf16, and of f32 split into three ([`split`](super::split)), in the tile registers of AMX.
//!
//! One instruction multiplies 16 rows of 32 bf16 with 32 rows of 16, more than ten times the rate of `vdpbf16ps`. It adds the 16
//! products of even `k` and those of odd `k` in two chains from zero, then both to the sum: other bits than the chains of
//! the other instruction sets, but as independent of what else is computed. Tiles read `A` in whole steps of 16 words, `B`
//! as [`Panels`](super::Panels) hold it; both are padded with zeros.
//!
//! Every tile that holds something keeps a physical register, and these are few where two threads share a core: with all eight
//! tiles in use, loads and products wait for one another. So three are used: a sum, and one for each operand. What the loads read
//! again is in the first-level cache.

use std::arch::asm;

use super::panels::WIDTH;
use super::product::{Block, Output};
use super::split::PLANES;
use super::{Operands, View};

/// Words of `A` and steps of `B` that one instruction takes.
const STEPS: usize = 16;

/// Steps of all planes that are gone through at once.
pub(super) fn unit(operands: Operands) -> usize {
    if operands == Operands::F32InTiles { PLANES * STEPS } else { STEPS }
}

/// Rows of a tile.
const ROWS: usize = 16;

/// Rows of two.
const TWO: usize = 2 * ROWS;

/// Bytes from one row of a tile of `B` to the next.
const B_ROW: usize = WIDTH * size_of::<f32>();

/// Bytes from one tile of `A` to the next along the inner dimension.
const A_STEP: usize = STEPS * size_of::<f32>();

/// The same of `B`.
const B_STEP: usize = STEPS * B_ROW;

/// Steps of the inner dimension per pass: two tiles' rows of `A` then stay in the first-level cache.
const DEPTH: usize = 144;

/// Words of `B` that are gone through for each pair of row tiles: with the sums of these, they stay in the second-level cache.
pub(super) const PACKED: usize = 224 * 1024;

/// Shapes of the eight tile registers: 0 is a sum, 1 rows of `A`, 2 columns of `B`; 3 and 4 are sum and rows of tiles with fewer rows.
#[repr(C, align(64))]
struct Shapes {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

impl Shapes {
    /// For tiles of 16 rows, and of what `rows` leaves.
    fn new(rows: usize) -> Self {
        let rest = if rows.is_multiple_of(ROWS) { ROWS } else { rows % ROWS } as u8;
        let mut shapes =
            Self { palette: 1, start_row: 0, reserved: [0; 14], row_bytes: [0; 16], rows: [0; 16] };
        shapes.row_bytes[..5].fill(64);
        shapes.rows[..5].copy_from_slice(&[16, 16, 16, rest, rest]);
        shapes
    }

    /// # Safety
    /// [`has_bf16_tiles`](crate::simd::has_bf16_tiles) said so.
    unsafe fn load(&self) {
        // SAFETY: the caller asked; the shapes are valid.
        unsafe { asm!("ldtilecfg [{}]", in(reg) self, options(nostack, readonly)) };
    }
}

/// Up to 32 rows of one panel.
struct Tile {
    a: *const f32,
    /// Bytes from one row of `A` to the next.
    a_row: usize,
    b: *const f32,
    /// Whether operands are f32 in three planes.
    split: bool,
    /// Instructions along the inner dimension of a plane.
    steps: usize,
    c: *mut f32,
    /// Bytes from one row of `C` to the next.
    c_row: usize,
    accumulate: bool,
}

/// As [`super::product::multiply`].
///
/// # Safety
/// [`has_bf16_tiles`](crate::simd::has_bf16_tiles) said so; `a` holds `rows` rows of `block.depth` words padded to whole [`STEPS`] with zeros, side by side;
/// `c` is valid for `rows x block.columns`, and no other thread touches these.
pub(super) unsafe fn multiply(a: View<'_>, rows: usize, block: Block<'_>, c: Output, accumulate: bool) {
    let split = block.panels.operands() == Operands::F32InTiles;
    let unit = unit(block.panels.operands());
    debug_assert!(a.inner == 1 && block.first_step.is_multiple_of(unit));
    let steps = block.depth.next_multiple_of(unit);
    debug_assert!(a.holds(rows, steps) && block.first_step + steps <= block.panels.stride());
    let pass_depth = steps.div_ceil(steps.div_ceil(DEPTH)).next_multiple_of(unit);
    let block_columns = (PACKED / steps / WIDTH).max(2) * WIDTH;
    // SAFETY: the caller asked.
    unsafe { Shapes::new(rows).load() };
    for column in (0..block.columns).step_by(block_columns) {
        let columns = column..block.columns.min(column + block_columns);
        for row in (0..rows).step_by(TWO) {
            let count = (rows - row).min(TWO);
            for step in (0..steps).step_by(pass_depth) {
                for column in columns.clone().step_by(WIDTH) {
                    let panel = (block.first_column + column) / WIDTH;
                    // SAFETY: the caller vouches for the operands; the shapes are those of this tile.
                    unsafe {
                        let tile = Tile {
                            a: a.offset(row, step).data,
                            a_row: a.outer * size_of::<f32>(),
                            b: block.panels.panel(panel, block.first_step + step),
                            split,
                            steps: (steps - step).min(pass_depth) / unit,
                            c: c.offset(row, column).data,
                            c_row: c.row * size_of::<f32>(),
                            accumulate: accumulate || step > 0,
                        };
                        match columns.end - column {
                            WIDTH.. => tile.compute(count),
                            columns => tile.compute_beside(count, columns),
                        }
                    }
                }
            }
        }
    }
    // SAFETY: nothing is left in the tiles.
    unsafe { asm!("tilerelease", options(nostack, nomem)) };
}

impl Tile {
    /// # Safety
    /// Tiles of fewer rows than 16 have as many as `rows` leaves beyond whole tiles; the pointers are valid for all rows.
    unsafe fn compute(&self, rows: usize) {
        for half in [0, WIDTH / 2] {
            for row in (0..rows).step_by(ROWS) {
                let tile = Self {
                    a: self.a.wrapping_byte_add(row * self.a_row),
                    b: self.b.wrapping_add(half),
                    c: self.c.wrapping_byte_add(row * self.c_row).wrapping_add(half),
                    ..*self
                };
                // SAFETY: passed on; both halves of the panel are 16 columns wide.
                unsafe {
                    match (self.split, rows - row) {
                        (false, ROWS..) => tile.compute_whole(),
                        (false, _) => tile.compute_rest(),
                        (true, ROWS..) => tile.compute_whole_split(),
                        (true, _) => tile.compute_rest_split(),
                    }
                }
            }
        }
    }

    /// [`Self::compute`] where `C` has fewer columns than the panel.
    ///
    /// # Safety
    /// As [`Self::compute`].
    #[cold]
    unsafe fn compute_beside(&self, rows: usize, columns: usize) {
        let mut copy = [0f32; TWO * WIDTH];
        let inside = copy.as_mut_ptr();
        // SAFETY: the copy holds the rows, `C` those columns of them.
        unsafe {
            let outside = |row: usize| self.c.byte_add(row * self.c_row);
            if self.accumulate {
                for row in 0..rows {
                    std::ptr::copy_nonoverlapping(outside(row), inside.add(row * WIDTH), columns);
                }
            }
            Self { c: inside, c_row: WIDTH * size_of::<f32>(), ..*self }.compute(rows);
            for row in 0..rows {
                std::ptr::copy_nonoverlapping(inside.add(row * WIDTH), outside(row), columns);
            }
        }
    }
}

/// Computes 16 columns of up to 16 rows, in these registers.
macro_rules! compute {
    ($name:ident, $planes:expr, $sum:literal, $($instruction:expr),* $(,)?) => {
        impl Tile {
            /// # Safety
            /// As [`Self::compute`].
            unsafe fn $name(&self) {
                // SAFETY: passed on.
                unsafe {
                    asm!(
                        concat!("tilezero ", $sum),
                        "test {accumulate:e}, {accumulate:e}",
                        "jz 2f",
                        concat!("tileloadd ", $sum, ", [{c} + {c_row}*1]"),
                        "2:",
                        $($instruction,)*
                        "add {a}, {a_step}",
                        "add {b}, {b_step}",
                        "dec {steps}",
                        "jnz 2b",
                        concat!("tilestored [{c} + {c_row}*1], ", $sum),
                        accumulate = in(reg) u32::from(self.accumulate),
                        a = inout(reg) self.a => _,
                        a_row = in(reg) self.a_row,
                        a_step = const $planes * A_STEP,
                        b = inout(reg) self.b => _,
                        b_row = in(reg) B_ROW,
                        b_step = const $planes * B_STEP,
                        steps = inout(reg) self.steps => _,
                        c = in(reg) self.c,
                        c_row = in(reg) self.c_row,
                        out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _, out("tmm4") _,
                        options(nostack)
                    );
                }
            }
        }
    };
}

/// Loads a plane of rows of `A` from so many bytes behind `a`.
macro_rules! load_a {
    ($rows:literal, $bytes:literal) => {
        concat!("tileloadd ", $rows, ", [{a} + {a_row}*1 + ", $bytes, "]")
    };
}

/// The same of columns of `B`.
macro_rules! load_b {
    ($bytes:literal) => {
        concat!("tileloadd tmm2, [{b} + {b_row}*1 + ", $bytes, "]")
    };
}

/// Adds to the sum.
macro_rules! add {
    ($sum:literal, $rows:literal) => {
        concat!("tdpbf16ps ", $sum, ", ", $rows, ", tmm2")
    };
}

/// Products of bf16.
macro_rules! products {
    ($name:ident, $sum:literal, $rows:literal) => {
        compute!($name, 1, $sum, load_a!($rows, 0), load_b!(0), add!($sum, $rows));
    };
}

/// Products of f32, which add those of the planes of `A` and `B` 0 2, 0 1, 1 1, 1 0, 0 0 and 2 0.
macro_rules! split_products {
    ($name:ident, $sum:literal, $rows:literal) => {
        compute!(
            $name,
            PLANES,
            $sum,
            load_a!($rows, 0),
            load_b!(4096),
            add!($sum, $rows),
            load_b!(2048),
            add!($sum, $rows),
            load_a!($rows, 64),
            add!($sum, $rows),
            load_b!(0),
            add!($sum, $rows),
            load_a!($rows, 0),
            add!($sum, $rows),
            load_a!($rows, 128),
            add!($sum, $rows),
        );
    };
}

products!(compute_whole, "tmm0", "tmm1");
products!(compute_rest, "tmm3", "tmm4");
split_products!(compute_whole_split, "tmm0", "tmm1");
split_products!(compute_rest_split, "tmm3", "tmm4");
