//! Attention of new tokens against cached keys and values.

use super::Heads;
use super::scores::score_block;
use crate::simd::{self, LANES};

/// One query of a [`decode`].
pub struct Query<'a, 'k> {
    /// `[query, dim]`.
    pub q: &'a [f32],
    /// What it sees beyond the shared blocks.
    pub blocks: Vec<KeyValueBlock<'k>>,
    /// `[query / key_value, dim]`: of the query heads of one key/value head, overwritten.
    pub out: &'a mut [f32],
}

/// Neighbouring cached keys and values, `[len, key_value, dim]` each.
pub type KeyValueBlock<'k> = (&'k [f32], &'k [f32]);

/// Queries against cached keys and values, on the calling thread: first those of `shared`, which all of them see, as one
/// product over all queries, then each against its own. One key/value head, `head`, and its query heads.
///
/// The order of summation depends on the key's index alone, never on how keys are cut into blocks nor on who shares
/// them. Every key given is visible: the caller applies the window. Without any key the output is zero.
///
/// # Panics
/// If a length is wrong.
pub fn decode(
    queries: &mut [Query<'_, '_>],
    shared: &[KeyValueBlock<'_>],
    heads: Heads,
    head: usize,
    scratch: &mut DecodeScratch,
) {
    let Heads { query, key_value, dim, .. } = heads;
    let (width, group) = (key_value * dim, query / key_value);
    assert!(queries.iter().all(|it| it.q.len() == query * dim && it.out.len() == group * dim));
    let keys_of = |blocks: &[KeyValueBlock<'_>]| blocks.iter().map(|(k, _)| k.len() / width).sum::<usize>();
    let shared_keys = keys_of(shared);
    let most_keys = shared_keys + queries.iter().map(|it| keys_of(&it.blocks)).max().unwrap_or(0);
    let rows = queries.len() * group;
    scratch.scores.resize(scratch.scores.len().max(rows * most_keys), 0.0);
    let of_query = head * group * dim..(head + 1) * group * dim;
    let DecodeScratch { q, out, scores, inverse_sums } = scratch;
    q.clear();
    queries.iter().for_each(|it| q.extend_from_slice(&it.q[of_query.clone()]));
    out.clear();
    out.resize(rows * dim, 0.0);
    if most_keys > 0 {
        let scores = &mut scores[..rows * most_keys];
        each_block(shared, width, |start, k, _| {
            score_block(q, &k[head * dim..], dim, width, &mut scores[start..], most_keys);
        });
        let of_each = q.chunks_exact(group * dim).zip(scores.chunks_exact_mut(group * most_keys));
        for (it, (q, scores)) in queries.iter().zip(of_each) {
            each_block(&it.blocks, width, |start, k, _| {
                let scores = &mut scores[shared_keys + start..];
                score_block(q, &k[head * dim..], dim, width, scores, most_keys);
            });
        }
        inverse_sums.clear();
        for (index, scores) in scores.chunks_exact_mut(most_keys).enumerate() {
            let keys = shared_keys + keys_of(&queries[index / group].blocks);
            let sum = exponentials(&mut scores[..keys], heads.scale());
            inverse_sums.push(if keys > 0 { 1.0 / sum } else { 0.0 });
        }
        each_block(shared, width, |start, _, v| {
            let weights = &scores[start..];
            add_values_of_all(weights, most_keys, &v[head * dim..], width, out, dim);
        });
        let of_each = out.chunks_exact_mut(group * dim).zip(scores.chunks_exact(group * most_keys));
        for (it, (out, scores)) in queries.iter().zip(of_each) {
            each_block(&it.blocks, width, |start, _, v| {
                let weights = &scores[shared_keys + start..];
                add_values_of_all(weights, most_keys, &v[head * dim..], width, out, dim);
            });
        }
        out.chunks_exact_mut(dim).zip(inverse_sums).for_each(|(out, factor)| scale_row(out, *factor));
    }
    for (it, out) in queries.iter_mut().zip(out.chunks_exact(group * dim)) {
        it.out.copy_from_slice(out);
    }
}

/// Buffers of [`decode`], kept from call to call.
#[derive(Debug, Default)]
pub struct DecodeScratch {
    /// The queries of one key/value head, `[queries, group, dim]`.
    q: Vec<f32>,
    out: Vec<f32>,
    /// `[queries, group, most keys]`.
    scores: Vec<f32>,
    /// Of the exponentials of each row of scores.
    inverse_sums: Vec<f32>,
}

/// Visits blocks with the number of keys before each.
fn each_block(blocks: &[KeyValueBlock<'_>], width: usize, mut visit: impl FnMut(usize, &[f32], &[f32])) {
    let mut start = 0;
    for (k, v) in blocks.iter().filter(|(k, _)| !k.is_empty()) {
        visit(start, k, v);
        start += k.len() / width;
    }
}

/// [`add_values`] for any number of heads.
fn add_values_of_all(weights: &[f32], stride: usize, v: &[f32], width: usize, out: &mut [f32], dim: usize) {
    for (index, out) in out.chunks_mut(MOST_HEADS * dim).enumerate() {
        add_values(&weights[index * MOST_HEADS * stride..], stride, v, width, out, dim);
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
    fn scale_row(x: &mut [f32], factor: f32) {
        for x in x {
            *x *= factor;
        }
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
