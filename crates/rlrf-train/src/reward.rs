//! Reward models (Bradley and Terry, 1952; Ouyang et al., 2022) over trees: per instruction the prompt and every candidate
//! pass through the model once, however many pairs they form.
//!
//! The loss is the mean over pairs of `-log sigmoid(r(x, y+) - r(x, y-) - margin)`; the margin, of each pair, is that of
//! Touvron et al. (2023), equation 2, and TRL's `RewardTrainer`, and is 0 where nobody gives one.

use rlrf_model::{Activations, Decoder, ModelConfig};

use crate::fingerprint::hash_tokens;
use crate::packing::{ResponseTree, pack};
use crate::preference_loss::{sigmoid, softplus};
use crate::scoring::{ScoredBatch, scored_rows};
use crate::{
    Error, Objective, Result, RewardMetrics, StepLoss, TrainingConfig, TrainingControl, TrainingSummary,
    train,
};

/// One response is better than another.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RankedPair {
    /// Place of the better candidate.
    pub chosen: usize,
    /// Place of the other one.
    pub rejected: usize,
    /// How much higher the better one's score should be at least.
    pub margin: f64,
}

/// One instruction: its candidates, and which is better than which.
#[derive(Debug, Clone, PartialEq)]
pub struct RewardGroup {
    /// Token ids of the prompt; not empty.
    pub prompt: Vec<u32>,
    /// Token ids of the candidates, end of turn included; none empty.
    pub candidates: Vec<Vec<u32>>,
    /// At least one pair.
    pub pairs: Vec<RankedPair>,
}

impl RewardGroup {
    fn validate(&self, model: &ModelConfig, index: usize) -> Result<()> {
        let refuse = |reason: String| Err(Error::Example { index, reason });
        let completions = self.candidates.iter().map(Vec::as_slice).collect();
        ResponseTree { prompt: &self.prompt, completions }.validate(model, index)?;
        if self.pairs.is_empty() {
            return refuse("no preference pair: leave the instruction out".into());
        }
        for &RankedPair { chosen, rejected, margin } in &self.pairs {
            if chosen == rejected || chosen.max(rejected) >= self.candidates.len() {
                let candidates = self.candidates.len();
                return refuse(format!(
                    "pair ({chosen}, {rejected}) does not name two of {candidates} candidates"
                ));
            }
            if !margin.is_finite() {
                return refuse(format!("the margin of pair ({chosen}, {rejected}) is {margin}"));
            }
        }
        Ok(())
    }

    /// The tree of the candidates that are in pairs; several trees, cut between pairs, where one would be over the budget.
    fn pieces(&self, budget: usize) -> Vec<Piece<'_>> {
        let mut pieces: Vec<Piece<'_>> = Vec::new();
        for &pair in &self.pairs {
            match pieces.last_mut() {
                Some(piece) if scored_rows(&piece.tree) + piece.rows_to_add(self, pair) <= budget => {
                    piece.push(self, pair);
                }
                _ => {
                    let tree = ResponseTree { prompt: &self.prompt, completions: Vec::new() };
                    let mut piece = Piece { tree, members: Vec::new(), pairs: Vec::new() };
                    piece.push(self, pair);
                    pieces.push(piece);
                }
            }
        }
        pieces
    }
}

/// Some pairs of a group, and the tree of the candidates in them.
#[derive(Debug)]
struct Piece<'a> {
    tree: ResponseTree<'a>,
    /// Place in the group of each completion of the tree.
    members: Vec<usize>,
    /// Of completions of the tree.
    pairs: Vec<RankedPair>,
}

impl<'a> Piece<'a> {
    fn rows_to_add(&self, group: &RewardGroup, pair: RankedPair) -> usize {
        let new = [pair.chosen, pair.rejected].into_iter().filter(|place| !self.members.contains(place));
        new.map(|place| group.candidates[place].len()).sum()
    }

    fn push(&mut self, group: &'a RewardGroup, pair: RankedPair) {
        let (chosen, rejected) = (self.place(group, pair.chosen), self.place(group, pair.rejected));
        self.pairs.push(RankedPair { chosen, rejected, margin: pair.margin });
    }

    fn place(&mut self, group: &'a RewardGroup, candidate: usize) -> usize {
        self.members.iter().position(|&member| member == candidate).unwrap_or_else(|| {
            self.members.push(candidate);
            self.tree.completions.push(&group.candidates[candidate]);
            self.members.len() - 1
        })
    }
}

/// Sums over the pairs of a step.
#[derive(Debug, Default)]
struct PairSums {
    pairs: f64,
    loss: f64,
    wins: f64,
    chosen: f64,
    rejected: f64,
}

impl PairSums {
    /// Adds the pairs of a piece; returns the derivative of the step's loss by the score of each completion.
    fn add(&mut self, piece: &Piece<'_>, scores: &[f64]) -> Vec<f64> {
        let mut d_scores = vec![0.0; scores.len()];
        for &RankedPair { chosen, rejected, margin } in &piece.pairs {
            let gap = scores[chosen] - scores[rejected];
            self.loss += softplus(margin - gap);
            self.wins += f64::from(gap > 0.0);
            self.chosen += scores[chosen];
            self.rejected += scores[rejected];
            let pull = sigmoid(margin - gap) / self.pairs;
            d_scores[chosen] -= pull;
            d_scores[rejected] += pull;
        }
        d_scores
    }

    fn finish(self, tokens: u64) -> StepLoss {
        let mean = |sum: f64| sum / self.pairs;
        let (chosen, rejected) = (mean(self.chosen), mean(self.rejected));
        let reward = RewardMetrics { accuracy: mean(self.wins), margin: chosen - rejected, chosen, rejected };
        StepLoss {
            loss: mean(self.loss),
            tokens,
            preference: None,
            policy: None,
            reward: Some(reward),
            warning: None,
        }
    }
}

/// The Bradley-Terry loss over a list of instructions.
#[derive(Debug, Clone, Copy)]
pub struct RewardObjective<'a> {
    groups: &'a [RewardGroup],
}

impl<'a> RewardObjective<'a> {
    /// Errors: [`Error::Example`] for the first group that cannot be trained on.
    pub fn new(model: &ModelConfig, groups: &'a [RewardGroup]) -> Result<Self> {
        if groups.is_empty() {
            return Err(Error::NoExamples);
        }
        for (index, group) in groups.iter().enumerate() {
            group.validate(model, index)?;
        }
        Ok(Self { groups })
    }
}

impl Objective for RewardObjective<'_> {
    fn len(&self) -> usize {
        self.groups.len()
    }

    fn digest(&self, hasher: &mut blake3::Hasher) {
        hasher.update(b"reward");
        for group in self.groups {
            hash_tokens(hasher, &group.prompt);
            hasher.update(&(group.candidates.len() as u64).to_le_bytes());
            for candidate in &group.candidates {
                hash_tokens(hasher, candidate);
            }
            hasher.update(&(group.pairs.len() as u64).to_le_bytes());
            for pair in &group.pairs {
                hasher.update(&(pair.chosen as u64).to_le_bytes());
                hasher.update(&(pair.rejected as u64).to_le_bytes());
                hasher.update(&pair.margin.to_le_bytes());
            }
        }
    }

    fn loss_and_gradients(
        &self,
        decoder: &Decoder,
        indices: &[usize],
        tokens_per_microbatch: usize,
        activations: &mut Activations,
        gradients: &mut [f32],
    ) -> Result<StepLoss> {
        let groups: Vec<_> = indices.iter().map(|&index| &self.groups[index]).collect();
        let pieces: Vec<_> = groups.iter().flat_map(|group| group.pieces(tokens_per_microbatch)).collect();
        let pairs: usize = groups.iter().map(|group| group.pairs.len()).sum();
        let mut sums = PairSums { pairs: pairs as f64, ..PairSums::default() };
        let mut tokens = 0;
        for run in pack(pieces.iter().map(|piece| scored_rows(&piece.tree)), tokens_per_microbatch) {
            let pieces = &pieces[run];
            let batch = ScoredBatch::new(pieces.iter().map(|piece| &piece.tree));
            let scores = batch.scores(decoder, activations)?;
            tokens += batch.tokens() as u64;
            let mut d_scores = Vec::with_capacity(scores.len());
            for piece in pieces {
                let first = d_scores.len();
                d_scores.extend(sums.add(piece, &scores[first..first + piece.members.len()]));
            }
            batch.backward(decoder, activations, &d_scores, gradients);
        }
        Ok(sums.finish(tokens))
    }
}

/// Trains the reward model `decoder` on the pairs of `groups`, in place; see [`train`].
///
/// Errors: those of [`train`]; [`Error::Config`] for `lora`, which would leave the score head as it was drawn.
pub fn train_reward(
    decoder: &mut Decoder,
    groups: &[RewardGroup],
    config: &TrainingConfig,
    control: &mut dyn TrainingControl,
) -> Result<TrainingSummary> {
    if let Some(lora) = &config.lora {
        let advice = "adapters would leave the score head as it was drawn: leave `lora` out";
        return Err(Error::Config { field: "lora.rank", value: lora.rank.to_string(), advice });
    }
    let objective = RewardObjective::new(decoder.config(), groups)?;
    train(decoder, &objective, config, control)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group() -> RewardGroup {
        let pair = |chosen, rejected| RankedPair { chosen, rejected, margin: 0.0 };
        RewardGroup {
            prompt: vec![1; 10],
            candidates: vec![vec![2; 5], vec![3; 6], vec![4; 7], vec![5; 8]],
            pairs: vec![pair(3, 1), pair(3, 0), pair(0, 1)],
        }
    }

    #[test]
    fn a_tree_holds_each_paired_candidate_once() {
        let group = group();
        let pieces = group.pieces(1000);
        assert_eq!(pieces.len(), 1);
        assert_eq!(pieces[0].members, [3, 1, 0]);
        assert_eq!(
            pieces[0].pairs.iter().map(|p| (p.chosen, p.rejected)).collect::<Vec<_>>(),
            [(0, 1), (0, 2), (2, 1)]
        );
        assert_eq!(scored_rows(&pieces[0].tree), 10 + 8 + 6 + 5);
    }

    #[test]
    fn a_tree_over_the_budget_is_cut_between_pairs() {
        let group = group();
        let members: Vec<_> = group.pieces(25).iter().map(|piece| piece.members.clone()).collect();
        assert_eq!(members, [[3, 1], [3, 0], [0, 1]]);
    }
}
