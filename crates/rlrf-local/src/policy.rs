//! A local model as the policy.

use rlrf_engine::{Engine, EngineOptions, FinishReason, Request};
use rlrf_method::seam::{Generated, GenerationRequest, GenerationSink, Policy};
use rlrf_method::{Message, Result, Role};
use rlrf_model::Model;

use crate::generate::{engine_sampling, generate};
use crate::tokens::{backend, prompt_tokens};

/// A model with an engine that generates from it.
pub struct LocalPolicy<'m> {
    model: &'m Model,
    engine: Engine,
    digest: String,
}

impl<'m> LocalPolicy<'m> {
    /// Makes the model ready to generate.
    ///
    /// # Errors
    /// An engine option out of range.
    pub fn new(model: &'m Model, options: EngineOptions) -> Result<Self> {
        Ok(Self { model, engine: Engine::new(model, options).map_err(backend)?, digest: model.digest() })
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
            &mut |request, sample, generation| {
                let logprob = generation.logprobs.iter().copied().map(f64::from).sum();
                sink(
                    request,
                    sample,
                    Generated {
                        text: generation.text,
                        tokens: generation.tokens,
                        logprob: Some(logprob),
                        complete: matches!(generation.finish, FinishReason::EndToken | FinishReason::Stop),
                    },
                )
            },
        )
    }
}
