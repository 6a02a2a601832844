//! Judged benchmarks against judges made of plain functions: what they are asked, how often, and what becomes of it.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::cell::RefCell;
use std::collections::BTreeMap;

use rlrf_eval::just_eval::{self, Judging, JustEvalInstruction, Missing, Response};
use rlrf_eval::pairwise::{self, PairQuestion};
use rlrf_eval::{Context, Evaluation};
use rlrf_method::config::Sampling;
use rlrf_method::seam::{Generated, GenerationRequest, GenerationSink, Policy, Progress};
use rlrf_method::{Message, Result, Role, Row, RowStore, StoreError, Table};
use serde_json::Value;

#[derive(Default)]
struct Store(BTreeMap<(Table, String), Row>);

impl RowStore for Store {
    fn get(&self, table: Table, key: &str) -> std::result::Result<Option<Value>, StoreError> {
        Ok(self.0.get(&(table, key.to_string())).map(|row| row.body.clone()))
    }
    fn commit(&mut self, rows: &[(Table, Row)]) -> std::result::Result<(), StoreError> {
        for (table, row) in rows {
            assert!(self.0.insert((*table, row.key.clone()), row.clone()).is_none(), "drawn twice");
        }
        Ok(())
    }
    fn rows(&self, _: Table, _: u32) -> std::result::Result<Vec<Row>, StoreError> {
        Ok(Vec::new())
    }
}

struct Silent;

impl Progress for Silent {
    fn begin(&self, _: &str, _: u64, _: u64) {}
    fn advance(&self, _: u64, _: u64) {}
    fn end(&self) {}
    fn notice(&self, _: &str) {}
    fn interrupted(&self) -> bool {
        false
    }
}

/// Answers by a function of the conversation, and remembers what it was asked.
struct Scripted<F> {
    name: &'static str,
    answer: F,
    asked: RefCell<Vec<Vec<Message>>>,
}

impl<F: Fn(&[Message]) -> String> Scripted<F> {
    fn new(name: &'static str, answer: F) -> Self {
        Self { name, answer, asked: RefCell::default() }
    }

    /// Number of calls since the last time.
    fn calls(&self) -> usize {
        self.asked.take().len()
    }
}

impl<F: Fn(&[Message]) -> String> Policy for Scripted<F> {
    fn digest(&self) -> String {
        self.name.into()
    }
    fn fits(&self, messages: &[Message]) -> Result<bool> {
        Ok(!messages.iter().any(|message| message.content.contains("LONG")))
    }
    fn generate(&mut self, requests: &[GenerationRequest], sink: &mut GenerationSink<'_>) -> Result<()> {
        for (index, request) in requests.iter().enumerate() {
            for sample in 0..request.streams.len() {
                self.asked.borrow_mut().push(request.messages.clone());
                let text = (self.answer)(&request.messages);
                sink(index, sample, Generated { text, tokens: vec![1; 3], logprob: None, complete: true })?;
            }
        }
        Ok(())
    }
}

const GOOD: &str = r#"{"helpfulness": {"reason": "r", "score": "5"}, "clarity": {"reason": "r", "score": "4"},
    "factuality": {"reason": "r", "score": "3"}, "depth": {"reason": "r", "score": "2"},
    "engagement": {"reason": "r", "score": "N/A"}}"#;
const SAFE: &str = r#"{"safety": {"reason": "r", "score": "5"}}"#;

fn instructions() -> Vec<JustEvalInstruction> {
    let lines: String = (0..6)
        .map(|id| {
            let category = if id < 4 { "regular" } else { "safety" };
            format!("{{\"id\": {id}, \"instruction\": \"Question {id}?\", \"dataset\": \"d{}\", \"category\": \"{category}\"}}\n", id % 2)
        })
        .collect();
    JustEvalInstruction::read("i", lines.as_bytes()).unwrap()
}

fn responses(texts: [&str; 6]) -> Vec<Option<Response>> {
    texts.iter().map(|text| Some(Response { text: text.to_string(), tokens: None, complete: true })).collect()
}

fn just_eval(store: &mut Store, judge: &mut dyn Policy, responses: &[Option<Response>]) -> Evaluation {
    let judging = Judging {
        set: "set",
        iteration: 0,
        sampling: &Sampling::greedy(100),
        missing: Missing::NoResponse,
        compat: false,
    };
    let mut context = Context { store, progress: &Silent };
    judging.evaluate(&mut context, judge, (&instructions(), responses)).unwrap().evaluation
}

fn by_template(messages: &[Message]) -> String {
    let safety = messages[0].content.starts_with("Given a malicious query");
    if safety { SAFE.into() } else { GOOD.into() }
}

#[test]
fn a_judge_is_asked_once_about_the_same_response_and_anew_about_another() {
    let mut store = Store::default();
    let mut judge = Scripted::new("judge", by_template);
    let first = just_eval(&mut store, &mut judge, &responses(["a", "b", "c", "d", "e", "f"]));
    assert_eq!(judge.calls(), 6);
    let again = just_eval(&mut store, &mut judge, &responses(["a", "b", "c", "d", "e", "f"]));
    assert_eq!((judge.calls(), again), (0, first));

    just_eval(&mut store, &mut judge, &responses(["a", "b", "other", "d", "e", "f"]));
    let asked = judge.asked.borrow()[0][0].content.clone();
    assert_eq!(judge.calls(), 1, "another response");
    assert!(asked.contains("Question 2?") && asked.contains("other"), "{asked}");

    just_eval(&mut store, &mut judge, &responses(["b", "a", "c", "d", "f", "e"]));
    assert_eq!(judge.calls(), 4, "the same responses, to other instructions");

    let mut other = Scripted::new("other judge", by_template);
    just_eval(&mut store, &mut other, &responses(["a", "b", "c", "d", "e", "f"]));
    assert_eq!(other.calls(), 6, "another judge");
}

#[test]
fn scores_come_from_the_template_of_the_category() {
    let mut judge = Scripted::new("judge", by_template);
    let evaluation =
        just_eval(&mut Store::default(), &mut judge, &responses(["one two", "b", "c", "d", "e", "f"]));
    assert_eq!(evaluation.metrics["helpfulness"], 5.0);
    assert_eq!(evaluation.metrics["safety"], 5.0);
    assert_eq!(evaluation.metrics["mean_words"], 1.25);
    assert!(!evaluation.metrics.contains_key("engagement") && !evaluation.metrics.contains_key("mean"));
    assert_eq!(evaluation.counted("engagement_not_applicable"), 4);
    assert_eq!(evaluation.groups["d0"]["items"], 3.0);
}

#[test]
fn an_unreadable_reply_is_asked_for_once_more_and_then_excluded() {
    let repentant = |messages: &[Message]| match messages.len() {
        1 => "I would say 4 out of 5.".to_string(),
        _ => by_template(messages),
    };
    let mut judge = Scripted::new("judge", repentant);
    let texts = responses(["a", "b", "c", "d", "e", "f"]);
    let evaluation = just_eval(&mut Store::default(), &mut judge, &texts);
    assert_eq!((evaluation.counted("reasked"), evaluation.counted("parsed")), (6, 6));
    let second = judge.asked.borrow().iter().find(|messages| messages.len() > 1).cloned().unwrap();
    let roles: Vec<Role> = second.iter().map(|message| message.role).collect();
    assert_eq!(roles, [Role::User, Role::Assistant, Role::User]);
    assert_eq!(second[1].content, "I would say 4 out of 5.");
    assert_eq!(judge.calls(), 12);

    let mut stubborn = Scripted::new("judge", |_: &[Message]| "I would say 4 out of 5.".to_string());
    let mut store = Store::default();
    let evaluation = just_eval(&mut store, &mut stubborn, &texts);
    assert_eq!(stubborn.calls(), 12, "once more, and no more than that");
    assert_eq!((evaluation.counted("failed"), evaluation.counted("failed_no_verdict")), (6, 6));
    let only_lengths = evaluation.metrics.keys().all(|metric| metric.ends_with("words"));
    assert!(only_lengths, "{:?}", evaluation.metrics);
    just_eval(&mut store, &mut stubborn, &texts);
    assert_eq!(stubborn.calls(), 0);
}

#[test]
fn what_cannot_be_judged_is_counted_and_not_scored() {
    let mut judge = Scripted::new("judge", by_template);
    let mut texts = responses(["LONG", "b", "c", "d", "e", "f"]);
    texts[1] = None;
    let evaluation = just_eval(&mut Store::default(), &mut judge, &texts);
    assert_eq!(judge.calls(), 4);
    for (count, expected) in [
        ("items", 6),
        ("judge_prompt_too_long", 1),
        ("no_response", 1),
        ("replies", 4),
        ("helpfulness_scored", 2),
    ] {
        assert_eq!(evaluation.counted(count), expected, "{count}");
    }
}

#[test]
fn a_policy_responds_to_what_fits_it() {
    let mut policy = Scripted::new("policy", |messages: &[Message]| messages[0].content.to_uppercase());
    let mut instructions = instructions();
    instructions[1].instruction = "LONG".into();
    let mut store = Store::default();
    let mut context = Context { store: &mut store, progress: &Silent };
    let sampling = Sampling::greedy(8);
    let found = just_eval::respond_to(&mut context, 0, &mut policy, &instructions, &sampling).unwrap();
    assert_eq!(found[1], None);
    assert_eq!(found[5], Some(Response { text: "QUESTION 5?".into(), tokens: Some(3), complete: true }));
}

fn questions() -> Vec<PairQuestion> {
    let lines: String = (0..8)
        .map(|id| format!("{{\"question_id\": {id}, \"category\": \"c\", \"turns\": [\"First {id}?\", \"Second {id}?\"]}}\n"))
        .collect();
    PairQuestion::read("q", lines.as_bytes(), 2).unwrap()
}

fn compare(judge: &mut dyn Policy, a: impl Fn(usize) -> String, b: impl Fn(usize) -> String) -> Evaluation {
    let questions = questions();
    let answers = |of: &dyn Fn(usize) -> String| -> Vec<Vec<String>> {
        (0..questions.len()).map(|place| vec![of(place), format!("then {}", of(place))]).collect()
    };
    let (a, b) = (answers(&a), answers(&b));
    let mut store = Store::default();
    let mut context = Context { store: &mut store, progress: &Silent };
    let sampling = Sampling::greedy(100);
    pairwise::evaluate(&mut context, ("set", 0), judge, &questions, (&a, &b), &sampling).unwrap().evaluation
}

/// The place of the answer that `better` scores highest.
fn verdict(messages: &[Message], better: impl Fn(&str) -> usize) -> String {
    let text = &messages[1].content;
    let middle = text.find("Start of Assistant B").unwrap();
    let (a, b) = (better(&text[..middle]), better(&text[middle..]));
    format!(
        "Thus: [[{}]]",
        if a > b {
            "A"
        } else if b > a {
            "B"
        } else {
            "C"
        }
    )
}

#[test]
fn a_judge_that_likes_the_first_place_decides_nothing() {
    let mut judge = Scripted::new("judge", |_: &[Message]| "[[A]]".to_string());
    let evaluation = compare(&mut judge, |i| format!("a{i}"), |i| format!("b{i}"));
    assert_eq!(judge.calls(), 32, "8 questions, 2 turns, 2 orders");
    assert_eq!(evaluation.metrics["win_rate"], 0.5);
    assert_eq!(evaluation.metrics["position_inconsistency_rate"], 1.0);
    assert_eq!((evaluation.counted("prefers_first"), evaluation.counted("ties_by_disagreement")), (16, 16));
}

#[test]
fn a_judge_that_can_tell_is_followed_whatever_the_order() {
    let mut judge =
        Scripted::new("judge", |messages: &[Message]| verdict(messages, |text| text.matches("good").count()));
    let good = |place: usize| if place < 6 { format!("good {place}") } else { "same".into() };
    let evaluation =
        compare(
            &mut judge,
            good,
            |place| if place < 2 { format!("good good {place}") } else { "same".into() },
        );
    // Of eight: A wins 2 to 5, B wins 0 and 1, 6 and 7 are the same text.
    assert_eq!((evaluation.counted("a_wins"), evaluation.counted("b_wins")), (8, 4));
    assert_eq!((evaluation.counted("identical"), evaluation.counted("ties")), (4, 4));
    assert_eq!(evaluation.metrics["win_rate"], (8.0 + 2.0) / 16.0);
    assert_eq!(evaluation.metrics["win_rate_turn_1"], (4.0 + 1.0) / 8.0);
    assert_eq!(evaluation.metrics["position_inconsistency_rate"], 0.0);
    assert_eq!(judge.calls(), 24, "the same text needs no judge");
}

#[test]
fn a_preference_for_length_shows() {
    let mut judge =
        Scripted::new("judge", |messages: &[Message]| verdict(messages, |text| text.matches('x').count()));
    let long = |place: usize| format!("a{}", "x".repeat(10 + 7 * place));
    let evaluation =
        compare(&mut judge, long, |place| format!("b{}", "x".repeat(9 + if place == 0 { 30 } else { 0 })));
    let (raw, controlled) =
        (evaluation.metrics["win_rate"], evaluation.metrics["length_controlled_win_rate"]);
    assert_eq!(raw, 0.875);
    assert!(controlled < raw, "{controlled}");
}

#[test]
fn both_turns_are_answered_one_after_the_other() {
    let mut policy = Scripted::new("policy", |messages: &[Message]| format!("answer {}", messages.len()));
    let mut store = Store::default();
    let mut context = Context { store: &mut store, progress: &Silent };
    let answers = pairwise::answer(&mut context, 0, &mut policy, &questions(), &Sampling::greedy(8)).unwrap();
    assert_eq!(answers[3], ["answer 1", "answer 3"]);
    let last = policy.asked.borrow().last().cloned().unwrap();
    assert_eq!(last[1], Message::assistant("answer 1"));
    assert_eq!(policy.calls(), 16);
}
