//! Grouped-query attention over packed spans, forward and backward, and for decoding.
//!
//! Blocks of queries against all their keys are matrix products; a softmax row is computed in two passes
//! over its scores, which exist for one block of queries of one head at a time.

mod decode;
mod forest;
mod key_values;
mod scratch;

use std::ops::Range;

use rayon::prelude::*;

pub use decode::{DecodeScratch, Query, decode};
pub use key_values::{BLOCK, KeyValues};

use crate::matmul::{Operands, Output};
use forest::forest;
use scratch::{Scratch, with_scratch};

/// Multiply-adds below which a second thread costs more than it gives.
const PARALLEL: usize = 1 << 19;

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

impl Span {
    /// Pairs of query and visible key, about, where there are so many queries.
    fn pairs(&self, queries: usize) -> usize {
        queries * (self.prefix.len() + self.rows.len() / 2 + 1)
    }
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
    /// Keys whose position is `window` or more behind the query's are not seen (Mistral's sliding window);
    /// at least 1.
    pub window: Option<usize>,
}

impl Heads {
    /// What scores are multiplied by.
    fn scale(self) -> f32 {
        scale(self.dim)
    }

    fn check(self, [rows, queries]: [usize; 2], query_sized: &[usize], key_sized: &[usize], per_head: usize) {
        assert!(
            self.key_value > 0
                && self.query > 0
                && self.query.is_multiple_of(self.key_value)
                && self.window != Some(0)
        );
        assert!(query_sized.iter().all(|&len| len == queries * self.query * self.dim));
        assert!(key_sized.iter().all(|&len| len == rows * self.key_value * self.dim));
        assert_eq!(per_head, queries * self.query);
    }
}

/// What scores of keys with `dim` channels are multiplied by.
fn scale(dim: usize) -> f32 {
    1.0 / (dim as f32).sqrt()
}

/// The inputs of both directions.
#[derive(Clone, Copy)]
struct Inputs<'a> {
    operands: Operands,
    q: &'a [f32],
    k: &'a [f32],
    v: &'a [f32],
    positions: &'a [u32],
    queries: Option<&'a [usize]>,
    heads: Heads,
}

impl Inputs<'_> {
    /// The row in the batch of the query at `place`.
    fn row(&self, place: usize) -> usize {
        self.queries.map_or(place, |rows| rows[place])
    }

    /// The places of a span's queries.
    fn places(&self, span: &Span) -> Range<usize> {
        let place = |row: usize| self.queries.map_or(row, |rows| rows.partition_point(|&other| other < row));
        place(span.rows.start)..place(span.rows.end)
    }

    /// Number of queries.
    fn count(&self) -> usize {
        self.queries.map_or(self.positions.len(), <[usize]>::len)
    }

    /// # Panics
    /// If the queries' rows do not ascend, or are not of the batch.
    fn check(&self, query_sized: &[usize], key_sized: &[usize], per_head: usize) {
        let rows = self.queries.unwrap_or_default();
        assert!(rows.is_sorted_by(|one, next| one < next), "queries must ascend");
        assert!(rows.last().is_none_or(|&last| last < self.positions.len()), "queries must be of the batch");
        self.heads.check([self.positions.len(), self.count()], query_sized, key_sized, per_head);
    }
}

/// `q, out: [Q, query, dim]`, `k, v: [T, key_value, dim]`, `logsumexp: [Q, query]` (kept for the backward).
/// The scale is `1/sqrt(dim)`. `positions: [T]` are used for the window only. `queries: [Q]` are the rows that `q` is of, ascending;
/// all `T` where none are given. A row's result does not depend on which others are.
///
/// Products are of `operands`, f32 or bf16; all else is f32. In f32, a row's result is the same to the bit whether its
/// prefix is shared or copied into its own span.
///
/// # Panics
/// If the spans do not cover the `T` rows in order, the queries do not ascend, or a length is wrong.
pub fn forward(
    operands: Operands,
    q: &[f32],
    k: &[f32],
    v: &[f32],
    positions: &[u32],
    spans: &[Span],
    queries: Option<&[usize]>,
    heads: Heads,
    out: &mut [f32],
    logsumexp: &mut [f32],
) {
    let inputs = Inputs { operands: operands.unsplit(), q, k, v, positions, queries, heads };
    inputs.check(&[q.len(), out.len()], &[k.len(), v.len()], logsumexp.len());
    let out = Output { data: out.as_mut_ptr(), row: heads.query * heads.dim };
    let logsumexp = Output { data: logsumexp.as_mut_ptr(), row: heads.query };
    each_task(inputs, spans, true, |tree, key_value, group, scratch| {
        for span in tree {
            if inputs.places(span).is_empty() {
                continue;
            }
            scratch.load_forward(inputs, span, key_value);
            for head in group.clone() {
                // SAFETY: the places of the queries of this tree, of this head, are written by this task alone.
                unsafe { scratch.forward_head(inputs, span, head, out, logsumexp) };
            }
        }
    });
}

/// Overwrites `dq, dk, dv`; keys of a prefix gather gradient from every span that saw them.
///
/// # Panics
/// If the spans do not cover the `T` rows in order, the queries do not ascend, or a length is wrong.
#[expect(clippy::too_many_arguments, reason = "plain slices are the interface of every operation here")]
pub fn backward(
    operands: Operands,
    q: &[f32],
    k: &[f32],
    v: &[f32],
    out: &[f32],
    logsumexp: &[f32],
    dout: &[f32],
    positions: &[u32],
    spans: &[Span],
    queries: Option<&[usize]>,
    heads: Heads,
    dq: &mut [f32],
    dk: &mut [f32],
    dv: &mut [f32],
) {
    let inputs = Inputs { operands: operands.unsplit(), q, k, v, positions, queries, heads };
    let query_sized = [q.len(), out.len(), dout.len(), dq.len()];
    inputs.check(&query_sized, &[k.len(), v.len(), dk.len(), dv.len()], logsumexp.len());
    let results = scratch::Results { out, logsumexp, dout };
    let gradients = scratch::Gradients {
        dq: Output { data: dq.as_mut_ptr(), row: heads.query * heads.dim },
        dk: Output { data: dk.as_mut_ptr(), row: heads.key_value * heads.dim },
        dv: Output { data: dv.as_mut_ptr(), row: heads.key_value * heads.dim },
    };
    each_task(inputs, spans, false, |tree, key_value, group, scratch| {
        // SAFETY: the rows, and places of queries, of this tree, this key/value head and its query heads are written by this task
        // alone; a tree holds every span that sees its rows.
        unsafe {
            for span in tree {
                gradients.clear(span, key_value, heads);
            }
            for span in tree {
                if inputs.places(span).is_empty() {
                    continue;
                }
                scratch.load_backward(inputs, span, key_value);
                for head in group.clone() {
                    scratch.backward_head(inputs, results, span, head, gradients);
                }
            }
        }
    });
}

/// Runs a task `(tree, key/value head, query heads, buffers)` for each tree of spans and each key/value head, or,
/// where these are few and the direction allows to `split` them, for each query head.
fn each_task(
    inputs: Inputs<'_>,
    spans: &[Span],
    split: bool,
    run: impl Fn(&[&Span], usize, Range<usize>, &mut Scratch) + Sync,
) {
    let (heads, trees) = (inputs.heads, forest(spans, inputs.positions.len()));
    let pairs: usize = spans.iter().map(|span| span.pairs(inputs.places(span).len())).sum();
    let parallel = pairs * heads.query * heads.dim >= PARALLEL;
    let few = trees.len() * heads.key_value < 4 * rayon::current_num_threads();
    let per_tree = if split && few && parallel { heads.query } else { heads.key_value };
    let run = |task: usize| {
        let (tree, first) = (&trees[task / per_tree], task % per_tree * heads.query / per_tree);
        let key_value = first * heads.key_value / heads.query;
        let group = first..first + heads.query / per_tree;
        with_scratch(|scratch| {
            scratch.forget_keys();
            run(tree, key_value, group, scratch);
        });
    };
    let tasks = trees.len() * per_tree;
    if parallel {
        (0..tasks).into_par_iter().with_max_len(1).for_each(run);
    } else {
        (0..tasks).for_each(run);
    }
}
