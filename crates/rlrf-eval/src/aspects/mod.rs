//! Aspects: one response to each instruction, and its level on each aspect, by checkers and by a judge side by side.
//!
//! The same numbers of successive models are the movement of each aspect. Checkers tell what has moved; where only the
//! judge's levels rise, the policy has learnt to please the judge. Their agreement is measured on the same responses.

mod judge;
mod score;

use std::collections::BTreeMap;

use rlrf_method::config::Sampling;
use rlrf_method::digest::stream;
use rlrf_method::dispatch::AspectCheckers;
use rlrf_method::seam::{Judge, Policy};
use rlrf_method::{Aspect, Instruction, Result};
use serde_json::json;

use self::judge::judge;
use self::score::Measured;
use crate::evaluation::Outcome;
use crate::respond::{Context, Prompt, respond_if_fits};

/// Name of the benchmark.
pub const BENCHMARK: &str = "aspects";

/// Version of its definition.
const DEFINITION: u32 = 1;

/// A judge, and the aspects that it is asked about.
pub struct AspectJudge<'a> {
    /// Who judges.
    pub judge: &'a mut dyn Judge,
    /// On what.
    pub aspects: &'a [Aspect],
}

/// What is asked of every model, and what decides the levels exactly.
pub struct Definition {
    /// The instructions.
    pub instructions: Vec<Instruction>,
    /// What decides aspects exactly, by their names; may be none where there is a judge.
    pub checkers: AspectCheckers,
    /// How responses are drawn.
    pub sampling: Sampling,
    /// Fixes the draws, where the sampling is not greedy.
    pub seed: u64,
}

/// One response of `policy` to each instruction, with its levels.
///
/// # Errors
/// As [`respond`](crate::respond()); a failure of the judge; an instruction that a checker cannot check.
pub fn evaluate(
    context: &mut Context<'_>,
    policy: &mut dyn Policy,
    asked: Option<AspectJudge<'_>>,
    (set, iteration): (&str, u32),
    definition: &Definition,
) -> Result<Outcome> {
    let instructions = &definition.instructions;
    let mut measured: Vec<Measured> =
        instructions.iter().map(|instruction| Measured::new(&instruction.id)).collect();
    respond_to(context, policy, (set, iteration), definition, &mut measured)?;
    for (instruction, measured) in instructions.iter().zip(&mut measured) {
        let Some(text) = measured.response.as_ref().map(|response| response.text.clone()) else { continue };
        for (aspect, checker) in &definition.checkers {
            measured.levels(aspect).checked = Some(checker.check(instruction, &text)?);
        }
    }
    let judge_digest = asked.as_ref().map(|asked| asked.judge.digest());
    if let Some(asked) = asked {
        judge(context, asked, (set, iteration), instructions, &mut measured)?;
    }
    let mut outcome = score::score(set, &measured);
    let evaluation = &mut outcome.evaluation;
    evaluation.iteration = iteration;
    let checkers: BTreeMap<&str, String> =
        definition.checkers.iter().map(|(aspect, checker)| (aspect.as_str(), checker.digest())).collect();
    evaluation.settings =
        json!({ "sampling": definition.sampling, "seed": definition.seed, "checkers": checkers });
    evaluation.digests.insert("model".into(), policy.digest());
    evaluation.digests.extend(judge_digest.map(|digest| ("judge".to_string(), digest)));
    evaluation.digests.insert("data".into(), rlrf_method::digest::digest(instructions));
    Ok(outcome)
}

/// Instructions that do not fit the policy's context get no response.
fn respond_to(
    context: &mut Context<'_>,
    policy: &mut dyn Policy,
    (set, iteration): (&str, u32),
    definition: &Definition,
    measured: &mut [Measured],
) -> Result<()> {
    let prompt = |instruction: &Instruction| Prompt {
        id: instruction.id.clone(),
        messages: instruction.messages.clone(),
        streams: vec![stream(definition.seed, "evaluation", &instruction.id, 0)],
        sampling: definition.sampling.clone(),
    };
    let prompts = definition.instructions.iter().map(prompt).collect();
    let responses = respond_if_fits(context, &format!("evaluate {set}"), iteration, policy, prompts)?;
    for (measured, responses) in measured.iter_mut().zip(responses) {
        measured.response = responses.into_iter().flatten().next();
    }
    Ok(())
}
