//! Policy gradients on scores, over trees: per instruction the prompt and every distinct candidate pass through the model once.
//!
//! [`PolicyLoss`](crate::PolicyLoss) has the formulas. Samples come from the reference model, all before training, as they do for
//! preference pairs: the first step is on-policy, and clipping bounds what the later ones may take from them. A refinement was drawn
//! under a prompt that shows draft and feedback, but is trained on as a sample of its instruction alone: its ratio is to the reference
//! model given the instruction, and no importance weight accounts for the other prompt.

use rlrf_model::{Decoder, ModelConfig};

use crate::fingerprint::hash_tokens;
use crate::packing::{Microbatch, ResponseTree};
use crate::policy_loss::token_loss;
use crate::{
    Error, GrpoConfig, Lanes, Objective, PolicyMetrics, Result, StepLoss, TrainingConfig, TrainingControl,
    TrainingSummary, train,
};

/// One instruction: its distinct candidates, what the reference model thinks of them, and the scored samples.
#[derive(Debug, Clone, PartialEq)]
pub struct ScoredGroup {
    /// Token ids of the prompt; not empty.
    pub prompt: Vec<u32>,
    /// Token ids of the distinct candidates, end of turn included; none empty.
    pub candidates: Vec<Vec<u32>>,
    /// Log-probability of each token of each candidate under the model that the samples were drawn from.
    pub ref_logprobs: Vec<Vec<f32>>,
    /// All samples, each as often as it was drawn; at least two.
    pub samples: Vec<ScoredSample>,
}

/// A candidate as it was drawn.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ScoredSample {
    /// Place among the distinct candidates.
    pub candidate: usize,
    /// Its score.
    pub score: f64,
}

impl ScoredGroup {
    /// The prompt with all candidates.
    pub fn tree(&self) -> ResponseTree<'_> {
        let completions = self.candidates.iter().map(Vec::as_slice).collect();
        ResponseTree { prompt: &self.prompt, completions }
    }

    fn validate(&self, model: &ModelConfig, index: usize) -> Result<()> {
        let refuse = |reason: String| Err(Error::Example { index, reason });
        self.tree().validate(model, index)?;
        if !self.candidates.iter().map(Vec::len).eq(self.ref_logprobs.iter().map(Vec::len)) {
            return refuse("not one reference log-probability for each token of the candidates".into());
        }
        if let Some(value) = self.ref_logprobs.iter().flatten().find(|value| !value.is_finite()) {
            return refuse(format!("a reference log-probability is {value}"));
        }
        if self.samples.len() < 2 {
            return refuse("fewer than two samples: nothing to compare, leave the instruction out".into());
        }
        for sample in &self.samples {
            if sample.candidate >= self.candidates.len() || !sample.score.is_finite() {
                let candidates = self.candidates.len();
                return refuse(format!("{sample:?} is no scored one of {candidates} candidates"));
            }
        }
        Ok(())
    }
}

/// Sums over the samples of a step.
#[derive(Debug, Clone)]
struct SampleSums<'a> {
    config: &'a GrpoConfig,
    samples: f64,
    loss: f64,
    kl: f64,
    clipped: f64,
    tokens: f64,
    advantage: f64,
}

impl<'a> SampleSums<'a> {
    fn new(config: &'a GrpoConfig, samples: usize) -> Self {
        let samples = samples as f64;
        Self { config, samples, loss: 0.0, kl: 0.0, clipped: 0.0, tokens: 0.0, advantage: 0.0 }
    }

    /// [`SampleSums::add`] of all candidates of a microbatch.
    fn add_all(&mut self, pieces: &[Piece<'_>], microbatch: &Microbatch, logprobs: &[f32]) -> Vec<f32> {
        let candidates = pieces.iter().flat_map(|piece| piece.advantages.iter().zip(piece.ref_logprobs));
        let mut d_logprobs = Vec::with_capacity(logprobs.len());
        for (logprobs, (advantages, ref_logprobs)) in microbatch.by_completion(logprobs).zip(candidates) {
            d_logprobs.extend(self.add(advantages, logprobs, ref_logprobs));
        }
        d_logprobs
    }

    /// Adds the samples of one candidate; returns the derivative of the step's loss by the log-probability of each token.
    fn add(&mut self, advantages: &[f64], logprobs: &[f32], ref_logprobs: &[f32]) -> Vec<f32> {
        let weight = self.config.loss.token_weight(logprobs.len()) / self.samples;
        self.advantage += advantages.iter().map(|advantage| advantage.abs()).sum::<f64>();
        self.tokens += (advantages.len() * logprobs.len()) as f64;
        let mut d_logprobs = Vec::with_capacity(logprobs.len());
        for (&logprob, &ref_logprob) in logprobs.iter().zip(ref_logprobs) {
            let log_ratio = f64::from(logprob) - f64::from(ref_logprob);
            let mut d_logprob = 0.0;
            for &advantage in advantages {
                let token = token_loss(self.config, log_ratio, advantage);
                self.loss += weight * token.loss;
                self.kl += token.kl;
                self.clipped += f64::from(token.clipped);
                d_logprob += weight * token.d_logprob;
            }
            d_logprobs.push(d_logprob as f32);
        }
        d_logprobs
    }

    fn finish(self, tokens: u64) -> StepLoss {
        let metrics = PolicyMetrics {
            kl_per_token: self.kl / self.tokens,
            clip_ratio: self.clipped / self.tokens,
            advantage: self.advantage / self.samples,
        };
        StepLoss {
            loss: self.loss,
            tokens,
            preference: None,
            policy: Some(metrics),
            reward: None,
            warning: None,
        }
    }
}

/// A policy-gradient loss over a list of instructions.
#[derive(Debug, Clone, Copy)]
pub struct GrpoObjective<'a> {
    groups: &'a [ScoredGroup],
    config: &'a GrpoConfig,
}

/// Some candidates of a group, with the advantages of the samples of each.
struct Piece<'a> {
    tree: ResponseTree<'a>,
    ref_logprobs: &'a [Vec<f32>],
    advantages: Vec<Vec<f64>>,
}

impl<'a> GrpoObjective<'a> {
    /// Errors: [`Error::Config`], and [`Error::Example`] for the first group that cannot be trained on.
    pub fn new(model: &ModelConfig, groups: &'a [ScoredGroup], config: &'a GrpoConfig) -> Result<Self> {
        config.validate()?;
        if groups.is_empty() {
            return Err(Error::NoExamples);
        }
        for (index, group) in groups.iter().enumerate() {
            group.validate(model, index)?;
        }
        Ok(Self { groups, config })
    }

    fn pieces(&self, group: &'a ScoredGroup, budget: usize) -> Vec<Piece<'a>> {
        let scores: Vec<f64> = group.samples.iter().map(|sample| sample.score).collect();
        let mut advantages = vec![Vec::new(); group.candidates.len()];
        for (sample, advantage) in group.samples.iter().zip(self.config.loss.advantages(&scores)) {
            advantages[sample.candidate].push(advantage);
        }
        let mut ref_logprobs = group.ref_logprobs.as_slice();
        let piece = |tree: ResponseTree<'a>| {
            let candidates = tree.completions.len();
            let (of_piece, rest) = ref_logprobs.split_at(candidates);
            ref_logprobs = rest;
            Piece { tree, ref_logprobs: of_piece, advantages: advantages.drain(..candidates).collect() }
        };
        group.tree().split(budget).into_iter().map(piece).collect()
    }
}

impl Objective for GrpoObjective<'_> {
    fn len(&self) -> usize {
        self.groups.len()
    }

    fn digest(&self, hasher: &mut blake3::Hasher) {
        hasher.update(b"grpo");
        hasher.update(format!("{:?}", self.config).as_bytes());
        for group in self.groups {
            hash_tokens(hasher, &group.prompt);
            hasher.update(&(group.candidates.len() as u64).to_le_bytes());
            for (candidate, ref_logprobs) in group.candidates.iter().zip(&group.ref_logprobs) {
                hash_tokens(hasher, candidate);
                hasher.update(bytemuck::cast_slice(ref_logprobs));
            }
            hasher.update(&(group.samples.len() as u64).to_le_bytes());
            for sample in &group.samples {
                hasher.update(&(sample.candidate as u64).to_le_bytes());
                hasher.update(&sample.score.to_le_bytes());
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
        let groups = || indices.iter().map(|&index| &self.groups[index]);
        let pieces: Vec<Piece<'_>> =
            groups().flat_map(|group| self.pieces(group, lanes.tokens_per_microbatch())).collect();
        let mut sums = SampleSums::new(self.config, groups().map(|group| group.samples.len()).sum());
        let rows: Vec<usize> = pieces.iter().map(|piece| piece.tree.rows()).collect();
        let passes = lanes.each(&rows, gradients, |run, activations, gradients| {
            let pieces = &pieces[run];
            let microbatch = Microbatch::new(pieces.iter().map(|piece| &piece.tree));
            let logprobs = microbatch.token_logprobs(decoder, activations)?;
            let d_logprobs = sums.clone().add_all(pieces, &microbatch, &logprobs);
            microbatch.backward_tokens(decoder, activations, &d_logprobs, gradients);
            Ok((microbatch, logprobs))
        })?;
        for (run, (microbatch, logprobs)) in passes {
            sums.add_all(&pieces[run], &microbatch, &logprobs);
        }
        Ok(sums.finish(rows.into_iter().sum::<usize>() as u64))
    }
}

/// Trains `decoder` on the scores of `groups`, in place; see [`train`]. The sampling policy enters through `ref_logprobs` alone, see
/// [`reference_token_logprobs`](crate::reference_token_logprobs).
pub fn grpo(
    decoder: &mut Decoder,
    groups: &[ScoredGroup],
    config: &TrainingConfig,
    grpo_config: &GrpoConfig,
    control: &mut dyn TrainingControl,
) -> Result<TrainingSummary> {
    let objective = GrpoObjective::new(decoder.config(), groups, grpo_config)?;
    train(decoder, &objective, config, control)
}
