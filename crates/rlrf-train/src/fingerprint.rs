//! Digests that tie a checkpoint to the run that wrote it.

use serde::{Deserialize, Serialize};

use crate::{Objective, TrainingConfig};

/// Everything that a run's result follows from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fingerprint {
    /// Digest of the configuration, but for what changes no result.
    pub config: String,
    /// Digest of the objective and its examples.
    pub data: String,
    /// Digest of the parameters at the start.
    pub model: String,
}

impl Fingerprint {
    /// Of a run that is about to start from `parameters`.
    pub fn new(config: &TrainingConfig, objective: &dyn Objective, parameters: &[f32]) -> Self {
        // A run that ran out of memory must be able to resume with less.
        let config = TrainingConfig {
            tokens_per_microbatch: 0,
            recompute: false,
            checkpoint_every: 0,
            ..config.clone()
        };
        let mut data = blake3::Hasher::new();
        objective.digest(&mut data);
        Self {
            config: blake3::hash(format!("{config:?}").as_bytes()).to_string(),
            data: data.finalize().to_string(),
            model: blake3::hash(bytemuck::cast_slice(parameters)).to_string(),
        }
    }

    /// The first part in which `other` differs, in words.
    pub fn difference(&self, other: &Self) -> Option<&'static str> {
        [
            (&self.config, &other.config, "configuration"),
            (&self.data, &other.data, "data or objective"),
            (&self.model, &other.model, "starting model"),
        ]
        .into_iter()
        .find_map(|(mine, theirs, part)| (mine != theirs).then_some(part))
    }
}

/// Feeds token ids with their number, so that neighbouring lists cannot be confused.
pub(crate) fn hash_tokens(hasher: &mut blake3::Hasher, tokens: &[u32]) {
    hasher.update(&(tokens.len() as u64).to_le_bytes());
    hasher.update(bytemuck::cast_slice(tokens));
}
