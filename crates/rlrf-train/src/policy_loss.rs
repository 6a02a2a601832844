//! The losses of a sample under its advantage, with their derivatives by the log-probabilities of its tokens.
//!
//! `A` is the sample's advantage ([`advantage`](crate::advantage)), `r_t = pi(t) / pi_ref(t)` the probability ratio of token `t` to the
//! model that the samples were drawn from, which is the reference model, too. Each token has the loss of proximal policy optimisation
//! (Schulman et al., 2017) and, weighted by `beta`, a divergence from the reference (the k3 estimator, Schulman, 2020):
//!
//! `l_t = -min(r_t A, clip(r_t, 1 - epsilon, 1 + epsilon) A) + beta (1 / r_t - 1 + log r_t)`
//!
//! | loss | `A` | of a sample | source |
//! | --- | --- | --- | --- |
//! | `grpo` | score less mean, by standard deviation | mean of `l_t` over its tokens | Shao et al., 2024, equation 3 |
//! | `rloo` | score less mean of the other samples | sum of `l_t` over its tokens, whose gradient at `r = 1` is REINFORCE's | Ahmadian et al., 2024, clipped by token |
//!
//! The loss of a step is the mean over all samples of its instructions.

use serde::{Deserialize, Serialize};

use crate::GrpoConfig;
use crate::advantage::{leave_one_out, standardised};

/// Which loss.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PolicyLoss {
    /// Group relative policy optimisation.
    #[default]
    Grpo,
    /// REINFORCE leave-one-out.
    Rloo,
}

impl PolicyLoss {
    /// The advantages of the samples of one instruction.
    #[must_use]
    pub fn advantages(self, scores: &[f64]) -> Vec<f64> {
        match self {
            Self::Grpo => standardised(scores),
            Self::Rloo => leave_one_out(scores),
        }
    }

    /// Weight of a token in the loss of a sample of `tokens` tokens.
    pub(crate) fn token_weight(self, tokens: usize) -> f64 {
        match self {
            Self::Grpo => 1.0 / tokens as f64,
            Self::Rloo => 1.0,
        }
    }
}

/// The loss of one token.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct TokenLoss {
    pub(crate) loss: f64,
    /// Derivative of the loss by the token's log-probability.
    pub(crate) d_logprob: f64,
    pub(crate) kl: f64,
    pub(crate) clipped: bool,
}

/// `log_ratio` is `log r_t`.
pub(crate) fn token_loss(config: &GrpoConfig, log_ratio: f64, advantage: f64) -> TokenLoss {
    let ratio = log_ratio.exp();
    let gain = ratio * advantage;
    let clipped_gain = ratio.clamp(1.0 - config.epsilon, 1.0 + config.epsilon) * advantage;
    let clipped = clipped_gain < gain;
    let kl = (-log_ratio).exp_m1() + log_ratio;
    let d_gain = if clipped { 0.0 } else { gain };
    TokenLoss {
        loss: config.beta * kl - gain.min(clipped_gain),
        d_logprob: config.beta * -(-log_ratio).exp_m1() - d_gain,
        kl,
        clipped,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_is_clipped_only_where_it_would_gain() {
        let config = GrpoConfig::default();
        let clipped = |ratio: f64, advantage: f64| token_loss(&config, ratio.ln(), advantage).clipped;
        assert!(clipped(1.3, 1.0) && clipped(0.7, -1.0));
        assert!(!clipped(0.7, 1.0) && !clipped(1.3, -1.0) && !clipped(1.1, 1.0) && !clipped(1.3, 0.0));
        assert_eq!(token_loss(&config, 1.3f64.ln(), 1.0).d_logprob, 0.0);
    }

    #[test]
    fn at_the_reference_the_gradient_is_the_advantage() {
        let config = GrpoConfig { beta: 0.5, ..GrpoConfig::default() };
        let token = token_loss(&config, 0.0, 0.7);
        assert_eq!(token, TokenLoss { loss: -0.7, d_logprob: -0.7, kl: 0.0, clipped: false });
    }
}
