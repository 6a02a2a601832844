//! Attention against a plain f64 reference, and the same bits however rows are laid out.

use std::ops::Range;

use crate::common::{assert_close, assert_same_bits, finite_differences, noise, wide, with_threads};
use rlrf_kernels::attention::{
    BLOCK, DecodeScratch, Heads, KeyValues, Query, Span, backward, decode, forward,
};
use rlrf_kernels::matmul::Operands;

/// A packed batch.
#[derive(Default)]
struct Layout {
    positions: Vec<u32>,
    spans: Vec<Span>,
}

impl Layout {
    fn push(&mut self, prefix: Range<usize>, len: usize) -> Range<usize> {
        let start = self.positions.len();
        let first = prefix.clone().last().map_or(0, |row| self.positions[row] + 1);
        self.positions.extend((0..len as u32).map(|i| first + i));
        self.spans.push(Span { rows: start..start + len, prefix });
        start..start + len
    }

    /// Two trees with branches interleaved, a sequence alone, and a branch on part of a root.
    fn mixed() -> Self {
        let mut layout = Self::default();
        let first = layout.push(0..0, 19);
        let second = layout.push(0..0, 7);
        layout.push(first.clone(), 9);
        layout.push(second, 33);
        layout.push(first.clone(), 1);
        layout.push(0..0, 70);
        layout.push(first.start + 2..first.end - 1, 5);
        layout
    }

    /// Rows that a row sees.
    fn seen(&self, row: usize, window: Option<usize>) -> Vec<usize> {
        let span = &self.spans[self.spans.partition_point(|span| span.rows.end <= row)];
        let near = |key: &usize| {
            window
                .is_none_or(|window| (self.positions[row] as usize) < self.positions[*key] as usize + window)
        };
        span.prefix.clone().chain(span.rows.start..row + 1).filter(near).collect()
    }

    fn reference(&self, q: &[f64], k: &[f64], v: &[f64], heads: Heads) -> Vec<f64> {
        let Heads { query, key_value, dim, window } = heads;
        let mut out = vec![0.0; q.len()];
        for row in 0..self.positions.len() {
            let seen = self.seen(row, window);
            for head in 0..query {
                let at = |key: usize| (key * key_value + head / (query / key_value)) * dim;
                let start = (row * query + head) * dim;
                let weights: Vec<f64> = seen
                    .iter()
                    .map(|&key| {
                        (0..dim).map(|i| q[start + i] * k[at(key) + i]).sum::<f64>() / (dim as f64).sqrt()
                    })
                    .map(f64::exp)
                    .collect();
                let sum: f64 = weights.iter().sum();
                for (&key, weight) in seen.iter().zip(weights) {
                    for i in 0..dim {
                        out[start + i] += weight / sum * v[at(key) + i];
                    }
                }
            }
        }
        out
    }
}

struct Data {
    operands: Operands,
    /// The rows that `q` and `dout` are of.
    queries: Option<Vec<usize>>,
    q: Vec<f32>,
    k: Vec<f32>,
    v: Vec<f32>,
    dout: Vec<f32>,
}

impl Data {
    fn new(rows: usize, heads: Heads) -> Self {
        let times = |x: Vec<f32>, factor: f32| x.into_iter().map(|x| x * factor).collect();
        Self {
            operands: Operands::F32,
            queries: None,
            q: times(noise(rows * heads.query * heads.dim, 1), 4.0),
            k: times(noise(rows * heads.key_value * heads.dim, 2), 4.0),
            v: noise(rows * heads.key_value * heads.dim, 3),
            dout: noise(rows * heads.query * heads.dim, 4),
        }
    }

    fn forward(&self, layout: &Layout, heads: Heads) -> (Vec<f32>, Vec<f32>) {
        let mut out = vec![f32::NAN; self.q.len()];
        let mut logsumexp = vec![f32::NAN; self.q.len() / heads.dim];
        forward(
            self.operands,
            &self.q,
            &self.k,
            &self.v,
            &layout.positions,
            &layout.spans,
            self.queries.as_deref(),
            heads,
            &mut out,
            &mut logsumexp,
        );
        (out, logsumexp)
    }

    fn backward(&self, layout: &Layout, heads: Heads) -> [Vec<f32>; 3] {
        let (out, logsumexp) = self.forward(layout, heads);
        let nan = |len| vec![f32::NAN; len];
        let [mut dq, mut dk, mut dv] = [nan(self.q.len()), nan(self.k.len()), nan(self.v.len())];
        backward(
            self.operands,
            &self.q,
            &self.k,
            &self.v,
            &out,
            &logsumexp,
            &self.dout,
            &layout.positions,
            &layout.spans,
            self.queries.as_deref(),
            heads,
            &mut dq,
            &mut dk,
            &mut dv,
        );
        [dq, dk, dv]
    }

    /// The given rows alone, in that order.
    fn rows(&self, rows: &[usize], heads: Heads) -> Self {
        let pick = |x: &[f32], width: usize| {
            rows.iter().flat_map(|row| x[row * width..(row + 1) * width].to_vec()).collect()
        };
        let (query, key_value) = (heads.query * heads.dim, heads.key_value * heads.dim);
        Self {
            operands: self.operands,
            queries: None,
            q: pick(&self.q, query),
            k: pick(&self.k, key_value),
            v: pick(&self.v, key_value),
            dout: pick(&self.dout, query),
        }
    }
}

const HEADS: [Heads; 4] = [
    Heads { query: 6, key_value: 2, dim: 32, window: None },
    Heads { query: 3, key_value: 3, dim: 20, window: None },
    Heads { query: 4, key_value: 1, dim: 7, window: Some(5) },
    Heads { query: 2, key_value: 2, dim: 64, window: Some(37) },
];

#[test]
fn forward_is_the_reference() {
    for heads in HEADS {
        let mut long = Layout::default();
        long.push(0..0, 300);
        for layout in [Layout::mixed(), long] {
            let data = Data::new(layout.positions.len(), heads);
            let expected = layout.reference(&wide(&data.q), &wide(&data.k), &wide(&data.v), heads);
            assert_close(&data.forward(&layout, heads).0, &expected, 1e-5);
        }
    }
}

#[test]
fn gradients_are_finite_differences() {
    for window in [None, Some(4)] {
        let heads = Heads { query: 4, key_value: 2, dim: 5, window };
        let mut layout = Layout::default();
        let root = layout.push(0..0, 6);
        layout.push(root.clone(), 3);
        layout.push(0..0, 2);
        layout.push(root.start..root.end - 1, 4);
        let data = Data::new(layout.positions.len(), heads);
        let (q, k, v) = (wide(&data.q), wide(&data.k), wide(&data.v));
        let loss = |q: &[f64], k: &[f64], v: &[f64]| {
            let out = layout.reference(q, k, v, heads);
            out.iter().zip(&data.dout).map(|(out, dout)| out * f64::from(*dout)).sum::<f64>()
        };
        let [dq, dk, dv] = data.backward(&layout, heads);
        assert_close(&dq, &finite_differences(&q, |q| loss(q, &k, &v)), 1e-5);
        assert_close(&dk, &finite_differences(&k, |k| loss(&q, k, &v)), 1e-5);
        assert_close(&dv, &finite_differences(&v, |v| loss(&q, &k, v)), 1e-5);
    }
}

#[test]
fn branches_are_the_same_bits_as_whole_sequences() {
    for heads in HEADS {
        let layout = Layout::mixed();
        let width = heads.query * heads.dim;
        let data = Data::new(layout.positions.len(), heads);
        let (out, logsumexp) = data.forward(&layout, heads);
        let [dq, ..] = data.backward(&layout, heads);
        for span in &layout.spans {
            let rows: Vec<usize> = span.prefix.clone().chain(span.rows.clone()).collect();
            let mut alone = Layout::default();
            alone.push(0..0, rows.len());
            let own = span.prefix.len()..rows.len();
            let data = data.rows(&rows, heads);
            let (out_alone, logsumexp_alone) = data.forward(&alone, heads);
            let [dq_alone, ..] = data.backward(&alone, heads);
            let queries = |rows: &Range<usize>, width: usize| rows.start * width..rows.end * width;
            assert_same_bits(&out[queries(&span.rows, width)], &out_alone[queries(&own, width)]);
            assert_same_bits(&dq[queries(&span.rows, width)], &dq_alone[queries(&own, width)]);
            let query = heads.query;
            assert_same_bits(&logsumexp[queries(&span.rows, query)], &logsumexp_alone[queries(&own, query)]);
        }
    }
}

#[test]
fn some_queries_are_the_same_bits_as_among_all() {
    for heads in HEADS {
        let mut layout = Layout::mixed();
        layout.push(0..0, 200);
        let rows = layout.positions.len();
        let every_third = (0..rows).step_by(3).collect::<Vec<_>>();
        for queries in [every_third, vec![5, 19, 20, 60, 138, rows - 1], (100..rows).collect(), vec![]] {
            let mut all = Data::new(rows, heads);
            let some = Data {
                queries: Some(queries.clone()),
                k: all.k.clone(),
                v: all.v.clone(),
                ..all.rows(&queries, heads)
            };
            let width = heads.query * heads.dim;
            for (row, dout) in all.dout.chunks_exact_mut(width).enumerate() {
                if !queries.contains(&row) {
                    dout.fill(0.0);
                }
            }
            let pick = |all: &[f32], width: usize| -> Vec<f32> {
                queries.iter().flat_map(|&row| all[row * width..(row + 1) * width].to_vec()).collect()
            };
            let ((out, logsumexp), [dq, dk, dv]) =
                (all.forward(&layout, heads), all.backward(&layout, heads));
            let found = (some.forward(&layout, heads), some.backward(&layout, heads));
            assert_same_bits(&found.0.0, &pick(&out, width));
            assert_same_bits(&found.0.1, &pick(&logsumexp, heads.query));
            assert_same_bits(&found.1[0], &pick(&dq, width));
            assert_close(&found.1[1], &wide(&dk), 0.0);
            assert_close(&found.1[2], &wide(&dv), 0.0);
        }
    }
}

#[test]
#[should_panic(expected = "queries must ascend")]
fn queries_that_do_not_ascend_are_refused() {
    let (heads, mut layout) = (HEADS[0], Layout::default());
    layout.push(0..0, 9);
    let data = Data::new(9, heads);
    let queries = Some(vec![4, 3]);
    let some = Data { queries, k: data.k.clone(), v: data.v.clone(), ..data.rows(&[4, 3], heads) };
    some.forward(&layout, heads);
}

#[test]
fn a_prefix_gathers_gradient_from_every_branch() {
    let heads = HEADS[0];
    let layout = Layout::mixed();
    let data = Data::new(layout.positions.len(), heads);
    let width = heads.key_value * heads.dim;
    let [_, dk, dv] = data.backward(&layout, heads);
    let mut expected = [vec![0f64; dk.len()], vec![0f64; dv.len()]];
    for span in &layout.spans {
        let rows: Vec<usize> = span.prefix.clone().chain(span.rows.clone()).collect();
        let mut alone = Layout::default();
        alone.push(0..0, rows.len());
        let mut data = data.rows(&rows, heads);
        // The prefix's own queries belong to its own span.
        data.dout[..span.prefix.len() * heads.query * heads.dim].fill(0.0);
        let [_, dk, dv] = data.backward(&alone, heads);
        for (expected, actual) in expected.iter_mut().zip([dk, dv]) {
            for (i, row) in rows.iter().enumerate() {
                for c in 0..width {
                    expected[row * width + c] += f64::from(actual[i * width + c]);
                }
            }
        }
    }
    assert_close(&dk, &expected[0], 1e-5);
    assert_close(&dv, &expected[1], 1e-5);
}

#[test]
fn threads_change_nothing() {
    let heads = HEADS[0];
    let layout = Layout::mixed();
    let data = Data::new(layout.positions.len(), heads);
    let run =
        || [vec![data.forward(&layout, heads).0], data.backward(&layout, heads).to_vec()].concat().concat();
    assert_same_bits(&with_threads(2, run), &with_threads(1, run));
}

#[test]
fn large_scores_stay_finite() {
    let heads = Heads { query: 1, key_value: 1, dim: 16, window: None };
    let mut layout = Layout::default();
    layout.push(0..0, 40);
    let mut data = Data::new(40, heads);
    data.q.iter_mut().chain(&mut data.k).for_each(|x| *x *= 1e4);
    let (out, logsumexp) = data.forward(&layout, heads);
    assert!(out.iter().chain(&logsumexp).all(|x| x.is_finite()));
    assert!(data.backward(&layout, heads).concat().iter().all(|x| x.is_finite()));
}

/// Rounding queries and keys moves a score by up to some hundredths, and a probability by as much of itself.
#[test]
fn bf16_is_within_its_rounding_of_f32() {
    let layout = Layout::mixed();
    let rows = layout.positions.len();
    for heads in HEADS {
        let data = Data::new(rows, heads);
        let rounded = Data { operands: Operands::Bf16, ..Data::new(rows, heads) };
        let (out, logsumexp) = data.forward(&layout, heads);
        let (found, found_logsumexp) = rounded.forward(&layout, heads);
        assert!(found != out, "nothing was rounded");
        assert_close(&found, &wide(&out), 0.03);
        assert_close(&found_logsumexp, &wide(&logsumexp), 0.03);
        for (found, exact) in rounded.backward(&layout, heads).iter().zip(data.backward(&layout, heads)) {
            assert_close(found, &wide(&exact), 0.03);
        }
        let run =
            || [vec![rounded.forward(&layout, heads).0], rounded.backward(&layout, heads).to_vec()].concat();
        assert_eq!(with_threads(1, run), with_threads(3, run));
    }
}

/// The first `count` keys and values of one head, in blocks that lie anywhere; with the chain of them.
fn cached(
    data: &Data,
    heads: Heads,
    head: usize,
    operands: Operands,
    count: usize,
) -> (KeyValues, Vec<usize>) {
    let mut cached = KeyValues::new(operands, heads.dim, 7);
    let chain: Vec<usize> = (0..count.div_ceil(BLOCK)).map(|index| (index * 3 + 2) % 7).collect();
    cached.grow(3);
    cached.grow(7);
    let of_head = |all: &'_ [f32]| -> Vec<Vec<f32>> {
        all.chunks_exact(heads.key_value * heads.dim)
            .map(|row| row[head * heads.dim..][..heads.dim].to_vec())
            .collect()
    };
    let (k, v) = (of_head(&data.k), of_head(&data.v));
    // Twice, as blocks are used again: what was there before must not matter.
    for rows in [(0..count).rev().collect::<Vec<_>>(), (0..count).collect()] {
        let place =
            |row: &usize| (chain[row / BLOCK], row % BLOCK, &k[count - 1 - row][..], &v[count - 1 - row][..]);
        cached.store(rows.iter().map(place));
        let place = |row: &usize| (chain[row / BLOCK], row % BLOCK, &k[*row][..], &v[*row][..]);
        cached.store(rows.iter().map(place));
    }
    (cached, chain)
}

/// What each of `rows` gets that sees `keys(row)`, where the first `shared` blocks are shared.
fn decoded(
    data: &Data,
    heads: Heads,
    operands: Operands,
    rows: &[usize],
    shared: usize,
    keys: impl Fn(usize) -> Range<usize>,
) -> Vec<f32> {
    let query = heads.query * heads.dim;
    let group = query / heads.key_value;
    let mut outs = vec![vec![f32::NAN; query]; rows.len()];
    let mut scratch = DecodeScratch::default();
    for head in 0..heads.key_value {
        let (cached, chain) = cached(data, heads, head, operands, data.k.len() / heads.key_value / heads.dim);
        let mut queries: Vec<_> = rows
            .iter()
            .zip(&mut outs)
            .map(|(&row, out)| {
                let q = &data.q[row * query + head * group..][..group];
                Query { q, chain: &chain, keys: keys(row), out: &mut out[head * group..][..group] }
            })
            .collect();
        decode(&cached, &mut queries, shared, &mut scratch);
    }
    outs.concat()
}

#[test]
fn decode_is_a_row_of_forward_to_the_bit_however_blocks_are_shared() {
    for heads in HEADS {
        let heads = Heads { window: None, ..heads };
        let mut layout = Layout::default();
        layout.push(0..0, 75);
        let data = Data::new(75, heads);
        let (out, _) = data.forward(&layout, heads);
        let query = heads.query * heads.dim;
        let rows = [40, 74, 51, 33, 74];
        let expected: Vec<f32> = rows.iter().flat_map(|row| &out[row * query..][..query]).copied().collect();
        for shared in [0, 1, 2] {
            let found = decoded(&data, heads, Operands::F32, &rows, shared, |row| 0..row + 1);
            assert_same_bits(&found, &expected);
        }
        let exact = &wide(&expected);
        let rounded = decoded(&data, heads, Operands::Bf16, &rows, 0, |row| 0..row + 1);
        assert!(rounded != expected, "nothing was rounded");
        assert_close(&rounded, exact, 0.03);
        for shared in [1, 2] {
            let found = decoded(&data, heads, Operands::Bf16, &rows, shared, |row| 0..row + 1);
            assert_same_bits(&found, &rounded);
        }
        let alone: Vec<f32> = rows
            .iter()
            .flat_map(|&row| decoded(&data, heads, Operands::Bf16, &[row], 0, |row| 0..row + 1))
            .collect();
        assert_same_bits(&alone, &rounded);
    }
}

#[test]
fn decode_sees_a_window_as_forward_does() {
    for (heads, window) in
        HEADS.into_iter().flat_map(|heads| [1, 5, 16, 17, 40].map(|window| (heads, window)))
    {
        let heads = Heads { window: Some(window), ..heads };
        let mut layout = Layout::default();
        layout.push(0..0, 75);
        let data = Data::new(75, heads);
        let (out, _) = data.forward(&layout, heads);
        let query = heads.query * heads.dim;
        let rows: Vec<usize> = (0..75).collect();
        let expected: Vec<f32> = rows.iter().flat_map(|row| &out[row * query..][..query]).copied().collect();
        let keys = |row: usize| (row + 1).saturating_sub(window)..row + 1;
        assert_close(&decoded(&data, heads, Operands::F32, &rows, 0, keys), &wide(&expected), 1e-5);
        assert_close(&decoded(&data, heads, Operands::Bf16, &rows, 0, keys), &wide(&expected), 0.03);
    }
}
