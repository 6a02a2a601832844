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

/// Refinement of the promising candidate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RefineConfig {
    /// Refinements per instruction.
    pub m: u32,
    /// How they are drawn.
    pub sampling: Sampling,
}

impl Default for RefineConfig {
    fn default() -> Self {
        Self { m: 15, sampling: Sampling::default() }
    }
}

/// Building of preference pairs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PairsConfig {
    /// Least gap between the scores of a pair, in levels.
    pub margin: f64,
    /// Most pairs from one instruction.
    pub pairs_per_instruction: usize,
    /// Least score of a chosen response; 1 lets every response be chosen.
    pub min_chosen_score: f64,
}

impl Default for PairsConfig {
    fn default() -> Self {
        Self { margin: 0.5, pairs_per_instruction: 4, min_chosen_score: 1.0 }
    }
}

/// The method's own configuration.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct MethodConfig {
    /// Fixes every random choice of the run.
    pub seed: u64,
    /// Sampling.
    pub sample: SampleConfig,
    /// Refinement.
    pub refine: RefineConfig,
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
        let pairs = &self.pairs;
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
