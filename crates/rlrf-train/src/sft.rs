//! Supervised fine-tuning: the mean negative log-likelihood over all completion tokens of a step.

use rlrf_model::{Decoder, ModelConfig};

use crate::fingerprint::hash_tokens;
use crate::packing::{Microbatch, ResponseTree};
use crate::{
    Error, Lanes, Objective, Result, StepLoss, TrainingConfig, TrainingControl, TrainingSummary, train,
};

/// A prompt, and the completion to be learnt; the loss is on the completion only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SftExample {
    /// Token ids of the prompt; not empty.
    pub prompt: Vec<u32>,
    /// Token ids of the completion, end of turn included; not empty.
    pub completion: Vec<u32>,
}

impl SftExample {
    fn tree(&self) -> ResponseTree<'_> {
        ResponseTree { prompt: &self.prompt, completions: vec![&self.completion] }
    }
}

/// The SFT loss over a list of examples.
#[derive(Debug, Clone, Copy)]
pub struct SftObjective<'a> {
    examples: &'a [SftExample],
}

impl<'a> SftObjective<'a> {
    /// Errors: [`Error::Example`] for the first example that is empty or longer than the model's context.
    pub fn new(model: &ModelConfig, examples: &'a [SftExample]) -> Result<Self> {
        if examples.is_empty() {
            return Err(Error::NoExamples);
        }
        for (index, example) in examples.iter().enumerate() {
            example.tree().validate(model, index)?;
        }
        Ok(Self { examples })
    }
}

impl Objective for SftObjective<'_> {
    fn len(&self) -> usize {
        self.examples.len()
    }

    fn digest(&self, hasher: &mut blake3::Hasher) {
        hasher.update(b"sft");
        for example in self.examples {
            hash_tokens(hasher, &example.prompt);
            hash_tokens(hasher, &example.completion);
        }
    }

    fn loss_and_gradients(
        &self,
        decoder: &Decoder,
        indices: &[usize],
        lanes: &mut Lanes,
        gradients: &mut [f32],
    ) -> Result<StepLoss> {
        let trees: Vec<_> = indices.iter().map(|&index| self.examples[index].tree()).collect();
        let completion_tokens: usize =
            indices.iter().map(|&index| self.examples[index].completion.len()).sum();
        let per_token = 1.0 / completion_tokens as f64;
        let mut loss =
            StepLoss { loss: 0.0, tokens: 0, preference: None, policy: None, reward: None, warning: None };
        let rows: Vec<usize> = trees.iter().map(ResponseTree::rows).collect();
        let passes = lanes.each(&rows, gradients, |run, activations, gradients| {
            let microbatch = Microbatch::new(&trees[run.clone()]);
            let d_completions = vec![-per_token; run.len()];
            microbatch.logprobs_and_backward(decoder, activations, &d_completions, gradients)
        })?;
        for (_, logprobs) in passes {
            loss.loss -= logprobs.iter().sum::<f64>() * per_token;
        }
        loss.tokens = rows.into_iter().sum::<usize>() as u64;
        Ok(loss)
    }
}

/// Fine-tunes `decoder` on `examples`, in place; see [`train`].
pub fn sft(
    decoder: &mut Decoder,
    examples: &[SftExample],
    config: &TrainingConfig,
    control: &mut dyn TrainingControl,
) -> Result<TrainingSummary> {
    let objective = SftObjective::new(decoder.config(), examples)?;
    train(decoder, &objective, config, control)
}
