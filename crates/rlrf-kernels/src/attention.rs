//! Grouped-query attention over packed spans, forward and backward.

use std::ops::Range;

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
pub fn forward(q: &[f32], k: &[f32], v: &[f32], positions: &[u32], spans: &[Span], heads: Heads, out: &mut [f32], logsumexp: &mut [f32]) {
    todo!()
}
/// Overwrites `dq, dk, dv`; keys of a prefix gather gradient from every span that saw them.
pub fn backward(q: &[f32], k: &[f32], v: &[f32], out: &[f32], logsumexp: &[f32], dout: &[f32], positions: &[u32], spans: &[Span], heads: Heads, dq: &mut [f32], dk: &mut [f32], dv: &mut [f32]) {
    todo!()
}

/// One decoding query per sequence against its cached keys and values.
///
/// `q, out: [query, dim]` of one row; `blocks` yields the cached key/value blocks in order, each
/// `([len, key_value, dim], [len, key_value, dim])`. The order of summation depends on the key index alone,
/// never on how keys are cut into blocks (so a shared prefix changes nothing).
pub fn decode<'a>(q: &[f32], blocks: &mut dyn Iterator<Item = (&'a [f32], &'a [f32])>, heads: Heads, scratch: &mut Vec<f32>, out: &mut [f32]) {
    todo!()
}
