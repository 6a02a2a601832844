//! Policy gradients on the scores of a local model's candidates.

use rlrf_method::scored::ScoredGroup;
use rlrf_method::seam::{Progress, Trainer};
use rlrf_method::{Result, RowStore};
use rlrf_model::Model;
use rlrf_train::{GrpoConfig, ScoredSample, TrainingConfig, grpo, reference_token_logprobs};
use serde::{Deserialize, Serialize};

use super::reference::{Computed, Reference};
use super::{TrainingStage, under_control};
use crate::tokens::{candidate_tokens, prompt_tokens};

/// Token by token of a completion.
const TOKEN_LOGPROBS: Computed<Vec<Vec<f32>>> = ("ref_token_logprobs", reference_token_logprobs);

/// Fine-tuning on scores.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GrpoTrainingConfig {
    /// The objective.
    pub objective: GrpoConfig,
    /// Optimiser, schedule, batch.
    pub training: TrainingConfig,
}

/// GRPO and RLOO on a local model.
pub struct GrpoTrainer<'a> {
    /// The policy; the model that the samples are supposed to come from before training, `M_{t+1}` after it.
    pub model: &'a mut Model,
    /// Settings.
    pub config: &'a GrpoTrainingConfig,
    /// Its place in the run.
    pub stage: &'a TrainingStage,
}

impl Trainer for GrpoTrainer<'_> {
    type Example = ScoredGroup;

    fn train(
        &mut self,
        groups: &[ScoredGroup],
        store: &mut dyn RowStore,
        progress: &dyn Progress,
    ) -> Result<()> {
        let (mut groups, instructions) = self.tokenize(groups, progress)?;
        let reference =
            Reference { model: self.model, training: &self.config.training, iteration: self.stage.iteration };
        let trees: Vec<_> = groups.iter().zip(&instructions).map(|(g, i)| (g.tree(), *i)).collect();
        let ref_logprobs = reference.logprobs(TOKEN_LOGPROBS, &trees, store, progress)?;
        for (group, ref_logprobs) in groups.iter_mut().zip(ref_logprobs) {
            group.ref_logprobs = ref_logprobs;
        }
        let Self { model, config, stage } = self;
        under_control(model, stage, config, store, progress, |model, control| {
            grpo(&mut model.decoder, &groups, &config.training, &config.objective, control)
        })
    }
}

impl GrpoTrainer<'_> {
    /// Groups as tokens, and their instructions. Samples that are empty or that the model's context cannot hold are left out,
    /// and instructions of which fewer than two are left.
    fn tokenize<'g>(
        &self,
        groups: &'g [ScoredGroup],
        progress: &dyn Progress,
    ) -> Result<(Vec<rlrf_train::ScoredGroup>, Vec<&'g str>)> {
        let context = self.model.decoder.config().max_position_embeddings;
        let mut left_out = 0;
        let (mut tokenized, mut instructions) = (Vec::new(), Vec::new());
        for group in groups {
            let prompt = prompt_tokens(self.model, &group.messages)?;
            let (mut candidates, mut places) = (Vec::new(), Vec::with_capacity(group.candidates.len()));
            for candidate in &group.candidates {
                let tokens = candidate_tokens(self.model, candidate)?;
                let trainable = !tokens.is_empty() && prompt.len() + tokens.len() <= context;
                places.push(trainable.then_some(candidates.len()));
                candidates.extend(trainable.then_some(tokens));
            }
            let sample = |&(candidate, score): &(usize, f64)| {
                Some(ScoredSample { candidate: places[candidate]?, score })
            };
            let samples: Vec<ScoredSample> = group.samples.iter().filter_map(sample).collect();
            left_out += group.samples.len() - samples.len();
            if samples.len() < 2 {
                continue;
            }
            tokenized.push(rlrf_train::ScoredGroup { prompt, candidates, ref_logprobs: Vec::new(), samples });
            instructions.push(group.instruction.as_str());
        }
        if left_out > 0 {
            progress.notice(&format!(
                "{left_out} samples left out: empty, or longer than the model's context of {context} tokens"
            ));
        }
        Ok((tokenized, instructions))
    }
}
