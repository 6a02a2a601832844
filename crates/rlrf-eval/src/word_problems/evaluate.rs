//! A model's answers to word problems.

use rlrf_method::config::Sampling;
use rlrf_method::digest::stream;
use rlrf_method::seam::Policy;
use rlrf_method::{Error, Result};
use serde_json::{Value, json};

use super::problem::{Problem, Source};
use super::score::{Response, score};
use super::template::Template;
use crate::evaluation::Outcome;
use crate::respond::{Context, Prompt, respond_if_fits};

/// How a model is asked.
#[derive(Debug, Clone, PartialEq)]
pub struct Asking {
    /// The prompt.
    pub template: Template,
    /// Responses to each problem.
    pub samples: u32,
    /// How they are drawn, but for the template's own stop texts.
    pub sampling: Sampling,
    /// Fixes the samples; greedy answers do not depend on it.
    pub seed: u64,
}

impl Asking {
    /// For the record: all that decides the responses.
    #[must_use]
    pub fn settings(&self) -> Value {
        let Self { template, samples, sampling, .. } = self;
        json!({
            "template": { "name": template.name, "version": template.version, "shots": template.shots() },
            "samples": samples,
            "sampling": self.drawn(sampling),
            "seed": self.seed(),
        })
    }

    fn seed(&self) -> u64 {
        if self.sampling.temperature == 0.0 { 0 } else { self.seed }
    }

    fn drawn(&self, sampling: &Sampling) -> Sampling {
        let mut sampling = sampling.clone();
        sampling.stop.extend(self.template.stop.iter().cloned());
        sampling
    }
}

/// The policy's answers to `problems`, scored. A problem whose prompt does not fit the model's context has no answer:
/// that is wrong, and counted as `prompt_too_long`.
///
/// # Errors
/// As [`respond`](crate::respond()); no prompt fits.
pub fn evaluate(
    context: &mut Context<'_>,
    policy: &mut dyn Policy,
    source: Source,
    (set, iteration): (&str, u32),
    problems: &[Problem],
    asking: &Asking,
) -> Result<Outcome> {
    let prompt = |problem: &Problem| Prompt {
        id: problem.id.clone(),
        messages: asking.template.messages(&problem.question),
        streams: (0..asking.samples)
            .map(|index| stream(asking.seed(), "evaluation", &problem.id, index))
            .collect(),
        sampling: asking.drawn(&asking.sampling),
    };
    let prompts = problems.iter().map(prompt).collect();
    let drawn = respond_if_fits(context, &format!("evaluate {set}"), iteration, policy, prompts)?;
    let too_long = drawn.iter().filter(|samples| samples.is_none()).count();
    if too_long == problems.len() {
        let shots = asking.template.shots();
        return Err(Error::Backend(format!(
            "no prompt of template {} with {shots} worked examples fits the model's context; give fewer --shots or \
             another --template",
            asking.template.name
        )));
    }
    let responses: Vec<Vec<Response>> = drawn
        .into_iter()
        .map(|samples| samples.unwrap_or_default().into_iter().map(Response::from).collect())
        .collect();
    let mut outcome = score(source, set, problems, &responses, asking.samples as usize);
    let evaluation = &mut outcome.evaluation;
    evaluation.iteration = iteration;
    evaluation.count("prompt_too_long", too_long as u64);
    evaluation.settings = asking.settings();
    evaluation.digests.insert("model".into(), policy.digest());
    evaluation.digests.insert("template".into(), asking.template.digest());
    Ok(outcome)
}
