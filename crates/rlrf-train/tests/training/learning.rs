//! Training learns, reports what it does, and stops before it ruins a model.

use rlrf_model::{LoraConfig, Precision};
use rlrf_train::{
    DpoConfig, Error, PreferenceGroup, StepMetrics, TrainingConfig, TrainingControl, dpo, reference_logprobs,
    sft,
};

use crate::common::{bits, config, decoder, preference_groups, sft_examples};

#[derive(Default)]
struct Recorder {
    steps: Vec<StepMetrics>,
    notices: Vec<String>,
}

impl TrainingControl for Recorder {
    fn on_step(&mut self, metrics: &StepMetrics) {
        self.steps.push(metrics.clone());
    }
    fn on_notice(&mut self, message: &str) {
        self.notices.push(message.to_owned());
    }
}

#[test]
fn sft_learns_its_examples_by_heart() {
    let (mut decoder, examples, mut recorder) = (decoder(), sft_examples(4), Recorder::default());
    let config = TrainingConfig { epochs: 150, learning_rate: 1e-2, ..config() };
    let summary = sft(&mut decoder, &examples, &config, &mut recorder).unwrap();
    let (first, last) = (&recorder.steps[0], recorder.steps.last().unwrap());
    assert!(first.loss > 3.0 && last.loss < 0.3, "{} -> {}", first.loss, last.loss);
    assert_eq!((summary.steps, last.step, last.total_steps), (150, 150, 150));
    assert_eq!(summary.tokens, recorder.steps.iter().map(|step| step.tokens).sum::<u64>());
    assert_eq!(summary.last_step.as_ref(), Some(last));
    assert!(recorder.notices.is_empty());
}

#[test]
fn bf16_and_adapters_learn_as_well() {
    let full = TrainingConfig { epochs: 150, learning_rate: 1e-2, ..config() };
    let lora = LoraConfig { rank: 8, ..LoraConfig::default() };
    let bf16 = TrainingConfig { precision: Precision::Bf16, ..full.clone() };
    // Embeddings and head stay as they are: what is learnt is less.
    for (config, learnt) in [(bf16.clone(), 0.3), (TrainingConfig { lora: Some(lora), ..bf16 }, 1.0)] {
        let (mut decoder, mut recorder) = (decoder(), Recorder::default());
        sft(&mut decoder, &sft_examples(4), &config, &mut recorder).unwrap();
        let (first, last) = (recorder.steps[0].loss, recorder.steps.last().unwrap().loss);
        assert!(first > 3.0 && last < learnt, "{:?}: {first} -> {last}", config.lora);
    }
}

#[test]
fn dpo_learns_the_preferences_and_the_sft_term_holds_up_the_chosen() {
    let groups = preference_groups(&decoder(), 4);
    let config = TrainingConfig { epochs: 60, learning_rate: 3e-3, ..config() };
    let train = |sft_weight: f64| {
        let (mut decoder, mut recorder) = (decoder(), Recorder::default());
        let dpo_config = DpoConfig { sft_weight, ..DpoConfig::default() };
        dpo(&mut decoder, &groups, &config, &dpo_config, &mut recorder).unwrap();
        let metrics = |place: usize| recorder.steps[place].preference.clone().unwrap();
        (decoder, metrics(0), metrics(59))
    };
    let (decoder, first, last) = train(0.0);
    assert!(first.rewards_margin.abs() < 1e-6 && last.rewards_margin > 1.0, "{last:?}");
    assert_eq!(last.rewards_accuracy, 1.0);
    let (_, _, held_up) = train(1.0);
    assert!(held_up.logps_chosen > first.logps_chosen.max(last.logps_chosen), "{held_up:?}");
    assert!(held_up.sft_loss < first.sft_loss && held_up.chosen_fall_per_token < Some(0.0));

    let trees: Vec<_> = groups.iter().map(PreferenceGroup::tree).collect();
    let logprobs = reference_logprobs(&decoder, &trees, 1000, Precision::F32).unwrap();
    for (group, now) in groups.iter().zip(&logprobs) {
        let gain = |place: usize| now[place] - group.ref_logprobs[place];
        assert!(group.pairs.iter().all(|&(chosen, rejected)| gain(chosen) > gain(rejected)));
    }
}

#[test]
fn a_falling_chosen_logprob_is_warned_of_once() {
    let mut decoder = decoder();
    let mut groups = preference_groups(&decoder, 4);
    groups.iter_mut().flat_map(|group| &mut group.ref_logprobs).for_each(|ref_logprob| *ref_logprob += 20.0);
    let mut recorder = Recorder::default();
    let config = TrainingConfig { epochs: 2, learning_rate: 1e-5, ..config() };
    let summary = dpo(&mut decoder, &groups, &config, &DpoConfig::default(), &mut recorder).unwrap();
    assert_eq!(summary.warnings, 2);
    assert_eq!(recorder.notices.len(), 1);
    assert!(
        recorder.notices[0].starts_with("step 1: the chosen responses have lost"),
        "{}",
        recorder.notices[0]
    );
}

#[test]
fn a_gradient_that_is_no_number_stops_before_the_update() {
    let mut decoder = decoder();
    let place = decoder.parameters().len() / 2;
    decoder.parameters_mut()[place] = f32::NAN;
    let before = bits(decoder.parameters());
    let error = sft(&mut decoder, &sft_examples(4), &config(), &mut ()).unwrap_err();
    assert!(matches!(error, Error::NonFinite { step: 1, .. }), "{error}");
    assert!(error.to_string().contains("lower the learning rate"));
    assert_eq!(bits(decoder.parameters()), before);
}

#[test]
fn a_run_that_explodes_names_the_step_and_keeps_the_parameters_before_it() {
    let mut recorder = Recorder::default();
    let config = TrainingConfig { epochs: 3, learning_rate: 1e30, ..config() };
    let mut exploded = decoder();
    let error = sft(&mut exploded, &sft_examples(4), &config, &mut recorder).unwrap_err();
    let Error::NonFinite { step, .. } = error else { panic!("{error}") };
    assert_eq!(step, 2);
    let mut one_step = decoder();
    sft(&mut one_step, &sft_examples(4), &TrainingConfig { epochs: 1, ..config }, &mut ()).unwrap();
    assert_eq!(bits(exploded.parameters()), bits(one_step.parameters()));
}
