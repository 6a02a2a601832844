//! The sets that a run measures every model on: one file per benchmark, which reads its items and wires.

mod aspects;
mod factscore;
mod just_eval;
mod problems;
mod word_problems;

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, bail};
use rlrf_eval::word_problems::Source;
use rlrf_eval::{Context, Outcome};
use rlrf_method::seam::{Judge, Policy};

use self::word_problems::WordProblems;
use crate::config::{Config, EvaluationSet};
use crate::inputs::Reader;
use crate::model_source;

/// A benchmark with its items, ready to measure any model.
pub(crate) trait MeasuredSet {
    /// Name of the set.
    fn name(&self) -> &str;
    /// Name of the benchmark.
    fn benchmark(&self) -> &str;
    /// What is asked: none of it may be trained on.
    fn questions(&self) -> Vec<String>;
    /// Whether the configured judge is asked.
    fn needs_judge(&self) -> bool {
        false
    }
    /// Whether whoever judges in the loop is asked.
    fn needs_feedback(&self) -> bool {
        false
    }
    /// Measures `M_iteration`.
    fn evaluate(
        &self,
        context: &mut Context<'_>,
        policy: &mut dyn Policy,
        judges: Judges<'_>,
        iteration: u32,
    ) -> Result<Outcome>;
}

/// Who can be asked about a response.
pub(crate) struct Judges<'a> {
    /// The judge of `[evaluation]`, which benchmarks ask with prompts of their own.
    pub(crate) replies: Option<&'a mut (dyn Policy + 'static)>,
    /// Who judges in the loop; none where that is the policy itself, another one in every iteration.
    pub(crate) feedback: Option<&'a mut dyn Judge>,
}

impl<'a> Judges<'a> {
    /// The judge of a set that needs one; [`MeasuredSets::read`] has seen to it that there is one.
    fn replies(self) -> Result<&'a mut (dyn Policy + 'static)> {
        self.replies.context("no judge was opened")
    }
}

/// Everything that `[evaluation]` names.
pub(crate) struct MeasuredSets {
    pub(crate) sets: Vec<Box<dyn MeasuredSet>>,
    /// Opened only if a set needs it.
    pub(crate) judge: Option<Box<dyn Policy>>,
}

impl MeasuredSets {
    /// Reads all files and opens the judge.
    pub(crate) fn read(config: &Config, reader: &mut Reader) -> Result<Self> {
        let mut sets: Vec<Box<dyn MeasuredSet>> = Vec::new();
        let mut names = BTreeSet::new();
        for set in &config.evaluation.sets {
            if set.name().trim().is_empty() {
                bail!("configuration: evaluation.sets has a set without a name: give it one");
            }
            if !names.insert(set.name()) {
                bail!(
                    "configuration: evaluation.sets has two sets of the name {:?}: give each its own",
                    set.name()
                );
            }
            sets.push(match set {
                EvaluationSet::Problems(set) => Box::new(problems::Problems::read(set, config, reader)?),
                EvaluationSet::Gsm8k(set) => {
                    Box::new(WordProblems::read(Source::Gsm8k, set, config, reader)?)
                }
                EvaluationSet::Svamp(set) => {
                    Box::new(WordProblems::read(Source::Svamp, set, config, reader)?)
                }
                EvaluationSet::Mawps(set) => {
                    Box::new(WordProblems::read(Source::Mawps, set, config, reader)?)
                }
                EvaluationSet::JustEval(set) => Box::new(just_eval::JustEval::read(set, config, reader)?),
                EvaluationSet::Aspects(set) => Box::new(aspects::AspectLevels::read(set, config, reader)?),
                EvaluationSet::Factscore(set) => Box::new(factscore::FactScore::read(set, config, reader)?),
            });
        }
        let judge = match (sets.iter().find(|set| set.needs_judge()), &config.evaluation.judge) {
            (None, _) => None,
            (Some(set), None) => bail!(
                "configuration: the evaluation set {:?} needs a judge: name it, as in evaluation.judge = {{ model = \"DIR or URL\" }}",
                set.name()
            ),
            (Some(_), Some(judge)) => {
                let source = reader.model(&judge.model);
                let opened = model_source::open(&source, judge.name.as_deref(), config.engine())
                    .context("evaluation.judge")?;
                reader.remember("evaluation.judge", &opened.digest());
                Some(opened)
            }
        };
        Ok(Self { sets, judge })
    }
}

/// The items that a set's `limit` leaves.
fn limited<T>(set: &str, mut items: Vec<T>, limit: Option<usize>) -> Result<Vec<T>> {
    items.truncate(limit.unwrap_or(usize::MAX));
    if items.is_empty() {
        bail!("configuration: the evaluation set {set:?} has no items: limit must be at least 1");
    }
    Ok(items)
}

/// Longest reply of the configured judge, in tokens.
fn judge_tokens(config: &Config) -> usize {
    config.evaluation.judge.as_ref().map_or(1, |judge| judge.max_new_tokens)
}
