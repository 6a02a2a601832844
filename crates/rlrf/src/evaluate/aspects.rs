//! `rlrf eval aspects`: the level of each aspect of a model's responses, by checkers and by a feedback model.

use std::cell::RefCell;
use std::path::Path;

use anyhow::{Result, bail};
use rlrf_eval::Context;
use rlrf_eval::aspects::{AspectJudge, BENCHMARK, Definition, evaluate};
use rlrf_method::config::Sampling;
use rlrf_method::row::SharedStore;
use rlrf_method::{Instruction, RowStore};
use serde_json::json;

use super::Call;
use crate::arguments::AspectsOptions;
use crate::aspects::checkers;
use crate::console::Console;
use crate::inputs::{check_aspects, read_checkers};
use crate::judges::{JudgeModels, Judging, dispatched};

const KEYS: [&str; 8] = [
    "seed",
    "feedback.aspects",
    "feedback.aspects_file",
    "feedback.checkers",
    "feedback.reference",
    "feedback.critique",
    "templates.feedback",
    "evaluation.max_new_tokens",
];

pub(super) fn eval(options: &AspectsOptions, json: bool, console: &Console) -> Result<()> {
    let mut call = Call::new(BENCHMARK, &options.evaluate, &KEYS, json, console)?;
    if options.checkers.is_none() && options.judge.is_none() {
        bail!("nothing decides the levels: name --checkers FILE, or --judge DIR or URL, or both");
    }
    if !(0.0..=100.0).contains(&options.temperature) {
        bail!("--temperature {}: must be 0 to 100", options.temperature);
    }
    let (name, bytes) = call.reader.given("instructions", &options.instructions)?;
    let instructions = call.limited(Instruction::read_jsonl(&name, &bytes)?)?;
    let measuring = match &options.checkers {
        Some(file) => {
            let (name, bytes) = call.reader.given("checkers", file)?;
            read_checkers(&name, bytes)?
        }
        None => Default::default(),
    };
    let aspects = call.reader.aspects(&call.config)?;
    let judging_checkers = checkers(&aspects)?;
    for checkers in [&measuring, &judging_checkers] {
        check_aspects(checkers, &instructions, &options.instructions)?;
    }
    let templates = call.reader.templates(&call.config)?;
    let mut models = match &options.judge {
        Some(source) => {
            let judging = Judging::new(&call.config, &templates);
            let (models, digest) = JudgeModels::single(source, options.judge_name.as_deref(), judging)?;
            call.reader.remember_given("judge", Path::new(source), &digest);
            Some(models)
        }
        None => None,
    };
    let mut model = call.model()?;
    let sampling = Sampling {
        temperature: options.temperature,
        ..Sampling::greedy(call.config.evaluation.max_new_tokens)
    };
    let mut folder = call.begin(&json!({ "sampling": sampling }))?;
    let definition = Definition { instructions, checkers: measuring, sampling, seed: call.config.seed };
    let set = options.instructions.file_stem().unwrap_or_default().to_string_lossy();
    let outcome = {
        let store = RefCell::new(&mut folder.store as &mut dyn RowStore);
        let mut store = SharedStore::new(&store);
        let judging = Judging::new(&call.config, &templates);
        let mut judge = match &mut models {
            Some(models) => Some(dispatched(models.judge(judging, store, 0)?, &judging_checkers)),
            None => None,
        };
        let asked = judge.as_mut().map(|judge| AspectJudge { judge: judge.as_mut(), aspects: &aspects });
        let mut context = Context { store: &mut store, progress: console };
        evaluate(&mut context, model.as_mut(), asked, (&set, 0), &definition)?
    };
    call.finish(outcome, Some(folder))
}
