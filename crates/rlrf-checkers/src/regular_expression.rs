//! Regular expressions that a response must and must not match.

use regex::{Regex, RegexBuilder};
use rlrf_method::seam::{Check, Checker};
use rlrf_method::{Instruction, Result};

use crate::{bad, check};

/// Compiled patterns take this many bytes at most.
const SIZE_LIMIT: usize = 1 << 22;

/// Linear in the length of the response, whatever the pattern.
pub(crate) struct RegexChecker {
    digest: String,
    must_match: Option<Regex>,
    must_not_match: Option<Regex>,
}

impl RegexChecker {
    pub(crate) fn new(
        digest: String,
        must_match: Option<&str>,
        must_not_match: Option<&str>,
    ) -> Result<Self> {
        if must_match.is_none() && must_not_match.is_none() {
            return Err(bad("must_match", "(none)", "give a pattern here, or in `must_not_match`"));
        }
        let compile = |field: &str, pattern: Option<&str>| {
            let compiled = pattern.map(|pattern| {
                let built = RegexBuilder::new(pattern).size_limit(SIZE_LIMIT).build();
                built.map_err(|error| bad(field, format!("{pattern:?}"), error.to_string()))
            });
            compiled.transpose()
        };
        Ok(Self {
            digest,
            must_match: compile("must_match", must_match)?,
            must_not_match: compile("must_not_match", must_not_match)?,
        })
    }
}

impl Checker for RegexChecker {
    fn digest(&self) -> String {
        self.digest.clone()
    }

    /// One of two demands kept is level 2.
    fn check(&self, _: &Instruction, response: &str) -> Result<Check> {
        let missing = self.must_match.as_ref().filter(|pattern| !pattern.is_match(response));
        let forbidden = self.must_not_match.as_ref().and_then(|pattern| {
            let found = pattern.find(response)?;
            Some((pattern, found, response[..found.start()].matches('\n').count() + 1))
        });
        let mut faults = Vec::new();
        if let Some(pattern) = missing {
            faults.push(format!("Nothing in the response matches the pattern `{pattern}`."));
        }
        if let Some((pattern, found, line)) = forbidden {
            faults.push(format!(
                "Line {line} has {:?}, which the pattern `{pattern}` forbids.",
                excerpt(found.as_str())
            ));
        }
        let demands = usize::from(self.must_match.is_some()) + usize::from(self.must_not_match.is_some());
        let level = match faults.len() {
            0 => 3,
            kept if kept < demands => 2,
            _ => 1,
        };
        let critique =
            if faults.is_empty() { "The response has the form asked for.".into() } else { faults.join(" ") };
        Ok(check(level, true, critique))
    }
}

/// The beginning of a text that may be long.
fn excerpt(text: &str) -> String {
    let mut characters = text.chars();
    let beginning: String = characters.by_ref().take(40).collect();
    if characters.next().is_some() { beginning + "..." } else { beginning }
}
