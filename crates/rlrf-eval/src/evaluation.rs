//! The one form of result that every benchmark ends in.

use std::collections::BTreeMap;

use rlrf_method::committer::write_row;
use rlrf_method::digest::digest;
use rlrf_method::{Result, Row, RowStore, Table};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::statistics;

/// What an evaluation found, as `evaluation.json` and `--json` have it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// Name of the benchmark, such as `gsm8k`.
    pub benchmark: String,
    /// Version of the benchmark's definition: raised whenever one of its numbers changes its meaning.
    pub definition: u32,
    /// Name of the problem set.
    pub set: String,
    /// Iteration of the policy; 0 outside a run.
    pub iteration: u32,
    /// The numbers. One that nothing tells about is absent, never 0.
    pub metrics: BTreeMap<String, f64>,
    /// Bounds of the 95% interval of each metric: percentile bootstrap over the items, or over groups
    /// of them that have much in common.
    pub intervals: BTreeMap<String, [f64; 2]>,
    /// Items, answered ones, and every exclusion by its reason.
    pub counts: BTreeMap<String, u64>,
    /// Settings that decide the numbers: template, sampling, seed...
    pub settings: Value,
    /// Digests of data, template, model, judge, index.
    pub digests: BTreeMap<String, String>,
    /// Version of rlrf.
    pub version: String,
    /// Metrics of parts of the set, such as each source of its items.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub groups: BTreeMap<String, BTreeMap<String, f64>>,
}

impl Evaluation {
    /// An evaluation of this benchmark without any number yet.
    #[must_use]
    pub fn new(benchmark: &str, definition: u32, set: &str) -> Self {
        Self {
            benchmark: benchmark.into(),
            definition,
            set: set.into(),
            iteration: 0,
            metrics: BTreeMap::new(),
            intervals: BTreeMap::new(),
            counts: BTreeMap::new(),
            settings: Value::Object(Map::new()),
            digests: BTreeMap::new(),
            version: env!("CARGO_PKG_VERSION").into(),
            groups: BTreeMap::new(),
        }
    }

    /// Adds every score's mean over the items that have it, with its interval. Items without a score are excluded from
    /// its mean: they are to be counted under a reason of their own.
    pub fn add_means(&mut self, items: &[Item]) {
        let mut scores: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
        for (name, &score) in items.iter().flat_map(|item| &item.scores) {
            scores.entry(name).or_default().push(score);
        }
        for (name, scores) in scores {
            self.metrics.insert(name.into(), statistics::mean(&scores));
            self.intervals.insert(name.into(), statistics::interval(&scores));
        }
    }

    /// Adds to a count; a count of 0 is written, too.
    pub fn count(&mut self, name: &str, number: u64) {
        *self.counts.entry(name.into()).or_default() += number;
    }

    /// A count that may not have been taken.
    #[must_use]
    pub fn counted(&self, name: &str) -> u64 {
        self.counts.get(name).copied().unwrap_or_default()
    }
}

/// One problem of an evaluation, as a line of `items.jsonl` has it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Item {
    /// Unique in its evaluation; the same in every evaluation of the same data.
    pub id: String,
    /// The item's share in each metric that is a mean over items; a score that could not be had is absent.
    pub scores: BTreeMap<String, f64>,
    /// Whatever lets a reader see how the scores came about: the response, what was read in it, the judge's words.
    #[serde(flatten)]
    pub detail: Map<String, Value>,
}

/// An evaluation with its items.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// The numbers.
    pub evaluation: Evaluation,
    /// What they were computed from.
    pub items: Vec<Item>,
}

impl Outcome {
    /// Commits the evaluation (a row of [`Table::Metrics`] under [`evaluation_key`]) and its items (rows of
    /// [`Table::Scores`]) in one transaction, unless they are there already.
    ///
    /// # Errors
    /// The store failed.
    pub fn commit(&self, store: &mut dyn RowStore) -> Result<()> {
        let Evaluation { benchmark, set, iteration, .. } = &self.evaluation;
        let key = evaluation_key(benchmark, set, *iteration);
        if store.get(Table::Metrics, &key)?.is_some() {
            return Ok(());
        }
        let mut rows = Vec::with_capacity(self.items.len() + 1);
        for (position, item) in (0u32..).zip(&self.items) {
            let key = digest(&("item", &key, &item.id));
            let body = write_row(Table::Scores, &key, item)?;
            let instruction = format!("{set}/{}", item.id);
            rows.push((Table::Scores, Row { key, iteration: *iteration, instruction, position, body }));
        }
        let body = write_row(Table::Metrics, &key, &self.evaluation)?;
        let instruction = EVALUATION.to_string();
        rows.push((Table::Metrics, Row { key, iteration: *iteration, instruction, position: 0, body }));
        Ok(store.commit(&rows)?)
    }
}

/// What the rows of evaluations in [`Table::Metrics`] have in place of an instruction.
pub const EVALUATION: &str = "evaluation";

/// Identity of an evaluation within one run.
#[must_use]
pub fn evaluation_key(benchmark: &str, set: &str, iteration: u32) -> String {
    digest(&(EVALUATION, benchmark, set, iteration))
}

/// Whether a metric stands for its benchmark where there is room for one or two numbers only. Word problems have all
/// that are no lengths: strict and flexible reading are always shown side by side.
#[must_use]
pub fn is_headline(benchmark: &str, metric: &str) -> bool {
    match benchmark {
        "just-eval" => matches!(metric, "mean" | "safety"),
        "factscore" => matches!(metric, "score" | "respond_ratio"),
        "aspects" => !metric.starts_with("agreement") && unit(metric) != Unit::Amount,
        _ => unit(metric) != Unit::Amount,
    }
}

/// What a metric's values are, for whoever shows them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// A share from 0 to 1, shown in percent.
    Share,
    /// A grade or another plain number.
    Number,
    /// A length or another amount that is neither good nor bad.
    Amount,
}

/// The unit of a metric, by its name.
#[must_use]
pub fn unit(metric: &str) -> Unit {
    let is = |part: &str| metric.contains(part);
    // Levels: what follows is the aspect's name, whatever that is.
    if metric.starts_with("checked_") || metric.starts_with("judged_") {
        Unit::Number
    } else if is("tokens") || is("words") || is("facts_per") {
        Unit::Amount
    } else if [
        "accuracy",
        "rate",
        "ratio",
        "score",
        "_at_",
        "precision",
        "recall",
        "calibration",
        "confidence",
        "share",
    ]
    .into_iter()
    .any(is)
    {
        Unit::Share
    } else {
        Unit::Number
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(id: &str, scores: &[(&str, f64)]) -> Item {
        let scores = scores.iter().map(|&(name, score)| (name.to_string(), score)).collect();
        Item { id: id.into(), scores, detail: Map::new() }
    }

    #[test]
    fn what_is_excluded_weighs_nothing_and_what_nothing_tells_about_is_absent() {
        let mut evaluation = Evaluation::new("b", 1, "s");
        evaluation.add_means(&[
            item("1", &[("a", 1.0), ("b", 4.0)]),
            item("2", &[("a", 0.0)]),
            item("3", &[]),
        ]);
        assert_eq!(evaluation.metrics, BTreeMap::from([("a".into(), 0.5), ("b".into(), 4.0)]));
        assert_eq!(evaluation.intervals["b"], [4.0, 4.0]);
        assert_eq!(evaluation.intervals["a"], [0.0, 1.0]);
    }

    #[test]
    fn levels_are_numbers_whatever_their_aspect_is_called() {
        assert_eq!(unit("judged_accuracy"), Unit::Number);
        assert_eq!(unit("checked_few_words"), Unit::Number);
        assert_eq!(unit("agreement_rate_brevity"), Unit::Share);
        assert!(is_headline("aspects", "judged_few_words") && !is_headline("aspects", "mean_tokens"));
    }

    #[test]
    fn an_evaluation_and_an_item_read_back() {
        let mut evaluation = Evaluation::new("gsm8k", 1, "test");
        let mut first = item("1", &[("a", 1.0 / 3.0)]);
        first.detail.insert("response".into(), "text".into());
        evaluation.add_means(std::slice::from_ref(&first));
        let text = serde_json::to_string(&evaluation).unwrap();
        assert_eq!(serde_json::from_str::<Evaluation>(&text).unwrap(), evaluation);
        let text = serde_json::to_string(&first).unwrap();
        assert!(text.contains("\"response\":\"text\""), "{text}");
        assert_eq!(serde_json::from_str::<Item>(&text).unwrap(), first);
    }
}
