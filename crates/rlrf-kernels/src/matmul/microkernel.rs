//! Register tiles: a few rows of `A` times a few groups of packed columns of `B`.

use super::panels::WIDTH;
use crate::simd::InstructionSet;

/// One SIMD register of f32.
///
/// # Safety
/// The methods may only run where the processor has the register's instruction set.
trait Register: Copy {
    const LANES: usize;
    unsafe fn splat(value: f32) -> Self;
    unsafe fn load(from: *const f32) -> Self;
    unsafe fn store(self, to: *mut f32);
    /// `self * factor + addend`, rounded once.
    unsafe fn mul_add(self, factor: Self, addend: Self) -> Self;
}

/// What one tile computes: `C (+)= A B` over `depth` steps.
pub(super) struct Tile {
    /// Steps of the inner dimension.
    pub(super) depth: usize,
    /// Rows are `a_row` apart, and steps `a_step`.
    pub(super) a: *const f32,
    pub(super) a_row: usize,
    pub(super) a_step: usize,
    /// Panels of `WIDTH` columns, step after step; `b_panel` elements from one panel to the next.
    pub(super) b: *const f32,
    pub(super) b_panel: usize,
    /// First column group of the tile, counted from `b`.
    pub(super) group: usize,
    /// First element of the output tile, and the distance between its rows.
    pub(super) c: *mut f32,
    pub(super) c_row: usize,
    /// Whether the chains of additions go on from what `c` holds, or start at zero.
    pub(super) accumulate: bool,
}

/// A compiled tile.
pub(super) type TileFunction = unsafe fn(&Tile);

/// Tiles of one number of rows: `groups` column groups at once, and one alone.
#[derive(Clone, Copy)]
pub(super) struct TileRow {
    pub(super) groups: usize,
    pub(super) wide: TileFunction,
    pub(super) narrow: TileFunction,
}

/// The tiles of one instruction set.
pub(super) struct Microkernel {
    /// Columns of a group: two registers.
    pub(super) group_width: usize,
    /// Tiles of 1, 2, ... rows.
    pub(super) rows: &'static [TileRow],
}

impl Microkernel {
    /// The tiles for this processor.
    pub(super) fn detect() -> &'static Self {
        Self::of(InstructionSet::detect())
    }

    /// The tiles of an instruction set.
    pub(super) fn of(instructions: InstructionSet) -> &'static Self {
        match instructions {
            #[cfg(target_arch = "x86_64")]
            InstructionSet::Avx512 => &x86::AVX512,
            #[cfg(target_arch = "x86_64")]
            InstructionSet::Avx2 => &x86::AVX2,
            InstructionSet::Portable => &PORTABLE,
        }
    }
}

/// Computes a tile of `R` rows and `G` column groups, all in registers if there are enough.
///
/// # Safety
/// The processor has the instruction set of `V`, and the pointers of `tile` are valid for its shape.
#[inline(always)]
#[expect(clippy::needless_range_loop, reason = "the indices are what the compiler unrolls into registers")]
unsafe fn compute<V: Register, const R: usize, const G: usize>(tile: &Tile) {
    // SAFETY: the caller vouches for the pointers and for the instruction set.
    unsafe {
        let groups_per_panel = WIDTH / (2 * V::LANES);
        let mut sums = [[[V::splat(0.0); 2]; G]; R];
        let c_at = |r: usize, g: usize, h: usize| r * tile.c_row + (2 * g + h) * V::LANES;
        if tile.accumulate {
            for r in 0..R {
                for g in 0..G {
                    for h in 0..2 {
                        sums[r][g][h] = V::load(tile.c.add(c_at(r, g, h)));
                    }
                }
            }
        }
        let b: [*const f32; G] = std::array::from_fn(|g| {
            let group = tile.group + g;
            tile.b.add(group / groups_per_panel * tile.b_panel + group % groups_per_panel * 2 * V::LANES)
        });
        let mut a = tile.a;
        for step in 0..tile.depth {
            let columns: [[V; 2]; G] = std::array::from_fn(|g| {
                std::array::from_fn(|h| V::load(b[g].add(step * WIDTH + h * V::LANES)))
            });
            for r in 0..R {
                let factor = V::splat(*a.add(r * tile.a_row));
                for g in 0..G {
                    for h in 0..2 {
                        sums[r][g][h] = factor.mul_add(columns[g][h], sums[r][g][h]);
                    }
                }
            }
            a = a.add(tile.a_step);
        }
        for r in 0..R {
            for g in 0..G {
                for h in 0..2 {
                    sums[r][g][h].store(tile.c.add(c_at(r, g, h)));
                }
            }
        }
    }
}

/// Lists the tiles of 1, 2, ... rows, given how many groups each takes at once.
macro_rules! tile_rows {
    ($function:ident: $($rows:literal x $groups:literal),*) => {
        &[$(TileRow { groups: $groups, wide: $function::<$rows, $groups>, narrow: $function::<$rows, 1> }),*]
    };
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::{Microkernel, Register, Tile, TileRow, compute};

    impl Register for __m512 {
        const LANES: usize = 16;
        #[inline(always)]
        unsafe fn splat(value: f32) -> Self {
            // SAFETY: see the trait.
            unsafe { _mm512_set1_ps(value) }
        }
        #[inline(always)]
        unsafe fn load(from: *const f32) -> Self {
            // SAFETY: see the trait.
            unsafe { _mm512_loadu_ps(from) }
        }
        #[inline(always)]
        unsafe fn store(self, to: *mut f32) {
            // SAFETY: see the trait.
            unsafe { _mm512_storeu_ps(to, self) }
        }
        #[inline(always)]
        unsafe fn mul_add(self, factor: Self, addend: Self) -> Self {
            // SAFETY: see the trait.
            unsafe { _mm512_fmadd_ps(self, factor, addend) }
        }
    }

    impl Register for __m256 {
        const LANES: usize = 8;
        #[inline(always)]
        unsafe fn splat(value: f32) -> Self {
            // SAFETY: see the trait.
            unsafe { _mm256_set1_ps(value) }
        }
        #[inline(always)]
        unsafe fn load(from: *const f32) -> Self {
            // SAFETY: see the trait.
            unsafe { _mm256_loadu_ps(from) }
        }
        #[inline(always)]
        unsafe fn store(self, to: *mut f32) {
            // SAFETY: see the trait.
            unsafe { _mm256_storeu_ps(to, self) }
        }
        #[inline(always)]
        unsafe fn mul_add(self, factor: Self, addend: Self) -> Self {
            // SAFETY: see the trait.
            unsafe { _mm256_fmadd_ps(self, factor, addend) }
        }
    }

    #[target_feature(enable = "avx512f")]
    unsafe fn avx512<const R: usize, const G: usize>(tile: &Tile) {
        // SAFETY: the features are enabled here; the caller vouches for the pointers.
        unsafe { compute::<__m512, R, G>(tile) }
    }

    #[target_feature(enable = "avx2,fma")]
    unsafe fn avx2<const R: usize, const G: usize>(tile: &Tile) {
        // SAFETY: the features are enabled here; the caller vouches for the pointers.
        unsafe { compute::<__m256, R, G>(tile) }
    }

    // Few rows take many groups: a fused multiply-add takes four cycles and two start in each, so fewer
    // than eight chains at once leave the units idle. Many rows are bounded by the number of registers.
    pub(super) static AVX512: Microkernel = Microkernel {
        group_width: 32,
        rows: tile_rows!(avx512: 1 x 8, 2 x 4, 3 x 4, 4 x 3, 5 x 2, 6 x 2, 7 x 1, 8 x 1, 9 x 1, 10 x 1, 11 x 1, 12 x 1),
    };
    pub(super) static AVX2: Microkernel =
        Microkernel { group_width: 16, rows: tile_rows!(avx2: 1 x 4, 2 x 2, 3 x 2, 4 x 1, 5 x 1, 6 x 1) };
}

/// A register's worth of plain code, for the compiler to lower as well as it can.
#[derive(Clone, Copy)]
struct Plain([f32; 8]);

impl Register for Plain {
    const LANES: usize = 8;
    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        Self([value; 8])
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: see the trait.
        Self(unsafe { from.cast::<[f32; 8]>().read() })
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: see the trait.
        unsafe { to.cast::<[f32; 8]>().write(self.0) }
    }
    #[inline(always)]
    unsafe fn mul_add(self, factor: Self, addend: Self) -> Self {
        Self(std::array::from_fn(|i| self.0[i].mul_add(factor.0[i], addend.0[i])))
    }
}

unsafe fn portable<const R: usize, const G: usize>(tile: &Tile) {
    // SAFETY: plain code needs no instruction set; the caller vouches for the pointers.
    unsafe { compute::<Plain, R, G>(tile) }
}

static PORTABLE: Microkernel =
    Microkernel { group_width: 16, rows: tile_rows!(portable: 1 x 2, 2 x 1, 3 x 1, 4 x 1) };
