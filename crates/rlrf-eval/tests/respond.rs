//! Asking a model: nothing twice, nothing lost, all at once.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::cell::Cell;
use std::collections::BTreeMap;

use rlrf_eval::word_problems::{Asking, Source, Template, evaluate};
use rlrf_eval::{Context, Prompt, problems, respond};
use rlrf_method::config::Sampling;
use rlrf_method::seam::{Check, Checker, Generated, GenerationRequest, GenerationSink, Policy, Progress};
use rlrf_method::{Error, Instruction, Message, Result, Row, RowStore, StoreError, Table};

#[derive(Default)]
struct MemoryStore {
    rows: BTreeMap<(Table, String), Row>,
    committed_twice: usize,
}

impl RowStore for MemoryStore {
    fn get(&self, table: Table, key: &str) -> std::result::Result<Option<serde_json::Value>, StoreError> {
        Ok(self.rows.get(&(table, key.to_string())).map(|row| row.body.clone()))
    }
    fn commit(&mut self, rows: &[(Table, Row)]) -> std::result::Result<(), StoreError> {
        for (table, row) in rows {
            let twice = self.rows.insert((*table, row.key.clone()), row.clone()).is_some();
            self.committed_twice += usize::from(twice);
        }
        Ok(())
    }
    fn rows(&self, table: Table, iteration: u32) -> std::result::Result<Vec<Row>, StoreError> {
        let rows = self.rows.iter().filter(|((t, _), row)| *t == table && row.iteration == iteration);
        Ok(rows.map(|(_, row)| row.clone()).collect())
    }
}

/// Answers in words of its own, last request first.
#[derive(Default)]
struct Parrot {
    calls: usize,
    drawn: usize,
}

impl Policy for Parrot {
    fn digest(&self) -> String {
        "parrot".into()
    }
    fn fits(&self, messages: &[Message]) -> Result<bool> {
        Ok(!messages[0].content.contains("endless"))
    }
    fn generate(&mut self, requests: &[GenerationRequest], sink: &mut GenerationSink<'_>) -> Result<()> {
        self.calls += 1;
        for (index, request) in requests.iter().enumerate().rev() {
            assert!(self.fits(&request.messages)?, "the whole stage would fail");
            for (sample, stream) in request.streams.iter().enumerate() {
                self.drawn += 1;
                let text = format!("{} {stream}", request.messages[0].content);
                sink(index, sample, Generated { text, tokens: vec![1], logprob: None, complete: true })?;
            }
        }
        Ok(())
    }
}

/// Asks to stop after so many items.
struct StopAfter(Cell<u64>);

impl Progress for StopAfter {
    fn begin(&self, _: &str, _: u64, _: u64) {}
    fn advance(&self, items: u64, _: u64) {
        self.0.set(self.0.get().saturating_sub(items));
    }
    fn end(&self) {}
    fn notice(&self, _: &str) {}
    fn interrupted(&self) -> bool {
        self.0.get() == 0
    }
}

fn prompts(count: usize) -> Vec<Prompt> {
    (0..count)
        .map(|index| Prompt {
            id: index.to_string(),
            // Two prompts each ask the same.
            messages: vec![Message::user(format!("q{}", index / 2))],
            streams: vec![7, 8, 7],
            sampling: Sampling::greedy(4),
        })
        .collect()
}

fn ask(
    store: &mut MemoryStore,
    parrot: &mut Parrot,
    stop: u64,
    prompts: &[Prompt],
) -> Result<Vec<Vec<Generated>>> {
    let mut context = Context { store, progress: &StopAfter(Cell::new(stop)) };
    respond(&mut context, "ask", 0, parrot, prompts)
}

#[test]
fn each_response_is_drawn_once_and_all_that_is_missing_in_one_call() {
    let (mut store, mut parrot) = (MemoryStore::default(), Parrot::default());
    let answers = ask(&mut store, &mut parrot, 1000, &prompts(6)).unwrap();
    for (index, answers) in answers.iter().enumerate() {
        let texts: Vec<&str> = answers.iter().map(|answer| answer.text.as_str()).collect();
        let question = index / 2;
        assert_eq!(texts, [7, 8, 7].map(|stream| format!("q{question} {stream}")));
    }
    assert_eq!((parrot.calls, parrot.drawn), (1, 6));
    assert_eq!(ask(&mut store, &mut parrot, 1000, &prompts(6)).unwrap(), answers);
    assert_eq!((parrot.calls, parrot.drawn), (1, 6), "a repeat asks nothing");
    ask(&mut store, &mut parrot, 1000, &prompts(8)).unwrap();
    assert_eq!((parrot.calls, parrot.drawn), (2, 8), "only what is new");
    assert_eq!(store.committed_twice, 0);
}

#[test]
fn interrupted_it_keeps_what_it_has() {
    let (mut store, mut parrot) = (MemoryStore::default(), Parrot::default());
    let whole = ask(&mut MemoryStore::default(), &mut Parrot::default(), 1000, &prompts(40)).unwrap();
    let stopped = ask(&mut store, &mut parrot, 11, &prompts(40));
    assert!(matches!(stopped, Err(Error::Interrupted)), "{stopped:?}");
    assert_eq!(store.rows.len(), 11);
    assert_eq!(ask(&mut store, &mut parrot, 1000, &prompts(40)).unwrap(), whole);
    assert_eq!((parrot.drawn, store.committed_twice), (40, 0));
}

/// Finds every answer right.
struct Lenient;

impl Checker for Lenient {
    fn digest(&self) -> String {
        "lenient".into()
    }
    fn check(&self, _: &Instruction, _: &str) -> Result<Check> {
        Ok(Check { correct: true, readable: true, critique: String::new(), level: 3 })
    }
}

#[test]
fn a_problem_that_does_not_fit_is_wrong_and_counted() {
    let problem = |id: &str, text: &str| Instruction {
        id: id.into(),
        messages: vec![Message::user(text.to_string())],
        reference: None,
        answer: Some("1".into()),
    };
    let problems = [problem("a", "an endless one"), problem("b", "q"), problem("c", "r")];
    let mut store = MemoryStore::default();
    let mut context = Context { store: &mut store, progress: &StopAfter(Cell::new(1000)) };
    let outcome =
        problems::evaluate(&mut context, &mut Parrot::default(), &Lenient, ("t", 0), &problems, 4).unwrap();
    let counts =
        ["items", "correct", "prompt_too_long", "unreadable"].map(|name| outcome.evaluation.counts[name]);
    assert_eq!(counts, [3, 2, 1, 0]);
    let scores = outcome.items.iter().map(|item| (item.id.as_str(), item.scores["accuracy"]));
    assert_eq!(scores.collect::<Vec<_>>(), [("a", 0.0), ("b", 1.0), ("c", 1.0)]);
    assert!(
        outcome.items[1].detail["response"].as_str().unwrap().starts_with("q "),
        "each has its own answer"
    );
}

#[test]
fn a_prompt_that_does_not_fit_is_wrong_and_counted() {
    let file = "{\"question\": \"an endless one\", \"answer\": \"#### 1\"}\n{\"question\": \"q\", \"answer\": \"#### 2\"}";
    let problems = Source::Gsm8k.read("t", file.as_bytes()).unwrap();
    let asking = Asking {
        template: Template::named("question", None).unwrap(),
        samples: 1,
        sampling: Sampling::greedy(4),
        seed: 1,
    };
    let mut store = MemoryStore::default();
    let mut context = Context { store: &mut store, progress: &StopAfter(Cell::new(1000)) };
    let mut evaluate =
        |problems| evaluate(&mut context, &mut Parrot::default(), Source::Gsm8k, ("t", 0), problems, &asking);
    let outcome = evaluate(&problems).unwrap();
    let counts = ["items", "answered", "prompt_too_long"].map(|name| outcome.evaluation.counts[name]);
    assert_eq!(counts, [2, 1, 1]);
    assert_eq!(outcome.items[0].scores["strict_accuracy"], 0.0);
    let message = evaluate(&problems[..1]).unwrap_err().to_string();
    assert!(message.contains("no prompt of template question"), "{message}");
}
