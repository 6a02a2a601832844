//! From responses to numbers: exact match, strict and flexible, of one or of several samples.

use rlrf_arithmetic::Rational;
use rlrf_method::seam::Generated;
use serde_json::{Map, Value, json};

use super::number::{flexible, strict};
use super::problem::{Problem, Source};
use crate::evaluation::{Evaluation, Item, Outcome};
use crate::respond::known_length;

/// Version of the definition of these benchmarks.
const DEFINITION: u32 = 1;

/// The two readings of a response, with their names.
const READINGS: [(&str, fn(&str) -> Option<Rational>); 2] = [("strict", strict), ("flexible", flexible)];

/// A response and what is known of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Response {
    /// The text.
    pub text: String,
    /// Its tokens, where the model tells.
    pub tokens: Option<u64>,
    /// Whether the model ended it.
    pub complete: bool,
}

impl From<Generated> for Response {
    fn from(generated: Generated) -> Self {
        Self { tokens: known_length(&generated), text: generated.text, complete: generated.complete }
    }
}

impl From<String> for Response {
    fn from(text: String) -> Self {
        Self { text, tokens: None, complete: true }
    }
}

/// Scores the responses to each problem, as many as there are `samples` or none at all.
///
/// An item's `strict_accuracy` is the share of its samples that are right, and so is `flexible_accuracy`; with several
/// samples there are also `maj_at_K_*`, `K` being their number, and the unbiased `pass_at_k_*` for the powers of two up
/// to `K` and `K` itself. A response that cannot be read is wrong, and counted; so is a problem without responses.
#[must_use]
pub fn score(
    source: Source,
    set: &str,
    problems: &[Problem],
    responses: &[Vec<Response>],
    samples: usize,
) -> Outcome {
    let mut evaluation = Evaluation::new(source.name(), DEFINITION, set);
    for count in ["items", "answered", "incomplete", "tokens_unknown"] {
        evaluation.count(count, 0);
    }
    let mut items = Vec::with_capacity(problems.len());
    for (problem, responses) in problems.iter().zip(responses) {
        evaluation.count("items", 1);
        evaluation.count("answered", u64::from(!responses.is_empty()));
        evaluation.count("incomplete", responses.iter().filter(|response| !response.complete).count() as u64);
        let mut item = Item { id: problem.id.clone(), scores: Default::default(), detail: Map::new() };
        let mut shown: Vec<Value> = responses
            .iter()
            .map(|response| json!({ "response": response.text, "complete": response.complete }))
            .collect();
        for (name, read) in READINGS {
            let values: Vec<Option<Rational>> =
                responses.iter().map(|response| read(&response.text)).collect();
            for (shown, value) in shown.iter_mut().zip(&values) {
                shown[name] = json!(value.map(|value| value.to_string()));
            }
            let right = values.iter().flatten().filter(|&&value| problem.gold.is(value)).count();
            evaluation.count(&format!("{name}_correct"), right as u64);
            let unparseable = values.iter().filter(|value| value.is_none()).count();
            evaluation.count(&format!("{name}_unparseable"), unparseable as u64);
            item.scores.insert(format!("{name}_accuracy"), right as f64 / samples as f64);
            if samples > 1 {
                let agreed = majority(&values).is_some_and(|value| problem.gold.is(value));
                item.scores.insert(format!("maj_at_{samples}_{name}"), f64::from(u8::from(agreed)));
                for k in pass_sizes(samples) {
                    item.scores.insert(format!("pass_at_{k}_{name}"), pass_at(samples, right, k));
                }
            }
        }
        let tokens: Option<Vec<u64>> = responses.iter().map(|response| response.tokens).collect();
        match tokens.as_deref() {
            Some([]) => {}
            Some(tokens) => {
                let mean = tokens.iter().sum::<u64>() as f64 / tokens.len() as f64;
                item.scores.insert("mean_tokens".into(), mean);
            }
            None => evaluation.count("tokens_unknown", 1),
        }
        item.detail.insert("question".into(), json!(problem.question));
        item.detail.insert("answer".into(), json!(problem.answer));
        item.detail.insert("samples".into(), shown.into());
        items.push(item);
    }
    evaluation.add_means(&items);
    evaluation.digests.insert("data".into(), rlrf_method::digest::digest(&problems));
    Outcome { evaluation, items }
}

/// Scores responses from a file, as [`crate::responses::read_responses`] gives them. A problem without a response is
/// wrong, and counted as `missing`.
#[must_use]
pub fn score_texts(source: Source, set: &str, problems: &[Problem], texts: Vec<Vec<String>>) -> Outcome {
    let samples = texts.iter().map(Vec::len).max().unwrap_or(1);
    let missing = texts.iter().filter(|texts| texts.is_empty()).count() as u64;
    let responses: Vec<Vec<Response>> =
        texts.into_iter().map(|texts| texts.into_iter().map(Response::from).collect()).collect();
    let mut outcome = score(source, set, problems, &responses, samples);
    outcome.evaluation.count("missing", missing);
    outcome.evaluation.settings = json!({ "samples": samples });
    outcome
}

/// The value that most samples agree on; of several, the one that comes first. Samples without a value do not vote.
fn majority(values: &[Option<Rational>]) -> Option<Rational> {
    let mut votes: Vec<(Rational, usize)> = Vec::new();
    for value in values.iter().flatten() {
        match votes.iter_mut().find(|(known, _)| known == value) {
            Some((_, count)) => *count += 1,
            None => votes.push((*value, 1)),
        }
    }
    let most = votes.iter().map(|(_, count)| *count).max()?;
    votes.into_iter().find(|(_, count)| *count == most).map(|(value, _)| value)
}

/// The `k` of pass@k that are told of so many samples; pass@1 is the accuracy.
fn pass_sizes(samples: usize) -> impl Iterator<Item = usize> {
    let powers = (1..usize::BITS).map(|power| 1 << power).take_while(move |&k| k < samples);
    powers.chain([samples])
}

/// The unbiased estimate of the chance that at least one of `k` samples is right, from `right` of `samples`:
/// `1 - C(n - c, k) / C(n, k)` (Chen et al. 2021, arXiv 2107.03374), as a product that cannot overflow.
fn pass_at(samples: usize, right: usize, k: usize) -> f64 {
    if samples - right < k {
        return 1.0;
    }
    1.0 - (samples - right + 1..=samples).map(|n| 1.0 - k as f64 / n as f64).product::<f64>()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Over all ways to choose k of the samples.
    #[test]
    fn pass_at_k_is_the_share_of_choices_with_a_right_one() {
        for samples in 1..=10usize {
            for right in 0..=samples {
                for k in 1..=samples {
                    let choices = (0..1u32 << samples).filter(|choice| choice.count_ones() as usize == k);
                    let (mut all, mut passed) = (0, 0);
                    for choice in choices {
                        all += 1;
                        passed += u32::from(choice & ((1 << right) - 1) != 0);
                    }
                    let expected = f64::from(passed) / f64::from(all);
                    let found = pass_at(samples, right, k);
                    assert!((found - expected).abs() < 1e-12, "{samples} {right} {k}: {found}, {expected}");
                }
            }
        }
        assert_eq!(pass_sizes(8).collect::<Vec<_>>(), [2, 4, 8]);
        assert_eq!(pass_sizes(6).collect::<Vec<_>>(), [2, 4, 6]);
    }

    fn problems(answers: &[&str]) -> Vec<Problem> {
        let lines: Vec<String> = answers
            .iter()
            .map(|answer| json!({ "question": "q", "answer": format!("#### {answer}") }).to_string())
            .collect();
        Source::Gsm8k.read("t", lines.join("\n").as_bytes()).unwrap()
    }

    fn scored(answers: &[&str], responses: &[&[&str]]) -> Outcome {
        let responses: Vec<Vec<Response>> = responses
            .iter()
            .map(|samples| samples.iter().map(|text| Response::from((*text).to_string())).collect())
            .collect();
        let samples = responses.iter().map(Vec::len).max().unwrap();
        score(Source::Gsm8k, "t", &problems(answers), &responses, samples)
    }

    #[test]
    fn what_cannot_be_read_or_is_not_there_is_wrong_and_counted() {
        let Outcome { evaluation, .. } =
            scored(&["18", "1,080", "3", "4"], &[&["#### 18"], &["It is 1080."], &["no idea"], &[]]);
        assert_eq!(evaluation.metrics["strict_accuracy"], 0.25);
        assert_eq!(evaluation.metrics["flexible_accuracy"], 0.5);
        let counts = |name: &str| evaluation.counts[name];
        assert_eq!(
            ["items", "answered", "strict_unparseable", "flexible_unparseable"].map(counts),
            [4, 3, 2, 1]
        );
        assert_eq!(["strict_correct", "flexible_correct", "incomplete"].map(counts), [1, 2, 0]);
        assert!(!evaluation.metrics.contains_key("mean_tokens"));
    }

    #[test]
    fn several_samples_vote_and_pass() {
        let samples: [&[&str]; 3] = [
            &["#### 5", "#### 5.0", "#### 6", "none"],
            &["#### 7", "#### 2", "#### 2", "#### 7"],
            &["none", "none", "#### 9", "#### 1"],
        ];
        let Outcome { evaluation, items } = scored(&["5", "2", "9"], &samples);
        let of = |item: usize, name: &str| items[item].scores[name];
        assert_eq!([0, 1, 2].map(|item| of(item, "maj_at_4_strict")), [1.0, 0.0, 1.0], "7 comes before 2");
        assert_eq!([0, 1, 2].map(|item| of(item, "strict_accuracy")), [0.5, 0.5, 0.25]);
        assert!((of(2, "pass_at_2_strict") - 0.5).abs() < 1e-12);
        assert_eq!(of(2, "pass_at_4_strict"), 1.0);
        assert!((evaluation.metrics["maj_at_4_flexible"] - 2.0 / 3.0).abs() < 1e-12);
        assert_eq!(evaluation.counts["strict_unparseable"], 3);
    }
}
