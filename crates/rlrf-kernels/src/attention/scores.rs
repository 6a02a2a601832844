//! Scores of cached keys, which lie in memory key after key: each is a dot product.

use crate::simd;
#[cfg(target_arch = "x86_64")]
use crate::simd::LANES;

/// Scores of a block's keys for the query heads `q: [group, dim]`.
///
/// `k` holds one head of the keys, `width` from key to key; the scores of one head lie `stride` behind those
/// of the one before. Every instruction set gives the same bits.
pub(super) fn score_block(q: &[f32], k: &[f32], dim: usize, width: usize, scores: &mut [f32], stride: usize) {
    #[cfg(target_arch = "x86_64")]
    let done = score_groups(q, k, dim, width, scores, stride);
    #[cfg(not(target_arch = "x86_64"))]
    let done = 0;
    score_keys(q, &k[(done * width).min(k.len())..], dim, width, &mut scores[done..], stride);
}

/// Scores whole groups of 16 keys where AVX-512 is at hand; returns how many keys it did.
#[cfg(target_arch = "x86_64")]
fn score_groups(q: &[f32], k: &[f32], dim: usize, width: usize, scores: &mut [f32], stride: usize) -> usize {
    let keys = k.len().div_ceil(width) / LANES * LANES;
    if keys == 0 || simd::InstructionSet::detect() != simd::InstructionSet::Avx512 {
        return 0;
    }
    assert!(dim <= width && k.len() >= (keys - 1) * width + dim);
    assert!(scores.len() >= (q.len() / dim - 1) * stride + keys);
    // SAFETY: the set was detected, and the keys and scores were checked to exist.
    unsafe { score_groups_avx512(q, k, dim, width, scores, stride, keys) };
    keys
}

simd! {
    fn score_keys(q: &[f32], k: &[f32], dim: usize, width: usize, scores: &mut [f32], stride: usize) {
        for (i, k) in k.chunks(width).enumerate() {
            for (q, scores) in q.chunks_exact(dim).zip(scores.chunks_mut(stride)) {
                scores[i] = simd::dot(q, &k[..dim]);
            }
        }
    }
}

/// The first `keys` (whole groups) at 16 keys a time: the sums over lanes of 16 accumulators take as many
/// shuffles as four alone would.
///
/// # Safety
/// AVX-512 is at hand; `k` and `scores` hold `keys` keys.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
unsafe fn score_groups_avx512(
    q: &[f32],
    k: &[f32],
    dim: usize,
    width: usize,
    scores: &mut [f32],
    stride: usize,
    keys: usize,
) {
    use std::arch::x86_64::*;
    // Where `sum_lanes_of_16` puts the sum of each accumulator.
    const LANE: [usize; LANES] = [0, 2, 1, 3, 8, 10, 9, 11, 4, 6, 5, 7, 12, 14, 13, 15];
    for first in (0..keys).step_by(LANES) {
        for (head, q) in q.chunks_exact(dim).enumerate() {
            let mut sums = [_mm512_setzero_ps(); LANES];
            for channel in (0..dim).step_by(LANES) {
                let mask = u16::MAX >> (LANES - (dim - channel).min(LANES));
                // SAFETY: the masked channels of the keys from `first` on exist.
                unsafe {
                    let q = _mm512_maskz_loadu_ps(mask, q.as_ptr().add(channel));
                    let k = k.as_ptr().add(first * width + channel);
                    for (sum, key) in sums.iter_mut().zip(LANE) {
                        *sum = _mm512_fmadd_ps(q, _mm512_maskz_loadu_ps(mask, k.add(key * width)), *sum);
                    }
                }
            }
            // SAFETY: the scores of the head's keys from `first` on exist.
            unsafe {
                _mm512_storeu_ps(scores.as_mut_ptr().add(head * stride + first), sum_lanes_of_16(sums));
            }
        }
    }
}

/// [`simd::sum_lanes`] of 16 accumulators at once: each step adds halves, and packs two results into one register.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
fn sum_lanes_of_16(x: [std::arch::x86_64::__m512; LANES]) -> std::arch::x86_64::__m512 {
    use std::arch::x86_64::*;
    let mut eight = [_mm512_setzero_ps(); 8];
    for (i, sum) in eight.iter_mut().enumerate() {
        let (low, high) = (x[i], x[i + 8]);
        *sum =
            _mm512_add_ps(_mm512_shuffle_f32x4::<0x44>(low, high), _mm512_shuffle_f32x4::<0xEE>(low, high));
    }
    let mut four = [_mm512_setzero_ps(); 4];
    for (i, sum) in four.iter_mut().enumerate() {
        let (low, high) = (eight[i], eight[i + 4]);
        *sum =
            _mm512_add_ps(_mm512_shuffle_f32x4::<0x88>(low, high), _mm512_shuffle_f32x4::<0xDD>(low, high));
    }
    let mut two = [_mm512_setzero_ps(); 2];
    for (i, sum) in two.iter_mut().enumerate() {
        let (low, high) = (four[i], four[i + 2]);
        *sum = _mm512_add_ps(_mm512_shuffle_ps::<0x44>(low, high), _mm512_shuffle_ps::<0xEE>(low, high));
    }
    let [low, high] = two;
    _mm512_add_ps(_mm512_shuffle_ps::<0x88>(low, high), _mm512_shuffle_ps::<0xDD>(low, high))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_of_keys_give_the_bits_of_single_keys() {
        for (heads, dim, width, keys) in [(1, 64, 64, 16), (3, 20, 45, 53), (2, 32, 96, 100), (1, 7, 7, 31)] {
            let value = |i: usize| ((i * 7919) % 1009) as f32 / 500.0 - 1.0;
            let q: Vec<f32> = (0..heads * dim).map(value).collect();
            let k: Vec<f32> = (0..keys * width).map(|i| value(i + 13)).collect();
            let mut expected = vec![f32::NAN; heads * keys];
            score_keys(&q, &k, dim, width, &mut expected, keys);
            let mut scores = vec![f32::NAN; heads * keys];
            score_block(&q, &k, dim, width, &mut scores, keys);
            assert_eq!(scores, expected);
        }
    }
}
