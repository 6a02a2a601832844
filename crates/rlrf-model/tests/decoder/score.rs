//! The score head: scores and gradients of transformers' sequence classifiers, on committed fixtures.

use std::fs;
use std::path::Path;

use rlrf_model::weights::load_decoder;
use rlrf_model::{Activations, Batch, Head};
use safetensors::SafeTensors;

use crate::support::{FAMILIES, decoder, relative_error, tokens};

fn floats(tensors: &SafeTensors<'_>, name: &str) -> Vec<f32> {
    let (values, _) = tensors.tensor(name).unwrap().data().as_chunks();
    values.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
}

fn integers(tensors: &SafeTensors<'_>, name: &str) -> Vec<usize> {
    let (values, _) = tensors.tensor(name).unwrap().data().as_chunks();
    values.iter().map(|bytes| i64::from_le_bytes(*bytes) as usize).collect()
}

#[test]
fn scores_and_gradients_are_those_of_transformers() {
    for family in ["llama", "qwen2"] {
        let case = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/reward").join(family);
        let decoder = load_decoder(&case).unwrap();
        assert_eq!(decoder.config().head, Head::Score);
        let bytes = fs::read(case.join("expected.safetensors")).unwrap();
        let expected = SafeTensors::deserialize(&bytes).unwrap();
        let (ids, lengths) = (integers(&expected, "input_ids"), integers(&expected, "lengths"));
        let (mut batch, mut rows) = (Batch::default(), Vec::new());
        for (sequence, length) in ids.chunks(ids.len() / lengths.len()).zip(lengths) {
            let tokens: Vec<u32> = sequence[..length].iter().map(|&id| id as u32).collect();
            rows.push(batch.push_sequence(&tokens).end - 1);
        }
        let mut activations = Activations::default();
        decoder.forward(&batch, &mut activations).unwrap();
        let scores = decoder.scores(&activations, &rows);
        for (score, expected) in scores.iter().zip(floats(&expected, "scores")) {
            assert!((score - f64::from(expected)).abs() < 1e-4, "{family}: {score}, not {expected}");
        }
        let weights: Vec<f64> = floats(&expected, "weights").into_iter().map(f64::from).collect();
        let mut gradients = vec![0.0; decoder.layout().len()];
        decoder.backward_scores(&batch, &mut activations, &rows, &weights, &mut gradients);
        for entry in decoder.layout().entries() {
            let expected = floats(&expected, &format!("grad.{}", entry.name));
            let error = relative_error(&gradients[entry.range.clone()], &expected);
            assert!(error < 1e-3, "{family}: gradient of {}: relative error {error:.1e}", entry.name);
        }
        let names = expected.names().into_iter().filter(|name| name.starts_with("grad.")).count();
        assert_eq!(names, decoder.layout().entries().len(), "{family}: other tensors than the reference");
    }
}

#[test]
fn every_family_takes_a_score_head_and_keeps_its_layers() {
    for (architecture, tied) in FAMILIES {
        let language = decoder(architecture, tied);
        let reward = language.with_score_head(3, 5).unwrap();
        assert_eq!(
            reward.config().architecture(),
            architecture.replace("CausalLM", "SequenceClassification")
        );
        let head = reward.layout().entry("score.weight").unwrap();
        assert_eq!((&head.shape[..], head.range.end), (&[1, 16][..], reward.layout().len()));
        assert!(reward.layout().entry("lm_head.weight").is_none());
        assert_eq!(reward.parameters()[..head.range.start], language.parameters()[..head.range.start]);
        let drawn =
            |seed| language.with_score_head(3, seed).unwrap().parameters()[head.range.clone()].to_vec();
        assert_eq!(drawn(5), reward.parameters()[head.range.clone()]);
        assert_ne!(drawn(6), drawn(5));

        let (mut batch, mut activations) = (Batch::default(), Activations::default());
        let rows = batch.push_sequence(&tokens(7, 1));
        let mut hidden = |decoder: &rlrf_model::Decoder| {
            decoder.forward(&batch, &mut activations).unwrap();
            activations.hidden().to_vec()
        };
        assert_eq!(hidden(&reward), hidden(&language));
        assert_eq!(reward.scores(&activations, &[rows.end - 1, 0, 0]).len(), 3);
    }
}
