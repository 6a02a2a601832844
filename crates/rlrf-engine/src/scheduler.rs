//! Which sequences advance in the next decoder call, and with which blocks.
//!
//! Running sequences come first, in the order in which they entered; then waiting ones enter while there is room:
//! displaced sequences and samples of computed prompts before new prompts. When blocks run out, waiting sequences
//! give theirs back, then the last to have entered is displaced: it keeps its tokens and computes them
//! again later. So the first running sequence always advances, and everything ends.

use std::collections::VecDeque;
use std::ops::Range;

use crate::blocks::{BLOCK_TOKENS, BlockPool};
use crate::cache::{Cache, Query};
use crate::sequence::{Sequence, Stage};
use crate::workers::Queue;
use crate::{EngineOptions, Request};

/// The rows of one decoder call.
#[derive(Debug, Default)]
pub(crate) struct Step {
    pub(crate) tokens: Vec<u32>,
    pub(crate) positions: Vec<u32>,
    /// The running sequence of each row.
    sequences: Vec<usize>,
    /// Sequences that will have caught up, each with its last row: their logits are wanted.
    pub(crate) outputs: Vec<Output>,
    /// Rows that compute prompts.
    pub(crate) prompt_rows: usize,
}

/// A row whose logits are wanted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Output {
    /// Index of the running sequence.
    pub(crate) sequence: usize,
    /// Row of the call.
    pub(crate) row: usize,
}

/// All sequences of one call of `generate`.
#[derive(Debug)]
pub(crate) struct Scheduler<'r> {
    requests: &'r [Request],
    options: EngineOptions,
    queue: &'r Queue,
    /// Those that were taken from the queue, and whose prompts have not entered.
    next_requests: Range<usize>,
    waiting: VecDeque<Sequence>,
    /// In the order in which they entered.
    pub(crate) running: Vec<Sequence>,
    blocks: BlockPool,
}

impl<'r> Scheduler<'r> {
    pub(crate) fn new(requests: &'r [Request], queue: &'r Queue, options: EngineOptions) -> Self {
        Self {
            requests,
            options,
            queue,
            next_requests: 0..0,
            waiting: VecDeque::new(),
            running: Vec::new(),
            blocks: BlockPool::new(options.blocks()),
        }
    }

    /// The next decoder call; `None` when all is done.
    pub(crate) fn step(&mut self, cache: &mut Cache) -> Option<Step> {
        let mut step = Step::default();
        let mut budget = self.options.prefill_tokens;
        let mut index = 0;
        loop {
            if index == self.running.len() && !self.admit(budget) {
                break;
            }
            let pending = self.running[index].pending();
            let count = if pending == 1 { 1 } else { pending.min(budget) };
            if count > 0 {
                if !self.make_room(index, count, cache) {
                    break;
                }
                self.schedule(index, count, &mut step);
            }
            if pending > 1 {
                budget -= count;
            }
            index += 1;
        }
        let done = self.running.is_empty() && self.waiting.is_empty();
        debug_assert_eq!(step.tokens.is_empty(), done, "the first running sequence always advances");
        (!step.tokens.is_empty()).then_some(step)
    }

    /// What each row of a step sees.
    pub(crate) fn queries(&self, step: &Step) -> Vec<Query<'_>> {
        let rows = step.sequences.iter().zip(&step.positions);
        rows.map(|(&sequence, &position)| Query {
            chain: &self.running[sequence].chain,
            position: position as usize,
        })
        .collect()
    }

    /// Lets one more sequence run, if one waits and there is room for it.
    fn admit(&mut self, budget: usize) -> bool {
        let rows: usize = self.running.iter().map(|sequence| self.rows(sequence)).sum();
        if rows >= self.options.max_rows {
            return false;
        }
        let Some(mut sequence) = self.waiting.pop_front().or_else(|| self.next_prompt()) else {
            return false;
        };
        let without_blocks = sequence.chain.is_empty();
        if without_blocks {
            self.attach_prefix(&mut sequence);
        }
        // The others need room to grow, or this one would soon be displaced again.
        let needed = sequence.missing_blocks(sequence.tokens.len() + 1) + self.running.len();
        let fits = sequence.pending() == 1 || budget > 0;
        if self.running.is_empty() || (fits && needed <= self.blocks.available()) {
            self.running.push(sequence);
            return true;
        }
        if without_blocks {
            // More of its prompt may be published by the time it is its turn.
            take_blocks(&mut self.blocks, &mut sequence);
        }
        self.waiting.push_front(sequence);
        false
    }

    fn next_prompt(&mut self) -> Option<Sequence> {
        loop {
            let Some(index) = self.next_requests.next() else {
                self.next_requests = self.queue.take();
                if self.next_requests.is_empty() {
                    return None;
                }
                continue;
            };
            if !self.requests[index].streams.is_empty() {
                return Some(Sequence::prompt(index, &self.requests[index]));
            }
        }
    }

    /// Rows that a sequence takes or, if it is a prompt, will take.
    fn rows(&self, sequence: &Sequence) -> usize {
        match sequence.stage {
            Stage::Prompt => self.requests[sequence.request].streams.len(),
            Stage::Text | Stage::Verdict(_) => 1,
        }
    }

    /// Starts a sequence from the published blocks of its prompt. At least one token is left to compute: its
    /// logits are wanted.
    fn attach_prefix(&mut self, sequence: &mut Sequence) {
        let prompt = self.requests[sequence.request].prompt.len();
        let shareable = prompt.min(sequence.tokens.len() - 1);
        sequence.chain = self.blocks.retain_prefix(&sequence.tokens[..shareable]);
        sequence.computed = sequence.chain.len() * BLOCK_TOKENS;
    }

    /// Gives a running sequence blocks of its own for its next `count` tokens, at the cost of those after it. `false` if
    /// it was displaced itself.
    fn make_room(&mut self, index: usize, count: usize, cache: &mut Cache) -> bool {
        loop {
            let sequence = &self.running[index];
            let written = sequence.computed / BLOCK_TOKENS;
            let shared = sequence.chain.get(written).copied().filter(|&block| self.blocks.is_shared(block));
            let missing = sequence.missing_blocks(sequence.computed + count);
            if missing + usize::from(shared.is_some()) > self.blocks.available() {
                if self.reclaim(index) {
                    continue;
                }
                return false;
            }
            let chain = &mut self.running[index].chain;
            if let (Some(shared), Some(own)) = (shared, shared.and_then(|_| self.blocks.allocate())) {
                cache.copy_block(shared, own);
                self.blocks.release(shared);
                chain[written] = own;
            }
            chain.extend((0..missing).map_while(|_| self.blocks.allocate()));
            return true;
        }
    }

    /// Takes the blocks of one waiting sequence or of the last running one. `false` if that is the one at `index`.
    fn reclaim(&mut self, index: usize) -> bool {
        if let Some(holder) = self.waiting.iter_mut().rev().find(|sequence| !sequence.chain.is_empty()) {
            take_blocks(&mut self.blocks, holder);
            return true;
        }
        let Some(mut displaced) = self.running.pop() else { return false };
        take_blocks(&mut self.blocks, &mut displaced);
        self.waiting.push_front(displaced);
        self.running.len() > index
    }

    /// Adds the next `count` tokens of a running sequence to the step, and publishes the blocks of its prompt that
    /// they fill: all rows of a call are stored before any is read.
    fn schedule(&mut self, index: usize, count: usize, step: &mut Step) {
        let sequence = &mut self.running[index];
        let prompt = &self.requests[sequence.request].prompt;
        let (start, end) = (sequence.computed, sequence.computed + count);
        step.tokens.extend_from_slice(&sequence.tokens[start..end]);
        step.positions.extend(start as u32..end as u32);
        step.sequences.resize(step.tokens.len(), index);
        step.prompt_rows += end.min(prompt.len()).saturating_sub(start);
        if end == sequence.tokens.len() {
            step.outputs.push(Output { sequence: index, row: step.tokens.len() - 1 });
        }
        let filled = prompt[..end.min(prompt.len())].as_chunks::<BLOCK_TOKENS>().0;
        for (block, tokens) in filled.iter().enumerate().skip(start / BLOCK_TOKENS) {
            self.blocks.publish(&sequence.chain[..=block], tokens);
        }
        sequence.computed = end;
    }

    /// The samples of a prompt that have begun: they run before anything else that waits.
    pub(crate) fn enqueue_samples(&mut self, samples: Vec<Sequence>) {
        for sample in samples.into_iter().rev() {
            for &block in &sample.chain {
                self.blocks.retain(block);
            }
            self.waiting.push_front(sample);
        }
    }

    /// Gives back the blocks of a sequence that is done.
    pub(crate) fn retire(&mut self, mut sequence: Sequence) {
        self.blocks.release_chain(&mut sequence.chain);
    }
}

/// Leaves a sequence its tokens only: it computes them again later, but for what is still published then.
fn take_blocks(blocks: &mut BlockPool, sequence: &mut Sequence) {
    blocks.release_chain(&mut sequence.chain);
    sequence.computed = 0;
}
