//! What a run reports of itself.

use serde::{Deserialize, Serialize};

/// Loss of one step over its examples, as an [`Objective`](crate::Objective) returns it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepLoss {
    /// The value that was differentiated.
    pub loss: f64,
    /// Tokens that passed through the model.
    pub tokens: u64,
    /// For preference objectives.
    pub preference: Option<PreferenceMetrics>,
    /// For policy gradients.
    pub policy: Option<PolicyMetrics>,
    /// For reward models.
    pub reward: Option<RewardMetrics>,
    /// Advice, if the step looks degenerate.
    pub warning: Option<String>,
}

/// What preference optimisation shows of a step; means over its pairs, under TRL's names. A reward is `beta * (log pi - log pi_ref)`,
/// or `beta` times the mean log-probability of a token where the loss has no reference.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct PreferenceMetrics {
    /// Mean reward of the chosen responses.
    pub rewards_chosen: f64,
    /// Mean reward of the rejected responses.
    pub rewards_rejected: f64,
    /// Mean of chosen minus rejected reward.
    pub rewards_margin: f64,
    /// Share of pairs whose chosen reward is the higher one.
    pub rewards_accuracy: f64,
    /// Mean log-probability of the chosen responses, summed over tokens.
    pub logps_chosen: f64,
    /// Mean log-probability of the rejected responses, summed over tokens.
    pub logps_rejected: f64,
    /// Estimate of `KL(pi_ref || pi)` in nats per token: the sum of `log pi_ref - log pi` over all responses of the pairs, by their
    /// number of tokens. Responses come from the reference, but are selected and partly refined: a gauge of
    /// drift that may be negative, not an unbiased estimate. None without a reference.
    pub kl_per_token: Option<f64>,
    /// How much the chosen responses have lost against the reference, in nats per token (negative: gained). None without a
    /// reference.
    pub chosen_fall_per_token: Option<f64>,
    /// Negative log-likelihood of the chosen responses, mean over tokens.
    pub sft_loss: f64,
}

/// What a policy gradient shows of a step; means over the tokens of its samples.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct PolicyMetrics {
    /// Estimate of `KL(pi || pi_ref)` in nats per token, always positive (the k3 estimator), over samples of `pi_ref`: close while the two are.
    pub kl_per_token: f64,
    /// Share of the tokens whose gradient was clipped.
    pub clip_ratio: f64,
    /// Mean absolute advantage of a sample.
    pub advantage: f64,
}

/// What the training of a reward model shows of a step; means over its pairs.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct RewardMetrics {
    /// Share of pairs whose chosen response has the higher score.
    pub accuracy: f64,
    /// Mean of chosen minus rejected score.
    pub margin: f64,
    /// Mean score of the chosen responses.
    pub chosen: f64,
    /// Mean score of the rejected responses.
    pub rejected: f64,
}

/// One optimizer step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepMetrics {
    /// The step, from 1.
    pub step: u64,
    /// Steps of the whole run.
    pub total_steps: u64,
    /// Loss, before the update.
    pub loss: f64,
    /// Learning rate of the update.
    pub learning_rate: f64,
    /// 2-norm of the gradient, before clipping.
    pub gradient_norm: f64,
    /// Tokens that passed through the model.
    pub tokens: u64,
    /// The same by wall-clock time of the step.
    pub tokens_per_second: f64,
    /// For preference objectives.
    pub preference: Option<PreferenceMetrics>,
    /// For policy gradients.
    pub policy: Option<PolicyMetrics>,
    /// For reward models.
    pub reward: Option<RewardMetrics>,
    /// Advice, if the step looks degenerate.
    pub warning: Option<String>,
}

/// A finished run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrainingSummary {
    /// Steps of the run, those before a resumption included.
    pub steps: u64,
    /// Tokens that passed through the model, those before a resumption included.
    pub tokens: u64,
    /// Mean loss over the steps.
    pub mean_loss: f64,
    /// Steps that warned of degenerate training.
    pub warnings: u64,
    /// The step after which a checkpoint was resumed.
    pub resumed_from: Option<u64>,
    /// The last step, unless the checkpoint already held it.
    pub last_step: Option<StepMetrics>,
}
