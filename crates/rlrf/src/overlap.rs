//! Questions that are trained on must not be among those that accuracy is measured on.

use std::collections::HashMap;

use anyhow::{Result, bail};
use rlrf_method::{Message, Role};

use crate::evaluate::MeasuredSet;

/// So many of the questions found are named.
const NAMED: usize = 10;

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

    /// Refuses evaluation sets that ask one of these questions.
    pub(crate) fn refuse(&self, sets: &[Box<dyn MeasuredSet>]) -> Result<()> {
        for set in sets {
            let questions = set.questions();
            let shared: Vec<&str> = questions
                .iter()
                .filter_map(|question| self.0.get(&normalised(question)))
                .map(String::as_str)
                .collect();
            if !shared.is_empty() {
                let more = if shared.len() > NAMED { ", ..." } else { "" };
                bail!(
                    "{} questions that are trained on are also in the evaluation set {:?} ({}{more}); take them out, or \
                     set evaluation.allow_overlap = true and do not trust its numbers",
                    shared.len(),
                    set.name(),
                    shared[..shared.len().min(NAMED)].join(", "),
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
