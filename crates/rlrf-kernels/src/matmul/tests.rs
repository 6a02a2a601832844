//! Bit-identity of the tiles of every instruction set with one plain chain of additions.

use super::microkernel::Microkernel;
use super::product::multiply_with;
use super::*;
use crate::simd::InstructionSet;

fn noise(len: usize, seed: u32) -> Vec<f32> {
    (0..len as u32)
        .map(|i| (i.wrapping_add(seed).wrapping_mul(2_654_435_761) >> 8) as f32 / (1 << 24) as f32 - 0.5)
        .collect()
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
    for (m, n, k) in
        [(1, 1, 1), (1, 300, 20), (2, 130, 9), (3, 97, 257), (5, 64, 300), (25, 33, 515), (16, 31, 8)]
    {
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
        panels.pack(View::new(&b, k, 1), n, k);
        for instructions in instruction_sets() {
            let mut c = start.clone();
            let block = Block { panels: &panels, first_column: 0, columns: n, first_step: 0, depth: k };
            let output = Output { data: c.as_mut_ptr(), row: n };
            // SAFETY: the shapes are those of the buffers, and the set is one of this processor's.
            unsafe {
                multiply_with(Microkernel::of(instructions), View::new(&a, k, 1), m, block, output, true);
            }
            assert!(same_bits(&c, &expected), "{instructions:?} {m}x{n}x{k}");
        }
    }
}

fn same_bits(a: &[f32], b: &[f32]) -> bool {
    a.iter().map(|x| x.to_bits()).eq(b.iter().map(|x| x.to_bits()))
}
