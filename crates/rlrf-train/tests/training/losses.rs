//! The losses beside plain DPO and SFT: values and gradients of their formulas and of TRL (made by `tools/parity/losses.py`), finite
//! differences, and what must not matter.

use rlrf_model::{Decoder, Precision};
use rlrf_train::{
    DpoConfig, Error, GrpoConfig, GrpoObjective, PolicyLoss, PreferenceGroup, PreferenceLoss, ScoredGroup,
    ScoredSample, StepLoss, TrainingConfig, dpo, grpo, reference_logprobs, reference_token_logprobs,
};

use crate::common::{
    assert_close, assert_gradients, bits, cases, config, decoder, difference, dpo_gradients, fixture_groups,
    gradients, mean, number, preference_groups, shift_references, token_ids,
};

const LOSSES: &str = "losses";

/// One configuration of each loss over pairs.
fn preference_configs() -> Vec<DpoConfig> {
    let cases = cases(LOSSES);
    let cases = cases["preference"]["cases"].as_array().unwrap();
    cases.iter().map(|case| serde_json::from_value(case["config"].clone()).unwrap()).collect()
}

fn policy_configs() -> Vec<GrpoConfig> {
    let cases = cases(LOSSES);
    let cases = cases["policy"]["cases"].as_array().unwrap();
    cases.iter().map(|case| serde_json::from_value(case["config"].clone()).unwrap()).collect()
}

/// Groups that KTO can be trained on, too, away from their reference.
fn paired(decoder: &Decoder, count: usize) -> Vec<PreferenceGroup> {
    let mut groups = preference_groups(decoder, count);
    PreferenceGroup::mismatch(&mut groups, 64);
    let trees: Vec<_> = groups.iter().map(PreferenceGroup::tree).collect();
    let ref_logprobs = reference_logprobs(decoder, &trees, 64, Precision::F32).unwrap();
    for (group, ref_logprobs) in groups.iter_mut().zip(ref_logprobs) {
        group.ref_logprobs = ref_logprobs;
    }
    shift_references(&mut groups);
    groups
}

/// Groups in which one candidate was drawn twice, away from their reference.
fn scored(decoder: &Decoder, count: usize) -> Vec<ScoredGroup> {
    let mut groups: Vec<ScoredGroup> = preference_groups(decoder, count)
        .into_iter()
        .map(|group| ScoredGroup {
            prompt: group.prompt,
            samples: (0..=group.candidates.len())
                .map(|place| ScoredSample {
                    candidate: place % group.candidates.len(),
                    score: 1.0 + 0.4 * (place % group.candidates.len()) as f64,
                })
                .collect(),
            candidates: group.candidates,
            ref_logprobs: Vec::new(),
        })
        .collect();
    let trees: Vec<_> = groups.iter().map(ScoredGroup::tree).collect();
    let ref_logprobs = reference_token_logprobs(decoder, &trees, 64, Precision::F32).unwrap();
    for (group, mut ref_logprobs) in groups.iter_mut().zip(ref_logprobs) {
        for (place, value) in ref_logprobs.iter_mut().flatten().enumerate() {
            *value += [0.3, -0.02, 0.05, -0.42][place % 4];
        }
        group.ref_logprobs = ref_logprobs;
    }
    groups
}

fn grpo_gradients(
    decoder: &Decoder,
    groups: &[ScoredGroup],
    config: &GrpoConfig,
    budget: usize,
) -> (StepLoss, Vec<f32>) {
    gradients(decoder, &GrpoObjective::new(decoder.config(), groups, config).unwrap(), budget)
}

#[test]
fn preference_losses_rewards_and_gradients() {
    let cases = cases(LOSSES);
    let preference = &cases["preference"];
    let mut groups = fixture_groups(preference["pairs"].as_array().unwrap());
    for (group, row) in groups.iter_mut().zip(preference["mismatched"].as_array().unwrap()) {
        assert_eq!(group.prompt, token_ids(&row["prompt"]));
        group.mismatched = Some(token_ids(&row["completion"]));
        group.ref_logprobs.push(number(&row["reference_logprob"]));
    }
    let mut mismatched = groups.clone();
    PreferenceGroup::mismatch(&mut mismatched, 64);
    assert_eq!(mismatched, groups, "the fixture mismatches as rlrf does");
    let decoder = decoder();
    for (case, config) in preference["cases"].as_array().unwrap().iter().zip(preference_configs()) {
        let name = case["name"].as_str().unwrap();
        let (loss, gradients) = dpo_gradients(&decoder, &groups, &config, 1000);
        let metrics = loss.preference.unwrap();
        assert_close(name, loss.loss, number(&case["loss"]), 1e-4);
        assert_close("chosen rewards", metrics.rewards_chosen, mean(&case["chosen_rewards"]), 1e-4);
        assert_close("rejected rewards", metrics.rewards_rejected, mean(&case["rejected_rewards"]), 1e-4);
        assert_eq!(metrics.rewards_accuracy, number(&case["accuracy"]), "{name}");
        assert_gradients(LOSSES, name, &decoder, &gradients);
    }
}

#[test]
fn policy_losses_and_gradients() {
    let cases = cases(LOSSES);
    let groups: Vec<ScoredGroup> = cases["policy"]["groups"]
        .as_array()
        .unwrap()
        .iter()
        .map(|group| {
            let mut scored = ScoredGroup {
                prompt: token_ids(&group["prompt"]),
                candidates: vec![],
                ref_logprobs: vec![],
                samples: vec![],
            };
            for sample in group["samples"].as_array().unwrap() {
                let completion = token_ids(&sample["completion"]);
                let place = scored.candidates.iter().position(|other| *other == completion);
                let candidate = place.unwrap_or_else(|| {
                    scored.candidates.push(completion);
                    let logprobs = serde_json::from_value(sample["reference_logprobs"].clone());
                    scored.ref_logprobs.push(logprobs.unwrap());
                    scored.candidates.len() - 1
                });
                scored.samples.push(ScoredSample { candidate, score: number(&sample["score"]) });
            }
            scored
        })
        .collect();
    assert_eq!(groups.iter().map(|group| group.candidates.len()).collect::<Vec<_>>(), [4, 2]);
    let decoder = decoder();
    for (case, config) in cases["policy"]["cases"].as_array().unwrap().iter().zip(policy_configs()) {
        let name = case["name"].as_str().unwrap();
        let (loss, gradients) = grpo_gradients(&decoder, &groups, &config, 1000);
        let metrics = loss.policy.unwrap();
        assert_close(name, loss.loss, number(&case["loss"]), 1e-4);
        assert_close("clip ratio", metrics.clip_ratio, number(&case["clip_ratio"]), 1e-6);
        assert_close("kl", metrics.kl_per_token, number(&case["kl_per_token"]), 1e-3);
        assert_gradients(LOSSES, name, &decoder, &gradients);
    }
}

/// The slope of `loss` along the gradient, and along a direction that has nothing to do with it, is the gradient's.
fn assert_finite_differences(what: &str, gradient: &[f32], loss: impl Fn(&Decoder) -> f64) {
    let norm = gradient.iter().map(|value| value * value).sum::<f32>().sqrt();
    let along_gradient: Vec<f32> = gradient.iter().map(|value| value / norm).collect();
    let scattered: Vec<f32> =
        (0..gradient.len()).map(|place| ((place * 7919 % 101) as f32 - 50.0) / 3000.0).collect();
    for direction in [along_gradient, scattered] {
        let moved_loss = |distance: f32| {
            let mut moved = decoder();
            let parameters = moved.parameters_mut().iter_mut();
            parameters.zip(&direction).for_each(|(parameter, value)| *parameter += distance * value);
            loss(&moved)
        };
        let slope = (moved_loss(2e-3) - moved_loss(-2e-3)) / 4e-3;
        let expected: f64 =
            gradient.iter().zip(&direction).map(|(value, along)| f64::from(*value) * f64::from(*along)).sum();
        assert!((slope - expected).abs() < 1e-2 * f64::from(norm), "{what}: {slope}, expected {expected}");
    }
}

#[test]
fn finite_differences_agree_with_the_gradients() {
    let decoder = decoder();
    let groups = paired(&decoder, 4);
    for config in preference_configs() {
        // No gradient passes through KTO's baseline, but the loss moves with it: held at 0 by references far above.
        let mut groups = groups.clone();
        if config.loss == PreferenceLoss::Kto {
            for last in groups.iter_mut().filter_map(|group| group.ref_logprobs.last_mut()) {
                *last += 50.0;
            }
        }
        let (_, gradient) = dpo_gradients(&decoder, &groups, &config, 100);
        let loss = |moved: &Decoder| dpo_gradients(moved, &groups, &config, 100).0.loss;
        assert_finite_differences(&format!("{config:?}"), &gradient, loss);
    }
    let groups = scored(&decoder, 4);
    for config in policy_configs() {
        let (_, gradient) = grpo_gradients(&decoder, &groups, &config, 100);
        let loss = |moved: &Decoder| grpo_gradients(moved, &groups, &config, 100).0.loss;
        assert_finite_differences(&format!("{config:?}"), &gradient, loss);
    }
}

#[test]
fn gradients_do_not_depend_on_microbatches() {
    let decoder = decoder();
    let (pairs, samples) = (paired(&decoder, 7), scored(&decoder, 7));
    let check = |what: String, compute: &dyn Fn(usize) -> (StepLoss, Vec<f32>)| {
        let (loss, expected) = compute(10_000);
        for budget in [1, 20, 60] {
            let (other, actual) = compute(budget);
            assert!((loss.loss - other.loss).abs() < 1e-5, "{what}");
            assert!(difference(&actual, &expected) < 1e-5, "{what}, budget {budget}");
            assert!(budget > 1 || other.tokens > loss.tokens, "budget 1 must have cut the trees");
        }
    };
    for config in preference_configs() {
        check(format!("{config:?}"), &|budget| dpo_gradients(&decoder, &pairs, &config, budget));
    }
    for config in policy_configs() {
        check(format!("{config:?}"), &|budget| grpo_gradients(&decoder, &samples, &config, budget));
    }
}

#[test]
fn a_tree_is_worth_its_pairs_one_by_one() {
    let decoder = decoder();
    let groups = paired(&decoder, 6);
    // KTO's baseline is a mean over instructions: as many pairs of each, or its weights would change.
    let groups: Vec<PreferenceGroup> =
        groups.into_iter().map(|group| PreferenceGroup { pairs: vec![(0, 1), (1, 0)], ..group }).collect();
    let pair_by_pair: Vec<PreferenceGroup> = groups
        .iter()
        .flat_map(|group| {
            group
                .pairs
                .iter()
                .map(|&pair| PreferenceGroup { pairs: vec![pair], ..group.clone() })
                .collect::<Vec<_>>()
        })
        .collect();
    for config in preference_configs() {
        let (loss, expected) = dpo_gradients(&decoder, &groups, &config, 10_000);
        let (other, actual) = dpo_gradients(&decoder, &pair_by_pair, &config, 1);
        assert!((loss.loss - other.loss).abs() < 1e-5, "{config:?}");
        assert!(difference(&actual, &expected) < 1e-5, "{config:?}");
        assert!(loss.tokens < other.tokens);
    }
}

#[test]
fn a_candidate_drawn_twice_counts_twice() {
    let decoder = decoder();
    let groups = scored(&decoder, 3);
    let repeated: Vec<ScoredGroup> = groups
        .iter()
        .map(|group| {
            let of = |sample: &ScoredSample| sample.candidate;
            ScoredGroup {
                prompt: group.prompt.clone(),
                candidates: group.samples.iter().map(|s| group.candidates[of(s)].clone()).collect(),
                ref_logprobs: group.samples.iter().map(|s| group.ref_logprobs[of(s)].clone()).collect(),
                samples: (0..)
                    .zip(&group.samples)
                    .map(|(candidate, s)| ScoredSample { candidate, ..*s })
                    .collect(),
            }
        })
        .collect();
    for config in policy_configs() {
        let (loss, expected) = grpo_gradients(&decoder, &groups, &config, 1000);
        let (other, actual) = grpo_gradients(&decoder, &repeated, &config, 1000);
        assert!((loss.loss - other.loss).abs() < 1e-6 && loss.tokens < other.tokens);
        assert!(difference(&actual, &expected) < 1e-5);
    }
}

#[test]
fn losses_without_a_reference_need_none_and_the_others_refuse() {
    let decoder = decoder();
    let with = paired(&decoder, 3);
    let mut without = with.clone();
    without.iter_mut().for_each(|group| group.ref_logprobs.clear());
    for config in preference_configs() {
        if config.loss.needs_reference() {
            let error = dpo(&mut decoder.clone(), &without, &TrainingConfig::default(), &config, &mut ());
            assert!(matches!(error.unwrap_err(), Error::Example { index: 0, .. }));
            continue;
        }
        let found = dpo_gradients(&decoder, &without, &config, 1000);
        assert_eq!(found, dpo_gradients(&decoder, &with, &config, 1000));
        assert_eq!(found.0.preference.unwrap().chosen_fall_per_token, None);
    }
}

#[test]
fn every_loss_learns_its_preferences_or_scores() {
    let groups = {
        let mut groups = paired(&decoder(), 4);
        shift_references(&mut groups);
        groups
    };
    let training = TrainingConfig { epochs: 60, ..config() };
    for config in preference_configs() {
        let mut trained = decoder();
        dpo(&mut trained, &groups, &training, &config, &mut ()).unwrap();
        let before = dpo_gradients(&decoder(), &groups, &config, 1000).0;
        let after = dpo_gradients(&trained, &groups, &config, 1000).0;
        let margin = |loss: &StepLoss| loss.preference.as_ref().unwrap().rewards_margin;
        assert!(after.loss < before.loss && margin(&after) > margin(&before), "{config:?}");
    }
    for loss in [PolicyLoss::Grpo, PolicyLoss::Rloo] {
        let (mut trained, groups) = (decoder(), scored(&decoder(), 4));
        let config = GrpoConfig { loss, ..GrpoConfig::default() };
        grpo(&mut trained, &groups, &training, &config, &mut ()).unwrap();
        let trees: Vec<_> = groups.iter().map(ScoredGroup::tree).collect();
        let before = reference_logprobs(&decoder(), &trees, 1000, Precision::F32).unwrap();
        let after = reference_logprobs(&trained, &trees, 1000, Precision::F32).unwrap();
        for (before, after) in before.iter().zip(&after) {
            // Scores rise with the candidate's place.
            let last = before.len() - 1;
            assert!(after[last] - before[last] > after[0] - before[0], "{loss:?}");
        }
    }
}

#[test]
fn the_number_of_threads_changes_no_byte() {
    let (pairs, samples) = (paired(&decoder(), 8), scored(&decoder(), 8));
    let kto = DpoConfig { loss: PreferenceLoss::Kto, ..DpoConfig::default() };
    let train = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let (mut preferring, mut scoring) = (decoder(), decoder());
            dpo(&mut preferring, &pairs, &config(), &kto, &mut ()).unwrap();
            grpo(&mut scoring, &samples, &config(), &GrpoConfig::default(), &mut ()).unwrap();
            (bits(preferring.parameters()), bits(scoring.parameters()))
        })
    };
    assert!(train(1) == train(2));
}

#[test]
fn unusable_scores_are_named() {
    let decoder = decoder();
    let refuse = |change: &dyn Fn(&mut ScoredGroup)| -> String {
        let mut groups = scored(&decoder, 2);
        change(&mut groups[1]);
        let config = GrpoConfig::default();
        GrpoObjective::new(decoder.config(), &groups, &config).err().unwrap().to_string()
    };
    assert!(refuse(&|group| group.samples.truncate(1)).contains("example 1: fewer than two samples"));
    assert!(refuse(&|group| group.samples[0].candidate = 9).contains("no scored one of 3 candidates"));
    assert!(refuse(&|group| group.samples[0].score = f64::NAN).contains("NaN"));
    assert!(refuse(&|group| group.ref_logprobs[0].clear()).contains("not one reference log-probability"));
    assert!(refuse(&|group| group.candidates[0].clear()).contains("completion 0 is empty"));
    let error = grpo(&mut decoder.clone(), &[], &config(), &GrpoConfig::default(), &mut ());
    assert!(matches!(error, Err(Error::NoExamples)));
}
