//! Products of bf16, and of f32 split into bytes ([`split`](super::split)), in the tile registers of AMX.
//!
//! One instruction multiplies 16 rows of 32 bf16 with 32 rows of 16, more than ten times the rate of `vdpbf16ps`. It adds the 16
//! products of even `k` and those of odd `k` in two chains from zero, then both to the sum: other bits than the chains of
//! the other instruction sets, but as independent of what else is computed. Of bytes it takes twice as many, and adds them exactly. Tiles read `A` in whole
//! steps of 16 words, `B` as [`Panels`](super::Panels) hold it; both are padded with zeros.
//!
//! Every tile that holds something keeps a physical register, and these are few where two threads share a core: with all eight
//! tiles in use, loads and products wait for one another. So as few are used as do: a sum (of f32 three, one for each power of the base), and one for each operand. What
//! the loads read again is in the first-level cache.

use std::arch::asm;
use std::ops::Range;

use super::panels::WIDTH;
use super::product::{Block, Output};
use super::split::{GROUP_STEPS, SEGMENT_STEPS};
use super::{Operands, View};
use crate::simd::{LANES, prefetch_many};

/// Words of `A` and steps of `B` that one instruction takes.
const STEPS: usize = 16;

/// Rows of a tile.
const ROWS: usize = 16;

/// Rows of two.
const TWO: usize = 2 * ROWS;

/// Bytes from one row of a tile of `B` in bf16 to the next.
const B_ROW: usize = WIDTH * size_of::<f32>();

/// Bytes from one tile of `A` to the next along the inner dimension.
const A_STEP: usize = STEPS * size_of::<f32>();

/// The same of `B`.
const B_STEP: usize = STEPS * B_ROW;

/// Steps of the inner dimension per pass in bf16: two tiles' rows of `A` then stay in the first-level cache.
const DEPTH: usize = 144;

/// Words of `B` that are gone through for each pair of row tiles, or in f32 each one: with the sums of these, they stay in the second-level cache.
pub(super) const PACKED: usize = 224 * 1024;

/// Shapes of the eight tile registers: 0 is a sum, 1 rows of `A`, 2 columns of `B`. In bf16, 3 and 4 are sum and rows of tiles with fewer rows; in f32,
/// they are the other sums.
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
    fn of_bf16(rows: usize) -> Self {
        let rest = if rows.is_multiple_of(ROWS) { ROWS } else { rows % ROWS } as u8;
        Self::new([16, 16, 16, rest, rest])
    }

    /// For tiles of 16 rows, or of `rows` if these are fewer.
    fn of_bytes(rows: usize) -> Self {
        let rows = rows.min(ROWS) as u8;
        Self::new([rows, rows, 16, rows, rows])
    }

    fn new(rows: [u8; 5]) -> Self {
        let mut shapes =
            Self { palette: 1, start_row: 0, reserved: [0; 14], row_bytes: [0; 16], rows: [0; 16] };
        shapes.row_bytes[..5].fill(64);
        shapes.rows[..5].copy_from_slice(&rows);
        shapes
    }

    /// # Safety
    /// [`has_tiles`](crate::simd::has_tiles) said so.
    unsafe fn load(&self) {
        // SAFETY: the caller asked; the shapes are valid.
        unsafe { asm!("ldtilecfg [{}]", in(reg) self, options(nostack, readonly)) };
    }
}

/// Up to 32 rows of one panel; of f32, 16 of half a panel.
struct Tile {
    a: *const f32,
    /// Bytes from one row of `A` to the next.
    a_row: usize,
    b: *const f32,
    /// Instructions along the inner dimension; in f32, groups.
    steps: usize,
    c: *mut f32,
    /// Bytes from one row of `C` to the next.
    c_row: usize,
    accumulate: bool,
}

/// As [`super::product::multiply`].
///
/// # Safety
/// [`has_tiles`](crate::simd::has_tiles) said so; `a` holds `rows` rows of `block.depth` words side by side, in bf16 padded to whole [`STEPS`] with zeros, in f32 as
/// [`split`](super::split) writes them; `c` is valid for `rows x block.columns`, and no other thread touches these.
pub(super) unsafe fn multiply(a: View<'_>, rows: usize, block: Block<'_>, c: Output, accumulate: bool) {
    let steps = block.depth.next_multiple_of(STEPS);
    debug_assert!(a.inner == 1 && a.holds(rows, steps) && block.first_step + steps <= block.panels.stride());
    let block_columns = (PACKED / steps / WIDTH).max(2) * WIDTH;
    let bytes = block.panels.operands() == Operands::F32InTiles;
    // SAFETY: the caller asked.
    unsafe { if bytes { Shapes::of_bytes(rows) } else { Shapes::of_bf16(rows) }.load() };
    for column in (0..block.columns).step_by(block_columns) {
        let columns = column..block.columns.min(column + block_columns);
        // SAFETY: passed on; the shapes are those of these operands.
        unsafe {
            match bytes {
                true => multiply_bytes(a, rows, block, columns, c, accumulate),
                false => multiply_bf16(a, rows, block, columns, c, accumulate),
            }
        }
    }
    // SAFETY: nothing is left in the tiles.
    unsafe { asm!("tilerelease", options(nostack, nomem)) };
}

/// Some columns of a product of bf16.
///
/// # Safety
/// As [`multiply`], which loaded the shapes.
unsafe fn multiply_bf16(
    a: View<'_>,
    rows: usize,
    block: Block<'_>,
    columns: Range<usize>,
    c: Output,
    accumulate: bool,
) {
    debug_assert!(block.first_step.is_multiple_of(STEPS));
    let steps = block.depth.next_multiple_of(STEPS);
    let pass_depth = steps.div_ceil(steps.div_ceil(DEPTH)).next_multiple_of(STEPS);
    for row in (0..rows).step_by(TWO) {
        let count = (rows - row).min(TWO);
        for step in (0..steps).step_by(pass_depth) {
            let depth = (steps - step).min(pass_depth);
            for column in columns.clone().step_by(WIDTH) {
                let panel = (block.first_column + column) / WIDTH;
                let b = |panel: usize| block.panels.panel(panel, block.first_step + step);
                if waits(rows) && column + WIDTH < columns.end {
                    prefetch_many(b(panel + 1), depth * (WIDTH / LANES));
                }
                // SAFETY: the caller vouches for the operands; the shapes are those of this tile.
                unsafe {
                    let (a, c) = (a.offset(row, step), c.offset(row, column));
                    let tile = Tile::new(a, b(panel), depth / STEPS, c, accumulate || step > 0);
                    match columns.end - column {
                        WIDTH.. => tile.compute(count),
                        columns => tile.compute_beside(count, columns),
                    }
                }
            }
        }
    }
}

/// Some columns of a product of f32.
///
/// # Safety
/// As [`multiply_bf16`].
unsafe fn multiply_bytes(
    a: View<'_>,
    rows: usize,
    block: Block<'_>,
    columns: Range<usize>,
    c: Output,
    accumulate: bool,
) {
    debug_assert!(block.first_step.is_multiple_of(SEGMENT_STEPS));
    for row in (0..rows).step_by(ROWS) {
        for step in (0..block.depth).step_by(SEGMENT_STEPS) {
            let depth = (block.depth - step).min(SEGMENT_STEPS);
            for column in columns.clone().step_by(LANES) {
                let strip = (block.first_column + column) / LANES;
                let b = |strip: usize| block.panels.strip(strip, block.first_step + step);
                if row == 0 && waits(rows) && column + LANES < columns.end {
                    prefetch_many(b(strip + 1), depth);
                }
                // SAFETY: the caller vouches for the operands; in `A` the rows above the tile are at hand.
                unsafe {
                    let (a, c) = (a.offset(row, step), c.offset(row, column));
                    let tile = Tile::new(a, b(strip), depth / GROUP_STEPS, c, accumulate || step > 0);
                    tile.compute_bytes(row, (rows - row).min(ROWS), (columns.end - column).min(LANES));
                }
            }
        }
    }
}

/// Whether so few rows wait for their weights more than they compute. A single one is faster without asking beforehand.
fn waits(rows: usize) -> bool {
    (2..=TWO).contains(&rows)
}

impl Tile {
    /// With the operands and `C` from its first element on.
    fn new(a: View<'_>, b: *const f32, steps: usize, c: Output, accumulate: bool) -> Self {
        let [a_row, c_row] = [a.outer, c.row].map(|row| row * size_of::<f32>());
        Self { a: a.data, a_row, b, steps, c: c.data, c_row, accumulate }
    }

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
                    match rows - row {
                        ROWS.. => tile.compute_whole(),
                        _ => tile.compute_rest(),
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

/// Loads rows of `A` from so many bytes behind `a`.
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

/// Three sums of a tile, as the loads and stores of tiles take them.
#[repr(C, align(64))]
struct Sums([[[i32; LANES]; ROWS]; 3]);

impl Tile {
    /// One segment of products of f32, of up to 16 rows and columns. Where `before` rows come before fewer than 16, as many are computed again as make 16, and left as they are.
    ///
    /// # Safety
    /// The pointers are valid for `rows` rows, `a` for `before` rows before them, too; both operands have a line of scales behind `steps` groups; tiles of sums
    /// and of `A` have `before + rows` rows, 16 at most.
    unsafe fn compute_bytes(&self, before: usize, rows: usize, columns: usize) {
        let again = (ROWS - rows).min(before);
        let mut sums = std::mem::MaybeUninit::<Sums>::uninit();
        // SAFETY: passed on; the tiles store `again + rows` lines of each sum.
        unsafe {
            self.add_digits(self.a.byte_sub(again * self.a_row), sums.as_mut_ptr());
            self.add_sums(sums.as_ptr(), again, rows, columns);
        }
    }

    /// Products of digits: of the first ones; of first and second; of first and third, and second ones.
    ///
    /// # Safety
    /// As [`Self::compute_bytes`].
    unsafe fn add_digits(&self, a: *const f32, sums: *mut Sums) {
        // SAFETY: passed on.
        unsafe {
            asm!(
                "tilezero tmm0",
                "tilezero tmm3",
                "tilezero tmm4",
                "2:",
                load_a!("tmm1", 0),
                load_b!(2048),
                "tdpbssd tmm4, tmm1, tmm2",
                load_b!(1024),
                "tdpbssd tmm3, tmm1, tmm2",
                load_a!("tmm1", 64),
                "tdpbssd tmm4, tmm1, tmm2",
                load_b!(0),
                "tdpbssd tmm3, tmm1, tmm2",
                load_a!("tmm1", 0),
                "tdpbssd tmm0, tmm1, tmm2",
                load_a!("tmm1", 128),
                "tdpbssd tmm4, tmm1, tmm2",
                "add {a}, {a_step}",
                "add {b}, {b_step}",
                "dec {steps}",
                "jnz 2b",
                "tilestored [{sums} + {sums_row}*1], tmm0",
                "tilestored [{sums} + {sums_row}*1 + 1024], tmm3",
                "tilestored [{sums} + {sums_row}*1 + 2048], tmm4",
                a = inout(reg) a => _,
                a_row = in(reg) self.a_row,
                a_step = const 3 * A_STEP,
                b = inout(reg) self.b => _,
                b_row = in(reg) size_of::<[f32; LANES]>(),
                b_step = const 3 * STEPS * size_of::<[f32; LANES]>(),
                steps = inout(reg) self.steps => _,
                sums = in(reg) sums,
                sums_row = in(reg) size_of::<[i32; LANES]>(),
                out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _, out("tmm4") _,
                options(nostack)
            );
        }
    }

    /// Adds the sums to `C`, those from row `first` on, with the scales behind the words of `A` and `B`.
    ///
    /// # Safety
    /// As [`Self::compute_bytes`]; of each sum, `first + rows` lines were stored.
    #[target_feature(enable = "avx512f")]
    unsafe fn add_sums(&self, sums: *const Sums, first: usize, rows: usize, columns: usize) {
        use std::arch::x86_64::*;

        let mask = u16::MAX >> (LANES - columns);
        // SAFETY: both operands have a line of scales; masked elements are neither read nor written; lines of sums are aligned.
        unsafe {
            let of_b = _mm512_loadu_ps(self.b.add(self.steps * GROUP_STEPS * LANES));
            for row in 0..rows {
                let load = |sum: usize| {
                    _mm512_cvtepi32_ps(_mm512_load_si512((&raw const (*sums).0[sum][first + row]).cast()))
                };
                let of_a = *self.a.byte_add(row * self.a_row).add(self.steps * GROUP_STEPS);
                let small = _mm512_mul_ps(load(2), _mm512_set1_ps(1.0 / 65_536.0));
                let sum =
                    _mm512_add_ps(load(0), _mm512_fmadd_ps(load(1), _mm512_set1_ps(1.0 / 256.0), small));
                let scale = _mm512_mul_ps(of_b, _mm512_set1_ps(of_a));
                let c = self.c.byte_add(row * self.c_row);
                let old = if self.accumulate { _mm512_maskz_loadu_ps(mask, c) } else { _mm512_setzero_ps() };
                _mm512_mask_storeu_ps(c, mask, _mm512_fmadd_ps(sum, scale, old));
            }
        }
    }
}

/// Products of bf16: computes 16 columns of up to 16 rows, in these registers.
macro_rules! compute {
    ($name:ident, $sum:literal, $rows:literal) => {
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
                        load_a!($rows, 0),
                        load_b!(0),
                        concat!("tdpbf16ps ", $sum, ", ", $rows, ", tmm2"),
                        "add {a}, {a_step}",
                        "add {b}, {b_step}",
                        "dec {steps}",
                        "jnz 2b",
                        concat!("tilestored [{c} + {c_row}*1], ", $sum),
                        accumulate = in(reg) u32::from(self.accumulate),
                        a = inout(reg) self.a => _,
                        a_row = in(reg) self.a_row,
                        a_step = const A_STEP,
                        b = inout(reg) self.b => _,
                        b_row = in(reg) B_ROW,
                        b_step = const B_STEP,
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

compute!(compute_whole, "tmm0", "tmm1");
compute!(compute_rest, "tmm3", "tmm4");
