//! Reflection gain: does a refinement find what a fresh sample would not?

use serde::{Deserialize, Serialize};

use crate::score::{Candidate, CandidateKind};

/// Counts over the instructions whose draft was wrong.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reflection {
    /// Instructions whose draft was wrong and was refined.
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
    /// Takes in the candidates of one instruction; `draft` is the index of the promising candidate.
    pub fn add(&mut self, candidates: &[Candidate], draft: Option<usize>) {
        let right = |kind: CandidateKind| {
            candidates.iter().filter(move |c| c.kind == kind).filter(|c| c.is_right()).count() as u64
        };
        let (sampled_right, refined_right) = (right(CandidateKind::Sampled), right(CandidateKind::Refined));
        self.solved_by_sample += u64::from(sampled_right > 0);
        self.solved_by_refinement_only += u64::from(sampled_right == 0 && refined_right > 0);
        let refined = candidates.iter().filter(|c| c.kind == CandidateKind::Refined).count() as u64;
        if refined == 0 || draft.is_none_or(|draft| candidates[draft].is_right()) {
            return;
        }
        self.wrong_drafts += 1;
        self.refined += refined;
        self.refined_right += refined_right;
        let others = candidates.iter().enumerate().filter(|(index, _)| Some(*index) != draft);
        self.fresh += others.filter(|(_, c)| c.kind == CandidateKind::Sampled).count() as u64;
        self.fresh_right += sampled_right;
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

    #[test]
    fn gain_compares_refinements_with_the_other_samples() {
        let refined = |score| Candidate { kind: CandidateKind::Refined, ..candidate("r", score) };
        let mut reflection = Reflection::default();
        // Draft wrong; of two other samples one right; both refinements right.
        let group =
            [candidate("d", 1.5), candidate("s", 1.0), candidate("t", 3.0), refined(3.0), refined(3.0)];
        reflection.add(&group, Some(0));
        assert_eq!(reflection.gain(), Some(0.5));
        // Nothing right but a refinement.
        reflection.add(&[candidate("d", 1.5), candidate("s", 1.0), refined(3.0), refined(1.0)], Some(0));
        assert_eq!((reflection.refined_rate(), reflection.fresh_rate()), (Some(0.75), Some(1.0 / 3.0)));
        assert_eq!((reflection.solved_by_sample, reflection.solved_by_refinement_only), (1, 1));
        // Perfect: not refined.
        reflection.add(&[candidate("s", 3.0)], None);
        assert_eq!((reflection.wrong_drafts, reflection.solved_by_sample), (2, 2));
    }

    #[test]
    fn a_refinement_may_be_the_draft() {
        let refined = |score| Candidate { kind: CandidateKind::Refined, ..candidate("r", score) };
        let mut reflection = Reflection::default();
        reflection.add(&[candidate("s", 3.0), candidate("t", 1.0), refined(1.5)], Some(2));
        assert_eq!((reflection.fresh, reflection.fresh_right), (2, 1));
        reflection.add(&[refined(1.5), refined(3.0)], Some(0));
        assert_eq!((reflection.wrong_drafts, reflection.fresh), (2, 2));
    }

    #[test]
    fn nothing_refined_has_no_gain() {
        assert_eq!(Reflection::default().gain(), None);
    }
}
