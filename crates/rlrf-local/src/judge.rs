//! A local model as the judge: it writes a critique, then its level is read off the logits in one step.

use std::sync::Arc;

use rlrf_engine::{Choice, Engine, EngineOptions, FinishReason, Request};
use rlrf_method::config::Sampling;
use rlrf_method::digest::{digest, stream_of};
use rlrf_method::feedback::tempered;
use rlrf_method::seam::{Judge, JudgeRequest};
use rlrf_method::template::VERDICT_PREFIX;
use rlrf_method::{Error, Feedback, LEVELS, ParseOutcome, Result, Templates};
use rlrf_model::Model;
use serde::{Deserialize, Serialize};

use crate::generate::{engine_sampling, generate};
use crate::held::HeldModel;
use crate::policy::LocalPolicy;
use crate::tokens::{backend, identity, prompt_tokens};

/// How critiques are written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct JudgeConfig {
    /// Longest critique, in tokens; a longer one is cut there, its level is read all the same, and it counts as repaired.
    pub max_new_tokens: usize,
    /// 0 writes the most probable critique.
    pub temperature: f32,
    /// Divides the logits of the levels: above 1 makes a judge that is too sure of its verdicts less so.
    pub level_temperature: f64,
}

impl Default for JudgeConfig {
    fn default() -> Self {
        Self { max_new_tokens: 256, temperature: 0.0, level_temperature: 1.0 }
    }
}

/// Requests whose prompts are in memory at once: many more than run at once, so that few steps wait for the last of them.
const ROUND: usize = 32_768;

/// A model that gives feedback. The level is always one of the rubric's: the distribution over the level tokens
/// is read after the forced verdict prefix, so no reply can fail to parse; only a prompt that the context cannot hold fails.
pub struct LocalJudge<'m> {
    model: HeldModel<'m>,
    engine: Arc<Engine>,
    templates: &'m Templates,
    sampling: Sampling,
    choice: Choice,
    level_temperature: f64,
    digest: String,
}

impl<'m> LocalJudge<'m> {
    /// Makes the model ready to judge.
    ///
    /// # Errors
    /// An engine option out of range, or a tokenizer in which the levels are not one token each.
    pub fn new(
        model: &'m Model,
        templates: &'m Templates,
        config: &JudgeConfig,
        options: EngineOptions,
    ) -> Result<Self> {
        let engine = Arc::new(Engine::new(model, options).map_err(backend)?);
        Self::with_engine(HeldModel::Borrowed(model), engine, templates, config)
    }

    /// The policy as its own judge; both share the packed weights.
    ///
    /// # Errors
    /// A tokenizer in which the levels are not one token each.
    pub fn of_policy(
        policy: &LocalPolicy<'m>,
        templates: &'m Templates,
        config: &JudgeConfig,
    ) -> Result<Self> {
        Self::with_engine(policy.model.clone(), Arc::clone(&policy.engine), templates, config)
    }

    fn with_engine(
        model: HeldModel<'m>,
        engine: Arc<Engine>,
        templates: &'m Templates,
        config: &JudgeConfig,
    ) -> Result<Self> {
        let levels: Vec<String> = (1..=LEVELS).map(|level| level.to_string()).collect();
        let levels: Vec<&str> = levels.iter().map(String::as_str).collect();
        let (prefix, options_tokens) = model.tokenizer.choice(VERDICT_PREFIX, &levels).map_err(backend)?;
        let mut sampling = Sampling::greedy(config.max_new_tokens);
        sampling.temperature = config.temperature;
        sampling.stop = vec![VERDICT_PREFIX.trim_end().to_string()];
        let key = ("judge", identity(&model, engine.weights()), templates.feedback_digest(), &sampling);
        let digest = match config.level_temperature {
            1.0 => digest(&key),
            temperature => digest(&(key, temperature)),
        };
        Ok(Self {
            model,
            engine,
            templates,
            sampling,
            choice: Choice { prefix, options: options_tokens },
            level_temperature: config.level_temperature,
            digest,
        })
    }
}

impl Judge for LocalJudge<'_> {
    fn digest(&self) -> String {
        self.digest.clone()
    }

    fn judge(
        &mut self,
        requests: &[JudgeRequest<'_>],
        sink: &mut dyn FnMut(usize, Feedback) -> Result<()>,
    ) -> Result<()> {
        for (round, requests) in requests.chunks(ROUND).enumerate() {
            let first = round * ROUND;
            self.judge_round(requests, &mut |request, feedback| sink(first + request, feedback))?;
        }
        Ok(())
    }
}

impl LocalJudge<'_> {
    fn judge_round(
        &mut self,
        requests: &[JudgeRequest<'_>],
        sink: &mut dyn FnMut(usize, Feedback) -> Result<()>,
    ) -> Result<()> {
        let mut prompts = Vec::with_capacity(requests.len());
        let mut places = Vec::with_capacity(requests.len());
        for (place, request) in requests.iter().enumerate() {
            let messages = self.templates.feedback(request.instruction, request.response, request.aspect)?;
            let prompt = Request {
                prompt: prompt_tokens(&self.model, &messages)?,
                streams: vec![stream_of(&messages)],
                sampling: engine_sampling(&self.sampling),
                choice: Some(self.choice.clone()),
            };
            match self.engine.validate(&prompt) {
                // The prompt grows with the response, which is the policy's: not the user's to shorten.
                Err(error @ rlrf_engine::Error::Context { .. }) => {
                    sink(place, Feedback::failed(&request.aspect.name, error.to_string()))?;
                }
                _ => {
                    prompts.push(prompt);
                    places.push(place);
                }
            }
        }
        let name = |request: usize| {
            let JudgeRequest { instruction, aspect, .. } = requests[places[request]];
            format!("feedback on {} for instruction {}", aspect.name, instruction.id)
        };
        generate(&self.engine, &prompts, &name, &mut |request, _, generation| {
            let probabilities = generation.choice.unwrap_or_default();
            let mut distribution = [0.0; LEVELS];
            if probabilities.len() != LEVELS {
                return Err(Error::Backend("the engine returned no level distribution".into()));
            }
            for (level, probability) in distribution.iter_mut().zip(probabilities) {
                *level = f64::from(probability);
            }
            let parse = match generation.finish {
                FinishReason::Stop => ParseOutcome::Parsed,
                _ => ParseOutcome::Repaired,
            };
            let critique = generation.text.trim().to_string();
            let distribution = tempered(distribution, self.level_temperature);
            let place = places[request];
            let aspect = &requests[place].aspect.name;
            sink(place, Feedback::from_distribution(aspect, critique, distribution, parse))
        })
    }
}
