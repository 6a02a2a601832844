//! Log-probabilities of given tokens: language head, log-softmax and gather in one, chunked over rows so
//! that the `[rows, vocabulary]` logits never exist at once.

/// `hidden: [rows, dim]`, `head: [vocab, dim]`, `targets: [rows]` -> `logprobs: [rows]`; keeps `logsumexp: [rows]`.
pub fn forward(hidden: &[f32], head: &[f32], targets: &[u32], dim: usize, vocab: usize, logprobs: &mut [f32], logsumexp: &mut [f32]) { todo!() }
/// From `d_logprobs: [rows]`: overwrites `d_hidden: [rows, dim]`, adds into `d_head: [vocab, dim]` (None: frozen).
pub fn backward(hidden: &[f32], head: &[f32], targets: &[u32], logsumexp: &[f32], d_logprobs: &[f32], dim: usize, vocab: usize, d_hidden: &mut [f32], d_head: Option<&mut [f32]>) { todo!() }
