//! The adaptive split of candidates: the next ones go where they are expected to win. Beyond the paper, which splits
//! n + m evenly.
//!
//! A candidate *wins* if it is perfect by the judge and its text is new to its instruction. For every instruction two
//! ways of getting one are open: a fresh sample, and a refinement of its promising candidate. The chance of each is
//! estimated from what was tried so far on this instruction, with the rate over all instructions as a prior; a win is worth
//! less the more perfect candidates the instruction has. What is left of the budget is given out one by one, to the
//! highest expected worth.

use std::collections::{BinaryHeap, HashSet};

use crate::iteration::CandidateGroup;
use crate::score::{Candidate, CandidateKind};

/// How many tries the rate over all instructions counts for, beside an instruction's own.
const PRIOR_TRIES: f64 = 4.0;

/// Further candidates of one instruction.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Share {
    /// Fresh samples.
    pub sampled: u32,
    /// Refinements.
    pub refined: u32,
}

#[derive(Debug, Clone, Copy, Default)]
struct Tries {
    tries: f64,
    wins: f64,
}

impl Tries {
    fn of(candidates: &[Candidate], kind: CandidateKind) -> Self {
        let mut seen = HashSet::new();
        let mut found = Self::default();
        for candidate in candidates {
            let new = seen.insert(candidate.generated.text.trim());
            if candidate.kind == kind {
                found.tries += 1.0;
                found.wins += f64::from(u8::from(new && candidate.is_perfect()));
            }
        }
        found
    }

    fn rate(self, prior: f64) -> f64 {
        (self.wins + PRIOR_TRIES * prior) / (self.tries + PRIOR_TRIES)
    }
}

/// What one more candidate of an instruction is worth; the heap takes the highest, the first instruction of equals.
#[derive(Debug, PartialEq)]
struct Offer {
    worth: f64,
    group: usize,
    kind: CandidateKind,
    rate: f64,
    perfect: f64,
}

impl Offer {
    /// The better one of a group's two ways.
    fn new(group: usize, sampled: f64, refined: Option<f64>, perfect: f64) -> Self {
        let (kind, rate) = match refined {
            Some(refined) if refined > sampled => (CandidateKind::Refined, refined),
            _ => (CandidateKind::Sampled, sampled),
        };
        Self { worth: rate / (1.0 + perfect), group, kind, rate, perfect }
    }
}

impl Eq for Offer {}

impl Ord for Offer {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.worth.total_cmp(&other.worth).then(other.group.cmp(&self.group))
    }
}

impl PartialOrd for Offer {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

/// Gives out `budget` candidates over the groups, at most `most` to each. `refinable` says which groups have a draft
/// that can be refined; before the first refinement anywhere its chance is taken to be that of a fresh sample, and groups with a draft try it first.
#[must_use]
pub fn allocate(groups: &[CandidateGroup], refinable: &[bool], budget: u64, most: u32) -> Vec<Share> {
    let tries = |kind| -> Vec<Tries> { groups.iter().map(|g| Tries::of(&g.candidates, kind)).collect() };
    let (sampled, refined) = (tries(CandidateKind::Sampled), tries(CandidateKind::Refined));
    // Half a win is taken to lie ahead: what never won so far is less likely to, not out of the question.
    let overall = |tries: &[Tries]| {
        let (all, wins) = tries.iter().fold((0.0, 0.0), |(all, wins), t| (all + t.tries, wins + t.wins));
        (all > 0.0).then(|| (wins + 0.5) / (all + 1.0))
    };
    let sampled_prior = overall(&sampled).unwrap_or(0.5);
    let refined_prior = overall(&refined).unwrap_or((sampled_prior * 1.01).min(1.0));
    let mut offers: BinaryHeap<Offer> = groups
        .iter()
        .enumerate()
        .map(|(index, group)| {
            let refined = refinable[index].then(|| refined[index].rate(refined_prior));
            let distinct: HashSet<&str> = group
                .candidates
                .iter()
                .filter(|candidate| candidate.is_perfect())
                .map(|candidate| candidate.generated.text.trim())
                .collect();
            Offer::new(index, sampled[index].rate(sampled_prior), refined, distinct.len() as f64)
        })
        .collect();
    let mut shares = vec![Share::default(); groups.len()];
    for _ in 0..budget {
        let Some(offer) = offers.pop() else { break };
        let share = &mut shares[offer.group];
        match offer.kind {
            CandidateKind::Sampled => share.sampled += 1,
            CandidateKind::Refined => share.refined += 1,
        }
        if share.sampled + share.refined < most {
            let perfect = offer.perfect + offer.rate;
            offers.push(Offer { worth: offer.rate / (1.0 + perfect), perfect, ..offer });
        }
    }
    shares
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::score::tests::candidate;

    fn group(candidates: Vec<Candidate>) -> CandidateGroup {
        CandidateGroup::new(0, candidates)
    }

    fn total(shares: &[Share]) -> u32 {
        shares.iter().map(|share| share.sampled + share.refined).sum()
    }

    #[test]
    fn where_nothing_won_yet_all_are_tried_alike() {
        let groups: Vec<CandidateGroup> =
            (0..6).map(|_| group((0..4).map(|i| candidate(&i.to_string(), 1.0)).collect())).collect();
        let shares = allocate(&groups, &[true; 6], 12, 9);
        assert_eq!(shares, [Share { sampled: 0, refined: 2 }; 6]);
    }

    #[test]
    fn the_unsolved_get_more_than_the_solved() {
        let solved = group((0..4).map(|i| candidate(&i.to_string(), 3.0)).collect());
        let unsolved =
            group((0..4).map(|i| candidate(&i.to_string(), if i == 0 { 3.0 } else { 1.5 })).collect());
        let shares = allocate(&[solved, unsolved], &[false, false], 10, 10);
        assert_eq!(total(&shares), 10);
        assert!(shares[1].sampled > shares[0].sampled, "{shares:?}");
    }

    #[test]
    fn refinements_go_where_they_have_won() {
        let refined =
            |text: &str, score| Candidate { kind: CandidateKind::Refined, ..candidate(text, score) };
        let helped =
            group(vec![candidate("a", 1.5), candidate("b", 1.5), refined("c", 3.0), refined("d", 3.0)]);
        let not_helped =
            group(vec![candidate("a", 3.0), candidate("b", 1.5), refined("c", 1.5), refined("d", 1.5)]);
        let shares = allocate(&[helped, not_helped], &[true, true], 8, 4);
        assert_eq!(total(&shares), 8);
        assert_eq!(shares[0], Share { sampled: 0, refined: 4 });
        assert_eq!(shares[1], Share { sampled: 4, refined: 0 });
    }

    #[test]
    fn a_group_without_a_draft_is_sampled_and_nothing_is_over_its_bound() {
        let groups = [group(vec![candidate("a", 3.0)]), group(vec![candidate("a", 1.5)])];
        let shares = allocate(&groups, &[false, true], 100, 3);
        assert_eq!(shares, [Share { sampled: 3, refined: 0 }, Share { sampled: 0, refined: 3 }]);
        assert!(allocate(&[], &[], 5, 5).is_empty());
    }
}
