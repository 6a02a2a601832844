//! The figures of a run.

use rlrf_eval::Evaluation;
use rlrf_method::summary::IterationSummary;
use serde::{Deserialize, Serialize};

/// Everything that a run found, as `summary.json` holds it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Name of the run.
    pub name: String,
    /// Version of rlrf.
    pub version: String,
    /// Digest of the resolved configuration.
    pub configuration_digest: String,
    /// The run's seed.
    pub seed: u64,
    /// Parameters of the policy.
    pub policy_parameters: u64,
    /// Digest of each `M_t`, from `M_0`.
    pub models: Vec<String>,
    /// The numbers of each `M_t` on each set: ordered by iteration, then set.
    pub evaluations: Vec<Evaluation>,
    /// How well the reward model orders pairs that it did not learn, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reward: Option<Evaluation>,
    /// How far each `M_t` has moved from `M_0`.
    #[serde(default)]
    pub divergences: Vec<Divergence>,
    /// What each iteration found.
    pub iterations: Vec<IterationSummary>,
    /// Training metrics of each stage.
    pub training: Vec<TrainingCurve>,
    /// Examples of reflection.
    pub traces: Vec<Trace>,
    /// Seconds spent on each stage, over all sessions of the run.
    pub timings: Vec<Timing>,
    /// What the user should know: a reflection gain that is not positive, a falling chosen log-probability, failed replies.
    pub warnings: Vec<String>,
}

/// KL(M_t || M_0) on the instructions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Divergence {
    /// `t`.
    pub iteration: u32,
    /// Nats per response.
    pub kl: f64,
    /// Nats per token.
    pub kl_per_token: f64,
}

/// Seconds of one stage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Timing {
    /// Name of the stage, such as `sample M_0`.
    pub stage: String,
    /// Seconds.
    pub seconds: f64,
}

/// The metrics of one training stage, step by step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrainingCurve {
    /// Name of the stage, such as `dpo M_0`.
    pub stage: String,
    /// One object per step: `step`, `loss`, `learning_rate`, `gradient_norm`, `tokens`, `preference` (rewards, margins, ...),
    /// `policy` (divergence, clipping, ...).
    pub steps: Vec<serde_json::Value>,
}

/// One reflection that a reader can follow.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Trace {
    /// Iteration.
    pub iteration: u32,
    /// Id of the instruction.
    pub instruction: String,
    /// The problem.
    pub problem: String,
    /// Its reference, where there is one.
    pub reference: Option<String>,
    /// The promising candidate.
    pub draft: String,
    /// The feedback on it: aspect, level, critique.
    pub feedback: Vec<TraceFeedback>,
    /// The best refinement.
    pub refinement: String,
    /// Scores of the draft and of the refinement.
    pub scores: (Option<f64>, Option<f64>),
    /// Whether the refinement is right by the checker.
    pub correct: Option<bool>,
}

/// Feedback on one aspect in a trace.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TraceFeedback {
    /// The aspect.
    pub aspect: String,
    /// Why the feedback model chose it for the instruction, where it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The level.
    pub level: Option<u8>,
    /// The reason.
    pub critique: String,
}
