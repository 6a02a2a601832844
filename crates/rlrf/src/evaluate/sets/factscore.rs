//! FActScore in a run: each model's biographies, checked fact by fact by the run's judge.

use anyhow::{Context as _, Result};
use rlrf_eval::factscore::{self, BENCHMARK, Definition};
use rlrf_eval::{Context, Outcome};
use rlrf_method::seam::Policy;
use rlrf_retrieval::Index;

use super::{Judges, MeasuredSet, limited};
use crate::config::{Config, FactScoreSet};
use crate::inputs::Reader;

pub(super) struct FactScore {
    name: String,
    topics: Vec<String>,
    index: Index,
    definition: Definition,
}

impl FactScore {
    pub(super) fn read(set: &FactScoreSet, config: &Config, reader: &mut Reader) -> Result<Self> {
        let (name, bytes) = reader.bytes(&set.file)?;
        let topics = limited(&set.name, factscore::read_topics(&name, &bytes)?, set.limit)?;
        let index = Index::open(reader.path(&set.index))?;
        reader.remember(&set.index.display().to_string(), &index.manifest().digest);
        let definition = Definition {
            prompt: set.prompt.clone(),
            max_new_tokens: set.max_new_tokens.unwrap_or(config.evaluation.max_new_tokens),
            gamma: set.gamma,
            passages: set.passages,
            abstention: set.abstention,
        };
        definition.validate().with_context(|| format!("evaluation set {:?}", set.name))?;
        Ok(Self { name: set.name.clone(), topics, index, definition })
    }
}

impl MeasuredSet for FactScore {
    fn name(&self) -> &str {
        &self.name
    }

    fn benchmark(&self) -> &str {
        BENCHMARK
    }

    fn questions(&self) -> Vec<String> {
        self.topics.iter().map(|topic| self.definition.prompt.replace("<entity>", topic)).collect()
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
        let (set, index, definition) = ((self.name.as_str(), iteration), &self.index, &self.definition);
        let biographies = factscore::ask(context, policy, index, set, &self.topics, definition)?;
        let mut outcome =
            factscore::evaluate(context, judges.replies()?, index, set, &biographies, definition)?;
        outcome.evaluation.digests.insert("model".into(), policy.digest());
        Ok(outcome)
    }
}
