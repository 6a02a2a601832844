//! What of an iteration the policy is trained on, and its training.

use anyhow::Result;
use rlrf_local::{DpoTrainer, DpoTrainingConfig, GrpoTrainer, GrpoTrainingConfig, SftTrainer, TrainingStage};
use rlrf_method::RowStore;
use rlrf_method::demonstration::Demonstration;
use rlrf_method::digest::stream;
use rlrf_method::iteration::{CandidateGroup, Iteration};
use rlrf_method::pairs::PreferenceGroup;
use rlrf_method::scored::ScoredGroup;
use rlrf_method::seam::{Progress, Trainer};
use rlrf_method::summary::IterationSummary;
use rlrf_model::Model;

use crate::config::{Config, Method, TrainerKind};

/// Examples for one of the trainers.
pub(crate) enum TrainingSet {
    /// For `dpo`.
    Pairs(Vec<PreferenceGroup>),
    /// For `sft`.
    Demonstrations(Vec<Demonstration>),
    /// For `grpo`.
    Scored(Vec<ScoredGroup>),
}

impl TrainingSet {
    /// What the configured trainer takes of the candidates.
    pub(crate) fn of_candidates(
        config: &Config,
        iteration: &mut Iteration<'_>,
        groups: &[CandidateGroup],
    ) -> Result<(Self, IterationSummary)> {
        Ok(match config.trainer {
            TrainerKind::Dpo => {
                let (pairs, summary) = iteration.pairs(groups)?;
                (Self::Pairs(pairs), summary)
            }
            TrainerKind::Sft => {
                let (best, summary) = iteration.best(groups, config.sft.min_score);
                (Self::Demonstrations(best), summary)
            }
            TrainerKind::Grpo => {
                let (scored, summary) = iteration.scored(groups);
                (Self::Scored(scored), summary)
            }
        })
    }

    pub(crate) fn is_empty(&self) -> bool {
        match self {
            Self::Pairs(groups) => groups.is_empty(),
            Self::Demonstrations(demonstrations) => demonstrations.is_empty(),
            Self::Scored(groups) => groups.is_empty(),
        }
    }

    /// Trains `model`, in place.
    pub(crate) fn train(
        &self,
        config: &Config,
        model: &mut Model,
        stage: &TrainingStage,
        store: &mut dyn RowStore,
        progress: &dyn Progress,
    ) -> Result<()> {
        let seed = stream(config.seed, &stage.name, "", 0);
        match self {
            Self::Pairs(groups) => {
                let mut settings: DpoTrainingConfig = config.dpo.clone();
                settings.training.seed = seed;
                DpoTrainer { model, config: &settings, stage }.train(groups, store, progress)?;
            }
            Self::Demonstrations(demonstrations) => {
                let settings = config.sft.settings(seed);
                SftTrainer { model, config: &settings, stage }.train(demonstrations, store, progress)?;
            }
            Self::Scored(groups) => {
                let mut settings: GrpoTrainingConfig = config.grpo.clone();
                settings.training.seed = seed;
                GrpoTrainer { model, config: &settings, stage }.train(groups, store, progress)?;
            }
        }
        Ok(())
    }
}

/// Name of the training in progress, metrics and report.
pub(crate) fn training_name(config: &Config) -> &'static str {
    match (config.trainer, config.method) {
        (TrainerKind::Dpo, _) => "dpo",
        (TrainerKind::Sft, Method::SftGold) => "sft-gold",
        (TrainerKind::Sft, _) => "best-of-n",
        (TrainerKind::Grpo, _) => "grpo",
    }
}
