//! Problems of any kind, as the configured checker decides.

use anyhow::{Result, bail};
use rlrf_eval::{Context, Outcome, problems};
use rlrf_method::Instruction;
use rlrf_method::seam::{Checker, Policy};

use super::{Judges, MeasuredSet, limited};
use crate::config::{Config, ProblemSet};
use crate::inputs::{Reader, check_answers, checker};

pub(super) struct Problems {
    name: String,
    problems: Vec<Instruction>,
    checker: Box<dyn Checker>,
    max_new_tokens: usize,
}

impl Problems {
    pub(super) fn read(set: &ProblemSet, config: &Config, reader: &mut Reader) -> Result<Self> {
        let problems = limited(&set.name, reader.instructions(&set.file)?, set.limit)?;
        let Some(checker) = checker(config)? else {
            bail!("configuration: evaluation.sets needs `checker`, such as checker = \"arithmetic\"");
        };
        check_answers(checker.as_ref(), &problems, &set.file)?;
        let max_new_tokens = set.max_new_tokens.unwrap_or(config.evaluation.max_new_tokens);
        Ok(Self { name: set.name.clone(), problems, checker, max_new_tokens })
    }
}

impl MeasuredSet for Problems {
    fn name(&self) -> &str {
        &self.name
    }

    fn benchmark(&self) -> &str {
        problems::BENCHMARK
    }

    fn questions(&self) -> Vec<String> {
        let last = self.problems.iter().filter_map(|problem| problem.messages.last());
        last.map(|message| message.content.clone()).collect()
    }

    fn evaluate(
        &self,
        context: &mut Context<'_>,
        policy: &mut dyn Policy,
        _judges: Judges<'_>,
        iteration: u32,
    ) -> Result<Outcome> {
        let (set, checker) = ((self.name.as_str(), iteration), self.checker.as_ref());
        Ok(problems::evaluate(context, policy, checker, set, &self.problems, self.max_new_tokens)?)
    }
}
