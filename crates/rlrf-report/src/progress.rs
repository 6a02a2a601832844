//! Accuracy of the successive models on one set.

use rlrf_method::evaluation::Evaluation;

use crate::figure::share;
use crate::interval::wilson_interval;
use crate::summary::Summary;

/// The evaluations of one set, ordered by iteration.
pub(crate) struct SetProgress<'a> {
    pub(crate) set: &'a str,
    pub(crate) evaluations: Vec<&'a Evaluation>,
}

impl<'a> SetProgress<'a> {
    /// The sets of a run, in the order in which they first appear.
    pub(crate) fn of(summary: &'a Summary) -> Vec<Self> {
        let mut sets: Vec<Self> = Vec::new();
        for evaluation in &summary.evaluations {
            match sets.iter_mut().find(|progress| progress.set == evaluation.set) {
                Some(progress) => progress.evaluations.push(evaluation),
                None => sets.push(Self { set: &evaluation.set, evaluations: vec![evaluation] }),
            }
        }
        for progress in &mut sets {
            progress.evaluations.sort_by_key(|evaluation| evaluation.iteration);
        }
        sets
    }

    /// The first and the last evaluation; none if there are not two.
    pub(crate) fn ends(&self) -> Option<(&'a Evaluation, &'a Evaluation)> {
        match self.evaluations[..] {
            [first, .., last] => Some((first, last)),
            _ => None,
        }
    }

    /// Change of accuracy from the first evaluation to the last.
    pub(crate) fn change(&self) -> Option<f64> {
        let (first, last) = self.ends()?;
        Some(accuracy(last)? - accuracy(first)?)
    }

    /// Whether the 95% intervals of the first and the last evaluation overlap.
    pub(crate) fn overlaps(&self) -> Option<bool> {
        let (first, last) = self.ends()?;
        let (low, high) = wilson_interval(first.correct, first.problems);
        let (last_low, last_high) = wilson_interval(last.correct, last.problems);
        Some(last_low <= high && low <= last_high)
    }
}

/// Share of right answers, from the counts; none without problems.
pub(crate) fn accuracy(evaluation: &Evaluation) -> Option<f64> {
    share(evaluation.correct, evaluation.problems)
}
