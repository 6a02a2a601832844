//! The key/value cache: storage in blocks, and attention over a sequence's chain of them.

use std::borrow::Cow;
use std::cell::RefCell;
use std::ops::Range;

use rayon::prelude::*;
use rlrf_kernels::attention::{self, DecodeScratch, Heads, KeyValues};
use rlrf_kernels::matmul::Operands;

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

/// Keys and values of all layers.
#[derive(Debug)]
pub(crate) struct Cache {
    /// The key/value heads of each layer.
    layers: Vec<Vec<KeyValues>>,
    heads: Heads,
}

impl Cache {
    /// Empty; it grows to the blocks that are used, `blocks` at most.
    pub(crate) fn new(layers: usize, heads: Heads, operands: Operands, blocks: usize) -> Self {
        let empty = vec![KeyValues::new(operands, heads.dim, blocks); heads.key_value];
        Self { layers: vec![empty; layers], heads }
    }

    /// Makes room for all blocks of a call's rows.
    pub(crate) fn hold(&mut self, queries: &[Query<'_>]) {
        if let Some(&last) = queries.iter().flat_map(|query| query.chain).max() {
            self.grow(last);
        }
    }

    /// Makes room for a block.
    fn grow(&mut self, block: BlockId) {
        self.layers.iter_mut().flatten().for_each(|head| head.grow(block + 1));
    }

    /// Copies one block over another, in all layers.
    pub(crate) fn copy_block(&mut self, from: BlockId, to: BlockId) {
        self.grow(to);
        self.layers.iter_mut().flatten().for_each(|head| head.copy_block(from, to));
    }

    /// Stores the rows' `k, v: [rows, key_value, dim]`, then attends from `q: [asking, query, dim]` of the rows that ask, or of all,
    /// into `out`.
    /// All rows are stored first, so a row may see keys of another sequence's rows in the same call. Heads, and groups of rows, in
    /// parallel.
    pub(crate) fn attend(
        &mut self,
        layer: usize,
        rows: &[Query<'_>],
        asking: Option<&[usize]>,
        q: &[f32],
        k: &[f32],
        v: &[f32],
        out: &mut [f32],
    ) {
        let Heads { query, key_value, dim, window } = self.heads;
        let width = query / key_value * dim;
        let queries: Cow<'_, [Query<'_>]> = match asking {
            None => rows.into(),
            Some(asking) => asking.iter().map(|&row| rows[row]).collect(),
        };
        let mut asked: Vec<Vec<Asked<'_>>> =
            (0..key_value).map(|_| Vec::with_capacity(queries.len())).collect();
        for (index, (q, out)) in q.chunks_exact(width).zip(out.chunks_exact_mut(width)).enumerate() {
            asked[index % key_value].push(Asked { query: queries[index / key_value], q, out });
        }
        let groups = groups(&queries, window);
        // To store a row costs about as much as to see a key.
        let keys = queries.iter().map(|query| query.position + 1).sum::<usize>() + rows.len();
        let parallel = keys * query * dim >= PARALLEL;
        let run = |(index, (head, mut asked)): (usize, (&mut KeyValues, Vec<Asked<'_>>))| {
            let of_head = |x| <[f32]>::chunks_exact(x, dim).skip(index).step_by(key_value);
            let stored = rows.iter().zip(of_head(k).zip(of_head(v)));
            head.store(stored.map(|(Query { chain, position }, (k, v))| {
                (chain[position / BLOCK_TOKENS], position % BLOCK_TOKENS, k, v)
            }));
            let head = &*head;
            let mut rest = &mut asked[..];
            let tasks = groups
                .iter()
                .map(|group| (group.shared, rest.split_off_mut(..group.len()).unwrap_or_default()));
            let attend = |(shared, asked): (usize, &mut [Asked<'_>])| {
                let mut queries: Vec<_> = asked.iter_mut().map(|row| row.sees(window)).collect();
                SCRATCH.with_borrow_mut(|scratch| attention::decode(head, &mut queries, shared, scratch));
            };
            match parallel {
                true => tasks.collect::<Vec<_>>().into_par_iter().for_each(attend),
                false => tasks.for_each(attend),
            }
        };
        let heads = self.layers[layer].iter_mut().zip(asked).enumerate();
        match parallel {
            true => heads.collect::<Vec<_>>().into_par_iter().with_max_len(1).for_each(run),
            false => heads.for_each(run),
        }
    }
}

thread_local! {
    static SCRATCH: RefCell<DecodeScratch> = RefCell::default();
}

/// A row of a call that one head attends from.
#[derive(Debug)]
struct Asked<'a> {
    query: Query<'a>,
    /// `[query / key_value, dim]`, and `out` too.
    q: &'a [f32],
    out: &'a mut [f32],
}

impl Asked<'_> {
    /// Itself and what lies before it, as far back as the window reaches.
    fn sees(&mut self, window: Option<usize>) -> attention::Query<'_> {
        let (Query { chain, position }, end) = (self.query, self.query.position + 1);
        debug_assert!(position < chain.len() * BLOCK_TOKENS);
        let start = window.map_or(0, |window| end.saturating_sub(window));
        attention::Query { q: self.q, chain, keys: start..end, out: self.out }
    }
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
}
