//! Attention of one new token against cached keys and values.

use super::Heads;
use crate::simd::{self, LANES};

/// One decoding query per sequence against its cached keys and values, on the calling thread.
///
/// `q, out: [query, dim]` of one row; `blocks` yields the cached key/value blocks in order, each
/// `([len, key_value, dim], [len, key_value, dim])`. The order of summation depends on the key index alone,
/// never on how keys are cut into blocks (so a shared prefix changes nothing). Every key given is visible:
/// the caller applies the window. Without any key the output is zero.
pub fn decode<'a>(
    q: &[f32],
    blocks: &mut dyn Iterator<Item = (&'a [f32], &'a [f32])>,
    heads: Heads,
    scratch: &mut Vec<f32>,
    out: &mut [f32],
) {
    let Heads { query, key_value, dim, .. } = heads;
    assert!(q.len() == query * dim && out.len() == query * dim);
    let blocks: Vec<(&[f32], &[f32])> = blocks.filter(|(k, _)| !k.is_empty()).collect();
    let width = key_value * dim;
    let scale = heads.scale();
    let keys: usize = blocks.iter().map(|(k, _)| k.len() / width).sum();
    out.fill(0.0);
    if keys == 0 {
        return;
    }
    scratch.resize(query * keys, 0.0);
    let group = query / key_value;
    for (head, scores) in (0..key_value).zip(scratch.chunks_exact_mut(group * keys)) {
        let heads = head * group * dim..(head + 1) * group * dim;
        let (q, out) = (&q[heads.clone()], &mut out[heads]);
        let mut start = 0;
        for (k, _) in &blocks {
            score_block(q, &k[head * dim..], dim, width, &mut scores[start..], keys);
            start += k.len() / width;
        }
        for (scores, out) in scores.chunks_exact_mut(keys).zip(out.chunks_exact_mut(dim)) {
            let sum = exponentials(scores, scale);
            let mut start = 0;
            for (_, v) in &blocks {
                let len = v.len() / width;
                add_values(&scores[start..start + len], &v[head * dim..], width, out);
                start += len;
            }
            scale_row(out, 1.0 / sum);
        }
    }
}

simd! {
    /// Scores of a block's keys for the query heads `q: [group, dim]`; `stride` from head to head.
    fn score_block(q: &[f32], k: &[f32], dim: usize, width: usize, scores: &mut [f32], stride: usize) {
        for (i, k) in k.chunks(width).enumerate() {
            for (q, scores) in q.chunks_exact(dim).zip(scores.chunks_mut(stride)) {
                scores[i] = simd::dot(q, &k[..dim]);
            }
        }
    }
}

simd! {
    /// `x = exp(scale x - shift)` with the shift that makes the largest 1; returns the sum.
    fn exponentials(x: &mut [f32], scale: f32) -> f32 {
        let shift = simd::max(x) * scale;
        simd::exp_in_place(x, scale, shift)
    }
}

simd! {
    /// Adds the block's values, weighted, into `out: [dim]`.
    fn add_values(weights: &[f32], v: &[f32], width: usize, out: &mut [f32]) {
        let mut channel = 0;
        while channel + 4 * LANES <= out.len() {
            add_channels::<{ 4 * LANES }>(weights, &v[channel..], width, &mut out[channel..]);
            channel += 4 * LANES;
        }
        while channel + LANES <= out.len() {
            add_channels::<LANES>(weights, &v[channel..], width, &mut out[channel..]);
            channel += LANES;
        }
        while channel < out.len() {
            add_channels::<1>(weights, &v[channel..], width, &mut out[channel..]);
            channel += 1;
        }
    }
}

/// Keeps `N` sums in registers over all keys.
#[inline(always)]
fn add_channels<const N: usize>(weights: &[f32], v: &[f32], width: usize, out: &mut [f32]) {
    let Some(out) = out.first_chunk_mut::<N>() else { return };
    let mut sums = *out;
    for (weight, v) in weights.iter().zip(v.chunks(width)) {
        if let Some(v) = v.first_chunk::<N>() {
            for i in 0..N {
                sums[i] = weight.mul_add(v[i], sums[i]);
            }
        }
    }
    *out = sums;
}

simd! {
    fn scale_row(x: &mut [f32], factor: f32) {
        for x in x {
            *x *= factor;
        }
    }
}
