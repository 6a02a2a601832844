//! `rlrf reward eval`: how well a reward model orders preference pairs.

use anyhow::Result;
use rlrf_eval::reward::{self, BENCHMARK};
use rlrf_local::LocalReward;
use rlrf_method::preference_file::read_preferences;
use serde_json::json;

use super::Call;
use crate::arguments::{EvaluateOptions, RewardEvalOptions, Settings};
use crate::console::Console;
use crate::models;

pub(crate) fn eval(options: &RewardEvalOptions, json: bool, console: &Console) -> Result<()> {
    let evaluate = EvaluateOptions {
        model: None,
        model_name: None,
        out: options.out.clone(),
        limit: options.limit,
        settings: Settings::default(),
    };
    let mut call = Call::new(BENCHMARK, &evaluate, &[], json, console)?;
    let (name, bytes) = call.reader.given("pairs", &options.pairs)?;
    let groups = call.limited(read_preferences(&name, &bytes)?)?;
    let model = models::load_reward(&options.model)?;
    call.reader.remember_given("model", &options.model, &model.digest());
    let mut folder = call.begin(&json!({}))?;
    let set = options.pairs.file_stem().unwrap_or_default().to_string_lossy();
    let outcome =
        reward::evaluate(&mut folder.context(console), &mut LocalReward::new(&model), &set, &groups)?;
    call.finish(outcome, Some(folder))
}
