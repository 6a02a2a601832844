//! Texts that a response must and must not hold.

use rlrf_method::seam::{Check, Checker};
use rlrf_method::{Instruction, Result};

use crate::{bad, check};

/// Every text of `all` and of `none`, and the list `any` as one, is a demand: level 3 keeps all of them, level 2 more than
/// half.
pub(crate) struct ContainsChecker {
    digest: String,
    all: Vec<String>,
    any: Vec<String>,
    none: Vec<String>,
    ignore_case: bool,
}

impl ContainsChecker {
    pub(crate) fn new(
        digest: String,
        [all, any, none]: [&Vec<String>; 3],
        ignore_case: bool,
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
        if all.is_empty() && any.is_empty() && none.is_empty() {
            return Err(bad("all", "[]", "give texts here, or in `any` or `none`"));
        }
        let [all, any, none] = [all, any, none].map(Clone::clone);
        Ok(Self { digest, all, any, none, ignore_case })
    }

    fn cased(&self, text: &str) -> String {
        if self.ignore_case { text.to_lowercase() } else { text.to_string() }
    }
}

impl Checker for ContainsChecker {
    fn digest(&self) -> String {
        self.digest.clone()
    }

    fn check(&self, _: &Instruction, response: &str) -> Result<Check> {
        let response = self.cased(response);
        let holds = |text: &&String| response.contains(&self.cased(text));
        let missing: Vec<&String> = self.all.iter().filter(|text| !holds(text)).collect();
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
        let demands = self.all.len() + self.none.len() + usize::from(!self.any.is_empty());
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
