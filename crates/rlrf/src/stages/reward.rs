//! `rlrf reward train` and `rlrf reward pairs`: from preference pairs to a reward model, and from problems to pairs.

use anyhow::{Context, Result};
use rlrf_arithmetic::preferences::preferences;
use rlrf_eval::Evaluation;
use rlrf_local::LocalReward;
use rlrf_method::digest::stream;
use rlrf_method::preference_file::{PreferenceFormat, read_preferences, write_preferences};
use rlrf_method::{Instruction, RowStore, Table};
use rlrf_report::evaluation_table;
use serde::Serialize;
use serde_json::json;

use super::{Stage, expect_file, expect_model_folder};
use crate::arguments::{RewardPairsOptions, RewardTrainOptions};
use crate::console::Console;
use crate::models;
use crate::starting_reward::held_out;

const TRAIN_SETTINGS: [&str; 4] = ["seed", "reward.training", "reward.margin", "reward.held_out"];
const PAIRS_SETTINGS: [&str; 2] = ["seed", "demonstrations.per_problem.mistakes"];

/// What came of a training.
#[derive(Serialize)]
struct Outcome {
    model: String,
    steps: usize,
    first_loss: Option<f64>,
    last_loss: Option<f64>,
    /// On the pairs that were not learnt, where there are any.
    held_out: Option<Evaluation>,
}

pub(crate) fn train(options: &RewardTrainOptions, json: bool, console: &Console) -> Result<()> {
    expect_model_folder(&options.out)?;
    let mut stage = Stage::new("reward train", &options.settings, &TRAIN_SETTINGS)?;
    let (name, bytes) = stage.reader.given("pairs", &options.pairs)?;
    let preferences = read_preferences(&name, &bytes)?;
    let (section, seed) = (stage.config.reward.clone(), stage.config.seed);
    let (learnt, out) = held_out(&section.held_out, preferences, seed, &mut stage.reader)?;
    let model = models::load_any(&options.model)?;
    stage.reader.remember_given("model", &options.model, &model.digest());
    let mut model = model.into_reward(stream(seed, "score head", "", 0))?;
    let Some(mut output) = stage.begin(&options.out, json, console)? else { return Ok(()) };
    let training = output.training_stage("reward model");
    let settings = section.settings(stream(seed, &training.name, "", 0));
    rlrf_local::fit_reward(&mut model, &learnt, &settings, &training, &mut output.store, console)?;
    let evaluation = match out.is_empty() {
        true => None,
        false => {
            let mut context = rlrf_eval::Context { store: &mut output.store, progress: console };
            let mut reward = LocalReward::new(&model);
            Some(rlrf_eval::reward::evaluate(&mut context, &mut reward, "held-out pairs", &out)?.evaluation)
        }
    };
    let steps = output.store.rows(Table::Metrics, 0)?;
    let loss = |row: Option<&rlrf_method::Row>| row.and_then(|row| row.body["loss"].as_f64());
    let outcome = Outcome {
        model: model.digest(),
        steps: steps.len(),
        first_loss: loss(steps.first()),
        last_loss: loss(steps.last()),
        held_out: evaluation,
    };
    let measured =
        outcome.held_out.as_ref().map(|held_out| format!("\n{}", evaluation_table(held_out).trim_end()));
    let line = format!(
        "{} steps, loss {:.3} -> {:.3}: {}{}",
        outcome.steps,
        outcome.first_loss.unwrap_or(f64::NAN),
        outcome.last_loss.unwrap_or(f64::NAN),
        options.out.display(),
        measured.unwrap_or_default()
    );
    output.finish_model(&model, &outcome, &line)
}

pub(crate) fn pairs(options: &RewardPairsOptions, json: bool, console: &Console) -> Result<()> {
    expect_file(&options.out)?;
    let mut stage = Stage::new("reward pairs", &options.settings, &PAIRS_SETTINGS)?;
    let (name, bytes) = stage.reader.given("problems", &options.problems)?;
    let problems = Instruction::read_jsonl(&name, &bytes)?;
    let mistakes = stage.config.demonstrations.per_problem.mistakes;
    let seed = stream(stage.config.seed, "reward pairs", "", 0);
    let groups = preferences(&problems, mistakes, seed).context(name)?;
    let Some(output) = stage.begin(&options.out, json, console)? else { return Ok(()) };
    let lines = write_preferences(&groups, PreferenceFormat::Conversational)?;
    let pairs: usize = groups.iter().map(|group| group.pairs.len()).sum();
    let figures = json!({ "problems": problems.len(), "paired": groups.len(), "pairs": pairs });
    let line = format!(
        "{pairs} pairs from {} of {} problems: {}",
        groups.len(),
        problems.len(),
        options.out.display()
    );
    output.finish_file(&lines, &figures, &line)
}
