//! Questions that are trained on must not be among those that a model is measured on.

use std::collections::{HashMap, HashSet};

use anyhow::{Result, bail};
use rlrf_method::{Message, Role};

use crate::evaluate::MeasuredSet;

/// A question of at least so many words is also found inside a longer prompt.
const WORDS: usize = 8;

/// Shared questions that a refusal names.
const NAMED: usize = 5;

/// The questions that a run trains on, and where each was found first.
#[derive(Default)]
pub(crate) struct Trained {
    questions: Vec<(String, String)>,
    known: HashSet<String>,
}

impl Trained {
    /// Every question of a conversation: a refinement asks again after the one that counts.
    pub(crate) fn add(&mut self, messages: &[Message], place: &str) {
        for message in messages.iter().filter(|message| message.role == Role::User) {
            let question = normalised(&message.content);
            if self.known.insert(question.clone()) {
                self.questions.push((question, place.to_string()));
            }
        }
    }

    /// Refuses evaluation sets with one of these questions, naming those that train on it.
    pub(crate) fn refuse(&self, sets: &[Box<dyn MeasuredSet>]) -> Result<()> {
        sets.iter().try_for_each(|set| {
            self.refuse_questions(&set.questions(), &format!("the evaluation set {:?}", set.name()))
        })
    }

    /// The same of questions from `place`.
    pub(crate) fn refuse_questions(&self, questions: &[impl AsRef<str>], place: &str) -> Result<()> {
        let shared = self.shared(questions);
        if shared.is_empty() {
            return Ok(());
        }
        let more = if shared.len() > NAMED { ", ..." } else { "" };
        bail!(
            "{} questions that are trained on are also in {place} ({}{more}); take them out, or set \
             evaluation.allow_overlap = true and do not trust its numbers",
            shared.len(),
            shared[..shared.len().min(NAMED)].join(", "),
        )
    }

    /// The places that train on one of `questions`: that ask it, or, where it is long enough to be no accident, a
    /// longer prompt that holds it whole.
    fn shared<S: AsRef<str>>(&self, questions: &[S]) -> Vec<&str> {
        let questions: HashSet<String> =
            questions.iter().map(|question| normalised(question.as_ref())).collect();
        let mut by_beginning: HashMap<&str, Vec<&str>> = HashMap::new();
        for question in &questions {
            if let Some(beginning) = word_windows(question).next() {
                by_beginning.entry(beginning.1).or_default().push(question);
            }
        }
        let holds = |text: &str| {
            word_windows(text).any(|(start, window)| {
                by_beginning.get(window).is_some_and(|questions| {
                    questions.iter().any(|question| {
                        text[start..]
                            .strip_prefix(question)
                            .is_some_and(|rest| rest.is_empty() || rest.starts_with(' '))
                    })
                })
            })
        };
        let is_shared = |text: &str| questions.contains(text) || holds(text);
        self.questions.iter().filter(|(text, _)| is_shared(text)).map(|(_, place)| place.as_str()).collect()
    }
}

/// Every run of [`WORDS`] words of a normalised text, and where it starts.
fn word_windows(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut starts: Vec<usize> = vec![0];
    starts.extend(text.match_indices(' ').map(|(place, _)| place + 1));
    // Where the words end: one before the next start.
    (WORDS..=starts.len()).map(move |end| {
        let stop = starts.get(end).map_or(text.len(), |start| start - 1);
        (starts[end - WORDS], &text[starts[end - WORDS]..stop])
    })
}

/// With case, white space and punctuation evened out. The signs of arithmetic stay: `3 + 4` is not `3 - 4`.
fn normalised(question: &str) -> String {
    let characters: Vec<char> = question.chars().collect();
    let is_digit = |place: Option<usize>| {
        place.and_then(|place| characters.get(place)).is_some_and(char::is_ascii_digit)
    };
    let mut text = String::with_capacity(question.len());
    for (place, &c) in characters.iter().enumerate() {
        let between_digits = is_digit(place.checked_sub(1)) && is_digit(Some(place + 1));
        let next = (place + 1..characters.len()).find(|&next| !characters[next].is_whitespace());
        match c {
            c if c.is_alphanumeric() => text.extend(c.to_lowercase()),
            ',' if between_digits => {}
            '.' if between_digits => text.push('.'),
            '+' | '*' | '/' | '=' | '<' | '>' | '^' | '%' => text.extend([' ', c, ' ']),
            '-' if is_digit(next) => text.push_str(" - "),
            '\'' | '’' => {}
            _ => text.push(' '),
        }
    }
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trained(prompts: &[&str]) -> Trained {
        let mut trained = Trained::default();
        for (number, prompt) in (1..).zip(prompts) {
            trained.add(&[Message::user(*prompt)], &format!("instruction {number}"));
        }
        trained
    }

    #[test]
    fn the_same_question_is_found_however_it_is_dressed() {
        let question =
            "Janet's ducks lay 16 eggs per day. She sells 1,000 eggs for $2.50 each; how much is that?";
        let dressed = [
            "janets ducks lay 16 eggs per day -- she sells 1000 EGGS for $2.50 each. How much is that",
            "Solve this:\n\nJanet’s ducks lay 16 eggs per day. She sells 1,000 eggs for $2.50 each; how much is that? Explain.",
        ];
        assert_eq!(trained(&dressed).shared(&[question]), ["instruction 1", "instruction 2"]);
        let others = [
            "Janet's ducks lay 17 eggs per day. She sells 1,000 eggs for $2.50 each; how much is that?",
            "Janet's ducks lay 16 eggs per day. She sells 1,000 eggs for $250 each; how much is that?",
            "She sells 1,000 eggs for $2.50 each; how much is that?",
        ];
        assert!(trained(&others).shared(&[question]).is_empty());
    }

    #[test]
    fn short_questions_must_be_the_same_and_signs_tell_them_apart() {
        let found = trained(&["What is 3 + 4", "what is 3+4?", "What is 3 - 4?", "Say: what is 3 + 4?"]);
        assert_eq!(found.shared(&["What is 3 + 4?"]), ["instruction 1"]);
    }
}
