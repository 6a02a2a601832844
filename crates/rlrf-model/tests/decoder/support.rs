//! Tiny decoders of every family, and how far two vectors lie apart.

use std::path::Path;

use rlrf_model::{Activations, Batch, Decoder, Layout, ModelConfig};
use serde_json::{Value, json};

/// Architecture and tying of every kind of decoder that the tests cover.
pub(crate) const FAMILIES: [(&str, bool); 8] = [
    ("LlamaForCausalLM", true),
    ("LlamaForCausalLM", false),
    ("MistralForCausalLM", true),
    ("MistralForCausalLM", false),
    ("Qwen2ForCausalLM", true),
    ("Qwen2ForCausalLM", false),
    ("Qwen3ForCausalLM", true),
    ("Qwen3ForCausalLM", false),
];

pub(crate) const VOCAB: u32 = 29;
pub(crate) const CONTEXT: usize = 64;
/// Mistral's sliding window in these tests.
pub(crate) const WINDOW: usize = 4;

pub(crate) fn config(architecture: &str, tied: bool) -> ModelConfig {
    let object = json!({
        "architectures": [architecture],
        "vocab_size": VOCAB,
        "hidden_size": 16,
        "intermediate_size": 20,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 6,
        "max_position_embeddings": CONTEXT,
        "rms_norm_eps": 1e-5,
        "initializer_range": 0.2,
        "tie_word_embeddings": tied,
        "attention_bias": architecture == "LlamaForCausalLM" && tied,
        "mlp_bias": tied,
        "sliding_window": WINDOW,
    });
    let Value::Object(object) = object else { unreachable!() };
    ModelConfig::from_json(object, Path::new("config.json")).unwrap()
}

/// A decoder whose norms and biases are as irregular as its matrices.
pub(crate) fn decoder(architecture: &str, tied: bool) -> Decoder {
    let mut decoder = Decoder::random(config(architecture, tied), 7).unwrap();
    for (parameter, noise) in decoder.parameters_mut().iter_mut().zip(noise(1)) {
        *parameter += 0.1 * noise;
    }
    decoder
}

/// An endless sequence of irregular numbers in [-1, 1].
pub(crate) fn noise(seed: u64) -> impl Iterator<Item = f32> {
    (1..).map(move |index: u64| (index as f64 * 12.9898 + seed as f64 * 78.233).sin() as f32)
}

/// Irregular tokens.
pub(crate) fn tokens(len: usize, seed: u64) -> Vec<u32> {
    noise(seed).take(len).map(|noise| ((noise + 1.0) * 14.4) as u32).collect()
}

/// Rows, targets and the weight of each log-probability in a loss.
#[derive(Default)]
pub(crate) struct Loss {
    pub(crate) rows: Vec<usize>,
    pub(crate) targets: Vec<u32>,
    pub(crate) weights: Vec<f32>,
}

impl Loss {
    pub(crate) fn push(&mut self, row: usize, target: u32, weight: f32) {
        self.rows.push(row);
        self.targets.push(target);
        self.weights.push(weight);
    }

    /// Weighted log-probabilities of all tokens of a root sequence but its first.
    pub(crate) fn push_sequence(&mut self, batch: &Batch, rows: std::ops::Range<usize>, seed: u64) {
        for (row, weight) in (rows.start..rows.end - 1).zip(noise(seed)) {
            self.push(row, batch.tokens[row + 1], weight);
        }
    }

    /// Log-probabilities and flat gradients.
    pub(crate) fn run(
        &self,
        decoder: &Decoder,
        batch: &Batch,
        activations: &mut Activations,
    ) -> (Vec<f32>, Vec<f32>) {
        let mut gradients = vec![0.0; decoder.trainable().len()];
        decoder.forward(batch, activations).unwrap();
        let logprobs = decoder.logprobs(activations, &self.rows, &self.targets);
        decoder.backward(batch, activations, &self.rows, &self.targets, &self.weights, &mut gradients);
        (logprobs, gradients)
    }
}

/// Norm of the difference over the norm of `expected`.
pub(crate) fn relative_error(found: &[f32], expected: &[f32]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|value| value * value).sum::<f64>().sqrt();
    let difference = norm(&mut found.iter().zip(expected).map(|(a, b)| f64::from(*a) - f64::from(*b)));
    difference / norm(&mut expected.iter().map(|value| f64::from(*value)))
}

/// Holds every tensor of two flat vectors together.
pub(crate) fn assert_close(layout: &Layout, found: &[f32], expected: &[f32], tolerance: f64) {
    for entry in layout.entries() {
        let error = relative_error(&found[entry.range.clone()], &expected[entry.range.clone()]);
        assert!(error < tolerance, "{}: relative error {error:.1e}", entry.name);
    }
}
