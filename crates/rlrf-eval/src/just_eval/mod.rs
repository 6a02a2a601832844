//! Just-Eval-Instruct (Lin et al. 2023, "The Unlocking Spell on Base LLMs"): a judge scores responses from 1 to 5 on five
//! aspects (800 regular instructions), and on safety (200 malicious ones).

mod file;
mod instruction;
mod score;
mod template;

use rlrf_method::config::Sampling;
use rlrf_method::digest::stream;
use rlrf_method::seam::{Generated, Policy};
use rlrf_method::{Message, Result};
use serde_json::json;

pub use file::{read_replies, read_responses};
pub use instruction::{Category, DIGEST, JustEvalInstruction, ORIGIN};
pub use score::{Judged, Missing, score};
pub(crate) use template::fill;
pub use template::{TEMPLATE, judge_prompt};

use crate::evaluation::Outcome;
use crate::judging::{Asking, Question};
use crate::reply::AspectReply;
use crate::respond::{Context, Prompt, respond_if_fits};

/// Name of the benchmark.
pub const BENCHMARK: &str = "just-eval";

/// Version of its definition.
pub const DEFINITION: u32 = 1;

/// A response to be judged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// Its text.
    pub text: String,
    /// Its length in the model's tokens, where that is known.
    pub tokens: Option<usize>,
    /// Whether the model ended it, and not the length limit.
    pub complete: bool,
}

/// The policy's response to each instruction; none to one that does not fit its context.
///
/// # Errors
/// As [`respond`](crate::respond()).
pub fn respond_to(
    context: &mut Context<'_>,
    iteration: u32,
    policy: &mut dyn Policy,
    instructions: &[JustEvalInstruction],
    sampling: &Sampling,
) -> Result<Vec<Option<Response>>> {
    let prompt = |instruction: &JustEvalInstruction| Prompt {
        id: instruction.id.clone(),
        messages: vec![Message::user(instruction.instruction.as_str())],
        streams: vec![stream(0, "evaluation", &instruction.id, 0)],
        sampling: sampling.clone(),
    };
    let prompts = instructions.iter().map(prompt).collect();
    let generated = respond_if_fits(context, "just-eval respond", iteration, policy, prompts)?;
    let response = |generated: Generated| Response {
        tokens: (!generated.tokens.is_empty() || generated.text.is_empty()).then_some(generated.tokens.len()),
        text: generated.text,
        complete: generated.complete,
    };
    Ok(generated.into_iter().map(|each| each.into_iter().flatten().next().map(response)).collect())
}

/// How responses are judged and scored.
#[derive(Debug, Clone, Copy)]
pub struct Judging<'a> {
    /// Name of the set of instructions.
    pub set: &'a str,
    /// Iteration of the policy.
    pub iteration: u32,
    /// How the judge's replies are drawn.
    pub sampling: &'a Sampling,
    /// Why an absent response is absent.
    pub missing: Missing,
    /// Whether "N/A" scores 5, as in the original.
    pub compat: bool,
}

impl Judging<'_> {
    /// The whole evaluation: the judge's replies on `responses`, one for each instruction, scored.
    ///
    /// # Errors
    /// As [`respond`](crate::respond()).
    pub fn evaluate(
        &self,
        context: &mut Context<'_>,
        judge: &mut dyn Policy,
        (instructions, responses): (&[JustEvalInstruction], &[Option<Response>]),
    ) -> Result<Outcome> {
        let judged = self.judge(context, judge, (instructions, responses))?;
        let mut outcome = score(self.set, &judged, self.compat);
        let evaluation = &mut outcome.evaluation;
        evaluation.iteration = self.iteration;
        evaluation.settings["judge_sampling"] = json!(self.sampling);
        evaluation.settings["template"] = TEMPLATE.into();
        evaluation.digests.insert("template".into(), template::templates_digest());
        evaluation.digests.insert("judge".into(), judge.digest());
        evaluation.digests.insert("data".into(), JustEvalInstruction::digest(instructions));
        Ok(outcome)
    }

    fn judge(
        &self,
        context: &mut Context<'_>,
        judge: &mut dyn Policy,
        (instructions, responses): (&[JustEvalInstruction], &[Option<Response>]),
    ) -> Result<Vec<Judged>> {
        let mut judged: Vec<Judged> = instructions
            .iter()
            .zip(responses)
            .map(|(instruction, response)| Judged {
                id: instruction.id.clone(),
                dataset: instruction.dataset.clone(),
                category: Some(instruction.category),
                response: response.clone(),
                replies: Vec::new(),
                missing: response.is_none().then_some(self.missing),
            })
            .collect();
        let (mut places, mut questions) = (Vec::new(), Vec::new());
        for (place, (instruction, response)) in instructions.iter().zip(responses).enumerate() {
            if let Some(response) = response {
                let prompt = judge_prompt(instruction.category, &instruction.instruction, &response.text);
                places.push(place);
                questions
                    .push(Question { id: instruction.id.clone(), messages: vec![Message::user(prompt)] });
            }
        }
        let Self { iteration, sampling, .. } = *self;
        let asking = Asking { stage: "just-eval judge", iteration, sampling, again: template::AGAIN };
        let replies = asking.ask(context, judge, &questions, |question, reply| {
            AspectReply::read(reply, instructions[places[question]].category.aspects()).is_whole()
        })?;
        for (place, replies) in places.into_iter().zip(replies) {
            judged[place].missing = replies.is_empty().then_some(Missing::JudgePromptTooLong);
            judged[place].replies = replies;
        }
        Ok(judged)
    }
}
