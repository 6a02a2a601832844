//! Fine-tuning of a local model: supervised, on preferences, on scores; resumable, with its metrics kept as rows.

mod dpo;
mod grpo;
mod reference;
mod sft;

use std::path::{Path, PathBuf};

use rlrf_method::digest::digest;
use rlrf_method::seam::Progress;
use rlrf_method::{Error, Result, Row, RowStore, Table};
use rlrf_model::Model;
use rlrf_train::{StepMetrics, TrainingControl, TrainingSummary, remove_checkpoint};
use serde::Serialize;
use serde_json::json;

use crate::tokens::backend;

pub use dpo::{DpoTrainer, DpoTrainingConfig};
pub use grpo::{GrpoTrainer, GrpoTrainingConfig};
pub use sft::{SftConfig, SftTrainer, fine_tune};

/// Where a training stage stands in its run, and where it keeps its checkpoint.
#[derive(Debug, Clone)]
pub struct TrainingStage {
    /// Name in progress, metrics and the report, such as `dpo M_0`.
    pub name: String,
    /// Iteration of its metric rows.
    pub iteration: u32,
    /// Folder of the checkpoint.
    pub checkpoint: PathBuf,
}

struct Control<'a> {
    stage: &'a TrainingStage,
    run: String,
    store: &'a mut dyn RowStore,
    progress: &'a dyn Progress,
    begun: bool,
    failure: Result<()>,
}

impl Control<'_> {
    fn record(&mut self, metrics: &StepMetrics) -> Result<()> {
        let key = digest(&("step", &self.run, metrics.step));
        if self.store.get(Table::Metrics, &key)?.is_some() {
            return Ok(());
        }
        // Rows hold what a run's inputs decide; speed is not among it.
        let mut body = json!({
            "stage": self.stage.name, "step": metrics.step, "total_steps": metrics.total_steps, "loss": metrics.loss,
            "learning_rate": metrics.learning_rate, "gradient_norm": metrics.gradient_norm, "tokens": metrics.tokens,
            "preference": metrics.preference, "policy": metrics.policy,
        });
        if let Some(reward) = &metrics.reward {
            body["reward"] = json!(reward);
        }
        let position = u32::try_from(metrics.step).unwrap_or(u32::MAX);
        let row = Row {
            key,
            iteration: self.stage.iteration,
            instruction: self.stage.name.clone(),
            position,
            body,
        };
        Ok(self.store.commit(&[(Table::Metrics, row)])?)
    }
}

impl TrainingControl for Control<'_> {
    fn checkpoint_folder(&self) -> Option<&Path> {
        Some(&self.stage.checkpoint)
    }

    fn stop_requested(&self) -> bool {
        self.progress.interrupted() || self.failure.is_err()
    }

    fn on_step(&mut self, metrics: &StepMetrics) {
        if !self.begun {
            self.progress.begin(&self.stage.name, metrics.total_steps, metrics.step - 1);
            self.begun = true;
        }
        if self.failure.is_ok() {
            self.failure = self.record(metrics);
        }
        self.progress.advance(1, metrics.tokens);
    }

    fn on_notice(&mut self, message: &str) {
        self.progress.notice(message);
    }
}

/// Runs a training function under a stage's control; adapters that were trained are merged. Its checkpoint stays: [`finish`] removes it once the model is saved.
pub(crate) fn under_control(
    model: &mut Model,
    stage: &TrainingStage,
    settings: &impl Serialize,
    store: &mut dyn RowStore,
    progress: &dyn Progress,
    train: impl FnOnce(&mut Model, &mut dyn TrainingControl) -> rlrf_train::Result<TrainingSummary>,
) -> Result<()> {
    let run = digest(&("training", model.digest(), &stage.name, settings));
    let mut control = Control { stage, run, store, progress, begun: false, failure: Ok(()) };
    let outcome = train(model, &mut control);
    progress.end();
    control.failure?;
    match outcome {
        Ok(_) => {
            model.merge_adapter();
            Ok(())
        }
        Err(rlrf_train::Error::Interrupted { .. }) => Err(Error::Interrupted),
        Err(error) => Err(Error::Backend(format!("{}: {error}", stage.name))),
    }
}

/// Removes the checkpoint of a stage whose model is safely saved.
///
/// # Errors
/// The folder cannot be removed.
pub fn finish(stage: &TrainingStage) -> Result<()> {
    remove_checkpoint(&stage.checkpoint).map_err(backend)
}
