//! Texts that a response must and must not hold.

use rlrf_method::seam::{Check, Checker};
use rlrf_method::{Instruction, Result};

use crate::{answer, bad, check};

/// Every text of `all` and of `none`, and the list `any` as one, is a demand: level 3 keeps all of them, level 2 more than
/// half.
pub(crate) struct ContainsChecker {
    digest: String,
    all: Vec<String>,
    any: Vec<String>,
    none: Vec<String>,
    /// Whether the parts of the instruction's answer are demands, too.
    answer: bool,
    matching: Matching,
}

/// When a response holds a text.
#[derive(Clone, Copy)]
pub(crate) struct Matching {
    pub(crate) whole_words: bool,
    pub(crate) ignore_case: bool,
}

impl Matching {
    fn cased(self, text: &str) -> String {
        if self.ignore_case { text.to_lowercase() } else { text.to_string() }
    }

    fn holds(self, response: &str, text: &str) -> bool {
        let (response, text) = (self.cased(response), self.cased(text));
        let apart = |beside: Option<char>| !self.whole_words || !beside.is_some_and(char::is_alphanumeric);
        response.match_indices(&text).any(|(place, found)| {
            apart(response[..place].chars().next_back())
                && apart(response[place + found.len()..].chars().next())
        })
    }
}

impl ContainsChecker {
    pub(crate) fn new(
        digest: String,
        [all, any, none]: [&Vec<String>; 3],
        answer: bool,
        matching: Matching,
    ) -> Result<Self> {
        for (field, texts) in [("all", all), ("any", any), ("none", none)] {
            if texts.iter().any(|text| text.trim().is_empty()) {
                return Err(bad(
                    field,
                    format!("{texts:?}"),
                    "holds an empty text, which every response has",
                ));
            }
        }
        if all.is_empty() && any.is_empty() && none.is_empty() && !answer {
            return Err(bad("all", "[]", "give texts here, or in `any` or `none`, or set `answer = true`"));
        }
        let [all, any, none] = [all, any, none].map(Clone::clone);
        Ok(Self { digest, all, any, none, answer, matching })
    }

    /// What the response must hold.
    fn demanded(&self, instruction: &Instruction) -> Result<Vec<String>> {
        let mut demanded = self.all.clone();
        if self.answer {
            demanded.extend(answer(instruction, "the parts of it, with commas between", |text| {
                let parts: Vec<String> = text
                    .split(',')
                    .map(|part| part.trim().to_string())
                    .filter(|part| !part.is_empty())
                    .collect();
                (!parts.is_empty()).then_some(parts)
            })?);
        }
        Ok(demanded)
    }
}

impl Checker for ContainsChecker {
    fn digest(&self) -> String {
        self.digest.clone()
    }

    fn check(&self, instruction: &Instruction, response: &str) -> Result<Check> {
        let all = self.demanded(instruction)?;
        let holds = |text: &&String| self.matching.holds(response, text);
        let missing: Vec<&String> = all.iter().filter(|text| !holds(text)).collect();
        let forbidden: Vec<&String> = self.none.iter().filter(holds).collect();
        let none_of_any = !self.any.is_empty() && !self.any.iter().any(|text| holds(&text));
        let mut faults = Vec::new();
        if !missing.is_empty() {
            faults.push(format!("The response lacks {}.", listed(&missing, "and")));
        }
        if none_of_any {
            let any: Vec<&String> = self.any.iter().collect();
            faults.push(format!("The response has none of {}.", listed(&any, "and")));
        }
        if !forbidden.is_empty() {
            faults.push(format!("The response must not have {}.", listed(&forbidden, "or")));
        }
        if faults.is_empty() {
            return Ok(check(3, true, "The response has what it must and nothing that it must not.".into()));
        }
        let demands = all.len() + self.none.len() + usize::from(!self.any.is_empty());
        let broken = missing.len() + forbidden.len() + usize::from(none_of_any);
        let level = if 2 * broken < demands { 2 } else { 1 };
        Ok(check(level, true, faults.join(" ")))
    }
}

/// `"a", "b" and "c"`.
fn listed(texts: &[&String], word: &str) -> String {
    let quoted: Vec<String> = texts.iter().map(|text| format!("{text:?}")).collect();
    match quoted.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, others)) => format!("{} {word} {last}", others.join(", ")),
        None => String::new(),
    }
}
