//! How well a reward model orders preference pairs that it did not learn.

use std::collections::BTreeMap;

use rlrf_method::Result;
use rlrf_method::pairs::PreferenceGroup;
use rlrf_method::reward::{ScoredResponses, rewards};
use rlrf_method::seam::Reward;
use serde_json::{Map, json};

use crate::evaluation::{Evaluation, Item, Outcome};
use crate::respond::Context;
use crate::statistics::bootstrap;

/// Name of the benchmark.
pub const BENCHMARK: &str = "reward";

/// Version of its definition.
const DEFINITION: u32 = 1;

/// `accuracy`, the share of pairs whose chosen response has the higher reward (equal ones count as wrong), and `margin`, the
/// mean of chosen minus rejected reward. Pairs of one instruction have much in common: the intervals are by bootstrap over
/// the instructions. A pair with a response that the model cannot read whole is excluded, and counted as `too_long`.
///
/// # Errors
/// A failure of model or store, or the user's interruption; what is finished is kept.
pub fn evaluate(
    context: &mut Context<'_>,
    reward: &mut dyn Reward,
    set: &str,
    groups: &[PreferenceGroup],
) -> Result<Outcome> {
    let scored: Vec<ScoredResponses<'_>> = groups
        .iter()
        .map(|group| ScoredResponses {
            instruction: &group.instruction,
            messages: &group.messages,
            responses: group.candidates.iter().map(|candidate| candidate.text.as_str()).collect(),
        })
        .collect();
    let stage = format!("reward {set}");
    let rewards = rewards(reward, &scored, &stage, 0, context.store, context.progress)?;
    let mut evaluation = Evaluation::new(BENCHMARK, DEFINITION, set);
    for count in ["items", "instructions", "too_long"] {
        evaluation.count(count, 0);
    }
    let mut items = Vec::new();
    // Of each instruction: its gaps between chosen and rejected.
    let mut gaps: Vec<Vec<f64>> = Vec::new();
    for (group, rewards) in groups.iter().zip(&rewards) {
        let mut own = Vec::new();
        for &(chosen, rejected) in &group.pairs {
            evaluation.count("items", 1);
            let (chosen_text, rejected_text) =
                (&group.candidates[chosen].text, &group.candidates[rejected].text);
            let mut scores = BTreeMap::new();
            match (rewards[chosen], rewards[rejected]) {
                (Some(chosen), Some(rejected)) => {
                    scores.insert("accuracy".to_string(), f64::from(u8::from(chosen > rejected)));
                    scores.insert("margin".to_string(), chosen - rejected);
                    own.push(chosen - rejected);
                }
                _ => evaluation.count("too_long", 1),
            }
            let detail = Map::from_iter([
                ("instruction".to_string(), json!(group.instruction)),
                ("chosen".to_string(), json!(chosen_text)),
                ("rejected".to_string(), json!(rejected_text)),
                ("chosen_reward".to_string(), json!(rewards[chosen])),
                ("rejected_reward".to_string(), json!(rewards[rejected])),
            ]);
            items.push(Item { id: (items.len() + 1).to_string(), scores, detail });
        }
        if !own.is_empty() {
            evaluation.count("instructions", 1);
            gaps.push(own);
        }
    }
    let won = |gap: f64| f64::from(u8::from(gap > 0.0));
    for name in ["accuracy", "margin"] {
        let score = |gap: f64| if name == "accuracy" { won(gap) } else { gap };
        let mean = |sample: &[usize]| {
            let gaps = sample.iter().flat_map(|&instruction| &gaps[instruction]);
            let (sum, pairs) = gaps.fold((0.0, 0.0), |(sum, pairs), &gap| (sum + score(gap), pairs + 1.0));
            (pairs > 0.0).then(|| sum / pairs)
        };
        let all: Vec<usize> = (0..gaps.len()).collect();
        if let (Some(value), Some(interval)) = (mean(&all), bootstrap(gaps.len(), mean)) {
            evaluation.metrics.insert(name.into(), value);
            evaluation.intervals.insert(name.into(), interval);
        }
    }
    evaluation.digests.insert("model".into(), reward.digest());
    Ok(Outcome { evaluation, items })
}
