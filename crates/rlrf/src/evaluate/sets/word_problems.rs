//! GSM8K, SVAMP and MAWPS in a run.

use anyhow::{Result, bail};
use rlrf_eval::word_problems::{Asking, Problem, Source, Template, evaluate};
use rlrf_eval::{Context, Outcome};
use rlrf_method::config::Sampling;
use rlrf_method::seam::Policy;

use super::{Judges, MeasuredSet, limited};
use crate::config::{Config, WordProblemSet};
use crate::evaluate::word_problems::SAMPLES_TEMPERATURE;
use crate::inputs::Reader;

pub(super) struct WordProblems {
    name: String,
    source: Source,
    problems: Vec<Problem>,
    asking: Asking,
}

impl WordProblems {
    pub(super) fn read(
        source: Source,
        set: &WordProblemSet,
        config: &Config,
        reader: &mut Reader,
    ) -> Result<Self> {
        let (file, bytes) = reader.bytes(&set.file)?;
        let problems = limited(&set.name, source.read(&file, &bytes)?, set.limit)?;
        let refuse = |message: &str| bail!("configuration: the evaluation set {:?}: {message}", set.name);
        if set.samples == 0 {
            return refuse("samples = 0: must be at least 1");
        }
        let default = if set.samples > 1 { SAMPLES_TEMPERATURE } else { 0.0 };
        let temperature = set.temperature.unwrap_or(default);
        if !(0.0..=100.0).contains(&temperature) {
            return refuse("temperature: must be 0 to 100");
        }
        if set.samples > 1 && temperature == 0.0 {
            return refuse("greedy samples are all the same: give a temperature above 0, or samples = 1");
        }
        let max_new_tokens = set.max_new_tokens.unwrap_or(config.evaluation.max_new_tokens);
        let default = Template::names()?.into_iter().next().unwrap_or_default();
        let asking = Asking {
            template: Template::named(set.template.as_deref().unwrap_or(&default), set.shots)?,
            samples: set.samples,
            sampling: Sampling { temperature, ..Sampling::greedy(max_new_tokens) },
            seed: config.seed,
        };
        Ok(Self { name: set.name.clone(), source, problems, asking })
    }
}

impl MeasuredSet for WordProblems {
    fn name(&self) -> &str {
        &self.name
    }

    fn benchmark(&self) -> &str {
        self.source.name()
    }

    fn questions(&self) -> Vec<String> {
        self.problems.iter().map(|problem| problem.question.clone()).collect()
    }

    fn evaluate(
        &self,
        context: &mut Context<'_>,
        policy: &mut dyn Policy,
        _judges: Judges<'_>,
        iteration: u32,
    ) -> Result<Outcome> {
        let set = (self.name.as_str(), iteration);
        Ok(evaluate(context, policy, self.source, set, &self.problems, &self.asking)?)
    }
}
