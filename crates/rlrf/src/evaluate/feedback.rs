//! `rlrf feedback eval`: the agreement of a feedback model with records of feedback.

use std::cell::RefCell;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use rlrf_eval::Context;
use rlrf_eval::agreement::{self, BENCHMARK};
use rlrf_method::row::SharedStore;
use rlrf_method::{FeedbackRecord, RowStore};
use serde_json::json;

use super::Call;
use crate::arguments::FeedbackEvalOptions;
use crate::console::Console;
use crate::inputs::{check_records, checker};
use crate::judges::{JudgeModels, Judging};

pub(crate) fn eval(options: &FeedbackEvalOptions, json: bool, console: &Console) -> Result<()> {
    let keys =
        ["checker", "feedback.aspects_file", "feedback.reference", "feedback.critique", "templates.feedback"];
    let mut call = Call::new(BENCHMARK, &options.evaluate, &keys, json, console)?;
    let templates = call.reader.templates(&call.config)?;
    let aspects = call.reader.all_aspects(&call.config)?;
    let (name, bytes) = call.reader.given("records", &options.records)?;
    let records = call.limited(FeedbackRecord::read_jsonl(&name, &bytes, &aspects)?)?;
    let checker = checker(&call.config)?;
    if let Some(checker) = &checker {
        check_records(checker.as_ref(), &records, &options.records)?;
    }
    let Some(source) = &options.evaluate.model else {
        bail!("nobody judges: name the feedback model to measure, as in --model DIR");
    };
    let name = options.evaluate.model_name.as_deref();
    let (mut models, digest) = JudgeModels::single(source, name, Judging::new(&call.config, &templates))?;
    call.reader.remember_given("model", Path::new(source), &digest);
    let mut folder = call.begin(&json!({}))?;
    let set = options.records.file_stem().unwrap_or_default().to_string_lossy();
    let outcome = {
        let store = RefCell::new(&mut folder.store as &mut dyn RowStore);
        let mut store = SharedStore::new(&store);
        let judging = Judging::new(&call.config, &templates);
        let mut judge = models.judge(judging, store, 0)?.context("no judge was opened")?;
        let mut context = Context { store: &mut store, progress: console };
        agreement::evaluate(&mut context, judge.as_mut(), checker.as_deref(), &set, &records, &templates)?
    };
    let counted = |count: &str| outcome.evaluation.counts.get(count).copied().unwrap_or_default();
    let (items, failed) = (counted("items"), counted("failed"));
    call.finish(outcome, Some(folder))?;
    if failed == items {
        bail!("the feedback model gave no level on any of the {items} records: items.jsonl says why");
    }
    Ok(())
}
