//! The choice of aspects by models that tell probabilities, by models that write, and by models that do neither.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::cell::Cell;
use std::collections::BTreeMap;

use rlrf_method::aspect::DEFAULT_ASPECTS;
use rlrf_method::choose::AspectChoice;
use rlrf_method::config::{ChooseConfig, MethodConfig};
use rlrf_method::iteration::Iteration;
use rlrf_method::seam::*;
use rlrf_method::template::{DEFAULT_FEEDBACK, DEFAULT_REFINE};
use rlrf_method::*;

#[derive(Default)]
struct MemoryStore(BTreeMap<String, Row>);

impl RowStore for MemoryStore {
    fn get(&self, _: Table, key: &str) -> std::result::Result<Option<serde_json::Value>, StoreError> {
        Ok(self.0.get(key).map(|row| row.body.clone()))
    }
    fn commit(&mut self, rows: &[(Table, Row)]) -> std::result::Result<(), StoreError> {
        for (table, row) in rows {
            assert_eq!(*table, Table::AspectChoices);
            assert!(self.0.insert(row.key.clone(), row.clone()).is_none(), "chosen twice");
        }
        Ok(())
    }
    fn rows(&self, _: Table, _: u32) -> std::result::Result<Vec<Row>, StoreError> {
        Ok(self.0.values().cloned().collect())
    }
}

/// What a [`Chooser`] is able to.
#[derive(Clone, Copy, PartialEq)]
enum Ability {
    /// Prefers the last letters.
    Tells,
    /// Tells for instructions with an even number, else that the answer is no letter.
    TellsSometimes,
    Writes(&'static str),
    /// Its context is too small.
    FitsNothing,
}

struct Chooser {
    ability: Ability,
    questions: usize,
}

impl Policy for Chooser {
    fn digest(&self) -> String {
        "chooser".into()
    }
    fn fits(&self, _: &[Message]) -> Result<bool> {
        Ok(self.ability != Ability::FitsNothing)
    }
    fn generate(&mut self, requests: &[GenerationRequest], sink: &mut GenerationSink<'_>) -> Result<()> {
        for (index, request) in requests.iter().enumerate().rev() {
            self.questions += 1;
            let question = &request.messages[0].content;
            let text = match self.ability {
                Ability::Writes(text) => text.to_string(),
                _ if question.contains("\nWhy does") => {
                    let aspect = question.rsplit("Why does ").next().unwrap();
                    format!("Because of {}.", aspect.split(" matter").next().unwrap())
                }
                _ => "readability: listed".into(),
            };
            sink(index, 0, Generated { text, tokens: Vec::new(), logprob: None, complete: true })?;
        }
        Ok(())
    }
    fn choose(&mut self, requests: &[ChoiceRequest], sink: &mut ChoiceSink<'_>) -> Result<bool> {
        if matches!(self.ability, Ability::Writes(_)) {
            return Ok(false);
        }
        for (index, request) in requests.iter().enumerate() {
            self.questions += 1;
            let odd = ["question 1", "question 3"].iter().any(|q| request.messages[0].content.contains(q));
            let total = (1..=request.options.len()).sum::<usize>() as f64;
            let shares = (1..=request.options.len()).map(|place| place as f64 / total).collect();
            let silent = self.ability == Ability::TellsSometimes && odd;
            sink(index, if silent { Vec::new() } else { shares })?;
        }
        Ok(true)
    }
}

/// Stops before the given item.
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

fn choose(
    store: &mut MemoryStore,
    chooser: &mut Chooser,
    instructions: u64,
    stop_after: u64,
) -> Result<Vec<AspectChoice>> {
    let instructions: Vec<Instruction> = (0..instructions)
        .map(|i| Instruction {
            id: format!("i{i}"),
            messages: vec![Message::user(format!("question {i}"))],
            reference: None,
            answer: None,
        })
        .collect();
    let mut aspects = Aspect::read_toml("aspects.toml", DEFAULT_ASPECTS).unwrap();
    // Always judged, so nobody is asked about it.
    aspects[7].checker = Some(CheckerConfig::Number { tolerance: 0.0 });
    let wanted: Vec<usize> = (0..instructions.len()).collect();
    let mut iteration = Iteration {
        config: &MethodConfig::default(),
        number: 0,
        instructions: &instructions,
        aspects: &aspects,
        choices: Vec::new(),
        templates: &Templates::new(DEFAULT_FEEDBACK, DEFAULT_REFINE).unwrap(),
        store,
        progress: &StopAfter(Cell::new(stop_after)),
        checker: None,
        reward: None,
    };
    let config = ChooseConfig { most: 2, max_new_tokens: 8 };
    iteration.choose(chooser, &config, &wanted)
}

fn of(ability: Ability) -> Vec<AspectChoice> {
    let mut chooser = Chooser { ability, questions: 0 };
    choose(&mut MemoryStore::default(), &mut chooser, 4, u64::MAX).unwrap()
}

fn named(choice: &AspectChoice) -> Vec<(&str, &str)> {
    choice.aspects.iter().map(|chosen| (chosen.aspect.as_str(), chosen.reason.as_str())).collect()
}

const RANKED: [(&str, &str); 2] =
    [("conciseness", "Because of conciseness."), ("readability", "Because of readability.")];

#[test]
fn the_most_probable_are_chosen_in_their_order_with_reasons() {
    for choice in of(Ability::Tells) {
        assert_eq!(named(&choice), RANKED);
        assert_eq!(choice.parse, ParseOutcome::Parsed);
    }
}

#[test]
fn a_model_that_does_not_tell_is_asked_for_a_list() {
    for choice in of(Ability::Writes("factuality: dates\ncompleteness: parts")) {
        assert_eq!(named(&choice), [("factuality", "dates"), ("completeness", "parts")]);
        assert_eq!(choice.parse, ParseOutcome::Parsed);
    }
    let sometimes = of(Ability::TellsSometimes);
    assert_eq!(named(&sometimes[0]), RANKED);
    assert_eq!(named(&sometimes[1]), [("readability", "listed")]);
}

#[test]
fn the_first_configured_stand_for_what_failed() {
    for ability in [Ability::Writes("harmlessness: it has a checker"), Ability::FitsNothing] {
        for choice in of(ability) {
            assert_eq!(named(&choice), [("logical correctness", ""), ("factuality", "")]);
            assert!(matches!(choice.parse, ParseOutcome::Failed(_)), "{choice:?}");
        }
    }
}

#[test]
fn interrupted_it_goes_on_where_it_was() {
    let (mut store, mut chooser) =
        (MemoryStore::default(), Chooser { ability: Ability::Tells, questions: 0 });
    let stopped = choose(&mut store, &mut chooser, 150, 1);
    assert!(matches!(stopped, Err(Error::Interrupted)), "{stopped:?}");
    let kept = store.0.len();
    assert!(kept > 0 && kept < 150, "{kept}");
    let choices = choose(&mut store, &mut chooser, 150, u64::MAX).unwrap();
    assert_eq!((choices.len(), store.0.len()), (150, 150));
    assert_eq!(chooser.questions, 150 * 3, "a letter and two reasons each, asked once");
    assert_eq!(choose(&mut store, &mut chooser, 150, u64::MAX).unwrap(), choices);
    assert_eq!(chooser.questions, 150 * 3);
}
