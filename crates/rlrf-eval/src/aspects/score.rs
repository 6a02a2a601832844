//! From levels to numbers: means of each aspect, and how far judge and checkers agree.

use std::collections::BTreeMap;

use rlrf_method::seam::{Check, Generated};
use rlrf_method::{Feedback, LEVELS, ParseOutcome};
use serde_json::{Map, Value, json};

use super::{BENCHMARK, DEFINITION};
use crate::evaluation::{Evaluation, Item, Outcome};
use crate::respond::known_length;

/// What was found on one aspect of one response.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Levels {
    /// By the checker, where the aspect has one.
    pub(super) checked: Option<Check>,
    /// By the judge, where there is one.
    pub(super) judged: Option<Feedback>,
}

/// One instruction with the response to it and its levels.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Measured {
    /// Id of the instruction.
    id: String,
    /// None where the instruction does not fit the model's context.
    pub(super) response: Option<Generated>,
    /// By aspect, in the order in which they were measured.
    levels: Vec<(String, Levels)>,
}

impl Measured {
    /// Nothing is measured yet.
    pub(super) fn new(id: &str) -> Self {
        Self { id: id.into(), response: None, levels: Vec::new() }
    }

    /// The levels on one aspect, to be filled in.
    pub(super) fn levels(&mut self, aspect: &str) -> &mut Levels {
        let place = self.levels.iter().position(|(name, _)| name == aspect).unwrap_or_else(|| {
            self.levels.push((aspect.into(), Levels::default()));
            self.levels.len() - 1
        });
        &mut self.levels[place].1
    }
}

/// The numbers of these responses. A level that could not be had is in no mean, and counted.
pub(super) fn score(set: &str, measured: &[Measured]) -> Outcome {
    let mut evaluation = Evaluation::new(BENCHMARK, DEFINITION, set);
    for count in
        ["items", "prompt_too_long", "incomplete", "judge_failed", "judge_repaired", "tokens_unknown"]
    {
        evaluation.count(count, 0);
    }
    let items: Vec<Item> = measured.iter().map(|measured| item(measured, &mut evaluation)).collect();
    evaluation.add_means(&items);
    Outcome { evaluation, items }
}

fn item(measured: &Measured, evaluation: &mut Evaluation) -> Item {
    evaluation.count("items", 1);
    let (mut scores, mut detail) = (BTreeMap::new(), Map::new());
    let Some(response) = &measured.response else {
        evaluation.count("prompt_too_long", 1);
        detail.insert("excluded".into(), "prompt_too_long".into());
        return Item { id: measured.id.clone(), scores, detail };
    };
    evaluation.count("incomplete", u64::from(!response.complete));
    detail.insert("response".into(), response.text.as_str().into());
    detail.insert("complete".into(), response.complete.into());
    match known_length(response) {
        Some(tokens) => {
            scores.insert("mean_tokens".into(), tokens as f64);
        }
        None => evaluation.count("tokens_unknown", 1),
    }
    let mut aspects = Map::new();
    for (aspect, levels) in &measured.levels {
        let name = aspect.replace(' ', "_");
        if let Some(judged) = &levels.judged {
            evaluation.count("judge_failed", u64::from(judged.level.is_none()));
            evaluation.count("judge_repaired", u64::from(judged.parse == ParseOutcome::Repaired));
            scores.extend(judged.aspect_score().map(|score| (format!("judged_{name}"), score)));
        }
        if let Some(checked) = &levels.checked {
            scores.insert(format!("checked_{name}"), f64::from(checked.level));
            if let Some(level) = levels.judged.as_ref().and_then(|judged| judged.level) {
                let agrees = f64::from(u8::from(level == checked.level));
                scores.insert(format!("agreement_rate_{name}"), agrees);
            }
        }
        aspects.insert(aspect.clone(), shown(levels));
    }
    detail.insert("aspects".into(), aspects.into());
    scores.extend(perfect_rate("checked", measured, |levels| levels.checked.as_ref().map(|c| c.level)));
    // A judge that failed on one aspect leaves open whether all are perfect.
    let judged_all = measured.levels.iter().filter_map(|(_, l)| l.judged.as_ref()).all(|j| j.level.is_some());
    if judged_all {
        scores.extend(perfect_rate("judged", measured, |levels| levels.judged.as_ref()?.level));
    }
    Item { id: measured.id.clone(), scores, detail }
}

/// Whether every aspect with a level has the highest one; none where no aspect has a level.
fn perfect_rate(
    by: &str,
    measured: &Measured,
    level: impl Fn(&Levels) -> Option<u8>,
) -> Option<(String, f64)> {
    let levels: Vec<u8> = measured.levels.iter().filter_map(|(_, levels)| level(levels)).collect();
    let perfect = levels.iter().all(|&level| usize::from(level) == LEVELS);
    (!levels.is_empty()).then(|| (format!("perfect_rate_{by}"), f64::from(u8::from(perfect))))
}

fn shown(levels: &Levels) -> Value {
    let mut shown = Map::new();
    if let Some(checked) = &levels.checked {
        shown.insert("checked".into(), json!({ "level": checked.level, "critique": checked.critique }));
    }
    if let Some(judged) = &levels.judged {
        shown.insert("judged".into(), json!(judged));
    }
    shown.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn generated(text: &str) -> Generated {
        Generated { text: text.into(), tokens: vec![1, 2], logprob: None, complete: true }
    }

    fn checked(level: u8) -> Option<Check> {
        Some(Check { correct: level == 3, readable: true, critique: String::new(), level })
    }

    fn judged(aspect: &str, distribution: [f64; LEVELS]) -> Option<Feedback> {
        Some(Feedback::from_distribution(aspect, String::new(), distribution, ParseOutcome::Parsed))
    }

    fn measured(id: &str, levels: &[(&str, Option<Check>, Option<Feedback>)]) -> Measured {
        let mut measured = Measured { response: Some(generated(id)), ..Measured::new(id) };
        for (aspect, checked, judged) in levels {
            *measured.levels(aspect) = Levels { checked: checked.clone(), judged: judged.clone() };
        }
        measured
    }

    #[test]
    fn every_number_by_hand() {
        let failed = Some(Feedback::failed("plain words", "too long".into()));
        let set = [
            measured(
                "1",
                &[
                    ("plain words", checked(3), judged("plain words", [0.0, 0.0, 1.0])),
                    ("short", checked(1), judged("short", [0.0, 0.5, 0.5])),
                ],
            ),
            measured(
                "2",
                &[
                    ("plain words", checked(3), failed),
                    ("short", checked(3), judged("short", [0.0, 0.0, 1.0])),
                ],
            ),
            measured(
                "3",
                &[
                    ("plain words", checked(2), judged("plain words", [0.0, 0.0, 1.0])),
                    ("short", checked(3), judged("short", [0.0, 0.0, 1.0])),
                ],
            ),
            Measured::new("4"),
        ];
        let Outcome { evaluation, items } = score("set", &set);
        let expected = BTreeMap::from([
            ("checked_plain_words", 8.0 / 3.0),
            ("checked_short", 7.0 / 3.0),
            ("judged_plain_words", 3.0),
            ("judged_short", 8.5 / 3.0),
            ("agreement_rate_plain_words", 0.5),
            ("agreement_rate_short", 2.0 / 3.0),
            ("perfect_rate_checked", 1.0 / 3.0),
            ("perfect_rate_judged", 0.5),
            ("mean_tokens", 2.0),
        ]);
        assert_eq!(evaluation.metrics.len(), expected.len(), "{:?}", evaluation.metrics);
        for (metric, expected) in expected {
            let found = evaluation.metrics[metric];
            assert!((found - expected).abs() < 1e-12, "{metric}: {found} instead of {expected}");
        }
        for (count, expected) in
            [("items", 4), ("prompt_too_long", 1), ("judge_failed", 1), ("incomplete", 0)]
        {
            assert_eq!(evaluation.counted(count), expected, "{count}");
        }
        assert_eq!(evaluation.intervals.len(), evaluation.metrics.len());
        assert!(items[3].scores.is_empty() && items[3].detail["excluded"] == "prompt_too_long");
        assert_eq!(items[0].detail["aspects"]["short"]["judged"]["level"], 2, "the lower of equals");
    }

    #[test]
    fn who_did_not_measure_has_no_number() {
        let without_judge = score("set", &[measured("1", &[("short", checked(2), None)])]).evaluation;
        let metrics: Vec<&str> = without_judge.metrics.keys().map(String::as_str).collect();
        assert_eq!(metrics, ["checked_short", "mean_tokens", "perfect_rate_checked"]);
        let without_checker =
            score("set", &[measured("1", &[("short", None, judged("short", [0.0, 1.0, 0.0]))])]).evaluation;
        let metrics: Vec<&str> = without_checker.metrics.keys().map(String::as_str).collect();
        assert_eq!(metrics, ["judged_short", "mean_tokens", "perfect_rate_judged"]);
    }
}
