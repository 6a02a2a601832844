//! Preference optimisation of a local model.

use rlrf_method::pairs::PreferenceGroup;
use rlrf_method::seam::{Progress, Trainer};
use rlrf_method::{Result, RowStore};
use rlrf_model::Model;
use rlrf_train::{DpoConfig, PreferenceLoss, TrainingConfig, dpo, reference_logprobs};
use serde::{Deserialize, Serialize};

use super::reference::{Computed, Reference};
use super::{TrainingStage, under_control};
use crate::tokens::{candidate_tokens, prompt_tokens};

/// Summed over the tokens of a completion.
const LOGPROBS: Computed<Vec<f64>> = ("ref_logprobs", reference_logprobs);

/// Preference fine-tuning.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DpoTrainingConfig {
    /// The objective.
    pub objective: DpoConfig,
    /// Optimiser, schedule, batch.
    pub training: TrainingConfig,
}

/// DPO and the other losses over preference pairs, on a local model.
pub struct DpoTrainer<'a> {
    /// The policy; the reference model before training, `M_{t+1}` after it.
    pub model: &'a mut Model,
    /// Settings.
    pub config: &'a DpoTrainingConfig,
    /// Its place in the run.
    pub stage: &'a TrainingStage,
}

impl Trainer for DpoTrainer<'_> {
    type Example = PreferenceGroup;

    fn train(
        &mut self,
        groups: &[PreferenceGroup],
        store: &mut dyn RowStore,
        progress: &dyn Progress,
    ) -> Result<()> {
        let (mut groups, instructions) = self.tokenize(groups, progress)?;
        let loss = self.config.objective.loss;
        if loss == PreferenceLoss::Kto {
            let context = self.model.decoder.config().max_position_embeddings;
            rlrf_train::PreferenceGroup::mismatch(&mut groups, context);
        }
        if loss.needs_reference() {
            let Self { model, config, stage } = &*self;
            let reference = Reference { model, training: &config.training, iteration: stage.iteration };
            let trees: Vec<_> = groups.iter().zip(&instructions).map(|(g, i)| (g.tree(), *i)).collect();
            let ref_logprobs = reference.logprobs(LOGPROBS, &trees, store, progress)?;
            for (group, ref_logprobs) in groups.iter_mut().zip(ref_logprobs) {
                group.ref_logprobs = ref_logprobs;
            }
        }
        let Self { model, config, stage } = self;
        under_control(model, stage, config, store, progress, |model, control| {
            dpo(&mut model.decoder, &groups, &config.training, &config.objective, control)
        })
    }
}

impl DpoTrainer<'_> {
    /// Groups as tokens, and their instructions. Pairs of which the model's context cannot hold a response, or with an empty
    /// one, are left out.
    fn tokenize<'g>(
        &self,
        groups: &'g [PreferenceGroup],
        progress: &dyn Progress,
    ) -> Result<(Vec<rlrf_train::PreferenceGroup>, Vec<&'g str>)> {
        let context = self.model.decoder.config().max_position_embeddings;
        let mut left_out = 0;
        let (mut tokenized, mut instructions) = (Vec::new(), Vec::new());
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
            tokenized.push(rlrf_train::PreferenceGroup {
                pairs: pairs.iter().map(|&(chosen, rejected)| (place(chosen), place(rejected))).collect(),
                candidates: used.iter().map(|&index| candidates[index].clone()).collect(),
                ref_logprobs: Vec::new(),
                mismatched: None,
                prompt,
            });
            instructions.push(group.instruction.as_str());
        }
        if left_out > 0 {
            progress.notice(&format!("{left_out} pairs left out: a response is empty or longer than the model's context of {context} tokens"));
        }
        Ok((tokenized, instructions))
    }
}
