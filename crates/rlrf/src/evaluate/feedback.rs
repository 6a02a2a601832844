//! `rlrf feedback eval`: the agreement of a feedback model with records of feedback.

use std::path::Path;

use anyhow::{Result, bail};
use rlrf_eval::agreement::{self, BENCHMARK};
use rlrf_local::LocalJudge;
use rlrf_method::FeedbackRecord;
use rlrf_remote::is_url;
use serde_json::json;

use super::Call;
use crate::arguments::FeedbackEvalOptions;
use crate::console::Console;
use crate::inputs::{check_records, checker};
use crate::models;

pub(crate) fn eval(options: &FeedbackEvalOptions, json: bool, console: &Console) -> Result<()> {
    let keys = ["checker", "feedback.aspects_file", "feedback.critique", "templates.feedback"];
    let mut call = Call::new(BENCHMARK, &options.evaluate, &keys, json, console)?;
    let templates = call.reader.templates(&call.config)?;
    let aspects = call.reader.all_aspects(&call.config)?;
    let (name, bytes) = call.reader.given("records", &options.records)?;
    let records = call.limited(FeedbackRecord::read_jsonl(&name, &bytes, &aspects)?)?;
    let checker = checker(&call.config);
    if let Some(checker) = &checker {
        check_records(checker.as_ref(), &records, &options.records)?;
    }
    let folder = match (&options.evaluate.model, &options.evaluate.model_name) {
        (Some(folder), None) if !is_url(folder) => Path::new(folder),
        _ => bail!("name the feedback model to measure, a model folder, as in --model DIR"),
    };
    let model = models::load(folder)?;
    call.reader.remember_given("model", folder, &model.digest());
    let mut judge =
        LocalJudge::new(&model, &templates, &call.config.feedback.critique, call.config.engine())?;
    let mut folder = call.begin(&json!({}))?;
    let set = options.records.file_stem().unwrap_or_default().to_string_lossy();
    let outcome = agreement::evaluate(
        &mut folder.context(console),
        &mut judge,
        checker.as_deref(),
        &set,
        &records,
        &templates,
    )?;
    call.finish(outcome, Some(folder))
}
