//! Settings of the reward model.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use rlrf_local::RewardTrainingConfig;
use rlrf_train::TrainingConfig;
use serde::{Deserialize, Serialize};

use super::NewModelConfig;

/// Where the reward model comes from, and what it learns.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct RewardConfig {
    /// A folder: a reward model, or a language model that becomes one.
    pub(crate) model: Option<PathBuf>,
    /// Or: a new model, its tokenizer trained on the pairs.
    pub(crate) new: Option<NewModelConfig>,
    /// Or: `M_0`, which knows how to answer, under a fresh score head.
    pub(crate) from_policy: bool,
    /// Seed of head, order of pairs and the pairs that are written, in place of the run's.
    pub(crate) seed: Option<u64>,
    /// Whether it orders candidates of the same score where `score.reward_weight` gives it no share.
    pub(crate) break_ties: bool,
    /// Files of preference pairs to learn.
    pub(crate) files: Vec<PathBuf>,
    /// Whether to learn the pairs that the program of `demonstrations` writes.
    pub(crate) demonstrations: bool,
    /// The pairs that accuracy is measured on.
    pub(crate) held_out: HeldOut,
    /// How far apart the two of a pair should be scored, where the pair itself says nothing.
    pub(crate) margin: f64,
    /// Optimiser, schedule, batch.
    pub(crate) training: TrainingConfig,
}

/// The pairs that a reward model is measured on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum HeldOut {
    /// This share of the instructions, with all their pairs, which are not learnt.
    Share(f64),
    /// Those of a file.
    File(PathBuf),
}

impl Default for RewardConfig {
    fn default() -> Self {
        Self {
            model: None,
            new: None,
            from_policy: false,
            seed: None,
            break_ties: true,
            files: Vec::new(),
            demonstrations: false,
            held_out: HeldOut::Share(0.05),
            margin: 0.0,
            training: TrainingConfig::default(),
        }
    }
}

impl RewardConfig {
    /// Whether the configuration says where a reward model comes from.
    pub(crate) fn is_configured(&self) -> bool {
        self.model.is_some() || self.new.is_some() || self.from_policy
    }

    /// Whether it learns anything.
    pub(crate) fn is_trained(&self) -> bool {
        self.demonstrations || !self.files.is_empty()
    }

    /// The trainer's part, with the seed of its stage.
    pub(crate) fn settings(&self, seed: u64) -> RewardTrainingConfig {
        let training = TrainingConfig { seed, ..self.training.clone() };
        RewardTrainingConfig { margin: self.margin, training }
    }

    pub(super) fn validate(&self) -> Result<()> {
        let origins =
            [("model", self.model.is_some()), ("new", self.new.is_some()), ("from_policy", self.from_policy)];
        let given: Vec<&str> = origins.iter().filter(|(_, given)| *given).map(|(key, _)| *key).collect();
        if let [first, second, ..] = given[..] {
            bail!("configuration: give `reward.{first}` or `reward.{second}`, not both");
        }
        if let HeldOut::Share(share) = self.held_out
            && !(0.0..1.0).contains(&share)
        {
            bail!(
                "configuration: reward.held_out = {share}: must be a share of the instructions, 0 or more and below 1, or \
                 a file of pairs"
            );
        }
        if !self.margin.is_finite() {
            bail!("configuration: reward.margin = {}: must be a number", self.margin);
        }
        if self.training.lora.is_some() {
            bail!(
                "configuration: reward.training.lora: adapters would leave the score head as it was drawn; leave it out"
            );
        }
        self.training.validate().context("reward.training")
    }
}
