//! One metric of the successive models on one set.

use rlrf_eval::Evaluation;
use rlrf_eval::evaluation::{Unit, is_headline, unit};

use crate::figure::{decimal, percent, points, signed};
use crate::summary::Summary;

/// The evaluations of one set that have a metric, ordered by iteration.
pub(crate) struct SetProgress<'a> {
    pub(crate) set: &'a str,
    pub(crate) metric: &'a str,
    pub(crate) evaluations: Vec<&'a Evaluation>,
}

impl<'a> SetProgress<'a> {
    /// The sets of a run with their metrics, in the order in which they first appear; lengths are no progress.
    pub(crate) fn of(summary: &'a Summary) -> Vec<Self> {
        Self::chosen(summary, |_, metric| unit(metric) != Unit::Amount)
    }

    /// The same, of those metrics alone that stand for their benchmarks.
    pub(crate) fn headlines(summary: &'a Summary) -> Vec<Self> {
        Self::chosen(summary, is_headline)
    }

    fn chosen(summary: &'a Summary, choose: impl Fn(&str, &str) -> bool) -> Vec<Self> {
        let mut sets: Vec<Self> = Vec::new();
        for evaluation in &summary.evaluations {
            for metric in evaluation.metrics.keys().filter(|metric| choose(&evaluation.benchmark, metric)) {
                let same = |progress: &&mut Self| progress.set == evaluation.set && progress.metric == metric;
                match sets.iter_mut().find(same) {
                    Some(progress) => progress.evaluations.push(evaluation),
                    None => sets.push(Self { set: &evaluation.set, metric, evaluations: vec![evaluation] }),
                }
            }
        }
        for progress in &mut sets {
            progress.evaluations.sort_by_key(|evaluation| evaluation.iteration);
        }
        sets
    }

    /// The set, and the metric where it is not plain accuracy.
    pub(crate) fn name(&self) -> String {
        match self.metric {
            "accuracy" => self.set.to_string(),
            metric => format!("{} {}", self.set, spoken(metric)),
        }
    }

    pub(crate) fn is_share(&self) -> bool {
        unit(self.metric) == Unit::Share
    }

    pub(crate) fn value(&self, evaluation: &Evaluation) -> Option<f64> {
        evaluation.metrics.get(self.metric).copied()
    }

    pub(crate) fn interval(&self, evaluation: &Evaluation) -> Option<[f64; 2]> {
        evaluation.intervals.get(self.metric).copied()
    }

    /// The metric of an evaluation as people read it.
    pub(crate) fn shown(&self, evaluation: &Evaluation) -> String {
        shown(self.metric, self.value(evaluation))
    }

    /// The first and the last evaluation; none if there are not two.
    pub(crate) fn ends(&self) -> Option<(&'a Evaluation, &'a Evaluation)> {
        match self.evaluations[..] {
            [first, .., last] => Some((first, last)),
            _ => None,
        }
    }

    /// Change from the first evaluation to the last.
    pub(crate) fn change(&self) -> Option<f64> {
        let (first, last) = self.ends()?;
        Some(self.value(last)? - self.value(first)?)
    }

    /// The change as people read it.
    pub(crate) fn shown_change(&self) -> String {
        if self.is_share() { points(self.change()) } else { signed(self.change(), 2) }
    }

    /// Whether the 95% intervals of the first and the last evaluation overlap.
    pub(crate) fn overlaps(&self) -> Option<bool> {
        let (first, last) = self.ends()?;
        let ([low, high], [last_low, last_high]) = (self.interval(first)?, self.interval(last)?);
        Some(last_low <= high && low <= last_high)
    }
}

/// A metric's value: shares in percent, other numbers with two decimals.
pub(crate) fn shown(metric: &str, value: Option<f64>) -> String {
    match unit(metric) {
        Unit::Share => percent(value),
        Unit::Number | Unit::Amount => crate::figure::optional(value, 2),
    }
}

/// An interval beside such a value.
pub(crate) fn shown_interval(metric: &str, interval: Option<[f64; 2]>) -> String {
    let Some([low, high]) = interval else { return String::new() };
    match unit(metric) {
        Unit::Share => format!("[{}, {}]", decimal(low * 100.0, 1), decimal(high * 100.0, 1)),
        Unit::Number | Unit::Amount => format!("[{}, {}]", decimal(low, 2), decimal(high, 2)),
    }
}

/// A key of `evaluation.json` in words.
pub(crate) fn spoken(key: &str) -> String {
    key.replace('_', " ")
}

/// The exclusions and failures of an evaluation: every count that is not 0, but for the items themselves.
pub(crate) fn shown_counts(evaluation: &Evaluation) -> String {
    let counts = evaluation.counts.iter().filter(|(name, count)| *name != "items" && **count > 0);
    counts.map(|(name, count)| format!("{} {count}", spoken(name))).collect::<Vec<_>>().join(", ")
}
