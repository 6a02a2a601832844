//! Pairs of one instruction's candidates, over the tree of the candidates in them.

use crate::packing::ResponseTree;
use crate::{Error, Result};

/// Some pairs of an instruction, and the tree of the candidates in them: each once, however many pairs it is in.
#[derive(Debug)]
pub(crate) struct PairTree<'a> {
    pub(crate) tree: ResponseTree<'a>,
    /// Place among the instruction's candidates of each completion of the tree.
    pub(crate) members: Vec<usize>,
    pub(crate) pairs: Vec<PlacedPair>,
}

/// A pair of completions of a tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PlacedPair {
    /// Place among the instruction's pairs.
    pub(crate) number: usize,
    /// The better completion.
    pub(crate) chosen: usize,
    /// The other one.
    pub(crate) rejected: usize,
}

impl<'a> PairTree<'a> {
    /// The tree of the candidates that are in `pairs` (chosen and rejected); several trees, cut between pairs, where one would
    /// be over the budget. A completion takes `rows` of it, the prompt as many as it has tokens.
    pub(crate) fn cut(
        prompt: &'a [u32],
        candidates: &'a [Vec<u32>],
        pairs: impl IntoIterator<Item = (usize, usize)>,
        rows: impl Fn(&[u32]) -> usize,
        budget: usize,
    ) -> Vec<Self> {
        let mut trees: Vec<Self> = Vec::new();
        let mut filled = 0;
        for (number, (chosen, rejected)) in pairs.into_iter().enumerate() {
            let to_add = |tree: &Self| {
                let new = [chosen, rejected].into_iter().filter(|place| !tree.members.contains(place));
                new.map(|place| rows(&candidates[place])).sum::<usize>()
            };
            match trees.last().map(to_add).filter(|rows| filled + rows <= budget) {
                Some(rows) => filled += rows,
                None => {
                    let tree = ResponseTree { prompt, completions: Vec::new() };
                    let empty = Self { tree, members: Vec::new(), pairs: Vec::new() };
                    filled = prompt.len() + to_add(&empty);
                    trees.push(empty);
                }
            }
            let last = trees.len() - 1;
            let [chosen, rejected] = [chosen, rejected].map(|place| trees[last].place(candidates, place));
            trees[last].pairs.push(PlacedPair { number, chosen, rejected });
        }
        trees
    }

    /// The completion that a candidate is; it becomes one if it was none.
    fn place(&mut self, candidates: &'a [Vec<u32>], candidate: usize) -> usize {
        self.members.iter().position(|&member| member == candidate).unwrap_or_else(|| {
            self.members.push(candidate);
            self.tree.completions.push(&candidates[candidate]);
            self.members.len() - 1
        })
    }
}

/// Refuses an instruction without a pair, and a pair that does not name two of so many candidates.
pub(crate) fn validate(
    pairs: impl IntoIterator<Item = (usize, usize)>,
    candidates: usize,
    index: usize,
) -> Result<()> {
    let refuse = |reason: String| Err(Error::Example { index, reason });
    let mut some = false;
    for (chosen, rejected) in pairs {
        some = true;
        if chosen == rejected || chosen.max(rejected) >= candidates {
            return refuse(format!(
                "pair ({chosen}, {rejected}) does not name two of {candidates} candidates"
            ));
        }
    }
    if some { Ok(()) } else { refuse("no preference pair: leave the instruction out".into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(candidates: &[Vec<u32>], budget: usize) -> Vec<PairTree<'_>> {
        PairTree::cut(&[1; 10], candidates, [(3, 1), (3, 0), (0, 1)], <[u32]>::len, budget)
    }

    fn candidates() -> [Vec<u32>; 4] {
        [vec![2; 5], vec![3; 6], vec![4; 7], vec![5; 8]]
    }

    #[test]
    fn a_tree_holds_each_paired_candidate_once() {
        let candidates = candidates();
        let [tree] = &cut(&candidates, 29)[..] else { panic!("more than one tree") };
        assert_eq!(tree.members, [3, 1, 0]);
        let pairs: Vec<_> = tree.pairs.iter().map(|p| (p.number, p.chosen, p.rejected)).collect();
        assert_eq!(pairs, [(0, 0, 1), (1, 0, 2), (2, 2, 1)]);
        let lengths: Vec<usize> = tree.tree.completions.iter().map(|completion| completion.len()).collect();
        assert_eq!(lengths, [8, 6, 5]);
    }

    #[test]
    fn a_tree_over_the_budget_is_cut_between_pairs() {
        let candidates = candidates();
        let members = |budget| cut(&candidates, budget).into_iter().map(|t| t.members).collect::<Vec<_>>();
        // 10 + 8 + 6 rows, then 10 + 8 + 5, and no room for the 6 of the third pair.
        assert_eq!(members(28), [[3, 1], [3, 0], [0, 1]]);
        assert_eq!(members(29), [[3, 1, 0]]);
    }

    #[test]
    fn pairs_name_two_of_the_candidates() {
        assert!(validate([(0, 1), (1, 0)], 2, 7).is_ok());
        for (pairs, message) in [
            (vec![], "no preference pair"),
            (vec![(0, 1), (1, 1)], "pair (1, 1)"),
            (vec![(0, 2)], "2 candidates"),
        ] {
            let refused = validate(pairs, 2, 7).unwrap_err().to_string();
            assert!(refused.contains(message), "{refused}");
        }
    }
}
