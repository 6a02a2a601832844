//! The buffers of one thread, and the work on one span and head that fills them.

use std::cell::RefCell;
use std::ops::Range;

use super::{Heads, Inputs, Span};
use crate::matmul::{Block, Operands, Output, Panels, View, WIDTH, left_operand, multiply};
use crate::simd;

/// Most queries of a block.
const QUERIES: usize = 64;

/// Queries of a block in a long span: whole strips of the widest tile, or whole tiles.
fn queries(operands: Operands) -> usize {
    if operands == Operands::Bf16 && simd::has_tiles() { QUERIES } else { 48 }
}

/// What the forward left for the backward, and the gradient that comes in.
#[derive(Clone, Copy)]
pub(super) struct Results<'a> {
    pub(super) out: &'a [f32],
    pub(super) logsumexp: &'a [f32],
    pub(super) dout: &'a [f32],
}

/// Where gradients go.
#[derive(Clone, Copy)]
pub(super) struct Gradients {
    pub(super) dq: Output,
    pub(super) dk: Output,
    pub(super) dv: Output,
}

impl Gradients {
    /// Zeroes the key and value gradients of a span's rows.
    ///
    /// # Safety
    /// The rows exist, and no other thread touches this head of them.
    pub(super) unsafe fn clear(self, span: &Span, key_value: usize, heads: Heads) {
        for row in span.rows.clone() {
            for gradient in [self.dk, self.dv] {
                // SAFETY: the caller vouches for the row.
                unsafe { gradient.offset(row, key_value * heads.dim).data.write_bytes(0, heads.dim) };
            }
        }
    }
}

/// Keys and values of a run of rows and one head, packed as the right operands of all products.
#[derive(Default)]
struct Keys {
    rows: Range<usize>,
    key_value: usize,
    /// For `Q K^T`: columns are keys.
    by_key: Panels,
    /// For `dO V^T`: columns are values of one key each.
    value_by_key: Panels,
    /// For `dS K`: columns are channels.
    by_channel: Panels,
    /// For `P V`: columns are channels.
    value_by_channel: Panels,
}

/// The buffers of one thread.
#[derive(Default)]
pub(super) struct Scratch {
    prefix: Keys,
    own: Keys,
    /// Scores, then probabilities, of a block of queries.
    scores: Vec<f32>,
    /// Their gradients.
    d_scores: Vec<f32>,
    /// A block of queries and of incoming gradients, columns are channels.
    q: Panels,
    dout: Panels,
    /// A left operand as words.
    words: Vec<f32>,
}

/// Lends the calling thread's buffers.
pub(super) fn with_scratch(run: impl FnOnce(&mut Scratch)) {
    thread_local! {
        static SCRATCH: RefCell<Scratch> = RefCell::default();
    }
    SCRATCH.with_borrow_mut(run);
}

/// A block of queries of one span.
struct QueryBlock {
    /// Their places among all queries.
    places: Range<usize>,
    /// Keys are counted along the prefix, then along the span; the block's scores start with this one.
    first_key: usize,
    /// The first key that the products compute; those before it in the scores are not visible.
    first_computed: usize,
    /// Behind the last key that any of the block's queries sees.
    end_key: usize,
    /// Length of the prefix.
    prefix: usize,
    /// Distance between rows of scores.
    stride: usize,
}

impl QueryBlock {
    /// The part of the keys that lies in the prefix or in the span, as (first key there, number, first column).
    fn part(&self, in_prefix: bool) -> (usize, usize, usize) {
        let (start, offset, end) = if in_prefix {
            (self.first_computed.min(self.prefix), 0, self.prefix)
        } else {
            (self.first_computed.max(self.prefix), self.prefix, self.end_key)
        };
        // A window that begins behind the prefix leaves nothing of it: its part may then end before the first key.
        (start - offset, end - start, start.saturating_sub(self.first_key))
    }

    /// Splits the scores of the query of a row behind the keys that it may see, and their padding to whole
    /// groups of lanes, which is filled.
    fn split<'a>(
        &self,
        span: &Span,
        row: usize,
        scores: &'a mut [f32],
        padding: f32,
    ) -> (&'a mut [f32], &'a mut [f32]) {
        let visible = self.prefix + row + 1 - span.rows.start - self.first_key;
        let padded = visible.next_multiple_of(simd::LANES);
        scores[visible..padded].fill(padding);
        scores.split_at_mut(padded)
    }
}

impl Keys {
    fn load(&mut self, inputs: Inputs<'_>, rows: Range<usize>, key_value: usize, gradients: bool) {
        let Heads { key_value: heads, dim, .. } = inputs.heads;
        let (width, operands) = (heads * dim, inputs.operands);
        let start = rows.start * width + key_value * dim;
        let (k, v) = (&inputs.k[start..], &inputs.v[start..]);
        self.by_key.pack(operands, View::new(k, width, 1), rows.len(), dim);
        if gradients {
            self.value_by_key.pack(operands, View::new(v, width, 1), rows.len(), dim);
            self.by_channel.pack(operands, View::new(k, 1, width), dim, rows.len());
        } else {
            self.value_by_channel.pack(operands, View::new(v, 1, width), dim, rows.len());
        }
        self.rows = rows;
        self.key_value = key_value;
    }
}

impl Scratch {
    /// Forgets the keys of the task before: a prefix is packed once per task, not per span.
    pub(super) fn forget_keys(&mut self) {
        self.prefix.rows = 0..0;
        self.own.rows = 0..0;
    }

    /// Packs what the forward of a span needs.
    pub(super) fn load_forward(&mut self, inputs: Inputs<'_>, span: &Span, key_value: usize) {
        self.load(inputs, span, key_value, false);
    }

    /// Packs what the backward of a span needs.
    pub(super) fn load_backward(&mut self, inputs: Inputs<'_>, span: &Span, key_value: usize) {
        self.load(inputs, span, key_value, true);
    }

    fn load(&mut self, inputs: Inputs<'_>, span: &Span, key_value: usize, gradients: bool) {
        if !span.prefix.is_empty() && self.prefix.rows != span.prefix {
            if self.own.rows == span.prefix {
                std::mem::swap(&mut self.prefix, &mut self.own);
            } else {
                self.prefix.load(inputs, span.prefix.clone(), key_value, gradients);
            }
        }
        self.own.load(inputs, span.rows.clone(), key_value, gradients);
    }

    /// Output and logsumexp of one head of a span whose keys are loaded.
    ///
    /// # Safety
    /// `out` and `logsumexp` hold the places of the queries, and no other thread touches this head of the span's.
    pub(super) unsafe fn forward_head(
        &mut self,
        inputs: Inputs<'_>,
        span: &Span,
        head: usize,
        out: Output,
        logsumexp: Output,
    ) {
        let (dim, operands) = (inputs.heads.dim, inputs.operands);
        for block in query_blocks(inputs, span) {
            // SAFETY: the block's places are the span's; the buffers are sized for the block.
            unsafe {
                self.compute_scores(inputs, span, &block, head);
                let mut sums = [1f32; QUERIES];
                for (i, (place, sum)) in block.places.clone().zip(&mut sums).enumerate() {
                    let scores = &mut self.scores[i * block.stride..][..block.stride];
                    let (seen, unseen) = block.split(span, inputs.row(place), scores, f32::NEG_INFINITY);
                    unseen.fill(0.0);
                    let shift;
                    (shift, *sum) = exponentials(seen, inputs.heads.scale());
                    *logsumexp.offset(place, head).data = shift + sum.ln();
                }
                let corner = out.offset(block.places.start, head * dim);
                let mut accumulate = false;
                for (in_prefix, keys) in [(true, &self.prefix), (false, &self.own)] {
                    let (first, len, column) = block.part(in_prefix);
                    if len > 0 {
                        let right = by_channel(operands, &keys.value_by_channel, dim, first, len);
                        let left = View::new(&self.scores[column..], block.stride, 1);
                        let count = block.places.len();
                        let left = left_operand(operands, left, [count, len], &mut self.words, false);
                        multiply(left, count, right, corner, accumulate);
                        accumulate = true;
                    }
                }
                for (i, sum) in sums.iter().enumerate().take(block.places.len()) {
                    multiply_by(std::slice::from_raw_parts_mut(corner.offset(i, 0).data, dim), 1.0 / sum);
                }
            }
        }
    }

    /// Gradients of one head of a span whose keys are loaded.
    ///
    /// # Safety
    /// `gradients` hold the places of the queries, and all keys and values; no other thread touches this head of the span's and its prefix's.
    pub(super) unsafe fn backward_head(
        &mut self,
        inputs: Inputs<'_>,
        results: Results<'_>,
        span: &Span,
        head: usize,
        gradients: Gradients,
    ) {
        let (Heads { query, dim, .. }, operands) = (inputs.heads, inputs.operands);
        let scale = inputs.heads.scale();
        for block in query_blocks(inputs, span) {
            let count = block.places.len();
            let start = (block.places.start * query + head) * dim;
            let (q, dout) = (&inputs.q[start..], &results.dout[start..]);
            self.q.pack(operands, View::new(q, 1, query * dim), dim, count);
            self.dout.pack(operands, View::new(dout, 1, query * dim), dim, count);
            self.d_scores.resize(self.d_scores.len().max(count * block.stride), 0.0);
            // SAFETY: the block's places and rows are the span's; the buffers are sized for the block.
            unsafe {
                self.compute_scores(inputs, span, &block, head);
                let dout = View::new(dout, query * dim, 1);
                let dout = left_operand(operands, dout, [count, dim], &mut self.words, false);
                for (in_prefix, keys) in [(true, &self.prefix), (false, &self.own)] {
                    let (first_column, columns, column) = block.part(in_prefix);
                    let panels = &keys.value_by_key;
                    let whole = columns.next_multiple_of(WIDTH);
                    let depth = operands.steps(dim);
                    let right = Block { panels, first_column, columns: whole, first_step: 0, depth };
                    let to = Output { data: self.d_scores.as_mut_ptr(), row: block.stride };
                    if columns > 0 {
                        multiply(dout, count, right, to.offset(0, column), false);
                    }
                }
                for (i, place) in block.places.clone().enumerate() {
                    let (row, of_head) = (inputs.row(place), place * query + head);
                    let channels = of_head * dim..(of_head + 1) * dim;
                    let (out, dout) = (&results.out[channels.clone()], &results.dout[channels]);
                    let scores = &mut self.scores[i * block.stride..][..block.stride];
                    let d_scores = &mut self.d_scores[i * block.stride..][..block.stride];
                    d_scores[..block.first_computed - block.first_key].fill(0.0);
                    let (seen, unseen) = block.split(span, row, scores, f32::NEG_INFINITY);
                    let (d_seen, d_unseen) = block.split(span, row, d_scores, 0.0);
                    softmax_backward(seen, d_seen, scale, results.logsumexp[of_head], out, dout);
                    unseen.fill(0.0);
                    d_unseen.fill(0.0);
                }
                let dq = gradients.dq.offset(block.places.start, head * dim);
                let mut accumulate = false;
                for (in_prefix, keys) in [(true, &self.prefix), (false, &self.own)] {
                    let (first, len, column) = block.part(in_prefix);
                    if len == 0 {
                        continue;
                    }
                    let right = by_channel(operands, &keys.by_channel, dim, first, len);
                    let left = View::new(&self.d_scores[column..], block.stride, 1);
                    let left = left_operand(operands, left, [count, len], &mut self.words, false);
                    multiply(left, count, right, dq, accumulate);
                    accumulate = true;

                    let to =
                        |gradient: Output| gradient.offset(keys.rows.start + first, keys.key_value * dim);
                    for (scores, panels, to) in [
                        (&self.d_scores, &self.q, to(gradients.dk)),
                        (&self.scores, &self.dout, to(gradients.dv)),
                    ] {
                        let left = View::new(&scores[column..], 1, block.stride);
                        let left = left_operand(operands, left, [len, count], &mut self.words, false);
                        multiply(left, len, by_channel(operands, panels, dim, 0, count), to, true);
                    }
                }
            }
        }
    }

    /// Fills `scores` with `q k` (not yet scaled) of a block; keys outside the window are negative infinity.
    ///
    /// # Safety
    /// The span's keys are loaded.
    unsafe fn compute_scores(&mut self, inputs: Inputs<'_>, span: &Span, block: &QueryBlock, head: usize) {
        let (Heads { query, dim, window, .. }, operands) = (inputs.heads, inputs.operands);
        let count = block.places.len();
        self.scores.resize(self.scores.len().max(count * block.stride), 0.0);
        let q = View::new(&inputs.q[(block.places.start * query + head) * dim..], query * dim, 1);
        let q = left_operand(operands, q, [count, dim], &mut self.words, false);
        for (in_prefix, keys) in [(true, &self.prefix), (false, &self.own)] {
            let (first_column, columns, column) = block.part(in_prefix);
            let (panels, whole) = (&keys.by_key, columns.next_multiple_of(WIDTH));
            let depth = operands.steps(dim);
            let right = Block { panels, first_column, columns: whole, first_step: 0, depth };
            let to = Output { data: self.scores.as_mut_ptr(), row: block.stride };
            if columns > 0 {
                // SAFETY: `scores` holds the block, and its stride holds whole panels from `column` on.
                unsafe { multiply(q, count, right, to.offset(0, column), false) };
            }
        }
        if let Some(window) = window {
            for (i, row) in block.places.clone().map(|place| inputs.row(place)).enumerate() {
                let scores = &mut self.scores[i * block.stride..][..block.end_key - block.first_key];
                for (key, score) in (block.first_key..).zip(scores) {
                    let seen = key >= block.first_computed
                        && sees(inputs.positions, row, row_of_key(span, key), window);
                    *score = if seen { *score } else { f32::NEG_INFINITY };
                }
            }
        }
    }
}

/// The part of panels whose columns are channels that begins with the row `first`, an even number.
fn by_channel(operands: Operands, panels: &Panels, dim: usize, first: usize, rows: usize) -> Block<'_> {
    debug_assert!(first.is_multiple_of(2));
    let (first_step, depth) = (operands.steps(first), operands.steps(rows));
    Block { panels, first_column: 0, columns: dim, first_step, depth }
}

fn sees(positions: &[u32], query: usize, key: usize, window: usize) -> bool {
    (positions[query] as usize) < (positions[key] as usize).saturating_add(window)
}

fn row_of_key(span: &Span, key: usize) -> usize {
    let prefix = span.prefix.len();
    if key < prefix { span.prefix.start + key } else { span.rows.start + key - prefix }
}

/// Cuts a span's queries into blocks whose scores stay in cache.
fn query_blocks<'a>(inputs: Inputs<'a>, span: &'a Span) -> impl Iterator<Item = QueryBlock> + 'a {
    let (prefix, all) = (span.prefix.len(), inputs.places(span));
    // Fewer queries waste less beyond the diagonal of a short span, and keep the scores of a long one in cache.
    let most = queries(inputs.operands);
    let size = if all.len() <= 96 || prefix + span.rows.len() > 2048 { most / 2 } else { most };
    all.clone().step_by(size).map(move |start| {
        let places = start..(start + size).min(all.end);
        let before = prefix + inputs.row(places.start) - span.rows.start;
        let end_key = prefix + inputs.row(places.end - 1) + 1 - span.rows.start;
        let mut first_key = 0;
        let mut first_computed = 0;
        if let Some(window) = inputs.heads.window {
            let rows = places.clone().map(|place| inputs.row(place));
            let earliest = rows.min_by_key(|&row| inputs.positions[row]).unwrap_or(span.rows.start);
            let seen = |&key: &usize| sees(inputs.positions, earliest, row_of_key(span, key), window);
            let first = (0..before).find(seen).unwrap_or(before);
            // Products start with whole panels, sums of exponentials with whole groups of lanes.
            first_computed = if first < prefix {
                first / WIDTH * WIDTH
            } else {
                prefix + (first - prefix) / WIDTH * WIDTH
            };
            first_key = first_computed / simd::LANES * simd::LANES;
        }
        // Products of scores write whole panels: what sticks out of the prefix is overwritten by the span's own.
        let own_start = first_computed.max(prefix);
        let stride = own_start - first_key + (end_key - own_start).next_multiple_of(WIDTH);
        let stride = stride.next_multiple_of(simd::LANES);
        QueryBlock { places, first_key, first_computed, end_key, prefix, stride }
    })
}

simd! {
    /// `x = exp(scale x - shift)` with the shift that makes the largest 1; returns the shift and the sum.
    fn exponentials(x: &mut [f32], scale: f32) -> (f32, f32) {
        let shift = simd::max(x) * scale;
        let sum = simd::exp_in_place(x, scale, shift);
        (shift, sum)
    }
}

simd! {
    fn multiply_by(x: &mut [f32], factor: f32) {
        for x in x {
            *x *= factor;
        }
    }
}

simd! {
    /// Turns scores into probabilities, and the gradients of probabilities into those of raw scores.
    fn softmax_backward(scores: &mut [f32], d_scores: &mut [f32], scale: f32, logsumexp: f32, out: &[f32], dout: &[f32]) {
        let along = simd::dot(out, dout);
        for (score, d_score) in scores.iter_mut().zip(d_scores) {
            let probability = simd::exp(score.mul_add(scale, -logsumexp));
            *score = probability;
            *d_score = probability * (*d_score - along) * scale;
        }
    }
}
