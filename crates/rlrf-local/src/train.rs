//! Supervised and preference fine-tuning of a local model, resumable, with its metrics kept as rows.

use std::path::{Path, PathBuf};

use rlrf_method::demonstration::Demonstration;
use rlrf_method::digest::digest;
use rlrf_method::pairs::PreferenceGroup;
use rlrf_method::seam::{Progress, Trainer};
use rlrf_method::{Error, Result, Row, RowStore, Table};
use rlrf_model::{Model, Precision};
use rlrf_train::{
    DpoConfig, ResponseTree, SftExample, StepMetrics, TrainingConfig, TrainingControl, TrainingSummary, dpo,
    reference_logprobs, remove_checkpoint, sft,
};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::tokens::{backend, candidate_tokens, prompt_tokens};

/// Instructions whose reference log-probabilities are computed and committed together.
const REFERENCE_CHUNK: usize = 32;

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

/// Preference fine-tuning.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DpoTrainingConfig {
    /// The objective.
    pub objective: DpoConfig,
    /// Optimiser, schedule, batch.
    pub training: TrainingConfig,
}

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
            "preference": metrics.preference,
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
    let examples = demonstrations
        .iter()
        .map(|demonstration| {
            let mut prompt = prompt_tokens(model, &demonstration.prompt)?;
            let mut completion =
                model.chat.response(&model.tokenizer, &demonstration.completion).map_err(backend)?;
            if !config.completion_only_loss && !prompt.is_empty() {
                completion.splice(0..0, prompt.drain(1..));
            }
            Ok(SftExample { prompt, completion })
        })
        .collect::<Result<Vec<_>>>()?;
    under_control(model, stage, config, store, progress, |model, control| {
        sft(&mut model.decoder, &examples, &config.training, control)
    })
}

/// Removes the checkpoint of a stage whose model is safely saved.
///
/// # Errors
/// The folder cannot be removed.
pub fn finish(stage: &TrainingStage) -> Result<()> {
    remove_checkpoint(&stage.checkpoint).map_err(backend)
}

/// Direct preference optimisation of a local model.
pub struct DpoTrainer<'a> {
    /// The policy; the reference model before training, `M_{t+1}` after it.
    pub model: &'a mut Model,
    /// Settings.
    pub config: &'a DpoTrainingConfig,
    /// Its place in the run.
    pub stage: &'a TrainingStage,
}

impl Trainer for DpoTrainer<'_> {
    fn train(
        &mut self,
        groups: &[PreferenceGroup],
        store: &mut dyn RowStore,
        progress: &dyn Progress,
    ) -> Result<()> {
        let groups = self.tokenize(groups, progress)?;
        let groups = self.with_reference(groups, store, progress)?;
        let Self { model, config, stage } = self;
        under_control(model, stage, config, store, progress, |model, control| {
            dpo(&mut model.decoder, &groups, &config.training, &config.objective, control)
        })
    }
}

impl DpoTrainer<'_> {
    /// Groups as tokens. Those that the model's context cannot hold, and pairs with an empty response, are left out.
    fn tokenize(
        &self,
        groups: &[PreferenceGroup],
        progress: &dyn Progress,
    ) -> Result<Vec<(rlrf_train::PreferenceGroup, String)>> {
        let context = self.model.decoder.config().max_position_embeddings;
        let mut left_out = 0;
        let mut tokenized = Vec::with_capacity(groups.len());
        for group in groups {
            let prompt = prompt_tokens(self.model, &group.messages)?;
            let candidates = group
                .candidates
                .iter()
                .map(|candidate| candidate_tokens(self.model, candidate))
                .collect::<Result<Vec<_>>>()?;
            let trainable = |&candidate: &usize| {
                let tokens: &Vec<u32> = &candidates[candidate];
                !tokens.is_empty() && prompt.len() + tokens.len() <= context
            };
            let pairs: Vec<(usize, usize)> =
                group.pairs.iter().copied().filter(|(c, r)| trainable(c) && trainable(r)).collect();
            left_out += group.pairs.len() - pairs.len();
            if pairs.is_empty() {
                continue;
            }
            let used: Vec<usize> = (0..candidates.len())
                .filter(|index| pairs.iter().any(|(chosen, rejected)| chosen == index || rejected == index))
                .collect();
            let place = |index: usize| used.binary_search(&index).unwrap_or_default();
            let group_tokens = rlrf_train::PreferenceGroup {
                pairs: pairs.iter().map(|&(chosen, rejected)| (place(chosen), place(rejected))).collect(),
                candidates: used.iter().map(|&index| candidates[index].clone()).collect(),
                ref_logprobs: Vec::new(),
                prompt,
            };
            tokenized.push((group_tokens, group.instruction.clone()));
        }
        if left_out > 0 {
            progress.notice(&format!("{left_out} pairs left out: a response is empty or longer than the model's context of {context} tokens"));
        }
        Ok(tokenized)
    }

    /// Fills in the reference log-probabilities, each computed once and kept in the store under the model's digest.
    fn with_reference(
        &self,
        groups: Vec<(rlrf_train::PreferenceGroup, String)>,
        store: &mut dyn RowStore,
        progress: &dyn Progress,
    ) -> Result<Vec<rlrf_train::PreferenceGroup>> {
        let (reference, precision) = (self.model.digest(), self.config.training.precision);
        let keys: Vec<String> = groups
            .iter()
            .map(|(group, _)| {
                let key = ("ref_logprobs", &reference, &group.prompt, &group.candidates);
                if precision == Precision::F32 { digest(&key) } else { digest(&(key, precision)) }
            })
            .collect();
        let (mut groups, instructions): (Vec<_>, Vec<_>) = groups.into_iter().unzip();
        let mut missing = Vec::new();
        for (index, key) in keys.iter().enumerate() {
            match store.get(Table::RefLogprobs, key)? {
                Some(body) => {
                    groups[index].ref_logprobs =
                        serde_json::from_value(body["logprobs"].clone()).map_err(|e| Error::Row {
                            table: Table::RefLogprobs.name(),
                            key: key.clone(),
                            message: e.to_string(),
                        })?;
                }
                None => missing.push(index),
            }
        }
        progress.begin(
            &format!("reference M_{}", self.stage.iteration),
            groups.len() as u64,
            (groups.len() - missing.len()) as u64,
        );
        for chunk in missing.chunks(REFERENCE_CHUNK) {
            let trees: Vec<ResponseTree<'_>> = chunk.iter().map(|&index| groups[index].tree()).collect();
            let rows: u64 = trees.iter().map(|tree| tree.rows() as u64).sum();
            let budget = self.config.training.tokens_per_microbatch;
            let logprobs =
                reference_logprobs(&self.model.decoder, &trees, budget, precision).map_err(backend)?;
            let mut committed = Vec::new();
            for (&index, logprobs) in chunk.iter().zip(logprobs) {
                let row = Row {
                    key: keys[index].clone(),
                    iteration: self.stage.iteration,
                    instruction: instructions[index].clone(),
                    position: 0,
                    body: json!({ "model": reference, "precision": precision, "logprobs": logprobs }),
                };
                committed.push((Table::RefLogprobs, row));
                groups[index].ref_logprobs = logprobs;
            }
            store.commit(&committed)?;
            progress.advance(chunk.len() as u64, rows);
            if progress.interrupted() {
                return Err(Error::Interrupted);
            }
        }
        progress.end();
        Ok(groups)
    }
}
