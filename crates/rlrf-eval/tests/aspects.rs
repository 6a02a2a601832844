//! Levels of aspects against a policy, a judge and a checker made of plain functions.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::cell::Cell;
use std::collections::BTreeMap;

use rlrf_eval::aspects::{AspectJudge, Definition, evaluate};
use rlrf_eval::{Context, Outcome};
use rlrf_method::config::Sampling;
use rlrf_method::seam::{
    Check, Checker, Generated, GenerationRequest, GenerationSink, Judge, JudgeRequest, Policy, Progress,
};
use rlrf_method::{
    Aspect, Error, Feedback, Instruction, Message, ParseOutcome, Result, Row, RowStore, StoreError, Table,
};
use serde_json::Value;

#[derive(Default)]
struct Store(BTreeMap<(Table, String), Row>);

impl RowStore for Store {
    fn get(&self, table: Table, key: &str) -> std::result::Result<Option<Value>, StoreError> {
        Ok(self.0.get(&(table, key.to_string())).map(|row| row.body.clone()))
    }
    fn commit(&mut self, rows: &[(Table, Row)]) -> std::result::Result<(), StoreError> {
        for (table, row) in rows {
            assert!(self.0.insert((*table, row.key.clone()), row.clone()).is_none(), "computed twice");
        }
        Ok(())
    }
    fn rows(&self, _: Table, _: u32) -> std::result::Result<Vec<Row>, StoreError> {
        Ok(Vec::new())
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

/// Answers with the instruction's words; cannot hold `endless` ones.
struct Echo;

impl Policy for Echo {
    fn digest(&self) -> String {
        "echo".into()
    }
    fn fits(&self, messages: &[Message]) -> Result<bool> {
        Ok(!messages[0].content.contains("endless"))
    }
    fn generate(&mut self, requests: &[GenerationRequest], sink: &mut GenerationSink<'_>) -> Result<()> {
        for (index, request) in requests.iter().enumerate().rev() {
            let text = format!(" {}\n", request.messages[0].content);
            sink(index, 0, Generated { text, tokens: vec![1], logprob: None, complete: true })?;
        }
        Ok(())
    }
}

/// Level 3 for texts of one letter, 1 for others; cannot read a `?`. It must be shown trimmed responses.
#[derive(Default)]
struct Reader {
    asked: usize,
}

impl Judge for Reader {
    fn digest(&self) -> String {
        "reader".into()
    }
    fn judge(
        &mut self,
        requests: &[JudgeRequest<'_>],
        sink: &mut dyn FnMut(usize, Feedback) -> Result<()>,
    ) -> Result<()> {
        for (index, JudgeRequest { response, aspect, .. }) in requests.iter().enumerate().rev() {
            self.asked += 1;
            assert_eq!(response.trim(), *response);
            let level = if response.len() == 1 { [0.0, 0.0, 1.0] } else { [1.0, 0.0, 0.0] };
            let feedback = match *response {
                "?" => Feedback::failed(&aspect.name, "cannot be read".into()),
                _ => Feedback::from_distribution(&aspect.name, String::new(), level, ParseOutcome::Parsed),
            };
            sink(index, feedback)?;
        }
        Ok(())
    }
}

/// Level 3 for an `a`, 2 for what begins with one.
struct BeginsWithA;

impl Checker for BeginsWithA {
    fn digest(&self) -> String {
        "begins with a".into()
    }
    fn check(&self, _: &Instruction, response: &str) -> Result<Check> {
        let level = match response.trim() {
            "a" => 3,
            other if other.starts_with('a') => 2,
            _ => 1,
        };
        Ok(Check { correct: level == 3, readable: true, critique: String::new(), level })
    }
}

fn definition(prompts: &[&str]) -> Definition {
    let instruction = |(index, prompt): (usize, &&str)| Instruction {
        id: index.to_string(),
        messages: vec![Message::user(*prompt)],
        reference: None,
        answer: None,
    };
    Definition {
        instructions: prompts.iter().enumerate().map(instruction).collect(),
        checkers: BTreeMap::from([("short".to_string(), Box::new(BeginsWithA) as Box<dyn Checker>)]),
        sampling: Sampling::greedy(4),
        seed: 1,
    }
}

fn aspects() -> Vec<Aspect> {
    let aspect =
        |name: &str| format!("[[aspect]]\nname = '{name}'\ncriterion = 'c'\nlevels = ['1', '2', '3']\n");
    Aspect::read_toml("aspects", &(aspect("short") + &aspect("kind"))).unwrap()
}

fn measure(store: &mut Store, reader: &mut Reader, stop: u64, definition: &Definition) -> Result<Outcome> {
    let aspects = aspects();
    let asked = AspectJudge { judge: reader, aspects: &aspects };
    let mut context = Context { store, progress: &StopAfter(Cell::new(stop)) };
    evaluate(&mut context, &mut Echo, Some(asked), ("set", 1), definition)
}

#[test]
fn judge_and_checker_measure_the_same_responses() {
    let (mut store, mut reader) = (Store::default(), Reader::default());
    let definition = definition(&["a", "ab", "b", "?", "endless"]);
    let Outcome { evaluation, items } = measure(&mut store, &mut reader, 1000, &definition).unwrap();
    // Judged: 3, 1, 3 and nothing; checked: 3, 2, 1, 1.
    let expected = [
        ("judged_short", 7.0 / 3.0),
        ("judged_kind", 7.0 / 3.0),
        ("checked_short", 7.0 / 4.0),
        ("agreement_rate_short", 1.0 / 3.0),
        ("perfect_rate_judged", 2.0 / 3.0),
        ("perfect_rate_checked", 1.0 / 4.0),
    ];
    for (metric, expected) in expected {
        assert!((evaluation.metrics[metric] - expected).abs() < 1e-12, "{metric}: {evaluation:?}");
    }
    assert!(!evaluation.metrics.contains_key("agreement_rate_kind"), "no checker decides it");
    let counts = ["items", "prompt_too_long", "judge_failed"].map(|name| evaluation.counts[name]);
    assert_eq!(counts, [5, 1, 2]);
    assert_eq!((evaluation.iteration, evaluation.digests["model"].as_str()), (1, "echo"));
    assert_eq!((items.len(), &items[4].id), (5, &"4".to_string()));
    assert_eq!(reader.asked, 8, "four responses on two aspects");
    measure(&mut store, &mut reader, 1000, &definition).unwrap();
    assert_eq!(reader.asked, 8, "a repeat asks nothing");
}

#[test]
fn interrupted_it_keeps_what_it_has() {
    let definition = definition(&["a", "ab", "b", "c"]);
    let whole = measure(&mut Store::default(), &mut Reader::default(), 1000, &definition).unwrap();
    let (mut store, mut reader) = (Store::default(), Reader::default());
    // Four responses, and three of eight judgements.
    let stopped = measure(&mut store, &mut reader, 7, &definition);
    assert!(matches!(stopped, Err(Error::Interrupted)), "{stopped:?}");
    assert_eq!(store.0.len(), 7);
    assert_eq!(measure(&mut store, &mut reader, 1000, &definition).unwrap(), whole);
    assert_eq!(reader.asked, 8);
}
