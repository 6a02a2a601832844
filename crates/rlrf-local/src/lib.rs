//! The method's traits on the local engine and trainer: a model folder as policy, as judge, as reward model, and as what is trained.

mod divergence;
mod generate;
mod held;
mod judge;
mod policy;
mod reward;
mod tokens;
mod train;

pub use divergence::{DivergenceSample, divergence};
pub use judge::{JudgeConfig, LocalJudge};
pub use policy::LocalPolicy;
pub use reward::{LocalReward, RewardTrainingConfig, fit_reward};
pub use tokens::{refuse_other_tokens, too_long};
pub use train::{
    DpoTrainer, DpoTrainingConfig, GrpoTrainer, GrpoTrainingConfig, SftConfig, SftTrainer, TrainingStage,
    fine_tune, finish,
};
