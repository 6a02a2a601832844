//! Products of bf16 in the tile registers of AMX.
//!
//! One instruction multiplies 16 rows of 32 bf16 with 32 rows of 16, more than ten times the rate of `vdpbf16ps`. It adds the 16
//! products of even `k` and those of odd `k` in two chains from zero, then both to the sum: other bits than the chains of
//! the other instruction sets, but as independent of what else is computed. Tiles read `A` in whole steps of 16 words, `B`
//! as [`Panels`](super::Panels) hold it; both are padded with zeros.
//!
//! Every tile that holds something keeps a physical register, and these are few where two threads share a core: with all eight
//! tiles in use, loads and products wait for one another, and take twice as long as with four. So tiles are used sparingly:
//! two for sums, and one for each operand.

use std::arch::asm;

use super::View;
use super::panels::WIDTH;
use super::product::{Block, Output};

/// Words of `A` and steps of `B` that one instruction takes.
pub(crate) const STEPS: usize = 16;

/// Rows of a tile.
const ROWS: usize = 16;

/// Rows of two.
const TWO: usize = 2 * ROWS;

/// Bytes of a step of a panel.
const B_ROW: usize = WIDTH * size_of::<f32>();

/// Steps of the inner dimension per pass: two tiles' rows of `A` then stay in the first-level cache.
const DEPTH: usize = 144;

/// Words of `B` that are gone through for each pair of row tiles: with the sums of these, they stay in the second-level cache.
pub(super) const PACKED: usize = 224 * 1024;

/// Shapes of the eight tile registers: 0 and 1 are sums, 2 rows of `A`, 3 rows of `A` where the second tile has fewer than the first, 4 columns of `B`.
#[repr(C, align(64))]
struct Shapes {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

impl Shapes {
    /// For up to two tiles of rows.
    fn new(rows: usize) -> Self {
        let first = rows.min(ROWS) as u8;
        // One tile of rows has two of columns.
        let second = if rows > ROWS { (rows - ROWS) as u8 } else { first };
        let mut shapes =
            Self { palette: 1, start_row: 0, reserved: [0; 14], row_bytes: [0; 16], rows: [0; 16] };
        shapes.row_bytes[..5].fill(64);
        shapes.rows[..5].copy_from_slice(&[first, second, first, second, 16]);
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
    /// Instructions along the inner dimension.
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
    debug_assert!(a.inner == 1 && block.first_step.is_multiple_of(STEPS));
    let steps = block.depth.next_multiple_of(STEPS);
    debug_assert!(a.holds(rows, steps) && block.first_step + steps <= block.panels.stride());
    let pass_depth = steps.div_ceil(steps.div_ceil(DEPTH)).next_multiple_of(STEPS);
    let block_columns = (PACKED / steps / WIDTH).max(2) * WIDTH;
    let mut shaped = 0;
    for column in (0..block.columns).step_by(block_columns) {
        let columns = column..block.columns.min(column + block_columns);
        for row in (0..rows).step_by(TWO) {
            let count = (rows - row).min(TWO);
            if count != shaped {
                // SAFETY: the caller asked.
                unsafe { Shapes::new(count).load() };
                shaped = count;
            }
            for step in (0..steps).step_by(pass_depth) {
                for column in columns.clone().step_by(WIDTH) {
                    let panel = (block.first_column + column) / WIDTH;
                    // SAFETY: the caller vouches for the operands; the shapes are those of this tile.
                    unsafe {
                        let tile = Tile {
                            a: a.offset(row, step).data,
                            a_row: a.outer * size_of::<f32>(),
                            b: block.panels.panel(panel, block.first_step + step),
                            steps: (steps - step).min(pass_depth) / STEPS,
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
    /// The tile registers have the shapes of `rows` rows; the pointers are valid for them.
    unsafe fn compute(&self, rows: usize) {
        let (half_of_b, half_of_c) =
            (|b: *const f32| b.wrapping_add(WIDTH / 2), |c: *mut f32| c.wrapping_add(WIDTH / 2));
        // SAFETY: passed on; both halves of the panel are 16 columns wide.
        unsafe {
            if rows <= ROWS {
                let columns = Second {
                    operand: half_of_b(self.b),
                    row: B_ROW,
                    step: STEPS * B_ROW,
                    c: half_of_c(self.c),
                };
                return self.compute_wide(&columns);
            }
            for half in [Self { ..*self }, Self { b: half_of_b(self.b), c: half_of_c(self.c), ..*self }] {
                let below = Second {
                    operand: half.a.wrapping_byte_add(ROWS * half.a_row),
                    row: half.a_row,
                    step: STEPS * size_of::<f32>(),
                    c: half.c.wrapping_byte_add(ROWS * half.c_row),
                };
                if rows == TWO { half.compute_even(&below) } else { half.compute_uneven(&below) }
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

/// What the second of two sums is made of, beside what it shares with the first: rows of `A`, or columns of `B`.
struct Second {
    operand: *const f32,
    /// Bytes from one of its rows to the next, and to the next instruction's.
    row: usize,
    step: usize,
    c: *mut f32,
}

/// Computes two sums: register 0 from the rows in 2 and the columns in 4, and 1 from the rows in `$left` and the columns in 4, once the second operand is
/// loaded into `$second`.
macro_rules! compute {
    ($name:ident, $second:ident, $left:ident) => {
        impl Tile {
            /// # Safety
            /// As [`Self::compute`].
            unsafe fn $name(&self, second: &Second) {
                // SAFETY: passed on.
                unsafe {
                    asm!(
                        "tilezero tmm0",
                        "tilezero tmm1",
                        "test {accumulate:e}, {accumulate:e}",
                        "jz 2f",
                        "tileloadd tmm0, [{c} + {c_row}*1]",
                        "tileloadd tmm1, [{second_c} + {c_row}*1]",
                        "2:",
                        "tileloadd tmm4, [{b} + {b_row}*1]",
                        "tileloadd tmm2, [{a} + {a_row}*1]",
                        "tdpbf16ps tmm0, tmm2, tmm4",
                        concat!("tileloadd ", stringify!($second), ", [{second} + {second_row}*1]"),
                        concat!("tdpbf16ps tmm1, ", stringify!($left), ", tmm4"),
                        "add {a}, 64",
                        "add {b}, 2048",
                        "add {second}, {second_step}",
                        "dec {steps}",
                        "jnz 2b",
                        "tilestored [{c} + {c_row}*1], tmm0",
                        "tilestored [{second_c} + {c_row}*1], tmm1",
                        accumulate = in(reg) u32::from(self.accumulate),
                        a = inout(reg) self.a => _,
                        a_row = in(reg) self.a_row,
                        b = inout(reg) self.b => _,
                        b_row = in(reg) B_ROW,
                        second = inout(reg) second.operand => _,
                        second_row = in(reg) second.row,
                        second_step = in(reg) second.step,
                        steps = inout(reg) self.steps => _,
                        c = in(reg) self.c,
                        second_c = in(reg) second.c,
                        c_row = in(reg) self.c_row,
                        out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _, out("tmm4") _,
                        options(nostack)
                    );
                }
            }
        }
    };
}

// One tile of rows with both halves of a panel.
compute!(compute_wide, tmm4, tmm2);
// Two tiles of rows, full ones, and a second one with fewer rows than the first: both operands of a product have as many.
compute!(compute_even, tmm2, tmm2);
compute!(compute_uneven, tmm3, tmm3);
