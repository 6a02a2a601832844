//! What the tests share: a small trained model, and a generation without an engine.

use std::ops::ControlFlow;
use std::path::Path;

use rlrf_engine::{Engine, EngineOptions, Generation, Request, Sampling, Stats};
use rlrf_model::{Activations, Batch, Decoder, Model, ModelConfig};

/// Its begin-of-sequence token.
pub(crate) const BOS: u32 = 1;

/// The folder of stories260K (Karpathy's llama2.c), a Llama of 260 thousand parameters and 512 tokens.
pub(crate) fn stories_folder() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../rlrf-model/tests/fixtures/stories260K"))
}

pub(crate) fn stories() -> Model {
    Model::load(stories_folder()).unwrap()
}

/// stories260K with a random decoder of other dimensions, its weights large enough for peaked distributions.
pub(crate) fn random_model(fields: serde_json::Value, seed: u64) -> Model {
    let serde_json::Value::Object(fields) = fields else { panic!("an object of fields") };
    let config = ModelConfig::from_json(fields, Path::new("test")).unwrap();
    let mut model = stories();
    model.decoder = Decoder::random(config, seed).unwrap();
    model
}

pub(crate) fn prompt(model: &Model, text: &str) -> Vec<u32> {
    [vec![BOS], model.tokenizer.encode(text).unwrap()].concat()
}

pub(crate) fn request(
    prompt: Vec<u32>,
    streams: impl IntoIterator<Item = u64>,
    sampling: Sampling,
) -> Request {
    Request { prompt, streams: streams.into_iter().collect(), sampling, choice: None }
}

/// All generations, by request and sample.
pub(crate) fn generate(
    model: &Model,
    options: EngineOptions,
    requests: &[Request],
) -> (Vec<Vec<Generation>>, Stats) {
    let engine = Engine::new(model, options).unwrap();
    let mut slots: Vec<Vec<Option<Generation>>> =
        requests.iter().map(|request| vec![None; request.streams.len()]).collect();
    let stats = engine
        .generate(requests, &mut |request, sample, generation| {
            assert!(slots[request][sample].replace(generation).is_none(), "reported twice");
            ControlFlow::Continue(())
        })
        .unwrap();
    (slots.into_iter().map(|samples| samples.into_iter().map(Option::unwrap).collect()).collect(), stats)
}

/// Logits after `tokens`, computed by the training decoder without any cache.
pub(crate) fn logits_after(model: &Model, tokens: &[u32]) -> Vec<f32> {
    let mut batch = Batch::default();
    batch.push_sequence(tokens);
    let mut activations = Activations::default();
    model.decoder.forward(&batch, &mut activations).unwrap();
    model.decoder.logits(&activations, &[tokens.len() - 1])
}
