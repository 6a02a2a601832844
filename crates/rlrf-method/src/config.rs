//! The configuration of the method, with the defaults of its specification.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// How responses are drawn.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Sampling {
    /// 0 is greedy.
    pub temperature: f32,
    /// Nucleus: the smallest set of tokens with this much probability; 1 is off.
    pub top_p: f32,
    /// The so many most probable tokens; 0 is off.
    pub top_k: usize,
    /// Tokens at least this fraction as probable as the most probable one; 0 is off.
    pub min_p: f32,
    /// Longest response, in tokens.
    pub max_new_tokens: usize,
    /// Texts that end a response (and are cut off).
    pub stop: Vec<String>,
}

impl Default for Sampling {
    fn default() -> Self {
        Self { temperature: 1.0, top_p: 0.95, top_k: 0, min_p: 0.0, max_new_tokens: 512, stop: Vec::new() }
    }
}

impl Sampling {
    /// Greedy decoding.
    #[must_use]
    pub fn greedy(max_new_tokens: usize) -> Self {
        Self { temperature: 0.0, top_p: 1.0, top_k: 0, min_p: 0.0, max_new_tokens, stop: Vec::new() }
    }

    fn validate(&self, section: &str) -> Result<()> {
        check(
            section,
            "temperature",
            self.temperature,
            (0.0..=100.0).contains(&self.temperature),
            "must be 0 to 100",
        )?;
        check(
            section,
            "top_p",
            self.top_p,
            self.top_p > 0.0 && self.top_p <= 1.0,
            "must be above 0 and at most 1",
        )?;
        check(
            section,
            "min_p",
            self.min_p,
            (0.0..1.0).contains(&self.min_p),
            "must be 0 or more and below 1",
        )?;
        check(section, "max_new_tokens", self.max_new_tokens, self.max_new_tokens > 0, "must be at least 1")
    }
}

/// Sampling of candidates.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SampleConfig {
    /// Candidates sampled per instruction.
    pub n: u32,
    /// How they are drawn.
    pub sampling: Sampling,
}

impl Default for SampleConfig {
    fn default() -> Self {
        Self { n: 15, sampling: Sampling::default() }
    }
}

/// How candidates are scored.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ScoreConfig {
    /// Share of the reward model in a candidate's score (`w_r`): 0 only breaks ties, 1 is the reward alone.
    pub reward_weight: f64,
}

/// Which candidates are chosen to be refined.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SelectionPolicy {
    /// The highest scored that have something left to fix.
    #[default]
    Best,
    /// The best on each aspect.
    PerAspect,
    /// Any that has something left to fix, as an ablation.
    Random,
}

/// Selection of the promising candidates.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SelectConfig {
    /// By what they are chosen.
    pub policy: SelectionPolicy,
    /// Most drafts per instruction and round; its refinements are shared among them.
    pub drafts: usize,
}

impl Default for SelectConfig {
    fn default() -> Self {
        Self { policy: SelectionPolicy::Best, drafts: 1 }
    }
}

/// The feedback that a refinement is asked to follow.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RefineFeedback {
    /// On every aspect.
    #[default]
    All,
    /// On the aspect with the lowest score.
    Lowest,
}

/// Refinement of the promising candidates.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RefineConfig {
    /// Refinements per instruction, over all rounds.
    pub m: u32,
    /// Rounds of reflection: the refinements of one are judged, and may be refined themselves in the next.
    pub rounds: u32,
    /// The feedback shown.
    pub feedback: RefineFeedback,
    /// Whether an instruction is left alone once some candidate of it is perfect.
    pub stop_when_perfect: bool,
    /// How they are drawn.
    pub sampling: Sampling,
}

impl Default for RefineConfig {
    fn default() -> Self {
        Self {
            m: 15,
            rounds: 1,
            feedback: RefineFeedback::All,
            stop_when_perfect: false,
            sampling: Sampling::default(),
        }
    }
}

/// How the n + m candidates are split between sampling and refining.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Split {
    /// n samples, then m refinements, for every instruction.
    #[default]
    Fixed,
    /// After the n samples, the next candidates go where they are expected to win ([`crate::search`]).
    Adaptive,
}

/// The search for candidates.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SearchConfig {
    /// The split.
    pub split: Split,
    /// Adaptive: candidates per instruction, on average, that are drawn before the next decision.
    pub step: u32,
}

impl Default for SearchConfig {
    fn default() -> Self {
        Self { split: Split::Fixed, step: 5 }
    }
}

/// Choice of the aspects that matter most for an instruction, by the feedback model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ChooseConfig {
    /// Most aspects that are chosen for an instruction.
    pub most: usize,
    /// Longest reason, in tokens.
    pub max_new_tokens: usize,
}

impl Default for ChooseConfig {
    fn default() -> Self {
        Self { most: 3, max_new_tokens: 48 }
    }
}

impl ChooseConfig {
    /// Most aspects to choose among: each has a letter.
    const LETTERS: usize = 26;

    /// Checks every range; there are so many `candidates` to choose among.
    ///
    /// # Errors
    /// Names the field, its value and what is allowed.
    pub fn validate(&self, candidates: usize) -> Result<()> {
        let Self { most, max_new_tokens } = *self;
        check("feedback.choose", "max_new_tokens", max_new_tokens, max_new_tokens > 0, "must be at least 1")?;
        check("feedback.choose", "most", most, most > 0, "must be at least 1")?;
        let message = format!(
            "there are {candidates} aspects without a checker in feedback.aspects to choose among: name more than that, \
             and at most {}",
            Self::LETTERS
        );
        check("feedback.choose", "most", most, (most + 1..=Self::LETTERS).contains(&candidates), &message)
    }
}

/// What a candidate is preferred by.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PairBasis {
    /// Its score.
    #[default]
    Score,
    /// Its score on each single aspect.
    Aspect,
}

/// Building of preference pairs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PairsConfig {
    /// By what the chosen response is better.
    pub by: PairBasis,
    /// Least gap between the scores of a pair, in levels.
    pub margin: f64,
    /// Most pairs from one instruction.
    pub pairs_per_instruction: usize,
    /// Least score of a chosen response; 1 lets every response be chosen.
    pub min_chosen_score: f64,
    /// Whether pairs are taken so that the chosen responses are as long as the rejected ones, on average.
    pub length_balanced: bool,
}

impl Default for PairsConfig {
    fn default() -> Self {
        Self {
            by: PairBasis::Score,
            margin: 0.5,
            pairs_per_instruction: 4,
            min_chosen_score: 1.0,
            length_balanced: false,
        }
    }
}

/// The method's own configuration.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct MethodConfig {
    /// Fixes every random choice of the run.
    pub seed: u64,
    /// Sampling.
    pub sample: SampleConfig,
    /// Scores.
    pub score: ScoreConfig,
    /// Selection.
    pub select: SelectConfig,
    /// Refinement.
    pub refine: RefineConfig,
    /// Split of the candidates.
    pub search: SearchConfig,
    /// Pairs.
    pub pairs: PairsConfig,
}

impl MethodConfig {
    /// Checks every range.
    ///
    /// # Errors
    /// Names the field, its value and what is allowed.
    pub fn validate(&self) -> Result<()> {
        check("sample", "n", self.sample.n, self.sample.n > 0, "must be at least 1")?;
        self.sample.sampling.validate("sample.sampling")?;
        self.refine.sampling.validate("refine.sampling")?;
        let (weight, drafts, rounds, step) =
            (self.score.reward_weight, self.select.drafts, self.refine.rounds, self.search.step);
        check("score", "reward_weight", weight, (0.0..=1.0).contains(&weight), "must be 0 to 1")?;
        check("select", "drafts", drafts, drafts > 0, "must be at least 1")?;
        check("refine", "rounds", rounds, rounds > 0, "must be at least 1; refine.m = 0 is no refinement")?;
        check("search", "step", step, step > 0, "must be at least 1")?;
        let pairs = &self.pairs;
        check(
            "pairs",
            "by",
            "\"aspect\"",
            pairs.by == PairBasis::Score || self.needs_feedback(),
            "needs feedback on aspects, and the reward alone scores here: set pairs.by = \"score\"",
        )?;
        check(
            "pairs",
            "margin",
            pairs.margin,
            pairs.margin > 0.0 && pairs.margin <= 2.0,
            "must be above 0 and at most 2",
        )?;
        check(
            "pairs",
            "min_chosen_score",
            pairs.min_chosen_score,
            (1.0..=3.0).contains(&pairs.min_chosen_score),
            "must be 1 to 3",
        )?;
        check(
            "pairs",
            "pairs_per_instruction",
            pairs.pairs_per_instruction,
            pairs.pairs_per_instruction > 0,
            "must be at least 1",
        )
    }

    /// Whether anything asks for feedback: with the reward alone and no refinement, nothing does.
    #[must_use]
    pub fn needs_feedback(&self) -> bool {
        self.score.reward_weight < 1.0 || self.refine.m > 0
    }
}

fn check(section: &str, field: &str, value: impl std::fmt::Display, good: bool, message: &str) -> Result<()> {
    if good {
        return Ok(());
    }
    Err(Error::Config {
        field: format!("{section}.{field}"),
        value: value.to_string(),
        message: message.into(),
    })
}
