//! A tiny decoder, examples for it, and ways to look at gradients.

use std::fs;
use std::path::{Path, PathBuf};

use rlrf_model::{Computation, Decoder, Layout, ModelConfig, Precision};
use rlrf_train::{
    DpoConfig, DpoObjective, Lanes, Objective, PreferenceGroup, ScheduleShape, SftExample, StepLoss,
    TrainingConfig, reference_logprobs,
};
use safetensors::SafeTensors;
use serde_json::Value;

/// A file of the fixtures; the model is among the `objectives`.
pub(crate) fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

/// The `cases.json` of a folder of fixtures.
pub(crate) fn cases(folder: &str) -> Value {
    serde_json::from_slice(&fs::read(fixture(folder).join("cases.json")).unwrap()).unwrap()
}

/// The `expected.safetensors` of a folder of fixtures has the same gradients.
pub(crate) fn assert_gradients(folder: &str, case: &str, decoder: &Decoder, gradients: &[f32]) {
    let bytes = fs::read(fixture(folder).join("expected.safetensors")).unwrap();
    let expected = SafeTensors::deserialize(&bytes).unwrap();
    for entry in decoder.layout().entries() {
        let expected = values(&expected, &format!("{case}.grad.{}", entry.name));
        let difference = difference(&gradients[entry.range.clone()], &expected);
        assert!(difference < 1e-3, "{case} {}: {difference}", entry.name);
    }
}

pub(crate) fn token_ids(value: &Value) -> Vec<u32> {
    serde_json::from_value(value.clone()).unwrap()
}

pub(crate) fn number(value: &Value) -> f64 {
    value.as_f64().unwrap()
}

pub(crate) fn mean(value: &Value) -> f64 {
    let values = value.as_array().unwrap();
    values.iter().map(number).sum::<f64>() / values.len() as f64
}

pub(crate) fn assert_close(what: &str, actual: f64, expected: f64, tolerance: f64) {
    assert!(
        (actual - expected).abs() <= tolerance * expected.abs().max(1e-2),
        "{what}: {actual}, expected {expected}"
    );
}

/// The pairs of a fixture, as one group per prompt with every distinct candidate once.
pub(crate) fn fixture_groups(pairs: &[Value]) -> Vec<PreferenceGroup> {
    let mut groups: Vec<PreferenceGroup> = Vec::new();
    for pair in pairs {
        let prompt = token_ids(&pair["prompt"]);
        let place = groups.iter().position(|group| group.prompt == prompt).unwrap_or_else(|| {
            groups.push(PreferenceGroup {
                prompt,
                candidates: vec![],
                ref_logprobs: vec![],
                mismatched: None,
                pairs: vec![],
            });
            groups.len() - 1
        });
        let group = &mut groups[place];
        let [chosen, rejected] = ["chosen", "rejected"].map(|side| {
            let candidate = token_ids(&pair[side]);
            group.candidates.iter().position(|other| *other == candidate).unwrap_or_else(|| {
                group.candidates.push(candidate);
                group.ref_logprobs.push(number(&pair[format!("{side}_reference_logprob")]));
                group.candidates.len() - 1
            })
        });
        group.pairs.push((chosen, rejected));
    }
    groups
}

pub(crate) fn values(tensors: &SafeTensors<'_>, name: &str) -> Vec<f32> {
    let (values, rest) = tensors.tensor(name).unwrap().data().as_chunks();
    assert!(rest.is_empty());
    values.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
}

/// The decoder of the fixtures: vocabulary 40, hidden 16, two layers, context 64.
pub(crate) fn decoder() -> Decoder {
    let config = ModelConfig::load(&fixture("objectives")).unwrap();
    let bytes = fs::read(fixture("objectives/model.safetensors")).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let layout = Layout::new(&config);
    let mut parameters = vec![0.0; layout.len()];
    for entry in layout.entries() {
        parameters[entry.range.clone()].copy_from_slice(&values(&tensors, &entry.name));
    }
    Decoder::from_parameters(config, parameters).unwrap()
}

/// Tokens that look random and depend on the arguments alone.
pub(crate) fn tokens(length: usize, salt: usize) -> Vec<u32> {
    (0..length).map(|place| (3 + (salt * 31 + place * place * 7 + place * salt * 3) % 37) as u32).collect()
}

pub(crate) fn sft_examples(count: usize) -> Vec<SftExample> {
    (0..count)
        .map(|salt| SftExample {
            prompt: tokens(3 + salt % 5, salt),
            completion: tokens(1 + salt * 5 % 9, salt + 50),
        })
        .collect()
}

/// Groups of two to four candidates whose pairs share candidates; references are those of `decoder`.
pub(crate) fn preference_groups(decoder: &Decoder, count: usize) -> Vec<PreferenceGroup> {
    let mut groups: Vec<PreferenceGroup> = (0..count)
        .map(|salt| {
            let candidates = 2 + salt % 3;
            PreferenceGroup {
                prompt: tokens(4 + salt % 4, salt),
                candidates: (0..candidates)
                    .map(|place| tokens(1 + (salt + place * 3) % 8, salt * 7 + place + 90))
                    .collect(),
                ref_logprobs: Vec::new(),
                mismatched: None,
                pairs: (1..candidates)
                    .map(|rejected| (0, rejected))
                    .chain((candidates > 2).then_some((1, 2)))
                    .collect(),
            }
        })
        .collect();
    let trees: Vec<_> = groups.iter().map(PreferenceGroup::tree).collect();
    let ref_logprobs = reference_logprobs(decoder, &trees, 64, Precision::F32).unwrap();
    for (group, ref_logprobs) in groups.iter_mut().zip(ref_logprobs) {
        group.ref_logprobs = ref_logprobs;
    }
    groups
}

/// Moves the references, so that the policy is not at its reference.
pub(crate) fn shift_references(groups: &mut [PreferenceGroup]) {
    let all = groups.iter_mut().flat_map(|group| &mut group.ref_logprobs);
    for (place, ref_logprob) in all.enumerate() {
        *ref_logprob += [1.5, -2.0, 0.5][place % 3];
    }
}

pub(crate) fn config() -> TrainingConfig {
    TrainingConfig {
        batch_size: 4,
        tokens_per_microbatch: 40,
        learning_rate: 3e-3,
        schedule: ScheduleShape::Constant,
        warmup_ratio: 0.0,
        weight_decay: 0.01,
        ..TrainingConfig::default()
    }
}

/// Loss and gradients of one step over all examples.
pub(crate) fn gradients(decoder: &Decoder, objective: &dyn Objective, budget: usize) -> (StepLoss, Vec<f32>) {
    let indices: Vec<usize> = (0..objective.len()).collect();
    let mut gradients = vec![0.0; decoder.layout().len()];
    let loss = objective
        .loss_and_gradients(
            decoder,
            &indices,
            &mut Lanes::new(Computation::default(), budget),
            &mut gradients,
        )
        .unwrap();
    (loss, gradients)
}

pub(crate) fn dpo_gradients(
    decoder: &Decoder,
    groups: &[PreferenceGroup],
    config: &DpoConfig,
    budget: usize,
) -> (StepLoss, Vec<f32>) {
    gradients(decoder, &DpoObjective::new(decoder.config(), groups, config).unwrap(), budget)
}

/// Largest difference by the largest expected value.
pub(crate) fn difference(actual: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(actual.len(), expected.len());
    let scale = expected.iter().fold(0.0f32, |most, value| most.max(value.abs()));
    let most = actual
        .iter()
        .zip(expected)
        .fold(0.0f32, |most, (actual, expected)| most.max((actual - expected).abs()));
    assert!(scale > 0.0 && most.is_finite());
    most / scale
}

pub(crate) fn bits(parameters: &[f32]) -> Vec<u32> {
    parameters.iter().map(|value| value.to_bits()).collect()
}
