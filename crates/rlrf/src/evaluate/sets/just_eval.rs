//! Just-Eval in a run: each model's responses, scored by the run's judge.

use anyhow::{Context as _, Result};
use rlrf_eval::just_eval::{self, DIGEST, Judging, JustEvalInstruction, Missing, ORIGIN};
use rlrf_eval::{Context, Outcome};
use rlrf_method::config::Sampling;
use rlrf_method::seam::Policy;
use serde_json::json;

use super::{Judges, MeasuredSet, judge_tokens, limited};
use crate::config::{Config, JustEvalSet};
use crate::inputs::Reader;

pub(super) struct JustEval {
    name: String,
    instructions: Vec<JustEvalInstruction>,
    /// How the policy responds.
    sampling: Sampling,
    /// How the judge replies.
    judge_sampling: Sampling,
    compat: bool,
    official: bool,
}

impl JustEval {
    pub(super) fn read(set: &JustEvalSet, config: &Config, reader: &mut Reader) -> Result<Self> {
        let (name, bytes) = reader.bytes(&set.file).with_context(|| format!("expected is {ORIGIN}"))?;
        let all = JustEvalInstruction::read(&name, &bytes)?;
        let official = JustEvalInstruction::digest(&all) == DIGEST;
        Ok(Self {
            name: set.name.clone(),
            instructions: limited(&set.name, all, set.limit)?,
            sampling: Sampling::greedy(set.max_new_tokens.unwrap_or(config.evaluation.max_new_tokens)),
            judge_sampling: Sampling::greedy(judge_tokens(config)),
            compat: set.compat,
            official,
        })
    }
}

impl MeasuredSet for JustEval {
    fn name(&self) -> &str {
        &self.name
    }

    fn benchmark(&self) -> &str {
        just_eval::BENCHMARK
    }

    fn questions(&self) -> Vec<String> {
        self.instructions.iter().map(|instruction| instruction.instruction.clone()).collect()
    }

    fn needs_judge(&self) -> bool {
        true
    }

    fn evaluate(
        &self,
        context: &mut Context<'_>,
        policy: &mut dyn Policy,
        judges: Judges<'_>,
        iteration: u32,
    ) -> Result<Outcome> {
        let instructions = &self.instructions;
        let responses = just_eval::respond_to(context, iteration, policy, instructions, &self.sampling)?;
        let judging = Judging {
            set: &self.name,
            iteration,
            sampling: &self.judge_sampling,
            missing: Missing::PromptTooLong,
            compat: self.compat,
        };
        let mut outcome = judging.evaluate(context, judges.replies()?, (instructions, &responses))?;
        let evaluation = &mut outcome.evaluation;
        evaluation.settings["sampling"] = json!(self.sampling);
        evaluation.settings["official_instructions"] = self.official.into();
        evaluation.digests.insert("model".into(), policy.digest());
        Ok(outcome)
    }
}
