//! Register tiles: a few rows of `A` times a few groups of packed columns of `B`.
//!
//! A tile advances in steps of one 32-bit word of `A`: an f32, or two bf16 of neighbouring `k`. One loop serves all
//! kinds of operands; a [`Register`] says how a step is loaded and multiplied.

use super::Operands;
use super::panels::WIDTH;
use crate::simd::{InstructionSet, has_bf16_products};

/// One SIMD register of sums, and of a step's words.
///
/// # Safety
/// The methods may only run where the processor has the register's instruction set.
trait Register: Copy {
    const LANES: usize;
    /// One column's packed weight of one step.
    type Weight;
    unsafe fn splat(value: f32) -> Self;
    unsafe fn load(from: *const f32) -> Self;
    unsafe fn load_weights(from: *const Self::Weight) -> Self;
    unsafe fn store(self, to: *mut f32);
    /// `self * factor + addend`, rounded once for each `k` of the step.
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
    /// Panels of `WIDTH` columns, step after step; `b_panel` steps from one panel to the next.
    pub(super) b: *const u8,
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
    pub(super) fn detect(operands: Operands) -> &'static Self {
        #[cfg(target_arch = "x86_64")]
        if operands == Operands::Bf16 && has_bf16_products() {
            return &x86::AVX512_BF16;
        }
        Self::of(InstructionSet::detect(), operands)
    }

    /// The tiles of an instruction set.
    pub(super) fn of(instructions: InstructionSet, operands: Operands) -> &'static Self {
        match (instructions, operands) {
            #[cfg(target_arch = "x86_64")]
            (InstructionSet::Avx512, Operands::F32) => &x86::AVX512,
            #[cfg(target_arch = "x86_64")]
            (InstructionSet::Avx512, Operands::Bf16) => &x86::AVX512_PAIRS,
            #[cfg(target_arch = "x86_64")]
            (InstructionSet::Avx512, Operands::Int8) => &x86::AVX512_BYTES,
            #[cfg(target_arch = "x86_64")]
            (InstructionSet::Avx2, Operands::F32) => &x86::AVX2,
            #[cfg(target_arch = "x86_64")]
            (InstructionSet::Avx2, Operands::Bf16) => &x86::AVX2_PAIRS,
            #[cfg(target_arch = "x86_64")]
            (InstructionSet::Avx2, Operands::Int8) => &x86::AVX2_BYTES,
            (InstructionSet::Portable, Operands::F32) => &PORTABLE,
            (InstructionSet::Portable, Operands::Bf16) => &PORTABLE_PAIRS,
            (InstructionSet::Portable, Operands::Int8) => &PORTABLE_BYTES,
        }
    }
}

/// A register whose words are cut into two bf16, for processors that cannot multiply pairs themselves.
///
/// # Safety
/// As [`Register`].
trait Halves: Register<Weight = f32> {
    /// The bf16 of the smaller `k` of each word, as f32.
    unsafe fn low(self) -> Self;
    /// The bf16 of the larger `k` of each word, as f32.
    unsafe fn high(self) -> Self;
}

/// Words of two bf16. A product of two bf16 is exact in f32, so this is what `vdpbf16ps` computes, but for subnormal
/// numbers, which the instruction takes for zero.
#[derive(Clone, Copy)]
struct Pairs<V>(V);

impl<V: Halves> Register for Pairs<V> {
    const LANES: usize = V::LANES;
    type Weight = f32;
    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        // SAFETY: see the trait.
        Self(unsafe { V::splat(value) })
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: see the trait.
        Self(unsafe { V::load(from) })
    }
    #[inline(always)]
    unsafe fn load_weights(from: *const f32) -> Self {
        // SAFETY: see the trait.
        Self(unsafe { V::load(from) })
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: see the trait.
        unsafe { self.0.store(to) }
    }
    #[inline(always)]
    unsafe fn mul_add(self, factor: Self, addend: Self) -> Self {
        // SAFETY: see the trait.
        unsafe {
            let larger = self.0.high().mul_add(factor.0.high(), addend.0);
            Self(self.0.low().mul_add(factor.0.low(), larger))
        }
    }
}

/// A register that widens 8-bit weights.
///
/// # Safety
/// As [`Register`].
trait Widen: Register<Weight = f32> {
    unsafe fn widen(from: *const i8) -> Self;
}

/// Weights of 8 bits, multiplied as f32; their scales are the caller's.
#[derive(Clone, Copy)]
struct Bytes<V>(V);

impl<V: Widen> Register for Bytes<V> {
    const LANES: usize = V::LANES;
    type Weight = i8;
    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        // SAFETY: see the trait.
        Self(unsafe { V::splat(value) })
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: see the trait.
        Self(unsafe { V::load(from) })
    }
    #[inline(always)]
    unsafe fn load_weights(from: *const i8) -> Self {
        // SAFETY: see the trait.
        Self(unsafe { V::widen(from) })
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: see the trait.
        unsafe { self.0.store(to) }
    }
    #[inline(always)]
    unsafe fn mul_add(self, factor: Self, addend: Self) -> Self {
        // SAFETY: see the trait.
        Self(unsafe { self.0.mul_add(factor.0, addend.0) })
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
        let b: [*const V::Weight; G] = std::array::from_fn(|g| {
            let (panel, place) = ((tile.group + g) / groups_per_panel, (tile.group + g) % groups_per_panel);
            tile.b.cast::<V::Weight>().add(panel * tile.b_panel * WIDTH + place * 2 * V::LANES)
        });
        let mut a = tile.a;
        for step in 0..tile.depth {
            let columns: [[V; 2]; G] = std::array::from_fn(|g| {
                std::array::from_fn(|h| V::load_weights(b[g].add(step * WIDTH + h * V::LANES)))
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

    use super::{Bytes, Halves, Microkernel, Pairs, Register, Tile, TileRow, Widen, compute};

    /// Implements [`Register`] with its loads, stores and products.
    macro_rules! register {
        ($register:ty: $lanes:literal, $splat:ident, $load:ident, $store:ident, $mul_add:ident) => {
            impl Register for $register {
                const LANES: usize = $lanes;
                type Weight = f32;
                #[inline(always)]
                unsafe fn splat(value: f32) -> Self {
                    // SAFETY: see the trait.
                    unsafe { $splat(value) }
                }
                #[inline(always)]
                unsafe fn load(from: *const f32) -> Self {
                    // SAFETY: see the trait.
                    unsafe { $load(from) }
                }
                #[inline(always)]
                unsafe fn load_weights(from: *const f32) -> Self {
                    // SAFETY: see the trait.
                    unsafe { $load(from) }
                }
                #[inline(always)]
                unsafe fn store(self, to: *mut f32) {
                    // SAFETY: see the trait.
                    unsafe { $store(to, self) }
                }
                #[inline(always)]
                unsafe fn mul_add(self, factor: Self, addend: Self) -> Self {
                    // SAFETY: see the trait.
                    unsafe { $mul_add(self, factor, addend) }
                }
            }
        };
    }

    register!(__m512: 16, _mm512_set1_ps, _mm512_loadu_ps, _mm512_storeu_ps, _mm512_fmadd_ps);
    register!(__m256: 8, _mm256_set1_ps, _mm256_loadu_ps, _mm256_storeu_ps, _mm256_fmadd_ps);

    impl Halves for __m512 {
        #[inline(always)]
        unsafe fn low(self) -> Self {
            // SAFETY: see the trait.
            unsafe { _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_castps_si512(self))) }
        }
        #[inline(always)]
        unsafe fn high(self) -> Self {
            // SAFETY: see the trait.
            unsafe {
                let mask = _mm512_set1_epi32(0xFFFF_0000_u32.cast_signed());
                _mm512_castsi512_ps(_mm512_and_si512(_mm512_castps_si512(self), mask))
            }
        }
    }

    impl Halves for __m256 {
        #[inline(always)]
        unsafe fn low(self) -> Self {
            // SAFETY: see the trait.
            unsafe { _mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_castps_si256(self))) }
        }
        #[inline(always)]
        unsafe fn high(self) -> Self {
            // SAFETY: see the trait.
            unsafe {
                let mask = _mm256_set1_epi32(0xFFFF_0000_u32.cast_signed());
                _mm256_castsi256_ps(_mm256_and_si256(_mm256_castps_si256(self), mask))
            }
        }
    }

    impl Widen for __m512 {
        #[inline(always)]
        unsafe fn widen(from: *const i8) -> Self {
            // SAFETY: see the trait.
            unsafe { _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(from.cast()))) }
        }
    }

    impl Widen for __m256 {
        #[inline(always)]
        unsafe fn widen(from: *const i8) -> Self {
            // SAFETY: see the trait.
            unsafe { _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(from.cast()))) }
        }
    }

    /// Words of two bf16 where the processor multiplies them itself.
    #[derive(Clone, Copy)]
    struct Bf16(__m512);

    impl Register for Bf16 {
        const LANES: usize = 16;
        type Weight = f32;
        #[inline(always)]
        unsafe fn splat(value: f32) -> Self {
            // SAFETY: see the trait.
            Self(unsafe { _mm512_set1_ps(value) })
        }
        #[inline(always)]
        unsafe fn load(from: *const f32) -> Self {
            // SAFETY: see the trait.
            Self(unsafe { _mm512_loadu_ps(from) })
        }
        #[inline(always)]
        unsafe fn load_weights(from: *const f32) -> Self {
            // SAFETY: see the trait.
            Self(unsafe { _mm512_loadu_ps(from) })
        }
        #[inline(always)]
        unsafe fn store(self, to: *mut f32) {
            // SAFETY: see the trait.
            unsafe { _mm512_storeu_ps(to, self.0) }
        }
        #[inline(always)]
        unsafe fn mul_add(self, factor: Self, addend: Self) -> Self {
            // SAFETY: see the trait; the casts change the type of the same bits.
            Self(unsafe {
                let (a, b): (__m512bh, __m512bh) =
                    (std::mem::transmute(self.0), std::mem::transmute(factor.0));
                _mm512_dpbf16_ps(addend.0, a, b)
            })
        }
    }

    /// Compiles a tile for an instruction set.
    macro_rules! tile {
        ($name:ident: $register:ty, $features:literal) => {
            #[target_feature(enable = $features)]
            unsafe fn $name<const R: usize, const G: usize>(tile: &Tile) {
                // SAFETY: the features are enabled here; the caller vouches for the pointers.
                unsafe { compute::<$register, R, G>(tile) }
            }
        };
    }

    tile!(avx512: __m512, "avx512f");
    tile!(avx512_bf16: Bf16, "avx512f,avx512bf16");
    tile!(avx512_pairs: Pairs<__m512>, "avx512f");
    tile!(avx512_bytes: Bytes<__m512>, "avx512f");
    tile!(avx2: __m256, "avx2,fma");
    tile!(avx2_pairs: Pairs<__m256>, "avx2,fma");
    tile!(avx2_bytes: Bytes<__m256>, "avx2,fma");

    // Few rows take many groups: a fused multiply-add takes four cycles and two start in each, so fewer
    // than eight chains at once leave the units idle. Many rows are bounded by the number of registers.
    /// The tiles of a function for 32 registers.
    macro_rules! wide {
        ($function:ident) => {
            Microkernel {
                group_width: 32,
                rows: tile_rows!($function: 1 x 8, 2 x 4, 3 x 4, 4 x 3, 5 x 2, 6 x 2, 7 x 1, 8 x 1, 9 x 1, 10 x 1, 11 x 1, 12 x 1),
            }
        };
    }
    /// The tiles of a function for 16 registers.
    macro_rules! narrow {
        ($function:ident) => {
            Microkernel {
                group_width: 16,
                rows: tile_rows!($function: 1 x 4, 2 x 2, 3 x 2, 4 x 1, 5 x 1, 6 x 1),
            }
        };
    }
    pub(super) static AVX512: Microkernel = wide!(avx512);
    pub(super) static AVX512_BF16: Microkernel = wide!(avx512_bf16);
    pub(super) static AVX512_PAIRS: Microkernel = wide!(avx512_pairs);
    pub(super) static AVX512_BYTES: Microkernel = wide!(avx512_bytes);
    pub(super) static AVX2: Microkernel = narrow!(avx2);
    pub(super) static AVX2_PAIRS: Microkernel = narrow!(avx2_pairs);
    pub(super) static AVX2_BYTES: Microkernel = narrow!(avx2_bytes);
}

/// A register's worth of plain code, for the compiler to lower as well as it can.
#[derive(Clone, Copy)]
struct Plain([f32; 8]);

impl Register for Plain {
    const LANES: usize = 8;
    type Weight = f32;
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
    unsafe fn load_weights(from: *const f32) -> Self {
        // SAFETY: see the trait.
        unsafe { Self::load(from) }
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

impl Halves for Plain {
    #[inline(always)]
    unsafe fn low(self) -> Self {
        Self(self.0.map(|word| f32::from_bits(word.to_bits() << 16)))
    }
    #[inline(always)]
    unsafe fn high(self) -> Self {
        Self(self.0.map(|word| f32::from_bits(word.to_bits() & 0xFFFF_0000)))
    }
}

impl Widen for Plain {
    #[inline(always)]
    unsafe fn widen(from: *const i8) -> Self {
        // SAFETY: see the trait.
        Self(unsafe { from.cast::<[i8; 8]>().read() }.map(f32::from))
    }
}

/// Compiles a tile of plain code.
macro_rules! portable_tile {
    ($name:ident: $register:ty) => {
        unsafe fn $name<const R: usize, const G: usize>(tile: &Tile) {
            // SAFETY: plain code needs no instruction set; the caller vouches for the pointers.
            unsafe { compute::<$register, R, G>(tile) }
        }
    };
}

portable_tile!(portable: Plain);
portable_tile!(portable_pairs: Pairs<Plain>);
portable_tile!(portable_bytes: Bytes<Plain>);

static PORTABLE: Microkernel =
    Microkernel { group_width: 16, rows: tile_rows!(portable: 1 x 2, 2 x 1, 3 x 1, 4 x 1) };
static PORTABLE_PAIRS: Microkernel =
    Microkernel { group_width: 16, rows: tile_rows!(portable_pairs: 1 x 2, 2 x 1, 3 x 1, 4 x 1) };
static PORTABLE_BYTES: Microkernel =
    Microkernel { group_width: 16, rows: tile_rows!(portable_bytes: 1 x 2, 2 x 1, 3 x 1, 4 x 1) };
