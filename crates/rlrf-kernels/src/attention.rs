//! Grouped-query attention over packed spans, forward and backward.

use std::ops::Range;

use crate::simd;

/// A run of packed rows that attends to itself causally and, fully, to an earlier prefix.
///
/// A plain sequence has an empty prefix. The candidates of one prompt are spans with the prompt's rows as
/// their prefix: the prompt is computed once, and the candidates do not see each other (a tree of depth two).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// The rows of this run.
    pub rows: Range<usize>,
    /// The rows of the prefix that it also attends to; empty for a root. Ends at or before `rows.start`.
    pub prefix: Range<usize>,
}

/// Shape of the heads.
#[derive(Debug, Clone, Copy)]
pub struct Heads {
    /// Query heads.
    pub query: usize,
    /// Key/value heads; divides `query`.
    pub key_value: usize,
    /// Channels per head.
    pub dim: usize,
    /// Keys whose position is `window` or more behind the query's are not seen (Mistral's sliding window).
    pub window: Option<usize>,
}

/// `q, out: [T, query, dim]`, `k, v: [T, key_value, dim]`, `logsumexp: [T, query]` (kept for the backward).
/// The scale is `1/sqrt(dim)`. `positions: [T]` are used for the window only.
pub fn forward(
    q: &[f32],
    k: &[f32],
    v: &[f32],
    positions: &[u32],
    spans: &[Span],
    heads: Heads,
    out: &mut [f32],
    logsumexp: &mut [f32],
) {
    let Heads { query, key_value, dim, .. } = heads;
    let scale = 1.0 / (dim as f32).sqrt();
    for span in spans {
        for row in span.rows.clone() {
            let keys = visible(span, row, positions, heads.window);
            for head in 0..query {
                let at = |t: usize| (t * key_value + head / (query / key_value)) * dim;
                let here = (row * query + head) * dim..(row * query + head + 1) * dim;
                let mut scores: Vec<f32> =
                    keys.iter().map(|&t| scale * dot(&q[here.clone()], &k[at(t)..at(t) + dim])).collect();
                logsumexp[row * query + head] = crate::softmax::logsumexp(&scores);
                crate::softmax::softmax(&mut scores);
                let out = &mut out[here];
                out.fill(0.0);
                for (&t, &p) in keys.iter().zip(&scores) {
                    add_scaled(out, p, &v[at(t)..at(t) + dim]);
                }
            }
        }
    }
}

/// Overwrites `dq, dk, dv`; keys of a prefix gather gradient from every span that saw them.
pub fn backward(
    q: &[f32],
    k: &[f32],
    v: &[f32],
    out: &[f32],
    logsumexp: &[f32],
    dout: &[f32],
    positions: &[u32],
    spans: &[Span],
    heads: Heads,
    dq: &mut [f32],
    dk: &mut [f32],
    dv: &mut [f32],
) {
    let Heads { query, key_value, dim, .. } = heads;
    let scale = 1.0 / (dim as f32).sqrt();
    dq.fill(0.0);
    dk.fill(0.0);
    dv.fill(0.0);
    for span in spans {
        for row in span.rows.clone() {
            let keys = visible(span, row, positions, heads.window);
            for head in 0..query {
                let at = |t: usize| (t * key_value + head / (query / key_value)) * dim;
                let here = (row * query + head) * dim..(row * query + head + 1) * dim;
                let (q, out, dout) = (&q[here.clone()], &out[here.clone()], &dout[here.clone()]);
                let along = dot(out, dout);
                for &t in &keys {
                    let there = at(t)..at(t) + dim;
                    let p = (scale * dot(q, &k[there.clone()]) - logsumexp[row * query + head]).exp();
                    let ds = p * (dot(dout, &v[there.clone()]) - along) * scale;
                    add_scaled(&mut dq[here.clone()], ds, &k[there.clone()]);
                    add_scaled(&mut dk[there.clone()], ds, q);
                    add_scaled(&mut dv[there], p, dout);
                }
            }
        }
    }
}

fn visible(span: &Span, row: usize, positions: &[u32], window: Option<usize>) -> Vec<usize> {
    let seen =
        |t: &usize| window.is_none_or(|window| (positions[row] as usize) < positions[*t] as usize + window);
    span.prefix.clone().chain(span.rows.start..row + 1).filter(seen).collect()
}

/// One decoding query per sequence against its cached keys and values.
///
/// `q, out: [query, dim]` of one row; `blocks` yields the cached key/value blocks in order, each
/// `([len, key_value, dim], [len, key_value, dim])`. The order of summation depends on the key index alone,
/// never on how keys are cut into blocks (so a shared prefix changes nothing). Every key given is visible:
/// the caller applies the window.
pub fn decode<'a>(
    q: &[f32],
    blocks: &mut dyn Iterator<Item = (&'a [f32], &'a [f32])>,
    heads: Heads,
    scratch: &mut Vec<f32>,
    out: &mut [f32],
) {
    let Heads { query, key_value, dim, .. } = heads;
    let scale = 1.0 / (dim as f32).sqrt();
    let width = key_value * dim;
    let rows: Vec<_> = blocks.flat_map(|(k, v)| k.chunks_exact(width).zip(v.chunks_exact(width))).collect();
    for head in 0..query {
        let start = head / (query / key_value) * dim;
        let q = &q[head * dim..(head + 1) * dim];
        scratch.clear();
        scratch.extend(rows.iter().map(|(k, _)| scale * dot(q, &k[start..start + dim])));
        crate::softmax::softmax(scratch);
        let out = &mut out[head * dim..(head + 1) * dim];
        out.fill(0.0);
        for ((_, v), &p) in rows.iter().zip(scratch.iter()) {
            add_scaled(out, p, &v[start..start + dim]);
        }
    }
}

simd! {
    fn dot(a: &[f32], b: &[f32]) -> f32 {
        simd::dot(a, b)
    }
}

simd! {
    fn add_scaled(y: &mut [f32], a: f32, x: &[f32]) {
        simd::add_scaled(y, a, x);
    }
}
