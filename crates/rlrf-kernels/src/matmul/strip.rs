//! Strips: up to eight rows times 16 columns, for products too small to be packed and cut, such as those with one block of a cache.

use super::Operands;
#[cfg(target_arch = "x86_64")]
use super::microkernel::x86::Bf16;
use super::microkernel::{Pairs, Plain, Register};
#[cfg(target_arch = "x86_64")]
use crate::simd::has_bf16_products;
use crate::simd::{InstructionSet, Line};

/// What one strip computes: `C (+)= A B` over `depth` steps of one word.
struct Strip {
    depth: usize,
    /// Rows are `a_row` apart.
    a: *const f32,
    a_row: usize,
    /// The 16 words of a step lie side by side, steps `b_step` apart.
    b: *const f32,
    b_step: usize,
    c: *mut f32,
    c_row: usize,
    accumulate: bool,
}

/// A compiled strip.
type Function = unsafe fn(&Strip);

/// The strips of 1, 2, ... rows of one instruction set.
#[derive(Clone, Copy)]
pub(crate) struct Strips([Function; 8]);

/// A right operand of whole strips: of each step, `lines` lines of 16 words.
#[derive(Clone, Copy)]
pub(crate) struct Columns<'a> {
    pub(crate) data: &'a [Line],
    pub(crate) lines: usize,
}

impl Strips {
    /// The strips for this processor; of operands in f32 or bf16.
    pub(crate) fn detect(operands: Operands) -> Self {
        #[cfg(target_arch = "x86_64")]
        if operands == Operands::Bf16 && has_bf16_products() {
            return Self(x86::AVX512_BF16);
        }
        Self::of(InstructionSet::detect(), operands)
    }

    fn of(instructions: InstructionSet, operands: Operands) -> Self {
        Self(match (instructions, operands) {
            #[cfg(target_arch = "x86_64")]
            (InstructionSet::Avx512, Operands::F32) => x86::AVX512,
            #[cfg(target_arch = "x86_64")]
            (InstructionSet::Avx512, Operands::Bf16) => x86::AVX512_PAIRS,
            #[cfg(target_arch = "x86_64")]
            (InstructionSet::Avx2, Operands::F32) => x86::AVX2,
            #[cfg(target_arch = "x86_64")]
            (InstructionSet::Avx2, Operands::Bf16) => x86::AVX2_PAIRS,
            (InstructionSet::Portable, Operands::F32) => PORTABLE,
            (InstructionSet::Portable, Operands::Bf16) => PORTABLE_PAIRS,
            (_, Operands::F32InTiles | Operands::Int8) => unreachable!("keys are held in f32 or bf16"),
        })
    }

    /// `C[rows, 16 lines] (+)= A B` over the first `depth` steps of `b`, with rows `a_row` and `c_row` apart, on the calling thread.
    /// Every element is one chain of fused multiply-adds over the steps, from its old value if `accumulate`.
    pub(crate) fn multiply(
        self,
        (a, a_row): (&[f32], usize),
        b: Columns<'_>,
        (c, c_row): (&mut [f32], usize),
        [rows, depth]: [usize; 2],
        accumulate: bool,
    ) {
        let Some(last) = rows.checked_sub(1) else { return };
        assert!(a.len() >= last * a_row + depth && b.data.len() >= depth * b.lines);
        assert!(c.len() >= last * c_row + 16 * b.lines);
        for row in (0..rows).step_by(self.0.len()) {
            let function = self.0[(rows - row).min(self.0.len()) - 1];
            for line in 0..b.lines {
                // SAFETY: the operands were checked to exist; the functions are the processor's.
                unsafe {
                    function(&Strip {
                        depth,
                        a: a.as_ptr().add(row * a_row),
                        a_row,
                        b: b.data.as_ptr().add(line).cast(),
                        b_step: 16 * b.lines,
                        c: c.as_mut_ptr().add(row * c_row + 16 * line),
                        c_row,
                        accumulate,
                    });
                }
            }
        }
    }
}

/// Computes a strip of `R` rows with `H` registers of columns.
///
/// # Safety
/// The processor has the instruction set of `V`, and the pointers of `strip` are valid for its shape.
#[inline(always)]
#[expect(clippy::needless_range_loop, reason = "the indices are what the compiler unrolls into registers")]
unsafe fn compute<V: Register, const R: usize, const H: usize>(strip: &Strip) {
    // SAFETY: the caller vouches for the pointers and for the instruction set.
    unsafe {
        let mut sums = [[V::splat(0.0); H]; R];
        let c_at = |r: usize, h: usize| r * strip.c_row + h * V::LANES;
        if strip.accumulate {
            for r in 0..R {
                for h in 0..H {
                    sums[r][h] = V::load(strip.c.add(c_at(r, h)));
                }
            }
        }
        let mut b = strip.b;
        for step in 0..strip.depth {
            let columns: [V; H] = std::array::from_fn(|h| V::load(b.add(h * V::LANES)));
            for r in 0..R {
                let factor = V::splat(*strip.a.add(r * strip.a_row + step));
                for h in 0..H {
                    sums[r][h] = factor.mul_add(columns[h], sums[r][h]);
                }
            }
            b = b.wrapping_add(strip.b_step);
        }
        for r in 0..R {
            for h in 0..H {
                sums[r][h].store(strip.c.add(c_at(r, h)));
            }
        }
    }
}

/// Lists the strips of 1 to 8 rows of a function.
macro_rules! strips {
    ($function:ident) => {
        [
            $function::<1>,
            $function::<2>,
            $function::<3>,
            $function::<4>,
            $function::<5>,
            $function::<6>,
            $function::<7>,
            $function::<8>,
        ]
    };
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::{__m256, __m512};

    use super::{Bf16, Function, Pairs, Strip, compute};

    /// Compiles strips for an instruction set.
    macro_rules! strip {
        ($table:ident, $name:ident: $register:ty, $registers:literal, $features:literal) => {
            #[target_feature(enable = $features)]
            unsafe fn $name<const R: usize>(strip: &Strip) {
                // SAFETY: the features are enabled here; the caller vouches for the pointers.
                unsafe { compute::<$register, R, $registers>(strip) }
            }

            pub(super) const $table: [Function; 8] = strips!($name);
        };
    }

    strip!(AVX512, avx512: __m512, 1, "avx512f");
    strip!(AVX512_BF16, avx512_bf16: Bf16, 1, "avx512f,avx512bf16");
    strip!(AVX512_PAIRS, avx512_pairs: Pairs<__m512>, 1, "avx512f");
    strip!(AVX2, avx2: __m256, 2, "avx2,fma");
    strip!(AVX2_PAIRS, avx2_pairs: Pairs<__m256>, 2, "avx2,fma");
}

unsafe fn portable<const R: usize>(strip: &Strip) {
    // SAFETY: plain code needs no instruction set; the caller vouches for the pointers.
    unsafe { compute::<Plain, R, 2>(strip) }
}

unsafe fn portable_pairs<const R: usize>(strip: &Strip) {
    // SAFETY: as above.
    unsafe { compute::<Pairs<Plain>, R, 2>(strip) }
}

const PORTABLE: [Function; 8] = strips!(portable);
const PORTABLE_PAIRS: [Function; 8] = strips!(portable_pairs);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bf16::{pair, unpair};

    /// Some number in whose place in `pair` no rounding happens.
    fn value(i: usize) -> f32 {
        ((i * 7919) % 255) as f32 / 64.0 - 2.0
    }

    #[test]
    fn every_instruction_set_adds_the_same_chains() {
        let lines = 2;
        for (operands, rows, depth) in [Operands::F32, Operands::Bf16]
            .into_iter()
            .flat_map(|o| [(o, 1, 7), (o, 8, 20), (o, 19, 3), (o, 5, 0)])
        {
            let word = |i: usize| match operands {
                Operands::Bf16 => pair(value(2 * i), value(2 * i + 1)),
                _ => value(i) * 1.1,
            };
            let a: Vec<f32> = (0..rows * (depth + 1)).map(word).collect();
            let b: Vec<Line> = (0..depth * lines)
                .map(|line| Line(std::array::from_fn(|i| word(16 * line + i + 3))))
                .collect();
            let start: Vec<f32> = (0..rows * 40).map(value).collect();
            for accumulate in [false, true] {
                let mut expected = start.clone();
                for (row, column) in
                    (0..rows).flat_map(|row| (0..16 * lines).map(move |column| (row, column)))
                {
                    let sum = &mut expected[row * 40 + column];
                    *sum = if accumulate { *sum } else { 0.0 };
                    for step in 0..depth {
                        let (a, b) =
                            (a[row * (depth + 1) + step], b[step * lines + column / 16].0[column % 16]);
                        *sum = match operands {
                            Operands::Bf16 => {
                                let ([a0, a1], [b0, b1]) = (unpair(a), unpair(b));
                                a0.mul_add(b0, a1.mul_add(b1, *sum))
                            }
                            _ => a.mul_add(b, *sum),
                        };
                    }
                }
                let mut sets = vec![Strips::detect(operands), Strips::of(InstructionSet::Portable, operands)];
                #[cfg(target_arch = "x86_64")]
                match InstructionSet::detect() {
                    InstructionSet::Avx512 => {
                        sets.extend(
                            [InstructionSet::Avx512, InstructionSet::Avx2]
                                .map(|set| Strips::of(set, operands)),
                        );
                    }
                    set => sets.push(Strips::of(set, operands)),
                }
                for strips in sets {
                    let mut c = start.clone();
                    let b = Columns { data: &b, lines };
                    strips.multiply((&a, depth + 1), b, (&mut c, 40), [rows, depth], accumulate);
                    assert_eq!(c, expected, "{operands:?} {rows} {depth} {accumulate}");
                }
            }
        }
    }
}
