//! Losses and gradients of torch and TRL, AdamW of torch, schedules of transformers; made by `tools/parity`.

use std::fs;

use rlrf_model::{Decoder, Precision};
use rlrf_train::{
    DpoConfig, Optimizer, PreferenceGroup, Schedule, ScheduleShape, SftExample, SftObjective, TrainingConfig,
    reference_logprobs,
};
use safetensors::SafeTensors;
use serde_json::Value;

use crate::common::{decoder, difference, dpo_gradients, fixture, gradients, values};

fn cases() -> Value {
    serde_json::from_slice(&fs::read(fixture("cases.json")).unwrap()).unwrap()
}

fn token_ids(value: &Value) -> Vec<u32> {
    serde_json::from_value(value.clone()).unwrap()
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap()
}

fn mean(value: &Value) -> f64 {
    let values = value.as_array().unwrap();
    values.iter().map(number).sum::<f64>() / values.len() as f64
}

fn assert_close(what: &str, actual: f64, expected: f64, tolerance: f64) {
    assert!(
        (actual - expected).abs() <= tolerance * expected.abs().max(1e-2),
        "{what}: {actual}, expected {expected}"
    );
}

fn assert_gradients(case: &str, decoder: &Decoder, gradients: &[f32]) {
    let bytes = fs::read(fixture("expected.safetensors")).unwrap();
    let expected = SafeTensors::deserialize(&bytes).unwrap();
    for entry in decoder.layout().entries() {
        let expected = values(&expected, &format!("{case}.grad.{}", entry.name));
        let difference = difference(&gradients[entry.range.clone()], &expected);
        assert!(difference < 1e-3, "{case} {}: {difference}", entry.name);
    }
}

/// The pairs of the fixture, as one group per prompt with every distinct candidate once.
fn groups(pairs: &[Value]) -> Vec<PreferenceGroup> {
    let mut groups: Vec<PreferenceGroup> = Vec::new();
    for pair in pairs {
        let prompt = token_ids(&pair["prompt"]);
        let place = groups.iter().position(|group| group.prompt == prompt).unwrap_or_else(|| {
            groups.push(PreferenceGroup { prompt, candidates: vec![], ref_logprobs: vec![], pairs: vec![] });
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

#[test]
fn sft_loss_and_gradients() {
    let case = &cases()["sft"];
    let examples: Vec<SftExample> = case["examples"]
        .as_array()
        .unwrap()
        .iter()
        .map(|example| SftExample {
            prompt: token_ids(&example["prompt"]),
            completion: token_ids(&example["completion"]),
        })
        .collect();
    let decoder = decoder();
    let objective = SftObjective::new(decoder.config(), &examples).unwrap();
    let (loss, gradients) = gradients(&decoder, &objective, 1000);
    assert_close("loss", loss.loss, number(&case["loss"]), 1e-5);
    assert_gradients("sft", &decoder, &gradients);
}

#[test]
fn completion_logprobs() {
    let cases = cases();
    let pairs = cases["preference"]["pairs"].as_array().unwrap();
    let groups = groups(pairs);
    let trees: Vec<_> = groups.iter().map(PreferenceGroup::tree).collect();
    for budget in [1, 20, 1000] {
        let logprobs = reference_logprobs(&decoder(), &trees, budget, Precision::F32).unwrap();
        let numbered = groups
            .iter()
            .zip(&logprobs)
            .flat_map(|(group, logprobs)| group.pairs.iter().map(move |pair| (pair, logprobs)));
        for (&(chosen, rejected), (logprobs, pair)) in
            numbered.zip(pairs).map(|((pair, logprobs), value)| (pair, (logprobs, value)))
        {
            assert_close("chosen", logprobs[chosen], number(&pair["chosen_logprob"]), 1e-5);
            assert_close("rejected", logprobs[rejected], number(&pair["rejected_logprob"]), 1e-5);
        }
    }
}

#[test]
fn dpo_losses_rewards_and_gradients() {
    let cases = cases();
    let pairs = cases["preference"]["pairs"].as_array().unwrap();
    let groups = groups(pairs);
    assert_eq!(groups.iter().map(|group| group.candidates.len()).collect::<Vec<_>>(), [4, 2]);
    let decoder = decoder();
    for case in cases["preference"]["cases"].as_array().unwrap() {
        let name = case["name"].as_str().unwrap();
        let config = DpoConfig {
            beta: number(&case["beta"]),
            sft_weight: number(&case["sft_weight"]),
            ..DpoConfig::default()
        };
        let (loss, gradients) = dpo_gradients(&decoder, &groups, &config, 1000);
        let metrics = loss.preference.unwrap();
        assert_close(name, loss.loss, number(&case["loss"]), 1e-4);
        assert_close("chosen rewards", metrics.rewards_chosen, mean(&case["chosen_rewards"]), 1e-4);
        assert_close("rejected rewards", metrics.rewards_rejected, mean(&case["rejected_rewards"]), 1e-4);
        assert_close("margin", metrics.rewards_margin, mean(&case["margins"]), 1e-4);
        assert_eq!(metrics.rewards_accuracy, number(&case["accuracy"]));
        assert_gradients(name, &decoder, &gradients);
    }
}

#[test]
fn adamw_with_and_without_decay() {
    let settings = &cases()["adamw"];
    let bytes = fs::read(fixture("expected.safetensors")).unwrap();
    let expected = SafeTensors::deserialize(&bytes).unwrap();
    let decoder = decoder();
    let layout = decoder.layout();
    let config = TrainingConfig {
        beta1: number(&settings["beta1"]),
        beta2: number(&settings["beta2"]),
        eps: number(&settings["epsilon"]),
        weight_decay: number(&settings["weight_decay"]["adamw.decay"]),
        max_grad_norm: 0.0,
        ..TrainingConfig::default()
    };
    let mut optimizer = Optimizer::new(layout.entries(), &config);
    let (mut parameters, mut gradients) = (vec![0.0; layout.len()], vec![0.0; layout.len()]);
    let start = |decay: bool| layout.entries().iter().find(|entry| entry.decay == decay).unwrap().range.start;
    let places = [("adamw.decay", start(true)), ("adamw.no_decay", start(false))];
    for (_, start) in places {
        parameters[start..start + 9].copy_from_slice(&values(&expected, "adamw.initial"));
    }
    for (step, gradient) in values(&expected, "adamw.gradients").chunks(9).enumerate() {
        for (_, start) in places {
            gradients[start..start + 9].copy_from_slice(gradient);
        }
        optimizer.update(&mut parameters, &gradients, 1.0, number(&settings["learning_rate"]));
        for (name, start) in places {
            let expected = &values(&expected, name)[step * 9..][..9];
            let difference = difference(&parameters[start..start + 9], expected);
            assert!(difference < 1e-6, "{name} step {step}: {difference}");
        }
    }
}

#[test]
fn schedules() {
    let case = &cases()["schedules"];
    for (name, shape) in [("cosine", ScheduleShape::Cosine), ("constant", ScheduleShape::Constant)] {
        let schedule = Schedule {
            shape,
            peak: 1.0,
            floor: 0.0,
            warmup_steps: case["warmup_steps"].as_u64().unwrap(),
            total_steps: case["steps"].as_u64().unwrap(),
        };
        for (step, factor) in case[name].as_array().unwrap().iter().enumerate() {
            assert!((schedule.learning_rate(step as u64) - number(factor)).abs() < 1e-12, "{name} {step}");
        }
    }
}
