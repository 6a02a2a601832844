//! Logits, loss and every gradient of the families against transformers, on committed fixtures.

use std::fs;
use std::path::Path;

use rlrf_model::weights::load_decoder;
use rlrf_model::{Activations, Batch, Decoder};
use safetensors::SafeTensors;

use crate::support::relative_error;

/// `pad_token_id` of every fixture.
const PAD_TOKEN: usize = 0;

#[test]
fn logits_loss_and_gradients_are_those_of_transformers() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/parity");
    let mut cases: Vec<_> = fs::read_dir(fixtures).unwrap().map(|case| case.unwrap().path()).collect();
    cases.retain(|case| case.is_dir());
    assert!(!cases.is_empty());
    for case in cases {
        check(&case);
    }
}

fn check(case: &Path) {
    Expected::read(case).check(&load_decoder(case).unwrap());
}

/// What the reference implementation computed, from a folder's `expected.safetensors`.
pub(crate) struct Expected {
    name: String,
    bytes: Vec<u8>,
}

impl Expected {
    pub(crate) fn read(case: &Path) -> Self {
        let bytes = fs::read(case.join("expected.safetensors")).unwrap();
        Self { name: case.display().to_string(), bytes }
    }

    /// Holds logits, loss, and the gradient of everything that is trained against it.
    pub(crate) fn check(&self, decoder: &Decoder) {
        let name = &self.name;
        let expected = SafeTensors::deserialize(&self.bytes).unwrap();
        let ids = expected.tensor("input_ids").unwrap();
        let [sequences, length] = ids.shape()[..] else { panic!("{name}: input_ids is not [B, T]") };
        let ids: Vec<u32> = ids
            .data()
            .as_chunks::<8>()
            .0
            .iter()
            .map(|&bytes| u32::try_from(i64::from_le_bytes(bytes)).unwrap())
            .collect();

        let (mut batch, mut activations) = (Batch::default(), Activations::default());
        let (mut rows, mut targets) = (Vec::new(), Vec::new());
        for sequence in ids.chunks(length) {
            let sequence_rows = batch.push_sequence(sequence);
            rows.extend(sequence_rows.start..sequence_rows.end - 1);
            targets.extend_from_slice(&sequence[1..]);
        }
        decoder.forward(&batch, &mut activations).unwrap();

        let logits = decoder.logits(&activations, &(0..batch.len()).collect::<Vec<_>>());
        let expected_logits = floats(&expected, "logits");
        let largest = expected_logits.iter().fold(0.0_f32, |largest, logit| largest.max(logit.abs()));
        assert_eq!(logits.len(), expected_logits.len(), "{name}");
        let difference =
            logits.iter().zip(&expected_logits).map(|(a, b)| (a - b).abs()).fold(0.0_f32, f32::max);
        assert!(difference < 1e-4 * largest, "{name}: logits differ by {difference:.1e} of {largest}");

        let mean = -1.0 / (sequences * (length - 1)) as f32;
        let logprobs = decoder.logprobs(&mut activations, &rows, &targets);
        let loss = logprobs.iter().sum::<f32>() * mean;
        let expected_loss = floats(&expected, "loss")[0];
        assert!(
            (loss - expected_loss).abs() < 1e-4 * expected_loss,
            "{name}: loss {loss}, not {expected_loss}"
        );

        let mut gradients = vec![0.0; decoder.trainable().len()];
        decoder.backward(&batch, &mut activations, &rows, &targets, &vec![mean; rows.len()], &mut gradients);
        for entry in decoder.trainable_entries() {
            let mut expected = floats(&expected, &format!("grad.{}", entry.name));
            let gradient = &mut gradients[entry.range.clone()];
            if entry.name == "model.embed_tokens.weight" {
                // torch's embedding has no gradient where it looks up `padding_idx`; here that row is like any other.
                let row = PAD_TOKEN * entry.shape[1]..(PAD_TOKEN + 1) * entry.shape[1];
                gradient[row.clone()].fill(0.0);
                expected[row].fill(0.0);
            }
            let error = relative_error(gradient, &expected);
            assert!(error < 1e-3, "{name}: gradient of {}: relative error {error:.1e}", entry.name);
        }
        let gradient_names = expected.names().into_iter().filter(|name| name.starts_with("grad."));
        assert_eq!(
            gradient_names.count(),
            decoder.trainable_entries().len(),
            "{name}: other tensors than the reference"
        );
    }
}

fn floats(tensors: &SafeTensors<'_>, name: &str) -> Vec<f32> {
    let tensor = tensors.tensor(name).unwrap_or_else(|_| panic!("no tensor {name} in the fixture"));
    assert_eq!(tensor.dtype(), safetensors::Dtype::F32, "{name}");
    tensor.data().as_chunks::<4>().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect()
}
