//! Log-probabilities under the reference model, computed once before training.

use rlrf_model::{Decoder, Precision};

use crate::lanes::forward_each;
use crate::packing::{Microbatch, ResponseTree};
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
/// depend on the other trees, so that a caller may cut the list to report progress. Up to four times `tokens_per_microbatch` pass through the model at once. Errors:
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
    let rows: Vec<usize> = pieces.iter().map(ResponseTree::rows).collect();
    let logprobs = forward_each(&rows, tokens_per_microbatch, precision, |run, activations| {
        let microbatch = Microbatch::new(&pieces[run]);
        let of_tokens = microbatch.token_logprobs(decoder, activations)?;
        Ok(microbatch.by_completion(&of_tokens).map(<[f32]>::to_vec).collect())
    })?;
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
