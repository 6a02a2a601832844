//! Attention of one new token against cached keys and values.

use super::Heads;
use super::scores::score_block;
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
        let mut inverse_sums = [0f32; MOST_HEADS];
        let heads_at_once = scores.chunks_mut(MOST_HEADS * keys).zip(out.chunks_mut(MOST_HEADS * dim));
        for (scores, out) in heads_at_once {
            for (scores, inverse_sum) in scores.chunks_exact_mut(keys).zip(&mut inverse_sums) {
                *inverse_sum = 1.0 / exponentials(scores, scale);
            }
            let mut start = 0;
            for (_, v) in &blocks {
                add_values(&scores[start..], keys, &v[head * dim..], width, out, dim);
                start += v.len() / width;
            }
            for (out, inverse_sum) in out.chunks_exact_mut(dim).zip(inverse_sums) {
                scale_row(out, inverse_sum);
            }
        }
    }
}

/// Query heads that read the values together.
const MOST_HEADS: usize = 4;

simd! {
    /// `x = exp(scale x - shift)` with the shift that makes the largest 1; returns the sum.
    fn exponentials(x: &mut [f32], scale: f32) -> f32 {
        let shift = simd::max(x) * scale;
        simd::exp_in_place(x, scale, shift)
    }
}

simd! {
    /// Adds a block's values, weighted, into `out: [heads, dim]` of at most `MOST_HEADS` heads; the weights of one
    /// head lie `stride` behind those of the one before.
    fn add_values(weights: &[f32], stride: usize, v: &[f32], width: usize, out: &mut [f32], dim: usize) {
        match out.len() / dim {
            1 => add_values_of::<1>(weights, stride, v, width, out, dim),
            2 => add_values_of::<2>(weights, stride, v, width, out, dim),
            3 => add_values_of::<3>(weights, stride, v, width, out, dim),
            _ => add_values_of::<MOST_HEADS>(weights, stride, v, width, out, dim),
        }
    }
}

#[inline(always)]
fn add_values_of<const H: usize>(
    weights: &[f32],
    stride: usize,
    v: &[f32],
    width: usize,
    out: &mut [f32],
    dim: usize,
) {
    let mut channel = 0;
    while channel + 4 * LANES <= dim {
        add_channels::<H, { 4 * LANES }>(weights, stride, v, width, out, dim, channel);
        channel += 4 * LANES;
    }
    while channel + LANES <= dim {
        add_channels::<H, LANES>(weights, stride, v, width, out, dim, channel);
        channel += LANES;
    }
    while channel < dim {
        add_channels::<H, 1>(weights, stride, v, width, out, dim, channel);
        channel += 1;
    }
}

/// Keeps `N` sums of each of `H` heads in registers over the block's keys.
#[inline(always)]
fn add_channels<const H: usize, const N: usize>(
    weights: &[f32],
    stride: usize,
    v: &[f32],
    width: usize,
    out: &mut [f32],
    dim: usize,
    channel: usize,
) {
    let mut sums = [[0f32; N]; H];
    for (h, sums) in sums.iter_mut().enumerate() {
        sums.copy_from_slice(&out[h * dim + channel..][..N]);
    }
    let weights: [&[f32]; H] = std::array::from_fn(|h| &weights[h * stride..]);
    for (key, v) in v.chunks(width).enumerate() {
        let Some(v) = v[channel..].first_chunk::<N>() else { break };
        for h in 0..H {
            let weight = weights[h][key];
            for i in 0..N {
                sums[h][i] = weight.mul_add(v[i], sums[h][i]);
            }
        }
    }
    for (h, sums) in sums.iter().enumerate() {
        out[h * dim + channel..][..N].copy_from_slice(sums);
    }
}

simd! {
    fn scale_row(x: &mut [f32], factor: f32) {
        for x in x {
            *x *= factor;
        }
    }
}
