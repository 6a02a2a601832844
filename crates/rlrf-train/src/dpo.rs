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

use rlrf_model::{Decoder, ModelConfig};

use crate::fingerprint::hash_tokens;
use crate::packing::{Microbatch, ResponseTree, pack};
use crate::pairs::{self, PairTree, PlacedPair};
use crate::preference_loss::{Response, pair_loss};
use crate::{
    DpoConfig, Error, Lanes, Objective, PreferenceLoss, PreferenceMetrics, Result, StepLoss, TrainingConfig,
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
        pairs::validate(self.pairs.iter().copied(), self.candidates.len(), index)
    }

    fn chosen_tokens(&self) -> usize {
        self.pairs.iter().map(|&(chosen, _)| self.candidates[chosen].len()).sum()
    }

    /// Trees of the candidates that are in pairs. The last token of a completion takes no row.
    fn trees(&self, budget: usize) -> Vec<PairTree<'_>> {
        let pairs = self.pairs.iter().copied();
        PairTree::cut(&self.prompt, &self.candidates, pairs, |completion| completion.len() - 1, budget)
    }

    fn response(&self, candidate: usize, logprob: f64) -> Response {
        Response {
            logprob,
            ref_logprob: self.ref_logprobs.get(candidate).copied().unwrap_or_default(),
            tokens: self.candidates[candidate].len() as f64,
        }
    }
}

/// Sums over the pairs of a step.
#[derive(Debug, Clone)]
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

#[derive(Debug, Clone, Default)]
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

    /// [`PairSums::add`] of several trees, whose completions follow each other.
    fn add_all(&mut self, trees: &[(&PreferenceGroup, PairTree<'_>)], logprobs: &[f64]) -> Vec<f64> {
        let mut d_completions = Vec::with_capacity(logprobs.len());
        for (group, tree) in trees {
            let first = d_completions.len();
            d_completions.extend(self.add(group, tree, &logprobs[first..first + tree.members.len()]));
        }
        d_completions
    }

    /// Adds the pairs of a tree; returns the derivative of the step's loss by the log-probability of each completion.
    fn add(&mut self, group: &PreferenceGroup, tree: &PairTree<'_>, logprobs: &[f64]) -> Vec<f64> {
        let mut d_completions = vec![0.0; logprobs.len()];
        for &PlacedPair { chosen, rejected, .. } in &tree.pairs {
            let [chosen_response, rejected_response] = [chosen, rejected]
                .map(|completion| group.response(tree.members[completion], logprobs[completion]));
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
        lanes: &mut Lanes,
    ) -> Result<(f64, u64)> {
        if self.config.loss != PreferenceLoss::Kto {
            return Ok((0.0, 0));
        }
        let (trees, ref_logprobs): (Vec<_>, Vec<_>) =
            groups.iter().filter_map(|group| group.mismatched_tree()).unzip();
        let (mut log_ratios, mut tokens) = (-ref_logprobs.iter().sum::<f64>(), 0);
        for run in pack(trees.iter().map(ResponseTree::rows), lanes.tokens_per_microbatch()) {
            let microbatch = Microbatch::new(&trees[run]);
            let logprobs = microbatch.completion_logprobs(decoder, lanes.activations())?;
            log_ratios += logprobs.iter().sum::<f64>();
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
        let (kl_baseline, baseline_tokens) = self.kl_baseline(decoder, &groups, lanes)?;
        let mut sums = PairSums::new(self.config, &groups, kl_baseline);
        let rows: Vec<usize> = trees.iter().map(|(_, tree)| tree.tree.rows()).collect();
        let passes = lanes.each(&rows, gradients, |run, activations, gradients| {
            let trees = &trees[run];
            let microbatch = Microbatch::new(trees.iter().map(|(_, tree)| &tree.tree));
            let logprobs = microbatch.completion_logprobs(decoder, activations)?;
            let d_completions = sums.clone().add_all(trees, &logprobs);
            microbatch.backward(decoder, activations, &d_completions, gradients);
            Ok(logprobs)
        })?;
        for (run, logprobs) in passes {
            sums.add_all(&trees[run], &logprobs);
        }
        Ok(sums.finish(baseline_tokens + rows.into_iter().sum::<usize>() as u64))
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
    fn a_tree_takes_the_rows_that_its_budget_counts() {
        // 10 for the prompt, 7, 5 and 4 for the candidates in pairs.
        let rows = |budget| group().trees(budget).iter().map(|tree| tree.tree.rows()).collect::<Vec<_>>();
        assert_eq!(rows(26), [26]);
        assert_eq!(rows(25), [22, 21, 19]);
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
