//! Verdicts on two answers: MT-bench's `[[A]]`, `[[B]]`, `[[C]]`.

use rlrf_method::ParseOutcome;
use serde::{Deserialize, Serialize};

use super::ReplyProblem;

/// Which of two answers a judge prefers, by the place where it was shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Preference {
    /// The first, "assistant A".
    A,
    /// The second, "assistant B".
    B,
    /// Neither: `[[C]]`.
    Tie,
}

/// What was read of a reply that compares two answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PairReply {
    /// The verdict; none if the reply failed.
    pub preference: Option<Preference>,
    /// What became of the reply.
    pub parse: ParseOutcome,
    /// Why it failed.
    pub problem: Option<ReplyProblem>,
}

impl PairReply {
    /// Reads the one verdict that `reply` gives. A verdict given twice is one; two different ones are none, wherever
    /// they stand: which of them a judge means cannot be told from their order.
    #[must_use]
    pub fn read(reply: &str) -> Self {
        let failed = |problem| Self {
            preference: None,
            parse: ParseOutcome::Failed(reply.to_string()),
            problem: Some(problem),
        };
        let (mut found, mut plain) = (None, true);
        for inner in bracketed(reply) {
            let letter = inner.trim();
            let preference = match letter.to_ascii_uppercase().as_str() {
                "A" => Preference::A,
                "B" => Preference::B,
                "C" => Preference::Tie,
                // A letter or digit of any script is meant as a verdict; longer text in brackets is a quotation.
                _ if letter.chars().count() <= 1 => return failed(ReplyProblem::Broken),
                _ => continue,
            };
            if found.is_some_and(|found| found != preference) {
                return failed(ReplyProblem::Conflict);
            }
            plain &= matches!(inner, "A" | "B" | "C");
            found = Some(preference);
        }
        match found {
            None => failed(ReplyProblem::NoVerdict),
            Some(_) => Self {
                preference: found,
                parse: if plain { ParseOutcome::Parsed } else { ParseOutcome::Repaired },
                problem: None,
            },
        }
    }
}

/// What stands in double brackets.
fn bracketed(reply: &str) -> impl Iterator<Item = &str> {
    reply.split("[[").skip(1).filter_map(|rest| rest.split_once("]]").map(|(inner, _)| inner))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exactly_one_distinct_verdict() {
        for (reply, preference) in [
            ("A is better. [[A]]", Preference::A),
            ("[[B]]\n\nFinal verdict: [[B]]", Preference::B),
            ("Both fail.\n\n**[[C]]**", Preference::Tie),
            ("See [[Paris]] and [[x and y]]. My final verdict is: [[A]].", Preference::A),
        ] {
            assert_eq!(PairReply::read(reply).preference, Some(preference), "{reply}");
            assert_eq!(PairReply::read(reply).parse, ParseOutcome::Parsed, "{reply}");
        }
        assert_eq!(PairReply::read("[[ b ]]").parse, ParseOutcome::Repaired);
    }

    #[test]
    fn anything_else_fails() {
        for (reply, problem) in [
            ("", ReplyProblem::NoVerdict),
            ("A is better.", ReplyProblem::NoVerdict),
            ("[A]", ReplyProblem::NoVerdict),
            ("My verdict: [[A", ReplyProblem::NoVerdict),
            ("[[A] is better", ReplyProblem::NoVerdict),
            ("[[A]] if A is better, [[B]] if B is better: [[A]]", ReplyProblem::Conflict),
            ("[[A]] or rather [[C]]", ReplyProblem::Conflict),
            ("[[D]]", ReplyProblem::Broken),
            ("[[1]] [[A]]", ReplyProblem::Broken),
            ("[[\u{410}]]", ReplyProblem::Broken),
            ("[[\u{ff21}]]", ReplyProblem::Broken),
            ("[[]]", ReplyProblem::Broken),
        ] {
            let read = PairReply::read(reply);
            assert_eq!((read.preference, read.problem), (None, Some(problem)), "{reply}");
            assert_eq!(read.parse, ParseOutcome::Failed(reply.into()));
        }
    }
}
