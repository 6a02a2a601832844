//! Preference pairs from all candidates of an instruction.

use std::collections::HashSet;

use crate::config::{PairBasis, PairsConfig};
use crate::feedback::Feedback;
use crate::instruction::Message;
use crate::score::Candidate;
use crate::seam::Generated;

/// The distinct candidates of one instruction that occur in its pairs: a tree for the trainer, in which the prompt
/// and every candidate are computed once, however many pairs they are in.
#[derive(Debug, Clone, PartialEq)]
pub struct PreferenceGroup {
    /// Id of the instruction.
    pub instruction: String,
    /// The conversation: `x` alone, never the feedback.
    pub messages: Vec<Message>,
    /// Distinct candidates.
    pub candidates: Vec<TrainedCandidate>,
    /// Indices (chosen, rejected) into `candidates`.
    pub pairs: Vec<(usize, usize)>,
    /// How far apart a reward model should score the two of each pair, where its record says so; as many as `pairs`.
    pub margins: Vec<Option<f64>>,
}

/// A candidate as training needs it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TrainedCandidate {
    /// The text.
    pub text: String,
    /// Tokens as drawn, without the end token; empty: tokenise the text.
    pub tokens: Vec<u32>,
    /// Whether the end-of-turn token follows.
    pub complete: bool,
}

impl TrainedCandidate {
    /// Of a response as it was drawn.
    #[must_use]
    pub fn of(generated: &Generated) -> Self {
        let Generated { text, tokens, complete, .. } = generated;
        Self { text: text.clone(), tokens: tokens.clone(), complete: *complete }
    }
}

/// One preference between two candidates.
#[derive(Debug, Clone, PartialEq)]
pub struct Pair {
    /// Index of the preferred candidate.
    pub chosen: usize,
    /// Index of the other.
    pub rejected: usize,
    /// By how many levels the chosen is better: in score, or on the aspect.
    pub gap: f64,
    /// The aspect on which it is preferred, where pairs are made by aspect.
    pub aspect: Option<String>,
}

/// Builds the pairs of one instruction after another.
///
/// Candidates with the same trimmed text count once, and a response cut at the length limit is never chosen. By score,
/// the best-ranked are paired with the worst-ranked, walking inward from both ends by rank, the top and the bottom alike; each pair
/// has at least `margin` between its scores. By aspect, there is at most one pair for each aspect, of the best and the worst
/// on it (or the next of that walk, where another aspect has that pair), with at least `margin` between their scores on that
/// aspect; of equals on the aspect, the overall score decides. Where there are more aspects than pairs, each instruction
/// begins with the aspect after the last one's turn, so that none goes short.
///
/// With `length_balanced`, a pair is taken among all that the margin allows: the one that comes first in that walk and
/// brings the sum of the length differences (chosen less rejected, in characters, over all pairs so far, those of earlier
/// instructions included) nearer to zero, or leaves it; where none does, the one that takes it least far away. So the
/// differences cancel as far as the candidates allow, and being longer is not what is learnt.
#[derive(Debug)]
pub struct PairBuilder<'a> {
    config: &'a PairsConfig,
    length_difference: i64,
    /// Aspects that had their turn, where there are more of them than pairs.
    turn: usize,
}

impl<'a> PairBuilder<'a> {
    /// No pair yet.
    #[must_use]
    pub fn new(config: &'a PairsConfig) -> Self {
        Self { config, length_difference: 0, turn: 0 }
    }

    /// The pairs among an instruction's candidates, from the ends of the ranking inwards unless lengths are balanced.
    #[must_use]
    pub fn pairs(&mut self, candidates: &[Candidate]) -> Vec<Pair> {
        let most = self.config.pairs_per_instruction;
        let mut pairs: Vec<Pair> = Vec::new();
        match self.config.by {
            PairBasis::Score => {
                let allowed = allowed(candidates, None, self.config);
                self.take(candidates, allowed, most, &mut pairs);
            }
            PairBasis::Aspect => {
                let mut aspects = aspects(candidates);
                if aspects.len() > most {
                    let first = self.turn % aspects.len();
                    aspects.rotate_left(first);
                    self.turn += most;
                }
                for aspect in aspects {
                    let mut allowed = allowed(candidates, Some(aspect), self.config);
                    allowed.retain(|pair| {
                        !pairs.iter().any(|p| (p.chosen, p.rejected) == (pair.chosen, pair.rejected))
                    });
                    self.take(candidates, allowed, (pairs.len() + 1).min(most), &mut pairs);
                }
            }
        }
        pairs
    }

    /// Moves pairs from `allowed` to `pairs` until there are `most`.
    fn take(&mut self, candidates: &[Candidate], mut allowed: Vec<Pair>, most: usize, pairs: &mut Vec<Pair>) {
        if !self.config.length_balanced {
            pairs.extend(allowed.into_iter().take(most.saturating_sub(pairs.len())));
            return;
        }
        let difference =
            |pair: &Pair| length(&candidates[pair.chosen]) as i64 - length(&candidates[pair.rejected]) as i64;
        while pairs.len() < most {
            let sum = self.length_difference;
            let after = |pair: &Pair| (sum + difference(pair)).abs();
            let balancing = allowed.iter().position(|pair| after(pair) <= sum.abs());
            let Some(next) =
                balancing.or_else(|| (0..allowed.len()).min_by_key(|&index| after(&allowed[index])))
            else {
                return;
            };
            let pair = allowed.remove(next);
            self.length_difference += difference(&pair);
            pairs.push(pair);
        }
    }
}

/// Length of a response, in characters: the one length that is known of every candidate.
#[must_use]
pub fn length(candidate: &Candidate) -> usize {
    candidate.generated.text.trim().chars().count()
}

/// The aspects that candidates were judged on, in the order of their feedback.
fn aspects(candidates: &[Candidate]) -> Vec<&str> {
    let mut seen = HashSet::new();
    let names = candidates.iter().flat_map(|candidate| &candidate.feedback).map(|f| f.aspect.as_str());
    names.filter(|name| seen.insert(*name)).collect()
}

/// Every pair that the margin allows, by score or on an aspect, from the ends of the ranking inwards.
fn allowed(candidates: &[Candidate], aspect: Option<&str>, config: &PairsConfig) -> Vec<Pair> {
    let scores: Vec<Option<f64>> = candidates
        .iter()
        .map(|candidate| match aspect {
            None => candidate.score,
            Some(aspect) => {
                candidate.feedback.iter().find(|f| f.aspect == aspect).and_then(Feedback::aspect_score)
            }
        })
        .collect();
    let mut seen = HashSet::new();
    let mut distinct: Vec<usize> = (0..candidates.len())
        .filter(|&index| scores[index].is_some())
        .filter(|&index| seen.insert(candidates[index].generated.text.trim()))
        .collect();
    let score = |index: usize| scores[index].unwrap_or(f64::NEG_INFINITY);
    distinct.sort_by(|&a, &b| {
        let overall = candidates[b].rank(&candidates[a]);
        score(b).total_cmp(&score(a)).then(overall).then(a.cmp(&b))
    });
    let chosen: Vec<usize> = distinct
        .iter()
        .copied()
        .filter(|&index| {
            let Candidate { generated, score, .. } = &candidates[index];
            generated.complete && score.is_some_and(|score| score >= config.min_chosen_score)
        })
        .collect();
    let rejected: Vec<usize> = distinct.iter().rev().copied().collect();
    let mut pairs = Vec::new();
    // Walk the anti-diagonals of (rank from the top, rank from the bottom).
    for depth in 0..chosen.len() + rejected.len() {
        for up in 0..=depth.min(chosen.len().saturating_sub(1)) {
            let (Some(&chosen), Some(&rejected)) = (chosen.get(up), rejected.get(depth - up)) else {
                continue;
            };
            let gap = score(chosen) - score(rejected);
            if gap >= config.margin {
                pairs.push(Pair { chosen, rejected, gap, aspect: aspect.map(String::from) });
            }
        }
    }
    pairs
}

/// The group of an instruction's pairs; none if there is no pair.
#[must_use]
pub fn preference_group(
    instruction: &str,
    messages: &[Message],
    candidates: &[Candidate],
    pairs: &[Pair],
) -> Option<PreferenceGroup> {
    let mut used: Vec<usize> = pairs.iter().flat_map(|pair| [pair.chosen, pair.rejected]).collect();
    used.sort_unstable();
    used.dedup();
    let place = |index: usize| used.binary_search(&index).unwrap_or_default();
    (!pairs.is_empty()).then(|| PreferenceGroup {
        instruction: instruction.to_string(),
        messages: messages.to_vec(),
        candidates: used.iter().map(|&index| TrainedCandidate::of(&candidates[index].generated)).collect(),
        pairs: pairs.iter().map(|pair| (place(pair.chosen), place(pair.rejected))).collect(),
        margins: vec![None; pairs.len()],
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::feedback::ParseOutcome;
    use crate::score::tests::candidate;

    /// Of one instruction alone.
    fn build(candidates: &[Candidate], config: &PairsConfig) -> Vec<(usize, usize)> {
        PairBuilder::new(config).pairs(candidates).iter().map(|pair| (pair.chosen, pair.rejected)).collect()
    }

    #[test]
    fn pairs_walk_inward_and_keep_the_margin() {
        let candidates = [
            candidate("a", 3.0),
            candidate("b", 1.0),
            candidate("c", 2.9),
            candidate("d", 1.2),
            candidate("e", 2.0),
        ];
        let config = PairsConfig { pairs_per_instruction: 4, ..PairsConfig::default() };
        assert_eq!(build(&candidates, &config), [(0, 1), (0, 3), (2, 1), (0, 4)]);
        let strict = PairsConfig { margin: 1.9, ..config.clone() };
        assert_eq!(build(&candidates, &strict), [(0, 1), (2, 1)]);
        let high = PairsConfig { min_chosen_score: 2.95, ..config };
        assert_eq!(build(&candidates, &high), [(0, 1), (0, 3), (0, 4)]);
    }

    #[test]
    fn duplicates_count_once_and_equal_scores_give_no_pair() {
        let config = PairsConfig { pairs_per_instruction: 9, ..PairsConfig::default() };
        let candidates = [candidate("a", 3.0), candidate(" a\n", 3.0), candidate("b", 1.0)];
        assert_eq!(build(&candidates, &config), [(0, 2)]);
        assert!(build(&[candidate("a", 2.0), candidate("b", 2.0)], &config).is_empty());
        assert!(build(&[], &config).is_empty());
    }

    #[test]
    fn a_truncated_response_is_never_chosen() {
        let mut candidates = [candidate("a", 3.0), candidate("b", 1.0)];
        candidates[0].generated.complete = false;
        for by in [PairBasis::Score, PairBasis::Aspect] {
            assert!(build(&candidates, &PairsConfig { by, ..PairsConfig::default() }).is_empty());
        }
    }

    /// Judged on two aspects; the score is their mean.
    fn judged(text: &str, levels: [Option<f64>; 2]) -> Candidate {
        let feedback = |(aspect, level): (&str, Option<f64>)| match level {
            None => Feedback::failed(aspect, "?".into()),
            Some(level) => {
                let high = (level - 1.0) / 2.0;
                let parse = ParseOutcome::Parsed;
                Feedback::from_distribution(aspect, String::new(), [1.0 - high, 0.0, high], parse)
            }
        };
        let known: Vec<f64> = levels.into_iter().flatten().collect();
        let mut candidate = candidate(text, known.iter().sum::<f64>() / known.len() as f64);
        candidate.feedback = ["clear", "true"].into_iter().zip(levels).map(feedback).collect();
        candidate
    }

    #[test]
    fn where_pairs_are_few_the_aspects_take_turns() {
        let judged = |text: &str, level: u8| Candidate {
            feedback: ["a", "b", "c"]
                .map(|aspect| Feedback::from_level(aspect, String::new(), level, ParseOutcome::Parsed))
                .to_vec(),
            ..candidate(text, f64::from(level))
        };
        // No two aspects share a pair: three of the best, three of the worst.
        let candidates = [3, 3, 3, 1, 1, 1].into_iter().enumerate();
        let candidates: Vec<Candidate> = candidates.map(|(i, level)| judged(&i.to_string(), level)).collect();
        let config =
            PairsConfig { by: PairBasis::Aspect, pairs_per_instruction: 2, ..PairsConfig::default() };
        let mut builder = PairBuilder::new(&config);
        let mut named = || -> Vec<String> {
            builder.pairs(&candidates).into_iter().filter_map(|pair| pair.aspect).collect()
        };
        assert_eq!([named(), named(), named()], [["a", "b"], ["c", "a"], ["b", "c"]]);
    }

    #[test]
    fn by_aspect_each_aspect_with_a_gap_gives_a_pair() {
        let config = PairsConfig { by: PairBasis::Aspect, ..PairsConfig::default() };
        let candidates = [
            judged("a", [Some(3.0), Some(1.0)]),
            judged("b", [Some(1.0), Some(3.0)]),
            judged("c", [Some(3.0), Some(2.0)]),
        ];
        // By score, a and b are equal, and c is too near.
        assert!(build(&candidates[..2], &PairsConfig::default()).is_empty());
        // Of the two that are equally clear, c has the higher score.
        let pairs = PairBuilder::new(&config).pairs(&candidates);
        let found: Vec<_> =
            pairs.iter().map(|p| (p.chosen, p.rejected, p.gap, p.aspect.as_deref().unwrap())).collect();
        assert_eq!(found, [(2, 1, 2.0, "clear"), (1, 0, 2.0, "true")]);
        let one = PairsConfig { pairs_per_instruction: 1, ..config.clone() };
        assert_eq!(build(&candidates, &one), [(2, 1)]);
        // A reply that could not be read says nothing on its aspect, and no gap gives no pair.
        let candidates = [judged("a", [Some(3.0), None]), judged("b", [Some(2.6), Some(1.0)])];
        assert!(build(&candidates, &config).is_empty());
        // One pair is one preference, on however many aspects.
        let candidates = [judged("a", [Some(3.0), Some(3.0)]), judged("b", [Some(1.0), Some(1.0)])];
        assert_eq!(build(&candidates, &config), [(0, 1)]);
    }

    #[test]
    fn balanced_lengths_cancel_where_the_candidates_allow() {
        let balanced =
            PairsConfig { pairs_per_instruction: 1, length_balanced: true, ..PairsConfig::default() };
        let plain = PairsConfig { length_balanced: false, ..balanced.clone() };
        // In every instruction the best is the longest; a shorter one is nearly as good.
        let candidates = [
            candidate(&"l".repeat(60), 3.0),
            candidate(&"s".repeat(20), 2.9),
            candidate(&"w".repeat(30), 1.0),
        ];
        let mean_difference = |config: &PairsConfig, instructions: usize| {
            let mut builder = PairBuilder::new(config);
            let mut sum = 0;
            for _ in 0..instructions {
                for Pair { chosen, rejected, gap, .. } in builder.pairs(&candidates) {
                    assert!(gap >= config.margin);
                    sum += length(&candidates[chosen]) as i64 - length(&candidates[rejected]) as i64;
                }
            }
            sum as f64 / instructions as f64
        };
        assert_eq!(mean_difference(&plain, 40), 30.0);
        assert!(mean_difference(&balanced, 40).abs() < 1.0, "{}", mean_difference(&balanced, 40));
        // Nothing is dropped: where all that is better is longer, the least longer is chosen.
        let longer = [candidate("longest", 3.0), candidate("longer", 2.8), candidate("l", 1.0)];
        assert_eq!(build(&longer, &balanced), [(1, 2)]);
        let all = PairsConfig { pairs_per_instruction: 4, ..balanced };
        assert_eq!(build(&longer, &all).len(), 2);
    }

    #[test]
    fn groups_hold_each_candidate_once() {
        let candidates = [candidate("a", 3.0), candidate("x", 2.6), candidate("b", 1.0), candidate("c", 1.1)];
        let pair = |chosen, rejected| Pair { chosen, rejected, gap: 1.0, aspect: None };
        let group =
            preference_group("i", &[Message::user("q")], &candidates, &[pair(0, 2), pair(0, 3)]).unwrap();
        assert_eq!(group.candidates.len(), 3);
        assert_eq!(group.pairs, [(0, 1), (0, 2)]);
    }
}
