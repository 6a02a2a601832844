//! Supervised and preference fine-tuning, and reward models: objectives, packing, AdamW, checkpoints, metrics.
//!
//! [`sft()`], [`dpo()`] (with the other losses over preference pairs), [`grpo()`] and [`train_reward()`] change a decoder in place. All are the same loop, [`train`], over an [`Objective`]: shuffle, take
//! the next examples, add up their gradients in packed microbatches, clip, update. How the examples of a step
//! are cut into microbatches is a matter of memory alone; an interrupted run resumes from its checkpoint and
//! ends in the same bytes as one that was never interrupted.

pub mod advantage;
pub mod checkpoint;
pub mod config;
pub mod control;
pub mod dpo;
pub mod error;
pub mod fingerprint;
pub mod grpo;
pub mod lanes;
pub mod metrics;
pub mod objective;
pub mod optimizer;
pub mod packing;
mod pairs;
pub mod policy_loss;
pub mod preference_loss;
pub mod reference;
pub mod reward;
pub mod schedule;
pub mod scoring;
pub mod sft;
pub mod trainer;

pub use checkpoint::remove_checkpoint;
pub use config::{DpoConfig, GrpoConfig, TrainingConfig};
pub use control::TrainingControl;
pub use dpo::{DpoObjective, PreferenceGroup, dpo};
pub use error::{Error, Result};
pub use grpo::{GrpoObjective, ScoredGroup, ScoredSample, grpo};
pub use lanes::Lanes;
pub use metrics::{PolicyMetrics, PreferenceMetrics, RewardMetrics, StepLoss, StepMetrics, TrainingSummary};
pub use objective::Objective;
pub use optimizer::Optimizer;
pub use packing::ResponseTree;
pub use policy_loss::PolicyLoss;
pub use preference_loss::PreferenceLoss;
pub use reference::{reference_logprobs, reference_token_logprobs};
pub use reward::{RankedPair, RewardGroup, RewardObjective, train_reward};
pub use schedule::{Schedule, ScheduleShape};
pub use scoring::completion_scores;
pub use sft::{SftExample, SftObjective, sft};
pub use trainer::train;
