//! `rlrf sft` and `rlrf dpo`: from a model folder to a fine-tuned one.

use anyhow::Result;
use rlrf_local::{DpoTrainer, DpoTrainingConfig};
use rlrf_method::demonstration::Demonstration;
use rlrf_method::digest::stream;
use rlrf_method::preference_file::read_preferences;
use rlrf_method::seam::Trainer;
use rlrf_method::{RowStore, Table};
use rlrf_model::Model;
use serde::Serialize;
use serde_json::Value;

use super::{PartialOutput, Stage, expect_model_folder};
use crate::arguments::{DpoOptions, SftOptions};
use crate::console::Console;

pub(crate) fn sft(options: &SftOptions, json: bool, console: &Console) -> Result<()> {
    expect_model_folder(&options.out)?;
    let mut stage = Stage::new("sft", &options.settings, &SFT_SETTINGS)?;
    let (name, bytes) = stage.reader.given("data", &options.data)?;
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
    let preferences = read_preferences(&name, &bytes)?;
    let mut model = stage.model(&options.model)?;
    let Some(mut output) = stage.begin(&options.out, json, console)? else { return Ok(()) };
    let training = output.training_stage("dpo");
    let mut settings: DpoTrainingConfig = stage.config.dpo.clone();
    settings.training.seed = stream(stage.config.seed, &training.name, "", 0);
    let mut trainer = DpoTrainer { model: &mut model, config: &settings, stage: &training };
    trainer.train(&preferences, &mut output.store, console)?;
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
}

fn finish(output: PartialOutput<'_>, model: &Model) -> Result<()> {
    let (outcome, line) = trained(&output, model)?;
    output.finish_model(model, &outcome, &line)
}

/// The steps that were made, as figures and as a line.
pub(super) fn trained(output: &PartialOutput<'_>, model: &Model) -> Result<(Outcome, String)> {
    let steps = output.store.rows(Table::Metrics, 0)?;
    let loss = |row: Option<&rlrf_method::Row>| row.and_then(|row| row.body["loss"].as_f64());
    let outcome = Outcome {
        model: model.digest(),
        steps: steps.len(),
        first_loss: loss(steps.first()),
        last_loss: loss(steps.last()),
        preference: steps.last().map(|row| row.body["preference"].clone()).filter(|value| !value.is_null()),
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
