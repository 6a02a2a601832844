//! The methods of the comparison as configurations of one loop.

use serde::{Deserialize, Serialize};

use super::{Config, FeedbackOrigin, TrainerKind};

/// What is done with the n + m candidates of an instruction. Each method but `rlrf` decides some settings itself, whatever
/// the configuration says of them, so that one file and one word make a fair comparison.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Method {
    /// Reflective feedback, as the configuration says.
    #[default]
    Rlrf,
    /// n + m samples, scored by the reward model alone, no feedback, no refinement.
    RewardDpo,
    /// Supervised fine-tuning on the best of n + m samples, scored as the configuration says.
    RejectionSampling,
    /// n + m samples, scored by the policy's own overall level, no refinement.
    SelfRewarding,
    /// Supervised fine-tuning on the references of the instructions: nothing is sampled.
    SftGold,
}

/// The aspect of a judgement as a whole.
const OVERALL: &str = "overall quality";

impl Method {
    /// Sets what the method decides; doing it again changes nothing.
    pub(super) fn apply(self, config: &mut Config) {
        if self == Self::Rlrf {
            return;
        }
        config.sample.n += config.refine.m;
        config.refine.m = 0;
        config.trainer = match self {
            Self::Rlrf => config.trainer,
            Self::RewardDpo | Self::SelfRewarding => TrainerKind::Dpo,
            Self::RejectionSampling | Self::SftGold => TrainerKind::Sft,
        };
        match self {
            Self::Rlrf | Self::RejectionSampling | Self::SftGold => {}
            Self::RewardDpo => config.score.reward_weight = 1.0,
            Self::SelfRewarding => {
                let feedback = &mut config.feedback;
                feedback.source = FeedbackOrigin::Policy;
                (feedback.model, feedback.new, feedback.sft) = (None, None, None);
                (feedback.endpoint, feedback.judges) = (None, Vec::new());
                feedback.aspects = vec![OVERALL.into()];
                (config.score.reward_weight, config.reward.break_ties) = (0.0, false);
            }
        }
    }
}
