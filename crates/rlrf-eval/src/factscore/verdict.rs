//! Whether a fact is true, given what the person's page says.

use rlrf_method::config::Sampling;
use rlrf_method::seam::{ChoiceRequest, Policy};
use rlrf_method::{Message, Result};
use rlrf_retrieval::Passage;

use super::evaluate::Knowledge;
use crate::choose::choose;
use crate::respond::{Context, Prompt, respond};

/// Longest reply of a model that does not tell probabilities, in tokens.
const REPLY_TOKENS: usize = 128;

/// Words of a reply that speaks neither of true nor of false, and denies.
const DENIALS: [&str; 4] = ["not", "cannot", "unknown", "information"];

/// A fact to be judged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question<'a> {
    /// Unique in its stage.
    pub id: String,
    /// Title of the page.
    pub topic: &'a str,
    /// The fact.
    pub fact: &'a str,
}

/// What was found about a fact.
#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    /// Whether the page supports it; none where nothing could be read, or the question did not fit the context.
    pub supported: Option<bool>,
    /// The probability of "True", against that of "False", where the model tells.
    pub probability: Option<f64>,
    /// The reply, where it does not.
    pub reply: Option<String>,
    /// The passages that the model was shown, the best first.
    pub passages: Vec<Passage>,
}

/// Judges each fact by the `top` passages of its topic's page that match topic and fact best. A model that tells
/// probabilities says that a fact is supported if "True" is more probable than "False"; the reply of another is read by
/// the original's rule.
///
/// Passages that the model's context cannot hold are left out, the last one first.
///
/// # Errors
/// As [`respond`]; the knowledge cannot be searched.
pub fn judge(
    context: &mut Context<'_>,
    stage: &str,
    iteration: u32,
    model: &mut dyn Policy,
    knowledge: &dyn Knowledge,
    questions: &[Question<'_>],
    top: usize,
) -> Result<Vec<Verdict>> {
    let mut verdicts = Vec::with_capacity(questions.len());
    let mut asked = Vec::new();
    let mut choices = Vec::new();
    for (place, question) in questions.iter().enumerate() {
        let mut passages = knowledge.passages(question.topic, question.fact, top)?;
        let messages = loop {
            let messages = vec![Message::user(prompt(question, &passages))];
            if model.fits(&messages)? {
                break Some(messages);
            }
            if passages.pop().is_none() {
                break None;
            }
        };
        verdicts.push(Verdict { supported: None, probability: None, reply: None, passages });
        if let Some(messages) = messages {
            asked.push(place);
            let options = ["True", "False"].map(String::from).to_vec();
            choices.push((question.id.clone(), ChoiceRequest { messages, options }));
        }
    }
    if let Some(chosen) = choose(context, stage, iteration, model, &choices)? {
        for (&place, probabilities) in asked.iter().zip(chosen) {
            let [of_true, of_false] = probabilities[..] else { continue };
            verdicts[place].supported = Some(of_true > of_false);
            verdicts[place].probability = Some(of_true);
        }
        return Ok(verdicts);
    }
    let prompts: Vec<Prompt> = choices
        .into_iter()
        .map(|(id, ChoiceRequest { messages, .. })| Prompt {
            id,
            messages,
            streams: vec![0],
            sampling: Sampling::greedy(REPLY_TOKENS),
        })
        .collect();
    let replies = respond(context, stage, iteration, model, &prompts)?;
    for (&place, reply) in asked.iter().zip(replies.into_iter().flatten()) {
        verdicts[place].supported = read(&reply.text);
        verdicts[place].reply = Some(reply.text);
    }
    Ok(verdicts)
}

/// The original's prompt: the best passage stands last, next to the question.
fn prompt(question: &Question<'_>, passages: &[Passage]) -> String {
    let mut context = format!("Answer the question about {} based on the given context.", question.topic);
    for Passage { title, text, .. } in passages.iter().rev() {
        context.push_str(&format!("\n\nTitle: {title}\nText: {text}"));
    }
    let context = context.trim_end();
    let stop = if context.ends_with(|c: char| c.is_ascii_punctuation()) { "" } else { "." };
    format!("{context}{stop}\n\nInput: {} True or False?\nOutput:", question.fact.trim())
}

/// The original's rule for replies: "true" or "false", whichever stands alone, or else comes last; without either, a
/// denial is false and anything else true. An empty reply says nothing; the original takes it for true.
fn read(reply: &str) -> Option<bool> {
    let reply = reply.to_lowercase();
    if reply.trim().is_empty() {
        return None;
    }
    Some(match (reply.find("true"), reply.find("false")) {
        (Some(is_true), Some(is_false)) => is_true > is_false,
        (Some(_), None) => true,
        (None, Some(_)) => false,
        (None, None) => {
            let letters: String = reply.chars().filter(|c| !c.is_ascii_punctuation()).collect();
            !letters.split_whitespace().any(|word| DENIALS.contains(&word))
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_are_read_by_the_rule() {
        let cases = [
            ("True", Some(true)),
            ("false.", Some(false)),
            ("It is TRUE, nothing more.", Some(true)),
            ("True or False? False", Some(false)),
            ("Not false but true", Some(true)),
            ("Yes.", Some(true)),
            ("I cannot tell.", Some(false)),
            ("There is no \"information\".", Some(false)),
            ("It is noted.", Some(true)),
            (" \n", None),
        ];
        for (reply, expected) in cases {
            assert_eq!(read(reply), expected, "{reply:?}");
        }
    }

    #[test]
    fn the_best_passage_is_next_to_the_question() {
        let passage = |text: &str| Passage { title: "T".into(), text: text.into(), number: 0, score: 1.0 };
        let question = Question { id: String::new(), topic: "T", fact: " It is. " };
        let start = "Answer the question about T based on the given context.";
        let end = "\n\nInput: It is. True or False?\nOutput:";
        assert_eq!(prompt(&question, &[]), format!("{start}{end}"));
        let passages = [passage("best one"), passage("second.")];
        let middle = "\n\nTitle: T\nText: second.\n\nTitle: T\nText: best one.";
        assert_eq!(prompt(&question, &passages), format!("{start}{middle}{end}"));
    }
}
