//! Register tiles: a few rows of `A` times a few groups of columns of `B`, packed or, in f32, as they lie.
//!
//! A tile advances in steps of one 32-bit word of `A`: an f32, two bf16 of neighbouring `k`, or four bytes. One loop serves f32 and the
//! bf16 that a processor multiplies itself, a [`Register`] saying how a step is loaded and multiplied; bf16 that is cut in two has one of
//! its own, and so have bytes.

use super::Operands;
use super::panels::WIDTH;
use crate::int8::{BLOCK_STEPS, BLOCK_WORDS};
use crate::simd::{InstructionSet, LANES, prefetch_line};
#[cfg(target_arch = "x86_64")]
use crate::simd::{has_bf16_products, has_byte_products};

/// One SIMD register of sums, and of a step's words.
///
/// # Safety
/// The methods may only run where the processor has the register's instruction set.
pub(super) trait Register: Copy {
    const LANES: usize;
    unsafe fn splat(value: f32) -> Self;
    unsafe fn load(from: *const f32) -> Self;
    unsafe fn store(self, to: *mut f32);
    /// `self * factor + addend`, rounded once for each `k` of the step.
    unsafe fn mul_add(self, factor: Self, addend: Self) -> Self;
}

/// What one tile computes: `C (+)= A B` over `depth` steps.
pub(super) struct Tile {
    /// Steps of the inner dimension.
    pub(super) depth: usize,
    /// Rows are `a_row` apart and steps `a_step`, which is 1 but in f32; in f32, two to a step, if the micro-kernel is `widened`.
    pub(super) a: *const f32,
    pub(super) a_row: usize,
    pub(super) a_step: usize,
    /// Panels of `WIDTH` columns are `b_panel` apart and steps `b_step`, which is `WIDTH` where they are packed, as they are but in f32.
    pub(super) b: *const f32,
    pub(super) b_panel: usize,
    pub(super) b_step: usize,
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

/// Tiles of one number of rows: `groups` column groups at once, one alone, and the first half of one.
#[derive(Clone, Copy)]
pub(super) struct TileRow {
    pub(super) groups: usize,
    pub(super) wide: TileFunction,
    pub(super) narrow: TileFunction,
    pub(super) half: TileFunction,
}

/// The tiles of one instruction set.
pub(super) struct Microkernel {
    /// Columns of a group: two registers.
    pub(super) group_width: usize,
    /// Tiles of 1, 2, ... rows.
    pub(super) rows: &'static [TileRow],
    /// Whether `A` is read in f32 where its words are pairs of bf16.
    pub(super) widened: bool,
}

impl Microkernel {
    /// The tiles for this processor.
    pub(super) fn detect(operands: Operands) -> &'static Self {
        #[cfg(target_arch = "x86_64")]
        match operands {
            Operands::Bf16 if has_bf16_products() => return &x86::AVX512_BF16,
            Operands::Int8 if has_byte_products() => return &x86::AVX512_VNNI,
            _ => {}
        }
        Self::of(InstructionSet::detect(), operands)
    }

    /// Columns that the tiles of most rows take at once, in whole panels.
    pub(super) fn column_unit(&self) -> usize {
        let groups = self.rows.last().map_or(1, |most| most.groups);
        (groups * self.group_width).next_multiple_of(WIDTH)
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
            (_, Operands::F32InTiles) => unreachable!("split operands are multiplied in tiles"),
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
pub(super) trait Halves: Register {
    /// The bf16 of the smaller `k` of each word, as f32.
    unsafe fn low(self) -> Self;
    /// The bf16 of the larger `k` of each word, as f32.
    unsafe fn high(self) -> Self;
}

/// Words of two bf16. A product of two bf16 is exact in f32, so this is what `vdpbf16ps` computes, but for subnormal
/// numbers, which the instruction takes for zero.
#[derive(Clone, Copy)]
pub(super) struct Pairs<V>(V);

impl<V: Halves> Register for Pairs<V> {
    const LANES: usize = V::LANES;
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

/// Where the column groups of a tile begin.
///
/// # Safety
/// The groups exist.
#[inline(always)]
unsafe fn columns<const G: usize>(tile: &Tile, lanes: usize) -> [*const f32; G] {
    let groups_per_panel = WIDTH / (2 * lanes);
    std::array::from_fn(|g| {
        let (panel, place) = ((tile.group + g) / groups_per_panel, (tile.group + g) % groups_per_panel);
        // SAFETY: the caller vouches for the groups.
        unsafe { tile.b.add(panel * tile.b_panel + place * 2 * lanes) }
    })
}

/// Steps before its turn that `B` is fetched from the second-level cache, and so are rows of `A` that lie side by side: registers
/// wait for them otherwise.
const AHEAD: usize = 8;

/// Rows from which on they are fetched so: with fewer, what lies in memory is waited for.
const FETCHED: usize = 4;

/// Fetches the columns of the step that lies `distance` elements farther, of `width` in each group.
#[inline(always)]
fn fetch<const G: usize>(b: [*const f32; G], distance: usize, width: usize) {
    for b in b {
        for line in (0..width).step_by(LANES) {
            prefetch_line(b.wrapping_add(distance + line));
        }
    }
}

/// What the sums of a tile start with.
///
/// # Safety
/// As [`compute`].
#[inline(always)]
unsafe fn load_sums<V: Register, const R: usize, const G: usize, const H: usize>(
    tile: &Tile,
) -> [[[V; H]; G]; R] {
    // SAFETY: passed on.
    unsafe {
        let mut sums = [[[V::splat(0.0); H]; G]; R];
        if tile.accumulate {
            for (r, sums) in sums.iter_mut().enumerate() {
                for (at, sum) in sums.as_flattened_mut().iter_mut().enumerate() {
                    *sum = V::load(tile.c.add(r * tile.c_row + at * V::LANES));
                }
            }
        }
        sums
    }
}

/// Writes the sums of a tile.
///
/// # Safety
/// As [`compute`].
#[inline(always)]
unsafe fn store_sums<V: Register, const R: usize, const G: usize, const H: usize>(
    tile: &Tile,
    sums: [[[V; H]; G]; R],
) {
    for (r, sums) in sums.iter().enumerate() {
        for (at, sum) in sums.as_flattened().iter().enumerate() {
            // SAFETY: passed on.
            unsafe { sum.store(tile.c.add(r * tile.c_row + at * V::LANES)) };
        }
    }
}

/// Computes a tile of `R` rows and `G` column groups of `H` registers each (2, or the first one alone), all in registers if there
/// are enough.
///
/// # Safety
/// The processor has the instruction set of `V`, and the pointers of `tile` are valid for its shape.
#[inline(always)]
#[expect(clippy::needless_range_loop, reason = "the indices are what the compiler unrolls into registers")]
unsafe fn compute<V: Register, const R: usize, const G: usize, const H: usize>(tile: &Tile) {
    // SAFETY: the caller vouches for the pointers and for the instruction set.
    unsafe {
        let mut sums = load_sums::<V, R, G, H>(tile);
        let (mut a, mut b) = (tile.a, columns::<G>(tile, V::LANES));
        for _ in 0..tile.depth {
            if R >= FETCHED {
                fetch(b, AHEAD * tile.b_step, H * V::LANES);
                if tile.a_step > 1 {
                    // Rows side by side may lie in two lines.
                    prefetch_line(a.wrapping_add(AHEAD * tile.a_step));
                    prefetch_line(a.wrapping_add(AHEAD * tile.a_step + R - 1));
                }
            }
            let columns: [[V; H]; G] =
                std::array::from_fn(|g| std::array::from_fn(|h| V::load(b[g].add(h * V::LANES))));
            for r in 0..R {
                let factor = V::splat(*a.add(r * tile.a_row));
                for g in 0..G {
                    for h in 0..H {
                        sums[r][g][h] = factor.mul_add(columns[g][h], sums[r][g][h]);
                    }
                }
            }
            a = a.wrapping_add(tile.a_step);
            b = b.map(|b| b.wrapping_add(tile.b_step));
        }
        store_sums(tile, sums);
    }
}

/// [`compute`] for words of two bf16 where the processor does not multiply pairs, with the sums of [`Pairs`]. `a` holds f32 already: to
/// cut the words of every row beside the products would take as long as half of these.
///
/// # Safety
/// As [`compute`].
#[inline(always)]
#[expect(clippy::needless_range_loop, reason = "the indices are what the compiler unrolls into registers")]
unsafe fn compute_pairs<V: Halves, const R: usize, const G: usize, const H: usize>(tile: &Tile) {
    // SAFETY: the caller vouches for the pointers and for the instruction set.
    unsafe {
        let mut sums = load_sums::<V, R, G, H>(tile);
        let b = columns::<G>(tile, V::LANES);
        for step in 0..tile.depth {
            if R >= FETCHED {
                fetch(b, (step + AHEAD) * WIDTH, H * V::LANES);
            }
            for g in 0..G {
                let words: [V; H] = std::array::from_fn(|h| V::load(b[g].add(step * WIDTH + h * V::LANES)));
                for (place, columns) in
                    [(1, words.map(|words| words.high())), (0, words.map(|words| words.low()))]
                {
                    for r in 0..R {
                        let factor = V::splat(*tile.a.add(r * tile.a_row + 2 * step + place));
                        for h in 0..H {
                            sums[r][g][h] = factor.mul_add(columns[h], sums[r][g][h]);
                        }
                    }
                }
            }
        }
        store_sums(tile, sums);
    }
}

/// One SIMD register of sums of 8-bit products.
///
/// # Safety
/// As [`Register`], whose registers it is turned into.
trait ByteRegister: Copy {
    type Sums: Register;
    unsafe fn splat(value: i32) -> Self;
    /// Adds to each lane the four products of the bytes of its word of `weights`, unsigned, and those of `left`, signed.
    unsafe fn add_products(self, weights: *const f32, left: f32) -> Self;
    unsafe fn to_f32(self) -> Self::Sums;
}

/// [`compute`] for 8-bit operands: exact sums over each block of the left operand, whose scale then multiplies them.
///
/// # Safety
/// As [`compute`]; `a` holds blocks as `quantise_row` writes them.
#[inline(always)]
#[expect(clippy::needless_range_loop, reason = "the indices are what the compiler unrolls into registers")]
unsafe fn compute_bytes<V: ByteRegister, const R: usize, const G: usize, const H: usize>(tile: &Tile) {
    // SAFETY: the caller vouches for the pointers and for the instruction set.
    unsafe {
        let lanes = V::Sums::LANES;
        let mut sums = load_sums::<V::Sums, R, G, H>(tile);
        let b = columns::<G>(tile, lanes);
        for block in 0..tile.depth / BLOCK_STEPS {
            let a: [*const f32; R] =
                std::array::from_fn(|r| tile.a.add(r * tile.a_row + block * BLOCK_WORDS));
            let mut products: [[[V; H]; G]; R] = std::array::from_fn(|r| {
                [[V::splat((*a[r].add(BLOCK_STEPS + 1)).to_bits().cast_signed()); H]; G]
            });
            for step in 0..BLOCK_STEPS {
                for r in 0..R {
                    let left = *a[r].add(step);
                    for g in 0..G {
                        for h in 0..H {
                            let weights = b[g].add((block * BLOCK_STEPS + step) * WIDTH + h * lanes);
                            products[r][g][h] = products[r][g][h].add_products(weights, left);
                        }
                    }
                }
            }
            for r in 0..R {
                let scale = V::Sums::splat(*a[r].add(BLOCK_STEPS));
                for g in 0..G {
                    for h in 0..H {
                        sums[r][g][h] = scale.mul_add(products[r][g][h].to_f32(), sums[r][g][h]);
                    }
                }
            }
        }
        store_sums(tile, sums);
    }
}

/// Lists the tiles of 1, 2, ... rows, given how many groups each takes at once.
macro_rules! tile_rows {
    ($function:ident: $($rows:literal x $groups:literal),*) => {
        &[$(TileRow {
            groups: $groups,
            wide: $function::<$rows, $groups, 2>,
            narrow: $function::<$rows, 1, 2>,
            half: $function::<$rows, 1, 1>,
        }),*]
    };
}

#[cfg(target_arch = "x86_64")]
pub(super) mod x86 {
    use std::arch::x86_64::*;

    use super::{
        ByteRegister, Halves, Microkernel, Register, Tile, TileRow, compute, compute_bytes, compute_pairs,
    };

    /// Implements [`Register`] with its loads, stores and products.
    macro_rules! register {
        ($register:ty: $lanes:literal, $splat:ident, $load:ident, $store:ident, $mul_add:ident) => {
            impl Register for $register {
                const LANES: usize = $lanes;
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

    /// Words of two bf16 where the processor multiplies them itself.
    #[derive(Clone, Copy)]
    pub(in crate::matmul) struct Bf16(__m512);

    impl Register for Bf16 {
        const LANES: usize = 16;
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
        unsafe fn store(self, to: *mut f32) {
            // SAFETY: see the trait.
            unsafe { _mm512_storeu_ps(to, self.0) }
        }
        #[inline(always)]
        unsafe fn mul_add(self, factor: Self, addend: Self) -> Self {
            // SAFETY: see the trait; the casts change the type of the same bits.
            Self(unsafe {
                let pairs = |words: __m512| std::mem::transmute::<__m512, __m512bh>(words);
                let (a, b) = (pairs(self.0), pairs(factor.0));
                _mm512_dpbf16_ps(addend.0, a, b)
            })
        }
    }

    /// Sums of 8-bit products where the processor adds four at once.
    #[derive(Clone, Copy)]
    struct Vnni(__m512i);

    impl ByteRegister for Vnni {
        type Sums = __m512;
        #[inline(always)]
        unsafe fn splat(value: i32) -> Self {
            // SAFETY: see the trait.
            Self(unsafe { _mm512_set1_epi32(value) })
        }
        #[inline(always)]
        unsafe fn add_products(self, weights: *const f32, left: f32) -> Self {
            // SAFETY: see the trait.
            Self(unsafe {
                let left = _mm512_set1_epi32(left.to_bits().cast_signed());
                _mm512_dpbusd_epi32(self.0, _mm512_loadu_si512(weights.cast()), left)
            })
        }
        #[inline(always)]
        unsafe fn to_f32(self) -> __m512 {
            // SAFETY: see the trait.
            unsafe { _mm512_cvtepi32_ps(self.0) }
        }
    }

    /// Compiles a tile for an instruction set.
    macro_rules! tile {
        ($name:ident: $compute:ident, $register:ty, $features:literal) => {
            #[target_feature(enable = $features)]
            unsafe fn $name<const R: usize, const G: usize, const H: usize>(tile: &Tile) {
                // SAFETY: the features are enabled here; the caller vouches for the pointers.
                unsafe { $compute::<$register, R, G, H>(tile) }
            }
        };
    }

    tile!(avx512: compute, __m512, "avx512f");
    tile!(avx512_bf16: compute, Bf16, "avx512f,avx512bf16");
    tile!(avx512_pairs: compute_pairs, __m512, "avx512f");
    tile!(avx512_bytes: compute_bytes, super::PlainBytes, "avx512f,avx512bw,avx512dq,avx512vl");
    tile!(avx512_vnni: compute_bytes, Vnni, "avx512f,avx512vnni");
    tile!(avx2: compute, __m256, "avx2,fma");
    tile!(avx2_pairs: compute_pairs, __m256, "avx2,fma");
    tile!(avx2_bytes: compute_bytes, super::PlainBytes, "avx2,fma");

    // Few rows take many groups: a fused multiply-add takes four cycles and two start in each, so fewer
    // than eight chains at once leave the units idle. Many rows are bounded by the number of registers.
    /// The tiles of a function for 32 registers.
    macro_rules! wide {
        ($function:ident) => {
            Microkernel {
                group_width: 32,
                rows: tile_rows!($function: 1 x 8, 2 x 4, 3 x 4, 4 x 3, 5 x 2, 6 x 2, 7 x 1, 8 x 1, 9 x 1, 10 x 1, 11 x 1, 12 x 1),
                widened: false,
            }
        };
    }
    /// The tiles of a function for 16 registers.
    macro_rules! narrow {
        ($function:ident) => {
            Microkernel {
                group_width: 16,
                rows: tile_rows!($function: 1 x 4, 2 x 2, 3 x 2, 4 x 1, 5 x 1, 6 x 1),
                widened: false,
            }
        };
    }
    // Six rows times four registers take ten loads for 24 products, twelve times two 14, and threads that share a core share its loads.
    pub(in crate::matmul) static AVX512: Microkernel = Microkernel {
        group_width: 32,
        rows: tile_rows!(avx512: 1 x 8, 2 x 4, 3 x 4, 4 x 3, 5 x 2, 6 x 2),
        widened: false,
    };
    pub(in crate::matmul) static AVX512_BF16: Microkernel = wide!(avx512_bf16);
    // Fewer rows than there are registers for: compilers load all of `A` first, and spill the sums.
    pub(in crate::matmul) static AVX512_PAIRS: Microkernel = Microkernel {
        group_width: 32,
        rows: tile_rows!(avx512_pairs: 1 x 8, 2 x 4, 3 x 3, 4 x 2, 5 x 1, 6 x 1, 7 x 1, 8 x 1),
        widened: true,
    };
    // Twice the registers: exact sums of a block beside those over all blocks.
    pub(in crate::matmul) static AVX512_VNNI: Microkernel = Microkernel {
        group_width: 32,
        rows: tile_rows!(avx512_vnni: 1 x 4, 2 x 3, 3 x 2, 4 x 2, 5 x 1, 6 x 1, 7 x 1, 8 x 1, 9 x 1, 10 x 1, 11 x 1, 12 x 1),
        widened: false,
    };
    pub(in crate::matmul) static AVX512_BYTES: Microkernel = narrow!(avx512_bytes);
    pub(in crate::matmul) static AVX2: Microkernel = narrow!(avx2);
    pub(in crate::matmul) static AVX2_PAIRS: Microkernel = Microkernel {
        group_width: 16,
        rows: tile_rows!(avx2_pairs: 1 x 4, 2 x 2, 3 x 2, 4 x 1, 5 x 1),
        widened: true,
    };
    pub(in crate::matmul) static AVX2_BYTES: Microkernel = narrow!(avx2_bytes);
}

/// A register's worth of plain code, for the compiler to lower as well as it can.
#[derive(Clone, Copy)]
pub(super) struct Plain([f32; 8]);

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

/// Sums of 8-bit products in plain code.
#[derive(Clone, Copy)]
struct PlainBytes([i32; 8]);

impl ByteRegister for PlainBytes {
    type Sums = Plain;
    #[inline(always)]
    unsafe fn splat(value: i32) -> Self {
        Self([value; 8])
    }
    #[inline(always)]
    unsafe fn add_products(self, weights: *const f32, left: f32) -> Self {
        // SAFETY: see the trait.
        let weights = unsafe { weights.cast::<[u32; 8]>().read() };
        let left = left.to_bits();
        let product = |word: u32, byte: u32| {
            (word >> (8 * byte) & 0xFF).cast_signed() * i32::from((left >> (8 * byte)) as u8 as i8)
        };
        Self(std::array::from_fn(|i| (0..4).fold(self.0[i], |sum, byte| sum + product(weights[i], byte))))
    }
    #[inline(always)]
    unsafe fn to_f32(self) -> Plain {
        Plain(self.0.map(|sum| sum as f32))
    }
}

/// Compiles a tile of plain code.
macro_rules! portable_tile {
    ($name:ident: $compute:ident, $register:ty) => {
        unsafe fn $name<const R: usize, const G: usize, const H: usize>(tile: &Tile) {
            // SAFETY: plain code needs no instruction set; the caller vouches for the pointers.
            unsafe { $compute::<$register, R, G, H>(tile) }
        }
    };
}

portable_tile!(portable: compute, Plain);
portable_tile!(portable_pairs: compute_pairs, Plain);
portable_tile!(portable_bytes: compute_bytes, PlainBytes);

static PORTABLE: Microkernel =
    Microkernel { group_width: 16, rows: tile_rows!(portable: 1 x 2, 2 x 1, 3 x 1, 4 x 1), widened: false };
static PORTABLE_PAIRS: Microkernel = Microkernel {
    group_width: 16,
    rows: tile_rows!(portable_pairs: 1 x 2, 2 x 1, 3 x 1, 4 x 1),
    widened: true,
};
static PORTABLE_BYTES: Microkernel = Microkernel {
    group_width: 16,
    rows: tile_rows!(portable_bytes: 1 x 2, 2 x 1, 3 x 1, 4 x 1),
    widened: false,
};
