//! Reflection gain: does a refinement find what a fresh sample would not?

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use crate::score::{Candidate, CandidateKind};

/// Counts over the instructions whose draft was wrong.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Reflection {
    /// Wrong drafts that were refined.
    pub wrong_drafts: u64,
    /// Refinements of them.
    pub refined: u64,
    /// ... of which right.
    pub refined_right: u64,
    /// Right ones that are expected of as many fresh samples: for each instruction its refinements times the share of its
    /// samples that are right.
    pub fresh_right: f64,
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
        self.wrong_drafts += wrong_drafts.len() as u64;
        self.refined += refinements.len() as u64;
        self.refined_right += refinements.iter().filter(|(_, c)| c.is_right()).count() as u64;
        // All samples, the drafts among them: to leave out what was chosen for being wrong would flatter the others.
        let samples =
            || candidates.iter().filter(|c| c.kind == CandidateKind::Sampled && c.right().is_some());
        let right = samples().filter(|c| c.is_right()).count() as f64;
        self.fresh_right += refinements.len() as f64 * right / samples().count().max(1) as f64;
    }

    /// P(right | refined), over the instructions whose draft was wrong.
    #[must_use]
    pub fn refined_rate(&self) -> Option<f64> {
        rate(self.refined_right as f64, self.refined)
    }

    /// P(right | a fresh sample of the same instructions, each weighing as much as its refinements do).
    #[must_use]
    pub fn fresh_rate(&self) -> Option<f64> {
        rate(self.fresh_right, self.refined)
    }

    /// Reflection gain: the difference of the two; none where there is nothing to compare.
    #[must_use]
    pub fn gain(&self) -> Option<f64> {
        Some(self.refined_rate()? - self.fresh_rate()?)
    }
}

fn rate(right: f64, all: u64) -> Option<f64> {
    (all > 0).then(|| right / all as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::score::tests::candidate;

    fn refined(draft: usize, score: f64) -> Candidate {
        Candidate { kind: CandidateKind::Refined, draft: Some(draft), ..candidate("r", score) }
    }

    #[test]
    fn gain_compares_refinements_with_samples() {
        let mut reflection = Reflection::default();
        // Draft wrong; of four samples one right; both refinements right.
        let samples = ["d", "s", "t", "u"].map(|text| candidate(text, if text == "t" { 3.0 } else { 1.5 }));
        let group = [&samples[..], &[refined(0, 3.0), refined(0, 3.0)]].concat();
        reflection.add(&group);
        assert_eq!(reflection.gain(), Some(0.75));
        // Nothing right but a refinement.
        reflection.add(&[candidate("d", 1.5), candidate("s", 1.0), refined(0, 3.0), refined(0, 1.0)]);
        assert_eq!((reflection.refined_rate(), reflection.fresh_rate()), (Some(0.75), Some(0.125)));
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
        assert_eq!(reflection.fresh_right, 0.0);
        // A right draft that the judge took for wrong: its refinement is no rescue.
        reflection.add(&[candidate("s", 3.0), refined(0, 3.0)]);
        assert_eq!((reflection.wrong_drafts, reflection.refined), (2, 2));
    }

    #[test]
    fn an_instruction_weighs_as_much_as_its_refinements() {
        // One that is never right is refined three times, one that is right half of the time once: refining changes nothing.
        let mut reflection = Reflection::default();
        let hard = [candidate("d", 1.0), candidate("s", 1.0)];
        reflection.add(&[&hard[..], &[refined(0, 1.0), refined(0, 1.0), refined(0, 1.0)]].concat());
        for score in [1.0, 3.0] {
            reflection.add(&[candidate("d", 1.0), candidate("s", 3.0), refined(0, score)]);
        }
        assert_eq!((reflection.refined, reflection.fresh_right, reflection.gain()), (5, 1.0, Some(0.0)));
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
