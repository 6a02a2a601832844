//! Two evaluations of the same items: is one better, or is it chance?

use std::collections::{BTreeMap, HashMap};

use rlrf_method::{Error, Result};
use serde::Serialize;

use crate::evaluation::{Item, Outcome};
use crate::statistics::{mcnemar, mean, paired};

/// How the p-value was had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Test {
    /// McNemar's exact test, for scores that are all 0 or 1.
    McnemarExact,
    /// Bootstrap over the pairs, for other scores.
    PairedBootstrap,
}

/// One metric of both evaluations, over the items that have it in both.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Difference {
    /// Items that have the score in both evaluations.
    pub items: u64,
    /// Mean of the first.
    pub first: f64,
    /// Mean of the second.
    pub second: f64,
    /// Second less first.
    pub difference: f64,
    /// Its 95% interval: percentile bootstrap over the pairs.
    pub interval: [f64; 2],
    /// Two-sided p-value of there being no difference.
    pub p: f64,
    /// How it was had.
    pub test: Test,
    /// Items with the higher score in the first evaluation.
    pub first_better: u64,
    /// Items with the higher score in the second.
    pub second_better: u64,
}

/// The outcome of a comparison.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Comparison {
    /// Name of the benchmark.
    pub benchmark: String,
    /// Name of the set.
    pub set: String,
    /// By metric.
    pub metrics: BTreeMap<String, Difference>,
    /// Items, and those left out of a metric because one of the evaluations has no score for them.
    pub counts: BTreeMap<String, u64>,
}

/// Compares two evaluations item by item.
///
/// # Errors
/// They are of other benchmarks, definitions, data or items, and say so.
pub fn compare(first: &Outcome, second: &Outcome) -> Result<Comparison> {
    refuse_incomparable(first, second)?;
    let others: HashMap<&str, &Item> = second.items.iter().map(|item| (item.id.as_str(), item)).collect();
    let mut pairs: BTreeMap<&str, Vec<(f64, f64)>> = BTreeMap::new();
    let mut counts = BTreeMap::from([("items".to_string(), first.items.len() as u64)]);
    for item in &first.items {
        let other = *others.get(item.id.as_str()).ok_or_else(|| not_in_second(&item.id))?;
        for (metric, &score) in &item.scores {
            if let Some(&other) = other.scores.get(metric) {
                pairs.entry(metric).or_default().push((score, other));
            }
        }
    }
    let mut metrics = BTreeMap::new();
    for (metric, pairs) in pairs {
        counts.insert(format!("{metric}_excluded"), (first.items.len() - pairs.len()) as u64);
        metrics.extend(difference(&pairs).map(|difference| (metric.to_string(), difference)));
    }
    let evaluation = &first.evaluation;
    Ok(Comparison { benchmark: evaluation.benchmark.clone(), set: evaluation.set.clone(), metrics, counts })
}

fn difference(pairs: &[(f64, f64)]) -> Option<Difference> {
    let differences: Vec<f64> = pairs.iter().map(|(first, second)| second - first).collect();
    let (interval, p) = paired(&differences)?;
    let first_better = differences.iter().filter(|&&difference| difference < 0.0).count() as u64;
    let second_better = differences.iter().filter(|&&difference| difference > 0.0).count() as u64;
    let is_binary = |score: f64| score == 0.0 || score == 1.0;
    let binary = pairs.iter().all(|&(first, second)| is_binary(first) && is_binary(second));
    Some(Difference {
        items: pairs.len() as u64,
        first: mean(&pairs.iter().map(|pair| pair.0).collect::<Vec<_>>()),
        second: mean(&pairs.iter().map(|pair| pair.1).collect::<Vec<_>>()),
        difference: mean(&differences),
        interval,
        p: if binary { mcnemar(first_better, second_better) } else { p },
        test: if binary { Test::McnemarExact } else { Test::PairedBootstrap },
        first_better,
        second_better,
    })
}

fn refuse_incomparable(first: &Outcome, second: &Outcome) -> Result<()> {
    let (a, b) = (&first.evaluation, &second.evaluation);
    let data = |outcome: &Outcome| outcome.evaluation.digests.get("data").cloned().unwrap_or_default();
    let what = if a.benchmark != b.benchmark {
        format!("benchmarks: {} and {}", a.benchmark, b.benchmark)
    } else if a.definition != b.definition {
        format!(
            "definitions of {}: {} and {}; evaluate both with one version",
            a.benchmark, a.definition, b.definition
        )
    } else if data(first) != data(second) {
        format!("data: digests {:?} and {:?}; evaluate both on the same items", data(first), data(second))
    } else if first.items.len() != second.items.len() {
        format!("numbers of items: {} and {}", first.items.len(), second.items.len())
    } else {
        return Ok(());
    };
    Err(Error::Backend(format!("these evaluations cannot be compared: they have different {what}")))
}

fn not_in_second(id: &str) -> Error {
    Error::Backend(format!("these evaluations cannot be compared: item {id:?} is in the first only"))
}

#[cfg(test)]
mod tests {
    use serde_json::Map;

    use super::*;
    use crate::evaluation::Evaluation;

    fn outcome(scores: &[(&str, Option<f64>)]) -> Outcome {
        let items = scores.iter().map(|(id, score)| Item {
            id: (*id).into(),
            scores: score.iter().map(|&score| ("accuracy".to_string(), score)).collect(),
            detail: Map::new(),
        });
        Outcome { evaluation: Evaluation::new("b", 1, "s"), items: items.collect() }
    }

    #[test]
    fn items_are_paired_by_id_and_those_without_a_score_are_counted() {
        let first = outcome(&[("a", Some(0.0)), ("b", Some(1.0)), ("c", Some(0.0)), ("d", None)]);
        let second = outcome(&[("c", Some(1.0)), ("d", Some(1.0)), ("a", Some(1.0)), ("b", Some(1.0))]);
        let found = compare(&first, &second).unwrap();
        let accuracy = &found.metrics["accuracy"];
        assert_eq!((accuracy.items, accuracy.first_better, accuracy.second_better), (3, 0, 2));
        assert_eq!((accuracy.test, accuracy.p), (Test::McnemarExact, 0.5));
        assert!((accuracy.difference - 2.0 / 3.0).abs() < 1e-12);
        assert_eq!(found.counts["accuracy_excluded"], 1);
        let third = outcome(&[("a", Some(0.5)), ("b", Some(1.0)), ("c", Some(0.0)), ("d", None)]);
        assert_eq!(compare(&first, &third).unwrap().metrics["accuracy"].test, Test::PairedBootstrap);
    }

    #[test]
    fn what_is_not_the_same_is_refused() {
        let first = outcome(&[("a", Some(0.0))]);
        let message = |second: &Outcome| compare(&first, second).unwrap_err().to_string();
        let mut second = first.clone();
        second.evaluation.digests.insert("data".into(), "x".into());
        assert!(message(&second).contains("different data"));
        assert!(message(&outcome(&[("b", Some(0.0))])).contains("item \"a\" is in the first only"));
        second = first.clone();
        second.evaluation.definition = 2;
        assert!(message(&second).contains("different definitions"));
    }
}
