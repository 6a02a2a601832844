//! Questions that are trained on must not be among those that accuracy is measured on.

use std::collections::HashMap;

use anyhow::{Result, bail};
use rlrf_method::{Message, Role};

use crate::inputs::ProblemSet;

/// The questions that a run trains on, and where each was found.
#[derive(Default)]
pub(crate) struct Trained(HashMap<String, String>);

impl Trained {
    /// Every question of a conversation: a refinement asks again after the one that counts.
    pub(crate) fn add(&mut self, messages: &[Message], place: &str) {
        for message in messages.iter().filter(|message| message.role == Role::User) {
            self.0.entry(normalised(&message.content)).or_insert_with(|| place.to_string());
        }
    }

    /// Refuses evaluation sets that ask one of these questions last.
    pub(crate) fn refuse(&self, sets: &[ProblemSet]) -> Result<()> {
        for set in sets {
            let questions = set.problems.iter().filter_map(|problem| problem.messages.last());
            let shared: Vec<&String> =
                questions.filter_map(|question| self.0.get(&normalised(&question.content))).collect();
            if let Some(first) = shared.first() {
                bail!(
                    "{} questions that are trained on are also in the evaluation set {:?} (the first: {first}); take \
                     them out, or set evaluation.allow_overlap = true and do not trust its accuracy",
                    shared.len(),
                    set.name
                );
            }
        }
        Ok(())
    }
}

/// With case and white space evened out.
fn normalised(question: &str) -> String {
    question.split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase()
}
