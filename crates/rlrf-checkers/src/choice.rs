//! The letter that a response chooses, against the instruction's answer.

use regex::Regex;
use rlrf_method::seam::{Check, Checker};
use rlrf_method::{Instruction, Result};

use crate::{answer, bad, check};

/// Reads, in this order: what follows the last "answer is" or "answer:", the last `\boxed{}`, the letter that begins the
/// response or stands in parentheses, if that is one and the same. Anything else is unreadable, rather than another letter
/// than was meant.
pub(crate) struct ChoiceChecker {
    digest: String,
    letters: String,
    /// Where a response says its answer, in the order in which they are tried; the first group is the letter.
    said: [Regex; 2],
    /// Where it may show its answer without saying so.
    shown: [Regex; 2],
}

impl ChoiceChecker {
    pub(crate) fn new(digest: String, letters: &str) -> Result<Self> {
        let each = |good: fn(char) -> bool| letters.chars().all(good);
        let distinct = letters.chars().enumerate().all(|(place, c)| letters.find(c) == Some(place));
        if letters.len() < 2 || !each(|c| c.is_ascii_uppercase()) || !distinct {
            let message = "must be at least two different capital letters, such as \"ABCD\"";
            return Err(bad("letters", format!("{letters:?}"), message));
        }
        let compile =
            |pattern: String| Regex::new(&pattern).map_err(|e| bad("letters", letters, e.to_string()));
        let letter = format!("[(\\[*]*([{letters}])");
        Ok(Self {
            digest,
            letters: letters.to_string(),
            said: [
                compile(format!(r"(?i:\banswer(?:\s+is|\s*:)+)[\s:*]*{letter}(?:[^\w']|$)"))?,
                compile(format!(r"\\boxed\{{(?:\\text\{{)?\s*([{letters}])\s*\}}"))?,
            ],
            shown: [
                compile(format!(r"^\s*{letter}(?:[).:\]*]|\s*$)"))?,
                compile(format!(r"\(([{letters}])\)"))?,
            ],
        })
    }

    fn chosen(&self, response: &str) -> Option<char> {
        let letter = |captures: regex::Captures<'_>| captures.get(1)?.as_str().chars().next();
        if let Some(said) = self.said.iter().find_map(|pattern| pattern.captures_iter(response).last()) {
            return letter(said);
        }
        let mut shown =
            self.shown.iter().flat_map(|pattern| pattern.captures_iter(response)).filter_map(letter);
        let first = shown.next()?;
        shown.all(|other| other == first).then_some(first)
    }

    /// `B`, `(B)` or `B.`, as files have it.
    fn gold(&self, answer: &str) -> Option<char> {
        let bare = answer.trim().trim_start_matches('(').trim_end_matches([')', '.']);
        let mut characters = bare.chars().map(|c| c.to_ascii_uppercase());
        let only = characters.next().filter(|&c| self.letters.contains(c))?;
        characters.next().is_none().then_some(only)
    }
}

impl Checker for ChoiceChecker {
    fn digest(&self) -> String {
        self.digest.clone()
    }

    fn check(&self, instruction: &Instruction, response: &str) -> Result<Check> {
        let expected = format!("one of the letters {}", self.letters);
        let answer = answer(instruction, &expected, |text| self.gold(text))?;
        Ok(match self.chosen(response) {
            None => check(
                1,
                false,
                format!("The response does not say clearly which of {} it chooses.", self.letters),
            ),
            Some(chosen) if chosen == answer => check(3, true, format!("The choice, {chosen}, is right.")),
            Some(chosen) => check(1, true, format!("The choice, {chosen}, is wrong.")),
        })
    }
}
