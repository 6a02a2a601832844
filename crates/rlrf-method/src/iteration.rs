//! One iteration of the loop, stage by stage: sample, feedback, select and refine, feedback, score, pairs.
//!
//! Each stage asks the store which keys are missing, computes these, and commits them. Resuming after a crash,
//! going on after Ctrl-C and doing nothing twice are therefore one mechanism.

use serde_json::{Value, json};

use crate::aspect::Aspect;
use crate::best::best_candidate;
use crate::choose::{AspectChoice, judged_aspects};
use crate::committer::{Committer, read_row, write_row};
use crate::config::{MethodConfig, Sampling};
use crate::demonstration::Demonstration;
use crate::digest::digest;
use crate::distribution::Distribution;
use crate::error::{Error, Result};
use crate::instruction::{Instruction, Message};
use crate::judgements::Judgements;
use crate::pairs::{Pair, PairBuilder, PreferenceGroup, length, preference_group};
use crate::reward::{ScoredResponses, rewards};
use crate::row::{Row, RowStore, Table};
use crate::score::{Candidate, CandidateKind, candidate_score, mixed_score, reward_level};
use crate::scored::{ScoredGroup, scored_group};
use crate::seam::{Checker, Generated, GenerationRequest, Judge, Policy, Progress, Reward};
use crate::summary::IterationSummary;
use crate::template::Templates;

/// Identity of a response: everything that decides it.
#[must_use]
pub fn generation_key(model: &str, messages: &[Message], sampling: &Sampling, stream: u64) -> String {
    digest(&("generation", model, messages, sampling, stream))
}

/// The candidates of one instruction as they grow through the stages.
#[derive(Debug, Clone, PartialEq)]
pub struct CandidateGroup {
    /// Index of the instruction.
    pub instruction: usize,
    /// Sampled and refined candidates, in the order in which they were drawn.
    pub candidates: Vec<Candidate>,
    /// Indices of the promising candidates, in the order of their selection; none if every candidate is perfect or unjudged.
    pub promising: Vec<usize>,
    /// Whether a promising candidate was left unrefined because, with its feedback, it does not fit the policy's context.
    pub refinement_too_long: bool,
    /// The aspects that its candidates are judged on, where the feedback model chose them.
    pub choice: Option<AspectChoice>,
}

impl CandidateGroup {
    /// The candidates of one instruction, before a draft is chosen among them.
    #[must_use]
    pub fn new(instruction: usize, candidates: Vec<Candidate>) -> Self {
        Self { instruction, candidates, promising: Vec::new(), refinement_too_long: false, choice: None }
    }

    /// Number of candidates.
    #[must_use]
    pub fn size(&self) -> u32 {
        u32::try_from(self.candidates.len()).unwrap_or(u32::MAX)
    }

    /// Number of candidates of one kind.
    #[must_use]
    pub fn count(&self, kind: CandidateKind) -> u32 {
        u32::try_from(self.candidates.iter().filter(|c| c.kind == kind).count()).unwrap_or(u32::MAX)
    }
}

/// One iteration with everything that it needs.
pub struct Iteration<'a> {
    /// The method's configuration.
    pub config: &'a MethodConfig,
    /// Number of this iteration, from 0.
    pub number: u32,
    /// The instructions.
    pub instructions: &'a [Instruction],
    /// The aspects to be judged, or chosen among.
    pub aspects: &'a [Aspect],
    /// The choice of each instruction; where there are none, every aspect is judged.
    pub choices: Vec<AspectChoice>,
    /// The prompts.
    pub templates: &'a Templates,
    /// Where rows are kept.
    pub store: &'a mut dyn RowStore,
    /// Who watches.
    pub progress: &'a dyn Progress,
    /// Decides exactly which candidates are right (for the reflection gain only: it never enters a score).
    pub checker: Option<&'a dyn Checker>,
    /// Gives rewards: they break ties between equal scores, and are mixed into them as the configuration says.
    pub reward: Option<&'a mut dyn Reward>,
}

/// A response to be drawn: whose it is and what decides it.
pub(crate) struct Draw {
    /// Index of its group.
    pub(crate) group: usize,
    /// Its place among the candidates of its group.
    pub(crate) position: u32,
    pub(crate) kind: CandidateKind,
    /// Of a refinement: the index of its draft in the group.
    pub(crate) draft: Option<usize>,
    pub(crate) messages: Vec<Message>,
    pub(crate) stream: u64,
}

impl Iteration<'_> {
    /// Draws what the store does not hold yet and appends all candidates to their groups in order.
    pub(crate) fn draw(
        &mut self,
        stage: &str,
        policy: &mut dyn Policy,
        sampling: &Sampling,
        draws: Vec<Draw>,
        groups: &mut [CandidateGroup],
    ) -> Result<()> {
        let model = policy.digest();
        let keys: Vec<String> =
            draws.iter().map(|draw| generation_key(&model, &draw.messages, sampling, draw.stream)).collect();
        let mut drawn: Vec<Option<Generated>> = Vec::with_capacity(draws.len());
        let mut requests: Vec<GenerationRequest> = Vec::new();
        let mut places: Vec<Vec<usize>> = Vec::new();
        let mut last: Option<(usize, Option<usize>)> = None;
        for (index, draw) in draws.iter().enumerate() {
            let known = self.store.get(Table::Generations, &keys[index])?;
            drawn.push(known.map(|body| read_row(Table::Generations, &keys[index], body)).transpose()?);
            if drawn[index].is_some() {
                continue;
            }
            // The draws of one group from one draft share their prompt: one request, computed once.
            if last != Some((draw.group, draw.draft)) {
                requests.push(GenerationRequest {
                    messages: draw.messages.clone(),
                    streams: Vec::new(),
                    sampling: sampling.clone(),
                });
                places.push(Vec::new());
                last = Some((draw.group, draw.draft));
            }
            if let (Some(request), Some(place)) = (requests.last_mut(), places.last_mut()) {
                request.streams.push(draw.stream);
                place.push(index);
            }
        }
        let missing: usize = places.iter().map(Vec::len).sum();
        self.begin(stage, draws.len(), missing);
        let mut committer = Committer::new(self.store);
        let generated = policy.generate(&requests, &mut |request, sample, generated| {
            let index = places[request][sample];
            let draw = &draws[index];
            let mut body = write_row(Table::Generations, &keys[index], &generated)?;
            body["kind"] = json!(draw.kind);
            if let Some(draft) = draw.draft {
                body["draft"] = json!(groups[draw.group].candidates[draft].key);
            }
            self.progress.advance(1, generated.tokens.len() as u64);
            drawn[index] = Some(generated);
            let instruction = &self.instructions[groups[draw.group].instruction];
            committer.push(
                Table::Generations,
                Row {
                    key: keys[index].clone(),
                    iteration: self.number,
                    instruction: instruction.id.clone(),
                    position: draw.position,
                    body,
                },
            )?;
            if self.progress.interrupted() { Err(Error::Interrupted) } else { Ok(()) }
        });
        committer.flush()?;
        self.progress.end();
        generated?;
        for ((draw, key), generated) in draws.into_iter().zip(keys).zip(drawn) {
            let generated =
                generated.ok_or_else(|| Error::Backend(format!("{stage}: a response did not come back")))?;
            let candidate = Candidate::new(key, draw.kind, generated);
            groups[draw.group].candidates.push(Candidate { draft: draw.draft, ..candidate });
        }
        Ok(())
    }

    /// Stages 3, 4 and 7: feedback on every candidate that has none yet, on every aspect or on those chosen for its instruction, and the candidate's score.
    ///
    /// Candidates of an instruction with the same text share their feedback.
    ///
    /// # Errors
    /// As [`Iteration::sample`].
    pub fn feedback(&mut self, judge: &mut dyn Judge, groups: &mut [CandidateGroup]) -> Result<()> {
        let texts: Vec<Vec<String>> = groups
            .iter()
            .map(|group| group.candidates.iter().map(|c| c.generated.text.trim().to_string()).collect())
            .collect();
        let mut judgements = Judgements::new(judge, self.aspects);
        let mut wanted: Vec<(usize, usize, String)> = Vec::new();
        for (group_index, group) in groups.iter().enumerate() {
            let instruction = &self.instructions[group.instruction];
            for (place, candidate) in group.candidates.iter().enumerate() {
                if !candidate.feedback.is_empty() {
                    continue;
                }
                for order in judged_aspects(group.choice.as_ref(), self.aspects) {
                    let row = (instruction.id.as_str(), row_position(place, order, self.aspects));
                    let response = texts[group_index][place].as_str();
                    let key = judgements.want(self.store, (instruction, response), order, row)?;
                    wanted.push((group_index, place, key));
                }
            }
        }
        let task = self.task("feedback");
        let judged = judgements.ask(judge, self.store, self.progress, (&task, self.number))?;
        for (group, place, key) in wanted {
            groups[group].candidates[place].feedback.push(judged[&key].clone());
        }
        self.score(groups)
    }

    /// Stage 4: rewards, scores and, where there is a checker, what is right.
    ///
    /// # Errors
    /// A failure of the reward model, the checker or the store.
    pub fn score(&mut self, groups: &mut [CandidateGroup]) -> Result<()> {
        self.rewards(groups)?;
        let weight = self.config.score.reward_weight;
        for group in &mut *groups {
            let instruction = &self.instructions[group.instruction];
            // The mean of the samples: refinements that come later leave it as it is.
            let samples = group.candidates.iter().filter(|c| c.kind == CandidateKind::Sampled);
            let rewards: Vec<f64> = samples.filter_map(|c| c.reward).collect();
            let mean_reward = rewards.iter().sum::<f64>() / rewards.len().max(1) as f64;
            for candidate in &mut group.candidates {
                let aspects = candidate_score(self.aspects, &candidate.feedback);
                let reward = candidate.reward.map(|reward| reward_level(reward, mean_reward));
                candidate.score = mixed_score(aspects, reward, weight);
                if let (None, Some(checker)) = (candidate.correct, self.checker) {
                    candidate.correct = Some(checker.check(instruction, &candidate.generated.text)?.correct);
                }
            }
        }
        self.commit_scores(groups)
    }

    fn rewards(&mut self, groups: &mut [CandidateGroup]) -> Result<()> {
        let Some(reward) = self.reward.as_deref_mut() else { return Ok(()) };
        let scored: Vec<ScoredResponses<'_>> = groups
            .iter()
            .map(|group| {
                let instruction = &self.instructions[group.instruction];
                ScoredResponses {
                    instruction: &instruction.id,
                    messages: &instruction.messages,
                    responses: group.candidates.iter().map(|c| c.generated.text.as_str()).collect(),
                }
            })
            .collect();
        let stage = format!("reward M_{}", self.number);
        let rewards = rewards(reward, &scored, &stage, self.number, self.store, self.progress)?;
        for (group, rewards) in groups.iter_mut().zip(rewards) {
            for (candidate, reward) in group.candidates.iter_mut().zip(rewards) {
                candidate.reward = reward;
            }
        }
        Ok(())
    }

    /// Scores are derived from committed feedback; their rows are for readers of the database.
    fn commit_scores(&mut self, groups: &[CandidateGroup]) -> Result<()> {
        let mut rows = Vec::new();
        for group in groups {
            for (position, candidate) in (0u32..).zip(&group.candidates) {
                let key = digest(&(
                    "score",
                    &candidate.key,
                    &candidate.feedback,
                    candidate.reward,
                    candidate.score,
                ));
                if self.store.get(Table::Scores, &key)?.is_some() {
                    continue;
                }
                let levels: serde_json::Map<String, Value> = candidate
                    .feedback
                    .iter()
                    .map(|f| (f.aspect.clone(), json!({ "level": f.level, "score": f.aspect_score() })))
                    .collect();
                let body = json!({
                    "generation": candidate.key, "kind": candidate.kind, "score": candidate.score,
                    "reward": candidate.reward, "correct": candidate.correct, "aspects": levels,
                });
                let instruction = self.instructions[group.instruction].id.clone();
                rows.push((Table::Scores, Row { key, iteration: self.number, instruction, position, body }));
            }
        }
        rows.chunks(4096).try_for_each(|chunk| self.store.commit(chunk)).map_err(Error::from)
    }

    /// Stage 8: preference pairs from all candidates of each instruction.
    ///
    /// # Errors
    /// A failure of the store.
    pub fn pairs(&mut self, groups: &[CandidateGroup]) -> Result<(Vec<PreferenceGroup>, IterationSummary)> {
        let mut preference_groups = Vec::new();
        let mut summary = self.summary(groups);
        let mut rows = Vec::new();
        let mut builder = PairBuilder::new(&self.config.pairs);
        let (mut gaps, mut chosen_lengths, mut rejected_lengths) = (Vec::new(), Vec::new(), Vec::new());
        for group in groups {
            let instruction = &self.instructions[group.instruction];
            let pairs = builder.pairs(&group.candidates);
            summary.pairs += pairs.len() as u64;
            summary.paired_instructions += u64::from(!pairs.is_empty());
            summary.trained_instructions += u64::from(!pairs.is_empty());
            for (position, Pair { chosen, rejected, gap, aspect }) in (0u32..).zip(&pairs) {
                let (chosen, rejected) = (&group.candidates[*chosen], &group.candidates[*rejected]);
                summary.pairs_chosen_refined += u64::from(chosen.kind == CandidateKind::Refined);
                gaps.push(*gap);
                chosen_lengths.push(length(chosen) as f64);
                rejected_lengths.push(length(rejected) as f64);
                let key = ("pair", &chosen.key, &rejected.key, chosen.score, rejected.score);
                let key = aspect.as_ref().map_or_else(|| digest(&key), |aspect| digest(&(key, aspect, gap)));
                if self.store.get(Table::Pairs, &key)?.is_some() {
                    continue;
                }
                let mut body = json!({
                    "chosen": chosen.key, "rejected": rejected.key, "chosen_text": chosen.generated.text,
                    "rejected_text": rejected.generated.text, "chosen_kind": chosen.kind,
                    "rejected_kind": rejected.kind, "chosen_score": chosen.score, "rejected_score": rejected.score,
                });
                if let Some(aspect) = aspect {
                    body["aspect"] = json!(aspect);
                    body["gap"] = json!(gap);
                }
                let instruction = instruction.id.clone();
                rows.push((Table::Pairs, Row { key, iteration: self.number, instruction, position, body }));
            }
            preference_groups.extend(preference_group(
                &instruction.id,
                &instruction.messages,
                &group.candidates,
                &pairs,
            ));
        }
        rows.chunks(4096).try_for_each(|chunk| self.store.commit(chunk))?;
        summary.pair_gaps = Distribution::of(gaps);
        summary.chosen_lengths = Distribution::of(chosen_lengths);
        summary.rejected_lengths = Distribution::of(rejected_lengths);
        Ok((preference_groups, summary))
    }

    /// Stage 8 of best-of-n: the best candidate of each instruction, where its score is at least `min_score`, as a demonstration.
    #[must_use]
    pub fn best(&self, groups: &[CandidateGroup], min_score: f64) -> (Vec<Demonstration>, IterationSummary) {
        let demonstration = |group: &CandidateGroup| {
            let best = best_candidate(&group.candidates, min_score)?;
            let prompt = self.instructions[group.instruction].messages.clone();
            Some(Demonstration { prompt, completion: best.generated.text.clone() })
        };
        let demonstrations: Vec<_> = groups.iter().filter_map(demonstration).collect();
        let trained_instructions = demonstrations.len() as u64;
        (demonstrations, IterationSummary { trained_instructions, ..self.summary(groups) })
    }

    /// Stage 8 of a policy gradient: the scored candidates of each instruction, where they differ.
    #[must_use]
    pub fn scored(&self, groups: &[CandidateGroup]) -> (Vec<ScoredGroup>, IterationSummary) {
        let scored = |group: &CandidateGroup| {
            let instruction = &self.instructions[group.instruction];
            scored_group(&instruction.id, &instruction.messages, &group.candidates)
        };
        let scored_groups: Vec<_> = groups.iter().filter_map(scored).collect();
        let trained_instructions = scored_groups.len() as u64;
        (scored_groups, IterationSummary { trained_instructions, ..self.summary(groups) })
    }

    /// What is known of the candidates so far; it counts no pairs, nor what is trained on.
    #[must_use]
    pub fn summary(&self, groups: &[CandidateGroup]) -> IterationSummary {
        IterationSummary::of(self.number, groups, self.aspects)
    }

    pub(crate) fn begin(&self, stage: &str, total: usize, missing: usize) {
        self.progress.begin(&self.task(stage), total as u64, (total - missing) as u64);
    }

    /// A stage's name in progress and timings.
    fn task(&self, stage: &str) -> String {
        format!("{stage} M_{}", self.number)
    }
}

/// Feedback rows of one instruction are numbered by candidate, then aspect.
fn row_position(candidate: usize, order: usize, aspects: &[Aspect]) -> u32 {
    u32::try_from(candidate * aspects.len() + order).unwrap_or(u32::MAX)
}
