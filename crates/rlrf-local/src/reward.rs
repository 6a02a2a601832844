//! A local reward model: it scores responses, and is trained on preference pairs.

use rlrf_method::pairs::PreferenceGroup;
use rlrf_method::seam::{Progress, Reward, RewardRequest, RewardSink};
use rlrf_method::{Message, Result, RowStore};
use rlrf_model::{Model, Precision};
use rlrf_train::{RankedPair, ResponseTree, RewardGroup, TrainingConfig, completion_scores, train_reward};
use serde::Serialize;

use crate::tokens::{backend, prompt_tokens};
use crate::train::{TrainingStage, under_control};

/// Tokens that pass through the model at once; no reward depends on it.
const TOKENS_PER_MICROBATCH: usize = 1024;

/// Conversations whose rewards are handed over together.
const CHUNK: usize = 32;

/// A reward model folder that scores.
#[derive(Debug)]
pub struct LocalReward<'m> {
    model: &'m Model,
}

impl<'m> LocalReward<'m> {
    /// The reward model `model`.
    ///
    /// # Panics
    /// If the model is a language model, which [`Model::load_reward`] refuses.
    pub fn new(model: &'m Model) -> Self {
        assert!(model.is_reward(), "a language model has no score head");
        Self { model }
    }
}

impl Reward for LocalReward<'_> {
    fn digest(&self) -> String {
        self.model.digest()
    }

    fn rewards(&mut self, requests: &[RewardRequest<'_>], sink: &mut RewardSink<'_>) -> Result<()> {
        for (number, chunk) in requests.chunks(CHUNK).enumerate() {
            let scored = chunk
                .iter()
                .map(|request| TokenizedResponses::new(self.model, request.messages, &request.responses))
                .collect::<Result<Vec<_>>>()?;
            let trees: Vec<_> = scored.iter().map(TokenizedResponses::tree).collect();
            let decoder = &self.model.decoder;
            let scores =
                completion_scores(decoder, &trees, TOKENS_PER_MICROBATCH, Precision::F32).map_err(backend)?;
            for (place, (responses, scores)) in scored.iter().zip(scores).enumerate() {
                sink(number * CHUNK + place, responses.spread(scores))?;
            }
        }
        Ok(())
    }
}

/// A conversation and the responses to it as tokens, the end of turn included: that is where a response is scored.
struct TokenizedResponses {
    prompt: Vec<u32>,
    /// None for a response that the model's context cannot hold.
    responses: Vec<Option<Vec<u32>>>,
}

impl TokenizedResponses {
    fn new(model: &Model, messages: &[Message], responses: &[&str]) -> Result<Self> {
        let context = model.decoder.config().max_position_embeddings;
        let prompt = prompt_tokens(model, messages)?;
        let responses = responses
            .iter()
            .map(|response| {
                let tokens = model.chat.response(&model.tokenizer, response).map_err(backend)?;
                Ok((prompt.len() + tokens.len() <= context).then_some(tokens))
            })
            .collect::<Result<_>>()?;
        Ok(Self { prompt, responses })
    }

    fn tree(&self) -> ResponseTree<'_> {
        let completions = self.responses.iter().flatten().map(Vec::as_slice).collect();
        ResponseTree { prompt: &self.prompt, completions }
    }

    /// The scores of the tree's completions at the places of the responses.
    fn spread(&self, scores: Vec<f64>) -> Vec<Option<f64>> {
        let mut scores = scores.into_iter();
        self.responses.iter().map(|response| response.as_ref().and_then(|_| scores.next())).collect()
    }
}

/// Training of a reward model.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct RewardTrainingConfig {
    /// The margin of pairs that bring none.
    pub margin: f64,
    /// Optimiser, schedule, batch.
    pub training: TrainingConfig,
}

/// Trains the reward model `model` in place on preference pairs; the checkpoint of an interrupted call is resumed. Pairs
/// that the model's context cannot hold are left out.
///
/// # Errors
/// No pair is left, a failure of training, or the user's interruption.
pub fn fit_reward(
    model: &mut Model,
    preferences: &[PreferenceGroup],
    config: &RewardTrainingConfig,
    stage: &TrainingStage,
    store: &mut dyn RowStore,
    progress: &dyn Progress,
) -> Result<()> {
    let mut left_out = 0;
    let mut groups = Vec::with_capacity(preferences.len());
    for group in preferences {
        let texts: Vec<&str> = group.candidates.iter().map(|candidate| candidate.text.as_str()).collect();
        let TokenizedResponses { prompt, responses } =
            TokenizedResponses::new(model, &group.messages, &texts)?;
        let fits = |place: usize| responses[place].is_some();
        let pairs: Vec<RankedPair> = group
            .pairs
            .iter()
            .zip(&group.margins)
            .filter(|((chosen, rejected), _)| fits(*chosen) && fits(*rejected))
            .map(|(&(chosen, rejected), margin)| RankedPair {
                chosen,
                rejected,
                margin: margin.unwrap_or(config.margin),
            })
            .collect();
        left_out += group.pairs.len() - pairs.len();
        if !pairs.is_empty() {
            // What does not fit is in no pair any more; a token stands in for it.
            let end = model.chat.end_of_turn();
            let candidates =
                responses.into_iter().map(|tokens| tokens.unwrap_or_else(|| vec![end])).collect();
            groups.push(RewardGroup { prompt, candidates, pairs });
        }
    }
    if left_out > 0 {
        let context = model.decoder.config().max_position_embeddings;
        progress.notice(&format!(
            "{left_out} pairs left out: a response is longer than the reward model's context of {context} tokens"
        ));
    }
    under_control(model, stage, config, store, progress, |model, control| {
        train_reward(&mut model.decoder, &groups, &config.training, control)
    })
}
