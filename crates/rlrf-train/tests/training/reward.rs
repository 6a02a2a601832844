//! Reward models: losses and gradients of torch and TRL (made by `tools/parity`), trees, finite differences, resumption,
//! learning.

use std::fs;
use std::path::Path;

use rlrf_model::weights::load_decoder;
use rlrf_model::{Decoder, LoraConfig, Precision};
use rlrf_train::{
    Error, RankedPair, ResponseTree, RewardGroup, RewardObjective, StepLoss, TrainingConfig,
    completion_scores, train_reward,
};
use safetensors::SafeTensors;
use serde_json::Value;

use crate::common::{bits, config, difference, gradients, tokens, values};
use crate::interruption::Saboteur;

fn fixture(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/reward").join(name)
}

fn decoder() -> Decoder {
    load_decoder(&fixture("")).unwrap()
}

/// Groups of two to four candidates whose pairs share candidates; pairs have margins.
fn groups(count: usize) -> Vec<RewardGroup> {
    let group = |salt: usize| {
        let candidates = 2 + salt % 3;
        let pairs = (1..candidates).map(|rejected| (0, rejected)).chain((candidates > 2).then_some((1, 2)));
        RewardGroup {
            prompt: tokens(4 + salt % 4, salt),
            candidates: (0..candidates)
                .map(|place| tokens(1 + (salt + place * 3) % 8, salt * 7 + place + 90))
                .collect(),
            pairs: pairs
                .map(|(chosen, rejected)| RankedPair { chosen, rejected, margin: rejected as f64 * 0.4 })
                .collect(),
        }
    };
    (0..count).map(group).collect()
}

fn reward_gradients(decoder: &Decoder, groups: &[RewardGroup], budget: usize) -> (StepLoss, Vec<f32>) {
    gradients(decoder, &RewardObjective::new(decoder.config(), groups).unwrap(), budget)
}

/// The pairs of the fixture, as one group per prompt with every distinct candidate once.
fn fixture_groups(pairs: &[Value], with_margin: bool) -> Vec<RewardGroup> {
    let mut groups: Vec<RewardGroup> = Vec::new();
    for pair in pairs {
        let ids = |name: &str| -> Vec<u32> { serde_json::from_value(pair[name].clone()).unwrap() };
        let prompt = ids("prompt");
        let place = groups.iter().position(|group| group.prompt == prompt).unwrap_or_else(|| {
            groups.push(RewardGroup { prompt, candidates: vec![], pairs: vec![] });
            groups.len() - 1
        });
        let candidates = &mut groups[place].candidates;
        let [chosen, rejected] = ["chosen", "rejected"].map(|side| {
            let candidate = ids(side);
            candidates.iter().position(|other| *other == candidate).unwrap_or_else(|| {
                candidates.push(candidate);
                candidates.len() - 1
            })
        });
        let margin = if with_margin { pair["margin"].as_f64().unwrap() } else { 0.0 };
        groups[place].pairs.push(RankedPair { chosen, rejected, margin });
    }
    groups
}

#[test]
fn losses_scores_and_gradients_are_those_of_trl() {
    let content: Value = serde_json::from_slice(&fs::read(fixture("cases.json")).unwrap()).unwrap();
    let bytes = fs::read(fixture("expected.safetensors")).unwrap();
    let expected = SafeTensors::deserialize(&bytes).unwrap();
    let decoder = decoder();
    for case in content["cases"].as_array().unwrap() {
        let name = case["name"].as_str().unwrap();
        let with_margin = case["with_margin"].as_bool().unwrap();
        let groups = fixture_groups(content["pairs"].as_array().unwrap(), with_margin);
        assert_eq!(groups.iter().map(|group| group.candidates.len()).collect::<Vec<_>>(), [3, 2]);
        let (loss, gradients) = reward_gradients(&decoder, &groups, 1000);
        let metrics = loss.reward.unwrap();
        let number = |key: &str| case[key].as_f64().unwrap();
        let mean = |key: &str| {
            let values = case[key].as_array().unwrap();
            values.iter().filter_map(Value::as_f64).sum::<f64>() / values.len() as f64
        };
        for (what, actual, expected) in [
            ("loss", loss.loss, number("loss")),
            ("accuracy", metrics.accuracy, number("accuracy")),
            ("margin", metrics.margin, number("margin")),
            ("chosen", metrics.chosen, mean("chosen_scores")),
            ("rejected", metrics.rejected, mean("rejected_scores")),
        ] {
            assert!((actual - expected).abs() < 1e-5, "{name} {what}: {actual}, expected {expected}");
        }
        for entry in decoder.layout().entries() {
            let expected = values(&expected, &format!("{name}.grad.{}", entry.name));
            let difference = difference(&gradients[entry.range.clone()], &expected);
            assert!(difference < 1e-3, "{name} {}: {difference}", entry.name);
        }
    }
}

#[test]
fn a_tree_is_worth_its_pairs_one_by_one() {
    let (decoder, groups) = (decoder(), groups(6));
    let pair_by_pair: Vec<RewardGroup> = groups
        .iter()
        .flat_map(|group| {
            group.pairs.iter().map(|pair| RewardGroup {
                prompt: group.prompt.clone(),
                candidates: [pair.chosen, pair.rejected]
                    .map(|place| group.candidates[place].clone())
                    .to_vec(),
                pairs: vec![RankedPair { chosen: 0, rejected: 1, margin: pair.margin }],
            })
        })
        .collect();
    let (loss, expected) = reward_gradients(&decoder, &groups, 10_000);
    for (groups, budget) in [(&pair_by_pair, 1), (&groups, 1), (&groups, 20), (&groups, 60)] {
        let (other, actual) = reward_gradients(&decoder, groups, budget);
        assert!((loss.loss - other.loss).abs() < 1e-6, "budget {budget}");
        assert!(difference(&actual, &expected) < 1e-5, "budget {budget}");
        assert_eq!(loss.reward.as_ref().unwrap().accuracy, other.reward.unwrap().accuracy);
        assert!(budget > 1 || other.tokens > loss.tokens, "budget 1 must have cut the trees");
    }
}

#[test]
fn finite_differences_agree_with_the_gradient() {
    let (decoder, groups) = (decoder(), groups(4));
    let (_, gradient) = reward_gradients(&decoder, &groups, 100);
    let norm = gradient.iter().map(|value| value * value).sum::<f32>().sqrt();
    let along_gradient: Vec<f32> = gradient.iter().map(|value| value / norm).collect();
    let scattered: Vec<f32> =
        (0..gradient.len()).map(|place| ((place * 7919 % 101) as f32 - 50.0) / 3000.0).collect();
    for direction in [along_gradient, scattered] {
        let moved_loss = |distance: f32| {
            let mut moved = decoder.clone();
            let parameters = moved.parameters_mut().iter_mut();
            parameters.zip(&direction).for_each(|(parameter, value)| *parameter += distance * value);
            reward_gradients(&moved, &groups, 100).0.loss
        };
        let slope = (moved_loss(3e-3) - moved_loss(-3e-3)) / 6e-3;
        let expected: f64 =
            gradient.iter().zip(&direction).map(|(value, along)| f64::from(*value) * f64::from(*along)).sum();
        assert!((slope - expected).abs() < 1e-2 * f64::from(norm), "{slope}, expected {expected}");
    }
}

#[test]
fn a_score_depends_on_its_completion_alone() {
    let (decoder, groups) = (decoder(), groups(5));
    let tree = |group: &'static RewardGroup, members: &[usize]| ResponseTree {
        prompt: &group.prompt,
        completions: members.iter().map(|&place| &group.candidates[place][..]).collect(),
    };
    let groups: &'static [RewardGroup] = groups.leak();
    let whole: Vec<ResponseTree<'_>> =
        groups.iter().map(|group| tree(group, &(0..group.candidates.len()).collect::<Vec<_>>())).collect();
    let score = |trees: &[ResponseTree<'_>], budget| {
        completion_scores(&decoder, trees, budget, Precision::F32).unwrap()
    };
    let expected = score(&whole, 10_000);
    assert_eq!(score(&whole, 1), expected);
    assert_eq!(score(&whole, 25), expected);
    for (group, expected) in groups.iter().zip(&expected) {
        for (place, expected) in expected.iter().enumerate() {
            assert_eq!(score(&[tree(group, &[place])], 100), [[*expected]]);
        }
    }
}

#[test]
fn pairs_are_learnt_and_a_margin_asks_for_more() {
    let training = TrainingConfig { epochs: 25, ..config() };
    let learn = |margin: f64| {
        let mut decoder = decoder();
        let mut groups = groups(8);
        groups.iter_mut().flat_map(|group| &mut group.pairs).for_each(|pair| pair.margin = margin);
        let before = reward_gradients(&decoder, &groups, 1000).0.reward.unwrap();
        train_reward(&mut decoder, &groups, &training, &mut ()).unwrap();
        (before, reward_gradients(&decoder, &groups, 1000).0.reward.unwrap())
    };
    let (before, after) = learn(0.0);
    assert!(before.accuracy < 0.9 && after.accuracy == 1.0, "{before:?}, {after:?}");
    assert!(learn(4.0).1.margin > after.margin + 0.5);
}

#[test]
fn a_stopped_training_resumes_to_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let (groups, config) = (groups(10), TrainingConfig { epochs: 3, checkpoint_every: 2, ..config() });
    let run = |control: &mut Saboteur<'_>| {
        let mut decoder = decoder();
        let outcome = train_reward(&mut decoder, &groups, &config, control);
        (outcome, bits(decoder.parameters()))
    };
    let (_, expected) = run(&mut Saboteur::new(&folder.path().join("undisturbed")));
    let checkpoint = folder.path().join("checkpoint");
    let mut first = Saboteur { stop_after: Some(5), ..Saboteur::new(&checkpoint) };
    assert!(matches!(run(&mut first).0, Err(Error::Interrupted { step: 5, .. })));
    let (outcome, resumed) = run(&mut Saboteur::new(&checkpoint));
    assert_eq!(outcome.unwrap().resumed_from, Some(5));
    assert!(resumed == expected);
}

#[test]
fn unusable_groups_are_named() {
    let refuse = |change: &dyn Fn(&mut RewardGroup)| -> String {
        let mut groups = groups(2);
        change(&mut groups[1]);
        train_reward(&mut decoder(), &groups, &config(), &mut ()).unwrap_err().to_string()
    };
    assert!(refuse(&|group| group.pairs.clear()).contains("example 1: no preference pair"));
    assert!(refuse(&|group| group.pairs[0].rejected = 9).contains("pair (0, 9)"));
    assert!(refuse(&|group| group.pairs[0].rejected = 0).contains("pair (0, 0)"));
    assert!(refuse(&|group| group.pairs[0].margin = f64::NAN).contains("NaN"));
    assert!(refuse(&|group| group.candidates[1].clear()).contains("completion 1 is empty"));
    assert!(refuse(&|group| group.candidates[1] = tokens(60, 1)).contains("context is 64"));
    assert!(matches!(train_reward(&mut decoder(), &[], &config(), &mut ()), Err(Error::NoExamples)));
    let adapters = TrainingConfig { lora: Some(LoraConfig::default()), ..config() };
    let message = train_reward(&mut decoder(), &groups(2), &adapters, &mut ()).unwrap_err().to_string();
    assert!(message.contains("lora"), "{message}");
}
