//! The demonstrations of the decomposition prompt, and which of them are shown for a sentence.

use std::collections::HashMap;

use rlrf_method::{Error, Result};
use serde_json::{Map, Value};

/// `demos/demons.json` of the FActScore release (MIT, see LICENSE beside it): sentences with their facts, in its order.
const DEMONSTRATIONS: &str = include_str!("../../data/factscore/demonstrations.json");

/// So many are always shown, those at the file's beginning; the one most like the sentence is added.
const ALWAYS: usize = 7;

/// BM25's parameters, those of `rank_bm25.BM25Okapi`: saturation, length, and the share of the mean weight that a word
/// gets which is in more than half of the sentences.
const K1: f64 = 1.5;
const B: f64 = 0.75;
const FLOOR: f64 = 0.25;

/// A sentence with its facts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Demonstration {
    pub(crate) sentence: String,
    pub(crate) facts: Vec<String>,
}

/// All demonstrations, ready to be searched.
pub(crate) struct Demonstrations {
    all: Vec<Demonstration>,
    /// Of each: how often it has each word.
    words: Vec<HashMap<String, f64>>,
    weights: HashMap<String, f64>,
    mean_words: f64,
}

impl Demonstrations {
    /// Those of the release.
    pub(crate) fn read() -> Result<Self> {
        let refused = |message: String| Error::Input { file: "demonstrations.json".into(), message };
        let map: Map<String, Value> =
            serde_json::from_str(DEMONSTRATIONS).map_err(|error| refused(error.to_string()))?;
        let demonstration = |(sentence, facts): (String, Value)| {
            let facts = serde_json::from_value(facts).map_err(|error| refused(error.to_string()))?;
            Ok(Demonstration { sentence, facts })
        };
        Ok(Self::of(map.into_iter().map(demonstration).collect::<Result<_>>()?))
    }

    fn of(all: Vec<Demonstration>) -> Self {
        let words: Vec<HashMap<String, f64>> = all.iter().map(|each| counted(&each.sentence)).collect();
        let mut sentences: HashMap<String, f64> = HashMap::new();
        for word in words.iter().flat_map(HashMap::keys) {
            *sentences.entry(word.clone()).or_default() += 1.0;
        }
        let total = all.len() as f64;
        let weight = |with: f64| ((total - with + 0.5) / (with + 0.5)).ln();
        let mean = sentences.values().map(|&with| weight(with)).sum::<f64>() / sentences.len().max(1) as f64;
        let floored = |weight: f64| if weight < 0.0 { FLOOR * mean } else { weight };
        let weights = sentences.into_iter().map(|(word, with)| (word, floored(weight(with)))).collect();
        let lengths: f64 = words.iter().flat_map(HashMap::values).sum();
        Self { mean_words: lengths / total.max(1.0), all, words, weights }
    }

    /// The demonstrations for a sentence, the one most like it last; it may be there twice, as in the original.
    pub(crate) fn chosen(&self, sentence: &str) -> Vec<&Demonstration> {
        let mut best: Option<(f64, &Demonstration)> = None;
        for (demonstration, words) in self.all.iter().zip(&self.words) {
            let length = words.values().sum::<f64>() / self.mean_words;
            let score: f64 = sentence
                .split(' ')
                .filter_map(|word| Some((words.get(word)?, self.weights.get(word)?)))
                .map(|(count, weight)| weight * count * (K1 + 1.0) / (count + K1 * (1.0 - B + B * length)))
                .sum();
            // Of equal ones the last, as NumPy's reversed order has it.
            if best.is_none_or(|(best, _)| score >= best) {
                best = Some((score, demonstration));
            }
        }
        self.all.iter().take(ALWAYS).chain(best.map(|(_, demonstration)| demonstration)).collect()
    }
}

fn counted(sentence: &str) -> HashMap<String, f64> {
    let mut counts = HashMap::new();
    for word in sentence.split(' ') {
        *counts.entry(word.to_string()).or_default() += 1.0;
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seven_are_always_shown_and_the_nearest_is_added() {
        let demonstrations = Demonstrations::read().unwrap();
        assert_eq!(demonstrations.all.len(), 21);
        assert!(demonstrations.all.iter().all(|each| !each.facts.is_empty()));
        let first: Vec<&Demonstration> = demonstrations.all[..7].iter().collect();
        for place in [9, 14, 20] {
            let chosen = demonstrations.chosen(&demonstrations.all[place].sentence);
            assert_eq!(chosen[..7], first);
            assert_eq!(chosen[7..], [&demonstrations.all[place]]);
        }
    }
}
