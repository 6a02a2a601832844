//! Bit-identity of the tiles of every instruction set with one plain chain of additions.

use super::microkernel::Microkernel;
use super::product::{Steps, multiply_with};
use super::*;
use crate::bf16::{pair, unpair};
use crate::simd::{InstructionSet, Line};

fn noise(len: usize, seed: u32) -> Vec<f32> {
    (0..len as u32)
        .map(|i| (i.wrapping_add(seed).wrapping_mul(2_654_435_761) >> 8) as f32 / (1 << 24) as f32 - 0.5)
        .collect()
}

/// Rows of `width` as columns.
fn transposed(rows: &[f32], width: usize) -> Vec<f32> {
    let height = rows.len() / width;
    (0..rows.len()).map(|i| rows[i % height * width + i / height]).collect()
}

/// The same numbers from the beginning of a line of the cache on.
fn lines_of(numbers: &[f32]) -> Vec<Line> {
    let line = |chunk: &[f32]| Line(std::array::from_fn(|i| chunk.get(i).copied().unwrap_or(f32::NAN)));
    numbers.chunks(LANES).map(line).collect()
}

/// The first `len` words of `lines`.
fn as_words(lines: &[Line], len: usize) -> &[f32] {
    // SAFETY: lines hold nothing but words.
    let words = unsafe { lines.align_to::<f32>().1 };
    &words[..len]
}

/// Every set that this processor can run.
fn instruction_sets() -> Vec<InstructionSet> {
    let mut sets = vec![InstructionSet::Portable];
    #[cfg(target_arch = "x86_64")]
    {
        if InstructionSet::detect() != InstructionSet::Portable {
            sets.push(InstructionSet::Avx2);
        }
        if InstructionSet::detect() == InstructionSet::Avx512 {
            sets.push(InstructionSet::Avx512);
        }
    }
    sets
}

#[test]
fn every_instruction_set_gives_one_chain_of_fused_multiply_adds() {
    for (m, n, k) in [
        (1, 1, 1),
        (1, 300, 20),
        (2, 130, 9),
        (3, 97, 257),
        (5, 64, 300),
        (25, 33, 515),
        (16, 31, 8),
        (7, 160, 800),
        (23, 96, 40),
        (2, 416, 768),
    ] {
        let (a, b, start) = (noise(m * k, 1), noise(n * k, 2), noise(m * n, 3));
        let mut expected = start.clone();
        for i in 0..m {
            for j in 0..n {
                for l in 0..k {
                    expected[i * n + j] = a[i * k + l].mul_add(b[j * k + l], expected[i * n + j]);
                }
            }
        }
        let mut panels = Panels::default();
        panels.pack(Operands::F32, View::new(&b, k, 1), n, k);
        let block = Block { panels: &panels, first_column: 0, columns: n, first_step: 0, depth: k };
        let (a_by_column, b_by_column) = (transposed(&a, k), lines_of(&transposed(&b, k)));
        let (by_row, by_column) = (View::new(&a, k, 1), View::new(&a_by_column, 1, m));
        let in_place = View::new(as_words(&b_by_column, n * k), 1, n);
        let mut rights = vec![block.steps()];
        if read_in_place(Operands::F32, in_place, n) {
            rights.push(Steps::in_place(in_place, [n, k]));
        }
        assert_eq!(rights.len() == 2, n % WIDTH == 0, "{n} columns");
        for instructions in instruction_sets() {
            for (left, right) in
                [by_row, by_column].into_iter().flat_map(|a| rights.iter().map(move |b| (a, *b)))
            {
                let mut c = start.clone();
                let output = Output { data: c.as_mut_ptr(), row: n };
                let kernel = Microkernel::of(instructions, Operands::F32);
                // SAFETY: the shapes are those of the buffers, and the set is one of this processor's.
                unsafe { multiply_with(kernel, left, m, right, output, true) };
                assert!(same_bits(&c, &expected), "{instructions:?} {m}x{n}x{k}");
            }
        }
    }
}

/// Both operands rounded to bf16; of each pair of `k` the second is added first, as `vdpbf16ps` does.
fn chain_of_pairs(a: &[f32], b: &[f32], sum: f32) -> f32 {
    let rounded = |x: &[f32], k: usize| x.get(k).map_or(0.0, |&x| unpair(pair(x, 0.0))[0]);
    (0..a.len().div_ceil(2))
        .flat_map(|step| [2 * step + 1, 2 * step])
        .fold(sum, |sum, k| rounded(a, k).mul_add(rounded(b, k), sum))
}

#[test]
fn every_instruction_set_gives_one_chain_of_bf16_pairs() {
    for (m, n, k) in
        [(1, 1, 1), (1, 300, 20), (2, 130, 9), (3, 97, 1031), (5, 64, 300), (25, 33, 515), (16, 31, 8)]
    {
        let (a, b, start) = (noise(m * k, 1), noise(n * k, 2), noise(m * n, 3));
        let expected: Vec<f32> = (0..m * n)
            .map(|at| chain_of_pairs(&a[at / n * k..][..k], &b[at % n * k..][..k], start[at]))
            .collect();
        let mut panels = Panels::default();
        panels.pack(Operands::Bf16, View::new(&b, k, 1), n, k);
        let mut words = Vec::new();
        let left = left_words(View::new(&a, k, 1), [m, k], &mut words, false);
        let sets = instruction_sets().into_iter().map(|set| Microkernel::of(set, Operands::Bf16));
        for (number, kernel) in sets.chain([Microkernel::detect(Operands::Bf16)]).enumerate() {
            let mut c = start.clone();
            let depth = panels.steps();
            let block = Block { panels: &panels, first_column: 0, columns: n, first_step: 0, depth };
            let output = Output { data: c.as_mut_ptr(), row: n };
            // SAFETY: the shapes are those of the buffers, and the set is one of this processor's.
            unsafe { multiply_with(kernel, left, m, block.steps(), output, true) };
            assert!(same_bits(&c, &expected), "kernel {number} {m}x{n}x{k}");
        }
    }
}

#[test]
fn every_instruction_set_multiplies_bytes_alike() {
    for (m, n, k) in [(1, 1, 1), (1, 300, 20), (2, 70, 64), (3, 97, 257), (25, 33, 2600)] {
        let (a, b) = (noise(m * k, 1), noise(n * k, 2));
        let mut panels = Panels::default();
        panels.pack(Operands::Int8, View::new(&b, k, 1), n, k);
        let mut words = Vec::new();
        let row = left_blocks(View::new(&a, k, 1), m, k, &mut words);
        let sets = instruction_sets().into_iter().map(|set| Microkernel::of(set, Operands::Int8));
        let results: Vec<Vec<f32>> = sets
            .chain([Microkernel::detect(Operands::Int8)])
            .map(|kernel| {
                let mut c = vec![f32::NAN; m * n];
                let depth = panels.steps();
                let block = Block { panels: &panels, first_column: 0, columns: n, first_step: 0, depth };
                let output = Output { data: c.as_mut_ptr(), row: n };
                // SAFETY: the shapes are those of the buffers, and the set is one of this processor's.
                unsafe { multiply_with(kernel, View::new(&words, row, 1), m, block.steps(), output, false) };
                c
            })
            .collect();
        assert!(results.iter().all(|c| same_bits(c, &results[0]) && c.iter().all(|c| c.is_finite())));
    }
}

#[test]
fn bf16_rounds_to_nearest_even_and_keeps_what_is_not_a_number() {
    let rounded = |x: f32| unpair(pair(x, 1.0))[0];
    let cases =
        [(1.0, 1.0), (1.003_906_3, 1.0), (1.011_718_8, 1.015_625), (-0.0, -0.0), (3.4e38, f32::INFINITY)];
    for (x, expected) in cases {
        assert_eq!(rounded(x).to_bits(), f32::to_bits(expected), "{x}");
    }
    assert!(rounded(f32::NAN).is_nan() && rounded(f32::from_bits(0xFFFF_FFFF)).is_nan());
    assert!(rounded(f32::from_bits(0x7F80_0001)).is_nan());
    assert_eq!(unpair(pair(0.5, -2.0)), [0.5, -2.0]);
}

fn same_bits(a: &[f32], b: &[f32]) -> bool {
    a.iter().map(|x| x.to_bits()).eq(b.iter().map(|x| x.to_bits()))
}
