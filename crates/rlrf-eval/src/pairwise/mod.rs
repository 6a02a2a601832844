//! Pairwise judging: of two responses to the same question, which one does a judge prefer, in both orders?

mod file;
mod length;
mod question;
mod score;
mod template;

use rlrf_method::config::Sampling;
use rlrf_method::digest::{digest, stream};
use rlrf_method::seam::Policy;
use rlrf_method::{Message, Result};
use serde_json::json;

pub use file::{read_answers, read_replies};
pub use length::length_controlled_win_rate;
pub use question::PairQuestion;
pub use score::{Compared, Missing, score};
pub use template::TEMPLATE;

use crate::evaluation::Outcome;
use crate::judging::{Asking, Question};
use crate::reply::PairReply;
use crate::respond::{Context, Prompt, respond};

/// Name of the benchmark.
pub const BENCHMARK: &str = "pairwise";

/// Version of its definition.
pub const DEFINITION: u32 = 1;

/// One model's responses to the turns of a question; fewer than it has turns where one did not fit its context, or
/// a file has fewer.
pub type Answers = Vec<String>;

/// The policy's responses to the turns of each question, one turn after the other.
///
/// # Errors
/// As [`respond`].
pub fn answer(
    context: &mut Context<'_>,
    iteration: u32,
    policy: &mut dyn Policy,
    questions: &[PairQuestion],
    sampling: &Sampling,
) -> Result<Vec<Answers>> {
    let mut answers: Vec<Answers> = vec![Vec::new(); questions.len()];
    let turns = questions.iter().map(PairQuestion::turns).max().unwrap_or_default();
    for turn in 0..turns {
        let (mut places, mut prompts) = (Vec::new(), Vec::new());
        for (place, question) in questions.iter().enumerate() {
            if turn >= question.turns() || answers[place].len() < turn {
                continue;
            }
            let messages = question.conversation(&answers[place]);
            if policy.fits(&messages)? {
                let id = format!("{}/{}", question.id, turn + 1);
                let streams = vec![stream(0, "evaluation", &id, 0)];
                prompts.push(Prompt { id, messages, streams, sampling: sampling.clone() });
                places.push(place);
            }
        }
        let generated =
            respond(context, &format!("pairwise respond, turn {}", turn + 1), iteration, policy, &prompts)?;
        for (place, generated) in places.into_iter().zip(generated.into_iter().flatten()) {
            answers[place].push(generated.text);
        }
    }
    Ok(answers)
}

/// The judge's verdicts on every turn of every question, each asked for in both orders.
///
/// Equal responses are a tie without being judged.
///
/// # Errors
/// As [`respond`].
pub fn compare(
    context: &mut Context<'_>,
    iteration: u32,
    judge: &mut dyn Policy,
    questions: &[PairQuestion],
    (a, b): (&[Answers], &[Answers]),
    sampling: &Sampling,
) -> Result<Vec<Compared>> {
    let mut compared = Vec::new();
    // Of each request: the place of its comparison, and whether B is shown first.
    let (mut places, mut requests) = (Vec::new(), Vec::new());
    for (question, (a, b)) in questions.iter().zip(a.iter().zip(b)) {
        for turn in 0..question.turns() {
            let mut comparison = Compared::new(question, turn);
            match (a.get(..=turn), b.get(..=turn)) {
                (Some(a), Some(b)) => {
                    comparison.responses = Some([a[turn].clone(), b[turn].clone()]);
                    for (swapped, shown) in [(false, [a, b]), (true, [b, a])] {
                        if a != b {
                            let id = format!("{}/{}", comparison.id, if swapped { "ba" } else { "ab" });
                            let messages = template::judge_prompt(question, turn, shown);
                            places.push((compared.len(), swapped));
                            requests.push(Question { id, messages });
                        }
                    }
                }
                _ => comparison.missing = Some(Missing::NoResponse),
            }
            compared.push(comparison);
        }
    }
    let asking = Asking { stage: "pairwise judge", iteration, sampling, again: template::AGAIN };
    let replies =
        asking.ask(context, judge, &requests, |_, reply| PairReply::read(reply).preference.is_some())?;
    for ((place, swapped), replies) in places.into_iter().zip(replies) {
        if replies.is_empty() {
            compared[place].missing = Some(Missing::JudgePromptTooLong);
        }
        compared[place].replies[usize::from(swapped)] = replies;
    }
    Ok(compared)
}

/// The whole evaluation with a judge.
///
/// # Errors
/// As [`respond`].
pub fn evaluate(
    context: &mut Context<'_>,
    (set, iteration): (&str, u32),
    judge: &mut dyn Policy,
    questions: &[PairQuestion],
    answers: (&[Answers], &[Answers]),
    sampling: &Sampling,
) -> Result<Outcome> {
    let compared = compare(context, iteration, judge, questions, answers, sampling)?;
    let mut outcome = score(set, &compared);
    let evaluation = &mut outcome.evaluation;
    evaluation.iteration = iteration;
    evaluation.settings = json!({ "template": TEMPLATE, "judge_sampling": sampling });
    evaluation.digests.insert("template".into(), template::templates_digest());
    evaluation.digests.insert("judge".into(), judge.digest());
    evaluation.digests.insert("data".into(), digest(&questions));
    Ok(outcome)
}

/// A conversation's text for a judge: the last message alone, or all with their roles.
fn conversation_text(messages: &[Message]) -> String {
    match messages {
        [only] => only.content.clone(),
        many => many
            .iter()
            .map(|message| format!("{}: {}", message.role.name(), message.content))
            .collect::<Vec<_>>()
            .join("\n\n"),
    }
}
