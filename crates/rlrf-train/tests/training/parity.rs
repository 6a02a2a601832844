//! Losses and gradients of torch and TRL, AdamW of torch, schedules of transformers; made by `tools/parity`.

use std::fs;

use rlrf_model::Precision;
use rlrf_train::{
    DpoConfig, Optimizer, PreferenceGroup, Schedule, ScheduleShape, SftExample, SftObjective, TrainingConfig,
    reference_logprobs,
};
use safetensors::SafeTensors;

use crate::common::{
    assert_close, assert_gradients, cases, decoder, difference, dpo_gradients, fixture, fixture_groups,
    gradients, mean, number, token_ids, values,
};

const OBJECTIVES: &str = "objectives";

#[test]
fn sft_loss_and_gradients() {
    let case = &cases(OBJECTIVES)["sft"];
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
    assert_gradients(OBJECTIVES, "sft", &decoder, &gradients);
}

#[test]
fn completion_logprobs() {
    let cases = cases(OBJECTIVES);
    let pairs = cases["preference"]["pairs"].as_array().unwrap();
    let groups = fixture_groups(pairs);
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
    let cases = cases(OBJECTIVES);
    let pairs = cases["preference"]["pairs"].as_array().unwrap();
    let groups = fixture_groups(pairs);
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
        assert_gradients(OBJECTIVES, name, &decoder, &gradients);
    }
}

#[test]
fn adamw_with_and_without_decay() {
    let settings = &cases(OBJECTIVES)["adamw"];
    let bytes = fs::read(fixture("objectives/expected.safetensors")).unwrap();
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
        optimizer.update(&mut parameters, &mut gradients, 1.0, number(&settings["learning_rate"]));
        for (name, start) in places {
            let expected = &values(&expected, name)[step * 9..][..9];
            let difference = difference(&parameters[start..start + 9], expected);
            assert!(difference < 1e-6, "{name} step {step}: {difference}");
        }
    }
}

#[test]
fn schedules() {
    let case = &cases(OBJECTIVES)["schedules"];
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
