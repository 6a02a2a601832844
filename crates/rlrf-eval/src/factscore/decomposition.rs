//! From a response to atomic facts: sentences by rules, facts by a model that is shown demonstrations.

use rlrf_method::config::Sampling;
use rlrf_method::seam::Policy;
use rlrf_method::{Message, Result};
use rlrf_retrieval::sentences;
use serde::{Deserialize, Serialize};

use super::demonstration::{Demonstration, Demonstrations};
use crate::respond::{Context, Prompt, respond};

/// How the original asks (MIT).
const REQUEST: &str = "Please breakdown the following sentence into independent facts: ";

/// Longest reply, in tokens.
const REPLY_TOKENS: usize = 512;

/// Ends of facts that say nothing alone, such as "He was born."; such a fact goes if another one says it, too.
const UNFINISHED: [&str; 9] = [
    "born.",
    " appointed.",
    " characterized.",
    " described.",
    " known.",
    " member.",
    " advocate.",
    "served.",
    "elected.",
];

/// An end of this kind that does say something.
const FINISHED: &str = "founding member.";

/// A sentence of a response.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sentence {
    /// The sentence.
    pub text: String,
    /// Its facts; none where it is no statement, or no fact could be read in the reply.
    pub facts: Vec<String>,
}

/// Responses in sentences and facts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Decomposition {
    /// The sentences of each response.
    pub responses: Vec<Vec<Sentence>>,
    /// Sentences asked about.
    pub sentences: u64,
    /// Sentences for which the model's context could not hold all demonstrations.
    pub fewer_demonstrations: u64,
    /// Sentences that the model's context could not hold even without demonstrations: they have no facts.
    pub too_long: u64,
    /// Sentences in whose reply no fact could be read.
    pub unreadable: u64,
}

/// Breaks each response, given with its id, into facts.
///
/// # Errors
/// As [`respond`].
pub fn decompose(
    context: &mut Context<'_>,
    stage: &str,
    iteration: u32,
    model: &mut dyn Policy,
    responses: &[(&str, &str)],
) -> Result<Decomposition> {
    let demonstrations = Demonstrations::read()?;
    let mut found = Decomposition::default();
    let mut prompts = Vec::new();
    // Of each prompt: its response and sentence.
    let mut places = Vec::new();
    for (response, (id, text)) in responses.iter().enumerate() {
        let mut all = Vec::new();
        for (number, sentence) in sentences(text).into_iter().enumerate() {
            all.push(Sentence { text: sentence.to_string(), facts: Vec::new() });
            if !states(sentence, number == 0) {
                continue;
            }
            found.sentences += 1;
            let shown = demonstrations.chosen(sentence);
            let Some((messages, dropped)) = fitting(model, &shown, sentence)? else {
                found.too_long += 1;
                continue;
            };
            found.fewer_demonstrations += u64::from(dropped);
            let sampling =
                Sampling { stop: vec![REQUEST.trim_end().to_string()], ..Sampling::greedy(REPLY_TOKENS) };
            prompts.push(Prompt { id: format!("{id}/{number}"), messages, streams: vec![0], sampling });
            places.push((response, number));
        }
        found.responses.push(all);
    }
    let replies = respond(context, stage, iteration, model, &prompts)?;
    for ((response, number), reply) in places.into_iter().zip(replies.iter().flatten()) {
        let facts = tidied(read_facts(&reply.text));
        found.unreadable += u64::from(facts.is_empty());
        found.responses[response][number].facts = facts;
    }
    Ok(found)
}

/// Whether the sentence tells something: replies may begin with a courtesy.
fn states(sentence: &str, first: bool) -> bool {
    let begins = |start: &str| sentence.starts_with(start);
    !(begins("Sure")
        || begins("Please")
        || begins("This sentence does not contain any facts")
        || (first && begins("Here are")))
}

/// The prompt with as many demonstrations as the context holds, and whether some were dropped: the one most like the
/// sentence stays the longest.
fn fitting(
    model: &dyn Policy,
    shown: &[&Demonstration],
    sentence: &str,
) -> Result<Option<(Vec<Message>, bool)>> {
    for dropped in 0..=shown.len() {
        let messages = vec![Message::user(prompt(&shown[dropped..], sentence))];
        if model.fits(&messages)? {
            return Ok(Some((messages, dropped > 0)));
        }
    }
    Ok(None)
}

fn prompt(shown: &[&Demonstration], sentence: &str) -> String {
    let mut prompt = String::new();
    for demonstration in shown {
        prompt.push_str(&format!("{REQUEST}{}\n", demonstration.sentence));
        demonstration.facts.iter().for_each(|fact| prompt.push_str(&format!("- {fact}\n")));
        prompt.push('\n');
    }
    prompt + REQUEST + sentence
}

/// The facts of a reply: the lines of its first list, a mark before each. A fact without an end gets its full stop.
fn read_facts(reply: &str) -> Vec<String> {
    let mut facts = Vec::new();
    for line in reply.lines().map(str::trim).filter(|line| !line.is_empty()) {
        match listed(line) {
            Some("") => {}
            Some(fact) if fact.ends_with(['.', '!', '?']) => facts.push(fact.to_string()),
            Some(fact) => facts.push(format!("{fact}.")),
            None if facts.is_empty() => {}
            None => break,
        }
    }
    facts
}

/// What follows the mark of a list: `-`, `*`, `•`, or a number with a full stop or bracket.
fn listed(line: &str) -> Option<&str> {
    if let Some(fact) = line.strip_prefix(['-', '*', '•', '–']) {
        return (fact.is_empty() || fact.starts_with(char::is_whitespace)).then(|| fact.trim());
    }
    let rest = line.trim_start_matches(|c: char| c.is_ascii_digit());
    let fact = rest.strip_prefix(['.', ')']).filter(|_| rest.len() < line.len())?;
    fact.starts_with(char::is_whitespace).then(|| fact.trim())
}

/// Without facts that say nothing beside the others, each once.
fn tidied(facts: Vec<String>) -> Vec<String> {
    let mut kept: Vec<String> = Vec::new();
    for (place, fact) in facts.iter().enumerate() {
        let unfinished = UNFINISHED.iter().any(|end| fact.ends_with(end)) && !fact.ends_with(FINISHED);
        let start = &fact[..fact.len() - 1];
        let said_elsewhere =
            || facts.iter().enumerate().any(|(other, text)| other != place && text.contains(start));
        if !(kept.contains(fact) || unfinished && said_elsewhere()) {
            kept.push(fact.clone());
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_are_the_lines_of_the_first_list() {
        let reply = "Here are the facts:\n\n- He acts.\n* He was born in 1949-1950\n\n2) He sings!\n\nI hope this helps.\n- No.";
        assert_eq!(read_facts(reply), ["He acts.", "He was born in 1949-1950.", "He sings!"]);
        for reply in ["", "He acts.", "-5 degrees", "1999 was a year", "- \n-"] {
            assert_eq!(read_facts(reply), Vec::<String>::new(), "{reply:?}");
        }
    }

    #[test]
    fn facts_that_say_nothing_beside_the_others_go() {
        let facts = [
            "He was born.",
            "He was born in Rome.",
            "He was elected.",
            "He acts.",
            "He acts.",
            "He is a founding member.",
            "He is a founding member of X.",
        ];
        let expected = [
            "He was born in Rome.",
            "He was elected.",
            "He acts.",
            "He is a founding member.",
            "He is a founding member of X.",
        ];
        assert_eq!(tidied(facts.map(String::from).to_vec()), expected);
    }

    #[test]
    fn courtesies_state_nothing() {
        for sentence in ["Sure, here is a bio.", "Please tell me more.", "Here are some facts."] {
            assert!(!states(sentence, true), "{sentence}");
        }
        assert!(states("Here are his films.", false) && states("He acts.", true));
    }

    #[test]
    fn the_prompt_ends_with_the_sentence() {
        let demonstration = Demonstration { sentence: "A b.".into(), facts: vec!["A.".into(), "B.".into()] };
        let request = "Please breakdown the following sentence into independent facts:";
        assert_eq!(
            prompt(&[&demonstration], "C d."),
            format!("{request} A b.\n- A.\n- B.\n\n{request} C d.")
        );
    }
}
