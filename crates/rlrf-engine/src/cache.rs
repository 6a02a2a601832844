//! The key/value cache: storage in blocks, and attention over a sequence's chain of them.

use std::cell::RefCell;
use std::ops::Range;

use rayon::prelude::*;
use rlrf_kernels::attention::{self, DecodeScratch, Heads};

use crate::blocks::{BLOCK_TOKENS, BlockId};

/// Rows whose common keys are read together at most: enough to make reading them cheap, few enough for all threads.
const GROUP_ROWS: usize = 8;

/// Products of a query's channel and a key's below which a second thread costs more than it gives.
const PARALLEL: usize = 1 << 17;

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
    /// Most blocks.
    blocks: usize,
}

impl Cache {
    /// Empty; it grows to the blocks that are used, `blocks` at most.
    pub(crate) fn new(layers: usize, heads: Heads, blocks: usize) -> Self {
        let layers = (0..layers).map(|_| Layer { keys: Vec::new(), values: Vec::new() }).collect();
        Self { layers, heads, blocks }
    }

    /// Makes room for all blocks of a call's rows.
    pub(crate) fn hold(&mut self, queries: &[Query<'_>]) {
        if let Some(&last) = queries.iter().flat_map(|query| query.chain).max() {
            self.grow(last);
        }
    }

    /// Makes room for a block, and for half as many more as there are, so that growing costs little.
    fn grow(&mut self, block: BlockId) {
        let block_len = BLOCK_TOKENS * self.row_len();
        for layer in &mut self.layers {
            for storage in [&mut layer.keys, &mut layer.values] {
                let held = storage.len() / block_len;
                if held <= block {
                    let blocks = (held + held / 2).min(self.blocks).max(block + 1);
                    storage.reserve_exact((blocks - held) * block_len);
                    storage.resize(blocks * block_len, 0.0);
                }
            }
        }
    }

    fn row_len(&self) -> usize {
        self.heads.key_value * self.heads.dim
    }

    /// Copies one block over another, in all layers.
    pub(crate) fn copy_block(&mut self, from: BlockId, to: BlockId) {
        self.grow(to);
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
        self.layers[layer].attend(queries, q, out, self.heads);
    }
}

thread_local! {
    static SCRATCH: RefCell<DecodeScratch> = RefCell::default();
}

/// Neighbouring rows of a call, and how many full blocks all of them see from the beginning of their chains.
#[derive(Debug, Clone, PartialEq)]
struct Group {
    rows: Range<usize>,
    shared: usize,
}

impl Group {
    fn len(&self) -> usize {
        self.rows.len()
    }
}

/// Cuts the rows of a call into groups that share what their chains begin with.
fn groups(queries: &[Query<'_>], window: Option<usize>) -> Vec<Group> {
    // Blocks that a row sees whole, the last of which may hold the row itself; none where the window hides some.
    let whole = |query: &Query<'_>| {
        let seen = query.position + 1;
        if window.is_some_and(|window| seen > window) { 0 } else { seen / BLOCK_TOKENS }
    };
    let mut groups: Vec<Group> = Vec::new();
    for (row, query) in queries.iter().enumerate() {
        if let Some(group) = groups.last_mut()
            && group.len() < GROUP_ROWS
        {
            let first = queries[group.rows.start].chain;
            let most = group.shared.min(whole(query));
            let shared = first.iter().zip(query.chain).take(most).take_while(|(a, b)| a == b).count();
            // A row that shares less would take from the others what they share.
            if 2 * shared >= group.shared && shared > 0 {
                *group = Group { rows: group.rows.start..row + 1, shared };
                continue;
            }
        }
        groups.push(Group { rows: row..row + 1, shared: whole(query) });
    }
    groups
}

impl Layer {
    /// Groups of rows and key/value heads in parallel.
    fn attend(&self, queries: &[Query<'_>], q: &[f32], out: &mut [f32], heads: Heads) {
        let (width, row) = (heads.query * heads.dim, heads.key_value * heads.dim);
        let groups = groups(queries, heads.window);
        // The output of each row and key/value head, row by row.
        let mut outs = out.chunks_exact_mut(width / heads.key_value);
        let mut tasks: Vec<(&Group, usize, Vec<&mut [f32]>)> = Vec::new();
        for group in &groups {
            let first = tasks.len();
            tasks.extend((0..heads.key_value).map(|head| (group, head, Vec::with_capacity(group.len()))));
            for _ in group.rows.clone() {
                tasks[first..].iter_mut().zip(&mut outs).for_each(|((.., of_head), out)| of_head.push(out));
            }
        }
        let keys: usize = queries.iter().map(|query| query.position + 1).sum();
        let run = |(group, head, outs): (&Group, usize, Vec<&mut [f32]>)| {
            let rows = &queries[group.rows.clone()];
            let shared: Vec<_> = self.visible(&rows[0], heads.window, row).take(group.shared).collect();
            let mut group: Vec<_> = rows
                .iter()
                .zip(q[group.rows.start * width..].chunks_exact(width))
                .zip(outs)
                .map(|((query, q), out)| {
                    let blocks = self.visible(query, heads.window, row).skip(shared.len()).collect();
                    attention::Query { q, blocks, out }
                })
                .collect();
            SCRATCH.with_borrow_mut(|scratch| attention::decode(&mut group, &shared, heads, head, scratch));
        };
        match keys * width < PARALLEL {
            true => tasks.into_iter().for_each(run),
            false => tasks.into_par_iter().with_max_len(1).for_each(run),
        }
    }

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
    fn rows_share_the_blocks_that_their_chains_begin_with() {
        let chains: [&[BlockId]; 4] = [&[4, 7, 1], &[4, 7, 2], &[4, 3], &[9, 8, 6, 5, 0]];
        let query = |chain: usize, position| Query { chain: chains[chain], position };
        let found = |queries: &[Query<'_>], window| -> Vec<(Range<usize>, usize)> {
            groups(queries, window).into_iter().map(|group| (group.rows, group.shared)).collect()
        };
        let samples = [query(0, 40), query(1, 33), query(2, 20), query(3, 79)];
        assert_eq!(found(&samples, None), [(0..3, 1), (3..4, 5)]);
        assert_eq!(found(&samples, Some(30)), [(0..1, 0), (1..2, 0), (2..3, 1), (3..4, 0)]);
        // Rows of one prompt: the later ones see a block more, which the first does not.
        let prompt: Vec<_> = (30..36).map(|position| query(3, position)).collect();
        assert_eq!(found(&prompt, None), [(0..6, 1)]);
        let many = vec![query(0, 40); GROUP_ROWS + 1];
        assert_eq!(found(&many, None), [(0..GROUP_ROWS, 2), (GROUP_ROWS..GROUP_ROWS + 1, 2)]);
    }

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
