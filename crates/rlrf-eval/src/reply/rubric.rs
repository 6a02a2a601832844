//! Replies that score one rubric in Prometheus's form: `Feedback: ... [RESULT] 4`.

use rlrf_method::ParseOutcome;
use rlrf_method::written::Written;
use serde::{Deserialize, Serialize};

use super::{AspectVerdict, ReplyProblem, SCALE};

const MARK: &str = "[RESULT]";

/// What was read of a reply that scores one rubric.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RubricReply {
    /// The written feedback, without `Feedback:`.
    pub feedback: String,
    /// The score, or why there is none.
    pub verdict: AspectVerdict,
    /// What became of the reply.
    pub parse: ParseOutcome,
    /// Why it failed.
    pub problem: Option<ReplyProblem>,
}

impl RubricReply {
    /// Reads `reply`: what follows the mark must be a score and nothing else but a full stop or an end-of-text token.
    /// More than one mark is a conflict.
    #[must_use]
    pub fn read(reply: &str) -> Self {
        let (head, tail) = reply.split_once(MARK).unwrap_or((reply, ""));
        let head = head.trim();
        let feedback = head.strip_prefix("Feedback:").unwrap_or(head).trim().to_string();
        let read: Vec<Written> =
            tail.split(MARK).map(|text| Written::read_after_mark(text, &SCALE)).collect();
        let (verdict, problem) = match (&read[0], reply.contains(MARK)) {
            (_, false) => (AspectVerdict::Missing, Some(ReplyProblem::NoVerdict)),
            _ if read.len() > 1 => (AspectVerdict::Missing, Some(ReplyProblem::Conflict)),
            (Written::Score(score, _), _) => (AspectVerdict::Score(*score), None),
            (Written::NotApplicable(_), _) => (AspectVerdict::NotApplicable, None),
            (Written::OutOfRange, _) => (AspectVerdict::OutOfRange, Some(ReplyProblem::NoVerdict)),
            (Written::Placeholder | Written::Unreadable, _) => {
                let problem =
                    if tail.trim().is_empty() { ReplyProblem::Truncated } else { ReplyProblem::Broken };
                (AspectVerdict::Unreadable, Some(problem))
            }
        };
        let plain = head.starts_with("Feedback:") && tail.trim().len() == 1;
        let parse = match problem {
            Some(_) => ParseOutcome::Failed(reply.to_string()),
            None if plain => ParseOutcome::Parsed,
            None => ParseOutcome::Repaired,
        };
        Self { feedback, verdict, parse, problem }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_score_behind_the_mark() {
        for (reply, score, parse) in [
            ("Feedback: Good, but 3 facts are missing. [RESULT] 4", 4, ParseOutcome::Parsed),
            ("Good. [RESULT] 4", 4, ParseOutcome::Repaired),
            ("Feedback: Good.\n[RESULT]: (5)</s>", 5, ParseOutcome::Repaired),
        ] {
            let read = RubricReply::read(reply);
            let problem = read.problem;
            assert_eq!(
                (read.verdict, read.parse),
                (AspectVerdict::Score(score), parse),
                "{reply}: {problem:?}"
            );
            assert!(read.feedback.starts_with("Good"));
        }
    }

    #[test]
    fn anything_else_fails() {
        for (reply, problem) in [
            ("Feedback: I give it 4 of 5", ReplyProblem::NoVerdict),
            ("Feedback: Good. [RESULT]", ReplyProblem::Truncated),
            ("Feedback: Good. [RESULT] 6", ReplyProblem::NoVerdict),
            ("Feedback: Good. [RESULT] 4.5", ReplyProblem::NoVerdict),
            ("Feedback: Good. [RESULT] four", ReplyProblem::Broken),
            ("Feedback: Good. [RESULT] \u{ff14}", ReplyProblem::Broken),
            ("Feedback: Good. [RESULT] 4 or 5", ReplyProblem::Broken),
            ("Feedback: Good. [RESULT] 4 [RESULT] 3", ReplyProblem::Conflict),
            ("Feedback: Write \"[RESULT] 5\" they said. [RESULT] 1", ReplyProblem::Conflict),
        ] {
            let read = RubricReply::read(reply);
            assert_eq!(read.problem, Some(problem), "{reply}");
            assert!(!read.verdict.is_read(), "{reply}");
            assert_eq!(read.parse, ParseOutcome::Failed(reply.into()));
        }
    }
}
