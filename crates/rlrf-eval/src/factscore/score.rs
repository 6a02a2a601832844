//! The arithmetic: from the verdicts on the facts of each response to the numbers.

use std::collections::BTreeMap;

use crate::evaluation::{Evaluation, Item};

/// What became of one response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// The person has no page: nothing can be checked, nothing is counted.
    NoPage,
    /// It declines to answer.
    Abstained,
    /// It answers, but no fact was found in it: as in the original, it counts as not answered.
    WithoutFacts,
    /// It answers.
    Answered(Tally),
}

impl Standing {
    /// The name in items and counts.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::NoPage => "no_page",
            Self::Abstained => "abstained",
            Self::WithoutFacts => "without_facts",
            Self::Answered(_) => "answered",
        }
    }
}

/// The facts of one response, counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Facts.
    pub facts: u64,
    /// Facts with a verdict: the rest could not be judged.
    pub judged: u64,
    /// Facts that are supported.
    pub supported: u64,
}

impl Tally {
    /// `s`: the share of the judged facts that are supported; none if no fact was judged.
    #[must_use]
    pub fn share(self) -> Option<f64> {
        (self.judged > 0).then(|| self.supported as f64 / self.judged as f64)
    }
}

/// What a response's share is multiplied by: 1 with more than `gamma` facts, else `exp(1 - gamma / facts)`, after the
/// brevity penalty of BLEU. A `gamma` of 0 switches it off.
#[must_use]
pub fn penalty(facts: u64, gamma: f64) -> f64 {
    if gamma <= 0.0 || facts as f64 > gamma { 1.0 } else { (1.0 - gamma / facts as f64).exp() }
}

/// The scores of one response, by the names of the metrics that are their means.
#[must_use]
pub fn scores(standing: Standing, gamma: f64) -> BTreeMap<String, f64> {
    let mut scores = BTreeMap::new();
    let mut put = |name: &str, score| scores.insert(name.to_string(), score);
    match standing {
        Standing::NoPage => {}
        Standing::Abstained | Standing::WithoutFacts => {
            put("respond_ratio", 0.0);
        }
        Standing::Answered(tally) => {
            put("respond_ratio", 1.0);
            put("facts_per_response", tally.facts as f64);
            if let Some(share) = tally.share() {
                put("init_score", share);
                put("score", penalty(tally.facts, gamma) * share);
            }
        }
    }
    scores
}

/// Adds the counts and means of all responses.
pub fn summarise(evaluation: &mut Evaluation, standings: &[Standing], items: &[Item]) {
    for count in ["items", "no_page", "abstained", "without_facts", "answered", "unscored"] {
        evaluation.count(count, 0);
    }
    for count in ["facts", "facts_supported", "facts_unjudged"] {
        evaluation.count(count, 0);
    }
    for standing in standings {
        evaluation.count("items", 1);
        evaluation.count(standing.name(), 1);
        if let Standing::Answered(tally) = standing {
            evaluation.count("unscored", u64::from(tally.judged == 0));
            evaluation.count("facts", tally.facts);
            evaluation.count("facts_supported", tally.supported);
            evaluation.count("facts_unjudged", tally.facts - tally.judged);
        }
    }
    evaluation.add_means(items);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(facts: u64, judged: u64, supported: u64) -> Standing {
        Standing::Answered(Tally { facts, judged, supported })
    }

    #[test]
    fn the_penalty_falls_on_few_facts_alone() {
        let e = std::f64::consts::E;
        for (facts, expected) in [(0, 0.0), (1, e.powi(-9)), (5, 1.0 / e), (10, 1.0), (11, 1.0), (100, 1.0)] {
            let found = penalty(facts, 10.0);
            assert!((found - expected).abs() < 1e-12, "{facts} facts: {found}, not {expected}");
        }
        assert!(penalty(9, 10.0) < 1.0);
        assert_eq!([0, 1, 9].map(|facts| penalty(facts, 0.0)), [1.0; 3]);
    }

    #[test]
    fn a_response_scores_what_it_answers() {
        let found = scores(answered(5, 4, 3), 10.0);
        assert!((found["score"] - 0.75 * (-1.0_f64).exp()).abs() < 1e-12);
        assert_eq!(
            (found["init_score"], found["facts_per_response"], found["respond_ratio"]),
            (0.75, 5.0, 1.0)
        );
        for standing in [Standing::Abstained, Standing::WithoutFacts] {
            assert_eq!(scores(standing, 10.0), BTreeMap::from([("respond_ratio".into(), 0.0)]));
        }
        assert!(scores(Standing::NoPage, 10.0).is_empty());
        let unjudged = scores(answered(3, 0, 0), 10.0);
        assert!(!unjudged.contains_key("score") && unjudged["respond_ratio"] == 1.0);
    }

    #[test]
    fn means_are_over_the_responses_that_have_the_score() {
        let standings = [answered(11, 11, 11), answered(20, 10, 5), Standing::Abstained, Standing::NoPage];
        let items: Vec<Item> = standings
            .iter()
            .map(|&standing| Item {
                id: String::new(),
                scores: scores(standing, 10.0),
                detail: Default::default(),
            })
            .collect();
        let mut evaluation = Evaluation::new("factscore", 1, "s");
        summarise(&mut evaluation, &standings, &items);
        let expected = [
            ("facts_per_response", 15.5),
            ("init_score", 0.75),
            ("respond_ratio", 2.0 / 3.0),
            ("score", 0.75),
        ];
        assert_eq!(evaluation.metrics, expected.map(|(name, value)| (name.to_string(), value)).into());
        let counts = [("items", 4), ("no_page", 1), ("abstained", 1), ("answered", 2), ("facts", 31)];
        for (name, expected) in counts.into_iter().chain([("facts_supported", 16), ("facts_unjudged", 10)]) {
            assert_eq!(evaluation.counts[name], expected, "{name}");
        }
    }
}
