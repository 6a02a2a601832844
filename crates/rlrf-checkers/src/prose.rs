//! Whole sentences of known words.

use std::collections::HashSet;

use rlrf_method::seam::{Check, Checker};
use rlrf_method::{Instruction, Result};

use crate::{bad, check};

/// Each unknown word, each word that stands twice in a row in a sentence, and a missing end are one fault: level 3 has none, level 2 has
/// one. Case does not matter, nor does punctuation beside words.
pub(crate) struct ProseChecker {
    digest: String,
    words: HashSet<String>,
}

impl ProseChecker {
    pub(crate) fn new(digest: String, words: &str) -> Result<Self> {
        let words: HashSet<String> = words_of(words).map(str::to_lowercase).collect();
        if words.is_empty() {
            return Err(bad("words", "\"\"", "give the words that are known, with spaces between"));
        }
        Ok(Self { digest, words })
    }
}

impl Checker for ProseChecker {
    fn digest(&self) -> String {
        self.digest.clone()
    }

    fn check(&self, _: &Instruction, response: &str) -> Result<Check> {
        let response = response.trim();
        let mut faults = Vec::new();
        for sentence in response.split(['.', '!', '?']) {
            let mut before = String::new();
            for word in words_of(sentence) {
                let word = word.to_lowercase();
                if !self.words.contains(&word) {
                    faults.push(format!("{word:?} is no known word."));
                } else if word == before {
                    faults.push(format!("{word:?} stands twice."));
                }
                before = word;
            }
        }
        if !response.trim_end_matches(['"', '\'', ')', '”', '’']).ends_with(['.', '!', '?']) {
            faults.push("The last sentence has no end.".to_string());
        }
        let level = match faults.len() {
            _ if words_of(response).next().is_none() => 1,
            0 => return Ok(check(3, true, "Whole sentences of known words.".into())),
            1 => 2,
            _ => 1,
        };
        Ok(check(level, true, faults.join(" ")))
    }
}

/// Runs of letters and digits, with apostrophes inside them.
fn words_of(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !(c.is_alphanumeric() || matches!(c, '\'' | '’')))
        .map(|word| word.trim_matches(['\'', '’']))
        .filter(|word| !word.is_empty())
}
