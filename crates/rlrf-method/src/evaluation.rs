//! Exact-match accuracy of a policy on a set of problems.

use serde::{Deserialize, Serialize};

use crate::committer::{Committer, read_row, write_row};
use crate::config::Sampling;
use crate::digest::{digest, stream};
use crate::error::{Error, Result};
use crate::instruction::Instruction;
use crate::iteration::generation_key;
use crate::row::{Row, RowStore, Table};
use crate::seam::{Checker, Generated, GenerationRequest, Policy, Progress};

/// What an evaluation found. An unreadable answer is wrong, and counted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// Name of the set.
    pub set: String,
    /// Iteration of the policy.
    pub iteration: u32,
    /// Problems.
    pub problems: u64,
    /// Right answers.
    pub correct: u64,
    /// Answers that could not be read (wrong, too).
    pub unreadable: u64,
    /// `correct / problems`.
    pub accuracy: f64,
    /// Mean length of the answers, in tokens.
    pub mean_tokens: f64,
}

/// The policy's greedy answers to `problems`, checked exactly; answers already in the store are not drawn again.
///
/// # Errors
/// A failure of model or store; a problem without an answer; the user's interruption.
pub fn evaluate(
    store: &mut dyn RowStore,
    progress: &dyn Progress,
    policy: &mut dyn Policy,
    checker: &dyn Checker,
    (set, iteration): (&str, u32),
    problems: &[Instruction],
    max_new_tokens: usize,
) -> Result<Evaluation> {
    let sampling = Sampling::greedy(max_new_tokens);
    let model = policy.digest();
    let mut answers: Vec<Option<Generated>> = Vec::with_capacity(problems.len());
    let mut requests = Vec::new();
    let mut missing: Vec<(usize, String)> = Vec::new();
    for (index, problem) in problems.iter().enumerate() {
        let stream = stream(0, "evaluation", &problem.id, 0);
        let key = digest(&(set, generation_key(&model, &problem.messages, &sampling, stream)));
        let known = store.get(Table::Generations, &key)?;
        if known.is_none() {
            requests.push(GenerationRequest {
                messages: problem.messages.clone(),
                streams: vec![stream],
                sampling: sampling.clone(),
            });
            missing.push((index, key.clone()));
        }
        answers.push(known.map(|body| read_row(Table::Generations, &key, body)).transpose()?);
    }
    progress.begin(
        &format!("evaluate {set} M_{iteration}"),
        problems.len() as u64,
        (problems.len() - missing.len()) as u64,
    );
    let mut committer = Committer::new(store);
    let generated = policy.generate(&requests, &mut |request, _, generated| {
        let (index, key) = &missing[request];
        let check = checker.check(&problems[*index], &generated.text)?;
        let mut body = write_row(Table::Generations, key, &generated)?;
        body["kind"] = "evaluation".into();
        body["set"] = set.into();
        body["correct"] = check.correct.into();
        progress.advance(1, generated.tokens.len() as u64);
        answers[*index] = Some(generated);
        committer.push(
            Table::Generations,
            Row {
                key: key.clone(),
                iteration,
                instruction: format!("{set}/{}", problems[*index].id),
                position: 0,
                body,
            },
        )?;
        if progress.interrupted() { Err(Error::Interrupted) } else { Ok(()) }
    });
    committer.flush()?;
    progress.end();
    generated?;
    let mut evaluation = Evaluation {
        set: set.to_string(),
        iteration,
        problems: problems.len() as u64,
        correct: 0,
        unreadable: 0,
        accuracy: 0.0,
        mean_tokens: 0.0,
    };
    let mut tokens = 0;
    for (problem, answer) in problems.iter().zip(&answers) {
        let answer = answer
            .as_ref()
            .ok_or_else(|| Error::Backend(format!("no answer came back for {}", problem.id)))?;
        let check = checker.check(problem, &answer.text)?;
        evaluation.correct += u64::from(check.correct);
        evaluation.unreadable += u64::from(!check.readable);
        tokens += answer.tokens.len();
    }
    evaluation.accuracy = evaluation.correct as f64 / problems.len().max(1) as f64;
    evaluation.mean_tokens = tokens as f64 / problems.len().max(1) as f64;
    Ok(evaluation)
}
