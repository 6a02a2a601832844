//! How far a feedback model agrees with recorded feedback: its levels, their probabilities, and the errors that it names.

pub mod calibration;
pub mod confusion;

use std::collections::{BTreeMap, HashMap};

use rlrf_method::config::MethodConfig;
use rlrf_method::digest::digest;
use rlrf_method::iteration::{CandidateGroup, Iteration};
use rlrf_method::score::{Candidate, CandidateKind};
use rlrf_method::seam::{Checker, Generated, Judge};
use rlrf_method::{
    Error, Feedback, FeedbackRecord, Instruction, LEVELS, Message, ParseOutcome, Result, Templates,
};
use serde_json::{Map, json};

use crate::evaluation::{Evaluation, Item, Outcome};
use crate::respond::Context;
use crate::statistics;
use calibration::{expected_calibration_error, fitted_temperature, reliability};
use confusion::ConfusionMatrix;

/// Name of the benchmark.
pub const BENCHMARK: &str = "feedback";

/// Version of its definition.
const DEFINITION: u32 = 2;

/// Has every record's response judged, and measures the agreement. Rows are kept as those of the loop are.
///
/// # Errors
/// A failure of the judge, the checker or the store, or the user's interruption; what is finished is committed.
pub fn evaluate(
    context: &mut Context<'_>,
    judge: &mut dyn Judge,
    checker: Option<&dyn Checker>,
    set: &str,
    records: &[FeedbackRecord],
    templates: &Templates,
) -> Result<Outcome> {
    let feedback = judged(context, judge, records, templates)?;
    let mut outcome = agreement(set, records, &feedback, checker)?;
    let evaluation = &mut outcome.evaluation;
    evaluation.settings = json!({ "checker": checker.map(Checker::digest) });
    evaluation.digests.insert("judge".into(), judge.digest());
    evaluation.digests.insert("data".into(), digest(&FeedbackRecord::write_jsonl(records)?));
    Ok(outcome)
}

/// The judge's feedback on each record, in their order.
fn judged(
    context: &mut Context<'_>,
    judge: &mut dyn Judge,
    records: &[FeedbackRecord],
    templates: &Templates,
) -> Result<Vec<Feedback>> {
    let mut feedback: Vec<Option<Feedback>> = vec![None; records.len()];
    let instructions: Vec<Instruction> = records.iter().map(|record| record.instruction.clone()).collect();
    let config = MethodConfig::default();
    let mut aspects: Vec<_> = Vec::new();
    for record in records {
        if !aspects.contains(&&record.aspect) {
            aspects.push(&record.aspect);
        }
    }
    for aspect in aspects {
        let on_aspect = records.iter().enumerate().filter(|(_, record)| &record.aspect == aspect);
        let mut groups: Vec<CandidateGroup> =
            on_aspect.map(|(place, record)| CandidateGroup::new(place, vec![response(record)])).collect();
        let mut iteration = Iteration {
            config: &config,
            number: 0,
            instructions: &instructions,
            choices: Vec::new(),
            aspects: std::slice::from_ref(aspect),
            templates,
            store: &mut *context.store,
            progress: context.progress,
            checker: None,
            reward: None,
        };
        iteration.feedback(judge, &mut groups)?;
        for mut group in groups {
            feedback[group.instruction] = group.candidates.pop().and_then(|mut only| only.feedback.pop());
        }
    }
    let missing = || Error::Backend("feedback: a judgement did not come back".into());
    feedback.into_iter().map(|feedback| feedback.ok_or_else(missing)).collect()
}

fn response(record: &FeedbackRecord) -> Candidate {
    let generated =
        Generated { text: record.response.clone(), tokens: Vec::new(), logprob: None, complete: true };
    let key = digest(&("record", &record.instruction, &record.response, &record.aspect));
    Candidate::new(key, CandidateKind::Sampled, generated)
}

/// The agreement of `feedback` with the records, one for each; where the checker knows which error a response has, also
/// whether the critiques name it.
///
/// # Errors
/// The checker cannot check an instruction.
pub fn agreement(
    set: &str,
    records: &[FeedbackRecord],
    feedback: &[Feedback],
    checker: Option<&dyn Checker>,
) -> Result<Outcome> {
    let mut evaluation = Evaluation::new(BENCHMARK, DEFINITION, set);
    for count in ["items", "failed", "repaired"] {
        evaluation.count(count, 0);
    }
    let mut items = Vec::with_capacity(records.len());
    for (number, (record, feedback)) in (1u64..).zip(records.iter().zip(feedback)) {
        evaluation.count("items", 1);
        evaluation.count("failed", u64::from(feedback.level.is_none()));
        evaluation.count("repaired", u64::from(feedback.parse == ParseOutcome::Repaired));
        let mut item = item(number, record, feedback);
        if let (Some(_), Some(checker)) = (feedback.level, checker) {
            name_errors(&mut evaluation, &mut item, record, feedback, checker)?;
        }
        items.push(item);
    }
    let questions = questions(records);
    evaluation.add_means(&items);
    resample_questions(&mut evaluation, &items, &questions);
    add_levels(&mut evaluation, records, feedback, &questions);
    add_calibration(&mut evaluation, records, feedback);
    add_aspects(&mut evaluation, records, &items);
    Ok(Outcome { evaluation, items })
}

fn item(number: u64, record: &FeedbackRecord, feedback: &Feedback) -> Item {
    let mut scores = BTreeMap::new();
    if let Some(level) = feedback.level {
        let perfect = |level: u8| usize::from(level) == LEVELS;
        let agrees = |agrees: bool| f64::from(u8::from(agrees));
        scores.insert("accuracy".to_string(), agrees(level == record.level));
        scores.insert("perfect_accuracy".to_string(), agrees(perfect(level) == perfect(record.level)));
    }
    let detail = json!({
        "instruction": record.instruction.id, "response": record.response, "aspect": record.aspect.name,
        "recorded_level": record.level, "recorded_critique": record.critique, "level": feedback.level,
        "critique": feedback.critique, "distribution": feedback.distribution, "parse": feedback.parse,
    });
    let detail: Map<_, _> = detail.as_object().cloned().unwrap_or_default();
    Item { id: number.to_string(), scores, detail }
}

/// The records of each question: they have much in common, so intervals are by bootstrap over questions.
fn questions(records: &[FeedbackRecord]) -> Vec<Vec<usize>> {
    let mut places: HashMap<&[Message], usize> = HashMap::new();
    let mut questions: Vec<Vec<usize>> = Vec::new();
    for (number, record) in records.iter().enumerate() {
        let place = *places.entry(&record.instruction.messages).or_insert_with(|| {
            questions.push(Vec::new());
            questions.len() - 1
        });
        questions[place].push(number);
    }
    questions
}

/// The interval of the mean of every score, over questions in place of records.
fn resample_questions(evaluation: &mut Evaluation, items: &[Item], questions: &[Vec<usize>]) {
    let names: Vec<String> = evaluation.intervals.keys().cloned().collect();
    for name in names {
        // Sum and number of the scores of each question.
        let scores: Vec<(f64, f64)> = questions
            .iter()
            .map(|records| {
                let scores = records.iter().filter_map(|&record| items[record].scores.get(&name));
                scores.fold((0.0, 0.0), |(sum, number), score| (sum + score, number + 1.0))
            })
            .collect();
        let mean = |sample: &[usize]| {
            let (sum, number) = sample.iter().fold((0.0, 0.0), |(sum, number), &question| {
                (sum + scores[question].0, number + scores[question].1)
            });
            (number > 0.0).then(|| sum / number)
        };
        evaluation.intervals.extend(statistics::bootstrap(questions.len(), mean).map(|found| (name, found)));
    }
}

/// Holds the critique against what the checker knows of the response.
fn name_errors(
    evaluation: &mut Evaluation,
    item: &mut Item,
    record: &FeedbackRecord,
    feedback: &Feedback,
    checker: &dyn Checker,
) -> Result<()> {
    let FeedbackRecord { instruction, response, .. } = record;
    let Some(named) = checker.names_error(instruction, response, &feedback.critique)? else { return Ok(()) };
    let check = checker.check(instruction, response)?;
    let (score, of, count) = match check.correct {
        true => ("named_right_rate", "right_responses", "right_responses_named"),
        false => ("named_error_rate", "wrong_responses", "wrong_responses_named"),
    };
    item.scores.insert(score.into(), f64::from(u8::from(named)));
    item.detail.insert("checker_critique".into(), json!(check.critique));
    evaluation.count(of, 1);
    evaluation.count(count, u64::from(named));
    Ok(())
}

/// The confusion matrix, by row (the recorded level), and what follows from it.
fn add_levels(
    evaluation: &mut Evaluation,
    records: &[FeedbackRecord],
    feedback: &[Feedback],
    questions: &[Vec<usize>],
) {
    let levels = |record: &usize| Some((records[*record].level, feedback[*record].level?));
    let matrix = ConfusionMatrix::of((0..feedback.len()).filter_map(|record| levels(&record)));
    if let Some(kappa) = matrix.quadratic_weighted_kappa() {
        let resampled = |sample: &[usize]| {
            let of_sample = sample.iter().flat_map(|&question| &questions[question]);
            ConfusionMatrix::of(of_sample.filter_map(levels)).quadratic_weighted_kappa()
        };
        let interval = statistics::bootstrap(questions.len(), resampled);
        evaluation.metrics.insert("quadratic_weighted_kappa".into(), kappa);
        evaluation.intervals.extend(interval.map(|interval| ("quadratic_weighted_kappa".into(), interval)));
    }
    for row in 0..LEVELS {
        let mut group = BTreeMap::new();
        group.extend(matrix.precision(row).map(|share| ("precision".to_string(), share)));
        group.extend(matrix.recall(row).map(|share| ("recall".to_string(), share)));
        for column in 0..LEVELS {
            let (recorded, given) = (row + 1, column + 1);
            group.extend(matrix.rate(row, column).map(|share| (format!("given_{given}_rate"), share)));
            evaluation.count(&format!("recorded_{recorded}_given_{given}"), matrix.0[row][column]);
        }
        evaluation.groups.insert(format!("level {}", row + 1), group);
    }
}

/// Whether the probabilities of the levels mean what they say, where the judge tells them.
fn add_calibration(evaluation: &mut Evaluation, records: &[FeedbackRecord], feedback: &[Feedback]) {
    let told: Vec<(&FeedbackRecord, &Feedback, [f64; LEVELS])> = records
        .iter()
        .zip(feedback)
        .filter_map(|(record, feedback)| Some((record, feedback, feedback.distribution?)))
        .collect();
    let judged: Vec<(f64, bool)> = told
        .iter()
        .map(|(record, feedback, distribution)| {
            (distribution.iter().copied().fold(0.0, f64::max), feedback.level == Some(record.level))
        })
        .collect();
    let bins = reliability(&judged);
    let Some(error) = expected_calibration_error(&bins) else { return };
    let recorded =
        told.iter().map(|(record, _, distribution)| (*distribution, usize::from(record.level) - 1));
    let temperature = fitted_temperature(&recorded.collect::<Vec<_>>());
    evaluation.metrics.extend(temperature.map(|temperature| ("fitted_temperature".into(), temperature)));
    let gap = |(record, feedback, _): &(&FeedbackRecord, &Feedback, _)| {
        feedback.aspect_score().unwrap_or_default() - f64::from(record.level)
    };
    let gaps: Vec<f64> = told.iter().map(gap).collect();
    evaluation.metrics.insert("expected_calibration_error".into(), error);
    evaluation.metrics.insert("expected_level_gap".into(), statistics::mean(&gaps).abs());
    for bin in bins {
        let group = BTreeMap::from([
            ("accuracy".to_string(), bin.accuracy),
            ("mean_confidence".to_string(), bin.confidence),
            ("share_of_records".to_string(), bin.count as f64 / judged.len() as f64),
        ]);
        evaluation.groups.insert(format!("confidence {:.1} to {:.1}", bin.low, bin.high), group);
    }
}

/// The accuracy of each aspect, where there are several.
fn add_aspects(evaluation: &mut Evaluation, records: &[FeedbackRecord], items: &[Item]) {
    let mut aspects: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for (record, item) in records.iter().zip(items) {
        aspects.entry(&record.aspect.name).or_default().extend(item.scores.get("accuracy"));
    }
    if aspects.len() < 2 {
        return;
    }
    for (aspect, scores) in aspects.into_iter().filter(|(_, scores)| !scores.is_empty()) {
        let group = BTreeMap::from([("accuracy".to_string(), statistics::mean(&scores))]);
        evaluation.groups.insert(format!("aspect {aspect}"), group);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rlrf_method::Aspect;
    use rlrf_method::aspect::DEFAULT_ASPECTS;
    use rlrf_method::seam::Check;

    /// Knows that a response is wrong where it is `wrong`, and the error by the name `oops`.
    struct Namer;

    impl Checker for Namer {
        fn digest(&self) -> String {
            "namer".into()
        }

        fn check(&self, _: &Instruction, response: &str) -> Result<Check> {
            let correct = response != "wrong";
            Ok(Check { correct, readable: true, critique: "oops".into(), level: if correct { 3 } else { 1 } })
        }

        fn names_error(&self, _: &Instruction, response: &str, critique: &str) -> Result<Option<bool>> {
            Ok(Some(critique == if response == "wrong" { "oops" } else { "right" }))
        }
    }

    fn record(aspect: usize, response: &str, level: u8) -> FeedbackRecord {
        let instruction =
            Instruction { id: "i".into(), messages: vec![Message::user("q")], reference: None, answer: None };
        let aspect = Aspect::read_toml("aspects.toml", DEFAULT_ASPECTS).unwrap().remove(aspect);
        FeedbackRecord { instruction, response: response.into(), aspect, critique: String::new(), level }
    }

    fn feedback(critique: &str, distribution: [f64; LEVELS], parse: ParseOutcome) -> Feedback {
        Feedback::from_distribution("a", critique.into(), distribution, parse)
    }

    fn close(found: f64, expected: f64) -> bool {
        (found - expected).abs() < 1e-12
    }

    #[test]
    fn every_figure_of_a_few_records() {
        let records = [
            record(0, "right", 3),
            record(0, "wrong", 1),
            record(0, "wrong", 1),
            record(1, "wrong", 2),
            record(1, "wrong", 2),
        ];
        let given = [
            feedback("right", [0.0, 0.1, 0.9], ParseOutcome::Parsed),
            feedback("oops", [0.7, 0.3, 0.0], ParseOutcome::Parsed),
            feedback("fine", [0.0, 0.3, 0.7], ParseOutcome::Repaired),
            feedback("oops", [0.8, 0.2, 0.0], ParseOutcome::Parsed),
            Feedback::failed("a", "too long".into()),
        ];
        let Outcome { evaluation, items } = agreement("s", &records, &given, Some(&Namer)).unwrap();
        let Evaluation { metrics, counts, groups, .. } = &evaluation;
        assert_eq!((counts["items"], counts["failed"], counts["repaired"]), (5, 1, 1));
        assert_eq!((metrics["accuracy"], metrics["perfect_accuracy"]), (0.5, 0.75));
        // Recorded and given (3, 3), (1, 1), (1, 3), (2, 1): squared distances of 5, and of 7 by chance.
        assert!(close(metrics["quadratic_weighted_kappa"], 1.0 - 5.0 / 7.0), "{metrics:?}");
        // Bins of 0.9 (right), 0.7 (one of two right), 0.8 (wrong).
        assert!(close(metrics["expected_calibration_error"], (0.1 + 2.0 * 0.2 + 0.8) / 4.0), "{metrics:?}");
        assert!(close(metrics["expected_level_gap"], (-0.1 + 0.3 + 1.7 - 0.8) / 4.0), "{metrics:?}");
        assert_eq!((counts["wrong_responses"], counts["wrong_responses_named"]), (3, 2));
        assert!(close(metrics["named_error_rate"], 2.0 / 3.0) && metrics["named_right_rate"] == 1.0);
        assert_eq!(counts["recorded_1_given_3"], 1);
        // One question, resampled, is always itself.
        assert_eq!(evaluation.intervals["accuracy"], [0.5, 0.5]);
        assert_eq!(
            evaluation.intervals["quadratic_weighted_kappa"],
            [metrics["quadratic_weighted_kappa"]; 2]
        );
        // Of two, with one right of one and one of three, either may be left out.
        let mut apart = records.clone();
        apart[0].instruction.messages = vec![Message::user("another")];
        let of_two = agreement("s", &apart, &given, Some(&Namer)).unwrap().evaluation;
        assert_eq!((of_two.metrics["accuracy"], of_two.intervals["accuracy"]), (0.5, [1.0 / 3.0, 1.0]));
        assert!(groups["level 1"]["recall"] == 0.5 && groups["level 3"]["precision"] == 0.5);
        assert_eq!(groups["aspect factuality"]["accuracy"], 0.0);
        assert!(!groups["level 2"].contains_key("precision"));
        assert!(items[4].scores.is_empty() && items[4].detail["level"].is_null());
        assert!(evaluation.intervals.contains_key("accuracy"));
    }

    #[test]
    fn levels_alone_have_no_calibration_and_a_checker_that_knows_no_names_counts_none() {
        struct Silent;
        impl Checker for Silent {
            fn digest(&self) -> String {
                "silent".into()
            }
            fn check(&self, _: &Instruction, _: &str) -> Result<Check> {
                Ok(Check { correct: true, readable: true, critique: String::new(), level: 3 })
            }
        }
        let level = Feedback { distribution: None, ..feedback("c", [0.0, 0.0, 1.0], ParseOutcome::Parsed) };
        let outcome = agreement("s", &[record(0, "r", 3)], &[level], Some(&Silent)).unwrap();
        let names: Vec<&str> = outcome.evaluation.metrics.keys().map(String::as_str).collect();
        assert_eq!(names, ["accuracy", "perfect_accuracy"]);
        assert!(!outcome.evaluation.counts.contains_key("wrong_responses"));
    }
}
