//! How far a model has moved from another.

#![allow(clippy::unwrap_used, reason = "a test")]
use std::cell::Cell;
use std::path::Path;

use rlrf_engine::EngineOptions;
use rlrf_local::{DivergenceSample, divergence};
use rlrf_method::seam::Progress;
use rlrf_method::{Error, Instruction, Message};
use rlrf_model::Model;

fn stories() -> Model {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../rlrf-model/tests/fixtures/stories260K");
    Model::load(Path::new(folder)).unwrap()
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

#[test]
fn a_model_is_nowhere_from_itself_and_somewhere_from_another() {
    let reference = stories();
    let mut moved = stories();
    moved.decoder.parameters_mut().iter_mut().step_by(3).for_each(|parameter| *parameter *= 1.2);
    let instructions: Vec<Instruction> = (0..12)
        .map(|number| Instruction {
            id: number.to_string(),
            messages: vec![Message::user(format!("Tell story {number}."))],
            reference: None,
            answer: None,
        })
        .collect();
    let sample = DivergenceSample { instructions: &instructions, max_new_tokens: 24, seed: 5 };
    let until = |policy: &Model, stop| {
        divergence(policy, &reference, sample, EngineOptions::default(), &StopAfter(Cell::new(stop)))
    };
    let measure = |policy: &Model| until(policy, u64::MAX).unwrap();
    assert_eq!(measure(&reference), (0.0, 0.0));
    let (per_response, per_token) = measure(&moved);
    assert!(
        per_response > 1.0 && per_token > 0.0 && per_response > 5.0 * per_token,
        "{per_response} {per_token}"
    );
    assert_eq!(measure(&moved), (per_response, per_token), "the seed fixes the responses");
    for stop in [5, 18, 30] {
        assert!(matches!(until(&moved, stop), Err(Error::Interrupted)), "drawing, and with either model");
    }
}
