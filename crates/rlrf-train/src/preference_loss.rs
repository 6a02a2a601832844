//! The losses of a preference pair, with their derivatives.
//!
//! `c` is the chosen and `r` the rejected response, `log p` a response's log-probability summed over its `|y|` tokens (end of turn
//! included), `u = log p - log p_ref` its log-ratio to the reference, `a = log p / |y|` its mean per token, `s` the logistic function,
//! `e` the `label_smoothing`. The loss of a step is the mean over its pairs.
//!
//! | loss | of a pair | source |
//! | --- | --- | --- |
//! | `dpo` | `-(1 - e) log s(m) - e log s(-m)`, `m = beta (u_c - u_r)` | Rafailov et al., 2023; with `e > 0` conservative DPO, Mitchell, 2023 |
//! | `robust` | `(-(1 - e) log s(m) + e log s(-m)) / (1 - 2e)` | Chowdhury et al., 2024 |
//! | `ipo` | `(u_c / abs(y_c) - u_r / abs(y_r) - 1 / (2 beta))^2` | Azar et al., 2023, log-ratios per token as in TRL |
//! | `simpo` | `-log s(beta (a_c - a_r) - gamma)` | Meng et al., 2024 |
//! | `orpo` | `-beta log s(logit(a_c) - logit(a_r))`, `logit(a) = a - log(1 - exp(a))`, beside the negative log-likelihood of the chosen | Hong et al., 2024 |
//! | `kto` | `(w_c (1 - s(beta (u_c - z))) + w_r (1 - s(beta (z - u_r)))) / 2`, `w_c` and `w_r` the desirable and the undesirable weight | Ethayarajh et al., 2024 |
//!
//! KTO knows no pairs: each is one desirable and one undesirable example, as TRL unpairs preferences, and `z` is common to the step.

use serde::{Deserialize, Serialize};

use crate::DpoConfig;

/// Which loss.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PreferenceLoss {
    /// Direct preference optimisation; with `label_smoothing`, its conservative form.
    #[default]
    Dpo,
    /// DPO that is unbiased where a share `label_smoothing` of the preferences is flipped.
    Robust,
    /// Identity preference optimisation.
    Ipo,
    /// Simple preference optimisation: mean log-probabilities, a margin `gamma`, no reference.
    Simpo,
    /// Odds-ratio preference optimisation: an SFT term of its own, no reference.
    Orpo,
    /// Kahneman-Tversky optimisation.
    Kto,
}

impl PreferenceLoss {
    /// Whether log-probabilities under the reference model enter the loss.
    #[must_use]
    pub fn needs_reference(self) -> bool {
        !matches!(self, Self::Simpo | Self::Orpo)
    }

    /// Whether `label_smoothing` is part of the loss.
    #[must_use]
    pub fn smooths_labels(self) -> bool {
        matches!(self, Self::Dpo | Self::Robust)
    }
}

/// A response as a loss sees it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Response {
    /// Summed over the tokens.
    pub(crate) logprob: f64,
    /// The same under the reference; 0 where the loss needs none.
    pub(crate) ref_logprob: f64,
    pub(crate) tokens: f64,
}

impl Response {
    fn log_ratio(self) -> f64 {
        self.logprob - self.ref_logprob
    }

    fn mean_logprob(self) -> f64 {
        self.logprob / self.tokens
    }
}

/// The loss of one pair.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct PairLoss {
    pub(crate) loss: f64,
    /// Derivatives of the loss by the log-probability of the chosen and of the rejected response.
    pub(crate) d_chosen: f64,
    pub(crate) d_rejected: f64,
    /// Implicit rewards, as TRL reports them.
    pub(crate) reward_chosen: f64,
    pub(crate) reward_rejected: f64,
}

/// The loss of a pair; `kl_baseline` is KTO's `z`.
pub(crate) fn pair_loss(
    config: &DpoConfig,
    chosen: Response,
    rejected: Response,
    kl_baseline: f64,
) -> PairLoss {
    let (beta, smoothing) = (config.beta, config.label_smoothing);
    let (loss, d_chosen, d_rejected) = match config.loss {
        PreferenceLoss::Dpo => {
            let margin = beta * (chosen.log_ratio() - rejected.log_ratio());
            let loss = (1.0 - smoothing) * softplus(-margin) + smoothing * softplus(margin);
            let slope = smoothing * sigmoid(margin) - (1.0 - smoothing) * sigmoid(-margin);
            (loss, beta * slope, -beta * slope)
        }
        PreferenceLoss::Robust => {
            let margin = beta * (chosen.log_ratio() - rejected.log_ratio());
            let loss = (1.0 - smoothing) * softplus(-margin) - smoothing * softplus(margin);
            let slope = -(1.0 - smoothing) * sigmoid(-margin) - smoothing * sigmoid(margin);
            let unbiased = 1.0 / (1.0 - 2.0 * smoothing);
            (loss * unbiased, beta * slope * unbiased, -beta * slope * unbiased)
        }
        PreferenceLoss::Ipo => {
            let gap = chosen.log_ratio() / chosen.tokens - rejected.log_ratio() / rejected.tokens;
            let off = gap - 1.0 / (2.0 * beta);
            (off * off, 2.0 * off / chosen.tokens, -2.0 * off / rejected.tokens)
        }
        PreferenceLoss::Simpo => {
            let margin = beta * (chosen.mean_logprob() - rejected.mean_logprob()) - config.gamma;
            let pull = beta * sigmoid(-margin);
            (softplus(-margin), -pull / chosen.tokens, pull / rejected.tokens)
        }
        PreferenceLoss::Orpo => {
            let (chosen_odds, rejected_odds) =
                (Odds::of(chosen.mean_logprob()), Odds::of(rejected.mean_logprob()));
            let log_ratio = chosen_odds.log - rejected_odds.log;
            let pull = beta * sigmoid(-log_ratio);
            (
                beta * softplus(-log_ratio),
                -pull * chosen_odds.slope / chosen.tokens,
                pull * rejected_odds.slope / rejected.tokens,
            )
        }
        PreferenceLoss::Kto => {
            let gain = sigmoid(beta * (chosen.log_ratio() - kl_baseline));
            let relief = sigmoid(beta * (kl_baseline - rejected.log_ratio()));
            let (desirable, undesirable) = (config.desirable_weight / 2.0, config.undesirable_weight / 2.0);
            (
                desirable * (1.0 - gain) + undesirable * (1.0 - relief),
                -desirable * beta * gain * (1.0 - gain),
                undesirable * beta * relief * (1.0 - relief),
            )
        }
    };
    let reward = |response: Response| match config.loss.needs_reference() {
        true => beta * response.log_ratio(),
        false => beta * response.mean_logprob(),
    };
    PairLoss { loss, d_chosen, d_rejected, reward_chosen: reward(chosen), reward_rejected: reward(rejected) }
}

/// Odds `p / (1 - p)` of a mean token probability `p`.
struct Odds {
    log: f64,
    /// Derivative of `log` by `log p`.
    slope: f64,
}

impl Odds {
    fn of(mean_logprob: f64) -> Self {
        // Certainty has infinite odds: kept away from by the resolution of an f32.
        let mean_logprob = mean_logprob.min(-f64::from(f32::EPSILON));
        let complement = -mean_logprob.exp_m1();
        Self { log: mean_logprob - complement.ln(), slope: 1.0 / complement }
    }
}

/// `log(1 + exp(x))`, stable.
pub(crate) fn softplus(x: f64) -> f64 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

pub(crate) fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn softplus_is_stable() {
        assert_eq!(softplus(-1e4), 0.0);
        assert_eq!(softplus(1e4), 1e4);
        assert!((softplus(0.0) - std::f64::consts::LN_2).abs() < 1e-15);
    }

    #[test]
    fn certain_and_impossible_responses_have_finite_losses() {
        for loss in [
            PreferenceLoss::Dpo,
            PreferenceLoss::Robust,
            PreferenceLoss::Ipo,
            PreferenceLoss::Simpo,
            PreferenceLoss::Orpo,
            PreferenceLoss::Kto,
        ] {
            let config = DpoConfig { loss, ..DpoConfig::default() };
            for (chosen, rejected) in [(0.0, -1e4), (-1e4, 0.0), (0.0, 0.0), (-1e4, -1e4)] {
                let response = |logprob: f64| Response { logprob, ref_logprob: -3.0, tokens: 4.0 };
                let pair = pair_loss(&config, response(chosen), response(rejected), 0.0);
                let finite = [pair.loss, pair.d_chosen, pair.d_rejected].into_iter().all(f64::is_finite);
                assert!(finite, "{loss:?}: {pair:?}");
            }
        }
    }
}
