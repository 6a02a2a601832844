//! Log-probabilities under the reference model, computed once before training.

use rlrf_model::{Activations, Decoder, Precision};

use crate::packing::{Microbatch, ResponseTree, pack};
use crate::{Error, Result};

/// For each tree, the log-probability of each completion, summed over its tokens; otherwise as [`reference_token_logprobs`].
pub fn reference_logprobs(
    decoder: &Decoder,
    trees: &[ResponseTree<'_>],
    tokens_per_microbatch: usize,
    precision: Precision,
) -> Result<Vec<Vec<f64>>> {
    let by_token = reference_token_logprobs(decoder, trees, tokens_per_microbatch, precision)?;
    let sum = |tokens: Vec<f32>| tokens.into_iter().map(f64::from).sum();
    Ok(by_token.into_iter().map(|tree| tree.into_iter().map(sum).collect()).collect())
}

/// For each tree, the log-probability of each token of each completion, in the precision that the policy is trained in: a
/// difference in rounding alone would look like a preference. A tree's result does not
/// depend on the other trees, so that a caller may cut the list to report progress. Errors:
/// [`Error::Example`] for a tree that is empty or longer than the model's context, and the model's own.
pub fn reference_token_logprobs(
    decoder: &Decoder,
    trees: &[ResponseTree<'_>],
    tokens_per_microbatch: usize,
    precision: Precision,
) -> Result<Vec<Vec<Vec<f32>>>> {
    for (index, tree) in trees.iter().enumerate() {
        tree.validate(decoder.config(), index)?;
    }
    let pieces: Vec<_> = trees.iter().flat_map(|tree| tree.split(tokens_per_microbatch)).collect();
    // No backward follows: what it would need is not kept.
    let mut activations = Activations::forward_only(precision);
    let mut logprobs = Vec::new();
    for run in pack(pieces.iter().map(ResponseTree::rows), tokens_per_microbatch) {
        let microbatch = Microbatch::new(&pieces[run]);
        let of_tokens = microbatch.token_logprobs(decoder, &mut activations)?;
        logprobs.extend(microbatch.by_completion(&of_tokens).map(<[f32]>::to_vec));
    }
    let mut logprobs = logprobs.into_iter();
    let grouped: Vec<Vec<Vec<f32>>> =
        trees.iter().map(|tree| logprobs.by_ref().take(tree.completions.len()).collect()).collect();
    for (index, group) in grouped.iter().enumerate() {
        if let Some(value) = group.iter().flatten().find(|value| !value.is_finite()) {
            let reason = format!(
                "the log-probability of a token under the reference model is {value}: the model is broken"
            );
            return Err(Error::Example { index, reason });
        }
    }
    Ok(grouped)
}
