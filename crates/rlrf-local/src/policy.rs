//! A local model as the policy.

use std::sync::Arc;

use rlrf_engine::{Choice, Engine, EngineOptions, FinishReason, Generation, Request};
use rlrf_method::seam::{ChoiceRequest, ChoiceSink, Generated, GenerationRequest, GenerationSink, Policy};
use rlrf_method::{Message, Result, Role};
use rlrf_model::Model;

use crate::generate::{engine_sampling, generate};
use crate::held::HeldModel;
use crate::tokens::{backend, identity, prompt_tokens};

/// A model with an engine that generates from it; a clone shares both.
#[derive(Clone)]
pub struct LocalPolicy<'m> {
    pub(crate) model: HeldModel<'m>,
    pub(crate) engine: Arc<Engine>,
    digest: String,
}

impl<'m> LocalPolicy<'m> {
    /// Makes the model ready to generate.
    ///
    /// # Errors
    /// An engine option out of range.
    pub fn new(model: &'m Model, options: EngineOptions) -> Result<Self> {
        Self::of(HeldModel::Borrowed(model), options)
    }

    fn of(model: HeldModel<'m>, options: EngineOptions) -> Result<Self> {
        let engine = Arc::new(Engine::new(&model, options).map_err(backend)?);
        Ok(Self { digest: identity(&model, options.weights), model, engine })
    }
}

impl LocalPolicy<'static> {
    /// The same for a model that nobody else needs.
    ///
    /// # Errors
    /// An engine option out of range.
    pub fn owning(model: Model, options: EngineOptions) -> Result<Self> {
        Self::of(HeldModel::Shared(Arc::new(model)), options)
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

    /// What tells the options apart: the tokens that all answers begin with, then the next one of each. None where two
    /// options go on with the same token, so that no single step tells them apart.
    fn choice(&self, options: &[String]) -> Result<Option<Choice>> {
        let answers = options
            .iter()
            .map(|option| self.model.chat.response(&self.model.tokenizer, option).map_err(backend))
            .collect::<Result<Vec<_>>>()?;
        let Some((first, others)) = answers.split_first() else { return Ok(None) };
        let shared = |answer: &Vec<u32>| first.iter().zip(answer).take_while(|(a, b)| a == b).count();
        let shared = others.iter().map(shared).min().unwrap_or_default();
        let mut next = Vec::with_capacity(answers.len());
        for answer in &answers {
            match answer.get(shared) {
                Some(token) if !next.contains(token) => next.push(*token),
                _ => return Ok(None),
            }
        }
        Ok((next.len() > 1).then(|| Choice { prefix: first[..shared].to_vec(), options: next }))
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
        let prompt = prompt_tokens(&self.model, messages)?;
        let sampling = rlrf_engine::Sampling::default();
        let request = Request { prompt, streams: Vec::new(), sampling, choice: None };
        Ok(!matches!(self.engine.validate(&request), Err(rlrf_engine::Error::Context { .. })))
    }

    fn generate(&mut self, requests: &[GenerationRequest], sink: &mut GenerationSink<'_>) -> Result<()> {
        let prompts = requests
            .iter()
            .map(|request| {
                Ok(Request {
                    prompt: prompt_tokens(&self.model, &request.messages)?,
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

    fn choose(&mut self, requests: &[ChoiceRequest], sink: &mut ChoiceSink<'_>) -> Result<bool> {
        let mut prompts = Vec::with_capacity(requests.len());
        for request in requests {
            let Some(choice) = self.choice(&request.options)? else { return Ok(false) };
            prompts.push(Request {
                prompt: prompt_tokens(&self.model, &request.messages)?,
                streams: vec![0],
                sampling: rlrf_engine::Sampling::greedy(0),
                choice: Some(choice),
            });
        }
        let name = |request: usize| named(&requests[request].messages);
        generate(&self.engine, &prompts, &name, &mut |request, _, generation| {
            let probabilities = generation.choice.unwrap_or_default().into_iter().map(f64::from).collect();
            sink(request, probabilities)
        })?;
        Ok(true)
    }
}
