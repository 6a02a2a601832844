//! How the policy learns from the candidates of an iteration.

use anyhow::{Result, bail};
use rlrf_local::SftConfig;
use rlrf_train::TrainingConfig;
use serde::{Deserialize, Serialize};

/// Who trains the policy, and so what of the candidates it is trained on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum TrainerKind {
    /// Preference pairs, under the loss of `dpo.objective`.
    #[default]
    Dpo,
    /// The best candidate of each instruction (best-of-n), or, under `method = "sft-gold"`, its reference.
    Sft,
    /// The scores of all candidates, under the loss of `grpo.objective`.
    Grpo,
}

/// Supervised fine-tuning within the loop.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct BestOfNConfig {
    /// Least score of a best candidate; 1 lets every one be learnt.
    pub(crate) min_score: f64,
    /// Optimiser, schedule, batch.
    pub(crate) training: TrainingConfig,
}

impl Default for BestOfNConfig {
    fn default() -> Self {
        Self { min_score: 1.0, training: TrainingConfig::default() }
    }
}

impl BestOfNConfig {
    pub(super) fn validate(&self) -> Result<()> {
        if !(1.0..=3.0).contains(&self.min_score) {
            bail!("configuration: sft.min_score = {}: must be 1 to 3", self.min_score);
        }
        Ok(())
    }

    /// The trainer's part, with the seed of its stage.
    pub(crate) fn settings(&self, seed: u64) -> SftConfig {
        SftConfig { completion_only_loss: true, training: TrainingConfig { seed, ..self.training.clone() } }
    }
}
