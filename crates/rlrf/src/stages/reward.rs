//! `rlrf reward train` and `rlrf reward pairs`: from preference pairs to a reward model, and from problems to pairs.

use anyhow::{Context, Result};
use rlrf_arithmetic::preferences::preferences;
use rlrf_local::LocalReward;
use rlrf_method::Instruction;
use rlrf_method::digest::stream;
use rlrf_method::preference_file::{PreferenceFormat, read_preferences, write_preferences};
use rlrf_report::evaluation_table;
use serde_json::json;

use super::training::trained;
use super::{Stage, expect_file, expect_model_folder};
use crate::arguments::{RewardPairsOptions, RewardTrainOptions};
use crate::console::Console;
use crate::models;
use crate::starting_reward::held_out;

const TRAIN_SETTINGS: [&str; 4] = ["seed", "reward.training", "reward.margin", "reward.held_out"];
const PAIRS_SETTINGS: [&str; 2] = ["seed", "demonstrations.per_problem.mistakes"];

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
    let (outcome, mut line) = trained(&output, &model)?;
    line += &match &evaluation {
        Some(evaluation) => format!("\n{}", evaluation_table(evaluation).trim_end()),
        None => "\nno accuracy: reward.held_out leaves none of so few instructions out".to_string(),
    };
    let outcome = json!({ "training": outcome, "held_out": evaluation });
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
