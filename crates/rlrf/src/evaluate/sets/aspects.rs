//! Aspects in a run: each model's responses, their levels by checkers and by whoever judges in the loop.

use anyhow::{Result, bail};
use rlrf_eval::aspects::{AspectJudge, BENCHMARK, Definition, evaluate};
use rlrf_eval::{Context, Outcome};
use rlrf_method::Aspect;
use rlrf_method::config::Sampling;
use rlrf_method::seam::Policy;

use super::{Judges, MeasuredSet, limited};
use crate::aspects;
use crate::config::{AspectSet, Config, FeedbackOrigin};
use crate::inputs::{Reader, check_aspects};

pub(super) struct AspectLevels {
    name: String,
    /// Those of the run's feedback.
    aspects: Vec<Aspect>,
    definition: Definition,
}

impl AspectLevels {
    pub(super) fn read(set: &AspectSet, config: &Config, reader: &mut Reader) -> Result<Self> {
        let refuse = |message: &str| bail!("configuration: the evaluation set {:?}: {message}", set.name);
        if !(0.0..=100.0).contains(&set.temperature) {
            return refuse("temperature: must be 0 to 100");
        }
        if set.checkers.is_none() && config.feedback.source == FeedbackOrigin::Policy {
            return refuse(
                "nothing decides its levels: name `checkers`, or judge by feedback.source = \"model\" (a policy that judges \
                 itself is another judge in every iteration)",
            );
        }
        let instructions = limited(&set.name, reader.instructions(&set.file)?, set.limit)?;
        let checkers = match &set.checkers {
            Some(file) => reader.aspect_checkers(file)?,
            None => Default::default(),
        };
        let aspects = reader.aspects(config)?;
        check_aspects(&checkers, &instructions, &set.file)?;
        check_aspects(&aspects::checkers(&aspects)?, &instructions, &set.file)?;
        let max_new_tokens = set.max_new_tokens.unwrap_or(config.evaluation.max_new_tokens);
        let sampling = Sampling { temperature: set.temperature, ..Sampling::greedy(max_new_tokens) };
        let definition = Definition { instructions, checkers, sampling, seed: config.seed };
        Ok(Self { name: set.name.clone(), aspects, definition })
    }
}

impl MeasuredSet for AspectLevels {
    fn name(&self) -> &str {
        &self.name
    }

    fn benchmark(&self) -> &str {
        BENCHMARK
    }

    fn questions(&self) -> Vec<String> {
        let last = self.definition.instructions.iter().filter_map(|instruction| instruction.messages.last());
        last.map(|message| message.content.clone()).collect()
    }

    fn needs_feedback(&self) -> bool {
        true
    }

    fn evaluate(
        &self,
        context: &mut Context<'_>,
        policy: &mut dyn Policy,
        judges: Judges<'_>,
        iteration: u32,
    ) -> Result<Outcome> {
        let asked = judges.feedback.map(|judge| AspectJudge { judge, aspects: &self.aspects });
        Ok(evaluate(context, policy, asked, (&self.name, iteration), &self.definition)?)
    }
}
