//! Reward models (Bradley and Terry, 1952; Ouyang et al., 2022) over trees: per instruction the prompt and every candidate
//! pass through the model once, however many pairs they form.
//!
//! The loss is the mean over pairs of `-log sigmoid(r(x, y+) - r(x, y-) - margin)`; the margin, of each pair, is that of
//! Touvron et al. (2023), equation 2, and TRL's `RewardTrainer`, and is 0 where nobody gives one.

use rlrf_model::{Decoder, ModelConfig};

use crate::fingerprint::hash_tokens;
use crate::packing::ResponseTree;
use crate::pairs::{self, PairTree, PlacedPair};
use crate::preference_loss::{sigmoid, softplus};
use crate::scoring::{ScoredBatch, scored_rows};
use crate::{
    Error, Lanes, Objective, Result, RewardMetrics, StepLoss, TrainingConfig, TrainingControl,
    TrainingSummary, train,
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
        let completions = self.candidates.iter().map(Vec::as_slice).collect();
        ResponseTree { prompt: &self.prompt, completions }.validate(model, index)?;
        pairs::validate(self.named(), self.candidates.len(), index)?;
        if let Some(RankedPair { chosen, rejected, margin }) =
            self.pairs.iter().find(|p| !p.margin.is_finite())
        {
            let reason = format!("the margin of pair ({chosen}, {rejected}) is {margin}");
            return Err(Error::Example { index, reason });
        }
        Ok(())
    }

    /// Chosen and rejected candidate of each pair.
    fn named(&self) -> impl Iterator<Item = (usize, usize)> {
        self.pairs.iter().map(|pair| (pair.chosen, pair.rejected))
    }

    fn trees(&self, budget: usize) -> Vec<PairTree<'_>> {
        PairTree::cut(&self.prompt, &self.candidates, self.named(), <[u32]>::len, budget)
    }
}

/// Sums over the pairs of a step.
#[derive(Debug, Clone, Default)]
struct PairSums {
    pairs: f64,
    loss: f64,
    wins: f64,
    chosen: f64,
    rejected: f64,
}

impl PairSums {
    /// [`PairSums::add`] of several trees, whose completions follow each other.
    fn add_all(&mut self, trees: &[(&RewardGroup, PairTree<'_>)], scores: &[f64]) -> Vec<f64> {
        let mut d_scores = Vec::with_capacity(scores.len());
        for (group, tree) in trees {
            let first = d_scores.len();
            d_scores.extend(self.add(group, tree, &scores[first..first + tree.members.len()]));
        }
        d_scores
    }

    /// Adds the pairs of a tree; returns the derivative of the step's loss by the score of each completion.
    fn add(&mut self, group: &RewardGroup, tree: &PairTree<'_>, scores: &[f64]) -> Vec<f64> {
        let mut d_scores = vec![0.0; scores.len()];
        for &PlacedPair { number, chosen, rejected } in &tree.pairs {
            let margin = group.pairs[number].margin;
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
        lanes: &mut Lanes,
        gradients: &mut [f32],
    ) -> Result<StepLoss> {
        let groups: Vec<_> = indices.iter().map(|&index| &self.groups[index]).collect();
        let trees: Vec<_> = groups
            .iter()
            .flat_map(|group| {
                group.trees(lanes.tokens_per_microbatch()).into_iter().map(move |tree| (*group, tree))
            })
            .collect();
        let pairs: usize = groups.iter().map(|group| group.pairs.len()).sum();
        let mut sums = PairSums { pairs: pairs as f64, ..PairSums::default() };
        let rows: Vec<usize> = trees.iter().map(|(_, tree)| scored_rows(&tree.tree)).collect();
        let passes = lanes.each(&rows, gradients, |run, activations, gradients| {
            let trees = &trees[run];
            let batch = ScoredBatch::new(trees.iter().map(|(_, tree)| &tree.tree));
            let scores = batch.scores(decoder, activations)?;
            let d_scores = sums.clone().add_all(trees, &scores);
            batch.backward(decoder, activations, &d_scores, gradients);
            Ok(scores)
        })?;
        for (run, scores) in passes {
            sums.add_all(&trees[run], &scores);
        }
        Ok(sums.finish(rows.into_iter().sum::<usize>() as u64))
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

    #[test]
    fn a_tree_takes_the_rows_that_its_budget_counts() {
        let pair = |chosen, rejected| RankedPair { chosen, rejected, margin: 0.0 };
        let group = RewardGroup {
            prompt: vec![1; 10],
            candidates: vec![vec![2; 5], vec![3; 6], vec![4; 7], vec![5; 8]],
            pairs: vec![pair(3, 1), pair(3, 0), pair(0, 1)],
        };
        let rows =
            |budget| group.trees(budget).iter().map(|tree| scored_rows(&tree.tree)).collect::<Vec<_>>();
        assert_eq!(rows(29), [29]);
        assert_eq!(rows(28), [24, 23, 21]);
    }
}
