//! Training steps.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use rlrf_train::{SftExample, StepMetrics, TrainingConfig, TrainingControl, sft};
use serde_json::json;

use crate::bench::arguments::TrainOptions;
use crate::bench::precision;
use crate::bench::random_tokens::RandomTokens;
use crate::bench::report::Report;
use crate::bench::stopwatch::Stopwatch;
use crate::models;

/// Of sequences of different lengths, as many as the word-problems example lets through the model at once.
const TOKENS_PER_MICROBATCH: usize = 2048;

/// Measures steps over the same sequences, each the prediction of `length` tokens from those before; or epochs over
/// sequences of given lengths, in random batches.
pub(crate) fn measure(options: &TrainOptions) -> Result<Report> {
    let TrainOptions { subject, lora_rank, repetitions, .. } = options;
    let (batch, length) = (options.batch.get(), options.length.get());
    let (lengths, whole_step) = match &options.lengths {
        Some(file) => (read_lengths(file)?, TOKENS_PER_MICROBATCH),
        None => (vec![(1, length); batch], batch * length),
    };
    let tokens_per_microbatch = options.tokens_per_microbatch.map_or(whole_step, |tokens| tokens.get());
    let config = TrainingConfig {
        epochs: (repetitions.warmup + repetitions.repeat.get()) as u64,
        batch_size: batch,
        tokens_per_microbatch,
        ..precision::training(subject.precision, *lora_rank)?
    };
    let mut model = models::load(&subject.model)?;
    let mut tokens = RandomTokens::new(model.decoder.config().vocab_size);
    let examples: Vec<SftExample> = lengths
        .iter()
        .map(|&(prompt, completion)| SftExample {
            prompt: tokens.take(prompt),
            completion: tokens.take(completion),
        })
        .collect();
    let steps_per_repetition = examples.len().div_ceil(batch) as u64;
    let mut watch = Watch::new(steps_per_repetition, repetitions.warmup as u64);
    let summary = sft(&mut model.decoder, &examples, &config, &mut watch)?;
    let laps = watch.stopwatch.context("no step was measured")?.stop();
    // The last token of a sequence is predicted, and not computed from.
    let rows: usize = lengths.iter().map(|(prompt, completion)| prompt + completion - 1).sum();
    let settings = json!({
        "batch": batch,
        "length": options.lengths.is_none().then_some(length),
        "lengths": options.lengths,
        "steps_per_repetition": steps_per_repetition,
        "lora_rank": lora_rank,
        "tokens_per_microbatch": tokens_per_microbatch,
        "warmup": repetitions.warmup,
        "mean_loss": summary.mean_loss,
    });
    Ok(Report::new("train", subject, (rows as f64, "tokens"), laps, settings))
}

/// Lines of two lengths.
fn read_lengths(file: &Path) -> Result<Vec<(usize, usize)>> {
    let text = std::fs::read_to_string(file).with_context(|| format!("{}: cannot read", file.display()))?;
    let lengths = text.lines().enumerate().map(|(line, text)| {
        let lengths = text.split_once(' ').and_then(|(prompt, completion)| {
            Some((prompt.parse().ok()?, completion.parse().ok()?)).filter(|&(a, b)| a > 0 && b > 0)
        });
        lengths.with_context(|| {
            format!("{}:{}: expected two numbers above 0, got `{text}`", file.display(), line + 1)
        })
    });
    let lengths: Vec<_> = lengths.collect::<Result<_>>()?;
    ensure!(!lengths.is_empty(), "{}: holds no lengths", file.display());
    Ok(lengths)
}

struct Watch {
    steps_per_repetition: u64,
    warmup_steps: u64,
    stopwatch: Option<Stopwatch>,
}

impl Watch {
    fn new(steps_per_repetition: u64, warmup: u64) -> Self {
        let warmup_steps = warmup * steps_per_repetition;
        Self { steps_per_repetition, warmup_steps, stopwatch: (warmup == 0).then(Stopwatch::start) }
    }
}

impl TrainingControl for Watch {
    fn on_step(&mut self, metrics: &StepMetrics) {
        let repetition_ends = metrics.step.is_multiple_of(self.steps_per_repetition);
        match &mut self.stopwatch {
            Some(stopwatch) if repetition_ends => stopwatch.lap(),
            None if metrics.step == self.warmup_steps => self.stopwatch = Some(Stopwatch::start()),
            _ => {}
        }
    }
}
