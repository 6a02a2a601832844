//! Levels of many responses to one instruction.

use std::ops::ControlFlow;

use anyhow::{Result, ensure};
use rlrf_engine::{Choice, Engine, Request, Sampling};
use rlrf_method::LEVELS;
use serde_json::json;

use crate::bench::arguments::FeedbackOptions;
use crate::bench::random_tokens::RandomTokens;
use crate::bench::report::Report;
use crate::bench::{precision, stopwatch};
use crate::models;

/// Measures levels, each read straight after its prompt: what all prompts share, the response, the aspect.
pub(crate) fn measure(options: &FeedbackOptions) -> Result<Report> {
    let FeedbackOptions { subject, responses, aspects, shared_tokens, repetitions, .. } = options;
    let engine_options = precision::engine(subject.precision);
    let model = models::load(&subject.model)?;
    let engine = Engine::new(&model, engine_options)?;
    let mut tokens = RandomTokens::new(model.decoder.config().vocab_size);
    drop(model);

    let levels = tokens.take(LEVELS);
    let shared = tokens.take(shared_tokens.get());
    let aspect_prompts: Vec<Vec<u32>> =
        (0..aspects.get()).map(|_| tokens.take(options.aspect_tokens.get())).collect();
    let mut requests = Vec::with_capacity(responses.get() * aspects.get());
    for _ in 0..responses.get() {
        let response = tokens.take(options.response_tokens.get());
        requests.extend(aspect_prompts.iter().map(|aspect| Request {
            prompt: [shared.as_slice(), &response, aspect].concat(),
            streams: vec![0],
            sampling: Sampling::greedy(0),
            choice: Some(Choice { prefix: Vec::new(), options: levels.clone() }),
        }));
    }
    let mut computed_tokens = 0;
    let laps = stopwatch::time(repetitions, |_| {
        let mut read = 0;
        let stats = engine.generate(&requests, &mut |_, _, generation| {
            read += usize::from(generation.choice.is_some());
            ControlFlow::Continue(())
        })?;
        ensure!(read == requests.len(), "{read} levels read in place of {}", requests.len());
        computed_tokens = stats.computed_prompt_tokens;
        Ok(())
    })?;
    let settings = json!({
        "responses": responses,
        "aspects": aspects,
        "shared_tokens": shared_tokens,
        "response_tokens": options.response_tokens,
        "aspect_tokens": options.aspect_tokens,
        "computed_prompt_tokens": computed_tokens,
        "prompt_tokens": requests.iter().map(|request| request.prompt.len()).sum::<usize>(),
        "warmup": repetitions.warmup,
    });
    Ok(Report::new("feedback", subject, (requests.len() as f64, "levels"), laps, settings))
}
