//! Preference optimisation over trees: per instruction the prompt and every candidate pass through the model once, however
//! many pairs they form.
//!
//! The loss is the mean over pairs of the pair's loss ([`PreferenceLoss`] has the formulas), plus `sft_weight`
//! times the negative log-likelihood of the chosen responses, mean over their tokens. A response that is chosen in several pairs
//! counts several times, as in TRL.
//!
//! KTO measures against a baseline `z = max(0, mean(log pi(y'|x) - log pi_ref(y'|x)))`, an estimate of `KL(pi || pi_ref)` in which `y'`
//! is a response to another instruction than `x` (Ethayarajh et al., 2024, section 4.1). As in TRL, no gradient passes through it. Here
//! the mean is over the instructions of a step, each with one such response ([`PreferenceGroup::mismatch`]), where TRL takes one for each
//! example.

use rlrf_model::{Activations, Decoder, ModelConfig};

use crate::fingerprint::hash_tokens;
use crate::packing::{Microbatch, ResponseTree, pack};
use crate::preference_loss::{Response, pair_loss};
use crate::{
    DpoConfig, Error, Objective, PreferenceLoss, PreferenceMetrics, Result, StepLoss, TrainingConfig,
    TrainingControl, TrainingSummary, train,
};

/// One instruction: its candidates, what the reference model thinks of them, and which is preferred to which.
#[derive(Debug, Clone, PartialEq)]
pub struct PreferenceGroup {
    /// Token ids of the prompt; not empty.
    pub prompt: Vec<u32>,
    /// Token ids of the candidates, end of turn included; none empty.
    pub candidates: Vec<Vec<u32>>,
    /// Log-probability of each candidate, and then of `mismatched`, under the reference model, summed over its tokens; empty for
    /// losses that need none.
    pub ref_logprobs: Vec<f64>,
    /// For KTO: token ids of a response to another instruction.
    pub mismatched: Option<Vec<u32>>,
    /// Chosen and rejected candidate of each pair; at least one pair.
    pub pairs: Vec<(usize, usize)>,
}

impl PreferenceGroup {
    /// Gives each group the first chosen response of the group before it, and the first group that of the last, as TRL's KTO
    /// does with its examples. One that is longer than the context of the model is left out, as is that of an only group.
    pub fn mismatch(groups: &mut [Self], context: usize) {
        let chosen = |group: &Self| group.candidates.get(group.pairs.first()?.0).cloned();
        let mut responses: Vec<Option<Vec<u32>>> = groups.iter().map(chosen).collect();
        responses.rotate_right(1);
        let several = groups.len() > 1;
        for (group, response) in groups.iter_mut().zip(responses) {
            group.mismatched =
                response.filter(|response| several && group.prompt.len() + response.len() <= context);
        }
    }

    /// The prompt with all candidates, and the mismatched response.
    pub fn tree(&self) -> ResponseTree<'_> {
        let completions = self.candidates.iter().chain(&self.mismatched).map(Vec::as_slice).collect();
        ResponseTree { prompt: &self.prompt, completions }
    }

    /// The prompt with the mismatched response, and the latter's log-probability under the reference model.
    fn mismatched_tree(&self) -> Option<(ResponseTree<'_>, f64)> {
        let tree = ResponseTree { prompt: &self.prompt, completions: vec![self.mismatched.as_ref()?] };
        Some((tree, *self.ref_logprobs.last()?))
    }

    fn validate(&self, model: &ModelConfig, loss: PreferenceLoss, index: usize) -> Result<()> {
        let refuse = |reason: String| Err(Error::Example { index, reason });
        let tree = self.tree();
        tree.validate(model, index)?;
        let (references, responses) = (self.ref_logprobs.len(), tree.completions.len());
        if references != responses && (loss.needs_reference() || references > 0) {
            return refuse(format!("{references} reference log-probabilities for {responses} responses"));
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
            self.ref_logprobs.push(self.group.ref_logprobs.get(candidate).copied().unwrap_or_default());
            self.members.len() - 1
        })
    }

    fn response(&self, completion: usize, logprobs: &[f64]) -> Response {
        Response {
            logprob: logprobs[completion],
            ref_logprob: self.ref_logprobs[completion],
            tokens: self.tree.completions[completion].len() as f64,
        }
    }
}

/// Sums over the pairs of a step.
#[derive(Debug)]
struct PairSums<'a> {
    config: &'a DpoConfig,
    kl_baseline: f64,
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
    reward: f64,
}

impl ResponseSums {
    fn add(&mut self, response: Response, reward: f64) {
        self.logprob += response.logprob;
        self.ref_logprob += response.ref_logprob;
        self.reward += reward;
    }

    fn log_ratio(&self) -> f64 {
        self.logprob - self.ref_logprob
    }
}

impl<'a> PairSums<'a> {
    fn new(config: &'a DpoConfig, groups: &[&PreferenceGroup], kl_baseline: f64) -> Self {
        let pairs: usize = groups.iter().map(|group| group.pairs.len()).sum();
        let chosen_tokens: usize = groups.iter().map(|group| group.chosen_tokens()).sum();
        let rejected_tokens: usize = groups
            .iter()
            .flat_map(|group| group.pairs.iter().map(|&(_, rejected)| group.candidates[rejected].len()))
            .sum();
        Self {
            config,
            kl_baseline,
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
        let mut d_completions = vec![0.0; logprobs.len()];
        for &(chosen, rejected) in &piece.pairs {
            let [chosen_response, rejected_response] =
                [chosen, rejected].map(|completion| piece.response(completion, logprobs));
            let pair = pair_loss(self.config, chosen_response, rejected_response, self.kl_baseline);
            self.loss += pair.loss;
            self.wins += f64::from(pair.reward_chosen > pair.reward_rejected);
            self.chosen.add(chosen_response, pair.reward_chosen);
            self.rejected.add(rejected_response, pair.reward_rejected);
            d_completions[chosen] +=
                pair.d_chosen / self.pairs - self.config.chosen_weight() / self.chosen_tokens;
            d_completions[rejected] += pair.d_rejected / self.pairs;
        }
        d_completions
    }

    fn finish(self, tokens: u64) -> StepLoss {
        let (rewards_chosen, rewards_rejected) =
            (self.chosen.reward / self.pairs, self.rejected.reward / self.pairs);
        let lost =
            |log_ratio: f64, tokens: f64| self.config.loss.needs_reference().then_some(-log_ratio / tokens);
        let metrics = PreferenceMetrics {
            rewards_chosen,
            rewards_rejected,
            rewards_margin: rewards_chosen - rewards_rejected,
            rewards_accuracy: self.wins / self.pairs,
            logps_chosen: self.chosen.logprob / self.pairs,
            logps_rejected: self.rejected.logprob / self.pairs,
            kl_per_token: lost(self.chosen.log_ratio() + self.rejected.log_ratio(), self.all_tokens),
            chosen_fall_per_token: lost(self.chosen.log_ratio(), self.chosen_tokens),
            sft_loss: -self.chosen.logprob / self.chosen_tokens,
        };
        StepLoss {
            loss: self.loss / self.pairs + self.config.chosen_weight() * metrics.sft_loss,
            tokens,
            warning: fall_warning(&metrics, self.config),
            preference: Some(metrics),
            policy: None,
            reward: None,
        }
    }
}

fn fall_warning(metrics: &PreferenceMetrics, config: &DpoConfig) -> Option<String> {
    let fall = metrics.chosen_fall_per_token.filter(|&fall| fall > config.chosen_fall_warning)?;
    Some(format!(
        "the chosen responses have lost {fall:.2} nats per token against the reference model: the policy may be \
         collapsing although its pair accuracy looks good; lower learning_rate, raise beta, or set sft_weight = 1"
    ))
}

/// A loss of preference pairs over a list of instructions.
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
            group.validate(model, config.loss, index)?;
        }
        Ok(Self { groups, config })
    }

    /// KTO's baseline over the instructions of a step, and the tokens that passed through the model for it.
    fn kl_baseline(
        &self,
        decoder: &Decoder,
        groups: &[&PreferenceGroup],
        tokens_per_microbatch: usize,
        activations: &mut Activations,
    ) -> Result<(f64, u64)> {
        if self.config.loss != PreferenceLoss::Kto {
            return Ok((0.0, 0));
        }
        let (trees, ref_logprobs): (Vec<_>, Vec<_>) =
            groups.iter().filter_map(|group| group.mismatched_tree()).unzip();
        let (mut log_ratios, mut tokens) = (-ref_logprobs.iter().sum::<f64>(), 0);
        for run in pack(trees.iter().map(ResponseTree::rows), tokens_per_microbatch) {
            let microbatch = Microbatch::new(&trees[run]);
            log_ratios += microbatch.completion_logprobs(decoder, activations)?.iter().sum::<f64>();
            tokens += microbatch.tokens() as u64;
        }
        Ok(((log_ratios / trees.len().max(1) as f64).max(0.0), tokens))
    }
}

impl Objective for DpoObjective<'_> {
    fn len(&self) -> usize {
        self.groups.len()
    }

    fn digest(&self, hasher: &mut blake3::Hasher) {
        hasher.update(b"dpo");
        hasher.update(format!("{:?}", self.config).as_bytes());
        for group in self.groups {
            hash_tokens(hasher, &group.prompt);
            hasher.update(&(group.candidates.len() as u64).to_le_bytes());
            for response in group.tree().completions {
                hash_tokens(hasher, response);
            }
            hasher.update(&(group.ref_logprobs.len() as u64).to_le_bytes());
            hasher.update(bytemuck::cast_slice(&group.ref_logprobs));
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
        let (kl_baseline, mut tokens) =
            self.kl_baseline(decoder, &groups, tokens_per_microbatch, activations)?;
        let mut sums = PairSums::new(self.config, &groups, kl_baseline);
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
            mismatched: None,
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
    fn a_mismatched_response_is_another_instructions() {
        let other = PreferenceGroup { pairs: vec![(2, 0)], ..group() };
        let mut groups = [group(), other, group()];
        PreferenceGroup::mismatch(&mut groups, 17);
        // The chosen responses have 8, 7 and 8 tokens, the prompts 10.
        let mismatched = groups.each_ref().map(|group| group.mismatched.as_ref().map(Vec::len));
        assert_eq!(mismatched, [None, None, Some(7)]);
        PreferenceGroup::mismatch(&mut groups[..1], 100);
        assert_eq!(groups[0].mismatched, None);
    }
}
