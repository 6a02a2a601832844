//! Training settings, as they stand in a configuration file.

use rlrf_model::{Computation, LoraConfig, Precision};
use serde::{Deserialize, Serialize};

use crate::{Error, PolicyLoss, PreferenceLoss, Result, Schedule, ScheduleShape};

/// Settings of a training run, common to all objectives.
///
/// Written out, they are what a result follows from: `tokens_per_microbatch`, `recompute` and `checkpoint_every` are
/// read, but left out, so that a run that ran out of memory may go on with less.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TrainingConfig {
    /// Passes over the examples. Default 1.
    pub epochs: u64,
    /// Ends the run after this many optimizer steps, if it would be longer. Default: none.
    pub max_steps: Option<u64>,
    /// Examples (SFT) or instructions with all their pairs or candidates (DPO, GRPO) per optimizer step. Default 16.
    pub batch_size: usize,
    /// Tokens that pass through the model at once, four times as many where no backward follows. Bounds memory; results change by rounding only. An example, or
    /// a pair with its prompt, that is longer by itself still passes whole. Default 1024.
    #[serde(skip_serializing)]
    pub tokens_per_microbatch: usize,
    /// `f32`, or `bf16`: matrix products of bf16 operands and activations kept in bf16; parameters, gradients and
    /// moments stay f32. Default `f32`.
    pub precision: Precision,
    /// Compute activations again in the backward in place of keeping them: a third more operations, much less memory;
    /// results change by rounding only, in f32 not at all (in AMX tiles, those of the head). Default false.
    #[serde(skip_serializing)]
    pub recompute: bool,
    /// Trains low-rank adapters in place of all parameters, and merges them in the end. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lora: Option<LoraConfig>,
    /// Peak learning rate. Default 3e-5; adapters want about ten times more.
    pub learning_rate: f64,
    /// What follows the warm-up: `constant`, `linear` or `cosine`. Default `cosine`.
    pub schedule: ScheduleShape,
    /// Fraction of the peak learning rate at which a decay ends. Default 0.
    pub learning_rate_floor: f64,
    /// Warm-up as a fraction of all steps, rounded up; the first step then has learning rate 0. It never takes the
    /// last step: a run of one step has none. Default 0.05.
    pub warmup_ratio: f64,
    /// Warm-up in steps, instead of `warmup_ratio`. Default: none.
    pub warmup_steps: Option<u64>,
    /// Decoupled weight decay of matrices; norms and biases never decay. Default 0.
    pub weight_decay: f64,
    /// Gradients with a larger 2-norm are scaled down to it; 0 turns clipping off. Default 1.
    pub max_grad_norm: f64,
    /// AdamW's decay of the first moment. Default 0.9.
    pub beta1: f64,
    /// AdamW's decay of the second moment. Default 0.999.
    pub beta2: f64,
    /// AdamW's term beside the root of the second moment. Default 1e-8.
    pub eps: f64,
    /// Seed of the order of examples. Default 0.
    pub seed: u64,
    /// Steps between checkpoints; 0 writes one on interruption only. Default 50.
    #[serde(skip_serializing)]
    pub checkpoint_every: u64,
}

impl Default for TrainingConfig {
    fn default() -> Self {
        Self {
            epochs: 1,
            max_steps: None,
            batch_size: 16,
            tokens_per_microbatch: 1024,
            precision: Precision::F32,
            recompute: false,
            lora: None,
            learning_rate: 3e-5,
            schedule: ScheduleShape::Cosine,
            learning_rate_floor: 0.0,
            warmup_ratio: 0.05,
            warmup_steps: None,
            weight_decay: 0.0,
            max_grad_norm: 1.0,
            beta1: 0.9,
            beta2: 0.999,
            eps: 1e-8,
            seed: 0,
            checkpoint_every: 50,
        }
    }
}

impl TrainingConfig {
    /// Checks every field's range. Error: [`Error::Config`] naming the first field that is out of it.
    pub fn validate(&self) -> Result<()> {
        check("epochs", self.epochs, self.epochs >= 1, "must be at least 1")?;
        check("batch_size", self.batch_size, self.batch_size >= 1, "must be at least 1")?;
        check(
            "tokens_per_microbatch",
            self.tokens_per_microbatch,
            self.tokens_per_microbatch >= 1,
            "must be at least 1",
        )?;
        if let Some(max_steps) = self.max_steps {
            check("max_steps", max_steps, max_steps >= 1, "must be at least 1; leave it out for no limit")?;
        }
        if let Some(lora) = &self.lora {
            lora.validate()?;
        }
        check(
            "learning_rate",
            self.learning_rate,
            self.learning_rate > 0.0 && self.learning_rate.is_finite(),
            "must be above 0; 1e-6 to 1e-4 is usual",
        )?;
        for (field, value) in
            [("learning_rate_floor", self.learning_rate_floor), ("warmup_ratio", self.warmup_ratio)]
        {
            check(field, value, (0.0..=1.0).contains(&value), "must be a fraction between 0 and 1")?;
        }
        for (field, value) in [("weight_decay", self.weight_decay), ("max_grad_norm", self.max_grad_norm)] {
            check(field, value, value >= 0.0 && value.is_finite(), "must not be negative; 0 turns it off")?;
        }
        for (field, value) in [("beta1", self.beta1), ("beta2", self.beta2)] {
            check(field, value, (0.0..1.0).contains(&value), "must lie between 0 and 1, below 1")?;
        }
        check("eps", self.eps, self.eps > 0.0 && self.eps.is_finite(), "must be above 0; 1e-8 is usual")
    }

    /// How the passes of a training step are computed.
    pub fn computation(&self) -> Computation {
        Computation { precision: self.precision, recompute: self.recompute }
    }

    /// Steps of a whole run over `examples` examples. Each epoch keeps its last, smaller batch.
    pub fn total_steps(&self, examples: usize) -> u64 {
        let steps = self.epochs.saturating_mul(examples.div_ceil(self.batch_size) as u64);
        self.max_steps.map_or(steps, |max_steps| max_steps.min(steps))
    }

    /// The learning rate over a run of `total_steps` steps.
    pub fn learning_rate_schedule(&self, total_steps: u64) -> Schedule {
        let by_ratio = || (self.warmup_ratio * total_steps as f64).ceil() as u64;
        Schedule {
            shape: self.schedule,
            peak: self.learning_rate,
            floor: self.learning_rate_floor,
            // A run that ended within its warm-up might have had learning rate 0 throughout.
            warmup_steps: self.warmup_steps.unwrap_or_else(by_ratio).min(total_steps.saturating_sub(1)),
            total_steps,
        }
    }
}

/// Settings of preference optimisation: DPO (Rafailov et al., 2023) and the losses beside it ([`PreferenceLoss`] has their formulas).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DpoConfig {
    /// The loss of a pair. Default `dpo`.
    pub loss: PreferenceLoss,
    /// Scale of the implicit reward `beta * (log pi - log pi_ref)`; small models want more. For `ipo` the strength of the
    /// regularisation, for `simpo` the scale of mean log-probabilities (2 to 2.5 is usual), for `orpo` the weight of the odds ratio.
    /// Default 0.1.
    pub beta: f64,
    /// `dpo` and `robust`: the share of preferences that are supposed to be the wrong way round. Default 0.
    pub label_smoothing: f64,
    /// `simpo`: by how much the chosen response is to win, in the units of `beta` times a mean log-probability. Default 0.5.
    pub gamma: f64,
    /// `kto`: weight of the chosen responses. Default 1.
    pub desirable_weight: f64,
    /// `kto`: weight of the rejected responses. Default 1.
    pub undesirable_weight: f64,
    /// Weight of an SFT term on the chosen responses, averaged over tokens (Pang et al., 2024; TRL's `rpo_alpha`).
    /// It holds up the chosen log-probability, which plain DPO lets fall. `orpo` has one of weight 1 by definition. Default 0.
    pub sft_weight: f64,
    /// A step warns when the chosen responses have lost more than this against the reference, in nats per token.
    /// Default 0.5.
    pub chosen_fall_warning: f64,
}

impl Default for DpoConfig {
    fn default() -> Self {
        Self {
            loss: PreferenceLoss::Dpo,
            beta: 0.1,
            label_smoothing: 0.0,
            gamma: 0.5,
            desirable_weight: 1.0,
            undesirable_weight: 1.0,
            sft_weight: 0.0,
            chosen_fall_warning: 0.5,
        }
    }
}

impl DpoConfig {
    /// Checks every field's range. Error: [`Error::Config`] naming the first field that is out of it.
    pub fn validate(&self) -> Result<()> {
        let positive = |value: f64| value > 0.0 && value.is_finite();
        check("beta", self.beta, positive(self.beta), "must be above 0; 0.1 to 0.5 is usual")?;
        let (smoothing, smooths) = (self.label_smoothing, self.loss.smooths_labels());
        let share = (0.0..0.5).contains(&smoothing);
        check("label_smoothing", smoothing, share, "must be 0 or more and below 0.5")?;
        check("label_smoothing", smoothing, smooths || smoothing == 0.0, "only for loss = dpo or robust")?;
        let not_negative = |value: f64| value >= 0.0 && value.is_finite();
        check("gamma", self.gamma, not_negative(self.gamma), "must not be negative; 0.5 to 1.6 is usual")?;
        for (field, weight) in
            [("desirable_weight", self.desirable_weight), ("undesirable_weight", self.undesirable_weight)]
        {
            check(field, weight, positive(weight), "must be above 0; 1 is usual")?;
        }
        let weight = self.sft_weight;
        check("sft_weight", weight, not_negative(weight), "must not be negative; 0 turns it off")?;
        check(
            "sft_weight",
            weight,
            self.loss != PreferenceLoss::Orpo || weight == 0.0,
            "loss = orpo has an SFT term of weight 1 by itself: leave it 0",
        )?;
        check(
            "chosen_fall_warning",
            self.chosen_fall_warning,
            self.chosen_fall_warning > 0.0,
            "must be above 0; 0.5 is usual",
        )
    }

    /// Weight of the negative log-likelihood of the chosen responses.
    pub(crate) fn chosen_weight(&self) -> f64 {
        if self.loss == PreferenceLoss::Orpo { 1.0 } else { self.sft_weight }
    }
}

/// Settings of policy gradients on scores ([`PolicyLoss`] has their formulas).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GrpoConfig {
    /// The loss of a group. Default `grpo`.
    pub loss: PolicyLoss,
    /// How far the probability ratio of a token may move from 1 before it teaches nothing more. Default 0.2.
    pub epsilon: f64,
    /// Weight of the divergence from the reference. Default 0, no such term.
    pub beta: f64,
}

impl Default for GrpoConfig {
    fn default() -> Self {
        Self { loss: PolicyLoss::Grpo, epsilon: 0.2, beta: 0.0 }
    }
}

impl GrpoConfig {
    /// Checks every field's range. Error: [`Error::Config`] naming the first field that is out of it.
    pub fn validate(&self) -> Result<()> {
        let clips = self.epsilon > 0.0 && self.epsilon < 1.0;
        check("epsilon", self.epsilon, clips, "must be above 0 and below 1; 0.2 is usual")?;
        let weighs = self.beta >= 0.0 && self.beta.is_finite();
        check("beta", self.beta, weighs, "must not be negative; 0 turns it off, 0.04 is usual")
    }
}

fn check(field: &'static str, value: impl ToString, good: bool, advice: &'static str) -> Result<()> {
    if good { Ok(()) } else { Err(Error::Config { field, value: value.to_string(), advice }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_valid_and_unknown_fields_are_refused() {
        TrainingConfig::default().validate().unwrap();
        DpoConfig::default().validate().unwrap();
        let config: TrainingConfig = toml::from_str("learning_rate = 1e-4\nschedule = \"linear\"").unwrap();
        assert_eq!(config.schedule, ScheduleShape::Linear);
        assert!(toml::from_str::<TrainingConfig>("lr = 1e-4").is_err());
        assert!(toml::from_str::<DpoConfig>("betta = 0.1").is_err());
        GrpoConfig::default().validate().unwrap();
        assert_eq!(toml::from_str::<DpoConfig>("loss = \"simpo\"").unwrap().loss, PreferenceLoss::Simpo);
        assert_eq!(toml::from_str::<GrpoConfig>("loss = \"rloo\"").unwrap().loss, PolicyLoss::Rloo);
    }

    #[test]
    fn a_setting_that_the_loss_does_not_have_is_refused() {
        let smoothed = DpoConfig { label_smoothing: 0.1, ..DpoConfig::default() };
        smoothed.validate().unwrap();
        let ipo = DpoConfig { loss: PreferenceLoss::Ipo, ..smoothed };
        assert!(ipo.validate().unwrap_err().to_string().contains("label_smoothing = 0.1: only for"));
        let orpo = DpoConfig { loss: PreferenceLoss::Orpo, sft_weight: 1.0, ..DpoConfig::default() };
        assert!(orpo.validate().unwrap_err().to_string().contains("sft_weight = 1: loss = orpo"));
    }

    #[test]
    fn an_error_names_the_field() {
        let config = TrainingConfig { beta2: 1.0, ..TrainingConfig::default() };
        assert!(config.validate().unwrap_err().to_string().contains("beta2 = 1"));
        let config = TrainingConfig { learning_rate: f64::NAN, ..TrainingConfig::default() };
        assert!(config.validate().unwrap_err().to_string().contains("learning_rate"));
    }

    #[test]
    fn the_last_step_has_the_peak_however_short_the_run() {
        let by_default = TrainingConfig::default();
        let longer_than_the_run = TrainingConfig { warmup_steps: Some(10), ..TrainingConfig::default() };
        for (config, total_steps) in [(&by_default, 1), (&by_default, 2), (&longer_than_the_run, 3)] {
            let schedule = config.learning_rate_schedule(total_steps);
            assert_eq!(schedule.learning_rate(total_steps - 1), config.learning_rate, "{total_steps} steps");
        }
    }

    #[test]
    fn what_changes_no_result_is_not_written_out() {
        let config = TrainingConfig::default();
        let smaller = TrainingConfig {
            tokens_per_microbatch: 64,
            recompute: true,
            checkpoint_every: 1,
            ..config.clone()
        };
        assert_eq!(toml::to_string(&config).unwrap(), toml::to_string(&smaller).unwrap());
    }

    #[test]
    fn an_epoch_keeps_its_last_partial_batch() {
        let config = TrainingConfig { epochs: 2, batch_size: 4, ..TrainingConfig::default() };
        assert_eq!(config.total_steps(9), 6);
        assert_eq!(TrainingConfig { max_steps: Some(5), ..config }.total_steps(9), 5);
    }
}
