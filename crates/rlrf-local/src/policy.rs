//! A local model as the policy.

use std::sync::Arc;

use rlrf_engine::{Engine, EngineOptions, FinishReason, Generation, Request};
use rlrf_method::seam::{Generated, GenerationRequest, GenerationSink, Policy};
use rlrf_method::{Message, Result, Role};
use rlrf_model::Model;

use crate::generate::{engine_sampling, generate};
use crate::tokens::{backend, identity, prompt_tokens};

/// A model with an engine that generates from it.
pub struct LocalPolicy<'m> {
    pub(crate) model: &'m Model,
    pub(crate) engine: Arc<Engine>,
    digest: String,
}

impl<'m> LocalPolicy<'m> {
    /// Makes the model ready to generate.
    ///
    /// # Errors
    /// An engine option out of range.
    pub fn new(model: &'m Model, options: EngineOptions) -> Result<Self> {
        let engine = Arc::new(Engine::new(model, options).map_err(backend)?);
        Ok(Self { model, engine, digest: identity(model, options.weights) })
    }
}

impl LocalPolicy<'_> {
    /// A response. A stop string may begin inside a token: the text then has letters that no token kept stands for, and
    /// these tokens would be another response than the one that is judged.
    fn generated(&self, generation: Generation) -> Result<Generated> {
        let Generation { text, tokens, logprobs, finish, .. } = generation;
        let complete = matches!(finish, FinishReason::EndToken | FinishReason::Stop);
        if finish == FinishReason::Stop && self.model.tokenizer.decode(&tokens).map_err(backend)? != text {
            return Ok(Generated { text, tokens: Vec::new(), logprob: None, complete });
        }
        let logprob = logprobs.into_iter().map(f64::from).sum();
        Ok(Generated { text, tokens, logprob: Some(logprob), complete })
    }
}

/// A conversation in an error: how its question begins.
fn named(messages: &[Message]) -> String {
    let question = messages.iter().find(|message| message.role == Role::User);
    let words: Vec<&str> =
        question.iter().flat_map(|message| message.content.split_whitespace()).take(8).collect();
    format!("prompt {:?}...", words.join(" "))
}

impl Policy for LocalPolicy<'_> {
    fn digest(&self) -> String {
        self.digest.clone()
    }

    fn fits(&self, messages: &[Message]) -> Result<bool> {
        let prompt = prompt_tokens(self.model, messages)?;
        let sampling = rlrf_engine::Sampling::default();
        let request = Request { prompt, streams: Vec::new(), sampling, choice: None };
        Ok(!matches!(self.engine.validate(&request), Err(rlrf_engine::Error::Context { .. })))
    }

    fn generate(&mut self, requests: &[GenerationRequest], sink: &mut GenerationSink<'_>) -> Result<()> {
        let prompts = requests
            .iter()
            .map(|request| {
                Ok(Request {
                    prompt: prompt_tokens(self.model, &request.messages)?,
                    streams: request.streams.clone(),
                    sampling: engine_sampling(&request.sampling),
                    choice: None,
                })
            })
            .collect::<Result<Vec<_>>>()?;
        generate(
            &self.engine,
            &prompts,
            &|request| named(&requests[request].messages),
            &mut |request, sample, generation| sink(request, sample, self.generated(generation)?),
        )
    }
}
