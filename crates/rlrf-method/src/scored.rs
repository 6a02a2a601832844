//! Scored samples of an instruction: what a policy gradient learns from its candidates.

use std::collections::HashMap;

use crate::instruction::Message;
use crate::pairs::TrainedCandidate;
use crate::score::Candidate;

/// The distinct candidates of one instruction, with the score of each draw: a tree for the trainer, as a
/// [`PreferenceGroup`](crate::pairs::PreferenceGroup) is.
#[derive(Debug, Clone, PartialEq)]
pub struct ScoredGroup {
    /// Id of the instruction.
    pub instruction: String,
    /// The conversation: `x` alone, never the feedback.
    pub messages: Vec<Message>,
    /// Distinct candidates.
    pub candidates: Vec<TrainedCandidate>,
    /// Index into `candidates` and score, in the order in which they were drawn.
    pub samples: Vec<(usize, f64)>,
}

/// The group of an instruction's scored candidates; none if all scores are equal, which says nothing about any of them. A
/// candidate drawn several times is as many samples: what the policy says often must weigh as much.
#[must_use]
pub fn scored_group(
    instruction: &str,
    messages: &[Message],
    candidates: &[Candidate],
) -> Option<ScoredGroup> {
    let mut places: HashMap<TrainedCandidate, usize> = HashMap::new();
    let mut distinct = Vec::new();
    let mut samples: Vec<(usize, f64)> = Vec::new();
    for candidate in candidates {
        let Some(score) = candidate.score else { continue };
        let trained = TrainedCandidate::of(&candidate.generated);
        let place = *places.entry(trained.clone()).or_insert_with(|| {
            distinct.push(trained);
            distinct.len() - 1
        });
        samples.push((place, score));
    }
    let (_, first) = *samples.first()?;
    samples.iter().any(|&(_, score)| score != first).then(|| ScoredGroup {
        instruction: instruction.to_string(),
        messages: messages.to_vec(),
        candidates: distinct,
        samples,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::score::tests::candidate;

    #[test]
    fn each_draw_is_a_sample_and_each_text_one_candidate() {
        let mut candidates =
            vec![candidate("a", 2.0), candidate("b", 1.0), candidate("a", 2.0), candidate("c", 3.0)];
        candidates[3].score = None;
        let group = scored_group("i", &[Message::user("q")], &candidates).unwrap();
        let texts: Vec<&str> = group.candidates.iter().map(|candidate| candidate.text.as_str()).collect();
        assert_eq!(texts, ["a", "b"]);
        assert_eq!(group.samples, [(0, 2.0), (1, 1.0), (0, 2.0)]);
    }

    #[test]
    fn equal_scores_teach_nothing() {
        assert_eq!(scored_group("i", &[], &[candidate("a", 2.0), candidate("b", 2.0)]), None);
        assert_eq!(scored_group("i", &[], &[candidate("a", 2.0)]), None);
        assert_eq!(scored_group("i", &[], &[]), None);
    }
}
