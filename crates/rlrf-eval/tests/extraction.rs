//! The readings of answers, held against answers that people wrote.
#![allow(clippy::unwrap_used, reason = "a test")]

use rlrf_eval::word_problems::number::{exact, flexible, strict};
use serde::Deserialize;

const ANSWERS: &str = include_str!("fixtures/gsm8k/answers.jsonl");
const GOLD: &str = include_str!("fixtures/gsm8k/gold.txt");

#[derive(Deserialize)]
struct Answer {
    text: String,
    strict: Option<String>,
    flexible: Option<String>,
}

#[test]
fn every_answer_of_the_table_is_read_as_a_person_reads_it() {
    let answers: Vec<Answer> = ANSWERS.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(answers.len() >= 200, "{}", answers.len());
    let mut wrong = Vec::new();
    for Answer { text, strict: expected_strict, flexible: expected_flexible } in &answers {
        let read =
            [("strict", strict(text), expected_strict), ("flexible", flexible(text), expected_flexible)];
        for (name, found, expected) in read {
            let value = expected.as_ref().map(|expected| exact(expected).unwrap());
            if found != value {
                let found = found.map(|value| value.to_string());
                wrong.push(format!("{text:?}: {name} is {found:?}, expected {expected:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_gold_answer_extracts_to_itself() {
    assert_eq!(GOLD.lines().count(), 7473 + 1319);
    for gold in GOLD.lines() {
        let value = exact(gold).unwrap();
        assert_eq!(value.to_string(), gold.replace(',', ""));
        for text in [format!("#### {gold}"), format!("So it is 3 + 4.\n#### {gold}"), format!("#### {gold}.")]
        {
            assert_eq!((strict(&text), flexible(&text)), (Some(value), Some(value)), "{text}");
        }
        assert_eq!(flexible(&format!("The answer is ${gold}.")), Some(value), "{gold}");
    }
}
