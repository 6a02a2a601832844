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
use crate::respond::{Context, Prompt, respond};

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
/// As [`respond`]; no prompt fits.
pub fn evaluate(
    context: &mut Context<'_>,
    policy: &mut dyn Policy,
    source: Source,
    (set, iteration): (&str, u32),
    problems: &[Problem],
    asking: &Asking,
) -> Result<Outcome> {
    let mut prompts = Vec::with_capacity(problems.len());
    let mut fitting = Vec::with_capacity(problems.len());
    for problem in problems {
        let messages = asking.template.messages(&problem.question);
        let fits = policy.fits(&messages)?;
        fitting.push(fits);
        if fits {
            let draw = |index| stream(asking.seed(), "evaluation", &problem.id, index);
            prompts.push(Prompt {
                id: problem.id.clone(),
                messages,
                streams: (0..asking.samples).map(draw).collect(),
                sampling: asking.drawn(&asking.sampling),
            });
        }
    }
    if prompts.is_empty() {
        let shots = asking.template.shots();
        return Err(Error::Backend(format!(
            "no prompt of template {} with {shots} worked examples fits the model's context; give fewer --shots or \
             another --template",
            asking.template.name
        )));
    }
    let mut drawn = respond(context, &format!("evaluate {set}"), iteration, policy, &prompts)?.into_iter();
    let responses: Vec<Vec<Response>> = fitting
        .iter()
        .map(|&fits| if fits { drawn.next().unwrap_or_default() } else { Vec::new() })
        .map(|samples| samples.into_iter().map(Response::from).collect())
        .collect();
    let mut outcome = score(source, set, problems, &responses, asking.samples as usize);
    let evaluation = &mut outcome.evaluation;
    evaluation.iteration = iteration;
    evaluation.count("prompt_too_long", fitting.iter().filter(|&&fits| !fits).count() as u64);
    evaluation.settings = asking.settings();
    evaluation.digests.insert("model".into(), policy.digest());
    evaluation.digests.insert("template".into(), asking.template.digest());
    Ok(outcome)
}
