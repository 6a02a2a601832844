//! FActScore from end to end on scripted models, and on labelled facts whose arithmetic can be done by hand.

#![allow(clippy::unwrap_used, reason = "a test")]
use std::cell::Cell;
use std::collections::{BTreeMap, HashMap};

use rlrf_eval::factscore::{
    Abstention, Definition, Knowledge, ask, evaluate, read_responses, score_labelled,
};
use rlrf_eval::{Context, Outcome};
use rlrf_method::seam::{
    ChoiceRequest, ChoiceSink, Generated, GenerationRequest, GenerationSink, Policy, Progress,
};
use rlrf_method::{Message, Result, Row, RowStore, StoreError, Table};
use rlrf_retrieval::Passage;
use serde_json::{Value, json};

#[derive(Default)]
struct Memory(BTreeMap<(Table, String), Row>);

impl RowStore for Memory {
    fn get(&self, table: Table, key: &str) -> std::result::Result<Option<Value>, StoreError> {
        Ok(self.0.get(&(table, key.to_string())).map(|row| row.body.clone()))
    }
    fn commit(&mut self, rows: &[(Table, Row)]) -> std::result::Result<(), StoreError> {
        for (table, row) in rows {
            let before = self.0.insert((*table, row.key.clone()), row.clone());
            assert!(before.is_none(), "computed twice: {row:?}");
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

/// Breaks a sentence at " and ", and believes what the passages say to the letter.
struct Script {
    tells: bool,
    /// Longest prompt, in letters.
    context: usize,
    calls: Cell<usize>,
}

impl Script {
    fn new(tells: bool) -> Self {
        Self { tells, context: usize::MAX, calls: Cell::new(0) }
    }

    fn believes(prompt: &str) -> bool {
        let (context, input) = prompt.split_once("\n\nInput: ").unwrap();
        context.contains(input.split_once(" True or False?").unwrap().0)
    }

    fn reply(prompt: &str) -> String {
        if prompt.ends_with("True or False?\nOutput:") {
            return if Self::believes(prompt) { "True." } else { "That is false." }.into();
        }
        let sentence = prompt.rsplit("independent facts: ").next().unwrap();
        if sentence == "Hm hm." {
            return "Nothing to say.".into();
        }
        sentence.trim_end_matches('.').split(" and ").map(|fact| format!("- {fact}.\n")).collect()
    }
}

fn content(messages: &[Message]) -> &str {
    &messages.last().unwrap().content
}

impl Policy for Script {
    fn digest(&self) -> String {
        format!("script {}", self.tells)
    }
    fn fits(&self, messages: &[Message]) -> Result<bool> {
        Ok(content(messages).len() <= self.context)
    }
    fn generate(&mut self, requests: &[GenerationRequest], sink: &mut GenerationSink<'_>) -> Result<()> {
        self.calls.set(self.calls.get() + 1);
        for (index, request) in requests.iter().enumerate() {
            assert!(self.fits(&request.messages)?);
            let text = Self::reply(content(&request.messages));
            sink(index, 0, Generated { text, tokens: vec![1], logprob: None, complete: true })?;
        }
        Ok(())
    }
    fn choose(&mut self, requests: &[ChoiceRequest], sink: &mut ChoiceSink<'_>) -> Result<bool> {
        self.calls.set(self.calls.get() + 1);
        for (index, request) in requests.iter().enumerate().filter(|_| self.tells) {
            assert_eq!(request.options, ["True", "False"]);
            let truth = if Self::believes(content(&request.messages)) { 0.9 } else { 0.2 };
            sink(index, vec![truth, 1.0 - truth])?;
        }
        Ok(self.tells)
    }
}

/// Pages in passages, given in their order.
struct Pages(HashMap<&'static str, Vec<&'static str>>);

impl Knowledge for Pages {
    fn digest(&self) -> String {
        "pages".into()
    }
    fn has_page(&self, topic: &str) -> Result<bool> {
        Ok(self.0.contains_key(topic))
    }
    fn passages(&self, topic: &str, _: &str, top: usize) -> Result<Vec<Passage>> {
        let passage = |(number, text): (usize, &&str)| Passage {
            title: topic.into(),
            text: text.to_string(),
            number: number as u64,
            score: 1.0,
        };
        Ok(self.0[topic].iter().enumerate().take(top).map(passage).collect())
    }
}

fn pages() -> Pages {
    Pages(HashMap::from([
        ("Ada", vec!["Ada wrote programs. Ada was a countess.", "Ada loved machines."]),
        ("Bob", vec!["Bob ran."]),
        ("Cy", vec!["Cy sang."]),
        ("Di", vec!["Di sailed."]),
        ("Eve", vec!["Eve hid."]),
    ]))
}

fn definition(gamma: f64) -> Definition {
    Definition {
        prompt: "Question: Tell me a bio of <entity>.".into(),
        max_new_tokens: 16,
        gamma,
        passages: 5,
        abstention: Abstention::Generic,
    }
}

const RESPONSES: &str = r#"{"topic": "Ada", "output": "Ada wrote programs and Ada was a countess. Ada loved machines and Ada flew. Sure it is."}
{"topic": "Bob", "output": "Bob ran."}
{"topic": "Cy", "output": "I'm sorry, I do not know Cy."}
{"topic": "Di", "output": ""}
{"topic": "Eve", "output": "Hm hm."}
{"topic": "Zed", "output": "Zed exists."}
"#;

fn scored(store: &mut Memory, judge: &mut Script, gamma: f64) -> Outcome {
    let responses = read_responses("r.jsonl", RESPONSES.as_bytes()).unwrap();
    let mut context = Context { store, progress: &Silent };
    evaluate(&mut context, judge, &pages(), ("r", 0), &responses, &definition(gamma)).unwrap()
}

fn close(found: f64, expected: f64) {
    assert!((found - expected).abs() < 1e-12, "{found}, not {expected}");
}

#[test]
fn responses_are_broken_into_facts_and_checked() {
    for tells in [true, false] {
        let mut store = Memory::default();
        let Outcome { evaluation, items } = scored(&mut store, &mut Script::new(tells), 2.0);
        // Ada: 3 of 4 facts; Bob: 1 of 1, under the penalty.
        let metrics = &evaluation.metrics;
        close(metrics["init_score"], (0.75 + 1.0) / 2.0);
        close(metrics["score"], (0.75 + (1.0_f64 - 2.0).exp()) / 2.0);
        close(metrics["respond_ratio"], 2.0 / 5.0);
        close(metrics["facts_per_response"], 2.5);
        let counts = [
            ("items", 6),
            ("answered", 2),
            ("abstained", 2),
            ("without_facts", 1),
            ("no_page", 1),
            ("facts", 5),
            ("facts_supported", 4),
            ("facts_unjudged", 0),
            ("sentences", 4),
            ("sentences_unreadable", 1),
        ];
        for (name, expected) in counts {
            assert_eq!(evaluation.counts[name], expected, "{name}");
        }
        let fact = &items[0].detail["sentences"][1]["facts"][1];
        assert_eq!((&fact["fact"], &fact["supported"]), (&json!("Ada flew."), &json!(false)));
        assert_eq!(fact["probability"].is_number(), tells);
        assert_eq!(fact["reply"].is_string(), !tells);
        let shown: Vec<u64> = fact["shown"]
            .as_array()
            .unwrap()
            .iter()
            .map(|shown| shown["passage"].as_u64().unwrap())
            .collect();
        assert_eq!(shown, [0, 1]);
        assert_eq!(items[0].detail["passages"][1]["text"], "Ada loved machines.");
        let standings: Vec<&Value> = items.iter().map(|item| &item.detail["standing"]).collect();
        assert_eq!(standings, ["answered", "answered", "abstained", "abstained", "without_facts", "no_page"]);
    }
}

#[test]
fn without_penalty_both_scores_are_one() {
    let found = scored(&mut Memory::default(), &mut Script::new(true), 0.0).evaluation;
    assert_eq!(found.metrics["score"], found.metrics["init_score"]);
}

#[test]
fn a_second_time_no_model_is_called() {
    for tells in [true, false] {
        let mut store = Memory::default();
        let first = scored(&mut store, &mut Script::new(tells), 10.0);
        let mut judge = Script::new(tells);
        assert_eq!(scored(&mut store, &mut judge, 10.0), first);
        assert_eq!(judge.calls.get(), 0);
    }
}

#[test]
fn a_small_context_shows_less_and_says_so() {
    let mut judge = Script { context: 200, ..Script::new(true) };
    let Outcome { evaluation, items } = scored(&mut Memory::default(), &mut judge, 0.0);
    assert_eq!(evaluation.counts["sentences_with_fewer_demonstrations"], 4);
    let facts = &items[0].detail["sentences"][1]["facts"];
    assert_eq!(facts[0]["shown"].as_array().unwrap().len(), 1, "{facts}");
    assert_eq!((&facts[0]["fact"], &facts[0]["supported"]), (&json!("Ada loved machines."), &json!(false)));
    // Nothing of it fits: the facts of the one sentence that does are unjudged, and weigh nothing.
    let mut judge = Script { context: 90, ..Script::new(true) };
    let evaluation = scored(&mut Memory::default(), &mut judge, 0.0).evaluation;
    assert_eq!(evaluation.counts["sentences_too_long"], 2);
    assert_eq!((evaluation.counts["facts"], evaluation.counts["facts_unjudged"]), (1, 1));
    assert_eq!((evaluation.counts["unscored"], evaluation.metrics["respond_ratio"]), (1, 0.2));
    assert!(!evaluation.metrics.contains_key("score"), "{:?}", evaluation.metrics);
}

#[test]
fn who_has_no_page_is_not_asked_about() {
    struct Parrot(Vec<String>);
    impl Policy for Parrot {
        fn digest(&self) -> String {
            "parrot".into()
        }
        fn fits(&self, _: &[Message]) -> Result<bool> {
            Ok(true)
        }
        fn generate(&mut self, requests: &[GenerationRequest], sink: &mut GenerationSink<'_>) -> Result<()> {
            for (index, request) in requests.iter().enumerate() {
                let text = content(&request.messages).to_string();
                self.0.push(text.clone());
                sink(index, 0, Generated { text, tokens: vec![], logprob: None, complete: index == 0 })?;
            }
            Ok(())
        }
    }
    let mut parrot = Parrot(Vec::new());
    let mut store = Memory::default();
    let mut context = Context { store: &mut store, progress: &Silent };
    let topics = ["Zed", "Ada", "Bob"].map(String::from);
    let answers = ask(&mut context, &mut parrot, &pages(), ("t", 0), &topics, &definition(0.0)).unwrap();
    assert_eq!(parrot.0, ["Question: Tell me a bio of Ada.", "Question: Tell me a bio of Bob."]);
    let told: Vec<_> = answers
        .iter()
        .map(|answer| (answer.topic.as_str(), answer.response.is_some(), answer.complete))
        .collect();
    assert_eq!(told, [("Zed", false, true), ("Ada", true, true), ("Bob", true, false)]);
    let nobody = answers[..1].to_vec();
    let error = evaluate(&mut context, &mut Script::new(true), &pages(), ("t", 0), &nobody, &definition(0.0));
    assert!(error.unwrap_err().to_string().contains("page of none of the 1 topics"));
}

#[test]
fn settings_out_of_range_are_refused() {
    for (change, expected) in [
        ((|d| d.prompt = "Who?".into()) as fn(&mut Definition), "must contain <entity>"),
        (|d| d.gamma = -1.0, "gamma = -1"),
        (|d| d.gamma = f64::NAN, "gamma = NaN"),
        (|d| d.passages = 0, "passages = 0"),
    ] {
        let mut definition = definition(10.0);
        change(&mut definition);
        let message = definition.validate().unwrap_err().to_string();
        assert!(message.contains(expected), "{message}");
    }
}

/// Four records of `data/labeled/ChatGPT.jsonl`, without `model-atomic-facts` (MIT, licence beside it). Labels, counted
/// by hand: Jesse Foppert 9 S, 8 NS, 2 IR; Chaim Malinowitz abstained; Samantha Ruth Prabhu 33 S, 1 NS; Vincenzo Tusa
/// 2 S, 13 NS, 8 IR.
const LABELLED: &[u8] = include_bytes!("data/factscore/labelled.jsonl");

#[test]
fn labelled_facts_are_scored_by_hand_checkable_arithmetic() {
    let scored = |gamma, irrelevant| {
        score_labelled(("l.jsonl", LABELLED), "l", None, gamma, irrelevant).unwrap().evaluation
    };
    let excluded = scored(10.0, false);
    close(excluded.metrics["score"], (9.0 / 17.0 + 33.0 / 34.0 + 2.0 / 15.0) / 3.0);
    close(excluded.metrics["init_score"], excluded.metrics["score"]);
    close(excluded.metrics["respond_ratio"], 0.75);
    close(excluded.metrics["facts_per_response"], (17.0 + 34.0 + 15.0) / 3.0);
    assert_eq!((excluded.counts["facts_irrelevant"], excluded.counts["abstained"]), (10, 1));
    let unsupported = scored(10.0, true);
    close(unsupported.metrics["score"], (9.0 / 19.0 + 33.0 / 34.0 + 2.0 / 23.0) / 3.0);
    close(unsupported.metrics["facts_per_response"], (19.0 + 34.0 + 23.0) / 3.0);
    assert_eq!(unsupported.counts["facts_irrelevant"], 10);
    // With gamma = 17 Foppert's 17 facts are just enough, Tusa's 15 are too few.
    let penalised = scored(17.0, false);
    let tusa = 2.0 / 15.0 * (1.0_f64 - 17.0 / 15.0).exp();
    close(penalised.metrics["score"], (9.0 / 17.0 + 33.0 / 34.0 + tusa) / 3.0);
    close(penalised.metrics["init_score"], excluded.metrics["score"]);
    close(excluded.groups["Asia/Pacific"]["score"], 33.0 / 34.0);
}

#[test]
fn labelled_garbage_is_named_by_its_line() {
    let message = |text: &str| {
        score_labelled(("l.jsonl", text.as_bytes()), "l", None, 10.0, false).unwrap_err().to_string()
    };
    let record = r#"{"topic": "A", "annotations": null}"#;
    assert!(message("").contains("l.jsonl: holds no response"));
    assert!(
        message(&format!("{record}\n{record}")).starts_with("l.jsonl:2: the topic \"A\" was there already")
    );
    assert!(message("{\"topic\": \"A\"}").starts_with("l.jsonl:1: missing field `annotations`"));
    let labelled = |label: &str| {
        let facts = json!([{ "text": "f", "label": label }]);
        json!({ "topic": "A", "annotations": [{ "text": "s", "human-atomic-facts": facts }] }).to_string()
    };
    assert!(message(&labelled("MAYBE")).starts_with("l.jsonl:1: unknown variant `MAYBE`"));
    let only_irrelevant = score_labelled(("l", labelled("IR").as_bytes()), "l", None, 10.0, false).unwrap();
    assert_eq!(only_irrelevant.evaluation.counts["without_facts"], 1);
    assert_eq!(only_irrelevant.evaluation.metrics, BTreeMap::from([("respond_ratio".to_string(), 0.0)]));
}
