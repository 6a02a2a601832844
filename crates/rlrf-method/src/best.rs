//! Best-of-n: what rejection sampling learns from the candidates of an instruction.

use crate::score::Candidate;

/// The highest ranked candidate, the first of equals; none if its score is below `min_score`. A response cut at the length
/// limit is never the best, as it is never chosen in a pair.
#[must_use]
pub fn best_candidate(candidates: &[Candidate], min_score: f64) -> Option<&Candidate> {
    let whole = candidates.iter().filter(|candidate| candidate.generated.complete);
    let eligible = whole.filter(|candidate| candidate.score.is_some_and(|score| score >= min_score));
    eligible.reduce(|best, candidate| if candidate.rank(best).is_gt() { candidate } else { best })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::score::tests::candidate;

    #[test]
    fn the_first_of_the_highest_above_the_least_score() {
        let mut candidates = vec![
            candidate("a", 2.0),
            candidate("b", 2.5),
            candidate("c", 2.5),
            candidate("cut", 3.0),
            candidate("unjudged", 3.0),
        ];
        candidates[3].generated.complete = false;
        candidates[4].score = None;
        let best = |min_score: f64, candidates: &[Candidate]| {
            best_candidate(candidates, min_score).map(|best| best.generated.text.clone())
        };
        assert_eq!(best(1.0, &candidates).as_deref(), Some("b"));
        assert_eq!(best(2.6, &candidates), None);
        candidates[2].reward = Some(0.5);
        assert_eq!(best(1.0, &candidates).as_deref(), Some("c"), "the reward breaks ties");
    }
}
