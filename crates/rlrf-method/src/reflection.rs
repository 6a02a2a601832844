//! Reflection gain: does a refinement find what a fresh sample would not?

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use crate::score::{Candidate, CandidateKind};

/// Counts over the instructions whose draft was wrong.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reflection {
    /// Wrong drafts that were refined.
    pub wrong_drafts: u64,
    /// Refinements of them.
    pub refined: u64,
    /// ... of which right.
    pub refined_right: u64,
    /// Other samples (the draft left out) of the same instructions.
    pub fresh: u64,
    /// ... of which right.
    pub fresh_right: u64,
    /// Instructions that some sample solved.
    pub solved_by_sample: u64,
    /// Instructions that no sample but some refinement solved.
    pub solved_by_refinement_only: u64,
}

impl Reflection {
    /// Takes in the candidates of one instruction. A refinement counts if the draft that it says it was made of was wrong.
    /// A candidate of which nobody knows whether it is right solves nothing, and is neither a refinement nor a fresh sample here.
    pub fn add(&mut self, candidates: &[Candidate]) {
        let right = |kind: CandidateKind| candidates.iter().any(|c| c.kind == kind && c.is_right());
        let (sampled, refined) = (right(CandidateKind::Sampled), right(CandidateKind::Refined));
        self.solved_by_sample += u64::from(sampled);
        self.solved_by_refinement_only += u64::from(!sampled && refined);
        let wrong_draft = |c: &Candidate| {
            c.draft.filter(|&draft| candidates[draft].right() == Some(false) && c.right().is_some())
        };
        let refinements: Vec<(usize, &Candidate)> =
            candidates.iter().filter_map(|c| Some((wrong_draft(c)?, c))).collect();
        if refinements.is_empty() {
            return;
        }
        let wrong_drafts: HashSet<usize> = refinements.iter().map(|&(draft, _)| draft).collect();
        let drafts: HashSet<usize> = candidates.iter().filter_map(|c| c.draft).collect();
        self.wrong_drafts += wrong_drafts.len() as u64;
        self.refined += refinements.len() as u64;
        self.refined_right += refinements.iter().filter(|(_, c)| c.is_right()).count() as u64;
        for (index, candidate) in candidates.iter().enumerate() {
            let is_fresh = candidate.kind == CandidateKind::Sampled && !drafts.contains(&index);
            if let Some(right) = candidate.right().filter(|_| is_fresh) {
                self.fresh += 1;
                self.fresh_right += u64::from(right);
            }
        }
    }

    /// P(right | refined), over the instructions whose draft was wrong.
    #[must_use]
    pub fn refined_rate(&self) -> Option<f64> {
        rate(self.refined_right, self.refined)
    }

    /// P(right | another fresh sample of the same instructions).
    #[must_use]
    pub fn fresh_rate(&self) -> Option<f64> {
        rate(self.fresh_right, self.fresh)
    }

    /// Reflection gain: the difference of the two; none where there is nothing to compare.
    #[must_use]
    pub fn gain(&self) -> Option<f64> {
        Some(self.refined_rate()? - self.fresh_rate()?)
    }
}

fn rate(right: u64, all: u64) -> Option<f64> {
    (all > 0).then(|| right as f64 / all as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::score::tests::candidate;

    fn refined(draft: usize, score: f64) -> Candidate {
        Candidate { kind: CandidateKind::Refined, draft: Some(draft), ..candidate("r", score) }
    }

    #[test]
    fn gain_compares_refinements_with_the_other_samples() {
        let mut reflection = Reflection::default();
        // Draft wrong; of two other samples one right; both refinements right.
        let group =
            [candidate("d", 1.5), candidate("s", 1.0), candidate("t", 3.0), refined(0, 3.0), refined(0, 3.0)];
        reflection.add(&group);
        assert_eq!(reflection.gain(), Some(0.5));
        // Nothing right but a refinement.
        reflection.add(&[candidate("d", 1.5), candidate("s", 1.0), refined(0, 3.0), refined(0, 1.0)]);
        assert_eq!((reflection.refined_rate(), reflection.fresh_rate()), (Some(0.75), Some(1.0 / 3.0)));
        assert_eq!((reflection.solved_by_sample, reflection.solved_by_refinement_only), (1, 1));
        // Perfect: not refined.
        reflection.add(&[candidate("s", 3.0)]);
        assert_eq!((reflection.wrong_drafts, reflection.solved_by_sample), (2, 2));
    }

    #[test]
    fn every_refinement_is_counted_by_its_own_draft() {
        let mut reflection = Reflection::default();
        // A second round: the refinement of a sample is refined itself.
        reflection.add(&[candidate("s", 1.5), candidate("t", 1.0), refined(0, 1.2), refined(2, 3.0)]);
        assert_eq!((reflection.wrong_drafts, reflection.refined, reflection.refined_right), (2, 2, 1));
        assert_eq!((reflection.fresh, reflection.fresh_right), (1, 0));
        // A right draft that the judge took for wrong: its refinement is no rescue.
        reflection.add(&[candidate("s", 3.0), refined(0, 3.0)]);
        assert_eq!((reflection.wrong_drafts, reflection.refined), (2, 2));
    }

    #[test]
    fn nothing_refined_has_no_gain() {
        assert_eq!(Reflection::default().gain(), None);
        // Nor has what nobody judged.
        let mut reflection = Reflection::default();
        let unknown = |candidate: Candidate| Candidate { feedback: Vec::new(), ..candidate };
        reflection.add(&[candidate("d", 1.0), unknown(candidate("s", 1.0)), unknown(refined(0, 1.0))]);
        assert_eq!(reflection, Reflection::default());
    }
}
