//! Running the engine under a sink that may fail.

use std::ops::ControlFlow;

use rlrf_engine::{Engine, Generation, Request};
use rlrf_method::Result;
use rlrf_method::config::Sampling;

use crate::tokens::backend;

/// Generates all samples; stops at the sink's first error and returns it. `name` says in errors what a request is.
pub(crate) fn generate(
    engine: &Engine,
    requests: &[Request],
    name: &dyn Fn(usize) -> String,
    sink: &mut dyn FnMut(usize, usize, Generation) -> Result<()>,
) -> Result<()> {
    let mut outcome = Ok(());
    let ran = engine.generate(requests, &mut |request, sample, generation| {
        outcome = sink(request, sample, generation);
        if outcome.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    });
    outcome?;
    ran.map(drop).map_err(|error| match error {
        rlrf_engine::Error::Request { request, cause } => backend(format!("{}: {cause}", name(request))),
        other => backend(other),
    })
}

pub(crate) fn engine_sampling(sampling: &Sampling) -> rlrf_engine::Sampling {
    rlrf_engine::Sampling {
        temperature: sampling.temperature,
        top_p: sampling.top_p,
        top_k: sampling.top_k,
        min_p: sampling.min_p,
        max_new_tokens: sampling.max_new_tokens,
        stop: sampling.stop.clone(),
    }
}
