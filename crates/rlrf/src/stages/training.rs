//! `rlrf sft`, `rlrf dpo` and `rlrf grpo`: from a model folder to a fine-tuned one.

use std::path::Path;

use anyhow::{Context, Result, bail};
use rlrf_method::demonstration::Demonstration;
use rlrf_method::digest::stream;
use rlrf_method::preference_file::read_preferences;
use rlrf_method::{RowStore, Table};
use rlrf_model::Model;
use serde::Serialize;
use serde_json::Value;

use super::candidates::Inputs;
use super::{PartialOutput, Stage, expect_model_folder};
use crate::arguments::{DpoOptions, GrpoOptions, Settings, SftOptions};
use crate::config::TrainerKind;
use crate::console::Console;
use crate::training_set::TrainingSet;

pub(crate) fn sft(options: &SftOptions, json: bool, console: &Console) -> Result<()> {
    let SftOptions { model, out, settings, .. } = options;
    match (&options.data.data, &options.data.candidates) {
        (Some(data), _) => demonstrated(data, options, json, console),
        (None, Some(candidates)) => {
            let learning = Learning { command: "sft", trainer: TrainerKind::Sft, candidates, model, out };
            learning.train(settings, json, console)
        }
        (None, None) => bail!("nothing to train on: give --data FILE or --candidates FILE"),
    }
}

pub(crate) fn grpo(options: &GrpoOptions, json: bool, console: &Console) -> Result<()> {
    let GrpoOptions { model, candidates, out, settings } = options;
    let learning = Learning { command: "grpo", trainer: TrainerKind::Grpo, candidates, model, out };
    learning.train(settings, json, console)
}

/// A model trained on a file of scored candidates.
struct Learning<'a> {
    /// The command, which is also its section of the settings.
    command: &'static str,
    trainer: TrainerKind,
    candidates: &'a Path,
    model: &'a Path,
    out: &'a Path,
}

impl Learning<'_> {
    fn train(&self, settings: &Settings, json: bool, console: &Console) -> Result<()> {
        expect_model_folder(self.out)?;
        let mut stage = Stage::new(self.command, settings, &["seed", self.command])?;
        stage.config.trainer = self.trainer;
        let (inputs, groups) = Inputs::read_candidates(&mut stage, self.candidates)?;
        if groups.iter().flat_map(|group| &group.candidates).all(|candidate| candidate.score.is_none()) {
            bail!("{}: no candidate has a score: run `rlrf feedback` on it first", self.candidates.display());
        }
        let mut model = stage.model(self.model)?;
        for candidate in groups.iter().flat_map(|group| &group.candidates) {
            rlrf_local::refuse_other_tokens(&model, &candidate.generated)
                .with_context(|| self.candidates.display().to_string())?;
        }
        let Some(mut output) = stage.begin(self.out, json, console)? else { return Ok(()) };
        let training = output.training_stage(self.command);
        let mut iteration = inputs.iteration(&mut output.store, console);
        let (set, _) = TrainingSet::of_candidates(&stage.config, &mut iteration, &groups)?;
        if set.is_empty() {
            output.abandon()?;
            bail!(
                "{}: nothing to train on: no candidate that came to its end scores high enough, or those of each instruction \
                 score alike",
                self.candidates.display()
            );
        }
        set.train(&stage.config, &mut model, &training, &mut output.store, console)?;
        finish(output, &model)
    }
}

fn demonstrated(data: &Path, options: &SftOptions, json: bool, console: &Console) -> Result<()> {
    expect_model_folder(&options.out)?;
    let mut stage = Stage::new("sft", &options.settings, &SFT_SETTINGS)?;
    let (name, bytes) = stage.reader.given("data", data)?;
    let demonstrations = Demonstration::read_jsonl(&name, &bytes)?;
    let mut model = stage.model(&options.model)?;
    let Some(mut output) = stage.begin(&options.out, json, console)? else { return Ok(()) };
    let training = output.training_stage("sft");
    let section = stage.config.policy.sft.clone().unwrap_or_default();
    let settings = section.settings(stream(stage.config.seed, &training.name, "", 0));
    rlrf_local::fine_tune(&mut model, &demonstrations, &settings, &training, &mut output.store, console)?;
    finish(output, &model)
}

pub(crate) fn dpo(options: &DpoOptions, json: bool, console: &Console) -> Result<()> {
    expect_model_folder(&options.out)?;
    let mut stage = Stage::new("dpo", &options.settings, &["seed", "dpo"])?;
    let (name, bytes) = stage.reader.given("pairs", &options.pairs)?;
    let set = TrainingSet::Pairs(read_preferences(&name, &bytes)?);
    let mut model = stage.model(&options.model)?;
    let Some(mut output) = stage.begin(&options.out, json, console)? else { return Ok(()) };
    let training = output.training_stage("dpo");
    set.train(&stage.config, &mut model, &training, &mut output.store, console)?;
    finish(output, &model)
}

const SFT_SETTINGS: [&str; 3] = ["seed", "policy.sft.training", "policy.sft.completion_only_loss"];

/// What came of a training.
#[derive(Serialize)]
pub(super) struct Outcome {
    model: String,
    steps: usize,
    first_loss: Option<f64>,
    last_loss: Option<f64>,
    /// Rewards, margins and accuracy of the last step, of preference training.
    preference: Option<Value>,
    /// Divergence and clipping of the last step, of a policy gradient.
    policy: Option<Value>,
}

fn finish(output: PartialOutput<'_>, model: &Model) -> Result<()> {
    let (outcome, line) = trained(&output, model)?;
    output.finish_model(model, &outcome, &line)
}

/// The steps that were made, as figures and as a line.
pub(super) fn trained(output: &PartialOutput<'_>, model: &Model) -> Result<(Outcome, String)> {
    let steps = output.store.rows(Table::Metrics, 0)?;
    let loss = |row: Option<&rlrf_method::Row>| row.and_then(|row| row.body["loss"].as_f64());
    let last =
        |metrics: &str| steps.last().map(|row| row.body[metrics].clone()).filter(|value| !value.is_null());
    let outcome = Outcome {
        model: model.digest(),
        steps: steps.len(),
        first_loss: loss(steps.first()),
        last_loss: loss(steps.last()),
        preference: last("preference"),
        policy: last("policy"),
    };
    let line = format!(
        "{} steps, loss {:.3} -> {:.3}: {}",
        outcome.steps,
        outcome.first_loss.unwrap_or(f64::NAN),
        outcome.last_loss.unwrap_or(f64::NAN),
        output.out.display()
    );
    Ok((outcome, line))
}
