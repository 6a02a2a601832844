//! Training steps.

use anyhow::{Context, Result};
use rlrf_train::{SftExample, StepMetrics, TrainingConfig, TrainingControl, sft};
use serde_json::json;

use crate::bench::arguments::TrainOptions;
use crate::bench::precision;
use crate::bench::random_tokens::RandomTokens;
use crate::bench::report::Report;
use crate::bench::stopwatch::Stopwatch;
use crate::models;

/// Measures steps over the same sequences, each the prediction of `length` tokens from those before.
pub(crate) fn measure(options: &TrainOptions) -> Result<Report> {
    let TrainOptions { subject, lora_rank, warmup, .. } = options;
    let (batch, length) = (options.batch.get(), options.length.get());
    let tokens_per_microbatch = options.tokens_per_microbatch.map_or(batch * length, |tokens| tokens.get());
    let config = TrainingConfig {
        epochs: warmup + options.steps.get() as u64,
        batch_size: batch,
        tokens_per_microbatch,
        ..precision::training(subject.precision, *lora_rank)?
    };
    let mut model = models::load(&subject.model)?;
    let mut tokens = RandomTokens::new(model.decoder.config().vocab_size);
    let examples: Vec<SftExample> =
        (0..batch).map(|_| SftExample { prompt: tokens.take(1), completion: tokens.take(length) }).collect();

    let mut watch = Watch { warmup: *warmup, stopwatch: (*warmup == 0).then(Stopwatch::start) };
    let summary = sft(&mut model.decoder, &examples, &config, &mut watch)?;
    let laps = watch.stopwatch.context("no step was measured")?.stop();
    let settings = json!({
        "batch": batch,
        "length": length,
        "lora_rank": lora_rank,
        "tokens_per_microbatch": tokens_per_microbatch,
        "warmup": warmup,
        "mean_loss": summary.mean_loss,
    });
    Ok(Report::new("train", subject, ((batch * length) as f64, "tokens"), laps, settings))
}

struct Watch {
    warmup: u64,
    stopwatch: Option<Stopwatch>,
}

impl TrainingControl for Watch {
    fn on_step(&mut self, metrics: &StepMetrics) {
        match &mut self.stopwatch {
            Some(stopwatch) => stopwatch.lap(),
            None if metrics.step == self.warmup => self.stopwatch = Some(Stopwatch::start()),
            None => {}
        }
    }
}
