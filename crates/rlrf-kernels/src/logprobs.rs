//! Log-probabilities of given tokens: language head, log-softmax and gather in one, in blocks of the
//! vocabulary and chunks of rows, so that the `[rows, vocab]` logits never exist at once.

use std::cell::RefCell;

use rayon::prelude::*;

use crate::bf16::pair_in_place;
use crate::matmul::{Block, Operands, Output, Panels, View, WIDTH, left_operand, multiply, split_in_place};
use crate::simd;

/// Rows whose logits of one block of the vocabulary exist at once in the forward.
const FORWARD_ROWS: usize = 96;

/// Logits that exist at once where gradients are computed from them.
const CHUNK_LOGITS: usize = 32 << 20;

/// Logits that [`forward_keeping`] may keep: more, since to compute them again costs a product.
const KEPT_LOGITS: usize = 64 << 20;

/// Multiply-adds below which a second thread costs more than it gives.
const PARALLEL: usize = 1 << 20;

/// Tokens per block of the vocabulary: enough blocks for the threads, none too large for a cache. The
/// order of summation depends on it, so it depends on the vocabulary alone. A multiple of 64: the words of f32 in tiles then fit where the logits are.
fn block_size(vocab: usize) -> usize {
    vocab.div_ceil(8).next_multiple_of(2 * WIDTH).clamp(2 * WIDTH, 384)
}

thread_local! {
    /// A block of the head, packed, some of its logits, and these as words.
    static SCRATCH: RefCell<(Panels, Vec<f32>, Vec<f32>)> = RefCell::default();
    /// Buffers of a call; kept, because fresh pages of this size cost more than the arithmetic.
    static BUFFERS: RefCell<Buffers> = RefCell::default();
    /// The logits of a chunk of rows between their forward and backward, and each row's log-sum-exp.
    static CHUNK: RefCell<(Vec<f32>, Vec<f32>)> = RefCell::default();
}

/// What a call keeps for the next one.
#[derive(Default)]
struct Buffers {
    /// The left operand of the logits as words.
    words: Vec<f32>,
    /// The largest logit of each row in each block, and the sum of exponentials relative to it.
    partials: Vec<(f32, f32)>,
    /// The hidden states of a chunk of rows.
    hidden: Vec<f32>,
    /// The logits of a chunk, then their gradients.
    logits: Vec<f32>,
    /// The gradients of a chunk's hidden states.
    d_hidden: Vec<f32>,
}

/// `hidden: [rows, dim]`, `head: [vocab, dim]`, `targets: [rows]` -> `logprobs: [rows]`; keeps `logsumexp: [rows]`. The
/// logits are a product of `operands`; all else is f32.
///
/// # Panics
/// If a target is not below `vocab`, or a length is wrong.
pub fn forward(
    operands: Operands,
    hidden: &[f32],
    head: &[f32],
    targets: &[u32],
    dim: usize,
    vocab: usize,
    logprobs: &mut [f32],
    logsumexp: &mut [f32],
) {
    let chunk = Chunk::new(operands, hidden, head, [dim, vocab], targets, [logprobs, logsumexp]);
    let (rows, size) = (targets.len(), chunk.size());
    if rows == 0 {
        return;
    }
    // Taken, not borrowed: while this thread waits for others, it may be lent to another call.
    let mut buffers = BUFFERS.take();
    let Buffers { words, partials, .. } = &mut buffers;
    partials.resize(chunk.blocks() * rows, (0.0, 0.0));
    let hidden = left_operand(operands, View::new(hidden, dim, 1), [rows, dim], words, true);
    let target_logits = Output { data: logprobs.as_mut_ptr(), row: 1 };
    for_each_block(chunk.work(), partials.par_chunks_mut(rows), |block, partials| {
        SCRATCH.with_borrow_mut(|(panels, logits, _)| {
            let (start, columns) = chunk.block(block);
            panels.pack(operands, View::new(&head[start * dim..], dim, 1), columns, dim);
            logits.resize(logits.len().max(FORWARD_ROWS.min(rows) * size), 0.0);
            for first in (0..rows).step_by(FORWARD_ROWS) {
                let count = FORWARD_ROWS.min(rows - first);
                let depth = panels.steps();
                let right = Block { panels, first_column: 0, columns, first_step: 0, depth };
                let to = Output { data: logits.as_mut_ptr(), row: size };
                // SAFETY: `logits` holds `count` rows of a block.
                unsafe { multiply(hidden.offset(first, 0), count, right, to, false) };
                for (row, logits) in (first..first + count).zip(logits.chunks_exact(size)) {
                    partials[row] = max_and_sum(&logits[..columns]);
                    // SAFETY: the row exists, and its target lies in one block alone.
                    unsafe {
                        keep_target(&logits[..columns], start, targets[row], target_logits.offset(row, 0))
                    };
                }
            }
        });
    });
    combine(partials, logprobs, logsumexp);
    BUFFERS.set(buffers);
}

/// From `d_logprobs: [rows]`: overwrites `d_hidden: [rows, dim]`, adds into `d_head: [vocab, dim]` (None: frozen).
///
/// Rows with a gradient of zero cost nothing.
///
/// # Panics
/// If a target is not below `vocab`, or a length is wrong.
pub fn backward(
    operands: Operands,
    hidden: &[f32],
    head: &[f32],
    targets: &[u32],
    logsumexp: &[f32],
    d_logprobs: &[f32],
    dim: usize,
    vocab: usize,
    d_hidden: &mut [f32],
    mut d_head: Option<&mut [f32]>,
) {
    let rows = Chunk::new(operands, hidden, head, [dim, vocab], targets, [logsumexp, d_logprobs]).rows();
    assert_eq!(d_hidden.len(), hidden.len());
    d_hidden.fill(0.0);
    let active: Vec<usize> = (0..rows).filter(|&row| d_logprobs[row] != 0.0).collect();
    // Taken, as in the forward.
    let mut buffers = BUFFERS.take();
    let Buffers { words, hidden: gathered, logits, d_hidden: d_chunk, .. } = &mut buffers;
    for active in active.chunks(rows_at_once(active.len(), vocab)) {
        gathered.clear();
        active.iter().for_each(|row| gathered.extend_from_slice(&hidden[row * dim..(row + 1) * dim]));
        let chunk = Chunk { operands, hidden: gathered, head, dim, vocab };
        let row = |&row: &usize| RowGradient {
            target: targets[row],
            logsumexp: logsumexp[row],
            d_logprob: d_logprobs[row],
        };
        let gradients = LogitGradients::new(&chunk, active.iter().map(row).collect(), d_head.as_deref_mut());
        let blocks = (0..chunk.blocks()).into_par_iter();
        chunk.logits(words, logits, blocks, |block, logits, _| gradients.replace(block, logits));
        d_chunk.resize(chunk.hidden.len(), 0.0);
        chunk.hidden_gradients(logits, d_chunk);
        for (d_row, row) in d_chunk.chunks_exact(dim).zip(active) {
            d_hidden[row * dim..(row + 1) * dim].copy_from_slice(d_row);
        }
    }
    BUFFERS.set(buffers);
}

/// Whether the logits of `rows` rows are few enough for [`forward_keeping`].
pub fn can_keep(rows: usize, vocab: usize) -> bool {
    rows * vocab.next_multiple_of(block_size(vocab)) <= KEPT_LOGITS
}

/// [`forward`] that leaves all logits in `logits`, for [`backward_kept`].
///
/// # Panics
/// As [`forward`].
pub fn forward_keeping(
    operands: Operands,
    hidden: &[f32],
    head: &[f32],
    targets: &[u32],
    dim: usize,
    vocab: usize,
    logprobs: &mut [f32],
    logsumexp: &mut [f32],
    logits: &mut Vec<f32>,
) {
    let chunk = Chunk::new(operands, hidden, head, [dim, vocab], targets, [logprobs, logsumexp]);
    let rows = targets.len();
    if rows == 0 {
        return;
    }
    // Taken, as in the forward.
    let mut buffers = BUFFERS.take();
    let Buffers { words, partials, .. } = &mut buffers;
    partials.resize(chunk.blocks() * rows, (0.0, 0.0));
    let target_logits = Output { data: logprobs.as_mut_ptr(), row: 1 };
    chunk.logits(words, logits, partials.par_chunks_mut(rows), |block, logits, partials| {
        let (start, columns) = chunk.block(block);
        for (row, logits) in logits.chunks_exact(chunk.size()).enumerate() {
            partials[row] = max_and_sum(&logits[..columns]);
            // SAFETY: the row exists, and its target lies in one block alone.
            unsafe { keep_target(&logits[..columns], start, targets[row], target_logits.offset(row, 0)) };
        }
    });
    combine(partials, logprobs, logsumexp);
    BUFFERS.set(buffers);
}

/// [`backward`] from the `logits` that [`forward_keeping`] of the same rows left, which it replaces. Rows with a gradient of zero
/// cost as much as others. f32 in tiles: `d_head` is [`backward`]'s to the bit if that takes all rows at once, else rounded otherwise.
///
/// # Panics
/// As [`backward`], or if there are not as many logits.
#[expect(clippy::too_many_arguments, reason = "plain slices are the interface of every operation here")]
pub fn backward_kept(
    operands: Operands,
    hidden: &[f32],
    head: &[f32],
    targets: &[u32],
    logsumexp: &[f32],
    d_logprobs: &[f32],
    dim: usize,
    vocab: usize,
    logits: &mut [f32],
    d_hidden: &mut [f32],
    d_head: Option<&mut [f32]>,
) {
    let chunk = Chunk::new(operands, hidden, head, [dim, vocab], targets, [logsumexp, d_logprobs]);
    let rows = targets.len();
    assert_eq!(d_hidden.len(), hidden.len());
    if rows == 0 {
        return;
    }
    let row = |((&target, &logsumexp), &d_logprob)| RowGradient { target, logsumexp, d_logprob };
    let of_rows = targets.iter().zip(logsumexp).zip(d_logprobs).map(row).collect();
    let gradients = LogitGradients::new(&chunk, of_rows, d_head);
    let of_blocks = logits[..chunk.logits_len()].par_chunks_mut(rows * chunk.size());
    for_each_block(chunk.work(), of_blocks, |block, logits| gradients.replace(block, logits));
    chunk.hidden_gradients(logits, d_hidden);
}

/// [`forward`] and [`backward`] in one, for `d_logprobs` that are known beforehand: to the bit the same, but every logit is
/// computed once, and those of a chunk of rows exist at once. In AMX
/// tiles `d_head` is so where no row has a gradient of zero, which [`backward`] leaves out of the sums.
///
/// # Panics
/// As both.
pub fn forward_backward(
    operands: Operands,
    hidden: &[f32],
    head: &[f32],
    targets: &[u32],
    d_logprobs: &[f32],
    dim: usize,
    vocab: usize,
    logprobs: &mut [f32],
    d_hidden: &mut [f32],
    mut d_head: Option<&mut [f32]>,
) {
    let rows = targets.len();
    assert!(hidden.len() == rows * dim && d_hidden.len() == rows * dim);
    assert!(logprobs.len() == rows && d_logprobs.len() == rows);
    // Taken, as in the forward.
    let (mut logits, mut logsumexp) = CHUNK.take();
    let at_once = rows_at_once(rows, vocab);
    for first in (0..rows).step_by(at_once) {
        let chunk = first..rows.min(first + at_once);
        let channels = chunk.start * dim..chunk.end * dim;
        let (hidden, targets) = (&hidden[channels.clone()], &targets[chunk.clone()]);
        logsumexp.resize(chunk.len(), 0.0);
        let logprobs = &mut logprobs[chunk.clone()];
        forward_keeping(operands, hidden, head, targets, dim, vocab, logprobs, &mut logsumexp, &mut logits);
        let (d_logprobs, d_hidden) = (&d_logprobs[chunk], &mut d_hidden[channels]);
        let d_head = d_head.as_deref_mut();
        backward_kept(
            operands,
            hidden,
            head,
            targets,
            &logsumexp,
            d_logprobs,
            dim,
            vocab,
            &mut logits,
            d_hidden,
            d_head,
        );
    }
    CHUNK.set((logits, logsumexp));
}

/// Rows of a chunk: nearly equal chunks, of no more rows than have their logits at once. Whole steps of the products that add up
/// the rows, which so are the same as over all rows, but for f32 in tiles, where rows share a scale.
fn rows_at_once(rows: usize, vocab: usize) -> usize {
    const STEP: usize = 2 * simd::LANES;
    let most = (CHUNK_LOGITS / vocab.max(1) / STEP * STEP).max(STEP);
    rows.div_ceil(rows.div_ceil(most).max(1)).next_multiple_of(STEP).max(STEP)
}

/// Writes the target's logit, if this block of a row has it.
///
/// # Safety
/// `to` can be written, and no other thread has a logit of this target.
unsafe fn keep_target(logits: &[f32], start: usize, target: u32, to: Output) {
    if let Some(logit) = (target as usize).checked_sub(start).and_then(|index| logits.get(index)) {
        // SAFETY: the caller's promise.
        unsafe { *to.data = *logit };
    }
}

/// Some rows, all of whose logits exist at once, as `[blocks, rows, block size]`.
struct Chunk<'a> {
    operands: Operands,
    /// `[rows, dim]`.
    hidden: &'a [f32],
    /// `[vocab, dim]`.
    head: &'a [f32],
    dim: usize,
    vocab: usize,
}

impl<'a> Chunk<'a> {
    /// Checks that everything is there of every row: its hidden state, its target, and a number in each of `per_row`.
    fn new(
        operands: Operands,
        hidden: &'a [f32],
        head: &'a [f32],
        [dim, vocab]: [usize; 2],
        targets: &[u32],
        per_row: [&[f32]; 2],
    ) -> Self {
        assert!(hidden.len() == targets.len() * dim && head.len() == vocab * dim);
        assert!(per_row.iter().all(|values| values.len() == targets.len()));
        assert!(targets.iter().all(|&target| (target as usize) < vocab));
        Self { operands, hidden, head, dim, vocab }
    }

    fn rows(&self) -> usize {
        self.hidden.len() / self.dim
    }

    fn size(&self) -> usize {
        block_size(self.vocab)
    }

    fn blocks(&self) -> usize {
        self.vocab.div_ceil(self.size())
    }

    /// The first token of a block, and how many it has.
    fn block(&self, block: usize) -> (usize, usize) {
        let start = block * self.size();
        (start, self.size().min(self.vocab - start))
    }

    fn logits_len(&self) -> usize {
        self.blocks() * self.rows() * self.size()
    }

    /// Multiply-adds of a product.
    fn work(&self) -> usize {
        self.rows() * self.dim * self.vocab
    }

    /// Fills `logits`; has each block used with its item of `items` while it is in the cache.
    fn logits<T: Send>(
        &self,
        words: &mut Vec<f32>,
        logits: &mut Vec<f32>,
        items: impl IndexedParallelIterator<Item = T>,
        then: impl Fn(usize, &mut [f32], T) + Sync + Send,
    ) {
        let (rows, dim, size) = (self.rows(), self.dim, self.size());
        logits.resize(logits.len().max(self.logits_len()), 0.0);
        let hidden = left_operand(self.operands, View::new(self.hidden, dim, 1), [rows, dim], words, true);
        let of_blocks = logits[..self.logits_len()].par_chunks_mut(rows * size).zip(items);
        for_each_block(self.work(), of_blocks, |block, (logits, item)| {
            let (start, columns) = self.block(block);
            SCRATCH.with_borrow_mut(|(panels, ..)| {
                panels.pack(self.operands, View::new(&self.head[start * dim..], dim, 1), columns, dim);
                let depth = panels.steps();
                let right = Block { panels, first_column: 0, columns, first_step: 0, depth };
                let to = Output { data: logits.as_mut_ptr(), row: size };
                // SAFETY: `logits` holds the rows of this block.
                unsafe { multiply(hidden, rows, right, to, false) };
            });
            then(block, logits, item);
        });
    }

    /// Gradient of `hidden` from the gradients of the logits as [`LogitGradients::replace`] left them.
    fn hidden_gradients(&self, logits: &[f32], d_hidden: &mut [f32]) {
        let (rows, dim, size) = (self.rows(), self.dim, self.size());
        d_hidden.fill(0.0);
        let to = Output { data: d_hidden.as_mut_ptr(), row: dim };
        // Channels first: tasks that share channels would pack the head again.
        let channel_tasks = dim.div_ceil(WIDTH).min(2 * rayon::current_num_threads());
        let channel_at = |task: usize| (dim.div_ceil(WIDTH) * task / channel_tasks * WIDTH).min(dim);
        let tasks = (0..channel_tasks).into_par_iter().with_max_len(1);
        for_each_block(self.work(), tasks, |task, _| {
            let (first, end) = (channel_at(task), channel_at(task + 1));
            SCRATCH.with_borrow_mut(|(panels, ..)| {
                for (block, logits) in logits.chunks(rows * size).take(self.blocks()).enumerate() {
                    let (start, columns) = self.block(block);
                    let head = View::new(&self.head[start * dim + first..], 1, dim);
                    panels.pack(self.operands, head, end - first, columns);
                    let depth = panels.steps();
                    let right = Block { panels, first_column: 0, columns: end - first, first_step: 0, depth };
                    // They are words already.
                    let logits = View::new(logits, size, 1);
                    // SAFETY: these channels of `d_hidden` belong to this task.
                    unsafe { multiply(logits, rows, right, to.offset(0, first), true) };
                }
            });
        });
    }
}

/// What the gradient of a row's logits is made of.
struct RowGradient {
    target: u32,
    logsumexp: f32,
    d_logprob: f32,
}

/// From logits to their gradients, and those of the head.
struct LogitGradients<'a> {
    chunk: &'a Chunk<'a>,
    rows: Vec<RowGradient>,
    /// The hidden states by channel, and the gradient of the head, to be added to; none where it is frozen.
    head: Option<(Panels, Output)>,
}

impl<'a> LogitGradients<'a> {
    fn new(chunk: &'a Chunk<'a>, rows: Vec<RowGradient>, d_head: Option<&mut [f32]>) -> Self {
        let head = d_head.map(|d_head| {
            assert_eq!(d_head.len(), chunk.head.len());
            let mut by_channel = Panels::default();
            by_channel.pack(chunk.operands, View::new(chunk.hidden, 1, chunk.dim), chunk.dim, rows.len());
            (by_channel, Output { data: d_head.as_mut_ptr(), row: chunk.dim })
        });
        Self { chunk, rows, head }
    }

    /// Replaces a block's logits with their gradients, as the products take them, and adds to the gradient of the head.
    fn replace(&self, block: usize, logits: &mut [f32]) {
        let Chunk { operands, dim, .. } = *self.chunk;
        let (size, (start, columns)) = (self.chunk.size(), self.chunk.block(block));
        for (row, logits) in self.rows.iter().zip(logits.chunks_exact_mut(size)) {
            softmax_backward(&mut logits[..columns], row.logsumexp, row.d_logprob);
            let target = (row.target as usize).checked_sub(start);
            if let Some(logit) = target.and_then(|index| logits[..columns].get_mut(index)) {
                *logit += row.d_logprob;
            }
        }
        SCRATCH.with_borrow_mut(|(.., words)| {
            if let Some((by_channel, d_head)) = &self.head {
                let depth = by_channel.steps();
                let right = Block { panels: by_channel, first_column: 0, columns: dim, first_step: 0, depth };
                let logits = View::new(logits, 1, size);
                let logits = left_operand(operands, logits, [columns, self.rows.len()], words, false);
                // SAFETY: the block's rows of the head's gradient belong to this task.
                unsafe { multiply(logits, columns, right, d_head.offset(start, 0), true) };
            }
            match operands {
                Operands::Bf16 => {
                    for logits in logits.chunks_exact_mut(size) {
                        pair_in_place(&mut logits[..columns], words);
                        logits[columns.div_ceil(2)..operands.padded_steps(columns)].fill(0.0);
                    }
                }
                Operands::F32InTiles => split_in_place(logits, size, columns, words),
                Operands::F32 => {}
                Operands::Int8 => unreachable!("the left operand was refused"),
            }
        });
    }
}

/// Runs `run(index, item)` for all items; `work` multiply-adds decide whether in parallel.
fn for_each_block<T: Send>(
    work: usize,
    items: impl IndexedParallelIterator<Item = T>,
    run: impl Fn(usize, T) + Sync + Send,
) {
    let items = items.enumerate();
    let items = if work < PARALLEL { items.with_min_len(usize::MAX) } else { items.with_min_len(1) };
    items.for_each(|(index, item)| run(index, item));
}

simd! {
    /// The largest logit, and the sum of exponentials relative to it.
    fn max_and_sum(logits: &[f32]) -> (f32, f32) {
        let largest = simd::max(logits);
        // Without any finite logit the sum is 0, not NaN, unless one is NaN.
        let shift = if largest == f32::NEG_INFINITY { 0.0 } else { largest };
        (largest, simd::sum_exp(logits, shift))
    }
}

simd! {
    /// From the partial results `[blocks, rows]`, and the logits of the targets in `logprobs`.
    fn combine(partials: &[(f32, f32)], logprobs: &mut [f32], logsumexp: &mut [f32]) {
        let rows = logprobs.len();
        for (row, (logprob, logsumexp)) in logprobs.iter_mut().zip(logsumexp).enumerate() {
            let mut largest = f32::NEG_INFINITY;
            for &(of_block, _) in partials[row..].iter().step_by(rows) {
                largest = largest.max(of_block);
            }
            let mut sum = 0.0;
            for &(of_block, sum_of_block) in partials[row..].iter().step_by(rows) {
                sum = simd::exp(of_block - largest).mul_add(sum_of_block, sum);
            }
            *logsumexp = largest + sum.ln();
            *logprob -= *logsumexp;
        }
    }
}

simd! {
    /// `logits = -d softmax(logits)`.
    fn softmax_backward(logits: &mut [f32], logsumexp: f32, d_logprob: f32) {
        for logit in logits {
            *logit = -d_logprob * simd::exp(*logit - logsumexp);
        }
    }
}
