//! An epoch of DPO, the reference pass included.

use anyhow::Result;
use rlrf_model::Decoder;
use rlrf_train::{DpoConfig, PreferenceGroup, ResponseTree, TrainingConfig, dpo, reference_logprobs};
use serde_json::json;

use crate::bench::arguments::DpoOptions;
use crate::bench::random_tokens::RandomTokens;
use crate::bench::report::Report;
use crate::bench::{precision, stopwatch};
use crate::models;

/// Chosen candidates of a prompt, and as many rejected ones.
const CHOSEN: usize = 4;
/// Pairs of a prompt: half of the combinations, so that each candidate is in two.
const PAIRS: usize = 8;

/// Measures epochs over prompts with all their pairs. The warm-up runs over the first step alone.
pub(crate) fn measure(options: &DpoOptions) -> Result<Report> {
    let DpoOptions { subject, lora_rank, prompts, repetitions, .. } = options;
    let prompts_per_step = options.prompts_per_step.min(*prompts).get();
    let length = options.length.get();
    let whole_tree = length * (1 + 2 * CHOSEN);
    let tokens_per_microbatch = options.tokens_per_microbatch.map_or(whole_tree, |tokens| tokens.get());
    let config = TrainingConfig {
        batch_size: prompts_per_step,
        tokens_per_microbatch,
        ..precision::training(subject.precision, *lora_rank)?
    };
    let mut model = models::load(&subject.model)?;
    let mut tokens = RandomTokens::new(model.decoder.config().vocab_size);
    let groups: Vec<PreferenceGroup> = (0..prompts.get()).map(|_| group(&mut tokens, length)).collect();
    let (mut tokens_per_epoch, mut mean_loss) = (0, 0.0);
    let laps = stopwatch::time(repetitions, |repetition| {
        let measured = repetition >= repetitions.warmup;
        let groups = if measured { groups.clone() } else { groups[..prompts_per_step].to_vec() };
        (tokens_per_epoch, mean_loss) = epoch(&mut model.decoder, groups, &config)?;
        Ok(())
    })?;
    let settings = json!({
        "prompts": prompts,
        "pairs": PAIRS * prompts.get(),
        "pairs_per_step": PAIRS * prompts_per_step,
        "candidates_per_prompt": 2 * CHOSEN,
        "length": length,
        "lora_rank": lora_rank,
        "tokens_per_microbatch": tokens_per_microbatch,
        "tokens_per_epoch": tokens_per_epoch,
        "warmup": repetitions.warmup,
        "mean_loss": mean_loss,
    });
    Ok(Report::new("dpo", subject, ((PAIRS * prompts.get()) as f64, "pairs"), laps, settings))
}

fn group(tokens: &mut RandomTokens, length: usize) -> PreferenceGroup {
    PreferenceGroup {
        prompt: tokens.take(length),
        candidates: (0..2 * CHOSEN).map(|_| tokens.take(length)).collect(),
        ref_logprobs: Vec::new(),
        mismatched: None,
        pairs: (0..PAIRS).map(|pair| (pair % CHOSEN, CHOSEN + (pair + pair / CHOSEN) % CHOSEN)).collect(),
    }
}

/// Tokens that passed through the model in training, and the mean loss.
fn epoch(
    decoder: &mut Decoder,
    mut groups: Vec<PreferenceGroup>,
    config: &TrainingConfig,
) -> Result<(u64, f64)> {
    decoder.detach();
    let trees: Vec<ResponseTree<'_>> = groups.iter().map(PreferenceGroup::tree).collect();
    let reference = reference_logprobs(decoder, &trees, config.tokens_per_microbatch, config.precision)?;
    for (group, logprobs) in groups.iter_mut().zip(reference) {
        group.ref_logprobs = logprobs;
    }
    let summary = dpo(decoder, &groups, config, &DpoConfig::default(), &mut ())?;
    Ok((summary.tokens, summary.mean_loss))
}
