//! Direct preference optimisation (Rafailov et al., 2023) over trees: per instruction the prompt and every
//! candidate pass through the model once, however many pairs they form.
//!
//! The loss is the mean over pairs of `-log sigmoid(beta * (log_ratio(chosen) - log_ratio(rejected)))`, where
//! `log_ratio = log pi - log pi_ref`, plus `sft_weight` times the negative log-likelihood of the chosen responses, mean over
//! their tokens. A response that is chosen in several pairs counts several times, as in TRL.

use rlrf_model::{Activations, Decoder, ModelConfig};

use crate::fingerprint::hash_tokens;
use crate::packing::{Microbatch, ResponseTree, pack};
use crate::{
    DpoConfig, Error, Objective, PreferenceMetrics, Result, StepLoss, TrainingConfig, TrainingControl,
    TrainingSummary, train,
};

/// One instruction: its candidates, what the reference model thinks of them, and which is preferred to which.
#[derive(Debug, Clone, PartialEq)]
pub struct PreferenceGroup {
    /// Token ids of the prompt; not empty.
    pub prompt: Vec<u32>,
    /// Token ids of the candidates, end of turn included; none empty.
    pub candidates: Vec<Vec<u32>>,
    /// Log-probability of each candidate under the reference model, summed over its tokens.
    pub ref_logprobs: Vec<f64>,
    /// Chosen and rejected candidate of each pair; at least one pair.
    pub pairs: Vec<(usize, usize)>,
}

impl PreferenceGroup {
    /// The prompt with all candidates.
    pub fn tree(&self) -> ResponseTree<'_> {
        ResponseTree {
            prompt: &self.prompt,
            completions: self.candidates.iter().map(Vec::as_slice).collect(),
        }
    }

    fn validate(&self, model: &ModelConfig, index: usize) -> Result<()> {
        let refuse = |reason: String| Err(Error::Example { index, reason });
        self.tree().validate(model, index)?;
        if self.ref_logprobs.len() != self.candidates.len() {
            let (references, candidates) = (self.ref_logprobs.len(), self.candidates.len());
            return refuse(format!("{references} reference log-probabilities for {candidates} candidates"));
        }
        if let Some(value) = self.ref_logprobs.iter().find(|value| !value.is_finite()) {
            return refuse(format!("a reference log-probability is {value}"));
        }
        if self.pairs.is_empty() {
            return refuse("no preference pair: leave the instruction out".into());
        }
        for &(chosen, rejected) in &self.pairs {
            if chosen == rejected || chosen.max(rejected) >= self.candidates.len() {
                let candidates = self.candidates.len();
                return refuse(format!(
                    "pair ({chosen}, {rejected}) does not name two of {candidates} candidates"
                ));
            }
        }
        Ok(())
    }

    fn chosen_tokens(&self) -> usize {
        self.pairs.iter().map(|&(chosen, _)| self.candidates[chosen].len()).sum()
    }

    /// The tree of the candidates that are in pairs; several trees, cut between pairs, where one would be over the budget.
    fn pieces(&self, budget: usize) -> Vec<Piece<'_>> {
        let mut pieces = vec![Piece::new(self)];
        for &pair in &self.pairs {
            let last = pieces.len() - 1;
            let piece = &mut pieces[last];
            if !piece.pairs.is_empty() && piece.tree.rows() + piece.rows_to_add(pair) > budget {
                pieces.push(Piece::new(self));
            }
            let last = pieces.len() - 1;
            pieces[last].push(pair);
        }
        pieces
    }
}

/// Some pairs of a group, and the tree of the candidates in them.
#[derive(Debug)]
struct Piece<'a> {
    group: &'a PreferenceGroup,
    tree: ResponseTree<'a>,
    ref_logprobs: Vec<f64>,
    /// Place in the group of each completion of the tree.
    members: Vec<usize>,
    /// Chosen and rejected completion of the tree.
    pairs: Vec<(usize, usize)>,
}

impl<'a> Piece<'a> {
    fn new(group: &'a PreferenceGroup) -> Self {
        let tree = ResponseTree { prompt: &group.prompt, completions: Vec::new() };
        Self { group, tree, ref_logprobs: Vec::new(), members: Vec::new(), pairs: Vec::new() }
    }

    fn rows_to_add(&self, (chosen, rejected): (usize, usize)) -> usize {
        let new = [chosen, rejected].into_iter().filter(|candidate| !self.members.contains(candidate));
        new.map(|candidate| self.group.candidates[candidate].len() - 1).sum()
    }

    fn push(&mut self, (chosen, rejected): (usize, usize)) {
        let pair = (self.place(chosen), self.place(rejected));
        self.pairs.push(pair);
    }

    fn place(&mut self, candidate: usize) -> usize {
        self.members.iter().position(|&member| member == candidate).unwrap_or_else(|| {
            self.members.push(candidate);
            self.tree.completions.push(&self.group.candidates[candidate]);
            self.ref_logprobs.push(self.group.ref_logprobs[candidate]);
            self.members.len() - 1
        })
    }
}

/// Sums over the pairs of a step.
#[derive(Debug)]
struct PairSums<'a> {
    config: &'a DpoConfig,
    pairs: f64,
    chosen_tokens: f64,
    all_tokens: f64,
    loss: f64,
    wins: f64,
    chosen: ResponseSums,
    rejected: ResponseSums,
}

#[derive(Debug, Default)]
struct ResponseSums {
    logprob: f64,
    ref_logprob: f64,
}

impl ResponseSums {
    fn add(&mut self, logprob: f64, ref_logprob: f64) {
        self.logprob += logprob;
        self.ref_logprob += ref_logprob;
    }

    fn log_ratio(&self) -> f64 {
        self.logprob - self.ref_logprob
    }
}

impl<'a> PairSums<'a> {
    fn new(config: &'a DpoConfig, groups: &[&PreferenceGroup]) -> Self {
        let pairs: usize = groups.iter().map(|group| group.pairs.len()).sum();
        let chosen_tokens: usize = groups.iter().map(|group| group.chosen_tokens()).sum();
        let rejected_tokens: usize = groups
            .iter()
            .flat_map(|group| group.pairs.iter().map(|&(_, rejected)| group.candidates[rejected].len()))
            .sum();
        Self {
            config,
            pairs: pairs as f64,
            chosen_tokens: chosen_tokens as f64,
            all_tokens: (chosen_tokens + rejected_tokens) as f64,
            loss: 0.0,
            wins: 0.0,
            chosen: ResponseSums::default(),
            rejected: ResponseSums::default(),
        }
    }

    /// Adds the pairs of a piece; returns the derivative of the step's loss by the log-probability of each completion.
    fn add(&mut self, piece: &Piece<'_>, logprobs: &[f64]) -> Vec<f64> {
        let beta = self.config.beta;
        let mut d_completions = vec![0.0; logprobs.len()];
        for &(chosen, rejected) in &piece.pairs {
            let log_ratio = |completion: usize| logprobs[completion] - piece.ref_logprobs[completion];
            let margin = beta * (log_ratio(chosen) - log_ratio(rejected));
            self.loss += softplus(-margin);
            self.wins += f64::from(margin > 0.0);
            self.chosen.add(logprobs[chosen], piece.ref_logprobs[chosen]);
            self.rejected.add(logprobs[rejected], piece.ref_logprobs[rejected]);
            let pull = beta * sigmoid(-margin) / self.pairs;
            d_completions[chosen] -= pull + self.config.sft_weight / self.chosen_tokens;
            d_completions[rejected] += pull;
        }
        d_completions
    }

    fn finish(self, tokens: u64) -> StepLoss {
        let beta = self.config.beta;
        let (rewards_chosen, rewards_rejected) =
            (beta * self.chosen.log_ratio() / self.pairs, beta * self.rejected.log_ratio() / self.pairs);
        let metrics = PreferenceMetrics {
            rewards_chosen,
            rewards_rejected,
            rewards_margin: rewards_chosen - rewards_rejected,
            rewards_accuracy: self.wins / self.pairs,
            logps_chosen: self.chosen.logprob / self.pairs,
            logps_rejected: self.rejected.logprob / self.pairs,
            kl_per_token: -(self.chosen.log_ratio() + self.rejected.log_ratio()) / self.all_tokens,
            chosen_fall_per_token: -self.chosen.log_ratio() / self.chosen_tokens,
            sft_loss: -self.chosen.logprob / self.chosen_tokens,
        };
        StepLoss {
            loss: self.loss / self.pairs + self.config.sft_weight * metrics.sft_loss,
            tokens,
            warning: fall_warning(&metrics, self.config),
            preference: Some(metrics),
            reward: None,
        }
    }
}

fn fall_warning(metrics: &PreferenceMetrics, config: &DpoConfig) -> Option<String> {
    (metrics.chosen_fall_per_token > config.chosen_fall_warning).then(|| {
        format!(
            "the chosen responses have lost {:.2} nats per token against the reference model: the policy may be \
             collapsing although its pair accuracy looks good; lower learning_rate, raise beta, or set sft_weight = 1",
            metrics.chosen_fall_per_token
        )
    })
}

/// `log(1 + exp(x))`, stable.
pub(crate) fn softplus(x: f64) -> f64 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

pub(crate) fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// The DPO loss over a list of instructions.
#[derive(Debug, Clone, Copy)]
pub struct DpoObjective<'a> {
    groups: &'a [PreferenceGroup],
    config: &'a DpoConfig,
}

impl<'a> DpoObjective<'a> {
    /// Errors: [`Error::Config`], and [`Error::Example`] for the first group that cannot be trained on.
    pub fn new(model: &ModelConfig, groups: &'a [PreferenceGroup], config: &'a DpoConfig) -> Result<Self> {
        config.validate()?;
        if groups.is_empty() {
            return Err(Error::NoExamples);
        }
        for (index, group) in groups.iter().enumerate() {
            group.validate(model, index)?;
        }
        Ok(Self { groups, config })
    }
}

impl Objective for DpoObjective<'_> {
    fn len(&self) -> usize {
        self.groups.len()
    }

    fn digest(&self, hasher: &mut blake3::Hasher) {
        hasher.update(b"dpo");
        hasher.update(&self.config.beta.to_le_bytes());
        hasher.update(&self.config.sft_weight.to_le_bytes());
        for group in self.groups {
            hash_tokens(hasher, &group.prompt);
            hasher.update(&(group.candidates.len() as u64).to_le_bytes());
            for (candidate, ref_logprob) in group.candidates.iter().zip(&group.ref_logprobs) {
                hash_tokens(hasher, candidate);
                hasher.update(&ref_logprob.to_le_bytes());
            }
            hasher.update(&(group.pairs.len() as u64).to_le_bytes());
            for &(chosen, rejected) in &group.pairs {
                hasher.update(&(chosen as u64).to_le_bytes());
                hasher.update(&(rejected as u64).to_le_bytes());
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
        let mut sums = PairSums::new(self.config, &groups);
        let mut tokens = 0;
        for run in pack(pieces.iter().map(|piece| piece.tree.rows()), tokens_per_microbatch) {
            let pieces = &pieces[run];
            let microbatch = Microbatch::new(pieces.iter().map(|piece| &piece.tree));
            let logprobs = microbatch.completion_logprobs(decoder, activations)?;
            tokens += microbatch.tokens() as u64;
            let mut d_completions = Vec::with_capacity(logprobs.len());
            for piece in pieces {
                let first = d_completions.len();
                d_completions.extend(sums.add(piece, &logprobs[first..first + piece.members.len()]));
            }
            microbatch.backward(decoder, activations, &d_completions, gradients);
        }
        Ok(sums.finish(tokens))
    }
}

/// Trains `decoder` on the preferences of `groups`, in place; see [`train`]. The reference model enters through
/// `ref_logprobs` alone, see [`reference_logprobs`](crate::reference_logprobs).
pub fn dpo(
    decoder: &mut Decoder,
    groups: &[PreferenceGroup],
    config: &TrainingConfig,
    dpo_config: &DpoConfig,
    control: &mut dyn TrainingControl,
) -> Result<TrainingSummary> {
    let objective = DpoObjective::new(decoder.config(), groups, dpo_config)?;
    train(decoder, &objective, config, control)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group() -> PreferenceGroup {
        PreferenceGroup {
            prompt: vec![1; 10],
            candidates: vec![vec![2; 5], vec![3; 6], vec![4; 7], vec![5; 8]],
            ref_logprobs: vec![-1.0, -2.0, -3.0, -4.0],
            pairs: vec![(3, 1), (3, 0), (0, 1)],
        }
    }

    #[test]
    fn a_tree_holds_each_paired_candidate_once() {
        let group = group();
        let pieces = group.pieces(1000);
        assert_eq!(pieces.len(), 1);
        assert_eq!(pieces[0].members, [3, 1, 0]);
        assert_eq!(pieces[0].pairs, [(0, 1), (0, 2), (2, 1)]);
        assert_eq!(pieces[0].tree.rows(), 10 + 7 + 5 + 4);
    }

    #[test]
    fn a_tree_over_the_budget_is_cut_between_pairs() {
        let group = group();
        let pieces = group.pieces(25);
        let members: Vec<_> = pieces.iter().map(|piece| piece.members.clone()).collect();
        assert_eq!(members, [[3, 1], [3, 0], [0, 1]]);
    }

    #[test]
    fn softplus_is_stable() {
        assert_eq!(softplus(-1e4), 0.0);
        assert_eq!(softplus(1e4), 1e4);
        assert!((softplus(0.0) - std::f64::consts::LN_2).abs() < 1e-15);
    }
}
