//! A run that was stopped or killed ends in the same bytes as one that was not.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use rlrf_model::{Decoder, LoraConfig, Precision};
use rlrf_train::{
    DpoConfig, Error, Result, StepMetrics, TrainingConfig, TrainingControl, TrainingSummary, dpo,
    remove_checkpoint, sft,
};

use crate::common::{bits, config, decoder, preference_groups, sft_examples};

/// Stops, or dies, after a step.
pub(crate) struct Saboteur<'a> {
    pub(crate) folder: &'a Path,
    pub(crate) stop_after: Option<u64>,
    pub(crate) die_after: Option<u64>,
    pub(crate) step: Cell<u64>,
    pub(crate) losses: Vec<f64>,
    pub(crate) notices: Vec<String>,
}

impl<'a> Saboteur<'a> {
    pub(crate) fn new(folder: &'a Path) -> Self {
        Self {
            folder,
            stop_after: None,
            die_after: None,
            step: Cell::new(0),
            losses: vec![],
            notices: vec![],
        }
    }
}

impl TrainingControl for Saboteur<'_> {
    fn checkpoint_folder(&self) -> Option<&Path> {
        Some(self.folder)
    }
    fn stop_requested(&self) -> bool {
        self.stop_after == Some(self.step.get())
    }
    fn on_step(&mut self, metrics: &StepMetrics) {
        assert!(self.die_after != Some(metrics.step), "killed");
        self.step.set(metrics.step);
        self.losses.push(metrics.loss);
    }
    fn on_notice(&mut self, message: &str) {
        self.notices.push(message.to_owned());
    }
}

fn run_config() -> TrainingConfig {
    TrainingConfig { epochs: 3, batch_size: 4, checkpoint_every: 2, warmup_ratio: 0.1, ..config() }
}

fn run_sft(decoder: &mut Decoder, control: &mut Saboteur<'_>) -> Result<TrainingSummary> {
    sft(decoder, &sft_examples(10), &run_config(), control)
}

/// The summary but for times.
fn timeless(summary: &TrainingSummary) -> (u64, u64, f64, u64) {
    (summary.steps, summary.tokens, summary.mean_loss, summary.warnings)
}

#[test]
fn a_stopped_run_resumes_to_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let (undisturbed, elsewhere) = (&mut decoder(), folder.path().join("undisturbed"));
    let expected = run_sft(undisturbed, &mut Saboteur::new(&elsewhere)).unwrap();

    let checkpoint = folder.path().join("checkpoint");
    let mut first = Saboteur { stop_after: Some(3), ..Saboteur::new(&checkpoint) };
    let error = run_sft(&mut decoder(), &mut first).unwrap_err();
    assert!(matches!(error, Error::Interrupted { step: 3, total_steps: 9 }), "{error}");
    let mut second = Saboteur { stop_after: Some(7), ..Saboteur::new(&checkpoint) };
    run_sft(&mut decoder(), &mut second).unwrap_err();
    let (mut resumed, mut third) = (decoder(), Saboteur::new(&checkpoint));
    let summary = run_sft(&mut resumed, &mut third).unwrap();

    assert_eq!(summary.resumed_from, Some(7));
    assert_eq!(timeless(&summary), timeless(&expected));
    assert_eq!([first.losses.len(), second.losses.len(), third.losses.len()], [3, 4, 2]);
    assert!(bits(resumed.parameters()) == bits(undisturbed.parameters()));
    remove_checkpoint(&checkpoint).unwrap();
    assert!(!checkpoint.exists());
}

#[test]
fn adapters_in_bf16_resume_to_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let lora = LoraConfig { rank: 4, ..LoraConfig::default() };
    let config = TrainingConfig { lora: Some(lora), precision: Precision::Bf16, ..run_config() };
    let run = |config: &TrainingConfig, control: &mut Saboteur<'_>| {
        let mut decoder = decoder();
        let outcome = sft(&mut decoder, &sft_examples(10), config, control);
        let untouched = bits(decoder.parameters());
        (outcome, bits(decoder.trainable()), untouched, decoder)
    };
    let (_, expected, untouched, mut trained) =
        run(&config, &mut Saboteur::new(&folder.path().join("undisturbed")));
    assert!(untouched == bits(decoder().parameters()), "the base is frozen");
    let checkpoint = folder.path().join("checkpoint");
    let mut first = Saboteur { stop_after: Some(3), ..Saboteur::new(&checkpoint) };
    assert!(matches!(run(&config, &mut first).0, Err(Error::Interrupted { .. })));
    // Only the adapters and their moments are kept.
    let bytes = std::fs::metadata(checkpoint.join("training.safetensors")).unwrap().len() as usize;
    assert!(bytes < 3 * 4 * trained.trainable().len() + 2000, "{bytes}");
    let mut second = Saboteur::new(&checkpoint);
    let (summary, resumed, ..) = run(&config, &mut second);
    assert_eq!(summary.unwrap().resumed_from, Some(3));
    assert!(resumed == expected);
    assert!(trained.merge().is_some() && bits(trained.parameters()) != untouched);
}

#[test]
fn a_killed_run_resumes_from_its_last_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let groups = preference_groups(&decoder(), 10);
    let run = |decoder: &mut Decoder, control: &mut Saboteur<'_>| {
        dpo(decoder, &groups, &run_config(), &DpoConfig::default(), control)
    };
    let (mut undisturbed, elsewhere) = (decoder(), folder.path().join("undisturbed"));
    let expected = run(&mut undisturbed, &mut Saboteur::new(&elsewhere)).unwrap();

    let mut killed = Saboteur { die_after: Some(5), ..Saboteur::new(folder.path()) };
    catch_unwind(AssertUnwindSafe(|| run(&mut decoder(), &mut killed))).unwrap_err();
    let (mut resumed, mut control) = (decoder(), Saboteur::new(folder.path()));
    let summary = run(&mut resumed, &mut control).unwrap();
    assert_eq!(summary.resumed_from, Some(4));
    assert_eq!(timeless(&summary), timeless(&expected));
    assert!(control.notices[0].contains("after step 4 of 9"));
    assert!(bits(resumed.parameters()) == bits(undisturbed.parameters()));
}

#[test]
fn a_stop_at_the_last_step_is_no_interruption() {
    let folder = tempfile::tempdir().unwrap();
    let mut control = Saboteur { stop_after: Some(9), ..Saboteur::new(folder.path()) };
    assert_eq!(run_sft(&mut decoder(), &mut control).unwrap().steps, 9);
}

/// The first notice of a run that finds the checkpoint of [`run_sft`], stopped after step 2.
fn notice_of(run: impl Fn(&mut Saboteur<'_>) -> Result<TrainingSummary>) -> String {
    let folder = tempfile::tempdir().unwrap();
    let mut stopped = Saboteur { stop_after: Some(2), ..Saboteur::new(folder.path()) };
    run_sft(&mut decoder(), &mut stopped).unwrap_err();
    let mut control = Saboteur::new(folder.path());
    run(&mut control).unwrap();
    control.notices.remove(0)
}

#[test]
fn a_checkpoint_of_another_run_is_left_aside_with_a_notice() {
    let mut other_model = decoder();
    other_model.parameters_mut()[5] += 0.1;
    let other_seed = TrainingConfig { seed: 1, ..run_config() };
    let notices = [
        notice_of(|control| sft(&mut decoder(), &sft_examples(10), &other_seed, control)),
        notice_of(|control| sft(&mut decoder(), &sft_examples(9), &run_config(), control)),
        notice_of(|control| run_sft(&mut other_model.clone(), control)),
    ];
    for (notice, part) in notices.iter().zip(["configuration", "data or objective", "starting model"]) {
        assert!(notice.contains("starts afresh") && notice.contains(&format!("another {part}")), "{notice}");
    }
}

#[test]
fn a_run_that_needs_less_memory_resumes() {
    let smaller = TrainingConfig { tokens_per_microbatch: 10, ..run_config() };
    let notice = notice_of(|control| sft(&mut decoder(), &sft_examples(10), &smaller, control));
    assert!(notice.contains("after step 2 of 9"), "{notice}");
}

#[test]
fn an_explosion_never_reaches_the_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let config =
        TrainingConfig { learning_rate: 1e38, weight_decay: 1e5, checkpoint_every: 1, ..run_config() };
    let mut control = Saboteur::new(folder.path());
    let error = sft(&mut decoder(), &sft_examples(10), &config, &mut control).unwrap_err();
    assert!(matches!(error, Error::NonFinite { .. }), "{error}");
    let bytes = std::fs::read(folder.path().join("training.safetensors")).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let parameters = crate::common::values(&tensors, "parameters");
    assert!(parameters.iter().all(|value| value.is_finite()));
}
