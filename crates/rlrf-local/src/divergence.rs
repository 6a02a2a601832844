//! How far a policy has moved from the model that it began as.

use rlrf_engine::EngineOptions;
use rlrf_method::config::Sampling;
use rlrf_method::digest::stream;
use rlrf_method::pairs::TrainedCandidate;
use rlrf_method::seam::{GenerationRequest, Policy, Progress};
use rlrf_method::{Error, Instruction, Result};
use rlrf_model::{Model, Precision};
use rlrf_train::{ResponseTree, reference_logprobs};

use crate::policy::LocalPolicy;
use crate::tokens::{backend, candidate_tokens, prompt_tokens};

/// Tokens that pass through a model at once.
const TOKENS_PER_MICROBATCH: usize = 1024;

/// Responses whose log-probabilities are computed between two looks at whether the user wants to stop.
const TREES_AT_ONCE: usize = 32;

/// What the responses are drawn for.
#[derive(Debug, Clone, Copy)]
pub struct DivergenceSample<'a> {
    /// One response is drawn for each.
    pub instructions: &'a [Instruction],
    /// Longest response, in tokens.
    pub max_new_tokens: usize,
    /// Fixes the responses.
    pub seed: u64,
}

/// The Kullback-Leibler divergence KL(policy || reference) in nats per response and per token: the mean over responses
/// `y ~ policy(.|x)` of `log policy(y|x) - log reference(y|x)`, drawn at temperature 1 from the whole distribution. An estimate
/// from one sample an instruction, which chance may make negative where the two models are close.
///
/// # Errors
/// A prompt that does not fit the context, a failure of a model, or the user's interruption.
pub fn divergence(
    policy: &Model,
    reference: &Model,
    sample: DivergenceSample<'_>,
    options: EngineOptions,
    progress: &dyn Progress,
) -> Result<(f64, f64)> {
    // A response is drawn, then passes through both models.
    progress.begin("divergence from M0", 3 * sample.instructions.len() as u64, 0);
    let advance = |items: usize, tokens: usize| {
        progress.advance(items as u64, tokens as u64);
        if progress.interrupted() { Err(Error::Interrupted) } else { Ok(()) }
    };
    let sampling = Sampling { temperature: 1.0, top_p: 1.0, ..Sampling::greedy(sample.max_new_tokens) };
    let requests: Vec<GenerationRequest> = sample
        .instructions
        .iter()
        .map(|instruction| GenerationRequest {
            messages: instruction.messages.clone(),
            streams: vec![stream(sample.seed, "divergence", &instruction.id, 0)],
            sampling: sampling.clone(),
        })
        .collect();
    let mut responses: Vec<Vec<u32>> = vec![Vec::new(); requests.len()];
    LocalPolicy::new(policy, options)?.generate(&requests, &mut |request, _, generated| {
        responses[request] = candidate_tokens(policy, &TrainedCandidate::of(&generated))?;
        advance(1, responses[request].len())
    })?;
    let prompts = requests
        .iter()
        .map(|request| prompt_tokens(policy, &request.messages))
        .collect::<Result<Vec<_>>>()?;
    let trees: Vec<ResponseTree<'_>> = prompts
        .iter()
        .zip(&responses)
        .filter(|(_, response)| !response.is_empty())
        .map(|(prompt, response)| ResponseTree { prompt, completions: vec![response] })
        .collect();
    let logprob = |model: &Model| -> Result<f64> {
        let mut sum = 0.0;
        for trees in trees.chunks(TREES_AT_ONCE) {
            let logprobs = reference_logprobs(&model.decoder, trees, TOKENS_PER_MICROBATCH, Precision::F32)
                .map_err(backend)?;
            sum = logprobs.iter().flatten().fold(sum, |sum, logprob| sum + logprob);
            advance(trees.len(), trees.iter().map(ResponseTree::rows).sum())?;
        }
        Ok(sum)
    };
    let total = logprob(policy)? - logprob(reference)?;
    let tokens: usize = responses.iter().map(Vec::len).sum();
    progress.end();
    Ok((total / trees.len().max(1) as f64, total / tokens.max(1) as f64))
}
