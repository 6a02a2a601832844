//! The loop against a policy and a judge made of plain functions: what it draws, what it never draws twice.

#![allow(clippy::unwrap_used, reason = "a test")]
use std::cell::Cell;
use std::collections::BTreeMap;

use rlrf_method::config::MethodConfig;
use rlrf_method::iteration::{CandidateGroup, Iteration};
use rlrf_method::pairs::PreferenceGroup;
use rlrf_method::score::CandidateKind;
use rlrf_method::seam::*;
use rlrf_method::summary::IterationSummary;
use rlrf_method::*;

#[derive(Default)]
struct MemoryStore {
    rows: BTreeMap<(Table, String), Row>,
    committed_twice: usize,
}

impl RowStore for MemoryStore {
    fn get(&self, table: Table, key: &str) -> std::result::Result<Option<serde_json::Value>, StoreError> {
        Ok(self.rows.get(&(table, key.to_string())).map(|row| row.body.clone()))
    }
    fn commit(&mut self, rows: &[(Table, Row)]) -> std::result::Result<(), StoreError> {
        for (table, row) in rows {
            self.committed_twice +=
                usize::from(self.rows.insert((*table, row.key.clone()), row.clone()).is_some());
        }
        Ok(())
    }
    fn rows(&self, table: Table, iteration: u32) -> std::result::Result<Vec<Row>, StoreError> {
        let mut rows: Vec<Row> = self
            .rows
            .iter()
            .filter(|((t, _), row)| *t == table && row.iteration == iteration)
            .map(|(_, row)| row.clone())
            .collect();
        rows.sort_by_key(|row| (row.instruction.clone(), row.position));
        Ok(rows)
    }
}

/// Answers "0" to "3" by its stream; a refinement answers one more than its draft.
#[derive(Default)]
struct CountingPolicy {
    calls: usize,
    /// A draft that, in a prompt, is beyond its context.
    too_long: Option<&'static str>,
}

impl Policy for CountingPolicy {
    fn digest(&self) -> String {
        "counting".into()
    }
    fn fits(&self, messages: &[Message]) -> Result<bool> {
        Ok(!messages.iter().any(|message| Some(message.content.as_str()) == self.too_long))
    }
    fn generate(&mut self, requests: &[GenerationRequest], sink: &mut GenerationSink<'_>) -> Result<()> {
        for (index, request) in requests.iter().enumerate() {
            assert!(self.fits(&request.messages)?, "the whole stage would fail");
            for (sample, stream) in request.streams.iter().enumerate() {
                self.calls += 1;
                let value = match request.messages.as_slice() {
                    [_, draft, feedback] => {
                        assert!(feedback.content.contains("too small"), "refined without feedback");
                        draft.content.parse::<u64>().unwrap() + 1
                    }
                    _ => stream % 4,
                };
                let text = value.to_string();
                let generated =
                    Generated { text, tokens: vec![value as u32], logprob: Some(-1.0), complete: true };
                sink(index, sample, generated)?;
            }
        }
        Ok(())
    }
}

/// Level 3 for "3", 2 for "2", else 1; never sees whether a response was refined.
struct DigitJudge {
    calls: usize,
}

impl Judge for DigitJudge {
    fn digest(&self) -> String {
        "digit".into()
    }
    fn judge(
        &mut self,
        requests: &[JudgeRequest<'_>],
        sink: &mut dyn FnMut(usize, Feedback) -> Result<()>,
    ) -> Result<()> {
        for (index, request) in requests.iter().enumerate() {
            self.calls += 1;
            let level = request.response.parse::<usize>().unwrap().clamp(1, 3);
            let mut distribution = [0.0; LEVELS];
            distribution[level - 1] = 1.0;
            let feedback = Feedback::from_distribution(
                &request.aspect.name,
                "too small".into(),
                distribution,
                ParseOutcome::Parsed,
            );
            sink(index, feedback)?;
        }
        Ok(())
    }
}

/// Asks to stop after so many items.
struct StopAfter(Cell<u64>);

impl Progress for StopAfter {
    fn begin(&self, _: &str, _: u64, _: u64) {}
    fn advance(&self, items: u64, _: u64) {
        self.0.set(self.0.get().saturating_sub(items));
    }
    fn end(&self) {}
    fn notice(&self, _: &str) {}
    fn interrupted(&self) -> bool {
        self.0.get() == 0
    }
}

fn instructions(count: usize) -> Vec<Instruction> {
    (0..count)
        .map(|i| Instruction {
            id: format!("i{i}"),
            messages: vec![Message::user(format!("question {i}"))],
            reference: None,
            answer: None,
        })
        .collect()
}

type Outcome = (Vec<CandidateGroup>, Vec<PreferenceGroup>, IterationSummary);

fn run(
    store: &mut MemoryStore,
    stop_after: u64,
    policy: &mut CountingPolicy,
    judge: &mut DigitJudge,
) -> Result<Outcome> {
    let mut config = MethodConfig::default();
    (config.sample.n, config.refine.m) = (5, 3);
    run_with(&config, store, stop_after, policy, judge)
}

fn run_with(
    config: &MethodConfig,
    store: &mut MemoryStore,
    stop_after: u64,
    policy: &mut CountingPolicy,
    judge: &mut DigitJudge,
) -> Result<Outcome> {
    let instructions = instructions(30);
    let aspects = Aspect::read_toml("aspects.toml", aspect::DEFAULT_ASPECTS).unwrap()[..2].to_vec();
    let templates = Templates::new(template::DEFAULT_FEEDBACK, template::DEFAULT_REFINE).unwrap();
    let mut iteration = Iteration {
        config,
        number: 0,
        instructions: &instructions,
        aspects: &aspects,
        templates: &templates,
        store,
        progress: &StopAfter(Cell::new(stop_after)),
        checker: None,
        reward: None,
    };
    let groups = iteration.explore(policy, Some(judge))?;
    let (pairs, summary) = iteration.pairs(&groups)?;
    Ok((groups, pairs, summary))
}

#[test]
fn an_iteration_samples_judges_refines_and_pairs() {
    let mut store = MemoryStore::default();
    let (mut policy, mut judge) = (CountingPolicy::default(), DigitJudge { calls: 0 });
    let (groups, preferences, summary) = run(&mut store, u64::MAX, &mut policy, &mut judge).unwrap();
    assert_eq!(summary.sampled, 150);
    for group in &groups {
        let Some(&draft) = group.promising.first() else {
            assert_eq!(group.candidates.len(), 5);
            continue;
        };
        let draft_value: u64 = group.candidates[draft].generated.text.parse().unwrap();
        let refined: Vec<_> = group.candidates.iter().filter(|c| c.kind == CandidateKind::Refined).collect();
        assert_eq!(refined.len(), 3);
        assert!(refined.iter().all(|c| c.generated.text == (draft_value + 1).to_string()));
        // No improvable candidate is better than the draft.
        assert!(
            group.candidates[..5]
                .iter()
                .all(|c| !c.is_improvable() || c.score <= group.candidates[draft].score)
        );
    }
    assert!(summary.reflection.gain().unwrap() > 0.0);
    assert!(summary.pairs > 0 && summary.pairs_chosen_refined > 0);
    assert!(preferences.iter().all(|g| g.messages.len() == 1), "pairs are conditioned on x alone");
    // Equal texts of one instruction are judged once per aspect: at most the texts 0 to 3 and 2 aspects.
    assert!(judge.calls <= 30 * 4 * 2, "{}", judge.calls);
    assert_eq!(store.committed_twice, 0);
}

#[test]
fn a_draft_too_long_to_be_refined_costs_its_refinements_only() {
    let mut without = CountingPolicy { too_long: Some("2"), ..Default::default() };
    let mut judge = DigitJudge { calls: 0 };
    let (groups, _, summary) = run(&mut MemoryStore::default(), u64::MAX, &mut without, &mut judge).unwrap();
    let mut policy = CountingPolicy::default();
    let (all, _, _) = run(&mut MemoryStore::default(), u64::MAX, &mut policy, &mut judge).unwrap();
    for (group, undisturbed) in groups.iter().zip(&all) {
        let draft = group.promising.first().map(|&draft| group.candidates[draft].generated.text.as_str());
        assert_eq!(group.refinement_too_long, draft == Some("2"));
        match group.refinement_too_long {
            true => assert_eq!(group.candidates, undisturbed.candidates[..5]),
            false => assert_eq!(group, undisturbed),
        }
    }
    let long = groups.iter().filter(|group| group.refinement_too_long).count() as u64;
    assert!(long > 0 && summary.refined > 0);
    assert_eq!(
        (summary.refinements_too_long, summary.refined),
        (long, (policy.calls - 150) as u64 - 3 * long)
    );
}

#[test]
fn rounds_refine_refinements_and_keep_to_m() {
    let mut config = MethodConfig::default();
    (config.sample.n, config.refine.m, config.refine.rounds) = (2, 5, 3);
    let (mut policy, mut judge) = (CountingPolicy::default(), DigitJudge { calls: 0 });
    let (groups, _, _) =
        run_with(&config, &mut MemoryStore::default(), u64::MAX, &mut policy, &mut judge).unwrap();
    let text = |group: &CandidateGroup, index: usize| group.candidates[index].generated.text.clone();
    // The best sample is "0": round by round the refinements become "1", "2" and, perfect at last, "3".
    let climbing: Vec<_> = groups.iter().filter(|g| text(g, 0) == "0" && text(g, 1) == "0").collect();
    assert!(!climbing.is_empty());
    for group in climbing {
        let texts: Vec<String> = (2..group.candidates.len()).map(|index| text(group, index)).collect();
        assert_eq!(texts, ["1", "1", "2", "2", "3"]);
        let drafts: Vec<Option<usize>> = group.candidates.iter().map(|c| c.draft).collect();
        assert_eq!(drafts, [None, None, Some(0), Some(0), Some(2), Some(2), Some(4)]);
    }
    assert!(groups.iter().all(|g| g.count(CandidateKind::Refined) <= 5));
}

#[test]
fn several_drafts_share_the_refinements() {
    let mut config = MethodConfig::default();
    (config.sample.n, config.refine.m, config.select.drafts) = (6, 5, 2);
    let (mut policy, mut judge) = (CountingPolicy::default(), DigitJudge { calls: 0 });
    let (groups, _, _) =
        run_with(&config, &mut MemoryStore::default(), u64::MAX, &mut policy, &mut judge).unwrap();
    let two: Vec<_> = groups.iter().filter(|group| group.promising.len() == 2).collect();
    assert!(!two.is_empty());
    for group in two {
        let of = |draft: usize| group.candidates.iter().filter(|c| c.draft == Some(draft)).count();
        assert_eq!((of(group.promising[0]), of(group.promising[1])), (3, 2));
    }
}

#[test]
fn a_solved_instruction_can_be_left_alone() {
    let mut config = MethodConfig::default();
    (config.sample.n, config.refine.m, config.refine.stop_when_perfect) = (5, 3, true);
    let (mut policy, mut judge) = (CountingPolicy::default(), DigitJudge { calls: 0 });
    let (groups, _, _) =
        run_with(&config, &mut MemoryStore::default(), u64::MAX, &mut policy, &mut judge).unwrap();
    for group in &groups {
        let solved = group.candidates[..5].iter().any(score::Candidate::is_perfect);
        assert_eq!(group.count(CandidateKind::Refined), if solved { 0 } else { 3 });
    }
}

#[test]
fn the_adaptive_split_keeps_to_the_budget_and_resumes() {
    let mut config = MethodConfig::default();
    (config.sample.n, config.refine.m) = (4, 6);
    (config.search.split, config.search.step) = (config::Split::Adaptive, 2);
    let (mut policy, mut judge) = (CountingPolicy::default(), DigitJudge { calls: 0 });
    let mut undisturbed = MemoryStore::default();
    let expected = run_with(&config, &mut undisturbed, u64::MAX, &mut policy, &mut judge).unwrap();
    let candidates: usize = expected.0.iter().map(|group| group.candidates.len()).sum();
    assert_eq!(candidates, 30 * 10);
    let sizes: Vec<usize> = expected.0.iter().map(|group| group.candidates.len()).collect();
    assert!(sizes.iter().max() > sizes.iter().min(), "every instruction got the same");
    for stop_after in [10, 130, 250] {
        let mut store = MemoryStore::default();
        let (mut policy, mut judge) = (CountingPolicy::default(), DigitJudge { calls: 0 });
        assert!(run_with(&config, &mut store, stop_after, &mut policy, &mut judge).is_err());
        let resumed = run_with(&config, &mut store, u64::MAX, &mut policy, &mut judge).unwrap();
        assert_eq!(resumed, expected);
        assert_eq!((store.committed_twice, &store.rows), (0, &undisturbed.rows));
    }
}

/// The reward of a digit is the digit.
#[derive(Default)]
struct DigitReward {
    asked: usize,
}

impl Reward for DigitReward {
    fn digest(&self) -> String {
        "digit reward".into()
    }

    fn rewards(&mut self, requests: &[RewardRequest<'_>], sink: &mut RewardSink<'_>) -> Result<()> {
        for (index, request) in requests.iter().enumerate() {
            self.asked += request.responses.len();
            sink(index, request.responses.iter().map(|response| response.parse().ok()).collect())?;
        }
        Ok(())
    }
}

#[test]
fn the_reward_alone_needs_no_judge() {
    let mut config = MethodConfig::default();
    (config.sample.n, config.refine.m, config.score.reward_weight) = (6, 0, 1.0);
    assert!(!config.needs_feedback());
    let instructions = instructions(10);
    let templates = Templates::new(template::DEFAULT_FEEDBACK, template::DEFAULT_REFINE).unwrap();
    let mut store = MemoryStore::default();
    let mut explore = |stop_after: u64, reward: &mut DigitReward| {
        let mut iteration = Iteration {
            config: &config,
            number: 0,
            instructions: &instructions,
            aspects: &[],
            templates: &templates,
            store: &mut store,
            progress: &StopAfter(Cell::new(stop_after)),
            checker: None,
            reward: Some(reward),
        };
        let groups = iteration.explore(&mut CountingPolicy::default(), None)?;
        let (_, summary) = iteration.pairs(&groups)?;
        Ok::<_, Error>((groups, summary))
    };
    let (mut reward, mut again) = (DigitReward::default(), DigitReward::default());
    assert!(matches!(explore(70, &mut reward), Err(Error::Interrupted)));
    assert!(reward.asked > 0, "stopped before the rewards");
    let (groups, summary) = explore(u64::MAX, &mut reward).unwrap();
    assert!(summary.pairs > 0 && summary.feedback == 0);
    for candidate in groups.iter().flat_map(|group| &group.candidates) {
        assert_eq!(candidate.reward, candidate.generated.text.parse().ok());
        assert!((1.0..=3.0).contains(&candidate.score.unwrap()));
    }
    let distinct = |group: &CandidateGroup| {
        let texts = group.candidates.iter().map(|candidate| candidate.generated.text.as_str());
        texts.collect::<std::collections::HashSet<_>>().len()
    };
    assert_eq!(reward.asked, groups.iter().map(distinct).sum::<usize>(), "each distinct response once");
    assert_eq!(explore(u64::MAX, &mut again).unwrap().0, groups);
    assert_eq!((again.asked, store.committed_twice), (0, 0));
}

#[test]
fn aspects_are_looked_up_by_name_and_replies_counted_by_outcome() {
    let aspects = Aspect::read_toml("aspects.toml", aspect::DEFAULT_ASPECTS).unwrap()[..2].to_vec();
    let on = |aspect: &Aspect, distribution, parse| {
        Feedback::from_distribution(&aspect.name, String::new(), distribution, parse)
    };
    let generated = Generated { text: "a".into(), tokens: Vec::new(), logprob: None, complete: true };
    let mut candidate = score::Candidate::new("key".into(), CandidateKind::Sampled, generated);
    candidate.feedback = vec![
        on(&aspects[1], [0.0, 0.0, 1.0], ParseOutcome::Repaired),
        on(&aspects[0], [1.0, 0.0, 0.0], ParseOutcome::Parsed),
        Feedback::failed("another", "too long".into()),
    ];
    let templates = Templates::new(template::DEFAULT_FEEDBACK, template::DEFAULT_REFINE).unwrap();
    let iteration = Iteration {
        config: &MethodConfig::default(),
        number: 0,
        instructions: &instructions(1),
        aspects: &aspects,
        templates: &templates,
        store: &mut MemoryStore::default(),
        progress: &StopAfter(Cell::new(1)),
        checker: None,
        reward: None,
    };
    let summary = iteration.summary(&[CandidateGroup::new(0, vec![candidate])]);
    let sampled: Vec<Option<f64>> = summary.aspects.iter().map(|movement| movement.sampled).collect();
    assert_eq!(sampled, [Some(1.0), Some(3.0)]);
    assert_eq!((summary.feedback, summary.feedback_failed, summary.feedback_repaired), (3, 1, 1));
}

#[test]
fn interrupted_anywhere_it_ends_in_the_same_rows_and_draws_nothing_twice() {
    let mut undisturbed = MemoryStore::default();
    let (mut policy, mut judge) = (CountingPolicy::default(), DigitJudge { calls: 0 });
    let expected = run(&mut undisturbed, u64::MAX, &mut policy, &mut judge).unwrap();
    for stop_after in [1, 7, 64, 149, 150, 151, 200, 300, 340] {
        let mut store = MemoryStore::default();
        let (mut policy_again, mut judge_again) = (CountingPolicy::default(), DigitJudge { calls: 0 });
        let stopped = run(&mut store, stop_after, &mut policy_again, &mut judge_again);
        assert!(matches!(stopped, Err(Error::Interrupted)), "stop after {stop_after}");
        let resumed = run(&mut store, u64::MAX, &mut policy_again, &mut judge_again).unwrap();
        assert_eq!(resumed, expected);
        assert_eq!(store.rows, undisturbed.rows);
        assert_eq!((policy_again.calls, judge_again.calls), (policy.calls, judge.calls));
        assert_eq!(store.committed_twice, 0);
    }
}
