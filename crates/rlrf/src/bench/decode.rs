//! Sampling, end to end.

use std::ops::ControlFlow;

use anyhow::{Result, ensure};
use rlrf_engine::{Engine, Request, Sampling};
use serde_json::json;

use crate::bench::arguments::DecodeOptions;
use crate::bench::random_tokens::RandomTokens;
use crate::bench::report::Report;
use crate::bench::{precision, stopwatch};
use crate::models;

/// Measures samples of random prompts at temperature 1, all of the same length.
pub(crate) fn measure(options: &DecodeOptions) -> Result<Report> {
    let DecodeOptions { subject, prompts, samples, prompt_tokens, new_tokens, repetitions } = options;
    let engine_options = precision::engine(subject.precision);
    let mut model = models::load(&subject.model)?;
    model.end_tokens.clear();
    let engine = Engine::new(&model, engine_options)?;
    let mut tokens = RandomTokens::new(model.decoder.config().vocab_size);
    drop(model);

    let samples = samples.get();
    let mut requests: Vec<Request> = (0..prompts.get())
        .map(|_| Request {
            prompt: tokens.take(prompt_tokens.get()),
            streams: Vec::new(),
            sampling: Sampling { max_new_tokens: new_tokens.get(), ..Sampling::default() },
            choice: None,
        })
        .collect();
    let expected = prompts.get() * samples * new_tokens.get();
    let laps = stopwatch::time(repetitions, |repetition| {
        let first = (repetition * samples) as u64;
        for request in &mut requests {
            request.streams = (first..first + samples as u64).collect();
        }
        let stats = engine.generate(&requests, &mut |_, _, _| ControlFlow::Continue(()))?;
        let drawn = stats.generated_tokens;
        ensure!(
            drawn == expected,
            "{drawn} tokens drawn in place of {expected}: the model's context is too small"
        );
        Ok(())
    })?;
    let settings = json!({
        "prompts": prompts,
        "samples": samples,
        "prompt_tokens": prompt_tokens,
        "new_tokens": new_tokens,
        "temperature": 1.0,
        "warmup": repetitions.warmup,
    });
    Ok(Report::new("decode", subject, (expected as f64, "tokens"), laps, settings))
}
