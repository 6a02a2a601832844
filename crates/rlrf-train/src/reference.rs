//! Log-probabilities under the reference model, computed once before preference training.

use rlrf_model::{Activations, Computation, Decoder, Precision};

use crate::packing::{Microbatch, ResponseTree, pack};
use crate::{Error, Result};

/// For each tree, the log-probability of each completion, summed over its tokens, in the precision that the policy is
/// trained in: a difference in rounding alone would look like a preference. A tree's result does not
/// depend on the other trees, so that a caller may cut the list to report progress. Errors:
/// [`Error::Example`] for a tree that is empty or longer than the model's context, and the model's own.
pub fn reference_logprobs(
    decoder: &Decoder,
    trees: &[ResponseTree<'_>],
    tokens_per_microbatch: usize,
    precision: Precision,
) -> Result<Vec<Vec<f64>>> {
    for (index, tree) in trees.iter().enumerate() {
        tree.validate(decoder.config(), index)?;
    }
    let pieces: Vec<_> = trees.iter().flat_map(|tree| split(tree, tokens_per_microbatch)).collect();
    // No backward follows: what it would need is not kept.
    let mut activations = Activations::new(Computation { precision, recompute: true });
    let mut logprobs = Vec::new();
    for run in pack(pieces.iter().map(ResponseTree::rows), tokens_per_microbatch) {
        logprobs.extend(Microbatch::new(&pieces[run]).completion_logprobs(decoder, &mut activations)?);
    }
    let mut logprobs = logprobs.into_iter();
    let grouped: Vec<Vec<f64>> =
        trees.iter().map(|tree| logprobs.by_ref().take(tree.completions.len()).collect()).collect();
    for (index, group) in grouped.iter().enumerate() {
        if let Some(value) = group.iter().find(|value| !value.is_finite()) {
            let reason =
                format!("its log-probability under the reference model is {value}: the model is broken");
            return Err(Error::Example { index, reason });
        }
    }
    Ok(grouped)
}

/// Cuts a tree that is over the budget into trees of fewer completions.
fn split<'a>(tree: &ResponseTree<'a>, budget: usize) -> Vec<ResponseTree<'a>> {
    let room = budget.saturating_sub(tree.prompt.len());
    pack(tree.completions.iter().map(|completion| completion.len() - 1), room)
        .into_iter()
        .map(|run| ResponseTree { prompt: tree.prompt, completions: tree.completions[run].to_vec() })
        .collect()
}
