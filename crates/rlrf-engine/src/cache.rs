//! The key/value cache: storage in blocks, and attention over a sequence's chain of them.

use rayon::prelude::*;
use rlrf_kernels::attention::{self, Heads};

use crate::blocks::{BLOCK_TOKENS, BlockId};

/// One row of a decoder call: it writes its key and value at `position` of its sequence's chain, and sees
/// everything up to there.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Query<'a> {
    pub(crate) chain: &'a [BlockId],
    pub(crate) position: usize,
}

/// Keys and values of one layer, `[blocks, BLOCK_TOKENS, key_value, dim]` each.
#[derive(Debug)]
struct Layer {
    keys: Vec<f32>,
    values: Vec<f32>,
}

/// Keys and values of all layers.
#[derive(Debug)]
pub(crate) struct Cache {
    layers: Vec<Layer>,
    heads: Heads,
}

impl Cache {
    /// Room for `blocks` blocks; untouched pages cost no memory.
    pub(crate) fn new(layers: usize, heads: Heads, blocks: usize) -> Self {
        let len = blocks * BLOCK_TOKENS * heads.key_value * heads.dim;
        let layers = (0..layers).map(|_| Layer { keys: vec![0.0; len], values: vec![0.0; len] }).collect();
        Self { layers, heads }
    }

    fn row_len(&self) -> usize {
        self.heads.key_value * self.heads.dim
    }

    /// Copies one block over another, in all layers.
    pub(crate) fn copy_block(&mut self, from: BlockId, to: BlockId) {
        let len = BLOCK_TOKENS * self.row_len();
        for layer in &mut self.layers {
            layer.keys.copy_within(from * len..(from + 1) * len, to * len);
            layer.values.copy_within(from * len..(from + 1) * len, to * len);
        }
    }

    /// Stores the rows' `k, v: [rows, key_value, dim]`, then attends from `q: [rows, query, dim]` into `out`.
    /// All rows are stored first, so a row may see keys of another sequence's rows in the same call.
    pub(crate) fn attend(
        &mut self,
        layer: usize,
        queries: &[Query<'_>],
        q: &[f32],
        k: &[f32],
        v: &[f32],
        out: &mut [f32],
    ) {
        let row = self.row_len();
        let storage = &mut self.layers[layer];
        for (query, (k, v)) in queries.iter().zip(k.chunks_exact(row).zip(v.chunks_exact(row))) {
            let slot =
                query.chain[query.position / BLOCK_TOKENS] * BLOCK_TOKENS + query.position % BLOCK_TOKENS;
            storage.keys[slot * row..][..row].copy_from_slice(k);
            storage.values[slot * row..][..row].copy_from_slice(v);
        }
        let (storage, heads) = (&self.layers[layer], self.heads);
        let width = heads.query * heads.dim;
        out.par_chunks_mut(width).zip(q.par_chunks(width)).zip(queries).for_each_init(
            Vec::new,
            |scratch, ((out, q), query)| {
                attention::decode(q, &mut storage.visible(query, heads.window, row), heads, scratch, out);
            },
        );
    }
}

impl Layer {
    /// The stretches of keys and values that a query sees, in order.
    fn visible<'a>(
        &'a self,
        query: &Query<'a>,
        window: Option<usize>,
        row: usize,
    ) -> impl Iterator<Item = (&'a [f32], &'a [f32])> + use<'a> {
        let Query { chain, position } = *query;
        let end = position + 1;
        let start = window.map_or(0, |window| end.saturating_sub(window));
        (start / BLOCK_TOKENS..end.div_ceil(BLOCK_TOKENS)).map(move |index| {
            let first = (index * BLOCK_TOKENS).max(start) % BLOCK_TOKENS;
            let len = (end - index * BLOCK_TOKENS).min(BLOCK_TOKENS) - first;
            let slot = chain[index] * BLOCK_TOKENS + first;
            (&self.keys[slot * row..][..len * row], &self.values[slot * row..][..len * row])
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_sees_itself_and_the_window_behind_it() {
        let slots = 3 * BLOCK_TOKENS;
        let keys: Vec<f32> = (0..slots).map(|slot| slot as f32).collect();
        let layer = Layer { values: keys.clone(), keys };
        let chain = [2, 0];
        let seen = |position, window| -> Vec<f32> {
            layer
                .visible(&Query { chain: &chain, position }, window, 1)
                .flat_map(|(k, _)| k.to_vec())
                .collect()
        };
        let stored: Vec<f32> = (32..48).chain(0..16).map(|slot| slot as f32).collect();
        for position in 0..32 {
            assert_eq!(seen(position, None), stored[..=position]);
            for window in [1, 3, 16, 17, 40] {
                let start = (position + 1).saturating_sub(window);
                assert_eq!(seen(position, Some(window)), stored[start..=position], "{position} {window}");
            }
        }
    }
}
