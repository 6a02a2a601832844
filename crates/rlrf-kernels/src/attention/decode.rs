//! Attention of new tokens to cached keys and values.

use std::ops::Range;

use super::key_values::{BLOCK, KeyValues};
use super::scale;
use crate::bf16::{pair_in_place, pair_row};
use crate::matmul::{Operands, Strips};
use crate::simd;

/// One query of a [`decode`].
#[derive(Debug)]
pub struct Query<'a> {
    /// `[group, dim]`: of the query heads of one key/value head.
    pub q: &'a [f32],
    /// The blocks of its sequence.
    pub chain: &'a [usize],
    /// The keys of its sequence that it sees; at least one.
    pub keys: Range<usize>,
    /// `[group, dim]`, overwritten.
    pub out: &'a mut [f32],
}

impl Query<'_> {
    /// Places in the chain of the blocks that it sees.
    fn blocks(&self) -> Range<usize> {
        self.keys.start / BLOCK..self.keys.end.div_ceil(BLOCK)
    }
}

/// Queries of one key/value head against its cached keys and values, on the calling thread: first the `shared` blocks that all
/// chains begin with, and which all queries see whole, as one product over all queries, then each against its own.
///
/// Every sum is one chain over channels or keys in their order, however queries share blocks. In f32, where the first key is seen, the
/// output is that of [`forward`](super::forward) to the bit.
///
/// # Panics
/// If a length is wrong, or a block that is seen does not exist.
pub fn decode(cached: &KeyValues, queries: &mut [Query<'_>], shared: usize, scratch: &mut DecodeScratch) {
    let (dim, operands) = (cached.dim(), cached.operands());
    let Some(len) = queries.first().map(|query| query.q.len()) else { return };
    assert!(len.is_multiple_of(dim));
    assert!(queries.iter().all(|query| query.q.len() == len && query.out.len() == len));
    assert!(queries.iter().all(|query| query.keys.start < query.keys.end));
    let seen_whole = |query: &Query<'_>| query.keys.start == 0 && shared * BLOCK <= query.keys.end;
    assert!(shared == 0 || queries.iter().all(seen_whole));

    let strips = Strips::detect(operands);
    let (group, steps, lines) = (len / dim, operands.steps(dim), cached.value_lines());
    let (rows, width) = (queries.len() * group, 16 * lines);
    let stride = BLOCK * queries.iter().map(|query| query.blocks().len()).max().unwrap_or(0);
    let DecodeScratch { places, q, scores, words, out, inverse_sums } = scratch;
    places.clear();
    places.extend(places_of(queries, group, shared));
    let fetch = |visit: usize| match visit.checked_sub(places.len()) {
        None => simd::prefetch(cached.keys(places[visit].block).data),
        Some(visit) => {
            if let Some(place) = places.get(visit) {
                let values = cached.values(place.block);
                simd::prefetch(&values.data[..operands.steps(place.keys) * values.lines]);
            }
        }
    };
    (0..AHEAD).for_each(fetch);
    grow(q, rows * steps);
    grow(scores, rows * stride);
    let of_heads = queries.iter().flat_map(|query| query.q.chunks_exact(dim));
    for (q, head) in q.chunks_exact_mut(steps).zip(of_heads) {
        match operands {
            Operands::Bf16 => pair_row(head, q),
            _ => q.copy_from_slice(head),
        }
    }
    for (visit, Place { rows, column, block, .. }) in places.iter().enumerate() {
        fetch(visit + AHEAD);
        let (q, to) = (&q[rows.start * steps..], &mut scores[rows.start * stride + column..]);
        strips.multiply((q, steps), cached.keys(*block), (to, stride), [rows.len(), steps], false);
    }
    inverse_sums.clear();
    for (index, scores) in scores[..rows * stride].chunks_exact_mut(stride).enumerate() {
        let query = &queries[index / group];
        let first = query.blocks().start * BLOCK;
        let scores = &mut scores[..query.blocks().len() * BLOCK];
        scores[..query.keys.start - first].fill(f32::NEG_INFINITY);
        scores[query.keys.end - first..].fill(f32::NEG_INFINITY);
        inverse_sums.push(1.0 / exponentials(scores, scale(dim)));
        if operands == Operands::Bf16 {
            pair_in_place(scores, words);
        }
    }
    out.clear();
    out.resize(rows * width, 0.0);
    for (visit, Place { rows, column, keys, block }) in (places.len()..).zip(places.iter()) {
        fetch(visit + AHEAD);
        let weights = &scores[rows.start * stride + operands.steps(*column)..];
        let (to, shape) = (&mut out[rows.start * width..], [rows.len(), operands.steps(*keys)]);
        strips.multiply((weights, stride), cached.values(*block), (to, width), shape, true);
    }
    let to = queries.iter_mut().flat_map(|query| query.out.chunks_exact_mut(dim));
    for ((to, out), factor) in to.zip(out.chunks_exact(width)).zip(inverse_sums) {
        scale_row(&out[..dim], *factor, to);
    }
}

/// How many blocks before its turn a block is fetched.
const AHEAD: usize = 4;

/// Buffers of [`decode`], kept from call to call.
#[derive(Debug, Default)]
pub struct DecodeScratch {
    places: Vec<Place>,
    /// The queries in words, `[queries, group, steps of channels]`.
    q: Vec<f32>,
    /// `[queries, group, most keys]`; in the end the weights, in words.
    scores: Vec<f32>,
    /// Weights on their way.
    words: Vec<f32>,
    /// `[queries, group, whole lines of channels]`.
    out: Vec<f32>,
    /// Of the exponentials of each row of scores.
    inverse_sums: Vec<f32>,
}

/// A block that is seen.
#[derive(Debug)]
struct Place {
    /// The rows that see it, of all query heads.
    rows: Range<usize>,
    /// Where its scores begin.
    column: usize,
    /// How many of its keys are seen, or come before such as are.
    keys: usize,
    block: usize,
}

/// The shared blocks, then each query's own, in order.
fn places_of(queries: &[Query<'_>], group: usize, shared: usize) -> impl Iterator<Item = Place> {
    let of_all = queries.iter().take(1).flat_map(move |first| first.chain[..shared].iter().enumerate());
    let of_all = of_all.map(move |(index, &block)| {
        let rows = 0..queries.len() * group;
        Place { rows, column: index * BLOCK, keys: BLOCK, block }
    });
    let own = queries.iter().enumerate().flat_map(move |(index, query)| {
        query.blocks().skip(shared).map(move |place| Place {
            rows: index * group..(index + 1) * group,
            column: (place - query.blocks().start) * BLOCK,
            keys: BLOCK.min(query.keys.end - place * BLOCK),
            block: query.chain[place],
        })
    });
    of_all.chain(own)
}

/// Grows a buffer to `len` elements where it has fewer.
fn grow(buffer: &mut Vec<f32>, len: usize) {
    buffer.resize(buffer.len().max(len), 0.0);
}

simd! {
    /// `x = exp(scale x - shift)` with the shift that makes the largest 1; returns the sum.
    fn exponentials(x: &mut [f32], scale: f32) -> f32 {
        let shift = simd::max(x) * scale;
        simd::exp_in_place(x, scale, shift)
    }
}

simd! {
    fn scale_row(x: &[f32], factor: f32, y: &mut [f32]) {
        for (x, y) in x.iter().zip(y) {
            *y = x * factor;
        }
    }
}
