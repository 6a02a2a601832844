//! What must not matter, does not: the microbatch budget, packing, trees, the number of threads.

use rlrf_model::{Decoder, Precision};
use rlrf_train::{
    DpoConfig, Error, PreferenceGroup, ResponseTree, SftExample, SftObjective, dpo, reference_logprobs, sft,
};

use crate::common::{
    bits, config, decoder, difference, dpo_gradients, gradients, preference_groups, sft_examples,
    shift_references, tokens,
};

fn objective() -> DpoConfig {
    DpoConfig { beta: 0.3, sft_weight: 0.7, ..DpoConfig::default() }
}

#[test]
fn sft_gradients_do_not_depend_on_microbatches() {
    let (decoder, examples) = (decoder(), sft_examples(9));
    let objective = SftObjective::new(decoder.config(), &examples).unwrap();
    let (loss, expected) = gradients(&decoder, &objective, 1000);
    for budget in [1, 17, 40] {
        let (other, actual) = gradients(&decoder, &objective, budget);
        assert!((loss.loss - other.loss).abs() < 1e-6);
        assert!(difference(&actual, &expected) < 1e-5, "budget {budget}");
    }
}

#[test]
fn a_batch_of_examples_is_the_token_weighted_mean_of_single_ones() {
    let (decoder, examples) = (decoder(), sft_examples(6));
    let (_, expected) = gradients(&decoder, &SftObjective::new(decoder.config(), &examples).unwrap(), 1000);
    let total: usize = examples.iter().map(|example| example.completion.len()).sum();
    let mut actual = vec![0.0; expected.len()];
    for example in &examples {
        let alone = std::slice::from_ref(example);
        let (_, single) = gradients(&decoder, &SftObjective::new(decoder.config(), alone).unwrap(), 1000);
        let weight = example.completion.len() as f32 / total as f32;
        actual.iter_mut().zip(single).for_each(|(sum, value)| *sum += weight * value);
    }
    assert!(difference(&actual, &expected) < 1e-5);
}

#[test]
fn dpo_gradients_do_not_depend_on_microbatches() {
    let decoder = decoder();
    let mut groups = preference_groups(&decoder, 7);
    shift_references(&mut groups);
    let (loss, expected) = dpo_gradients(&decoder, &groups, &objective(), 10_000);
    for budget in [1, 20, 60] {
        let (other, actual) = dpo_gradients(&decoder, &groups, &objective(), budget);
        assert!((loss.loss - other.loss).abs() < 1e-5);
        assert!(difference(&actual, &expected) < 1e-5, "budget {budget}: {}", difference(&actual, &expected));
        assert!(budget > 1 || other.tokens > loss.tokens, "budget 1 must have cut the trees");
    }
}

#[test]
fn a_tree_is_worth_its_pairs_one_by_one() {
    let decoder = decoder();
    let mut groups = preference_groups(&decoder, 6);
    shift_references(&mut groups);
    let pair_by_pair: Vec<PreferenceGroup> = groups
        .iter()
        .flat_map(|group| {
            group.pairs.iter().map(|&(chosen, rejected)| PreferenceGroup {
                prompt: group.prompt.clone(),
                candidates: [chosen, rejected].map(|place| group.candidates[place].clone()).to_vec(),
                ref_logprobs: [chosen, rejected].map(|place| group.ref_logprobs[place]).to_vec(),
                mismatched: None,
                pairs: vec![(0, 1)],
            })
        })
        .collect();
    let (loss, expected) = dpo_gradients(&decoder, &groups, &objective(), 10_000);
    let (other, actual) = dpo_gradients(&decoder, &pair_by_pair, &objective(), 1);
    assert!((loss.loss - other.loss).abs() < 1e-5);
    assert!(difference(&actual, &expected) < 1e-5);
    assert!(loss.tokens < other.tokens);
    let (metrics, other) = (loss.preference.unwrap(), other.preference.unwrap());
    assert_eq!(metrics.rewards_accuracy, other.rewards_accuracy);
    assert!((metrics.kl_per_token.unwrap() - other.kl_per_token.unwrap()).abs() < 1e-5);
}

#[test]
fn the_policy_starts_at_its_reference() {
    let decoder = decoder();
    let groups = preference_groups(&decoder, 5);
    let (loss, _) = dpo_gradients(&decoder, &groups, &DpoConfig::default(), 30);
    let metrics = loss.preference.unwrap();
    assert!((loss.loss - std::f64::consts::LN_2).abs() < 1e-6);
    assert!(metrics.kl_per_token.unwrap().abs() < 1e-6);
    assert!(metrics.chosen_fall_per_token.unwrap().abs() < 1e-6);
}

#[test]
fn reference_logprobs_do_not_depend_on_the_other_trees() {
    let decoder = decoder();
    let groups = preference_groups(&decoder, 5);
    let trees: Vec<_> = groups.iter().map(PreferenceGroup::tree).collect();
    let together = reference_logprobs(&decoder, &trees, 1000, Precision::F32).unwrap();
    for (tree, expected) in trees.iter().zip(&together) {
        assert_eq!(
            &reference_logprobs(&decoder, std::slice::from_ref(tree), 1000, Precision::F32).unwrap()[0],
            expected
        );
    }
}

#[test]
fn finite_differences_agree_with_the_dpo_gradient() {
    let decoder = decoder();
    let mut groups = preference_groups(&decoder, 4);
    shift_references(&mut groups);
    let (_, gradient) = dpo_gradients(&decoder, &groups, &objective(), 100);
    let norm = gradient.iter().map(|value| value * value).sum::<f32>().sqrt();
    let along_gradient: Vec<f32> = gradient.iter().map(|value| value / norm).collect();
    let scattered: Vec<f32> =
        (0..gradient.len()).map(|place| ((place * 7919 % 101) as f32 - 50.0) / 3000.0).collect();
    for direction in [along_gradient, scattered] {
        let moved_loss = |distance: f32| {
            let mut moved = decoder.clone();
            let parameters = moved.parameters_mut().iter_mut();
            parameters.zip(&direction).for_each(|(parameter, value)| *parameter += distance * value);
            dpo_gradients(&moved, &groups, &objective(), 100).0.loss
        };
        let slope = (moved_loss(1e-2) - moved_loss(-1e-2)) / 2e-2;
        let expected: f64 =
            gradient.iter().zip(&direction).map(|(value, along)| f64::from(*value) * f64::from(*along)).sum();
        assert!((slope - expected).abs() < 1e-2 * f64::from(norm), "{slope}, expected {expected}");
    }
}

#[test]
fn the_number_of_threads_changes_no_byte() {
    let groups = preference_groups(&decoder(), 8);
    let train = |threads: usize| -> (Vec<u32>, Vec<u32>) {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let (mut supervised, mut preferring): (Decoder, Decoder) = (decoder(), decoder());
            sft(&mut supervised, &sft_examples(12), &config(), &mut ()).unwrap();
            dpo(&mut preferring, &groups, &config(), &objective(), &mut ()).unwrap();
            (bits(supervised.parameters()), bits(preferring.parameters()))
        })
    };
    assert!(train(1) == train(2));
}

#[test]
fn unusable_examples_are_named() {
    let decoder = decoder();
    let refuse = |prompt: usize, completion: usize| -> String {
        let mut examples = sft_examples(3);
        examples[1] = SftExample { prompt: tokens(prompt, 1), completion: tokens(completion, 2) };
        SftObjective::new(decoder.config(), &examples).unwrap_err().to_string()
    };
    assert!(refuse(4, 0).contains("example 1: completion 0 is empty"));
    assert!(refuse(0, 4).contains("example 1: the prompt is empty"));
    assert!(refuse(60, 5).contains("65 tokens long, but the model's context is 64"));
    assert!(matches!(sft(&mut decoder.clone(), &[], &config(), &mut ()), Err(Error::NoExamples)));

    let refuse = |change: &dyn Fn(&mut PreferenceGroup)| -> String {
        let mut groups = preference_groups(&decoder, 2);
        change(&mut groups[1]);
        dpo(&mut decoder.clone(), &groups, &config(), &objective(), &mut ()).unwrap_err().to_string()
    };
    assert!(refuse(&|group| group.pairs.clear()).contains("example 1: no preference pair"));
    assert!(refuse(&|group| group.pairs[0] = (0, 9)).contains("pair (0, 9)"));
    assert!(refuse(&|group| group.pairs[0] = (1, 1)).contains("pair (1, 1)"));
    assert!(refuse(&|group| group.ref_logprobs[0] = f64::NAN).contains("NaN"));
    assert!(refuse(&|group| group.ref_logprobs.truncate(2)).contains("2 reference log-probabilities for 3"));
    let out_of_vocabulary = ResponseTree { prompt: &[3, 4], completions: vec![&[5, 999, 2]] };
    assert!(matches!(
        reference_logprobs(&decoder, &[out_of_vocabulary], 100, Precision::F32),
        Err(Error::Model(_))
    ));
}

#[test]
fn a_full_context_is_trained_on() {
    let mut decoder = decoder();
    let example = SftExample { prompt: tokens(60, 1), completion: tokens(4, 2) };
    sft(&mut decoder, &[example], &config(), &mut ()).unwrap();
}
