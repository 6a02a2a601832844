//! Real rubric feedback, as replies in Prometheus's form and as a critique with a level, mutated in a dozen ways each.
//!
//! The feedback and scores are GPT-4's of prometheus-eval's `vicuna_eval.json` (github.com/prometheus-eval/prometheus-eval at
//! dcfb44272d5d, evaluation data; Apache-2.0, licence beside the fixture), of which the fixture is an excerpt. The whole file
//! is read where `RLRF_PROMETHEUS` names its folder:
//!
//!     RLRF_PROMETHEUS=path cargo test -p rlrf-eval --test replies rubric -- --nocapture

use std::path::Path;

use rlrf_eval::reply::{AspectVerdict, RubricReply};
use rlrf_method::ParseOutcome;
use rlrf_method::verdict::Verdict;
use serde_json::Value;

use crate::random::{Random, truncated};

/// A written judgement and its score, 1 to 5.
struct Judgement {
    feedback: String,
    score: u8,
}

fn judgements() -> Vec<Judgement> {
    let excerpt = include_str!("../fixtures/vicuna_eval_excerpt.json");
    let text = match std::env::var("RLRF_PROMETHEUS") {
        Ok(folder) => std::fs::read_to_string(Path::new(&folder).join("vicuna_eval.json")).unwrap(),
        Err(_) => excerpt.to_string(),
    };
    let records: Vec<Value> = serde_json::from_str(&text).unwrap();
    let mut judgements = Vec::new();
    for record in &records {
        let scores = record["gpt4_score"].as_array().unwrap();
        for (feedback, score) in record["gpt4_feedback"].as_array().unwrap().iter().zip(scores) {
            let score = score.as_u64().unwrap().try_into().unwrap();
            judgements.push(Judgement { feedback: feedback.as_str().unwrap().trim().to_string(), score });
        }
    }
    assert!(judgements.len() >= 30);
    judgements
}

/// How a verdict stands at the end of a reply.
trait Form {
    /// The highest number of its scale.
    const HIGHEST: u8;
    /// What comes before the number.
    const MARK: &'static str;
    /// The number that is read, if one is.
    fn read(reply: &str) -> Option<u8>;
    /// A score from 1 to 5 on this scale.
    fn scaled(score: u8) -> u8;
}

struct Rubric;

impl Form for Rubric {
    const HIGHEST: u8 = 5;
    const MARK: &'static str = " [RESULT] ";

    fn read(reply: &str) -> Option<u8> {
        match RubricReply::read(reply).verdict {
            AspectVerdict::Score(score) => Some(score),
            _ => None,
        }
    }

    fn scaled(score: u8) -> u8 {
        score
    }
}

struct Level;

impl Form for Level {
    const HIGHEST: u8 = 3;
    const MARK: &'static str = "\nLevel: ";

    fn read(reply: &str) -> Option<u8> {
        Verdict::read(reply, "The response.", None).map(|verdict| verdict.level)
    }

    fn scaled(score: u8) -> u8 {
        score.div_ceil(2)
    }
}

/// What the judgement's reply may become on its way: nothing that can be read as a verdict.
fn mutations<F: Form>(judgement: &Judgement, random: &mut Random) -> [String; 12] {
    let Judgement { feedback, .. } = judgement;
    let score = F::scaled(judgement.score);
    let mark = F::MARK;
    let reply = format!("{feedback}{mark}{score}");
    let other = *random.choose(&(1..=F::HIGHEST).filter(|other| *other != score).collect::<Vec<_>>());
    let foreign = ['\u{660}', '\u{6f0}', '\u{966}', '\u{9e6}', '\u{e50}', '\u{ff10}', '\u{1d7d8}'];
    let zero = *random.choose(&foreign);
    let foreign = char::from_u32(zero as u32 + u32::from(other)).unwrap();
    let outside = *random.choose(&["0", "-1", "6", "10", "99", "4.5", "2.5", "1/10", "1e0"]);
    let unsure =
        *random.choose(&["between 2 and 3", "2 or 3", "2-3", "1 to 3", "two", "II", "[1, 2 or 3]", "N/A"]);
    [
        truncated(&reply[..reply.len() - 1], random),
        format!("{reply}{other}"),
        format!("{reply}.5"),
        format!("{reply} or {other}"),
        format!("{reply}{mark}{other}"),
        format!("{feedback}{mark}{other}\nOr rather:{mark}{score}"),
        format!("{reply}\nOn reflection, it deserves {other}."),
        format!("{feedback}{mark}{outside}"),
        format!("{feedback}{mark}{foreign}"),
        format!("{feedback}{mark}{unsure}"),
        format!("{{\"feedback\": \"{feedback}\", \"score\": {other}"),
        format!("{feedback} RESULT, level {score}"),
    ]
}

fn check<F: Form>(name: &str) {
    let judgements = judgements();
    let mut random = Random(20_240_502);
    let (mut well_formed, mut mutated) = (0, 0);
    for judgement in &judgements {
        let score = F::scaled(judgement.score);
        for opening in ["", "Feedback: "] {
            let reply = format!("{opening}{}{}{score}", judgement.feedback, F::MARK);
            assert_eq!(F::read(&reply), Some(score), "{reply}");
            well_formed += 1;
        }
        for mutation in mutations::<F>(judgement, &mut random) {
            assert_eq!(F::read(&mutation), None, "{mutation}");
            mutated += 1;
        }
    }
    assert!(mutated >= 300);
    println!("{name}: all {well_formed} well-formed replies read, none of {mutated} mutated ones");
}

#[test]
fn rubric_replies_are_read_or_excluded() {
    check::<Rubric>("[RESULT]");
    for Judgement { feedback, score } in judgements() {
        let read = RubricReply::read(&format!("Feedback: {feedback} [RESULT] {score}"));
        assert_eq!((read.verdict, read.parse), (AspectVerdict::Score(score), ParseOutcome::Parsed));
        assert_eq!(read.feedback, feedback);
    }
}

#[test]
fn levels_are_read_or_excluded() {
    check::<Level>("Level");
    for Judgement { feedback, score } in judgements() {
        let level = Level::scaled(score);
        let read = Verdict::read(&format!("{feedback}\n\nLevel: {level}\n"), "The response.", None).unwrap();
        assert_eq!(read, Verdict { critique: feedback, level, parse: ParseOutcome::Parsed });
    }
}
