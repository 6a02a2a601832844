//! Who holds which block of the key/value cache, and which prompt beginnings are in it.
//!
//! Blocks of a fixed number of tokens are counted by reference, as in PagedAttention (Kwon et al., 2023). A full
//! block of a prompt is published under its parent block and its own tokens, so that the published blocks form a
//! prefix tree (RadixAttention, Zheng et al., 2024) whose look-up compares tokens. Published blocks that nobody
//! holds stay until their room is needed; the one released longest ago goes first.

use std::collections::{BTreeMap, HashMap};

/// Tokens in one block.
pub(crate) const BLOCK_TOKENS: usize = rlrf_kernels::attention::BLOCK;

/// Index of a block.
pub(crate) type BlockId = usize;

/// A node of the prefix tree: the block before it, and its tokens.
type Key = (Option<BlockId>, [u32; BLOCK_TOKENS]);

#[derive(Debug, Default)]
struct Block {
    references: usize,
    key: Option<Key>,
    /// When it became idle, its place in `BlockPool::idle`.
    released: u64,
}

/// All blocks of a cache.
#[derive(Debug)]
pub(crate) struct BlockPool {
    blocks: Vec<Block>,
    free: Vec<BlockId>,
    /// Published blocks without a holder, by time of release. A block's holders hold its parents too and release them
    /// after it, so no block is evicted before its children.
    idle: BTreeMap<u64, BlockId>,
    published: HashMap<Key, BlockId>,
    clock: u64,
}

impl BlockPool {
    pub(crate) fn new(count: usize) -> Self {
        Self {
            blocks: (0..count).map(|_| Block::default()).collect(),
            free: (0..count).rev().collect(),
            idle: BTreeMap::new(),
            published: HashMap::new(),
            clock: 0,
        }
    }

    /// How many blocks [`BlockPool::allocate`] can give out now.
    pub(crate) fn available(&self) -> usize {
        self.free.len() + self.idle.len()
    }

    /// A block with one holder, its content undefined.
    pub(crate) fn allocate(&mut self) -> Option<BlockId> {
        let block = match self.free.pop() {
            Some(block) => block,
            None => self.evict()?,
        };
        self.blocks[block].references = 1;
        Some(block)
    }

    fn evict(&mut self) -> Option<BlockId> {
        let (_, block) = self.idle.pop_first()?;
        if let Some(key) = self.blocks[block].key.take() {
            self.published.remove(&key);
        }
        Some(block)
    }

    /// One more holder.
    pub(crate) fn retain(&mut self, block: BlockId) {
        let state = &mut self.blocks[block];
        if state.references == 0 {
            self.idle.remove(&state.released);
        }
        state.references += 1;
    }

    /// One holder less.
    pub(crate) fn release(&mut self, block: BlockId) {
        let state = &mut self.blocks[block];
        state.references -= 1;
        if state.references > 0 {
            return;
        }
        if state.key.is_some() {
            self.clock += 1;
            state.released = self.clock;
            self.idle.insert(self.clock, block);
        } else {
            self.free.push(block);
        }
    }

    /// Releases a sequence's chain, children before parents.
    pub(crate) fn release_chain(&mut self, chain: &mut Vec<BlockId>) {
        while let Some(block) = chain.pop() {
            self.release(block);
        }
    }

    /// Whether more than one sequence holds it.
    pub(crate) fn is_shared(&self, block: BlockId) -> bool {
        self.blocks[block].references > 1
    }

    /// The published blocks that `tokens` begin with, each with one holder more.
    pub(crate) fn retain_prefix(&mut self, tokens: &[u32]) -> Vec<BlockId> {
        let mut chain = Vec::new();
        for tokens in tokens.as_chunks::<BLOCK_TOKENS>().0 {
            let Some(&block) = self.published.get(&(chain.last().copied(), *tokens)) else { break };
            self.retain(block);
            chain.push(block);
        }
        chain
    }

    /// Offers the last block of `chain`, which holds `tokens`, to others. Does nothing if its parent is not
    /// published (it could be evicted before its child) or an equal block is.
    pub(crate) fn publish(&mut self, chain: &[BlockId], tokens: &[u32; BLOCK_TOKENS]) {
        let Some((&block, parents)) = chain.split_last() else { return };
        let parent = parents.last().copied();
        if parent.is_some_and(|parent| self.blocks[parent].key.is_none()) {
            return;
        }
        let key = (parent, *tokens);
        if let std::collections::hash_map::Entry::Vacant(entry) = self.published.entry(key) {
            entry.insert(block);
            self.blocks[block].key = Some(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn publish_prompt(pool: &mut BlockPool, prompt: &[u32]) -> Vec<BlockId> {
        let mut chain = pool.retain_prefix(prompt);
        for tokens in &prompt.as_chunks::<BLOCK_TOKENS>().0[chain.len()..] {
            chain.push(pool.allocate().unwrap());
            pool.publish(&chain, tokens);
        }
        chain
    }

    fn prompt(ends: &[u32]) -> Vec<u32> {
        ends.iter().flat_map(|&end| (0..BLOCK_TOKENS as u32 - 1).chain([end])).collect()
    }

    #[test]
    fn prompts_share_what_they_begin_with_and_nothing_else() {
        let mut pool = BlockPool::new(8);
        let first = publish_prompt(&mut pool, &prompt(&[1, 2, 3]));
        let second = publish_prompt(&mut pool, &prompt(&[1, 2, 4]));
        assert_eq!(first[..2], second[..2]);
        assert_ne!(first[2], second[2]);
        // The same tokens under another parent are another block.
        assert!(pool.retain_prefix(&prompt(&[3])).is_empty());
        assert_eq!(pool.available(), 4);
    }

    #[test]
    fn idle_blocks_are_found_until_evicted_leaves_first() {
        let mut pool = BlockPool::new(4);
        let mut old = publish_prompt(&mut pool, &prompt(&[1, 2]));
        let mut new = publish_prompt(&mut pool, &prompt(&[1, 3, 4]));
        let root = old[0];
        pool.release_chain(&mut new);
        pool.release_chain(&mut old);
        assert_eq!(pool.available(), 4);
        let mut taken = vec![pool.allocate().unwrap(), pool.allocate().unwrap()];
        let mut found = pool.retain_prefix(&prompt(&[1, 2]));
        assert_eq!((found.len(), found[0]), (2, root));
        assert_eq!(pool.retain_prefix(&prompt(&[1, 3])), [root]);
        pool.release(root);
        assert!(pool.allocate().is_none());
        pool.release_chain(&mut found);
        taken.extend([pool.allocate().unwrap(), pool.allocate().unwrap()]);
        taken.sort();
        assert_eq!(taken, [0, 1, 2, 3]);
        assert!(pool.retain_prefix(&prompt(&[1, 2])).is_empty());
    }

    #[test]
    fn a_block_under_an_unpublished_parent_is_not_offered() {
        let mut pool = BlockPool::new(4);
        let tokens = prompt(&[1, 2]);
        publish_prompt(&mut pool, &prompt(&[1]));
        let own = vec![pool.allocate().unwrap(), pool.allocate().unwrap()];
        let chunks = tokens.as_chunks::<BLOCK_TOKENS>().0;
        pool.publish(&own[..1], &chunks[0]);
        pool.publish(&own, &chunks[1]);
        assert_eq!(pool.retain_prefix(&tokens).len(), 1);
    }
}
