//! Problems with exact answers that a program checks: the policy's greedy answers, right or wrong.

use std::collections::BTreeMap;

use rlrf_method::config::Sampling;
use rlrf_method::digest::stream;
use rlrf_method::seam::{Checker, Policy};
use rlrf_method::{Instruction, Result};
use serde_json::{Map, json};

use crate::evaluation::{Evaluation, Item, Outcome};
use crate::respond::{Context, Prompt, known_length, respond_if_fits};

/// Name of the benchmark.
pub const BENCHMARK: &str = "problems";

/// Version of its definition.
const DEFINITION: u32 = 1;

/// The policy's greedy answers to `problems`, checked exactly. An answer that cannot be read is wrong, and counted; so
/// is one that the length limit cut off, and one that is not there, since the prompt does not fit the model's context.
///
/// # Errors
/// As [`respond`](crate::respond()); a problem without an answer.
pub fn evaluate(
    context: &mut Context<'_>,
    policy: &mut dyn Policy,
    checker: &dyn Checker,
    (set, iteration): (&str, u32),
    problems: &[Instruction],
    max_new_tokens: usize,
) -> Result<Outcome> {
    let prompt = |problem: &Instruction| Prompt {
        id: problem.id.clone(),
        messages: problem.messages.clone(),
        streams: vec![stream(0, "evaluation", &problem.id, 0)],
        sampling: Sampling::greedy(max_new_tokens),
    };
    let prompts = problems.iter().map(prompt).collect();
    let answers = respond_if_fits(context, &format!("evaluate {set}"), iteration, policy, prompts)?;
    let mut evaluation = Evaluation::new(BENCHMARK, DEFINITION, set);
    evaluation.iteration = iteration;
    for count in ["items", "correct", "unreadable", "incomplete", "prompt_too_long", "tokens_unknown"] {
        evaluation.count(count, 0);
    }
    let mut items = Vec::with_capacity(problems.len());
    for (problem, answer) in problems.iter().zip(&answers) {
        evaluation.count("items", 1);
        let Some(answer) = answer.iter().flatten().next() else {
            evaluation.count("prompt_too_long", 1);
            let detail = [("answer", json!(problem.answer)), ("unanswered", json!("prompt_too_long"))];
            let detail = detail.map(|(name, value)| (name.to_string(), value)).into_iter().collect();
            let scores = BTreeMap::from([("accuracy".to_string(), 0.0)]);
            items.push(Item { id: problem.id.clone(), scores, detail });
            continue;
        };
        let check = checker.check(problem, &answer.text)?;
        evaluation.count("correct", u64::from(check.correct));
        evaluation.count("unreadable", u64::from(!check.readable));
        evaluation.count("incomplete", u64::from(!answer.complete));
        let mut detail = Map::new();
        detail.insert("answer".into(), json!(problem.answer));
        detail.insert("response".into(), json!(answer.text));
        detail.insert("readable".into(), json!(check.readable));
        detail.insert("complete".into(), json!(answer.complete));
        let mut scores = BTreeMap::from([("accuracy".to_string(), f64::from(u8::from(check.correct)))]);
        match known_length(answer) {
            Some(tokens) => {
                scores.insert("mean_tokens".into(), tokens as f64);
            }
            None => evaluation.count("tokens_unknown", 1),
        }
        items.push(Item { id: problem.id.clone(), scores, detail });
    }
    evaluation.add_means(&items);
    evaluation.settings = json!({ "max_new_tokens": max_new_tokens, "checker": checker.digest() });
    evaluation.digests.insert("model".into(), policy.digest());
    evaluation.digests.insert("data".into(), rlrf_method::digest::digest(&problems));
    Ok(Outcome { evaluation, items })
}
