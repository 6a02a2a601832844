//! Supervised fine-tuning of a local model.

use rlrf_method::demonstration::Demonstration;
use rlrf_method::seam::{Progress, Trainer};
use rlrf_method::{Result, RowStore};
use rlrf_model::Model;
use rlrf_train::{SftExample, TrainingConfig, sft};
use serde::{Deserialize, Serialize};

use super::{TrainingStage, under_control};
use crate::tokens::{backend, prompt_tokens};

/// Supervised fine-tuning.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SftConfig {
    /// Whether only completions are learnt; a model trained from scratch learns language from the prompts, too.
    pub completion_only_loss: bool,
    /// Optimiser, schedule, batch.
    pub training: TrainingConfig,
}

impl Default for SftConfig {
    fn default() -> Self {
        Self { completion_only_loss: true, training: TrainingConfig::default() }
    }
}

/// Fine-tunes `model` in place on demonstrations; the checkpoint of an interrupted call is resumed.
///
/// # Errors
/// A demonstration that does not fit the model's context, a failure of training, or the user's interruption.
pub fn fine_tune(
    model: &mut Model,
    demonstrations: &[Demonstration],
    config: &SftConfig,
    stage: &TrainingStage,
    store: &mut dyn RowStore,
    progress: &dyn Progress,
) -> Result<()> {
    let examples = tokenize(model, demonstrations, config)?;
    train(model, &examples, config, stage, store, progress)
}

fn tokenize(model: &Model, demonstrations: &[Demonstration], config: &SftConfig) -> Result<Vec<SftExample>> {
    let tokens = |demonstration: &Demonstration| {
        let mut prompt = prompt_tokens(model, &demonstration.prompt)?;
        let mut completion =
            model.chat.response(&model.tokenizer, &demonstration.completion).map_err(backend)?;
        if !config.completion_only_loss && !prompt.is_empty() {
            completion.splice(0..0, prompt.drain(1..));
        }
        Ok(SftExample { prompt, completion })
    };
    demonstrations.iter().map(tokens).collect()
}

fn train(
    model: &mut Model,
    examples: &[SftExample],
    config: &SftConfig,
    stage: &TrainingStage,
    store: &mut dyn RowStore,
    progress: &dyn Progress,
) -> Result<()> {
    under_control(model, stage, config, store, progress, |model, control| {
        sft(&mut model.decoder, examples, &config.training, control)
    })
}

/// Supervised fine-tuning within the loop: on best candidates, or on references. Unlike [`fine_tune`] it leaves out what the
/// model's context cannot hold, and says so: one instruction must not end a run.
pub struct SftTrainer<'a> {
    /// The policy; `M_{t+1}` after it.
    pub model: &'a mut Model,
    /// Settings.
    pub config: &'a SftConfig,
    /// Its place in the run.
    pub stage: &'a TrainingStage,
}

impl Trainer for SftTrainer<'_> {
    type Example = Demonstration;

    fn train(
        &mut self,
        demonstrations: &[Demonstration],
        store: &mut dyn RowStore,
        progress: &dyn Progress,
    ) -> Result<()> {
        let mut examples = tokenize(self.model, demonstrations, self.config)?;
        let context = self.model.decoder.config().max_position_embeddings;
        examples.retain(|example| example.prompt.len() + example.completion.len() <= context);
        let left_out = demonstrations.len() - examples.len();
        if left_out > 0 {
            progress.notice(&format!(
                "{left_out} responses left out: longer than the model's context of {context} tokens"
            ));
        }
        train(self.model, &examples, self.config, self.stage, store, progress)
    }
}
