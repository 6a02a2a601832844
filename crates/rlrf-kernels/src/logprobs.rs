//! Log-probabilities of given tokens: language head, log-softmax and gather in one, chunked over rows so
//! that the `[rows, vocabulary]` logits never exist at once.

use crate::{matmul, softmax};

/// Rows whose logits exist at once.
const CHUNK: usize = 256;

/// `hidden: [rows, dim]`, `head: [vocab, dim]`, `targets: [rows]` -> `logprobs: [rows]`; keeps `logsumexp: [rows]`.
pub fn forward(
    hidden: &[f32],
    head: &[f32],
    targets: &[u32],
    dim: usize,
    vocab: usize,
    logprobs: &mut [f32],
    logsumexp: &mut [f32],
) {
    let mut logits = vec![0.0; CHUNK.min(targets.len()) * vocab];
    for (chunk, targets) in targets.chunks(CHUNK).enumerate() {
        let rows = targets.len();
        let start = chunk * CHUNK;
        let logits = &mut logits[..rows * vocab];
        matmul::linear(&hidden[start * dim..(start + rows) * dim], head, None, logits, rows, dim, vocab);
        for (i, &target) in targets.iter().enumerate() {
            let logits = &logits[i * vocab..(i + 1) * vocab];
            logsumexp[start + i] = softmax::logsumexp(logits);
            logprobs[start + i] = logits[target as usize] - logsumexp[start + i];
        }
    }
}
/// From `d_logprobs: [rows]`: overwrites `d_hidden: [rows, dim]`, adds into `d_head: [vocab, dim]` (None: frozen).
pub fn backward(
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
    let mut logits = vec![0.0; CHUNK.min(targets.len()) * vocab];
    for (chunk, targets) in targets.chunks(CHUNK).enumerate() {
        let rows = targets.len();
        let start = chunk * CHUNK;
        let logits = &mut logits[..rows * vocab];
        let hidden = &hidden[start * dim..(start + rows) * dim];
        matmul::linear(hidden, head, None, logits, rows, dim, vocab);
        for (i, &target) in targets.iter().enumerate() {
            let d = d_logprobs[start + i];
            let logits = &mut logits[i * vocab..(i + 1) * vocab];
            for logit in logits.iter_mut() {
                *logit = -d * (*logit - logsumexp[start + i]).exp();
            }
            logits[target as usize] += d;
        }
        matmul::linear_backward_input(
            logits,
            head,
            &mut d_hidden[start * dim..(start + rows) * dim],
            rows,
            dim,
            vocab,
            false,
        );
        if let Some(d_head) = d_head.as_deref_mut() {
            matmul::linear_backward_weight(logits, hidden, d_head, None, rows, dim, vocab);
        }
    }
}
